//! `danelaw tlsa verify`: a chain from a file, or a live server, and the records it has to meet.

use std::path::PathBuf;

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::connect::{self, Target};
use super::judge::{Judgement, Records, TlsaVerdict};
use super::{BadInput, pem};
use crate::cli::ConfigFlags;
use crate::cli::stdout::Stdout;
use crate::dane::verify::{Expectation, References, verify};
use crate::name::Name;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("judged").required(true).args(["chain", "connect"])))]
pub(super) struct VerifyArguments {
    /// PEM file: the certificates as the server sends them, its own first.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// A mail server to connect to: name or address, and port (25 if none is given). STARTTLS is spoken, and no mail.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<Target>,
    /// A TLSA record in quotes and in full, as in "3 1 1 8CB0..", or its line in a zone. May be given several times.
    #[arg(long = "record", value_name = "RECORD", required = true)]
    records: Vec<String>,
    /// A name that the certificate may be for; the first one is the TLSA base domain. May be given several times. Only
    /// records with usage 2 look at names. With --connect the host's name is the default.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<Name>,
    /// Judge as of this time, in the form of RFC 3339 (2026-11-21T12:00:00Z), instead of now.
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "connect")]
    at: Option<UnixTime>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &VerifyArguments, settings: &ConfigFlags) -> Result<u8, BadInput> {
    let names = names(arguments)?;
    let records = Records::read(&names.names()[0], &arguments.records)?;
    let judgement = match (&arguments.connect, &arguments.chain) {
        (Some(target), _) => connect::judge(target, records, names, settings)?,
        (None, Some(path)) => {
            let chain = pem::chain(path)?;
            let verdict = match records.usable.clone() {
                None => TlsaVerdict::Unusable,
                Some(usable) => {
                    let now = arguments.at.unwrap_or_else(UnixTime::now);
                    match verify(&chain, &Expectation { usable, references: names }, now) {
                        Ok(found) => TlsaVerdict::Match(found),
                        Err(why) => TlsaVerdict::Mismatch(why.label(), why.to_string()),
                    }
                }
            };
            Judgement { records, verdict, session: Vec::new() }
        }
        // clap asks for one of them.
        (None, None) => return Err(BadInput("give --chain or --connect".into())),
    };
    let text = if arguments.json { judgement.json().to_string() } else { judgement.text() };
    Stdout::print(&format!("{text}\n"));
    Ok(judgement.status())
}

/// The reference identifiers. DANE-EE does not look at them, so the root stands in where none is needed.
fn names(arguments: &VerifyArguments) -> Result<References, BadInput> {
    let host = arguments.connect.as_ref().and_then(Target::name);
    let mut names = arguments.names.iter().chain(host).cloned();
    match names.next() {
        Some(first) => Ok(References::new(first, arguments.names.iter().skip(1).cloned())),
        None if Records::need_a_name(&arguments.records) => Err(BadInput(
            "records with usage 2 ask for the server's name in the certificate: give it with --name".into(),
        )),
        None => Ok(References::new(Name::root(), [])),
    }
}

fn instant(text: &str) -> Result<UnixTime, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "write day and time as in 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00".to_owned())?;
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| "expected a time after 1970".to_owned())?;
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
