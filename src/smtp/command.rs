//! Commands: one line of a client, read into a value that can be written to a remote (RFC 5321 §4.1.1).
//!
//! A command that goes on to a remote is never the client's text, it is written from the value ([`fmt::Display`]), and
//! reading that text gives the same value again. So a remote sees only text that was understood here: no control
//! characters, no unknown parameter, no second command behind a line end.
//!
//! Whether a command may come now is for [`crate::transaction::dialogue`].

use std::fmt;
use std::net::IpAddr;
use std::str;
use std::sync::Arc;

use super::address::{self, AddressError, ForwardPath, SmtpUtf8};
use super::chunk::Chunk;
use super::line::Line;
use super::reply::{Code, EnhancedCode, Reply};
use crate::name::Name;

mod grammar;
mod mail;

pub use grammar::{Grammar, Strictness};
pub use mail::{BodyType, Mail, Parameter, Prdr, RequireTls};

/// A command of SMTP or LMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO: a client of today introduces itself.
    Ehlo(Hello),
    /// HELO: a client of old introduces itself.
    Helo(Hello),
    /// LHLO: an LMTP client introduces itself (RFC 2033 §4.1).
    Lhlo(Hello),
    /// MAIL: a transaction starts.
    Mail(Mail),
    /// RCPT: one more recipient. UTF-8 in it is let through here; see [`needs_smtp_utf8`](super::address::Mailbox::needs_smtp_utf8).
    Rcpt(ForwardPath),
    /// DATA: the message is to follow.
    Data,
    /// BDAT: a piece of the message follows (RFC 3030 §2).
    Bdat(Chunk),
    /// RSET: the transaction is off.
    Rset,
    /// NOOP, with any argument.
    Noop,
    /// QUIT: the session is over.
    Quit,
    /// STARTTLS: TLS is to begin (RFC 3207).
    StartTls,
    /// VRFY, with any argument.
    Vrfy,
    /// EXPN, with any argument.
    Expn,
    /// HELP, with any argument.
    Help,
}

/// The name that a client gives itself: printable ASCII without blanks and without characters that have a meaning in a
/// header field.
///
/// RFC 5321 §4.1.1.1 asks for a domain or an address literal. Machines send single labels and underscores too, and no
/// mail depends on it (§4.1.4 forbids to refuse one over this), so other characters are replaced by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    text: Arc<str>,
    /// The name that the text is, if it is one.
    name: Option<Name>,
}

/// Why a line is no command that we can carry out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Longer than the line decoder's limit.
    #[error("line too long")]
    LineTooLong,
    /// A LF without CR.
    #[error("lines end with CR LF")]
    BareLineFeed,
    /// A control character, CR and NUL among them.
    #[error("control character in command")]
    ControlCharacter,
    /// Octets above 127 that are no UTF-8.
    #[error("command is neither ASCII nor UTF-8")]
    NotUtf8,
    /// A verb that SMTP does not have.
    #[error("command not recognised")]
    Unrecognised,
    /// A request of HTTP. A stranger may have written its body, which may hold commands of SMTP: by a page in a browser on this
    /// host, or by an address that a program on this host fetches.
    #[error("this is SMTP, and not HTTP")]
    Http,
    /// A verb of an extension that we do not offer.
    #[error("command not implemented")]
    NotImplemented,
    /// An argument to a command that takes none.
    #[error("no argument allowed")]
    UnexpectedArgument,
    /// EHLO, HELO or LHLO without a name, or with more than 255 octets of it.
    #[error("a host name or an address literal is needed")]
    Hello,
    /// MAIL without `FROM:`.
    #[error("syntax: MAIL FROM:<address>")]
    NoFrom,
    /// BDAT without the number of its octets, so that the start of the next command is unknown.
    #[error("syntax: BDAT octets [LAST]")]
    Chunk,
    /// RCPT without `TO:`.
    #[error("syntax: RCPT TO:<address>")]
    NoTo,
    /// A sender that is no address.
    #[error("bad sender address: {0}")]
    ReversePath(AddressError),
    /// A recipient that is no address.
    #[error("bad recipient address: {0}")]
    ForwardPath(AddressError),
    /// No `keyword` and no `keyword=value`.
    #[error("malformed parameter")]
    MalformedParameter,
    /// A parameter of an extension that we do not offer.
    #[error("parameter not recognised")]
    UnknownParameter,
    /// A parameter twice.
    #[error("{0} given twice")]
    DuplicateParameter(Parameter),
    /// A parameter with a value that it cannot have.
    #[error("bad value for {0}")]
    ParameterValue(Parameter),
}

