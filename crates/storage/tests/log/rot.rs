//! Random records, then one flipped bit anywhere: the log is refused, or what comes back is a prefix
//! that holds everything the log knows to be synced. It never gives back anything else.

use crate::twin::{self, Action, Twin, actions, options};
use mainstay_model::plant::Planted;
use mainstay_model::{GroupId, NoPlants, Plant, Plants, Prng, Slot};
use mainstay_storage::{
    Disk, DiskFile, Log, LogOptions, MemoryDisk, OnDamage, OpenError, ReadError,
};
use proptest::prelude::*;

/// Flips a bit of a byte that is not zero, in the file and near the place chosen; false where there
/// is none.
fn flip(disk: &MemoryDisk, file: usize, place: usize, bit: u8) -> bool {
    let names = disk.list().expect("list");
    let mut file = disk.open(&names[file % names.len()]).expect("open");
    let mut bytes = vec![0; file.len().expect("length") as usize];
    file.read_at(0, &mut bytes).expect("read");
    let used: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let Some(&at) = used.get(place % used.len().max(1)) else {
        return false;
    };
    let flipped = bytes[at] ^ (1 << (bit % 8));
    file.write_at(at as u64, &[flipped]).expect("write");
    file.sync().expect("sync");
    true
}

fn check<P: Plants>(
    disk: MemoryDisk,
    twin: &mut Twin,
    on_damage: OnDamage,
    plants: P,
) -> Result<(), TestCaseError> {
    let opened = Log::open(disk, LogOptions { on_damage, ..options() }, plants);
    let (log, recovered) = match opened {
        Ok(opened) => opened,
        Err(OpenError::Damaged(_) | OpenError::Foreign { .. } | OpenError::NewerFormat { .. }) => {
            return Ok(());
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    let count = recovered.promised.round as usize;
    prop_assert!(count >= twin.known, "{count} came back, {} are known", twin.known);
    // What was given up last, with nothing written since, looks like a tail, too.
    let upto = recovered.truncated_upto;
    prop_assert!(upto >= twin.truncated_known && upto <= twin.truncated_upto);
    twin.truncated_upto = upto;
    let expected = twin.recovered(count);
    prop_assert_eq!(recovered.decided_upto, expected.decided_upto);
    let is_uncertain = |slot: Slot| recovered.uncertain.iter().any(|range| range.contains(slot));
    prop_assert!(on_damage == OnDamage::Report || recovered.uncertain.is_empty());
    for (slot, entry) in &expected.accepted {
        let found = recovered.accepted.get(slot);
        prop_assert!(found == Some(entry) || found.is_none() && is_uncertain(*slot));
    }
    prop_assert!(recovered.accepted.keys().all(|slot| expected.accepted.contains_key(slot)));
    for (slot, entry) in twin.entries(count) {
        match log.read(GroupId::FIRST, slot, slot, 1) {
            Ok(read) if read.is_empty() => prop_assert!(is_uncertain(slot)),
            Ok(read) => prop_assert_eq!(&read[0], &entry),
            Err(ReadError::Damaged(_)) => prop_assert!(is_uncertain(slot)),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_flipped_bit_never_changes_what_was_synced(
        actions in actions(),
        (file, place, bit) in any::<(usize, usize, u8)>(),
        report in any::<bool>(),
        power in any::<Option<u64>>(),
    ) {
        let (disk, mut twin) = twin::run(&actions, NoPlants)?;
        if let Some(seed) = power {
            // What said that records were synced may be lost with the tail.
            disk.lose_power(&mut Prng::new(seed));
            twin.known = 0;
            twin.truncated_known = Slot::NONE;
        }
        flip(&disk, file, place, bit);
        let on_damage = if report { OnDamage::Report } else { OnDamage::Refuse };
        check(disk, &mut twin, on_damage, NoPlants)?;
    }
}

#[test]
fn damage_taken_for_a_tail_is_noticed() {
    let mut actions = Vec::new();
    for _ in 0..3 {
        actions.extend([Action::Append(vec![(3, 0, 100)]), Action::Sync]);
    }
    let found = |plant| {
        let failed = |place| {
            let (disk, mut twin) = twin::run(&actions, NoPlants).expect("no crash, no failure");
            assert!(flip(&disk, 0, place, 0));
            check(disk, &mut twin, OnDamage::Refuse, Planted(plant)).is_err()
        };
        (0..300).filter(|&place| failed(place)).count()
    };
    assert!(found(Some(Plant::DamageTakenForTail)) > 100);
    assert_eq!(found(None), 0);
}
