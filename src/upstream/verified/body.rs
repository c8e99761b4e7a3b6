//! The transfer of a message to a remote.
//!
//! A [`Body`] that is dropped resets the connection. Only [`Body::finish`] sends the end of the message.

use bytes::BytesMut;
use tokio::time::Instant;

use super::super::command::broken;
use super::chunks::Chunks;
use super::{OnDrop, OpenTransaction, Ready, Terms};
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::smtp::stuffing::{DotStuffer, Stuffed};
use crate::wire::{Flushed, by};

/// The last line after DATA (RFC 5321 §4.1.1.4).
const END_OF_DATA: &[u8] = b".\r\n";

/// A message in transfer.
#[derive(Debug)]
pub struct Body {
    pub(super) ready: Ready,
    pub(super) form: Form,
    /// The end of the time for the final answer, once the client has sent the end of the message.
    until: Option<Instant>,
    /// The stage of the transfer.
    stage: Stage,
}

/// The form in which the message goes to this remote.
#[derive(Debug)]
pub(super) enum Form {
    /// As lines, dot-stuffed here.
    Lines(DotStuffer),
    /// As chunks.
    Chunks(Chunks),
}

/// The reason for which a message cannot be sent to its end.
#[derive(Debug)]
pub enum TransferError {
    /// The remote has refused it in the middle.
    Answered(Reply),
    /// The session broke.
    Failed(Reason),
}

impl Body {
    pub(super) fn new(mut ready: Ready, form: Form) -> Result<Self, Reason> {
        // It stays so until QUIT: between two messages there are no octets that a reset could lose.
        ready.on_drop(OnDrop::Reset)?;
        Ok(Self { ready, form, until: None, stage: Stage::Message })
    }

    /// The remote that takes it.
    pub fn peer(&self) -> &Peer {
        &self.ready.peer
    }

    /// The terms of the session.
    pub fn terms(&self) -> &Terms {
        &self.ready.terms
    }

    /// Takes the next octets of the message, cut anywhere, to send them with those behind them.
    pub fn load(&mut self, lines: &[u8]) {
        match &mut self.form {
            Form::Lines(stuffer) => {
                let output = &mut self.ready.wire.output;
                // With room for dots and the end, or they would cost another copy of it all.
                output.reserve(lines.len() + lines.len() / 8 + END_OF_DATA.len());
                stuffer.stuff_to(lines, output);
            }
            Form::Chunks(chunks) => chunks.load(lines),
        }
    }

