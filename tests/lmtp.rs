//! LMTP and PRDR: recipients that are answered one by one, to the end (RFC 2033 §4.2).

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use danelaw::config::Config;
use danelaw::server::{Door, Drained};
use lab::Scenario;

/// A listener's table with one kind and address.
fn listener(kind: &str, address: &str) -> String {
    format!("listener = [{{ kind = '{kind}', address = '{address}' }}]")
}

fn lmtp() -> String {
    listener("lmtp", "127.0.0.1:0")
}

#[tokio::test]
async fn lhlo_and_nothing_else() {
    let lab = Scenario::new().set(&lmtp()).start().await;
    let mut client = lab.client().await;
    // J1.
    for other in ["EHLO client.test", "HELO client.test"] {
        assert!(client.command(other).await.starts_with("500 5.5.1 "));
    }
    // J6: what RFC 2033 §5 asks for; LIMITS and PRDR are for those who are answered once.
    let offered = client.command("LHLO client.test").await;
    let offered: Vec<_> = offered.lines().skip(1).map(|line| &line[4..]).collect();
    assert_eq!(offered, ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]);
    // J2.
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("DATA").await.starts_with("503 5.5.1 "));
    // And SMTP is no LMTP.
    let lab = Scenario::new().start().await;
    assert!(lab.client().await.command("LHLO client.test").await.starts_with("500 5.5.1 "));
}

#[tokio::test]
async fn a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lmtp.sock");
    let at = path.display();
    let owner = std::fs::metadata(directory.path()).unwrap();
    let (user, group) = (owner.uid(), owner.gid());
    let setting =
        format!("listener = [{{ kind = 'lmtp', address = 'unix:{at}', mode = '0640', owner = '{user}:{group}' }}]");
    let mut lab = Scenario::new().set(&setting).start().await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let mut client = lab.lmtp_client().await;
    let answers = client.send(&["b@example.test"], lab::MESSAGE).await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{answers:?}");
    let stored = String::from_utf8(lab.mx().messages().remove(0)).unwrap();
    let trace = "Received: from client.test (unix socket)\r\n\tby danelaw.test (danelaw) with LMTP id ";
    assert!(stored.starts_with(trace), "{stored}");
    // Somebody listens: nobody else can take the place.
    assert!(open(&path).unwrap_err().to_string().contains("another program listens"));
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Clean);
    assert!(!path.exists(), "removed at the end");
    // What a dead predecessor left is replaced, what is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(open(&path).unwrap());
    std::fs::write(&path, "mine").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("no socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

fn open(path: &Path) -> std::io::Result<Door> {
    let mut table: toml::Table = danelaw::config::DEFAULTS.parse().unwrap();
    table.extend(listener("lmtp", &format!("unix:{}", path.display())).parse::<toml::Table>().unwrap());
    let config: Config = table.try_into().unwrap();
    Door::open(&config.listener[0])
}
