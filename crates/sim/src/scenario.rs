//! Scenarios by name: a script of faults, and by when there must be progress again.
//!
//! The three partial partitions are those that stop other protocols (Ng, Haridi and Carbone,
//! "Omni-Paxos: breaking the barriers of partial connectivity", EuroSys 2023, section 2): whenever
//! one voting replica is connected to a quorum, the group makes progress after bounded time.

mod ballots;
mod damage;
mod ends;
mod executors;
mod partitions;
mod reads;
mod states;
mod time;

use std::ops::Range;
use std::time::Duration;

use mainstay_model::time::nanos;
use mainstay_model::{Plant, Prng};

use crate::fault::Fault;
use crate::network::{Delay, NetworkOptions};
use crate::plan::Plan;
use crate::run::{RunOptions, RunReport, build, conclude, report};
use crate::workload::WorkloadOptions;
use crate::world::{NodeId, World};

const MILLI: u64 = 1_000_000;

/// A scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens in it, in a sentence.
    pub about: &'static str,
    replicas: u16,
    /// What is changed in the plan that all scenarios share.
    aim: fn(&mut Plan),
    script: fn(&mut Stage),
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "quorum-loss",
        about: "five replicas; all reach one hub and nobody else, and the leader is not the hub: \
                only the hub has a quorum, although everybody hears of the old leader",
        replicas: 5,
        aim: |_| {},
        script: partitions::quorum_loss,
    },
    Scenario {
        name: "constrained-election",
        about: "five replicas; the leader is cut off, and the only replica that reaches a quorum \
                has missed the latest entries",
        replicas: 5,
        aim: |_| {},
        script: partitions::constrained_election,
    },
    Scenario {
        name: "chained",
        about: "three replicas in a chain, the leader at one end: the other end does not hear it \
                and must not unseat it for ever",
        replicas: 3,
        aim: |_| {},
        script: partitions::chained,
    },
    Scenario {
        name: "deaf-leader",
        about: "everybody hears the leader, and it hears nobody: it has to step down by itself",
        replicas: 3,
        aim: |_| {},
        script: partitions::deaf_leader,
    },
    Scenario {
        name: "damaged-copy",
        about: "one follower misses entries, the log of the other is damaged there, and the \
                leader goes: who is left must wait for it rather than guess",
        replicas: 3,
        aim: many_in_flight,
        script: damage::damaged_copy,
    },
    Scenario {
        name: "damaged-end",
        about: "one follower misses an entry, and of the other one the last record of all is damaged \
                that it had accepted: no entry that anybody still knows of reaches as high",
        replicas: 3,
        aim: damage::large_batches,
        script: damage::damaged_end,
    },
    Scenario {
        name: "wiped-copy",
        about: "one follower misses entries, the folder of the other is lost, and the leader goes: \
                who came back without memory must not vote, also not after one more restart",
        replicas: 3,
        aim: |_| {},
        script: damage::wiped_copy,
    },
    Scenario {
        name: "resumed-ballot",
        about: "a leader loses power with proposals under way that one follower has accepted, and \
                comes back to the other one: it must not go on in its old ballot",
        replicas: 3,
        aim: many_in_flight,
        script: ballots::resumed_ballot,
    },
    Scenario {
        name: "two-ballots",
        about: "a leader was cut off with proposals under way, its successor decided others in their \
                slots and dies, and both values are reported to the next leader",
        replicas: 3,
        aim: many_in_flight,
        script: ballots::two_ballots,
    },
    Scenario {
        name: "stale-acceptor",
        about: "the leader does not hear of its successor, and goes on proposing to a replica \
                that has promised the successor",
        replicas: 3,
        aim: ballots::lossy,
        script: ballots::stale_acceptor,
    },
    Scenario {
        name: "pending-acceptor",
        about: "a follower with a slow disk no longer hears the leader, which still hears it, while \
                a successor asks it what it has accepted",
        replicas: 3,
        aim: ballots::drifting,
        script: ballots::pending_acceptor,
    },
    Scenario {
        name: "late-successor",
        about: "who takes over has missed what the others decided, and is asked at once what the registers \
                hold: it answers no read before it has learned all that was decided",
        replicas: 3,
        aim: ballots::reading_much,
        script: ballots::late_successor,
    },
    Scenario {
        name: "late-answer",
        about: "a replica asks the leader, whose answers are long on their way, from which slot on it may read; \
                another one leads by then, is asked the same, and what the first had answered comes",
        replicas: 5,
        aim: reads::reading_and_writing,
        script: reads::late_answer,
    },
    Scenario {
        name: "stale-donor",
        about: "a leader was cut off with proposals under way, its successor decided otherwise, and \
                a replica that lost everything asks the old leader what was decided",
        replicas: 3,
        aim: all_in_the_log,
        script: damage::stale_donor,
    },
    Scenario {
        name: "slow-follower-disk",
        about: "the disk of one follower is a hundred times slower for a while: the others go on as if \
                it were not there, and it catches up afterwards",
        replicas: 3,
        aim: states::busy,
        script: states::slow_follower_disk,
    },
    Scenario {
        name: "full-follower",
        about: "the disk of one follower is full for a while: it executes what the others decide all the same, \
                is killed meanwhile, and keeps what it missed afterwards",
        replicas: 3,
        aim: states::followed_from_logs,
        script: states::full_follower,
    },
    Scenario {
        name: "full-voter",
        about: "the disk of the only follower that the leader reaches is slow, then full, with much under \
                way: it must not vote for what it cannot keep, for the leader dies then",
        replicas: 3,
        aim: states::much_in_flight,
        script: states::full_voter,
    },
    Scenario {
        name: "full-disks",
        about: "all disks are slow, then full, with much under way, that of the leader, too: nobody goes on \
                from what could not be written, and all go on once there is room",
        replicas: 3,
        aim: states::much_in_flight,
        script: states::full_disks,
    },
    Scenario {
        name: "full-of-little",
        about: "a replica alone is killed again and again before it can note anything as decided, until its \
                log is full of the few values that it proposed anew each time: nothing more counts towards a \
                checkpoint then, and there must be one",
        replicas: 1,
        aim: states::few_requests,
        script: states::full_of_little,
    },
    Scenario {
        name: "slow-leader-disk",
        about: "the disk of the leader is a hundred times slower for a while, checkpoints included",
        replicas: 3,
        aim: states::busy,
        script: states::slow_leader_disk,
    },
    Scenario {
        name: "away-for-long",
        about: "a replica is away while the others discard what it has not seen, and comes back",
        replicas: 3,
        aim: states::busy,
        script: states::away_for_long,
    },
    Scenario {
        name: "transfer-under-fire",
        about: "a replica that needs the state of the others is killed while it fetches it, again and \
                again, and so are those that give it",
        replicas: 5,
        aim: states::many_pieces,
        script: states::transfer_under_fire,
    },
    Scenario {
        name: "lone-holder",
        about: "of the two replicas that hold the stable checkpoint one goes for good and the other \
                restarts, while the third, which has missed it, comes back",
        replicas: 3,
        aim: states::busy,
        script: states::lone_holder,
    },
    Scenario {
        name: "untold-checkpoint",
        about: "one replica after the other loses power when a checkpoint has just got its name: it could not \
                tell of it, and may hold it afterwards all the same",
        replicas: 3,
        aim: states::busy,
        script: states::untold_checkpoint,
    },
    Scenario {
        name: "wrong-pieces",
        about: "a replica that needs the state of the others is given another one than it asked for",
        replicas: 3,
        aim: states::many_pieces,
        script: states::wrong_pieces,
    },
    Scenario {
        name: "diverged",
        about: "the state of one replica becomes another than the log says: it is found, stops, \
                and takes over the state of the others",
        replicas: 3,
        aim: states::busy,
        script: states::diverged,
    },
    Scenario {
        name: "diverged-while-writing",
        about: "the same where checkpoints take long to write: when a state is found to be wrong, one of it is \
                being written, and must not stand there afterwards",
        replicas: 3,
        aim: states::many_pieces,
        script: states::diverged,
    },
    Scenario {
        name: "diverged-late",
        about: "a wrong state is found out only at its second checkpoint, what is fetched instead rots at \
                once, and the replica restarts: nothing that no quorum confirmed may serve it",
        replicas: 3,
        aim: states::long_memory,
        script: states::diverged_late,
    },
    Scenario {
        name: "refused-for-a-while",
        about: "a replica that needs the state of the others can restore none for a while, and its process \
                stays: it takes the state over as soon as it can",
        replicas: 3,
        aim: states::busy,
        script: states::refused_for_a_while,
    },
    Scenario {
        name: "other-program",
        about: "all replicas are started with a program that can restore no checkpoint, and then with the \
                right one again",
        replicas: 3,
        aim: states::busy,
        script: states::other_program,
    },
    Scenario {
        name: "no-checkpoints",
        about: "no replica can write a checkpoint until the bounded logs are full; then they can again, and \
                nobody starts anything anew",
        replicas: 3,
        aim: states::short_log,
        script: states::no_checkpoints,
    },
    Scenario {
        name: "restarts",
        about: "one replica after the other is killed, over and over, while logs are discarded: what was \
                promised must outlive the segment that it was written in",
        replicas: 3,
        aim: states::busy,
        script: states::restarts,
    },
    Scenario {
        name: "forgotten-promise",
        about: "a replica promises a successor, lets go of all of its log that a checkpoint covers, restarts, \
                and hears the old leader before the successor: it must know the promise still",
        replicas: 3,
        aim: states::all_covered,
        script: states::forgotten_promise,
    },
    Scenario {
        name: "clocks",
        about: "clocks drift by a tenth and jump by hours, both ways, and leaders come and go, while \
                leases are taken and expire",
        replicas: 3,
        aim: states::leases,
        script: states::clocks,
    },
    Scenario {
        name: "idle-hours",
        about: "nothing is asked for hours, then the leader dies: time has passed all the same, and its \
                successor makes no jump of that",
        replicas: 3,
        aim: time::soon_idle,
        script: time::idle_hours,
    },
    Scenario {
        name: "lagging-candidate",
        about: "who takes over has missed hours, with or without a memory of its own: its clock starts \
                from what the others know",
        replicas: 3,
        aim: time::working_for_hours,
        script: time::lagging_candidate,
    },
    Scenario {
        name: "year-ahead",
        about: "a checkpoint covers the whole log, the power fails, and every clock comes back a year ahead: \
                no lease and no session ends on that account",
        replicas: 3,
        aim: time::leases_at_the_tip,
        script: time::year_ahead,
    },
    Scenario {
        name: "shown-time",
        about: "clients ask what time it is while nothing is written, every clock is behind, and leaders \
                die with what they remember: what was shown does not go back",
        replicas: 3,
        aim: time::asking_for_time,
        script: time::shown_time,
    },
    Scenario {
        name: "hanging-service",
        about: "the service of the leader hangs, and those of the others do not: one of them leads soon, \
                and keeps the office",
        replicas: 3,
        aim: executors::steady,
        script: executors::hanging_service,
    },
    Scenario {
        name: "panicking-service",
        about: "the service of the leader panics over a request, and those of the others do not: one of \
                them leads soon, and the first comes back when it is restarted",
        replicas: 5,
        aim: executors::steady,
        script: executors::panicking_service,
    },
    Scenario {
        name: "no-service-executes",
        about: "the services of all replicas hang: the leader stays, and once they go on, so do the \
                clients",
        replicas: 3,
        aim: executors::steady,
        script: executors::no_service_executes,
    },
    Scenario {
        name: "leader-kill",
        about: "the leader's process is killed and comes back, three times",
        replicas: 3,
        aim: |_| {},
        script: ends::leader_kill,
    },
    Scenario {
        name: "all-down",
        about: "all replicas lose power at once and come back",
        replicas: 3,
        aim: |_| {},
        script: ends::all_down,
    },
];

