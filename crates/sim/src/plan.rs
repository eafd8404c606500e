//! From a seed to a run: which world, which clients, and which faults at which times.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_consensus::{Batching, CatchUpPolicy, LeaderPolicy, Settings, Window};
use mainstay_model::plant::Planted;
use mainstay_model::{ClusterId, Plant, Prng};
use mainstay_service::SessionLimits;
use mainstay_storage::LogOptions;

use crate::drive::boot::{CheckpointPlan, GroupOptions, configuration};
use crate::fault::Fault;
use crate::kinds::Kind;
use crate::network::{Delay, NetworkOptions};
use crate::workload::WorkloadOptions;
use crate::world::NodeId;

const MILLI: u64 = 1_000_000;

/// A piece of the program has 64 KiB, so it never cuts signs of life or questions. If plans did, pieces would
/// pass all the time, and whatever was lost would wait for them.
const PIECE_LEN_MIN: u64 = 130;

/// A log of some segments.
pub(crate) const SHORT_LOG: u64 = 8 * LogOptions::SEGMENT_BYTES_MIN;

/// Everything about a run that is not decided while it runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many replicas there are.
    pub replicas: u16,
    /// How many clients speak through fronts.
    pub plain_clients: u16,
    /// How many clients have sessions of their own.
    pub session_clients: u16,
    /// What clients do.
    pub workload: WorkloadOptions,
    /// What the network does.
    pub network: NetworkOptions,
    /// The most that clocks drift, in millionths.
    pub drift_ppm_max: u64,
    /// The longest until a changed connection is noticed, in nanoseconds.
    pub link_notice_max: u64,
    /// Whether what a broken connection carried may still arrive.
    pub late_frames: bool,
    /// What replicas have in common.
    pub group: GroupOptions,
    /// How many replicas may lose what they promised.
    pub damaged_max: usize,
    /// The faults, each with its time in nanoseconds.
    pub faults: Vec<(u64, Fault)>,
    /// When everything is healed.
    pub heal_at: u64,
    /// Whether a quorum only is healed, and the others stay switched off.
    pub heal_core_only: bool,
    /// How long clients and replicas may take to finish after that, in nanoseconds.
    pub liveness_bound: u64,
}

impl Plan {
    /// The plan of a seed: each run has only some kinds of faults switched on and draws its own
    /// rates, so that rare combinations get their turn (swarm testing, Groce et al., ISSTA 2012).
    #[must_use]
    pub fn of_seed(seed: u64, plant: Option<Plant>) -> Self {
        let mut prng = Prng::new(seed ^ 0x6d61_696e_7374_6179);
        let plants = Planted(plant);
        let replicas = [3, 3, 3, 3, 3, 5, 5, 1][prng.below(8) as usize];
        let group = draw_group(&mut prng, replicas, plants);
        let kinds: Vec<Kind> = Kind::FIRST.into_iter().filter(|_| prng.chance(2, 5)).collect();
        let heal_at = prng.between(1_500, 6_000) * MILLI;
        let mut plan = Self {
            replicas,
            plain_clients: prng.between(1, 3) as u16,
            session_clients: prng.between(1, 3) as u16,
            workload: draw_workload(&mut prng, plants),
            network: draw_network(&mut prng),
            drift_ppm_max: *prng.pick(&[0, 100, 10_000, 100_000, 250_000]).unwrap_or(&0),
            link_notice_max: *prng.pick(&[1, 50, 1_000]).unwrap_or(&1) * MILLI,
            group,
            damaged_max: usize::from((replicas - 1) / 2),
            faults: Vec::new(),
            heal_at,
            heal_core_only: prng.chance(1, 3),
            late_frames: prng.chance(1, 2),
            liveness_bound: 30_000 * MILLI,
        };
        plan.draw_faults(&mut prng, &kinds);
        let mut prng = Prng::new(seed ^ 0x6c61_7465_726b_696e);
        let later: Vec<Kind> = Kind::LATER.into_iter().filter(|_| prng.chance(1, 6)).collect();
        plan.draw_faults(&mut prng, &later);
        let mut prng = Prng::new(seed ^ 0x6c61_7465_7374_6b69);
        let latest: Vec<Kind> = Kind::LATEST.into_iter().filter(|_| prng.chance(1, 6)).collect();
        plan.draw_faults(&mut prng, &latest);
        plan.group.draw_policies(&mut prng);
        let mut prng = Prng::new(seed ^ 0x6e65_7765_7374_6b69);
        let newest: Vec<Kind> = Kind::NEWEST.into_iter().filter(|_| prng.chance(1, 6)).collect();
        plan.draw_faults(&mut prng, &newest);
        if prng.chance(1, 4) {
            plan.draw_session_limits(&mut prng);
        }
        plan
    }

