//! The rule that would hold for a domain now, for `danelaw rules suggest`. A person puts it in force.

use crate::check::report::{DomainReport, ExchangeReport, SessionReport};

/// The rule as TOML, or a comment that says why there is none. Every exchange must be good now: mail may go to any of them.
pub(super) fn rule(report: &DomainReport) -> String {
    let domain = &report.domain;
    match wanted(report) {
        Err(why) => format!("# {domain}: no rule: {why}\n"),
        Ok(()) => {
            let hosts: Vec<_> = report.exchanges.iter().map(|exchange| exchange.name.as_str()).collect();
            let listed = hosts.join(", ");
            let mut text = format!(
                "# {domain}: a public CA vouches for the name of each exchange now: {listed}\n[[rule]]\ndomain = \"{domain}\"\nlevel = \"verify\"\n"
            );
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

/// Whether a rule is wanted and would hold.
fn wanted(report: &DomainReport) -> Result<(), String> {
    if report.rule.is_some() {
        return Err("the configuration has one".to_owned());
    }
    if ["verified", "host-verified"].contains(&report.verdict) {
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
        (None, "verified" | "host-verified", _) | (None, _, Some("valid")) => Ok(()),
        (None, _, Some(worth)) => Err(format!("{name} [{address}]: to public CAs its certificate is {worth}")),
        (None, protection, None) => Err(format!("{name} [{address}]: {protection}")),
    }
}
