//! A report as a tree, for people.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::check::certificate::CertificateReport;
use crate::check::report::{
    AliasReport, DomainReport, ExchangeReport, LookupReport, RecordReport, RefusalReport, RuleReport, SessionReport,
    TlsaReport,
};
use crate::check::sts::StsReport;
use crate::check::verdict::Need;
use crate::dane::pkix::PkixWorth;
use crate::policy::ProtectionWord;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBT: Style = AnsiColor::Yellow.on_default();
const PLAIN: Style = Style::new();
const STRONG: Style = Style::new().bold();

/// One line and the lines below it.
struct Node {
    text: String,
    below: Vec<Node>,
}

impl Node {
    fn new(text: String) -> Self {
        Self { text, below: Vec::new() }
    }

    fn over(text: String, below: Vec<Self>) -> Self {
        Self { text, below }
    }

    fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let last = self.below.len();
        for (index, node) in self.below.iter().enumerate() {
            let (branch, below) = if index + 1 == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            writeln!(out, "{indent}{branch}{}", node.text)?;
            node.write(out, &format!("{indent}{below}"))?;
        }
        Ok(())
    }
}

/// Text in a style. A-110: a remote's text cannot steer the terminal.
fn styled(style: Style, text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("{style}{text}{style:#}")
}

fn plain(text: &str) -> Node {
    Node::new(styled(PLAIN, text))
}

/// The tree, its verdict last, where the eye is when it has been printed.
pub(super) fn write(report: &DomainReport, out: &mut dyn Write) -> io::Result<()> {
    let mut below = vec![lookup("MX", &report.mx)];
    below.extend(report.passed_over.iter().map(|text| Node::new(styled(DOUBT, &format!("passed over: {text}")))));
    below.extend(report.sts.iter().flat_map(StsReport::lines).map(|line| plain(&line)));
    below.extend(report.exchanges.iter().map(exchange));
    below.extend(report.rule.as_ref().map(|found| rule(found, report)));
    below.extend(report.listener.as_ref().map(|listener| plain(&listener.line())));
    below.extend(report.advice.iter().map(|advice| {
        let host = advice.host.as_ref().map_or(String::new(), |host| format!("{host}: "));
        Node::new(styled(DOUBT, &format!("! {host}{}", advice.text)))
    }));
    below.extend(report.requiretls.as_ref().map(|tagged| plain(&tagged.line())));
    below.push(verdict(report));
    writeln!(out, "{} (level {})", styled(STRONG, &report.domain), report.level)?;
    Node::over(String::new(), below).write(out, "")
}

/// One line, for lists.
pub(super) fn write_line(report: &DomainReport, out: &mut dyn Write) -> io::Result<()> {
    let (verdict, _) = report.outcome;
    let style = if !verdict.is_delivery() {
        BAD
    } else if verdict.is_verified() {
        GOOD
    } else {
        DOUBT
    };
    let why = match (&report.refusal, &report.exchange) {
        (Some(no), _) => format!("{}: {}", no.reason, no.text),
        (None, Some(exchange)) => match &report.no_dane {
            Some(why) => format!("{exchange} ({why})"),
            None => exchange.clone(),
        },
        (None, None) => String::new(),
    };
    let advice = match report.advice.len() {
        0 => String::new(),
        more => styled(DOUBT, &format!(" [{more} to mend]")),
    };
    writeln!(out, "{} {} {}{advice}", report.domain, styled(style, report.verdict), styled(PLAIN, &why))
}

fn verdict(report: &DomainReport) -> Node {
    let (verdict, _) = report.outcome;
    let host = match (&report.exchange, &report.address) {
        (Some(exchange), Some(address)) => format!("{exchange}[{address}]{}", port(report.port)),
        (Some(exchange), None) => format!("{exchange}{}", port(report.port)),
        (None, _) => String::new(),
    };
    let why = report.no_dane.as_ref().map_or(String::new(), |why| format!(": {why}"));
    match (&report.refusal, verdict.is_verified()) {
        (Some(no), _) => Node::over(
            styled(BAD, &format!("{}: mail would be refused with {} ({})", report.verdict, no.code, no.reason)),
            vec![plain(&no.text), plain(&format!("to do: {}", no.remedy))],
        ),
        (None, _) if !report.connected => Node::new(styled(
            DOUBT,
            &format!("{}: {host} was not asked; a session would have to meet this policy{why}", report.verdict),
        )),
        (None, true) => Node::new(styled(GOOD, &format!("{}: mail would go to {host}", report.verdict))),
        (None, false) => Node::new(styled(DOUBT, &format!("{}: mail would go to {host}{why}", report.verdict))),
    }
}

fn colour(security: &str) -> Style {
    match security {
        "secure" => GOOD,
        "insecure" => DOUBT,
        _ => BAD,
    }
}

fn security(found: &LookupReport) -> String {
    let why = found.negative_trust_anchor.as_ref().map_or(String::new(), |why| format!(" ({})", styled(DOUBT, why)));
    format!("{}{why}", styled(colour(&found.security), &found.security))
}

fn lookup(what: &str, found: &LookupReport) -> Node {
    let mut text = format!("{what} {}: {}", found.name, security(found));
    match found.kind {
        "nodata" => text.push_str(", no such records"),
        "nxdomain" => text.push_str(", no such name"),
        _ => {}
    }
    if let Some(reason) = &found.reason {
        let _ = write!(text, " ({})", styled(PLAIN, reason));
    }
    Node::over(text, aliases(found))
}

