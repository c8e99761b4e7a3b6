//! When an end is near: one set of bounds for `danelaw check` and the [watch](crate::watch).

/// A day, in seconds.
pub(crate) const DAY: i64 = 24 * 60 * 60;
/// A certificate should have more seconds left than these, where its date counts. Authorities renew it a month before its end.
pub(crate) const CERTIFICATE_SOON: i64 = 14 * DAY;
/// A signature of the DNS should have more than this part of its term left: signers renew it long before.
const LAST_PART: i64 = 10;
/// A signature should have more seconds left, or a tenth of its term.
const SIGNATURE_SOON: i64 = 2 * DAY;

/// Whether a signature of the DNS with so many seconds left of its term should have been renewed. Both bounds: a tenth of a month
/// is three days, which is time enough, and of two days five hours.
pub(crate) fn is_signature_late(left: i64, term: i64) -> bool {
    left * LAST_PART < term && left < SIGNATURE_SOON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_late_below_a_tenth_and_two_days() {
        const HOUR: i64 = DAY / 24;
        for (left, term, is_late) in [
            (2 * DAY, 30 * DAY, false),
            (2 * DAY - 1, 30 * DAY, true),
            (5 * HOUR, 2 * DAY, false),
            (4 * HOUR, 2 * DAY, true),
            (-HOUR, 30 * DAY, true),
        ] {
            assert_eq!(is_signature_late(left, term), is_late, "{left} of {term}");
        }
    }
}
