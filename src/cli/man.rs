//! `danelaw man`: manual pages, out of the texts that the program has anyway: those of `--help`, the commented defaults
//! and the table of refusals.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::EX_OSERR;
use super::reference::{self, Piece};
use super::refusals::{self, RefusalEntry, ReportedAs};
use super::stdout::Stdout;
use crate::config::DEFAULTS;

/// The program that each page names at its foot.
const SOURCE: &str = concat!("danelaw ", env!("CARGO_PKG_VERSION"));

/// Where to write the pages.
#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// The directory to write all pages to, as in /usr/local/share/man; it is made if need be, with man1, man5 and man7 in
    /// it. Without it danelaw(1) is printed.
    directory: Option<PathBuf>,
}

/// Writes all pages, or prints the first.
pub(super) fn run(arguments: &ManArguments) -> ExitCode {
    let written = pages().and_then(|pages| match &arguments.directory {
        Some(directory) => pages.iter().try_for_each(|page| page.write(directory)),
        None => {
            let first = pages.iter().find(|page| page.name == "danelaw" && page.section == "1");
            first.map_or(Ok(()), |page| Stdout::lock().write_all(&page.roff))
        }
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let place = arguments.directory.as_ref().map(|directory| directory.display().to_string());
            eprintln!("danelaw: {}: {error}", place.as_deref().unwrap_or("standard output"));
            ExitCode::from(EX_OSERR)
        }
    }
}

/// One page.
struct Page {
    name: String,
    section: &'static str,
    roff: Vec<u8>,
}

impl Page {
    fn write(&self, directory: &Path) -> io::Result<()> {
        let directory = directory.join(format!("man{}", self.section));
        fs::create_dir_all(&directory)?;
        File::create(directory.join(format!("{}.{}", self.name, self.section)))?.write_all(&self.roff)
    }
}

fn pages() -> io::Result<Vec<Page>> {
    let mut command = super::Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = vec![configuration()?, refusals_page()?];
    of_command(&command, &mut pages)?;
    Ok(pages)
}

/// A page for the command and one for each below it.
fn of_command(command: &Command, pages: &mut Vec<Page>) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        of_command(below, pages)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone()).title(name.as_str()).source(SOURCE);
    let mut roff = Vec::new();
    man.render_title(&mut roff)?;
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut roff)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    if let Some(help) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        sections(&help.to_string()).to_writer(&mut roff)?;
    }
    see_also().to_writer(&mut roff)?;
    pages.push(Page { name, section: "1", roff });
    Ok(())
}

/// The text behind the options in `--help`: blocks of lines under a title that ends with a colon. Their columns stay.
fn sections(help: &str) -> Roff {
    let mut roff = Roff::new();
    for block in help.split("\n\n") {
        let (title, lines) = block.split_once(":\n").unwrap_or(("Notes", block));
        roff.control("SH", [title.to_uppercase().as_str()]);
        verbatim(&mut roff, lines);
    }
    roff
}

fn verbatim(roff: &mut Roff, lines: &str) {
    roff.control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn see_also() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let pages = ["danelaw(1)", "danelaw.toml(5)", "danelaw-refusals(7)"];
    roff.text([roman(pages.join(", "))]);
    roff
}

fn titled(name: &str, section: &'static str, about: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", [name, section, "", SOURCE, ""]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

fn finished(name: &str, section: &'static str, roff: &Roff) -> io::Result<Page> {
    let mut octets = Vec::new();
    roff.to_writer(&mut octets)?;
    see_also().to_writer(&mut octets)?;
    Ok(Page { name: name.to_owned(), section, roff: octets })
}

/// danelaw.toml(5).
fn configuration() -> io::Result<Page> {
    let mut roff = titled("danelaw.toml", "5", "the configuration of danelaw");
    roff.control("SH", ["DESCRIPTION"]);
    for piece in reference::pieces(DEFAULTS) {
        match piece {
            Piece::Table(name) => {
                roff.control("SH", [name.as_str()]);
            }
            Piece::Text(text) => {
                roff.control("PP", []).text([roman(text)]);
            }
            Piece::Example(lines) => {
                roff.control("PP", []);
                verbatim(&mut roff, &lines);
            }
            Piece::Key { name, default: Some(default), text } => {
                roff.control("TP", []).text([bold(name), roman(" = "), italic(default)]).text([roman(text)]);
            }
            Piece::Key { name, default: None, text } => {
                roff.control("TP", []).text([bold(name)]).text([roman(text)]);
            }
        }
    }
    finished("danelaw.toml", "5", &roff)
}

/// danelaw-refusals(7).
fn refusals_page() -> io::Result<Page> {
    let mut roff = titled("danelaw-refusals", "7", "why danelaw does not pass mail on, and what to do");
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(
        "A refusal is told to the client in the reply, host by host, and stands in the log under the name that is given \
         here, in the field \"reason\". The words of each reply are an example. A reply that begins with 4 leaves the mail \
         with the client, which tries again.",
    )]);
    for RefusalEntry { label, reply, cause, remedy, reported } in refusals::entries().map_err(io::Error::other)? {
        roff.control("SS", [label.as_str()]);
        verbatim(&mut roff, &reply);
        roff.control("PP", []).text([roman(cause)]);
        roff.control("PP", []).text([bold("To do: "), roman(format!("{remedy}."))]);
        roff.control("PP", []).text([bold("Level in the log: "), roman(format!("{}.", label.urgency().level()))]);
        if let Some(ReportedAs { result_type, only }) = reported {
            let only = only.map(|only| format!(", {only}")).unwrap_or_default();
            let result_type = italic(result_type.as_str());
            roff.control("PP", []).text([roman("TLS reports (RFC 8460): "), result_type, roman(only)]);
        }
    }
    finished("danelaw-refusals", "7", &roff)
}
