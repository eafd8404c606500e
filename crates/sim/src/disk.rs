//! The disk of one simulated node: what reads see, what would survive a loss of power, and faults.
//!
//! Two things survive or not: the end of the process (the page cache stays) and the loss of power
//! (only what was synced is sure to stay). A failed sync leaves pages that read back fine, are never
//! written again by themselves, and are gone after the power was ("Can applications recover from
//! fsync failures?", Rebello et al., USENIX ATC 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainstay_model::Prng;
use mainstay_storage::{Disk, DiskFile};

/// What is written whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A folder on the disk of a node. Clones share it; a handle made before the last
/// [`SimDisk::end_process`] or [`SimDisk::lose_power`] fails on every use.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    life: u64,
}

#[derive(Debug)]
struct State {
    prng: Prng,
    /// Counts the processes that had the folder open.
    life: u64,
    files: BTreeMap<u64, Content>,
    file_next: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The table of names after each change since the last sync of the folder.
    unsynced_names: Vec<BTreeMap<String, u64>>,
    sync_fails_next: bool,
    /// The most bytes that all files together may have.
    capacity: Option<u64>,
    /// How many more changes there will be before the power is lost.
    changes_left: Option<u64>,
    /// The power is lost right after a file was given a name that begins so.
    last_name: Option<&'static str>,
    /// There is no room for files whose names begin so.
    unwelcome: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Content {
    /// What reads see.
    cache: Vec<u8>,
    /// What is on the medium.
    durable: Vec<u8>,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<usize>,
    /// In which sync of the file each sector was last written to the medium.
    written_in: BTreeMap<usize, u64>,
    /// Syncs of the file that wrote something.
    syncs: u64,
}

impl SimDisk {
    /// An empty folder.
    #[must_use]
    pub fn new(prng: Prng) -> Self {
        let state = State {
            prng,
            life: 0,
            files: BTreeMap::new(),
            file_next: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            sync_fails_next: false,
            capacity: None,
            changes_left: None,
            last_name: None,
            unwelcome: None,
        };
        Self { state: Arc::new(Mutex::new(state)), life: 0 }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.locked();
        if state.life == self.life && state.changes_left != Some(0) {
            Ok(state)
        } else {
            Err(io::Error::other("the process that opened this is gone"))
        }
    }

    /// A change of the disk; it may be the one at which the power is lost.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.alive()?;
        if let Some(left) = &mut state.changes_left {
            *left -= 1;
            if *left == 0 {
                return Err(io::Error::other("the power is lost"));
            }
        }
        Ok(state)
    }

    /// The power will be lost at the change after so many more: from then on everything fails.
    pub fn lose_power_after(&self, changes: u64) {
        self.locked().changes_left = Some(changes + 1);
    }

    /// The power will be lost right after a file was given a name that begins so, and before anything makes
    /// that durable.
    pub fn lose_power_after_naming(&self, beginning: &'static str) {
        self.locked().last_name = Some(beginning);
    }

    /// The power will not be lost after all.
    pub fn keep_power(&self) {
        let mut state = self.locked();
        state.last_name = None;
        state.changes_left.take_if(|left| *left > 0);
    }

    /// Whether the power was lost at a change, and nobody has noticed yet.
    #[must_use]
    pub fn has_lost_power(&self) -> bool {
        self.locked().changes_left == Some(0)
    }

    /// The process ended, the machine did not: what was written stays readable, synced or not,
    /// except that pages which a failed sync left clean may be dropped from memory.
    #[must_use]
    pub fn end_process(&self) -> Self {
        let mut state = self.locked();
        state.life += 1;
        (state.changes_left, state.last_name) = (None, None);
        state.sync_fails_next = false;
        let evict = state.prng.chance(1, 2);
        if evict {
            for content in state.files.values_mut() {
                content.evict_clean();
            }
        }
        Self { state: Arc::clone(&self.state), life: state.life }
    }

