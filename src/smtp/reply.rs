//! Replies: what we tell the client, and what the remote tells us (RFC 5321 §4.2, RFC 2034).
//!
//! A [`Reply`] is a basic code, perhaps an enhanced one that agrees with it, and lines of printable ASCII. Nothing
//! else can be in it, whoever wrote the text, so that a reply can be written to the client without a second look: no
//! text of a remote can end a line, forge a second reply or steer a terminal that shows a log.
//!
//! [`ReplyDecoder`] reads the replies of remotes, and [`Reply::relayed`] makes out of one what the client is told.

use std::fmt;

use bytes::{BufMut, BytesMut};

mod code;
mod decoder;

pub use code::{Class, Code, EnhancedCode};
pub use decoder::{ReplyDecoder, ReplyError};

/// Longest reply line, CRLF included (RFC 5321 §4.5.3.1.5).
const MAX_LINE_OCTETS: usize = 512;

/// An SMTP reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: Code,
    enhanced: Option<EnhancedCode>,
    /// Printable ASCII, without codes; at least one.
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line with an enhanced code, whose class is made to agree with `code` (RFC 2034 §4).
    ///
    /// Octets that are no printable ASCII become `?` here and in the other constructors.
    pub fn new(code: Code, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self::multiline(code, Some(enhanced), [text])
    }

    /// A reply of one line without an enhanced code. Only the greeting, the replies to HELO and EHLO, and 3yz may go
    /// without (RFC 2034 §4).
    pub fn plain(code: Code, text: impl Into<String>) -> Self {
        Self::multiline(code, None, [text])
    }

    /// A reply of several lines; of one empty line if there are none.
    pub fn multiline<T: Into<String>>(
        code: Code,
        enhanced: Option<EnhancedCode>,
        lines: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut lines: Vec<_> = lines.into_iter().map(|line| sanitised(line.into().chars())).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, enhanced: enhanced.and_then(|enhanced| enhanced.agreeing_with(code)), lines }
    }

    /// The basic code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The class of the basic code, which is what to act on (RFC 5321 §4.2).
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// The enhanced code; its class is that of the basic code.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text of each line, without codes. There is at least one line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Appends the reply as it goes over the wire. A line beyond 512 octets loses its end (RFC 5321 §4.5.3.1.5).
    pub fn write(&self, out: &mut BytesMut) {
        let last = self.lines.len() - 1;
        for (index, text) in self.lines.iter().enumerate() {
            let separator = if index == last { ' ' } else { '-' };
            let mut line = match self.enhanced {
                // RFC 2034 §4: on every line.
                Some(enhanced) => format!("{}{separator}{enhanced} {text}", self.code),
                None => format!("{}{separator}{text}", self.code),
            };
            line.truncate(MAX_LINE_OCTETS - 2);
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
    }

    /// What the client is told when a remote has answered this: the same, except for what would act on the session
    /// between the client and us (see [`relayed_code`]). `from` names the remote and goes before each line, as
    /// `mx.example[192.0.2.1]: `; a code that was changed is told in the text.
    pub fn relayed(&self, from: &str) -> Self {
        let code = relayed_code(self.code);
        let enhanced = match self.enhanced {
            // RFC 3463 §3.6: X.5.0, something was wrong with the protocol.
            _ if code.class() != self.code.class() => EnhancedCode::transient(5, 0),
            Some(enhanced) => enhanced,
            // RFC 2034 §4: every line has one, and all we know is the class.
            None => EnhancedCode::transient(0, 0),
        };
        let said = if code == self.code { String::new() } else { format!("{} ", self.code) };
        Self::multiline(code, Some(enhanced), self.lines.iter().map(|line| format!("{from}: {said}{line}")))
    }
}

/// The code to give a client for a remote's answer to MAIL, RCPT, DATA or the end of data.
///
/// | the remote's | the client's | why |
/// |---|---|---|
/// | 220, 221, 235 | 451 | greeting, QUIT, AUTH (RFC 5321 §4.2.2, RFC 4954 §6): no answer to these commands, so no yes |
/// | 3yz | 451 | go on with what? Only DATA has one, and that 354 is ours to give (RFC 5321 §4.2.1) |
/// | 421 | 451 | would close the client's session (RFC 5321 §3.8), but only the remote's ends |
/// | 432, 454 | 451 | AUTH and STARTTLS for now (RFC 4954 §6, RFC 3207 §4): the client would look to its own |
/// | 521 | 554 | this host takes no mail (RFC 7504 §3): would be true of us, and clients hang up on it |
/// | 523-525, 530, 534, 535, 538 | 554 | AUTH or STARTTLS wanted (RFC 4954 §6, RFC 3207 §4): the client cannot give it |
/// | any other | the same | |
fn relayed_code(code: Code) -> Code {
    match code.number() {
        220 | 221 | 235 | 300..=399 | 421 | 432 | 454 => Code::LOCAL_ERROR,
        521 | 523..=525 | 530 | 534 | 535 | 538 => Code::TRANSACTION_FAILED,
        _ => code,
    }
}

/// Printable ASCII (RFC 5321 §4.2 `textstring`, without its TAB); everything else becomes `?`.
fn sanitised(text: impl Iterator<Item = char>) -> String {
    text.map(|character| match character {
        ' '..='~' => character,
        '\t' => ' ',
        _ => '?',
    })
    .collect()
}

impl fmt::Display for Reply {
    /// The reply on one line, for logs and for texts that quote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.code, f)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.lines.join(" / "))
    }
}
