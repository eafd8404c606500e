//! The tables of the configuration file that tell how requests are ordered.

use std::time::Duration;

use mainstay_consensus::{Batching, CatchUpPolicy, LeaderPolicy, Window};
use serde::{Deserialize, Serialize};

use super::Wrong;

/// The names of the leader policies.
pub(crate) const TRUSTED_RANK: &str = "trusted-rank";
pub(crate) const ROTATION: &str = "rotation";
/// The names of the ways to catch up.
pub(crate) const QUERY: &str = "query";
pub(crate) const MULTICAST: &str = "multicast";
/// The most milliseconds between two questions to all; a replica that lags more than that lags for good.
const INTERVAL_MS_MAX: u64 = 60_000;
/// The names of the forms of batches.
pub(crate) const ADAPTIVE: &str = "adaptive";
pub(crate) const FIXED: &str = "fixed";
/// What [`FIXED`] batches have if nothing is set, and the most milliseconds that one may fill.
const BATCH_REQUESTS: usize = 100;
const BATCH_WAIT_MS: u64 = 1;
/// The most requests of a batch that can be asked for.
pub(crate) const BATCH_REQUESTS_MAX: u64 = 4096;
pub(crate) const BATCH_WAIT_MS_MAX: u64 = 1000;

/// Who leads, and when that is doubted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaderSettings {
    /// Who tries first when nobody leads: `trusted-rank` or `rotation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// How many milliseconds a leader may be silent until anything was ordered; from then on the
    /// time-out follows what ordering takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

/// How a replica learns what was decided without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatchUpSettings {
    /// `query` asks one replica when something is missing; `multicast` asks all, periodically.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// How many milliseconds are between two questions to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval_ms: Option<u64>,
}

impl LeaderSettings {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Tells ordering; an error names the key and what is wrong with it.
    pub(super) fn tell(&self, ordering: &mut mainstay_consensus::Settings) -> Result<(), Wrong> {
        ordering.leader_policy = match self.policy.as_deref() {
            None | Some(TRUSTED_RANK) => LeaderPolicy::TrustedRank,
            Some(ROTATION) => LeaderPolicy::Rotation,
            Some(_) => {
                let what = format!("knows \"{TRUSTED_RANK}\" and \"{ROTATION}\"");
                return Err(("leader.policy", what));
            }
        };
        if let Some(ms) = self.timeout_ms {
            let (least, most) = (ordering.election_timeout_min, ordering.election_timeout_max);
            ordering.election_timeout = Duration::from_millis(ms);
            if !(least..=most).contains(&ordering.election_timeout) {
                let (least, most) = (least.as_millis(), most.as_millis());
                return Err(("leader.timeout_ms", format!("wants {least} to {most}")));
            }
        }
        Ok(())
    }
}

impl CatchUpSettings {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Tells ordering; an error names the key and what is wrong with it.
    pub(super) fn tell(&self, ordering: &mut mainstay_consensus::Settings) -> Result<(), Wrong> {
        let interval = match self.interval_ms {
            Some(ms) if (1..=INTERVAL_MS_MAX).contains(&ms) => Some(Duration::from_millis(ms)),
            Some(_) => {
                return Err(("catch_up.interval_ms", format!("wants 1 to {INTERVAL_MS_MAX}")));
            }
            None => None,
        };
        ordering.catch_up = match (self.policy.as_deref(), interval) {
            (None | Some(QUERY), None) => CatchUpPolicy::Query,
            (None | Some(QUERY), Some(_)) => {
                let what = format!("belongs to the policy \"{MULTICAST}\" alone");
                return Err(("catch_up.interval_ms", what));
            }
            (Some(MULTICAST), None) => CatchUpPolicy::MULTICAST,
            (Some(MULTICAST), Some(interval)) => CatchUpPolicy::Multicast { interval },
            (Some(_), _) => {
                let what = format!("knows \"{QUERY}\" and \"{MULTICAST}\"");
                return Err(("catch_up.policy", what));
            }
        };
        Ok(())
    }
}

/// When requests become a proposal, and how many proposals may be open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchingSettings {
    /// `adaptive`: a batch holds what has come while others are on their way; `fixed`: it leaves when it
    /// is full or its time is over, with one request of a client at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) form: Option<String>,
    /// How many requests fill a batch of the fixed form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<usize>,
    /// How many milliseconds a batch of the fixed form fills at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait_ms: Option<u64>,
    /// How many proposals may be open at once; it follows the latency of ordering if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<usize>,
}

