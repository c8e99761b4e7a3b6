//! The message and its end, as a session of the model carries them out.

use std::collections::{BTreeSet, VecDeque};

use super::{Cut, Simulation, Talk, reply};
use crate::smtp::chunk::Framing;
use crate::smtp::reply::Reply;
use crate::store::key::{ContentHasher, Pair};
use crate::transaction::recipient::Recipient;
use crate::transaction::reply::{Disposition, Recorded};
use crate::transaction::{
    DestinationId, DestinationState, Effect, Event, FinalReply, ReadMessage, RecordedOutcomes, Replies, Transaction,
};

/// A message at the end of its data.
struct MessageEnd<'a> {
    transaction: &'a mut Transaction,
    key: BTreeSet<Pair>,
    /// Destinations that get the end of the data.
    finishing: Vec<DestinationId>,
    known: Vec<FinalReply>,
}

impl Simulation {
    /// The message, from DATA to the last reply. Returns the kind of replies, if there is one for each recipient.
    pub(super) fn message(
        &mut self,
        talk: &mut Talk,
        mut transaction: Transaction,
        framing: Framing,
    ) -> Result<Option<Replies>, Cut> {
        let all: Vec<DestinationId> = transaction.destinations.all().iter().map(|destination| destination.id).collect();
        self.start(&mut transaction, &all);
        let instead = match framing {
            Framing::Bdat => transaction.reply_to_chunk(),
            Framing::Data => transaction.reply_to_data(),
        };
        if let Some(reply) = instead {
            // 1.
            assert!(reply.code().is_refusal(), "{reply}\n{}", self.log());
            talk.heard.push(reply);
            return Ok(None);
        }
        self.cut(4)?;
        let refused = self.chance(4).then(|| reply(554, "a bare newline".into()));
        if refused.is_some() {
            let expected: Vec<String> = transaction.expected().map(|one| one.mailbox.to_string()).collect();
            expected.iter().for_each(|mailbox| self.truth(mailbox).refused = true);
        }
        for id in all {
            if transaction.destination(id).state == DestinationState::Sending && (refused.is_some() || self.chance(4)) {
                assert_eq!(transaction.step(Event::Failed(id, reply(451, format!("{id:?} is lost")))), []);
            }
        }
        if !self.has_message_id && transaction.replies == Replies::FanOut {
            talk.excuse = Some("no Message-ID");
        }
        let message = self.read(refused);
        self.conclude(talk, &mut transaction, message)?;
        Ok(match transaction.replies {
            Replies::Once | Replies::FanOut => None,
            each @ (Replies::PerRecipient | Replies::Prdr) => Some(each),
        })
    }

    fn read(&self, refused: Option<Reply>) -> ReadMessage {
        match refused {
            Some(reply) => ReadMessage::Refused(reply),
            None if self.has_message_id => ReadMessage::Identified(ContentHasher::default().finish()),
            None => ReadMessage::Unidentified,
        }
    }

    /// The open destinations answer DATA, or are left.
    fn start(&mut self, transaction: &mut Transaction, all: &[DestinationId]) {
        for id in all {
            let failed = reply(451, format!("{id:?} refuses DATA"));
            let event = match (transaction.destination(*id).state == DestinationState::Open, self.chance(5)) {
                (false, _) => continue,
                (true, _) if !transaction.has_accepted(*id) => Event::Left(*id),
                (true, true) => Event::Failed(*id, failed),
                (true, false) => Event::Started(*id),
            };
            assert_eq!(transaction.step(event), []);
        }
    }

    fn conclude(&mut self, talk: &mut Talk, transaction: &mut Transaction, message: ReadMessage) -> Result<(), Cut> {
        let key = transaction.expected().map(|recipient| transaction.envelope.pair(&recipient.mailbox)).collect();
        let mut end = MessageEnd { transaction, key, finishing: Vec::new(), known: Vec::new() };
        self.perform(talk, &mut end, Event::Read(message))?;
        loop {
            let known = std::mem::take(&mut end.known);
            self.perform(talk, &mut end, Event::Finished(known))?;
            if !end.transaction.is_undecided() {
                break;
            }
            // Some destinations answer together.
            while end.known.is_empty() || (!end.finishing.is_empty() && self.random.bool()) {
                assert!(!end.finishing.is_empty(), "a destination gets no end of data\n{}", self.log());
                let id = end.finishing.swap_remove(self.random.usize(..end.finishing.len()));
                self.finish(talk, &mut end, id);
            }
        }
        self.check_outcomes(talk, end.transaction);
        Ok(())
    }

