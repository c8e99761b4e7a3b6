//! Putting one question to the servers of one zone, within the effort that a lookup has left.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::FailureReason;
use super::super::budget::Questions;
use super::super::cache::WithTtl;
use super::super::canonical::CanonicalName;
use super::super::links::Question;
use super::super::pace::Round;
use super::super::query::Purpose;
use super::super::race::race;
use super::super::reply::Rtype;
use super::super::setup::ResolverSettings;
use super::clients::AuthorityClients;
use super::families::{FamilyRoutes, RoutedFamilies};
use super::hints::RootHints;
use super::lanes::{HeldPlace, Lanes};
use super::places::{DelegationMemory, FIRST_WAIT};
use super::referral::{self, Referral, ReplyReading, ServerName, ZoneSigning};
use super::reply::AuthorityReply;
use super::resolve;
use super::root::PrimingFailure;
use super::zone_servers::{ServerPlace, ZoneServers};
use crate::reserved::Dialable;

/// How many names of servers are looked up for one zone. The NXNSAttack needs many of them, an honest zone one.
const MAX_NAMES: usize = 5;
/// How deep look-ups of servers may nest.
const MAX_DEPTH: usize = 4;
/// How many aliases of one server's name are followed. RFC 2181 §10.3 allows none.
const MAX_ALIASES: usize = 8;

/// All servers that can be asked, and the memory of them.
pub(super) struct AuthoritativeServers {
    pub(super) hints: RootHints,
    pub(super) places: DelegationMemory,
    pub(super) deadline: Duration,
    pub(super) priming: Mutex<Option<PrimingFailure>>,
    dialable: Dialable,
    families: RoutedFamilies,
    pub(super) port: u16,
    timeout: Duration,
    clients: AuthorityClients,
    pub(super) lanes: Lanes,
}

/// The effort that the way to one answer may take.
pub(super) struct Effort {
    /// Those that may still be sent.
    pub(super) questions: Questions,
    pub(super) time: Duration,
    /// The zones whose servers are being looked for. A server with a name in one of them cannot be found on the way to
    /// itself.
    pub(super) pending: Vec<CanonicalName>,
    pub(super) doubted: Option<DoubtedReply>,
}

/// A question to which a server has sent an answer that proves nothing. Another server is to answer it.
pub(super) struct DoubtedReply {
    pub(super) question: Question,
    pub(super) server: IpAddr,
}

/// A reply, and its meaning.
pub(super) struct JudgedReply {
    pub(super) reply: ServerReply,
    pub(super) reading: ReplyReading,
}

/// The octets of a reply, and the server that they came from.
pub(in super::super) struct ServerReply {
    pub(in super::super) octets: Vec<u8>,
    pub(in super::super) server: IpAddr,
}

impl Effort {
    /// Whether a question is not to be put to this server.
    fn avoids(&self, server: IpAddr, question: &Question) -> bool {
        self.doubted.as_ref().is_some_and(|doubted| doubted.server == server && doubted.question == *question)
    }
}

/// One question to one server.
pub(super) struct ServerQuestion<'a> {
    /// The zone that it is asked as a server of.
    pub(super) zone: &'a CanonicalName,
    pub(super) question: &'a Question,
    pub(super) purpose: Purpose,
}

/// One question to one zone.
struct ZoneQuestion<'a> {
    cut: &'a Referral,
    question: &'a Question,
    round: ServerAttempt,
    /// The servers from which no reply came.
    silent: Vec<IpAddr>,
    last: FailureReason,
}

/// How often a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerAttempt {
    First,
    /// Once more, as it was silent.
    Again,
}

impl ZoneQuestion<'_> {
    /// How to ask a server. Some drop a question with EDNS without a word. Where the parent has no DS records, a reply without
    /// signatures is as good as one with them, so that the second question to a silent server goes without EDNS: it takes no
    /// more time and no more questions than the same one again, which a tarpit would leave unanswered too.
    fn purpose(&self, drops_edns: impl FnOnce() -> bool) -> Purpose {
        match (self.cut.delegation, self.round) {
            (ZoneSigning::Unsigned, ServerAttempt::Again) => Purpose::IterateBare,
            (ZoneSigning::Unsigned, ServerAttempt::First) if drops_edns() => Purpose::IterateBare,
            (ZoneSigning::Unsigned, ServerAttempt::First) | (ZoneSigning::Signed, _) => Purpose::Iterate,
        }
    }
}

