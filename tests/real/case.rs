//! The setup of a test: the recipient's domain, its MX hosts, and their DNS records.
//!
//! The default is the happy path: a signed domain with one MX that has a matching `3 1 1` record. A test changes one
//! thing in it.

use std::net::IpAddr;

use crate::certs::Identity;
use crate::dns::Fault;
use crate::forwarders::ForwarderKind;
use crate::net::Subnet;
use crate::peers::Script;
use crate::zones::{Record, Zone};

pub(crate) const DOMAIN: &str = "example.test";
pub(crate) const BOB: &str = "bob@example.test";
pub(crate) const CAROL: &str = "carol@example.test";

/// The domain of the recipient.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) signed: bool,
    /// Whether the MX RRset differs from the signed one.
    pub(crate) mx_forged: bool,
    /// The MX hosts, the preferred one first.
    pub(crate) exchanges: Vec<Exchange>,
    /// Further records of the recipient's domain and below: owner, without the final dot, and type with RDATA.
    pub(crate) more: &'static [(&'static str, &'static str)],
    /// Domains with policies of MTA-STS.
    pub(crate) policies: Vec<PolicyDomain>,
    /// The resolver between danelaw and the lab's own.
    pub(crate) forwarder: Option<ForwarderKind>,
    /// Lines of the client's main.cf besides the usual ones; `{danelaw}` is danelaw's address there, and `{lab}` the
    /// lab's directory.
    pub(crate) client: &'static [&'static str],
    /// Lines of danelaw's configuration before the usual ones.
    pub(crate) danelaw: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self::of([MX1])
    }
}

impl Case {
    /// A signed domain with these MX hosts.
    pub(crate) fn of(exchanges: impl Into<Vec<Exchange>>) -> Self {
        let (more, policies, client, danelaw) = (&[], Vec::new(), &[], "");
        let (exchanges, forwarder) = (exchanges.into(), None);
        Self { signed: true, mx_forged: false, exchanges, more, policies, forwarder, client, danelaw }
    }

    /// `test.` and the recipient's domain below it, with all its hosts.
    pub(crate) fn zones(&self, identities: &[Identity], net: &Subnet) -> Vec<Zone> {
        let apex = format!("{DOMAIN}.");
        let mut records = vec![Record::new(&format!("dead.{DOMAIN}."), format!("A {}", net.nobody()))];
        records.extend(self.more.iter().map(|(owner, data)| Record::new(&format!("{owner}."), *data)));
        for (number, (exchange, identity)) in self.exchanges.iter().zip(identities).enumerate() {
            let mx = format!("MX {} {}.", 10 * (number + 1), exchange.name);
            records.push(match self.mx_forged {
                false => Record::new(&apex, mx),
                true => Record::forged(&apex, mx, &format!("MX {} elsewhere.{DOMAIN}.", number + 1)),
            });
            records.extend(exchange.records(net.exchange(number).ip(), identity));
        }
        records.push(Record::new(&format!("{POLICY_HOST}."), format!("A {}", net.policy_host().ip())));
        let (plain, others): (Vec<_>, Vec<_>) = self.policies.iter().partition(|domain| domain.is_below(UNSIGNED));
        records.extend(others.into_iter().flat_map(PolicyDomain::records));
        let unsigned = plain.into_iter().flat_map(PolicyDomain::records).collect();
        vec![
            Zone { name: "example.test.", signed: self.signed, records },
            Zone { name: "unsigned.test.", signed: false, records: unsigned },
            Zone { name: "test.", signed: true, records: vec![] },
        ]
    }
}

/// A zone that is not signed, whatever the case is.
pub(crate) const UNSIGNED: &str = "unsigned.test";
/// The host of all policies, of which `mta-sts.<domain>` is an alias.
const POLICY_HOST: &str = "policy-host.example.test";

/// A domain below that of the case or below [`UNSIGNED`], with its MTA-STS policy.
#[derive(Clone)]
pub(crate) struct PolicyDomain {
    /// Without the final dot.
    pub(crate) name: String,
    /// Its MX hosts, the preferred one first.
    pub(crate) exchanges: Vec<&'static str>,
    pub(crate) policy: PublishedPolicy,
}

/// The policy of a domain.
#[derive(Clone)]
pub(crate) enum PublishedPolicy {
    /// There is no TXT record.
    None,
    /// There is a TXT record, and its policy host answers 404.
    Missing,
    /// The text that the policy host serves.
    Text(String),
}

impl PolicyDomain {
    /// The id in the TXT record.
    pub(crate) const ID: &str = "20260101T0";

    /// The name of its policy host.
    pub(crate) fn policy_host(&self) -> String {
        format!("mta-sts.{}", self.name)
    }

    fn is_below(&self, zone: &str) -> bool {
        self.name.ends_with(&format!(".{zone}"))
    }

