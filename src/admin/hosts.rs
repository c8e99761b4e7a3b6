//! The memory of hosts, for the admin port.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};

use super::answers::AdminState;
use super::response::{json, text};
use crate::name::Name;
use crate::watch::settled::HostKey;

/// The memory of a host, by its name and the port, which is `remote.port` unless the name has another one behind a colon.
pub(super) fn host(state: &AdminState, name: &str) -> Response<Full<Bytes>> {
    let Some(hosts) = &state.hosts else {
        return text(StatusCode::NOT_FOUND, "this danelaw remembers no hosts (watch.every)\n");
    };
    let at_remote_port = || {
        let (host, port) = (Name::parse(name).ok()?, state.shared().connector.dialer.port);
        Some(HostKey { host, port })
    };
    let found = HostKey::parse(name).or_else(at_remote_port).and_then(|key| hosts.get(&key));
    match found.and_then(|found| serde_json::to_string(&found).ok()) {
        Some(written) => json(written),
        None => text(StatusCode::NOT_FOUND, "no session with this host is remembered\n"),
    }
}
