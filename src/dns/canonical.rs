//! Names as DNSSEC sees them: any octets, lower case, in canonical order (RFC 4034 §6.1).
//!
//! [`Name`] holds the names that a mail host may have. The owners of NSEC records, the names they point at and the
//! targets of aliases may be anything that fits on the wire, and proofs of non-existence are comparisons of such names.
//! Here the labels are kept from the root downwards, which makes the canonical order the order of the lists, and "at or
//! below" a common beginning.

use std::fmt;

use super::FailureReason;
use crate::name::Name;

/// Longest name in its wire form (RFC 1035 §2.3.4).
const MAX_WIRE_OCTETS: usize = 255;

/// An absolute name of any octets; ASCII letters are lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CanonicalName(Vec<Box<[u8]>>);

impl CanonicalName {
    /// The root.
    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// From labels in the order of text and wire: the leftmost first.
    pub(super) fn from_labels<'a>(labels: impl DoubleEndedIterator<Item = &'a [u8]>) -> Self {
        Self(labels.rev().map(|label| label.to_ascii_lowercase().into()).collect())
    }

    /// The labels, leftmost first.
    pub(super) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().rev().map(AsRef::as_ref)
    }

    /// How many labels there are, the root's own not counted.
    pub(super) fn depth(&self) -> usize {
        self.0.len()
    }

    /// The ancestor that has `depth` labels; the name itself where it has no more than that.
    pub(super) fn ancestor(&self, depth: usize) -> Self {
        Self(self.0.iter().take(depth).cloned().collect())
    }

    /// The name one label up; the root's is the root.
    pub(super) fn parent(&self) -> Self {
        self.ancestor(self.depth().saturating_sub(1))
    }

    /// The leftmost label; the root has none.
    pub(super) fn leftmost(&self) -> Option<&[u8]> {
        self.0.last().map(AsRef::as_ref)
    }

    /// How many labels the signature of a record at this very name counts: a wildcard's own `*` is left out (RFC 4034 §3.1.3).
    pub(super) fn signed_labels(&self) -> usize {
        self.depth() - usize::from(self.leftmost() == Some(b"*"))
    }

    /// The wildcard right below this name (RFC 4592 §2.1.1).
    pub(super) fn wildcard(&self) -> Self {
        let mut labels = self.0.clone();
        labels.push(Box::from(*b"*"));
        Self(labels)
    }

    /// Whether this name is `other` or lies below it.
    pub(super) fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this name lies below `other` and is not `other`.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.depth() > other.depth() && self.is_at_or_below(other)
    }

    /// The deepest name that both names are at or below.
    pub(super) fn common_ancestor(&self, other: &Self) -> Self {
        self.ancestor(self.0.iter().zip(&other.0).take_while(|(ours, theirs)| ours == theirs).count())
    }

    /// Replaces `owner` at the end of this name by `target`, as a DNAME does (RFC 6672 §2.2).
    ///
    /// # Errors
    /// The result is longer than a name may be, which is a failed lookup (RFC 6672 §2.2, YXDOMAIN).
    pub(super) fn substituted(&self, owner: &Self, target: &Self) -> Result<Self, FailureReason> {
        let below = self.0.iter().skip(owner.depth());
        let name = Self(target.0.iter().chain(below).cloned().collect());
        let octets = name.0.iter().map(|label| label.len() + 1).sum::<usize>() + 1;
        if octets > MAX_WIRE_OCTETS { Err(FailureReason::NameTooLong) } else { Ok(name) }
    }

    /// The name as a host or a domain, if it can be one.
    ///
    /// # Errors
    /// The name cannot be a host name; a lookup that ends here has failed.
    pub(super) fn to_name(&self) -> Result<Name, FailureReason> {
        if self.0.is_empty() {
            return Ok(Name::root());
        }
        // An escaped label never parses: neither a backslash nor a dot inside a label is in any host name.
        let text = self.to_string();
        Name::parse(&text).map_err(|why| FailureReason::Malformed(format!("{text} is no host name: {why}")))
    }

    /// The name as an owner of records that name no host: it may be a wildcard's own, too (RFC 1034 §4.3.3).
    ///
    /// # Errors
    /// As those of [`to_name`](Self::to_name).
    pub(super) fn to_owner(&self) -> Result<Name, FailureReason> {
        match self.leftmost() {
            Some(b"*") => Ok(self.parent().to_name()?.wildcard()),
            Some(_) | None => self.to_name(),
        }
    }
}

impl From<&Name> for CanonicalName {
    fn from(name: &Name) -> Self {
        Self::from_labels(name.labels().map(str::as_bytes))
    }
}

impl fmt::Display for CanonicalName {
    /// Without the final dot; octets outside of host names as in master files (RFC 1035 §5.1), so that a log line
    /// shows them and cannot be broken by them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (i, label) in self.labels().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            for &octet in label {
                match octet {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CanonicalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CanonicalName {
        CanonicalName::from_labels(text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
    }

    #[test]
    fn the_order_of_rfc_4034() {
        // The example of RFC 4034 §6.1, octet labels included.
        let octet = CanonicalName::from_labels([&b"\x01"[..], b"z", b"example"].into_iter());
        let high = CanonicalName::from_labels([&b"\xc8"[..], b"z", b"example"].into_iter());
        let ordered = [
            name("example"),
            name("a.example"),
            name("yljkjljk.a.example"),
            name("Z.a.example"),
            name("zABC.a.EXAMPLE"),
            name("z.example"),
            octet,
            name("*.z.example"),
            high,
        ];
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn below_is_by_whole_labels() {
        assert!(name("a.b.example").is_below(&name("b.example")));
        assert!(name("b.example").is_at_or_below(&name("b.example")));
        assert!(!name("b.example").is_below(&name("b.example")));
        assert!(!name("ab.example").is_at_or_below(&name("b.example")));
        assert_eq!(name("x.a.example").common_ancestor(&name("y.a.example")), name("a.example"));
        assert_eq!(name("a.example").ancestor(1), name("example"));
        assert_eq!(name("a.example").wildcard(), name("*.a.example"));
    }

    #[test]
    fn a_dname_replaces_the_end() {
        let (owner, target) = (name("old.example"), name("new.test"));
        assert_eq!(name("a.b.old.example").substituted(&owner, &target), Ok(name("a.b.new.test")));
        let long = name(&["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
        let asked = name(&format!("{}.old.example", "d".repeat(63)));
        assert_eq!(asked.substituted(&owner, &long), Err(FailureReason::NameTooLong));
    }

    #[test]
    fn odd_octets_are_shown_and_are_no_host() {
        let odd = CanonicalName::from_labels([&b"a\r\nRCPT"[..], b"example"].into_iter());
        assert_eq!(odd.to_string(), "a\\013\\010rcpt.example");
        assert!(odd.to_name().is_err());
        let dotted = CanonicalName::from_labels([&b"a.b"[..], b"example"].into_iter());
        assert!(dotted.to_name().is_err());
        assert!(name("*.example").to_name().is_err());
        assert!(name("192.0.2.1").to_name().is_err());
        assert_eq!(name("MX.example").to_name(), Ok(Name::parse("mx.example").unwrap()));
    }
}
