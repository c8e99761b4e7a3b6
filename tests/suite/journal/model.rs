//! Clients with one disposition for all recipients of a message, which try until they are done, remotes that answer at
//! random, connections and processes that end at any step: no recipient gets a copy too many, each gets one unless a
//! remote has refused it for good, and the client hears of each refused recipient.
//!
//! The session is a model, as simple as possible: the steps at the head of `src/journal/mod.rs`, with the real journal
//! and the real decisions of `src/transaction/reply.rs`.

use std::collections::BTreeMap;

use danelaw::journal::{Journal, Message, MessageKey, RecordId, StorePlace};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};
use danelaw::transaction::reply::{Conclusion, Disposition, EndOfData, Part, before_data, conclude, end_of_data};

use super::{content, pair};

/// Two of one domain, and one of each of two others.
const RECIPIENTS: [&str; 4] = ["one@a.test", "two@a.test", "three@b.test", "four@c.test"];

/// The state of a message in its client's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Pending,
    Done,
    Bounced,
}

/// A message in a client's queue.
struct Queued {
    text: &'static str,
    recipients: Vec<usize>,
    left: Left,
}

/// The truth about one message and one recipient.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    copies: u32,
    /// Copies that cannot be prevented: a reply was lost, or danelaw was killed around it.
    excused: u32,
    refused: bool,
}

/// danelaw was killed.
struct Killed;

struct World {
    /// The danelaws that the client may come to.
    journals: Vec<Journal>,
    /// The one that it has come to.
    at: usize,
    random: fastrand::Rng,
    truth: BTreeMap<(&'static str, usize), Truth>,
    /// Whether faults happen.
    troubled: bool,
    log: Vec<String>,
}

/// A recipient in a transaction.
struct Accepted {
    recipient: usize,
    records: Vec<RecordId>,
    held: Option<Reply>,
    outcome: Option<Reply>,
    /// A remote took it on this attempt, and the client may not hear of it.
    unheard: bool,
}

fn yes() -> Reply {
    Reply::new(Code::OK, EnhancedCode::success(0, 0), "mx.test[192.0.2.1]: ok")
}

fn not_now() -> Reply {
    Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(2, 0), "mx.test[192.0.2.1]: later")
}

fn never() -> Reply {
    Reply::new(Code::MAILBOX_UNAVAILABLE, EnhancedCode::permanent(1, 1), "mx.test[192.0.2.1]: no")
}

fn domain(recipient: usize) -> &'static str {
    RECIPIENTS[recipient].split_once('@').unwrap().1
}

fn is_final(reply: &Reply) -> bool {
    Disposition::of(reply).is_final()
}

impl World {
    fn chance(&mut self, percent: u8) -> bool {
        self.troubled && self.random.u8(..100) < percent
    }

    /// Any step may be the last one.
    fn step(&mut self) -> Result<(), Killed> {
        if self.chance(2) {
            self.log.push("killed".into());
            return Err(Killed);
        }
        Ok(())
    }

    fn answer(&mut self) -> Reply {
        match (self.troubled, self.random.u8(..100)) {
            (false, _) | (true, ..70) => yes(),
            (true, number) if number % 2 == 0 => not_now(),
            (true, _) => never(),
        }
    }

    fn truth(&mut self, message: &Queued, recipient: usize) -> &mut Truth {
        self.truth.entry((message.text, recipient)).or_default()
    }

    /// One attempt of the client; a cut leaves its queue as it is.
    async fn attempt(&mut self, message: &mut Queued) {
        if message.left != Left::Pending {
            return;
        }
        let mut accepted = Vec::new();
        self.at = self.random.usize(..self.journals.len());
        let heard = self.transaction(message, &mut accepted).await;
        self.log.push(format!("  heard {:?}", heard.as_ref().ok()));
        let Ok(Some(reply)) = heard else {
            // The client sends the message again, and no record says that these have it.
            for accepted in accepted.iter().filter(|accepted| accepted.unheard) {
                self.truth(message, accepted.recipient).excused += 1;
            }
            return;
        };
        match Disposition::of(&reply) {
            Disposition::Delivered => message.left = Left::Done,
            Disposition::Refused => message.left = Left::Bounced,
            Disposition::Deferred => {}
        }
        for accepted in accepted.iter().filter(|_| Disposition::of(&reply) == Disposition::Refused) {
            let truth = *self.truth(message, accepted.recipient);
            let outcome = Disposition::of(accepted.outcome.as_ref().or(accepted.held.as_ref()).unwrap());
            match outcome {
                // Only a lost reply can hide a copy from the sender.
                Disposition::Refused => {
                    assert!(truth.refused && truth.copies <= truth.excused, "{}", self.log.join("\n"))
                }
                Disposition::Delivered => assert!(truth.copies > 0),
                Disposition::Deferred => panic!("a deferred recipient bounces: {}", self.log.join("\n")),
            }
        }
    }