impl CommandError {
    /// The parameter of MAIL that is wrong, if it is one that we know.
    pub fn parameter(&self) -> Option<Parameter> {
        match self {
            Self::DuplicateParameter(parameter) | Self::ParameterValue(parameter) => Some(*parameter),
            Self::LineTooLong | Self::BareLineFeed | Self::ControlCharacter | Self::NotUtf8 => None,
            Self::Unrecognised | Self::Http | Self::NotImplemented | Self::UnexpectedArgument | Self::Hello => None,
            Self::NoFrom | Self::Chunk | Self::NoTo | Self::ReversePath(_) | Self::ForwardPath(_) => None,
            Self::MalformedParameter | Self::UnknownParameter => None,
        }
    }

    /// Whether the octets behind the line must not be read as commands: those of a message behind a BDAT that makes no sense (RFC
    /// 3030 §2), and the header and body of a request.
    pub fn ends_session(&self) -> bool {
        matches!(self, Self::Chunk | Self::Http)
    }

    /// The reply to the client.
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            // RFC 3463 §3.6: X.5.1 invalid command, X.5.2 syntax error, X.5.4 invalid arguments.
            Self::LineTooLong | Self::BareLineFeed | Self::ControlCharacter | Self::NotUtf8 => {
                (Code::SYNTAX_ERROR, EnhancedCode::permanent(5, 2))
            }
            Self::Unrecognised | Self::Http => (Code::SYNTAX_ERROR, EnhancedCode::permanent(5, 1)),
            Self::NotImplemented => (Code::NOT_IMPLEMENTED, EnhancedCode::permanent(5, 1)),
            Self::UnexpectedArgument | Self::Hello | Self::NoFrom | Self::NoTo | Self::Chunk => {
                (Code::ARGUMENT_ERROR, EnhancedCode::permanent(5, 4))
            }
            Self::MalformedParameter | Self::DuplicateParameter(_) | Self::ParameterValue(_) => {
                (Code::ARGUMENT_ERROR, EnhancedCode::permanent(5, 4))
            }
            // RFC 5321 §4.1.1.11.
            Self::UnknownParameter => (Code::PARAMETERS_NOT_RECOGNISED, EnhancedCode::permanent(5, 4)),
            // RFC 6531 §3.5: 550 to MAIL, 553 to RCPT.
            Self::ReversePath(AddressError::NeedsSmtpUtf8) => {
                (Code::MAILBOX_UNAVAILABLE, EnhancedCode::permanent(6, 7))
            }
            Self::ForwardPath(AddressError::NeedsSmtpUtf8) => {
                (Code::MAILBOX_NAME_NOT_ALLOWED, EnhancedCode::permanent(6, 7))
            }
            // RFC 3463 §3.2: X.1.7 bad sender address syntax, X.1.3 bad destination address syntax.
            Self::ReversePath(_) => (Code::ARGUMENT_ERROR, EnhancedCode::permanent(1, 7)),
            Self::ForwardPath(_) => (Code::ARGUMENT_ERROR, EnhancedCode::permanent(1, 3)),
        };
        Reply::new(code, enhanced, self.to_string())
    }
}

impl Command {
    /// Reads a line that a [`super::line::LineDecoder`] found.
    ///
    /// # Errors
    /// The line is no command, for this reason; the client gets a reply, and the session goes on.
    pub fn read(line: &Line) -> Result<Self, CommandError> {
        match line {
            Line::Complete(line) => Self::parse(line),
            // RFC 3030 §2: the octets behind any faulty BDAT are no command.
            Line::TooLong(start) | Line::BareLineFeed(start) if is_bdat(start) => Err(CommandError::Chunk),
            Line::TooLong(start) | Line::BareLineFeed(start) if is_http(start) => Err(CommandError::Http),
            Line::TooLong(_) => Err(CommandError::LineTooLong),
            Line::BareLineFeed(_) => Err(CommandError::BareLineFeed),
        }
    }

