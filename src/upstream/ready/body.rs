//! The message itself, on its way to a remote.
//!
//! A [`Body`] that is dropped resets the connection. Only [`Body::finish`] sends the end of the message.

use bytes::BytesMut;
use tokio::time::Instant;

use super::super::open::lost;
use super::chunks::Chunks;
use super::{OnDrop, OpenTransaction, Ready, Terms};
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::wire::Flushed;

/// A message on its way.
#[derive(Debug)]
pub struct Body {
    pub(super) ready: Ready,
    pub(super) form: Form,
    /// When the answer to all of it must be there, once the client has sent its end.
    until: Option<Instant>,
    /// How far it has come.
    stage: Stage,
}

/// How the message goes to this remote.
#[derive(Debug)]
pub(super) enum Form {
    /// As lines, dot-stuffed.
    Lines,
    /// As chunks.
    Chunks(Chunks),
}

/// Why a message cannot be sent to its end.
#[derive(Debug)]
pub enum Stop {
    /// The remote has refused it in the middle.
    Answered(Reply),
    /// The session broke.
    Failed(Reason),
}

impl Body {
    pub(super) fn new(mut ready: Ready, form: Form) -> Result<Self, Reason> {
        // For good, until QUIT is said: between two messages there is nothing that a reset could take away.
        ready.on_drop(OnDrop::Reset)?;
        Ok(Self { ready, form, until: None, stage: Stage::Message })
    }

    /// Who takes it.
    pub fn peer(&self) -> &Peer {
        &self.ready.peer
    }

    /// On which terms the session stands.
    pub fn terms(&self) -> &Terms {
        &self.ready.terms
    }

    /// Takes the next bytes of the message, to go with those behind them: dot-stuffed, cut anywhere.
    pub fn load(&mut self, lines: &[u8]) {
        match &mut self.form {
            Form::Lines => self.ready.wire.output.extend_from_slice(lines),
            Form::Chunks(chunks) => chunks.load(lines),
        }
    }

