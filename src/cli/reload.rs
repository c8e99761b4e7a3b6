//! Reading everything again while mail goes on: configuration, trust anchors, certificates, resolvers.
//!
//! All of it is made ready first; if any of it is of no use, the old configuration stays. Each session takes up the new
//! one between two transactions, so that a transaction ends as it began. The parts that sessions do not share (the open
//! ports, the form of the log) cannot change: a configuration that wants it to is refused, and says so, rather than
//! half obeyed. Connections to remotes are counted anew: those of transactions that are under way stand beside the new
//! bounds until they end.

use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing_subscriber::filter::Targets;

use super::last_writes::LastWrites;
use super::load::{LoadError, Loaded};
use super::reports::{ReportNews, ReportSettings, StartedReports};
use super::run::{self, FIRST_TEST, StartError};
use super::{ConfigFlags, log, reports, systemd};
use crate::background;
use crate::config::Config;
use crate::discovery::StsPolicies;
use crate::dispatch::Dispatch;
use crate::dns::selftest::Health;
use crate::dns::setup;
use crate::dns::stub::Stub;
use crate::journal::{Journal, OpenError, StorePlace};
use crate::operator_file::SETTINGS;
use crate::report::Reporter;
use crate::report::months::MonthsTask;
use crate::roots::Roots;
use crate::server;
use crate::session::Shared;
use crate::settings::{self, Parts, PolicyKeeping};
use crate::watch::Watch;
use crate::watch::hosts::SettledHosts;

/// A running danelaw, and the configuration that it was made from.
pub(super) struct Running {
    settings: ConfigFlags,
    config: Config,
    dns: TestedResolver,
    reporter: Arc<Reporter>,
    last_writes: LastWrites,
    report_news: Option<ReportNews>,
    dispatch: Option<Arc<Dispatch<Stub>>>,
    watching: Option<Watching>,
    /// The configuration in force, for the watch.
    configs: watch::Sender<Arc<Config>>,
    news: watch::Sender<Arc<Shared<Stub>>>,
    log: log::Logging,
}

/// The tasks of `watch.every`.
struct Watching {
    watch: Arc<Watch>,
    hosts: Arc<SettledHosts>,
}

/// A configuration that was read again, and its parts.
struct Renewed {
    config: Config,
    filter: Targets,
    /// None: the one in force stays.
    dns: Option<TestedResolver>,
    reports: ReportSettings,
    shared: Arc<Shared<Stub>>,
}

/// A resolver that is tested from time to time, and its sources.
struct TestedResolver {
    stub: Stub,
    sources: Sources,
    tests: AbortHandle,
}

/// The sources of a resolver: where these are the same, the resolver stays, with the answers that it keeps.
#[derive(PartialEq, Eq)]
struct Sources {
    settings: setup::ResolverSettings,
    files: Vec<Option<Vec<u8>>>,
}

impl Sources {
    fn of(config: &Config) -> Self {
        let settings = setup::ResolverSettings::from(config);
        let read = |path: &Option<PathBuf>| path.as_ref().and_then(|path| SETTINGS.read(path).ok());
        let files = vec![read(&settings.trust_anchor), read(&settings.tls_ca), read(&settings.root_hints)];
        Self { settings, files }
    }
}

impl TestedResolver {
    fn start(config: &Config) -> Result<Self, StartError> {
        let (sources, stub) = (Sources::of(config), run::resolver(config)?);
        Ok(Self { tests: keep_testing(&stub, config), stub, sources })
    }

    /// Waits until one has passed, all have failed or time is up: mail is deferred by the lookups themselves.
    async fn tested(&self) {
        let mut health = self.stub.health();
        let _ = tokio::time::timeout(FIRST_TEST, health.wait_for(|health: &Health| !health.is_open())).await;
    }
}

impl Drop for TestedResolver {
    fn drop(&mut self) {
        self.tests.abort();
    }
}

fn keep_testing(stub: &Stub, config: &Config) -> AbortHandle {
    let (stub, every) = (stub.clone(), config.dns.self_test);
    background::keep_up("self-test of name servers", move || stub.clone().keep_testing(every)).abort_handle()
}

