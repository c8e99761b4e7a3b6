//! Chunks: a message in pieces of so many octets each, BDAT (RFC 3030 §2).
//!
//! Where DATA has a line of one dot, BDAT has counts, so no text in a chunk can end it. The lines of a message are the
//! same lines either way: [`DataScanner::counted`](super::data::DataScanner::counted) passes them on as it does after DATA.
//! So bare CRs and LFs meet the same rules, and each remote gets the same message, with DATA or BDAT on either side.

use std::fmt;

use super::reply::{Code, EnhancedCode, Reply};

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// As lines up to one of a single dot (RFC 5321 §4.1.1.4).
    Data,
    /// As counted chunks.
    Bdat,
}

/// One BDAT command: the size of the chunk behind it, and whether it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// How many follow the CRLF of the command.
    pub octets: u64,
    /// Whether the message ends with them.
    pub last: bool,
}

impl Chunk {
    /// Reads the argument of `BDAT`. `None` if it is not a number, alone or with `LAST` behind it: then it is unknown
    /// which octets are the chunk's and which are the next command.
    pub fn parse(argument: &[u8]) -> Option<Self> {
        let mut words = argument.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let digits = words.next().filter(|word| word.iter().all(u8::is_ascii_digit))?;
        let octets = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let last = match words.next() {
            None => false,
            Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
            Some(_) => return None,
        };
        words.next().is_none().then_some(Self { octets, last })
    }

    /// The reply to a chunk that is not the last: we have read it. It promises no delivery; the reply to the last chunk
    /// decides about the message.
    pub fn taken(&self) -> Reply {
        Reply::new(Code::OK, EnhancedCode::success(0, 0), format!("{} octets", self.octets))
    }
}

