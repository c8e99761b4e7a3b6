//! The MTA-STS policy of the domain that one transaction is for (RFC 8461 §5): asked for once, at the first exchange where it
//! counts, and held to at all of them.
//!
//! | MX records | the policy is asked |
//! |---|---|
//! | insecure | beside the addresses of the first exchange |
//! | secure | when an exchange turns out to have no usable TLSA records |
//!
//! The policy domain is the next-hop domain (RFC 8461 §3.4). A policy that ends while the mail is under way still holds for it.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::discovery::{MtaSts, StsFound, StsInForce, StsSource};
use crate::dns::{Resolver, Security};
use crate::mta_sts::{StsFetchError, StsMode, StsUse};
use crate::mx::Route;
use crate::name::Name;
use crate::policy::{StsDemand, StsListing, TlsPolicy, Unmeetable};
use crate::refusal::{Label, Lacking, Reason, ResultType};
use crate::requiretls::TagDemand;
use crate::tls::Protection;
use crate::tlsrpt::event::{ReportedPolicy, ReportedSts, StsFault};

use super::Request;
use crate::rules::StsByRule;

/// A policy of a source that is under way.
pub type PolicyAnswer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The place that policies come from.
pub trait PolicySource: Send + Sync {
    /// Whether policies are held to.
    fn usage(&self) -> StsUse;

    /// The policy of a domain. The answer comes by this time.
    fn policy<'a>(&'a self, domain: &'a Name, until: Instant) -> PolicyAnswer<'a, StsFound>;

    /// The policy of a domain after mail has failed by the one at hand, if there is another one by now (RFC 8461 §5.1).
    fn newer<'a>(
        &'a self,
        domain: &'a Name,
        at_hand: &'a StsInForce,
        until: Instant,
    ) -> PolicyAnswer<'a, Option<StsInForce>>;
}

impl fmt::Debug for dyn PolicySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicySource")
    }
}

impl<R: Resolver> PolicySource for MtaSts<R> {
    fn usage(&self) -> StsUse {
        Self::usage(self)
    }

    fn policy<'a>(&'a self, domain: &'a Name, until: Instant) -> PolicyAnswer<'a, StsFound> {
        Box::pin(self.policy_for(domain, until))
    }

    fn newer<'a>(
        &'a self,
        domain: &'a Name,
        at_hand: &'a StsInForce,
        until: Instant,
    ) -> PolicyAnswer<'a, Option<StsInForce>> {
        Box::pin(self.refetch(domain, &at_hand.policy, until))
    }
}

/// A session that a policy may have been asked for.
pub(super) struct StsSession<'a> {
    pub(super) exchange: &'a Name,
    /// None without TLS.
    pub(super) protection: Option<&'a Protection>,
}

/// The policy that one transaction goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsAtHand {
    /// What was found.
    pub found: StsFound,
    /// Whether a policy in mode `enforce` is held to, or only told like one in mode `testing`.
    pub usage: StsUse,
}

impl StsAtHand {
    const OFF: Self = Self { found: StsFound::Off, usage: StsUse::Off };

    /// The demand at one exchange.
    ///
    /// # Errors
    /// The mail has to wait: a lookup failed ([`StsFound::defers`]), or the policy host was not asked, as this host was busy or had
    /// no socket. Else a stranger who keeps this host busy could make policies not count.
    pub fn demand(&self, route: &Route, exchange: &Name) -> Result<StsDemand, Reason> {
        match (&self.found, self.usage) {
            (StsFound::InForce(in_force), _) => Ok(self.of_policy(in_force, exchange)),
            (_, StsUse::Observe | StsUse::Off) | (StsFound::Absent(_) | StsFound::Off, StsUse::Enforce) => {
                Ok(StsDemand::Nothing)
            }
            (StsFound::Unfetched(StsFetchError::Busy), StsUse::Enforce) => Err(Reason::StsNoTurn),
            (StsFound::Unfetched(StsFetchError::Scarce(scarcity)), StsUse::Enforce) => Err((*scarcity).into()),
            // RFC 8461 §3.3. It holds too where only the fallback of the resolver denies the policy host: by the public DNS, which
            // other senders go by, there is no policy.
            (StsFound::Unfetched(_), StsUse::Enforce) => Ok(StsDemand::Nothing),
            (found @ StsFound::LookupFailed(_), StsUse::Enforce) => match found.defers(route.security) {
                Some(failure) => Err(Reason::StsLookup(failure.clone())),
                None => Ok(StsDemand::Nothing),
            },
        }
    }

