//! What to send, to whom, and when to send it again, as a pure machine: whoever drives it has the
//! socket and the clock.
//!
//! One connection at a time. An *ask* is a request or query that a caller waits for. It waits in
//! the queue until it can be sent: until then it is certainly not done. A request is then given a
//! number of the session, and from then on it is sent until its reply is known, even when its caller
//! was told meanwhile that the outcome is unknown: numbers are carried out in order, so those behind
//! it need it.
//!
//! | link | left when |
//! |---|---|
//! | idle | somebody waits, and the pause after failures is over |
//! | connecting, greeting | connected, greeted, refused, or out of time |
//! | asking (who leads) | told, refused, or out of time |
//! | up | closed, refused, nothing answered for too long, or another replica leads |
//!
//! Beside it, where more than one replica is heard, there is a connection to each other address, over
//! which that replica tells its own replies:
//!
//! | file | holds |
//! |---|---|
//! | `farewell` | how a session ends that is of no more use |
//! | `receive` | what the replica that is asked says |
//! | `hearing` | what comes of one request at several replicas |
//! | `watchers` | the connections to the others |
//! | `votes` | which reply a quorum gave |

mod farewell;
mod hearing;
mod receive;
#[cfg(test)]
mod tests;
mod votes;
mod watchers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mainstay_model::hello::{HELLO, Hello, Role};
use mainstay_model::{ClusterId, GroupId, Instant, Nonce, ReplicaId, RequestNumber, Token, frame};
use mainstay_service::ClientSession;
use mainstay_service::native::{ClientMessage, PREFACE};

use crate::outcome::{Outcome, StaleReply, Trouble, TroubleKind};
use crate::policy::Disagreement;
use crate::route::Route;
use crate::settings::Settings;
use votes::Votes;
use watchers::{Watch, Watchers};

/// Bytes that a request takes beyond its body.
const REQUEST_HEAD_LEN: usize = 64;
/// The pause after a refusal; doubled with each further one in a row.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest such pause.
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Who was sent to a leader is not sent on within this time: replicas may name one another.
const HINT_PAUSE: Duration = Duration::from_millis(500);

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Connect to the address at this position, giving up any other connection.
    Connect(usize),
    /// Give up the connection, or the attempt.
    Disconnect,
    /// Tell the caller.
    Finished(Token, Outcome),
    /// Tell the caller.
    Answered(Token, Result<Bytes, Trouble>),
    /// Tell the caller of a stale query.
    AnsweredStale(Token, StaleReply),
    /// Connect a watcher to the address at this position.
    Watch(usize),
    /// Give up the connection of this watcher, or the attempt.
    Unwatch(usize),
    /// A replica answers differently.
    Exposed(Disagreement),
    /// A reply came too late to be compared.
    Unchecked,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Query,
    QueryStale,
}

/// Something a caller waits for.
#[derive(Clone, Copy, Debug)]
struct Ask {
    deadline: Instant,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Queued(Kind),
    /// A request with its number.
    Numbered(RequestNumber),
    Query,
}

/// A number whose caller waits.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    token: Token,
    /// How often everything had been sent again when the number was given out: while that is the
    /// same, the request was sent at most once.
    round: u64,
}

/// A query that was or is to be sent.
#[derive(Clone, Debug)]
struct Query {
    body: Bytes,
    /// The last number given out before it, which it must see.
    after: RequestNumber,
    /// Answered from the state of whichever replica, as it is.
    stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Idle { at: Instant, position: usize },
    Connecting { position: usize, until: Instant },
    Greeting { position: usize, until: Instant },
    Asking { peer: Peer, until: Instant },
    Up { peer: Peer },
}

/// The replica at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    position: usize,
    replica: ReplicaId,
    body_len_max: usize,
}

pub(crate) struct Machine {
    settings: Settings,
    nonces: Box<dyn FnMut() -> Nonce + Send>,
    route: Route,
    link: Link,
    session: ClientSession,
    /// When something of the session was last sent.
    session_used_at: Instant,
    /// Counts how often everything was sent again.
    round: u64,
    /// 0 until known.
    cluster: ClusterId,
    asks: BTreeMap<Token, Ask>,
    deadlines: BTreeSet<(Instant, Token)>,
    queue: VecDeque<(Token, Bytes)>,
    numbers: BTreeMap<RequestNumber, Numbered>,
    queries: BTreeMap<Token, Query>,
    /// Queries to be sent (again).
    unsent_queries: BTreeSet<Token>,
    /// Stale ones to be sent (again): they wait for no leader.
    unsent_stale: BTreeSet<Token>,
    /// How far the replica that is asked is with telling who votes.
    watch: Watch,
    watchers: Watchers,
    votes: Votes,
    /// Up to which number replies were known when that was last looked at.
    known_before: RequestNumber,
    /// When replicas are asked once more for their replies, if none was accepted until then.
    hear_again_at: Instant,
    /// When somebody began to wait, or was last answered.
    moved_at: Instant,
    /// Nothing is sent before, after a refusal.
    quiet_until: Option<Instant>,
    backoff: Duration,
    /// When a named leader was last gone to.
    hinted_at: Option<Instant>,
    /// Why the replica last refused something, if nothing was answered since.
    refusal: Option<&'static str>,
    /// What the last attempt ran into.
    detail: Option<String>,
    /// The session is being ended, since nothing more will be asked.
    ending: bool,
    /// What is to be sent on the connection.
    out: Vec<u8>,
}

