//! The engine's settings, made from the configuration. The engine's own types do not depend on the format of the file.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Address, Config, EntryKey, Listener, ListenerTls, Unsound};
use crate::delivery::shared::{ListenerShared, Received, Shared};
use crate::discovery::{MtaSts, StsPolicies, StsSettings};
use crate::dns::{Resolver, setup};
use crate::http::{HttpsClient, HttpsPart};
use crate::journal::{self, Journal, StorePlace};
use crate::mx::OwnAddresses;
use crate::name::Name;
use crate::report::Reporter;
use crate::reserved::Dialable;
use crate::roots::{RootFiles, Roots};
use crate::smtp::command::Strictness;
use crate::store::{DatabaseSettings, Migration};
use crate::tls::server::{ListenerSecurity, ServerFiles, ServerTls, ServerTlsError};
use crate::tls::{PostQuantum, SetupError, Tls};
use crate::transaction::dialogue::Us;
use crate::upstream::Connector;
use crate::upstream::bounded_memory::{EightBitDomains, WaivedMails, WithoutBdat};
use crate::upstream::connect::Dialer;
use crate::upstream::host_session::HostLearning;
use crate::upstream::host_status::HostStatusCache;
use crate::upstream::limits::{ConnectionLimits, MaxConnections};
use crate::upstream::pool::{IdleLimits, Pool};
use crate::upstream::tcp::Source;
use crate::upstream::timeouts::Timeouts;

/// A claim lasts so much longer than `timeouts.final` and `timeouts.client` together: the clock of a database may step back some
/// seconds after a failover.
const HOLD_SLACK: Duration = Duration::from_secs(60);
/// RFC 8461 §3.3.
const POLICY_PORT: u16 = 443;