    fn of_policy(&self, in_force: &StsInForce, exchange: &Name) -> StsDemand {
        let listed = if in_force.policy.lists(exchange) { StsListing::Yes } else { StsListing::No };
        match (in_force.policy.mode(), self.usage) {
            (_, StsUse::Off) | (StsMode::None, _) => StsDemand::Nothing,
            (StsMode::Enforce, StsUse::Enforce) => StsDemand::Enforce(listed),
            (StsMode::Enforce, StsUse::Observe) | (StsMode::Testing, StsUse::Enforce | StsUse::Observe) => {
                StsDemand::Testing(listed)
            }
        }
    }

    /// Whether no policy can authenticate a host later either: there is none, or none that does so by its mode. A policy that
    /// cannot be had now may be had at the next try, and one that is only observed here may be held to then.
    fn is_last_word(&self) -> bool {
        match (&self.found, self.usage) {
            (StsFound::Absent(_) | StsFound::Off, _) => true,
            (StsFound::Unfetched(_) | StsFound::LookupFailed(_), _) => false,
            (StsFound::InForce(in_force), usage) => match in_force.policy.mode() {
                // Of a domain that has published another one by now, this policy is not the last word.
                StsMode::Testing | StsMode::None => {
                    !matches!(in_force.source, StsSource::Unfetched(_) | StsSource::LookupFailed(_))
                }
                StsMode::Enforce => usage == StsUse::Enforce,
            },
        }
    }

    /// The policy that mail is refused by, if one is held to.
    fn enforced(&self) -> Option<&StsInForce> {
        let in_force = self.found.in_force()?;
        ((in_force.policy.mode(), self.usage) == (StsMode::Enforce, StsUse::Enforce)).then_some(in_force)
    }

    /// The policy in TLS reports; none where there is none that sessions could be measured by.
    pub fn reported(&self, recipient: &Name) -> Option<ReportedSts> {
        match &self.found {
            StsFound::InForce(in_force) => match in_force.policy.mode() {
                StsMode::Enforce | StsMode::Testing => {
                    Some(ReportedSts::Policy(ReportedPolicy::sts(recipient, &in_force.policy)))
                }
                StsMode::None => None,
            },
            StsFound::Unfetched(error) => fault_of_fetch(error).map(ReportedSts::Unfetched),
            StsFound::Absent(_) | StsFound::LookupFailed(_) | StsFound::Off => None,
        }
    }

    /// The word in the log.
    pub fn label(&self) -> &'static str {
        self.found.label().unwrap_or("none")
    }
}

impl fmt::Display for StsAtHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            StsFound::InForce(in_force) => {
                write!(f, "mode {}, {}, {}", in_force.policy.mode(), id_and_age(in_force), in_force.source)
            }
            StsFound::Absent(why) => write!(f, "none: {why}"),
            StsFound::Unfetched(why @ (StsFetchError::Busy | StsFetchError::Scarce(_)))
                if self.usage == StsUse::Enforce =>
            {
                write!(f, "it is not known ({why}), and none is kept; mail waits")
            }
            StsFound::Unfetched(why) => {
                write!(f, "it cannot be fetched ({why}), and none is kept; mail goes as if there were none")
            }
            StsFound::LookupFailed(failure) => write!(f, "{failure}, and none is kept"),
            StsFound::Off => f.write_str("policies do not count"),
        }
    }
}

/// The fault of the receiver for which a policy was not fetched (RFC 8460 §4.3.3); none for
/// [one of this host](StsFetchError::is_own).
fn fault_of_fetch(error: &StsFetchError) -> Option<StsFault> {
    let kind = match error {
        own if own.is_own() => return None,
        StsFetchError::Syntax(_) => ResultType::StsPolicyInvalid,
        StsFetchError::Certificate(_) => ResultType::StsWebpkiInvalid,
        StsFetchError::Busy
        | StsFetchError::Scarce(_)
        | StsFetchError::Dns(_)
        | StsFetchError::NoAddress(_)
        | StsFetchError::Reserved(_)
        | StsFetchError::Connect(_)
        | StsFetchError::Tls(_)
        | StsFetchError::Status(_)
        | StsFetchError::Redirect(_)
        | StsFetchError::MediaType(_)
        | StsFetchError::Size
        | StsFetchError::Truncated(_)
        | StsFetchError::Timeout => ResultType::StsPolicyFetchError,
    };
    Some(StsFault { kind, reason: error.as_str() })
}

