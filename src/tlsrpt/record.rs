//! The record that says where a domain wants its TLS reports (RFC 8460 §3).

use std::fmt::{self, Write as _};

use crate::hex::percent_decoded;
use crate::name::Name;
use crate::smtp::address::{AddressError, Mailbox, RecipientDomain, ReversePath, SmtpUtf8};

/// The first field, and the only one whose place is fixed.
const VERSION: &str = "v=TLSRPTv1";
/// The most octets of a record that is read.
const MAX_RECORD: usize = 4096;
/// The most addresses that are used.
const MAX_ADDRESSES: usize = 5;
/// The most octets of an address, as it is published and as it is written.
const MAX_ADDRESS: usize = 512;
/// Blanks of RFC 5234.
const BLANKS: [char; 2] = [' ', '\t'];

/// The TLSRPT record of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsrptRecord {
    /// Its text, as it is published.
    pub text: String,
    /// Where reports go: at least one address, and no more than five.
    pub addresses: Vec<ReportAddress>,
}

/// An address of `rua`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportAddress {
    /// `mailto:`
    Mail(ReportMailbox),
    /// `https:`
    Https(ReportUrl),
}

/// A mailbox that takes reports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportMailbox {
    local_part: String,
    domain: Name,
}

/// A server that takes reports, on port 443.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportUrl {
    host: Name,
    /// Path and query, from the slash on.
    path: String,
}

/// Why a domain gets no reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTlsrptRecord {
    /// No record starts with the version.
    #[error("there is no record that starts with v=TLSRPTv1;")]
    None,
    /// RFC 8460 §3: then there is no policy.
    #[error("there are {0} records that start with v=TLSRPTv1;")]
    Several(usize),
    /// Octets that no URI has.
    #[error("the record is not ASCII")]
    NotAscii,
    /// More than any honest record.
    #[error("the record is longer than {MAX_RECORD} octets")]
    TooLong,
    /// No `rua` at all, or none that can be used.
    #[error("the record has no rua that can be used")]
    NoAddress,
}

/// Why an address of `rua` is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportAddressError {
    /// More than any honest address.
    #[error("the address is longer than {MAX_ADDRESS} octets")]
    TooLong,
    /// Neither `mailto:` nor `https:`.
    #[error("the scheme is neither mailto nor https")]
    Scheme,
    /// A `%` that two hexadecimal digits do not follow, or no UTF-8.
    #[error("the percent-encoding is broken")]
    Encoding,
    /// The mailbox is none.
    #[error("{0}")]
    Mailbox(#[from] AddressError),
    /// An address literal, or a local part that is not ASCII.
    #[error("the mailbox needs more than an ordinary mail server has")]
    Unusual,
    /// The host is an address, a name of a private network, or no name.
    #[error("the host is no public name")]
    Host,
    /// A name or password in front of the host.
    #[error("there is user information in front of the host")]
    UserInformation,
    /// A port other than 443.
    #[error("the port is not 443")]
    Port,
    /// A fragment, a blank, or a character that no URI has.
    #[error("the path is malformed")]
    Path,
}

impl TlsrptRecord {
    /// The one record among the TXT records of `_smtp._tls.<domain>`, each with its strings joined.
    ///
    /// # Errors
    /// There is none, or it is of no use (RFC 8460 §3).
    pub fn among(records: &[impl AsRef<[u8]>]) -> Result<Self, NoTlsrptRecord> {
        let mut found = records.iter().map(AsRef::as_ref).filter(|record| fields(record).is_some());
        let first = found.next().ok_or(NoTlsrptRecord::None)?;
        match found.count() {
            0 => Self::parse(first),
            more => Err(NoTlsrptRecord::Several(more + 1)),
        }
    }

    fn parse(record: &[u8]) -> Result<Self, NoTlsrptRecord> {
        if record.len() > MAX_RECORD {
            return Err(NoTlsrptRecord::TooLong);
        }
        let is_text = |octet: &u8| *octet == b'\t' || (b' '..=b'~').contains(octet);
        if !record.iter().all(is_text) {
            return Err(NoTlsrptRecord::NotAscii);
        }
        let text = std::str::from_utf8(record).map_err(|_| NoTlsrptRecord::NotAscii)?;
        let rest = fields(record).and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or_default();
        // RFC 8460 §3: fields in any order; unknown ones are left out.
        let rua = rest.split(';').filter_map(|field| field.trim_matches(BLANKS).strip_prefix("rua="));
        let uris = rua.flat_map(|list| list.split(','));
        let mut addresses = Vec::new();
        for address in uris.filter_map(|uri| ReportAddress::parse(uri.trim_matches(BLANKS)).ok()) {
            if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(NoTlsrptRecord::NoAddress);
        }
        Ok(Self { text: text.to_owned(), addresses })
    }
}

