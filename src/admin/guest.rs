//! Which requests may ask about mail. Any web page that a browser on this machine shows can send a request to a loopback
//! port, and by DNS rebinding it can read the answer under a name of its own. Health and metrics do not tell of mail, and
//! monitors ask for them under many names.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderValue};

/// The port that a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedAt {
    /// A TCP port, from this address.
    Tcp(IpAddr),
    /// A Unix socket, which no browser reaches.
    Unix,
}

impl AskedAt {
    /// Whether the request comes from this machine.
    pub(super) fn is_here(self) -> bool {
        match self {
            Self::Tcp(client) => client.to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misdirected {
    /// It is for another host, by its field `Host`.
    Host,
    /// The page of another site asks.
    OtherSite,
}

/// Whether a request about mail is for this machine.
pub(super) fn judge(at: AskedAt, fields: &HeaderMap<HeaderValue>) -> Result<(), Misdirected> {
    if at == AskedAt::Unix {
        return Ok(());
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
            assert_eq!(judge(AskedAt::Tcp([127, 0, 0, 1].into()), &fields).is_ok(), is_answered, "{hosts:?}");
            assert_eq!(judge(AskedAt::Unix, &fields), Ok(()));
        }
    }

    #[test]
    fn y3_a_page_of_another_site_is_not_answered() {
        for (site, is_answered) in [("none", true), ("same-origin", true), ("same-site", false), ("cross-site", false)]
        {
            let mut fields = HeaderMap::new();
            fields.insert(HOST, HeaderValue::from_static("localhost:7671"));
            fields.insert("sec-fetch-site", HeaderValue::from_static(site));
            assert_eq!(judge(AskedAt::Tcp([127, 0, 0, 1].into()), &fields).is_ok(), is_answered, "{site}");
        }
    }
}
