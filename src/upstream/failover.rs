//! The failover rules: the next host for the mail after a failure, and the status of the address that failed
//! (RFC 5321 §5.1, §4.5.4.1).
//!
//! | the failure | mail goes to | the address is |
//! |---|---|---|
//! | the MX lookup failed; the domain has no route; too many connections to the domain or in all | no other host | - |
//! | this host is out of file descriptors or of memory for sockets, for a lookup or for a connection | no other host | as it was |
//! | an exchange turns out to be this host | no exchange behind it | - |
//! | its address or TLSA lookup failed, it has no address, none of `remote.families` or only reserved ones, `dane-only` or `secure` is not met, the STS policy does not list it or is not known, its share of the time is over | the next exchange | - |
//! | the source address cannot be bound; too many connections to this address | the next address | as it was |
//! | no connection | the next address | tried last |
//! | no answer to the connection attempt, greeting, EHLO, STARTTLS or handshake in full time | the next address | not tried again |
//! | the same in less than full time, because little was left | the next address | tried last |
//! | the greeting is 4yz, 5yz or no greeting; EHLO is refused or not answered with 250, in the clear or under TLS | the next address | tried last |
//! | the connection is lost, or the protocol broken, before MAIL | the next address | tried last |
//! | STARTTLS is missing, refused or followed by plaintext; the handshake failed, at the host's end too; the certificate does not match | the next address | as it was |
//! | before any answer to RCPT: 421, the connection lost, the protocol broken, an answer to another command, no answer in time | the next address | as it was |
//! | over a session that had mails before: MAIL is refused, each RCPT is answered with 4yz, DATA is refused that went with the RCPTs, or REQUIRETLS is lacking that the mail asks for | the same address, over a new session | as it was |
//! | MAIL is answered with 4yz | the next exchange | as it was |
//! | the address lacks an extension that the client has declared, REQUIRETLS that the mail asks for, or room for the message | the next address | as it was |
//! | MAIL is answered with 5yz; no RCPT is answered with 250; a failure at DATA or behind it | no other host | as it was |
//!
//! "The next address" is the next exchange where the exchange has no more. Once the client has heard an answer to RCPT, these
//! rules do not apply any more: the transaction is bound to its remote. A failure of TLS changes no order (RFC 7672 §2.2.1: the order is the
//! publisher's), and an answer about mail is never remembered (RFC 5321 §4.5.4.1).

use std::time::Duration;

use super::timeouts::Timeouts;
use crate::dns::{Failure, Rtype};
use crate::mx::{NoRoute, Route, RoutePlace};
use crate::refusal::{Cap, Lacking, Reason, SessionPhase, Stage, TlsFailure};
use crate::smtp::reply::{Class, Code, EnhancedCode, Reply};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverRule {
    /// Where the mail goes next.
    pub next: NextCandidate,
    /// The new status of the address.
    pub status: StatusChange,
}

/// Where the mail goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextCandidate {
    /// To the next address of this exchange; without one, to the next exchange.
    Address,
    /// To the next exchange.
    Exchange,
    /// To no other host: the failure is the answer.
    Stop,
}

/// The new status of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusChange {
    /// Its status stays as it was.
    Unchanged,
    /// It has failed: others are tried first.
    Failed,
    /// It did not answer in full time. In a storm of retries each mail would wait for it again.
    Unresponsive,
}

const STOP: FailoverRule = FailoverRule { next: NextCandidate::Stop, status: StatusChange::Unchanged };
const NEXT_EXCHANGE: FailoverRule = FailoverRule { next: NextCandidate::Exchange, status: StatusChange::Unchanged };
const NEXT_ADDRESS: FailoverRule = FailoverRule { next: NextCandidate::Address, status: StatusChange::Unchanged };
const FAILED: FailoverRule = FailoverRule { next: NextCandidate::Address, status: StatusChange::Failed };
const UNRESPONSIVE: FailoverRule = FailoverRule { next: NextCandidate::Address, status: StatusChange::Unresponsive };

