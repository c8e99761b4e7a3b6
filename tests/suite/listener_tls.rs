//! TLS with clients: STARTTLS and implicit TLS on listeners, and client certificates (RFC 3207, RFC 8314).

use std::fs;
use std::path::Path;
use std::time::Duration;

use danelaw::delivery::shared::Origin;
use danelaw::session::{self, Admission, Caller, Stop};
use danelaw::tls::server::{ServerFiles, ServerTls};
use danelaw::transaction::dialogue::Service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::certs::{Authority, Identity, pem};
use crate::lab::client::Client;
use crate::lab::tls_client::ClientSide;
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use crate::log::captured;
use crate::process::{danelaw as program, said};

/// The files of a listener, and the authorities that have issued them.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    servers: Authority,
    clients: Authority,
}

impl Files {
    pub(crate) fn new() -> Self {
        let (servers, clients) = (Authority::named("lab servers"), Authority::named("lab clients"));
        let files = Self { folder: tempfile::tempdir().unwrap(), servers, clients };
        files.write(&files.servers.issue("danelaw.test"));
        fs::write(files.path("clients.pem"), pem("CERTIFICATE", &files.clients.certificate)).unwrap();
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a certificate and its key in place.
    fn write(&self, identity: &Identity) {
        let [chain, key] = identity.pem();
        fs::write(self.path("certificate.pem"), chain).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
    }

    /// A listener's table, with more keys.
    pub(crate) fn listener(&self, tls: &str, more: &str) -> String {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| self.path(name).display().to_string());
        format!(
            "listener = [{{ address = '127.0.0.1:0', tls = '{tls}', certificate = '{certificate}', key = '{key}'{more} }}]"
        )
    }

    /// The key `client_ca`.
    fn client_ca(&self) -> String {
        format!(", client_ca = '{}'", self.path("clients.pem").display())
    }

    pub(crate) async fn lab(&self, tls: &str, more: &str) -> Lab {
        Scenario::new().set(&self.listener(tls, more)).start().await
    }

    /// A client that shows no certificate.
    pub(crate) fn client(&self) -> ClientSide<'_> {
        ClientSide::new(&self.servers, None)
    }
}

/// The address of no client here.
const ELSEWHERE: &str = ", allow = ['127.0.0.9']";

#[tokio::test]
async fn mail_comes_behind_starttls_alone_where_it_is_required() {
    // H13, H15; RFC 3207 §4, §4.2.
    let (files, (log, _guard)) = (Files::new(), captured());
    let lab = files.lab("required", "").await;
    let mut client = Client::connect(&lab.address).await;
    assert!(client.command("EHLO client.test").await.contains("\n250-STARTTLS\n"));
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA", "VRFY b"] {
        assert!(client.command(command).await.starts_with("530 5.7.0 "), "{command}");
    }
    let mut client = client.start_tls(&files.client()).await;
    // All that came in the clear is forgotten.
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("503 5.5.1 "));
    assert!(!client.command("EHLO client.test").await.contains("STARTTLS"));
    assert!(client.command("STARTTLS").await.starts_with("503 5.5.1 "));
    let answers = client.send(&["b@example.test"], MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    let message = String::from_utf8_lossy(&lab.mx().messages()[0]).into_owned();
    assert!(message.contains("by danelaw.test (danelaw) with ESMTPS id "), "{message}");
    wait_for(|| log.text().contains("verdict=delivered")).await;
    let text = log.text();
    assert!(text.contains(" client_tls=\"TLSv1.3\" client_cipher=\"TLS_"), "{text}");
    assert!(text.contains(" client_certificate=\"not-asked\" "), "{text}");
    client.command("QUIT").await;
}

