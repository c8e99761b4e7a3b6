//! Connections to the database: the servers that are trusted, the faults that end the start, and the secrets that no output shows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use danelaw::journal::{OpenError, Unclaimed};
use danelaw::store::{DatabaseSettings, Migration, Store};

use super::server::{Server, give, settings};
use super::{claim, message, replica};
use crate::journal::pair;
use crate::lab::certs::{Authority, Identity};
use crate::lab::free_port;
use crate::process::danelaw;

/// The secret that no output shows.
const SECRET: &str = "hush-hush-7461";

/// Why a start is refused.
async fn refused(settings: DatabaseSettings) -> String {
    match Store::connect(settings).await {
        Err(OpenError::Database(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is taken"),
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines = STANDARD.encode(der);
    let lines: Vec<&str> = lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A server on a port of loopback, with this certificate if it has TLS.
fn on_a_port(identity: Option<&Identity>) -> (Server, u16) {
    let port = free_port();
    let folder = tempfile::Builder::new().prefix("pk").tempdir_in("/tmp").unwrap();
    give(folder.path());
    let mut changes = vec!["listen_addresses=127.0.0.1".to_owned(), format!("port={port}")];
    if let Some(identity) = identity {
        let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
        fs::write(&certificate, pem("CERTIFICATE", &identity.chain[0])).unwrap();
        fs::write(&key, pem("PRIVATE KEY", &identity.key)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        [&certificate, &key].into_iter().for_each(|file| give(file));
        changes.push("ssl=on".to_owned());
        changes.push(format!("ssl_cert_file={}", certificate.display()));
        changes.push(format!("ssl_key_file={}", key.display()));
    }
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    let server = Server::start_on(port, &changes);
    (server, port)
}

fn verified(port: u16, ca: Option<&Path>) -> DatabaseSettings {
    let mut settings = settings(&format!("postgresql://danelaw@localhost:{port}/danelaw?sslmode=verify-full"));
    settings.ca = ca.map(Path::to_owned);
    settings
}

/// V21.
#[tokio::test]
async fn v21_the_server_is_verified_by_its_name_and_ca() {
    let (ours, folder) = (Authority::named("ours"), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, pem("CERTIFICATE", &ours.certificate)).unwrap();
    let right = ours.issue("localhost");
    let (_server, port) = on_a_port(Some(&right));
    assert!(Store::connect(verified(port, Some(&ca))).await.unwrap().figures().is_up);
    // No CA that is built in has issued it.
    let text = refused(verified(port, None)).await;
    assert!(text.contains("UnknownIssuer"), "{text}");
    let (_server, port) = on_a_port(Some(&ours.issue("db.other.test")));
    let text = refused(verified(port, Some(&ca))).await;
    assert!(text.contains("not valid for name"), "{text}");
    let (_server, port) = on_a_port(Some(&Authority::named("theirs").issue("localhost")));
    let text = refused(verified(port, Some(&ca))).await;
    assert!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "{text}");
}

/// V21.
#[tokio::test]
async fn v21_a_server_without_tls_is_for_this_machine_alone() {
    let (_server, port) = on_a_port(None);
    let text = refused(verified(port, None)).await;
    assert!(text.contains("does not support TLS"), "{text}");
    for host in ["localhost", "127.0.0.1"] {
        let settings = settings(&format!("postgresql://danelaw@{host}:{port}/danelaw"));
        assert!(Store::connect(settings).await.unwrap().figures().is_up);
    }
}

/// V22.
#[tokio::test]
async fn v22_a_password_is_read_at_each_connection_and_shown_nowhere() {
    let mut server = Server::start();
    server.sql(&format!("ALTER ROLE danelaw PASSWORD '{SECRET}'"));
    let folder = tempfile::tempdir().unwrap();
    let (file, rules) = (folder.path().join("password"), server.data().join("pg_hba.conf"));
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let trusting = fs::read(&rules).unwrap();
    fs::write(&rules, "local all all scram-sha-256\n").unwrap();
    server.signal("HUP");
    let mut settings = server.settings();
    settings.password_file = Some(file.clone());
    settings.connections = 1;
    // The server reads its rules in its own time.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let journal = replica(settings.clone()).await;
    let to = [pair("one@a.test")];
    message(&journal, "x", &to).await.release().await;
    assert!(!format!("{settings:?} {journal:?}").contains(SECRET));
    // A wrong one is refused.
    fs::write(&file, format!("{SECRET}-wrong")).unwrap();
    let text = refused(settings.clone()).await;
    assert!(text.contains("password authentication failed") && !text.contains(SECRET), "{text}");
    // A new password holds from the next connection on.
    fs::write(&rules, &trusting).unwrap();
    server.signal("HUP");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server.sql("ALTER ROLE danelaw PASSWORD 'another'");
    fs::write(&rules, "local all all scram-sha-256\n").unwrap();
    fs::write(&file, "another").unwrap();
    server.signal("HUP");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(Store::connect(settings.clone()).await.unwrap().figures().is_up);
    settings.password_file = Some(folder.path().join("missing"));
    let text = refused(settings).await;
    assert!(text.starts_with("store.password_file: "), "{text}");
    fs::write(&rules, trusting).unwrap();
    server.crash();
    server.up();
}

/// V22.
#[test]
fn v22_a_password_in_the_url_is_an_error_that_does_not_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("danelaw.toml");
    fs::write(&file, format!("store.url = 'postgresql://danelaw:{SECRET}@db.test/danelaw'\n")).unwrap();
    for command in [["config", "show"], ["config", "check"], ["store", "check"]] {
        let output = danelaw().arg("--config").arg(&file).args(command).output().unwrap();
        let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(78), "{shown}");
        assert!(shown.contains("store.url: ") && shown.contains("store.password_file"), "{shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

/// V19.
#[tokio::test]
async fn v19_tables_of_another_version_are_used_if_they_say_so() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.migration = Migration::ByHand;
    let text = refused(settings.clone()).await;
    assert!(text.contains("run `danelaw store migrate`"), "{text}");
    settings.migrate().await.unwrap();
    settings.migrate().await.unwrap();
    assert!(Store::connect(settings.clone()).await.unwrap().figures().is_up);
    server.sql("UPDATE danelaw.version SET schema = 5");
    assert!(Store::connect(settings.clone()).await.unwrap().figures().is_up);
    server.sql("UPDATE danelaw.version SET schema = 6, readable_from = 5");
    let text = refused(settings.clone()).await;
    assert!(text.contains("version 6"), "{text}");
    assert!(settings.migrate().await.is_err());
}

/// V19, V20.
#[tokio::test]
async fn v19_v20_tables_of_version_1_are_added_to_once_and_their_danelaw_runs_on() {
    let server = Server::start();
    server.sql(include_str!("../../../src/store/postgres/schema.sql"));
    let (key, pair) = ("sha256('1')", "sha256('2')");
    server.sql(&format!("SELECT * FROM danelaw.claim({key}, 1, 1, 600, 600)"));
    server.sql(&format!("SELECT danelaw.put({key}, 1, 1, 600, ARRAY[{pair}], ARRAY['250 2.0.0 ok'])"));
    let mut by_hand = server.settings();
    by_hand.migration = Migration::ByHand;
    let text = refused(by_hand.clone()).await;
    assert!(text.contains("run `danelaw store migrate`"), "{text}");
    let url = server.url();
    let started: Vec<_> = (0..4).map(|_| tokio::spawn(Store::connect(settings(&url)))).collect();
    for started in started {
        assert!(started.await.unwrap().unwrap().figures().is_up);
    }
    assert!(Store::connect(by_hand).await.is_ok());
    // A danelaw of version 1 asks for `readable_from` alone, and finds its tables and functions.
    assert_eq!(server.sql("SELECT schema, readable_from FROM danelaw.version"), "4|1");
    server.sql(&format!("SELECT danelaw.release({key}, 1, 1)"));
    assert_eq!(server.sql(&format!("SELECT reply FROM danelaw.claim({key}, 2, 1, 600, 600)")), "250 2.0.0 ok");
    assert_eq!(server.sql("SELECT danelaw.tidy(600, 10)"), "0");
}

/// V19.
#[tokio::test]
async fn v19_a_danelaw_of_version_2_adds_counts_and_policies_to_the_tables_of_version_4() {
    let server = Server::start();
    server.sql(include_str!("../../../src/store/postgres/schema.sql"));
    server.sql(include_str!("../../../src/store/postgres/schema_2.sql"));
    assert!(Store::connect(settings(&server.url())).await.unwrap().figures().is_up);
    assert_eq!(server.sql("SELECT schema, readable_from FROM danelaw.version"), "4|1");
    let add = |number: u8, owner: &str| {
        server.sql(&format!(
            "SELECT danelaw.tls_add({number}, 1, 67108864, ARRAY[9], ARRAY['a.test'], {owner} ARRAY['[]'], ARRAY[2])"
        ))
    };
    assert_eq!((add(1, "").as_str(), add(2, "ARRAY['a.test'],").as_str()), ("0", "0"));
    assert_eq!(server.sql("SELECT count FROM danelaw.tls_tallies"), "4");
    server.sql("INSERT INTO danelaw.sts_policies VALUES ('a.test', '1', 'x', danelaw.clock(), danelaw.clock(), NULL, danelaw.clock())");
    assert_eq!(server.sql("SELECT id FROM danelaw.sts_put('a.test', '2', 'x', NULL, 0, 0, NULL)"), "2");
    server.sql("DELETE FROM danelaw.sts_policies WHERE domain = 'a.test' AND fetched <= danelaw.clock()");
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.sts_put('a.test', '2', 'x', 5, 0, 0, NULL)"), "1");
}

#[tokio::test]
async fn a_database_or_role_that_is_not_there_is_an_error_and_a_server_that_is_not_there_is_asked_again() {
    let mut server = Server::start();
    let with = |what: &str, instead: &str| settings(&server.url().replacen(what, instead, 1));
    for (settings, said) in [
        (with("@/danelaw", "@/other"), "\"other\" does not exist"),
        (with("danelaw@", "nobody@"), "\"nobody\" does not exist"),
    ] {
        let text = refused(settings).await;
        assert!(text.contains(said), "{text}");
    }
    server.sql("CREATE ROLE weak LOGIN");
    let text = refused(with("danelaw@", "weak@")).await;
    assert!(text.contains("permission denied"), "{text}");
    server.crash();
    let journal = replica(server.settings()).await;
    let to = [pair("one@a.test")];
    assert!(!journal.store().figures().is_up);
    assert_eq!(claim(&journal, "x", &to).await.err(), Some(Unclaimed::Down));
    server.up();
    message(&journal, "x", &to).await.release().await;
    assert!(journal.store().figures().is_up);
}

#[test]
fn the_command_makes_the_tables_and_looks_at_them() {
    let server = Server::start();
    let url = format!("store.url={}", server.url());
    let run = |command: &[&str]| {
        let output = danelaw().arg("--set").arg(&url).arg("store").args(command).output().unwrap();
        let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), shown)
    };
    let (status, shown) = run(&["check"]);
    assert!(status == 78 && shown.contains("danelaw store migrate"), "{shown}");
    let (status, printed) = run(&["migrate", "--print"]);
    assert!(status == 0 && printed.contains("CREATE TABLE danelaw.records"), "{printed}");
    assert_eq!(run(&["check"]).0, 78);
    assert_eq!(run(&["migrate"]).0, 0);
    let (status, shown) = run(&["check"]);
    assert!(status == 0 && shown.contains("tables:   version 4"), "{shown}");
    server.sql("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA danelaw TO reader");
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA danelaw TO reader");
    let reader = format!("store.url={}", server.url().replacen("danelaw@", "reader@", 1));
    let output = danelaw().args(["--set", &reader, "store", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    server.signal("STOP");
    let (status, shown) = run(&["check"]);
    assert!(status == 69 && shown.contains("cannot be reached"), "{shown}");
    let output = danelaw().args(["store", "check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
}

#[test]
fn a_role_that_may_not_make_tables_is_told_the_command_that_another_one_runs() {
    let server = Server::start();
    server.sql("CREATE ROLE mail LOGIN; REVOKE CREATE ON DATABASE danelaw FROM PUBLIC");
    let run = |role: &str, command: &[&str]| {
        let url = format!("store.url={}", server.url().replacen("danelaw@", role, 1));
        let output = danelaw().args(["--set", &url]).args(command).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let migrate = ["store", "migrate"];
    for command in [&migrate[..], &["--set", "dns.servers=[\"127.0.0.1\"]"]] {
        let (status, shown) = run("mail@", command);
        assert!(status == 78 && shown.contains("danelaw store migrate --set store.url="), "{command:?}: {shown}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'danelaw'"), "0");
    assert_eq!(run("danelaw@", &migrate).0, 0);
    // Now that the tables are there, the role needs no right but those of the manual.
    assert_eq!(run("mail@", &["store", "check"]).0, 78);
    server.sql(
        "GRANT USAGE ON SCHEMA danelaw TO mail; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA danelaw TO mail",
    );
    let (status, shown) = run("mail@", &["store", "check"]);
    assert_eq!(status, 0, "{shown}");
    assert_eq!(run("mail@", &migrate).0, 0);
}

#[test]
fn a_variable_of_the_environment_does_not_change_the_connection() {
    let server = Server::start();
    let url = format!("store.url={}", server.url());
    let migrate = |variable: &str, value: &str| {
        let mut danelaw = danelaw();
        let output = danelaw.env(variable, value).args(["--set", &url, "store", "migrate"]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for variable in ["PGHOST", "PGHOSTADDR", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSSLMODE", "PGAPPNAME"] {
        let (status, shown) = migrate(variable, "wrong");
        assert_eq!(status, 0, "{variable}: {shown}");
    }
    assert_eq!(migrate("PGPORT", "1").0, 0);
    for variable in ["PGOPTIONS", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"] {
        let (status, shown) = migrate(variable, "/wrong");
        assert!(status == 78 && shown.contains(variable), "{shown}");
    }
}
