//! What the log needs of a folder of files.

use std::io;

/// A folder of files. Names have no separators.
pub trait Disk: Send + 'static {
    /// An open file of the folder.
    type File: DiskFile;

    /// The names of all files, in ascending order.
    ///
    /// # Errors
    /// Those of the operating system, as for everything below.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a new, empty file; an existing one is an error.
    ///
    /// # Errors
    /// Those of the operating system.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file, over an existing one if there is one. Durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_folder`].
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file.
// Nobody asks whether a file is empty.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Send + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn len(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`, or as much of it as the file holds; returns how much.
    ///
    /// # Errors
    /// Those of the operating system.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`. Durable after [`DiskFile::sync`].
    ///
    /// # Errors
    /// Those of the operating system; how much was written is then unknown.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Has the system begin to write `len` bytes from `offset` on to the disk, and not keep them in
    /// memory: a hint, for a large file that is written once. A later [`DiskFile::sync`] has less to do
    /// then; nothing becomes durable by it.
    fn write_behind(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// Reserves space so that the file has at least `len` bytes, zeros where nothing was written.
    ///
    /// # Errors
    /// Those of the operating system; `StorageFull`, `FileTooLarge` and `QuotaExceeded` mean that
    /// there is no room.
    fn allocate(&mut self, len: u64) -> io::Result<()>;
    /// Makes all that was written, and the length, durable. After an error nothing may be assumed
    /// about any byte written since the last success, now or ever.
    ///
    /// # Errors
    /// Those of the operating system: final.
    fn sync(&mut self) -> io::Result<()>;
}
