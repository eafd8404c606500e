//! Every harness under arbitrary bytes and under golden bytes that were damaged: what the targets of
//! cargo-fuzz do for hours, for a second in every run of the checks.

use std::fs;
use std::path::Path;

use mainstay_fuzz::{HARNESSES, Harness};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// One change to bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 1u8..).prop_map(|(at, with)| Damage::Flip(at, with)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), proptest::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        match damage {
            Damage::Flip(at, with) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            Damage::Flip(..) => {}
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Damage::Insert(at, with) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, with.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let from = from.index(bytes.len() + 1);
                let to = from + to.index(bytes.len() - from + 1);
                let piece = bytes[from..to].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

fn run(harness: &Harness, cases: u32) {
    let config = Config { cases, source_file: Some(file!()), ..Config::default() };
    let seeds = harness.seeds();
    let of_seed = (any::<Index>(), proptest::collection::vec(damage(), 1..6))
        .prop_map(move |(seed, damages)| damaged(seed.get(&seeds).clone(), &damages));
    let any_bytes = proptest::collection::vec(any::<u8>(), 0..600);
    let bytes = prop_oneof![3 => of_seed, 1 => any_bytes];
    let run = |bytes: Vec<u8>| {
        (harness.run)(&bytes);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&bytes, run) {
        panic!("{}: {error}", harness.name);
    }
}

/// Three tests, so that they run beside one another.
#[test]
fn nothing_that_a_connection_brings_brings_a_decoder_down() {
    let connections = ["frames", "peers", "clients", "redis"];
    let harnesses = HARNESSES.iter().filter(|harness| connections.contains(&harness.name));
    harnesses.for_each(|harness| run(harness, 3000));
}

#[test]
fn nothing_on_a_disk_brings_a_decoder_down() {
    HARNESSES.iter().filter(|harness| harness.name == "disk").for_each(|harness| run(harness, 300));
}

#[test]
fn no_file_of_a_user_brings_a_decoder_down() {
    let files = ["store", "configuration"];
    let harnesses = HARNESSES.iter().filter(|harness| files.contains(&harness.name));
    harnesses.for_each(|harness| run(harness, 1000));
}

#[test]
fn golden_bytes_pass_and_are_there_for_each() {
    for harness in HARNESSES {
        let seeds = harness.seeds();
        assert!(!seeds.is_empty(), "{}", harness.name);
        seeds.iter().for_each(|seed| (harness.run)(seed));
    }
}

#[test]
fn every_harness_has_a_target_of_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let manifest = fs::read_to_string(folder.join("../Cargo.toml")).unwrap();
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut known: Vec<&str> = HARNESSES.iter().map(|harness| harness.name).collect();
    known.sort_unstable();
    assert_eq!(names, known);
    assert!(known.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))));
}
