//! A DNS for one test: a tree of signed and unsigned zones, served on a loopback port of the test process.
//!
//! [`Tree`] describes the zones; [`Tree::start`] makes fresh keys, signs, and serves the tree over UDP and TCP the way a
//! resolver does that passes DNSSEC records on without validating: it answers for every zone of the tree, follows
//! aliases within one reply, adds DS, DNSKEY, RRSIG, NSEC or NSEC3 and SOA as RFC 4035 §3 asks. The root and `test.`
//! are there from the start, both signed. A [`Fault`] spoils the reply to one question; [`DnsLab::asked`] tells which
//! questions came.
//!
//! ```ignore
//! let lab = Tree::new()
//!     .secure("example.test")
//!     .mx("example.test", 10, "mx.example.test")
//!     .a("mx.example.test", "192.0.2.1")
//!     .tlsa("mx.example.test", 25, "3 1 1 0123...")
//!     .fault("_25._tcp.mx.example.test", "TLSA", Fault::Drop)
//!     .start()
//!     .await;
//! ```

// Each test binary uses its own part of the lab. A lab that cannot be built panics.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "authority.rs"]
pub(crate) mod authority;
#[path = "port.rs"]
pub(crate) mod port;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use danelaw::dns::setup::ResolverSettings;
use hickory_resolver::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_resolver::proto::dnssec::{Algorithm, DigestType, DnssecSigner, Nsec3HashAlgorithm, SigningKey};
use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, MX, NS, NULL, SOA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};
use hickory_resolver::proto::serialize::binary::BinEncodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::AbortHandle;

/// The TTL in the zones. The server may send a lower one, as any resolver does.
const TTL: u32 = 300;
const SALT: &[u8] = &[0xab, 0xcd];

