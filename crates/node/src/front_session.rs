//! The session of this node's front: one a boot, through which every write of its clients goes.
//! Pure: time is handed in, what to submit comes out.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mainstay_consensus::Rejection;
use mainstay_model::{Instant, Nonce, RequestNumber, SessionId};
use mainstay_service::{Applied, ClientSession, SessionEvent};

use crate::executor::Asker;
use crate::pipeline::Ahead;

/// How long after a rejection everything open is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// The same where the leader's disk is full, or there is no room for the session.
const NO_ROOM_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// After this long without any reply everything open is sent again; then after twice as long.
const OVERDUE_MIN: Duration = Duration::from_secs(1);
const OVERDUE_MAX: Duration = Duration::from_secs(8);
/// And longer by what is open divided by this, in bytes a second: what is long takes its time to the
/// leader, and sent again it would only take longer.
const OVERDUE_RATE: u64 = 8 << 20;

/// The session, and who waits for which of its numbers.
#[derive(Debug)]
pub(crate) struct FrontSession {
    session: ClientSession,
    nonce: Nonce,
    window: (usize, usize),
    /// Who waits for each number above `owners_from`; `None` once answered or given up.
    owners: VecDeque<Option<Asker>>,
    owners_from: RequestNumber,
    /// Those that are open and whose replies may be large, and how many of them may be.
    large_open: BTreeSet<RequestNumber>,
    large: Ahead,
    /// Nothing is submitted before this instant.
    hold_until: Instant,
    /// Everything open is to be sent again then.
    again: bool,
    overdue_at: Option<Instant>,
    overdue_after: Duration,
    /// A session stood at some time since the start.
    opened: bool,
    /// For how long the session may lie unused until another one is opened for the next write.
    fresh_for: Duration,
    /// When something of it was last submitted.
    used_at: Instant,
    /// Nobody wants the session yet: it is not registered before somebody does.
    unwanted: bool,
    /// Ends the session before this one, if that may still stand.
    farewell: Option<Bytes>,
}

/// What the world has to do about a change of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This command was carried out.
    Replied(Asker, Bytes),
    /// This command may or may not have been carried out, or may be still.
    Uncertain(Asker),
    /// The session stands.
    Opened,
    /// The session is gone; this one is to be watched no longer, and a new nonce is needed.
    Lost(Option<SessionId>),
}

impl FrontSession {
    /// A session that is registered at once. `window` bounds what is open, in count and bytes.
    pub(crate) const fn new(nonce: Nonce, window: (usize, usize), fresh_for: Duration) -> Self {
        Self {
            session: ClientSession::new(nonce, window.0, window.1),
            nonce,
            window,
            owners: VecDeque::new(),
            owners_from: RequestNumber(0),
            large_open: BTreeSet::new(),
            large: Ahead::of_large_writes(),
            hold_until: Instant(0),
            again: false,
            overdue_at: None,
            overdue_after: OVERDUE_MIN,
            opened: false,
            fresh_for,
            used_at: Instant(0),
            unwanted: false,
            farewell: None,
        }
    }

    pub(crate) const fn nonce(&self) -> Nonce {
        self.nonce
    }

    pub(crate) const fn id(&self) -> Option<SessionId> {
        self.session.id()
    }

    /// Whether a write of this session was ever applied here.
    pub(crate) const fn was_opened(&self) -> bool {
        self.opened
    }

    pub(crate) const fn open_len(&self) -> usize {
        self.session.open_len()
    }

    /// Notes that there is a write for the session. A session that lay unused for long, with nothing
    /// open, may have been ended: returns its end then, and another one is to be opened, so that the
    /// write is not uncertain for no reason.
    pub(crate) fn want(&mut self, now: Instant) -> Option<Change> {
        self.unwanted = false;
        let id = self.id()?;
        let idle = self.open_len() == 0 && now.since(self.used_at) >= self.fresh_for;
        idle.then_some(Change::Lost(Some(id)))
    }

    /// Gives out a number; `None` while the window is full or no session stands, or while many requests are
    /// open whose replies may be large, as this one's may be.
    pub(crate) fn begin(
        &mut self,
        body: &Bytes,
        owner: Asker,
        large: bool,
    ) -> Option<RequestNumber> {
        self.session.id()?;
        if large && !self.large.takes(1) {
            return None;
        }
        let number = self.session.begin(body.clone())?;
        self.owners.push_back(Some(owner));
        if large {
            self.large.open();
            self.large_open.insert(number);
        }
        Some(number)
    }

