//! A live server: the same greeting, STARTTLS and handshake as before every mail, and then QUIT (RFC 3207).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use tokio::time::Instant;

use super::BadInput;
use super::judge::{Judgement, Records, TlsaVerdict};
use crate::cli::{ConfigFlags, run};
use crate::config::Config;
use crate::dane::tlsa::NoDane;
use crate::dane::verify::{Expectation, References};
use crate::dns::by_nat64;
use crate::dns::{HostLookup, Resolver};
use crate::name::Name;
use crate::policy::TlsPolicy;
use crate::refusal::{Peer, Reason, Stage, TlsFailure};
use crate::tls::{PostQuantum, Protection, Tls};
use crate::trace::Trace;
use crate::upstream::by_dns;
use crate::upstream::host_session::HostLearning;
use crate::upstream::starttls::{Greeted, SessionOptions};
use crate::upstream::tcp::{Source, Tcp};
use crate::upstream::timeouts::Timeouts;
use crate::upstream::verified::{Channel, Ready};

/// A host and a port.
#[derive(Debug, Clone)]
pub(super) struct Target {
    host: TargetHost,
    port: u16,
}

#[derive(Debug, Clone)]
enum TargetHost {
    Name(Name),
    Address(IpAddr),
}

impl Target {
    /// The host's name, if it has one here.
    pub(super) fn name(&self) -> Option<&Name> {
        match &self.host {
            TargetHost::Name(name) => Some(name),
            TargetHost::Address(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: TargetHost::Address(address.ip()), port: address.port() });
        }
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(Self { host: TargetHost::Address(address), port: 25 });
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, 25),
            Some((host, port)) => (host, port.parse().map_err(|_| format!("expected a port and not {port:?}"))?),
        };
        let name =
            Name::parse(host).map_err(|error| format!("expected HOST:PORT, and {host:?} is no host: {error}"))?;
        Ok(Self { host: TargetHost::Name(name), port })
    }
}

/// Asks the server.
pub(super) fn judge(
    target: &Target,
    records: Records,
    names: References,
    settings: &ConfigFlags,
) -> Result<Judgement, BadInput> {
    let bad = |error: &dyn std::fmt::Display| BadInput(error.to_string());
    let config = settings.load().map_err(|error| bad(&error))?.config;
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
            match protection.matched() {
                Some(found) => TlsaVerdict::Match(found.clone()),
                None => TlsaVerdict::Unusable,
            }
        }
        Err(reason) => refused(&reason),
    };
    Ok(Judgement { records, verdict, session })
}

/// Whether a failure says that this is the wrong server, or only that there was no session.
fn refused(reason: &Reason) -> TlsaVerdict {
    let (label, text) = (reason.view().label.as_str(), reason.to_string());
    let Reason::Tls(failure) = reason else { return TlsaVerdict::NoSession(label, text) };
    match failure {
        TlsFailure::Mismatch(_) | TlsFailure::WrongKey | TlsFailure::SmallKey(_) | TlsFailure::UnsupportedKey => {
            TlsaVerdict::Mismatch(label, text)
        }
        TlsFailure::NoSharedParameters(_)
        | TlsFailure::Injected
        | TlsFailure::NameNotKnown
        | TlsFailure::Alert(_)
        | TlsFailure::Closed(_)
        | TlsFailure::Broken(_) => TlsaVerdict::NoSession(label, text),
    }
}

/// The result at the last address that was tried.
struct SessionResult {
    server: Option<SocketAddr>,
    outcome: Result<Arc<Protection>, Reason>,
}

