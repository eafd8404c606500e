//! The state log: append, sync, read back.

mod discard;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use bytes::Bytes;
use mainstay_model::{
    Entry, GroupId, NoPlants, Plant, Plants, Record, RecordKind, Recovered, Slot, Value,
};

use crate::disk::{Disk, DiskFile};
use crate::error::{
    AppendError, Damage, Meaning, OpenError, ReadError, SyncError, is_no_handle, is_no_room,
};
use crate::group::Group;
use crate::index::Location;
use crate::layout::{
    Kind, RECORD_HEAD_LEN, RECORDS_START, RecordHead, Salt, SegmentHead, TEMPORARY, VALUE_LEN_MAX,
    record_len, segment_name,
};
use crate::open::{self, Closed, Highest, Segment};
use crate::options::LogOptions;

/// The state log of one replica, all its groups in one sequence of records. Owned by the one thread
/// that writes to the disk.
#[derive(Debug)]
pub struct Log<D: Disk, P: Plants = NoPlants> {
    disk: D,
    plants: P,
    options: LogOptions,
    groups: BTreeMap<GroupId, Group>,
    /// The segments before the current one, the oldest first, and what they add up to.
    closed: VecDeque<Closed>,
    bytes_before: u64,
    allocated_before: u64,
    current: Segment<D::File>,
    /// The highest slot of each group in the current segment.
    highest: Highest,
    salt: Salt,
    /// Segments allocated ahead, in the order in which they will be used. The last one is the
    /// reserve.
    prepared: VecDeque<Segment<D::File>>,
    /// The sequence of the next record.
    sequence: u64,
    /// The checksum of the last record.
    previous: u32,
    /// Records up to this sequence are durable. Invariant: below `sequence`.
    synced_upto: u64,
    /// Why the last attempt to allocate ahead found no room.
    no_room: Option<String>,
    /// A write or a sync failed: nothing is taken any more.
    poisoned: bool,
}

