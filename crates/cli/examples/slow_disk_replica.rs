//! The `mainstay` program over a disk whose syncs can be made slower while it runs: those of
//! `replica --config NAME.toml` take as many milliseconds longer as the file `NAME.sync-delay-ms` says.
//! For the experiments beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mainstay_kv::{RedisFront, Store};
use mainstay_storage::{Disk, DiskFile, RealDisk};

fn main() -> ExitCode {
    mainstay_cli::run_over::<Store, RedisFront, _>(SlowDisk::new)
}

#[derive(Clone)]
struct SlowDisk {
    inner: RealDisk,
    delay: Arc<Delay>,
}

struct SlowFile {
    inner: <RealDisk as Disk>::File,
    delay: Arc<Delay>,
}

/// The file that says how long.
struct Delay(PathBuf);

impl Delay {
    fn pass(&self) {
        let told = fs::read_to_string(&self.0).unwrap_or_default();
        let millis = told.trim().parse().unwrap_or(0);
        if millis > 0 {
            thread::sleep(Duration::from_millis(millis));
        }
    }
}

impl SlowDisk {
    fn new(inner: RealDisk) -> Self {
        let config = std::env::args().skip_while(|argument| argument != "--config").nth(1);
        let file = Path::new(&config.unwrap_or_default()).with_extension("sync-delay-ms");
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
