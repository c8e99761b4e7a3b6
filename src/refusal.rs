//! Why mail was not passed on: every "no" of the road, as a type, and the one place that says what it is called.
//!
//! A [`Reason`] is made where the decision falls. What the client is told, what the log calls it and what RFC 8460
//! calls it are views of the same value, all in [`Reason::view`]: a new reason does not compile until it has all three.
//!
//! | situation | reply | why |
//! |---|---|---|
//! | a lookup failed | 451 4.4.3, for TLSA 4.7.5 | RFC 7672 §2.1.2: delay, never guess |
//! | STARTTLS missing or refused | 451 4.7.4 | a stripped STARTTLS looks just so |
//! | TLS failed or nothing matched | 451 4.7.5 | RFC 7672 §2.2 |
//! | no connection, no greeting | 451 4.4.1, 4.4.2 | says nothing about the mail |
//! | the DNS says nobody takes this mail | 550 5.4.4, 556 5.1.10 | RFC 5321 §5.1, RFC 7505 §4 |

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::dane::mismatch::Mismatch;
use crate::dns::Failure;
use crate::mx::NoRoute;
use crate::name::Name;
use crate::policy::DaneRequired;
use crate::smtp::reply::{Code, EnhancedCode, Reply, ReplyError};
use crate::tls::TlsFailure;

/// One exchange, or one address of it, or the whole domain, that mail did not go to.
#[derive(Debug, thiserror::Error)]
#[error("{at}{reason}")]
pub struct Refusal {
    /// Where it happened.
    pub at: Place,
    /// What happened.
    pub reason: Reason,
}

/// Where a refusal happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Before any host was known.
    Domain,
    /// At a host of which no address was dialled.
    Host(Name),
    /// At one address of a host.
    Peer(Peer),
}

/// A remote mail server: the unexpanded name of the exchange, and the address that was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The name in the MX record.
    pub exchange: Name,
    /// The address.
    pub address: IpAddr,
}

