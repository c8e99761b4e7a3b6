//! The keys that sign reports by mail, and the records in which receivers look for them.

use time::OffsetDateTime;

use super::key::DkimKey;
use crate::dns::Resolver;
use crate::name::Name;
use crate::tlsrpt::dkim::{self, DkimAlgorithm, DkimIdentity};
use crate::tlsrpt::mime::{MailField, ReportMail};

/// A key and the place of its record.
#[derive(Debug)]
pub struct Signer {
    identity: DkimIdentity,
    key: DkimKey,
}

/// Why the receivers of mails could not verify their signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unverifiable {
    /// The name of the record.
    pub(super) record: String,
    /// The record as it must be.
    pub(super) publish: String,
    /// The reason.
    pub(super) why: KeyNotFound,
}

/// Why a key is not found in the DNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyNotFound {
    #[error("the record of their signature could not be looked up: {0}")]
    Lookup(String),
    #[error("no TXT record has the key of {0}, or there is another one beside it")]
    NoKey(&'static str),
}

impl Signer {
    /// The key of this domain under this selector.
    pub fn new(domain: Name, selector: &str, key: DkimKey) -> Self {
        let identity = DkimIdentity { domain, selector: selector.to_owned(), algorithm: key.algorithm() };
        Self { identity, key }
    }

    fn owner(&self) -> String {
        format!("{}._domainkey.{}", self.identity.selector, self.identity.domain)
    }

    /// Why its receivers could not verify it now.
    async fn unverifiable(&self, dns: &impl Resolver) -> Option<Unverifiable> {
        let found = match Name::parse(&self.owner()) {
            Ok(owner) => dns.txt(&owner).await.map_err(|failure| failure.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let setting = match self.key.algorithm() {
            DkimAlgorithm::Rsa => "tlsrpt.dkim_key",
            DkimAlgorithm::Ed25519 => "tlsrpt.dkim_ed25519_key",
        };
        let why = match found {
            Err(why) => KeyNotFound::Lookup(why),
            Ok(found) => {
                let records: Vec<_> = found.answer.records().iter().map(|record| record.0.as_slice()).collect();
                if dkim::has_key(&records, self.key.public(), self.key.algorithm()) {
                    return None;
                }
                KeyNotFound::NoKey(setting)
            }
        };
        Some(self.not_found(why))
    }

    fn not_found(&self, why: KeyNotFound) -> Unverifiable {
        Unverifiable { record: self.owner(), publish: self.key.record(), why }
    }

    fn signature(&self, mail: &ReportMail, now: OffsetDateTime) -> Result<MailField, String> {
        let signature = dkim::signature(mail, &self.identity, now, |octets| self.key.sign(octets));
        signature.map_err(|error| error.to_string())
    }
}

/// Why receivers could not verify mails now: they do not find the first key, without which no mail goes.
pub(super) async fn unverifiable(signers: &[Signer], dns: &impl Resolver) -> Option<Unverifiable> {
    signers.first()?.unverifiable(dns).await
}

/// The keys beside the first one that receivers could not find now.
pub(super) async fn left_out(signers: &[Signer], dns: &impl Resolver) -> Vec<Unverifiable> {
    let mut left_out = Vec::new();
    for signer in signers.iter().skip(1) {
        left_out.extend(signer.unverifiable(dns).await);
    }
    left_out
}

/// The signatures of a mail: one by the first key, and one by each other key that receivers find. A signature without a published
/// key makes a mail look forged.
pub(super) async fn signatures(
    signers: &[Signer],
    mail: &ReportMail,
    now: OffsetDateTime,
    dns: &impl Resolver,
) -> Result<Vec<MailField>, String> {
    let mut signatures = Vec::new();
    for (place, signer) in signers.iter().enumerate() {
        if place == 0 || signer.unverifiable(dns).await.is_none() {
            signatures.push(signer.signature(mail, now)?);
        }
    }
    Ok(signatures)
}
