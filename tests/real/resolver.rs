//! danelaw's resolver behind real ones: an unbound that validates and one that does not, over UDP and over TLS, and the
//! forwarders of hosts and home routers, above zones that `dnssec-signzone` signed. Both modes must give the same result
//! for the same name.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use danelaw::dns::selftest::{SelfTestFailure, ServerState};
use danelaw::dns::server::{NameServer, ResolverMode, Transport};
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, Failure, HostLookup, Resolver, Security};
use danelaw::name::Name;
use tempfile::TempDir;

use Security::{Insecure, Secure};

use crate::certs::Identity;
use crate::dns;
use crate::forwarders::{Forwarder, ForwarderKind, KNOWN, Place};
use crate::net::Subnet;
use crate::process::Daemon;
use crate::zones::{Record, SignedZones, Zone};

const EE: &str = "TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const RESOLVER: &str = "resolver.test";

/// The fields are in the order in which they have to end.
struct Servers {
    _resolvers: [Daemon; 2],
    _authority: Daemon,
    tree: SignedZones,
    ca: PathBuf,
    directory: TempDir,
    net: Subnet,
}

impl Servers {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("danelaw-").tempdir().expect("a writable /tmp");
        let net = Subnet::claim();
        let tree = SignedZones::sign(&directory.path().join("zones"), net.authority().ip(), zones());
        let authority = dns::authority(directory.path(), &net, &tree.files);
        let identity = Identity::under_ca(RESOLVER);
        let (pem, ca) = (directory.path().join("resolver.pem"), directory.path().join("ca.pem"));
        fs::write(&pem, identity.key_and_chain()).expect("the lab's directory is writable");
        fs::write(&ca, identity.top_pem()).expect("the lab's directory is writable");
        let resolvers = dns::resolvers_with_tls(directory.path(), &net, &pem, &tree.trust_anchor);
        Self { _resolvers: resolvers, _authority: authority, tree, ca, directory, net }
    }

    fn settings(&self, mode: ResolverMode, server: NameServer) -> ResolverSettings {
        ResolverSettings {
            mode,
            servers: vec![server],
            trust_anchor: Some(self.tree.trust_anchor.clone()),
            tls_ca: Some(self.ca.clone()),
            timeout: Duration::from_secs(3),
            ..ResolverSettings::default()
        }
    }
}

fn zones() -> Vec<Zone> {
    let zone = |name, signed, records| Zone { name, signed, records };
    let mut secure = vec![
        Record::new("mx.secure.test.", "A 192.0.2.1"),
        Record::new("_25._tcp.mx.secure.test.", EE),
        Record::new("alias.secure.test.", "CNAME mx.plain.test."),
        Record::forged("_25._tcp.forged.secure.test.", "TLSA 3 1 1 ffff", EE),
        Record::new("*.wild.secure.test.", EE),
    ];
    // Two kilobytes of records, with their signature: more than any reply over UDP has room for.
    secure.extend((0..50).map(|number| Record::new("_25._tcp.many.secure.test.", format!("TLSA 3 1 1 {number:064x}"))));
    let plain = vec![Record::new("mx.plain.test.", "A 192.0.2.2"), Record::new("_25._tcp.mx.plain.test.", EE)];
    vec![zone("secure.test.", true, secure), zone("plain.test.", false, plain), zone("test.", true, vec![])]
}

fn over_tls(address: SocketAddr, name: &str) -> NameServer {
    let name = Name::parse(name).expect("a name");
    NameServer { transport: Transport::Tls(name), ..NameServer::from(std::net::SocketAddr::from((address.ip(), 853))) }
}

async fn state(stub: &Stub) -> ServerState {
    stub.self_test().await;
    stub.health().borrow().servers[0].state.clone()
}

async fn tlsa(stub: &Stub, owner: &str) -> Result<(Security, &'static str), Failure> {
    let found = stub.tlsa(&Name::parse(owner).expect("a name")).await?;
    let kind = match found.answer {
        Answer::Records(_) => "records",
        Answer::NoData => "no data",
        Answer::NxDomain => "no name",
    };
    Ok((found.end, kind))
}

