//! The meaning of one reply of an authoritative server: an answer, a denial, a referral to the servers of a zone below,
//! or none of these.
//!
//! Of a reply the way to the next server alone is taken here. Answers and denials go on to the validator as they came. A
//! wrong referral leads to a server that can prove nothing, so the rules below bound the work that a stranger can cause
//! and keep one zone from speaking for another:
//!
//! | the reply | it is |
//! |---|---|
//! | AA, with records of the type, or an alias, at the asked name | an answer |
//! | AA, NXDOMAIN; or AA, empty, with the SOA of a zone above the name or nothing at all | a denial |
//! | empty or AA clear, with the NS records of a zone below the one asked and at or above the name | a referral |
//! | AA clear and RA clear, and else an answer, or NXDOMAIN or empty with such a SOA | the same as with AA |
//! | anything else: an error, AA clear and RA set, NS records of the same zone, of one above or beside it | lame |

use std::net::IpAddr;
use std::time::Duration;

use super::super::cache::WithTtl;
use super::super::canonical::CanonicalName;
use super::super::links::Question;
use super::super::reply::{Rcode, Rtype};
use super::reply::{AuthorityReply, PlainData, PlainRecord, ReplyAuthority};

/// The most name servers of one zone that are known. No top-level domain has more than thirteen.
pub(super) const MAX_SERVERS: usize = 20;
/// The most addresses of them that a reply may bring along.
const MAX_GLUE: usize = 20;

/// A name server of a zone, with the addresses that came with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerName {
    pub(super) name: CanonicalName,
    pub(super) addresses: Vec<IpAddr>,
}

/// The servers of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Referral {
    pub(super) zone: CanonicalName,
    pub(super) servers: Vec<ServerName>,
    pub(super) ttl: Duration,
    pub(super) delegation: ZoneSigning,
}

/// Whether the parent says that a zone is signed. No one has validated it: it decides how the servers are asked alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZoneSigning {
    /// DS records came along, or it is the root.
    Signed,
    /// None came.
    Unsigned,
}

/// The meaning of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReplyReading {
    Answer,
    Denial(Rcode),
    Referral(Referral),
    /// The server does not serve the zone, or says so in no way that can be understood.
    Lame(String),
}

/// Reads the reply of a server of `zone`.
pub(super) fn read(zone: &CanonicalName, question: &Question, reply: &AuthorityReply) -> ReplyReading {
    let rcode = match &reply.rcode {
        Ok(rcode) => *rcode,
        Err(name) => return ReplyReading::Lame(format!("it answers {name}")),
    };
    let is_answer = reply.answers.iter().any(|record| answers(zone, question, record));
    let below = below(zone, question, reply);
    match (reply.authority, rcode) {
        // Servers of a parent may have an address of the child's name server to give.
        (ReplyAuthority::Unmarked, Rcode::NoError) if is_answer && below.is_some() => {
            empty(zone, question, reply, below)
        }
        (ReplyAuthority::Authoritative | ReplyAuthority::Unmarked, _) if is_answer => ReplyReading::Answer,
        (ReplyAuthority::Recursive, _) if !reply.answers.is_empty() => lame("its answer is not authoritative"),
        (_, _) if !reply.answers.is_empty() => lame("it answers another question"),
        (ReplyAuthority::Authoritative, Rcode::NxDomain) => ReplyReading::Denial(rcode),
        // Mail bounces by an unsigned denial: without AA its SOA must be one of the zone asked.
        (ReplyAuthority::Unmarked, Rcode::NxDomain) if below.is_none() && soa_of(zone, question, reply) => {
            ReplyReading::Denial(rcode)
        }
        (ReplyAuthority::Unmarked | ReplyAuthority::Recursive, Rcode::NxDomain) => {
            lame("its denial is not authoritative")
        }
        (_, Rcode::NoError) => empty(zone, question, reply, below),
    }
}

