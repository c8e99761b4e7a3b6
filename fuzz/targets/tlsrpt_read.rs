//! Invariant: the text for any octets of a TLS report has printable ASCII and lines of bounded length alone, and the JSON is one
//! line of it.

use danelaw::tlsrpt::read::reports;
use danelaw::tlsrpt::read::words::{ShownPart, explain, line};

pub(crate) fn invariant(octets: &[u8]) {
    for found in reports(octets, Some("mx.example")).flatten() {
        let text = explain(&found, ShownPart::All).expect("a string is written to");
        assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{text:?}");
        assert!(text.lines().all(|line| line.len() < 1200), "{text:?}");
        let json = line(&found);
        assert!(json.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{json:?}");
    }
}
