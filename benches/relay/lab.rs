//! The setup around a measured relay: a signed zone, its name server, resolvers, and a key for every MX.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::certs::Identity;
use crate::command::{eventually, run};
use crate::net::Subnet;
use crate::pki::public_ca;
use crate::postfix::Postfix;
use crate::proc;
use crate::process::Daemon;
use crate::run::Options;
use crate::server::Server;
use crate::sink::Seen;
use crate::smtp::Session;
use crate::source::{self, Report};
use crate::world::{Domain, LISTED, Manner, WILD_HOSTS, ZONE};
use crate::zones::{Record, SignedZones, Zone};
use crate::{dns, null, sink};

/// The address at which each relay listens, one relay at a time.
const RELAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10025);

/// The number of domains of each manner.
pub(crate) type Census = Vec<(Manner, u64)>;

/// The relays that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Danelaw,
    /// Postfix with `smtp_tls_security_level = dane` and its defaults: a connection for each message.
    Postfix,
    /// The same with `smtp_tls_connection_reuse = yes`.
    PostfixReuse,
    Null,
    /// No relay at all: the source speaks to the sink.
    Direct,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Danelaw => "danelaw",
            Self::Postfix => "postfix",
            Self::PostfixReuse => "postfix-reuse",
            Self::Null => "null",
            Self::Direct => "direct",
        }
    }

    pub(crate) fn has_queue(self) -> bool {
        matches!(self, Self::Postfix | Self::PostfixReuse)
    }
}

/// The load for which a relay has to be configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) sessions: usize,
    /// Upstream connections are good for one message.
    pub(crate) fresh: bool,
    /// The value of `mta_sts.mode`.
    pub(crate) mta_sts: &'static str,
    pub(crate) store: Keeping,
    /// Rules, none of which names a domain of the load.
    pub(crate) rules: usize,
}

impl Needs {
    pub(crate) fn of(sessions: usize) -> Self {
        Self { sessions, fresh: false, mta_sts: "enforce", store: Keeping::None, rules: 0 }
    }
}

/// danelaw's store. With one its listener takes fan-out mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    None,
    File,
    Database,
}

/// The fields are in the order in which they have to end.
pub(crate) struct Lab {
    _resolvers: [Daemon; 2],
    _authority: Daemon,
    _policy_host: Option<Role>,
    /// Started once a relay needs it.
    database: Option<Server>,
    tree: SignedZones,
    pem: PathBuf,
    directory: PathBuf,
    net: Subnet,
    options: Options,
    started: u32,
}

impl Lab {
    /// Signs the zone and starts the name servers; Postfix finds the validating one in /etc/resolv.conf.
    pub(crate) fn start(directory: &Path, census: &Census, options: &Options) -> Self {
        let net = Subnet::claim();
        let identity = Identity::public(&["mx.bench.test", &format!("*.{LISTED}")]);
        let pem = directory.join("sink.pem");
        fs::write(&pem, identity.key_and_chain()).expect("the lab's directory is writable");
        let domains =
            census.iter().flat_map(|&(manner, count)| (0..count).map(move |number| Domain { manner, number }));
        let wild = (0..WILD_HOSTS).map(|number| Domain { manner: Manner::Wild, number });
        let wild = wild
            .map(|domain| Record::new(&format!("*.{}.", domain.wildcard()), format!("MX 10 {}.", domain.exchange())));
        let records = domains.filter(|domain| domain.manner != Manner::Wild).flat_map(|domain| {
            let (name, exchange) = (domain.name(), domain.exchange());
            let mut records = vec![
                Record::new(&format!("{name}."), format!("MX 10 {exchange}.")),
                Record::new(&format!("{exchange}."), format!("A {}", domain.address())),
            ];
            if domain.manner == Manner::Listed {
                records.push(Record::new(&format!("_mta-sts.{name}."), "TXT \"v=STSv1; id=1;\""));
                records.push(Record::new(&format!("mta-sts.{name}."), format!("A {}", net.policy_host().ip())));
            } else {
                records.push(Record::new(&format!("_25._tcp.{exchange}."), format!("TLSA {}", identity.tlsa())));
            }
            records
        });
        let zones = vec![
            Zone { name: ZONE, signed: true, records: records.chain(wild).collect() },
            Zone { name: "test.", signed: true, records: vec![] },
        ];
        let tree = SignedZones::sign(&directory.join("zones"), net.authority().ip(), zones);
        let authority = dns::authority(directory, &net, &tree.files);
        let faults = dns::Faults::new();
        let resolvers =
            [dns::resolver(directory, &net, &faults), dns::validator(directory, &net, &faults, &tree.trust_anchor)];
        let resolv_conf = directory.join("resolv.conf");
        let text = format!("nameserver {}\noptions edns0 trust-ad\n", net.validator().ip());
        fs::write(&resolv_conf, text).expect("the lab's directory is writable");
        run(Command::new("mount").arg("--bind").arg(&resolv_conf).arg("/etc/resolv.conf"));
        fs::write(directory.join("ca.pem"), public_ca()).expect("the lab's directory is writable");
        let listed = census.iter().find(|(manner, _)| *manner == Manner::Listed).map(|(_, count)| *count);
        Self {
            _resolvers: resolvers,
            _authority: authority,
            _policy_host: listed.map(|count| policy_host(directory, net.policy_host(), count)),
            database: None,
            tree,
            pem,
            directory: directory.to_owned(),
            net,
            options: options.clone(),
            started: 0,
        }
    }

