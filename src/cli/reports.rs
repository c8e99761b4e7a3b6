//! The tasks behind `tlsrpt.mode`: TLS sessions on their way to the program that reports them, or to our own reports.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::run::StartError;
use crate::config::{Config, TlsrptMode};
use crate::dispatch::key::{DkimKey, DkimKeyError};
use crate::dispatch::{self, Dispatch, DispatchSettings, DispatchTask};
use crate::dns::stub::Stub;
use crate::refusal::ResultType;
use crate::report::Reporter;
use crate::session::Shared;
use crate::store::Store;
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::{CollectdQueue, CollectdTask, MAX_EVENTS};
use crate::tlsrpt::dkim::DkimIdentity;
use crate::tlsrpt::document::ReportAuthor;
use crate::tlsrpt::event::TlsResult;
use crate::tlsrpt::lookup::record_of;
use crate::tlsrpt::schedule::ReportScope;

/// The task that takes the events.
pub(super) enum ReportTask {
    /// It tells them to a collector.
    Collectd(CollectdTask),
    /// It counts them and sends reports.
    Send(DispatchTask),
}

/// The task, and where its settings can be changed while it runs.
pub(super) struct StartedReports {
    pub(super) task: ReportTask,
    pub(super) settings: Option<watch::Sender<Arc<DispatchSettings>>>,
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

/// The settings of our own reports, if we are to send them.
pub(super) fn settings(config: &Config) -> Result<Option<DispatchSettings>, StartError> {
    let section = &config.tlsrpt;
    // The check of the configuration wants all three.
    let (TlsrptMode::Send, Some(organization), Some(contact), Some(path)) =
        (section.mode, &section.organization, &section.contact, &section.dkim_key)
    else {
        return Ok(None);
    };
    let key = DkimKey::load(path).map_err(|error| {
        let advice = match error {
            DkimKeyError::Unreadable(_) => {
                "; danelaw's user must be able to read it, and `danelaw tlsrpt key` makes one"
            }
            _ => "",
        };
        StartError::config(format!("tlsrpt.dkim_key: {}: {error}{advice}", path.display()))
    })?;
    let (contact, domain) = (contact.mailbox.clone(), contact.domain.clone());
    Ok(Some(DispatchSettings {
        scope: ReportScope {
            extent: section.report,
            skip: section.skip.iter().map(|domains| domains.0.clone()).collect(),
            own: domain.clone(),
        },
        identity: DkimIdentity { domain: domain.clone(), selector: section.dkim_selector.clone() },
        author: ReportAuthor { organization: organization.clone(), contact, domain },
        key,
        https_port: 443,
    }))
}

/// Starts to take events.
pub(super) async fn start(
    config: &Config,
    events: mpsc::Receiver<TlsEvent>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
    store: Store,
) -> Result<StartedReports, StartError> {
    let Some(settings) = settings(config)? else {
        let task = ReportTask::Collectd(collectd(config, events, shared)?);
        return Ok(StartedReports { task, settings: None });
    };
    let (sender, settings) = watch::channel(Arc::new(settings));
    let dispatch = Dispatch::open(settings.clone(), store, shared.clone()).await;
    let dispatch = dispatch.map_err(|error| StartError::system(format!("store.path: {error}")))?;
    let leaves_out = move |event: &TlsEvent| {
        settings.borrow().scope.skips(&event.recipient) || is_in_doubt(event, &shared.borrow().connector.dns)
    };
    let task = ReportTask::Send(DispatchTask::start(Arc::new(dispatch), events, leaves_out));
    Ok(StartedReports { task, settings: Some(sender) })
}

fn collectd(
    config: &Config,
    events: mpsc::Receiver<TlsEvent>,
    shared: watch::Receiver<Arc<Shared<Stub>>>,
) -> Result<CollectdTask, StartError> {
    let metrics = Arc::clone(shared.borrow().reporter.metrics());
    let path = config.tlsrpt.collectd.clone().unwrap_or_default();
    let queue = CollectdQueue::new(path, move |why| metrics.tls_session_dropped(why.as_str()));
    let skip = config.tlsrpt.skip.clone();
    Ok(CollectdTask::start(events, queue.map_err(StartError::system)?, move |event| {
        // Each time the resolver of the configuration in force.
        let dns = shared.borrow().connector.dns.clone();
        let recipient = event.recipient.clone();
        let is_told = !skip.iter().any(|domains| domains.0.contain(&recipient)) && !is_in_doubt(event, &dns);
        async move { if is_told { record_of(&dns, &recipient).await.ok() } else { None } }
    }))
}

/// Tells or writes the last sessions, at the end of the program.
pub(super) async fn finish(task: Option<ReportTask>) {
    match task {
        Some(ReportTask::Collectd(task)) => task.finish().await,
        Some(ReportTask::Send(task)) => task.finish().await,
        None => {}
    }
}

/// Whether the failure may be one of our own resolver: it is about the DNS, and no resolver passes the self-test.
fn is_in_doubt(event: &TlsEvent, dns: &Stub) -> bool {
    let is_of_dns = matches!(&event.result, TlsResult::Failure(failure) if failure.kind == ResultType::DnssecInvalid);
    is_of_dns && !dns.health().borrow().any_good()
}
