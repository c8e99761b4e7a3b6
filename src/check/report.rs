//! The result for one domain, in words: the JSON object, and the source of the tree. The field names are part of the
//! interface; the manual lists them.

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;

use super::advice::{Advice, advice};
use super::certificate::CertificateReport;
use super::checker::{Connections, DomainCheck, ExchangeCheck, SessionCheck};
use super::forecast::Forecast;
use super::sts::StsReport;
use super::tagged::{ListenerReport, RequireTlsReport};
use super::verdict::{CheckStatus, MailVerdict, Need, no_dane};
use crate::dane::agility::Digests;
use crate::dane::pkix::PkixWorth;
use crate::dane::tlsa;
use crate::dns::{Alias, Answer, Host, HostLookup, Lookup, Mx, MxTarget, NegativeTrustAnchors, RawTlsa, Security};
use crate::name::Name;
use crate::policy::{ProtectionWord, TlsPolicy, VerifiedBy};
use crate::refusal::{Place, Reason};
use crate::rules::{LevelFloor, Rule, Rules};
use crate::tls::{KeyProof, Protection};
use crate::upstream::verified::Channel;

/// One domain.
#[derive(Debug, Serialize)]
pub(crate) struct DomainReport {
    pub(crate) domain: String,
    pub(crate) level: String,
    /// Whether mail servers were connected to.
    pub(crate) connected: bool,
    pub(crate) verdict: &'static str,
    /// The host that mail would go to.
    pub(crate) exchange: Option<String>,
    pub(crate) address: Option<String>,
    /// The port, if a rule names one.
    pub(crate) port: Option<u16>,
    /// Why that host is not verified.
    pub(crate) no_dane: Option<String>,
    /// Why mail would be refused, as in the reply to the client.
    pub(crate) refusal: Option<RefusalReport>,
    pub(crate) mx: LookupReport,
    /// MX records that name no host that mail would go to, and why.
    pub(crate) passed_over: Vec<String>,
    /// The MTA-STS policy, if one was asked for.
    pub(crate) sts: Option<StsReport>,
    pub(crate) exchanges: Vec<ExchangeReport>,
    pub(crate) rule: Option<RuleReport>,
    /// The listener by which the mail comes, if one is named.
    pub(crate) listener: Option<ListenerReport>,
    /// The outcome for mail with REQUIRETLS, if mail servers were connected to.
    pub(crate) requiretls: Option<RequireTlsReport>,
    pub(crate) advice: Vec<Advice>,
    #[serde(skip)]
    pub(crate) outcome: (MailVerdict, CheckStatus),
}

/// A refusal.
#[derive(Debug, Serialize)]
pub(crate) struct RefusalReport {
    /// The codes of the reply, as in `451 4.7.5`.
    pub(crate) code: String,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
    pub(crate) remedy: &'static str,
}

/// One lookup.
#[derive(Debug, Serialize)]
pub(crate) struct LookupReport {
    pub(crate) name: String,
    /// `secure`, `insecure` or `failed`, of the whole chain.
    pub(crate) security: String,
    pub(crate) aliases: Vec<AliasReport>,
    /// `records`, `nodata`, `nxdomain` or `failure`.
    pub(crate) kind: &'static str,
    /// Why the lookup failed.
    pub(crate) reason: Option<String>,
    /// Why it is insecure, where the configuration is the cause.
    pub(crate) negative_trust_anchor: Option<String>,
}

/// An alias that was followed.
#[derive(Debug, Serialize)]
pub(crate) struct AliasReport {
    pub(crate) owner: String,
    pub(crate) target: String,
    pub(crate) security: String,
}

/// One mail exchanger.
#[derive(Debug, Serialize)]
pub(crate) struct ExchangeReport {
    pub(crate) name: String,
    /// `null` for a domain that is its own exchange.
    pub(crate) preference: Option<u16>,
    /// The port, if a rule names one.
    pub(crate) port: Option<u16>,
    pub(crate) lookup: LookupReport,
    pub(crate) addresses: Vec<String>,
    /// The TLSA questions, in the order they were asked.
    pub(crate) tlsa: Vec<TlsaReport>,
    pub(crate) policy: Option<&'static str>,
    pub(crate) no_dane: Option<String>,
    /// Why no address is connected to.
    pub(crate) refusal: Option<RefusalReport>,
    pub(crate) sessions: Vec<SessionReport>,
}

/// One TLSA question.
#[derive(Debug, Serialize)]
pub(crate) struct TlsaReport {
    pub(crate) lookup: LookupReport,
    pub(crate) records: Vec<RecordReport>,
}