/// The octets behind the version and its delimiter, if the record starts with them.
fn fields(record: &[u8]) -> Option<&[u8]> {
    let rest = record.strip_prefix(VERSION.as_bytes())?;
    rest.trim_ascii_start().strip_prefix(b";")
}

impl ReportAddress {
    /// Reads a URI of `rua`.
    ///
    /// # Errors
    /// Reports cannot go there, for this reason.
    pub fn parse(uri: &str) -> Result<Self, ReportAddressError> {
        if uri.len() > MAX_ADDRESS {
            return Err(ReportAddressError::TooLong);
        }
        let (scheme, rest) = uri.split_once(':').ok_or(ReportAddressError::Scheme)?;
        // RFC 3986 §3.1: in any case.
        let address = match scheme.to_ascii_lowercase().as_str() {
            "mailto" => Self::Mail(mailbox(rest)?),
            "https" => Self::Https(url(rest)?),
            _ => return Err(ReportAddressError::Scheme),
        };
        // The store has it in this form, and reads it again.
        match address.to_string().len() > MAX_ADDRESS {
            true => Err(ReportAddressError::TooLong),
            false => Ok(address),
        }
    }
}

/// RFC 6068 §2: one address; header fields are dropped, since a report has its own.
fn mailbox(text: &str) -> Result<ReportMailbox, ReportAddressError> {
    let decoded = decoded(text.split('?').next().unwrap_or_default())?;
    let (local, domain) = decoded.rsplit_once('@').ok_or(AddressError::NoDomain)?;
    // A domain may have U-labels in a URI.
    let domain = Name::parse(domain).map_or_else(|_| domain.to_owned(), |name| name.to_string());
    let parse = |local: String| ReversePath::parse(&format!("<{local}@{domain}>"), SmtpUtf8::Absent);
    let path = match parse(local.to_owned()) {
        Ok(path) => path,
        // RFC 6068 §2: the quotes of a local part may be left out there.
        Err(_) if !local.is_empty() && !local.contains(['"', '\\']) => parse(format!("\"{local}\""))?,
        Err(error) => return Err(error.into()),
    };
    let ReversePath::Mailbox(mailbox) = path else { return Err(AddressError::NoDomain.into()) };
    of_name(&mailbox).ok_or(ReportAddressError::Unusual)
}

fn of_name(mailbox: &Mailbox) -> Option<ReportMailbox> {
    let RecipientDomain::Name(domain) = mailbox.domain() else { return None };
    let local_part = mailbox.local_part().to_owned();
    let is_usual = local_part.bytes().all(|octet| (b' '..=b'~').contains(&octet)) && domain.is_fully_qualified();
    is_usual.then(|| ReportMailbox { local_part, domain: domain.clone() })
}

fn url(rest: &str) -> Result<ReportUrl, ReportAddressError> {
    let rest = rest.strip_prefix("//").ok_or(ReportAddressError::Host)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(ReportAddressError::UserInformation);
    }
    let host = match authority.split_once(':') {
        Some((host, "443" | "")) => host,
        Some((host, _)) if !host.starts_with('[') => return Err(ReportAddressError::Port),
        Some(_) => return Err(ReportAddressError::Host),
        None => authority,
    };
    let host = Name::parse(host).ok().filter(Name::is_fully_qualified).ok_or(ReportAddressError::Host)?;
    if !path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#') {
        return Err(ReportAddressError::Path);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(ReportUrl { host, path: format!("{slash}{path}") })
}

fn decoded(text: &str) -> Result<String, ReportAddressError> {
    let text = percent_decoded(text).ok_or(ReportAddressError::Encoding)?;
    // No line of a header field begins here.
    if text.chars().any(char::is_control) { Err(ReportAddressError::Encoding) } else { Ok(text) }
}

impl ReportAddress {
    /// The word for the way to it, for metrics.
    pub const fn way(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Https(_) => "https",
        }
    }

    /// The domain that takes the reports.
    pub fn target(&self) -> &Name {
        match self {
            Self::Mail(mailbox) => &mailbox.domain,
            Self::Https(url) => &url.host,
        }
    }
}

impl ReportMailbox {
    /// The domain.
    pub fn domain(&self) -> &Name {
        &self.domain
    }
}

impl ReportUrl {
    /// The host.
    pub fn host(&self) -> &Name {
        &self.host
    }

