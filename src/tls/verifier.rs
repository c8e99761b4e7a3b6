//! The questions of rustls in the middle of a handshake: is this the right certificate, and is the handshake signed by
//! its key?
//!
//! The answers are noted down beside rustls, since rustls itself hands back no more than an alert code, and a note is
//! worthless before the handshake has completed: the certificate is judged before the server has shown that it holds
//! the key.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};

use super::pkix::Authorities;
use super::{
    Authentication, KeyProof, Protection, ShownCertificates, Sni, Tls, TlsFailure, broken, iana_name, version_word,
};
use crate::dane::mismatch::{Defect, Mismatch};
use crate::dane::pkix::PkixWorth;
use crate::dane::verify::{self, Sent};
use crate::policy::{KeyDemand, NamedBy, TlsPolicy};
use crate::roots::Roots;

/// The most certificates of a chain that a line is written about; honest chains have five.
const MAX_NOTED: usize = 5;

/// The verifier of one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    provider: Arc<CryptoProvider>,
    roots: Roots,
    demand: KeyDemand,
    findings: Mutex<Findings>,
    shown: Option<ShownCertificates>,
    sni: Sni,
}

/// The verifier's notes so far. They count only when the handshake has completed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The SubjectPublicKeyInfo in the server's certificate: the key that was matched, and that must have signed.
    key: Option<Vec<u8>>,
    proof: Option<KeyProof>,
    /// The worth of a certificate by which nothing is decided.
    worth: Option<PkixWorth>,
    possession: Possession,
    /// The first thing that was refused.
    pub(super) failure: Option<TlsFailure>,
}

/// Whether the server has shown that it holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Possession {
    #[default]
    Unproven,
    Proven,
}

impl Findings {
    /// The evidence, after the handshake has completed. The guarantees of rustls are checked again here, because a
    /// session that slipped through would be believed.
    pub(super) fn protection(
        self,
        session: &rustls::ClientConnection,
        policy: &TlsPolicy,
    ) -> Result<Protection, TlsFailure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let full = match session.handshake_kind() {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => true,
            Some(HandshakeKind::Resumed) | None => false,
        };
        if !full || self.possession != Possession::Proven {
            return Err(TlsFailure::Broken("the server did not authenticate itself".into()));
        }
        let authentication = authentication(policy, self.proof, self.worth)?;
        let unknown = |what: &str| TlsFailure::Broken(format!("the {what} is not known"));
        let suite = session.negotiated_cipher_suite().ok_or_else(|| unknown("cipher suite"))?;
        let group = session.negotiated_key_exchange_group().ok_or_else(|| unknown("key exchange"))?;
        Ok(Protection {
            version: version_word(session.protocol_version()).ok_or_else(|| unknown("protocol version"))?,
            cipher_suite: iana_name(suite),
            key_exchange: format!("{:?}", group.name()),
            authentication,
            verified_by: policy.verified_by(),
        })
    }
}

/// The identity that a server has proven under a policy.
fn authentication(
    policy: &TlsPolicy,
    proof: Option<KeyProof>,
    worth: Option<PkixWorth>,
) -> Result<Authentication, TlsFailure> {
    let unjudged = || TlsFailure::Broken("the server's certificate was not judged".into());
    let (proof, worth) = (proof.ok_or_else(unjudged), worth.ok_or_else(unjudged));
    Ok(match policy {
        TlsPolicy::Dane(_) | TlsPolicy::Fingerprint(_) | TlsPolicy::Sts(_) | TlsPolicy::StsDane(_) => {
            Authentication::Verified(proof?)
        }
        TlsPolicy::Pkix(_, NamedBy::SecureMx | NamedBy::Rule) => Authentication::Verified(proof?),
        TlsPolicy::HalfDane(_) | TlsPolicy::Pkix(_, NamedBy::InsecureMx) => Authentication::HostVerified(proof?),
        TlsPolicy::Encrypt(_, why) => Authentication::Unverified(why.clone(), worth?),
        TlsPolicy::May(_, permit) => Authentication::Unverified(permit.no_dane(), worth?),
    })
}

impl Verifier {
    pub(super) fn new(tls: &Tls, policy: &TlsPolicy) -> Self {
        let (provider, shown) = (Arc::clone(tls.base.crypto_provider()), tls.shown.clone());
        let (roots, demand, findings) = (tls.roots.clone(), policy.demand(), Mutex::default());
        Self { provider, roots, demand, findings, shown, sni: tls.sni }
    }

    /// The notes, once the handshake is over.
    pub(super) fn take_findings(&self) -> Findings {
        std::mem::take(&mut *self.findings.lock())
    }

