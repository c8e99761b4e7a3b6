//! `danelaw tlsrpt`: TLS reports that others sent, in words; the counts of our own sessions, our own reports, and the key that
//! signs them.

mod preview;
mod published;
mod running;
mod show;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use time::Date;

use self::preview::TlsrptPreviewArguments;
use self::published::PublishedPolicies;
use self::show::TlsrptShowArguments;
use super::stdout::Stdout;
use super::{ConfigFlags, log};
use crate::dispatch::key::{DkimKey, DkimKeyError, new_key};
use crate::last_day;
use crate::name::Name;
use crate::tlsrpt::dkim::DkimAlgorithm;
use crate::tlsrpt::read::unpack::MAX_INPUT;
use crate::tlsrpt::read::words::{self, ShownPart, shown};
use crate::tlsrpt::read::{self, FoundReport, mbox};

/// A report tells of failures.
const FAILURES: u8 = 1;
/// sysexits: the input is of no use.
const EX_DATAERR: u8 = 65;
/// sysexits: an input is not there.
const EX_NOINPUT: u8 = 66;

/// sysexits: the file cannot be made, or is of no use.
const EX_CANTCREAT: u8 = 73;

/// RFC 6376 §3.6.1 has such lists, and some verifiers have not.
const WITHOUT_LIST: &str = "; s=email:tlsrpt; may be left out: it says that the key is for mail and reports, and some verifiers (dkimpy) know no list\n";

/// The meanings of the exit status of `key`.
const KEY_STATUS: &str = "\
Exit status:
  0   the record was printed
  64  the command line is wrong
  73  the file cannot be made, or holds no key that can be used";

/// The meanings of the exit status of `read`.
const STATUS: &str = "\
Exit status:
  0   all sessions in all reports went well
  1   a report tells of failures
  64  the command line is wrong
  65  there is no report in the input
  66  a file is not there, or cannot be read
  71  the system refuses something
  78  the configuration is wrong, with --check";

#[derive(Debug, clap::Args)]
pub(super) struct TlsrptArguments {
    #[command(subcommand)]
    command: TlsrptCommand,
}

#[derive(Debug, Subcommand)]
enum TlsrptCommand {
    /// Explain the TLS reports that other mail servers sent you, and the remedy for each failure.
    ///
    /// Other mail servers send such reports once a day to the address in your TXT record at _smtp._tls (RFC 8460). Reads mails,
    /// mbox files, Maildir folders, JSON, gzip and zip, under any name. It uses the network with --check alone.
    #[command(after_help = STATUS)]
    Read(TlsrptReadArguments),
    /// Show how the TLS sessions of a day went, and which failed and why.
    ///
    /// These are the counts that tlsrpt.mode = "send" makes for reports, for each domain that mail went to. Asks the danelaw that
    /// runs, at admin.address.
    #[command(after_help = show::STATUS)]
    Show(TlsrptShowArguments),
    /// Show the TLS reports that would be sent about today, where they would go, and what would keep them back. None is sent.
    ///
    /// Asks the danelaw that runs, at admin.address. It looks up the records of the domains, and the record with the key of mails.
    /// A report about the domain of TLSA records has the counts of all recipients with these records. In the end, recipients with a
    /// report of their own to the same address are left out.
    #[command(after_help = preview::STATUS)]
    Preview(TlsrptPreviewArguments),
    /// Make the key that signs TLS reports for tlsrpt.mode = "send", and print the TXT record to publish for it.
    ///
    /// The key is RSA of 2048 bits, or Ed25519 with --ed25519. The file gets the mode 0600. A file that is there stays as
    /// it is, and its record is printed.
    #[command(after_help = KEY_STATUS)]
    Key(TlsrptKeyArguments),
}

/// Arguments of `key`.
#[derive(Debug, clap::Args)]
struct TlsrptKeyArguments {
    /// The file of the key, for tlsrpt.dkim_key or tlsrpt.dkim_ed25519_key.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The domain of tlsrpt.contact; with it, the name of the record is printed whole.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<Name>,
    /// The selector: that of tlsrpt.dkim_selector, or of tlsrpt.dkim_ed25519_selector. Without it, their defaults.
    #[arg(long, value_name = "NAME")]
    selector: Option<String>,
    /// Make an Ed25519 key, for a second signature beside that of RSA: for tlsrpt.dkim_ed25519_key.
    #[arg(long)]
    ed25519: bool,
}

impl TlsrptKeyArguments {
    fn algorithm(&self) -> DkimAlgorithm {
        if self.ed25519 { DkimAlgorithm::Ed25519 } else { DkimAlgorithm::Rsa }
    }

