//! The certificates of real servers: how MX hosts get them, and the TLSA records that match them.

use std::sync::LazyLock;

use rcgen::{CertificateParams, SanType};
use rustls::pki_types::PrivateKeyDer;
use time::{Duration, OffsetDateTime};

use crate::certs::{Authority, Identity, pem};

/// The CA that danelaw trusts for mail servers and policy hosts.
static PUBLIC_CA: LazyLock<Authority> = LazyLock::new(|| Authority::named("Public CA of the lab"));

impl Identity {
    /// A certificate for these names from the CA that danelaw trusts.
    pub(crate) fn public(names: &[&str]) -> Self {
        Self::by_public_ca(names, |_| {})
    }

    /// One that ended yesterday.
    pub(crate) fn public_expired(name: &str) -> Self {
        let yesterday = OffsetDateTime::now_utc() - Duration::days(1);
        Self::by_public_ca(&[name], |params| {
            (params.not_before, params.not_after) = (yesterday - Duration::days(90), yesterday);
        })
    }

    fn by_public_ca(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (first, others) = names.split_first().expect("a certificate has a name");
        PUBLIC_CA.issue_with(first, |params| {
            let others = others.iter().map(|name| SanType::DnsName((*name).try_into().expect("a DNS name")));
            params.subject_alt_names.extend(others);
            change(params);
        })
    }

    /// The RDATA of the TLSA record that this identity satisfies, with the digits of the log. It pins the CA where the chain has
    /// one.
    pub(crate) fn tlsa(&self) -> String {
        self.record(if self.chain.len() > 1 { "2 1 1" } else { "3 1 1" }).to_uppercase()
    }

    /// Key and chain in one file, as Postfix reads them.
    pub(crate) fn key_and_chain(&self) -> String {
        let [chain, key] = self.pem();
        key + &chain
    }

    /// The certificate at the top of the chain, for a client that is to trust it.
    pub(crate) fn top_pem(&self) -> String {
        self.chain.last().map(|certificate| pem("CERTIFICATE", certificate)).unwrap_or_default()
    }
}

/// The CA that danelaw trusts for mail servers and policy hosts, as PEM.
pub(crate) fn public_ca() -> String {
    pem("CERTIFICATE", &PUBLIC_CA.certificate)
}

/// A private key that belongs to no certificate.
pub(crate) fn stray_key() -> PrivateKeyDer<'static> {
    Identity::for_name("stray.test").private_key()
}
