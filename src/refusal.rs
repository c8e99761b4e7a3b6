//! The reasons for which mail is not passed on, as types, and the one table of their names.
//!
//! A [`Reason`] is made where the decision falls. The reply to the client, the name in the log, the result type of RFC 8460
//! and the remedy are views of the same value: a [`Label`] and its row of the [`table`]. A new reason does not compile until
//! [`Reason::view`] has a row for it, and [`Reason::result_type`] a type. [`examples`] has a text of each for people to read.
//!
//! | situation | reply | why |
//! |---|---|---|
//! | a lookup failed | 451 4.4.3, for TLSA 4.7.5 | RFC 7672 §2.1.2: delay, never guess |
//! | STARTTLS missing or refused | 451 4.7.4 | a stripped STARTTLS looks just so |
//! | TLS failed or no record matched | 451 4.7.5 | RFC 7672 §2.2 |
//! | no connection, no greeting | 451 4.4.1, 4.4.2 | no statement about the mail |
//! | this host is out of file descriptors or memory | 451 4.3.0 | our own fault |
//! | too many connections | 451 4.4.5 | ours are bounded, and the client tries again |
//! | MAIL or RCPT answered with 4yz | the remote's own | RFC 5321 §4.2.1 |
//! | no exchange has the extension that the message needs | 554 5.6.3, 553 5.6.7, 554 5.6.9, 552 5.3.4 | RFC 6152 §3, RFC 6531 §3.5, RFC 1870 §6.1 |
//! | no exchange takes mail with REQUIRETLS, or none can be authenticated for it | 550 5.7.30, 550 5.7.10 | RFC 8689 §4.2.1 |
//! | the DNS says that no host takes this mail | 550 5.4.4, 556 5.1.10 | RFC 5321 §5.1, RFC 7505 §4 |

#[macro_use]
mod row;

pub mod examples;
pub mod rule_to_copy;
mod handshake;
mod lacking;
mod result_type;
mod own;
mod shortfall;
pub mod table;
mod urgency;
mod verdict;
mod views;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::digits::AddressText;
use crate::dns::{Failure, Families, Rtype};
use crate::mx::NoRoute;
use crate::name::Name;
use crate::policy::{DaneRequired, TlsPolicy};
use crate::scarce::Scarcity;
use crate::smtp::reply::{Reply, ReplyError};

pub use handshake::TlsFailure;
pub use lacking::Lacking;
pub use own::OwnRefusal;
pub use result_type::ResultType;
pub use row::{Silent, View};
pub use shortfall::Shortfall;
pub use table::Label;
pub use urgency::Urgency;
pub use verdict::Refusals;

/// One exchange, or one address of it, or the whole domain, that mail did not go to.
#[derive(Debug, thiserror::Error)]
#[error("{at}{reason}")]
pub struct Refusal {
    /// Where it happened.
    pub at: Place,
    /// The reason.
    pub reason: Reason,
    /// The policy that the session had to meet, by its name in log lines, where one was decided on.
    pub policy: Option<&'static str>,
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
    /// The port, if a rule names one in place of `remote.port`.
    pub port: Option<u16>,
}

/// An address with the port that a rule may name: the server of which a failure is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostEndpoint {
    /// The address.
    pub address: IpAddr,
    /// The port, if a rule names one.
    pub port: Option<u16>,
}

impl Peer {
    /// Where it is.
    pub fn endpoint(&self) -> HostEndpoint {
        HostEndpoint { address: self.address, port: self.port }
    }
}

