//! The client library: requests that are carried out exactly once, whatever crashes.
//!
//! A [`Client`] holds a session with a cluster. It numbers its requests and sends each again, to
//! this replica or another, until its reply is known; the replicas carry out each number once and
//! keep the reply. So a crash of any replica, the leader too, costs time and nothing else. Works
//! with every [`mainstay_service::Service`]: what a request says is between the caller and it.
//!
//! ```no_run
//! # async fn example() -> Result<(), mainstay_client::SettingsError> {
//! use mainstay_client::{Client, Outcome, Settings};
//!
//! let client = Client::new(Settings::new(["127.0.0.1:7400", "127.0.0.1:7401"]))?;
//! match client.request("add 5").await {
//!     Outcome::Done(reply) => println!("done, once: {reply:?}"),
//!     Outcome::NotDone(trouble) => println!("not done, and never will be: {trouble}"),
//!     Outcome::Unknown(trouble) => println!("done once or not at all: {trouble}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Requests are carried out in the order in which [`Client::request`] was called, and any number of
//! them may be in flight at once. A query sees every request that was called for before it, and
//! everything acknowledged anywhere before it was sent (linearizability: Herlihy and Wing, 1990).
//! [`Client::query_stale`] gives that up for an answer at once, also from a replica that is cut off
//! from the others, and says how old it is.
//!
//! A [`ReplyPolicy`] says whose reply counts: that of the replica that is reached, the first of all,
//! the leader's, or one that a quorum gave. The last exposes a replica that answers differently
//! ([`Client::disagreements`]).
//!
//! | file | holds |
//! |---|---|
//! | [`client`](Client) | what callers hold |
//! | [`settings`](Settings) | addresses, time-outs, bounds |
//! | [`policy`](ReplyPolicy) | whose reply counts, and who answers differently |
//! | [`outcome`](Outcome) | what came of a request or query |
//! | `machine` | what to send, to whom, and when to send it again: no sockets, no clocks |
//! | `route` | which replica to talk to next |
//! | `drive` | the task that gives the machine its socket and its clock |

#![forbid(unsafe_code)]

mod client;
mod drive;
mod machine;
mod outcome;
mod policy;
mod route;
mod settings;

pub use client::Client;
pub use mainstay_model::{ReplicaId, RequestNumber, SessionId, Slot, Timestamp};
pub use outcome::{Outcome, StaleReply, Trouble, TroubleKind};
pub use policy::{Disagreement, Disagreements, ReplyPolicy};
pub use settings::{Settings, SettingsError};
