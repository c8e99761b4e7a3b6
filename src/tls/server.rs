//! TLS with clients: the certificate of a listener, and the certificates by which clients may be known (RFC 3207, RFC 8314 §3).
//!
//! A client's certificate is a way onto the allow-list and nothing more, so that the handshake fails for none of them: a client
//! whose address is allowed may show any certificate, or none. The handshake proves that the client holds the key; afterwards
//! the certificate is judged, and [`ClientCertificate`] is the verdict. Sessions are never resumed, so each one is judged anew.
//!
//! Nothing here is used towards remotes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use webpki::{EndEntityCert, KeyUsage};

use super::{iana_name, version_word};
use crate::dane::verify::Sent;
use crate::excerpt;
use crate::operator_file::SETTINGS;
use crate::roots::{self, CaFileError};
use crate::words::words;

/// The stream inside TLS with a client.
pub type ClientStream<S> = tokio_rustls::server::TlsStream<S>;

/// The most certificates above a client's own. The search for a path tries their permutations: a stranger's dozen would stop the
/// thread for a good part of a second.
const MAX_AUTHORITIES: usize = 4;
/// The most characters of a reason that are told.
const MAX_REASON: usize = 200;

/// The files and digests of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, and those of its authorities.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients.
    pub client_ca: Option<PathBuf>,
    /// The SHA2-256 digests of clients' keys.
    pub client_keys: Vec<[u8; 32]>,
}

/// Why a listener has no TLS, in words without the [key](Self::key) to change.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The file of the certificate, or of the authorities.
    #[error("{error}")]
    Certificates {
        /// The key in the configuration.
        key: &'static str,
        /// The fault.
        error: CaFileError,
    },
    /// The file of the key cannot be read.
    #[error("{}", roots::unreadable(path, source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds no private key.
    #[error("{} has no private key in PEM form: {why}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// The key is that of another certificate.
    #[error(
        "{} does not belong to the first certificate in {}, which is \"{subject}\"; the server's own certificate \
         comes first",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
        /// The subject of the certificate.
        subject: String,
    },
    /// The library does not take them.
    #[error("{} and {} cannot be used: {why}", certificate.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The fault.
        why: String,
    },
}

impl ServerTlsError {
    /// The key in the configuration.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Certificates { key, .. } => key,
            Self::Unreadable { .. } | Self::NoKey { .. } | Self::Mismatch { .. } => "listener.key",
            Self::Unusable { .. } => "listener.certificate",
        }
    }
}

/// The TLS server of one listener: TLS 1.2 and 1.3.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    clients: Arc<KnownClients>,
}

/// TLS with the clients of a listener.
#[derive(Debug, Clone)]
pub enum ListenerSecurity {
    /// None.
    Clear,
    /// STARTTLS is offered.
    Starttls(ServerTls),
    /// STARTTLS is offered, and mail is taken behind it alone.
    Required(ServerTls),
    /// From the first octet.
    Implicit(ServerTls),
}

impl ListenerSecurity {
    /// Its TLS server, if it has one.
    pub fn server(&self) -> Option<&ServerTls> {
        match self {
            Self::Clear => None,
            Self::Starttls(server) | Self::Required(server) | Self::Implicit(server) => Some(server),
        }
    }

    /// Whether a client that is not on the allow-list may show a certificate.
    pub fn knows_clients(&self) -> bool {
        self.server().is_some_and(ServerTls::knows_clients)
    }
}

/// The certificates by which clients are known.
#[derive(Debug)]
struct KnownClients {
    authorities: RootCertStore,
    keys: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

/// A connection with a client under TLS.
#[derive(Debug)]
pub struct SecuredClient<S> {
    /// The stream inside TLS.
    pub stream: ClientStream<S>,
    /// The facts of the handshake.
    pub tls: ClientTls,
}

/// The facts of a handshake with a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher_suite: String,
    /// The verdict on its certificate.
    pub certificate: ClientCertificate,
}

/// The verdict on the certificate of a client, which has shown that it holds the key.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum ClientCertificate {
    /// The listener does not ask for one.
    NotAsked,
    /// It has shown none.
    #[strum(serialize = "none")]
    Absent,
    /// It opens the listener.
    Verified,
    /// It does not, for this reason.
    #[strum(serialize = "not-verified")]
    Unverified(String),
}

words!(&ClientCertificate);

impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unverified(why) => write!(f, "{}: {why}", self.as_str()),
            Self::NotAsked | Self::Absent | Self::Verified => f.write_str(self.as_str()),
        }
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is of no use, or the key is not that of the certificate.
    pub fn load(files: &ServerFiles) -> Result<Self, ServerTlsError> {
        let at = |key| move |error| ServerTlsError::Certificates { key, error };
        let chain = roots::certificates(&files.certificate).map_err(at("listener.certificate"))?;
        let key = private_key(&files.key)?;
        let mut authorities = RootCertStore::empty();
        if let Some(path) = &files.client_ca {
            authorities = roots::authorities(path).map_err(at("listener.client_ca"))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = KnownClients { authorities, keys: files.client_keys.clone(), provider };
        let clients = Arc::new(clients);
        let config = server_config(&clients, chain.clone(), key).map_err(|error| unusable(files, &chain, &error))?;
        Ok(Self { config: Arc::new(config), clients })
    }

    fn knows_clients(&self) -> bool {
        self.clients.are_any()
    }

    /// Shakes hands with a client. The time limit is the caller's.
    ///
    /// # Errors
    /// The handshake fails. The connection is of no further use then.
    pub async fn accept<S>(&self, stream: S) -> io::Result<SecuredClient<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let session = stream.get_ref().1;
        let unknown = || io::Error::other("the parameters of the TLS session are not known");
        let version = version_word(session.protocol_version()).ok_or_else(unknown)?;
        let cipher_suite = iana_name(session.negotiated_cipher_suite().ok_or_else(unknown)?);
        let certificate = self.judge(&stream);
        Ok(SecuredClient { stream, tls: ClientTls { version, cipher_suite, certificate } })
    }

    /// The verdict on the certificate of a client that has shaken hands, with this listener or with the same one before a reload.
    pub fn judge<S>(&self, stream: &ClientStream<S>) -> ClientCertificate {
        self.clients.judge(stream.get_ref().1.peer_certificates().unwrap_or_default(), UnixTime::now())
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServerTlsError> {
    let text = SETTINGS.read(path).map_err(|source| ServerTlsError::Unreadable { path: path.to_owned(), source })?;
    let no_key = |error: rustls::pki_types::pem::Error| ServerTlsError::NoKey {
        path: path.to_owned(),
        why: match error {
            rustls::pki_types::pem::Error::NoItemsFound => "there is none in it, or it is encrypted".to_owned(),
            error => error.to_string(),
        },
    };
    PrivateKeyDer::from_pem_slice(&text).map_err(no_key)
}

fn server_config(
    clients: &Arc<KnownClients>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&clients.provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients.are_any() {
        true => builder.with_client_cert_verifier(Arc::new(HoldsKey(Arc::clone(&clients.provider)))),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn unusable(files: &ServerFiles, chain: &[CertificateDer<'_>], error: &Error) -> ServerTlsError {
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let subject = chain.first().and_then(|own| crate::dane::publish::subject(own));
            ServerTlsError::Mismatch { certificate, key, subject: subject.unwrap_or_default() }
        }
        error => ServerTlsError::Unusable { certificate, key, why: error.to_string() },
    }
}

impl KnownClients {
    fn are_any(&self) -> bool {
        !self.authorities.is_empty() || !self.keys.is_empty()
    }

    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> ClientCertificate {
        if !self.are_any() {
            return ClientCertificate::NotAsked;
        }
        let Some((own, others)) = chain.split_first() else { return ClientCertificate::Absent };
        let digest = Sent::read(chain).key().map(Sha256::digest);
        if digest.is_some_and(|digest| self.keys.iter().any(|key| key[..] == digest[..])) {
            return ClientCertificate::Verified;
        }
        if others.len() > MAX_AUTHORITIES {
            return ClientCertificate::Unverified(format!("its chain has more than {MAX_AUTHORITIES} authorities"));
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let usage = KeyUsage::client_auth();
        let checked = EndEntityCert::try_from(own).and_then(|own| {
            own.verify_for_usage(algorithms, &self.authorities.roots, others, now, usage, None, None).map(drop)
        });
        match checked {
            Ok(()) => ClientCertificate::Verified,
            Err(error) => ClientCertificate::Unverified(reason(&error)),
        }
    }
}

/// Why a certificate is not that of a known client (RFC 5280 §6.1).
fn reason(error: &webpki::Error) -> String {
    let text = match error {
        webpki::Error::CertExpired { .. } => "it has expired, or that of an authority above it",
        webpki::Error::CertNotValidYet { .. } => "it is not valid yet, or that of an authority above it",
        webpki::Error::UnknownIssuer => "no CA of client_ca has issued it, and client_keys does not list its key",
        webpki::Error::RequiredEkuNotFoundContext(_) => "its extended key usage lacks clientAuth",
        webpki::Error::UnsupportedCertVersion => "it has not version 3",
        webpki::Error::CaUsedAsEndEntity => "it is that of an authority",
        error => return excerpt::cut(format!("{error:?}"), MAX_REASON),
    };
    text.to_owned()
}

/// It takes each certificate, and the proof of its key: the certificate is judged when the handshake is complete.
#[derive(Debug)]
struct HoldsKey(Arc<CryptoProvider>);

impl ClientCertVerifier for HoldsKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client that has no certificate of the named authorities would show none at all, and the log could not name the
    /// one that it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