    /// The machine lost power: of what was not synced, any part may be gone.
    #[must_use]
    pub fn lose_power(&self) -> Self {
        let mut state = self.locked();
        state.life += 1;
        (state.changes_left, state.last_name) = (None, None);
        state.sync_fails_next = false;
        let State { prng, files, names, durable_names, unsynced_names, .. } = &mut *state;
        let kept = prng.below(unsynced_names.len() as u64 + 1) as usize;
        if kept > 0 {
            durable_names.clone_from(&unsynced_names[kept - 1]);
        }
        unsynced_names.clear();
        names.clone_from(durable_names);
        let named: BTreeSet<u64> = names.values().copied().collect();
        files.retain(|id, _| named.contains(id));
        for content in files.values_mut() {
            content.lose_power(prng);
        }
        Self { state: Arc::clone(&self.state), life: state.life }
    }

    /// The folder was emptied by mistake, or the disk was replaced.
    #[must_use]
    pub fn wipe(&self) -> Self {
        let mut state = self.locked();
        state.life += 1;
        (state.changes_left, state.last_name) = (None, None);
        state.files.clear();
        state.names.clear();
        state.durable_names.clear();
        state.unsynced_names.clear();
        Self { state: Arc::clone(&self.state), life: state.life }
    }

    /// The next sync of a file fails.
    pub fn fail_next_sync(&self) {
        self.locked().sync_fails_next = true;
    }

    /// From now on files cannot grow (`true`), or they can again (`false`).
    pub fn set_full(&self, full: bool) {
        let mut state = self.locked();
        state.capacity = full.then(|| state.len());
    }

    /// From now on there is no room for new files whose names begin so; with `None`, there is for all.
    pub fn refuse_new(&self, beginning: Option<&'static str>) {
        self.locked().unwelcome = beginning;
    }

    /// Flips one bit of what is on the medium, in a sector that a later sync of the same file has
    /// left behind (so that the damage can be told from a torn tail), or of a file that `is_whole` (so
    /// that any damage shows): the last such sector, or any. Returns the file and the offset, or `None` where there is no such sector.
    pub fn rot(
        &self,
        last: bool,
        wanted: impl Fn(&str) -> bool,
        is_whole: impl Fn(&str) -> bool,
    ) -> Option<(String, u64)> {
        let mut state = self.locked();
        let State { prng, files, names, durable_names, .. } = &mut *state;
        let mut places = Vec::new();
        for (name, id) in names.iter().filter(|(name, id)| durable_names.get(*name) == Some(*id)) {
            let Some(content) = files.get(id).filter(|_| wanted(name)) else { continue };
            for (&sector, &sync) in &content.written_in {
                let used = Content::sector(&content.durable, sector).iter().any(|byte| *byte != 0);
                let settled = sync < content.syncs || is_whole(name);
                if used && settled && !content.dirty.contains(&sector) {
                    places.push((name.clone(), *id, sector));
                }
            }
        }
        let place = if last { places.last() } else { prng.pick(&places) };
        let (name, id, sector) = place?.clone();
        let content = files.get_mut(&id)?;
        let bytes = content.durable.get(sector * SECTOR..)?;
        let used: Vec<usize> = (0..bytes.len().min(SECTOR)).filter(|&at| bytes[at] != 0).collect();
        let at = sector * SECTOR + *prng.pick(&used)?;
        let bit = 1 << prng.below(8);
        content.durable[at] ^= bit;
        content.cache[at] = content.durable[at];
        Some((name, at as u64))
    }
}

impl State {
    fn len(&self) -> u64 {
        self.files.values().map(|content| content.cache.len() as u64).sum()
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn content(&mut self, id: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&id).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn names_changed(&mut self) {
        self.unsynced_names.push(self.names.clone());
    }

    /// Makes room for `id` to grow to `len` bytes.
    fn grow(&mut self, id: u64, len: u64) -> io::Result<()> {
        let total = self.len();
        let capacity = self.capacity;
        let more = len.saturating_sub(self.content(id)?.cache.len() as u64);
        if more == 0 {
            return Ok(());
        }
        if capacity.is_some_and(|capacity| total + more > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.content(id)?.cache.resize(len, 0);
        Ok(())
    }
}

impl Content {
    fn sector(bytes: &[u8], sector: usize) -> &[u8] {
        let start = (sector * SECTOR).min(bytes.len());
        &bytes[start..(start + SECTOR).min(bytes.len())]
    }

    /// Copies a sector from the cache to the medium, as far as the medium's length goes.
    fn write_out(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.cache.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.cache[start..end]);
            self.written_in.insert(sector, self.syncs);
        }
    }

