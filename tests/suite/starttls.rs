//! The steps up to TLS, octet by octet: a raw server that tries each attack that could end in cleartext, or in
//! plaintext taken for a reply under TLS (RFC 3207; rows H1 to H14 and ).

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::lab::Scenario;
use crate::lab::certs::Identity;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx};
use danelaw::config::{Config, DEFAULTS};
use danelaw::dane::tlsa::{NoDane, Usable};
use danelaw::dane::verify::{Expectation, References};
use danelaw::name::Name;
use danelaw::policy::{Permit, TlsPolicy};
use danelaw::refusal::{Peer, Reason, Stage, TlsFailure};
use danelaw::tls::{Chain, PostQuantum, Tls};
use danelaw::trace::Trace;
use danelaw::upstream::host_session::{HostLearning, HostNote};
use danelaw::upstream::starttls::{Greeted, SessionOptions};
use danelaw::upstream::tcp::{Source, Tcp};
use danelaw::upstream::timeouts::Timeouts;
use danelaw::upstream::verified::Ready;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Long enough for octets on their way to arrive on loopback.
const A_MOMENT: Duration = Duration::from_millis(30);

fn timeouts() -> Timeouts {
    let defaults = DEFAULTS.parse::<toml::Table>().unwrap().try_into::<Config>().unwrap();
    let mut timeouts = Timeouts::from(&defaults);
    timeouts.greeting = Duration::from_secs(5);
    timeouts.handshake = Duration::from_secs(5);
    timeouts
}

/// The result of a session with a server of this script.
async fn session<F>(
    script: impl FnOnce(Raw) -> F,
    policy: TlsPolicy,
    timeouts: Timeouts,
) -> (Result<Ready, Reason>, F::Output)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let timeouts = Arc::new(timeouts);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let peer =
        Peer { exchange: Name::parse("mx.example.com").unwrap(), address: Ipv4Addr::LOCALHOST.into(), port: None };
    let client = async {
        let trace = Trace::default();
        let options = SessionOptions {
            nat64: None,
            learning: HostLearning::Off,
            ehlo: "client.example",
            timeouts: &timeouts,
            until: Instant::now() + timeouts.route,
            domain: None,
            trace: &trace,
        };
        let server = SocketAddr::new(peer.address, port);
        let tcp = Tcp::connect(server, Source::default(), timeouts.connect).await?;
        let greeted = Greeted::greet(tcp, &peer, &policy, &options).await?;
        greeted.secure(policy, &Tls::new(PostQuantum::Offer).unwrap(), &options).await
    };
    let (stream, outcome) = {
        let mut client = Box::pin(client);
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = &mut client => panic!("over before it began"),
        };
        let server = tokio::spawn(script(Raw(stream)));
        let outcome = client.await;
        (server, outcome)
    };
    (outcome, stream.await.unwrap())
}

fn encrypt() -> TlsPolicy {
    TlsPolicy::Encrypt(Name::parse("mx.example.com").unwrap(), NoDane::NoTlsa)
}

fn dane(identity: &Identity) -> TlsPolicy {
    let name = Name::parse("mx.example.com").unwrap();
    TlsPolicy::Dane(
        Expectation {
            usable: Usable::new(name.clone(), vec![identity.record("3 1 1").parse().unwrap()]).unwrap(),
            references: References::new(name, []),
        }
        .into(),
    )
}

fn label(outcome: Result<Ready, Reason>) -> &'static str {
    outcome.map(|_| "secured").unwrap_or_else(|reason| reason.view().label.as_str())
}

/// The server's end of the connection.
struct Raw(TcpStream);

