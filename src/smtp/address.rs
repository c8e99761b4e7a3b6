//! Paths: who a mail is from and for, as MAIL and RCPT write it (RFC 5321 §4.1.2).
//!
//! The domain of a path decides where a mail goes, so the one that danelaw routes by must be the one the remote reads.
//! There is one parser, what it does not understand it refuses, and what goes on to the remote is written from the
//! parsed value: the local part octet for octet (§2.4: only the final host may interpret it), the domain as the
//! [`Name`] that is looked up in DNS, in lower-case A-labels. Source routes are dropped, as §3.6.1 and Appendix C ask.
//!
//! More lenient than the grammar in two places, because such addresses exist and only the remote can judge them: dots
//! may stand anywhere in a local part (`a..b@example`, mobile carriers hand those out), and a local part may be longer
//! than the 64 octets of §4.5.3.1.1, which says what everybody has to accept, not where to stop.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::{Name, NameError};

/// Longest path with its brackets: `MAIL FROM:` and CRLF around it make 512 octets, the longest command line that
/// every server has to accept (RFC 5321 §4.5.3.1.4). At least 256 (§4.5.3.1.3).
const MAX_PATH_OCTETS: usize = 500;

/// Whether a transaction is an internationalised one: its MAIL command carried SMTPUTF8 (RFC 6531 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SmtpUtf8 {
    /// Addresses are ASCII.
    Absent,
    /// Local parts may hold UTF-8, domains U-labels.
    Requested,
}

/// Whom to tell when a mail cannot be delivered (RFC 5321 §4.1.2 `Reverse-path`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nobody. Bounces have it (§4.5.5).
    Null,
    /// `<local@domain>`.
    Mailbox(Mailbox),
}

/// Whom a mail is for (RFC 5321 §4.1.2 `Forward-path`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>`: the postmaster of the server itself (§4.1.1.3). It names no domain to route by.
    Postmaster,
    /// `<local@domain>`.
    Mailbox(Mailbox),
}

/// A local part and the domain that knows what it means (RFC 5321 §4.1.2 `Mailbox`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// As the client wrote it, quotes included: atoms and dots, or one quoted string.
    local_part: String,
    domain: RecipientDomain,
}

/// What stands behind the `@`, and what a mail is routed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecipientDomain {
    /// A domain name, whose MX hosts are looked up.
    Name(Name),
    /// An address literal, `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
    Literal(IpAddr),
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `<` where the path should start, or no `>` that ends it.
    #[error("the address is not in angle brackets")]
    NotBracketed,
    /// Something behind the `>`.
    #[error("there is something behind the address")]
    Leftover,
    /// More octets than a command line has room for.
    #[error("the address is longer than {MAX_PATH_OCTETS} octets")]
    TooLong,
    /// `<>` as a recipient.
    #[error("a recipient is needed")]
    NoRecipient,
    /// A source route that is no `@domain,@domain:` (RFC 5321 §4.1.2 `A-d-l`).
    #[error("the source route is malformed")]
    SourceRoute,
    /// Nothing before the `@`, or what is no dot-string and no quoted string.
    #[error("the local part is malformed")]
    LocalPart,
    /// No `@`.
    #[error("the address has no domain")]
    NoDomain,
    /// Behind the `@` stands no domain name.
    #[error("the domain is malformed: {0}")]
    Domain(#[from] NameError),
    /// The brackets hold no IP address.
    #[error("the address literal is malformed")]
    Literal,
    /// UTF-8 in an address, but MAIL carried no SMTPUTF8 (RFC 6531 §3.5).
    #[error("the address is not ASCII, and the mail was not sent with SMTPUTF8")]
    NeedsSmtpUtf8,
}

impl ReversePath {
    /// Reads a whole reverse-path, brackets included.
    ///
    /// # Errors
    /// Whatever keeps the text from being one.
    pub fn parse(text: &str, smtp_utf8: SmtpUtf8) -> Result<Self, AddressError> {
        match unbracket(text)? {
            "" => Ok(Self::Null),
            path => Mailbox::parse(path, smtp_utf8).map(Self::Mailbox),
        }
    }

    /// Whether only a server with SMTPUTF8 can take this path.
    pub fn needs_smtp_utf8(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Mailbox(mailbox) => mailbox.needs_smtp_utf8(),
        }
    }
}

impl ForwardPath {
    /// Reads a whole forward-path, brackets included.
    ///
    /// # Errors
    /// Whatever keeps the text from being one.
    pub fn parse(text: &str, smtp_utf8: SmtpUtf8) -> Result<Self, AddressError> {
        match unbracket(text)? {
            "" => Err(AddressError::NoRecipient),
            // RFC 5321 §4.1.1.3: without a domain and in any case.
            path if path.eq_ignore_ascii_case("postmaster") => Ok(Self::Postmaster),
            path => Mailbox::parse(path, smtp_utf8).map(Self::Mailbox),
        }
    }