    /// Starts the time for the final answer: the client has sent the end of the message and waits from now on
    /// (RFC 5321 §4.5.3.2.6). All further steps have one limit together.
    pub fn ends(&mut self) {
        self.until = Some(Instant::now() + self.ready.timeouts.r#final);
    }

    /// Sends the loaded octets, and the next ones of the message, cut anywhere; in the form of chunks, when there are enough
    /// octets for one.
    ///
    /// # Errors
    /// [`TransferError`]: the message cannot be sent to its end.
    pub async fn send(&mut self, lines: &[u8]) -> Result<(), TransferError> {
        self.transfer(lines).await.inspect_err(|error| self.heed(error))
    }

    async fn transfer(&mut self, lines: &[u8]) -> Result<(), TransferError> {
        if let Form::Chunks(chunks) = &mut self.form {
            chunks.load(lines);
            if chunks.is_due() {
                self.is_in_step().await?;
            }
        }
        let lines = match &mut self.form {
            Form::Lines(stuffer) => stuffer.stuff(lines),
            Form::Chunks(chunks) => {
                chunks.write(&mut self.ready.wire.output);
                Stuffed::Same(&[])
            }
        };
        let mut unsent = &*lines;
        let limit = self.ready.timeouts.block;
        loop {
            match self.ready.wire.flush_watching(&mut unsent, limit).await {
                Ok(Flushed::Sent) => return self.read_answers().await,
                Ok(Flushed::Interrupted) => {}
                Err(error) => {
                    // RFC 5321 §3.8: a remote that closes in mid-message may have said why.
                    let _ = self.ready.wire.fill_ready().await;
                    if self.ready.wire.input.is_empty() {
                        return Err(TransferError::Failed(broken(Stage::Message, error)));
                    }
                }
            }
            self.interrupted().await?;
        }
    }

    /// Sends the loaded octets and the end of the message in one piece, and waits for the remote's answer, which decides
    /// whether the remote has the message.
    ///
    /// # Errors
    /// [`TransferError`]: it is unknown whether the remote has the message, unless the remote answered before the end.
    pub async fn finish(mut self: Box<Self>) -> Result<(Reply, Ready), TransferError> {
        let limit = self.ready.timeouts.r#final;
        let until = self.until.unwrap_or_else(|| Instant::now() + limit);
        let answered = by(until, self.end()).await;
        let stage = self.stage;
        let answered = answered.unwrap_or(Err(TransferError::Failed(Reason::Timeout { stage, limit })));
        let reply = answered.inspect_err(|error| self.heed(error))?;
        Ok((reply, self.ready))
    }

    /// Sends the end of the message and reads the answer to it.
    async fn end(&mut self) -> Result<Reply, TransferError> {
        if let Form::Chunks(_) = self.form {
            // On the heap: the wait for the final answer may last ten minutes, and has no room for these.
            Box::pin(self.transfer(&[])).await?;
            Box::pin(self.all_answered()).await?;
            Box::pin(self.is_in_step()).await?;
        }
        self.has_no_answer_yet().await?;
        self.stage = Stage::EndOfMessage;
        match &mut self.form {
            Form::Lines(_) => self.ready.wire.output.extend_from_slice(END_OF_DATA),
            Form::Chunks(chunks) => chunks.end(&mut self.ready.wire.output),
        }
        self.flush_end().await?;
        let written = self.ready.tcp().written();
        let reply = self.ready.wire.reply(self.ready.timeouts.r#final).await;
        self.concluded(written, reply.map_err(|error| TransferError::Failed(broken(Stage::EndOfMessage, error)))?)
    }

    /// Checks that no answer is there before the end of the message: it would be no answer to the message.
    pub(super) async fn has_no_answer_yet(&mut self) -> Result<(), TransferError> {
        let read = self.ready.wire.fill_ready().await;
        if !self.ready.wire.input.is_empty() {
            return Err(self.early().await);
        }
        read.map_err(|error| TransferError::Failed(Reason::Lost { stage: Stage::Message, error }))
    }

    /// Sends the output, with the end of the message behind it.
    async fn flush_end(&mut self) -> Result<(), TransferError> {
        let mut no_more: &[u8] = &[];
        match self.ready.wire.flush_watching(&mut no_more, self.ready.timeouts.block).await {
            Ok(Flushed::Sent) => {
                // The remote may take ten minutes to answer, and the wait needs no memory.
                self.ready.wire.output = BytesMut::new();
                Ok(())
            }
            // Some octets were not sent, so the remote cannot have seen the end.
            Ok(Flushed::Interrupted) => Err(self.early().await),
            Err(error) => {
                let _ = self.ready.wire.fill_ready().await;
                if self.ready.wire.input.is_empty() {
                    return Err(TransferError::Failed(broken(Stage::EndOfMessage, error)));
                }
                Err(self.early().await)
            }
        }
    }

    /// The answer to the message, if the reply to its end is one. `written` octets were sent with that end.
    fn concluded(&mut self, written: u64, reply: Reply) -> Result<Reply, TransferError> {
        if reply.code().is_success() {
            self.is_about_the_message(&reply)?;
            self.has_arrived(written, &reply)?;
        } else if reply.code().is_refusal()
            && let stop @ TransferError::Failed(_) = self.refused(reply.clone())
        {
            return Err(stop);
        }
        self.ready.accepted = 0;
        self.ready.note_limit(Stage::EndOfMessage, &reply);
        // A remote that refuses the end of the message may keep the transaction, as Postfix does under
        // smtpd_end_of_data_restrictions, and has to hear RSET.
        if reply.code().is_success() {
            self.ready.transaction = OpenTransaction::No;
        }
        if reply.code().is_success() || reply.code().is_refusal() {
            return Ok(reply);
        }
        Err(TransferError::Failed(Reason::WrongAnswer { stage: Stage::EndOfMessage, reply }))
    }

    /// Checks that the 250 to the last chunk can be about the message. A 2.1.x is about an address (RFC 3463 §3.2): it
    /// answers RCPT, and the answer to the message, a refusal perhaps, is still to come.
    fn is_about_the_message(&self, reply: &Reply) -> Result<(), TransferError> {
        match &self.form {
            Form::Chunks(_) if reply.enhanced().is_some_and(EnhancedCode::is_about_an_address) => {
                Err(TransferError::Failed(Reason::WrongAnswer { stage: Stage::EndOfMessage, reply: reply.clone() }))
            }
            Form::Chunks(_) | Form::Lines(_) => Ok(()),
        }
    }

    /// Checks that the remote can have read the end before it accepted the message. An answer brings the acknowledgement of
    /// all octets that had arrived when it was sent (RFC 9293 §3.10.7.4, §3.4), and the kernel has processed that before it
    /// hands out the answer, so no wait is needed.
    fn has_arrived(&self, written: u64, reply: &Reply) -> Result<(), TransferError> {
        match self.ready.tcp().unacknowledged(written) {
            0 => Ok(()),
            octets => Err(TransferError::Failed(Reason::AnsweredUnread { reply: reply.clone(), octets })),
        }
    }

    /// Reads the remote's answer before the end of the message. No more octets go to it meanwhile: the rest of a message
    /// that it has refused might reach it whole, and it would have a message that the client sends again.
    pub(super) async fn early(&mut self) -> TransferError {
        let limit = self.ready.timeouts.greeting;
        match self.ready.wire.last_reply(limit).await {
            Ok(reply) if reply.code().is_refusal() => self.refused(reply),
            Ok(_) => TransferError::Failed(Reason::Unsolicited(Stage::EndOfMessage)),
            Err(error) => TransferError::Failed(broken(Stage::Message, error)),
        }
    }

    /// The remote refuses: the message, or only its form.
    pub(super) fn refused(&self, reply: Reply) -> TransferError {
        match &self.form {
            // RFC 3030 §4.2: these codes are those of a server without CHUNKING. The chunk may have been read as
            // commands, and the message is not here any more: the client, which has it, is asked to send it again.
            Form::Chunks(_) if reply.code().is_about_the_command() => TransferError::Failed(Reason::BdatRefused(reply)),
            // A remote that has answered each chunk says it for its own sake, or has waited too long: a client may be slow.
            Form::Chunks(_) if reply.code() == Code::SERVICE_NOT_AVAILABLE && self.owes_an_answer() => {
                self.ready.note_without_bdat();
                TransferError::Answered(reply)
            }
            Form::Chunks(_) | Form::Lines(_) => TransferError::Answered(reply),
        }
    }

    /// Notes that the session broke in the midst of chunks: the client's next try goes as DATA.
    fn heed(&self, error: &TransferError) {
        match (&self.form, error) {
            (Form::Chunks(chunks), TransferError::Failed(reason)) if chunks.may_cause(reason) => {
                self.ready.note_without_bdat();
            }
            (Form::Chunks(_), TransferError::Failed(_) | TransferError::Answered(_)) | (Form::Lines(_), _) => {}
        }
    }

    /// Whether the remote has a chunk, or the end of the message, and has not answered it.
    fn owes_an_answer(&self) -> bool {
        self.awaits() || self.stage == Stage::EndOfMessage
    }
}
