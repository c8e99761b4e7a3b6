//! The checks that types alone cannot make, and those over several sections.

use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use super::{Address, Config, Fault, Recipients, Unsound};
use crate::dns::Nat64;

/// The longest time that may be set. No client waits so long, and the clock still has room for it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The faults so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: &'static str, problem: impl Into<String>) {
        self.0.push(Fault { key, entry: None, problem: problem.into() });
    }

    /// Adds the faults of an entry of a list.
    pub(super) fn extend(&mut self, entry: usize, faults: Self) {
        self.0.extend(faults.0.into_iter().map(|fault| Fault { entry: Some(entry), ..fault }));
    }

    pub(super) fn none_or<T>(self, value: T) -> Result<T, Unsound> {
        if self.0.is_empty() { Ok(value) } else { Err(Unsound(self.0)) }
    }
}

impl Config {
    /// Checks that danelaw can never be an open relay, and that every bound leaves room to work.
    ///
    /// # Errors
    /// All faults.
    pub fn check(&self) -> Result<(), Unsound> {
        let mut faults = Faults(self.rules().err().map_or_else(Vec::new, |Unsound(faults)| faults));
        self.check_negative_trust_anchors(&mut faults);
        self.check_listeners(&mut faults);
        self.limits.check(&mut faults);
        self.remote.check(&mut faults);
        if self.has_fan_out() && self.store.entries < self.limits.recipients {
            let (entries, most) = (self.store.entries, self.limits.recipients);
            let problem =
                format!("{entries} is below limits.recipients, which is {most}: no transaction may be too big for it");
            faults.add("store.entries", problem);
        }
        self.store.check(&mut faults);
        self.mta_sts.check(&mut faults, self.timeouts.route);
        self.tlsrpt.check(&mut faults, &self.store);
        self.watch.check(&self.store, &mut faults);
        self.timeouts.check(&mut faults);
        self.admin.check(&mut faults);
        self.dns.check(&mut faults);
        if self.remote.nat64 == Nat64::Auto && self.dns.recurses() {
            let problem =
                "\"auto\" needs the DNS64 resolver of the network, and dns.servers is [\"recurse\"]; set the prefix";
            faults.add("remote.nat64", problem);
        }
        faults.none_or(())
    }

    /// Whether a listener has fan-out, which needs a store that lasts.
    pub fn has_fan_out(&self) -> bool {
        self.listener.iter().any(|listener| listener.recipients == Recipients::FanOut)
    }

    fn check_listeners(&self, faults: &mut Faults) {
        if self.listener.is_empty() {
            faults.add("listener", "there is none; give at least one address to listen on");
        }
        for (entry, listener) in self.listener.iter().enumerate() {
            let mut own = Faults::default();
            listener.check(&mut own);
            if let Some(other) = self.listener[..entry].iter().find(|other| listener.address.excludes(&other.address)) {
                own.add("listener.address", taken(&listener.address, &other.address, "another listener"));
            }
            if listener.recipients == Recipients::FanOut && !self.store.lasts() {
                let problem = format!(
                    "{}: \"fan-out\" keeps outcomes over a restart; set store.path to a file for them, as in \
                     \"/var/lib/danelaw/store.sqlite\", or store.url to a database",
                    listener.address
                );
                own.add("listener.recipients", problem);
            }
            faults.extend(entry, own);
        }
        if let Some(admin) = &self.admin.address
            && let Some(other) = self.listener.iter().find(|other| admin.excludes(&other.address))
        {
            faults.add("admin.address", taken(admin, &other.address, "a listener"));
        }
    }
}

fn taken(address: &Address, other: &Address, whose: &str) -> String {
    let at = if address == other { String::new() } else { format!(", at {other}") };
    format!(
        "{address} is taken by {whose}{at}; only one of them could be opened: give this one a port or path of its own"
    )
}

