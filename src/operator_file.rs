//! Files that an operator names: settings, certificates, keys, lists of domains. They are read up to a bound. Without one, the name
//! of a device or of another large file would take the memory of this host before any error is told.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// The bound for a file of settings, certificates, keys or addresses: 300,000 rules, or more certificates than there are CAs.
pub const SETTINGS: FileBound = FileBound { mebibytes: 16 };
/// The bound for a list of domains, and for a memory of them: 100,000 domains in the memory of the watch take less.
pub const DOMAINS: FileBound = FileBound { mebibytes: 512 };

/// The most that is read of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBound {
    mebibytes: u64,
}

impl FileBound {
    /// The octets of a file.
    ///
    /// # Errors
    /// It cannot be read, or is larger: [`ErrorKind::FileTooLarge`].
    pub fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        self.octets(File::open(path)?)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// As [`FileBound::read`]; and it is not UTF-8.
    pub fn text(self, path: &Path) -> io::Result<String> {
        text(self.read(path)?)
    }

    /// All octets of an input, such as a pipe.
    ///
    /// # Errors
    /// As [`FileBound::read`].
    pub fn octets(self, input: impl Read) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        // One more shows that it is too large.
        input.take(self.most() + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > self.most() { Err(self.exceeded("it has")) } else { Ok(octets) }
    }

    /// The lines of a file of any size, with their ends, each up to this bound.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lines(self, path: &Path) -> io::Result<FileLines> {
        Ok(FileLines { file: BufReader::new(File::open(path)?), bound: self })
    }

    fn most(self) -> u64 {
        self.mebibytes * 1024 * 1024
    }

    fn exceeded(self, found: &str) -> io::Error {
        let why = format!("{found} more than {} MiB, the most that is read of such a file", self.mebibytes);
        io::Error::new(ErrorKind::FileTooLarge, why)
    }
}

/// The lines of a file.
#[derive(Debug)]
pub struct FileLines {
    file: BufReader<File>,
    bound: FileBound,
}

impl Iterator for FileLines {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match (&mut self.file).take(self.bound.most() + 1).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(octets) if octets as u64 > self.bound.most() => Some(Err(self.bound.exceeded("a line has"))),
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}

fn text(octets: Vec<u8>) -> io::Result<String> {
    String::from_utf8(octets).map_err(|error| {
        let why = match error.as_bytes() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                "it is UTF-16; save it as UTF-8, as \"iconv -f UTF-16 -t UTF-8\" does"
            }
            _ => "it is not UTF-8; save it as UTF-8",
        };
        io::Error::new(ErrorKind::InvalidData, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let bound = FileBound { mebibytes: 1 };
        let file = tempfile::NamedTempFile::new().unwrap();
        for (octets, is_read) in [(0, true), (1 << 20, true), ((1 << 20) + 1, false), (1 << 30, false)] {
            // A hole: the file takes no room.
            file.as_file().set_len(octets).unwrap();
            match bound.read(file.path()) {
                Ok(read) => assert!(is_read && read.len() as u64 == octets, "{octets}"),
                Err(error) => {
                    assert!(!is_read && error.kind() == ErrorKind::FileTooLarge, "{octets}: {error}");
                    assert_eq!(error.to_string(), "it has more than 1 MiB, the most that is read of such a file");
                }
            }
        }
    }

    #[test]
    fn a_file_without_an_end_is_an_error() {
        for path in ["/dev/zero", "/dev/urandom"] {
            let path = Path::new(path);
            assert_eq!(SETTINGS.read(path).unwrap_err().kind(), ErrorKind::FileTooLarge);
            assert_eq!(SETTINGS.text(path).unwrap_err().kind(), ErrorKind::FileTooLarge);
        }
        assert_eq!(SETTINGS.octets(io::repeat(b'a')).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_line_is_read_up_to_its_bound() {
        let bound = FileBound { mebibytes: 1 };
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = || bound.lines(file.path()).unwrap();
        let long = "a".repeat((1 << 20) - 1) + "\n";
        std::fs::write(file.path(), long.repeat(3) + "b").unwrap();
        let read: Result<Vec<_>, _> = lines().collect();
        assert_eq!(read.unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 1 << 20, 1 << 20, 1]);
        std::fs::write(file.path(), "b\na".to_owned() + &long).unwrap();
        let read: Vec<_> = lines().take(2).map(|line| line.map_err(|error| error.kind())).collect();
        assert_eq!(read, [Ok(b"b\n".to_vec()), Err(ErrorKind::FileTooLarge)]);
        assert!(SETTINGS.lines(Path::new("/dev/zero")).unwrap().next().unwrap().is_err());
    }

    #[test]
    fn a_text_is_utf_8() {
        for (octets, why) in [
            (&b"\xff\xfea\0"[..], "it is UTF-16; "),
            (b"\xfe\xff\0a", "it is UTF-16; "),
            (b"B\xfccher", "it is not UTF-8; "),
        ] {
            let error = text(octets.to_owned()).unwrap_err();
            assert!(error.to_string().starts_with(why), "{error}");
        }
        assert_eq!(text(b"B\xc3\xbccher".to_vec()).unwrap(), "Bücher");
    }
}