impl Machine {
    /// `nonces` draws 128 random bits, one for each session.
    pub(crate) fn new(
        settings: Settings,
        mut nonces: Box<dyn FnMut() -> Nonce + Send>,
        seed: u64,
    ) -> Self {
        let mut route = Route::new(settings.addresses.len(), settings.first, seed);
        let (position, _) = route.next();
        let session = ClientSession::new(nonces(), settings.window_max, settings.window_bytes_max);
        let watchers = Watchers::new(settings.addresses.len());
        Self {
            cluster: settings.cluster.unwrap_or_default(),
            settings,
            nonces,
            route,
            link: Link::Idle { at: Instant::default(), position },
            session,
            session_used_at: Instant::default(),
            round: 0,
            asks: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: VecDeque::new(),
            numbers: BTreeMap::new(),
            queries: BTreeMap::new(),
            unsent_queries: BTreeSet::new(),
            unsent_stale: BTreeSet::new(),
            watch: Watch::Unasked,
            watchers,
            votes: Votes::default(),
            known_before: RequestNumber(0),
            hear_again_at: Instant::default(),
            moved_at: Instant::default(),
            quiet_until: None,
            backoff: BACKOFF_MIN,
            hinted_at: None,
            refusal: None,
            detail: None,
            ending: false,
            out: Vec::new(),
        }
    }

