//! Metrics as they are written: a family is a counter or a gauge with labels.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// More slots than there are sets of words in this program that belong together.
const SLOTS: usize = 512;

/// The name of a metric, and its help text.
pub(super) struct About(pub(super) &'static str, pub(super) &'static str);

/// A counter for each set of words that has come up.
#[derive(Debug)]
pub(super) struct CounterFamily<const N: usize> {
    name: &'static str,
    labels: [&'static str; N],
    slots: Box<[Slot<N>]>,
}

type Slot<const N: usize> = OnceLock<([&'static str; N], AtomicU64)>;

impl<const N: usize> CounterFamily<N> {
    pub(super) fn new(name: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, labels, slots: (0..SLOTS).map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn count(&self, words: [&'static str; N]) {
        self.add(words, 1);
    }

    pub(super) fn add(&self, words: [&'static str; N], times: u64) {
        for slot in &self.slots {
            let (known, count) = slot.get_or_init(|| (words, AtomicU64::new(0)));
            if *known == words {
                count.fetch_add(times, Relaxed);
                return;
            }
        }
    }

    /// Each set of words with its count.
    pub(super) fn counts(&self) -> Vec<([&'static str; N], u64)> {
        let known = self.slots.iter().map_while(OnceLock::get);
        known.map(|(words, count)| (*words, count.load(Relaxed))).collect()
    }

    pub(super) fn encode(&self, to: &mut DescriptorEncoder<'_>, help: &'static str) -> fmt::Result {
        labelled_counters(to, About(self.name, help), self.labels, self.counts())
    }
}

pub(super) fn counter(to: &mut DescriptorEncoder<'_>, About(name, help): About, count: u64) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

pub(super) fn gauge(to: &mut DescriptorEncoder<'_>, About(name, help): About, number: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&number)
}

/// A row of counters or gauges: the values of its labels, and its number.
type LabelledNumber<const N: usize> = ([&'static str; N], u64);

/// Counters with these labels.
pub(super) fn labelled_counters<const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    About(name, help): About,
    labels: [&'static str; N],
    rows: impl IntoIterator<Item = LabelledNumber<N>>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    rows.into_iter().try_for_each(|(words, count)| {
        family.encode_family(&pairs(labels, words))?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
    })
}

/// Gauges with these labels.
pub(super) fn labelled_gauges<const N: usize>(
    to: &mut DescriptorEncoder<'_>,
    About(name, help): About,
    labels: [&'static str; N],
    rows: impl IntoIterator<Item = LabelledNumber<N>>,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    rows.into_iter().try_for_each(|(words, number)| family.encode_family(&pairs(labels, words))?.encode_gauge(&number))
}

fn pairs<const N: usize>(labels: [&'static str; N], words: [&'static str; N]) -> [(&'static str, &'static str); N] {
    std::array::from_fn(|index| (labels[index], words[index]))
}
