//! What is remembered of a transaction's recipients from before, and what has to be remembered of its message after.
//!
//! [`crate::ledger`] describes the protocol, [`crate::fanout`] the decisions; here they meet a session.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::leg::Upstream;
use crate::config::Recipients;
use crate::dns::Resolver;
use crate::fanout::{self, Admission, Company, Said};
use crate::ledger::{Claim, ContentHasher, LedgerError, Manners, Pair, Past, Turns};
use crate::report::Reporter;
use crate::smtp::address::ForwardPath;
use crate::smtp::dialogue::{Answers, Room, Step};
use crate::smtp::reply::{EnhancedCode, Reply};
use crate::wire::WireError;

/// The largest message, in octets, that is known again when the client sends it once more although it was delivered,
/// because it never heard the answer. To know a larger one would cost more than to carry it.
const KNOWN_AGAIN: u64 = 1 << 20;

/// The recipients of a transaction, by what is remembered of them.
#[derive(Debug, Default)]
pub(super) struct Memory {
    company: Company,
    /// Those that are not empty; a leg's group is the place in here, counted from 1.
    pasts: Vec<Past>,
}

impl Memory {
    fn room(&mut self, answers: Answers, (pair, past): (Pair, Past), turns: &Turns) -> Room {
        match answers {
            Answers::Once | Answers::FanOut => {
                if turns.goes_behind(pair) {
                    return Room::Taken(fanout::after_the_others());
                }
                if let Admission::Part(no) = self.company.admit(pair, &past) {
                    return Room::Taken(no);
                }
            }
            // Each is answered on its own, whoever else is there.
            Answers::PerRecipient | Answers::Prdr => {}
        }
        if past.is_empty() {
            return Room::default();
        }
        let known = self.pasts.iter().position(|other| *other == past);
        let place = known.unwrap_or_else(|| {
            self.pasts.push(past);
            self.pasts.len() - 1
        });
        Room::Group(place + 1)
    }

    /// What those of a leg's group have behind them.
    pub(super) fn past(&self, group: usize) -> Past {
        group.checked_sub(1).and_then(|place| self.pasts.get(place)).cloned().unwrap_or_default()
    }

    /// What depends on knowing this message again.
    pub(super) fn recall(&self, answers: Answers) -> Recall {
        match answers {
            Answers::FanOut => Recall::Needed,
            Answers::Once | Answers::PerRecipient | Answers::Prdr if self.pasts.is_empty() => Recall::Welcome,
            Answers::Once | Answers::PerRecipient | Answers::Prdr => Recall::Needed,
        }
    }

    /// How the client behaves, as far as its recipients have it remembered.
    pub(super) fn manners(&self) -> Manners {
        self.company.manners()
    }

    /// Whether somebody was told to come alone.
    pub(super) fn has_parted(&self) -> bool {
        self.company.has_parted()
    }

    /// What a client is told at RCPT when this is the answer to one of a group, and what is held back.
    pub(super) fn told(&self, answers: Answers, group: usize, answer: Reply) -> (Reply, Option<Reply>) {
        let recipients = match answers {
            Answers::FanOut => Recipients::FanOut,
            Answers::Once | Answers::PerRecipient | Answers::Prdr => Recipients::Split,
        };
        match fanout::said(recipients, &self.past(group), answer) {
            Said::Now(answer) => (answer, None),
            Said::Held(answer) => (fanout::yes(), Some(answer)),
        }
    }
}

/// What depends on knowing a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// Who gets it: some may have it already, or its outcomes may differ.
    Needed,
    /// A second copy, should the client not hear the answer.
    Welcome,
}

impl Recall {
    /// What takes the message in to know it by.
    pub(super) fn hasher(self) -> ContentHasher {
        match self {
            Self::Needed => ContentHasher::of_any_size(),
            Self::Welcome => ContentHasher::up_to(KNOWN_AGAIN),
        }
    }
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// What RCPT asks for, after a look at what is remembered.
    pub(super) async fn rcpt(&mut self, path: ForwardPath) -> Step<Upstream> {
        let room = match (self.dialogue.transaction(), &path) {
            (Some(transaction), ForwardPath::Mailbox(mailbox)) => {
                let pair = Pair::new(&transaction.mail.reverse_path, mailbox);
                let answers = transaction.answers;
                match self.shared.ledger.past(pair).await {
                    Ok(past) => self.memory.room(answers, (pair, past), self.shared.ledger.turns()),
                    Err(error) => {
                        tracing::error!(%error, reason = error.label(), "a recipient is deferred");
                        Room::Taken(error.reply())
                    }
                }
            }
            (None, _) | (_, ForwardPath::Postmaster) => Room::default(),
        };
        self.dialogue.rcpt(path, room)
    }

