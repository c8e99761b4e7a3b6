//! Which name server is asked next, and how long after the one before: from the times that the servers have taken.
//!
//! Each server has a smoothed time and its variance, as a TCP connection has (RFC 6298 §2). A question that has no reply
//! within this time goes to the next server as well; the first one may still answer. Servers stand in the configured order,
//! and those that do not answer stand behind. One of them is asked first again from time to time, or its recovery would
//! not be seen.
//!
//! Times are counted from any one moment.

use std::time::Duration;

/// The wait for a server that has not been asked yet.
pub(super) const FIRST: Duration = Duration::from_millis(400);
/// The shortest wait.
pub(super) const SHORTEST: Duration = Duration::from_millis(50);
/// So many questions in a row that another server answers and this one does not put it behind.
pub(super) const MISSES: u32 = 3;
/// How long a server stands behind until it is asked first again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The times of all servers.
pub(super) struct Pace {
    servers: Vec<ServerPace>,
    longest: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct ServerPace {
    trip: Option<RoundTrip>,
    misses: u32,
    /// Since when it stands behind, or when it was tried last since.
    behind: Option<Duration>,
}

impl Pace {
    /// So many servers, and the longest wait for one.
    pub(super) fn new(servers: usize, longest: Duration) -> Self {
        Self { servers: vec![ServerPace::default(); servers], longest }
    }

    /// The order of the servers for a question at this time, which is put `sends` times at the most, and once to each server
    /// at the least.
    pub(super) fn round(&mut self, sends: usize, now: Duration) -> Round {
        let due = |since: Duration| now.saturating_sub(since) >= RETRY_AFTER;
        let retried = self.servers.iter().position(|server| server.behind.is_some_and(due));
        let key = |(place, server): (usize, &ServerPace)| match server.behind {
            _ if Some(place) == retried => (0, Duration::ZERO, place),
            None => (1, Duration::ZERO, place),
            Some(since) => (2, since, place),
        };
        let mut keys: Vec<_> = self.servers.iter().enumerate().map(key).collect();
        keys.sort_unstable();
        let turns = keys.into_iter().map(|(_, _, server)| ServerTurn { server, sent: 0, since: None, ended: false });
        // One question pays for the trial, and not all that come until it has ended.
        if let Some(server) = retried.and_then(|place| self.servers.get_mut(place)) {
            server.behind = Some(now);
        }
        let turns: Vec<ServerTurn> = turns.collect();
        Round { left: sends.max(turns.len()), turns }
    }

    /// How long to wait for a server that has been asked this question so many times before (RFC 6298 §5.5).
    pub(super) fn wait(&self, server: usize, before: u32) -> Duration {
        let known = self.servers.get(server).and_then(|server| server.trip);
        let doubled = known.map_or(FIRST, RoundTrip::wait);
        let doubled = doubled.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
        doubled.max(SHORTEST).min(self.longest)
    }

    /// It has answered within that time.
    pub(super) fn answered(&mut self, server: usize, took: Duration) {
        let Some(server) = self.servers.get_mut(server) else { return };
        server.measure(took);
        (server.misses, server.behind) = (0, None);
    }

    /// It has not answered within that time, and another server has.
    pub(super) fn missed(&mut self, server: usize, after: Duration, now: Duration) {
        let Some(server) = self.servers.get_mut(server) else { return };
        server.measure(after);
        server.misses += 1;
        if server.misses >= MISSES {
            *server = ServerPace { misses: server.misses, behind: Some(now), ..ServerPace::default() };
        }
    }

    /// There is no server, or it cannot be reached.
    pub(super) fn refused(&mut self, server: usize, now: Duration) {
        if let Some(server) = self.servers.get_mut(server) {
            server.behind = Some(now);
        }
    }
}

impl ServerPace {
    fn measure(&mut self, took: Duration) {
        self.trip = Some(self.trip.map_or_else(|| RoundTrip::first(took), |trip| trip.then(took)));
    }
}

/// The time that a server takes, smoothed, and its variance (RFC 6298 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variance: Duration,
}

impl RoundTrip {
    /// Of one measurement (RFC 6298 §2.2).
    pub(super) fn first(took: Duration) -> Self {
        Self { smoothed: took, variance: took / 2 }
    }

    /// With one more measurement (RFC 6298 §2.3).
    #[must_use]
    pub(super) fn then(self, took: Duration) -> Self {
        let Self { smoothed, variance } = self;
        Self { smoothed: (smoothed * 7 + took) / 8, variance: (variance * 3 + smoothed.abs_diff(took)) / 4 }
    }

    pub(super) fn smoothed(self) -> Duration {
        self.smoothed
    }

    /// The time in which the server mostly answers.
    pub(super) fn wait(self) -> Duration {
        self.smoothed + 4 * self.variance
    }
}

/// The servers in the order in which one question goes to them.
#[derive(Debug)]
pub(super) struct Round {
    turns: Vec<ServerTurn>,
    left: usize,
}

