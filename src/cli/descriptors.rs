//! Open files: the number that the sessions of the configuration need, and the system's limit.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Open files beside sessions: listeners, name servers, the store, the admin port.
const OTHERS: u64 = 500;

/// Raises the limit of this process as far as the system lets it, and says so where that is too little.
///
/// The usual limit of 1024 is for programs that call select(2), which danelaw does not.
pub(super) fn raise(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let allowed = if raised.is_ok() { limit.maximum } else { limit.current };
    let needed = needed(config);
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "the system allows too few open files for limits.sessions and remote.connections; beyond them clients wait and \
             mail is deferred: raise the limit (LimitNOFILE=, ulimit -Hn) or lower these keys"
        );
    }
}

/// How many files are open when all sessions there may be are at it.
fn needed(config: &Config) -> u64 {
    let sessions = config.limits.sessions.saturating_add(config.remote.connections);
    u64::try_from(sessions).unwrap_or(u64::MAX).saturating_add(OTHERS)
}
