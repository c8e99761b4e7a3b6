//! The ends of data, and what the client is told of them: one answer for all recipients, or one for each.
//!
//! What must be on the disk before whose dot and before which answer is the table of [`crate::ledger`].

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::leg::{Declined, Incoming, Upstream};
use super::memory::{Memory, Recall, Unheard, not_remembered};
use super::transfer::{Course, finish};
use super::turn::InOrder;
use crate::dns::Resolver;
use crate::fanout::{self, Conclusion, Dot, Part};
use crate::ledger::{Attempt, Claim, Content, Fate, LedgerError, Pair, Past};
use crate::smtp::command::Mail;
use crate::smtp::dialogue::{Accepted, Answers, Leg, worst};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::wire::WireError;

/// A recipient whose RCPT was answered with yes.
pub(super) struct Party {
    pub(super) pair: Pair,
    pub(super) mailbox: String,
    pub(super) leg: usize,
    pub(super) past: Past,
    /// Its answer, if that was known before the message.
    pub(super) held: Option<Reply>,
    pub(super) outcome: Option<Reply>,
}

impl Party {
    /// All of a transaction, in the client's order.
    pub(super) fn all(mail: &Mail, accepted: Vec<Accepted>, legs: &[Leg<Upstream>], memory: &Memory) -> Vec<Self> {
        let party = |Accepted { leg, mailbox, held }| Self {
            pair: Pair::new(&mail.reverse_path, &mailbox),
            mailbox: mailbox.to_string(),
            past: legs.get(leg).map(|leg| memory.past(leg.group)).unwrap_or_default(),
            leg,
            held,
            outcome: None,
        };
        accepted.into_iter().map(party).collect()
    }

    fn fate(&self) -> Option<Fate> {
        self.outcome.as_ref().map(Fate::of)
    }
}

