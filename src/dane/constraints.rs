//! Name constraints: the names that an authority may issue certificates for (RFC 5280 §4.2.1.10, §6.1.3 (b) and (c)).
//!
//! dNSName, directoryName and iPAddress are compared. A constraint of another form (rfc822Name and the like) is not
//! supported, and RFC 5280 §4.2.1.10 has a rule for that: a certificate with a name of that form is refused, whether or
//! not the name would have been permitted.

use std::net::IpAddr;

use super::certificate::Certificate;
use super::der::{self, Der};
use super::names::{self, DistinguishedName, GeneralName, Presence};

/// The forms of name that are counted by number.
const RFC822_NAME: u8 = 1;

/// The value of a nameConstraints extension.
#[derive(Debug)]
pub(super) struct Constraints<'a> {
    permitted: Vec<GeneralName<'a>>,
    excluded: Vec<GeneralName<'a>>,
}

/// The result of comparing a name with a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubtreeMatch {
    Within,
    Outside,
    /// The subtree is of another form, and does not limit this name.
    OtherForm,
    /// The subtree is of the same form, and that form is not supported, or one of them is malformed.
    Unhandled,
}

impl<'a> Constraints<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let mut der = Der(Der::only(value, der::SEQUENCE)?.body);
        let mut subtrees = |tag| match der.optional(tag) {
            Some(list) => read_subtrees(list.body),
            None => Some(Vec::new()),
        };
        let constraints = Self { permitted: subtrees(0xa0)?, excluded: subtrees(0xa1)? };
        der.is_empty().then_some(constraints)
    }

    /// Holds the names of a certificate against these constraints. A server's common names count as DNS names exactly when
    /// they would be matched as such.
    ///
    /// # Errors
    /// The first name that they forbid, or that the path has no comparisons left for them.
    pub(super) fn check(
        &self,
        certificate: &Certificate<'_>,
        position: Position,
        left: &mut Comparisons,
    ) -> Result<(), Violation> {
        let names = constrained_names(certificate, position);
        if !left.spend(names.len(), self.permitted.len() + self.excluded.len()) {
            return Err(Violation::TooMany);
        }
        match names.into_iter().find(|name| self.forbid(*name)) {
            None => Ok(()),
            Some(name) => Err(Violation::Forbidden(describe(name))),
        }
    }

    fn forbid(&self, name: ConstrainedName<'_>) -> bool {
        let excluded = self.excluded.iter().any(|subtree| match excludes(subtree, name) {
            SubtreeMatch::Within | SubtreeMatch::Unhandled => true,
            SubtreeMatch::Outside | SubtreeMatch::OtherForm => false,
        });
        // Subtrees of other forms do not constrain this name; among those of its own form, one has to hold it.
        let (mut constrained, mut unhandled) = (false, false);
        let permitted = self.permitted.iter().any(|subtree| {
            let verdict = permits(subtree, name);
            constrained |= verdict != SubtreeMatch::OtherForm;
            unhandled |= verdict == SubtreeMatch::Unhandled;
            verdict == SubtreeMatch::Within
        });
        excluded || unhandled || (constrained && !permitted)
    }
}

/// Why constraints do not allow a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Violation {
    /// They forbid this name of it.
    Forbidden(String),
    /// It has more names, and they more subtrees, than are compared.
    TooMany,
}

/// How many comparisons of a name with a subtree one path may still cost.
///
/// A server's certificate has room for 20,000 names and an authority's for 12,000 subtrees: 240 million comparisons, in the
/// middle of a handshake. OpenSSL makes 2^20 for each certificate and each authority above it (`NAME_CHECK_MAX`), and calls
/// the chain invalid where there would be more. Here the whole path has as many.
#[derive(Debug)]
pub(super) struct Comparisons(usize);

impl Comparisons {
    /// For one path.
    pub(super) const fn of_a_path() -> Self {
        Self(1 << 20)
    }