/// The policy as refusals and `danelaw explain` name it.
fn id_and_age(in_force: &StsInForce) -> String {
    // The two greatest units say enough.
    let age = format_duration(Duration::from_secs(in_force.age.as_secs())).to_string();
    let age: Vec<&str> = age.split(' ').take(2).collect();
    format!("{} (fetched {} ago)", in_force.id.as_str(), age.join(" "))
}

/// The refusal of a host with which no session can be enough.
pub(super) fn unmeetable(why: Unmeetable, at_hand: Option<&StsAtHand>, exchange: &Name) -> Reason {
    match (why, at_hand.and_then(|at_hand| at_hand.found.in_force())) {
        (Unmeetable::DaneRequired(why), _) => why.into(),
        (Unmeetable::NotListed, Some(in_force)) => {
            Reason::MxNotInPolicy { policy: id_and_age(in_force), exchange: exchange.clone() }
        }
        (Unmeetable::NotListed | Unmeetable::NotNamed, _) => Reason::NotAuthenticated,
    }
}

/// The same for mail with a tag: that nothing names the host is the last word on it (RFC 8689 §4.2.1), unless a policy may
/// come to do so.
pub(super) fn final_for_tagged(reason: Reason, at_hand: Option<&StsAtHand>, demand: TagDemand) -> Reason {
    match (reason, demand) {
        (Reason::NotAuthenticated, TagDemand::Tagged(_)) if at_hand.is_none_or(StsAtHand::is_last_word) => {
            Lacking::Authentication.into()
        }
        (reason, _) => reason,
    }
}

/// The result that a policy in mode `testing` would have as one in mode `enforce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsTrial {
    /// The policy has no say at the exchange, and was not asked.
    NotAsked,
    /// There is no such policy, or the exchange meets it.
    Passed,
    /// The policy does not list the exchange.
    NotListed,
    /// A public CA would have to vouch for the exchange.
    Authority,
}

impl From<Result<TlsPolicy, Unmeetable>> for StsTrial {
    fn from(enforced: Result<TlsPolicy, Unmeetable>) -> Self {
        match enforced {
            Err(Unmeetable::NotListed) => Self::NotListed,
            Ok(TlsPolicy::Sts(_)) => Self::Authority,
            Ok(_) | Err(Unmeetable::DaneRequired(_) | Unmeetable::NotNamed) => Self::Passed,
        }
    }
}

impl StsTrial {
    /// The reason for which enforcing the policy would have refused this session; without TLS there was none.
    pub fn refusal(self, session: Option<&Protection>) -> Option<Label> {
        match self {
            Self::NotAsked | Self::Passed => None,
            Self::NotListed => Some(Label::MxNotInPolicy),
            Self::Authority => match session {
                None => Some(Label::StartTlsMissing),
                Some(protection) => protection.unverified().and_then(|(_, worth)| worth.refusal()),
            },
        }
    }

    /// The same in the words of TLS reports; a session without TLS has a failure of its own.
    fn fault(self, session: Option<&Protection>) -> Option<StsFault> {
        let kind = match self {
            Self::NotAsked | Self::Passed => None,
            Self::NotListed => Some(ResultType::ValidationFailure),
            Self::Authority => session?.unverified().and_then(|(_, worth)| worth.result_type()),
        }?;
        Some(StsFault { kind, reason: self.refusal(session)?.as_str() })
    }
}

/// The policy in the account of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StsNote {
    /// `enforce`, `testing`, `none`, `unfetched`, `failed` or `off`.
    pub found: &'static str,
    /// The id of the policy.
    pub id: Option<String>,
    /// The reason for which a policy that is not held to would have refused the session.
    pub would: Option<Label>,
}

