//! The day that a report is about, and the times at which it is sent.

use std::fmt;
use std::ops::Range;

use sha2::{Digest as _, Sha256};
use time::{Date, Duration, OffsetDateTime, Time};

use crate::name::Name;

/// No report is sent before this time of the next day: other replicas and the last sessions of the day have ended by then.
const FIRST: Duration = Duration::minutes(10);
/// RFC 8460 §4.1: reports are spread over four hours, so that a receiver does not get all of them at midnight.
const SPREAD: u64 = 4 * 60 * 60;
/// The pauses between tries. The last one is repeated.
const PAUSES: [Duration; 6] = [
    Duration::minutes(5),
    Duration::minutes(15),
    Duration::minutes(45),
    Duration::hours(2),
    Duration::hours(4),
    Duration::hours(6),
];
/// RFC 8460 §5.5: how long a report is tried.
const IN_ALL: Duration = Duration::hours(24);
/// The age at which a report is not worth sending, from the end of its day.
const TOO_OLD: Duration = Duration::hours(48);

/// The UTC day of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportWindow {
    day: Date,
}

impl ReportWindow {
    /// That of a day.
    pub const fn of(day: Date) -> Self {
        Self { day }
    }

    /// The day.
    pub const fn day(self) -> Date {
        self.day
    }

    /// Its first and its last second, since 1970. The last one belongs to the day (RFC 8460 §5.1).
    pub fn seconds(self) -> Range<i64> {
        let begin = self.begin().unix_timestamp();
        begin..begin + 86_399
    }

    /// The midnight at its end.
    pub fn end(self) -> OffsetDateTime {
        self.begin().saturating_add(Duration::DAY)
    }

    /// When the report for a domain is sent: at the domain's own time, the same after a restart and on each replica.
    pub fn due(self, domain: &Name) -> OffsetDateTime {
        let digest = Sha256::digest(format!("{} {domain}", self.day));
        let number = digest.iter().take(8).fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        let offset = Duration::seconds(i64::try_from(number % SPREAD).unwrap_or_default());
        self.end().saturating_add(FIRST + offset)
    }

    /// Whether reports of the day may be sent now.
    pub fn is_open(self, now: OffsetDateTime) -> bool {
        now >= self.end().saturating_add(FIRST) && !self.is_over(now)
    }

    /// Whether the report is too old to be sent.
    pub fn is_over(self, now: OffsetDateTime) -> bool {
        now - self.begin() > Duration::DAY + TOO_OLD
    }

    fn begin(self) -> OffsetDateTime {
        self.day.with_time(Time::MIDNIGHT).assume_utc()
    }
}

/// The day as report ids have it.
impl fmt::Display for ReportWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}{:02}{:02}", self.day.year(), u8::from(self.day.month()), self.day.day())
    }
}

/// The tries of a report so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// The time of the first one.
    pub first: OffsetDateTime,
    /// How many there were, at least one.
    pub count: usize,
}

impl Tries {
    /// The time of the next one if the last one has failed now; none where 24 hours are over by then.
    pub fn next(self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let pause = PAUSES.get(self.count.saturating_sub(1)).unwrap_or(&PAUSES[PAUSES.len() - 1]);
        let next = now.saturating_add(*pause);
        (next - self.first <= IN_ALL).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::name;
    use super::*;

    fn window() -> ReportWindow {
        ReportWindow::of(Date::from_calendar_date(2026, time::Month::November, 28).unwrap())
    }

    #[test]
    fn the_last_second_belongs_to_the_day() {
        // T20.
        assert_eq!((window().seconds(), window().to_string()), (1_795_824_000..1_795_910_399, "20261128".to_owned()));
    }

    #[test]
    fn domains_are_spread_over_four_hours() {
        // T35.
        let mut quarters = [0_u32; 16];
        for number in 0..1000 {
            let domain = name(&format!("d{number}.example"));
            let due = window().due(&domain).unix_timestamp() - window().seconds().end - 1;
            assert!((600..600 + 14_400).contains(&due), "{due}");
            quarters[usize::try_from((due - 600) / 900).unwrap()] += 1;
            assert_eq!(window().due(&domain), window().due(&domain));
        }
        assert!(quarters.iter().all(|count| (30..100).contains(count)), "{quarters:?}");
        // Another day, another time.
        let next = ReportWindow::of(window().day().next_day().unwrap());
        assert_ne!(next.due(&name("example")) - Duration::DAY, window().due(&name("example")));
    }

    #[test]
    fn tries_end_after_a_day() {
        // T37.
        let first = window().due(&name("example"));
        let (mut minutes, mut now) = (Vec::new(), first);
        for count in 1..20 {
            let Some(next) = (Tries { first, count }).next(now) else { break };
            minutes.push((next - first).whole_minutes());
            now = next;
        }
        assert_eq!(minutes, [5, 20, 65, 185, 425, 785, 1145]);
        // After a stop, the pauses are as long as before.
        let late = first + Duration::hours(10);
        assert_eq!((Tries { first, count: 2 }).next(late), Some(late + Duration::minutes(15)));
    }

    #[test]
    fn a_report_of_three_days_ago_is_over() {
        let end = OffsetDateTime::from_unix_timestamp(window().seconds().end + 1).unwrap();
        assert!(!window().is_over(end) && !window().is_over(end + Duration::hours(48)));
        assert!(window().is_over(end + Duration::hours(49)));
        let is_open = |minutes| window().is_open(end + Duration::minutes(minutes));
        assert_eq!([-1, 9, 10, 48 * 60, 49 * 60].map(is_open), [false, false, true, true, false]);
    }
}
