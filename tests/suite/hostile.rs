//! An attacker between danelaw and the zones.
//!
//! The tampering resolver of the lab changes some replies, in the same way for two resolvers that ask: danelaw, and a
//! real unbound that validates. danelaw must reach the verdict of unbound, or none, which defers the mail. In three
//! cases it finds the genuine records where unbound fails ([`Ends::Genuine`]): it uses the signed set at the asked name
//! alone, and forged records beside it make no difference.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::lab::{free_port, listens};
use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Answer, Security};
use danelaw::name::Name;
use futures_util::StreamExt;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
use hickory_resolver::proto::rr::{DNSClass, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use Fault::{Answer as Forged, Denial, DeniedBy, Drop as Dropped, Empty, Inject, Rcode, Relabelled, ReplyTo, Stripped};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const FAKE: &str = "3 1 1 ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const OWNER: &str = "_25._tcp.mx.sec.test";
const HASHED: &str = "_25._tcp.mx.hashed.test";
const NONE: ResponseCode = ResponseCode::NoError;
const NO_NAME: ResponseCode = ResponseCode::NXDomain;
/// The wait for a verdict that should not come.
const IMPATIENCE: Duration = Duration::from_secs(4);
/// The wait for a verdict that should: long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ends {
    /// Neither danelaw nor unbound believes a record.
    Failed,
    /// Both have this verdict.
    Both(&'static str),
    /// unbound has this verdict, and danelaw defers.
    Deferred(&'static str),
    /// danelaw finds the true answer of the zone, and is right to; unbound fails, for this reason.
    Genuine(&'static str, &'static str),
}

/// dnsmasq answers so. A name that does not exist has no record of any type.
const OF_A_NAME: &str = "it wants NXDOMAIN with the proof of a name error";

use Ends::{Both, Deferred, Failed, Genuine};

/// Changed replies, and the result of one question.
struct Case {
    what: &'static str,
    question: (&'static str, &'static str),
    faults: Vec<(&'static str, &'static str, Fault)>,
    ends: Ends,
}

fn case(what: &'static str, fault: Fault, ends: Ends) -> Case {
    at((OWNER, "TLSA"), what, fault, ends)
}

fn at(question: (&'static str, &'static str), what: &'static str, fault: Fault, ends: Ends) -> Case {
    Case { what, question, faults: vec![(question.0, question.1, fault)], ends }
}

/// The question is answered as if its zone were unsigned, and these replies are meant to prove that it is.
fn downgrade(what: &'static str, cut: &'static str, ds: Fault) -> Case {
    let unsigned = Forged(vec![(OWNER, "TLSA", FAKE)]);
    let ns = Forged(vec![(cut, "NS", "ns.evil.test")]);
    let faults = vec![(OWNER, "TLSA", unsigned), (cut, "NS", ns), (cut, "DS", ds)];
    Case { what, question: (OWNER, "TLSA"), faults, ends: Failed }
}

/// A reply that is needed to check an answer is changed, and the answer is not.
fn chain(what: &'static str, owner: &'static str, rtype: &'static str, fault: Fault) -> Case {
    Case { what, question: (OWNER, "TLSA"), faults: vec![(owner, rtype, fault)], ends: Failed }
}

fn untouched(question: (&'static str, &'static str), what: &'static str, ends: Ends) -> Case {
    Case { what, question, faults: vec![], ends }
}

fn tree() -> Tree {
    let long =
        (1..=17).fold(Tree::new(), |tree, i| tree.cname(&format!("l{i}.sec.test"), &format!("l{}.sec.test", i + 1)));
    let many = (0..101).fold(long, |tree, i| tree.tlsa("many.sec.test", 25, &format!("{}{i:02x}", &EE[..68])));
    many.opt_out("test")
        .secure("sec.test")
        .nsec3("hashed.test", 5)
        .secure("other.test")
        .insecure("plain.test")
        .mx("sec.test", 10, "mx.sec.test")
        .a("mx.sec.test", "192.0.2.1")
        .tlsa("mx.sec.test", 25, EE)
        .a("mx.hashed.test", "192.0.2.2")
        .tlsa("mx.hashed.test", 25, EE)
        .tlsa("mx.other.test", 25, FAKE)
        .mx("plain.test", 10, "mx.plain.test")
        .a("mx.plain.test", "192.0.2.3")
        .tlsa("mx.plain.test", 25, FAKE)
        .cname("_25._tcp.al.sec.test", OWNER)
        .cname("_25._tcp.down.sec.test", "_25._tcp.mx.plain.test")
        .cname("loop.sec.test", "back.sec.test")
        .cname("back.sec.test", "loop.sec.test")
        .cname("self.sec.test", "self.sec.test")
        .dname("old.sec.test", "hashed.test")
        .record("*.wild.sec.test", "TLSA", FAKE)
        .tlsa("mx.wild.sec.test", 25, EE)
        .mx("odd.sec.test", 10, "a\\013\\010rcpt.sec.test")
        .a("l18.sec.test", "192.0.2.4")
}

/// Every record of the answer under another name.
fn rename(reply: &mut Message) {
    let asked = reply.queries[0].name().clone();
    reply.answers.iter_mut().for_each(|record| record.name = asked.clone());
}

fn tampered(change: fn(&mut Message)) -> Fault {
    Fault::Tamper(change)
}

fn both(first: Fault, second: Fault) -> Fault {
    Fault::All(vec![first, second])
}

/// Rows A7, A8, A13, A20, A22, A23, A-40, A-41, A-45, A-46, A-49 and A-53 for the lookup of TLSA records.
fn cases() -> Vec<Case> {
    let secure = Both("secure answer");
    vec![
        // --- empty replies from a source that cannot know
        case("empty", Empty, Failed),
        case("no data, unsigned, of its own zone", Denial(NONE, "sec.test"), Failed),
        case("no name, unsigned, of its own zone", Denial(NO_NAME, "sec.test"), Failed),
        case("no data, of an unsigned zone", Denial(NONE, "plain.test"), Failed),
        case("no name, of an unsigned zone", Denial(NO_NAME, "plain.test"), Failed),
        case("no data, of the root, unsigned", Denial(NONE, "."), Failed),
        case("no data, of a zone that does not exist", Denial(NONE, "mx.sec.test"), Failed),
        case("no data, of the name itself", Denial(NONE, OWNER), Failed),
        case("no data, by records that say there is", DeniedBy("sec.test"), Failed),
        case("no data, by the parent", DeniedBy("test"), Failed),
        case("no data, by a sibling zone", DeniedBy("other.test"), Failed),
        case("no name, by the parent", both(DeniedBy("test"), Relabelled(NO_NAME)), Failed),
        case("the denial of a sibling name", ReplyTo("_26._tcp.mx.sec.test", "TLSA"), Failed),
        case("the denial of the host above", ReplyTo("mx.sec.test", "TLSA"), Failed),
        case("the denial of another type", ReplyTo(OWNER, "A"), Failed),
        case("the denial of another zone", ReplyTo("_26._tcp.mx.hashed.test", "TLSA"), Failed),
        case("the denial of an unsigned zone", ReplyTo("_26._tcp.mx.plain.test", "TLSA"), Failed),
        at((HASHED, "TLSA"), "NSEC3: by the parent", DeniedBy("test"), Failed),
        at((HASHED, "TLSA"), "NSEC3: by itself", DeniedBy("hashed.test"), Failed),
        at((HASHED, "TLSA"), "NSEC3: of a sibling name", ReplyTo("_26._tcp.mx.hashed.test", "TLSA"), Failed),
        at((HASHED, "TLSA"), "NSEC3: of an unsigned zone", Denial(NO_NAME, "plain.test"), Failed),
        // --- a true denial, changed
        at(("_26._tcp.mx.sec.test", "TLSA"), "a true denial without its proof", Stripped, Failed),
        at(
            ("_26._tcp.mx.sec.test", "TLSA"),
            "a true denial of the other kind",
            Relabelled(NONE),
            Genuine("secure nodata", OF_A_NAME),
        ),
        at(("_26._tcp.mx.hashed.test", "TLSA"), "NSEC3: a true denial without its proof", Stripped, Failed),
        at(
            ("_26._tcp.mx.hashed.test", "TLSA"),
            "NSEC3: a true denial of the other kind",
            Relabelled(NONE),
            Genuine("secure nodata", OF_A_NAME),
        ),
        at(("_26._tcp.mx.sec.test", "TLSA"), "a true denial, its signatures broken", Fault::BogusSignature, Failed),
        at(("_26._tcp.mx.sec.test", "TLSA"), "a true denial, the SOA of another zone added", soa_of_another(), Failed),
        at(
            ("_26._tcp.mx.sec.test", "TLSA"),
            "a true denial without its SOA",
            Fault::WithoutSoa,
            Both("secure nxdomain"),
        ),
        at(
            ("mx.sec.test", "TLSA"),
            "a true denial, no name instead of no data",
            Relabelled(NO_NAME),
            Both("secure nodata"),
        ),
        // --- records
        case("without signatures", Stripped, Failed),
        case("signatures broken", Fault::BogusSignature, Failed),
        case("other records", Forged(vec![(OWNER, "TLSA", FAKE)]), Failed),
        case("one more record", Inject(vec![(OWNER, "TLSA", FAKE)]), Failed),
        case("records and a name error", Relabelled(NO_NAME), Failed),
        case("records of another name", Forged(vec![("_25._tcp.evil.sec.test", "TLSA", FAKE)]), Failed),
        case("signed records of another name", ReplyTo("_25._tcp.mx.other.test", "TLSA"), Failed),
        case("signed records of another name, renamed", both(ReplyTo(HASHED, "TLSA"), tampered(rename)), Failed),
        case("records of another type", ReplyTo("mx.sec.test", "A"), Failed),
        case("a wildcard's records, renamed", both(ReplyTo("x.wild.sec.test", "TLSA"), tampered(rename)), Failed),
        at(
            ("_25._tcp.mx.wild.sec.test", "TLSA"),
            "a wildcard's records in the place of closer ones",
            both(ReplyTo("x.wild.sec.test", "TLSA"), tampered(rename)),
            Failed,
        ),
        case("of another class", tampered(|reply| reply.answers.iter_mut().for_each(chaos)), Failed),
        case(
            "a longer TTL",
            tampered(|reply| reply.answers.iter_mut().for_each(|record| record.ttl = 1 << 30)),
            secure,
        ),
        // --- beside the records
        case("forged records beside, as additional", tampered(additional), secure),
        case(
            "an unsigned zone's SOA beside",
            Fault::AuthorityOnly("plain.test"),
            Genuine("secure answer", "every record set of the reply must be valid"),
        ),
        case("name servers beside", tampered(delegate), secure),
        case(
            "an unsigned alias beside",
            Inject(vec![(OWNER, "CNAME", "_25._tcp.mx.plain.test")]),
            Genuine("secure answer", "every record set of the reply must be valid"),
        ),
        // --- aliases
        case("an unsigned alias to an unsigned zone", Forged(vec![(OWNER, "CNAME", "_25._tcp.mx.plain.test")]), Failed),
        case("an unsigned alias and its records", Forged(aliased()), Failed),
        at(("_25._tcp.al.sec.test", "TLSA"), "the first link, forged records beside", first_link(), secure),
        at(
            ("_25._tcp.al.sec.test", "TLSA"),
            "the alias replaced",
            Forged(vec![("_25._tcp.al.sec.test", "CNAME", "_25._tcp.mx.plain.test")]),
            Failed,
        ),
        untouched(("_25._tcp.down.sec.test", "TLSA"), "an alias to an unsigned zone", Both("insecure answer")),
        at(
            ("mx.old.sec.test", "A"),
            "another target beside the DNAME",
            tampered(|reply| reply.answers.retain(|record| record.record_type() != RecordType::CNAME)),
            Both("secure answer"),
        ),
        at(("mx.old.sec.test", "A"), "the DNAME without signatures", Stripped, Failed),
        untouched(("loop.sec.test", "A"), "a loop", Failed),
        untouched(("self.sec.test", "A"), "an alias of itself", Failed),
        untouched(("l1.sec.test", "A"), "seventeen links", Failed),
        untouched(("l2.sec.test", "A"), "sixteen links", Genuine("secure answer", "it follows eleven")),
        untouched(("l9.sec.test", "A"), "nine links", Both("secure answer")),
        // --- the message
        case("another ID", tampered(|reply| reply.metadata.id ^= 1), Failed),
        case("another question", Fault::WrongQuestion(HASHED), Failed),
        case("a question", tampered(|reply| reply.metadata.message_type = MessageType::Query), Failed),
        case("truncated, TCP dead", Fault::Truncated, Failed),
        case("truncated, TCP alive", Fault::TruncatedUdp, secure),
        case(
            "truncated and empty, over TCP too",
            both(Empty, tampered(|reply| reply.metadata.truncation = true)),
            Failed,
        ),
        // A20: the extended errors of a resolver explain, and decide no verdict.
        case("an extended error beside the records", tampered(extended_error), secure),
        case("an extended error beside nothing", both(Denial(NONE, "sec.test"), tampered(extended_error)), Failed),
        case("dropped", Dropped, Failed),
        case("SERVFAIL", Rcode(ResponseCode::ServFail), Failed),
        case("REFUSED", Rcode(ResponseCode::Refused), Failed),
        case("NOTIMP", Rcode(ResponseCode::NotImp), Failed),
        case("FORMERR", Rcode(ResponseCode::FormErr), Failed),
        case("YXDOMAIN", Rcode(ResponseCode::YXDomain), Failed),
        untouched(
            ("_25._tcp.many.sec.test", "TLSA"),
            "more records than any honest host has",
            Deferred("secure answer"),
        ),
        untouched(("odd.sec.test", "MX"), "control characters in a name", Both("secure answer")),
        // --- keys and delegations
        chain("keys dropped", "sec.test", "DNSKEY", Dropped),
        chain("keys SERVFAIL", "sec.test", "DNSKEY", Rcode(ResponseCode::ServFail)),
        chain("keys denied", "sec.test", "DNSKEY", Denial(NONE, "sec.test")),
        chain("keys of another zone", "sec.test", "DNSKEY", both(ReplyTo("other.test", "DNSKEY"), tampered(rename))),
        chain("DS without signatures", "sec.test", "DS", Stripped),
        chain("DS broken", "sec.test", "DS", Fault::BogusSignature),
        chain("DS of another zone", "sec.test", "DS", both(ReplyTo("other.test", "DS"), tampered(rename))),
        chain("the parent's keys dropped", "test", "DNSKEY", Dropped),
        downgrade("unsigned by an unsigned denial", "sec.test", Denial(NONE, "test")),
        downgrade("unsigned by an unsigned zone", "sec.test", Denial(NONE, "plain.test")),
        downgrade("unsigned by nothing", "sec.test", Empty),
        downgrade("unsigned by an opt-out record of the parent", "sec.test", DeniedBy("test")),
        downgrade("unsigned by the denial of a sibling", "sec.test", ReplyTo("plain.test", "DS")),
        downgrade("unsigned by the denial of no name", "sec.test", ReplyTo("nothing.test", "DS")),
        downgrade("unsigned by the zone itself", "sec.test", DeniedBy("sec.test")),
        downgrade("a cut below the apex", "mx.sec.test", DeniedBy("sec.test")),
        downgrade("a cut at the name", OWNER, DeniedBy("sec.test")),
        downgrade("a cut by the parent's opt-out records", "mx.sec.test", DeniedBy("test")),
        // --- the MX records
        at(("sec.test", "MX"), "MX: empty", Empty, Failed),
        at(("sec.test", "MX"), "MX: no data, unsigned", Denial(NONE, "sec.test"), Failed),
        at(("sec.test", "MX"), "MX: no name, of an unsigned zone", Denial(NO_NAME, "plain.test"), Failed),
        at(("sec.test", "MX"), "MX: by the parent", DeniedBy("test"), Failed),
        at(("sec.test", "MX"), "MX: by records that say there are", DeniedBy("sec.test"), Failed),
        at(("sec.test", "MX"), "MX: another", Forged(vec![("sec.test", "MX", "10 evil.test.")]), Failed),
        at(("sec.test", "MX"), "MX: one more", Inject(vec![("sec.test", "MX", "5 evil.test.")]), Failed),
        at(("sec.test", "MX"), "MX: an alias", Forged(vec![("sec.test", "CNAME", "plain.test")]), Failed),
        at(("mx.sec.test", "A"), "A: another", Forged(vec![("mx.sec.test", "A", "192.0.2.66")]), Failed),
        at(("plain.test", "MX"), "an unsigned zone's records without any", Stripped, Both("insecure answer")),
    ]
}

fn aliased() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![(OWNER, "CNAME", "_25._tcp.mx.plain.test"), ("_25._tcp.mx.plain.test", "TLSA", FAKE)]
}

fn first_link() -> Fault {
    Fault::FirstLinkPlus(vec![(OWNER, "TLSA", FAKE)])
}

fn soa_of_another() -> Fault {
    tampered(|reply| {
        let soa = reply.authorities.iter().find(|record| record.record_type() == RecordType::SOA).unwrap();
        let mut other = soa.clone();
        other.name = hickory_resolver::proto::rr::Name::from_ascii("plain.test.").unwrap();
        reply.add_authority(other);
    })
}

fn chaos(record: &mut Record) {
    record.dns_class = DNSClass::CH;
}

fn additional(reply: &mut Message) {
    let mut forged = reply.answers[0].clone();
    forged.name = hickory_resolver::proto::rr::Name::from_ascii("mx.sec.test.").unwrap();
    reply.additionals.push(forged);
}

/// "DNSSEC Bogus" (RFC 8914 §4.7).
fn extended_error(reply: &mut Message) {
    reply.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(15, vec![0, 6]));
}

