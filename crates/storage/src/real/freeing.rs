//! Freeing the space of removed files little by little.
//!
//! Where a file system frees a large file in one piece, every sync on the same disk waits until that is
//! done. So only the name of such a file goes at once; its space goes in steps, on a thread of its
//! own. If the process ends before, the system frees the rest.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How much is freed at a time; a file that is no longer goes at once.
const STEP: u64 = 1 << 20;
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(5);

/// The files of a folder that have no name any more.
#[derive(Debug, Default)]
pub(super) struct Freeing {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: VecDeque<File>,
    /// Whether the thread runs. It ends when there is nothing left to do.
    at_work: bool,
    /// Somebody waits for the space.
    in_haste: bool,
}

impl Freeing {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A list and two flags are valid after every statement that changes them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a file whose name is gone.
    pub(super) fn add(self: &Arc<Self>, file: File) {
        if file.metadata().is_ok_and(|file| file.len() <= STEP) {
            return;
        }
        let mut state = self.lock();
        state.files.push_back(file);
        if state.at_work {
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

    /// Frees everything as fast as it goes. False if there was nothing to free.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.lock();
        if !state.at_work {
            return false;
        }
        while state.at_work {
            state.in_haste = true;
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_haste = false;
        true
    }

    fn work(&self) {
        loop {
            let file = {
                let mut state = self.lock();
                let Some(file) = state.files.pop_front() else {
                    state.at_work = false;
                    self.idle.notify_all();
                    return;
                };
                file
            };
            let mut len = file.metadata().map_or(0, |file| file.len());
            // A file that cannot be shortened goes at once, when it is closed.
            while len > STEP && file.set_len(len - STEP).is_ok() {
                len -= STEP;
                if !self.lock().in_haste {
                    thread::sleep(PAUSE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::real::RealDisk;

    const LEN: u64 = 100 * STEP;

    fn removed() -> (tempfile::TempDir, RealDisk, File) {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        disk.create("large").unwrap();
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
}
