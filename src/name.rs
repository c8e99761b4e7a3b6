//! A DNS name as everything else in danelaw may rely on it: absolute, lower case, A-labels only.
//!
//! `smtp` reads names out of addresses, `dns` out of answers; both make a [`Name`] here, at the edge, and no code
//! further in reads the text again. The rules for a name are narrower than those of DNS (RFC 2181 §11): letters,
//! digits, hyphens and underscores. Names end up in SNI, in log lines and in reply texts, and an octet outside that set
//! in an MX target is an attempt at injection, never a mail host. One name begins with `*`: the wildcard that an alias leads to
//! in a lookup of TLSA or TXT records.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest name in its wire form, length octets and the root label included (RFC 1035 §2.3.4).
const MAX_WIRE_OCTETS: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL_OCTETS: usize = 63;

/// Top-level domains that the public DNS does not have: RFC 6761 §6.3 and §6.4, RFC 6762 §3 and its appendix G, `mail` beside
/// `corp` and `home` by a resolution of ICANN (2018-02-04), and the common mistake.
const PRIVATE: [&str; 11] =
    ["localhost", "invalid", "local", "intranet", "internal", "private", "corp", "home", "lan", "mail", "localdomain"];

/// An absolute DNS name in lower-case A-labels, without the final dot; the root is the empty string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An empty text, or two dots in a row.
    #[error("it has an empty label")]
    EmptyLabel,
    /// A label of more than 63 octets (RFC 1035 §2.3.4).
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// More than 255 octets in wire form (RFC 1035 §2.3.4).
    #[error("it is longer than 255 octets")]
    TooLong,
    /// An octet that no host name has.
    #[error("it has a character outside letters, digits, '-' and '_'")]
    ForbiddenCharacter,
    /// U-labels that IDNA2008 does not map to A-labels (RFC 5891).
    #[error("it is no internationalised domain name")]
    Idna,
    /// An IP address written where a name belongs.
    #[error("it is an IP address, not a name")]
    IpAddress,
}

/// Labels under which the registries of countries let others register domains.
const SECOND_LEVEL: [&str; 12] = ["ac", "co", "com", "edu", "go", "gov", "ltd", "ne", "net", "or", "org", "plc"];

impl Name {
    /// The root of the DNS: the exchange of a null MX (RFC 7505 §3).
    pub fn root() -> Self {
        Self("".into())
    }

