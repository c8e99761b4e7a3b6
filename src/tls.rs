//! TLS with a remote server, and in [`server`] with clients: the handshake, and the proof that it gives (RFC 8446, RFC 5246,
//! RFC 7672 §8).
//!
//! This is the one place that replaces the certificate verifier of rustls. Three conditions must hold before a server is
//! "verified", and each can be lost in its own way:
//!
//! 1. The chain matches a TLSA record, or leads to a public CA and is for the server's name. [`crate::dane::verify`] and
//!    `pkix` decide this in the middle of the handshake, when the server has not yet proven that it holds the key.
//! 2. The handshake is signed by the key that matched. rustls' own signature check first reads the whole certificate
//!    and so refuses certificates that DANE-EE must accept (RFC 7671 §5.1); a check that always succeeds would let a
//!    server with a mere copy of the certificate pass. Here the signature is checked with the very octets that were
//!    matched.
//! 3. The handshake was a full one, and is complete. In a resumed session no certificate is shown and no verifier is
//!    asked, so there is no resumption, and no early data (RFC 7671 §3 would have the match checked again).
//!
//! [`Protection`] is the evidence. Only [`Tls::handshake`] makes one, from the verifier's notes. The time limit is the
//! caller's, and so is flushing.

mod p521;
mod pkix;
pub mod server;
mod verifier;

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, Error, InvalidMessage, NamedGroup, ProtocolVersion, RootCertStore, SupportedCipherSuite,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::pkix::Authorities;
use self::verifier::Verifier;
use crate::dane::mismatch::Mismatch;
use crate::dane::pkix::{PkixWorth, Vouched};
use crate::dane::tlsa::NoDane;
use crate::dane::verify::{Match, Sent};
use crate::name::Name;
use crate::policy::{ProtectionWord, TlsPolicy, VerifiedBy};
use crate::refusal::TlsFailure;
use crate::roots::Roots;

/// The TLS client: TLS 1.2 and 1.3 with AEAD suites and ephemeral keys (RFC 9325 §3.1, §4.2).
///
/// X25519MLKEM768 is offered, but its key share (1.2 KB, a second segment, which some old middleboxes swallow) is only
/// sent to a server that asks for it.
#[derive(Debug, Clone)]
pub struct Tls {
    /// All but the verifier; the placeholder in its place refuses every server.
    base: Arc<ClientConfig>,
    roots: Roots,
    shown: Option<ShownCertificates>,
    sni: Sni,
}

/// Whether a server hears which name is wanted (RFC 6066 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sni {
    Sent,
    Omitted,
}

/// The certificates that the last server showed, its own first, even if the handshake failed: for people to look at. No
/// decision rests on them.
#[derive(Debug, Clone, Default)]
pub struct ShownCertificates(Arc<Mutex<ShownNotes>>);

#[derive(Debug, Default)]
struct ShownNotes {
    chain: Chain,
    lines: Vec<String>,
}

/// Certificates, the server's own first.
pub type Chain = Arc<Vec<CertificateDer<'static>>>;

impl ShownCertificates {
    /// The certificates; none, if no handshake got so far.
    pub fn chain(&self) -> Chain {
        Arc::clone(&self.0.lock().chain)
    }

    /// A line about each of the first certificates: its subject, its names, its dates.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone()
    }

    fn note(&self, chain: &[CertificateDer<'_>], lines: Vec<String>) {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let noted = ShownNotes { chain: Arc::new(chain), lines };
        *self.0.lock() = noted;
    }
}

/// Whether post-quantum key exchange is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostQuantum {
    /// It is.
    Offer,
    /// Classical groups only, for networks that choke on the name of the group.
    Omit,
}

/// The TLS library lacks a feature that is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct SetupError(String);

/// A connection that has met its policy.
#[derive(Debug)]
pub struct Secured<S> {
    /// The stream inside TLS.
    pub stream: TlsStream<S>,
    /// The proof of the handshake.
    pub protection: Protection,
}

/// The proof of a completed handshake. Only a completed handshake can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    version: &'static str,
    cipher_suite: String,
    key_exchange: String,
    authentication: Authentication,
    verified_by: Option<VerifiedBy>,
}

