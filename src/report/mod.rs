//! One [`Outcome`] for each attempt to deliver. A [`Reporter`] makes one log event of it, counts it, and keeps the account of
//! an attempt that did not end well.
//!
//! An attempt is one transaction's recipients at one domain, from the first lookup to the answer the client got. The
//! field names are part of the interface: config/prometheus/README.md lists them, and a test compares. Text of a remote or a
//! client is escaped before it is logged.

pub mod deliveries;
mod explain;
pub mod guidelines;
pub mod host_sessions;
pub mod metrics;
pub mod month;
pub mod months;
pub mod recent;
pub mod result;
mod ring;
pub mod turned_away;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::digits::AddressText;
use crate::excerpt;
use crate::name::Name;
use crate::policy::{Level, ListenerMail, Mode, ProtectionWord, VerifiedBy};
use crate::refusal::{Label, Peer, Shortfall, Urgency};
use crate::requiretls::TagResult;
use crate::rules::{LevelFloor, Rule};
use crate::smtp::message_names::MessageNames;
use crate::smtp::reply::{Class, Code};
use crate::tls::Protection;
use crate::tls::server::ClientTls;
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::collectd::DatagramDropped;
use crate::tlsrpt::event::Reporting;
use crate::trace::{Trace, TracedEvents};
use crate::upstream::original_destination::{OriginalDestination, Relation};
use crate::upstream::sts::StsNote;
use crate::upstream::verified::Channel;
use crate::words::words;

use deliveries::DeliveryNotes;
use host_sessions::HostSessionCounts;
use metrics::Metrics;
use months::MailMonths;
use recent::RecentMail;
use ring::Ring;

/// The most characters of a text that are logged.
const MAX_TEXT: usize = 4096;

/// How often the log has an alarm about a resource that this host has run out of.
const ALARM_EVERY: Duration = Duration::from_secs(10);

/// Writes an event at the level of its urgency.
macro_rules! event {
    ($urgency:expr, $($fields:tt)*) => {
        match $urgency {
            Urgency::Routine => tracing::info!($($fields)*),
            Urgency::Refusal => tracing::warn!($($fields)*),
            Urgency::Fault => tracing::error!($($fields)*),
        }
    };
}

/// One attempt to deliver, from the first lookup to the answer the client got.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Our id for the transaction; it stands in the Received line too.
    pub id: String,
    /// The recipients' domain.
    pub domain: Name,
    /// The sender's domain, or `<>`. The log has no local part of any address.
    pub sender_domain: Option<String>,
    /// The names by which other servers know the message, as far as its header was read.
    pub names: MessageNames,
    /// The policy that has refused, for mail that no remote took.
    pub refused_by: Option<&'static str>,
    /// Whether the policy was held to.
    pub mode: Mode,
    /// The refusal of enforcing, for mail that went on by mode `observe` or by its field `TLS-Required: No`, and that enforcing
    /// would have refused.
    pub would: Option<Would>,
    /// The remote, if one was reached and secured.
    pub remote: Option<ReachedRemote>,
    /// The result.
    pub verdict: Verdict,
    /// The code for these recipients: the client got it, unless with fan-out other recipients of the same transaction had
    /// another outcome.
    pub code: Option<Code>,
    /// The reason for anything but a delivery.
    pub reason: Option<Label>,
    /// The want of a mail that no remote took, where a remote's code tells more of it than the reason.
    pub shortfall: Option<Shortfall>,
    /// The words for it: the remote's, or ours.
    pub text: String,
    /// Recipients the remote accepted.
    pub recipients: usize,
    /// Octets of the message that were read from the client.
    pub octets: u64,
    /// From the first lookup to the answer.
    pub elapsed: Duration,
    /// The rule that set the level, if there is one.
    pub rule: Option<String>,
    /// The MTA-STS policy of the domain, if one was asked for.
    pub sts: Option<StsNote>,
    /// The facts of TLS with the client, where it is active.
    pub client_tls: Option<Arc<ClientTls>>,
    /// The level of the listener, if it has one of its own.
    pub listener_level: Option<LevelFloor>,
    /// The account of the tag for REQUIRETLS, if the mail has one or has lost it.
    pub requiretls: Option<TagResult>,
    /// The mail that the listener takes.
    pub listener_mail: ListenerMail,
    /// The address that the client had dialled, if it was intercepted.
    pub original_destination: Option<OriginalDestination>,
    /// The hosts and addresses that failed before: one sentence each.
    pub skipped: Vec<String>,
    /// The steps of the attempt.
    pub seen: Trace,
}

