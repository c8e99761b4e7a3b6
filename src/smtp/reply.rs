//! Replies: ours to the client, and the remote's to us (RFC 5321 §4.2, RFC 2034).
//!
//! A [`Reply`] is a basic code, perhaps an enhanced one that agrees with it, and lines of printable ASCII. The type
//! admits no other text, from any source, so that a reply can be written to the client without a second look: no text
//! of a remote can end a line, forge a second reply or steer a terminal that shows a log.
//!
//! [`ReplyDecoder`] reads the replies of remotes, and [`Reply::relayed`] turns one into the reply to the client.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::excerpt::{is_printable, printable};

mod code;
mod decoder;

pub use code::{Class, Code, EnhancedCode};
pub(crate) use decoder::is_blank;
pub use decoder::{ReplyDecoder, ReplyError};

/// Longest reply line, CRLF included (RFC 5321 §4.5.3.1.5).
const MAX_LINE_OCTETS: usize = 512;
/// About how long a line of text is.
const USUAL_LINE_OCTETS: usize = 80;
/// The most lines of a reply of our own that lists several outcomes: a long list does not fit into a client's log.
pub const MAX_REPLY_LINES: usize = 8;

/// An SMTP reply. Clones share the text: a remote's reply goes to the client, the log and the history of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: Code,
    enhanced: Option<EnhancedCode>,
    /// Lines of printable ASCII without codes, with a LF between them.
    text: Arc<str>,
}

impl Reply {
    /// A reply of one line with an enhanced code, its class made to agree with `code` (RFC 2034 §4).
    ///
    /// Octets that are no printable ASCII become `?` here and in the other constructors.
    pub fn new(code: Code, enhanced: EnhancedCode, text: impl AsRef<str>) -> Self {
        Self::multiline(code, Some(enhanced), [text])
    }

    /// A reply of one line without an enhanced code. Only the greeting, the replies to HELO and EHLO, and 3yz may go
    /// without (RFC 2034 §4).
    pub fn plain(code: Code, text: impl AsRef<str>) -> Self {
        Self::multiline(code, None, [text])
    }

    /// A reply of several lines; of one empty line if there are none.
    pub fn multiline<T: AsRef<str>>(
        code: Code,
        enhanced: Option<EnhancedCode>,
        lines: impl IntoIterator<Item = T>,
    ) -> Self {
        let mut text = ReplyText::default();
        lines.into_iter().for_each(|line| text.line(line.as_ref()));
        text.into_reply(code, enhanced)
    }

    /// The basic code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The class of the basic code, which decides the next action (RFC 5321 §4.2).
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// The enhanced code; its class is that of the basic code.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text of each line, without codes. There is at least one line.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.text.split('\n')
    }

    /// Appends the reply as it goes over the wire. A line beyond 512 octets loses its end (RFC 5321 §4.5.3.1.5).
    pub fn write(&self, out: &mut BytesMut) {
        let mut lines = self.lines().peekable();
        while let Some(text) = lines.next() {
            let start = out.len();
            out.put_slice(self.code.text().as_str().as_bytes());
            out.put_u8(if lines.peek().is_some() { b'-' } else { b' ' });
            if let Some(enhanced) = self.enhanced {
                // RFC 2034 §4: on every line.
                out.put_slice(enhanced.text().as_str().as_bytes());
                out.put_u8(b' ');
            }
            out.put_slice(text.as_bytes());
            out.truncate(start + MAX_LINE_OCTETS - 2);
            out.put_slice(b"\r\n");
        }
    }

    /// The reply to a recipient after accepted ones: 552 was RFC 821's word for too many recipients, and means 452 (RFC
    /// 5321 §4.5.3.1.10), unless its enhanced code has another meaning, as a full mailbox.
    #[must_use]
    pub fn behind_accepted_recipients(self) -> Self {
        let of_something_else = |enhanced: EnhancedCode| (enhanced.subject(), enhanced.detail()) != (5, 3);
        if self.code != Code::EXCEEDED_STORAGE || self.enhanced.is_some_and(of_something_else) {
            return self;
        }
        let lines = self.lines().map(|line| format!("{} {line}", self.code));
        Self::multiline(Code::INSUFFICIENT_STORAGE, Some(EnhancedCode::transient(5, 3)), lines)
    }

    /// The same on one line of at most so many octets: for those that are told by the hundred, or remembered.
    #[must_use]
    pub fn in_short(self, octets: usize) -> Self {
        let mut text = self.text.replace('\n', " / ");
        if text.len() > octets {
            text.truncate(octets.saturating_sub(3));
            text.push_str("...");
        }
        Self { text: text.into(), ..self }
    }

    /// How many octets of text it has.
    pub fn octets(&self) -> usize {
        self.text.len()
    }

    /// The same with this at its very end, as `.. (id 0123456789AB)`. A last line that would be too long with it loses as
    /// much of its text (RFC 5321 §4.5.3.1.5).
    pub fn with_id(self, id: &str) -> Self {
        let mut tail = ReplyText::default();
        tail.line(&format!(" (id {id})"));
        let codes = self.enhanced.map_or(0, |enhanced| enhanced.text().as_str().len() + 1) + 4;
        let last = self.text.rfind('\n').map_or(0, |end| end + 1);
        let most = (MAX_LINE_OCTETS - 2).saturating_sub(codes + tail.lines.len());
        let mut text = self.text.to_string();
        text.truncate(last + most);
        text.push_str(&tail.lines);
        Self { text: text.into(), ..self }
    }

    /// The reply to the client when a remote has given this one: the same, except for codes that would act on the
    /// session between the client and us (see [`relayed_code`]). `from` names the remote and goes before each line, as
    /// `mx.example[192.0.2.1]: `; the text shows a code that was changed.
    pub fn relayed(&self, from: impl fmt::Display) -> Self {
        let code = relayed_code(self.code);
        let enhanced = match self.enhanced {
            // RFC 3463 §3.6: X.5.0, a fault of the protocol.
            _ if code.class() != self.code.class() => EnhancedCode::transient(5, 0),
            Some(enhanced) => enhanced,
            // RFC 2034 §4: every line has one, and all we know is the class.
            None => EnhancedCode::transient(0, 0),
        };
        let front = if code == self.code { format!("{from}: ") } else { format!("{from}: {} ", self.code) };
        let mut text = ReplyText::default();
        for line in self.lines() {
            text.line(&front);
            text.push(line);
        }
        text.into_reply(code, Some(enhanced))
    }
}

