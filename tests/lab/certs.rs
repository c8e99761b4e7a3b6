//! Certificates that a test makes for itself.

use std::sync::Arc;

use base64::Engine as _;
use danelaw::roots::Roots;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256, Sha512};
use tokio_rustls::TlsAcceptor;

/// A server's key and the chain it presents.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
}

impl Identity {
    /// A self-signed certificate for one name.
    pub(crate) fn for_name(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name).self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    /// A certificate for one name under a CA of its own, with the CA's in the chain.
    pub(crate) fn under_ca(name: &str) -> Self {
        let ca = Authority::named("lab CA");
        let mut identity = ca.issue(name);
        identity.chain.push(ca.certificate);
        identity
    }

    /// A public CA of the lab, which issues certificates.
    pub(crate) fn authority() -> Authority {
        // Each has a name of its own: one of the same name as a CA that is known would be taken for it.
        Authority::named(&format!("Lab Root {}", fastrand::u64(..)))
    }

    /// The same chain with a key that does not belong to it.
    pub(crate) fn with_wrong_key(self) -> Self {
        Self { key: KeyPair::generate().unwrap().serialize_der(), ..self }
    }

    /// The chain and the key, in PEM.
    pub(crate) fn pem(&self) -> [String; 2] {
        let chain = self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        [chain, pem("PRIVATE KEY", &self.key)]
    }

    /// The private key.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// A TLS server with this key and chain.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.private_key())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// A TLSA record that matches: usage 3 the first certificate, usage 2 the last; `form` is like `3 1 1`.
    pub(crate) fn record(&self, form: &str) -> String {
        let der = if form.starts_with('2') { self.chain.last() } else { self.chain.first() }.unwrap();
        let selected = match &form[2..3] {
            "0" => der.to_vec(),
            _ => spki(der),
        };
        let data = match &form[4..5] {
            "0" => selected,
            "1" => Sha256::digest(&selected).to_vec(),
            _ => Sha512::digest(&selected).to_vec(),
        };
        let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{form} {hex}")
    }
}

/// A public CA of the lab.
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A CA of this common name.
    pub(crate) fn named(common_name: &str) -> Self {
        let (key, mut ca) = (KeyPair::generate().unwrap(), params("lab.ca"));
        ca.distinguished_name.push(DnType::CommonName, common_name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = ca.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(ca, key) }
    }

    /// The authorities of a danelaw that trusts this CA alone.
    pub(crate) fn roots(&self) -> Roots {
        Roots::of(vec![self.certificate.clone()])
    }

    /// A server's key and its certificate for one name.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    /// One that has expired.
    pub(crate) fn issue_expired(&self, name: &str) -> Identity {
        self.issue_with(name, |parameters| parameters.not_after = rcgen::date_time_ymd(2021, 1, 1))
    }

    /// One with a change.
    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (key, mut parameters) = (KeyPair::generate().unwrap(), params(name));
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }
}

/// Octets in PEM (RFC 7468 §3).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

fn spki(der: &[u8]) -> Vec<u8> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    certificate.tbs_certificate.subject_pki.raw.to_vec()
}
