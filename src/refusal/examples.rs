//! An example of the text of each reason, for the reference of refusals.

use std::io;
use std::time::Duration;

use super::table::{Label, ROWS};
use super::{Cap, FailedPart, Lacking, OwnRefusal, Peer, Reason, Refusal, ResultType, Stage, TlsFailure, View};
use crate::dane::mismatch::{Defect, Holder, Mismatch, NoRecord, Untrusted};
use crate::dane::tlsa::{NoDane, Tlsa};
use crate::dns::{Failure, FailureReason, Families, Rtype};
use crate::mx::NoRoute;
use crate::name::{Name, NameError};
use crate::policy::DaneRequired;
use crate::scarce::Scarcity;
use crate::smtp::data::Offence;
use crate::smtp::reply::{Code, EnhancedCode, Reply, ReplyError};

/// A row of the table, and the text of a reply that falls under it.
#[derive(Debug)]
pub struct Example {
    /// The row.
    pub view: View,
    /// The text of a reply, without its codes.
    pub text: String,
    /// The result type of RFC 8460 §4.3, where failures with this row are reported.
    pub result_type: Option<ResultType>,
}

/// One for each row, in the order of the table.
///
/// # Errors
/// Never: the names are names.
pub fn examples() -> Result<Vec<Example>, NameError> {
    let refusals = refusals()?;
    let found = |view: &View| refusals.iter().find(|refusal| refusal.reason.view() == *view);
    let of = |view: &View| {
        let text = found(view).map(ToString::to_string).or_else(|| of_the_message(view.label))?;
        let of_row = refusals.iter().filter(|refusal| refusal.reason.view().label == view.label);
        let result_type = of_row.filter_map(|refusal| refusal.reason.result_type()).next();
        Some(Example { view: *view, text, result_type })
    };
    Ok(ROWS.iter().filter_map(of).collect())
}

/// The text of a reply for a reason that is no [`Reason`]: it comes from the message, from the client, or from the remote's
/// replies to recipients and to the message.
fn of_the_message(label: Label) -> Option<String> {
    let found = OF_THE_MESSAGE.iter().find(|(of, _)| *of == label).map(|(_, text)| (*text).to_owned());
    let own = || OF_OUR_OWN.iter().find(|refusal| refusal.view().label == label);
    found.or_else(|| own().map(OwnRefusal::to_string))
}

const OF_THE_MESSAGE: &[(Label, &str)] = &[
    (Label::NoExchange, "no mail exchanger could be tried"),
    (Label::RecipientRefused, "mx.example.com[192.0.2.1]: no such user"),
    (Label::DataRefused, "mx.example.com[192.0.2.1]: no valid recipients"),
    (Label::MessageRefused, "mx.example.com[192.0.2.1]: the message looks like spam"),
];

const OF_OUR_OWN: &[OwnRefusal] = &[
    OwnRefusal::Content(Offence::LineFeed),
    OwnRefusal::Content(Offence::Nul),
    OwnRefusal::TooLarge(52_428_800),
    OwnRefusal::TooManyHops,
    OwnRefusal::TlsRequiredMissing,
    OwnRefusal::StoreBusy,
    OwnRefusal::StoreDown,
    OwnRefusal::AnsweredInPart,
];

const LACKING: [Lacking; 6] = [
    Lacking::EightBitMime,
    Lacking::SmtpUtf8,
    Lacking::SmtpUtf8Header,
    Lacking::Size(10_000_000),
    Lacking::RequireTls,
    Lacking::Authentication,
];

/// A refusal for each row and result type.
pub(crate) fn refusals() -> Result<Vec<Refusal>, NameError> {
    let domain = Name::parse("example.com")?;
    let exchange = Name::parse("mx.example.com")?;
    let special = Name::parse("example.invalid")?;
    let peer = Peer { exchange: exchange.clone(), address: [192, 0, 2, 1].into(), port: None };
    let mut all = Vec::new();
    all.extend(of_the_domain(&domain, &exchange).map(Refusal::domain));
    all.push(Refusal::domain(NoRoute::absent(special.clone(), &special)));
    all.extend(of_the_host(&exchange).map(|reason| Refusal::host(&exchange, reason)));
    all.extend(of_the_session().map(|reason| Refusal::peer(&peer, reason)));
    all.extend(LACKING.map(|lacking| Refusal::peer(&peer, lacking)));
    all.extend(of_the_handshake(&domain).map(|failure| Refusal::peer(&peer, failure)));
    Ok(all)
}