/// Reads a reply to the NS question for a zone's own servers (RFC 8109 §3). None if it has no such records.
pub(super) fn servers_of(zone: &CanonicalName, reply: &AuthorityReply) -> Option<Referral> {
    let own: Vec<&PlainRecord> = name_servers(&reply.answers).filter(|record| record.owner == *zone).collect();
    (!own.is_empty()).then(|| Referral { delegation: ZoneSigning::Signed, ..referral(zone, &own, reply) })
}

/// The addresses at a name, and the time for which they hold.
pub(super) fn addresses(name: &CanonicalName, reply: &AuthorityReply) -> WithTtl<Vec<IpAddr>> {
    let here = || reply.answers.iter().filter(|record| record.owner == *name);
    let found = here().filter_map(|record| match &record.data {
        PlainData::Address(address) => Some(*address),
        PlainData::Name(_) | PlainData::Other => None,
    });
    let ttl = here().map(|record| record.ttl).min().unwrap_or_default();
    WithTtl { value: found.take(MAX_GLUE).collect(), ttl }
}

/// The target, if the name is an alias.
pub(super) fn alias(name: &CanonicalName, reply: &AuthorityReply) -> Option<CanonicalName> {
    let mut aliases = reply.answers.iter().filter(|record| record.owner == *name && record.rtype == Rtype::CNAME);
    aliases.find_map(|record| match &record.data {
        PlainData::Name(target) => Some(target.clone()),
        PlainData::Address(_) | PlainData::Other => None,
    })
}

/// Whether a record of the answer section is about the question: of the type or an alias there, or a DNAME above it.
fn answers(zone: &CanonicalName, question: &Question, record: &PlainRecord) -> bool {
    let here = record.owner == question.name && (record.rtype == question.rtype || record.rtype == Rtype::CNAME);
    let above = || question.name.is_below(&record.owner) && record.owner.is_at_or_below(zone);
    here || record.rtype == Rtype::DNAME && above()
}

/// The first NS record of a zone below the one asked and at or above the name.
fn below<'a>(zone: &CanonicalName, question: &Question, reply: &'a AuthorityReply) -> Option<&'a PlainRecord> {
    name_servers(&reply.authorities)
        .find(|record| record.owner.is_below(zone) && question.name.is_at_or_below(&record.owner))
}

/// Whether the first SOA record is that of a zone above the name, and at or below the one asked.
fn soa_of(zone: &CanonicalName, question: &Question, reply: &AuthorityReply) -> bool {
    let soa = reply.authorities.iter().find(|record| record.rtype == Rtype::SOA);
    soa.is_some_and(|soa| question.name.is_at_or_below(&soa.owner) && soa.owner.is_at_or_below(zone))
}

/// A reply without an error, in which no answer counts, with its NS record [`below`].
fn empty(
    zone: &CanonicalName,
    question: &Question,
    reply: &AuthorityReply,
    below: Option<&PlainRecord>,
) -> ReplyReading {
    // RFC 2308 §2.2: the SOA tells a denial from a referral, which has AA clear.
    let soa = reply.authorities.iter().find(|record| record.rtype == Rtype::SOA);
    let denies = match reply.authority {
        ReplyAuthority::Authoritative => true,
        ReplyAuthority::Unmarked => below.is_none(),
        ReplyAuthority::Recursive => false,
    };
    if let (true, Some(soa)) = (denies, soa) {
        // RFC 4035 §3.1.4.1: the DS record is in the parent, and the child does not have it.
        let by_child = question.rtype == Rtype::DS && soa.owner == question.name && question.name.depth() > 0;
        return match soa_of(zone, question, reply) {
            true if by_child => lame("it denies the DS record for the zone that the record is about"),
            true => ReplyReading::Denial(Rcode::NoError),
            false => lame("its denial is one of another zone"),
        };
    }
    let Some(first) = below else {
        let any = name_servers(&reply.authorities).next().is_some();
        return match reply.authority {
            ReplyAuthority::Authoritative if !any => ReplyReading::Denial(Rcode::NoError),
            _ if any => lame("it refers to no zone below"),
            ReplyAuthority::Authoritative | ReplyAuthority::Unmarked | ReplyAuthority::Recursive => {
                lame("it has neither an answer nor a referral")
            }
        };
    };
    if question.rtype == Rtype::DS && first.owner == question.name {
        return lame("it refers a question for a DS record to the child");
    }
    let own: Vec<&PlainRecord> = name_servers(&reply.authorities).filter(|ns| ns.owner == first.owner).collect();
    let referral = referral(zone, &own, reply);
    if referral.servers.is_empty() { lame("it refers to no name server") } else { ReplyReading::Referral(referral) }
}

