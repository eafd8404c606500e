//! A disk whose syncs can be made slower, or to stand still, while a process runs: those of
//! `replica --config NAME.toml` take as many milliseconds longer as the file `NAME.sync-delay-ms` says.
//! A program runs over it instead of the shipped one, in which nothing can slow a disk down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_storage::{Disk, DiskFile, RealDisk};

use crate::world::pause;

/// What the name of the file ends with.
const DELAY_ENDING: &str = "sync-delay-ms";
/// How soon a disk that was told to go on does.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// From now on the syncs of the replica with this folder take so much longer; whole hours mean never.
pub(crate) fn slow_down(folder: &Path, delay: Duration) {
    let file = folder.with_extension(DELAY_ENDING);
    // Written beside and renamed: the replica never reads half of it.
    let beside = file.with_extension("new");
    fs::write(&beside, delay.as_millis().to_string()).expect("the delay is written");
    fs::rename(&beside, &file).expect("the delay is in its place");
}

/// The real disk, slowed down.
#[derive(Clone)]
pub(crate) struct SlowDisk {
    inner: RealDisk,
    delay: Arc<Delay>,
}

/// A file of it.
pub(crate) struct SlowFile {
    inner: <RealDisk as Disk>::File,
    delay: Arc<Delay>,
}

/// The file that says how long.
struct Delay(PathBuf);

impl Delay {
    /// Passes when the time is over that the file says by then, so that a disk can be set going again.
    fn pass(&self) {
        let began = Instant::now();
        loop {
            let told = fs::read_to_string(&self.0).unwrap_or_default();
            let millis = told.trim().parse().unwrap_or(0);
            let left = Duration::from_millis(millis).saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            pause(left.min(LOOK_INTERVAL));
        }
    }
}

impl SlowDisk {
    /// Slows down the disk of the replica whose command line this process was given.
    pub(crate) fn new(inner: RealDisk) -> Self {
        let config = std::env::args().skip_while(|argument| argument != "--config").nth(1);
        let file = Path::new(&config.unwrap_or_default()).with_extension(DELAY_ENDING);
        Self { inner, delay: Arc::new(Delay(file)) }
    }

    fn file(&self, inner: <RealDisk as Disk>::File) -> SlowFile {
        SlowFile { inner, delay: Arc::clone(&self.delay) }
    }
}

impl Disk for SlowDisk {
    type File = SlowFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<SlowFile> {
        Ok(self.file(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<SlowFile> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.delay.pass();
        self.inner.sync_folder()
    }
}

impl DiskFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.delay.pass();
        self.inner.sync()
    }
}