#[tokio::test]
async fn starttls_may_be_left_out_where_it_is_offered() {
    let files = Files::new();
    let lab = files.lab("starttls", "").await;
    let mut client = lab.client().await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert!(client.command("MAIL FROM:<>").await.starts_with("250 "));
    assert!(client.command("STARTTLS").await.starts_with("503 5.5.1 "), "amid a transaction");
    client.command("RSET").await;
    let side = ClientSide { version: &rustls::version::TLS12, ..files.client() };
    let mut client = client.start_tls(&side).await;
    client.command("EHLO client.test").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    let messages = lab.mx().messages();
    let with = |word: &str, message: &[u8]| String::from_utf8_lossy(message).contains(&format!(" with {word} id "));
    assert!(with("ESMTP", &messages[0]) && with("ESMTPS", &messages[1]));
    // HELO is no reason for another word (RFC 3848).
    client.command("HELO client.test").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert!(with("SMTP", &lab.mx().messages()[2]));
}

#[tokio::test]
async fn tls_from_the_first_octet() {
    let files = Files::new();
    let lab = files.lab("implicit", "").await;
    let mut client = Client::silent(&lab.address).await.under_tls(&files.client()).await.unwrap();
    client.greeted().await;
    assert!(!client.command("EHLO client.test").await.contains("STARTTLS"));
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    // A client in the clear hears no SMTP.
    let mut client = Client::silent(&lab.address).await;
    client.write(b"EHLO client.test\r\n").await;
    assert!(!client.rest().await.contains("danelaw"));
    wait_for(|| lab.sessions() == 1).await;
}

#[tokio::test]
async fn lmtp_under_tls() {
    let files = Files::new();
    let lab = files.lab("required", ", kind = 'lmtp'").await;
    let mut client = Client::connect(&lab.address).await;
    assert!(client.command("LHLO client.test").await.contains("STARTTLS"));
    assert!(client.command("MAIL FROM:<>").await.starts_with("530 5.7.0 "));
    assert!(client.command("STARTTLS").await.starts_with("220 "));
    let mut client = client.under_tls(&files.client()).await.unwrap();
    assert!(!client.command("LHLO client.test").await.contains("STARTTLS"));
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert!(String::from_utf8_lossy(&lab.mx().messages()[0]).contains(" with LMTPS id "));
}

