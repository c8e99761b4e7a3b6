//! Message data: where it ends, and how it stays the same message for every reader (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! After DATA the client sends lines; a line of one dot ends them, and the client puts a dot before every line that
//! starts with one. *Smuggling* is making two servers disagree about which line that was: one of them lets a bare LF or
//! a bare CR end a line, the other does not, and a text to the one is a command to the other. The [`DataScanner`]
//! stands between two such servers and leaves no room for a second opinion:
//!
//! * The end of data is CRLF.CRLF alone (RFC 5321 §2.3.8); the start of the data counts as behind a CRLF.
//! * Data whose octets are counted (BDAT, see [`super::chunk`]) have neither stuffing nor an end: every dot is text.
//! * A bare CR or LF never gets through: [`BareNewlines`] says whether it is mended or the message refused.
//! * The client's stuffing is taken off, and a remote that gets DATA has it put on again ([`super::stuffing`]). No line of
//!   the output starts with NUL. So a reader that takes a bare LF, a dot with blanks behind it or a NUL-padded dot for the
//!   end finds none of these.
//!
//! In one equation, which the tests and the fuzz target hold: `output == normalise(unstuff(input))`, however the input is
//! cut into pieces.

use bytes::{Buf, BytesMut};
use memchr::{memchr2, memchr3};

use super::block::{READ_OFFSET, block};
use super::message_names::{MessageNames, NamesScanner};

/// How a CR or a LF that stands alone in a message (RFC 5321 §2.3.8 forbids to send one) is treated, and a NUL (RFC 5322
/// §2.2, RFC 2045 §2.7 and §2.8 allow none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareNewlines {
    /// A bare LF becomes CRLF, a bare CR a space, as Postfix does. A NUL at the start of a line becomes a space, any other
    /// passes.
    Normalize,
    /// The message is refused once it has ended.
    Reject,
}

/// The state of a message at the end of the input to [`DataScanner::scan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The message goes on.
    More,
    /// The message has ended; the rest of the input are the client's next commands.
    End,
    /// The message has ended and must not be delivered; the rest of the input are the client's next commands.
    Rejected(Offence),
}

/// The reason for which a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// A CR without LF.
    #[error("the message has a CR without LF")]
    CarriageReturn,
    /// A LF without CR.
    #[error("the message has a LF without CR")]
    LineFeed,
    /// A NUL.
    #[error("the message has a NUL, which no message may have (RFC 5322 section 2.2)")]
    Nul,
}

/// Finds the end of one message in a byte stream and passes its lines on, safe to send.
#[derive(Debug, Clone)]
pub struct DataScanner {
    bare_newlines: BareNewlines,
    place: LinePosition,
    /// The place behind a CRLF.
    line_start: LinePosition,
    offence: Option<Offence>,
    header: HeaderSection,
    /// Octets that were passed on.
    passed_on: u64,
}

