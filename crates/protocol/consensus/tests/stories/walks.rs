//! One failure during another, drawn by lot: settings that nobody would choose, distances, disks and
//! services of all speeds, replicas that lose their disks, links cut one way round. In the end every
//! request is carried out and everybody has the same.

use core::time::Duration;

use mainstay_consensus::{Batching, CatchUpPolicy, Input, LeaderPolicy, Settings, Window};
use mainstay_model::{Prng, Timestamp};

use crate::cluster::{Cluster, MS};
use crate::transfer::caught_up;

struct Walk {
    c: Cluster,
    prng: Prng,
    count: u16,
    /// Who lost its disk.
    learners: Vec<u16>,
    /// How many requests each replica's client has sent.
    numbers: Vec<u64>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let count = 3 + 2 * (seed % 2) as u16;
        let mut prng = Prng::new(seed * 77 + 5);
        let mut c = Cluster::new(count, seed);
        let mut one_of = |choices: &[u64]| choices[prng.below(choices.len() as u64) as usize];
        c.checkpoint_slots = one_of(&[3, 5, 8, 12]);
        c.checkpoint_bytes = one_of(&[1 << 10, 5 << 10, 25 << 10]);
        c.checkpoint_time = one_of(&[0, 50 * MS, 300 * MS]);
        c.log_slots_max = one_of(&[2, 6, 20]);
        c.log_slots_min = one_of(&[0, 0, 5]);
        c.loss = one_of(&[0, 1, 4]);
        c.duplication = one_of(&[0, 4]);
        c.delay_min = one_of(&[1, 1, 60 * MS, 130 * MS]);
        c.sync_max = one_of(&[MS, MS, 40 * MS]);
        let mut bytes = |choices: &[u64]| one_of(choices) as usize;
        c.settings = Settings {
            chunk_bytes: 1 << 10,
            page_bytes_max: bytes(&[1 << 20, 64]),
            window_bytes_max: bytes(&[64 << 20, 100]),
            follower_bytes_max: bytes(&[64 << 20, 1_000]),
            deliver_bytes_max: bytes(&[64 << 20, 100]),
            inflight_bytes_max: bytes(&[64 << 20, 200]),
            window: [Window::Adaptive, Window::Fixed(2)][bytes(&[0, 1])],
            batching: [
                Batching::Adaptive,
                Batching::Fixed { requests: 3, wait: Duration::from_millis(20) },
            ][bytes(&[0, 1])],
            catch_up: [CatchUpPolicy::Query, CatchUpPolicy::MULTICAST][bytes(&[0, 1])],
            leader_policy: [LeaderPolicy::TrustedRank, LeaderPolicy::Rotation][bytes(&[0, 1])],
            transfer_bytes_per_second: [None, Some(30 << 10)][bytes(&[0, 1])],
            ahead_slots_max: one_of(&[512, 4]),
            checkpoint_wait_max: Duration::from_millis(one_of(&[0, 1_000])),
            ..Settings::default()
        };
        for index in 0..count {
            c.start(index, true);
        }
        Self { c, prng, count, learners: Vec::new(), numbers: vec![0; usize::from(count)] }
    }

    fn start(&mut self, index: u16) {
        self.c.start(index, !self.learners.contains(&index));
        let entries = !self.c.roomless.contains(&index);
        self.c.step(index, Input::Room { entries });
        self.c.tell_suspicion(index, false);
    }

    fn submit(&mut self, index: u16) {
        let number = &mut self.numbers[usize::from(index)];
        *number += 1;
        self.c.submit_numbered(index, *number);
    }

    fn next(&mut self) {
        let (count, now) = (self.count, self.c.now);
        let pick = self.prng.below(u64::from(count)) as u16;
        let other = (pick + 1 + self.prng.below(u64::from(count) - 1) as u16) % count;
        let c = &mut self.c;
        match self.prng.below(22) {
            0 | 1 if c.is_up(pick) => c.crash(pick),
            0..=4 if !c.is_up(pick) => {
                let few = self.learners.len() < usize::from(count - 1) / 2;
                if few && !self.learners.contains(&pick) && self.prng.chance(1, 4) {
                    c.wipe(pick);
                    self.learners.push(pick);
                }
                self.start(pick);
            }
            5 => c.step(pick, Input::LeaderMove { to: other }),
            6 => drop(c.stalled_disk.insert(pick)),
            7 => c.stalled_disk.clear(),
            8 => drop(c.slow_service.insert(pick, [20, 200][usize::from(other % 2)] * MS)),
            9 => c.cut_off(pick),
            10 => c.cut.clear(),
            11 => drop(c.cut.insert((pick, other))),
            12 => c.step(pick, Input::Link { peer: c.id(other), up: true }),
            13 => c.wake = Some(Timestamp(now + 300 * MS)),
            14 => c.wake = None,
            15 => {
                c.roomless.insert(pick);
                // It takes a while until it is known.
                if self.prng.chance(1, 2) {
                    c.step(pick, Input::Room { entries: false });
                }
            }
            16 => make_room(c, pick),
            _ => {
                for _ in 0..5 {
                    self.submit(pick);
                    self.c.run_for(10);
                }
            }
        }
    }

    /// All failures end.
    fn heal(&mut self) {
        let c = &mut self.c;
        (c.wake, c.loss) = (None, 0);
        c.cut.clear();
        c.stalled_disk.clear();
        (0..self.count).for_each(|index| make_room(c, index));
        c.slow_service.values_mut().for_each(|nanos| *nanos = MS / 10);
        for index in 0..self.count {
            if !self.c.is_up(index) {
                self.start(index);
            }
            self.c.tell_suspicion(index, false);
        }
    }

    /// Sends again what is not carried out; says how much that was.
    fn send_again(&mut self) -> usize {
        let mut open = 0;
        for index in 0..self.count {
            let done = self.c.carried_out(index);
            let sent = 1..=self.numbers[usize::from(index)];
            for number in sent.filter(|number| !done.contains(number)) {
                self.c.submit_numbered(index, number);
                open += 1;
            }
        }
        open
    }
}

fn make_room(c: &mut Cluster, index: u16) {
    c.roomless.remove(&index);
    c.step(index, Input::Room { entries: true });
}

fn walk(seed: u64) {
    let mut walk = Walk::new(seed);
    walk.c.run_for(2_000);
    for _ in 0..80 {
        walk.next();
        let ms = walk.prng.below(400);
        walk.c.run_for(ms);
    }
    walk.heal();
    walk.c.run_until(60_000, |c| c.leader().is_some());
    for round in 0.. {
        if walk.send_again() == 0 {
            break;
        }
        assert!(round < 100, "not everything is carried out");
        walk.c.run_for(5_000);
    }
    let count = walk.count;
    walk.c.run_until(120_000, |c| (0..count).all(|index| caught_up(c, index)));
}

#[test]
fn whatever_fails_during_whatever_else_heals() {
    for seed in 0..100 {
        if let Err(error) = std::panic::catch_unwind(|| walk(seed)) {
            println!("seed {seed}");
            std::panic::resume_unwind(error);
        }
    }
}