#[tokio::test]
async fn plaintext_behind_starttls_ends_the_session() {
    // CVE-2011-0411.
    let (files, (log, _guard)) = (Files::new(), captured());
    let lab = files.lab("starttls", "").await;
    let admin = lab.admin().await;
    let mut client = lab.client().await;
    client.write(b"STARTTLS\r\nMAIL FROM:<a@evil.test>\r\n").await;
    let said = client.rest().await;
    assert!(said.starts_with("554 5.5.0 ") && !said.contains("220 "), "{said}");
    wait_for(|| log.text().contains("a client sent plaintext behind STARTTLS")).await;
    // In a segment of its own it stands where the ClientHello must be.
    let mut client = lab.client().await;
    assert!(client.command("STARTTLS").await.starts_with("220 "));
    client.write(b"MAIL FROM:<a@evil.test>\r\n").await;
    assert!(!client.rest().await.contains("250"));
    wait_for(|| log.text().contains("the TLS handshake with a client failed")).await;
    let (_, metrics) = danelaw::admin::client::ask(&admin, "/metrics").await.unwrap();
    for result in ["injected", "failed"] {
        let line = format!("danelaw_client_handshakes_total{{result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    // An argument is an error (RFC 3207 §4), and no handshake begins.
    let mut client = lab.client().await;
    assert!(client.command("STARTTLS now").await.starts_with("501 5.5.4 "));
    assert!(client.command("NOOP").await.starts_with("250 "));
}

#[tokio::test]
async fn a_certificate_is_a_way_onto_the_allow_list() {
    // H16, I26.
    let (files, (log, _guard)) = (Files::new(), captured());
    let pinned = Identity::for_name("pinned.client.test");
    let digest = pinned.record("3 1 1")[6..].to_owned();
    let more = format!("{ELSEWHERE}{}, client_keys = ['{digest}']", files.client_ca());
    let lab = files.lab("required", &more).await;
    let known = files.clients.issue("client.test");
    for (version, identity) in [
        (&rustls::version::TLS13, &known),
        (&rustls::version::TLS12, &known),
        (&rustls::version::TLS13, &pinned),
        (&rustls::version::TLS12, &pinned),
    ] {
        let side = ClientSide { version, ..ClientSide::new(&files.servers, Some(identity)) };
        let mut client = Client::connect(&lab.address).await.start_tls(&side).await;
        client.command("EHLO client.test").await;
        let answers = client.send(&["b@example.test"], MESSAGE).await;
        assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    }
    wait_for(|| log.text().contains(" client_certificate=\"verified\" ")).await;
    let (stranger, expired) = (Identity::for_name("x.test"), files.clients.issue_expired("client.test"));
    let of_server = files.servers.issue("client.test");
    // The search for a path would try all orders of these.
    let mut long = Identity::for_name("x.test");
    long.chain.extend((0..5).map(|_| files.clients.certificate.clone()));
    for (identity, no) in [
        (None, "554 5.7.1 you may not send mail through this host without a certificate"),
        (
            Some(&stranger),
            "451 4.7.1 your certificate does not let you send mail through this host: no CA of client_ca",
        ),
        (
            Some(&of_server),
            "451 4.7.1 your certificate does not let you send mail through this host: no CA of client_ca",
        ),
        (Some(&expired), "451 4.7.1 your certificate does not let you send mail through this host: it has expired"),
        (
            Some(&long),
            "451 4.7.1 your certificate does not let you send mail through this host: its chain has more than 4",
        ),
    ] {
        let mut client = Client::connect(&lab.address).await;
        client.command("EHLO client.test").await;
        assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("530 5.7.0 "));
        let mut client = client.start_tls(&ClientSide::new(&files.servers, identity)).await;
        client.command("EHLO client.test").await;
        let reply = client.command("MAIL FROM:<a@client.test>").await;
        assert!(reply.starts_with(no), "{reply}");
        assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("503 "));
        assert!(client.command("QUIT").await.starts_with("221 "));
    }
    wait_for(|| log.text().matches("turned away: not on the allow-list of this listener, and without").count() == 5)
        .await;
    assert!(log.text().contains("certificate not-verified: it has expired"), "{}", log.text());
    assert_eq!(lab.mx().messages().len(), 4);
    // An allowed address needs no certificate, and may show any.
    let lab = files.lab("starttls", &files.client_ca()).await;
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    for identity in [None, Some(&stranger), Some(&expired), Some(&known)] {
        let side = ClientSide::new(&files.servers, identity);
        let mut client = Client::connect(&lab.address).await.start_tls(&side).await;
        client.command("EHLO client.test").await;
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
}

#[tokio::test]
async fn a_copied_certificate_opens_nothing() {
    // A-22, on our side: the client must hold the key.
    let files = Files::new();
    let lab = files.lab("required", &format!("{ELSEWHERE}{}", files.client_ca())).await;
    let copied = files.clients.issue("client.test");
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(files.servers.certificate.clone()).unwrap();
            roots
        });
    let other = copied.clone().with_wrong_key();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&other.private_key()).unwrap();
    let certified = rustls::sign::CertifiedKey::new(copied.chain.clone(), key);
    let config = config.with_client_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let mut stream = tokio::net::TcpStream::connect(lab.port()).await.unwrap();
    let mut said = vec![0; 1000];
    for command in ["", "EHLO client.test\r\n", "STARTTLS\r\n"] {
        stream.write_all(command.as_bytes()).await.unwrap();
        let _ = stream.read(&mut said).await.unwrap();
    }
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let shaken = connector.connect("danelaw.test".try_into().unwrap(), stream).await;
    let mut rest = String::new();
    if let Ok(mut stream) = shaken {
        let _ = stream.write_all(b"EHLO client.test\r\n").await;
        let _ = stream.read_to_string(&mut rest).await;
    }
    assert_eq!(rest, "");
}