impl Running {
    /// Makes ready the parts that sessions share.
    pub(super) async fn start(config: Config, settings: ConfigFlags, log: log::Logging) -> Result<Self, StartError> {
        let store = StorePlace::from(&config).open().await.map_err(unusable)?;
        // Without a store that lasts, a second copy of the policies in memory would be of no use.
        let lasting = config.store.lasts().then(|| store.clone());
        let policies = StsPolicies::open(lasting, &(&config).into()).await.map_err(unusable)?;
        let (journal, outcomes) = Journal::with_store((&config).into(), store.clone()).await.map_err(unusable)?;
        tracing::debug!(outcomes, "the store is open");
        let policies = PolicyKeeping::of(policies);
        let dns = TestedResolver::start(&config)?;
        let (reporter, events) = reports::telling(reporter(&config), &config);
        let roots = run::roots(&config)?;
        let shared = Prepared { dns: &dns.stub, roots, policies, journal, reporter: &reporter }.share(&config)?;
        let news = watch::Sender::new(shared);
        let kept = config.store.mail_months;
        let months = reporter.months().map(|_| MonthsTask::start(Arc::clone(&reporter), store.clone(), kept));
        let started = match events {
            Some(events) => Some(reports::start(&config, events, news.subscribe(), store.clone()).await?),
            None => None,
        };
        let configs = watch::Sender::new(Arc::new(config.clone()));
        let hosts = Arc::new(SettledHosts::new(store.clone(), Arc::clone(&reporter)));
        let lasting = config.store.lasts().then_some(store);
        let watch = Arc::new(Watch::new(configs.subscribe(), news.subscribe(), lasting));
        let watching = config.watch.every.map(|_| Watching { watch, hosts });
        let dispatch = started.as_ref().and_then(StartedReports::dispatch);
        let (reports, report_news) = started.map(|StartedReports { task, news }| (task, news)).unzip();
        let last_writes = LastWrites { reports, months };
        Ok(Self { settings, config, dns, reporter, last_writes, report_news, dispatch, watching, configs, news, log })
    }

    /// The parts that sessions share, now and later.
    pub(super) fn shared(&self) -> watch::Receiver<Arc<Shared<Stub>>> {
        self.news.subscribe()
    }

    /// Our own TLS reports, if there are to be any.
    pub(super) fn dispatch(&self) -> Option<Arc<Dispatch<Stub>>> {
        self.dispatch.clone()
    }

    /// The watch, if there is to be one.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        self.watching.as_ref().map(|watching| Arc::clone(&watching.watch))
    }

    /// The memory of hosts, if there is to be one.
    pub(super) fn hosts(&self) -> Option<Arc<SettledHosts>> {
        self.watching.as_ref().map(|watching| Arc::clone(&watching.hosts))
    }

    /// The tasks that write counts, to be ended last.
    pub(super) fn take_last_writes(&mut self) -> LastWrites {
        std::mem::take(&mut self.last_writes)
    }

    /// Waits a moment for the first test of the resolvers, which mostly takes no more.
    pub(super) async fn tested(&self) {
        self.dns.tested().await;
    }

    /// Reads everything again at each signal. Never ends.
    pub(super) async fn reload_at(mut self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            systemd::reloading();
            match self.reload().await {
                Ok(()) => {
                    self.reporter.metrics().reloaded();
                    tracing::info!("the configuration was read again and is in force");
                    run::announce_roots(self.news.borrow().connector.tls.roots());
                    run::warn_of(self.config.mode);
                }
                Err(StartError { why, .. }) => {
                    self.reporter.metrics().not_reloaded();
                    for why in why.lines() {
                        tracing::error!(why, "the configuration was read again and is of no use; the old one stays");
                    }
                }
            }
            systemd::ready();
        }
    }

    async fn reload(&mut self) -> Result<(), StartError> {
        // The files may be slow, and a pipe may have no writer: mail goes on meanwhile.
        let Renewed { config, filter, dns, reports, shared } = tokio::task::block_in_place(|| self.renewed())?;
        match dns {
            Some(dns) => {
                dns.tested().await;
                self.dns = dns;
            }
            None => {
                self.dns.tests.abort();
                self.dns.tests = keep_testing(&self.dns.stub, &config);
            }
        }
        self.log.change(filter);
        server::replace(&self.news, shared);
        if let Some(news) = &self.report_news {
            news.take_up(reports);
        }
        self.configs.send_replace(Arc::new(config.clone()));
        self.config = config;
        Ok(())
    }

    /// Reads everything again.
    fn renewed(&self) -> Result<Renewed, StartError> {
        let Loaded { config, places, .. } = self.settings.load().map_err(useless)?;
        self.made_ready(config).map_err(|StartError { code, why }| StartError { code, why: places.told(&why) })
    }

    fn made_ready(&self, config: Config) -> Result<Renewed, StartError> {
        fixed(&self.config, &config)?;
        let filter = log::filter(&config.log.filter).map_err(StartError::config)?;
        let dns = match Sources::of(&config) == self.dns.sources {
            true => None,
            false => Some(TestedResolver::start(&config)?),
        };
        // There is one journal for as long as danelaw runs: sessions under the old configuration write to it too.
        let journal = self.news.borrow().journal.clone();
        let policies = PolicyKeeping::of(self.news.borrow().connector.mta_sts.policies().clone());
        let stub = &dns.as_ref().unwrap_or(&self.dns).stub;
        let roots = run::roots(&config)?;
        run::store_files(&config)?;
        let reports = reports::settings(&config)?;
        let shared = Prepared { dns: stub, roots, policies, journal, reporter: &self.reporter }.share(&config)?;
        Ok(Renewed { config, filter, dns, reports, shared })
    }
}

