//! The order of connection attempts, and the share of the time for each (RFC 8305 §4, RFC 5321 §5.1).

use std::net::IpAddr;
use std::time::Duration;

/// The addresses of one host with the families taking turns, IPv6 first, each family in the order it came: where one
/// family does not work, the next address is always one of the other (RFC 8305 §4).
pub(super) fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut sixes = addresses.iter().filter(|address| address.is_ipv6());
    let mut fours = addresses.iter().filter(|address| address.is_ipv4());
    let mut ordered = Vec::with_capacity(addresses.len());
    loop {
        let before = ordered.len();
        ordered.extend(sixes.next());
        ordered.extend(fours.next());
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// The same, each family in random order: of a host with more addresses than are tried no address is left out for ever, as the
/// DNS may always give the same order. The same seed gives the same order.
pub(super) fn shuffled(mut addresses: Vec<IpAddr>, seed: u64) -> Vec<IpAddr> {
    fastrand::Rng::with_seed(seed).shuffle(&mut addresses);
    interleaved(&addresses)
}

/// The part of the time that one of several may use: the same for each. So an address that does not answer takes no time of
/// the others, and the time that one leaves over is for those behind it (K7).
pub(super) fn share(left: Duration, untried: usize) -> Duration {
    left / u32::try_from(untried).unwrap_or(u32::MAX).max(1)
}

/// A limit, cut down to the time that is left, in numbers that are easy to read in a log.
pub(super) fn within(limit: Duration, left: Duration) -> Duration {
    let seconds = Duration::from_secs(left.as_secs());
    limit.min(if seconds.is_zero() { Duration::from_millis(u64::from(left.subsec_millis())) } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let order = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            interleaved(&addresses).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(order(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]), ["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(
            order(&["192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"]),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]
        );
        assert_eq!(order(&["192.0.2.2", "192.0.2.1"]), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(order(&[]), [] as [&str; 0]);
    }

    #[test]
    fn each_family_in_random_order() {
        // C22: each of the IPv6 addresses comes first about as often as the others, and the families still take turns.
        let addresses: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8::3"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        let mut first = std::collections::HashMap::new();
        for seed in 0..3000 {
            let order = shuffled(addresses.clone(), seed);
            assert_eq!(order, shuffled(addresses.clone(), seed));
            let families: Vec<_> = order.iter().map(IpAddr::is_ipv6).collect();
            assert_eq!(families, [true, false, true, false, true]);
            *first.entry(order[0]).or_insert(0) += 1;
        }
        assert!(first.len() == 3 && first.values().all(|&times| times > 800), "{first:?}");
    }

    #[test]
    fn each_attempt_gets_its_share_of_the_time_left() {
        // K7, A-71: each of ten that only wait gets a tenth of the four minutes; two get half each; the last one all.
        let mut left = Duration::from_secs(240);
        for untried in (1..=10).rev() {
            let used = share(left, untried);
            assert_eq!(used.as_secs(), 24);
            left -= used;
        }
        assert_eq!(left, Duration::ZERO);
        assert_eq!(share(Duration::from_secs(240), 2), Duration::from_secs(120));
        // The second uses the time that the first leaves over.
        assert_eq!(share(Duration::from_secs(230), 1), Duration::from_secs(230));
        assert_eq!(share(Duration::from_secs(1), 0), Duration::from_secs(1));
    }

    #[test]
    fn a_limit_never_exceeds_the_time_left() {
        let limit = Duration::from_secs(30);
        assert_eq!(within(limit, Duration::from_secs(240)), limit);
        assert_eq!(within(limit, Duration::from_micros(23_999_999)), Duration::from_secs(23));
        assert_eq!(within(limit, Duration::from_micros(123_456)), Duration::from_millis(123));
        assert_eq!(within(limit, Duration::ZERO), Duration::ZERO);
    }
}
