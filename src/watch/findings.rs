//! The findings of the watch: a plain function of the facts before, the facts now, and a clock.

use std::collections::BTreeMap;
use std::fmt;

use super::facts::{
    BrokenHost, DaneFact, DomainFacts, HostFacts, MxFact, RecordFact, SeenFault, SignatureFact, StsFact,
};
use super::kinds::{FindingKind, Ownership, Severity};
use crate::check::ends::{CERTIFICATE_SOON, DAY, is_signature_late};
use crate::refusal::Label;

/// A certificate on the path of the operator's own host that ends sooner is told.
const OWN_ENDS_SOON: i64 = 60 * DAY;
/// From then on it is an alarm.
const OWN_ENDS_NOW: i64 = 4 * DAY;
/// A policy of MTA-STS that cannot be fetched is told of so long before its end.
const STS_ENDS_SOON: i64 = 7 * DAY;
/// A rule is told of so many days before its end.
const RULE_ENDS_SOON: i32 = 14;
/// STARTTLS that was taken for so long is missed.
const STARTTLS_TAKEN: i64 = 7 * DAY;
/// The most names in one text.
const MAX_NAMED: usize = 5;
/// How long lost records are told of.
const LOST: i64 = 30 * DAY;

/// A finding of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenFinding {
    pub(crate) kind: FindingKind,
    pub(crate) severity: Severity,
    /// In words.
    pub(crate) text: String,
    /// The name in the table of refusals, for a finding about one.
    pub(crate) label: Option<String>,
    /// Whether the look had no answer about it: the finding stays as it is.
    pub(crate) is_carried: bool,
}

/// The facts of one look, beside those before.
#[derive(Debug)]
pub(crate) struct Compared<'a, F> {
    /// The facts of the last look that was told; none at the first.
    pub(crate) before: Option<&'a F>,
    /// The facts now.
    pub(crate) now: &'a F,
    /// The owner.
    pub(crate) whose: Ownership,
    /// The time of the look, in seconds since 1970.
    pub(crate) at: i64,
}

impl FindingKind {
    fn of(self, whose: Ownership, text: String) -> Option<SeenFinding> {
        Some(SeenFinding { kind: self, severity: self.severity(whose)?, text, label: None, is_carried: false })
    }

    fn about(self, whose: Ownership, fault: &SeenFault) -> Option<SeenFinding> {
        let finding = self.of(whose, fault.text.clone())?;
        Some(SeenFinding { label: Some(fault.label.clone()), ..finding })
    }
}

/// The past of a domain.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct DomainPast {
    /// The start of the time in which it took mail under TLS.
    pub(crate) good_since: Option<i64>,
    /// The refused delivery that the last look knew.
    pub(crate) refused: Option<i64>,
}

/// The findings about a domain. `hosts` has the facts of its exchanges.
pub(crate) fn of_domain(
    compared: &Compared<'_, DomainFacts>,
    hosts: &BTreeMap<&str, &HostFacts>,
    past: DomainPast,
) -> Vec<SeenFinding> {
    let Compared { before, now, whose, at } = *compared;
    let mut all = Vec::new();
    all.extend(stopped(compared, past));
    if let (Some(before), Some(is)) = (before, &now.mx) {
        all.extend(before.mx.as_ref().filter(|was| *was != is).and_then(|was| {
            let protection = match (before.is_verified, now.is_verified) {
                (true, false) => "its mail was verified, and is not any more",
                (false, true) => "its mail was not verified, and is now",
                (true, true) | (false, false) => "its mail is protected as before",
            };
            FindingKind::MxMoved
                .of(whose, format!("the exchanges were {} and are {}; {protection}", listed(was), listed(is)))
        }));
    }
    all.extend(without_dane(hosts).and_then(|text| FindingKind::MxWithoutDane.of(whose, text)));
    all.extend(now.signature.as_ref().and_then(|signature| signature_ends(signature, whose, at)));
    all.extend(sts(before.and_then(|before| before.sts.as_ref()), now.sts.as_ref(), whose, at));
    if before.is_some_and(|before| before.tlsrpt == Some(true)) && now.tlsrpt == Some(false) {
        all.extend(
            FindingKind::TlsrptGone.of(whose, "the domain no longer asks for TLS reports (RFC 8460)".to_owned()),
        );
    }
    all.extend(rule(now, whose));
    all
}

