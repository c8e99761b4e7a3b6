//! Lines: the octets up to a CRLF, and how many of them danelaw is willing to hold.
//!
//! Commands and replies are lines, and only a CRLF ends a line (RFC 5321 §2.3.8). Two faults occur in lines. Some never
//! end, so a [`LineDecoder`] holds at most its limit and drops the rest until the CRLF comes (§4.5.3.1.4, §4.5.3.1.5).
//! And some end with a bare LF, where two readers may disagree about the octets after it: the decoder reports this and
//! leaves the verdict to its caller. Commands are refused one by one ([`super::command`]) and replies all at once
//! ([`super::reply`]).
//!
//! The content of a line does not matter here; a bare CR inside a line is passed on for the caller to refuse.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memmem};

/// A line that [`LineDecoder::decode`] took off the front of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line within the limit, without its CRLF.
    Complete(Bytes),
    /// A line beyond the limit. It is gone, its CRLF too: the buffer goes on with the next line. Here are its first
    /// four octets, the length of the verbs that change the meaning of the octets after them.
    TooLong(Bytes),
    /// A line that ended with a LF alone. It is off the buffer, its LF too, and here without them.
    BareLineFeed(Bytes),
}

/// Cuts a byte stream into lines, holding no more than one line of the permitted length.
#[derive(Debug, Clone)]
pub struct LineDecoder {
    /// Longest line, CRLF included, as RFC 5321 §4.5.3.1 counts.
    limit: usize,
    /// Octets at the front of the buffer that are known to hold no LF, so that slow input is not searched again.
    searched: usize,
    state: LineState,
    /// How the line that is skipped began.
    start: Bytes,
}

/// As much of a line that is too long is kept.
const START: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    Collecting,
    Skipping,
}

impl LineDecoder {
    /// A decoder for lines of at most `limit` octets, their CRLF included.
    pub fn new(limit: usize) -> Self {
        Self { limit, searched: 0, state: LineState::Collecting, start: Bytes::new() }
    }

    /// Takes one line off the front of `buffer`; `None` asks for more input.
    ///
    /// Between a `None` and the next call the caller only appends to the buffer.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        match self.state {
            LineState::Collecting => self.collect(buffer),
            LineState::Skipping => self.skip(buffer),
        }
    }

    /// Whether the line that is being read is too long already, its end still out of sight.
    ///
    /// For a reader that will not wait for the CRLF of a line that it can only refuse.
    pub fn is_skipping(&self) -> bool {
        self.state == LineState::Skipping
    }

    fn collect(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        let window = buffer.len().min(self.limit);
        let searched = self.searched.min(window);
        let Some(found) = memchr(b'\n', &buffer[searched..window]) else {
            if buffer.len() < self.limit {
                self.searched = window;
                return None;
            }
            self.searched = 0;
            self.state = LineState::Skipping;
            self.start = Bytes::copy_from_slice(&buffer[..buffer.len().min(START)]);
            return self.skip(buffer);
        };
        self.searched = 0;
        let mut line = buffer.split_to(searched + found + 1).freeze();
        if !line.ends_with(b"\r\n") {
            line.truncate(line.len() - 1);
            return Some(Line::BareLineFeed(line));
        }
        line.truncate(line.len() - 2);
        Some(Line::Complete(line))
    }

    /// Drops the rest of a line that is too long. A bare LF does not end it: the client did not mean the octets behind
    /// that LF to be a command.
    fn skip(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        if let Some(found) = memmem::find(buffer, b"\r\n") {
            buffer.advance(found + 2);
            self.state = LineState::Collecting;
            return Some(Line::TooLong(std::mem::take(&mut self.start)));
        }
        // The LF to a CR at the very end may be the next octet to come.
        let kept = usize::from(buffer.ends_with(b"\r"));
        buffer.advance(buffer.len() - kept);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the pieces one after the other, each as one read would.
    fn decode(limit: usize, pieces: &[&[u8]]) -> (Vec<Line>, BytesMut) {
        let (mut decoder, mut buffer, mut lines) = (LineDecoder::new(limit), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(line) = decoder.decode(&mut buffer) {
                lines.push(line);
            }
            assert!(buffer.len() <= limit, "held {} octets of at most {limit}", buffer.len());
        }
        (lines, buffer)
    }

    fn bare(text: &'static str) -> Line {
        Line::BareLineFeed(Bytes::from_static(text.as_bytes()))
    }

    fn complete(text: &'static str) -> Line {
        Line::Complete(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn only_crlf_ends_a_line() {
        for (input, lines) in [
            (&b"a\r\nb\r\n"[..], vec![complete("a"), complete("b")]),
            (b"\r\n", vec![complete("")]),
            // A bare CR does not end a line; the reader of the line refuses it.
            (b"a\rb\r\n", vec![complete("a\rb")]),
            (b"a\r\r\n", vec![complete("a\r")]),
            // I11, A-61: a bare LF is not passed over in silence.
            (b"a\nb\r\n", vec![bare("a"), complete("b")]),
            (b"\n\r\n", vec![bare(""), complete("")]),
        ] {
            assert_eq!(decode(16, &[input]), (lines, BytesMut::new()), "{input:?}");
        }
    }

    #[test]
    fn a_line_of_the_limit_is_a_line_and_one_octet_more_is_not() {
        // I6: 512 octets with the CRLF.
        for (length, is_line) in [(510, true), (511, false), (5000, false)] {
            let text = "x".repeat(length);
            let input = format!("{text}\r\nNOOP\r\n");
            let (lines, _) = decode(512, &[&input.as_bytes()[..500], &input.as_bytes()[500..]]);
            let first = if is_line { Line::Complete(text.into()) } else { Line::TooLong("xxxx".into()) };
            // In sync again: the next command is read.
            assert_eq!(lines, [first, complete("NOOP")]);
        }
    }

    #[test]
    fn an_overlong_line_is_dropped_as_it_comes() {
        // A-87: a line without an end takes no memory; a bare LF in it does not make its rest a command.
        let piece = [b'x'; 4096];
        let (mut decoder, mut buffer) = (LineDecoder::new(512), BytesMut::new());
        for _ in 0..1000 {
            buffer.extend_from_slice(&piece);
            assert_eq!(decoder.decode(&mut buffer), None);
            assert!(decoder.is_skipping() && buffer.is_empty());
        }
        buffer.extend_from_slice(b"\nRCPT TO:<x@y>\r");
        assert_eq!(decoder.decode(&mut buffer), None);
        buffer.extend_from_slice(b"\nNOOP\r\n");
        assert_eq!(decoder.decode(&mut buffer), Some(Line::TooLong("xxxx".into())));
        assert_eq!(decoder.decode(&mut buffer), Some(complete("NOOP")));
    }

    proptest! {
        /// A-82: where the reads cut the stream makes no difference.
        #[test]
        fn pieces_give_the_same_lines(
            pieces in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"\r\nab".as_slice()), 0..6),
                0..12,
            ),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let whole = pieces.concat();
            let octets: Vec<&[u8]> = whole.chunks(1).collect();
            let (lines, _) = decode(6, &pieces);
            prop_assert_eq!(&lines, &decode(6, &octets).0);
            // Whole in one buffer, which may be bigger than the limit.
            let (mut decoder, mut buffer) = (LineDecoder::new(6), BytesMut::from(whole.as_slice()));
            prop_assert_eq!(lines, std::iter::from_fn(|| decoder.decode(&mut buffer)).collect::<Vec<_>>());
        }
    }
}
