//! `danelaw tlsrpt show`: the TLS sessions of a day in words, for the operator of this danelaw.

use std::io::Write;
use std::process::ExitCode;

use time::{Date, OffsetDateTime};

use super::FAILURES;
use super::running::{RunningReports, behind};
use crate::admin::client::COUNTS;
use crate::cli::running::NotTold;
use crate::cli::stdout::Stdout;
use crate::config::Config;
use crate::dispatch::view::{CountedDomain, CountsPage};
use crate::last_day;
use crate::name::Name;
use crate::tlsrpt::read::received::{ReceivedPolicy, sum};
use crate::tlsrpt::read::words::{self, ShownPart};

/// The meanings of the exit status.
pub(super) const STATUS: &str = "\
Exit status:
  0   no session failed
  1   sessions failed
  64  the command line is wrong
  69  no danelaw answers at admin.address
  78  the configuration is wrong, has no admin.address, or tlsrpt.mode is not \"send\"";

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct TlsrptShowArguments {
    /// The UTC day, as in 2026-11-28, or "yesterday"; without it, today so far.
    #[arg(value_name = "DAY", value_parser = day, conflicts_with = "days")]
    day: Option<Date>,
    /// The last N days, today so far being one of them. danelaw keeps four.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    days: Option<u8>,
    /// Show only domains and policies with failures.
    #[arg(long)]
    failures: bool,
    /// Write one line of JSON for each domain and day.
    #[arg(long)]
    json: bool,
}

fn day(text: &str) -> Result<Date, String> {
    let today = OffsetDateTime::now_utc().date();
    match text {
        "today" => Ok(today),
        "yesterday" => today.previous_day().ok_or_else(|| "there is no day before today".to_owned()),
        _ => last_day::parsed(text).ok_or_else(|| "write a day as in 2026-11-28, or \"yesterday\"".to_owned()),
    }
}

impl TlsrptShowArguments {
    fn days(&self, today: Date) -> Vec<Date> {
        let mut days: Vec<_> = match self.day {
            Some(day) => vec![day],
            None => std::iter::successors(Some(today), |day| day.previous_day())
                .take(usize::from(self.days.unwrap_or(1)))
                .collect(),
        };
        days.reverse();
        days
    }
}

/// Asks and prints.
pub(super) fn run(config: &Config, arguments: &TlsrptShowArguments) -> ExitCode {
    let shown = RunningReports::of(config).and_then(|running| {
        let mut showing = Showing { arguments, out: Stdout::lock(), failed: 0 };
        let days = arguments.days(OffsetDateTime::now_utc().date());
        days.into_iter().try_for_each(|day| showing.day(day, |path| running.page(path)))?;
        Ok(showing.failed)
    });
    match shown {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILURES),
        Err(not_told) => not_told.complain(),
    }
}

/// The days that are shown.
struct Showing<'a, W> {
    arguments: &'a TlsrptShowArguments,
    out: W,
    /// Sessions that failed.
    failed: u64,
}

/// The sums of a day.
#[derive(Debug, Default)]
struct ShownSums {
    domains: usize,
    success: u64,
    failed: u64,
}

