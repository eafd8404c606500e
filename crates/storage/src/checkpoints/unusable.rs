//! Checkpoints of a state that turned out wrong: kept out of the way, durably, until there is a right
//! one in their place.

use std::io;

use mainstay_model::{CheckpointId, Slot};

use super::folder::{Folder, failed};
use super::layout::{Note, file_name, unusable_name};
use super::{CheckpointError, Checkpoints, Life};
use crate::disk::Disk;

impl<D: Disk> Checkpoints<D> {
    /// Which life of the state has begun last.
    #[must_use]
    pub fn life(&self) -> Life {
        self.lock().life
    }

    /// The state of this replica is not the group's, and of its checkpoints only those up to `right`
    /// are known to be. From now on no other one is held, also after a crash, and none of the state
    /// as it is now is put in place. Their files stay until a later one is noted as stable, which one
    /// that is fetched is.
    ///
    /// One file is made and synced first; whatever happens after that, they are out of use. After an
    /// error it has to be called again before anything is fetched: nothing else tells, after a crash,
    /// that they are wrong.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn distrust_after(&self, right: Option<CheckpointId>) -> Result<(), CheckpointError> {
        let mut folder = self.lock();
        folder.life.begin_next();
        let right = right.unwrap_or(CheckpointId { slot: Slot::NONE, digest: 0 });
        folder.note(Note::DistrustAfter, right)?;
        // One that could not be carried out before reaches at least as far.
        folder.distrust_after = Some(folder.distrust_after.map_or(right, |old| old.min(right)));
        folder.distrust()
    }

    /// Those that must never be restored again, and are still there.
    #[must_use]
    pub fn unusable(&self) -> Vec<CheckpointId> {
        self.lock().unusable.clone()
    }
}

impl<D: Disk> Folder<D> {
    /// Carries out what a note asks for, and removes it: checkpoints that are made later are right.
    pub(super) fn distrust(&mut self) -> Result<(), CheckpointError> {
        let Some(right) = self.distrust_after else { return Ok(()) };
        // One that a quorum is known to have held is right, wherever it comes from.
        let is_wrong = |id: &&CheckpointId| **id > right && Some(**id) != self.stable;
        let wrong: Vec<_> = self.held.keys().filter(is_wrong).copied().collect();
        for id in wrong {
            let (from, to) = (file_name(id), unusable_name(id));
            self.disk.rename(&from, &to).map_err(|source| failed(&from, "rename", source))?;
            self.held.remove(&id);
            self.unusable.retain(|known| *known != id);
            self.unusable.push(id);
        }
        self.sync()?;
        let group = self.options.group;
        let names = self.disk.list().map_err(|source| failed("", "list", source))?;
        for name in names.iter().filter(|name| Note::DistrustAfter.id_of(group, name).is_some()) {
            match self.disk.remove(name) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(name, "remove", source));
                }
                _ => {}
            }
        }
        // Before any that is right is put in place.
        self.sync()?;
        self.distrust_after = None;
        Ok(())
    }

    /// A right one is there. What cannot be removed goes with the next one.
    pub(super) fn remove_unusable(&mut self) {
        let disk = &self.disk;
        self.unusable.retain(|id| match disk.remove(&unusable_name(*id)) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
    }
}
