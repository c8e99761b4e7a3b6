//! The servers of the root: found once by those that are built in, or named by the operator (RFC 8109).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::super::FailureReason;
use super::super::canonical::CanonicalName;
use super::super::links::Question;
use super::super::query::Purpose;
use super::super::reply::Rtype;
use super::referral::{self, Referral, ServerName, ZoneSigning};
use super::reply::AuthorityReply;
use super::servers::{AuthoritativeServers, ServerQuestion};

/// How many root servers are asked at once.
const RACE: usize = 6;
/// How long they have for a reply.
const WAIT: Duration = Duration::from_millis(2500);
/// How long a failure is remembered, so that the lookups that wait do not try one after the other.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// How long built-in addresses are used if the root servers name no other.
const HINTS_FOR: Duration = Duration::from_secs(3600);

/// The last attempt, which failed.
pub(super) struct PrimingFailure {
    since: Instant,
    reason: FailureReason,
}

impl AuthoritativeServers {
    /// The servers of the root: those that are remembered, else the answer of the first of several that are asked at
    /// once. One caller asks; the others wait for its result.
    ///
    /// # Errors
    /// None of them answers.
    pub(super) async fn prime(&self) -> Result<Arc<Referral>, FailureReason> {
        let root = CanonicalName::root();
        let mut failed = self.priming.lock().await;
        if let Some(known) = self.places.position(&root) {
            return Ok(known.cut);
        }
        if let Some(failure) = failed.as_ref().filter(|failure| failure.since.elapsed() < FAILED_FOR) {
            return Err(failure.reason.clone());
        }
        let asked = tokio::time::timeout(WAIT, self.root_servers(&root)).await.unwrap_or(Err(FailureReason::Timeout));
        match asked {
            Ok(cut) => {
                let cut = Arc::new(cut);
                self.places.put_cut(&cut);
                *failed = None;
                Ok(cut)
            }
            Err(reason @ FailureReason::Scarce(_)) => Err(reason),
            Err(reason) => {
                let why = format!("cannot reach any root server on port {}: {reason}", self.port);
                let reason = FailureReason::Network(why);
                *failed = Some(PrimingFailure { since: Instant::now(), reason: reason.clone() });
                Err(reason)
            }
        }
    }

    /// Asks some of the root servers that are named from the start, over TCP alone.
    ///
    /// # Errors
    /// None of them answers.
    pub(super) async fn prime_over_tcp(&self) -> Result<(), FailureReason> {
        let question = Question { name: CanonicalName::root(), rtype: Rtype::NS };
        self.race(|address| self.exchange_over_tcp(address, &question, WAIT)).await
    }

    /// The servers that the first answer names.
    async fn root_servers(&self, root: &CanonicalName) -> Result<Referral, FailureReason> {
        let question = Question { name: root.clone(), rtype: Rtype::NS };
        let asked = &ServerQuestion { zone: root, question: &question, purpose: Purpose::Iterate };
        let ask = |address| async move {
            let reply = AuthorityReply::read(&self.exchange(address, asked).await?)?;
            let named = referral::servers_of(root, &reply);
            named.ok_or_else(|| FailureReason::malformed("a root server names no servers of the root"))
        };
        Ok(self.or_hints(root, self.race(ask).await?))
    }

    /// Asks some of the root servers that are named from the start; the first answer counts.
    async fn race<T, F>(&self, ask: impl Fn(IpAddr) -> F) -> Result<T, FailureReason>
    where
        F: Future<Output = Result<T, FailureReason>>,
    {
        let asked = self.usable(self.hints.addresses()).into_iter().take(RACE);
        let mut answers: FuturesUnordered<_> = asked.map(ask).collect();
        let mut last = FailureReason::Timeout;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }

    /// The servers that are named, if they have addresses that may be asked.
    fn or_hints(&self, root: &CanonicalName, named: Referral) -> Referral {
        let addresses = named.servers.iter().flat_map(|server| server.addresses.iter().copied());
        if !self.usable(&addresses.collect::<Vec<_>>()).is_empty() {
            return named;
        }
        let server = ServerName { name: root.clone(), addresses: self.hints.addresses().to_vec() };
        Referral { zone: root.clone(), servers: vec![server], ttl: HINTS_FOR, delegation: ZoneSigning::Signed }
    }
}
