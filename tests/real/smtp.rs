//! A minimal SMTP client: it submits mail to the client's Postfix, and drops connections to danelaw in mid-message.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects and reads the greeting; `None` when no server listens yet.
    pub(crate) fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        let mut session = Self { stream: BufReader::new(stream) };
        session.reply()?.starts_with("220").then_some(session)
    }

    /// Sends a command, asserts the code of the reply, and returns the reply's last line.
    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, code: u16) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        let reply = self.answer();
        assert!(reply.starts_with(&code.to_string()), "{command}: {reply}");
        reply
    }

    /// Sends bytes unchanged: the caller has stuffed the dots and ended the lines with CRLF.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server still listens");
    }

    /// The last line of a reply.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> String {
        self.reply().expect("the server still talks")
    }

    fn reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).ok()?;
            // 250-more, 250 last; a lost connection has neither.
            match line.as_bytes().get(3) {
                Some(b'-') => continue,
                Some(_) => return Some(line.trim_end().to_owned()),
                None => return None,
            }
        }
    }
}