    /// Reads a name that a person or a mail server wrote: U-labels become A-labels (RFC 5891 §4), case is folded,
    /// one final dot is allowed. An IP address is refused: `MX 10 192.0.2.1.` names no host.
    ///
    /// # Errors
    /// The text is no host name, for this reason.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mapped = if text.is_ascii() {
            // A-labels are taken as they are: DNS answers are full of labels that IDNA would find odd.
            Cow::Borrowed(text)
        } else {
            idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3).map_err(|_| NameError::Idna)?
        };
        // The mapping makes digits and dots of fullwidth ones (UTS #46 §4), so an address shows behind it only.
        let text = mapped.strip_suffix('.').unwrap_or(&mapped);
        if text.parse::<IpAddr>().is_ok() {
            return Err(NameError::IpAddress);
        }
        Self::from_ascii(text)
    }

    fn from_ascii(text: &str) -> Result<Self, NameError> {
        if text.len() + 2 > MAX_WIRE_OCTETS {
            return Err(NameError::TooLong);
        }
        let (mut label_octets, mut has_capitals) = (0, false);
        for octet in text.bytes() {
            match octet {
                b'.' if label_octets == 0 => return Err(NameError::EmptyLabel),
                b'.' => label_octets = 0,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_octets += 1,
                _ => return Err(NameError::ForbiddenCharacter),
            }
            if label_octets > MAX_LABEL_OCTETS {
                return Err(NameError::LabelTooLong);
            }
            has_capitals |= octet.is_ascii_uppercase();
        }
        if label_octets == 0 {
            return Err(NameError::EmptyLabel);
        }
        // Most names come in lower case, and need no second copy.
        Ok(Self(if has_capitals { text.to_ascii_lowercase().into() } else { text.into() }))
    }

    /// The name without its final dot; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The owner name of this host's TLSA records for a TCP port: `_25._tcp.mx.example` (RFC 6698 §3).
    ///
    /// # Errors
    /// [`NameError::TooLong`] when the result is no DNS name any more. That is a failed lookup, not "no TLSA".
    pub fn tlsa_owner(&self, port: u16) -> Result<Self, NameError> {
        Self::from_ascii(&format!("_{port}._tcp.{}", self.0))
    }

    /// The wildcard right below this name (RFC 4592 §2.1.1): an owner of records, never a host.
    pub(crate) fn wildcard(&self) -> Self {
        if self.is_root() { Self("*".into()) } else { Self(format!("*.{}", self.0).into()) }
    }

    /// Whether this name is `ancestor` or lies below it.
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        if ancestor.is_root() {
            return true;
        }
        self.is_within(&ancestor.0)
    }

    /// Whether this name is that of a zone or lies below it. The zone is written as [`as_str`](Self::as_str) does, and is not
    /// the root.
    pub fn is_within(&self, zone: &str) -> bool {
        match self.0.strip_suffix(zone) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }

    /// Whether a host of the public DNS may have this name: two labels or more, of letters, digits and hyphens (RFC 1123
    /// §2.1), under a top-level domain that can be delegated. `localhost`, a container's id and `my_host.example` are no
    /// such names, and strict servers refuse them in EHLO (RFC 5321 §2.3.5).
    pub fn is_fully_qualified(&self) -> bool {
        let is_label = |label: &str| !label.contains('_') && !label.starts_with('-') && !label.ends_with('-');
        let Some((_, top)) = self.0.rsplit_once('.') else { return false };
        let is_top = top.starts_with("xn--") || top.len() > 1 && top.bytes().all(|octet| octet.is_ascii_alphabetic());
        is_top && !PRIVATE.contains(&top) && !self.0.ends_with(".home.arpa") && self.labels().all(is_label)
    }

    /// The labels, leftmost first; none for the root.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }

    /// The domain that one owner has registered, as far as a name shows that: its last two labels, or three below a suffix such
    /// as `co.uk`. Strangers below another public suffix share one.
    pub fn registered(&self) -> Self {
        let labels: Vec<_> = self.labels().rev().take(2).collect();
        let is_suffix = matches!(labels[..], [last, before] if last.len() == 2 && SECOND_LEVEL.contains(&before));
        let kept = if is_suffix { 3 } else { 2 };
        let mut name = self.clone();
        for _ in kept..self.labels().count() {
            name = name.parent();
        }
        name
    }

    /// The name one label up; the root's parent is the root.
    pub fn parent(&self) -> Self {
        match self.0.split_once('.') {
            Some((_, rest)) => Self(rest.into()),
            None => Self::root(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect(text)
    }

    #[test]
    fn one_spelling_for_each_name() {
        for (written, read) in [
            ("MX.Example.COM", "mx.example.com"),
            ("mx.example.com.", "mx.example.com"),
            ("_25._tcp.mx.example", "_25._tcp.mx.example"),
            // M7, D9: DNS is asked for the A-label.
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("b\u{fc}cher.example.", "xn--bcher-kva.example"),
            ("b\u{fc}cher\u{3002}example\u{3002}", "xn--bcher-kva.example"),
        ] {
            assert_eq!(name(written).as_str(), read);
        }
    }

    #[test]
    fn texts_that_are_no_names() {
        let long = "a".repeat(64);
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert!(Name::parse(&longest).is_ok());
        for (written, why) in [
            ("", NameError::EmptyLabel),
            (".", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            ("a..", NameError::EmptyLabel),
            (long.as_str(), NameError::LabelTooLong),
            (&format!("{longest}x"), NameError::TooLong),
            // A-53: texts by which an attacker's MX target may try to write into an SMTP dialogue.
            ("a\r\nRCPT TO:<x>", NameError::ForbiddenCharacter),
            ("a b.example", NameError::ForbiddenCharacter),
            ("*.example", NameError::ForbiddenCharacter),
            // B7: an MX target that is an address names no host.
            ("192.0.2.1", NameError::IpAddress),
            ("192.0.2.1.", NameError::IpAddress),
            ("::1", NameError::IpAddress),
            // Fullwidth digits and dots are digits and dots once they are mapped.
            ("\u{ff11}.\u{ff12}.\u{ff13}.\u{ff14}", NameError::IpAddress),
            ("\u{ff11}\u{ff0e}2\u{3002}3\u{ff61}4", NameError::IpAddress),
            ("\u{ff11}92.0.2.1.", NameError::IpAddress),
            ("b\u{fc}cher.example..", NameError::EmptyLabel),
            ("b\u{fc}cher.example.\u{3002}", NameError::EmptyLabel),
            ("a\u{202e}b.example", NameError::Idna),
        ] {
            assert_eq!(Name::parse(written), Err(why), "{written:?}");
        }
    }

    #[test]
    fn tlsa_owner_names_the_port_that_is_dialled() {
        // D8: decimal, no leading zeros.
        assert_eq!(name("mx.example").tlsa_owner(25).unwrap().as_str(), "_25._tcp.mx.example");
        assert_eq!(name("mx.example").tlsa_owner(2525).unwrap().as_str(), "_2525._tcp.mx.example");
        // D14: too long for a TLSA owner name is an error, not an absence.
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(name(&longest).tlsa_owner(25), Err(NameError::TooLong));
    }

    #[test]
    fn ancestors_are_whole_labels() {
        assert!(name("a.b.example").is_at_or_below(&name("b.example")));
        assert!(name("b.example").is_at_or_below(&name("b.example")));
        assert!(name("b.example").is_at_or_below(&Name::root()));
        assert!(!name("ab.example").is_at_or_below(&name("b.example")));
        assert!(!name("example").is_at_or_below(&name("b.example")));
        assert_eq!(name("a.b.example").parent(), name("b.example"));
        assert_eq!(name("example").parent(), Name::root());
    }

    #[test]
    fn the_registered_domain_of_a_name() {
        for (text, registered) in [
            ("example.test", "example.test"),
            ("a.b.example.test", "example.test"),
            ("a.example.co.uk", "example.co.uk"),
            ("example.com.br", "example.com.br"),
            ("co.uk", "co.uk"),
            ("a.abc.de", "abc.de"),
            ("test", "test"),
        ] {
            assert_eq!(Name::parse(text).unwrap().registered(), Name::parse(registered).unwrap(), "{text}");
        }
    }

    #[test]
    fn names_that_a_public_host_may_have() {
        for (text, is_one) in [
            ("mail.example", true),
            ("Mail.Example.", true),
            ("a.b-c.d2.example", true),
            ("mail.xn--bcher-kva", true),
            ("localhost", false),
            ("localhost.localdomain", false),
            ("mail", false),
            ("3f2a9c0b1d4e", false),
            ("danelaw.3f2a9c0b1d4e", false),
            ("my_host.example", false),
            ("-a.example", false),
            ("a-.example", false),
            ("exchange.corp.local", false),
            ("mta.svc.cluster.local", false),
            ("nas.home.arpa", false),
            ("a.internal", false),
        ] {
            assert_eq!(Name::parse(text).unwrap().is_fully_qualified(), is_one, "{text}");
        }
        assert!(!Name::root().is_fully_qualified());
    }
}
