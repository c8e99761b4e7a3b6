//! The hosts that take a domain's mail, and their order (RFC 5321 §5.1, RFC 7505, RFC 7672 §2.2.1).
//!
//! [`route`] reads the answer to an MX question; the answer itself, with its security, comes from `dns`. The order is
//! the publisher's: a host with DANE never jumps ahead of one without (RFC 7672 §2.2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::dns::{Answer, Finality, Lookup, Mx, MxTarget, Security, SpecialUse, special_use};
use crate::name::Name;

/// Where a domain's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The recipient's domain as it was addressed, or the host that a rule names for it: the next-hop domain of RFC 7672
    /// §2.2.1.
    pub next_hop: Name,
    /// The next-hop domain after its CNAMEs were followed; mostly equal to `next_hop`.
    pub expanded: Name,
    /// How sure it is that these are the domain's exchanges: the MX records or their denial, with all CNAMEs before.
    pub security: Security,
    /// Whether mail may be returned to its sender if no exchange takes it.
    pub finality: Finality,
    /// At least one exchange, in the order to try them.
    exchanges: Vec<Name>,
    /// How many of them share the best preference.
    best: usize,
    /// How many there are beyond [`Here::most`].
    untried: usize,
    place: RoutePlace,
}

/// The place of this host among the exchanges of a domain, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutePlace {
    /// It is none of them.
    Outside,
    /// It stands behind those that are in the route (RFC 5321 §5.1).
    Behind,
}

impl Route {
    /// The exchanges in the order to try them; at least one.
    pub fn exchanges(&self) -> &[Name] {
        &self.exchanges
    }

    /// How many further exchanges will not be tried. Their answers stay unknown.
    pub fn untried(&self) -> usize {
        self.untried
    }

    /// Whether no exchange is preferred to this one.
    pub fn is_best(&self, exchange: &Name) -> bool {
        self.exchanges.iter().take(self.best).any(|best| best == exchange)
    }

    /// The place of this host among the domain's exchanges.
    pub fn place(&self) -> RoutePlace {
        self.place
    }
}

/// Why a domain has no route: each an answer of the DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The domain does not exist.
    #[error("the domain {0} does not exist")]
    NoDomain(Name),
    /// The domain, or the name that it is an alias of, is in a name space that the public DNS does not have (RFC 6761).
    #[error("the domain {0} does not exist: {1}")]
    SpecialUse(Name, &'static SpecialUse),
    /// A null MX: the domain takes no mail (RFC 7505).
    #[error("the domain {0} accepts no mail (null MX, RFC 7505)")]
    NullMx(Name),
    /// MX records exist, and none names a host.
    #[error("no MX record of {0} names a host")]
    NoHost(Name),
    /// The best exchange is this very proxy, or the server it works for (RFC 5321 §5.1).
    #[error("mail for {0} loops back to this host: {1} is its best MX")]
    Loop(Name, Name),
    /// The exchanges before this host, which is a backup, have no address. The mail waits.
    #[error("this host is a backup exchange of {0}, and mail does not bounce while those before it have no address")]
    NoPrimary(Name),
}

impl NoRoute {
    /// For a domain whose expanded name does not exist.
    pub fn absent(domain: Name, expanded: &Name) -> Self {
        match special_use(expanded) {
            Some(special) => Self::SpecialUse(domain, special),
            None => Self::NoDomain(domain),
        }
    }
}

/// The inputs of a route that are not in the DNS.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// Names of this proxy, or of the server it works for, in MX records.
    pub names: &'a [Name],
    /// The most exchanges of one domain that are ever tried: a client that waits four minutes could not be served from
    /// very many, and a set of very many is no honest one.
    pub most: usize,
    /// Randomness for exchanges of equal preference (RFC 5321 §5.1): the same seed gives the same order.
    pub seed: u64,
}

/// The addresses at which this proxy, or the server it works for, is an exchange itself.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses {
    /// Those in the configuration, where mail for an exchange goes.
    named: Vec<IpNet>,
    /// The port to which mail for an exchange goes.
    port: u16,
    /// Those of this proxy's listeners.
    listeners: Vec<SocketAddr>,
}

impl OwnAddresses {
    /// The addresses in the configuration at the `port` to which mail for an exchange goes, and those of the `listeners`.
    pub fn new(
        named: impl IntoIterator<Item = IpNet>,
        listeners: impl IntoIterator<Item = SocketAddr>,
        port: u16,
    ) -> Self {
        Self { named: named.into_iter().collect(), port, listeners: listeners.into_iter().collect() }
    }