impl Raw {
    async fn say(&mut self, text: &str) {
        // A client that has closed the connection is no fault of the script.
        let _ = self.0.write_all(text.as_bytes()).await;
        let _ = self.0.flush().await;
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            match self.0.read_u8().await {
                Ok(octet) => line.push(octet),
                Err(_) => break,
            }
        }
        String::from_utf8(line).unwrap()
    }

    /// The octets that have arrived by now.
    async fn arrived(&mut self) -> Vec<u8> {
        let mut octets = vec![0; 4096];
        match tokio::time::timeout(A_MOMENT, self.0.read(&mut octets)).await {
            Ok(read) => octets.truncate(read.unwrap_or(0)),
            Err(_) => octets.clear(),
        }
        octets
    }

    /// Everything up to the end of the connection, or to a QUIT, because the client would wait for its answer.
    async fn rest(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        let read = async {
            while !octets.ends_with(b"QUIT\r\n") && self.0.read_buf(&mut octets).await.is_ok_and(|read| read > 0) {}
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
        octets
    }

    /// Sends the greeting, and reads up to STARTTLS.
    async fn until_starttls(&mut self) {
        self.say("220 mx.example.com\r\n").await;
        assert_eq!(self.line().await, "EHLO client.example\r\n");
        self.say("250-mx.example.com\r\n250 STARTTLS\r\n").await;
        assert_eq!(self.line().await, "STARTTLS\r\n");
    }
}

/// No part of it could be read as a command.
#[track_caller]
fn no_command(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets).to_ascii_uppercase();
    for command in ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "AUTH", "QUIT", "RSET"] {
        assert!(!text.contains(&format!("{command}\r\n")) && !text.contains(&format!("{command} ")), "{text}");
    }
}

/// H1, H2, A-12: no octet before the greeting, STARTTLS alone, no octet before the 220, and the ClientHello right
/// behind it.
#[tokio::test]
async fn nothing_is_pipelined_behind_starttls() {
    let script = |mut raw: Raw| async move {
        assert_eq!(raw.arrived().await, b"", "the server speaks first");
        raw.until_starttls().await;
        assert_eq!(raw.arrived().await, b"", "no command is pipelined behind STARTTLS");
        raw.say("220 go\r\n").await;
        let mut record = [0; 6];
        raw.0.read_exact(&mut record).await.unwrap();
        // A handshake record with a ClientHello.
        assert_eq!((record[0], record[1], record[5]), (22, 3, 1));
    };
    let (outcome, ()) = session(script, encrypt(), timeouts()).await;
    assert_eq!(label(outcome), "tls-closed");
}

/// H3, H11: of all codes only 220 is a go-ahead, and after any other no ClientHello is sent and no mail.
#[tokio::test]
async fn every_answer_to_starttls() {
    for code in 0..=999 {
        let script = |mut raw: Raw| async move {
            raw.until_starttls().await;
            raw.say(&format!("{code:03} go ahead\r\n")).await;
            raw.rest().await
        };
        let (outcome, rest) = session(script, encrypt(), timeouts_of(code)).await;
        let expected: &[&str] = match code {
            // The server asks for the handshake, and never answers it.
            220 => &["handshake-timeout"],
            200..=599 => &["starttls-refused", "protocol-error"],
            _ => &["protocol-error"],
        };
        let label = label(outcome);
        assert!(expected.contains(&label), "{code}: {label}");
        match code {
            220 => assert_eq!(rest[0], 22),
            _ => assert!(rest.is_empty() || rest == b"QUIT\r\n", "{code}: {rest:?}"),
        }
    }
}

fn timeouts_of(code: u16) -> Timeouts {
    let mut timeouts = timeouts();
    if code == 220 {
        timeouts.handshake = Duration::from_millis(200);
    }
    timeouts
}

/// H12: every greeting and every answer to EHLO; never HELO, never mail.
#[tokio::test]
async fn every_greeting_and_every_answer_to_ehlo() {
    for code in (0..=999).filter(|code| *code != 220) {
        let script = |mut raw: Raw| async move {
            raw.say(&format!("{code:03} mx.example.com\r\n")).await;
            raw.rest().await
        };
        let (outcome, rest) = session(script, encrypt(), timeouts()).await;
        assert!(["greeting-refused", "protocol-error"].contains(&label(outcome)), "{code}");
        assert!(rest.is_empty() || rest == b"QUIT\r\n", "{code}: {rest:?}");
    }
    for code in (0..=999).filter(|code| !(200..300).contains(code)) {
        let script = |mut raw: Raw| async move {
            raw.say("220 mx.example.com\r\n").await;
            raw.line().await;
            raw.say(&format!("{code:03}-mx.example.com\r\n{code:03} STARTTLS\r\n")).await;
            raw.rest().await
        };
        let (outcome, rest) = session(script, encrypt(), timeouts()).await;
        assert!(["ehlo-refused", "protocol-error"].contains(&label(outcome)), "{code}");
        assert!(rest.is_empty() || rest == b"QUIT\r\n", "{code}: {rest:?}");
    }
}

