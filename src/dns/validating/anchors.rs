//! The trust anchors: the keys of the root from which everything is proven.
//!
//! They are built in, or in the file of `dns.trust_anchor`. They are not followed by RFC 5011: danelaw would have to keep a
//! state for years, and a root whose keys are lost or stolen would break the chain all the same. A change of the keys is
//! announced years ahead, both keys are anchors meanwhile, and for an emergency there is the file.

use std::path::Path;
use std::sync::Arc;

use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_resolver::proto::dnssec::{DigestType, PublicKeyBuf, TrustAnchors, Verifier};
use hickory_resolver::proto::rr::{LowerName, Name, RData, RecordType};
use hickory_resolver::proto::serialize::txt::trust_anchor::{self, Entry as KeyEntry};

use super::super::reply::DsSupport;
use super::super::setup::ResolverSetupError;
use super::convert::ds_support;
use super::master_file::{Entry, LineFault, entries};
use crate::operator_file::SETTINGS;

/// The keys of the root that everything is proven from. Clones share them.
#[derive(Clone)]
pub(in super::super) struct Anchors(Arc<RootAnchors>);

struct RootAnchors {
    keys: TrustAnchors,
    /// Hashes of keys, as IANA publishes them.
    hashes: Vec<DS>,
    source: AnchorSource,
}

#[derive(Debug, Clone, Copy)]
enum AnchorSource {
    BuiltIn,
    File,
}

impl Anchors {
    /// Those of the file, else IANA's.
    pub(in super::super) fn read(path: Option<&Path>) -> Result<Self, ResolverSetupError> {
        let builtin =
            || RootAnchors { keys: TrustAnchors::default(), hashes: Vec::new(), source: AnchorSource::BuiltIn };
        path.map_or_else(|| Ok(builtin()), in_file).map(|anchors| Self(Arc::new(anchors)))
    }

    /// Whether a key is one of them.
    pub(super) fn has(&self, apex: &Name, key: &DNSKEY) -> bool {
        self.0.keys.contains_with_name(key.public_key(), &LowerName::from(apex))
    }

    /// The hashes of further keys of this zone.
    pub(super) fn hashes(&self, apex: &Name) -> &[DS] {
        if apex.is_root() { &self.0.hashes } else { &[] }
    }

    /// The fault of a root that has none of these keys, and the remedy.
    pub(super) fn mismatch(&self) -> &'static str {
        match self.0.source {
            AnchorSource::BuiltIn => {
                "none of its keys is a trust anchor that is built in; if IANA has changed the keys of the root, put the \
                 new ones into a file and name it in dns.trust_anchor"
            }
            AnchorSource::File => {
                "none of its keys is in the file of dns.trust_anchor; if IANA has changed the keys of the root, add the \
                 new ones to that file and reload"
            }
        }
    }
}

fn in_file(path: &Path) -> Result<RootAnchors, ResolverSetupError> {
    let text =
        SETTINGS.text(path).map_err(|source| ResolverSetupError::Unreadable { path: path.to_owned(), source })?;
    let bad = |fault: LineFault| ResolverSetupError::BadAnchors { path: path.to_owned(), why: fault.to_string() };
    let anchors = parse(&text).map_err(bad)?;
    let none = anchors.keys.is_empty() && anchors.hashes.is_empty();
    if none { Err(ResolverSetupError::NoAnchors(path.to_owned())) } else { Ok(anchors) }
}

/// Reads the DNSKEY and DS records of the root. A key that may not sign zones or is revoked is no anchor (RFC 4034
/// §2.1.1, RFC 5011 §2.1), nor is a DS record that cannot be checked. Other records are passed over.
fn parse(text: &str) -> Result<RootAnchors, LineFault> {
    let mut anchors = RootAnchors { keys: TrustAnchors::empty(), hashes: Vec::new(), source: AnchorSource::File };
    for entry in entries(text)? {
        let fault = |why: String| LineFault::new(entry.line, why);
        let rtype: RecordType = entry.rtype.parse().map_err(|_| fault(format!("no record type: {}", entry.rtype)))?;
        let of_root = entry.owner == "." && ["IN", "CLASS1"].contains(&entry.class.as_str());
        match rtype {
            RecordType::DNSKEY => {
                let dnskey = dnskey(&entry).map_err(fault)?;
                if of_root && dnskey.zone_key() && !dnskey.revoke() {
                    let key = dnskey.key().map_err(|error| fault(error.to_string()))?;
                    anchors.keys.insert(&PublicKeyBuf::new(key.public_bytes().to_vec(), dnskey.algorithm()));
                }
            }
            RecordType::DS => {
                let ds = ds(&entry).map_err(fault)?;
                if of_root && ds_support(&ds) == DsSupport::Supported {
                    anchors.hashes.push(ds);
                }
            }
            _ => {}
        }
    }
    Ok(anchors)
}

