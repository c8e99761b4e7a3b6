//! `danelaw refusals`: every reason for which mail is not passed on, with the name that replies and the log give it, its cause
//! and its remedy. The pages are views of the one table, [`table`](crate::refusal::table).

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use strum::VariantArray as _;

use super::EX_OSERR;
use super::stdout::Stdout;
use crate::name::NameError;
use crate::refusal::examples::{Example, examples};
use crate::refusal::table::SILENT;
use crate::refusal::{Label, ResultType, Silent};

/// Which ones to show.
#[derive(Debug, clap::Args)]
pub(super) struct RefusalsArguments {
    /// The reason, as in the log's field `reason`; all of them if none is given.
    #[arg(value_name = "REASON", hide_possible_values = true,
          value_parser = PossibleValuesParser::new(Label::VARIANTS.iter().map(|label| label.as_str())))]
    reason: Option<String>,
}

/// Prints Markdown.
pub(super) fn run(arguments: &RefusalsArguments) -> ExitCode {
    let wanted = |entry: &RefusalEntry| arguments.reason.as_ref().is_none_or(|reason| *reason == entry.label.as_str());
    let written = entries().map_err(io::Error::other).and_then(|entries| {
        let out = &mut Stdout::lock();
        entries.iter().filter(|entry| wanted(entry)).try_for_each(|entry| entry.write(out))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("danelaw: {error}");
            ExitCode::from(EX_OSERR)
        }
    }
}

/// One reason, in words.
pub(super) struct RefusalEntry {
    /// The name in the log, in metrics, and in `danelaw check`.
    pub(super) label: Label,
    /// A reply as the client may see it, without the remedy; or that it gets none.
    pub(super) reply: String,
    pub(super) cause: &'static str,
    pub(super) remedy: &'static str,
    /// Its result type by RFC 8460 §4.3, with the condition under which it is reported.
    pub(super) reported: Option<ReportedAs>,
}

/// The result type of a reason in TLS reports.
pub(super) struct ReportedAs {
    pub(super) result_type: ResultType,
    /// The part of the failures that is reported, where that is not all.
    pub(super) only: Option<&'static str>,
}

/// All of them, in the order of a delivery.
pub(super) fn entries() -> Result<Vec<RefusalEntry>, NameError> {
    let entry = |Example { view, text, result_type }| RefusalEntry {
        label: view.label,
        reply: format!("{} {} {text}", view.code, view.enhanced),
        cause: view.cause,
        remedy: view.remedy,
        reported: result_type.map(|result_type| ReportedAs { result_type, only: view.label.reported_where() }),
    };
    let silent = |&Silent { label, cause, remedy }: &Silent| RefusalEntry {
        label,
        reply: "(no reply of this attempt)".to_owned(),
        cause,
        remedy,
        reported: None,
    };
    Ok(examples()?.into_iter().map(entry).chain(SILENT.iter().map(silent)).collect())
}

impl RefusalEntry {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { label, reply, cause, remedy, reported } = self;
        writeln!(out, "## {label}\n\n    {reply}\n\n{cause}\n\nTo do: {remedy}.\n")?;
        writeln!(out, "Level in the log: {}.\n", label.urgency().level())?;
        match reported {
            Some(ReportedAs { result_type, only }) => {
                let only = only.map(|only| format!(", {only}")).unwrap_or_default();
                writeln!(out, "TLS reports (RFC 8460): `{result_type}`{only}.\n")
            }
            None => Ok(()),
        }
    }
}
