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
//! | [`digests`] | equal logs lead to equal states |
//! | [`linearizability`] | clients see one copy that does one thing at a time |
//!
//! The first six watch what replicas do, one [`Observation`] at a time, and are bundled in
//! [`Properties`]. The last one judges a [`History`] of what clients saw, against a [`Model`] of the
//! service; [`kv_model`] is the one for key-value stores.

#![forbid(unsafe_code)]

pub mod agreement;
pub mod digests;
pub mod exactly_once;
pub mod history;
pub mod kv_model;
pub mod linearizability;
pub mod no_lost_ack;
pub mod observation;
mod pipelines;
pub mod prefix;
pub mod properties;
mod search;
pub mod session_order;

pub use history::{History, Operation, OperationId};
pub use linearizability::{Model, Verdict, check, check_pipelines};
pub use observation::{Observation, Place, Violation};
pub use properties::{Properties, Property};
