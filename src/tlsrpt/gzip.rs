//! Compression of reports (RFC 8460 §5.2), and of logs.

use std::io::{self, BufRead, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The octets compressed: without a time and a name, so that they come out the same at each try.
///
/// # Errors
/// Never: they are written to memory.
pub fn gzip(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(octets)?;
    encoder.finish()
}

/// The octets that come out of gzip, as they are read. A file may have several members (RFC 1952 §2.2).
pub fn unpacked(packed: impl BufRead) -> impl Read {
    MultiGzDecoder::new(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_report_is_compressed_without_a_time() {
        let octets = [b'x'; 10_000];
        let packed = gzip(&octets).unwrap();
        assert!(packed.starts_with(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]) && packed.len() < 200);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, octets);
    }
}
