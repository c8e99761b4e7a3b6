//! Invariants, for any octets in a client's chunks: the positions of the cuts make no difference; a remote that takes
//! lines sees one end of data, however careless it is; and a remote that takes chunks gets the message that the client
//! meant.

use bytes::BytesMut;
use danelaw::smtp::chunk::Chunk;
use danelaw::smtp::command::{Command, CommandError};
use danelaw::smtp::data::{BareNewlines, DataScanner, Scan};
use danelaw::smtp::stuffing::DotStuffer;
use danelaw::transaction::chunks::{Between, between};

pub(crate) fn invariant(input: (u8, u8, &[u8])) {
    let (chunk, piece, octets) = input;
    for bare_newlines in [BareNewlines::Normalize, BareNewlines::Reject] {
        let whole = Scanned::new(octets, bare_newlines, octets.len());
        assert_eq!(Scanned::new(octets, bare_newlines, chunk.into()), whole, "the cuts make no difference");
        match whole.found {
            Scan::More => panic!("the last chunk ends the message"),
            Scan::Rejected(_) => assert_eq!(bare_newlines, BareNewlines::Reject),
            Scan::End => check_message(&whole, octets, piece.into()),
        }
    }
    check_command(octets);
}

#[derive(Debug, PartialEq)]
struct Scanned {
    found: Scan,
    lines: Vec<u8>,
    octets: u64,
    received: usize,
}

impl Scanned {
    fn new(octets: &[u8], bare_newlines: BareNewlines, chunk: usize) -> Self {
        let (mut scanner, mut lines) = (DataScanner::counted(bare_newlines), Vec::new());
        for chunk in octets.chunks(chunk.max(1)) {
            // Each chunk gets a new output, as in a session: the scanner may pass its input on uncopied when it finds
            // the output empty.
            let (mut input, mut output) = (BytesMut::from(chunk), BytesMut::new());
            assert_eq!(scanner.scan(&mut input, &mut output), Scan::More, "no octets of a chunk end the message");
            assert!(input.is_empty(), "every octet belongs to the message");
            lines.extend_from_slice(&output);
        }
        let mut output = BytesMut::new();
        let found = scanner.end(&mut output);
        lines.extend_from_slice(&output);
        Self { found, lines, octets: scanner.octets(), received: scanner.received_headers() }
    }
}

fn check_message(scanned: &Scanned, octets: &[u8], piece: usize) {
    let (mut stuffer, mut sent) = (DotStuffer::default(), Vec::new());
    scanned.lines.chunks(piece.max(1)).for_each(|lines| sent.extend_from_slice(&stuffer.stuff(lines)));
    sent.extend_from_slice(b".\r\n");
    assert_eq!(lax_ends_of_data(&sent), 1, "one end of data for every receiver");
    // If the scanner normalises, a second scan changes no octet: by DATA the same message comes again.
    let (mut data, mut input, mut lines) =
        (DataScanner::new(BareNewlines::Normalize), BytesMut::from(sent.as_slice()), BytesMut::new());
    assert_eq!(data.scan(&mut input, &mut lines), Scan::End);
    assert!(input.is_empty());
    assert_eq!(lines, scanned.lines);

    assert_eq!(scanned.lines, meant(octets), "a remote that takes chunks gets the message that the client meant");
    assert_eq!(scanned.lines.len() as u64, scanned.octets);
}

/// The message that the client meant, in CRLF lines: a bare LF becomes CRLF, and a bare CR becomes a space, as does a
/// NUL that starts a line.
fn meant(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (index, octet) in content.iter().enumerate() {
        match octet {
            b'\n' => lines.extend_from_slice(b"\r\n"),
            b'\r' if content.get(index + 1) == Some(&b'\n') => {}
            b'\r' => lines.push(b' '),
            0 if lines.is_empty() || lines.ends_with(b"\n") => lines.push(b' '),
            octet => lines.push(*octet),
        }
    }
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// A BDAT is read as one or ends the session; the octets after it are never taken for a command.
fn check_command(argument: &[u8]) {
    match Command::parse(&[b"BDAT ", argument].concat()) {
        Ok(Command::Bdat(chunk)) => {
            let written = chunk.to_string();
            assert_eq!(written.strip_prefix("BDAT ").and_then(|text| Chunk::parse(text.as_bytes())), Some(chunk));
            assert_eq!(between(Command::Bdat(chunk)), Between::Chunk(chunk));
        }
        other => assert_eq!(other, Err(CommandError::Chunk)),
    }
}

/// How many ends of data a careless server finds. It ends a line at CR, at LF or at both, and drops NULs, and blanks at
/// the end of a line.
fn lax_ends_of_data(octets: &[u8]) -> usize {
    let octets: Vec<u8> = octets.iter().copied().filter(|octet| *octet != 0).collect();
    octets.split(|octet| matches!(octet, b'\r' | b'\n')).filter(|line| line.trim_ascii_end() == b".").count()
}
