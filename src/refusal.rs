//! Why mail was not passed on: every "no" of the road, as a type, and the one place that says what it is called.
//!
//! A [`Reason`] is made where the decision falls. What the client is told, what the log calls it, what RFC 8460 calls it
//! and what there is to do about it are views of the same value, a row of the [`table`] each: a new reason does not
//! compile until [`Reason::view`] has a row for it. [`examples`] has one of each for people to read.
//!
//! | situation | reply | why |
//! |---|---|---|
//! | a lookup failed | 451 4.4.3, for TLSA 4.7.5 | RFC 7672 §2.1.2: delay, never guess |
//! | STARTTLS missing or refused | 451 4.7.4 | a stripped STARTTLS looks just so |
//! | TLS failed or nothing matched | 451 4.7.5 | RFC 7672 §2.2 |
//! | no connection, no greeting | 451 4.4.1, 4.4.2 | says nothing about the mail |
//! | this host is out of file descriptors or memory | 451 4.3.0 | our own fault |
//! | too many connections | 451 4.4.5 | ours are bounded, and the client tries again |
//! | MAIL answered with 4yz | the remote's own | RFC 5321 §4.2.1 |
//! | no exchange has the extension that the message needs | 554 5.6.3, 553 5.6.7, 554 5.6.9, 552 5.3.4 | RFC 6152 §3, RFC 6531 §3.5, RFC 1870 §6.1 |
//! | the DNS says nobody takes this mail | 550 5.4.4, 556 5.1.10 | RFC 5321 §5.1, RFC 7505 §4 |

pub mod examples;
mod lacking;
pub mod table;
mod verdict;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::dane::mismatch::Mismatch;
use crate::dns::{Failure, FailureReason};
use crate::mx::NoRoute;
use crate::name::Name;
use crate::policy::DaneRequired;
use crate::scarce::Scarcity;
use crate::smtp::reply::{Code, EnhancedCode, Reply, ReplyError};
use crate::tls::TlsFailure;

