//! The certification path that DANE-TA needs: from the server's certificate up to a trust anchor that a TLSA record
//! names (RFC 7671 §5.2, RFC 5280 §6.1).
//!
//! The records name the anchor; the server sends it, or a `2 x 0` record brings it along. The path goes up from a
//! certificate to its issuer, in any order that the server sent them, and ends at the first authority that a record
//! matches: the certificates above it are ignored (RFC 6698 §8). The anchor is held to its own constraints as well (RFC
//! 7671 §5.2.1), which libraries that take anchors as bare keys do not do. The server's own certificate is never an
//! anchor, even if a record matches it.
//!
//! There is one path: where several certificates may be the issuer's, the first that is valid now is taken and the
//! others are not tried. RFC 5280 §6 leaves the choice open, this is how OpenSSL makes it, and so Postfix (decision
//! 15). It also bounds the work: one signature a certificate, no matter how many the peer sends.

use rustls_pki_types::UnixTime;

use super::certificate::{Certificate, Malformed, SignatureCheck, Version};
use super::constraints::{Comparisons, Position, Violation};
use super::extensions::{BasicConstraints, NetscapeType, Purposes};
use super::mismatch::{Defect, Holder, Mismatch};
use super::tlsa::{Matching, Selector, Tlsa, Usage};
use super::verify::{self, Match, Presented, Warning};

/// The most authorities above the server's certificate.
const MAX_DEPTH: usize = 8;
/// The most keys that are tried on the topmost certificate; an honest domain publishes one or two. Of more none is tried, so
/// that the order of the records does not matter.
const MAX_BARE_KEYS: usize = 20;

/// The certificates and keys that a path can be built from.
pub(super) struct Materials<'a> {
    leaf: &'a Certificate<'a>,
    /// The certificates that may stand above the leaf: no doubles, and not the leaf.
    authorities: Vec<Authority<'a>>,
    /// Keys that records bring in full: one may have signed the topmost certificate.
    bare_keys: Vec<&'a Tlsa>,
    /// An anchor that cannot be read, and the part that is malformed.
    unreadable: Option<Malformed>,
}

/// The records of trust anchors that bring a certificate or a key in full.
pub(super) fn in_full(records: &[Tlsa], selector: Selector) -> impl Iterator<Item = &Tlsa> {
    records.iter().filter(move |record| {
        record.usage() == Usage::TrustAnchor && record.matching() == Matching::Full && record.selector() == selector
    })
}

/// A certificate that may be on the path, and the record that makes it a trust anchor.
struct Authority<'a> {
    certificate: &'a Certificate<'a>,
    anchor: Option<&'a Tlsa>,
}

impl<'a> Materials<'a> {
    /// Gathers the certificates the server sent beside its own, and those of the records: `brought` are the certificates
    /// of records that have them in full.
    pub(super) fn new(
        leaf: &'a Certificate<'a>,
        brought: &'a [Presented<'a>],
        others: &'a [Presented<'a>],
        records: &'a [Tlsa],
    ) -> Self {
        let anchors = || records.iter().filter(|record| record.usage() == Usage::TrustAnchor);
        let mut materials = Self { leaf, authorities: Vec::new(), bare_keys: Vec::new(), unreadable: None };
        // In OpenSSL's order: the certificates from DNS stand before those that the server sent.
        for presented in brought.iter().chain(others) {
            materials.add(presented, anchors().find(|record| presented.is(record)));
        }
        // RFC 7671 §5.2.3: if a certificate has the key, that certificate is the anchor, with its constraints. One that
        // is the issuer by its name is found on the way up; one that cannot be read may be.
        if materials.unreadable.is_none() {
            let keys = in_full(records, Selector::PublicKey);
            materials.bare_keys = keys.take(MAX_BARE_KEYS + 1).collect();
        }
        materials
    }

    fn add(&mut self, presented: &'a Presented<'a>, anchor: Option<&'a Tlsa>) {
        // F18: OpenSSL, and so Postfix, never takes the certificate at depth 0 for an anchor. Sent twice, or brought
        // along by a record, it is still the certificate at depth 0.
        let octets = presented.octets;
        if octets == self.leaf.der || self.authorities.iter().any(|known| known.certificate.der == octets) {
            return;
        }
        match (&presented.certificate, anchor) {
            (Ok(certificate), anchor) => self.authorities.push(Authority { certificate, anchor }),
            (Err(what), Some(_)) => self.unreadable = Some(*what),
            // A certificate that cannot be read has issued no other: the readable certificates decide.
            (Err(Malformed(_)), None) => {}
        }
    }

    /// Whether there is anything a path could end at. If not, no record matches the chain.
    pub(super) fn has_anchor(&self) -> bool {
        self.unreadable.is_some()
            || !self.bare_keys.is_empty()
            || self.authorities.iter().any(|authority| authority.anchor.is_some())
    }

    /// The path from the leaf to an anchor. The leaf itself is judged by [`server`].
    ///
    /// # Errors
    /// The first fault on the way up, or that the anchor which might have stood there cannot be read.
    pub(super) fn path(&self, now: UnixTime) -> Result<Match, Mismatch> {
        let way_up = WayUp { materials: self, now, comparisons: Comparisons::of_a_path(), path: Vec::new() };
        way_up.climb().map_err(|why| match self.unreadable {
            Some(Malformed(what)) => Mismatch::Path(Holder::Anchor, Defect::Malformed(what)),
            None => why,
        })
    }
}

