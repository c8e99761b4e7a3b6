//! `danelaw tlsa`: the records a mail server should publish, and whether a server meets the records it has.

mod connect;
mod generate;
mod judge;
mod pem;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::ConfigFlags;
use crate::dane::tlsa::{Matching, Selector, Usage};

/// A record matches; or the records were printed.
const MATCH: u8 = 0;
/// The server is not the one that the records mean.
const MISMATCH: u8 = 1;
/// Wrong arguments or files; clap ends with the same for its own errors.
const BAD_INPUT: u8 = super::EX_USAGE;
/// There are records, and none of them is usable.
const UNUSABLE: u8 = 3;
/// The server could not be asked.
const NO_SESSION: u8 = 4;

/// The meanings of the exit status of `verify`, for its `--help`.
const STATUS: &str = "\
Exit status:
  0   a record matches
  1   the server is not the one that the records mean
  3   none of the records is usable, so no server can be verified by them
  4   no TLS session with the server came about (--connect only)
  64  bad input: an argument, a file or a record cannot be read";

/// The meanings of the exit status of `generate`.
const GENERATED: &str = "\
Exit status:
  0   the records are printed
  64  bad input: an argument or a file cannot be read";

#[derive(Debug, clap::Args)]
pub(super) struct TlsaArguments {
    #[command(subcommand)]
    command: TlsaCommand,
}

#[derive(Debug, Subcommand)]
enum TlsaCommand {
    /// Print the TLSA records for a certificate, a chain or a public key.
    ///
    /// From a chain, by default: "3 1 1" of the server's own key, and "2 1 1" of the authority that issued its certificate, if that
    /// authority's certificate is in the file. Publish one or both; with "2 1 1" the server must send the authority's certificate
    /// too, and its own must have the name in --host.
    #[command(after_help = GENERATED)]
    Generate(generate::GenerateArguments),
    /// Judge a chain, or a live server, by TLSA records, as danelaw does before it sends mail.
    #[command(after_help = STATUS)]
    Verify(verify::VerifyArguments),
}

/// The request cannot be carried out as it was made, for this reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadInput(String);

/// Runs the subcommand.
pub(super) fn run(arguments: &TlsaArguments, settings: &ConfigFlags) -> ExitCode {
    let done = match &arguments.command {
        TlsaCommand::Generate(arguments) => generate::run(arguments),
        TlsaCommand::Verify(arguments) => verify::run(arguments, settings),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            eprintln!("danelaw: {why}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn usage(text: &str) -> Result<Usage, String> {
    match text {
        "2" => Ok(Usage::TrustAnchor),
        "3" => Ok(Usage::EndEntity),
        // RFC 7672 §3.1.3.
        "0" | "1" => {
            Err("certificate usages 0 and 1 rely on public authorities and do not apply to mail servers".into())
        }
        _ => Err("expected 2 (DANE-TA, the issuing authority) or 3 (DANE-EE, the server itself)".into()),
    }
}

fn selector(text: &str) -> Result<Selector, String> {
    match text {
        "0" => Ok(Selector::Certificate),
        "1" => Ok(Selector::PublicKey),
        _ => Err("expected 0 (the whole certificate) or 1 (its public key)".into()),
    }
}

fn matching(text: &str) -> Result<Matching, String> {
    match text {
        "0" => Ok(Matching::Full),
        "1" => Ok(Matching::Sha256),
        "2" => Ok(Matching::Sha512),
        _ => Err("expected 0 (in full), 1 (SHA2-256) or 2 (SHA2-512)".into()),
    }
}