/// The identity that the server has proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// The host was authenticated, and is known to serve the domain.
    Verified(KeyProof),
    /// The host was authenticated; that it serves the domain rests on an insecure MX record.
    HostVerified(KeyProof),
    /// None, for this reason. The worth of the certificate was noted, and nothing was decided by it.
    Unverified(NoDane, PkixWorth),
}

/// The evidence for the key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyProof {
    /// A TLSA record, of the DNS or of a rule.
    Record(Match),
    /// A public CA, for the server's name.
    Authority(Vouched),
}

impl KeyProof {
    /// The record that matched, if one did.
    pub fn record(&self) -> Option<&Match> {
        match self {
            Self::Record(matched) => Some(matched),
            Self::Authority(_) => None,
        }
    }
}

impl Protection {
    /// The TLSA record that matched, if one did.
    pub fn matched(&self) -> Option<&Match> {
        self.proof().and_then(KeyProof::record)
    }

    /// `TLSv1.2` or `TLSv1.3`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The cipher suite by its IANA name, such as `TLS_AES_256_GCM_SHA384`.
    pub fn cipher_suite(&self) -> &str {
        &self.cipher_suite
    }

    /// The key exchange group by its IANA name, such as `X25519`.
    pub fn key_exchange(&self) -> &str {
        &self.key_exchange
    }

    /// The identity that the server has proven.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// The word for it.
    pub fn word(&self) -> ProtectionWord {
        match self.authentication {
            Authentication::Verified(_) => ProtectionWord::Verified,
            Authentication::HostVerified(_) => ProtectionWord::HostVerified,
            Authentication::Unverified(..) => ProtectionWord::Encrypted,
        }
    }

    /// The authority for the server's name and key, unless there is none.
    pub fn verified_by(&self) -> Option<VerifiedBy> {
        self.verified_by
    }

    /// The proof of the server's key, if it has given one.
    pub fn proof(&self) -> Option<&KeyProof> {
        match &self.authentication {
            Authentication::Verified(proof) | Authentication::HostVerified(proof) => Some(proof),
            Authentication::Unverified(..) => None,
        }
    }

    /// The reason for which the server was not verified, and the worth of its certificate.
    pub fn unverified(&self) -> Option<(&NoDane, PkixWorth)> {
        match &self.authentication {
            Authentication::Verified(_) | Authentication::HostVerified(_) => None,
            Authentication::Unverified(why, worth) => Some((why, *worth)),
        }
    }
}

/// For people, in one line.
impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: {}", self.version, self.cipher_suite, self.key_exchange, self.word())?;
        match &self.authentication {
            Authentication::Verified(KeyProof::Record(found))
            | Authentication::HostVerified(KeyProof::Record(found)) => {
                write!(f, " by {} at depth {}", found.record, found.depth)?;
                found.warning.map_or(Ok(()), |warning| write!(f, " ({warning})"))
            }
            Authentication::Verified(KeyProof::Authority(vouched))
            | Authentication::HostVerified(KeyProof::Authority(vouched)) => {
                write!(f, " by the CA \"{}\" for its name", vouched.authority)
            }
            Authentication::Unverified(why, worth) => {
                write!(f, ", not verified: {why}; {worth}")
            }
        }
    }
}