fn name_servers(records: &[PlainRecord]) -> impl Iterator<Item = &PlainRecord> {
    records.iter().filter(|record| record.rtype == Rtype::NS)
}

/// The servers in these NS records, with the addresses in the additional section that a server of `zone` may give: those
/// of names at or below its own zone.
fn referral(zone: &CanonicalName, records: &[&PlainRecord], reply: &AuthorityReply) -> Referral {
    let mut servers: Vec<ServerName> = Vec::new();
    for record in records {
        if let PlainData::Name(name) = &record.data
            && servers.len() < MAX_SERVERS
            && !servers.iter().any(|server| server.name == *name)
        {
            servers.push(ServerName { name: name.clone(), addresses: Vec::new() });
        }
    }
    let glue = reply.additionals.iter().filter(|record| record.owner.is_at_or_below(zone));
    let mut left = MAX_GLUE;
    let mut ttl = records.iter().map(|record| record.ttl).min().unwrap_or_default();
    for record in glue {
        if let PlainData::Address(address) = record.data
            && let Some(server) = servers.iter_mut().find(|server| server.name == record.owner)
            && left > 0
            && !server.addresses.contains(&address)
        {
            server.addresses.push(address);
            left -= 1;
            ttl = ttl.min(record.ttl);
        }
    }
    let owner = records.first().map_or_else(|| zone.clone(), |record| record.owner.clone());
    let signed = reply.authorities.iter().any(|record| record.rtype == Rtype::DS && record.owner == owner);
    let delegation = if signed { ZoneSigning::Signed } else { ZoneSigning::Unsigned };
    Referral { zone: owner, servers, ttl, delegation }
}

