//! The numbers of the watch.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{About, gauge};

/// The numbers of the watch. No name of a domain is among them.
#[derive(Debug, Default, Clone)]
pub struct WatchFigures {
    /// The findings that hold, by kind, severity and owner.
    pub findings: BTreeMap<[&'static str; 3], u64>,
    /// Domains and hosts by state.
    pub names: BTreeMap<[&'static str; 2], u64>,
    /// How the facts since the start were had.
    pub looks: Vec<(&'static str, u64)>,
    /// The end of the last run, in seconds since 1970.
    pub last_run: Option<i64>,
    /// Whether it could not see.
    pub is_blind: bool,
}

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, figures: &WatchFigures) -> fmt::Result {
    let help = "Findings of the watch that hold, by kind, severity and owner";
    let mut family = to.encode_descriptor("watch_findings", help, None, MetricType::Gauge)?;
    for ([kind, severity, whose], count) in &figures.findings {
        let labels = [("kind", *kind), ("severity", *severity), ("whose", *whose)];
        family.encode_family(&labels)?.encode_gauge(count)?;
    }
    let help = "Domains and hosts that are watched, by state";
    let mut family = to.encode_descriptor("watch_names", help, None, MetricType::Gauge)?;
    for ([what, state], count) in &figures.names {
        family.encode_family(&[("what", *what), ("state", *state)])?.encode_gauge(count)?;
    }
    let help = "Facts of the watch: domains asked for in the DNS, addresses by a session or by a delivery";
    let mut family = to.encode_descriptor("watch_looks", help, None, MetricType::Counter)?;
    for (by, count) in &figures.looks {
        family.encode_family(&[("by", *by)])?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
    }
    if let Some(at) = figures.last_run {
        let help = "When the watch has last looked at a part of the domains";
        to.encode_descriptor("watch_last_run_timestamp_seconds", help, None, MetricType::Gauge)?.encode_gauge(&at)?;
    }
    let help = "Whether the last look had no answers, for a fault of this machine or its network";
    gauge(to, About("watch_blind", help), usize::from(figures.is_blind))
}
