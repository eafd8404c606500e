//! The whole replicated state written as one and read back, and what happens to what is damaged.

use std::io::{self, Read, Write};

use mainstay_model::plant::Planted;
use mainstay_model::{CheckpointId, NoPlants, Slot, Timestamp, Value};
use mainstay_service::checkpoint::identify;
use mainstay_service::{
    Applier, Checkpoint, Command, Context, Plain, QueryContext, RestoreError, Secret, Service,
    SessionLimits,
};

use crate::world::{Journal, Replica, replied, request};

pub(crate) fn written(replica: &mut Replica) -> Vec<u8> {
    let digest = replica.applier.digest();
    let checkpoint = replica.applier.checkpoint().unwrap();
    assert_eq!(checkpoint.slot(), replica.applier.applied_upto());
    let mut bytes = Vec::new();
    assert_eq!(Some(checkpoint.write(&mut bytes).unwrap()), digest);
    bytes
}

/// A replica with two sessions, kept replies and a refused registration.
fn replica() -> Replica {
    let mut replica = Replica::new();
    replica.one(&Command::Begin { secret: Secret(5) });
    let [first, second, _] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.ask(first, 1, "a");
    replica.one(&request(first, 2, 1, "b"));
    replica.ask(second, 1, "c");
    let register = Command::Register { nonce: mainstay_model::Nonce(4) };
    replica.batch(77, vec![register.encode()]);
    replica
}

#[test]
fn a_restored_replica_goes_on_as_if_nothing_had_been() {
    let mut before = replica();
    let mut after = Replica::restore(&written(&mut before)).unwrap();
    assert_eq!(after.applier.digest(), before.applier.digest());
    assert_eq!(after.applier.time(), Timestamp(77));
    assert_eq!(after.applier.sessions_over(), 1);
    let first = mainstay_model::SessionId { slot: Slot(2), position: 0 };
    for replica in [&mut before, &mut after] {
        assert_eq!(replica.ask(first, 1, "a"), [], "acknowledged");
        assert_eq!(replica.ask(first, 2, "b"), [replied(first, 2, "2", true)]);
        assert_eq!(replica.ask(first, 3, "d"), [replied(first, 3, "4", false)]);
    }
    assert_eq!(after.applier.digest(), before.applier.digest());
    assert_eq!(after.query("last"), before.query("last"), "time and seed, too");
}

/// What a service refuses need not be damaged: that is told without asking it.
#[test]
fn a_checkpoint_is_identified_without_its_service() {
    let mut replica = replica();
    let (bytes, digest) = (written(&mut replica), replica.applier.digest().unwrap());
    let whole = CheckpointId { slot: replica.applier.applied_upto(), digest };
    assert_eq!(identify(&mut &bytes[..]).unwrap(), whole);
    let mut other = bytes.clone();
    other[8] ^= 1;
    assert!(Replica::restore(&other).is_err(), "of another version of the service");
    assert_eq!(identify(&mut &other[..]).unwrap(), whole);
    for at in (0..8).chain(12..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(identify(&mut &damaged[..]).is_err(), "byte {at}");
        assert!(identify(&mut &bytes[..at]).is_err(), "cut off at {at}");
    }
}

#[test]
fn applying_goes_on_while_a_checkpoint_is_written() {
    let mut replica = replica();
    let (checkpoint, as_of) = (replica.applier.checkpoint().unwrap(), written(&mut replica));
    replica.open(1);
    let mut bytes = Vec::new();
    checkpoint.write(&mut bytes).unwrap();
    assert_eq!(bytes, as_of);
}

#[test]
fn a_state_of_many_pieces_comes_back_whole() {
    let mut before = Replica::new();
    let session = before.open(1);
    let long = "x".repeat(50_000);
    for number in 1..=4 {
        before.ask(session, number, &format!("{number}{long}"));
    }
    before.one(&request(session, 5, 4, "size 150000"));
    let bytes = written(&mut before);
    assert!(bytes.len() > 350_000);
    let mut after = Replica::restore(&bytes).unwrap();
    assert_eq!(after.applier.digest(), before.applier.digest());
}

#[test]
fn every_flipped_bit_and_every_missing_byte_is_found() {
    let bytes = written(&mut replica());
    for at in 0..bytes.len() {
        assert!(Replica::restore(&bytes[..at]).is_err(), "the first {at} bytes");
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(Replica::restore(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let said = |bytes: &[u8]| Replica::restore(bytes).unwrap_err().to_string();
    let mut bytes = written(&mut replica());
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(
        said(&bytes),
        "the checkpoint could not be read: a checksum does not match: it is damaged"
    );
    bytes[8] = 9;
    assert_eq!(
        said(&bytes),
        "the checkpoint is no state of this service: it was written by version 9 of the service, \
         this is version 1"
    );
    bytes[4] = 1;
    assert_eq!(
        said(&bytes),
        "the checkpoint is no state of this service: its format is 1, this program reads format 2"
    );
    assert_eq!(
        said(b"something else"),
        "the checkpoint is no state of this service: it does not begin like a checkpoint"
    );
}

/// Panics where it is told to, and leaves part of its state unread.
struct Careless {
    panics_at: &'static str,
}

struct CarelessCheckpoint;

impl Checkpoint for CarelessCheckpoint {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&vec![7; 200_000])
    }
}

impl Service for Careless {
    type Checkpoint = CarelessCheckpoint;

    fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}

    fn query(&self, _: &QueryContext, _: &[u8], _: &mut Vec<u8>) {}

    fn checkpoint(&mut self) -> CarelessCheckpoint {
        assert!(self.panics_at != "checkpoint", "no copy");
        CarelessCheckpoint
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut byte = [0];
        source.read_exact(&mut byte)?;
        assert!(byte == [7], "not mine");
        Ok(Self { panics_at: "nowhere" })
    }

    fn version() -> u32 {
        1
    }
}

fn careless(panics_at: &'static str) -> Applier<Careless, Planted> {
    Applier::new(Careless { panics_at }, SessionLimits::default(), Planted(None))
}

#[test]
fn what_a_service_leaves_unread_is_checked_as_well() {
    let mut bytes = Vec::new();
    careless("nowhere").checkpoint().unwrap().write(&mut bytes).unwrap();
    let restore = |mut bytes: &[u8]| Applier::<Careless, _>::restore(&mut bytes, NoPlants);
    assert!(restore(&bytes).is_ok());
    let last_piece = bytes.len() - 100;
    bytes[last_piece] ^= 1;
    assert!(restore(&bytes).is_err());
}

#[test]
fn a_panic_in_a_checkpoint_stops_the_executor() {
    for digest in [true, false] {
        let mut applier = careless("checkpoint");
        if digest {
            assert_eq!(applier.digest(), None);
        } else {
            assert!(applier.checkpoint().is_none());
        }
        let error = applier.stopped().unwrap().clone();
        let no_op = Value::no_op(Timestamp(0));
        assert_eq!(applier.apply(Slot(1), &no_op, &mut Vec::new()), Err(error));
    }
}

#[test]
fn a_panic_in_restore_is_an_error() {
    let mut bytes = Vec::new();
    let applier = &mut Applier::new(Plain(Journal::default()), SessionLimits::default(), NoPlants);
    applier.checkpoint().unwrap().write(&mut bytes).unwrap();
    let restored = Applier::<Careless, _>::restore(&mut &bytes[..], NoPlants);
    let said = restored.err().unwrap().to_string();
    assert!(said.ends_with("the service panicked: not mine"), "{said}");
}
