//! All name servers of the settings as one: the reply that comes first counts ([`race`]).
//!
//! With one server the question is put again, with another ID and from another port.
//!
//! A question holds one place from its begin to its end, and there are not many. A zone whose servers are dead would take
//! all of them for seconds, so a question gives its place up after the time in which most are answered, and takes one of
//! those for old questions. If there is none while others wait, it ends without an answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

use super::FailureReason;
use super::links::Question;
use super::pace::Pace;
use super::query::{Purpose, QueryClient};
use super::race::{RacedServers, race};
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
    ) -> Result<ReadReply<T>, FailureReason> {
        let read = &read;
        let exchange = |place: usize| async move {
            let reply = self.exchange(place, question, purpose).await?;
            Ok(ReadReply { value: read(&reply)?, place })
        };
        self.first(exchange).await
    }

    /// The reply of the server at this place.
    async fn exchange(&self, place: usize, question: &Question, purpose: Purpose) -> Result<Vec<u8>, FailureReason> {
        let client = self.clients.get(place).ok_or(FailureReason::Timeout)?;
        let reply = client.exchange(question, purpose).await?;
        if purpose == Purpose::Validate && refuses(&reply) {
            // Some servers do not know CD, and some keep a reply that was bogus to them and answer SERVFAIL where they
            // would ask another server of the zone without the bit (RFC 6840 appendix B). Its signatures are checked
            // here in any case.
            return client.exchange(question, Purpose::TrustAd).await;
        }
        Ok(reply)
    }

    /// Asks again, where the reply of the server at this place proves nothing. The next server is asked; if there is none, the
    /// same one without CD: with CD it may repeat the reply in its cache (RFC 6840 appendix B).
    ///
    /// # Errors
    /// There is no reply that can be read.
    pub(super) async fn ask_another<T>(
        &self,
        question: &Question,
        place: usize,
        read: impl Fn(&[u8]) -> Result<T, FailureReason>,
    ) -> Result<T, FailureReason> {
        let next = (place + 1) % self.clients.len().max(1);
        let purpose = if next == place { Purpose::TrustAd } else { Purpose::Validate };
        // On the heap, as in `first`.
        read(&Box::pin(self.race.once(next, self.exchange(next, question, purpose))).await?)
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

/// A reply that was read, and the place of its server in the list.
pub(super) struct ReadReply<T> {
    pub(super) value: T,
    pub(super) place: usize,
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

impl ServerRace {
    fn new(servers: usize, attempts: usize, timeout: Duration) -> Self {
        let pace = Mutex::new(Pace::new(servers, timeout));
        Self { pace, places: Places::new(PLACES), attempts, timeout, epoch: Instant::now() }
    }

    /// A place for one question, within its time-out.
    async fn place(&self) -> Result<QuestionPlace<'_>, FailureReason> {
        timeout(self.timeout, self.places.take()).await.unwrap_or(Err(FailureReason::Timeout))
    }

    /// Runs one question. `exchange` puts it to one server.
    async fn run<T, F>(&self, exchange: impl Fn(usize) -> F) -> Result<T, FailureReason>
    where
        F: Future<Output = Result<T, FailureReason>>,
    {
        let place = self.place().await?;
        let round = self.pace.lock().round(self.attempts, self.epoch.elapsed());
        let first = round.peek().map_or(YOUNG, |server| self.pace.lock().wait(server, 0));
        let mut field = ConfiguredServers(self);
        let asking = race(&mut field, round, self.timeout, |server, ()| exchange(server));
        self.places.hold(place, first, asking).await
    }

    /// Puts one question to one server.
    async fn once<T>(
        &self,
        server: usize,
        exchange: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let place = self.place().await?;
        let first = self.pace.lock().wait(server, 0);
        let asking = async { timeout(self.timeout, exchange).await.unwrap_or(Err(FailureReason::Timeout)) };
        self.places.hold(place, first, asking).await
    }
}

/// The servers of the settings. They need no places: their question has one.
struct ConfiguredServers<'a>(&'a ServerRace);

impl RacedServers for ConfiguredServers<'_> {
    type Place = ();

    async fn enter(&mut self, _: usize) -> Result<(), FailureReason> {
        Ok(())
    }

    fn enter_beside(&mut self, _: usize) -> Option<()> {
        Some(())
    }

    fn wait(&self, server: usize, before: u32) -> Duration {
        self.0.pace.lock().wait(server, before)
    }

    fn answered(&mut self, server: usize, took: Duration) {
        self.0.pace.lock().answered(server, took);
    }

    fn missed(&mut self, server: usize, after: Duration) {
        self.0.pace.lock().missed(server, after, self.0.epoch.elapsed());
    }

    fn failed(&mut self, server: usize, reason: &FailureReason) {
        if matches!(reason, FailureReason::Network(_)) {
            self.0.pace.lock().refused(server, self.0.epoch.elapsed());
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

    /// Waits for the reply to a question with this place, whose first server mostly answers within that time.
    ///
    /// # Errors
    /// Those of the question; or it takes long while others wait for a place.
    async fn hold<T>(
        &self,
        mut place: QuestionPlace<'_>,
        first: Duration,
        asking: impl Future<Output = Result<T, FailureReason>>,
    ) -> Result<T, FailureReason> {
        let mut asking = pin!(asking);
        let mut young_until = Instant::now() + first.max(YOUNG);
        loop {
            tokio::select! {
                biased;
                asked = &mut asking => return asked,
                () = sleep_until(young_until), if place.is_young() => match self.old.try_acquire() {
                    Ok(permit) => place = QuestionPlace::Old { _permit: permit },
                    Err(_) if self.young.available_permits() == 0 => return Err(FailureReason::Timeout),
                    Err(_) => young_until = Instant::now() + first,
                },
            }
        }
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
