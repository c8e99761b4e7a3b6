//! `danelaw report`: the mail of a month by the proof that its sessions gave, for auditors.

use std::fmt::Write as _;
use std::process::ExitCode;

use time::OffsetDateTime;

use super::EX_CONFIG;
use super::running::{NotTold, RunningDanelaw};
use super::stdout::Stdout;
use crate::admin::{self, client};
use crate::config::Config;
use crate::report::month::{MailTotals, MonthReport, share};
use crate::store::Month;

const STATUS: &str = "\
Exit status:
  0   the report is printed
  1   no mail of that month is counted; it may be in the future
  64  the command line is wrong
  69  no danelaw answers at admin.address, or its store does not
  78  the configuration is wrong, has no admin.address, or lets no mail be
      counted: store.path or store.url, and store.mail_months above 0

JSON fields:
  month, is_over (for five minutes or longer), written (when the counts were read), danelaw (its version),
  delivered and not_delivered (count, domains), results (result, count,
  domains, last_day), to_other_domains (the part of all without a domain's
  name), unknown (results of a newer danelaw), busiest (domain, results),
  notes (what the numbers do not say)";

/// There is no report.
const NO_REPORT: u8 = 1;
/// The most characters of a line of notes.
const LINE: usize = 120;

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct MonthArguments {
    /// The month, as in 2026-11 (UTC). Without it, the present one so far.
    #[arg(long, value_name = "YYYY-MM")]
    month: Option<Month>,
    /// Print JSON, for programs.
    #[arg(long, conflicts_with = "html")]
    json: bool,
    /// Print a page of HTML with plots and with the sentences of guidelines that it answers. It needs no other file.
    #[arg(long)]
    html: bool,
}

/// Asks and prints.
pub(super) fn run(config: &Config, arguments: &MonthArguments) -> ExitCode {
    let month = arguments.month.unwrap_or_else(|| Month::of(OffsetDateTime::now_utc().date()));
    let answer = RunningDanelaw::of(config).and_then(|running| running.ask(&format!("{}{month}", client::MONTH)));
    let written = match answer {
        Ok(Ok(written)) => written,
        Ok(Err(why)) if why.starts_with(client::STORE_UNREADABLE) => return NotTold::unavailable(&why).complain(),
        Ok(Err(why)) if why.starts_with(client::NOT_COUNTED) => return NotTold { code: EX_CONFIG, why }.complain(),
        Ok(Err(why)) => return NotTold { code: NO_REPORT, why }.complain(),
        Err(not_told) => return not_told.complain(),
    };
    let report: MonthReport = match serde_json::from_str(&written) {
        Ok(report) => report,
        Err(error) => return NotTold::unavailable(&format!("the answer is no report of a month: {error}")).complain(),
    };
    Stdout::print(&match (arguments.json, arguments.html) {
        (true, _) => written + "\n",
        (false, true) => admin::month_page(&report) + "\n",
        (false, false) => text(&report),
    });
    ExitCode::SUCCESS
}

fn text(report: &MonthReport) -> String {
    let MonthReport { month, is_over, written, danelaw, delivered, not_delivered, .. } = report;
    let so_far = if *is_over { "" } else { ", so far" };
    let mut text = format!("mail of {month}{so_far} (UTC), read at {written} by danelaw {danelaw}\n");
    for (title, unit, all, is_delivery) in
        [("delivered", "mails", delivered, true), ("not delivered", "attempts", not_delivered, false)]
    {
        let _ = writeln!(text, "\n{title:<34}{unit:>12}{:>9}{:>12}{:>9}", "share", "domains", "share");
        for (result, totals) in report.known_results().filter(|(result, _)| result.is_delivery() == is_delivery) {
            line(&mut text, result.title(), totals, *all);
        }
        line(&mut text, "all", *all, *all);
    }
    for note in &report.notes {
        let _ = write!(text, "\n{}", wrapped(note));
    }
    text
}

/// The words in lines of 120 characters at most.
fn wrapped(note: &str) -> String {
    let (mut text, mut length) = (String::new(), 0);
    for word in note.split_whitespace() {
        let width = word.chars().count();
        match length {
            0 => length = width,
            _ if length + 1 + width > LINE => {
                text.push('\n');
                length = width;
            }
            _ => {
                text.push(' ');
                length += 1 + width;
            }
        }
        text.push_str(word);
    }
    text + "\n"
}

fn line(text: &mut String, title: &str, totals: MailTotals, all: MailTotals) {
    let MailTotals { count, domains } = totals;
    let (of_mail, of_domains) = (share(count, all.count), share(domains, all.domains));
    let _ = writeln!(text, "  {title:<33}{count:>11}{of_mail:>9}{domains:>12}{of_domains:>9}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MailDelta;

    #[test]
    fn the_text_has_every_result_and_whole_columns() {
        let row = |domain: &str, result: &str, mails| {
            let [domain, result] = [domain, result].map(str::to_owned);
            MailDelta { month: 2020 * 12, domain, result, mails, last_day: 2_458_850 }
        };
        let rows =
            [row("a.test", "dane", 2), row("b.test", "encrypted", 1), row("b.test", "refused", 4), row("", "dane", 1)];
        let mut report = MonthReport::of("2020-01".parse().unwrap(), &rows, OffsetDateTime::UNIX_EPOCH);
        report.danelaw = "1".to_owned();
        let text = text(&report);
        for line in [
            "mail of 2020-01, so far (UTC), read at 1970-01-01T00:00:00Z by danelaw 1",
            "delivered                                mails    share     domains    share",
            "  verified by DANE                           3   75.0 %           1   50.0 %",
            "  encrypted                                  1   25.0 %           1   50.0 %",
            "  cleartext by a rule                        0    0.0 %           0    0.0 %",
            "  all                                        4  100.0 %           2  100.0 %",
            "  refused for want of TLS or proof           4  100.0 %           1  100.0 %",
            "  deferred for want of a DNS answer          0    0.0 %           0    0.0 %",
            "counts each time: a mail that the client sends again counts again. Attempts that the client ended are not counted.",
            "1 of all were for domains beyond the room of the month; these are not among the domains.",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }
}