    /// Appends what is to be submitted now. To be called while a leader is known.
    pub(crate) fn submit(&mut self, now: Instant, out: &mut Vec<Bytes>) {
        out.extend(self.farewell.take());
        if now < self.hold_until || self.unwanted {
            return;
        }
        if self.overdue_at.is_some_and(|at| at <= now) {
            self.overdue_after = (self.overdue_after * 2).min(OVERDUE_MAX);
            self.overdue_at = None;
            self.again = true;
        }
        if std::mem::take(&mut self.again) {
            self.session.send_again();
        }
        if self.session.has_unsent() {
            self.used_at = now;
        }
        self.session.take_unsent(out);
        if self.overdue_at.is_none() && (self.session.open_len() > 0 || self.id().is_none()) {
            let open = self.session.open_bytes() as u64;
            let under_way = Duration::from_millis(open.saturating_mul(1_000) / OVERDUE_RATE);
            self.overdue_at = Some(now.after(self.overdue_after + under_way));
        }
    }

    /// When [`FrontSession::submit`] has something to do without anything else happening.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.unwanted {
            return None;
        }
        let held = (self.again || self.session.has_unsent()).then_some(self.hold_until);
        match (held, self.overdue_at) {
            (Some(held), Some(overdue)) => Some(held.min(overdue)),
            (held, overdue) => held.or(overdue),
        }
    }

    /// A submission was not taken.
    pub(crate) fn rejected(&mut self, now: Instant, reason: Rejection) {
        let no_room = reason == Rejection::NoRoom;
        self.again = true;
        self.hold_until = now.after(if no_room { NO_ROOM_AGAIN_AFTER } else { AGAIN_AFTER });
    }

    /// There is a leader, another one than before: whatever was on its way may be lost.
    pub(crate) fn leader_changed(&mut self, now: Instant) {
        self.again = true;
        self.hold_until = now;
    }

    /// Takes note of what was applied here.
    pub(crate) fn applied(&mut self, now: Instant, applied: &Applied, out: &mut Vec<Change>) {
        let id = self.id();
        match self.session.on_applied(applied) {
            Some(SessionEvent::Reply(number, reply)) => {
                self.progressed();
                if self.large_open.remove(&number) {
                    self.large.close(Some(&reply));
                }
                if let Some(owner) = self.owner_of(number).and_then(Option::take) {
                    out.push(Change::Replied(owner, reply));
                }
                self.trim_owners();
            }
            Some(SessionEvent::Opened(_)) => {
                self.progressed();
                self.opened = true;
                out.push(Change::Opened);
            }
            Some(SessionEvent::Refused) => {
                self.again = true;
                self.hold_until = now.after(NO_ROOM_AGAIN_AFTER);
            }
            Some(SessionEvent::Lost) => {
                out.extend(self.owners.drain(..).flatten().map(Change::Uncertain));
                out.push(Change::Lost(id));
            }
            Some(SessionEvent::SendAgain(_)) | None => {}
        }
    }

    /// Starts over with another nonce, after the session was lost or lay unused for long; in the latter case
    /// it is ended, so that it takes no room. Nobody waits for it then. The next one is
    /// registered when the next write comes: a group in which nothing happens writes nothing.
    pub(crate) fn restart(&mut self, nonce: Nonce) {
        let farewell = self.session.farewell();
        let new = Self::new(nonce, self.window, self.fresh_for);
        *self = Self { opened: self.opened, unwanted: true, farewell, ..new };
    }

    /// The executor has stopped: nothing that was sent will be answered here.
    pub(crate) fn give_up(&mut self, out: &mut Vec<Change>) {
        out.extend(self.owners.iter_mut().filter_map(Option::take).map(Change::Uncertain));
    }

    fn progressed(&mut self) {
        self.overdue_at = None;
        self.overdue_after = OVERDUE_MIN;
    }

    /// Who waits for a number.
    pub(crate) fn owner(&self, number: RequestNumber) -> Option<Asker> {
        let position = number.0.checked_sub(self.owners_from.0 + 1)?;
        *self.owners.get(usize::try_from(position).ok()?)?
    }

    fn owner_of(&mut self, number: RequestNumber) -> Option<&mut Option<Asker>> {
        let position = number.0.checked_sub(self.owners_from.0 + 1)?;
        self.owners.get_mut(usize::try_from(position).ok()?)
    }

    fn trim_owners(&mut self) {
        while self.owners_from < self.session.acknowledged_upto() {
            self.owners.pop_front();
            self.owners_from = self.owners_from.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use mainstay_model::{Batch, NoPlants, Prng, Slot, Timestamp};
    use mainstay_service::{Applier, Apply, Command, Context, Plain};
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    /// Answers each request with how many it has carried out.
    #[derive(Clone, Default, Serialize, Deserialize)]
    struct Log(Vec<Vec<u8>>);

    impl Apply for Log {
        fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
            self.0.push(request.to_vec());
            reply.extend_from_slice(request);
        }
    }

    const FRESH_FOR: Duration = Duration::from_secs(3600);

    const fn asker(question: u64) -> Asker {
        Asker { connection: 1, question }
    }

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// A group that loses, rejects, repeats and delays what is submitted to it.
    struct Group {
        applier: Applier<Plain<Log>>,
        slot: Slot,
        prng: Prng,
        late: Vec<Bytes>,
    }

    impl Group {
        /// Returns what was applied, and whether anything was rejected.
        fn take(&mut self, requests: Vec<Bytes>, calm: bool) -> (Vec<Applied>, bool) {
            let mut rejected = false;
            let mut ordered = std::mem::take(&mut self.late);
            for request in requests {
                match if calm { 9 } else { self.prng.below(10) } {
                    0 => {}
                    1 => rejected = true,
                    2 => self.late.push(request),
                    3 => ordered.extend([request.clone(), request]),
                    _ => ordered.push(request),
                }
            }
            let mut applied = Vec::new();
            if !ordered.is_empty() {
                self.slot = self.slot.next();
                let batch = Batch { time: Timestamp(self.slot.0), requests: ordered };
                self.applier.apply(self.slot, &batch.encode(), &mut applied).expect("no panic");
            }
            (applied, rejected)
        }
    }

    proptest! {
        /// Whatever is lost, rejected, repeated or late: once the group is calm, each write has
        /// been answered to whoever asked, with the reply to its own request, and once.
        #[test]
        fn every_write_is_answered_once_with_its_own_reply(seed in any::<u64>()) {
            let mut prng = Prng::new(seed);
            let applier = Applier::new(Plain(Log::default()), Default::default(), NoPlants);
            let mut group =
                Group { applier, slot: Slot::NONE, prng: prng.split(), late: Vec::new() };
            let mut session = FrontSession::new(Nonce(5), (64, 1 << 20), FRESH_FOR);
            let mut answers = BTreeMap::new();
            let mut questions = 0;
            for turn in 0..400u64 {
                let calm = turn >= 200;
                // Long enough between turns for what is overdue to be noticed now and then.
                let now = ms(turn * 100);
                while !calm && prng.chance(2, 3) {
                    let body = Bytes::from(questions.to_string());
                    if session.begin(&body, asker(questions), false).is_none() {
                        break;
                    }
                    questions += 1;
                }
                if !calm && prng.chance(1, 20) {
                    session.leader_changed(now);
                }
                let mut requests = Vec::new();
                session.submit(now, &mut requests);
                let (applied, rejected) = group.take(requests, calm);
                if rejected {
                    session.rejected(now, Rejection::NotLeader);
                }
                let mut changes = Vec::new();
                applied.iter().for_each(|applied| session.applied(now, applied, &mut changes));
                for change in changes {
                    match change {
                        Change::Replied(asker, reply) => {
                            prop_assert_eq!(answers.insert(asker.question, reply), None);
                        }
                        Change::Opened => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!(session.open_len(), 0);
            prop_assert_eq!(answers.len() as u64, questions);
            for (question, reply) in answers {
                prop_assert_eq!(reply, Bytes::from(question.to_string()));
            }
        }
    }

    #[test]
    fn what_is_open_when_the_session_ends_is_uncertain_and_the_next_one_starts_anew() {
        let mut session = FrontSession::new(Nonce(1), (8, 100), FRESH_FOR);
        assert_eq!(session.begin(&"early".into(), asker(0), false), None);
        let id = SessionId { slot: Slot(1), position: 0 };
        let mut requests = Vec::new();
        session.submit(ms(0), &mut requests);
        let mut changes = Vec::new();
        session.applied(ms(1), &Applied::Registered { nonce: Nonce(1), session: id }, &mut changes);
        assert_eq!(session.begin(&"a".into(), asker(1), false), Some(RequestNumber(1)));
        session.applied(ms(2), &Applied::Ended { session: id }, &mut changes);
        assert_eq!(changes, [Change::Opened, Change::Uncertain(asker(1)), Change::Lost(Some(id))]);
        session.restart(Nonce(2));
        assert!(session.was_opened() && session.id().is_none());
        assert_eq!(session.begin(&"b".into(), asker(2), false), None);
        requests.clear();
        session.submit(ms(3), &mut requests);
        assert_eq!((requests.len(), session.deadline()), (0, None), "nobody wants to write");
        assert_eq!(session.want(ms(4)), None);
        session.submit(ms(4), &mut requests);
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn a_session_unused_for_long_is_given_up_before_the_next_write_not_after() {
        let mut session = FrontSession::new(Nonce(1), (8, 100), FRESH_FOR);
        let id = SessionId { slot: Slot(1), position: 0 };
        let (mut requests, mut changes) = (Vec::new(), Vec::new());
        session.submit(ms(0), &mut requests);
        session.applied(ms(1), &Applied::Registered { nonce: Nonce(1), session: id }, &mut changes);
        let fresh = ms(0).after(FRESH_FOR);
        assert_eq!(session.want(Instant(fresh.0 - 1)), None);
        assert_eq!(session.begin(&"a".into(), asker(1), false), Some(RequestNumber(1)));
        assert_eq!(session.want(fresh), None, "something is open");
        session.submit(fresh, &mut requests);
        let reply = Applied::Replied {
            session: id,
            number: RequestNumber(1),
            reply: "A".into(),
            repeated: false,
        };
        session.applied(fresh, &reply, &mut changes);
        assert_eq!(changes, [Change::Opened, Change::Replied(asker(1), "A".into())]);
        assert_eq!(session.want(fresh), None, "just used");
        assert_eq!(session.want(fresh.after(FRESH_FOR)), Some(Change::Lost(Some(id))));
        session.restart(Nonce(2));
        assert_eq!(session.want(fresh.after(FRESH_FOR)), None);
        requests.clear();
        session.submit(fresh.after(FRESH_FOR), &mut requests);
        let end = Command::EndSession { nonce: Nonce(1) }.encode();
        assert_eq!(requests, [end, Command::Register { nonce: Nonce(2) }.encode()]);
    }

    #[test]
    fn what_is_long_is_not_sent_again_while_it_is_on_its_way() {
        for (len, again) in [(8 << 20, false), (8, true)] {
            let mut session = FrontSession::new(Nonce(1), (8, 64 << 20), FRESH_FOR);
            let id = SessionId { slot: Slot(1), position: 0 };
            let (mut requests, mut changes) = (Vec::new(), Vec::new());
            session.submit(ms(0), &mut requests);
            let opened = Applied::Registered { nonce: Nonce(1), session: id };
            session.applied(ms(1), &opened, &mut changes);
            assert!(session.begin(&vec![7; len].into(), asker(1), false).is_some());
            requests.clear();
            session.submit(ms(1), &mut requests);
            session.submit(ms(1_501), &mut requests);
            assert_eq!(requests.len() == 2, again, "{len} bytes");
            session.submit(ms(2_501), &mut requests);
            assert!(requests.len() >= 2, "in the end it is");
        }
    }

    #[test]
    fn a_rejection_holds_everything_back_for_a_while() {
        let mut session = FrontSession::new(Nonce(1), (8, 100), FRESH_FOR);
        let mut requests = Vec::new();
        session.submit(ms(0), &mut requests);
        session.rejected(ms(1), Rejection::NoLeader);
        requests.clear();
        session.submit(ms(2), &mut requests);
        assert_eq!((requests.len(), session.deadline()), (0, Some(ms(11))));
        session.submit(ms(11), &mut requests);
        assert_eq!(requests.len(), 1);
        session.rejected(ms(12), Rejection::NoRoom);
        assert_eq!(session.deadline(), Some(ms(212)));
    }

    #[test]
    fn few_requests_with_large_replies_are_open_at_once() {
        let mut session = FrontSession::new(Nonce(1), (1000, 1 << 20), FRESH_FOR);
        let at = SessionId { slot: Slot(1), position: 0 };
        let mut changes = Vec::new();
        let opened = Applied::Registered { nonce: Nonce(1), session: at };
        session.applied(ms(0), &opened, &mut changes);
        let begun = |session: &mut FrontSession| {
            (0..100).take_while(|n| session.begin(&"a".into(), asker(*n), true).is_some()).count()
        };
        assert_eq!(begun(&mut session), 4, "each may be answered with 16 MiB");
        assert!(session.begin(&"b".into(), asker(9), false).is_some(), "others go on");
        for number in (1..=4).map(RequestNumber) {
            let reply =
                Applied::Replied { session: at, number, reply: "short".into(), repeated: false };
            session.applied(ms(0), &reply, &mut changes);
        }
        assert!(begun(&mut session) > 4, "they are answered with less");
    }
}
