//! Live handshakes: the proof that a server must give, over TLS 1.2 and TLS 1.3, before danelaw says "verified".

use std::sync::Arc;
use std::time::Duration;

use crate::certificates::{self, Spec, key, tlsa};
use danelaw::dane::mismatch::Mismatch;
use danelaw::dane::pkix::PkixWorth;
use danelaw::dane::tlsa::{NoDane, Usable};
use danelaw::dane::verify::{Expectation, References};
use danelaw::name::Name;
use danelaw::policy::TlsPolicy;
use danelaw::refusal::TlsFailure;
use danelaw::tls::{Authentication, KeyProof, PostQuantum, Protection, Tls};
use danelaw::wire::{Flushed, Wire};
use futures_util::FutureExt;
use rcgen::{KeyPair, PublicKeyData};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
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
pub(crate) fn dane(records: &[String]) -> TlsPolicy {
    TlsPolicy::Dane(expectation(records).into())
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

/// Shows any chain with any key, as a lying server would.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

pub(crate) fn server(
    version: &'static SupportedProtocolVersion,
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
) -> ServerConfig {
    server_by(aws_lc_rs::default_provider(), version, chain, key)
}

fn server_by(
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
) -> ServerConfig {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(chain.to_vec(), key)))))
}

/// A handshake, and an octet in each direction if it succeeds.
async fn shake(server: ServerConfig, policy: &TlsPolicy) -> Result<Protection, TlsFailure> {
    shake_with(&Tls::new(PostQuantum::Offer).unwrap(), server, policy).await
}

/// The same by this client.
pub(crate) async fn shake_with(tls: &Tls, server: ServerConfig, policy: &TlsPolicy) -> Result<Protection, TlsFailure> {
    let (ours, theirs) = duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(Arc::new(server)).accept(theirs).await?;
        let octet = stream.read_u8().await?;
        stream.write_u8(octet + 1).await?;
        stream.flush().await
    });
    let mut secured = tls.handshake(ours, policy).await?;
    secured.stream.write_u8(1).await.unwrap();
    secured.stream.flush().await.unwrap();
    assert_eq!(secured.stream.read_u8().await.unwrap(), 2);
    server.await.unwrap().unwrap();
    Ok(secured.protection)
}

/// E6, F1, F2, F3: a record for the server's own certificate or key is enough, with any content of the certificate.
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
                let protection = shake(server(version, &chain, &own), &dane(std::slice::from_ref(&record))).await;
                let protection = protection.unwrap_or_else(|why| panic!("{what} {numbers} {version:?}: {why}"));
                let Some(matched) = protection.proof().and_then(KeyProof::record) else { panic!("{protection:?}") };
                assert_eq!((matched.record.to_string(), matched.depth), (record, 0), "{what}");
                assert_eq!(protection.word().as_str(), "verified");
            }
        }
    }
}

/// A chain of server, intermediate authority and root, all good, and the three keys.
pub(crate) fn chain(leaf: Spec) -> (Vec<CertificateDer<'static>>, [KeyPair; 3]) {
    let keys = [key(), key(), key()];
    let [own, inter, root] = &keys;
    let chain = vec![
        Spec { issuer: certificates::cn("Inter"), ..leaf }.issue(own, inter),
        Spec::authority("Inter", "Root").issue(inter, root),
        Spec::authority("Root", "Root").issue(root, root),
    ];
    (chain, keys)
}

/// F6, F12, F16: under DANE-TA path, dates and names count.
#[tokio::test]
async fn dane_ta_looks_at_path_dates_and_names() {
    let named = |name| Spec { extensions: vec![certificates::dns_names(&[name])], ..Spec::default() };
    for (leaf, verdict) in [
        (Spec::default(), Ok(2)),
        (named("example.com"), Ok(2)),
        (named("evil.example"), Err("name-mismatch")),
        (Spec { not_after: "20210101000000Z", ..Spec::default() }, Err("certificate-expired")),
        (Spec { not_before: "20490101000000Z", ..Spec::default() }, Err("certificate-not-yet-valid")),
        (Spec { extensions: vec![certificates::unknown_critical()], ..Spec::default() }, Err("chain-not-verified")),
    ] {
        let (chain, [own, _, root]) = chain(leaf);
        for version in BOTH {
            for numbers in ["2 0 1", "2 1 1", "2 0 2", "2 1 2", "2 0 0", "2 1 0"] {
                let policy = dane(&[tlsa(numbers, &chain[2], &root.subject_public_key_info())]);
                let found = shake(server(version, &chain, &own), &policy).await.map(|protection| {
                    let Some(matched) = protection.proof().and_then(KeyProof::record) else { panic!("{protection:?}") };
                    matched.depth
                });
                assert_eq!(found.map_err(|why| why.label()), verdict, "{numbers} {version:?}");
            }
        }
    }
}

