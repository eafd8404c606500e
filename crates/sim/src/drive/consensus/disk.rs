//! The disk's thread: records are appended and synced together, entries are read back, and what
//! checkpoints cover is given up.

use mainstay_check::Observation;
use mainstay_consensus::{Discard, Input, ReadPurpose};
use mainstay_model::{CheckpointId, Entry, GroupId, Mark, Record, Slot};
use mainstay_storage::{AppendError, CheckpointError};

use super::{DISK, ReplicaProcess};
use crate::context::Cx;

/// How long until it is looked again whether the log holds what a checkpoint covers, in nanoseconds.
const NOTE_AGAIN_NANOS: u64 = 20_000_000;

/// What waits for the disk's thread.
#[derive(Debug)]
pub(super) enum Job {
    Write(Mark, Vec<Record>),
    Read {
        from: Slot,
        upto: Slot,
        bytes_max: usize,
        purpose: ReadPurpose,
    },
    /// A checkpoint of that slot is written: the log has to know the slot as decided first.
    NoteDecided(Slot),
}

impl ReplicaProcess {
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) {
        if self.disk_busy || self.jobs.is_empty() {
            return;
        }
        self.disk_busy = true;
        while let Some(job) = self.jobs.pop_front() {
            let appended = match &job {
                Job::Write(_, records) => self.log.append(records),
                Job::Read { .. } | Job::NoteDecided(_) => Ok(()),
            };
            match (appended, job) {
                (Ok(()), job) => self.at_work.push(job),
                (Err(AppendError::NoRoom { .. }), Job::Write(mark, records)) => {
                    if records.iter().any(Record::has_requests) {
                        self.refused = Some(mark);
                    } else {
                        // Not even the reserve has room: it is tried again with the next tick.
                        self.jobs.push_front(Job::Write(mark, records));
                        self.stuck = true;
                    }
                    break;
                }
                (Err(error), _) => return cx.stop(format!("append: {error}")),
            }
        }
        let nanos = self.disk_takes(cx);
        cx.timer_in(nanos, DISK);
    }

    /// How long the disk takes this time.
    pub(super) fn disk_takes(&self, cx: &mut Cx<'_>) -> u64 {
        let usual = self.group.disk_latency * cx.disk_slowness();
        cx.prng().between(usual / 4 + 1, usual * 2 + 1)
    }

    pub(super) fn on_disk(&mut self, cx: &mut Cx<'_>) {
        let jobs = std::mem::take(&mut self.at_work);
        let mark = jobs.iter().rev().find_map(|job| match job {
            Job::Write(mark, _) => Some(*mark),
            Job::Read { .. } | Job::NoteDecided(_) => None,
        });
        if let Some(mark) = mark {
            if let Err(error) = self.log.sync() {
                return cx.stop(format!("sync: {error}"));
            }
            cx.line(format_args!("durable {mark}"));
            self.step(cx, Input::Durable { mark });
        }
        self.tell_refused(cx);
        for job in jobs {
            match job {
                Job::Write(..) => {}
                Job::Read { from, upto, bytes_max, purpose } => {
                    let Some(entries) = self.read_log(cx, from, upto, bytes_max) else { return };
                    self.step(cx, Input::LogRead { from, purpose, entries });
                }
                Job::NoteDecided(slot) if !self.keeps(slot) => self.note_later(cx),
                Job::NoteDecided(slot) => match self.log.note_decided(GroupId::FIRST, slot) {
                    Ok(()) => self.finish_checkpoint(cx, slot),
                    Err(AppendError::NoRoom { .. }) => self.write_again(cx),
                    Err(error) => return cx.stop(format!("note decided: {error}")),
                },
            }
        }
        self.disk_busy = false;
        self.discard(cx);
        self.look_for_room(cx);
        if self.stuck {
            self.put_notes_off(cx);
        } else {
            self.work(cx);
        }
    }

    /// Tells the machine what found no room; nothing that it asked for since is written.
    fn tell_refused(&mut self, cx: &mut Cx<'_>) {
        let Some(from) = self.refused.take() else { return };
        self.jobs.retain(|job| !matches!(job, Job::Write(..)));
        self.put_notes_off(cx);
        cx.line(format_args!("no room from {from} on"));
        cx.recorder().counts.unwritten += 1;
        self.step(cx, Input::Unwritten { from });
    }

    /// Whether every slot up to here stands in the log, or its record is on the way there.
    pub(super) fn keeps(&self, slot: Slot) -> bool {
        self.machine.keeps_upto() >= slot
    }

    /// Notes that stand behind what found no room do not wait for it there.
    fn put_notes_off(&mut self, cx: &mut Cx<'_>) {
        let before = self.jobs.len();
        self.jobs.retain(|job| !matches!(job, Job::NoteDecided(_)));
        if self.jobs.len() < before {
            self.note_later(cx);
        }
    }

    /// The checkpoint that is written is of more than stands in the log: execution does not wait for
    /// room there.
    pub(super) fn note_later(&mut self, cx: &mut Cx<'_>) {
        self.try_later(cx, NOTE_AGAIN_NANOS);
    }

    fn read_log(
        &mut self,
        cx: &mut Cx<'_>,
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    ) -> Option<Vec<Entry>> {
        match self.log.read(GroupId::FIRST, from, upto, bytes_max) {
            Ok(entries) => {
                cx.line(format_args!("read {from}..={upto} from the log: {}", entries.len()));
                Some(entries)
            }
            Err(error) => {
                // At the next start the log is classified, and what is damaged is fetched anew.
                cx.damage_found(&error.to_string());
                cx.stop(error.to_string());
                None
            }
        }
    }

    /// Notes at once what is stable, as a thread does that does not wait for the disk's: meanwhile later ones may be
    /// put in place. The log follows when the disk has time.
    pub(super) fn on_discard(&mut self, cx: &mut Cx<'_>, discardable: Discard) {
        self.discardable = Some(discardable);
        if let Err(error) = self.note_stable(discardable.stable) {
            cx.line(format_args!("{error}"));
            if let CheckpointError::Gone(checkpoint) = error {
                self.step(cx, Input::CheckpointGone { checkpoint });
            }
        }
        if !self.disk_busy {
            self.discard(cx);
        }
    }

    /// Lets go of what is not needed here, less what is kept for others, once it is noted why it may.
    pub(super) fn discard(&mut self, cx: &mut Cx<'_>) {
        let Some(Discard { upto, wanted_above, stable }) = self.discardable else { return };
        if let Err(error) = self.note_stable(stable) {
            return cx.line(format_args!("{error}"));
        }
        let options = self.group.checkpoints;
        let wanted = wanted_above.filter(|_| self.log.bytes() < options.wanted_bytes_max);
        let upto = wanted.map_or(upto, |above| above.min(upto));
        let before = self.log.truncated_upto(GroupId::FIRST);
        let discarded = self.log.discard(GroupId::FIRST, upto, options.keep_bytes);
        match discarded {
            Ok(upto) if upto > before => {
                cx.line(format_args!("discarded up to {upto}: {} B left", self.log.bytes()));
                let (replica, quorum) = (self.me, self.quorum());
                cx.observe(&Observation::Discarded { replica, upto, quorum });
                self.step(cx, Input::Discarded { upto });
            }
            Ok(_) | Err(AppendError::NoRoom { .. }) => {}
            Err(error) => cx.stop(format!("discard: {error}")),
        }
    }

    /// Notes which checkpoint is stable, and lets go of those that need not be kept then.
    fn note_stable(&self, stable: Option<CheckpointId>) -> Result<(), CheckpointError> {
        let held = &self.keeping.held;
        stable.map_or(Ok(()), |stable| held.note_stable(stable))?;
        held.tidy()
    }

    pub(super) fn look_for_room(&mut self, cx: &mut Cx<'_>) {
        match self.log.prepare() {
            Ok(()) | Err(AppendError::NoRoom { .. }) => {}
            Err(error) => return cx.stop(format!("prepare: {error}")),
        }
        let entries = self.log.has_room();
        if entries != self.had_room {
            self.had_room = entries;
            cx.line(format_args!("room for entries: {entries}"));
            self.step(cx, Input::Room { entries });
        }
    }
}
