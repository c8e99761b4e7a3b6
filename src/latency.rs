//! Durations, counted in buckets for a histogram.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The durations of one kind of work.
#[derive(Debug)]
pub struct Latency {
    bounds: &'static [f64],
    /// One more than there are bounds: the last one is for longer durations.
    buckets: Box<[AtomicU64]>,
    micros: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyFigures {
    /// The upper bound of each bucket in seconds, and the number of durations in that bucket alone.
    pub buckets: Vec<(f64, u64)>,
    /// All durations together, in seconds.
    pub seconds: f64,
}

impl Latency {
    /// None yet, in buckets with these upper bounds, in seconds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), micros: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| took.as_secs_f64() > *bound);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// The counts by now.
    pub fn figures(&self) -> LatencyFigures {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        LatencyFigures {
            buckets: bounds.zip(self.buckets.iter().map(|count| count.load(Relaxed))).collect(),
            seconds: Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_bucket_of_its_bound() {
        let latency = Latency::new(&[0.5, 1.0]);
        for milliseconds in [0, 500, 501, 1000, 1001, 5000] {
            latency.observe(Duration::from_millis(milliseconds));
        }
        let LatencyFigures { buckets, seconds } = latency.figures();
        assert_eq!(buckets, [(0.5, 2), (1.0, 2), (f64::INFINITY, 2)]);
        assert!((seconds - 8.002).abs() < 1e-9);
    }
}
