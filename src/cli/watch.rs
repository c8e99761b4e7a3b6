//! `danelaw watch`: the findings of the danelaw that runs, or a look without one.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use humantime_serde::re::humantime::format_duration;
use time::OffsetDateTime;

use super::run::{self, StartError};
use super::running::{NotTold, RunningDanelaw};
use super::stdout::Stdout;
use super::{EX_UNAVAILABLE, check, log};
use crate::admin::client;
use crate::check::checker::PolicyChecks;
use crate::config::Config;
use crate::name::Name;
use crate::tls::Tls;
use crate::watch::letter::letter;
use crate::watch::lookout::{LookParts, Lookout};
use crate::watch::once::{OnceEnd, look_once};
use crate::watch::view::{FindingRow, FindingWord, WatchView};

const STATUS: &str = "\
Exit status:
  0   no finding of severity warn or alarm holds
  1   one does
  64  the command line is wrong
  69  no danelaw answers at admin.address, or it does not watch
  71  the system refuses something, such as the file of --state
  75  with --once: nothing could be seen, because no name server can be used
      or most hosts fail that were good before: look at this machine first
  78  the configuration is wrong";

/// A finding of severity warn or alarm holds.
const FOUND: u8 = 1;
/// EX_TEMPFAIL of sysexits.h.
const BLIND: u8 = 75;

/// What to show.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct WatchArguments {
    /// Show the findings about this domain and its hosts alone.
    #[arg(value_parser = check::domain)]
    domain: Option<Name>,
    /// Show also findings that a second look has yet to confirm, and those that are over.
    #[arg(long)]
    all: bool,
    /// Write one JSON object.
    #[arg(long)]
    json: bool,
    /// Print a letter to the postmaster of this domain about the findings that hold. Nothing is sent.
    #[arg(long, value_name = "DOMAIN", value_parser = check::domain, conflicts_with_all = ["domain", "json", "all"])]
    letter: Option<Name>,
    /// Look now, without a danelaw that runs, and print what is new since the last time: for cron. It looks at watch.domains,
    /// watch.own and the domains of --file.
    #[arg(long, requires = "state", conflicts_with_all = ["domain", "letter"])]
    once: bool,
    /// The file in which --once keeps its memory: it makes it, and its directory must be there.
    #[arg(long, value_name = "FILE", requires = "once")]
    state: Option<PathBuf>,
    /// A list of domains to look at, as for `danelaw check`.
    #[arg(long, value_name = "FILE", requires = "once")]
    file: Option<PathBuf>,
}

/// Shows the findings.
pub(super) fn run(config: Config, arguments: &WatchArguments) -> ExitCode {
    match &arguments.state {
        Some(state) => once(config, state, arguments),
        None => shown(&config, arguments),
    }
}

/// The findings of the danelaw that runs.
fn shown(config: &Config, arguments: &WatchArguments) -> ExitCode {
    let domain = arguments.letter.as_ref().or(arguments.domain.as_ref());
    let path = format!("{}{}", client::WATCH, domain.map(Name::as_str).unwrap_or_default());
    let answer = RunningDanelaw::of(config).and_then(|running| running.ask(&path));
    let view: WatchView = match answer {
        Ok(Ok(text)) => match serde_json::from_str(&text) {
            Ok(view) => view,
            Err(error) => {
                return NotTold::unavailable(&format!("the danelaw that runs is another version: {error}")).complain();
            }
        },
        Ok(Err(why)) => return NotTold { code: EX_UNAVAILABLE, why }.complain(),
        Err(not_told) => return not_told.complain(),
    };
    match &arguments.letter {
        Some(domain) => match letter(domain.as_str(), &view) {
            Some(letter) => Stdout::print(&letter),
            None => {
                log::complain(&format!("there is nothing to write to {domain} about: no finding about it holds"));
            }
        },
        None => show(&view, arguments),
    }
    ExitCode::from(status(&view))
}

