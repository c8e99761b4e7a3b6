//! NAT64: the prefix that the resolvers of a network show (RFC 7050), and the addresses that count behind it.

use danelaw::dns::server::ResolverMode;
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{FailureReason, HostLookup, Nat64, Resolver, Security};
use danelaw::name::Name;
use hickory_resolver::proto::op::{Message, ResponseCode};

use crate::lab::Scenario;
use crate::lab::dns::{Fault, Tree};

/// A DNS64 resolver: it makes no addresses for a question with CD (RFC 6147 §3).
fn without_cd(reply: &mut Message) {
    if reply.metadata.checking_disabled {
        reply.answers.clear();
    }
}

fn shows(tree: Tree, addresses: &[&'static str]) -> Tree {
    let records = addresses.iter().map(|address| ("ipv4only.arpa", "AAAA", *address)).collect();
    tree.fault("ipv4only.arpa", "AAAA", Fault::All(vec![Fault::Answer(records), Fault::Tamper(without_cd)]))
}

async fn prefix(tree: Tree, mode: ResolverMode) -> Result<Option<String>, FailureReason> {
    let lab = tree.start().await;
    let dns = Stub::new(&ResolverSettings { mode, nat64: Nat64::Auto, ..lab.settings() }).unwrap();
    dns.self_test().await;
    let found = dns.nat64().await.map_err(|failure| failure.reason)?;
    Ok(found.map(|prefix| prefix.to_string()))
}

#[tokio::test]
async fn the_prefix_is_the_one_that_the_resolvers_show() {
    // A25.
    use ResolverMode::{TrustAd, Validate};
    let well_known = ["64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171"];
    let found = Ok(Some("64:ff9b::/96".to_owned()));
    assert_eq!(prefix(shows(Tree::new(), &well_known), Validate).await, found);
    assert_eq!(prefix(shows(Tree::new().vouches(), &well_known), TrustAd).await, found);
    // Private prefixes lead into the own network.
    assert_eq!(prefix(shows(Tree::new(), &["fd00:64::192.0.0.170"]), Validate).await, Ok(None));
    // No DNS64.
    let none = Tree::new().fault("ipv4only.arpa", "AAAA", Fault::Denial(ResponseCode::NoError, "ipv4only.arpa"));
    assert_eq!(prefix(none, Validate).await, Ok(None));
    // No answer is no absence.
    let silent = Tree::new().fault("ipv4only.arpa", "AAAA", Fault::Drop);
    assert_eq!(prefix(silent, Validate).await, Err(FailureReason::Timeout));
}

#[tokio::test]
async fn a_host_keeps_its_own_addresses_and_their_security() {
    // A25.
    let tree = shows(Tree::new().secure("sec.test"), &["64:ff9b::192.0.0.170"]);
    let lab = tree.a("mx.sec.test", "8.8.8.8").start().await;
    let dns = Stub::new(&ResolverSettings { nat64: Nat64::Auto, ..lab.settings() }).unwrap();
    let Ok(HostLookup::Found(host)) = dns.host(&Name::parse("mx.sec.test").unwrap()).await else { panic!() };
    assert_eq!((host.security(), host.addresses), (Security::Secure, vec!["8.8.8.8".parse().unwrap()]));
}

#[tokio::test]
async fn an_address_of_this_network_is_not_reached_through_a_translator() {
    // A-51, A25: the IPv4 address inside decides. 127.0.0.1 is allowed in the lab, and is dialled as it is.
    for (host, answer) in [("64:ff9b::10.0.0.5", "451 "), ("64:ff9b::127.0.0.1", "250 ")] {
        let scenario = Scenario::new()
            .tree(|tree, _| tree.fault("mx1.example.test", "A", Fault::Empty))
            .tree(|tree, _| tree.aaaa("mx1.example.test", host))
            .set("remote.nat64 = '64:ff9b::/96'");
        let lab = scenario.start().await;
        let said = lab.send().await;
        assert!(said.last().starts_with(answer), "{host}: {said:?}");
        assert_eq!(lab.mx().connections(), usize::from(answer == "250 "));
    }
}

#[tokio::test]
async fn mail_goes_as_ever_where_no_ipv4_address_is_public() {
    let lab = Scenario::new().set("remote.nat64 = '64:ff9b::/96'").start().await;
    assert!(lab.send().await.last().starts_with("250 "));
    // A prefix that is not known may hide reserved addresses, so the mail waits.
    let silent = Scenario::new().tree(|tree, _| tree.fault("ipv4only.arpa", "AAAA", Fault::Drop));
    let lab = silent.set("remote.nat64 = 'auto'").start().await;
    let said = lab.send().await;
    assert!(said.last().starts_with("451 4.4.3 ") && said.last().contains("ipv4only.arpa"), "{said:?}");
}