    fn selector(&self) -> &str {
        let default = match self.algorithm() {
            DkimAlgorithm::Rsa => "tlsrpt",
            DkimAlgorithm::Ed25519 => "tlsrpt-ed25519",
        };
        self.selector.as_deref().unwrap_or(default)
    }
}

/// Arguments of `read`.
#[derive(Debug, clap::Args)]
struct TlsrptReadArguments {
    /// The reports; "-" is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Show only reports and policies with failures.
    #[arg(long)]
    failures: bool,
    /// Write one line of JSON for each report.
    #[arg(long)]
    json: bool,
    /// Leave out reports of days before this one, as in 2026-11-28.
    #[arg(long, value_name = "DAY", value_parser = day)]
    since: Option<Date>,
    /// The name under which your mail server writes the results of its DKIM checks in Authentication-Results; without it
    /// each sender is called unverified.
    #[arg(long, value_name = "NAME")]
    authserv: Option<String>,
    /// Look up each policy, and tell how it differs from that of the report. The names to ask for are those of the report, so
    /// its sender may learn that it is read.
    #[arg(long)]
    check: bool,
}

fn day(text: &str) -> Result<Date, String> {
    last_day::parsed(text).ok_or_else(|| "write a day as in 2026-11-28".to_owned())
}

/// Runs the subcommand.
pub(super) fn run(arguments: &TlsrptArguments, settings: &ConfigFlags) -> ExitCode {
    match &arguments.command {
        TlsrptCommand::Read(arguments) if arguments.check => settings.trying(|config| {
            let published = PublishedPolicies::of(&config)?;
            Ok(read_all(arguments, Some(published)))
        }),
        TlsrptCommand::Read(arguments) => read_all(arguments, None),
        TlsrptCommand::Show(arguments) => settings.with(|config| show::run(&config, arguments)),
        TlsrptCommand::Preview(arguments) => settings.with(|config| preview::run(&config, arguments)),
        TlsrptCommand::Key(arguments) => key(arguments),
    }
}

/// Makes the key if it is not there, and prints its record.
fn key(arguments: &TlsrptKeyArguments) -> ExitCode {
    let TlsrptKeyArguments { file, domain, .. } = arguments;
    let (algorithm, selector) = (arguments.algorithm(), arguments.selector());
    let key = match file.exists() {
        true => DkimKey::load(file),
        false => make_key(file, algorithm),
    };
    match key.and_then(|key| key.by(algorithm)) {
        Ok(key) => {
            let domain = domain.as_ref().map(|domain| format!(".{domain}.")).unwrap_or_default();
            // A string of a TXT record has 255 octets at most (RFC 1035 §3.3.14).
            let record = key.record();
            let strings = record.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
            let strings: Vec<_> = strings.collect();
            let strings = strings.join(" ");
            Stdout::print(&format!("{selector}._domainkey{domain} IN TXT ( {strings} )\n{WITHOUT_LIST}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let advice = match &error {
                DkimKeyError::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
                    "; its directory must be there"
                }
                DkimKeyError::NotPem(_) => "; give the name of a file that is not there yet",
                _ => "",
            };
            log::complain(&format!("{}: {error}{advice}", file.display()));
            ExitCode::from(EX_CANTCREAT)
        }
    }
}

fn make_key(file: &Path, algorithm: DkimAlgorithm) -> Result<DkimKey, DkimKeyError> {
    let pem = new_key(algorithm)?;
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(pem.as_bytes())?;
    DkimKey::from_pem(pem.as_bytes())
}

fn read_all(arguments: &TlsrptReadArguments, published: Option<PublishedPolicies>) -> ExitCode {
    let mut reading = Reading { arguments, published, out: Stdout::lock(), seen: ReadSoFar::default() };
    for file in &arguments.files {
        if let Err(error) = reading.path(file) {
            log::complain(&format!("{}: {error}", file.display()));
            reading.seen.missing = true;
        }
    }
    // A closed pipe is no reason to complain.
    let _ = reading.totals();
    ExitCode::from(reading.seen.status())
}

/// The reading of all files.
struct Reading<'a, W> {
    arguments: &'a TlsrptReadArguments,
    /// With --check.
    published: Option<PublishedPolicies>,
    out: W,
    seen: ReadSoFar,
}

