//! What stands in the folder of a replica of checkpoints, and what becomes of each file.

use std::collections::BTreeMap;
use std::io;

use mainstay_model::CheckpointId;

use super::layout::{
    self, Fault, Head, Note, file_name, id_of, incoming_id_of, incoming_name, is_temporary,
    unusable_id_of,
};
use super::{CheckpointError, CheckpointOptions, Life};
use crate::disk::{Disk, DiskFile};
use crate::error::is_no_room;

/// How many of the newest checkpoints are kept.
const KEPT: usize = 2;

#[derive(Debug)]
pub(super) struct Folder<D> {
    pub(super) disk: D,
    pub(super) options: CheckpointOptions,
    /// The durable ones.
    pub(super) held: BTreeMap<CheckpointId, Head>,
    /// Damaged ones: they go with the ones they are older than.
    pub(super) damaged: Vec<CheckpointId>,
    /// Those that are not held any more, until [`super::Checkpoints::take_gone`] tells of them.
    pub(super) gone: Vec<CheckpointId>,
    /// Those that must never be restored again.
    pub(super) unusable: Vec<CheckpointId>,
    /// Every checkpoint later than this one is to become unusable, as soon as the disk allows it.
    pub(super) distrust_after: Option<CheckpointId>,
    pub(super) life: Life,
    /// How many holds there are on each.
    pub(super) holds: BTreeMap<CheckpointId, u64>,
    /// What was fetched of one, as long as nobody goes on with it.
    pub(super) partial: Option<Head>,
    /// The newest one that was noted as stable.
    pub(super) stable: Option<CheckpointId>,
    pub(super) is_writing: bool,
    pub(super) is_fetching: bool,
}

pub(super) fn failed(file: &str, tried: &'static str, source: io::Error) -> CheckpointError {
    let file = file.to_owned();
    if is_no_room(&source) {
        CheckpointError::NoRoom { file, source }
    } else {
        CheckpointError::Io { file, tried, source }
    }
}

impl<D: Disk> Folder<D> {
    pub(super) fn sync(&self) -> Result<(), CheckpointError> {
        self.disk.sync_folder().map_err(|source| failed("", "sync", source))
    }

    /// Gives a file that is synced the name of its checkpoint, durably; then older ones go.
    pub(super) fn put_in_place(&mut self, from: &str, head: Head) -> Result<(), CheckpointError> {
        let same_slot = self.held.keys().filter(|held| held.slot == head.id.slot);
        let is_replaced = |held: &&CheckpointId| **held != head.id && Some(**held) != self.stable;
        let replaced: Vec<_> = same_slot.filter(is_replaced).copied().collect();
        self.remove(&replaced)?;
        let renamed = self.disk.rename(from, &file_name(head.id));
        renamed.map_err(|source| failed(from, "rename", source))?;
        self.damaged.retain(|damaged| *damaged != head.id);
        self.sync()?;
        self.held.insert(head.id, head);
        // The new one is durable, whatever becomes of the old ones: the next one tries again.
        let _ = self.tidy(Some(head.id));
        Ok(())
    }

    /// Takes note of every file; returns why some are not used.
    pub(super) fn read_names(&mut self) -> Result<Vec<CheckpointError>, CheckpointError> {
        let names = self.disk.list().map_err(|source| failed("", "list", source))?;
        let mut reports = Vec::new();
        let (mut unwanted, mut noted) = (Vec::new(), Vec::new());
        for name in names {
            if let Some(id) = id_of(&name) {
                match self.read_head(&name, id) {
                    Ok(Some(head)) => {
                        self.held.insert(id, head);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if matches!(error, CheckpointError::Damaged { .. }) {
                            self.damaged.push(id);
                        }
                        reports.push(error);
                    }
                }
            } else if let Some(id) = incoming_id_of(&name) {
                // Names ascend: the last one is the newest.
                match self.read_head(&name, id) {
                    Ok(Some(head)) if head.chunk_bytes > 0 => {
                        unwanted.extend(self.partial.map(|older| incoming_name(older.id)));
                        self.partial = Some(head);
                    }
                    Ok(None) => {}
                    _ => unwanted.push(name),
                }
            } else if let Some(id) = Note::Stable.id_of(self.options.group, &name) {
                noted.push(id);
            } else if let Some(id) = Note::DistrustAfter.id_of(self.options.group, &name) {
                // Names ascend: the first one reaches furthest.
                self.distrust_after.get_or_insert(id);
            } else if let Some(id) = unusable_id_of(&name) {
                match self.read_head(&name, id) {
                    Ok(None) | Err(CheckpointError::Foreign { .. }) => {}
                    _ => self.unusable.push(id),
                }
            } else if is_temporary(&name) {
                unwanted.push(name);
            }
        }
        // One is noted before it is put in place, and the one before it may be all that is held.
        let held = noted.iter().copied().filter(|id| self.held.contains_key(id)).max();
        self.stable = held.or(noted.iter().copied().max());
        noted.retain(|id| Some(*id) != self.stable);
        unwanted.extend(noted.into_iter().map(|id| Note::Stable.name(self.options.group, id)));
        for name in unwanted {
            self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
        }
        // A name that can be read need not be durable yet.
        self.sync()?;
        Ok(reports)
    }

