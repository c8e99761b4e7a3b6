//! What happened, told once: one [`Outcome`] for each attempt to deliver, and all that is made of it by a [`Reporter`]: one
//! log event, the counters, and the account of an attempt that did not end well.
//!
//! An attempt is one transaction's recipients at one domain, from the first lookup to the answer the client got. The
//! field names are part of the interface; README lists them. Whatever a stranger wrote is escaped before it is logged.

mod explain;
pub mod metrics;
mod ring;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::name::Name;
use crate::policy::Mode;
use crate::scarce::Scarcity;
use crate::smtp::reply::{Class, Code};
use crate::tls::Authentication;
use crate::trace::Trace;
use crate::upstream::original_destination::{OriginalDestination, Relation};
use crate::upstream::verified::Channel;

use metrics::Metrics;
use ring::Ring;

/// The most characters of a text that are logged.
const MAX_TEXT: usize = 4096;

/// How often the log has an alarm about a resource that this host has run out of.
const ALARM_EVERY: Duration = Duration::from_secs(10);

/// One attempt to deliver, from the first lookup to the answer the client got.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Our id for the transaction; it stands in the Received line too.
    pub id: String,
    /// The recipients' domain.
    pub domain: Name,
    /// Whether the policy was held to.
    pub mode: Mode,
    /// What enforcing would have said, where it would have refused what was delivered to observe.
    pub would: Option<Would>,
    /// The remote, if one was reached and secured.
    pub remote: Option<Remote>,
    /// What became of it.
    pub verdict: Verdict,
    /// The code that these recipients have earned: what the client was given, unless with fan-out other recipients of the
    /// same transaction had another outcome.
    pub code: Option<Code>,
    /// The name of the reason for anything but a delivery.
    pub reason: &'static str,
    /// The words for it: the remote's, or ours.
    pub text: String,
    /// Recipients the remote accepted.
    pub recipients: usize,
    /// Octets of the message that were read from the client.
    pub octets: u64,
    /// From the first lookup to the answer.
    pub elapsed: Duration,
    /// The exception that set the level, if one did.
    pub rule: Option<String>,
    /// What the client had dialled, if it was intercepted.
    pub dialled: Option<OriginalDestination>,
    /// What was tried before, in vain: one sentence each.
    pub skipped: Vec<String>,
    /// Each step on the way.
    pub seen: Trace,
}

/// Tells outcomes: to the log, to the counters, and to whoever asks about one later.
#[derive(Debug)]
pub struct Reporter {
    metrics: Arc<Metrics>,
    ring: Ring,
    /// When the log last had such an alarm.
    alarmed: Mutex<Option<Instant>>,
}

impl Reporter {
    /// One that remembers so many attempts that did not end well.
    pub fn new(remember: usize) -> Self {
        Self { metrics: Arc::default(), ring: Ring::new(remember), alarmed: Mutex::default() }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Tells an outcome. The client has been answered.
    pub fn tell(&self, outcome: &Outcome) {
        outcome.log();
        self.metrics.count(outcome);
        if Scarcity::is_label(outcome.reason) {
            self.ran_out(outcome.reason, "delivery");
        }
        match (outcome.verdict, &outcome.would) {
            // The log event of a delivery says what there is to say.
            (Verdict::Delivered, None) => {}
            (Verdict::Delivered, Some(_)) | (Verdict::Deferred | Verdict::Rejected | Verdict::Aborted, _) => {
                self.ring.push(&outcome.id, || explain::explain(outcome, OffsetDateTime::now_utc()));
            }
        }
    }

    /// Tells that this host has run out of file descriptors, or of memory for sockets, and where that was felt. Each time is
    /// counted; the log has it once in a while, because it then concerns all sessions.
    pub fn ran_out(&self, reason: &'static str, at: &'static str) {
        self.metrics.ran_out(reason, at);
        let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
        if alarmed.is_some_and(|last| last.elapsed() < ALARM_EVERY) {
            return;
        }
        *alarmed = Some(Instant::now());
        drop(alarmed);
        tracing::error!(
            reason,
            at,
            "this host is out of file descriptors, or of memory for sockets: mail is deferred, or waits to be let in; raise \
             LimitNOFILE= (ulimit -n), or lower limits.sessions or remote.connections"
        );
    }

    /// Everything that was seen of an attempt that is remembered.
    pub fn explain(&self, id: &str) -> Option<String> {
        self.ring.find(id)
    }
}

/// A remote that was reached, and how it was secured. Made from a session's own [`Channel`], so that a log line
/// cannot claim what did not happen.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The unexpanded name of the exchange.
    pub exchange: Name,
    /// The address.
    pub address: IpAddr,
    /// The policy's name.
    pub policy: &'static str,
    /// How the mail travels, and what the session proved.
    pub channel: Channel,
    /// How often the session had been told MAIL before: where that is not 0, nobody shook hands for this attempt, and what the
    /// session proved it proved when it was opened.
    pub earlier_mails: u64,
}

/// What enforcing would have said to a mail that went all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Would {
    /// The name of the reason.
    pub reason: &'static str,
    /// The answer that the client would have been given.
    pub answer: String,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Verdict {
    /// What a reply to the client means for the attempt, when nothing was delivered.
    pub fn of_refusal(code: Code) -> Self {
        match code.class() {
            Class::Permanent => Self::Rejected,
            Class::Transient | Class::Intermediate => Self::Deferred,
            // What the client hears is what an earlier attempt came to.
            Class::Success => Self::Aborted,
        }
    }
}