/// Asserts the results for the lab's names, which are the same for every resolver and transport.
async fn assert_true(stub: &Stub, over: &str) {
    assert_eq!(state(stub).await, ServerState::Good, "{over}");
    for (owner, expected) in [
        ("_25._tcp.mx.secure.test", (Secure, "records")),
        ("_26._tcp.mx.secure.test", (Secure, "no name")),
        ("mx.secure.test", (Secure, "no data")),
        ("_tcp.mx.secure.test", (Secure, "no data")),
        ("x.wild.secure.test", (Secure, "records")),
        ("_25._tcp.many.secure.test", (Secure, "records")),
        ("_25._tcp.mx.plain.test", (Insecure, "records")),
        ("_26._tcp.mx.plain.test", (Insecure, "no name")),
        ("nothing.test", (Secure, "no name")),
    ] {
        assert_eq!(tlsa(stub, owner).await, Ok(expected), "{owner} {over}");
    }
    let forged = tlsa(stub, "_25._tcp.forged.secure.test").await;
    assert!(forged.is_err(), "{forged:?} {over}");
    // A16: the alias is secure, its target is not.
    let alias = stub.host(&Name::parse("alias.secure.test").expect("a name")).await;
    let Ok(HostLookup::Found(host)) = alias else { panic!("{alias:?} {over}") };
    assert_eq!((host.aliases[0].security, host.end, host.addresses.len()), (Secure, Insecure, 1), "{over}");
}

#[tokio::test]
async fn a1_a16_both_modes_say_the_same_over_udp_and_over_tls() {
    // A1, A16.
    let servers = Servers::start();
    let (passing, validating) = (servers.net.resolver(), servers.net.validator());
    for (mode, server) in [
        (ResolverMode::Validate, passing.into()),
        (ResolverMode::Validate, validating.into()),
        (ResolverMode::Validate, over_tls(passing, RESOLVER)),
        (ResolverMode::TrustAd, validating.into()),
        (ResolverMode::TrustAd, over_tls(validating, RESOLVER)),
    ] {
        let over = format!("in mode {mode:?} over {server}");
        let stub = Stub::new(&servers.settings(mode, server)).expect("sound settings");
        assert_true(&stub, &over).await;
    }
}

#[tokio::test]
async fn a1_a16_forwarders_on_the_host_show_all_that_validation_needs() {
    // A1, A16: 127.0.0.53 of systemd-resolved, and `dnsmasq --dnssec`.
    let servers = Servers::start();
    for kind in [ForwarderKind::SystemdResolved, ForwarderKind::Dnsmasq] {
        let (address, upstream) = (servers.net.forwarder(), servers.net.resolver());
        let place = Place { address, upstream, trust_anchor: &servers.tree.trust_anchor };
        let _forwarder = Forwarder::start(kind, servers.directory.path(), &place);
        let stub = Stub::new(&servers.settings(ResolverMode::Validate, address.into())).expect("sound settings");
        assert_true(&stub, &format!("over {kind:?}")).await;
        if kind == ForwarderKind::Dnsmasq {
            assert_eq!(tlsa(&stub, KNOWN).await, Ok((Secure, "no data")));
        }
        // By default the former does not validate by itself.
        let stub = Stub::new(&servers.settings(ResolverMode::TrustAd, address.into())).expect("sound settings");
        match kind {
            ForwarderKind::SystemdResolved => {
                assert_eq!(state(&stub).await, ServerState::Failed(SelfTestFailure::DoesNotValidate));
            }
            ForwarderKind::Dnsmasq => assert_true(&stub, "over dnsmasq, by its AD bit").await,
        }
    }
}

#[tokio::test]
async fn a2_a3_resolvers_that_are_not_believed() {
    // A2, A3.
    let servers = Servers::start();
    let (passing, validating) = (servers.net.resolver(), servers.net.validator());
    // RFC 8310 §8.1: a certificate of another name, and one of a CA that the settings do not name.
    let misnamed = servers.settings(ResolverMode::TrustAd, over_tls(validating, "other.test"));
    let unknown =
        ResolverSettings { tls_ca: None, ..servers.settings(ResolverMode::TrustAd, over_tls(validating, RESOLVER)) };
    for settings in [misnamed, unknown] {
        for mode in [ResolverMode::TrustAd, ResolverMode::Validate] {
            let stub = Stub::new(&ResolverSettings { mode, ..settings.clone() }).expect("sound settings");
            let state = state(&stub).await;
            assert!(
                matches!(&state, ServerState::Failed(SelfTestFailure::Unreachable(why)) if why.contains("certificate")),
                "{state:?}"
            );
            assert!(tlsa(&stub, "_25._tcp.mx.plain.test").await.is_err());
        }
    }
    // A resolver that does not validate leaves AD clear: if danelaw trusted it, every name would be insecure.
    let stub = Stub::new(&servers.settings(ResolverMode::TrustAd, passing.into())).expect("sound settings");
    assert_eq!(state(&stub).await, ServerState::Failed(SelfTestFailure::DoesNotValidate));
    assert!(tlsa(&stub, "_25._tcp.mx.secure.test").await.is_err());
}
