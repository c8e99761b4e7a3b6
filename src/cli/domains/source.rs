//! The lines of a log file, in any encoding and out of gzip.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use crate::cli::encoding::{TextEncoding, utf16};
use crate::tlsrpt::gzip;

/// A line beyond this is cut, as no log has one.
const MAX_LINE: usize = 1024 * 1024;
/// So many octets at the start tell the form of a file.
const HEAD: u64 = 8;

/// A log, read line by line.
pub(super) struct LogLines {
    log: BufReader<Box<dyn Read>>,
    encoding: TextEncoding,
    line: Vec<u8>,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The system says so, or the compression is broken.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is compressed in a form that is not unpacked here.
    #[error("it is compressed by {0}, which danelaw does not unpack; this reads it: {1} FILE | danelaw domains -")]
    Packed(&'static str, &'static str),
    /// A file can be made that comes out of itself without end.
    #[error("it is compressed more than once: unpack it first")]
    PackedAgain,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogForm {
    Text,
    Gzip,
    /// Another compression, and the command that unpacks it.
    Other(&'static str, &'static str),
}

impl LogForm {
    fn of(first: &[u8]) -> Self {
        match first {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [0xFD, b'7', b'z', b'X', b'Z', ..] | [0x5D, 0, 0, ..] => Self::Other("xz", "xz -dc"),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Self::Other("zstd", "zstd -dc"),
            // The first block, or the end of an empty file.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Self::Other("bzip2", "bzip2 -dc"),
            [0x04, 0x22, 0x4D, 0x18, ..] => Self::Other("lz4", "lz4 -dc"),
            [b'L', b'Z', b'I', b'P', ..] => Self::Other("lzip", "lzip -dc"),
            [0x1F, 0x9D, ..] => Self::Other("compress", "gzip -dc"),
            [b'P', b'K', 3, 4, ..] => Self::Other("zip", "unzip -p"),
            [b'7', b'z', 0xBC, 0xAF, ..] => Self::Other("7z", "7z x -so"),
            _ => Self::Text,
        }
    }
}

/// The first octets, and the whole.
struct SeenHead {
    first: Vec<u8>,
    whole: Box<dyn Read>,
}

impl SeenHead {
    fn of(mut file: Box<dyn Read>) -> io::Result<Self> {
        let mut first = Vec::new();
        (&mut file).take(HEAD).read_to_end(&mut first)?;
        let whole = Box::new(Cursor::new(first.clone()).chain(file));
        Ok(Self { first, whole })
    }
}

impl LogLines {
    /// Reads a file from its start.
    ///
    /// # Errors
    /// The file cannot be read, or is compressed by another program than gzip.
    pub(super) fn of(file: Box<dyn Read>) -> Result<Self, LogError> {
        let packed = SeenHead::of(file)?;
        let head = match LogForm::of(&packed.first) {
            LogForm::Text => packed,
            LogForm::Gzip => SeenHead::of(Box::new(gzip::unpacked(BufReader::new(packed.whole))))?,
            LogForm::Other(by, command) => return Err(LogError::Packed(by, command)),
        };
        if LogForm::of(&head.first) != LogForm::Text {
            return Err(LogError::PackedAgain);
        }
        let (log, encoding) = (BufReader::new(head.whole), TextEncoding::of(&head.first));
        Ok(Self { log, encoding, line: Vec::new() })
    }

    /// The next line, with its end; none after the last.
    ///
    /// # Errors
    /// The file cannot be read to its end.
    pub(super) fn next(&mut self) -> io::Result<Option<Cow<'_, str>>> {
        self.line.clear();
        let text = match self.encoding {
            TextEncoding::Octets => {
                (&mut self.log).take(MAX_LINE as u64).read_until(b'\n', &mut self.line)?;
                String::from_utf8_lossy(&self.line)
            }
            TextEncoding::Utf16(unit) => {
                self.take_units(unit)?;
                Cow::Owned(utf16(&self.line, unit))
            }
        };
        Ok((!self.line.is_empty()).then_some(text))
    }

    /// Takes the octets of UTF-16 up to a line end.
    fn take_units(&mut self, unit: fn([u8; 2]) -> u16) -> io::Result<()> {
        while let (Some(first), Some(second)) = (octet(&mut self.log)?, octet(&mut self.log)?) {
            self.line.extend([first, second]);
            if self.line.len() >= MAX_LINE || unit([first, second]) == u16::from(b'\n') {
                break;
            }
        }
        Ok(())
    }
}