    /// Reads a line without its CRLF. Verbs and keywords may be in any case (RFC 5321 §2.4), and blanks at the end are
    /// ignored (§4.1.1).
    ///
    /// # Errors
    /// The line is no command, for this reason.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let line = trim_blanks_end(line);
        let end = line.iter().position(|octet| octet.is_ascii_whitespace()).unwrap_or(line.len());
        let (verb, argument) = (line[..end].to_ascii_uppercase(), line[end..].trim_ascii_start());
        if verb == b"BDAT" {
            return Chunk::parse(&line[end..]).map(Self::Bdat).ok_or(CommandError::Chunk);
        }
        if is_http(line) {
            return Err(CommandError::Http);
        }
        if line.iter().any(u8::is_ascii_control) {
            return Err(CommandError::ControlCharacter);
        }
        match verb.as_slice() {
            b"EHLO" => Hello::parse(argument).map(Self::Ehlo),
            b"HELO" => Hello::parse(argument).map(Self::Helo),
            b"LHLO" => Hello::parse(argument).map(Self::Lhlo),
            b"MAIL" => Mail::parse(utf8(argument)?).map(Self::Mail),
            b"RCPT" => parse_rcpt(utf8(argument)?).map(Self::Rcpt),
            b"DATA" => without_argument(Self::Data, argument),
            b"RSET" => without_argument(Self::Rset, argument),
            b"QUIT" => without_argument(Self::Quit, argument),
            // RFC 3207 §4: 501 for a parameter.
            b"STARTTLS" => without_argument(Self::StartTls, argument),
            b"NOOP" => Ok(Self::Noop),
            b"VRFY" => Ok(Self::Vrfy),
            b"EXPN" => Ok(Self::Expn),
            b"HELP" => Ok(Self::Help),
            // RFC 5321 §4.2.4: 502 for those we know and do not offer, 500 for the rest.
            b"AUTH" | b"BURL" | b"ETRN" | b"TURN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" | b"XCLIENT"
            | b"XFORWARD" => Err(CommandError::NotImplemented),
            _ => Err(CommandError::Unrecognised),
        }
    }
}

fn is_bdat(line: &[u8]) -> bool {
    line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"))
}

/// Whether a line begins as a request of HTTP does (RFC 9110 §9.1: a method in capitals), by the four octets that are kept of a line
/// that is too long. No verb of SMTP begins so.
fn is_http(line: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] =
        [b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"CONN", b"PATC", b"TRAC", b"PRI "];
    METHODS.iter().any(|method| line.starts_with(method))
}

/// Blanks are SP and TAB (RFC 5321 §2.3.8 leaves no other meaning to a CR or LF), so a CR stays to be refused.
fn trim_blanks_end(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

fn utf8(argument: &[u8]) -> Result<&str, CommandError> {
    str::from_utf8(argument).map_err(|_| CommandError::NotUtf8)
}

/// RFC 5321 §4.3.2 has 501 for an argument where none belongs.
fn without_argument(command: Command, argument: &[u8]) -> Result<Command, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::UnexpectedArgument) }
}

impl Hello {
    /// RFC 5321 §4.5.3.1.2, the longest domain.
    const MAX_OCTETS: usize = 255;

    fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        Self { name: Name::parse(&text).ok(), text }
    }

    /// The name as it may stand in a log line, a reply or a `Received` field.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as the name of a host, if it is one.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// The address, if it is an address literal (RFC 5321 §4.1.3).
    pub fn literal(&self) -> Option<IpAddr> {
        match address::RecipientDomain::parse(&self.text) {
            Ok(address::RecipientDomain::Literal(address)) => Some(address),
            Ok(address::RecipientDomain::Name(_)) | Err(_) => None,
        }
    }

    fn parse(argument: &[u8]) -> Result<Self, CommandError> {
        if argument.is_empty() || argument.len() > Self::MAX_OCTETS {
            return Err(CommandError::Hello);
        }
        let replaced = |octet: &u8| match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'[' | b']' => char::from(*octet),
            _ => '?',
        };
        Ok(Self::new(argument.iter().map(replaced).collect::<String>()))
    }
}

impl str::FromStr for Hello {
    type Err = CommandError;

    fn from_str(text: &str) -> Result<Self, CommandError> {
        Self::parse(text.as_bytes())
    }
}

impl From<&Name> for Hello {
    fn from(name: &Name) -> Self {
        Self::new(name.to_string())
    }
}

