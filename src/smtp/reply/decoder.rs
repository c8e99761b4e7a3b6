//! Reading the replies of a remote, which may be hostile (RFC 5321 §4.2, §4.2.1, §4.5.3.1.5).
//!
//! Before MAIL no mail depends on a reply, and real servers are read as Postfix reads them: the code of a reply is that
//! of its last line, a bare LF ends a line, and lines without a code are skipped, a few of them. From MAIL on a reply
//! that breaks the protocol ends the session: a reply that is read as two would answer the wrong command. Only in front
//! of the first of these replies empty lines are skipped: they belong to the answer to EHLO, and do not shift the
//! replies.

use std::mem;

use bytes::BytesMut;

use super::{Code, EnhancedCode, Reply, ReplyText};
use crate::smtp::line::{Line, LineDecoder};

/// Longest line of a reply. RFC 5321 §4.5.3.1.5 has 512 octets; some servers write novels.
const MAX_LINE_OCTETS: usize = 4096;
/// Most lines of one reply. The longest honest ones are EHLO replies, with some 20.
const MAX_LINES: usize = 512;
/// Most octets of one reply.
const MAX_OCTETS: usize = 64 * 1024;
/// Most lines without a code in one reply before MAIL, empty ones among them.
const MAX_STRAY_LINES: usize = 16;
/// Most octets of them.
const MAX_STRAY_OCTETS: usize = 4096;
/// Most lines that are kept of a reply: the first ones, and the last one.
const KEPT_LINES: usize = 8;
/// Most octets of such a line.
const KEPT_LINE_OCTETS: usize = 512;
/// Most octets of a reply before MAIL, of any but a 250 to EHLO, that are kept in front of its last line. It is told on one line, among others.
const KEPT_BEFORE_MAIL: usize = 512;

/// The reason why a remote's octets are no reply. The session with it is lost: the start of the next reply is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No three digits that SMTP has, or an octet other than SP, `-` or CRLF behind them.
    #[error("the reply has no reply code")]
    NoCode,
    /// Lines of one reply with different codes (RFC 5321 §4.2.1 asks for the same on every line).
    #[error("the reply has several codes")]
    SeveralCodes,
    /// A line that ends with a bare LF: readers that accept it could be shown other replies than readers that do not.
    #[error("the reply has a line end without CR")]
    BareLineFeed,
    /// A line without an end.
    #[error("a line of the reply is longer than {MAX_LINE_OCTETS} octets")]
    LineTooLong,
    /// A reply without an end.
    #[error("the reply is longer than {MAX_LINES} lines or {MAX_OCTETS} octets")]
    TooLong,
}

/// Takes replies off a byte stream, one at a time. Memory is bounded by the limits above; time is for the caller.
#[derive(Debug, Clone)]
pub struct ReplyDecoder {
    lines: LineDecoder,
    manner: Manner,
    partial: Partial,
}

/// How a reply is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As RFC 5321 §4.2 has it.
    Strict,
    /// The same behind empty lines.
    StrictBehindBlanks,
    /// As Postfix reads it.
    Tolerant,
    /// The same, and the lines of a 250 are kept: each names an extension (RFC 5321 §4.1.1.1).
    TolerantOfExtensions,
}

/// The lines of a reply so far; its last line is still to come.
#[derive(Debug, Clone, Default)]
struct Partial {
    /// The three digits of the first line as the remote sent them.
    digits: Option<u16>,
    text: ReplyText,
    lines: usize,
    octets: usize,
    stray: Stray,
}

/// Lines without a code.
#[derive(Debug, Clone, Copy, Default)]
struct Stray {
    lines: usize,
    octets: usize,
}

/// A line with a code.
struct Coded<'a> {
    number: u16,
    is_last: bool,
    text: &'a [u8],
}

impl Default for ReplyDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyDecoder {
    /// A decoder at the start of a reply to MAIL or to any command behind it.
    pub fn new() -> Self {
        Self::reading(Manner::Strict)
    }

    /// A decoder at the start of the reply to a session's first MAIL, or at empty lines that are left of the answer to EHLO.
    pub fn to_first_mail() -> Self {
        Self::reading(Manner::StrictBehindBlanks)
    }

    /// A decoder at the start of a reply before MAIL.
    pub fn before_mail() -> Self {
        Self::reading(Manner::Tolerant)
    }

    /// A decoder at the start of the reply to EHLO. A 250 is kept whole, within the limits of any reply, until its extensions
    /// are parsed.
    pub fn to_ehlo() -> Self {
        Self::reading(Manner::TolerantOfExtensions)
    }