/// The result so far.
#[derive(Debug, Default)]
struct ReadSoFar {
    reports: usize,
    missing: bool,
    /// By sender and day.
    sums: BTreeMap<SenderDay, ReadSum>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SenderDay {
    day: Option<Date>,
    organization: String,
}

#[derive(Debug, Default)]
struct ReadSum {
    reports: usize,
    success: u64,
    failed: u64,
}

impl ReadSoFar {
    fn status(&self) -> u8 {
        let failed = self.sums.values().any(|sum| sum.failed > 0);
        match (self.missing, self.reports, failed) {
            (true, ..) => EX_NOINPUT,
            (false, 0, _) => EX_DATAERR,
            (false, _, true) => FAILURES,
            (false, _, false) => 0,
        }
    }
}

impl<W: Write> Reading<'_, W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        if path == Path::new("-") {
            return self.input(io::stdin().lock(), "standard input");
        }
        if !path.is_dir() {
            return self.input(File::open(path)?, &path.display().to_string());
        }
        self.mails(&mails_of(path)?);
        Ok(())
    }

    /// Reads all mails of a folder that can be read.
    fn mails(&mut self, mails: &[PathBuf]) {
        for mail in mails {
            let name = mail.display().to_string();
            let Err(error) = File::open(mail).and_then(|file| self.input(file, &name)) else { continue };
            log::complain(&format!("{name}: {error}"));
            // A mail reader moves mails from new to cur, and deletes some, at any time.
            self.seen.missing |= error.kind() != io::ErrorKind::NotFound;
        }
    }

    fn input(&mut self, mut input: impl Read, name: &str) -> io::Result<()> {
        let mut start = Vec::new();
        (&mut input).take(5).read_to_end(&mut start)?;
        let is_mbox = mbox::is_mbox(&start);
        let input = BufReader::new(start.as_slice().chain(input));
        if is_mbox {
            return mbox::each_mail(input, |mail| match mail {
                Some(mail) => self.octets(mail, name),
                None => log::complain(&format!("{name}: a mail is longer than {MAX_INPUT} octets")),
            });
        }
        let mut octets = Vec::new();
        // One more shows that it is too long.
        input.take(MAX_INPUT as u64 + 1).read_to_end(&mut octets)?;
        self.octets(&octets, name);
        Ok(())
    }

    fn octets(&mut self, octets: &[u8], name: &str) {
        for found in read::reports(octets, self.arguments.authserv.as_deref()) {
            match found {
                // The reader of a closed pipe has seen enough.
                Ok(found) => drop(self.report(found)),
                Err(error) => log::complain(&format!("{name}: {}", shown(&error.to_string()))),
            }
        }
    }

    fn report(&mut self, mut found: FoundReport) -> io::Result<()> {
        let report = &mut found.report;
        self.seen.reports += 1;
        if report.day.zip(self.arguments.since).is_some_and(|(day, since)| day < since) {
            return Ok(());
        }
        let is_bad = report.failed() > 0;
        let sender = SenderDay { day: report.day, organization: report.organization.clone() };
        let sum = self.seen.sums.entry(sender).or_default();
        sum.reports += 1;
        sum.success = sum.success.saturating_add(report.success());
        sum.failed = sum.failed.saturating_add(report.failed());
        if self.arguments.failures && !is_bad {
            return Ok(());
        }
        if let Some(published) = &mut self.published {
            report.policies.iter_mut().for_each(|policy| policy.published = published.look_up(policy));
        }
        if self.arguments.json {
            return writeln!(self.out, "{}", words::line(&found));
        }
        let part = if self.arguments.failures { ShownPart::Failures } else { ShownPart::All };
        let text = words::explain(&found, part).map_err(io::Error::other)?;
        writeln!(self.out, "{text}")
    }

    /// The sums, where there is more than one report.
    fn totals(&mut self) -> io::Result<()> {
        let sums = &self.seen.sums;
        if self.arguments.json || sums.values().map(|sum| sum.reports).sum::<usize>() < 2 {
            return self.out.flush();
        }
        for (SenderDay { day, organization }, ReadSum { reports, success, failed }) in sums {
            let day = day.map_or_else(|| "unknown day".to_owned(), |day| day.to_string());
            writeln!(
                self.out,
                "{day}  {:<30} {reports:>5} reports {success:>9} good {failed:>7} failed",
                shown(organization)
            )?;
        }
        self.out.flush()
    }
}

