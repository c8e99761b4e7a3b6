//! The lab's name servers: nsd is the authority of all zones, unbound resolves.
//!
//! danelaw asks an unbound that passes DNSSEC records on without validation, as a provider's resolver may; the lab's
//! reference (Postfix with its own DANE) asks a second one that validates. Both fail in the same ways for the names of
//! [`Fault`]s.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::eventually;
use crate::net::Subnet;
use crate::process::Daemon;

/// How a resolver fails for one name.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It answers REFUSED.
    Refused,
    /// It never answers.
    Silent,
}

/// Names, each with the way in which the resolver fails for it.
pub(crate) type Faults = Vec<(String, Fault)>;

/// Serves these zones, each from its file.
pub(crate) fn authority(directory: &Path, net: &Subnet, files: &[(&str, PathBuf)]) -> Daemon {
    let address = net.authority();
    let mut configuration = format!(
        r#"server:
    ip-address: {}
    server-count: 1
    username: ""
    chroot: ""
    database: ""
    zonesdir: "{directory}"
    pidfile: "{directory}/nsd.pid"
    xfrdfile: "{directory}/nsd.xfrd"
    zonelistfile: "{directory}/nsd.zones"
    xfrdir: "{directory}"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"#,
        address.ip(),
        directory = directory.display()
    );
    for (zone, file) in files {
        let _ = write!(configuration, "zone:\n    name: \"{zone}\"\n    zonefile: \"{}\"\n", file.display());
    }
    start("nsd", "-d", directory, &configuration, address)
}

/// The resolver that danelaw asks.
pub(crate) fn resolver(directory: &Path, net: &Subnet, faults: &Faults) -> Daemon {
    unbound("resolver", directory, net, (net.resolver(), "module-config: \"iterator\""), faults)
}

/// The resolver for a stub that trusts the AD bit.
pub(crate) fn validator(directory: &Path, net: &Subnet, faults: &Faults, trust_anchor: &Path) -> Daemon {
    let modules =
        format!("module-config: \"validator iterator\"\n    trust-anchor-file: \"{}\"", trust_anchor.display());
    unbound("validator", directory, net, (net.validator(), &modules), faults)
}

/// Both resolvers, each also over TLS at port 853 with this key and chain.
pub(crate) fn resolvers_with_tls(directory: &Path, net: &Subnet, pem: &Path, trust_anchor: &Path) -> [Daemon; 2] {
    let pem = pem.display();
    let validating =
        format!("module-config: \"validator iterator\"\n    trust-anchor-file: \"{}\"", trust_anchor.display());
    let passing = "module-config: \"iterator\"".to_owned();
    let of = |name, address: SocketAddr, modules| {
        let tls = format!(
            "interface: {}@853\n    tls-service-key: \"{pem}\"\n    tls-service-pem: \"{pem}\"\n    {modules}",
            address.ip()
        );
        unbound(name, directory, net, (address, &tls), &Faults::new())
    };
    [of("resolver", net.resolver(), passing), of("validator", net.validator(), validating)]
}

fn unbound(
    name: &str,
    directory: &Path,
    net: &Subnet,
    (address, modules): (SocketAddr, &str),
    faults: &Faults,
) -> Daemon {
    let hints = directory.join("root.hints");
    fs::write(&hints, format!(". 3600 IN NS ns.\nns. 3600 IN A {}\n", net.authority().ip()))
        .expect("the lab's directory is writable");
    let mut configuration = format!(
        r#"server:
    interface: {}
    {modules}
    root-hints: "{}"
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: "{directory}/{name}.pid"
    use-syslog: no
    do-ip6: no
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    target-fetch-policy: "0 0 0 0 0"
    local-zone: "test." nodefault
"#,
        address.ip(),
        hints.display(),
        directory = directory.display()
    );
    for (name, fault) in faults {
        let kind = match fault {
            Fault::Refused => "refuse",
            Fault::Silent => "deny",
        };
        let _ = writeln!(configuration, "    local-zone: \"{name}\" {kind}");
    }
    configuration += "remote-control:\n    control-enable: no\n";
    start(name, "-dd", directory, &configuration, address)
}

/// Starts `nsd` or `unbound` in the foreground and waits for its first answer.
fn start(name: &str, foreground: &str, directory: &Path, configuration: &str, address: SocketAddr) -> Daemon {
    let file = directory.join(format!("{name}.conf"));
    fs::write(&file, configuration).expect("the lab's directory is writable");
    let program = if name == "nsd" { "nsd" } else { "unbound" };
    let mut command = Command::new(program);
    command.arg(foreground).arg("-c").arg(&file);
    let mut daemon = Daemon::start(name, &mut command, &directory.join(format!("{name}.log")));
    await_answer(name, &mut daemon, address);
    daemon
}

/// Waits for the first answer of a server.
pub(crate) fn await_answer(name: &str, daemon: &mut Daemon, address: SocketAddr) {
    eventually(&format!("an answer of {name}"), || {
        daemon.assert_running();
        answers(address)
    });
}

/// Whether the server at `address` answers for `ns.test.` within a quarter of a second.
fn answers(address: SocketAddr) -> Option<()> {
    // ID 1, recursion desired, one question: ns.test. IN A.
    const QUESTION: &[u8] = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ns\x04test\x00\x00\x01\x00\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(250))).ok()?;
    socket.send_to(QUESTION, address).ok()?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).ok()?;
    let (good, found) = (reply[3] & 0x0f == 0, reply[7] > 0);
    (length > QUESTION.len() && good && found).then_some(())
}