/// G10, A-22: the right certificate at a server that does not have its key. The verifier has said "match" by then.
#[tokio::test]
async fn a_copied_certificate_is_refused() {
    let (chain, [own, _, root]) = chain(Spec::default());
    let records = ["3 1 1", "3 0 1"].map(|numbers| tlsa(numbers, &chain[0], &own.subject_public_key_info()));
    let anchor = tlsa("2 1 1", &chain[2], &root.subject_public_key_info());
    let expected = expectation(std::slice::from_ref(&anchor));
    let policies = [dane(&records), dane(&[anchor]), TlsPolicy::HalfDane(expected.into()), encrypt()];
    for version in BOTH {
        for policy in &policies {
            let thief = server(version, &chain, &key());
            assert_eq!(shake(thief, policy).await, Err(TlsFailure::WrongKey), "{version:?} {}", policy.as_str());
            // A key of another kind.
            for kind in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
                let thief = server(version, &chain, &KeyPair::generate_for(kind).unwrap());
                let why = shake(thief, policy).await.unwrap_err();
                assert!(
                    matches!(why, TlsFailure::WrongKey | TlsFailure::UnsupportedKey | TlsFailure::Broken(_)),
                    "{why}"
                );
            }
            assert!(shake(server(version, &chain, &own), policy).await.is_ok());
        }
    }
}

/// B1, B10, A-13, A-20: a server with a key that no record names.
#[tokio::test]
async fn another_key_is_a_mismatch() {
    let (chain, [own, ..]) = chain(Spec::default());
    for version in BOTH {
        let policy = dane(&[tlsa("3 1 1", b"", b"another key")]);
        let why = shake(server(version, &chain, &own), &policy).await.unwrap_err();
        assert!(matches!(why, TlsFailure::Mismatch(Mismatch::NoRecord(_))), "{why}");
        assert_eq!(why.label(), "tlsa-mismatch");
    }
}

/// G14: the kinds of key that servers have.
#[tokio::test]
async fn kinds_of_keys() {
    use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
    for version in BOTH {
        for kind in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
            let own = KeyPair::generate_for(kind).unwrap();
            let certificate = Spec::default().issue_for(&own.subject_public_key_info(), &key());
            let policy = dane(&[tlsa("3 1 1", &certificate, &own.subject_public_key_info())]);
            let protection = shake(server(version, &[certificate], &own), &policy).await.unwrap();
            assert_eq!(protection.word().as_str(), "verified");
        }
    }
}

/// G14, decision 15: small RSA keys are refused by their own name, with and without a record that matches.
#[tokio::test]
async fn small_rsa_keys() {
    let spki = certificates::rsa_spki(1024);
    let chain = [Spec::default().issue_for(&spki, &key())];
    // The size is looked at first, so it is no matter that this is not the key of the certificate.
    let own = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    for version in BOTH {
        let why = shake(server(version, &chain, &own), &encrypt()).await.unwrap_err();
        assert_eq!(why, TlsFailure::SmallKey(1024));
        let policy = dane(&[tlsa("3 1 1", &chain[0], &spki)]);
        let why = shake(server(version, &chain, &own), &policy).await.unwrap_err();
        assert!(matches!(why, TlsFailure::Mismatch(Mismatch::KeySize(_, 1024))), "{why}");
        assert_eq!(why.label(), "rsa-key-size");
    }
}

/// B2: without an expectation any certificate will do, and the name of the result claims no more.
#[tokio::test]
async fn encryption_alone_and_the_words_for_it() {
    let own = key();
    let certificate = Spec { issuer: certificates::cn("Own"), subject: certificates::cn("Own"), ..Spec::default() };
    let certificate = certificate.issue(&own, &own);
    let record = tlsa("3 1 1", &certificate, &own.subject_public_key_info());
    let half = TlsPolicy::HalfDane(expectation(&[record]).into());
    for version in BOTH {
        let chain = [certificate.clone()];
        let protection = shake(server(version, &chain, &own), &encrypt()).await.unwrap();
        assert_eq!(protection.authentication(), &Authentication::Unverified(NoDane::NoTlsa, PkixWorth::SelfSigned));
        assert_eq!(protection.word().as_str(), "encrypted");
        let protection = shake(server(version, &chain, &own), &half).await.unwrap();
        // C18.
        assert!(matches!(protection.authentication(), Authentication::HostVerified(_)));
        assert_eq!(protection.word().as_str(), "host-verified");
    }
}

