//! Name resolution.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use humantime_serde::re::humantime::format_duration;
use serde::Deserialize;

use super::check::{Faults, STOPS_ALL, more_than_none, short};
use super::{Server, optional};
use crate::dns::server::ResolverFallback;
use crate::dns::server::{NameServer, ResolverMode};

/// The longest that a failed lookup may be remembered (RFC 9520 §3.2 allows five minutes).
const MAX_FAILURE_TTL: Duration = Duration::from_secs(30);

/// More often than this a self-test would be a burden on the resolvers.
const LEAST_SELF_TEST: Duration = Duration::from_secs(10);

/// Name resolution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsSection {
    /// The proof that an answer is secure: "validate" (signatures, checked here, with any resolver) or "trust-ad" (the
    /// AD bit in the replies of a validating resolver on loopback or over TLS).
    #[serde(with = "super::word::DnsModeWord")]
    pub mode: ResolverMode,
    /// Resolvers to ask: an address with or without a port, or DNS over TLS as in "tls://9.9.9.9#dns.quad9.net" with the
    /// name in the certificate. They must pass DNSSEC records on; in mode "trust-ad" they must validate. Empty: those of
    /// /etc/resolv.conf, which is followed when it changes. ["recurse"]: none; danelaw asks the root and the
    /// authoritative servers itself, in mode "validate".
    pub servers: Vec<Server>,
    /// The resolver that serves while none of them passes the self-test: "recurse" (danelaw asks the root and the
    /// authoritative servers itself, and validates, in either mode) or "" (none: mail is deferred). A warning in the log,
    /// /readyz and the metric danelaw_resolver_fallback tell of it. Mail for which the public DNS has no way is deferred
    /// meanwhile: your resolvers may have one.
    #[serde(with = "super::word::FallbackWord")]
    pub fallback: ResolverFallback,
    /// Whether mode "trust-ad" may believe resolvers that are neither on loopback nor spoken to over TLS. An attacker
    /// on the path to them can then switch DANE off.
    pub trust_ad_unsafe_remote: bool,
    /// A file of DNSKEY or DS records of the root (a master file) to trust in place of the built-in IANA root keys. Empty:
    /// those.
    #[serde(deserialize_with = "optional")]
    pub trust_anchor: Option<PathBuf>,
    /// A file of the root servers' addresses (in the form of IANA's named.root), for "recurse". Empty: the built-in IANA
    /// addresses.
    #[serde(deserialize_with = "optional")]
    pub root_hints: Option<PathBuf>,
    /// A file of CA certificates (PEM) that may vouch for resolvers of DNS over TLS. Empty: the built-in public CAs.
    #[serde(deserialize_with = "optional")]
    pub tls_ca: Option<PathBuf>,
    /// How long to wait for one answer at most. After the time that a resolver mostly takes, the question goes to the next one
    /// as well; with one resolver, to the same one again.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How often one question is put to the resolvers before it counts as unanswered; to each of them once at least.
    pub attempts: usize,
    /// How long one question may take in all, with every signature and key it needs.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// How often each resolver must show that DNSSEC comes through it. One that fails is not asked while others pass.
    #[serde(with = "humantime_serde")]
    pub self_test: Duration,
    /// How many finished lookups are remembered at most; 0 remembers none. One host takes three: A, AAAA and TLSA.
    pub cache_entries: usize,
    /// How much memory they may take.
    pub cache_size: ByteSize,
    /// How long an answer is remembered at most; never longer than its TTL and its signatures allow (RFC 6698 §8.2).
    #[serde(with = "humantime_serde")]
    pub cache_max_ttl: Duration,
    /// How long a failed lookup is remembered, so that a broken zone is not asked for again and again (RFC 9520 §3.2); at
    /// most 30 seconds, after which a zone that was mended is seen.
    #[serde(with = "humantime_serde")]
    pub cache_failures: Duration,
}

impl DnsSection {
    pub(super) fn check(&self, faults: &mut Faults) {
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
        self.check_recursion(faults);
        // RFC 7672 §2.1.1, RFC 4035 §4.9.3.
        let needs_safe_servers = (self.mode, self.trust_ad_unsafe_remote) == (ResolverMode::TrustAd, false);
        for Server(server) in self
            .servers
            .iter()
            .filter(|server| needs_safe_servers && server.0 != NameServer::RECURSION && !server.0.is_out_of_reach())
        {
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

    /// Whether the authoritative servers are asked.
    pub(super) fn recurses(&self) -> bool {
        self.servers.iter().any(|server| server.0 == NameServer::RECURSION)
    }

    fn check_recursion(&self, faults: &mut Faults) {
        if !self.recurses() {
            return;
        }
        if self.servers.len() > 1 {
            let problem =
                "\"recurse\" stands alone: either resolvers are asked, or the authoritative servers themselves";
            faults.add("dns.servers", problem);
        }
        if self.mode == ResolverMode::TrustAd {
            let problem = "\"recurse\" needs dns.mode = \"validate\": there is no resolver with an AD bit to trust";
            faults.add("dns.servers", problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::with;

    #[test]
    fn resolvers_as_they_may_be_written() {
        let servers = "['9.9.9.9', '[2620:fe::fe]:5353', 'tls://9.9.9.9#dns.quad9.net']";
        let servers = with(&format!("dns.servers = {servers}")).unwrap().dns.servers;
        let servers: Vec<_> = servers.iter().map(|server| server.0.to_string()).collect();
        assert_eq!(servers, ["9.9.9.9:53", "[2620:fe::fe]:5353", "tls://9.9.9.9:853#dns.quad9.net"]);
        assert!(with("dns.servers = ['dns.example']").unwrap_err().contains("no name server such as"));
    }

    #[test]
    fn recurse_stands_alone_and_has_no_ad_bit() {
        assert!(with("dns.servers = ['recurse']").is_ok());
        for (config, why) in [
            ("dns.servers = ['recurse', '9.9.9.9']", "stands alone"),
            ("dns.servers = ['recurse']\ndns.mode = 'trust-ad'", "no resolver with an AD bit"),
        ] {
            let found = with(config).unwrap_err();
            assert!(found.starts_with("dns.servers: \"recurse\"") && found.contains(why), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }

    #[test]
    fn a3_an_ad_bit_is_believed_from_where_nobody_can_change_it() {
        for (servers, more, sound) in [
            ("['127.0.0.1', '[::1]:5353']", "", true),
            ("[]", "", true),
            ("['tls://9.9.9.9#dns.quad9.net']", "", true),
            ("['127.0.0.1', '192.0.2.1']", "", false),
            ("['192.0.2.1']", "dns.trust_ad_unsafe_remote = true", true),
        ] {
            let config = with(&format!("dns.mode = 'trust-ad'\ndns.servers = {servers}\n{more}"));
            assert_eq!(config.is_ok(), sound, "{servers} {more}");
            if let Err(why) = config {
                assert!(why.starts_with("dns.servers") && why.contains("192.0.2.1:53") && why.contains("127.0.0.1"));
            }
        }
        assert!(with("dns.mode = 'trust'").unwrap_err().contains("trust-ad"));
        assert!(with("dns.servers = ['192.0.2.1']").is_ok());
    }

    #[test]
    fn a19_failures_are_not_remembered_for_long() {
        assert!(with("dns.cache_failures = '30s'").is_ok());
        assert!(with("dns.cache_failures = '31s'").unwrap_err().contains("31s is above the 30s"));
        assert!(with("dns.self_test = '9s'").unwrap_err().contains("9s is below the 10s"));
    }
}