/// Writes outcomes to the log and the counters, and remembers them for `danelaw explain`.
#[derive(Debug)]
pub struct Reporter {
    metrics: Arc<Metrics>,
    ring: Ring,
    /// The mail of the last day, if somebody may ask for it.
    recent: Option<RecentMail>,
    /// The counts of mail by month, if they are kept.
    months: Option<MailMonths>,
    /// The last deliveries, if there is a watch.
    deliveries: Option<DeliveryNotes>,
    /// When the log last had such an alarm.
    alarmed: Mutex<Option<Instant>>,
    /// The taker of the events for TLS reports, if there are to be any.
    events: Option<mpsc::Sender<TlsEvent>>,
    /// The sessions for the memory of hosts, if there is one.
    hosts: Option<HostSessionCounts>,
}

impl Reporter {
    /// One that remembers so many attempts that did not end well.
    pub fn new(remember: usize) -> Self {
        Self {
            metrics: Arc::default(),
            ring: Ring::new(remember),
            recent: None,
            months: None,
            deliveries: None,
            alarmed: Mutex::default(),
            events: None,
            hosts: None,
        }
    }

    /// The same, which counts the mail of the last day for `danelaw status` from now on.
    pub fn counting(self, now: OffsetDateTime) -> Self {
        Self { recent: Some(RecentMail::new(now)), ..self }
    }

    /// The same, which counts mail by month for `danelaw report`.
    pub fn counting_months(self) -> Self {
        Self { months: Some(MailMonths::default()), ..self }
    }

    /// The same, which notes the last deliveries for the watch.
    pub fn noting_deliveries(self) -> Self {
        Self { deliveries: Some(DeliveryNotes::default()), ..self }
    }