    fn reading(manner: Manner) -> Self {
        Self { lines: LineDecoder::new(MAX_LINE_OCTETS), manner, partial: Partial::default() }
    }

    /// Takes one reply off the front of `buffer`; `None` asks for more input. The octets behind the reply stay.
    ///
    /// # Errors
    /// When the remote breaks the protocol. There is no going on after that.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.lines.decode(buffer) {
            let (line, is_bare) = match line {
                Line::Complete(line) => (line, false),
                Line::TooLong(_) => return Err(ReplyError::LineTooLong),
                Line::BareLineFeed(line) => (line, true),
            };
            let last = match self.manner {
                Manner::StrictBehindBlanks if self.partial.lines == 0 && is_blank(&line) => self.partial.stray(0)?,
                Manner::Strict | Manner::StrictBehindBlanks if is_bare => return Err(ReplyError::BareLineFeed),
                Manner::Strict | Manner::StrictBehindBlanks => self.partial.push(&line)?,
                Manner::Tolerant | Manner::TolerantOfExtensions => self.partial.push_tolerantly(&line)?,
            };
            if let Some(code) = last {
                return Ok(Some(mem::take(&mut self.partial).into_reply(code, self.manner)));
            }
        }
        if self.lines.is_skipping() { Err(ReplyError::LineTooLong) } else { Ok(None) }
    }

    /// Whether all that came so far are words without a code: the peer may be no mail server.
    pub fn has_only_strays(&self) -> bool {
        self.partial.stray.octets > 0 && self.partial.lines == 0
    }
}

/// Whether these are empty lines, or an empty line without its LF.
pub(crate) fn is_blank(input: &[u8]) -> bool {
    input.iter().all(|octet| matches!(octet, b'\r' | b'\n'))
}

impl<'a> Coded<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let (digits, text) = line.split_at_checked(3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        // RFC 5321 §4.2: a bare code without text is to be accepted.
        let (is_last, text) = match text.split_first() {
            None => (true, text),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return None,
        };
        Some(Self { number, is_last, text })
    }
}

impl Partial {
    /// Adds a line; the code, if it was the last one.
    fn push(&mut self, line: &[u8]) -> Result<Option<Code>, ReplyError> {
        let Coded { number, is_last, text } = Coded::read(line).ok_or(ReplyError::NoCode)?;
        let code = Code::read(number).ok_or(ReplyError::NoCode)?;
        if *self.digits.get_or_insert(number) != number {
            return Err(ReplyError::SeveralCodes);
        }
        self.count(line)?;
        if self.text.count == KEPT_LINES {
            self.text.drop_last_line();
        }
        self.text.octets(text.get(..KEPT_LINE_OCTETS).unwrap_or(text));
        Ok(is_last.then_some(code))
    }

    /// The same before MAIL. The lines of a reply to EHLO are all of use, so that they are cut when the code is known.
    fn push_tolerantly(&mut self, line: &[u8]) -> Result<Option<Code>, ReplyError> {
        let end = line.iter().rposition(|octet| *octet != b'\r').map_or(0, |last| last + 1);
        let line = line.get(..end).unwrap_or(line);
        let Some(Coded { number, is_last, text }) = Coded::read(line) else {
            return self.stray(line.len());
        };
        self.count(line)?;
        self.text.octets(text);
        if is_last { Code::read(number).ok_or(ReplyError::NoCode).map(Some) } else { Ok(None) }
    }

    /// Skips a line without a code, of so many octets.
    fn stray(&mut self, octets: usize) -> Result<Option<Code>, ReplyError> {
        self.stray.lines += 1;
        self.stray.octets += octets;
        let bearable = self.stray.lines <= MAX_STRAY_LINES && self.stray.octets <= MAX_STRAY_OCTETS;
        if bearable { Ok(None) } else { Err(ReplyError::NoCode) }
    }

    fn count(&mut self, line: &[u8]) -> Result<(), ReplyError> {
        self.lines += 1;
        self.octets += line.len() + 2;
        if self.lines > MAX_LINES || self.octets > MAX_OCTETS { Err(ReplyError::TooLong) } else { Ok(()) }
    }