/// The scenario of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Plays the scenario; the seed draws delays and clients.
    #[must_use]
    pub fn run(&self, seed: u64, options: &RunOptions) -> RunReport {
        let plan = self.plan(seed, options.plant);
        let world = build(seed, &plan, options.keep_trace);
        let timeout = nanos(plan.group.ordering.election_timeout);
        let first = plan.replicas + plan.plain_clients;
        let seeking = first..first + plan.session_clients;
        let disk_latency = plan.group.disk_latency;
        let mut stage = Stage { world, timeout, seeking, disk_latency, longest_gap: 0 };
        stage.run_for(600 * MILLI);
        (self.script)(&mut stage);
        let Stage { mut world, longest_gap, .. } = stage;
        let core: Vec<NodeId> = (0..plan.replicas)
            .map(NodeId)
            .filter(|&node| !world.core.node(node).held_down)
            .collect();
        let judged = conclude(&mut world, &plan, &core);
        RunReport { longest_gap: Duration::from_nanos(longest_gap), ..report(seed, judged, world) }
    }

    fn plan(&self, seed: u64, plant: Option<Plant>) -> Plan {
        let mut prng = Prng::new(seed);
        let mut plan = Plan::calm(seed, self.replicas, plant);
        plan.network = NetworkOptions {
            delay: match prng.below(3) {
                0 => Delay::Uniform { low: 20_000, high: 300_000 },
                1 => Delay::Uniform { low: MILLI, high: 10 * MILLI },
                _ => Delay::Tailed { usual: 2 * MILLI, slow_permille: 20, slow: 40 * MILLI },
            },
            ..NetworkOptions::CALM
        };
        plan.link_notice_max = *prng.pick(&[1, 50, 1_000]).unwrap_or(&1) * MILLI;
        plan.session_clients = 5;
        plan.workload = WorkloadOptions {
            operations: 100,
            think_max: 120 * MILLI,
            patience: 400 * MILLI,
            ..plan.workload
        };
        (self.aim)(&mut plan);
        plan
    }
}

