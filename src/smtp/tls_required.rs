//! The header field `TLS-Required: No` (RFC 8689 §4.1), found in a message as its lines come.
//!
//! | the header section has | verdict |
//! |---|---|
//! | one such field, its value `No` in any case, with blanks and folding around it | present |
//! | none, two, another value, a comment | missing |
//! | no such field within its first 64 KiB | missing |
//! | one within its first 64 KiB, and more octets | present, until a second one comes |
//!
//! The section ends at the empty line, and at a line that is no field: a reader that is told to read on there takes the rest
//! for the body. A name with a blank before its colon is another field (RFC 8689 §4.1 has no obsolete form).

/// The octets of a header section within which the field must be.
pub const HEADER_OCTETS: usize = 64 * 1024;

const NAME: &[u8] = b"tls-required";

/// The verdict on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldVerdict {
    /// More of the header section is needed.
    Undecided,
    /// It has the field. A second one behind the first 64 KiB turns this to [`FieldVerdict::Missing`].
    Present,
    /// It has not exactly one, or another value. This stays.
    Missing,
}

/// Reads the lines of one message, cut anywhere. They end with CRLF, and have neither stuffing nor a bare CR or LF.
#[derive(Debug, Clone, Default)]
pub struct FieldScanner {
    place: FieldPlace,
    found: FieldsFound,
    /// Octets of the header section.
    octets: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FieldsFound {
    #[default]
    None,
    One,
    /// Another value, or a second field, or none in time.
    Wrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FieldPlace {
    /// Before the first octet.
    #[default]
    Start,
    /// Within a line.
    Within(FieldPart),
    /// At the start of a line behind this part of a field, which a blank continues (RFC 5322 §2.2.3).
    Behind(FieldPart),
    /// Behind the header section.
    Body,
}

/// The part of a field that was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldPart {
    /// So many octets of a name, which are those of [`NAME`] so far.
    Name(usize),
    /// A name that is another one.
    OtherName,
    /// Blanks behind a name: it is an obsolete form, and another field.
    BeforeColon,
    /// The value of another field.
    OtherValue,
    /// The value of the field.
    Value(FieldValue),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldValue {
    /// Blanks.
    Before,
    /// `N`.
    Begun,
    /// `No`, and blanks.
    No,
    Other,
}

impl FieldScanner {
    /// Reads the next octets of the message.
    pub fn read(&mut self, lines: &[u8]) {
        for octet in lines {
            if self.place == FieldPlace::Body {
                return;
            }
            self.octet(*octet);
            self.octets += 1;
            if self.octets == HEADER_OCTETS && self.place != FieldPlace::Body && self.found == FieldsFound::None {
                self.found = FieldsFound::Wrong;
            }
        }
    }

    /// The message has ended.
    pub fn end(&mut self) {
        if let FieldPlace::Within(part) | FieldPlace::Behind(part) = self.place {
            self.close(part);
        }
        self.place = FieldPlace::Body;
    }

    /// The verdict by what was read.
    pub fn verdict(&self) -> FieldVerdict {
        let is_enough = self.place == FieldPlace::Body || self.octets >= HEADER_OCTETS;
        match (self.found, is_enough) {
            (FieldsFound::Wrong, _) | (FieldsFound::None, true) => FieldVerdict::Missing,
            (FieldsFound::One, true) => FieldVerdict::Present,
            (FieldsFound::None | FieldsFound::One, false) => FieldVerdict::Undecided,
        }
    }

    fn octet(&mut self, octet: u8) {
        self.place = match (self.place, octet) {
            (FieldPlace::Body, _) => FieldPlace::Body,
            (FieldPlace::Within(part), b'\n') => part.line_end(),
            (FieldPlace::Within(part), b'\r') => FieldPlace::Within(part),
            (FieldPlace::Within(part), octet) => part.next(octet),
            (FieldPlace::Behind(part), b' ' | b'\t') => part.next(octet),
            (FieldPlace::Behind(part), octet) => {
                self.close(part);
                field_start(octet)
            }
            (FieldPlace::Start, octet) => field_start(octet),
        };
    }

    /// A field has ended.
    fn close(&mut self, part: FieldPart) {
        let value = match part {
            FieldPart::Name(_) | FieldPart::OtherName | FieldPart::BeforeColon | FieldPart::OtherValue => return,
            FieldPart::Value(value) => value,
        };
        self.found = match (self.found, value) {
            (FieldsFound::None, FieldValue::No) => FieldsFound::One,
            (FieldsFound::None | FieldsFound::One | FieldsFound::Wrong, _) => FieldsFound::Wrong,
        };
    }
}

/// The first octet of a line that continues no field.
fn field_start(octet: u8) -> FieldPlace {
    match octet {
        // The empty line; and a line of blanks before any field is no field.
        b'\r' | b'\n' | b' ' | b'\t' => FieldPlace::Body,
        octet => FieldPart::Name(0).next(octet),
    }
}

impl FieldPart {
    fn next(self, octet: u8) -> FieldPlace {
        let part = match (self, octet) {
            (Self::Name(spelled), b':') if spelled == NAME.len() => Self::Value(FieldValue::Before),
            (Self::Name(0), b':') => return FieldPlace::Body,
            (Self::Name(_) | Self::OtherName | Self::BeforeColon, b':') => Self::OtherValue,
            (Self::Name(_) | Self::OtherName | Self::BeforeColon, b' ' | b'\t') => Self::BeforeColon,
            // RFC 5322 §2.2: a name is of printable ASCII.
            (Self::Name(spelled), b'!'..=b'~') if NAME.get(spelled) == Some(&octet.to_ascii_lowercase()) => {
                Self::Name(spelled + 1)
            }
            (Self::Name(_) | Self::OtherName, b'!'..=b'~') => Self::OtherName,
            (Self::Name(_) | Self::OtherName | Self::BeforeColon, _) => return FieldPlace::Body,
            (Self::OtherValue, _) => Self::OtherValue,
            (Self::Value(value), octet) => Self::Value(value.next(octet)),
        };
        FieldPlace::Within(part)
    }

    fn line_end(self) -> FieldPlace {
        match self {
            Self::Name(_) | Self::OtherName | Self::BeforeColon => FieldPlace::Body,
            Self::OtherValue | Self::Value(_) => FieldPlace::Behind(self),
        }
    }
}

impl FieldValue {
    fn next(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::Before, b' ' | b'\t') => Self::Before,
            (Self::Before, b'n' | b'N') => Self::Begun,
            (Self::Begun, b'o' | b'O') => Self::No,
            (Self::No, b' ' | b'\t') => Self::No,
            (Self::Before | Self::Begun | Self::No | Self::Other, _) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The verdict on a message that was read in pieces.
    fn verdict<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> FieldVerdict {
        let mut scanner = FieldScanner::default();
        pieces.into_iter().for_each(|piece| scanner.read(piece));
        scanner.end();
        scanner.verdict()
    }

    const GOOD: &[&str] = &[
        "TLS-Required: No\r\n\r\nbody\r\n",
        "From: a\r\nTLS-Required: No\r\nTo: b\r\n\r\n",
        "tls-required:no\r\n\r\n",
        "TLS-REQUIRED:\t nO \t\r\n\r\n",
        "TLS-Required:\r\n No\r\n\r\n",
        "TLS-Required: \r\n\t \r\n no \r\n \r\n\r\n",
        "To: a,\r\n b\r\nTLS-Required: No\r\n\r\n",
        "X-TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n",
        "Subject : old form\r\nTLS-Required: No\r\n\r\n",
        // The end of the message is the end of its header section.
        "TLS-Required: No\r\n",
        "TLS-Required: No",
        // A second one in the body is text.
        "TLS-Required: No\r\n\r\nTLS-Required: Yes\r\n",
        "TLS-Required: No\r\nContent-Type: message/rfc822\r\n\r\nTLS-Required: No\r\n\r\nbody\r\n",
        "Subject: \u{fc}\r\nTLS-Required: No\r\n\r\n",
    ];

    const BAD: &[&str] = &[
        "",
        "\r\n",
        "From: a\r\n\r\nbody\r\n",
        "TLS-Required: Yes\r\n\r\n",
        "TLS-Required:\r\n\r\n",
        "TLS-Required: N\r\n\r\n",
        "TLS-Required: Not\r\n\r\n",
        "TLS-Required: N o\r\n\r\n",
        "TLS-Required: N\r\n o\r\n\r\n",
        "TLS-Required: No No\r\n\r\n",
        "TLS-Required: No;\r\n\r\n",
        "TLS-Required: No (please)\r\n\r\n",
        "TLS-Required: (please) No\r\n\r\n",
        "TLS-Required: No\r\n Yes\r\n\r\n",
        "TLS-Required: No\r\nTLS-Required: No\r\n\r\n",
        "TLS-Required: No\r\nSubject: x\r\ntls-required: yes\r\n\r\n",
        "TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n",
        "TLS-Required : No\r\n\r\n",
        " TLS-Required: No\r\n\r\n",
        "Subject: x\r\n TLS-Required: No\r\n\r\n",
        "X-TLS-Required: No\r\n\r\n",
        "TLS-Required-X: No\r\n\r\n",
        "TLS-Require: No\r\n\r\n",
        "TLS-Required\r\n: No\r\n\r\n",
        // In the body, and in a part of it.
        "Subject: x\r\n\r\nTLS-Required: No\r\n\r\n",
        "Content-Type: message/rfc822\r\n\r\nTLS-Required: No\r\n\r\n",
        // Behind a line that is no field.
        "text\r\nTLS-Required: No\r\n\r\n",
        "two words: x\r\nTLS-Required: No\r\n\r\n",
        ": x\r\nTLS-Required: No\r\n\r\n",
        "\u{fc}: x\r\nTLS-Required: No\r\n\r\n",
        "From a Mon Nov 30\r\nTLS-Required: No\r\n\r\n",
    ];

    #[test]
    fn one_field_that_says_no() {
        // Q6, A-115.
        for (messages, expected) in [(GOOD, FieldVerdict::Present), (BAD, FieldVerdict::Missing)] {
            for message in messages {
                assert_eq!(verdict([message.as_bytes()]), expected, "{message:?}");
            }
        }
    }

    #[test]
    fn the_same_cut_at_each_octet() {
        for message in GOOD.iter().chain(BAD) {
            let whole = verdict([message.as_bytes()]);
            assert_eq!(verdict(message.as_bytes().chunks(1)), whole, "{message:?} in octets");
            for at in 0..message.len() {
                let (first, second) = message.as_bytes().split_at(at);
                assert_eq!(verdict([first, second]), whole, "{message:?} cut at {at}");
            }
        }
    }

    #[test]
    fn the_verdict_waits_for_the_end_of_the_header() {
        let mut scanner = FieldScanner::default();
        for line in ["TLS-Required: No\r\n", "Subject: x\r\n", "\r"] {
            assert_eq!(scanner.verdict(), FieldVerdict::Undecided);
            scanner.read(line.as_bytes());
        }
        assert_eq!(scanner.verdict(), FieldVerdict::Present, "a CR at the start of a line is that of the empty line");
        // A second one is the end at once.
        let mut scanner = FieldScanner::default();
        scanner.read(b"TLS-Required: No\r\nTLS-Required: No\r\nS");
        assert_eq!(scanner.verdict(), FieldVerdict::Missing);
    }

    #[test]
    fn a_long_header() {
        // A-115: the field is within the first 64 KiB, or not at all.
        let filling = |octets: usize| format!("X: {}\r\n", "x".repeat(octets - 5)).into_bytes();
        let field = b"TLS-Required: No\r\n";
        for (before, in_time) in [
            (HEADER_OCTETS - field.len() - 1, true),
            (HEADER_OCTETS - field.len(), false),
            (HEADER_OCTETS, false),
            (10 * HEADER_OCTETS, false),
        ] {
            let message = [filling(before).as_slice(), field, b"Subject: x\r\n\r\n"].concat();
            let expected = if in_time { FieldVerdict::Present } else { FieldVerdict::Missing };
            for piece in [1, 7, 4096, message.len()] {
                assert_eq!(verdict(message.chunks(piece)), expected, "{before} octets before, {piece} at a time");
            }
        }
        // It goes on, and the verdict is there after 64 KiB; a second field turns it.
        let mut scanner = FieldScanner::default();
        scanner.read(field);
        scanner.read(&filling(HEADER_OCTETS));
        assert_eq!(scanner.verdict(), FieldVerdict::Present);
        scanner.read(&filling(HEADER_OCTETS));
        scanner.read(b"TLS-Required: No\r\nS");
        assert_eq!(scanner.verdict(), FieldVerdict::Missing);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_verdict_of_the_whole(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                "TLS-Required", "tls-required:", ":", " No", "no", "No\r\n", "Yes", "\r\n", " ", "\t", "(x)", "Subject: x\r\n",
                "Content-Type: message/rfc822\r\n", "x", "\u{fc}", "TLS-Required: No\r\n",
            ]), 0..20),
            filling in 0_usize..3,
            cuts in proptest::collection::vec(proptest::num::usize::ANY, 0..10),
        ) {
            // Q6: `filling` takes the text to both sides of the bound.
            let filling = if filling == 2 { format!("X: {}\r\n", "x".repeat(HEADER_OCTETS - 60)) } else { String::new() };
            let message = filling + &parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (message.len() + 1)).chain([0, message.len()]).collect();
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &message.as_bytes()[cut[0]..cut[1]]);
            prop_assert_eq!(verdict(pieces), verdict([message.as_bytes()]), "{}", message);
        }
    }
}
