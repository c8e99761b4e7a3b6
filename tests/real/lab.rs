//! The lab: everything between a submitted message and a mailbox, on a subnet of loopback.
//!
//! ```text
//! submitter -> client (Postfix) -> danelaw -> mx1, mx2 (Postfix, or a scripted peer)
//!                                     |
//!                                     +-> resolver (unbound) -> authority (nsd: ".", "test.", "example.test.")
//! ```
//!
//! A test is a [`Case`]: the default is the happy path, a signed domain with one MX that has a matching `3 1 1` record. A test changes one
//! thing in it. [`Lab::reference`] runs the same case with Postfix's own DANE in danelaw's place: the proof that the case is what it
//! claims to be.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::dns::{self, Fault, Faults};
use crate::message::{Stored, message, stuffed};
use crate::net::Subnet;
use crate::peers::{Peer, Script};
use crate::pki::Identity;
use crate::postfix::{Fate, Postfix};
use crate::process::Daemon;
use crate::program::Danelaw;
use crate::zones::{Record, Tree, Zone};

pub(crate) const DOMAIN: &str = "example.test";
pub(crate) const BOB: &str = "bob@example.test";
pub(crate) const CAROL: &str = "carol@example.test";

/// What the domain of the recipient is like.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) signed: bool,
    /// Whether the MX RRset is not what was signed.
    pub(crate) mx_forged: bool,
    /// The MX hosts, the preferred one first.
    pub(crate) exchanges: Vec<Exchange>,
}

impl Default for Case {
    fn default() -> Self {
        Self::of([MX1])
    }
}

impl Case {
    /// A signed domain with these MX hosts.
    pub(crate) fn of(exchanges: impl Into<Vec<Exchange>>) -> Self {
        Self { signed: true, mx_forged: false, exchanges: exchanges.into() }
    }
}

/// An MX host and what DNS says of it.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// Without the dot at the end.
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    pub(crate) certificate: Certificate,
    pub(crate) tlsa: Tlsa,
}

/// The preferred MX: real, honest, with a certificate of its own making that `3 1 1` pins.
pub(crate) const MX1: Exchange = Exchange {
    name: "mx1.example.test",
    server: Server::Postfix(&[]),
    certificate: Certificate::SelfSigned,
    tlsa: Tlsa::Matching,
};

/// The second one, just as good.
pub(crate) const MX2: Exchange = Exchange { name: "mx2.example.test", ..MX1 };

#[derive(Clone)]
pub(crate) enum Server {
    /// With these lines of main.cf besides the usual ones.
    Postfix(&'static [&'static str]),
    Scripted(Script),
}

impl Server {
    /// The server as a man in the middle leaves it, or one that never had TLS.
    pub(crate) const WITHOUT_STARTTLS: Self = Self::Postfix(&["smtpd_tls_security_level = none"]);
}

#[derive(Clone, Copy)]
pub(crate) enum Certificate {
    SelfSigned,
    /// From a CA that is sent along.
    FromCa,
    /// The same, for a host of this name.
    FromCaFor(&'static str),
}

/// The TLSA record of a host: what it says, or how the lookup goes wrong.
#[derive(Clone, Copy)]
pub(crate) enum Tlsa {
    /// `3 1 1` for the certificate, `2 1 1` for its CA.
    Matching,
    /// The record of some other certificate.
    Other,
    /// None, and that is proven where the domain is signed.
    Absent,
    /// A record that matches, under the signature of another.
    Forged,
    /// The resolver answers REFUSED.
    Refused,
    /// The resolver answers SERVFAIL: the name servers of the record's zone are dead.
    ServFail,
    /// The resolver never answers.
    TimesOut,
}

/// An MX host in operation.
enum Running {
    Postfix(Postfix),
    Peer(Peer),
}

/// What stands whoever delivers. The fields of this and of [`Lab`] are in the order in which they have to end.
struct Ground {
    exchanges: Vec<(Exchange, Running)>,
    _authority: Daemon,
    tree: Tree,
    faults: Faults,
    directory: TempDir,
    net: Subnet,
}

pub(crate) struct Lab {
    pub(crate) client: Postfix,
    danelaw: Option<Danelaw>,
    _resolver: Daemon,
    ground: Ground,
}

impl Lab {
    /// The client knows nothing of DANE and gives everything to danelaw.
    pub(crate) fn start(case: &Case) -> Self {
        let ground = Ground::lay(case);
        let Ground { net, tree, .. } = &ground;
        let resolver = dns::resolver(ground.path(), net, &ground.faults);
        let danelaw = Danelaw::start(ground.path(), net, &tree.trust_anchor);
        let settings = [
            format!("relayhost = [{}]:{}", net.danelaw().ip(), net.danelaw().port()),
            "smtp_tls_security_level = none".to_owned(),
            "smtp_dns_support_level = disabled".to_owned(),
        ];
        let client = Postfix::start(Command::new("postfix"), ground.path(), (net.client(), CLIENT), &settings);
        Self { client, danelaw: Some(danelaw), _resolver: resolver, ground }
    }

