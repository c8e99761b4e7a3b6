//! Where log events go: standard error, one a line, with a priority in front where the journal reads it.
//!
//! In a running danelaw [`Lines`] stand between the two, so that no task waits for standard error, and a panic is an event
//! like any other. The messages of a subcommand are written at once.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Json, JsonFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use super::fields::{OnOneLine, harmless};
use super::lines::{AtEnd, LineKind, Lines};
use super::run::StartError;
use crate::config::{LogFormat, LogSection};
use crate::dns::stub::QUIET;

/// How long the program's last word may take.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The log of a danelaw that runs.
#[derive(Debug, Clone)]
pub(super) struct Logging {
    filter: reload::Handle<Targets, Registry>,
    lines: Arc<Lines>,
}

impl Logging {
    /// Logs by this filter from now on.
    pub(super) fn change(&self, filter: Targets) {
        // There is a subscriber as long as the program runs.
        let _ = self.filter.reload(filter);
    }

    /// How many lines were dropped, because standard error did not take them.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        self.lines.dropped()
    }

    /// Waits for the last lines at the end of the program.
    pub(super) fn at_end(&self) -> AtEnd {
        self.lines.at_end()
    }
}

/// Starts logging.
pub(super) fn init(log: &LogSection) -> Result<Logging, StartError> {
    let (filter, handle) = reload::Layer::new(filter(&log.filter).map_err(StartError::config)?);
    // Not by the library's own handle: the writer would hold its lock while it waits.
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(StartError::system)?;
    let lines = Lines::start(File::from(stderr), account).map_err(StartError::system)?;
    let sink = LogSink::of_this_process();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(Queue { lines: Arc::clone(&lines), to: sink, format: log.format });
    match (log.format, sink) {
        // The journal has the time, and the priority in front of the line is its own field there.
        (LogFormat::Text, LogSink::Journal) => registry.with(as_text(layer).without_time().with_level(false)).init(),
        (LogFormat::Text, LogSink::Anybody) => registry.with(as_text(layer)).init(),
        // The level stays: `journalctl -o cat` prints the object alone, without its priority.
        (LogFormat::Json, LogSink::Journal) => registry.with(as_object(layer.json()).without_time()).init(),
        (LogFormat::Json, LogSink::Anybody) => registry.with(as_object(layer.json())).init(),
    }
    let last = Arc::clone(&lines);
    panic::set_hook(Box::new(move |panicked| tell_panic(panicked, &last)));
    Ok(Logging { filter: handle, lines })
}

/// The fields of an event on a line, as the library writes them.
fn as_text<S, W>(layer: fmt::Layer<S, DefaultFields, Format, W>) -> fmt::Layer<S, OnOneLine, Format, W> {
    layer.with_ansi(false).fmt_fields(OnOneLine)
}

/// The fields of an event as one object, without those of spans.
fn as_object<S, T, W>(
    layer: fmt::Layer<S, JsonFields, Format<Json, T>, W>,
) -> fmt::Layer<S, JsonFields, Format<Json, T>, W> {
    layer.flatten_event(true).with_current_span(false).with_span_list(false)
}

/// The target of the event that says how many lines are missing; no other event has it.
const ACCOUNT: &str = concat!(module_path!(), "::account");

/// Says how many lines are missing from the log.
fn account(dropped: u64) {
    tracing::error!(
        target: ACCOUNT,
        lines = dropped,
        "standard error did not take lines as fast as they came; so many were dropped here, and no mail waited for them"
    );
}

/// Logs a panic as a fault of this program.
fn tell_panic(panicked: &PanicHookInfo<'_>, lines: &Lines) {
    let payload = panicked.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let why = text.or_else(|| payload.downcast_ref().copied()).unwrap_or("it gave no reason");
    let place = panicked.location().map(ToString::to_string);
    // RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    if tracing::enabled!(Level::ERROR) {
        tracing::error!(why, place, thread = thread::current().name(), backtrace, "danelaw panicked; please report it");
    } else {
        lines.push(format!("danelaw panicked at {place:?}: {why:?}\n").into_bytes(), LineKind::Event);
    }
}

