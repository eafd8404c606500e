//! The first state of the executor: the newest checkpoint that can be restored, or that of an empty
//! log. Made on the executor's own thread: a replica votes while a large state is restored.

use std::sync::Arc;
use std::time::Instant;

use mainstay_model::{CheckpointId, NoPlants, Slot};
use mainstay_service::{Applier, Service, SessionLimits};
use mainstay_storage::{Checkpoints, Disk};

use crate::disk::Event;
use crate::queue::Inbox;
use crate::transfers::Restoring;

/// What the first state is made of.
pub(crate) struct Origin<S, D: Disk> {
    /// The state of an empty log.
    pub(crate) service: S,
    /// Its limits of sessions; a checkpoint holds its own.
    pub(crate) sessions: SessionLimits,
    pub(crate) checkpoints: Checkpoints<D>,
    /// What the ordering machine was told that the state comes from.
    pub(crate) from: Option<CheckpointId>,
    /// Newer ones that are known to be of no use, and why.
    pub(crate) unusable: Vec<(CheckpointId, String)>,
    /// The log begins after this slot.
    pub(crate) truncated_upto: Slot,
    /// Whether there are others to fetch a checkpoint from.
    pub(crate) has_peers: bool,
    pub(crate) restoring: Restoring,
}

impl<S: Service, D: Disk> Origin<S, D> {
    /// Makes the state and tells of it. Returns its generation, too: 0 if it is the one expected, and 1
    /// if it comes from another checkpoint. `None` if the node ends instead.
    pub(crate) fn restore(mut self, inbox: &Arc<Inbox<Event>>) -> Option<(Applier<S>, u64)> {
        let held = self.checkpoints.held().into_iter().rev();
        for id in held.filter(|id| Some(*id) <= self.from) {
            if id.slot < self.truncated_upto && !self.has_peers {
                break;
            }
            let began = Instant::now();
            match self.restore_one(id) {
                Ok(applier) => {
                    tracing::info!(
                        "the state of slot {} was restored in {:?}",
                        id.slot,
                        began.elapsed()
                    );
                    self.remove();
                    let bytes = self.checkpoints.content_len(id).unwrap_or(0);
                    inbox.push(Event::Restored(Ok(Some((id, bytes)))), 0);
                    return Some((applier, u64::from(self.from != Some(id))));
                }
                Err(_) if self.restoring.wanted.is_ended() => return None,
                Err(why) => {
                    tracing::error!("the checkpoint of slot {} cannot be used: {why}", id.slot);
                    self.unusable.push((id, why));
                }
            }
        }
        if self.truncated_upto > Slot::NONE && !self.has_peers {
            let why = self.unusable.first().map_or_else(
                || "none is there".to_owned(),
                |(id, why)| format!("that of slot {}: {why}", id.slot),
            );
            let sentence = format!(
                "the log begins after slot {}, no checkpoint can be restored ({why}), and there is no \
                 other replica to fetch one from",
                self.truncated_upto
            );
            inbox.push(Event::Restored(Err(sentence)), 0);
            return None;
        }
        self.remove();
        inbox.push(Event::Restored(Ok(None)), 0);
        let applier = Applier::new(self.service, self.sessions, NoPlants);
        Some((applier, u64::from(self.from.is_some())))
    }

    fn restore_one(&self, id: CheckpointId) -> Result<Applier<S>, String> {
        // A newer one may be fetched meanwhile, and this one is not to make way for it.
        let _hold = self.checkpoints.hold(id);
        let content = self.checkpoints.open_content(id).map_err(|error| error.to_string())?;
        self.restoring.restore(id, content)
    }

    /// Removes what cannot be used, now that there is something else.
    fn remove(&self) {
        for (id, _) in &self.unusable {
            if let Err(error) = self.checkpoints.remove(*id) {
                tracing::error!("the checkpoint of slot {} is still there: {error}", id.slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use mainstay_model::{ClusterId, GroupId};
    use mainstay_service::{Apply, Context, Plain};
    use mainstay_storage::{CheckpointOptions, MemoryDisk};
    use serde::{Deserialize, Deserializer, Serialize};

    /// While it is restored, two newer checkpoints are put in their places.
    #[derive(Clone, Default, Serialize)]
    struct Overtaken;

    static OVERTAKES: Mutex<Option<Checkpoints<MemoryDisk>>> = Mutex::new(None);

    impl<'de> Deserialize<'de> for Overtaken {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            let checkpoints = OVERTAKES.lock().unwrap();
            let checkpoints = checkpoints.as_ref().expect("they are there");
            for slot in [8, 9] {
                let writer = checkpoints.writer(Slot(slot)).expect("a writer");
                writer.finish(1).expect("it is written");
            }
            assert_eq!(checkpoints.held().len(), 3, "the one that is restored went");
            Ok(Self)
        }
    }

    impl Apply for Overtaken {
        fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}
    }

    #[test]
    fn a_checkpoint_stays_while_it_is_restored() {
        let options = CheckpointOptions::new(ClusterId(1), GroupId::FIRST, 1);
        let checkpoints = Checkpoints::open(MemoryDisk::default(), options).expect("a folder").0;
        let mut applier = Applier::new(Plain(Overtaken), Default::default(), NoPlants);
        let mut writer = checkpoints.writer(Slot::NONE).expect("a writer");
        let digest = applier.checkpoint().expect("a state").write(&mut writer).expect("written");
        let from = writer.finish(digest).expect("it is written");
        *OVERTAKES.lock().unwrap() = Some(checkpoints.clone());
        let origin = Origin {
            service: Plain(Overtaken),
            sessions: SessionLimits::default(),
            checkpoints: checkpoints.clone(),
            from: Some(from),
            unusable: Vec::new(),
            truncated_upto: Slot::NONE,
            has_peers: false,
            restoring: Restoring { wanted: Arc::default() },
        };
        origin.restore_one(from).expect("it is restored");
        checkpoints.tidy().expect("tidied");
        assert_eq!(checkpoints.held().len(), 2, "now it goes");
    }
}
