//! The steps of one delivery attempt, with the time each took: for `danelaw explain` and for counters. No decision depends
//! on it.
//!
//! An attempt has one [`Trace`], which goes with it from lookup to reply. It carries the events for TLS reports and the sessions
//! for the memory of hosts too. Its size is bounded, also for long texts of remotes and zones: beyond 16 KiB a step is still
//! counted and timed, and its text is left out; beyond 300 steps it is left out whole.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::digits::AddressText;
use crate::dns::{Alias, Answer, Failure, HostLookup, Lookup, Mx, MxTarget, RawTlsa, Security};
use crate::excerpt::Excerpt;
use crate::name::Name;
use crate::policy::host_session::HostSession;
use crate::tlsrpt::TlsEvent;

/// The most steps that are kept. A route has 20 exchanges at most.
const MAX_STEPS: usize = 300;
/// The most octets of text that are kept.
const MAX_OCTETS: usize = 16 * 1024;
/// The most characters of one text: a TLSA record may hold a certificate.
const MAX_TEXT: usize = 600;
/// How many steps a mail has that goes to the first host and on a session that waited.
const USUAL_STEPS: usize = 12;
/// About how many octets of text these steps have.
const USUAL_OCTETS: usize = 1000;
/// The most TLS events that are kept. A route has 20 exchanges with four addresses each, and a session may count under two
/// policies.
const MAX_EVENTS: usize = 200;
/// The most sessions that are kept for the memory of hosts.
const MAX_HOST_SESSIONS: usize = 100;
/// The most octets of a TLSA record's data that are shown. More than the longest digest is a certificate or a key in full.
const MAX_DIGEST: usize = 64;
/// The most records of one answer that are shown.
const MAX_RECORDS: usize = 12;

/// The steps of one attempt. Clones share them.
#[derive(Debug, Clone)]
pub struct Trace {
    inner: Arc<SharedTrace>,
}

#[derive(Debug)]
struct SharedTrace {
    started: Instant,
    // It belongs to one attempt: no other attempt waits for the lock.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    steps: Vec<Noted>,
    /// The texts of all steps, one behind the other: an attempt that goes well is told without any of them.
    text: String,
    events: TracedEvents,
    hosts: Vec<HostSession>,
}

/// The events of an attempt for TLS reports.
#[derive(Debug, Default)]
pub struct TracedEvents {
    /// In order.
    pub kept: Vec<TlsEvent>,
    /// The number of those for which there was no room.
    pub dropped: usize,
}

#[derive(Debug)]
struct Noted {
    at: Duration,
    took: Duration,
    kind: StepKind,
    /// Where its text ends.
    end: usize,
}

/// One thing that was done or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    /// When it was over, from the start of the attempt.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The kind of step.
    pub kind: StepKind,
    /// Its text. Words of a remote stand in it as they came.
    pub text: String,
}

