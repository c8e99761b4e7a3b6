//! The iteration over a domain's exchanges, one address after the other, until one takes the mail (RFC 5321 §5.1).
//!
//! The iteration alone knows where the mail may go next, and why not to the others.
//!
//! 1. [`MxIteration::next`] returns the next remote that has met its policy.
//! 2. [`MxIteration::accept`] says whether the mail goes to it, or another one should be asked first that takes more ([`lesser`]).
//! 3. If that remote does not take the transaction, and no answer was relayed to the client yet, [`MxIteration::fail_over`] says
//!    whether the mail may go to another one. The rules are in [`super::failover`].
//! 4. Once no remote is left, there may be another lap ([`laps`]). Under a [`Waiver`], as in mode `observe`, an iteration that ends
//!    in a refusal for want of TLS or of a proof starts again, at the level `may`, as an ordinary opportunistic server would
//!    (RFC 7435 §3).

mod candidate;
mod laps;
mod lesser;
mod reported;
mod sessions;

use std::collections::VecDeque;

use tokio::time::Instant;

use super::failover::{NextCandidate, asks_for_new_session, rule, without_primary};
use super::limits::DomainPermit;
use super::order::share;
use super::sts::{StsInquiry, StsNote, StsSession};
use super::verified::Ready;
use super::{Connector, Request, Unrouted};
use crate::dns::{Nat64Prefix, Resolver, Security};
use crate::mx::Route;
use crate::name::Name;
use crate::policy::{Level, Waiver};
use crate::refusal::{Peer, Place, Reason, Refusal, Refusals};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tlsrpt::event::TlsResult;
use candidate::{Candidate, Sessions};
use laps::{AfterLap, Lap};
use lesser::{Lesser, MailContent};
use reported::Published;

pub use lesser::Unmet;

/// The iteration for the remote of one destination.
#[derive(Debug)]
pub struct MxIteration<'a, R> {
    connector: &'a Connector<R>,
    /// The ground on which the policy is not enforced to the end, if there is one.
    waiver: Waiver,
    request: Request<'a>,
    /// The level that the request asked for, before any change by a waiver.
    level: &'a Level,
    resolved: Option<Resolved>,
    /// Exchanges that were not tried in this lap, in order.
    untried: VecDeque<Name>,
    /// Exchanges of which each address has failed a moment ago: behind all others, in order.
    last: VecDeque<Candidate>,
    /// The exchange that is tried now.
    candidate: Option<Candidate>,
    lap: Lap,
    content: MailContent,
    /// Remotes that were found and take less than the mail may hold.
    lesser: Vec<Lesser>,
    /// The prefix by which IPv4 addresses are reached, if they are reached by NAT64.
    nat64: Option<Nat64Prefix>,
    refusals: Refusals,
    /// The TLSA records of the exchanges that were reached, for TLS reports.
    published: Vec<Published>,
    /// The failures that were told of hosts that could not be tried.
    untried_told: Vec<TlsResult>,
    /// The MTA-STS policy of the domain.
    sts: StsInquiry,
    sts_renewed: StsRenewed,
    waiver_state: WaiverState,
}

/// Whether the MTA-STS policy was fetched anew for this mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StsRenewed {
    No,
    Yes,
}

/// The use of a waiver in an iteration.
#[derive(Debug)]
enum WaiverState {
    /// There is none: the policy is enforced.
    None,
    /// It is open: the policy is enforced, and if that ends in a refusal, the mail has until then at the lower level.
    Open(Instant),
    /// It is used: enforcing would have refused the mail for these reasons, and the mail goes on at a lower level.
    Used(Refusals),
}

/// The route of the domain, and the permit to use it.
#[derive(Debug)]
struct Resolved {
    route: Route,
    permit: DomainPermit,
}

impl<'a, R: Resolver> MxIteration<'a, R> {
    pub(super) fn new(connector: &'a Connector<R>, mut request: Request<'a>, waiver: Waiver) -> Self {
        let waiver_state = match waiver {
            Waiver::None => WaiverState::None,
            Waiver::Observe | Waiver::TlsRequiredNo => {
                let until = request.until;
                // Half of the time, so that a server that stalls in its handshake leaves some for the lower level.
                request.until = share_until(until, 2);
                WaiverState::Open(until)
            }
        };
        Self {
            connector,
            waiver,
            level: request.level,
            request,
            resolved: None,
            untried: VecDeque::new(),
            last: VecDeque::new(),
            candidate: None,
            lap: Lap::First,
            content: MailContent::default(),
            lesser: Vec::new(),
            nat64: None,
            refusals: Refusals::default(),
            published: Vec::new(),
            untried_told: Vec::new(),
            sts: StsInquiry::default(),
            sts_renewed: StsRenewed::No,
            waiver_state,
        }
    }