/// The rule for a failure. `limits` has the full time of each stage.
pub fn rule(reason: &Reason, limits: &Timeouts) -> FailoverRule {
    if reason.scarcity().is_some() {
        // The next host would need lookups and sockets too.
        return STOP;
    }
    match reason {
        Reason::Dns(Failure { rtype: Rtype::MX, .. }) | Reason::Scarce(_) => STOP,
        Reason::NoRoute(
            NoRoute::NoDomain(_)
            | NoRoute::SpecialUse(..)
            | NoRoute::NullMx(_)
            | NoRoute::NoHost(_)
            | NoRoute::Loop(..)
            | NoRoute::NoPrimary(_),
        ) => STOP,
        Reason::Dns(_) | Reason::NoAddress | Reason::NotInFamily(_) => NEXT_EXCHANGE,
        Reason::ReservedAddress(_) | Reason::DaneRequired(_) => NEXT_EXCHANGE,
        // RFC 8461 §5: as a host that does not answer. Another exchange may have DANE, which asks for no policy.
        Reason::MxNotInPolicy { .. }
        | Reason::StsLookup(_)
        | Reason::StsNoTurn
        | Reason::UnsignedUnderSts
        | Reason::NotAuthenticated => NEXT_EXCHANGE,
        Reason::Busy(Cap::Domain(_) | Cap::All(_)) => STOP,
        Reason::Busy(Cap::Host(_)) | Reason::Bind { .. } | Reason::JustFailed { .. } => NEXT_ADDRESS,
        Reason::Connect(_) | Reason::Greeting(_) | Reason::Ehlo(_) | Reason::EhloInDoubt { .. } => FAILED,
        Reason::EhloName { .. } | Reason::EhloUnderTls(_) => FAILED,
        Reason::StartTlsMissing | Reason::StartTlsRefused(_) | Reason::StartTlsInjected => NEXT_ADDRESS,
        Reason::Tls(failure) => after_tls(failure),
        Reason::Timeout { stage, limit } => after_timeout(*stage, *limit, limits),
        Reason::Lost { stage, .. } | Reason::Protocol { stage, .. } => after_break(*stage),
        Reason::Unsolicited(stage) | Reason::WrongAnswer { stage, .. } => after_break(*stage),
        // RFC 5321 §3.8: only the session is over.
        Reason::Closing(_) => NEXT_ADDRESS,
        Reason::Refused { stage, reply } => after_refusal(*stage, reply),
        // RFC 5321 §2.2.3, RFC 8689 §4.2.1: another host may have the extension, and the addresses of an exchange may be
        // hosts of their own. If none has it, the mail goes without it, or back.
        Reason::Lacking(_) => NEXT_ADDRESS,
        // The message is not here any more.
        Reason::BdatRefused(_) | Reason::AnsweredUnread { .. } => STOP,
        Reason::OutOfTime | Reason::NotTried(_) | Reason::NotAsked(_) => NEXT_EXCHANGE,
    }
}

fn after_tls(failure: &TlsFailure) -> FailoverRule {
    match failure {
        TlsFailure::Closed(_) => FAILED,
        TlsFailure::Mismatch(_)
        | TlsFailure::NoSharedParameters(_)
        | TlsFailure::WrongKey
        | TlsFailure::SmallKey(_)
        | TlsFailure::UnsupportedKey
        | TlsFailure::Injected
        | TlsFailure::NameNotKnown
        | TlsFailure::Alert(_)
        | TlsFailure::Broken(_) => NEXT_ADDRESS,
    }
}

fn after_timeout(stage: Stage, limit: Duration, limits: &Timeouts) -> FailoverRule {
    match full(stage, limits) {
        Some(full) if limit < full => FAILED,
        Some(_) => UNRESPONSIVE,
        None => after_break(stage),
    }
}

/// After the end of the connection, or a breach of the protocol.
fn after_break(stage: Stage) -> FailoverRule {
    match stage.phase() {
        SessionPhase::Connection | SessionPhase::Handshake | SessionPhase::Greeting => FAILED,
        SessionPhase::Envelope => NEXT_ADDRESS,
        SessionPhase::Message | SessionPhase::EndOfMessage => STOP,
    }
}

/// RFC 5321 §4.5.4.1: 4yz is about this host and this time, 5yz is about the mail. A refusal of RCPT comes here only as long as
/// the client has not heard it: from a remote that is worse than others, or over a session that had mails before.
fn after_refusal(stage: Stage, reply: &Reply) -> FailoverRule {
    match stage.phase() {
        SessionPhase::Message | SessionPhase::EndOfMessage => STOP,
        SessionPhase::Connection | SessionPhase::Handshake | SessionPhase::Greeting | SessionPhase::Envelope => {
            if reply.class() == Class::Permanent { STOP } else { NEXT_EXCHANGE }
        }
    }
}