/// The finding that mail to a domain waits. A fault of hosts is told of them, with the number of their domains. Where a delivery was
/// refused, another one must have been since the last look.
fn stopped(compared: &Compared<'_, DomainFacts>, past: DomainPast) -> Option<SeenFinding> {
    let Compared { before: _, now, whose, at } = *compared;
    let fault = now.standing.broken()?;
    let is_of_host = fault.host.is_some() && whose == Ownership::Theirs;
    let since =
        past.good_since.filter(|since| now.refused.is_some() && is_stripped(fault) && at - since >= STARTTLS_TAKEN);
    let is_carried = now.refused.is_some() && now.refused == past.refused;
    let finding = match since {
        Some(since) => {
            let text = format!("mail went under TLS for {}, and does not any more: {}", days(at - since), fault.text);
            let label = Some(fault.label.clone());
            FindingKind::StarttlsLost.of(whose, text).map(|finding| SeenFinding { label, ..finding })
        }
        None => FindingKind::BrokenNow.about(whose, fault).filter(|_| !is_of_host),
    };
    finding.map(|finding| SeenFinding { is_carried, ..finding })
}

/// Whether STARTTLS is not offered.
fn is_stripped(fault: &SeenFault) -> bool {
    matches!(fault.label.parse(), Ok(Label::StartTlsMissing | Label::StartTlsRefused))
}

/// How mail to the domains of a host goes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DomainsBehind {
    /// All of them.
    pub(crate) all: usize,
    /// Those whose mail waits because of this host.
    pub(crate) stopped: usize,
}

/// The past of a host.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct HostPast {
    /// Since when its lost records are told of.
    pub(crate) lost: Option<i64>,
    /// Whether it was told, or suspected, to fail beside others that take the mail.
    pub(crate) was_broken: bool,
}

/// The findings about a host.
pub(crate) fn of_host(
    compared: &Compared<'_, HostFacts>,
    behind: DomainsBehind,
    HostPast { lost, was_broken }: HostPast,
) -> Vec<SeenFinding> {
    let Compared { before, now, whose, at } = *compared;
    let mut all = Vec::new();
    if let Some(BrokenHost { fault, is_carried }) = now.broken() {
        let carried = |finding: SeenFinding| SeenFinding { is_carried, ..finding };
        all.extend(FindingKind::BrokenNow.about(whose, fault).filter(|_| behind.stopped > 0).map(carried));
        // One that gets worse is not over.
        let fails_beside = behind.stopped == 0 || was_broken;
        all.extend(FindingKind::HostBroken.about(whose, fault).filter(|_| fails_beside).map(carried));
    }
    all.extend(dane(compared, lost));
    match (now.dane, now.records.as_slice()) {
        (DaneFact::Unusable, _) => {
            let text = "its TLSA records are secure, and none is usable: TLS is not verified (RFC 7671 §4)";
            all.extend(FindingKind::UnusableRecords.of(whose, text.to_owned()));
        }
        (DaneFact::Usable, [_]) => {
            let text =
                "it has one TLSA record: the next key needs a record of its own before it is used (RFC 7671 §8.1)";
            all.extend(FindingKind::OneRecord.of(whose, text.to_owned()));
        }
        (DaneFact::Usable | DaneFact::Absent | DaneFact::Insecure | DaneFact::NotAsked | DaneFact::Unknown, _) => {}
    }
    all.extend(before.and_then(|before| rollover(before, now, whose)));
    all.extend(renewal(now, at).and_then(|text| FindingKind::WillBreakRenewal.of(whose, text)));
    all.extend(certificate_ends(now, whose, at));
    all.extend(now.signature.as_ref().and_then(|signature| signature_ends(signature, whose, at)));
    all
}