    /// Whether a server is one of them.
    pub fn contains(&self, server: SocketAddr) -> bool {
        let (address, port) = (server.ip(), server.port());
        let named = || self.named.iter().any(|network| network.contains(&address));
        let heard = || self.listeners.iter().any(|listener| listener.port() == port && hears(*listener, address));
        (port == self.port && named()) || heard()
    }

    /// Whether mail to this port, of some address of ours, may come back.
    pub fn are_reached_at(&self, port: u16) -> bool {
        port == self.port || self.listeners.iter().any(|listener| listener.port() == port)
    }
}

/// Whether a listener is at this address. One on all addresses is on those of loopback too, which an MX record can name.
fn hears(listener: SocketAddr, address: IpAddr) -> bool {
    match listener.ip().to_canonical() {
        IpAddr::V4(any) if any.is_unspecified() => LOOPBACK_V4.contains(&address),
        IpAddr::V6(any) if any.is_unspecified() => LOOPBACK_V4.contains(&address) || LOOPBACK_V6.contains(&address),
        one => one == address,
    }
}

const LOOPBACK_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
const LOOPBACK_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128));

/// Orders the exchanges of a domain.
///
/// # Errors
/// [`NoRoute`] where the answer says that no host takes this mail. A failed lookup never gets here.
pub fn route(lookup: &Lookup<Mx>, here: Here<'_>) -> Result<Route, NoRoute> {
    let next_hop = lookup.asked.clone();
    let Ordered { mut exchanges, best, place } = match &lookup.answer {
        Answer::NxDomain => return Err(NoRoute::absent(next_hop, lookup.expanded())),
        // RFC 5321 §5.1: the implicit MX is for an empty answer only. The host is the domain as it was addressed; its
        // own CNAMEs are followed again with its addresses, by the rules for hosts (RFC 7672 §2.2.2).
        Answer::NoData => {
            let implicit = Mx { preference: 0, target: MxTarget::Host(next_hop.clone()) };
            ordered(&next_hop, &[implicit], here)?
        }
        Answer::Records(records) => ordered(&next_hop, records, here)?,
    };
    let untried = exchanges.len().saturating_sub(here.most);
    exchanges.truncate(here.most);
    let (expanded, security, finality) = (lookup.expanded().clone(), lookup.security(), lookup.finality);
    Ok(Route { next_hop, expanded, security, finality, exchanges, best, untried, place })
}

/// The route through a host that the operator, and not the publisher, names for a domain: a destination without MX records
/// (RFC 7672 §2.2.2), as trustworthy as the configuration.
///
/// # Errors
/// [`NoRoute::Loop`] if the host is ourselves.
pub fn by_way_of(next_hop: &Name, domain: &Name, here: Here<'_>) -> Result<Route, NoRoute> {
    if here.names.contains(next_hop) {
        return Err(NoRoute::Loop(domain.clone(), next_hop.clone()));
    }
    Ok(Route {
        next_hop: next_hop.clone(),
        expanded: next_hop.clone(),
        security: Security::Secure,
        finality: Finality::Final,
        exchanges: vec![next_hop.clone()],
        best: 1,
        untried: 0,
        place: RoutePlace::Outside,
    })
}

/// The route to an address that the operator names for a domain. In place of the name that the address lacks the domain itself
/// is the exchange: in log lines, and as the name that the server is asked for under TLS (RFC 6066 §3 has no addresses).
pub fn by_address(domain: &Name) -> Route {
    Route {
        next_hop: domain.clone(),
        expanded: domain.clone(),
        security: Security::Secure,
        finality: Finality::Final,
        exchanges: vec![domain.clone()],
        best: 1,
        untried: 0,
        place: RoutePlace::Outside,
    }
}

/// The exchanges in their order, and the place of this host.
struct Ordered {
    exchanges: Vec<Name>,
    /// How many of them share the best preference.
    best: usize,
    place: RoutePlace,
}

