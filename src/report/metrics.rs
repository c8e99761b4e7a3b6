//! Counters, and how they are written for Prometheus.
//!
//! A label's value is always a word of this program ([`CounterFamily`] takes no other text), so that no remote and no client can
//! make a series. Counting takes no lock: many sessions count at the same time.

pub mod admin;
mod classic;
mod dns;
mod family;
mod hosts;
mod mta_sts;
mod store;
mod watch;
mod tlsrpt;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Outcome;
use super::turned_away::TurnedAway;
use crate::discovery::StsFigures;
use crate::latency::{Latency, LatencyFigures};
use crate::refusal::Label;
use crate::store::StoreFigures;
use crate::trace::StepKind;

use family::{About, CounterFamily, counter, gauge};
pub use hosts::HostFigures;
use tlsrpt::TlsReportCounters;
pub use tlsrpt::TlsReportFigures;
pub use watch::WatchFigures;

/// The upper bounds of the buckets of a latency, in seconds.
const BOUNDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// The stages of a delivery that have a latency histogram.
const STAGES: [&str; 7] = ["dns", "connect", "tls", "mail", "rcpt", "message", "total"];

/// Everything that is counted while danelaw runs.
#[derive(Debug)]
pub struct Metrics {
    deliveries: CounterFamily<4>,
    lookups: CounterFamily<2>,
    connections: CounterFamily<1>,
    handshakes: CounterFamily<1>,
    unverified: CounterFamily<1>,
    remote_require_tls: CounterFamily<1>,
    require_tls_mails: CounterFamily<1>,
    original_destination: CounterFamily<1>,
    observed: CounterFamily<1>,
    tls_required_no: CounterFamily<1>,
    sts_would_refuse: CounterFamily<1>,
    host_changes: CounterFamily<1>,
    turned_away: CounterFamily<1>,
    client_handshakes: CounterFamily<1>,
    shortages: CounterFamily<2>,
    tlsrpt: TlsReportCounters,
    admin: CounterFamily<2>,
    reloads: CounterFamily<1>,
    stages: [Latency; STAGES.len()],
    sessions: AtomicU64,
    octets: AtomicU64,
    recipients: AtomicU64,
    reused: AtomicU64,
    ruled: AtomicU64,
    orphaned: AtomicU64,
    /// Whether the last configuration that was read was of no use.
    stale: AtomicBool,
}

/// The state at the moment of the scrape: gauges, and counts of other modules.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Client sessions that are open.
    pub sessions: usize,
    /// How many there may be.
    pub max_sessions: usize,
    /// Verified sessions with remotes that wait for mail.
    pub waiting: usize,
    /// Whether each resolver passes its self-test, in the order of the configuration.
    pub resolvers: Vec<bool>,
    /// Whether danelaw asks the authoritative servers itself, because no resolver passes.
    pub fallen_back: bool,
    /// Lookups that were answered from memory, that joined one under way, and that were made.
    pub memory: [u64; 3],
    /// Answers that negative trust anchors made insecure.
    pub negative_anchor_answers: u64,
    /// Lookups, fetches and policies of MTA-STS.
    pub mta_sts: StsFigures,
    /// Operations of the store.
    pub store: StoreFigures,
    /// The watch, if there is one.
    pub watch: Option<WatchFigures>,
    /// The hosts that are remembered; none without a memory.
    pub hosts: Option<HostFigures>,
    /// Whether new mail is taken and has a chance.
    pub ready: bool,
    /// Whether the mode is `observe`.
    pub observing: bool,
    /// Rules that end within a week, or have ended.
    pub rules_ending: usize,
    /// Rules that have ended, and are left out.
    pub rules_ended: usize,
    /// Lines of the log that were dropped, because standard error did not take them.
    pub log_dropped: u64,
    /// The output of `--version`, as pairs.
    pub build: Vec<(&'static str, &'static str)>,
}

/// How the numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// The format for a client with this Accept field.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            deliveries: CounterFamily::new("deliveries", ["verdict", "reason", "policy", "protection"]),
            lookups: CounterFamily::new("dns_lookups", ["type", "result"]),
            connections: CounterFamily::new("connections", ["result"]),
            handshakes: CounterFamily::new("handshakes", ["result"]),
            unverified: CounterFamily::new("unverified_sessions", ["pkix"]),
            remote_require_tls: CounterFamily::new("remote_requiretls", ["offered"]),
            require_tls_mails: CounterFamily::new("requiretls_mails", ["result"]),
            original_destination: CounterFamily::new("intercepted", ["is"]),
            observed: CounterFamily::new("observed", ["would"]),
            tls_required_no: CounterFamily::new("tls_required_no", ["result"]),
            sts_would_refuse: CounterFamily::new("mta_sts_would_refuse", ["label"]),
            host_changes: CounterFamily::new("host_changes", ["kind"]),
            turned_away: CounterFamily::new("turned_away", ["reason"]),
            client_handshakes: CounterFamily::new("client_handshakes", ["result"]),
            shortages: CounterFamily::new("shortages", ["reason", "at"]),
            tlsrpt: TlsReportCounters::default(),
            admin: CounterFamily::new("admin_requests", ["what", "result"]),
            reloads: CounterFamily::new("config_reloads", ["result"]),
            stages: std::array::from_fn(|_| Latency::new(&BOUNDS)),
            sessions: AtomicU64::new(0),
            octets: AtomicU64::new(0),
            recipients: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            ruled: AtomicU64::new(0),
            orphaned: AtomicU64::new(0),
            stale: AtomicBool::new(false),
        }
    }
}

