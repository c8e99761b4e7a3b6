//! What was found about one domain, in words: the JSON object, and what the tree is drawn from. The field names are part
//! of the interface; the manual lists them.

use serde::Serialize;
use time::{Date, OffsetDateTime};

use super::advice::{Advice, advice};
use super::verdict::{Need, Status, Verdict, no_dane};
use super::walk::{Dialling, Fate, Session, Visit, Walk};
use crate::dane::agility::Digests;
use crate::dane::facts;
use crate::dane::tlsa;
use crate::dane::verify::Match;
use crate::dns::{Alias, Answer, Host, HostLookup, Lookup, Mx, MxTarget, RawTlsa, Security};
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Place, Reason};
use crate::rules::{Exception, Rules};
use crate::tls::{Authentication, Protection};
use crate::upstream::verified::Channel;

/// The fields, for `--help` and the manual.
pub(super) const FIELDS: &str = "\
JSON fields:
  domain, level    as asked, and the level that holds for it
  connected        false with --no-connect
  verdict          verified, host-verified, encrypted, cleartext, deferred,
                   rejected; with --no-connect dane, half-dane, fingerprint,
                   encrypt, may (the policy a session would have to meet),
                   deferred, rejected
  exchange         the host that mail would go to, with its address
  no_dane          why that host is not verified
  refusal          why mail would be refused: code, reason, text, remedy
  mx               the MX lookup: name, security (secure, insecure, failed),
                   aliases (owner, target, security), kind (records, nodata,
                   nxdomain, failure), reason
  passed_over      MX records that name no host to send to, and why
  exchanges        in the order they would be tried:
    name, preference, addresses, policy, no_dane, refusal
    lookup         that of the addresses, with the fields of mx
    tlsa           each question: lookup, and records (record, standing,
                   why); standing is binding, set-aside (a stronger digest
                   says the same), unusable, or not-secure
    sessions       each address: address, protection (Verified, Host
                   verified, Encrypted, Cleartext, none), tls_version,
                   cipher, key_exchange, tlsa and tlsa_depth (the record
                   that matched), refusal, certificates (subject, issuer,
                   names, not_before, not_after, days_left)
  rule             the rule that set the level: domain, reason, until,
                   days_left, default_level, default_verdict and
                   default_refusal (without the rule), and need (needed,
                   not-needed, stricter, refuses, no-help)
  advice           what to mend: kind, host, text; kind is one-record,
                   unusable-record, mx-without-dane, insecure-mx,
                   partial-lookup, failing-host, certificate-ends,
                   anchor-dates, weak-signature, signature-ends
  What does not apply is null.";

/// One domain.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) domain: String,
    pub(super) level: String,
    /// Whether mail servers were connected to.
    pub(super) connected: bool,
    pub(super) verdict: &'static str,
    /// The host that mail would go to.
    pub(super) exchange: Option<String>,
    pub(super) address: Option<String>,
    /// Why that host is not verified.
    pub(super) no_dane: Option<String>,
    /// Why mail would be refused, as in the reply to the client.
    pub(super) refusal: Option<No>,
    pub(super) mx: Found,
    /// MX records that name no host that mail would go to, and why.
    pub(super) passed_over: Vec<String>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) rule: Option<Rule>,
    pub(super) advice: Vec<Advice>,
    #[serde(skip)]
    pub(super) outcome: (Verdict, Status),
}

/// A refusal.
#[derive(Debug, Serialize)]
pub(super) struct No {
    /// The codes of the reply, as in `451 4.7.5`.
    pub(super) code: String,
    pub(super) reason: &'static str,
    pub(super) text: String,
    pub(super) remedy: &'static str,
}

/// One lookup.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) name: String,
    /// `secure`, `insecure` or `failed`, of the whole chain.
    pub(super) security: String,
    pub(super) aliases: Vec<Hop>,
    /// `records`, `nodata`, `nxdomain` or `failure`.
    pub(super) kind: &'static str,
    /// Why the lookup failed.
    pub(super) reason: Option<String>,
}

