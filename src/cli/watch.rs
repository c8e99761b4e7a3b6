//! `danelaw watch`: the findings of the danelaw that runs, or a look without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use time::OffsetDateTime;

use super::run::{self, StartError};
use super::running::{NotTold, RunningDanelaw};
use super::stdout::Stdout;
use super::{EX_OSERR, EX_UNAVAILABLE, check, log};
use crate::admin::client;
use crate::check::checker::PolicyChecks;
use crate::config::Config;
use crate::name::Name;
use crate::tls::Tls;
use crate::watch::book::{RunEnd, SubjectName, ToldFinding};
use crate::watch::kept::{self, MemoryFile};
use crate::watch::letter::letter;
use crate::watch::lookout::{LookParts, Lookout};
use crate::watch::once::LookOnce;
use crate::watch::states::FindingNews;
use crate::watch::view::{FindingRow, FindingWord, WatchView, lasting};

const STATUS: &str = "\
Exit status:
  0   no finding of severity warn or alarm holds; with --letter: it is printed
  1   one does; with --letter: there is nothing to write about
  64  the command line is wrong
  69  no danelaw answers at admin.address, it does not watch, or it does not
      watch this domain
  71  the system refuses something, such as the file of --state or --file
  75  no look has ended yet, or the last one had no answers: no name server
      can be used, or most hosts fail that were good before; look at this
      machine first
  78  the configuration is wrong";

const FIELDS: &str = "\
JSON fields:
  last_run         the last look, in seconds since 1970 as all times here
  blind            why it had no answers: since, label, failed, of
  domains, hosts   how many are watched
  findings         the most urgent first; more says how many are left out:
    severity       info, warn, alarm
    whose          ours (watch.own) or theirs
    kind           as in config/watch.md
    domain, host   the one that it is about
    domains        some of the watched domains behind a host;
                   domains_in_all says how many there are
    state          suspected (a second look has yet to confirm it), active,
                   ended
    since, text    text may have words of the host in it
    reason         the refusal that it is about, as in danelaw refusals
    remedy         what to do, or to have done
  unknown          domains whose last look had no answer: domain, whose, text";

/// A finding of severity warn or alarm holds.
const FOUND: u8 = 1;
/// EX_TEMPFAIL of sysexits.h.
const BLIND: u8 = 75;

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS, after_long_help = format!("{STATUS}\n\n{FIELDS}"))]
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
    /// Print a letter to the postmaster of this domain about the findings that hold. danelaw sends no letter.
    #[arg(long, value_name = "DOMAIN", value_parser = check::domain, conflicts_with_all = ["domain", "json", "all"])]
    letter: Option<Name>,
    /// Look now, without a danelaw that runs, and print the changes since the last time: for cron, once a day. It looks at watch.domains,
    /// watch.own and the domains of --file.
    #[arg(long, requires = "state", conflicts_with_all = ["domain", "letter", "json", "all"])]
    once: bool,
    /// The memory of --once, which makes it. Without --once it is shown, without a look.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// A file with domains to look at, in the forms of `danelaw check --file`.
    #[arg(long, value_name = "FILE", requires = "once")]
    file: Option<PathBuf>,
}

/// Shows the findings.
pub(super) fn run(config: Config, arguments: &WatchArguments) -> Result<ExitCode, StartError> {
    match &arguments.state {
        Some(state) if arguments.once => once(config, state, arguments),
        state => Ok(known(&config, state.as_deref(), arguments)),
    }
}

/// Shows findings that are known.
fn known(config: &Config, state: Option<&Path>, arguments: &WatchArguments) -> ExitCode {
    match state {
        Some(state) if !state.exists() => {
            let why = format!("--state: {} is not there; `danelaw watch --once` makes it", state.display());
            NotTold { code: BLIND, why }.complain()
        }
        Some(state) => match kept::read(state) {
            Ok(book) => {
                let wanted = arguments.letter.as_ref().or(arguments.domain.as_ref());
                let view = wanted.map_or_else(|| Some(book.view()), |domain| book.view_of(domain));
                let unknown = || format!("{} has no look at {}", state.display(), wanted.map_or("", Name::as_str));
                show(view.ok_or_else(|| NotTold { code: EX_UNAVAILABLE, why: unknown() }), arguments)
            }
            Err(error) => NotTold { code: EX_OSERR, why: format!("--state: {error}") }.complain(),
        },
        None => show(running(config, arguments), arguments),
    }
}

/// The findings of the danelaw that runs.
fn running(config: &Config, arguments: &WatchArguments) -> Result<WatchView, NotTold> {
    let domain = arguments.letter.as_ref().or(arguments.domain.as_ref());
    let path = format!("{}{}", client::WATCH, domain.map(Name::as_str).unwrap_or_default());
    let text = RunningDanelaw::of(config).and_then(|running| running.ask(&path))?;
    let text = text.map_err(|why| NotTold { code: EX_UNAVAILABLE, why })?;
    let another = |error| NotTold::unavailable(&format!("the danelaw that runs is another version: {error}"));
    serde_json::from_str(&text).map_err(another)
}

