//! The fields of an event on a line of the text log, and the characters of any line, none of which steers a terminal (A-110).

use std::borrow::Cow;
use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::config::LogFormat;
use crate::excerpt::is_printable;

/// Writes the fields of an event as [`DefaultFields`](tracing_subscriber::fmt::format::DefaultFields) does, which takes three times as
/// long, for colours that are not there.
pub(super) struct OnOneLine;

impl<'w> FormatFields<'w> for OnOneLine {
    fn format_fields<R: RecordFields>(&self, line: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { line, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    line: Writer<'w>,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    /// Writes a field behind those before it. The message comes first, and has no name.
    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) -> fmt::Result {
        self.line.write_char(' ')?;
        self.line.write_str(field.name())?;
        self.line.write_char('=')?;
        write(&mut self.line)
    }
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.record_debug(field, &format_args!("{value}"));
        }
        if !is_printable(value) || value.contains(['"', '\\']) {
            return self.record_debug(field, &value);
        }
        self.result = self.result.and_then(|()| {
            self.field(field, |line| {
                line.write_char('"')?;
                line.write_str(value)?;
                line.write_char('"')
            })
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.result = self.result.and_then(|()| match field.name() {
            "message" => write!(self.line, "{value:?}"),
            // Of an event of the `log` crate, which has them elsewhere too.
            name if name.starts_with("log.") => Ok(()),
            _ => self.field(field, |line| write!(line, "{value:?}")),
        });
    }
}

/// The line of an event, with an escape sequence in the place of each character that steers a terminal. A line of text has those of Rust,
/// and an object of JSON those of RFC 8259 §7: the library for JSON leaves DEL, the controls of C1 and the marks of direction as they are.
pub(super) fn harmless(event: &[u8], format: LogFormat) -> Cow<'_, [u8]> {
    let line = event.strip_suffix(b"\n").unwrap_or(event);
    // Most lines have no other characters, and this is seen much sooner.
    if is_printable(line) {
        return event.into();
    }
    // Both libraries write UTF-8.
    let line = String::from_utf8_lossy(line);
    if !line.contains(steers) {
        return event.into();
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        match format {
            _ if !steers(character) => escaped.push(character),
            LogFormat::Text => escaped.extend(character.escape_default()),
            // None of them is beyond the first plane.
            LogFormat::Json => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
        }
    }
    escaped.push('\n');
    escaped.into_bytes().into()
}

/// Whether a character steers a terminal: a control character, a separator of lines or paragraphs, or a mark of direction (Unicode,
/// UAX #9).
fn steers(character: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    character.is_control()
        || turns.contains(&character)
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The lines of events of all kinds.
    fn logged(subscriber: impl tracing::Subscriber + Send + Sync, written: &Written) -> String {
        tracing::subscriber::with_default(subscriber, || {
            let error = io::Error::other("no");
            tracing::info!(
                id = %"A1B2",
                text = "550 no\" verdict=delivered\n\u{1b}[2J",
                kind = ?Some(1),
                code = 250,
                took = -0.5,
                is_last = true,
                absent = Option::<&str>::None,
                present = Some("x"),
                r#type = "MX",
                %error,
                "delivery"
            );
            tracing::warn!("{}", "a message alone");
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_that_of_the_library() {
        let (ours, theirs) = (Written::default(), Written::default());
        let layer = |written: &Written| {
            let written = written.clone();
            layer().without_time().with_writer(move || written.clone())
        };
        let line =
            logged(tracing_subscriber::registry().with(layer(&ours).with_ansi(false).fmt_fields(OnOneLine)), &ours);
        let expected = logged(tracing_subscriber::registry().with(layer(&theirs).with_ansi(false)), &theirs);
        assert_eq!(line, expected);
        assert!(line.contains("delivery id=A1B2 text=\"550 no\\\" verdict=delivered\\n"), "{line}");
    }

    #[test]
    fn an_event_is_one_line_that_steers_no_terminal() {
        // A-110: in the message, in a text, and in the words of an error.
        let hostile = "a\n\u{1b}[2J\u{7f}\u{9b}\u{fc}\u{202e}\u{2028}\u{2069}\r";
        let told = r"a\n\u{1b}[2J\u{7f}\u{9b}ü\u{202e}\u{2028}\u{2069}\r";
        let log = |subscriber: Box<dyn tracing::Subscriber + Send + Sync>, written: &Written| {
            let error = io::Error::other(hostile);
            tracing::subscriber::with_default(subscriber, || tracing::info!(%error, text = hostile, "{hostile}"));
            written.0.lock().unwrap().clone()
        };
        let (text, json) = (Written::default(), Written::default());
        let writer = |written: &Written| {
            let written = written.clone();
            move || written.clone()
        };
        let layer = || layer().without_time();
        let lines = layer().with_ansi(false).fmt_fields(OnOneLine).with_writer(writer(&text));
        let line = log(Box::new(tracing_subscriber::registry().with(lines)), &text);
        assert_eq!(
            String::from_utf8(harmless(&line, LogFormat::Text).into_owned()).unwrap(),
            format!(" INFO danelaw::cli::fields::tests: {told} error={told} text=\"{told}\"\n")
        );
        let objects = layer().json().flatten_event(true).with_writer(writer(&json));
        let line = log(Box::new(tracing_subscriber::registry().with(objects)), &json);
        let line = String::from_utf8(harmless(&line, LogFormat::Json).into_owned()).unwrap();
        let object = line.strip_suffix('\n').unwrap();
        assert!(!object.contains(steers), "{object:?}");
        // A reader of JSON has the text as it was.
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        for field in ["message", "error", "text"] {
            assert_eq!(object[field], hostile);
        }
    }
}