impl fmt::Display for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BDAT {}{}", self.octets, if self.last { " LAST" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::command::Command;
    use super::super::data::{BareNewlines, DataScanner, Offence, Scan};
    use super::super::stuffing::DotStuffer;
    use super::*;

    #[test]
    fn a_chunk_is_a_number_and_perhaps_the_last() {
        for (argument, octets, last) in [
            ("0", 0, false),
            ("0 LAST", 0, true),
            ("86 last", 86, true),
            ("  007   Last ", 7, true),
            ("18446744073709551615", u64::MAX, false),
        ] {
            assert_eq!(Chunk::parse(argument.as_bytes()), Some(Chunk { octets, last }), "{argument}");
        }
        // M12: a count that is none, or 2^64.
        for argument in [
            "",
            "LAST",
            "-1",
            "+1",
            "1,000",
            "0x10",
            "18446744073709551616",
            "99999999999999999999999999999999",
            "5 FIRST",
            "5 LAST LAST",
            "5\0",
            "5\tLAST",
            "5\u{a0}LAST",
        ] {
            assert_eq!(Chunk::parse(argument.as_bytes()), None, "{argument:?}");
        }
    }

    /// The dot-stuffed output for chunks, and the verdict at their end.
    fn counted(bare_newlines: BareNewlines, chunks: &[&[u8]]) -> (Vec<u8>, Scan, u64) {
        let (mut scanner, mut output) = (DataScanner::counted(bare_newlines), BytesMut::new());
        for chunk in chunks {
            let mut input = BytesMut::from(*chunk);
            assert_eq!((scanner.scan(&mut input, &mut output), input.len()), (Scan::More, 0));
        }
        let found = scanner.end(&mut output);
        (output.to_vec(), found, scanner.octets())
    }

    fn stuffed(content: &[u8]) -> Vec<u8> {
        DotStuffer::default().stuff(content).to_vec()
    }

    #[test]
    fn chunks_become_lines() {
        // M13: no octet of a chunk is stuffing or an end, and the last line gets the end that it lacks.
        for (chunks, lines) in [
            (&[&b""[..]][..], &b""[..]),
            (&[b"a\r\n"], b"a\r\n"),
            (&[b"a"], b"a\r\n"),
            (&[b"a\r", b"\nb"], b"a\r\nb\r\n"),
            (&[b"a\r", b"b\r"], b"a b \r\n"),
            (&[b"a\n"], b"a\r\n"),
            (&[b"."], b"..\r\n"),
            (&[b".a\r\n..b"], b"..a\r\n...b\r\n"),
            (&[b"a\r\n", b".\r\n", b"QUIT\r\n"], b"a\r\n..\r\nQUIT\r\n"),
            (&[b"a\r", b"\n.", b"\r", b"\nQUIT\r\n"], b"a\r\n..\r\nQUIT\r\n"),
            (&[b"a\n.\nb"], b"a\r\n..\r\nb\r\n"),
            (&[b"\0.\r\n"], b" .\r\n"),
        ] {
            let (output, found, octets) = counted(BareNewlines::Normalize, chunks);
            assert_eq!((stuffed(&output).as_slice(), found), (lines, Scan::End), "{chunks:?}");
            assert_eq!(output.len() as u64, octets);
        }
        for (chunks, found) in [
            (&[&b"a\r"[..], b"\nb"][..], Scan::End),
            (&[b"a\r", b"b\n"], Scan::Rejected(Offence::CarriageReturn)),
            (&[b"a\r"], Scan::Rejected(Offence::CarriageReturn)),
            (&[b"a\nb"], Scan::Rejected(Offence::LineFeed)),
        ] {
            assert_eq!(counted(BareNewlines::Reject, chunks).1, found, "{chunks:?}");
        }
    }

    /// The content of `chunks`, in plain words: CRLF lines, and the last one has its CRLF.
    fn meaning(content: &[u8]) -> Vec<u8> {
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

    /// Content made of octets that have a meaning to some reader.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"\r"[..],
            b"\n",
            b"\r\n",
            b".",
            b"\0",
            b" ",
            b"a",
            b"\r\n.\r\n",
            b"\r\nBDAT 3 LAST\r\n",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    fn cut<'a>(octets: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| *cut.min(&octets.len())).collect();
        cuts.extend([0, octets.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| &octets[cut[0]..cut[1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A-82: two framings of one content are one message.
        #[test]
        fn where_chunks_are_cut_makes_no_difference(
            content in content(),
            cuts in prop::collection::vec(0usize..64, 0..8),
        ) {
            for bare_newlines in [BareNewlines::Normalize, BareNewlines::Reject] {
                let whole = counted(bare_newlines, &[&content]);
                prop_assert_eq!(&counted(bare_newlines, &cut(&content, &cuts)), &whole);
                prop_assert_eq!(&counted(bare_newlines, &content.chunks(1).collect::<Vec<_>>()), &whole);
            }
        }

        /// A-83, M13: in by BDAT and out by DATA, a receiver reads the content and no more.
        #[test]
        fn one_message_comes_out(content in content()) {
            let (message, found, octets) = counted(BareNewlines::Normalize, &[&content]);
            prop_assert_eq!(found, Scan::End);
            // A receiver of DATA; its output shows that it mends no octet.
            let mut sent = BytesMut::from([stuffed(&message).as_slice(), b".\r\nNEXT"].concat().as_slice());
            let (mut receiver, mut received) = (DataScanner::new(BareNewlines::Normalize), BytesMut::new());
            prop_assert_eq!(receiver.scan(&mut sent, &mut received), Scan::End);
            prop_assert_eq!(&sent[..], b"NEXT");
            prop_assert_eq!(&received[..], message.as_slice());
            // A receiver of BDAT.
            prop_assert_eq!(&message, &meaning(&content));
            prop_assert_eq!(message.len() as u64, octets);
        }

        /// A client that says DATA and one that says BDAT have sent the same message.
        #[test]
        fn both_commands_give_the_same_lines(content in content()) {
            let content = meaning(&content);
            for bare_newlines in [BareNewlines::Normalize, BareNewlines::Reject] {
                let (lines, found, _) = counted(bare_newlines, &[&content]);
                let whole = counted(BareNewlines::Normalize, &[&content]).0;
                let mut sent = BytesMut::from([stuffed(&whole).as_slice(), b".\r\n"].concat().as_slice());
                let mut output = BytesMut::new();
                prop_assert_eq!(DataScanner::new(bare_newlines).scan(&mut sent, &mut output), found);
                prop_assert_eq!(&output[..], lines.as_slice());
            }
        }

        #[test]
        fn a_written_chunk_is_read_again(octets in any::<u64>(), last in any::<bool>()) {
            let chunk = Chunk { octets, last };
            prop_assert_eq!(Command::parse(chunk.to_string().as_bytes()), Ok(Command::Bdat(chunk)));
        }
    }
}
