//! Random clients and random remotes, without sockets: the invariants of every transaction.
//!
//! A client speaks SMTP (one destination or fan-out), SMTP with PRDR, or LMTP, pipelines or not, vanishes, loses replies,
//! and sends again the mail that it has no final reply for. A remote accepts, defers, refuses or is lost at any step. The
//! session between them is a model as straight as it can be, with the real [`Dialogue`] and the real [`Transaction`].
//!
//! 1. The client gets no 2xx for a recipient to which no remote has said 2xx.
//! 2. Replies come in the order of their commands, and as many as are owed.
//! 3. Every recipient whose RCPT was answered with 2xx has one outcome at the end.
//! 4. A recipient with a recorded outcome gets no second copy of the message in a fan-out transaction.
//! 5. A final reply to all is one for each: no deferred recipient bounces, and no delivered one is told to be deferred.
//! 6. Once all is well, the client gets done.

mod message;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::dialogue::{Dialogue, Service, Step, Us};
use super::reply::{Disposition, held};
use super::{DestinationState, Effect, Event, RecipientId, Replies, Transaction, Turn};
use crate::smtp::chunk::Framing;
use crate::smtp::command::Command;
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::store::key::{Pair, RecordId};

const ADDRESSES: [&str; 5] = ["one@a.test", "two@a.test", "three@b.test", "four@c.test", "five@c.test"];

/// The status of a recipient in the queue of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueStatus {
    Pending,
    Delivered,
    Bounced,
}

/// The truth about a recipient.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    copies: u32,
    /// Copies that cannot be prevented.
    excused: u32,
    refused: bool,
}

/// A client with one message, its remotes, and the records.
struct Simulation {
    random: fastrand::Rng,
    service: Service,
    prdr: bool,
    pipelined: bool,
    has_message_id: bool,
    troubled: bool,
    /// The recipients, in the order in which the client names them; some are named twice.
    queue: Vec<(&'static str, QueueStatus)>,
    truth: BTreeMap<String, Truth>,
    /// The record of the message, by the set of its recipients.
    records: BTreeMap<BTreeSet<Pair>, BTreeMap<Pair, Reply>>,
    log: Vec<String>,
}

/// The replies to the end of a message, and the places in the queue whose RCPT had a 2xx.
struct MessageReplies {
    replies: Vec<Reply>,
    accepted: Vec<usize>,
}

/// One connection of the client.
struct Talk {
    dialogue: Dialogue,
    heard: Vec<Reply>,
    /// The reply of a remote to each RCPT, or ours in its place.
    answers: BTreeMap<RecipientId, Reply>,
    /// Recipients that a remote took, on this attempt or by a record that is gone. Only the reply tells the client.
    delivered: BTreeSet<String>,
    /// The reason why a copy may come twice, if there is one.
    excuse: Option<&'static str>,
}

/// The next command of the client, as far as remotes may hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Message,
    More,
}

/// The client or danelaw has gone in the middle.
struct Cut;

