//! `danelaw run`: opens the ports, announces them, serves, and leaves quietly.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::reload::Running;
use super::systemd::{self, Sockets};
use super::{ConfigFlags, EX_CONFIG, EX_OSERR, descriptors, log, name_servers, policies, ports, rules};
use crate::admin::{AdminState, Phase};
use crate::background::keep_up;
use crate::config::{Address, Config};
use crate::discovery::MtaSts;
use crate::dns::server::ResolverMode;
use crate::dns::setup::ResolverSetupError;
use crate::dns::stub::Stub;
use crate::mta_sts::StsUse;
use crate::name::Name;
use crate::policy::{ListenerMail, Mode};
use crate::roots::Roots;
use crate::server::{Drained, OpenListener, OpenSessions, RunningServer};
use crate::session::{Shared, Stop};
use crate::settings;
use crate::smtp::tls_required::HEADER_OCTETS;
use crate::version;

/// The meanings of the exit status.
pub(super) const STATUS: &str = "\
Exit status:
  0   stopped by SIGTERM or SIGINT; a further SIGINT cuts open transactions
  64  the command line is wrong
  71  the system refuses something, such as a port, or the store cannot be used
  78  the configuration is wrong, or the database of the store refuses
      danelaw; no port was opened";

/// How long the ports stay closed for the first self-test of the resolvers, which mostly takes a moment. It goes on
/// afterwards; mail that comes meanwhile is deferred by the lookups themselves.
pub(super) const FIRST_TEST: Duration = Duration::from_secs(3);

/// How long the end waits for a thread that does not come back from the system.
const LAST_STEP: Duration = Duration::from_secs(1);

/// Why the proxy did not start, with the exit code that says so. A text on a key of the configuration begins with it, so that
/// [`KeyPlaces`](super::load::KeyPlaces) can add its place.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct StartError {
    pub(super) code: u8,
    pub(super) why: String,
}

impl StartError {
    pub(super) fn config(why: impl ToString) -> Self {
        Self { code: EX_CONFIG, why: why.to_string() }
    }

    pub(super) fn system(why: impl ToString) -> Self {
        Self { code: EX_OSERR, why: why.to_string() }
    }
}

/// Runs the proxy until SIGTERM or SIGINT.
pub(super) fn run(config: Config, settings: ConfigFlags) -> Result<ExitCode, StartError> {
    start(config, settings).map(|()| ExitCode::SUCCESS)
}

fn start(config: Config, settings: ConfigFlags) -> Result<(), StartError> {
    // Before the log has a thread of its own: this edits the environment.
    let sockets = Sockets::inherited()?;
    let log = log::init(&config.log)?;
    let _last_lines = log.at_end();
    descriptors::raise(&config);
    ports::tell_of_published(&config, &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::system)?;
    let served = runtime.block_on(serve(config, settings, log, sockets));
    // A reload may still wait for a file.
    runtime.shutdown_timeout(LAST_STEP);
    served
}

async fn serve(config: Config, settings: ConfigFlags, log: log::Logging, sockets: Sockets) -> Result<(), StartError> {
    // Both before any port opens: a signal must not find us unprepared, a bad setting must not find us half open.
    let on = |kind| signal(kind).map_err(StartError::system);
    let signals = [on(SignalKind::terminate())?, on(SignalKind::interrupt())?];
    let hangup = on(SignalKind::hangup())?;
    let log_dropped = log.dropped();
    let mut running = Running::start(config.clone(), settings, log).await?;
    let (last_writes, shared) = (running.take_last_writes(), running.shared());
    let (phase, phase_seen) = watch::channel(Phase::Starting);
    let open_sessions = Arc::<OpenSessions>::default();
    let state = AdminState {
        phase: phase_seen,
        shared: shared.clone(),
        open_sessions: Arc::clone(&open_sessions),
        log_dropped,
        reports: running.dispatch(),
        watch: running.watch(),
        hosts: running.hosts(),
        page: config.admin.page,
    };
    let admin = ports::open_admin(&config, state).await?;
    let listeners = ports::open(&config, sockets)?;
    running.tested().await;
    announce_roots(shared.borrow().connector.tls.roots());
    let listening = announce(&config, &listeners, &shared.borrow().connector.dns);
    announce_policies(&config, &shared.borrow().connector.mta_sts);
    let background = background(running, &shared, hangup);
    let stop = Stop::default();
    phase.send_replace(Phase::Serving);
    systemd::ready();
    tokio::spawn(systemd::keep_alive());
    tokio::spawn(systemd::show(listening, shared.clone()));
    tokio::spawn(stop_at(signals, shared.clone(), phase, stop.clone()));
    let server = RunningServer { listeners, open_sessions };
    let drained = server.run(shared, stop).await;
    last_writes.finish().await;
    background.iter().for_each(JoinHandle::abort);
    admin.abort();
    log_end(drained);
    Ok(())
}