/// What happened, from the first lookup to the last EHLO.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A lookup did not end in an answer.
    #[error("{0}")]
    Dns(#[from] Failure),
    /// The DNS says that nobody takes this domain's mail.
    #[error("{0}")]
    NoRoute(#[from] NoRoute),
    /// The host has no address.
    #[error("the host has no address")]
    NoAddress,
    /// All addresses of the host are in ranges where no public mail server is.
    #[error("the host has only reserved addresses ({0}); list the range in remote.allow_reserved if this is meant")]
    ReservedAddress(IpAddr),
    /// The level is `dane-only`, and the host has nothing to be authenticated by.
    #[error("{0}")]
    DaneRequired(#[from] DaneRequired),
    /// The TCP connection failed.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The greeting was not 220.
    #[error("the greeting was {0}")]
    Greeting(Reply),
    /// EHLO was refused, so that TLS cannot be had.
    #[error("EHLO was refused with {0}, and TLS is required")]
    Ehlo(Reply),
    /// The host does not offer STARTTLS: an attacker on the way may have taken the offer out.
    #[error("TLS is required, but was not offered")]
    StartTlsMissing,
    /// STARTTLS was answered with something else than 220.
    #[error("TLS is required, but STARTTLS was answered with {0}")]
    StartTlsRefused(Reply),
    /// There was plaintext behind the answer to STARTTLS: somebody on the way wants it read as if it came under TLS.
    #[error("plaintext was injected behind the answer to STARTTLS")]
    StartTlsInjected,
    /// The handshake failed, or the certificate did not match.
    #[error("{0}")]
    Tls(#[from] TlsFailure),
    /// EHLO was refused under TLS.
    #[error("EHLO under TLS was refused with {0}")]
    EhloUnderTls(Reply),
    /// The remote took too long.
    #[error("no answer to {stage} within {limit:?}")]
    Timeout {
        /// What was being waited for.
        stage: Stage,
        /// How long.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection was lost at {stage} ({error})")]
    Lost {
        /// Where in the session.
        stage: Stage,
        /// What the system says.
        error: std::io::Error,
    },
    /// The remote does not speak SMTP.
    #[error("the answer to {stage} breaks the protocol ({error})")]
    Protocol {
        /// Where in the session.
        stage: Stage,
        /// What is wrong with the answer.
        error: ReplyError,
    },
    /// The remote answered before it was asked: replies can no longer be matched to commands.
    #[error("the remote sent a reply nobody asked for, before {0}")]
    Unsolicited(Stage),
    /// The remote ends the session by itself: 421 may come at any time (RFC 5321 §3.8).
    #[error("the remote closes the session: {0}")]
    Closing(Reply),
    /// A well-formed reply that cannot be the answer to this command.
    #[error("{reply} is no answer to {stage}")]
    WrongAnswer {
        /// What was asked.
        stage: Stage,
        /// What was answered.
        reply: Reply,
    },
    /// There are more exchanges than are ever tried.
    #[error("{0} more exchanges were not tried")]
    NotTried(usize),
    /// The time for the whole road was used up before this host's turn.
    #[error("no time was left to try it")]
    OutOfTime,
}

/// The steps of a session with a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The TCP connection.
    Connect,
    /// Waiting for the greeting.
    Greeting,
    /// EHLO in the clear.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// EHLO under TLS.
    EhloUnderTls,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The message.
    Message,
    /// The end of the message.
    EndOfMessage,
}

/// What a reason is called, to the client and to RFC 8460.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The reply code.
    pub code: Code,
    /// The enhanced status code (RFC 3463).
    pub enhanced: EnhancedCode,
    /// The name in log lines and metrics.
    pub label: &'static str,
    /// The result type of RFC 8460 §4.3, for those failures that are reported.
    pub result_type: Option<&'static str>,
}

impl Reason {
    /// Everything this reason is called.
    pub fn view(&self) -> View {
        let deferred = |subject, detail, label, result_type| View {
            code: Code::LOCAL_ERROR,
            enhanced: EnhancedCode::transient(subject, detail),
            label,
            result_type,
        };
        let refused = |code, subject, detail, label| View {
            code,
            enhanced: EnhancedCode::permanent(subject, detail),
            label,
            result_type: None,
        };
        match self {
            Self::Dns(failure) => match failure.rtype {
                "TLSA" => deferred(7, 5, "tlsa-lookup-failed", Some("dnssec-invalid")),
                "MX" => deferred(4, 3, "mx-lookup-failed", Some("dnssec-invalid")),
                _ => deferred(4, 3, "address-lookup-failed", Some("dnssec-invalid")),
            },
            Self::NoRoute(NoRoute::NoDomain(_)) => refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-domain"),
            Self::NoRoute(NoRoute::NullMx(_)) => refused(Code::DOMAIN_TAKES_NO_MAIL, 1, 10, "null-mx"),
            Self::NoRoute(NoRoute::NoHost(_)) => refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-host"),
            Self::NoRoute(NoRoute::Loop(..)) => refused(Code::TRANSACTION_FAILED, 4, 6, "mail-loop"),
            Self::NoAddress => refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-address"),
            Self::ReservedAddress(_) => refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "reserved-address"),
            Self::DaneRequired(_) => deferred(7, 5, "dane-required", Some("dane-required")),
            Self::Connect(_) => deferred(4, 1, "connect-failed", None),
            Self::Greeting(_) => deferred(4, 1, "greeting-refused", None),
            Self::Ehlo(_) => deferred(7, 4, "ehlo-refused", Some("starttls-not-supported")),
            Self::StartTlsMissing => deferred(7, 4, "starttls-missing", Some("starttls-not-supported")),
            Self::StartTlsRefused(_) => deferred(7, 4, "starttls-refused", Some("starttls-not-supported")),
            Self::StartTlsInjected => deferred(7, 5, "starttls-injected", Some("validation-failure")),
            Self::Tls(failure) => deferred(7, 5, failure.label(), result_type(failure)),
            Self::EhloUnderTls(_) => deferred(4, 1, "ehlo-under-tls-refused", None),
            Self::Timeout { stage: Stage::Handshake, .. } => {
                deferred(7, 5, "handshake-timeout", Some("validation-failure"))
            }
            Self::Timeout { stage: Stage::Connect, .. } => deferred(4, 1, "connect-timeout", None),
            // RFC 1047: the one moment at which nobody can know who has the message.
            Self::Timeout { stage: Stage::EndOfMessage, .. }
            | Self::Lost { stage: Stage::EndOfMessage, .. }
            | Self::Protocol { stage: Stage::EndOfMessage, .. }
            | Self::WrongAnswer { stage: Stage::EndOfMessage, .. } => deferred(4, 2, "final-reply-lost", None),
            Self::Timeout { .. } => deferred(4, 2, "remote-timeout", None),
            Self::Lost { .. } => deferred(4, 2, "connection-lost", None),
            Self::Protocol { .. } => deferred(5, 0, "protocol-error", None),
            Self::WrongAnswer { .. } => deferred(5, 0, "protocol-error", None),
            Self::Closing(_) => deferred(3, 2, "remote-closing", None),
            Self::Unsolicited(_) => deferred(5, 0, "unsolicited-reply", None),
            Self::OutOfTime => deferred(4, 1, "out-of-time", None),
            Self::NotTried(_) => deferred(4, 1, "exchanges-not-tried", None),
        }
    }

    /// Whether the host could not be had under TLS, and might be had without: a question for the level `may` alone.
    pub fn is_about_tls(&self) -> bool {
        match self {
            Self::StartTlsMissing | Self::StartTlsRefused(_) | Self::StartTlsInjected | Self::Tls(_) => true,
            Self::Timeout { stage, .. } | Self::Lost { stage, .. } | Self::Protocol { stage, .. } => {
                matches!(stage, Stage::StartTls | Stage::Handshake)
            }
            Self::Dns(_)
            | Self::NoRoute(_)
            | Self::NoAddress
            | Self::ReservedAddress(_)
            | Self::DaneRequired(_)
            | Self::Connect(_)
            | Self::Greeting(_)
            | Self::Ehlo(_)
            | Self::EhloUnderTls(_)
            | Self::Unsolicited(_)
            | Self::Closing(_)
            | Self::WrongAnswer { .. }
            | Self::NotTried(_)
            | Self::OutOfTime => false,
        }
    }

    /// Whether an ordinary opportunistic server would have gone on: a question for the mode `observe` alone. It too needs
    /// the MX records and an address.
    pub fn is_waived_by_observing(&self) -> bool {
        match self {
            Self::DaneRequired(_) => true,
            Self::Dns(failure) => failure.rtype == "TLSA",
            reason => reason.is_about_tls(),
        }
    }

    /// How much this reason tells about the failure of a whole domain, when hosts failed for different reasons:
    /// security before the DNS, the DNS before the network, and what is final only where nothing else is left.
    fn weight(&self) -> u8 {
        let view = self.view();
        match (view.code.is_permanent(), view.enhanced.subject()) {
            (true, _) => 0,
            (false, 7) => 3,
            (false, _) if view.label.ends_with("-lookup-failed") => 2,
            (false, _) => 1,
        }
    }
}

/// The result types of RFC 8460 §4.3 for a failed handshake. A broken connection is an outage and is not reported.
fn result_type(failure: &TlsFailure) -> Option<&'static str> {
    match failure {
        TlsFailure::Mismatch(Mismatch::Name { .. }) => Some("certificate-host-mismatch"),
        TlsFailure::Mismatch(Mismatch::Expired(_) | Mismatch::NotYetValid(_)) => Some("certificate-expired"),
        TlsFailure::Mismatch(
            Mismatch::NoCertificate
            | Mismatch::ChainTooLarge { .. }
            | Mismatch::NoRecord(_)
            | Mismatch::KeySize(..)
            | Mismatch::Path(..),
        )
        | TlsFailure::WrongKey
        | TlsFailure::SmallKey(_)
        | TlsFailure::UnsupportedKey => Some("certificate-not-trusted"),
        TlsFailure::NoSharedParameters(_) | TlsFailure::Injected | TlsFailure::Alert(_) | TlsFailure::Broken(_) => {
            Some("validation-failure")
        }
        TlsFailure::Closed(_) => None,
    }
}

