//! The last day of a rule or of a negative trust anchor: it holds through this day (UTC), and no longer.

use std::fmt;

use time::format_description::well_known::Iso8601;
use time::{Date, OffsetDateTime};

/// The number of days before the last one on which the log warns.
pub const NEAR: i32 = 7;

/// Reads a day, which has one form: `2027-01-31`. The library reads a time of day and an offset too and drops them, so that the
/// day would end at another moment than the one that is written.
pub fn parsed(text: &str) -> Option<Date> {
    Date::parse(text, &Iso8601::DATE).ok().filter(|day| day.to_string() == text)
}

/// The last day on which something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastDay(pub Date);

impl LastDay {
    /// The days that follow a day: 0 on the last day, less than that behind it.
    pub fn days_left(self, today: Date) -> i32 {
        self.0.to_julian_day() - today.to_julian_day()
    }

    /// Whether a day is behind it.
    pub fn is_over(self, today: Date) -> bool {
        self.0 < today
    }

    /// Whether it is over, or the days that are left are few.
    pub fn is_near(self, today: Date) -> bool {
        self.days_left(today) <= NEAR
    }

    /// The time from a moment to the end of the day; zero behind it.
    pub fn time_left(self, now: OffsetDateTime) -> std::time::Duration {
        let end = self.0.next_day().unwrap_or(Date::MAX).midnight().assume_utc();
        std::time::Duration::try_from(end - now).unwrap_or_default()
    }
}

impl fmt::Display for LastDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn day(text: &str) -> Date {
        parsed(text).unwrap()
    }

    #[test]
    fn a_day_has_one_form() {
        assert_eq!(parsed("2027-01-31"), Date::from_calendar_date(2027, time::Month::January, 31).ok());
        for text in [
            "",
            "2027-02-29",
            "2027-1-31",
            "20270131",
            "2027-031",
            "2027-W04-7",
            " 2027-01-31",
            "2027-01-31 ",
            "2027-01-31T23:00:00",
            "2027-01-31 23:00:00",
            "2027-01-31T23:00:00-05:00",
            "2027-01-31T00:00:00Z",
            "+002027-01-31",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_last_day_counts() {
        let last = LastDay(day("2027-01-31"));
        for (today, left, over, near) in [
            (day("2027-01-23"), 8, false, false),
            (day("2027-01-24"), 7, false, true),
            (day("2027-01-31"), 0, false, true),
            (day("2027-02-01"), -1, true, true),
        ] {
            assert_eq!(
                (last.days_left(today), last.is_over(today), last.is_near(today)),
                (left, over, near),
                "{today}"
            );
        }
        let begin = day("2027-01-31").midnight().assume_utc();
        for (seconds, left) in [(0, 86_400), (86_340, 60), (86_400, 0), (90_000, 0)] {
            assert_eq!(last.time_left(begin + Duration::from_secs(seconds)), Duration::from_secs(left));
        }
    }
}
