//! `danelaw check` of a domain with an exchange that is this host: the same answer as a delivery's (RFC 5321 §5.1, A-52).

use std::net::Ipv4Addr;
use std::process::Command;

use crate::check::check;
use crate::lab::Scenario;
use crate::lab::mx::say;
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
