//! What must hold of every run, whatever produced it: the simulator, real processes under
//! `kill -9`, or a test that writes a history by hand. Everything is pure: observations and
//! histories go in, violations come out.
//!
//! | file | property |
//! |---|---|
//! | [`agreement`] | no two replicas decide different values in a slot |
//! | [`prefix`] | every replica applies the one log, from its start, without holes |
//! | [`exactly_once`] | a request of a session is carried out at one place of the log |
//! | [`session_order`] | a session's requests are carried out in the order of their numbers |
//! | [`no_lost_ack`] | what was acknowledged was carried out, and stays so at every replica |
//! | [`digests`] | equal logs lead to equal states, and so do checkpoints of them |
//! | [`decided_time`] | time is the same everywhere and never goes back |
//! | [`time_jumps`] | a takeover moves time by a bound at most, unless an operator confirmed more |
//! | [`shown_time`] | no answer shows an earlier time than one that was given before it was asked for |
//! | [`expiry`] | keys are there until their time by decided time, and not after it |
//! | [`session_ends`] | sessions end in the same slot everywhere |
//! | [`due_checkpoints`] | checkpoints are due in the same slots everywhere, and none is skipped |
//! | [`stability`] | only stable checkpoints are taken over and let the log go |
//! | [`linearizability`] | clients see one copy that does one thing at a time |
//!
//! All but the last watch what replicas do, one [`Observation`] at a time, and are bundled in
//! [`Properties`]. The last one judges a [`History`] of what clients saw, against a [`Model`] of the
//! service; [`kv_model`] is the one for key-value stores. And [`explore`] looks at every state that a
//! small group of machines can reach.
//!
//! ```
//! use mainstay_check::kv_model::{KvModel, KvOp, KvRet};
//! use mainstay_check::linearizability::STEPS_MAX;
//! use mainstay_check::{History, Verdict, check};
//!
//! let mut history = History::new();
//! // Process 1 writes and never hears what came of it; process 2 then reads the value, and after
//! // that does not.
//! history.invoke(1, KvOp::Set("x".into(), "a".into()), 10);
//! history.complete(2, KvOp::Get("x".into()), 20, KvRet::Value(Some("a".into())), 30);
//! assert_eq!(check(&KvModel, &history, STEPS_MAX), Verdict::Linearizable);
//!
//! history.complete(2, KvOp::Get("x".into()), 40, KvRet::Value(None), 50);
//! let violation = check(&KvModel, &history, STEPS_MAX).into_result().unwrap_err();
//! assert_eq!((violation.property, violation.at), ("linearizable", 50));
//! ```

#![forbid(unsafe_code)]

pub mod agreement;
pub mod decided_time;
pub mod digests;
pub mod due_checkpoints;
pub mod exactly_once;
pub mod expiry;
pub mod explore;
pub mod history;
pub mod kv_model;
pub mod linearizability;
pub mod no_lost_ack;
pub mod observation;
mod pipelines;
pub mod prefix;
pub mod properties;
mod search;
pub mod session_ends;
pub mod session_order;
pub mod shown_time;
pub mod stability;
pub mod time_jumps;

pub use history::{History, Operation, OperationId};
pub use linearizability::{Model, Verdict, check, check_pipelines};
pub use observation::{Observation, Place, Violation};
pub use properties::{Properties, Property};
