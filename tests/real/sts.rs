//! MTA-STS among real servers: nginx as the policy host, Postfix as the MX, signed and unsigned domains.
//!
//! Each row is a domain below `example.test`, which is signed, and one below `unsigned.test`, which is not. The hosts are
//! all below `example.test`, so their own addresses and TLSA records are secure.

use crate::case::{
    Case, Certificate, DOMAIN, Exchange, MX1, MX2, PolicyDomain, PublishedPolicy, Server, Tlsa, UNSIGNED,
};
use crate::command::eventually;
use crate::lab::Lab;
use crate::peers::Script;

/// They take mail for every domain.
const TAKES_ALL: Server =
    Server::Postfix(&["virtual_mailbox_domains = static:all", "virtual_mailbox_maps = static:bob/"]);
const GOOD: Exchange = Exchange { certificate: Certificate::Public, tlsa: Tlsa::Absent, server: TAKES_ALL, ..MX1 };
const OTHER_NAME: Exchange =
    Exchange { certificate: Certificate::PublicFor("www.example.test"), name: MX2.name, ..GOOD };
const EXPIRED: Exchange = Exchange { certificate: Certificate::PublicExpired, name: "mx3.example.test", ..GOOD };
const UNKNOWN_CA: Exchange = Exchange { certificate: Certificate::FromCa, name: "mx4.example.test", ..GOOD };
const WITHOUT_TLS: Exchange = Exchange { server: Server::Sink, name: "mx5.example.test", ..GOOD };
const WRONG_TLSA: Exchange = Exchange { tlsa: Tlsa::Other, name: "mx6.example.test", ..GOOD };
const DANE: Exchange =
    Exchange { certificate: Certificate::SelfSigned, tlsa: Tlsa::Matching, name: "mx7.example.test", ..GOOD };
const TLSA_UNKNOWN: Exchange = Exchange {
    server: Server::Scripted(Script::RefusesStartTls),
    tlsa: Tlsa::Refused,
    name: "mx8.example.test",
    ..GOOD
};

/// The hosts of a pattern that lists no MX host.
const ELSEWHERE: &str = "*.elsewhere.test";
const ALL: &str = "*.example.test";

