//! A lab in one process: a signed DNS tree, scripted mail exchangers, danelaw in between, and a scripted client.
//!
//! A [`Scenario`] is the happy path: `example.test` is signed, its one exchange `mx1.example.test` speaks STARTTLS with
//! a certificate that its `3 1 1` record matches, and takes every mail. A test changes one thing, sends a message and
//! looks at the replies to the client and at the commands and messages that the exchanges saw.

// Each test binary uses a part of the lab.
#![allow(dead_code)]

pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod dns;
pub(crate) mod exchange;
pub(crate) mod mx;
pub(crate) mod policy_host;
pub(crate) mod sts;
pub(crate) mod tls_client;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use danelaw::admin::{AdminPort, AdminState, Phase};
use danelaw::config::{Address, AdminSection, Config, DEFAULTS};
use danelaw::discovery::StsPolicies;
use danelaw::dispatch::Dispatch;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{MxTarget, Resolver};
use danelaw::journal::Journal;
use danelaw::name::Name;
use danelaw::report::Reporter;
use danelaw::roots::Roots;
use danelaw::server::{self, Drained, OpenListener, OpenSessions, RunningServer};
use danelaw::session::{Admission, Caller, ListenerShared, Origin, Shared, Stop};
use danelaw::settings::{self, Parts, PolicyKeeping};
use danelaw::smtp::command::Strictness;
use danelaw::store::Store;
use danelaw::terms::ListenerTerms;
use danelaw::tls::server::ListenerSecurity;
use danelaw::tlsrpt::TlsEvent;
use danelaw::transaction::dialogue::Service;
use danelaw::watch::Watch;
use danelaw::watch::hosts::SettledHosts;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use certs::Identity;
use client::{Answers, Client};
use dns::authority::Authorities;
pub(crate) use dns::port::free_port;
use dns::{DnsLab, Tree};
use exchange::Exchange;
use mx::{Mx, Seen};

/// The message for tests that need no particular one.
pub(crate) const MESSAGE: &[u8] = b"From: <a@client.test>\r\nSubject: lab\r\n\r\n.dots\r\nbody\r\n";

/// A client that may send mail, without TLS.
pub(crate) fn caller(origin: Origin, service: Service) -> Caller {
    Caller {
        origin,
        service,
        original_destination: None,
        place: 0,
        listener: ListenerShared {
            security: ListenerSecurity::Clear,
            terms: ListenerTerms::default(),
            strictness: Strictness::Strict,
        },
        admission: Admission::Allowed,
    }
}

/// The setup of the lab before any part of it runs.
pub(crate) struct Scenario {
    tree: Tree,
    hosts: Vec<Host>,
    port: u16,
    config: toml::Table,
    events: Option<mpsc::Sender<TlsEvent>>,
    roots: Roots,
    policies: Option<Arc<sts::Policies>>,
    /// The port of policy hosts, if policies are found as danelaw itself does it.
    policy_port: Option<u16>,
}

/// One scripted exchange with its name and address.
struct Host {
    name: String,
    address: Ipv4Addr,
    mx: Mx,
}

/// The delivery path of a `Scenario`, running.
pub(crate) struct Lab<R = Stub> {
    pub(crate) dns: DnsLab,
    /// The record of each exchange, in the order in which they were added.
    pub(crate) seen: Vec<Arc<Seen>>,
    pub(crate) address: Address,
    /// The shared state of its sessions, for a session that a test serves by hand.
    pub(crate) shared: watch::Receiver<Arc<Shared<R>>>,
    /// Changes that shared state.
    pub(crate) news: watch::Sender<Arc<Shared<R>>>,
    /// The port of its exchanges.
    pub(crate) port: u16,
    changes: toml::Table,
    phase: watch::Sender<Phase>,
    open_sessions: Arc<OpenSessions>,
    stop: CancellationToken,
    server: Option<JoinHandle<Drained>>,
    /// The reports that the admin port tells of.
    pub(crate) reports: Option<Arc<Dispatch<Stub>>>,
    /// The memory of hosts that the admin port tells of.
    pub(crate) hosts: Option<Arc<SettledHosts>>,
    /// The watch that the admin port tells of.
    pub(crate) watch: Option<Arc<Watch>>,
}

impl Scenario {
    /// The happy path: one secure domain, one exchange, one matching record.
    pub(crate) fn new() -> Self {
        Self::of([Exchange::new("example.test", "mx1.example.test")])
    }

    /// The secure domain with these exchanges.
    pub(crate) fn of(exchanges: impl IntoIterator<Item = Exchange>) -> Self {
        exchanges.into_iter().fold(Self::with_domain(|tree, _| tree), Self::exchange)
    }