fn show(view: &WatchView, arguments: &WatchArguments) {
    if arguments.json {
        Stdout::print(&format!("{}\n", serde_json::to_string(view).unwrap_or_default()));
        return;
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut text = match (view.last_run, &view.blind) {
        (_, Some(blind)) => format!("the last look could not see ({}): look at this machine first\n", blind.label),
        (None, None) => "no look yet\n".to_owned(),
        (Some(at), None) => {
            let (domains, hosts) = (counted(view.domains, "domain"), counted(view.hosts, "host"));
            format!("{domains} with {hosts}, last looked at {} ago\n", lasting(now - at))
        }
    };
    let is_shown = |row: &&FindingRow| arguments.all || row.state == FindingWord::Active;
    let rows: Vec<_> = view.findings.iter().filter(is_shown).map(|row| lines(row, now)).collect();
    text.push_str(if rows.is_empty() { "no finding\n" } else { "" });
    Stdout::print(&(text + &rows.concat()));
}

/// A finding for people.
fn lines(row: &FindingRow, now: i64) -> String {
    let about = row.host.as_deref().or(row.domain.as_deref()).unwrap_or_default();
    let state = match row.state {
        FindingWord::Active => String::new(),
        FindingWord::Suspected | FindingWord::Ended => format!(" [{}]", row.state.as_str()),
    };
    let behind = match (&row.host, row.domains_in_all) {
        (Some(_), 1) => format!(" (of {})", row.domains.join("")),
        (Some(_), all) if all > row.domains.len() => format!(" (of {}, .., {all} domains)", row.domains.join(", ")),
        (Some(_), _) => format!(" (of {})", row.domains.join(", ")),
        (None, _) => String::new(),
    };
    let remedy = row.remedy.as_ref().map_or(String::new(), |remedy| format!("        {remedy}\n"));
    format!(
        "{:5} {:18} {about}{behind}{state}, for {}\n        {}\n{remedy}",
        row.severity.as_str(),
        row.kind.as_str(),
        lasting(now - row.since),
        row.text
    )
}

/// A time in its two greatest units.
fn lasting(seconds: i64) -> String {
    let text = format_duration(Duration::from_secs(seconds.max(0).unsigned_abs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn status(view: &WatchView) -> u8 {
    if view.is_urgent() { FOUND } else { 0 }
}

/// A look without a danelaw that runs.
fn once(config: Config, state: &std::path::Path, arguments: &WatchArguments) -> ExitCode {
    let mut domains: Vec<Name> =
        config.watch.own.iter().chain(&config.watch.domains).map(|name| name.0.clone()).collect();
    match arguments.file.as_ref().map(|path| check::listed_in(path)).transpose() {
        Ok(listed) => domains.extend(listed.into_iter().flatten()),
        Err(why) => super::Arguments::usage_error("watch", ErrorKind::ValueValidation, &why),
    }
    domains.sort();
    domains.dedup();
    domains.retain(|domain| !config.watch.skip.iter().any(|skip| skip.0.contain(domain)));
    if domains.is_empty() {
        let why = "there is no domain to look at: list some in watch.own, watch.domains or a file for --file";
        super::Arguments::usage_error("watch", ErrorKind::ValueValidation, why);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::system);
    let looked = runtime.and_then(|runtime| runtime.block_on(look(config, &domains, state)));
    match looked {
        Ok((OnceEnd::Saw(told), view)) => {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            match arguments.json || arguments.all {
                true => show(&view, arguments),
                false => Stdout::print(&told.iter().map(|told| told.line(now)).collect::<String>()),
            }
            ExitCode::from(status(&view))
        }
        Ok((OnceEnd::Blind(why), _)) => {
            log::complain(&why);
            ExitCode::from(BLIND)
        }
        Err(StartError { code, why }) => {
            log::complain(&why);
            ExitCode::from(code)
        }
    }
}

async fn look(config: Config, domains: &[Name], state: &std::path::Path) -> Result<(OnceEnd, WatchView), StartError> {
    let (dns, roots) = (run::tested_resolver(&config).await?, run::roots(&config)?);
    let policies = PolicyChecks::new(&config, &dns, &roots);
    let tls = Tls::new((&config).into()).map_err(StartError::system)?.with_roots(roots);
    let parts = LookParts { hostname: run::hostname(&config)?, dns, tls, policies };
    let lookout = Lookout::new(&config, parts).map_err(StartError::config)?;
    let wrong = |error| StartError::system(io::Error::other(format!("--state {}: {error}", state.display())));
    look_once(&lookout, domains, state).await.map_err(wrong)
}