fn lame(why: &str) -> ReplyReading {
    ReplyReading::Lame(why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> CanonicalName {
        CanonicalName::from_labels(text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
    }

    fn record(text: &str) -> PlainRecord {
        let words: Vec<&str> = text.split(' ').collect();
        let [owner, rtype, data] = words[..] else { panic!("{text}") };
        let rtype: Rtype = rtype.parse().unwrap();
        let data = match rtype {
            Rtype::A | Rtype::AAAA => PlainData::Address(data.parse().unwrap()),
            Rtype::NS | Rtype::CNAME => PlainData::Name(name(data)),
            _ => PlainData::Other,
        };
        PlainRecord { owner: name(owner), rtype, ttl: Duration::from_secs(60), data }
    }

    fn reply(authority: ReplyAuthority, sections: [&[&str]; 3]) -> AuthorityReply {
        let [answers, authorities, additionals] = sections.map(|texts| texts.iter().map(|text| record(text)).collect());
        AuthorityReply { rcode: Ok(Rcode::NoError), authority, answers, authorities, additionals }
    }

    fn asked(text: &str) -> Question {
        let (owner, rtype) = text.split_once(' ').unwrap();
        Question { name: name(owner), rtype: rtype.parse().unwrap() }
    }

    fn kind(reading: &ReplyReading) -> String {
        match reading {
            ReplyReading::Answer => "answer".to_owned(),
            ReplyReading::Denial(rcode) => format!("denial {rcode:?}"),
            ReplyReading::Referral(referral) => format!("referral {}", referral.zone),
            ReplyReading::Lame(why) => format!("lame: {why}"),
        }
    }

    #[test]
    fn the_meaning_of_replies_of_a_server_of_test() {
        use ReplyAuthority::{Authoritative as Aa, Recursive as Ra, Unmarked as No};
        for (question, authority, sections, expected) in [
            ("mx.a.test A", Aa, [&["mx.a.test A 192.0.2.1"][..], &[], &[]], "answer"),
            ("mx.a.test A", Aa, [&["mx.a.test CNAME x.test"], &[], &[]], "answer"),
            ("mx.a.test A", Aa, [&["a.test DNAME x"], &[], &[]], "answer"),
            ("mx.a.test A", Ra, [&["mx.a.test A 192.0.2.1"], &[], &[]], "lame: its answer is not authoritative"),
            ("mx.a.test A", Ra, [&[], &["a.test SOA x"], &[]], "lame: it has neither an answer nor a referral"),
            // AA clear, by a server that does not recurse.
            ("mx.a.test A", No, [&["mx.a.test A 192.0.2.1"], &[], &[]], "answer"),
            ("mx.a.test A", No, [&["mx.a.test A 192.0.2.1"], &["test NS ns.test"], &[]], "answer"),
            ("mx.a.test A", No, [&["mx.a.test CNAME x.test"], &[], &[]], "answer"),
            ("mx.a.test A", No, [&["mx.b.test A 192.0.2.1"], &[], &[]], "lame: it answers another question"),
            ("mx.a.test A", No, [&[], &["a.test SOA x"], &[]], "denial NoError"),
            ("mx.a.test A", No, [&[], &["b.test SOA x"], &[]], "lame: its denial is one of another zone"),
            // The parent's word about the child's name server.
            ("ns.a.test A", No, [&["ns.a.test A 192.0.2.1"], &["a.test NS ns.a.test"], &[]], "referral a.test"),
            (
                "ns.a.test A",
                No,
                [&["ns.a.test A 192.0.2.1"], &["test SOA x", "a.test NS ns.a.test"], &[]],
                "referral a.test",
            ),
            ("a.test MX", No, [&[], &["test SOA x", "a.test NS ns.a.test"], &[]], "referral a.test"),
            ("a.test MX", No, [&[], &["a.test NS ns.a.test", "test SOA x"], &[]], "referral a.test"),
            ("mx.a.test A", Ra, [&[], &["a.test NS ns.a.test"], &[]], "referral a.test"),
            ("mx.a.test A", Aa, [&["mx.b.test A 192.0.2.1"], &[], &[]], "lame: it answers another question"),
            ("mx.a.test A", Aa, [&[], &["a.test SOA x"], &[]], "denial NoError"),
            ("mx.a.test A", Aa, [&[], &["a.test SOA x", "a.test NS ns.a.test"], &[]], "denial NoError"),
            ("mx.a.test A", Aa, [&[], &[], &[]], "denial NoError"),
            ("mx.a.test A", Aa, [&[], &["b.test SOA x"], &[]], "lame: its denial is one of another zone"),
            ("mx.a.test A", Aa, [&[], &[". SOA x"], &[]], "lame: its denial is one of another zone"),
            ("mx.a.test A", No, [&[], &[], &[]], "lame: it has neither an answer nor a referral"),
            ("mx.a.test A", No, [&[], &["a.test NS ns.a.test"], &[]], "referral a.test"),
            ("mx.a.test A", Aa, [&[], &["a.test NS ns.a.test"], &[]], "referral a.test"),
            ("a.test A", No, [&[], &["a.test NS ns.a.test"], &[]], "referral a.test"),
            // Upwards, to the zone itself, sideways, and past the name.
            ("mx.a.test A", No, [&[], &[". NS a.root"], &[]], "lame: it refers to no zone below"),
            ("mx.a.test A", No, [&[], &["test NS ns.test"], &[]], "lame: it refers to no zone below"),
            ("mx.a.test A", No, [&[], &["b.test NS ns.b.test"], &[]], "lame: it refers to no zone below"),
            ("mx.a.test A", No, [&[], &["other NS ns.other"], &[]], "lame: it refers to no zone below"),
            ("a.test A", No, [&[], &["mx.a.test NS ns.a.test"], &[]], "lame: it refers to no zone below"),
            // RFC 4035 §3.1.4.1.
            ("a.test DS", Aa, [&[], &["test SOA x"], &[]], "denial NoError"),
            (
                "a.test DS",
                Aa,
                [&[], &["a.test SOA x"], &[]],
                "lame: it denies the DS record for the zone that the record is about",
            ),
            (
                "a.test DS",
                No,
                [&[], &["a.test NS ns.a.test"], &[]],
                "lame: it refers a question for a DS record to the child",
            ),
            ("b.a.test DS", No, [&[], &["a.test NS ns.a.test"], &[]], "referral a.test"),
        ] {
            let reading = read(&name("test"), &asked(question), &reply(authority, sections));
            assert_eq!(kind(&reading), expected, "{question} {sections:?}");
        }
    }

    #[test]
    fn errors_are_no_denials() {
        let mut reply = reply(ReplyAuthority::Authoritative, [&[], &[], &[]]);
        for (rcode, authority, expected) in [
            (Err("REFUSED".to_owned()), ReplyAuthority::Authoritative, "lame: it answers REFUSED"),
            (Err("REFUSED".to_owned()), ReplyAuthority::Unmarked, "lame: it answers REFUSED"),
            (Ok(Rcode::NxDomain), ReplyAuthority::Authoritative, "denial NxDomain"),
            (Ok(Rcode::NxDomain), ReplyAuthority::Unmarked, "lame: its denial is not authoritative"),
            (Ok(Rcode::NxDomain), ReplyAuthority::Recursive, "lame: its denial is not authoritative"),
        ] {
            (reply.rcode, reply.authority) = (rcode, authority);
            assert_eq!(kind(&read(&name("test"), &asked("a.test MX"), &reply)), expected);
        }
        for (authority, soa, expected) in [
            (ReplyAuthority::Unmarked, "test SOA x", "denial NxDomain"),
            (ReplyAuthority::Unmarked, "a.test SOA x", "denial NxDomain"),
            (ReplyAuthority::Unmarked, ". SOA x", "lame: its denial is not authoritative"),
            (ReplyAuthority::Unmarked, "b.test SOA x", "lame: its denial is not authoritative"),
            (ReplyAuthority::Recursive, "test SOA x", "lame: its denial is not authoritative"),
        ] {
            (reply.authority, reply.rcode, reply.authorities) = (authority, Ok(Rcode::NxDomain), vec![record(soa)]);
            assert_eq!(kind(&read(&name("test"), &asked("a.test MX"), &reply)), expected, "{soa}");
        }
        // With name servers of a zone below it is of the parent, which does not have the child's names.
        reply.authorities = ["test SOA x", "a.test NS ns.a.test"].map(record).into();
        for (authority, expected) in [
            (ReplyAuthority::Authoritative, "denial NxDomain"),
            (ReplyAuthority::Unmarked, "lame: its denial is not authoritative"),
        ] {
            reply.authority = authority;
            assert_eq!(kind(&read(&name("test"), &asked("a.test MX"), &reply)), expected);
        }
    }

    #[test]
    fn glue_is_taken_for_names_of_the_zone_asked_alone() {
        let more = ["ns.a.test A 192.0.2.1", "ns.a.test AAAA 2001:db8::1", "ns.b.test A 192.0.2.2", "ns.c A 192.0.2.3"];
        let no = ["x.a.test A 192.0.2.4"];
        let servers = ["a.test NS ns.a.test", "a.test NS ns.b.test", "a.test NS ns.c", "b.test NS ns.evil.test"];
        let reply = reply(ReplyAuthority::Unmarked, [&[], &servers, &[&more[..], &no].concat()]);
        let ReplyReading::Referral(referral) = read(&name("test"), &asked("a.test A"), &reply) else { panic!() };
        let shown: Vec<String> =
            referral.servers.iter().map(|server| format!("{} {:?}", server.name, server.addresses)).collect();
        assert_eq!(shown, ["ns.a.test [192.0.2.1, 2001:db8::1]", "ns.b.test [192.0.2.2]", "ns.c []"]);
    }

    #[test]
    fn a_thousand_servers_are_twenty() {
        let servers: Vec<String> = (0..1000).map(|i| format!("a.test NS ns{i}.victim")).collect();
        let glue: Vec<String> = (0..1000).map(|i| format!("ns1.victim A 192.0.{}.{}", i / 200, i % 200)).collect();
        let (servers, glue): (Vec<&str>, Vec<&str>) =
            (servers.iter().map(String::as_str).collect(), glue.iter().map(String::as_str).collect());
        let reply = reply(ReplyAuthority::Unmarked, [&[], &servers, &glue]);
        let ReplyReading::Referral(of_root) = read(&name(""), &asked("a.test A"), &reply) else { panic!() };
        let glue = of_root.servers.iter().map(|server| server.addresses.len()).sum::<usize>();
        assert_eq!((of_root.servers.len(), glue), (MAX_SERVERS, MAX_GLUE));
    }

    fn some_name() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!["test", "a", "b"]), 0..4)
            .prop_map(|labels| if labels.is_empty() { ".".to_owned() } else { labels.join(".") })
    }

    fn some_records() -> impl Strategy<Value = Vec<String>> {
        let data = |rtype: &str| if rtype == "A" { "192.0.2.1" } else { "ns.test" }.to_owned();
        let record = (some_name(), prop::sample::select(vec!["A", "NS", "SOA", "CNAME", "DNAME", "DS"]))
            .prop_map(move |(owner, rtype)| format!("{owner} {rtype} {}", data(rtype)));
        proptest::collection::vec(record, 0..6)
    }

    proptest! {
        #[test]
        fn a_referral_goes_down_towards_the_name_and_an_answer_is_of_no_resolver(
            zone in some_name(),
            owner in some_name(),
            rtype in prop::sample::select(vec!["A", "DS", "MX"]),
            sections in [some_records(), some_records(), some_records()],
            authority in prop::sample::select(vec![ReplyAuthority::Authoritative, ReplyAuthority::Unmarked, ReplyAuthority::Recursive]),
            error in prop::sample::select(vec![Ok(Rcode::NoError), Ok(Rcode::NxDomain), Err("SERVFAIL".to_owned())]),
        ) {
            let question = asked(&format!("{owner} {rtype}"));
            let [answers, authorities, additionals] =
                sections.map(|texts| texts.iter().map(|text| record(text)).collect());
            let reply = AuthorityReply { rcode: error, authority, answers, authorities, additionals };
            match read(&name(&zone), &question, &reply) {
                ReplyReading::Referral(referral) => {
                    prop_assert!(referral.zone.is_below(&name(&zone)));
                    prop_assert!(question.name.is_at_or_below(&referral.zone));
                    prop_assert!(question.rtype != Rtype::DS || question.name.is_below(&referral.zone));
                    let mut glue = referral.servers.iter().filter(|server| !server.addresses.is_empty());
                    prop_assert!(glue.all(|server| server.name.is_at_or_below(&name(&zone))));
                }
                ReplyReading::Answer | ReplyReading::Denial(_) => {
                    prop_assert!(reply.authority != ReplyAuthority::Recursive && reply.rcode.is_ok());
                }
                ReplyReading::Lame(_) => {}
            }
        }
    }
}
