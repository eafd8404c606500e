//! The log from outside: on a real folder and on one in memory that fails in every way.

mod conformance;
mod crash;
mod decode;
mod eviction;
mod faults;
mod golden;
mod messages;
mod real;
mod rot;
mod twin;
