//! What types alone cannot say: that this can never be an open relay, that every bound leaves room to work, and that a
//! rule which asks for less says why and until when.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use time::Date;

use super::Recipients;
use super::{
    Address, Admin, Config, DefaultLevel, Dns, Kind, Ledger, Listener, Network, Remote, Rule, RuleLevel, Server,
    Timeouts, Unsound,
};
use crate::dns::server::Mode;
use crate::policy::{InsecureMx, Level, Permit};
use crate::rules::{Exception, Rules};

/// The widest networks that may send mail through us; no operator of a mail server owns wider ones.
fn widest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        // RFC 4193 gives a site 48 bits, a registry gives a provider 32.
        IpNet::V6(_) => 32,
    }
}

/// The longest time that may be set. No client waits so long, and the clock still has room for it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that a failed lookup may be remembered (RFC 9520 §3.2 allows five minutes).
const MAX_FAILURE_TTL: Duration = Duration::from_secs(30);
/// How long outcomes may be remembered: longer than clients pause, and not for ever.
const EXPIRY: RangeInclusive<Duration> = Duration::from_secs(24 * 60 * 60)..=Duration::from_secs(90 * 24 * 60 * 60);
/// More often than this a self-test would be a burden on the resolvers.
const LEAST_SELF_TEST: Duration = Duration::from_secs(10);

/// RFC 8305 §8 allows no shorter one.
const LEAST_HEAD_START: Duration = Duration::from_millis(10);
/// Clients try again after about this time, and should find the host asked again (RFC 5321 §4.5.4.1).
const MAX_FAILED_HOSTS: Duration = Duration::from_secs(300);

impl Config {
    /// What types alone cannot say: that this can never be an open relay, and that every bound leaves room to work.
    ///
    /// # Errors
    /// The first key found wanting.
    pub fn check(&self, today: Date) -> Result<(), Unsound> {
        let unsound = |key, problem: String| Err(Unsound { key, problem });
        self.rules(today)?;
        if self.listener.is_empty() {
            return unsound("listener", "there is none; give at least one address to listen on".into());
        }
        for listener in &self.listener {
            listener.check()?;
        }
        if self.limits.recipients < 100 {
            return unsound("limits.recipients", format!("{} is below 100 (RFC 5321)", self.limits.recipients));
        }
        for (key, value) in [
            ("limits.sessions", self.limits.sessions),
            ("remote.exchanges", self.remote.exchanges),
            ("remote.addresses", self.remote.addresses),
            ("remote.connections_per_host", self.remote.connections_per_host),
            ("remote.connections_per_domain", self.remote.connections_per_domain),
            ("remote.connections", self.remote.connections),
            ("remote.port", usize::from(self.remote.port)),
            ("dns.attempts", self.dns.attempts),
        ] {
            if value == 0 {
                return unsound(key, "0 would stop all mail".into());
            }
        }
        if self.limits.message_size.as_u64() == 0 {
            return unsound("limits.message_size", "0 would stop all mail".into());
        }
        self.remote.check()?;
        if self.ledger.entries < self.limits.recipients {
            let (entries, most) = (self.ledger.entries, self.limits.recipients);
            let problem =
                format!("{entries} is below limits.recipients, which is {most}: no transaction may be too big for it");
            return unsound("ledger.entries", problem);
        }
        self.ledger.check()?;
        if let (None, Some(listener)) =
            (&self.ledger.path, self.listener.iter().find(|listener| listener.recipients == Recipients::FanOut))
        {
            let problem = format!(
                "{}: \"fan-out\" must remember over a restart who has a message; set ledger.path, as in \
                 \"/var/lib/danelaw/ledger.sqlite\"",
                listener.address
            );
            return unsound("listener.recipients", problem);
        }
        self.timeouts.check()?;
        self.admin.check()?;
        self.dns.check()
    }
}

impl Listener {
    fn check(&self) -> Result<(), Unsound> {
        let unsound = |key, problem: &str| Err(Unsound { key, problem: format!("{}: {problem}", self.address) });
        if (self.kind, self.recipients) == (Kind::Lmtp, Recipients::FanOut) {
            return unsound("listener.recipients", "LMTP answers each recipient on its own; leave this key out");
        }
        let address = match &self.address {
            Address::Unix(_) if self.kind == Kind::Intercept => {
                return unsound("listener.kind", "nobody's connection can be sent to a Unix socket");
            }
            Address::Unix(_) if self.allow.is_some() => {
                return unsound(
                    "listener.allow",
                    "a Unix socket has no network; who may connect is for mode and owner",
                );
            }
            Address::Unix(_) => return Ok(()),
            Address::Tcp(address) => address,
        };
        for (key, is_set) in [("listener.mode", self.mode.is_some()), ("listener.owner", self.owner.is_some())] {
            if is_set {
                return unsound(key, "only a Unix socket has one; who may connect here is for allow");
            }
        }
        if (self.kind, address.port()) == (Kind::Lmtp, 25) {
            return Err(Unsound { key: "listener.address", problem: "RFC 2033 forbids LMTP on port 25".into() });
        }
        self.check_allowed(address.ip())
    }