/// G6: version, suite and group by their usual names.
#[tokio::test]
async fn version_suite_and_group_have_their_usual_names() {
    let own = key();
    let chain = [Spec::default().issue(&own, &key())];
    let protection = shake(server(&TLS13, &chain, &own), &encrypt()).await.unwrap();
    assert_eq!(
        (protection.version(), protection.cipher_suite(), protection.key_exchange()),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519")
    );
    let protection = shake(server(&TLS12, &chain, &own), &encrypt()).await.unwrap();
    assert_eq!(
        (protection.version(), protection.cipher_suite(), protection.key_exchange()),
        ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "X25519")
    );
    // A server that insists on the post-quantum group asks for it.
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    let protection = shake(server_by(provider, &TLS13, &chain, &own), &encrypt()).await.unwrap();
    assert_eq!(protection.key_exchange(), "X25519MLKEM768");
}

/// F21, A-23: no session is ever resumed, with any offer of the server and any number of connections of the same
/// client.
#[tokio::test]
async fn nothing_is_resumed() {
    let own = key();
    let chain = [Spec::default().issue(&own, &key())];
    let policy = dane(&[tlsa("3 1 1", &chain[0], &own.subject_public_key_info())]);
    let tls = Tls::new(PostQuantum::Offer).unwrap();
    for version in BOTH {
        let mut config = server(version, &chain, &own);
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let config = Arc::new(config);
        for _ in 0..3 {
            let (ours, theirs) = duplex(64 * 1024);
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            let server = tokio::spawn(async move {
                let mut stream = acceptor.accept(theirs).await.unwrap();
                stream.write_u8(7).await.unwrap();
                stream.flush().await.unwrap();
                stream.get_ref().1.handshake_kind()
            });
            let mut secured = tls.handshake(ours, &policy).await.unwrap();
            // Reading takes in the tickets that come after the handshake (G12).
            assert_eq!(secured.stream.read_u8().await.unwrap(), 7);
            assert_eq!(server.await.unwrap(), Some(rustls::HandshakeKind::Full));
        }
        // A-23, F21: a TLSA roll is seen by the very next session, in spite of the proof of the session before.
        let rolled = dane(&[tlsa("3 1 1", &chain[0], &key().subject_public_key_info())]);
        let (ours, theirs) = duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        tokio::spawn(async move { acceptor.accept(theirs).await.map(drop) });
        assert_eq!(tls.handshake(ours, &rolled).await.unwrap_err().label(), "tlsa-mismatch");
    }
}

/// A server that does not speak TLS at all: it sends these octets, and then closes.
async fn scripted(sends: &'static [u8], policy: &TlsPolicy) -> TlsFailure {
    let (ours, mut theirs) = duplex(64 * 1024);
    tokio::spawn(async move {
        let mut hello = [0; 5];
        theirs.read_exact(&mut hello).await.unwrap();
        theirs.write_all(sends).await.unwrap();
    });
    Tls::new(PostQuantum::Offer).unwrap().handshake(ours, policy).await.unwrap_err()
}

