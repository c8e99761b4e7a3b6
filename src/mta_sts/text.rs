//! The lines of a policy and their fields (RFC 8461 §3.2): `key: value`.

use crate::excerpt::without_mark;

/// One line of a policy, read as a field. Its octets may be any, since a field of an unknown key does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StsField<'a> {
    /// The octets before the first colon.
    pub(super) key: &'a [u8],
    /// The octets behind it.
    pub(super) value: &'a [u8],
}

/// The fields of a policy, in their order. Lines end with LF or CRLF, and the last one may lack it (RFC 8461 §3.2). Blanks
/// round the key and the value are dropped. A line without a colon is no field that a reader could know, so it is passed over.
pub(super) fn fields(body: &[u8]) -> impl Iterator<Item = StsField<'_>> {
    without_mark(body).split(|octet| *octet == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|octet| *octet == b':')?;
        let (key, value) = line.split_at_checked(colon)?;
        Some(StsField { key: trimmed(key), value: trimmed(value.strip_prefix(b":")?) })
    })
}

/// The octets without the blanks at both ends: space and tab (RFC 5234, WSP).
pub(super) fn trimmed(octets: &[u8]) -> &[u8] {
    let is_text = |octet: &u8| !matches!(octet, b' ' | b'\t');
    let first = octets.iter().position(is_text).unwrap_or(octets.len());
    let end = octets.iter().rposition(is_text).map_or(first, |last| last + 1);
    octets.get(first..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Vec<String> {
        fields(body).map(|field| format!("{}={}", field.key.escape_ascii(), field.value.escape_ascii())).collect()
    }

    #[test]
    fn lines_are_fields() {
        for (body, expected) in [
            (&b"a: 1\r\nb:2\nc :\t3 \t\r\nd: 4"[..], &["a=1", "b=2", "c=3", "d=4"][..]),
            (b"", &[]),
            (b"\n\r\n \n\r", &[]),
            (b"a: 1\n\n\nb: 2\n\n", &["a=1", "b=2"]),
            (b"\xef\xbb\xbfa: 1", &["a=1"]),
            // One mark is dropped, and at the start only.
            (b"\xef\xbb\xbf\xef\xbb\xbfa: 1", &["\\xef\\xbb\\xbfa=1"]),
            (b"a: 1\n\xef\xbb\xbfb: 2", &["a=1", "\\xef\\xbb\\xbfb=2"]),
            (b"a: b: c", &["a=b: c"]),
            (b"a:\nb", &["a="]),
            (b":a", &["=a"]),
            (b" a : 1 ", &["a=1"]),
            (b"# about\nno field\na: 1", &["a=1"]),
            // A bare CR ends no line. One CR belongs to the end of the line.
            (b"a: 1\rb: 2", &["a=1\\rb: 2"]),
            (b"a: 1\r\r\n", &["a=1\\r"]),
            (b"a: 1\x0b\x0c", &["a=1\\x0b\\x0c"]),
        ] {
            assert_eq!(read(body), expected, "{}", body.escape_ascii());
        }
    }
}
