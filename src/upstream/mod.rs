//! From a domain to a remote that may be given mail: the core of danelaw (RFC 7672 §2.2).
//!
//! 1. An [`MxIteration`] tries the exchanges in the publisher's order (RFC 5321 §5.1), and the rules of [`failover`] say which
//!    failures lead to the next one. [`host_status`] remembers for a moment which addresses failed.
//! 2. For each exchange a plan has the addresses to try, and the policy that a session with it must meet.
//! 3. [`connect`] opens a connection to one of the addresses, within the [`limits`]. [`starttls`] greets the remote and
//!    secures the connection; [`ehlo_name`] explains the replies that blame the name in EHLO.
//! 4. The result is a session of [`verified`], the only type on which mail can be sent. After its transaction it waits in the
//!    [`pool`] for mail that asks for an equal session ([`reuse`]).
//!
//! Beside them, [`host_session`] notes sessions for the memory of hosts, and [`sts`] has the MTA-STS policy of the domain.
//! [`bounded_memory`] remembers for the client's next try the remotes that fail at chunks, the domains that need 8BITMIME, and the
//! mail that hosts which met their policy could not take. [`original_destination`] compares the destination of an intercepted
//! client with the exchanges of the domain.

pub mod bounded_memory;
mod command;
pub mod connect;
pub mod ehlo_name;
pub mod failover;
pub mod host_session;
pub mod host_status;
pub mod limits;
mod mx_iteration;
mod order;
pub mod original_destination;
mod plan;
pub mod pool;
pub mod reuse;
mod shards;
pub mod sts;
pub mod starttls;
pub mod tcp;
pub mod timeouts;
pub mod verified;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::dane::agility::Digests;
use crate::discovery::MtaSts;
use crate::dns::Resolver;
use crate::mx::OwnAddresses;
use crate::name::Name;
use crate::policy::{KeyDemand, Level, Mode, TlsPolicy, Waiver};
use crate::refusal::{Peer, Reason, TlsFailure};
use crate::requiretls::TagDemand;
use crate::reserved::Dialable;
use crate::rules::{NextHop, NextHopHost, StsByRule};
use crate::smtp::command::Hello;
use crate::tls::Tls;
use crate::tlsrpt::event::Reporting;
use crate::trace::{StepKind, Trace};

use bounded_memory::{EightBitDomains, WaivedMails, WithoutBdat};
use connect::Dialer;
use host_session::HostLearning;
use host_status::HostStatusCache;
use starttls::{Greeted, SessionOptions};
use sts::PolicySource;
use tcp::Tcp;
use timeouts::Timeouts;
use verified::Ready;

pub use mx_iteration::{MxIteration, Unmet};
pub(crate) use plan::{Choice, Plan, Unrouted, by_dns};

/// Finds, connects to and verifies remotes.
#[derive(Debug)]
pub struct Connector<R> {
    /// The DNS.
    pub dns: R,
    /// Fetches and keeps the policies of MTA-STS.
    pub mta_sts: MtaSts<R>,
    /// TCP to remotes.
    pub dialer: Dialer,
    /// TLS with remotes.
    pub tls: Tls,
    /// The policies of MTA-STS that mail is held to.
    pub enforced_sts: Arc<dyn PolicySource>,
    /// Whether policies are enforced.
    pub mode: Mode,
    /// The digests that count in TLSA records.
    pub digests: Digests,
    /// The addresses to which connections are allowed.
    pub dialable: Dialable,
    /// The addresses that failed a moment ago.
    pub host_status: HostStatusCache,
    /// The addresses at which a message in chunks has failed.
    pub without_bdat: Arc<WithoutBdat>,
    /// Domains with mail that needs 8BITMIME although clients do not declare it.
    pub eight_bit: Arc<EightBitDomains>,
    /// Mail with `TLS-Required: No` that hosts which met their policy could not take.
    pub waived: Arc<WaivedMails>,
    /// The most exchanges of one domain that are tried.
    pub max_exchanges: usize,
    /// The most addresses of one exchange that are tried.
    pub max_addresses: usize,
    /// Names that are ours in MX records.
    pub own_names: Vec<Name>,
    /// Addresses that are ours behind MX records.
    pub own_addresses: OwnAddresses,
    /// Our own name.
    pub hostname: Name,
    /// The name to give in EHLO, if not the client's own.
    pub ehlo_name: Option<Name>,
    /// The limit of each step.
    pub timeouts: Arc<Timeouts>,
    /// Whether sessions are noted for the memory of hosts, which costs a look at each certificate.
    pub learning: HostLearning,
}

