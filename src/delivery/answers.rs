//! The answers of one remote to the recipients of a turn, and the moment at which the client hears them.
//!
//! An answer that the client has heard binds the transaction to its remote (L11). So the answers are held as long as the mail
//! may go elsewhere, within the time that the remote has.

use tokio::time::Instant;

use crate::refusal::Stage;
use crate::smtp::reply::{Class, Reply};
use crate::transaction::recipient::RecipientId;
use crate::upstream::failover::may_be_of_the_session;

/// A remote's reply to RCPT, or ours in its place.
pub(super) struct RcptReply {
    pub(super) recipient: RecipientId,
    pub(super) reply: Reply,
}

/// How long the answers are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Not at all: the mail cannot go elsewhere.
    No,
    /// Until a recipient is accepted, or the time is over: over a session that had mails before, a refusal of all may be about
    /// these.
    UntilAccepted,
    /// Until DATA is answered, or the time is over: a refusal of it may be about them, too.
    UntilData,
    /// Until a recipient is accepted: the remotes that are preferred have the last word.
    Detour,
}

/// The answers so far.
pub(super) struct Answers {
    hold: Hold,
    held: Vec<RcptReply>,
    is_heard: bool,
    last_refusal: Option<Reply>,
}

impl Answers {
    pub(super) fn new(hold: Hold) -> Self {
        Self { hold, held: Vec::new(), is_heard: false, last_refusal: None }
    }

    /// Takes note of a remote's answer in its own words.
    pub(super) fn note(&mut self, said: &Reply) {
        if said.code().is_refusal() {
            self.last_refusal = Some(said.clone());
        }
    }

    /// Takes an answer as the client is to hear it.
    pub(super) fn put(&mut self, answer: RcptReply) {
        self.held.push(answer);
    }

    /// Whether the client may hear them now, where so many recipients are accepted.
    pub(super) fn are_due(&self, accepted: usize, until: Instant) -> bool {
        let is_late = until <= Instant::now();
        match self.hold {
            Hold::No => true,
            Hold::UntilAccepted => accepted > 0 || is_late,
            Hold::UntilData => is_late,
            Hold::Detour => accepted > 0,
        }
    }

    /// Whether they wait for the answer to DATA.
    pub(super) fn wait_for_data(&self) -> bool {
        self.hold == Hold::UntilData
    }

    /// Those that the client has not heard. It hears these, and further ones at once.
    pub(super) fn tell(&mut self) -> Vec<RcptReply> {
        self.hold = Hold::No;
        self.is_heard |= !self.held.is_empty();
        std::mem::take(&mut self.held)
    }

    /// Whether the client has heard one of them.
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// The remote's last refusal, if no recipient is accepted and the client has heard no answer: the mail goes elsewhere if
    /// that was no final word.
    pub(super) fn undecided(&self) -> Option<Reply> {
        let is_final = |answer: &RcptReply| !may_be_of_the_session(Stage::Rcpt, &answer.reply);
        match self.hold {
            Hold::No => None,
            Hold::Detour => self.last_refusal.clone(),
            Hold::UntilAccepted | Hold::UntilData => {
                self.last_refusal.clone().filter(|_| !self.held.iter().any(is_final))
            }
        }
    }

    /// Those that the client has not heard, to hear them if no remote does better; none if one of them is for good.
    pub(super) fn keep_delays(self) -> Option<Vec<RcptReply>> {
        let are_delays = self.held.iter().all(|answer| answer.reply.class() == Class::Transient);
        are_delays.then_some(self.held)
    }
}
