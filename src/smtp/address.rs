//! Paths: the sender and the recipients of a mail, as MAIL and RCPT write them (RFC 5321 §4.1.2).
//!
//! The domain of a path decides where a mail goes, so the domain that danelaw routes by must be the one that the remote
//! reads. There is one parser, and it refuses a path that it does not understand. The path that goes on to the remote
//! is written from the parsed value: the local part octet for octet (§2.4: only the final host may interpret it), the
//! domain as the [`Name`] that is looked up in DNS, in lower-case A-labels. Source routes are dropped, as §3.6.1 and
//! Appendix C ask.
//!
//! More lenient than the grammar in two places, because such addresses exist and only the remote can judge them: dots
//! may stand anywhere in a local part (`a..b@example`, mobile carriers hand those out), and a local part may be longer
//! than the 64 octets of §4.5.3.1.1, which is the length that a server must accept at least, not a limit.

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

/// The address for reports that a mail cannot be delivered (RFC 5321 §4.1.2 `Reverse-path`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: no address. Bounces have it (§4.5.5).
    Null,
    /// `<local@domain>`.
    Mailbox(Mailbox),
}

/// The recipient of a mail (RFC 5321 §4.1.2 `Forward-path`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<Postmaster>`: the postmaster of the server itself (§4.1.1.3). It names no domain to route by.
    Postmaster,
    /// `<local@domain>`.
    Mailbox(Mailbox),
}

/// A local part and the domain that can interpret it (RFC 5321 §4.1.2 `Mailbox`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// As the client wrote it, quotes included: atoms and dots, or one quoted string.
    local_part: String,
    domain: RecipientDomain,
}

/// The part behind the `@`, by which a mail is routed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecipientDomain {
    /// A domain name; its MX hosts are looked up.
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
    /// More text behind the `>`.
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
    /// No text before the `@`, or text that is neither a dot-string nor a quoted string.
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
    /// The text is no reverse-path, for this reason.
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
    /// The text is no forward-path, for this reason.
    pub fn parse(text: &str, smtp_utf8: SmtpUtf8) -> Result<Self, AddressError> {
        match unbracket(text)? {
            "" => Err(AddressError::NoRecipient),
            // RFC 5321 §4.1.1.3: without a domain and in any case.
            path if path.eq_ignore_ascii_case("postmaster") => Ok(Self::Postmaster),
            path => Mailbox::parse(path, smtp_utf8).map(Self::Mailbox),
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

    fn bracketed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        fmt::Display::fmt(self, f)?;
        f.write_str(">")
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
        let Some(domain) = rest.strip_prefix('@') else {
            return Err(if rest.is_empty() { AddressError::NoDomain } else { AddressError::LocalPart });
        };
        let mailbox = Self { local_part: local_part.to_owned(), domain: RecipientDomain::parse(domain)? };
        // The path that a remote gets has to fit a command line. It may be longer than the client's in two cases: A-labels
        // are longer than U-labels, and ::ffff:192.0.2.1 is longer than ::ffff:c000:201.
        let may_be_longer = !path.is_ascii() || matches!(mailbox.domain, RecipientDomain::Literal(_));
        if may_be_longer && mailbox.to_string().len() + "<>".len() > MAX_PATH_OCTETS {
            return Err(AddressError::TooLong);
        }
        Ok(mailbox)
    }
}

impl RecipientDomain {
    /// Reads a name, or an address literal in its brackets.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
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

/// The text behind a source route, which RFC 5321 §4.1.2 tells us to accept and to ignore.
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
            Self::Mailbox(mailbox) => mailbox.bracketed(f),
        }
    }
}