fn reporter(config: &Config) -> Reporter {
    let reporter = match config.admin.address {
        Some(_) => Reporter::new(config.admin.remember).counting(OffsetDateTime::now_utc()),
        None => Reporter::new(0),
    };
    let reporter = if config.store.counts_months() { reporter.counting_months() } else { reporter };
    if config.watch.every.is_some() { reporter.noting_deliveries().learning_hosts() } else { reporter }
}

/// Why the configuration that was read again is of no use. Rules that have ended are no reason, and are warned of.
fn useless(error: LoadError) -> StartError {
    for rule in error.ended() {
        tracing::warn!(rule, "a rule or negative trust anchor has ended in the configuration that was read again");
    }
    StartError::config(error)
}

/// The parts of a configuration in force that are ready before it.
struct Prepared<'a> {
    dns: &'a Stub,
    roots: Roots,
    policies: PolicyKeeping,
    journal: Journal,
    reporter: &'a Arc<Reporter>,
}

impl Prepared<'_> {
    fn share(self, config: &Config) -> Result<Arc<Shared<Stub>>, StartError> {
        let hostname = run::hostname(config)?;
        let name = config.ehlo_name.as_ref().unwrap_or(&hostname);
        if !name.is_fully_qualified() {
            tracing::warn!(%name, "no full host name: strict hosts refuse it in EHLO; set ehlo_name or hostname");
        }
        let Prepared { dns, roots, policies, journal, reporter } = self;
        let reporter = Arc::clone(reporter);
        let parts = Parts { hostname, dns: dns.clone(), roots, policies, journal, reporter };
        settings::share(config, parts).map_err(StartError::config)
    }
}

/// A store that cannot be used, be it in use, damaged or of another version, is no fault of the configuration: systemd tries
/// again, and finds the file that has been put in its place.
fn unusable(error: OpenError) -> StartError {
    match error {
        // The database refuses the settings, and names their key. One that cannot be reached is no error.
        OpenError::Database(error) => StartError::config(error),
        error @ OpenError::Policy { .. } => StartError::system(error),
        error => StartError::system(format!("store.path: {error}")),
    }
}

/// A setting that needs a new start, if it has changed.
fn fixed(now: &Config, new: &Config) -> Result<(), StartError> {
    let changed = [
        ("listener", now.listener != new.listener),
        ("admin", now.admin != new.admin),
        ("store", now.store != new.store),
        ("tlsrpt.mode", !now.tlsrpt.may_become(&new.tlsrpt)),
        ("watch.every", now.watch.every.is_some() != new.watch.every.is_some()),
        ("log.format", now.log.format != new.log.format),
    ];
    match changed.iter().find(|(_, changed)| *changed) {
        Some((key, _)) => Err(StartError::config(format!("{key}: this cannot change while danelaw runs; restart it"))),
        None => Ok(()),
    }
}
