//! The certification path that DANE-TA needs: from the server's certificate up to a trust anchor that a TLSA record
//! names (RFC 7671 §5.2, RFC 5280 §6.1).
//!
//! The records name the anchor; the server sends it, or a `2 x 0` record brings it along. The builder goes up depth
//! first, from a certificate to whatever issued it, in whatever order the server sent them, and ends at the first
//! authority that a record matches: nothing above it is looked at (RFC 6698 §8). The anchor is held to its own
//! constraints as well (RFC 7671 §5.2.1), which libraries that take anchors as bare keys do not do. The server's own
//! certificate is never an anchor, whatever it matches.
//!
//! A path can only be *refused* for what is found on the way, so the search may try every way up. Depth and signature
//! checks are bounded, since the peer chooses what there is to search.

use rustls_pki_types::UnixTime;

use super::certificate::{BasicConstraints, Certificate, Malformed, NetscapeType, Purposes, Signature, Version};
use super::constraints::Position;
use super::mismatch::{Defect, Holder, Mismatch};
use super::tlsa::{Matching, Selector, Tlsa, Usage};
use super::verify::{self, Match, Presented, Warning};

/// The most authorities above the server's certificate.
const MAX_DEPTH: usize = 8;
/// The most signature checks for one chain; an honest chain needs as many as it has certificates.
const MAX_SIGNATURES: usize = 100;

/// What there is to build a path with.
pub(super) struct Materials<'a> {
    leaf: &'a Certificate<'a>,
    /// What may stand above the leaf: no doubles, and not the leaf.
    authorities: Vec<Authority<'a>>,
    /// Keys that records bring in full and that no authority has: one may have signed the topmost certificate.
    bare_keys: Vec<&'a Tlsa>,
    /// An anchor that cannot be read, and what of it.
    unreadable: Option<Malformed>,
}

/// A certificate that may be on the path, and the record that makes it a trust anchor.
struct Authority<'a> {
    certificate: Certificate<'a>,
    anchor: Option<&'a Tlsa>,
}

impl<'a> Materials<'a> {
    /// Gathers the certificates the server sent beside its own, and what the records bring along.
    pub(super) fn new(leaf: &'a Certificate<'a>, others: &[&'a [u8]], records: &'a [Tlsa]) -> Self {
        let anchors = || records.iter().filter(|record| record.usage() == Usage::TrustAnchor);
        let in_full = |selector| {
            anchors().filter(move |record| record.matching() == Matching::Full && record.selector() == selector)
        };
        let mut materials = Self { leaf, authorities: Vec::new(), bare_keys: Vec::new(), unreadable: None };
        for octets in others.iter().copied().chain(in_full(Selector::Certificate).map(Tlsa::data)) {
            let presented = Presented::new(octets);
            materials.add(octets, anchors().find(|record| presented.is(record)));
        }
        // RFC 7671 §5.2.3: if a certificate has the key, that certificate is the anchor, with its constraints.
        let known = |key: &[u8]| materials.authorities.iter().any(|authority| authority.certificate.spki == key);
        materials.bare_keys = in_full(Selector::PublicKey).filter(|record| !known(record.data())).collect();
        materials
    }

    fn add(&mut self, octets: &'a [u8], anchor: Option<&'a Tlsa>) {
        // F18: OpenSSL, and so Postfix, never takes the certificate at depth 0 for an anchor. Sent twice, or brought
        // along by a record, it is still the certificate at depth 0.
        if octets == self.leaf.der || self.authorities.iter().any(|known| known.certificate.der == octets) {
            return;
        }
        match (Certificate::read(octets), anchor) {
            (Ok(certificate), anchor) => self.authorities.push(Authority { certificate, anchor }),
            (Err(what), Some(_)) => self.unreadable = Some(what),
            // What cannot be read has issued nothing: the other certificates decide.
            (Err(Malformed(_)), None) => {}
        }
    }

    /// Whether there is anything a path could end at. If not, no record matches the chain.
    pub(super) fn has_anchor(&self) -> bool {
        self.unreadable.is_some()
            || !self.bare_keys.is_empty()
            || self.authorities.iter().any(|authority| authority.anchor.is_some())
    }

    /// Finds a path from the leaf to an anchor. The leaf itself is judged by [`server`].
    ///
    /// # Errors
    /// The fault at which the search came closest.
    pub(super) fn path(&self, now: UnixTime) -> Result<Match, Mismatch> {
        let mut search =
            Search { materials: self, now, path: Vec::new(), signatures_left: MAX_SIGNATURES, closest: None };
        if let Some(Malformed(what)) = self.unreadable {
            search.failed(Reached::Anchor(0), Mismatch::Path(Holder::Anchor, Defect::Malformed(what)));
        }
        match search.climb() {
            Some(found) => Ok(found),
            None => Err(search.closest.map_or(Mismatch::Path(Holder::Server, Defect::NoIssuer), |(_, why)| why)),
        }
    }
}

/// How far a way up went before it failed: at an anchor says more than at any other certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Depth(usize),
    Anchor(usize),
}

