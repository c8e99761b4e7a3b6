//! The mail servers that danelaw delivers to.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Deserialize;

use super::check::{Faults, more_than_none, short};
use super::{HostName, Network, optional, parsed};
use crate::dns::{Families, Nat64};

/// RFC 8305 §8 allows no shorter one.
const LEAST_HEAD_START: Duration = Duration::from_millis(10);

/// Clients try again after about this time, and should find the host asked again (RFC 5321 §4.5.4.1).
const MAX_FAILED_HOSTS: Duration = Duration::from_secs(300);

/// The mail servers we deliver to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteSection {
    /// The port that remote mail servers are dialled on; TLSA records are asked for this port too (RFC 7672 §2.2.3).
    pub port: u16,
    /// Reserved ranges (loopback, private, link-local and the like) that may be dialled although no public mail server
    /// is there. Empty: none, so that an MX record cannot point us at your own network. They hold for mail and for the policy
    /// hosts of MTA-STS, and not for TLS reports by HTTPS.
    pub allow_reserved: Vec<Network>,
    /// Names under which the server we work for is a mail exchanger itself: MX lists are cut there (RFC 5321 §5.1).
    /// Our own host name and the name the client greets with are always among them.
    pub own_names: Vec<HostName>,
    /// Addresses or networks at which the server we work for is reached from outside, such as that of a NAT in front of
    /// it: MX lists are cut there too. Those of this host's own interfaces are always among them.
    pub own_addresses: Vec<Network>,
    /// The most exchanges of one domain that are tried for one mail.
    pub exchanges: usize,
    /// The most addresses of one exchange that are tried, IPv6 and IPv4 in turns. If there are more, each family is in random
    /// order. Those that failed a moment ago are the last.
    pub addresses: usize,
    /// The addresses to connect to: "any", "ipv4" or "ipv6". With one family alone, hosts are not asked for addresses of the
    /// other, and mail for a host without an address of that family is deferred. "ipv4" is for a host whose IPv6 address has
    /// no name (PTR), which many mail servers refuse.
    #[serde(with = "super::word::FamiliesWord")]
    pub families: Families,
    /// NAT64, for a network with IPv6 alone: "auto" (IPv4 addresses are connected to by the prefix that the resolvers show,
    /// RFC 7050), or the prefix, as in "64:ff9b::/96". A prefix that you set is safer: no signature protects the answer that
    /// shows one, and private prefixes are not taken from it. Empty: IPv4 addresses are connected to over IPv4.
    #[serde(deserialize_with = "parsed")]
    pub nat64: Nat64,
    /// How long an address may take to accept a connection before the next one of the exchange is dialled beside it; the
    /// first that accepts is used (RFC 8305 §5).
    #[serde(with = "humantime_serde")]
    pub head_start: Duration,
    /// How long an address that failed before MAIL is remembered: it is tried after the others. An address that did not
    /// answer in time is not tried again for so long, so that a storm of retries does not wait for it mail by mail.
    /// With 0 no address is remembered.
    #[serde(with = "humantime_serde")]
    pub failed_hosts_for: Duration,
    /// Connections to one address at a time, those that say goodbye included. A mail that finds no room waits for ten
    /// seconds and then goes on to the next address; without one it is deferred with 451 4.4.5.
    pub connections_per_host: usize,
    /// Transactions for one domain at a time, so that a domain with hosts that never answer cannot take all
    /// connections. A mail that finds no room waits for ten seconds and is deferred with 451 4.4.5.
    pub connections_per_domain: usize,
    /// Connections to remotes at a time, in all.
    pub connections: usize,
    /// Verified connections that wait for the next mail, in all; 0 ends each after its mail. Mail goes over one only where
    /// exchange, address and all that must be proven are the very same, as the DNS says at that moment.
    pub idle_connections: usize,
    /// Of those, the most with one address.
    pub idle_connections_per_host: usize,
    /// How long one waits. Most mail servers hang up after five minutes.
    #[serde(with = "humantime_serde")]
    pub idle_for: Duration,
    /// How long after it was verified one may start another transaction.
    #[serde(with = "humantime_serde")]
    pub connection_age: Duration,
    /// Mails over one connection, if the remote does not ask for fewer (LIMITS MAILMAX, RFC 9422). Exim takes no more than
    /// 1000.
    pub mails_per_connection: u64,
    /// The IPv4 address to connect from. Empty: the system's choice.
    #[serde(deserialize_with = "optional")]
    pub source_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to connect from. Empty: the system's choice.
    #[serde(deserialize_with = "optional")]
    pub source_ipv6: Option<Ipv6Addr>,
}

impl RemoteSection {
    pub(super) fn check(&self, faults: &mut Faults) {
        for (key, value) in [
            ("remote.port", usize::from(self.port)),
            ("remote.exchanges", self.exchanges),
            ("remote.addresses", self.addresses),
            ("remote.connections_per_host", self.connections_per_host),
            ("remote.connections_per_domain", self.connections_per_domain),
            ("remote.connections", self.connections),
        ] {
            more_than_none(faults, key, value);
        }
        if self.families == Families::Ipv6 && self.nat64 != Nat64::Off {
            let problem =
                "there are no IPv4 addresses to connect to by it, as remote.families is \"ipv6\"; set that to \"any\"";
            faults.add("remote.nat64", problem);
        }
        if self.head_start < LEAST_HEAD_START {
            let found = format_duration(self.head_start);
            faults.add("remote.head_start", format!("{found} is below the 10ms of RFC 8305"));
        }
        if self.failed_hosts_for > MAX_FAILED_HOSTS {
            let found = format_duration(self.failed_hosts_for);
            faults.add("remote.failed_hosts_for", format!("{found} is above the 5m that are allowed"));
        }
        if self.mails_per_connection == 0 {
            let problem = "0 would stop all mail; remote.idle_connections = 0 is what ends a connection after its mail";
            faults.add("remote.mails_per_connection", problem);
        }
        for (key, value) in [
            ("remote.head_start", self.head_start),
            ("remote.idle_for", self.idle_for),
            ("remote.connection_age", self.connection_age),
        ] {
            short(faults, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;
    use crate::dns::Nat64;

    #[test]
    fn nat64_is_off_unless_it_is_set() {
        let nat64 = |keys: &str| with(keys).map(|config| config.remote.nat64);
        assert_eq!(nat64(""), Ok(Nat64::Off));
        assert_eq!(nat64("remote.nat64 = 'auto'"), Ok(Nat64::Auto));
        assert!(matches!(nat64("remote.nat64 = '64:ff9b::/96'"), Ok(Nat64::By(_))));
        assert!(nat64("remote.nat64 = '64:ff9b::1'").unwrap_err().contains("RFC 6052"));
        let both = |families: &str| nat64(&format!("remote.families = '{families}'\nremote.nat64 = 'auto'"));
        assert!(both("any").is_ok() && both("ipv4").is_ok());
        assert!(nat64("remote.nat64 = 'auto'\ndns.servers = ['recurse']").unwrap_err().contains("DNS64 resolver"));
        assert!(nat64("remote.nat64 = '64:ff9b::/96'\ndns.servers = ['recurse']").is_ok());
        assert!(both("ipv6").unwrap_err().starts_with("remote.nat64: there are no IPv4 addresses"));
    }
}
