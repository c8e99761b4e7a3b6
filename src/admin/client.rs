//! The other end of the admin port: how `danelaw explain` asks the danelaw that runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::Address;
use crate::http::{self, HttpError, HttpLimits};

/// The most that is read of an answer: a page with the counts of one hostile domain has three megabytes.
const LIMITS: HttpLimits = HttpLimits { head_octets: 16 * 1024, head_fields: 64, body_octets: 8 * 1024 * 1024 };
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The path of the MTA-STS policy that is kept for a domain, which stands behind it.
pub const POLICY: &str = "/mta-sts/";

/// The path of the memory of a host, whose name stands behind it.
pub const HOSTS: &str = "/hosts/";

/// The path of the counts of TLS sessions of a day, which stands behind it.
pub const COUNTS: &str = "/tlsrpt/counts/";

/// The path of the TLS reports about today: all of them, or that of the domain behind it.
pub const PREVIEW: &str = "/tlsrpt/preview/";

/// The path of the state of the danelaw that runs, or of the domain behind it.
pub const STATUS: &str = "/status/";

/// The path of the readiness of the danelaw that runs.
pub const READY: &str = "/readyz";

/// The path of the report of a month, which stands behind it.
pub const MONTH: &str = "/report/";

/// How the answer begins where the store cannot be read.
pub const STORE_UNREADABLE: &str = "the store cannot be read: ";

/// How the answer begins where no mail is counted by month.
pub const NOT_COUNTED: &str = "mail is not counted by month: ";

/// The path of the findings of the watch: all of them, or those about the domain behind it.
pub const WATCH: &str = "/watch/";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server listens there, or we may not use the socket.
    #[error("no danelaw answers at {0}: {1}{hint}", hint = hint(.0, .1))]
    Unreachable(Address, io::Error),
    /// The server that listens there does not speak as danelaw does.
    #[error("{0} gives no sensible answer: {1}")]
    Senseless(Address, String),
    /// There is no answer in time.
    #[error("{0} gives no answer within {1:?}")]
    Timeout(Address, Duration),
}

/// Asks for a path.
///
/// # Errors
/// There is no answer.
pub async fn ask(address: &Address, path: &str) -> Result<(StatusCode, String), AskError> {
    match tokio::time::timeout(PATIENCE, ask_patiently(address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::Timeout(address.clone(), PATIENCE)),
    }
}

/// The advice on an error, where the system's text gives none.
fn hint(address: &Address, error: &io::Error) -> &'static str {
    match (address, error.kind()) {
        (Address::Unix(_), io::ErrorKind::PermissionDenied) => {
            "; run this command as root, as danelaw's user or as a member of its group"
        }
        (Address::Unix(_), io::ErrorKind::NotFound) | (_, io::ErrorKind::ConnectionRefused) => {
            "; no danelaw runs, or it has another admin.address: `danelaw config show` has the one that is asked"
        }
        (Address::Unix(_) | Address::Tcp(_), _) => "",
    }
}

async fn ask_patiently(address: &Address, path: &str) -> Result<(StatusCode, String), AskError> {
    let unreachable = |error| AskError::Unreachable(address.clone(), error);
    let answered = match address {
        Address::Tcp(tcp) => request(TcpStream::connect(connect_address(*tcp)).await.map_err(unreachable)?, path).await,
        Address::Unix(socket) => request(UnixStream::connect(socket).await.map_err(unreachable)?, path).await,
    };
    answered.map_err(|why| AskError::Senseless(address.clone(), why))
}

/// A port that listens on all addresses is asked on loopback.
fn connect_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn request<S>(stream: S, path: &str) -> Result<(StatusCode, String), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let senseless = |error: HttpError| error.to_string();
    let response = http::get(stream, "localhost", path, LIMITS).await.map_err(senseless)?;
    let status = StatusCode::from_u16(response.head.status).map_err(|error| error.to_string())?;
    let body = response.body().await.map_err(senseless)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