/// One TLSA record.
#[derive(Debug, Serialize)]
pub(crate) struct RecordReport {
    pub(crate) record: String,
    /// `binding`, `set-aside` (a stronger digest says the same), `unusable`, or `not-secure`.
    pub(crate) standing: &'static str,
    pub(crate) why: Option<String>,
}

/// A session with one address.
#[derive(Debug, Serialize)]
pub(crate) struct SessionReport {
    pub(crate) address: String,
    /// As in the log: `verified`, `host-verified`, `encrypted`, `cleartext`; `none` if there was no session.
    pub(crate) protection: ProtectionWord,
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) cipher: Option<String>,
    pub(crate) key_exchange: Option<String>,
    pub(crate) tlsa: Option<String>,
    pub(crate) tlsa_depth: Option<usize>,
    /// As in the log.
    pub(crate) verified_by: Option<&'static str>,
    /// The public CA that vouches for the host, if its policy asks for one.
    pub(crate) authority: Option<String>,
    /// The worth of the certificate to public CAs, where the host is not verified.
    pub(crate) pkix: Option<PkixWorth>,
    /// Whether the host offers REQUIRETLS.
    pub(crate) requiretls: Option<bool>,
    pub(crate) certificates: Vec<CertificateReport>,
    pub(crate) refusal: Option<RefusalReport>,
}

/// The rule that set the level.
#[derive(Debug, Serialize)]
pub(crate) struct RuleReport {
    pub(crate) domain: String,
    pub(crate) reason: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) days_left: Option<i32>,
    pub(crate) need: Need,
    /// The outcome for mail by `tls.level`.
    pub(crate) default_level: String,
    pub(crate) default_verdict: &'static str,
    pub(crate) default_refusal: Option<RefusalReport>,
}

/// The settings and the time that a report depends on.
pub(crate) struct ReportContext<'a> {
    pub(crate) digests: &'a Digests,
    pub(crate) rules: &'a Rules,
    pub(crate) negative: &'a NegativeTrustAnchors,
    pub(crate) now: OffsetDateTime,
}

/// The rule that set the level of a check.
pub(crate) struct RuledCheck<'a> {
    pub(crate) rule: &'a Rule,
    /// The check at the default level.
    pub(crate) default: &'a DomainCheck,
}

impl DomainReport {
    /// The report of a check; `ruled` is there if a rule set its level.
    pub(crate) fn of(check: &DomainCheck, ruled: Option<&RuledCheck<'_>>, context: &ReportContext<'_>) -> Self {
        let verdict = MailVerdict::of(check);
        let (exchange, address) = match check.forecast() {
            Forecast::Delivered(exchange, session) => (Some(exchange), session.map(|(address, _)| address.to_string())),
            Forecast::Refused => (None, None),
        };
        Self {
            domain: check.domain.to_string(),
            level: check.level.to_string(),
            connected: check.connections == Connections::Connect,
            verdict: verdict.as_str(),
            exchange: exchange.map(|exchange| exchange.name.to_string()),
            address,
            port: exchange.and_then(|exchange| exchange.port),
            no_dane: no_dane(check).map(ToString::to_string),
            refusal: refusal(check),
            mx: mx(check).explained(context),
            passed_over: passed_over(check),
            sts: StsReport::of(check, context.now),
            exchanges: check.exchanges.iter().map(|exchange| ExchangeReport::of(exchange, check, context)).collect(),
            rule: ruled.map(|ruled| RuleReport::of(ruled.rule, check, ruled.default, context)),
            listener: None,
            requiretls: None,
            advice: advice(check, context.digests, context.now),
            outcome: (verdict, CheckStatus::of(check)),
        }
    }
}

/// Why mail would be refused, if it would.
pub(crate) fn refusal(check: &DomainCheck) -> Option<RefusalReport> {
    match check.forecast() {
        Forecast::Delivered(..) => None,
        Forecast::Refused => check.main_obstacle().map(|(at, reason)| RefusalReport::of(&at, reason, check.floor)),
    }
}

impl RefusalReport {
    /// For mail with this least level.
    pub(crate) fn of(at: &Place, reason: &Reason, least: Option<LevelFloor>) -> Self {
        let view = reason.view();
        let code = format!("{} {}", view.code, view.enhanced);
        Self { code, reason: view.label.as_str(), text: format!("{at}{reason}"), remedy: view.remedy_at(least) }
    }
}

/// The addresses of an exchange for which the DNS was not asked: a rule names one, or the exchange had no turn.
fn of_a_rule(exchange: &ExchangeCheck) -> (LookupReport, Vec<String>) {
    match &exchange.plan {
        Ok(plan) => {
            let lookup = LookupReport::with(&exchange.name, Security::Secure, &[], "records");
            let reason = Some("a rule names its address".to_owned());
            (LookupReport { reason, ..lookup }, plan.addresses.iter().map(ToString::to_string).collect())
        }
        Err(_) => (LookupReport::failed(&exchange.name, "it was not asked".to_owned()), Vec::new()),
    }
}

