//! A name server as an operator writes it: its address, and the protection of its replies.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::name::Name;

/// The port of DNS over UDP and TCP (RFC 1035 §4.2).
pub(super) const DNS_PORT: u16 = 53;
/// The port of DNS over TLS (RFC 7858 §3.1).
const TLS_PORT: u16 = 853;

/// The evidence by which an answer is secure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = no_mode)]
pub enum ResolverMode {
    /// Signatures, checked here.
    Validate,
    /// The word of a validating resolver: its AD bit (RFC 6840 §5.8).
    TrustAd,
}

/// The resolver that serves while no configured server passes the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolverFallback {
    /// danelaw asks the root and the authoritative servers itself, and validates.
    Recurse,
    /// None.
    Off,
}

fn no_mode(text: &str) -> String {
    format!("{text:?} is neither \"validate\" nor \"trust-ad\"")
}

/// A recursive resolver, or [danelaw itself](Self::RECURSION) in the place of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NameServer {
    /// Address and port.
    pub address: SocketAddr,
    /// The name of the interface behind a link-local address, as long as its number is not known.
    pub interface: Option<Box<str>>,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How a name server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP, and TCP for replies that UDP cannot carry.
    Plain,
    /// No resolver at all: the root and the authoritative servers are asked over UDP and TCP. The address is of no meaning
    /// then.
    Recursion,
    /// DNS over TLS (RFC 7858), with a certificate for this name (RFC 8310 §8.1).
    Tls(Name),
}

/// The word for no resolver, in the place of an address.
const RECURSE: &str = "recurse";

impl NameServer {
    /// Not a resolver: danelaw asks the root and the authoritative servers itself.
    pub const RECURSION: Self = Self {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DNS_PORT),
        interface: None,
        transport: Transport::Recursion,
    };

    /// The same server with the number of its interface, which `index` gives for the name. None if there is no such interface.
    pub(super) fn located(self, index: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        match (&self.interface, self.address) {
            (None, _) => Some(self),
            (Some(name), SocketAddr::V6(v6)) => {
                let address = SocketAddrV6::new(*v6.ip(), v6.port(), 0, index(name)?).into();
                Some(Self { address, interface: None, ..self })
            }
            (Some(_), SocketAddr::V4(_)) => None,
        }
    }

    /// Whether the server's replies are protected from change on the network: without that an AD bit means no more than
    /// the network does (RFC 4035 §4.9.3, RFC 7672 §2.1.1).
    pub fn is_out_of_reach(&self) -> bool {
        match &self.transport {
            Transport::Plain => self.address.ip().to_canonical().is_loopback(),
            Transport::Tls(_) => true,
            Transport::Recursion => false,
        }
    }
}

impl From<SocketAddr> for NameServer {
    /// A server that is asked over UDP and TCP.
    fn from(address: SocketAddr) -> Self {
        Self { address, interface: None, transport: Transport::Plain }
    }
}

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no name server such as 9.9.9.9, 192.0.2.1:5353, [2620:fe::fe]:53 or \
                 tls://9.9.9.9#dns.quad9.net, nor \"{RECURSE}\" for none"
            )
        };
        if text == RECURSE {
            return Ok(Self::RECURSION);
        }
        let Some(over_tls) = text.strip_prefix("tls://") else {
            return place(text, DNS_PORT).ok_or_else(wrong);
        };
        // RFC 8310 §8.1: without a name the server cannot be authenticated, and the encryption is worthless.
        let (at, name) = over_tls.split_once('#').ok_or_else(|| {
            format!("{text:?} lacks the name in its certificate: write it behind, as in tls://9.9.9.9#dns.quad9.net")
        })?;
        let name = Name::parse(name).map_err(|error| format!("{text:?}: {name:?} is no host name: {error}"))?;
        Ok(Self { transport: Transport::Tls(name), ..place(at, TLS_PORT).ok_or_else(wrong)? })
    }
}

/// An address with or without a port; one of IPv6 with a port stands in brackets.
fn place(text: &str, port: u16) -> Option<NameServer> {
    let (ip, port) = match (text.strip_prefix('['), text.split_once(':')) {
        (Some(rest), _) => {
            let (ip, behind) = rest.split_once(']')?;
            let port = if behind.is_empty() { port } else { behind.strip_prefix(':')?.parse().ok()? };
            (ip, port)
        }
        (None, Some((ip, number))) if !number.contains(':') => (ip, number.parse().ok()?),
        (None, _) => (text, port),
    };
    address(ip, port)
}