/// The fault of the reply to one question.
#[derive(Clone)]
pub(crate) enum Fault {
    /// An error such as SERVFAIL instead of an answer.
    Rcode(ResponseCode),
    /// No reply at all.
    Drop,
    /// Every signature has a bit flipped.
    BogusSignature,
    /// The reply without RRSIG, NSEC and NSEC3 records.
    Stripped,
    /// NOERROR and not a single record.
    Empty,
    /// An unsigned denial with the SOA of the zone that is named here.
    Denial(ResponseCode, &'static str),
    /// The denial, signed and all, that the zone named here would give for this name.
    DeniedBy(&'static str),
    /// The reply to another question.
    ReplyTo(&'static str, &'static str),
    /// The reply to another question, question section included.
    WrongQuestion(&'static str),
    /// These unsigned records, as owner, type and data, are the whole answer section.
    Answer(Vec<(&'static str, &'static str, &'static str)>),
    /// These unsigned records are added to the answer section.
    Inject(Vec<(&'static str, &'static str, &'static str)>),
    /// The genuine answer cut down to the records of its first name, and these unsigned records as additional ones.
    FirstLinkPlus(Vec<(&'static str, &'static str, &'static str)>),
    /// The response code alone is changed; it is not signed.
    Relabelled(ResponseCode),
    /// Unsigned SOA of this zone added to the authority section, and all other records there removed.
    AuthorityOnly(&'static str),
    /// Without the SOA in the authority section.
    WithoutSoa,
    /// Truncated over UDP; whole over TCP.
    TruncatedUdp,
    /// Truncated over UDP, within a record, as systemd-resolved 252 does; whole over TCP.
    CutUdp,
    /// SERVFAIL to a question with CD.
    RefusesCd,
    /// Truncated and empty over UDP; no answer over TCP.
    Truncated,
    /// No reply over TCP.
    DropTcp,
    /// Any change to the reply.
    Tamper(fn(&mut Message)),
    /// Several faults, one after the other.
    All(Vec<Fault>),
}

#[derive(Clone, Copy, PartialEq)]
enum Denial {
    Nsec,
    Nsec3 { iterations: u16, opt_out: bool },
}

#[derive(Clone, Copy, PartialEq)]
enum Signing {
    /// Signed, and the parent has a DS record.
    Secure(Denial),
    /// Signed, but the parent has no DS record.
    Island,
    /// Not signed.
    Insecure,
    /// Signed, and the parent's DS record has an unknown algorithm.
    UnknownAlgorithm,
}

/// How long signatures are valid, from an hour ago.
#[derive(Clone, Copy)]
struct ZoneTerms {
    records: Duration,
    /// Those of the DNSKEY records.
    keys: Duration,
}

/// A tree of zones that is being described.
#[derive(Clone)]
pub(crate) struct Tree {
    zones: BTreeMap<Name, Signing>,
    records: Vec<(Name, RData)>,
    faults: HashMap<(Name, RecordType), Fault>,
    every: HashMap<RecordType, Fault>,
    ttl: u32,
    lasting: ZoneTerms,
    vouches: bool,
    address: SocketAddr,
}

impl Tree {
    /// The root and `test.`, both signed, with NSEC.
    pub(crate) fn new() -> Self {
        let tree = Self {
            zones: BTreeMap::new(),
            records: Vec::new(),
            faults: HashMap::new(),
            every: HashMap::new(),
            ttl: TTL,
            lasting: ZoneTerms { records: Duration::from_secs(24 * 3600), keys: Duration::from_secs(24 * 3600) },
            vouches: false,
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        tree.secure(".").secure("test")
    }

    fn zone(mut self, apex: &str, signing: Signing) -> Self {
        self.zones.insert(name(apex), signing);
        self
    }

    /// A zone that is signed, with NSEC, and has a DS record.
    pub(crate) fn secure(self, apex: &str) -> Self {
        self.zone(apex, Signing::Secure(Denial::Nsec))
    }

    /// As [`Tree::secure`], with NSEC3.
    pub(crate) fn nsec3(self, apex: &str, iterations: u16) -> Self {
        self.zone(apex, Signing::Secure(Denial::Nsec3 { iterations, opt_out: false }))
    }

    /// As [`Tree::nsec3`], with every record opting unsigned delegations out, as big top-level domains do.
    pub(crate) fn opt_out(self, apex: &str) -> Self {
        self.zone(apex, Signing::Secure(Denial::Nsec3 { iterations: 0, opt_out: true }))
    }

    /// A zone that is not signed.
    pub(crate) fn insecure(self, apex: &str) -> Self {
        self.zone(apex, Signing::Insecure)
    }

    /// A zone that is signed, but has no DS record.
    pub(crate) fn island(self, apex: &str) -> Self {
        self.zone(apex, Signing::Island)
    }

    /// A zone whose DS record is of an unknown algorithm.
    pub(crate) fn unknown_algorithm(self, apex: &str) -> Self {
        self.zone(apex, Signing::UnknownAlgorithm)
    }

    /// Signatures are valid for this long, and were made an hour ago.
    pub(crate) fn lasting(self, lasting: Duration) -> Self {
        Self { lasting: ZoneTerms { records: lasting, keys: lasting }, ..self }
    }

    /// Those of DNSKEY records are.
    pub(crate) fn keys_lasting(self, keys: Duration) -> Self {
        Self { lasting: ZoneTerms { keys, ..self.lasting }, ..self }
    }

    /// The TTL of every record that is sent; 300 unless this is called, and never more.
    pub(crate) fn ttl(self, seconds: u32) -> Self {
        Self { ttl: seconds, ..self }
    }

    /// The server is a resolver that validates: it sets AD where every zone that the reply comes from is secure.
    pub(crate) fn vouches(self) -> Self {
        Self { vouches: true, ..self }
    }

    /// The server's address, if it is not to be any port of loopback.
    pub(crate) fn at(self, address: impl Into<SocketAddr>) -> Self {
        Self { address: address.into(), ..self }
    }

    /// Any record.
    pub(crate) fn rdata(mut self, owner: &str, rdata: RData) -> Self {
        self.records.push((name(owner), rdata));
        self
    }

    /// A record whose data is written as in a master file.
    pub(crate) fn record(self, owner: &str, rtype: &str, data: &str) -> Self {
        self.rdata(owner, rdata(rtype, data))
    }

    /// An MX record.
    pub(crate) fn mx(self, owner: &str, preference: u16, exchange: &str) -> Self {
        self.rdata(owner, RData::MX(MX::new(preference, name(exchange))))
    }

    /// An A record.
    pub(crate) fn a(self, owner: &str, address: &str) -> Self {
        self.record(owner, "A", address)
    }

    /// An AAAA record.
    pub(crate) fn aaaa(self, owner: &str, address: &str) -> Self {
        self.record(owner, "AAAA", address)
    }

    /// A TLSA record of a host, `data` as in `3 1 1 0123abcd`.
    pub(crate) fn tlsa(self, host: &str, port: u16, data: &str) -> Self {
        self.record(&format!("_{port}._tcp.{host}"), "TLSA", data)
    }

    /// A CNAME record.
    pub(crate) fn cname(self, owner: &str, target: &str) -> Self {
        self.rdata(owner, RData::CNAME(CNAME(name(target))))
    }

    /// A DNAME record.
    pub(crate) fn dname(self, owner: &str, target: &str) -> Self {
        let rdata = NULL::with(name(target).to_bytes().unwrap());
        self.rdata(owner, RData::Unknown { code: RecordType::DNAME, rdata })
    }

    /// Spoils the reply to one question.
    pub(crate) fn fault(mut self, owner: &str, rtype: &str, fault: Fault) -> Self {
        self.faults.insert(question(owner, rtype), fault);
        self
    }

    /// Spoils the reply to every question of a type that has no fault of its own.
    pub(crate) fn every(mut self, rtype: &str, fault: Fault) -> Self {
        self.every.insert(rtype.parse().unwrap(), fault);
        self
    }

    /// Makes keys and serves the tree.
    pub(crate) async fn start(self) -> DnsLab {
        let address = self.address;
        DnsLab::serve(Arc::new(Server::new(self)), address).await
    }
}

/// A tree that is being served; it stops when this value is dropped.
pub(crate) struct DnsLab {
    /// The server's address, UDP and TCP.
    pub(crate) addr: SocketAddr,
    /// The DNSKEY of the tree's root, as a trust anchor file.
    pub(crate) anchor_file: PathBuf,
    server: Arc<Server>,
    tasks: Vec<AbortHandle>,
    _file: tempfile::NamedTempFile,
}

impl Server {
    /// A file with the DNSKEY of the root, the trust anchor.
    fn anchor(&self) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let root = self.zones[&Name::root()].signer.as_ref().unwrap();
        writeln!(file, ". 3600 IN DNSKEY {}", root.dnskey()).unwrap();
        file
    }
}

impl DnsLab {
    /// A resolver at this address that answers from these zones.
    async fn serve(server: Arc<Server>, address: SocketAddr) -> Self {
        let (udp, tcp) = bind(address).await;
        let addr = udp.local_addr().unwrap();
        let (file, tasks) = (server.anchor(), serve(&server, (udp, tcp)).into());
        Self { addr, anchor_file: file.path().to_owned(), server, tasks, _file: file }
    }

    /// Another resolver of the same zones, without this one's faults.
    pub(crate) async fn twin(&self) -> Self {
        let (every, ttl, vouched) = (self.server.every.clone(), self.server.ttl, self.server.vouched.clone());
        let (zones, (faults, asked, careless)) = (Arc::clone(&self.server.zones), Default::default());
        let twin = Server { zones, faults, every, ttl, vouched, asked, careless };
        Self::serve(Arc::new(twin), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// A resolver that validates by the tree's own root, asks once, and soon gives up.
    pub(crate) fn settings(&self) -> ResolverSettings {
        ResolverSettings {
            servers: vec![self.addr.into()],
            trust_anchor: Some(self.anchor_file.clone()),
            timeout: Duration::from_millis(250),
            attempts: 1,
            deadline: Duration::from_secs(5),
            ..ResolverSettings::default()
        }
    }

    /// The `--set` values by which the program asks this lab and delivers to its remotes on a port of loopback.
    pub(crate) fn program_settings(&self, port: u16) -> [String; 5] {
        [
            format!("dns.servers=[\"{}\"]", self.addr),
            format!("dns.trust_anchor=\"{}\"", self.anchor_file.display()),
            format!("remote.port={port}"),
            "remote.allow_reserved=[\"127.0.0.0/8\"]".to_owned(),
            "log.filter=\"error\"".to_owned(),
        ]
    }

    /// Every question so far, as `name TYPE`, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.server.asked.lock().unwrap().clone()
    }

    /// Every question that came without DO; or with CD, if the server is to vouch; or without CD, if it is not.
    pub(crate) fn careless(&self) -> Vec<String> {
        self.server.careless.lock().unwrap().clone()
    }

    /// Whether a question came.
    pub(crate) fn was_asked(&self, owner: &str, rtype: &str) -> bool {
        let (owner, rtype) = question(owner, rtype);
        self.asked().contains(&format!("{} {rtype}", owner.to_string().trim_end_matches('.')))
    }

    /// Spoils the reply to one question from now on.
    pub(crate) fn set_fault(&self, owner: &str, rtype: &str, fault: Fault) {
        self.server.faults.lock().unwrap().insert(question(owner, rtype), fault);
    }

    /// Heals the reply to one question.
    pub(crate) fn clear_fault(&self, owner: &str, rtype: &str) {
        self.server.faults.lock().unwrap().remove(&question(owner, rtype));
    }
}

impl Drop for DnsLab {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The hashed names of a zone in order, with their types (RFC 5155 §7.1).
type Chain = BTreeMap<Vec<u8>, BTreeSet<RecordType>>;

struct Zone {
    signer: Option<DnssecSigner>,
    /// With the same key.
    key_signer: Option<DnssecSigner>,
    denial: Option<Denial>,
    sets: BTreeMap<(Name, RecordType), Vec<RData>>,
    /// The names of the zone with their types, as its denial records list them: made once, when the zone is whole.
    listed: OnceLock<BTreeMap<Name, BTreeSet<RecordType>>>,
    /// Made once, with the first denial.
    chain: OnceLock<Chain>,
}

struct Server {
    zones: Arc<BTreeMap<Name, Zone>>,
    faults: Mutex<HashMap<(Name, RecordType), Fault>>,
    every: HashMap<RecordType, Fault>,
    ttl: u32,
    /// The zones that are signed and delegated as such from the root down, if the server vouches for them.
    vouched: BTreeSet<Name>,
    asked: Mutex<Vec<String>>,
    /// Questions without DO, or with a CD bit of the other mode.
    careless: Mutex<Vec<String>>,
}

impl Server {
    fn new(tree: Tree) -> Self {
        let mut zones: BTreeMap<Name, Zone> =
            tree.zones.iter().map(|(apex, signing)| (apex.clone(), Zone::new(apex, *signing, tree.lasting))).collect();
        for (apex, signing) in &tree.zones {
            if !apex.is_root() {
                let delegation = delegation(apex, *signing, &zones[apex]);
                let parent = zone_of(&tree.zones, &apex.base_name());
                let parent = zones.get_mut(&parent).unwrap();
                delegation.into_iter().for_each(|rdata| parent.add(apex, rdata));
            }
        }
        for (owner, rdata) in tree.records {
            let apex = zone_of(&tree.zones, &owner);
            zones.get_mut(&apex).unwrap().add(&owner, rdata);
        }
        // Now, since the first question must not wait for it.
        for zone in zones.values() {
            zone.listed();
        }
        let secure = |apex: &Name| matches!(tree.zones[apex], Signing::Secure(_));
        let vouched = zones
            .keys()
            .filter(|apex| tree.vouches && tree.zones.keys().filter(|above| above.zone_of(apex)).all(secure));
        let vouched = vouched.cloned().collect();
        Self {
            zones: Arc::new(zones),
            faults: Mutex::new(tree.faults),
            every: tree.every,
            ttl: tree.ttl,
            vouched,
            asked: Mutex::default(),
            careless: Mutex::default(),
        }
    }

    fn genuine(&self, owner: &Name, rtype: RecordType) -> Message {
        let mut reply = Message::new(0, MessageType::Response, hickory_resolver::proto::op::OpCode::Query);
        reply.metadata.authentic_data = true;
        let mut names = vec![owner.clone()];
        while let Some(target) = self.step(&names[names.len() - 1], rtype, &mut reply) {
            if names.len() > 20 || names.contains(&target) {
                break;
            }
            names.push(target);
        }
        reply
    }

    /// Answers for one name; the target where it is an alias.
    fn step(&self, at: &Name, rtype: RecordType, reply: &mut Message) -> Option<Name> {
        let apexes =
            |name: &Name| self.zones.keys().filter(|apex| apex.zone_of(name)).max_by_key(|apex| apex.num_labels());
        // RFC 4035 §3.1.4.1: the DS record of a zone is in its parent.
        let apex = if rtype == RecordType::DS && !at.is_root() { apexes(&at.base_name()) } else { apexes(at) }?;
        let zone = &self.zones[apex];
        reply.metadata.authentic_data &= self.vouched.contains(apex);
        if zone.put(reply, at, at, rtype) {
            return None;
        }
        if zone.put(reply, at, at, RecordType::CNAME) {
            return zone.alias(at);
        }
        if let Some(owner) =
            zone.ancestors(apex, at).find(|owner| zone.sets.contains_key(&(owner.clone(), RecordType::DNAME)))
        {
            zone.put(reply, &owner, &owner, RecordType::DNAME);
            let below: Vec<&[u8]> = at.iter().take(usize::from(at.num_labels() - owner.num_labels())).collect();
            let target = Name::from_labels(below).unwrap().append_name(&zone.dname(&owner)).unwrap();
            reply.add_answer(Record::from_rdata(at.clone(), TTL, RData::CNAME(CNAME(target.clone()))));
            return (rtype != RecordType::CNAME).then_some(target);
        }
        let encloser = zone.ancestors(apex, at).find(|name| zone.exists(name)).unwrap_or(apex.clone());
        let wildcard = encloser.prepend_label("*").unwrap();
        if !zone.exists(at) {
            for found in [rtype, RecordType::CNAME] {
                if zone.put(reply, &wildcard, at, found) {
                    zone.deny(apex, reply, at);
                    return if found == rtype { None } else { zone.alias(&wildcard) };
                }
            }
        }
        if !zone.exists(at) && !zone.exists(&wildcard) {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        zone.put_authority(reply, apex, RecordType::SOA);
        zone.deny(apex, reply, at);
        None
    }

    fn spoil(&self, mut reply: Message, fault: &Fault, over_tcp: bool) -> Option<Message> {
        match fault {
            Fault::Rcode(code) => {
                clear(&mut reply);
                reply.metadata.response_code = *code;
            }
            Fault::Drop => return None,
            Fault::BogusSignature => flip_signatures(&mut reply),
            Fault::Stripped => strip(&mut reply),
            Fault::Empty => clear(&mut reply),
            Fault::Denial(code, zone) => {
                clear(&mut reply);
                reply.metadata.response_code = *code;
                reply.add_authority(soa(&name(zone)));
            }
            Fault::DeniedBy(apex) => {
                let owner = reply.queries[0].name().to_lowercase();
                clear(&mut reply);
                let zone = &self.zones[&name(apex)];
                zone.put_authority(&mut reply, &name(apex), RecordType::SOA);
                zone.deny(&name(apex), &mut reply, &owner);
            }
            Fault::ReplyTo(owner, rtype) => {
                let (owner, rtype) = question(owner, rtype);
                let other = self.genuine(&owner, rtype);
                reply.metadata.response_code = other.metadata.response_code;
                (reply.answers, reply.authorities) = (other.answers, other.authorities);
            }
            Fault::WrongQuestion(owner) => {
                let rtype = reply.queries[0].query_type();
                let other = self.genuine(&name(owner), rtype);
                reply.queries = vec![Query::query(name(owner), rtype)];
                (reply.answers, reply.authorities) = (other.answers, other.authorities);
            }
            Fault::Answer(added) => {
                clear(&mut reply);
                reply.answers = records(added);
            }
            Fault::Inject(added) => reply.answers.extend(records(added)),
            Fault::FirstLinkPlus(added) => {
                let first = reply.queries[0].name().clone();
                reply.answers.retain(|record| record.name == first);
                reply.authorities.clear();
                reply.additionals = records(added);
            }
            Fault::Relabelled(code) => reply.metadata.response_code = *code,
            Fault::AuthorityOnly(zone) => reply.authorities = vec![soa(&name(zone))],
            Fault::WithoutSoa => reply.authorities.retain(|record| {
                let covered = covered(record).unwrap_or(record.record_type());
                covered != RecordType::SOA
            }),
            Fault::TruncatedUdp => {
                if !over_tcp {
                    clear(&mut reply);
                    reply.metadata.truncation = true;
                }
            }
            Fault::CutUdp => reply.metadata.truncation = !over_tcp,
            Fault::RefusesCd => {
                if reply.metadata.checking_disabled {
                    clear(&mut reply);
                    reply.metadata.response_code = ResponseCode::ServFail;
                }
            }
            Fault::Truncated => {
                if over_tcp {
                    return None;
                }
                clear(&mut reply);
                reply.metadata.truncation = true;
            }
            Fault::DropTcp if over_tcp => return None,
            Fault::DropTcp => {}
            Fault::Tamper(change) => change(&mut reply),
            Fault::All(faults) => {
                return faults.iter().try_fold(reply, |reply, fault| self.spoil(reply, fault, over_tcp));
            }
        }
        Some(reply)
    }
}

impl Zone {
    fn new(apex: &Name, signing: Signing, lasting: ZoneTerms) -> Self {
        let denial = match signing {
            Signing::Secure(denial) => Some(denial),
            Signing::Island | Signing::UnknownAlgorithm => Some(Denial::Nsec),
            Signing::Insecure => None,
        };
        let [signer, key_signer] = match denial {
            Some(_) => signers(apex, lasting).map(Some),
            None => [None, None],
        };
        let mut zone =
            Self { signer, key_signer, denial, sets: BTreeMap::new(), listed: OnceLock::new(), chain: OnceLock::new() };
        zone.add(apex, soa(apex).data);
        zone.add(apex, RData::NS(NS(child(apex, "ns"))));
        if let Some(signer) = &zone.signer {
            let key = signer.to_dnskey();
            zone.add(apex, RData::DNSSEC(DNSSECRData::DNSKEY(key)));
        }
        zone
    }

    fn add(&mut self, owner: &Name, rdata: RData) {
        assert!(self.listed.get().is_none(), "the zone is served already");
        self.sets.entry((owner.clone(), rdata.record_type())).or_default().push(rdata);
    }

    /// A name exists if it, or anything below it, has records (RFC 4592 §2.2.2).
    fn exists(&self, name: &Name) -> bool {
        // In the canonical order, the names below a name come right after it.
        self.listed().range(name..).next().is_some_and(|(owner, _)| name.zone_of(owner))
    }

    /// The proper ancestors of a name up to the apex, the closest first.
    fn ancestors(&self, apex: &Name, name: &Name) -> impl Iterator<Item = Name> + use<> {
        let (apex, mut at) = (apex.clone(), name.clone());
        std::iter::from_fn(move || {
            (at != apex).then(|| {
                at = at.base_name();
                at.clone()
            })
        })
    }

    fn alias(&self, owner: &Name) -> Option<Name> {
        match self.sets.get(&(owner.clone(), RecordType::CNAME))?.first()? {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        }
    }

    fn dname(&self, owner: &Name) -> Name {
        match &self.sets[&(owner.clone(), RecordType::DNAME)][0] {
            RData::Unknown { rdata, .. } => {
                hickory_resolver::proto::serialize::binary::BinDecodable::from_bytes(&rdata.anything).unwrap()
            }
            _ => unreachable!(),
        }
    }

    /// The records at `owner`, shown at `shown`, with their signature; whether there are any.
    fn signed(&self, owner: &Name, shown: &Name, rtype: RecordType) -> Vec<Record> {
        let Some(rdata) = self.sets.get(&(owner.clone(), rtype)) else { return Vec::new() };
        let cut = rtype == RecordType::NS && !self.sets.contains_key(&(owner.clone(), RecordType::SOA));
        let signer = if rtype == RecordType::DNSKEY { &self.key_signer } else { &self.signer };
        let signer = signer.as_ref().filter(|_| !cut);
        sign(owner, rdata.clone(), signer)
            .into_iter()
            .map(|mut record| {
                record.name = shown.clone();
                record
            })
            .collect()
    }

    fn put(&self, reply: &mut Message, owner: &Name, shown: &Name, rtype: RecordType) -> bool {
        let records = self.signed(owner, shown, rtype);
        let found = !records.is_empty();
        reply.answers.extend(records);
        found
    }

    fn put_authority(&self, reply: &mut Message, owner: &Name, rtype: RecordType) {
        reply.authorities.extend(self.signed(owner, owner, rtype));
    }

    /// Every NSEC or NSEC3 record about a name: the records at it, and at or around each of its ancestors and their
    /// wildcards.
    fn deny(&self, apex: &Name, reply: &mut Message, name: &Name) {
        let encloser = self.ancestors(apex, name).find(|name| self.exists(name)).unwrap_or(apex.clone());
        let next_closer =
            if self.exists(name) { name.clone() } else { name.trim_to(usize::from(encloser.num_labels()) + 1) };
        let of_interest = [name.clone(), next_closer, encloser.clone(), encloser.prepend_label("*").unwrap()];
        let (signer, denials) = match (&self.signer, self.denial) {
            (Some(signer), Some(Denial::Nsec)) => {
                let skip = if self.exists(name) { 1..4 } else { 2..3 };
                let wanted = of_interest.iter().enumerate().filter(|(i, _)| !skip.contains(i)).map(|(_, name)| name);
                (signer, self.nsec(apex, wanted.collect()))
            }
            (Some(signer), Some(Denial::Nsec3 { iterations, opt_out })) => {
                (signer, self.nsec3(apex, &of_interest, iterations, opt_out))
            }
            _ => return,
        };
        for (owner, rdata) in denials {
            reply.authorities.extend(sign(&owner, vec![RData::DNSSEC(rdata)], Some(signer)));
        }
    }

    fn listed(&self) -> &BTreeMap<Name, BTreeSet<RecordType>> {
        self.listed.get_or_init(|| {
            let mut listed: BTreeMap<Name, BTreeSet<RecordType>> = BTreeMap::new();
            for (owner, rtype) in self.sets.keys() {
                listed.entry(owner.clone()).or_default().insert(*rtype);
            }
            listed
        })
    }

    fn nsec(&self, apex: &Name, names: Vec<&Name>) -> BTreeMap<Name, DNSSECRData> {
        let listed = self.listed();
        let mut denials = BTreeMap::new();
        for name in names {
            // The last owner at or before the name; the apex is before every other name.
            let Some((owner, types)) = listed.range(..=name.clone()).next_back() else { continue };
            let next = listed.range((std::ops::Bound::Excluded(owner), std::ops::Bound::Unbounded)).next();
            let next = next.map_or(apex, |(next, _)| next);
            let nsec = NSEC::new_cover_self(next.clone(), types.iter().copied());
            denials.insert(owner.clone(), DNSSECRData::NSEC(nsec));
        }
        denials
    }

    fn nsec3(&self, apex: &Name, names: &[Name], iterations: u16, opt_out: bool) -> BTreeMap<Name, DNSSECRData> {
        let hash = |name: &Name| Nsec3HashAlgorithm::SHA1.hash(SALT, name, iterations).unwrap().as_ref().to_vec();
        let chain = self.chain.get_or_init(|| {
            let mut chain = Chain::new();
            for (owner, types) in self.listed() {
                let cut = types.contains(&RecordType::NS) && !types.contains(&RecordType::SOA);
                if opt_out && cut && !types.contains(&RecordType::DS) {
                    continue;
                }
                for ancestor in self.ancestors(apex, owner) {
                    chain.entry(hash(&ancestor)).or_default();
                }
                let signed = (*types != BTreeSet::from([RecordType::NS])).then_some(RecordType::RRSIG);
                chain.entry(hash(owner)).or_default().extend(types.iter().copied().chain(signed));
            }
            chain
        });
        let mut denials = BTreeMap::new();
        for hashed in names.iter().map(hash) {
            let (owner, types) = chain.range(..=hashed).next_back().or(chain.last_key_value()).unwrap();
            let next = chain.range((std::ops::Bound::Excluded(owner.clone()), std::ops::Bound::Unbounded)).next();
            let next = next.or(chain.first_key_value()).unwrap().0.clone();
            let nsec3 =
                NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, SALT.to_vec(), next, types.iter().copied());
            denials.insert(child(apex, &base32hex(owner)), DNSSECRData::NSEC3(nsec3));
        }
        denials
    }
}

fn sign(owner: &Name, rdata: Vec<RData>, signer: Option<&DnssecSigner>) -> Vec<Record> {
    let rtype = rdata[0].record_type();
    let mut set = RecordSet::with_ttl(owner.clone(), rtype, TTL);
    let mut records: Vec<Record> =
        rdata.into_iter().map(|rdata| Record::from_rdata(owner.clone(), TTL, rdata)).collect();
    set.set_records(records.clone());
    if let Some(signer) = signer {
        let since = time::OffsetDateTime::now_utc() - time::Duration::hours(1);
        let rrsig = RRSIG::from_rrset(&set, DNSClass::IN, since, signer).unwrap();
        records.push(Record::from_rdata(owner.clone(), TTL, RData::DNSSEC(DNSSECRData::RRSIG(rrsig))));
    }
    records
}

/// With one key: for the records, and for the DNSKEY record.
fn signers(apex: &Name, lasting: ZoneTerms) -> [DnssecSigner; 2] {
    let algorithm = Algorithm::ECDSAP256SHA256;
    let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
    [lasting.records, lasting.keys].map(|lasting| {
        let key = EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).unwrap();
        let dnskey = DNSKEY::with_flags(257, key.to_public_key().unwrap());
        DnssecSigner::new(dnskey, Box::new(key), apex.clone(), lasting)
    })
}

/// The records that the parent has for a zone.
fn delegation(apex: &Name, signing: Signing, zone: &Zone) -> Vec<RData> {
    let mut delegation = vec![RData::NS(NS(child(apex, "ns")))];
    let ds = |algorithm| {
        let key = zone.signer.as_ref().unwrap().dnskey();
        let digest = key.to_digest(apex, DigestType::SHA256).unwrap().as_ref().to_vec();
        DS::new(key.calculate_key_tag().unwrap(), algorithm, DigestType::SHA256, digest)
    };
    match signing {
        Signing::Secure(_) => delegation.push(RData::DNSSEC(DNSSECRData::DS(ds(Algorithm::ECDSAP256SHA256)))),
        Signing::UnknownAlgorithm => delegation.push(RData::DNSSEC(DNSSECRData::DS(ds(Algorithm::Unknown(200))))),
        Signing::Insecure | Signing::Island => {}
    }
    delegation
}

fn zone_of(zones: &BTreeMap<Name, Signing>, name: &Name) -> Name {
    zones.keys().filter(|apex| apex.zone_of(name)).max_by_key(|apex| apex.num_labels()).unwrap().clone()
}

fn soa(apex: &Name) -> Record {
    let soa = SOA::new(child(apex, "ns"), child(apex, "hostmaster"), 1, 3600, 600, 86400, 60);
    Record::from_rdata(apex.clone(), TTL, RData::SOA(soa))
}

fn child(apex: &Name, label: &str) -> Name {
    apex.prepend_label(label).unwrap()
}

/// A name as in a master file: `\013` is one octet.
fn name(text: &str) -> Name {
    let label = |text: &str| {
        let (mut octets, mut rest) = (Vec::new(), text);
        while let Some((before, escape)) = rest.split_once('\\') {
            octets.extend(before.bytes());
            octets.push(escape[..3].parse::<u8>().unwrap());
            rest = &escape[3..];
        }
        octets.extend(rest.bytes());
        octets
    };
    let labels = text.split('.').filter(|label| !label.is_empty()).map(label);
    let mut name = Name::from_labels(labels).unwrap();
    name.set_fqdn(true);
    name
}

fn question(owner: &str, rtype: &str) -> (Name, RecordType) {
    (name(owner), rtype.parse().unwrap())
}

fn rdata(rtype: &str, data: &str) -> RData {
    match rtype {
        "CNAME" => RData::CNAME(CNAME(name(data))),
        "NS" => RData::NS(NS(name(data))),
        _ => RData::try_from_str(rtype.parse().unwrap(), data).unwrap(),
    }
}

fn records(written: &[(&str, &str, &str)]) -> Vec<Record> {
    written.iter().map(|(owner, rtype, data)| Record::from_rdata(name(owner), TTL, rdata(rtype, data))).collect()
}

fn clear(reply: &mut Message) {
    reply.metadata.response_code = ResponseCode::NoError;
    reply.answers.clear();
    reply.authorities.clear();
}

fn covered(record: &Record) -> Option<RecordType> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig.input().type_covered),
        _ => None,
    }
}

fn strip(reply: &mut Message) {
    let kept =
        |record: &Record| !matches!(record.record_type(), RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3);
    reply.answers.retain(kept);
    reply.authorities.retain(kept);
}

fn flip_signatures(reply: &mut Message) {
    for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
        if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &mut record.data {
            let mut signature = rrsig.sig().to_vec();
            signature[7] ^= 1;
            *rrsig = RRSIG::from_sig(rrsig.input().clone(), signature);
        }
    }
}

fn base32hex(octets: &[u8]) -> String {
    let bits: String = octets.iter().map(|octet| format!("{octet:08b}")).collect();
    let digits = bits.as_bytes().chunks(5).map(|five| {
        let value = usize::from_str_radix(std::str::from_utf8(five).unwrap(), 2).unwrap();
        char::from(b"0123456789abcdefghijklmnopqrstuv"[value])
    });
    digits.collect()
}

async fn bind(address: SocketAddr) -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind(address).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

/// A server of DNS messages.
trait Replies: Send + Sync + 'static {
    /// The reply to a request, unless none is sent.
    fn reply(&self, request: &Message, over_tcp: bool) -> Option<Message>;

    /// A TCP connection is there.
    fn connected(&self) {}
}

impl Replies for Server {
    fn reply(&self, request: &Message, over_tcp: bool) -> Option<Message> {
        let query = request.queries.first()?.clone();
        let owner = query.name().to_lowercase();
        let asked = format!("{} {}", owner.to_string().trim_end_matches('.'), query.query_type());
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let vouches = !self.vouched.is_empty();
        if !dnssec_ok || request.metadata.checking_disabled == vouches {
            self.careless.lock().unwrap().push(asked.clone());
        }
        self.asked.lock().unwrap().push(asked);
        let mut reply = self.genuine(&owner, query.query_type());
        for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
            record.ttl = self.ttl;
        }
        reply.metadata.id = request.metadata.id;
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        // RFC 4035 §3.2.2.
        reply.metadata.checking_disabled = request.metadata.checking_disabled;
        reply.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(1232);
        reply.set_edns(edns);
        let fault = self.faults.lock().unwrap().get(&(owner, query.query_type())).cloned();
        match fault.or_else(|| self.every.get(&query.query_type()).cloned()) {
            Some(fault) => self.spoil(reply, &fault, over_tcp),
            None => Some(reply),
        }
    }
}

/// Serves on both sockets until it is stopped.
fn serve(server: &Arc<impl Replies>, (udp, tcp): (UdpSocket, TcpListener)) -> [AbortHandle; 2] {
    [
        tokio::spawn(serve_udp(Arc::clone(server), udp)).abort_handle(),
        tokio::spawn(serve_tcp(Arc::clone(server), tcp)).abort_handle(),
    ]
}

async fn serve_udp(server: Arc<impl Replies>, socket: UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(request) = Message::from_vec(&buffer[..length]) else { continue };
        let Some(mut reply) = server.reply(&request, false) else { continue };
        let mut octets = reply.to_vec().unwrap();
        if reply.metadata.truncation && !reply.answers.is_empty() {
            octets.truncate(octets.len() / 2);
        }
        if octets.len() > usize::from(request.max_payload()) {
            clear(&mut reply);
            reply.metadata.truncation = true;
            octets = reply.to_vec().unwrap();
        }
        let _ = socket.send_to(&octets, peer).await;
    }
}

async fn serve_tcp(server: Arc<impl Replies>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        server.connected();
        tokio::spawn(serve_connection(server.clone(), stream));
    }
}

async fn serve_connection(server: Arc<impl Replies>, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut request = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut request).await?;
        let Ok(request) = Message::from_vec(&request) else { continue };
        let Some(reply) = server.reply(&request, true) else { continue };
        let reply = reply.to_vec().unwrap();
        stream.write_u16(u16::try_from(reply.len()).unwrap()).await?;
        stream.write_all(&reply).await?;
    }
}