    /// Notes a refusal, and gives rustls the error that the alert to the server is made of.
    fn refuse(&self, failure: TlsFailure) -> Error {
        let error = Error::InvalidCertificate(match &failure {
            TlsFailure::Mismatch(mismatch) => match mismatch {
                Mismatch::Expired(_) => CertificateError::Expired,
                Mismatch::NotYetValid(_) => CertificateError::NotValidYet,
                Mismatch::Name { .. } => CertificateError::NotValidForName,
                Mismatch::Path(_, Defect::Malformed(_)) => CertificateError::BadEncoding,
                Mismatch::Path(..) | Mismatch::Untrusted(_) => CertificateError::UnknownIssuer,
                Mismatch::NoCertificate
                | Mismatch::ChainTooLarge { .. }
                | Mismatch::NoRecord(_)
                | Mismatch::KeySize(..) => CertificateError::ApplicationVerificationFailure,
            },
            TlsFailure::WrongKey => CertificateError::BadSignature,
            TlsFailure::SmallKey(_)
            | TlsFailure::UnsupportedKey
            | TlsFailure::NoSharedParameters(_)
            | TlsFailure::Injected
            | TlsFailure::NameNotKnown
            | TlsFailure::Alert(_)
            | TlsFailure::Closed(_)
            | TlsFailure::Broken(_) => CertificateError::ApplicationVerificationFailure,
        });
        self.findings.lock().failure.get_or_insert(failure);
        error
    }

    /// Checks the handshake's signature with the key that was matched.
    fn possession(
        &self,
        check: impl FnOnce(&SubjectPublicKeyInfoDer<'_>) -> Result<(), TlsFailure>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = self.findings.lock().key.clone();
        let Some(key) = key else {
            return Err(self.refuse(TlsFailure::Broken("a signature came before the certificate".into())));
        };
        verify::key_size(&key)
            .map_err(TlsFailure::SmallKey)
            .and_then(|()| check(&SubjectPublicKeyInfoDer::from(key.as_slice())))
            .map_err(|failure| self.refuse(failure))?;
        self.findings.lock().possession = Possession::Proven;
        Ok(HandshakeSignatureValid::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(end_entity).chain(intermediates).map(|c| CertificateDer::from(c.as_ref())).collect();
        let sent = Sent::read(&chain);
        if let Some(shown) = &self.shown {
            shown.note(&chain, sent.lines(MAX_NOTED));
        }
        let Some(key) = sent.key() else {
            return Err(self.refuse(TlsFailure::UnsupportedKey));
        };
        self.findings.lock().key = Some(key.to_vec());
        let algorithms = self.provider.signature_verification_algorithms.all;
        let authorities = Authorities { roots: self.roots.store(), algorithms, now };
        match &self.demand {
            KeyDemand::Record(expectation) => {
                let found = sent.verify(expectation, now).map_err(|why| self.refuse(why.into()))?;
                self.findings.lock().proof = Some(KeyProof::Record(found));
            }
            KeyDemand::Authority(name) => {
                let vouched = authorities.vouch(&chain, &sent, name).map_err(|why| self.refuse(why.into()))?;
                self.findings.lock().proof = Some(KeyProof::Authority(vouched));
            }
            KeyDemand::Nothing(name) => {
                self.findings.lock().worth = Some(match self.sni {
                    Sni::Sent => authorities.worth(&chain, &sent, name),
                    Sni::Omitted => PkixWorth::SniRefused,
                });
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.possession(|key| check_tls12(&self.provider, key, message, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        // This one refuses the same as TLS 1.3: PKCS #1 v1.5, SHA-1, and a curve other than the scheme's (RFC 8446
        // §4.2.3).
        self.possession(|key| match verify_tls13_signature_with_raw_key(message, key, signed, algorithms) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(CertificateError::BadSignature)) => Err(TlsFailure::WrongKey),
            Err(Error::InvalidCertificate(_)) => Err(TlsFailure::UnsupportedKey),
            Err(error) => Err(broken(error)),
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS 1.2 twin of [`verify_tls13_signature_with_raw_key`]. A scheme does not fix the curve in TLS 1.2, so there are
/// several algorithms to a scheme, and the next one is tried only if the key is of another kind.
fn check_tls12(
    provider: &CryptoProvider,
    key: &SubjectPublicKeyInfoDer<'_>,
    message: &[u8],
    signed: &DigitallySignedStruct,
) -> Result<(), TlsFailure> {
    let offered = provider.signature_verification_algorithms.mapping.iter();
    let algorithms = offered
        // ML-DSA is for TLS 1.3 alone (draft-ietf-tls-mldsa); everything else that is offered is for both.
        .filter(|(scheme, _)| {
            !matches!(scheme, SignatureScheme::ML_DSA_44 | SignatureScheme::ML_DSA_65 | SignatureScheme::ML_DSA_87)
        })
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map(|(_, algorithms)| *algorithms)
        .ok_or_else(|| TlsFailure::Broken("the handshake is signed with a scheme that was not offered".into()))?;
    let key = webpki::RawPublicKeyEntity::try_from(key).map_err(|_| TlsFailure::UnsupportedKey)?;
    for algorithm in algorithms {
        match key.verify_signature(*algorithm, message, signed.signature()) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(TlsFailure::WrongKey),
        }
    }
    Err(TlsFailure::UnsupportedKey)
}
