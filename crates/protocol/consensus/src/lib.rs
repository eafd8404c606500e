//! Multi-Paxos as a pure machine.
//!
//! A [`Replica`] is one copy of a replicated log. It has one door, [`Replica::step`]: an [`Input`]
//! goes in (a message, a client's request, the news that something is durable, the passing of
//! time), and [`Effect`]s come out, to be carried out in order. It never blocks, reads no clock,
//! draws no random number of its own, and does not know whether the world around it is real or
//! simulated.
//!
//! The protocol is that of Lamport ("Paxos Made Simple", 2001) run over many slots, with one leader
//! that keeps its ballot as long as it makes progress; `docs/protocols/consensus.md` tells it
//! message by message. Where things are:
//!
//! | file | holds |
//! |---|---|
//! | `replica` | the door: routes inputs to the parts below, ends the step, checks invariants |
//! | `acceptor` | promising and accepting: what safety rests on |
//! | `candidate` | phase 1: collecting promises, taking over what they report |
//! | `leader` | phase 2: proposing, counting votes, the decided watermark, stepping down |
//! | `election` | who should lead, and when to doubt it |
//! | `catch_up` | learning and giving away decided values, delivering them to the executor |
//! | `reads` | linearizable reads at any replica |
//! | `submissions` | requests on their way to the leader |
//! | `log`, `outbox` | what stays in memory; what waits for durability |
//! | [`message`], [`wire`] | the messages, and how they stand on the wire |
//! | [`door`], [`settings`] | inputs, effects, settings |
//!
//! # Durability is data
//!
//! State changes in the step; only messages wait. A step that writes emits one
//! [`Effect::Persist`]; whatever promises something (a promise, an acknowledgement, the leader's own
//! vote) is held inside the machine until [`Input::Durable`] covers every record written before it.
//! A world that carries out effects naively is therefore correct.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acceptor;
mod candidate;
mod catch_up;
pub mod door;
mod election;
mod leader;
mod log;
pub mod message;
mod outbox;
mod reads;
mod replica;
pub mod settings;
mod submissions;
pub mod wire;

pub use door::{Effect, Input, Observation, ReadPurpose, Rejection, Role};
pub use message::{Body, Message};
pub use replica::{Replica, Start, Status};
pub use settings::Settings;