impl Refusal {
    /// A refusal that concerns the whole domain.
    pub fn domain(reason: impl Into<Reason>) -> Self {
        Self { at: Place::Domain, reason: reason.into() }
    }

    /// A refusal of a host, whatever its addresses.
    pub fn host(name: &Name, reason: impl Into<Reason>) -> Self {
        Self { at: Place::Host(name.clone()), reason: reason.into() }
    }

    /// A refusal at one address.
    pub fn peer(peer: &Peer, reason: impl Into<Reason>) -> Self {
        Self { at: Place::Peer(peer.clone()), reason: reason.into() }
    }
}

/// All that was tried for one transaction, in order.
#[derive(Debug, Default)]
pub struct Refusals(Vec<Refusal>);

impl Refusals {
    /// Adds what happened next.
    pub fn push(&mut self, refusal: Refusal) {
        self.0.push(refusal);
    }

    /// Adds all that happened at one exchange.
    pub fn extend(&mut self, refusals: Self) {
        self.0.extend(refusals.0);
    }

    /// In the order they happened.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }

    /// The refusal that speaks for all: the weightiest, and of equals the first.
    pub fn main(&self) -> Option<&Refusal> {
        self.0.iter().rev().max_by_key(|refusal| refusal.reason.weight())
    }

    /// What the client is told: one line for each thing that was tried, under the code of the weightiest.
    pub fn verdict(&self) -> Reply {
        match self.main() {
            Some(main) => {
                let view = main.reason.view();
                // A long list would not fit a client's log; the log event has it whole.
                let lines = self.0.iter().take(MAX_LINES).map(ToString::to_string);
                Reply::multiline(view.code, Some(view.enhanced), lines)
            }
            // A route has at least one exchange, and each that was not reached left a refusal.
            None => Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 1), "no mail exchanger could be tried"),
        }
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

