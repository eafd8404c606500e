//! Arbitrary bytes never bring a decoder down.

use mainstay_storage::decode_any;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..9, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(u64::MAX >> 1)]
}

/// The head of a record with plausible fields: the place of each as in docs/protocols/log.md.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let fields = (
        1u16..6,                                       // kind
        0u32..200,                                     // length of the value
        any::<u32>(),                                  // its checksum
        0u32..3,                                       // group
        number(),                                      // synced up to
        number(),                                      // slot
        number(),                                      // decided up to
        proptest::collection::vec(0u8..3, 48),         // configuration, ballot, promise
        prop_oneof![9 => Just(0u8), 1 => any::<u8>()], // reserved
    );
    fields.prop_map(|(kind, len, checksum, group, synced, slot, decided, rest, reserved)| {
        let mut head = vec![0; 128];
        head[6..8].copy_from_slice(&kind.to_le_bytes());
        head[20..24].copy_from_slice(&len.to_le_bytes());
        head[24..28].copy_from_slice(&checksum.to_le_bytes());
        head[28..32].copy_from_slice(&group.to_le_bytes());
        head[40..48].copy_from_slice(&synced.to_le_bytes());
        head[48..56].copy_from_slice(&slot.to_le_bytes());
        head[56..64].copy_from_slice(&decided.to_le_bytes());
        head[64..112].copy_from_slice(&rest);
        head[120] = reserved;
        head.resize(head.len() + (len as usize).next_multiple_of(8), 7);
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        decode_any(&bytes);
    }

    #[test]
    fn bytes_that_look_like_checkpoints(
        fields in proptest::collection::vec(number(), 4),
        sizes in (prop_oneof![Just(512u32), Just(65_536), any::<u32>()], 0u32..5),
        len in 512usize..20_000,
    ) {
        let mut bytes = vec![0; len];
        for (place, field) in (32..).step_by(8).zip(fields) {
            bytes[place..place + 8].copy_from_slice(&field.to_le_bytes());
        }
        bytes[64..68].copy_from_slice(&sizes.0.to_le_bytes());
        bytes[68..72].copy_from_slice(&sizes.0.wrapping_mul(sizes.1).to_le_bytes());
        decode_any(&bytes);
    }

    #[test]
    fn bytes_that_look_like_records(heads in proptest::collection::vec(head(), 1..12)) {
        decode_any(&heads.concat());
    }
}