/// The filter of log events: levels, for all events or for those of a module. Without a level for all it is that of the defaults, so that a
/// module that does not exist silences no other. A word that is neither is an error.
pub(super) fn filter(text: &str) -> Result<Targets, String> {
    let level = |word: &str| word.parse::<LevelFilter>().ok().filter(|_| !word.is_empty());
    let is_of_name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b':');
    let is_module = |name: &str| !name.is_empty() && name.bytes().all(is_of_name);
    let words = QUIET.split(',').chain(text.split(','));
    words.map(str::trim).try_fold(Targets::new().with_default(LevelFilter::INFO), |filter, word| {
        let added = match word.split_once('=').map(|(module, word)| (module.trim(), level(word.trim()))) {
            None => level(word).map(|level| filter.with_default(level)),
            Some((module, Some(level))) if is_module(module) => Some(filter.with_target(module, level)),
            Some(_) => None,
        };
        added.ok_or_else(|| {
            format!(
                "log.filter: {word:?} is no level (off, error, warn, info, debug, trace) and no MODULE=LEVEL such as \
                 danelaw::session=debug, with only letters, digits, _ and :: in MODULE"
            )
        })
    })
}

/// Says why danelaw ends, unless standard error does not take it in time.
pub(super) fn complain_in_time(why: String) {
    let (said, hear) = mpsc::channel();
    let saying = thread::Builder::new().spawn(move || {
        complain(&why);
        said.send(())
    });
    if saying.is_ok() {
        // The exit status says the rest.
        let _ = hear.recv_timeout(LAST_WORD);
    }
}

/// Reports why the program ends: an error like any other, to the reader of standard error.
pub(super) fn complain(why: &str) {
    say(Level::ERROR, why);
}

/// Writes lines for a person to standard error.
pub(super) fn remark(text: &str) {
    say(Level::INFO, text);
}

/// Writes a warning to standard error: the program does not end for it.
pub(super) fn caution(about: &str) {
    say(Level::WARN, about);
}

fn say(level: Level, text: &str) {
    let prefix = LogSink::of_this_process().prefix(level);
    for line in text.lines() {
        eprintln!("{prefix}danelaw: {line}");
    }
}

/// The reader of standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogSink {
    /// A person, or a program that takes each line as it is.
    Anybody,
    /// The journal, which takes a priority from the front of each line (sd-daemon(3)).
    Journal,
}

impl LogSink {
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

/// Where the events of a danelaw that runs go.
struct Queue {
    lines: Arc<Lines>,
    to: LogSink,
    format: LogFormat,
}

/// The place of the next event in the queue, with the prefix of its line.
struct QueuedLine<'a> {
    lines: &'a Lines,
    prefix: &'static str,
    kind: LineKind,
    format: LogFormat,
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = QueuedLine<'a>;

    fn make_writer(&'a self) -> QueuedLine<'a> {
        QueuedLine { lines: &self.lines, prefix: "", kind: LineKind::Event, format: self.format }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> QueuedLine<'a> {
        let kind = if event.target() == ACCOUNT { LineKind::Account } else { LineKind::Event };
        QueuedLine { lines: &self.lines, prefix: self.to.prefix(*event.level()), kind, format: self.format }
    }
}

impl Write for QueuedLine<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.write_all(event)?;
        Ok(event.len())
    }

    /// The library writes an event at once.
    fn write_all(&mut self, event: &[u8]) -> io::Result<()> {
        let prefix = std::mem::take(&mut self.prefix);
        self.lines.push([prefix.as_bytes(), &*harmless(event, self.format)].concat(), self.kind);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_everything_is_an_error() {
        for text in
            ["info", "WARN", "info,danelaw::session=debug", " info , danelaw::dns = debug", "danelaw=debug", "off"]
        {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "inf",
            "verbose",
            "info,danelaw",
            "danelaw=verbose",
            "danelaw=",
            "=debug=",
            "danelaw[mail]=debug",
            "info,",
        ] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_module_without_events_silences_no_other() {
        for (text, expected) in [
            ("info", true),
            ("nope=debug", true),
            ("danelaw:dns=debug", true),
            ("off,nope=debug", false),
            ("danelaw=off", false),
        ] {
            let filter = filter(text).unwrap();
            assert_eq!(filter.would_enable("danelaw::report", &Level::INFO), expected, "{text}");
        }
    }

    #[test]
    fn the_journal_is_told_how_much_it_matters() {
        let of = |level| (LogSink::Anybody.prefix(level), LogSink::Journal.prefix(level));
        assert_eq!(of(Level::ERROR), ("", "<3>"));
        assert_eq!(of(Level::WARN), ("", "<4>"));
        assert_eq!(of(Level::INFO), ("", "<6>"));
        assert_eq!(of(Level::TRACE), ("", "<7>"));
    }
}
