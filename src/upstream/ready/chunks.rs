//! A message in chunks, to a remote that takes them (RFC 3030 §2).
//!
//! There is no 354 to wait for, and a chunk is answered while the next one is on its way, if the remote pipelines. The
//! last one is not sent before all others have been taken: to a remote that had refused one of them, it might be a
//! message of its own.
//!
//! A 354 also proves that replies and commands are in step, and BDAT has no such proof: one stray 250 behind EHLO, and the
//! answer to RCPT is taken for that to the message. Two signs are seen: a reply that is there before the first octet of the
//! first chunk, and a yes whose enhanced code speaks of an address. The shift cannot be seen where the answer to RCPT comes
//! behind the first chunk and has no enhanced code, or one of another subject; or where chunks before the last one are answered
//! by a 250 of these kinds. The session ends then without another mail: the pool drops a session in which a reply is left over.

use bytes::BytesMut;

use super::super::open::{lost, unsolicited};
use super::body::{Body, Form, Stop};
use super::{Ready, Started};
use crate::refusal::{Reason, Stage};
use crate::smtp::chunk::{Chunk, Framing, Unstuffer};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::wire::BLOCK;

/// What is to come out of a [`Body`] as chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    unstuffer: Unstuffer,
    /// Content that no chunk was made of yet.
    content: BytesMut,
    /// Chunks that were not answered yet.
    unanswered: usize,
    /// Whether an octet of a chunk was written.
    begun: bool,
}

/// Destination address valid: the answer to RCPT (RFC 3463 §3.2).
const RECIPIENT_VALID: EnhancedCode = EnhancedCode::success(1, 5);

impl Ready {
    /// Whether a message that comes in this framing has to be asked for, by DATA.
    pub fn needs_asking(&self, framing: Framing) -> bool {
        match framing {
            Framing::Data => true,
            Framing::Bdat => !self.terms.extensions.chunking,
        }
    }

    /// Asks to send a message that has come in this framing. Chunks need no asking, where the remote takes them; else they
    /// go as DATA does, and so does what came by DATA, which had to be asked for anyway.
    ///
    /// # Errors
    /// As [`Ready::data`].
    pub async fn message(mut self, framing: Framing) -> Result<Started, Reason> {
        if self.answer_to_data.is_some() || self.needs_asking(framing) {
            return self.data().await;
        }
        self.unasked().await?;
        Ok(Started::Body(Box::new(Body::new(self, Form::Chunks(Chunks::default()))?)))
    }

    /// a reply that is there already would shift all that follow.
    async fn unasked(&mut self) -> Result<(), Reason> {
        let stage = Stage::Message;
        self.wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
        if self.wire.input.is_empty() { Ok(()) } else { Err(unsolicited(&mut self.wire.input, stage)) }
    }
}

impl Chunks {
    /// The next lines of the message.
    pub(super) fn load(&mut self, lines: &[u8]) {
        self.unstuffer.unstuff(lines, &mut self.content);
    }

    /// Whether there is enough for a chunk.
    pub(super) fn is_due(&self) -> bool {
        self.content.len() >= BLOCK
    }

    /// Makes a chunk of what is there, if that is worth a command.
    pub(super) fn write(&mut self, output: &mut BytesMut) {
        if self.is_due() {
            self.frame(Chunk { octets: self.content.len() as u64, last: false }, output);
            self.unanswered += 1;
        }
    }

    /// Makes the last chunk of what is left.
    pub(super) fn end(&mut self, output: &mut BytesMut) {
        self.frame(Chunk { octets: self.content.len() as u64, last: true }, output);
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
    fn awaits(&self) -> bool {
        match &self.form {
            Form::Lines => false,
            Form::Chunks(chunks) => chunks.unanswered > 0,
        }
    }

    /// Looks for a reply that is there before the first octet of the first chunk: it answers no chunk, and would shift all
    /// replies that follow (RFC 2920 §3.1, A-62).
    ///
    /// # Errors
    /// [`Stop::Failed`], where there is one.
    pub(super) async fn is_in_step(&mut self) -> Result<(), Stop> {
        match &self.form {
            Form::Chunks(chunks) if !chunks.begun => self.ready.unasked().await.map_err(Stop::Failed),
            Form::Chunks(_) | Form::Lines => Ok(()),
        }
    }

    /// The yes to a chunk belongs to another command: replies are shifted. The next try goes as DATA, whose 354 tells a
    /// remote with a stray reply from one with odd enhanced codes.
    pub(super) fn shifted(&self, stage: Stage, reply: Reply) -> Stop {
        self.ready.note_without_bdat();
        Stop::Failed(Reason::WrongAnswer { stage, reply })
    }

    /// Takes the answers to chunks that have come, and of a remote that does not pipeline those that have not.
    ///
    /// # Errors
    /// [`Stop`], where an answer is not the 250 that is due.
    pub(super) async fn heed(&mut self) -> Result<(), Stop> {
        if !self.ready.terms.extensions.pipelining {
            return self.all_answered().await;
        }
        while self.awaits() {
            // A connection that is broken is found so by whoever writes next.
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
    /// As [`Body::heed`].
    pub(super) async fn all_answered(&mut self) -> Result<(), Stop> {
        while self.awaits() {
            self.interrupted().await?;
        }
        Ok(())
    }

    /// The remote has spoken, or is to speak, before the end of the message.
    ///
    /// # Errors
    /// [`Stop`], unless that was a 250 to a chunk.
    pub(super) async fn interrupted(&mut self) -> Result<(), Stop> {
        let chunks = match &mut self.form {
            Form::Chunks(chunks) if chunks.unanswered > 0 => chunks,
            Form::Chunks(_) | Form::Lines => return Err(self.early().await),
        };
        let limit = self.ready.timeouts.block;
        match self.ready.wire.reply(limit).await {
            // Some servers, as Stalwart, answer chunks with 2.1.0; 2.1.5 is for recipients.
            Ok(reply) if reply.enhanced() == Some(RECIPIENT_VALID) => Err(self.shifted(Stage::Message, reply)),
            Ok(reply) if reply.code().is_success() => {
                chunks.unanswered -= 1;
                Ok(())
            }
            Ok(reply) if reply.code().is_refusal() => Err(self.refused(reply)),
            Ok(reply) => Err(Stop::Failed(Reason::WrongAnswer { stage: Stage::Message, reply })),
            Err(error) => Err(Stop::Failed(lost(Stage::Message, error))),
        }
    }
}
