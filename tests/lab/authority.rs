//! The same tree, served by authoritative servers: each zone by a server of its own, at an address of its own.
//!
//! A server answers for its zone with AA, refers to the zones below with NS, DS and glue, and refuses the rest (RFC 1034
//! §4.3.2). A [`Fault`] that is set for a zone spoils the reply of that zone's server alone.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use danelaw::dns::server::NameServer;
use danelaw::dns::setup::ResolverSettings;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::AbortHandle;

use super::port::free_port;
use super::{DnsLab, Fault, Replies, Server, TTL, Tree, child, name, question, serve, strip};

/// Authoritative servers for every zone of a tree.
pub(crate) struct Authorities {
    zones: Vec<Arc<Authority>>,
    /// Further servers of some of the zones.
    secondaries: Vec<Arc<Authority>>,
    port: u16,
    anchor: tempfile::NamedTempFile,
    hints: tempfile::NamedTempFile,
    tasks: Vec<AbortHandle>,
}

struct Authority {
    server: Arc<Server>,
    apex: Name,
    address: Ipv4Addr,
    /// The addresses of all zones' servers.
    all: Arc<Mutex<BTreeMap<Name, Vec<Ipv4Addr>>>>,
    faults: Mutex<HashMap<(Name, RecordType), Fault>>,
    manner: Mutex<Manner>,
    /// Every question, as it was written, with the flags and the transport.
    asked: Mutex<Vec<String>>,
    careless: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// How a server answers every question.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    Ordinary,
    /// It does not know EDNS, and answers FORMERR to it.
    WithoutEdns,
    /// It does not answer to EDNS, and knows none.
    DropsEdns,
    /// It does not answer.
    Silent,
}

impl Tree {
    /// Makes keys and serves each zone by a server of its own.
    pub(crate) async fn delegate(self) -> Authorities {
        self.delegate_from(SocketAddrV4::new(Ipv4Addr::new(127, 53, 0, 1), free_port())).await
    }

    /// The same, with the servers at this address and those after it, at one port.
    pub(crate) async fn delegate_from(self, first: SocketAddrV4) -> Authorities {
        let server = Arc::new(Server::new(self));
        let address = |i: usize| Ipv4Addr::from_bits(first.ip().to_bits() + u32::try_from(i).unwrap());
        let all: BTreeMap<Name, Ipv4Addr> =
            server.zones.keys().enumerate().map(|(i, apex)| (apex.clone(), address(i))).collect();
        let sockets = bind_all(&all.values().copied().collect::<Vec<_>>(), first.port()).await;
        let (mut zones, mut tasks) = (Vec::new(), Vec::new());
        let addresses = all.iter().map(|(apex, address)| (apex.clone(), vec![*address])).collect();
        let addresses = Arc::new(Mutex::new(addresses));
        for ((apex, address), (udp, tcp)) in all.iter().zip(sockets) {
            let zone = Arc::new(Authority::new(&server, apex, *address, &addresses));
            tasks.extend(serve(&zone, (udp, tcp)));
            zones.push(zone);
        }
        let anchor = server.anchor();
        let mut hints = tempfile::NamedTempFile::new().unwrap();
        writeln!(hints, ". 3600 IN NS ns.\nns. 3600 IN A {}", all[&Name::root()]).unwrap();
        Authorities { zones, secondaries: Vec::new(), port: first.port(), anchor, hints, tasks }
    }
}

impl Authorities {
    /// A resolver without resolvers.
    pub(crate) fn settings(&self) -> ResolverSettings {
        ResolverSettings {
            servers: vec![NameServer::RECURSION],
            trust_anchor: Some(self.anchor.path().to_owned()),
            root_hints: Some(self.hints.path().to_owned()),
            recursion_port: self.port,
            timeout: Duration::from_millis(250),
            attempts: 1,
            deadline: Duration::from_secs(10),
            ..ResolverSettings::default()
        }
    }

    /// A resolver of the same zones at this address, at any port of loopback where it is 0.
    pub(crate) async fn resolver(&self, address: SocketAddr) -> DnsLab {
        DnsLab::serve(self.zones[0].server.clone(), address).await
    }

