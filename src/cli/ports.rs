//! The ports and sockets that danelaw opens at its start, and the advice to an operator if that fails.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process;
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::ConfigFlags;
use super::run::StartError;
use super::systemd::Sockets;
use crate::admin::{AdminPort, AdminState};
use crate::config::{Address, AdminSection, Config, EntryKey};
use crate::server::OpenListener;

/// Opens the admin port, if there is to be one, before all others, so that it shows the progress of the start.
pub(super) async fn open_admin(config: &Config, state: AdminState) -> Result<AbortHandle, StartError> {
    let port = match (AdminPort::open(&config.admin).await, &config.admin.address) {
        (Ok(port), _) => port,
        (Err(error), Some(Address::Unix(path))) if path == Path::new(AdminSection::DEFAULT_SOCKET) => {
            tell_missing(path, &error);
            None
        }
        (Err(error), Some(address)) => return Err(cannot_listen("admin.address", address, &error)),
        (Err(error), None) => return Err(StartError::system(error)),
    };
    let serve = async move {
        if let Some(port) = port {
            if let Ok(address) = port.address() {
                tracing::info!(%address, "health, metrics and explanations");
            }
            port.serve(Arc::new(state)).await;
        }
    };
    Ok(tokio::spawn(serve).abort_handle())
}

/// Mail goes on without the socket of the defaults.
fn tell_missing(socket: &Path, error: &io::Error) {
    let socket = socket.display().to_string();
    const WITHOUT: &str = "the admin socket of the defaults cannot be opened: no health, metrics and explanations; set \
                           admin.address to have them";
    match error.kind() {
        // A danelaw that a person has started.
        ErrorKind::NotFound => tracing::info!(socket, %error, "{WITHOUT}"),
        _ => tracing::warn!(socket, %error, "{WITHOUT}"),
    }
}

/// A port that a container publishes leads to its own address, on which no listener is by default.
///
/// A configuration that lists a listener on loopback has reasons: clients in the same pod, or the network of the host.
pub(super) fn tell_of_published(config: &Config, settings: &ConfigFlags) {
    const UNREACHED: &str = "no listener takes mail from outside the network of this container, so a published port (docker run -p) \
                             reaches none; for one set listener.address to \"0.0.0.0:10025\", and listener.allow to the networks \
                             that may send mail; if all clients are in this network, set listener.address to \"127.0.0.1:10025\"";
    let is_loopback = |address: &Address| matches!(address, Address::Tcp(address) if address.ip().is_loopback());
    // The first process of a container.
    if process::id() == 1 && config.listener.iter().all(|listener| is_loopback(&listener.address)) {
        match settings.sets("listener") {
            true => tracing::info!("{UNREACHED}"),
            false => tracing::warn!("{UNREACHED}"),
        }
    }
}

/// All ports: those that systemd has opened, and the others ourselves.
pub(super) fn open(config: &Config, mut sockets: Sockets) -> Result<Vec<OpenListener>, StartError> {
    let mut listeners = Vec::new();
    for (entry, listener) in config.listener.iter().enumerate() {
        let key = EntryKey { key: "listener.address", entry };
        let opened = match sockets.take(&listener.address) {
            Some(socket) => OpenListener::inherit(listener, socket),
            None => OpenListener::open(listener),
        };
        listeners.push(opened.map_err(|error| cannot_listen(key, &listener.address, &error))?);
    }
    sockets.none_left().map(|()| listeners)
}

fn cannot_listen(key: impl Display, address: &Address, error: &io::Error) -> StartError {
    let what_to_do = advice(address, error).map_or_else(String::new, |advice| format!("; {advice}"));
    StartError::system(format!("{key}: cannot listen on {address}: {error}{what_to_do}"))
}

/// The advice on an error, where the system's text gives none.
fn advice(address: &Address, error: &io::Error) -> Option<&'static str> {
    // Our own texts say enough.
    error.raw_os_error()?;
    match (error.kind(), address) {
        (ErrorKind::AddrInUse, Address::Tcp(_)) => Some(
            "another program listens there, perhaps another danelaw: `ss -ltnp` names it; stop it, or give another port",
        ),
        (_, Address::Tcp(address)) if address.is_ipv6() && is_without_ipv6(error) => Some(
            "no interface of this host has that address, or IPv6 is switched off here: `ip -6 address` lists those that there are; give \
             one of them, or an IPv4 address",
        ),
        (ErrorKind::AddrNotAvailable, _) => Some(
            "no interface of this host has that address: `ip address` lists those that there are; give one of them",
        ),
        (ErrorKind::PermissionDenied, Address::Tcp(_)) => Some(
            "ports below 1024 need a privilege: give a higher one, or, for a listener, let systemd open it (danelaw.socket)",
        ),
        (ErrorKind::PermissionDenied, Address::Unix(_)) => {
            Some("danelaw's user must be allowed to write to its directory")
        }
        (ErrorKind::NotFound, Address::Unix(_)) => Some("the directory must be there before danelaw starts"),
        _ => None,
    }
}

/// Whether this host lacks the address, or the whole family.
fn is_without_ipv6(error: &io::Error) -> bool {
    let of_family = Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == of_family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_where_a_port_cannot_be_opened() {
        let (tcp, tcp6, unix) = ("127.0.0.1:25", "[::1]:25", "unix:/run/danelaw/lmtp.sock");
        // The numbers are Linux's.
        for (address, number, said) in [
            (tcp, 98, Some("another program listens there")),
            (tcp, 99, Some("no interface of this host")),
            (tcp6, 99, Some("or IPv6 is switched off here")),
            (tcp6, 97, Some("or IPv6 is switched off here")),
            (tcp6, 98, Some("another program listens there")),
            (tcp, 13, Some("ports below 1024 need a privilege")),
            (unix, 13, Some("danelaw's user must be allowed to write")),
            (unix, 2, Some("the directory must be there")),
            (tcp, 24, None),
        ] {
            let error = io::Error::from_raw_os_error(number);
            let why = cannot_listen("listener.address", &address.parse().unwrap(), &error).why;
            assert!(why.starts_with(&format!("listener.address: cannot listen on {address}: {error}")), "{why}");
            assert!(said.map_or_else(|| why.ends_with(&error.to_string()), |said| why.contains(said)), "{why}");
        }
        let ours = io::Error::new(ErrorKind::NotFound, "\"nobody\" is not in /etc/passwd");
        assert_eq!(advice(&unix.parse().unwrap(), &ours), None);
    }
}
