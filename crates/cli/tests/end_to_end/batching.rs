//! Requests are ordered as the configuration file says.

use std::fs;
use std::path::Path;

use crate::world::Counters;
use crate::world::by_hand::ByHand;
use crate::world::cluster::REPLICAS;

/// The form of Chai 2009, section 4.1, and a window of one batch: slower, and as safe.
#[test]
fn batches_of_the_fixed_form_lose_nothing_when_the_leader_is_killed() {
    let mut replicas = ByHand::init(Path::new(env!("CARGO_BIN_EXE_mainstay")));
    for index in 0..REPLICAS {
        let path = replicas.folder(index).with_extension("toml");
        let text = fs::read_to_string(&path).expect("a configuration");
        let batching = "[batching]\nform = \"fixed\"\nrequests = 8\nwait_ms = 2\nwindow = 1\n";
        fs::write(&path, format!("{text}\n{batching}")).expect("a configuration");
        replicas.start(index);
    }
    let leader = replicas.wait_until_whole();
    let addresses = (0..REPLICAS).map(|index| replicas.clients_at(index)).collect();
    let counters = Counters::start_at(addresses, 10);
    counters.wait_for_replies(50);
    replicas.kill(leader);
    counters.wait_for_replies(50);
    replicas.start(leader);
    replicas.wait_until_whole();
    counters.wait_for_replies(50);
    println!("{} counted, each once", counters.finish().done());
}