impl<W: Write> Showing<'_, W> {
    fn day(&mut self, day: Date, page: impl Fn(&str) -> Result<CountsPage, NotTold>) -> Result<(), NotTold> {
        let (mut sums, mut last) = (ShownSums::default(), None);
        loop {
            let CountsPage { domains, unnamed, more } = page(&format!("{COUNTS}{day}{}", behind(last.as_ref())))?;
            for domain in &domains {
                self.domain(day, domain, &mut sums).map_err(|error| NotTold::unavailable(&error))?;
            }
            last = domains.into_iter().next_back().map(|domain| domain.domain);
            if !more || last.is_none() {
                sums.success = sums.success.saturating_add(unnamed.success);
                sums.failed = sums.failed.saturating_add(unnamed.failed);
                break;
            }
        }
        self.failed = self.failed.saturating_add(sums.failed);
        if !self.arguments.json {
            let ShownSums { domains, success, failed } = sums;
            let counts = words::counts(success, failed);
            // The reader of a closed pipe has seen enough.
            let _ = match domains {
                1 => writeln!(self.out, "{day} (UTC): {counts}, with 1 domain"),
                _ => writeln!(self.out, "{day} (UTC): {counts}, with {domains} domains"),
            };
        }
        Ok(())
    }

    fn domain(&mut self, day: Date, counted: &CountedDomain, sums: &mut ShownSums) -> Result<(), String> {
        let domain = Name::parse(&counted.domain).map_err(|error| error.to_string())?;
        let policies: Vec<_> = counted.policies.iter().filter_map(ReceivedPolicy::read).collect();
        let success = sum(policies.iter().map(|policy| policy.success));
        let failed = sum(policies.iter().map(|policy| policy.failed));
        sums.domains += 1;
        sums.success = sums.success.saturating_add(success);
        sums.failed = sums.failed.saturating_add(failed);
        if self.arguments.failures && failed == 0 {
            return Ok(());
        }
        let text = if self.arguments.json {
            let policies: Vec<_> = policies.iter().map(words::policy_json).collect();
            words::ascii_json(&serde_json::json!({
                "day": day.to_string(), "domain": domain.as_str(), "success": success, "failed": failed, "policies": policies,
            })) + "\n"
        } else {
            let part = if self.arguments.failures { ShownPart::Failures } else { ShownPart::All };
            words::explain_own(&domain, &policies, part).map_err(|error| error.to_string())? + "\n"
        };
        let _ = self.out.write_all(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::dispatch::view::UnnamedCounts;

    fn counted(domain: &str, failed: u64) -> CountedDomain {
        let policy = serde_json::json!({
            "policy": { "policy-type": "tlsa", "policy-domain": "mx.example.net" },
            "summary": { "total-successful-session-count": 5, "total-failure-session-count": failed },
            "failure-details": if failed == 0 { vec![] } else {
                vec![serde_json::json!({"result-type": "certificate-expired", "failed-session-count": failed})]
            },
        });
        CountedDomain { domain: domain.to_owned(), policies: vec![policy] }
    }

    fn arguments(line: &[&str]) -> TlsrptShowArguments {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            arguments: TlsrptShowArguments,
        }
        Line::try_parse_from(["show"].iter().chain(line)).unwrap().arguments
    }

    /// The output for two pages, and how many sessions failed.
    fn shown(line: &[&str]) -> (String, u64) {
        let arguments = arguments(line);
        let asked = Cell::new(0);
        let page = |path: &str| {
            asked.set(asked.get() + 1);
            let unnamed = UnnamedCounts { success: 1, failed: 2 };
            match path {
                "/tlsrpt/counts/2026-11-28" => {
                    Ok(CountsPage { domains: vec![counted("a.example", 0)], unnamed, more: true })
                }
                "/tlsrpt/counts/2026-11-28?after=a.example" => {
                    Ok(CountsPage { domains: vec![counted("b.example", 3)], unnamed, more: false })
                }
                _ => panic!("{path}"),
            }
        };
        let mut showing = Showing { arguments: &arguments, out: Vec::new(), failed: 0 };
        showing.day(Date::from_calendar_date(2026, time::Month::November, 28).unwrap(), page).unwrap();
        assert_eq!(asked.get(), 2);
        (String::from_utf8(showing.out).unwrap(), showing.failed)
    }

    #[test]
    fn a_day_is_shown_page_by_page() {
        let (text, failed) = shown(&["2026-11-28"]);
        assert!(
            text.starts_with("a.example: 5 sessions went well\n  DANE for mx.example.net: 5 sessions went well\n\n")
        );
        assert!(text.contains("\nb.example: 5 sessions went well, 3 failed\n"), "{text}");
        assert!(text.contains("    3 times certificate-expired\n"), "{text}");
        assert!(text.ends_with("\n\n2026-11-28 (UTC): 11 sessions went well, 5 failed, with 2 domains\n"), "{text}");
        assert_eq!(failed, 5);
        let (text, _) = shown(&["2026-11-28", "--failures"]);
        assert!(text.starts_with("b.example: "), "{text}");
        let (text, _) = shown(&["2026-11-28", "--failures", "--json"]);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["domain"], &line["failed"], &line["day"]),
            (&"b.example".into(), &3.into(), &"2026-11-28".into())
        );
    }

    #[test]
    fn the_days_that_are_meant() {
        let today = Date::from_calendar_date(2026, time::Month::November, 29).unwrap();
        let days = |line: &[&str]| arguments(line).days(today).iter().map(Date::to_string).collect::<Vec<_>>();
        assert_eq!(days(&[]), ["2026-11-29"]);
        assert_eq!(days(&["2026-11-27"]), ["2026-11-27"]);
        assert_eq!(days(&["--days", "3"]), ["2026-11-27", "2026-11-28", "2026-11-29"]);
        assert_eq!(day("yesterday").unwrap().next_day(), Some(day("today").unwrap()));
        assert!(day("tomorrow").is_err());
    }
}