/// The reason of a refusal, from the first lookup to the last EHLO.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A lookup did not end in an answer.
    #[error("{0}")]
    Dns(#[from] Failure),
    /// The DNS says that no host takes this domain's mail.
    #[error("{0}")]
    NoRoute(#[from] NoRoute),
    /// The host has no address.
    #[error("the host has no address")]
    NoAddress,
    /// The host has no address of the families that connections are made to.
    #[error("the host has no address of the family in remote.families (\"{0}\")")]
    NotInFamily(Families),
    /// All addresses of the host are in ranges where no public mail server is.
    #[error("the host has only reserved addresses ({0}); list the range in remote.allow_reserved if this is meant")]
    ReservedAddress(IpAddr),
    /// The level is `dane-only`, and DANE cannot authenticate the host.
    #[error("{0}")]
    DaneRequired(#[from] DaneRequired),
    /// The domain's MTA-STS policy does not list the exchange (RFC 8461 §4.1).
    #[error("the domain's STS policy {policy} does not list {exchange}")]
    MxNotInPolicy {
        /// The policy: its id and its age.
        policy: String,
        /// The name in the MX record.
        exchange: Name,
    },
    /// Whether the domain has an MTA-STS policy is not known, and an attacker may be why.
    #[error("{0}, and no STS policy is remembered")]
    StsLookup(Failure),
    /// The domain has an MTA-STS policy, and its fetch had no place, or the mail had no time left for it.
    #[error("the fetch of the domain's STS policy had no place, or no time was left for it, and none is remembered")]
    StsNoTurn,
    /// The DNS would bounce the mail, an MTA-STS policy is held to, and the MX records are insecure.
    #[error("an STS policy is in force and the MX records are not signed, so they alone bounce no mail")]
    UnsignedUnderSts,
    /// The level is `secure`, and nothing vouches for the exchange's name.
    #[error("the level secure holds, and neither a secure MX record, an STS policy nor a rule names the host")]
    NotAuthenticated,
    /// The address to connect from is not one of this host.
    #[error("cannot connect from {from} (remote.source_{}): {error}", if from.is_ipv4() { "ipv4" } else { "ipv6" })]
    Bind {
        /// The address of the configuration.
        from: IpAddr,
        /// The error of the system.
        error: std::io::Error,
    },
    /// There are as many connections as there may be.
    #[error("{0}")]
    Busy(#[from] Cap),
    /// This host has no socket left to dial with.
    #[error("{0}")]
    Scarce(#[from] Scarcity),
    /// The address did not answer another mail, a short time ago.
    #[error("not tried again, because {} seconds ago: {why}", ago.as_secs())]
    JustFailed {
        /// The reason at that time.
        why: String,
        /// How long ago.
        ago: Duration,
        /// The part of the session that failed.
        part: FailedPart,
    },
    /// The TCP connection failed.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// The greeting was not 220.
    #[error("the greeting was {0}")]
    Greeting(Reply),
    /// EHLO was refused, so that TLS cannot be had.
    #[error("EHLO was refused with {0}, and TLS is required")]
    Ehlo(Reply),
    /// The same, with a reply about the name that was given. An attacker on the path can choose these words, so they are only
    /// a hint: STARTTLS may have been removed (RFC 3207 §6).
    #[error(
        "EHLO was refused with {reply}, and TLS is required; if the host minds the name {name}, which was given in EHLO, give \
         your mail server its full host name or set ehlo_name"
    )]
    EhloInDoubt {
        /// The name.
        name: String,
        /// The answer.
        reply: Reply,
    },
    /// The name that was given in EHLO was refused, under TLS.
    #[error("the name {name}, which was given in EHLO, was refused with {reply}")]
    EhloName {
        /// The name.
        name: String,
        /// The answer.
        reply: Reply,
    },
    /// The host does not offer STARTTLS: an attacker on the path may have removed the offer.
    #[error("TLS is required, but was not offered")]
    StartTlsMissing,
    /// STARTTLS was answered with another code than 220.
    #[error("TLS is required, but STARTTLS was answered with {0}")]
    StartTlsRefused(Reply),
    /// Plaintext followed the answer to STARTTLS: an attacker on the path wants danelaw to read it as if it came under TLS.
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
        /// The step without an answer.
        stage: Stage,
        /// How long.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection was lost at {stage} ({error})")]
    Lost {
        /// Where in the session.
        stage: Stage,
        /// The error of the system.
        error: std::io::Error,
    },
    /// The remote does not speak SMTP.
    #[error("the answer to {stage} breaks the protocol ({error})")]
    Protocol {
        /// Where in the session.
        stage: Stage,
        /// The fault of the answer.
        error: ReplyError,
    },
    /// The remote answered before it was asked: replies can no longer be matched to commands.
    #[error("the remote sent a reply before {0} was sent")]
    Unsolicited(Stage),
    /// The remote ends the session by itself: 421 may come at any time (RFC 5321 §3.8).
    #[error("the remote closes the session: {0}")]
    Closing(Reply),
    /// The remote has said yes to the end of a message that had not arrived.
    #[error("the remote answered {reply} before it had the end of the message: {octets} octets have not arrived there")]
    AnsweredUnread {
        /// Its answer.
        reply: Reply,
        /// Octets on the wire that its TCP has not acknowledged.
        octets: u64,
    },
    /// A well-formed reply that cannot be the answer to this command.
    #[error("{reply} is no answer to {stage}")]
    WrongAnswer {
        /// The step.
        stage: Stage,
        /// The answer.
        reply: Reply,
    },
    /// MAIL, all recipients, or DATA were refused.
    #[error("{stage} was answered with {reply}")]
    Refused {
        /// The command.
        stage: Stage,
        /// The answer; of several the last one.
        reply: Reply,
    },
    /// The remote offers CHUNKING, and does not know the command that goes with it.
    #[error("BDAT was answered with {0}, although CHUNKING was offered; the next try goes as DATA")]
    BdatRefused(Reply),
    /// The remote cannot take this message.
    #[error("{0}")]
    Lacking(#[from] Lacking),
    /// The need for an extension showed when the transaction was bound to its remote, and others might have it.
    #[error("{0} more exchanges or addresses were not asked whether they take it")]
    NotAsked(usize),
    /// There are more exchanges than are ever tried.
    #[error("{0} more exchanges were not tried")]
    NotTried(usize),
    /// The time for the whole delivery path was used up before this host's turn.
    #[error("no time was left to try it")]
    OutOfTime,
}

/// The part of a session that a remembered failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedPart {
    /// TLS: the host might be had without.
    Tls,
    /// Another one.
    Other,
}

/// A bound on connections that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cap {
    /// To one address.
    #[error("{0} connections to this address are open already (remote.connections_per_host)")]
    Host(usize),
    /// For one domain.
    #[error("{0} transactions for this domain are open already (remote.connections_per_domain)")]
    Domain(usize),
    /// In all.
    #[error("{0} connections are open already (remote.connections)")]
    All(usize),
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

/// The stages by the meaning of a failure in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionPhase {
    /// The TCP connection.
    Connection,
    /// The TLS handshake.
    Handshake,
    /// All else before MAIL.
    Greeting,
    /// MAIL and RCPT: no reply to a recipient was relayed yet.
    Envelope,
    /// DATA and the message.
    Message,
    /// RFC 1047: the remote may have the message.
    EndOfMessage,
}

impl Stage {
    /// Whether it belongs to TLS: what fails here might go on without.
    pub(crate) const fn is_of_tls(self) -> bool {
        matches!(self, Self::StartTls | Self::Handshake)
    }

    /// Its phase.
    pub const fn phase(self) -> SessionPhase {
        match self {
            Self::Connect => SessionPhase::Connection,
            Self::Handshake => SessionPhase::Handshake,
            Self::Greeting | Self::Ehlo | Self::StartTls | Self::EhloUnderTls => SessionPhase::Greeting,
            Self::Mail | Self::Rcpt => SessionPhase::Envelope,
            Self::Data | Self::Message => SessionPhase::Message,
            Self::EndOfMessage => SessionPhase::EndOfMessage,
        }
    }

    /// Whether the remote has not heard of a mail yet.
    pub const fn precedes_mail(self) -> bool {
        match self.phase() {
            SessionPhase::Connection | SessionPhase::Handshake | SessionPhase::Greeting => true,
            SessionPhase::Envelope | SessionPhase::Message | SessionPhase::EndOfMessage => false,
        }
    }
}

impl Reason {
    /// Whether the host could not be had under TLS, and might be had without: a question for the level `may` alone.
    pub fn is_about_tls(&self) -> bool {
        match self {
            Self::StartTlsMissing | Self::StartTlsRefused(_) | Self::StartTlsInjected | Self::Tls(_) => true,
            Self::Timeout { stage, .. } | Self::Lost { stage, .. } | Self::Protocol { stage, .. } => stage.is_of_tls(),
            Self::Dns(_)
            | Self::NoRoute(_)
            | Self::NoAddress
            | Self::NotInFamily(_)
            | Self::ReservedAddress(_)
            | Self::DaneRequired(_)
            | Self::MxNotInPolicy { .. }
            | Self::StsLookup(_)
            | Self::StsNoTurn
            | Self::UnsignedUnderSts
            | Self::NotAuthenticated
            | Self::Bind { .. }
            | Self::Busy(_)
            | Self::Scarce(_)
            | Self::JustFailed { .. }
            | Self::Connect(_)
            | Self::Greeting(_)
            | Self::Ehlo(_)
            | Self::EhloInDoubt { .. }
            | Self::EhloName { .. }
            | Self::EhloUnderTls(_)
            | Self::Unsolicited(_)
            | Self::AnsweredUnread { .. }
            | Self::Closing(_)
            | Self::WrongAnswer { .. }
            | Self::Refused { .. }
            | Self::BdatRefused(_)
            | Self::Lacking(_)
            | Self::NotAsked(_)
            | Self::NotTried(_)
            | Self::OutOfTime => false,
        }
    }

    /// Whether a [`Waiver`](crate::policy::Waiver) may take it back: an ordinary opportunistic server would have gone on. That
    /// server needs the MX records and an address as well.
    pub fn may_be_waived(&self) -> bool {
        match self {
            Self::DaneRequired(_) | Self::MxNotInPolicy { .. } | Self::StsNoTurn | Self::NotAuthenticated => true,
            Self::JustFailed { part, .. } => *part == FailedPart::Tls,
            Self::StsLookup(_) => self.scarcity().is_none(),
            // Where there is no socket, no server gets one.
            Self::Dns(failure) => failure.rtype == Rtype::TLSA && self.scarcity().is_none(),
            // It may know HELO (RFC 5321 §3.2).
            Self::Ehlo(reply) | Self::EhloInDoubt { reply, .. } => reply.code().is_permanent(),
            reason => reason.is_about_tls(),
        }
    }
}

impl Refusal {
    /// A refusal that concerns the whole domain.
    pub fn domain(reason: impl Into<Reason>) -> Self {
        Self { at: Place::Domain, reason: reason.into(), policy: None }
    }

    /// A refusal of a host, with all its addresses.
    pub fn host(name: &Name, reason: impl Into<Reason>) -> Self {
        Self { at: Place::Host(name.clone()), reason: reason.into(), policy: None }
    }

    /// A refusal at one address.
    pub fn peer(peer: &Peer, reason: impl Into<Reason>) -> Self {
        Self { at: Place::Peer(peer.clone()), reason: reason.into(), policy: None }
    }

    /// The same under a policy that the session had to meet.
    pub fn under(self, policy: &TlsPolicy) -> Self {
        Self { policy: Some(policy.as_str()), ..self }
    }

    /// The policy that has refused, by its name in log lines: the one that the session had to meet, or the one that let no
    /// session begin.
    pub fn policy(&self) -> Option<&'static str> {
        const BEFORE_A_SESSION: [(&str, &[Label]); 3] = [
            ("dane", &[Label::TlsaLookupFailed, Label::DaneRequired]),
            ("sts", &[Label::MxNotInPolicy, Label::StsLookupFailed, Label::StsNoTurn, Label::StsUnsignedDns]),
            ("pkix", &[Label::NotAuthenticated]),
        ];
        let label = self.reason.view().label;
        let by_reason = BEFORE_A_SESSION.iter().find(|(_, labels)| labels.contains(&label));
        self.policy.or(by_reason.map(|(policy, _)| *policy))
    }
}

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
        self.exchange.fmt(f)?;
        f.write_str("[")?;
        AddressText(self.address).fmt(f)?;
        f.write_str("]")?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
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
    use bytes::BytesMut;

    use crate::dane::mismatch::{Mismatch, Untrusted};
    use crate::dane::tlsa::NoDane;
    use crate::dns::FailureReason;
    use crate::smtp::reply::{Class, Code, EnhancedCode, ReplyDecoder};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn failed(rtype: &str) -> Reason {
        Reason::Dns(Failure { name: name("example"), rtype: rtype.parse().unwrap(), reason: FailureReason::Timeout })
    }

    fn not_listed() -> Reason {
        Reason::MxNotInPolicy { policy: "20260101T0 (fetched 3h ago)".into(), exchange: name("mx.example") }
    }

    /// The lookup of an STS record that failed.
    fn sts(rtype: &str) -> Reason {
        match failed(rtype) {
            Reason::Dns(failure) => Reason::StsLookup(failure),
            other => other,
        }
    }

    /// A lookup for which there was no socket.
    fn unasked(rtype: &str) -> Reason {
        Reason::Dns(Failure {
            name: name("example"),
            rtype: rtype.parse().unwrap(),
            reason: Scarcity::OwnDescriptors.into(),
        })
    }

    fn broken() -> std::io::Error {
        std::io::ErrorKind::ConnectionReset.into()
    }

    fn no() -> Reply {
        Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), "no")
    }

    /// A reply of a remote.
    fn said(code: u16, line: &str) -> Reply {
        let mut wire = BytesMut::from(format!("{code} {line}\r\n").as_bytes());
        ReplyDecoder::new().decode(&mut wire).unwrap().unwrap()
    }

    fn refused(stage: Stage, reply: Reply) -> Reason {
        Reason::Refused { stage, reply }
    }

    #[test]
    fn each_reason_has_its_code_and_label() {
        // N1, N3, N6, N7, X2, X3, decision 7.
        let limit = Duration::from_secs(1);
        let tls = |failure: TlsFailure| Reason::Tls(failure);
        for (reason, code, label, reported) in [
            (failed("MX"), "451 4.4.3", "mx-lookup-failed", None),
            (failed("A"), "451 4.4.3", "address-lookup-failed", None),
            (failed("TLSA"), "451 4.7.5", "tlsa-lookup-failed", Some("dnssec-invalid")),
            (NoRoute::NoDomain(name("x")).into(), "550 5.4.4", "no-domain", None),
            (NoRoute::absent(name("x"), &name("x.invalid")).into(), "550 5.4.4", "special-use-name", None),
            (NoRoute::NullMx(name("x")).into(), "556 5.1.10", "null-mx", None),
            (NoRoute::NoHost(name("x")).into(), "550 5.4.4", "no-host", None),
            (NoRoute::Loop(name("x"), name("y")).into(), "554 5.4.6", "mail-loop", None),
            (Reason::NoAddress, "550 5.4.4", "no-address", None),
            (Reason::NotInFamily(Families::Ipv4), "451 4.4.4", "no-address-in-family", None),
            (NoRoute::NoPrimary(name("x")).into(), "451 4.4.4", "no-primary", None),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), "550 5.4.4", "reserved-address", None),
            (DaneRequired(NoDane::NoTlsa).into(), "451 4.7.5", "dane-required", Some("dane-required")),
            (not_listed(), "451 4.7.5", "mx-not-in-policy", Some("validation-failure")),
            (sts("TXT"), "451 4.4.3", "sts-lookup-failed", None),
            (Reason::StsNoTurn, "451 4.4.5", "sts-no-turn", None),
            (Reason::UnsignedUnderSts, "451 4.4.4", "sts-unsigned-dns", None),
            (Reason::NotAuthenticated, "451 4.7.5", "not-authenticated", None),
            (
                tls(TlsFailure::Mismatch(Mismatch::Untrusted(Untrusted::Issuer("x".into())))),
                "451 4.7.5",
                "untrusted-authority",
                Some("certificate-not-trusted"),
            ),
            (Reason::Bind { from: [192, 0, 2, 1].into(), error: broken() }, "451 4.3.5", "bind-failed", None),
            (Cap::Host(1).into(), "451 4.4.5", "too-many-connections", None),
            (Cap::Domain(1).into(), "451 4.4.5", "too-many-connections", None),
            (Cap::All(1).into(), "451 4.4.5", "too-many-connections", None),
            (Scarcity::OwnDescriptors.into(), "451 4.3.0", "out-of-descriptors", None),
            (Scarcity::Descriptors.into(), "451 4.3.0", "out-of-descriptors", None),
            (Scarcity::Memory.into(), "451 4.3.0", "out-of-memory", None),
            (unasked("MX"), "451 4.3.0", "out-of-descriptors", None),
            (unasked("TLSA"), "451 4.3.0", "out-of-descriptors", None),
            (
                Reason::JustFailed { why: "so".into(), ago: limit, part: FailedPart::Other },
                "451 4.4.1",
                "failed-just-now",
                None,
            ),
            (refused(Stage::Mail, said(450, "4.7.1 later")), "450 4.7.1", "mail-refused", None),
            (refused(Stage::Mail, said(454, "later")), "451 4.0.0", "mail-refused", None),
            (refused(Stage::Rcpt, said(450, "4.2.0 later")), "450 4.2.0", "recipient-refused", None),
            (refused(Stage::Data, said(452, "4.4.5 too many")), "452 4.4.5", "data-refused", None),
            (Reason::BdatRefused(said(503, "bad sequence")), "451 4.5.0", "bdat-refused", None),
            (Lacking::EightBitMime.into(), "554 5.6.3", "8bitmime-missing", None),
            (Lacking::SmtpUtf8.into(), "553 5.6.7", "smtputf8-missing", None),
            (Lacking::SmtpUtf8Header.into(), "554 5.6.9", "smtputf8-missing-for-header", None),
            (Lacking::Size(1).into(), "552 5.3.4", "message-too-large", None),
            // N5, Q3.
            (Lacking::RequireTls.into(), "550 5.7.30", "requiretls-missing", None),
            (Lacking::Authentication.into(), "550 5.7.10", "requiretls-unauthenticated", None),
            (Reason::NotAsked(1), "451 4.6.3", "extension-not-asked", None),
            (Reason::Connect(broken()), "451 4.4.1", "connect-failed", None),
            (Reason::Greeting(no()), "451 4.4.1", "greeting-refused", None),
            (Reason::Ehlo(no()), "451 4.7.4", "ehlo-refused", None),
            (Reason::Ehlo(said(502, "what?")), "451 4.7.4", "ehlo-refused", Some("starttls-not-supported")),
            (Reason::EhloInDoubt { name: "x".into(), reply: no() }, "451 4.7.4", "ehlo-refused", None),
            (Reason::EhloName { name: "x".into(), reply: no() }, "451 4.4.1", "ehlo-name-refused", None),
            (Reason::StartTlsMissing, "451 4.7.4", "starttls-missing", Some("starttls-not-supported")),
            (Reason::StartTlsRefused(no()), "451 4.7.4", "starttls-refused", Some("starttls-not-supported")),
            (Reason::StartTlsInjected, "451 4.7.5", "starttls-injected", Some("validation-failure")),
            (tls(TlsFailure::WrongKey), "451 4.7.5", "wrong-key", Some("validation-failure")),
            (
                tls(TlsFailure::Mismatch(Mismatch::NoCertificate)),
                "451 4.7.5",
                "no-certificate",
                Some("certificate-not-trusted"),
            ),
            (
                tls(TlsFailure::Mismatch(Mismatch::Name { found: std::iter::empty().collect(), wanted: vec![] })),
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
            (tls(TlsFailure::Closed("x".into())), "451 4.7.5", "tls-closed", Some("validation-failure")),
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
            (Reason::AnsweredUnread { reply: no(), octets: 1 }, "451 4.4.2", "answered-unread", None),
            (Reason::Closing(no()), "451 4.3.2", "remote-closing", None),
            (Reason::OutOfTime, "451 4.4.1", "out-of-time", None),
            (Reason::NotTried(3), "451 4.4.1", "exchanges-not-tried", None),
        ] {
            let view = reason.view();
            assert_eq!(format!("{} {}", view.code, view.enhanced), code, "{reason:?}");
            let result_type = reason.result_type().map(ResultType::as_str);
            assert_eq!((view.label.as_str(), result_type), (label, reported), "{reason:?}");
            assert_eq!(view.code.class(), view.enhanced.class(), "{reason:?}");
        }
    }

    #[test]
    fn reasons_that_mode_observe_waives() {
        // B9: reasons about DANE or TLS, and never the MX records, the addresses or the network.
        let limit = Duration::from_secs(1);
        for (reason, waived) in [
            (failed("TLSA"), true),
            (DaneRequired(NoDane::NoTlsa).into(), true),
            (not_listed(), true),
            (sts("TXT"), true),
            (Reason::NotAuthenticated, true),
            (Reason::StartTlsMissing, true),
            (Reason::Tls(TlsFailure::WrongKey), true),
            (Reason::Timeout { stage: Stage::Handshake, limit }, true),
            (failed("MX"), false),
            (failed("A"), false),
            (Reason::NoAddress, false),
            (Reason::NotInFamily(Families::Ipv4), false),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), false),
            (Reason::Connect(broken()), false),
            (Reason::Greeting(no()), false),
            (Reason::Ehlo(no()), true),
            (Reason::EhloInDoubt { name: "x".into(), reply: no() }, true),
            (Reason::EhloName { name: "x".into(), reply: no() }, false),
            (Lacking::Authentication.into(), false),
            (Lacking::RequireTls.into(), false),
            (Reason::OutOfTime, false),
            (unasked("TLSA"), false),
            (Scarcity::Memory.into(), false),
        ] {
            assert_eq!(reason.may_be_waived(), waived, "{reason:?}");
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
        assert_eq!(reply.lines().count(), 4);
        let lines: Vec<_> = reply.lines().collect();
        assert!(lines[2].starts_with("mx2.example: TLS is required, but was not offered; the host must offer"));
        // The remedy of the one that speaks for all, and no other.
        assert_eq!(lines[1], "mx1.example: cannot connect: connection reset");
        // M22: another exchange that cannot be reached may have the extension that this one lacks.
        let reply = said(vec![Lacking::SmtpUtf8.into(), Reason::Connect(broken())]);
        assert_eq!(reply.class(), Class::Transient);
        assert_eq!(said(vec![Lacking::SmtpUtf8.into(), Lacking::SmtpUtf8.into()]).code().number(), 553);
        // The word of a remote says more than that another one was not there.
        let full = || Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(3, 1), "full");
        let no = refused(Stage::Mail, full());
        assert_eq!(said(vec![Reason::Connect(broken()), no]).code(), Code::INSUFFICIENT_STORAGE);
        // The one that speaks for all is always told.
        let mut many: Vec<_> = std::iter::repeat_with(|| Reason::Connect(broken())).take(20).collect();
        many.push(Reason::StartTlsMissing);
        assert!(said(many).lines().last().unwrap().starts_with("mx20.example: TLS is required"));
        // A novel in each of them is cut: the answer is kept as long as there may be other recipients.
        let novel = || Reason::Closing(Reply::plain(Code::SERVICE_NOT_AVAILABLE, "x".repeat(60_000)));
        let reply = said(std::iter::repeat_with(novel).take(20).collect());
        assert!(reply.octets() < 8 * 600, "{}", reply.octets());
        // The only host's own answer is passed on as it is.
        let peer = Peer { exchange: name("mx.example"), address: [192, 0, 2, 1].into(), port: None };
        let alone = Refusals::from(Refusal::peer(&peer, refused(Stage::Rcpt, full())));
        assert_eq!(alone.verdict().to_string(), "452 4.3.1 mx.example[192.0.2.1]: full");
        // A fault of this host comes first, and is never final.
        let reply = said(vec![Reason::NoAddress, Reason::StartTlsMissing, Scarcity::OwnDescriptors.into()]);
        assert!(reply.to_string().starts_with("451 4.3.0 ") && reply.lines().last().unwrap().contains("LimitNOFILE"));
        // As it turns out, they lack this one; and an exchange that was not asked may have it.
        let mut lacking = Refusals::from(Refusal::host(&name("a.example"), Lacking::EightBitMime));
        lacking.push(Refusal::host(&name("b.example"), Lacking::SmtpUtf8));
        lacking.lack(Lacking::SmtpUtf8Header);
        assert!(lacking.verdict().to_string().starts_with("554 5.6.9 a.example: the remote does not take inter"));
        lacking.push(Refusal::domain(Reason::NotAsked(1)));
        assert!(lacking.verdict().to_string().starts_with("451 4.6.3 a.example: the remote does not take inter"));
        // N5, Q3: an exchange that lacks REQUIRETLS says more than one that cannot be authenticated or has no address, and less
        // than any failure that may pass.
        let (lacks, nameless) = (|| Reason::from(Lacking::RequireTls), || Reason::from(Lacking::Authentication));
        for (reasons, starts) in [
            (vec![lacks(), lacks()], "550 5.7.30 "),
            (vec![nameless(), lacks()], "550 5.7.30 "),
            (vec![Reason::NoAddress, lacks(), nameless()], "550 5.7.30 "),
            (vec![nameless(), nameless()], "550 5.7.10 "),
            (vec![Reason::NoAddress, nameless()], "550 5.7.10 "),
            (vec![lacks(), Reason::Connect(broken())], "451 4.4.1 "),
            (vec![Reason::NotTried(1), lacks()], "451 4.4.1 "),
            (vec![lacks(), Reason::Tls(TlsFailure::WrongKey)], "451 4.7.5 "),
            (vec![nameless(), failed("A")], "451 4.4.3 "),
            (vec![Reason::NotAuthenticated, nameless()], "451 4.7.5 "),
            (vec![lacks(), not_listed()], "451 4.7.5 "),
        ] {
            let reply = said(reasons).to_string();
            assert!(reply.starts_with(starts), "{reply}");
        }
        // All final: final.
        assert_eq!(said(vec![Reason::NoAddress, Reason::NoAddress]).class(), Class::Permanent);
        // No refusal at all is never final.
        assert_eq!(said(vec![]).class(), Class::Transient);
    }
}
