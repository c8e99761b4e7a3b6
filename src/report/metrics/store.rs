//! The numbers of the store.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{About, gauge};
use crate::store::StoreFigures;

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, figures: &StoreFigures) -> fmt::Result {
    let help = "Whether the store answers; a file always does";
    gauge(to, About("store_up", help), usize::from(figures.is_up))?;
    let help = "Whether this danelaw does a task that one of all with the same store does";
    let mut family = to.encode_descriptor("store_leader", help, None, MetricType::Gauge)?;
    for (task, is_leader) in &figures.leads {
        family.encode_family(&[("task", *task)])?.encode_gauge(&i64::from(*is_leader))?;
    }
    let help = "How long operations of the store took";
    let mut family = to.encode_descriptor("store_seconds", help, None, MetricType::Histogram)?;
    for latency in &figures.operations {
        let count = latency.buckets.iter().map(|(_, count)| count).sum();
        let labels = [("operation", latency.operation)];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            latency.seconds,
            count,
            &latency.buckets,
            None,
        )?;
    }
    let help = "Operations of the store that failed, by kind";
    let mut family = to.encode_descriptor("store_errors", help, None, MetricType::Counter)?;
    for (kind, count) in &figures.errors {
        family.encode_family(&[("kind", *kind)])?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
    }
    let help = "Fan-out messages whose danelaw died, or lost the store, in the middle of them";
    let mut family = to.encode_descriptor("store_unknown", help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, u64, f64>(&figures.unknown, None)
}
