//! A message that does not get to its destination: why, and the answer to the client.

use crate::refusal::{Label, OwnRefusal, Peer, Reason, Refusals};
use crate::rules::LevelFloor;
use crate::smtp::reply::Reply;

/// The message does not get to a remote, or not past it: the reason, and the answer to the client.
#[derive(Debug, Clone)]
pub(crate) struct Declined {
    pub(crate) reason: Label,
    pub(crate) answer: Reply,
    pub(crate) whose: Whose,
}

/// The side that refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    Ours,
    TheRemotes,
}

impl Declined {
    fn by_us(reason: Label, answer: Reply) -> Self {
        Self { reason, answer, whose: Whose::Ours }
    }

    pub(crate) fn by_remote(reason: Label, answer: Reply) -> Self {
        Self { reason, answer, whose: Whose::TheRemotes }
    }

    /// A refusal that no remote has taken part in.
    pub(crate) fn own(refusal: OwnRefusal) -> Self {
        Self::by_us(refusal.view().label, refusal.reply())
    }

    /// The exchange with one remote has failed.
    pub(crate) fn broke(peer: &Peer, reason: &Reason) -> Self {
        let view = reason.view();
        match reason {
            Reason::Refused { reply, .. } => Self::by_remote(view.label, reply.relayed(peer)),
            reason => Self::by_us(view.label, Reply::new(view.code, view.enhanced, format!("{peer}: {reason}"))),
        }
    }

    /// No remote is left to ask for mail with this least level.
    pub(crate) fn by_all(refusals: &Refusals, least: Option<LevelFloor>) -> Self {
        let label = refusals.main().map_or(Label::NoExchange, |refusal| refusal.reason.view().label);
        match refusals.only_answer() {
            Some(answer) => Self::by_remote(label, answer),
            None => Self::by_us(label, refusals.verdict_at(least)),
        }
    }

    /// With the id of the attempt at the end of our own words, for `danelaw explain`. A remote's words stay as they are.
    pub(crate) fn with_id(self, id: &str) -> Self {
        match self.whose {
            Whose::Ours => Self { answer: self.answer.with_id(id), ..self },
            Whose::TheRemotes => self,
        }
    }
}