/// The path as far as it has come.
struct WayUp<'m, 'a> {
    materials: &'m Materials<'a>,
    now: UnixTime,
    /// How many names may still be compared with name constraints.
    comparisons: Comparisons,
    /// The authorities so far, each the issuer of the one before; the first issued the leaf.
    path: Vec<&'m Authority<'a>>,
}

impl<'m, 'a> WayUp<'m, 'a> {
    fn climb(mut self) -> Result<Match, Mismatch> {
        while let Some(authority) = self.issuer() {
            let warning = self.step(authority)?;
            let depth = self.path.len() + 1;
            match authority.anchor {
                Some(record) => {
                    // The dates of an anchor that is out of date do not count.
                    let anchor = warning.is_none().then_some(authority);
                    return Ok(Match { record: record.clone(), depth, path_ends: self.ends(anchor), warning });
                }
                None if depth == MAX_DEPTH => return Err(self.fault(Defect::TooDeep)),
                None => self.path.push(authority),
            }
        }
        self.bare_key()
    }

    /// The first end of a certificate on the path, with this anchor.
    fn ends(&self, anchor: Option<&Authority<'_>>) -> Option<i64> {
        let above = self.path.iter().copied().chain(anchor).map(|authority| authority.certificate);
        std::iter::once(self.materials.leaf).chain(above).map(|certificate| certificate.validity.not_after).min()
    }

    /// The issuer of the top of the path, by the certificates' own fields: the first that is valid now, or else the one
    /// that was valid last.
    fn issuer(&self) -> Option<&'m Authority<'a>> {
        let top = self.top();
        // As in OpenSSL, a self-signed certificate is the end of its chain.
        if top.self_signed() {
            return None;
        }
        let on_path = |authority: &Authority<'_>| self.path.iter().any(|known| std::ptr::eq(*known, authority));
        let known = self.materials.authorities.iter();
        let mut candidates =
            known.filter(|authority| top.points_to(authority.certificate) && !on_path(authority)).peekable();
        let mut last = *candidates.peek()?;
        for candidate in candidates {
            if validity(candidate.certificate, self.now, Holder::Anchor).is_ok() {
                return Some(candidate);
            }
            if candidate.certificate.validity.not_after > last.certificate.validity.not_after {
                last = candidate;
            }
        }
        Some(last)
    }

    /// Checks one step: whether the authority signed the top of the path, and might.
    fn step(&mut self, authority: &Authority<'_>) -> Result<Option<Warning>, Mismatch> {
        let certificate = authority.certificate;
        verify::key_size(certificate.spki).map_err(|bits| Mismatch::KeySize(holder(certificate), bits))?;
        self.signature(certificate.spki)?;
        let below: Vec<&Certificate<'_>> = self.path.iter().map(|authority| authority.certificate).collect();
        may_issue(authority, below.iter().filter(|below| !below.self_issued()).count())
            .and_then(|()| may_issue_to(certificate, self.materials.leaf, &below, &mut self.comparisons))
            .map_err(|defect| Mismatch::Path(holder(certificate), defect))?;
        match (validity(certificate, self.now, holder(certificate)), authority.anchor) {
            (Ok(()), _) => Ok(None),
            // Decision 15: OpenSSL, and so Postfix, looks at an anchor's dates only if it is self-signed.
            (Err(_), Some(_)) if !certificate.self_signed() => Ok(Some(Warning::AnchorOutOfDate)),
            (Err(why), _) => Err(why),
        }
    }

    /// The match by the bare key that signed the top of the path (RFC 7671 §5.2.3).
    fn bare_key(&self) -> Result<Match, Mismatch> {
        if self.materials.bare_keys.len() > MAX_BARE_KEYS {
            return Err(self.fault(Defect::TooManyKeys));
        }
        let mut why = self.fault(Defect::NoIssuer);
        for &record in &self.materials.bare_keys {
            let checked = match verify::key_size(record.data()) {
                Ok(()) => self.signature(record.data()),
                Err(bits) => Err(Mismatch::KeySize(Holder::Anchor, bits)),
            };
            match checked {
                Ok(()) => {
                    let (depth, path_ends) = (self.path.len() + 1, self.ends(None));
                    return Ok(Match { record: record.clone(), depth, path_ends, warning: None });
                }
                // The key of another chain, which is no fault.
                Err(Mismatch::Path(_, Defect::Signature)) => {}
                Err(fault) => why = fault,
            }
        }
        Err(why)
    }

