//! What types alone cannot say: that this can never be an open relay, and that every bound leaves room to work.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use ipnet::IpNet;

use super::{
    Address, Admin, Config, Dns, Fault, Kind, Ledger, Limits, Listener, Network, Recipients, Remote, Server, Timeouts,
    Unsound,
};
use crate::dns::server::ResolverMode;

/// The widest networks that may send mail through us; no operator of a mail server owns wider ones.
fn widest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        // RFC 4193 gives a site 48 bits, a registry gives a provider 32.
        IpNet::V6(_) => 32,
    }
}

/// The networks that are wider than that, each with the length of prefix that would do.
fn too_wide(networks: &[Network]) -> impl Iterator<Item = (&IpNet, u8)> {
    let all = networks.iter().map(|Network(network)| (network, widest(network)));
    all.filter(|(network, most)| network.prefix_len() < *most)
}

/// The longest time that may be set. No client waits so long, and the clock still has room for it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a failed lookup may be remembered (RFC 9520 §3.2 allows five minutes).
const MAX_FAILURE_TTL: Duration = Duration::from_secs(30);
/// How long outcomes may be remembered: longer than clients pause, and not for ever.
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(24 * 60 * 60)..=Duration::from_secs(90 * 24 * 60 * 60);
/// More often than this a self-test would be a burden on the resolvers.
const LEAST_SELF_TEST: Duration = Duration::from_secs(10);

/// The smallest and the largest bound for a message, beyond which it is a slip of the pen. Less than RFC 5321 §4.5.3.1.7
/// asks for is the operator's to say.
const MESSAGE_SIZES: RangeInclusive<u64> = 1000..=1024 * 1024 * 1024 * 1024;

/// RFC 8305 §8 allows no shorter one.
const LEAST_HEAD_START: Duration = Duration::from_millis(10);
/// Clients try again after about this time, and should find the host asked again (RFC 5321 §4.5.4.1).
const MAX_FAILED_HOSTS: Duration = Duration::from_secs(300);

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, key: &'static str, problem: impl Into<String>) {
        self.0.push(Fault { key, entry: None, problem: problem.into() });
    }

    /// Those of an entry of a list.
    pub(super) fn extend(&mut self, entry: usize, faults: Self) {
        self.0.extend(faults.0.into_iter().map(|fault| Fault { entry: Some(entry), ..fault }));
    }

    pub(super) fn none_or<T>(self, value: T) -> Result<T, Unsound> {
        if self.0.is_empty() { Ok(value) } else { Err(Unsound(self.0)) }
    }
}

impl Config {
    /// What types alone cannot say: that this can never be an open relay, and that every bound leaves room to work.
    ///
    /// # Errors
    /// All that is found wanting.
    pub fn check(&self) -> Result<(), Unsound> {
        let mut faults = Faults(self.rules().err().map_or_else(Vec::new, |Unsound(faults)| faults));
        self.check_listeners(&mut faults);
        self.limits.check(&mut faults);
        self.remote.check(&mut faults);
        if self.has_fan_out() && self.ledger.entries < self.limits.recipients {
            let (entries, most) = (self.ledger.entries, self.limits.recipients);
            let problem =
                format!("{entries} is below limits.recipients, which is {most}: no transaction may be too big for it");
            faults.add("ledger.entries", problem);
        }
        self.ledger.check(&mut faults);
        self.timeouts.check(&mut faults);
        self.admin.check(&mut faults);
        self.dns.check(&mut faults);
        faults.none_or(())
    }

