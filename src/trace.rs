//! What was seen on the way of one attempt, step by step, with the time each took: for people who ask why, and for
//! counters. Nothing is decided by it.
//!
//! An attempt has one [`Trace`], which is handed along the road. It is bounded, whatever a remote or a zone has to say:
//! beyond its bounds a step is still counted and timed, and its text is left out.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::dns::{Alias, Answer, Failure, HostLookup, Lookup, Mx, MxTarget, RawTlsa, Security};
use crate::name::Name;

/// The most steps that are kept. A route has 20 exchanges at most.
const MAX_STEPS: usize = 300;
/// The most octets of text that are kept.
const MAX_OCTETS: usize = 16 * 1024;
/// The most characters of one text: a TLSA record may hold a certificate.
const MAX_TEXT: usize = 600;
/// The most records of one answer that are shown.
const MAX_RECORDS: usize = 12;

/// The steps of one attempt. Clones share them.
#[derive(Debug, Clone)]
pub struct Trace {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    // One attempt's own: nobody waits for it but that attempt.
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    steps: Vec<Step>,
    octets: usize,
}

/// One thing that was done or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When it was over, from the start of the attempt.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// What it was.
    pub what: What,
    /// What there is to say about it. What a stranger wrote is in it as it came.
    pub text: String,
}

/// What a step was. The words are labels of metrics: they come from this program alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A lookup of this type, and what came of it: `secure`, `insecure`, `absent` (a host without any address) or
    /// `failed`.
    Lookup(&'static str, &'static str),
    /// A connection up to the remote's answer to EHLO: `ok`, or the reason's name.
    Connect(&'static str),
    /// STARTTLS, the handshake and EHLO under TLS: `ok`, or the reason's name.
    Tls(&'static str),
    /// A session that waited was taken: nobody connected or shook hands for this.
    Reused,
    /// MAIL at the remote.
    Mail,
    /// RCPT at the remote.
    Rcpt,
    /// From the remote's 354 to its last answer.
    Message,
    /// Something that was found on the way.
    Fact,
}

impl What {
    /// The stage of the delivery this is a part of.
    pub fn stage(self) -> Option<&'static str> {
        match self {
            Self::Lookup(..) => Some("dns"),
            Self::Connect(_) => Some("connect"),
            Self::Tls(_) => Some("tls"),
            Self::Mail => Some("mail"),
            Self::Rcpt => Some("rcpt"),
            Self::Message => Some("message"),
            Self::Reused | Self::Fact => None,
        }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { started: Instant::now(), seen: Mutex::default() }) }
    }
}

impl Trace {
    /// All steps so far.
    pub fn steps(&self) -> Vec<Step> {
        self.seen().steps.clone()
    }

    /// Notes something that was found and took no time.
    pub fn fact(&self, text: impl Into<String>) {
        self.note((What::Fact, Duration::ZERO), text.into());
    }

    /// Notes that a session was taken which had waited.
    pub fn reused(&self, text: String) {
        self.note((What::Reused, Duration::ZERO), text);
    }

    /// Notes something that began then and is over now.
    pub fn since(&self, began: Instant, (what, text): (What, String)) {
        self.note((what, began.elapsed()), text);
    }

    /// Does something and notes what came of it: what it was, and what there is to say.
    pub async fn watch<T>(&self, doing: impl Future<Output = T>, told: impl FnOnce(&T) -> (What, String)) -> T {
        let began = Instant::now();
        let done = doing.await;
        let (what, text) = told(&done);
        self.since(began, (what, text));
        done
    }

