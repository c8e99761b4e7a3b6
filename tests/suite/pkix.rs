//! Live handshakes with hosts that public CAs vouch for, or do not: MTA-STS (RFC 8461 §4.2), the level `verify`, and the worth of
//! a certificate that the policy does not ask for.

use crate::certificates::{self, Spec, key, tlsa};
use crate::tls::{chain, server, shake_with};
use danelaw::dane::pkix::PkixWorth;
use danelaw::dane::tlsa::NoDane;
use danelaw::name::Name;
use danelaw::policy::{NamedBy, Permit, TlsPolicy};
use danelaw::roots::Roots;
use danelaw::tls::{Authentication, PostQuantum, Tls};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;
use tokio_rustls::LazyConfigAcceptor;

const EXPIRED: &str = "20210101000000Z";
const FUTURE: &str = "20490101000000Z";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn client(roots: &[CertificateDer<'static>]) -> Tls {
    Tls::new(PostQuantum::Offer).unwrap().with_roots(Roots::of(roots.to_vec()))
}

fn sts() -> TlsPolicy {
    TlsPolicy::Sts(name("mx.example.com"))
}

fn encrypt() -> TlsPolicy {
    TlsPolicy::Encrypt(name("mx.example.com"), NoDane::NoTlsa)
}

/// A server: what it is, its chain and key, the authorities, the worth of the certificate and the reason against it.
struct Row {
    what: &'static str,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    roots: Vec<CertificateDer<'static>>,
    worth: PkixWorth,
    reason: Option<&'static str>,
}

impl Row {
    /// A server's certificate under an intermediate authority under a root that is known.
    fn under_root(what: &'static str, leaf: Spec, worth: PkixWorth) -> Self {
        let (chain, [key, ..]) = chain(leaf);
        let roots = vec![chain[2].clone()];
        // The server need not send the root.
        let chain = chain[..2].to_vec();
        Self { what, chain, key, roots, worth, reason: worth.refusal().map(|label| label.as_str()) }
    }
}

fn for_names(names: &[&str]) -> Spec {
    Spec { extensions: vec![certificates::dns_names(names)], ..Spec::default() }
}

fn with(extension: Vec<u8>) -> Spec {
    let names = certificates::dns_names(&["mx.example.com"]);
    Spec { extensions: vec![names, extension], ..Spec::default() }
}

/// The servers of the table.
fn rows() -> Vec<Row> {
    use PkixWorth::{Expired, Invalid, NotYetValid, OtherName, SelfSigned, UnknownAuthority, Valid};
    let none = || Spec { extensions: vec![], ..Spec::default() };
    let mut rows = vec![
        Row::under_root("good", Spec::default(), Valid),
        Row::under_root("serverAuth", with(certificates::purposes(&[certificates::SERVER_AUTH])), Valid),
        Row::under_root("expired", Spec { not_after: EXPIRED, ..Spec::default() }, Expired),
        Row::under_root("future", Spec { not_before: FUTURE, ..Spec::default() }, NotYetValid),
        Row::under_root("clientAuth", with(certificates::purposes(&[certificates::CLIENT_AUTH])), Invalid),
        Row::under_root("critical extension", with(certificates::unknown_critical()), Invalid),
        Row::under_root("v1", Spec { version: vec![], ..none() }, Invalid),
        Row::under_root("an authority", with(certificates::authority()), Invalid),
        Row::under_root("wildcard", for_names(&["*.example.com"]), Valid),
        Row::under_root("upper case", for_names(&["MX.EXAMPLE.COM"]), Valid),
        Row::under_root("another name", for_names(&["www.example.com"]), OtherName),
        Row::under_root("the domain alone", for_names(&["example.com"]), OtherName),
        Row::under_root("half a wildcard", for_names(&["m*.example.com"]), OtherName),
        Row::under_root(
            "a common name alone",
            Spec { subject: certificates::cn("mx.example.com"), ..none() },
            OtherName,
        ),
    ];
    let more = |row: Row, change: fn(&mut Row)| {
        let mut row = row;
        change(&mut row);
        row
    };
    rows.push(more(Row::under_root("no intermediate", Spec::default(), UnknownAuthority), |row| row.chain.truncate(1)));
    rows.push(more(Row::under_root("another root", Spec::default(), UnknownAuthority), |row| {
        row.roots = vec![Spec::authority("Other", "Other").issue(&key(), &key())];
    }));
    rows.push(more(Row::under_root("no roots", Spec::default(), UnknownAuthority), |row| row.roots.clear()));
    let own = key();
    let itself = Spec { issuer: certificates::cn("Own"), subject: certificates::cn("Own"), ..Spec::default() };
    let chain = vec![itself.issue(&own, &own)];
    let reason = SelfSigned.refusal().map(|label| label.as_str());
    rows.push(Row { what: "self-signed", chain, key: own, roots: vec![], worth: SelfSigned, reason });
    rows
}

#[tokio::test]
async fn p13_what_a_public_ca_must_vouch_for() {
    // P13: the same chain is refused where a CA is asked for, and noted where none is.
    for row in rows() {
        let Row { what, chain, key, roots, worth, reason } = &row;
        for version in [&TLS12, &TLS13] {
            let tls = client(roots);
            let asked = shake_with(&tls, server(version, chain, key), &sts()).await;
            match (asked, reason) {
                (Ok(protection), None) => {
                    assert_eq!(protection.word().as_str(), "verified", "{what}");
                    assert_eq!(protection.verified_by().map(|by| by.as_str()), Some("mta-sts"));
                    assert!(
                        protection.to_string().ends_with("verified by the CA \"Root\" for its name"),
                        "{protection}"
                    );
                }
                (Err(why), Some(reason)) => assert_eq!(why.label(), *reason, "{what}: {why}"),
                (asked, _) => panic!("{what}: {asked:?}"),
            }
            let noted = shake_with(&tls, server(version, chain, key), &encrypt()).await.unwrap();
            assert_eq!(noted.authentication(), &Authentication::Unverified(NoDane::NoTlsa, *worth), "{what}");
            assert_eq!((noted.word().as_str(), noted.verified_by()), ("encrypted", None));
        }
    }
}

#[tokio::test]
async fn p13_the_refusal_names_the_authority_that_is_missing() {
    // P13.
    for row in rows() {
        let said = match row.what {
            "another root" | "no roots" => "the certificate chain ends at \"Root\", which is not among",
            "no intermediate" => "the certificate chain ends at \"Inter\", which is not among",
            "self-signed" => "the server's certificate \"Own\" is self-signed",
            "an authority" => "the server's certificate is that of an authority",
            "clientAuth" => "an extended key usage without serverAuth",
            "v1" => "a certificate has not version 3",
            "expired" => "the server's certificate has expired",
            "another name" => "the certificate is for www.example.com and not for mx.example.com",
            _ => continue,
        };
        let why = shake_with(&client(&row.roots), server(&TLS13, &row.chain, &row.key), &sts()).await.unwrap_err();
        assert!(why.to_string().contains(said), "{}: {why}", row.what);
    }
    // An intermediate authority that has expired is named.
    let keys = [key(), key(), key()];
    let inter = Spec { not_after: EXPIRED, ..Spec::authority("Inter", "Root") };
    let chain = [
        Spec { issuer: certificates::cn("Inter"), ..Spec::default() }.issue(&keys[0], &keys[1]),
        inter.issue(&keys[1], &keys[2]),
    ];
    let root = Spec::authority("Root", "Root").issue(&keys[2], &keys[2]);
    let why = shake_with(&client(&[root]), server(&TLS13, &chain, &keys[0]), &sts()).await.unwrap_err();
    assert!(why.to_string().contains("the authority certificate \"Inter\" has expired"), "{why}");
}

#[tokio::test]
async fn p13_a_copy_of_a_good_certificate_is_not_enough() {
    // P13: the handshake is signed by the key that the CA vouches for.
    let (chain, [_, _, root]) = chain(Spec::default());
    let roots = [Spec::authority("Root", "Root").issue(&root, &root)];
    for version in [&TLS12, &TLS13] {
        let why = shake_with(&client(&roots), server(version, &chain[..2], &key()), &sts()).await.unwrap_err();
        assert_eq!(why.label(), "wrong-key");
    }
}

#[tokio::test]
async fn g3_the_sni_is_the_name_of_the_exchange() {
    // G3.
    let (chain, [own, _, _]) = chain(Spec::default());
    let config = Arc::new(server(&TLS13, &chain, &own));
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), theirs).await.unwrap();
        let sni = start.client_hello().server_name().map(str::to_owned);
        start.into_stream(config).await.unwrap();
        sni
    });
    let _secured = client(&chain[2..]).handshake(ours, &sts()).await.unwrap();
    assert_eq!(server.await.unwrap().as_deref(), Some("mx.example.com"));
}

