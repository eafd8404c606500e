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
//! | `presence` | how a leader shows that it is there, and what its followers answer |
//! | `latency`, `estimate` | how long ordering and disk take, and the time-outs that follow |
//! | `slowness`, `pause` | a leader that works badly; a replica that was paused |
//! | `hand_over`, `instructions` | a leader that hands over; what an operator may tell a group |
//! | `catch_up`, `asked` | learning and giving away decided values, delivering them to the executor |
//! | `checkpoints` | which checkpoints a quorum holds; what the log need not keep |
//! | `transfer`, `fetch` | fetching a checkpoint when the log no longer reaches back far enough |
//! | `donor` | giving one away, in pieces |
//! | `reads` | linearizable reads at any replica |
//! | `decided_time` | the clock of the group, as its leader runs it |
//! | `timekeeping` | what is known of that clock elsewhere; ticks; what reads show of time |
//! | `submissions`, `queue` | requests on their way to the leader, and where they wait |
//! | `batching`, `window` | when what waits is proposed, and how much may be open at once |
//! | `room` | disks that have no room |
//! | `flow`, `passing` | how much is on its way to each follower, and who falls behind; long messages |
//! | `pace`, `duplicates` | not running ahead of slow services; not ordering twice what is sent twice |
//! | `log`, `outbox` | what stays in memory; what waits for durability |
//! | [`message`], [`wire`] | the messages, and how they stand on the wire |
//! | [`door`], [`settings`] | inputs, effects, settings |
//!
//! # Durability is data
//!
//! State changes in the step; only messages wait. A step that writes emits one
//! [`Effect::Persist`]; whatever promises something (a promise, an acknowledgement, the leader's own
//! vote) is held inside the machine until [`Input::Durable`] covers every record written before it.
//! A world that carries out effects naively is therefore correct. Here is one: three replicas, a
//! queue of messages, disks that are durable at once.
//!
//! ```
//! use mainstay_consensus::{Effect, Input, Replica, Settings, Start};
//! use mainstay_model::{
//!     Configuration, ConfigurationId, Epoch, Instant, NoPlants, Now, Prng, Recovered, ReplicaId,
//!     Timestamp, Token,
//! };
//! use std::collections::VecDeque;
//!
//! let id = |index| ReplicaId { index, epoch: Epoch { counter: 1, instance: 0 } };
//! let replicas = vec![id(0), id(1), id(2)];
//! let configuration = Configuration { id: ConfigurationId(1), replicas, alpha: 64 };
//! let mut now = Now::default();
//! let mut group: Vec<Replica> = (0..3)
//!     .map(|index| {
//!         let (me, configuration, recovered) = (id(index), configuration.clone(), Recovered::default());
//!         let (held, stable, partial, opening) = (Vec::new(), None, None, None);
//!         let (votes, time, prng) = (true, Timestamp(0), Prng::new(7));
//!         let start = Start {
//!             me, configuration, votes, recovered, held, stable, time, partial, prng, opening,
//!         };
//!         Replica::new(start, Settings::default(), now, NoPlants)
//!     })
//!     .collect();
//! let mut inputs = VecDeque::new();
//! inputs.push_back((0, Input::Submit { token: Token(1), request: "hello".into() }));
//! let mut delivered = [0; 3];
//! while delivered.iter().any(|count| *count < 2) {
//!     // Time passes only when there is nothing else to do.
//!     let (at, input) = inputs.pop_front().unwrap_or_else(|| {
//!         let next = (0..3).min_by_key(|at| group[*at].deadline()).unwrap();
//!         now.monotonic = now.monotonic.max(group[next].deadline().unwrap_or(Instant(0)));
//!         (next, Input::Deadline)
//!     });
//!     let mut effects = Vec::new();
//!     group[at].step(now, input, &mut effects);
//!     for effect in effects {
//!         match effect {
//!             Effect::Persist { mark, .. } => inputs.push_back((at, Input::Durable { mark })),
//!             Effect::Send { to, message } => inputs.push_back((
//!                 usize::from(to.index),
//!                 Input::Message { from: id(at as u16), message },
//!             )),
//!             Effect::Deliver { slot, .. } => {
//!                 delivered[at] += 1; // slot 1 is the leader's no-op, slot 2 holds the request
//!                 let (time, wake) = (Timestamp(0), None); // nothing here looks at time
//!                 inputs.push_back((at, Input::Applied { upto: slot, time, wake }));
//!             }
//!             _ => {}
//!         }
//!     }
//! }
//! assert!(group.iter().all(|replica| replica.status().leader == Some(id(2))));
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acceptor;
mod asked;
mod batching;
mod candidate;
mod catch_up;
mod checkpoints;
mod decided_time;
mod delivery;
mod donor;
pub mod door;
mod duplicates;
mod election;
mod estimate;
mod fetch;
mod flow;
mod hand_over;
mod instructions;
mod latency;
mod leader;
mod log;
pub mod message;
mod outbox;
mod pace;
mod passing;
mod pause;
mod presence;
mod queue;
mod reads;
mod relay;
mod replica;
mod room;
pub mod settings;
mod slowness;
mod stuck;
mod submissions;
mod timekeeping;
mod transfer;
mod window;
pub mod wire;

pub use door::{
    Discard, Effect, Input, Installed, Instruction, Observation, ReadPurpose, Refusal, Rejection,
    Role,
};
pub use message::{Body, Message, Request};
pub use replica::{PartialCheckpoint, Replica, Start, Status};
pub use settings::{Batching, CatchUpPolicy, LeaderPolicy, Settings, SlowLeader, Window};
pub use timekeeping::ClockOff;
