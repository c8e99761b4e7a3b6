//! Message data: where it ends, and how it stays the same message for every reader (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! After DATA the client sends lines; a line of one dot ends them, and the client puts a dot before every line that
//! starts with one. *Smuggling* is making two servers disagree about which line that was: one of them lets a bare LF or
//! a bare CR end a line, the other does not, and what one takes for text is a command to the other. The
//! [`DataScanner`] stands between two such servers and leaves no room for a second opinion:
//!
//! * The end of data is CRLF.CRLF and nothing else (RFC 5321 §2.3.8); the start of the data counts as behind a CRLF.
//! * A bare CR or LF never gets through: [`BareNewlines`] says whether it is mended or the message refused.
//! * What comes out is stuffed afresh: a line that starts with a dot starts with two, and no line starts with NUL. So
//!   a reader that takes a bare LF, a dot with blanks behind it or a NUL-padded dot for the end finds none of these.
//!
//! In one equation, which the tests and the fuzz target hold: `output == stuff(normalise(unstuff(input)))`, however
//! the input is cut into pieces.

use bytes::{Buf, BufMut, BytesMut};
use memchr::memchr2;

use super::reply::{Code, EnhancedCode, Reply};

/// What becomes of a CR or a LF that stands alone in a message (RFC 5321 §2.3.8 forbids to send one).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BareNewlines {
    /// A bare LF becomes CRLF, a bare CR a space, as Postfix does.
    Normalize,
    /// The message is refused once it has ended.
    Reject,
}

/// What [`DataScanner::scan`] found at the end of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The message goes on.
    More,
    /// The message has ended; what is left in the input are the client's next commands.
    End,
    /// The message has ended and must not be delivered; what is left in the input are the client's next commands.
    Rejected(BareNewline),
}

/// The line end that a message was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BareNewline {
    /// A CR without LF.
    #[error("the message has a CR without LF")]
    CarriageReturn,
    /// A LF without CR.
    #[error("the message has a LF without CR")]
    LineFeed,
}

impl BareNewline {
    /// What the client is told at the end of its data.
    pub fn reply(&self) -> Reply {
        Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(5, 2), self.to_string())
    }
}

/// Finds the end of one message in a byte stream and passes its lines on, safe to send.
#[derive(Debug, Clone)]
pub struct DataScanner {
    bare_newlines: BareNewlines,
    place: Place,
    offence: Option<BareNewline>,
    header: HeaderSection,
    octets: u64,
}

/// What has been read of the line at hand. The octets that the variants name are consumed, but not yet passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF, or at the start of the data: a dot is the client's stuffing or the end.
    LineStart,
    /// Behind a bare LF: the line starts for those who read our output, but a dot here is text of the message.
    MendedLineStart,
    /// Within a line.
    Text,
    /// CR within a line.
    Cr,
    /// CRLF and a dot.
    Dot,
    /// CRLF, a dot and CR.
    DotCr,
    /// CRLF.CRLF.
    End,
}

impl DataScanner {
    /// A scanner for one message, to be fed from the octet behind the CRLF of the DATA command.
    pub fn new(bare_newlines: BareNewlines) -> Self {
        Self { bare_newlines, place: Place::LineStart, offence: None, header: HeaderSection::default(), octets: 0 }
    }