fn delegate(reply: &mut Message) {
    use hickory_resolver::proto::rr::{Name, RData, rdata::NS};
    let (zone, server) = (Name::from_ascii("sec.test.").unwrap(), Name::from_ascii("ns.evil.test.").unwrap());
    reply.authorities.push(Record::from_rdata(zone, 300, RData::NS(NS(server))));
}

#[tokio::test]
async fn nothing_fails_open_on_a_hostile_path() {
    let cases = cases();
    assert!(cases.len() >= 40);
    let run = |case: Case| async move {
        let (ours, theirs) = verdicts(&case).await;
        let as_expected = match case.ends {
            Failed => ours == "failed" && theirs == "failed",
            Both(verdict) => ours == verdict && theirs == verdict,
            Genuine(verdict, _) => ours == verdict && theirs == "failed",
            Deferred(verdict) => ours == "failed" && theirs == verdict,
        };
        (!as_expected).then(|| format!("{}: {:?} expected, danelaw {ours}, unbound {theirs}", case.what, case.ends))
    };
    let wrong: Vec<Option<String>> = futures_util::stream::iter(cases).map(run).buffered(8).collect().await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The verdicts of danelaw and unbound, as in `secure answer`, or `failed`.
async fn verdicts(case: &Case) -> (String, String) {
    let spoiled =
        case.faults.iter().fold(tree(), |tree, (owner, rtype, fault)| tree.fault(owner, rtype, fault.clone()));
    let lab = spoiled.start().await;
    let unbound = Unbound::start(&lab).await;
    let (ours, theirs) = match case.ends {
        Failed => (IMPATIENCE, IMPATIENCE),
        Both(_) => (PATIENCE, PATIENCE),
        Deferred(_) => (IMPATIENCE, PATIENCE),
        Genuine(..) => (PATIENCE, IMPATIENCE),
    };
    let ours = danelaw(lab.settings(), case.question, ours);
    let (ours, theirs) = tokio::join!(ours, unbound.ask(case.question, theirs));
    (ours, theirs)
}

/// The same cases where danelaw asks the authoritative servers itself, and each changed reply is that of the server that
/// answers the question. The verdicts are the same as behind a resolver.
#[tokio::test]
async fn nothing_fails_open_where_authoritative_servers_are_hostile() {
    let run = |case: Case| async move {
        let lab = tree().delegate().await;
        for (owner, rtype, fault) in &case.faults {
            lab.spoil_answer((*owner, *rtype), fault.clone());
        }
        let (expected, patience) = match case.ends {
            Failed | Deferred(_) => ("failed", IMPATIENCE),
            Both(verdict) | Genuine(verdict, _) => (verdict, PATIENCE),
        };
        let ours = danelaw(lab.settings(), case.question, patience).await;
        let is_spoiled = case.faults.first().is_none_or(|(owner, rtype, _)| lab.was_asked((*owner, *rtype)));
        let as_expected = ours == expected && is_spoiled;
        (!as_expected).then(|| format!("{}: {expected} expected, danelaw {ours}, spoiled: {is_spoiled}", case.what))
    };
    let wrong: Vec<Option<String>> = futures_util::stream::iter(cases()).map(run).buffered(8).collect().await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn danelaw(settings: ResolverSettings, (name, rtype): (&str, &str), patience: Duration) -> String {
    let dns = Stub::new(&ResolverSettings { timeout: patience / 5, deadline: patience, ..settings });
    match dns.unwrap().lookup(&Name::parse(name).unwrap(), rtype.parse().unwrap()).await {
        Err(_) => "failed".to_owned(),
        Ok(found) => {
            let kind = match found.answer {
                Answer::Records(_) => "answer",
                Answer::NoData => "nodata",
                Answer::NxDomain => "nxdomain",
            };
            let security = match found.security() {
                Security::Secure => "secure",
                Security::Insecure => "insecure",
            };
            format!("{security} {kind}")
        }
    }
}

/// A validating unbound that asks the lab's resolver.
struct Unbound {
    address: SocketAddr,
    /// Killed when this is dropped.
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Unbound {
    async fn start(lab: &DnsLab) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let configuration = format!(
            r#"server:
    interface: {ip}@{port}
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: ""
    use-syslog: no
    do-ip6: no
    do-not-query-localhost: no
    local-zone: "test." nodefault
forward-zone:
    name: "."
    forward-addr: {server}@{server_port}
remote-control:
    control-enable: no
"#,
            ip = free.ip(),
            port = free.port(),
            anchor = lab.anchor_file.display(),
            directory = directory.path().display(),
            server = lab.addr.ip(),
            server_port = lab.addr.port(),
        );
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("unbound");
        command.arg("-dd").arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().expect("unbound is installed: run the tests by tests/run");
        tokio::select! {
            () = listens(free) => {}
            ended = child.wait() => panic!("unbound has ended: {ended:?}"),
        }
        Self { address: free, _child: child, _directory: directory }
    }

    async fn ask(&self, question: (&str, &str), patience: Duration) -> String {
        let answered = async {
            loop {
                if let Ok(reply) = self.exchange(question).await {
                    return verdict(&reply, question.1.parse().unwrap());
                }
            }
        };
        // Without an answer in time the mail is deferred, so it counts as a failure.
        tokio::time::timeout(patience, answered).await.unwrap_or("failed".to_owned())
    }

    /// Over TCP, with DO and AD.
    async fn exchange(&self, (name, rtype): (&str, &str)) -> std::io::Result<Message> {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        request.metadata.recursion_desired = true;
        request.metadata.authentic_data = true;
        let name = hickory_resolver::proto::rr::Name::from_ascii(format!("{name}.")).unwrap();
        request.add_query(Query::query(name, rtype.parse().unwrap()));
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(1232);
        request.set_edns(edns);
        let request = request.to_vec().unwrap();
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_u16(u16::try_from(request.len()).unwrap()).await?;
        stream.write_all(&request).await?;
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await?;
        Ok(Message::from_vec(&reply).unwrap())
    }
}

fn verdict(reply: &Message, rtype: RecordType) -> String {
    let kind = match reply.metadata.response_code {
        ResponseCode::NXDomain => "nxdomain",
        ResponseCode::NoError if reply.answers.iter().any(|record| record.record_type() == rtype) => "answer",
        ResponseCode::NoError => "nodata",
        _ => return "failed".to_owned(),
    };
    let security = if reply.metadata.authentic_data { "secure" } else { "insecure" };
    format!("{security} {kind}")
}