impl AuthoritativeServers {
    pub(super) fn new(hints: RootHints, settings: &ResolverSettings, tls: Arc<ClientConfig>) -> Self {
        Self {
            dialable: hints.dialable(),
            families: RoutedFamilies::new(settings),
            hints,
            places: DelegationMemory::new(),
            deadline: settings.deadline,
            priming: Mutex::default(),
            port: settings.recursion_port,
            timeout: settings.timeout,
            clients: AuthorityClients::new(settings.recursion_port, settings.timeout.min(FIRST_WAIT), tls),
            lanes: Lanes::new(),
        }
    }

    /// Asks the servers of a zone until one has an answer, a denial or a referral: those with addresses in the referral, then
    /// others, and at last those that were silent once more. One that takes long is waited for while the next one is asked.
    ///
    /// # Errors
    /// None has, or the effort is spent.
    pub(super) async fn ask_zone(
        &self,
        cut: &Referral,
        question: &Question,
        effort: &mut Effort,
    ) -> Result<JudgedReply, FailureReason> {
        let why = format!("no name server of zone {} has an address that may be asked", cut.zone);
        let (silent, last) = (Vec::new(), FailureReason::Network(why));
        let mut attempt = ZoneQuestion { cut, question, round: ServerAttempt::First, silent, last };
        let given: Vec<IpAddr> = cut.servers.iter().flat_map(|server| server.addresses.iter().copied()).collect();
        if let Some(judged) = self.ask_each(&mut attempt, &given, effort).await? {
            return Ok(judged);
        }
        for server in cut.servers.iter().filter(|server| server.addresses.is_empty()).take(MAX_NAMES) {
            let found = self.found(cut, server, effort).await?;
            if let Some(judged) = self.ask_each(&mut attempt, &found, effort).await? {
                return Ok(judged);
            }
        }
        let silent = std::mem::take(&mut attempt.silent);
        attempt.round = ServerAttempt::Again;
        let judged = self.ask_each(&mut attempt, &silent, effort).await?;
        judged.ok_or(attempt.last)
    }

    /// Asks the servers at these addresses, the fastest first. None if none of them is of use.
    async fn ask_each(
        &self,
        attempt: &mut ZoneQuestion<'_>,
        addresses: &[IpAddr],
        effort: &mut Effort,
    ) -> Result<Option<JudgedReply>, FailureReason> {
        let mut addresses = self.usable(addresses);
        addresses.retain(|address| !effort.avoids(*address, attempt.question));
        if addresses.is_empty() {
            return Ok(None);
        }
        let round = Round::once(addresses.len());
        let mut servers = ZoneServers::new(self, &attempt.cut.zone, addresses, effort);
        let asked = &*attempt;
        let exchange = |_, ServerPlace { address, place }| self.ask_server(address, place, asked);
        // On the heap: with UDP and TCP in it, it is many times as large as what waits for it.
        let judged = Box::pin(race(&mut servers, round, self.deadline, exchange)).await;
        let silent = servers.silent;
        match judged {
            Ok(judged) => Ok(Some(judged)),
            Err(reason) if matches!(reason, FailureReason::Scarce(_)) || !effort.questions.are_left() => Err(reason),
            Err(reason) => {
                attempt.silent.extend(silent);
                attempt.last = reason;
                Ok(None)
            }
        }
    }

    async fn ask_server(
        &self,
        address: IpAddr,
        place: HeldPlace<'_>,
        attempt: &ZoneQuestion<'_>,
    ) -> Result<JudgedReply, FailureReason> {
        let (zone, question) = (&attempt.cut.zone, attempt.question);
        let purpose = attempt.purpose(|| self.places.drops_edns(address));
        let octets = self.exchange_in(place, address, &ServerQuestion { zone, question, purpose }).await?;
        if (purpose, attempt.round) == (Purpose::IterateBare, ServerAttempt::Again) {
            self.places.put_drops_edns(address);
        }
        let reply = AuthorityReply::read(&octets)?;
        if let Err(error) = &reply.rcode {
            return Err(FailureReason::Refused(error.clone()));
        }
        match referral::read(zone, question, &reply) {
            ReplyReading::Lame(why) => {
                Err(FailureReason::Malformed(format!("{address} is no server of zone {zone}: {why}")))
            }
            reading @ (ReplyReading::Answer | ReplyReading::Denial(_) | ReplyReading::Referral(_)) => {
                Ok(JudgedReply { reply: ServerReply { octets, server: address }, reading })
            }
        }
    }

    /// One question to one address, and the reply to it.
    pub(super) async fn exchange(&self, address: IpAddr, asked: &ServerQuestion<'_>) -> Result<Vec<u8>, FailureReason> {
        let place = self.lanes.enter(asked.zone, address, &self.places).await?;
        self.exchange_in(place, address, asked).await
    }