/// H5: an injected answer, cut into two segments at every octet, in front of a server that goes on with the
/// right certificate. The session ends with every order of arrival.
#[tokio::test]
async fn every_split_of_an_injection() {
    let identity = Identity::for_name("mx.example.com");
    let injected = "220 go\r\n250-mx.example.com\r\n250 CHUNKING\r\n";
    for split in 0..injected.len() {
        let (first, second) = injected.split_at(split);
        let acceptor = identity.acceptor();
        let script = |mut raw: Raw| async move {
            raw.until_starttls().await;
            raw.say(first).await;
            tokio::time::sleep(A_MOMENT).await;
            raw.say(second).await;
            // Behind the injected text there is a real server.
            if let Ok(mut tls) = acceptor.accept(raw.0).await {
                let mut said = Vec::new();
                let _ = tls.read_to_end(&mut said).await;
                panic!("a session came about: {said:?}");
            }
        };
        let (outcome, ()) = session(script, dane(&identity), timeouts()).await;
        let label = label(outcome);
        // Right behind the 220 it arrives when the handshake has begun; with any other split some of it arrives with
        // the 220.
        let expected = if split == "220 go\r\n".len() { "plaintext-injected" } else { "starttls-injected" };
        assert_eq!(label, expected, "{split}");
    }
    // All of it there, and the connection closed.
    for behind in ["2", "\r\n", "250 ok\r\n", "\0", "\u{16}\u{3}\u{3}"] {
        let script = |mut raw: Raw| async move {
            raw.until_starttls().await;
            raw.say(&format!("220 go\r\n{behind}")).await;
            raw.rest().await
        };
        let (outcome, rest) = session(script, encrypt(), timeouts()).await;
        assert_eq!((label(outcome), rest.as_slice()), ("starttls-injected", &b""[..]), "{behind:?}");
    }
}

/// H8, A-14, G9: a handshake that cannot start or finish ends the connection, without a word in the clear; and its time
/// limit is for all of it, not for each octet.
#[tokio::test]
async fn handshakes_that_go_nowhere() {
    for (text, expected) in [
        ("250 mx.example.com\r\n", "plaintext-injected"),
        ("454 4.7.0 no TLS after all\r\n", "plaintext-injected"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "plaintext-injected"),
        // A fatal alert, which any attacker in the path can send.
        ("\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}", "no-shared-tls-parameters"),
    ] {
        let script = |mut raw: Raw| async move {
            raw.until_starttls().await;
            raw.say("220 go\r\n").await;
            let mut hello = [0; 5];
            raw.0.read_exact(&mut hello).await.unwrap();
            raw.say(text).await;
            raw.rest().await
        };
        let (outcome, rest) = session(script, encrypt(), timeouts()).await;
        assert_eq!(label(outcome), expected, "{text:?}");
        no_command(&rest);
    }
    let script = |mut raw: Raw| async move {
        raw.until_starttls().await;
        raw.say("220 go\r\n").await;
        // The header of a large handshake record, and then one octet after the other.
        let _ = raw.0.write_all(&[22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]).await;
        while raw.0.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        raw.rest().await
    };
    let limit = Duration::from_millis(300);
    let began = std::time::Instant::now();
    let (outcome, rest) = session(script, encrypt(), Timeouts { handshake: limit, ..timeouts() }).await;
    assert_eq!(label(outcome), "handshake-timeout");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    no_command(&rest);
}

