//! The numbers of the store.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::family::{About, counter, gauge, labelled_counters, labelled_gauges};
use crate::store::StoreFigures;

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, figures: &StoreFigures) -> fmt::Result {
    let help = "Whether the store answers; a file always does";
    gauge(to, About("store_up", help), u64::from(figures.is_up))?;
    let help = "Whether this danelaw does a task that one of all with the same store does";
    let leads = figures.leads.iter().map(|(task, is_leader)| ([*task], u64::from(*is_leader)));
    labelled_gauges(to, About("store_leader", help), ["task"], leads)?;
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
    let errors = figures.errors.iter().map(|(kind, count)| ([*kind], *count));
    labelled_counters(to, About("store_errors", help), ["kind"], errors)?;
    let help = "Fan-out messages whose danelaw died, or lost the store, in the middle of them";
    counter(to, About("store_unknown", help), figures.unknown)
}
