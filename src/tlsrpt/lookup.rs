//! The lookup of the record that asks for TLS reports (RFC 8460 §3).

use super::record::{NoTlsrptRecord, TlsrptRecord};
use crate::dns::{Failure, FailureReason, RawTxt, Resolver, Rtype};
use crate::name::Name;

/// Why there is no record for a domain.
#[derive(Debug, thiserror::Error)]
pub enum RecordLookupError {
    /// The lookup failed.
    #[error("{0}")]
    Dns(#[from] Failure),
    /// No record, or none that is of use.
    #[error("{0}")]
    Record(#[from] NoTlsrptRecord),
}

/// The TLSRPT record of a domain. An insecure answer is as good as a secure one: RFC 8460 asks for no DNSSEC.
///
/// # Errors
/// The lookup failed, or the domain asks for no reports.
pub async fn record_of(dns: &impl Resolver, domain: &Name) -> Result<TlsrptRecord, RecordLookupError> {
    let owner = Name::parse(&format!("_smtp._tls.{domain}")).map_err(|_| Failure {
        name: domain.clone(),
        rtype: Rtype::TXT,
        reason: FailureReason::NameTooLong,
    })?;
    let found = dns.txt(&owner).await?;
    let texts: Vec<&[u8]> = found.answer.records().iter().map(|RawTxt(octets)| octets.as_slice()).collect();
    Ok(TlsrptRecord::among(&texts)?)
}
