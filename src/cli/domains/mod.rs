//! `danelaw domains`: the domains that a mail server has sent to, from its log.

mod logs;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::logs::{LogReader, LoggedMail};
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
  zcat -f /var/log/mail.log* | danelaw domains - | danelaw check -
  danelaw domains /var/log/exim4/mainlog* > domains.txt";

/// No line of the logs tells of a mail to another host.
const NONE_FOUND: u8 = 1;
/// A line beyond this is cut, as no log has one.
const MAX_LINE: u64 = 1024 * 1024;

/// Arguments of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS)]
pub(super) struct DomainsArguments {
    /// Logs of Postfix, Exim or Sendmail, or message tracking logs of Exchange. "-" is standard input.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
}

/// Reads the logs, and prints the domains, those with the most mails first.
pub(super) fn run(arguments: &DomainsArguments) -> ExitCode {
    let mut mails = HashMap::new();
    for path in &arguments.logs {
        if let Err(error) = read(path, &mut mails) {
            eprintln!("danelaw: {}: {error}", path.display());
            return ExitCode::from(EX_OSERR);
        }
    }
    if mails.is_empty() {
        eprintln!(
            "danelaw: no line tells of a mail to another host: give logs of Postfix, Exim or Sendmail, or message tracking logs of Exchange"
        );
        return ExitCode::from(NONE_FOUND);
    }
    Stdout::print(&listed(mails));
    ExitCode::SUCCESS
}

fn read(path: &Path, mails: &mut HashMap<Name, u64>) -> io::Result<()> {
    let file: Box<dyn Read> = if path == "-" { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
    count(BufReader::new(file), mails)
}

fn count(mut log: impl BufRead, mails: &mut HashMap<Name, u64>) -> io::Result<()> {
    let (mut reader, mut line) = (LogReader::default(), Vec::new());
    while (&mut log).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        let LoggedMail { domains, is_final } = reader.mail(&String::from_utf8_lossy(&line));
        for domain in domains {
            // A domain to which all mail waits is in the list, too.
            *mails.entry(domain).or_default() += u64::from(is_final);
        }
        line.clear();
    }
    Ok(())
}

/// The domains with their numbers of mails, which are comments to `danelaw check`.
fn listed(mails: HashMap<Name, u64>) -> String {
    let mut mails: Vec<_> = mails.into_iter().map(|(domain, count)| (Reverse(count), domain.to_string())).collect();
    mails.sort();
    mails.into_iter().map(|(Reverse(count), domain)| format!("{domain} # {count}\n")).collect()
}