    /// The client's last reply, if it hears one.
    async fn transaction(&mut self, message: &Queued, accepted: &mut Vec<Accepted>) -> Result<Option<Reply>, Killed> {
        for recipient in message.recipients.iter().copied() {
            self.step()?;
            let records = self.journals[self.at].served(pair(RECIPIENTS[recipient])).await.unwrap();
            let answer = self.answer();
            self.truth(message, recipient).refused |= Disposition::of(&answer) == Disposition::Refused;
            let held = Some(answer).filter(|answer| !answer.code().is_success());
            self.log.push(format!("  RCPT {recipient} {held:?}"));
            accepted.push(Accepted { recipient, records, held, outcome: None, unheard: false });
        }
        if accepted.iter().all(|one| one.records.is_empty())
            && let Some(reply) = before_data(accepted.iter().map(|one| one.held.as_ref()))
        {
            return Ok(Some(reply));
        }
        self.step()?;
        self.end_of_data(message, accepted).await
    }

    async fn end_of_data(&mut self, message: &Queued, accepted: &mut [Accepted]) -> Result<Option<Reply>, Killed> {
        let pairs: Vec<_> = accepted.iter().map(|one| pair(RECIPIENTS[one.recipient])).collect();
        let key = MessageKey::new(content(message.text), pairs.iter().copied());
        let mut open = self.open(key, &pairs).await;
        for destination in destinations(accepted, &open) {
            self.step()?;
            self.destination(message, accepted, (&mut open, &destination)).await?;
        }
        let parts: Vec<Part> = accepted
            .iter()
            .map(|one| Part { mailbox: RECIPIENTS[one.recipient].into(), reply: one.outcome.clone().unwrap() })
            .collect();
        self.step()?;
        match conclude(&parts) {
            Conclusion::Again => {
                record(accepted, &mut open).await;
                self.step()?;
                open.release().await;
                Ok(Some(not_now()).filter(|_| !self.chance(5)))
            }
            Conclusion::Final(answer) => {
                open.delete().await.unwrap();
                // From here on there is no record of its recipients.
                for one in accepted.iter_mut() {
                    one.unheard = Disposition::of(one.outcome.as_ref().unwrap()) == Disposition::Delivered;
                }
                self.step()?;
                Ok(Some(answer).filter(|_| !self.chance(10)))
            }
        }
    }

    /// The message; a session that was cut may need a moment to let go of it.
    async fn open(&self, key: MessageKey, pairs: &[danelaw::journal::Pair]) -> Message {
        for _ in 0..500 {
            match self.journals[self.at].message(key, pairs).await {
                Ok(message) => return message,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            }
        }
        panic!("the message is busy for ever: {}", self.log.join("\n"));
    }

    /// The end of the data at one destination, and the record of it.
    async fn destination(
        &mut self,
        message: &Queued,
        accepted: &mut [Accepted],
        (open, places): (&mut Message, &[usize]),
    ) -> Result<(), Killed> {
        let reply = self.answer();
        // The remote has the message, and its reply is lost.
        let is_lost = self.chance(4);
        let told = if is_lost { not_now() } else { reply.clone() };
        self.log.push(format!("  {places:?} {reply} {is_lost}"));
        for place in places {
            let one = &mut accepted[*place];
            let truth = self.truth.entry((message.text, one.recipient)).or_default();
            match Disposition::of(&reply) {
                Disposition::Delivered => {
                    truth.copies += 1;
                    truth.excused += u32::from(is_lost);
                    one.unheard = !is_lost;
                }
                Disposition::Refused => truth.refused = true,
                Disposition::Deferred => {}
            }
            one.outcome = Some(told.clone());
        }
        self.step()?;
        if accepted.iter().any(|one| one.outcome.is_none()) {
            record(accepted, open).await;
        }
        self.step()
    }
}

