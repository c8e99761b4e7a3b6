//! Clients with a queue and one disposition for all recipients of a message: their behaviour after one reply for
//! several recipients.

use danelaw::config::Address;

use super::MESSAGE;
use crate::lab::client::Client;

/// The behaviour of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It hangs up on a refused recipient.
    Nullmailer,
    /// It sends chunks every other time, since the message is the same as by DATA.
    Chunks,
    /// It has pipelined DATA and hangs up at the 354 if a recipient is refused.
    Msmtp,
    /// A transaction for each recipient.
    Dma,
}

/// One message, and its remaining recipients.
#[derive(Debug)]
pub(crate) struct Queue {
    kind: Kind,
    pending: Vec<String>,
    pub(crate) bounced: Vec<String>,
    attempts: usize,
    log: Vec<String>,
}

impl Queue {
    pub(crate) fn new(kind: Kind, to: &[String]) -> Self {
        Self { kind, pending: to.to_vec(), bounced: Vec::new(), attempts: 0, log: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Tries the remaining recipients once.
    pub(crate) async fn attempt(&mut self, address: &Address) {
        self.attempts += 1;
        let pending = std::mem::take(&mut self.pending);
        let order = pending.clone();
        let groups: Vec<Vec<String>> = match self.kind {
            Kind::Dma => pending.into_iter().map(|one| vec![one]).collect(),
            _ if pending.is_empty() => Vec::new(),
            _ => vec![pending],
        };
        for group in groups {
            for (recipient, reply) in self.transaction(address, &group).await {
                self.log.push(format!("{recipient}: {reply}"));
                match reply.as_bytes()[0] {
                    b'2' => {}
                    b'5' => self.bounced.push(recipient),
                    _ => self.pending.push(recipient),
                }
            }
        }
        // A queue file keeps its order.
        self.pending.sort_by_key(|recipient| order.iter().position(|other| other == recipient));
    }

    /// The last reply for each recipient.
    async fn transaction(&self, address: &Address, to: &[String]) -> Vec<(String, String)> {
        let mut client = Client::connect(address).await;
        client.command("EHLO client.test").await;
        assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
        let (mut over, mut accepted) = (Vec::new(), Vec::new());
        for recipient in to {
            let reply = client.command(&format!("RCPT TO:<{recipient}>")).await;
            match (reply.starts_with('2'), self.kind) {
                (true, _) => accepted.push(recipient.clone()),
                (false, Kind::Dma) => over.push((recipient.clone(), reply)),
                (false, Kind::Nullmailer | Kind::Chunks) => return told(to, &reply),
                (false, Kind::Msmtp) => {
                    if !accepted.is_empty() {
                        assert!(client.command("DATA").await.starts_with("354 "));
                    }
                    return told(to, &reply);
                }
            }
        }
        if !accepted.is_empty() {
            let reply = match self.kind {
                Kind::Chunks if self.attempts % 2 == 1 => in_chunks(&mut client).await,
                _ => in_lines(&mut client).await,
            };
            over.extend(told(&accepted, &reply));
        }
        if self.kind != Kind::Nullmailer {
            client.command("QUIT").await;
        }
        over
    }
}

async fn in_lines(client: &mut Client) -> String {
    let reply = client.command("DATA").await;
    if !reply.starts_with("354") {
        return reply;
    }
    let stuffed = String::from_utf8_lossy(MESSAGE).replace("\r\n.", "\r\n..");
    client.write(format!("{stuffed}.\r\n").as_bytes()).await;
    client.reply().await
}

/// The last chunk goes once the others are taken.
async fn in_chunks(client: &mut Client) -> String {
    let (first, last) = MESSAGE.split_at(MESSAGE.len() / 2);
    for (chunk, is_last) in [(first, ""), (last, " LAST")] {
        client.write(&[format!("BDAT {}{is_last}\r\n", chunk.len()).as_bytes(), chunk].concat()).await;
        let reply = client.reply().await;
        if !is_last.is_empty() || !reply.starts_with('2') {
            return reply;
        }
    }
    unreachable!("one of them is the last")
}

fn told(to: &[String], reply: &str) -> Vec<(String, String)> {
    to.iter().map(|recipient| (recipient.clone(), reply.to_owned())).collect()
}
