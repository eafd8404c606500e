//! The detector's promises, one by one and against arbitrary histories.

use std::time::Duration;

use mainstay_detect::{Detector, Effect, Evidence, Input, Report, Settings};
use mainstay_model::{Epoch, Instant, ReplicaId};
use proptest::prelude::*;

fn replica(index: u16) -> ReplicaId {
    ReplicaId { index, epoch: Epoch { counter: 1, instance: 9 } }
}

/// A detector of two peers, and what it has asked for.
struct Scene {
    detector: Detector,
    now: u64,
    out: Vec<Effect>,
}

impl Scene {
    fn new() -> Self {
        let detector = Detector::new([replica(1), replica(2)], Settings::default(), Instant(0));
        Self { detector, now: 0, out: Vec::new() }
    }

    fn at(&mut self, ms: u64, input: Input) -> Vec<Effect> {
        self.now = ms;
        self.detector.step(Instant(ms * 1_000_000), input, &mut self.out);
        std::mem::take(&mut self.out)
    }

    /// Lets time pass with every deadline kept; returns the reports with their times in ms.
    fn run_until(&mut self, ms: u64) -> Vec<(u64, Report)> {
        let mut reports = Vec::new();
        while let Some(due) = self.detector.deadline() {
            let due = due.0.div_ceil(1_000_000).max(self.now);
            if due > ms {
                break;
            }
            let effects = self.at(due, Input::Deadline);
            reports.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Report(report) => Some((due, report)),
                Effect::Heartbeat { .. } => None,
            }));
        }
        self.now = ms;
        reports
    }
}

fn suspected(peer: u16, evidence: Evidence) -> Report {
    Report { peer: replica(peer), suspected: true, evidence }
}

/// etcd#7312, #13587: time-outs that fit one network and not the next.
#[test]
fn what_is_usual_is_not_suspected() {
    let patience = |ms| Input::Patience { timeout: Duration::from_millis(ms) };
    let mut scene = Scene::new();
    assert_eq!(scene.at(10, patience(900)), []);
    scene.at(10, Input::Heard { peer: replica(1) });
    let reports = scene.run_until(909);
    assert_eq!(reports, [(300, suspected(2, Evidence::Silent))], "nothing was heard of it since");
    assert_eq!(scene.run_until(2_000), [(910, suspected(1, Evidence::Silent))]);
    // A closed connection is evidence whatever the network is like.
    scene.at(2_000, Input::Heard { peer: replica(1) });
    scene.at(2_010, Input::Link { peer: replica(1), up: false });
    assert_eq!(scene.run_until(4_000), [(2_110, suspected(1, Evidence::Silent))]);
    // What was learned is forgotten again, and never falls below what was set.
    scene.at(4_000, patience(10));
    scene.at(4_000, Input::Heard { peer: replica(1) });
    assert_eq!(scene.run_until(6_000), [(4_300, suspected(1, Evidence::Silent))]);
}

#[test]
fn a_heartbeat_goes_to_every_peer_at_every_interval() {
    let mut scene = Scene::new();
    for ms in [0, 50, 100, 150] {
        let effects = scene.at(ms, Input::Deadline);
        assert_eq!(
            effects,
            [1, 2].map(|peer| Effect::Heartbeat { peer: replica(peer) }),
            "at {ms} ms"
        );
        assert_eq!(scene.detector.deadline(), Some(Instant((ms + 50) * 1_000_000)));
    }
}

#[test]
fn silence_is_suspected_after_the_time_out_and_once() {
    let mut scene = Scene::new();
    scene.run_until(200);
    scene.at(200, Input::Heard { peer: replica(1) });
    let reports = scene.run_until(2000);
    assert_eq!(
        reports,
        [(300, suspected(2, Evidence::Silent)), (500, suspected(1, Evidence::Silent))]
    );
}

#[test]
fn whoever_is_heard_again_is_trusted_again() {
    let mut scene = Scene::new();
    scene.run_until(400);
    assert!(scene.detector.suspects(replica(1)));
    let trusted = Report { peer: replica(1), suspected: false, evidence: Evidence::Heard };
    assert_eq!(scene.at(410, Input::Heard { peer: replica(1) }), [Effect::Report(trusted)]);
    assert!(!scene.detector.suspects(replica(1)));
    assert_eq!(scene.run_until(709), []);
    assert_eq!(scene.run_until(720), [(710, suspected(1, Evidence::Silent))]);
}

