//! When checkpoints are due: a function of the log, the same at every replica and after every
//! restart.

use mainstay_model::plant::Planted;
use mainstay_model::{Batch, Plant, Prng, Slot, Timestamp};
use mainstay_service::{ApplyError, CheckpointInterval, Command};

use crate::checkpoint::written;
use crate::world::{Replica, request};

const BYTES: u64 = 1 << 20;

fn set(requests: u64, bytes: u64) -> Command {
    Command::SetCheckpointInterval(CheckpointInterval { requests, bytes })
}

/// Applies and, where one is due, takes the checkpoint; returns whether one was.
fn due<P: mainstay_model::Plants>(replica: &mut Replica<P>, requests: Vec<bytes::Bytes>) -> bool {
    replica.batch(0, requests);
    let due = replica.applier.checkpoint_due();
    if due {
        assert_eq!(replica.applier.checkpoint().unwrap().slot().next(), replica.next);
        assert!(replica.applier.checkpoint_due(), "until the next slot is applied");
    }
    due
}

#[test]
fn due_after_so_many_requests_and_after_so_many_bytes_whichever_comes_first() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    replica.one(&set(10, BYTES));
    let small = |number| request(session, number, 0, "x").encode();
    // A slot of 3, then of 4: with the two before it is 9; then 10, then anew.
    assert!(!due(&mut replica, (1..4).map(small).collect()));
    assert!(!due(&mut replica, (4..8).map(small).collect()));
    assert!(due(&mut replica, vec![small(8)]));
    for _ in 0..9 {
        assert!(!due(&mut replica, vec!["no command".into()]), "it stands in the log as well");
    }
    assert!(due(&mut replica, vec![small(9), small(10), small(11)]), "what is over is not kept");
    for _ in 0..9 {
        assert!(!due(&mut replica, vec![small(1)]));
    }
    assert!(due(&mut replica, vec![small(1)]));

    let large = || vec![bytes::Bytes::from(vec![0; BYTES as usize / 2])];
    assert!(!due(&mut replica, large()));
    assert!(due(&mut replica, large()));
    assert!(!due(&mut replica, large()));
    let mut ticks = 1;
    while !due(&mut replica, vec![]) {
        ticks += 1;
    }
    assert!((3000..5000).contains(&ticks), "{ticks} ticks make half of a MiB of log, about");
}

#[test]
fn the_default_is_a_million_requests_or_256_mib() {
    let replica = Replica::new();
    let interval = CheckpointInterval { requests: 1_000_000, bytes: 256 << 20 };
    assert_eq!(replica.applier.checkpoint_interval(), interval);
    assert!(interval.is_within_bounds());
}

#[test]
fn an_interval_takes_effect_in_its_own_slot_and_counting_goes_on() {
    let mut replica = Replica::new();
    for _ in 0..5 {
        assert!(!due(&mut replica, vec!["x".into()]));
    }
    assert!(due(&mut replica, vec![set(6, BYTES).encode()]));
    assert_eq!(replica.applier.checkpoint_interval().requests, 6);
    for _ in 0..3 {
        assert!(!due(&mut replica, vec!["x".into()]));
    }
    assert!(due(&mut replica, vec![set(2, BYTES).encode()]), "shorter than what was counted");
    assert!(!due(&mut replica, vec![set(8, BYTES).encode()]));
}

#[test]
fn an_interval_out_of_bounds_changes_nothing_but_the_count_of_requests() {
    let (min, max) = (CheckpointInterval::MIN, CheckpointInterval::MAX);
    let refused = [
        (0, BYTES),
        (1000, 0),
        (1000, min.bytes - 1),
        (max.requests + 1, BYTES),
        (1000, max.bytes + 1),
        (u64::MAX, u64::MAX),
        (0, 0),
    ];
    let mut replica = Replica::new();
    let mut plain = Replica::new();
    for (requests, bytes) in refused {
        let interval = CheckpointInterval { requests, bytes };
        assert!(!interval.is_within_bounds());
        assert_eq!(replica.one(&set(requests, bytes)), []);
        plain.one(&set(max.requests + 1, 7));
        assert_eq!(replica.applier.digest(), plain.applier.digest(), "{interval:?}");
    }
    assert_eq!(replica.applier.checkpoint_interval(), CheckpointInterval::default());
    for CheckpointInterval { requests, bytes } in [max, min] {
        replica.one(&set(requests, bytes));
        let interval = CheckpointInterval { requests, bytes };
        assert_eq!(replica.applier.checkpoint_interval(), interval);
    }
}

#[test]
fn a_due_checkpoint_cannot_be_skipped() {
    let mut replica = Replica::new();
    assert!(due(&mut replica, vec![set(1, BYTES).encode()]));
    replica.batch(0, vec!["x".into()]);
    assert!(replica.applier.checkpoint_due());
    let digest = replica.applier.digest();
    assert!(digest.is_some() && replica.applier.checkpoint_due(), "to look is not to take");
    let value = Batch { time: Timestamp(0), requests: vec![] }.encode();
    let error = replica.applier.apply(Slot(3), &value, &mut Vec::new()).unwrap_err();
    assert_eq!(error, ApplyError::CheckpointSkipped(Slot(2)));
    assert_eq!(error.to_string(), "the checkpoint that was due at slot 2 was not taken");
    assert_eq!(replica.applier.stopped(), Some(&error));
    assert!(!replica.applier.checkpoint_due(), "there is nothing to take it of");
}

