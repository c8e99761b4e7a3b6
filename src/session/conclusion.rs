//! The ends of data, and the answers to the client: one for all recipients, or one for each.
//!
//! [`crate::transaction::reply`] decides the one answer, and [`crate::ledger`] explains the record of a message.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Session;
use super::groups::Groups;
use super::leg::{Declined, Incoming};
use super::transfer::{Course, Ended, finish};
use super::turn::InOrder;
use crate::dns::Resolver;
use crate::ledger::{Message, MessageKey, Pair};
use crate::smtp::command::Mail;
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::transaction::reply::{self as fanout, Conclusion, Disposition, EndOfData, Part, Recorded};
use crate::transaction::{Accepted, Answers, worst};
use crate::wire::WireError;

/// A recipient whose RCPT was answered with yes.
pub(super) struct Party {
    pub(super) pair: Pair,
    pub(super) mailbox: String,
    pub(super) leg: usize,
    /// Its answer, if that was known before the message.
    pub(super) held: Option<Reply>,
    pub(super) outcome: Option<Reply>,
}

impl Party {
    /// All of a transaction, in the client's order.
    pub(super) fn all(mail: &Mail, accepted: Vec<Accepted>) -> Vec<Self> {
        let party = |Accepted { leg, mailbox, held }| Self {
            pair: Pair::new(&mail.reverse_path, &mailbox),
            mailbox: mailbox.to_string(),
            leg,
            held,
            outcome: None,
        };
        accepted.into_iter().map(party).collect()
    }

    fn disposition(&self) -> Option<Disposition> {
        self.outcome.as_ref().map(Disposition::of)
    }
}

/// The answer to DATA, if no message is wanted.
pub(super) fn instead_of_message(
    (how, groups): (Answers, &Groups),
    parties: &[Party],
    courses: &[Course],
) -> Option<Reply> {
    let known = |party: &Party| -> Option<Reply> {
        party.held.clone().or_else(|| courses.get(party.leg).and_then(Course::answer).cloned())
    };
    let known: Vec<Option<Reply>> = parties.iter().map(known).collect();
    match how {
        // A recipient that is refused now may have the message from an earlier attempt.
        Answers::FanOut if !groups.is_empty() => None,
        Answers::Once | Answers::FanOut => fanout::before_data(known.iter().map(Option::as_ref)),
        Answers::PerRecipient | Answers::Prdr => known.into_iter().collect::<Option<Vec<Reply>>>().and_then(worst),
    }
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// The ends of data, side by side, and what is said to them.
    pub(super) async fn conclude(
        &mut self,
        how: Answers,
        mut parties: Vec<Party>,
        mut courses: Vec<Course>,
        ended: Ended,
    ) -> Result<(), WireError> {
        let mut message = self.recall(ended, &mut parties, &mut courses).await;
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
            learn(&mut parties, &known, undecided == 0);
            match how {
                Answers::Once | Answers::FanOut if undecided == 0 => {
                    // On the heap, or every session would have room for it while it waits.
                    let answer = Box::pin(one_answer(&parties, message.take())).await;
                    self.say(&answer);
                }
                Answers::Once => {}
                Answers::FanOut => Box::pin(record(&parties, message.as_mut())).await,
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
            // RFC 1047: the client has not heard that these have the message, and sends it again.
            let delivered = parties.iter().filter(|party| party.disposition() == Some(Disposition::Delivered));
            self.shared.reporter.metrics().orphaned(delivered.count());
        }
        told
    }

    /// Locks a message that may have a record, and reads it. Destinations at which a recipient has an outcome by the
    /// record get no end of data. A refused message is refused for all recipients, and has no record.
    async fn recall(&self, ended: Ended, parties: &mut [Party], courses: &mut [Course]) -> Option<Message> {
        for party in parties.iter_mut() {
            party.outcome.clone_from(&party.held);
        }
        let content = match ended {
            Ended::Known(content) => content,
            Ended::Unknown => return None,
            Ended::Refused(answer) => {
                for party in parties.iter_mut() {
                    // A destination's own answer has the id of its attempt.
                    let own = courses.get(party.leg).and_then(Course::answer);
                    let own = own.filter(|own| party.held.is_none() && own.code().is_permanent());
                    party.outcome = Some(own.unwrap_or(&answer).clone());
                }
                return None;
            }
        };
        let pairs: Vec<Pair> = parties.iter().map(|party| party.pair).collect();
        let key = MessageKey::new(content, pairs.iter().copied());
        let Ok(message) = Box::pin(self.shared.ledger.message(key, &pairs)).await else {
            defer_all(parties, courses);
            return None;
        };
        for (leg, course) in courses.iter_mut().enumerate().filter(|(_, course)| course.is_going()) {
            let on_it = parties.iter().filter(|party| party.leg == leg && party.held.is_none());
            let recorded = on_it.map(|party| message.outcome(party.pair));
            match fanout::end_of_data(recorded) {
                EndOfData::Send => {}
                EndOfData::Withhold => course.withhold(),
                EndOfData::Defer => course.stop(Declined::by_us("answered-in-part", in_part())),
            }
        }
        for party in parties.iter_mut() {
            if let Some(recorded) = message.outcome(party.pair) {
                party.outcome = Some(recorded.clone());
            }
        }
        Some(message)
    }
}