/// Whether a refusal may be about the session, if it had mails before, and not about the host or the mail: the remote may
/// allow no more mails over it, or still expect another command. A 5yz to RCPT is about the recipient, and one to a message
/// about the message; so is a 4.1.x or 4.2.x to RCPT, which speaks of the address or the mailbox (RFC 3463 §3.2, §3.3).
pub(crate) fn may_be_of_the_session(stage: Stage, reply: &Reply) -> bool {
    match stage {
        Stage::Mail | Stage::Data => reply.code().is_refusal(),
        Stage::Rcpt => {
            let is_about_recipient = |enhanced: EnhancedCode| matches!(enhanced.subject(), 1 | 2);
            let is_delay = reply.class() == Class::Transient && !reply.enhanced().is_some_and(is_about_recipient);
            is_delay || reply.code() == Code::BAD_SEQUENCE
        }
        Stage::Message | Stage::EndOfMessage => reply.class() == Class::Transient,
        Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Handshake | Stage::EhloUnderTls => {
            false
        }
    }
}

/// Whether the reason may be about a session that had mails before and not about the host or the mail, so that a new session is the
/// answer. `next` is where the mail would go by its rule.
pub(super) fn asks_for_new_session(next: NextCandidate, reason: &Reason) -> bool {
    if let Reason::Refused { stage, reply } = reason {
        return may_be_of_the_session(*stage, reply);
    }
    // Where the session broke, the row of the reason says whether that is of this address alone.
    let Reason::Lacking(lacking) = reason else { return next == NextCandidate::Address };
    match lacking {
        // It offered none when it began, and the host may by now: mail does not bounce for an old answer.
        Lacking::RequireTls => true,
        // The host offers the same extensions in a new session.
        Lacking::EightBitMime | Lacking::SmtpUtf8 | Lacking::SmtpUtf8Header => false,
        Lacking::Authentication | Lacking::Size(_) => false,
    }
}

/// The reason to defer mail of a domain for which this host is a backup exchange: those before it have no address, and that is all
/// there is against them. A backup is there to keep the mail meanwhile (RFC 5321 §5.1), and Postfix defers it too. An exchange of the
/// same preference is not before it: that one may have been tried first, by the random order of the two.
pub(crate) fn without_primary(route: &Route, reasons: &[&Reason]) -> Option<Reason> {
    let has_no_address = |reason: &&Reason| matches!(reason, Reason::NoAddress | Reason::ReservedAddress(_));
    let here = reasons.iter().find_map(|reason| match reason {
        Reason::NoRoute(NoRoute::Loop(_, exchange)) => Some(exchange),
        _ => None,
    });
    let is_backup = here.map_or(route.place() == RoutePlace::Behind, |exchange| !route.is_best(exchange));
    let of_primaries = reasons.iter().any(has_no_address);
    let is_here = |reason: &&Reason| matches!(reason, Reason::NoRoute(NoRoute::Loop(..)));
    let is_all = reasons.iter().all(|reason| has_no_address(reason) || is_here(reason));
    (is_backup && of_primaries && is_all).then(|| NoRoute::NoPrimary(route.next_hop.clone()).into())
}