    fn perform(&mut self, talk: &mut Talk, end: &mut MessageEnd<'_>, event: Event) -> Result<(), Cut> {
        let mut effects = VecDeque::from(end.transaction.step(event));
        while let Some(effect) = effects.pop_front() {
            self.log.push(format!("    {effect:?}"));
            self.cut(1)?;
            let then = match effect {
                Effect::Say(reply) | Effect::SayAgain(reply) => {
                    talk.heard.push(reply);
                    None
                }
                Effect::Recall(_) => Some(Event::Recalled(self.recall(&end.key))),
                Effect::Record(_) if self.chance(5) => {
                    talk.excuse = Some("the record failed");
                    Some(Event::Recorded(Recorded::Failed))
                }
                Effect::Record(outcomes) => {
                    self.records.entry(end.key.clone()).or_default().extend(outcomes);
                    Some(Event::Recorded(Recorded::Yes))
                }
                Effect::Forget => {
                    self.forget(talk, end);
                    None
                }
                Effect::Finish(id) => {
                    end.finishing.push(id);
                    None
                }
                Effect::Withhold(_) => None,
                Effect::Stop(destination, refusal) => {
                    end.known.push(FinalReply { destination, reply: refusal.reply() });
                    None
                }
            };
            effects.extend(then.into_iter().flat_map(|event| end.transaction.step(event)));
        }
        Ok(())
    }

    fn recall(&mut self, key: &BTreeSet<Pair>) -> RecordedOutcomes {
        match (self.chance(4), self.random.bool()) {
            (true, true) => RecordedOutcomes::Busy,
            (true, false) => RecordedOutcomes::Unknown,
            (false, _) => RecordedOutcomes::Outcomes(self.records.get(key).cloned().unwrap_or_default()),
        }
    }

    fn forget(&mut self, talk: &mut Talk, end: &MessageEnd<'_>) {
        self.records.remove(&end.key);
        let is_delivered = |reply: &Reply| Disposition::of(reply) == Disposition::Delivered;
        let delivered = end.transaction.expected().filter(|one| one.outcome().is_some_and(is_delivered));
        talk.delivered.extend(delivered.map(|one| one.mailbox.to_string()));
    }

    /// A remote gets the end of the data, and answers.
    fn finish(&mut self, talk: &mut Talk, end: &mut MessageEnd<'_>, destination: DestinationId) {
        let (answer, is_lost) = (self.answer(format!("{destination:?} has the message")), self.chance(4));
        let of_it = |one: &&Recipient| one.destination == destination && one.is_accepted();
        let transaction = &end.transaction;
        let recipients = transaction.recipients.all().iter().filter(of_it);
        let recipients = recipients.map(|one| (transaction.envelope.pair(&one.mailbox), one.mailbox.to_string()));
        for (pair, mailbox) in recipients.collect::<BTreeSet<_>>() {
            // 4.
            let recorded = self.records.get(&end.key).and_then(|record| record.get(&pair));
            assert!(recorded.is_none(), "{mailbox} has {recorded:?}\n{}", self.log());
            match Disposition::of(&answer) {
                Disposition::Delivered => {
                    self.truth(&mailbox).copies += 1;
                    talk.delivered.insert(mailbox);
                }
                Disposition::Refused => self.truth(&mailbox).refused = true,
                Disposition::Deferred => {}
            }
        }
        let reply = if is_lost { reply(451, format!("{destination:?} was lost")) } else { answer };
        if is_lost {
            talk.excuse = Some("a remote's reply was lost");
        }
        end.known.push(FinalReply { destination, reply });
    }

    fn check_outcomes(&self, talk: &Talk, transaction: &Transaction) {
        let outcomes: Option<Vec<Reply>> = transaction.expected().map(|one| one.outcome().cloned()).collect();
        // 3.
        let outcomes = outcomes.unwrap_or_else(|| panic!("a recipient has no outcome\n{}", self.log()));
        let any = |disposition| outcomes.iter().any(|outcome| Disposition::of(outcome) == disposition);
        match (transaction.replies, talk.heard.last()) {
            // 5.
            (Replies::Once | Replies::FanOut, Some(last)) => match Disposition::of(last) {
                Disposition::Delivered => assert!(!any(Disposition::Deferred) && !any(Disposition::Refused)),
                Disposition::Refused => assert!(!any(Disposition::Deferred) && any(Disposition::Refused)),
                Disposition::Deferred => assert!(any(Disposition::Deferred)),
            },
            (Replies::PerRecipient | Replies::Prdr, Some(_)) => {}
            (_, None) => panic!("no reply\n{}", self.log()),
        }
    }
}