fn reply(code: u16, text: String) -> Reply {
    Reply::new(Code::new(code).unwrap(), EnhancedCode::success(1, 1), text)
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let service = [Service::Smtp, Service::FanOut, Service::FanOut, Service::Lmtp][random.usize(..4)];
        let prdr = service != Service::Lmtp && random.u8(..4) == 0;
        let mut named: Vec<&str> = ADDRESSES.into_iter().filter(|_| random.u8(..4) > 0).collect();
        if named.is_empty() || random.u8(..8) == 0 {
            named.push(ADDRESSES[0]);
        }
        random.shuffle(&mut named);
        let queue = named.into_iter().map(|address| (address, QueueStatus::Pending)).collect();
        let (pipelined, has_message_id) = (random.bool(), random.u8(..4) > 0);
        let (truth, records, log) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self { random, service, prdr, pipelined, has_message_id, troubled: true, queue, truth, records, log }
    }

    fn chance(&mut self, percent: u8) -> bool {
        self.troubled && self.random.u8(..100) < percent
    }

    fn cut(&mut self, percent: u8) -> Result<(), Cut> {
        if self.chance(percent) { Err(Cut) } else { Ok(()) }
    }

    fn log(&self) -> String {
        let Self { service, prdr, pipelined, queue, truth, .. } = self;
        format!("{}\n{service:?} prdr={prdr} pipelined={pipelined} {queue:?}\n{truth:?}", self.log.join("\n"))
    }

    /// A remote's answer.
    fn answer(&mut self, text: String) -> Reply {
        match (self.troubled, self.random.u8(..100)) {
            (false, _) | (true, ..70) => reply(250, text),
            (true, 70..85) => reply(450, text),
            (true, _) => reply(550, text),
        }
    }

    fn truth(&mut self, mailbox: &str) -> &mut Truth {
        self.truth.entry(mailbox.to_owned()).or_default()
    }

    /// One attempt of the client to send all that is pending.
    fn attempt(&mut self) {
        let us = Us { hostname: "us.example".into(), size: 1000, max_recipients: 100 };
        let mut talk = Talk {
            dialogue: Dialogue::new(us, self.service),
            heard: Vec::new(),
            answers: BTreeMap::new(),
            delivered: BTreeSet::new(),
            excuse: None,
        };
        if self.queue.iter().all(|(_, status)| *status != QueueStatus::Pending) {
            return;
        }
        self.log.push("attempt".into());
        if self.converse(&mut talk).is_err() {
            self.log.push("cut".into());
            talk.excuse = Some("cut");
        }
        for mailbox in std::mem::take(&mut talk.delivered) {
            let is_known =
                !self.queue.iter().any(|(address, status)| *address == mailbox && *status == QueueStatus::Pending);
            let is_recorded = {
                let pair = self.pair(&mailbox);
                self.records.values().any(|record| record.contains_key(&pair))
            };
            if !is_known && !is_recorded {
                let is_named_twice = self.queue.iter().filter(|(address, _)| *address == mailbox).count() > 1;
                // 4.
                assert!(talk.excuse.is_some() || is_named_twice, "a second copy of {mailbox} comes\n{}", self.log());
                self.truth(&mailbox).excused += 1;
            }
        }
    }

    fn pair(&self, mailbox: &str) -> Pair {
        let path = Command::parse(format!("RCPT TO:<{mailbox}>").as_bytes()).unwrap();
        let Command::Rcpt(crate::smtp::address::ForwardPath::Mailbox(mailbox)) = path else { panic!() };
        Pair::new(&crate::smtp::address::ReversePath::Null, &mailbox)
    }

    fn converse(&mut self, talk: &mut Talk) -> Result<(), Cut> {
        let named: Vec<usize> =
            (0..self.queue.len()).filter(|place| self.queue[*place].1 == QueueStatus::Pending).collect();
        let hello = if self.service == Service::Lmtp { "LHLO c" } else { "EHLO c" };
        let mail = if self.prdr { "MAIL FROM:<> PRDR" } else { "MAIL FROM:<>" };
        self.command(talk, hello);
        self.command(talk, mail);
        for place in &named {
            self.command(talk, &format!("RCPT TO:<{}>", self.queue[*place].0));
            if !self.pipelined {
                self.answer_recipients(talk, Then::More);
            }
            self.cut(1)?;
        }
        let framing = if self.random.u8(..4) == 0 { Framing::Bdat } else { Framing::Data };
        self.answer_recipients(talk, if self.pipelined { Then::Message } else { Then::More });
        let transaction = self.command(talk, if framing == Framing::Bdat { "BDAT 3 LAST" } else { "DATA" });
        let accepted = self.rcpt_replies(talk, &named);
        let before = talk.heard.len();
        let Some(transaction) = transaction else {
            let told = talk.heard.last().cloned().filter(|_| !accepted.is_empty());
            self.all_have(talk, told, &accepted);
            return Ok(());
        };
        // 2.
        assert_eq!(transaction.expected().count(), accepted.len(), "{}", self.log());
        let each = self.message(talk, transaction, framing)?;
        if self.chance(5) {
            return Err(Cut);
        }
        let told = talk.heard.split_off(before);
        self.log.push(format!("  told {told:?}"));
        self.check_told(talk, each, &MessageReplies { replies: told, accepted });
        Ok(())
    }

    /// Compares the replies to the end of the message with the kind that the client has asked for.
    fn check_told(
        &mut self,
        talk: &mut Talk,
        each: Option<Replies>,
        MessageReplies { replies, accepted }: &MessageReplies,
    ) {
        match (each, replies.as_slice()) {
            (None, [reply]) => self.all_have(talk, Some(reply.clone()), accepted),
            (Some(Replies::PerRecipient), replies) => self.each_has(talk, replies, accepted),
            (Some(Replies::Prdr), [first, replies @ .., last]) => {
                assert!(first.code() == Code::ANSWERS_FOLLOW, "{}", self.log());
                let any = replies.iter().any(|reply| reply.code().is_success());
                assert_eq!(any, last.code().is_success(), "{}", self.log());
                self.each_has(talk, replies, accepted);
            }
            // 2.
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    /// Compares the replies to RCPT with those of the remotes. Returns the places in the queue that have a 2xx.
    fn rcpt_replies(&mut self, talk: &Talk, named: &[usize]) -> Vec<usize> {
        let mut answers = talk.answers.values();
        let mut accepted = Vec::new();
        for (place, told) in named.iter().zip(&talk.heard[2..]) {
            if told.code() == Code::INSUFFICIENT_STORAGE {
                continue;
            }
            // 1, 2.
            let answer = answers.next().unwrap();
            let is_held = self.service == Service::FanOut && !self.prdr && !answer.code().is_success();
            assert_eq!(*told, if is_held { held() } else { answer.clone() }, "{}", self.log());
            self.truth(self.queue[*place].0).refused |= answer.code().is_permanent();
            if told.code().is_success() {
                accepted.push(*place);
            } else if told.code().is_permanent() {
                self.queue[*place].1 = QueueStatus::Bounced;
            }
        }
        accepted
    }

    /// One reply is for all of these.
    fn all_have(&mut self, talk: &Talk, reply: Option<Reply>, accepted: &[usize]) {
        let replies: Vec<Reply> = reply.into_iter().cycle().take(accepted.len()).collect();
        self.each_has(talk, &replies, accepted);
    }

    fn each_has(&mut self, talk: &Talk, replies: &[Reply], accepted: &[usize]) {
        // 2.
        assert!(replies.len() == accepted.len() || replies.is_empty(), "{replies:?}\n{}", self.log());
        for (place, reply) in accepted.iter().zip(replies) {
            let mailbox = self.queue[*place].0;
            self.queue[*place].1 = match Disposition::of(reply) {
                Disposition::Delivered => {
                    // 1. In a fan-out transaction, on this attempt or on an earlier one.
                    let is_fan_out = self.service == Service::FanOut && !self.prdr;
                    let has_it = talk.delivered.contains(mailbox) || (is_fan_out && self.truth(mailbox).copies > 0);
                    assert!(has_it, "{mailbox} has no message\n{}", self.log());
                    let same = self.queue.iter_mut().filter(|(address, _)| *address == mailbox);
                    same.for_each(|(_, status)| *status = QueueStatus::Delivered);
                    QueueStatus::Delivered
                }
                Disposition::Refused => QueueStatus::Bounced,
                Disposition::Deferred => QueueStatus::Pending,
            };
        }
    }

    /// The dialogue's step, as far as it needs no message.
    fn command(&mut self, talk: &mut Talk, line: &str) -> Option<Transaction> {
        let mut command = Command::parse(line.as_bytes()).unwrap();
        loop {
            let records = talk.dialogue.asks_for_records(&command).map_or_else(Vec::new, |pair| self.served(pair));
            match talk.dialogue.step(command, records) {
                Step::Reply(reply)
                | Step::StartTls(reply)
                | Step::Abandon(reply)
                | Step::Quit(reply)
                | Step::Discard(_, reply) => {
                    talk.heard.push(reply);
                    return None;
                }
                Step::Later | Step::DiscardLast(_) => return None,
                Step::Wait(then) => {
                    self.answer_recipients(talk, if then == Command::Data { Then::Message } else { Then::More });
                    command = then;
                }
                Step::Data(transaction) | Step::Bdat(transaction, _) => return Some(transaction),
            }
        }
    }

    /// The records in which a recipient has a final outcome.
    fn served(&self, pair: Pair) -> Vec<RecordId> {
        let records = (0..).zip(self.records.values());
        records.filter(|(_, record)| record.contains_key(&pair)).map(|(number, _)| RecordId(number)).collect()
    }

    /// The remotes answer, in any order.
    fn answer_recipients(&mut self, talk: &mut Talk, then: Then) {
        let Talk { dialogue, heard, answers, .. } = talk;
        let Some(transaction) = dialogue.waiting() else { return };
        let turns = transaction.turns().into_iter().map(|turn| self.turn(transaction, turn, then));
        let mut turns: Vec<VecDeque<Event>> = turns.filter(|turn| !turn.is_empty()).collect();
        while !turns.is_empty() {
            let place = self.random.usize(..turns.len());
            let event = turns[place].pop_front().unwrap();
            if turns[place].is_empty() {
                turns.remove(place);
            }
            let named: Vec<_> = transaction.recipients.all().iter().filter(|one| one.is_named()).collect();
            match &event {
                Event::Answered(id, reply) => {
                    answers.insert(*id, reply.clone());
                }
                Event::Failed(destination, reply) => {
                    let of_it = named.iter().filter(|one| one.destination == *destination);
                    answers.extend(of_it.map(|one| (one.id, reply.clone())));
                }
                _ => {}
            }
            for effect in transaction.step(event) {
                let Effect::Say(reply) = effect else { panic!("{effect:?}") };
                heard.push(reply);
            }
        }
        // 2.
        assert!(dialogue.waiting().is_none(), "a reply to RCPT is missing\n{}", self.log());
    }

    /// The events of one destination in one turn.
    fn turn(&mut self, transaction: &Transaction, turn: Turn, then: Then) -> VecDeque<Event> {
        let Turn { destination, domain, recipients } = turn;
        let mut accepted = transaction.has_accepted(destination);
        let mut events = VecDeque::new();
        let state = &transaction.destination(destination).state;
        if let DestinationState::Failed(reply) = state {
            return VecDeque::from([Event::Failed(destination, reply.clone())]);
        }
        if recipients.is_empty() {
            let is_lost = then == Then::Message && *state == DestinationState::Open && self.chance(3);
            events.extend(is_lost.then(|| Event::Failed(destination, reply(451, format!("{domain} was lost")))));
            return events;
        }
        if *state == DestinationState::Unresolved && self.chance(8) {
            return VecDeque::from([Event::Failed(destination, reply(451, format!("{domain} is unreachable")))]);
        }
        for recipient in recipients {
            if self.chance(3) {
                events.push_back(Event::Failed(destination, reply(451, format!("{domain} was lost"))));
                return events;
            }
            let answer = self.answer(format!("{:?}", recipient.id));
            accepted |= answer.code().is_success();
            events.push_back(Event::Answered(recipient.id, answer));
        }
        events.push_back(match accepted || then == Then::More {
            true => Event::Opened(destination),
            false => Event::Left(destination),
        });
        events
    }
}

#[test]
fn random_clients_and_remotes() {
    let runs = std::env::var("DANELAW_TRANSACTION_RUNS").ok().map_or(1500, |runs| runs.parse().unwrap());
    for seed in 0..runs {
        let mut world = Simulation::new(seed);
        world.log.push(format!("seed {seed}"));
        for _ in 0..5 {
            world.attempt();
        }
        // 6. A transaction of split SMTP has one domain, so each attempt gets one domain done.
        world.troubled = false;
        for _ in 0..4 {
            world.attempt();
        }
        for (address, status) in &world.queue {
            let truth = world.truth.get(*address).copied().unwrap_or_default();
            let log = || format!("{address}: {truth:?}\n{}", world.log());
            assert!(*status != QueueStatus::Pending, "not done: {}", log());
            assert!(truth.copies <= 1 + truth.excused, "a copy too many: {}", log());
            assert!(truth.copies > 0 || (*status == QueueStatus::Bounced && truth.refused), "a lost mail: {}", log());
        }
    }
}
