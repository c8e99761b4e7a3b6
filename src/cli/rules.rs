//! `danelaw rules`: the rules and negative trust anchors of the configuration, their reasons and last days; and the warnings of
//! those about to end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use clap::error::ErrorKind;
use serde::Serialize;
use time::{Date, OffsetDateTime};
use tokio::sync::watch;

use super::check::{self, CheckArguments};
use super::run::StartError;
use super::stdout::Stdout;
use crate::config::Config;
use crate::dns::NegativeTrustAnchor;
use crate::dns::stub::Stub;
use crate::last_day::NEAR;
use crate::name::NameError;
use crate::policy::Level;
use crate::rules::{Rule, Rules, StsByRule};
use crate::session::Shared;

/// How often the log is warned.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

/// A rule or a negative trust anchor ends within a week, or has ended.
const ENDING: u8 = 1;

const STATUS: &str = "\
Exit status:
  0   no rule and no negative trust anchor ends within a week
  1   one does, or has ended
  64  the command line is wrong
  71  the system refuses something
  78  the configuration is wrong";

/// How to list the rules.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct RulesArguments {
    #[command(subcommand)]
    command: Option<RulesCommand>,
    /// Write one JSON object a rule, and one a negative trust anchor.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RulesCommand {
    /// Print the rules that would hold for domains without DANE and without MTA-STS, to be copied into the configuration.
    ///
    /// Looks each domain up and shakes hands with each of its exchanges, as `danelaw check` does. A rule is printed where a
    /// public CA vouches for the name of every exchange now, and a comment with the reason where not. Only you put it in
    /// force, and it stops the mail of a domain when that changes. The exit status is that of `danelaw check`.
    Suggest {
        /// Domains, or mail addresses for their domains; "-" reads them from standard input, one a line.
        #[arg(value_name = "DOMAIN", required = true, value_parser = listed)]
        domains: Vec<String>,
    },
}

/// A domain, or that of an address, or standard input.
fn listed(text: &str) -> Result<String, NameError> {
    match text {
        "-" => Ok(text.to_owned()),
        text => check::domain(text).map(|_| text.to_owned()),
    }
}

/// One rule, in words.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct RuleRow {
    domain: String,
    level: String,
    /// For `fingerprint`.
    records: Vec<String>,
    /// For `secure`.
    mx: Vec<String>,
    /// `ignore`, if the MTA-STS policy does not count.
    mta_sts: Option<&'static str>,
    next_hop: Option<String>,
    reason: Option<String>,
    until: Option<String>,
    /// 0 on the last day.
    days_left: Option<i32>,
    ends_soon: bool,
}

/// One negative trust anchor, in words.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct AnchorRow {
    negative_trust_anchor: String,
    reason: String,
    until: String,
    /// 0 on the last day.
    days_left: i32,
    ends_soon: bool,
}

/// Lists the rules in the order in which they are looked at, and the negative trust anchors.
pub(super) fn run(config: Config, arguments: &RulesArguments) -> Result<ExitCode, StartError> {
    match &arguments.command {
        Some(RulesCommand::Suggest { .. }) if arguments.json => super::Arguments::usage_error(
            "rules",
            ErrorKind::ArgumentConflict,
            "--json lists the rules, and suggest prints TOML",
        ),
        Some(RulesCommand::Suggest { domains }) => check::run(config, &CheckArguments::suggesting(domains.clone())),
        None => list(&config, arguments),
    }
}

fn list(config: &Config, arguments: &RulesArguments) -> Result<ExitCode, StartError> {
    let today = OffsetDateTime::now_utc().date();
    let rules = config.rules().map_err(StartError::config)?;
    let rows: Vec<_> = rules.entries().iter().map(|rule| RuleRow::of(rule, today)).collect();
    let anchors = config.negative_trust_anchors().0;
    let anchors: Vec<_> = anchors.iter().map(|anchor| AnchorRow::of(anchor, today)).collect();
    let out = &mut Stdout::lock();
    let written = match arguments.json {
        true => write_json(&rows, out).and_then(|()| write_json(&anchors, out)),
        false => write_text(&rows, &rules, out).and_then(|()| write_anchors(&anchors, out)),
    };
    written.map_err(StartError::system)?;
    let end_soon = rows.iter().any(|row| row.ends_soon) || anchors.iter().any(|row| row.ends_soon);
    Ok(if end_soon { ExitCode::from(ENDING) } else { ExitCode::SUCCESS })
}

impl RuleRow {
    fn of(rule: &Rule, today: Date) -> Self {
        Self {
            domain: rule.domains.to_string(),
            level: rule.level.to_string(),
            records: match &rule.level {
                Level::Fingerprint(records) => records.iter().map(ToString::to_string).collect(),
                Level::May(_) | Level::Encrypt | Level::Dane(_) => Vec::new(),
                Level::Verify | Level::Secure(_) | Level::DaneOnly => Vec::new(),
            },
            mx: match &rule.level {
                Level::Secure(patterns) => patterns.iter().map(ToString::to_string).collect(),
                Level::May(_) | Level::Encrypt | Level::Dane(_) => Vec::new(),
                Level::Verify | Level::DaneOnly | Level::Fingerprint(_) => Vec::new(),
            },
            mta_sts: match rule.sts {
                StsByRule::Heeded => None,
                StsByRule::Ignored => Some("ignore"),
            },
            next_hop: rule.next_hop.as_ref().map(ToString::to_string),
            reason: rule.reason.clone(),
            until: rule.until.map(|until| until.to_string()),
            days_left: rule.days_left(today),
            ends_soon: rule.ends_soon(today),
        }
    }
}

