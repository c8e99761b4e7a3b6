//! The row of the [`table`] for each reason, and the order of reasons by what they tell about a domain.

use super::row::View;
use super::{Label, Lacking, Reason, SessionPhase, Stage, table};
use crate::dns::{Failure, FailureReason, Rtype};
use crate::mx::NoRoute;
use crate::scarce::Scarcity;
use crate::smtp::reply::Reply;

impl Reason {
    /// The names and codes of this reason.
    pub fn view(&self) -> View {
        match self {
            Self::Scarce(of) => table::out_of(*of),
            Self::Dns(failure) => lookup(failure, by_type(failure.rtype)),
            Self::NoRoute(why) => no_route(why),
            Self::NoAddress => table::NO_ADDRESS,
            Self::NotInFamily(_) => table::NO_ADDRESS_IN_FAMILY,
            Self::ReservedAddress(_) => table::RESERVED_ADDRESS,
            Self::DaneRequired(_) => table::DANE_REQUIRED,
            Self::MxNotInPolicy { .. } => table::MX_NOT_IN_POLICY,
            Self::StsLookup(failure) => lookup(failure, table::STS_LOOKUP_FAILED),
            Self::StsNoTurn => table::STS_NO_TURN,
            Self::UnsignedUnderSts => table::STS_UNSIGNED_DNS,
            Self::NotAuthenticated => table::NOT_AUTHENTICATED,
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
            Self::Tls(failure) => failure.view(),
            Self::EhloUnderTls(_) => table::EHLO_UNDER_TLS_REFUSED,
            Self::Timeout { stage, .. } => timeout(*stage),
            Self::Lost { stage, .. } => broken(*stage, table::CONNECTION_LOST),
            Self::Protocol { stage, .. } | Self::WrongAnswer { stage, .. } => broken(*stage, table::PROTOCOL_ERROR),
            Self::Closing(_) => table::REMOTE_CLOSING,
            Self::Unsolicited(_) => table::UNSOLICITED_REPLY,
            Self::AnsweredUnread { .. } => table::ANSWERED_UNREAD,
            Self::Refused { stage, reply } => refused(*stage, reply),
            Self::BdatRefused(_) => table::BDAT_REFUSED,
            Self::Lacking(lacking) => lacking.view(),
            Self::NotAsked(_) => table::EXTENSION_NOT_ASKED,
            Self::OutOfTime => table::OUT_OF_TIME,
            Self::NotTried(_) => table::EXCHANGES_NOT_TRIED,
        }
    }

    /// The resource that this host has run out of, if that is the reason.
    pub fn scarcity(&self) -> Option<Scarcity> {
        let (Self::Scarce(of)
        | Self::Dns(Failure { reason: FailureReason::Scarce(of), .. })
        | Self::StsLookup(Failure { reason: FailureReason::Scarce(of), .. })) = self
        else {
            return None;
        };
        Some(*of)
    }

    /// How much this reason tells about the failure of a whole domain, when hosts failed for different reasons.
    pub(crate) fn weight(&self) -> Weight {
        match self {
            Self::Scarce(_) => Weight::OwnFault,
            Self::Dns(_) | Self::StsLookup(_) if self.scarcity().is_some() => Weight::OwnFault,
            Self::Dns(Failure { rtype: Rtype::TLSA, .. }) => Weight::Security,
            Self::Dns(_) | Self::StsLookup(_) | Self::StsNoTurn | Self::UnsignedUnderSts => Weight::Lookup,
            Self::DaneRequired(_)
            | Self::MxNotInPolicy { .. }
            | Self::NotAuthenticated
            | Self::Ehlo(_)
            | Self::EhloInDoubt { .. }
            | Self::StartTlsMissing
            | Self::StartTlsRefused(_)
            | Self::StartTlsInjected
            | Self::Tls(_)
            | Self::Timeout { stage: Stage::Handshake, .. } => Weight::Security,
            Self::Refused { stage, reply } => answered(*stage, reply),
            Self::Lacking(lacking) => lacking.weight(),
            Self::NoRoute(why) => of_no_route(why),
            Self::NoAddress | Self::ReservedAddress(_) => Weight::NoServer,
            Self::NotInFamily(_)
            | Self::Bind { .. }
            | Self::Busy(_)
            | Self::JustFailed { .. }
            | Self::Connect(_)
            | Self::Greeting(_)
            | Self::EhloName { .. }
            | Self::EhloUnderTls(_)
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::Protocol { .. }
            | Self::Unsolicited(_)
            | Self::Closing(_)
            | Self::AnsweredUnread { .. }
            | Self::WrongAnswer { .. }
            | Self::BdatRefused(_) => Weight::Network,
            Self::NotAsked(_) | Self::NotTried(_) | Self::OutOfTime => Weight::Network,
        }
    }
}

impl Label {
    /// Whether this host has run out of a resource.
    pub fn is_scarcity(self) -> bool {
        [Scarcity::OwnDescriptors, Scarcity::Descriptors, Scarcity::Memory].into_iter().any(|of| Self::from(of) == self)
    }
}

