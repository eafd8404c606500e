//! Writes the seeds of every harness to a folder, one folder a harness, for cargo-fuzz to begin with.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use mainstay_fuzz::HARNESSES;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("Usage: cargo run -p mainstay-fuzz -- FOLDER");
        return ExitCode::from(2);
    };
    match write_all(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the seeds could not be written to '{folder}': {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    for harness in HARNESSES {
        let folder = folder.join(harness.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in harness.seeds().iter().enumerate() {
            fs::write(folder.join(format!("golden-{number}")), seed)?;
        }
    }
    Ok(())
}