fn failed(name: &Name, rtype: Rtype, reason: FailureReason) -> Reason {
    Failure { name: name.clone(), rtype, reason }.into()
}

fn of_the_domain(domain: &Name, exchange: &Name) -> impl Iterator<Item = Reason> {
    [
        failed(domain, Rtype::MX, FailureReason::Bogus("no valid signature leads to a trust anchor".into())),
        NoRoute::NoDomain(domain.clone()).into(),
        NoRoute::NullMx(domain.clone()).into(),
        NoRoute::NoHost(domain.clone()).into(),
        NoRoute::Loop(domain.clone(), exchange.clone()).into(),
        NoRoute::NoPrimary(domain.clone()).into(),
        Cap::Domain(50).into(),
        Reason::StsLookup(Failure { name: domain.clone(), rtype: Rtype::TXT, reason: FailureReason::Timeout }),
        Reason::NotTried(3),
        Reason::NotAsked(1),
    ]
    .into_iter()
}

fn of_the_host(exchange: &Name) -> impl Iterator<Item = Reason> {
    [
        failed(exchange, Rtype::A, FailureReason::Timeout),
        failed(exchange, Rtype::A, FailureReason::Refused("SERVFAIL".into())),
        failed(exchange, Rtype::TLSA, FailureReason::Refused("SERVFAIL".into())),
        Reason::NoAddress,
        Reason::NotInFamily(Families::Ipv4),
        Reason::ReservedAddress([10, 0, 0, 1].into()),
        DaneRequired(NoDane::NoTlsa).into(),
        Reason::MxNotInPolicy { policy: "20260101T0 (fetched 3h ago)".to_owned(), exchange: exchange.clone() },
        Reason::StsNoTurn,
        Reason::UnsignedUnderSts,
        Reason::NotAuthenticated,
        Reason::OutOfTime,
    ]
    .into_iter()
}

fn of_the_session() -> impl Iterator<Item = Reason> {
    let limit = Duration::from_secs(60);
    let no = |text| Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text);
    let later = || Reply::new(Code::SERVICE_NOT_AVAILABLE, EnhancedCode::transient(3, 2), "too busy");
    let connecting = Reason::Timeout { stage: Stage::Connect, limit: Duration::from_secs(30) };
    [
        Reason::Bind { from: [192, 0, 2, 9].into(), error: io::ErrorKind::AddrNotAvailable.into() },
        Scarcity::OwnDescriptors.into(),
        Scarcity::Memory.into(),
        Reason::JustFailed { why: connecting.to_string(), ago: Duration::from_secs(20), part: FailedPart::Other },
        Reason::Connect(io::ErrorKind::ConnectionRefused.into()),
        connecting,
        Reason::Greeting(no("you are on a block list")),
        Reason::Ehlo(Reply::plain(Code::NOT_IMPLEMENTED, "command not implemented")),
        Reason::EhloInDoubt { name: "mail.example".to_owned(), reply: no("Helo command rejected: Host not found") },
        Reason::EhloName { name: "mail.example".to_owned(), reply: no("Helo command rejected: Host not found") },
        Reason::StartTlsMissing,
        Reason::StartTlsRefused(no("TLS not available")),
        Reason::StartTlsInjected,
        Reason::Timeout { stage: Stage::Handshake, limit: Duration::from_secs(30) },
        Reason::EhloUnderTls(no("invalid name")),
        Reason::Timeout { stage: Stage::Greeting, limit },
        Reason::Timeout { stage: Stage::StartTls, limit },
        Reason::Lost { stage: Stage::Rcpt, error: io::ErrorKind::ConnectionReset.into() },
        Reason::Lost { stage: Stage::StartTls, error: io::ErrorKind::ConnectionReset.into() },
        Reason::Timeout { stage: Stage::EndOfMessage, limit: Duration::from_secs(570) },
        Reason::Protocol { stage: Stage::Greeting, error: ReplyError::LineTooLong },
        Reason::Protocol { stage: Stage::StartTls, error: ReplyError::LineTooLong },
        Reason::Unsolicited(Stage::StartTls),
        Reason::AnsweredUnread { reply: Reply::new(Code::OK, EnhancedCode::success(0, 0), "Ok"), octets: 3_800_000 },
        Reason::Closing(later()),
        Reason::Refused { stage: Stage::Mail, reply: Reply::plain(Code::LOCAL_ERROR, "come back later") },
        Reason::BdatRefused(Reply::plain(Code::NOT_IMPLEMENTED, "command not implemented")),
    ]
    .into_iter()
}

