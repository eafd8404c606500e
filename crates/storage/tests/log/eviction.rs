//! Bytes that a failed sync left in memory may be dropped from it at any moment, between two readings
//! of a file too ("Can applications recover from fsync failures?", Rebello et al., ATC 2020).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_model::NoPlants;
use mainstay_storage::{Disk, DiskFile, Log, MemoryDisk, OpenError};

use crate::twin::{Action, options, run};

/// A folder that forgets the bytes of the first segment from `place` on after `reads` more reads.
#[derive(Clone, Debug)]
struct Evicting {
    inner: MemoryDisk,
    place: u64,
    reads: Arc<AtomicU64>,
}

#[derive(Debug)]
struct EvictingFile {
    inner: <MemoryDisk as Disk>::File,
    disk: Evicting,
}

const FILE: &str = "log-0000000001";

impl Evicting {
    /// True for one caller, after as many calls as were set.
    fn is_due(&self) -> bool {
        self.reads.fetch_sub(1, Ordering::Relaxed) == 0
    }

    fn evict(&self, of: &MemoryDisk) -> io::Result<()> {
        let mut file = of.open(FILE)?;
        let len = file.len()?.saturating_sub(self.place);
        file.write_at(self.place, &vec![0; len as usize])?;
        file.sync()
    }
}

impl Disk for Evicting {
    type File = EvictingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn create(&self, name: &str) -> io::Result<EvictingFile> {
        Ok(EvictingFile { inner: self.inner.create(name)?, disk: self.clone() })
    }
    fn open(&self, name: &str) -> io::Result<EvictingFile> {
        Ok(EvictingFile { inner: self.inner.open(name)?, disk: self.clone() })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if to == FILE {
            // The bytes that could be forgotten are gone, and their copy is synced.
            self.reads.store(u64::MAX, Ordering::Relaxed);
        }
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.inner.sync_folder()
    }
}

impl DiskFile for EvictingFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.disk.is_due() {
            self.disk.evict(&self.disk.inner)?;
        }
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }
    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()
    }
}

#[test]
fn what_is_told_at_start_is_what_was_written_anew() {
    let actions =
        [Action::Append(vec![(3, 0, 600)]), Action::Sync, Action::Append(vec![(3, 1, 90)])];
    let (mut told, mut refused) = (0, 0);
    for reads in 0..40 {
        let (inner, _) = run(&actions, NoPlants).expect("nothing fails");
        // The second record: its head begins behind the first one, 128 bytes and a value of 616.
        let place = 8192 + 128 + 616;
        let disk = Evicting { inner: inner.clone(), place, reads: Arc::new(AtomicU64::new(reads)) };
        match Log::open(disk, options(), NoPlants) {
            Ok((log, recovered)) => {
                drop(log);
                let again = Log::open(inner, options(), NoPlants).expect("it opens again").1;
                assert_eq!(recovered, again, "forgotten after {reads} reads");
                told += 1;
            }
            Err(OpenError::Io { file, .. }) => {
                assert_eq!(file, FILE);
                let again = Log::open(inner, options(), NoPlants).expect("the next start is well");
                assert_eq!(again.1.accepted.len(), 1);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(told > 0 && refused > 0, "{told} told, {refused} refused");
}
