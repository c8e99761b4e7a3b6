//! Reading the replies of a remote, which may be hostile (RFC 5321 §4.2, §4.2.1, §4.5.3.1.5).

use std::mem;

use bytes::BytesMut;

use super::{Code, EnhancedCode, Reply, sanitised};
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
    lines: Vec<String>,
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
                Line::TooLong => return Err(ReplyError::LineTooLong),
                Line::BareLineFeed => return Err(ReplyError::BareLineFeed),
            };
            if let Some(code) = self.partial.push(&line)? {
                return Ok(Some(mem::take(&mut self.partial).into_reply(code)));
            }
        }
        if self.lines.is_skipping() { Err(ReplyError::LineTooLong) } else { Ok(None) }
    }

    /// Whether part of a reply has been read whose end is still to come. What is left in the buffer is not counted.
    pub fn is_amid_reply(&self) -> bool {
        !self.partial.lines.is_empty()
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
        if self.lines.len() == MAX_LINES || self.octets > MAX_OCTETS {
            return Err(ReplyError::TooLong);
        }
        self.lines.push(sanitised(text.iter().copied().map(char::from)));
        Ok(is_last.then_some(code))
    }

    /// The first line decides about the enhanced code. Those that repeat it lose it; one that differs keeps it as text.
    fn into_reply(self, code: Code) -> Reply {
        let Some((enhanced, _)) = self.lines.first().and_then(|line| EnhancedCode::split_off(code, line)) else {
            return Reply { code, enhanced: None, lines: self.lines };
        };
        let strip = |line: String| match EnhancedCode::split_off(code, &line) {
            Some((same, rest)) if same == enhanced => rest.to_owned(),
            _ => line,
        };
        Reply { code, enhanced: Some(enhanced), lines: self.lines.into_iter().map(strip).collect() }
    }
}
