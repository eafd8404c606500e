//! A folder of the operating system.

mod freeing;

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::{OpenError, is_no_room};
use freeing::{Freeing, InUse};

/// What is kept for the service belongs to whoever runs it: nobody else reads it, or locks the folder.
const FILE_MODE: u32 = 0o600;
/// See [`FILE_MODE`].
const FOLDER_MODE: u32 = 0o700;

/// A real folder, locked for as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct RealDisk {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Open for as long as the folder is in use: a sync of it must not fail for want of a file descriptor.
    handle: File,
    freeing: Arc<Freeing>,
    /// Holds the lock; the operating system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// A real file.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    freeing: Arc<Freeing>,
    /// Behind `file`: a file that was removed is freed once it is closed.
    _in_use: InUse,
}

impl RealDisk {
    /// The name of the lock file.
    pub const LOCK: &'static str = "lock";

    /// Whether a file or folder of this name is there in a folder that holds nothing yet: its lock, and
    /// what a file system keeps in its top folder.
    #[must_use]
    pub fn is_of_an_empty_folder(name: &OsStr) -> bool {
        name == Self::LOCK || name == "lost+found"
    }

    /// Opens and locks an existing folder.
    ///
    /// # Errors
    /// [`OpenError::Locked`]; those of the operating system.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed =
            |tried| move |source| OpenError::Io { file: path.display().to_string(), tried, source };
        let handle = File::open(path).map_err(failed("open"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(path.join(Self::LOCK))
            .map_err(failed("open the lock of"))?;
        match lock.try_lock() {
            Ok(()) => {
                let (path, freeing) = (path.to_path_buf(), Arc::default());
                let folder = Folder { path, handle, freeing, _lock: lock };
                Ok(Self { folder: Arc::new(folder) })
            }
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::Locked { folder: path.display().to_string() })
            }
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }

    /// Makes the folder, durably, where there is none; then opens and locks it.
    ///
    /// # Errors
    /// Those of [`RealDisk::open`].
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        make_folder(path).map_err(|source| OpenError::Io {
            file: path.display().to_string(),
            tried: "make",
            source,
        })?;
        Self::open(path)
    }

    fn open_with(&self, name: &str, options: &OpenOptions) -> io::Result<RealFile> {
        let freeing = Arc::clone(&self.folder.freeing);
        let path = self.folder.path.join(name);
        let file = with_room(&freeing, || options.open(&path))?;
        let in_use = freeing.opened(&file)?;
        Ok(RealFile { file, freeing, _in_use: in_use })
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder.path
    }
}

/// Makes a folder and every missing one above it, durably; nobody but their owner may look into them.
///
/// # Errors
/// Those of the operating system.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|folder| is_missing(folder)).count();
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    for parent in path.ancestors().skip(1).take(missing) {
        sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}

fn is_missing(folder: &Path) -> bool {
    !folder.as_os_str().is_empty() && !folder.is_dir()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Tries once more where there is no room, but files that were removed are not all freed yet.
fn with_room<T>(freeing: &Freeing, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match attempt() {
        Err(error) if is_no_room(&error) && freeing.finish() => attempt(),
        result => result,
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder.path)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        self.open_with(name, &options)
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let mut options = File::options();
        options.read(true).write(true);
        self.open_with(name, &options)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.path.join(from), self.folder.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.folder.path.join(name);
        let file = File::options().write(true).open(&path);
        std::fs::remove_file(path)?;
        if let Ok(file) = file {
            self.folder.freeing.add(file);
        }
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.handle.sync_all()
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        with_room(&self.freeing, || self.file.write_all_at(bytes, offset))
    }

    fn write_behind(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        if let Some(len) = std::num::NonZeroU64::new(len) {
            // Of pages that are not written yet it begins the writing, and does not wait.
            let advice = rustix::fs::Advice::DontNeed;
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), advice);
        }
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        with_room(&self.freeing, || self.reserve(len))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl RealFile {
    fn reserve(&self, len: u64) -> io::Result<()> {
        let held = self.len()?;
        if len <= held {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
                Ok(()) => break,
                Err(rustix::io::Errno::INTR) => {}
                // A file system that cannot reserve: write the zeros.
                Err(rustix::io::Errno::OPNOTSUPP) => return self.fill(held, len),
                Err(error) => return Err(error.into()),
            }
        }
        if self.len()? < len { self.file.set_len(len) } else { Ok(()) }
    }

    fn fill(&self, from: u64, upto: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < upto {
            let len = (upto - at).min(zeros.len() as u64) as usize;
            self.file.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }
}
