//! `danelaw tlsrpt preview`: the reports that would be sent about today.

use std::io::{self, Write};
use std::process::ExitCode;

use super::running::{RunningReports, behind};
use crate::admin::client::PREVIEW;
use crate::cli::log;
use crate::cli::running::NotTold;
use crate::cli::stdout::Stdout;
use crate::config::Config;
use crate::dispatch::preview::{PreviewPage, PreviewedAddress, PreviewedReport};
use crate::name::Name;
use crate::tlsrpt::read::words::shown;

/// The meanings of the exit status.
pub(super) const STATUS: &str = "\
Exit status:
  0   the reports are printed
  1   no session of today is counted, with the domain or at all
  64  the command line is wrong
  69  no danelaw answers at admin.address
  78  the configuration is wrong, has no admin.address, or tlsrpt.mode is not \"send\"";

/// There is no report.
const NOTHING: u8 = 1;

/// Arguments of `preview`.
#[derive(Debug, clap::Args)]
pub(super) struct TlsrptPreviewArguments {
    /// The domain, of recipients or of TLSA records; without it, all of them.
    #[arg(value_name = "DOMAIN")]
    domain: Option<Name>,
}

/// Asks and prints.
pub(super) fn run(config: &Config, arguments: &TlsrptPreviewArguments) -> ExitCode {
    let asked =
        RunningReports::of(config).and_then(|running| print(arguments, |path| running.page(path), &mut Stdout::lock()));
    match asked {
        Ok(0) => {
            log::complain("no TLS session of today is counted");
            ExitCode::from(NOTHING)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(not_told) => not_told.complain(),
    }
}

/// Prints all pages, and returns how many reports that were.
fn print(
    arguments: &TlsrptPreviewArguments,
    page: impl Fn(&str) -> Result<PreviewPage, NotTold>,
    out: &mut impl Write,
) -> Result<usize, NotTold> {
    let (mut count, mut last) = (0, None);
    loop {
        let path = match &arguments.domain {
            Some(domain) => format!("{PREVIEW}{domain}"),
            None => format!("{PREVIEW}{}", behind(last.as_ref())),
        };
        let PreviewPage { reports, more } = page(&path)?;
        count += reports.len();
        // A closed pipe is no reason to complain.
        let _ = reports.iter().try_for_each(|report| write(report, out));
        last = reports.into_iter().next_back().map(|report| report.domain);
        if !more || last.is_none() {
            return Ok(count);
        }
    }
}

fn write(previewed: &PreviewedReport, out: &mut impl Write) -> io::Result<()> {
    let PreviewedReport { domain, kept_back, addresses, report } = previewed;
    writeln!(out, "{domain}")?;
    if let Some(why) = kept_back {
        writeln!(out, "  no report: {}", shown(why))?;
    }
    for PreviewedAddress { address, kept_back } in addresses {
        match kept_back {
            None => writeln!(out, "  to {}", shown(address))?,
            Some(why) => writeln!(out, "  not to {} now: {}", shown(address), shown(why))?,
        }
    }
    writeln!(out, "{report}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_is_shown_with_its_addresses_and_its_hindrances() {
        let page = |path: &str| {
            let report = |domain: &str, why: Option<&str>, addresses: &[(&str, Option<&str>)]| PreviewedReport {
                domain: domain.to_owned(),
                kept_back: why.map(str::to_owned),
                addresses: addresses
                    .iter()
                    .map(|(address, why)| PreviewedAddress {
                        address: (*address).to_owned(),
                        kept_back: why.map(str::to_owned),
                    })
                    .collect(),
                report: "{}".to_owned(),
            };
            let (reports, more) = match path {
                "/tlsrpt/preview/" => (vec![report("a.example", Some("why"), &[])], true),
                "/tlsrpt/preview/?after=a.example" | "/tlsrpt/preview/b.example" => {
                    let addresses = [("mailto:r@b.example", Some("mails wait")), ("https://b.example/\u{1b}", None)];
                    (vec![report("b.example", None, &addresses)], false)
                }
                _ => (vec![], false),
            };
            Ok(PreviewPage { reports, more })
        };
        let printed = |domain: Option<&str>| {
            let mut out = Vec::new();
            let arguments = TlsrptPreviewArguments { domain: domain.map(|domain| Name::parse(domain).unwrap()) };
            (print(&arguments, page, &mut out).unwrap(), String::from_utf8(out).unwrap())
        };
        let (count, all) = printed(None);
        let of_b = "b.example\n  not to mailto:r@b.example now: mails wait\n  to https://b.example/";
        assert!(count == 2 && all.starts_with("a.example\n  no report: why\n{}\n\nb.example\n"), "{all}");
        assert!(all.contains(of_b) && !all.contains('\u{1b}'), "{all}");
        let (count, one) = printed(Some("b.example"));
        assert!(count == 1 && one.starts_with(of_b), "{one}");
        assert_eq!(printed(Some("c.example")), (0, String::new()));
    }
}