impl AnchorRow {
    fn of(anchor: &NegativeTrustAnchor, today: Date) -> Self {
        Self {
            negative_trust_anchor: anchor.zone.to_string(),
            reason: anchor.reason.clone(),
            until: anchor.until.to_string(),
            days_left: anchor.until.days_left(today),
            ends_soon: anchor.until.is_near(today),
        }
    }
}

fn write_json(rows: &[impl Serialize], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        writeln!(out)?;
    }
    Ok(())
}

/// `example.com: level may, until 2027-01-31 (12 days left)`, and the reason and records below.
fn write_text(rows: &[RuleRow], rules: &Rules, out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        let RuleRow { domain, level, records, mx, mta_sts, next_hop, reason, until, days_left, ends_soon: _ } = row;
        let end = match (until, days_left) {
            (Some(until), Some(days)) => end(until, *days),
            (_, _) => "without an end".to_owned(),
        };
        writeln!(out, "{domain}: level {level}, {end}")?;
        writeln!(out, "  {}", reason.as_deref().unwrap_or("no reason given").escape_debug())?;
        if let Some(next_hop) = next_hop {
            writeln!(out, "  by way of {next_hop}")?;
        }
        for record in records {
            writeln!(out, "  {record}")?;
        }
        if !mx.is_empty() {
            writeln!(out, "  at the hosts {}", mx.join(", "))?;
        }
        if mta_sts.is_some() {
            writeln!(out, "  its MTA-STS policy is ignored")?;
        }
    }
    let of_all = if rows.is_empty() { "every domain" } else { "every other domain" };
    writeln!(out, "{of_all}: level {}", rules.default)
}

/// The negative trust anchors, in the form of the rules.
fn write_anchors(rows: &[AnchorRow], out: &mut dyn Write) -> io::Result<()> {
    for AnchorRow { negative_trust_anchor, reason, until, days_left, ends_soon: _ } in rows {
        writeln!(out, "{negative_trust_anchor} and below: negative trust anchor, {}", end(until, *days_left))?;
        writeln!(out, "  {}", reason.escape_debug())?;
    }
    Ok(())
}

/// `until 2027-01-31 (5 days left) ENDS SOON`.
fn end(until: &str, days_left: i32) -> String {
    match days_left {
        ..0 => format!("ended on {until} HAS ENDED"),
        0..=NEAR => format!("until {until} ({days_left} days left) ENDS SOON"),
        _ => format!("until {until} ({days_left} days left)"),
    }
}

/// Warns the log of rules that end within a week or have ended, and of all negative trust anchors: now, every day, and when
/// there are others. Ends when there will be none.
pub(super) async fn keep_warning(mut shared: watch::Receiver<Arc<Shared<Stub>>>) {
    let mut days = tokio::time::interval(DAILY);
    loop {
        tokio::select! {
            _ = days.tick() => {}
            changed = shared.changed() => if changed.is_err() { return },
        }
        let (now, today) = (Arc::clone(&shared.borrow_and_update()), OffsetDateTime::now_utc().date());
        warn(&now.rules, today);
        now.connector.dns.negative_trust_anchors().0.iter().for_each(|anchor| warn_of(anchor, today));
    }
}

fn warn(rules: &Rules, today: Date) {
    for rule in rules.ending(today) {
        // As in the log of deliveries: a value that may have a space in it is a string.
        let (has_ended, days_left) = (rule.has_ended(today), rule.days_left(today));
        let rule = rule.to_string();
        if has_ended {
            tracing::error!(
                rule,
                days_left,
                "a rule has ended and is left out; its domain goes by the next rule that names it, or at tls.level: remove it, \
                 or give it a later day"
            );
        } else {
            tracing::warn!(rule, days_left, "a rule ends soon; danelaw check says whether it is still needed");
        }
    }
}

/// RFC 7646 §2: loud, since it switches DANE off.
fn warn_of(anchor: &NegativeTrustAnchor, today: Date) {
    let (zone, days_left, reason) = (anchor.zone.to_string(), anchor.until.days_left(today), &anchor.reason);
    if anchor.until.is_over(today) {
        tracing::error!(
            zone,
            days_left,
            reason,
            "a negative trust anchor has ended: names below its zone are validated again; remove it, or give it a later day"
        );
    } else {
        tracing::warn!(
            zone,
            days_left,
            reason,
            "a negative trust anchor holds: NOTHING IS VALIDATED below this zone, and its mail is sent without DANE"
        );
    }
}
