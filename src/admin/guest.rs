//! Which requests may ask about mail. Any web page that a browser on this machine shows can send a request to a loopback
//! port, and by DNS rebinding it can read the answer under a name of its own. Health and metrics do not tell of mail, and
//! monitors ask for them under many names.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderValue};

/// The way that a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedAt {
    /// By a Unix socket, which no browser reaches.
    Unix,
    /// By TCP, from this machine.
    Here,
    /// By TCP, from another machine, as far as can be told.
    Elsewhere,
}

impl AskedAt {
    /// By TCP, from this address to this port. A client with the one address of the port is this machine too: it has no loopback
    /// address there. A port on all addresses is asked on loopback by programs of this machine.
    pub(super) fn by_tcp(client: IpAddr, port: IpAddr) -> Self {
        let client = client.to_canonical();
        if client.is_loopback() || client == port.to_canonical() { Self::Here } else { Self::Elsewhere }
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misdirected {
    /// It comes from another machine.
    Elsewhere,
    /// It is for another host, by its field `Host`.
    Host,
    /// The page of another site asks.
    OtherSite,
}

/// Whether a request about mail is for this machine.
pub(super) fn judge(at: AskedAt, fields: &HeaderMap<HeaderValue>) -> Result<(), Misdirected> {
    match at {
        AskedAt::Unix => return Ok(()),
        AskedAt::Elsewhere => return Err(Misdirected::Elsewhere),
        AskedAt::Here => {}
    }
    if fields.get("sec-fetch-site").is_some_and(|site| site != "none" && site != "same-origin") {
        return Err(Misdirected::OtherSite);
    }
    let mut hosts = fields.get_all(HOST).iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) if is_loopback(host) => Ok(()),
        _ => Err(Misdirected::Host),
    }
}

/// Whether a `Host` names this machine to itself (RFC 9110 §7.2), with any port.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        Some(_) | None => (host, ""),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let is_here = |address: IpAddr| address.is_loopback() && name.starts_with('[') == address.is_ipv6();
    port.bytes().all(|octet| octet.is_ascii_digit())
        && (name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_here))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Y3.
    #[test]
    fn y3_a_request_about_mail_is_for_this_machine() {
        for (hosts, is_answered) in [
            (&["localhost"][..], true),
            (&["LOCALHOST:7671"], true),
            (&["127.0.0.1"], true),
            (&["127.0.0.1:7671"], true),
            (&["127.0.0.53:1"], true),
            (&["[::1]"], true),
            (&["[::1]:7671"], true),
            (&[], false),
            (&[""], false),
            (&["localhost", "evil.example"], false),
            (&["evil.example"], false),
            (&["localhost.evil.example"], false),
            (&["localhost:7671.evil.example"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["192.0.2.1:7671"], false),
            (&["0.0.0.0"], false),
            (&["::1"], false),
            (&["[127.0.0.1]"], false),
            (&["[2001:db8::1]:7671"], false),
        ] {
            let mut fields = HeaderMap::new();
            for host in hosts {
                fields.append(HOST, HeaderValue::from_static(host));
            }
            assert_eq!(judge(AskedAt::Here, &fields).is_ok(), is_answered, "{hosts:?}");
            assert_eq!(judge(AskedAt::Unix, &fields), Ok(()));
        }
    }

    // Y2.
    #[test]
    fn y2_another_machine_is_not_answered() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (client, port, at) in [
            ("127.0.0.1", "0.0.0.0", AskedAt::Here),
            ("::ffff:127.0.0.1", "::", AskedAt::Here),
            ("::1", "::", AskedAt::Here),
            ("10.0.0.1", "10.0.0.1", AskedAt::Here),
            ("::ffff:10.0.0.1", "10.0.0.1", AskedAt::Here),
            ("10.0.0.1", "0.0.0.0", AskedAt::Elsewhere),
            ("10.0.0.1", "10.0.0.2", AskedAt::Elsewhere),
            ("10.0.0.1", "127.0.0.1", AskedAt::Elsewhere),
            ("2001:db8::1", "::", AskedAt::Elsewhere),
        ] {
            assert_eq!(AskedAt::by_tcp(address(client), address(port)), at, "{client} at {port}");
        }
        let mut fields = HeaderMap::new();
        fields.insert(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(judge(AskedAt::Elsewhere, &fields), Err(Misdirected::Elsewhere));
    }

    // Y3.
    #[test]
    fn y3_a_page_of_another_site_is_not_answered() {
        for (site, is_answered) in [("none", true), ("same-origin", true), ("same-site", false), ("cross-site", false)]
        {
            let mut fields = HeaderMap::new();
            fields.insert(HOST, HeaderValue::from_static("localhost:7671"));
            fields.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(judge(AskedAt::Here, &fields).is_ok(), is_answered, "{site}");
        }
    }
}