    /// Takes what is to be sent on the connection.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.asks.is_empty()
    }

    /// Takes an ask; tokens ascend.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        token: Token,
        kind: Kind,
        body: Bytes,
        timeout: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if self.asks.is_empty() {
            self.moved_at = now;
        }
        let deadline = now.after(timeout);
        let stale = kind == Kind::QueryStale;
        let place = if stale { Place::Query } else { Place::Queued(kind) };
        self.asks.insert(token, Ask { deadline, place });
        self.deadlines.insert((deadline, token));
        if stale {
            // It waits for nothing that others wait for.
            self.queries.insert(token, Query { body, after: RequestNumber(0), stale });
            self.unsent_stale.insert(token);
        } else {
            self.queue.push_back((token, body));
        }
        self.go_on(now, effects);
    }

    /// The connection that was asked for stands.
    pub(crate) fn on_connected(&mut self, now: Instant) {
        if let Link::Connecting { position, until } = self.link {
            self.link = Link::Greeting { position, until };
            self.out.extend_from_slice(&PREFACE);
            let len_max = u32::try_from(self.body_len_max()).unwrap_or(u32::MAX);
            frame::encode(&mut self.out, HELLO, GroupId::NODE, 0, |body| {
                Hello::of_client(Role::Client, len_max).encode(body);
            });
            self.moved_at = now;
        }
    }

    /// The connection, or the attempt, ended by itself.
    pub(crate) fn on_closed(&mut self, now: Instant, how: &str, effects: &mut Vec<Effect>) {
        self.leave(now, how, effects);
        self.go_on(now, effects);
    }

    /// When [`Machine::on_deadline`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ask = self.deadlines.first().map(|(deadline, _)| *deadline)?;
        let link = match self.link {
            Link::Idle { at, .. } => at,
            Link::Connecting { until, .. }
            | Link::Greeting { until, .. }
            | Link::Asking { until, .. } => until,
            Link::Up { .. } => {
                let patience = self.patience_ends();
                self.quiet_until.map_or(patience, |quiet| quiet.min(patience))
            }
        };
        let own = ask.min(link);
        Some(self.hearing_deadline().map_or(own, |hearing| hearing.min(own)))
    }

    fn patience_ends(&self) -> Instant {
        self.moved_at.after(self.settings.patience)
    }

    /// Time has passed.
    pub(crate) fn on_deadline(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.link {
            Link::Connecting { until, .. }
            | Link::Greeting { until, .. }
            | Link::Asking { until, .. }
                if until <= now =>
            {
                self.leave(now, "it did not answer in time", effects);
            }
            Link::Up { .. } if !self.asks.is_empty() && self.patience_ends() <= now => {
                let why = self.refusal.unwrap_or("it left requests unanswered");
                self.leave(now, why, effects);
            }
            _ => {}
        }
        self.watchers.on_deadline(now, effects);
        while let Some(&(deadline, token)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.expire(token, effects);
        }
        self.go_on(now, effects);
    }

    /// Does what can be done now: connects, gives out numbers, sends.
    fn go_on(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Link::Asking { peer, .. } | Link::Up { peer } = self.link {
            self.send_stale(peer.body_len_max, effects);
        }
        match self.link {
            Link::Idle { at, position } if at <= now && !self.asks.is_empty() => {
                let until = now.after(self.settings.connect_timeout);
                self.link = Link::Connecting { position, until };
                effects.push(Effect::Connect(position));
            }
            Link::Up { peer } if self.quiet_until.is_none_or(|quiet| quiet <= now) => {
                self.quiet_until = None;
                self.take_queue(now, peer.body_len_max, effects);
                self.send(now);
            }
            _ => {}
        }
        self.hear(now, effects);
    }

    /// Moves asks from the queue, in order, as far as they can be sent.
    fn take_queue(&mut self, now: Instant, body_len_max: usize, effects: &mut Vec<Effect>) {
        loop {
            if self.wants_session() {
                self.leave_idle_session(now, effects);
            }
            let Some((token, body)) = self.queue.front() else { break };
            let token = *token;
            let kind = match self.asks.get(&token).map(|ask| ask.place) {
                Some(Place::Queued(kind)) => kind,
                // Its caller was told that time is up.
                _ => {
                    self.queue.pop_front();
                    continue;
                }
            };
            if body.len() + REQUEST_HEAD_LEN > body_len_max {
                self.queue.pop_front();
                self.finish_undone(token, kind, TroubleKind::TooLarge.into(), effects);
                continue;
            }
            let place = match kind {
                Kind::Request => {
                    if self.session.id().is_none() {
                        break;
                    }
                    let Some(number) = self.session.begin(body.clone()) else { break };
                    self.numbers.insert(number, Numbered { token, round: self.round });
                    Place::Numbered(number)
                }
                Kind::Query | Kind::QueryStale => {
                    let after = self.session.last_number();
                    self.queries.insert(token, Query { body: body.clone(), after, stale: false });
                    self.unsent_queries.insert(token);
                    Place::Query
                }
            };
            self.queue.pop_front();
            if let Some(ask) = self.asks.get_mut(&token) {
                ask.place = place;
            }
        }
    }

    /// A session that lay unused for long may be gone. Where nobody waits for a request of it,
    /// nothing is lost by opening another one, and whoever asks next need not be told that the
    /// outcome is unknown.
    fn leave_idle_session(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let idle = now.since(self.session_used_at) >= self.settings.session_idle;
        if idle && self.session.id().is_some() && self.numbers.is_empty() {
            self.abandon_session(None, TroubleKind::SessionLost, effects);
        }
    }

    /// Whether the first of the queue is a request that waits for a number.
    fn wants_session(&self) -> bool {
        let first = self.queue.front().and_then(|(token, _)| self.asks.get(token));
        matches!(first.map(|ask| ask.place), Some(Place::Queued(Kind::Request)))
    }

    /// Puts into the output what is to be sent. Requests go first, so that the queries behind find
    /// the numbers they come after on their way.
    fn send(&mut self, now: Instant) {
        if self.session.id().is_some() || self.wants_session() {
            let mut commands = Vec::new();
            self.session.take_unsent(&mut commands);
            if !commands.is_empty() {
                self.session_used_at = now;
            }
            for command in commands {
                self.send_message(&ClientMessage::Submit { command });
            }
        }
        for token in std::mem::take(&mut self.unsent_queries) {
            let Some(query) = self.queries.get(&token) else { continue };
            // What is acknowledged is seen anyway.
            let open = query.after > self.session.acknowledged_upto();
            let after = self.session.id().filter(|_| open).map(|session| (session, query.after));
            let message = ClientMessage::Query { id: token.0, after, body: query.body.clone() };
            self.send_message(&message);
        }
    }

    /// Sends what any replica may answer at once, whoever leads.
    fn send_stale(&mut self, body_len_max: usize, effects: &mut Vec<Effect>) {
        for token in std::mem::take(&mut self.unsent_stale) {
            let Some(query) = self.queries.get(&token) else { continue };
            if query.body.len() + REQUEST_HEAD_LEN > body_len_max {
                self.answer(token, Err(TroubleKind::TooLarge.into()), effects);
                continue;
            }
            let message = ClientMessage::QueryStale { id: token.0, body: query.body.clone() };
            self.send_message(&message);
        }
    }

    fn send_message(&mut self, message: &ClientMessage) {
        frame::encode(&mut self.out, message.kind(), GroupId::FIRST, 0, |body| {
            message.encode(body)
        });
    }

    fn body_len_max(&self) -> usize {
        self.settings.reply_bytes_max.saturating_add(REQUEST_HEAD_LEN)
    }

    /// Gives up the connection, or the attempt, because of `why`; the next address is next.
    fn leave(&mut self, now: Instant, why: &str, effects: &mut Vec<Effect>) {
        let (Link::Connecting { position, .. }
        | Link::Greeting { position, .. }
        | Link::Asking { peer: Peer { position, .. }, .. }
        | Link::Up { peer: Peer { position, .. } }) = self.link
        else {
            return;
        };
        self.detail = Some(format!("{}: {why}", self.settings.addresses[position]));
        self.route.failed(position, now);
        let (position, pause) = self.route.next();
        self.link = Link::Idle { at: now.after(pause), position };
        self.disconnected(effects);
    }

    /// Whatever was sent may be lost.
    fn disconnected(&mut self, effects: &mut Vec<Effect>) {
        self.out.clear();
        self.quiet_until = None;
        self.refusal = None;
        self.watch = Watch::Unasked;
        self.send_again();
        let stale = self.queries.iter().filter(|(_, query)| query.stale);
        self.unsent_stale.extend(stale.map(|(token, _)| token));
        effects.push(Effect::Disconnect);
    }

    fn send_again(&mut self) {
        self.round += 1;
        self.session.send_again();
        let queries = self.queries.iter().filter(|(_, query)| !query.stale);
        self.unsent_queries.extend(queries.map(|(token, _)| token));
    }

    /// Waits before anything is sent again.
    fn back_off(&mut self, now: Instant) {
        if self.quiet_until.is_some_and(|quiet| quiet > now) {
            return;
        }
        self.quiet_until = Some(now.after(self.backoff));
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
    }

    /// Something was answered.
    fn moved(&mut self, now: Instant) {
        self.moved_at = now;
        self.backoff = BACKOFF_MIN;
        self.refusal = None;
        self.detail = None;
        if let Link::Up { peer } = self.link {
            self.route.succeeded(peer.position);
        }
    }

    /// The session is of no more use: the outcome of what has a number is unknown, and the next
    /// request opens another one. Numbers from `undone_from` on were certainly not carried out.
    fn abandon_session(
        &mut self,
        undone_from: Option<RequestNumber>,
        kind: TroubleKind,
        effects: &mut Vec<Effect>,
    ) {
        // What it keeps at the replicas is of no use to anybody.
        self.send_farewell();
        self.ending = false;
        self.session = ClientSession::new(
            (self.nonces)(),
            self.settings.window_max,
            self.settings.window_bytes_max,
        );
        self.watch = Watch::Unasked;
        self.watchers.forget_session();
        self.votes.clear();
        for (number, numbered) in std::mem::take(&mut self.numbers) {
            let undone = undone_from.is_some_and(|first| number >= first);
            let trouble = kind.into();
            let outcome =
                if undone { Outcome::NotDone(trouble) } else { Outcome::Unknown(trouble) };
            self.finish(numbered.token, outcome, effects);
        }
        // Their numbers were of the session that is gone.
        for query in self.queries.values_mut() {
            query.after = RequestNumber(0);
        }
    }

    fn expire(&mut self, token: Token, effects: &mut Vec<Effect>) {
        let Some(ask) = self.asks.get(&token) else { return };
        let mut trouble = Trouble { kind: TroubleKind::TimedOut, detail: self.detail.clone() };
        match ask.place {
            Place::Queued(kind) => self.finish_undone(token, kind, trouble, effects),
            Place::Numbered(number) => {
                if let Some(wanted) = self.votes.wanted(number) {
                    trouble.detail = Some(wanted);
                }
                self.numbers.remove(&number);
                self.finish(token, Outcome::Unknown(trouble), effects);
            }
            Place::Query => self.answer(token, Err(trouble), effects),
        }
    }

    fn finish_undone(
        &mut self,
        token: Token,
        kind: Kind,
        trouble: Trouble,
        effects: &mut Vec<Effect>,
    ) {
        match kind {
            Kind::Request => self.finish(token, Outcome::NotDone(trouble), effects),
            Kind::Query | Kind::QueryStale => self.answer(token, Err(trouble), effects),
        }
    }

    fn finish(&mut self, token: Token, outcome: Outcome, effects: &mut Vec<Effect>) {
        if self.forget(token) {
            effects.push(Effect::Finished(token, outcome));
        }
    }

    fn answer(&mut self, token: Token, answer: Result<Bytes, Trouble>, effects: &mut Vec<Effect>) {
        self.queries.remove(&token);
        self.unsent_queries.remove(&token);
        self.unsent_stale.remove(&token);
        if self.forget(token) {
            effects.push(Effect::Answered(token, answer));
        }
    }

    fn forget(&mut self, token: Token) -> bool {
        self.asks.remove(&token).is_some_and(|ask| self.deadlines.remove(&(ask.deadline, token)))
    }
}