impl<D: Disk, P: Plants> Log<D, P> {
    /// Opens the log of `disk`, or begins it in an empty folder: classifies what is there, rewrites
    /// what is not known to be durable, and returns what it holds for [`GroupId::FIRST`]. All of
    /// that is durable when this returns.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: D, options: LogOptions, plants: P) -> Result<(Self, Recovered), OpenError> {
        let mut options = options;
        options.segment_bytes = LogOptions::segment_bytes_held(options.segment_bytes);
        let opened = open::open(&disk, &options, plants)?;
        let owner = options.owner();
        let mut log = Self {
            salt: Salt::new(owner, opened.current.number),
            disk,
            plants,
            options,
            groups: opened.groups,
            bytes_before: opened.closed.iter().map(|segment| segment.bytes).sum(),
            allocated_before: opened.closed.iter().map(|segment| segment.allocated).sum(),
            closed: opened.closed,
            current: opened.current,
            highest: opened.highest,
            prepared: VecDeque::new(),
            sequence: opened.sequence,
            previous: opened.previous,
            synced_upto: opened.sequence - 1,
            no_room: None,
            poisoned: false,
        };
        let file = segment_name(log.current.number);
        log.prepare().map_err(|error| OpenError::Io {
            file,
            tried: "allocate the segment after",
            source: io::Error::other(error.to_string()),
        })?;
        let recovered = log.recovered(GroupId::FIRST)?;
        Ok((log, recovered))
    }

    /// What the log holds for a group, read anew: to be asked at start, where [`Log::begin_after`] has
    /// changed what [`Log::open`] returned.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] and [`OpenError::Io`].
    pub fn recovered(&self, group: GroupId) -> Result<Recovered, OpenError> {
        let Some(known) = self.groups.get(&group) else {
            return Ok(Recovered::default());
        };
        let mut accepted = BTreeMap::new();
        let mut source = None;
        for (slot, location) in known.index.from(known.known_upto().next()) {
            let entry = self.entry(slot, location, &mut source).map_err(|error| match error {
                ReadError::Damaged(damage) => OpenError::Damaged(damage),
                ReadError::Io { file, source } => OpenError::Io { file, tried: "read", source },
            })?;
            accepted.insert(slot, entry);
        }
        Ok(Recovered {
            promised: known.promised,
            decided_upto: known.known_upto(),
            truncated_upto: known.truncated_upto,
            accepted,
            uncertain: known.uncertain(),
            time: known.time,
        })
    }

    /// Appends records with one write (one more where a segment ends between them). Durable after
    /// the next successful [`Log::sync`].
    ///
    /// Whoever appends has looked at [`Log::has_room`] before it accepted requests; what it
    /// accepted before that turned false is taken here as far as three quarters of the segment that was
    /// allocated last. The rest is a reserve for records without requests.
    ///
    /// # Errors
    /// See [`AppendError`]; all but [`AppendError::NoRoom`] are final.
    pub fn append(&mut self, records: &[Record]) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let result = self.make_room(records).and_then(|()| self.write(records));
        self.poisoned |= matches!(result, Err(AppendError::Failed { .. }));
        result
    }

    /// Allocates whatever segments `records` need.
    fn make_room(&mut self, records: &[Record]) -> Result<(), AppendError> {
        let mut free = self.current.capacity.saturating_sub(self.current.end);
        let mut taken = 0;
        let mut new = BTreeSet::new();
        for record in records {
            let len = record_len(value_len(record));
            if len <= free {
                free -= len;
            } else {
                // Behind the head stands the state of every group known by then.
                let states = (self.groups.len() + new.len()) as u64;
                let needed = RECORDS_START + self.state_len() * states + len;
                if self.prepared.len() == taken {
                    self.prepare_one(needed)?;
                }
                free = self.widen(taken, needed)? - needed;
                taken += 1;
            }
            if !self.groups.contains_key(&record.group) {
                new.insert(record.group);
            }
        }
        // Requests leave as much of the last segment as may be needed for everything else.
        let is_last = self.prepared.len() == taken;
        if is_last && free < self.options.reserve() && records.iter().any(Record::has_requests) {
            self.prepare_one(self.options.segment_bytes)?;
        }
        Ok(())
    }

    /// Makes a segment allocated ahead hold at least `needed` bytes; returns how many it holds. So
    /// a record larger than a segment gets one of its own size.
    fn widen(&mut self, index: usize, needed: u64) -> Result<u64, AppendError> {
        let held = self.prepared[index].capacity;
        if needed <= held {
            return Ok(held);
        }
        let number = self.prepared[index].number;
        self.check_limit(number, needed - held)?;
        let next = &mut self.prepared[index];
        next.file.allocate(needed).map_err(|source| no_room(number, needed, source))?;
        next.capacity = needed;
        Ok(needed)
    }

    /// Refuses `more` bytes above the limit of [`LogOptions::bytes_max`].
    fn check_limit(&self, segment: u32, more: u64) -> Result<(), AppendError> {
        let allocated = self.allocated() + more;
        if self.options.bytes_max.is_some_and(|max| allocated > max) {
            let source = io::Error::new(io::ErrorKind::StorageFull, "the limit set for the log");
            return Err(no_room(segment, more, source));
        }
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> Result<(), AppendError> {
        let mut buffer = Vec::new();
        let mut start = self.current.end;
        for record in records {
            let len = record_len(value_len(record));
            if self.current.end + len > self.current.capacity {
                self.write_out(start, &buffer)?;
                buffer.clear();
                self.roll(&mut buffer)?;
                start = 0;
            }
            let group = self.groups.entry(record.group).or_default();
            assert!(
                record.promised >= group.promised && record.decided_upto >= group.decided_upto,
                "the promise or the decided watermark of a record went back: {record:?}"
            );
            let head = RecordHead::of(record, self.previous, self.sequence, self.synced_upto);
            self.put(&head, &mut buffer);
            if let RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } = &record.kind
            {
                buffer.extend_from_slice(entry.value.bytes());
                buffer.resize(buffer.len().next_multiple_of(8), 0);
            }
        }
        self.write_out(start, &buffer)
    }

    /// Encodes the head of the next record, and takes note of it.
    fn put(&mut self, head: &RecordHead, buffer: &mut Vec<u8>) {
        let location = Location { segment: self.current.number, offset: self.current.end };
        self.previous = head.encode(&self.salt, self.current.end, buffer);
        self.sequence += 1;
        self.current.end += head.len();
        if matches!(head.kind, Kind::Accept | Kind::Learn) {
            let highest = self.highest.entry(head.group).or_default();
            *highest = head.slot.max(*highest);
        }
        let group = self.groups.entry(head.group).or_default();
        group.note(self.options.replica, head, location, None);
    }

    /// Writes `bytes` at `start` of the current segment.
    fn write_out(&mut self, start: u64, bytes: &[u8]) -> Result<(), AppendError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.current.file.write_at(start, bytes);
        written.map_err(|source| write_failed(self.current.number, source))
    }

    /// Closes the current segment, which must be written, and begins the next one in `buffer`.
    fn roll(&mut self, buffer: &mut Vec<u8>) -> Result<(), AppendError> {
        self.sync_current().map_err(discard::failed)?;
        let next = self.prepared.pop_front().expect("room was made before anything was written");
        let closed = std::mem::replace(&mut self.current, next);
        self.bytes_before += closed.end;
        self.allocated_before += closed.capacity;
        self.closed.push_back(Closed {
            number: closed.number,
            bytes: closed.end,
            allocated: closed.capacity,
            highest: std::mem::take(&mut self.highest),
        });
        let owner = self.options.owner();
        self.salt = Salt::new(owner, self.current.number);
        let head = SegmentHead {
            owner,
            number: self.current.number,
            predecessor_closed: true,
            first_sequence: self.sequence,
            synced_upto: self.synced_upto,
            previous: self.previous,
        };
        buffer.extend_from_slice(&head.encode());
        self.current.end = RECORDS_START;
        self.put_states(buffer);
        Ok(())
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// See [`SyncError`]; always final.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        if self.poisoned {
            return Err(SyncError::Poisoned);
        }
        let result = self.sync_current();
        self.poisoned |= result.is_err();
        result
    }

    fn sync_current(&mut self) -> Result<(), SyncError> {
        if self.synced_upto == self.sequence - 1 {
            return Ok(());
        }
        let mut synced = self.current.file.sync();
        if synced.is_err() && self.plants.has(Plant::SyncRetried) {
            synced = self.current.file.sync();
        }
        synced.map_err(|source| SyncError::Failed {
            file: segment_name(self.current.number),
            source,
        })?;
        self.synced_upto = self.sequence - 1;
        Ok(())
    }

    /// Allocates segments ahead where they are missing. To be called when nothing waits, after what
    /// depends on the last [`Log::sync`] has been told; cheap when there is nothing to do. Whether
    /// it found room shows in [`Log::has_room`].
    ///
    /// # Errors
    /// See [`AppendError`]; lack of room is no error here.
    pub fn prepare(&mut self) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        while self.prepared.len() < self.prepared_wanted() {
            match self.prepare_one(self.options.segment_bytes) {
                Ok(()) => self.no_room = None,
                Err(error @ AppendError::NoRoom { .. }) => {
                    self.no_room = Some(error.to_string());
                    return Ok(());
                }
                Err(error) => {
                    self.poisoned = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Allocates for a value of `len` bytes, which found no room before, behind a reserve that stays whole.
    ///
    /// # Errors
    /// See [`AppendError`]; [`AppendError::NoRoom`] where there still is none.
    pub fn prepare_for(&mut self, len: usize) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let len = record_len(len as u64);
        let needed = RECORDS_START + self.state_len() * (self.groups.len() as u64 + 1) + len;
        let result = self.prepare_two(needed);
        self.poisoned |= matches!(result, Err(AppendError::Failed { .. }));
        result
    }

    fn prepare_two(&mut self, needed: u64) -> Result<(), AppendError> {
        while self.prepared.len() < 2 {
            self.prepare_one(self.options.segment_bytes)?;
        }
        self.widen(0, needed).map(|_| ())
    }

    /// The reserve; and once the current segment is half full, the one that will follow it.
    fn prepared_wanted(&self) -> usize {
        let used = self.current.end - RECORDS_START;
        if used < (self.current.capacity - RECORDS_START) / 2 { 1 } else { 2 }
    }

    /// Allocates one more segment of at least `bytes`. Its name is durable before anything is
    /// written to it.
    fn prepare_one(&mut self, bytes: u64) -> Result<(), AppendError> {
        let number = self.prepared.back().unwrap_or(&self.current).number + 1;
        let capacity = bytes.max(self.options.segment_bytes);
        self.check_limit(number, capacity)?;
        let name = segment_name(number);
        let temporary = format!("{name}{TEMPORARY}");
        let failed = |source| write_failed(number, source);
        let mut file = self.create(&temporary).map_err(|source| {
            // Neither puts anything in doubt that was written so far, and both pass.
            if is_no_room(&source) || is_no_handle(&source) {
                no_room(number, capacity, source)
            } else {
                failed(source)
            }
        })?;
        if let Err(source) = file.allocate(capacity) {
            drop(file);
            self.disk.remove(&temporary).map_err(failed)?;
            let is_no_room = is_no_room(&source);
            return Err(if is_no_room {
                no_room(number, capacity, source)
            } else {
                failed(source)
            });
        }
        file.sync().map_err(failed)?;
        self.disk.rename(&temporary, &name).map_err(failed)?;
        self.disk.sync_folder().map_err(failed)?;
        self.prepared.push_back(Segment { number, file, end: 0, capacity });
        Ok(())
    }

    /// Makes a temporary file, in place of one that an earlier attempt left.
    fn create(&self, name: &str) -> io::Result<D::File> {
        match self.disk.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(name)?;
                self.disk.create(name)
            }
            result => result,
        }
    }

    /// The latest entries of the slots `from..=upto`, contiguous from `from`, up to and including
    /// the one that reaches `bytes_max` bytes of values; at least one if there is any.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(
        &self,
        group: GroupId,
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let Some(group) = self.groups.get(&group) else {
            return Ok(entries);
        };
        let mut source = None;
        let (mut slot, mut bytes) = (from, 0);
        while slot <= upto && (entries.is_empty() || bytes < bytes_max) {
            let Some(location) = group.index.get(slot) else {
                break;
            };
            match self.entry(slot, location, &mut source) {
                Ok(entry) => {
                    bytes += entry.value.len();
                    entries.push(entry);
                }
                Err(error) if entries.is_empty() => return Err(error),
                Err(_) => break,
            }
            slot = slot.next();
        }
        Ok(entries)
    }

    /// Reads one record back and checks it. `opened` keeps the last segment's file open from one
    /// call to the next.
    fn entry(
        &self,
        slot: Slot,
        location: Location,
        opened: &mut Option<(u32, D::File)>,
    ) -> Result<Entry, ReadError> {
        let file = || segment_name(location.segment);
        let failed = |source| ReadError::Io { file: file(), source };
        let source = if location.segment == self.current.number {
            &self.current.file
        } else {
            if opened.as_ref().is_none_or(|(segment, _)| *segment != location.segment) {
                *opened = Some((location.segment, self.disk.open(&file()).map_err(failed)?));
            }
            opened.as_ref().map_or(&self.current.file, |(_, file)| file)
        };
        let salt = Salt::new(self.options.owner(), location.segment);
        let mut bytes = [0; RECORD_HEAD_LEN];
        source.read_at(location.offset, &mut bytes).map_err(failed)?;
        let damaged = |found| {
            let (file, offset) = (file(), location.offset);
            ReadError::Damaged(Damage { file, offset, found, meaning: Meaning::Uncertain(slot) })
        };
        let head = match RecordHead::decode(&bytes, &salt, location.offset) {
            Ok((head, _))
                if head.slot == slot && matches!(head.kind, Kind::Accept | Kind::Learn) =>
            {
                head
            }
            _ => return Err(damaged("the head of a record that was intact is unreadable")),
        };
        let mut value = vec![0; head.value_len as usize];
        source.read_at(location.offset + RECORD_HEAD_LEN as u64, &mut value).map_err(failed)?;
        let value = Value::new(Bytes::from(value));
        if value.checksum() != head.value_checksum {
            return Err(damaged("the checksum of a value does not fit its bytes"));
        }
        Ok(Entry { ballot: head.ballot, value })
    }

    /// Whether requests may be accepted: the reserve of one segment is whole, and there is space
    /// before it. Promises and no-ops may be appended in any case, and so may what was accepted
    /// before this turned false.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.poisoned && self.prepared.len() >= self.prepared_wanted()
    }

    /// Why there was no room when [`Log::prepare`] last looked for it.
    #[must_use]
    pub fn no_room(&self) -> Option<&str> {
        if self.has_room() { None } else { self.no_room.as_deref() }
    }

    /// Bytes of records and heads in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_before + self.current.end
    }

    /// Bytes that the log takes on the disk, with what is allocated ahead.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        let ahead: u64 = self.prepared.iter().map(|segment| segment.capacity).sum();
        self.allocated_before + self.current.capacity + ahead
    }

    /// The most that may be allocated, see [`LogOptions::bytes_max`].
    #[must_use]
    pub const fn bytes_max(&self) -> Option<u64> {
        self.options.bytes_max
    }

    /// How many segments hold records.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.closed.len() as u64 + 1
    }

    /// The folder the log lives in, which holds the identity as well.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }
}

/// Length of a record's value.
fn value_len(record: &Record) -> u64 {
    let len = record.value_len();
    assert!(len <= VALUE_LEN_MAX, "values are below 2 GiB");
    len as u64
}

fn write_failed(segment: u32, source: io::Error) -> AppendError {
    AppendError::Failed { file: segment_name(segment), source }
}

fn no_room(segment: u32, bytes: u64, source: io::Error) -> AppendError {
    AppendError::NoRoom { file: segment_name(segment), bytes, source }
}
