//! `danelaw domains`: the domains that a mail server has sent to, from its log.

mod logs;
mod source;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::logs::{LogReader, LoggedMail};
use self::source::{LogError, LogLines};
use super::EX_OSERR;
use super::stdout::Stdout;
use crate::name::Name;

const STATUS: &str = "\
Exit status:
  0   the domains are printed
  1   the logs name no domain that mail was sent to
  64  the command line is wrong
  71  a file cannot be read, or standard output takes no more

Examples:
  danelaw domains /var/log/mail.log* | danelaw check -
  danelaw domains /var/log/exim4/mainlog* > domains.txt

For Exchange, if its own message tracking logs are not at hand:
  Get-MessageTrackingLog -ResultSize Unlimited |
    Select-Object EventId, @{n='Recipients'; e={$_.Recipients -join ';'}} |
    Export-Csv tracking.csv";

/// No line of the logs tells of a mail to another host.
const NONE_FOUND: u8 = 1;
/// `Export-Csv` has written no addresses.
const TYPE_NAMES: &str = "the column Recipients has the name of a type and no addresses; danelaw domains --help has a command that \
                          exports them";
/// The most logs that are named in a note.
const MAX_NAMED: usize = 3;

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct DomainsArguments {
    /// Logs of Postfix, Exim or Sendmail, message tracking logs of Exchange, or the output of
    /// Get-MessageTrackingLog | Export-Csv; as they are, or compressed by gzip. "-" is standard input.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
}

/// The domains of the logs so far.
#[derive(Default)]
struct LoggedDomains<'a> {
    /// How many mails went there.
    mails: HashMap<Name, u64>,
    /// The logs that have lines, of which none tells of a mail to another host.
    without: Vec<&'a Path>,
}

/// Reads the logs, and prints the domains, those with the most mails first.
pub(super) fn run(arguments: &DomainsArguments) -> ExitCode {
    let mut found = LoggedDomains::default();
    for path in &arguments.logs {
        if let Err(error) = found.read(path) {
            eprintln!("danelaw: {}: {error}", path.display());
            return ExitCode::from(EX_OSERR);
        }
    }
    if found.mails.is_empty() {
        eprintln!(
            "danelaw: no line tells of a mail to another host: give logs of Postfix, Exim or Sendmail, or message tracking logs of Exchange"
        );
        return ExitCode::from(NONE_FOUND);
    }
    if let Some(note) = found.note(arguments.logs.len()) {
        eprintln!("danelaw: {note}");
    }
    Stdout::print(&listed(found.mails));
    ExitCode::SUCCESS
}

impl<'a> LoggedDomains<'a> {
    fn read(&mut self, path: &'a Path) -> Result<(), LogError> {
        let file: Box<dyn Read> = if path == "-" { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
        let (mut lines, mut reader, mut has_lines, mut has_mail) =
            (LogLines::of(file)?, LogReader::default(), false, false);
        while let Some(line) = lines.next()? {
            has_lines = true;
            let LoggedMail { domains, is_final } = reader.mail(&line);
            has_mail |= !domains.is_empty();
            for domain in domains {
                // A domain to which all mail waits is in the list, too.
                *self.mails.entry(domain).or_default() += u64::from(is_final);
            }
        }
        if reader.has_type_names {
            eprintln!("danelaw: {}: {TYPE_NAMES}", path.display());
        }
        if has_lines && !has_mail {
            self.without.push(path);
        }
        Ok(())
    }

    /// A note about the logs without a mail, which perhaps have another form.
    fn note(&self, logs: usize) -> Option<String> {
        let named: Vec<_> = self.without.iter().take(MAX_NAMED).map(|path| path.display().to_string()).collect();
        let named = named.join(", ");
        let without = self.without.len();
        match without.saturating_sub(MAX_NAMED) {
            _ if without == 0 => None,
            0 => Some(format!("in {without} of {logs} logs no line tells of a mail to another host: {named}")),
            more => Some(format!(
                "in {without} of {logs} logs no line tells of a mail to another host: {named}, and {more} more"
            )),
        }
    }
}

/// The domains with their numbers of mails, which are comments to `danelaw check`.
fn listed(mails: HashMap<Name, u64>) -> String {
    let mut mails: Vec<_> = mails.into_iter().map(|(domain, count)| (Reverse(count), domain.to_string())).collect();
    mails.sort();
    mails.into_iter().map(|(Reverse(count), domain)| format!("{domain} # {count}\n")).collect()
}