#[derive(Debug)]
struct ServerTurn {
    server: usize,
    sent: u32,
    /// When it was asked first.
    since: Option<Duration>,
    ended: bool,
}

impl Round {
    /// Each of so many servers once, in their order.
    pub(super) fn once(servers: usize) -> Self {
        let turns = (0..servers).map(|server| ServerTurn { server, sent: 0, since: None, ended: false }).collect();
        Self { turns, left: servers }
    }

    /// Whether there is a server to ask.
    pub(super) fn goes_on(&self) -> bool {
        self.peek().is_some()
    }

    /// The server to ask next: each in its turn, and then each again.
    pub(super) fn peek(&self) -> Option<usize> {
        let turns = self.turns.iter().filter(|turn| self.left > 0 && !turn.ended);
        turns.min_by_key(|turn| turn.sent).map(|turn| turn.server)
    }

    /// A server is asked at this time. Tells how often it has been asked before.
    pub(super) fn sent(&mut self, server: usize, now: Duration) -> u32 {
        self.left = self.left.saturating_sub(1);
        let Some(turn) = self.turns.iter_mut().find(|turn| turn.server == server) else { return 0 };
        turn.since.get_or_insert(now);
        turn.sent += 1;
        turn.sent - 1
    }

    /// A server has failed the question, and is not asked again.
    pub(super) fn end(&mut self, server: usize) {
        self.turns.iter_mut().filter(|turn| turn.server == server).for_each(|turn| turn.ended = true);
    }

    /// The servers that have been asked and have neither answered nor failed, with the times at which they were asked first.
    pub(super) fn silent(&self) -> impl Iterator<Item = (usize, Duration)> {
        self.turns.iter().filter(|turn| !turn.ended).filter_map(|turn| Some((turn.server, turn.since?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(3);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn order(pace: &mut Pace, now: Duration) -> Vec<usize> {
        sends(&mut pace.round(0, now)).into_iter().map(|(server, _)| server).collect()
    }

    /// The servers that are asked, each with the number of times that it has been asked before.
    fn sends(round: &mut Round) -> Vec<(usize, u32)> {
        std::iter::from_fn(|| round.peek().map(|server| (server, round.sent(server, ms(0))))).collect()
    }

    #[test]
    fn the_wait_follows_the_times_of_the_server() {
        for (times, wait) in [
            (vec![], 400),
            (vec![100], 300),
            (vec![1], 50),
            (vec![10; 50], 50),
            (vec![200; 50], 200),
            (vec![5000], 3000),
            (vec![20; 20].into_iter().chain([500]).collect(), 560),
        ] {
            let mut pace = Pace::new(1, LONGEST);
            times.iter().for_each(|took| pace.answered(0, ms(*took)));
            let waits = pace.wait(0, 0);
            assert!(waits.abs_diff(ms(wait)) < ms(12), "{times:?}: {waits:?}");
        }
    }

    #[test]
    fn the_wait_doubles_for_each_send_up_to_the_longest() {
        let pace = Pace::new(1, LONGEST);
        assert_eq!([0, 1, 2, 3, 40].map(|before| pace.wait(0, before)), [400, 800, 1600, 3000, 3000].map(ms));
    }

    #[test]
    fn each_server_has_its_turn_and_then_each_again() {
        let mut pace = Pace::new(2, LONGEST);
        assert_eq!(sends(&mut pace.round(3, ms(0))), [(0, 0), (1, 0), (0, 1)]);
        assert_eq!(sends(&mut Round::once(3)), [(0, 0), (1, 0), (2, 0)]);
        let mut round = pace.round(1, ms(0));
        round.sent(0, ms(0));
        round.end(0);
        assert!(round.goes_on());
        round.end(1);
        assert!(!round.goes_on() && sends(&mut round).is_empty());
    }

    #[test]
    fn servers_that_do_not_answer_stand_behind_and_are_tried_now_and_then() {
        let mut pace = Pace::new(3, LONGEST);
        assert_eq!(order(&mut pace, ms(0)), [0, 1, 2]);
        pace.refused(0, ms(0));
        assert_eq!(order(&mut pace, ms(1)), [1, 2, 0]);
        for _ in 0..MISSES {
            assert_eq!(order(&mut pace, ms(1)), [1, 2, 0]);
            pace.missed(1, ms(400), ms(5));
        }
        assert_eq!(order(&mut pace, ms(6)), [2, 0, 1]);
        // One question after ten seconds, and then none until ten more have passed.
        assert_eq!(order(&mut pace, ms(10_000)), [0, 2, 1]);
        assert_eq!(order(&mut pace, ms(10_001)), [2, 1, 0]);
        assert_eq!(order(&mut pace, ms(10_005)), [1, 2, 0]);
        pace.answered(1, ms(20));
        assert_eq!(order(&mut pace, ms(10_006)), [1, 2, 0]);
    }
}
