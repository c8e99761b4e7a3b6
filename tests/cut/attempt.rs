//! A client that tries to send one message, and may go away at any octet of it.

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

/// What the client heard last.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Where it was when it heard that.
    step: usize,
    reply: Option<String>,
}

impl Attempt {
    /// Whether it may forget the message.
    pub(crate) fn delivered(&self) -> bool {
        self.step == 4 && self.reply.as_ref().is_some_and(|reply| reply.starts_with('2'))
    }
}

fn body(id: &str) -> String {
    format!("Subject: {id}\r\n\r\n..dot\r\n{id}\r\n")
}

/// What it says, one turn after the other: each waits for as many replies as the number says.
fn turns(id: &str) -> [(String, usize); 5] {
    [
        (String::new(), 1),
        ("EHLO client.test\r\n".into(), 1),
        ("MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\n".into(), 2),
        ("DATA\r\n".into(), 1),
        (format!("{}.\r\n", body(id)), 1),
    ]
}

/// The octets of all that it says.
pub(crate) fn octets(id: &str) -> usize {
    turns(id).iter().map(|(said, _)| said.len()).sum()
}

/// Sends the message `id`, up to an octet.
pub(crate) async fn attempt(address: SocketAddr, id: &str, cut: Option<(usize, How)>) -> Attempt {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    stream.get_ref().set_nodelay(true).unwrap();
    let (mut left, how) = cut.unwrap_or((usize::MAX, How::Fin));
    let mut heard = Attempt { step: 0, reply: None };
    for (step, (said, replies)) in turns(id).into_iter().enumerate() {
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
                // It listens on.
                How::Fin => drop(stream.get_mut().shutdown().await),
            }
        }
        for _ in 0..replies {
            let Some(reply) = reply(&mut stream).await else { return heard };
            let go_on = reply.starts_with(['2', '3']);
            heard = Attempt { step, reply: Some(reply) };
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

/// Holds a message as the remote has it against the one that was sent.
pub(crate) fn assert_whole(message: &[u8], id: &str, what: &str) {
    let message = std::str::from_utf8(message).unwrap();
    let sent = body(id).replace("\r\n..", "\r\n.");
    assert!(message.starts_with("Received: ") && message.ends_with(&sent), "{what}: not whole: {message:?}");
    assert_eq!(message.matches("Subject: ").count(), 1, "{what}: {message:?}");
}
