//! Clients that try until they are done, remotes that answer as they like, connections and processes that end at any
//! step: nobody gets two copies, nobody gets none unless a remote has refused him for good, and whoever was refused is
//! told so, and nobody else.
//!
//! The session is a model, as straight as it can be: the steps at the head of `src/ledger/mod.rs`, with the real ledger
//! and the real decisions of `src/fanout.rs`.

use std::collections::BTreeMap;

use danelaw::fanout::{Admission, Company, Conclusion, Dot, Part, Recipients, Said, before_data, conclude, dot, said};
use danelaw::ledger::{Claim, Fate, Ledger, Manners, Past, Settings};
use danelaw::smtp::reply::{Code, EnhancedCode, Reply};

use super::{content, pair};

/// Two of one domain, and one of each of two others.
const RECIPIENTS: [&str; 4] = ["one@a.test", "two@a.test", "three@b.test", "four@c.test"];

/// How a client takes it that a recipient is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// As Postfix: the others get the message, each recipient has a fate of its own.
    Parting,
    /// As nullmailer: the message is one thing.
    Whole,
}

/// What a client has left to do with a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Pending,
    Done,
    Bounced,
}

/// A message in a client's queue.
struct Queued {
    text: &'static str,
    recipients: Vec<(usize, Left)>,
}

/// What really happened to one message and one recipient.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    copies: u32,
    /// Copies that nobody could prevent: the reply was lost on the way to us, or we were killed before it was on disk.
    excused: u32,
    refused: bool,
}

/// danelaw was killed.
struct Killed;

struct World {
    ledger: Ledger,
    random: fastrand::Rng,
    client: Client,
    truth: BTreeMap<(&'static str, usize), Truth>,
    /// Whether anything goes wrong.
    troubled: bool,
    log: Vec<String>,
}

/// A recipient in a transaction.
struct Accepted {
    recipient: usize,
    past: Past,
    held: Option<Reply>,
    outcome: Option<Reply>,
    /// A remote took it now, and the ledger has not heard of it yet.
    unrecorded: bool,
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

    fn answer(&mut self, percent_yes: u8) -> Reply {
        match (self.troubled, self.random.u8(..100)) {
            (false, _) => yes(),
            (true, number) if number < percent_yes => yes(),
            (true, number) if number % 2 == 0 => not_now(),
            (true, _) => never(),
        }
    }

    fn truth(&mut self, message: &Queued, recipient: usize) -> &mut Truth {
        self.truth.entry((message.text, recipient)).or_default()
    }