/// Lines of a reply that lists refusals.
const MAX_LINES: usize = 8;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain => Ok(()),
            Self::Host(name) => write!(f, "{name}: "),
            Self::Peer(peer) => write!(f, "{peer}: "),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.exchange, self.address)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connection attempt",
            Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Handshake => "the TLS handshake",
            Self::EhloUnderTls => "EHLO under TLS",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Message => "the message",
            Self::EndOfMessage => "the end of the message",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dane::tlsa::NoDane;
    use crate::dns::FailureReason;
    use crate::smtp::reply::Class;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn failed(rtype: &'static str) -> Reason {
        Reason::Dns(Failure { name: name("example"), rtype, reason: FailureReason::Timeout })
    }

    fn broken() -> std::io::Error {
        std::io::ErrorKind::ConnectionReset.into()
    }

    fn no() -> Reply {
        Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), "no")
    }

    #[test]
    fn what_each_reason_is_called() {
        // N1, N3, N6, N7, X2, X3, decision 7.
        let limit = Duration::from_secs(1);
        let tls = |failure: TlsFailure| Reason::Tls(failure);
        for (reason, code, label, reported) in [
            (failed("MX"), "451 4.4.3", "mx-lookup-failed", Some("dnssec-invalid")),
            (failed("A"), "451 4.4.3", "address-lookup-failed", Some("dnssec-invalid")),
            (failed("TLSA"), "451 4.7.5", "tlsa-lookup-failed", Some("dnssec-invalid")),
            (NoRoute::NoDomain(name("x")).into(), "550 5.4.4", "no-domain", None),
            (NoRoute::NullMx(name("x")).into(), "556 5.1.10", "null-mx", None),
            (NoRoute::NoHost(name("x")).into(), "550 5.4.4", "no-host", None),
            (NoRoute::Loop(name("x"), name("y")).into(), "554 5.4.6", "mail-loop", None),
            (Reason::NoAddress, "550 5.4.4", "no-address", None),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), "550 5.4.4", "reserved-address", None),
            (DaneRequired(NoDane::NoTlsa).into(), "451 4.7.5", "dane-required", Some("dane-required")),
            (Reason::Connect(broken()), "451 4.4.1", "connect-failed", None),
            (Reason::Greeting(no()), "451 4.4.1", "greeting-refused", None),
            (Reason::Ehlo(no()), "451 4.7.4", "ehlo-refused", Some("starttls-not-supported")),
            (Reason::StartTlsMissing, "451 4.7.4", "starttls-missing", Some("starttls-not-supported")),
            (Reason::StartTlsRefused(no()), "451 4.7.4", "starttls-refused", Some("starttls-not-supported")),
            (Reason::StartTlsInjected, "451 4.7.5", "starttls-injected", Some("validation-failure")),
            (tls(TlsFailure::WrongKey), "451 4.7.5", "wrong-key", Some("certificate-not-trusted")),
            (
                tls(TlsFailure::Mismatch(Mismatch::NoCertificate)),
                "451 4.7.5",
                "no-certificate",
                Some("certificate-not-trusted"),
            ),
            (
                tls(TlsFailure::Mismatch(Mismatch::Name { found: vec![], wanted: vec![] })),
                "451 4.7.5",
                "name-mismatch",
                Some("certificate-host-mismatch"),
            ),
            (
                tls(TlsFailure::NoSharedParameters("x".into())),
                "451 4.7.5",
                "no-shared-tls-parameters",
                Some("validation-failure"),
            ),
            (tls(TlsFailure::Closed("x".into())), "451 4.7.5", "tls-closed", None),
            (
                Reason::Timeout { stage: Stage::Handshake, limit },
                "451 4.7.5",
                "handshake-timeout",
                Some("validation-failure"),
            ),
            (Reason::Timeout { stage: Stage::Connect, limit }, "451 4.4.1", "connect-timeout", None),
            (Reason::Timeout { stage: Stage::Mail, limit }, "451 4.4.2", "remote-timeout", None),
            (Reason::Timeout { stage: Stage::EndOfMessage, limit }, "451 4.4.2", "final-reply-lost", None),
            (Reason::Lost { stage: Stage::EndOfMessage, error: broken() }, "451 4.4.2", "final-reply-lost", None),
            (Reason::Lost { stage: Stage::Data, error: broken() }, "451 4.4.2", "connection-lost", None),
            (Reason::Unsolicited(Stage::Rcpt), "451 4.5.0", "unsolicited-reply", None),
            (Reason::Closing(no()), "451 4.3.2", "remote-closing", None),
            (Reason::OutOfTime, "451 4.4.1", "out-of-time", None),
            (Reason::NotTried(3), "451 4.4.1", "exchanges-not-tried", None),
        ] {
            let view = reason.view();
            assert_eq!(format!("{} {}", view.code, view.enhanced), code, "{reason:?}");
            assert_eq!((view.label, view.result_type), (label, reported), "{reason:?}");
            assert_eq!(view.code.class(), view.enhanced.class(), "{reason:?}");
        }
    }

    #[test]
    fn what_an_ordinary_server_would_not_have_minded() {
        // B9: what is about DANE or TLS, and never the MX records, the addresses or the network.
        let limit = Duration::from_secs(1);
        for (reason, waived) in [
            (failed("TLSA"), true),
            (DaneRequired(NoDane::NoTlsa).into(), true),
            (Reason::StartTlsMissing, true),
            (Reason::Tls(TlsFailure::WrongKey), true),
            (Reason::Timeout { stage: Stage::Handshake, limit }, true),
            (failed("MX"), false),
            (failed("A"), false),
            (Reason::NoAddress, false),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), false),
            (Reason::Connect(broken()), false),
            (Reason::Greeting(no()), false),
            (Reason::OutOfTime, false),
        ] {
            assert_eq!(reason.is_waived_by_observing(), waived, "{reason:?}");
        }
    }

    #[test]
    fn the_weightiest_reason_speaks_for_all() {
        let said = |reasons: Vec<Reason>| {
            let mut refusals = Refusals::default();
            for (index, reason) in reasons.into_iter().enumerate() {
                refusals.push(Refusal::host(&name(&format!("mx{index}.example")), reason));
            }
            refusals.verdict()
        };
        // A11: one host is final and another is not: the client tries again.
        let reply = said(vec![Reason::NoAddress, Reason::Connect(broken()), Reason::StartTlsMissing, failed("A")]);
        assert_eq!(reply.to_string().split(' ').take(2).collect::<Vec<_>>(), ["451", "4.7.4"]);
        // Each is named, in the order it was tried.
        assert_eq!(reply.lines().len(), 4);
        assert!(reply.lines()[2].starts_with("mx2.example: TLS is required, but was not offered"), "{reply:?}");
        // All final: final.
        assert_eq!(said(vec![Reason::NoAddress, Reason::NoAddress]).class(), Class::Permanent);
        // Nothing at all is never final.
        assert_eq!(said(vec![]).class(), Class::Transient);
    }
}
