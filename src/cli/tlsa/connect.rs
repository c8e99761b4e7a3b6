//! A live server: the same greeting, STARTTLS and handshake as before every mail, and then QUIT (RFC 3207).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use tokio::time::Instant;

use super::BadInput;
use super::judge::{Judgement, Records, Verdict};
use crate::cli::{Settings, run};
use crate::config::Config;
use crate::dane::tlsa::NoDane;
use crate::dane::verify::{Expectation, References};
use crate::dns::{HostLookup, Resolver};
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Peer, Reason, Stage};
use crate::tls::{Authentication, PostQuantum, Protection, Tls, TlsFailure};
use crate::trace::Trace;
use crate::upstream::starttls::{Greeted, SessionOptions};
use crate::upstream::tcp::{Source, Tcp};
use crate::upstream::verified::{Channel, Ready};

/// A host and a port.
#[derive(Debug, Clone)]
pub(super) struct Target {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone)]
enum Host {
    Name(Name),
    Address(IpAddr),
}

impl Target {
    /// The host's name, if it has one here.
    pub(super) fn name(&self) -> Option<&Name> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Address(address.ip()), port: address.port() });
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self { host: Host::Address(address), port: 25 });
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, 25),
            Some((host, port)) => (host, port.parse().map_err(|_| format!("expected a port and not {port:?}"))?),
        };
        let name =
            Name::parse(host).map_err(|error| format!("expected HOST:PORT, and {host:?} is no host: {error}"))?;
        Ok(Self { host: Host::Name(name), port })
    }
}

/// Asks the server.
pub(super) fn judge(
    target: &Target,
    records: Records,
    names: References,
    settings: &Settings,
) -> Result<Judgement, BadInput> {
    let bad = |error: &dyn std::fmt::Display| BadInput(error.to_string());
    let config = settings.load().map_err(|error| bad(&error))?;
    let policy = match records.usable.clone() {
        Some(usable) => TlsPolicy::Dane(Arc::new(Expectation { usable, references: names.clone() })),
        // RFC 7672 §2.2: TLS is mandatory all the same.
        None => TlsPolicy::Encrypt(names.names()[0].clone(), NoDane::UnusableTlsa(records.reasons())),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| bad(&error))?;
    let asked = runtime.block_on(ask(target, &policy, &config))?;
    let mut session: Vec<_> = asked.server.iter().map(|server| ("server", server.to_string())).collect();
    let verdict = match asked.outcome {
        Ok(protection) => {
            session.push(("tls_version", protection.version().into()));
            session.push(("cipher", protection.cipher_suite().into()));
            match protection.authentication() {
                Authentication::Verified(found) | Authentication::HostVerified(found) => Verdict::Match(found.clone()),
                Authentication::Unverified(_) => Verdict::Unusable,
            }
        }
        Err(reason) => refused(&reason),
    };
    Ok(Judgement { records, verdict, session })
}

/// Whether a failure says that this is the wrong server, or only that there was no session.
fn refused(reason: &Reason) -> Verdict {
    let (label, text) = (reason.view().label, reason.to_string());
    let Reason::Tls(failure) = reason else { return Verdict::NoSession(label, text) };
    match failure {
        TlsFailure::Mismatch(_) | TlsFailure::WrongKey | TlsFailure::SmallKey(_) | TlsFailure::UnsupportedKey => {
            Verdict::Mismatch(label, text)
        }
        TlsFailure::NoSharedParameters(_)
        | TlsFailure::Injected
        | TlsFailure::Alert(_)
        | TlsFailure::Closed(_)
        | TlsFailure::Broken(_) => Verdict::NoSession(label, text),
    }
}

/// What the last address that was tried has shown.
struct Asked {
    server: Option<SocketAddr>,
    outcome: Result<Protection, Reason>,
}

/// Dials the addresses in turn until one takes the connection: what that one shows is the verdict.
async fn ask(target: &Target, policy: &TlsPolicy, config: &Config) -> Result<Asked, BadInput> {
    let tls = Tls::new(PostQuantum::Offer).map_err(|error| BadInput(error.to_string()))?;
    let hostname = match &config.ehlo_name {
        Some(name) => name.clone(),
        None => run::hostname(config).map_err(|failed| BadInput(failed.to_string()))?,
    };
    let trace = Trace::default();
    let source = Source { v4: config.remote.source_ipv4, v6: config.remote.source_ipv6 };
    let until = Instant::now() + config.timeouts.route;
    let options =
        SessionOptions { ehlo: hostname.as_str(), timeouts: &config.timeouts, until, domain: None, trace: &trace };
    let mut asked = Asked { server: None, outcome: Err(Reason::NoAddress) };
    let addresses = match addresses(target, config).await? {
        Ok(addresses) => addresses,
        Err(reason) => return Ok(Asked { server: None, outcome: Err(reason) }),
    };
    for address in addresses {
        let exchange = target.name().unwrap_or(policy.server_name()).clone();
        let peer = Peer { exchange, address };
        let server = SocketAddr::new(address, target.port);
        let outcome = async {
            let tcp = Tcp::connect(server, source, config.timeouts.connect).await?;
            let greeted = Greeted::greet(tcp, &peer, policy, &options).await?;
            proven(greeted.secure(policy.clone(), &tls, &options).await?).await
        };
        let outcome = outcome.await;
        let unreachable = matches!(outcome, Err(Reason::Connect(_) | Reason::Timeout { stage: Stage::Connect, .. }));
        asked = Asked { server: Some(server), outcome };
        if !unreachable {
            break;
        }
    }
    Ok(asked)
}

/// What the session has proven; it ends here.
async fn proven(ready: Ready) -> Result<Protection, Reason> {
    let proven = match &ready.terms().channel {
        Channel::Secured(protection) => Ok(protection.clone()),
        Channel::Cleartext(_) => Err(Reason::StartTlsMissing),
    };
    // Whether the server answers QUIT changes nothing; but it is to hear it.
    let _ = ready.quit().await;
    proven
}

/// The addresses to dial: out of validated DNS answers, as for mail.
async fn addresses(target: &Target, config: &Config) -> Result<Result<Vec<IpAddr>, Reason>, BadInput> {
    let name = match &target.host {
        Host::Address(address) => return Ok(Ok(vec![*address])),
        Host::Name(name) => name,
    };
    let dns = run::resolver(config).map_err(|failed| BadInput(failed.to_string()))?;
    Ok(match dns.host(name).await {
        Ok(HostLookup::Found(host)) => Ok(host.addresses),
        Ok(HostLookup::NoAddress) => Err(Reason::NoAddress),
        Err(failure) => Err(failure.into()),
    })
}