#[tokio::test]
async fn the_words_for_each_policy() {
    let (chain, [own, _, _]) = chain(Spec::default());
    let tls = client(&chain[2..]);
    let pkix = |by| TlsPolicy::Pkix(name("mx.example.com"), by);
    let may = TlsPolicy::May(name("mx.example.com"), Permit::Observe { level: "dane" });
    for (policy, label, protection, by) in [
        (sts(), "sts", "verified", Some("mta-sts")),
        (pkix(NamedBy::SecureMx), "pkix", "verified", Some("pkix")),
        (pkix(NamedBy::Rule), "pkix", "verified", Some("pkix")),
        (pkix(NamedBy::InsecureMx), "pkix", "host-verified", Some("pkix")),
        (encrypt(), "encrypt", "encrypted", None),
        (may, "may", "encrypted", None),
    ] {
        let proven = shake_with(&tls, server(&TLS13, &chain, &own), &policy).await.unwrap();
        let words = (policy.as_str(), proven.word().as_str(), proven.verified_by().map(|by| by.as_str()));
        assert_eq!(words, (label, protection, by));
    }
    // DANE decides alone: a certificate that every CA vouches for does not save it.
    let wrong = tlsa("3 1 1", &chain[2], &rcgen::PublicKeyData::subject_public_key_info(&key()));
    let why = shake_with(&tls, server(&TLS13, &chain, &own), &crate::tls::dane(&[wrong])).await.unwrap_err();
    assert_eq!(why.label(), "tlsa-mismatch");
}
