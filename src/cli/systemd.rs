//! What systemd hands us and hears from us: sockets that it opened (sd_listen_fds(3)) and states (sd_notify(3)).
//!
//! Where danelaw runs without systemd, nothing is handed over and nobody listens, and all of this does nothing.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;
use tokio::sync::watch;

use super::run::Failed;
use crate::dns::selftest::Health;

/// What systemd grants us beyond `timeouts.grace` before it kills what is left.
const LEAVE: Duration = Duration::from_secs(10);

/// Sockets that systemd opened for us (`danelaw.socket`), until a listener of the configuration takes them.
#[derive(Debug)]
pub(super) struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// What was handed over. It is taken out of the environment too, so call this before there is a second thread.
    pub(super) fn inherited() -> Result<Self, Failed> {
        let useless = |number: usize, why: String| {
            Failed::config(format!("socket {} of those that systemd opened is of no use: {why}", number + 1))
        };
        let mut handed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..handed.len() {
            let socket = handed.take_tcp_listener(number).map_err(|error| useless(number, error.to_string()))?;
            let Some(socket) = socket else { continue };
            if !SockRef::from(&socket).is_listener().map_err(Failed::system)? {
                return Err(useless(number, "it is a connection; set Accept=no in the socket unit".to_owned()));
            }
            sockets.push((socket.local_addr().map_err(Failed::system)?, socket));
        }
        Ok(Self(sockets))
    }

    /// The socket that is open at this address already.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let number = self.0.iter().position(|(open, _)| *open == address)?;
        Some(self.0.swap_remove(number).1)
    }

    /// A socket that nobody accepts from would leave clients hanging.
    pub(super) fn none_left(&self) -> Result<(), Failed> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(Failed::config(format!(
                "listener: systemd has opened {address}, which no [[listener]] names; add one, or take the address out \
                 of danelaw.socket"
            ))),
        }
    }
}

/// Says that all ports are open.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that no new sessions are taken, and how long the open ones may need.
pub(super) fn stopping(grace: Duration) {
    let needed = u32::try_from((grace + LEAVE).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(needed)]);
}

/// Keeps the status line of `systemctl status` true.
pub(super) async fn show(listening: String, mut health: watch::Receiver<Health>) {
    loop {
        let status = match health.borrow_and_update().is_bad() {
            true => "no resolver passes the self-test: all mail is deferred".to_owned(),
            false => format!("listening on {listening}"),
        };
        tell(&[NotifyState::Status(&status)]);
        if health.changed().await.is_err() {
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
        if tokio::spawn(async { tell(&[NotifyState::Watchdog]) }).await.is_err() {
            return;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told how danelaw is");
    }
}
