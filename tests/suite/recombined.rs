//! An attacker on the path to the resolver, without a key. Its replies have records that the zones have signed, in any selection, at
//! any place and under any response code. Some records come without their signatures.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use danelaw::dns::setup::ResolverSettings;
use danelaw::dns::stub::Stub;
use danelaw::dns::{Alias, Answer, Lookup, Rtype, Security};
use fastrand::Rng;
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::lab::dns::{DnsLab, Tree};

const EE: &str = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The questions that are attacked.
const QUESTIONS: [(&str, &str); 31] = [
    ("sec.test", "MX"),
    ("mx.sec.test", "A"),
    ("mx.sec.test", "AAAA"),
    ("_25._tcp.mx.sec.test", "TLSA"),
    ("_25._tcp.no.sec.test", "TLSA"),
    ("to.sec.test", "A"),
    ("_25._tcp.to.sec.test", "TLSA"),
    ("out.sec.test", "A"),
    ("x.wild.sec.test", "TLSA"),
    ("_25._tcp.x.wild.sec.test", "TLSA"),
    ("near.wild.sec.test", "TLSA"),
    ("x.near.wild.sec.test", "TLSA"),
    ("x.away.sec.test", "A"),
    ("mx.old.sec.test", "A"),
    ("_25._tcp.mx.old.sec.test", "TLSA"),
    ("old.sec.test", "MX"),
    ("sub.sec.test", "MX"),
    ("_25._tcp.mx.sub.sec.test", "TLSA"),
    ("plain.sec.test", "MX"),
    ("mx.plain.sec.test", "A"),
    ("hashed.test", "MX"),
    ("mx.hashed.test", "A"),
    ("_25._tcp.mx.hashed.test", "TLSA"),
    ("_25._tcp.no.hashed.test", "TLSA"),
    ("x.wild.hashed.test", "TLSA"),
    ("_25._tcp.x.wild.hashed.test", "TLSA"),
    ("x.away.hashed.test", "A"),
    ("nothing.test", "MX"),
    ("plain.test", "MX"),
    ("mx.plain.test", "A"),
    ("host.below.nothing.test", "A"),
];

/// Zones with each kind of denial, wildcards, aliases and delegations.
fn tree() -> Tree {
    let tree = Tree::new().opt_out("test").secure("sec.test").nsec3("hashed.test", 2).insecure("plain.test");
    let tree = tree.secure("sub.sec.test").insecure("plain.sec.test");
    let tree = ["sec.test", "sub.sec.test", "plain.sec.test", "hashed.test", "plain.test"].into_iter().fold(
        tree,
        |tree, domain| {
            let host = format!("mx.{domain}");
            tree.mx(domain, 10, &host).a(&host, "192.0.2.1").tlsa(&host, 25, EE)
        },
    );
    let tree = ["sec.test", "hashed.test"].into_iter().fold(tree, |tree, domain| {
        tree.record(&format!("*.wild.{domain}"), "TLSA", "3 1 1 ff")
            .a(&format!("near.wild.{domain}"), "192.0.2.7")
            .cname(&format!("*.away.{domain}"), "mx.sec.test")
    });
    tree.cname("to.sec.test", "mx.hashed.test")
        .cname("_25._tcp.to.sec.test", "_25._tcp.mx.hashed.test")
        .cname("out.sec.test", "mx.plain.test")
        .dname("old.sec.test", "sub.sec.test")
}

/// A record set of a reply, with its signatures.
type Signed = Vec<Record>;

/// The replies of an honest resolver, and those of the attacker before it.
struct Attacker {
    honest: SocketAddr,
    /// All replies that were seen.
    seen: Mutex<Vec<Message>>,
    /// None while it learns.
    attack: Mutex<Option<Attack>>,
}

/// The attack of one round.
struct Attack {
    random: Rng,
    /// So many of 256 replies go through.
    spared: u8,
}

impl Attack {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let spared = random.choice([30, 120, 220]).unwrap_or_default();
        Self { random, spared }
    }
}