/// Records that came or went.
fn dane(compared: &Compared<'_, HostFacts>, lost: Option<i64>) -> Option<SeenFinding> {
    let Compared { before, now, whose, at } = *compared;
    let has = |facts: &HostFacts| matches!(facts.dane, DaneFact::Usable | DaneFact::Unusable);
    let why = match now.dane {
        DaneFact::Absent => {
            "it had secure TLSA records, and a secure denial says that they are gone: mail goes unverified"
        }
        DaneFact::Insecure => "it had secure TLSA records, and its zone is not signed any more: mail goes unverified",
        DaneFact::Usable => {
            let is_new =
                before.is_some_and(|before| !has(before) && !before.is_unknown() && before.dane != DaneFact::NotAsked);
            let text = "it has usable TLSA records, and had none at the last look: mail is verified from now on";
            return FindingKind::DaneGained.of(whose, text.to_owned()).filter(|_| is_new);
        }
        DaneFact::Unusable | DaneFact::NotAsked | DaneFact::Unknown => return None,
    };
    let is_lost = before.is_some_and(has) || lost.is_some_and(|since| at - since < LOST);
    FindingKind::DaneLost.of(whose, why.to_owned()).filter(|_| is_lost)
}

/// A rollover that goes well (RFC 7671 §8.1).
fn rollover(before: &HostFacts, now: &HostFacts, whose: Ownership) -> Option<SeenFinding> {
    let shown = |facts: &HostFacts| -> Vec<_> {
        let known = facts.addresses.iter().filter_map(|fact| Some((fact.address.clone(), fact.certificate.clone()?)));
        known.collect()
    };
    let (was, is) = (shown(before), shown(now));
    let same_addresses = was.iter().map(|(address, _)| address).eq(is.iter().map(|(address, _)| address));
    if now.broken().is_some() || now.dane != DaneFact::Usable || before.dane != DaneFact::Usable || !same_addresses {
        return None;
    }
    match (before.records == now.records, was == is) {
        (false, true) => FindingKind::TlsaChanged
            .of(whose, "its TLSA records have changed, and its certificate has not: a rollover is prepared".to_owned()),
        (true, false) if now.addresses.iter().any(|fact| by_authority(fact.matched.as_ref())) => {
            FindingKind::CertificateChanged
                .of(whose, "its certificate has changed, and is verified by the same TLSA records".to_owned())
        }
        (..) => None,
    }
}

fn by_authority(record: Option<&RecordFact>) -> bool {
    record.is_some_and(|record| record.usage == 2)
}

/// Why the next renewal breaks the host, if it does.
fn renewal(now: &HostFacts, at: i64) -> Option<String> {
    let first = now.records.first().filter(|_| now.dane == DaneFact::Usable)?;
    // Several digests of one certificate are one pin. A further value of the same kind waits for the next certificate.
    let is_one_pin = now.records.iter().all(|record| {
        let same_kind = |other: &&RecordFact| other.matching == record.matching;
        let kinds = (record.usage, record.selector) == (first.usage, first.selector);
        kinds && now.records.iter().filter(same_kind).count() == 1
    });
    if !is_one_pin {
        return None;
    }
    let anchor_ends = now.addresses.iter().filter_map(|fact| fact.anchor_ends).min();
    match (first.usage, first.selector) {
        // RFC 7671 §5.1: a key outlives its certificate.
        (3, 0) => Some(
            "its TLSA records hold this one certificate (3 0 x): the renewal breaks it; publish 3 1 1, of the key, or the next record \
             before the renewal"
                .to_owned(),
        ),
        (2, _) => anchor_ends.filter(|ends| ends - at < CERTIFICATE_SOON).map(|ends| {
            format!(
                "its TLSA records hold one authority (2 x x), whose certificate ends in {}, and no other record waits; an authority \
                 may take another intermediate at any renewal",
                days(ends - at)
            )
        }),
        _ => None,
    }
}

