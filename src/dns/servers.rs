//! All name servers as one: the reply that comes first counts.
//!
//! A question goes to one server; when that one has taken longer than it mostly does, to the next one as well, and so on
//! (see [`pace`](super::pace)). No question is given up for it. A server that cannot be reached, or whose reply is none, is
//! passed over at once. With one server the question is put again, with another ID and from another port.
//!
//! A question holds one place from its begin to its end, and there are not many. A zone whose servers are dead would take
//! all of them for seconds, so a question gives its place up after the time in which most are answered, and takes one of
//! those for old questions. If there is none while others wait, it ends without an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls::ClientConfig;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

use super::FailureReason;
use super::links::Question;
use super::pace::{Pace, Round};
use super::query::{Purpose, QueryClient};
use super::server::NameServer;
use super::setup::ResolverSettings;

/// How long a question is young at least. A burst of honest questions on a busy machine takes longer than one reply does.
const YOUNG: Duration = Duration::from_millis(400);
/// How many questions may be young at once, and how many old.
const PLACES: usize = 400;

/// The servers in use.
pub(super) struct Servers {
    clients: Vec<Arc<QueryClient>>,
    race: ServerRace,
}

impl Servers {
    /// Prepares to ask these servers; no question is sent yet.
    pub(super) fn new(servers: &[NameServer], settings: &ResolverSettings, tls: &Arc<ClientConfig>) -> Self {
        let client =
            |server: &NameServer| Arc::new(QueryClient::new(server.clone(), settings.timeout, Arc::clone(tls)));
        let race = ServerRace::new(servers.len(), settings.attempts, settings.timeout);
        Self { clients: servers.iter().map(client).collect(), race }
    }

    /// Puts one question, and reads the first reply that can be read.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn ask<T: Send>(
        &self,
        question: &Question,
        purpose: Purpose,
        read: impl Fn(&[u8]) -> Result<T, FailureReason> + Send + Sync,
    ) -> Result<T, FailureReason> {
        let read = &read;
        let exchange = |place: usize| async move {
            let client = self.clients.get(place).ok_or(FailureReason::Timeout)?;
            let reply = client.exchange(question, purpose).await?;
            if purpose == Purpose::Validate && refuses(&reply) {
                // Some servers do not know CD, and some keep a reply that was bogus to them and answer SERVFAIL where they
                // would ask another server of the zone without the bit (RFC 6840 appendix B). Its signatures are checked
                // here in any case.
                return read(&client.exchange(question, Purpose::TrustAd).await?);
            }
            read(&reply)
        };
        self.first(exchange).await
    }

    /// The first result of a question. `exchange` puts it to the server at this place in the list.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn first<T, F>(&self, exchange: impl Fn(usize) -> F) -> Result<T, FailureReason>
    where
        F: Future<Output = Result<T, FailureReason>>,
    {
        if self.clients.is_empty() {
            return Err(FailureReason::Network("no name server has passed its self-test".to_owned()));
        }
        // On the heap: with UDP, TCP and TLS in it, it is many times as large as what waits for it.
        Box::pin(self.race.run(exchange)).await
    }

    /// The servers, in their order.
    pub(super) fn clients(&self) -> &[Arc<QueryClient>] {
        &self.clients
    }
}

/// Whether a reply is FORMERR, SERVFAIL or REFUSED.
fn refuses(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| [1, 2, 5].contains(&(flags & 0x0f)))
}

/// The order and the times in which the servers are asked.
struct ServerRace {
    pace: Mutex<Pace>,
    places: Places,
    attempts: usize,
    timeout: Duration,
    epoch: Instant,
}

/// A question that is under way.
struct Runner<'a> {
    race: &'a ServerRace,
    round: Round,
    place: QuestionPlace<'a>,
    /// When the next server is asked, or the question ends.
    due: Instant,
    /// When the question gives up its place among the young ones.
    young_until: Instant,
    /// When a server was asked last.
    last: Instant,
    failed: Option<FailureReason>,
}

/// The result of one server.
struct Arrival<T> {
    server: usize,
    took: Duration,
    result: Result<T, FailureReason>,
}