/// Starts the tasks that go on for as long as danelaw runs, and are of no use after its last mail.
fn background(running: Running, shared: &watch::Receiver<Arc<Shared<Stub>>>, hangup: Signal) -> Vec<JoinHandle<()>> {
    let watching = running.watch().map(|watch| keep_up("watch", move || Arc::clone(&watch).keep()));
    let remembering = running.hosts().map(|hosts| keep_up("memory of hosts", move || Arc::clone(&hosts).keep()));
    let (of_rules, of_policies) = (shared.clone(), shared.clone());
    let warnings = keep_up("warnings of rules", move || rules::keep_warning(of_rules.clone()));
    let refreshes = keep_up("refresh of policies", move || policies::keep_refreshing(of_policies.clone()));
    let reload = tokio::spawn(running.reload_at(hangup));
    [warnings, refreshes, reload].into_iter().chain(watching).chain(remembering).collect()
}

fn log_end(drained: Drained) {
    match drained {
        Drained::Clean => tracing::info!("stopped; every open transaction was finished"),
        Drained::Cut(sessions) => {
            tracing::warn!(sessions, "stopped; these sessions were cut, and their clients still have the mail");
        }
    }
}

/// RFC 5321 §4.1.1.1 wants a name; ours must not be the client's, which on one host is the host's own.
pub(super) fn hostname(config: &Config) -> Result<Name, StartError> {
    if let Some(name) = &config.hostname {
        return Ok(name.clone());
    }
    let system = hostname::get().map_err(StartError::system)?;
    Name::parse(&format!("danelaw.{}", system.to_string_lossy())).map_err(|error| {
        StartError::config(format!(
            "hostname: it is empty, and the system's host name {} is no host name ({error}); set hostname",
            system.display()
        ))
    })
}

/// The resolver of a command that asks at once. RFC 7672 §2.1.1: no AD bit is believed of a server that has not shown that it
/// validates, so in mode trust-ad the servers are tested first. So is the fallback, if there is no server.
pub(super) async fn tested_resolver(config: &Config) -> Result<Stub, StartError> {
    let resolver = resolver(config)?;
    let without_servers = resolver.health().borrow().servers.is_empty();
    if without_servers {
        name_servers::tell_that_there_is_none(config);
    }
    if config.dns.mode == ResolverMode::TrustAd || without_servers {
        resolver.first_pass().await;
    }
    Ok(resolver)
}

pub(super) fn resolver(config: &Config) -> Result<Stub, StartError> {
    let dns = &config.dns;
    Stub::new(&config.into()).map_err(|error| {
        let key = match &error {
            ResolverSetupError::Library(_) => return StartError::system(error),
            ResolverSetupError::BadAnchors { .. } | ResolverSetupError::NoAnchors(_) => "dns.trust_anchor",
            ResolverSetupError::Certificates(_) => "dns.tls_ca",
            ResolverSetupError::BadHints { .. } => "dns.root_hints",
            ResolverSetupError::Unreadable { path, .. } if Some(path) == dns.root_hints.as_ref() => "dns.root_hints",
            ResolverSetupError::Unreadable { path, .. } if Some(path) == dns.trust_anchor.as_ref() => {
                "dns.trust_anchor"
            }
            ResolverSetupError::Unreadable { .. }
            | ResolverSetupError::NoServers(_)
            | ResolverSetupError::NoneUsable { .. }
            | ResolverSetupError::NoInterface(_)
            | ResolverSetupError::WithinReach(_) => "dns.servers",
        };
        let empty = if key == "dns.servers" && dns.servers.is_empty() { " (it is empty; set it)" } else { "" };
        StartError::config(format!("{key}: {error}{empty}"))
    })
}

