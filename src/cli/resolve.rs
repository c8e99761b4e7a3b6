//! `danelaw resolve`: the answer of the DNS port about a name, by which deliveries are decided.
//!
//! One question from the command line, or many from standard input: a few of them are put at a time, and the answers
//! come out in the order of the questions.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, error::ErrorKind};
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use time::OffsetDateTime;

use super::name_servers;
use super::run::{self, StartError};
use super::stdout::Stdout;
use crate::config::{Config, Server};
use crate::dns::server::ResolverMode;
use crate::dns::stub::Stub;
use crate::dns::{Alias, Answer, Lookup, NegativeTrustAnchor, Rtype, Security};
use crate::name::{Name, NameError};

/// How many questions are on their way at a time.
const AT_A_TIME: usize = 16;

const EXIT_CODES: &str = "\
Exit status:
  0   every answer, or proof that there is none, is secure
  1   at least one is insecure: it lies below an unsigned delegation
  3   at least one lookup failed; danelaw would defer mail that depends on it
  64  the command line is wrong
  71  the system refuses something
  78  the configuration is wrong";

const FIELDS: &str = "\
JSON fields:
  name, type  as asked
  security    secure, insecure or failed, of the whole chain
  kind        answer, nodata, nxdomain or failure
  aliases     the aliases on the way: owner, target, security
  records     at the end of the chain, as in a master file
  reason      why the lookup failed, or null
  negative_trust_anchor
              the entry of the configuration by which it is insecure, or
              null";

/// The question, and the servers to ask.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, after_long_help = format!("{EXIT_CODES}\n\n{FIELDS}"))]
pub(super) struct ResolveArguments {
    /// The name, internationalised or not; "-" reads questions from standard input, one NAME TYPE a line.
    name: String,
    /// The record type, such as MX, A, AAAA, TLSA, CNAME, DS or DNSKEY. For TLSA the name is that of the record, as in
    /// _25._tcp.mx.example.
    #[arg(value_name = "TYPE")]
    rtype: Option<Rtype>,
    /// Write one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Ask this resolver instead of dns.servers, or none ("recurse"); may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    server: Vec<Server>,
    /// Go by "validate" or "trust-ad" instead of dns.mode.
    #[arg(long)]
    mode: Option<ResolverMode>,
    /// Trust the DNSKEY lines of this file instead of dns.trust_anchor.
    #[arg(long, value_name = "FILE")]
    trust_anchor: Option<PathBuf>,
    /// Begin at the root servers of this file instead of dns.root_hints, with the server "recurse".
    #[arg(long, value_name = "FILE")]
    root_hints: Option<PathBuf>,
}

impl ResolveArguments {
    /// Flags count more than the configuration.
    fn apply(&self, mut config: Config) -> Config {
        if !self.server.is_empty() {
            config.dns.servers.clone_from(&self.server);
        }
        if let Some(mode) = self.mode {
            config.dns.mode = mode;
        }
        if let Some(file) = &self.trust_anchor {
            config.dns.trust_anchor = Some(file.clone());
        }
        if let Some(file) = &self.root_hints {
            config.dns.root_hints = Some(file.clone());
        }
        config
    }

    /// The error with the flag that took the place of its key.
    fn with_flag(&self, StartError { code, why }: StartError) -> StartError {
        let flags = [
            (!self.server.is_empty(), "dns.servers:", "--server:"),
            (self.trust_anchor.is_some(), "dns.trust_anchor:", "--trust-anchor:"),
            (self.root_hints.is_some(), "dns.root_hints:", "--root-hints:"),
        ];
        let flag = flags.iter().find(|(is_given, key, _)| *is_given && why.starts_with(key));
        StartError { code, why: flag.map_or(why.clone(), |(_, key, flag)| why.replacen(key, flag, 1)) }
    }