impl Metrics {
    /// Counts an outcome.
    pub(super) fn count(&self, outcome: &Outcome) {
        self.deliveries.count([
            outcome.verdict.as_str(),
            outcome.reason.map_or("", Label::as_str),
            outcome.policy().unwrap_or("none"),
            outcome.protection_word().as_str(),
        ]);
        if let (Some(would), None) = (&outcome.would, outcome.permit()) {
            self.observed.count([would.reason.as_str()]);
        }
        if let Some(result) = outcome.tls_required_no() {
            self.tls_required_no(result);
        }
        if let Some(would) = outcome.sts.as_ref().and_then(|sts| sts.would) {
            self.sts_would_refuse.count([would.as_str()]);
        }
        if let Some(original_destination) = outcome.original_destination {
            self.original_destination.count([original_destination.relation.as_str()]);
        }
        outcome.requiretls.iter().for_each(|result| self.require_tls_mails.count([result.as_str()]));
        if outcome.rule.is_some() {
            self.ruled.fetch_add(1, Relaxed);
        }
        self.octets.fetch_add(outcome.octets, Relaxed);
        self.recipients.fetch_add(outcome.recipients as u64, Relaxed);
        outcome.seen.each(|kind, took| self.step(kind, took));
        self.observe("total", outcome.elapsed);
    }

    /// Counts one step of a delivery.
    fn step(&self, kind: StepKind, took: Duration) {
        match kind {
            StepKind::Lookup(rtype, result) => self.lookups.count([rtype, result]),
            StepKind::Connect(result) => self.connections.count([result]),
            StepKind::Tls(result) => self.handshakes.count([result]),
            StepKind::Unverified(worth) => self.unverified.count([worth]),
            StepKind::RequireTls(offered) => self.remote_require_tls.count([offered]),
            StepKind::Reused => drop(self.reused.fetch_add(1, Relaxed)),
            StepKind::Mail | StepKind::Rcpt | StepKind::Message | StepKind::Fact => {}
        }
        if let Some(stage) = kind.stage() {
            self.observe(stage, took);
        }
    }

    /// Counts a mail with the field `TLS-Required: No`, or one that must have it.
    pub fn tls_required_no(&self, result: &'static str) {
        self.tls_required_no.count([result]);
    }

    /// Counts recipients whose remote has the message, while the client has not shown that it has the reply (RFC 1047).
    pub fn orphaned(&self, recipients: usize) {
        self.orphaned.fetch_add(recipients as u64, Relaxed);
    }

    /// Counts a client that was let in.
    pub fn admitted(&self) {
        self.sessions.fetch_add(1, Relaxed);
    }

    /// Counts a client whose connection was refused at once.
    pub fn turned_away(&self, reason: TurnedAway) {
        self.turned_away.count([reason.as_str()]);
    }

    /// Counts a TLS handshake with a client, or plaintext behind STARTTLS.
    pub fn client_handshake(&self, result: &'static str) {
        self.client_handshakes.count([result]);
    }

    /// Counts that this host has run out of file descriptors, or of memory for sockets.
    pub(super) fn ran_out(&self, reason: Label, at: &'static str) {
        self.shortages.count([reason.as_str(), at]);
    }

    /// Counts a configuration that was read again, and is in force.
    pub fn reloaded(&self) {
        self.reloads.count(["in-force"]);
        self.stale.store(false, Relaxed);
    }

    /// Counts a configuration that was read again, and is of no use.
    pub fn not_reloaded(&self) {
        self.reloads.count(["refused"]);
        self.stale.store(true, Relaxed);
    }

    /// All numbers.
    pub fn written(self: &Arc<Self>, moment: Moment, format: Format) -> String {
        let mut registry = Registry::with_prefix("danelaw");
        registry.register_collector(Box::new(Scrape { metrics: Arc::clone(self), moment }));
        let mut openmetrics = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut openmetrics, &registry);
        match format {
            Format::OpenMetrics => openmetrics,
            Format::Prometheus => classic::classic(&openmetrics),
        }
    }

    fn observe(&self, stage: &str, took: Duration) {
        if let Some(index) = STAGES.iter().position(|known| *known == stage) {
            self.stages[index].observe(took);
        }
    }
}

