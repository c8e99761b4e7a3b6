//! Random interleavings of danelaws on one database, under every fault that a fleet meets: a client hears again and again until
//! its message is done, and no recipient is left out or gets a second copy that the page does not name.
//!
//! A round is one message, which two copies of the client's program send to any danelaw. A second copy is allowed where a danelaw
//! died, or lost the database, between a remote's 250 and its record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use danelaw::journal::{Journal, Pair, StorePlace};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::server::{Proxy, Server};
use super::{at, claim, delivered};
use crate::journal::pair;

/// How long a claim is held, in seconds.
const HOLD: u64 = 600;
/// The danelaws.
const DANELAWS: usize = 3;

/// The number of rounds: `ROUNDS`, or 5,000 with `LONG_TESTS`, or a few.
fn rounds() -> u64 {
    let asked = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(if crate::lab::long() { 5000 } else { 40 })
}

/// The fault of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RoundFault {
    None,
    /// A danelaw dies between a remote's 250 and its record.
    Killed,
    /// A connection to the database is cut at some octet.
    Cut,
    /// A danelaw loses the database for a moment.
    Parted,
    /// The server stands still for a moment.
    Stopped,
    /// The server crashes, and comes back.
    Failover,
    /// Its clock is set.
    ClockStep,
}

impl RoundFault {
    fn any(random: &mut fastrand::Rng) -> Self {
        match random.u8(..100) {
            0..30 => Self::None,
            30..50 => Self::Killed,
            50..80 => Self::Cut,
            80..83 => Self::Parted,
            83..86 => Self::Stopped,
            86..88 => Self::Failover,
            88..=u8::MAX => Self::ClockStep,
        }
    }
}

/// One danelaw: a process with its own way to the database.
struct Danelaw {
    process: Runtime,
    journal: Journal,
}

impl Danelaw {
    async fn start(proxy: &Proxy) -> Self {
        let process = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut settings = proxy.settings();
        settings.patience = Duration::from_millis(300);
        let mut settings = at(StorePlace::Database(Box::new(settings)));
        settings.hold = Duration::from_secs(HOLD);
        let journal = process.spawn(Journal::open(settings)).await.unwrap().unwrap().0;
        Self { process, journal }
    }
}

/// All of them.
struct Fleet {
    server: Mutex<Server>,
    proxies: Vec<Proxy>,
    danelaws: Mutex<Vec<Option<Danelaw>>>,
}

impl Fleet {
    async fn start() -> Self {
        let server = Server::start();
        let proxies: Vec<_> = (0..DANELAWS).map(|_| Proxy::before(&server)).collect();
        let mut danelaws = Vec::new();
        for proxy in &proxies {
            danelaws.push(Some(Danelaw::start(proxy).await));
        }
        server.sql(
            "CREATE TABLE danelaw.steps (seconds bigint NOT NULL); \
             CREATE OR REPLACE FUNCTION danelaw.clock() RETURNS bigint LANGUAGE sql VOLATILE AS \
             'SELECT floor(extract(epoch FROM clock_timestamp()))::bigint + (SELECT coalesce(sum(seconds), 0) FROM danelaw.steps)::bigint'",
        );
        Self { server: Mutex::new(server), proxies, danelaws: Mutex::new(danelaws) }
    }

    /// The server. It dies with the thread that has started it, so the test's own thread starts it anew.
    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    fn step_clock(&self, seconds: i64) {
        self.server().sql(&format!("INSERT INTO danelaw.steps VALUES ({seconds})"));
    }

    /// A danelaw dies with all that it was doing, and another one takes its place.
    async fn replace(&self, place: usize) {
        let killed = self.danelaws.lock().unwrap()[place].take();
        if let Some(killed) = killed {
            killed.process.shutdown_background();
        }
        let next = Danelaw::start(&self.proxies[place]).await;
        self.danelaws.lock().unwrap()[place] = Some(next);
    }