/// The full time of a stage before MAIL, where enough time is left.
fn full(stage: Stage, limits: &Timeouts) -> Option<Duration> {
    match stage.phase() {
        SessionPhase::Connection => Some(limits.connect),
        SessionPhase::Handshake => Some(limits.handshake),
        SessionPhase::Greeting => Some(limits.greeting),
        SessionPhase::Envelope | SessionPhase::Message | SessionPhase::EndOfMessage => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DEFAULTS};
    use crate::dane::mismatch::Mismatch;
    use crate::dane::tlsa::NoDane;
    use crate::dns::{FailureReason, Families};
    use crate::name::Name;
    use crate::policy::DaneRequired;
    use crate::refusal::FailedPart;
    use crate::scarce::Scarcity;

    fn reply(number: u16) -> Reply {
        Reply::plain(Code::new(number).unwrap(), "so")
    }

    fn broken() -> std::io::Error {
        std::io::ErrorKind::ConnectionReset.into()
    }

    fn refused(stage: Stage, number: u16) -> Reason {
        Reason::Refused { stage, reply: reply(number) }
    }

    fn failure(rtype: &str) -> Reason {
        Failure { name: Name::parse("x").unwrap(), rtype: rtype.parse().unwrap(), reason: FailureReason::Timeout }
            .into()
    }

    fn unasked(rtype: &str) -> Reason {
        Failure { name: Name::parse("x").unwrap(), rtype: rtype.parse().unwrap(), reason: Scarcity::Descriptors.into() }
            .into()
    }

    #[test]
    fn refusals_that_may_be_about_the_session() {
        // K20.
        for (stage, number, may_be) in [
            (Stage::Mail, 250, false),
            (Stage::Mail, 452, true),
            (Stage::Mail, 503, true),
            (Stage::Mail, 550, true),
            (Stage::Rcpt, 250, false),
            (Stage::Rcpt, 451, true),
            (Stage::Rcpt, 503, true),
            (Stage::Rcpt, 550, false),
            (Stage::Data, 354, false),
            (Stage::Data, 451, true),
            (Stage::Data, 503, true),
            (Stage::Message, 452, true),
            (Stage::Message, 554, false),
            (Stage::EndOfMessage, 250, false),
            (Stage::EndOfMessage, 452, true),
            (Stage::EndOfMessage, 554, false),
            (Stage::Ehlo, 451, false),
        ] {
            assert_eq!(may_be_of_the_session(stage, &reply(number)), may_be, "{stage} {number}");
        }
        for (subject, may_be) in [(0, true), (1, false), (2, false), (3, true), (4, true), (5, true), (7, true)] {
            let no = Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(subject, 2), "no");
            assert_eq!(may_be_of_the_session(Stage::Rcpt, &no), may_be, "{no}");
        }
    }

    #[test]
    fn the_table() {
        use NextCandidate::{Address, Exchange, Stop};
        use StatusChange::{Failed, Unchanged, Unresponsive};
        // K4, K12, K15, K16, K17, M22, A-105.
        let limits = Timeouts::from(&DEFAULTS.parse::<toml::Table>().unwrap().try_into::<Config>().unwrap());
        let name = || Name::parse("x").unwrap();
        let waited = |stage, limit| Reason::Timeout { stage, limit };
        let little = Duration::from_secs(1);
        let mut rows = vec![
            (failure("MX"), Stop, Unchanged),
            (NoRoute::NoDomain(name()).into(), Stop, Unchanged),
            (NoRoute::absent(name(), &Name::parse("x.invalid").unwrap()).into(), Stop, Unchanged),
            (NoRoute::NullMx(name()).into(), Stop, Unchanged),
            (NoRoute::NoHost(name()).into(), Stop, Unchanged),
            (Reason::Busy(Cap::Domain(1)), Stop, Unchanged),
            (Reason::Busy(Cap::All(1)), Stop, Unchanged),
            (NoRoute::Loop(name(), name()).into(), Stop, Unchanged),
            (NoRoute::NoPrimary(name()).into(), Stop, Unchanged),
            (Scarcity::OwnDescriptors.into(), Stop, Unchanged),
            (Scarcity::Memory.into(), Stop, Unchanged),
            (unasked("A"), Stop, Unchanged),
            (unasked("TLSA"), Stop, Unchanged),
            (failure("A"), Exchange, Unchanged),
            (failure("TLSA"), Exchange, Unchanged),
            (Reason::NoAddress, Exchange, Unchanged),
            (Reason::NotInFamily(Families::Ipv6), Exchange, Unchanged),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), Exchange, Unchanged),
            (DaneRequired(NoDane::NoTlsa).into(), Exchange, Unchanged),
            (Reason::MxNotInPolicy { policy: "1".into(), exchange: name() }, Exchange, Unchanged),
            (Reason::StsNoTurn, Exchange, Unchanged),
            (Reason::UnsignedUnderSts, Exchange, Unchanged),
            (Reason::NotAuthenticated, Exchange, Unchanged),
            (Reason::Lacking(Lacking::RequireTls), Address, Unchanged),
            (Reason::Lacking(Lacking::Authentication), Address, Unchanged),
            (Reason::OutOfTime, Exchange, Unchanged),
            (Reason::Bind { from: [127, 0, 0, 1].into(), error: broken() }, Address, Unchanged),
            (Reason::Busy(Cap::Host(1)), Address, Unchanged),
            (Reason::JustFailed { why: "so".into(), ago: little, part: FailedPart::Other }, Address, Unchanged),
            (Reason::Connect(broken()), Address, Failed),
            (Reason::Greeting(reply(421)), Address, Failed),
            (Reason::Greeting(reply(554)), Address, Failed),
            (Reason::Greeting(reply(250)), Address, Failed),
            (Reason::Ehlo(reply(550)), Address, Failed),
            (Reason::Ehlo(reply(421)), Address, Failed),
            (Reason::EhloUnderTls(reply(550)), Address, Failed),
            (Reason::EhloInDoubt { name: "x".into(), reply: reply(504) }, Address, Failed),
            (Reason::EhloName { name: "x".into(), reply: reply(504) }, Address, Failed),
            (Reason::StartTlsMissing, Address, Unchanged),
            (Reason::StartTlsRefused(reply(454)), Address, Unchanged),
            (Reason::StartTlsInjected, Address, Unchanged),
            (TlsFailure::Mismatch(Mismatch::NoCertificate).into(), Address, Unchanged),
            (TlsFailure::WrongKey.into(), Address, Unchanged),
            (TlsFailure::NameNotKnown.into(), Address, Unchanged),
            (TlsFailure::Alert("so".into()).into(), Address, Unchanged),
            (TlsFailure::Closed("so".into()).into(), Address, Failed),
            (Reason::Closing(reply(421)), Address, Unchanged),
            (Reason::AnsweredUnread { reply: reply(250), octets: 1 }, Stop, Unchanged),
            (refused(Stage::Mail, 450), Exchange, Unchanged),
            (refused(Stage::Mail, 550), Stop, Unchanged),
            (refused(Stage::Rcpt, 450), Exchange, Unchanged),
            (refused(Stage::Rcpt, 550), Stop, Unchanged),
            (refused(Stage::Data, 450), Stop, Unchanged),
            (refused(Stage::Data, 550), Stop, Unchanged),
            (Reason::BdatRefused(reply(502)), Stop, Unchanged),
            (Reason::Lacking(Lacking::EightBitMime), Address, Unchanged),
            (Reason::Lacking(Lacking::SmtpUtf8), Address, Unchanged),
            (Reason::Lacking(Lacking::Size(9)), Address, Unchanged),
            (Reason::NotTried(1), Exchange, Unchanged),
            (Reason::NotAsked(1), Exchange, Unchanged),
            (Reason::Lacking(Lacking::SmtpUtf8Header), Address, Unchanged),
        ];
        for (stage, limit) in [
            (Stage::Connect, limits.connect),
            (Stage::Greeting, limits.greeting),
            (Stage::Ehlo, limits.greeting),
            (Stage::StartTls, limits.greeting),
            (Stage::Handshake, limits.handshake),
            (Stage::EhloUnderTls, limits.greeting),
        ] {
            rows.extend([
                (waited(stage, limit), Address, Unresponsive),
                (waited(stage, limit - little), Address, Failed),
                (Reason::Lost { stage, error: broken() }, Address, Failed),
                (Reason::Unsolicited(stage), Address, Failed),
                (Reason::WrongAnswer { stage, reply: reply(220) }, Address, Failed),
            ]);
        }
        for stage in [Stage::Mail, Stage::Rcpt] {
            rows.extend([
                (waited(stage, limits.command), Address, Unchanged),
                (Reason::Lost { stage, error: broken() }, Address, Unchanged),
                (Reason::WrongAnswer { stage, reply: reply(354) }, Address, Unchanged),
            ]);
        }
        for stage in [Stage::Data, Stage::Message, Stage::EndOfMessage] {
            rows.extend([
                (waited(stage, limits.data), Stop, Unchanged),
                (Reason::Lost { stage, error: broken() }, Stop, Unchanged),
                (Reason::WrongAnswer { stage, reply: reply(250) }, Stop, Unchanged),
            ]);
        }
        for (reason, next, status) in rows {
            assert_eq!(rule(&reason, &limits), FailoverRule { next, status }, "{reason:?}");
        }
    }
}