    /// The same, which hands on the events for TLS reports. It never waits: events for which the queue has no room are dropped
    /// and counted.
    pub fn telling(self, events: mpsc::Sender<TlsEvent>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// The same, which counts sessions for the memory of hosts.
    pub fn learning_hosts(self) -> Self {
        Self { hosts: Some(HostSessionCounts::default()), ..self }
    }

    /// The sessions for the memory of hosts, if there is one.
    pub fn host_sessions(&self) -> Option<&HostSessionCounts> {
        self.hosts.as_ref()
    }

    /// Whether the sessions for a domain with this level are told in TLS reports.
    pub fn reporting(&self, level: &Level, rule: Option<&Rule>) -> Reporting {
        if self.events.is_some() { Reporting::of(level, rule) } else { Reporting::Off }
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Logs and counts an outcome. The client has its reply already.
    pub fn report(&self, outcome: &Outcome) {
        let now = OffsetDateTime::now_utc();
        outcome.log();
        self.metrics.count(outcome);
        if let Some(recent) = &self.recent {
            recent.note(outcome, now);
        }
        if let Some(months) = &self.months {
            months.note(outcome, now);
        }
        if let Some(deliveries) = &self.deliveries {
            deliveries.note(outcome, now);
        }
        if let Some(hosts) = &self.hosts {
            outcome.seen.take_host_sessions().into_iter().for_each(|session| hosts.note(session, now));
        }
        if let Some(events) = &self.events {
            let TracedEvents { kept, dropped } = outcome.seen.take_events();
            kept.into_iter().for_each(|event| self.hand_on(events, event));
            (0..dropped).for_each(|_| self.metrics.tls_session_dropped(DatagramDropped::Full.as_str()));
        }
        if let Some(reason) = outcome.reason.filter(|reason| reason.is_scarcity()) {
            self.ran_out(reason, "delivery");
        }
        match (outcome.verdict, &outcome.would) {
            // The log event of a delivery is enough.
            (Verdict::Delivered, None) => {}
            (Verdict::Delivered, Some(_)) | (Verdict::Deferred | Verdict::Rejected | Verdict::Aborted, _) => {
                self.ring.push(&outcome.id, || explain::account(outcome, now));
            }
        }
    }

    fn hand_on(&self, events: &mpsc::Sender<TlsEvent>, event: TlsEvent) {
        self.metrics.tls_session(event.policy.kind.as_str(), event.result.label());
        if events.try_send(event).is_err() {
            self.metrics.tls_session_dropped(DatagramDropped::Full.as_str());
        }
    }

    /// Reports that this host has run out of file descriptors, or of memory for sockets, and where that showed. Each time is
    /// counted; the log has it once in ten seconds, because it then concerns all sessions.
    pub fn ran_out(&self, reason: Label, at: &'static str) {
        self.metrics.ran_out(reason, at);
        let mut alarmed = self.alarmed.lock();
        if alarmed.is_some_and(|last| last.elapsed() < ALARM_EVERY) {
            return;
        }
        *alarmed = Some(Instant::now());
        drop(alarmed);
        tracing::error!(
            reason = reason.as_str(),
            at,
            "this host is out of file descriptors, or of memory for sockets: mail is deferred, or waits to be let in; raise \
             LimitNOFILE= (ulimit -n), or lower limits.sessions or remote.connections"
        );
    }

    /// The mail of the last day, if it is counted.
    pub fn recent(&self) -> Option<&RecentMail> {
        self.recent.as_ref()
    }

    /// The counts of mail by month that the store does not have yet, if they are kept.
    pub fn months(&self) -> Option<&MailMonths> {
        self.months.as_ref()
    }

    /// The last deliveries, if there is a watch.
    pub fn deliveries(&self) -> Option<&DeliveryNotes> {
        self.deliveries.as_ref()
    }

    /// The account of an attempt that is remembered.
    pub fn explain(&self, id: &str) -> Option<String> {
        self.ring.find(id)
    }

    /// The account of the last attempt that is remembered.
    pub fn explain_last(&self) -> Option<String> {
        self.ring.last()
    }

    /// A line for each attempt that is remembered, the last one first.
    pub fn remembered(&self) -> Vec<String> {
        self.ring.lines()
    }
}

/// A remote that was reached, and how it was secured. Made from a session's own [`Channel`], so that a log line
/// cannot claim what did not happen.
#[derive(Debug, Clone)]
pub struct ReachedRemote {
    /// The exchange, its address, and the port that a rule may name.
    pub peer: Peer,
    /// The policy's name.
    pub policy: &'static str,
    /// The word for the mail's own permit to go without a proof, if it went by that.
    pub permit: Option<&'static str>,
    /// The protection of the mail in transit, as the session proved it.
    pub channel: Channel,
    /// The number of earlier mails of the session. Where that is not 0, this attempt had no handshake of its own: the session
    /// proved its protection when it was opened.
    pub earlier_mails: u64,
}

/// The refusal that enforcing would have given to a mail that went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Would {
    /// The reason.
    pub reason: Label,
    /// The answer that the client would have been given.
    pub answer: String,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Verdict {
    /// The remote answered the end of the message with 2xx.
    Delivered,
    /// The client was told to try again later.
    Deferred,
    /// The client was told that it will never work.
    Rejected,
    /// The client ended the transaction, or went away, or had sent a message that was delivered before.
    Aborted,
}

words!(Verdict);

impl Verdict {
    /// The verdict that belongs to a reply to the client, for a message that was not delivered.
    pub fn of_refusal(code: Code) -> Self {
        match code.class() {
            Class::Permanent => Self::Rejected,
            Class::Transient | Class::Intermediate => Self::Deferred,
            // The client gets the outcome of an earlier attempt.
            Class::Success => Self::Aborted,
        }
    }
}

impl Outcome {
    /// The outcome of an attempt that ends now.
    pub fn unfinished(domain: &Name, mode: Mode) -> Self {
        Self {
            id: format!("{:012X}", fastrand::u64(..) >> 16),
            domain: domain.clone(),
            sender_domain: None,
            names: MessageNames::default(),
            refused_by: None,
            mode,
            would: None,
            remote: None,
            verdict: Verdict::Aborted,
            code: None,
            reason: Some(Label::Aborted),
            shortfall: None,
            text: "the transaction ended before its message was answered".to_owned(),
            recipients: 0,
            octets: 0,
            elapsed: Duration::ZERO,
            rule: None,
            sts: None,
            client_tls: None,
            listener_level: None,
            requiretls: None,
            listener_mail: ListenerMail::Any,
            original_destination: None,
            skipped: Vec::new(),
            seen: Trace::default(),
        }
    }

    /// The word for the protection of the mail in transit, if it was sent.
    fn protection_word(&self) -> ProtectionWord {
        self.remote.as_ref().map_or(ProtectionWord::None, |remote| remote.channel.word())
    }

    /// The policy that has refused, or that of the session.
    fn policy(&self) -> Option<&'static str> {
        self.refused_by.or_else(|| self.remote.as_ref().map(|remote| remote.policy))
    }

    /// How urgently an operator must look: the most urgent of the reasons. Mail of a listener for `TLS-Required: No` went without a
    /// proof by its own wish.
    fn urgency(&self) -> Urgency {
        let would = self.would.as_ref().filter(|_| self.permit().is_none()).map(|would| would.reason);
        let sts_would = self.sts.as_ref().and_then(|sts| sts.would);
        let other_host = self.original_destination.filter(|original| original.relation == Relation::Other);
        let other_host = other_host.map(|_| Urgency::Refusal);
        let reasons = [self.reason, would, sts_would].into_iter().flatten().map(Label::urgency);
        reasons.chain(other_host).max().unwrap_or(Urgency::Routine)
    }

    /// The word for the mail's own permit to go without a proof, if it went by that.
    fn permit(&self) -> Option<&'static str> {
        self.remote.as_ref()?.permit
    }