    /// The transaction has ended without an octet of a message.
    pub(super) async fn given_up(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let pairs = memory.company.given_up();
        if !pairs.is_empty()
            && let Err(error) = self.shared.ledger.all_or_nothing(&pairs).await
        {
            tracing::error!(%error, "a client gives whole messages up, and this cannot be remembered");
        }
    }

    /// The conversation is over. A client has heard its answer if it was there to take what was said behind it: the system
    /// resets a connection that is closed with something unread, or that something comes to after that.
    pub(super) async fn part(&mut self, ended: &Result<(), WireError>) {
        let Some(unheard) = self.unheard.take() else { return };
        let was_there = match ended {
            // 221, or the 421 that sends away who is silent. To remember the answer of somebody who has heard it would be to
            // take the next message that says the same for a retry, and nobody would get it.
            Ok(()) => true,
            Err(WireError::Lost(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                unheard.client == TheClient::Listens
                    && self.bye(EnhancedCode::transient(4, 2), "you have left").await.is_ok()
            }
            Err(_) => false,
        };
        if was_there { unheard.heard().await } else { unheard.keep().await }
    }

    /// The client goes on talking, or has taken the answer to another message, so that it has heard what it was told.
    pub(super) async fn heard(&mut self) {
        if let Some(unheard) = self.unheard.take() {
            unheard.heard().await;
        }
    }
}

/// Outcomes that the client has not shown to have heard. Dropped, they are remembered for its retry; other sessions are
/// kept off the message until that is done.
#[derive(Debug)]
pub(super) struct Unheard {
    claim: Option<Claim>,
    outcomes: Vec<(Pair, Reply)>,
    client: TheClient,
    told: Told,
    reporter: Arc<Reporter>,
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// What became of the message.
    Outcome,
    /// To send it again, though what became of it could not be written down.
    Again,
}

/// Whether the client was there when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TheClient {
    Listens,
    /// It had said that no more will come, so that it may not have listened any more.
    IsGone,
}

impl Unheard {
    pub(super) fn new(claim: Option<Claim>, reporter: &Arc<Reporter>) -> Self {
        let reporter = Arc::clone(reporter);
        Self { claim, outcomes: Vec::new(), client: TheClient::Listens, told: Told::Outcome, reporter }
    }

    pub(super) fn claim(&mut self) -> Option<&mut Claim> {
        self.claim.as_mut()
    }

    /// All outcomes for good that are known by now.
    pub(super) fn learn(&mut self, outcomes: impl Iterator<Item = (Pair, Reply)>) {
        self.outcomes = outcomes.collect();
    }

    /// The client had closed its half before it was answered.
    pub(super) fn client_is_gone(&mut self) {
        self.client = TheClient::IsGone;
    }

    /// The client sends the message again, and what it must not get twice is not all on the disk: what is stays there, and
    /// the rest is tried once more when the client goes on.
    pub(super) fn is_owed(&mut self) {
        self.told = Told::Again;
    }

    /// What is remembered is on the disk, and no more is to be.
    pub(super) fn forget(mut self) {
        self.claim = None;
        self.outcomes.clear();
    }

    /// Whether a client that has not heard of it would be worse off than one that has.
    pub(super) fn is_of_use(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// There is nothing to remember any more, unless the client was told to come again.
    pub(super) async fn heard(mut self) {
        // On the heap, or every session would have room for these while it waits.
        if self.told == Told::Again {
            return Box::pin(self.keep()).await;
        }
        self.outcomes.clear();
        if let Some(claim) = self.claim.take()
            && let Err(error) = Box::pin(claim.settle()).await
        {
            tracing::warn!(%error, "what is remembered of a message stays until it expires");
        }
    }

    /// Remembers all for the retry.
    pub(super) async fn keep(mut self) {
        if let Some(kept) = self.keeping() {
            // It goes on if this is cut.
            let _ = kept.await;
        }
    }

    fn keeping(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let (claim, outcomes) = (self.claim.take(), std::mem::take(&mut self.outcomes));
        if self.told == Told::Outcome {
            let accepted = outcomes.iter().filter(|(_, reply)| reply.code().is_success());
            self.reporter.metrics().orphaned(accepted.count());
        }
        let mut claim = claim.filter(|_| !outcomes.is_empty())?;
        let ledger = claim.ledger().clone();
        ledger.go_on(async move {
            let outcomes: Vec<(Pair, &Reply)> = outcomes.iter().map(|(pair, reply)| (*pair, reply)).collect();
            if let Err(error) = claim.keep(&outcomes).await {
                not_remembered(&error);
            }
        })
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // The task has a life of its own.
        drop(self.keeping());
    }
}

/// Says what may come of it.
pub(super) fn not_remembered(error: &LedgerError) {
    tracing::error!(
        %error,
        reason = error.label(),
        "what became of a message cannot be remembered; if it is sent again, who has it may get a second copy"
    );
}
