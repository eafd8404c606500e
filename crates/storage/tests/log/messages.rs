//! What users are told: one sentence that says what is wrong, which file, and what to do.

use std::io;

use mainstay_model::{CheckpointId, ClusterId, Epoch, GroupId, ReplicaId, Slot};
use mainstay_storage::{
    AppendError, CheckpointError, Damage, Meaning, OpenError, ReadError, SyncError,
};

fn damage(meaning: Meaning) -> Damage {
    Damage { file: "log-0000000003".to_owned(), offset: 8192, found: "zeros stand there", meaning }
}

fn source() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

/// Every sentence there is, with the words that must occur in it.
fn sentences() -> Vec<(String, [&'static str; 3])> {
    let file = || "log-0000000003".to_owned();
    let me = ReplicaId { index: 1, epoch: Epoch { counter: 2, instance: 0xabcd } };
    let expected = (ClusterId(7), me);
    let found = (ClusterId(8), ReplicaId::default());
    vec![
        (
            OpenError::Locked { folder: "/data".to_owned() }.to_string(),
            ["/data", "in use", "stop that one"],
        ),
        (OpenError::NoIdentity.to_string(), ["no identity", "mainstay init", "--lost"]),
        (OpenError::IdentityExists.to_string(), ["already", "another folder", "remove"]),
        (
            OpenError::Foreign { file: file(), found, expected }.to_string(),
            ["log-0000000003", "1e2 (0000abcd)", "its own data folder"],
        ),
        (
            OpenError::NewerFormat { file: file(), found: 2, known: 1 }.to_string(),
            ["log-0000000003", "format 2", "newer version"],
        ),
        (
            OpenError::Damaged(damage(Meaning::Amnesia)).to_string(),
            ["log-0000000003", "byte 8192", "init --lost"],
        ),
        (
            OpenError::Damaged(damage(Meaning::Uncertain(Slot(41)))).to_string(),
            ["log-0000000003", "slot 41", "init --lost"],
        ),
        (
            OpenError::NoRoom { file: file(), bytes: 64, source: source() }.to_string(),
            ["log-0000000003", "64 bytes", "free space"],
        ),
        (
            OpenError::Io { file: file(), tried: "read", source: source() }.to_string(),
            ["log-0000000003", "could not read", "check"],
        ),
        (
            OpenError::Io { file: String::new(), tried: "list", source: source() }.to_string(),
            ["the data folder", "could not list", "check"],
        ),
        (
            ReadError::Damaged(damage(Meaning::Uncertain(Slot(41)))).to_string(),
            ["log-0000000003", "slot 41", "init --lost"],
        ),
        (
            ReadError::Io { file: file(), source: source() }.to_string(),
            ["log-0000000003", "could not read", "check"],
        ),
    ]
}

/// Those of a log that takes no more.
fn failures() -> Vec<(String, [&'static str; 3])> {
    let file = || "log-0000000003".to_owned();
    vec![
        (
            AppendError::NoRoom { file: file(), bytes: 64, source: source() }.to_string(),
            ["log-0000000003", "64 bytes", "free space"],
        ),
        (
            AppendError::NoRoom { file: file(), bytes: 1 << 26, source: source() }.to_string(),
            ["67108864 bytes", "allocated ahead", "segment_bytes"],
        ),
        (
            AppendError::Failed { file: file(), source: io::Error::other("broken") }.to_string(),
            ["log-0000000003", "must end", "check the disk"],
        ),
        (
            AppendError::Failed { file: file(), source: source() }.to_string(),
            ["log-0000000003", "must end", "thinly provisioned"],
        ),
        (
            SyncError::Failed { file: file(), source: io::Error::other("broken") }.to_string(),
            ["log-0000000003", "must end", "check the disk"],
        ),
        (
            SyncError::Failed { file: file(), source: source() }.to_string(),
            ["log-0000000003", "must end", "thinly provisioned"],
        ),
    ]
}

/// Those about checkpoints.
fn checkpoint_sentences() -> Vec<(String, [&'static str; 3])> {
    use CheckpointError as E;
    let file = || "checkpoint-9.ms".to_owned();
    let id = CheckpointId { slot: Slot(41), digest: 0xabc };
    let (found, expected) = ((ClusterId(8), GroupId(1)), (ClusterId(7), GroupId(1)));
    let told = |error: E, words| (error.to_string(), words);
    vec![
        told(E::Gone(id), ["slot 41", "0000000000000abc", "the newest one"]),
        told(
            E::NoRoom { file: file(), source: source() },
            ["checkpoint-9.ms", "no room", "free space"],
        ),
        told(
            E::Io { file: file(), tried: "read", source: source() },
            ["checkpoint-9.ms", "could not read", "check"],
        ),
        told(
            E::Io { file: String::new(), tried: "list", source: source() },
            ["the data folder", "could not list", "check"],
        ),
        told(
            E::Damaged { file: file(), offset: 4096, found: "zeros" },
            ["checkpoint-9.ms", "byte 4096", "another replica"],
        ),
        told(
            E::Foreign { file: file(), found, expected },
            ["checkpoint-9.ms", "cluster 00000000000000000000000000000008", "move it"],
        ),
        told(
            E::OtherService { file: file(), found: 1, expected: 2 },
            ["checkpoint-9.ms", "version 1", "version 2"],
        ),
        told(
            E::NewerFormat { file: file(), found: 2, known: 1 },
            ["checkpoint-9.ms", "format 2", "newer version"],
        ),
        told(
            E::BadChunk { id, index: 7, found: "it has another length" },
            ["chunk 7", "slot 41", "ask its donor again"],
        ),
        told(E::Incomplete { id, missing: 3 }, ["3 chunks", "slot 41", "fetch them"]),
        told(E::TooLarge { id, total: 9, max: 8 }, ["9 bytes", "8 allowed", "raise the limit"]),
        told(E::Busy("fetched"), ["a checkpoint", "being fetched", "wait"]),
    ]
}

#[test]
fn every_error_is_one_sentence_with_what_to_do() {
    let all = sentences().into_iter().chain(failures()).chain(checkpoint_sentences());
    for (sentence, words) in all {
        for word in words {
            assert!(sentence.contains(word), "'{word}' is missing in: {sentence}");
        }
        assert!(!sentence.contains('\n') && !sentence.contains(". "), "{sentence}");
        assert!(!sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
        assert!(sentence.contains(": "), "{sentence}");
    }
}