/// G5, G9: octets that are no handshake are told apart, and are never a verdict on the certificate.
#[tokio::test]
async fn broken_handshakes() {
    let policy = dane(&[tlsa("3 1 1", b"", b"")]);
    for plaintext in [&b"250 OK\r\n"[..], b"220 mx.example.com ESMTP\r\n", b"\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
    {
        assert_eq!(scripted(plaintext, &policy).await, TlsFailure::Injected);
    }
    for (sends, label) in [
        (&[][..], "tls-closed"),
        (&[22, 3, 3], "tls-closed"),
        // Fatal alerts: protocol_version, handshake_failure, insufficient_security; internal_error, access_denied.
        (&[21, 3, 3, 0, 2, 2, 70], "no-shared-tls-parameters"),
        (&[21, 3, 3, 0, 2, 2, 40], "no-shared-tls-parameters"),
        (&[21, 3, 3, 0, 2, 2, 71], "no-shared-tls-parameters"),
        (&[21, 3, 3, 0, 2, 2, 80], "tls-alert"),
        (&[21, 3, 3, 0, 2, 2, 49], "tls-alert"),
        // G15: unrecognized_name.
        (&[21, 3, 3, 0, 2, 2, 112], "sni-refused"),
        // A warning (close_notify) gives no reason, and then the connection ends.
        (&[21, 3, 3, 0, 2, 1, 0], "tls-closed"),
        (&[23, 3, 3, 0, 1, 0], "tls-broken"),
    ] {
        for policy in [&policy, &encrypt()] {
            assert_eq!(scripted(sends, policy).await.label(), label, "{sends:?}");
        }
    }
}

/// a remote begins a refusal while the end of the message waits for room, in our buffer or in that of TLS. Octets
/// that were not sent by then are never sent, at any size, and the refusal is read from its first line.
#[tokio::test]
async fn the_end_of_a_refused_message_stays_here() {
    const LIMIT: Duration = Duration::from_secs(60);
    let own = key();
    let chain = [Spec::default().issue(&own, &key())];
    let mut interrupted = 0;
    for size in (0..41).map(|step| step * 2500) {
        let (ours, theirs) = duplex(32 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server(&TLS13, &chain, &own)));
        let (begin, began) = tokio::sync::oneshot::channel();
        let remote = tokio::spawn(async move {
            let mut stream = acceptor.accept(theirs).await.unwrap();
            // It does not read before it has begun to refuse.
            began.await.unwrap();
            stream.write_all(b"452-4.3.1 first\r\n").await.unwrap();
            stream.flush().await.unwrap();
            let mut octets = Vec::new();
            while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(50), stream.read_buf(&mut octets)).await
            {
            }
            let _ = stream.write_all(b"452 4.3.1 last\r\n").await;
            let _ = stream.flush().await;
            let _ = stream.read_to_end(&mut octets).await;
            octets
        });
        let secured = Tls::new(PostQuantum::Offer).unwrap().handshake(ours, &encrypt()).await.unwrap();
        let mut wire = Wire::new(secured.stream);
        wire.output.extend_from_slice(&b"x".repeat(size));
        wire.output.extend_from_slice(b"\r\n.\r\n");
        // The kernel's buffer is full before the first word comes.
        let mut more: &[u8] = &[];
        let flushed = {
            let mut sending = Box::pin(wire.flush_watching(&mut more, LIMIT));
            let early = (&mut sending).now_or_never();
            begin.send(()).unwrap();
            match early {
                Some(flushed) => flushed.unwrap(),
                None => sending.await.unwrap(),
            }
        };
        let reply = wire.last_reply(LIMIT).await.unwrap();
        assert_eq!(reply.to_string(), "452 4.3.1 first / last", "{size}");
        drop(wire);
        let octets = remote.await.unwrap();
        interrupted += usize::from(flushed == Flushed::Interrupted);
        assert_eq!(octets.ends_with(b".\r\n"), flushed == Flushed::Sent, "{size}: {} octets", octets.len());
    }
    assert!(interrupted > 10, "{interrupted} of 41 had to wait for room");
}

/// G4, G5: a server without a suite or group in common.
#[tokio::test]
async fn nothing_in_common() {
    let own = key();
    let chain = [Spec::default().issue(&own, &key())];
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::MLKEM1024];
    let policy = dane(&[tlsa("3 1 1", &chain[0], &own.subject_public_key_info())]);
    let why = shake(server_by(provider, &TLS13, &chain, &own), &policy).await.unwrap_err();
    assert_eq!(why.label(), "no-shared-tls-parameters", "{why}");
}

/// G1, G4, G5, G13, A-24: the content of the ClientHello. Names that are no SNI are not sent, and do not stop the
/// handshake.
#[tokio::test]
async fn the_client_hello() {
    for (host, sni) in [
        ("mx.example.com", Some("mx.example.com")),
        ("MX.Example.com.", Some("mx.example.com")),
        ("mx_1.example.com", Some("mx_1.example.com")),
        ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
        ("-mx.example.com", None),
        ("mx.123", None),
    ] {
        let own = key();
        let chain = [Spec::default().issue(&own, &key())];
        let record = tlsa("3 1 1", &chain[0], &own.subject_public_key_info()).parse().unwrap();
        let policy = TlsPolicy::Dane(
            Expectation {
                usable: Usable::new(name(host), vec![record]).unwrap(),
                references: References::new(name(host), []),
            }
            .into(),
        );
        let config = Arc::new(server(&TLS13, &chain, &own));
        let (ours, theirs) = duplex(64 * 1024);
        let server = tokio::spawn(async move {
            let start =
                tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), theirs).await.unwrap();
            let hello = start.client_hello();
            assert!(hello.alpn().is_none());
            for suite in hello.cipher_suites() {
                let suite = format!("{suite:?}");
                let modern = suite.contains("_GCM_") || suite.contains("_CHACHA20_");
                assert!(modern || suite == "TLS_EMPTY_RENEGOTIATION_INFO_SCSV", "{suite}");
            }
            assert!(hello.named_groups().unwrap().contains(&rustls::NamedGroup::X25519MLKEM768));
            let sni = hello.server_name().map(str::to_owned);
            start.into_stream(config).await.unwrap();
            sni
        });
        let _secured = Tls::new(PostQuantum::Offer).unwrap().handshake(ours, &policy).await.unwrap();
        assert_eq!(server.await.unwrap().as_deref(), sni, "{host}");
    }
}