/// The content of one scrape.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    moment: Moment,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        tallies(to, &self.metrics)?;
        latencies(to, &self.metrics.stages)?;
        counters(to, &self.metrics, &self.moment)?;
        gauges(to, &self.metrics, &self.moment)?;
        dns::memory(to, self.moment.memory)?;
        mta_sts::encode(to, &self.moment.mta_sts)?;
        store::encode(to, &self.moment.store)?;
        self.moment.watch.iter().try_for_each(|figures| watch::encode(to, figures))?;
        self.metrics.host_changes.encode(to, "Changes of settled hosts, by their state afterwards")?;
        self.moment.hosts.iter().try_for_each(|figures| hosts::encode(to, figures))?;
        dns::resolvers(to, &self.moment.resolvers)?;
        let mut family = to.encode_descriptor("build_info", "The version that is running", None, MetricType::Gauge)?;
        family.encode_family(&self.moment.build)?.encode_gauge(&1_u64)
    }
}

fn tallies(to: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    metrics.deliveries.encode(to, "Delivery attempts, by verdict and reason")?;
    metrics.lookups.encode(to, "DNS lookups of delivery attempts, by type and security")?;
    metrics.connections.encode(to, "Connections to remotes up to EHLO, by result")?;
    metrics.handshakes.encode(to, "TLS handshakes with remotes, by result")?;
    metrics.observed.encode(to, "Attempts that went on in mode observe and that enforcing would have refused")?;
    let help =
        "Mails with the field TLS-Required: ignored, or by a listener for such mail met its level, lowered or refused";
    metrics.tls_required_no.encode(to, help)?;
    let help = "Attempts that an MTA-STS policy in mode testing would have refused as one in mode enforce";
    metrics.sts_would_refuse.encode(to, help)?;
    let help = "TLS sessions whose server was not verified, by the worth of its certificate to public CAs";
    metrics.unverified.encode(to, help)?;
    metrics.remote_require_tls.encode(to, "New TLS sessions with remotes, by whether the remote offers REQUIRETLS")?;
    let help = "Attempts with mail that asks for REQUIRETLS, or has lost that demand, by result";
    metrics.require_tls_mails.encode(to, help)?;
    let help = "Attempts of intercepted clients, by the kind of address that they had dialled";
    metrics.original_destination.encode(to, help)?;
    metrics.turned_away.encode(to, "Connections of clients that were refused at once, by reason")?;
    let help = "TLS handshakes with clients, by the verdict on the client's certificate or by the failure";
    metrics.client_handshakes.encode(to, help)?;
    let help =
        "Times that this host was out of file descriptors or of memory for sockets, by the place where it showed";
    metrics.shortages.encode(to, help)?;
    metrics.tlsrpt.encode(to)?;
    metrics.admin.encode(to, "Requests at the admin port, by the part that they are for and the result")?;
    metrics.reloads.encode(to, "Attempts to read the configuration again, by result")
}

fn counters(to: &mut DescriptorEncoder<'_>, metrics: &Metrics, moment: &Moment) -> fmt::Result {
    let now = |number: &AtomicU64| number.load(Relaxed);
    let counts = [
        (About("sessions_started", "Client sessions since the start"), now(&metrics.sessions)),
        (About("message_bytes", "Octets of messages that were read from clients"), now(&metrics.octets)),
        (About("recipients", "Recipients that remotes have accepted"), now(&metrics.recipients)),
        (About("reused_sessions", "Waiting sessions with remotes that served a further mail"), now(&metrics.reused)),
        (About("ruled", "Attempts whose level a rule has set"), now(&metrics.ruled)),
        (About("orphaned_accepts", ORPHANED), now(&metrics.orphaned)),
        (About("negative_trust_anchor_answers", ANCHORED), moment.negative_anchor_answers),
        (About("log_dropped_lines", LOG_DROPPED), moment.log_dropped),
    ];
    counts.into_iter().try_for_each(|(about, count)| counter(to, about, count))
}

fn gauges(to: &mut DescriptorEncoder<'_>, metrics: &Metrics, moment: &Moment) -> fmt::Result {
    let is_current = !metrics.stale.load(Relaxed);
    let numbers = [
        (About("rules_ending", "Rules that end within a week, or have ended"), moment.rules_ending),
        (About("rules_ended", "Rules that have ended, and are left out"), moment.rules_ended),
        (About("waiting_sessions", "Verified sessions with remotes that wait for mail"), moment.waiting),
        (About("sessions", "Client sessions that are open"), moment.sessions),
        (About("sessions_limit", "Client sessions that may be open (limits.sessions)"), moment.max_sessions),
        (About("ready", "Whether /readyz says yes"), usize::from(moment.ready)),
        (About("observing", OBSERVING), usize::from(moment.observing)),
        (About("resolver_fallback", FALLBACK), usize::from(moment.fallen_back)),
        (
            About("config_last_reload_successful", "Whether the last configuration that was read is in force"),
            usize::from(is_current),
        ),
    ];
    numbers.into_iter().try_for_each(|(about, number)| gauge(to, about, number as u64))
}

