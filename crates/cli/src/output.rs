//! What the program prints, told apart by who reads it.
//!
//! Standard output may be closed by its reader (`mainstay status | head -1`): that reader wants no
//! more, and nothing failed. It may also be full: then the reader lacks something, and the command
//! says so. Neither is a panic, which is what `println!` would make of it.

use std::io::{self, Write};

use crate::failure::Failure;

/// A line on standard output.
///
/// # Errors
/// [`Failure::failed`] where it could not be written for another reason than a reader who left.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    write_line(&mut io::stdout().lock(), line)
}

fn write_line(to: &mut impl Write, line: &str) -> Result<(), Failure> {
    match writeln!(to, "{line}").and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!(
            "could not write to standard output ({error}); all else was done as asked"
        ))),
        _ => Ok(()),
    }
}

/// A line on standard error. Nobody is left to tell if even this cannot be written.
pub(crate) fn warn(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_left_is_no_failure_and_a_full_disk_is_one() {
        assert_eq!(write_line(&mut Fails(io::ErrorKind::BrokenPipe), "line"), Ok(()));
        let failure = write_line(&mut Fails(io::ErrorKind::StorageFull), "line").unwrap_err();
        assert_eq!(failure.code, crate::failure::FAILED);
        assert!(failure.sentence.contains("standard output"), "{failure}");
    }
}
