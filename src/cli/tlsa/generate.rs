//! `danelaw tlsa generate`: from a file to the records that belong in the zone.

use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::pem::{self, Contents};
use super::{BadInput, MATCH, matching, selector, usage};
use crate::cli::log;
use crate::cli::stdout::Stdout;
use crate::dane::publish::{self, CertificateHolder, RecordSource};
use crate::dane::tlsa::{Matching, Selector, Tlsa, TlsaForm, Usage};
use crate::hex::Hex;
use crate::name::Name;

#[derive(Debug, clap::Args)]
pub(super) struct GenerateArguments {
    /// PEM file: the server's certificate, its chain in any order, or its public key.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The mail server's name, for the owner name of the records. Without it only their data is printed. For records with usage 2
    /// the certificate must have it: clients look for it there.
    #[arg(long, value_name = "NAME")]
    host: Option<Name>,
    /// The port, for the owner name.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// 2 (DANE-TA: the issuing authority) or 3 (DANE-EE: the server itself). Both, if not given.
    #[arg(long, value_parser = usage)]
    usage: Option<Usage>,
    /// 0 (the whole certificate) or 1 (its public key).
    #[arg(long, default_value = "1", value_parser = selector)]
    selector: Selector,
    /// 0 (in full), 1 (SHA2-256) or 2 (SHA2-512).
    #[arg(long, default_value = "1", value_parser = matching)]
    matching: Matching,
    /// Print JSON instead of zone file lines.
    #[arg(long)]
    json: bool,
}

/// A record, and its subject.
struct Generated {
    record: Tlsa,
    about: String,
}

pub(super) fn run(arguments: &GenerateArguments) -> Result<u8, BadInput> {
    let owner = match &arguments.host {
        None => None,
        Some(host) => Some(
            host.tlsa_owner(arguments.port)
                .map_err(|error| BadInput(format!("--host {host}: there is no TLSA owner name for it: {error}")))?,
        ),
    };
    let records = match pem::read(&arguments.file)? {
        Contents::Key(key) => vec![of_key(arguments, &key)?],
        Contents::Chain(chain) => of_chain(arguments, &chain)?,
    };
    let line = |Generated { record, about }: &Generated| match &owner {
        Some(owner) => format!("; {about}\n{owner}. IN TLSA {record}\n"),
        None => format!("; {about}\n{record}\n"),
    };
    Stdout::print(&match arguments.json {
        true => format!("{}\n", as_json(owner.as_ref(), &records)),
        false => records.iter().map(line).collect(),
    });
    Ok(MATCH)
}

/// A bare key is the server's unless the operator says that it is an authority's.
fn of_key(arguments: &GenerateArguments, key: &[u8]) -> Result<Generated, BadInput> {
    let usage = arguments.usage.unwrap_or(Usage::EndEntity);
    Ok(Generated { record: record(arguments, usage, RecordSource::Key(key))?, about: about(usage, None) })
}

/// The certificates of a file, sorted by their use.
struct Sorted<'c> {
    own: &'c CertificateDer<'static>,
    holder: CertificateHolder,
    issuer: Option<&'c CertificateDer<'static>>,
    /// The number of other certificates in the file.
    others: usize,
}

