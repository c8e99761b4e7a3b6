//! PEM files (RFC 7468): certificates in the order they stand in, or a public key. Anything else is said by its name.
//!
//! The parser takes a line that is no boundary in its strict form for text between the parts, and passes over a part of another
//! kind. A certificate that is passed over makes the next one the server's, so such a file is refused.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{Error, PemObject, SectionKind};

use super::BadInput;
use crate::operator_file::SETTINGS;

/// The octets that editors of Windows write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
/// The beginning of a boundary before a part (RFC 7468 §3).
const BEGIN: &str = "-----BEGIN ";

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
    let file = SETTINGS.read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let text = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&file);
    if let Some(why) = passed_over(text) {
        return Err(bad(why));
    }
    let (mut chain, mut key, mut others) = (Vec::new(), None, Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section.map_err(|error| bad(damaged(&error)))? {
            (SectionKind::Certificate, der) => chain.push(CertificateDer::from(der)),
            (SectionKind::PublicKey, der) => key = Some(der),
            (other, _) => others.push(named(other)),
        }
    }
    match (chain.is_empty(), key) {
        (false, _) => Ok(Contents::Chain(chain)),
        (true, Some(key)) => Ok(Contents::Key(key)),
        (true, None) => Err(bad(no_pem(text, &others))),
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

/// The first line that the parser would pass over, although it begins a part that may be a certificate.
fn passed_over(text: &[u8]) -> Option<String> {
    let lines = text.split(|octet| *octet == b'\n').map(String::from_utf8_lossy);
    let mut faults = lines.enumerate().filter_map(|(before, line)| {
        let why = line.split('\r').find_map(|line| match line.strip_prefix(BEGIN) {
            Some(label) => other_form(label),
            None => begins_elsewhere(line),
        })?;
        Some(format!("line {}: {why}", before + 1))
    });
    faults.next()
}

/// A certificate in a form that is not read here, by the label of its boundary.
fn other_form(label: &str) -> Option<String> {
    let label = label.trim_end().trim_end_matches('-');
    let is_read =
        matches!(label, "CERTIFICATE" | "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" | "ATTRIBUTE CERTIFICATE");
    let convert = match label.to_ascii_uppercase() {
        _ if is_read => return None,
        other if other.contains("PKCS7") || other.contains("PKCS #7") => "openssl pkcs7 -in FILE -print_certs",
        other if other.contains("CERTIFICATE") => "openssl x509 -in FILE",
        _ => return None,
    };
    Some(format!("expected BEGIN CERTIFICATE, and found BEGIN {label}; convert it with {convert}"))
}

/// A boundary behind a blank, behind the end of another part, or behind a mark that no editor shows.
fn begins_elsewhere(line: &str) -> Option<String> {
    let is_dash = |char: char| matches!(char, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let upper = line.to_ascii_uppercase();
    let whole = upper.match_indices("BEGIN ").any(|(at, _)| upper[..at].trim_end().ends_with(is_dash));
    (upper.contains(BEGIN) || whole && upper.trim_end().ends_with(is_dash)).then(|| {
        "expected -----BEGIN with five dashes, in capitals, at the start of the line, and nothing before it; correct this line, \
         or take this part out of the file"
            .to_owned()
    })
}

fn no_pem(text: &[u8], others: &[&str]) -> String {
    let expected = "expected a certificate or a public key in PEM form (BEGIN CERTIFICATE or BEGIN PUBLIC KEY)";
    match (others.first(), text) {
        (Some(other), _) => format!("{expected}, and found only {other}"),
        (None, [0x30, ..]) => format!("{expected}, and found {}", in_der(text)),
        (None, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) => format!("{expected}, and found UTF-16; save it as UTF-8"),
        (None, [_, ..]) => format!("{expected}, and found neither"),
        (None, []) => format!("{expected}, and the file is empty"),
    }
}

/// The name of a DER file by its first element, and how it becomes PEM.
fn in_der(text: &[u8]) -> &'static str {
    let header = match text.get(1) {
        Some(octets @ 0x81..=0x84) => 2 + usize::from(octets & 0x7f),
        Some(_) | None => 2,
    };
    match text.get(header..) {
        // RFC 7292 §4: version 3.
        Some([0x02, 0x01, 0x03, ..]) => "PKCS#12; convert it with openssl pkcs12 -in FILE -nokeys",
        // RFC 5652 §3: the type of the content.
        Some([0x06, ..]) => "PKCS#7; convert it with openssl pkcs7 -inform DER -in FILE -print_certs",
        Some(_) | None => "DER; convert it with openssl x509 -inform DER",
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
