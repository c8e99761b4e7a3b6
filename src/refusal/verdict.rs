//! The refusals of one transaction, and the one reply that the client hears of them.

use super::{Place, Reason, Refusal};
use crate::excerpt;
use crate::rules::LevelFloor;
use crate::smtp::reply::{Code, EnhancedCode, MAX_REPLY_LINES, Reply};

/// The refusals of one transaction, in order.
#[derive(Debug, Default)]
pub struct Refusals(pub(super) Vec<Refusal>);

impl Refusals {
    /// Adds the next refusal.
    pub fn push(&mut self, refusal: Refusal) {
        self.0.push(refusal);
    }

    /// Adds all that happened at one exchange.
    pub fn extend(&mut self, refusals: Self) {
        self.0.extend(refusals.0);
    }

    /// In the order they happened.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }

    /// The refusal that speaks for all: the one with the greatest weight, and of equals the first.
    pub fn main(&self) -> Option<&Refusal> {
        self.0.iter().rev().max_by_key(|refusal| refusal.reason.weight())
    }

    /// The only host's own answer, if it was asked for mail and that is all there is to tell.
    pub fn only_answer(&self) -> Option<Reply> {
        match self.0.as_slice() {
            [Refusal { at: Place::Peer(peer), reason: Reason::Refused { reply, .. }, policy: _ }] => {
                Some(reply.relayed(peer))
            }
            _ => None,
        }
    }

    /// The reply to the client: one line for each refusal, under the codes of the one with the greatest weight; that one's
    /// line ends with the remedy.
    pub fn verdict(&self) -> Reply {
        self.verdict_at(None)
    }

    /// The same for mail with this least level.
    pub fn verdict_at(&self, least: Option<LevelFloor>) -> Reply {
        if let Some(answer) = self.only_answer() {
            return answer;
        }
        match self.main() {
            Some(main) => {
                let view = main.reason.view();
                let remedy = view.remedy_at(least);
                // A long list would not fit a client's log; the log event has it whole.
                let told = self.0.iter().enumerate();
                let told = told.filter(|(index, refusal)| *index < MAX_REPLY_LINES || std::ptr::eq(*refusal, main));
                let lines = told.flat_map(|(_, refusal)| {
                    // No longer line fits into the reply, and an answer that is kept for later recipients holds no more.
                    let line = excerpt::cut(refusal, MAX_LINE);
                    match std::ptr::eq(refusal, main) {
                        true if line.len() + remedy.len() < MAX_WITH_REMEDY => {
                            vec![format!("{line}; {remedy}")]
                        }
                        true => vec![line, remedy.to_owned()],
                        false => vec![line],
                    }
                });
                Reply::multiline(view.code, Some(view.enhanced), lines)
            }
            // A route has at least one exchange, and each that was not reached left a refusal.
            None => Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 1), "no mail exchanger could be tried"),
        }
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

/// Characters of one of its lines (RFC 5321 §4.5.3.1.5).
const MAX_LINE: usize = 512;
/// Octets of a refusal and its remedy that one line has room for beside the codes (RFC 5321 §4.5.3.1.5).
const MAX_WITH_REMEDY: usize = 490;