/// The end of mail to a domain.
#[derive(Clone, Copy)]
enum End {
    /// The last of its hosts has it, under this policy and protection, `verified_by` this.
    Delivered([&'static str; 3]),
    /// Its reply and reason.
    Refused(&'static str, &'static str),
}

use End::{Delivered, Refused};

struct Row {
    name: &'static str,
    exchanges: &'static [Exchange],
    /// Mode and pattern of the policy, or the mark of none.
    policy: (&'static str, &'static str),
    /// The end of mail to the signed domain, and to the unsigned one.
    ends: [End; 2],
    /// `sts` in the log, and `sts_would`.
    told: (&'static str, &'static str),
}

impl Row {
    const fn enforced(name: &'static str, exchanges: &'static [Exchange], pattern: &'static str, end: End) -> Self {
        Self { name, exchanges, policy: ("enforce", pattern), ends: [end, end], told: ("enforce", "") }
    }

    const fn without(
        name: &'static str,
        policy: (&'static str, &'static str),
        told: (&'static str, &'static str),
    ) -> Self {
        Self { name, exchanges: &[OTHER_NAME], policy, ends: [ENCRYPTED, ENCRYPTED], told }
    }

    /// Both domains, signed and unsigned.
    fn domains(&self) -> [String; 2] {
        [DOMAIN, UNSIGNED].map(|zone| format!("{}.{zone}", self.name))
    }

    fn policy(&self) -> PublishedPolicy {
        match self.policy {
            ("nothing", _) => PublishedPolicy::None,
            ("missing", _) => PublishedPolicy::Missing,
            (mode, pattern) => {
                PublishedPolicy::Text(format!("version: STSv1\r\nmode: {mode}\r\nmx: {pattern}\r\nmax_age: 604800\r\n"))
            }
        }
    }
}

const BY_STS: End = Delivered(["sts", "verified", "mta-sts"]);
const BY_DANE: End = Delivered(["dane", "verified", "dane"]);
const ENCRYPTED: End = Delivered(["encrypt", "encrypted", ""]);
const NOT_LISTED: End = Refused("451 4.7.5", "mx-not-in-policy");

/// In this order: a host that failed a moment ago is tried last.
const ROWS: [Row; 16] = [
    Row::enforced("next", &[OTHER_NAME, GOOD], ALL, BY_STS),
    Row::enforced("good", &[GOOD], GOOD.name, BY_STS),
    Row::enforced("next-listed", &[OTHER_NAME, GOOD], GOOD.name, BY_STS),
    Row::enforced("other-name", &[OTHER_NAME], ALL, Refused("451 4.7.5", "name-mismatch")),
    Row::enforced("expired", &[EXPIRED], ALL, Refused("451 4.7.5", "certificate-expired")),
    Row::enforced("unknown-ca", &[UNKNOWN_CA], ALL, Refused("451 4.7.5", "untrusted-authority")),
    Row::enforced("stripped", &[WITHOUT_TLS], ALL, Refused("451 4.7.4", "starttls-missing")),
    Row::enforced("not-listed", &[GOOD], ELSEWHERE, NOT_LISTED),
    Row::without("testing", ("testing", ALL), ("testing", "name-mismatch")),
    Row::without("none", ("none", ALL), ("none", "")),
    Row::without("nothing", ("nothing", ""), ("none", "")),
    Row::without("missing", ("missing", ""), ("unfetched", "")),
    // DANE over a secure MX asks for no policy; over an insecure one the policy must list the host.
    Row {
        ends: [BY_DANE, Delivered(["sts", "verified", "mta-sts+tlsa"])],
        ..Row::enforced("dane", &[DANE], ALL, BY_DANE)
    },
    Row { ends: [BY_DANE, NOT_LISTED], ..Row::enforced("dane-not-listed", &[DANE], ELSEWHERE, BY_DANE) },
    // A certificate of a public CA never saves a host from its TLSA records (RFC 8461 §2).
    Row::enforced("wrong-tlsa", &[WRONG_TLSA], ALL, Refused("451 4.7.5", "tlsa-mismatch")),
    Row::enforced("tlsa-unknown", &[TLSA_UNKNOWN], ALL, Refused("451 4.7.5", "tlsa-lookup-failed")),
];

/// Sends a mail to the domain, and compares its end with the row.
fn assert_end(lab: &Lab, row: &Row, (domain, end): (&str, End)) {
    let recipient = format!("bob@{domain}");
    let [outcome] = lab.mail_to([recipient.as_str()]);
    let delivery = lab.danelaw().await_delivery_to(domain);
    match end {
        Delivered([policy, protection, verified_by]) => {
            assert_eq!(outcome.status, "sent", "{domain}: {outcome:?}");
            let exchange = row.exchanges.last().expect("a host");
            let fields = [("verdict", "delivered"), ("exchange", exchange.name), ("policy", policy)];
            delivery.assert(&fields);
            delivery.assert(&[("protection", protection), ("verified_by", verified_by)]);
            let wanted = format!("to=<{recipient}>");
            eventually(&format!("mail for {recipient}"), || lab.mx(exchange).log().contains(&wanted).then_some(()));
        }
        Refused(reply, reason) => {
            outcome.assert_deferred(reply, &[]);
            delivery.assert(&[("verdict", "deferred"), ("reason", reason), ("protection", "none")]);
        }
    }
    // No policy is asked for where DANE decides, or where the TLSA records of a signed domain are not known.
    let is_asked = !delivery.field("sts").is_empty();
    assert!(is_asked || domain.ends_with(DOMAIN), "{domain}");
    if is_asked {
        let (mode, would) = row.told;
        let id = if matches!(mode, "enforce" | "testing") || row.name == "none" { PolicyDomain::ID } else { "" };
        delivery.assert(&[("sts", mode), ("sts_would", would), ("sts_id", id)]);
    }
}

/// Rows B1, P12, P13, P14, P15, P16, P17: one lab for all domains.
#[test]
fn p13_p14_p15_p17_policies_decide_for_each_exchange() {
    let policies = ROWS.iter().flat_map(|row| {
        row.domains().map(|name| PolicyDomain {
            name,
            exchanges: row.exchanges.iter().map(|exchange| exchange.name).collect(),
            policy: row.policy(),
        })
    });
    let exchanges = [GOOD, OTHER_NAME, EXPIRED, UNKNOWN_CA, WITHOUT_TLS, WRONG_TLSA, DANE, TLSA_UNKNOWN];
    let lab = Lab::start(&Case { policies: policies.collect(), ..Case::of(exchanges) });
    for row in &ROWS {
        for (domain, end) in row.domains().iter().zip(row.ends) {
            assert_end(&lab, row, (domain, end));
        }
        if row.name == "next" {
            assert!(lab.mx(&OTHER_NAME).connections() > 0, "the preferred host is tried first");
        }
    }
    assert_eq!(lab.peer(&TLSA_UNKNOWN).heard().len(), 0, "no connection");
    for exchange in [&EXPIRED, &UNKNOWN_CA, &WRONG_TLSA] {
        lab.assert_no_mail_command_at(exchange);
    }
}
