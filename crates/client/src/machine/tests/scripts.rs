//! Single replicas, message by message.

use mainstay_service::native::Watching;

use super::*;
use crate::policy::ReplyPolicy;

const NOW: Instant = Instant(MS);
const TIMEOUT: Duration = Duration::from_secs(60);
const SESSION: SessionId = SessionId { slot: Slot(3), position: 0 };

/// What was sent, hello aside.
fn decoded(bytes: &[u8]) -> Vec<ClientMessage> {
    let mut bytes = BytesMut::from(bytes);
    if bytes.starts_with(&PREFACE) {
        bytes = bytes.split_off(PREFACE.len());
    }
    let mut messages = Vec::new();
    while let Some(frame) = frame::decode(&mut bytes, 1 << 20).expect("is a frame") {
        if frame.kind != HELLO {
            messages.push(ClientMessage::decode(frame.kind, frame.body).expect("is a message"));
        }
    }
    messages
}

fn framed(message: &ReplicaMessage) -> BytesMut {
    let mut frame = Vec::new();
    frame::encode(&mut frame, message.kind(), GroupId::FIRST, 1, |body| message.encode(body));
    BytesMut::from(&frame[..])
}

fn greeting(index: u16) -> BytesMut {
    let mut frame = Vec::new();
    frame::encode(&mut frame, HELLO, GroupId::NODE, 1, |body| {
        hello_of(index, ClusterId(5)).encode(body);
    });
    BytesMut::from(&frame[..])
}

/// A client with one request, connected to the replica at the first address.
struct Script {
    machine: Machine,
    effects: Vec<Effect>,
    now: Instant,
}

impl Script {
    fn new(replies: ReplyPolicy) -> Self {
        let mut settings = settings(TIMEOUT);
        settings.replies = replies;
        settings.first = Some(0);
        let machine = Machine::new(settings, Box::new(|| Nonce(1)), 7);
        let mut script = Self { machine, effects: Vec::new(), now: NOW };
        script.ask(1);
        assert_eq!(script.effects(), [Effect::Connect(0)]);
        script.machine.on_connected(NOW);
        script.machine.on_bytes(NOW, &mut greeting(0), &mut script.effects);
        assert_eq!(script.sent(), [ClientMessage::WhoLeads]);
        script
    }

    /// As [`Script::new`], with its session and request 1 on the way; the replica leads.
    fn under_way(replies: ReplyPolicy) -> Self {
        let mut script = Self::new(replies);
        script.hears(&ReplicaMessage::Leader(Some(0)));
        assert_eq!(script.sent().len(), 1, "a registration");
        let nonce = Nonce(1);
        let registered = Applied::Registered { nonce, session: SESSION };
        script.hears(&ReplicaMessage::Outcome(registered));
        script
    }

    fn ask(&mut self, token: u64) {
        let body = Bytes::from_static(b"r");
        self.machine.ask(self.now, Token(token), Kind::Request, body, TIMEOUT, &mut self.effects);
    }

    fn hears(&mut self, message: &ReplicaMessage) {
        self.machine.on_bytes(self.now, &mut framed(message), &mut self.effects);
    }

    /// The watcher of an address is connected and greeted.
    fn watches(&mut self, position: usize) {
        self.machine.on_watcher_connected(position);
        let mut hello = greeting(position as u16);
        self.machine.on_watcher_bytes(self.now, position, &mut hello, &mut self.effects);
    }

    fn watcher_hears(&mut self, position: usize, message: &ReplicaMessage) {
        let mut bytes = framed(message);
        self.machine.on_watcher_bytes(self.now, position, &mut bytes, &mut self.effects);
    }

    fn sent(&mut self) -> Vec<ClientMessage> {
        decoded(&self.machine.take_output())
    }

