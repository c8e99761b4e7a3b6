//! Who takes a domain's mail, and in which order (RFC 5321 §5.1, RFC 7505, RFC 7672 §2.2.1).
//!
//! [`route`] reads the answer to an MX question; the answer itself, with its security, comes from `dns`. The order is
//! the publisher's: a host with DANE never jumps ahead of one without (RFC 7672 §2.2.1).

use crate::dns::{Answer, Lookup, Mx, MxTarget, Security};
use crate::name::Name;

/// The most exchanges of one domain that are ever tried. More MX records than this are no honest set, and a
/// client that waits four minutes could not be served from more anyway.
pub const MAX_EXCHANGES: usize = 20;

/// Where a domain's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The recipient's domain as it was addressed: the next-hop domain of RFC 7672 §2.2.1.
    pub next_hop: Name,
    /// The next-hop domain after its CNAMEs were followed; mostly equal to `next_hop`.
    pub expanded: Name,
    /// How sure it is that these are the domain's exchanges: the MX records or their denial, with all CNAMEs before.
    pub security: Security,
    /// Whether the domain has MX records.
    pub source: Source,
    /// At least one exchange, in the order to try them.
    exchanges: Vec<Name>,
}

/// Where the exchanges come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From MX records.
    Mx,
    /// There are none, and the domain itself is the host (the implicit MX of RFC 5321 §5.1).
    Implicit,
}

impl Route {
    /// The exchanges in the order to try them; at least one.
    pub fn exchanges(&self) -> &[Name] {
        &self.exchanges
    }
}

/// Why a domain has no route: each an answer of the DNS, so each is final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The domain does not exist.
    #[error("the domain {0} does not exist")]
    NoDomain(Name),
    /// A null MX: the domain takes no mail (RFC 7505).
    #[error("the domain {0} accepts no mail (null MX, RFC 7505)")]
    NullMx(Name),
    /// MX records exist, and none names a host.
    #[error("no MX record of {0} names a host")]
    NoHost(Name),
    /// The best exchange is this very proxy, or the server it works for (RFC 5321 §5.1).
    #[error("mail for {0} loops back to this host: {1} is its best MX")]
    Loop(Name, Name),
}

/// What the route needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// Names under which this proxy, or the server it works for, is an exchange itself.
    pub names: &'a [Name],
    /// Randomness for exchanges of equal preference (RFC 5321 §5.1): the same seed gives the same order.
    pub seed: u64,
}

/// Orders the exchanges of a domain.
///
/// # Errors
/// [`NoRoute`] where the answer says that no host takes this mail. A failed lookup never gets here.
pub fn route(lookup: &Lookup<Mx>, here: Here<'_>) -> Result<Route, NoRoute> {
    let next_hop = lookup.asked.clone();
    let (source, exchanges) = match &lookup.answer {
        Answer::NxDomain => return Err(NoRoute::NoDomain(next_hop)),
        // RFC 5321 §5.1: the implicit MX is for an empty answer only. The host is the domain as it was addressed; its
        // own CNAMEs are followed again with its addresses, by the rules for hosts (RFC 7672 §2.2.2).
        Answer::NoData => (Source::Implicit, vec![next_hop.clone()]),
        Answer::Records(records) => (Source::Mx, ordered(&next_hop, records, here)?),
    };
    Ok(Route { next_hop, expanded: lookup.expanded().clone(), security: lookup.security(), source, exchanges })
}

fn ordered(domain: &Name, records: &[Mx], here: Here<'_>) -> Result<Vec<Name>, NoRoute> {
    if records.iter().all(|record| record.target == MxTarget::Root) {
        return Err(NoRoute::NullMx(domain.clone()));
    }
    // RFC 7505 §3: "." beside other records is the publisher's mistake; the others count. So with IP addresses.
    let mut hosts: Vec<(u16, Name)> = records
        .iter()
        .filter_map(|record| match &record.target {
            MxTarget::Host(name) => Some((record.preference, name.clone())),
            MxTarget::Root | MxTarget::Invalid(_) => None,
        })
        .collect();
    if hosts.is_empty() {
        return Err(NoRoute::NoHost(domain.clone()));
    }
    // RFC 5321 §5.1: a relay drops itself and everything that is not better than itself.
    let ours = hosts.iter().filter(|(_, name)| here.names.contains(name)).min().cloned();
    if let Some((preference, name)) = ours {
        hosts.retain(|(other, _)| *other < preference);
        if hosts.is_empty() {
            return Err(NoRoute::Loop(domain.clone(), name));
        }
    }
    // RFC 5321 §5.1: equal preferences in random order, which spreads the load over them.
    let mut random = fastrand::Rng::with_seed(here.seed);
    random.shuffle(&mut hosts);
    hosts.sort_by_key(|(preference, _)| *preference);
    let mut exchanges: Vec<Name> = Vec::new();
    for (_, name) in hosts {
        if !exchanges.contains(&name) {
            exchanges.push(name);
        }
    }
    exchanges.truncate(MAX_EXCHANGES);
    Ok(exchanges)
}