fn show(view: Result<WatchView, NotTold>, arguments: &WatchArguments) -> ExitCode {
    let view = match view {
        Ok(view) => view,
        Err(not_told) => return not_told.complain(),
    };
    if let Some(domain) = &arguments.letter {
        return write_letter(domain, &view);
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    match arguments.json {
        true => Stdout::print(&format!("{}\n", serde_json::to_string(&view).unwrap_or_default())),
        false => Stdout::print(&text(&view, arguments, now)),
    }
    ExitCode::from(status(&view))
}

fn write_letter(domain: &Name, view: &WatchView) -> ExitCode {
    match letter(domain.as_str(), view) {
        Some(letter) => {
            Stdout::print(&letter);
            ExitCode::SUCCESS
        }
        None => {
            log::complain(&format!("there is nothing to write to {domain} about: no finding about it holds"));
            ExitCode::from(FOUND)
        }
    }
}

/// The state for people.
fn text(view: &WatchView, arguments: &WatchArguments, now: i64) -> String {
    let is_shown = |row: &&FindingRow| arguments.all || row.state == FindingWord::Active;
    let rows: Vec<_> = view.findings.iter().filter(is_shown).map(|row| lines(row, now)).collect();
    let unknown = view.unknown.iter().map(|row| format!("unknown {}\n        {}\n", row.domain, row.text));
    let more = if view.more == 0 { String::new() } else { format!("and {} more\n", view.more) };
    let none = if rows.is_empty() && !view.is_blind() { "no finding\n" } else { "" };
    format!("{}\n{none}{}{more}{}", view.last_look(now), rows.concat(), unknown.collect::<String>())
}

/// A finding for people.
fn lines(row: &FindingRow, now: i64) -> String {
    let state = match row.state {
        FindingWord::Active => String::new(),
        FindingWord::Suspected | FindingWord::Ended => format!(" [{}]", row.state.as_str()),
    };
    let behind = row.behind();
    let behind = if behind.is_empty() { behind } else { format!(" ({behind})") };
    let remedy = row.remedy.as_ref().map_or(String::new(), |remedy| format!("        {remedy}\n"));
    format!(
        "{:5} {:18} {}{behind}{state}, for {}\n        {}\n{remedy}",
        row.severity.as_str(),
        row.kind.as_str(),
        row.about(),
        lasting(now - row.since),
        row.text
    )
}

fn status(view: &WatchView) -> u8 {
    match (view.is_blind(), view.is_urgent()) {
        (true, _) => BLIND,
        (false, true) => FOUND,
        (false, false) => 0,
    }
}

/// A look without a danelaw that runs.
fn once(config: Config, state: &Path, arguments: &WatchArguments) -> Result<ExitCode, StartError> {
    let mut domains = config.watch.named();
    match arguments.file.as_ref().map(|path| check::listed_in(path)).transpose() {
        Ok(listed) => domains.extend(listed.into_iter().flatten().filter(|domain| !config.watch.skips(domain))),
        Err(why) => return Err(StartError::system(format!("--file: {why}"))),
    }
    domains.sort();
    domains.dedup();
    if domains.is_empty() {
        let why = "there is no domain to look at: list some in watch.own, watch.domains or a file for --file";
        super::Arguments::usage_error("watch", ErrorKind::ValueValidation, why);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::system)?;
    runtime.block_on(look(config, &domains, state)).map(end)
}

/// Prints the findings that are new, and keeps the look. In the other order one that cannot be printed would be lost.
fn end(looked: LookOnce) -> ExitCode {
    let (view, now) = (looked.view(), OffsetDateTime::now_utc().unix_timestamp());
    match &looked.end {
        RunEnd::Saw(told) => Stdout::print(&told.iter().map(|told| news(told, now)).collect::<String>()),
        RunEnd::Blind(_, blind) => log::complain(&blind.to_string()),
    }
    match looked.keep() {
        Ok(()) => ExitCode::from(status(&view)),
        Err(error) => NotTold { code: EX_OSERR, why: format!("--state: {error}") }.complain(),
    }
}

/// Lines about a finding that is told.
fn news(told: &ToldFinding, now: i64) -> String {
    let behind = match &told.name {
        SubjectName::Host(_) if told.domains > 1 => format!(" (of {} domains)", told.domains),
        SubjectName::Host(_) | SubjectName::Domain(_) => String::new(),
    };
    let (severity, kind) = (told.state.severity.as_str(), told.kind.as_str());
    let head = format!("{} {severity} {kind} {}{behind}", told.told.as_str(), told.about());
    match told.told {
        FindingNews::Ended => format!("{head}: over after {}\n", lasting(now - told.state.since)),
        FindingNews::New | FindingNews::Still => {
            let remedy = told.remedy().map_or(String::new(), |remedy| format!("    {remedy}\n"));
            format!("{head}: {}\n{remedy}", told.state.text)
        }
    }
}

async fn look(config: Config, domains: &[Name], state: &Path) -> Result<LookOnce, StartError> {
    // Before any host is asked: a look that cannot be kept is of no use.
    let file = MemoryFile::open(state).map_err(|error| StartError::system(format!("--state: {error}")))?;
    let (dns, roots) = (run::tested_resolver(&config).await?, run::roots(&config)?);
    let policies = PolicyChecks::new(&config, &dns, &roots);
    let tls = Tls::new((&config).into()).map_err(StartError::system)?.with_roots(roots);
    let parts = LookParts { hostname: run::hostname(&config)?, dns, tls, policies, reporter: None };
    let mut lookout = Lookout::new(&config, parts).map_err(StartError::config)?;
    Ok(LookOnce::of(file, &mut lookout, domains).await)
}
