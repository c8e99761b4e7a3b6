//! The dates of a certificate (RFC 5280 §4.1.2.5): UTCTime and GeneralizedTime in their one DER form each.
//!
//! A UTCTime has seconds and ends in Z, and so does a GeneralizedTime, which has no fraction of a second (§4.1.2.5.1,
//! §4.1.2.5.2). BER has more forms, such as a UTCTime with an offset. OpenSSL refuses a certificate that has one of them.
//! A GeneralizedTime before 2050 is read; OpenSSL and every other verifier read it, too.

use time::{Date, Month, PrimitiveDateTime, Time};

use super::der::{self, Der, Element};

/// UTCTime.
const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
const GENERALIZED_TIME: u8 = 0x18;

/// The first and the last second at which a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    /// Reads a Validity with its outer SEQUENCE.
    pub(super) fn read(validity: &[u8]) -> Option<Self> {
        let mut der = Der(Der::only(validity, der::SEQUENCE)?.body);
        let (not_before, not_after) = (der.next()?, der.next()?);
        der.is_empty().then_some(Self { not_before: seconds(not_before)?, not_after: seconds(not_after)? })
    }
}

/// A Time in seconds since 1970.
fn seconds(time: Element<'_>) -> Option<i64> {
    let (year, rest) = match time.tag {
        UTC_TIME => {
            let (year, rest) = time.body.split_at_checked(2)?;
            let year = number(year)?;
            // RFC 5280 §4.1.2.5.1.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = time.body.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let (pairs, []) = rest.strip_suffix(b"Z")?.as_chunks::<2>() else { return None };
    let numbers = pairs.iter().map(|pair| u8::try_from(number(pair)?).ok()).collect::<Option<Vec<u8>>>()?;
    let [month, day, hour, minute, second] = *numbers else { return None };
    let date = Date::from_calendar_date(i32::from(year), Month::try_from(month).ok()?, day).ok()?;
    let time = Time::from_hms(hour, minute, second).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

/// A number of decimal digits, four at most.
fn number(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + u16::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form_each() {
        for (tag, text, read) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "19700101000001Z", Some(1)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "240229000000Z", Some(1_709_164_800)),
            // Forms of BER that DER does not have.
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "700101000000+0000", None),
            (UTC_TIME, "700101000000-0100", None),
            (UTC_TIME, "7001010000+0100", None),
            (UTC_TIME, "700101000000", None),
            (GENERALIZED_TIME, "20500101000000.5Z", None),
            (GENERALIZED_TIME, "20500101000000,5Z", None),
            (GENERALIZED_TIME, "20500101000000+0000", None),
            (GENERALIZED_TIME, "20500101000000", None),
            (GENERALIZED_TIME, "205001010000Z", None),
            (GENERALIZED_TIME, "2050010100Z", None),
            // No such moment.
            (UTC_TIME, "230229000000Z", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "700100000000Z", None),
            (UTC_TIME, "700101240000Z", None),
            (UTC_TIME, "700101006000Z", None),
            (UTC_TIME, "700101000060Z", None),
            (UTC_TIME, "7001010000 0Z", None),
            (UTC_TIME, "+70101000000Z", None),
            (UTC_TIME, "", None),
            (GENERALIZED_TIME, "", None),
            (0x16, "700101000000Z", None),
        ] {
            let found = seconds(Element { tag, body: text.as_bytes(), whole: text.as_bytes() });
            assert_eq!(found, read, "{text}");
        }
    }
}
