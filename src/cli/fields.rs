//! The fields of an event on a line of the text log.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

use crate::excerpt::is_printable;

/// Writes the fields of an event as [`DefaultFields`](tracing_subscriber::fmt::format::DefaultFields) does, and no character that
/// steers a terminal (A-110). The library lets them through in fields, and takes three times as long, for colours that are not
/// there.
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
            "message" => write!(Harmless(&mut self.line), "{value:?}"),
            // Of an event of the `log` crate, which has them elsewhere too.
            name if name.starts_with("log.") => Ok(()),
            _ => self.field(field, |line| write!(Harmless(line), "{value:?}")),
        });
    }
}

/// Writes characters that steer a terminal as escape sequences.
struct Harmless<'a, 'b>(&'a mut Writer<'b>);

impl fmt::Write for Harmless<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(steers) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|character| match steers(character) {
            true => write!(self.0, "{}", character.escape_default()),
            false => self.0.write_char(character),
        })
    }
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
        let written = Written::default();
        let writer = written.clone();
        let layer = layer().without_time().with_ansi(false).with_writer(move || writer.clone());
        let layer = layer.fmt_fields(OnOneLine);
        let subscriber = tracing_subscriber::registry().with(layer);
        let hostile = "a\n\u{1b}[2J\u{7f}\u{9b}\u{fc}\u{202e}\u{2028}\u{2069}\r";
        let error = io::Error::other(hostile);
        tracing::subscriber::with_default(subscriber, || tracing::info!(%error, text = hostile, "{hostile}"));
        let line = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let told = r"a\n\u{1b}[2J\u{7f}\u{9b}ü\u{202e}\u{2028}\u{2069}\r";
        assert_eq!(line, format!(" INFO danelaw::cli::fields::tests: {told} error={told} text=\"{told}\"\n"));
    }
}
