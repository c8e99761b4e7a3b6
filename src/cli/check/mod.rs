//! `danelaw check`: shows step by step how mail to a domain would be delivered, without sending any.

mod advice;
mod certificate;
mod progress;
mod report;
mod sts;
mod summary;
mod tagged;
mod tree;
mod verdict;
mod checker;
mod fields;
mod recording;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anstream::AutoStream;
use clap::Args;
use clap::error::ErrorKind;
use futures_util::stream::{self, StreamExt};
use time::OffsetDateTime;

use self::checker::{CheckTarget, Checker, Connections, PolicyChecks, SessionChecks};
use self::fields::FIELDS;
use self::progress::Progress;
use self::report::{DomainReport, ReportContext};
use self::summary::Summary;
use self::tagged::RequireTlsReport;
use self::verdict::{CheckStatus, STATUS};
use super::run::{self, StartError};
use crate::config::Config;
use crate::dns::selftest::{FALLEN_BACK, ServerState};
use crate::name::{Name, NameError};
use crate::policy::Mode;
use crate::requiretls::{Tag, TagDemand};
use crate::rules::{LevelFloor, Rules, StsByRule};
use crate::smtp::command::Hello;
use crate::tls::Tls;

/// The line that tells that the verdicts are those of another mode than the configured one.
const OBSERVING: &str = "the configured mode is \"observe\", which delivers mail that the verdicts below call deferred for \
                         want of TLS or of a proof; the verdicts are those of mode \"enforce\"";

/// The domains to check, and how.
#[derive(Debug, Args)]
#[command(after_help = STATUS, after_long_help = format!("{STATUS}\n\n{FIELDS}"))]
pub(super) struct CheckArguments {
    /// Domains, or mail addresses for their domains; "-" reads them from standard input, one a line.
    #[arg(value_name = "DOMAIN", required_unless_present = "file")]
    domains: Vec<String>,
    /// Read domains from this file ("-" is standard input), one a line, "#" before comments.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Ask the DNS, and the policy hosts of MTA-STS, and connect to no mail server. The verdict is then the policy that a session
    /// would have to meet.
    #[arg(long)]
    no_connect: bool,
    /// Write one JSON object a domain; the summary goes to standard error.
    #[arg(long)]
    json: bool,
    /// How many domains to check at a time.
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_a_time)]
    parallel: NonZeroUsize,
    /// Show the whole tree of each domain of a list, and not one line.
    #[arg(long, conflicts_with = "json")]
    tree: bool,
}

/// How reports are written.
#[derive(Debug, Clone, Copy)]
enum ReportForm {
    Tree,
    Line,
    Json,
}

impl CheckArguments {
    fn reads_standard_input(&self) -> bool {
        let dash = std::path::Path::new("-");
        self.domains.iter().any(|domain| domain == "-") || self.file.as_deref() == Some(dash)
    }

    fn form(&self) -> ReportForm {
        match (self.json, self.file.is_some() || self.reads_standard_input()) {
            (true, _) => ReportForm::Json,
            (false, true) if !self.tree => ReportForm::Line,
            (false, _) => ReportForm::Tree,
        }
    }

    /// The domains, each once, in the order they came. Lines of a list that name none are said and left out: lists come
    /// out of logs, and logs have all sorts of things.
    fn domains(&self) -> Result<Vec<Name>, String> {
        let mut all = Vec::new();
        for text in self.domains.iter().filter(|text| *text != "-") {
            all.push(domain(text).map_err(|error| format!("{text:?} is no domain: {error}"))?);
        }
        if self.reads_standard_input() {
            all.extend(list("standard input", io::stdin().lock())?);
        }
        if let Some(path) = self.file.as_ref().filter(|path| path.as_os_str() != "-") {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
            all.extend(list(&name, BufReader::new(file))?);
        }
        let mut seen = HashSet::new();
        all.retain(|name| seen.insert(name.clone()));
        if all.is_empty() { Err("there is no domain to check".to_owned()) } else { Ok(all) }
    }
}

fn list(source: &str, lines: impl BufRead) -> Result<Vec<Name>, String> {
    let mut domains = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| format!("{source}: {error}"))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        match domain(text) {
            _ if text.is_empty() => {}
            Ok(name) => domains.push(name),
            Err(error) => {
                eprintln!("danelaw: {source}, line {}: {text:?} is no domain and left out: {error}", number + 1);
            }
        }
    }
    Ok(domains)
}

fn at_a_time(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "give a whole number from 1 up, such as 8".to_owned())
}

/// A domain, or that of an address.
fn domain(text: &str) -> Result<Name, NameError> {
    Name::parse(text.rsplit_once('@').map_or(text, |(_, domain)| domain))
}

/// Checks and reports.
pub(super) fn run(config: Config, arguments: &CheckArguments) -> ExitCode {
    let domains = match arguments.domains() {
        Ok(domains) => domains,
        Err(why) => super::Arguments::usage_error("check", ErrorKind::ValueValidation, &why),
    };
    let checked = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::system)
        .and_then(|runtime| runtime.block_on(check(config, domains, arguments)));
    match checked {
        Ok(worst) => ExitCode::from(worst.exit_code()),
        Err(StartError { code, why }) => {
            eprintln!("danelaw: {why}");
            ExitCode::from(code)
        }
    }
}

