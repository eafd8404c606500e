//! The checker of linearizability is itself checked: on histories known to be good and known to be
//! bad, against one that tries every order, and against the clock.

#![forbid(unsafe_code)]

mod brute_force;
mod known;
mod large;
mod script;
