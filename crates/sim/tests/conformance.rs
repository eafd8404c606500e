//! The suite that every disk under the log must pass, on the simulated one.

use mainstay_model::Prng;
use mainstay_sim::disk::SimDisk;
use mainstay_storage::conformance::{Place, tests};

struct Simulated(SimDisk);

impl Place for Simulated {
    type Disk = SimDisk;

    fn open(&mut self) -> SimDisk {
        self.0 = self.0.end_process();
        self.0.clone()
    }
}

#[test]
fn the_simulated_disk_conforms() {
    let tests = tests::<Simulated>();
    assert!(tests.len() > 20, "the suite is there");
    for (seed, (name, test)) in (1..).zip(tests) {
        println!("{name}");
        test(&mut Simulated(SimDisk::new(Prng::new(seed))));
    }
}
