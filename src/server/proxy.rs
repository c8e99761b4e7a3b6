//! The header by which a balancer names the client: version 2 of the PROXY protocol, in binary
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! It is read only on connections of balancers that the listener names, and these must send it: a client could claim any address
//! by a header of its own, and without a header the balancer's address would stand for all its clients.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a balancer has for the header; it sends it at once.
const HEADER: Duration = Duration::from_secs(5);
/// The first octets of every header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;
/// The most octets behind them: addresses, and extensions that are skipped.
const MAX_REST: usize = 2048;

/// The meaning of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    /// The connection is of a client at this address.
    Client(IpAddr),
    /// It is the balancer's own, to see whether we are well.
    Local,
}

/// Why a connection of a balancer is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    #[error("no PROXY header came within {HEADER:?}")]
    Late,
    #[error("it was closed before its PROXY header was complete: {0}")]
    Lost(#[from] io::Error),
    #[error("it begins without a PROXY header; let the balancer send version 2 (send-proxy-v2)")]
    Absent,
    #[error("its PROXY header has version 1; let the balancer send version 2 (send-proxy-v2)")]
    Version1,
    #[error("its PROXY header has version {0}, which is not known")]
    Version(u8),
    #[error("its PROXY header has command {0}, which is not known")]
    Command(u8),
    #[error("its PROXY header tells of no client over TCP (family and protocol {0:#04x})")]
    Family(u8),
    #[error("its PROXY header has {0} octets behind the fixed part, fewer than its addresses or more than are read")]
    Length(usize),
}

impl ProxyHeader {
    /// Reads the header of a connection, and no octet more.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, ProxyHeaderError> {
        let read = async {
            let mut fixed = [0; FIXED];
            let mut held = 0;
            while held < FIXED {
                let Some(room) = fixed.get_mut(held..) else { return Err(ProxyHeaderError::Absent) };
                let read = stream.read(room).await?;
                if read == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                held += read;
                begins(fixed.get(..held).unwrap_or_default())?;
            }
            let mut rest = vec![0; rest_of(&fixed)?];
            stream.read_exact(&mut rest).await?;
            Self::parse(&fixed, &rest)
        };
        tokio::time::timeout(HEADER, read).await.unwrap_or(Err(ProxyHeaderError::Late))
    }

    fn parse(fixed: &[u8; FIXED], rest: &[u8]) -> Result<Self, ProxyHeaderError> {
        let [.., version_and_command, family, _, _] = *fixed;
        match (version_and_command >> 4, version_and_command & 0xf) {
            // The addresses do not count then.
            (2, 0) => return Ok(Self::Local),
            (2, 1) => {}
            (2, command) => return Err(ProxyHeaderError::Command(command)),
            (version, _) => return Err(ProxyHeaderError::Version(version)),
        }
        // Source and destination, then the ports.
        let source = match family {
            0x11 if rest.len() >= 12 => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
            0x21 if rest.len() >= 36 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
            0x11 | 0x21 => return Err(ProxyHeaderError::Length(rest.len())),
            family => return Err(ProxyHeaderError::Family(family)),
        };
        let source = source.ok_or(ProxyHeaderError::Length(rest.len()))?;
        Ok(Self::Client(source.to_canonical()))
    }
}

/// Whether these octets can begin a header.
fn begins(held: &[u8]) -> Result<(), ProxyHeaderError> {
    let common = held.len().min(SIGNATURE.len());
    if held.get(..common) == SIGNATURE.get(..common) {
        return Ok(());
    }
    let version_1 = b"PROXY ";
    let common = held.len().min(version_1.len());
    // The rest of the word may still be on its way; it makes no difference but to the log.
    Err(match held.get(..common) == version_1.get(..common) {
        true => ProxyHeaderError::Version1,
        false => ProxyHeaderError::Absent,
    })
}

fn rest_of(fixed: &[u8; FIXED]) -> Result<usize, ProxyHeaderError> {
    let [.., high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST { Err(ProxyHeaderError::Length(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn header(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    async fn read(octets: &[u8]) -> (String, Vec<u8>) {
        let (mut balancer, mut ours) = tokio::io::duplex(8192);
        balancer.write_all(octets).await.unwrap();
        drop(balancer);
        let found = match ProxyHeader::read(&mut ours).await {
            Ok(header) => format!("{header:?}"),
            Err(error) => error.to_string(),
        };
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (found, rest)
    }

    #[tokio::test]
    async fn headers_of_balancers() {
        // I31.
        let v4 = [&[192, 0, 2, 7, 127, 0, 0, 1][..], &[0x80, 0, 0, 25]].concat();
        let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 20]].concat();
        let mapped = [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7][..], &[0; 20]].concat();
        for (octets, found) in [
            (header(0x21, 0x11, &v4), "Client(192.0.2.7)"),
            (header(0x21, 0x21, &v6), "Client(2001:db8::1)"),
            (header(0x21, 0x21, &mapped), "Client(192.0.2.7)"),
            // Extensions are skipped, and what follows is the client's.
            (header(0x21, 0x11, &[&v4[..], &[4, 0, 1, 9], &[0; 1000]].concat()), "Client(192.0.2.7)"),
            (header(0x20, 0, &[]), "Local"),
            (header(0x20, 0x11, &v4), "Local"),
            (header(0x20, 0x99, b"xyz"), "Local"),
            (header(0x22, 0x11, &v4), "command 2"),
            (header(0x31, 0x11, &v4), "version 3"),
            (header(0x11, 0x11, &v4), "version 1"),
            (header(0x21, 0x11, &v4[..11]), "has 11 octets"),
            (header(0x21, 0x21, &v6[..35]), "has 35 octets"),
            (header(0x21, 0x11, &[0; 2049]), "has 2049 octets"),
            // No address, UDP, a Unix socket.
            (header(0x21, 0, &[]), "0x00"),
            (header(0x21, 0x12, &v4), "0x12"),
            (header(0x21, 0x31, &[0; 216]), "0x31"),
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n".to_vec(), "has version 1"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "has version 1"),
            (b"EHLO c\r\n".to_vec(), "without a PROXY header"),
            (b"\r\n\r\n\0\r\nQUIX\nxxxx".to_vec(), "without a PROXY header"),
            (header(0x21, 0x11, &v4)[..20].to_vec(), "was closed before"),
            (b"\r\n".to_vec(), "was closed before"),
        ] {
            let (read, rest) = read(&[&octets[..], b"EHLO c"].concat()).await;
            let is_whole = found.starts_with("Client") || found == "Local";
            if found == "was closed before" {
                let (read, _) = self::read(&octets).await;
                assert!(read.contains(found), "{octets:?}: {read}");
                continue;
            }
            assert!(read.contains(found), "{octets:?}: {read}");
            assert!(!is_whole || rest == b"EHLO c", "{octets:?}: {rest:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_has_its_time() {
        let whole = header(0x20, 0, &[0; 8]);
        for sent in 0..whole.len() {
            let (mut balancer, mut ours) = tokio::io::duplex(64);
            balancer.write_all(&whole[..sent]).await.unwrap();
            let began = tokio::time::Instant::now();
            assert!(matches!(ProxyHeader::read(&mut ours).await, Err(ProxyHeaderError::Late)));
            assert_eq!(began.elapsed(), HEADER);
        }
    }
}