/// A search for a path.
struct Search<'m, 'a> {
    materials: &'m Materials<'a>,
    now: UnixTime,
    /// The authorities so far, each the issuer of the one before; the first issued the leaf.
    path: Vec<&'m Authority<'a>>,
    signatures_left: usize,
    /// Where the search came closest to its end.
    closest: Option<(Reached, Mismatch)>,
}

impl<'m, 'a> Search<'m, 'a> {
    /// One step up from the top of the path, and on from there. Anchors come first, so the path is a short one.
    fn climb(&mut self) -> Option<Match> {
        let depth = self.path.len() + 1;
        let issuers = self.issuers();
        for (&authority, record) in issuers.iter().filter_map(|authority| Some((authority, authority.anchor?))) {
            match self.step(authority) {
                Ok(warning) => return Some(Match { record: record.clone(), depth, warning }),
                Err((reached, why)) => self.failed(reached, why),
            }
        }
        if let Some(record) = self.bare_key() {
            return Some(Match { record, depth, warning: None });
        }
        for authority in issuers.into_iter().filter(|authority| authority.anchor.is_none()) {
            match self.step(authority) {
                Ok(_) if depth == MAX_DEPTH => self.failed(Reached::Depth(depth), self.fault(Defect::TooDeep)),
                Ok(_) => {
                    self.path.push(authority);
                    let found = self.climb();
                    self.path.pop();
                    if found.is_some() {
                        return found;
                    }
                }
                Err((reached, why)) => self.failed(reached, why),
            }
        }
        self.failed(Reached::Depth(self.path.len()), self.fault(Defect::NoIssuer));
        None
    }

    /// The authorities that may have issued the top of the path, going by what it says of its issuer.
    fn issuers(&self) -> Vec<&'m Authority<'a>> {
        let top = self.top();
        // As in OpenSSL, a self-signed certificate is the end of its chain.
        if top.self_signed() {
            return Vec::new();
        }
        let on_path = |authority: &Authority<'_>| self.path.iter().any(|known| std::ptr::eq(*known, authority));
        let known = self.materials.authorities.iter();
        known.filter(|authority| top.points_to(&authority.certificate) && !on_path(authority)).collect()
    }

    /// Checks one step: whether the authority signed the top of the path, and might.
    fn step(&mut self, authority: &'m Authority<'a>) -> Result<Option<Warning>, (Reached, Mismatch)> {
        let certificate = &authority.certificate;
        let depth = self.path.len() + 1;
        let reached = if authority.anchor.is_some() { Reached::Anchor(depth) } else { Reached::Depth(depth) };
        verify::key_size(certificate.spki).map_err(|bits| (reached, Mismatch::KeySize(holder(certificate), bits)))?;
        // Somebody of the same name as the issuer was not reached.
        self.signature(certificate.spki).map_err(|why| (Reached::Depth(depth - 1), why))?;
        self.judge(authority).map_err(|why| (reached, why))
    }

