//! BDAT: the message comes in chunks, with commands between them (RFC 3030 §2).
//!
//! A chunk that is not the last is answered by us, as soon as we have read it: it promises nothing, since only the answer
//! to the last one says what became of the message. No remote hears of a message before the client's first BDAT.

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::{MAX_COMMAND_OCTETS, Session, Upstream};
use super::{Course, Passage, hasher, start};
use crate::dns::Resolver;
use crate::session::Received;
use crate::session::conclusion::{Party, instead_of_message};
use crate::smtp::chunk::{Between, Chunk, Framing, between};
use crate::smtp::command::{Command, CommandError};
use crate::smtp::data::DataScanner;
use crate::smtp::line::LineDecoder;
use crate::smtp::reply::Reply;
use crate::transaction::dialogue::Step;
use crate::transaction::{Answers, Transaction};
use crate::wire::{BLOCK, WireError};

/// What the client is to be given behind a message in chunks.
pub(in crate::session) enum After {
    /// Nothing more.
    Nothing,
    /// What this command asks for, which has ended the message before its last chunk.
    Carry(Command),
    /// The end of the connection: nobody knows where the next command starts.
    Close,
}

/// How the chunks ended.
enum End {
    /// With the last one.
    Last,
    /// With one that nobody wants; this is its answer.
    Refused(Reply),
    /// Before the last one.
    Early(After),
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Carries one message over, chunk by chunk, or says why not.
    pub(in crate::session) async fn chunks(
        &mut self,
        transaction: Transaction<Upstream>,
        first: Chunk,
    ) -> Result<After, WireError> {
        let Transaction { client, mail, answers, legs, accepted, .. } = transaction;
        let groups = std::mem::take(&mut self.groups);
        let parties = Party::all(&mail, accepted);
        self.client.flush(self.shared.timeouts.client).await?;
        let mut courses = join_all(legs.into_iter().map(|leg| start(leg, Framing::Bdat))).await;
        if self.shared.received == Received::Add {
            self.trace(&client, &mut courses);
        }
        let mut passage = Passage::new(DataScanner::counted(self.shared.bare_newlines), hasher(answers, &parties));
        // RFC 2033 §4.3: LMTP has its answers counted, for each recipient at the last chunk.
        let instead = |courses: &[Course]| match answers {
            Answers::PerRecipient => None,
            Answers::Once | Answers::FanOut | Answers::Prdr => {
                instead_of_message((answers, &groups), &parties, courses)
            }
        };
        let carried = self.carry_chunks(first, instead, (&mut passage, &mut courses)).await;
        for course in &mut courses {
            course.octets(passage.scanner.octets());
        }
        match carried {
            Ok(End::Last) => self.conclude(answers, parties, courses, passage.ended()).await.map(|()| After::Nothing),
            Ok(End::Refused(answer)) => self.refuse_all(&answer, courses).await.map(|()| After::Nothing),
            // L2, L13: with the courses go their bodies, and the remotes see a reset.
            Ok(End::Early(after)) => Ok(after),
            Err(gone) => {
                courses.into_iter().for_each(|course| course.client_lost(&gone));
                Err(gone)
            }
        }
    }

    /// Reads octets that are for nobody, so that the next command is read as a command.
    pub(in crate::session) async fn discard(&mut self, octets: u64) -> Result<(), WireError> {
        let mut left = octets;
        while left > 0 {
            let piece = self.piece(left);
            left -= piece.len() as u64;
            if left > 0 {
                self.client.flush(self.shared.timeouts.client).await?;
                self.client.fill(self.shared.timeouts.client).await?;
            }
        }
        Ok(())
    }

    /// All chunks, each answered once it was read; `instead` knows if no message is wanted any more.
    async fn carry_chunks(
        &mut self,
        first: Chunk,
        instead: impl Fn(&[Course]) -> Option<Reply>,
        (passage, courses): (&mut Passage, &mut [Course]),
    ) -> Result<End, WireError> {
        let mut lines = LineDecoder::new(MAX_COMMAND_OCTETS);
        let (mut chunk, mut refused) = (first, instead(courses));
        loop {
            self.carry_chunk(chunk, passage, courses).await?;
            if !chunk.last && refused.is_none() {
                refused = instead(courses);
            }
            match (refused, chunk.last) {
                (Some(answer), _) => return Ok(End::Refused(answer)),
                (None, true) => return Ok(End::Last),
                (None, false) => self.say(&chunk.taken()),
            }
            refused = None;
            chunk = match self.next_chunk(&mut lines).await? {
                Ok(next) => next,
                Err(after) => return Ok(End::Early(after)),
            };
        }
    }

    /// From the first octet of a chunk to its last, whatever becomes of them.
    async fn carry_chunk(
        &mut self,
        chunk: Chunk,
        passage: &mut Passage,
        courses: &mut [Course],
    ) -> Result<(), WireError> {
        let mut left = chunk.octets;
        loop {
            let mut piece = self.piece(left);
            left -= piece.len() as u64;
            passage.scanner.scan(&mut piece, &mut passage.block);
            if left == 0 {
                break;
            }
            self.send(passage, courses).await;
            // RFC 2920 §3.2: of chunks before this one, which the client may have pipelined.
            self.client.flush(self.shared.timeouts.client).await?;
            self.client.fill(self.shared.timeouts.client).await?;
        }
        if chunk.last {
            let scan = passage.scanner.end(&mut passage.block);
            self.load(&scan, passage, courses);
        } else {
            self.send(passage, courses).await;
        }
        Ok(())
    }

    /// What is there of so many octets.
    fn piece(&mut self, most: u64) -> BytesMut {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let there = self.client.input.len().min(most);
        self.client.input.split_to(there)
    }

    /// The next chunk, with what the client says before it; or what ends the message without one.
    async fn next_chunk(&mut self, lines: &mut LineDecoder) -> Result<Result<Chunk, After>, WireError> {
        let limit = self.shared.timeouts.client;
        loop {
            if self.client.output.len() >= BLOCK {
                //
                self.client.flush(limit).await?;
            }
            let line = match lines.decode(&mut self.client.input) {
                Some(line) => line,
                None => {
                    self.client.flush(limit).await?;
                    self.client.line(lines, limit).await?
                }
            };
            match Command::read(&line).map(between) {
                Ok(Between::Chunk(chunk)) => return Ok(Ok(chunk)),
                Ok(Between::Over(command)) => return Ok(Err(After::Carry(command))),
                Ok(Between::OutOfOrder(reply)) => self.say(&reply),
                Ok(Between::Aside(command)) => {
                    if let Step::Reply(reply) = self.dialogue.step(command) {
                        self.say(&reply);
                    }
                }
                Err(error) => {
                    self.say(&error.reply());
                    if error == CommandError::Chunk {
                        return Ok(Err(After::Close));
                    }
                }
            }
        }
    }
}
