//! The facts that the watch remembers of a domain and of a host.
//!
//! A fact of a delivery and one of a probe have the same shape. The texts of strangers in them are cut, and freed of all but
//! printable ASCII.

use serde::{Deserialize, Serialize};

use crate::excerpt;

/// The most characters of a text of a stranger.
const MAX_TEXT: usize = 500;

/// The result of one look at a domain or at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// Mail would go there, or has gone.
    Good,
    /// TLS or DNSSEC is the reason why mail would not go.
    Broken(SeenFault),
    /// The look has failed, or mail would not go for another reason: greylisting, a server that is down.
    Unknown(SeenFault),
}

/// A refusal that a look has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenFault {
    /// Its name in the table of refusals.
    pub(crate) label: String,
    /// In words.
    pub(crate) text: String,
    /// The host that it is about, if it is about one.
    pub(crate) host: Option<String>,
}

/// The facts of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DomainFacts {
    /// Whether mail would go.
    pub(crate) standing: Standing,
    /// The time of the delivery that was refused, where the state is that of a delivery and not of a session.
    pub(crate) refused: Option<i64>,
    /// The end of the last session, if there was one.
    pub(crate) newest: Option<i64>,
    /// Whether it took mail, or a session, under TLS in the last day.
    pub(crate) took_tls: bool,
    /// The hosts whose faults stop the mail.
    pub(crate) stopping: Vec<String>,
    /// Whether its host would be verified.
    pub(crate) is_verified: bool,
    /// The exchanges by their preference; none if the lookup has failed.
    pub(crate) mx: Option<Vec<MxFact>>,
    /// The policy of MTA-STS in force.
    pub(crate) sts: Option<StsFact>,
    /// Whether the domain asks for TLS reports; asked of the operator's own domains alone.
    pub(crate) tlsrpt: Option<bool>,
    /// The rule for the domain.
    pub(crate) rule: Option<RuleFact>,
    /// Of the signatures of its MX records and of the keys of their zones, the first to end or to be late.
    pub(crate) signature: Option<SignatureFact>,
}

/// An MX record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct MxFact {
    /// Its preference; 0 for a domain that is its own exchange.
    pub(crate) preference: u16,
    /// The key of the host: its name, with the port that a rule may name.
    pub(crate) host: String,
}

/// A policy of MTA-STS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StsFact {
    /// Its id.
    pub(crate) id: String,
    /// Its mode.
    pub(crate) mode: String,
    /// The exchanges that it does not list.
    pub(crate) unlisted: Vec<String>,
    /// When it ends, in seconds since 1970, if it could not be fetched anew.
    pub(crate) ends: Option<i64>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleFact {
    /// The domains that it is for.
    pub(crate) domains: String,
    /// Whether mail would go without it and be as well protected; unknown without a session by the other rules.
    pub(crate) is_needless: Option<bool>,
    /// The days until its end, if the domain needs it.
    pub(crate) days_left: Option<i32>,
}

/// A signature of the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignatureFact {
    /// The records that it signs, as in `mx.example.com A`.
    pub(crate) records: String,
    /// Its end, in seconds since 1970.
    pub(crate) ends: i64,
    /// Its term, in seconds.
    pub(crate) term: i64,
    /// The TTL of the records, in seconds.
    pub(crate) ttl: u32,
}

/// The facts of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostFacts {
    /// The result of its lookups.
    pub(crate) lookups: Standing,
    /// Whether DANE holds for it.
    pub(crate) dane: DaneFact,
    /// The usable TLSA records, sorted.
    pub(crate) records: Vec<RecordFact>,
    /// Each address with a session or a delivery.
    pub(crate) addresses: Vec<AddressFact>,
    /// The addresses that mail would go to, and that this look did not connect to.
    #[serde(skip)]
    pub(crate) unasked: Vec<String>,
    /// Of the signatures of its addresses and TLSA records and of the keys of their zones, the first to end or to be late.
    pub(crate) signature: Option<SignatureFact>,
}

/// The DANE state of a host (RFC 7672 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DaneFact {
    /// It has secure, usable records.
    Usable,
    /// It has secure records, and none is usable.
    Unusable,
    /// It has none by a secure denial.
    Absent,
    /// Its zone, or that of its records, is insecure.
    Insecure,
    /// The level of its domains asks for no TLSA records.
    NotAsked,
    /// A lookup has failed.
    Unknown,
}

/// A usable TLSA record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RecordFact {
    /// 2 for DANE-TA, 3 for DANE-EE.
    pub(crate) usage: u8,
    /// 0 for the whole certificate, 1 for its key.
    pub(crate) selector: u8,
    /// How it is compared (RFC 6698 §2.1.3).
    pub(crate) matching: u8,
    /// The SHA-256 digest of its data.
    pub(crate) digest: String,
}