    /// Whether a listener has fan-out, which the ledger is for.
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
            if listener.recipients == Recipients::FanOut && self.ledger.path.is_none() {
                let problem = format!(
                    "{}: \"fan-out\" keeps outcomes over a restart; set ledger.path to a file for them, as in \
                     \"/var/lib/danelaw/ledger.sqlite\"",
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

impl Listener {
    fn check(&self, faults: &mut Faults) {
        let mut add = |key, problem: &str| faults.add(key, format!("{}: {problem}", self.address));
        if (self.kind, self.recipients) == (Kind::Lmtp, Recipients::FanOut) {
            add("listener.recipients", "LMTP answers each recipient on its own; leave this key out");
        }
        match &self.address {
            Address::Unix(_) => {
                if self.kind == Kind::Intercept {
                    add("listener.kind", "nobody's connection can be sent to a Unix socket; give an address and port");
                }
                if self.allow.is_some() {
                    add("listener.allow", "a Unix socket has no network; who may connect is for mode and owner");
                }
            }
            Address::Tcp(address) => {
                for (key, is_set) in [("listener.mode", self.mode.is_some()), ("listener.owner", self.owner.is_some())]
                {
                    if is_set {
                        add(key, "only a Unix socket has one; who may connect here is for allow");
                    }
                }
                if (self.kind, address.port()) == (Kind::Lmtp, 25) {
                    add("listener.address", "RFC 2033 forbids LMTP on port 25; take another one, such as 24");
                }
                self.check_allowed(address.ip(), faults);
            }
        }
    }

    /// Never an open relay.
    fn check_allowed(&self, address: IpAddr, faults: &mut Faults) {
        let mut add = |problem| faults.add("listener.allow", problem);
        match &self.allow {
            None if !address.is_loopback() => add(format!(
                "{} is not loopback and has no allow-list; name the networks that may send mail through it",
                self.address
            )),
            Some(networks) if networks.is_empty() => add(format!(
                "{}: the list is empty; nobody could connect: name the networks that may, or leave this key out for loopback",
                self.address
            )),
            Some(networks) => {
                for (wide, most) in too_wide(networks) {
                    let address = &self.address;
                    add(format!(
                        "{address} would be an open relay: {wide} is wider than /{most}; name the networks that may send \
                         mail through it"
                    ));
                }
            }
            None => {}
        }
    }
}

impl Limits {
    fn check(&self, faults: &mut Faults) {
        more_than_none(faults, "limits.sessions", self.sessions);
        if self.recipients < 100 {
            faults.add("limits.recipients", format!("{} is below the 100 of RFC 5321", self.recipients));
        }
        if !MESSAGE_SIZES.contains(&self.message_size.as_u64()) {
            let problem = format!(
                "{} is not between 1kB and 1TiB; write the size with its unit, as in \"100MiB\"",
                self.message_size
            );
            faults.add("limits.message_size", problem);
        }
    }
}

impl Remote {
    fn check(&self, faults: &mut Faults) {
        for (key, value) in [
            ("remote.port", usize::from(self.port)),
            ("remote.exchanges", self.exchanges),
            ("remote.addresses", self.addresses),
            ("remote.connections_per_host", self.connections_per_host),
            ("remote.connections_per_domain", self.connections_per_domain),
            ("remote.connections", self.connections),
        ] {
            more_than_none(faults, key, value);
        }
        if self.head_start < LEAST_HEAD_START {
            let found = format_duration(self.head_start);
            faults.add("remote.head_start", format!("{found} is below the 10ms of RFC 8305"));
        }
        if self.failed_hosts_for > MAX_FAILED_HOSTS {
            let found = format_duration(self.failed_hosts_for);
            faults.add("remote.failed_hosts_for", format!("{found} is above the 5m that are allowed"));
        }
        if self.mails_per_connection == 0 {
            let problem = "0 would stop all mail; remote.idle_connections = 0 is what ends a connection after its mail";
            faults.add("remote.mails_per_connection", problem);
        }
        for (key, value) in [
            ("remote.head_start", self.head_start),
            ("remote.idle_for", self.idle_for),
            ("remote.connection_age", self.connection_age),
        ] {
            short(faults, key, value);
        }
    }
}

impl Ledger {
    fn check(&self, faults: &mut Faults) {
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_absolute()) {
            // Wherever danelaw is started from, it must find its memory again.
            let path = path.display();
            faults.add("ledger.path", format!("{path} is no absolute path such as /var/lib/danelaw/ledger.sqlite"));
        }
        if !EXPIRY.contains(&self.expiry) {
            faults.add("ledger.expiry", "it must be between 1d and 90d");
        }
    }
}

impl Admin {
    fn check(&self, faults: &mut Faults) {
        let mut add = |problem| faults.add("admin.allow", problem);
        for (wide, most) in too_wide(&self.allow) {
            add(format!("{wide} is wider than /{most}; name the networks that ask"));
        }
        match &self.address {
            Some(Address::Tcp(address)) if !address.ip().is_loopback() && self.allow.is_empty() => add(format!(
                "{address} is not loopback and the list is empty; name the networks that may ask, or use a loopback address"
            )),
            Some(Address::Tcp(_) | Address::Unix(_)) | None => {}
        }
    }

    /// Whether this client may ask.
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.allow.iter().any(|network| network.0.contains(&client))
    }
}

impl Dns {
    fn check(&self, faults: &mut Faults) {
        more_than_none(faults, "dns.attempts", self.attempts);
        if self.timeout.is_zero() {
            faults.add("dns.timeout", STOPS_ALL);
        }
        if self.deadline < self.timeout {
            let (deadline, timeout) = (format_duration(self.deadline), format_duration(self.timeout));
            faults.add("dns.deadline", format!("{deadline} is shorter than dns.timeout, which is {timeout}"));
        }
        for (key, value) in [
            // dns.timeout is not longer than this.
            ("dns.deadline", self.deadline),
            ("dns.cache_max_ttl", self.cache_max_ttl),
            ("dns.self_test", self.self_test),
        ] {
            short(faults, key, value);
        }
        // RFC 7672 §2.1.1, RFC 4035 §4.9.3.
        let needs_safe_servers = (self.mode, self.trust_ad_unsafe_remote) == (ResolverMode::TrustAd, false);
        for Server(server) in self.servers.iter().filter(|server| needs_safe_servers && !server.0.is_out_of_reach()) {
            let problem = format!(
                "{server} is neither on loopback nor spoken to over TLS, and dns.mode is \"trust-ad\": anybody on the way \
                 could set or clear its AD bit; use an address such as 127.0.0.1, tls://{}#its.name, dns.mode = \
                 \"validate\", or dns.trust_ad_unsafe_remote = true",
                server.address.ip()
            );
            faults.add("dns.servers", problem);
        }
        if self.cache_failures > MAX_FAILURE_TTL {
            let found = format_duration(self.cache_failures);
            faults.add("dns.cache_failures", format!("{found} is above the 30s that are allowed"));
        }
        if self.self_test < LEAST_SELF_TEST {
            let found = format_duration(self.self_test);
            faults.add("dns.self_test", format!("{found} is below the 10s that are allowed"));
        }
    }
}

impl Timeouts {
    fn check(&self, faults: &mut Faults) {
        for (key, value) in [
            ("timeouts.client", self.client),
            ("timeouts.route", self.route),
            ("timeouts.connect", self.connect),
            ("timeouts.greeting", self.greeting),
            ("timeouts.handshake", self.handshake),
            ("timeouts.command", self.command),
            ("timeouts.data", self.data),
            ("timeouts.block", self.block),
            ("timeouts.final", self.r#final),
        ] {
            if value.is_zero() {
                faults.add(key, STOPS_ALL);
            }
            short(faults, key, value);
        }
        short(faults, "timeouts.grace", self.grace);
    }
}

/// What is wrong with a nought.
const STOPS_ALL: &str = "0 would stop all mail";

fn more_than_none(faults: &mut Faults, key: &'static str, value: usize) {
    if value == 0 {
        faults.add(key, STOPS_ALL);
    }
}

fn short(faults: &mut Faults, key: &'static str, value: Duration) {
    if value > LONGEST {
        faults.add(key, format!("{} is longer than a day", format_duration(value)));
    }
}