/// The mails of a Maildir folder, in order.
fn mails_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let parts = ["new", "cur"].map(|part| folder.join(part));
    if !parts.iter().any(|part| part.is_dir()) {
        return Err(io::Error::other("it is a directory, and no Maildir: it has neither new nor cur"));
    }
    let mut mails = Vec::new();
    for part in parts.iter().filter(|part| part.is_dir()) {
        for entry in fs::read_dir(part)? {
            let path = entry?.path();
            if path.is_file() {
                mails.push(path);
            }
        }
    }
    mails.sort();
    Ok(mails)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(day: &str, failed: u64) -> String {
        format!(
            r#"{{"organization-name":"Example","report-id":"1","date-range":{{"start-datetime":"{day}T00:00:00Z"}},"policies":[
            {{"policy":{{"policy-type":"tlsa","policy-domain":"mx.example.org"}},"summary":
            {{"total-successful-session-count":5,"total-failure-session-count":{failed}}}}}]}}"#
        )
    }

    fn read(files: &[PathBuf], flags: &[&str]) -> (u8, String) {
        reading(files, flags, |reading, files| {
            for file in files {
                reading.seen.missing |= reading.path(file).is_err();
            }
        })
    }

    fn reading(
        files: &[PathBuf],
        flags: &[&str],
        read: impl Fn(&mut Reading<'_, &mut Vec<u8>>, &[PathBuf]),
    ) -> (u8, String) {
        use clap::Parser;
        let files = files.iter().map(|file| file.display().to_string());
        let line = ["tlsrpt", "read"].into_iter().chain(flags.iter().copied()).map(str::to_owned).chain(files);
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: TlsrptArguments,
        }
        let line = Line::parse_from(line);
        let TlsrptCommand::Read(arguments) = line.arguments.command else { panic!("{:?}", line.arguments) };
        let mut out = Vec::new();
        let mut reading = Reading { arguments: &arguments, published: None, out: &mut out, seen: ReadSoFar::default() };
        read(&mut reading, &arguments.files);
        reading.totals().unwrap();
        let status = reading.seen.status();
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn u6_the_status_is_made_for_cron() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let (good, bad) = (write("good", &report("2026-11-27", 0)), write("bad", &report("2026-11-28", 3)));
        let (none, gone) = (write("none", "hello"), folder.path().join("gone"));
        write("maildir/new/1", &report("2026-11-28", 0));
        write("maildir/cur/2:2,S", &report("2026-11-28", 1));
        let maildir = folder.path().join("maildir");
        let mbox =
            write("mbox", &format!("From a\n{}\nFrom b\n{}\n", report("2026-11-28", 0), report("2026-11-28", 0)));
        for (files, flags, status, lines) in [
            (vec![&good], vec![], 0, 3),
            (vec![&bad], vec![], 1, 3),
            (vec![&good, &bad], vec![], 1, 8),
            (vec![&good, &bad], vec!["--failures"], 1, 5),
            (vec![&good, &bad], vec!["--json"], 1, 2),
            (vec![&good, &bad], vec!["--since", "2026-11-29"], 0, 0),
            (vec![&good, &none], vec![], 0, 3),
            (vec![&none], vec![], 65, 0),
            (vec![&good, &gone], vec![], 66, 3),
            (vec![&maildir], vec![], 1, 7),
            (vec![&mbox], vec![], 0, 7),
        ] {
            let files: Vec<_> = files.into_iter().cloned().collect();
            let (found, out) = read(&files, &flags);
            assert_eq!((found, out.lines().count()), (status, lines), "{files:?} {flags:?}:\n{out}");
        }
        let (_, out) = read(&[maildir], &[]);
        assert!(out.ends_with("2 reports        10 good       1 failed\n"), "{out}");
        assert!(mails_of(folder.path()).is_err());
    }

    #[test]
    fn u1_a_mail_that_is_gone_or_unreadable_does_not_end_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let [gone, good, bad] = ["1", "2", "3"].map(|name| folder.path().join(name));
        fs::write(&good, report("2026-11-28", 0)).unwrap();
        fs::write(&bad, report("2026-11-28", 1)).unwrap();
        // A folder can be opened, and not read.
        let unreadable = folder.path().to_owned();
        for (mails, status, lines) in [
            (vec![&gone, &good], 0, 3),
            (vec![&gone, &bad, &gone, &good, &gone], 1, 7),
            (vec![&gone], EX_DATAERR, 0),
            (vec![&unreadable, &good], EX_NOINPUT, 3),
        ] {
            let mails: Vec<_> = mails.into_iter().cloned().collect();
            let (found, out) = reading(&mails, &[], |reading, mails| reading.mails(mails));
            assert_eq!((found, out.lines().count()), (status, lines), "{mails:?}:\n{out}");
        }
    }
}