#[tokio::test]
async fn uncertified_clients_get_little() {
    // H16, A-91, A-95: few octets, few commands, few at a time.
    let files = Files::new();
    let lab = files.lab("starttls", &format!("{ELSEWHERE}{}", files.client_ca())).await;
    for sent in ["NOOP\r\n".repeat(11), "x".repeat(100_000), "EHLO c\r\nBDAT 100000000\r\n".to_owned()] {
        let mut client = Client::connect(&lab.address).await;
        // danelaw may close before it has read all.
        let _ = client.try_write(sent.as_bytes()).await;
        client.rest().await;
    }
    wait_for(|| lab.sessions() == 0).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(Client::connect(&lab.address).await);
    }
    let mut late = Client::silent(&lab.address).await;
    assert!(late.reply().await.starts_with("421 4.3.2 "));
    drop(waiting);
    wait_for(|| lab.sessions() == 0).await;
    Client::connect(&lab.address).await;
    // With implicit TLS no octet goes in the clear.
    let lab = files.lab("implicit", ELSEWHERE).await;
    assert_eq!(Client::silent(&lab.address).await.rest().await, "");
}

/// The replies of a session to a client that sends this and then waits. The clock of the test is stopped.
async fn heard(lab: &Lab, caller: Caller, sent: &str) -> (String, Duration) {
    let (mut client, ours) = tokio::io::duplex(4096);
    let began = tokio::time::Instant::now();
    let served = tokio::spawn(session::serve(lab.shared.clone(), ours, caller, Stop::default()));
    client.write_all(sent.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    served.await.unwrap();
    (String::from_utf8(said).unwrap(), began.elapsed())
}

#[tokio::test]
async fn silent_clients_do_not_stay() {
    let files = Files::new();
    let lab = Scenario::new().set(&files.listener("starttls", &files.client_ca())).remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    let listener = lab.now().listeners[0].clone();
    let caller = || Caller { listener: listener.clone(), ..crate::lab::caller(Origin::UnixSocket, Service::Smtp) };
    // A handshake that does not come.
    let (said, elapsed) = heard(&lab, caller(), "EHLO c\r\nSTARTTLS\r\n").await;
    assert!(said.ends_with("220 2.0.0 ready to start TLS\r\n"), "{said}");
    assert!((2..3).contains(&elapsed.as_secs()), "{elapsed:?}");
    // An uncertified client has thirty seconds in all.
    for sent in ["", "EHLO c\r\n", "EHLO c\r\nNOOP\r\n"] {
        let place = std::sync::Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let (_, elapsed) = heard(&lab, Caller { admission: Admission::Uncertified(place), ..caller() }, sent).await;
        assert_eq!(elapsed.as_secs(), 30, "{sent:?}");
    }
}

#[tokio::test]
async fn a_reload_reads_certificate_and_key_again() {
    // H17.
    let files = Files::new();
    let lab = files.lab("required", "").await;
    let shown = async |authority: &Authority| {
        let mut client = Client::connect(&lab.address).await;
        client.command("EHLO client.test").await;
        client.command("STARTTLS").await;
        client.under_tls(&ClientSide::new(authority, None)).await.is_ok()
    };
    assert!(shown(&files.servers).await);
    let next = Authority::named("next");
    files.write(&next.issue("danelaw.test"));
    assert!(shown(&files.servers).await && !shown(&next).await, "before the reload");
    lab.reload("");
    assert!(!shown(&files.servers).await && shown(&next).await);
}

#[tokio::test]
async fn a_certificate_that_a_reload_has_revoked_ends_its_session_between_two_mails() {
    // H16, H17.
    let (files, (log, _guard)) = (Files::new(), captured());
    let pinned = Identity::for_name("pinned.client.test");
    let digest = pinned.record("3 1 1")[6..].to_owned();
    let with = |keys: &str| format!("{ELSEWHERE}{}, client_keys = [{keys}]", files.client_ca());
    let lab = files.lab("required", &with(&format!("'{digest}'"))).await;
    let known = files.clients.issue("client.test");
    let mut clients = Vec::new();
    for identity in [&known, &pinned] {
        let side = ClientSide::new(&files.servers, Some(identity));
        let mut client = Client::connect(&lab.address).await.start_tls(&side).await;
        client.command("EHLO client.test").await;
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
        clients.push(client);
    }
    // A reload that leaves them alone.
    lab.reload("");
    for client in &mut clients {
        assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    }
    // The key is taken off, and another CA takes the place of the one before. A transaction ends as it began.
    let [mut open, mut idle] = <[_; 2]>::try_from(clients).ok().unwrap();
    assert!(open.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    fs::write(files.path("clients.pem"), pem("CERTIFICATE", &Authority::named("next").certificate)).unwrap();
    lab.reload(&files.listener("required", &with("")));
    let no = "421 4.7.1 your certificate no longer lets you send mail through this host";
    assert!(idle.command("MAIL FROM:<a@client.test>").await.starts_with(no));
    assert_eq!(idle.rest().await, "");
    assert!(open.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    assert!(open.command("DATA").await.starts_with("354 "));
    assert!(open.command("Subject: x\r\n\r\nbody\r\n.").await.starts_with("250 2.0.0 "));
    assert!(open.command("MAIL FROM:<a@client.test>").await.starts_with(no));
    wait_for(|| {
        log.text().matches("at a reload the client's certificate was found not to open the listener").count() == 2
    })
    .await;
    assert_eq!(lab.mx().messages().len(), 5);
}

fn files_of(folder: &Path) -> ServerFiles {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
    ServerFiles { certificate, key, client_ca: None, client_keys: Vec::new() }
}

#[test]
fn files_that_are_of_no_use_are_named() {
    // H17.
    let files = Files::new();
    let [chain, key] = Identity::for_name("danelaw.test").pem();
    let [_, other] = Identity::for_name("other.test").pem();
    for (certificate, private, why) in [
        (Some(&chain), Some(&key), None),
        // Both in one file, in either order.
        (Some(&format!("{key}{chain}")), Some(&format!("{chain}{key}")), None),
        (Some(&chain), Some(&other), Some("/key.pem does not belong to the first certificate in ")),
        (
            Some(&key),
            Some(&key),
            Some("certificate.pem is no list of certificates in PEM form: there is no certificate in it"),
        ),
        (Some(&chain), Some(&chain), Some("key.pem has no private key in PEM form: there is none in it")),
        (None, Some(&key), Some("listener.certificate: cannot read ")),
        (Some(&chain), None, Some("listener.key: cannot read ")),
        (Some(&String::new()), Some(&key), Some("there is no certificate in it")),
    ] {
        for (name, text) in [("certificate.pem", certificate), ("key.pem", private)] {
            let _ = fs::remove_file(files.path(name));
            text.into_iter().for_each(|text| fs::write(files.path(name), text).unwrap());
        }
        let loaded = ServerTls::load(&files_of(files.folder.path())).map(drop);
        let loaded = loaded.map_err(|error| format!("{}: {error}", error.key()));
        match (loaded, why) {
            (Ok(()), None) => {}
            (Err(error), Some(why)) => assert!(error.contains(why), "{error}"),
            (loaded, why) => panic!("{loaded:?} in place of {why:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_stops_the_start() {
    // H17.
    let files = Files::new();
    fs::write(files.path("key.pem"), &Identity::for_name("other.test").pem()[1]).unwrap();
    fs::write(files.path("danelaw.toml"), files.listener("required", "")).unwrap();
    for arguments in [&["run"][..], &["config", "check"]] {
        let mut command = program();
        command.args(arguments).arg("--config").arg(files.path("danelaw.toml"));
        let said = said(command, "").await;
        assert_eq!(said.status, 78, "{said:?}");
        assert!(said.err.contains("does not belong to the first certificate in "), "{said:?}");
    }
}
