//! The admin port: health, metrics and explanations over HTTP, for operators.
//!
//! It has bounds of its own, so that a slow or silent client does not keep others from sending mail: so many connections
//! at a time, one request each, and a few seconds for it. At the bound a new connection replaces the oldest one that has
//! not sent its request, or else the oldest of all.

pub mod answers;
pub mod client;
mod domain;
mod guest;
mod months;
mod hosts;
mod page;
mod readiness;
mod reports;
mod response;
mod status;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use crate::config::{self, Address, Permissions};
use crate::scarce::Scarcity;
use crate::server::unix::{self, SocketFile};
use guest::AskedAt;

pub use answers::{AdminState, Phase};
pub(crate) use page::month_page;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long a client may take to ask.
const TO_ASK: Duration = Duration::from_secs(3);
/// How long a connection may last in all.
const IN_ALL: Duration = Duration::from_secs(15);
/// How long to wait when the system has no descriptor for one more connection.
const OUT_OF_FILES: Duration = Duration::from_millis(500);

/// The open admin port.
#[derive(Debug)]
pub struct AdminPort {
    listener: AdminListener,
    settings: config::AdminSection,
}

#[derive(Debug)]
enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl AdminPort {
    /// Opens the port, if there is to be one.
    ///
    /// # Errors
    /// The system's error, mostly that the port is taken.
    pub async fn open(settings: &config::AdminSection) -> io::Result<Option<Self>> {
        let listener = match &settings.address {
            None => return Ok(None),
            Some(Address::Tcp(address)) => AdminListener::Tcp(TcpListener::bind(address).await?),
            Some(Address::Unix(path)) => {
                let (listener, file) = unix::open(path, Permissions::GROUP, None)?;
                AdminListener::Unix(listener, file)
            }
        };
        Ok(Some(Self { listener, settings: settings.clone() }))
    }

    /// Where the port is; its number is the system's choice where the configuration says 0.
    ///
    /// # Errors
    /// The system's error.
    pub fn address(&self) -> io::Result<Address> {
        match &self.listener {
            AdminListener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            AdminListener::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
        }
    }

    fn asked_from(&self, client: IpAddr) -> AskedAt {
        match &self.settings.address {
            Some(Address::Tcp(port)) => AskedAt::by_tcp(client, port.ip()),
            Some(Address::Unix(_)) | None => AskedAt::Elsewhere,
        }
    }

    /// Answers until it is dropped.
    pub async fn serve(self, state: Arc<AdminState>) {
        let mut guests = Guests::default();
        loop {
            let accepted = match &self.listener {
                AdminListener::Tcp(listener) => match listener.accept().await {
                    Ok((_, client)) if !self.settings.allows(client.ip()) => {
                        tracing::warn!(client = %client.ip(), "turned away from the admin port: not in admin.allow");
                        continue;
                    }
                    Ok((stream, client)) => Ok(AdminStream::Tcp(stream, self.asked_from(client.ip()))),
                    Err(error) => Err(error),
                },
                AdminListener::Unix(listener, _) => {
                    listener.accept().await.map(|(stream, _)| AdminStream::Unix(stream))
                }
            };
            match accepted {
                Ok(stream) => {
                    let (state, asked) = (Arc::clone(&state), Arc::<AtomicBool>::default());
                    let guest = Arc::clone(&asked);
                    let conversation = tokio::spawn(async move {
                        match stream {
                            AdminStream::Tcp(stream, at) => converse(stream, at, state, guest).await,
                            AdminStream::Unix(stream) => converse(stream, AskedAt::Unix, state, guest).await,
                        }
                    });
                    guests.admit(Guest { conversation: conversation.abort_handle(), asked });
                }
                Err(error) => {
                    match Scarcity::of(&error) {
                        Some(of) => state.reporter().ran_out(of.into(), "admin"),
                        None => tracing::warn!(%error, "cannot accept a connection on the admin port"),
                    }
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }
}

/// The connections that are open, in the order in which they came.
#[derive(Default)]
struct Guests(VecDeque<Guest>);

/// One of them.
struct Guest {
    conversation: AbortHandle,
    /// Whether it has put its request.
    asked: Arc<AtomicBool>,
}

impl Guests {
    /// Takes one more, in the place of another where there is no room: the longest of those that have not asked yet.
    fn admit(&mut self, guest: Guest) {
        self.0.retain(|guest| !guest.conversation.is_finished());
        if self.0.len() >= CONNECTIONS {
            let silent = self.0.iter().position(|guest| !guest.asked.load(Relaxed));
            if let Some(gone) = self.0.remove(silent.unwrap_or(0)) {
                gone.conversation.abort();
            }
        }
        self.0.push_back(guest);
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.0.iter().for_each(|guest| guest.conversation.abort());
    }
}

enum AdminStream {
    Tcp(tokio::net::TcpStream, AskedAt),
    Unix(tokio::net::UnixStream),
}

/// One request and its answer.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    at: AskedAt,
    state: Arc<AdminState>,
    asked: Arc<AtomicBool>,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        asked.store(true, Relaxed);
        let state = Arc::clone(&state);
        let (head, _) = request.into_parts();
        async move { Ok::<_, Infallible>(answers::answer(&head, at, &state).await) }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TO_ASK)
        .keep_alive(false)
        .max_headers(32)
        .max_buf_size(8192)
        .serve_connection(TokioIo::new(stream), answer);
    // A client that breaks off has read enough, or will ask again.
    let _ = tokio::time::timeout(IN_ALL, conversation).await;
}