/// Writes all final outcomes.
async fn record(accepted: &mut [Accepted], open: &mut Message) {
    let outcome = |one: &Accepted| Some((pair(RECIPIENTS[one.recipient]), one.outcome.clone().filter(is_final)?));
    open.record(accepted.iter().filter_map(outcome)).await.unwrap();
    accepted.iter_mut().for_each(|one| one.unheard = false);
}

/// Settles the recipients that need no remote; the others by destination, as places in `accepted`.
fn destinations(accepted: &mut [Accepted], open: &Message) -> Vec<Vec<usize>> {
    let mut destinations: Vec<Vec<usize>> = Vec::new();
    for (place, one) in accepted.iter().enumerate().filter(|(_, one)| one.held.is_none()) {
        let same = |places: &&mut Vec<usize>| {
            let first = &accepted[places[0]];
            domain(first.recipient) == domain(one.recipient) && first.records == one.records
        };
        match destinations.iter_mut().find(same) {
            Some(places) => places.push(place),
            None => destinations.push(vec![place]),
        }
    }
    destinations.retain(|places| {
        let doing = end_of_data(places.iter().map(|place| open.outcome(pair(RECIPIENTS[accepted[*place].recipient]))));
        // No other session writes here, so no destination is served in part.
        assert_ne!(doing, EndOfData::Defer);
        doing == EndOfData::Send
    });
    for one in accepted.iter_mut() {
        one.outcome = open.outcome(pair(RECIPIENTS[one.recipient])).cloned().or_else(|| one.held.clone());
    }
    destinations
}

async fn run(seed: u64, journals: Vec<Journal>) {
    let mut random = fastrand::Rng::with_seed(seed);
    // Two messages, whose recipients are mostly the same, in any order.
    let mut queue: Vec<Queued> = ["first", "second"]
        .map(|text| {
            let mut recipients: Vec<_> = (0..RECIPIENTS.len()).filter(|_| random.u8(..4) > 0).collect();
            if recipients.is_empty() {
                recipients.push(0);
            }
            random.shuffle(&mut recipients);
            Queued { text, recipients, left: Left::Pending }
        })
        .into();
    let mut world = World { journals, at: 0, random, truth: BTreeMap::new(), troubled: true, log: Vec::new() };
    for _ in 0..8 {
        let which = world.random.usize(..2);
        world.log.push(queue[which].text.to_owned());
        world.attempt(&mut queue[which]).await;
    }
    // Now all is well, and the client gets done.
    world.troubled = false;
    for message in &mut queue {
        world.log.push(format!("{} (well)", message.text));
        world.attempt(message).await;
    }
    let log = || format!("seed {seed}:\n{}\n{:?}", world.log.join("\n"), world.truth);
    for message in &queue {
        assert_ne!(message.left, Left::Pending, "not done: {}\n{}", message.text, log());
        let truths: Vec<Truth> = message
            .recipients
            .iter()
            .map(|recipient| world.truth.get(&(message.text, *recipient)).copied().unwrap_or_default())
            .collect();
        for truth in &truths {
            assert!(truth.copies <= 1 + truth.excused, "a copy too many: {}\n{}", message.text, log());
            let has_it = truth.copies > 0;
            assert!(has_it || (truth.refused && message.left == Left::Bounced), "none: {}\n{}", message.text, log());
        }
        if message.left == Left::Bounced {
            assert!(truths.iter().any(|truth| truth.refused), "none was refused: {}", log());
        }
    }
}

fn runs(default: u64) -> u64 {
    std::env::var("DANELAW_JOURNAL_RUNS").ok().map_or(default, |runs| runs.parse().unwrap())
}

#[tokio::test]
async fn one_outcome_each() {
    for seed in 0..runs(400) {
        let (journal, _) = Journal::open(crate::store::at(StorePlace::Memory)).await.unwrap();
        run(seed, vec![journal]).await;
    }
}

#[tokio::test]
async fn v1_one_outcome_each_at_any_of_two_danelaws() {
    let server = crate::store::server::Server::start();
    let place = || StorePlace::Database(Box::new(server.settings()));
    let open = async || Journal::open(crate::store::at(place())).await.unwrap().0;
    let journals = [open().await, open().await];
    for seed in 0..runs(100) {
        run(seed, journals.to_vec()).await;
        // The next run sends the same messages.
        server.sql("DELETE FROM danelaw.records");
    }
}
