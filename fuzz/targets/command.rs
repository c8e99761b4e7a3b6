//! Invariant: a command that the parser accepts is written as one line of text that parses to the same command, so a
//! remote never sees more than danelaw has understood. A command that it does not accept gets a permanent error. The lenient
//! grammar gives each command of the strict one its meaning, and the same holds for the commands that it adds.

use danelaw::smtp::command::{Command, Grammar};
use danelaw::smtp::reply::Class;

pub(crate) fn invariant(line: &[u8]) {
    match Command::parse(line) {
        Ok(command) => {
            let sent = command.to_string();
            assert!(!sent.chars().any(char::is_control), "{sent:?} has a control character");
            assert_eq!(Command::parse(sent.as_bytes()), Ok(command), "{sent:?} means another command");
        }
        Err(error) => assert_eq!(error.reply().class(), Class::Permanent),
    }
    let lenient = Grammar::Lenient { origin: "client.example" }.parse(line);
    if let Ok(strict) = Command::parse(line) {
        assert_eq!(lenient, Ok(strict), "the lenient grammar has another meaning");
    } else if let Ok(command) = lenient {
        let sent = command.to_string();
        assert!(!sent.chars().any(char::is_control), "{sent:?} has a control character");
        assert_eq!(Command::parse(sent.as_bytes()), Ok(command), "{sent:?} means another command");
    }
}
