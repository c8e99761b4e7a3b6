//! A client that tries to send one message, and may disconnect at any octet of it.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::lab::SOON;

/// How a connection ends early.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Fin,
    Reset,
}

/// How the client sends its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Data,
    /// In three chunks, cut within lines, with this number of octets before the text that all messages have.
    Bdat(usize),
}

/// The last reply that the client heard.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Whether the client had sent all its octets by then.
    at_end: bool,
    reply: Option<String>,
}

impl Attempt {
    /// Whether it may forget the message.
    pub(crate) fn delivered(&self) -> bool {
        self.at_end && self.reply.as_ref().is_some_and(|reply| reply.starts_with('2'))
    }
}

fn content(by: By, id: &str) -> String {
    let more = match by {
        By::Data => String::new(),
        By::Bdat(octets) => format!("{}\r\n", ".".repeat(octets)),
    };
    format!("Subject: {id}\r\n\r\n{more}.dot\r\n{id}\r\n")
}

/// The octets of the client, one turn after the other: after each it waits for this number of replies.
fn turns(by: By, id: &str) -> Vec<(String, usize)> {
    let content = content(by, id);
    let mut turns = vec![
        (String::new(), 1),
        ("EHLO client.test\r\n".into(), 1),
        ("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\n".into(), 2),
    ];
    match by {
        By::Data => {
            turns.push(("DATA\r\n".into(), 1));
            turns.push((format!("{}.\r\n", content.replace("\r\n.", "\r\n..")), 1));
        }
        By::Bdat(_) => {
            // The first chunk ends behind a CR, the second behind the dot that starts a line.
            let second = content.find('\n').unwrap();
            let last = content.find(".dot").unwrap() + 1;
            for (chunk, end) in [(&content[..second], ""), (&content[second..last], ""), (&content[last..], " LAST")] {
                turns.push((format!("BDAT {}{end}\r\n{chunk}", chunk.len()), 1));
            }
        }
    }
    turns
}

/// The number of octets that the client sends in all.
pub(crate) fn octets(by: By, id: &str) -> usize {
    turns(by, id).iter().map(|(said, _)| said.len()).sum()
}

/// Sends the message `id`, up to an octet.
pub(crate) async fn attempt(address: SocketAddr, (by, id): (By, &str), cut: Option<(usize, How)>) -> Attempt {
    let mut heard = Attempt { at_end: false, reply: None };
    // If danelaw was killed first, the client gets no reply.
    let Ok(stream) = TcpStream::connect(address).await else { return heard };
    let mut stream = BufReader::new(stream);
    stream.get_ref().set_nodelay(true).unwrap();
    let (mut left, how) = cut.unwrap_or((usize::MAX, How::Fin));
    let turns = turns(by, id);
    let steps = turns.len();
    for (step, (said, replies)) in turns.into_iter().enumerate() {
        let said = said.as_bytes();
        let now = said.len().min(left);
        left -= now;
        if stream.get_mut().write_all(&said[..now]).await.is_err() {
            return heard;
        }
        if left == 0 && (now < said.len() || cut.is_some()) {
            match how {
                How::Reset => {
                    stream.get_ref().set_zero_linger().unwrap();
                    return heard;
                }
                // The client still reads.
                How::Fin => drop(stream.get_mut().shutdown().await),
            }
        }
        for _ in 0..replies {
            let Some(reply) = reply(&mut stream).await else { return heard };
            let go_on = reply.starts_with(['2', '3']);
            heard = Attempt { at_end: step + 1 == steps, reply: Some(reply) };
            if !go_on {
                return heard;
            }
        }
        if now < said.len() {
            return heard;
        }
    }
    heard
}

/// The last line of the next reply, if it comes.
async fn reply(stream: &mut BufReader<TcpStream>) -> Option<String> {
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(SOON, stream.read_line(&mut line)).await.expect("an answer or an end in time");
        if !matches!(read, Ok(1..)) || !line.ends_with("\r\n") {
            return None;
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Some(line);
        }
    }
}

/// Compares a message as the remote has it with the one that was sent.
pub(crate) fn assert_whole(message: &[u8], (by, id): (By, &str), what: &str) {
    let message = std::str::from_utf8(message).unwrap();
    let is_whole = message.starts_with("Received: ") && message.ends_with(&content(by, id));
    assert!(is_whole, "{what}: not whole: {message:?}");
    assert_eq!(message.matches("Subject: ").count(), 1, "{what}: {message:?}");
}