    /// The same with this place. A server that does not know EDNS is asked once more without it (RFC 6891 §7): its reply has no
    /// signatures, so that only the proof that its zone is unsigned makes it an answer.
    async fn exchange_in(
        &self,
        place: HeldPlace<'_>,
        address: IpAddr,
        asked: &ServerQuestion<'_>,
    ) -> Result<Vec<u8>, FailureReason> {
        let ServerQuestion { question, purpose, .. } = *asked;
        let wait = self.places.wait(address).min(self.timeout);
        let client = self.clients.to(self.families.dialled(address));
        let ask = async |purpose| {
            timeout(wait, client.exchange(question, purpose)).await.unwrap_or(Err(FailureReason::Timeout))
        };
        let began = Instant::now();
        let asking = async {
            match ask(purpose).await {
                Ok(reply) if purpose == Purpose::Iterate && knows_no_edns(&reply) => ask(Purpose::IterateBare).await,
                asked => asked,
            }
        };
        let asked = place.hold(asking).await;
        match &asked {
            Ok(_) => self.places.replied(address, began.elapsed()),
            Err(FailureReason::Scarce(_)) => {}
            Err(_) => self.places.failed(address),
        }
        asked
    }

    /// One question on a TCP connection of its own, with any reply.
    pub(super) async fn exchange_over_tcp(
        &self,
        address: IpAddr,
        question: &Question,
        wait: Duration,
    ) -> Result<(), FailureReason> {
        self.clients.open(self.families.dialled(address), wait).ask_over_tcp(question).await.map(drop)
    }

    /// The addresses that may be asked, in the order in which they are.
    pub(super) fn usable(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let addresses = self.families.identities(addresses);
        let dialable: Vec<IpAddr> = addresses.into_iter().filter(|address| self.dialable.allows(*address)).collect();
        let mut ordered = self.places.in_order(&dialable);
        // The sort is stable. Without a route to the addresses of a family they come last.
        let routed = self.families.routes(&self.hints);
        ordered.sort_by_key(|address| !routed.reach(*address));
        ordered
    }

    /// The addresses of a server whose name alone is known; none if it cannot be found.
    async fn found(
        &self,
        cut: &Referral,
        server: &ServerName,
        effort: &mut Effort,
    ) -> Result<Vec<IpAddr>, FailureReason> {
        effort.pending.push(cut.zone.clone());
        let on_the_way = effort.pending.iter().any(|zone| server.name.is_at_or_below(zone));
        let found = match on_the_way || effort.pending.len() > MAX_DEPTH {
            true => Ok(Vec::new()),
            false => self.addresses(&server.name, effort).await,
        };
        effort.pending.pop();
        match found {
            Err(reason @ FailureReason::Scarce(_)) => Err(reason),
            found => Ok(found.unwrap_or_default()),
        }
    }

    /// Looks the addresses of a server up, and follows aliases. On the heap: one lookup lies within another.
    fn addresses<'a>(
        &'a self,
        name: &'a CanonicalName,
        effort: &'a mut Effort,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, FailureReason>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(known) = self.places.host(name) {
                return Ok(known);
            }
            let mut owner = name.clone();
            for _ in 0..=MAX_ALIASES {
                let mut alias = None;
                for rtype in self.types() {
                    let reply = resolve(self, &Question { name: owner.clone(), rtype }, effort).await?;
                    let reply = AuthorityReply::read(&reply.octets)?;
                    let found = referral::addresses(&owner, &reply);
                    if !found.value.is_empty() {
                        self.places.put_host(name, &found);
                        return Ok(found.value);
                    }
                    alias = alias.or_else(|| referral::alias(&owner, &reply));
                }
                let Some(target) = alias else { break };
                owner = target;
            }
            self.places.put_host(name, &WithTtl { value: Vec::new(), ttl: Duration::ZERO });
            Ok(Vec::new())
        })
    }

    /// The types of the addresses that this host can ask, the more useful first.
    fn types(&self) -> Vec<Rtype> {
        let FamilyRoutes { v4, v6 } = self.families.routes(&self.hints);
        let types = [(v4, Rtype::A), (v6, Rtype::AAAA)];
        types.into_iter().filter(|(usable, _)| *usable).map(|(_, rtype)| rtype).collect()
    }
}

/// Whether a reply is FORMERR or NOTIMP, by which servers answer that do not know EDNS.
fn knows_no_edns(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| [1, 4].contains(&(flags & 0x0f)))
}