#[test]
fn the_interval_and_the_counters_are_part_of_the_state() {
    let digest = |commands: &[Command]| {
        let mut replica = Replica::new();
        replica.batch(0, commands.iter().map(Command::encode).collect());
        replica.applier.digest()
    };
    // The same slot, the same count of requests, another interval; then another count of bytes.
    assert_ne!(digest(&[set(10, BYTES)]), digest(&[set(11, BYTES)]));
    assert_ne!(digest(&[set(10, BYTES)]), digest(&[set(10, BYTES + 1)]));
    let with_noise = |noise: &'static str| {
        let mut replica = Replica::new();
        replica.batch(0, vec![noise.into()]);
        replica.applier.digest()
    };
    assert_ne!(with_noise("x"), with_noise("xy"), "neither is a command");
}

#[test]
fn a_restored_replica_has_its_checkpoints_due_where_the_others_have_them() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let (mut straight, mut restored) = (Replica::new(), Replica::new());
        let mut dues = 0;
        for _ in 0..200 {
            let requests: Vec<_> = (0..prng.below(4))
                .map(|_| match prng.below(12) {
                    0 => set(prng.below(20), prng.below(20_000)).encode(),
                    len => vec![b'x'; 100 * len as usize].into(),
                })
                .collect();
            let here = due(&mut straight, requests.clone());
            assert_eq!(due(&mut restored, requests), here, "seed {seed}");
            dues += u32::from(here);
            if prng.chance(1, 6) {
                restored = Replica::restore(&written(&mut restored)).unwrap();
                assert!(!restored.applier.checkpoint_due(), "it exists");
            }
            let interval = straight.applier.checkpoint_interval();
            assert_eq!(restored.applier.checkpoint_interval(), interval);
            assert_eq!(restored.applier.digest(), straight.applier.digest(), "seed {seed}");
        }
        assert!(dues > 5, "seed {seed}: {dues}");
    }
}

#[test]
fn counters_that_no_state_can_have_are_refused() {
    // The head: 12 bytes of mark and versions, 12 of the piece; then slot, time, last request,
    // interval, counters.
    let at = 12 + 12 + 3 * 8 + 16;
    let mut replica = Replica::new();
    replica.one(&set(10, BYTES));
    let bytes = written(&mut replica);
    let with = |field: usize, value: u64| {
        let mut bytes = bytes.clone();
        bytes[at + 8 * field..][..8].copy_from_slice(&value.to_le_bytes());
        let (head, rest) = bytes.split_at_mut(24);
        let content = rest.len() - 12;
        head[16..].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&rest[..content]).to_le_bytes());
        let digest = xxhash_rust::xxh3::xxh3_64(&rest[..content]).to_le_bytes();
        rest[content + 4..].copy_from_slice(&digest);
        Replica::restore(&bytes).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with(2, 9), Ok(()));
    let said = Err("the checkpoint is no state of this service: what it counted towards the next \
                    checkpoint cannot be"
        .to_owned());
    for (field, value) in [(0, 0), (1, 1), (2, 10), (3, BYTES), (0, u64::MAX)] {
        assert_eq!(with(field, value), said, "field {field}");
    }
}

#[test]
fn planted_bugs_of_checkpoints_do_what_their_names_say() {
    let planted = |plant| {
        let mut replica = Replica::planted(Planted(Some(plant)));
        let session = replica.open(1);
        replica.one(&request(session, 1, 0, "a"));
        replica.one(&set(10, BYTES));
        let digest = replica.applier.digest();
        let mut bytes = Vec::new();
        let written = replica.applier.checkpoint().unwrap().write(&mut bytes).unwrap();
        assert_eq!(Some(written), digest, "it hides the bug");
        let applier = mainstay_service::Applier::restore(&mut &bytes[..], Planted(Some(plant)));
        let mut restored = Replica { applier: applier.unwrap(), next: replica.next };
        assert_eq!(restored.applier.digest(), digest, "it hides the bug");
        let dues = [&mut replica, &mut restored]
            .map(|replica| (0..20).map(|_| due(replica, vec!["x".into()])).collect::<Vec<_>>());
        let asked =
            [&mut replica, &mut restored].map(|replica| replica.one(&request(session, 2, 0, "b")));
        (dues, asked)
    };
    let (dues, asked) = planted(Plant::CountersLeftOutOfCheckpoint);
    assert!(dues[0] != dues[1] && asked[0] == asked[1]);
    let (dues, asked) = planted(Plant::SessionsLeftOutOfCheckpoint);
    assert!(dues[0] == dues[1] && asked[0] != asked[1]);
}

#[test]
fn with_the_bug_planted_time_is_what_the_local_clock_says() {
    let time_after = |plant: Option<Plant>| {
        let mut replica = Replica::planted(Planted(plant));
        replica.applier.tell_local_clock(Timestamp(77));
        replica.batch(5, vec![]);
        replica.applier.time()
    };
    assert_eq!(time_after(None), Timestamp(5));
    assert_eq!(time_after(Some(Plant::ExpiryByLocalClock)), Timestamp(77));
}