/// The policy that one transaction asks for.
#[derive(Debug, Default)]
pub struct StsInquiry {
    at_hand: OnceCell<StsAtHand>,
    /// The result at each exchange where the policy was asked.
    trials: Vec<(Name, StsTrial)>,
}

impl StsInquiry {
    /// The answer, asked for now if it was not before.
    pub(crate) async fn answer(&self, source: &dyn PolicySource, domain: &Name, request: &Request<'_>) -> &StsAtHand {
        let ask = async {
            if request.sts == StsByRule::Ignored {
                return StsAtHand::OFF;
            }
            let found = source.policy(domain, request.until).await;
            let at_hand = StsAtHand { found, usage: source.usage() };
            request.trace.fact(format_args!("{domain}: STS policy: {at_hand}"));
            at_hand
        };
        self.at_hand.get_or_init(|| ask).await
    }

    /// Asks on behalf of a domain without a route, if MX records of this security may be forged: there is
    /// [a doubt](Self::doubt) then.
    pub(crate) async fn ask_without_route(&self, source: &dyn PolicySource, mx: Security, request: &Request<'_>) {
        if mx == Security::Insecure && request.level.heeds_sts() {
            self.answer(source, request.domain, request).await;
        }
    }

    /// The answer, if it was asked for.
    pub fn known(&self) -> Option<&StsAtHand> {
        self.at_hand.get()
    }

    /// The reason to defer mail that is refused for these reasons, where the DNS alone would return it to its sender: the policy is
    /// held to and MX records of this security may be forged. A policy's failure is never permanent (RFC 8461 §5).
    pub(crate) fn doubt(&self, mx: Security, reasons: &[&Reason]) -> Option<Reason> {
        let by_dns =
            |reason: &&Reason| matches!(reason, Reason::NoRoute(_) | Reason::NoAddress | Reason::ReservedAddress(_));
        // An exchange that lacks an extension for good is no other word on those that the DNS hides.
        let says_nothing = |reason: &&Reason| by_dns(reason) || matches!(reason, Reason::Lacking(_));
        let rests_on_dns = reasons.iter().any(by_dns) && reasons.iter().all(says_nothing);
        let is_doubtful = rests_on_dns && mx == Security::Insecure && self.enforced().is_some();
        is_doubtful.then_some(Reason::UnsignedUnderSts)
    }

    /// The policy that mail was refused by, if one is held to.
    pub(super) fn enforced(&self) -> Option<&StsInForce> {
        self.known()?.enforced()
    }

    /// The same with a policy that was fetched anew.
    pub(super) fn renewed(&self, newer: StsInForce) -> Self {
        let usage = self.known().map_or(StsUse::Enforce, |at_hand| at_hand.usage);
        let at_hand = StsAtHand { found: StsFound::InForce(newer), usage };
        Self { at_hand: OnceCell::new_with(Some(at_hand)), trials: Vec::new() }
    }

    /// Notes the result at an exchange.
    pub(super) fn note(&mut self, exchange: &Name, trial: StsTrial) {
        self.trials.retain(|(known, _)| known != exchange);
        if trial != StsTrial::NotAsked {
            self.trials.push((exchange.clone(), trial));
        }
    }

    fn trial(&self, exchange: &Name) -> Option<StsTrial> {
        self.trials.iter().find(|(known, _)| known == exchange).map(|(_, trial)| *trial)
    }

    /// Whether the policy was asked for this exchange.
    pub(super) fn is_evaluated(&self, exchange: &Name) -> bool {
        self.trial(exchange).is_some()
    }

    /// The fault of a session with an exchange by a policy that is not held to.
    pub(super) fn fault(&self, exchange: &Name, session: Option<&Protection>) -> Option<StsFault> {
        self.trial(exchange)?.fault(session)
    }

    /// The account of a session with an exchange; none if no policy was asked for.
    pub(super) fn account(&self, session: Option<StsSession<'_>>) -> Option<StsNote> {
        let at_hand = self.known()?;
        let id = at_hand.found.in_force().map(|in_force| in_force.id.as_str().to_owned());
        let would = session.and_then(|session| self.trial(session.exchange)?.refusal(session.protection));
        Some(StsNote { found: at_hand.label(), id, would })
    }
}