    /// The secure domain alone, with the additions of `records`; the port is the one on which exchanges listen.
    pub(crate) fn with_domain(records: impl FnOnce(Tree, u16) -> Tree) -> Self {
        // All exchanges of a scenario listen on one port, each on its own address, because danelaw connects to one
        // port.
        let port = free_port();
        let tree = records(Tree::new().secure("example.test"), port);
        let (config, roots, events) = (toml::Table::new(), Roots::default(), None);
        Self { tree, hosts: Vec::new(), port, config, roots, policies: None, policy_port: None, events }
    }

    /// Hands on the events for TLS reports.
    pub(crate) fn telling(self, events: mpsc::Sender<TlsEvent>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Adds an exchange with its MX, A and TLSA records.
    pub(crate) fn exchange(self, exchange: Exchange) -> Self {
        let Exchange { domain, name, preference, mx, tlsa } = exchange;
        self.host(&name, |_, tree, port| {
            let tree = tree.mx(&domain, preference, &name);
            (mx, tlsa.iter().fold(tree, |tree, record| tree.tlsa(&name, port, record)))
        })
    }

    /// Adds an exchange: its A record is there; `set` gives it its script, and the tree its other records.
    pub(crate) fn host(mut self, name: &str, set: impl FnOnce(Mx, Tree, u16) -> (Mx, Tree)) -> Self {
        let address = Ipv4Addr::new(127, 0, 0, u8::try_from(self.hosts.len() + 1).unwrap());
        let tree = self.tree.a(name, &address.to_string());
        let (mx, tree) = set(Mx::new(Identity::for_name(name)), tree, self.port);
        self.hosts.push(Host { name: name.to_owned(), address, mx });
        self.tree = tree;
        self
    }

    /// One more secure domain, with its own exchange: the happy path except for `change`.
    pub(crate) fn and_domain(self, domain: &str, change: impl FnOnce(&mut Mx)) -> Self {
        self.exchange(Exchange::new(domain, &format!("mx.{domain}")).script(change))
    }

    /// Changes the first exchange's script.
    pub(crate) fn mx(self, change: impl FnOnce(&mut Mx)) -> Self {
        self.change(0, change)
    }

    /// Changes the script of the exchange with this index.
    pub(crate) fn change(mut self, index: usize, change: impl FnOnce(&mut Mx)) -> Self {
        change(&mut self.hosts[index].mx);
        self
    }

    /// Changes the DNS.
    pub(crate) fn tree(mut self, change: impl FnOnce(Tree, u16) -> Tree) -> Self {
        self.tree = change(self.tree, self.port);
        self
    }

    /// Names the public CAs that there are; without this, none.
    pub(crate) fn roots(self, roots: Roots) -> Self {
        Self { roots, ..self }
    }

    /// Gives domains MTA-STS policies.
    pub(crate) fn policies(self, policies: &Arc<sts::Policies>) -> Self {
        Self { policies: Some(Arc::clone(policies)), ..self }
    }

    /// Leaves the search for policies to danelaw. The policy hosts listen on this port.
    pub(crate) fn policy_hosts(self, port: u16) -> Self {
        Self { policy_port: Some(port), ..self }
    }

    /// Keeps the cache on: a question that was answered once is not asked again.
    pub(crate) fn remember(self) -> Self {
        self.set("dns.cache_entries = 1000")
    }

    /// Sets a configuration key, in TOML.
    pub(crate) fn set(mut self, toml: &str) -> Self {
        for (key, value) in toml.parse::<toml::Table>().unwrap() {
            match (self.config.get_mut(&key), value) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                (_, value) => {
                    self.config.insert(key, value);
                }
            }
        }
        self
    }

    /// Starts the delivery path.
    pub(crate) async fn start(self) -> Lab {
        self.start_with(|stub| stub).await
    }

    /// Starts the delivery path, with a layer between danelaw and the DNS.
    pub(crate) async fn start_with<R: Resolver + Clone>(mut self, between: impl FnOnce(Stub) -> R) -> Lab<R> {
        let dns = std::mem::replace(&mut self.tree, Tree::new()).start().await;
        self.start_on(dns, ResolverSettings::default(), between).await
    }

    /// Starts the delivery path with authoritative servers, and a resolver before them. The server of each zone is at an
    /// address of its own.
    pub(crate) async fn start_with_authorities(mut self) -> (Lab, Authorities) {
        let authorities = std::mem::replace(&mut self.tree, Tree::new()).delegate().await;
        let dns = authorities.resolver((Ipv4Addr::LOCALHOST, 0).into()).await;
        (self.start_on(dns, authorities.settings(), |stub| stub).await, authorities)
    }

