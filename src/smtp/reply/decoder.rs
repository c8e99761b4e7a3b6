//! Reading the replies of a remote, which may be hostile (RFC 5321 §4.2, §4.2.1, §4.5.3.1.5).

use std::mem;

use bytes::BytesMut;

use super::{Code, EnhancedCode, Reply, Text};
use crate::smtp::line::{Line, LineDecoder};

/// Longest line of a reply. RFC 5321 §4.5.3.1.5 has 512 octets; some servers write novels.
const MAX_LINE_OCTETS: usize = 4096;
/// Most lines of one reply. The longest honest ones are EHLO replies, with some 20.
const MAX_LINES: usize = 512;
/// Most octets of one reply.
const MAX_OCTETS: usize = 64 * 1024;

/// Why what a remote sent is no reply. The session with it is lost: nobody knows where the next reply starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No three digits that SMTP has, or something else than SP, `-` or CRLF behind them.
    #[error("the reply has no reply code")]
    NoCode,
    /// Lines of one reply with different codes (RFC 5321 §4.2.1 asks for the same on every line).
    #[error("the reply has several codes")]
    SeveralCodes,
    /// A line that ends with a bare LF: who reads those can be shown other replies than who does not.
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
    partial: Partial,
}

/// The lines of a reply whose last line is still to come.
#[derive(Debug, Clone, Default)]
struct Partial {
    /// The three digits as the remote sent them.
    digits: Option<u16>,
    text: Text,
    octets: usize,
}

impl Default for ReplyDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyDecoder {
    /// A decoder at the start of a reply.
    pub fn new() -> Self {
        Self { lines: LineDecoder::new(MAX_LINE_OCTETS), partial: Partial::default() }
    }

    /// Takes one reply off the front of `buffer`; `None` asks for more input. What is behind the reply stays.
    ///
    /// # Errors
    /// When the remote breaks the protocol. There is no going on after that.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.lines.decode(buffer) {
            let line = match line {
                Line::Complete(line) => line,
                Line::TooLong(_) => return Err(ReplyError::LineTooLong),
                Line::BareLineFeed(_) => return Err(ReplyError::BareLineFeed),
            };
            if let Some(code) = self.partial.push(&line)? {
                return Ok(Some(mem::take(&mut self.partial).into_reply(code)));
            }
        }
        if self.lines.is_skipping() { Err(ReplyError::LineTooLong) } else { Ok(None) }
    }
}

impl Partial {
    /// Adds a line; the code, if it was the last one.
    fn push(&mut self, line: &[u8]) -> Result<Option<Code>, ReplyError> {
        let (digits, text) = line.split_at_checked(3).ok_or(ReplyError::NoCode)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ReplyError::NoCode);
        }
        let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        let code = Code::read(number).ok_or(ReplyError::NoCode)?;
        // RFC 5321 §4.2: a bare code without text is to be accepted.
        let (is_last, text) = match text.split_first() {
            None => (true, text),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::NoCode),
        };
        if *self.digits.get_or_insert(number) != number {
            return Err(ReplyError::SeveralCodes);
        }
        self.octets += line.len() + 2;
        if self.text.count == MAX_LINES || self.octets > MAX_OCTETS {
            return Err(ReplyError::TooLong);
        }
        self.text.octets(text);
        Ok(is_last.then_some(code))
    }

    /// The first line decides about the enhanced code. Those that repeat it lose it; one that differs keeps it as text.
    fn into_reply(self, code: Code) -> Reply {
        let lines = self.text.lines.split('\n');
        let Some((enhanced, _)) = lines.clone().next().and_then(|line| EnhancedCode::split_off(code, line)) else {
            return self.text.into_reply(code, None);
        };
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
        let (mut decoder, mut buffer, mut replies) = (ReplyDecoder::new(), BytesMut::new(), Vec::new());
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
    fn what_is_a_reply() {
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
            // L9, A-63: an enhanced code that lies is text.
            ("250 5.1.1 x\r\n", "250 5.1.1 x"),
            // A-63: nothing that steers a terminal or ends a line.
            ("250 a\x1b[2J\x07\r250 b\0\tc\u{fc}\r\n", "250 a?[2J??250 b? c??"),
        ] {
            let (replies, error) = decode(&[input.as_bytes()]);
            assert_eq!(error, None, "{input:?}");
            assert_eq!(replies.iter().map(Reply::to_string).collect::<Vec<_>>(), [shown], "{input:?}");
        }
    }

    #[test]
    fn what_is_no_reply() {
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
        // K8, A-62: what is behind a reply is left for the next one, or for the caller to object to.
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
            for reply in whole.0 {
                let mut written = BytesMut::new();
                reply.write(&mut written);
                prop_assert_eq!(decode(&[&written]), (vec![reply], None));
            }
        }
    }
}