/// A certificate whose dates count: never under usage 3 (RFC 7671 §5.1).
fn certificate_ends(now: &HostFacts, whose: Ownership, at: i64) -> Option<SeenFinding> {
    let soon = match whose {
        Ownership::Ours => OWN_ENDS_SOON,
        Ownership::Theirs => CERTIFICATE_SOON,
    };
    let counts = now.addresses.iter().filter(|fact| by_authority(fact.matched.as_ref()));
    let left = counts.filter_map(|fact| fact.path_ends).min()? - at;
    let text = format!("a certificate on its path ends in {}, and its date counts under usage 2", days(left));
    let finding = FindingKind::CertificateEnds.of(whose, text).filter(|_| left < soon)?;
    let is_urgent = whose == Ownership::Theirs || left < OWN_ENDS_NOW;
    Some(if is_urgent { finding } else { SeenFinding { severity: Severity::Warn, ..finding } })
}

fn signature_ends(signature: &SignatureFact, whose: Ownership, at: i64) -> Option<SeenFinding> {
    let left = signature.ends - at;
    let text = format!(
        "the DNSSEC signature of {} ends in {}: the signer has stopped, and mail waits from then on",
        signature.records,
        counted(left.max(0) / 3600, "hour")
    );
    FindingKind::SignatureEnds.of(whose, text).filter(|_| is_signature_late(left, signature.term))
}

/// The policy of MTA-STS.
fn sts(before: Option<&StsFact>, now: Option<&StsFact>, whose: Ownership, at: i64) -> Vec<SeenFinding> {
    let Some(now) = now else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(before) = before.filter(|before| before.id != now.id) {
        let text = format!(
            "the policy of MTA-STS has changed: id {}, mode {}, and was id {}, mode {}",
            now.id, now.mode, before.id, before.mode
        );
        all.extend(FindingKind::StsChanged.of(whose, text));
    }
    if now.mode == "enforce" && !now.unlisted.is_empty() {
        let text = format!("the policy of MTA-STS does not list {}: no mail goes there", some(now.unlisted.clone()));
        all.extend(FindingKind::StsMxMismatch.of(whose, text));
    }
    if let Some(left) = now.ends.map(|ends| ends - at).filter(|left| *left < STS_ENDS_SOON) {
        let text = format!("the policy of MTA-STS cannot be fetched, and ends in {}", days(left));
        all.extend(FindingKind::StsEnds.of(whose, text));
    }
    all
}

/// A rule that is of no use, or ends while it is needed.
fn rule(now: &DomainFacts, whose: Ownership) -> Option<SeenFinding> {
    let rule = now.rule.as_ref()?;
    let text = match (rule.is_needless, rule.days_left) {
        (Some(true), _) => {
            format!("the rule for {} is not needed: mail goes as well protected without it", rule.domains)
        }
        (_, Some(left)) if left < RULE_ENDS_SOON => {
            format!("the rule for {} ends in {}, and the domain needs it", rule.domains, days(i64::from(left) * DAY))
        }
        (Some(false), _) => return None,
        (None, _) => String::new(),
    };
    let finding = FindingKind::RuleNeedless.of(whose, text)?;
    Some(SeenFinding { is_carried: finding.text.is_empty(), ..finding })
}

/// The exchanges with DANE beside those without, the weakest link of the domain.
fn without_dane(hosts: &BTreeMap<&str, &HostFacts>) -> Option<String> {
    let of = |wanted: &[DaneFact]| -> Vec<String> {
        hosts.iter().filter(|(_, host)| wanted.contains(&host.dane)).map(|(name, _)| (*name).to_owned()).collect()
    };
    let (with, without) = (of(&[DaneFact::Usable]), of(&[DaneFact::Absent, DaneFact::Insecure, DaneFact::Unusable]));
    (!with.is_empty() && !without.is_empty()).then(|| {
        format!(
            "{} cannot be verified by DANE, and {} can: an attacker who makes the latter unreachable has the mail sent to the former",
            some(without),
            some(with)
        )
    })
}

fn listed(mx: &[MxFact]) -> String {
    some(mx.iter().map(|mx| format!("{} {}", mx.preference, mx.host)).collect())
}

/// Some of the names, since a zone may have many.
fn some(names: Vec<String>) -> String {
    match names.len() {
        0 => "none".to_owned(),
        all if all > MAX_NAMED => format!("{} and {} more", names[..MAX_NAMED].join(", "), all - MAX_NAMED),
        _ => names.join(", "),
    }
}

/// Whole days of a time that is left.
fn days(seconds: i64) -> String {
    counted(seconds.max(0) / DAY, "day")
}

