//! Octets as people read them: two hexadecimal digits each, as TLSA records are written (RFC 6698 §2.2).

use std::fmt;

/// How many octets are put together before they are written.
const PIECE: usize = 32;

/// Shows octets as upper-case hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
        self.0.chunks(PIECE).try_for_each(|piece| {
            let mut digits = [0; 2 * PIECE];
            for (pair, octet) in digits.chunks_exact_mut(2).zip(piece) {
                pair.copy_from_slice(&[digit(octet >> 4), digit(octet & 15)]);
            }
            // Digits are ASCII.
            f.write_str(str::from_utf8(&digits[..2 * piece.len()]).unwrap_or_default())
        })
    }
}

/// The octets of pairs of digits, in either case; none of another text.
pub fn octets(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The text of a part of a URI. An octet may be written as `%` and two digits (RFC 3986 §2.1). None, if a digit is missing.
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.as_bytes().split_at_checked(2)?;
        decoded.extend(octets(code)?);
        decoded.extend(rest);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        assert_eq!(octets(b"00fFA9"), Some(vec![0, 0xff, 0xa9]));
        for wrong in [&b"0"[..], b"0g", b"+1", b" 1"] {
            assert_eq!(octets(wrong), None);
        }
        assert_eq!(percent_decoded("a%40b%C3%a9"), Some("a@b\u{e9}".to_owned()));
        for wrong in ["%", "%4", "a%4", "%+1", "%4\u{e9}", "%ff"] {
            assert_eq!(percent_decoded(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_octet_has_two_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let each: String = all.iter().map(|octet| format!("{octet:02X}")).collect();
        for length in [0, 1, 31, 32, 33, 64, 65, 256] {
            assert_eq!(Hex(&all[..length]).to_string(), each[..2 * length]);
        }
    }
}
