//! What only a real folder can show: locks, permissions, the limits of the operating system.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mainstay_model::{ClusterId, GroupId, NoPlants, ReplicaId, Slot};
use mainstay_storage::{
    CheckpointOptions, Checkpoints, Disk, DiskFile, Log, LogOptions, OpenError, RealDisk,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = folder();
    let disk = RealDisk::open(folder.path()).expect("the first opens it");
    let error = RealDisk::open(folder.path()).expect_err("the second is refused");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(disk);
    RealDisk::open(folder.path()).expect("the next one opens it");
}

#[test]
fn a_folder_stays_locked_while_its_log_is_open() {
    let folder = folder();
    let options = LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        ..LogOptions::new(ClusterId(1), ReplicaId::default())
    };
    let disk = RealDisk::open(folder.path()).expect("open");
    let (log, _) = Log::open(disk, options, NoPlants).expect("open");
    assert!(matches!(RealDisk::open(folder.path()), Err(OpenError::Locked { .. })));
    drop(log);
    RealDisk::open(folder.path()).expect("the log has let go");
}

#[test]
fn a_folder_stays_locked_while_any_handle_lives_on_any_thread() {
    let folder = folder();
    let disk = RealDisk::open(folder.path()).expect("open");
    let options = LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        ..LogOptions::new(ClusterId(1), ReplicaId::default())
    };
    let (log, _) = Log::open(disk.clone(), options, NoPlants).expect("open");
    let of_group = CheckpointOptions::new(ClusterId(1), GroupId::FIRST, 1);
    let (checkpoints, _) = Checkpoints::open(disk, of_group).expect("open");
    let written = std::thread::spawn(move || {
        let mut writer = checkpoints.writer(Slot(1), checkpoints.life()).expect("a writer");
        writer.write_all(b"state").expect("it is written");
        writer.finish(1).expect("it is finished");
        checkpoints
    });
    let checkpoints = written.join().expect("the thread ends");
    drop(log);
    assert!(matches!(RealDisk::open(folder.path()), Err(OpenError::Locked { .. })));
    drop(checkpoints);
    RealDisk::open(folder.path()).expect("all have let go");
}

#[test]
fn a_folder_that_is_missing_is_made_only_on_demand() {
    let folder = folder();
    let path = folder.path().join("deep").join("deeper");
    let error = RealDisk::open(&path).expect_err("there is no folder");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    let disk = RealDisk::create(&path).expect("it is made");
    assert_eq!(disk.path(), path);
    drop(disk);
    RealDisk::create(&path).expect("it is there already");
}

#[test]
fn what_is_no_folder_is_refused_with_its_name() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, b"not a folder").expect("write");
    for error in [RealDisk::open(&path), RealDisk::create(&path)] {
        let error = error.expect_err("it is refused");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_segment_that_is_a_folder_is_told_by_name() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("log-0000000001")).expect("make");
    let disk = RealDisk::open(folder.path()).expect("open");
    let options = LogOptions::new(ClusterId(1), ReplicaId::default());
    let error = Log::open(disk, options, NoPlants).map(|opened| opened.1);
    let error = error.expect_err("it is refused");
    assert!(error.to_string().contains("log-0000000001"), "{error}");
}

#[test]
fn files_behave_as_the_log_expects() {
    let folder = folder();
    let disk = RealDisk::open(folder.path()).expect("open");
    let mut file = disk.create("a").expect("create");
    assert!(disk.create("a").is_err(), "an existing file is not replaced");
    file.allocate(10_000).expect("allocate");
    assert_eq!(file.len().expect("length"), 10_000);
    file.write_at(4_000, b"bytes").expect("write");
    file.allocate(5_000).expect("allocating less changes nothing");
    file.sync().expect("sync");
    let mut buffer = [9; 8];
    assert_eq!(file.read_at(3_999, &mut buffer).expect("read"), 8);
    assert_eq!(&buffer, b"\0bytes\0\0");
    assert_eq!(file.read_at(9_997, &mut buffer).expect("read"), 3);
    assert_eq!(file.read_at(20_000, &mut buffer).expect("read"), 0);
    disk.create("b").expect("create");
    disk.rename("a", "b").expect("a file is renamed over another");
    disk.sync_folder().expect("sync");
    assert_eq!(disk.list().expect("list"), ["b", RealDisk::LOCK]);
    assert_eq!(disk.open("b").expect("open").len().expect("length"), 10_000);
    disk.remove("b").expect("remove");
    assert!(disk.open("b").is_err());
    assert!(!Path::new(&folder.path().join("b")).exists());
}

#[test]
fn an_unreadable_folder_is_told_by_name() {
    let folder = folder();
    let path = folder.path().join("shut");
    std::fs::create_dir(&path).expect("make");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).expect("shut it");
    match RealDisk::open(&path) {
        Err(error) => assert!(error.to_string().contains("shut"), "{error}"),
        Ok(_) => assert!(rustix::process::geteuid().is_root(), "only the superuser may open it"),
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("open it again");
}

/// What is on its way to the disk reads as it was written, wherever the pieces begin and end.
#[test]
fn writing_behind_changes_nothing_that_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = RealDisk::open(folder.path()).expect("it opens");
    let mut file = disk.create("large").expect("a file");
    let (mut at, mut all) = (0, Vec::new());
    for len in [1, 4095, 4096, 4097, 1 << 20, 0, 77] {
        let piece: Vec<u8> = (0..len).map(|byte| (byte * 31 + len) as u8).collect();
        file.write_at(at, &piece).expect("it is written");
        file.write_behind(at, len as u64);
        at += len as u64;
        all.extend(piece);
        let mut read = vec![0; all.len()];
        assert_eq!(file.read_at(0, &mut read).expect("it is read"), all.len());
        assert!(read == all, "up to {at}");
    }
    file.sync().expect("it is synced");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn nobody_else_looks_into_a_folder_or_its_files() {
    let folder = folder();
    let path = folder.path().join("data").join("replica-0");
    let disk = RealDisk::create(&path).expect("it is made");
    disk.create("log-0000000001").expect("a file");
    for folder in [path.parent().expect("a parent"), &path] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    for file in [RealDisk::LOCK, "log-0000000001"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
}