    fn sync(&mut self) {
        if !self.dirty.is_empty() {
            self.syncs += 1;
        }
        self.durable.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.write_out(sector);
        }
    }

    /// Some sectors reach the medium, some do not, and all of them look clean afterwards.
    fn sync_failing(&mut self, prng: &mut Prng) {
        let mode = prng.below(3);
        for sector in std::mem::take(&mut self.dirty) {
            if mode == 2 && prng.chance(1, 2) {
                self.write_out(sector);
            }
        }
    }

    fn evict_clean(&mut self) {
        let sectors = self.cache.len().div_ceil(SECTOR);
        for sector in (0..sectors).filter(|sector| !self.dirty.contains(sector)) {
            let start = sector * SECTOR;
            let medium = Self::sector(&self.durable, sector);
            let end = (start + SECTOR).min(self.cache.len());
            let (kept, zeroed) = self.cache[start..end].split_at_mut(medium.len().min(end - start));
            kept.copy_from_slice(&medium[..kept.len()]);
            zeroed.fill(0);
        }
    }

    fn lose_power(&mut self, prng: &mut Prng) {
        if self.cache.len() > self.durable.len() && prng.chance(1, 2) {
            self.durable.resize(self.cache.len(), 0);
        }
        let dirty = std::mem::take(&mut self.dirty);
        let mode = prng.below(4);
        let first = prng.below(dirty.len() as u64 + 1) as usize;
        for (at, sector) in dirty.into_iter().enumerate() {
            let survives = match mode {
                0 => false,
                1 => true,
                2 => at < first,
                _ => prng.chance(1, 2),
            };
            if survives {
                self.write_out(sector);
            }
        }
        self.cache.clone_from(&self.durable);
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.changing()?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if state.unwelcome.is_some_and(|beginning| name.starts_with(beginning)) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let id = state.file_next;
        state.file_next += 1;
        state.files.insert(id, Content::default());
        state.names.insert(name.to_owned(), id);
        state.names_changed();
        Ok(SimFile { disk: self.clone(), id })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let id = self.alive()?.id(name)?;
        Ok(SimFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let id = state.id(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        state.names_changed();
        if state.last_name.is_some_and(|beginning| to.starts_with(beginning)) {
            state.changes_left = Some(0);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        state.id(name)?;
        state.names.remove(name);
        state.names_changed();
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.changing()?;
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| named.contains(id));
        Ok(())
    }
}

/// An open file of a [`SimDisk`].
#[derive(Clone, Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.content(self.id)?.cache.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.alive()?;
        let content = state.content(self.id)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.cache.len());
        let bytes = &content.cache[start..];
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.changing()?;
        if bytes.is_empty() {
            return Ok(());
        }
        state.grow(self.id, offset + bytes.len() as u64)?;
        let content = state.content(self.id)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        content.cache[start..start + bytes.len()].copy_from_slice(bytes);
        content.dirty.extend(start / SECTOR..=(start + bytes.len() - 1) / SECTOR);
        Ok(())
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.disk.changing()?.grow(self.id, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.changing()?;
        let fails = std::mem::take(&mut state.sync_fails_next);
        let State { prng, files, .. } = &mut *state;
        let Some(content) = files.get_mut(&self.id) else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        if fails {
            content.sync_failing(prng);
            return Err(io::Error::other("the disk did not take what was written"));
        }
        content.sync();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
        let file = disk.open(name).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        Some(bytes)
    }

    fn disk(seed: u64) -> SimDisk {
        let disk = SimDisk::new(Prng::new(seed));
        let mut file = disk.create("a").unwrap();
        file.write_at(0, &[1; 2048]).unwrap();
        file.sync().unwrap();
        disk.sync_folder().unwrap();
        disk
    }

    #[test]
    fn what_was_synced_survives_and_of_the_rest_any_part_may_be_lost() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = disk(seed);
            disk.open("a").unwrap().write_at(512, &[2; 1024]).unwrap();
            let bytes = content(&disk.lose_power(), "a").expect("the file was synced");
            assert_eq!(bytes[..512], [1; 512], "what was synced and not touched again");
            assert_eq!(bytes[1536..], [1; 512], "likewise behind it");
            outcomes.insert((bytes[512], bytes[1024]));
        }
        assert_eq!(outcomes.len(), 4, "each sector survives or not: {outcomes:?}");
    }

    #[test]
    fn a_process_that_ends_leaves_what_it_wrote() {
        let disk = disk(1);
        disk.open("a").unwrap().write_at(0, &[3; 512]).unwrap();
        let after = disk.end_process();
        assert_eq!(content(&after, "a").unwrap()[..512], [3; 512], "still in memory");
        assert!(disk.open("a").is_err(), "handles of the old process are dead");
    }

    #[test]
    fn names_are_durable_only_after_the_folder_was_synced() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..64 {
            let disk = disk(seed);
            let mut file = disk.create("b").unwrap();
            file.write_at(0, &[4; 10]).unwrap();
            file.sync().unwrap();
            disk.rename("b", "a").unwrap();
            let after = disk.lose_power();
            let a = content(&after, "a").expect("a rename replaces, it never removes");
            outcomes.insert((a[0], content(&after, "b").is_some()));
        }
        let expected = BTreeSet::from([(1, false), (1, true), (4, false)]);
        assert_eq!(outcomes, expected, "nothing, the creation alone, or both");
    }

    #[test]
    fn the_power_can_be_lost_between_a_name_and_its_sync() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..16 {
            let disk = disk(seed);
            disk.lose_power_after_naming("b");
            disk.rename("a", "c").unwrap();
            disk.rename("c", "b-1").expect("the last thing that is done");
            assert!(disk.has_lost_power() && disk.sync_folder().is_err());
            let after = disk.lose_power();
            outcomes.insert(after.list().unwrap());
            after.rename(&after.list().unwrap()[0], "b-2").unwrap();
            assert!(!after.has_lost_power(), "once");
        }
        let names = ["a", "b-1", "c"].map(|name| vec![name.to_owned()]);
        assert_eq!(outcomes, BTreeSet::from(names));
    }

    #[test]
    fn after_a_failed_sync_pages_look_clean_until_the_power_is_lost() {
        let mut lost = 0;
        for seed in 0..64 {
            let disk = disk(seed);
            let mut file = disk.open("a").unwrap();
            file.write_at(0, &[5; 512]).unwrap();
            disk.fail_next_sync();
            assert!(file.sync().is_err(), "told once");
            assert_eq!(content(&disk, "a").unwrap()[0], 5, "reads back fine");
            assert!(file.sync().is_ok(), "and a second try even claims success");
            lost += usize::from(content(&disk.lose_power(), "a").unwrap()[0] == 1);
        }
        assert!(lost > 32, "yet mostly it is gone: {lost} of 64");
    }

    #[test]
    fn rot_hits_only_what_a_later_sync_left_behind() {
        let disk = disk(9);
        assert_eq!(
            disk.rot(false, |_| true, |_| false),
            None,
            "the last group cannot be told from a tail"
        );
        let mut file = disk.open("a").unwrap();
        file.write_at(512, &[6; 512]).unwrap();
        file.sync().unwrap();
        let before = content(&disk, "a").unwrap();
        let (name, offset) = disk.rot(false, |_| true, |_| false).expect("three sectors qualify");
        let after = content(&disk.lose_power(), "a").unwrap();
        let changed: Vec<usize> = (0..before.len()).filter(|&i| before[i] != after[i]).collect();
        assert_eq!((name.as_str(), changed), ("a", vec![offset as usize]), "exactly one byte");
        assert_ne!(offset as usize / SECTOR, 1, "not in the last group");
    }

    #[test]
    fn there_may_be_no_room_for_some_files_only() {
        let disk = disk(4);
        disk.refuse_new(Some("checkpoint-"));
        let error = disk.create("checkpoint-7.tmp").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(disk.create("log-2").is_ok(), "others are welcome");
        disk.refuse_new(None);
        assert!(disk.create("checkpoint-7.tmp").is_ok(), "room again");
    }

    #[test]
    fn a_full_disk_refuses_to_grow_and_takes_what_was_reserved() {
        let disk = disk(3);
        let mut file = disk.open("a").unwrap();
        file.allocate(4096).unwrap();
        disk.set_full(true);
        assert!(file.write_at(2048, &[7; 2048]).is_ok(), "reserved space");
        let error = file.allocate(8192).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "no more");
        disk.set_full(false);
        assert!(file.allocate(8192).is_ok(), "room again");
    }
}