impl From<Scarcity> for Label {
    fn from(scarcity: Scarcity) -> Self {
        table::out_of(scarcity).label
    }
}

/// How much a reason tells about a whole domain. The greatest one speaks for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// As the next one, of an exchange without an address: there is no server that could say more.
    NoServer,
    /// The reason is final: it counts only where every reason is final, because another host may still take the mail.
    Final,
    /// The same: the host cannot be authenticated as REQUIRETLS asks.
    Unauthenticated,
    /// The same: the host was authenticated, and does not offer REQUIRETLS.
    WithoutRequireTls,
    /// The network, or a session that did not get as far as MAIL or broke.
    Network,
    /// The remote's own temporary refusal of the mail.
    Remote,
    /// A lookup that failed.
    Lookup,
    /// The host could not be secured.
    Security,
    /// This host has run out of a resource.
    OwnFault,
}

/// The row of a lookup that failed: this one, unless there was no socket for it.
fn lookup(failure: &Failure, row: View) -> View {
    if let FailureReason::Scarce(of) = failure.reason { table::out_of(of) } else { row }
}

fn by_type(rtype: Rtype) -> View {
    match rtype {
        Rtype::TLSA => table::TLSA_LOOKUP_FAILED,
        Rtype::MX => table::MX_LOOKUP_FAILED,
        _ => table::ADDRESS_LOOKUP_FAILED,
    }
}

fn no_route(why: &NoRoute) -> View {
    match why {
        NoRoute::NoDomain(_) => table::NO_DOMAIN,
        NoRoute::SpecialUse(..) => table::SPECIAL_USE_NAME,
        NoRoute::NullMx(_) => table::NULL_MX,
        NoRoute::NoHost(_) => table::NO_HOST,
        NoRoute::Loop(..) => table::MAIL_LOOP,
        NoRoute::NoPrimary(_) => table::NO_PRIMARY,
    }
}

fn of_no_route(why: &NoRoute) -> Weight {
    match why {
        NoRoute::NoDomain(_)
        | NoRoute::SpecialUse(..)
        | NoRoute::NullMx(_)
        | NoRoute::NoHost(_)
        | NoRoute::Loop(..) => Weight::Final,
        NoRoute::NoPrimary(_) => Weight::Network,
    }
}

fn timeout(stage: Stage) -> View {
    match stage.phase() {
        SessionPhase::Connection => table::CONNECT_TIMEOUT,
        SessionPhase::Handshake => table::HANDSHAKE_TIMEOUT,
        SessionPhase::Greeting | SessionPhase::Envelope | SessionPhase::Message | SessionPhase::EndOfMessage => {
            broken(stage, table::REMOTE_TIMEOUT)
        }
    }
}

/// RFC 1047: at the end of the message danelaw cannot know whether the remote has it; at any other stage `otherwise` holds.
fn broken(stage: Stage, otherwise: View) -> View {
    match stage.phase() {
        SessionPhase::EndOfMessage => table::FINAL_REPLY_LOST,
        SessionPhase::Connection
        | SessionPhase::Handshake
        | SessionPhase::Greeting
        | SessionPhase::Envelope
        | SessionPhase::Message => otherwise,
    }
}

fn answered(stage: Stage, reply: &Reply) -> Weight {
    if refused(stage, reply).code.is_permanent() { Weight::Final } else { Weight::Remote }
}

/// The remote's own codes.
fn refused(stage: Stage, reply: &Reply) -> View {
    let row = match stage {
        Stage::Rcpt => table::RECIPIENT_REFUSED,
        Stage::Data => table::DATA_REFUSED,
        Stage::Message | Stage::EndOfMessage => table::MESSAGE_REFUSED,
        Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Handshake | Stage::EhloUnderTls => {
            table::MAIL_REFUSED
        }
        Stage::Mail => table::MAIL_REFUSED,
    };
    let told = reply.relayed("");
    View { code: told.code(), enhanced: told.enhanced().unwrap_or(row.enhanced), ..row }
}

impl Lacking {
    fn view(self) -> View {
        match self {
            Self::EightBitMime => table::EIGHT_BIT_MIME_MISSING,
            Self::SmtpUtf8 => table::SMTPUTF8_MISSING,
            Self::SmtpUtf8Header => table::SMTPUTF8_MISSING_FOR_HEADER,
            Self::Size(_) => table::MESSAGE_TOO_LARGE,
            Self::RequireTls => table::REQUIRETLS_MISSING,
            Self::Authentication => table::REQUIRETLS_UNAUTHENTICATED,
        }
    }

    fn weight(self) -> Weight {
        match self {
            Self::EightBitMime | Self::SmtpUtf8 | Self::SmtpUtf8Header | Self::Size(_) => Weight::Final,
            Self::Authentication => Weight::Unauthenticated,
            Self::RequireTls => Weight::WithoutRequireTls,
        }
    }
}
