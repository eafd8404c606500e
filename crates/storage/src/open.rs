//! Opening a log: telling damage from a torn tail, and making what is left durable anew.
//!
//! A record is *known to be synced* if its sequence is at or below a `synced_upto` found anywhere,
//! in the head of a segment or of a record, before or after it. A bad record that is known to be
//! synced is damage. The first bad record above the highest `synced_upto` begins the tail: it and
//! everything behind it was never promised to anyone, and is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use mainstay_model::{GroupId, Plant, Plants, Slot};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, Meaning, OpenError, is_no_room};
use crate::group::Group;
use crate::index::Location;
use crate::layout::{
    HeadFault, Kind, LOG_VERSION, Owner, RECORDS_START, RecordHead, SEGMENT_HEAD_LEN,
    SEGMENT_HEADS, Salt, SegmentHead, TEMPORARY, segment_name, segment_number,
};
use crate::options::{LogOptions, OnDamage};
use crate::scan::{Found, Walk, evidence};

/// How much is copied at a time.
const COPY_LEN: usize = 1 << 20;

/// A segment that records are appended to, or will be.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) number: u32,
    pub(crate) file: F,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// How many bytes are allocated.
    pub(crate) capacity: u64,
}

/// The highest slot of any record of a segment, for each group that has one there.
pub(crate) type Highest = BTreeMap<GroupId, Slot>;

/// A segment that nothing is appended to any more.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) number: u32,
    /// Bytes used, and bytes allocated.
    pub(crate) bytes: u64,
    pub(crate) allocated: u64,
    pub(crate) highest: Highest,
}

/// A log that has been opened: all of it is durable.
#[derive(Debug)]
pub(crate) struct Opened<F> {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// The segments before the current one, the oldest first.
    pub(crate) closed: VecDeque<Closed>,
    pub(crate) current: Segment<F>,
    pub(crate) highest: Highest,
    /// The sequence of the next record.
    pub(crate) sequence: u64,
    /// The checksum of the last record.
    pub(crate) previous: u32,
}

/// Opens the log of `disk`.
pub(crate) fn open<D: Disk, P: Plants>(
    disk: &D,
    options: &LogOptions,
    plants: P,
) -> Result<Opened<D::File>, OpenError> {
    let owner = options.owner();
    let opening = Opening { disk, options, plants, owner };
    let (leftovers, numbers) = opening.numbers()?;
    let Some(&first) = numbers.first() else {
        return opening.begin();
    };
    let heads = opening.heads(&numbers)?;
    let live = opening.live(&numbers, &heads)?;
    let open_from = live.iter().rposition(|head| head.predecessor_closed).unwrap_or(0);
    let synced_upto = opening.synced_upto(&numbers[open_from..], &live)?;
    let replay = opening.replay(&live, synced_upto)?;
    opening.refuse_damage(first, &replay)?;

    // What lies behind the end goes first, so that it can never be read again; the last one first,
    // so that a start that is cut short leaves no gap.
    for &number in numbers[replay.segments.len()..].iter().rev() {
        opening.remove(&[number])?;
    }
    let current = opening.make_durable(&live, open_from, &replay)?;

    // Now that the record which says so is durable again: what had been given up, and is still here.
    let given_up = numbers.iter().filter(|&&number| number < replay.first_segment);
    let given_up: Vec<u32> = leftovers.into_iter().chain(given_up.copied()).collect();
    opening.remove(&given_up)?;
    opening.opened(current, replay)
}

fn failed(file: &str, tried: &'static str, source: io::Error) -> OpenError {
    OpenError::Io { file: file.to_owned(), tried, source }
}

fn amnesia(segment: u32, offset: u64, found: &'static str) -> OpenError {
    let file = segment_name(segment);
    OpenError::Damaged(Damage { file, offset, found, meaning: Meaning::Amnesia })
}

fn newer(segment: u32, found: u32) -> OpenError {
    let known = u32::from(LOG_VERSION);
    OpenError::NewerFormat { file: segment_name(segment), found, known }
}

