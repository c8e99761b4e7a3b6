//! The lab: everything between a submitted message and a mailbox, on a subnet of loopback.
//!
//! ```text
//! submitter -> client (Postfix) -> danelaw -> mx1, mx2 (Postfix, or a scripted peer)
//!                                     |
//!                                     +-> resolver (unbound) -> authority (nsd: ".", "test.", "example.test.")
//! ```
//!
//! [`Lab::reference`] runs the same [`Case`] with Postfix's own DANE in danelaw's place. It proves that the lab sets
//! the case up as described.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::case::{BOB, Case, Certificate, DOMAIN, Exchange, Server};
use crate::certs::Identity;
use crate::dns::{self, Faults};
use crate::forwarders::{Forwarder, Place};
use crate::message::{Stored, message, stuffed};
use crate::net::Subnet;
use crate::other_mtas::OtherMta;
use crate::peers::Peer;
use crate::policy::Policy;
use crate::policy_host;
use crate::postfix::{Postfix, RecipientOutcome};
use crate::process::Daemon;
use crate::program::{Danelaw, DanelawPlace};
use crate::zones::SignedZones;

/// A running MX host.
enum Running {
    Postfix(Postfix),
    Other(OtherMta),
    Peer(Peer),
}

struct Host {
    name: &'static str,
    address: SocketAddr,
    /// The identity that the TLSA record matches.
    identity: Identity,
    running: Running,
}

/// The part of the lab that is the same for danelaw and for the reference. The fields of this and of [`Lab`] are in the
/// order in which they have to end.
struct Ground {
    hosts: Vec<Host>,
    _policy_host: Option<Daemon>,
    _authority: Daemon,
    tree: SignedZones,
    faults: Faults,
    policy: Option<Policy>,
    directory: TempDir,
    net: Subnet,
}

pub(crate) struct Lab {
    pub(crate) client: Postfix,
    danelaw: Option<Danelaw>,
    _forwarder: Option<Forwarder>,
    _resolver: Daemon,
    ground: Ground,
}

impl Lab {
    /// A lab whose client does no DANE and hands all mail to danelaw.
    pub(crate) fn start(case: &Case) -> Self {
        let ground = Ground::lay(case);
        let Ground { net, tree, .. } = &ground;
        let resolver = dns::resolver(ground.path(), net, &ground.faults);
        let forwarder = case.forwarder.map(|kind| {
            let (address, upstream, trust_anchor) = (net.forwarder(), net.resolver(), &*tree.trust_anchor);
            Forwarder::start(kind, ground.path(), &Place { address, upstream, trust_anchor })
        });
        let asked = if forwarder.is_some() { net.forwarder() } else { net.resolver() };
        let place = DanelawPlace { net, resolver: asked, trust_anchor: &tree.trust_anchor };
        let danelaw = Danelaw::start(ground.path(), &place, case.danelaw);
        let usual =
            ["relayhost = [{danelaw}]:10025", "smtp_tls_security_level = none", "smtp_dns_support_level = disabled"];
        let domain = format!("virtual_mailbox_domains = {CLIENT}");
        // Of two lines for one parameter the last counts.
        let (host, folder) = (net.danelaw()[0].ip().to_string(), ground.path().display().to_string());
        let lines = usual.iter().chain(case.client);
        let lines = lines.map(|line| line.replace("{danelaw}", &host).replace("{lab}", &folder));
        let settings: Vec<_> = std::iter::once(domain).chain(lines).collect();
        let client = Postfix::start(Command::new("postfix"), ground.path(), (net.client(), CLIENT), &settings);
        Self { client, danelaw: Some(danelaw), _forwarder: forwarder, _resolver: resolver, ground }
    }

    /// A lab without danelaw, whose client does DANE by itself.
    pub(crate) fn reference(case: &Case) -> Self {
        let ground = Ground::lay(case);
        let Ground { net, tree, .. } = &ground;
        let resolver = dns::validator(ground.path(), net, &ground.faults, &tree.trust_anchor);
        let settings = [
            format!("virtual_mailbox_domains = {CLIENT}"),
            "smtp_tls_security_level = dane".to_owned(),
            "smtp_tls_loglevel = 1".to_owned(),
            "smtp_dns_support_level = dnssec".to_owned(),
        ];
        let postfix = ask("postfix", ground.path(), net.validator());
        let client = Postfix::start(postfix, ground.path(), (net.client(), CLIENT), &settings);
        Self { client, danelaw: None, _forwarder: None, _resolver: resolver, ground }
    }

    /// Submits Alice's message to Bob to the client, and returns its outcome.
    #[track_caller]
    pub(crate) fn mail(&self) -> RecipientOutcome {
        let [outcome] = self.mail_to([BOB]);
        outcome
    }

    /// Submits Alice's message to these recipients to the client, and returns each outcome.
    #[track_caller]
    pub(crate) fn mail_to<const N: usize>(&self, recipients: [&str; N]) -> [RecipientOutcome; N] {
        let queue_id = self.client.submit(&stuffed(&message()), &recipients);
        recipients.map(|recipient| self.client.outcome(&queue_id, recipient))
    }

