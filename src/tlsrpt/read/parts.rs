//! The parts of a mail (RFC 2045, RFC 2046), as slices of it.
//!
//! The library reads the fields of one part and never the parts in it: it decodes a message that is encoded, takes that apart in
//! turn, and walks down the result by recursion. Here, a message that is encoded has no parts (RFC 2046 §5.2.1 forbids the
//! encoding), so that the levels are counted before anything is decoded.

use std::borrow::Cow;
use std::iter;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{MessageParser, MimeHeaders};

use super::unpack::{MAX_LEVELS, MAX_PARTS, UnpackError};

/// The most octets of the fields that tell the kind of a part. The time for some of them grows with the square of their length.
const MAX_FIELDS: usize = 2000;
/// These fields.
const FIELDS: &[&str] = &["Content-Type", "Content-Disposition", "Content-Transfer-Encoding"];

/// A field of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartField<'a> {
    name: &'a [u8],
    /// The value with its folds.
    pub value: &'a [u8],
}

impl PartField<'_> {
    /// Whether this is its name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A part without parts of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLeaf<'a> {
    kind: PartKind,
    body: &'a [u8],
}

/// The kind of a part, as its header tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PartKind {
    /// In lower case, as all of it but the boundary.
    main: String,
    subtype: String,
    boundary: String,
    name: String,
    encoding: String,
}

/// A part that is still to be read.
#[derive(Debug, Clone, Copy)]
struct UnreadPart<'a> {
    octets: &'a [u8],
    level: usize,
}

/// The parts of a mail without parts of their own, in order.
///
/// # Errors
/// The mail has too many levels or parts.
pub fn leaves(mail: &[u8]) -> Result<Vec<MailLeaf<'_>>, UnpackError> {
    let (mut leaves, mut parts) = (Vec::new(), 1_usize);
    let mut unread = vec![UnreadPart { octets: mail.trim_ascii_start(), level: 0 }];
    while let Some(UnreadPart { octets, level }) = unread.pop() {
        let (header, body) = octets.split_at(header_length(octets));
        let kind = PartKind::of(header);
        let inner = kind.parts(body);
        if inner.is_empty() {
            leaves.push(MailLeaf { kind, body });
            continue;
        }
        parts = parts.saturating_add(inner.len());
        if level >= MAX_LEVELS || parts > MAX_PARTS {
            return Err(UnpackError::Nested);
        }
        unread.extend(inner.into_iter().rev().map(|octets| UnreadPart { octets, level: level + 1 }));
    }
    Ok(leaves)
}

/// The fields of the header of a mail.
pub fn fields(mail: &[u8]) -> impl Iterator<Item = PartField<'_>> {
    let mail = mail.trim_ascii_start();
    let mut rest = mail.get(..header_length(mail)).unwrap_or_default();
    let lines = iter::from_fn(move || {
        let (field, after) = rest.split_at_checked(field_length(rest))?;
        rest = after;
        (!field.is_empty()).then_some(field)
    });
    lines.filter_map(|field| {
        let colon = field.iter().position(|octet| *octet == b':')?;
        let (name, value) = field.split_at_checked(colon)?;
        Some(PartField { name: name.trim_ascii(), value: value.strip_prefix(b":")?.trim_ascii() })
    })
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    octets.split_inclusive(|octet| *octet == b'\n')
}

/// The octets up to the body: the fields and the empty line.
fn header_length(octets: &[u8]) -> usize {
    let mut length = 0;
    for line in lines(octets) {
        length += line.len();
        if line.trim_ascii().is_empty() {
            break;
        }
    }
    length
}

/// The octets of the first field: a line, and those after it that begin with a blank.
fn field_length(octets: &[u8]) -> usize {
    let mut lines = lines(octets);
    let first = lines.next().map_or(0, <[u8]>::len);
    first + lines.take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t")).map(<[u8]>::len).sum::<usize>()
}