/// Reads the head of a segment from whichever of its copies is intact.
fn read_head<F: DiskFile>(file: &F) -> io::Result<Result<SegmentHead, HeadFault>> {
    let mut head = Err(HeadFault::Blank);
    for start in SEGMENT_HEADS {
        let mut bytes = [0; SEGMENT_HEAD_LEN];
        file.read_at(start, &mut bytes)?;
        let copy = SegmentHead::decode(&bytes);
        if copy.is_ok() || head == Err(HeadFault::Blank) {
            head = copy;
        }
        if head.is_ok() {
            break;
        }
    }
    Ok(head)
}

/// What the records of the live segments add up to.
struct Replay {
    groups: BTreeMap<GroupId, Group>,
    sequence: u64,
    previous: u32,
    /// The first segment that is part of the log: those before it were given up.
    first_segment: u32,
    /// The segments up to the end of the log.
    segments: Vec<Replayed>,
}

/// What the records of one segment add up to.
#[derive(Default)]
struct Replayed {
    number: u32,
    /// Where its records end.
    end: u64,
    /// How many of its values are damaged.
    damaged_values: u64,
    highest: Highest,
}

struct Opening<'a, D, P> {
    disk: &'a D,
    options: &'a LogOptions,
    plants: P,
    owner: Owner,
}