    /// Whether an authority that signed the top of the path might do so.
    fn judge(&self, authority: &Authority<'_>) -> Result<Option<Warning>, Mismatch> {
        let certificate = &authority.certificate;
        let holder = || holder(certificate);
        let below: Vec<&Certificate<'_>> = self.path.iter().map(|authority| &authority.certificate).collect();
        may_issue(certificate, below.iter().filter(|below| !below.self_issued()).count())
            .and_then(|()| may_issue_to(certificate, self.materials.leaf, &below))
            .map_err(|defect| Mismatch::Path(holder(), defect))?;
        match (validity(certificate, self.now, holder()), authority.anchor) {
            (Ok(()), _) => Ok(None),
            // Decision 15: OpenSSL, and so Postfix, looks at an anchor's dates only if it is self-signed.
            (Err(_), Some(_)) if !certificate.self_signed() => Ok(Some(Warning::AnchorOutOfDate)),
            (Err(why), _) => Err(why),
        }
    }

    /// The record whose bare key signed the top of the path (RFC 7671 §5.2.3).
    fn bare_key(&mut self) -> Option<Tlsa> {
        let materials = self.materials;
        for record in &materials.bare_keys {
            let checked = match verify::key_size(record.data()) {
                Ok(()) => self.signature(record.data()),
                Err(bits) => Err(Mismatch::KeySize(Holder::Anchor, bits)),
            };
            match checked {
                Ok(()) => return Some((*record).clone()),
                // The key of another chain, which is no fault.
                Err(Mismatch::Path(_, Defect::Signature)) => {}
                Err(why) => self.failed(Reached::Depth(self.path.len()), why),
            }
        }
        None
    }

    /// Checks the signature on the top of the path, while there are checks left.
    fn signature(&mut self, spki: &[u8]) -> Result<(), Mismatch> {
        self.signatures_left = match self.signatures_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.fault(Defect::TooManySignatures)),
        };
        match self.top().signed_by(spki) {
            Signature::Good => Ok(()),
            Signature::Bad => Err(self.fault(Defect::Signature)),
            Signature::Algorithm => Err(self.fault(Defect::SignatureAlgorithm)),
        }
    }

    fn top(&self) -> &'m Certificate<'a> {
        self.path.last().map_or(self.materials.leaf, |authority| &authority.certificate)
    }

    /// A fault of the certificate at the top of the path.
    fn fault(&self, defect: Defect) -> Mismatch {
        Mismatch::Path(self.path.last().map_or(Holder::Server, |authority| holder(&authority.certificate)), defect)
    }

    fn failed(&mut self, reached: Reached, why: Mismatch) {
        if self.closest.as_ref().is_none_or(|(closest, _)| reached > *closest) {
            self.closest = Some((reached, why));
        }
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
fn may_issue(certificate: &Certificate<'_>, between: usize) -> Result<(), Defect> {
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

/// Whether a certificate's name constraints let it issue what is below it (RFC 5280 §6.1.3 (b) and (c)).
fn may_issue_to(
    certificate: &Certificate<'_>,
    leaf: &Certificate<'_>,
    below: &[&Certificate<'_>],
) -> Result<(), Defect> {
    let Some(constraints) = &certificate.extensions.name_constraints else { return Ok(()) };
    // Self-issued certificates are exempt, except at the end of the path.
    let authorities = below.iter().filter(|known| !known.self_issued());
    let violation = constraints
        .violated_by(leaf, Position::Server)
        .or_else(|| authorities.copied().find_map(|known| constraints.violated_by(known, Position::Authority)));
    match violation {
        None => Ok(()),
        Some(name) => Err(Defect::NameConstraints(name)),
    }
}

fn validity(certificate: &Certificate<'_>, now: UnixTime, holder: Holder) -> Result<(), Mismatch> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.not_before {
        return Err(Mismatch::NotYetValid(holder));
    }
    if now > certificate.not_after {
        return Err(Mismatch::Expired(holder));
    }
    Ok(())
}

fn holder(certificate: &Certificate<'_>) -> Holder {
    Holder::Authority(certificate.subject.to_string())
}
