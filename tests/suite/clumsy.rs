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
        (&["config", "check", "--set", "tls.level.x=1"], 78, &["it must be one of its words, in quotes"]),
        (&["config", "check", "--set", "remote.source_ipv4=::1"], 78, &["it is no IPv4 address such as 192.0.2.1"]),
        (&["config", "check", "--set", "store.url=postgresql://d@h/d?sslmode=no"], 78, &["disable or verify-full"]),
        (&["--set", "store.path=/etc/passwd"], 71, &["/etc/passwd is no store of danelaw", "give another path"]),
        (
            &["--set", "listener=[{address=\"unix:/etc/passwd\"}]"],
            71,
            &[
                "listener.address: cannot listen on unix:/etc/passwd: there is a file that is no socket; give another path",
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