/// A-24, F5, G4, G5, G6, G13: the octets of the ClientHello, for the parts that rustls' own reading of it does not
/// show.
#[tokio::test]
async fn the_client_hello_octet_by_octet() {
    let (ours, mut theirs) = duplex(64 * 1024);
    let hello = tokio::spawn(async move {
        let mut record = vec![0; 5];
        theirs.read_exact(&mut record).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
        theirs.read_exact(&mut body).await.unwrap();
        assert_eq!((record[0], body[0]), (22, 1), "a handshake record with a ClientHello");
        body
    });
    let _ = Tls::new(PostQuantum::Offer).unwrap().handshake(ours, &encrypt()).await.unwrap_err();
    let hello = hello.await.unwrap();
    // Type, length, version and random; then the session id, the suites, the compression methods and the extensions.
    let mut rest = &hello[4 + 2 + 32..];
    let mut vector = |length_octets: usize| {
        let length = rest[..length_octets].iter().fold(0, |length, &octet| length << 8 | usize::from(octet));
        let (vector, after) = rest[length_octets..].split_at(length);
        rest = after;
        vector.to_vec()
    };
    let (_session, suites, compression) = (vector(1), vector(2), vector(1));
    let mut extensions = std::collections::BTreeMap::new();
    let block = vector(2);
    let mut block = block.as_slice();
    while let [kind_high, kind_low, high, low, after @ ..] = block {
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        extensions.insert(u16::from_be_bytes([*kind_high, *kind_low]), value.to_vec());
        block = after;
    }
    assert_eq!(compression, [0], "no compression");
    // TLS 1.3 and 1.2, and no other.
    assert_eq!(extensions[&43], [4, 3, 4, 3, 3]);
    for (kind, what) in [
        (16, "ALPN"),
        (19, "client_certificate_type"),
        (20, "server_certificate_type"),
        (27, "compress_certificate"),
        (41, "pre_shared_key"),
        (42, "early_data"),
    ] {
        assert!(!extensions.contains_key(&kind), "{what}");
    }
    // An anonymous, static, CBC, RC4 or NULL suite has none of these numbers: TLS 1.3, ECDHE with GCM or ChaCha20, SCSV.
    let modern = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0x00ff];
    let (suites, []) = suites.as_chunks::<2>() else { panic!("whole suites") };
    assert!(suites.iter().all(|&suite| modern.contains(&u16::from_be_bytes(suite))), "{suites:?}");
}

/// H9: the server gets an alert that names the reason.
#[tokio::test]
async fn honest_alerts() {
    let named = Spec { extensions: vec![certificates::dns_names(&["evil.example"])], ..Spec::default() };
    let expired = Spec { not_after: "20210101000000Z", ..Spec::default() };
    let client = Spec { extensions: vec![certificates::purposes(&[certificates::CLIENT_AUTH])], ..Spec::default() };
    for (leaf, own_anchor, alert) in [
        (named, true, "BadCertificate"),
        (expired, true, "CertificateExpired"),
        (client, true, "UnknownCA"),
        (Spec::default(), false, "AccessDenied"),
    ] {
        let (chain, [own, _, root]) = chain(leaf);
        let anchor = if own_anchor { root.subject_public_key_info() } else { vec![] };
        let policy = dane(&[tlsa("2 1 1", b"", &anchor)]);
        let (ours, theirs) = duplex(64 * 1024);
        let config = Arc::new(server(&TLS12, &chain, &own));
        let server = tokio::spawn(async move { TlsAcceptor::from(config).accept(theirs).await.map(drop) });
        Tls::new(PostQuantum::Offer).unwrap().handshake(ours, &policy).await.unwrap_err();
        let heard = server.await.unwrap().unwrap_err().to_string();
        assert!(heard.contains(alert), "{heard}");
    }
}

/// G11: a server that asks for a client certificate gets none, and the session goes on without.
#[tokio::test]
async fn a_certificate_request_is_answered_with_none() {
    let (chain, [own, ..]) = chain(Spec::default());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[2].clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    for version in BOTH {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(chain.clone(), PrivatePkcs8KeyDer::from(own.serialize_der()).into())
            .unwrap();
        assert!(shake(config, &encrypt()).await.is_ok());
    }
}
