//! One TCP connection to a remote, with the [`Permits`] it holds for as long as its socket is open.

mod acknowledged;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::limits::{DomainPermit, Permits};
use crate::refusal::{Reason, Stage};
use crate::scarce::Scarcity;
use acknowledged::AckCount;

/// The connection.
#[derive(Debug)]
pub struct Tcp {
    // Dropped first, so that the socket is closed when the permits are given back.
    stream: TcpStream,
    permits: Option<Permits>,
    began: Instant,
    /// Octets that the kernel has taken.
    written: u64,
    /// The count of acknowledged octets, where the kernel keeps one.
    acknowledged: Option<AckCount>,
}

/// The addresses to connect from. Without one the kernel chooses.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source {
    /// To IPv4 addresses.
    pub v4: Option<Ipv4Addr>,
    /// To IPv6 addresses.
    pub v6: Option<Ipv6Addr>,
}

impl Source {
    /// The address to connect from, for a connection to this one.
    pub(super) fn towards(self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

impl Tcp {
    /// Connects within `limit`.
    ///
    /// # Errors
    /// [`Reason::Bind`], [`Reason::Connect`], [`Reason::Scarce`], or [`Reason::Timeout`].
    pub async fn connect(address: SocketAddr, source: Source, limit: Duration) -> Result<Self, Reason> {
        let began = Instant::now();
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(not_connected)?;
        if let Some(source) = source.towards(address.ip()) {
            socket.bind(SocketAddr::new(source, 0)).map_err(|error| match Scarcity::of(&error) {
                Some(scarcity) => Reason::Scarce(scarcity),
                None => Reason::Bind { from: source, error },
            })?;
        }
        let stream = match tokio::time::timeout(limit, socket.connect(address)).await {
            Ok(stream) => stream.map_err(not_connected)?,
            Err(_) => return Err(Reason::Timeout { stage: Stage::Connect, limit }),
        };
        stream.set_nodelay(true).map_err(not_connected)?;
        let acknowledged = AckCount::open(&stream);
        Ok(Self { stream, permits: None, began, written: 0, acknowledged })
    }

    /// The number of octets that the kernel has taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// How many of the first `octets` that were written the remote's TCP has not acknowledged; 0 where the kernel does not
    /// tell.
    pub(super) fn unacknowledged(&self, octets: u64) -> u64 {
        let acknowledged = self.acknowledged.and_then(|count| count.acknowledged(&self.stream));
        acknowledged.map_or(0, |acknowledged| octets.saturating_sub(acknowledged))
    }

    /// Adds the octets of a write.
    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(octets)) = &written {
            self.written += *octets as u64;
        }
        written
    }

    /// The address that it was dialled from.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        self.stream.local_addr().ok().map(|address| address.ip())
    }

    /// When the connection attempt began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether all that has come was read, the end of the stream included. The kernel is asked, because the runtime
    /// learns of input a moment later.
    pub(super) fn is_quiet(&self) -> bool {
        let seen = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Counts the connection for the domain of this transaction, or for none.
    pub(super) fn serve(&mut self, domain: Option<DomainPermit>) {
        if let Some(permits) = &mut self.permits {
            permits.serve(domain);
        }
    }

    /// The same connection, which gives these permits back when it is closed.
    pub(super) fn holding(self, permits: Permits) -> Self {
        Self { permits: Some(permits), ..self }
    }
}

/// The reason for an error of the kernel: this host is short of a resource, or the remote is not reachable.
fn not_connected(error: io::Error) -> Reason {
    match Scarcity::of(&error) {
        Some(scarcity) => Reason::Scarce(scarcity),
        None => Reason::Connect(error),
    }
}

/// Whether an address belongs to this host: then the kernel takes the address itself as the source of a packet to it
/// (RFC 5321 §5.1; A-52). No packet is sent.
///
/// Every host has loopback; [`crate::reserved`] and the listeners judge it.
///
/// # Errors
/// If the kernel cannot be asked, because there is no socket left.
pub(super) fn is_of_this_host(address: IpAddr) -> Result<bool, Scarcity> {
    if address.is_loopback() {
        return Ok(false);
    }
    match kernel_source(address) {
        Ok(source) => Ok(source == Some(address)),
        // An address without a route to it is not ours.
        Err(error) => Scarcity::of(&error).map_or(Ok(false), Err),
    }
}

fn kernel_source(address: IpAddr) -> io::Result<Option<IpAddr>> {
    let target = SocketAddr::new(address, 9);
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
    // To connect a datagram socket sends no packet.
    socket.connect(&target.into())?;
    Ok(socket.local_addr()?.as_socket().map(|source| source.ip()))
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        // Every host has 127.0.0.1, and it is the source for 127.0.0.2.
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(kernel_source(loopback).unwrap(), Some(loopback));
        assert_eq!(kernel_source([127, 0, 0, 2].into()).unwrap(), Some(loopback));
        assert_eq!(is_of_this_host(loopback), Ok(false));
    }

    #[tokio::test]
    async fn a_source_address_that_is_not_ours_is_named() {
        let source = Source { v4: Some([192, 0, 2, 1].into()), v6: None };
        let target = SocketAddr::from(([127, 0, 0, 1], 9));
        let reason = Tcp::connect(target, source, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(reason, Reason::Bind { .. }));
        assert!(
            reason.to_string().starts_with("cannot connect from 192.0.2.1 (remote.source_ipv4): Cannot assign"),
            "{reason}"
        );
    }
}
