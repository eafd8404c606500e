//! A folder in memory that behaves as badly as a real one may: what was not synced can be lost,
//! sector by sector; a sync can fail and leave bytes that look written; room can run out. For
//! tests and decoder harnesses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_model::Prng;

use crate::disk::{Disk, DiskFile};

/// What reaches a disk in one piece.
const SECTOR_LEN: usize = 512;

/// A handle on a folder in memory; clones are handles on the same folder.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    folder: Arc<Mutex<Folder>>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Clone, Debug)]
pub struct MemoryFile {
    folder: Arc<Mutex<Folder>>,
    file: usize,
}

#[derive(Debug, Default)]
struct Folder {
    files: Vec<Contents>,
    /// What processes see.
    names: BTreeMap<String, usize>,
    /// What stands on the disk.
    durable_names: BTreeMap<String, usize>,
    /// What was done to names since the last sync of the folder.
    pending: Vec<NameChange>,
    /// How many more bytes may be allocated or written past the end of a file.
    room: Option<u64>,
    /// The next syncs of files fail.
    failing_syncs: u32,
    /// The next writes fail.
    failing_writes: u32,
    /// How many more changes there are until everything fails.
    changes_left: Option<u64>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Contents {
    visible: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ, as far as the operating system remembers.
    dirty: BTreeSet<usize>,
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Put(name, file) => {
                names.insert(name, file);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Contents {
    fn resize(&mut self, len: usize) {
        let old = self.visible.len();
        if len > old {
            self.visible.resize(len, 0);
            self.dirty.extend(old / SECTOR_LEN..len.div_ceil(SECTOR_LEN));
        }
    }

    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR_LEN;
        let end = self.visible.len().min(start + SECTOR_LEN);
        if start < end {
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            self.durable[start..end].copy_from_slice(&self.visible[start..end]);
        }
    }
}

impl MemoryDisk {
    /// A folder with these files, all of them durable.
    pub fn with_files<N: Into<String>>(files: impl IntoIterator<Item = (N, Vec<u8>)>) -> Self {
        let disk = Self::default();
        let mut folder = disk.lock();
        for (name, bytes) in files {
            let file = folder.files.len();
            let contents =
                Contents { visible: bytes.clone(), durable: bytes, dirty: BTreeSet::new() };
            folder.files.push(contents);
            let name = name.into();
            folder.names.insert(name.clone(), file);
            folder.durable_names.insert(name, file);
        }
        drop(folder);
        disk
    }

    /// Cuts the power: of what was not synced, `prng` chooses which sectors and how many changes of
    /// names reached the disk.
    pub fn lose_power(&self, prng: &mut Prng) {
        let mut folder = self.lock();
        let kept = prng.below(folder.pending.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut folder.pending);
        for change in pending.into_iter().take(kept) {
            change.apply(&mut folder.durable_names);
        }
        folder.names = folder.durable_names.clone();
        // Mostly all or nothing, as with a real disk; sometimes anything.
        let (numerator, denominator) = (prng.below(5), 4);
        for contents in &mut folder.files {
            for sector in std::mem::take(&mut contents.dirty) {
                if prng.chance(numerator, denominator) {
                    contents.persist(sector);
                }
            }
            contents.visible = contents.durable.clone();
        }
    }

    /// From now on at most so many more bytes can be allocated; `None` for no limit.
    pub fn limit_room(&self, bytes: Option<u64>) {
        self.lock().room = bytes;
    }

    /// Lets the next `count` syncs of files fail. What they should have made durable is lost at the
    /// next cut of power, although it can be read until then, and although later syncs succeed.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().failing_syncs = count;
    }

    /// Lets the next `count` writes fail.
    pub fn fail_writes(&self, count: u32) {
        self.lock().failing_writes = count;
    }

    /// After `count` more changes of files or names every further one fails; `None` ends that.
    pub fn fail_after(&self, count: Option<u64>) {
        self.lock().changes_left = count;
    }

    fn lock(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a change, which counts.
    fn changing(&self) -> io::Result<MutexGuard<'_, Folder>> {
        changing(&self.folder)
    }

    fn file(&self, file: usize) -> MemoryFile {
        MemoryFile { folder: Arc::clone(&self.folder), file }
    }
}

fn changing(folder: &Mutex<Folder>) -> io::Result<MutexGuard<'_, Folder>> {
    let mut folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(left) = &mut folder.changes_left {
        *left =
            left.checked_sub(1).ok_or_else(|| io::Error::other("everything was made to fail"))?;
    }
    Ok(folder)
}

impl Folder {
    fn find(&self, name: &str) -> io::Result<usize> {
        let file = self.names.get(name).copied();
        file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, name.to_owned()))
    }

    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }

    /// Gives back the room of a file that goes away.
    fn free(&mut self, name: &str) {
        if let (Some(room), Some(&file)) = (&mut self.room, self.names.get(name)) {
            *room += self.files[file].visible.len() as u64;
        }
    }

    fn grow(&mut self, file: usize, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.files[file].visible.len() as u64);
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(more).ok_or(io::ErrorKind::StorageFull)?;
        }
        self.files[file].resize(len as usize);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut folder = self.changing()?;
        if folder.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, name.to_owned()));
        }
        let file = folder.files.len();
        folder.files.push(Contents::default());
        folder.change(NameChange::Put(name.to_owned(), file));
        drop(folder);
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let file = self.lock().find(name)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut folder = self.changing()?;
        folder.find(from)?;
        folder.free(to);
        folder.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut folder = self.changing()?;
        folder.find(name)?;
        folder.free(name);
        folder.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut folder = self.changing()?;
        folder.pending.clear();
        folder.durable_names = folder.names.clone();
        Ok(())
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, Folder> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().files[self.file].visible.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let folder = self.lock();
        let visible = &folder.files[self.file].visible;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(visible.len());
        let len = buffer.len().min(visible.len() - from);
        buffer[..len].copy_from_slice(&visible[from..from + len]);
        Ok(len)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut folder = changing(&self.folder)?;
        if folder.failing_writes > 0 {
            folder.failing_writes -= 1;
            return Err(io::Error::other("a write was made to fail"));
        }
        folder.grow(self.file, offset + bytes.len() as u64)?;
        let contents = &mut folder.files[self.file];
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        contents.visible[from..to].copy_from_slice(bytes);
        contents.dirty.extend(from / SECTOR_LEN..to.div_ceil(SECTOR_LEN));
        Ok(())
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        changing(&self.folder)?.grow(self.file, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut folder = changing(&self.folder)?;
        let fails = folder.failing_syncs > 0;
        folder.failing_syncs = folder.failing_syncs.saturating_sub(1);
        let contents = &mut folder.files[self.file];
        // A failed sync forgets which sectors it lost.
        let dirty = std::mem::take(&mut contents.dirty);
        if fails {
            return Err(io::Error::other("a sync was made to fail"));
        }
        for sector in dirty {
            contents.persist(sector);
        }
        let len = contents.visible.len();
        contents.durable.resize(len, 0);
        Ok(())
    }
}
