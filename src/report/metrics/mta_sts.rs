//! The numbers of MTA-STS. No domain is ever a label.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{About, gauge, labelled_counters, labelled_gauges};
use crate::discovery::StsFigures;

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, figures: &StsFigures) -> fmt::Result {
    let results =
        |counts: &[(&'static str, u64)]| counts.iter().map(|(word, count)| ([*word], *count)).collect::<Vec<_>>();
    let help = "Lookups of the TXT records of MTA-STS, by result";
    labelled_counters(to, About("mta_sts_lookups", help), ["result"], results(&figures.lookups))?;
    let help = "Fetches of policies of MTA-STS, by result";
    labelled_counters(to, About("mta_sts_fetches", help), ["result"], results(&figures.fetches))?;
    let help = "Policies of MTA-STS that are kept and in force, by mode";
    let policies = figures.policies.iter().map(|(mode, count)| ([*mode], *count as u64));
    labelled_gauges(to, About("mta_sts_policies", help), ["mode"], policies)?;
    let help = "Policies of MTA-STS that cannot be fetched anew for a day or more";
    gauge(to, About("mta_sts_refresh_failing", help), figures.failing as u64)
}