    /// Starts the delivery path with this resolver, and the root of these settings.
    async fn start_on<R: Resolver + Clone>(
        self,
        dns: DnsLab,
        root: ResolverSettings,
        between: impl FnOnce(Stub) -> R,
    ) -> Lab<R> {
        let mut seen = Vec::new();
        for host in self.hosts {
            seen.push(host.mx.start(SocketAddr::from((host.address, self.port)), &host.name).await);
        }
        let changes = self.config;
        let config = config(self.port, changes.clone());
        let stub = Stub::new(&ResolverSettings {
            servers: vec![dns.addr.into()],
            trust_anchor: Some(dns.anchor_file.clone()),
            root_hints: root.root_hints,
            recursion_port: root.recursion_port,
            ..ResolverSettings::from(&config)
        })
        .unwrap();
        let reporter = Reporter::new(config.admin.remember)
            .counting(time::OffsetDateTime::now_utc())
            .noting_deliveries()
            .learning_hosts();
        let reporter = if config.store.counts_months() { reporter.counting_months() } else { reporter };
        let reporter = Arc::new(match self.events {
            Some(events) => reporter.telling(events),
            None => reporter,
        });
        let journal = Journal::open((&config).into()).await.unwrap().0;
        let hostname = Name::parse("danelaw.test").unwrap();
        let mut policies = PolicyKeeping::of(StsPolicies::in_memory(&(&config).into()));
        policies.port = self.policy_port.unwrap_or(policies.port);
        let (roots, dns_of_danelaw) = (self.roots.clone(), between(stub));
        let parts = Parts { hostname, dns: dns_of_danelaw, roots, policies, journal, reporter };
        let mut shared = settings::share(&config, parts).unwrap();
        if self.policy_port.is_none() {
            let policies = self.policies.unwrap_or_else(|| Arc::new(sts::Policies::off()));
            Arc::get_mut(&mut shared).unwrap().connector.enforced_sts = policies;
        }
        let (news, shared) = watch::channel(shared);
        let listener = OpenListener::open(&config.listener[0]).unwrap();
        let address = listener.address().unwrap();
        let stop = CancellationToken::new();
        let open_sessions = Arc::<OpenSessions>::default();
        let phase = watch::Sender::new(Phase::Serving);
        let server = RunningServer { listeners: vec![listener], open_sessions: Arc::clone(&open_sessions) };
        let server = tokio::spawn(server.run(shared.clone(), Stop { when_idle: stop.clone(), ..Stop::default() }));
        Lab {
            dns,
            seen,
            address,
            shared,
            news,
            port: self.port,
            changes,
            phase,
            open_sessions,
            stop,
            server: Some(server),
            reports: None,
            hosts: None,
            watch: None,
        }
    }
}

impl<R: Resolver> Lab<R> {
    /// A client that has said EHLO.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::connect(&self.address).await;
        client.command("EHLO client.test").await;
        client
    }

    /// A client that has said LHLO.
    pub(crate) async fn lmtp_client(&self) -> Client {
        let mut client = Client::connect(&self.address).await;
        client.command("LHLO client.test").await;
        client
    }

    /// The shared state of its sessions now.
    pub(crate) fn now(&self) -> Arc<Shared<R>> {
        Arc::clone(&self.shared.borrow())
    }

    /// The address of danelaw's listener, for connections other than the lab's clients.
    pub(crate) fn port(&self) -> SocketAddr {
        match self.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => panic!("this lab listens on a Unix socket"),
        }
    }

    /// Sends [`MESSAGE`] to one recipient at `example.test`.
    pub(crate) async fn send(&self) -> Answers {
        self.client().await.send(&["b@example.test"], MESSAGE).await
    }

    /// Looks all of these domains up and stops the clock. The DNS is real: with a clock that jumps, danelaw would take
    /// it for silent. For scenarios that [`Scenario::remember`].
    pub(crate) async fn stop_the_clock(&self, domains: &[&str]) {
        let shared = self.now();
        let dns = &shared.connector.dns;
        for domain in domains {
            for record in dns.mx(&Name::parse(domain).unwrap()).await.unwrap().answer.records() {
                let MxTarget::Host(exchange) = &record.target else { continue };
                let _ = dns.host(exchange).await;
                let _ = dns.tlsa(&exchange.tlsa_owner(shared.connector.dialer.port).unwrap()).await;
            }
        }
        tokio::time::pause();
    }

    /// The record of the first exchange.
    pub(crate) fn mx(&self) -> &Seen {
        &self.seen[0]
    }

    /// How many client sessions are open.
    pub(crate) fn sessions(&self) -> usize {
        self.open_sessions.count()
    }

    /// Asks danelaw to stop, as SIGTERM does.
    pub(crate) fn stop(&self) {
        self.phase.send_replace(Phase::Draining);
        self.stop.cancel();
    }

    /// Waits until danelaw has stopped.
    pub(crate) async fn stopped(&mut self) -> Drained {
        self.server.take().unwrap().await.unwrap()
    }
}

