//! The encoding of a text from any system, by its first octets.

/// An encoding.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextEncoding {
    /// UTF-8, or an encoding with an octet for each character.
    Octets,
    /// UTF-16, with the order of the two octets of a unit. `PowerShell` writes it.
    Utf16(fn([u8; 2]) -> u16),
}

impl TextEncoding {
    /// The encoding of a text that begins so, with or without a byte order mark. A list of domains and a log begin with ASCII, and
    /// no text begins with NUL.
    pub(super) fn of(first: &[u8]) -> Self {
        match first {
            [0xFF, 0xFE, ..] | [1..=255, 0, ..] => Self::Utf16(u16::from_le_bytes),
            [0xFE, 0xFF, ..] | [0, 1..=255, ..] => Self::Utf16(u16::from_be_bytes),
            _ => Self::Octets,
        }
    }
}

/// The text of UTF-16, without the half of a unit at its end.
pub(super) fn utf16(octets: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = octets.chunks_exact(2).filter_map(|pair| pair.try_into().ok()).map(unit);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
