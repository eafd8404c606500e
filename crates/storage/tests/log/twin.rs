//! A log kept the slow and obvious way, and random use of it.

use std::collections::BTreeMap;

use mainstay_model::{
    Ballot, Batch, ClusterId, ConfigurationId, Entry, GroupId, Plants, Prng, Record, RecordKind,
    Recovered, ReplicaId, Slot, Timestamp,
};
use mainstay_storage::{Log, LogOptions, MemoryDisk};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Append records: for each its kind, how far its slot lies above the watermark, its length.
    Append(Vec<(u8, u8, u16)>),
    Sync,
    Prepare,
    /// Give up what is decided, but for the last so many slots, and keep so many bytes.
    Discard(u8, u16),
    /// A checkpoint replaces everything up to so many slots above the watermark.
    BeginAfter(u8),
    /// The process dies; what it wrote is still in the memory of the operating system.
    Die,
    /// The machine dies.
    LosePower(u64),
    /// The machine dies after so many more changes on its disk, wherever that is.
    LosePowerAfter(u8, u64),
}

pub(crate) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let record = (0u8..4, 0u8..8, prop_oneof![4 => 0u16..400, 1 => 0u16..20_000]);
    let action = prop_oneof![
        6 => proptest::collection::vec(record, 1..6).prop_map(Action::Append),
        4 => Just(Action::Sync),
        1 => Just(Action::Prepare),
        2 => (0u8..4, prop_oneof![3 => Just(0), 1 => 0u16..50_000])
            .prop_map(|(less, keep)| Action::Discard(less, keep)),
        1 => (0u8..6).prop_map(Action::BeginAfter),
        1 => Just(Action::Die),
        1 => any::<u64>().prop_map(Action::LosePower),
        2 => (0u8..30, any::<u64>()).prop_map(|(after, seed)| Action::LosePowerAfter(after, seed)),
    ];
    proptest::collection::vec(action, 1..60)
}

/// What a log should hold, kept the slow and obvious way.
#[derive(Debug, Default)]
pub(crate) struct Twin {
    /// Everything appended and not lost.
    pub(crate) records: Vec<Record>,
    /// How many of them are synced.
    synced: usize,
    /// How many of them the log on disk says are synced, at least.
    pub(crate) known: usize,
    /// Up to where slots were given up.
    pub(crate) truncated_upto: Slot,
    /// Up to where the log on disk says so with more behind it, at least.
    pub(crate) truncated_known: Slot,
    /// Up to where they may have been given up by what was cut short.
    truncated_at_most: Slot,
}

impl Twin {
    /// A record that keeps to the rules: promises grow, and tell how many records there are.
    fn next(&self, (kind, above, len): (u8, u8, u16)) -> Record {
        let count = self.records.len() as u64 + 1;
        let state = self.recovered(self.records.len());
        let promised = Ballot { round: count, leader: ReplicaId::default() };
        let slot = Slot(state.decided_upto.0 + 1 + u64::from(above));
        let requests = vec![vec![count as u8; usize::from(len)].into()];
        let value = Batch { time: Timestamp(count), requests }.encode();
        let entry = Entry { ballot: promised, value };
        let is_next_held = state.accepted.contains_key(&state.decided_upto.next());
        let decided_upto = match kind {
            0 if is_next_held => state.decided_upto.next(),
            _ => state.decided_upto,
        };
        let kind = match kind {
            0 | 1 => RecordKind::Promise,
            2 => RecordKind::Learn { slot, entry },
            _ => RecordKind::Accept { slot, entry },
        };
        let (group, configuration) = (GroupId::FIRST, ConfigurationId(1));
        Record { group, configuration, promised, decided_upto, kind }
    }