impl Tls {
    /// Sets up TLS.
    ///
    /// # Errors
    /// If the library lacks a protocol version, which no build of danelaw does.
    pub fn new(post_quantum: PostQuantum) -> Result<Self, SetupError> {
        let mut provider = aws_lc_rs::default_provider();
        // RFC 9325 §4.2 has it among the recommended ones, and it costs the least.
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).ends_with("_AES_128_GCM_SHA256"));
        match post_quantum {
            PostQuantum::Offer => {}
            PostQuantum::Omit => provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768),
        }
        provider.kx_groups.push(&p521::P521);
        let mut base = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| SetupError(error.to_string()))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        base.resumption = Resumption::disabled();
        base.enable_early_data = false;
        Ok(Self { base: Arc::new(base), roots: Roots::default(), shown: None, sni: Sni::Sent })
    }

    /// The same TLS with these authorities. Without them no public authority vouches for any server.
    #[must_use]
    pub fn with_roots(self, roots: Roots) -> Self {
        Self { roots, ..self }
    }

    /// The authorities.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The same TLS, and a view of the certificates that a server shows. For one handshake at a time. A `Tls` that is
    /// watched already gives the same view.
    pub fn watched(&self) -> (Self, ShownCertificates) {
        let shown = self.shown.clone().unwrap_or_default();
        (Self { shown: Some(shown.clone()), ..self.clone() }, shown)
    }

    /// The same TLS without SNI, for a server that does not know its own name (RFC 6066 §3). Its policy must ask for no proof. Its
    /// certificates are [`PkixWorth::SniRefused`].
    #[must_use]
    pub fn without_sni(&self) -> Self {
        Self { sni: Sni::Omitted, ..self.clone() }
    }

    /// The worth of a server's certificates to public CAs under this name, where the policy did not ask for it.
    pub fn worth(&self, chain: &[CertificateDer<'_>], name: &Name) -> PkixWorth {
        let algorithms = self.base.crypto_provider().signature_verification_algorithms.all;
        let authorities = Authorities { roots: self.roots.store(), algorithms, now: UnixTime::now() };
        authorities.worth(chain, &Sent::read(chain), name)
    }

    /// Shakes hands over a connection on which the server has just said `220` to STARTTLS, and holds it to the policy.
    ///
    /// # Errors
    /// Why the policy is not met. The connection is of no further use then.
    pub async fn handshake<S>(&self, stream: S, policy: &TlsPolicy) -> Result<Secured<S>, TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // A verifier for each connection: its notes can only be about this one.
        let verifier = Arc::new(Verifier::new(self, policy));
        let mut config = ClientConfig::clone(&self.base);
        config.dangerous().set_certificate_verifier(Arc::<Verifier>::clone(&verifier));
        let name = sni(policy.server_name());
        config.enable_sni = self.sni == Sni::Sent && matches!(name, ServerName::DnsName(_));
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => {
                let protection = verifier.take_findings().protection(stream.get_ref().1, policy)?;
                Ok(Secured { stream, protection })
            }
            // rustls reports a verifier's refusal as an alert code; the reason itself is in the verifier's notes.
            Err(error) => Err(verifier.take_findings().failure.unwrap_or_else(|| classify(&error))),
        }
    }
}

/// The SNI (RFC 7672 §8.1). For a name that rustls would not send an address stands in, and no SNI is sent: our
/// verifier goes by its own names and never by this one.
fn sni(name: &Name) -> ServerName<'static> {
    ServerName::try_from(name.as_str())
        .map(|name| name.to_owned())
        .unwrap_or_else(|_| ServerName::from(std::net::Ipv4Addr::UNSPECIFIED))
}

/// The word for a protocol version; none for one that is never offered.
fn version_word(version: Option<ProtocolVersion>) -> Option<&'static str> {
    match version? {
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        _ => None,
    }
}

/// The IANA name of a cipher suite. rustls says TLS13_ where IANA says TLS_.
fn iana_name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// The failure of TLS that ended a connection, if that was TLS itself and not the end of the connection: an alert, or
/// octets that are no TLS. Of use where a handshake may still fail at the other end.
pub fn failure_of(error: &io::Error) -> Option<TlsFailure> {
    error.get_ref().is_some_and(|inner| inner.is::<Error>()).then(|| classify(error))
}

/// Reads a failed handshake. Alerts before the handshake is complete can be forged.
fn classify(error: &io::Error) -> TlsFailure {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return TlsFailure::Closed(error.to_string());
    };
    match error {
        Error::AlertReceived(
            alert @ (AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity),
        ) => TlsFailure::NoSharedParameters(format!("the server sent the alert {alert:?}")),
        Error::PeerIncompatible(what) => TlsFailure::NoSharedParameters(format!("{what:?}")),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => TlsFailure::NameNotKnown,
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            TlsFailure::Alert("CertificateRequired: it takes mail from clients with a certificate alone".into())
        }
        Error::AlertReceived(alert) => TlsFailure::Alert(format!("{alert:?}")),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFailure::Injected,
        // Certificates, in all likelihood: no other message is large.
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            TlsFailure::Broken("the server sent a handshake message of more than 64 KB".into())
        }
        Error::NoCertificatesPresented => TlsFailure::Mismatch(Mismatch::NoCertificate),
        error => TlsFailure::Broken(error.to_string()),
    }
}

fn broken(error: Error) -> TlsFailure {
    TlsFailure::Broken(error.to_string())
}
