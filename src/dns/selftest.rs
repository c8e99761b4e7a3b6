//! Whether a name server is good enough to ask, and if not, why: said once, with the server's name, in an operator's
//! words.
//!
//! RFC 7672 §2.1.1 forbids a resolver that cannot tell secure from insecure. So each server has to prove itself, at the
//! start and every few minutes, by the one zone that every resolver knows, the root:
//!
//! 1. its keys are secure, from the trust anchor;
//! 2. its SOA record, a signed name that is always there, is secure;
//! 3. a TLSA record below a top-level domain that does not exist is securely denied. The domain is another one each
//!    time, so that no cache has the answer ready.
//!
//! Where a probe fails, the bare reply is read once more. It is only reported; no decision rests on it.

use std::fmt;
use std::slice;
use std::time::Duration;

use super::FailureReason;
use super::Security;
use super::backend::{Backend, BackendFactory};
use super::budget::Budget;
use super::canonical::CanonicalName;
use super::denial::Denied;
use super::links::{Link, Question};
use super::reply::{Rtype, SignatureValidity, Traces};
use super::server::{NameServer, ResolverMode};
use super::validating::convert;
use crate::scarce::Scarcity;

/// The result of the self-test for all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Each server, in the order of the configuration.
    pub servers: Vec<ServerHealth>,
}

/// The result of the self-test for one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Which.
    pub server: NameServer,
    /// How it is.
    pub state: ServerState,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// Not known yet.
    Untested,
    /// It passed.
    Good,
    /// It failed.
    Failed(SelfTestFailure),
}

/// Why a server fails the self-test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestFailure {
    /// There is no reply.
    #[error("times out")]
    TimesOut,
    /// It cannot be reached at all.
    #[error("cannot be reached ({0})")]
    Unreachable(String),
    /// It says no: `REFUSED`, `SERVFAIL`.
    #[error("answers {0}")]
    Answers(String),
    /// Signatures or denial records are missing from its replies.
    #[error("strips DNSSEC records")]
    StripsDnssec,
    /// It answers other types, and not this one.
    #[error("does not answer TLSA ({0})")]
    NoTlsa(String),
    /// The signatures are genuine for another time.
    #[error("clock is off by at least {0}")]
    ClockOff(Clock),
    /// It is to validate for us, and does not.
    #[error("does not validate: the AD bit is not set for the signed root")]
    DoesNotValidate,
    /// It was not asked: this host has no socket left.
    #[error("cannot be asked: {0}")]
    NotAsked(Scarcity),
    /// Its replies fail validation in another way.
    #[error("proves nothing: {0}")]
    Unproven(FailureReason),
}

/// How our clock stands to the signatures of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// They are not valid yet.
    Behind(Duration),
    /// They are not valid any more. A server that keeps old records looks the same.
    Ahead(Duration),
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, what) = match self {
            Self::Behind(by) => (by, "are not valid yet"),
            Self::Ahead(by) => (by, "have expired"),
        };
        match by.as_secs() {
            seconds @ 0..=119 => write!(f, "{seconds} s"),
            seconds @ 120..=7199 => write!(f, "{} min", seconds / 60),
            seconds @ 7200..=172_799 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }?;
        write!(f, ": by this machine's clock the root's signatures {what}")
    }
}

impl Health {
    /// These servers have not been tested yet.
    pub(super) fn untested(servers: Vec<NameServer>) -> Self {
        let untested = |server| ServerHealth { server, state: ServerState::Untested };
        Self { servers: servers.into_iter().map(untested).collect() }
    }

    /// The state of one server.
    pub fn state_of(&self, server: &NameServer) -> Option<&ServerState> {
        self.servers.iter().find(|known| known.server == *server).map(|known| &known.state)
    }

    /// Whether every server has been tested.
    pub fn is_tested(&self) -> bool {
        self.servers.iter().all(|server| server.state != ServerState::Untested)
    }

    /// Whether every server passed.
    pub fn all_good(&self) -> bool {
        self.servers.iter().all(|server| server.state == ServerState::Good)
    }

    /// Whether no server has passed yet, and some may still.
    pub fn is_open(&self) -> bool {
        let any = |state: &ServerState| self.servers.iter().any(|server| server.state == *state);
        any(&ServerState::Untested) && !any(&ServerState::Good)
    }

    /// The same, where a server that could not be asked is as it was found before.
    pub(super) fn or_as_before(mut self, before: &Self) -> Self {
        for server in &mut self.servers {
            if let (ServerState::Failed(SelfTestFailure::NotAsked(_)), Some(known)) =
                (&server.state, before.state_of(&server.server))
            {
                server.state = known.clone();
            }
        }
        self
    }

    /// Whether every server failed, so that no lookup can succeed.
    pub fn is_bad(&self) -> bool {
        self.servers.iter().all(|server| match server.state {
            ServerState::Failed(_) => true,
            ServerState::Good | ServerState::Untested => false,
        })
    }
}

