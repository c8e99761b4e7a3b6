//! The numbers of the DNS.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::family::{About, labelled_counters};

/// The most resolvers that are shown; `resolv.conf` takes three.
const MAX_RESOLVERS: usize = 16;

pub(super) fn memory(to: &mut DescriptorEncoder<'_>, [remembered, joined, asked]: [u64; 3]) -> fmt::Result {
    let help = "Questions of one type for one name: answered from memory, joined to one under way, or asked";
    let counts = [(["remembered"], remembered), (["joined"], joined), (["asked"], asked)];
    labelled_counters(to, About("dns_questions", help), ["result"], counts)
}

/// By their place in the configuration: their addresses may change while danelaw runs.
pub(super) fn resolvers(to: &mut DescriptorEncoder<'_>, resolvers: &[bool]) -> fmt::Result {
    let help = "Whether each resolver passes the self-test, by its place in the list";
    let mut family = to.encode_descriptor("resolver_up", help, None, MetricType::Gauge)?;
    for (index, up) in resolvers.iter().take(MAX_RESOLVERS).enumerate() {
        family.encode_family(&[("resolver", index)])?.encode_gauge(&u64::from(*up))?;
    }
    Ok(())
}