/// The fault of a zero.
pub(super) const STOPS_ALL: &str = "0 would stop all mail";

pub(super) fn more_than_none(faults: &mut Faults, key: &'static str, value: usize) {
    if value == 0 {
        faults.add(key, STOPS_ALL);
    }
}

pub(super) fn short(faults: &mut Faults, key: &'static str, value: Duration) {
    if value > LONGEST {
        faults.add(key, format!("{} is longer than a day", format_duration(value)));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    #[test]
    fn no_two_listeners_at_one_address() {
        for (first, second, fits) in [
            ("127.0.0.1:10025", "127.0.0.1:10025", false),
            ("127.0.0.1:10025", "127.0.0.1:10026", true),
            ("127.0.0.1:10025", "127.0.0.2:10025", true),
            ("127.0.0.1:10025", "[::1]:10025", true),
            ("0.0.0.0:10025", "127.0.0.1:10025", false),
            ("[::1]:10025", "[::]:10025", false),
            ("127.0.0.1:0", "127.0.0.1:0", true),
            ("unix:/run/a", "unix:/run/a", false),
            ("unix:/run/a", "unix:/run/b", true),
        ] {
            let listener = |address: &str| match address.starts_with("unix:") {
                true => format!("{{ address = '{address}' }}"),
                false => format!("{{ address = '{address}', allow = ['10.0.0.0/8'] }}"),
            };
            let both = with(&format!("listener = [{}, {}]", listener(first), listener(second)));
            let admin = with(&format!(
                "listener = [{}]\nadmin = {{ address = '{second}', allow = ['10.0.0.0/8'] }}",
                listener(first)
            ));
            for (config, key) in [(both, "listener.address"), (admin, "admin.address")] {
                match config {
                    Ok(_) => assert!(fits, "{first} and {second}"),
                    Err(error) => assert!(!fits && error.starts_with(key), "{first} and {second}: {error}"),
                }
            }
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let error = with(
            "listener = [{ address = '192.0.2.1:25' }, { address = 'unix:/x', allow = ['::1'] }]\n\
             rule = [{ domain = 'a.example', level = 'may' }, { domain = 'b.example', level = 'fingerprint' }]\n\
             remote.exchanges = 0\nremote.addresses = 0\ntimeouts.data = '0s'\ntimeouts.block = '0s'\n\
             dns.attempts = 0\ndns.self_test = '1s'\nstore.path = 'x'\nstore.expiry = '1h'",
        );
        let error = error.unwrap_err();
        let keys: Vec<_> = error.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            keys,
            [
                "rule.reason",
                "rule.records",
                "listener.allow",
                "listener.allow",
                "remote.exchanges",
                "remote.addresses",
                "store.path",
                "store.expiry",
                "timeouts.data",
                "timeouts.block",
                "dns.attempts",
                "dns.self_test"
            ]
        );
    }

    #[test]
    fn settings_that_would_stop_all_mail_are_errors() {
        for (wrong, key) in [
            ("limits.sessions = 0", "limits.sessions"),
            ("limits.recipients = 99", "limits.recipients"),
            ("limits.message_size = '0B'", "limits.message_size"),
            ("limits.message_size = 999", "limits.message_size"),
            ("limits.message_size = '1025GiB'", "limits.message_size"),
            ("timeouts.grace = '25h'", "timeouts.grace: 1day 1h is longer than a day"),
            ("timeouts.final = '0s'", "timeouts.final"),
            ("timeouts.route = '400000000000y'", "timeouts.route"),
            ("timeouts.grace = '2d'", "timeouts.grace"),
            ("dns.deadline = '2d'", "dns.deadline"),
            ("dns.deadline = '1ms'", "dns.deadline"),
            ("dns.timeout = '0s'", "dns.timeout"),
            ("remote.port = 0", "remote.port"),
        ] {
            assert!(with(wrong).unwrap_err().starts_with(key), "{wrong}");
        }
    }
}
