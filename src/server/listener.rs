//! One open listener: a port or a Unix socket, the clients that may connect to it, and its protocol.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as OpenPort};
use std::os::unix::net::UnixListener as OpenSocket;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::intercepted;
use super::unix::{self, SocketFile};
use crate::config::{self, Address, Kind, Listener, Recipients};
use crate::session::Origin;
use crate::transaction::dialogue::Service;

/// Connections the kernel may hold for us: a burst must not be lost before it is counted.
pub(super) const BACKLOG: i32 = 4096;

/// How many octets of a client the kernel may hold until we read them; Linux takes twice that for its own needs.
/// A client waits ten minutes from the moment it has sent its end of data (RFC 5321 §4.5.3.2.6), and we count from the
/// moment we read it. By itself the system lets megabytes come in between. Two segments of loopback fit, so that a client
/// writes the one while we read the other. A Unix socket holds no more than 208 kB anyway (`net.core.wmem_default`).
const RECEIVE_BUFFER: usize = 128 * 1024;

/// One open port or Unix socket, and the clients that may connect to it.
#[derive(Debug)]
pub struct OpenListener {
    endpoint: Endpoint,
    kind: Kind,
    access: Arc<ListenerAccess>,
}

/// The clients that may come by a listener, and their protocol.
#[derive(Debug)]
pub(super) struct ListenerAccess {
    /// The networks that may connect. None for a Unix socket, of which the system has checked the file's mode.
    allowed: Option<Vec<IpNet>>,
    balancers: Vec<IpNet>,
    pub(super) service: Service,
}

impl ListenerAccess {
    fn of(listener: &Listener) -> Arc<Self> {
        let allowed = match &listener.address {
            Address::Tcp(_) => Some(listener.allowed()),
            Address::Unix(_) => None,
        };
        let service = match (listener.kind, listener.recipients) {
            (Kind::Smtp | Kind::Intercept, Recipients::Split) => Service::Smtp,
            (Kind::Smtp | Kind::Intercept, Recipients::FanOut) => Service::FanOut,
            (Kind::Lmtp, _) => Service::Lmtp,
        };
        Arc::new(Self { allowed, balancers: listener.balancers(), service })
    }

    /// Whether a client may connect.
    pub(super) fn allows(&self, origin: Origin) -> bool {
        match (&self.allowed, origin) {
            (Some(allowed), Origin::Address(client)) => is_among(allowed, client),
            (Some(_), Origin::UnixSocket) => false,
            (None, _) => true,
        }
    }

    /// Whether a connection is that of a balancer, which names the client by a header.
    pub(super) fn is_balancers(&self, origin: Origin) -> bool {
        matches!(origin, Origin::Address(address) if is_among(&self.balancers, address))
    }
}

#[derive(Debug)]
enum Endpoint {
    Tcp(TcpListener),
    /// For the users that the file's mode admits.
    Unix(UnixListener, SocketFile),
}

/// A port or a Unix socket that listens already: the service manager has opened it.
#[derive(Debug)]
pub enum Socket {
    /// A port.
    Tcp(OpenPort),
    /// A Unix socket.
    Unix(OpenSocket),
}

/// An accepted connection.
pub(super) struct Connection {
    pub(super) stream: Either<TcpStream, UnixStream>,
    pub(super) origin: Origin,
    /// The original destination of the client, if the connection was intercepted.
    pub(super) original_destination: Option<IpAddr>,
}

impl OpenListener {
    /// Opens a listener's port or socket.
    ///
    /// # Errors
    /// The system's error, mostly that the port is taken or needs a privilege. For a Unix socket also: another file has its
    /// path, or its owner is not known.
    pub fn open(listener: &Listener) -> io::Result<Self> {
        let endpoint = match &listener.address {
            Address::Tcp(address) => Endpoint::Tcp(port(*address, listener.kind)?),
            Address::Unix(path) => {
                let mode = listener.mode.unwrap_or(config::Permissions::GROUP);
                let (socket, file) = unix::open(path, mode, listener.owner.as_ref())?;
                Endpoint::Unix(socket, file)
            }
        };
        Ok(Self { endpoint, kind: listener.kind, access: ListenerAccess::of(listener) })
    }

    /// Takes over the port or socket of a listener, which is open already.
    ///
    /// # Errors
    /// The system's error.
    pub fn inherit(listener: &Listener, socket: Socket) -> io::Result<Self> {
        let endpoint = match socket {
            Socket::Tcp(port) => {
                port.set_nonblocking(true)?;
                SockRef::from(&port).set_recv_buffer_size(RECEIVE_BUFFER)?;
                Endpoint::Tcp(TcpListener::from_std(port)?)
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let path = socket.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
                Endpoint::Unix(UnixListener::from_std(socket)?, SocketFile::of_another(path))
            }
        };
        Ok(Self { endpoint, kind: listener.kind, access: ListenerAccess::of(listener) })
    }

    /// The address that is really open; its port is the system's choice where the configuration says 0.
    ///
    /// # Errors
    /// The system's error.
    pub fn address(&self) -> io::Result<Address> {
        match &self.endpoint {
            Endpoint::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Endpoint::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
        }
    }

    /// The clients that may come.
    pub(super) fn access(&self) -> Arc<ListenerAccess> {
        Arc::clone(&self.access)
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Connection> {
        match &self.endpoint {
            Endpoint::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                let original_destination = match self.kind {
                    Kind::Smtp | Kind::Lmtp => None,
                    Kind::Intercept => intercepted::original_destination(&stream, listener.local_addr()?),
                };
                let origin = Origin::Address(client.ip().to_canonical());
                let original_destination = original_destination.map(|address| address.ip().to_canonical());
                Ok(Connection { stream: Either::Left(stream), origin, original_destination })
            }
            Endpoint::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Connection { stream: Either::Right(stream), origin: Origin::UnixSocket, original_destination: None })
            }
        }
    }
}

fn is_among(allowed: &[IpNet], client: IpAddr) -> bool {
    allowed.iter().any(|network| network.contains(&client))
}

fn port(address: SocketAddr, kind: Kind) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    // Connections inherit it, and the window that the kernel offers in its first segment is made from it.
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    if kind == Kind::Intercept {
        intercepted::make_transparent(&socket, address);
    }
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}
