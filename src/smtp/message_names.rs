//! The names by which other servers know a message: its Message-ID, and the id in the queue of the server that sent it here.
//!
//! The newest Received field comes first (RFC 5321 §4.4), and it is the client's: its `id` is the one in the client's log. A name
//! is a stranger's text, so it is cut to a length and has printable ASCII alone.

use crate::excerpt;

/// The most characters of a name.
const MOST: usize = 128;
/// The most octets of a field that are looked at.
const FIELD: usize = 1024;

/// The names of a message, as far as its header section has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageNames {
    /// The value of the first Message-ID field (RFC 5322 §3.6.4).
    pub message_id: Option<String>,
    /// The `id` of the first Received field.
    pub queue_id: Option<String>,
}

/// Reads a header section, cut anywhere, and finds the names in it.
#[derive(Debug, Clone, Default)]
pub(super) struct NamesScanner {
    names: MessageNames,
    has_received: bool,
    /// The beginning of a field that may be of interest.
    field: Vec<u8>,
    place: NamesPlace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum NamesPlace {
    /// At the start of a line: a blank continues the field.
    #[default]
    LineStart,
    /// Within a field that may be of interest.
    Kept,
    /// Within one that is not.
    Skipped,
}

impl NamesScanner {
    /// Reads text of a line.
    pub(super) fn read(&mut self, octets: &[u8]) {
        let [first, ..] = octets else { return };
        if self.place == NamesPlace::LineStart {
            self.place = match first {
                b' ' | b'\t' if self.field.is_empty() => NamesPlace::Skipped,
                b' ' | b'\t' => NamesPlace::Kept,
                first => {
                    self.end_field();
                    self.begins(first.to_ascii_lowercase())
                }
            };
        }
        if self.place == NamesPlace::Kept {
            let room = FIELD - self.field.len();
            self.field.extend_from_slice(&octets[..octets.len().min(room)]);
        }
    }

    /// The line has ended.
    pub(super) fn end_line(&mut self) {
        self.place = NamesPlace::LineStart;
    }

    /// The names so far. A field that goes on is among them, if it has its name already.
    pub(super) fn names(&self) -> MessageNames {
        let mut all = self.clone();
        all.end_field();
        all.names
    }

    fn begins(&self, first: u8) -> NamesPlace {
        match first {
            b'r' if !self.has_received => NamesPlace::Kept,
            b'm' if self.names.message_id.is_none() => NamesPlace::Kept,
            _ => NamesPlace::Skipped,
        }
    }

    fn end_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        if let Some(value) = value(&field, b"received:") {
            self.has_received = true;
            self.names.queue_id = queue_id(value);
        } else if let Some(value) = value(&field, b"message-id:") {
            self.names.message_id = shown(value.trim_ascii());
        }
    }
}

/// The value of a field, if it has this name.
fn value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (begin, value) = field.split_at_checked(name.len())?;
    begin.eq_ignore_ascii_case(name).then_some(value)
}

/// The word behind `id` (RFC 5321 §4.4 `ID`). Words in comments are none of the field's.
fn queue_id(value: &[u8]) -> Option<String> {
    let mut depth = 0_usize;
    let without_comments = value.iter().map(|octet| {
        match octet {
            b'(' => depth += 1,
            b')' if depth > 0 => {
                depth -= 1;
                return b' ';
            }
            _ => {}
        }
        if depth > 0 { b' ' } else { *octet }
    });
    let text: Vec<u8> = without_comments.collect();
    let mut words = text.split(|octet| octet.is_ascii_whitespace() || *octet == b';').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        if is(b"id") {
            return shown(words.next()?);
        }
        // A host may have the name "id".
        if [&b"from"[..], b"by", b"via", b"with", b"for"].into_iter().any(is) {
            words.next();
        }
    }
    None
}

fn shown(text: &[u8]) -> Option<String> {
    let text: String = text.iter().take(MOST).map(|octet| excerpt::printable(char::from(*octet))).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads lines in pieces of so many octets.
    fn names(lines: &[&str], most: usize) -> MessageNames {
        let mut scanner = NamesScanner::default();
        for line in lines {
            line.as_bytes().chunks(most).for_each(|piece| scanner.read(piece));
            scanner.end_line();
        }
        scanner.names()
    }

    #[test]
    fn the_ids_that_servers_write() {
        for (lines, queue_id) in [
            // Postfix, from its own queue and over the network.
            (
                &[
                    "Received: by mx.example (Postfix, from userid 0)",
                    "\tid 4F2B3C; Sat, 28 Nov 2026 10:00:00 +0000 (UTC)",
                ][..],
                Some("4F2B3C"),
            ),
            (
                &[
                    "Received: from pc.example (pc.example [192.0.2.1])",
                    "\tby mx.example (Postfix) with ESMTPS id 4c1XyZ0abc;",
                    "\tSat, 28 Nov 2026 10:00:00 +0000 (UTC)",
                ],
                Some("4c1XyZ0abc"),
            ),
            // Exim.
            (
                &[
                    "Received: from pc.example by mx.example with esmtp (Exim 4.96)",
                    "\t(envelope-from <a@b.example>)",
                    "\tid 1abCD-000012-3x",
                    "\tfor c@d.example; Sat",
                ],
                Some("1abCD-000012-3x"),
            ),
            // Exchange writes a version.
            (
                &["Received: from A (1.2.3.4) by B (1.2.3.5) with Microsoft SMTP Server id 15.2.1258.34; Sat"],
                Some("15.2.1258.34"),
            ),
            // A comment is no id, and a field without one has none.
            (&["Received: from id (id x (id y)) by a; date"], None),
            (&["Received: from a (id evil) by b ID good; date"], Some("good")),
            (&["Received: from a by b with ESMTP; date"], None),
            (&["Received: from a by b id"], None),
        ] {
            // Only the first Received field is the client's.
            let more = [lines, &["Received: from z by y id other; date"][..]].concat();
            assert_eq!(names(&more, 7).queue_id.as_deref(), queue_id, "{lines:?}");
        }
    }

    #[test]
    fn message_ids() {
        for (lines, message_id) in [
            (&["Message-ID: <a@b.example>", "Subject: x"][..], Some("<a@b.example>")),
            (&["message-id:<a@b>", "Message-ID: <other@b>"], Some("<a@b>")),
            // Folded.
            (&["Message-ID:", " <a@b.example>"], Some("<a@b.example>")),
            (&["Message-ID:", "Subject: x"], None),
            (&["Resent-Message-ID: <a@b>", "Messages: 1"], None),
            (&["Subject: x", " Message-ID: <a@b>"], None),
            (&["Message-ID: <a\u{1b}[2Jü@b>"], Some("<a?[2J??@b>")),
        ] {
            for most in [1, 3, 1000] {
                assert_eq!(names(lines, most).message_id.as_deref(), message_id, "{lines:?}");
            }
        }
        let long = names(&[&format!("Message-ID: <{}@b>", "x".repeat(5000))], 100).message_id.unwrap();
        assert_eq!(long.len(), MOST);
    }

    proptest! {
        /// no octets of a stranger steer a terminal, nor fill a log, wherever the reads cut.
        #[test]
        fn names_are_short_and_printable(lines in prop::collection::vec("(Received: .*id .*|Message-ID: .*|[ \t].*|.*)", 0..6)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let found = names(&lines, 5);
            prop_assert_eq!(&found, &names(&lines, 4096));
            for name in [found.message_id, found.queue_id].into_iter().flatten() {
                prop_assert!(name.len() <= MOST && name.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            }
        }
    }
}