    /// Seconds of CPU time of the name server and the resolvers.
    pub(crate) fn dns_cpu(&self) -> f64 {
        let pids = ["nsd.pid", "resolver.pid", "validator.pid"].map(|file| pid_in(&self.directory.join(file)));
        pids.into_iter().flatten().map(proc::cpu).sum()
    }

    /// Seconds of CPU time of the database.
    pub(crate) fn store_cpu(&self) -> f64 {
        self.database.as_ref().and_then(Server::pid).map_or(0.0, proc::cpu)
    }

    /// Empties the caches of the resolvers.
    pub(crate) fn forget(&mut self) {
        let faults = dns::Faults::new();
        let Self { _resolvers: [resolver, validator], .. } = self;
        // The old resolver ends before the new one takes its port.
        replace(resolver, || dns::resolver(&self.directory, &self.net, &faults));
        replace(validator, || dns::validator(&self.directory, &self.net, &faults, &self.tree.trust_anchor));
    }

    /// The deliveries that the last danelaw has logged without the word of MTA-STS.
    pub(crate) fn unverified(&self) -> usize {
        let log = self.directory.join(format!("{}-{}", Kind::Danelaw.name(), self.started)).join("danelaw.log");
        let log = fs::read_to_string(log).expect("danelaw has a log");
        let deliveries: Vec<_> = log.lines().filter(|line| line.contains(" delivery ")).collect();
        assert!(!deliveries.is_empty(), "danelaw logs deliveries");
        deliveries.iter().filter(|line| !line.contains("mta-sts")).count()
    }

    pub(crate) fn sink(&self, mail_max: Option<u32>, delay: u64) -> Sink {
        let mut command = myself();
        command.arg("sink").arg("--pem").arg(&self.pem);
        if let Some(most) = mail_max {
            command.args(["--mail-max", &most.to_string()]);
        }
        command.args(["--delay", &delay.to_string()]);
        let threads = self.options.threads.unwrap_or(sink::DEFAULT_THREADS);
        command.args(["--threads", &threads.to_string()]);
        let mut role = Role::start(&mut command);
        assert_eq!(role.line().trim(), "ready", "the sink listens");
        Sink(role)
    }

