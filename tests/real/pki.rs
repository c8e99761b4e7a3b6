//! Certificates of MX hosts, and the TLSA records that match them.

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A key, the chain that its owner sends, and the TLSA record that its owner publishes.
pub(crate) struct Identity {
    key: KeyPair,
    chain: Vec<rcgen::Certificate>,
    tlsa: String,
}

impl Identity {
    /// A self-signed certificate for `name`, pinned by `3 1 1`.
    pub(crate) fn self_signed(name: &str) -> Self {
        let key = generate();
        let certificate = leaf(name).self_signed(&key).expect("valid parameters");
        Self { tlsa: record(3, &key), chain: vec![certificate], key }
    }

    /// A certificate for `name` from a CA of its own, which is sent along and pinned by `2 1 1`.
    pub(crate) fn from_ca(name: &str) -> Self {
        let ca_key = generate();
        let ca_params = ca();
        let ca_certificate = ca_params.self_signed(&ca_key).expect("valid parameters");
        let tlsa = record(2, &ca_key);
        let key = generate();
        let certificate = leaf(name).signed_by(&key, &Issuer::new(ca_params, ca_key)).expect("valid parameters");
        Self { key, chain: vec![certificate, ca_certificate], tlsa }
    }

    /// A certificate for these names from the lab's public CA ([`public_ca`]), pinned by `3 1 1`.
    pub(crate) fn public(names: &[&str]) -> Self {
        Self::by_public_ca(leaf_for(names))
    }

    /// One that ended yesterday.
    pub(crate) fn public_expired(name: &str) -> Self {
        let yesterday = OffsetDateTime::now_utc() - Duration::days(1);
        let mut params = leaf(name);
        (params.not_before, params.not_after) = (yesterday - Duration::days(90), yesterday);
        Self::by_public_ca(params)
    }

    fn by_public_ca(params: CertificateParams) -> Self {
        let key = generate();
        let certificate = params.signed_by(&key, &PUBLIC_CA.issuer).expect("valid parameters");
        Self { tlsa: record(3, &key), chain: vec![certificate], key }
    }

    /// The RDATA of the TLSA record that this identity satisfies.
    pub(crate) fn tlsa(&self) -> &str {
        &self.tlsa
    }

    /// Key and chain in one file, as Postfix reads them.
    pub(crate) fn pem(&self) -> String {
        let certificates: String = self.chain.iter().map(rcgen::Certificate::pem).collect();
        self.key.serialize_pem() + &certificates
    }

    /// The certificate at the top of the chain, for a client that is to trust it.
    pub(crate) fn top_pem(&self) -> String {
        self.chain.last().map(rcgen::Certificate::pem).unwrap_or_default()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der().clone()).collect()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

/// The CA that danelaw trusts for mail servers and policy hosts, as PEM.
pub(crate) fn public_ca() -> &'static str {
    &PUBLIC_CA.pem
}

static PUBLIC_CA: LazyLock<PublicCa> = LazyLock::new(|| {
    let (params, key) = (ca(), generate());
    let pem = params.self_signed(&key).expect("valid parameters").pem();
    PublicCa { issuer: Issuer::new(params, key), pem }
});

struct PublicCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A private key that belongs to no certificate.
pub(crate) fn stray_key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(generate().serialize_der().into())
}

fn generate() -> KeyPair {
    KeyPair::generate().expect("ECDSA P-256 is always there")
}

fn leaf(name: &str) -> CertificateParams {
    leaf_for(&[name])
}

fn leaf_for(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("DNS names")
}

fn ca() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "CA of the lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// `USAGE 1 1`: the SHA-256 digest of the public key.
fn record(usage: u8, key: &KeyPair) -> String {
    let digest: String =
        Sha256::digest(key.subject_public_key_info()).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{usage} 1 1 {digest}")
}
