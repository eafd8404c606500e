//! The messages on the wire: their bytes are fixed, what is sent can be read, and nothing that
//! comes in can do more than be refused.

use bytes::Bytes;
use mainstay_consensus::message::{
    Accept, Accepted, CatchUp, CheckpointAsk, CheckpointIs, Chunk, ChunkAsk, ChunkRefusal,
    ChunkRefused, Decided, Follow, Forward, Instruct, Instructed, Lead, Learned, NotLeader,
    Prepare, Probe, ProbeReply, Promise, ReadAsk, ReadSlot, Refused, RefusedReason, Report,
    Request, StepDown,
};
use mainstay_consensus::wire::{KIND_FIRST, KIND_LAST};
use mainstay_consensus::{Body, Instruction, Message, Refusal};
use mainstay_model::{
    Ballot, Batch, CheckpointId, ConfigurationId, Entry, Epoch, ReplicaId, RequestId,
    RequestNumber, Slot, SlotRange, Timestamp, Value,
};
use proptest::prelude::*;

fn ballot(round: u64) -> Ballot {
    let epoch = Epoch { counter: 3, instance: 0x0a0b_0c0d };
    Ballot { round, leader: ReplicaId { index: 2, epoch } }
}

fn value(text: &'static [u8]) -> Value {
    Batch { time: Timestamp(77), requests: vec![Bytes::from_static(text)] }.encode()
}

fn entry(round: u64, text: &'static [u8]) -> Entry {
    Entry { ballot: ballot(round), value: value(text) }
}

fn ordering() -> Vec<Body> {
    let b = ballot(9);
    let range = SlotRange { first: Slot(4), last: Slot(6) };
    let refused = |reason| Body::Refused(Refused { ballot: b, reason });
    vec![
        Body::Prepare(Prepare { ballot: b, from: Slot(4) }),
        Body::Promise(Promise {
            ballot: b,
            page: 1,
            last: true,
            after: Slot(5),
            decided_upto: Slot(3),
            truncated_upto: Slot(1),
            clock: Timestamp(98),
            time: Timestamp(97),
            uncertain: vec![range],
            accepted: vec![(Slot(7), entry(8, b"seven")), (Slot(9), entry(5, b""))],
        }),
        Body::Accept(Accept {
            ballot: b,
            slot: Slot(10),
            value: value(b"ten"),
            decided_upto: Slot(9),
        }),
        Body::Accepted(Accepted { ballot: b, slots: range, applied_upto: Slot(2) }),
        refused(RefusedReason::Promised(ballot(11))),
        refused(RefusedReason::Decided(Slot(12))),
        refused(RefusedReason::NoRoom),
        refused(RefusedReason::Behind { slot: Slot(14), decided_upto: Slot(12) }),
        Body::Lead(Lead {
            ballot: b,
            decided_upto: Slot(1),
            proposed_upto: Slot(2),
            durable_upto: Slot(3),
            applied_upto: Slot(4),
            room: true,
            round: 5,
            time: Timestamp(96),
        }),
        Body::Follow(Follow {
            ballot: b,
            round: 5,
            decided_upto: Slot(1),
            durable_upto: Slot(3),
            applied_upto: Slot(4),
            room: false,
            clock: Timestamp(99),
            disk: std::time::Duration::from_nanos(98),
        }),
        Body::Probe(Probe { number: 6, ballot: b }),
        Body::ProbeReply(ProbeReply {
            number: 6,
            hears_leader: true,
            ballot: b,
            decided_upto: Slot(1),
            disk: std::time::Duration::from_nanos(97),
        }),
        Body::StepDown(StepDown { ballot: b, successor: Some(1), decided_upto: Slot(1) }),
        Body::StepDown(StepDown { ballot: b, successor: None, decided_upto: Slot(1) }),
        Body::Learned(Learned { ballot: b, decided_upto: Slot(1) }),
    ]
}

fn catch_up() -> Vec<Body> {
    let checkpoint = CheckpointId { slot: Slot(30), digest: 0x1122_3344_5566_7788 };
    vec![
        Body::CatchUp(CatchUp { from: Slot(2), upto: Slot(5) }),
        Body::Decided(Decided {
            from: Slot(2),
            entries: vec![entry(1, b"two"), entry(1, b"three")],
            decided_upto: Slot(5),
            truncated_upto: Slot(1),
        }),
        Body::CheckpointAsk(CheckpointAsk { wanted_above: None }),
        Body::CheckpointAsk(CheckpointAsk { wanted_above: Some(Slot(30)) }),
        Body::CheckpointIs(CheckpointIs {
            held: vec![checkpoint],
            stable: vec![checkpoint],
            truncated_upto: Slot(20),
            load: 2,
        }),
        Body::CheckpointIs(CheckpointIs {
            held: vec![],
            stable: vec![],
            truncated_upto: Slot::NONE,
            load: 0,
        }),
        Body::CheckpointIs(CheckpointIs {
            held: vec![checkpoint],
            stable: vec![checkpoint, CheckpointId { slot: Slot(33), ..checkpoint }],
            truncated_upto: Slot(20),
            load: 0,
        }),
        Body::ChunkAsk(ChunkAsk { checkpoint, chunk: 3 }),
        Body::Chunk(Chunk { checkpoint, chunk: 3, total: 9, bytes: Bytes::from_static(b"chunk") }),
        Body::ChunkRefused(ChunkRefused { checkpoint, chunk: 3, reason: ChunkRefusal::Gone }),
        Body::ChunkRefused(ChunkRefused { checkpoint, chunk: 3, reason: ChunkRefusal::Unstable }),
        Body::ChunkRefused(ChunkRefused { checkpoint, chunk: 3, reason: ChunkRefusal::Busy }),
        Body::Report(Report { accepted_upto: Slot(7), decided_upto: Slot(5) }),
    ]
}

