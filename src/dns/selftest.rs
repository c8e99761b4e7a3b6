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
//! A server whose AD bit is to be trusted must also leave it clear where it has to: `10.in-addr.arpa` is an unsigned
//! delegation (RFC 7534 §3.4), or a zone that the resolver itself serves unsigned (RFC 6303 §4.1). A server that sets AD
//! there, in a reply without one signature, sets it without having validated. Where a root has no such zone, its
//! denial is signed and proves nothing about the server, nor does an error: the test needs no zone of others to be up.
//!
//! A server is asked over TCP, too. One that answers over UDP alone passes, with a warning: it serves all mail but that
//! to names with large answers, and these lookups fail, which defers the mail and never weakens a policy. The verdict does
//! not wait for this.
//!
//! Where a probe fails, the bare reply is read once more. It is only reported; no decision rests on it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::FailureReason;
use super::Security;
use super::backend::{Backend, BackendFactory};
use super::budget::LookupBudget;
use super::canonical::CanonicalName;
use super::denial::Denied;
use super::links::{Link, Question};
use super::reply::{Rtype, SignatureValidity, Traces};
use super::server::{NameServer, ResolverMode, Transport};
use super::validating::convert;
use crate::scarce::Scarcity;

/// The labels of a name in a zone that is not signed.
const UNSIGNED: [&[u8]; 3] = [b"10", b"in-addr", b"arpa"];

/// That danelaw's own resolver serves, in an operator's words.
pub const FALLEN_BACK: &str =
    "no resolver passes the self-test: danelaw asks the authoritative servers itself (dns.fallback)";

/// The result of the self-test for all servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Each server, in the order of the configuration.
    pub servers: Vec<ServerHealth>,
    /// danelaw's own resolver, if it serves while none of them passes. It is tested only then.
    pub fallback: Option<ServerHealth>,
}

/// A self-test of all servers that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTested {
    /// When it began.
    pub began: Instant,
    /// Whether lookups could succeed by it: see [`Health::resolves`].
    pub resolves: bool,
}

/// The result of the self-test for one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Which.
    pub server: NameServer,
    /// How it is.
    pub state: ServerState,
    /// Why it does not answer over TCP, if it was asked and does not.
    pub no_tcp: Option<FailureReason>,
}

/// The verdict of the self-test on one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerVerdict {
    pub(super) server: NameServer,
    pub(super) state: ServerState,
}