    pub(crate) fn recovered(&self, count: usize) -> Recovered {
        let mut recovered = Recovered::default();
        for record in &self.records[..count] {
            recovered.promised = record.promised;
            recovered.decided_upto = record.decided_upto;
            if let RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } =
                &record.kind
            {
                recovered.accepted.insert(*slot, entry.clone());
            }
        }
        recovered.truncated_upto = self.truncated_upto;
        recovered.decided_upto = recovered.decided_upto.max(self.truncated_upto);
        recovered.accepted = recovered.accepted.split_off(&recovered.decided_upto.next());
        recovered
    }

    pub(crate) fn entries(&self, count: usize) -> BTreeMap<Slot, Entry> {
        let mut entries = BTreeMap::new();
        for record in &self.records[..count] {
            if let RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } =
                &record.kind
            {
                entries.insert(*slot, entry.clone());
            }
        }
        entries.split_off(&self.truncated_upto.next())
    }

    /// Carries out and takes note of what gives slots up; false if it failed.
    fn give_up<P: Plants>(
        &mut self,
        action: &Action,
        log: &mut Log<MemoryDisk, P>,
    ) -> Result<bool, TestCaseError> {
        let decided = self.recovered(self.records.len()).decided_upto.0;
        let result = match *action {
            Action::Discard(less, keep) => {
                let upto = Slot(decided.saturating_sub(u64::from(less)));
                self.truncated_at_most = upto.max(self.truncated_upto);
                let before = log.bytes();
                let given_up = log.discard(GroupId::FIRST, upto, u64::from(keep));
                if given_up.is_ok() && log.bytes() < before {
                    prop_assert!(log.bytes() > u64::from(keep));
                    self.synced = self.records.len();
                }
                given_up
            }
            Action::BeginAfter(above) => {
                let slot = Slot(decided + u64::from(above));
                self.truncated_at_most = slot;
                log.begin_after(GroupId::FIRST, slot).map(|()| {
                    if slot > self.truncated_upto {
                        self.synced = self.records.len();
                    }
                    slot
                })
            }
            _ => return Ok(true),
        };
        let Ok(upto) = result else { return Ok(false) };
        prop_assert!(upto >= self.truncated_upto && upto <= self.truncated_at_most);
        prop_assert_eq!(upto, log.truncated_upto(GroupId::FIRST));
        self.truncated_upto = upto;
        self.truncated_at_most = upto;
        Ok(true)
    }

    /// Compares with what a log recovered, and forgets what it lost.
    fn reopened(&mut self, recovered: &Recovered, lost_power: bool) -> Result<(), TestCaseError> {
        let count = recovered.promised.round as usize;
        let least = if lost_power { self.synced } else { self.records.len() };
        prop_assert!(count >= least, "{count} records came back of {least}");
        prop_assert!(count <= self.records.len());
        let upto = recovered.truncated_upto;
        prop_assert!(upto >= self.truncated_upto && upto <= self.truncated_at_most);
        self.truncated_upto = upto;
        self.truncated_at_most = upto;
        // What was given up or superseded may still count, for as long as it stands in a file.
        let held = self.entries(count).into_values().map(|entry| entry.value.time());
        prop_assert!(recovered.time >= held.max().unwrap_or_default());
        let ever = self.records[..count].iter().filter_map(|record| match &record.kind {
            RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } => {
                Some(entry.value.time())
            }
            RecordKind::Promise => None,
        });
        prop_assert!(recovered.time <= ever.max().unwrap_or_default());
        let expected = Recovered { time: recovered.time, ..self.recovered(count) };
        prop_assert_eq!(recovered, &expected);
        self.records.truncate(count);
        // Whatever the log tells of at start, it has made durable.
        self.synced = count;
        self.known = count;
        self.truncated_known = upto;
        Ok(())
    }
}

pub(crate) fn options() -> LogOptions {
    let replica = ReplicaId::default();
    LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        ..LogOptions::new(ClusterId(5), replica)
    }
}

/// Carries out `actions` and checks every restart; returns what is then on the disk, and what a
/// log should find there.
pub(crate) fn run<P: Plants>(
    actions: &[Action],
    plants: P,
) -> Result<(MemoryDisk, Twin), TestCaseError> {
    let disk = MemoryDisk::default();
    let mut twin = Twin::default();
    let (mut log, recovered) = Log::open(disk.clone(), options(), plants).expect("open");
    prop_assert_eq!(recovered, Recovered::default());
    let mut dying = None;
    for action in actions {
        let mut power = None;
        let mut has_failed = false;
        match action {
            Action::Append(shapes) => {
                let from = twin.records.len();
                for &shape in shapes {
                    let record = twin.next(shape);
                    twin.records.push(record);
                }
                has_failed = log.append(&twin.records[from..]).is_err();
                twin.known = twin.synced;
                twin.truncated_known = twin.truncated_upto;
            }
            Action::Sync => match log.sync() {
                Ok(()) => twin.synced = twin.records.len(),
                Err(_) => has_failed = true,
            },
            Action::Prepare => has_failed = log.prepare().is_err(),
            Action::Discard(..) | Action::BeginAfter(_) => {
                has_failed = !twin.give_up(action, &mut log)?;
            }
            Action::LosePowerAfter(after, seed) => {
                disk.fail_after(Some(u64::from(*after)));
                dying = Some(*seed);
            }
            Action::LosePower(seed) => power = Some(*seed),
            Action::Die => {}
        }
        prop_assert!(!has_failed || dying.is_some(), "nothing was made to fail");
        power = power.or(dying.filter(|_| has_failed));
        if power.is_some() || matches!(action, Action::Die) {
            drop(log);
            log = restart(&disk, &mut twin, power, &mut dying, plants)?;
        }
        let entries = twin.entries(twin.records.len());
        for (&slot, entry) in entries.iter().take(1).chain(entries.iter().skip(1).last()) {
            let read = log.read(GroupId::FIRST, slot, slot, 1).expect("read");
            prop_assert_eq!(&read[..], std::slice::from_ref(entry));
        }
        let gone = twin.truncated_upto;
        let read = log.read(GroupId::FIRST, gone, gone, 1).expect("read");
        prop_assert!(read.is_empty(), "slot {gone} was given up");
    }
    drop(log);
    disk.fail_after(None);
    Ok((disk, twin))
}

/// Opens the log after its process died, and its machine too if `power` says how. A machine that is
/// to die in this start does so, and starts once more.
fn restart<P: Plants>(
    disk: &MemoryDisk,
    twin: &mut Twin,
    power: Option<u64>,
    dying: &mut Option<u64>,
    plants: P,
) -> Result<Log<MemoryDisk, P>, TestCaseError> {
    if let Some(seed) = power {
        if *dying == power {
            *dying = None;
            disk.fail_after(None);
        }
        disk.lose_power(&mut Prng::new(seed));
    }
    let mut lost_power = power.is_some();
    let mut reopened = Log::open(disk.clone(), options(), plants);
    if reopened.is_err()
        && let Some(seed) = dying.take()
    {
        disk.fail_after(None);
        disk.lose_power(&mut Prng::new(seed));
        lost_power = true;
        reopened = Log::open(disk.clone(), options(), plants);
    }
    let (log, recovered) = reopened.map_err(|error| TestCaseError::fail(error.to_string()))?;
    twin.reopened(&recovered, lost_power)?;
    Ok(log)
}
