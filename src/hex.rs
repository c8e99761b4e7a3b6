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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_has_two_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let each: String = all.iter().map(|octet| format!("{octet:02X}")).collect();
        for length in [0, 1, 31, 32, 33, 64, 65, 256] {
            assert_eq!(Hex(&all[..length]).to_string(), each[..2 * length]);
        }
    }
}