/// The text of a reply as it is put together.
#[derive(Debug, Clone, Default)]
struct ReplyText {
    lines: String,
    count: usize,
}

impl ReplyText {
    /// Adds a line. A TAB becomes a blank, and any other octet that is no printable ASCII (RFC 5321 §4.2 `textstring`)
    /// `?`.
    fn line(&mut self, text: &str) {
        // A line is often put together from two pieces: it gets its room at once.
        self.lines.reserve(USUAL_LINE_OCTETS);
        if self.count > 0 {
            self.lines.push('\n');
        }
        self.count += 1;
        self.push(text);
    }

    /// Adds text to the last line.
    fn push(&mut self, text: &str) {
        if is_printable(text) {
            self.lines.push_str(text);
        } else {
            self.lines.extend(text.chars().map(|character| match character {
                '\t' => ' ',
                other => printable(other),
            }));
        }
    }

    /// Takes the last of several lines away.
    fn drop_last_line(&mut self) {
        if let Some(end) = self.lines.rfind('\n') {
            self.lines.truncate(end);
            self.count -= 1;
        }
    }

    /// The first lines and the last one: so many lines at most, with so many octets before the last one and in it.
    fn cut(&self, lines: usize, octets: usize) -> Self {
        let (before, last) =
            self.lines.rsplit_once('\n').map_or((None, self.lines.as_str()), |(before, last)| (Some(before), last));
        let mut kept = Self::default();
        let (mut left, first) = (octets, lines.saturating_sub(1));
        for line in before.into_iter().flat_map(|before| before.split('\n')).take(first) {
            kept.line(&line[..line.len().min(left)]);
            left = left.saturating_sub(line.len());
            if left == 0 {
                break;
            }
        }
        kept.line(&last[..last.len().min(octets)]);
        kept
    }

    /// Adds a line of a remote, an octet a character.
    fn octets(&mut self, text: &[u8]) {
        match str::from_utf8(text) {
            Ok(text) if text.is_ascii() => self.line(text),
            Ok(_) | Err(_) => self.line(&text.iter().copied().map(char::from).collect::<String>()),
        }
    }

    fn into_reply(self, code: Code, enhanced: Option<EnhancedCode>) -> Reply {
        Reply { code, enhanced: enhanced.and_then(|enhanced| enhanced.agreeing_with(code)), text: self.lines.into() }
    }
}

