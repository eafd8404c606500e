//! Questions that cannot be answered yet, so kept that each is looked at when its moment comes, and not
//! before. Pure: what has come is told, what is to be answered comes out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use mainstay_model::{RequestNumber, SessionId, Slot};

use super::Query;

/// How many ends of questions that are gone are kept, besides as many as there are questions.
const ENDS_SPARE: usize = 1024;

/// The questions, each under a ticket. The lists below may hold tickets of questions that are gone: taking
/// those out at once would cost the length of a list each time.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queries: HashMap<u64, Query>,
    tickets: u64,
    slots: BTreeMap<Slot, Vec<u64>>,
    sessions: HashMap<SessionId, Numbers>,
    /// Something is due that they must not see undone: looked at after each slot.
    time: Vec<u64>,
    /// There is no memory for their answers.
    room: VecDeque<u64>,
    /// When each is given up, oldest first.
    ends: VecDeque<(Instant, u64)>,
    connections: HashMap<u64, VecDeque<u64>>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// To be answered once the number is applied.
    after: BTreeMap<RequestNumber, Vec<u64>>,
    /// To be answered right before it is.
    before: BTreeMap<RequestNumber, Vec<u64>>,
}

impl Waiting {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Waits until a slot is applied.
    pub(super) fn for_slot(&mut self, slot: Slot, query: Query, until: Instant) {
        let ticket = self.add(query, until);
        self.slots.entry(slot).or_default().push(ticket);
    }

    /// Waits until a number of a session is applied.
    pub(super) fn for_number(
        &mut self,
        at: (SessionId, RequestNumber),
        query: Query,
        until: Instant,
    ) {
        self.for_request(at, query, until, |numbers| &mut numbers.after);
    }

    /// Waits until a number of a session is about to be applied.
    pub(super) fn before(&mut self, at: (SessionId, RequestNumber), query: Query, until: Instant) {
        self.for_request(at, query, until, |numbers| &mut numbers.before);
    }

    fn for_request(
        &mut self,
        (session, number): (SessionId, RequestNumber),
        query: Query,
        until: Instant,
        list: impl Fn(&mut Numbers) -> &mut BTreeMap<RequestNumber, Vec<u64>>,
    ) {
        let ticket = self.add(query, until);
        let numbers = self.sessions.entry(session).or_default();
        list(numbers).entry(number).or_default().push(ticket);
    }

    /// Waits until decided time has passed something that is due.
    pub(super) fn for_time(&mut self, query: Query, until: Instant) {
        let ticket = self.add(query, until);
        self.time.push(ticket);
    }

    /// Waits until there is memory for the answer.
    pub(super) fn for_room(&mut self, query: Query, until: Instant) {
        let ticket = self.add(query, until);
        self.room.push_back(ticket);
    }

    fn add(&mut self, query: Query, until: Instant) -> u64 {
        self.tickets += 1;
        self.connections.entry(query.asker.connection).or_default().push_back(self.tickets);
        self.queries.insert(self.tickets, query);
        self.ends.push_back((until, self.tickets));
        if self.ends.len() > 2 * self.queries.len() + ENDS_SPARE {
            // Most were answered long before their end.
            self.ends.retain(|(_, ticket)| self.queries.contains_key(ticket));
        }
        self.tickets
    }

    /// Takes those that waited for a slot up to here.
    pub(super) fn take_slots(&mut self, upto: Slot, out: &mut Vec<Query>) {
        while let Some(first) = self.slots.first_entry()
            && *first.key() <= upto
        {
            let tickets = first.remove();
            self.take(tickets, out);
        }
    }

    /// Takes those that wait for time to pass.
    pub(super) fn take_time(&mut self, out: &mut Vec<Query>) {
        let tickets = std::mem::take(&mut self.time);
        self.take(tickets, out);
    }

    /// Takes those that waited for a number of this session up to here.
    pub(super) fn take_numbers(
        &mut self,
        session: SessionId,
        upto: RequestNumber,
        out: &mut Vec<Query>,
    ) {
        self.take_first(session, upto, |numbers| &mut numbers.after, out);
    }

    /// Takes those that must be answered before this number of this session, or any below it, is applied.
    pub(super) fn take_before(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        out: &mut Vec<Query>,
    ) {
        self.take_first(session, number, |numbers| &mut numbers.before, out);
    }

    fn take_first(
        &mut self,
        session: SessionId,
        upto: RequestNumber,
        list: impl Fn(&mut Numbers) -> &mut BTreeMap<RequestNumber, Vec<u64>>,
        out: &mut Vec<Query>,
    ) {
        while let Some(numbers) = self.sessions.get_mut(&session) {
            let first = list(numbers).first_entry().filter(|first| *first.key() <= upto);
            let Some(first) = first else { break };
            let tickets = first.remove();
            if numbers.after.is_empty() && numbers.before.is_empty() {
                self.sessions.remove(&session);
            }
            self.take(tickets, out);
        }
    }

    /// Takes all that wait for anything of this session.
    pub(super) fn take_session(&mut self, session: SessionId, out: &mut Vec<Query>) {
        if let Some(numbers) = self.sessions.remove(&session) {
            for tickets in numbers.after.into_values().chain(numbers.before.into_values()) {
                self.take(tickets, out);
            }
        }
    }

    /// Whether any waits for memory.
    pub(super) fn waits_for_room(&mut self) -> bool {
        while let Some(first) = self.room.front()
            && !self.queries.contains_key(first)
        {
            self.room.pop_front();
        }
        !self.room.is_empty()
    }