/// The part of the current line that has been read. The octets that the variants name are consumed, but not yet passed
/// on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinePosition {
    /// Behind a CRLF, or at the start of the data: a dot is the client's stuffing or the end.
    LineStart,
    /// Behind a bare LF, or in counted data behind a CRLF too: the line starts for readers of our output, but a dot
    /// here is text of the message.
    TextLineStart,
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
        Self::starting(bare_newlines, LinePosition::LineStart)
    }

    /// A scanner for one message whose octets are counted (RFC 3030 §2): every dot is text, and the message goes on until
    /// [`DataScanner::end`]. To be fed with the chunks, one behind the other.
    pub fn counted(bare_newlines: BareNewlines) -> Self {
        Self::starting(bare_newlines, LinePosition::TextLineStart)
    }

    fn starting(bare_newlines: BareNewlines, line_start: LinePosition) -> Self {
        let (offence, header) = (None, HeaderSection::default());
        Self { bare_newlines, place: line_start, line_start, offence, header, passed_on: 0 }
    }

    /// Consumes `input` up to the end of data and appends the message to `output`: CRLF line ends, without stuffing and
    /// without the final `.CRLF`. The writer of DATA adds both, the end once the message may be delivered.
    ///
    /// A message that is being rejected yields no further output.
    ///
    /// Text that passes unchanged and finds `output` empty is handed over and not copied.
    pub fn scan(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Scan {
        while self.place != LinePosition::End && !input.is_empty() {
            let taken = self.step(input, output);
            input.advance(taken);
        }
        self.found()
    }

    /// Counted data have ended. A last line without CRLF gets it, for every receiver alike: a server that is given the
    /// message by DATA could not have it otherwise (RFC 5321 §4.1.1.4), and no signature minds (RFC 6376 §3.4.3).
    pub fn end(&mut self, output: &mut BytesMut) -> Scan {
        match self.place {
            LinePosition::LineStart | LinePosition::TextLineStart | LinePosition::End => {}
            LinePosition::Cr | LinePosition::DotCr => {
                self.mend_cr(output);
                self.end_line(LinePosition::End, output);
            }
            LinePosition::Text | LinePosition::Dot => _ = self.end_line(LinePosition::End, output),
        }
        self.place = LinePosition::End;
        self.found()
    }

    fn found(&self) -> Scan {
        match (self.place, self.offence) {
            (LinePosition::End, None) => Scan::End,
            (LinePosition::End, Some(offence)) => Scan::Rejected(offence),
            _ => Scan::More,
        }
    }

    /// The `Received` fields in the header section so far, for the loop limit (RFC 5321 §6.3).
    pub fn received_headers(&self) -> usize {
        self.header.received
    }

    /// Whether the header section has a Message-ID field so far (RFC 5322 §3.6.4).
    pub fn has_message_id(&self) -> bool {
        self.header.message_id
    }

    /// The names of the message, as far as its header section has them so far.
    pub fn names(&self) -> MessageNames {
        self.header.names.names()
    }

    /// Whether the header section has a field `Require-TLS-ESMTP: yes` so far: Postfix adds it to mail that came with REQUIRETLS.
    pub fn was_tagged(&self) -> bool {
        self.header.was_tagged
    }

    /// Whether the header section has a TLS-Required field so far, whatever its value (RFC 8689 §4.1).
    pub fn has_tls_required(&self) -> bool {
        self.header.tls_required
    }

    /// Whether the header section so far has octets above 127 (RFC 6531 §3.4).
    pub fn has_international_header(&self) -> bool {
        self.header.international
    }

    /// The octets of the message so far as SIZE counts them: CRLFs yes, stuffing dots and final dot no (RFC 1870 §3).
    pub fn octets(&self) -> u64 {
        self.passed_on
    }

    /// Moves on by one run of text or one octet that matters, and tells how many octets of `input` are read with that.
    fn step(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> usize {
        match (self.place, input[0]) {
            (LinePosition::LineStart, b'.') => self.go(LinePosition::Dot),
            (LinePosition::Dot, b'\r') => self.go(LinePosition::DotCr),
            (LinePosition::DotCr, b'\n') => self.go(LinePosition::End),
            (LinePosition::Cr, b'\n') => self.end_line(self.line_start, output),
            (LinePosition::Cr | LinePosition::DotCr, _) => {
                self.mend_cr(output);
                // This octet is still to be read, now as one within a line.
                0
            }
            (_, b'\r') => self.go(LinePosition::Cr),
            (_, b'\n') => {
                self.object(Offence::LineFeed);
                self.end_line(LinePosition::TextLineStart, output)
            }
            (LinePosition::LineStart | LinePosition::TextLineStart | LinePosition::Dot, 0) => {
                // Some servers drop NULs, and to them CRLF NUL . CRLF is an end of data. No message may hold NUL
                // (RFC 5322 §2.2, RFC 2045 §2.8); only one that starts a line is in the way.
                self.object(Offence::Nul);
                self.emit_text(b" ", output);
                self.go(LinePosition::Text)
            }
            (LinePosition::Text, 0) if self.bare_newlines == BareNewlines::Reject => {
                self.object(Offence::Nul);
                self.go(LinePosition::Text)
            }
            (
                LinePosition::LineStart
                | LinePosition::TextLineStart
                | LinePosition::Dot
                | LinePosition::Text
                | LinePosition::End,
                _,
            ) => self.text(input, output),
        }
    }

    fn go(&mut self, place: LinePosition) -> usize {
        self.place = place;
        1
    }

    fn end_line(&mut self, place: LinePosition, output: &mut BytesMut) -> usize {
        self.emit(b"\r\n", output);
        self.header.end_line();
        self.go(place)
    }

    /// A CR that was none of a CRLF.
    fn mend_cr(&mut self, output: &mut BytesMut) {
        self.object(Offence::CarriageReturn);
        self.emit_text(b" ", output);
        self.place = LinePosition::Text;
    }

    fn object(&mut self, offence: Offence) {
        match self.bare_newlines {
            BareNewlines::Normalize => {}
            BareNewlines::Reject => _ = self.offence.get_or_insert(offence),
        }
    }

    /// Octets that pass unchanged: the rest of a line, and the lines behind it up to one that does not. Octets that
    /// were handed over are already read: 0 then.
    fn text(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> usize {
        let end = self.run(input);
        if self.offence.is_some() {
            return end;
        }
        if !output.is_empty() {
            make_room(output, input.len());
            self.emit(&input[..end], output);
            return end;
        }
        self.passed_on += end as u64;
        *output = input.split_to(end);
        0
    }

    /// How far `input` passes as it is, read from within a line.
    fn run(&mut self, input: &[u8]) -> usize {
        let mut end = 0;
        loop {
            if self.header.is_over() {
                end += ordinary(&input[end..]);
            }
            let line = &input[end..];
            let text = match self.bare_newlines {
                BareNewlines::Normalize => memchr2(b'\r', b'\n', line),
                BareNewlines::Reject => memchr3(b'\r', b'\n', 0, line),
            };
            let text = text.unwrap_or(line.len());
            self.header.read(&line[..text]);
            end += text;
            let [b'\r', b'\n', behind @ ..] = &line[text..] else {
                self.place = LinePosition::Text;
                return end;
            };
            self.header.end_line();
            end += 2;
            // Behind CRLF a dot is stuffing or the end, if octets are not counted, and a NUL becomes a space.
            if matches!((self.line_start, behind), (LinePosition::LineStart, [b'.', ..]) | (_, [0, ..] | [])) {
                self.place = self.line_start;
                return end;
            }
        }
    }

    fn emit_text(&mut self, octets: &[u8], output: &mut BytesMut) {
        self.header.read(octets);
        self.emit(octets, output);
    }

    fn emit(&mut self, octets: &[u8], output: &mut BytesMut) {
        if self.offence.is_none() {
            self.passed_on += octets.len() as u64;
            output.extend_from_slice(octets);
        }
    }
}

/// Moves the output to a block in which the rest of the input has room, unless it has room already. Line ends that are
/// mended make a message longer than its input, so the block grows to twice its octets at least: each octet is moved a few
/// times at most.
fn make_room(output: &mut BytesMut, more: usize) {
    if output.capacity() - output.len() < more {
        let mut moved = block(READ_OFFSET, output.len() + more.max(output.len()));
        moved.extend_from_slice(output);
        *output = moved;
    }
}

/// How much of a message's body, read from within a line, surely passes as it is: text without NUL and CRLFs, and no line
/// that begins with a dot. Octets that may be another case are left to a closer look, and so is the CR that ends them, if
/// one does.
///
/// Looks at each octet and the one behind it without branches, for compilers make vector instructions of that.
fn ordinary(octets: &[u8]) -> usize {
    const AT_ONCE: usize = 64;
    let [first, behind @ ..] = octets else { return 0 };
    if matches!(first, b'\n' | 0) {
        return 0;
    }
    let (octets_at_once, behind_at_once) = (octets.as_chunks::<AT_ONCE>().0, behind.as_chunks::<AT_ONCE>().0);
    let pairs = octets_at_once.iter().zip(behind_at_once);
    let end = AT_ONCE * pairs.take_while(|(octets, behind)| !has_odd_pair(octets, behind)).count();
    end - usize::from(octets[..end].ends_with(b"\r"))
}

fn has_odd_pair<const N: usize>(octets: &[u8; N], behind: &[u8; N]) -> bool {
    let pairs = octets.iter().zip(behind);
    pairs.fold(false, |odd, (&octet, &next)| {
        let bare = (octet == b'\r') != (next == b'\n');
        let starts_with_a_dot = (octet == b'\n') & (next == b'.');
        odd | bare | starts_with_a_dot | (next == 0)
    })
}

/// Counts `Received` fields, looks for `Message-ID`, `Require-TLS-ESMTP` and `TLS-Required`, and sees octets above 127, up to
/// the empty line that ends the header section (RFC 5322 §2.1).
#[derive(Debug, Clone, Default)]
struct HeaderSection {
    received: usize,
    message_id: bool,
    was_tagged: bool,
    tls_required: bool,
    international: bool,
    names: NamesScanner,
    line: FieldName,
}

/// How much of a field name the line at hand has spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FieldName {
    #[default]
    Start,
    Spelling(Field, usize),
    /// `Message-ID:` and blanks. An empty one is none.
    MessageId,
    /// `Require-TLS-ESMTP:`, and so many letters of its value `yes`, with blanks around it.
    RequireTlsEsmtp(usize),
    Other,
    Body,
}

/// The fields that matter. Only the two that begin with "re" begin with the same letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Received,
    MessageId,
    RequireTlsEsmtp,
    TlsRequired,
}