impl<'c> Sorted<'c> {
    fn of(arguments: &GenerateArguments, chain: &'c [CertificateDer<'static>]) -> Result<Self, BadInput> {
        let file = arguments.file.display();
        let place = publish::own(chain).ok_or_else(|| {
            BadInput(format!(
                "{file}: the first certificate has issued another one, so it is an authority's, and it is not clear which of the \
                 others is the server's; put that first"
            ))
        })?;
        let own = &chain[place];
        let holder = publish::holder(own, arguments.host.as_ref());
        let subject = publish::subject(own).unwrap_or_default();
        if place > 0 && holder != CertificateHolder::Authority {
            log::caution(&format!(
                "{file}: the first certificate is an authority's, and the server's own is number {}, \"{subject}\"; the server must \
                 send its own first",
                place + 1
            ));
        }
        if holder == CertificateHolder::Unclear && arguments.usage.is_none() {
            log::caution(&format!(
                "{file}: \"{subject}\" is self-signed and marked as an authority's, and the record is for a server that shows this very \
                 certificate; if the server shows another one, which this authority issued, give that one, or ask for --usage 2"
            ));
        }
        Ok(Self { own, holder, issuer: publish::issuer(own, chain), others: chain.len() - 1 })
    }

    /// The authority that a record with usage 2 is about.
    fn authority(&self, arguments: &GenerateArguments) -> Result<&'c CertificateDer<'static>, BadInput> {
        match (self.issuer, self.others) {
            (Some(issuer), _) => Ok(issuer),
            // With 2 and a single certificate, the operator means that one.
            (None, 0) => Ok(self.own),
            (None, _) => Err(BadInput(format!(
                "{}: --usage 2 is about the authority that issued the server's certificate, and none of the others did",
                arguments.file.display()
            ))),
        }
    }

    /// Under usage 2 clients look for the host's name in the server's certificate (RFC 7672 §3.2.1).
    fn check_name(&self, arguments: &GenerateArguments) -> Result<(), BadInput> {
        let Some(host) = &arguments.host else { return Ok(()) };
        if self.issuer.is_none() || publish::is_for(self.own, host) {
            return Ok(());
        }
        Err(BadInput(format!(
            "{}: the server's certificate is for {}, and not for {host}, so no client could verify {host} by a record with usage 2; \
             give it a certificate for its name, or print the record of its key alone, with --usage 3",
            arguments.file.display(),
            publish::host_names(self.own).join(", ")
        )))
    }
}

fn of_chain(arguments: &GenerateArguments, chain: &[CertificateDer<'static>]) -> Result<Vec<Generated>, BadInput> {
    let sorted = Sorted::of(arguments, chain)?;
    let generated = |usage, certificate: &CertificateDer<'_>| {
        Ok(Generated {
            record: record(arguments, usage, RecordSource::Certificate(certificate))?,
            about: about(usage, publish::subject(certificate)),
        })
    };
    let own = || generated(Usage::EndEntity, sorted.own);
    match (arguments.usage, sorted.holder) {
        (Some(Usage::EndEntity), _) => Ok(vec![own()?]),
        // The file has authorities alone: the lowest of them is the one that issues the server's certificate.
        (Some(Usage::TrustAnchor) | None, CertificateHolder::Authority) => {
            Ok(vec![generated(Usage::TrustAnchor, sorted.own)?])
        }
        (Some(Usage::TrustAnchor), CertificateHolder::Server | CertificateHolder::Unclear) => {
            sorted.check_name(arguments)?;
            Ok(vec![generated(Usage::TrustAnchor, sorted.authority(arguments)?)?])
        }
        (None, CertificateHolder::Server | CertificateHolder::Unclear) => {
            sorted.check_name(arguments)?;
            let authority = sorted.issuer.map(|issuer| generated(Usage::TrustAnchor, issuer));
            std::iter::once(own()).chain(authority).collect()
        }
    }
}

fn record(arguments: &GenerateArguments, usage: Usage, source: RecordSource<'_>) -> Result<Tlsa, BadInput> {
    let form = TlsaForm { usage, selector: arguments.selector, matching: arguments.matching };
    if let Some(bits) = publish::refused_size(source) {
        log::caution(&format!(
            "{}: the RSA key has {bits} bits; danelaw verifies no server by a key below 2048 bits or above 8192, whatever record is \
             published; take a new key first",
            arguments.file.display()
        ));
    }
    publish::tlsa_record(form, source).map_err(|why| BadInput(format!("{}: {why}", arguments.file.display())))
}

fn about(usage: Usage, subject: Option<String>) -> String {
    let subject = subject.map(|subject| format!(" \"{subject}\"")).unwrap_or_default();
    match usage {
        Usage::EndEntity => format!("the server itself{subject}"),
        Usage::TrustAnchor => format!("the issuing authority{subject}; the server must send its certificate"),
    }
}

fn as_json(owner: Option<&Name>, records: &[Generated]) -> serde_json::Value {
    let records: Vec<_> = records
        .iter()
        .map(|Generated { record, about }| {
            let [usage, selector, matching] = record.form().numbers();
            json!({
                "usage": usage, "selector": selector, "matching": matching, "data": Hex(record.data()).to_string(),
                "record": record.to_string(), "about": about,
            })
        })
        .collect();
    json!({ "owner": owner.map(|owner| format!("{owner}.")), "records": records })
}
