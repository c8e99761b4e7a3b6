//! A Postfix without a relayhost and without any setting for danelaw, in a network of its own. The rules of
//! `config/nftables` redirect the network's outbound SMTP to danelaw.

use std::fs::{self, File, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{eventually, run};
use crate::debian::Debian;
use crate::lab::certs::Identity;
use crate::lab::dns::{DnsLab, Tree};
use crate::lab::mx::Mx;
use crate::program::{Running, repository};

/// The user that danelaw runs as, whose own connections the rules leave alone.
const DANELAW: u32 = 65_532;
/// The addresses of a test's network. Each test has another network, so that tests run side by side.
#[derive(Clone, Copy)]
struct Link(u8);

impl Link {
    fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 201, self.0, host)
    }

    fn v6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x25, self.0.into(), 0, 0, 0, 0, host.into())
    }

    /// The addresses of our end of the link, at which the servers listen.
    fn ours(self) -> [IpAddr; 2] {
        [self.v4(1).into(), self.v6(1).into()]
    }

    /// The address of a server to which the client does not connect.
    fn astray(self) -> Ipv4Addr {
        self.v4(3)
    }

    /// An address to which the client connects and at which no server listens.
    fn elsewhere(self) -> Ipv4Addr {
        self.v4(9)
    }

    fn networks(self) -> [String; 2] {
        [format!("{}/24", self.v4(0)), format!("{}/64", self.v6(0))]
    }
}

/// A network with one link to us, and the programs that run in it.
struct Network {
    link: Link,
    holder: Running,
    debian: Debian,
    directory: TempDir,
    running: Vec<Running>,
}

impl Network {
    fn new(link: Link) -> Self {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let holder = Running::start(Command::new("unshare").args(["--net", "sleep", "infinity"]));
        let network = Self { link, holder, debian: Debian::new(), directory, running: Vec::new() };
        let process = network.holder.0.id();
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        eventually("a network", || {
            fs::read_link(format!("/proc/{process}/ns/net")).ok().filter(|theirs| *theirs != ours)
        });
        let (name, v4, v6) = (format!("lab{}", link.0), link.v4(1), link.v6(1));
        let ours = format!(
            "ip link add {name} type veth peer name eth0 netns {process}
             ip address add {v4}/24 dev {name}; ip address add {}/24 dev {name}
             ip address add {v6}/64 dev {name} nodad; ip link set {name} up",
            link.astray()
        );
        run(Command::new("sh").args(["-ec", &ours]));
        network.shell(&format!(
            "ip link set lo up; ip link set eth0 up
             ip address add {}/24 dev eth0; ip address add {}/64 dev eth0 nodad",
            link.v4(2),
            link.v6(2)
        ));
        network
    }