/// The answer to DATA, if no message is wanted.
pub(super) fn instead_of_message(how: Answers, parties: &[Party], courses: &[Course]) -> Option<Reply> {
    let known = |party: &Party| -> Option<Reply> {
        party.held.clone().or_else(|| courses.get(party.leg).and_then(Course::answer).cloned())
    };
    let known: Vec<_> = parties.iter().map(|party| (&party.past, known(party))).collect();
    match how {
        Answers::Once | Answers::FanOut => {
            fanout::before_data(known.iter().map(|(past, answer)| (*past, answer.as_ref())))
        }
        Answers::PerRecipient | Answers::Prdr => {
            let is_retry = known.iter().any(|(past, _)| !past.is_empty());
            let answers: Option<Vec<Reply>> = known.into_iter().map(|(_, answer)| answer).collect();
            answers.filter(|_| !is_retry).and_then(worst)
        }
    }
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// The ends of data, side by side, and what is said to them.
    pub(super) async fn conclude(
        &mut self,
        (how, memory): (Answers, &Memory),
        mut parties: Vec<Party>,
        mut courses: Vec<Course>,
        content: (Recall, Option<Content>),
    ) -> Result<(), WireError> {
        let claim = self.claim(content, &mut parties, &mut courses).await;
        let attempt = claim.as_ref().map_or(Attempt::First, Claim::attempt);
        let mut unheard = Unheard::new(claim, &self.shared.reporter);
        let mut answers = InOrder::new(parties.len());
        if how == Answers::Prdr {
            self.say(&Reply::plain(Code::ANSWERS_FOLLOW, "the message is there; each recipient's answer follows"));
        }
        let (going, over): (Vec<_>, Vec<_>) =
            courses.into_iter().enumerate().partition(|(_, course)| course.is_going());
        let (ended, mut undecided) = (Incoming::new(), going.len());
        let mut going = join_all(going.into_iter().map(|going| async { ended.put(finish(going).await) }));
        let mut told = Ok(());
        let mut known = over;
        loop {
            learn(&mut parties, &known, &mut unheard, undecided == 0);
            match how {
                Answers::Once | Answers::FanOut if undecided == 0 => {
                    let answer = self.one_answer(&parties, (memory, attempt), &mut unheard).await;
                    self.say(&answer);
                }
                Answers::Once | Answers::FanOut => record(&parties, &known, &mut unheard).await,
                Answers::PerRecipient | Answers::Prdr => {
                    let outcomes = parties.iter().enumerate();
                    outcomes.for_each(|(place, party)| {
                        party.outcome.iter().for_each(|answer| answers.put(place, answer.clone()))
                    });
                    answers.write(&mut self.client.output);
                    if (how, undecided) == (Answers::Prdr, 0) {
                        self.say(&last_word(&answers));
                    }
                }
            }
            if self.client.fill_ready().await.is_err() {
                unheard.client_is_gone();
            }
            // RFC 1047: between the remote's answer and ours lies the one window for a duplicate; nothing goes in between.
            if told.is_ok() {
                told = self.client.flush(self.shared.timeouts.client).await;
            }
            for (_, course) in known {
                course.tell(None);
            }
            if undecided == 0 {
                break;
            }
            known = tokio::select! {
                biased;
                _ = &mut going => ended.take(),
                known = ended.any() => known,
            };
            undecided -= known.len();
        }
        if told.is_err() {
            // A client that is gone does not make the other remotes' answers unknown.
            unheard.keep().await;
            return told;
        }
        self.heard().await;
        match unheard.is_of_use() {
            true => self.unheard = Some(unheard),
            false => unheard.heard().await,
        }
        Ok(())
    }

    /// Takes the message for these recipients, and the final dot from the legs that must not have it. What is remembered
    /// or was held back is an outcome; where what has to be remembered cannot be, everybody is deferred.
    async fn claim(
        &mut self,
        (recall, content): (Recall, Option<Content>),
        parties: &mut [Party],
        courses: &mut [Course],
    ) -> Option<Claim> {
        for party in parties.iter_mut() {
            party.outcome.clone_from(&party.held);
        }
        let content = content?;
        let ledger = &self.shared.ledger;
        let mut claim = match ledger.claim(content, parties.iter().map(|party| party.pair)).await {
            Ok(claim) => claim,
            // The same octets to the same recipient in two sessions at once: a program that always says the same.
            Err(LedgerError::Busy) if recall == Recall::Welcome => return None,
            Err(error) => {
                defer_all((error.label(), error.reply()), parties, courses);
                return None;
            }
        };
        for (leg, course) in courses.iter_mut().enumerate().filter(|(_, course)| course.is_going()) {
            let on_it = || parties.iter().filter(|party| party.leg == leg && party.held.is_none());
            let remembered = || on_it().map(|party| claim.remembered(party.pair));
            match fanout::dot(remembered().map(|reply| reply.map(Fate::of))) {
                Dot::Send => {}
                Dot::Withhold => {
                    if let Some(answer) = remembered().flatten().next().cloned() {
                        course.stop(Declined::by_remote("answered-before", answer));
                    }
                }
                Dot::Defer => course.stop(Declined::by_us("answered-in-part", in_part())),
            }
        }
        for party in parties.iter_mut() {
            if let Some(remembered) = claim.remembered(party.pair).filter(|reply| Fate::of(reply).is_final()) {
                party.outcome = Some(remembered.clone());
            }
        }
        let mut going = courses.iter().enumerate().filter(|(_, course)| course.is_going()).map(|(leg, _)| leg);
        let may_differ = match (going.next(), going.next()) {
            (None, _) => false,
            (Some(_), Some(_)) => true,
            (Some(leg), None) => parties.iter().any(|party| party.leg != leg || party.outcome.is_some()),
        };
        // Who is answered on his own has no outcome that is another's answer.
        if may_differ
            && recall == Recall::Needed
            && let Err(error) = claim.prepare().await
        {
            tracing::error!(%error, reason = error.label(), "a message is deferred");
            defer_all((error.label(), error.reply()), parties, courses);
            return None;
        }
        Some(claim)
    }

    /// The one answer to all, and what must be remembered before it.
    async fn one_answer(
        &self,
        parties: &[Party],
        (memory, attempt): (&Memory, Attempt),
        unheard: &mut Unheard,
    ) -> Reply {
        let replies: Vec<Reply> = parties.iter().filter_map(|party| party.outcome.clone()).collect();
        let named = parties.iter().zip(&replies);
        let parts: Vec<Part> =
            named.map(|(party, reply)| Part { mailbox: party.mailbox.clone(), reply: reply.clone() }).collect();
        match fanout::conclude(&parts, memory.manners(), attempt) {
            Conclusion::Final(answer) => {
                if memory.has_parted() && Fate::of(&answer) == Fate::Deferred {
                    self.shared.ledger.turns().had(parties.iter().map(|party| party.pair));
                }
                answer
            }
            Conclusion::Again { answer, remember } => {
                let outcome = |place: usize| Some((parties.get(place)?.pair, replies.get(place)?));
                let outcomes: Vec<(Pair, &Reply)> = remember.into_iter().filter_map(outcome).collect();
                if let Some(claim) = unheard.claim() {
                    match claim.keep(&outcomes).await {
                        Ok(()) => std::mem::replace(unheard, Unheard::new(None, &self.shared.reporter)).forget(),
                        Err(error) => {
                            not_remembered(&error);
                            unheard.is_owed();
                        }
                    }
                }
                tracing::info!(%answer, "recipients have different outcomes; the client is told to send once more");
                answer
            }
        }
    }
}