fn aliases(found: &LookupReport) -> Vec<Node> {
    let alias = |alias: &AliasReport| {
        let security = styled(colour(&alias.security), &alias.security);
        Node::new(format!("{} is an alias of {}: {security}", alias.owner, alias.target))
    };
    found.aliases.iter().map(alias).collect()
}

fn exchange(exchange: &ExchangeReport) -> Node {
    let preference = exchange.preference.map_or("itself".to_owned(), |preference| preference.to_string());
    let mut below = vec![addresses(exchange)];
    below.extend(exchange.tlsa.iter().map(tlsa));
    below.extend(exchange.refusal.as_ref().map(no));
    below.extend(exchange.policy.map(|policy| {
        let why = exchange.no_dane.as_ref().map_or(String::new(), |why| format!(" ({why})"));
        plain(&format!("policy {policy}{why}"))
    }));
    below.extend(exchange.sessions.iter().map(session));
    let name = format!("{}{}", exchange.name, port(exchange.port));
    Node::over(format!("{preference} {}", styled(STRONG, &name)), below)
}

/// As it stands behind a host, if a rule names one.
fn port(named: Option<u16>) -> String {
    named.map_or(String::new(), |port| format!(":{port}"))
}

fn addresses(exchange: &ExchangeReport) -> Node {
    let found = &exchange.lookup;
    let what = match (found.kind, &found.reason) {
        ("nodata", _) => "no address".to_owned(),
        ("nxdomain", _) => "no address, no such name".to_owned(),
        (_, Some(reason)) => format!("address {reason}"),
        (_, None) => format!("address {}", exchange.addresses.join(", ")),
    };
    Node::over(format!("{}: {}", styled(PLAIN, &what), security(found)), aliases(found))
}

fn tlsa(question: &TlsaReport) -> Node {
    let mut node = lookup("TLSA", &question.lookup);
    node.below.extend(question.records.iter().map(record));
    node
}

fn record(record: &RecordReport) -> Node {
    let why = record.why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let style = match record.standing {
        "binding" => GOOD,
        "set-aside" => PLAIN,
        _ => DOUBT,
    };
    Node::new(format!("{}: {}", styled(PLAIN, &record.record), styled(style, &format!("{}{why}", record.standing))))
}

fn session(session: &SessionReport) -> Node {
    let style = match session.protection {
        ProtectionWord::Verified | ProtectionWord::HostVerified => GOOD,
        ProtectionWord::None => BAD,
        ProtectionWord::Encrypted | ProtectionWord::Cleartext => DOUBT,
    };
    let mut text = format!("{}: {}", session.address, styled(style, session.protection.as_str()));
    if let (Some(version), Some(cipher), Some(group)) = (session.tls_version, &session.cipher, &session.key_exchange) {
        let _ = write!(text, ", {version} {cipher} {group}");
    }
    let mut below: Vec<_> =
        session.certificates.iter().enumerate().map(|(depth, shown)| certificate(depth, shown)).collect();
    if let (Some(record), Some(depth)) = (&session.tlsa, session.tlsa_depth) {
        below.push(Node::new(styled(GOOD, &format!("certificate {depth} matches {record}"))));
    }
    if let Some(authority) = &session.authority {
        below.push(Node::new(styled(GOOD, &format!("the CA \"{authority}\" vouches for its name"))));
    }
    below.extend(session.pkix.map(|worth| match worth {
        PkixWorth::Valid => plain("certificate good for its name; a rule with level = \"verify\" would hold"),
        worth => plain(&worth.to_string()),
    }));
    below.extend(
        session.requiretls.map(|offered| plain(if offered { "REQUIRETLS offered" } else { "REQUIRETLS not offered" })),
    );
    below.extend(session.refusal.as_ref().map(no));
    Node::over(text, below)
}

fn certificate(depth: usize, certificate: &CertificateReport) -> Node {
    let CertificateReport { subject, issuer, names, not_after, days_left, .. } = certificate;
    let names = if names.is_empty() { String::new() } else { format!(", for {}", names.join(" ")) };
    let end = match days_left {
        ..0 => format!("ended {not_after}"),
        days => format!("ends {not_after}, in {days} days"),
    };
    plain(&format!("certificate {depth}: \"{subject}\"{names}, by \"{issuer}\", {end}"))
}

fn no(no: &RefusalReport) -> Node {
    Node::new(styled(BAD, &format!("{}: {}", no.reason, no.text)))
}

fn rule(rule: &RuleReport, report: &DomainReport) -> Node {
    let reason = rule.reason.as_deref().unwrap_or("no reason given");
    let end = match (&rule.until, rule.days_left) {
        (Some(until), Some(days)) => format!(", until {until} ({days} days left)"),
        _ => String::new(),
    };
    let by_default = match &rule.default_refusal {
        Some(no) => format!("{} ({})", rule.default_verdict, no.reason),
        None => rule.default_verdict.to_owned(),
    };
    let (style, need) = match rule.need {
        Need::Needed => (PLAIN, "the rule is needed"),
        Need::NotNeeded => (DOUBT, "the rule is no longer needed"),
        Need::Stricter => (PLAIN, "the rule asks for more than the default"),
        Need::Refuses => (BAD, "the rule is why mail would be refused"),
        Need::NoHelp => (BAD, "the rule does not help"),
    };
    let by = report.listener.as_ref().map_or("", |_| "for mail by this listener ");
    let need = styled(style, &format!("{by}{need}; at level {} the verdict would be {by_default}", rule.default_level));
    Node::over(styled(PLAIN, &format!("rule for {}: {reason}{end}", rule.domain)), vec![Node::new(need)])
}