    /// The next remote that has met its policy; once none is left, one of another lap.
    ///
    /// # Errors
    /// The reason of each exchange and address, if no other is left (RFC 7672 §2.1.2: defer, unless the DNS says it is
    /// final).
    pub async fn next(&mut self) -> Result<Ready, Refusals> {
        loop {
            let refusals = match self.next_of_lap().await {
                Ok(ready) => return Ok(ready),
                Err(refusals) => self.of_both_laps(refusals),
            };
            match self.after_lap(&refusals) {
                AfterLap::SecondLap(rank) => self.second_lap(rank, refusals),
                AfterLap::Waive => self.waive(refusals),
                AfterLap::End => return Err(refusals),
            }
        }
    }

    /// The next remote of this lap.
    async fn next_of_lap(&mut self) -> Result<Ready, Refusals> {
        match self.search().await {
            Err(refusals) => self.by_newer_policy(self.deferred_under_sts(refusals)).await,
            found => found,
        }
    }

    /// The lap once more by a policy that is fetched anew, if mail was refused by the one at hand: the domain may have moved
    /// since (RFC 8461 §5.1). That happens once, within the time of the first.
    async fn by_newer_policy(&mut self, refusals: Refusals) -> Result<Ready, Refusals> {
        let by_policy = |refusal: &Refusal| {
            matches!(refusal.reason, Reason::MxNotInPolicy { .. } | Reason::UnsignedUnderSts)
                || refusal.reason.is_about_tls()
        };
        let (Some(at_hand), Some(Resolved { route, .. })) = (self.sts.enforced(), &self.resolved) else {
            return Err(refusals);
        };
        if self.sts_renewed == StsRenewed::Yes || !refusals.iter().any(by_policy) {
            return Err(refusals);
        }
        self.sts_renewed = StsRenewed::Yes;
        let source = &self.connector.enforced_sts;
        let Some(newer) = source.newer(&route.next_hop, at_hand, self.request.until).await else {
            return Err(refusals);
        };
        self.sts = self.sts.renewed(newer);
        if let Some(at_hand) = self.sts.known() {
            self.request.trace.fact(format_args!("{}: STS policy, fetched anew: {at_hand}", route.next_hop));
        }
        self.all_untried();
        self.search().await.map_err(|refusals| self.deferred_under_sts(refusals))
    }

    /// Defers mail that the DNS alone would return to its sender, where its word is not the last one (RFC 8461 §5).
    fn deferred_under_sts(&self, refusals: Refusals) -> Refusals {
        // Without a route there was a doubt already.
        match &self.resolved {
            Some(Resolved { route, .. }) => self.doubted(refusals, route.security),
            None => refusals,
        }
    }

    /// The refusals, with the doubt about MX records of this security.
    fn doubted(&self, mut refusals: Refusals, mx: Security) -> Refusals {
        let reasons: Vec<&Reason> = refusals.iter().map(|refusal| &refusal.reason).collect();
        let doubt = self.sts.doubt(mx, &reasons);
        doubt.into_iter().for_each(|doubt| refusals.push(Refusal::domain(doubt)));
        refusals
    }

    /// Each exchange is tried again.
    fn all_untried(&mut self) {
        let route = self.resolved.as_ref().map(|resolved| &resolved.route);
        self.untried = route.into_iter().flat_map(Route::exchanges).cloned().collect();
    }

    /// The account of the domain's MTA-STS policy, and of this session by it; none if no policy was asked for.
    pub fn sts(&self, ready: Option<&Ready>) -> Option<StsNote> {
        let session = ready.map(|ready| StsSession {
            exchange: &ready.peer().exchange,
            protection: ready.terms().channel.protection(),
        });
        self.sts.account(session)
    }

    /// The reasons for which enforcing would have refused the mail, if there is a waiver and it would have.
    pub fn would_have_refused(&self) -> Option<&Refusals> {
        match &self.waiver_state {
            WaiverState::Used(refusals) => Some(refusals),
            WaiverState::None | WaiverState::Open(_) => None,
        }
    }

    async fn search(&mut self) -> Result<Ready, Refusals> {
        let Resolved { route, permit } = match self.resolved.take() {
            Some(resolved) => resolved,
            None => self.resolve().await?,
        };
        let found = self.found(&route, &permit).await;
        if found.is_none() {
            if route.untried() > 0 {
                self.refusals.push(Refusal::domain(Reason::NotTried(route.untried())));
            }
            let reasons: Vec<&Reason> = self.refusals.iter().map(|refusal| &refusal.reason).collect();
            if let Some(why) = without_primary(&route, &reasons) {
                self.refusals.push(Refusal::domain(why));
            }
        }
        self.resolved = Some(Resolved { route, permit });
        found.ok_or_else(|| std::mem::take(&mut self.refusals))
    }

