//! One question to several servers: the reply that comes first counts.
//!
//! The question goes to one server; when that one has taken longer than it mostly does, to the next one as well, and so on
//! (see [`pace`](super::pace)). No server is given up for it. A server that cannot be reached, or whose reply is none, is
//! passed over at once.
//!
//! The resolvers that the settings name are asked like this, and so are the authoritative servers of a zone. Each
//! [`RacedServers`] says how long to wait for one and which place a question to it needs, and takes note of the outcome.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::FailureReason;
use super::pace::Round;

/// The servers that one question may go to, each by its number.
pub(super) trait RacedServers: Send {
    /// The place that a question to one server holds.
    type Place;

    /// Waits for the place of a question to this server. No other server has the question at this time.
    ///
    /// # Errors
    /// The question ends: no server may be asked any more.
    fn enter(&mut self, server: usize) -> impl Future<Output = Result<Self::Place, FailureReason>> + Send;

    /// The place of a question to this server beside others that have it; none if there is none at this moment.
    fn enter_beside(&mut self, server: usize) -> Option<Self::Place>;

    /// How long to wait for a server that has been asked this question so many times before, until another one is asked
    /// beside it.
    fn wait(&self, server: usize, before: u32) -> Duration;

    /// A server has answered within that time.
    fn answered(&mut self, server: usize, took: Duration);

    /// A server has not answered within that time, and another one has.
    fn missed(&mut self, server: usize, after: Duration);

    /// A server has failed the question.
    fn failed(&mut self, server: usize, reason: &FailureReason);
}

/// Puts a question to one and another of these servers, by `exchange`. The last of them has `longest` for its reply.
///
/// # Errors
/// None of them answers: the gravest reason.
pub(super) async fn race<T, F: RacedServers, E>(
    servers: &mut F,
    round: Round,
    longest: Duration,
    exchange: impl Fn(usize, F::Place) -> E,
) -> Result<T, FailureReason>
where
    E: Future<Output = Result<T, FailureReason>>,
{
    let now = Instant::now();
    let mut runner = Runner { servers, round, longest, began: now, due: now, last: now, failed: None };
    let mut sent = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(arrival) = sent.next(), if !sent.is_empty() => {
                if let Some(result) = runner.arrives(arrival, sent.len()) {
                    return result;
                }
            }
            () = sleep_until(runner.due) => {
                let Some(NextServer { server, place }) = runner.next(sent.len()).await? else { continue };
                let asked = exchange(server, place);
                let since = Instant::now();
                sent.push(async move { Arrival { server, result: asked.await, took: since.elapsed() } });
            }
        }
    }
}

/// A question that is under way.
struct Runner<'a, F> {
    servers: &'a mut F,
    round: Round,
    longest: Duration,
    began: Instant,
    /// When the next server is asked, or the question ends.
    due: Instant,
    /// When a server was asked last.
    last: Instant,
    failed: Option<FailureReason>,
}

/// A server to ask.
struct NextServer<P> {
    server: usize,
    place: P,
}

/// The result of one server.
struct Arrival<T> {
    server: usize,
    took: Duration,
    result: Result<T, FailureReason>,
}

impl<F: RacedServers> Runner<'_, F> {
    /// The server to ask now, if there is one left.
    async fn next(&mut self, pending: usize) -> Result<Option<NextServer<F::Place>>, FailureReason> {
        let (now, end) = (Instant::now(), self.last + self.longest);
        let Some(server) = self.round.peek() else {
            if pending == 0 || now >= end {
                return Err(self.graver(FailureReason::Timeout));
            }
            self.due = end;
            return Ok(None);
        };
        let place = match pending {
            0 => self.servers.enter(server).await?,
            _ => match self.servers.enter_beside(server) {
                Some(place) => place,
                None => {
                    self.due = now + self.servers.wait(server, 0);
                    return Ok(None);
                }
            },
        };
        let now = Instant::now();
        let before = self.round.sent(server, now - self.began);
        let wait = if self.round.goes_on() { self.servers.wait(server, before) } else { self.longest };
        (self.last, self.due) = (now, now + wait);
        Ok(Some(NextServer { server, place }))
    }

    /// A server has answered or failed. The result, unless others may still answer.
    fn arrives<T>(&mut self, arrival: Arrival<T>, pending: usize) -> Option<Result<T, FailureReason>> {
        let Arrival { server, took, result } = arrival;
        self.round.end(server);
        let reason = match result {
            Ok(value) => {
                self.servers.answered(server, took);
                let now = self.began.elapsed();
                for (silent, since) in self.round.silent() {
                    let after = now.saturating_sub(since);
                    if after >= self.servers.wait(silent, 0) {
                        self.servers.missed(silent, after);
                    }
                }
                return Some(Ok(value));
            }
            Err(reason) => reason,
        };
        self.servers.failed(server, &reason);
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