/// Whether one server answers over TCP, where answers go that are too long for UDP (RFC 7766 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OverTcp {
    pub(super) server: NameServer,
    /// Why it does not.
    pub(super) failure: Option<FailureReason>,
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
    /// No root server answers, so that no question can be asked without a resolver.
    #[error("{0}")]
    NoRoot(FailureReason),
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
    /// It is to validate for us, and vouches for more than it can.
    #[error("sets the AD bit on unsigned answers")]
    VouchesForUnsigned,
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
    pub(super) fn untested(servers: Vec<NameServer>, fallback: Option<NameServer>) -> Self {
        let servers = servers.into_iter().map(ServerHealth::untested).collect();
        Self { servers, fallback: fallback.map(ServerHealth::untested) }
    }

    /// The servers of this list as they are known, and untested where they are not. Of a server that does not pass it is not
    /// told any more whether it answered over TCP.
    pub(super) fn of_list(&self, servers: &[NameServer]) -> Self {
        let known = |server: &NameServer| match self.of(server) {
            Some(known) if known.state == ServerState::Good => known.clone(),
            Some(known) => ServerHealth { no_tcp: None, ..known.clone() },
            None => ServerHealth::untested(server.clone()),
        };
        Self { servers: servers.iter().map(known).collect(), fallback: self.fallback.clone() }
    }

    /// Puts a verdict in the place of the last one on the same server. One that could not be asked stays as it was.
    pub(super) fn learn(&mut self, verdict: &ServerVerdict) {
        if matches!(verdict.state, ServerState::Failed(SelfTestFailure::NotAsked(_))) {
            return;
        }
        self.known(&verdict.server).for_each(|known| known.state = verdict.state.clone());
        // The next time that it is needed, its network may be another one.
        if self.any_good() {
            self.fallback.iter_mut().for_each(|fallback| *fallback = ServerHealth::untested(fallback.server.clone()));
        }
    }

    /// Learns whether a server answers over TCP. That it does not is no reason to ask another one.
    pub(super) fn learn_over_tcp(&mut self, found: &OverTcp) {
        self.known(&found.server).for_each(|known| known.no_tcp.clone_from(&found.failure));
    }

    fn known(&mut self, server: &NameServer) -> impl Iterator<Item = &mut ServerHealth> {
        self.servers.iter_mut().chain(&mut self.fallback).filter(move |known| known.server == *server)
    }

    fn of(&self, server: &NameServer) -> Option<&ServerHealth> {
        self.servers.iter().chain(&self.fallback).find(|known| known.server == *server)
    }

    /// The state of one server.
    pub fn state_of(&self, server: &NameServer) -> Option<&ServerState> {
        self.of(server).map(|known| &known.state)
    }

    /// Whether every server has been tested, and the fallback where none passed.
    pub fn is_tested(&self) -> bool {
        let fallback = self.fallback.iter().filter(|_| !self.any_good());
        self.servers.iter().chain(fallback).all(|server| server.state != ServerState::Untested)
    }

    /// Whether every server passed, and there is one.
    pub fn all_good(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.state == ServerState::Good)
    }

    /// Whether a server passed.
    pub fn any_good(&self) -> bool {
        self.servers.iter().any(|server| server.state == ServerState::Good)
    }

    /// Whether danelaw's own resolver serves, because no server passes.
    pub fn falls_back(&self) -> bool {
        !self.any_good() && self.fallback.as_ref().is_some_and(|fallback| fallback.state == ServerState::Good)
    }

    /// Whether lookups can succeed: a server passes, or the fallback serves.
    pub fn resolves(&self) -> bool {
        self.any_good() || self.falls_back()
    }

    /// Whether no server has passed yet, and some may still.
    pub fn is_open(&self) -> bool {
        !self.is_tested() && !self.resolves()
    }

    /// Whether every server and the fallback failed, so that no lookup can succeed.
    pub fn is_bad(&self) -> bool {
        self.servers.iter().chain(&self.fallback).all(|server| match server.state {
            ServerState::Failed(_) => true,
            ServerState::Good | ServerState::Untested => false,
        })
    }
}

impl ServerHealth {
    fn untested(server: NameServer) -> Self {
        Self { server, state: ServerState::Untested, no_tcp: None }
    }
}

/// One thing to prove.
struct Probe {
    question: Question,
    proven: fn(&Link<Security>) -> Option<Security>,
}

/// Tests one server. A panic over its replies is a failure of the server: others are tested all the same.
pub(super) async fn examine(factory: &BackendFactory, server: NameServer) -> ServerVerdict {
    let proofs = async { tokio::join!(prove_all(factory, &server), unsigned(factory, &server)) };
    let state = match AssertUnwindSafe(proofs).catch_unwind().await {
        Ok((proven, unsigned)) => proven.and(unsigned).map_or_else(ServerState::Failed, |()| ServerState::Good),
        Err(_) => ServerState::Failed(SelfTestFailure::Unproven(FailureReason::malformed("danelaw panicked over it"))),
    };
    ServerVerdict { server, state }
}

/// Finds out whether a server answers over TCP.
pub(super) async fn over_tcp(factory: &BackendFactory, server: NameServer) -> OverTcp {
    let keys = Question { name: CanonicalName::root(), rtype: Rtype::DNSKEY };
    let failure = match factory.ask_over_tcp(&server, &keys).await {
        // That this host has no socket says nothing about the server.
        Ok(()) | Err(FailureReason::Scarce(_)) => None,
        Err(reason) => Some(reason),
    };
    OverTcp { server, failure }
}