    /// Bounds of sessions that clients with windows as wide as these meet.
    fn draw_session_limits(&mut self, prng: &mut Prng) {
        let limits = &mut self.group.sessions;
        // Whose window is not wider meets it with repeated requests only.
        limits.replies_max = self.workload.depth as u32 + prng.below(2) as u32;
        if prng.chance(1, 3) {
            limits.reply_bytes_all_max = prng.between(1_000, 4_000);
        }
    }

    /// A schedule of faults of these kinds.
    fn draw_faults(&mut self, prng: &mut Prng, kinds: &[Kind]) {
        let interval = *prng.pick(&[60, 200, 600]).unwrap_or(&200) * MILLI;
        let mut time = prng.between(0, 400 * MILLI);
        while time < self.heal_at && !kinds.is_empty() {
            if let Some(kind) = prng.pick(kinds).copied() {
                let fault = kind.draw(prng);
                self.faults.push((time, fault));
            }
            time += prng.between(interval / 4, interval * 2);
        }
    }

    /// A calm world without any fault, for scenarios.
    #[must_use]
    pub fn calm(seed: u64, replicas: u16, plant: Option<Plant>) -> Self {
        let mut prng = Prng::new(seed);
        let plants = Planted(plant);
        Self {
            replicas,
            plain_clients: 1,
            session_clients: 2,
            workload: WorkloadOptions {
                operations: 60,
                keys: 3,
                read_percent: 30,
                lease_percent: 5,
                lease_millis_max: 400,
                depth: 1,
                think_max: 50 * MILLI,
                patience: 1_000 * MILLI,
                plants,
            },
            network: NetworkOptions::CALM,
            drift_ppm_max: 100,
            link_notice_max: 50 * MILLI,
            group: GroupOptions {
                disk_latency: prng.between(50_000, 2_000_000),
                apply_latency: 2_000,
                ordering: Settings { chunk_bytes: 512, ..Settings::default() },
                ..draw_group(&mut Prng::new(0), replicas, plants)
            },
            damaged_max: 0,
            faults: Vec::new(),
            heal_at: 4_000 * MILLI,
            heal_core_only: false,
            late_frames: false,
            liveness_bound: 30_000 * MILLI,
        }
    }

    /// Which replicas stay after healing, given which were damaged: all, or a quorum of whole ones.
    #[must_use]
    pub fn core(&self, damaged: &BTreeSet<NodeId>, prng: &mut Prng) -> Vec<NodeId> {
        let mut stay: Vec<NodeId> = (0..self.replicas).map(NodeId).collect();
        if self.heal_core_only {
            let quorum = usize::from(self.replicas / 2 + 1);
            stay.retain(|node| !damaged.contains(node));
            while stay.len() > quorum {
                stay.remove(prng.below(stay.len() as u64) as usize);
            }
        }
        stay
    }
}

fn draw_group(prng: &mut Prng, replicas: u16, plants: Planted) -> GroupOptions {
    let mut ordering = Settings::default();
    // Small bounds reach the edges that real ones reach under load only.
    if prng.chance(1, 2) {
        ordering.batch_requests_max = prng.between(1, 4) as usize;
        ordering.page_bytes_max = prng.between(1, 300) as usize;
    }
    if prng.chance(1, 2) {
        ordering.window_bytes_max = prng.between(0, 2_000) as usize;
        ordering.deliver_bytes_max = prng.between(1, 2_000) as usize;
    }
    if prng.chance(1, 3) {
        ordering.inflight_bytes_max = prng.between(1, 1_000) as usize;
        ordering.queue_requests_max = prng.between(2, 20) as usize;
    }
    draw_flow(&mut prng.clone().split(), &mut ordering);
    let piece_len = draw_pieces(&mut prng.clone().split().split(), &mut ordering);
    ordering.chunk_bytes = 512;
    let requests_min = *prng.pick(&[2, 5, 12]).unwrap_or(&5);
    let sessions_max = *prng.pick(&[4096, 4096, 8, 12]).unwrap_or(&4096);
    GroupOptions {
        cluster: ClusterId(0x5eed),
        ordering,
        detection: mainstay_detect::Settings::default(),
        sessions: SessionLimits { sessions_max, ..SessionLimits::default() },
        configuration: configuration(replicas),
        plants,
        piece_len,
        disk_latency: *prng.pick(&[30_000, 300_000, 2_000_000, 8_000_000]).unwrap_or(&300_000),
        apply_latency: *prng.pick(&[2_000, 50_000, 2_000_000]).unwrap_or(&2_000),
        checkpoints: CheckpointPlan {
            requests_min,
            requests_max: requests_min * prng.between(1, 6),
            is_changed: true,
            keep_bytes: *prng.pick(&[0, 0, 12_000]).unwrap_or(&0),
            wanted_bytes_max: *prng.pick(&[0, 100_000]).unwrap_or(&0),
        },
        log_bytes_max: None,
    }
}