    /// The result for a mail that must have the field `TLS-Required: No`; none if it was neither delivered nor refused for
    /// want of the field.
    fn tls_required_no(&self) -> Option<&'static str> {
        match (self.listener_mail, self.verdict, self.reason) {
            (ListenerMail::Any, _, _) => None,
            (ListenerMail::TlsRequiredNo, _, Some(Label::TlsRequiredMissing)) => Some("refused"),
            (ListenerMail::TlsRequiredNo, Verdict::Delivered, _) => Some(self.permit().map_or("met", |_| "lowered")),
            (ListenerMail::TlsRequiredNo, Verdict::Deferred | Verdict::Rejected | Verdict::Aborted, _) => None,
        }
    }

    /// The proof of the session, if it was under TLS.
    fn protection(&self) -> Option<&Protection> {
        self.remote.as_ref()?.channel.protection()
    }

    /// Writes the one log event. A value that may have a space in it is a string, which a text log shows in quotes.
    fn log(&self) {
        let (remote, protection, sts) = (self.remote.as_ref(), self.protection(), self.sts.as_ref());
        let (original, client) = (self.original_destination, self.client_tls.as_deref());
        let matched = protection.and_then(Protection::matched);
        event!(
            self.urgency(), id = %self.id,
            queue_id = self.names.queue_id, message_id = self.names.message_id, sender_domain = self.sender_domain,
            mode = (self.mode == Mode::Observe).then(|| tracing::field::display(self.mode)),
            domain = %self.domain,
            exchange = remote.map(|remote| tracing::field::display(&remote.peer.exchange)),
            address = remote.map(|remote| tracing::field::display(AddressText(remote.peer.address))),
            port = remote.and_then(|remote| remote.peer.port),
            policy = self.policy(), permit = self.permit(), protection = self.protection_word().as_str(),
            earlier_mails = remote.map(|remote| remote.earlier_mails).filter(|mails| *mails > 0),
            tls_version = protection.map(Protection::version), cipher = protection.map(Protection::cipher_suite),
            tlsa = matched.map(|matched| matched.record.to_string()),
            tlsa_depth = matched.map(|matched| matched.depth),
            verified_by = protection.and_then(Protection::verified_by).map(VerifiedBy::as_str),
            no_dane = protection.and_then(Protection::unverified).map(|(why, _)| why.to_string()),
            pkix = protection.and_then(Protection::unverified).map(|(_, worth)| worth.as_str()),
            sts = sts.map(|sts| sts.found),
            sts_id = sts.and_then(|sts| sts.id.as_deref()),
            sts_would = sts.and_then(|sts| sts.would).map(Label::as_str),
            rule = self.rule.as_deref().map(printable),
            client_tls = client.map(|tls| tls.version), client_cipher = client.map(|tls| tls.cipher_suite.as_str()),
            client_certificate = client.map(|tls| tls.certificate.as_str()),
            listener_level = self.listener_level.map(tracing::field::display), requiretls = self.requiretls.map(TagResult::as_str),
            original_destination = original.map(|original| tracing::field::display(original.address)),
            original_destination_is = original.map(|original| original.relation.as_str()),
            warning = self.warning(),
            verdict = %self.verdict, code = self.code.map(|code| code.number()), reason = self.reason.map(Label::as_str),
            text = printable(&self.text),
            would = self.would.as_ref().map(|would| would.reason.as_str()),
            would_text = self.would.as_ref().map(|would| printable(&would.answer)),
            recipients = self.recipients, bytes = self.octets,
            elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            skipped = (!self.skipped.is_empty()).then(|| self.hosts_without_success()),
            "delivery"
        );
    }

    /// The warning that an intercepted client dialled an address that is no MX of the domain.
    fn warning(&self) -> Option<String> {
        let other = self.original_destination.filter(|original| original.relation == Relation::Other)?;
        Some(format!("the client dialled {}, which is no MX of {}", other.address, self.domain))
    }

    /// Each sentence was cut by itself, so that a host with much to say hides no other; here the list of them is cut.
    fn hosts_without_success(&self) -> String {
        printable(&self.skipped.join("; "))
    }
}