impl fmt::Display for ForwardPath {
    /// The path as RCPT writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("<Postmaster>"),
            Self::Mailbox(mailbox) => mailbox.bracketed(f),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local_part)?;
        f.write_str("@")?;
        fmt::Display::fmt(&self.domain, f)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(text: &str) -> Result<ForwardPath, AddressError> {
        ForwardPath::parse(text, SmtpUtf8::Absent)
    }

    /// The local part and the domain that a path is read as.
    fn parts(path: ForwardPath) -> (String, String) {
        match path {
            ForwardPath::Mailbox(mailbox) => (mailbox.local_part().to_owned(), mailbox.domain().to_string()),
            ForwardPath::Postmaster => panic!("no mailbox"),
        }
    }

    #[test]
    fn paths_and_their_mailboxes() {
        for (written, local_part, domain) in [
            ("<a@b.example>", "a", "b.example"),
            // I2, RFC 5321 §2.4: case of the local part is kept, that of the domain is without meaning.
            ("<John.Doe+Tag@B.Example>", "John.Doe+Tag", "b.example"),
            ("<user@example.com.>", "user", "example.com"),
            ("<o'neil/x=y#1!{}|~@b.example>", "o'neil/x=y#1!{}|~", "b.example"),
            // A-89: the percent hack has no meaning here.
            ("<a%evil.example@b.example>", "a%evil.example", "b.example"),
            // Dots that the grammar has not, but mobile carriers have.
            ("<a..b.@b.example>", "a..b.", "b.example"),
            // I30: quoted local parts, octet for octet.
            (r#"<"a@b"@c.example>"#, r#""a@b""#, "c.example"),
            (r#"<"x\"y"@c.example>"#, r#""x\"y""#, "c.example"),
            (r#"<"a>b <c>"@d.example>"#, r#""a>b <c>""#, "d.example"),
            (r#"<"\\"@d.example>"#, r#""\\""#, "d.example"),
            (r#"<""@d.example>"#, r#""""#, "d.example"),
            // I30: source routes are dropped.
            ("<@a.example:u@d.example>", "u", "d.example"),
            ("<@a.example,@b.example:u@d.example>", "u", "d.example"),
            (r#"<@a.example:"x:y"@d.example>"#, r#""x:y""#, "d.example"),
            // B7.
            ("<u@[192.0.2.1]>", "u", "[192.0.2.1]"),
            ("<u@[ipv6:2001:DB8::1]>", "u", "[IPv6:2001:db8::1]"),
        ] {
            let path = forward(written).expect(written);
            // The remote reads the same path that was routed by.
            assert_eq!(forward(&path.to_string()), Ok(path.clone()), "{written}");
            assert_eq!(parts(path), (local_part.to_owned(), domain.to_owned()), "{written}");
        }
    }

    #[test]
    fn a_path_fits_the_command_line_to_a_remote() {
        for (domain, longer) in [("[IPv6:::ffff:c0c0:c0c0]", true), ("[IPv6:2001:db8::1]", false), ("b.example", false)]
        {
            for octets in MAX_PATH_OCTETS - 10..=MAX_PATH_OCTETS + 1 {
                let written = format!("<{}@{domain}>", "a".repeat(octets - domain.len() - "<@>".len()));
                match forward(&written) {
                    Ok(path) => {
                        assert!(octets <= MAX_PATH_OCTETS && path.to_string().len() <= MAX_PATH_OCTETS, "{path}")
                    }
                    Err(error) => {
                        assert_eq!(error, AddressError::TooLong);
                        assert!(longer || octets > MAX_PATH_OCTETS, "{written}");
                    }
                }
            }
        }
    }

    #[test]
    fn texts_that_are_no_paths() {
        use AddressError::{Leftover, Literal, LocalPart, NeedsSmtpUtf8, NoDomain, NotBracketed, SourceRoute};
        for (written, why) in [
            ("", NotBracketed),
            ("a@b.example", NotBracketed),
            ("<a@b.example", NotBracketed),
            (" <a@b.example>", NotBracketed),
            (r#"<"a@b.example>"#, NotBracketed),
            // A-89.
            ("<a@b>c@d>", Leftover),
            ("<a@b.example> ", Leftover),
            ("<>", AddressError::NoRecipient),
            ("<a>", NoDomain),
            (r#"<"a@b.example">"#, NoDomain),
            ("<a@>", AddressError::Domain(NameError::EmptyLabel)),
            ("<a@.>", AddressError::Domain(NameError::EmptyLabel)),
            ("<a@b@c.example>", AddressError::Domain(NameError::ForbiddenCharacter)),
            ("<a@b c>", AddressError::Domain(NameError::ForbiddenCharacter)),
            ("<a@(x)b.example>", AddressError::Domain(NameError::ForbiddenCharacter)),
            ("<a@192.0.2.1>", AddressError::Domain(NameError::IpAddress)),
            ("<@b.example>", SourceRoute),
            ("<@a.example,b.example:u@d.example>", SourceRoute),
            ("<@:u@d.example>", SourceRoute),
            ("<@a.example:>", LocalPart),
            ("<a b@c.example>", LocalPart),
            ("<a(x)@c.example>", LocalPart),
            (r"<a\@b@c.example>", LocalPart),
            ("<<a@c.example>", LocalPart),
            (r#"<"a"b@c.example>"#, LocalPart),
            (r#"<a"b"@c.example>"#, LocalPart),
            // A-88, A-90.
            ("<\"a\r\nRSET\"@c.example>", LocalPart),
            ("<a\0b@c.example>", LocalPart),
            ("<\"a\0\"@c.example>", LocalPart),
            ("<a@b.example\r\nRSET>", AddressError::Domain(NameError::ForbiddenCharacter)),
            ("<u@[192.0.2.1>", Literal),
            ("<u@[192.0.2.1]x>", Literal),
            ("<u@[2001:db8::1]>", Literal),
            ("<u@[IPv6:192.0.2.1]>", Literal),
            ("<u@[x400:foo]>", Literal),
            ("<u@[]>", Literal),
            // M4.
            ("<ü@b.example>", NeedsSmtpUtf8),
            ("<u@bücher.example>", NeedsSmtpUtf8),
        ] {
            assert_eq!(forward(written), Err(why), "{written:?}");
        }
    }

    #[test]
    fn lengths() {
        let path = |local: usize, domain: &[usize]| {
            let labels: Vec<_> = domain.iter().map(|length| "d".repeat(*length)).collect();
            format!("<{}@{}>", "l".repeat(local), labels.join("."))
        };
        // I29: 64 octets of local part, a whole path of 256, and the longest domain there is.
        assert!(forward(&path(64, &[63, 63, 61])).is_ok());
        assert!(forward(&path(64, &[63, 63, 63, 61])).is_ok());
        assert_eq!(forward(&path(1, &[63, 63, 63, 62])), Err(AddressError::Domain(NameError::TooLong)));
        // Reply addresses of ticket systems have longer local parts than the 64 octets that all must take.
        assert!(forward(&path(120, &[11])).is_ok());
        assert!(forward(&path(MAX_PATH_OCTETS - 14, &[11])).is_ok());
        assert_eq!(forward(&path(MAX_PATH_OCTETS - 13, &[11])), Err(AddressError::TooLong));
    }

    #[test]
    fn internationalised_addresses() {
        // M7: the domain becomes A-labels, for DNS and for the remote alike; the local part cannot.
        for (written, local_part, domain, needs_smtp_utf8) in [
            ("<ü@bücher.example>", "ü", "xn--bcher-kva.example", true),
            ("<u@BÜCHER.example>", "u", "xn--bcher-kva.example", false),
            ("<\"ü b\"@b.example>", "\"ü b\"", "b.example", true),
            ("<u@b\u{3002}example>", "u", "b.example", false),
        ] {
            let path = ForwardPath::parse(written, SmtpUtf8::Requested).expect(written);
            let ForwardPath::Mailbox(mailbox) = &path else { panic!("{written}") };
            assert_eq!(mailbox.needs_smtp_utf8(), needs_smtp_utf8, "{written}");
            assert_eq!(ForwardPath::parse(&path.to_string(), SmtpUtf8::Requested), Ok(path.clone()));
            assert_eq!(parts(path), (local_part.to_owned(), domain.to_owned()));
        }
        // A name that fits in U-labels need not fit in A-labels.
        let long = format!("<{}@{}example>", "l".repeat(400), "ü.".repeat(30));
        assert!(long.len() <= MAX_PATH_OCTETS);
        assert_eq!(ForwardPath::parse(&long, SmtpUtf8::Requested), Err(AddressError::TooLong));
        for written in ["<a\u{85}b@c.example>", "<\"\\ü\"@c.example>", "<a@b\u{202e}c.example>", "<a@b\u{ff20}c>"] {
            assert!(ForwardPath::parse(written, SmtpUtf8::Requested).is_err(), "{written:?}");
        }
    }

    #[test]
    fn the_null_sender_and_the_postmaster() {
        // I25.
        assert_eq!(ReversePath::parse("<>", SmtpUtf8::Absent), Ok(ReversePath::Null));
        assert_eq!(ReversePath::Null.to_string(), "<>");
        // I1, RFC 5321 §4.1.1.3.
        assert_eq!(forward("<pOstMaster>"), Ok(ForwardPath::Postmaster));
        assert_eq!(forward("<Postmaster>").unwrap().to_string(), "<Postmaster>");
        assert_eq!(parts(forward("<postmaster@b.example>").unwrap()).0, "postmaster");
        // Only as a recipient.
        assert_eq!(ReversePath::parse("<postmaster>", SmtpUtf8::Absent), Err(AddressError::NoDomain));
    }
}
