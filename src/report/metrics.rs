//! Counters, and how they are written for Prometheus.
//!
//! A label's value is always a word of this program ([`CounterFamily`] takes no other text), so that no remote and no client can
//! make a series. Counting takes no lock: many sessions count at the same time.

pub mod admin;
mod classic;
mod dns;
mod hosts;
mod mta_sts;
mod store;
mod watch;
mod tlsrpt;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
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

pub use hosts::HostFigures;
use tlsrpt::TlsReportCounters;
pub use tlsrpt::TlsReportFigures;
pub use watch::WatchFigures;

/// More slots than there are sets of words in this program that belong together.
const SLOTS: usize = 512;
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
            deliveries: CounterFamily::new(["verdict", "reason", "policy", "protection"]),
            lookups: CounterFamily::new(["type", "result"]),
            connections: CounterFamily::new(["result"]),
            handshakes: CounterFamily::new(["result"]),
            unverified: CounterFamily::new(["pkix"]),
            remote_require_tls: CounterFamily::new(["offered"]),
            require_tls_mails: CounterFamily::new(["result"]),
            original_destination: CounterFamily::new(["is"]),
            observed: CounterFamily::new(["would"]),
            tls_required_no: CounterFamily::new(["result"]),
            sts_would_refuse: CounterFamily::new(["label"]),
            host_changes: CounterFamily::new(["kind"]),
            turned_away: CounterFamily::new(["reason"]),
            client_handshakes: CounterFamily::new(["result"]),
            shortages: CounterFamily::new(["reason", "at"]),
            tlsrpt: TlsReportCounters::default(),
            admin: CounterFamily::new(["what", "result"]),
            reloads: CounterFamily::new(["result"]),
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