/// The certification authorities.
pub(super) fn roots(config: &Config) -> Result<Roots, StartError> {
    Roots::load(&config.into()).map_err(StartError::config)
}

/// The files of `[store]` are of use.
pub(super) fn store_files(config: &Config) -> Result<(), StartError> {
    settings::database(config).map_or(Ok(()), |database| database.files().map_err(StartError::config))
}

/// Logs which authorities there are.
pub(super) fn announce_roots(roots: &Roots) {
    for certificate in roots.left_out() {
        tracing::warn!(certificate, "a CA certificate is of no use and was left out");
    }
    tracing::info!(source = %roots.source(), count = roots.count(), "CA certificates that may vouch for hosts");
}

/// Logs one line: the open ports, their clients, and the evidence by which mail will be verified. Returns the open
/// ports.
fn announce(config: &Config, listeners: &[OpenListener], dns: &Stub) -> String {
    let addresses: Vec<String> =
        listeners.iter().filter_map(|listener| listener.address().ok()).map(|address| address.to_string()).collect();
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
        version = version::VERSION,
        commit = version::COMMIT,
        "listening"
    );
    if health.is_open() {
        tracing::warn!("the self-test of the resolvers goes on; mail whose lookups fail meanwhile is deferred");
    }
    warn_of(config.mode);
    warn_of_lowering(config);
    listening
}

/// Q8: never in silence.
fn warn_of_lowering(config: &Config) {
    for listener in &config.listener {
        match listener.tls_required_no {
            ListenerMail::Any => {}
            ListenerMail::TlsRequiredNo => tracing::warn!(
                listener = %listener.address,
                holds_back = config.limits.sessions.saturating_mul(HEADER_OCTETS),
                "tls_required_no = \"only\": mail from here goes unverified or in cleartext where its level would refuse it; all \
                 sessions together may hold back so many octets of messages"
            ),
        }
    }
}

/// Tells where policies of MTA-STS are kept, if that is of no duration.
fn announce_policies(config: &Config, mta_sts: &MtaSts<Stub>) {
    match config.mta_sts.mode {
        StsUse::Off => {}
        StsUse::Enforce | StsUse::Observe if mta_sts.policies().are_stored() => {}
        StsUse::Enforce | StsUse::Observe => tracing::info!(
            "MTA-STS policies are kept in memory alone, so that each start trusts the first contact with a domain again; set \
             store.path or store.url"
        ),
    }
}

/// B9: never a default, and never in silence.
pub(super) fn warn_of(mode: Mode) {
    match mode {
        Mode::Enforce => {}
        Mode::Observe => tracing::warn!(
            "mode = \"observe\": NOTHING IS ENFORCED but for listeners with a level and mail that asks for REQUIRETLS. Mail goes unverified or in cleartext where enforcing would refuse it; \
             what would be refused is logged in the field `would`"
        ),
    }
}

async fn stop_at(
    mut signals: [Signal; 2],
    shared: watch::Receiver<Arc<Shared<Stub>>>,
    phase: watch::Sender<Phase>,
    stop: Stop,
) {
    let [terminate, interrupt] = &mut signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: no new sessions, open transactions may finish; ^C cuts them");
    systemd::stopping(shared.borrow().grace);
    phase.send_replace(Phase::Draining);
    stop.when_idle.cancel();
    // Of SIGTERM some supervisors send more than one, and mean no more by that.
    if interrupt.recv().await.is_some() {
        tracing::warn!("interrupted again: cutting the open transactions, whose clients still have the mail");
        stop.now.cancel();
    }
}
