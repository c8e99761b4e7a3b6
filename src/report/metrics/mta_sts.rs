//! The numbers of MTA-STS. No domain is ever a label.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{About, gauge, results};
use crate::discovery::StsFigures;

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, figures: &StsFigures) -> fmt::Result {
    let help = "Lookups of the TXT records of MTA-STS, by result";
    results(to, About("mta_sts_lookups", help), &figures.lookups)?;
    results(to, About("mta_sts_fetches", "Fetches of policies of MTA-STS, by result"), &figures.fetches)?;
    let help = "Policies of MTA-STS that are kept and in force, by mode";
    let mut family = to.encode_descriptor("mta_sts_policies", help, None, MetricType::Gauge)?;
    for (mode, count) in &figures.policies {
        family.encode_family(&[("mode", *mode)])?.encode_gauge(&(*count as u64))?;
    }
    let help = "Policies of MTA-STS that cannot be fetched anew for a day or more";
    gauge(to, About("mta_sts_refresh_failing", help), figures.failing)
}