/// An alias that was followed.
#[derive(Debug, Serialize)]
pub(super) struct Hop {
    pub(super) owner: String,
    pub(super) target: String,
    pub(super) security: String,
}

/// One mail exchanger.
#[derive(Debug, Serialize)]
pub(super) struct Exchange {
    pub(super) name: String,
    /// `null` for a domain that is its own exchange.
    pub(super) preference: Option<u16>,
    pub(super) lookup: Found,
    pub(super) addresses: Vec<String>,
    /// The TLSA questions, in the order they were asked.
    pub(super) tlsa: Vec<Tlsa>,
    pub(super) policy: Option<&'static str>,
    pub(super) no_dane: Option<String>,
    /// Why nobody is dialled.
    pub(super) refusal: Option<No>,
    pub(super) sessions: Vec<Talk>,
}

/// One TLSA question.
#[derive(Debug, Serialize)]
pub(super) struct Tlsa {
    pub(super) lookup: Found,
    pub(super) records: Vec<Record>,
}

/// One TLSA record.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) record: String,
    /// `binding`, `set-aside` (a stronger digest says the same), `unusable`, or `not-secure`.
    pub(super) standing: &'static str,
    pub(super) why: Option<String>,
}

/// A session with one address.
#[derive(Debug, Serialize)]
pub(super) struct Talk {
    pub(super) address: String,
    /// As in the log: `Verified`, `Host verified`, `Encrypted`, `Cleartext`; `none` if there was no session.
    pub(super) protection: &'static str,
    pub(super) tls_version: Option<&'static str>,
    pub(super) cipher: Option<String>,
    pub(super) key_exchange: Option<String>,
    pub(super) tlsa: Option<String>,
    pub(super) tlsa_depth: Option<usize>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) refusal: Option<No>,
}

/// One certificate as the server showed it.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: Vec<String>,
    /// Days, UTC.
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) days_left: i64,
}

/// The rule that set the level.
#[derive(Debug, Serialize)]
pub(super) struct Rule {
    pub(super) domain: String,
    pub(super) reason: Option<String>,
    pub(super) until: Option<String>,
    pub(super) days_left: Option<i32>,
    pub(super) need: Need,
    /// What would become of mail by `tls.level`.
    pub(super) default_level: String,
    pub(super) default_verdict: &'static str,
    pub(super) default_refusal: Option<No>,
}

/// What a report is written under.
pub(super) struct Terms<'a> {
    pub(super) digests: &'a Digests,
    pub(super) rules: &'a Rules,
    pub(super) now: OffsetDateTime,
}

impl Report {
    /// Of a walk; where a rule set its level, `default` is the walk at the default level.
    pub(super) fn of(walk: &Walk, ruled: Option<(&Exception, &Walk)>, terms: &Terms<'_>) -> Self {
        let verdict = Verdict::of(walk);
        let (exchange, address) = match walk.fate() {
            Fate::Taken(visit, session) => {
                (Some(visit.exchange.to_string()), session.map(|(address, _)| address.to_string()))
            }
            Fate::Refused => (None, None),
        };
        Self {
            domain: walk.domain.to_string(),
            level: walk.level.to_string(),
            connected: walk.dialling == Dialling::Connect,
            verdict: verdict.label(),
            exchange,
            address,
            no_dane: no_dane(walk).map(ToString::to_string),
            refusal: refusal(walk),
            mx: mx(walk),
            passed_over: passed_over(walk),
            exchanges: walk.visits.iter().map(|visit| Exchange::of(visit, walk, terms)).collect(),
            rule: ruled.map(|(rule, default)| Rule::of(rule, (walk, default), terms)),
            advice: advice(walk, terms.digests, terms.now),
            outcome: (verdict, Status::of(walk)),
        }
    }
}

/// Why mail would be refused, if it would.
fn refusal(walk: &Walk) -> Option<No> {
    match walk.fate() {
        Fate::Taken(..) => None,
        Fate::Refused => walk.main_obstacle().map(|(at, reason)| No::of(&at, reason)),
    }
}