/// Why sessions cannot start under a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// A rule that cannot hold.
    #[error("{0}")]
    Rules(#[from] Unsound),
    /// The TLS library lacks a needed part.
    #[error("{0}")]
    Tls(#[from] SetupError),
    /// The certificate or key of a listener.
    #[error("{}: {error}", EntryKey { key: error.key(), entry: *entry })]
    Listener {
        /// The place of the listener in the list.
        entry: usize,
        /// The fault.
        error: ServerTlsError,
    },
}

/// The parts of [`Shared`] that the configuration alone does not make.
#[derive(Debug)]
pub struct Parts<R> {
    /// Our host name.
    pub hostname: Name,
    /// The resolver.
    pub dns: R,
    /// The certification authorities.
    pub roots: Roots,
    /// The policies of MTA-STS that are kept, for as long as danelaw runs.
    pub policies: PolicyKeeping,
    /// The journal. There is one for as long as danelaw runs.
    pub journal: Journal,
    /// The reporter, which keeps its counters over a reload.
    pub reporter: Arc<Reporter>,
}

/// Makes the values that all sessions share.
///
/// # Errors
/// If a rule can never hold, or TLS cannot be set up.
pub fn share<R: Resolver + Clone>(config: &Config, parts: Parts<R>) -> Result<Arc<Shared<R>>, ShareError> {
    let Parts { hostname, dns, roots, policies, journal, reporter } = parts;
    let tls = Tls::new(config.into())?.with_roots(roots);
    let size = config.limits.message_size.as_u64();
    let us = Us { hostname: hostname.to_string(), size, max_recipients: config.limits.recipients };
    let connector = connector_of(config, ConnectorParts { hostname, dns, tls, policies });
    Ok(Arc::new(Shared {
        rules: config.rules()?,
        us,
        connector,
        received: if config.received { Received::Add } else { Received::Omit },
        bare_newlines: config.limits.bare_newlines,
        client_timeout: config.timeouts.client,
        grace: config.timeouts.grace,
        max_sessions: config.limits.sessions,
        listeners: listeners(config).collect::<Result<_, _>>()?,
        reporter,
        journal,
    }))
}

/// The listeners, with the files for their TLS read. Each has an error where a file is of no use, or a key is not that of its certificate.
pub fn listeners(config: &Config) -> impl Iterator<Item = Result<ListenerShared, ShareError>> {
    config.listener.iter().enumerate().map(|(entry, listener)| {
        let strictness = if listener.lenient { Strictness::Lenient } else { Strictness::Strict };
        let security = security(listener).map_err(|error| ShareError::Listener { entry, error })?;
        Ok(ListenerShared { security, terms: listener.terms(), strictness })
    })
}

fn security(listener: &Listener) -> Result<ListenerSecurity, ServerTlsError> {
    let secured = match listener.tls {
        ListenerTls::None => return Ok(ListenerSecurity::Clear),
        ListenerTls::Starttls => ListenerSecurity::Starttls,
        ListenerTls::Required => ListenerSecurity::Required,
        ListenerTls::Implicit => ListenerSecurity::Implicit,
    };
    // Both are there (`Config::check`).
    let certificate = listener.certificate.clone().unwrap_or_default();
    let key = listener.key.clone().unwrap_or_default();
    let client_keys = listener.client_keys.iter().map(|key| key.0).collect();
    let files = ServerFiles { certificate, key, client_ca: listener.client_ca.clone(), client_keys };
    ServerTls::load(&files).map(secured)
}

/// Makes the connector to remotes. It keeps policies of MTA-STS for itself.
pub fn connector<R: Resolver + Clone>(config: &Config, hostname: Name, dns: R, tls: Tls) -> Connector<R> {
    let policies = PolicyKeeping::of(StsPolicies::in_memory(&config.into()));
    connector_of(config, ConnectorParts { hostname, dns, tls, policies })
}

/// The parts of a [`Connector`] that the configuration alone does not make.
struct ConnectorParts<R> {
    hostname: Name,
    dns: R,
    tls: Tls,
    policies: PolicyKeeping,
}

fn connector_of<R: Resolver + Clone>(config: &Config, parts: ConnectorParts<R>) -> Connector<R> {
    let ConnectorParts { hostname, dns, tls, policies } = parts;
    let remote = &config.remote;
    let https = https(config, dns.clone(), tls.roots(), policies.port);
    let mta_sts = MtaSts::new(https, config.into(), policies.policies);
    Connector {
        enforced_sts: Arc::new(mta_sts.clone()),
        mta_sts,
        dns,
        dialer: Dialer {
            port: remote.port,
            head_start: remote.head_start,
            limit: config.timeouts.connect,
            source: config.into(),
            limits: ConnectionLimits::new(config.into()),
            pool: Pool::new(config.into()),
        },
        tls,
        mode: config.mode,
        digests: config.tls.digests.clone(),
        dialable: config.into(),
        host_status: HostStatusCache::new(remote.failed_hosts_for),
        without_bdat: Arc::new(WithoutBdat::of_addresses()),
        eight_bit: Arc::new(EightBitDomains::of_domains()),
        waived: Arc::new(WaivedMails::of_next_tries()),
        max_exchanges: remote.exchanges,
        max_addresses: remote.addresses,
        own_names: remote.own_names.iter().map(|name| name.0.clone()).collect(),
        own_addresses: config.into(),
        hostname,
        ehlo_name: config.ehlo_name.clone(),
        timeouts: Arc::new(config.into()),
        learning: if config.watch.every.is_some() { HostLearning::On } else { HostLearning::Off },
    }
}

/// The client that asks policy hosts at the port of RFC 8461 §3.3.
pub fn policy_hosts<R: Resolver>(config: &Config, dns: R, roots: &Roots) -> HttpsClient<R> {
    https(config, dns, roots, POLICY_PORT)
}

fn https<R: Resolver>(config: &Config, dns: R, roots: &Roots, port: u16) -> HttpsClient<R> {
    // Policy hosts may be where exchanges may: a network with mail domains of its own has their policy hosts too.
    HttpsClient::new(dns, HttpsPart { dialable: config.into(), roots: roots.clone(), port })
}

/// The policies of MTA-STS, and the port of the hosts that they come from.
#[derive(Debug, Clone)]
pub struct PolicyKeeping {
    /// The policies.
    pub policies: StsPolicies,
    /// The port: 443, except in tests.
    pub port: u16,
}

impl PolicyKeeping {
    /// The port of RFC 8461 §3.3.
    pub fn of(policies: StsPolicies) -> Self {
        Self { policies, port: POLICY_PORT }
    }
}

impl From<&Config> for StsSettings {
    fn from(config: &Config) -> Self {
        let section = &config.mta_sts;
        Self { usage: section.mode, entries: section.entries, timeout: section.timeout, refresh: section.refresh }
    }
}

impl From<&Config> for setup::ResolverSettings {
    fn from(config: &Config) -> Self {
        let dns = &config.dns;
        Self {
            mode: dns.mode,
            servers: dns.servers.iter().map(|server| server.0.clone()).collect(),
            fallback: dns.fallback,
            trust_ad_unsafe_remote: dns.trust_ad_unsafe_remote,
            trust_anchor: dns.trust_anchor.clone(),
            root_hints: dns.root_hints.clone(),
            tls_ca: dns.tls_ca.clone(),
            timeout: dns.timeout,
            attempts: dns.attempts,
            deadline: dns.deadline,
            memory: setup::MemoryLimits {
                entries: dns.cache_entries,
                octets: usize::try_from(dns.cache_size.as_u64()).unwrap_or(usize::MAX),
                answers: dns.cache_max_ttl,
                failures: dns.cache_failures,
            },
            families: config.remote.families,
            nat64: config.remote.nat64,
            negative: config.negative_trust_anchors(),
            ..Self::default()
        }
    }
}

impl From<&Config> for journal::Settings {
    fn from(config: &Config) -> Self {
        let (store, timeouts) = (&config.store, &config.timeouts);
        let hold = timeouts.r#final + timeouts.client + HOLD_SLACK;
        Self { place: StorePlace::from(config), entries: store.entries, expiry: store.expiry, hold }
    }
}

impl From<&Config> for StorePlace {
    fn from(config: &Config) -> Self {
        match (&config.store.path, database(config)) {
            (_, Some(settings)) => Self::Database(Box::new(settings)),
            (Some(path), None) => Self::File(path.clone()),
            (None, None) => Self::Memory,
        }
    }
}

/// The database of the store, if it has one.
pub fn database(config: &Config) -> Option<DatabaseSettings> {
    let store = &config.store;
    Some(DatabaseSettings {
        url: store.url.clone()?,
        password_file: store.password_file.clone(),
        ca: store.ca.clone(),
        pepper_file: store.pepper_file.clone(),
        connections: store.connections,
        patience: store.patience,
        migration: if store.migrate { Migration::AtStart } else { Migration::ByHand },
    })
}

impl From<&Config> for Dialable {
    fn from(config: &Config) -> Self {
        Self::new(config.remote.allow_reserved.iter().map(|network| network.0))
    }
}

impl From<&Config> for RootFiles {
    fn from(config: &Config) -> Self {
        Self { ca: config.tls.ca.clone(), extra_ca: config.tls.extra_ca.clone() }
    }
}

impl From<&Config> for PostQuantum {
    fn from(config: &Config) -> Self {
        if config.tls.post_quantum { Self::Offer } else { Self::Omit }
    }
}

impl From<&Config> for Timeouts {
    fn from(config: &Config) -> Self {
        let timeouts = &config.timeouts;
        Self {
            route: timeouts.route,
            connect: timeouts.connect,
            greeting: timeouts.greeting,
            handshake: timeouts.handshake,
            command: timeouts.command,
            data: timeouts.data,
            block: timeouts.block,
            r#final: timeouts.r#final,
        }
    }
}

impl From<&Config> for Source {
    fn from(config: &Config) -> Self {
        Self { v4: config.remote.source_ipv4, v6: config.remote.source_ipv6 }
    }
}

impl From<&Config> for MaxConnections {
    fn from(config: &Config) -> Self {
        let remote = &config.remote;
        Self {
            per_host: remote.connections_per_host,
            per_domain: remote.connections_per_domain,
            in_all: remote.connections,
        }
    }
}

impl From<&Config> for IdleLimits {
    fn from(config: &Config) -> Self {
        let remote = &config.remote;
        Self {
            in_all: remote.idle_connections,
            per_host: remote.idle_connections_per_host,
            idle: remote.idle_for,
            age: remote.connection_age,
            uses: remote.mails_per_connection,
        }
    }
}

impl From<&Config> for OwnAddresses {
    fn from(config: &Config) -> Self {
        let listeners = config.listener.iter().filter_map(|listener| match listener.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        });
        let networks = config.remote.own_addresses.iter().map(|network| network.0);
        Self::new(networks, listeners, config.remote.port)
    }
}
