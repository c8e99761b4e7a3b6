//! `danelaw check` of a domain with an exchange that is this host: the same answer as a delivery's (RFC 5321 §5.1, A-52).

use std::net::Ipv4Addr;
use std::process::Command;

use crate::check::check;
use crate::lab::dns::Tree;
use crate::lab::mx::say;
use crate::lab::{MESSAGE, Scenario};
use serde_json::Value;

/// An address of this host's interfaces that no setting names.
const INTERFACE: &str = "10.67.72.1";
pub(crate) const RESERVED: &str = "remote.allow_reserved=[\"127.0.0.0/8\",\"10.67.72.0/24\"]";

/// The domain with a second exchange, `gateway`, before or behind the first one.
fn with_gateway(preference: u16, address: &'static str) -> Scenario {
    let gateway = "gateway.example.test";
    Scenario::new()
        .tree(|tree, _| tree.mx("example.test", preference, gateway).a(gateway, address))
        .tree(|tree, _| tree.mx("example.test", 30, "last.example.test").a("last.example.test", "127.0.0.1"))
}

/// The domain with a first exchange that has this address, or none, and `gateway` behind it.
fn behind_one_at(first: Option<&'static str>, address: &'static str) -> Scenario {
    let domain = "backed.test";
    Scenario::new().tree(|tree, _| {
        let tree = tree.secure(domain).mx(domain, 10, "first.backed.test").mx(domain, 20, "gateway.backed.test");
        let tree = tree.a("gateway.backed.test", address).mx(domain, 30, "last.backed.test");
        let tree = tree.a("last.backed.test", "127.0.0.1");
        first.into_iter().fold(tree, |tree, address| tree.a("first.backed.test", address))
    })
}

/// C10: a backup keeps the mail while the exchanges before it have no address, as Postfix does ("unable to find primary relay").
#[tokio::test]
async fn mail_does_not_bounce_at_a_backup_whose_primary_has_no_address() {
    add_interface();
    let by_name = "remote.own_names = ['gateway.backed.test']";
    let by_setting = "remote.own_addresses = ['127.0.0.2']";
    let reserved = Some("192.0.2.1");
    for (first, address, setting, code, reason) in [
        (None, INTERFACE, "", "451 4.4.4", "no-primary"),
        (None, "127.0.0.2", by_setting, "451 4.4.4", "no-primary"),
        (None, "127.0.0.3", by_name, "451 4.4.4", "no-primary"),
        (reserved, "127.0.0.3", by_name, "451 4.4.4", "no-primary"),
        // It has an address, and is this host as well.
        (Some("127.0.0.2"), "127.0.0.3", by_setting, "554 5.4.6", "mail-loop"),
    ] {
        let lab = behind_one_at(first, address).set(RESERVED).set(setting).start().await;
        let answer = lab.client().await.send(&["b@backed.test"], MESSAGE).await.last().to_owned();
        assert!(answer.replace('-', " ").starts_with(code), "{answer}");
        let said = check(&lab, setting, &["backed.test", "--json", "--set", RESERVED], "").await;
        let found = said.object();
        let status = if code.starts_with('4') { 4 } else { 5 };
        assert_eq!((said.status, &found["refusal"]["reason"]), (status, &reason.into()), "{found}");
    }
}

/// RFC 5321 §5.1: a backup drops the exchanges of its own preference too. Two of one preference come in random order, and the verdict is
/// the same in both.
#[tokio::test]
async fn an_exchange_beside_the_backup_is_not_before_it() {
    add_interface();
    let domain = "beside.test";
    let by_setting = "remote.own_addresses = ['127.0.0.2']";
    for (address, setting) in [(INTERFACE, ""), ("127.0.0.2", by_setting)] {
        for (preference, code, reason) in [(20, "554 5.4.6", "mail-loop"), (10, "451 4.4.4", "no-primary")] {
            let tree = |tree: Tree, _| {
                let tree = tree.secure(domain).mx(domain, preference, "other.beside.test");
                tree.mx(domain, 20, "gateway.beside.test").a("gateway.beside.test", address)
            };
            let lab = Scenario::new().tree(tree).set(RESERVED).set(setting).start().await;
            for _ in 0..12 {
                let answer = lab.client().await.send(&["b@beside.test"], MESSAGE).await.last().to_owned();
                assert!(answer.replace('-', " ").starts_with(code), "{answer}");
            }
            for _ in 0..4 {
                let said = check(&lab, setting, &[domain, "--json", "--set", RESERVED], "").await;
                assert_eq!(said.object()["refusal"]["reason"], reason);
            }
        }
    }
}

/// Gives this host that address.
pub(crate) fn add_interface() -> Ipv4Addr {
    let added = Command::new("ip").args(["address", "replace", &format!("{INTERFACE}/32"), "dev", "lo"]).status();
    assert!(added.unwrap().success(), "the tests run in a network namespace of their own");
    INTERFACE.parse().unwrap()
}

#[tokio::test]
async fn an_exchange_that_is_this_host_is_told_as_a_delivery_tells_it() {
    add_interface();
    let silenced = |scenario: Scenario| scenario.mx(|mx| mx.greeting = say("421 busy"));
    let by_name = "remote.own_names = ['gateway.example.test']";
    let by_setting = "remote.own_addresses = ['127.0.0.2']";
    for (scenario, setting, status, verdict, reason) in [
        // The exchanges behind this host would take the mail.
        (with_gateway(5, INTERFACE), "", 5, "rejected", "mail-loop"),
        (with_gateway(5, "127.0.0.2"), by_setting, 5, "rejected", "mail-loop"),
        (with_gateway(5, "127.0.0.3"), by_name, 5, "rejected", "mail-loop"),
        // The one before it does.
        (with_gateway(20, INTERFACE), "", 0, "verified", ""),
        // The one before it does not, and those behind it are none of the domain's for this host.
        (silenced(with_gateway(20, INTERFACE)), "", 4, "deferred", "greeting-refused"),
        (silenced(with_gateway(20, "127.0.0.2")), by_setting, 4, "deferred", "greeting-refused"),
        (silenced(with_gateway(20, "127.0.0.3")), by_name, 4, "deferred", "greeting-refused"),
    ] {
        let lab = scenario.set(RESERVED).set(setting).start().await;
        let answer = lab.send().await.last().to_owned();
        let arguments = ["example.test", "--json", "--set", RESERVED];
        // Without connections a loop is known too.
        let unconnected: &[&[&str]] = if reason == "mail-loop" { &[&["--no-connect"]] } else { &[] };
        for connections in [&[&[][..]], unconnected].concat() {
            let said = check(&lab, setting, &[&arguments[..], connections].concat(), "").await;
            let found = said.object();
            assert_eq!((said.status, &found["verdict"]), (status, &verdict.into()), "{found}");
            let Value::Object(refusal) = &found["refusal"] else {
                assert!(answer.starts_with("250 "), "{answer}");
                continue;
            };
            assert_eq!(refusal["reason"], reason);
            let said = |key: &str| refusal[key].as_str().unwrap();
            // A reply of several lines has a hyphen behind the code.
            let answer = answer.replace('-', " ");
            let (code, text) = (said("code"), said("text").replace('-', " "));
            assert!(answer.starts_with(code) && answer.contains(&text), "{answer} {found}");
        }
    }
}
