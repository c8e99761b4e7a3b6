//! An operator mistypes, gives the wrong file or asks the wrong program. Each message names the key or file and says what to do, and
//! the exit status is the one of the manual.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{Said, danelaw, said};

async fn run(arguments: &[&str]) -> Said {
    let mut command = danelaw();
    command.args(["--config", "/dev/null"]).args(arguments);
    said(command, "").await
}

#[tokio::test]
async fn a_wrong_argument_or_file_is_named_with_its_remedy() {
    for (arguments, status, parts) in [
        (
            &["resolve", "a..b", "MX"][..],
            64,
            &["\"a..b\" is no name that can be asked for: it has an empty label", "danelaw resolve"][..],
        ),
        (&["rules", "suggest", "a..b"], 64, &["invalid value 'a..b'", "it has an empty label"]),
        (&["tlsrpt", "show"], 78, &["tlsrpt.mode is empty", "set it to \"send\"", "restart danelaw"]),
        (&["tlsrpt", "key", "/etc/passwd"], 73, &["/etc/passwd: it holds no private key", "that is not there yet"]),
        (&["tlsrpt", "key", "/etc"], 73, &["/etc: Is a directory"]),
        (&["tlsrpt", "key", "/nonexistent/x"], 73, &["/nonexistent/x: No such file", "its directory must be there"]),
        (&["store", "check"], 78, &["store.url: it is empty", "set it, as in postgresql://"]),
        // A fault that shows when the value is used has its place in every command that uses it.
        (&["--set", "log.filter=verbose"], 78, &["log.filter: \"verbose\" is no level", "(in --set log.filter)"]),
        (&["config", "check", "--set", "log.filter=verbose"], 78, &["(in --set log.filter)"]),
        (&["config", "show", "--set", "log.filter=verbose"], 78, &["(in --set log.filter)"]),
        (
            &["check", "a.test", "--set", "tls.ca=/nowhere"],
            78,
            &["tls.ca: cannot read /nowhere: ", "(in --set tls.ca)"],
        ),
        (
            &["config", "show", "--set", "dns.root_hints=/nowhere", "--set", "dns.servers=[\"recurse\"]"],
            78,
            &["(in --set dns.root_hints)"],
        ),
        (&["resolve", "a.test", "MX", "--trust-anchor", "/nowhere"], 78, &["danelaw: --trust-anchor: "]),
        (
            &["--set", "listener=[{address=\"192.0.2.1:9\",allow=[\"192.0.2.2\"]}]"],
            71,
            &["listener.address: listener 1: ", "(in --set listener)"],
        ),
        (
            &["watch", "--state", "/nonexistent/x"],
            75,
            &["/nonexistent/x is not there", "`danelaw watch --once` makes it"],
        ),
        (&["watch", "--state", "/etc/passwd"], 71, &["/etc/passwd is no state of danelaw watch", "give another file"]),
        (
            &["watch", "--once", "--state", "/nonexistent/x", "--file", "/nonexistent/y"],
            71,
            &["--file: /nonexistent/y: No such file"],
        ),
        (
            &["config", "check", "--set", "remote.allow_reserved=['10.0.0.0/8']"],
            78,
            &["remote.allow_reserved: ", "write double quotes"],
        ),
        (
            &["config", "check", "--set", "tls.level.x=1"],
            78,
            &["tls.level: \"x\" is not allowed; it may be one of: dane, "],
        ),
        (&["config", "check", "--set", "remote.source_ipv4=::1"], 78, &["it is no IPv4 address such as 192.0.2.1"]),
        (&["config", "check", "--set", "store.url=postgresql://d@h/d?sslmode=no"], 78, &["disable or verify-full"]),
        (&["--set", "store.path=/etc/passwd"], 71, &["/etc/passwd is no store of danelaw", "give another path"]),
        (
            &["--set", "listener=[{address=\"unix:/etc/passwd\"}]"],
            71,
            &[
                "listener.address: listener 1: cannot listen on unix:/etc/passwd: there is a file that is no socket; give another path",
            ],
        ),
        (
            &["status", "--set", "admin.address=127.0.0.1:9"],
            69,
            &["no danelaw answers at 127.0.0.1:9", "`danelaw config show`"],
        ),
    ] {
        let said = run(arguments).await;
        assert_eq!(said.status, status, "{arguments:?}: {}", said.err);
        for part in parts {
            assert!(said.err.contains(part), "{part:?} is not in {}", said.err);
        }
    }
}

#[tokio::test]
async fn a_file_of_the_store_that_is_of_no_use_is_an_error_of_the_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate\n").unwrap();
    let path = file.path().display();
    let url = "store.url=postgresql://danelaw@127.0.0.1:9/danelaw?sslmode=verify-full";
    for (key, value, said_of) in [
        ("store.ca", format!("{path}"), "is no list of certificates in PEM form"),
        ("store.ca", "/nowhere".to_owned(), "cannot read /nowhere"),
        ("store.password_file", "/nowhere".to_owned(), "/nowhere: No such file"),
        ("store.pepper_file", format!("{path}"), "it has less than 32 octets"),
    ] {
        let set = format!("{key}={value}");
        for command in [&["config", "check"][..], &["config", "show"], &["run"]] {
            let said = run(&[command, &["--set", url, "--set", &set]].concat()).await;
            assert_eq!(said.status, 78, "{command:?} {set}: {}", said.err);
            assert!(said.err.starts_with(&format!("danelaw: {key}: ")) && said.err.contains(said_of), "{}", said.err);
            assert!(said.err.ends_with(&format!("(in --set {key})\n")), "{}", said.err);
        }
    }
}

#[tokio::test]
async fn a_variable_is_told_by_its_name() {
    for (name, value, said_of) in [
        ("DANELAW_TLS.LEVEL", "x", "tls.level: \"x\" is not allowed; "),
        ("DANELAW_TLS__LEVEL", "x", "tls.level: \"x\" is not allowed; "),
        ("danelaw_log__filter", "x", "log.filter: \"x\" is no level "),
        ("DANELAW_TLS__", "x", "tls.\"\": there is no such key; "),
        ("DANELAW_", "x", "\"\": there is no such key; "),
    ] {
        let mut command = danelaw();
        command.args(["--config", "/dev/null", "config", "check"]).env(name, value);
        let said = said(command, "").await;
        assert_eq!(said.status, 78, "{name}: {}", said.err);
        let line = said.err.lines().find(|line| line.starts_with(&format!("danelaw: {said_of}")));
        assert!(line.is_some_and(|line| line.ends_with(&format!("(in {name})"))), "{}", said.err);
    }
}

/// A web server that answers each request with a page.
async fn web_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let page =
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/html;charset=utf-8\r\nContent-Length: 5\r\n\r\n<p>no";
            let _ = stream.write_all(page.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn another_program_at_the_admin_port_is_not_taken_for_danelaw() {
    let address = format!("admin.address={}", web_server().await);
    for command in ["status", "ready", "explain", "watch", "report"] {
        let said = run(&[command, "--set", &address]).await;
        assert!(said.status == 69 && said.err.contains("this is another program"), "{command}: {said:?}");
    }
}
