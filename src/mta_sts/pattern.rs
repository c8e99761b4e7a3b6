//! The `mx` values of a policy, and the exchanges that they list (RFC 8461 §4.1).

use std::fmt;

use crate::name::Name;

/// One `mx` value: a host, or a wildcard for the hosts one label below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxPattern {
    text: Box<str>,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// This host.
    Host(Name),
    /// Each host one label below this name.
    OneLabelBelow(Name),
    /// No host can have such a name.
    Nothing,
}

impl MxPattern {
    /// Reads an `mx` value. One that no host can match is kept, because reports quote it (RFC 8460 §4.4, `mx-host`).
    pub fn parse(text: &str) -> Self {
        Self { text: text.into(), scope: scope(text) }
    }

    /// The value as the domain wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether any host can match it.
    pub fn is_usable(&self) -> bool {
        self.scope != Scope::Nothing
    }

    /// Whether it is an IP address, which names no host (RFC 8461 §3.2).
    pub fn is_address(&self) -> bool {
        let text = self.text.trim_start_matches('[').trim_end_matches(']');
        text.strip_prefix("IPv6:").unwrap_or(text).parse::<std::net::IpAddr>().is_ok()
    }

    /// Whether the name of an exchange matches: the name in the MX record, before any alias (RFC 8461 §4.1). A wildcard
    /// stands for exactly one label.
    pub fn matches(&self, exchange: &Name) -> bool {
        match &self.scope {
            Scope::Host(host) => host == exchange,
            // The suffix is never the root, so the name has two labels at least.
            Scope::OneLabelBelow(suffix) => {
                exchange.as_str().split_once('.').is_some_and(|(_, rest)| rest == suffix.as_str())
            }
            Scope::Nothing => false,
        }
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn scope(text: &str) -> Scope {
    // RFC 8461 §3.2: internationalised names stand there as A-labels.
    let name = |text: &str| if text.is_ascii() { Name::parse(text).ok() } else { None };
    let read = match text.strip_prefix("*.") {
        Some(suffix) => name(suffix).filter(is_of_hosts).map(Scope::OneLabelBelow),
        None => name(text).filter(is_of_hosts).map(Scope::Host),
    };
    read.unwrap_or(Scope::Nothing)
}

/// Whether a host can have such a name. Underscores are tolerated in labels, as in MX records; one alone is no label.
fn is_of_hosts(name: &Name) -> bool {
    name.labels().all(|label| label != "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p12_a_wildcard_stands_for_exactly_one_label() {
        // P12.
        for (pattern, exchange, is_listed) in [
            ("mx.example.com", "mx.example.com", true),
            ("MX.Example.COM", "mx.example.com", true),
            ("mx.example.com.", "mx.example.com", true),
            ("mx.example.com", "mx2.example.com", false),
            ("mx.example.com", "a.mx.example.com", false),
            ("mx.example.com", "example.com", false),
            ("example.com", "mx.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.EXAMPLE.com.", "a.example.com", true),
            ("*.example.com", "_a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "aexample.com", false),
            ("*.example.com", "a.example.com.example.org", false),
            // Legal, if careless.
            ("*.com", "a.com", true),
            ("*.com", "com", false),
            ("localhost", "localhost", true),
            // No host name (RFC 1123 §2.1), and yet an MX record may name it.
            ("mx-.example.com", "mx-.example.com", true),
            ("*.example-", "mx.example-", true),
            ("mx.example.com", "mx.example.com.example.org", false),
            ("*.xn--bcher-kva.example", "mx.xn--bcher-kva.example", true),
        ] {
            let pattern = MxPattern::parse(pattern);
            assert!(pattern.is_usable(), "{pattern}");
            assert_eq!(pattern.matches(&Name::parse(exchange).unwrap()), is_listed, "{pattern} {exchange}");
        }
    }

    #[test]
    fn p12_values_that_no_host_can_match() {
        // P12.
        let long = format!("*.{}.example", "a".repeat(64));
        let exchanges = ["com", "example", "a.example", "mx.b.example", "xn--bcher-kva.example", "_.example"];
        for value in [
            "",
            ".",
            "*",
            "*.",
            "*..",
            "**.example",
            "*.*.example",
            "a.*.example",
            "m*.example",
            "*x.example",
            "*example",
            ".example",
            "a..example",
            "a.example..",
            "192.0.2.1",
            "*.192.0.2.1",
            "[192.0.2.1]",
            "2001:db8::1",
            "b\u{fc}cher.example",
            "*.b\u{fc}cher.example",
            "\u{ff41}.example",
            "_",
            "_.example",
            "*._",
            "a.example b.example",
            "a.example, mx.b.example",
            "a.example;",
            "\"a.example\"",
            "mailto:a@a.example",
            "https://a.example",
            long.as_str(),
        ] {
            let pattern = MxPattern::parse(value);
            assert!(!pattern.is_usable(), "{value:?}");
            assert_eq!(pattern.as_str(), value);
            for exchange in exchanges {
                assert!(!pattern.matches(&Name::parse(exchange).unwrap()), "{value:?} {exchange}");
            }
            assert!(!pattern.matches(&Name::root()), "{value:?}");
        }
    }
}