/// The outcomes of the recipients on these legs.
fn learn(parties: &mut [Party], known: &[(usize, Course)], is_all: bool) {
    let none = || Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 2), "no remote takes the message");
    for party in parties.iter_mut().filter(|party| party.outcome.is_none()) {
        let course = known.iter().find(|(leg, _)| *leg == party.leg);
        party.outcome = course.and_then(|(_, course)| course.answer()).cloned();
        if party.outcome.is_none() && is_all {
            party.outcome = Some(none());
        }
    }
    // A recipient may be listed twice, and its remote may refuse the second one. It has one outcome: delivered if one of
    // the two is, deferred if one of the two is, and refused only if both are.
    for disposition in [Disposition::Deferred, Disposition::Delivered] {
        let with = parties.iter().filter(|party| party.disposition() == Some(disposition));
        let with: BTreeMap<Pair, Option<Reply>> = with.map(|party| (party.pair, party.outcome.clone())).collect();
        for party in parties.iter_mut().filter(|party| party.disposition().is_some_and(|it| it != disposition)) {
            if let Some(answer) = with.get(&party.pair) {
                party.outcome.clone_from(answer);
            }
        }
    }
}

/// The final outcomes of the recipients that have one; of a recipient that is listed twice, if both have one.
fn final_outcomes(parties: &[Party]) -> impl Iterator<Item = (Pair, Reply)> {
    let open: BTreeSet<Pair> = parties.iter().filter(|party| party.outcome.is_none()).map(|party| party.pair).collect();
    parties.iter().filter(move |party| !open.contains(&party.pair)).filter_map(|party| {
        let outcome = party.outcome.as_ref().filter(|reply| Disposition::of(reply).is_final())?;
        Some((party.pair, outcome.clone()))
    })
}

/// The one answer to all, with all on the disk that must be there before the client hears it.
async fn one_answer(parties: &[Party], message: Option<Message>) -> Reply {
    let outcome = |party: &Party| Some(Part { mailbox: party.mailbox.clone(), reply: party.outcome.clone()? });
    let parts: Vec<Part> = parties.iter().filter_map(outcome).collect();
    match (fanout::conclude(&parts), message) {
        (Conclusion::Final(answer), None) => answer,
        (Conclusion::Final(answer), Some(message)) => {
            if let Err(error) = message.take().await {
                tracing::error!(%error, "the record of a message cannot be deleted; it counts as deleted");
            }
            answer
        }
        (Conclusion::Again, message) => {
            let recorded = match message {
                None => Recorded::NoMessageId,
                Some(mut message) => write(parties, &mut message).await,
            };
            let answer = fanout::again(&parts, recorded);
            // Quoted, since it names mailboxes and holds texts of remotes.
            tracing::info!(answer = ?answer.to_string(), "the client is told to send the message again to all recipients");
            answer
        }
    }
}

/// The final outcomes that are known while others are open: danelaw may be killed before they are.
async fn record(parties: &[Party], message: Option<&mut Message>) {
    if let Some(message) = message
        && final_outcomes(parties).any(|(pair, _)| message.outcome(pair).is_none())
    {
        write(parties, message).await;
    }
}

/// Writes all final outcomes to the record.
async fn write(parties: &[Party], message: &mut Message) -> Recorded {
    match message.record(final_outcomes(parties)).await {
        Ok(()) => Recorded::Yes,
        Err(error) => {
            tracing::error!(
                %error,
                "the outcomes of a message cannot be recorded; if it is sent again, its recipients may get a second copy"
            );
            Recorded::Failed
        }
    }
}

/// Another session is at the end of the same message.
fn defer_all(parties: &mut [Party], courses: &mut [Course]) {
    let text = "another session is still sending the same message to the same recipients";
    let answer = Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(3, 5), text);
    courses.iter_mut().for_each(|course| course.stop(Declined::by_us("ledger-busy", answer.clone())));
    parties.iter_mut().for_each(|party| party.outcome = Some(answer.clone()));
}

/// Another session has written the record since RCPT, or there was no connection left for these recipients.
fn in_part() -> Reply {
    let text = "other recipients on the same connection have the message already; send it again";
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
