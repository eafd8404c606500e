//! A latency, estimated from samples as TCP estimates a round trip: a smoothed mean and a smoothed
//! deviation (Jacobson, "Congestion avoidance and control", SIGCOMM 1988; RFC 6298, section 2).

use core::time::Duration;

use mainstay_model::time::nanos;

/// What samples of one latency have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Estimate {
    smoothed: u64,
    deviation: u64,
    sampled: bool,
}

impl Estimate {
    /// Takes a sample: gains of one eighth and one quarter (RFC 6298, 2.2 and 2.3).
    pub(crate) fn add(&mut self, sample: Duration) {
        let sample = nanos(sample);
        if self.sampled {
            let off = self.smoothed.abs_diff(sample);
            self.deviation = self.deviation - self.deviation / 4 + off / 4;
            self.smoothed = self.smoothed - self.smoothed / 8 + sample / 8;
        } else {
            *self = Self { smoothed: sample, deviation: sample / 2, sampled: true };
        }
    }

    /// What it usually is; `None` before the first sample.
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.sampled.then(|| Duration::from_nanos(self.smoothed))
    }

    /// What it hardly ever exceeds: the smoothed value plus four deviations; `None` before the first
    /// sample.
    pub(crate) fn at_most(&self) -> Option<Duration> {
        let bound = self.smoothed.saturating_add(self.deviation.saturating_mul(4));
        self.sampled.then(|| Duration::from_nanos(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_sample_counts_whole_and_later_ones_by_an_eighth() {
        let mut estimate = Estimate::default();
        assert_eq!((estimate.usual(), estimate.at_most()), (None, None));
        estimate.add(8 * MS);
        assert_eq!((estimate.usual(), estimate.at_most()), (Some(8 * MS), Some(24 * MS)));
        estimate.add(16 * MS);
        assert_eq!(estimate.usual(), Some(9 * MS));
        assert_eq!(estimate.at_most(), Some(9 * MS + 4 * 5 * MS));
    }

    #[test]
    fn it_settles_where_the_samples_are() {
        let mut estimate = Estimate::default();
        estimate.add(Duration::from_secs(1));
        for _ in 0..200 {
            estimate.add(5 * MS);
        }
        let (usual, bound) = (estimate.usual().unwrap(), estimate.at_most().unwrap());
        assert!(usual >= 5 * MS && usual < 6 * MS, "{usual:?}");
        assert!(bound < 7 * MS, "{bound:?}");
        estimate.add(Duration::MAX);
        estimate.add(Duration::MAX);
        assert!(estimate.at_most() > Some(bound), "nothing overflows");
    }
}
