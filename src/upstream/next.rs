//! What a failure means for the walk: who is asked next, and what is remembered of the address (RFC 5321 §5.1, §4.5.4.1).
//!
//! | what happened | who is asked next | the address is |
//! |---|---|---|
//! | the MX lookup failed; the domain has no route; too many connections to the domain or in all | nobody | - |
//! | this host is out of file descriptors or of memory for sockets, for a lookup or for a connection | nobody | as it was |
//! | an exchange turns out to be this host | nobody behind it | - |
//! | its address or TLSA lookup failed, it has no address or only reserved ones, `dane-only` is not met, its share of the time is over | the next exchange | - |
//! | the source address cannot be bound; too many connections to this address | the next address | as it was |
//! | no connection | the next address | tried last |
//! | no answer to the connection attempt, greeting, EHLO, STARTTLS or handshake in full time | the next address | not tried again |
//! | the same in less than full time, because little was left | the next address | tried last |
//! | the greeting is 4yz, 5yz or no greeting; EHLO is refused or not answered with 250, in the clear or under TLS | the next address | tried last |
//! | the connection is lost, or the protocol broken, before MAIL | the next address | tried last |
//! | STARTTLS is missing, refused or followed by plaintext; the handshake failed, at the host's end too; the certificate does not match | the next address | as it was |
//! | before any answer to RCPT: 421, the connection lost, the protocol broken, an answer to another command, no answer in time | the next address | as it was |
//! | over a session that had mails before: MAIL is answered with 4yz or 503 | the same address, over a new session | as it was |
//! | MAIL is answered with 4yz | the next exchange | as it was |
//! | the address lacks an extension that the client has declared, or room for the message | the next address | as it was |
//! | MAIL is answered with 5yz; anything from DATA on | nobody | as it was |
//!
//! "The next address" is the next exchange where the exchange has no more. An answer to RCPT is never part of this: it
//! is relayed, and from then on the remote is settled. Nothing that is about TLS changes the order (RFC 7672 §2.2.1: the
//! order is the publisher's), and nothing that a remote says about mail is remembered (RFC 5321 §4.5.4.1).

use std::time::Duration;

use crate::config::Timeouts;
use crate::dns::{Failure, Rtype};
use crate::mx::NoRoute;
use crate::refusal::{Cap, Reason, Stage, TlsFailure};
use crate::smtp::reply::Class;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Who is asked next.
    pub next: Next,
    /// What is remembered of the address.
    pub address: Standing,
}

/// Who is asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next address of this exchange; without one, the next exchange.
    Address,
    /// The next exchange.
    Exchange,
    /// Nobody further down the list: this is the answer.
    Nobody,
}

/// How an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As before.
    Unchanged,
    /// It has failed: others have their turn first.
    Failed,
    /// It let us wait in vain: waiting for it again, for each mail of a retry storm, would hold up all others.
    Silent,
}

/// The table. `limits` says what full time is.
pub fn after(reason: &Reason, limits: &Timeouts) -> After {
    let row = |next, address| After { next, address };
    let exchange = row(Next::Exchange, Standing::Unchanged);
    let address = row(Next::Address, Standing::Unchanged);
    let failed = row(Next::Address, Standing::Failed);
    let nobody = row(Next::Nobody, Standing::Unchanged);
    match reason {
        // The next host would have to be looked up and dialled too.
        reason if reason.scarcity().is_some() => nobody,
        Reason::Dns(Failure { rtype: Rtype::MX, .. }) => nobody,
        Reason::NoRoute(NoRoute::NoDomain(_) | NoRoute::NullMx(_) | NoRoute::NoHost(_) | NoRoute::Loop(..)) => nobody,
        Reason::Dns(_) | Reason::NoAddress | Reason::ReservedAddress(_) | Reason::DaneRequired(_) => exchange,
        Reason::Busy(cap) => match cap {
            Cap::Domain(_) | Cap::All(_) => nobody,
            Cap::Host(_) => address,
        },
        Reason::Scarce(_) => nobody,
        Reason::Bind { .. } | Reason::JustFailed { .. } => address,
        Reason::Connect(_)
        | Reason::Greeting(_)
        | Reason::Ehlo(_)
        | Reason::EhloInDoubt { .. }
        | Reason::EhloName { .. }
        | Reason::EhloUnderTls(_) => failed,
        Reason::StartTlsMissing | Reason::StartTlsRefused(_) | Reason::StartTlsInjected => address,
        Reason::Tls(TlsFailure::Closed(_)) => failed,
        Reason::Tls(
            TlsFailure::Mismatch(_)
            | TlsFailure::NoSharedParameters(_)
            | TlsFailure::WrongKey
            | TlsFailure::SmallKey(_)
            | TlsFailure::UnsupportedKey
            | TlsFailure::Injected
            | TlsFailure::Alert(_)
            | TlsFailure::Broken(_),
        ) => address,
        Reason::Timeout { stage, limit } => match moment(*stage) {
            Moment::BeforeMail if *limit < full(*stage, limits) => failed,
            Moment::BeforeMail => row(Next::Address, Standing::Silent),
            Moment::Envelope => address,
            Moment::Message => nobody,
        },
        Reason::Lost { stage, .. }
        | Reason::Protocol { stage, .. }
        | Reason::Unsolicited(stage)
        | Reason::WrongAnswer { stage, .. } => match moment(*stage) {
            Moment::BeforeMail => failed,
            Moment::Envelope => address,
            Moment::Message => nobody,
        },
        // RFC 5321 §3.8: the session is over, whoever had the message to say.
        Reason::Closing(_) => address,
        Reason::AnsweredUnread { .. } => nobody,
        // RFC 5321 §4.5.4.1: 4yz is for now and for this host; 5yz is for the mail.
        Reason::Mail(reply) if reply.class() == Class::Permanent => nobody,
        Reason::Mail(_) => exchange,
        // RFC 5321 §2.2.3: another host may have it, and the addresses of an exchange may be hosts of their own. If none
        // has it, the mail goes without, or back.
        Reason::Lacking(_) => address,
        // It is not here any more.
        Reason::BdatRefused(_) => nobody,
        Reason::OutOfTime | Reason::NotTried(_) | Reason::NotAsked(_) => exchange,
    }
}