    /// The remote that was found last does not take the transaction, for this reason, and no answer was relayed to the
    /// client yet: the next call of [`MxIteration::next`] returns another one.
    ///
    /// # Errors
    /// The reason itself, where it is the answer: another remote would give the same.
    pub fn fail_over(&mut self, peer: &Peer, reason: Reason) -> Result<(), Reason> {
        let reason = if self.is_detour(peer) { for_now(reason) } else { reason };
        let next = rule(&reason, &self.connector.timeouts).next;
        if let Some(candidate) = &mut self.candidate
            && let Some(address) = candidate.reused.take()
            && asks_for_new_session(next, &reason)
        {
            // RFC 5321 §3.8: a session that waited may end at any moment, and the remote may allow no more mails over it.
            // That is no failure of the host, which is tried again, and has its word over the new session.
            candidate.addresses.push_front(address);
            candidate.sessions = Sessions::New;
            return Ok(());
        }
        match next {
            NextCandidate::Stop => return Err(reason),
            NextCandidate::Exchange => self.candidate = None,
            NextCandidate::Address => {}
        }
        if let (Reason::Lacking(_), Some(candidate)) = (&reason, &mut self.candidate) {
            candidate.not_dialled().for_each(|refusal| self.refusals.push(refusal));
            (candidate.unknown, candidate.beyond) = (None, 0);
        }
        self.refusals.push(Refusal::peer(peer, reason));
        Ok(())
    }

    /// The time by which the remote that was found last should have answered MAIL and the first recipient: while others are
    /// left, it may not use up their time (K7).
    pub fn answer_by(&self) -> Instant {
        self.until(if self.is_reused() || self.others() > 0 { 2 } else { 1 })
    }

    /// Whether the session with the remote that was found last had served other mail before.
    pub fn is_reused(&self) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.reused.is_some())
    }

    /// The refusals so far, in order.
    pub fn skipped(&self) -> impl Iterator<Item = &Refusal> {
        let first = match &self.lap {
            Lap::First => None,
            Lap::Second { first, .. } => Some(first),
        };
        first.into_iter().flat_map(Refusals::iter).chain(self.refusals.iter())
    }

    async fn resolve(&mut self) -> Result<Resolved, Refusals> {
        let permit = self.connector.dialer.limits.domain(self.request.domain).await.map_err(Refusal::domain)?;
        match self.connector.route(&self.request).await {
            Ok(route) => {
                self.untried = route.exchanges().iter().cloned().collect();
                Ok(Resolved { route, permit })
            }
            Err(unrouted) => {
                self.report_untried(&unrouted.refusal);
                Err(self.unrouted(unrouted).await)
            }
        }
    }

    /// Mail for which MX records give no route, with the doubt about them.
    async fn unrouted(&self, Unrouted { refusal, mx }: Unrouted) -> Refusals {
        self.sts.ask_without_route(&*self.connector.enforced_sts, mx, &self.request).await;
        self.doubted(refusal.into(), mx)
    }

    async fn found(&mut self, route: &Route, permit: &DomainPermit) -> Option<Ready> {
        while let Some(mut candidate) = self.candidate(route).await {
            let found = self.reach(&mut candidate, permit).await;
            if found.is_some() {
                self.candidate = Some(candidate);
                return found;
            }
        }
        None
    }

    /// Records a failure here and in the host status; where the mail goes next.
    fn refuse(&mut self, refusal: Refusal) -> NextCandidate {
        let rule = rule(&refusal.reason, &self.connector.timeouts);
        // Under a waiver a TLS failure does not mark the address as failed: mail goes there without TLS.
        let enforced = self.waiver == Waiver::None || !refusal.reason.may_be_waived();
        if let (Place::Peer(peer), true) = (&refusal.at, enforced) {
            self.connector.host_status.note(peer.endpoint(), rule.status, &refusal.reason);
        }
        if rule.next == NextCandidate::Stop {
            // An exchange in `last` was before this one in the order, so it stays.
            self.untried.clear();
        }
        self.refusals.push(refusal);
        rule.next
    }

    /// The number of addresses of the current exchange and of further exchanges that were not tried yet.
    fn others(&self) -> usize {
        let addresses = self.candidate.as_ref().map_or(0, |candidate| candidate.addresses.len());
        addresses + self.untried.len() + self.last.len()
    }

    /// The end of the time for one of so many.
    fn until(&self, untried: usize) -> Instant {
        share_until(self.request.until, untried)
    }
}

/// The reason, as one for now: the remotes that are preferred have the last word on the mail.
fn for_now(reason: Reason) -> Reason {
    match reason {
        Reason::Refused { stage, reply } if reply.code().is_permanent() => {
            let text = reply.to_string();
            Reason::Refused { stage, reply: Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(0, 0), text) }
        }
        other => other,
    }
}

fn share_until(until: Instant, untried: usize) -> Instant {
    let now = Instant::now();
    now + share(until.saturating_duration_since(now), untried)
}
