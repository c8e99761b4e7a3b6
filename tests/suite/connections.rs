//! Connections to name servers: DNS over TLS with an authority of the operator's own, and the largest reply there is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use danelaw::dns::setup::{ResolverSettings, ResolverSetupError};
use danelaw::dns::stub::Stub;
use danelaw::dns::{FailureReason, Resolver, Security};
use danelaw::name::Name;
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::{A, NS};
use hickory_resolver::proto::rr::{Name as DnsName, RData, Record};
use tokio::net::{TcpListener, TcpStream};

use crate::certificates::pem;
use crate::lab::certs::Identity;
use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::process::danelaw;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Serves a lab over TLS, under this identity.
async fn over_tls(lab: &DnsLab, identity: &Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, plain) = (listener.local_addr().unwrap(), lab.addr);
    let acceptor = identity.acceptor();
    tokio::spawn(async move {
        loop {
            let (tcp, acceptor) = (listener.accept().await.unwrap().0, acceptor.clone());
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut tcp = TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut tcp).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_resolver_over_tls_is_verified_by_the_authority_of_the_operator() {
    // A3: RFC 8310 §8.1.
    let lab = Tree::new().secure("sec.test").a("mx.sec.test", "192.0.2.1").start().await;
    let identity = Identity::under_ca("dns.test");
    let address = over_tls(&lab, &identity).await;
    let mut authority = tempfile::NamedTempFile::new().unwrap();
    authority.write_all(pem("CERTIFICATE", identity.chain.last().unwrap()).as_bytes()).unwrap();
    let tls_ca = Some(authority.path().to_owned());
    let resolver = |server: String, tls_ca| {
        let timeout = Duration::from_secs(2);
        Stub::new(&ResolverSettings { servers: vec![server.parse().unwrap()], tls_ca, timeout, ..lab.settings() })
    };
    let dns = resolver(format!("tls://{address}#dns.test"), tls_ca.clone()).unwrap();
    let host = dns.lookup(&name("mx.sec.test"), "A".parse().unwrap()).await.unwrap();
    assert_eq!(host.security(), Security::Secure);
    dns.self_test().await;
    assert!(dns.health().borrow().all_good(), "{:?}", dns.health().borrow());
    // Another name, or another authority.
    for (server, tls_ca) in
        [(format!("tls://{address}#other.test"), tls_ca), (format!("tls://{address}#dns.test"), None)]
    {
        let failed = resolver(server, tls_ca).unwrap().mx(&name("sec.test")).await.unwrap_err().reason;
        assert!(matches!(&failed, FailureReason::Network(why) if why.contains("certificate")), "{failed:?}");
    }
    let mut empty = tempfile::NamedTempFile::new().unwrap();
    writeln!(empty, "no certificate").unwrap();
    let refused = resolver(format!("tls://{address}#dns.test"), Some(empty.path().to_owned()));
    assert!(matches!(refused, Err(ResolverSetupError::Certificates { .. })));
}

/// The reply that made the library's resolver take gigabytes: thousands of NS records of one host, and as many addresses.
fn as_large_as_it_gets(reply: &mut Message) {
    let zone = reply.queries[0].name().clone();
    let host = DnsName::from_ascii("h.").unwrap();
    for number in 0..2300_u16 {
        let owner = zone.prepend_label(format!("{number}")).unwrap();
        reply.authorities.push(Record::from_rdata(owner, 300, RData::NS(NS(host.clone()))));
    }
    for number in 0..1000_u16 {
        let [high, low] = number.to_be_bytes();
        reply.additionals.push(Record::from_rdata(host.clone(), 300, RData::A(A::new(10, 0, high, low))));
    }
}

/// The most memory that a process has taken, in MB.
fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[tokio::test]
async fn a_reply_of_thousands_of_records_takes_little_memory() {
    let plain = Tree::new().secure("sec.test").a("mx.sec.test", "192.0.2.1").start().await;
    let lab = Tree::new().secure("sec.test").a("mx.sec.test", "192.0.2.1");
    let lab = lab.fault("mx.sec.test", "A", Fault::Tamper(as_large_as_it_gets)).start().await;
    let mut peaks = Vec::new();
    for lab in [&plain, &lab] {
        let mut command = tokio::process::Command::from(danelaw());
        command.args(["resolve", "mx.sec.test", "A", "--server", &lab.addr.to_string(), "--trust-anchor"]);
        command.arg(&lab.anchor_file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let process = child.id().unwrap();
        let mut most = 0;
        while child.try_wait().unwrap().is_none() {
            most = most.max(peak(process).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        peaks.push(most);
    }
    println!("{peaks:?} MB without and with the reply");
    assert!(peaks[1] < peaks[0] + 50, "{peaks:?} MB");
}
