//! The commands that a client sends between the chunks of a message (RFC 3030 §2).

use crate::smtp::chunk::Chunk;
use crate::smtp::command::Command;
use crate::smtp::reply::{Code, EnhancedCode, Reply};

/// The meaning of a command between two chunks of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Between {
    /// The message goes on.
    Chunk(Chunk),
    /// It does not touch the message.
    Aside(Command),
    /// The message is off, and the command is carried out as if there had been none (RFC 3030 §2 on RSET).
    Over(Command),
    /// It may not come now: 503 for DATA after BDAT (RFC 3030 §2), and for commands that belong before the message.
    OutOfOrder(Reply),
}

/// The meaning of a command between two chunks of a message.
pub fn between(command: Command) -> Between {
    match command {
        Command::Bdat(chunk) => Between::Chunk(chunk),
        Command::Noop | Command::Vrfy | Command::Expn | Command::Help => Between::Aside(command),
        Command::Rset | Command::Quit | Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) => {
            Between::Over(command)
        }
        Command::Mail(_) | Command::Rcpt(_) | Command::Data | Command::StartTls => {
            let text = "the message has begun: say BDAT, or RSET to drop it";
            Between::OutOfOrder(Reply::new(Code::BAD_SEQUENCE, EnhancedCode::permanent(5, 1), text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_between_chunks() {
        // M12, L13.
        for (line, expected) in [
            ("BDAT 3", "chunk"),
            ("BDAT 0 LAST", "chunk"),
            ("NOOP", "aside"),
            ("HELP", "aside"),
            ("VRFY a", "aside"),
            ("EXPN a", "aside"),
            ("RSET", "over"),
            ("QUIT", "over"),
            ("EHLO c", "over"),
            ("HELO c", "over"),
            ("LHLO c", "over"),
            ("DATA", "503"),
            ("STARTTLS", "503"),
            ("MAIL FROM:<>", "503"),
            ("RCPT TO:<a@b.example>", "503"),
        ] {
            let command = Command::parse(line.as_bytes()).unwrap();
            let found = match between(command.clone()) {
                Between::Chunk(chunk) => {
                    assert_eq!(Command::Bdat(chunk), command);
                    "chunk".to_owned()
                }
                Between::Aside(same) | Between::Over(same) if same != command => panic!("{same} is not {command}"),
                Between::Aside(_) => "aside".to_owned(),
                Between::Over(_) => "over".to_owned(),
                Between::OutOfOrder(reply) => reply.code().to_string(),
            };
            assert_eq!(found, expected, "{line}");
        }
    }
}
