//! Policies of MTA-STS.

use std::ops::RangeInclusive;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use serde::Deserialize;

use super::check::Faults;
use crate::mta_sts::StsUse;

/// RFC 8461 §10.2 has a day in mind; policy hosts need no more.
const REFRESH: RangeInclusive<Duration> = Duration::from_secs(60 * 60)..=Duration::from_secs(24 * 60 * 60);
/// A fetch ends after a minute (RFC 8461 §3.3).
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Policies of MTA-STS (RFC 8461), for domains without DANE. They are fetched over HTTPS, from port 443 of `mta-sts.` and the
/// domain.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtaStsSection {
    /// Whether policies count for domains without DANE: "enforce", "observe" (fetched and told, not held to), "off".
    #[serde(with = "super::word::StsUseWord")]
    pub mode: StsUse,
    /// How many policies are kept at most; 20,000 take about 20 MB. They are in the store, if store.path or store.url
    /// is set; else in memory, so that each start trusts the first contact with a domain again.
    pub entries: usize,
    /// How long a mail waits for a TXT record, and as long again for the policy host. A policy that comes later counts for the next
    /// mail.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often each policy is fetched anew, whether its id has changed or not: from an hour to a day.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
}

impl MtaStsSection {
    pub(super) fn check(&self, faults: &mut Faults, route: Duration) {
        if self.entries == 0 {
            faults.add("mta_sts.entries", "0 would keep no policy; mta_sts.mode = \"off\" is what asks for none");
        }
        if !REFRESH.contains(&self.refresh) {
            faults.add("mta_sts.refresh", "it must be between 1h and 1d");
        }
        if !TIMEOUT.contains(&self.timeout) {
            faults.add("mta_sts.timeout", "it must be between 1s and 60s");
        } else if self.timeout >= route {
            let (timeout, route) = (format_duration(self.timeout), format_duration(route));
            let problem = format!("{timeout} leaves no time of timeouts.route, which is {route}, for the mail itself");
            faults.add("mta_sts.timeout", problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;
    use crate::mta_sts::StsUse;

    #[test]
    fn policies_count_by_default() {
        let default = with("").unwrap().mta_sts;
        let seconds = (default.timeout.as_secs(), default.refresh.as_secs());
        assert_eq!((default.mode, default.entries, seconds), (StsUse::Enforce, 20_000, (10, 86_400)));
        for (word, mode) in [("observe", StsUse::Observe), ("off", StsUse::Off), ("enforce", StsUse::Enforce)] {
            assert_eq!(with(&format!("mta_sts.mode = '{word}'")).unwrap().mta_sts.mode, mode);
            assert_eq!(mode.to_string(), word);
        }
    }

    #[test]
    fn bounds_of_policies() {
        for fits in
            ["mta_sts.refresh = '1h'", "mta_sts.refresh = '1d'", "mta_sts.timeout = '60s'", "mta_sts.timeout = '1s'"]
        {
            assert!(with(fits).is_ok(), "{fits}");
        }
        for (wrong, why) in [
            ("mta_sts.mode = 'Enforce'", "unknown variant"),
            ("mta_sts.mode = 'testing'", "unknown variant"),
            ("mta_sts.path = '/x'", "unknown field"),
            ("mta_sts.entries = -1", "invalid value"),
            ("mta_sts.timeout = 10", "invalid type"),
            ("mta_sts.entries = 0", "mta_sts.entries: 0 would keep no policy"),
            ("mta_sts.refresh = '59m'", "mta_sts.refresh: it must be between 1h and 1d"),
            ("mta_sts.refresh = '25h'", "mta_sts.refresh: it must be between 1h and 1d"),
            ("mta_sts.timeout = '61s'", "mta_sts.timeout: it must be between 1s and 60s"),
            ("mta_sts.timeout = '0s'", "mta_sts.timeout: it must be between 1s and 60s"),
            ("mta_sts.timeout = '30s'\ntimeouts.route = '30s'", "mta_sts.timeout: 30s leaves no time"),
        ] {
            let error = with(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