/// A server that asks for a certificate of danelaw's own. Under TLS 1.3 the handshake is over for the client before the
/// server can say so (RFC 8446 §4.4.2.4): its alert is a failure of TLS all the same, and not a connection that was
/// lost at EHLO.
#[tokio::test]
async fn a_server_that_requires_a_client_certificate() {
    let identity = Identity::for_name("mx.example.com");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.chain[0].clone()).unwrap();
    let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = builder.build().unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(identity.chain.clone(), identity.private_key())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        for pause in [Duration::ZERO, A_MOMENT] {
            let acceptor = acceptor.clone();
            let script = |mut raw: Raw| async move {
                raw.until_starttls().await;
                raw.say("220 go\r\n").await;
                tokio::time::sleep(pause).await;
                acceptor.accept(raw.0).await.map(drop).unwrap_err().to_string()
            };
            let (outcome, said) = session(script, dane(&identity), timeouts()).await;
            let reason = outcome.unwrap_err();
            let view = reason.view();
            assert_eq!(format!("{} {}", view.code, view.enhanced), "451 4.7.5", "{reason} ({said})");
            assert!(["tls-alert", "no-shared-tls-parameters"].contains(&view.label.as_str()), "{reason} ({said})");
            assert!(
                *version != rustls::version::TLS13 || reason.to_string().contains("CertificateRequired"),
                "{reason}"
            );
        }
    }
}

/// H9, F19: the wrong server gets an alert that gives the reason, and no word of mail. (RFC 3207 §4.1 suggests QUIT
/// under TLS; the handshake is refused before there is any.)
#[tokio::test]
async fn the_wrong_server_is_told() {
    let (right, wrong) = (Identity::for_name("mx.example.com"), Identity::for_name("mx.example.com"));
    let acceptor = wrong.acceptor();
    let script = |mut raw: Raw| async move {
        raw.until_starttls().await;
        raw.say("220 go\r\n").await;
        match acceptor.accept(raw.0).await {
            Ok(mut tls) => {
                // TLS 1.3: the server is done before the client has judged.
                let mut said = Vec::new();
                let error = tls.read_to_end(&mut said).await.unwrap_err();
                assert_eq!(said, b"");
                error.to_string()
            }
            Err(error) => error.to_string(),
        }
    };
    let (outcome, heard) = session(script, dane(&right), timeouts()).await;
    assert_eq!(label(outcome), "tlsa-mismatch");
    assert!(heard.contains("AccessDenied"), "{heard}");
}

/// The words that one dialled host teaches.
fn taught(note: HostNote<'_>, secured: &Result<Ready, Reason>, shown: &Chain) -> Vec<(&'static str, Option<String>)> {
    note.note(secured, shown);
    let sessions = note.trace.take_host_sessions().into_iter();
    sessions.map(|session| (session.word.as_str(), session.leaf.map(|leaf| leaf.issuer))).collect()
}

#[tokio::test]
async fn u5_a_finished_handshake_with_a_public_host_teaches() {
    // U5, U6.
    let identity = Identity::for_name("mx.example.com");
    let chain: Chain = Arc::new(identity.chain.clone());
    let public = Peer { exchange: Name::parse("mx.example.com").unwrap(), address: [9, 9, 9, 9].into(), port: None };
    let reserved = Peer { address: [10, 0, 0, 1].into(), ..public.clone() };
    let (policy, proven, trace) = (encrypt(), dane(&identity), Trace::default());
    let (on, off) = (HostLearning::On, HostLearning::Off);
    let note = |peer, policy, learning| HostNote { peer, port: 25, policy, roots: 1, learning, trace: &trace };
    let acceptor = identity.acceptor();
    let script = async move |mut raw: Raw| {
        raw.until_starttls().await;
        raw.say("220 go\r\n").await;
        let mut tls = acceptor.accept(raw.0).await.unwrap();
        let mut ehlo = [0; 64];
        assert!(tls.read(&mut ehlo).await.unwrap() > 0);
        tls.write_all(b"250 mx\r\n").await.unwrap();
        tls.flush().await.unwrap();
        tls
    };
    let (ready, _server) = session(script, policy.clone(), timeouts()).await;
    assert!(ready.is_ok(), "{ready:?}");
    let issuer = Some("rcgen self signed cert".to_owned());
    assert_eq!(taught(note(&public, &policy, on), &ready, &chain), [("self-signed", issuer)]);
    for (peer, policy, learning) in [(&reserved, &policy, on), (&public, &policy, off), (&public, &proven, on)] {
        assert_eq!(taught(note(peer, policy, learning), &ready, &chain), []);
        assert_eq!(taught(note(peer, policy, learning), &Err(Reason::StartTlsMissing), &chain), []);
    }
    let missing = taught(note(&public, &policy, on), &Err(Reason::StartTlsMissing), &Chain::default());
    assert_eq!(missing, [("starttls-missing", None)]);
    // A failure may be our own fault.
    let limit = Duration::from_secs(1);
    for failure in [
        Reason::Timeout { stage: Stage::Handshake, limit },
        Reason::Tls(TlsFailure::Alert("handshake_failure".into())),
        Reason::Lost { stage: Stage::Handshake, error: std::io::ErrorKind::ConnectionReset.into() },
    ] {
        assert_eq!(taught(note(&public, &policy, on), &Err(failure), &chain), []);
    }
    // By a rule for cleartext it goes on where STARTTLS is missing, and in mode observe that is told alone.
    let name = || Name::parse("mx.example.com").unwrap();
    for (permit, word) in [
        (Permit::Rule { reason: String::new(), until: time::Date::MAX }, "cleartext"),
        (Permit::Observe { level: "dane" }, "cleartext-waived"),
    ] {
        let may = TlsPolicy::May(name(), permit);
        let note = HostNote { peer: &public, port: 25, policy: &may, roots: 1, learning: on, trace: &trace };
        assert_eq!(taught(note, &Err(Reason::StartTlsMissing), &chain), []);
        note.note_cleartext(&Reason::Timeout { stage: Stage::Handshake, limit });
        note.note_cleartext(&Reason::StartTlsMissing);
        let sessions = trace.take_host_sessions();
        assert_eq!(sessions.iter().map(|session| session.word.as_str()).collect::<Vec<_>>(), [word]);
    }
}

