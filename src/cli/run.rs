//! `danelaw run`: open the ports, say what is served, serve, leave quietly.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::systemd::{self, Sockets};
use super::{EX_CONFIG, EX_OSERR, rules};
use crate::config::{Address, Config, Log, LogFormat};
use crate::dns::selftest::Health;
use crate::dns::setup::{self, SetupError};
use crate::dns::stub::{QUIET, Stub};
use crate::name::Name;
use crate::server::{self, Door, Drained, Server};

/// How long the ports stay closed for the first self-test of the resolvers, which mostly takes a moment. It goes on
/// afterwards; mail that comes meanwhile is deferred by the lookups themselves.
const FIRST_TEST: Duration = Duration::from_secs(3);

/// Why the proxy did not start, with the exit code that says so.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Failed {
    pub(super) code: u8,
    pub(super) why: String,
}

impl Failed {
    pub(super) fn config(why: impl ToString) -> Self {
        Self { code: EX_CONFIG, why: why.to_string() }
    }

    pub(super) fn system(why: impl ToString) -> Self {
        Self { code: EX_OSERR, why: why.to_string() }
    }
}

/// Runs the proxy until SIGTERM or SIGINT.
pub(super) fn run(config: &Config) -> ExitCode {
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed { code, why }) => {
            eprintln!("danelaw: {why}");
            ExitCode::from(code)
        }
    }
}

fn start(config: &Config) -> Result<(), Failed> {
    init_log(&config.log)?;
    let sockets = Sockets::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::system)?;
    runtime.block_on(serve(config, sockets))
}

fn init_log(log: &Log) -> Result<(), Failed> {
    let filter = filter(&log.filter).map_err(|error| Failed::config(format!("log.filter: {error}")))?;
    let log_to = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => log_to.with_ansi(false).init(),
        LogFormat::Json => log_to.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
    Ok(())
}

/// What to log. A word that is no level would be taken for the name of a module, and nothing else would be logged.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').map(str::trim).find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(format!(
            "{word:?} is no level (off, error, warn, info, debug, trace) and no MODULE=LEVEL such as \
             danelaw::upstream=debug"
        ));
    }
    EnvFilter::try_new(format!("{QUIET},{text}")).map_err(|error| format!("{text:?} does not do: {error}"))
}

async fn serve(config: &Config, sockets: Sockets) -> Result<(), Failed> {
    // Both before any port opens: a signal must not find us unprepared, a bad setting must not find us half open.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()];
    let signals = signals.into_iter().map(signal).collect::<Result<Vec<_>, _>>().map_err(Failed::system)?;
    let hostname = hostname(config)?;
    let dns = resolver(config)?;
    let ledger = server::ledger(config).await;
    let ledger = ledger.map_err(|error| Failed::config(format!("ledger.path: {error}")))?;
    let shared = server::share(config, hostname, dns.clone(), ledger).map_err(Failed::system)?;
    let doors = open(config, sockets)?;
    let tests = tokio::spawn(dns.clone().keep_testing(config.dns.self_test));
    let mut health = dns.health();
    let tested = health.wait_for(Health::is_tested);
    // Whether they have passed or time is up: mail is deferred by the lookups themselves.
    let _ = tokio::time::timeout(FIRST_TEST, tested).await;
    let listening = announce(config, &doors, &dns);
    let warnings = tokio::spawn(rules::keep_warning(shared.rules.clone()));
    systemd::ready();
    tokio::spawn(systemd::keep_alive());
    tokio::spawn(systemd::show(listening, dns.health()));
    let stop = CancellationToken::new();
    tokio::spawn(stop_at(signals, config.timeouts.grace, stop.clone()));
    let server = Server { doors, max_sessions: config.limits.sessions, grace: config.timeouts.grace };
    let drained = server.run(shared, stop).await;
    tests.abort();
    warnings.abort();
    match drained {
        Drained::Clean => tracing::info!("stopped; every open transaction was finished"),
        Drained::Cut(sessions) => {
            tracing::warn!(sessions, "stopped; these sessions were cut, and their clients still have the mail");
        }
    }
    Ok(())
}

