//! A message in chunks, to a remote that takes them (RFC 3030 §2).
//!
//! There is no 354 to wait for. A remote that pipelines answers a chunk while the next one is on its way. The last chunk is
//! sent when all others have been accepted: a remote that had refused one of them might take it for a message of its own.
//!
//! A 354 also proves that replies and commands are in step, and BDAT has no such proof: after one stray 250 behind EHLO,
//! the answer to RCPT is taken for the answer to the message. Two signs of such a shift are seen: a reply that is there
//! before a chunk, while none is due, and a 250 whose enhanced code is about an address. The shift cannot be seen
//! where the answer to RCPT comes behind the first chunk and has no enhanced code, or one of another subject; or where
//! chunks before the last one are answered by such a 250. Then a reply is left over, and the session ends without another
//! mail.

use bytes::BytesMut;

use super::super::command::{broken, unsolicited};
use super::body::{Body, Form, TransferError};
use super::{Ready, Started};
use crate::refusal::{Reason, Stage};
use crate::smtp::chunk::{Chunk, Framing};
use crate::smtp::reply::EnhancedCode;
use crate::wire::BLOCK;

/// The chunks of a [`Body`].
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The content of the next chunk.
    content: BytesMut,
    /// The number of chunks without an answer yet.
    unanswered: usize,
    /// Whether an octet of a chunk was written.
    begun: bool,
}

/// Destination address valid: the answer to RCPT (RFC 3463 §3.2).
const RECIPIENT_VALID: EnhancedCode = EnhancedCode::success(1, 5);

impl Ready {
    /// Whether a message in this framing needs DATA.
    pub fn needs_asking(&self, framing: Framing) -> bool {
        match framing {
            Framing::Data => true,
            Framing::Bdat => !self.terms.extensions.chunking,
        }
    }

    /// Starts a message that comes in this framing. It goes in chunks if the client sends it by BDAT and the remote takes
    /// chunks, and by DATA if not.
    ///
    /// # Errors
    /// As [`Ready::data`].
    pub async fn message(mut self, framing: Framing) -> Result<Started, Reason> {
        if self.answer_to_data.is_some() || self.needs_asking(framing) {
            return self.data().await;
        }
        self.has_no_reply().await?;
        Ok(Started::Body(Box::new(Body::new(self, Form::Chunks(Chunks::default()))?)))
    }

    /// Checks that no reply is there already: it would shift all that follow.
    async fn has_no_reply(&mut self) -> Result<(), Reason> {
        let stage = Stage::Message;
        self.wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
        if self.wire.input.is_empty() { Ok(()) } else { Err(unsolicited(&mut self.wire.input, stage)) }
    }
}

impl Chunks {
    /// Takes the next lines of the message.
    pub(super) fn load(&mut self, lines: &[u8]) {
        self.content.extend_from_slice(lines);
    }

    /// Whether there is enough content for a chunk.
    pub(super) fn is_due(&self) -> bool {
        self.content.len() >= BLOCK
    }

    /// Makes a chunk of the content, if there is enough of it.
    pub(super) fn write(&mut self, output: &mut BytesMut) {
        if self.is_due() {
            self.frame(Chunk { octets: self.content.len() as u64, last: false }, output);
            self.unanswered += 1;
        }
    }

    /// Makes the last chunk, of the rest of the content.
    pub(super) fn end(&mut self, output: &mut BytesMut) {
        self.frame(Chunk { octets: self.content.len() as u64, last: true }, output);
    }

    /// Whether the session may have failed for this reason because of chunks. A remote that ends it before it has seen any has
    /// waited too long for the client, or has a reason of its own. A stray reply answers no chunk either, but the 354 to DATA shows
    /// that replies are in step.
    pub(super) fn may_cause(&self, reason: &Reason) -> bool {
        self.begun || !matches!(reason, Reason::Closing(_) | Reason::Lost { .. })
    }

    fn frame(&mut self, chunk: Chunk, output: &mut BytesMut) {
        output.extend_from_slice(format!("{chunk}\r\n").as_bytes());
        output.extend_from_slice(&self.content);
        self.content.clear();
        self.begun = true;
    }
}

impl Body {
    /// Whether a chunk is still to be answered.
    pub(super) fn awaits(&self) -> bool {
        match &self.form {
            Form::Lines(_) => false,
            Form::Chunks(chunks) => chunks.unanswered > 0,
        }
    }

    /// Checks, before a chunk is written, that no reply is there but those to the chunks before it: it would answer none, and
    /// shift all replies that follow (RFC 2920 §3.1, A-62). A 421 of a remote that waited too long for the client would be taken
    /// for the answer to this chunk.
    ///
    /// # Errors
    /// [`TransferError`], where there is one, or where an answer is not the 250 that is due.
    pub(super) async fn is_in_step(&mut self) -> Result<(), TransferError> {
        match &self.form {
            Form::Lines(_) => return Ok(()),
            Form::Chunks(chunks) if !chunks.begun => {
                return self.ready.has_no_reply().await.map_err(TransferError::Failed);
            }
            Form::Chunks(_) => self.read_answers().await?,
        }
        if self.awaits() { Ok(()) } else { self.has_no_answer_yet().await }
    }

    /// Reads the answers to chunks that have come; a remote that does not pipeline has to answer all of them now.
    ///
    /// # Errors
    /// [`TransferError`], where an answer is not the 250 that is due.
    pub(super) async fn read_answers(&mut self) -> Result<(), TransferError> {
        if !self.ready.terms.extensions.pipelining {
            return self.all_answered().await;
        }
        while self.awaits() {
            // The next write reports a broken connection.
            let _ = self.ready.wire.fill_ready().await;
            if self.ready.wire.input.is_empty() {
                return Ok(());
            }
            self.interrupted().await?;
        }
        Ok(())
    }

    /// Waits until every chunk was answered.
    ///
    /// # Errors
    /// As [`Body::read_answers`].
    pub(super) async fn all_answered(&mut self) -> Result<(), TransferError> {
        while self.awaits() {
            self.interrupted().await?;
        }
        Ok(())
    }

    /// Reads an answer of the remote before the end of the message.
    ///
    /// # Errors
    /// [`TransferError`], unless it is a 250 to a chunk.
    pub(super) async fn interrupted(&mut self) -> Result<(), TransferError> {
        let chunks = match &mut self.form {
            Form::Chunks(chunks) if chunks.unanswered > 0 => chunks,
            Form::Chunks(_) | Form::Lines(_) => return Err(self.early().await),
        };
        let limit = self.ready.timeouts.block;
        match self.ready.wire.reply(limit).await {
            // Some servers, as Stalwart, answer chunks with 2.1.0; 2.1.5 is for recipients.
            Ok(reply) if reply.code().is_success() && reply.enhanced() != Some(RECIPIENT_VALID) => {
                chunks.unanswered -= 1;
                Ok(())
            }
            Ok(reply) if reply.code().is_refusal() => Err(self.refused(reply)),
            Ok(reply) => Err(TransferError::Failed(Reason::WrongAnswer { stage: Stage::Message, reply })),
            Err(error) => Err(TransferError::Failed(broken(Stage::Message, error))),
        }
    }
}