/// A fatal alert behind the ClientHello: unrecognized_name.
fn name_not_known() -> Act {
    Act::Late(A_MOMENT, Box::new(Act::Say("\x15\x03\x03\x00\x02\x02\x70".into())))
}

/// The first handshake ends because the server does not know its name. The next one is for a client that leaves the name out.
pub(crate) fn knows_no_name(mx: &mut Mx) {
    mx.later = Some(Arc::new(mx.clone()));
    mx.instead_of_tls = Some(name_not_known());
}

#[tokio::test]
async fn a_server_that_does_not_know_its_name() {
    // G15.
    let once = knows_no_name;
    let always = |mx: &mut Mx| mx.instead_of_tls = Some(name_not_known());
    let rule = |level: &str| {
        format!("rule = [{{ domain = 'example.test', level = '{level}', reason = 'x', until = '9999-12-31' }}]")
    };
    let without_tlsa = || Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]);
    // Without a proof the name is left out, and the session is one under TLS.
    for scenario in [without_tlsa(), Scenario::new().set(&rule("encrypt")), without_tlsa().set(&rule("may"))] {
        let lab = scenario.mx(once).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("250 2.0.0 "), "{answer}");
        assert_eq!((lab.mx().connections(), lab.mx().server_names()), (2, vec![None]));
        assert!(lab.mx().tls().iter().any(|line| line.starts_with("MAIL")));
        // The certificate may be good for the name, and a policy that asks for a proof is not met all the same.
        let admin = lab.admin().await;
        let (_, metrics) = crate::admin::get(&admin, "/metrics").await;
        assert!(metrics.contains("danelaw_unverified_sessions_total{pkix=\"sni-refused\"} 1"), "{metrics}");
    }
    // With one it is never left out.
    for scenario in [Scenario::new(), without_tlsa().set(&rule("verify"))] {
        let lab = scenario.mx(once).start().await;
        let answer = lab.send().await.last().to_owned();
        assert!(answer.starts_with("451 4.7.5 ") && answer.contains("(SNI); the host must know the name"), "{answer}");
        assert_eq!((lab.mx().connections(), lab.mx().server_names()), (1, vec![]));
    }
    // It is tried once more, and never in the clear where TLS is required.
    let lab = without_tlsa().mx(always).start().await;
    let answer = lab.send().await.last().to_owned();
    assert!(answer.starts_with("451 4.7.5 ") && answer.contains("(SNI)"), "{answer}");
    assert_eq!(lab.mx().connections(), 2);
    assert!(!lab.mx().saw_mail());
}
