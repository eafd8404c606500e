//! One log file a replica, bounded: when it is full, its older half goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The most bytes of a log file.
const BYTES_MAX: u64 = 4 << 20;
/// The longest line; the rest of a longer one is dropped.
const LINE_LEN_MAX: usize = 8 << 10;

/// A log file that is appended to, line by line.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_bounded(path, BYTES_MAX)
    }

    fn open_bounded(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max })
    }

    /// Appends a line.
    pub(crate) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let mut bytes = line[..line.len().min(LINE_LEN_MAX)].to_vec();
        bytes.push(b'\n');
        if self.bytes + bytes.len() as u64 > self.bytes_max {
            self.drop_older_half()?;
        }
        self.file.write_all(&bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Keeps the newer half, from the beginning of a line on.
    fn drop_older_half(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        let from = self.bytes.saturating_sub(self.bytes_max / 2);
        self.file.seek(SeekFrom::Start(from))?;
        (&self.file).take(self.bytes_max / 2).read_to_end(&mut kept)?;
        let begin = kept.iter().position(|&byte| byte == b'\n').map_or(kept.len(), |at| at + 1);
        let temporary = self.path.with_extension("log.tmp");
        fs::write(&temporary, &kept[begin..])?;
        fs::rename(&temporary, &self.path)?;
        *self = Self::open_bounded(&self.path, self.bytes_max)?;
        Ok(())
    }
}

/// Reads lines of bounded length, as text or not, until the end.
pub(crate) fn lines(mut source: impl Read, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                for &byte in &buffer[..read] {
                    if byte == b'\n' {
                        take(&line);
                        line.clear();
                    } else if line.len() < LINE_LEN_MAX {
                        line.push(byte);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if !line.is_empty() {
        take(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica-0.log");
        let mut log = LogFile::open_bounded(&path, 1000).unwrap();
        for number in 0..500 {
            log.line(format!("line {number}").as_bytes()).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 1000);
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 499\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("line ")), "{text}");
        assert!(text.lines().count() > 40, "{text}");
        drop(log);
        LogFile::open_bounded(&path, 1000).unwrap().line(b"line again").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("line 499\nline again\n"));
    }

    #[test]
    fn lines_are_bounded() {
        let text = [vec![b'x'; 3 * LINE_LEN_MAX], b"\nshort\nlast".to_vec()].concat();
        let mut lengths = Vec::new();
        lines(&text[..], |line| lengths.push(line.len()));
        assert_eq!(lengths, [LINE_LEN_MAX, 5, 4]);
    }
}