impl Lab {
    /// Puts another configuration in force, as SIGHUP does: that of the scenario with these keys.
    pub(crate) fn reload(&self, toml: &str) {
        let mut changes = self.changes.clone();
        merge(&mut changes, toml.parse().unwrap());
        let (now, config) = (self.now(), config(self.port, changes));
        let (dns, reporter) = (now.connector.dns.clone(), Arc::clone(&now.reporter));
        let hostname = config.hostname.clone().unwrap_or_else(|| Name::parse("danelaw.test").unwrap());
        let journal = self.shared.borrow().journal.clone();
        let policies = PolicyKeeping::of(now.connector.mta_sts.policies().clone());
        let (roots, source) = (now.connector.tls.roots().clone(), now.connector.enforced_sts.clone());
        let parts = Parts { hostname, dns, roots, policies, journal, reporter };
        let mut shared = settings::share(&config, parts).unwrap();
        Arc::get_mut(&mut shared).unwrap().connector.enforced_sts = source;
        server::replace(&self.news, shared);
    }

    /// The watch of a danelaw with the scenario's configuration and these keys.
    pub(crate) fn watching(&self, toml: &str, store: Option<Store>) -> Watch {
        let mut changes = self.changes.clone();
        merge(&mut changes, toml.parse().unwrap());
        let (_, config) = watch::channel(Arc::new(config(self.port, changes)));
        Watch::new(config, self.shared.clone(), store)
    }

    /// Opens the admin port and returns its address.
    pub(crate) async fn admin(&self) -> Address {
        self.admin_at("127.0.0.1:0").await
    }

    /// Opens the admin port at this address.
    pub(crate) async fn admin_at(&self, address: &str) -> Address {
        self.admin_by(AdminSection { address: Some(address.parse().unwrap()), allow: vec![], remember: 0, page: true })
            .await
    }

    /// Opens the admin port without the page for browsers.
    pub(crate) async fn admin_without_page(&self) -> Address {
        let address = Some("127.0.0.1:0".parse().unwrap());
        self.admin_by(AdminSection { address, allow: vec![], remember: 0, page: false }).await
    }

    /// Opens the admin port with these settings.
    pub(crate) async fn admin_by(&self, settings: AdminSection) -> Address {
        let port = AdminPort::open(&settings).await.unwrap().unwrap();
        let address = port.address().unwrap();
        let (phase, shared) = (self.phase.subscribe(), self.shared.clone());
        tokio::spawn(port.serve(Arc::new(AdminState {
            phase,
            shared,
            open_sessions: Arc::clone(&self.open_sessions),
            log_dropped: Arc::default(),
            reports: self.reports.clone(),
            watch: self.watch.clone(),
            hosts: self.hosts.clone(),
            page: settings.page,
        })));
        address
    }
}

/// The default configuration, with the changes of the lab and of the test.
fn config(port: u16, changes: toml::Table) -> Config {
    let mut table: toml::Table = DEFAULTS.parse().unwrap();
    let lab = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[dns]\ncache_entries = 0\ntimeout = \"400ms\"\nattempts = 1\ndeadline = \"3s\"\n\
         [remote]\nidle_connections = 0\nport = {port}\nallow_reserved = [\"127.0.0.0/8\"]\n\
         [timeouts]\nroute = \"20s\"\nconnect = \"2s\"\ngreeting = \"2s\"\nhandshake = \"2s\"\ncommand = \"2s\"\ndata = \"2s\"\n\
         block = \"2s\"\nfinal = \"2s\"\nclient = \"5s\"\ngrace = \"2s\"\n"
    );
    for layer in [lab.parse().unwrap(), changes] {
        merge(&mut table, layer);
    }
    let config: Config = table.try_into().unwrap();
    config.check().unwrap();
    config
}

fn merge(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Waits for a condition that is about to hold.
pub(crate) async fn wait_for(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waited).await.expect("the condition holds in time");
}

/// Whether the tests are to take their long form.
pub(crate) fn long() -> bool {
    std::env::var("LONG_TESTS").is_ok_and(|which| which == "yes")
}

/// Waits until a program listens at this address.
pub(crate) async fn listens(address: SocketAddr) {
    let up = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, up).await.expect("a program listens in time");
}

/// Long enough for any event that should happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
