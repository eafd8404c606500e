//! What has to be done to the folder besides reading and storing pieces. The folder may refuse it for a
//! while; it is tried again until it is done, since nothing else may ever ask for it.

use std::io;
use std::time::Duration;

use mainstay_consensus::Discard;
use mainstay_model::{CheckpointId, Slot};
use mainstay_service::Service;
use mainstay_storage::{CheckpointError, Disk};

use crate::disk::{DiskTask, Event};
use crate::transfers::TransferThread;

/// How long until it is tried again.
pub(crate) const OVERDUE_PAUSE: Duration = Duration::from_millis(200);

/// What was not done to the folder yet.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    pub(crate) distrust: Option<Option<CheckpointId>>,
    /// The last one counts.
    pub(crate) discard: Option<Discard>,
    pub(crate) files: Vec<String>,
    /// What was told of it last.
    told: String,
}

impl Overdue {
    pub(crate) fn is_some(&self) -> bool {
        self.distrust.is_some() || self.discard.is_some() || !self.files.is_empty()
    }
}

impl<S: Service, D: Disk> TransferThread<S, D> {
    /// Does what is to be done to the folder, as far as the folder lets it be done.
    pub(crate) fn catch_up(&mut self) {
        if !self.overdue.is_some() || self.restoring.wanted.is_ended() {
            return;
        }
        let done = [self.distrust(), self.discard(), self.remove_files()];
        let failures = done.into_iter().filter_map(Result::err);
        let told: Vec<_> = failures.map(|error| error.to_string()).collect();
        let told = told.join("; ");
        if !told.is_empty() && told != self.overdue.told {
            tracing::warn!("not everything could be tidied up, and it is tried again: {told}");
        }
        self.overdue.told = told;
    }

    pub(crate) fn distrust(&mut self) -> Result<(), CheckpointError> {
        let Some(right) = self.overdue.distrust else { return Ok(()) };
        self.checkpoints.distrust_after(right).inspect_err(|error| self.look_at(error))?;
        self.overdue.distrust = None;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), CheckpointError> {
        let Some(Discard { upto, wanted_above, stable }) = self.overdue.discard else {
            return Ok(());
        };
        match stable.map_or(Ok(()), |stable| self.checkpoints.note_stable(stable)) {
            Ok(()) => {
                self.overdue.discard = None;
                self.forget_fetched(upto);
                self.log.push(&mut vec![DiskTask::Discard { upto, wanted_above }], 0);
            }
            // It made way for one that will be stable, too.
            Err(error @ CheckpointError::Gone(stable)) => {
                tracing::warn!("the log is kept: {error}");
                self.overdue.discard = None;
                self.inbox.push(Event::CheckpointGone(stable), 0);
            }
            Err(error) => {
                self.look_at(&error);
                return Err(error);
            }
        }
        self.tidy();
        Ok(())
    }

    /// Removes files that the log has given up.
    fn remove_files(&mut self) -> Result<(), CheckpointError> {
        let before = self.overdue.files.len();
        let mut failure = None;
        self.overdue.files.retain(|name| match self.disk.remove(name) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => {
                failure = Some(CheckpointError::Io { file: name.clone(), tried: "remove", source });
                true
            }
        });
        if self.overdue.files.len() < before
            && let Err(source) = self.disk.sync_folder()
        {
            let error = CheckpointError::Io { file: String::new(), tried: "sync", source };
            self.look_at(&error);
            return Err(error);
        }
        failure.map_or(Ok(()), Err)
    }

    /// This replica's own state is stable at `slot`: what was fetched up to there, when the log turned out
    /// to be had after all, only takes space.
    fn forget_fetched(&mut self, slot: Slot) {
        drop(self.incoming.take_if(|incoming| incoming.partial().id.slot <= slot));
        if let Err(error) = self.checkpoints.forget_partial(slot) {
            tracing::warn!("what was fetched before is still there: {error}");
            self.look_at(&error);
        }
    }
}
