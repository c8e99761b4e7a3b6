//! The memory of hosts, for the admin port.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use super::answers::{AdminState, domain};
use super::response::json;
use crate::watch::settled::HostKey;

/// The memory of a host, by its name and the port, which is `remote.port` unless the name has another one behind a colon.
///
/// # Errors
/// Why there is none.
pub(super) fn host(state: &AdminState, name: &str) -> Result<Response<Full<Bytes>>, String> {
    let hosts = state
        .hosts
        .as_ref()
        .ok_or("this danelaw remembers no hosts: set watch.every, as in \"24h\", and restart it\n")?;
    let key = match HostKey::parse(name) {
        Some(key) => key,
        None => HostKey { host: domain(name)?, port: state.shared().connector.dialer.port },
    };
    let written = hosts.get(&key).and_then(|found| serde_json::to_string(&found).ok());
    written.map(json).ok_or_else(|| {
        "no session with this host is remembered: those by the policies encrypt and may are\n".to_owned()
    })
}
