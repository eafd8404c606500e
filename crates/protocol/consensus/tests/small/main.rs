//! Small groups of the real machine: the figures of a paper as scripts, and models whose every state
//! is looked at.

mod figures;
mod models;
mod node;