/// A world with a script.
struct Stage {
    world: World,
    /// One election time-out.
    timeout: u64,
    /// The clients with sessions.
    seeking: Range<u16>,
    /// How long a write and sync usually takes, in nanoseconds.
    disk_latency: u64,
    longest_gap: u64,
}

impl Stage {
    fn run_for(&mut self, nanos: u64) {
        let until = self.world.core.time() + nanos;
        self.world.run_until(until);
    }

    fn now(&mut self, fault: Fault) {
        let time = self.world.core.time();
        self.world.core.plan(time, fault);
        self.run_for(0);
    }

    /// Time passes only as long as nothing was violated.
    fn goes_on_until(&self, until: u64) -> bool {
        self.world.core.time() < until && self.world.core.violation.is_none()
    }

    /// Runs until that is so, to within a millisecond, but for so many nanoseconds at most; whether it
    /// became so.
    fn run_until(&mut self, longest: u64, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.world.core.time() + longest;
        while !is_so(self) {
            if !self.goes_on_until(until) {
                return false;
            }
            self.run_for(MILLI);
        }
        true
    }

    /// Demands what has to have come about by now.
    fn demand(&mut self, has_come: bool, what: &str) {
        if !has_come && self.world.core.violation.is_none() {
            self.world.core.violated("liveness", what.to_owned());
        }
    }