fn mx(check: &DomainCheck) -> LookupReport {
    match &check.recorded.mx {
        Some(Ok(lookup)) => LookupReport::of(lookup),
        Some(Err(failure)) => LookupReport::failed(&check.domain, failure.reason.to_string()),
        None => LookupReport::failed(&check.domain, "it was not asked".to_owned()),
    }
}

/// RFC 7505 §3 and RFC 5321 §5.1: MX records that mail is not sent to.
fn passed_over(check: &DomainCheck) -> Vec<String> {
    let records = check.recorded.mx.as_ref().and_then(|mx| mx.as_ref().ok()).map_or(&[][..], |mx| mx.answer.records());
    let said = |record: &Mx| {
        let why = match &record.target {
            MxTarget::Root => ".: it names no host".to_owned(),
            MxTarget::Invalid(text) => format!("{text}: it is no host name"),
            MxTarget::Host(name) if check.exchanges.iter().any(|exchange| exchange.name == *name) => return None,
            MxTarget::Host(name) => format!("{name}: it is not better than this host itself, or beyond the limit"),
        };
        Some(format!("{} {why}", record.preference))
    };
    records.iter().filter_map(said).collect()
}

impl LookupReport {
    fn of<T>(lookup: &Lookup<T>) -> Self {
        let kind = match &lookup.answer {
            Answer::Records(_) => "records",
            Answer::NoData => "nodata",
            Answer::NxDomain => "nxdomain",
        };
        Self::with(&lookup.asked, lookup.security(), &lookup.aliases, kind)
    }

    fn of_host(host: &Host) -> Self {
        Self::with(&host.name, host.security(), &host.aliases, "records")
    }

    fn with(name: &Name, security: Security, aliases: &[Alias], kind: &'static str) -> Self {
        let report = |alias: &Alias| AliasReport {
            owner: alias.owner.to_string(),
            target: alias.target.to_string(),
            security: alias.security.to_string(),
        };
        let aliases = aliases.iter().map(report).collect();
        let (name, security) = (name.to_string(), security.to_string());
        Self { name, security, aliases, kind, reason: None, negative_trust_anchor: None }
    }

    fn failed(name: &Name, reason: String) -> Self {
        let (name, security, aliases) = (name.to_string(), "failed".to_owned(), Vec::new());
        Self { name, security, aliases, kind: "failure", reason: Some(reason), negative_trust_anchor: None }
    }

    /// The same with the negative trust anchor that makes it insecure, if one does.
    fn explained(self, context: &ReportContext<'_>) -> Self {
        let mut names = std::iter::once(&self.name).chain(self.aliases.iter().map(|alias| &alias.target));
        let anchor = names
            .find_map(|name| context.negative.covering(&Name::parse(name).ok()?, context.now.date()))
            .filter(|_| self.security == Security::Insecure.to_string())
            .map(ToString::to_string);
        Self { negative_trust_anchor: anchor, ..self }
    }
}

impl ExchangeReport {
    fn of(exchange: &ExchangeCheck, check: &DomainCheck, context: &ReportContext<'_>) -> Self {
        let name = &exchange.name;
        let (lookup, addresses) = host_lookup(exchange);
        let policy = exchange.plan.as_ref().ok().map(|plan| &plan.policy);
        let refused = |reason| RefusalReport::of(&Place::Host(name.clone()), reason, check.floor);
        let refusal = exchange.plan.as_ref().err().map(refused);
        Self {
            name: name.to_string(),
            preference: preference(check, name),
            port: exchange.port,
            lookup: lookup.explained(context),
            addresses,
            tlsa: exchange
                .recorded
                .tlsa
                .iter()
                .map(|(owner, found)| TlsaReport::of(owner, found, exchange, context))
                .collect(),
            policy: policy.map(TlsPolicy::as_str),
            no_dane: match policy {
                Some(TlsPolicy::Encrypt(_, why)) => Some(why.to_string()),
                Some(_) | None => None,
            },
            refusal,
            sessions: exchange
                .sessions
                .iter()
                .map(|(address, session)| SessionReport::of(*address, session, check.floor, context))
                .collect(),
        }
    }
}