    /// Consumes `input` up to the end of data and appends the message to `output`: CRLF line ends, dot-stuffed,
    /// without the final `.CRLF`. That is for the caller to write, once it knows that the message may be delivered.
    ///
    /// A message that is being rejected yields no further output.
    pub fn scan(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Scan {
        output.reserve(input.len());
        let mut taken = 0;
        while self.place != Place::End && taken < input.len() {
            taken += self.step(&input[taken..], output);
        }
        input.advance(taken);
        match (self.place, self.offence) {
            (Place::End, None) => Scan::End,
            (Place::End, Some(offence)) => Scan::Rejected(offence),
            _ => Scan::More,
        }
    }

    /// The `Received` fields in the header section so far, for the loop limit (RFC 5321 §6.3).
    pub fn received_headers(&self) -> usize {
        self.header.received
    }

    /// The octets of the message so far as SIZE counts them: CRLFs yes, stuffing dots and final dot no (RFC 1870 §3).
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Moves on by one run of text or one octet that matters, and tells how many octets of `input` that took.
    fn step(&mut self, input: &[u8], output: &mut BytesMut) -> usize {
        match (self.place, input[0]) {
            (Place::LineStart, b'.') => self.go(Place::Dot),
            (Place::Dot, b'\r') => self.go(Place::DotCr),
            (Place::DotCr, b'\n') => self.go(Place::End),
            (Place::Cr, b'\n') => self.end_line(Place::LineStart, output),
            (Place::Cr | Place::DotCr, _) => {
                self.bare(BareNewline::CarriageReturn, output);
                // This octet is still to be read, now as one within a line.
                0
            }
            (_, b'\r') => self.go(Place::Cr),
            (_, b'\n') => {
                self.bare(BareNewline::LineFeed, output);
                1
            }
            (Place::LineStart | Place::MendedLineStart | Place::Dot, first) => self.start_text(first, output),
            (Place::Text | Place::End, _) => self.text(input, output),
        }
    }

    fn go(&mut self, place: Place) -> usize {
        self.place = place;
        1
    }

    fn end_line(&mut self, place: Place, output: &mut BytesMut) -> usize {
        self.emit(b"\r\n", output);
        self.header.end_line();
        self.go(place)
    }

    fn bare(&mut self, offence: BareNewline, output: &mut BytesMut) {
        if self.bare_newlines == BareNewlines::Reject {
            self.offence.get_or_insert(offence);
        }
        match offence {
            BareNewline::LineFeed => {
                self.end_line(Place::MendedLineStart, output);
            }
            BareNewline::CarriageReturn => {
                self.emit(b" ", output);
                self.place = Place::Text;
            }
        }
    }

    /// The first octet of a line, the client's stuffing already taken off.
    fn start_text(&mut self, first: u8, output: &mut BytesMut) -> usize {
        match first {
            b'.' => {
                self.emit(b".", output);
                // The stuffing: not an octet of the message.
                if self.offence.is_none() {
                    output.put_u8(b'.');
                }
            }
            // Some servers drop NULs, and to them CRLF NUL . CRLF is an end of data. No message may hold NUL (RFC 5322
            // §2.2, RFC 2045 §2.8); only this one is in the way.
            0 => self.emit(b" ", output),
            _ => self.emit(&[first], output),
        }
        self.go(Place::Text)
    }

    /// Octets within a line, up to its end or the end of the input.
    fn text(&mut self, input: &[u8], output: &mut BytesMut) -> usize {
        let end = memchr2(b'\r', b'\n', input).unwrap_or(input.len());
        self.emit(&input[..end], output);
        if input[end..].starts_with(b"\r\n") {
            return end + 1 + self.end_line(Place::LineStart, output);
        }
        end
    }

    fn emit(&mut self, octets: &[u8], output: &mut BytesMut) {
        if self.offence.is_some() {
            return;
        }
        self.header.read(octets);
        self.octets += octets.len() as u64;
        output.extend_from_slice(octets);
    }
}

/// Counts `Received` fields up to the empty line that ends the header section (RFC 5322 §2.1).
#[derive(Debug, Clone, Default)]
struct HeaderSection {
    received: usize,
    line: FieldName,
}

/// How much of `Received:` the line at hand has spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldName {
    Matching(usize),
    Other,
    Body,
}

impl Default for FieldName {
    fn default() -> Self {
        Self::Matching(0)
    }
}

impl HeaderSection {
    const FIELD: &[u8] = b"received:";

    fn read(&mut self, octets: &[u8]) {
        for octet in octets {
            let FieldName::Matching(matched) = self.line else { return };
            self.line = match Self::FIELD.get(matched) {
                Some(expected) if octet.eq_ignore_ascii_case(expected) => FieldName::Matching(matched + 1),
                _ => FieldName::Other,
            };
            if self.line == FieldName::Matching(Self::FIELD.len()) {
                self.received += 1;
                self.line = FieldName::Other;
            }
        }
    }

    fn end_line(&mut self) {
        self.line = match self.line {
            FieldName::Matching(0) | FieldName::Body => FieldName::Body,
            FieldName::Matching(_) | FieldName::Other => FieldName::Matching(0),
        };
    }
}