    /// Submits this message to Bob to the client, and returns the outcome.
    #[track_caller]
    pub(crate) fn mail_of(&self, message: &[u8]) -> RecipientOutcome {
        let queue_id = self.client.submit(&stuffed(message), &[BOB]);
        self.client.outcome(&queue_id, BOB)
    }

    pub(crate) fn danelaw(&self) -> &Danelaw {
        self.danelaw.as_ref().expect("not in a reference")
    }

    /// danelaw's configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.ground.path().join(Danelaw::CONFIGURATION)
    }

    /// danelaw's listeners with TLS.
    pub(crate) fn danelaw_tls(&self) -> [SocketAddr; 3] {
        self.ground.net.danelaw_tls()
    }

    /// Writes a file in the lab's directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.ground.path().join(name), text).expect("the lab's directory is writable");
    }

    /// The text of a file in the lab's directory.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.ground.path().join(name)).expect("a file of the lab")
    }

    pub(crate) fn danelaw_address(&self) -> SocketAddr {
        self.ground.net.danelaw()[0]
    }

    /// The resolver that does not validate.
    pub(crate) fn resolver_address(&self) -> SocketAddr {
        self.ground.net.resolver()
    }

    /// The address of an MX host, as text.
    pub(crate) fn address(&self, exchange: &Exchange) -> String {
        self.host(exchange).address.ip().to_string()
    }

    /// The RDATA of the TLSA record that an MX host matches.
    pub(crate) fn tlsa(&self, exchange: &Exchange) -> String {
        self.host(exchange).identity.tlsa()
    }

    /// The policy service of the choosy MX hosts.
    pub(crate) fn policy(&self) -> &Policy {
        self.ground.policy.as_ref().expect("a choosy host")
    }

    /// Makes an MX host show the certificate that its TLSA record matches.
    pub(crate) fn mend_certificate(&self, exchange: &Exchange) {
        let identity = &self.host(exchange).identity;
        fs::write(exchange.pem(self.ground.path()), identity.key_and_chain()).expect("the lab's directory is writable");
        self.mx(exchange).reload();
    }

    /// SIGKILL for danelaw.
    pub(crate) fn kill_danelaw(&mut self) {
        self.danelaw.take().expect("not in a reference").kill();
    }

    /// Starts danelaw again.
    pub(crate) fn restart_danelaw(&mut self) {
        self.danelaw = Some(Danelaw::start_again(self.ground.path()));
    }

    /// The Postfix of an MX host.
    pub(crate) fn mx(&self, exchange: &Exchange) -> &Postfix {
        match self.running(exchange) {
            Running::Postfix(postfix) => postfix,
            Running::Peer(_) | Running::Other(_) => panic!("{} is no Postfix", exchange.name),
        }
    }

    /// All messages that an MX host has stored, for any recipient.
    pub(crate) fn messages(&self, exchange: &Exchange) -> Vec<Vec<u8>> {
        match self.running(exchange) {
            Running::Postfix(postfix) => [postfix.stored("bob"), postfix.stored("carol")].concat(),
            Running::Other(other) => other.messages(),
            Running::Peer(_) => panic!("{} stores no messages", exchange.name),
        }
    }

    /// The log of an MX host.
    pub(crate) fn log(&self, exchange: &Exchange) -> String {
        match self.running(exchange) {
            Running::Postfix(postfix) => postfix.log(),
            Running::Other(other) => other.log(),
            Running::Peer(_) => panic!("{} has no log", exchange.name),
        }
    }

    /// The script of an MX host.
    pub(crate) fn peer(&self, exchange: &Exchange) -> &Peer {
        match self.running(exchange) {
            Running::Postfix(_) | Running::Other(_) => panic!("{} is not scripted", exchange.name),
            Running::Peer(peer) => peer,
        }
    }

    /// Asserts that Bob has at this host exactly one mail, the message as Alice sent it, and that the client's queue is
    /// empty. The only fields added are `Received` lines: one of danelaw's between those of the client and the MX.
    #[track_caller]
    pub(crate) fn assert_message_at(&self, exchange: &Exchange) {
        let mx = self.mx(exchange);
        let stored = Stored::parse(&mx.await_stored("bob"));
        assert!(stored.message == message(), "the message has changed:\n{}", stored.message.escape_ascii());
        let by = |host: &str| format!(" by {host} ");
        let stations = self.danelaw.iter().map(|_| Danelaw::NAME).chain([CLIENT]);
        let stations: Vec<_> = [exchange.name].into_iter().chain(stations).map(by).collect();
        assert_eq!(stored.received.len(), stations.len(), "{:#?}", stored.received);
        for (field, station) in stored.received.iter().zip(stations) {
            assert!(field.contains(&station), "{field}: not{station}");
        }
        assert_eq!(mx.stored("bob").len(), 1);
        self.client.await_empty_queue();
    }

    /// Asserts that the client still has the message, and that no MX host has it.
    #[track_caller]
    pub(crate) fn assert_client_keeps_the_message(&self) {
        self.client.await_one_in_queue();
        for host in &self.ground.hosts {
            if let Running::Postfix(mx) = &host.running {
                assert!(mx.stored("bob").is_empty(), "{} has it", host.name);
            }
        }
    }

    /// Asserts that no session at this host reached MAIL, in cleartext or under TLS.
    #[track_caller]
    pub(crate) fn assert_no_mail_command_at(&self, exchange: &Exchange) {
        match self.running(exchange) {
            Running::Postfix(mx) => {
                let sessions = mx.await_sessions();
                let silent =
                    |commands: &String| !["mail=", "rcpt=", "data="].iter().any(|verb| commands.contains(verb));
                assert!(sessions.iter().all(silent), "{sessions:?}");
            }
            Running::Peer(peer) => assert!(!peer.heard_command("MAIL"), "{:?}", peer.heard()),
            Running::Other(_) => panic!("{} does not log the commands that it heard", exchange.name),
        }
    }

    fn running(&self, exchange: &Exchange) -> &Running {
        &self.host(exchange).running
    }

    fn host(&self, exchange: &Exchange) -> &Host {
        self.ground.hosts.iter().find(|host| host.name == exchange.name).expect("a host of the case")
    }
}

