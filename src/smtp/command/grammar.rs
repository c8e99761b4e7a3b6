//! How strictly commands are read: as RFC 5321 writes them, or also as devices of old do and as Postfix takes them.
//!
//! The lenient reading puts a line into the form of RFC 5321 and reads that, so both give a command the same meaning. It is about
//! commands alone: the end of a message is CRLF, dot, CRLF in either, and a bare LF in a message stays as it is (RFC 5321
//! §2.3.8), since two readers would else disagree about the end of a message.

use std::borrow::Cow;
use std::str;

use super::{Command, CommandError, is_bdat};
use crate::smtp::address::{self, AddressError};
use crate::smtp::line::Line;

/// Whether a listener takes more than RFC 5321 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// It does not.
    #[default]
    Strict,
    /// It takes the commands of old devices.
    Lenient,
}

/// The grammar of a client's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar<'a> {
    /// That of RFC 5321.
    Strict,
    /// Also an address without its brackets, a sender without a domain, and a line that ends with LF alone.
    Lenient {
        /// The domain of a sender that has none.
        origin: &'a str,
    },
}

impl Grammar<'_> {
    /// Reads a line that a [`super::super::line::LineDecoder`] found.
    ///
    /// # Errors
    /// The line is no command, for this reason; the client gets a reply, and the session goes on.
    pub fn read(self, line: &Line) -> Result<Command, CommandError> {
        match (self, line) {
            // The octets behind a BDAT are counted from the end of its line, which must be beyond doubt.
            (Self::Lenient { .. }, Line::BareLineFeed(text)) if !is_bdat(text) => self.parse(text),
            (Self::Strict | Self::Lenient { .. }, Line::Complete(text)) => self.parse(text),
            (Self::Strict | Self::Lenient { .. }, Line::TooLong(_) | Line::BareLineFeed(_)) => Command::read(line),
        }
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// The line is no command, for this reason.
    pub fn parse(self, line: &[u8]) -> Result<Command, CommandError> {
        let (Self::Lenient { origin }, Ok(text)) = (self, str::from_utf8(line)) else { return Command::parse(line) };
        let mut text = Cow::Borrowed(text);
        if is_without(&text, AddressError::NotBracketed) {
            text = bracketed(&text).map_or(text.clone(), Cow::Owned);
        }
        // A recipient without a domain has no place to go to: only the client knows its meaning.
        if Command::parse(text.as_bytes()) == Err(CommandError::ReversePath(AddressError::NoDomain)) {
            text = with_domain(&text, origin).map_or(text.clone(), Cow::Owned);
        }
        Command::parse(text.as_bytes())
    }
}

fn is_without(line: &str, what: AddressError) -> bool {
    match Command::parse(line.as_bytes()) {
        Err(CommandError::ReversePath(error) | CommandError::ForwardPath(error)) => error == what,
        Ok(_) | Err(_) => false,
    }
}

/// The line of MAIL or RCPT with brackets around the word behind its colon.
fn bracketed(line: &str) -> Option<String> {
    let (command, argument) = line.split_once(':')?;
    let argument = argument.trim_start_matches(' ');
    let (path, parameters) = argument.split_at(argument.find(' ').unwrap_or(argument.len()));
    // One bracket alone is a fault, and a parameter is no address.
    let is_parameter = path.contains('=') && !path.contains('@');
    (!path.is_empty() && !path.contains(['<', '>']) && !is_parameter).then(|| format!("{command}:<{path}>{parameters}"))
}

