//! The first state of the executor: the newest checkpoint that can be restored, or that of an empty
//! log. Made on the executor's own thread: a replica votes while a large state is restored.

use std::sync::Arc;
use std::time::Instant;

use mainstay_model::{CheckpointId, NoPlants, Slot};
use mainstay_service::{Applier, Service, SessionLimits};
use mainstay_storage::{Checkpoints, Disk, Life};

use crate::disk::Event;
use crate::queue::Inbox;
use crate::restoring::{Restoring, Unfit};

/// What the first state is made of.
pub(crate) struct Origin<S, D: Disk> {
    /// The state of an empty log.
    pub(crate) service: S,
    /// Its limits of sessions; a checkpoint holds its own.
    pub(crate) sessions: SessionLimits,
    pub(crate) checkpoints: Checkpoints<D>,
    /// What the ordering machine was told that the state comes from.
    pub(crate) from: Option<CheckpointId>,
    /// Newer ones that are damaged, and how.
    pub(crate) damaged: Vec<(CheckpointId, String)>,
    /// The log begins after this slot.
    pub(crate) truncated_upto: Slot,
    /// Whether there are others to fetch a checkpoint from.
    pub(crate) has_peers: bool,
    pub(crate) restoring: Restoring,
}

/// Where the first state comes from.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    /// The checkpoint and its bytes; none for that of an empty log.
    pub(crate) from: Option<(CheckpointId, u64)>,
    /// Whether it is what the ordering machine was told.
    pub(crate) is_expected: bool,
    /// Why a later one does not serve, though all of it is there.
    pub(crate) refused: Option<String>,
}