    /// Makes a lookup and notes what it found.
    ///
    /// # Errors
    /// That of the lookup.
    pub async fn lookup<T: Found>(
        &self,
        (name, rtype): (&Name, &'static str),
        lookup: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.watch(lookup, |found| match found {
            Ok(found) => {
                let result = match found.security() {
                    Some(Security::Secure) => "secure",
                    Some(Security::Insecure) => "insecure",
                    None => "absent",
                };
                (What::Lookup(rtype, result), format!("{name} {rtype}: {result}: {}", found.told()))
            }
            Err(failure) => (What::Lookup(rtype, "failed"), format!("{name} {rtype}: {}", failure.reason)),
        })
        .await
    }

    fn note(&self, (what, took): (What, Duration), text: String) {
        let at = self.inner.started.elapsed();
        let mut seen = self.seen();
        if seen.steps.len() >= MAX_STEPS {
            return;
        }
        let text = match seen.octets < MAX_OCTETS {
            true => cut(text),
            false => String::new(),
        };
        seen.octets += text.len();
        seen.steps.push(Step { at, took, what, text });
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// What a lookup may find, in words.
pub trait Found {
    /// How sure it is, if that is one thing.
    fn security(&self) -> Option<Security>;
    /// The aliases and records, or the denial.
    fn told(&self) -> String;
}

impl Found for Lookup<Mx> {
    fn security(&self) -> Option<Security> {
        Some(Lookup::security(self))
    }

    fn told(&self) -> String {
        answer(&self.aliases, &self.answer, |mx| match &mx.target {
            MxTarget::Root => format!("{} .", mx.preference),
            MxTarget::Host(name) => format!("{} {name}", mx.preference),
            MxTarget::Invalid(escaped) => format!("{} {escaped} (no host name)", mx.preference),
        })
    }
}

impl Found for Lookup<RawTlsa> {
    fn security(&self) -> Option<Security> {
        Some(Lookup::security(self))
    }

    fn told(&self) -> String {
        answer(&self.aliases, &self.answer, |RawTlsa(octets)| {
            let (numbers, data) = octets.split_at(octets.len().min(3));
            let mut text = numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
            text.push(' ');
            // More than the longest digest is a certificate or a key in full.
            for octet in data.iter().take(64) {
                let _ = write!(text, "{octet:02x}");
            }
            if data.len() > 64 {
                let _ = write!(text, "... ({} octets)", data.len());
            }
            text
        })
    }
}

impl Found for HostLookup {
    fn security(&self) -> Option<Security> {
        match self {
            Self::Found(host) => Some(host.security()),
            // Two denials, and nothing is built on how sure they are.
            Self::NoAddress => None,
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Found(host) => {
                let addresses = Answer::Records(host.addresses.clone());
                let unknown = host.unknown.as_ref().map(|failure| format!("; {failure}")).unwrap_or_default();
                format!("{}{unknown}", answer(&host.aliases, &addresses, ToString::to_string))
            }
            Self::NoAddress => "neither A nor AAAA".to_owned(),
        }
    }
}

fn answer<T>(aliases: &[Alias], answer: &Answer<T>, shown: impl Fn(&T) -> String) -> String {
    let mut text = String::new();
    for Alias { owner, target, security } in aliases {
        let _ = write!(text, "{owner} is an alias of {target} ({security}); ");
    }
    match answer {
        Answer::Records(records) => {
            let listed: Vec<String> = records.iter().take(MAX_RECORDS).map(shown).collect();
            text.push_str(&listed.join(", "));
            if records.len() > MAX_RECORDS {
                let _ = write!(text, ", {} more", records.len() - MAX_RECORDS);
            }
        }
        Answer::NoData => text.push_str("no such record"),
        Answer::NxDomain => text.push_str("no such name"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::FailureReason;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    async fn told<T: Found>(found: Result<T, Failure>) -> Step {
        let trace = Trace::default();
        let _ = trace.lookup((&name("example"), "MX"), async { found }).await;
        trace.steps().remove(0)
    }

    #[tokio::test]
    async fn what_a_lookup_found() {
        let alias = Alias { owner: name("example"), target: name("other.test"), security: Security::Insecure };
        let mx = |preference, target| Mx { preference, target };
        let lookup = |aliases, answer| Lookup { asked: name("example"), aliases, end: Security::Secure, answer };
        let records =
            Answer::Records(vec![mx(10, MxTarget::Host(name("mx.example"))), mx(20, MxTarget::Invalid("1.2".into()))]);
        let step = told(Ok(lookup(vec![], records.clone()))).await;
        assert_eq!(step.what, What::Lookup("MX", "secure"));
        assert_eq!(step.text, "example MX: secure: 10 mx.example, 20 1.2 (no host name)");
        // One insecure link makes the chain insecure.
        let step = told(Ok(lookup(vec![alias], Answer::NoData))).await;
        let text = "example MX: insecure: example is an alias of other.test (insecure); no such record";
        assert_eq!((step.what, step.text.as_str()), (What::Lookup("MX", "insecure"), text));
        let failure = Failure { name: name("example"), rtype: "MX", reason: FailureReason::Timeout };
        let step = told::<Lookup<Mx>>(Err(failure)).await;
        let text = "example MX: no answer within the time limit";
        assert_eq!((step.what, step.text.as_str()), (What::Lookup("MX", "failed"), text));
        let tlsa = Lookup {
            asked: name("_25._tcp.mx.example"),
            aliases: vec![],
            end: Security::Secure,
            answer: Answer::Records(vec![RawTlsa([vec![3, 1, 1], vec![0xab; 32]].concat()), RawTlsa(vec![3])]),
        };
        assert_eq!(tlsa.told(), format!("3 1 1 {}, 3 ", "ab".repeat(32)));
    }

    #[tokio::test]
    async fn a_remote_with_much_to_say_fills_no_memory() {
        let trace = Trace::default();
        for _ in 0..1000 {
            trace.fact("ü".repeat(5000));
        }
        let steps = trace.steps();
        assert_eq!(steps.len(), MAX_STEPS);
        let octets: usize = steps.iter().map(|step| step.text.len()).sum();
        assert!(octets < MAX_OCTETS + 4 * MAX_TEXT, "{octets}");
    }
}