/// The code to give a client for a remote's answer to MAIL, RCPT, DATA or the end of data.
///
/// | the remote's | the client's | why |
/// |---|---|---|
/// | 220, 221 | 451 | the greeting, QUIT (RFC 5321 §4.2.2): no answer to these commands, so no yes |
/// | 3yz | 451 | it asks for more input. Only DATA has one, and that 354 is ours to give (RFC 5321 §4.2.1) |
/// | 421 | 451 | would close the client's session (RFC 5321 §3.8), but only the remote's ends |
/// | 454 | 451 | no TLS for now (RFC 3207 §4): the client would look to its own session |
/// | 23z, 43z, 53z | 451, 451, 554 | AUTH and STARTTLS (RFC 4954 §6, RFC 3207 §4): not the client's to do |
/// | 521 | 554 | this host takes no mail (RFC 7504 §3): not true of us, and clients hang up on it |
/// | 523-525 | 554 | AUTH again, in the registry of RFC 5248 |
/// | any other | the same | |
fn relayed_code(code: Code) -> Code {
    match code.number() {
        220 | 221 | 230..=239 | 300..=399 | 421 | 430..=439 | 454 => Code::LOCAL_ERROR,
        521 | 523..=525 | 530..=539 => Code::TRANSACTION_FAILED,
        _ => code,
    }
}

