//! `danelaw check`: shows step by step how mail to a domain would be delivered, without sending any.

mod fields;
mod list;
mod output;
mod progress;
mod suggest;
mod summary;
mod tree;

use std::collections::HashSet;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::error::ErrorKind;
use futures_util::stream::{self, StreamExt};
use time::OffsetDateTime;

use self::fields::FIELDS;
pub(super) use self::list::domain;
use self::list::{DomainList, EarlierRun};
use self::output::{CheckEnd, ReportForm, Results};
use self::progress::Progress;
use super::run::{self, StartError};
use super::{EX_OSERR, log, name_servers};
use crate::admin::client;
use crate::check::checker::{CheckTarget, Checker, Connections, OwnHosts, PolicyChecks};
use crate::check::reach::Reach;
use crate::check::report::{DomainReport, ReportContext, RuledCheck};
use crate::check::sessions::{SessionChecks, SessionPace, SparedPeers};
use crate::check::tagged::{self, CheckByTerms, ListenerReport, RequireTlsReport};
use crate::check::verdict::{CheckStatus, STATUS};
use crate::config::{Address, Config, Listener};
use crate::discovery::RunningPolicy;
use crate::name::Name;
use crate::operator_file::{DOMAINS, SETTINGS};
use crate::policy::{ListenerMail, Mode};
use crate::requiretls::{Tag, TagDemand};
use crate::rules::Rules;
use crate::smtp::command::Hello;
use crate::terms::MailTerms;
use crate::tls::Tls;

/// The line that tells that the verdicts are those of another mode than the configured one.
const OBSERVING: &str = "the configured mode is \"observe\", which delivers mail that the verdicts below call deferred for \
                         want of TLS or of a proof; the verdicts are those of mode \"enforce\"";

/// Of a list, this many lines without a domain are told one by one.
const MAX_TOLD: usize = 20;
/// How many domains are checked at a time, unless the caller asks for another number.
const AT_A_TIME: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// The exit status of a program that ^C has ended, as shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// The domains to check, and how.
#[derive(Debug, Args)]
#[command(after_help = STATUS, after_long_help = format!("{STATUS}\n\n{FIELDS}"))]
pub(super) struct CheckArguments {
    /// Domains, or mail addresses for their domains; "-" reads them from standard input, one a line.
    #[arg(value_name = "DOMAIN", required_unless_present = "file")]
    domains: Vec<String>,
    /// Read domains from this file ("-" is standard input): domains or mail addresses, one a line or in the first column of a
    /// CSV file, "#" before comments; UTF-8, UTF-16 or Latin-1. "danelaw domains" makes one from the log of a mail server.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave out the domains of which this file, the --json output of an earlier run, has a report, but for those whose mail
    /// would be deferred. Summary and exit status are of this run alone.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Forecast mail that comes by this listener of the configuration, at its level, require_tls and tls_required_no. Without it,
    /// mail comes by a listener that has none of them.
    #[arg(long, value_name = "ADDRESS")]
    listener: Option<Address>,
    /// Ask the DNS, and the policy hosts of MTA-STS, and connect to no mail server. The verdict is then the policy that a session
    /// would have to meet.
    #[arg(long)]
    no_connect: bool,
    /// Write one JSON object a domain; the summary goes to standard error.
    #[arg(long)]
    json: bool,
    /// Write one line of CSV a domain, for a spreadsheet, with the names of the columns before; the summary goes to standard error.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// How many domains to check at a time.
    #[arg(long, value_name = "N", default_value_t = AT_A_TIME, value_parser = at_a_time)]
    parallel: NonZeroUsize,
    /// Show the whole tree of each domain of a list, and not one line.
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    tree: bool,
    /// Write the rule that would hold: `danelaw rules suggest`.
    #[arg(skip)]
    suggests: bool,
}

impl CheckArguments {
    /// These domains, with the whole tree of each.
    fn of(domains: Vec<String>) -> Self {
        Self {
            domains,
            file: None,
            resume: None,
            listener: None,
            no_connect: false,
            json: false,
            csv: false,
            parallel: AT_A_TIME,
            tree: true,
            suggests: false,
        }
    }

    /// Mail to one domain by a listener.
    pub(super) fn by(listener: Address, domain: &str) -> Self {
        Self { listener: Some(listener), ..Self::of(vec![domain.to_owned()]) }
    }

    /// The rules that would hold for these domains.
    pub(super) fn suggesting(domains: Vec<String>) -> Self {
        Self { suggests: true, ..Self::of(domains) }
    }

    fn reads_standard_input(&self) -> bool {
        self.domains.iter().any(|domain| domain == "-") || self.file.as_deref() == Some(Path::new("-"))
    }

    /// The listener by which the mail comes.
    fn listener(&self, config: &Config) -> Result<Option<Listener>, String> {
        self.listener.as_ref().map(|address| tagged::listener(config, address)).transpose()
    }

    fn form(&self) -> ReportForm {
        if self.suggests {
            return ReportForm::Rule;
        }
        match (self.json, self.csv, self.file.is_some() || self.reads_standard_input()) {
            (true, _, _) => ReportForm::Json,
            (_, true, _) => ReportForm::Csv,
            (_, _, true) if !self.tree => ReportForm::Line,
            _ => ReportForm::Tree,
        }
    }