impl From<IpAddr> for Hello {
    /// The address literal, for a host without a name (RFC 5321 §4.1.3).
    fn from(address: IpAddr) -> Self {
        Self::new(address::RecipientDomain::Literal(address).to_string())
    }
}

/// RCPT takes no parameters: those of DSN, which is not offered (RFC 3461 §4), are refused.
fn parse_rcpt(argument: &str) -> Result<ForwardPath, CommandError> {
    let text = after_keyword(argument, "TO:").ok_or(CommandError::NoTo)?;
    let (path, parameters) = address::split_path(text).map_err(CommandError::ForwardPath)?;
    if !mail::split_parameters(parameters)?.is_empty() {
        return Err(CommandError::UnknownParameter);
    }
    ForwardPath::parse(path, SmtpUtf8::Requested).map_err(CommandError::ForwardPath)
}

/// The text behind `FROM:` or `TO:`. Blanks there are against RFC 5321 §3.3, but some clients write one.
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (word, rest) = argument.split_at_checked(keyword.len())?;
    word.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

impl fmt::Display for Command {
    /// The line that a remote is sent, without its CRLF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ehlo(hello) => write!(f, "EHLO {hello}"),
            Self::Helo(hello) => write!(f, "HELO {hello}"),
            Self::Lhlo(hello) => write!(f, "LHLO {hello}"),
            Self::Mail(mail) => {
                f.write_str("MAIL FROM:")?;
                mail.fmt(f)
            }
            Self::Rcpt(path) => {
                f.write_str("RCPT TO:")?;
                path.fmt(f)
            }
            Self::Data => f.write_str("DATA"),
            Self::Bdat(chunk) => write!(f, "{chunk}"),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Rset => f.write_str("RSET"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
            Self::Vrfy => f.write_str("VRFY"),
            Self::Expn => f.write_str("EXPN"),
            Self::Help => f.write_str("HELP"),
        }
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn commands_as_a_remote_gets_them() {
        for (written, sent) in [
            // I2.
            ("mAiL fRoM:<A@B.Example>", "MAIL FROM:<A@b.example>"),
            ("MAIL FROM: <a@b.example>  ", "MAIL FROM:<a@b.example>"),
            // I25.
            ("MAIL FROM:<>", "MAIL FROM:<>"),
            ("MAIL FROM:<> body=8bitmime SMTPUTF8 size=007", "MAIL FROM:<> SIZE=7 BODY=8BITMIME SMTPUTF8"),
            ("MAIL FROM:<> BODY=7BIT", "MAIL FROM:<> BODY=7BIT"),
            ("MAIL FROM:<\"a> SIZE=1\"@b.example>", "MAIL FROM:<\"a> SIZE=1\"@b.example>"),
            ("MAIL FROM:<ü@b.example> SMTPUTF8", "MAIL FROM:<ü@b.example> SMTPUTF8"),
            ("MAIL FROM:<> prdr SIZE=1", "MAIL FROM:<> SIZE=1 PRDR"),
            // Q5.
            ("MAIL FROM:<> RequireTLS BODY=7BIT", "MAIL FROM:<> BODY=7BIT REQUIRETLS"),
            // M10.
            ("MAIL FROM:<> SIZE=99999999999999999999", "MAIL FROM:<> SIZE=18446744073709551615"),
            ("rcpt to:<@r.example:u@d.example>", "RCPT TO:<u@d.example>"),
            ("RCPT TO: <postmaster>", "RCPT TO:<Postmaster>"),
            ("RCPT TO:<ü@bücher.example>", "RCPT TO:<ü@xn--bcher-kva.example>"),
            ("ehlo my_host.example", "EHLO my_host.example"),
            ("EHLO [IPv6:::1]", "EHLO [IPv6:::1]"),
            ("HELO WIN-1", "HELO WIN-1"),
            ("LHLO localhost", "LHLO localhost"),
            // No characters that could have a meaning in a Received field.
            ("EHLO a;b (c) \"d\\", "EHLO a?b??c???d?"),
            // M8.
            ("EHLO bü", "EHLO b??"),
            ("data \t", "DATA"),
            ("bdat 007", "BDAT 7"),
            ("BDAT 0  last ", "BDAT 0 LAST"),
            ("RSET", "RSET"),
            ("QUIT", "QUIT"),
            // I27.
            ("NOOP whatever", "NOOP"),
            ("VRFY <a@b>", "VRFY"),
            ("EXPN list", "EXPN"),
            ("HELP me", "HELP"),
        ] {
            let command = parse(written).expect(written);
            assert_eq!(command.to_string(), sent);
            assert_eq!(parse(sent), Ok(command));
        }
    }