/// What those on these legs have got.
fn learn(parties: &mut [Party], known: &[(usize, Course)], unheard: &mut Unheard, is_all: bool) {
    let nobody = || Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 2), "no remote takes the message");
    for party in parties.iter_mut().filter(|party| party.outcome.is_none()) {
        let course = known.iter().find(|(leg, _)| *leg == party.leg);
        party.outcome = course.and_then(|(_, course)| course.answer()).cloned();
        if party.outcome.is_none() && is_all {
            party.outcome = Some(nobody());
        }
    }
    // A recipient may be named twice, and its remote may refuse it the second time. It has the message.
    let have = parties.iter().filter(|party| party.fate() == Some(Fate::Delivered));
    let have: BTreeMap<Pair, Option<Reply>> = have.map(|party| (party.pair, party.outcome.clone())).collect();
    for party in parties.iter_mut().filter(|party| party.fate().is_some_and(|fate| fate != Fate::Delivered)) {
        if let Some(answer) = have.get(&party.pair) {
            party.outcome.clone_from(answer);
        }
    }
    unheard.learn(
        parties
            .iter()
            .filter(|party| party.fate().is_some_and(Fate::is_final))
            .filter_map(|party| Some((party.pair, party.outcome.clone()?))),
    );
}

/// What is known for good of these legs, while that of others is open.
async fn record(parties: &[Party], known: &[(usize, Course)], unheard: &mut Unheard) {
    let ended = |party: &&Party| known.iter().any(|(leg, course)| *leg == party.leg && course.is_delivered());
    let outcomes: Vec<(Pair, &Reply)> =
        parties.iter().filter(ended).filter_map(|party| Some((party.pair, party.outcome.as_ref()?))).collect();
    if let (false, Some(claim)) = (outcomes.is_empty(), unheard.claim())
        && let Err(error) = claim.record(&outcomes).await
    {
        not_remembered(&error);
    }
}

fn defer_all((reason, answer): (&'static str, Reply), parties: &mut [Party], courses: &mut [Course]) {
    courses.iter_mut().for_each(|course| course.stop(Declined::by_us(reason, answer.clone())));
    parties.iter_mut().for_each(|party| party.outcome = Some(answer.clone()));
}

/// Another session has written since RCPT.
fn in_part() -> Reply {
    let text = "some recipients of this transaction have an answer to this message already; send it once more";
    Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(3, 5), text)
}

/// The overall answer of PRDR. Exim takes a no here for one to every recipient, those with a yes among them, and would
/// send the message to them again: so one yes makes it a yes.
fn last_word(answers: &InOrder) -> Reply {
    let delivered = answers.known().any(|answer| answer.code().is_success());
    let text = "each recipient has had its answer";
    let yes = Reply::new(Code::OK, EnhancedCode::success(0, 0), text);
    if delivered { yes } else { worst(answers.known().cloned()).unwrap_or(yes) }
}