/// One transaction's request for a remote.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The recipient's domain.
    pub domain: &'a Name,
    /// The host that takes the domain's mail, if a rule says so.
    pub next_hop: Option<&'a NextHop>,
    /// The client's name for itself.
    pub hello: &'a Hello,
    /// The level that a session must meet.
    pub level: &'a Level,
    /// The demand of the mail's tag, which the level meets.
    pub demand: TagDemand,
    /// Whether the MTA-STS policy of the domain counts.
    pub sts: StsByRule,
    /// The end of the MX iteration.
    pub until: Instant,
    /// The original destination of an intercepted client.
    pub original_destination: Option<IpAddr>,
    /// Whether its sessions are told in TLS reports.
    pub reporting: Reporting,
    /// The account of the transaction.
    pub trace: &'a Trace,
}

impl Request<'_> {
    /// The address that takes the domain's mail, if a rule names one.
    fn address(&self) -> Option<IpAddr> {
        match &self.next_hop?.host {
            NextHopHost::Address(address) => Some(*address),
            NextHopHost::Name(_) => None,
        }
    }

    /// The port, if a rule names one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.next_hop?.port
    }
}

impl<R: Resolver> Connector<R> {
    /// The MX iteration for the domain. If enforcing ends in a refusal for lack of TLS or of a proof, it goes on at the lower level of
    /// this waiver.
    pub fn iterate<'a>(&'a self, request: &Request<'a>, waiver: Waiver) -> MxIteration<'a, R> {
        MxIteration::new(self, *request, waiver)
    }

