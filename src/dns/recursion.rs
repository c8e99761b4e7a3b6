//! The way to an answer without a resolver: from the root's servers down to those of the name's own zone (RFC 1034
//! §5.3.3).
//!
//! [`Recursion::ask`] puts one question and brings the reply of an authoritative server, octet for octet. The
//! validator judges it as it judges a resolver's. So no server on the way can do more than withhold
//! an answer. The way itself is found by [`referral`]s, with no more of the name than each server needs ([`minimise`]),
//! and is remembered ([`places`]).
//!
//! Strangers write the referrals, so the way to one answer has bounds ([`Effort`]): on its questions, on the server names
//! that are looked up for one zone (NXNSAttack, CVE-2020-12662 and others), on how deep such look-ups nest, and on its
//! time. A lookup, which may need many answers, has a bound on its questions in all ([`Questions`]). All lookups together
//! have bounds on the questions in flight ([`lanes`]).
//!
//! There are no DNS cookies (RFC 7873): each server's would have to be kept, most servers have none, and ID, port and the case of
//! the letters are as hard to guess for a host off the path; signatures prove the answers that decide about DANE.

mod clients;
mod families;
pub(super) mod hints;
mod lanes;
mod minimise;
mod places;
mod referral;
mod reply;
mod root;
mod servers;
mod zone_servers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use self::hints::RootHints;
use self::places::ZonePosition;
use self::referral::ReplyReading;
pub(super) use self::servers::ServerReply;
use self::servers::{AuthoritativeServers, DoubtedReply, Effort, JudgedReply};
use super::FailureReason;
use super::budget::Questions;
use super::links::Question;
use super::reply::{Rcode, Rtype};
use super::setup::ResolverSettings;

/// How many questions the way to one answer may take. An honest name five zones deep, with no server known yet, needs some 30.
const MAX_QUESTIONS: u32 = 100;
/// How many the search for another server of the same zone may take. The way to the zone is known by then.
const MAX_QUESTIONS_AGAIN: u32 = 20;
/// How long it may take.
const AGAIN: Duration = Duration::from_secs(5);

/// Asks the authoritative servers. Clones share everything.
#[derive(Clone)]
pub(super) struct Recursion {
    servers: Arc<AuthoritativeServers>,
}

impl Recursion {
    /// Prepares to ask; no question is sent yet.
    pub(super) fn new(hints: RootHints, settings: &ResolverSettings, tls: Arc<ClientConfig>) -> Self {
        Self { servers: Arc::new(AuthoritativeServers::new(hints, settings, tls)) }
    }

    /// Puts one question to an authoritative server of its zone: for DS records to one of the parent (RFC 4035
    /// §3.1.4.1). The reply is an answer or a denial by its own word, and is not validated.
    ///
    /// # Errors
    /// No server that can be found has one, within the bounds on effort and time.
    pub(super) async fn ask(&self, question: &Question, left: &Questions) -> Result<ServerReply, FailureReason> {
        let (questions, time) = (left.at_most(MAX_QUESTIONS), self.servers.deadline);
        self.within(question, Effort { questions, time, pending: Vec::new(), doubted: None }).await
    }

    /// Puts a question once more, and not to this server, whose answer proves nothing: one server of a zone may have old
    /// records, or lie.
    ///
    /// # Errors
    /// No other server has an answer.
    pub(super) async fn ask_another(
        &self,
        question: &Question,
        server: IpAddr,
        left: &Questions,
    ) -> Result<ServerReply, FailureReason> {
        let doubted = Some(DoubtedReply { question: question.clone(), server });
        let (questions, time) = (left.at_most(MAX_QUESTIONS_AGAIN), self.servers.deadline.min(AGAIN));
        self.within(question, Effort { questions, time, pending: Vec::new(), doubted }).await
    }

    async fn within(&self, question: &Question, mut effort: Effort) -> Result<ServerReply, FailureReason> {
        let asked = tokio::time::timeout(effort.time, resolve(&self.servers, question, &mut effort)).await;
        asked.unwrap_or(Err(FailureReason::Timeout))
    }

    /// Asks several root servers for the root's name servers (RFC 8109).
    ///
    /// # Errors
    /// None of them answers.
    pub(super) async fn reach_root(&self) -> Result<(), FailureReason> {
        self.servers.prime().await.map(drop)
    }

    /// Asks several root servers over TCP.
    ///
    /// # Errors
    /// None of them answers.
    pub(super) async fn reach_root_over_tcp(&self) -> Result<(), FailureReason> {
        self.servers.prime_over_tcp().await
    }
}

/// Goes down from the deepest known zone to the one that answers.
async fn resolve(
    servers: &AuthoritativeServers,
    question: &Question,
    effort: &mut Effort,
) -> Result<ServerReply, FailureReason> {
    let (mut position, mut steps) = (start(servers, question).await?, minimise::MAX_STEPS);
    let mut origin = CutOrigin::Memory;
    loop {
        let asked = minimise::next(question, position.known, steps);
        let whole = asked == *question;
        steps = steps.saturating_sub(1);
        match servers.ask_zone(&position.cut, &asked, effort).await {
            Ok(JudgedReply { reading: ReplyReading::Referral(referral), .. }) => {
                let cut = Arc::new(referral);
                servers.places.put_cut(&cut);
                position = ZonePosition { known: cut.zone.depth(), cut };
                origin = CutOrigin::Parent;
            }
            Ok(JudgedReply { reply, .. }) if whole => return Ok(reply),
            // RFC 9156 §2.3: a server may deny a name that has only names below it, in spite of RFC 8020.
            Ok(JudgedReply { reading: ReplyReading::Denial(Rcode::NxDomain), .. }) => steps = 0,
            Ok(_) => {
                servers.places.put_within(&asked.name);
                position.known += 1;
            }
            Err(reason @ FailureReason::Scarce(_)) => return Err(reason),
            // RFC 9156 §2.3: a server may fail for a name that it does not expect to be asked for.
            Err(_) if !whole => steps = 0,
            // The servers of a zone may have changed before the end of the TTL.
            Err(_)
                if origin == CutOrigin::Memory
                    && position.cut.zone.depth() > 0
                    && effort.doubted.is_none()
                    && effort.questions.are_left() =>
            {
                servers.places.forget(&position.cut.zone);
                (position, steps) = (start(servers, question).await?, minimise::MAX_STEPS);
                origin = CutOrigin::Parent;
            }
            Err(reason) => return Err(reason),
        }
    }
}

/// Where the servers in hand were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutOrigin {
    /// An earlier lookup left them.
    Memory,
    /// The parent has just named them.
    Parent,
}

/// The deepest known zone that may know the answer.
async fn start(servers: &AuthoritativeServers, question: &Question) -> Result<ZonePosition, FailureReason> {
    let name = if question.rtype == Rtype::DS { question.name.parent() } else { question.name.clone() };
    match servers.places.position(&name) {
        Some(position) => Ok(position),
        None => Ok(ZonePosition { cut: servers.prime().await?, known: 0 }),
    }
}
