//! What stands in the folder of a replica, opened and brought together: its log and its checkpoints.

use std::fmt;
use std::io;

use mainstay_model::{CheckpointId, GroupId, NoPlants, Recovered, Timestamp};
use mainstay_service::time_of;
use mainstay_storage::{
    AppendError, CheckpointError, CheckpointOptions, Checkpoints, Disk, Incoming, Log, LogOptions,
    OpenError,
};

/// Log and checkpoints of a replica.
pub struct Store<D: Disk> {
    /// The log.
    pub log: Log<D>,
    /// What it held.
    pub recovered: Recovered,
    /// The checkpoints.
    pub checkpoints: Checkpoints<D>,
    /// The checkpoint to start from. It may still turn out that it cannot be restored.
    pub(crate) from: Option<CheckpointId>,
    /// Decided time as of that one; zero without one.
    pub(crate) time: Timestamp,
    /// Newer ones that cannot be read, and why. They are still there.
    pub(crate) unreadable: Vec<(CheckpointId, String)>,
    /// What an interrupted transfer left.
    pub(crate) incoming: Option<Incoming<D>>,
}

/// Why a replica cannot start from what its folder holds.
#[derive(Debug)]
pub enum StoreError {
    /// The log cannot be opened.
    Log(OpenError),
    /// A checkpoint stands in the way.
    Checkpoint(CheckpointError),
    /// The log could not be told that it begins after a checkpoint.
    Append(AppendError),
}

impl<D: Disk + Clone> Store<D> {
    /// Opens both. The newest checkpoint may reach further than what the log knows as decided: it was
    /// installed, or the process died before a record told so. The log is then told, once all of the
    /// checkpoint was read and found whole.
    ///
    /// # Errors
    /// [`StoreError`]: among others for a checkpoint of another cluster, of another version of the
    /// service, or in a newer format. A damaged one is only logged.
    pub fn open(
        disk: D,
        log: LogOptions,
        checkpoints: CheckpointOptions,
    ) -> Result<Self, StoreError> {
        let group = checkpoints.group;
        let (log, recovered) = Log::open(disk.clone(), log, NoPlants).map_err(StoreError::Log)?;
        let (checkpoints, reports) =
            Checkpoints::open(disk, checkpoints).map_err(StoreError::Checkpoint)?;
        for report in reports {
            match report {
                CheckpointError::Damaged { .. } => tracing::error!("{report}"),
                refused => return Err(StoreError::Checkpoint(refused)),
            }
        }
        let mut store = Self {
            log,
            recovered,
            checkpoints,
            from: None,
            time: Timestamp(0),
            unreadable: Vec::new(),
            incoming: None,
        };
        store.choose(group)?;
        if let Some(from) = store.from {
            store.checkpoints.forget_partial(from.slot).map_err(StoreError::Checkpoint)?;
        }
        store.incoming = store.checkpoints.resume();
        if let Some(incoming) = &store.incoming {
            let partial = incoming.partial();
            tracing::info!(
                "the fetch of the checkpoint of slot {} goes on with {} of {} pieces",
                partial.id.slot,
                partial.complete,
                incoming.chunks()
            );
        }
        Ok(store)
    }

    /// Takes the newest checkpoint to start from.
    fn choose(&mut self, group: GroupId) -> Result<(), StoreError> {
        for id in self.checkpoints.held().into_iter().rev() {
            if id.slot > self.recovered.decided_upto {
                if let Err(error) = self.read_through(id) {
                    tracing::error!("the checkpoint of slot {} cannot be used: {error}", id.slot);
                    self.checkpoints.note_damaged(id);
                    self.unreadable.push((id, error.to_string()));
                    continue;
                }
                self.log.begin_after(group, id.slot).map_err(StoreError::Append)?;
                self.recovered = self.log.recovered(group).map_err(StoreError::Log)?;
            }
            self.from = Some(id);
            break;
        }
        self.time = self.time_of_held();
        Ok(())
    }

    /// Decided time as of the checkpoint to start from; where its beginning is damaged, as of the one
    /// before: what lies between stands in the log, or is fetched.
    fn time_of_held(&self) -> Timestamp {
        let held = self.checkpoints.held().into_iter().rev();
        let times = held.filter(|id| Some(*id) <= self.from).map(|id| {
            let content = self.checkpoints.open_content(id).map_err(|error| error.to_string());
            content.and_then(|mut content| time_of(&mut content).map_err(|error| error.to_string()))
        });
        times.into_iter().find_map(Result::ok).unwrap_or_default()
    }

    /// Reads a checkpoint from front to back: every block is checked.
    fn read_through(&self, id: CheckpointId) -> Result<(), io::Error> {
        let mut content = self.checkpoints.open_content(id).map_err(io::Error::other)?;
        io::copy(&mut content, &mut io::sink()).map(|_| ())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Append(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            Self::Checkpoint(error) => Some(error),
            Self::Append(error) => Some(error),
        }
    }
}
