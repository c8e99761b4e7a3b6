//! `danelaw rules`: the rules of the configuration, their reasons and last days; and the warnings of rules about to end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use time::{Date, OffsetDateTime};
use tokio::sync::watch;

use super::run::StartError;
use crate::config::Config;
use crate::dns::stub::Stub;
use crate::policy::Level;
use crate::rules::{Rule, Rules};
use crate::session::Shared;

/// How often the log is warned.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

/// A rule ends within a week, or has ended.
const ENDING: u8 = 1;

const STATUS: &str = "\
Exit status:
  0   no rule ends within a week
  1   one does, or has ended
  64  the command line is wrong
  71  the system refuses something
  78  the configuration is wrong";

/// How to list the rules.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct RulesArguments {
    /// Write one JSON object a rule.
    #[arg(long)]
    json: bool,
}

/// One rule, in words.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct RuleRow {
    domain: String,
    level: String,
    /// For `fingerprint`.
    records: Vec<String>,
    next_hop: Option<String>,
    reason: Option<String>,
    until: Option<String>,
    /// 0 on the last day.
    days_left: Option<i32>,
    ends_soon: bool,
    #[serde(skip)]
    has_ended: bool,
}

/// Lists the rules in the order in which they are looked at.
pub(super) fn run(config: &Config, arguments: &RulesArguments) -> ExitCode {
    let today = OffsetDateTime::now_utc().date();
    let listed = config.rules().map_err(StartError::config).and_then(|rules| {
        let rows: Vec<_> = rules.entries.iter().map(|rule| RuleRow::of(rule, today)).collect();
        let out = &mut io::stdout().lock();
        let written = if arguments.json { write_json(&rows, out) } else { write_text(&rows, &rules, out) };
        written.map_err(|error| StartError::system(format!("standard output: {error}")))?;
        Ok(rows.iter().any(|row| row.ends_soon))
    });
    match listed {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(ENDING),
        Err(StartError { code, why }) => {
            eprintln!("danelaw: {why}");
            ExitCode::from(code)
        }
    }
}

impl RuleRow {
    fn of(rule: &Rule, today: Date) -> Self {
        Self {
            domain: rule.domains.to_string(),
            level: rule.level.to_string(),
            records: match &rule.level {
                Level::Fingerprint(records) => records.iter().map(ToString::to_string).collect(),
                Level::May(_) | Level::Encrypt | Level::Dane(_) | Level::DaneOnly => Vec::new(),
            },
            next_hop: rule.next_hop.as_ref().map(ToString::to_string),
            reason: rule.reason.clone(),
            until: rule.until.map(|until| until.to_string()),
            days_left: rule.days_left(today),
            ends_soon: rule.ends_soon(today),
            has_ended: rule.has_ended(today),
        }
    }
}

fn write_json(rows: &[RuleRow], out: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        writeln!(out)?;
    }
    Ok(())
}

/// `example.com: level may, until 2027-01-31 (12 days left)`, and the reason and records below.
fn write_text(rows: &[RuleRow], rules: &Rules, out: &mut dyn Write) -> io::Result<()> {
    for RuleRow { domain, level, records, next_hop, reason, until, days_left, ends_soon, has_ended } in rows {
        let end = match (until, days_left) {
            (Some(until), _) if *has_ended => format!(", ended on {until}"),
            (Some(until), Some(days)) => format!(", until {until} ({days} days left)"),
            (_, _) => ", without an end".to_owned(),
        };
        let flag = match (has_ended, ends_soon) {
            (true, _) => " HAS ENDED",
            (false, true) => " ENDS SOON",
            (false, false) => "",
        };
        writeln!(out, "{domain}: level {level}{end}{flag}")?;
        writeln!(out, "  {}", reason.as_deref().unwrap_or("no reason given").escape_debug())?;
        if let Some(next_hop) = next_hop {
            writeln!(out, "  by way of {next_hop}")?;
        }
        for record in records {
            writeln!(out, "  {record}")?;
        }
    }
    let of_all = if rows.is_empty() { "every domain" } else { "every other domain" };
    writeln!(out, "{of_all}: level {}", rules.default)
}

/// Warns the log of rules that end within a week or have ended: now, every day, and when there are others. Ends when there
/// will be none.
pub(super) async fn keep_warning(mut shared: watch::Receiver<Arc<Shared<Stub>>>) {
    let mut days = tokio::time::interval(DAILY);
    loop {
        tokio::select! {
            _ = days.tick() => {}
            changed = shared.changed() => if changed.is_err() { return },
        }
        warn(&shared.borrow_and_update().rules, OffsetDateTime::now_utc().date());
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