impl ServerRace {
    fn new(servers: usize, attempts: usize, timeout: Duration) -> Self {
        let pace = Mutex::new(Pace::new(servers, timeout));
        Self { pace, places: Places::new(PLACES), attempts, timeout, epoch: Instant::now() }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one question. `exchange` puts it to one server.
    async fn run<T, F>(&self, exchange: impl Fn(usize) -> F) -> Result<T, FailureReason>
    where
        F: Future<Output = Result<T, FailureReason>>,
    {
        let place = timeout(self.timeout, self.places.take()).await.unwrap_or(Err(FailureReason::Timeout))?;
        let now = Instant::now();
        let round = self.pace().round(self.attempts, now - self.epoch);
        let mut runner = Runner { race: self, round, place, due: now, young_until: now, last: now, failed: None };
        let mut sent = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(arrival) = sent.next(), if !sent.is_empty() => {
                    if let Some(result) = runner.arrives(arrival, sent.len()) {
                        return result;
                    }
                }
                () = sleep_until(runner.young_until), if !sent.is_empty() && runner.place.is_young() => runner.ages()?,
                () = sleep_until(runner.due) => {
                    let Some(server) = runner.next(sent.len())? else { continue };
                    let asked = exchange(server);
                    let since = Instant::now();
                    sent.push(async move { Arrival { server, result: asked.await, took: since.elapsed() } });
                }
            }
        }
    }
}

impl Runner<'_> {
    /// The server to ask now, if there is one left.
    fn next(&mut self, pending: usize) -> Result<Option<usize>, FailureReason> {
        let (now, end) = (Instant::now(), self.last + self.race.timeout);
        let Some(send) = self.round.next(now - self.race.epoch) else {
            if pending == 0 || now >= end {
                return Err(self.graver(FailureReason::Timeout));
            }
            self.due = end;
            return Ok(None);
        };
        let wait = self.race.pace().wait(send.server, send.before);
        if self.round.is_fresh() {
            self.young_until = now + wait.max(YOUNG);
        }
        self.last = now;
        self.due = now + if self.round.goes_on() { wait } else { self.race.timeout };
        Ok(Some(send.server))
    }

    /// A server has answered or failed. The result, unless others may still answer.
    fn arrives<T>(&mut self, arrival: Arrival<T>, pending: usize) -> Option<Result<T, FailureReason>> {
        let (server, now) = (arrival.server, Instant::now() - self.race.epoch);
        self.round.end(server);
        let mut pace = self.race.pace();
        let reason = match arrival.result {
            Ok(value) => {
                pace.answered(server, arrival.took);
                for (silent, since) in self.round.silent() {
                    let after = now.saturating_sub(since);
                    if after >= pace.wait(silent, 0) {
                        pace.missed(silent, after, now);
                    }
                }
                return Some(Ok(value));
            }
            Err(reason) => reason,
        };
        if matches!(reason, FailureReason::Network(_)) {
            pace.refused(server, now);
        }
        drop(pace);
        // Without a socket for one server there is none for the next.
        let goes_on = self.round.goes_on() && !matches!(reason, FailureReason::Scarce(_));
        let reason = self.graver(reason);
        if pending == 0 && !goes_on {
            return Some(Err(reason));
        }
        self.failed = Some(reason);
        if goes_on {
            self.due = Instant::now();
        }
        None
    }

    /// The question is not young any more.
    fn ages(&mut self) -> Result<(), FailureReason> {
        match self.race.places.old.try_acquire() {
            Ok(permit) => self.place = QuestionPlace::Old { _permit: permit },
            // Others wait for a place.
            Err(_) if self.race.places.young.available_permits() == 0 => {
                return Err(self.graver(FailureReason::Timeout));
            }
            Err(_) => self.young_until = Instant::now() + self.race.pace().wait(0, 0),
        }
        Ok(())
    }

    /// The reason to report: a fault of this host before all, then a reply that is none, then silence.
    fn graver(&mut self, reason: FailureReason) -> FailureReason {
        let weight = |reason: &FailureReason| match reason {
            FailureReason::Network(_) => 0,
            FailureReason::Timeout => 1,
            FailureReason::Scarce(_) => 3,
            FailureReason::Bogus(_)
            | FailureReason::NotValidating
            | FailureReason::DeniedByFallback
            | FailureReason::Refused(_)
            | FailureReason::Malformed(_)
            | FailureReason::TooManyAliases(_)
            | FailureReason::TooManyRecords(_)
            | FailureReason::NameTooLong => 2,
        };
        match self.failed.take() {
            Some(before) if weight(&before) > weight(&reason) => before,
            Some(_) | None => reason,
        }
    }
}

/// The places of questions.
struct Places {
    young: Semaphore,
    old: Semaphore,
}

/// The place of one question.
enum QuestionPlace<'a> {
    Young { _permit: SemaphorePermit<'a> },
    Old { _permit: SemaphorePermit<'a> },
}

impl QuestionPlace<'_> {
    fn is_young(&self) -> bool {
        match self {
            Self::Young { .. } => true,
            Self::Old { .. } => false,
        }
    }
}

impl Places {
    fn new(each: usize) -> Self {
        Self { young: Semaphore::new(each), old: Semaphore::new(each) }
    }

