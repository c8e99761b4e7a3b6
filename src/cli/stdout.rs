//! Standard output of the commands, which all end in one way if it takes no more.

use std::io::{self, ErrorKind, StdoutLock, Write};

use anstream::AutoStream;

use super::EX_OSERR;

/// The exit status of a program that SIGPIPE has ended, as shells have it. A reader such as `head` has seen enough, so nothing is
/// said; but the status of a check must not be taken for its verdict.
const CLOSED_PIPE: u8 = 141;

/// Standard output. A write that fails ends the program.
pub(super) struct Stdout(StdoutLock<'static>);

impl Stdout {
    pub(super) fn lock() -> Self {
        Self(io::stdout().lock())
    }

    /// Writes a text whole.
    pub(super) fn print(text: &str) {
        let mut out = Self::lock();
        out.ended(|out| out.write_all(text.as_bytes()));
    }

    /// Writes a text whole, with its colours if the output is a terminal and NO_COLOR is not set.
    pub(super) fn coloured(text: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = AutoStream::new(Vec::new(), AutoStream::choice(&io::stdout()));
        text(&mut out)?;
        Self::lock().write_all(&out.into_inner())
    }

    fn ended<T>(&mut self, write: impl FnOnce(&mut StdoutLock<'static>) -> io::Result<T>) -> T {
        write(&mut self.0).unwrap_or_else(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                std::process::exit(CLOSED_PIPE.into());
            }
            eprintln!("danelaw: standard output: {error}");
            std::process::exit(EX_OSERR.into())
        })
    }
}

impl Write for Stdout {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(self.ended(|out| out.write(octets)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ended(|out| out.flush());
        Ok(())
    }
}

impl Drop for Stdout {
    /// The last line may wait in the buffer, and its loss would be no one's error.
    fn drop(&mut self) {
        self.ended(|out| out.flush());
    }
}