pub use lacking::Lacking;
pub use verdict::Refusals;

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
    /// The address to connect from is not one of this host.
    #[error("cannot connect from {from} (remote.source_{}): {error}", if from.is_ipv4() { "ipv4" } else { "ipv6" })]
    Bind {
        /// What the configuration says.
        from: IpAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// There are as many connections as there may be.
    #[error("{0}")]
    Busy(#[from] Cap),
    /// This host has no socket left to dial with.
    #[error("{0}")]
    Scarce(#[from] Scarcity),
    /// The address let somebody else wait in vain, just now.
    #[error("not tried again, because {} seconds ago: {why}", ago.as_secs())]
    JustFailed {
        /// What was found then.
        why: String,
        /// How long ago.
        ago: Duration,
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
    /// The same in words about the name that was given. Anybody on the way can choose these words, so that they are no more
    /// than a hint: STARTTLS may have been taken out (RFC 3207 §6).
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
        /// What was asked.
        stage: Stage,
        /// What was answered.
        reply: Reply,
    },
    /// MAIL was refused.
    #[error("MAIL was answered with {0}")]
    Mail(Reply),
    /// The remote offers CHUNKING, and does not know the command that goes with it.
    #[error("BDAT was answered with {0}, although CHUNKING was offered; the next try goes as DATA")]
    BdatRefused(Reply),
    /// The remote cannot take this message.
    #[error("{0}")]
    Lacking(#[from] Lacking),
    /// The need for an extension showed when the remote was settled, and others might have it.
    #[error("{0} more exchanges or addresses were not asked whether they take it")]
    NotAsked(usize),
    /// There are more exchanges than are ever tried.
    #[error("{0} more exchanges were not tried")]
    NotTried(usize),
    /// The time for the whole road was used up before this host's turn.
    #[error("no time was left to try it")]
    OutOfTime,
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

impl Stage {
    /// Whether the remote has not heard of a mail yet.
    pub const fn precedes_mail(self) -> bool {
        match self {
            Self::Connect | Self::Greeting | Self::Ehlo | Self::StartTls | Self::Handshake | Self::EhloUnderTls => true,
            Self::Mail | Self::Rcpt | Self::Data | Self::Message | Self::EndOfMessage => false,
        }
    }
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
    /// How it comes about, in whole sentences.
    pub cause: &'static str,
    /// What to do about it, and who: short enough for a reply.
    pub remedy: &'static str,
}

impl Reason {
    /// Everything this reason is called.
    pub fn view(&self) -> View {
        match self {
            Self::Scarce(of) | Self::Dns(Failure { reason: FailureReason::Scarce(of), .. }) => table::out_of(*of),
            Self::Dns(failure) => match failure.rtype {
                "TLSA" => table::TLSA_LOOKUP_FAILED,
                "MX" => table::MX_LOOKUP_FAILED,
                _ => table::ADDRESS_LOOKUP_FAILED,
            },
            Self::NoRoute(NoRoute::NoDomain(_)) => table::NO_DOMAIN,
            Self::NoRoute(NoRoute::NullMx(_)) => table::NULL_MX,
            Self::NoRoute(NoRoute::NoHost(_)) => table::NO_HOST,
            Self::NoRoute(NoRoute::Loop(..)) => table::MAIL_LOOP,
            Self::NoAddress => table::NO_ADDRESS,
            Self::ReservedAddress(_) => table::RESERVED_ADDRESS,
            Self::DaneRequired(_) => table::DANE_REQUIRED,
            Self::Bind { .. } => table::BIND_FAILED,
            Self::Busy(_) => table::TOO_MANY_CONNECTIONS,
            Self::JustFailed { .. } => table::FAILED_JUST_NOW,
            Self::Connect(_) => table::CONNECT_FAILED,
            Self::Greeting(_) => table::GREETING_REFUSED,
            Self::Ehlo(_) | Self::EhloInDoubt { .. } => table::EHLO_REFUSED,
            Self::EhloName { .. } => table::EHLO_NAME_REFUSED,
            Self::StartTlsMissing => table::STARTTLS_MISSING,
            Self::StartTlsRefused(_) => table::STARTTLS_REFUSED,
            Self::StartTlsInjected => table::STARTTLS_INJECTED,
            Self::Tls(failure) => tls(failure),
            Self::EhloUnderTls(_) => table::EHLO_UNDER_TLS_REFUSED,
            Self::Timeout { stage: Stage::Handshake, .. } => table::HANDSHAKE_TIMEOUT,
            Self::Timeout { stage: Stage::Connect, .. } => table::CONNECT_TIMEOUT,
            // RFC 1047: the one moment at which nobody can know who has the message.
            Self::Timeout { stage: Stage::EndOfMessage, .. }
            | Self::Lost { stage: Stage::EndOfMessage, .. }
            | Self::Protocol { stage: Stage::EndOfMessage, .. }
            | Self::WrongAnswer { stage: Stage::EndOfMessage, .. } => table::FINAL_REPLY_LOST,
            Self::Timeout { .. } => table::REMOTE_TIMEOUT,
            Self::Lost { .. } => table::CONNECTION_LOST,
            Self::Protocol { .. } | Self::WrongAnswer { .. } => table::PROTOCOL_ERROR,
            Self::Closing(_) => table::REMOTE_CLOSING,
            Self::Unsolicited(_) => table::UNSOLICITED_REPLY,
            Self::AnsweredUnread { .. } => table::ANSWERED_UNREAD,
            Self::Mail(reply) => {
                let told = reply.relayed("");
                let enhanced = told.enhanced().unwrap_or(table::MAIL_REFUSED.enhanced);
                View { code: told.code(), enhanced, ..table::MAIL_REFUSED }
            }
            Self::BdatRefused(_) => table::BDAT_REFUSED,
            Self::Lacking(Lacking::EightBitMime) => table::EIGHT_BIT_MIME_MISSING,
            Self::Lacking(Lacking::SmtpUtf8) => table::SMTPUTF8_MISSING,
            Self::Lacking(Lacking::SmtpUtf8Header) => table::SMTPUTF8_MISSING_FOR_HEADER,
            Self::Lacking(Lacking::Size(_)) => table::MESSAGE_TOO_LARGE,
            Self::NotAsked(_) => table::EXTENSION_NOT_ASKED,
            Self::OutOfTime => table::OUT_OF_TIME,
            Self::NotTried(_) => table::EXCHANGES_NOT_TRIED,
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
            | Self::Mail(_)
            | Self::BdatRefused(_)
            | Self::Lacking(_)
            | Self::NotAsked(_)
            | Self::NotTried(_)
            | Self::OutOfTime => false,
        }
    }

    /// Whether an ordinary opportunistic server would have gone on: a question for the mode `observe` alone. It too needs
    /// the MX records and an address.
    pub fn is_waived_by_observing(&self) -> bool {
        match self {
            Self::DaneRequired(_) => true,
            // Where there is no socket, no server gets one.
            Self::Dns(failure) => failure.rtype == "TLSA" && self.scarcity().is_none(),
            // It may know HELO (RFC 5321 §3.2).
            Self::Ehlo(reply) | Self::EhloInDoubt { reply, .. } => reply.code().is_permanent(),
            reason => reason.is_about_tls(),
        }
    }

    /// The resource that this host has run out of, if that is the reason.
    pub fn scarcity(&self) -> Option<Scarcity> {
        match self {
            Self::Scarce(of) | Self::Dns(Failure { reason: FailureReason::Scarce(of), .. }) => Some(*of),
            _ => None,
        }
    }

    /// How much this reason tells about the failure of a whole domain, when hosts failed for different reasons: a fault of
    /// this host before all, security before the DNS, the DNS before the word of a remote, that before the network, and a
    /// final reason only where no other is left.
    pub(crate) fn weight(&self) -> u8 {
        let view = self.view();
        match (view.code.is_permanent(), view.enhanced.subject()) {
            (true, _) => 0,
            _ if self.scarcity().is_some() => 5,
            (false, _) if matches!(self, Self::Mail(_)) => 2,
            (false, 7) => 4,
            (false, _) if view.label.ends_with("-lookup-failed") => 3,
            (false, _) => 1,
        }
    }
}

/// The rows of a failed handshake. A broken connection is an outage and is not reported (RFC 8460 §4.3).
fn tls(failure: &TlsFailure) -> View {
    match failure {
        TlsFailure::Mismatch(mismatch) => match mismatch {
            Mismatch::NoCertificate => table::NO_CERTIFICATE,
            Mismatch::ChainTooLarge { .. } => table::CHAIN_TOO_LARGE,
            Mismatch::NoRecord(_) => table::TLSA_MISMATCH,
            Mismatch::KeySize(..) => table::RSA_KEY_SIZE,
            Mismatch::Expired(_) => table::CERTIFICATE_EXPIRED,
            Mismatch::NotYetValid(_) => table::CERTIFICATE_NOT_YET_VALID,
            Mismatch::Path(..) => table::CHAIN_NOT_VERIFIED,
            Mismatch::Name { .. } => table::NAME_MISMATCH,
        },
        TlsFailure::NoSharedParameters(_) => table::NO_SHARED_TLS_PARAMETERS,
        TlsFailure::WrongKey => table::WRONG_KEY,
        TlsFailure::SmallKey(_) => table::RSA_KEY_SIZE,
        TlsFailure::UnsupportedKey => table::UNSUPPORTED_KEY,
        TlsFailure::Injected => table::PLAINTEXT_INJECTED,
        TlsFailure::Alert(_) => table::TLS_ALERT,
        TlsFailure::Closed(_) => table::TLS_CLOSED,
        TlsFailure::Broken(_) => table::TLS_BROKEN,
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
    use bytes::BytesMut;

    use crate::smtp::reply::{Class, ReplyDecoder};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn failed(rtype: &'static str) -> Reason {
        Reason::Dns(Failure { name: name("example"), rtype, reason: FailureReason::Timeout })
    }

    /// A lookup for which there was no socket.
    fn unasked(rtype: &'static str) -> Reason {
        Reason::Dns(Failure { name: name("example"), rtype, reason: Scarcity::OwnDescriptors.into() })
    }

    fn broken() -> std::io::Error {
        std::io::ErrorKind::ConnectionReset.into()
    }

    fn no() -> Reply {
        Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), "no")
    }

    /// What a remote says.
    fn said(code: u16, line: &str) -> Reply {
        let mut wire = BytesMut::from(format!("{code} {line}\r\n").as_bytes());
        ReplyDecoder::new().decode(&mut wire).unwrap().unwrap()
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
            (Reason::Bind { from: [192, 0, 2, 1].into(), error: broken() }, "451 4.3.5", "bind-failed", None),
            (Cap::Host(1).into(), "451 4.4.5", "too-many-connections", None),
            (Cap::Domain(1).into(), "451 4.4.5", "too-many-connections", None),
            (Cap::All(1).into(), "451 4.4.5", "too-many-connections", None),
            (Scarcity::OwnDescriptors.into(), "451 4.3.0", "out-of-descriptors", None),
            (Scarcity::Descriptors.into(), "451 4.3.0", "out-of-descriptors", None),
            (Scarcity::Memory.into(), "451 4.3.0", "out-of-memory", None),
            (unasked("MX"), "451 4.3.0", "out-of-descriptors", None),
            (unasked("TLSA"), "451 4.3.0", "out-of-descriptors", None),
            (Reason::JustFailed { why: "so".into(), ago: limit }, "451 4.4.1", "failed-just-now", None),
            (Reason::Mail(said(450, "4.7.1 later")), "450 4.7.1", "mail-refused", None),
            (Reason::Mail(said(454, "later")), "451 4.0.0", "mail-refused", None),
            (Reason::BdatRefused(said(503, "bad sequence")), "451 4.5.0", "bdat-refused", None),
            (Lacking::EightBitMime.into(), "554 5.6.3", "8bitmime-missing", None),
            (Lacking::SmtpUtf8.into(), "553 5.6.7", "smtputf8-missing", None),
            (Lacking::SmtpUtf8Header.into(), "554 5.6.9", "smtputf8-missing-for-header", None),
            (Lacking::Size(1).into(), "552 5.3.4", "message-too-large", None),
            (Reason::NotAsked(1), "451 4.6.3", "extension-not-asked", None),
            (Reason::Connect(broken()), "451 4.4.1", "connect-failed", None),
            (Reason::Greeting(no()), "451 4.4.1", "greeting-refused", None),
            (Reason::Ehlo(no()), "451 4.7.4", "ehlo-refused", Some("starttls-not-supported")),
            (
                Reason::EhloInDoubt { name: "x".into(), reply: no() },
                "451 4.7.4",
                "ehlo-refused",
                Some("starttls-not-supported"),
            ),
            (Reason::EhloName { name: "x".into(), reply: no() }, "451 4.4.1", "ehlo-name-refused", None),
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
            (Reason::AnsweredUnread { reply: no(), octets: 1 }, "451 4.4.2", "answered-unread", None),
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
            (Reason::Ehlo(no()), true),
            (Reason::EhloInDoubt { name: "x".into(), reply: no() }, true),
            (Reason::EhloName { name: "x".into(), reply: no() }, false),
            (Reason::OutOfTime, false),
            (unasked("TLSA"), false),
            (Scarcity::Memory.into(), false),
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
        assert_eq!(reply.lines().count(), 4);
        let lines: Vec<_> = reply.lines().collect();
        assert!(lines[2].starts_with("mx2.example: TLS is required, but was not offered; the host must offer"));
        // The remedy of the one that speaks for all, and no other.
        assert_eq!(lines[1], "mx1.example: cannot connect: connection reset");
        // M22: what one exchange lacks, another that cannot be reached may have.
        let reply = said(vec![Lacking::SmtpUtf8.into(), Reason::Connect(broken())]);
        assert_eq!(reply.class(), Class::Transient);
        assert_eq!(said(vec![Lacking::SmtpUtf8.into(), Lacking::SmtpUtf8.into()]).code().number(), 553);
        // The word of a remote says more than that another one was not there.
        let no = Reason::Mail(Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(3, 1), "full"));
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
        let peer = Peer { exchange: name("mx.example"), address: [192, 0, 2, 1].into() };
        let full = Reply::new(Code::INSUFFICIENT_STORAGE, EnhancedCode::transient(3, 1), "full");
        let alone = Refusals::from(Refusal::peer(&peer, Reason::Mail(full)));
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
        // All final: final.
        assert_eq!(said(vec![Reason::NoAddress, Reason::NoAddress]).class(), Class::Permanent);
        // Nothing at all is never final.
        assert_eq!(said(vec![]).class(), Class::Transient);
    }
}
