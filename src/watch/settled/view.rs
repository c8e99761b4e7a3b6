//! The memory of a host for people, and for `danelaw rules suggest`.

use serde::{Deserialize, Serialize};
use time::Date;

use super::{HostEntry, HostKey};

/// The memory of a host as the admin port tells it. Dates are written as in `2026-02-01`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedHost {
    /// The name of the exchange.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The first day.
    pub first: String,
    /// The day of the last session.
    pub last: String,
    /// On how many days there were sessions.
    pub days: u32,
    /// The sessions.
    pub sessions: u64,
    /// The last result: the worth of the certificate, or a word for a host without STARTTLS.
    pub word: String,
    /// The last day without STARTTLS.
    pub without_starttls: Option<String>,
    /// Whether the host is settled.
    pub settled: bool,
    /// The time in which each session was `valid`, up to now.
    pub valid: Option<RememberedStreak>,
}

/// Days on which each session was `valid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedStreak {
    /// The first day.
    pub since: String,
    /// From the first day to the last, in days.
    pub length: i64,
    /// The days with sessions.
    pub days: u32,
    /// The sessions.
    pub sessions: u64,
}

/// A Julian day, for people.
pub(crate) fn date(day: i64) -> String {
    let date = i32::try_from(day).ok().and_then(|day| Date::from_julian_day(day).ok());
    date.map_or_else(|| "?".to_owned(), |date| date.to_string())
}

impl RememberedHost {
    /// The memory of a host.
    pub fn of(key: &HostKey, entry: &HostEntry) -> Self {
        Self {
            host: key.host.to_string(),
            port: key.port,
            first: date(entry.first),
            last: date(entry.last),
            days: entry.days,
            sessions: entry.sessions,
            word: entry.word.as_str().to_owned(),
            without_starttls: entry.without_starttls.map(date),
            settled: entry.is_settled(),
            valid: entry.streak.map(|streak| RememberedStreak {
                since: date(streak.start),
                length: streak.counted - streak.start,
                days: streak.days,
                sessions: streak.sessions,
            }),
        }
    }
}