impl Attacker {
    async fn start(honest: SocketAddr) -> (Arc<Self>, SocketAddr, AbortHandle) {
        let attacker = Arc::new(Self { honest, seen: Mutex::default(), attack: Mutex::default() });
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let serving = Arc::clone(&attacker);
        let task = tokio::spawn(async move {
            let mut question = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut question).await {
                let reply = serving.reply(&question[..length]).await;
                let _ = socket.send_to(&reply, client).await;
            }
        });
        (attacker, address, task.abort_handle())
    }

    async fn reply(&self, question: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(question, self.honest).await.unwrap();
        let mut octets = vec![0; 4096];
        let length = socket.recv(&mut octets).await.unwrap();
        octets.truncate(length);
        let genuine = Message::from_vec(&octets).unwrap();
        match self.attack.lock().unwrap().as_mut() {
            None => self.seen.lock().unwrap().push(genuine),
            Some(Attack { random, spared }) => {
                if random.u8(..) >= *spared {
                    return self.forged(genuine, random).to_vec().unwrap();
                }
            }
        }
        octets
    }

    /// Another reply to the question.
    fn forged(&self, mut reply: Message, random: &mut Rng) -> Message {
        let seen = self.seen.lock().unwrap();
        let asked = reply.queries[0].name().clone();
        match random.u8(..4) {
            0 => reply.metadata.response_code = ResponseCode::NoError,
            1 => reply.metadata.response_code = ResponseCode::NXDomain,
            _ => {}
        }
        let other = random.choice(&*seen).unwrap();
        match random.u8(..6) {
            0 => reply.answers.clear(),
            1 => reply.answers = some_of(&other.answers, random),
            2 => reply.answers.extend(some_of(&other.answers, random)),
            3 => reply.answers = some_of(&reply.answers, random),
            _ => {}
        }
        if random.u8(..3) == 0 {
            // As a wildcard makes them, or not.
            reply.answers.iter_mut().for_each(|record| record.name = asked.clone());
        }
        match random.u8(..6) {
            0 => reply.authorities.clear(),
            1 => reply.authorities = some_of(&reply.authorities, random),
            2 => reply.authorities = some_of(&other.authorities, random),
            3 => reply.authorities = other.authorities.clone(),
            _ => {}
        }
        for _ in 0..random.u8(..3) {
            let other = random.choice(&*seen).unwrap();
            reply.authorities.extend(some_of(&other.authorities, random));
        }
        if random.u8(..5) == 0 {
            let unsigned = |record: &Record| record.record_type() != RecordType::RRSIG;
            reply.answers.retain(unsigned);
            if random.bool() {
                reply.authorities.retain(unsigned);
            }
        }
        reply.additionals.clear();
        reply
    }
}

/// Some record sets of a section, each with its signatures.
fn some_of(records: &[Record], random: &mut Rng) -> Vec<Record> {
    let mut sets: HashMap<(Name, RecordType), Signed> = HashMap::new();
    let mut keys = Vec::new();
    for record in records {
        let rtype = match &record.data {
            RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => rrsig.input().type_covered,
            data => data.record_type(),
        };
        let key = (record.name.clone(), rtype);
        if !keys.contains(&key) {
            keys.push(key.clone());
        }
        sets.entry(key).or_default().push(record.clone());
    }
    keys.retain(|_| random.bool());
    keys.iter().flat_map(|key| sets[key].clone()).collect()
}

async fn look(stub: &Stub, (name, rtype): (&str, &str)) -> Option<Lookup<String>> {
    stub.lookup(&name.parse().unwrap(), rtype.parse::<Rtype>().unwrap()).await.ok()
}

/// The links and the end that are proven to be secure, up to the first that are not.
fn secure(lookup: &Lookup<String>) -> (Vec<&Alias>, Option<&Answer<String>>) {
    let aliases: Vec<&Alias> = lookup.aliases.iter().take_while(|alias| alias.security == Security::Secure).collect();
    let is_secure = aliases.len() == lookup.aliases.len() && lookup.end == Security::Secure;
    (aliases, is_secure.then_some(&lookup.answer))
}

/// Whether a lookup under attack proves nothing but the truth, and leaves no signed name insecure.
fn upholds(found: &Lookup<String>, truth: &Lookup<String>) -> bool {
    match (secure(found), secure(truth)) {
        // A name that does not exist has no records either.
        ((links, Some(Answer::NoData)), (genuine, Some(Answer::NxDomain))) => links == genuine,
        (found, truth) => found == truth,
    }
}

/// The number of rounds: some hundred with `LONG_TESTS`, or a few.
fn rounds() -> u64 {
    if crate::lab::long() { 500 } else { 10 }
}

#[tokio::test]
async fn a57_recombined_records_prove_nothing_that_is_not_true() {
    //
    let lab: DnsLab = tree().start().await;
    let (attacker, address, serving) = Attacker::start(lab.addr).await;
    let settings = ResolverSettings {
        servers: vec![address.into()],
        timeout: Duration::from_secs(2),
        deadline: Duration::from_secs(5),
        ..lab.settings()
    };
    let stub = Stub::new(&settings).unwrap();
    let mut truths = Vec::new();
    for question in QUESTIONS {
        truths.push(look(&stub, question).await.unwrap_or_else(|| panic!("{question:?}")));
    }
    let base = fastrand::u64(..);
    let mut answered = 0;
    for round in 0..rounds() {
        let seed = base.wrapping_add(round);
        *attacker.attack.lock().unwrap() = Some(Attack::new(seed));
        for (question, truth) in QUESTIONS.into_iter().zip(&truths) {
            // Without a memory of zones.
            let stub = Stub::new(&settings).unwrap();
            let Some(found) = look(&stub, question).await else { continue };
            assert!(upholds(&found, truth), "seed {seed}: {question:?}: {found:?} for {truth:?}");
            answered += 1;
        }
    }
    assert!(answered > 0);
    serving.abort();
}
