//! The interface to systemd: sockets that it opened (sd_listen_fds(3)) and states that it is told (sd_notify(3)).
//!
//! Where danelaw runs without systemd, no socket is handed over, no state is read, and these functions have no effect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tokio::sync::watch;

use super::run::StartError;
use crate::config::Address;
use crate::dns::selftest::FALLEN_BACK;
use crate::dns::stub::Stub;
use crate::server::Socket;
use crate::session::Shared;

/// The time that systemd grants beyond `timeouts.grace` before it kills the rest.
const LEAVE: Duration = Duration::from_secs(10);

/// Sockets that systemd opened for us (`danelaw.socket`), until a listener of the configuration takes them.
#[derive(Debug)]
pub(super) struct Sockets(Vec<(Address, Socket)>);

impl Sockets {
    /// The sockets that were handed over. They are taken out of the environment too, so call this before there is a
    /// second thread.
    pub(super) fn inherited() -> Result<Self, StartError> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..handed.len() {
            let useless = |why| StartError::config(format!("socket {} that systemd has opened: {why}", number + 1));
            sockets.push(take(&mut handed, number).map_err(useless)?);
        }
        Ok(Self(sockets))
    }

    /// The socket that is open at this address already.
    pub(super) fn take(&mut self, address: &Address) -> Option<Socket> {
        let number = self.0.iter().position(|(open, _)| open == address)?;
        Some(self.0.swap_remove(number).1)
    }

    /// A socket that no listener accepts from would leave clients hanging.
    pub(super) fn none_left(&self) -> Result<(), StartError> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(StartError::config(format!(
                "listener: systemd has opened {address}, which no [[listener]] names; add one, or take the address out \
                 of danelaw.socket"
            ))),
        }
    }
}

/// One of the sockets, with the name that a listener has for it.
fn take(handed: &mut ListenFd, number: usize) -> io::Result<(Address, Socket)> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "it is missing");
    // A socket that is no port is refused without being taken.
    let (socket, listens) = match handed.take_tcp_listener(number) {
        Ok(port) => {
            let port = port.ok_or_else(missing)?;
            let listens = SockRef::from(&port).is_listener()?;
            ((Address::Tcp(port.local_addr()?), Socket::Tcp(port)), listens)
        }
        Err(_) => {
            let socket = handed.take_unix_listener(number)?.ok_or_else(missing)?;
            let listens = SockRef::from(&socket).is_listener()?;
            let address = socket.local_addr()?;
            let path = address.as_pathname().ok_or_else(|| io::Error::other("it has no path"))?;
            ((Address::Unix(path.to_owned()), Socket::Unix(socket)), listens)
        }
    };
    match listens {
        true => Ok(socket),
        false => Err(io::Error::other("it is a connection; set Accept=no in the socket unit")),
    }
}

/// Says that all ports are open.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Says that the configuration is being read again; [`ready`] ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd cannot be told that danelaw reloads"),
    }
}

/// Says that no new sessions are taken, and how long the open ones may need.
pub(super) fn stopping(grace: Duration) {
    let needed = u32::try_from((grace + LEAVE).as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(needed)]);
}

/// Keeps the status line of `systemctl status` true.
pub(super) async fn show(listening: String, mut shared: watch::Receiver<Arc<Shared<Stub>>>) {
    loop {
        // A reload may have brought other resolvers.
        let mut health = shared.borrow_and_update().connector.dns.health();
        let now = health.borrow_and_update().clone();
        let status = match (now.is_bad(), now.falls_back()) {
            (true, _) => "no resolver passes the self-test: all mail is deferred".to_owned(),
            (false, true) => format!("listening on {listening}; {FALLEN_BACK}"),
            (false, false) => format!("listening on {listening}"),
        };
        notify(&[NotifyState::Status(&status)]);
        let changed = tokio::select! {
            changed = health.changed() => changed,
            changed = shared.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Says that we are alive, twice in the time after which systemd would take us for dead (`WatchdogSec=`).
///
/// Each sign of life has gone through the timer and through a worker of the runtime that serves the mail: if they hang,
/// it is not given.
pub(super) async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        // Another task, so that it is a free worker that answers, not the one that turns the clock.
        if tokio::spawn(async { notify(&[NotifyState::Watchdog]) }).await.is_err() {
            return;
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how danelaw is");
    }
}