    fn questions(&self) -> Box<dyn Iterator<Item = io::Result<String>> + Send> {
        let usage = |kind, message: &str| super::Arguments::usage_error("resolve", kind, message);
        match (self.name.as_str(), self.rtype) {
            ("-", None) => Box::new(io::BufReader::new(io::stdin()).lines()),
            ("-", Some(_)) => usage(ErrorKind::TooManyValues, "with \"-\" the types stand on standard input"),
            (name, Some(rtype)) => match parse(name) {
                Ok(_) => Box::new(std::iter::once(Ok(format!("{name} {rtype}")))),
                Err(why) => usage(ErrorKind::ValueValidation, &unasked(name, why)),
            },
            (_, None) => usage(ErrorKind::MissingRequiredArgument, "the record TYPE is missing, such as MX"),
        }
    }
}

/// Asks and answers.
pub(super) fn run(config: Config, arguments: &ResolveArguments) -> Result<ExitCode, StartError> {
    let questions = arguments.questions();
    let config = arguments.apply(config);
    let write = if arguments.json { LookupOutput::write_json } else { LookupOutput::write_text };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(StartError::system)?;
    let asked = runtime.block_on(ask(&config, questions, write));
    asked.map(|worst| ExitCode::from(worst.exit_code())).map_err(|error| arguments.with_flag(error))
}

/// Answers every question, and says how the worst lookup ended.
async fn ask(
    config: &Config,
    questions: impl Iterator<Item = io::Result<String>>,
    write: fn(&LookupOutput, &mut dyn Write) -> io::Result<()>,
) -> Result<LookupStatus, StartError> {
    config.check().map_err(StartError::config)?;
    let dns = run::tested_resolver(config).await?;
    let asked = stream::iter(questions).map(|line| async { Ok(answer(&dns, &line?).await) });
    let mut reports = asked.buffered(AT_A_TIME);
    let (mut worst, mut out) = (LookupStatus::Secure, Stdout::lock());
    while let Some(report) = reports.next().await {
        let report = report.map_err(|error: io::Error| StartError::system(format!("standard input: {error}")))?;
        worst = worst.max(report.security);
        write(&report, &mut out).map_err(StartError::system)?;
    }
    if worst == LookupStatus::Failed {
        dns.self_test().await;
        name_servers::tell_faults(&dns);
    }
    Ok(worst)
}

/// Answers one line, `NAME TYPE`.
async fn answer(dns: &Stub, line: &str) -> LookupOutput {
    let mut words = line.split_whitespace();
    let (name, rtype) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if words.next().is_some() {
        return LookupOutput::failed(name, rtype, "the line has more than NAME TYPE".to_owned());
    }
    match (parse(name), rtype.parse::<Rtype>()) {
        (Ok(name), Ok(rtype)) => match dns.lookup(&name, rtype).await {
            Ok(found) => {
                let today = OffsetDateTime::now_utc().date();
                let anchor = dns.negative_trust_anchors().covering_any(&found.asked, &found.aliases, today);
                LookupOutput {
                    negative_trust_anchor: anchor.map(NegativeTrustAnchor::to_string),
                    ..LookupOutput::found(found, rtype)
                }
            }
            Err(failure) => LookupOutput::failed(&name.to_string(), &rtype.to_string(), failure.reason.to_string()),
        },
        (Err(why), _) => LookupOutput::failed(name, rtype, unasked(name, why)),
        (Ok(_), Err(why)) => LookupOutput::failed(name, rtype, why.to_string()),
    }
}

fn unasked(name: &str, why: NameError) -> String {
    format!("{name:?} is no name that can be asked for: {why}")
}

/// Reads a name, label by label: in `_25._tcp.bücher.example` only one of them is for IDNA (D9).
fn parse(name: &str) -> Result<Name, NameError> {
    if name == "." {
        return Ok(Name::root());
    }
    let a_label = |label: &str| match label.is_ascii() {
        true => Ok(label.to_owned()),
        false => Name::parse(label).map(|name| name.as_str().to_owned()),
    };
    let labels = name.split('.').map(a_label).collect::<Result<Vec<_>, _>>()?;
    Name::parse(&labels.join("."))
}

/// How sure the answer is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum LookupStatus {
    Secure,
    Insecure,
    Failed,
}

impl LookupStatus {
    fn exit_code(self) -> u8 {
        match self {
            Self::Secure => 0,
            Self::Insecure => 1,
            Self::Failed => 3,
        }
    }
}