impl PartKind {
    fn of(header: &[u8]) -> Self {
        let mut text = Vec::new();
        for field in fields(header).filter(|field| FIELDS.iter().any(|name| field.is(name))) {
            if text.len() + field.name.len() + field.value.len() > MAX_FIELDS {
                break;
            }
            text.extend([field.name, b": ", field.value, b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        let message = MessageParser::default().parse_headers(&text);
        let Some(part) = message.as_ref().and_then(|message| message.parts.first()) else { return Self::default() };
        let kind = part.content_type();
        let lower = |text: Option<&str>| text.unwrap_or_default().to_ascii_lowercase();
        // A comment may follow the encoding.
        let word = |text: &str| text.split([' ', '\t', ';', '(']).next().unwrap_or_default().to_owned();
        Self {
            main: lower(kind.map(mail_parser::ContentType::ctype)),
            subtype: lower(kind.and_then(|kind| kind.subtype())),
            boundary: kind.and_then(|kind| kind.attribute("boundary")).unwrap_or_default().to_owned(),
            name: lower(part.attachment_name()),
            encoding: word(&lower(part.content_transfer_encoding())),
        }
    }

    fn is_encoded(&self) -> bool {
        ["base64", "quoted-printable"].contains(&self.encoding.as_str())
    }

    /// The parts of its own.
    fn parts<'a>(&self, body: &'a [u8]) -> Vec<&'a [u8]> {
        match (self.main.as_str(), self.subtype.as_str()) {
            ("multipart", _) if !self.boundary.is_empty() => between(body, self.boundary.as_bytes()),
            ("message", "rfc822" | "global") if !self.is_encoded() && !body.is_empty() => vec![body],
            _ => Vec::new(),
        }
    }
}

/// The parts between the lines with the boundary; the last one may lack the line behind it. One more than the most are enough.
/// The line break before a boundary is no octet of the part (RFC 2046 §5.1.1).
fn between<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut start, mut at) = (Vec::new(), None, 0);
    for line in lines(body) {
        let end = at;
        at += line.len();
        let Some(rest) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary)) else { continue };
        let is_last = rest.starts_with(b"--");
        if !is_last && !rest.trim_ascii().is_empty() {
            continue;
        }
        let part = start.take().and_then(|start| body.get(start..end));
        parts.extend(
            part.map(|part| part.strip_suffix(b"\n").unwrap_or(part))
                .map(|part| part.strip_suffix(b"\r").unwrap_or(part)),
        );
        if is_last || parts.len() > MAX_PARTS {
            return parts;
        }
        start = Some(at);
    }
    parts.extend(start.and_then(|start| body.get(start..)));
    parts
}

impl<'a> MailLeaf<'a> {
    /// A file that is no mail, and a report by its content.
    pub fn of_file(octets: &'a [u8]) -> Self {
        let kind = PartKind { subtype: "json".to_owned(), ..PartKind::default() };
        Self { kind, body: octets }
    }

    /// Whether the header tells of a report.
    pub fn is_named_report(&self) -> bool {
        let PartKind { subtype, name, .. } = &self.kind;
        name.ends_with(".json")
            || name.ends_with(".json.gz")
            || ["tlsrpt+gzip", "tlsrpt+json", "json"].contains(&subtype.as_str())
    }