    /// Adds a second server of a zone, at an address of its own, to all referrals to the zone.
    pub(crate) async fn add_secondary(&mut self, zone: &str) {
        let first = self.zones.iter().find(|first| first.apex == name(zone)).unwrap();
        let address = Ipv4Addr::new(127, 53, 1, u8::try_from(self.secondaries.len() + 1).unwrap());
        let udp = UdpSocket::bind((address, self.port)).await.unwrap();
        let tcp = TcpListener::bind((address, self.port)).await.unwrap();
        let secondary = Arc::new(Authority::new(&first.server, &first.apex, address, &first.all));
        self.tasks.extend(serve(&secondary, (udp, tcp)));
        first.all.lock().unwrap().get_mut(&first.apex).unwrap().push(address);
        self.secondaries.push(secondary);
    }

    /// Spoils the reply of the second server of a zone to one question.
    pub(crate) fn spoil_secondary(&self, zone: &str, asked: (&str, &str), fault: Fault) {
        self.secondary(zone).faults.lock().unwrap().insert(question(asked.0, asked.1), fault);
    }

    /// Every question that came to the second server of a zone, as [`asked`](Self::asked).
    pub(crate) fn asked_secondary(&self, zone: &str) -> Vec<String> {
        self.secondary(zone).asked.lock().unwrap().iter().map(|asked| asked.to_lowercase()).collect()
    }

    fn secondary(&self, apex: &str) -> &Authority {
        let apex = name(apex);
        self.secondaries.iter().find(|zone| zone.apex == apex).unwrap()
    }

    /// Changes how one zone's server answers every question.
    pub(crate) fn behave(&self, zone: &str, manner: Manner) {
        *self.zone(zone).manner.lock().unwrap() = manner;
    }

    /// The same for its further servers.
    pub(crate) fn behave_secondaries(&self, zone: &str, manner: Manner) {
        let apex = name(zone);
        self.secondaries
            .iter()
            .filter(|server| server.apex == apex)
            .for_each(|server| *server.manner.lock().unwrap() = manner);
    }

    /// Spoils the reply of one zone's server to one question.
    pub(crate) fn spoil(&self, zone: &str, asked: (&str, &str), fault: Fault) {
        self.zone(zone).faults.lock().unwrap().insert(question(asked.0, asked.1), fault);
    }

    /// Spoils the reply to a question of the server that answers it: for DS records that of the parent.
    pub(crate) fn spoil_answer(&self, asked: (&str, &str), fault: Fault) {
        self.answering(asked).faults.lock().unwrap().insert(question(asked.0, asked.1), fault);
    }

    /// Whether this question came to the server that answers it.
    pub(crate) fn was_asked(&self, asked: (&str, &str)) -> bool {
        let question = format!("{} {}", asked.0, asked.1).to_lowercase();
        self.answering(asked).asked.lock().unwrap().iter().any(|asked| asked.to_lowercase().starts_with(&question))
    }

    fn answering(&self, asked: (&str, &str)) -> &Authority {
        let (owner, rtype) = question(asked.0, asked.1);
        let above = self.zones.iter().filter(|zone| zone.apex.zone_of(&owner));
        let answering = above.filter(|zone| rtype != RecordType::DS || zone.apex != owner);
        answering.max_by_key(|zone| zone.apex.num_labels()).unwrap()
    }

    /// Every question that came to a zone's server, in lower case as `name TYPE`.
    pub(crate) fn asked(&self, zone: &str) -> Vec<String> {
        self.zone(zone).asked.lock().unwrap().iter().map(|asked| asked.to_lowercase()).collect()
    }

    /// As they were written.
    pub(crate) fn written(&self, zone: &str) -> Vec<String> {
        self.zone(zone).asked.lock().unwrap().clone()
    }

    /// How many TCP connections came to a zone's server.
    pub(crate) fn connections(&self, zone: &str) -> usize {
        self.zone(zone).connections.load(Ordering::Relaxed)
    }

    /// How many questions came to all servers.
    pub(crate) fn count(&self) -> usize {
        self.zones.iter().map(|zone| zone.asked.lock().unwrap().len()).sum()
    }

    /// Every question that came with RD or without DO.
    pub(crate) fn careless(&self) -> Vec<String> {
        self.zones.iter().flat_map(|zone| zone.careless.lock().unwrap().clone()).collect()
    }

