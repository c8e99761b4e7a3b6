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
const FIRST: Duration = Duration::from_millis(400);
/// The shortest wait.
const SHORTEST: Duration = Duration::from_millis(50);
/// So many questions in a row that another server answers and this one does not put it behind.
const MISSES: u32 = 3;
/// How long a server stands behind until it is asked first again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The times of all servers.
pub(super) struct Pace {
    servers: Vec<ServerPace>,
    longest: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct ServerPace {
    smoothed: Option<Duration>,
    variance: Duration,
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
        let known = self.servers.get(server).and_then(|server| Some(server.smoothed? + 4 * server.variance));
        let doubled = known.unwrap_or(FIRST).saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
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
    /// RFC 6298 §2.2, §2.3.
    fn measure(&mut self, took: Duration) {
        (self.smoothed, self.variance) = match self.smoothed {
            None => (Some(took), took / 2),
            Some(smoothed) => (Some((smoothed * 7 + took) / 8), (self.variance * 3 + smoothed.abs_diff(took)) / 4),
        };
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

/// A server to ask, and how often it has been asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Send {
    /// Its place in the configuration.
    pub(super) server: usize,
    /// How often it has been asked this question.
    pub(super) before: u32,
}

impl Round {
    /// Whether there is a server to ask.
    pub(super) fn goes_on(&self) -> bool {
        self.left > 0 && self.turns.iter().any(|turn| !turn.ended)
    }

    /// The server to ask next: each in its turn, and then each again.
    pub(super) fn next(&mut self, now: Duration) -> Option<Send> {
        self.left = self.left.checked_sub(1)?;
        let turn = self.turns.iter_mut().filter(|turn| !turn.ended).min_by_key(|turn| turn.sent)?;
        let send = Send { server: turn.server, before: turn.sent };
        turn.sent += 1;
        turn.since.get_or_insert(now);
        Some(send)
    }

    /// Whether the question has been sent once, and not more.
    pub(super) fn is_fresh(&self) -> bool {
        self.turns.iter().map(|turn| turn.sent).sum::<u32>() == 1
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
        let mut round = pace.round(0, now);
        std::iter::from_fn(|| round.next(now)).map(|send| send.server).collect()
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
        let mut round = pace.round(3, ms(0));
        let sends: Vec<_> = std::iter::from_fn(|| round.next(ms(0))).map(|send| (send.server, send.before)).collect();
        assert_eq!(sends, [(0, 0), (1, 0), (0, 1)]);
        let mut round = pace.round(1, ms(0));
        round.next(ms(0));
        round.end(0);
        assert!(round.goes_on());
        round.end(1);
        assert!(!round.goes_on() && round.next(ms(0)).is_none());
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
