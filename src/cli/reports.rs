//! The tasks behind `tlsrpt.mode`: TLS sessions on their way to the program that reports them, or to our own reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::run::StartError;
use crate::config::{Config, TlsrptMode};
use crate::dispatch::key::{DkimKey, DkimKeyError};
use crate::dispatch::signers::Signer;
use crate::dispatch::{self, Dispatch, DispatchSettings, DispatchTask};
use crate::dns::stub::Stub;
use crate::report::Reporter;
use crate::reserved::Dialable;
use crate::rules::Domains;
use crate::session::Shared;
use crate::store::Store;
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::{CollectdQueue, CollectdTask, DatagramDropped, MAX_EVENTS};
use crate::tlsrpt::dkim::DkimAlgorithm;
use crate::tlsrpt::document::ReportAuthor;
use crate::tlsrpt::held::{ResolverStanding, SiftedEvents};
use crate::tlsrpt::lookup::{RecordLookupError, record_of};
use crate::tlsrpt::scope::ReportScope;

/// The task that takes the events.
pub(super) enum ReportTask {
    /// It tells them to a collector.
    Collectd(CollectdTask),
    /// It counts them and sends reports.
    Send(DispatchTask, Arc<Dispatch<Stub>>),
}

/// The task, and where its settings can be changed while it runs.
pub(super) struct StartedReports {
    pub(super) task: ReportTask,
    pub(super) news: ReportNews,
}

impl StartedReports {
    /// Our own reports, if they are.
    pub(super) fn dispatch(&self) -> Option<Arc<Dispatch<Stub>>> {
        match &self.task {
            ReportTask::Send(_, dispatch) => Some(Arc::clone(dispatch)),
            ReportTask::Collectd(_) => None,
        }
    }
}

/// The settings of a mode, which a reload may change.
pub(super) enum ReportSettings {
    Off,
    Collectd(CollectdSettings),
    Send(DispatchSettings),
}

/// The settings of mode "collectd".
pub(super) struct CollectdSettings {
    path: PathBuf,
    skip: Vec<Domains>,
}

/// Where a running task finds its settings.
pub(super) enum ReportNews {
    Collectd(CollectdNews),
    Send(watch::Sender<Arc<DispatchSettings>>),
}

/// Where the task of mode "collectd" does.
pub(super) struct CollectdNews {
    path: watch::Sender<PathBuf>,
    skip: watch::Sender<Vec<Domains>>,
}

impl ReportNews {
    /// Puts new settings of the same mode into force.
    pub(super) fn take_up(&self, settings: ReportSettings) {
        match (self, settings) {
            (Self::Collectd(news), ReportSettings::Collectd(settings)) => {
                news.path.send_replace(settings.path);
                news.skip.send_replace(settings.skip);
            }
            (Self::Send(news), ReportSettings::Send(settings)) => {
                news.send_replace(Arc::new(settings));
            }
            // A reload does not change the mode.
            (Self::Collectd(_) | Self::Send(_), _) => {}
        }
    }
}

/// The reporter, and the other end of its events if there are to be any.
pub(super) fn telling(reporter: Reporter, config: &Config) -> (Arc<Reporter>, Option<mpsc::Receiver<TlsEvent>>) {
    let most = match config.tlsrpt.mode {
        TlsrptMode::Off => return (Arc::new(reporter), None),
        TlsrptMode::Collectd => MAX_EVENTS,
        TlsrptMode::Send => dispatch::MAX_EVENTS,
    };
    let (sender, events) = mpsc::channel(most);
    (Arc::new(reporter.telling(sender)), Some(events))
}

/// The settings of the mode.
pub(super) fn settings(config: &Config) -> Result<ReportSettings, StartError> {
    let section = &config.tlsrpt;
    let skip: Vec<_> = section.skip.iter().map(|domains| domains.0.clone()).collect();
    // The check of the configuration wants those of the mode.
    let (Some(organization), Some(contact), Some(path)) = (&section.organization, &section.contact, &section.dkim_key)
    else {
        return Ok(match &section.collectd {
            Some(path) => ReportSettings::Collectd(CollectdSettings { path: path.clone(), skip }),
            None => ReportSettings::Off,
        });
    };
    let (contact, domain) = (contact.mailbox.clone(), contact.domain.clone());
    let rsa = dkim_key("tlsrpt.dkim_key", path, DkimAlgorithm::Rsa)?;
    let mut signers = vec![Signer::new(domain.clone(), &section.dkim_selector, rsa)];
    if let Some(path) = &section.dkim_ed25519_key {
        let key = dkim_key("tlsrpt.dkim_ed25519_key", path, DkimAlgorithm::Ed25519)?;
        signers.push(Signer::new(domain.clone(), &section.dkim_ed25519_selector, key));
    }
    Ok(ReportSettings::Send(DispatchSettings {
        scope: ReportScope { extent: section.report, skip, own: domain.clone() },
        author: ReportAuthor { organization: organization.clone(), contact, domain },
        signers,
        https_port: 443,
        dialable: Dialable::default(),
    }))
}