impl<S: Service, D: Disk> Origin<S, D> {
    /// Makes the state and tells of it. Returns its generation, too: 0 if it is the one expected, and 1
    /// if it comes from another checkpoint; and its life in the folder. `None` if the node ends instead.
    ///
    /// A checkpoint that the service refuses is left alone: it is the program that is wrong. Where
    /// nothing else serves, this replica does not ask others for what it has itself, but ends.
    pub(crate) fn restore(
        mut self,
        inbox: &Arc<Inbox<Event>>,
    ) -> Option<(Applier<S>, (u64, Life))> {
        let life = self.checkpoints.life();
        let mut refused = None;
        for id in self.checkpoints.held().into_iter().rev().filter(|id| Some(*id) <= self.from) {
            if id.slot < self.truncated_upto && (!self.has_peers || refused.is_some()) {
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
                    let bytes = self.checkpoints.content_len(id).unwrap_or(0);
                    let is_expected = self.from == Some(id);
                    let restored = Restored { from: Some((id, bytes)), is_expected, refused };
                    inbox.push(Event::Restored(Ok(restored)), 0);
                    return Some((applier, (u64::from(!is_expected), life)));
                }
                Err(Unfit::Unwanted) => return None,
                Err(Unfit::Damaged(why)) => {
                    tracing::error!("the checkpoint of slot {} cannot be used: {why}", id.slot);
                    self.checkpoints.note_damaged(id);
                    self.damaged.push((id, why));
                }
                Err(Unfit::Refused(why)) => {
                    let slot = id.slot;
                    let sentence = format!(
                        "the checkpoint of slot {slot} is whole, and this program cannot restore it ({why})"
                    );
                    tracing::error!("{sentence}");
                    refused.get_or_insert(sentence);
                }
            }
        }
        if let Some(sentence) = self.no_state(refused.as_deref()) {
            inbox.push(Event::Restored(Err(sentence)), 0);
            return None;
        }
        let is_expected = self.from.is_none();
        inbox.push(Event::Restored(Ok(Restored { from: None, is_expected, refused })), 0);
        let applier = Applier::new(self.service, self.sessions, NoPlants);
        Some((applier, (u64::from(!is_expected), life)))
    }

    /// Why the state of an empty log does not do, and nobody else's either.
    fn no_state(&self, refused: Option<&str>) -> Option<String> {
        let begins = self.truncated_upto;
        if begins == Slot::NONE {
            return None;
        }
        if let Some(refused) = refused {
            return Some(format!(
                "{refused}, and the log begins after slot {begins}; nothing was changed: start the \
                 program that wrote it"
            ));
        }
        let why = self.damaged.first().map_or_else(
            || "none is there".to_owned(),
            |(id, why)| format!("that of slot {}: {why}", id.slot),
        );
        let sentence = format!(
            "the log begins after slot {begins}, no checkpoint can be restored ({why}), and there is no \
             other replica to fetch one from"
        );
        (!self.has_peers).then_some(sentence)
    }

    fn restore_one(&self, id: CheckpointId) -> Result<Applier<S>, Unfit> {
        // A newer one may be fetched meanwhile, and this one is not to make way for it.
        let _hold = self.checkpoints.hold(id);
        self.restoring.restore(id, || self.checkpoints.open_content(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use mainstay_model::{ClusterId, GroupId};
    use mainstay_service::{Apply, Context, Plain};
    use mainstay_storage::{CheckpointOptions, DiskFile, MemoryDisk};
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
                let writer = checkpoints.writer(Slot(slot), checkpoints.life()).expect("a writer");
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
        let mut writer = checkpoints.writer(Slot::NONE, checkpoints.life()).expect("a writer");
        let digest = applier.checkpoint().expect("a state").write(&mut writer).expect("written");
        let from = writer.finish(digest).expect("it is written");
        *OVERTAKES.lock().unwrap() = Some(checkpoints.clone());
        let origin = Origin {
            service: Plain(Overtaken),
            sessions: SessionLimits::default(),
            checkpoints: checkpoints.clone(),
            from: Some(from),
            damaged: Vec::new(),
            truncated_upto: Slot::NONE,
            has_peers: false,
            restoring: Restoring { wanted: Arc::default() },
        };
        origin.restore_one(from).expect("it is restored");
        checkpoints.tidy().expect("tidied");
        assert_eq!(checkpoints.held().len(), 2, "now it goes");
    }

    /// A number, which may not be too high for the program that restores it.
    #[derive(Clone, Default, Serialize)]
    struct Limited(u64);

    const LIMIT: u64 = 100;

    impl<'de> Deserialize<'de> for Limited {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            match u64::deserialize(from)? {
                high if high > LIMIT => Err(serde::de::Error::custom("it is above the limit")),
                low => Ok(Self(low)),
            }
        }
    }

    impl Apply for Limited {
        fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}
    }

    type Told = Result<Restored, String>;

    /// What comes of a start from these, the slots of which are told and the numbers in them; one is damaged.
    fn start(held: &[(u64, u64)], damaged: Option<u64>, truncated_upto: u64) -> (Told, Vec<u64>) {
        let options = CheckpointOptions::new(ClusterId(1), GroupId::FIRST, 1);
        let disk = MemoryDisk::default();
        let checkpoints = Checkpoints::open(disk.clone(), options).expect("a folder").0;
        for &(slot, number) in held {
            let mut applier = Applier::new(Plain(Limited(number)), Default::default(), NoPlants);
            for slot in 1..=slot {
                let value = mainstay_model::Value::no_op(mainstay_model::Timestamp(1));
                applier.apply(Slot(slot), &value, &mut Vec::new()).expect("no panic");
            }
            let mut writer = checkpoints.writer(Slot(slot), checkpoints.life()).expect("a writer");
            let state = applier.checkpoint().expect("a state");
            let digest = state.write(&mut writer).expect("written");
            writer.finish(digest).expect("it is written");
        }
        let names = disk.list().expect("names");
        for name in names.iter().filter(|_| damaged.is_some()) {
            if damaged.is_some_and(|slot| name.contains(&format!("-{slot:020}-"))) {
                let mut file = disk.open(name).expect("it is there");
                file.write_at(4200, b"rot").expect("written");
            }
        }
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let inbox = Inbox::new(Arc::new(waker), 1 << 20);
        let origin = Origin {
            service: Plain(Limited::default()),
            sessions: SessionLimits::default(),
            checkpoints: checkpoints.clone(),
            from: checkpoints.latest(),
            damaged: Vec::new(),
            truncated_upto: Slot(truncated_upto),
            has_peers: true,
            restoring: Restoring { wanted: Arc::default() },
        };
        let made = origin.restore(&inbox).is_some();
        let mut events = Vec::new();
        inbox.take(&mut events);
        let Some(Event::Restored(told)) = events.pop() else { panic!("nothing is told") };
        assert_eq!(made, told.is_ok());
        assert_eq!(disk.list().expect("names"), names, "nothing is deleted");
        (told, checkpoints.held().iter().map(|id| id.slot.0).collect())
    }

    fn from(told: &Told) -> Option<Slot> {
        told.as_ref().expect("a state").from.map(|(id, _)| id.slot)
    }

    #[test]
    fn what_the_service_refuses_is_left_alone() {
        let (told, held) = start(&[(5, 7), (9, 700)], None, 5);
        assert_eq!((from(&told), held), (Some(Slot(5)), vec![5, 9]));
        let refused = told.expect("a state").refused.expect("it is told");
        assert!(
            refused.contains("slot 9 is whole") && refused.contains("cannot restore it"),
            "{refused}"
        );
        // The log does not reach back to what could be restored, or to the beginning.
        for held in [&[(5, 7), (9, 700)][..], &[(9, 700)]] {
            let sentence = start(held, None, 6).0.expect_err("it is not to ask for what it has");
            assert!(sentence.contains("cannot restore it"), "{sentence}");
            assert!(sentence.contains("start the program that wrote it"), "{sentence}");
        }
        let (told, held) = start(&[(9, 700)], None, 0);
        assert_eq!((from(&told), held), (None, vec![9]), "the log has everything");
    }

    #[test]
    fn what_is_damaged_is_fetched_from_others() {
        let (told, held) = start(&[(5, 7), (9, 8)], Some(9), 6);
        assert_eq!((from(&told), held), (Some(Slot(5)), vec![5]));
        assert_eq!(told.expect("a state").refused, None);
        let (told, held) = start(&[(9, 8)], Some(9), 6);
        assert_eq!((from(&told), held), (None, vec![]));
    }
}
