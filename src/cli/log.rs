//! Where log events go: standard error, one a line, with a priority in front where the journal reads it.

use std::io::{self, Stderr, Write};
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use super::run::Failed;
use crate::config::{Log, LogFormat};
use crate::dns::stub::QUIET;

/// To change what is logged while danelaw runs.
#[derive(Debug, Clone)]
pub(super) struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Logs by this filter from now on.
    pub(super) fn change(&self, filter: EnvFilter) {
        // There is a subscriber as long as the program runs.
        let _ = self.0.reload(filter);
    }
}

/// Starts logging.
pub(super) fn init(log: &Log) -> Result<Filter, Failed> {
    let (filter, handle) = reload::Layer::new(filter(&log.filter).map_err(Failed::config)?);
    let to = Destination::of_this_process();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(to);
    match log.format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).init(),
        LogFormat::Json => {
            registry.with(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)).init();
        }
    }
    Ok(Filter(handle))
}

/// What to log. A word that is no level would be taken for the name of a module, and nothing else would be logged.
pub(super) fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').map(str::trim).find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        return Err(format!(
            "log.filter: {word:?} is no level (off, error, warn, info, debug, trace) and no MODULE=LEVEL such as \
             danelaw::upstream=debug"
        ));
    }
    EnvFilter::try_new(format!("{QUIET},{text}")).map_err(|error| format!("log.filter: {text:?} does not do: {error}"))
}

/// Says why the program ends: an error like any other, to whoever reads standard error.
pub(super) fn complain(why: &str) {
    let prefix = Destination::of_this_process().prefix(Level::ERROR);
    for line in why.lines() {
        eprintln!("{prefix}danelaw: {line}");
    }
}

/// Who reads standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// A person, or a program that takes each line as it is.
    Anybody,
    /// The journal, which takes a priority from the front of each line (sd-daemon(3)).
    Journal,
}

impl Destination {
    /// systemd.exec(5): JOURNAL_STREAM names the device and inode of the stream, which a redirection changes.
    fn of_this_process() -> Self {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        match std::fs::metadata("/proc/self/fd/2") {
            Ok(stderr) if stream == format!("{}:{}", stderr.dev(), stderr.ino()) => Self::Journal,
            Ok(_) | Err(_) => Self::Anybody,
        }
    }

    fn prefix(self, level: Level) -> &'static str {
        match (self, level) {
            (Self::Anybody, _) => "",
            (Self::Journal, Level::ERROR) => "<3>",
            (Self::Journal, Level::WARN) => "<4>",
            (Self::Journal, Level::INFO) => "<6>",
            (Self::Journal, _) => "<7>",
        }
    }
}

/// Standard error, with what goes before the next event.
struct Line {
    prefix: &'static str,
    stderr: Stderr,
}

impl<'a> MakeWriter<'a> for Destination {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { prefix: "", stderr: io::stderr() }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line { prefix: self.prefix(*event.level()), stderr: io::stderr() }
    }
}

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.write_all(event)?;
        Ok(event.len())
    }

    /// One write, so that lines of several threads do not mix.
    fn write_all(&mut self, event: &[u8]) -> io::Result<()> {
        let prefix = std::mem::take(&mut self.prefix);
        if prefix.is_empty() {
            return self.stderr.write_all(event);
        }
        self.stderr.write_all(&[prefix.as_bytes(), event].concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_everything_is_an_error() {
        for text in ["info", "WARN", "info,danelaw::upstream=debug", "off"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["", "inf", "verbose", "info,danelaw", "danelaw=verbose", "info,"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_journal_is_told_how_much_it_matters() {
        let of = |level| (Destination::Anybody.prefix(level), Destination::Journal.prefix(level));
        assert_eq!(of(Level::ERROR), ("", "<3>"));
        assert_eq!(of(Level::WARN), ("", "<4>"));
        assert_eq!(of(Level::INFO), ("", "<6>"));
        assert_eq!(of(Level::TRACE), ("", "<7>"));
    }
}
