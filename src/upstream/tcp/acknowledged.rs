//! The number of octets that the other end's TCP has acknowledged, from the kernel (RFC 4898,
//! tcpEStatsAppHCThruOctetsAcked). It outlives a reset of the connection, unlike that of `sock_diag`.

use std::os::fd::AsFd;
use std::sync::LazyLock;

// The macros name each other and `libc` without a path.
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};

/// The end of `tcpi_bytes_acked` in the kernel's `struct tcp_info`. The kernel fills as many octets as it is asked for.
const END: usize = 128;

// Octets and no struct: any value is a valid one.
sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u8; END]);

/// Linux 4.1 is the first that counts them; the library panics where the kernel knows fewer octets of it.
static IS_COUNTED: LazyLock<bool> = LazyLock::new(|| {
    let release = rustix::system::uname();
    is_counted(&release.release().to_string_lossy())
});

fn is_counted(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (4, 1))
}

/// The count of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct AckCount {
    /// The count before the first write: the SYN.
    before: u64,
}

impl AckCount {
    /// The count of a connection without a write so far; none, if the kernel keeps no count.
    pub(super) fn open(connection: &impl AsFd) -> Option<Self> {
        // A kernel that counts has counted the SYN. Some that imitate Linux fill this with zeros.
        acknowledged(connection).filter(|before| *before > 0).map(|before| Self { before })
    }

    /// The number of written octets that were acknowledged.
    pub(super) fn acknowledged(self, connection: &impl AsFd) -> Option<u64> {
        acknowledged(connection).map(|octets| octets.saturating_sub(self.before))
    }
}

fn acknowledged(connection: &impl AsFd) -> Option<u64> {
    if !*IS_COUNTED {
        return None;
    }
    let info = getsockopt(connection, TcpInfo).ok()?;
    info.last_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn old_kernels_are_not_asked() {
        for (release, expected) in [
            ("6.18.44-fc", true),
            ("4.1.0", true),
            ("4.0.9", false),
            ("3.10.0-1160.el7.x86_64", false),
            ("10.0", true),
            ("", false),
            ("odd", false),
        ] {
            assert_eq!(is_counted(release), expected, "{release:?}");
        }
    }

    #[test]
    fn octets_are_acknowledged_as_they_arrive_and_never_after_a_reset() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let account = AckCount::open(&ours).unwrap();
        assert_eq!(account.acknowledged(&ours), Some(0));
        ours.write_all(b"0123456789").unwrap();
        theirs.read_exact(&mut [0; 10]).unwrap();
        theirs.write_all(b"x").unwrap();
        ours.read_exact(&mut [0]).unwrap();
        // The answer has brought the acknowledgement.
        assert_eq!(account.acknowledged(&ours), Some(10));
        ours.set_nonblocking(true).unwrap();
        let mut written = 10;
        while let Ok(more) = ours.write(&[0; 65536]) {
            written += more as u64;
        }
        drop(theirs);
        let until = Instant::now() + Duration::from_secs(10);
        while ours.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
            assert!(Instant::now() < until);
        }
        let acknowledged = account.acknowledged(&ours).unwrap();
        assert!((10..written).contains(&acknowledged), "{acknowledged} of {written}");
    }
}