    /// A danelaw's answer to a client; none if it died in between, or is not there.
    async fn answer(&self, place: usize, attempt: Attempt) -> Option<Answer> {
        let running = {
            let danelaws = self.danelaws.lock().unwrap();
            let danelaw = danelaws[place].as_ref()?;
            danelaw.process.spawn(attempt.run(danelaw.journal.clone(), place))
        };
        match running.await {
            Ok(answer) => Some(answer),
            Err(error) if error.is_cancelled() => None,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// The answer to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    Again,
}

/// The truth about a message.
#[derive(Debug, Default)]
struct MessageTruth {
    /// A session is between its claim and its end.
    is_held: bool,
    is_done: bool,
    recorded: BTreeSet<Pair>,
    copies: BTreeMap<Pair, usize>,
    /// Copies of which no danelaw could keep that they went out.
    unknown: BTreeMap<Pair, usize>,
}

/// The one death of a round, if there is to be one.
type Death = Arc<Mutex<Option<oneshot::Sender<usize>>>>;

/// One attempt of a client.
struct Attempt {
    text: String,
    to: Arc<Vec<Pair>>,
    truth: Arc<Mutex<MessageTruth>>,
    random: fastrand::Rng,
    /// The first danelaw that comes to a 250 says so here, and dies.
    death: Death,
}

impl Attempt {
    async fn run(mut self, journal: Journal, place: usize) -> Answer {
        let Ok(mut open) = claim(&journal, &self.text, &self.to).await else { return Answer::Again };
        if self.begin() == Answer::Done {
            // The other program has had the last answer meanwhile; sent once more, it would be a new message.
            let _ = open.delete().await;
            return Answer::Done;
        }
        let mut left = 0;
        for recipient in self.to.iter().copied() {
            let is_known = open.outcome(recipient).is_some();
            let is_recorded = self.truth.lock().unwrap().recorded.contains(&recipient);
            assert!(is_known || !is_recorded, "a second copy of {}", self.text);
            if is_known {
                continue;
            }
            tokio::time::sleep(Duration::from_micros(self.random.u64(..500))).await;
            if self.random.u8(..3) == 0 {
                left += 1;
                continue;
            }
            *self.truth.lock().unwrap().copies.entry(recipient).or_default() += 1;
            if self.dies(recipient, place) {
                std::future::pending::<()>().await;
            }
            let recorded = open.record([(recipient, delivered("1"))]).await;
            let mut truth = self.truth.lock().unwrap();
            match recorded {
                Ok(()) => drop(truth.recorded.insert(recipient)),
                // The log says "possible duplicate".
                Err(_) => *truth.unknown.entry(recipient).or_default() += 1,
            }
        }
        {
            let mut truth = self.truth.lock().unwrap();
            truth.is_held = false;
            truth.is_done = left == 0;
        }
        match (left, self.random.u8(..3)) {
            // The client hears the last answer, whether or not the record could be deleted.
            (0, _) => {
                let _ = open.delete().await;
                return Answer::Done;
            }
            // The session is cut.
            (_, 0) => drop(open),
            _ => open.release().await,
        }
        Answer::Again
    }

    /// V2: no other session has the message.
    fn begin(&self) -> Answer {
        let mut truth = self.truth.lock().unwrap();
        if truth.is_done {
            return Answer::Done;
        }
        assert!(!truth.is_held, "two danelaws have {}", self.text);
        truth.is_held = true;
        Answer::Again
    }

    /// Whether the danelaw dies here, between a remote's 250 and its record.
    fn dies(&self, recipient: Pair, place: usize) -> bool {
        let Some(death) = self.death.lock().unwrap().take() else { return false };
        let mut truth = self.truth.lock().unwrap();
        *truth.unknown.entry(recipient).or_default() += 1;
        truth.is_held = false;
        death.send(place).is_ok()
    }
}

/// A client's program, which sends the message until it is done.
async fn client(fleet: Arc<Fleet>, attempt: impl Fn(fastrand::Rng) -> Attempt, mut random: fastrand::Rng) {
    for _ in 0..4000 {
        let attempt = attempt(random.fork());
        let (text, truth) = (attempt.text.clone(), Arc::clone(&attempt.truth));
        if fleet.answer(random.usize(..DANELAWS), attempt).await == Some(Answer::Done) {
            assert!(truth.lock().unwrap().is_done, "{text}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..5))).await;
    }
    panic!("a message is busy for ever");
}

/// Brings the fault about, and mends it.
async fn harm(fleet: &Fleet, fault: RoundFault, mut random: fastrand::Rng, death: oneshot::Receiver<usize>) {
    let proxy = &fleet.proxies[random.usize(..DANELAWS)];
    tokio::time::sleep(Duration::from_millis(random.u64(..8))).await;
    match fault {
        RoundFault::None => {}
        RoundFault::Killed => {
            if let Ok(place) = death.await {
                fleet.replace(place).await;
                // Others answer 451 until the claim ends by the clock of the database.
                fleet.step_clock(HOLD as i64 + 1);
            }
        }
        RoundFault::Cut => proxy.cut_after(random.i64(..3000)),
        RoundFault::Parted => {
            proxy.part();
            tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
            proxy.join();
        }
        RoundFault::Stopped => {
            fleet.server().signal("STOP");
            tokio::time::sleep(Duration::from_millis(random.u64(..600))).await;
            fleet.server().signal("CONT");
        }
        RoundFault::Failover => {
            let mut server = fleet.server();
            server.crash();
            server.up();
        }
        // Less than the slack of a claim.
        RoundFault::ClockStep => fleet.step_clock(random.i64(-5..50)),
    }
}

async fn round(fleet: &Arc<Fleet>, number: u64) -> (RoundFault, usize) {
    let mut random = fastrand::Rng::with_seed(number);
    let fault = RoundFault::any(&mut random);
    let truth = Arc::new(Mutex::new(MessageTruth::default()));
    let to: Vec<Pair> = (0..random.u64(2..5)).map(|at| pair(&format!("r{at}@{}.test", number % 7))).collect();
    let to = Arc::new(to);
    let (death, dead) = oneshot::channel();
    let death: Death = Arc::new(Mutex::new(Some(death).filter(|_| fault == RoundFault::Killed)));
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (truth, to, death) = (Arc::clone(&truth), Arc::clone(&to), Arc::clone(&death));
        let attempt = move |random| Attempt {
            text: format!("round {number}"),
            to: Arc::clone(&to),
            truth: Arc::clone(&truth),
            random,
            death: Arc::clone(&death),
        };
        clients.push(tokio::spawn(client(Arc::clone(fleet), attempt, random.fork())));
    }
    drop(death);
    harm(fleet, fault, random.fork(), dead).await;
    for client in clients {
        client.await.unwrap_or_else(|error| panic!("round {number}, {fault:?}: {error}"));
    }
    let truth = truth.lock().unwrap();
    for recipient in to.iter() {
        let copies = truth.copies.get(recipient).copied().unwrap_or_default();
        let unknown = truth.unknown.get(recipient).copied().unwrap_or_default();
        // No recipient is left out, and each further copy has a reason.
        assert!(copies >= 1 && copies <= 1 + unknown, "round {number}, {fault:?}: {truth:?}");
    }
    (fault, truth.unknown.values().sum())
}

/// V1, V2, V4, V6, V24.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_v2_v4_v6_v24_no_fault_of_a_fleet_loses_mail_or_brings_a_second_copy_without_a_reason() {
    let fleet = Arc::new(Fleet::start().await);
    let mut seen = BTreeMap::<String, (usize, usize)>::new();
    for number in 0..rounds() {
        let (fault, unknown) = round(&fleet, number).await;
        let (rounds, all) = seen.entry(format!("{fault:?}")).or_default();
        (*rounds, *all) = (*rounds + 1, *all + unknown);
    }
    println!("rounds, and outcomes that could not be kept: {seen:?}");
    // Without a fault only a machine with much other work is too slow for the patience.
    for fault in [RoundFault::None, RoundFault::ClockStep, RoundFault::Cut] {
        let (rounds, unknown) = seen.get(&format!("{fault:?}")).copied().unwrap_or_default();
        assert!(unknown <= 2 + rounds / 10, "{seen:?}");
    }
    assert_eq!(fleet.server().sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
    let danelaws = std::mem::take(&mut *fleet.danelaws.lock().unwrap());
    danelaws.into_iter().flatten().for_each(|danelaw| danelaw.process.shutdown_background());
}