    /// Checks the signature on the top of the path.
    fn signature(&self, spki: &[u8]) -> Result<(), Mismatch> {
        match self.top().signed_by(spki) {
            SignatureCheck::Good => Ok(()),
            SignatureCheck::Bad => Err(self.fault(Defect::Signature)),
            SignatureCheck::Algorithm => Err(self.fault(Defect::SignatureAlgorithm)),
        }
    }

    fn top(&self) -> &'m Certificate<'a> {
        self.path.last().map_or(self.materials.leaf, |authority| authority.certificate)
    }

    /// A fault of the certificate at the top of the path.
    fn fault(&self, defect: Defect) -> Mismatch {
        Mismatch::Path(self.path.last().map_or(Holder::Server, |authority| holder(authority.certificate)), defect)
    }
}

/// Judges the server's own certificate as the end of a path (RFC 5280 §6.1, and the uses TLS has for it, §4.2.1.3 and
/// §4.2.1.12). A CA flag does no harm there.
pub(super) fn server(leaf: &Certificate<'_>, now: UnixTime) -> Result<(), Mismatch> {
    validity(leaf, now, Holder::Server)?;
    let defect = |defect| Err(Mismatch::Path(Holder::Server, defect));
    let extensions = &leaf.extensions;
    if let Some(oid) = &extensions.unhandled_critical {
        return defect(Defect::CriticalExtension(oid.clone()));
    }
    if extensions.extended_key_usage == Some(Purposes::Others) {
        return defect(Defect::ExtendedKeyUsage);
    }
    if extensions.key_usage.is_some_and(|usage| !usage.tls) {
        return defect(Defect::KeyUsage);
    }
    if extensions.netscape_type == Some(NetscapeType::Others) {
        return defect(Defect::NetscapeType);
    }
    Ok(())
}

/// Whether a certificate may issue any (RFC 5280 §6.1.4 (k) to (n)), with so many authorities between it and the server.
fn may_issue(Authority { certificate, anchor }: &Authority<'_>, between: usize) -> Result<(), Defect> {
    let extensions = &certificate.extensions;
    if let Some(oid) = &extensions.unhandled_critical {
        return Err(Defect::CriticalExtension(oid.clone()));
    }
    match (extensions.basic_constraints, certificate.version) {
        (Some(BasicConstraints::Authority { path_length }), _) => {
            if path_length.is_some_and(|longest| between > longest) {
                return Err(Defect::PathLength);
            }
        }
        // RFC 5280 §6.1.4 (k): a v1 certificate cannot say that it is an authority. As a root it is taken for one.
        (None, Version::V1) if certificate.self_signed() => {}
        // As in OpenSSL: keyCertSign, which is asked for below, has the same meaning for an anchor that DNS names.
        (None, _) if anchor.is_some() && extensions.key_usage.is_some() => {}
        (Some(BasicConstraints::EndEntity) | None, Version::V1 | Version::V2 | Version::V3) => {
            return Err(Defect::NoAuthority);
        }
    }
    if extensions.key_usage.is_some_and(|usage| !usage.certificates) {
        return Err(Defect::KeyUsage);
    }
    if extensions.extended_key_usage == Some(Purposes::Others) {
        return Err(Defect::ExtendedKeyUsage);
    }
    Ok(())
}

/// Whether a certificate's name constraints let it issue the certificates below it (RFC 5280 §6.1.3 (b) and (c)).
fn may_issue_to(
    certificate: &Certificate<'_>,
    leaf: &Certificate<'_>,
    below: &[&Certificate<'_>],
    left: &mut Comparisons,
) -> Result<(), Defect> {
    let Some(constraints) = &certificate.extensions.name_constraints else { return Ok(()) };
    // Self-issued certificates are exempt, except at the end of the path.
    let authorities = below.iter().filter(|known| !known.self_issued());
    let below = authorities.map(|known| (*known, Position::Authority));
    for (known, position) in std::iter::once((leaf, Position::Server)).chain(below) {
        constraints.check(known, position, left).map_err(|why| match why {
            Violation::Forbidden(name) => Defect::NameConstraints(name),
            Violation::TooMany => Defect::TooManyConstraints,
        })?;
    }
    Ok(())
}

fn validity(certificate: &Certificate<'_>, now: UnixTime, holder: Holder) -> Result<(), Mismatch> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.validity.not_before {
        return Err(Mismatch::NotYetValid(holder));
    }
    if now > certificate.validity.not_after {
        return Err(Mismatch::Expired(holder));
    }
    Ok(())
}

fn holder(certificate: &Certificate<'_>) -> Holder {
    Holder::Authority(certificate.subject.to_string())
}