/// A number of things with this name, for people.
pub(crate) fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{address, broken_domain, broken_host, domain, host, record};
    use super::super::facts::{AddressFact, RuleFact};
    use super::*;

    /// The time of the look.
    const NOW: i64 = 2_000_000_000;

    fn told(found: &[SeenFinding]) -> Vec<(FindingKind, Severity)> {
        found.iter().map(|finding| (finding.kind, finding.severity)).collect()
    }

    fn kinds(found: Vec<SeenFinding>) -> Vec<FindingKind> {
        found.into_iter().map(|finding| finding.kind).collect()
    }

    fn host_kinds(before: &HostFacts, now: &HostFacts) -> Vec<FindingKind> {
        let compared = Compared { before: Some(before), now, whose: Ownership::Ours, at: NOW };
        let found = of_host(&compared, DomainsBehind { all: 1, stopped: 0 }, HostPast::default());
        kinds(found).into_iter().filter(|kind| *kind != FindingKind::OneRecord).collect()
    }

    fn domain_kinds(before: &DomainFacts, now: &DomainFacts) -> Vec<FindingKind> {
        let compared = Compared { before: Some(before), now, whose: Ownership::Ours, at: NOW };
        kinds(of_domain(&compared, &BTreeMap::new(), DomainPast::default()))
    }

    #[test]
    fn mail_that_waits_is_told_of_the_host_once_and_of_own_domains_each() {
        // W6.
        let of = |whose, now: &DomainFacts| {
            let compared = Compared { before: Some(&domain()), now, whose, at: NOW };
            told(&of_domain(&compared, &BTreeMap::new(), DomainPast::default()))
        };
        let by_host = broken_domain("tlsa-mismatch", Some("mx.example"));
        let by_zone = broken_domain("mx-lookup-failed", None);
        assert_eq!(of(Ownership::Theirs, &by_host), []);
        assert_eq!(of(Ownership::Ours, &by_host), [(FindingKind::BrokenNow, Severity::Alarm)]);
        assert_eq!(of(Ownership::Theirs, &by_zone), [(FindingKind::BrokenNow, Severity::Warn)]);
        let failing = broken_host("tlsa-mismatch");
        for (stopped, kind, severity) in
            [(0, FindingKind::HostBroken, Severity::Info), (3, FindingKind::BrokenNow, Severity::Warn)]
        {
            let compared = Compared { before: Some(&host()), now: &failing, whose: Ownership::Theirs, at: NOW };
            let found = of_host(&compared, DomainsBehind { all: 3, stopped }, HostPast::default());
            assert_eq!(told(&found), [(kind, severity)]);
            assert_eq!(found[0].label.as_deref(), Some("tlsa-mismatch"));
        }
        assert_eq!(host_kinds(&host(), &host()), []);
    }

    #[test]
    fn starttls_that_took_mail_for_a_week_is_missed() {
        let refused = |label: &str, at| DomainFacts { refused: Some(at), ..broken_domain(label, None) };
        let of = |now: &DomainFacts, refused, good_since| {
            let compared = Compared { before: None, now, whose: Ownership::Theirs, at: NOW };
            let found = of_domain(&compared, &BTreeMap::new(), DomainPast { good_since, refused });
            found.into_iter().map(|finding| (finding.kind, finding.is_carried)).collect::<Vec<_>>()
        };
        let stripped = refused("starttls-missing", NOW);
        assert_eq!(of(&stripped, None, Some(NOW - 7 * DAY)), [(FindingKind::StarttlsLost, false)]);
        assert_eq!(of(&stripped, None, Some(NOW - 6 * DAY)), [(FindingKind::BrokenNow, false)]);
        assert_eq!(of(&stripped, None, None), [(FindingKind::BrokenNow, false)]);
        assert_eq!(of(&refused("tls-closed", NOW), None, Some(0)), [(FindingKind::BrokenNow, false)]);
        // The same delivery confirms nothing, and a later one does.
        assert_eq!(of(&stripped, Some(NOW), None), [(FindingKind::BrokenNow, true)]);
        assert_eq!(of(&stripped, Some(NOW - 1), None), [(FindingKind::BrokenNow, false)]);
        // A session is no delivery.
        assert_eq!(of(&broken_domain("starttls-missing", None), None, Some(0)), [(FindingKind::BrokenNow, false)]);
    }

    #[test]
    fn a_host_that_gets_worse_is_not_over() {
        let failing = broken_host("tlsa-mismatch");
        let compared = Compared { before: None, now: &failing, whose: Ownership::Theirs, at: NOW };
        let past = HostPast { was_broken: true, ..HostPast::default() };
        let found = of_host(&compared, DomainsBehind { all: 1, stopped: 1 }, past);
        assert_eq!(kinds(found), [FindingKind::BrokenNow, FindingKind::HostBroken]);
        // A session without an answer leaves both as they are.
        let mut carried = broken_host("tlsa-mismatch");
        carried.addresses[0].is_carried = true;
        let compared = Compared { now: &carried, ..compared };
        assert!(
            of_host(&compared, DomainsBehind { all: 1, stopped: 1 }, past).iter().all(|finding| finding.is_carried)
        );
    }

    #[test]
    fn lost_and_gained_records_are_told() {
        let with = |dane| HostFacts { dane, records: Vec::new(), addresses: Vec::new(), ..host() };
        for (before, now, kind) in [
            (DaneFact::Usable, DaneFact::Absent, Some(FindingKind::DaneLost)),
            (DaneFact::Usable, DaneFact::Insecure, Some(FindingKind::DaneLost)),
            (DaneFact::Unusable, DaneFact::Absent, Some(FindingKind::DaneLost)),
            (DaneFact::Usable, DaneFact::Unknown, None),
            (DaneFact::Absent, DaneFact::Insecure, None),
            (DaneFact::Absent, DaneFact::Usable, Some(FindingKind::DaneGained)),
            (DaneFact::Insecure, DaneFact::Usable, Some(FindingKind::DaneGained)),
            (DaneFact::Unknown, DaneFact::Usable, None),
            (DaneFact::NotAsked, DaneFact::Usable, None),
            (DaneFact::Usable, DaneFact::NotAsked, None),
            (DaneFact::Usable, DaneFact::Usable, None),
            (DaneFact::Absent, DaneFact::Unusable, Some(FindingKind::UnusableRecords)),
        ] {
            assert_eq!(host_kinds(&with(before), &with(now)), Vec::from_iter(kind), "{before:?} {now:?}");
        }
        // It goes on for a month, though the facts before have none either by then.
        for (days, is_told) in [(29, true), (30, false)] {
            let gone = with(DaneFact::Absent);
            let compared = Compared { before: Some(&gone), now: &gone, whose: Ownership::Theirs, at: NOW };
            let found = of_host(
                &compared,
                DomainsBehind::default(),
                HostPast { lost: Some(NOW - days * DAY), ..HostPast::default() },
            );
            assert_eq!(!found.is_empty(), is_told, "{days}");
        }
    }

    #[test]
    fn exchanges_that_move_and_that_have_no_dane() {
        let mut moved = domain();
        moved.mx = Some(vec![MxFact { preference: 10, host: "mx.other".to_owned() }]);
        assert_eq!(domain_kinds(&domain(), &moved), [FindingKind::MxMoved]);
        assert_eq!(domain_kinds(&moved, &domain()), [FindingKind::MxMoved]);
        // A lookup that failed is no change.
        assert_eq!(domain_kinds(&domain(), &DomainFacts { mx: None, ..domain() }), []);
        let compared = Compared { before: Some(&domain()), now: &domain(), whose: Ownership::Theirs, at: NOW };
        let (dane, plain) = (host(), HostFacts { dane: DaneFact::Absent, ..host() });
        let of = |hosts: &[(&'static str, &HostFacts)]| {
            kinds(of_domain(&compared, &hosts.iter().copied().collect(), DomainPast::default()))
        };
        assert_eq!(of(&[("a", &dane), ("b", &plain)]), [FindingKind::MxWithoutDane]);
        assert_eq!(of(&[("a", &dane), ("b", &dane)]), []);
        assert_eq!(of(&[("a", &plain), ("b", &plain)]), []);
    }

    #[test]
    fn a_pin_that_the_next_renewal_breaks() {
        // W7.
        let of = |records: &[RecordFact], anchor_ends| {
            let fact = AddressFact { anchor_ends, ..address(&records[0]) };
            host_kinds(&host(), &HostFacts { records: records.to_vec(), addresses: vec![fact], ..host() })
                .contains(&FindingKind::WillBreakRenewal)
        };
        let soon = Some(NOW + 13 * DAY);
        let late = Some(NOW + 15 * DAY);
        for (records, anchor_ends, breaks) in [
            (vec![record([3, 0, 1], "a")], None, true),
            // Two digests of one certificate are one pin.
            (vec![record([3, 0, 1], "a"), record([3, 0, 2], "b")], None, true),
            // The next certificate waits.
            (vec![record([3, 0, 1], "a"), record([3, 0, 1], "b")], None, false),
            (vec![record([3, 0, 1], "a"), record([3, 1, 1], "b")], None, false),
            (vec![record([3, 1, 1], "a")], soon, false),
            (vec![record([2, 0, 1], "a")], soon, true),
            (vec![record([2, 1, 1], "a")], soon, true),
            (vec![record([2, 0, 1], "a")], late, false),
            (vec![record([2, 0, 1], "a")], None, false),
            (vec![record([2, 0, 1], "a"), record([2, 0, 1], "b")], soon, false),
        ] {
            assert_eq!(of(&records, anchor_ends), breaks, "{records:?} {anchor_ends:?}");
        }
    }

    #[test]
    fn dates_count_under_usage_2_alone() {
        // W7: RFC 7671 §5.1.
        let of = |usage, days: i64, whose| {
            let pin = record([usage, 1, 1], "a");
            let fact = AddressFact { path_ends: Some(NOW + days * DAY), ..address(&pin) };
            let now =
                HostFacts { records: vec![pin.clone(), record([usage, 1, 1], "b")], addresses: vec![fact], ..host() };
            let compared = Compared { before: Some(&now), now: &now, whose, at: NOW };
            told(&of_host(&compared, DomainsBehind::default(), HostPast::default())).first().map(|(kind, severity)| {
                assert_eq!(*kind, FindingKind::CertificateEnds);
                *severity
            })
        };
        for (usage, days, theirs, ours) in [
            (3, 0, None, None),
            (3, -100, None, None),
            (2, 61, None, None),
            (2, 59, None, Some(Severity::Warn)),
            (2, 13, Some(Severity::Warn), Some(Severity::Warn)),
            (2, 3, Some(Severity::Warn), Some(Severity::Alarm)),
            (2, -1, Some(Severity::Warn), Some(Severity::Alarm)),
        ] {
            let found = (of(usage, days, Ownership::Theirs), of(usage, days, Ownership::Ours));
            assert_eq!(found, (theirs, ours), "{usage} {days}");
        }
    }

    #[test]
    fn a_signature_is_told_below_a_tenth_and_two_days() {
        const HOUR: i64 = 60 * 60;
        for (term, left, is_told) in [
            // A month: a tenth is three days.
            (30 * DAY, 3 * DAY - 1, false),
            (30 * DAY, 2 * DAY - 1, true),
            // Two days: a tenth is five hours.
            (2 * DAY, 5 * HOUR, false),
            (2 * DAY, 4 * HOUR, true),
            (2 * DAY, -HOUR, true),
        ] {
            let signature = SignatureFact { records: "mx.example A".to_owned(), ends: NOW + left, term, ttl: 60 };
            let kinds = domain_kinds(&domain(), &DomainFacts { signature: Some(signature), ..domain() });
            assert_eq!(kinds == [FindingKind::SignatureEnds], is_told, "{term} {left}: {kinds:?}");
        }
    }

    #[test]
    fn rollovers_are_told_of_own_hosts() {
        let now = HostFacts { records: vec![record([3, 1, 1], "K1"), record([3, 1, 1], "K2")], ..host() };
        assert_eq!(host_kinds(&host(), &now), [FindingKind::TlsaChanged]);
        let ta = record([2, 1, 1], "CA");
        let before = HostFacts { records: vec![ta.clone()], addresses: vec![address(&ta)], ..host() };
        let renewed = AddressFact { certificate: Some("C2".to_owned()), ..address(&ta) };
        let after = HostFacts { addresses: vec![renewed.clone()], ..before.clone() };
        assert_eq!(host_kinds(&before, &after), [FindingKind::CertificateChanged]);
        // Both at once are a new setup; and a mismatch is told as such.
        let both = HostFacts { records: vec![record([2, 1, 1], "CB")], ..after.clone() };
        assert_eq!(host_kinds(&before, &both), []);
        assert_eq!(
            host_kinds(&host(), &HostFacts { addresses: broken_host("tlsa-mismatch").addresses, ..now }),
            [FindingKind::HostBroken]
        );
        // Another address has another certificate, as in a pool.
        let other = AddressFact { address: "192.0.2.2".to_owned(), ..renewed };
        assert_eq!(host_kinds(&before, &HostFacts { addresses: vec![other], ..before.clone() }), []);
        let compared = Compared { before: Some(&host()), now: &host(), whose: Ownership::Theirs, at: NOW };
        assert_eq!(of_host(&compared, DomainsBehind::default(), HostPast::default()), []);
    }

    #[test]
    fn policies_and_rules_are_told_of() {
        let sts =
            |id: &str| StsFact { id: id.to_owned(), mode: "enforce".to_owned(), unlisted: Vec::new(), ends: None };
        let with = |sts| DomainFacts { sts: Some(sts), ..domain() };
        assert_eq!(domain_kinds(&with(sts("1")), &with(sts("2"))), [FindingKind::StsChanged]);
        assert_eq!(domain_kinds(&with(sts("1")), &with(sts("1"))), []);
        let unlisted = |mode: &str| StsFact { unlisted: vec!["mx.example".into()], mode: mode.to_owned(), ..sts("1") };
        assert_eq!(domain_kinds(&with(sts("1")), &with(unlisted("enforce"))), [FindingKind::StsMxMismatch]);
        assert_eq!(domain_kinds(&with(sts("1")), &with(unlisted("testing"))), []);
        for (days, is_told) in [(6, true), (8, false)] {
            let ends = StsFact { ends: Some(NOW + days * DAY), ..sts("1") };
            assert_eq!(domain_kinds(&with(sts("1")), &with(ends)) == [FindingKind::StsEnds], is_told, "{days}");
        }
        let asks = |tlsrpt| DomainFacts { tlsrpt, ..domain() };
        assert_eq!(domain_kinds(&asks(Some(true)), &asks(Some(false))), [FindingKind::TlsrptGone]);
        assert_eq!(domain_kinds(&asks(Some(true)), &asks(None)), []);
        assert_eq!(domain_kinds(&asks(Some(false)), &asks(Some(true))), []);
        for (is_needless, days_left, is_told) in [
            (Some(true), None, true),
            (Some(false), Some(13), true),
            (Some(false), Some(14), false),
            (Some(false), None, false),
        ] {
            let rule = RuleFact { domains: "example".to_owned(), is_needless, days_left };
            let kinds = domain_kinds(&domain(), &DomainFacts { rule: Some(rule), ..domain() });
            assert_eq!(kinds == [FindingKind::RuleNeedless], is_told, "{is_needless:?} {days_left:?}");
        }
        // Without a session by the other rules the need is not known.
        let rule = RuleFact { domains: "example".to_owned(), is_needless: None, days_left: None };
        let unknown = DomainFacts { rule: Some(rule), ..domain() };
        let compared = Compared { before: None, now: &unknown, whose: Ownership::Theirs, at: NOW };
        assert!(of_domain(&compared, &BTreeMap::new(), DomainPast::default()).iter().all(|finding| finding.is_carried));
    }

    #[test]
    fn a_domain_that_is_good_has_no_finding() {
        for whose in [Ownership::Ours, Ownership::Theirs] {
            let compared = Compared { before: None, now: &domain(), whose, at: NOW };
            assert_eq!(of_domain(&compared, &BTreeMap::new(), DomainPast::default()), []);
        }
    }
}