/// The facts of one address of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressFact {
    /// The address.
    pub(crate) address: String,
    /// The source.
    #[serde(default)]
    pub(crate) source: FactSource,
    /// The end of the session or of the delivery, in seconds since 1970.
    pub(crate) at: i64,
    /// Whether the last session had no answer, so that these are the facts of one before.
    #[serde(default)]
    pub(crate) is_carried: bool,
    /// The result of the last session.
    pub(crate) standing: Standing,
    /// The SHA-256 digest of the certificate.
    pub(crate) certificate: Option<String>,
    /// The record that matched.
    pub(crate) matched: Option<RecordFact>,
    /// The first end of a certificate on the path whose dates count, in seconds since 1970.
    pub(crate) path_ends: Option<i64>,
    /// The end of the certificate that a record of usage 2 names, in seconds since 1970.
    pub(crate) anchor_ends: Option<i64>,
}

/// The source of a fact.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FactSource {
    /// A session of the watch.
    #[default]
    Session,
    /// A delivery.
    Delivery,
}

impl SeenFault {
    /// A refusal with a text that may have a stranger's words in it.
    pub(crate) fn new(label: &str, text: &str, host: Option<String>) -> Self {
        Self { label: label.to_owned(), text: stranger(text), host }
    }
}

impl Standing {
    /// The fault for which mail would wait, if it is one of TLS or DNSSEC.
    pub(crate) fn broken(&self) -> Option<&SeenFault> {
        match self {
            Self::Broken(fault) => Some(fault),
            Self::Good | Self::Unknown(_) => None,
        }
    }

    /// Whether the look had no answer.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// The fault of any kind.
    pub(crate) fn fault(&self) -> Option<&SeenFault> {
        match self {
            Self::Broken(fault) | Self::Unknown(fault) => Some(fault),
            Self::Good => None,
        }
    }
}

impl DomainFacts {
    /// Whether the look had no answer, or has the sessions of an earlier one.
    pub(crate) fn has_no_news(&self, known: &Self) -> bool {
        let is_older = self.newest.is_some_and(|newest| known.newest.is_some_and(|known| newest < known));
        self.standing.is_unknown() || is_older
    }
}

impl HostFacts {
    /// These facts with the earlier ones of addresses at which this look had no answer: no session was opened, or it has failed
    /// for another reason than TLS.
    pub(crate) fn over(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        if self.dane == DaneFact::Unknown {
            self.dane = before.dane;
            self.records.clone_from(&before.records);
        }
        for fact in &mut self.addresses {
            let known = before.addresses.iter().find(|known| known.address == fact.address);
            if let Some(known) = known.filter(|_| fact.standing.is_unknown()) {
                *fact = AddressFact { is_carried: true, ..known.clone() };
            } else if let Some(known) = known.filter(|_| fact.certificate.is_none()) {
                // A delivery tells less than a probe.
                fact.certificate.clone_from(&known.certificate);
                fact.anchor_ends = known.anchor_ends;
            }
        }
        let unasked = before.addresses.iter().filter(|known| self.unasked.contains(&known.address));
        self.addresses.extend(unasked.map(|known| AddressFact { is_carried: true, ..known.clone() }));
        if self.repeats(before) {
            self.addresses.iter_mut().for_each(|fact| fact.is_carried = true);
        }
        self
    }

    /// The lookup that does not validate, or the first address at which TLS fails; that of an address without an answer now comes
    /// last.
    pub(crate) fn broken(&self) -> Option<BrokenHost<'_>> {
        let at = |is_carried| {
            let mut facts = self.addresses.iter().filter(move |fact| fact.is_carried == is_carried);
            let fault = facts.find_map(|fact| fact.standing.broken());
            fault.map(|fault| BrokenHost { fault, is_carried })
        };
        let of_lookups = self.lookups.broken().map(|fault| BrokenHost { fault, is_carried: false });
        of_lookups.or_else(|| at(false)).or_else(|| at(true))
    }

    /// The end of the last session with an answer, if there was one.
    pub(crate) fn newest(&self) -> Option<i64> {
        self.addresses.iter().map(|fact| fact.at).max()
    }

    /// Whether these are the sessions of an earlier look again, as where several domains have one host.
    fn repeats(&self, known: &Self) -> bool {
        self.newest().is_some_and(|newest| known.newest().is_some_and(|known| newest <= known))
    }

    /// The fault of any kind, if no address is good.
    pub(crate) fn fault(&self) -> Option<&SeenFault> {
        let is_good = self.addresses.iter().any(|fact| fact.standing == Standing::Good);
        let of_address = || self.addresses.iter().find_map(|fact| fact.standing.fault());
        self.lookups.fault().or_else(of_address).filter(|_| !is_good)
    }

    /// Whether the look had no answer.
    pub(crate) fn is_unknown(&self) -> bool {
        self.dane == DaneFact::Unknown && self.lookups.broken().is_none()
    }
}