impl From<Security> for LookupStatus {
    fn from(security: Security) -> Self {
        match security {
            Security::Secure => Self::Secure,
            Security::Insecure => Self::Insecure,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum AnswerKind {
    Answer,
    NoData,
    NxDomain,
    Failure,
}

impl fmt::Display for AnswerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "records",
            Self::NoData => "the name has no such records",
            Self::NxDomain => "the name does not exist",
            Self::Failure => "the lookup failed",
        })
    }
}

/// One alias that was followed.
#[derive(Debug, Serialize)]
struct AliasLine {
    owner: String,
    target: String,
    security: LookupStatus,
}

/// How one lookup ended.
#[derive(Debug, Serialize)]
struct LookupOutput {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    /// Of the whole chain: the least of its links.
    security: LookupStatus,
    kind: AnswerKind,
    aliases: Vec<AliasLine>,
    /// At the end of the chain, as in a master file.
    records: Vec<String>,
    /// Why the lookup failed.
    reason: Option<String>,
    /// Why it is insecure, where the configuration is the cause.
    negative_trust_anchor: Option<String>,
    /// Of the end of the chain by itself.
    #[serde(skip)]
    end: LookupStatus,
}

impl LookupOutput {
    fn found(found: Lookup<String>, rtype: Rtype) -> Self {
        let line = |alias: &Alias| AliasLine {
            owner: alias.owner.to_string(),
            target: alias.target.to_string(),
            security: alias.security.into(),
        };
        let (kind, records) = match &found.answer {
            Answer::Records(records) => (AnswerKind::Answer, records.clone()),
            Answer::NoData => (AnswerKind::NoData, Vec::new()),
            Answer::NxDomain => (AnswerKind::NxDomain, Vec::new()),
        };
        Self {
            name: found.asked.to_string(),
            rtype: rtype.to_string(),
            security: found.security().into(),
            kind,
            aliases: found.aliases.iter().map(line).collect(),
            records,
            reason: None,
            negative_trust_anchor: None,
            end: found.end.into(),
        }
    }

    fn failed(name: &str, rtype: &str, reason: String) -> Self {
        Self {
            name: name.to_owned(),
            rtype: rtype.to_owned(),
            security: LookupStatus::Failed,
            kind: AnswerKind::Failure,
            aliases: Vec::new(),
            records: Vec::new(),
            reason: Some(reason),
            negative_trust_anchor: None,
            end: LookupStatus::Failed,
        }
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    /// `mx.example A: secure`, then one indented line for each alias, each record, the denial or the reason.
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let word = |outcome| match outcome {
            LookupStatus::Secure => "secure",
            LookupStatus::Insecure => "insecure",
            LookupStatus::Failed => "failed",
        };
        let (name, rtype) = (self.name.escape_debug(), self.rtype.escape_debug());
        let why = self.negative_trust_anchor.as_ref().map_or(String::new(), |why| format!(" ({})", why.escape_debug()));
        writeln!(out, "{name} {rtype}: {}{why}", word(self.security))?;
        for alias in &self.aliases {
            writeln!(out, "  {} is an alias of {} ({})", alias.owner, alias.target, word(alias.security))?;
        }
        for record in &self.records {
            writeln!(out, "  {record} ({})", word(self.end))?;
        }
        match (&self.reason, self.kind) {
            (Some(reason), _) => writeln!(out, "  {reason}"),
            (None, AnswerKind::Answer) => Ok(()),
            (None, denial) => writeln!(out, "  {denial} ({})", word(self.end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        for (written, read) in [
            (".", ""),
            ("MX.example.", "mx.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            // D9.
            ("_25._tcp.mx.b\u{fc}cher.example", "_25._tcp.mx.xn--bcher-kva.example"),
        ] {
            assert_eq!(parse(written).unwrap().as_str(), read);
        }
        assert_eq!(parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(parse("\u{1b}[2J.example"), Err(NameError::ForbiddenCharacter));
    }

    #[test]
    fn one_object_has_every_field() {
        let failed = LookupOutput::failed("mx.example", "A", "no answer".to_owned());
        let text = serde_json::to_string(&failed).unwrap();
        let expected = r#"{"name":"mx.example","type":"A","security":"failed","kind":"failure","aliases":[],"records":[],"reason":"no answer","negative_trust_anchor":null}"#;
        assert_eq!(text, expected);
    }
}
