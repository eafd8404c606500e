//! `mainstay sim`: the simulator.

use crate::arguments::SimOptions;
use crate::failure::Failure;

/// Carries the command out.
pub(crate) fn run(options: &SimOptions) -> Result<(), Failure> {
    Err(Failure::failed(format!("the simulator cannot run {options:?} yet")))
}
