//! Law: a command that was understood is written as one line of text that means the same again, so a remote never
//! sees more than was understood; one that was not understood is refused for good.

#![no_main]

use danelaw::smtp::command::Command;
use danelaw::smtp::reply::Class;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    match Command::parse(line) {
        Ok(command) => {
            let sent = command.to_string();
            assert!(!sent.chars().any(char::is_control), "{sent:?} has a control character");
            assert_eq!(Command::parse(sent.as_bytes()), Ok(command), "{sent:?} means something else");
        }
        Err(error) => assert_eq!(error.reply().class(), Class::Permanent),
    }
});