    /// A command that runs in this network.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.0.id())).arg(program);
        command
    }

    fn shell(&self, line: &str) {
        run(self.command("sh").args(["-ec", line]));
    }

    /// Loads the rules as they are shipped, and sets the routes that their comments ask for.
    fn load(&self, rules: &str) {
        let text = fs::read_to_string(repository("config/nftables").join(rules)).unwrap();
        assert!(text.contains("skuid danelaw"));
        let file = self.directory.path().join(rules);
        fs::write(&file, text.replace("skuid danelaw", &format!("skuid {DANELAW}"))).unwrap();
        run(self.command("nft").arg("-f").arg(&file));
        for route in text.lines().filter_map(|line| line.strip_prefix("#   ip ")) {
            self.shell(&format!("ip {route}"));
        }
    }

    /// Starts danelaw as a user that has only these privileges.
    fn start_danelaw(&mut self, dns: &DnsLab, capabilities: &str) {
        let at = |name: &str| self.directory.path().join(name);
        // That user may have no access to the directory of the build.
        fs::copy(env!("CARGO_BIN_EXE_danelaw"), at("danelaw")).unwrap();
        fs::copy(&dns.anchor_file, at("root.key")).unwrap();
        fs::set_permissions(at("root.key"), Permissions::from_mode(0o644)).unwrap();
        let [v4, v6] = self.link.networks();
        let allow = format!("allow = [\"127.0.0.0/8\", \"::1\", \"{v4}\", \"{v6}\"]");
        let text = format!(
            "hostname = \"danelaw.client.test\"
             [[listener]]\nkind = \"intercept\"\naddress = \"127.0.0.1:10026\"\n{allow}
             [[listener]]\nkind = \"intercept\"\naddress = \"[::1]:10026\"\n{allow}
             [dns]\nservers = [\"{resolver}\"]\ntrust_anchor = \"{anchor}\"
             [remote]\nallow_reserved = [\"{v4}\", \"{v6}\"]
             [log]\nformat = \"json\"\n",
            resolver = dns.addr,
            anchor = at("root.key").display()
        );
        fs::write(at("danelaw.toml"), text).unwrap();
        let log = File::create(at("log")).unwrap();
        let mut command = self.command("setpriv");
        command
            .args([format!("--reuid={DANELAW}"), format!("--regid={DANELAW}"), "--clear-groups".to_owned()])
            .args([format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")])
            .arg(at("danelaw"))
            .arg("--config")
            .arg(at("danelaw.toml"))
            .stdout(Stdio::null())
            .stderr(log);
        self.running.push(Running::start(&mut command));
        eventually("danelaw to listen", || self.events("listening").pop());
    }

    fn start_postfix(&mut self, settings: &[&str]) {
        let usual = [
            "maillog_file = /var/log/mail.log",
            "myhostname = client.test",
            "mydestination =",
            "inet_interfaces = loopback-only",
            "inet_protocols = all",
            "smtp_tls_security_level = none",
            "compatibility_level = 3.6",
        ];
        fs::write(self.debian.path("etc/resolv.conf"), format!("nameserver {}\n", self.link.v4(1))).unwrap();
        let settings: Vec<_> = usual.iter().chain(settings).map(|line| format!("'{line}'")).collect();
        self.debian.shell(&format!("postconf -e {}; postconf -F '*/*/chroot = n'", settings.join(" ")));
        let mut command = self.command("chroot");
        command.arg(self.debian.path("")).args(["/usr/sbin/postfix", "start-fg"]).stdout(Stdio::null());
        self.running.push(Running::start(&mut command));
        eventually("Postfix to run", || self.postfix_log().contains("daemon started").then_some(()));
    }

    fn postfix_log(&self) -> String {
        fs::read_to_string(self.debian.path("var/log/mail.log")).unwrap_or_default()
    }

    /// Sends a message and returns its outcome from the client's log.
    fn mail(&self, recipient: &str) -> String {
        self.debian.shell(&format!("printf 'Subject: x\\n\\nbody\\n' | sendmail -i -f alice@client.test {recipient}"));
        let wanted = format!("to=<{recipient}>");
        eventually(&format!("the outcome of {recipient}"), || {
            self.postfix_log().lines().find(|line| line.contains(&wanted)).map(str::to_owned)
        })
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// danelaw's log events with this message.
    fn events(&self, message: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// The one delivery to this domain.
    fn delivery(&self, domain: &str) -> Value {
        let to = |event: &Value| event["domain"].as_str().is_some_and(|to| to == domain);
        let mut events = eventually("the log of a delivery", || {
            let events: Vec<_> = self.events("delivery").into_iter().filter(to).collect();
            (!events.is_empty()).then_some(events)
        });
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            eprintln!("--- danelaw\n{log}--- postfix\n{}", self.postfix_log());
        }
    }
}

async fn intercepted_by(rules: &'static str, capabilities: &'static str, link: Link) {
    let mut network = Network::new(link);
    let [ours4, ours6] = link.ours();
    let mut tree = Tree::new().at((link.v4(1), 53));
    let mut seen = Vec::new();
    for (domain, address, rtype) in [("four.test", ours4, "A"), ("six.test", ours6, "AAAA")] {
        let host = format!("mx.{domain}");
        let mx = Mx::new(Identity::for_name(&host));
        tree = tree.secure(domain).mx(domain, 10, &host).record(&host, rtype, &address.to_string()).tlsa(
            &host,
            25,
            &mx.identity.record("3 1 1"),
        );
        seen.push(mx.start(SocketAddr::new(address, 25), &host).await);
    }
    // A domain for which the client connects to an address that has no server of the domain.
    let host = "mx.astray.test";
    let astray = Mx::new(Identity::for_name(host));
    tree = tree.secure("astray.test").mx("astray.test", 10, host).a(host, &link.astray().to_string()).tlsa(
        host,
        25,
        &astray.identity.record("3 1 1"),
    );
    let astray = astray.start((link.astray(), 25).into(), host).await;
    let dns = tree.start().await;
    tokio::task::spawn_blocking(move || {
        network.load(rules);
        network.start_danelaw(&dns, capabilities);
        network.start_postfix(&[&format!("transport_maps = inline:{{ astray.test=smtp:[{}] }}", link.elsewhere())]);
        for (domain, original_destination) in [("four.test", ours4), ("six.test", ours6)] {
            let outcome = network.mail(&format!("bob@{domain}"));
            assert!(
                outcome.contains("status=sent") && outcome.contains(&format!("mx.{domain}[{original_destination}]:25")),
                "{outcome}"
            );
            let delivery = network.delivery(domain);
            assert_eq!(delivery["original_destination"], original_destination.to_string(), "{delivery}");
            assert_eq!(
                (&delivery["original_destination_is"], &delivery["protection"]),
                (&"mx".into(), &"verified".into())
            );
            assert!(delivery["warning"].is_null(), "{delivery}");
        }
        // The client's original destination does not choose the exchange: the mail goes to the domain's own exchange.
        let outcome = network.mail("bob@astray.test");
        assert!(
            outcome.contains("status=sent") && outcome.contains(&format!("mx.astray.test[{}]: queued", link.astray())),
            "{outcome}"
        );
        let delivery = network.delivery("astray.test");
        let warning = format!("the client dialled {}, which is no MX of astray.test", link.elsewhere());
        assert_eq!(
            (&delivery["original_destination_is"], &delivery["warning"]),
            (&"no-mx".into(), &warning.into()),
            "{delivery}"
        );
        assert_eq!(delivery["address"], link.astray().to_string());
    })
    .await
    .unwrap();
    // Each exchange got one connection from danelaw, and none from the client.
    for seen in seen.iter().chain([&astray]) {
        assert_eq!((seen.connections(), seen.messages().len()), (1, 1), "{:?}", seen.clear());
        assert!(seen.clear().iter().all(|line| line.starts_with("EHLO ") || line == "STARTTLS"), "{:?}", seen.clear());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_needs_no_privilege() {
    intercepted_by("redirect.nft", "-all", Link(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tproxy_keeps_the_address_that_was_dialled() {
    intercepted_by("tproxy.nft", "-all,+net_admin", Link(2)).await;
}

/// Where danelaw cannot take the mail, it waits in the client's queue: the client never sends it directly.
async fn nothing_gets_past(rules: &'static str, danelaw: Option<&'static str>, link: Link) {
    let mut network = Network::new(link);
    let mx = Mx::new(Identity::for_name("mx.four.test"));
    let tree = Tree::new().at((link.v4(1), 53)).secure("four.test").mx("four.test", 10, "mx.four.test");
    let dns = tree.a("mx.four.test", &link.v4(1).to_string()).start().await;
    let seen = mx.start((link.v4(1), 25).into(), "mx.four.test").await;
    tokio::task::spawn_blocking(move || {
        network.load(rules);
        if let Some(capabilities) = danelaw {
            network.start_danelaw(&dns, capabilities);
        }
        network.start_postfix(&["smtp_connect_timeout = 2s"]);
        let outcome = network.mail("bob@four.test");
        assert!(outcome.contains("status=deferred"), "{outcome}");
    })
    .await
    .unwrap();
    assert_eq!(seen.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_passes_no_mail_while_danelaw_is_down() {
    nothing_gets_past("redirect.nft", None, Link(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tproxy_passes_no_mail_without_a_transparent_listener() {
    nothing_gets_past("tproxy.nft", Some("-all"), Link(4)).await;
}
