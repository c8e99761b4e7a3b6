//! The numbers of the watch.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{About, gauge, labelled_counters, labelled_gauges};

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
    let findings = figures.findings.iter().map(|(words, count)| (*words, *count));
    labelled_gauges(to, About("watch_findings", help), ["kind", "severity", "whose"], findings)?;
    let help = "Domains and hosts that are watched, by state";
    let names = figures.names.iter().map(|(words, count)| (*words, *count));
    labelled_gauges(to, About("watch_names", help), ["what", "state"], names)?;
    let help = "Facts of the watch: domains asked for in the DNS, addresses by a session or by a delivery";
    let looks = figures.looks.iter().map(|(by, count)| ([*by], *count));
    labelled_counters(to, About("watch_looks", help), ["by"], looks)?;
    if let Some(at) = figures.last_run {
        let help = "When the watch has last looked at a part of the domains";
        to.encode_descriptor("watch_last_run_timestamp_seconds", help, None, MetricType::Gauge)?.encode_gauge(&at)?;
    }
    let help = "Whether the last look had no answers, for a fault of this machine or its network";
    gauge(to, About("watch_blind", help), u64::from(figures.is_blind))
}