/// All ports: those that systemd has opened, and the others ourselves.
fn open(config: &Config, mut sockets: Sockets) -> Result<Vec<Door>, Failed> {
    let mut doors = Vec::new();
    for listener in &config.listener {
        let door = match sockets.take(&listener.address) {
            Some(socket) => Door::inherit(listener, socket),
            None => Door::open(listener),
        };
        let failed = |error| Failed::system(format!("cannot listen on {}: {error}", listener.address));
        doors.push(door.map_err(failed)?);
    }
    sockets.none_left().map(|()| doors)
}

/// RFC 5321 §4.1.1.1 wants a name; ours must not be the client's, which on one host is the host's own.
pub(super) fn hostname(config: &Config) -> Result<Name, Failed> {
    if let Some(name) = &config.hostname {
        return Ok(name.clone());
    }
    let system = hostname::get().map_err(Failed::system)?;
    Name::parse(&format!("danelaw.{}", system.to_string_lossy())).map_err(|error| {
        Failed::config(format!("hostname: the system's host name {} does not do ({error}); set one", system.display()))
    })
}

pub(super) fn resolver(config: &Config) -> Result<Stub, Failed> {
    let dns = &config.dns;
    let settings = setup::Settings {
        mode: dns.mode,
        servers: dns.servers.iter().map(|server| server.0.clone()).collect(),
        trust_ad_unsafe_remote: dns.trust_ad_unsafe_remote,
        trust_anchor: dns.trust_anchor.clone(),
        tls_ca: dns.tls_ca.clone(),
        timeout: dns.timeout,
        attempts: dns.attempts,
        deadline: dns.deadline,
        memory: setup::Memory {
            entries: dns.cache_entries,
            octets: usize::try_from(dns.cache_size.as_u64()).unwrap_or(usize::MAX),
            answers: dns.cache_max_ttl,
            failures: dns.cache_failures,
        },
        ..setup::Settings::default()
    };
    Stub::new(&settings).map_err(|error| {
        let key = match &error {
            SetupError::Library(_) => return Failed::system(error),
            SetupError::DsAnchors(_) | SetupError::BadAnchors { .. } | SetupError::NoAnchors(_) => "dns.trust_anchor",
            SetupError::BadCertificates { .. } => "dns.tls_ca",
            SetupError::Unreadable { path, .. } if Some(path) == dns.trust_anchor.as_ref() => "dns.trust_anchor",
            SetupError::Unreadable { .. }
            | SetupError::NoServers
            | SetupError::BadServer { .. }
            | SetupError::ScopedServer { .. }
            | SetupError::WithinReach(_) => "dns.servers",
        };
        let empty = if key == "dns.servers" && dns.servers.is_empty() { " (it is empty; set it)" } else { "" };
        Failed::config(format!("{key}: {error}{empty}"))
    })
}

/// One line that says what is open, for whom, and on whose word the mail will go. Returns what is open.
fn announce(config: &Config, doors: &[Door], dns: &Stub) -> String {
    let addresses: Vec<String> =
        doors.iter().filter_map(|door| door.address().ok()).map(|address| address.to_string()).collect();
    let networks = config.listener.iter().filter(|listener| matches!(listener.address, Address::Tcp(_)));
    let clients: Vec<String> =
        networks.flat_map(|listener| listener.allowed()).map(|network| network.to_string()).collect();
    let health = dns.health().borrow().clone();
    let resolvers: Vec<String> = health.servers.iter().map(|server| server.server.to_string()).collect();
    let listening = addresses.join(" ");
    tracing::info!(
        listen = listening,
        clients = clients.join(" "),
        resolvers = resolvers.join(" "),
        dns_mode = %config.dns.mode,
        tls_level = %config.tls.level,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    listening
}

async fn stop_at(mut signals: Vec<Signal>, grace: Duration, stop: CancellationToken) {
    let (first, second) = signals.split_at_mut(1);
    if let (Some(terminate), Some(interrupt)) = (first.first_mut(), second.first_mut()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new sessions, open transactions may finish");
        systemd::stopping(grace);
    }
    stop.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_everything_is_an_error() {
        for text in ["info", "WARN", "info,danelaw::upstream=debug", "off"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["", "inf", "verbose", "info,danelaw", "danelaw=verbose", "info,"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