    fn spend(&mut self, names: usize, subtrees: usize) -> bool {
        let left = names.checked_mul(subtrees).and_then(|price| self.0.checked_sub(price));
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// A name that is compared with subtrees.
#[derive(Debug, Clone, Copy)]
enum ConstrainedName<'c> {
    Dns(&'c [u8]),
    Directory(&'c DistinguishedName),
    Address(&'c [u8]),
    Other(u8),
}

/// The names of a certificate that constraints are about.
fn constrained_names<'c>(certificate: &'c Certificate<'_>, position: Position) -> Vec<ConstrainedName<'c>> {
    let subject = &certificate.subject;
    let alternatives = certificate.extensions.alternative_names.iter().flatten();
    let mut names: Vec<ConstrainedName<'c>> = alternatives.map(ConstrainedName::from).collect();
    if !subject.is_empty() {
        names.push(ConstrainedName::Directory(subject));
    }
    match subject.email() {
        Presence::Present => names.push(ConstrainedName::Other(RFC822_NAME)),
        Presence::Absent => {}
    }
    match position {
        Position::Authority => {}
        Position::Server => {
            let common = names::common_names_as_dns_names(certificate).iter().map(String::as_bytes);
            names.extend(common.filter(|name| is_dns(name)).map(ConstrainedName::Dns));
        }
    }
    names
}

impl<'c> From<&'c GeneralName<'_>> for ConstrainedName<'c> {
    fn from(name: &'c GeneralName<'_>) -> Self {
        match name {
            GeneralName::Dns(name) => Self::Dns(name),
            GeneralName::Directory(name) => Self::Directory(name),
            GeneralName::Address(address) => Self::Address(address),
            GeneralName::Other(form) => Self::Other(*form),
        }
    }
}

/// Where in the path a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The server's own certificate.
    Server,
    /// An authority's.
    Authority,
}

fn read_subtrees(list: &[u8]) -> Option<Vec<GeneralName<'_>>> {
    let mut list = Der(list);
    let mut subtrees = Vec::new();
    while !list.is_empty() {
        let mut subtree = Der(list.take(der::SEQUENCE)?.body);
        let base = GeneralName::read(&mut subtree)?;
        // RFC 5280 §4.2.1.10: minimum is always 0 and maximum absent; anything else would bound the subtree.
        if !subtree.is_empty() || matches!(base, GeneralName::Dns(base) if !is_base(base)) {
            return None;
        }
        subtrees.push(base);
    }
    Some(subtrees)
}

/// `example.com`, `.example.com`, or the empty text, which is every name.
fn is_base(base: &[u8]) -> bool {
    base.is_empty() || is_dns(base.strip_prefix(b".").unwrap_or(base))
}

fn is_dns(name: &[u8]) -> bool {
    name.split(|&octet| octet == b'.').all(|label| {
        let host = |&octet: &u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' || octet == b'*';
        !label.is_empty() && label.iter().all(host)
    })
}

fn permits(subtree: &GeneralName<'_>, name: ConstrainedName<'_>) -> SubtreeMatch {
    judge(subtree, name, dns_within)
}

/// A wildcard is excluded as soon as one of the names it stands for could be.
fn excludes(subtree: &GeneralName<'_>, name: ConstrainedName<'_>) -> SubtreeMatch {
    judge(subtree, name, |name, base| {
        dns_within(name, base)
            || name
                .strip_prefix(b"*.")
                .is_some_and(|parent| dns_within(base.strip_prefix(b".").unwrap_or(base), parent))
    })
}

fn judge(subtree: &GeneralName<'_>, name: ConstrainedName<'_>, within: impl Fn(&[u8], &[u8]) -> bool) -> SubtreeMatch {
    let verdict = |within| if within { SubtreeMatch::Within } else { SubtreeMatch::Outside };
    match (subtree, name) {
        (GeneralName::Dns(base), ConstrainedName::Dns(name)) => verdict(within(name, base)),
        (GeneralName::Directory(base), ConstrainedName::Directory(name)) => verdict(name.is_within(base)),
        (GeneralName::Address(base), ConstrainedName::Address(address)) => address_within(address, base),
        (GeneralName::Other(base), ConstrainedName::Other(name)) if *base == name => SubtreeMatch::Unhandled,
        (
            GeneralName::Dns(_) | GeneralName::Directory(_) | GeneralName::Address(_) | GeneralName::Other(_),
            ConstrainedName::Dns(_)
            | ConstrainedName::Directory(_)
            | ConstrainedName::Address(_)
            | ConstrainedName::Other(_),
        ) => SubtreeMatch::OtherForm,
    }
}

/// Whether a DNS name is the base or below it; with a leading dot, below it only.
fn dns_within(name: &[u8], base: &[u8]) -> bool {
    let Some(cut) = name.len().checked_sub(base.len()) else { return false };
    let (left, right) = name.split_at(cut);
    right.eq_ignore_ascii_case(base)
        && (left.is_empty() || base.is_empty() || base.starts_with(b".") || left.ends_with(b"."))
}

/// Whether an address is in a network, which is an address and a mask (RFC 5280 §4.2.1.10).
fn address_within(address: &[u8], base: &[u8]) -> SubtreeMatch {
    if !matches!((address.len(), base.len()), (4 | 16, 8 | 32)) {
        return SubtreeMatch::Unhandled;
    }
    let Some((network, mask)) = base.split_at_checked(address.len()).filter(|(_, mask)| mask.len() == address.len())
    else {
        return SubtreeMatch::Outside;
    };
    let mut octets = address.iter().zip(network).zip(mask);
    match octets.all(|((octet, of_network), mask)| octet & mask == of_network & mask) {
        true => SubtreeMatch::Within,
        false => SubtreeMatch::Outside,
    }
}

fn describe(name: ConstrainedName<'_>) -> String {
    match name {
        ConstrainedName::Dns(name) => names::shown(name),
        ConstrainedName::Directory(name) => format!("the subject \"{name}\""),
        ConstrainedName::Address(octets) => {
            let v4 = || <[u8; 4]>::try_from(octets).map(IpAddr::from);
            match <[u8; 16]>::try_from(octets).map(IpAddr::from).or_else(|_| v4()) {
                Ok(address) => format!("the address {address}"),
                Err(_) => format!("an address of {} octets", octets.len()),
            }
        }
        ConstrainedName::Other(form) => format!("a name of the form [{form}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_so_many_comparisons() {
        for (names, subtrees, enough) in [
            (1 << 10, 1 << 10, true),
            ((1 << 10) + 1, 1 << 10, false),
            (20_000, 12_000, false),
            (usize::MAX, 2, false),
            (20_000, 0, true),
        ] {
            assert_eq!(Comparisons::of_a_path().spend(names, subtrees), enough, "{names} {subtrees}");
        }
        // Those of all authorities on the path come out of the same purse, and an empty one stays empty.
        let mut left = Comparisons::of_a_path();
        assert!(left.spend(600, 1_000) && !left.spend(600, 1_000) && !left.spend(1, 1));
    }
}
