//! Runs seeds: `seeds FIRST COUNT [trace]`.
use mainstay_sim::{RunOptions, run};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let first: u64 = args[1].parse().unwrap();
    let count: u64 = args[2].parse().unwrap();
    let keep_trace = args.get(3).is_some();
    let start = std::time::Instant::now();
    let (mut failures, mut events, mut ops, mut slots, mut sim) = (0, 0, 0, 0, 0.0);
    for seed in first..first + count {
        let report = run(seed, &RunOptions { plant: None, keep_trace });
        for line in &report.trace {
            println!("{line}");
        }
        events += report.events;
        ops += report.operations;
        slots += report.slots;
        sim += report.simulated.as_secs_f64();
        if let Some(v) = report.violation {
            failures += 1;
            println!("seed {seed}: {v}");
        }
    }
    println!(
        "{failures} of {count}, {events} events, {ops} ops, {slots} slots, {sim:.0} s simulated, {:?}",
        start.elapsed()
    );
}
