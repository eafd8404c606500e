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

impl Display for Letter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.body {
            Body::Prepare(m) => write!(f, "Prepare {} from {}", ballot(m.ballot), m.from.0),
            Body::Promise(m) => {
                let page =
                    if m.page == 0 && m.last { String::new() } else { format!(" p{}", m.page) };
                let (b, decided) = (ballot(m.ballot), m.decided_upto.0);
                write!(
                    f,
                    "Promise {b}{page} decided {decided}, accepted {}",
                    accepted(&m.accepted)
                )?;
                if m.truncated_upto > Slot::NONE {
                    write!(f, ", log after {}", m.truncated_upto.0)?;
                }
                Ok(())
            }
            Body::Accept(m) => {
                let (b, slot, value) = (ballot(m.ballot), m.slot.0, requests(&m.value));
                write!(f, "Accept {b} {slot}={value}, decided {}", m.decided_upto.0)
            }
            Body::Accepted(m) if m.slots.first == m.slots.last => {
                write!(f, "Accepted {} {}", ballot(m.ballot), m.slots.first.0)
            }
            Body::Accepted(m) => {
                write!(f, "Accepted {} {}..{}", ballot(m.ballot), m.slots.first.0, m.slots.last.0)
            }
            Body::Refused(m) => match m.reason {
                RefusedReason::Promised(other) => {
                    write!(f, "Refused {}: promised {}", ballot(m.ballot), ballot(other))
                }
                RefusedReason::Decided(slot) => {
                    write!(f, "Refused {}: decided {}", ballot(m.ballot), slot.0)
                }
                RefusedReason::NoRoom => write!(f, "Refused {}: no room", ballot(m.ballot)),
            },
            Body::Lead(m) if m.round == 0 => {
                write!(f, "Lead {} decided {}", ballot(m.ballot), m.decided_upto.0)
            }
            Body::Lead(m) => {
                let (b, decided) = (ballot(m.ballot), m.decided_upto.0);
                write!(f, "Lead {b} decided {decided}, round {}", m.round)
            }
            Body::Follow(m) => write!(f, "Follow {} round {}", ballot(m.ballot), m.round),
            Body::ProbeReply(m) if m.hears_leader => write!(f, "ProbeReply I hear a leader"),
            Body::ProbeReply(_) => write!(f, "ProbeReply I hear of none"),
            Body::StepDown(m) => match m.successor {
                Some(index) => write!(f, "StepDown {}, r{index} first", ballot(m.ballot)),
                None => write!(f, "StepDown {}", ballot(m.ballot)),
            },
            Body::CatchUp(m) => write!(f, "CatchUp {}..{}", m.from.0, m.upto.0),
            Body::Decided(m) => {
                write!(f, "Decided from {}: {}", m.from.0, entries(&m.entries))?;
                if m.truncated_upto > Slot::NONE {
                    write!(f, ", log after {}", m.truncated_upto.0)?;
                }
                Ok(())
            }
            Body::Forward(m) => {
                let texts =
                    m.requests.iter().map(|request| String::from_utf8_lossy(&request.bytes));
                write!(f, "Forward {}", texts.collect::<Vec<_>>().join("+"))
            }
            Body::ReadSlot(m) => write!(f, "ReadSlot {}", m.slot.0),
            Body::CheckpointIs(m) => {
                let texts: Vec<String> = m.held.iter().map(|held| checkpoint(*held)).collect();
                write!(f, "CheckpointIs {}", texts.join(", "))
            }
            Body::ChunkAsk(m) => {
                write!(f, "ChunkAsk {} piece {}", checkpoint(m.checkpoint), m.chunk)
            }
            Body::Chunk(m) if m.total == 0 => write!(f, "Chunk of {} is gone", m.checkpoint.slot.0),
            Body::Chunk(m) => write!(f, "Chunk {} piece {}", checkpoint(m.checkpoint), m.chunk),
            _ => {
                let name = self.0.name();
                let mut letters = name.chars();
                let first = letters.next().map(|first| first.to_ascii_uppercase());
                write!(f, "{}{}", first.unwrap_or('?'), letters.as_str())
            }
        }
    }
}