impl Verdict {
    /// The word for it in log lines and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Rejected => "rejected",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Outcome {
    /// The word for how the mail travelled, if it came to that.
    fn protection(&self) -> &'static str {
        match self.remote.as_ref().map(|remote| &remote.channel) {
            Some(Channel::Secured(protection)) => protection.label(),
            Some(Channel::Cleartext(_)) => "Cleartext",
            None => "none",
        }
    }

    /// Writes the one log event. Whatever may have a space in it is a string, which a text log shows in quotes.
    fn log(&self) {
        let remote = self.remote.as_ref();
        let protection = remote.and_then(|remote| match &remote.channel {
            Channel::Secured(protection) => Some(protection),
            Channel::Cleartext(_) => None,
        });
        let matched = protection.and_then(|protection| match protection.authentication() {
            Authentication::Verified(matched) | Authentication::HostVerified(matched) => Some(matched),
            Authentication::Unverified(_) => None,
        });
        tracing::info!(
            id = %self.id,
            mode = (self.mode == Mode::Observe).then(|| tracing::field::display(self.mode)),
            domain = %self.domain,
            exchange = remote.map(|remote| tracing::field::display(&remote.exchange)),
            address = remote.map(|remote| tracing::field::display(remote.address)),
            policy = remote.map(|remote| remote.policy),
            protection = self.protection(),
            earlier_mails = remote.map(|remote| remote.earlier_mails).filter(|mails| *mails > 0),
            tls_version = protection.map(|protection| protection.version()),
            cipher = protection.map(|protection| protection.cipher_suite()),
            tlsa = matched.map(|matched| matched.record.to_string()),
            tlsa_depth = matched.map(|matched| matched.depth),
            no_dane = protection.and_then(|protection| match protection.authentication() {
                Authentication::Unverified(why) => Some(why.to_string()),
                Authentication::Verified(_) | Authentication::HostVerified(_) => None,
            }),
            rule = self.rule.as_deref().map(printable),
            dialled = self.dialled.map(|dialled| tracing::field::display(dialled.address)),
            dialled_is = self.dialled.map(|dialled| dialled.relation.label()),
            warning = self.dialled.filter(|dialled| dialled.relation == Relation::Other).map(|dialled| {
                format!("the client dialled {}, which is no MX of {}", dialled.address, self.domain)
            }),
            verdict = %self.verdict,
            code = self.code.map(|code| code.number()),
            reason = (!self.reason.is_empty()).then_some(self.reason),
            text = printable(&self.text),
            would = self.would.as_ref().map(|would| would.reason),
            would_text = self.would.as_ref().map(|would| printable(&would.answer)),
            recipients = self.recipients,
            bytes = self.octets,
            elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            skipped = (!self.skipped.is_empty()).then(|| self.tried_in_vain()),
            "delivery"
        );
    }

    /// Each sentence was cut by itself, so that a host with much to say hides no other; here the list of them is cut.
    fn tried_in_vain(&self) -> String {
        printable(&self.skipped.join("; "))
    }
}

/// A-110: what came from a peer must not steer the terminal or the log that shows it, nor fill it.
fn printable(text: &str) -> String {
    let shown = text.chars().take(MAX_TEXT).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
    match text.chars().count() {
        more if more > MAX_TEXT => shown.chain(format!("... ({} more)", more - MAX_TEXT).chars()).collect(),
        _ => shown.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_remote_says_is_no_field_of_ours() {
        // A-110: neither another field on the line nor another line.
        let outcome = Outcome {
            id: "A1B2".to_owned(),
            domain: Name::parse("example").unwrap(),
            mode: Mode::Observe,
            would: Some(Would { reason: "tlsa-mismatch", answer: "451 no\"\n".to_owned() }),
            remote: None,
            verdict: Verdict::Rejected,
            code: Some(Code::MAILBOX_UNAVAILABLE),
            reason: "recipient-refused",
            text: "550 no\" verdict=delivered\n\u{1b}[2J".to_owned(),
            recipients: 0,
            octets: 0,
            elapsed: Duration::ZERO,
            rule: None,
            dialled: None,
            skipped: Vec::new(),
            seen: Trace::default(),
        };
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).without_time().finish();
        tracing::subscriber::with_default(subscriber, || outcome.log());
        let line = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(line.contains(r#" would="tlsa-mismatch" would_text="451 no\"?" "#), "{line}");
        assert!(line.contains(" mode=observe "), "{line}");
        assert!(line.contains(r#" text="550 no\" verdict=delivered??[2J" "#), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn what_a_stranger_wrote() {
        // A-110: no control characters, no directions for a terminal, and no more than anybody would read.
        assert_eq!(printable("550 a\r\n\u{1b}[2J\u{202e}b"), "550 a???[2J?b");
        assert_eq!(printable(&"x".repeat(MAX_TEXT)).len(), MAX_TEXT);
        let cut = printable(&"x".repeat(64 * 1024));
        assert!(cut.len() < MAX_TEXT + 40 && cut.ends_with("xxx... (61440 more)"), "{}", cut.len());
    }
}
