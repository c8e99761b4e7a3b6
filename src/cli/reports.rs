//! The task behind `tlsrpt.mode`: TLS sessions on their way to the program that reports them.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::run::StartError;
use crate::config::{Config, TlsrptMode};
use crate::dns::stub::Stub;
use crate::refusal::ResultType;
use crate::report::Reporter;
use crate::session::Shared;
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::{CollectdQueue, CollectdTask, MAX_EVENTS};
use crate::tlsrpt::event::TlsResult;
use crate::tlsrpt::lookup::record_of;

/// The reporter, and the other end of its events if there are to be any.
pub(super) fn telling(reporter: Reporter, config: &Config) -> (Arc<Reporter>, Option<mpsc::Receiver<TlsEvent>>) {
    match config.tlsrpt.mode {
        TlsrptMode::Off => (Arc::new(reporter), None),
        TlsrptMode::Collectd => {
            let (sender, events) = mpsc::channel(MAX_EVENTS);
            (Arc::new(reporter.telling(sender)), Some(events))
        }
    }
}

/// Starts to tell events to the collector.
pub(super) fn start(
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

/// Tells the last sessions, at the end of the program.
pub(super) async fn finish(task: Option<CollectdTask>) {
    if let Some(task) = task {
        task.finish().await;
    }
}

/// Whether the failure may be one of our own resolver: it is about the DNS, and no resolver passes the self-test.
fn is_in_doubt(event: &TlsEvent, dns: &Stub) -> bool {
    let is_of_dns = matches!(&event.result, TlsResult::Failure(failure) if failure.kind == ResultType::DnssecInvalid);
    is_of_dns && !dns.health().borrow().any_good()
}