impl GroupOptions {
    /// What few groups have.
    fn draw_policies(&mut self, prng: &mut Prng) {
        if prng.chance(1, 8) {
            self.ordering.leader_policy = LeaderPolicy::Rotation;
        }
        if prng.chance(1, 8) {
            let interval = Duration::from_nanos(prng.between(1, 100 * MILLI));
            self.ordering.catch_up = CatchUpPolicy::Multicast { interval };
        }
        if prng.chance(1, 8) {
            self.log_bytes_max = Some(SHORT_LOG);
        }
    }
}

/// From a generator of its own, so that seeds that found something once still do what they did.
fn draw_flow(prng: &mut Prng, ordering: &mut Settings) {
    if prng.chance(1, 4) {
        let wait = Duration::from_nanos(prng.between(1, 100 * MILLI));
        ordering.batching = Batching::Fixed { requests: prng.between(1, 5) as usize, wait };
    }
    if prng.chance(1, 4) {
        ordering.window = Window::Fixed(prng.between(1, 16) as usize);
    }
    if prng.chance(1, 4) {
        ordering.follower_bytes_max = prng.between(1, 4_000) as usize;
        ordering.ahead_slots_max = prng.between(1, 20);
        ordering.ahead_bytes_max = prng.between(1, 2_000) as usize;
    }
}

/// In how long pieces long messages travel, and which values are long, likewise.
fn draw_pieces(prng: &mut Prng, ordering: &mut Settings) -> usize {
    if prng.chance(2, 3) {
        return usize::MAX;
    }
    ordering.long_value_bytes = prng.between(60, 400) as usize;
    prng.between(60, 400).max(PIECE_LEN_MIN) as usize
}

fn draw_workload(prng: &mut Prng, plants: Planted) -> WorkloadOptions {
    WorkloadOptions {
        operations: prng.between(10, 50),
        keys: prng.between(1, 4) as u32,
        read_percent: *prng.pick(&[10, 30, 60]).unwrap_or(&30),
        lease_percent: *prng.pick(&[0, 5, 20]).unwrap_or(&5),
        lease_millis_max: *prng.pick(&[5, 300, 2_000]).unwrap_or(&300),
        depth: *prng.pick(&[1, 1, 3, 6]).unwrap_or(&1),
        think_max: *prng.pick(&[20, 100, 300]).unwrap_or(&100) * MILLI,
        patience: *prng.pick(&[400, 2_000]).unwrap_or(&2_000) * MILLI,
        plants,
    }
}

fn draw_network(prng: &mut Prng) -> NetworkOptions {
    let delay = match prng.below(4) {
        0 => Delay::Uniform { low: 20_000, high: 200_000 },
        1 => Delay::Uniform { low: 100_000, high: 5 * MILLI },
        2 => Delay::Tailed { usual: 500_000, slow_permille: 20, slow: 100 * MILLI },
        _ => Delay::Tailed { usual: 2 * MILLI, slow_permille: 100, slow: 400 * MILLI },
    };
    NetworkOptions {
        delay,
        loss_ppm: *prng.pick(&[0, 0, 5_000, 50_000, 200_000]).unwrap_or(&0),
        duplicate_ppm: *prng.pick(&[0, 0, 20_000, 200_000]).unwrap_or(&0),
        reorder: prng.chance(1, 2),
    }
}