/// Dials the addresses in turn until one takes the connection: the session with that one gives the verdict.
async fn ask(target: &Target, policy: &TlsPolicy, config: &Config) -> Result<SessionResult, BadInput> {
    let tls = Tls::new(PostQuantum::Offer).map_err(|error| BadInput(error.to_string()))?;
    let hostname = match &config.ehlo_name {
        Some(name) => name.clone(),
        None => run::hostname(config).map_err(|failed| BadInput(failed.to_string()))?,
    };
    let (trace, source) = (Trace::default(), Source::from(config));
    let timeouts = Arc::new(Timeouts::from(config));
    let until = Instant::now() + timeouts.route;
    let (ehlo, learning) = (hostname.as_str(), HostLearning::Off);
    let options =
        SessionOptions { ehlo, timeouts: &timeouts, until, domain: None, nat64: None, learning, trace: &trace };
    let mut asked = SessionResult { server: None, outcome: Err(Reason::NoAddress) };
    let addresses = match addresses(target, config).await? {
        Ok(addresses) => addresses,
        Err(reason) => return Ok(SessionResult { server: None, outcome: Err(reason) }),
    };
    for address in addresses {
        let exchange = target.name().unwrap_or(policy.server_name()).clone();
        let peer = Peer { exchange, address, port: None };
        let server = SocketAddr::new(address, target.port);
        let outcome = async {
            let tcp = Tcp::connect(server, source, timeouts.connect).await?;
            let greeted = Greeted::greet(tcp, &peer, policy, &options).await?;
            proven(greeted.secure(policy.clone(), &tls, &options).await?).await
        };
        let outcome = outcome.await;
        let unreachable = matches!(outcome, Err(Reason::Connect(_) | Reason::Timeout { stage: Stage::Connect, .. }));
        asked = SessionResult { server: Some(server), outcome };
        if !unreachable {
            break;
        }
    }
    Ok(asked)
}

/// The proof of the session; the session ends here.
async fn proven(ready: Ready) -> Result<Arc<Protection>, Reason> {
    let proven = match &ready.terms().channel {
        Channel::Secured(protection) => Ok(Arc::clone(protection)),
        Channel::Cleartext(_) => Err(Reason::StartTlsMissing),
    };
    // The server's answer to QUIT does not matter; but the server is to get the command.
    let _ = ready.quit().await;
    proven
}

/// The addresses to dial: out of validated DNS answers, as for mail.
async fn addresses(target: &Target, config: &Config) -> Result<Result<Vec<IpAddr>, Reason>, BadInput> {
    let name = match &target.host {
        TargetHost::Address(address) => return Ok(Ok(vec![*address])),
        TargetHost::Name(name) => name,
    };
    let dns = run::tested_resolver(config).await.map_err(|failed| BadInput(failed.to_string()))?;
    Ok(addresses_of(name, &dns).await)
}

async fn addresses_of(name: &Name, dns: &impl Resolver) -> Result<Vec<IpAddr>, Reason> {
    match dns.host(name).await? {
        HostLookup::Found(host) => {
            let prefix = dns.nat64().await?;
            Ok(host.addresses.into_iter().map(|address| by_nat64::connect_address(address, prefix)).collect())
        }
        HostLookup::NoAddress(finality) => Err(by_dns(Reason::NoAddress, name, finality)),
        HostLookup::NotInFamily(families) => Err(Reason::NotInFamily(families)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Failure, Finality, Lookup, Mx, RawTlsa, RawTxt};

    /// A resolver that knows of no address.
    struct WithoutAddress(Finality);

    impl Resolver for WithoutAddress {
        async fn mx(&self, _: &Name) -> Result<Lookup<Mx>, Failure> {
            unimplemented!()
        }

        async fn host(&self, _: &Name) -> Result<HostLookup, Failure> {
            Ok(HostLookup::NoAddress(self.0))
        }

        async fn tlsa(&self, _: &Name) -> Result<Lookup<RawTlsa>, Failure> {
            unimplemented!()
        }

        async fn txt(&self, _: &Name) -> Result<Lookup<RawTxt>, Failure> {
            unimplemented!()
        }
    }

    #[tokio::test]
    async fn a26_a_no_of_the_fallback_is_a_failed_lookup() {
        let name = Name::parse("mx.example").unwrap();
        for (finality, label) in [(Finality::Final, "no-address"), (Finality::Provisional, "address-lookup-failed")] {
            let reason = addresses_of(&name, &WithoutAddress(finality)).await.unwrap_err();
            assert_eq!(reason.view().label.as_str(), label, "{reason}");
        }
    }
}
