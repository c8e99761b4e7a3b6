//! Invariants, for any octets from a client: no receiver, however careless, sees a second end of data in the octets
//! that danelaw passes on; a strict receiver gets the message that the client meant; and the positions at which reads
//! cut the stream make no difference.

use bytes::BytesMut;
use danelaw::smtp::data::{BareNewlines, DataScanner, Scan};
use danelaw::smtp::stuffing::DotStuffer;

pub(crate) fn invariant(input: (u8, &[u8])) {
    let (piece, octets) = input;
    for bare_newlines in [BareNewlines::Normalize, BareNewlines::Reject] {
        let whole = Scanned::new(octets, bare_newlines, octets.len());
        assert_eq!(Scanned::new(octets, bare_newlines, piece.into()), whole);

        let message = unstuff(octets);
        assert_eq!(whole.found != Scan::More, message.is_some(), "the data end where a strict receiver says");
        match whole.found {
            Scan::More => assert!(lax_ends_of_data(&whole.passed) == 0 && whole.rest.is_empty()),
            Scan::Rejected(_) => assert_eq!(bare_newlines, BareNewlines::Reject),
            Scan::End => check_message(&whole, message.expect("it ended")),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Scanned {
    found: Scan,
    passed: Vec<u8>,
    rest: Vec<u8>,
    octets: u64,
    received: usize,
}

impl Scanned {
    fn new(octets: &[u8], bare_newlines: BareNewlines, piece: usize) -> Self {
        let mut scanner = DataScanner::new(bare_newlines);
        let (mut input, mut passed, mut found) = (BytesMut::new(), Vec::new(), Scan::More);
        let mut stuffer = DotStuffer::default();
        for piece in octets.chunks(piece.max(1)) {
            // Each piece gets a new output, as in a session: the scanner may pass its input on uncopied when it finds
            // the output empty.
            let mut output = BytesMut::new();
            input.extend_from_slice(piece);
            found = scanner.scan(&mut input, &mut output);
            passed.extend_from_slice(&stuffer.stuff(&output));
        }
        Self { found, passed, rest: input.to_vec(), octets: scanner.octets(), received: scanner.received_headers() }
    }
}

fn check_message(scanned: &Scanned, (message, rest): (Vec<u8>, &[u8])) {
    assert_eq!(scanned.rest, rest);
    let sent = [scanned.passed.as_slice(), b".\r\n"].concat();
    assert_eq!(lax_ends_of_data(&sent), 1, "one end of data for every receiver");
    let (received, rest) = unstuff(&sent).expect("it has an end");
    assert!(rest.is_empty());
    assert_eq!(received.len() as u64, scanned.octets);
    assert_eq!(received, normalise(&message), "a strict receiver gets the message that the client meant");
    for (index, octet) in sent.iter().enumerate() {
        match octet {
            b'\r' => assert_eq!(sent.get(index + 1), Some(&b'\n'), "bare CR"),
            b'\n' => assert_eq!(index.checked_sub(1).map(|before| sent[before]), Some(b'\r'), "bare LF"),
            _ => {}
        }
    }
}

/// The message and the octets after it, as a server reads them that knows CRLF only; `None` if the data do not end.
fn unstuff(octets: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut message, mut rest) = (Vec::new(), octets);
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let (line, behind) = rest.split_at(end);
        if line == b".\r\n" {
            return Some((message, behind));
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = behind;
    }
}

/// A bare LF becomes CRLF, and a bare CR becomes a space, as does a NUL that starts a line.
fn normalise(message: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (index, octet) in message.iter().enumerate() {
        match octet {
            b'\n' => lines.extend_from_slice(b"\r\n"),
            b'\r' if message.get(index + 1) == Some(&b'\n') => {}
            b'\r' => lines.push(b' '),
            0 if lines.is_empty() || lines.ends_with(b"\n") => lines.push(b' '),
            octet => lines.push(*octet),
        }
    }
    lines
}

/// How many ends of data a careless server finds. It ends a line at CR, at LF or at both, and drops NULs, and blanks at
/// the end of a line.
fn lax_ends_of_data(octets: &[u8]) -> usize {
    let octets: Vec<u8> = octets.iter().copied().filter(|octet| *octet != 0).collect();
    octets.split(|octet| matches!(octet, b'\r' | b'\n')).filter(|line| line.trim_ascii_end() == b".").count()
}
