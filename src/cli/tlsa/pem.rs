//! PEM files (RFC 7468): certificates in the order they stand in, or a public key. Anything else is said by its name.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{Error, PemObject, SectionKind};

use super::BadInput;

/// The content of a file.
pub(super) enum Contents {
    /// At least one certificate.
    Chain(Vec<CertificateDer<'static>>),
    /// A SubjectPublicKeyInfo.
    Key(Vec<u8>),
}

/// Reads certificates, or a public key if there is no certificate. Private keys beside them are passed over.
pub(super) fn read(path: &Path) -> Result<Contents, BadInput> {
    let bad = |what: String| BadInput(format!("{}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let (mut chain, mut key, mut others) = (Vec::new(), None, Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
        match section.map_err(|error| bad(damaged(&error)))? {
            (SectionKind::Certificate, der) => chain.push(CertificateDer::from(der)),
            (SectionKind::PublicKey, der) => key = Some(der),
            (other, _) => others.push(named(other)),
        }
    }
    match (chain.is_empty(), key) {
        (false, _) => Ok(Contents::Chain(chain)),
        (true, Some(key)) => Ok(Contents::Key(key)),
        (true, None) => Err(bad(no_pem(&text, &others))),
    }
}

/// Reads a chain, the server's own certificate first.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadInput> {
    match read(path)? {
        Contents::Chain(chain) => Ok(chain),
        Contents::Key(_) => Err(BadInput(format!(
            "{}: holds a public key; expected the certificates that the server sends (BEGIN CERTIFICATE), its own first",
            path.display()
        ))),
    }
}

fn no_pem(text: &[u8], others: &[&str]) -> String {
    let expected = "expected a certificate or a public key in PEM form (BEGIN CERTIFICATE or BEGIN PUBLIC KEY)";
    match (others.first(), text.first()) {
        (Some(other), _) => format!("{expected}, and found only {other}"),
        (None, Some(0x30)) => format!("{expected}, and found DER; convert it with openssl x509 -inform DER"),
        (None, Some(_)) => format!("{expected}, and found neither"),
        (None, None) => format!("{expected}, and the file is empty"),
    }
}

fn named(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
            "a private key (openssl pkey -pubout makes its public key)"
        }
        SectionKind::Crl => "a revocation list",
        SectionKind::Csr => "a certificate request",
        _ => "something else",
    }
}

fn damaged(error: &Error) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("damaged PEM: there is no line END {}", String::from_utf8_lossy(end_marker))
        }
        Error::IllegalSectionStart { line } => {
            format!("damaged PEM: expected dashes at the end of {:?}", String::from_utf8_lossy(line))
        }
        Error::Base64Decode(_) => "damaged PEM: expected base64 between BEGIN and END".into(),
        other => format!("damaged PEM: {other}"),
    }
}
