//! How tests and benchmarks get the port of a server that they start.

use std::fs;
use std::path::Path;

use super::requirements::{files, root};

/// Whether the code binds a port only to learn its number. The socket is closed at the end of that statement, and before the
/// server binds the port, the system may give it to a connection or to a question over UDP.
fn drops_its_port(code: &str) -> bool {
    let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
    code.match_indices(".local_addr()").any(|(at, _)| {
        let before = code[..at].trim_end_matches(".unwrap()").trim_end_matches(".await");
        let statement = &before[before.rfind([';', '{', '=']).map_or(0, |end| end + 1)..];
        before.ends_with(')') && statement.contains("::bind(")
    })
}

#[test]
fn no_port_is_free_by_chance() {
    let found: Vec<_> = files()
        .into_iter()
        .filter(|file| file != Path::new(file!()))
        .filter(|file| drops_its_port(&fs::read_to_string(root().join(file)).unwrap()))
        .collect();
    assert!(found.is_empty(), "the port comes from lab::free_port: {found:?}");
}

#[test]
fn dropped_ports_are_found() {
    for (code, drops) in [
        ("let at = UdpSocket::bind(\"127.0.0.1:0\").unwrap().local_addr().unwrap();", true),
        ("let at = TcpListener::bind(any)\n    .await\n    .unwrap()\n    .local_addr();", true),
        ("let socket = UdpSocket::bind(any).unwrap();\nlet at = socket.local_addr();", false),
        ("if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {", false),
    ] {
        assert_eq!(drops_its_port(code), drops, "{code}");
    }
}