    fn leader(&mut self) -> NodeId {
        self.world.leader().unwrap_or(NodeId(self.world.core.replicas - 1))
    }

    /// Who tries first to lead when the leader is gone.
    fn first_in_line(&self, leader: NodeId) -> NodeId {
        let mut replicas = (0..self.world.core.replicas).map(NodeId);
        replicas.rfind(|&node| node != leader).unwrap_or(leader)
    }

    /// The highest ballot that anybody has promised, by its round.
    fn ballot(&mut self) -> u64 {
        let replicas = (0..self.world.core.replicas).map(NodeId);
        replicas.filter_map(|node| self.world.picture(node)).map(|p| p.ballot).max().unwrap_or(0)
    }

    /// Mends everything, then cuts both directions between every two replicas that are not linked.
    fn link_only(&mut self, linked: impl Fn(NodeId, NodeId) -> bool) {
        let all: Vec<NodeId> = (0..self.world.core.replicas).map(NodeId).collect();
        let mut cuts = Vec::new();
        for &from in &all {
            for &to in all.iter().filter(|&&to| to != from) {
                if !linked(from, to) && !linked(to, from) {
                    cuts.push((from, to));
                }
            }
        }
        self.now(Fault::Mend);
        self.now(Fault::Cut(cuts));
    }

