//! The suite that every disk must pass, on the real folder and on the one in memory.

use mainstay_storage::conformance::{self, Place};
use mainstay_storage::{MemoryDisk, RealDisk};

struct RealPlace(tempfile::TempDir);

impl Place for RealPlace {
    type Disk = RealDisk;
    fn open(&mut self) -> RealDisk {
        RealDisk::open(self.0.path()).expect("the folder opens")
    }
}

struct MemoryPlace(MemoryDisk);

impl Place for MemoryPlace {
    type Disk = MemoryDisk;
    fn open(&mut self) -> MemoryDisk {
        self.0.clone()
    }
}

#[test]
fn a_real_folder_conforms() {
    conformance::run(|| RealPlace(tempfile::tempdir().expect("a folder")));
}

#[test]
fn a_folder_in_memory_conforms() {
    conformance::run(|| MemoryPlace(MemoryDisk::default()));
}