const ORPHANED: &str =
    "Recipients whose remote accepted the message, while the client had cut the connection before the reply";
const ANCHORED: &str =
    "Answers of the DNS that were taken without validation, because a negative trust anchor covers the name";
const LOG_DROPPED: &str = "Lines of the log that were dropped, because standard error did not take them";
const OBSERVING: &str = "Whether the mode is observe, so that danelaw enforces no policy";
const FALLBACK: &str =
    "Whether danelaw asks the authoritative servers itself, because no resolver passes the self-test";

fn latencies(to: &mut DescriptorEncoder<'_>, stages: &[Latency]) -> fmt::Result {
    let help = "How long each lookup, connection, handshake and answer of a remote took, and the attempt in all";
    let mut family = to.encode_descriptor("stage_seconds", help, None, MetricType::Histogram)?;
    for (stage, latency) in STAGES.iter().zip(stages) {
        let LatencyFigures { buckets, seconds } = latency.figures();
        let count = buckets.iter().map(|(_, count)| count).sum();
        family.encode_family(&[("stage", *stage)])?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment {
            sessions: 1,
            max_sessions: 1000,
            waiting: 0,
            resolvers: vec![true, false],
            fallen_back: false,
            memory: [3, 2, 1],
            negative_anchor_answers: 4,
            mta_sts: StsFigures { fetches: vec![("ok", 7)], policies: vec![("enforce", 2)], ..StsFigures::default() },
            store: StoreFigures::default(),
            watch: None,
            hosts: Some(HostFigures { settled: 2, others: 3 }),
            ready: true,
            observing: false,
            rules_ending: 0,
            rules_ended: 0,
            log_dropped: 0,
            build: vec![("version", "1.2.3")],
        }
    }

    #[test]
    fn both_formats() {
        let metrics = Arc::new(Metrics::default());
        metrics.turned_away(TurnedAway::Sessions);
        metrics.turned_away(TurnedAway::Sessions);
        // U16.
        metrics.host_changed("expired");
        metrics.observe("tls", Duration::from_millis(30));
        metrics.observe("tls", Duration::from_secs(3000));
        let new = metrics.written(moment(), Format::OpenMetrics);
        let old = metrics.written(moment(), Format::Prometheus);
        for line in [
            "danelaw_turned_away_total{reason=\"sessions\"} 2",
            "danelaw_stage_seconds_bucket{le=\"0.025\",stage=\"tls\"} 0",
            "danelaw_stage_seconds_bucket{le=\"0.05\",stage=\"tls\"} 1",
            "danelaw_stage_seconds_bucket{le=\"+Inf\",stage=\"tls\"} 2",
            "danelaw_stage_seconds_count{stage=\"tls\"} 2",
            "danelaw_resolver_up{resolver=\"1\"} 0",
            "danelaw_dns_questions_total{result=\"joined\"} 2",
            "danelaw_mta_sts_fetches_total{result=\"ok\"} 7",
            "danelaw_mta_sts_policies{mode=\"enforce\"} 2",
            "danelaw_mta_sts_refresh_failing 0",
            "danelaw_host_changes_total{kind=\"expired\"} 1",
            "danelaw_hosts_remembered{settled=\"yes\"} 2",
            "danelaw_hosts_remembered{settled=\"no\"} 3",
            "danelaw_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(new.lines().any(|shown| shown == line), "{line} in {new}");
            assert!(old.lines().any(|shown| shown == line), "{line} in {old}");
        }
        assert!(new.contains("# TYPE danelaw_turned_away counter\n") && new.ends_with("# EOF\n"), "{new}");
        assert!(old.contains("# TYPE danelaw_turned_away_total counter\n") && !old.contains("EOF"), "{old}");
        assert_eq!(Format::accepted("application/openmetrics-text;version=1.0.0,text/plain"), Format::OpenMetrics);
        assert_eq!(Format::accepted("text/plain"), Format::Prometheus);
    }

    #[test]
    fn many_at_a_time_are_all_counted() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| metrics.turned_away(TurnedAway::Sessions)));
                scope.spawn(|| (0..10_000).for_each(|_| metrics.turned_away(TurnedAway::NotAllowed)));
            }
        });
        let counts: Vec<_> = metrics.turned_away.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [40_000, 40_000]);
    }
}
