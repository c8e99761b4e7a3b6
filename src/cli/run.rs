//! `danelaw run`: open the ports, say what is served, serve, leave quietly.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{EX_CONFIG, EX_OSERR};
use crate::config::{Config, Log, LogFormat};
use crate::dns::validating::{self, SetupError, Validating};
use crate::name::Name;
use crate::server::{self, Door, Drained, Server};
use crate::session::Shared;

/// Where the system's resolvers are listed.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often a resolver that cannot carry DNSSEC is tried again, and a good one looked after.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Why the proxy did not start, with the exit code that says so.
struct Failed {
    code: u8,
    why: String,
}

impl Failed {
    fn config(why: impl ToString) -> Self {
        Self { code: EX_CONFIG, why: why.to_string() }
    }

    fn system(why: impl ToString) -> Self {
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failed::system)?;
    runtime.block_on(serve(config))
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
    EnvFilter::try_new(format!("{},{text}", validating::QUIET))
        .map_err(|error| format!("{text:?} does not do: {error}"))
}

async fn serve(config: &Config) -> Result<(), Failed> {
    // Both before any port opens: a signal must not find us unprepared, a bad setting must not find us half open.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()];
    let signals = signals.into_iter().map(signal).collect::<Result<Vec<_>, _>>().map_err(Failed::system)?;
    let hostname = hostname(config)?;
    let servers = servers(config)?;
    let dns = resolver(config, servers.clone())?;
    let shared = server::share(config, hostname, dns).map_err(Failed::system)?;
    let mut doors = Vec::new();
    for listener in &config.listener {
        let door = Door::open(listener.address, listener.allowed())
            .map_err(|error| Failed::system(format!("cannot listen on {}: {error}", listener.address)))?;
        doors.push(door);
    }
    announce(config, &doors, &servers);
    let stop = CancellationToken::new();
    let probes = tokio::spawn(watch_resolvers(Arc::clone(&shared)));
    tokio::spawn(stop_at(signals, stop.clone()));
    let server = Server { doors, max_sessions: config.limits.sessions, grace: config.timeouts.grace };
    let drained = server.run(shared, stop).await;
    probes.abort();
    match drained {
        Drained::Clean => tracing::info!("stopped; every open transaction was finished"),
        Drained::Cut(sessions) => {
            tracing::warn!(sessions, "stopped; these sessions were cut, and their clients still have the mail");
        }
    }
    Ok(())
}

/// RFC 5321 §4.1.1.1 wants a name; ours must not be the client's, which on one host is the host's own.
fn hostname(config: &Config) -> Result<Name, Failed> {
    if let Some(name) = &config.hostname {
        return Ok(name.clone());
    }
    let system = hostname::get().map_err(Failed::system)?;
    Name::parse(&format!("danelaw.{}", system.to_string_lossy())).map_err(|error| {
        Failed::config(format!("hostname: the system's host name {} does not do ({error}); set one", system.display()))
    })
}

fn servers(config: &Config) -> Result<Vec<SocketAddr>, Failed> {
    if !config.dns.servers.is_empty() {
        return Ok(config.dns.servers.iter().map(|server| server.0).collect());
    }
    validating::system_servers(Path::new(RESOLV_CONF)).map_err(|error| {
        Failed::config(format!("dns.servers is empty, and {RESOLV_CONF} does not do ({error}); set it"))
    })
}

fn resolver(config: &Config, servers: Vec<SocketAddr>) -> Result<Validating, Failed> {
    let dns = &config.dns;
    let validating = Validating::new(&validating::Settings {
        servers,
        trust_anchor: dns.trust_anchor.clone(),
        timeout: dns.timeout,
        attempts: dns.attempts,
        deadline: dns.deadline,
    })
    .map_err(|error| match error {
        SetupError::Library(_) => Failed::system(error),
        error => Failed::config(format!("dns.trust_anchor: {error}")),
    })?;
    Ok(validating.remembering())
}

/// One line that says what is open, for whom, and on whose word the mail will go.
fn announce(config: &Config, doors: &[Door], servers: &[SocketAddr]) {
    let addresses: Vec<String> =
        doors.iter().filter_map(|door| door.address().ok()).map(|address| address.to_string()).collect();
    let clients: Vec<String> =
        config.listener.iter().flat_map(|listener| listener.allowed()).map(|network| network.to_string()).collect();
    let resolvers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    tracing::info!(
        listen = addresses.join(" "),
        clients = clients.join(" "),
        resolvers = resolvers.join(" "),
        tls_level = %config.tls.level,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
}

/// Says when the resolvers cannot carry DNSSEC, and when they can again. Mail is deferred by the lookups themselves.
async fn watch_resolvers(shared: Arc<Shared<Validating>>) {
    let mut last = None;
    loop {
        let state = shared.connector.dns.probe().await.map_err(|failure| failure.to_string());
        if last.as_ref() != Some(&state) {
            match &state {
                Ok(()) => tracing::info!("the resolvers carry DNSSEC: the root validates"),
                Err(why) => tracing::error!(
                    %why,
                    "the resolvers cannot carry DNSSEC, so all mail is deferred; set dns.servers to resolvers that pass \
                     DNSSEC records on"
                ),
            }
            last = Some(state);
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn stop_at(mut signals: Vec<Signal>, stop: CancellationToken) {
    let (first, second) = signals.split_at_mut(1);
    if let (Some(terminate), Some(interrupt)) = (first.first_mut(), second.first_mut()) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new sessions, open transactions may finish");
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