    /// How to open sessions for this client, without further bounds.
    pub(crate) fn session_options<'a>(&'a self, hello: &'a Hello, trace: &'a Trace) -> SessionOptions<'a> {
        let (ehlo, timeouts, until) = (self.ehlo(hello), &self.timeouts, Instant::now() + self.timeouts.route);
        SessionOptions { ehlo, timeouts, until, domain: None, nat64: None, learning: HostLearning::Off, trace }
    }

    /// A session with one address, if it meets the policy.
    pub(crate) async fn try_peer(
        &self,
        peer: &Peer,
        policy: &TlsPolicy,
        options: &SessionOptions<'_>,
    ) -> Result<Ready, Reason> {
        let tcp = self.dialer.connect(peer.address, options.connect(peer.port)).await?;
        self.session(tcp, peer, policy, options).await
    }

    /// A session over a connection, if it meets the policy.
    async fn session(
        &self,
        tcp: Tcp,
        peer: &Peer,
        policy: &TlsPolicy,
        options: &SessionOptions<'_>,
    ) -> Result<Ready, Reason> {
        let greeted = greet(tcp, peer, policy, options).await?;
        let began = Instant::now();
        let (tls, shown) = self.tls.watched();
        let mut secured = greeted.secure(policy.clone(), &tls, options).await;
        if may_omit_sni(&secured, policy) {
            secured = self.without_sni(peer, policy, &tls, options).await;
        }
        let certificates = shown.chain().len();
        for (depth, line) in shown.lines().iter().enumerate() {
            options.trace.fact(format_args!("certificate {depth} of {certificates}: {line}"));
        }
        let proven = secured.as_ref().map(|ready| &ready.terms().channel);
        options.trace.since(began, StepKind::Tls(label(&proven)), format_args!("{}", account(peer, &proven)));
        if let Some((_, worth)) = proven.as_ref().ok().and_then(|channel| channel.protection()?.unverified()) {
            options.trace.unverified(worth.as_str(), format_args!("{peer}: {worth}"));
        }
        if let Ok(ready) = &secured {
            let offered = ready.terms().offers_require_tls();
            options.trace.require_tls(offered, format_args!("{peer}: REQUIRETLS offered: {offered}"));
        }
        let note = self.host_note(peer, policy, options);
        note.note(&secured, &shown.chain());
        match (secured, policy) {
            // RFC 7435 §1: this policy alone takes the protection that it can get. Cleartext needs a new connection.
            (Err(reason), TlsPolicy::May(_, permit)) if reason.is_about_tls() => {
                let greeted = self.greet_again(peer, policy, options).await?;
                options.trace.fact(format_args!("{peer}: going on in cleartext"));
                note.note_cleartext(&reason);
                Ok(greeted.in_cleartext(policy.clone(), permit.clone(), options))
            }
            (secured, _) => secured,
        }
    }

    /// A session over a new connection to a server that does not know its name, if it meets the policy.
    async fn without_sni(
        &self,
        peer: &Peer,
        policy: &TlsPolicy,
        tls: &Tls,
        options: &SessionOptions<'_>,
    ) -> Result<Ready, Reason> {
        options.trace.fact(format_args!("{peer}: it does not know its name (SNI); going on without"));
        let greeted = self.greet_again(peer, policy, options).await?;
        greeted.secure(policy.clone(), &tls.without_sni(), options).await
    }

    /// Greets a remote over a new connection.
    async fn greet_again(
        &self,
        peer: &Peer,
        policy: &TlsPolicy,
        options: &SessionOptions<'_>,
    ) -> Result<Greeted, Reason> {
        let tcp = self.dialer.connect(peer.address, options.connect(peer.port)).await?;
        greet(tcp, peer, policy, options).await
    }

    /// The name to give in EHLO: the client's own, to which its address resolves. RFC 5321 §4.1.1.1 wants a fully
    /// qualified name or an address literal, and some remotes insist; where the client's name is neither, it is ours.
    pub(crate) fn ehlo<'a>(&'a self, hello: &'a Hello) -> &'a str {
        let is_name = || hello.name().is_some_and(Name::is_fully_qualified);
        let is_public_literal = || hello.literal().is_some_and(|address| self.dialable.allows(address));
        match &self.ehlo_name {
            Some(name) => name.as_str(),
            None if is_name() => hello.as_str().strip_suffix('.').unwrap_or(hello.as_str()),
            None if is_public_literal() => hello.as_str(),
            None => self.hostname.as_str(),
        }
    }
}

/// Whether the name may be left out for a server that does not know it. RFC 7672 §8.1, RFC 8461 §4.2: a proof is about the
/// name, so that it stays where one is asked for.
fn may_omit_sni(secured: &Result<Ready, Reason>, policy: &TlsPolicy) -> bool {
    let asks_for_proof = match policy.demand() {
        KeyDemand::Record(_) | KeyDemand::Authority(_) => true,
        KeyDemand::Nothing(_) => false,
    };
    matches!(secured, Err(Reason::Tls(TlsFailure::NameNotKnown))) && !asks_for_proof
}

/// Greets a remote; from the first packet to the answer to EHLO it is one step of the account.
async fn greet(tcp: Tcp, peer: &Peer, policy: &TlsPolicy, options: &SessionOptions<'_>) -> Result<Greeted, Reason> {
    let began = tcp.began();
    let greeted = Greeted::greet(tcp, peer, policy, options).await;
    options.trace.since(began, StepKind::Connect(label(&greeted)), format_args!("{}", account(peer, &greeted)));
    greeted
}

/// The result of a step, in metrics.
fn label<T>(done: &Result<T, impl Borrow<Reason>>) -> &'static str {
    done.as_ref().map_or_else(|reason| reason.borrow().view().label.as_str(), |_| "ok")
}

/// The result of a step with a remote, for people.
fn account<T: fmt::Display>(peer: &Peer, done: &Result<T, impl Borrow<Reason>>) -> String {
    match done {
        Ok(done) => format!("{peer}: {done}"),
        Err(reason) => format!("{peer}: {}", reason.borrow()),
    }
}

/// The time that is left, at most `limit`, and never so little that a healthy remote could not answer.
pub fn remaining(until: Instant, limit: Duration) -> Duration {
    limit.min(until.saturating_duration_since(Instant::now()).max(Duration::from_secs(15)))
}