fn dnskey(entry: &Entry) -> Result<DNSKEY, String> {
    let line = format!(". IN DNSKEY {}", plain(entry)?);
    let mut read = trust_anchor::Parser::new(line).parse().map_err(|error| error.to_string())?.into_iter();
    match read.next() {
        Some(KeyEntry::DNSKEY(record)) => Ok(record.data().clone()),
        Some(_) | None => Err("no DNSKEY record".to_owned()),
    }
}

fn ds(entry: &Entry) -> Result<DS, String> {
    let data = RData::try_from_str(RecordType::DS, &plain(entry)?).map_err(|error| error.to_string())?;
    match data {
        RData::DNSSEC(DNSSECRData::DS(ds)) if has_right_length(&ds) => Ok(ds),
        _ => Err("the digest has another length than its type".to_owned()),
    }
}

fn has_right_length(ds: &DS) -> bool {
    match ds.digest_type() {
        DigestType::SHA1 => ds.digest().len() == 20,
        DigestType::SHA256 => ds.digest().len() == 32,
        DigestType::SHA384 => ds.digest().len() == 48,
        _ => true,
    }
}

/// The data on one line. The library reads it once more, so it has the characters of numbers, base 64 and hex alone.
fn plain(entry: &Entry) -> Result<String, String> {
    let data = entry.rdata.join(" ");
    let foreign = data.chars().find(|c| !(c.is_ascii_alphanumeric() || "+/= ".contains(*c)));
    foreign.map_or(Ok(data), |c| Err(format!("{c:?} does not belong into a {} record", entry.rtype)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IANA's KSK-2017 (root-anchors.xml).
    const KEY: &str = "\
        AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlN\
        Vz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+\
        sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555\
        KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";
    const DIGEST: &str = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

    fn counts(text: &str) -> Result<(usize, usize), String> {
        parse(text).map(|found| (found.keys.len(), found.hashes.len())).map_err(|fault| fault.to_string())
    }

    #[test]
    fn anchors_are_read_from_every_form_of_master_file() {
        let (head, tail) = KEY.split_at(60);
        let ds = |digest: &str| format!(". IN DS 20326 8 2 {digest}\n");
        for (text, expected) in [
            (String::new(), (0, 0)),
            (format!(". IN DNSKEY 257 3 8 {KEY}"), (1, 0)),
            (format!(". 172800 IN DNSKEY 257 3 8 {head} {tail} ; KSK; alg = RSASHA256\n"), (1, 0)),
            (format!("$TTL 1d\n$ORIGIN .\n@ dnskey ( 257 3 8 ; KSK\n  {head}\n  {tail} )\n"), (1, 0)),
            (format!(".\tin dnskey 257 3 8 \"{head}\n{tail}\"\n"), (1, 0)),
            (ds(DIGEST), (0, 1)),
            (ds(&DIGEST.to_lowercase()), (0, 1)),
            (ds(&format!("( {}\n {} )", &DIGEST[..8], &DIGEST[8..])), (0, 1)),
            (format!("{}. DNSKEY 257 3 8 {KEY}\n", ds(DIGEST)), (1, 1)),
            // No anchors: of another zone or class, revoked, no zone key, of a digest that is not known.
            (format!("test. DNSKEY 257 3 8 {KEY}\n$ORIGIN test.\n@ DS 1 8 2 {DIGEST}\n"), (0, 0)),
            (format!(". CH DNSKEY 257 3 8 {KEY}"), (0, 0)),
            (format!(". DNSKEY 385 3 8 {KEY}\n. DNSKEY 1 3 8 {KEY}"), (0, 0)),
            (format!(". DS 20326 8 3 {DIGEST}"), (0, 0)),
            (". 60 IN RRSIG DNSKEY 8 0 172800 20300101000000 20200101000000 20326 . AAAA\n".to_owned(), (0, 0)),
        ] {
            assert_eq!(counts(&text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn faults_of_anchors_name_the_line() {
        for (text, expected) in [
            ("\nwhat is this\n", "line 2: no record type: IS"),
            (";\n. DNSKEY 257 3 8 Aw;EA\n", "line 2: "),
            (". DNSKEY 257 3 8 Aw@EA\n", "line 1: '@' does not belong into a DNSKEY record"),
            (". DNSKEY 257 3\n", "line 1: algorithm not present"),
            (". DS 20326 8 2 E06D\n", "line 1: the digest has another length than its type"),
            (". DS 20326 8 2 XYZ1\n", "line 1: "),
        ] {
            let fault = counts(text).unwrap_err();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }
}