fn ordered(domain: &Name, records: &[Mx], here: Here<'_>) -> Result<Ordered, NoRoute> {
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
    let place = if ours.is_some() { RoutePlace::Behind } else { RoutePlace::Outside };
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
    let best_preference = hosts.first().map(|(preference, _)| *preference);
    let (mut exchanges, mut best): (Vec<Name>, usize) = (Vec::new(), 0);
    for (preference, name) in hosts {
        if !exchanges.contains(&name) {
            best += usize::from(Some(preference) == best_preference);
            exchanges.push(name);
        }
    }
    Ok(Ordered { exchanges, best, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Alias;

    const MOST: usize = 20;

    fn name(text: &str) -> Name {
        Name::parse(text).expect(text)
    }

    fn host(preference: u16, text: &str) -> Mx {
        Mx { preference, target: MxTarget::Host(name(text)) }
    }

    fn lookup(answer: Answer<Mx>) -> Lookup<Mx> {
        let (aliases, end, finality) = (Vec::new(), Security::Secure, Finality::Final);
        Lookup { asked: name("example"), aliases, end, answer, finality }
    }

    fn order(records: Vec<Mx>) -> Result<Vec<String>, NoRoute> {
        let ours = [name("us.example")];
        let route = route(&lookup(Answer::Records(records)), Here { names: &ours, most: MOST, seed: 1 })?;
        Ok(route.exchanges().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lower_preferences_first() {
        // C7.
        let records = vec![host(20, "b.example"), host(10, "a.example"), host(30, "c.example")];
        assert_eq!(order(records).unwrap(), ["a.example", "b.example", "c.example"]);
    }

    #[test]
    fn equal_preferences_in_random_order() {
        // C8: each of three hosts comes first about as often as the others.
        let mut first = std::collections::HashMap::new();
        for seed in 0..3000 {
            let records =
                vec![host(10, "a.example"), host(10, "b.example"), host(10, "c.example"), host(5, "z.example")];
            let route = route(&lookup(Answer::Records(records)), Here { names: &[], most: MOST, seed }).unwrap();
            assert_eq!(route.exchanges()[0], name("z.example"));
            *first.entry(route.exchanges()[1].clone()).or_insert(0) += 1;
        }
        assert_eq!(first.len(), 3);
        assert!(first.values().all(|&count| (800..1200).contains(&count)), "{first:?}");
    }

    #[test]
    fn the_domain_itself_only_where_there_is_no_mx() {
        // C5: only an empty answer makes the domain its own exchange.
        let found = route(&lookup(Answer::NoData), Here { names: &[], most: MOST, seed: 0 }).unwrap();
        assert_eq!(found.exchanges(), [name("example")]);
        // C3.
        let missing = route(&lookup(Answer::NxDomain), Here { names: &[], most: MOST, seed: 0 });
        assert_eq!(missing, Err(NoRoute::NoDomain(name("example"))));
    }

    #[test]
    fn a_special_use_name_is_no_domain() {
        let missing = |asked: &str, target: Option<&str>| {
            let alias = |target| Alias { owner: name(asked), target: name(target), security: Security::Secure };
            let aliases = target.map(alias).into_iter().collect();
            let lookup = Lookup { asked: name(asked), aliases, ..lookup(Answer::NxDomain) };
            route(&lookup, Here { names: &[], most: MOST, seed: 0 }).unwrap_err().to_string()
        };
        for (asked, target, said) in [
            (
                "a.invalid",
                None,
                "the domain a.invalid does not exist: names in .invalid are reserved (RFC 6761 section 6.4)",
            ),
            (
                "localhost",
                None,
                "the domain localhost does not exist: names in .localhost are reserved (RFC 6761 section 6.3)",
            ),
            (
                "a.example",
                Some("b.onion"),
                "the domain a.example does not exist: names in .onion are reserved (RFC 7686)",
            ),
            ("a.example", Some("b.example"), "the domain a.example does not exist"),
        ] {
            assert_eq!(missing(asked, target), said);
        }
        // A name that has records is a domain like any other.
        let records = Answer::Records(vec![host(10, "mx.test")]);
        let found = Lookup { asked: name("example.test"), ..lookup(records) };
        assert!(route(&found, Here { names: &[], most: MOST, seed: 0 }).is_ok());
    }

    #[test]
    fn null_mx_and_targets_that_are_no_hosts() {
        //
        let root = |preference| Mx { preference, target: MxTarget::Root };
        let invalid = Mx { preference: 1, target: MxTarget::Invalid("192.0.2.1".into()) };
        // C13.
        assert_eq!(order(vec![root(0)]), Err(NoRoute::NullMx(name("example"))));
        // C14: the publisher broke the rule; the entries that name a host count.
        assert_eq!(order(vec![root(0), host(10, "a.example")]).unwrap(), ["a.example"]);
        // B7: an address is no host name; C6: and never a reason to fall back to the domain itself.
        assert_eq!(order(vec![invalid.clone(), host(10, "a.example")]).unwrap(), ["a.example"]);
        assert_eq!(order(vec![invalid]), Err(NoRoute::NoHost(name("example"))));
    }

    #[test]
    fn the_list_ends_at_ourselves() {
        // C10, A-52.
        let records =
            || vec![host(10, "a.example"), host(20, "us.example"), host(20, "b.example"), host(30, "c.example")];
        assert_eq!(order(records()).unwrap(), ["a.example"]);
        let place = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|ours| name(ours)).collect();
            let here = Here { names: &names, most: MOST, seed: 0 };
            route(&lookup(Answer::Records(records())), here).unwrap().place()
        };
        assert_eq!([place(&["us.example"]), place(&["d.example"])], [RoutePlace::Behind, RoutePlace::Outside]);
        let best = vec![host(20, "a.example"), host(10, "us.example")];
        assert_eq!(order(best), Err(NoRoute::Loop(name("example"), name("us.example"))));
    }

    #[test]
    fn hosts_are_counted_once_and_capped() {
        //
        let twice = vec![host(10, "a.example"), host(20, "a.example"), host(30, "b.example")];
        assert_eq!(order(twice).unwrap(), ["a.example", "b.example"]);
        let many = (0..1000).map(|index| host(index, &format!("mx{index}.example"))).collect();
        let many = route(&lookup(Answer::Records(many)), Here { names: &[], most: MOST, seed: 1 }).unwrap();
        assert_eq!((many.exchanges().len(), many.untried()), (MOST, 1000 - MOST));
    }

    #[test]
    fn security_is_that_of_the_whole_chain() {
        // A15, C2.
        let alias =
            crate::dns::Alias { owner: name("example"), target: name("other.example"), security: Security::Insecure };
        let aliased = Lookup { aliases: vec![alias], ..lookup(Answer::Records(vec![host(10, "a.example")])) };
        let found = route(&aliased, Here { names: &[], most: MOST, seed: 0 }).unwrap();
        assert_eq!((found.security, found.expanded), (Security::Insecure, name("other.example")));
    }

    #[test]
    fn our_own_addresses() {
        //
        let ours = |listener: &str, port| {
            OwnAddresses::new(["192.0.2.0/28".parse().unwrap()], [listener.parse().unwrap()], port)
        };
        for (listener, port, address, own) in [
            // By the configuration, with a listener at any port.
            ("127.0.0.1:10025", 25, "192.0.2.7", true),
            ("127.0.0.1:10025", 25, "192.0.2.77", false),
            // A listener's address, if mail for an exchange goes to its port.
            ("127.0.0.1:25", 25, "127.0.0.1", true),
            ("127.0.0.1:25", 25, "127.0.0.2", false),
            ("127.0.0.1:10025", 25, "127.0.0.1", false),
            ("203.0.113.9:25", 25, "203.0.113.9", true),
            ("[::ffff:203.0.113.9]:25", 25, "203.0.113.9", true),
            ("0.0.0.0:25", 25, "127.0.0.2", true),
            ("[::]:25", 25, "127.0.0.2", true),
            ("[::]:25", 25, "::1", true),
            ("0.0.0.0:25", 25, "::1", false),
            ("0.0.0.0:25", 25, "203.0.113.9", false),
        ] {
            let server = SocketAddr::new(address.parse().unwrap(), port);
            assert_eq!(ours(listener, port).contains(server), own, "{listener} {port} {address}");
        }
        // At the port that a rule names, this proxy's own listeners count.
        let ours = ours("127.0.0.1:10025", 25);
        for (server, own) in [
            ("127.0.0.1:10025", true),
            ("127.0.0.1:10026", false),
            ("127.0.0.2:10025", false),
            ("192.0.2.7:2525", false),
            ("192.0.2.7:25", true),
        ] {
            assert_eq!(ours.contains(server.parse().unwrap()), own, "{server}");
        }
        assert!(ours.are_reached_at(25) && ours.are_reached_at(10025) && !ours.are_reached_at(2525));
    }
}