    /// The domains, each once, in the order they came. Lines of a list that name none are told and left out: lists come
    /// out of logs, and logs have all sorts of things.
    fn domains(&self) -> Result<Vec<Name>, NoList> {
        let mut all = Vec::new();
        for text in self.domains.iter().filter(|text| *text != "-") {
            all.push(domain(text).map_err(|error| NoList::Misused(format!("{text:?} is no domain: {error}")))?);
        }
        if self.reads_standard_input() {
            let unread = |error| NoList::Unread(format!("standard input: {error}"));
            let octets = DOMAINS.octets(io::stdin().lock()).map_err(unread)?;
            all.extend(listed("standard input", &octets));
        }
        if let Some(path) = self.file.as_ref().filter(|path| path.as_os_str() != "-") {
            all.extend(listed_in(path).map_err(NoList::Unread)?);
        }
        let mut seen = HashSet::new();
        all.retain(|name| seen.insert(name.clone()));
        if all.is_empty() { Err(NoList::Misused("there is no domain to check".to_owned())) } else { Ok(all) }
    }

    /// The domains without those that an earlier run has checked, and whether that run has reached a mail server.
    fn rest(&self) -> Result<(Vec<Name>, Reach), NoList> {
        let (mut domains, reach) = (self.domains()?, Reach::default());
        let Some(path) = &self.resume else {
            return Ok((domains, reach));
        };
        let wrong = |why: String| format!("--resume {}: {why}", path.display());
        let unread = |error: io::Error| NoList::Unread(wrong(error.to_string()));
        let earlier = list::earlier(SETTINGS.lines(path).map_err(unread)?).map_err(unread)?;
        let earlier = earlier.map_err(|why| NoList::Misused(wrong(why)))?;
        let (EarlierRun { checked, has_reached }, all) = (earlier, domains.len());
        domains.retain(|domain| !checked.contains(&domain.to_string()));
        let (left, done) = (domains.len(), all - domains.len());
        eprintln!("danelaw: {} has {done} of the {all} domains; {left} are left", path.display());
        if has_reached {
            reach.connected();
        }
        Ok((domains, reach))
    }
}

/// Why there are no domains to check.
enum NoList {
    /// The command line is wrong.
    Misused(String),
    /// A file cannot be read.
    Unread(String),
}

/// The domains of a list in a file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn listed_in(path: &Path) -> Result<Vec<Name>, String> {
    let name = path.display().to_string();
    let octets = DOMAINS.read(path).map_err(|error| format!("{name}: {error}"))?;
    Ok(listed(&name, &octets))
}

fn listed(source: &str, octets: &[u8]) -> Vec<Name> {
    let DomainList { domains, left_out } = DomainList::read(octets);
    for line in left_out.iter().take(MAX_TOLD) {
        eprintln!("danelaw: {source}, {line}");
    }
    if let Some(more) = left_out.len().checked_sub(MAX_TOLD).filter(|more| *more > 0) {
        eprintln!("danelaw: {source}: {more} more lines name no domain and are left out");
    }
    domains
}

fn at_a_time(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "give a whole number from 1 up, such as 8".to_owned())
}

/// Whether the configuration has a listener at this address.
///
/// # Errors
/// It has others.
pub(super) fn has_listener(config: &Config, address: &Address) -> Result<(), String> {
    tagged::listener(config, address).map(drop)
}

