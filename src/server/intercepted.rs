//! Which address a client dialled whose connection came to us instead, by a rule of nftables or iptables.
//!
//! REDIRECT changes the destination, and the kernel remembers the first one; TPROXY leaves it as it is, so that the
//! connection's own end is what the client dialled.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

/// The address that the client dialled, unless it was that of the door itself.
pub(super) fn dialled(stream: &TcpStream, door: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let here = stream.local_addr().ok()?;
    let redirected = match here {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // The kernel has nothing to say of a connection that it has not redirected.
    let dialled = redirected.ok().and_then(|address| address.as_socket()).unwrap_or(here);
    elsewhere(dialled, door).then_some(dialled)
}

/// Lets connections to any address come in, as TPROXY sends them. This is a privilege, which REDIRECT does without.
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

fn elsewhere(dialled: SocketAddr, door: SocketAddr) -> bool {
    dialled.port() != door.port() || !(door.ip().is_unspecified() || door.ip() == dialled.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dials_the_door_itself_was_not_intercepted() {
        for (dialled, door, is_elsewhere) in [
            ("192.0.2.1:25", "127.0.0.1:10026", true),
            ("127.0.0.1:10026", "127.0.0.1:10026", false),
            ("[2001:db8::1]:25", "[::1]:10026", true),
            ("192.0.2.7:10026", "0.0.0.0:10026", false),
            ("192.0.2.1:25", "0.0.0.0:10026", true),
            // Another host's port of the same number.
            ("192.0.2.1:10026", "127.0.0.1:10026", true),
        ] {
            let found = elsewhere(dialled.parse().unwrap(), door.parse().unwrap());
            assert_eq!(found, is_elsewhere, "{dialled} {door}");
        }
    }
}