    /// Runs until that many more slots were decided somewhere, to within a tenth of a millisecond,
    /// but for three election time-outs at most.
    fn run_until_decided(&mut self, count: u64) {
        let wanted = self.world.core.recorder.decided_upto().0 + count;
        let until = self.world.core.time() + 3 * self.timeout;
        while self.world.core.recorder.decided_upto().0 < wanted && self.goes_on_until(until) {
            self.run_for(MILLI / 10);
        }
    }

    /// Runs until another replica than `old` leads; `None` if none does in three time-outs.
    fn wait_for_leader_but(&mut self, old: NodeId) -> Option<NodeId> {
        let until = self.world.core.time() + 3 * self.timeout;
        while self.goes_on_until(until) {
            let others = (0..self.world.core.replicas).map(NodeId).filter(|&node| node != old);
            for node in others {
                if self.world.picture(node).is_some_and(|picture| picture.leads) {
                    return Some(node);
                }
            }
            self.run_for(MILLI / 10);
        }
        None
    }

    /// Whether the clients with sessions, which seek out whoever answers, have nothing left to ask.
    fn all_asked(&mut self) -> bool {
        let seeking = self.seeking.clone();
        seeking
            .map(NodeId)
            .all(|client| self.world.picture(client).is_none_or(|picture| picture.open == 0))
    }

    /// From now on requests must be carried out again within four election time-outs, three times
    /// in a row.
    fn expect_progress(&mut self, from: u64) {
        let mut since = from;
        for _ in 0..3 {
            let until = since + 4 * self.timeout;
            self.world.run_until(until);
            let Some(at) = self.world.core.recorder.progress_after(since) else {
                if self.world.core.violation.is_none() && !self.all_asked() {
                    let after = Duration::from_nanos(until - since);
                    let what = format!("no request was carried out within {after:?}");
                    self.world.core.violated("liveness", what);
                }
                return;
            };
            self.longest_gap = self.longest_gap.max(at - since);
            since = until;
        }
    }
}

/// The two followers, in random order.
fn followers(stage: &mut Stage, leader: NodeId) -> (NodeId, NodeId) {
    let first = 1 + stage.world.core.prng.below(2) as u16;
    (NodeId((leader.0 + first) % 3), NodeId((leader.0 + 3 - first) % 3))
}

/// Every request takes a slot of its own, and many are open at once.
fn many_in_flight(plan: &mut Plan) {
    plan.workload.depth = 4;
    plan.workload.think_max = 20 * MILLI;
    plan.workload.read_percent = 10;
    plan.workload.operations = 200;
    plan.group.ordering.batch_requests_max = 1;
}

/// The same, and nothing of it is discarded: whoever lags learns it value by value.
fn all_in_the_log(plan: &mut Plan) {
    many_in_flight(plan);
    plan.group.checkpoints.requests_min = 1_000_000;
    plan.group.checkpoints.requests_max = 1_000_000;
}
