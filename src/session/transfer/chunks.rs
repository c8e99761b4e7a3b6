//! BDAT: the message comes in chunks, with commands between them (RFC 3030 §2).
//!
//! A chunk that is not the last is answered by us, as soon as we have read it. The reply is no promise, since only the answer
//! to the last one speaks of the message. No remote hears of a message before the client's first BDAT.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::events::reply;
use super::super::{MAX_COMMAND_OCTETS, Session};
use super::{FieldGate, Passage};
use crate::delivery::body::Deliveries;
use crate::dns::Resolver;
use crate::policy::ListenerMail;
use crate::smtp::chunk::{Chunk, Framing};
use crate::smtp::command::Command;
use crate::smtp::data::{DataScanner, Scan};
use crate::smtp::line::LineDecoder;
use crate::smtp::reply::Reply;
use crate::transaction::Transaction;
use crate::transaction::chunks::{Between, between};
use crate::transaction::dialogue::Step;
use crate::wire::{BLOCK, WireError};

/// The end of the conversation about a message in chunks.
pub(in crate::session) enum AfterChunks {
    /// The client has its reply.
    Nothing,
    /// This command has ended the message before its last chunk, and is to be carried out.
    Carry(Command),
    /// The end of the connection: where the next command starts is not known.
    Close,
}

/// How the chunks ended.
enum ChunksEnd {
    /// With the last one.
    Last,
    /// With one that no destination takes; this is its answer.
    Refused(Reply),
    /// Before the last one.
    Early(AfterChunks),
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Carries one message over, chunk by chunk, or replies with the reason why it is not wanted.
    pub(in crate::session) async fn chunks(
        &mut self,
        mut transaction: Transaction,
        first: Chunk,
    ) -> Result<AfterChunks, WireError> {
        self.client.flush(self.shared.client_timeout).await?;
        let (open, left) = self.upstreams.accepting(&transaction);
        reply(&mut transaction, left, &mut self.client.output);
        let (deliveries, gate) = match self.caller.listener.terms.takes {
            ListenerMail::Any => (Deliveries::start(open, Framing::Bdat).await, None),
            ListenerMail::TlsRequiredNo => (Deliveries::default(), Some(FieldGate::new(open, Framing::Bdat))),
        };
        reply(&mut transaction, deliveries.started(), &mut self.client.output);
        let mut passage = self.passage(transaction, deliveries, gate, DataScanner::counted(self.shared.bare_newlines));
        let carried = self.carry_chunks(first, &mut passage).await;
        self.note_fields(&mut passage);
        match carried {
            Ok(ChunksEnd::Last) => {
                let read = passage.ended(&mut self.client.output);
                self.conclude(read).await.map(|()| AfterChunks::Nothing)
            }
            Ok(ChunksEnd::Refused(answer)) => {
                self.refuse_all(&answer, passage.deliveries).await.map(|()| AfterChunks::Nothing)
            }
            // L2, L13: with the deliveries go their bodies, and the remotes see a reset.
            Ok(ChunksEnd::Early(after)) => {
                passage.take_held().into_iter().for_each(|open| open.upstream.release());
                Ok(after)
            }
            Err(gone) => {
                passage.client_lost(&gone);
                Err(gone)
            }
        }
    }

    /// Reads octets that have no recipient, so that the next command is read as a command.
    pub(in crate::session) async fn discard(&mut self, octets: u64) -> Result<(), WireError> {
        let mut left = octets;
        while left > 0 {
            let piece = self.piece(left);
            left -= piece.len() as u64;
            if left > 0 {
                self.client.flush(self.shared.client_timeout).await?;
                self.client.fill(self.shared.client_timeout).await?;
            }
        }
        Ok(())
    }

    /// All chunks, each answered once it was read.
    async fn carry_chunks(&mut self, first: Chunk, passage: &mut Passage) -> Result<ChunksEnd, WireError> {
        let mut lines = LineDecoder::new(MAX_COMMAND_OCTETS);
        let (mut chunk, mut refused) = (first, passage.transaction.reply_to_chunk());
        loop {
            self.carry_chunk(chunk, passage).await?;
            if !chunk.last && refused.is_none() {
                passage.hear(&mut self.client.output);
                refused = passage.transaction.reply_to_chunk();
            }
            match (refused, chunk.last) {
                (Some(answer), _) => return Ok(ChunksEnd::Refused(answer)),
                (None, true) => return Ok(ChunksEnd::Last),
                (None, false) => self.say(&chunk.taken()),
            }
            refused = None;
            chunk = match self.next_chunk(&mut lines).await? {
                Ok(next) => next,
                Err(after) => return Ok(ChunksEnd::Early(after)),
            };
        }
    }

    /// From the first octet of a chunk to its last.
    async fn carry_chunk(&mut self, chunk: Chunk, passage: &mut Passage) -> Result<(), WireError> {
        let mut left = chunk.octets;
        loop {
            let mut piece = self.piece(left);
            left -= piece.len() as u64;
            passage.scanner.scan(&mut piece, &mut passage.block);
            if left == 0 {
                break;
            }
            self.pass(passage).await?;
            // RFC 2920 §3.2: of chunks before this one, which the client may have pipelined.
            self.client.flush(self.shared.client_timeout).await?;
            self.client.fill(self.shared.client_timeout).await?;
        }
        if chunk.last {
            let scan = passage.scanner.end(&mut passage.block);
            self.admit(passage, &scan).await?;
            passage.load(&scan);
        } else {
            self.pass(passage).await?;
        }
        Ok(())
    }

    /// Hands on the lines that were scanned last, unless they are held back.
    async fn pass(&mut self, passage: &mut Passage) -> Result<(), WireError> {
        self.admit(passage, &Scan::More).await?;
        if !passage.is_held() {
            passage.send().await;
        }
        Ok(())
    }

    /// The octets that were read, at most so many.
    fn piece(&mut self, most: u64) -> BytesMut {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let there = self.client.input.len().min(most);
        self.client.input.split_to(there)
    }

    /// The next chunk, once other commands before it are answered; or the end of the message without one.
    async fn next_chunk(&mut self, lines: &mut LineDecoder) -> Result<Result<Chunk, AfterChunks>, WireError> {
        let limit = self.shared.client_timeout;
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
            match self.grammar().read(&line).map(between) {
                Ok(Between::Chunk(chunk)) => return Ok(Ok(chunk)),
                Ok(Between::Over(command)) => return Ok(Err(AfterChunks::Carry(command))),
                Ok(Between::OutOfOrder(reply)) => self.say(&reply),
                Ok(Between::Aside(command)) => {
                    if let Step::Reply(reply) = self.dialogue.step(command, Vec::new()) {
                        self.say(&reply);
                    }
                }
                Err(error) => {
                    self.say(&error.reply());
                    if self.is_over(&error) {
                        return Ok(Err(AfterChunks::Close));
                    }
                }
            }
        }
    }
}
