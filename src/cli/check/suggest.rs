//! The rule that would hold for a domain now, for `danelaw rules suggest`. A person puts it in force.

use super::CheckRun;
use super::output::ReportForm;
use crate::admin::client;
use crate::check::report::{DomainReport, ExchangeReport, SessionReport};
use crate::check::verdict::MailVerdict;
use crate::dane::pkix::PkixWorth;
use crate::policy::host_session::SessionWord;
use crate::watch::findings::counted;
use crate::watch::settled::RememberedHost;

impl CheckRun<'_> {
    /// The memory that a danelaw which runs with this configuration has of the exchanges, for a rule.
    pub(super) async fn remembered(&self, report: &DomainReport) -> Vec<RememberedHost> {
        let mut remembered = Vec::new();
        let Some(address) = self.checker.config.admin.address.as_ref().filter(|_| self.form == ReportForm::Rule) else {
            return remembered;
        };
        for exchange in &report.exchanges {
            let port = exchange.port.map(|port| format!(":{port}")).unwrap_or_default();
            let path = format!("{}{}{port}", client::HOSTS, exchange.name);
            let Ok((status, text)) = client::ask(address, &path).await else { return remembered };
            remembered.extend(serde_json::from_str::<RememberedHost>(&text).ok().filter(|_| status.is_success()));
        }
        remembered
    }
}

/// The rule as TOML, or a comment that says why there is none. Every exchange must be good now: mail may go to any of them. One
/// that is remembered must have been good the last time.
pub(super) fn rule(report: &DomainReport, remembered: &[RememberedHost]) -> String {
    let domain = &report.domain;
    match wanted(report).and_then(|()| remembered.iter().try_for_each(was_good)) {
        Err(why) => format!("# {domain}: no rule: {why}\n"),
        Ok(()) => {
            let hosts: Vec<_> = report.exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
            let listed = hosts.join(", ");
            let mut text = format!("# {domain}: a public CA vouches for the name of each exchange now: {listed}\n");
            text.extend(remembered.iter().filter_map(memory));
            text.push_str(&format!("[[rule]]\ndomain = \"{domain}\"\nlevel = \"verify\"\n"));
            // The names of a secure answer are proven. Others are those of any party that can forge an answer.
            if report.mx.security != "secure" {
                let quoted: Vec<_> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
                let names = quoted.join(", ");
                text.push_str(&format!(
                    "# The MX records are not signed. These two lines hold the mail to the present names, and stop it when they move it:\n\
                     # level = \"secure\"\n# mx = [{names}]\n"
                ));
            }
            text
        }
    }
}

/// Whether the last session with a host that is remembered was good.
fn was_good(host: &RememberedHost) -> Result<(), String> {
    if host.word == SessionWord::Tls(PkixWorth::Valid).as_str() {
        return Ok(());
    }
    let RememberedHost { host, last, word, .. } = host;
    Err(format!("{host}: the last session that danelaw remembers, on {last}, was {word}"))
}

/// A comment on how long a host has been good.
fn memory(host: &RememberedHost) -> Option<String> {
    let (name, streak) = (&host.host, host.valid.as_ref()?);
    let mails = format!("{} on {}", counted(streak.sessions, "session"), counted(streak.days, "day"));
    Some(match host.settled {
        true => format!("# {name}: settled since {} ({mails})\n", streak.since),
        false => format!("# {name}: good for {} ({mails})\n", counted(streak.length.unsigned_abs(), "day")),
    })
}

/// Whether a rule is wanted and would hold.
fn wanted(report: &DomainReport) -> Result<(), String> {
    if report.rule.is_some() {
        return Err("the configuration has one".to_owned());
    }
    if matches!(report.outcome.0, MailVerdict::Verified | MailVerdict::HostVerified) {
        return Err("its mail is verified without one".to_owned());
    }
    if let Some(refusal) = report.refusal.as_ref().filter(|_| report.exchanges.is_empty()) {
        return Err(refusal.reason.to_owned());
    }
    report.exchanges.iter().try_for_each(is_good)
}

fn is_good(exchange: &ExchangeReport) -> Result<(), String> {
    let name = &exchange.name;
    match (&exchange.refusal, exchange.sessions.as_slice()) {
        (Some(refusal), _) => Err(format!("{name}: {}", refusal.reason)),
        (None, []) => Err(format!("{name} was not connected to")),
        (None, sessions) => sessions.iter().try_for_each(|session| is_valid(name, session)),
    }
}

fn is_valid(name: &str, session: &SessionReport) -> Result<(), String> {
    let SessionReport { address, .. } = session;
    match (&session.refusal, session.protection, session.pkix) {
        (Some(refusal), ..) => Err(format!("{name} [{address}]: {}", refusal.reason)),
        // A host with DANE is held to that, by a rule for `verify` too.
        (None, word, _) if word.is_of_proven_host() => Ok(()),
        (None, _, Some(PkixWorth::Valid)) => Ok(()),
        (None, _, Some(worth)) => Err(format!("{name} [{address}]: {worth}")),
        (None, protection, None) => Err(format!("{name} [{address}]: {protection}")),
    }
}
