//! Resolvers on the host itself that pass questions on to another one. Ubuntu and Fedora write such a resolver into
//! `resolv.conf`, and home routers run one.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::command::run;
use crate::dns;
use crate::process::Daemon;
use crate::root::Root;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwarderKind {
    /// systemd-resolved with `DNSSEC=no`, which is the default of Ubuntu and of Debian.
    SystemdResolved,
    /// `dnsmasq --dnssec`, which knows an address of its own for [`KNOWN`].
    Dnsmasq,
}

/// A name that does not exist. dnsmasq makes "no such record" of the denial of a name that it has an address for, and leaves
/// the proof as it is.
pub(crate) const KNOWN: &str = "known.secure.test";

/// The fields are in the order in which they have to end.
pub(crate) struct Forwarder {
    _daemon: Daemon,
    _root: Root,
}

/// The place of a forwarder.
pub(crate) struct Place<'a> {
    pub(crate) address: SocketAddr,
    /// The resolver that it asks.
    pub(crate) upstream: SocketAddr,
    /// The root's DNSKEY, as a master file.
    pub(crate) trust_anchor: &'a Path,
}

impl Forwarder {
    pub(crate) fn start(kind: ForwarderKind, directory: &Path, place: &Place<'_>) -> Self {
        let (root, mut command) = match kind {
            ForwarderKind::SystemdResolved => systemd_resolved(place),
            ForwarderKind::Dnsmasq => dnsmasq(place),
        };
        let name = format!("{kind:?}");
        let mut daemon = Daemon::start(name.clone(), &mut command, &directory.join(format!("{name}.log")));
        dns::await_answer(&name, &mut daemon, place.address);
        Self { _daemon: daemon, _root: root }
    }
}

fn systemd_resolved(place: &Place<'_>) -> (Root, Command) {
    let root = Root::of("systemd-resolved");
    let settings = format!(
        "[Resolve]\nDNS={}\nFallbackDNS=\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\nReadEtcHosts=no\nDNSStubListener=no\n\
         DNSStubListenerExtra={}\n",
        place.upstream.ip(),
        place.address.ip()
    );
    root.write("/etc/systemd/resolved.conf", &settings);
    let command = root.shell(RUN_RESOLVED, &[]);
    (root, command)
}

/// It asks no server while the host has no link but loopback with an address for other hosts. A pair of virtual links is
/// such a link; other tests' servers may have made it. It has no IPv6, so that no test finds an address of it by itself.
const RUN_RESOLVED: &str = "\
ip link add resolved0 type veth peer name resolved1 2>/dev/null
for link in resolved0 resolved1; do
  echo 1 >/proc/sys/net/ipv6/conf/$link/disable_ipv6
  ip link set $link up
done
ip address replace 198.18.25.53/32 dev resolved0
mkdir -p /run/systemd/resolve
chown systemd-resolve:systemd-resolve /run/systemd/resolve
export SYSTEMD_LOG_TARGET=console
exec /usr/lib/systemd/systemd-resolved
";

fn dnsmasq(place: &Place<'_>) -> (Root, Command) {
    let root = Root::of("dnsmasq-base");
    let options = format!(
        "no-resolv\nno-hosts\nbind-interfaces\nlisten-address={}\nserver={}\nuser=root\npid-file=\ndnssec\n\
         trust-anchor={}\nhost-record={KNOWN},192.0.2.9\n",
        place.address.ip(),
        place.upstream.ip(),
        ds_of(place.trust_anchor)
    );
    root.write("/etc/dnsmasq.conf", &options);
    let command = root.shell("exec dnsmasq --keep-in-foreground --log-facility=-", &[]);
    (root, command)
}

/// The root's DS record as dnsmasq writes it: `.,tag,algorithm,digest type,digest`.
fn ds_of(trust_anchor: &Path) -> String {
    // The tool reads master files alone whose records have a TTL.
    let keys = fs::read_to_string(trust_anchor).expect("the lab's own file");
    let with_ttl = trust_anchor.with_extension("with-ttl");
    fs::write(&with_ttl, format!("$TTL 300\n{keys}")).expect("the lab's directory is writable");
    let record = run(Command::new("dnssec-dsfromkey").args(["-2", "-f"]).arg(with_ttl).arg("."));
    let (_, data) = record.split_once(" DS ").expect("a DS record");
    let mut fields = data.split_whitespace();
    let numbers: Vec<_> = fields.by_ref().take(3).collect();
    format!(".,{},{}", numbers.join(","), fields.collect::<String>())
}