/// The kind of a step. The words are labels of metrics: they come from this program alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// A lookup of this type, and its result: `secure`, `insecure`, `absent` (a host without any address) or
    /// `failed`.
    Lookup(&'static str, &'static str),
    /// A connection up to the remote's answer to EHLO: `ok`, or the reason's name.
    Connect(&'static str),
    /// STARTTLS, the handshake and EHLO under TLS: `ok`, or the reason's name.
    Tls(&'static str),
    /// The server of a session was not verified; the worth of its certificate to public CAs.
    Unverified(&'static str),
    /// Whether the remote offers REQUIRETLS in a new session under TLS: `yes` or `no`.
    RequireTls(&'static str),
    /// A session that waited was taken: this mail needed no connection and no handshake of its own.
    Reused,
    /// MAIL at the remote.
    Mail,
    /// RCPT at the remote.
    Rcpt,
    /// From the remote's 354 to its last answer.
    Message,
    /// A fact that showed up and took no time.
    Fact,
}

impl StepKind {
    /// The stage of the delivery this is a part of.
    pub fn stage(self) -> Option<&'static str> {
        match self {
            Self::Lookup(..) => Some("dns"),
            Self::Connect(_) => Some("connect"),
            Self::Tls(_) => Some("tls"),
            Self::Mail => Some("mail"),
            Self::Rcpt => Some("rcpt"),
            Self::Message => Some("message"),
            Self::Unverified(_) | Self::RequireTls(_) | Self::Reused | Self::Fact => None,
        }
    }
}

impl Default for Trace {
    fn default() -> Self {
        let seen = Seen {
            steps: Vec::with_capacity(USUAL_STEPS),
            text: String::with_capacity(USUAL_OCTETS),
            events: TracedEvents::default(),
            hosts: Vec::new(),
        };
        Self { inner: Arc::new(SharedTrace { started: Instant::now(), seen: Mutex::new(seen) }) }
    }
}

impl Trace {
    /// All steps so far.
    pub fn steps(&self) -> Vec<TraceStep> {
        let seen = self.inner.seen.lock();
        let starts = std::iter::once(0).chain(seen.steps.iter().map(|noted| noted.end));
        let text = |start, end| seen.text.get(start..end).unwrap_or_default().to_owned();
        let step = |(start, &Noted { at, took, kind, end })| TraceStep { at, took, kind, text: text(start, end) };
        starts.zip(&seen.steps).map(step).collect()
    }

    /// The kind and duration of each step so far.
    pub fn each(&self, mut tell: impl FnMut(StepKind, Duration)) {
        self.inner.seen.lock().steps.iter().for_each(|noted| tell(noted.kind, noted.took));
    }

    /// Keeps an event for TLS reports until the attempt is told.
    pub fn report(&self, event: TlsEvent) {
        let events = &mut self.inner.seen.lock().events;
        if events.kept.len() < MAX_EVENTS {
            events.kept.push(event);
        } else {
            events.dropped += 1;
        }
    }

    /// The events for TLS reports; the trace forgets them.
    pub fn take_events(&self) -> TracedEvents {
        std::mem::take(&mut self.inner.seen.lock().events)
    }

    /// Keeps a session for the memory of hosts until the attempt is told, if there is room.
    pub fn host_session(&self, session: HostSession) {
        let hosts = &mut self.inner.seen.lock().hosts;
        if hosts.len() < MAX_HOST_SESSIONS {
            hosts.push(session);
        }
    }

    /// The sessions for the memory of hosts; the trace forgets them.
    pub fn take_host_sessions(&self) -> Vec<HostSession> {
        std::mem::take(&mut self.inner.seen.lock().hosts)
    }

    /// Notes a fact that took no time.
    pub fn fact(&self, text: fmt::Arguments<'_>) {
        self.note(StepKind::Fact, None, text);
    }

    /// Notes that the server of a session was not verified.
    pub fn unverified(&self, worth: &'static str, text: fmt::Arguments<'_>) {
        self.note(StepKind::Unverified(worth), None, text);
    }

    /// Notes whether a remote offers REQUIRETLS in a new session under TLS.
    pub fn require_tls(&self, offered: &'static str, text: fmt::Arguments<'_>) {
        self.note(StepKind::RequireTls(offered), None, text);
    }

    /// Notes that a session was taken which had waited.
    pub fn reused(&self, text: fmt::Arguments<'_>) {
        self.note(StepKind::Reused, None, text);
    }

    /// Notes a step that began then and is over now.
    pub fn since(&self, began: Instant, kind: StepKind, text: fmt::Arguments<'_>) {
        self.note(kind, Some(began), text);
    }

    /// Makes a lookup and notes its result.
    ///
    /// # Errors
    /// That of the lookup.
    pub async fn lookup<T: Noteworthy>(
        &self,
        name: &Name,
        rtype: &'static str,
        lookup: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let found = lookup.await;
        match &found {
            Ok(found) => {
                let result = match found.security() {
                    Some(Security::Secure) => "secure",
                    Some(Security::Insecure) => "insecure",
                    None => "absent",
                };
                let text = format_args!("{name} {rtype}: {result}: {}", Displayed(found));
                self.since(began, StepKind::Lookup(rtype, result), text);
            }
            Err(failure) => {
                let text = format_args!("{name} {rtype}: {}", failure.reason);
                self.since(began, StepKind::Lookup(rtype, "failed"), text);
            }
        }
        found
    }

    fn note(&self, kind: StepKind, began: Option<Instant>, text: fmt::Arguments<'_>) {
        let now = Instant::now();
        let at = now.saturating_duration_since(self.inner.started);
        let took = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let mut seen = self.inner.seen.lock();
        let Seen { steps, text: all, .. } = &mut *seen;
        if steps.len() >= MAX_STEPS {
            return;
        }
        if all.len() < MAX_OCTETS {
            // It fails where it is cut, and nowhere else.
            let _ = Excerpt::new(all, MAX_TEXT).write_fmt(text);
        }
        steps.push(Noted { at, took, kind, end: all.len() });
    }
}

struct Displayed<'a, T>(&'a T);

impl<T: Noteworthy> fmt::Display for Displayed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

/// The result of a lookup, in words.
pub trait Noteworthy {
    /// How sure it is, if that is one thing.
    fn security(&self) -> Option<Security>;
    /// The aliases and records, or the denial.
    ///
    /// # Errors
    /// That of the formatter.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Noteworthy for Lookup<Mx> {
    fn security(&self) -> Option<Security> {
        Some(Lookup::security(self))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        aliases(f, &self.aliases)?;
        answer(f, &self.answer, |f, mx| match &mx.target {
            MxTarget::Root => write!(f, "{} .", mx.preference),
            MxTarget::Host(name) => write!(f, "{} {name}", mx.preference),
            MxTarget::Invalid(escaped) => write!(f, "{} {escaped} (no host name)", mx.preference),
        })
    }
}

impl Noteworthy for Lookup<RawTlsa> {
    fn security(&self) -> Option<Security> {
        Some(Lookup::security(self))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        aliases(f, &self.aliases)?;
        answer(f, &self.answer, |f, record| write!(f, "{record:.MAX_DIGEST$}"))
    }
}

impl Noteworthy for HostLookup {
    fn security(&self) -> Option<Security> {
        match self {
            Self::Found(host) => Some(host.security()),
            // Two denials, and no decision depends on their security.
            Self::NoAddress(_) | Self::NotInFamily(_) => None,
        }
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(host) => {
                aliases(f, &host.aliases)?;
                records(f, &host.addresses, |f, &address| fmt::Display::fmt(&AddressText(address), f))?;
                host.unknown.iter().try_for_each(|failure| write!(f, "; {failure}"))
            }
            Self::NoAddress(_) => f.write_str("neither A nor AAAA"),
            Self::NotInFamily(families) => write!(f, "no address of remote.families = \"{families}\""),
        }
    }
}