    fn watcher_sent(&mut self, position: usize) -> Vec<ClientMessage> {
        decoded(&self.machine.take_watcher_output(position))
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The next thing that is due.
    fn wait(&mut self) {
        self.now = self.machine.deadline().expect("something is due").max(self.now);
        self.machine.on_deadline(self.now, &mut self.effects);
    }
}

fn watching(told: u64, applied: u64) -> ReplicaMessage {
    ReplicaMessage::Watching(Watching {
        session: SESSION,
        applied_upto: Some(RequestNumber(applied)),
        told_upto: RequestNumber(told),
        configuration: ConfigurationId(1),
        replicas: 3,
        quorum: 2,
        votes: true,
    })
}

fn replied(number: u64, reply: &'static str) -> ReplicaMessage {
    ReplicaMessage::Outcome(Applied::Replied {
        session: SESSION,
        number: RequestNumber(number),
        reply: reply.into(),
        repeated: false,
    })
}

const fn watch(after: u64) -> ClientMessage {
    ClientMessage::Watch { session: SESSION, after: RequestNumber(after) }
}

#[test]
fn told_unasked_that_another_leads_it_sends_again_or_goes_there_at_once() {
    for moves in [false, true] {
        let mut script = Script::new(ReplyPolicy::Reached);
        script.hears(&ReplicaMessage::Leader(Some(0)));
        let first = script.sent();
        assert!(matches!(first[..], [ClientMessage::Submit { .. }]), "{first:?}");
        if moves {
            script.hears(&ReplicaMessage::Leader(Some(1)));
            assert_eq!(script.effects(), [Effect::Disconnect, Effect::Connect(1)]);
        } else {
            script.hears(&ReplicaMessage::Leader(Some(0)));
            assert_eq!(script.sent(), first);
        }
    }
}

#[test]
fn only_the_leaders_reply_means_never_going_on_at_another() {
    let mut script = Script::new(ReplyPolicy::Leader);
    // Who knows no leader may become it; who names another one is left, however often.
    script.hears(&ReplicaMessage::Leader(None));
    assert_eq!(script.effects(), []);
    script.hears(&ReplicaMessage::Leader(Some(2)));
    assert_eq!(script.effects(), [Effect::Disconnect, Effect::Connect(2)]);
    script.machine.on_closed(script.now, "gone", &mut script.effects);
    assert_eq!(script.effects(), [Effect::Disconnect, Effect::Connect(1)]);
    script.machine.on_connected(script.now);
    script.machine.on_bytes(script.now, &mut greeting(1), &mut script.effects);
    script.hears(&ReplicaMessage::Leader(Some(2)));
    assert_eq!(script.effects()[0], Effect::Disconnect, "2 is not reached, and 1 does not count");
}

#[test]
fn the_first_reply_of_any_replica_counts() {
    let mut script = Script::under_way(ReplyPolicy::First);
    assert_eq!(script.effects(), [Effect::Watch(1), Effect::Watch(2)]);
    assert!(matches!(script.sent()[..], [ClientMessage::Submit { .. }]), "and no watch here");
    script.watches(2);
    assert_eq!(script.watcher_sent(2), [watch(0)]);
    script.watcher_hears(2, &replied(1, "a"));
    assert_eq!(script.effects(), [Effect::Finished(Token(1), Outcome::Done("a".into()))]);
    script.hears(&replied(1, "a"));
    assert_eq!(script.effects(), []);
}

#[test]
fn a_reply_counts_once_it_is_known_who_votes_and_a_quorum_gave_it() {
    let mut script = Script::under_way(ReplyPolicy::Majority);
    assert_eq!(script.effects(), [Effect::Watch(1), Effect::Watch(2)]);
    let sent = script.sent();
    assert!(sent.contains(&watch(0)), "{sent:?}");
    script.hears(&replied(1, "a"));
    script.hears(&watching(0, 0));
    script.watches(1);
    assert_eq!(script.watcher_sent(1), [watch(0)]);
    script.watcher_hears(1, &watching(1, 1));
    script.watcher_hears(1, &replied(1, "a"));
    assert_eq!(script.effects(), [], "the one before it was known who votes does not count");
    script.hears(&replied(1, "a"));
    assert_eq!(script.effects(), [Effect::Finished(Token(1), Outcome::Done("a".into()))]);
    // A third that differs, however late, is told.
    script.watches(2);
    script.watcher_hears(2, &watching(1, 1));
    script.watcher_hears(2, &replied(1, "b"));
    let effects = script.effects();
    assert!(
        matches!(effects[..], [Effect::Exposed(d)] if d.replica.index == 2 && d.accepted.is_some()),
        "{effects:?}"
    );
}

#[test]
fn kept_replies_are_asked_for_until_all_are_told_and_once_more_when_one_is_missed() {
    let mut script = Script::under_way(ReplyPolicy::Majority);
    script.hears(&watching(0, 0));
    script.watches(1);
    script.watcher_sent(1);
    script.watcher_hears(1, &watching(4, 9));
    assert_eq!(script.watcher_sent(1), [watch(4)]);
    script.hears(&replied(1, "a"));
    script.sent();
    // The reply of the watcher was lost: nothing comes, and both are asked again.
    let asked_at = script.now.after(script.machine.settings.patience / 2);
    while script.now < asked_at {
        script.wait();
    }
    assert_eq!(script.watcher_sent(1), [watch(0)]);
    script.watcher_hears(1, &replied(1, "a"));
    let finished = Effect::Finished(Token(1), Outcome::Done("a".into()));
    assert!(script.effects().contains(&finished));
}

#[test]
fn a_watcher_that_fails_pauses_longer_each_time_and_wakes_nobody_without_need() {
    let mut script = Script::under_way(ReplyPolicy::Majority);
    script.hears(&watching(0, 0));
    script.effects();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let failed_at = script.now;
        script.machine.on_watcher_closed(script.now, 1, &mut script.effects);
        script.machine.on_watcher_closed(script.now, 2, &mut script.effects);
        while !script.effects().contains(&Effect::Watch(1)) {
            script.hears(&replied(1, "a"));
            script.wait();
        }
        pauses.push(script.now.since(failed_at));
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert_eq!(pauses[0], Duration::from_millis(10));
    assert!(pauses[7] <= Duration::from_millis(500));
    // Nobody waits any more: then nothing is due.
    script.watches(1);
    script.watcher_hears(1, &watching(1, 1));
    script.watcher_hears(1, &replied(1, "a"));
    script.machine.on_watcher_closed(script.now, 2, &mut script.effects);
    assert!(script.machine.is_idle());
    assert_eq!(script.machine.deadline(), None);
}

#[test]
fn where_requests_go_nobody_watches() {
    let mut script = Script::under_way(ReplyPolicy::Majority);
    script.watches(1);
    script.watches(2);
    script.effects();
    script.hears(&ReplicaMessage::Leader(Some(2)));
    let effects = script.effects();
    for effect in [Effect::Connect(2), Effect::Unwatch(2), Effect::Watch(0)] {
        assert!(effects.contains(&effect), "{effect:?} is not among {effects:?}");
    }
}