    /// The port of all servers.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address of a zone's server.
    pub(crate) fn address(&self, zone: &str) -> Ipv4Addr {
        self.zone(zone).address
    }

    fn zone(&self, apex: &str) -> &Authority {
        let apex = name(apex);
        self.zones.iter().find(|zone| zone.apex == apex).unwrap()
    }
}

impl Drop for Authorities {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Replies for Authority {
    fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn reply(&self, request: &Message, over_tcp: bool) -> Option<Message> {
        let query = request.queries.first()?.clone();
        let owner = query.name().to_lowercase();
        let transport = if over_tcp { " over TCP" } else { "" };
        let asked = format!("{} {}{transport}", query.name().to_string().trim_end_matches('.'), query.query_type());
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        if !dnssec_ok || request.metadata.recursion_desired || request.metadata.checking_disabled {
            self.careless.lock().unwrap().push(asked.clone());
        }
        self.asked.lock().unwrap().push(asked);
        let manner = *self.manner.lock().unwrap();
        let mut reply = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
        reply.add_query(query.clone());
        match (manner, request.edns.is_some()) {
            (Manner::Silent, _) | (Manner::DropsEdns, true) => return None,
            (Manner::WithoutEdns, true) => {
                reply.metadata.response_code = ResponseCode::FormErr;
                return Some(reply);
            }
            (Manner::Ordinary | Manner::WithoutEdns, _) | (Manner::DropsEdns, false) => {}
        }
        self.fill(&mut reply, &owner, query.query_type());
        if [Manner::WithoutEdns, Manner::DropsEdns].contains(&manner) {
            strip(&mut reply);
            return Some(reply);
        }
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(1232);
        reply.set_edns(edns);
        let fault = self.faults.lock().unwrap().get(&(owner, query.query_type())).cloned();
        match fault {
            Some(fault) => self.server.spoil(reply, &fault, over_tcp),
            None => Some(reply),
        }
    }
}

impl Authority {
    fn new(
        server: &Arc<Server>,
        apex: &Name,
        address: Ipv4Addr,
        all: &Arc<Mutex<BTreeMap<Name, Vec<Ipv4Addr>>>>,
    ) -> Self {
        Self {
            server: server.clone(),
            apex: apex.clone(),
            address,
            all: all.clone(),
            faults: Mutex::default(),
            manner: Mutex::new(Manner::Ordinary),
            asked: Mutex::default(),
            careless: Mutex::default(),
            connections: AtomicUsize::new(0),
        }
    }

    fn fill(&self, reply: &mut Message, owner: &Name, rtype: RecordType) {
        if !self.apex.zone_of(owner) {
            reply.metadata.response_code = ResponseCode::Refused;
            return;
        }
        let below = self.server.zones.keys().filter(|apex| self.apex.zone_of(apex) && **apex != self.apex);
        let cut = below
            .filter(|apex| apex.zone_of(owner) && (rtype != RecordType::DS || *apex != owner))
            .min_by_key(|apex| apex.num_labels());
        let Some(cut) = cut else {
            reply.metadata.authoritative = true;
            self.server.step(owner, rtype, reply);
            if self.apex == *owner && rtype == RecordType::NS {
                self.glue(reply, owner);
            }
            return;
        };
        let zone = &self.server.zones[&self.apex];
        zone.put_authority(reply, cut, RecordType::NS);
        zone.put_authority(reply, cut, RecordType::DS);
        if !zone.sets.contains_key(&(cut.clone(), RecordType::DS)) {
            zone.deny(&self.apex, reply, cut);
        }
        self.glue(reply, cut);
    }

    fn glue(&self, reply: &mut Message, cut: &Name) {
        for address in &self.all.lock().unwrap()[cut] {
            reply.additionals.push(Record::from_rdata(child(cut, "ns"), TTL, RData::A((*address).into())));
        }
    }
}

/// Binds all addresses at one port.
async fn bind_all(addresses: &[Ipv4Addr], port: u16) -> Vec<(UdpSocket, TcpListener)> {
    let mut bound = Vec::new();
    for address in addresses {
        let at = (*address, port);
        bound.push((UdpSocket::bind(at).await.unwrap(), TcpListener::bind(at).await.unwrap()));
    }
    bound
}
