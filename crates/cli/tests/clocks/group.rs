//! A group of replicas with clocks of their own, and what its clients see of a key that expires.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::offset_file;
use crate::world::by_hand::ByHand;
use crate::world::cluster::REPLICAS;
use crate::world::raw::Raw;
use crate::world::wait_for;

pub(crate) const MS_PER_S: i64 = 1000;
pub(crate) const MINUTE_MS: i64 = 60 * MS_PER_S;

/// What the clock of this machine shows, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let right = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(right.as_millis()).expect("and not long after")
}

/// Three replicas, each by a clock that is wrong by as much as wished.
pub(crate) struct Group {
    replicas: ByHand,
    running: [bool; REPLICAS],
}

impl Group {
    /// Starts them and waits until all are active.
    pub(crate) fn start(offsets_ms: [i64; REPLICAS]) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let replicas = ByHand::init(&program);
        let mut group = Self { replicas, running: [false; REPLICAS] };
        for (index, offset_ms) in offsets_ms.into_iter().enumerate() {
            group.set_offset(index, offset_ms);
            group.restart(index);
        }
        group
    }

    /// The clock of a replica is wrong by so much from now on.
    pub(crate) fn set_offset(&self, index: usize, offset_ms: i64) {
        let file = offset_file(&self.replicas.folder(index).with_extension("toml"));
        // Written beside and renamed: the replica never reads half of it.
        let beside = file.with_extension("new");
        fs::write(&beside, offset_ms.to_string()).expect("the offset is written");
        fs::rename(&beside, &file).expect("the offset is in its place");
    }

    /// Who leads, once all that run are active.
    pub(crate) fn leader(&self) -> usize {
        // Whoever was killed may be taken for the leader for a while.
        wait_for("one of those that run leads", || {
            Some(self.replicas.wait_until_whole()).filter(|&leader| self.running[leader])
        })
    }

    /// What `status` warns of.
    pub(crate) fn warnings(&self) -> String {
        self.replicas.status().warnings()
    }

    /// An operator confirms a jump of decided time.
    pub(crate) fn confirm_jump(&self) {
        self.replicas.tell(&["clock", "confirm"]);
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.replicas.kill(index);
        self.running[index] = false;
    }

    /// Starts a replica, and waits until all are active if that makes three.
    pub(crate) fn restart(&mut self, index: usize) {
        self.replicas.start(index);
        self.running[index] = true;
        if self.running == [true; REPLICAS] {
            self.leader();
        }
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        let running = self.running;
        (0..REPLICAS).filter(move |&index| running[index])
    }

    fn ask(&self, index: usize, words: &[&str]) -> String {
        wait_for("a reply that is none of trouble", || {
            let mut client = Raw::connect(self.replicas.clients_at(index));
            client.command(words);
            Some(client.reply()).filter(|reply| {
                !reply.starts_with("-CLUSTERDOWN") && !reply.starts_with("-LOADING")
            })
        })
    }

    fn number(&self, index: usize, words: &[&str]) -> i64 {
        let reply = self.ask(index, words);
        let number = reply.strip_prefix(':').and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{words:?}: {reply}"))
    }

    /// Orders something, so that time is decided anew.
    pub(crate) fn count(&self, index: usize) {
        self.number(index, &["INCR", "count"]);
    }

    /// The decided time at a replica.
    fn time_ms(&self, index: usize) -> i64 {
        let info = self.ask(index, &["INFO", "mainstay"]);
        let told = info.lines().find_map(|line| line.strip_prefix("mainstay_decided_time_ms:"));
        told.and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("no time in {info}"))
    }

    /// The latest decided time at any of them.
    pub(crate) fn latest_time_ms(&self) -> i64 {
        self.running().map(|index| self.time_ms(index)).max().expect("one of them runs")
    }

    /// Sets a key that goes after so many milliseconds.
    pub(crate) fn set_with_px(&self, index: usize, key: &'static str, ms: i64) -> Watch {
        let set_at = Instant::now();
        assert_eq!(self.ask(index, &["SET", key, "v", "PX", &ms.to_string()]), "+OK\r\n");
        let due_ms = self.number(index, &["PEXPIRETIME", key]);
        Watch { key, ms, due_ms, set_at, left_ms: ms, latest_ms: [0; REPLICAS], gone: false }
    }
}

/// What was seen of a key since it was set.
pub(crate) struct Watch {
    key: &'static str,
    ms: i64,
    due_ms: i64,
    set_at: Instant,
    /// The least that was seen to be left.
    left_ms: i64,
    /// The latest decided time that was seen at each replica.
    latest_ms: [i64; REPLICAS],
    gone: bool,
}

impl Watch {
    /// Reads the key at every replica that runs and checks what is seen. Returns whether it is gone.
    pub(crate) fn read_everywhere(&mut self, group: &Group) -> bool {
        for index in group.running() {
            let before = self.see_time(group, index);
            let left = group.number(index, &["PTTL", self.key]);
            let after = self.see_time(group, index);
            if left == -2 {
                assert!(after > self.due_ms, "gone at {after}, and due only at {}", self.due_ms);
                self.gone = true;
                continue;
            }
            assert!(!self.gone, "replica {index} shows it after it was gone");
            assert!(before <= self.due_ms, "there at {before}, though due at {}", self.due_ms);
            assert!(left <= self.left_ms, "{left} ms are left, and {} were before", self.left_ms);
            self.left_ms = left;
            let due_ms = group.number(index, &["PEXPIRETIME", self.key]);
            assert!(due_ms == self.due_ms || due_ms == -2, "due at {due_ms} all at once");
        }
        self.gone
    }

    /// What is left of the key at that replica: no more than what was left before.
    pub(crate) fn left_at(&self, group: &Group, index: usize, before_ms: i64) -> i64 {
        let left = group.number(index, &["PTTL", self.key]);
        assert!((0..=before_ms).contains(&left), "{left} ms are left, and {before_ms} were before");
        left
    }

    fn see_time(&mut self, group: &Group, index: usize) -> i64 {
        let time = group.time_ms(index);
        let latest = &mut self.latest_ms[index];
        assert!(time >= *latest, "replica {index} went back from {latest} to {time}");
        *latest = time;
        time
    }

    /// It was there for at least as long as it should have been, by a clock that nobody moved. Decided
    /// time may run a tenth faster.
    pub(crate) fn must_have_lasted(&self, time: Duration) {
        let lasted = self.set_at.elapsed();
        assert!(lasted >= time * 10 / 11, "it was gone after {lasted:?}");
    }

    /// No more of its time is gone than has passed, a tenth aside, and the second that each takeover may have
    /// started above the last entry.
    pub(crate) fn must_have_at_least_left(&self, takeovers: i64) {
        let passed = i64::try_from(self.set_at.elapsed().as_millis()).expect("not for ever");
        let least = self.ms - passed - passed / 10 - 1 - takeovers * MS_PER_S;
        assert!(
            self.left_ms >= least,
            "{} ms are left, and at least {least} should be",
            self.left_ms
        );
    }
}