/// A counter for each set of words that has come up.
#[derive(Debug)]
struct CounterFamily<const N: usize> {
    labels: [&'static str; N],
    slots: Box<[Slot<N>]>,
}

type Slot<const N: usize> = OnceLock<([&'static str; N], AtomicU64)>;

impl<const N: usize> CounterFamily<N> {
    fn new(labels: [&'static str; N]) -> Self {
        Self { labels, slots: (0..SLOTS).map(|_| OnceLock::new()).collect() }
    }

    fn count(&self, words: [&'static str; N]) {
        self.add(words, 1);
    }

    fn add(&self, words: [&'static str; N], times: u64) {
        for slot in &self.slots {
            let (known, count) = slot.get_or_init(|| (words, AtomicU64::new(0)));
            if *known == words {
                count.fetch_add(times, Relaxed);
                return;
            }
        }
    }

    /// Each set of words with its count.
    fn counts(&self) -> Vec<([&'static str; N], u64)> {
        let known = self.slots.iter().map_while(OnceLock::get);
        known.map(|(words, count)| (*words, count.load(Relaxed))).collect()
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, About(name, help): About) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (words, count) in self.counts() {
            let labels: [(&str, &str); N] = std::array::from_fn(|index| (self.labels[index], words[index]));
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)?;
        }
        Ok(())
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
        hosts::encode(to, &self.metrics.host_changes, self.moment.hosts)?;
        dns::resolvers(to, &self.moment.resolvers)?;
        let mut family = to.encode_descriptor("build_info", "The version that is running", None, MetricType::Gauge)?;
        family.encode_family(&self.moment.build)?.encode_gauge(&1_u64)
    }
}

/// The name of a metric, and its help text.
struct About(&'static str, &'static str);

fn tallies(to: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    metrics.deliveries.encode(to, About("deliveries", "Delivery attempts, by verdict and reason"))?;
    metrics.lookups.encode(to, About("dns_lookups", "DNS lookups of delivery attempts, by type and security"))?;
    metrics.connections.encode(to, About("connections", "Connections to remotes up to EHLO, by result"))?;
    metrics.handshakes.encode(to, About("handshakes", "TLS handshakes with remotes, by result"))?;
    let help = "Attempts that went on in mode observe and that enforcing would have refused";
    metrics.observed.encode(to, About("observed", help))?;
    let help =
        "Mails with the field TLS-Required: ignored, or by a listener for such mail met its level, lowered or refused";
    metrics.tls_required_no.encode(to, About("tls_required_no", help))?;
    let help = "Attempts that an MTA-STS policy in mode testing would have refused as one in mode enforce";
    metrics.sts_would_refuse.encode(to, About("mta_sts_would_refuse", help))?;
    let help = "TLS sessions whose server was not verified, by the worth of its certificate to public CAs";
    metrics.unverified.encode(to, About("unverified_sessions", help))?;
    let help = "New TLS sessions with remotes, by whether the remote offers REQUIRETLS";
    metrics.remote_require_tls.encode(to, About("remote_requiretls", help))?;
    let help = "Attempts with mail that asks for REQUIRETLS, or has lost that demand, by result";
    metrics.require_tls_mails.encode(to, About("requiretls_mails", help))?;
    let help = "Attempts of intercepted clients, by the kind of address that they had dialled";
    metrics.original_destination.encode(to, About("intercepted", help))?;
    metrics
        .turned_away
        .encode(to, About("turned_away", "Connections of clients that were refused at once, by reason"))?;
    let help = "TLS handshakes with clients, by the verdict on the client's certificate or by the failure";
    metrics.client_handshakes.encode(to, About("client_handshakes", help))?;
    let help =
        "Times that this host was out of file descriptors or of memory for sockets, by the place where it showed";
    metrics.shortages.encode(to, About("shortages", help))?;
    tlsrpt::encode(to, &metrics.tlsrpt)?;
    admin::encode(to, &metrics.admin)?;
    metrics.reloads.encode(to, About("config_reloads", "Attempts to read the configuration again, by result"))
}

fn counters(to: &mut DescriptorEncoder<'_>, metrics: &Metrics, moment: &Moment) -> fmt::Result {
    counter(to, About("sessions_started", "Client sessions since the start"), &metrics.sessions)?;
    counter(to, About("message_bytes", "Octets of messages that were read from clients"), &metrics.octets)?;
    counter(to, About("recipients", "Recipients that remotes have accepted"), &metrics.recipients)?;
    let help = "Waiting sessions with remotes that served a further mail";
    counter(to, About("reused_sessions", help), &metrics.reused)?;
    counter(to, About("ruled", "Attempts whose level a rule has set"), &metrics.ruled)?;
    let help = "Recipients whose remote accepted the message, while the client had cut the connection before the reply";
    counter(to, About("orphaned_accepts", help), &metrics.orphaned)?;
    let help = "Answers of the DNS that were taken without validation, because a negative trust anchor covers the name";
    counter(to, About("negative_trust_anchor_answers", help), &AtomicU64::new(moment.negative_anchor_answers))?;
    let help = "Lines of the log that were dropped, because standard error did not take them";
    counter(to, About("log_dropped_lines", help), &AtomicU64::new(moment.log_dropped))
}

fn gauges(to: &mut DescriptorEncoder<'_>, metrics: &Metrics, moment: &Moment) -> fmt::Result {
    gauge(to, About("rules_ending", "Rules that end within a week, or have ended"), moment.rules_ending)?;
    gauge(to, About("rules_ended", "Rules that have ended, and are left out"), moment.rules_ended)?;
    gauge(to, About("waiting_sessions", "Verified sessions with remotes that wait for mail"), moment.waiting)?;
    gauge(to, About("sessions", "Client sessions that are open"), moment.sessions)?;
    gauge(to, About("sessions_limit", "Client sessions that may be open (limits.sessions)"), moment.max_sessions)?;
    gauge(to, About("ready", "Whether /readyz says yes"), usize::from(moment.ready))?;
    let help = "Whether the mode is observe, so that danelaw enforces no policy";
    gauge(to, About("observing", help), usize::from(moment.observing))?;
    let help = "Whether danelaw asks the authoritative servers itself, because no resolver passes the self-test";
    gauge(to, About("resolver_fallback", help), usize::from(moment.fallen_back))?;
    let help = "Whether the last configuration that was read is in force";
    gauge(to, About("config_last_reload_successful", help), usize::from(!metrics.stale.load(Relaxed)))
}

fn counter(to: &mut DescriptorEncoder<'_>, About(name, help): About, value: &AtomicU64) -> fmt::Result {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, u64, f64>(&value.load(Relaxed), None)
}

fn gauge(to: &mut DescriptorEncoder<'_>, About(name, help): About, value: usize) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&(value as u64))
}

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

/// A counter by result.
fn results(to: &mut DescriptorEncoder<'_>, About(name, help): About, counts: &[(&'static str, u64)]) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (result, count) in counts {
        family.encode_family(&[("result", *result)])?.encode_counter::<NoLabelSet, u64, f64>(count, None)?;
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
        let counts: Vec<u64> =
            metrics.turned_away.slots.iter().map_while(|slot| slot.get()).map(|slot| slot.1.load(Relaxed)).collect();
        assert_eq!(counts, [40_000, 40_000]);
    }
}