/// Checks every domain, and returns the worst status.
async fn check(config: Config, domains: Vec<Name>, arguments: &CheckArguments) -> Result<CheckStatus, StartError> {
    let rules = config.rules().map_err(StartError::config)?;
    if config.mode == Mode::Observe {
        eprintln!("danelaw: {OBSERVING}");
    }
    let progress = Arc::new(Progress::new(domains.len()));
    let checker = checker(config, arguments, &progress).await?;
    let reports =
        stream::iter(&domains).map(|domain| async { judge(&checker, &rules, domain, arguments.form()).await });
    let print = print(reports.buffered(arguments.parallel.get()), arguments.form(), &progress);
    let (summary, worst) = tokio::select! {
        printed = print => printed.map_err(|error| StartError::system(format!("standard output: {error}")))?,
        never = progress.show() => match never {},
    };
    if summary.domains() > 1 {
        let written = match arguments.form() {
            ReportForm::Json => summary.write(&mut io::stderr()),
            ReportForm::Tree | ReportForm::Line => summary.write(&mut io::stdout()),
        };
        written.map_err(StartError::system)?;
    }
    if worst == CheckStatus::LookupFailed {
        blame(&checker).await;
    }
    Ok(worst)
}

async fn checker(config: Config, arguments: &CheckArguments, progress: &Arc<Progress>) -> Result<Checker, StartError> {
    let hostname = run::hostname(&config)?;
    let hello: Hello = hostname.as_str().parse().map_err(|error| StartError::config(format!("hostname: {error}")))?;
    let (dns, roots) = (run::tested_resolver(&config).await?, run::roots(&config)?);
    Ok(Checker {
        hello,
        policies: PolicyChecks::new(&config, &dns, &roots),
        dns,
        tls: Tls::new((&config).into()).map_err(StartError::system)?.with_roots(roots),
        connections: if arguments.no_connect { Connections::None } else { Connections::Connect },
        progress: Arc::clone(progress),
        sessions: SessionChecks::default(),
        hostname,
        config,
    })
}

/// One domain at its level, and, where a rule sets that, at the default level too.
async fn judge(checker: &Checker, rules: &Rules, domain: &Name, form: ReportForm) -> DomainReport {
    let now = OffsetDateTime::now_utc();
    let context = ReportContext {
        digests: &checker.config.tls.digests,
        rules,
        negative: checker.dns.negative_trust_anchors(),
        now,
    };
    let (level, rule) = rules.level(domain, now.date());
    let next_hop = rule.and_then(|rule| rule.next_hop.as_ref());
    let sts = StsByRule::of(rule);
    let demand = TagDemand::None;
    let check = checker.check(domain, CheckTarget { level, demand, next_hop, sts }).await;
    let mut report = match rule {
        None => DomainReport::of(&check, None, &context),
        Some(rule) => {
            let default = CheckTarget { level: &rules.default, demand, next_hop, sts: StsByRule::Heeded };
            let default = checker.check(domain, default).await;
            DomainReport::of(&check, Some((rule, &default)), &context)
        }
    };
    // A line has no room for it, and hosts are spared the sessions.
    if checker.connections == Connections::Connect && !matches!(form, ReportForm::Line) {
        report.requiretls = tagged(checker, domain, CheckTarget { level, demand, next_hop, sts }).await;
    }
    checker.progress.done();
    report
}

/// The forecast for mail with REQUIRETLS. Sessions that had to meet the same policy are not repeated.
async fn tagged(checker: &Checker, domain: &Name, target: CheckTarget<'_>) -> Option<RequireTlsReport> {
    let demand = TagDemand::Tagged(Tag::Always);
    // As delivery does: a rule lowers no such mail.
    let level = LevelFloor::Secure.or_stricter(target.level);
    let check = checker.check(domain, CheckTarget { level, demand, sts: StsByRule::Heeded, ..target }).await;
    RequireTlsReport::of(&check, demand)
}

/// Prints reports as they come.
async fn print(
    reports: impl stream::Stream<Item = DomainReport>,
    form: ReportForm,
    progress: &Progress,
) -> io::Result<(Summary, CheckStatus)> {
    let (mut summary, mut worst) = (Summary::default(), CheckStatus::Delivered);
    let mut reports = std::pin::pin!(reports);
    while let Some(report) = reports.next().await {
        summary.add(&report);
        worst = worst.max(report.outcome.1);
        progress.clear();
        // Colours, if the output is a terminal and NO_COLOR is not set.
        let mut out = AutoStream::auto(io::stdout().lock());
        match form {
            ReportForm::Tree => tree::write(&report, &mut out)?,
            ReportForm::Line => tree::write_line(&report, &mut out)?,
            ReportForm::Json => {
                serde_json::to_writer(&mut out, &report)?;
                writeln!(out)?;
            }
        }
        out.flush()?;
    }
    progress.clear();
    Ok((summary, worst))
}

/// Where a lookup failed, the resolver may be at fault: says so if it is.
async fn blame(checker: &Checker) {
    checker.dns.self_test().await;
    let health = checker.dns.health().borrow().clone();
    if health.falls_back() {
        eprintln!("danelaw: a lookup failed; a running danelaw goes on without the name servers: {FALLEN_BACK}");
    }
    for server in health.servers.iter().chain(&health.fallback) {
        let (name, no_tcp) = (&server.server, server.no_tcp.as_ref());
        match &server.state {
            ServerState::Failed(why) => {
                eprintln!("danelaw: a lookup failed, and the name server {name} fails the self-test: {why}");
            }
            ServerState::Good | ServerState::Untested => no_tcp.into_iter().for_each(|why| {
                eprintln!("danelaw: a lookup failed, and the name server {name} does not answer over TCP: {why}");
            }),
        }
    }
}
