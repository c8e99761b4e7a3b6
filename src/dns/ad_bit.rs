//! One server whose AD bit is believed, and the check that it goes on to deserve that between two self-tests.
//!
//! A clear AD bit says "insecure", and switches DANE off. A resolver that has stopped validating clears it everywhere.
//! So an answer without AD counts only beside an answer for the root, a signed zone, with AD: from the same server and
//! of the same few seconds. One question for the root serves all lookups of these seconds. If its answer has no AD, no
//! lookup is answered by this server, all that it said before is forgotten, and the self-test is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{CacheBounds, EntryWeight};
use super::canonical::CanonicalName;
use super::fitness::Fitness;
use super::links::Question;
use super::memory::Memory;
use super::query::{Purpose, QueryClient};
use super::reply::{DnsReply, Rtype};
use super::validating::convert;
use super::{FailureReason, Security};

/// How long an answer for the root with AD counts, from the moment of its question.
const SHOWN_FOR: Duration = Duration::from_secs(5);
/// Room for the one answer.
const ONE: CacheBounds = CacheBounds { entries: 1, octets: 4096 };

/// One server whose AD bit is believed.
pub(super) struct AdCheck {
    client: Arc<QueryClient>,
    root: Memory<(), RootShown>,
    fitness: Arc<Fitness>,
}

/// The root was secure by the server's AD bit.
struct RootShown;

impl AdCheck {
    /// A server that has passed its self-test, or is under test.
    pub(super) fn new(client: &Arc<QueryClient>, fitness: &Arc<Fitness>) -> Self {
        let root = Memory::of(ONE, Arc::clone(fitness));
        Self { client: Arc::clone(client), root, fitness: Arc::clone(fitness) }
    }

    /// Puts one question. The security is that of the AD bit, and "insecure" is confirmed by the root.
    ///
    /// # Errors
    /// There is no answer, or its AD bit cannot be believed. There is no end in time: the caller has it.
    pub(super) async fn ask(&self, question: &Question) -> Result<(DnsReply, Security), FailureReason> {
        let (reply, security) = convert::vouched(&self.client.exchange(question, Purpose::TrustAd).await?)?;
        match security {
            Security::Secure => {}
            Security::Insecure => self.confirm().await?,
        }
        Ok((reply, security))
    }

    /// The root is secure by the AD bit of this server, now or a few seconds ago.
    async fn confirm(&self) -> Result<(), FailureReason> {
        let (client, fitness) = (Arc::clone(&self.client), Arc::clone(&self.fitness));
        let make = |()| async move {
            let began = Instant::now();
            let shown = root_shown(&client).await;
            if shown == Err(FailureReason::NotValidating) {
                fitness.doubt();
            }
            // A failure is shared by the lookups that wait for it, and by no later one.
            let holds = if shown.is_ok() { SHOWN_FOR.saturating_sub(began.elapsed()) } else { Duration::ZERO };
            (shown.map(|()| RootShown), holds)
        };
        match self.root.find((), make).await.as_ref() {
            Ok(RootShown) => Ok(()),
            Err(reason) => Err(reason.clone()),
        }
    }
}

/// Asks for the SOA record of the root, which is signed and always there.
async fn root_shown(client: &QueryClient) -> Result<(), FailureReason> {
    let root = CanonicalName::root();
    let question = Question { name: root.clone(), rtype: Rtype::SOA };
    let (reply, security) = convert::vouched(&client.ask(&question, Purpose::TrustAd).await?)?;
    let is_there = reply.answers.iter().any(|set| set.owner == root && set.rtype == Rtype::SOA);
    match security {
        Security::Secure if is_there => Ok(()),
        Security::Secure => Err(FailureReason::Malformed("the root has no SOA record".to_owned())),
        Security::Insecure => Err(FailureReason::NotValidating),
    }
}

impl EntryWeight for RootShown {
    fn octets(&self) -> usize {
        0
    }
}