/// Checks and reports.
pub(super) fn run(config: Config, arguments: &CheckArguments) -> Result<ExitCode, StartError> {
    let known = arguments.listener(&config).map(drop).map_err(NoList::Misused);
    let (domains, reach) = match known.and_then(|()| arguments.rest()) {
        Ok(rest) => rest,
        Err(NoList::Misused(why)) => super::Arguments::usage_error("check", ErrorKind::ValueValidation, &why),
        Err(NoList::Unread(why)) => {
            log::complain(&why);
            return Ok(ExitCode::from(EX_OSERR));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::system)?;
    runtime.block_on(check(config, &domains, reach, arguments)).map(ExitCode::from)
}

/// Checks every domain, and returns the exit status.
async fn check(config: Config, domains: &[Name], reach: Reach, arguments: &CheckArguments) -> Result<u8, StartError> {
    let rules = config.rules().map_err(StartError::config)?;
    if config.mode == Mode::Observe {
        eprintln!("danelaw: {OBSERVING}");
    }
    let (progress, form, are_many) = (Progress::new(domains.len()), arguments.form(), domains.len() > 1);
    let listener = arguments.listener(&config).map_err(StartError::config)?;
    let checker = Checker { reach, ..checker(config, arguments, &progress).await? };
    let run = CheckRun { checker: &checker, progress: &progress, rules: &rules, listener, form };
    if are_many && !resolves(&checker).await {
        progress.end();
        eprintln!("danelaw: no domain was checked, because no name server can be used");
        name_servers::tell_faults(&checker.dns);
        return Ok(CheckStatus::LookupFailed.exit_code());
    }
    let reports = stream::iter(domains).map(|domain| run.judge(domain));
    let mut results = Results::default();
    let print = output::print(reports.buffered(arguments.parallel.get()), &run, &mut results);
    let end = tokio::select! {
        printed = print => printed.map_err(StartError::system)?,
        unreachable = checker.reach.lost(), if are_many => CheckEnd::Unreachable(unreachable),
        Ok(()) = tokio::signal::ctrl_c() => CheckEnd::Interrupted,
    };
    progress.end();
    results.summarize(form).map_err(StartError::system)?;
    let left = domains.len() - results.summary.domains();
    if let Some(told) = end.told(&format!("{left} of {} domains are left", domains.len())) {
        eprintln!("danelaw: {told}");
    }
    if end == CheckEnd::Interrupted {
        return Ok(INTERRUPTED);
    }
    let worst = results.worst.max(end.least_status());
    if worst == CheckStatus::LookupFailed {
        checker.dns.self_test().await;
        name_servers::tell_faults(&checker.dns);
    }
    Ok(worst.exit_code())
}

/// Whether lookups can succeed by the self-test of the name servers.
async fn resolves(checker: &Checker) -> bool {
    if !checker.dns.health().borrow().resolves() {
        checker.dns.first_pass().await;
    }
    checker.dns.health().borrow().resolves()
}

async fn checker(config: Config, arguments: &CheckArguments, progress: &Progress) -> Result<Checker, StartError> {
    let hostname = run::hostname(&config)?;
    let hello: Hello = hostname.as_str().parse().map_err(|error| StartError::config(format!("hostname: {error}")))?;
    let (dns, roots) = (run::tested_resolver(&config).await?, run::roots(&config)?);
    let progress = progress.clone();
    Ok(Checker {
        hello,
        policies: PolicyChecks::new(&config, &dns, &roots),
        dns,
        tls: Tls::new((&config).into()).map_err(StartError::system)?.with_roots(roots),
        connections: if arguments.no_connect { Connections::None } else { Connections::Connect },
        spared: SparedPeers::new(),
        own_hosts: OwnHosts::EndTheList,
        pace: SessionPace::Together,
        show_open: Box::new(move |open| progress.show_open(open)),
        sessions: SessionChecks::default(),
        reach: Reach::default(),
        hostname,
        config,
    })
}

/// The parts of one run.
struct CheckRun<'a> {
    checker: &'a Checker,
    progress: &'a Progress,
    rules: &'a Rules,
    /// The listener by which the mail comes; none for one without terms.
    listener: Option<Listener>,
    form: ReportForm,
}

impl CheckRun<'_> {
    /// One domain at its level, and, where a rule sets that, at the default level too.
    async fn judge(&self, domain: &Name) -> DomainReport {
        let (checker, rules, now) = (self.checker, self.rules, OffsetDateTime::now_utc());
        let (digests, negative) = (&checker.config.tls.digests, checker.dns.negative_trust_anchors());
        let context = ReportContext { digests, rules, negative, now };
        let (level, rule) = rules.level(domain, now.date());
        let next_hop = rule.and_then(|rule| rule.next_hop.as_ref());
        let listener = self.listener.as_ref().map(Listener::terms).unwrap_or_default();
        let (terms, strict) = (listener.of_ordinary_mail(), listener.of(TagDemand::Tagged(Tag::Always)));
        let target = |terms: MailTerms, level, rule| {
            let (level, sts) = (terms.level(level), terms.sts(rule));
            CheckTarget { level, floor: terms.floor(), demand: terms.demand, next_hop, sts }
        };
        let CheckByTerms { mut check, would } = checker.check_by(terms, domain, target(terms, level, rule)).await;
        check.running = self.running(check.sts_domain.as_ref()).await;
        let mut report = match rule {
            None => DomainReport::of(&check, None, &context),
            Some(rule) => {
                let default = checker.check_by(terms, domain, target(terms, &rules.default, None)).await;
                DomainReport::of(&check, Some(&RuledCheck { rule, default: &default.check }), &context)
            }
        };
        report.listener = self.listener.as_ref().map(|listener| ListenerReport::of(listener, would));
        // A line has no room for it, and hosts are spared the sessions.
        let has_room = checker.connections == Connections::Connect
            && !matches!(self.form, ReportForm::Line | ReportForm::Csv | ReportForm::Rule);
        if has_room && listener.takes == ListenerMail::Any && terms != strict {
            // Sessions that had to meet the same policy are not repeated.
            report.requiretls = RequireTlsReport::of(&checker.check(domain, target(strict, level, rule)).await);
        }
        self.progress.done();
        report
    }

    /// The policy that a danelaw which runs with this configuration keeps for a domain.
    async fn running(&self, domain: Option<&Name>) -> Option<RunningPolicy> {
        let (address, domain) = (self.checker.config.admin.address.as_ref()?, domain?);
        let (status, text) = client::ask(address, &format!("{}{domain}", client::POLICY)).await.ok()?;
        status.is_success().then(|| serde_json::from_str(&text).ok())?
    }
}