    /// One attempt of the client; what breaks leaves its queue as it is.
    async fn attempt(&mut self, message: &mut Queued) {
        let mut company = Company::default();
        let mut accepted = Vec::new();
        let named: Vec<usize> = message
            .recipients
            .iter()
            .filter(|(_, left)| *left == Left::Pending)
            .map(|(recipient, _)| *recipient)
            .collect();
        for recipient in named {
            let Ok(reply) = self.rcpt(&mut company, &mut accepted, message, recipient).await else { return };
            self.log.push(format!("  RCPT {recipient} {reply}"));
            match (self.client, Fate::of(&reply)) {
                (_, Fate::Delivered) => {}
                (Client::Parting, Fate::Deferred) => {}
                (Client::Parting, Fate::Refused) => message.hears(&[recipient], &reply),
                (Client::Whole, Fate::Refused) => return message.hears_all(&reply),
                (Client::Whole, Fate::Deferred) => {
                    let given_up = company.given_up();
                    if !given_up.is_empty() {
                        self.ledger.all_or_nothing(&given_up).await.unwrap();
                    }
                    return;
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        let recipients: Vec<usize> = accepted.iter().map(|accepted| accepted.recipient).collect();
        let Ok(Some(reply)) = self.data(message, &mut accepted, company.manners()).await else {
            for accepted in accepted.iter().filter(|accepted| accepted.unrecorded) {
                self.truth(message, accepted.recipient).excused += 1;
            }
            return;
        };
        self.log.push(format!("  heard {reply}"));
        message.hears(&recipients, &reply);
    }

    async fn rcpt(
        &mut self,
        company: &mut Company,
        accepted: &mut Vec<Accepted>,
        message: &Queued,
        recipient: usize,
    ) -> Result<Reply, Killed> {
        self.step()?;
        let pair = pair(RECIPIENTS[recipient]);
        let past = self.ledger.past(pair).await.unwrap();
        match company.admit(pair, &past) {
            Admission::Part(reply) => Ok(reply),
            Admission::Join => {
                let answer = self.answer(70);
                self.truth(message, recipient).refused |= Fate::of(&answer) == Fate::Refused;
                let (held, reply) = match said(Recipients::FanOut, &past, answer) {
                    Said::Now(reply) => (None, reply),
                    Said::Held(reply) => (Some(reply), danelaw::fanout::yes()),
                };
                if Fate::of(&reply) == Fate::Delivered {
                    accepted.push(Accepted { recipient, past, held, outcome: None, unrecorded: false });
                }
                Ok(reply)
            }
        }
    }

    /// The client's answer to DATA or to the final dot, if it hears one.
    async fn data(
        &mut self,
        message: &Queued,
        accepted: &mut [Accepted],
        manners: Manners,
    ) -> Result<Option<Reply>, Killed> {
        if let Some(reply) = before_data(accepted.iter().map(|one| (&one.past, one.held.as_ref()))) {
            return Ok(Some(reply));
        }
        self.step()?;
        let pairs = accepted.iter().map(|one| pair(RECIPIENTS[one.recipient]));
        let mut claim = self.ledger.claim(content(message.text), pairs).await.unwrap();
        for leg in self.legs(accepted, &claim) {
            self.step()?;
            self.dot(message, accepted, (&mut claim, &leg)).await?;
        }
        let parts: Vec<Part> = accepted
            .iter()
            .map(|one| Part { mailbox: RECIPIENTS[one.recipient].into(), reply: one.outcome.clone().unwrap() })
            .collect();
        self.step()?;
        let outcomes: Vec<_> =
            accepted.iter().zip(&parts).map(|(one, part)| (pair(RECIPIENTS[one.recipient]), &part.reply)).collect();
        match conclude(&parts, manners, claim.attempt()) {
            Conclusion::Again { answer, remember } => {
                let remember: Vec<_> = remember.iter().map(|place| outcomes[*place]).collect();
                claim.keep(&remember).await.unwrap();
                accepted.iter_mut().for_each(|one| one.unrecorded = false);
                self.step()?;
                Ok(Some(answer).filter(|_| !self.chance(5)))
            }
            Conclusion::Final(answer) if self.chance(10) => {
                // The client is gone before it could hear it.
                let remember: Vec<_> = outcomes.into_iter().filter(|(_, reply)| Fate::of(reply).is_final()).collect();
                claim.keep(&remember).await.unwrap();
                accepted.iter_mut().for_each(|one| one.unrecorded = false);
                self.log.push(format!("  lost: {answer}"));
                Ok(None)
            }
            Conclusion::Final(answer) => {
                // Killed between the answer and this, the ledger has rows that nobody asks for.
                if !self.chance(5) {
                    claim.settle().await.unwrap();
                }
                Ok(Some(answer))
            }
        }
    }

    /// Settles what needs no remote, and tells the legs that do, by places in `accepted`.
    fn legs(&mut self, accepted: &mut [Accepted], claim: &Claim) -> Vec<Vec<usize>> {
        let mut legs: Vec<Vec<usize>> = Vec::new();
        for (place, one) in accepted.iter().enumerate().filter(|(_, one)| one.held.is_none()) {
            let same = |leg: &&mut Vec<usize>| {
                let first = &accepted[leg[0]];
                domain(first.recipient) == domain(one.recipient) && first.past == one.past
            };
            match legs.iter_mut().find(same) {
                Some(leg) => leg.push(place),
                None => legs.push(vec![place]),
            }
        }
        let remembered = |one: &Accepted| claim.remembered(pair(RECIPIENTS[one.recipient])).cloned();
        legs.retain(|leg| {
            let doing = dot(leg.iter().map(|place| remembered(&accepted[*place]).map(|reply| Fate::of(&reply))));
            // Nobody else writes here, so a leg is never served in part.
            assert_ne!(doing, Dot::Defer);
            doing == Dot::Send
        });
        for (place, one) in accepted.iter_mut().enumerate() {
            let served = claim.remembered(pair(RECIPIENTS[one.recipient])).filter(|reply| Fate::of(reply).is_final());
            one.outcome = match served {
                Some(reply) => Some(reply.clone()),
                None if legs.iter().any(|leg| leg.contains(&place)) => None,
                None => Some(one.held.clone().unwrap()),
            };
        }
        legs
    }

    /// The final dot of a leg, and what the ledger must know before anything else happens.
    async fn dot(
        &mut self,
        message: &Queued,
        accepted: &mut [Accepted],
        (claim, leg): (&mut Claim, &[usize]),
    ) -> Result<(), Killed> {
        // What an earlier leg has delivered is on the disk by now; there is no excuse any more.
        accepted.iter_mut().for_each(|one| one.unrecorded = false);
        if leg.len() < accepted.len() {
            claim.prepare().await.unwrap();
        }
        let mut reply = self.answer(70);
        let is_lost = self.chance(4);
        for place in leg {
            let recipient = accepted[*place].recipient;
            let truth = self.truth(message, recipient);
            match Fate::of(&reply) {
                Fate::Delivered => truth.copies += 1,
                Fate::Refused => truth.refused = true,
                Fate::Deferred => {}
            }
            if is_lost && Fate::of(&reply) == Fate::Delivered {
                truth.excused += 1;
            }
        }
        if is_lost {
            reply = not_now();
        }
        self.log.push(format!("  leg {leg:?} {reply}{}", if is_lost { " (lost)" } else { "" }));
        for place in leg {
            accepted[*place].outcome = Some(reply.clone());
            accepted[*place].unrecorded = Fate::of(&reply) == Fate::Delivered;
        }
        self.step()?;
        let differs = accepted.iter().any(|one| one.outcome.as_ref().map(Fate::of) != Some(Fate::of(&reply)));
        if Fate::of(&reply).is_final() && differs {
            let outcomes: Vec<_> =
                leg.iter().map(|place| (pair(RECIPIENTS[accepted[*place].recipient]), &reply)).collect();
            claim.record(&outcomes).await.unwrap();
            leg.iter().for_each(|place| accepted[*place].unrecorded = false);
        }
        self.step()
    }
}

impl Queued {
    fn hears(&mut self, recipients: &[usize], reply: &Reply) {
        for (recipient, left) in &mut self.recipients {
            if recipients.contains(recipient) {
                *left = match Fate::of(reply) {
                    Fate::Delivered => Left::Done,
                    Fate::Refused => Left::Bounced,
                    Fate::Deferred => *left,
                };
            }
        }
    }

    fn hears_all(&mut self, reply: &Reply) {
        let all: Vec<usize> = self.recipients.iter().map(|(recipient, _)| *recipient).collect();
        self.hears(&all, reply);
    }

    fn is_pending(&self) -> bool {
        self.recipients.iter().any(|(_, left)| *left == Left::Pending)
    }
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let settings = Settings { path: None, entries: 1000, expiry: std::time::Duration::from_secs(86_400) };
    let (ledger, _) = Ledger::open(settings).await.unwrap();
    let client = if random.bool() { Client::Parting } else { Client::Whole };
    // Two messages, whose recipients are mostly the same, in any order.
    let mut queue: Vec<Queued> = ["first", "second"]
        .map(|text| {
            let mut recipients: Vec<_> = (0..RECIPIENTS.len()).filter(|_| random.u8(..4) > 0).collect();
            random.shuffle(&mut recipients);
            Queued { text, recipients: recipients.into_iter().map(|recipient| (recipient, Left::Pending)).collect() }
        })
        .into();
    let mut world = World { ledger, random, client, truth: BTreeMap::new(), troubled: true, log: Vec::new() };
    for _ in 0..8 {
        let which = world.random.usize(..2);
        world.log.push(format!("{} {client:?}", queue[which].text));
        world.attempt(&mut queue[which]).await;
    }
    // Now all is well, and the clients get done.
    world.troubled = false;
    for message in &mut queue {
        for _ in 0..5 {
            world.log.push(format!("{} {client:?} (well)", message.text));
            world.attempt(message).await;
        }
    }
    let log = || format!("seed {seed}:\n{}\n{:?}", world.log.join("\n"), world.truth);
    for message in &queue {
        assert!(!message.is_pending(), "not done: {}\n{}", message.text, log());
        for (recipient, left) in &message.recipients {
            let truth = world.truth[&(message.text, *recipient)];
            let who = || format!("{} to {recipient} {left:?}\n{}", message.text, log());
            // Nobody gets two copies.
            assert!(truth.copies <= 1 + truth.excused, "two copies: {}", who());
            // Nobody gets none unless he was refused for good.
            assert!(truth.copies > 0 || truth.refused, "none: {}", who());
            let bounced = *left == Left::Bounced;
            match client {
                // Who bounces has it not, and who does not has it.
                Client::Parting => assert!(bounced == (truth.copies <= truth.excused && truth.refused), "{}", who()),
                Client::Whole => assert!(bounced || truth.copies > 0, "a bounce is missing: {}", who()),
            }
        }
        let truths = message.recipients.iter().map(|(recipient, _)| world.truth[&(message.text, *recipient)]);
        if client == Client::Whole && message.recipients.iter().any(|(_, left)| *left == Left::Bounced) {
            assert!(truths.into_iter().any(|truth| truth.refused), "nobody was refused: {}", log());
        }
    }
}

#[tokio::test]
async fn one_outcome_each() {
    let runs = std::env::var("DANELAW_LEDGER_RUNS").ok().map_or(400, |runs| runs.parse().unwrap());
    for seed in 0..runs {
        run(seed).await;
    }
}