/// Tests these servers, all at the same time.
pub(super) async fn examine_all(factory: &BackendFactory, servers: Vec<NameServer>) -> Health {
    let examined = servers.into_iter().map(|server| async move {
        let state = examine(factory, &server).await.map_or_else(ServerState::Failed, |()| ServerState::Good);
        ServerHealth { server, state }
    });
    Health { servers: futures_util::future::join_all(examined).await }
}

/// One thing to prove.
struct Probe {
    question: Question,
    proven: fn(&Link<Security>) -> Option<Security>,
}

async fn examine(factory: &BackendFactory, server: &NameServer) -> Result<(), SelfTestFailure> {
    // One of its own, without the results of other servers.
    let backend = factory.backend(slice::from_ref(server));
    for probe in probes() {
        let proven = prove(factory, &backend, &probe).await;
        match proven {
            Ok(Security::Secure) => {}
            Ok(Security::Insecure) => return Err(not_secure(factory, server, &probe).await),
            Err(reason) => return Err(diagnose(factory, server, &probe, reason).await),
        }
    }
    Ok(())
}

fn probes() -> [Probe; 3] {
    let root = || CanonicalName::from_labels(std::iter::empty());
    let records = |link: &Link<Security>| match link {
        Link::Records(_, security) => Some(*security),
        Link::Alias(..) | Link::Denied(..) => None,
    };
    let no_name = |link: &Link<Security>| match link {
        Link::Denied(Denied::NxDomain, security) => Some(*security),
        Link::Denied(Denied::NoData, _) | Link::Records(..) | Link::Alias(..) => None,
    };
    let domain: String = std::iter::repeat_with(fastrand::lowercase).take(20).collect();
    let nowhere = CanonicalName::from_labels([&b"_25"[..], b"_tcp", domain.as_bytes()].into_iter());
    [
        Probe { question: Question { name: root(), rtype: Rtype::DNSKEY }, proven: records },
        Probe { question: Question { name: root(), rtype: Rtype::SOA }, proven: records },
        Probe { question: Question { name: nowhere, rtype: Rtype::TLSA }, proven: no_name },
    ]
}

async fn prove(factory: &BackendFactory, backend: &Backend, probe: &Probe) -> Result<Security, FailureReason> {
    let mut budget = Budget::lookup();
    let link = tokio::time::timeout(factory.settings.deadline, backend.link(&probe.question, &mut budget)).await;
    let link = link.unwrap_or(Err(FailureReason::Timeout))?;
    (probe.proven)(&link.value).ok_or_else(|| {
        let label = probe.question.rtype.label();
        FailureReason::Malformed(format!("the {label} question for {} has another answer", probe.question.name))
    })
}

/// A root that is insecure.
async fn not_secure(factory: &BackendFactory, server: &NameServer, probe: &Probe) -> SelfTestFailure {
    match factory.settings.mode {
        ResolverMode::TrustAd => SelfTestFailure::DoesNotValidate,
        // Above the root there is no delegation: this is not reached unless the rules change.
        ResolverMode::Validate => {
            let reason = FailureReason::Bogus("the root is not signed".to_owned());
            diagnose(factory, server, probe, reason).await
        }
    }
}

/// Finds the cause of a failure.
async fn diagnose(
    factory: &BackendFactory,
    server: &NameServer,
    probe: &Probe,
    reason: FailureReason,
) -> SelfTestFailure {
    let client = factory.client(server);
    let traces = |octets: Vec<u8>| convert::traces(&octets);
    if let FailureReason::Scarce(scarcity) = reason {
        return SelfTestFailure::NotAsked(scarcity);
    }
    let bare = client.ask(&probe.question).await.and_then(traces);
    if probe.question.rtype == Rtype::TLSA
        && let Err(failure) = &bare
        && !matches!(failure, FailureReason::Scarce(_))
    {
        // The same name with another type: whether it is the type that is not answered.
        let addresses = Question { name: probe.question.name.clone(), rtype: Rtype::A };
        if client.ask(&addresses).await.and_then(traces).is_ok() {
            return SelfTestFailure::NoTlsa(failure.to_string());
        }
    }
    match bare {
        Ok(traces) => traced(&traces, probe.question.rtype, reason),
        Err(failure) => unanswered(failure),
    }
}

/// There is a reply: finds the part that it lacks.
fn traced(traces: &Traces, rtype: Rtype, reason: FailureReason) -> SelfTestFailure {
    if traces.signatures.is_empty() || rtype == Rtype::TLSA && !traces.denials {
        return SelfTestFailure::StripsDnssec;
    }
    match clock(&traces.signatures, convert::unix_time()) {
        Some(clock) => SelfTestFailure::ClockOff(clock),
        None => SelfTestFailure::Unproven(reason),
    }
}