#[test]
fn a_closed_connection_shortens_the_time_left() {
    let mut scene = Scene::new();
    scene.run_until(20);
    assert_eq!(scene.at(20, Input::Link { peer: replica(1), up: false }), []);
    assert_eq!(scene.run_until(299), [(120, suspected(1, Evidence::Silent))]);
}

#[test]
fn a_closed_connection_that_is_opened_again_is_no_evidence() {
    let mut scene = Scene::new();
    scene.run_until(20);
    scene.at(20, Input::Link { peer: replica(1), up: false });
    scene.at(60, Input::Link { peer: replica(1), up: true });
    assert_eq!(scene.run_until(299), []);
}

#[test]
fn a_refused_connection_is_suspected_at_once_and_once() {
    let mut scene = Scene::new();
    let refused = Input::Refused { peer: replica(2) };
    let report = Effect::Report(suspected(2, Evidence::Stopped));
    assert_eq!(scene.at(5, refused), [report]);
    assert_eq!(scene.at(6, refused), []);
}

#[test]
fn who_missed_its_own_tick_does_not_accuse() {
    let mut scene = Scene::new();
    scene.run_until(100);
    // Paused from 100 ms to 5 s: everyone has been silent, as far as this process can tell.
    let effects = scene.at(5000, Input::Deadline);
    assert!(effects.iter().all(|effect| matches!(effect, Effect::Heartbeat { .. })), "{effects:?}");
    assert_eq!(scene.run_until(5299), []);
    assert_eq!(
        scene.run_until(5300),
        [(5300, suspected(1, Evidence::Silent)), (5300, suspected(2, Evidence::Silent))]
    );
}

#[test]
fn strangers_are_ignored() {
    let mut scene = Scene::new();
    let stranger = ReplicaId { index: 1, epoch: Epoch { counter: 2, instance: 9 } };
    assert_eq!(scene.at(1, Input::Heard { peer: stranger }), []);
    assert_eq!(scene.at(2, Input::Refused { peer: stranger }), []);
    assert!(!scene.detector.suspects(stranger));
}

#[test]
fn a_node_without_peers_has_no_deadline() {
    let detector = Detector::new([], Settings::default(), Instant(0));
    assert_eq!(detector.deadline(), None);
}

fn inputs() -> impl Strategy<Value = Input> {
    let peer = (0u16..4).prop_map(replica);
    prop_oneof![
        3 => Just(Input::Deadline),
        3 => peer.clone().prop_map(|peer| Input::Heard { peer }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, up)| Input::Link { peer, up }),
        1 => peer.prop_map(|peer| Input::Refused { peer }),
        1 => (0u64..2_000).prop_map(|ms| Input::Patience { timeout: Duration::from_millis(ms) }),
    ]
}

proptest! {
    /// Whatever happens, in whatever order and however late: reports about one peer alternate and
    /// match what `suspects` says, nobody is suspected for silence within a time-out of being
    /// heard unless a connection was closed, and the deadline is never put off beyond an interval.
    #[test]
    fn opinions_are_consistent(steps in proptest::collection::vec((0u64..400, inputs()), 1..200)) {
        let settings = Settings::default();
        let mut detector = Detector::new([replica(1), replica(2)], settings, Instant(0));
        let mut now = Instant(0);
        let mut doubted = [false; 3];
        let mut heard = [Instant(0); 3];
        let mut closed = [false; 3];
        let mut out = Vec::new();
        for (ms, input) in steps {
            now = now.after(Duration::from_millis(ms));
            if let Input::Heard { peer } | Input::Link { peer, up: true } = input
                && (1..3).contains(&peer.index)
            {
                heard[usize::from(peer.index)] = now;
                closed[usize::from(peer.index)] = false;
            }
            if let Input::Link { peer, up: false } = input && (1..3).contains(&peer.index) {
                closed[usize::from(peer.index)] = true;
            }
            detector.step(now, input, &mut out);
            for effect in out.drain(..) {
                let Effect::Report(report) = effect else { continue };
                let peer = usize::from(report.peer.index);
                prop_assert_ne!(doubted[peer], report.suspected);
                doubted[peer] = report.suspected;
                if report.evidence == Evidence::Silent && !closed[peer] {
                    prop_assert!(now.since(heard[peer]) >= settings.timeout);
                }
            }
            for index in 1..3u16 {
                prop_assert_eq!(detector.suspects(replica(index)), doubted[usize::from(index)]);
            }
            prop_assert!(detector.deadline().unwrap() <= now.after(settings.interval));
        }
    }
}