impl<D: Disk, P: Plants> Opening<'_, D, P> {
    /// Deletes temporary files; returns the numbers of the segments. Those of the log have no gap; where
    /// there is one, the segments before it were being removed, or one of the log is missing, which
    /// shows later: the log says with which segment it begins.
    fn numbers(&self) -> Result<(Vec<u32>, Vec<u32>), OpenError> {
        let names = self.disk.list().map_err(|source| failed("", "list", source))?;
        let mut numbers = Vec::new();
        let mut removed = false;
        for name in names {
            if name.ends_with(TEMPORARY) {
                self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
                removed = true;
            }
            numbers.extend(segment_number(&name));
        }
        if removed {
            self.disk.sync_folder().map_err(|source| failed("", "sync", source))?;
        }
        numbers.sort_unstable();
        if numbers.is_empty() && self.options.begun {
            return Err(amnesia(1, 0, "it is missing, and with it the whole log"));
        }
        let gap = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1);
        let run = numbers.split_off(gap.map_or(0, |before| before + 1));
        Ok((numbers, run))
    }

    /// Removes segments that are not part of the log.
    fn remove(&self, numbers: &[u32]) -> Result<(), OpenError> {
        for &number in numbers {
            let name = segment_name(number);
            self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
        }
        if numbers.is_empty() {
            return Ok(());
        }
        self.disk.sync_folder().map_err(|source| failed("", "sync", source))
    }

    /// The log as it was replayed, and is now durable.
    fn opened(
        &self,
        current: Segment<D::File>,
        replay: Replay,
    ) -> Result<Opened<D::File>, OpenError> {
        let mut opened = Opened {
            groups: replay.groups,
            closed: VecDeque::new(),
            current,
            highest: Highest::new(),
            sequence: replay.sequence,
            previous: replay.previous,
        };
        for segment in replay.segments {
            let Replayed { number, end: bytes, highest, .. } = segment;
            if number == opened.current.number {
                opened.highest = highest;
            } else if number >= replay.first_segment {
                let name = segment_name(number);
                let file = self.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
                let allocated = file.len().map_err(|source| failed(&name, "read", source))?;
                opened.closed.push_back(Closed { number, bytes, allocated, highest });
            }
        }
        Ok(opened)
    }

    /// Makes the first segment of a new log.
    fn begin(&self) -> Result<Opened<D::File>, OpenError> {
        let head = SegmentHead {
            owner: self.owner,
            number: 1,
            predecessor_closed: true,
            first_sequence: 1,
            synced_upto: 0,
            previous: 0,
        };
        let current = self.replace(&head, None, RECORDS_START)?;
        Ok(Opened {
            groups: BTreeMap::new(),
            closed: VecDeque::new(),
            current,
            highest: Highest::new(),
            sequence: 1,
            previous: 0,
        })
    }

    fn heads(&self, numbers: &[u32]) -> Result<Vec<Result<SegmentHead, HeadFault>>, OpenError> {
        let mut heads = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let name = segment_name(number);
            let file = self.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
            let head = read_head(&file).map_err(|source| failed(&name, "read", source))?;
            match head {
                Ok(head) if head.owner != self.owner => {
                    return Err(OpenError::Foreign {
                        file: name,
                        found: (head.owner.cluster, head.owner.replica),
                        expected: (self.owner.cluster, self.owner.replica),
                    });
                }
                Ok(head) if head.number != number => {
                    return Err(amnesia(number, 0, "it holds another segment"));
                }
                Err(HeadFault::Newer(found)) => return Err(newer(number, found)),
                _ => heads.push(head),
            }
        }
        Ok(heads)
    }

    /// The segments that were ever begun: all up to the last intact head. A bad head before that is
    /// damage, for a successor is begun only after a sync; those after it were prepared, or their
    /// beginning was never synced.
    fn live(
        &self,
        numbers: &[u32],
        heads: &[Result<SegmentHead, HeadFault>],
    ) -> Result<Vec<SegmentHead>, OpenError> {
        let count = heads.iter().rposition(Result::is_ok).map_or(1, |last| last + 1);
        let live = numbers.iter().zip(&heads[..count]);
        live.map(|(&number, head)| {
            head.map_err(|_| amnesia(number, 0, "the head of the segment is unreadable"))
        })
        .collect()
    }

    /// The highest sequence known to be synced, from the heads of all segments and the records of
    /// those in `open`.
    fn synced_upto(&self, open: &[u32], live: &[SegmentHead]) -> Result<u64, OpenError> {
        let mut synced_upto = live.iter().map(|head| head.synced_upto).max().unwrap_or(0);
        for &number in open {
            let name = segment_name(number);
            let file = self.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
            let found = evidence(&file, &Salt::new(self.owner, number))
                .map_err(|source| failed(&name, "read", source))?;
            match found {
                Ok(found) => synced_upto = synced_upto.max(found),
                Err(HeadFault::Newer(found)) => return Err(newer(number, found)),
                Err(HeadFault::Blank | HeadFault::Bad) => {}
            }
        }
        Ok(synced_upto)
    }

    /// Takes note of every record up to the end of the log.
    fn replay(&self, live: &[SegmentHead], synced_upto: u64) -> Result<Replay, OpenError> {
        let mut replay = Replay {
            groups: BTreeMap::new(),
            sequence: live[0].first_sequence,
            previous: live[0].previous,
            first_segment: 1,
            segments: Vec::with_capacity(live.len()),
        };
        for (index, head) in live.iter().enumerate() {
            if head.first_sequence != replay.sequence || head.previous != replay.previous {
                return Err(amnesia(head.number, 0, "it does not continue the file before it"));
            }
            let next = live.get(index + 1);
            let is_whole = self.replay_segment(head, next, synced_upto, &mut replay)?;
            if !is_whole {
                break;
            }
        }
        Ok(replay)
    }

    /// Takes note of the records of one segment; false if the log ends inside it.
    fn replay_segment(
        &self,
        segment: &SegmentHead,
        next: Option<&SegmentHead>,
        synced_upto: u64,
        replay: &mut Replay,
    ) -> Result<bool, OpenError> {
        let number = segment.number;
        let name = segment_name(number);
        let file = self.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
        let salt = Salt::new(self.owner, number);
        let mut walk = Walk::new(&file, salt, replay.sequence, replay.previous);
        let damage_is_tail = self.plants.has(Plant::DamageTakenForTail);
        let mut replayed = Replayed { number, ..Replayed::default() };
        let is_whole = loop {
            if next.is_some_and(|next| next.first_sequence == walk.sequence) {
                break true;
            }
            let is_synced = walk.sequence <= synced_upto && !damage_is_tail;
            match walk.look().map_err(|source| failed(&name, "read", source))? {
                Found::Record { head, checksum, time, value_intact } => {
                    if !value_intact && !is_synced {
                        break false;
                    }
                    replayed.damaged_values += u64::from(!value_intact);
                    let first = walk.first_segment(&head);
                    if let Some(first) = first.map_err(|source| failed(&name, "read", source))? {
                        let is_possible = value_intact && first <= u64::from(number);
                        let found = "a record does not say where the log begins";
                        let named = is_possible.then_some(first as u32);
                        let named = named.ok_or_else(|| amnesia(number, walk.offset, found))?;
                        replay.first_segment = replay.first_segment.max(named);
                    }
                    let location = Location { segment: number, offset: walk.offset };
                    self.note(replay, &head, location, value_intact);
                    if value_intact {
                        let group = replay.groups.entry(head.group).or_default();
                        group.time = group.time.max(time);
                    }
                    if matches!(head.kind, Kind::Accept | Kind::Learn) {
                        let highest = replayed.highest.entry(head.group).or_default();
                        *highest = head.slot.max(*highest);
                    }
                    walk.pass(&head, checksum);
                }
                Found::Nothing(HeadFault::Newer(found)) => return Err(newer(number, found)),
                Found::Nothing(fault) if is_synced => {
                    let found = match fault {
                        HeadFault::Blank => "zeros stand where a record was synced",
                        _ => "the head of a record that was synced is unreadable",
                    };
                    return Err(amnesia(number, walk.offset, found));
                }
                Found::Nothing(_) => break false,
            }
        };
        replay.sequence = walk.sequence;
        replay.previous = walk.previous;
        replayed.end = walk.offset;
        replay.segments.push(replayed);
        Ok(is_whole)
    }

    fn note(&self, replay: &mut Replay, head: &RecordHead, at: Location, value_intact: bool) {
        let damage = (!value_intact).then(|| Damage {
            file: segment_name(at.segment),
            offset: at.offset,
            found: "the checksum of a value does not fit its bytes",
            meaning: Meaning::Uncertain(head.slot),
        });
        let group = replay.groups.entry(head.group).or_default();
        group.note(self.owner.replica, head, at, damage);
    }

    /// Refuses damage to single slots unless it is to be reported, and a log whose beginning or
    /// decided slots are missing.
    fn refuse_damage(&self, first: u32, replay: &Replay) -> Result<(), OpenError> {
        if first > replay.first_segment {
            return Err(amnesia(first - 1, 0, "it is missing"));
        }
        if self.options.on_damage == OnDamage::Report {
            return Ok(());
        }
        let damaged = replay.groups.values().find_map(|group| group.damaged.values().next());
        if let Some(damage) = damaged {
            return Err(OpenError::Damaged(damage.clone()));
        }
        let uncertain = replay.groups.values().find_map(|group| group.uncertain().first().copied());
        uncertain.map_or(Ok(()), |range| {
            let meaning = Meaning::Uncertain(range.first);
            let found = "no record of a decided slot stands in the log that begins here";
            Err(OpenError::Damaged(Damage { file: segment_name(first), offset: 0, found, meaning }))
        })
    }

    /// Writes every open segment anew, without the tail; returns the last one, ready to append to.
    /// Bytes merely read back may still be in memory only, and a sync that failed may have left
    /// them there looking clean: only a new copy that is synced makes them durable.
    fn make_durable(
        &self,
        live: &[SegmentHead],
        open_from: usize,
        replay: &Replay,
    ) -> Result<Segment<D::File>, OpenError> {
        let last = replay.segments.len() - 1;
        let (mut head, end) = (live[last], replay.segments[last].end);
        let name = segment_name(head.number);
        if self.plants.has(Plant::ReadBackTakenForDurable) {
            let file = self.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
            let capacity = file.len().map_err(|source| failed(&name, "read", source))?;
            return Ok(Segment { number: head.number, file, end, capacity });
        }
        for index in open_from.min(last)..last {
            let mut head = live[index];
            head.synced_upto = live[index + 1].first_sequence - 1;
            let Replayed { end, damaged_values, .. } = replay.segments[index];
            self.replace(&head, Some(damaged_values), end)?;
        }
        head.synced_upto = replay.sequence - 1;
        self.replace(&head, Some(replay.segments[last].damaged_values), end)
    }

    /// Writes a segment to a temporary file, with this head and, up to `end`, the records of the file
    /// it is to replace, of which so many have damaged values (`None` where there is none to replace);
    /// syncs it, renames it into place and syncs the folder.
    fn replace(
        &self,
        head: &SegmentHead,
        damaged_values: Option<u64>,
        end: u64,
    ) -> Result<Segment<D::File>, OpenError> {
        let name = segment_name(head.number);
        let temporary = format!("{name}{TEMPORARY}");
        let mut capacity = self.options.segment_bytes.max(end);
        let failed_at = |bytes, source: io::Error| {
            let file = temporary.clone();
            if is_no_room(&source) {
                OpenError::NoRoom { file, bytes, source }
            } else {
                OpenError::Io { file, tried: "write", source }
            }
        };
        let write_failed = |source: io::Error| failed_at(end, source);
        let mut file = self.disk.create(&temporary).map_err(write_failed)?;
        if let Err(error) = file.allocate(capacity) {
            // With the disk full the log must still open: it then has no room for entries.
            if !is_no_room(&error) || damaged_values.is_none() {
                return Err(failed_at(capacity, error));
            }
            capacity = end;
        }
        file.write_at(0, &head.encode()).map_err(write_failed)?;
        if let Some(damaged_values) = damaged_values {
            self.copy(&name, &mut file, end, write_failed)?;
            self.check_copy(head, &file, damaged_values, end)?;
        }
        file.sync().map_err(|source| failed(&temporary, "sync", source))?;
        self.disk
            .rename(&temporary, &name)
            .map_err(|source| failed(&temporary, "rename", source))?;
        self.disk.sync_folder().map_err(|source| failed("", "sync", source))?;
        Ok(Segment { number: head.number, file, end, capacity })
    }

    /// Copies the records of the segment `from` up to `end`.
    fn copy(
        &self,
        from: &str,
        to: &mut D::File,
        end: u64,
        write_failed: impl Fn(io::Error) -> OpenError,
    ) -> Result<(), OpenError> {
        let source = self.disk.open(from).map_err(|source| failed(from, "open", source))?;
        let mut buffer = vec![0; COPY_LEN];
        let mut at = RECORDS_START;
        while at < end {
            let len = (end - at).min(COPY_LEN as u64) as usize;
            let read = source.read_at(at, &mut buffer[..len]);
            let read = read.map_err(|source| failed(from, "read", source))?;
            buffer[read..len].fill(0);
            to.write_at(at, &buffer[..len]).map_err(&write_failed)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Makes sure that a copy holds what was replayed. Bytes that a failed sync left in memory may be
    /// dropped from it between the first reading and the second.
    fn check_copy(
        &self,
        head: &SegmentHead,
        copy: &D::File,
        damaged_values: u64,
        end: u64,
    ) -> Result<(), OpenError> {
        let name = segment_name(head.number);
        let salt = Salt::new(self.owner, head.number);
        let mut walk = Walk::new(copy, salt, head.first_sequence, head.previous);
        let mut damaged = 0;
        while walk.offset < end {
            match walk.look().map_err(|source| failed(&name, "read", source))? {
                Found::Record { head, checksum, value_intact, .. } => {
                    damaged += u64::from(!value_intact);
                    walk.pass(&head, checksum);
                }
                Found::Nothing(_) => break,
            }
        }
        if walk.offset == end && damaged == damaged_values {
            return Ok(());
        }
        let changed = io::Error::other("its bytes changed between two readings");
        Err(failed(&name, "read", changed))
    }
}
