//! The original destination of a connection that a rule of nftables or iptables has sent here.
//!
//! REDIRECT changes the destination, and the kernel remembers the first one; TPROXY leaves it as it is, so that the
//! connection's local address is the original destination.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

/// The original destination, unless it was the listener itself.
pub(super) fn original_destination(stream: &TcpStream, listener: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let here = stream.local_addr().ok()?;
    let redirected = match here {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // The kernel has no original destination for a connection that it has not redirected.
    let original = redirected.ok().and_then(|address| address.as_socket()).unwrap_or(here);
    elsewhere(original, listener).then_some(original)
}

/// Accepts connections to any address, as TPROXY sends them. This needs a privilege, and REDIRECT does not.
pub(super) fn make_transparent(socket: &TcpSocket, address: SocketAddr) {
    let socket = SockRef::from(socket);
    let done = match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    };
    if let Err(error) = done {
        tracing::info!(%address, %error, "not transparent: nftables can redirect to this listener, but not tproxy");
    }
}

fn elsewhere(original: SocketAddr, listener: SocketAddr) -> bool {
    original.port() != listener.port() || !(listener.ip().is_unspecified() || listener.ip() == original.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_to_the_listener_itself_was_not_intercepted() {
        for (original, listener, is_elsewhere) in [
            ("192.0.2.1:25", "127.0.0.1:10026", true),
            ("127.0.0.1:10026", "127.0.0.1:10026", false),
            ("[2001:db8::1]:25", "[::1]:10026", true),
            ("192.0.2.7:10026", "0.0.0.0:10026", false),
            ("192.0.2.1:25", "0.0.0.0:10026", true),
            // Another host's port of the same number.
            ("192.0.2.1:10026", "127.0.0.1:10026", true),
        ] {
            let found = elsewhere(original.parse().unwrap(), listener.parse().unwrap());
            assert_eq!(found, is_elsewhere, "{original} {listener}");
        }
    }
}