async fn prove_all(factory: &BackendFactory, server: &NameServer) -> Result<(), SelfTestFailure> {
    factory.reach(server).await.map_err(|reason| match reason {
        FailureReason::Scarce(scarcity) => SelfTestFailure::NotAsked(scarcity),
        reason => SelfTestFailure::NoRoot(reason),
    })?;
    // One of its own, without the results of other servers.
    let backend = factory.backend(slice::from_ref(server), &Arc::default());
    for probe in probes() {
        match prove(factory, &backend, &probe).await {
            Ok(Security::Secure) => {}
            Ok(Security::Insecure) => return Err(not_secure(factory, server, &probe).await),
            Err(FailureReason::NotValidating) => return Err(SelfTestFailure::DoesNotValidate),
            Err(reason) => return Err(diagnose(factory, server, &probe, reason).await),
        }
    }
    Ok(())
}

/// Whether the server leaves AD clear where nothing is signed. RFC 4035 §3.2.1: with DO, the signatures come along.
async fn unsigned(factory: &BackendFactory, server: &NameServer) -> Result<(), SelfTestFailure> {
    match (factory.settings.mode, &server.transport) {
        (ResolverMode::Validate, _) | (ResolverMode::TrustAd, Transport::Recursion) => return Ok(()),
        (ResolverMode::TrustAd, Transport::Plain | Transport::Tls(_)) => {}
    }
    let name = CanonicalName::from_labels(UNSIGNED.into_iter());
    let question = Question { name, rtype: Rtype::SOA };
    let Ok(octets) = factory.ask(server, &question).await else { return Ok(()) };
    match (convert::vouched(&octets), convert::traces(&octets)) {
        (Ok((_, Security::Secure)), Ok(traces)) if traces.signatures.is_empty() => {
            Err(SelfTestFailure::VouchesForUnsigned)
        }
        (Ok((_, Security::Secure | Security::Insecure)) | Err(_), _) => Ok(()),
    }
}

fn probes() -> [Probe; 3] {
    let root = || CanonicalName::root();
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
    let mut budget = LookupBudget::new();
    let link = tokio::time::timeout(factory.settings.deadline, backend.link(&probe.question, &mut budget)).await;
    let link = link.unwrap_or(Err(FailureReason::Timeout))?;
    (probe.proven)(&link.value).ok_or_else(|| {
        let label = probe.question.rtype.label();
        FailureReason::Malformed(format!("the {label} question for {} has another answer", probe.question.name))
    })
}