    /// Path and query, as they stand in a request.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ReportMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

/// The URI, with all octets of a local part encoded that mean anything in a record.
impl fmt::Display for ReportAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(ReportMailbox { local_part, domain }) => {
                f.write_str("mailto:")?;
                for octet in local_part.bytes() {
                    match octet.is_ascii_alphanumeric() || b"-._~+".contains(&octet) {
                        true => f.write_char(char::from(octet))?,
                        false => write!(f, "%{octet:02X}")?,
                    }
                }
                write!(f, "@{domain}")
            }
            Self::Https(ReportUrl { host, path }) => write!(f, "https://{host}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(records: &[&str]) -> Result<Vec<String>, NoTlsrptRecord> {
        let record = TlsrptRecord::among(records)?;
        Ok(record.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn exactly_one_record() {
        // T13, O1.
        use NoTlsrptRecord::{NoAddress, None, NotAscii, Several, TooLong};
        let good = "v=TLSRPTv1;rua=mailto:r@example.org";
        let long = format!("{good};x={}", "x".repeat(MAX_RECORD));
        for (records, expected) in [
            (vec![], Err(None)),
            (vec![good], Ok(1)),
            (vec!["v=spf1 -all", good, "hello"], Ok(1)),
            (vec![good, good], Err(Several(2))),
            (vec![good, "v=TLSRPTv1; rua=ftp://example.org"], Err(Several(2))),
            (vec!["v=tlsrptv1;rua=mailto:r@example.org"], Err(None)),
            (vec!["V=TLSRPTv1;rua=mailto:r@example.org"], Err(None)),
            (vec!["v=TLSRPTv10;rua=mailto:r@example.org"], Err(None)),
            (vec!["v=TLSRPTv1 rua=mailto:r@example.org"], Err(None)),
            (vec![" v=TLSRPTv1;rua=mailto:r@example.org"], Err(None)),
            (vec!["v=TLSRPTv1"], Err(None)),
            (vec!["v=TLSRPTv1;"], Err(NoAddress)),
            (vec!["v=TLSRPTv1;rua="], Err(NoAddress)),
            (vec!["v=TLSRPTv1;RUA=mailto:r@example.org"], Err(NoAddress)),
            (vec!["v=TLSRPTv1;rua=mailto:r@example.org;x=\u{e9}"], Err(NotAscii)),
            (vec!["v=TLSRPTv1;rua=mailto:r@example.org\r\n"], Err(NotAscii)),
            (vec![long.as_str()], Err(TooLong)),
        ] {
            assert_eq!(read(&records).map(|found| found.len()), expected, "{records:?}");
        }
    }

    #[test]
    fn blanks_order_and_unknown_fields() {
        // T14, O2.
        let (r, s) = ("mailto:r@example.org", "https://example.org/in");
        for (record, expected) in [
            ("v=TLSRPTv1;rua=mailto:r@example.org", vec![r]),
            ("v=TLSRPTv1;rua=mailto:r@example.org;", vec![r]),
            ("v=TLSRPTv1 ; rua=mailto:r@example.org ; ", vec![r]),
            ("v=TLSRPTv1\t;\trua=mailto:r@example.org\t", vec![r]),
            ("v=TLSRPTv1;ext=1;rua=mailto:r@example.org", vec![r]),
            ("v=TLSRPTv1;rua=mailto:r@example.org;ext=1", vec![r]),
            ("v=TLSRPTv1;rua=mailto:r@example.org,https://example.org/in", vec![r, s]),
            ("v=TLSRPTv1;rua=mailto:r@example.org , https://example.org/in", vec![r, s]),
            ("v=TLSRPTv1;rua=mailto:r@example.org;rua=https://example.org/in", vec![r, s]),
            ("v=TLSRPTv1;rua=mailto:r@example.org,mailto:r@example.org", vec![r]),
            ("v=TLSRPTv1;rua=mailto:r@example.org!10m,https://example.org/in", vec!["mailto:r@example.org!10m", s]),
            ("v=TLSRPTv1;rua=,,mailto:r@example.org,", vec![r]),
            ("v=TLSRPTv1;rua=ftp://example.org/,mailto:r@example.org", vec![r]),
        ] {
            let found = read(&[record]);
            // A size behind "!" belongs to DMARC; here it would be a part of the domain, which has no such character.
            let expected: Vec<_> = expected.into_iter().filter(|uri| !uri.contains('!')).collect();
            assert_eq!(found.unwrap(), expected, "{record}");
        }
        let many: Vec<_> = (0..20).map(|number| format!("mailto:r{number}@example.org")).collect();
        assert_eq!(read(&[&format!("v=TLSRPTv1;rua={}", many.join(","))]).unwrap(), many[..5]);
    }

    #[test]
    fn mailboxes_and_servers() {
        // T15, T16.
        use ReportAddressError::{Encoding, Host, Path, Port, Scheme, Unusual, UserInformation};
        for (uri, expected) in [
            ("mailto:r@example.org", Ok("mailto:r@example.org")),
            ("MailTo:r@EXAMPLE.org", Ok("mailto:r@example.org")),
            ("mailto:r@example.org?subject=x", Ok("mailto:r@example.org")),
            ("mailto:tls%2Brpt@example.org", Ok("mailto:tls+rpt@example.org")),
            ("mailto:a%2Cb@example.org", Ok("mailto:%22a%2Cb%22@example.org")),
            ("mailto:%22a%20b%22@example.org", Ok("mailto:%22a%20b%22@example.org")),
            ("mailto:r@b%C3%BCcher.example.org", Ok("mailto:r@xn--bcher-kva.example.org")),
            ("mailto:%C3%BC@example.org", Err(None)),
            ("mailto:r@[192.0.2.1]", Err(Some(Unusual))),
            ("mailto:r@localhost", Err(Some(Unusual))),
            ("mailto:r", Err(None)),
            ("mailto:", Err(None)),
            ("mailto:%zz@example.org", Err(Some(Encoding))),
            ("mailto:%4", Err(Some(Encoding))),
            ("mailto:a%0d%0aBcc:b@example.org", Err(Some(Encoding))),
            ("https://example.org", Ok("https://example.org/")),
            ("https://example.org/a?b=c", Ok("https://example.org/a?b=c")),
            ("https://example.org?b", Ok("https://example.org/?b")),
            ("HTTPS://Example.org:443/a", Ok("https://example.org/a")),
            ("https://example.org:8443/", Err(Some(Port))),
            ("https://a:b@example.org/", Err(Some(UserInformation))),
            ("https://127.0.0.1/", Err(Some(Host))),
            ("https://[::1]/", Err(Some(Host))),
            ("https://localhost/", Err(Some(Host))),
            ("https://metadata.internal/", Err(Some(Host))),
            ("https:///", Err(Some(Host))),
            ("https:example.org", Err(Some(Host))),
            ("https://example.org/a#b", Err(Some(Path))),
            ("https://example.org/a b", Err(Some(Path))),
            ("http://example.org/", Err(Some(Scheme))),
            ("example.org", Err(Some(Scheme))),
        ] {
            match (ReportAddress::parse(uri), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.to_string(), expected, "{uri}"),
                (Err(found), Err(Some(expected))) => assert_eq!(found, expected, "{uri}"),
                (Err(ReportAddressError::Mailbox(_)), Err(None)) => {}
                other => panic!("{uri}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_long_address_is_of_no_use() {
        // A-112.
        let url = |octets: usize| format!("https://example.org/{}", "a".repeat(octets - 20));
        assert_eq!(ReportAddress::parse(&url(MAX_ADDRESS)).unwrap().to_string().len(), MAX_ADDRESS);
        assert_eq!(ReportAddress::parse(&url(MAX_ADDRESS + 1)), Err(ReportAddressError::TooLong));
        // Also where it grows as it is written.
        let host = format!("{}.org", ["b".repeat(60), "b".repeat(60), "b".repeat(60)].join("."));
        let longer = format!("https://{host}?{}", "a".repeat(MAX_ADDRESS - host.len() - 9));
        assert_eq!((longer.len(), ReportAddress::parse(&longer)), (MAX_ADDRESS, Err(ReportAddressError::TooLong)));
        let good = "mailto:r@example.org";
        let record = format!("v=TLSRPTv1;rua={},{good}", url(MAX_ADDRESS + 1));
        assert_eq!(read(&[&record]).unwrap(), [good]);
    }

    proptest! {
        /// The law of the fuzz target: an address that is written reads as the same.
        #[test]
        fn an_address_is_written_as_it_was_read(
            local in "[a-z\"@,;!%.\\\\ ]{1,12}", host in "[a-z.:@\\[]{1,20}", path in "[a-z/?#&;,%]{0,10}",
        ) {
            let encoded: String = local.bytes().map(|octet| format!("%{octet:02x}")).collect();
            for uri in [format!("mailto:{encoded}@{host}.org"), format!("https://{host}.org/{path}")] {
                if let Ok(address) = ReportAddress::parse(&uri) {
                    let written = address.to_string();
                    prop_assert_eq!(ReportAddress::parse(&written), Ok(address.clone()));
                    let has_delimiter = written.contains([',', ';', '!', ' ']) && matches!(address, ReportAddress::Mail(_));
                    prop_assert!(!has_delimiter, "{}", written);
                }
            }
        }
    }
}