/// The lookup of an exchange's addresses, and the addresses.
fn host_lookup(exchange: &ExchangeCheck) -> (LookupReport, Vec<String>) {
    let failed = |why: String| LookupReport::failed(&exchange.name, why);
    match &exchange.recorded.host {
        Some(Ok(HostLookup::Found(host))) => {
            (LookupReport::of_host(host), host.addresses.iter().map(ToString::to_string).collect())
        }
        Some(Ok(HostLookup::NoAddress(_))) => {
            let denial = exchange.recorded.denial.as_ref();
            (denial.map_or_else(|| failed("it has no address".to_owned()), LookupReport::of), Vec::new())
        }
        Some(Ok(HostLookup::NotInFamily(families))) => {
            let why = Reason::NotInFamily(*families).to_string();
            (LookupReport { kind: "nodata", ..failed(why) }, Vec::new())
        }
        Some(Err(failure)) => (failed(failure.to_string()), Vec::new()),
        None => of_a_rule(exchange),
    }
}

fn preference(check: &DomainCheck, exchange: &Name) -> Option<u16> {
    let records = check.recorded.mx.as_ref()?.as_ref().ok()?.answer.records();
    let named = records.iter().filter(|record| record.target == MxTarget::Host(exchange.clone()));
    named.map(|record| record.preference).min()
}

impl TlsaReport {
    fn of(
        owner: &Name,
        found: &Result<Lookup<RawTlsa>, crate::dns::Failure>,
        exchange: &ExchangeCheck,
        context: &ReportContext<'_>,
    ) -> Self {
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(failure) => {
                return Self { lookup: LookupReport::failed(owner, failure.reason.to_string()), records: Vec::new() };
            }
        };
        let raw = lookup.answer.records();
        let expectation = exchange.plan.as_ref().ok().and_then(|plan| plan.policy.expectation());
        let binds = |record: &tlsa::Tlsa| expectation.is_some_and(|held| held.usable.records().contains(record));
        let record = |(raw, read): (&RawTlsa, Result<tlsa::Tlsa, tlsa::Unusable>)| {
            let (standing, why) = match (read, lookup.security()) {
                // RFC 7672 §2.2: records that are not secure are ignored.
                (_, Security::Insecure) => ("not-secure", None),
                (Err(why), Security::Secure) => ("unusable", Some(why.to_string())),
                (Ok(record), Security::Secure) if binds(&record) => ("binding", None),
                (Ok(_), Security::Secure) => ("set-aside", None),
            };
            RecordReport { record: raw.to_string(), standing, why }
        };
        let read = tlsa::readings(raw, context.digests);
        Self {
            lookup: LookupReport::of(lookup).explained(context),
            records: raw.iter().zip(read).map(record).collect(),
        }
    }
}

impl SessionReport {
    fn of(address: IpAddr, session: &SessionCheck, least: Option<LevelFloor>, context: &ReportContext<'_>) -> Self {
        let protection = session.outcome.as_ref().ok().and_then(Channel::protection);
        let matched = protection.and_then(Protection::matched);
        Self {
            address: address.to_string(),
            protection: session.outcome.as_ref().map_or(ProtectionWord::None, Channel::word),
            tls_version: protection.map(Protection::version),
            cipher: protection.map(|protection| protection.cipher_suite().to_owned()),
            key_exchange: protection.map(|protection| protection.key_exchange().to_owned()),
            tlsa: matched.map(|matched| matched.record.to_string()),
            tlsa_depth: matched.map(|matched| matched.depth),
            verified_by: protection.and_then(Protection::verified_by).map(VerifiedBy::as_str),
            authority: protection.and_then(authority),
            pkix: protection.and_then(Protection::unverified).map(|(_, worth)| worth),
            requiretls: session.offers_require_tls,
            certificates: session.chain.iter().filter_map(|der| CertificateReport::of(der, context.now)).collect(),
            refusal: session.outcome.as_ref().err().map(|reason| RefusalReport::of(&Place::Domain, reason, least)),
        }
    }
}

fn authority(protection: &Protection) -> Option<String> {
    match protection.proof()? {
        KeyProof::Authority(vouched) => Some(vouched.authority.clone()),
        KeyProof::Record(_) => None,
    }
}

impl RuleReport {
    fn of(rule: &Rule, with: &DomainCheck, without: &DomainCheck, context: &ReportContext<'_>) -> Self {
        let default = &context.rules.default;
        let verdict = MailVerdict::of(without);
        Self {
            domain: rule.domains.to_string(),
            reason: rule.reason.clone(),
            until: rule.until.map(|until| until.to_string()),
            days_left: rule.days_left(context.now.date()),
            need: Need::of(&rule.level, default, MailVerdict::of(with), verdict),
            default_level: without.level.to_string(),
            default_verdict: verdict.as_str(),
            default_refusal: refusal(without),
        }
    }
}