fn of_the_handshake(domain: &Name) -> impl Iterator<Item = TlsFailure> {
    let hex = |pair: &str| pair.repeat(32);
    let records: Vec<Tlsa> = format!("3 1 1 {}", hex("8C")).parse().into_iter().collect();
    let stale = NoRecord::new(hex("1F"), Some(hex("A7")), &records);
    let name = Mismatch::Name { found: ["www.example.com".into()].into_iter().collect(), wanted: vec![domain.clone()] };
    [
        Mismatch::NoCertificate.into(),
        Mismatch::ChainTooLarge { certificates: 40, octets: 90_000 }.into(),
        Mismatch::NoRecord(stale).into(),
        Mismatch::KeySize(Holder::Server, 1024).into(),
        Mismatch::Expired(Holder::Server).into(),
        Mismatch::NotYetValid(Holder::Authority("Example CA".into())).into(),
        Mismatch::Path(Holder::Server, Defect::NoIssuer).into(),
        Mismatch::Untrusted(Untrusted::Issuer("Example Root CA".into())).into(),
        name.into(),
        TlsFailure::WrongKey,
        TlsFailure::UnsupportedKey,
        TlsFailure::NoSharedParameters("the server sent the alert HandshakeFailure".into()),
        TlsFailure::Injected,
        TlsFailure::NameNotKnown,
        TlsFailure::Alert("InternalError".into()),
        TlsFailure::Closed("unexpected end of file".into()),
        TlsFailure::Broken("received corrupt message".into()),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::super::table::SILENT;
    use super::*;
    use crate::rules::LevelFloor;

    #[test]
    fn every_reason_has_a_cause_a_remedy_and_an_example() {
        let examples = examples().unwrap();
        assert_eq!(examples.len(), ROWS.len(), "{:?}", examples.iter().map(|e| e.view.label).collect::<Vec<_>>());
        let silent = SILENT.iter().map(|row| (row.label, row.cause, row.remedy));
        for (label, cause, remedy) in ROWS.iter().map(|row| (row.label, row.cause, row.remedy)).chain(silent) {
            assert!(cause.len() > 20 && cause.ends_with('.'), "{label}");
            // A reply line has room for host, reason and remedy (RFC 5321 §4.5.3.1.5).
            assert!((10..=120).contains(&remedy.len()) && !remedy.ends_with('.'), "{label}");
        }
        // Where no rule lowers the level, none is the remedy.
        for row in ROWS {
            let remedy = row.remedy_at(Some(LevelFloor::Verify));
            assert!((10..=120).contains(&remedy.len()) && !remedy.ends_with('.'), "{}", row.label);
            assert!(
                !["\"may\"", "\"ignore\"", "a rule must"].iter().any(|rule| remedy.contains(rule)),
                "{}",
                row.label
            );
        }
        for Example { text, .. } in &examples {
            assert!(text.is_ascii(), "{text}");
        }
        let mut labels: Vec<_> = Label::VARIANTS.iter().map(|label| label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(
            (labels.len(), ROWS.len() + SILENT.len()),
            (Label::VARIANTS.len(), Label::VARIANTS.len()),
            "a label is there twice"
        );
        for label in labels {
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{label}");
        }
    }

    #[test]
    fn failures_of_dane_have_the_same_names_everywhere() {
        for refusal in refusals().unwrap() {
            if let Reason::Tls(TlsFailure::Mismatch(mismatch)) = &refusal.reason {
                assert_eq!(mismatch.label(), refusal.reason.view().label.as_str());
            }
        }
    }
}