    /// The head of a file that should hold `id`; `None` if it belongs to another group.
    fn read_head(&self, name: &str, id: CheckpointId) -> Result<Option<Head>, CheckpointError> {
        let file = || name.to_owned();
        let damaged = |offset, found| CheckpointError::Damaged { file: file(), offset, found };
        let opened = self.disk.open(name).map_err(|source| failed(name, "open", source))?;
        let read = Head::read(&opened).map_err(|source| failed(name, "read", source))?;
        let head = match read {
            Ok(head) => head,
            Err(Fault::Bad) => return Err(damaged(0, "its head is unreadable")),
            Err(Fault::Newer(found)) => {
                let known = u32::from(layout::VERSION);
                return Err(CheckpointError::NewerFormat { file: file(), found, known });
            }
        };
        let options = self.options;
        let (found, expected) = (head.service_version, options.service_version);
        if head.cluster != options.cluster {
            let found = (head.cluster, head.group);
            let expected = (options.cluster, options.group);
            return Err(CheckpointError::Foreign { file: file(), found, expected });
        }
        if head.group != options.group {
            return Ok(None);
        }
        if found != expected {
            return Err(CheckpointError::OtherService { file: file(), found, expected });
        }
        if head.id != id {
            return Err(damaged(0, "it holds another checkpoint than its name says"));
        }
        let len = opened.len().map_err(|source| failed(name, "read", source))?;
        if len < head.file_len() {
            return Err(damaged(len, "it is cut off"));
        }
        Ok(Some(head))
    }

    /// Removes checkpoints, whether there are any such or not.
    pub(super) fn remove(&mut self, ids: &[CheckpointId]) -> Result<(), CheckpointError> {
        let mut is_changed = false;
        for id in ids {
            let is_damaged = self.damaged.contains(id);
            if is_damaged || self.held.contains_key(id) {
                let name = file_name(*id);
                self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
                self.gone.extend(self.held.remove(id).map(|head| head.id));
                self.damaged.retain(|damaged| damaged != id);
                is_changed = true;
            }
        }
        if is_changed { self.sync() } else { Ok(()) }
    }

    pub(super) fn note_stable(&mut self, id: CheckpointId) -> Result<(), CheckpointError> {
        let covers = |noted: CheckpointId| noted >= id && self.held.contains_key(&noted);
        if self.stable.is_some_and(covers) {
            return Ok(());
        }
        if !self.held.contains_key(&id) {
            return Err(CheckpointError::Gone(id));
        }
        self.note(Note::Stable, id)?;
        self.set_stable(id);
        Ok(())
    }

    /// `id` is held, and noted as stable.
    fn set_stable(&mut self, id: CheckpointId) {
        if let Some(older) = self.stable.replace(id).filter(|older| *older != id) {
            // If it stays, or comes back, the later one counts.
            let _ = self.disk.remove(&Note::Stable.name(self.options.group, older));
        }
        self.remove_unusable();
    }

    /// Puts one in place that was fetched, and is stable therefore: its life begins.
    pub(super) fn install(&mut self, from: &str, head: Head) -> Result<Life, CheckpointError> {
        // First: that a quorum held it must be known as soon as the log begins after it.
        self.note(Note::Stable, head.id)?;
        self.put_in_place(from, head)?;
        self.set_stable(head.id);
        // The one that was stable before need not be kept any more.
        let _ = self.tidy(None);
        Ok(self.life.begin_next())
    }

    /// Makes a note durable.
    pub(super) fn note(&self, note: Note, id: CheckpointId) -> Result<(), CheckpointError> {
        let name = note.name(self.options.group, id);
        match self.disk.create(&name) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(&name, "make", source)),
        }
        self.sync()
    }

    /// Removes all but the newest, what is stable or on hold, and `kept`.
    pub(super) fn tidy(&mut self, kept: Option<CheckpointId>) -> Result<(), CheckpointError> {
        let older = self.held.keys().rev().skip(KEPT);
        let is_free = |id: &&CheckpointId| {
            !self.holds.contains_key(id) && Some(**id) != kept && Some(**id) != self.stable
        };
        let newest = self.held.keys().next_back();
        let is_older = |damaged: &&CheckpointId| newest.is_some_and(|newest| *damaged < newest);
        let damaged = self.damaged.iter().filter(is_older);
        let free: Vec<_> = older.filter(is_free).chain(damaged).copied().collect();
        self.remove(&free)
    }
}
