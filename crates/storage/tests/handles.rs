//! A process that has all the file descriptors open that it may have. A program of its own: while it
//! starts another one, nobody beside it may depend on locks.

use mainstay_storage::{Disk, RealDisk};

/// Set in that process.
const OUT_OF_HANDLES: &str = "MAINSTAY_TEST_OUT_OF_HANDLES";

#[test]
fn a_folder_is_synced_by_a_process_that_can_open_nothing() {
    if std::env::var_os(OUT_OF_HANDLES).is_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = RealDisk::open(folder.path()).expect("open");
        drop(disk.create("a").expect("create"));
        let mut open = Vec::new();
        let error = loop {
            match std::fs::File::open(folder.path()) {
                Ok(file) => open.push(file),
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
        disk.rename("a", "b").expect("rename");
        disk.sync_folder().expect("what was opened before can be synced");
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let name = "a_folder_is_synced_by_a_process_that_can_open_nothing";
    let command = format!("ulimit -n 64; exec '{}' --exact {name}", program.display());
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &command]).env(OUT_OF_HANDLES, "1").output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
