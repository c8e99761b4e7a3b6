//! The DKIM signature of a report (RFC 6376, RFC 8301, RFC 8463): relaxed canonicalisation, and no `l=` (RFC 8460 §3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::mime::{MailField, ReportMail};
use crate::name::Name;

/// The fields that are signed. Each is named once more than it is there, so that a second one breaks the signature.
const SIGNED: [&str; 10] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
    "TLS-Required",
];
/// Octets of a line of the signature.
const LINE: usize = 72;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "PascalCase")]
pub enum DkimAlgorithm {
    /// rsa-sha256, which every receiver can check.
    #[strum(serialize = "RSA")]
    Rsa,
    /// ed25519-sha256 (RFC 8463), which many receivers cannot check.
    Ed25519,
}

impl DkimAlgorithm {
    /// The one that this one is not.
    pub fn other(self) -> Self {
        match self {
            Self::Rsa => Self::Ed25519,
            Self::Ed25519 => Self::Rsa,
        }
    }

    /// The value of `k=` in the record of the key.
    pub fn key_type(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// Where the public key is: `<selector>._domainkey.<domain>`, and how it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimIdentity {
    /// The domain.
    pub domain: Name,
    /// The selector.
    pub selector: String,
    /// The algorithm.
    pub algorithm: DkimAlgorithm,
}

/// The signature field for a mail. `sign` makes a signature of octets by the algorithm of the identity.
///
/// # Errors
/// Those of `sign`.
pub fn signature<E>(
    mail: &ReportMail,
    identity: &DkimIdentity,
    now: OffsetDateTime,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<MailField, E> {
    let DkimIdentity { domain, selector, algorithm } = identity;
    let key_type = algorithm.key_type();
    let body = STANDARD.encode(Sha256::digest(relaxed_body(&mail.body)));
    let names: Vec<String> = SIGNED.iter().map(|name| format!("{name}:{name}")).collect();
    let value = format!(
        "v=1; a={key_type}-sha256; c=relaxed/relaxed; d={domain};\r\n s={selector}; t={};\r\n h={};\r\n bh={body};\r\n b=",
        now.unix_timestamp(),
        names.join(":\r\n "),
    );
    let mut octets = String::new();
    for name in SIGNED {
        // The second one is not there and adds nothing (RFC 6376 §5.4.2).
        let field = mail.fields.iter().find(|field| field.name == name);
        octets.extend(field.map(|field| format!("{}\r\n", relaxed_field(field))));
    }
    let unsigned = MailField { name: "DKIM-Signature", value };
    octets.push_str(&relaxed_field(&unsigned));
    let signature = STANDARD.encode(sign(octets.as_bytes())?);
    let folded = signature.as_bytes().chunks(LINE).map(|line| String::from_utf8_lossy(line).into_owned());
    let value = unsigned.value + &folded.collect::<Vec<_>>().join("\r\n ");
    Ok(MailField { value, ..unsigned })
}

/// Whether the TXT records at the selector are one record with this public key, for mail (RFC 6376 §3.6.1): by the service type
/// `tlsrpt` alone a receiver does not verify the signature of a mail, and DMARC fails. Receivers take one of several records, and
/// nothing says which (§3.6.2.2).
pub fn has_key(records: &[&[u8]], public: &str, algorithm: DkimAlgorithm) -> bool {
    let [record] = records else { return false };
    let text = String::from_utf8_lossy(record);
    let tag = |wanted: &str| {
        let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
        tags.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim())
    };
    let lists = |tag: &str, wanted: &[&str]| tag.split(':').any(|word| wanted.contains(&word.trim()));
    tag("p").is_some_and(|key| key.split_ascii_whitespace().collect::<String>() == public)
        && tag("v").is_none_or(|version| version == "DKIM1")
        && tag("k").unwrap_or("rsa") == algorithm.key_type()
        && tag("h").is_none_or(|digests| lists(digests, &["sha256"]))
        && tag("s").is_none_or(|services| lists(services, &["*", "email"]))
}

/// RFC 6376 §3.4.2, without a line end.
fn relaxed_field(field: &MailField) -> String {
    let words: Vec<&str> = field.value.split_ascii_whitespace().collect();
    format!("{}:{}", field.name.to_ascii_lowercase(), words.join(" "))
}

/// RFC 6376 §3.4.4.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::with_capacity(body.len());
    for line in body.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut blank = false;
        for octet in line.trim_ascii_end() {
            match octet {
                b' ' | b'\t' => blank = true,
                _ => {
                    if std::mem::take(&mut blank) {
                        relaxed.push(b' ');
                    }
                    relaxed.push(*octet);
                }
            }
        }
        relaxed.extend_from_slice(b"\r\n");
    }
    while relaxed.ends_with(b"\r\n\r\n") {
        relaxed.truncate(relaxed.len() - 2);
    }
    if relaxed == b"\r\n" { Vec::new() } else { relaxed }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::name;
    use super::super::mime::tests::mail;
    use super::*;

    #[test]
    fn the_body_is_relaxed_as_the_rfc_says() {
        for (body, expected) in [
            // RFC 6376 §3.4.5.
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("", ""),
            ("\r\n\r\n", ""),
            ("a", "a\r\n"),
            (" \t\r\nb\r\n", "\r\nb\r\n"),
        ] {
            assert_eq!(String::from_utf8(relaxed_body(body.as_bytes())).unwrap(), expected, "{body:?}");
        }
        let field = MailField { name: "B", value: " Y\t\r\n\tZ  ".to_owned() };
        assert_eq!(relaxed_field(&field), "b:Y Z");
    }

    #[test]
    fn each_field_is_signed_and_one_more() {
        let algorithm = DkimAlgorithm::Rsa;
        let identity = DkimIdentity { domain: name("sender.example"), selector: "tlsrpt".to_owned(), algorithm };
        let mut octets = Vec::new();
        let signed = signature(&mail(), &identity, OffsetDateTime::UNIX_EPOCH, |given| {
            octets = given.to_vec();
            Ok::<_, ()>(vec![0xff; 256])
        });
        let MailField { name, value } = signed.unwrap();
        let octets = String::from_utf8(octets).unwrap();
        assert_eq!(name, "DKIM-Signature");
        assert!(value.contains("h=From:From:\r\n To:To:") && !value.contains(" l="), "{value}");
        assert!(
            octets.starts_with("from:<tls@sender.example>\r\nto:<r@example.org>\r\nsubject:Report Domain: "),
            "{octets}"
        );
        assert!(
            octets.contains("\r\ntls-required:No\r\ndkim-signature:v=1; a=rsa-sha256;") && octets.ends_with("; b=")
        );
        assert!(value.lines().all(|line| line.len() < 100));
    }

    #[test]
    fn the_published_key_is_compared() {
        for (record, is_ours) in [
            ("v=DKIM1; k=rsa; s=email:tlsrpt; p=AbC=", true),
            ("v=DKIM1;p= Ab C= ;t=s", true),
            ("v=DKIM1; s=*; p=AbC=", true),
            ("v=DKIM1; s= tlsrpt : email ; p=AbC=", true),
            ("v=DKIM1; s=tlsrpt; p=AbC=", false),
            ("v=DKIM1; p=", false),
            ("v=DKIM1; p=abc=", false),
            ("v=DKIM1; k=rsa", false),
            ("v=DKIM2; p=AbC=", false),
            ("v=DKIM1; k=ed25519; p=AbC=", false),
            ("v=DKIM1; h=sha1; p=AbC=", false),
            ("v=DKIM1; h=sha1:sha256; p=AbC=", true),
        ] {
            assert_eq!(has_key(&[record.as_bytes()], "AbC=", DkimAlgorithm::Rsa), is_ours, "{record}");
        }
        let record = b"v=DKIM1; p=AbC=".as_slice();
        assert!(!has_key(&[], "AbC=", DkimAlgorithm::Rsa) && !has_key(&[record, record], "AbC=", DkimAlgorithm::Rsa));
        // Without k= it is a key of RSA.
        assert!(!has_key(&[record], "AbC=", DkimAlgorithm::Ed25519));
        assert!(has_key(&[b"v=DKIM1; k=ed25519; p=AbC="], "AbC=", DkimAlgorithm::Ed25519));
    }
}