/// The line of MAIL with a domain behind the local part.
fn with_domain(line: &str, origin: &str) -> Option<String> {
    let (command, argument) = line.split_once(':')?;
    let (path, parameters) = address::split_path(argument.trim_start_matches(' ')).ok()?;
    Some(format!("{command}:{}@{origin}>{parameters}", path.strip_suffix('>')?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const LENIENT: Grammar<'_> = Grammar::Lenient { origin: "printer.example" };

    fn said(read: Result<Command, CommandError>) -> String {
        read.map_or_else(|error| error.reply().to_string(), |command| command.to_string())
    }

    #[test]
    fn commands_of_devices() {
        const NO_BRACKETS: &str = "501 5.1.7 bad sender address: the address is not in angle brackets";
        const NO_DOMAIN: &str = "501 5.1.7 bad sender address: the address has no domain";
        for (written, strict, lenient) in [
            // Brackets.
            ("MAIL FROM:a@b.example", NO_BRACKETS, "MAIL FROM:<a@b.example>"),
            ("mail from: a@b.example ", NO_BRACKETS, "MAIL FROM:<a@b.example>"),
            ("MAIL FROM:  a@b.example  SIZE=7  ", NO_BRACKETS, "MAIL FROM:<a@b.example> SIZE=7"),
            ("MAIL FROM:a@b.example FOO=1", NO_BRACKETS, "555 5.5.4 parameter not recognised"),
            (
                "RCPT TO:a@b.example",
                "501 5.1.3 bad recipient address: the address is not in angle brackets",
                "RCPT TO:<a@b.example>",
            ),
            // A space behind the colon is taken in either.
            ("MAIL FROM: <a@b.example>", "MAIL FROM:<a@b.example>", "MAIL FROM:<a@b.example>"),
            // Half of the brackets is a fault.
            ("MAIL FROM:<a@b.example", NO_BRACKETS, NO_BRACKETS),
            ("MAIL FROM:a@b.example>", NO_BRACKETS, NO_BRACKETS),
            ("MAIL FROM:Bob <a@b.example>", NO_BRACKETS, "501 5.5.4 malformed parameter"),
            ("MAIL FROM:", NO_BRACKETS, NO_BRACKETS),
            ("MAIL FROM: SIZE=7", NO_BRACKETS, NO_BRACKETS),
            // A sender without a domain.
            ("MAIL FROM:<root>", NO_DOMAIN, "MAIL FROM:<root@printer.example>"),
            ("MAIL FROM:root SIZE=7", NO_BRACKETS, "MAIL FROM:<root@printer.example> SIZE=7"),
            ("MAIL FROM:<\"a b\">", NO_DOMAIN, "MAIL FROM:<\"a b\"@printer.example>"),
            ("MAIL FROM:<>", "MAIL FROM:<>", "MAIL FROM:<>"),
            // A recipient without one has no place to go to.
            (
                "RCPT TO:<root>",
                "501 5.1.3 bad recipient address: the address has no domain",
                "501 5.1.3 bad recipient address: the address has no domain",
            ),
            (
                "RCPT TO:root",
                "501 5.1.3 bad recipient address: the address is not in angle brackets",
                "501 5.1.3 bad recipient address: the address has no domain",
            ),
            (
                "RCPT TO:postmaster",
                "501 5.1.3 bad recipient address: the address is not in angle brackets",
                "RCPT TO:<Postmaster>",
            ),
            // Other commands are as they were.
            ("MAIL <a@b.example>", "501 5.5.4 syntax: MAIL FROM:<address>", "501 5.5.4 syntax: MAIL FROM:<address>"),
            ("QUIT\r", "500 5.5.2 control character in command", "500 5.5.2 control character in command"),
            ("EHLO a", "EHLO a", "EHLO a"),
        ] {
            assert_eq!(said(Grammar::Strict.parse(written.as_bytes())), strict, "{written}");
            assert_eq!(said(LENIENT.parse(written.as_bytes())), lenient, "{written}");
        }
    }

    #[test]
    fn lines_with_a_bare_line_feed() {
        let bare = |text: &'static str| Line::BareLineFeed(Bytes::from_static(text.as_bytes()));
        for (line, strict, lenient) in [
            (bare("NOOP"), "500 5.5.2 lines end with CR LF", "NOOP"),
            (bare("DATA"), "500 5.5.2 lines end with CR LF", "DATA"),
            (bare("MAIL FROM:root"), "500 5.5.2 lines end with CR LF", "MAIL FROM:<root@printer.example>"),
            (bare("NOOP\rQUIT"), "500 5.5.2 lines end with CR LF", "500 5.5.2 control character in command"),
            (bare("BDAT 5"), "501 5.5.4 syntax: BDAT octets [LAST]", "501 5.5.4 syntax: BDAT octets [LAST]"),
            (Line::TooLong("MAIL".into()), "500 5.5.2 line too long", "500 5.5.2 line too long"),
            (Line::Complete("NOOP".into()), "NOOP", "NOOP"),
        ] {
            assert_eq!((said(Grammar::Strict.read(&line)), said(LENIENT.read(&line))), (strict.into(), lenient.into()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// A command of RFC 5321 has its meaning in the lenient grammar too, and a remote never sees another form.
        #[test]
        fn lenient_adds_and_changes_nothing(
            verb in prop::sample::select(vec!["MAIL FROM:<", "RCPT TO:", "MAIL FROM:", "mail from: <", "RCPT TO:<"]),
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "B", "@", ".", "\"", "\\", " ", ">", "<", ":", "@b.example>", "@[127.0.0.1]", "@x.example:", " SIZE=7",
                    " SMTPUTF8", "ü", "\r", "\n", "\0", "%", "=",
                ]),
                0..10,
            ),
        ) {
            let line = verb.to_owned() + &words.concat();
            let (strict, lenient) = (Command::parse(line.as_bytes()), LENIENT.parse(line.as_bytes()));
            if strict.is_ok() {
                prop_assert_eq!(&strict, &lenient);
            }
            if let Ok(command) = lenient {
                prop_assert_eq!(Command::parse(command.to_string().as_bytes()), Ok(command));
            }
        }
    }
}
