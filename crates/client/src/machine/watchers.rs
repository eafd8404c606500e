//! The connections over which other replicas than the one that is asked tell their own replies: one
//! to each address but that one's.

use std::time::Duration;

use mainstay_model::hello::{HELLO, Hello, Role};
use mainstay_model::{GroupId, Instant, ReplicaId, RequestNumber, SessionId, frame};
use mainstay_service::native::{ClientMessage, PREFACE};

use super::Effect;

/// The pause after a failure; doubled with each further one in a row.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How far a replica is with telling the replies of the present session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Watch {
    /// It was not asked for them.
    #[default]
    Unasked,
    /// It was asked, and has not said yet who votes.
    Asked,
    /// What it tells is its own reply, and counts if it votes.
    Heard { votes: bool },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Off,
    Pausing {
        until: Instant,
    },
    Connecting {
        until: Instant,
    },
    Greeting {
        until: Instant,
    },
    Up {
        replica: ReplicaId,
    },
}

/// One for each address.
#[derive(Debug)]
pub(super) struct Watchers {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Default)]
struct Line {
    link: Link,
    watch: Watch,
    failures: u32,
    out: Vec<u8>,
}

/// What the machine wants of its watchers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The address of the replica that is asked; nobody watches there.
    pub(super) asked: usize,
    /// The session to watch, and up to where its replies are known.
    pub(super) session: Option<(SessionId, RequestNumber)>,
    /// Whether connections are to be made.
    pub(super) connect: bool,
    /// How long connecting and greeting may take.
    pub(super) timeout: Duration,
}

impl Watchers {
    pub(super) fn new(addresses: usize) -> Self {
        Self { lines: vec![Line::default(); addresses] }
    }

    /// Connects, gives up and asks as wished.
    pub(super) fn go_on(&mut self, now: Instant, wish: Wish, effects: &mut Vec<Effect>) {
        for (position, line) in self.lines.iter_mut().enumerate() {
            if position == wish.asked {
                if !matches!(line.link, Link::Off) {
                    line.give_up(Link::Off);
                    effects.push(Effect::Unwatch(position));
                }
                continue;
            }
            if matches!(line.link, Link::Pausing { until } if until <= now) {
                line.link = Link::Off;
            }
            if line.link == Link::Off && wish.connect && wish.session.is_some() {
                line.link = Link::Connecting { until: now.after(wish.timeout) };
                effects.push(Effect::Watch(position));
            }
            if let (Link::Up { .. }, Watch::Unasked, Some((session, after))) =
                (line.link, line.watch, wish.session)
            {
                line.ask(session, after);
            }
        }
    }

    /// Asks every replica once more for what it keeps.
    pub(super) fn ask_again(&mut self, session: SessionId, after: RequestNumber) {
        for line in &mut self.lines {
            if matches!(line.link, Link::Up { .. }) {
                line.ask(session, after);
            }
        }
    }

    /// Asks one replica for the rest of what it keeps.
    pub(super) fn ask_more(&mut self, position: usize, session: SessionId, after: RequestNumber) {
        self.lines[position].ask(session, after);
    }

    /// Another session begins.
    pub(super) fn forget_session(&mut self) {
        self.lines.iter_mut().for_each(|line| line.watch = Watch::Unasked);
    }

    pub(super) fn on_connected(&mut self, position: usize, len_max: u32) {
        let line = &mut self.lines[position];
        if let Link::Connecting { until } = line.link {
            line.link = Link::Greeting { until };
            line.out.extend_from_slice(&PREFACE);
            frame::encode(&mut line.out, HELLO, GroupId::NODE, 0, |body| {
                Hello::of_client(Role::Client, len_max).encode(body);
            });
        }
    }

    /// The connection ended, or is of no more use.
    pub(super) fn failed(&mut self, now: Instant, position: usize) {
        let line = &mut self.lines[position];
        if matches!(line.link, Link::Off) {
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << line.failures.min(16)).min(PAUSE_MAX);
        line.failures = line.failures.saturating_add(1);
        line.give_up(Link::Pausing { until: now.after(pause) });
    }

    pub(super) fn is_greeting(&self, position: usize) -> bool {
        matches!(self.lines[position].link, Link::Greeting { .. })
    }

    /// Whether what comes over this connection is still of interest.
    pub(super) fn is_open(&self, position: usize) -> bool {
        matches!(self.lines[position].link, Link::Greeting { .. } | Link::Up { .. })
    }

    pub(super) fn greeted(&mut self, position: usize, replica: ReplicaId) {
        self.lines[position].link = Link::Up { replica };
    }

    /// The replica told who votes.
    pub(super) fn heard(&mut self, position: usize, votes: bool) {
        let line = &mut self.lines[position];
        line.watch = Watch::Heard { votes };
        line.failures = 0;
    }

    /// Who is at the other end, and how far it is.
    pub(super) fn replica(&self, position: usize) -> Option<(ReplicaId, Watch)> {
        let line = &self.lines[position];
        match line.link {
            Link::Up { replica } => Some((replica, line.watch)),
            _ => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = |line: &Line| match line.link {
            Link::Pausing { until } | Link::Connecting { until } | Link::Greeting { until } => {
                Some(until)
            }
            Link::Off | Link::Up { .. } => None,
        };
        self.lines.iter().filter_map(due).min()
    }

    pub(super) fn on_deadline(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for position in 0..self.lines.len() {
            if let Link::Connecting { until } | Link::Greeting { until } = self.lines[position].link
                && until <= now
            {
                self.failed(now, position);
                effects.push(Effect::Unwatch(position));
            }
        }
    }

    pub(super) fn take_output(&mut self, position: usize) -> Vec<u8> {
        std::mem::take(&mut self.lines[position].out)
    }
}

impl Line {
    fn give_up(&mut self, link: Link) {
        self.link = link;
        self.watch = Watch::Unasked;
        self.out.clear();
    }

    fn ask(&mut self, session: SessionId, after: RequestNumber) {
        if self.watch == Watch::Unasked {
            self.watch = Watch::Asked;
        }
        let message = ClientMessage::Watch { session, after };
        frame::encode(&mut self.out, message.kind(), GroupId::FIRST, 0, |body| {
            message.encode(body);
        });
    }
}