    /// Whether only a server with SMTPUTF8 can take this path. A U-label domain alone does not need it: it is passed
    /// on in A-labels.
    pub fn needs_smtp_utf8(&self) -> bool {
        match self {
            Self::Postmaster => false,
            Self::Mailbox(mailbox) => mailbox.needs_smtp_utf8(),
        }
    }
}

impl Mailbox {
    /// The part before the `@` as the client wrote it, quotes included.
    pub fn local_part(&self) -> &str {
        &self.local_part
    }

    /// The domain behind the `@`.
    pub fn domain(&self) -> &RecipientDomain {
        &self.domain
    }

    /// Whether only a server with SMTPUTF8 can take this mailbox.
    pub fn needs_smtp_utf8(&self) -> bool {
        !self.local_part.is_ascii()
    }

    fn parse(path: &str, smtp_utf8: SmtpUtf8) -> Result<Self, AddressError> {
        if smtp_utf8 == SmtpUtf8::Absent && !path.is_ascii() {
            return Err(AddressError::NeedsSmtpUtf8);
        }
        let mailbox = skip_source_route(path)?;
        let at = local_part_octets(mailbox);
        let (local_part, rest) = mailbox.split_at(at);
        if local_part.is_empty() {
            return Err(AddressError::LocalPart);
        }
        match rest.strip_prefix('@') {
            Some(domain) => Ok(Self { local_part: local_part.to_owned(), domain: RecipientDomain::parse(domain)? }),
            None if rest.is_empty() => Err(AddressError::NoDomain),
            None => Err(AddressError::LocalPart),
        }
    }
}

impl RecipientDomain {
    fn parse(text: &str) -> Result<Self, AddressError> {
        let Some(literal) = text.strip_prefix('[') else { return Ok(Self::Name(Name::parse(text)?)) };
        let address = literal.strip_suffix(']').ok_or(AddressError::Literal)?;
        // RFC 5321 §4.1.3: tags are matched in any case. Other tags than IPv6 were never registered.
        let address = match address.split_at_checked(5) {
            Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
            _ => address.parse::<Ipv4Addr>().map(IpAddr::V4),
        };
        address.map(Self::Literal).map_err(|_| AddressError::Literal)
    }
}

/// Splits `<path> rest` behind the bracket that ends the path: the first one outside a quoted string.
pub(super) fn split_path(text: &str) -> Result<(&str, &str), AddressError> {
    if !text.starts_with('<') {
        return Err(AddressError::NotBracketed);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (index, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Ok(text.split_at(index + 1)),
            _ => {}
        }
    }
    Err(AddressError::NotBracketed)
}

fn unbracket(text: &str) -> Result<&str, AddressError> {
    let (path, rest) = split_path(text)?;
    if !rest.is_empty() {
        return Err(AddressError::Leftover);
    }
    if path.len() > MAX_PATH_OCTETS {
        return Err(AddressError::TooLong);
    }
    Ok(&path[1..path.len() - 1])
}

/// What is left behind a source route, which RFC 5321 §4.1.2 tells us to accept and to ignore.
fn skip_source_route(path: &str) -> Result<&str, AddressError> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let (route, mailbox) = path.split_once(':').ok_or(AddressError::SourceRoute)?;
    for hop in route.split(',') {
        let domain = hop.strip_prefix('@').ok_or(AddressError::SourceRoute)?;
        Name::parse(domain).map_err(|_| AddressError::SourceRoute)?;
    }
    Ok(mailbox)
}

/// How many octets at the front of `mailbox` are a local part; 0 if none are.
fn local_part_octets(mailbox: &str) -> usize {
    if mailbox.starts_with('"') {
        return quoted_string_octets(mailbox);
    }
    mailbox.find(|character: char| !is_atext(character) && character != '.').unwrap_or(mailbox.len())
}

/// RFC 5321 §4.1.2 `Quoted-string`, with the UTF-8 of RFC 6531 §3.3.
fn quoted_string_octets(mailbox: &str) -> usize {
    let mut escaped = false;
    for (index, character) in mailbox.char_indices().skip(1) {
        match character {
            // Controls are in neither qtextSMTP nor quoted-pairSMTP, and a backslash escapes ASCII only.
            _ if character.is_control() => return 0,
            _ if escaped && !character.is_ascii() => return 0,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    0
}

/// RFC 5322 §3.2.3 `atext`, with the UTF-8 of RFC 6531 §3.3.
fn is_atext(character: char) -> bool {
    match character {
        '!' | '#' | '$' | '%' | '&' | '\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^' | '_' | '`' | '{' | '|' | '}'
        | '~' => true,
        _ if character.is_ascii() => character.is_ascii_alphanumeric(),
        _ => !character.is_control(),
    }
}

impl fmt::Display for ReversePath {
    /// The path as MAIL writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl fmt::Display for ForwardPath {
    /// The path as RCPT writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<Postmaster>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

impl fmt::Display for RecipientDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => fmt::Display::fmt(name, f),
            Self::Literal(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Literal(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
        }
    }
}
