//! HTTPS to a host by its name: the address that is dialled is the address that was looked up and judged, and no other.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::exchange::{HttpError, HttpLimits, HttpPost, HttpResponse, get, post};
use crate::dns::by_nat64;
use crate::dns::{Failure, Families, Finality, HostLookup, Resolver, Rtype};
use crate::name::Name;
use crate::reserved::Dialable;
use crate::roots::{self, Roots};
use crate::scarce::Scarcity;

/// How many addresses of a host are dialled, one after the other.
const MAX_ADDRESSES: usize = 4;
/// How long each of them but the last may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// The parts of an HTTPS client.
#[derive(Debug, Clone)]
pub struct HttpsPart {
    /// The addresses that may be dialled.
    pub dialable: Dialable,
    /// The authorities that may vouch for hosts.
    pub roots: Roots,
    /// The port of all hosts.
    pub port: u16,
}

/// The certificates by which hosts have proven their names, in DER.
#[derive(Debug, Clone, Default)]
pub struct HostCertificates(Arc<Mutex<HashMap<Name, Vec<u8>>>>);

impl HostCertificates {
    /// The certificate of a host, if it has proven its name.
    pub fn of(&self, host: &Name) -> Option<Vec<u8>> {
        self.0.lock().get(host).cloned()
    }

    fn note(&self, host: &Name, session: &TlsStream<TcpStream>) {
        if let Some([own, ..]) = session.get_ref().1.peer_certificates() {
            self.0.lock().insert(host.clone(), own.to_vec());
        }
    }
}

/// An HTTPS client that resolves with danelaw's own resolver.
#[derive(Debug)]
pub struct HttpsClient<R> {
    dns: R,
    part: HttpsPart,
    /// Where certificates are noted, if they are.
    shown: Option<HostCertificates>,
    /// An error if the library lacks a protocol version, which no build of danelaw does.
    tls: Result<Arc<ClientConfig>, String>,
}

/// Why there is no answer of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpsError {
    /// The lookup of its addresses failed.
    #[error("{0}")]
    Dns(#[from] Failure),
    /// It has no address.
    #[error("{0} has no address")]
    NoAddress(Name),
    /// It has no address of the families that connections are made to.
    #[error("{0} has no address of the family in remote.families (\"{1}\")")]
    NotInFamily(Name, Families),
    /// Each address is one where no public host can be.
    #[error("{0} is at {1}, where no public host can be")]
    Reserved(Name, IpAddr),
    /// This host has no socket left to dial with.
    #[error("{0}")]
    Scarce(#[from] Scarcity),
    /// No address accepts a connection.
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, String),
    /// There is no TLS session for a reason other than the certificate.
    #[error("no TLS session with {0}: {1}")]
    Tls(Name, String),
    /// The certificate does not prove the name (RFC 9110 §4.3.4).
    #[error("the certificate of {0} is not to be trusted: {1}")]
    Certificate(Name, String),
    /// There is no whole answer within the limits.
    #[error("{0}")]
    Http(#[from] HttpError),
}

impl<R: Resolver> HttpsClient<R> {
    /// A client of these parts.
    pub fn new(dns: R, part: HttpsPart) -> Self {
        let tls = roots::client_tls(Arc::clone(part.roots.store())).map_err(|error| error.to_string());
        Self { dns, part, shown: None, tls }
    }

    /// The same client, and a view of the certificates of all hosts that it reaches.
    pub fn watched(self) -> (Self, HostCertificates) {
        let shown = HostCertificates::default();
        (Self { shown: Some(shown.clone()), ..self }, shown)
    }

    /// Its resolver.
    pub fn dns(&self) -> &R {
        &self.dns
    }

    /// Asks a host for a path. The answer may have any status.
    ///
    /// # Errors
    /// There is no answer within the limits.
    pub async fn get(&self, host: &Name, path: &str, limits: HttpLimits) -> Result<HttpResponse, HttpsError> {
        let stream = self.connect(host).await?;
        Ok(get(stream, host.as_str(), path, limits).await?)
    }

    /// Sends content to a path of a host. The answer may have any status.
    ///
    /// # Errors
    /// There is no answer within the limits.
    pub async fn post(
        &self,
        host: &Name,
        content: HttpPost<'_>,
        limits: HttpLimits,
    ) -> Result<HttpResponse, HttpsError> {
        let stream = self.connect(host).await?;
        Ok(post(stream, host.as_str(), content, limits).await?)
    }

    /// A TLS session with a host, which has proven its name.
    async fn connect(&self, host: &Name) -> Result<TlsStream<TcpStream>, HttpsError> {
        let server_name = ServerName::try_from(host.as_str().to_owned());
        let server_name = server_name.map_err(|error| HttpsError::Tls(host.clone(), error.to_string()))?;
        let tls = self.tls.clone().map_err(|error| HttpsError::Tls(host.clone(), error))?;
        let tcp = self.dial(host).await?;
        let tls = TlsConnector::from(tls).connect(server_name, tcp).await;
        let session = tls.map_err(|error| no_session(host, &error))?;
        if let Some(shown) = &self.shown {
            shown.note(host, &session);
        }
        Ok(session)
    }

    /// A connection to the first address that accepts one. Each address has passed the filter; the name is not looked up
    /// again in between, so that no other answer of the DNS can take its place. Where IPv4 is reached by NAT64, the address
    /// inside is judged, and the translator's is dialled, as for mail.
    async fn dial(&self, host: &Name) -> Result<TcpStream, HttpsError> {
        let found = match self.dns.host(host).await? {
            HostLookup::Found(found) => found,
            HostLookup::NoAddress(finality) => return Err(by_dns(HttpsError::NoAddress(host.clone()), host, finality)),
            HostLookup::NotInFamily(families) => return Err(HttpsError::NotInFamily(host.clone(), families)),
        };
        let prefix = self.dns.nat64().await?;
        let addresses = match prefix {
            Some(prefix) => by_nat64::identities(found.addresses, prefix),
            None => found.addresses,
        };
        let (allowed, reserved): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| self.part.dialable.allows(*address));
        let none = match reserved.first() {
            Some(address) => HttpsError::Reserved(host.clone(), *address),
            None => HttpsError::NoAddress(host.clone()),
        };
        let mut error = by_dns(none, host, found.finality);
        let last = allowed.len().min(MAX_ADDRESSES);
        for (place, ip) in allowed.into_iter().take(MAX_ADDRESSES).enumerate() {
            let address = SocketAddr::new(by_nat64::connect_address(ip, prefix), self.part.port);
            // The caller's limit holds for the last one.
            let patience = if place + 1 == last { Duration::MAX } else { CONNECT };
            match tokio::time::timeout(patience, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => {
                    error = Scarcity::of(&why)
                        .map_or_else(|| HttpsError::Connect(address, why.to_string()), HttpsError::Scarce);
                }
                Err(_) => error = HttpsError::Connect(address, "no answer in time".to_owned()),
            }
        }
        Err(error)
    }
}

/// An error because of answers of the DNS about a host. Where they are not final, it is a lookup that failed.
fn by_dns(error: HttpsError, host: &Name, finality: Finality) -> HttpsError {
    finality.failure(host, Rtype::A).map_or(error, HttpsError::Dns)
}

fn no_session(host: &Name, error: &io::Error) -> HttpsError {
    let is_certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(|error| {
        matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    });
    let text = error.to_string();
    if is_certificate { HttpsError::Certificate(host.clone(), text) } else { HttpsError::Tls(host.clone(), text) }
}
