//! A folder of the operating system.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;

/// A real folder, locked for as long as this lives.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Holds the lock.
    lock: File,
}

/// A real file.
#[derive(Debug)]
pub struct RealFile {
    file: File,
}

impl RealDisk {
    /// The name of the lock file.
    pub const LOCK: &'static str = "lock";

    /// Opens and locks an existing folder.
    ///
    /// # Errors
    /// [`OpenError::Locked`]; those of the operating system.
    pub fn open(_path: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Makes a folder where there is none, then opens and locks it.
    ///
    /// # Errors
    /// Those of [`RealDisk::open`].
    pub fn create(_path: &Path) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        let _ = &self.lock;
        &self.path
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        unimplemented!()
    }
    fn create(&self, _name: &str) -> io::Result<RealFile> {
        unimplemented!()
    }
    fn open(&self, _name: &str) -> io::Result<RealFile> {
        unimplemented!()
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        unimplemented!()
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_folder(&self) -> io::Result<()> {
        unimplemented!()
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        let _ = &self.file;
        unimplemented!()
    }
    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        unimplemented!()
    }
    fn allocate(&mut self, _len: u64) -> io::Result<()> {
        unimplemented!()
    }
    fn sync(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
