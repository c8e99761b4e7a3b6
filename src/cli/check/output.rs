//! Reports on their way out, and the end of a check.

use std::io::{self, Write};

use futures_util::stream::{Stream, StreamExt};

use super::CheckRun;
use super::suggest;
use super::summary::Summary;
use super::tree;
use crate::check::reach::Unreachable;
use crate::check::report::DomainReport;
use crate::check::verdict::CheckStatus;
use crate::cli::stdout::Stdout;
use crate::watch::settled::RememberedHost;

/// After so many failed lookups in a row, the name servers are tested again.
const MAX_FAILED: usize = 16;

/// How reports are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportForm {
    Tree,
    Line,
    Json,
    Csv,
    /// The rule that would hold.
    Rule,
}

/// Why no more domains are checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CheckEnd {
    /// There are no more.
    Whole,
    /// There are no more, and no mail server could be reached from here.
    WholeUnreached(Unreachable),
    /// No mail server can be reached from here.
    Unreachable(Unreachable),
    /// No lookup can succeed.
    NoResolver,
    /// ^C.
    Interrupted,
}

impl CheckEnd {
    /// The line about an early end, or about a list that reached no server; none after a good run.
    pub(super) fn told(&self, left: &str) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::WholeUnreached(unreachable) => Some(unreachable.to_string()),
            Self::Unreachable(unreachable) => Some(format!("stopped: {unreachable}; {left}")),
            Self::NoResolver => Some(format!("stopped: no name server can be used any more; {left}")),
            Self::Interrupted => Some(format!("interrupted; {left}")),
        }
    }

    /// The status that the end alone would have.
    pub(super) fn least_status(&self) -> CheckStatus {
        match self {
            Self::Whole | Self::Interrupted => CheckStatus::Delivered,
            Self::Unreachable(_) | Self::WholeUnreached(_) => CheckStatus::Unreachable,
            Self::NoResolver => CheckStatus::LookupFailed,
        }
    }
}

/// All reports so far.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) summary: Summary,
    pub(super) worst: CheckStatus,
    /// Failed lookups since the last that did not fail.
    failed: usize,
}

impl Default for Results {
    fn default() -> Self {
        Self { summary: Summary::default(), worst: CheckStatus::Delivered, failed: 0 }
    }
}

impl Results {
    fn add(&mut self, report: &DomainReport) {
        let (_, status) = report.outcome;
        self.summary.add(report);
        self.worst = self.worst.max(status);
        self.failed = if status == CheckStatus::LookupFailed { self.failed + 1 } else { 0 };
    }

    /// Writes the summary of several domains: where people look for it, or beside the output for programs.
    pub(super) fn summarize(&self, form: ReportForm) -> io::Result<()> {
        match form {
            _ if self.summary.domains() < 2 => Ok(()),
            ReportForm::Json | ReportForm::Csv | ReportForm::Rule => self.summary.write(&mut io::stderr()),
            ReportForm::Tree | ReportForm::Line => self.summary.write(&mut Stdout::lock()),
        }
    }
}

/// Prints reports as they come, until there are no more or no lookup can succeed.
pub(super) async fn print(
    reports: impl Stream<Item = DomainReport>,
    run: &CheckRun<'_>,
    results: &mut Results,
) -> io::Result<CheckEnd> {
    let (form, dns) = (run.form, &run.checker.dns);
    let mut reports = std::pin::pin!(reports);
    if form == ReportForm::Csv {
        csv_line(&mut Stdout::lock(), &DomainReport::COLUMNS.map(str::to_owned))?;
    }
    while let Some(report) = reports.next().await {
        results.add(&report);
        let remembered = run.remembered(&report).await;
        run.progress.aside(|| write(&report, form, &remembered))?;
        if results.failed == MAX_FAILED {
            results.failed = 0;
            dns.self_test().await;
            if !dns.health().borrow().resolves() {
                return Ok(CheckEnd::NoResolver);
            }
        }
    }
    let unreached = run.checker.reach.at_the_end().filter(|_| results.summary.domains() > 1);
    Ok(unreached.map_or(CheckEnd::Whole, CheckEnd::WholeUnreached))
}

fn write(report: &DomainReport, form: ReportForm, remembered: &[RememberedHost]) -> io::Result<()> {
    Stdout::coloured(|out| match form {
        ReportForm::Tree => tree::write(report, out),
        ReportForm::Line => tree::write_line(report, out),
        ReportForm::Json => {
            serde_json::to_writer(&mut *out, report)?;
            writeln!(out)
        }
        ReportForm::Csv => csv_line(out, &report.columns()),
        ReportForm::Rule => out.write_all(suggest::rule(report, remembered).as_bytes()),
    })
}

impl DomainReport {
    /// The columns of a spreadsheet: see [`Self::columns`].
    const COLUMNS: [&str; 10] =
        ["domain", "level", "verdict", "exchange", "address", "code", "reason", "no_dane", "sts", "advice"];

    /// The fields that fit into one line each, under the names of the JSON object. `advice` has the kinds alone.
    fn columns(&self) -> [String; 10] {
        let (refusal, advice) = (self.refusal.as_ref(), self.advice.iter().map(|advice| advice.kind));
        [
            self.domain.clone(),
            self.level.clone(),
            self.verdict.to_owned(),
            self.exchange.clone().unwrap_or_default(),
            self.address.clone().unwrap_or_default(),
            refusal.map(|refusal| refusal.code.clone()).unwrap_or_default(),
            refusal.map(|refusal| refusal.reason.to_owned()).unwrap_or_default(),
            self.no_dane.clone().unwrap_or_default(),
            self.sts.as_ref().map(|sts| sts.found.to_owned()).unwrap_or_default(),
            advice.collect::<Vec<_>>().join(" "),
        ]
    }
}

fn csv_line(out: &mut (impl Write + ?Sized), columns: &[String]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(columns).map_err(io::Error::other)?;
    writer.flush()
}