    /// The first enhanced code that agrees with the code is that of the reply (RFC 2034 §4: on every line the same). Lines
    /// that repeat it lose it; a line with another one keeps that as text.
    fn into_reply(mut self, code: Code, manner: Manner) -> Reply {
        match manner {
            // Cut line by line as it came.
            Manner::Strict | Manner::StrictBehindBlanks => {}
            Manner::TolerantOfExtensions if code == Code::OK => {}
            Manner::Tolerant | Manner::TolerantOfExtensions => self.text = self.text.cut(KEPT_LINES, KEPT_BEFORE_MAIL),
        }
        let lines = self.text.lines.split('\n');
        let found = lines.clone().find_map(|line| EnhancedCode::split_off(code, line));
        let Some((enhanced, rest)) = found else { return self.text.into_reply(code, None) };
        if self.text.count == 1 {
            // Most replies: the line stays, and is not put together anew.
            self.text.lines.drain(..self.text.lines.len() - rest.len());
            return self.text.into_reply(code, Some(enhanced));
        }
        let strip = |line| match EnhancedCode::split_off(code, line) {
            Some((same, rest)) if same == enhanced => rest,
            _ => line,
        };
        Reply::multiline(code, Some(enhanced), lines.map(strip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The replies in the pieces, and the error that ended them.
    fn decode(pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
        decode_by(ReplyDecoder::new(), pieces)
    }

    fn decode_by(mut decoder: ReplyDecoder, pieces: &[&[u8]]) -> (Vec<Reply>, Option<ReplyError>) {
        let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error)),
                }
            }
            assert!(buffer.len() <= MAX_LINE_OCTETS);
        }
        (replies, None)
    }

    #[test]
    fn replies_as_they_are_read() {
        // K1: text or none, one line or many, a second digit that SMTP has not.
        for (input, shown) in [
            ("250 ok\r\n", "250 ok"),
            ("250\r\n", "250 "),
            ("250 \r\n", "250 "),
            ("250-a\r\n250 b\r\n", "250 a / b"),
            ("250-\r\n250\r\n", "250  / "),
            ("299 ok\r\n", "250 ok"),
            ("550-5.1.1 no such\r\n550-5.1.1 user\r\n550 really\r\n", "550 5.1.1 no such / user / really"),
            ("550-5.1.1 a\r\n550 5.7.1 b\r\n", "550 5.1.1 a / 5.7.1 b"),
            // RFC 2034 §4: a code that not all lines have is that of all lines.
            ("550-no\r\n550 5.7.1 blocked\r\n", "550 5.7.1 no / blocked"),
            // L9, A-63: an enhanced code that lies is text.
            ("250 5.1.1 x\r\n", "250 5.1.1 x"),
            // A-63: no octet that steers a terminal or ends a line.
            ("250 a\x1b[2J\x07\r250 b\0\tc\u{fc}\r\n", "250 a?[2J??250 b? c??"),
        ] {
            let (replies, error) = decode(&[input.as_bytes()]);
            assert_eq!(error, None, "{input:?}");
            assert_eq!(replies.iter().map(Reply::to_string).collect::<Vec<_>>(), [shown], "{input:?}");
        }
    }

    #[test]
    fn lines_that_are_no_replies() {
        // K2, A-61.
        for (input, error) in [
            ("\r\n", ReplyError::NoCode),
            ("25\r\n", ReplyError::NoCode),
            ("25 0\r\n", ReplyError::NoCode),
            ("2500 ok\r\n", ReplyError::NoCode),
            ("999 ok\r\n", ReplyError::NoCode),
            ("150 ok\r\n", ReplyError::NoCode),
            ("250_ok\r\n", ReplyError::NoCode),
            (" 250 ok\r\n", ReplyError::NoCode),
            ("\u{661}50 ok\r\n", ReplyError::NoCode),
            ("HTTP/1.1 200 OK\r\n", ReplyError::NoCode),
            ("250-x\r\n550 y\r\n", ReplyError::SeveralCodes),
            ("299-x\r\n250 y\r\n", ReplyError::SeveralCodes),
            ("250-x\r\ny\r\n", ReplyError::NoCode),
            ("250 ok\n", ReplyError::BareLineFeed),
            ("250-x\n250 ok\r\n", ReplyError::BareLineFeed),
        ] {
            assert_eq!(decode(&[input.as_bytes()]), (vec![], Some(error)), "{input:?}");
        }
    }

    #[test]
    fn replies_of_real_servers_before_mail() {
        // Decision 20, each as Postfix reads it.
        for (input, shown) in [
            ("220 mx ESMTP\r\n", "220 mx ESMTP"),
            // postscreen: the code is that of the last line.
            (
                "220-mx ESMTP\r\n521 5.7.1 Service unavailable; client [192.0.2.1] blocked using bl.example\r\n",
                "521 5.7.1 mx ESMTP / Service unavailable; client [192.0.2.1] blocked using bl.example",
            ),
            ("250-mx\r\n550 no\r\n", "550 mx / no"),
            ("550-mx\r\n250 PIPELINING\r\n", "250 mx / PIPELINING"),
            ("999-mx\r\n250 ok\r\n", "250 mx / ok"),
            // Empty lines, lines without a code, and line ends of all kinds.
            ("\r\n\n220 mx\r\n", "220 mx"),
            ("Welcome to mx\r\n220 mx\r\n", "220 mx"),
            ("220-mx\r\n\r\nand so on\r\n220 x\r\n", "220 mx / x"),
            ("2200 no\r\n25 0\r\n220_\r\n220 mx\r\n", "220 mx"),
            ("250-a\n250 b\n", "250 a / b"),
            ("250 a\r\r\n", "250 a"),
            ("250\n", "250 "),
            // Decision 20: one enhanced code for all lines.
            ("550-no\r\n550 5.7.1 blocked\r\n", "550 5.7.1 no / blocked"),
            ("220-2.0.0 mx\r\n550 5.7.1 blocked\r\n", "550 5.7.1 2.0.0 mx / blocked"),
        ] {
            let (replies, error) = decode_by(ReplyDecoder::before_mail(), &[input.as_bytes()]);
            assert_eq!(error, None, "{input:?}");
            assert_eq!(replies.iter().map(Reply::to_string).collect::<Vec<_>>(), [shown], "{input:?}");
        }
    }

    #[test]
    fn lines_that_are_no_replies_before_mail_either() {
        for (input, error) in [
            ("999 ok\r\n".to_owned(), ReplyError::NoCode),
            ("250-a\r\n150 ok\r\n".to_owned(), ReplyError::NoCode),
            ("x\r\n".repeat(MAX_STRAY_LINES + 1), ReplyError::NoCode),
            ("\n".repeat(MAX_STRAY_LINES + 1), ReplyError::NoCode),
            (format!("{}\r\n", "x".repeat(2000)).repeat(3), ReplyError::NoCode),
            ("x".repeat(MAX_LINE_OCTETS), ReplyError::LineTooLong),
            ("250-x\r\n".repeat(MAX_LINES + 1), ReplyError::TooLong),
            (format!("250-{}\r\n", "x".repeat(4000)).repeat(20), ReplyError::TooLong),
        ] {
            assert_eq!(decode_by(ReplyDecoder::before_mail(), &[input.as_bytes()]), (vec![], Some(error)), "{input:?}");
        }
        // Two beginnings are told apart: a mail server that has not finished, and no mail server.
        for (input, only_strays) in
            [("hello\r\n", true), ("hello\r\n220-mx\r\n", false), ("\r\n", false), ("220", false)]
        {
            let mut decoder = ReplyDecoder::before_mail();
            assert_eq!(decoder.decode(&mut input.as_bytes().into()), Ok(None), "{input:?}");
            assert_eq!(decoder.has_only_strays(), only_strays, "{input:?}");
        }
    }

    #[test]
    fn empty_lines_before_the_answer_to_the_first_mail() {
        // They are left of EHLO. Other lines are an error, and so are lines behind the first line of the reply.
        let endless = "\r\n".repeat(MAX_STRAY_LINES + 1);
        let most = "\r\n".repeat(MAX_STRAY_LINES) + "250 ok\r\n";
        for (input, read) in [
            ("250 ok\r\n", Ok("250 ok")),
            ("\r\n250 ok\r\n", Ok("250 ok")),
            ("\n\r\r\n550-a\r\n550 b\r\n", Ok("550 a / b")),
            (most.as_str(), Ok("250 ok")),
            (endless.as_str(), Err(ReplyError::NoCode)),
            (" \r\n250 ok\r\n", Err(ReplyError::NoCode)),
            ("hello\r\n250 ok\r\n", Err(ReplyError::NoCode)),
            ("250-a\r\n\r\n250 b\r\n", Err(ReplyError::NoCode)),
            ("250-a\r\n\n250 b\r\n", Err(ReplyError::BareLineFeed)),
            ("\r\n250 ok\n", Err(ReplyError::BareLineFeed)),
            ("\r\n250-a\r\n550 b\r\n", Err(ReplyError::SeveralCodes)),
        ] {
            let octets: Vec<_> = input.as_bytes().chunks(1).collect();
            for pieces in [vec![input.as_bytes()], octets] {
                let (replies, error) = decode_by(ReplyDecoder::to_first_mail(), &pieces);
                let found = error.map_or_else(|| Ok(replies[0].to_string()), Err);
                assert_eq!(found.as_deref().map_err(|error| *error), read, "{input:?}");
            }
        }
    }

    #[test]
    fn texts_are_cut_where_they_come_in() {
        // A-60: the first lines and the last one, each of a length that a client can be told.
        let line = |number: usize, end: &str| format!("550{end}{number} {}\r\n", "x".repeat(3000));
        let novel: String = (0..18).map(|number| line(number, "-")).chain([line(99, " ")]).collect();
        let kept = |decoder| decode_by(decoder, &[novel.as_bytes()]).0.remove(0);
        let reply = kept(ReplyDecoder::new());
        let numbers: Vec<_> = reply.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "99"]);
        assert!(reply.lines().all(|line| line.len() == KEPT_LINE_OCTETS), "{reply}");
        let reply = kept(ReplyDecoder::before_mail());
        assert!(reply.to_string().len() <= KEPT_BEFORE_MAIL + KEPT_LINE_OCTETS + 20, "{reply}");
        assert!(reply.lines().last().unwrap().starts_with("99 "), "{reply}");
        // All extensions count.
        let ehlo: String =
            (0..100).map(|number| format!("250-X{number}\r\n")).chain(["250 LAST\r\n".to_owned()]).collect();
        let (replies, _) = decode_by(ReplyDecoder::to_ehlo(), &[ehlo.as_bytes()]);
        assert_eq!(replies[0].lines().count(), 101);
        // To EHLO alone, and of a 250 alone: a greeting and an answer to STARTTLS are cut for every code.
        for (decoder, code) in [
            (ReplyDecoder::before_mail(), "250"),
            (ReplyDecoder::before_mail(), "220"),
            (ReplyDecoder::to_ehlo(), "220"),
            (ReplyDecoder::to_ehlo(), "550"),
        ] {
            let novel = novel.replace("550", code);
            let reply = decode_by(decoder, &[novel.as_bytes()]).0.remove(0);
            assert!(reply.octets() <= 2 * KEPT_BEFORE_MAIL + KEPT_LINES, "{code}: {}", reply.octets());
        }
    }

    #[test]
    fn a_reply_without_an_end() {
        // K3, A-60: of lines, of a line, of octets.
        let endless: Vec<&[u8]> = vec![b"250-x\r\n"; MAX_LINES + 1];
        assert_eq!(decode(&endless), (vec![], Some(ReplyError::TooLong)));
        let longest = format!("250 {}\r\n", "x".repeat(MAX_LINE_OCTETS - 6));
        assert_eq!(decode(&[longest.as_bytes()]).1, None);
        // The CRLF need not come for the verdict.
        let flood = format!("250 {}", "x".repeat(MAX_LINE_OCTETS - 4));
        assert_eq!(decode(&[flood.as_bytes()]).1, Some(ReplyError::LineTooLong));
        let big = format!("250-{}\r\n", "x".repeat(4000));
        assert_eq!(decode(&[big.as_bytes(); 20]), (vec![], Some(ReplyError::TooLong)));
    }

    #[test]
    fn one_reply_at_a_time() {
        // K8, A-62: the octets behind a reply are left for the next one, or for the caller to object to.
        let (mut decoder, mut buffer) = (ReplyDecoder::new(), BytesMut::from(&b"250 a\r\n550-b\r\n55"[..]));
        assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap().to_string(), "250 a");
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        // L12: without its CRLF it is no reply.
        buffer.extend_from_slice(b"0 c");
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        buffer.extend_from_slice(b"\r\n");
        assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap().to_string(), "550 b / c");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// A-60: where the reads cut the stream makes no difference, and a reply that is written is read back.
        #[test]
        fn pieces_give_the_same_replies(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "250", "-", " ", "\r\n", "\r", "\n", "5.1.1", "550", "ok", "250 2.0.0 a\r\n", "550-5.1.1 x\r\n",
                ]),
                0..16,
            ),
            cut in 0usize..80,
        ) {
            let input = words.concat();
            let (head, tail) = input.as_bytes().split_at(cut.min(input.len()));
            let octets: Vec<_> = input.as_bytes().chunks(1).collect();
            let whole = decode(&[input.as_bytes()]);
            prop_assert_eq!(&decode(&[head, tail]), &whole);
            prop_assert_eq!(&decode(&octets), &whole);
            let tolerant = |pieces: &[&[u8]]| decode_by(ReplyDecoder::before_mail(), pieces);
            prop_assert_eq!(&tolerant(&octets), &tolerant(&[input.as_bytes()]));
            // A reply that both take is read alike.
            if whole.1.is_none() && !input.contains("\r\r\n") {
                prop_assert_eq!(&tolerant(&[input.as_bytes()]).0, &whole.0);
            }
            for reply in whole.0 {
                let mut written = BytesMut::new();
                reply.write(&mut written);
                prop_assert_eq!(decode(&[&written]), (vec![reply], None));
            }
        }
    }
}