    fn records(&self) -> Vec<Record> {
        let exchanges = self.exchanges.iter().enumerate();
        let mut records: Vec<_> = exchanges
            .map(|(number, exchange)| Record::new(&format!("{}.", self.name), format!("MX {} {exchange}.", number + 1)))
            .collect();
        if !matches!(self.policy, PublishedPolicy::None) {
            let text = format!("TXT \"v=STSv1; id={};\"", Self::ID);
            records.push(Record::new(&format!("_mta-sts.{}.", self.name), text));
            records.push(Record::new(&format!("{}.", self.policy_host()), format!("CNAME {POLICY_HOST}.")));
        }
        records
    }
}

/// An MX host and its DNS records.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// Without the final dot.
    pub(crate) name: &'static str,
    pub(crate) server: Server,
    pub(crate) certificate: Certificate,
    pub(crate) tlsa: Tlsa,
}

/// The preferred MX: a real server with a self-signed certificate that matches `3 1 1`.
pub(crate) const MX1: Exchange = Exchange {
    name: "mx1.example.test",
    server: Server::Postfix(&[]),
    certificate: Certificate::SelfSigned,
    tlsa: Tlsa::Matching,
};

/// The second MX, with the same properties.
pub(crate) const MX2: Exchange = Exchange { name: "mx2.example.test", ..MX1 };

#[derive(Clone)]
pub(crate) enum Server {
    /// With these lines of main.cf besides the usual ones.
    Postfix(&'static [&'static str]),
    /// With these lines; it asks the lab's policy about every recipient and message.
    Choosy(&'static [&'static str]),
    Exim,
    /// Postfix's smtp-sink, which has no TLS.
    Sink,
    Scripted(Script),
}

impl Server {
    /// A server without TLS: an attacker has stripped STARTTLS, or the server never had it.
    pub(crate) const WITHOUT_STARTTLS: Self = Self::Postfix(&["smtpd_tls_security_level = none"]);

    pub(crate) fn greets(line: &'static str) -> Self {
        Self::Scripted(Script::Greets(line))
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Certificate {
    SelfSigned,
    /// One that does not match the record; the matching one comes later ([`crate::lab::Lab::mend_certificate`]).
    NotYet,
    /// From a CA that is sent along.
    FromCa,
    /// From a CA that is sent along, for a host of this name.
    FromCaFor(&'static str),
    /// From the CA that danelaw trusts.
    Public,
    /// From that CA, for a host of this name.
    PublicFor(&'static str),
    /// From that CA, until yesterday.
    PublicExpired,
}

/// The TLSA record of a host, or the way in which its lookup fails.
#[derive(Clone, Copy)]
pub(crate) enum Tlsa {
    /// `3 1 1` for the certificate, `2 1 1` for its CA.
    Matching,
    /// The record of some other certificate.
    Other,
    /// No record; in a signed domain its absence is proven.
    Absent,
    /// A matching record, with the signature of another record.
    Forged,
    /// The resolver answers REFUSED.
    Refused,
    /// The resolver answers SERVFAIL: the name servers of the record's zone are dead.
    ServFail,
    /// The resolver never answers.
    TimesOut,
}

impl Exchange {
    /// A new key, with the certificate that the host shows.
    pub(crate) fn identity(&self) -> Identity {
        match self.certificate {
            Certificate::SelfSigned | Certificate::NotYet => Identity::for_name(self.name),
            Certificate::FromCa => Identity::under_ca(self.name),
            Certificate::FromCaFor(name) => Identity::under_ca(name),
            Certificate::Public => Identity::public(&[self.name]),
            Certificate::PublicFor(name) => Identity::public(&[name]),
            Certificate::PublicExpired => Identity::public_expired(self.name),
        }
    }

    /// How the resolver fails for the host's TLSA record, if it does.
    pub(crate) fn fault(&self) -> Option<(String, Fault)> {
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

    /// All DNS records of the host, TLSA included.
    fn records(&self, address: IpAddr, identity: &Identity) -> Vec<Record> {
        let owner = self.tlsa_owner();
        let matching = format!("TLSA {}", identity.tlsa());
        let other = format!("TLSA {}", Identity::for_name(self.name).tlsa());
        let mut records = vec![Record::new(&format!("{}.", self.name), format!("A {address}"))];
        records.extend(match self.tlsa {
            Tlsa::Absent => None,
            Tlsa::Other => Some(Record::new(&owner, other)),
            Tlsa::Forged => Some(Record::forged(&owner, matching, &other)),
            // A delegation to a name server that does not exist.
            Tlsa::ServFail => Some(Record::new(&owner, format!("NS dead.{DOMAIN}."))),
            Tlsa::Matching | Tlsa::Refused | Tlsa::TimesOut => Some(Record::new(&owner, matching)),
        });
        records
    }
}