/// A root that is insecure.
async fn not_secure(factory: &BackendFactory, server: &NameServer, probe: &Probe) -> SelfTestFailure {
    match (factory.settings.mode, &server.transport) {
        (ResolverMode::TrustAd, Transport::Plain | Transport::Tls(_)) => SelfTestFailure::DoesNotValidate,
        // Above the root there is no delegation: this is not reached unless the rules change.
        (ResolverMode::Validate, _) | (ResolverMode::TrustAd, Transport::Recursion) => {
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
    let traces = |octets: Vec<u8>| convert::traces(&octets);
    if let FailureReason::Scarce(scarcity) = reason {
        return SelfTestFailure::NotAsked(scarcity);
    }
    let bare = factory.ask(server, &probe.question).await.and_then(traces);
    if probe.question.rtype == Rtype::TLSA
        && let Err(failure) = &bare
        && !matches!(failure, FailureReason::Scarce(_))
    {
        // The same name with another type: whether it is the type that is not answered.
        let addresses = Question { name: probe.question.name.clone(), rtype: Rtype::A };
        if factory.ask(server, &addresses).await.and_then(traces).is_ok() {
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
        | FailureReason::NotValidating
        | FailureReason::DeniedByFallback
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
        SignatureValidity { inception, expiration, original_ttl: 0 }
    }

    fn health(states: &[ServerState]) -> Health {
        let servers = states.iter().zip(["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let servers = servers.map(|(state, server)| ServerHealth {
            server: server.parse().unwrap(),
            state: state.clone(),
            no_tcp: None,
        });
        Health { servers: servers.collect(), fallback: None }
    }

    #[test]
    fn a_server_that_could_not_be_asked_is_as_it_was() {
        let not_asked = ServerState::Failed(SelfTestFailure::NotAsked(Scarcity::OwnDescriptors));
        let before = health(&[ServerState::Good, ServerState::Failed(SelfTestFailure::TimesOut)]);
        for (verdict, after) in [
            ([not_asked.clone(), not_asked], before.clone()),
            (
                [ServerState::Failed(SelfTestFailure::TimesOut), ServerState::Good],
                health(&[ServerState::Failed(SelfTestFailure::TimesOut), ServerState::Good]),
            ),
        ] {
            let mut known = before.clone();
            for ServerHealth { server, state, .. } in health(&verdict).servers {
                known.learn(&ServerVerdict { server, state });
            }
            assert_eq!(known, after);
        }
        assert_eq!(
            unanswered(FailureReason::Scarce(Scarcity::OwnDescriptors)),
            SelfTestFailure::NotAsked(Scarcity::OwnDescriptors)
        );
    }

    #[test]
    fn the_test_is_open_until_one_server_passes_or_all_fail() {
        let (good, failed, untested) =
            (ServerState::Good, ServerState::Failed(SelfTestFailure::TimesOut), ServerState::Untested);
        for (states, open, bad) in [
            ([&untested, &untested, &untested], true, false),
            ([&failed, &untested, &untested], true, false),
            ([&failed, &untested, &good], false, false),
            ([&failed, &failed, &failed], false, true),
            ([&good, &good, &good], false, false),
        ] {
            let health = health(&states.map(Clone::clone));
            assert_eq!((health.is_open(), health.is_bad()), (open, bad), "{states:?}");
        }
    }

    #[test]
    fn a26_the_fallback_serves_while_no_server_passes() {
        // A26.
        let (good, failed, untested) =
            (ServerState::Good, ServerState::Failed(SelfTestFailure::TimesOut), ServerState::Untested);
        for (server, fallback, [open, bad, falls_back]) in [
            (&untested, &untested, [true, false, false]),
            (&failed, &untested, [true, false, false]),
            (&failed, &failed, [false, true, false]),
            (&failed, &good, [false, false, true]),
            (&untested, &good, [false, false, true]),
            (&good, &good, [false, false, false]),
        ] {
            let own = ServerHealth { state: fallback.clone(), ..ServerHealth::untested(NameServer::RECURSION) };
            let mut health = Health { fallback: Some(own), ..health(slice::from_ref(server)) };
            let found = [health.is_open(), health.is_bad(), health.falls_back()];
            assert_eq!(found, [open, bad, falls_back], "{server:?} {fallback:?}");
            // Once a server passes, the fallback is tested anew before it serves again.
            let server = health.servers[0].server.clone();
            health.learn(&ServerVerdict { server, state: good.clone() });
            assert_eq!((health.falls_back(), health.state_of(&NameServer::RECURSION)), (false, Some(&untested)));
        }
    }

    #[test]
    fn a_new_list_keeps_the_verdicts_on_its_servers() {
        let known = health(&[ServerState::Good, ServerState::Failed(SelfTestFailure::TimesOut)]);
        let list: Vec<NameServer> = ["192.0.2.9", "192.0.2.1"].map(|text| text.parse().unwrap()).into();
        let states: Vec<_> = known.of_list(&list).servers.into_iter().map(|server| server.state).collect();
        assert_eq!(states, [ServerState::Untested, ServerState::Good]);
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
            (SelfTestFailure::VouchesForUnsigned, "sets the AD bit on unsigned answers"),
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