impl Field {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Received => b"received:",
            Self::MessageId => b"message-id:",
            Self::RequireTlsEsmtp => b"require-tls-esmtp:",
            Self::TlsRequired => b"tls-required:",
        }
    }
}

impl HeaderSection {
    fn read(&mut self, octets: &[u8]) {
        if self.is_over() {
            return;
        }
        self.international |= !octets.is_ascii();
        self.names.read(octets);
        for octet in octets {
            let octet = octet.to_ascii_lowercase();
            self.line = match self.line {
                FieldName::Other | FieldName::Body => return,
                FieldName::Start if octet == b'r' => FieldName::Spelling(Field::Received, 1),
                FieldName::Start if octet == b'm' => FieldName::Spelling(Field::MessageId, 1),
                FieldName::Start if octet == b't' => FieldName::Spelling(Field::TlsRequired, 1),
                FieldName::Spelling(field, spelled) if field.name().get(spelled) == Some(&octet) => {
                    self.spelled(field, spelled + 1)
                }
                FieldName::Spelling(Field::Received, 2) if octet == b'q' => {
                    FieldName::Spelling(Field::RequireTlsEsmtp, 3)
                }
                FieldName::RequireTlsEsmtp(letters) => Self::value_of_tag(letters, octet),
                FieldName::MessageId if matches!(octet, b' ' | b'\t') => FieldName::MessageId,
                FieldName::MessageId => {
                    self.message_id = true;
                    FieldName::Other
                }
                FieldName::Start | FieldName::Spelling(..) => FieldName::Other,
            };
        }
    }