    /// The octets of the part, decoded if they can be.
    pub fn contents(&self) -> Cow<'a, [u8]> {
        let decoded = match self.kind.encoding.as_str() {
            "base64" => base64_decode(self.body),
            "quoted-printable" => quoted_printable_decode(self.body),
            _ => None,
        };
        decoded.map_or(Cow::Borrowed(self.body), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(mail: &str) -> Vec<String> {
        let leaves = leaves(mail.as_bytes()).unwrap();
        leaves.iter().map(|leaf| String::from_utf8_lossy(&leaf.contents()).into_owned()).collect()
    }

    #[test]
    fn parts_as_mail_programs_write_them() {
        for (mail, expected) in [
            ("Subject: x\n\nhello\n", vec!["hello\n"]),
            ("\r\nContent-Type: text/plain\r\n\r\nhello", vec!["hello"]),
            ("Content-Type: text/plain", vec![""]),
            ("CONTENT-transfer-encoding : Base64 (a comment)\r\n\r\naGVs\r\nbG8=\r\n", vec!["hello"]),
            ("Content-Transfer-Encoding:\r\n\tquoted-printable\r\n\r\nhel=\r\nl=6F", vec!["hello"]),
            // Contents that are not encoded as the header says.
            ("Content-Transfer-Encoding: base64\n\n{}", vec!["{}"]),
            ("Content-Type: multipart/mixed\n\n--x\n\na\n", vec!["--x\n\na\n"]),
            ("Content-Type: multipart/mixed; boundary=x\n\nnone", vec!["none"]),
            (
                "Content-Type: multipart/mixed;\n boundary=\"x y\"\n\npre\n--x y\n\na\n--x y \n\nb\n--x y--\npost",
                vec!["a", "b"],
            ),
            // The end is missing, and another boundary begins like this one.
            ("Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--xy\n--x\n\nb\n", vec!["a\n--xy", "b\n"]),
            (
                "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--x\n\
                 Content-Type: message/rfc822\n\nSubject: b\n\nb\n--x--\n",
                vec!["a", "b"],
            ),
        ] {
            assert_eq!(contents(mail), expected, "{mail:?}");
        }
    }

    #[test]
    fn h7_an_encoded_message_has_no_parts() {
        let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(20_000);
        let base64 = super::super::unpack::tests::base64(deep.as_bytes());
        let quoted = deep.replace(' ', "=20").replace("message", "=6Dessage");
        for (encoding, body) in [
            ("Content-Transfer-Encoding: base64", &base64),
            ("content-TRANSFER-encoding:\r\n BASE64", &base64),
            ("Content-Transfer-Encoding : base64 (x)", &base64),
            ("Content-Transfer-Encoding: base64;", &base64),
            ("Content-Transfer-Encoding: quoted-printable", &quoted),
            ("Content-Transfer-Encoding:\r\n\tQuoted-Printable", &quoted),
        ] {
            for kind in ["message/rfc822", "MESSAGE/global", "message (x) / rfc822", "\r\n message/rfc822; a=b"] {
                let part = format!("{encoding}\r\nContent-Type: {kind}\r\n\r\n{body}\r\n");
                let inner = format!("Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n{part}--y--\r\n");
                for mail in [&part, &inner, &format!("Content-Type: message/rfc822\r\n\r\n{inner}")] {
                    assert_eq!(leaves(mail.as_bytes()).map(|leaves| leaves.len()), Ok(1), "{encoding:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn h7_levels_and_parts_are_counted_however_they_are_spelled() {
        for kind in ["message/rfc822", "Message / RFC822", "message\r\n /rfc822", "message(x)/rfc822", "message/global"]
        {
            let mail = format!("Content-Type: {kind}\r\n\r\n").repeat(20_000);
            // A spelling that is not understood is no part of its own.
            assert!(leaves(mail.as_bytes()).map_or(1, |leaves| leaves.len()) == 1, "{kind}");
        }
        let level = |number| format!("Content-Type: multipart/x; boundary = b{number}\r\n\r\n--b{number}\r\n");
        let levels =
            |number: usize| leaves((0..number).map(level).collect::<String>().as_bytes()).map(|leaves| leaves.len());
        assert_eq!((levels(MAX_LEVELS), levels(MAX_LEVELS + 1)), (Ok(1), Err(UnpackError::Nested)));
        let parts = |number| {
            leaves(format!("Content-Type: multipart/x; boundary=b\n\n{}", "--b\n\n".repeat(number)).as_bytes())
                .map(|leaves| leaves.len())
        };
        assert_eq!((parts(MAX_PARTS - 1), parts(MAX_PARTS)), (Ok(MAX_PARTS - 1), Err(UnpackError::Nested)));
        // Time that grows with the square of the length would not end.
        let fields = format!("Content-Type: a/b; c= {}\n\nd", " =?aa?q?".repeat(1_000_000));
        assert_eq!(leaves(fields.as_bytes()).map(|leaves| leaves.len()), Ok(1));
    }

    #[test]
    fn fields_are_unfolded_and_end_at_the_body() {
        let mail = b"A: 1\r\n 2\r\nno field\r\nb : 3\n\nC: 4\n";
        let found: Vec<_> = fields(mail).map(|field| (field.is("a"), field.is("B"), field.value)).collect();
        assert_eq!(found, [(true, false, &b"1\r\n 2"[..]), (false, true, b"3")]);
    }
}