    #[test]
    fn refused_commands_and_their_replies() {
        for (written, reply) in [
            // I9.
            ("", "500 5.5.1 command not recognised"),
            (" NOOP", "500 5.5.1 command not recognised"),
            ("FOO", "500 5.5.1 command not recognised"),
            ("DATA:", "500 5.5.1 command not recognised"),
            ("MAIL\u{a0}FROM:<>", "500 5.5.1 command not recognised"),
            // H13, A-97.
            ("STARTTLS x", "501 5.5.4 no argument allowed"),
            ("XCLIENT NAME=x", "502 5.5.1 command not implemented"),
            // A-81, A-88: a CR in a line that ends with CRLF, NUL, ESC.
            ("QUIT\r", "500 5.5.2 control character in command"),
            ("NOOP \0", "500 5.5.2 control character in command"),
            ("EHLO a\x1b[2J", "500 5.5.2 control character in command"),
            ("MAIL FROM:<a@b.example>\rRCPT TO:<c@d>", "500 5.5.2 control character in command"),
            ("MAIL FROM:<\"a\t\"@b.example>", "500 5.5.2 control character in command"),
            ("DATA now", "501 5.5.4 no argument allowed"),
            // M12.
            ("BDAT", "501 5.5.4 syntax: BDAT octets [LAST]"),
            ("BDAT 18446744073709551616", "501 5.5.4 syntax: BDAT octets [LAST]"),
            ("BDAT 5\0", "501 5.5.4 syntax: BDAT octets [LAST]"),
            ("BDAT\t5", "501 5.5.4 syntax: BDAT octets [LAST]"),
            ("QUIT 1", "501 5.5.4 no argument allowed"),
            ("EHLO", "501 5.5.4 a host name or an address literal is needed"),
            ("MAIL", "501 5.5.4 syntax: MAIL FROM:<address>"),
            ("MAIL TO:<a@b.example>", "501 5.5.4 syntax: MAIL FROM:<address>"),
            ("MAIL FROM <a@b.example>", "501 5.5.4 syntax: MAIL FROM:<address>"),
            ("RCPT FROM:<a@b.example>", "501 5.5.4 syntax: RCPT TO:<address>"),
            ("MAIL FROM:a@b.example", "501 5.1.7 bad sender address: the address is not in angle brackets"),
            ("MAIL FROM:<a>", "501 5.1.7 bad sender address: the address has no domain"),
            (
                "RCPT TO:<a@b@c>",
                "501 5.1.3 bad recipient address: the domain is malformed: \
                 it has a character outside letters, digits, '-' and '_'",
            ),
            // I29.
            ("RCPT TO:<>", "501 5.1.3 bad recipient address: a recipient is needed"),
            // I23.
            ("MAIL FROM:<> FOO=BAR", "555 5.5.4 parameter not recognised"),
            ("MAIL FROM:<> AUTH=<>", "555 5.5.4 parameter not recognised"),
            // M17, M18: DSN is not offered, so none of it gets to a remote.
            ("MAIL FROM:<> RET=HDRS", "555 5.5.4 parameter not recognised"),
            ("MAIL FROM:<> ENVID=x", "555 5.5.4 parameter not recognised"),
            ("RCPT TO:<a@b.example> ORCPT=rfc822;a@b.example", "555 5.5.4 parameter not recognised"),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER", "555 5.5.4 parameter not recognised"),
            // A-89.
            ("RCPT TO:<a@b.example>c@d.example", "501 5.5.4 malformed parameter"),
            ("MAIL FROM:<> SIZE=", "501 5.5.4 malformed parameter"),
            ("MAIL FROM:<> BODY=A=B", "501 5.5.4 malformed parameter"),
            ("MAIL FROM:<> =5", "501 5.5.4 malformed parameter"),
            ("MAIL FROM:<> -X", "501 5.5.4 malformed parameter"),
            // M3, M6, M10, M14.
            ("MAIL FROM:<> BODY=7BIT BODY=7BIT", "501 5.5.4 BODY given twice"),
            ("MAIL FROM:<> SIZE=1 size=1", "501 5.5.4 SIZE given twice"),
            ("MAIL FROM:<> SMTPUTF8 SMTPUTF8", "501 5.5.4 SMTPUTF8 given twice"),
            ("MAIL FROM:<> SMTPUTF8=1", "501 5.5.4 bad value for SMTPUTF8"),
            // Q22.
            ("MAIL FROM:<> REQUIRETLS requiretls", "501 5.5.4 REQUIRETLS given twice"),
            ("MAIL FROM:<> REQUIRETLS=yes", "501 5.5.4 bad value for REQUIRETLS"),
            ("MAIL FROM:<> REQUIRETLS=", "501 5.5.4 malformed parameter"),
            ("MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4 bad value for BODY"),
            ("MAIL FROM:<> BODY", "501 5.5.4 bad value for BODY"),
            ("MAIL FROM:<> SIZE", "501 5.5.4 bad value for SIZE"),
            ("MAIL FROM:<> SIZE=-1", "501 5.5.4 bad value for SIZE"),
            ("MAIL FROM:<> SIZE=+1", "501 5.5.4 bad value for SIZE"),
            ("MAIL FROM:<> SIZE=000000000000000000001", "501 5.5.4 bad value for SIZE"),
            // M4.
            (
                "MAIL FROM:<ü@b.example>",
                "550 5.6.7 bad sender address: the address is not ASCII, and the mail was not sent with SMTPUTF8",
            ),
        ] {
            let error = parse(written).expect_err(written);
            assert_eq!(error.reply().to_string(), reply, "{written:?}");
        }
        let latin1 = Command::parse(b"RCPT TO:<\xfc@b.example>").unwrap_err();
        assert_eq!(latin1.reply().to_string(), "500 5.5.2 command is neither ASCII nor UTF-8");
    }