    /// Never an open relay.
    fn check_allowed(&self, address: IpAddr) -> Result<(), Unsound> {
        let unsound = |problem| Err(Unsound { key: "listener.allow", problem });
        match &self.allow {
            None if !address.is_loopback() => unsound(format!(
                "{} is not loopback and has no allow-list; name the networks that may send mail through it",
                self.address
            )),
            Some(networks) if networks.is_empty() => unsound("the list is empty; nobody could connect".into()),
            Some(networks) => match networks.iter().find(|network| network.0.prefix_len() < widest(&network.0)) {
                Some(Network(wide)) => {
                    let (address, most) = (&self.address, widest(wide));
                    unsound(format!("{address} would be an open relay: {wide} is wider than /{most}"))
                }
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

impl Remote {
    fn check(&self) -> Result<(), Unsound> {
        let unsound = |key, problem: String| Err(Unsound { key, problem });
        let written = humantime_serde::re::humantime::format_duration;
        if self.head_start < LEAST_HEAD_START {
            let found = written(self.head_start);
            return unsound("remote.head_start", format!("{found} is below the 10ms of RFC 8305"));
        }
        if self.failed_hosts_for > MAX_FAILED_HOSTS {
            let found = written(self.failed_hosts_for);
            return unsound("remote.failed_hosts_for", format!("{found} is above the 5m that are allowed"));
        }
        if self.mails_per_connection == 0 {
            return unsound(
                "remote.mails_per_connection",
                "0 would stop all mail; remote.idle_connections = 0 is what ends a connection after its mail".into(),
            );
        }
        short("remote.head_start", self.head_start)?;
        short("remote.idle_for", self.idle_for)?;
        short("remote.connection_age", self.connection_age)
    }
}

impl Ledger {
    fn check(&self) -> Result<(), Unsound> {
        let unsound = |key, problem| Err(Unsound { key, problem });
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_absolute()) {
            // Wherever danelaw is started from, it must find its memory again.
            return unsound("ledger.path", format!("{} is no absolute path", path.display()));
        }
        if !EXPIRY.contains(&self.expiry) {
            return unsound("ledger.expiry", "it must be between 1d and 90d".into());
        }
        Ok(())
    }
}

impl Admin {
    fn check(&self) -> Result<(), Unsound> {
        let unsound = |problem| Err(Unsound { key: "admin.allow", problem });
        if let Some(Network(wide)) = self.allow.iter().find(|network| network.0.prefix_len() < widest(&network.0)) {
            return unsound(format!("{wide} is wider than /{}; name the networks that ask", widest(wide)));
        }
        match &self.address {
            Some(Address::Tcp(address)) if !address.ip().is_loopback() && self.allow.is_empty() => unsound(format!(
                "{address} is not loopback and the list is empty; name the networks that may ask, or use a loopback address"
            )),
            Some(Address::Tcp(_) | Address::Unix(_)) | None => Ok(()),
        }
    }

    /// Whether this client may ask.
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.allow.iter().any(|network| network.0.contains(&client))
    }
}

impl Dns {
    fn check(&self) -> Result<(), Unsound> {
        let unsound = |key, problem: String| Err(Unsound { key, problem });
        if self.timeout.is_zero() {
            return unsound("dns.timeout", "0 would stop all mail".into());
        }
        if self.deadline < self.timeout {
            let (deadline, timeout) = (self.deadline, self.timeout);
            return unsound("dns.deadline", format!("{deadline:?} is shorter than dns.timeout, which is {timeout:?}"));
        }
        // dns.timeout is not longer than this.
        short("dns.deadline", self.deadline)?;
        short("dns.cache_max_ttl", self.cache_max_ttl)?;
        short("dns.self_test", self.self_test)?;
        let within_reach = self.servers.iter().find(|server| !server.0.is_out_of_reach());
        if let (Mode::TrustAd, false, Some(Server(server))) = (self.mode, self.trust_ad_unsafe_remote, within_reach) {
            // RFC 7672 §2.1.1, RFC 4035 §4.9.3.
            let problem = format!(
                "{server} is neither on loopback nor spoken to over TLS, and dns.mode is \"trust-ad\": anybody on the way \
                 could set or clear its AD bit; use an address such as 127.0.0.1, tls://{}#its.name, dns.mode = \
                 \"validate\", or dns.trust_ad_unsafe_remote = true",
                server.address.ip()
            );
            return unsound("dns.servers", problem);
        }
        if self.cache_failures > MAX_FAILURE_TTL {
            let found = humantime_serde::re::humantime::format_duration(self.cache_failures);
            return unsound("dns.cache_failures", format!("{found} is above the 30s that are allowed"));
        }
        if self.self_test < LEAST_SELF_TEST {
            let found = humantime_serde::re::humantime::format_duration(self.self_test);
            return unsound("dns.self_test", format!("{found} is below the 10s that are allowed"));
        }
        Ok(())
    }
}

impl Config {
    /// The levels of all domains.
    ///
    /// # Errors
    /// A rule that asks for less than `tls.level` and does not say why or until when, one that has ended, or one whose
    /// records do not fit its level.
    pub fn rules(&self, today: Date) -> Result<Rules, Unsound> {
        let exceptions = self.rule.iter().map(|rule| self.exception(rule, today)).collect::<Result<_, _>>()?;
        Ok(Rules { default: self.tls.level.level(self.tls.insecure_mx), exceptions })
    }

    fn exception(&self, rule: &Rule, today: Date) -> Result<Exception, Unsound> {
        let unsound =
            |key, problem: &str| Err(Unsound { key, problem: format!("the rule for {} {problem}", rule.domain) });
        if rule.until.is_some_and(|until| until < today) {
            return unsound("rule.until", "has ended; remove it, or give it a later day and a reason that still holds");
        }
        if (rule.level == RuleLevel::Fingerprint) == rule.records.is_empty() {
            return unsound("rule.records", "needs records for the level fingerprint, and for no other");
        }
        let reason = rule.reason.clone().filter(|reason| !reason.trim().is_empty());
        let permit = match (rule.until, reason.clone()) {
            (Some(until), Some(reason)) => Some(Permit::Rule { reason, until }),
            (None, _) | (_, None) => None,
        };
        let level = match (rule.level, permit) {
            (RuleLevel::May, Some(permit)) => Level::May(permit),
            (level, None) if level < self.tls.level.as_rule() => {
                return unsound("rule.reason", "asks for less than tls.level, and needs a reason and an until");
            }
            (RuleLevel::May, None) => return unsound("rule.reason", "needs a reason and an until"),
            (RuleLevel::Encrypt, _) => Level::Encrypt,
            (RuleLevel::Dane, _) => Level::Dane(self.tls.insecure_mx),
            (RuleLevel::DaneOnly, _) => Level::DaneOnly,
            (RuleLevel::Fingerprint, _) => {
                Level::Fingerprint(rule.records.iter().map(|record| record.0.clone()).collect())
            }
        };
        let (domains, next_hop) = (rule.domain.clone(), rule.next_hop.clone());
        Ok(Exception { domains, level, next_hop, reason, until: rule.until })
    }
}

impl fmt::Display for DefaultLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.level(InsecureMx::Dane).fmt(f)
    }
}

impl DefaultLevel {
    fn level(self, insecure_mx: InsecureMx) -> Level {
        match self {
            Self::Dane => Level::Dane(insecure_mx),
            Self::DaneOnly => Level::DaneOnly,
            Self::Encrypt => Level::Encrypt,
        }
    }

    /// The same level among those of rules, which are ordered from weak to strong.
    fn as_rule(self) -> RuleLevel {
        match self {
            Self::Dane => RuleLevel::Dane,
            Self::DaneOnly => RuleLevel::DaneOnly,
            Self::Encrypt => RuleLevel::Encrypt,
        }
    }
}

impl Timeouts {
    fn check(&self) -> Result<(), Unsound> {
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
                return Err(Unsound { key, problem: "0 would stop all mail".into() });
            }
            short(key, value)?;
        }
        short("timeouts.grace", self.grace)
    }
}

fn short(key: &'static str, value: Duration) -> Result<(), Unsound> {
    if value > LONGEST {
        return Err(Unsound { key, problem: "it is longer than a day".into() });
    }
    Ok(())
}
