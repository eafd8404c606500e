//! What the executor does, without a node around it.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_model::{Batch, NoPlants};
use mainstay_service::{Apply, Command, Context, Plain};
use serde::{Deserialize, Serialize};

/// The life of a state that was not fetched.
fn first() -> (u64, Life) {
    (0, Life::default())
}

/// Counts what it is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    #[serde(skip)]
    asked: Arc<AtomicU64>,
}

impl Apply for Counter {
    fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

fn value(slot: u64, command: &Command) -> Value {
    Batch { time: Timestamp(slot), requests: vec![command.encode()] }.encode()
}

fn register(slot: u64) -> Value {
    value(slot, &Command::Register { nonce: Nonce(slot.into()) })
}

const fn session(slot: u64) -> SessionId {
    SessionId { slot: Slot(slot), position: 0 }
}

/// The state in which one session was registered at each slot.
fn applier(counter: Counter, slots: u64) -> Applier<Plain<Counter>> {
    let mut applier = Applier::new(Plain(counter), Default::default(), NoPlants);
    for slot in 1..=slots {
        applier.apply(Slot(slot), &register(slot), &mut Vec::new()).expect("no panic");
    }
    applier
}

fn links() -> ExecutorLinks<Plain<Counter>> {
    let poll = mio::Poll::new().expect("a poll");
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
    ExecutorLinks {
        tasks: Queue::new(),
        inbox: Inbox::new(Arc::new(waker), 1 << 20),
        states: crate::checkpointer::channel().0,
        handover: Arc::default(),
        wanted: Arc::default(),
        account: Arc::new(Account::new(1 << 30, 1 << 20)),
    }
}

fn told(inbox: &Inbox<Event>) -> Vec<Executed> {
    let mut events = Vec::new();
    inbox.take(&mut events);
    let executed = events.into_iter().map(|event| match event {
        Event::Executed(executed) => executed,
        other => panic!("{other:?}"),
    });
    executed.collect()
}

/// A state that turned out wrong may have reached further than the one that is fetched instead.
#[test]
fn a_session_younger_than_the_state_that_is_adopted_has_not_ended() {
    let links = links();
    let (inbox, handover) = (Arc::clone(&links.inbox), Arc::clone(&links.handover));
    let state = applier(Counter::default(), 3);
    let mut thread = ExecutorThread::new(state, first(), links, Duration::from_secs(1));
    let gone = SessionId { slot: Slot(1), position: 7 };
    thread.carry_out(ExecutorTask::WatchNonce(Nonce(3)));
    for watched in [session(1), session(3), gone] {
        thread.carry_out(ExecutorTask::Watch(watched));
    }
    thread.carry_out(ExecutorTask::Stop);
    *handover.lock().unwrap() = Some((applier(Counter::default(), 2), Life::default()));
    let checkpoint = CheckpointId { slot: Slot(2), digest: 0 };
    thread.carry_out(ExecutorTask::Adopt { generation: 1, checkpoint });
    let outcomes: Vec<_> = told(&inbox).into_iter().flat_map(|e| e.outcomes).collect();
    assert_eq!(outcomes, [Applied::Ended { session: gone }]);
    let (slot, value) = (Slot(3), register(3));
    thread.carry_out(ExecutorTask::Deliver { generation: 1, slot, value });
    assert_eq!(
        thread.executed.outcomes,
        [Applied::Registered { nonce: Nonce(3), session: session(3) }]
    );
    assert!(thread.sessions.contains(&session(3)));
}

/// A question that may be answered from slot 1 on.
fn question(question: u64, shown: Timestamp) -> ExecutorTask {
    let asker = Asker { connection: 1, question };
    let query = Query { asker, after: None, body: Bytes::new(), shown };
    ExecutorTask::Query { slot: Slot(1), time: shown, queries: vec![query] }
}

/// Which questions were answered, and from which slots.
fn answered(thread: &mut ExecutorThread<Plain<Counter>>) -> Vec<(u64, Slot)> {
    thread.tell();
    let answers = told(&thread.inbox).into_iter().flat_map(|executed| executed.answers);
    answers.map(|answer| (answer.asker.question, answer.slot)).collect()
}

/// The state goes back from slot 4 to slot 2.
fn go_back(thread: &mut ExecutorThread<Plain<Counter>>) {
    *thread.handover.lock().unwrap() = Some((applier(Counter::default(), 2), Life::default()));
    let checkpoint = CheckpointId { slot: Slot(2), digest: 0 };
    thread.carry_out(ExecutorTask::Adopt { generation: 1, checkpoint });
}

fn deliver(thread: &mut ExecutorThread<Plain<Counter>>, slot: u64) {
    let (slot, value) = (Slot(slot), register(slot));
    thread.carry_out(ExecutorTask::Deliver { generation: 1, slot, value });
}

/// Two questions of one connection, the second of which is answered after the state went back: it may not see
/// less than the first.
#[test]
fn an_answer_shows_no_less_than_one_of_the_state_before() {
    let state = applier(Counter::default(), 4);
    let thread = &mut ExecutorThread::new(state, first(), links(), Duration::from_secs(60));
    go_back(thread);
    thread.carry_out(question(1, Timestamp(1)));
    assert_eq!(answered(thread), []);
    deliver(thread, 3);
    thread.carry_out(question(2, Timestamp(0)));
    assert_eq!(answered(thread), [(2, Slot(3))], "one that may be stale does not wait");
    deliver(thread, 4);
    assert_eq!(answered(thread), [(1, Slot(4))]);
}

/// It was ready for the state before, and is not for this one.
#[test]
fn what_waits_for_memory_while_the_state_goes_back_is_not_answered_from_less() {
    let state = applier(Counter::default(), 4);
    let thread = &mut ExecutorThread::new(state, first(), links(), Duration::from_secs(60));
    let account = Arc::clone(&thread.answering.account);
    account.change(0, 1 << 30);
    thread.carry_out(question(1, Timestamp(1)));
    go_back(thread);
    account.change(1 << 30, 0);
    thread.carry_out(ExecutorTask::Room);
    assert_eq!(answered(thread), []);
    deliver(thread, 3);
    deliver(thread, 4);
    assert_eq!(answered(thread), [(1, Slot(4))]);
}

/// It is written on another thread, which may be done before this one tells of anything else: the log
/// would be given up to a slot that is not known as applied.
#[test]
fn what_a_checkpoint_covers_is_told_before_it_is_handed_out() {
    let mut links = links();
    let (states, written) = crate::checkpointer::channel();
    links.states = states;
    let inbox = Arc::clone(&links.inbox);
    let state = applier(Counter::default(), 1);
    let mut thread = ExecutorThread::new(state, first(), links, Duration::from_secs(1));
    let often = CheckpointInterval { requests: 1, ..CheckpointInterval::default() };
    let commands = [Command::SetCheckpointInterval(often), Command::Register { nonce: Nonce(7) }];
    let mut handed_out = 0;
    for (slot, command) in (2..).zip(&commands) {
        let value = value(slot, command);
        thread.carry_out(ExecutorTask::Deliver { generation: 0, slot: Slot(slot), value });
        if let Some(due) = written.try_next() {
            let applied = told(&inbox).last().map(|executed| executed.applied);
            let slot = due.state.slot();
            assert!(applied >= Some(slot), "{applied:?} was told, and the checkpoint is of {slot}");
            handed_out += 1;
        }
    }
    assert!(handed_out > 0, "none was due");
}

#[test]
fn whoever_asks_a_wrong_state_for_kept_replies_is_told_so() {
    let links = links();
    let inbox = Arc::clone(&links.inbox);
    let state = applier(Counter::default(), 1);
    let mut thread = ExecutorThread::new(state, first(), links, Duration::from_secs(1));
    thread.carry_out(ExecutorTask::Stop);
    let (session, after) = (session(1), RequestNumber(0));
    thread.carry_out(ExecutorTask::Kept { connection: 5, session, after });
    thread.tell();
    let told = told(&inbox);
    assert_eq!((told.len(), &told[0].not_kept[..]), (1, &[(5, session)][..]));
}

#[test]
fn what_waits_when_the_node_ends_is_not_carried_out() {
    let links = links();
    let (tasks, wanted) = (Arc::clone(&links.tasks), Arc::clone(&links.wanted));
    let counter = Counter::default();
    let state = applier(counter.clone(), 1);
    let thread = ExecutorThread::new(state, first(), links, Duration::from_secs(1));
    let request = |number| Command::Request {
        session: session(1),
        number: RequestNumber(number),
        acknowledged_upto: RequestNumber(0),
        body: Bytes::new(),
    };
    for number in 1..=100 {
        let value = value(1 + number, &request(number));
        let slot = Slot(1 + number);
        tasks.push(&mut vec![ExecutorTask::Deliver { generation: 0, slot, value }], 1);
    }
    wanted.end();
    tasks.close();
    thread.run();
    assert_eq!(counter.asked.load(Ordering::Relaxed), 0);
}