fn dkim_key(setting: &str, path: &Path, algorithm: DkimAlgorithm) -> Result<DkimKey, StartError> {
    DkimKey::load(path).and_then(|key| key.by(algorithm)).map_err(|error| {
        let advice = match error {
            DkimKeyError::Unreadable(_) => {
                "; danelaw's user must be able to read it, and `danelaw tlsrpt key` makes one"
            }
            _ => "",
        };
        StartError::config(format!("{setting}: {}: {error}{advice}", path.display()))
    })
}

/// Starts to take events.
pub(super) async fn start(
    config: &Config,
    events: mpsc::Receiver<TlsEvent>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
    store: Store,
) -> Result<StartedReports, StartError> {
    match settings(config)? {
        ReportSettings::Send(settings) => send(settings, events, shared, store).await,
        ReportSettings::Collectd(settings) => collectd(settings, events, shared),
        // Then there are no events.
        ReportSettings::Off => Err(StartError::system("TLS sessions are told, and tlsrpt.mode is empty")),
    }
}

async fn send(
    settings: DispatchSettings,
    events: mpsc::Receiver<TlsEvent>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
    store: Store,
) -> Result<StartedReports, StartError> {
    let (news, settings) = watch::channel(Arc::new(settings));
    let dispatch = Dispatch::open(settings.clone(), store, shared.clone()).await;
    let dispatch = dispatch.map_err(|error| StartError::system(format!("store.path: {error}")))?;
    let events = sifted(events, &shared);
    let leaves_out = move |event: &TlsEvent| settings.borrow().scope.skips(&event.recipient);
    let dispatch = Arc::new(dispatch);
    let task = ReportTask::Send(DispatchTask::start(Arc::clone(&dispatch), events, leaves_out), dispatch);
    Ok(StartedReports { task, news: ReportNews::Send(news) })
}

fn collectd(
    settings: CollectdSettings,
    events: mpsc::Receiver<TlsEvent>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
) -> Result<StartedReports, StartError> {
    let metrics = Arc::clone(shared.borrow().reporter.metrics());
    let ((news_of_path, path), (news_of_skip, skip)) = (watch::channel(settings.path), watch::channel(settings.skip));
    let queue = CollectdQueue::new(path, move |why| metrics.tls_session_dropped(why.as_str()));
    let task = CollectdTask::start(sifted(events, &shared), queue.map_err(StartError::system)?, move |event| {
        // Each time the resolver of the configuration in force.
        let dns = shared.borrow().connector.dns.clone();
        let recipient = event.recipient.clone();
        let is_left_out = skip.borrow().iter().any(|domains| domains.contain(&recipient));
        let metrics = Arc::clone(shared.borrow().reporter.metrics());
        async move {
            if is_left_out {
                return None;
            }
            let found = record_of(&dns, &recipient).await;
            if let Err(RecordLookupError::Dns(_)) = &found {
                metrics.tls_session_dropped(DatagramDropped::Lookup.as_str());
            }
            found.ok()
        }
    });
    let news = ReportNews::Collectd(CollectdNews { path: news_of_path, skip: news_of_skip });
    Ok(StartedReports { task: ReportTask::Collectd(task), news })
}

/// The events without failures of the DNS that may be our own resolver's. It is the resolver of the configuration in force.
fn sifted(events: mpsc::Receiver<TlsEvent>, shared: &watch::Receiver<Arc<Shared<Stub>>>) -> SiftedEvents {
    let metrics = Arc::clone(shared.borrow().reporter.metrics());
    let shared = shared.clone();
    let standing = move || {
        let dns = shared.borrow().connector.dns.clone();
        ResolverStanding::of(&dns.health().borrow(), dns.last_test())
    };
    SiftedEvents::new(events, standing, move |why| metrics.tls_session_dropped(why.as_str()))
}