/// A server at an IP address without a port. Behind a link-local one may stand its interface, by number or by name (RFC 4007
/// §11).
pub(super) fn address(text: &str, port: u16) -> Option<NameServer> {
    let Some((ip, zone)) = text.split_once('%') else {
        // RFC 4291 §2.5.5.2: an IPv4 address in the form of IPv6 is asked over IPv4.
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?.to_canonical(), port).into());
    };
    let at = |scope| Some(SocketAddr::from(SocketAddrV6::new(ip.parse().ok()?, port, 0, scope)));
    match zone.parse() {
        Ok(0_u32) => None,
        Ok(number) => at(number).map(NameServer::from),
        Err(_) if is_interface(zone) => Some(NameServer { interface: Some(zone.into()), ..at(0)?.into() }),
        Err(_) => None,
    }
}

/// Whether a text can be the name of an interface (Linux: 15 octets at most).
fn is_interface(name: &str) -> bool {
    (1..16).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_graphic() && !b"/:%[]#".contains(&octet))
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.interface {
            None => self.address.to_string(),
            Some(name) => format!("[{}%{name}]:{}", self.address.ip(), self.address.port()),
        };
        match &self.transport {
            Transport::Recursion => f.write_str(RECURSE),
            Transport::Plain => f.write_str(&address),
            Transport::Tls(name) => write!(f, "tls://{address}#{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<NameServer, String> {
        text.parse()
    }

    #[test]
    fn as_an_operator_writes_it() {
        for (text, shown) in [
            ("9.9.9.9", "9.9.9.9:53"),
            ("127.0.0.1:54", "127.0.0.1:54"),
            ("2620:fe::fe", "[2620:fe::fe]:53"),
            ("[2620:fe::fe]", "[2620:fe::fe]:53"),
            ("[2620:fe::fe]:5353", "[2620:fe::fe]:5353"),
            ("fe80::1%2", "[fe80::1%2]:53"),
            ("[fe80::1%2]:5353", "[fe80::1%2]:5353"),
            ("fe80::1%eth0", "[fe80::1%eth0]:53"),
            ("[fe80::1%wlp2s0.7]:5353", "[fe80::1%wlp2s0.7]:5353"),
            ("tls://[fe80::1%eth0]#dns.example", "tls://[fe80::1%eth0]:853#dns.example"),
            ("::ffff:192.0.2.1", "192.0.2.1:53"),
            ("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9:853#dns.quad9.net"),
            ("recurse", "recurse"),
            ("tls://[2620:fe::fe]:8853#DNS.quad9.net.", "tls://[2620:fe::fe]:8853#dns.quad9.net"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), shown);
            assert_eq!(server(shown), server(text), "what is shown can be written");
        }
    }

    #[test]
    fn an_error_shows_the_form_of_a_server() {
        for (text, why) in [
            ("dns.example", "no name server such as"),
            ("fe80::1%", "no name server such as"),
            ("fe80::1%0", "no name server such as"),
            ("fe80::1%eth0:53", "no name server such as"),
            ("fe80::1%../x", "no name server such as"),
            ("192.0.2.1%eth0", "no name server such as"),
            ("[fe80::1]53", "no name server such as"),
            ("192.0.2.1:", "no name server such as"),
            ("tls://9.9.9.9", "lacks the name"),
            ("tls://dns.quad9.net#dns.quad9.net", "no name server such as"),
            ("tls://9.9.9.9#", "no host name"),
            ("tls://9.9.9.9#9.9.9.9", "no host name"),
            ("https://9.9.9.9/dns-query", "no name server such as"),
        ] {
            assert!(server(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn an_interface_is_found_by_its_name() {
        let index = |name: &str| (name == "eth0").then_some(7);
        for (text, shown) in [
            ("fe80::1%eth0", Some("[fe80::1%7]:53")),
            ("tls://[fe80::1%eth0]:8853#dns.example", Some("tls://[fe80::1%7]:8853#dns.example")),
            ("fe80::1%eth1", None),
            ("fe80::1%2", Some("[fe80::1%2]:53")),
            ("192.0.2.1", Some("192.0.2.1:53")),
        ] {
            let located = server(text).unwrap().located(index).map(|server| server.to_string());
            assert_eq!(located.as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a3_servers_within_reach_of_an_attacker() {
        for (text, out_of_reach) in [
            ("127.0.0.1", true),
            ("127.0.0.53", true),
            ("::1", true),
            ("[::ffff:127.0.0.1]:53", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("fe80::1", false),
            ("recurse", false),
            ("tls://192.0.2.1#dns.example", true),
        ] {
            assert_eq!(server(text).unwrap().is_out_of_reach(), out_of_reach, "{text}");
        }
    }
}
