//! The numbers of the memory of hosts.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::Metrics;
use super::family::{About, labelled_gauges};

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

pub(super) fn encode(to: &mut DescriptorEncoder<'_>, HostFigures { settled, others }: &HostFigures) -> fmt::Result {
    let help = "Hosts in the memory of how they speak TLS, by whether they are settled";
    let counts = [(["yes"], *settled as u64), (["no"], *others as u64)];
    labelled_gauges(to, About("hosts_remembered", help), ["settled"], counts)
}