    async fn take(&self) -> Result<QuestionPlace<'_>, FailureReason> {
        // The semaphore is never closed; should that change, the lookup fails.
        let permit = self.young.acquire().await.map_err(|error| FailureReason::Network(error.to_string()))?;
        Ok(QuestionPlace::Young { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::scarce::Scarcity;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn refused() -> FailureReason {
        FailureReason::Network("connection refused".to_owned())
    }

    fn servfail() -> FailureReason {
        FailureReason::Refused("SERVFAIL".to_owned())
    }

    /// The reply of a server: after that time, its number or a failure.
    type Script = (u64, Result<usize, FailureReason>);

    const NEVER: u64 = 3_600_000;

    /// Asks servers that act by the script, and tells how long it took and how many sends there were.
    async fn run(race: &ServerRace, script: &[Script]) -> (Result<usize, FailureReason>, u128, usize) {
        let (begin, sends) = (Instant::now(), AtomicUsize::new(0));
        let exchange = |server: usize| {
            sends.fetch_add(1, Ordering::Relaxed);
            let (after, result) = script[server].clone();
            async move {
                sleep(ms(after)).await;
                result
            }
        };
        let result = race.run(exchange).await;
        (result, begin.elapsed().as_millis(), sends.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_server_is_asked_when_the_first_takes_too_long_or_fails() {
        let scarce = FailureReason::Scarce(Scarcity::OwnDescriptors);
        for (script, attempts, expected) in [
            (vec![(10, Ok(0)), (10, Ok(1))], 3, (Ok(0), 10, 1)),
            // A server that is silent costs the first wait, and one that is dead costs none.
            (vec![(NEVER, Ok(0)), (10, Ok(1))], 3, (Ok(1), 410, 2)),
            (vec![(0, Err(refused())), (10, Ok(1))], 3, (Ok(1), 10, 2)),
            (vec![(5, Err(servfail())), (10, Ok(1))], 1, (Ok(1), 15, 2)),
            // The first one is late, and counts.
            (vec![(450, Ok(0)), (NEVER, Ok(1))], 3, (Ok(0), 450, 2)),
            // All are dead: there is nothing to wait for.
            (vec![(0, Err(refused())), (0, Err(refused()))], 3, (Err(refused()), 0, 2)),
            (vec![(0, Err(refused()))], 3, (Err(refused()), 0, 1)),
            // The second send waits twice as long; after the third the time-out remains.
            (vec![(NEVER, Ok(0))], 3, (Err(FailureReason::Timeout), 400 + 800 + 3000, 3)),
            (vec![(NEVER, Ok(0))], 1, (Err(FailureReason::Timeout), 3000, 1)),
            (vec![(0, Err(refused())), (NEVER, Ok(1))], 2, (Err(FailureReason::Timeout), 3000, 2)),
            (vec![(5, Err(servfail())), (NEVER, Ok(1))], 2, (Err(servfail()), 3005, 2)),
            (vec![(5, Err(servfail())), (5, Err(refused()))], 2, (Err(servfail()), 10, 2)),
            (vec![(0, Err(scarce.clone())), (0, Ok(1))], 3, (Err(scarce), 0, 1)),
        ] {
            let race = ServerRace::new(script.len(), attempts, TIMEOUT);
            assert_eq!(run(&race, &script).await, expected, "{script:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_server_costs_little_after_the_first_questions() {
        for first in [(NEVER, Ok(0)), (0, Err(refused()))] {
            let (race, script) = (ServerRace::new(2, 3, TIMEOUT), [first, (20, Ok(1))]);
            for _ in 0..5 {
                assert_eq!(run(&race, &script).await.0, Ok(1));
            }
            assert_eq!(run(&race, &script).await, (Ok(1), 20, 1), "{script:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_go_on_while_a_thousand_names_of_a_dead_zone_are_asked() {
        let race = Arc::new(ServerRace::new(1, 3, TIMEOUT));
        run(&race, &[(20, Ok(0))]).await.0.unwrap();
        let dead: Vec<_> = (0..1000)
            .map(|_| {
                let race = Arc::clone(&race);
                tokio::spawn(async move { run(&race, &[(NEVER, Ok(0))]).await.0 })
            })
            .collect();
        tokio::task::yield_now().await;
        for _ in 0..50 {
            let (result, took, _) = run(&race, &[(20, Ok(0))]).await;
            assert!(result.is_ok() && took < 1000, "{result:?} after {took} ms");
        }
        for dead in dead {
            assert_eq!(dead.await.unwrap(), Err(FailureReason::Timeout));
        }
        assert_eq!(race.places.young.available_permits() + race.places.old.available_permits(), 2 * PLACES);
    }
}
