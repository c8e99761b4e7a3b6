//! The setup of a test: the recipient's domain, its MX hosts, and their DNS records.
//!
//! The default is the happy path: a signed domain with one MX that has a matching `3 1 1` record. A test changes one
//! thing in it.

use std::net::IpAddr;

use crate::dns::Fault;
use crate::net::Subnet;
use crate::peers::Script;
use crate::pki::Identity;
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
    /// Lines of the client's main.cf besides the usual ones; `{danelaw}` is danelaw's address there.
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
        Self { signed: true, mx_forged: false, exchanges: exchanges.into(), more: &[], client: &[], danelaw: "" }
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
        vec![
            Zone { name: "example.test.", signed: self.signed, records },
            Zone { name: "test.", signed: true, records: vec![] },
        ]
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
            Certificate::SelfSigned | Certificate::NotYet => Identity::self_signed(self.name),
            Certificate::FromCa => Identity::from_ca(self.name),
            Certificate::FromCaFor(name) => Identity::from_ca(name),
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
        let other = format!("TLSA {}", Identity::self_signed(self.name).tlsa());
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
