//! Name constraints: whom an authority may vouch for (RFC 5280 §4.2.1.10, §6.1.3 (b) and (c)).
//!
//! dNSName and directoryName are compared. A constraint of another form (iPAddress, rfc822Name and the like) is not
//! understood, and RFC 5280 §4.2.1.10 says what to do then: a certificate with a name of that form is refused, whether
//! or not the name would have been permitted.

use super::certificate::Certificate;
use super::der::{self, Der};
use super::names::{self, GeneralName, Presence};

/// The forms of name that are counted by number.
const RFC822_NAME: u8 = 1;

/// The value of a nameConstraints extension.
#[derive(Debug)]
pub(super) struct Constraints<'a> {
    permitted: Vec<GeneralName<'a>>,
    excluded: Vec<GeneralName<'a>>,
}

/// What a subtree says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Within,
    Outside,
    /// The subtree is of another form, and says nothing.
    OtherForm,
    /// The subtree is of the same form, and nobody here understands that form.
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

    /// The first name of the certificate that these constraints forbid, for a message. A server's common names count as
    /// DNS names exactly when they would be matched as such.
    pub(super) fn violated_by(&self, certificate: &Certificate<'_>, position: Position) -> Option<String> {
        let subject = &certificate.subject;
        let mut names: Vec<GeneralName<'_>> =
            certificate.extensions.alternative_names.iter().flatten().cloned().collect();
        if !subject.is_empty() {
            names.push(GeneralName::Directory(subject.clone()));
        }
        match subject.email() {
            Presence::Present => names.push(GeneralName::Other(RFC822_NAME)),
            Presence::Absent => {}
        }
        if position == Position::Server {
            names.extend(names::presented(certificate).into_iter().filter(|name| is_dns(name)).map(GeneralName::Dns));
        }
        names.iter().find(|name| self.forbid(name)).map(describe)
    }

    fn forbid(&self, name: &GeneralName<'_>) -> bool {
        let excluded = self.excluded.iter().any(|subtree| match excludes(subtree, name) {
            Verdict::Within | Verdict::Unhandled => true,
            Verdict::Outside | Verdict::OtherForm => false,
        });
        let permits: Vec<Verdict> = self.permitted.iter().map(|subtree| permits(subtree, name)).collect();
        // Subtrees of other forms do not constrain this name; among those of its own form, one has to hold it.
        let constrained = permits.iter().any(|verdict| *verdict != Verdict::OtherForm);
        excluded || (constrained && !permits.contains(&Verdict::Within))
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

/// `example.com`, `.example.com`, or nothing, which is every name.
fn is_base(base: &[u8]) -> bool {
    base.is_empty() || is_dns(base.strip_prefix(b".").unwrap_or(base))
}

fn is_dns(name: &[u8]) -> bool {
    name.split(|&octet| octet == b'.').all(|label| {
        let host = |&octet: &u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' || octet == b'*';
        !label.is_empty() && label.iter().all(host)
    })
}

fn permits(subtree: &GeneralName<'_>, name: &GeneralName<'_>) -> Verdict {
    judge(subtree, name, dns_within)
}

/// A wildcard is excluded as soon as one of the names it stands for could be.
fn excludes(subtree: &GeneralName<'_>, name: &GeneralName<'_>) -> Verdict {
    judge(subtree, name, |name, base| {
        dns_within(name, base)
            || name
                .strip_prefix(b"*.")
                .is_some_and(|parent| dns_within(base.strip_prefix(b".").unwrap_or(base), parent))
    })
}

fn judge(subtree: &GeneralName<'_>, name: &GeneralName<'_>, within: impl Fn(&[u8], &[u8]) -> bool) -> Verdict {
    let verdict = |within| if within { Verdict::Within } else { Verdict::Outside };
    match (subtree, name) {
        (GeneralName::Dns(base), GeneralName::Dns(name)) => verdict(within(name, base)),
        (GeneralName::Directory(base), GeneralName::Directory(name)) => verdict(name.is_within(base)),
        (GeneralName::Other(base), GeneralName::Other(name)) if base == name => Verdict::Unhandled,
        (GeneralName::Dns(_) | GeneralName::Directory(_) | GeneralName::Other(_), _) => Verdict::OtherForm,
    }
}

/// Whether a DNS name is the base or below it; with a leading dot, below it only.
fn dns_within(name: &[u8], base: &[u8]) -> bool {
    let Some(cut) = name.len().checked_sub(base.len()) else { return false };
    let (left, right) = name.split_at(cut);
    right.eq_ignore_ascii_case(base)
        && (left.is_empty() || base.is_empty() || base.starts_with(b".") || left.ends_with(b"."))
}

fn describe(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::Dns(name) => names::shown(name),
        GeneralName::Directory(name) => format!("the subject \"{name}\""),
        GeneralName::Other(form) => format!("a name of the form [{form}]"),
    }
}