    fn spelled(&mut self, field: Field, octets: usize) -> FieldName {
        if octets < field.name().len() {
            return FieldName::Spelling(field, octets);
        }
        match field {
            Field::Received => {
                self.received += 1;
                FieldName::Other
            }
            Field::MessageId => FieldName::MessageId,
            Field::RequireTlsEsmtp => FieldName::RequireTlsEsmtp(0),
            Field::TlsRequired => {
                self.tls_required = true;
                FieldName::Other
            }
        }
    }

    /// The next octet of the value `yes`, in lower case.
    fn value_of_tag(letters: usize, octet: u8) -> FieldName {
        const YES: &[u8] = b"yes";
        match (YES.get(letters), octet) {
            (Some(expected), _) if *expected == octet => FieldName::RequireTlsEsmtp(letters + 1),
            (None, b' ' | b'\t') => FieldName::RequireTlsEsmtp(letters),
            (Some(_), b' ' | b'\t') if letters == 0 => FieldName::RequireTlsEsmtp(letters),
            _ => FieldName::Other,
        }
    }

    fn is_over(&self) -> bool {
        self.line == FieldName::Body
    }

    fn end_line(&mut self) {
        self.was_tagged |= self.line == FieldName::RequireTlsEsmtp(3);
        self.names.end_line();
        self.line = match self.line {
            FieldName::Start | FieldName::Body => FieldName::Body,
            FieldName::Spelling(..) | FieldName::MessageId | FieldName::RequireTlsEsmtp(_) | FieldName::Other => {
                FieldName::Start
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::stuffing::DotStuffer;
    use super::*;

    /// The result of scanning a message: its output as DATA sends it, the verdict and the rest of the input.
    type Came = (Vec<u8>, Scan, Vec<u8>);

    /// The result for a message that was fed in pieces.
    fn scan(bare_newlines: BareNewlines, pieces: &[&[u8]]) -> Came {
        let (_, came) = scan_counting(bare_newlines, pieces);
        came
    }

    /// The same behind the octets and the Received fields that were counted.
    fn scan_counting(bare_newlines: BareNewlines, pieces: &[&[u8]]) -> ((u64, usize), Came) {
        let (mut scanner, mut input, mut passed_on) = (DataScanner::new(bare_newlines), BytesMut::new(), Vec::new());
        let (mut found, mut stuffer, mut octets) = (Scan::More, DotStuffer::default(), 0);
        for piece in pieces {
            input.extend_from_slice(piece);
            let mut output = BytesMut::new();
            found = scanner.scan(&mut input, &mut output);
            assert!(found != Scan::More || input.is_empty());
            octets += output.len() as u64;
            passed_on.extend_from_slice(&stuffer.stuff(&output));
        }
        assert_eq!(scanner.octets(), octets);
        ((octets, scanner.received_headers()), (passed_on, found, input.to_vec()))
    }

    #[test]
    fn unchanged_text_is_not_copied() {
        let message = b"Subject: a\r\n\r\nb\r\nc.d\r\n\r\ne";
        let (mut input, mut output) = (BytesMut::from(&message[..]), BytesMut::new());
        let there = input.as_ptr();
        assert_eq!(DataScanner::new(BareNewlines::Reject).scan(&mut input, &mut output), Scan::More);
        assert_eq!((&output[..], output.as_ptr()), (&message[..], there));
    }

    #[test]
    fn a_message_id_is_a_field_of_the_header_section_with_a_value() {
        for (message, has_one) in [
            ("Message-ID: <x@y>\r\n\r\nb\r\n", true),
            ("Subject: x\r\nmessage-id:<x@y>\r\n\r\n", true),
            ("Received: x\r\n\tby y\r\nMESSAGE-ID:\t <x@y>\r\n\r\n", true),
            ("Message-ID:\r\n\r\nb\r\n", false),
            ("Message-ID: \t\r\nSubject: x\r\n\r\n", false),
            ("Subject: x\r\n\tMessage-ID: <x@y>\r\n\r\n", false),
            ("Message-IDs: x\r\n\r\n", false),
            ("Subject: x\r\n\r\nMessage-ID: <x@y>\r\n", false),
            ("\r\nMessage-ID: <x@y>\r\n", false),
        ] {
            for size in 1..message.len() {
                let mut scanner = DataScanner::new(BareNewlines::Normalize);
                for piece in message.as_bytes().chunks(size) {
                    scanner.scan(&mut BytesMut::from(piece), &mut BytesMut::new());
                }
                assert_eq!(scanner.has_message_id(), has_one, "{message:?}");
            }
        }
    }

    #[test]
    fn mail_that_has_lost_its_tag_says_so_in_its_header() {
        // Q24.
        for (message, was_tagged) in [
            ("Require-TLS-ESMTP: yes\r\n\r\nb\r\n", true),
            ("Received: x\r\nREQUIRE-tls-ESMTP:\t Yes \t\r\n\r\n", true),
            ("Subject: x\r\nrequire-tls-esmtp:yes\r\nSubject: y\r\n", true),
            ("Require-TLS-ESMTP: no\r\n\r\n", false),
            ("Require-TLS-ESMTP: yes no\r\n\r\n", false),
            ("Require-TLS-ESMTP: y es\r\n\r\n", false),
            ("Require-TLS-ESMTP:\r\n\r\n", false),
            ("Require-TLS-ESMTP : yes\r\n\r\n", false),
            ("Require-TLS: yes\r\n\r\n", false),
            ("Requived: yes\r\n\r\n", false),
            ("X-Require-TLS-ESMTP: yes\r\n\r\n", false),
            ("Subject: x\r\n\r\nRequire-TLS-ESMTP: yes\r\n", false),
        ] {
            for size in 1..message.len() {
                let mut scanner = DataScanner::new(BareNewlines::Normalize);
                for piece in message.as_bytes().chunks(size) {
                    scanner.scan(&mut BytesMut::from(piece), &mut BytesMut::new());
                }
                assert_eq!(scanner.was_tagged(), was_tagged, "{message:?} by {size}");
                assert_eq!(scanner.received_headers(), usize::from(message.starts_with("Received")), "{message:?}");
            }
        }
    }

    fn normalized(input: &[u8]) -> (Vec<u8>, Scan, Vec<u8>) {
        scan(BareNewlines::Normalize, &[input])
    }

    // The reference: three plain functions, one for each word of the law in the module documentation.

    /// The message and the rest, as a server sees them that knows CRLF only; `None` if the data do not end.
    fn unstuff(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let (mut message, mut at) = (Vec::new(), 0);
        loop {
            let line = &input[at..];
            let end = at + memchr::memmem::find(line, b"\r\n")? + 2;
            if line.starts_with(b".\r\n") {
                return Some((message, &input[end..]));
            }
            message.extend_from_slice(input[at..end].strip_prefix(b".").unwrap_or(&input[at..end]));
            at = end;
        }
    }

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

    fn stuff(message: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        for line in message.split_inclusive(|octet| *octet == b'\n') {
            if line.starts_with(b".") {
                output.push(b'.');
            }
            output.extend_from_slice(line);
        }
        output
    }

    /// How many ends of data a careless server finds, one that ends a line at CR, at LF or at both, drops NULs and
    /// blanks at the end of a line.
    fn lax_ends_of_data(octets: &[u8]) -> usize {
        let octets: Vec<u8> = octets.iter().copied().filter(|octet| *octet != 0).collect();
        octets.split(|octet| matches!(octet, b'\r' | b'\n')).filter(|line| line.trim_ascii_end() == b".").count()
    }

    #[test]
    fn a_message_stays_the_same() {
        for (input, output) in [
            // I14: the empty message, and no line end added or lost.
            (&b".\r\n"[..], &b""[..]),
            (b"\r\n.\r\n", b"\r\n"),
            (b"Subject: x\r\n\r\nbody\r\n.\r\n", b"Subject: x\r\n\r\nbody\r\n"),
            // I13: stuffed lines stay stuffed.
            (b"..\r\n.\r\n", b"..\r\n"),
            (b"...\r\n..a\r\n.\r\n", b"...\r\n..a\r\n"),
            // A line that a client failed to stuff has lost its dot for every receiver (RFC 5321 §4.5.2).
            (b".a\r\n.\r\n", b"a\r\n"),
            // M2: 8-bit octets, and NUL where it does no harm.
            (b"\xff\x80a\0b\r\n.\r\n", b"\xff\x80a\0b\r\n"),
        ] {
            assert_eq!(normalized(input), (output.to_vec(), Scan::End, vec![]), "{input:?}");
        }
    }

    #[test]
    fn commands_behind_the_end_stay_in_the_input() {
        // A-84.
        assert_eq!(normalized(b"a\r\n.\r\nMAIL FROM:<>\r\n").2, b"MAIL FROM:<>\r\n");
        assert_eq!(normalized(b".\r\n.\r\n"), (vec![], Scan::End, b".\r\n".to_vec()));
    }

    #[test]
    fn only_crlf_dot_crlf_ends_the_data() {
        // I11, A-80, A-81: each before a smuggled command, then the real end.
        for (smuggled, output) in [
            (&b"a\n.\nb"[..], &b"a\r\n..\r\nb"[..]),
            (b"a\n.\rb", b"a\r\n.. b"),
            (b"a\r.\nb", b"a .\r\nb"),
            (b"a\r.\rb", b"a . b"),
            (b"a\n.\r\nb", b"a\r\n..\r\nb"),
            (b"a\r.\r\nb", b"a .\r\nb"),
            // Behind a CRLF the dot is the client's stuffing, and the line has no other text.
            (b"a\r\n.\nb", b"a\r\n\r\nb"),
            (b"a\r\n.\rb", b"a\r\n b"),
            (b"a\r\n.\r\r\nb", b"a\r\n \r\nb"),
            (b"a\r\r\n.\r\r\nb", b"a \r\n \r\nb"),
            (b"a\r\n..\nb", b"a\r\n..\r\nb"),
            // To a server that drops NULs these would be ends.
            (b"a\r\n\0.\r\nb", b"a\r\n .\r\nb"),
            (b"a\r\n.\0\r\nb", b"a\r\n \r\nb"),
            (b"a\r\n\0\0.\r\nb", b"a\r\n \0.\r\nb"),
            (b"a\n\0.\r\nb", b"a\r\n .\r\nb"),
            // To one that drops blanks.
            (b"a\r\n. \r\nb", b"a\r\n \r\nb"),
        ] {
            let input = [smuggled, b"\r\n.\r\nQUIT\r\n"].concat();
            let output = [output, b"\r\n"].concat();
            assert_eq!(normalized(&input), (output, Scan::End, b"QUIT\r\n".to_vec()), "{smuggled:?}");
        }
    }

    #[test]
    fn a_rejected_message_is_read_to_its_end() {
        for (input, offence) in [
            (&b"a\nb\r\n.\r\n"[..], Offence::LineFeed),
            (b"a\rb\nc\r\n.\r\n", Offence::CarriageReturn),
            (b"a\n.\r\nMAIL\r\n.\r\n", Offence::LineFeed),
            (b".\r\r\n.\r\n", Offence::CarriageReturn),
        ] {
            let (output, found, rest) = scan(BareNewlines::Reject, &[input, b"QUIT\r\n"]);
            assert_eq!((found, rest), (Scan::Rejected(offence), b"QUIT\r\n".to_vec()), "{input:?}");
            assert!(output.len() <= 1, "only what stood before the offence");
        }
        assert_eq!(scan(BareNewlines::Reject, &[b"a\r\n.\r\n"]).1, Scan::End);
        // A NUL in any place and in blocks of any size. The octets before it were passed on by then.
        let text = [b'a'; 200];
        for before in [&b""[..], b"\r\n", b"a", b"a\r\n", b"a\r\n.", &text, &[&b"\r\n"[..], &text].concat()] {
            for after in [&b""[..], b"b", b"\r\n", &text] {
                let input = [before, b"\0", after, b"\r\n.\r\n"].concat();
                let (output, found, rest) = scan(BareNewlines::Reject, &[&input, b"QUIT\r\n"]);
                assert_eq!((found, rest), (Scan::Rejected(Offence::Nul), b"QUIT\r\n".to_vec()), "{input:?}");
                assert_eq!(output, before.strip_suffix(b".").unwrap_or(before));
                let octets: Vec<&[u8]> = input.chunks(1).collect();
                assert_eq!(scan(BareNewlines::Reject, &octets).1, found);
            }
        }
        assert_eq!(scan(BareNewlines::Reject, &[b"a\r\n.\r\n\0\r\n"]).1, Scan::End, "behind the end");
    }

    #[test]
    fn received_fields_are_counted_in_the_header_only() {
        // I16, A-94.
        for (input, received) in [
            (&b"Received: a\r\nreceived:b\r\nSubject: x\r\n\r\nReceived: c\r\n.\r\n"[..], 2),
            (b"\r\nReceived: c\r\n.\r\n", 0),
            (b"X-Received: a\r\n Received: b\r\nReceive: c\r\n.\r\n", 0),
            // As every receiver reads it: stuffing taken off, bare LFs mended.
            (b".Received: a\r\n.\r\n", 1),
            (b"Received: a\nReceived: b\n\nReceived: c\r\n.\r\n", 2),
        ] {
            let mut output = BytesMut::new();
            let (mut whole, mut pieces) =
                (DataScanner::new(BareNewlines::Normalize), DataScanner::new(BareNewlines::Normalize));
            whole.scan(&mut input.into(), &mut output);
            for octet in input.chunks(1) {
                pieces.scan(&mut octet.into(), &mut output);
            }
            assert_eq!((whole.received_headers(), pieces.received_headers()), (received, received), "{input:?}");
        }
    }

    #[test]
    fn octets_are_counted_as_size_does() {
        // I21, M9: CRLFs count, stuffing and the final dot do not.
        for (input, octets) in [(&b".\r\n"[..], 0), (b"a\r\n..\r\n.\r\n", 6), (b"a\nb\r\n.\r\n", 6)] {
            let mut scanner = DataScanner::new(BareNewlines::Normalize);
            scanner.scan(&mut input.into(), &mut BytesMut::new());
            assert_eq!(scanner.octets(), octets, "{input:?}");
        }
    }

    /// Message data made of the pieces that matter, always with an end: a few, or behind an empty header so many that
    /// they are scanned in large steps.
    fn data() -> impl Strategy<Value = Vec<u8>> {
        let pieces = vec![&b"\r"[..], b"\n", b"\r\n", b".", b"\0", b" ", b"a", b"\r\n.\r\n"];
        let few = prop::collection::vec(prop::sample::select(pieces.clone()), 0..24);
        let long = prop::sample::select(vec![&[b'a'; 61][..], &[b'b'; 130], b"\r\n\r\n\r\n\r\n", b"c\r\n", b"\r\n..d"]);
        let many = prop::collection::vec(prop_oneof![8 => long, 1 => prop::sample::select(pieces)], 0..24);
        let many = many.prop_map(|pieces| [vec![&b"\r\n"[..]], pieces].concat());
        prop_oneof![few, many].prop_map(|pieces| [pieces.concat(), b"\r\n.\r\n".to_vec()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn output_is_the_message_normalised_and_stuffed(input in data()) {
            let (message, rest) = unstuff(&input).unwrap();
            prop_assert_eq!(normalized(&input), (stuff(&normalise(&message)), Scan::End, rest.to_vec()));
        }

        /// A-82.
        #[test]
        fn pieces_give_the_same_message(input in data(), cuts in prop::collection::vec(0usize..1024, 0..8)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
            let octets: Vec<_> = input.chunks(1).collect();
            for bare_newlines in [BareNewlines::Normalize, BareNewlines::Reject] {
                let whole = scan_counting(bare_newlines, &[&input]);
                prop_assert_eq!(&scan_counting(bare_newlines, &pieces), &whole);
                prop_assert_eq!(&scan_counting(bare_newlines, &octets), &whole);
            }
        }

        /// Promise 5: with the final dot behind it the output is one message to every server, however careless.
        #[test]
        fn no_reader_sees_a_second_end_of_data(input in data()) {
            let (output, _, _) = normalized(&input);
            let sent = [output.as_slice(), b".\r\n"].concat();
            let (message, rest) = unstuff(&sent).unwrap();
            prop_assert_eq!(stuff(&message), output);
            prop_assert!(rest.is_empty());
            prop_assert_eq!(lax_ends_of_data(&sent), 1);
        }
    }
}