impl No {
    fn of(at: &Place, reason: &Reason) -> Self {
        let view = reason.view();
        let code = format!("{} {}", view.code, view.enhanced);
        Self { code, reason: view.label, text: format!("{at}{reason}"), remedy: view.remedy }
    }
}

fn mx(walk: &Walk) -> Found {
    match &walk.seen.mx {
        Some(Ok(lookup)) => Found::of(lookup),
        Some(Err(failure)) => Found::failed(&walk.domain, failure.reason.to_string()),
        None => Found::failed(&walk.domain, "it was not asked".to_owned()),
    }
}

/// RFC 7505 §3 and RFC 5321 §5.1: what no mail is sent to.
fn passed_over(walk: &Walk) -> Vec<String> {
    let records = walk.seen.mx.as_ref().and_then(|mx| mx.as_ref().ok()).map_or(&[][..], |mx| mx.answer.records());
    let said = |record: &Mx| {
        let why = match &record.target {
            MxTarget::Root => ".: it names no host".to_owned(),
            MxTarget::Invalid(text) => format!("{text}: it is no host name"),
            MxTarget::Host(name) if walk.visits.iter().any(|visit| visit.exchange == *name) => return None,
            MxTarget::Host(name) => format!("{name}: it is not better than this host itself, or beyond the limit"),
        };
        Some(format!("{} {why}", record.preference))
    };
    records.iter().filter_map(said).collect()
}

fn security(security: Security) -> String {
    security.to_string()
}

impl Found {
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

    fn with(name: &Name, of_all: Security, aliases: &[Alias], kind: &'static str) -> Self {
        let hop = |alias: &Alias| Hop {
            owner: alias.owner.to_string(),
            target: alias.target.to_string(),
            security: security(alias.security),
        };
        let aliases = aliases.iter().map(hop).collect();
        Self { name: name.to_string(), security: security(of_all), aliases, kind, reason: None }
    }

    fn failed(name: &Name, reason: String) -> Self {
        let (security, aliases) = ("failed".to_owned(), Vec::new());
        Self { name: name.to_string(), security, aliases, kind: "failure", reason: Some(reason) }
    }
}

impl Exchange {
    fn of(visit: &Visit, walk: &Walk, terms: &Terms<'_>) -> Self {
        let name = &visit.exchange;
        let (lookup, addresses) = match &visit.seen.host {
            Some(Ok(HostLookup::Found(host))) => {
                (Found::of_host(host), host.addresses.iter().map(ToString::to_string).collect())
            }
            Some(Ok(HostLookup::NoAddress)) => {
                (Found { kind: "nodata", ..Found::failed(name, "it has no address".to_owned()) }, Vec::new())
            }
            Some(Err(failure)) => (Found::failed(name, failure.to_string()), Vec::new()),
            None => (Found::failed(name, "it was not asked".to_owned()), Vec::new()),
        };
        let policy = visit.plan.as_ref().ok().map(|plan| &plan.policy);
        let refusal = visit.plan.as_ref().err().map(|reason| No::of(&Place::Host(name.clone()), reason));
        Self {
            name: name.to_string(),
            preference: preference(walk, name),
            lookup,
            addresses,
            tlsa: visit.seen.tlsa.iter().map(|(owner, found)| Tlsa::of(owner, found, (visit, terms))).collect(),
            policy: policy.map(TlsPolicy::label),
            no_dane: match policy {
                Some(TlsPolicy::Encrypt(_, why)) => Some(why.to_string()),
                Some(_) | None => None,
            },
            refusal,
            sessions: visit.sessions.iter().map(|(address, session)| Talk::of(*address, session, terms)).collect(),
        }
    }
}

fn preference(walk: &Walk, exchange: &Name) -> Option<u16> {
    let records = walk.seen.mx.as_ref()?.as_ref().ok()?.answer.records();
    let named = records.iter().filter(|record| record.target == MxTarget::Host(exchange.clone()));
    named.map(|record| record.preference).min()
}