    pub(crate) fn relay(&mut self, kind: Kind, needs: Needs) -> Relay {
        self.started += 1;
        let directory = self.directory.join(format!("{}-{}", kind.name(), self.started));
        fs::create_dir_all(&directory).expect("the lab's directory is writable");
        // Processes of the last relay may take some time to end.
        eventually("a free port for the relay", || TcpListener::bind(RELAY).ok());
        let relay = match kind {
            Kind::Danelaw => {
                if needs.store == Keeping::Database {
                    // With synced commits, as the package has them.
                    self.database.get_or_insert_with(|| Server::start_with(&["fsync=on", "full_page_writes=on"]));
                }
                Relay::Program(self.danelaw(&directory, needs), RELAY)
            }
            Kind::Null => {
                let mut command = myself();
                command.args(["null", "--listen", &RELAY.to_string()]);
                if needs.fresh {
                    command.arg("--fresh");
                }
                let threads = self.options.threads.unwrap_or(null::DEFAULT_THREADS);
                command.args(["--threads", &threads.to_string()]);
                Relay::Program(Role::start(&mut command), RELAY)
            }
            Kind::Postfix => self.postfix(&directory, needs, &[]),
            Kind::PostfixReuse => self.postfix(&directory, needs, &["smtp_tls_connection_reuse = yes"]),
            Kind::Direct => {
                let domain = Domain { manner: Manner::Healthy, number: 0 };
                Relay::None(SocketAddr::from((domain.address(), 25)))
            }
        };
        eventually("the greeting of the relay", || Session::open(relay.address()));
        relay
    }