impl BatchingSettings {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Tells ordering; an error names the key and what is wrong with it.
    pub(super) fn tell(&self, ordering: &mut mainstay_consensus::Settings) -> Result<(), Wrong> {
        let most = ordering.batch_requests_max;
        if !self.requests.is_none_or(|requests| (1..=most).contains(&requests)) {
            return Err(("batching.requests", format!("wants 1 to {most}")));
        }
        if !self.wait_ms.is_none_or(|ms| (1..=BATCH_WAIT_MS_MAX).contains(&ms)) {
            return Err(("batching.wait_ms", format!("wants 1 to {BATCH_WAIT_MS_MAX}")));
        }
        if self.window == Some(0) {
            return Err(("batching.window", "wants at least 1".to_owned()));
        }
        ordering.window = self.window.map_or(Window::Adaptive, Window::Fixed);
        ordering.batching = match self.form.as_deref() {
            None | Some(ADAPTIVE) => {
                let alone = format!("belongs to the form \"{FIXED}\" alone");
                if self.requests.is_some() {
                    return Err(("batching.requests", alone));
                }
                if self.wait_ms.is_some() {
                    return Err(("batching.wait_ms", alone));
                }
                Batching::Adaptive
            }
            Some(FIXED) => Batching::Fixed {
                requests: self.requests.unwrap_or(BATCH_REQUESTS),
                wait: Duration::from_millis(self.wait_ms.unwrap_or(BATCH_WAIT_MS)),
            },
            Some(_) => {
                return Err(("batching.form", format!("knows \"{ADAPTIVE}\" and \"{FIXED}\"")));
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, read};
    use super::*;

    #[test]
    fn leaders_are_chosen_as_the_file_says() {
        let default = read(GOOD).unwrap().ordering;
        assert_eq!(default.leader_policy, LeaderPolicy::TrustedRank);
        let text = format!("{GOOD}\n[leader]\npolicy = \"rotation\"\ntimeout_ms = 800\n");
        let ordering = read(&text).unwrap().ordering;
        assert_eq!(ordering.leader_policy, LeaderPolicy::Rotation);
        assert_eq!(ordering.election_timeout, Duration::from_millis(800));
        assert_eq!(ordering.fault(), None);
    }

    #[test]
    fn a_replica_catches_up_as_the_file_says() {
        let ordering =
            |lines: &str| read(&format!("{GOOD}\n[catch_up]\n{lines}")).unwrap().ordering;
        assert_eq!(ordering("").catch_up, CatchUpPolicy::Query);
        assert_eq!(ordering("policy = \"query\"\n").catch_up, CatchUpPolicy::Query);
        assert_eq!(ordering("policy = \"multicast\"\n").catch_up, CatchUpPolicy::MULTICAST);
        let often = ordering("policy = \"multicast\"\ninterval_ms = 20\n").catch_up;
        assert_eq!(often, CatchUpPolicy::Multicast { interval: Duration::from_millis(20) });
    }

    #[test]
    fn batches_and_their_window_are_as_the_file_says() {
        let ordering =
            |lines: &str| read(&format!("{GOOD}\n[batching]\n{lines}")).unwrap().ordering;
        let (plain, fixed) = (ordering(""), ordering("form = \"fixed\"\n"));
        assert_eq!((plain.batching, plain.window), (Batching::Adaptive, Window::Adaptive));
        let wait = Duration::from_millis(BATCH_WAIT_MS);
        assert_eq!(fixed.batching, Batching::Fixed { requests: BATCH_REQUESTS, wait });
        let set = ordering("form = \"fixed\"\nrequests = 20\nwait_ms = 5\nwindow = 8\n");
        let wait = Duration::from_millis(5);
        assert_eq!(set.batching, Batching::Fixed { requests: 20, wait });
        assert_eq!(set.window, Window::Fixed(8));
        let wrong = [
            ("form = \"large\"\n", "line 12: `batching.form` knows \"adaptive\" and \"fixed\""),
            ("requests = 20\n", "line 12: `batching.requests` belongs to the form \"fixed\""),
            ("form = \"fixed\"\nrequests = 0\n", "line 13: `batching.requests` wants 1 to 4096"),
            ("wait_ms = 5000\n", "line 12: `batching.wait_ms` wants 1 to 1000"),
            ("window = 0\n", "line 12: `batching.window` wants at least 1"),
        ];
        for (lines, wanted) in wrong {
            let failure = read(&format!("{GOOD}\n[batching]\n{lines}")).unwrap_err();
            assert!(failure.sentence.contains(wanted), "{lines}: {failure}");
        }
    }
}