impl Tlsa {
    fn of(
        owner: &Name,
        found: &Result<Lookup<RawTlsa>, crate::dns::Failure>,
        (visit, terms): (&Visit, &Terms<'_>),
    ) -> Self {
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(failure) => {
                return Self { lookup: Found::failed(owner, failure.reason.to_string()), records: Vec::new() };
            }
        };
        let raw = lookup.answer.records();
        let expectation = visit.plan.as_ref().ok().and_then(|plan| plan.policy.expectation());
        let binds = |record: &tlsa::Tlsa| expectation.is_some_and(|held| held.usable.records().contains(record));
        let record = |(raw, read): (&RawTlsa, Result<tlsa::Tlsa, tlsa::Unusable>)| {
            let (standing, why) = match (read, lookup.security()) {
                // RFC 7672 §2.2: what is not secure is as if it were not there.
                (_, Security::Insecure) => ("not-secure", None),
                (Err(why), Security::Secure) => ("unusable", Some(why.to_string())),
                (Ok(record), Security::Secure) if binds(&record) => ("binding", None),
                (Ok(_), Security::Secure) => ("set-aside", None),
            };
            Record { record: raw.to_string(), standing, why }
        };
        let read = tlsa::readings(raw, terms.digests);
        Self { lookup: Found::of(lookup), records: raw.iter().zip(read).map(record).collect() }
    }
}

impl Talk {
    fn of(address: std::net::IpAddr, session: &Session, terms: &Terms<'_>) -> Self {
        let protection = match &session.outcome {
            Ok(Channel::Secured(protection)) => Some(protection),
            Ok(Channel::Cleartext(_)) | Err(_) => None,
        };
        let matched: Option<&Match> = protection.and_then(|protection| match protection.authentication() {
            Authentication::Verified(matched) | Authentication::HostVerified(matched) => Some(matched),
            Authentication::Unverified(_) => None,
        });
        Self {
            address: address.to_string(),
            protection: match &session.outcome {
                Ok(Channel::Secured(protection)) => protection.label(),
                Ok(Channel::Cleartext(_)) => "Cleartext",
                Err(_) => "none",
            },
            tls_version: protection.map(Protection::version),
            cipher: protection.map(|protection| protection.cipher_suite().to_owned()),
            key_exchange: protection.map(|protection| protection.key_exchange().to_owned()),
            tlsa: matched.map(|matched| matched.record.to_string()),
            tlsa_depth: matched.map(|matched| matched.depth),
            certificates: session.chain.iter().filter_map(|der| Certificate::of(der, terms.now)).collect(),
            refusal: session.outcome.as_ref().err().map(|reason| No::of(&Place::Domain, reason)),
        }
    }
}

impl Certificate {
    fn of(der: &[u8], now: OffsetDateTime) -> Option<Self> {
        let facts = facts::read(der)?;
        let day = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MAX, OffsetDateTime::date);
        Some(Self {
            subject: facts.subject,
            issuer: facts.issuer,
            names: facts.names,
            not_before: day(facts.not_before).to_string(),
            not_after: day(facts.not_after).to_string(),
            days_left: facts.not_after.saturating_sub(now.unix_timestamp()).div_euclid(24 * 60 * 60),
        })
    }
}

impl Rule {
    fn of(rule: &Exception, (with, without): (&Walk, &Walk), terms: &Terms<'_>) -> Self {
        let default = &terms.rules.default;
        let verdict = Verdict::of(without);
        Self {
            domain: rule.domains.to_string(),
            reason: rule.reason.clone(),
            until: rule.until.map(|until| until.to_string()),
            days_left: rule.days_left(terms.now.date()),
            need: Need::of(&rule.level, default, Verdict::of(with), verdict),
            default_level: default.to_string(),
            default_verdict: verdict.label(),
            default_refusal: refusal(without),
        }
    }
}
