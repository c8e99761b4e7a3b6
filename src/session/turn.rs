//! One turn of the client: the recipients it has pipelined are asked for side by side, and answered in its order.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::leg::{Asks, Errand, Incoming, Message};
use crate::dns::Resolver;
use crate::smtp::address::Mailbox;
use crate::smtp::reply::Reply;
use crate::transaction::reply::{self as fanout, AtRcpt};
use crate::transaction::{Accepted, Answers, Asked, Transaction};
use crate::wire::WireError;

/// How long answers that are known may wait for those of the remotes, to be told in one piece.
const PROMPT: Duration = Duration::from_millis(100);

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Asks for the recipients that wait, if any do.
    pub(super) async fn settle(&mut self, message: Message) -> Result<(), WireError> {
        let Some(transaction) = self.dialogue.waiting() else { return Ok(()) };
        let patience = self.shared.timeouts.client;
        let Turn { legs, asks, mut answers } = Turn::sort(transaction.take_asked(), transaction.legs.len());
        let incoming = Incoming::new();
        let mut held: Vec<Option<Reply>> = vec![None; legs.len()];
        let how = transaction.answers;
        let mut hear = |(place, answer): (usize, Reply), answers: &mut InOrder| match at_rcpt(how, answer) {
            AtRcpt::Told(answer) => answers.put(place, answer),
            AtRcpt::Held(answer) => {
                held.get_mut(place).into_iter().for_each(|held| *held = Some(answer.clone()));
                answers.put(place, fanout::yes());
            }
        };
        let Transaction { client, mail, legs: ways, .. } = &mut *transaction;
        let errand = Errand {
            shared: &self.shared,
            client,
            origin: self.origin,
            mail,
            dialled: self.dialled,
            message,
            incoming: &incoming,
        };
        let asked = ways.iter_mut().zip(asks).filter(|(leg, asks)| errand.concerns(leg, asks));
        let mut asked = join_all(asked.map(|(leg, asks)| errand.ask(leg, asks)));
        let mut late = pin!(tokio::time::sleep(PROMPT));
        loop {
            tokio::select! {
                biased;
                // First, so that what is known together is told together, with what the session has to say next.
                _ = &mut asked => break,
                known = incoming.any() => {
                    known.into_iter().for_each(|known| hear(known, &mut answers));
                    answers.write(&mut self.client.output);
                    self.client.flush(patience).await?;
                }
                () = &mut late, if !self.client.output.is_empty() => self.client.flush(patience).await?,
            }
        }
        drop(asked);
        incoming.take().into_iter().for_each(|known| hear(known, &mut answers));
        answers.write(&mut self.client.output);
        for ((asked, held), answer) in legs.into_iter().zip(held).zip(&answers.answers) {
            if let (Some((leg, mailbox)), Some(answer)) = (asked, answer) {
                transaction.answered(Accepted { leg, mailbox, held }, answer);
            }
        }
        Ok(())
    }
}

/// The client's reply to RCPT.
fn at_rcpt(how: Answers, answer: Reply) -> AtRcpt {
    match how {
        Answers::FanOut => fanout::at_rcpt(answer),
        Answers::Once | Answers::PerRecipient | Answers::Prdr => AtRcpt::Told(answer),
    }
}

/// What was asked in one turn.
struct Turn {
    /// The leg and the name of each thing asked, if it is a recipient.
    legs: Vec<Option<(usize, Mailbox)>>,
    /// What each leg is asked.
    asks: Vec<Asks>,
    /// What is known already.
    answers: InOrder,
}

impl Turn {
    fn sort(asked: Vec<Asked>, legs: usize) -> Self {
        let mut asks: Vec<Asks> = std::iter::repeat_with(Asks::default).take(legs).collect();
        let mut turn = Self { legs: Vec::new(), asks: Vec::new(), answers: InOrder::new(asked.len()) };
        for (place, asked) in asked.into_iter().enumerate() {
            turn.legs.push(match asked {
                Asked::Recipient(leg, mailbox) => {
                    if let Some(asks) = asks.get_mut(leg) {
                        asks.recipients.push((place, mailbox.clone()));
                    }
                    Some((leg, mailbox))
                }
                Asked::Answered(answer) => {
                    turn.answers.put(place, answer);
                    None
                }
            });
        }
        Self { asks, ..turn }
    }
}

/// Answers told in the order of what they answer, each as soon as it and all before it are known (RFC 2920 §3.2).
pub(super) struct InOrder {
    answers: Vec<Option<Reply>>,
    written: usize,
}

impl InOrder {
    /// So many answers are owed.
    pub(super) fn new(owed: usize) -> Self {
        Self { answers: vec![None; owed], written: 0 }
    }

    /// One of them is known.
    pub(super) fn put(&mut self, place: usize, answer: Reply) {
        if let Some(owed) = self.answers.get_mut(place) {
            *owed = Some(answer);
        }
    }

    /// Writes those whose turn has come.
    pub(super) fn write(&mut self, output: &mut BytesMut) {
        while let Some(Some(answer)) = self.answers.get(self.written) {
            answer.write(output);
            self.written += 1;
        }
    }

    /// All that is known, in order.
    pub(super) fn known(&self) -> impl Iterator<Item = &Reply> {
        self.answers.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::Code;

    #[test]
    fn answers_keep_their_order() {
        // I18, J8: what is known early waits for what was asked before it, and for nothing else.
        let mut answers = InOrder::new(3);
        let mut told = |place: usize| {
            let mut output = BytesMut::new();
            answers.put(place, Reply::plain(Code::OK, place.to_string()));
            answers.write(&mut output);
            String::from_utf8(output.to_vec()).unwrap()
        };
        assert_eq!(told(1), "");
        assert_eq!(told(0), "250 0\r\n250 1\r\n");
        assert_eq!(told(2), "250 2\r\n");
    }
}