    fn danelaw(&self, directory: &Path, needs: Needs) -> Role {
        let server = if self.options.ask_authority { self.net.authority() } else { self.net.resolver() };
        let store = match (needs.store, &self.database) {
            (Keeping::None, _) | (Keeping::Database, None) => String::new(),
            (Keeping::File, _) => format!("path = \"{}\"", directory.join("store.sqlite").display()),
            (Keeping::Database, Some(database)) => format!("url = \"{}\"", database.url()),
        };
        let recipients = if needs.store == Keeping::None { "" } else { "recipients = \"fan-out\"\n" };
        let mut configuration = format!(
            "hostname = \"danelaw.client.test\"\n[[listener]]\naddress = \"{RELAY}\"\n{recipients}[store]\n{store}\n\
             [dns]\nmode = \"validate\"\nservers = [\"{}\"]\ntrust_anchor = \"{}\"\n\
             [remote]\nallow_reserved = [\"127.0.0.0/8\"]\nconnections = {sessions}\n\
             connections_per_host = {sessions}\nconnections_per_domain = {sessions}\n\
             idle_connections = {sessions}\nidle_connections_per_host = {sessions}\n[limits]\nsessions = {sessions}\n\
             [tls]\nca = \"{}\"\n[mta_sts]\nmode = \"{}\"\n",
            server.ip(),
            self.tree.trust_anchor.display(),
            self.directory.join("ca.pem").display(),
            needs.mta_sts,
            sessions = needs.sessions + 1000,
        );
        for number in 0..needs.rules {
            let below = if number % 2 == 0 { "" } else { "." };
            let rule = format!("[[rule]]\ndomain = \"{below}r{number}.bench.test\"\nlevel = \"dane-only\"\n");
            configuration.push_str(&rule);
        }
        let file = directory.join("danelaw.toml");
        fs::write(&file, configuration).expect("the lab's directory is writable");
        let program = self.options.danelaw.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_danelaw").into());
        let mut words = self.options.wrap.iter().flat_map(|wrap| wrap.split_whitespace());
        let mut command = match words.next() {
            Some(wrapper) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(&file);
        for setting in &self.options.set {
            command.args(["--set", setting]);
        }
        let log = fs::File::create(directory.join("danelaw.log")).expect("the lab's directory is writable");
        command.stderr(log);
        let mut role = Role::start(&mut command);
        role.wrapped = self.options.wrap.is_some();
        role
    }

    fn postfix(&self, directory: &Path, needs: Needs, more: &[&str]) -> Relay {
        let name = "postfix.client.test";
        let mut settings = vec![
            "smtp_tls_security_level = dane".to_owned(),
            "smtp_dns_support_level = dnssec".to_owned(),
            // The default would refuse S3.
            "message_size_limit = 30000000".to_owned(),
            // The default, unless there are more clients than it has room for.
            format!("default_process_limit = {}", needs.sessions.saturating_add(20).max(100)),
        ];
        settings.extend(more.iter().map(|line| (*line).to_owned()));
        let postfix = Postfix::start(Command::new("postfix"), directory, (RELAY, name), &settings);
        let master = eventually("Postfix's pid file", || pid_in(&directory.join(name).join("queue/pid/master.pid")));
        Relay::Postfix { _running: Box::new(postfix), master }
    }
}

/// Starts the policy host of so many domains.
fn policy_host(directory: &Path, address: SocketAddr, domains: u64) -> Role {
    let names = (0..domains).map(|number| format!("mta-sts.{}", Domain { manner: Manner::Listed, number }.name()));
    let names: Vec<_> = names.collect();
    let pem = directory.join("policy-host.pem");
    let identity = Identity::public(&names.iter().map(String::as_str).collect::<Vec<_>>());
    fs::write(&pem, identity.key_and_chain()).expect("the lab's directory is writable");
    let mut command = myself();
    command.args(["policy-host", "--listen", &address.to_string(), "--pem"]).arg(&pem);
    let mut role = Role::start(&mut command);
    assert_eq!(role.line().trim(), "ready", "the policy host listens");
    role
}

fn replace(daemon: &mut Daemon, start: impl FnOnce() -> Daemon) {
    let placeholder = Daemon::start("nothing", &mut Command::new("true"), Path::new("/dev/null"));
    drop(std::mem::replace(daemon, placeholder));
    *daemon = start();
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// This very program.
fn myself() -> Command {
    Command::new(std::env::current_exe().expect("a program has a path"))
}

/// A part of the benchmark in a process of its own, controlled over its standard input and output.
pub(crate) struct Role {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    wrapped: bool,
}

impl Role {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program that starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { input: child.stdin.take(), output, child, wrapped: false }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line of text");
        line
    }

    fn json<T: DeserializeOwned>(&mut self) -> T {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if self.wrapped {
            // The wrapper, such as strace, must live on to print its results.
            let _ = Command::new("pkill").args(["-KILL", "-P", &self.pid().to_string()]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

pub(crate) struct Sink(Role);

impl Sink {
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    pub(crate) fn seen(&mut self) -> Seen {
        self.ask("stats")
    }

    /// The numbers of the messages of a load that have not arrived.
    pub(crate) fn missing(&mut self, run: u32, begun: u64) -> Vec<u64> {
        self.ask(&format!("missing {run} {begun}")).missing
    }

    fn ask(&mut self, question: &str) -> Seen {
        let input = self.0.input.as_mut().expect("the sink is running");
        writeln!(input, "{question}").and_then(|()| input.flush()).expect("the sink reads");
        self.0.json()
    }
}

/// A load that is being sent.
pub(crate) struct Source(Role);

impl Source {
    pub(crate) fn start(relay: &Relay, options: &source::Options) -> Self {
        let mut command = myself();
        command.arg("source");
        let mut flag = |name: &str, value: String| {
            command.args([format!("--{name}"), value]);
        };
        flag("to", relay.address().to_string());
        flag("sessions", options.sessions.to_string());
        flag("size", options.size.to_string());
        flag("domains", options.domains.to_string());
        flag("recipients", options.recipients.to_string());
        flag("manner", options.manner.to_string());
        flag("run", options.run.to_string());
        flag("patience", options.patience.to_string());
        flag("threads", options.threads.to_string());
        for (name, number) in [("seconds", options.seconds), ("rate", options.rate)] {
            number.into_iter().for_each(|number| flag(name, number.to_string()));
        }
        options.messages.into_iter().for_each(|number| flag("messages", number.to_string()));
        if options.once {
            command.arg("--once");
        }
        if matches!(relay, Relay::None(_)) {
            command.arg("--tls");
        }
        Self(Role::start(&mut command))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits for the end of the load; the source keeps running, so that its CPU time can be read.
    pub(crate) fn report(&mut self) -> Report {
        self.0.json()
    }
}

/// A running relay.
pub(crate) enum Relay {
    Program(Role, SocketAddr),
    Postfix { _running: Box<Postfix>, master: u32 },
    None(SocketAddr),
}

impl Relay {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Program(_, address) | Self::None(address) => *address,
            Self::Postfix { .. } => RELAY,
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Program(role, _) => Some(role.pid()),
            Self::Postfix { master, .. } => Some(*master),
            Self::None(_) => None,
        }
    }
}