fn clients() -> Vec<Body> {
    let b = ballot(9);
    let id = RequestId { client: 0x0102, number: RequestNumber(6) };
    let requests = vec![Request { id: Some(id), client: 77, bytes: "a".into() }, Request::from("")];
    vec![
        Body::Forward(Forward { number: 7, relay: true, applied_upto: Slot(3), requests }),
        Body::NotLeader(NotLeader { ballot: b, leads: false, number: 7 }),
        Body::ReadAsk(ReadAsk { number: 8, relay: false }),
        Body::ReadSlot(ReadSlot { number: 8, slot: Slot(5), time: Timestamp(95) }),
        Body::Instruct(Instruct { number: 9, instruction: Instruction::LeaderMove { to: 2 } }),
        Body::Instruct(Instruct { number: 9, instruction: Instruction::ConfirmClockJump }),
        Body::Instructed(Instructed { number: 9, outcome: Ok(()) }),
        Body::Instructed(Instructed { number: 9, outcome: Err(Refusal::Lagging) }),
    ]
}

/// One message of each kind, and of each form that a kind has.
fn samples() -> Vec<Message> {
    let bodies = ordering().into_iter().chain(catch_up()).chain(clients());
    let message = |body| Message { configuration: ConfigurationId(1), body };
    let mut samples: Vec<Message> = bodies.map(message).collect();
    samples.sort_by_key(Message::kind);
    samples
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// Reads `bytes` as a message of `kind`; what is accepted must encode to the same bytes.
fn decode_any(kind: u16, bytes: &[u8]) {
    if let Ok(message) = Message::decode(kind, Bytes::copy_from_slice(bytes)) {
        assert_eq!(encoded(&message), bytes);
    }
}

#[test]
fn the_bytes_are_those_of_format_1() {
    let mut text = String::new();
    for message in samples() {
        let hex: String = encoded(&message).iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{} {} {hex}\n", message.kind(), message.name()));
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/messages-1.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).expect("the golden file can be written");
    }
    let known = std::fs::read_to_string(golden).expect("the golden file is there");
    assert_eq!(text, known, "the wire format changed: that needs a new version");
}

#[test]
fn every_kind_has_a_sample_and_reads_back() {
    let mut kinds = std::collections::BTreeSet::new();
    for message in samples() {
        kinds.insert(message.kind());
        let again = Message::decode(message.kind(), Bytes::from(encoded(&message)));
        assert_eq!(again, Ok(message));
    }
    assert_eq!(kinds, (KIND_FIRST..=KIND_LAST).collect());
}

#[test]
fn a_message_cut_short_or_too_long_is_refused() {
    for message in samples() {
        let bytes = encoded(&message);
        for len in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..len]);
            assert!(Message::decode(message.kind(), cut).is_err(), "{} at {len}", message.name());
        }
        let mut long = bytes;
        long.push(0);
        assert!(Message::decode(message.kind(), Bytes::from(long)).is_err());
    }
}

#[test]
fn an_unknown_kind_is_refused() {
    for kind in [0, KIND_FIRST - 1, KIND_LAST + 1, u16::MAX] {
        assert!(Message::decode(kind, Bytes::from_static(&[0; 64])).is_err());
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_reserves_nothing() {
    let mut bytes = vec![0; 8 + 8 + 8];
    bytes.extend(u32::MAX.to_le_bytes());
    assert!(Message::decode(KIND_FIRST + 12, Bytes::from(bytes)).is_err());
}

proptest! {
    #[test]
    fn garbage_is_refused_or_means_what_it_says(
        kind in KIND_FIRST..=KIND_LAST,
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        decode_any(kind, &bytes);
    }

    #[test]
    fn a_changed_byte_is_refused_or_means_what_it_says(
        which in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let samples = samples();
        let message = which.get(&samples);
        let mut bytes = encoded(message);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode_any(message.kind(), &bytes);
    }
}