fn aliases(f: &mut fmt::Formatter<'_>, aliases: &[Alias]) -> fmt::Result {
    aliases
        .iter()
        .try_for_each(|Alias { owner, target, security }| write!(f, "{owner} is an alias of {target} ({security}); "))
}

fn answer<T>(
    f: &mut fmt::Formatter<'_>,
    answer: &Answer<T>,
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    match answer {
        Answer::Records(all) => records(f, all, show),
        Answer::NoData => f.write_str("no such record"),
        Answer::NxDomain => f.write_str("no such name"),
    }
}

fn records<T>(
    f: &mut fmt::Formatter<'_>,
    all: &[T],
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, record) in all.iter().take(MAX_RECORDS).enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        show(f, record)?;
    }
    match all.len().saturating_sub(MAX_RECORDS) {
        0 => Ok(()),
        more => write!(f, ", {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{FailureReason, Finality, Rtype};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    async fn told<T: Noteworthy>(found: Result<T, Failure>) -> TraceStep {
        let trace = Trace::default();
        let _ = trace.lookup(&name("example"), "MX", async { found }).await;
        trace.steps().remove(0)
    }

    #[tokio::test]
    async fn the_text_of_a_lookup() {
        let alias = Alias { owner: name("example"), target: name("other.test"), security: Security::Insecure };
        let mx = |preference, target| Mx { preference, target };
        let (end, finality) = (Security::Secure, Finality::Final);
        let lookup = |aliases, answer| Lookup { asked: name("example"), aliases, end, answer, finality };
        let records =
            Answer::Records(vec![mx(10, MxTarget::Host(name("mx.example"))), mx(20, MxTarget::Invalid("1.2".into()))]);
        let step = told(Ok(lookup(vec![], records.clone()))).await;
        assert_eq!(step.kind, StepKind::Lookup("MX", "secure"));
        assert_eq!(step.text, "example MX: secure: 10 mx.example, 20 1.2 (no host name)");
        // One insecure link makes the chain insecure.
        let step = told(Ok(lookup(vec![alias], Answer::NoData))).await;
        let text = "example MX: insecure: example is an alias of other.test (insecure); no such record";
        assert_eq!((step.kind, step.text.as_str()), (StepKind::Lookup("MX", "insecure"), text));
        let failure = Failure { name: name("example"), rtype: Rtype::MX, reason: FailureReason::Timeout };
        let step = told::<Lookup<Mx>>(Err(failure)).await;
        let text = "example MX: no answer within the time limit";
        assert_eq!((step.kind, step.text.as_str()), (StepKind::Lookup("MX", "failed"), text));
        let tlsa = Lookup {
            asked: name("_25._tcp.mx.example"),
            aliases: vec![],
            end,
            finality,
            answer: Answer::Records(vec![
                RawTlsa([vec![3, 1, 1], vec![0xab; 32]].concat()),
                RawTlsa([vec![3, 0, 0], vec![0xcd; 65]].concat()),
                RawTlsa(vec![3]),
            ]),
        };
        let text = format!("3 1 1 {}, 3 0 0 {}... (65 octets), \\# 1 03", "AB".repeat(32), "CD".repeat(64));
        assert_eq!(Displayed(&tlsa).to_string(), text);
    }

    #[tokio::test]
    async fn events_without_room_are_counted() {
        use crate::tlsrpt::event::{ReportedPolicy, TlsResult};
        let trace = Trace::default();
        for _ in 0..MAX_EVENTS + 7 {
            let (recipient, result) = (name("example"), TlsResult::Success);
            trace.report(TlsEvent { policy: ReportedPolicy::none_for(&recipient), recipient, result });
        }
        let TracedEvents { kept, dropped } = trace.take_events();
        assert_eq!((kept.len(), dropped), (MAX_EVENTS, 7));
        let TracedEvents { kept, dropped } = trace.take_events();
        assert_eq!((kept.len(), dropped), (0, 0));
    }

    #[tokio::test]
    async fn long_replies_in_a_trace_are_bounded() {
        let trace = Trace::default();
        for _ in 0..1000 {
            trace.fact(format_args!("{}", "ü".repeat(5000)));
        }
        let steps = trace.steps();
        assert_eq!(steps.len(), MAX_STEPS);
        let octets: usize = steps.iter().map(|step| step.text.len()).sum();
        assert!(octets < MAX_OCTETS + 4 * MAX_TEXT, "{octets}");
    }
}
