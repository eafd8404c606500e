//! Freeing the space of removed files little by little.
//!
//! Where a file system frees a large file in one piece, every sync on the same disk waits until that is
//! done. So only the name of such a file goes at once; its space goes in steps, on a thread of its
//! own. If the process ends before, the system frees the rest. A file that is still open elsewhere in
//! this process waits: whoever reads it reads it to its end.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// How much is freed at a time; a file that is no longer goes at once.
const STEP: u64 = 1 << 20;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(5);

/// Between two looks whether files are still open elsewhere, where all that are left are.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Lives as long as somebody has the file open. To be dropped after that.
pub(super) type InUse = Arc<()>;

/// The files of a folder that have no name any more.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    state: Mutex<State>,
    /// No file is left that can be freed.
    idle: Condvar,
    /// There is something to do, or somebody in haste.
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Which files are open, by their number on the file system.
    open: BTreeMap<u64, Weak<()>>,
    files: VecDeque<Removed>,
    /// Whether the thread runs. It ends when there is nothing left to do.
    at_work: bool,
    /// It is freeing one.
    current: bool,
    /// How many wait for the space.
    in_haste: u32,
}

#[derive(Debug)]
struct Removed {
    file: File,
    number: u64,
}

impl State {
    fn is_free(&self, removed: &Removed) -> bool {
        self.open.get(&removed.number).is_none_or(|in_use| in_use.strong_count() == 0)
    }

    fn freeable(&self) -> bool {
        self.current || self.files.iter().any(|removed| self.is_free(removed))
    }

    /// The next file that nobody reads any more.
    fn next(&mut self) -> Option<Removed> {
        let at = self.files.iter().position(|removed| self.is_free(removed))?;
        self.files.remove(at)
    }
}

impl Freeing {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Lists and flags are valid after every statement that changes them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file is open.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn opened(&self, file: &File) -> io::Result<InUse> {
        let number = file.metadata()?.ino();
        let mut state = self.lock();
        if let Some(in_use) = state.open.get(&number).and_then(Weak::upgrade) {
            return Ok(in_use);
        }
        state.open.retain(|_, in_use| in_use.strong_count() > 0);
        let in_use = InUse::default();
        state.open.insert(number, Arc::downgrade(&in_use));
        Ok(in_use)
    }

    /// Takes over a file whose name is gone.
    pub(super) fn add(self: &Arc<Self>, file: File) {
        let Ok(metadata) = file.metadata() else { return };
        if metadata.len() <= STEP {
            return;
        }
        let mut state = self.lock();
        state.files.push_back(Removed { file, number: metadata.ino() });
        if state.at_work {
            self.wake.notify_all();
            return;
        }
        let freeing = Arc::clone(self);
        let thread = thread::Builder::new().name("freeing".into());
        match thread.spawn(move || freeing.work()) {
            Ok(_) => state.at_work = true,
            // Closing them frees them at once.
            Err(_) => state.files.clear(),
        }
    }

    /// Frees everything that nobody reads as fast as it goes. False if there was nothing to free.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.lock();
        let is_over = |state: &State| !state.at_work || !state.freeable();
        if is_over(&state) {
            return false;
        }
        state.in_haste += 1;
        self.wake.notify_all();
        while !is_over(&state) {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_haste -= 1;
        true
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(removed) = state.next() else {
                self.idle.notify_all();
                if state.files.is_empty() {
                    state.at_work = false;
                    return;
                }
                state = self.pause(state, LOOK_INTERVAL);
                continue;
            };
            state.current = true;
            drop(state);
            self.free(removed.file);
            state = self.lock();
            state.current = false;
        }
    }

    fn free(&self, file: File) {
        let mut len = file.metadata().map_or(0, |file| file.len());
        // A file that cannot be shortened goes at once, when it is closed.
        while len > STEP && file.set_len(len - STEP).is_ok() {
            len -= STEP;
            let state = self.lock();
            if state.in_haste == 0 {
                drop(self.pause(state, PAUSE));
            }
        }
    }

    fn pause<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.wake.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, DiskFile};
    use crate::real::RealDisk;

    const LEN: u64 = 100 * STEP;

    fn removed() -> (tempfile::TempDir, RealDisk, File) {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.create("large").unwrap();
        // Behind the back of the disk, which would wait for it.
        let file = File::options().write(true).open(folder.path().join("large")).unwrap();
        file.set_len(LEN).unwrap();
        disk.remove("large").unwrap();
        assert!(!folder.path().join("large").exists(), "the name goes at once");
        (folder, disk, file)
    }

    #[test]
    fn a_large_file_goes_in_steps() {
        let (_folder, disk, file) = removed();
        let mut lens = vec![file.metadata().unwrap().len()];
        while lens.last() > Some(&STEP) {
            let len = file.metadata().unwrap().len();
            if lens.last() != Some(&len) {
                lens.push(len);
            }
        }
        assert!(lens.len() > 5, "{lens:?}");
        disk.folder.freeing.finish();
        assert!(!disk.folder.freeing.finish(), "nothing is left");
    }

    #[test]
    fn whoever_needs_the_space_gets_it_at_once() {
        let (_folder, disk, file) = removed();
        let before = std::time::Instant::now();
        assert!(disk.folder.freeing.finish());
        assert!(file.metadata().unwrap().len() <= STEP);
        assert!(before.elapsed() < PAUSE * (LEN / STEP) as u32, "it did not hurry");
    }

    #[test]
    fn whoever_reads_a_removed_file_reads_it_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let mut writer = disk.create("large").unwrap();
        writer.allocate(LEN).unwrap();
        let reader = disk.open("large").unwrap();
        disk.remove("large").unwrap();
        drop(writer);
        assert!(!disk.folder.freeing.finish(), "it is read: whoever needs space does not wait");
        disk.create("other").unwrap().allocate(LEN).unwrap();
        disk.remove("other").unwrap();
        assert!(disk.folder.freeing.finish(), "another one is not");
        assert_eq!(reader.len().unwrap(), LEN);
        let file = reader.file.try_clone().unwrap();
        drop(reader);
        let began = std::time::Instant::now();
        while file.metadata().unwrap().len() > STEP {
            assert!(began.elapsed() < Duration::from_secs(30), "it is never freed");
            disk.folder.freeing.finish();
        }
    }
}