    /// Takes the next one that waits for memory.
    pub(super) fn take_room(&mut self) -> Option<Query> {
        let mut out = Vec::new();
        while out.is_empty() {
            let ticket = self.room.pop_front()?;
            self.take([ticket], &mut out);
        }
        out.pop()
    }

    /// Takes all there are.
    pub(super) fn take_all(&mut self, out: &mut Vec<Query>) {
        let mut tickets: Vec<u64> = self.queries.keys().copied().collect();
        tickets.sort_unstable();
        self.take(tickets, out);
        *self = Self { tickets: self.tickets, ..Self::default() };
    }

    /// The sessions that something waits for, in order.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// Drops those that have waited for too long: whoever asked has been told so.
    pub(super) fn drop_overdue(&mut self, now: Instant) {
        while let Some((until, ticket)) = self.ends.front()
            && *until <= now
        {
            let ticket = *ticket;
            self.ends.pop_front();
            self.take([ticket], &mut Vec::new());
        }
    }

    /// Drops those of a connection that is gone.
    pub(super) fn forget(&mut self, connection: u64) {
        for ticket in self.connections.remove(&connection).unwrap_or_default() {
            self.queries.remove(&ticket);
        }
        self.rest();
    }

    fn take(&mut self, tickets: impl IntoIterator<Item = u64>, out: &mut Vec<Query>) {
        for ticket in tickets {
            let Some(query) = self.queries.remove(&ticket) else { continue };
            if let Some(tickets) = self.connections.get_mut(&query.asker.connection) {
                while tickets.front().is_some_and(|first| !self.queries.contains_key(first)) {
                    tickets.pop_front();
                }
                if tickets.is_empty() {
                    self.connections.remove(&query.asker.connection);
                }
            }
            out.push(query);
        }
        self.rest();
    }

    /// Gives back what lists are left once none waits.
    fn rest(&mut self) {
        if self.queries.is_empty() {
            *self = Self { tickets: self.tickets, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use mainstay_model::Timestamp;

    use super::*;
    use crate::executor::Asker;

    const SESSION: SessionId = SessionId { slot: Slot(1), position: 0 };

    fn query(connection: u64, question: u64) -> Query {
        Query {
            asker: Asker { connection, question },
            after: None,
            body: Bytes::new(),
            shown: Timestamp(0),
        }
    }

    fn questions(queries: &[Query]) -> Vec<u64> {
        queries.iter().map(|query| query.asker.question).collect()
    }

    #[test]
    fn each_comes_out_when_its_moment_comes() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.for_slot(Slot(5), query(1, 1), now);
        waiting.for_slot(Slot(3), query(1, 2), now);
        waiting.for_number((SESSION, RequestNumber(7)), query(2, 3), now);
        waiting.before((SESSION, RequestNumber(8)), query(2, 4), now);
        waiting.before((SESSION, RequestNumber(9)), query(2, 5), now);
        waiting.for_room(query(3, 6), now);
        let mut out = Vec::new();
        waiting.take_slots(Slot(4), &mut out);
        waiting.take_numbers(SESSION, RequestNumber(6), &mut out);
        assert_eq!(questions(&out), [2]);
        waiting.take_numbers(SESSION, RequestNumber(7), &mut out);
        waiting.take_before(SESSION, RequestNumber(8), &mut out);
        assert_eq!(questions(&out), [2, 3, 4]);
        assert_eq!(waiting.sessions(), [SESSION]);
        waiting.take_session(SESSION, &mut out);
        assert_eq!(questions(&out), [2, 3, 4, 5]);
        assert_eq!(waiting.take_room().map(|query| query.asker.question), Some(6));
        waiting.take_slots(Slot(5), &mut out);
        assert!(waiting.is_empty() && waiting.take_room().is_none());
        assert_eq!(questions(&out), [2, 3, 4, 5, 1]);
    }

    #[test]
    fn what_is_gone_or_overdue_does_not_come_out() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        (0..3).for_each(|n| waiting.for_slot(Slot(5), query(n, n), now));
        let later = now + Duration::from_secs(9);
        (0..3).for_each(|n| waiting.for_room(query(n, 10 + n), later));
        waiting.forget(1);
        waiting.drop_overdue(now);
        let mut out = Vec::new();
        waiting.take_slots(Slot(5), &mut out);
        assert!(out.is_empty());
        waiting.take_all(&mut out);
        assert_eq!(questions(&out), [10, 12]);
        assert!(waiting.is_empty());
    }

    /// One waits on, and many come and are answered meanwhile: nothing is kept of these.
    #[test]
    fn what_was_answered_takes_no_memory_until_its_end() {
        let (mut waiting, later) = (Waiting::default(), Instant::now() + Duration::from_secs(20));
        waiting.for_number((SESSION, RequestNumber(1)), query(0, 0), later);
        let mut out = Vec::new();
        for slot in 1..=10_000 {
            waiting.for_slot(Slot(slot), query(1, slot), later);
            waiting.take_slots(Slot(slot), &mut out);
        }
        assert_eq!(out.len(), 10_000);
        assert!(waiting.ends.len() <= ENDS_SPARE + 4, "{}", waiting.ends.len());
        assert!(waiting.slots.is_empty() && waiting.connections.len() <= 2);
    }

    /// Each has a question, all for one slot, and they close one by one.
    #[test]
    fn a_crowd_that_leaves_costs_no_more_than_its_size() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        const CROWD: u64 = 200_000;
        for connection in 0..CROWD {
            waiting.for_slot(Slot(5), query(connection, 0), now);
        }
        let began = Instant::now();
        (1..CROWD).for_each(|connection| waiting.forget(connection));
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let mut out = Vec::new();
        waiting.take_slots(Slot(5), &mut out);
        assert_eq!(out.len(), 1);
    }
}
