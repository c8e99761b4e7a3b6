//! Sessions under the policies `encrypt` and `may`, counted until the next minute, for the memory of hosts.

use std::collections::HashMap;

use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::name::Name;
use crate::policy::host_session::{HostSession, SessionNote, SessionWord};
use crate::store::HostSessions;

/// The most counts. A session that needs a further one is left out: the memory learns from later ones.
const MOST: usize = 10_000;

/// The sessions since the last minute.
#[derive(Debug, Default)]
pub struct HostSessionCounts {
    counts: Mutex<HashMap<CountedHost, CountedSessions>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CountedHost {
    host: Name,
    port: u16,
    day: i64,
    word: SessionWord,
}

#[derive(Debug)]
struct CountedSessions {
    sessions: i64,
    last: i64,
    note: SessionNote,
}

impl HostSessionCounts {
    /// Counts a session of now.
    pub(super) fn note(&self, session: HostSession, now: OffsetDateTime) {
        let HostSession { host, port, word, leaf, roots } = session;
        let key = CountedHost { host, port, day: i64::from(now.date().to_julian_day()), word };
        let note = SessionNote { leaf, roots };
        let mut counts = self.counts.lock();
        if let Some(counted) = counts.get_mut(&key) {
            let sessions = counted.sessions + 1;
            *counted = CountedSessions { sessions, last: now.unix_timestamp(), note };
        } else if counts.len() < MOST {
            counts.insert(key, CountedSessions { sessions: 1, last: now.unix_timestamp(), note });
        }
    }

    /// The sessions so far, as the store takes them; they are forgotten here.
    pub fn take(&self) -> Vec<HostSessions> {
        let counts = std::mem::take(&mut *self.counts.lock());
        let row = |(key, counted): (CountedHost, CountedSessions)| HostSessions {
            host: key.host.to_string(),
            port: key.port,
            day: key.day,
            word: key.word.as_str().to_owned(),
            sessions: counted.sessions,
            last: counted.last,
            // It has plain texts and numbers alone.
            note: serde_json::to_string(&counted.note).unwrap_or_default(),
        };
        counts.into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dane::pkix::PkixWorth;
    use crate::policy::Mode;
    use crate::policy::host_session::LeafNote;
    use crate::report::{Outcome, Reporter};

    fn session(host: &str, worth: PkixWorth) -> HostSession {
        let leaf = Some(LeafNote { issuer: "CA".to_owned(), ends: 9 });
        HostSession { host: Name::parse(host).unwrap(), port: 25, word: SessionWord::Tls(worth), leaf, roots: 7 }
    }

    #[test]
    fn u11_sessions_of_a_minute_are_one_row() {
        // U11: a row for each host, port, day and result.
        let (counts, now) = (HostSessionCounts::default(), OffsetDateTime::from_unix_timestamp(1_000_000).unwrap());
        for (second, worth) in (0..).zip([PkixWorth::Valid, PkixWorth::Valid, PkixWorth::Expired, PkixWorth::Valid]) {
            counts.note(session("mx.example", worth), now + time::Duration::seconds(second));
        }
        let mut rows = counts.take();
        rows.sort_by_key(|row| row.last);
        let short: Vec<_> = rows.iter().map(|row| (row.word.as_str(), row.sessions, row.last - 1_000_000)).collect();
        assert_eq!(short, [("expired", 1, 2), ("valid", 3, 3)]);
        assert_eq!((rows[0].host.as_str(), rows[0].port, rows[0].day), ("mx.example", 25, 2_440_599));
        assert_eq!(rows[0].note, r#"{"leaf":{"issuer":"CA","ends":9},"roots":7}"#);
        assert_eq!(counts.take(), []);
    }

    #[test]
    fn u7_a_full_minute_leaves_hosts_out() {
        // U7.
        let (counts, now) = (HostSessionCounts::default(), OffsetDateTime::UNIX_EPOCH);
        (0..MOST + 5).for_each(|host| counts.note(session(&format!("mx{host}.example"), PkixWorth::Valid), now));
        assert_eq!(counts.take().len(), MOST);
    }

    #[test]
    fn sessions_are_counted_where_there_is_a_memory() {
        let outcome = Outcome::unfinished(&Name::parse("example").unwrap(), Mode::Enforce);
        outcome.seen.host_session(session("mx.example", PkixWorth::Valid));
        Reporter::new(0).report(&outcome);
        let reporter = Reporter::new(0).learning_hosts();
        reporter.report(&outcome);
        reporter.report(&outcome);
        let rows = reporter.host_sessions().unwrap().take();
        assert_eq!(rows.iter().map(|row| row.sessions).collect::<Vec<_>>(), [1]);
    }
}
