//! Live handshakes: what a server must prove, over TLS 1.2 and TLS 1.3, before anybody says "verified".

mod certificates;

use std::sync::Arc;

use certificates::{Spec, key, tlsa};
use danelaw::dane::mismatch::Mismatch;
use danelaw::dane::tlsa::{NoDane, Usable};
use danelaw::dane::verify::{Expectation, References};
use danelaw::name::Name;
use danelaw::policy::TlsPolicy;
use danelaw::tls::{Authentication, Protection, Tls, TlsFailure};
use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The policy of a host with these TLSA records, under `mx.example.com`.
fn dane(records: &[String]) -> TlsPolicy {
    TlsPolicy::Dane(expectation(records))
}

fn expectation(records: &[String]) -> Expectation {
    let records = records.iter().map(|record| record.parse().unwrap()).collect();
    Expectation {
        usable: Usable::new(name("mx.example.com"), records).unwrap(),
        references: References::new(name("mx.example.com"), [name("example.com")]),
    }
}

fn encrypt() -> TlsPolicy {
    TlsPolicy::Encrypt(name("mx.example.com"), NoDane::NoTlsa)
}

/// Shows any chain with any key, as a server that lies would.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server(
    version: &'static SupportedProtocolVersion,
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
) -> ServerConfig {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(chain.to_vec(), key)))))
}

/// A handshake, and an octet each way if it succeeds.
async fn shake(server: ServerConfig, policy: &TlsPolicy) -> Result<Protection, TlsFailure> {
    let (ours, theirs) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(theirs).await?;
        let octet = stream.read_u8().await?;
        stream.write_u8(octet + 1).await?;
        stream.flush().await
    });
    let mut secured = Tls::new().unwrap().handshake(ours, policy).await?;
    secured.stream.write_u8(1).await.unwrap();
    secured.stream.flush().await.unwrap();
    assert_eq!(secured.stream.read_u8().await.unwrap(), 2);
    server.await.unwrap().unwrap();
    Ok(secured.protection)
}

/// E6, F1, F2, F3: a record for the server's own certificate or key is all it takes, whatever the certificate says.
#[tokio::test]
async fn dane_ee_looks_at_nothing_but_the_key() {
    let (own, ca) = (key(), key());
    let odd = [
        ("a good one", Spec::default()),
        ("expired", Spec { not_after: "20210101000000Z", ..Spec::default() }),
        ("not yet valid", Spec { not_before: "20490101000000Z", ..Spec::default() }),
        ("another name", Spec { extensions: vec![certificates::dns_names(&["evil.example"])], ..Spec::default() }),
        ("no name", Spec { subject: certificates::dn(&[]), extensions: vec![], ..Spec::default() }),
        ("an authority", Spec::authority("A mail server", "Root")),
        ("v1", Spec { version: vec![], extensions: vec![], ..Spec::default() }),
        ("critical extension", Spec { extensions: vec![certificates::unknown_critical()], ..Spec::default() }),
        ("broken extension", Spec { extensions: vec![certificates::plain(17, &[0xff])], ..Spec::default() }),
        ("doubled extension", Spec { extensions: vec![certificates::authority(); 2], ..Spec::default() }),
        (
            "clientAuth",
            Spec { extensions: vec![certificates::purposes(&[certificates::CLIENT_AUTH])], ..Spec::default() },
        ),
        ("no key usage", Spec { extensions: vec![certificates::key_usage(0x40)], ..Spec::default() }),
    ];
    for (what, spec) in odd {
        let certificate = spec.issue(&own, &ca);
        for version in BOTH {
            for numbers in ["3 0 0", "3 0 1", "3 0 2", "3 1 0", "3 1 1", "3 1 2"] {
                let record = tlsa(numbers, &certificate, &own.subject_public_key_info());
                let chain = [certificate.clone()];
                let protection = shake(server(version, &chain, &own), &dane(&[record.clone()])).await;
                let protection = protection.unwrap_or_else(|why| panic!("{what} {numbers} {version:?}: {why}"));
                let Authentication::Verified(matched) = protection.authentication() else { panic!("{protection:?}") };
                assert_eq!((matched.record.to_string(), matched.depth), (record, 0), "{what}");
                assert_eq!(protection.label(), "Verified");
            }
        }
    }
}
