//! The frames of the node itself, group 0: all but hello and reject, which
//! [`mainstay_model::hello`] holds. `docs/protocols/wire.md` lists every kind.

/// A sign of life; no body.
pub(crate) const HEARTBEAT: u16 = 3;
/// An administrator asks for the status; no body.
pub(crate) const STATUS_ASK: u16 = 4;
/// The answer: a [`crate::NodeStatus`] as JSON.
pub(crate) const STATUS: u16 = 5;
/// An administrator tells the group what to do: tag (1), index (2).
pub(crate) const INSTRUCT: u16 = 6;
/// What came of it: a [`crate::operate::Outcome`] as JSON.
pub(crate) const INSTRUCTED: u16 = 7;
/// The kinds of the ordering protocol.
pub(crate) const CONSENSUS: std::ops::RangeInclusive<u16> = 16..=63;
/// What is around the largest request in the largest frame: the heads of batch, entry and message.
pub(crate) const FRAME_SLACK: usize = 4 << 20;
/// The longest status.
pub(crate) const STATUS_LEN_MAX: usize = 1 << 20;