impl Ground {
    fn lay(case: &Case) -> Self {
        // Postfix's own user must be able to enter it.
        let open = fs::Permissions::from_mode(0o755);
        let directory =
            tempfile::Builder::new().prefix("danelaw-").permissions(open).tempdir().expect("a writable /tmp");
        let net = Subnet::claim();
        let identities: Vec<_> = case.exchanges.iter().map(Exchange::identity).collect();
        let is_choosy = case.exchanges.iter().any(|exchange| matches!(exchange.server, Server::Choosy(_)));
        let policy = is_choosy.then(|| Policy::start(net.policy()));
        let zones = case.zones(&identities, &net);
        let tree = SignedZones::sign(&directory.path().join("zones"), net.authority().ip(), zones);
        let authority = dns::authority(directory.path(), &net, &tree.files);
        let policy_host = policy_host::start(directory.path(), net.policy_host(), &case.policies);
        let hosts = case.exchanges.iter().zip(identities).enumerate().map(|(number, (exchange, identity))| Host {
            name: exchange.name,
            address: net.exchange(number),
            running: exchange.start(directory.path(), &net, number, &identity),
            identity,
        });
        Self {
            hosts: hosts.collect(),
            _policy_host: policy_host,
            _authority: authority,
            tree,
            faults: case.exchanges.iter().filter_map(Exchange::fault).collect(),
            policy,
            directory,
            net,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Exchange {
    /// The file with the key and the chain that its Postfix shows.
    fn pem(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.pem", self.name))
    }

    fn start(&self, directory: &Path, net: &Subnet, number: usize, identity: &Identity) -> Running {
        let address = net.exchange(number);
        match self.server {
            Server::Scripted(script) => Running::Peer(Peer::start(address, script, identity)),
            Server::Exim => Running::Other(OtherMta::exim(directory, (address, self.name), identity)),
            Server::Sink => Running::Other(OtherMta::sink(directory, address)),
            Server::Postfix(settings) | Server::Choosy(settings) => {
                let pem = self.pem(directory);
                let asks = matches!(self.server, Server::Choosy(_)).then(|| Policy::settings(net.policy()));
                let shown = match self.certificate {
                    Certificate::NotYet => self.identity().key_and_chain(),
                    _ => identity.key_and_chain(),
                };
                fs::write(&pem, shown).expect("the lab's directory is writable");
                let usual = [
                    format!("virtual_mailbox_domains = {DOMAIN}"),
                    format!("smtpd_tls_chain_files = {}", pem.display()),
                    "smtpd_tls_security_level = may".to_owned(),
                    "smtpd_tls_loglevel = 1".to_owned(),
                ];
                // Of two lines for one parameter the last counts.
                let settings: Vec<_> = usual
                    .into_iter()
                    .chain(asks.into_iter().flatten())
                    .chain(settings.iter().map(|line| (*line).to_owned()))
                    .collect();
                let postfix = Command::new("postfix");
                Running::Postfix(Postfix::start(postfix, directory, (address, self.name), &settings))
            }
        }
    }
}

/// The client Postfix's name, and the domain it takes mail for.
const CLIENT: &str = "client.test";

/// A command with a resolv.conf of its own, which names the validating resolver at this address and trusts its AD bit.
fn ask(program: &str, directory: &Path, validator: SocketAddr) -> Command {
    let resolv_conf = directory.join("resolv.conf");
    let text = format!("nameserver {}\noptions edns0 trust-ad timeout:1 attempts:1\n", validator.ip());
    fs::write(&resolv_conf, text).expect("the lab's directory is writable");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
    command.arg(resolv_conf).arg(program);
    command
}
