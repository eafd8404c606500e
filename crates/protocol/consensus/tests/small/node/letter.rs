//! Messages as a reader of a figure wants to see them.

use std::fmt::{self, Display, Formatter};

use mainstay_consensus::message::RefusedReason;
use mainstay_consensus::{Body, Message};
use mainstay_model::{Ballot, Batch, CheckpointId, Entry, Slot, Value};

/// A message that shows what matters of it in half a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Letter(pub(crate) Message);

/// A ballot as round and owner.
fn ballot(ballot: Ballot) -> String {
    format!("{}.r{}", ballot.round, ballot.leader.index)
}

/// The requests of a batch, or that it has none.
pub(crate) fn requests(value: &Value) -> String {
    let batch = Batch::decode(value).expect("values are batches");
    if batch.requests.is_empty() {
        return "no-op".to_owned();
    }
    let texts = batch.requests.iter().map(|request| String::from_utf8_lossy(request).into_owned());
    texts.collect::<Vec<_>>().join("+")
}

fn entries(entries: &[Entry]) -> String {
    let texts: Vec<String> = entries.iter().map(|entry| requests(&entry.value)).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

fn accepted(accepted: &[(Slot, Entry)]) -> String {
    let text = |(slot, entry): &(Slot, Entry)| {
        format!("{}={}@{}", slot.0, requests(&entry.value), ballot(entry.ballot))
    };
    let texts: Vec<String> = accepted.iter().map(text).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

fn checkpoint(checkpoint: CheckpointId) -> String {
    format!("{}#{:02x}", checkpoint.slot.0, checkpoint.digest & 0xff)
}

/// Where a log begins, if not at its first slot.
fn log_after(truncated_upto: Slot) -> String {
    if truncated_upto > Slot::NONE {
        format!(", log after {}", truncated_upto.0)
    } else {
        String::new()
    }
}

/// A message of ordering, of leader change, or of a client's request.
fn ordering(body: &Body) -> Option<String> {
    Some(match body {
        Body::Prepare(m) => format!("Prepare {} from {}", ballot(m.ballot), m.from.0),
        Body::Promise(m) => {
            let page = if m.page == 0 && m.last { String::new() } else { format!(" p{}", m.page) };
            let (b, decided) = (ballot(m.ballot), m.decided_upto.0);
            let (accepted, log) = (accepted(&m.accepted), log_after(m.truncated_upto));
            format!("Promise {b}{page} decided {decided}, accepted {accepted}{log}")
        }
        Body::Accept(m) => {
            let (b, slot, value) = (ballot(m.ballot), m.slot.0, requests(&m.value));
            format!("Accept {b} {slot}={value}, decided {}", m.decided_upto.0)
        }
        Body::Accepted(m) if m.slots.first == m.slots.last => {
            format!("Accepted {} {}", ballot(m.ballot), m.slots.first.0)
        }
        Body::Accepted(m) => {
            format!("Accepted {} {}..{}", ballot(m.ballot), m.slots.first.0, m.slots.last.0)
        }
        Body::Refused(m) => {
            let why = match m.reason {
                RefusedReason::Promised(other) => format!("promised {}", ballot(other)),
                RefusedReason::Decided(slot) => format!("decided {}", slot.0),
                RefusedReason::NoRoom => "no room".to_owned(),
                RefusedReason::Behind { slot, .. } => format!("behind {}", slot.0),
            };
            format!("Refused {}: {why}", ballot(m.ballot))
        }
        Body::Lead(m) => {
            let (b, decided) = (ballot(m.ballot), m.decided_upto.0);
            let round = if m.round == 0 { String::new() } else { format!(", round {}", m.round) };
            format!("Lead {b} decided {decided}{round}")
        }
        Body::Follow(m) => format!("Follow {} round {}", ballot(m.ballot), m.round),
        Body::ProbeReply(m) if m.hears_leader => "ProbeReply I hear a leader".to_owned(),
        Body::ProbeReply(_) => "ProbeReply I hear of none".to_owned(),
        Body::StepDown(m) => {
            let first = m.successor.map_or_else(String::new, |index| format!(", r{index} first"));
            format!("StepDown {}{first}", ballot(m.ballot))
        }
        Body::Forward(m) => {
            let texts = m.requests.iter().map(|request| String::from_utf8_lossy(&request.bytes));
            format!("Forward {}", texts.collect::<Vec<_>>().join("+"))
        }
        Body::ReadSlot(m) => format!("ReadSlot {}", m.slot.0),
        _ => return None,
    })
}

/// A message of catch-up, or of a checkpoint.
fn catch_up(body: &Body) -> Option<String> {
    Some(match body {
        Body::CatchUp(m) => format!("CatchUp {}..{}", m.from.0, m.upto.0),
        Body::Decided(m) => {
            let (entries, log) = (entries(&m.entries), log_after(m.truncated_upto));
            format!("Decided from {}: {entries}{log}", m.from.0)
        }
        Body::CheckpointIs(m) => {
            let texts: Vec<String> = m.held.iter().map(|held| checkpoint(*held)).collect();
            let held = if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
            format!("CheckpointIs {held}")
        }
        Body::CheckpointAsk(_) => "CheckpointAsk".to_owned(),
        Body::ChunkAsk(m) => format!("ChunkAsk {} piece {}", checkpoint(m.checkpoint), m.chunk),
        Body::Chunk(m) => format!("Chunk {} piece {}", checkpoint(m.checkpoint), m.chunk),
        Body::ChunkRefused(m) => {
            let (which, why) = (checkpoint(m.checkpoint), m.reason);
            format!("ChunkRefused {which} piece {}: {why:?}", m.chunk)
        }
        Body::Report(m) => {
            format!("Report accepted {}, decided {}", m.accepted_upto.0, m.decided_upto.0)
        }
        _ => return None,
    })
}

impl Display for Letter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let body = &self.0.body;
        if let Some(text) = ordering(body).or_else(|| catch_up(body)) {
            return f.write_str(&text);
        }
        let mut letters = self.0.name().chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        write!(f, "{}{}", first.unwrap_or('?'), letters.as_str())
    }
}
