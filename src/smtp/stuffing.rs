//! Dot-stuffing (RFC 5321 §4.5.2): after DATA, a line of the message that starts with a dot is sent with one dot more.
//!
//! A message is kept as its lines are. Only the writer of DATA stuffs them, so a message that comes or goes in chunks (BDAT)
//! has no stuffing anywhere. A reader that takes a bare LF, a dot with blanks behind it or a dot behind NULs for the end of
//! data finds none of these: [`DataScanner`](super::data::DataScanner) passes on CRLF lines that do not start with NUL.

use std::ops::Deref;

use bytes::{BufMut, BytesMut};
use memchr::memmem;

use super::block::{STUFFED_OFFSET, block};

/// Stuffs the lines of one message.
#[derive(Debug, Clone)]
pub struct DotStuffer {
    place: StuffingPosition,
}

/// Lines as DATA sends them.
#[derive(Debug)]
pub enum Stuffed<'a> {
    /// No line starts with a dot.
    Same(&'a [u8]),
    /// The lines with their dots, which had to be copied.
    Copied(BytesMut),
}

impl Deref for Stuffed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Same(lines) => lines,
            Self::Copied(lines) => lines,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StuffingPosition {
    LineStart,
    Text,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { place: StuffingPosition::LineStart }
    }
}

impl DotStuffer {
    /// The next octets of the message, cut anywhere, as DATA sends them. Octets without a dot at the start of a line are not
    /// copied.
    pub fn stuff<'a>(&mut self, lines: &'a [u8]) -> Stuffed<'a> {
        let mut dots = self.dots(lines).peekable();
        if dots.peek().is_none() {
            return Stuffed::Same(lines);
        }
        let mut stuffed = block(STUFFED_OFFSET, lines.len() + lines.len() / 8);
        write(lines, dots, &mut stuffed);
        Stuffed::Copied(stuffed)
    }

    /// Appends the same to octets that go with them.
    pub fn stuff_to(&mut self, lines: &[u8], output: &mut BytesMut) {
        write(lines, self.dots(lines), output);
    }

    /// The places of the dots at the start of a line. The next octets are those behind these.
    fn dots<'a>(&mut self, lines: &'a [u8]) -> impl Iterator<Item = usize> + use<'a> {
        let first = (self.place == StuffingPosition::LineStart && lines.starts_with(b".")).then_some(0);
        self.place = match lines.last() {
            Some(b'\n') => StuffingPosition::LineStart,
            Some(_) => StuffingPosition::Text,
            None => self.place,
        };
        first.into_iter().chain(memmem::find_iter(lines, b"\n.").map(|at| at + 1))
    }
}

/// Appends the lines, with one dot more at each of these places.
fn write(lines: &[u8], dots: impl Iterator<Item = usize>, output: &mut BytesMut) {
    let mut done = 0;
    for dot in dots {
        output.extend_from_slice(&lines[done..dot]);
        output.put_u8(b'.');
        done = dot;
    }
    output.extend_from_slice(&lines[done..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuff(blocks: &[&[u8]]) -> Vec<u8> {
        let mut stuffer = DotStuffer::default();
        let stuffed: Vec<u8> = blocks.iter().flat_map(|block| stuffer.stuff(block).to_vec()).collect();
        let (mut stuffer, mut appended) = (DotStuffer::default(), BytesMut::new());
        blocks.iter().for_each(|block| stuffer.stuff_to(block, &mut appended));
        assert_eq!(appended, stuffed);
        stuffed
    }

    #[test]
    fn lines_that_start_with_a_dot_get_another_one() {
        // I13.
        for (blocks, stuffed) in [
            (&[&b""[..]][..], &b""[..]),
            (&[b"."], b".."),
            (&[b".\r\n"], b"..\r\n"),
            (&[b"a.b\r\n"], b"a.b\r\n"),
            (&[b"a\r\n", b".b"], b"a\r\n..b"),
            (&[b"a\r\n", b"", b".b"], b"a\r\n..b"),
            (&[b"a", b".b\r\n.\r\n..\r\nc"], b"a.b\r\n..\r\n...\r\nc"),
        ] {
            assert_eq!(stuff(blocks), stuffed, "{blocks:?}");
        }
    }

    #[test]
    fn other_text_is_not_copied() {
        assert!(matches!(DotStuffer::default().stuff(b"Subject: a\r\n\r\na.b\r\n"), Stuffed::Same(_)));
    }

    proptest! {
        ///
        #[test]
        fn the_cuts_make_no_difference(octets in "[a.\r\n]{0,40}", size in 1_usize..8) {
            let blocks: Vec<&[u8]> = octets.as_bytes().chunks(size).collect();
            prop_assert_eq!(stuff(&blocks), stuff(&[octets.as_bytes()]));
        }
    }
}