impl fmt::Display for Reply {
    /// The reply on one line, for logs and for texts that quote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.text().as_str())?;
        if let Some(enhanced) = self.enhanced {
            f.write_str(" ")?;
            f.write_str(enhanced.text().as_str())?;
        }
        self.lines().enumerate().try_for_each(|(index, line)| {
            f.write_str(if index > 0 { " / " } else { " " })?;
            f.write_str(line)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn read(text: &str) -> Reply {
        ReplyDecoder::new().decode(&mut text.as_bytes().into()).unwrap().unwrap()
    }

    #[test]
    fn on_the_wire() {
        for (reply, text) in [
            (Reply::plain(Code::READY, "relay.example ESMTP"), "220 relay.example ESMTP\r\n"),
            (Reply::new(Code::OK, EnhancedCode::success(1, 0), "sender ok"), "250 2.1.0 sender ok\r\n"),
            // M21: on every line.
            (
                Reply::multiline(Code::LOCAL_ERROR, Some(EnhancedCode::transient(7, 5)), ["a", "b"]),
                "451-4.7.5 a\r\n451 4.7.5 b\r\n",
            ),
            // N2: the classes agree, and 3yz has none.
            (Reply::new(Code::LOCAL_ERROR, EnhancedCode::permanent(7, 5), "x"), "451 4.7.5 x\r\n"),
            (Reply::new(Code::START_MAIL_INPUT, EnhancedCode::success(0, 0), "go"), "354 go\r\n"),
            (Reply::multiline(Code::OK, None, [""; 0]), "250 \r\n"),
            // A-63, M8.
            (Reply::plain(Code::OK, "a\r\n250 b\u{1b}ü\u{7f}"), "250 a??250 b???\r\n"),
        ] {
            assert_eq!(written(&reply), text);
        }
    }

    #[test]
    fn an_id_stands_at_the_end_of_any_text() {
        let short = Reply::multiline(Code::LOCAL_ERROR, Some(EnhancedCode::transient(7, 4)), ["a", "b"]);
        assert_eq!(written(&short.with_id("0123456789AB")), "451-4.7.4 a\r\n451 4.7.4 b (id 0123456789AB)\r\n");
        for enhanced in [None, Some(EnhancedCode::transient(7, 123))] {
            let long =
                written(&Reply::multiline(Code::LOCAL_ERROR, enhanced, ["x".repeat(1000)]).with_id("0123456789AB"));
            assert!(long.len() == 512 && long.ends_with("x (id 0123456789AB)\r\n"), "{long}");
        }
    }

    #[test]
    fn a_reply_in_short_is_one_bounded_line() {
        let reply = Reply::multiline(Code::LOCAL_ERROR, Some(EnhancedCode::transient(7, 4)), ["abc", "defg"]);
        assert_eq!(written(&reply.clone().in_short(10)), "451 4.7.4 abc / defg\r\n");
        assert_eq!(written(&reply.in_short(9)), "451 4.7.4 abc / ...\r\n");
    }

    #[test]
    fn long_lines_are_cut() {
        let reply = Reply::new(Code::OK, EnhancedCode::success(0, 0), "x".repeat(1000));
        assert_eq!(written(&reply).len(), 512);
        assert!(written(&reply).ends_with("x\r\n"));
    }

    #[test]
    fn replies_relayed_to_the_client() {
        for (remote, client) in [
            ("250 2.1.5 ok\r\n", "250 2.1.5 mx: ok\r\n"),
            ("250 ok\r\n", "250 2.0.0 mx: ok\r\n"),
            ("251 2.1.5 will forward\r\n", "251 2.1.5 mx: will forward\r\n"),
            ("450 4.2.0 greylisted\r\n", "450 4.2.0 mx: greylisted\r\n"),
            ("550 no\r\n", "550 5.0.0 mx: no\r\n"),
            ("550-5.7.1 no\r\n550 5.7.1 and why\r\n", "550-5.7.1 mx: no\r\n550 5.7.1 mx: and why\r\n"),
            // RFC 2034 §4: one enhanced code for all lines, and it agrees with the code.
            ("550-no\r\n550 5.7.1 and why\r\n", "550-5.7.1 mx: no\r\n550 5.7.1 mx: and why\r\n"),
            ("550-5.1.1 a\r\n550 5.7.1 b\r\n", "550-5.1.1 mx: a\r\n550 5.1.1 mx: 5.7.1 b\r\n"),
            ("550-2.1.1 a\r\n550 b\r\n", "550-5.0.0 mx: 2.1.1 a\r\n550 5.0.0 mx: b\r\n"),
            // L9: an enhanced code that lies loses its place, not its text.
            ("250 5.1.1 x\r\n", "250 2.0.0 mx: 5.1.1 x\r\n"),
            // L8: codes that would act on the client's own session.
            ("421 4.3.2 bye\r\n", "451 4.3.2 mx: 421 bye\r\n"),
            ("421 bye\r\n", "451 4.0.0 mx: 421 bye\r\n"),
            ("521 5.3.2 never\r\n", "554 5.3.2 mx: 521 never\r\n"),
            ("530 5.7.0 STARTTLS first\r\n", "554 5.7.0 mx: 530 STARTTLS first\r\n"),
            ("535 5.7.8 who?\r\n", "554 5.7.8 mx: 535 who?\r\n"),
            ("538 5.7.11 encrypt\r\n", "554 5.7.11 mx: 538 encrypt\r\n"),
            ("454 4.7.0 no TLS\r\n", "451 4.7.0 mx: 454 no TLS\r\n"),
            // L1: no reply becomes a success that was none.
            ("220 hello\r\n", "451 4.5.0 mx: 220 hello\r\n"),
            ("221 2.0.0 bye\r\n", "451 4.5.0 mx: 221 bye\r\n"),
            ("235 2.7.0 in\r\n", "451 4.5.0 mx: 235 in\r\n"),
            ("334 dXNlcg==\r\n", "451 4.5.0 mx: 334 dXNlcg==\r\n"),
            ("354 go\r\n", "451 4.5.0 mx: 354 go\r\n"),
        ] {
            assert_eq!(written(&read(remote).relayed("mx")), client, "{remote:?}");
        }
    }

    #[test]
    fn too_many_recipients() {
        // K13.
        for (remote, meant) in [
            ("552 too many recipients\r\n", "452 4.5.3 552 too many recipients\r\n"),
            ("552 5.5.3 too many\r\n", "452 4.5.3 552 too many\r\n"),
            ("552-a\r\n552 b\r\n", "452-4.5.3 552 a\r\n452 4.5.3 552 b\r\n"),
            ("552 5.2.2 mailbox full\r\n", "552 5.2.2 mailbox full\r\n"),
            ("552 5.3.4 too big\r\n", "552 5.3.4 too big\r\n"),
            ("550 5.5.3 too many\r\n", "550 5.5.3 too many\r\n"),
            ("250 2.1.5 ok\r\n", "250 2.1.5 ok\r\n"),
        ] {
            assert_eq!(written(&read(remote).behind_accepted_recipients()), meant, "{remote:?}");
        }
    }

    proptest! {
        /// I3, L9, N2: for any reply of a remote the client is sent one reply that cannot act on its session.
        #[test]
        fn the_client_gets_one_clean_reply(
            number in 200u16..600, text in prop::collection::vec(any::<u8>(), 0..600), from in "\\PC{0,20}",
        ) {
            let mut input = BytesMut::from(format!("{number}-").as_bytes());
            input.extend(text.iter().filter(|octet| !matches!(octet, b'\r' | b'\n')));
            input.extend_from_slice(format!("\r\n{number} x\r\n").as_bytes());
            let reply = ReplyDecoder::new().decode(&mut input).unwrap().unwrap();
            let sent = written(&reply.relayed(&from));
            let relayed = read(&sent);
            prop_assert!(!matches!(relayed.code().number(), 220 | 221 | 235 | 300..=399 | 421 | 521 | 530..=539));
            let class = relayed.enhanced().map(EnhancedCode::class);
            prop_assert_eq!(class, Some(relayed.class()));
            prop_assert!(relayed.class() != Class::Success || reply.class() == Class::Success);
            for line in sent.split_terminator("\r\n") {
                prop_assert!(line.len() <= 510 && line.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
                let enhanced = relayed.enhanced().unwrap().to_string();
                prop_assert!(line[4..].starts_with(&enhanced));
            }
        }
    }
}
