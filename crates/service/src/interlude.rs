//! What is asked of a state in the middle of a batch.

use mainstay_model::{NoPlants, RequestNumber, SessionId};

use crate::applier::Applier;

/// What a world does in the middle of a batch.
pub trait Interlude<S, P = NoPlants> {
    /// A request is about to be carried out, for the first time: what is asked of the state now sees
    /// everything before it and nothing of it. Called for that request at that place of the log only, at
    /// every replica.
    fn before(&mut self, applier: &Applier<S, P>, session: SessionId, number: RequestNumber);
}

/// Nothing is done between requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoInterlude;

impl<S, P> Interlude<S, P> for NoInterlude {
    fn before(&mut self, _: &Applier<S, P>, _: SessionId, _: RequestNumber) {}
}
