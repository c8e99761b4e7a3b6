//! The months by which mails are counted.

use std::fmt;
use std::str::FromStr;

use time::Date;

/// A month of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(i64);

impl Month {
    /// The month of a day.
    pub fn of(day: Date) -> Self {
        Self(i64::from(day.year()) * 12 + i64::from(u8::from(day.month())) - 1)
    }

    /// Its number in the store: twelve times the year, and the months before it in the year.
    pub fn number(self) -> i64 {
        self.0
    }

    /// So many months before.
    pub fn earlier(self, months: u32) -> Self {
        Self(self.0 - i64::from(months))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// A text is no month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a month is written as 2026-11: a year from 0001 on, and a month from 01 to 12")]
pub struct MonthError;

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let (year, month) = text.split_once('-').ok_or(MonthError)?;
        let has_digits = |text: &str, count| text.len() == count && text.bytes().all(|octet| octet.is_ascii_digit());
        if !has_digits(year, 4) || !has_digits(month, 2) {
            return Err(MonthError);
        }
        let month = month.parse::<u8>().ok().and_then(|month| time::Month::try_from(month).ok()).ok_or(MonthError)?;
        // The calendar has no year 0.
        let year = year.parse().ok().filter(|year| *year > 0).ok_or(MonthError)?;
        Date::from_calendar_date(year, month, 1).map(Self::of).map_err(|_| MonthError)
    }
}

/// The day with this Julian number.
pub fn day_of(julian: i64) -> Option<Date> {
    i32::try_from(julian).ok().and_then(|day| Date::from_julian_day(day).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_written_and_read() {
        for (text, number) in [("2026-11", 2026 * 12 + 10), ("0001-01", 12), ("9999-12", 9999 * 12 + 11)] {
            let month: Month = text.parse().unwrap();
            assert_eq!((month.number(), month.to_string().as_str()), (number, text));
        }
        for text in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "0000-01",
            "2026-1",
            "26-11",
            "2026-11-01",
            "+026-11",
            "2026-+1",
            "٢٠٢٦-11",
        ] {
            assert_eq!(text.parse::<Month>(), Err(MonthError), "{text}");
        }
        let month = |text: &str| text.parse::<Month>().unwrap();
        assert_eq!(month("2026-01").earlier(1), month("2025-12"));
        assert_eq!(month("2026-11").earlier(12), month("2025-11"));
    }

    #[test]
    fn a_julian_day_has_its_month() {
        let months = [(2_440_588, 1970 * 12), (2_460_310, 2023 * 12 + 11), (2_460_311, 2024 * 12)];
        for (day, month) in months {
            assert_eq!(day_of(day).map(|day| Month::of(day).number()), Some(month), "{day}");
        }
        assert_eq!(day_of(i64::MAX), None);
    }
}