/// The fault of a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BrokenHost<'a> {
    pub(crate) fault: &'a SeenFault,
    /// Whether it is that of a look before: the last one had no answer.
    pub(crate) is_carried: bool,
}

/// A text of a stranger: cut, and freed of all but printable ASCII.
pub(crate) fn stranger(text: &str) -> String {
    let printable: String = text.chars().take(MAX_TEXT + 1).map(excerpt::printable).collect();
    excerpt::cut(printable, MAX_TEXT)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of these three fields, with this data.
    pub(crate) fn record(fields: [u8; 3], data: &str) -> RecordFact {
        let [usage, selector, matching] = fields;
        RecordFact { usage, selector, matching, digest: data.to_owned() }
    }

    /// An address that was verified by this record.
    pub(crate) fn address(matched: &RecordFact) -> AddressFact {
        AddressFact {
            address: "192.0.2.1".to_owned(),
            source: FactSource::Session,
            at: 1,
            is_carried: false,
            standing: Standing::Good,
            certificate: Some("C1".to_owned()),
            matched: Some(matched.clone()),
            path_ends: None,
            anchor_ends: None,
        }
    }

    /// A host that is verified by its one key.
    pub(crate) fn host() -> HostFacts {
        let key = record([3, 1, 1], "K1");
        HostFacts {
            lookups: Standing::Good,
            dane: DaneFact::Usable,
            addresses: vec![address(&key)],
            records: vec![key],
            unasked: Vec::new(),
            signature: None,
        }
    }

    /// The same host with a session that fails.
    pub(crate) fn broken_host(label: &str) -> HostFacts {
        let mut host = host();
        host.addresses[0].standing = Standing::Broken(SeenFault::new(label, "it fails", Some("mx.example".to_owned())));
        host
    }

    /// A domain with that one host.
    pub(crate) fn domain() -> DomainFacts {
        DomainFacts {
            standing: Standing::Good,
            refused: None,
            newest: None,
            took_tls: true,
            stopping: Vec::new(),
            is_verified: true,
            mx: Some(vec![MxFact { preference: 10, host: "mx.example".to_owned() }]),
            sts: None,
            tlsrpt: None,
            rule: None,
            signature: None,
        }
    }

    /// The same domain with mail that waits because of this host, or of its own records.
    pub(crate) fn broken_domain(label: &str, host: Option<&str>) -> DomainFacts {
        let fault = SeenFault::new(label, "it fails", host.map(str::to_owned));
        let stopping = host.map(str::to_owned).into_iter().collect();
        DomainFacts { standing: Standing::Broken(fault), stopping, is_verified: false, ..domain() }
    }

    #[test]
    fn texts_of_strangers_are_printable_and_short() {
        // A-110, W15.
        let fault = SeenFault::new("starttls-missing", &format!("call \u{1b}[31m\u{202e}{}", "x".repeat(1000)), None);
        assert!(fault.text.starts_with("call ?[31m?xxx"), "{}", fault.text);
        assert_eq!(fault.text.len(), MAX_TEXT + 3);
    }

    #[test]
    fn a_look_that_learns_nothing_of_an_address_keeps_the_facts_before() {
        let before = host();
        let mut now = broken_host("tlsa-mismatch");
        now.addresses[0].at = 2;
        assert_eq!(now.clone().over(Some(&before)), now);
        now.addresses[0].standing = Standing::Unknown(SeenFault::new("connect-timeout", "", None));
        let carried = AddressFact { is_carried: true, ..before.addresses[0].clone() };
        assert_eq!(now.clone().over(Some(&before)).addresses, [carried]);
        // A delivery has no certificate, and the one before stays.
        let mut delivered = host();
        delivered.addresses[0] = AddressFact { certificate: None, ..delivered.addresses[0].clone() };
        delivered.addresses[0].at = 2;
        let over = delivered.over(Some(&before));
        assert_eq!((over.addresses[0].certificate.as_deref(), over.addresses[0].is_carried), (Some("C1"), false));
        // The sessions of before again tell nothing new, and an address without a session keeps its facts.
        assert!(host().over(Some(&before)).addresses[0].is_carried);
        let unasked = HostFacts { addresses: Vec::new(), unasked: vec!["192.0.2.1".to_owned()], ..host() };
        assert_eq!(unasked.over(Some(&before)).addresses.len(), 1);
        assert_eq!(host().over(None), host());
    }
}
