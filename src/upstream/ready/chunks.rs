//! A message in chunks, to a remote that takes them (RFC 3030 §2).
//!
//! There is no 354 to wait for, and a chunk is answered while the next one is on its way, if the remote pipelines. The
//! last one is not sent before all others have been taken: to a remote that had refused one of them, it might be a
//! message of its own.

use bytes::BytesMut;

use super::super::open::{lost, unsolicited};
use super::body::{Body, Form, Stop};
use super::{Ready, Started};
use crate::refusal::{Reason, Stage};
use crate::smtp::chunk::{Chunk, Framing, Unstuffer};
use crate::wire::BLOCK;

/// What is to come out of a [`Body`] as chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    unstuffer: Unstuffer,
    /// Content that no chunk was made of yet.
    content: BytesMut,
    /// Chunks that were not answered yet.
    unanswered: usize,
}

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
        // a reply that is there already would shift all that follow.
        let stage = Stage::Message;
        self.wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
        if !self.wire.input.is_empty() {
            return Err(unsolicited(&mut self.wire.input, stage));
        }
        Ok(Started::Body(Box::new(Body::new(self, Form::Chunks(Chunks::default()))?)))
    }
}

impl Chunks {
    /// The next lines of the message.
    pub(super) fn load(&mut self, lines: &[u8]) {
        self.unstuffer.unstuff(lines, &mut self.content);
    }

    /// Makes a chunk of what is there, if that is worth a command.
    pub(super) fn write(&mut self, output: &mut BytesMut) {
        if self.content.len() >= BLOCK {
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