/// There is no reply, or one that is an error.
fn unanswered(failure: FailureReason) -> SelfTestFailure {
    match failure {
        FailureReason::Timeout => SelfTestFailure::TimesOut,
        FailureReason::Network(why) => SelfTestFailure::Unreachable(why),
        FailureReason::Refused(code) => SelfTestFailure::Answers(code),
        FailureReason::Scarce(scarcity) => SelfTestFailure::NotAsked(scarcity),
        reason @ (FailureReason::Bogus(_)
        | FailureReason::Malformed(_)
        | FailureReason::TooManyAliases(_)
        | FailureReason::TooManyRecords(_)
        | FailureReason::NameTooLong) => SelfTestFailure::Unproven(reason),
    }
}

/// The error of the clock, if no signature is valid now. The difference of two times is one of serial numbers (RFC 4034
/// §3.1.5, RFC 1982): a time less than 68 years ahead is in the future.
fn clock(signatures: &[SignatureValidity], now: u32) -> Option<Clock> {
    let after = |one: u32, other: u32| i32::try_from(one.wrapping_sub(other)).ok().filter(|by| *by > 0);
    let off =
        signatures.iter().map(|signature| match (after(signature.inception, now), after(now, signature.expiration)) {
            (Some(by), _) => Some((by, Clock::Behind as fn(Duration) -> Clock)),
            (None, Some(by)) => Some((by, Clock::Ahead as fn(Duration) -> Clock)),
            (None, None) => None,
        });
    // `None` for any that is valid now; else the one that is nearest.
    let nearest = off.collect::<Option<Vec<_>>>()?.into_iter().min_by_key(|(by, _)| *by);
    nearest.map(|(by, clock)| clock(Duration::from_secs(u64::from(by.unsigned_abs()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;

    fn from_to(inception: u32, expiration: u32) -> SignatureValidity {
        SignatureValidity { inception, expiration }
    }

    #[test]
    fn a_server_that_could_not_be_asked_is_as_it_was() {
        let health = |states: [ServerState; 2]| Health {
            servers: ["192.0.2.1", "192.0.2.2"]
                .into_iter()
                .zip(states)
                .map(|(server, state)| ServerHealth { server: server.parse().unwrap(), state })
                .collect(),
        };
        let not_asked = || ServerState::Failed(SelfTestFailure::NotAsked(Scarcity::OwnDescriptors));
        let before = health([ServerState::Good, ServerState::Failed(SelfTestFailure::TimesOut)]);
        assert_eq!(health([not_asked(), not_asked()]).or_as_before(&before), before);
        let changed = health([ServerState::Failed(SelfTestFailure::TimesOut), ServerState::Good]);
        assert_eq!(changed.clone().or_as_before(&before), changed);
        // A server that was never asked has no other state.
        assert_eq!(
            health([not_asked(), ServerState::Good]).or_as_before(&Health { servers: vec![] }).servers[0].state,
            not_asked()
        );
        assert_eq!(
            unanswered(FailureReason::Scarce(Scarcity::OwnDescriptors)),
            SelfTestFailure::NotAsked(Scarcity::OwnDescriptors)
        );
    }

    #[test]
    fn a56_a_clock_that_is_off_is_told_by_the_signatures() {
        //
        let now = 1_800_000_000;
        let valid = from_to(now - DAY, now + DAY);
        let future = from_to(now + 3 * DAY, now + 10 * DAY);
        let past = from_to(now - 10 * DAY, now - 3600);
        let days = |days: u32| Duration::from_secs(u64::from(days * DAY));
        assert_eq!(clock(&[], now), None);
        assert_eq!(clock(&[future, valid, past], now), None);
        assert_eq!(clock(&[future], now), Some(Clock::Behind(days(3))));
        assert_eq!(clock(&[past, future], now), Some(Clock::Ahead(Duration::from_secs(3600))));
        // RFC 1982: in 2106 the count begins anew.
        assert_eq!(clock(&[from_to(u32::MAX - DAY, DAY)], 5), None);
        assert_eq!(clock(&[from_to(3 * DAY - 1, 9 * DAY)], u32::MAX), Some(Clock::Behind(days(3))));
    }

    #[test]
    fn failures_in_an_operators_words() {
        let seconds = Duration::from_secs;
        for (ailment, text) in [
            (SelfTestFailure::StripsDnssec, "strips DNSSEC records"),
            (SelfTestFailure::TimesOut, "times out"),
            (SelfTestFailure::Answers("REFUSED".to_owned()), "answers REFUSED"),
            (SelfTestFailure::NoTlsa("it".to_owned()), "does not answer TLSA (it)"),
            (
                SelfTestFailure::ClockOff(Clock::Behind(seconds(259_200))),
                "clock is off by at least 3 days: by this machine's clock the root's signatures are not valid yet",
            ),
            (
                SelfTestFailure::ClockOff(Clock::Ahead(seconds(90))),
                "clock is off by at least 90 s: by this machine's clock the root's signatures have expired",
            ),
        ] {
            assert_eq!(ailment.to_string(), text);
        }
    }
}