/// When in a session something happens.
enum Moment {
    /// Nothing of the mail was said.
    BeforeMail,
    /// MAIL and RCPT: no answer to a recipient was relayed yet.
    Envelope,
    /// DATA and all that follows.
    Message,
}

fn moment(stage: Stage) -> Moment {
    match stage {
        stage if stage.precedes_mail() => Moment::BeforeMail,
        Stage::Mail | Stage::Rcpt => Moment::Envelope,
        _ => Moment::Message,
    }
}

/// How long a stage before MAIL may take where time is not short.
fn full(stage: Stage, limits: &Timeouts) -> Duration {
    match stage {
        Stage::Connect => limits.connect,
        Stage::Handshake => limits.handshake,
        Stage::Greeting
        | Stage::Ehlo
        | Stage::StartTls
        | Stage::EhloUnderTls
        | Stage::Mail
        | Stage::Rcpt
        | Stage::Data
        | Stage::Message
        | Stage::EndOfMessage => limits.greeting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DEFAULTS};
    use crate::dane::mismatch::Mismatch;
    use crate::dane::tlsa::NoDane;
    use crate::dns::FailureReason;
    use crate::name::Name;
    use crate::policy::DaneRequired;
    use crate::refusal::Lacking;
    use crate::scarce::Scarcity;
    use crate::smtp::reply::{Code, Reply};

    fn reply(number: u16) -> Reply {
        Reply::plain(Code::new(number).unwrap(), "so")
    }

    fn broken() -> std::io::Error {
        std::io::ErrorKind::ConnectionReset.into()
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
    fn the_table() {
        use Next::{Address, Exchange, Nobody};
        use Standing::{Failed, Silent, Unchanged};
        // K4, K12, K15, K16, K17, M22, A-105.
        let limits: Timeouts = DEFAULTS.parse::<toml::Table>().unwrap().try_into::<Config>().unwrap().timeouts;
        let name = || Name::parse("x").unwrap();
        let waited = |stage, limit| Reason::Timeout { stage, limit };
        let little = Duration::from_secs(1);
        let mut rows = vec![
            (failure("MX"), Nobody, Unchanged),
            (NoRoute::NoDomain(name()).into(), Nobody, Unchanged),
            (NoRoute::NullMx(name()).into(), Nobody, Unchanged),
            (NoRoute::NoHost(name()).into(), Nobody, Unchanged),
            (Reason::Busy(Cap::Domain(1)), Nobody, Unchanged),
            (Reason::Busy(Cap::All(1)), Nobody, Unchanged),
            (NoRoute::Loop(name(), name()).into(), Nobody, Unchanged),
            (Scarcity::OwnDescriptors.into(), Nobody, Unchanged),
            (Scarcity::Memory.into(), Nobody, Unchanged),
            (unasked("A"), Nobody, Unchanged),
            (unasked("TLSA"), Nobody, Unchanged),
            (failure("A"), Exchange, Unchanged),
            (failure("TLSA"), Exchange, Unchanged),
            (Reason::NoAddress, Exchange, Unchanged),
            (Reason::ReservedAddress([127, 0, 0, 1].into()), Exchange, Unchanged),
            (DaneRequired(NoDane::NoTlsa).into(), Exchange, Unchanged),
            (Reason::OutOfTime, Exchange, Unchanged),
            (Reason::Bind { from: [127, 0, 0, 1].into(), error: broken() }, Address, Unchanged),
            (Reason::Busy(Cap::Host(1)), Address, Unchanged),
            (Reason::JustFailed { why: "so".into(), ago: little }, Address, Unchanged),
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
            (TlsFailure::Alert("so".into()).into(), Address, Unchanged),
            (TlsFailure::Closed("so".into()).into(), Address, Failed),
            (Reason::Closing(reply(421)), Address, Unchanged),
            (Reason::AnsweredUnread { reply: reply(250), octets: 1 }, Nobody, Unchanged),
            (Reason::Mail(reply(450)), Exchange, Unchanged),
            (Reason::Mail(reply(550)), Nobody, Unchanged),
            (Reason::BdatRefused(reply(502)), Nobody, Unchanged),
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
                (waited(stage, limit), Address, Silent),
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
                (waited(stage, limits.data), Nobody, Unchanged),
                (Reason::Lost { stage, error: broken() }, Nobody, Unchanged),
                (Reason::WrongAnswer { stage, reply: reply(250) }, Nobody, Unchanged),
            ]);
        }
        for (reason, next, address) in rows {
            assert_eq!(after(&reason, &limits), After { next, address }, "{reason:?}");
        }
    }
}