    /// The client has sent the end of the message, and waits from now on (RFC 5321 §4.5.3.2.6): all that is left to be done
    /// has one limit together.
    pub fn ends(&mut self) {
        self.until = Some(Instant::now() + self.ready.timeouts.r#final);
    }

    /// Sends what was loaded, and the next bytes of the message, dot-stuffed and cut anywhere; chunks, when there is enough
    /// for one.
    ///
    /// # Errors
    /// [`Stop`]: the message cannot be sent to its end.
    pub async fn send(&mut self, lines: &[u8]) -> Result<(), Stop> {
        if let Form::Chunks(chunks) = &mut self.form {
            chunks.load(lines);
            if chunks.is_due() {
                self.is_in_step().await?;
            }
        }
        let mut unsent = match &mut self.form {
            Form::Lines => lines,
            Form::Chunks(chunks) => {
                chunks.write(&mut self.ready.wire.output);
                &[]
            }
        };
        let limit = self.ready.timeouts.block;
        loop {
            match self.ready.wire.flush_watching(&mut unsent, limit).await {
                Ok(Flushed::Sent) => return self.heed().await,
                Ok(Flushed::Interrupted) => {}
                Err(error) => {
                    // RFC 5321 §3.8: a remote that closes in mid-message may have said why.
                    let _ = self.ready.wire.fill_ready().await;
                    if self.ready.wire.input.is_empty() {
                        return Err(Stop::Failed(lost(Stage::Message, error)));
                    }
                }
            }
            self.interrupted().await?;
        }
    }

    /// Sends what was loaded and the end of data, in one piece, and waits for the remote's answer, the one that decides who
    /// has the message.
    ///
    /// # Errors
    /// [`Stop`]: nobody knows whether the remote has the message, unless it answered before the end.
    pub async fn finish(mut self: Box<Self>) -> Result<(Reply, Ready), Stop> {
        let limit = self.ready.timeouts.r#final;
        let until = self.until.unwrap_or_else(|| Instant::now() + limit);
        let answered = tokio::time::timeout_at(until, self.end()).await;
        let stage = self.stage;
        let reply = answered.unwrap_or(Err(Stop::Failed(Reason::Timeout { stage, limit })))?;
        Ok((reply, self.ready))
    }

    /// The end of the message, and the answer to it.
    async fn end(&mut self) -> Result<Reply, Stop> {
        if let Form::Chunks(_) = self.form {
            // On the heap: who waits for the final answer, for ten minutes perhaps, has no room for these.
            Box::pin(self.send(&[])).await?;
            Box::pin(self.all_answered()).await?;
            Box::pin(self.is_in_step()).await?;
        }
        let spoke = self.ready.wire.fill_ready().await;
        if !self.ready.wire.input.is_empty() {
            // an answer that is there before the end of data is no answer to the message.
            return Err(self.early().await);
        }
        spoke.map_err(|error| Stop::Failed(Reason::Lost { stage: Stage::Message, error }))?;
        let failed = |error| Stop::Failed(lost(Stage::EndOfMessage, error));
        self.stage = Stage::EndOfMessage;
        match &mut self.form {
            Form::Lines => self.ready.wire.output.extend_from_slice(b".\r\n"),
            Form::Chunks(chunks) => chunks.end(&mut self.ready.wire.output),
        }
        let mut nothing_more: &[u8] = &[];
        match self.ready.wire.flush_watching(&mut nothing_more, self.ready.timeouts.block).await {
            // It may take ten minutes to answer, and needs no memory for that.
            Ok(Flushed::Sent) => self.ready.wire.output = BytesMut::new(),
            // Not all of it is on its way, so that the remote cannot have seen the end.
            Ok(Flushed::Interrupted) => return Err(self.early().await),
            Err(error) => {
                let _ = self.ready.wire.fill_ready().await;
                return Err(if self.ready.wire.input.is_empty() { failed(error) } else { self.early().await });
            }
        }
        let written = self.ready.tcp().written();
        let reply = self.ready.wire.reply(self.ready.timeouts.r#final).await.map_err(failed)?;
        if reply.code().is_success() {
            self.is_about_the_message(&reply)?;
            self.has_arrived(written, &reply)?;
        } else if reply.code().is_refusal()
            && let stop @ Stop::Failed(_) = self.refused(reply.clone())
        {
            return Err(stop);
        }
        self.ready.accepted = 0;
        // A remote that refuses the end of data may keep the transaction, as Postfix does under
        // smtpd_end_of_data_restrictions, and has to hear RSET.
        if reply.code().is_success() {
            self.ready.transaction = OpenTransaction::No;
        }
        if reply.code().is_success() || reply.code().is_refusal() {
            return Ok(reply);
        }
        Err(Stop::Failed(Reason::WrongAnswer { stage: Stage::EndOfMessage, reply }))
    }

    /// Whether the yes to the last chunk can be one to the message. A 2.1.x speaks of an address (RFC 3463 §3.2): it is the answer
    /// to RCPT, and that to the message, a no perhaps, is still to come.
    fn is_about_the_message(&self, reply: &Reply) -> Result<(), Stop> {
        match &self.form {
            Form::Chunks(_) if reply.enhanced().is_some_and(EnhancedCode::is_about_an_address) => {
                Err(self.shifted(Stage::EndOfMessage, reply.clone()))
            }
            Form::Chunks(_) | Form::Lines => Ok(()),
        }
    }

    /// Whether the remote can have read the end before it said yes. An answer brings the acknowledgement of all that had
    /// arrived when it was sent (RFC 9293 §3.10.7.4, §3.4), and the kernel has taken that in before it hands out the answer: none
    /// has to be waited for.
    fn has_arrived(&self, written: u64, reply: &Reply) -> Result<(), Stop> {
        match self.ready.tcp().unacknowledged(written) {
            0 => Ok(()),
            octets => Err(Stop::Failed(Reason::AnsweredUnread { reply: reply.clone(), octets })),
        }
    }

    /// The remote's answer before the end of data. No more octets go to it meanwhile: the rest of a message that it has
    /// refused might reach it whole, and it would have a message that the client sends again.
    pub(super) async fn early(&mut self) -> Stop {
        let limit = self.ready.timeouts.greeting;
        match self.ready.wire.last_reply(limit).await {
            Ok(reply) if reply.code().is_refusal() => self.refused(reply),
            Ok(_) => Stop::Failed(Reason::Unsolicited(Stage::EndOfMessage)),
            Err(error) => Stop::Failed(lost(Stage::Message, error)),
        }
    }

    /// The remote has said no: to the message, or only to the way it came.
    pub(super) fn refused(&self, reply: Reply) -> Stop {
        match &self.form {
            // RFC 3030 §4.2 knows these codes for a server without CHUNKING. The chunk may have been read as commands, and
            // the message is not here any more: the client, which has it, is asked to send it again.
            Form::Chunks(_) if reply.code().is_about_the_command() => {
                self.ready.note_without_bdat();
                Stop::Failed(Reason::BdatRefused(reply))
            }
            Form::Chunks(_) | Form::Lines => Stop::Answered(reply),
        }
    }
}