    /// There is no danelaw, and the client does DANE by itself.
    pub(crate) fn reference(case: &Case) -> Self {
        let ground = Ground::lay(case);
        let Ground { net, tree, .. } = &ground;
        let resolver = dns::validator(ground.path(), net, &ground.faults, &tree.trust_anchor);
        let settings = ["smtp_tls_security_level = dane", "smtp_dns_support_level = dnssec", "smtp_tls_loglevel = 1"];
        let postfix = ask("postfix", ground.path(), net.validator());
        let client = Postfix::start(postfix, ground.path(), (net.client(), CLIENT), &settings.map(String::from));
        Self { client, danelaw: None, _resolver: resolver, ground }
    }

    /// Alice's client takes her message to Bob; what becomes of it.
    #[track_caller]
    pub(crate) fn mail(&self) -> Fate {
        let [fate] = self.mail_to([BOB]);
        fate
    }

    /// The same for these recipients.
    #[track_caller]
    pub(crate) fn mail_to<const N: usize>(&self, recipients: [&str; N]) -> [Fate; N] {
        let queue_id = self.client.submit(&stuffed(&message()), &recipients);
        recipients.map(|recipient| self.client.fate(&queue_id, recipient))
    }

    pub(crate) fn danelaw(&self) -> &Danelaw {
        self.danelaw.as_ref().expect("not in a reference")
    }

    pub(crate) fn danelaw_address(&self) -> SocketAddr {
        self.ground.net.danelaw()
    }

    /// The address of an MX host, as text.
    pub(crate) fn address(&self, exchange: &Exchange) -> String {
        let number = self.ground.exchanges.iter().position(|(other, _)| other.name == exchange.name);
        self.ground.net.exchange(number.expect("a host of the case")).ip().to_string()
    }

    /// The Postfix of an MX host.
    pub(crate) fn mx(&self, exchange: &Exchange) -> &Postfix {
        match self.running(exchange) {
            Running::Postfix(postfix) => postfix,
            Running::Peer(_) => panic!("{} is scripted", exchange.name),
        }
    }

    /// The script of an MX host.
    pub(crate) fn peer(&self, exchange: &Exchange) -> &Peer {
        match self.running(exchange) {
            Running::Postfix(_) => panic!("{} is a Postfix", exchange.name),
            Running::Peer(peer) => peer,
        }
    }

    /// Whether Bob finds at this host, as his only mail, the message as Alice sent it, and the client has no more to do. What software
    /// added on the way is what it should have added: danelaw one `Received` line between those of the client and the MX.
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

    /// Whether the client still has the message, and nobody else.
    #[track_caller]
    pub(crate) fn assert_client_keeps_the_message(&self) {
        assert_eq!(self.client.queue().lines().count(), 1, "{}", self.client.queue());
        for (exchange, running) in &self.ground.exchanges {
            if let Running::Postfix(mx) = running {
                assert!(mx.stored("bob").is_empty(), "{} has it", exchange.name);
            }
        }
    }