/// The next octet; none at the end. A file that is cut in the middle of its compression has an error there.
fn octet(log: &mut impl BufRead) -> io::Result<Option<u8>> {
    let octet = log.fill_buf()?.first().copied();
    log.consume(usize::from(octet.is_some()));
    Ok(octet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlsrpt::gzip::gzip;

    fn lines(file: &[u8]) -> Result<Vec<String>, LogError> {
        let mut lines = LogLines::of(Box::new(Cursor::new(file.to_owned())))?;
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(line.trim_end().trim_start_matches('\u{feff}').to_owned());
        }
        Ok(all)
    }

    fn utf16(text: &str, octets: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(octets).collect()
    }

    #[test]
    fn a_log_has_the_same_lines_in_each_encoding_and_out_of_gzip() {
        // U+0A0A has the octet of a line end twice.
        let text = "first \u{a0a}\u{10a}\u{1f600}\r\nsecond\n\nlast";
        let marked = format!("\u{feff}{text}");
        for file in [
            text.as_bytes().to_owned(),
            marked.as_bytes().to_owned(),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            // Half a unit at the end.
            [utf16(text, u16::to_le_bytes), vec![b'x']].concat(),
        ] {
            let found = ["first \u{a0a}\u{10a}\u{1f600}", "second", "", "last"];
            assert_eq!(lines(&file).unwrap(), found, "{file:?}");
            let packed = gzip(&file).unwrap();
            assert_eq!(lines(&packed).unwrap(), found, "{file:?}");
            // Rotated logs that were joined.
            let twice = lines(&[gzip(b"before\n").unwrap(), gzip(text.as_bytes()).unwrap()].concat()).unwrap();
            assert_eq!((twice.len(), twice[0].as_str()), (5, "before"));
            for cut in [packed.len() - 1, packed.len() / 2, 5] {
                assert!(matches!(lines(&packed[..cut]), Err(LogError::Io(_))), "{cut} {file:?}");
            }
        }
        for empty in [Vec::new(), gzip(b"").unwrap()] {
            assert_eq!(lines(&empty).unwrap(), [""; 0]);
        }
        assert_eq!(lines(b"\xffLatin-1 \xfc\n").unwrap(), ["\u{fffd}Latin-1 \u{fffd}"]);
    }

    #[test]
    fn other_compressions_are_told_with_the_command_that_unpacks_them() {
        for (first, by, command) in [
            (b"\xfd7zXZ\0\0\x04".as_slice(), "xz", "xz -dc"),
            (b"\x5d\0\0\x80\0", "xz", "xz -dc"),
            (b"\x28\xb5\x2f\xfd\x04", "zstd", "zstd -dc"),
            (b"BZh91AY&SY", "bzip2", "bzip2 -dc"),
            (b"BZh9\x17\x72\x45\x38\x50\x90", "bzip2", "bzip2 -dc"),
            (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
            (b"LZIP\x01", "lzip", "lzip -dc"),
            (b"\x1f\x9d\x90", "compress", "gzip -dc"),
            (b"PK\x03\x04", "zip", "unzip -p"),
            (b"7z\xbc\xaf\x27\x1c", "7z", "7z x -so"),
        ] {
            let error = lines(first).unwrap_err().to_string();
            let told =
                format!("by {by}, which danelaw does not unpack; this reads it: {command} FILE | danelaw domains -");
            assert!(error.ends_with(&told), "{error}");
            assert!(matches!(lines(&gzip(first).unwrap()), Err(LogError::PackedAgain)));
        }
        assert!(matches!(lines(&gzip(&gzip(b"x").unwrap()).unwrap()), Err(LogError::PackedAgain)));
        assert_eq!(lines(b"BZh is a word\n").unwrap(), ["BZh is a word"]);
    }

    #[test]
    fn the_memory_for_a_line_is_bounded() {
        let long = vec![b'x'; MAX_LINE * 2 + 7];
        let units = utf16(&"x".repeat(MAX_LINE / 2 + 7), u16::to_le_bytes);
        for (file, cut) in [(&long, vec![MAX_LINE, MAX_LINE, 7]), (&units, vec![MAX_LINE / 2, 7])] {
            for file in [file.clone(), gzip(file).unwrap()] {
                assert_eq!(lines(&file).unwrap().iter().map(String::len).collect::<Vec<_>>(), cut);
            }
        }
    }
}