/// A-110: text from a peer must not steer the terminal or the log that shows it, nor fill it.
fn printable(text: &str) -> String {
    excerpt::in_print(text, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(super) fn outcome() -> Outcome {
        Outcome {
            id: "A1B2".to_owned(),
            sender_domain: Some("client.example".to_owned()),
            names: MessageNames {
                message_id: Some("<1@client.example>".to_owned()),
                queue_id: Some("4F2B".to_owned()),
            },
            would: Some(Would { reason: Label::TlsaMismatch, answer: "451 no\"\n".to_owned() }),
            verdict: Verdict::Rejected,
            code: Some(Code::MAILBOX_UNAVAILABLE),
            reason: Some(Label::RecipientRefused),
            text: "550 no\" verdict=delivered\n\u{1b}[2J".to_owned(),
            ..Outcome::unfinished(&Name::parse("example").unwrap(), Mode::Observe)
        }
    }

    /// The line of its event.
    fn logged(outcome: &Outcome) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).without_time().finish();
        tracing::subscriber::with_default(subscriber, || outcome.log());
        String::from_utf8(log.0.lock().clone()).unwrap()
    }

    #[test]
    fn the_level_is_that_of_the_most_urgent_reason() {
        let would = |reason| Some(Would { reason, answer: "451 no".to_owned() });
        for (reason, would, level) in [
            (None, None, " INFO "),
            (Some(Label::RecipientRefused), None, " INFO "),
            (Some(Label::WrongKey), None, " WARN "),
            (Some(Label::BindFailed), None, "ERROR "),
            // In mode observe, mail that enforcing would have refused.
            (None, would(Label::TlsaMismatch), " WARN "),
            (Some(Label::RecipientRefused), would(Label::StartTlsMissing), " WARN "),
        ] {
            let line = logged(&Outcome { reason, would, ..outcome() });
            assert!(line.starts_with(level), "{line}");
        }
    }

    #[test]
    fn a_mail_is_found_by_its_names_and_by_the_policy_that_refused_it() {
        let line = logged(&Outcome { refused_by: Some("dane"), ..outcome() });
        for field in [
            r#" queue_id="4F2B""#,
            r#" message_id="<1@client.example>""#,
            r#" sender_domain="client.example""#,
            r#" policy="dane""#,
        ] {
            assert!(line.contains(field), "{field} in {line}");
        }
    }

    #[test]
    fn a_remotes_text_is_no_log_field() {
        // A-110: neither another field on the line nor another line.
        let line = logged(&outcome());
        assert!(line.contains(r#" would="tlsa-mismatch" would_text="451 no\"?" "#), "{line}");
        assert!(line.contains(" mode=observe "), "{line}");
        assert!(line.contains(r#" text="550 no\" verdict=delivered??[2J" "#), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn what_a_stranger_wrote() {
        // A-110: no control characters, no directions for a terminal, and no more than a person would read.
        assert_eq!(printable("550 a\r\n\u{1b}[2J\u{202e}b"), "550 a???[2J?b");
        assert_eq!(printable(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
        let cut = printable(&"x".repeat(64 * 1024));
        assert!(cut.len() < MAX_TEXT + 40 && cut.ends_with("xxx... (61440 more)"), "{}", cut.len());
    }
}