    fn running(&self, exchange: &Exchange) -> &Running {
        let (_, running) =
            self.ground.exchanges.iter().find(|(other, _)| other.name == exchange.name).expect("a host of the case");
        running
    }
}

impl Ground {
    fn lay(case: &Case) -> Self {
        // Postfix's own user has to pass through.
        let open = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().prefix("danelaw-").permissions(open).tempdir().expect("a writable /tmp");
        let net = Subnet::claim();
        let identities: Vec<_> = case.exchanges.iter().map(Exchange::identity).collect();
        let zones = zones(case, &identities, &net);
        let tree = Tree::sign(&directory.path().join("zones"), net.authority().ip(), zones);
        let authority = dns::authority(directory.path(), &net, &tree);
        let addresses = (0..).map(|number| net.exchange(number));
        let exchanges = case.exchanges.iter().zip(&identities).zip(addresses).map(|((exchange, identity), address)| {
            (exchange.clone(), exchange.start(directory.path(), address, identity))
        });
        Self {
            exchanges: exchanges.collect(),
            _authority: authority,
            tree,
            faults: case.exchanges.iter().filter_map(Exchange::fault).collect(),
            directory,
            net,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Exchange {
    fn identity(&self) -> Identity {
        match self.certificate {
            Certificate::SelfSigned => Identity::self_signed(self.name),
            Certificate::FromCa => Identity::from_ca(self.name),
            Certificate::FromCaFor(name) => Identity::from_ca(name),
        }
    }

    fn start(&self, directory: &Path, address: SocketAddr, identity: &Identity) -> Running {
        match self.server {
            Server::Scripted(script) => Running::Peer(Peer::start(address, script, identity)),
            Server::Postfix(settings) => {
                let pem = directory.join(format!("{}.pem", self.name));
                fs::write(&pem, identity.pem()).expect("the lab's directory is writable");
                let usual = [
                    format!("virtual_mailbox_domains = {DOMAIN}"),
                    format!("smtpd_tls_chain_files = {}", pem.display()),
                    "smtpd_tls_security_level = may".to_owned(),
                ];
                // Of two lines for one parameter the last counts.
                let settings: Vec<_> = usual.into_iter().chain(settings.iter().map(|line| (*line).to_owned())).collect();
                let postfix = Command::new("postfix");
                Running::Postfix(Postfix::start(postfix, directory, (address, self.name), &settings))
            }
        }
    }

    fn fault(&self) -> Option<(String, Fault)> {
        let fault = match self.tlsa {
            Tlsa::Refused => Fault::Refused,
            Tlsa::TimesOut => Fault::Silent,
            Tlsa::Matching | Tlsa::Other | Tlsa::Absent | Tlsa::Forged | Tlsa::ServFail => return None,
        };
        Some((self.tlsa_owner(), fault))
    }

    fn tlsa_owner(&self) -> String {
        format!("_25._tcp.{}.", self.name)
    }

    /// What DNS says of the host, TLSA included.
    fn records(&self, address: IpAddr, identity: &Identity) -> Vec<Record> {
        let owner = self.tlsa_owner();
        let matching = format!("TLSA {}", identity.tlsa());
        let other = format!("TLSA {}", Identity::self_signed(self.name).tlsa());
        let mut records = vec![Record::new(&format!("{}.", self.name), format!("A {address}"))];
        records.extend(match self.tlsa {
            Tlsa::Absent => None,
            Tlsa::Other => Some(Record::new(&owner, other)),
            Tlsa::Forged => Some(Record::forged(&owner, matching, &other)),
            // A delegation to a name server that is not there.
            Tlsa::ServFail => Some(Record::new(&owner, format!("NS dead.{DOMAIN}."))),
            Tlsa::Matching | Tlsa::Refused | Tlsa::TimesOut => Some(Record::new(&owner, matching)),
        });
        records
    }
}

/// The client Postfix's name, and the domain it takes mail for.
const CLIENT: &str = "client.test";

/// `test.` and the recipient's domain below it, with all its hosts.
fn zones(case: &Case, identities: &[Identity], net: &Subnet) -> Vec<Zone> {
    let apex = format!("{DOMAIN}.");
    let mut records = vec![Record::new(&format!("dead.{DOMAIN}."), format!("A {}", net.nobody()))];
    for (number, (exchange, identity)) in case.exchanges.iter().zip(identities).enumerate() {
        let mx = format!("MX {} {}.", 10 * (number + 1), exchange.name);
        records.push(match case.mx_forged {
            false => Record::new(&apex, mx),
            true => Record::forged(&apex, mx, &format!("MX {} elsewhere.{DOMAIN}.", number + 1)),
        });
        records.extend(exchange.records(net.exchange(number).ip(), identity));
    }
    vec![Zone { name: "example.test.", signed: case.signed, records }, Zone { name: "test.", signed: true, records: vec![] }]
}

/// A command that sees a resolv.conf of its own: the validating resolver at this address, whose word is trusted.
fn ask(program: &str, directory: &Path, validator: SocketAddr) -> Command {
    let resolv_conf = directory.join("resolv.conf");
    let text = format!("nameserver {}\noptions edns0 trust-ad timeout:1 attempts:1\n", validator.ip());
    fs::write(&resolv_conf, text).expect("the lab's directory is writable");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
    command.arg(resolv_conf).arg(program);
    command
}
