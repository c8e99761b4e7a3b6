//! The numbers of the memory of hosts.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{About, CounterFamily, Metrics};

/// How many hosts are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostFigures {
    /// Those that are settled.
    pub settled: usize,
    /// The others.
    pub others: usize,
}

impl Metrics {
    /// Counts a change of a settled host.
    pub fn host_changed(&self, kind: &'static str) {
        self.host_changes.count([kind]);
    }
}

pub(super) fn encode(
    to: &mut DescriptorEncoder<'_>,
    changes: &CounterFamily<1>,
    figures: Option<HostFigures>,
) -> fmt::Result {
    let help = "Changes of settled hosts, by their state afterwards";
    changes.encode(to, About("host_changes", help))?;
    let Some(HostFigures { settled, others }) = figures else { return Ok(()) };
    let help = "Hosts in the memory of how they speak TLS, by whether they are settled";
    let mut family = to.encode_descriptor("hosts_remembered", help, None, MetricType::Gauge)?;
    for (word, count) in [("yes", settled), ("no", others)] {
        family.encode_family(&[("settled", word)])?.encode_gauge(&(count as u64))?;
    }
    Ok(())
}