    #[test]
    fn lines_that_are_none() {
        // I6, I11.
        for (line, reply) in [
            (Line::TooLong("NOOP".into()), "500 5.5.2 line too long"),
            (Line::BareLineFeed("NOOP".into()), "500 5.5.2 lines end with CR LF"),
            (Line::TooLong("bdat".into()), "501 5.5.4 syntax: BDAT octets [LAST]"),
            (Line::BareLineFeed("BDAT 5".into()), "501 5.5.4 syntax: BDAT octets [LAST]"),
        ] {
            assert_eq!(Command::read(&line).unwrap_err().reply().to_string(), reply);
        }
        let line = Line::Complete(bytes::Bytes::from_static(b"QUIT"));
        assert_eq!(Command::read(&line), Ok(Command::Quit));
    }

    #[test]
    fn how_we_introduce_ourselves() {
        let name = Name::parse("Relay.Example").unwrap();
        assert_eq!(Command::Ehlo(Hello::from(&name)).to_string(), "EHLO relay.example");
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(Command::Ehlo(Hello::from(address)).to_string(), "EHLO [IPv6:2001:db8::1]");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A-90: a command that is sent to a remote has the meaning that was understood, and is one line of printable
        /// text.
        #[test]
        fn writing_and_reading_are_inverse(
            verb in prop::sample::select(vec!["MAIL FROM:<", "RCPT TO:<", "EHLO ", "mail from: <", ""]),
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "B", "@", ".", "\"", "\\", " ", ">", "<", ":", "@b.example>", "@[127.0.0.1]>", "@x.example:",
                    " SIZE=7", " SMTPUTF8", " REQUIRETLS", " BODY=8BITMIME", "ü", "\r", "\n", "\0", "%", "=", "@bücher.example>",
                ]),
                0..10,
            ),
        ) {
            if let Ok(command) = parse(&(verb.to_owned() + &words.concat())) {
                let sent = command.to_string();
                prop_assert!(!sent.chars().any(char::is_control));
                prop_assert_eq!(parse(&sent), Ok(command));
            }
        }

        #[test]
        fn every_line_has_a_reply(line in prop::collection::vec(any::<u8>(), 0..80)) {
            match Command::parse(&line) {
                Ok(command) => prop_assert_eq!(parse(&command.to_string()), Ok(command)),
                Err(error) => prop_assert_eq!(error.reply().class(), super::super::reply::Class::Permanent),
            }
        }
    }
}
