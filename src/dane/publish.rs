//! The other side of DANE: which TLSA records the operator of a mail server publishes (RFC 7671 §5, RFC 7672 §3.1).
//!
//! A record is made of a certificate or of a bare key. `3 1 1` of the server's own key outlives every renewal that
//! keeps the key. `2 1 1` of the authority that issued the certificate outlives every change of the server's key, and
//! matches only if the server sends that authority's certificate along (RFC 7671 §5.2.2).

use rustls_pki_types::CertificateDer;

use super::certificate::{Certificate, SignatureCheck};
use super::extensions::BasicConstraints;
use super::tlsa::{Selector, Tlsa, TlsaForm, Unusable};
use super::verify::key_size;
use super::{der, names};
use crate::name::Name;

/// The certificate or key that a record is made of.
#[derive(Debug, Clone, Copy)]
pub enum RecordSource<'a> {
    /// A certificate.
    Certificate(&'a [u8]),
    /// A SubjectPublicKeyInfo.
    Key(&'a [u8]),
}

/// Why there is no such record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpublishable {
    /// Selector Cert(0) speaks of a certificate.
    #[error("selector 0 is about a certificate, and this is a public key; use --selector 1, or give the certificate")]
    NoCertificate,
    /// There is no key in it.
    #[error("no public key can be read out of it")]
    NoKey,
    /// A record that no client could use.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// The record of this form for a source.
///
/// # Errors
/// The source does not have the part that the form asks for.
pub fn tlsa_record(form: TlsaForm, source: RecordSource<'_>) -> Result<Tlsa, Unpublishable> {
    let octets = match (form.selector, source) {
        (Selector::Certificate, RecordSource::Certificate(certificate)) => certificate,
        (Selector::Certificate, RecordSource::Key(_)) => return Err(Unpublishable::NoCertificate),
        (Selector::PublicKey, RecordSource::Certificate(certificate)) => {
            der::spki(certificate).ok_or(Unpublishable::NoKey)?
        }
        (Selector::PublicKey, RecordSource::Key(key)) if der::is_spki(key) => key,
        (Selector::PublicKey, RecordSource::Key(_)) => return Err(Unpublishable::NoKey),
    };
    Ok(Tlsa::of(form, octets)?)
}

/// The certificate among these whose key signed `leaf`: the authority that a `2 x x` record should be about. A
/// self-signed certificate has none: no client, Postfix included, takes a server for its own trust anchor.
pub fn issuer<'a, 'c>(leaf: &[u8], others: &'a [CertificateDer<'c>]) -> Option<&'a CertificateDer<'c>> {
    let leaf = Certificate::read(leaf).ok()?;
    others.iter().filter(|other| other.as_ref() != leaf.der).find(|other| {
        let issuer = Certificate::read(other);
        issuer.is_ok_and(|issuer| leaf.points_to(&issuer) && leaf.signed_by(issuer.spki) == SignatureCheck::Good)
    })
}

/// The place of the server's own certificate: the first one, unless that has issued another one; then the only one that has issued
/// none. None if there is no such one.
pub fn own(chain: &[CertificateDer<'_>]) -> Option<usize> {
    let issued_none = |place: &usize| {
        let others = chain.iter().enumerate().filter(|(other, _)| other != place);
        !others.into_iter().any(|(_, other)| issuer(other, &chain[*place..=*place]).is_some())
    };
    if chain.is_empty() || issued_none(&0) {
        return (!chain.is_empty()).then_some(0);
    }
    let mut own = (1..chain.len()).filter(issued_none);
    own.next().filter(|_| own.next().is_none())
}

/// The holder of a certificate, as far as the certificate tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateHolder {
    /// A server.
    Server,
    /// An authority.
    Authority,
    /// It is self-signed, marked as an authority's, and for a host: openssl makes such ones for servers as well.
    Unclear,
}

/// The holder of a certificate (RFC 5280 §4.2.1.9 and §4.2.1.3), for a server of this name if it is known.
pub fn holder(certificate: &[u8], host: Option<&Name>) -> CertificateHolder {
    let Ok(certificate) = Certificate::read(certificate) else { return CertificateHolder::Server };
    let signs = certificate.extensions.key_usage.is_some_and(|usage| usage.certificates);
    let is_marked = match certificate.extensions.basic_constraints {
        Some(BasicConstraints::Authority { .. }) => true,
        Some(BasicConstraints::EndEntity) => false,
        None => signs,
    };
    let is_own = names::presented(&certificate).any(|name| host.is_some_and(|host| names::is_for(name, host)));
    match (is_marked, certificate.self_signed()) {
        (false, _) => CertificateHolder::Server,
        // One with the name of a host is a server's, with a mark too many.
        (true, false) if names::dns_names(&certificate).next().is_some() => CertificateHolder::Server,
        (true, false) => CertificateHolder::Authority,
        (true, true) if is_own && signs => CertificateHolder::Unclear,
        (true, true) if is_own => CertificateHolder::Server,
        (true, true) if !signs && names::presented(&certificate).any(names_a_host) => CertificateHolder::Unclear,
        (true, true) => CertificateHolder::Authority,
    }
}

/// Whether this is a host name, as "Example Root" is not.
fn names_a_host(presented: &[u8]) -> bool {
    let name = std::str::from_utf8(presented).ok().and_then(|name| Name::parse(name).ok());
    name.is_some_and(|name| name.is_fully_qualified())
}

/// The size of an RSA key that danelaw does not take, in bits (decision 15).
pub fn refused_size(source: RecordSource<'_>) -> Option<usize> {
    let spki = match source {
        RecordSource::Certificate(certificate) => der::spki(certificate)?,
        RecordSource::Key(key) => key,
    };
    key_size(spki).err()
}

/// Whether a certificate has this name, as a client asks for under usage 2 (RFC 7672 §3.2.1).
pub fn is_for(certificate: &[u8], host: &Name) -> bool {
    Certificate::read(certificate)
        .is_ok_and(|certificate| names::presented(&certificate).any(|name| names::is_for(name, host)))
}

/// The names that a certificate is for, to be shown.
pub fn host_names(certificate: &[u8]) -> Vec<String> {
    Certificate::read(certificate)
        .map(|certificate| names::presented(&certificate).map(names::shown).collect())
        .unwrap_or_default()
}

/// The last common name of a certificate's subject, for a comment.
pub fn subject(certificate: &[u8]) -> Option<String> {
    Certificate::read(certificate).ok().map(|certificate| certificate.subject.to_string())
}
