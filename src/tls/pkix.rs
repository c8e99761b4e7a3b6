//! The check of a server by the Web PKI: a path from its certificate to one of the authorities, its use and dates, and the
//! server's name (RFC 8461 §4.2, RFC 5280 §6.1).

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::dane::mismatch::{Mismatch, Untrusted};
use crate::dane::pkix::{PkixWorth, Vouched};
use crate::dane::verify::Sent;
use crate::name::Name;

/// The authorities that count now.
pub(super) struct Authorities<'a> {
    pub(super) roots: &'a RootCertStore,
    pub(super) algorithms: &'a [&'static dyn SignatureVerificationAlgorithm],
    pub(super) now: UnixTime,
}

impl Authorities<'_> {
    /// The authority that vouches for the server under this name. `sent` is the same chain, read.
    ///
    /// # Errors
    /// Why none does.
    pub(super) fn vouch(
        &self,
        chain: &[CertificateDer<'_>],
        sent: &Sent<'_>,
        name: &Name,
    ) -> Result<Vouched, Mismatch> {
        sent.in_bounds()?;
        let (own, others) = chain.split_first().ok_or(Mismatch::NoCertificate)?;
        let mismatch = |error| self.mismatch(sent, &error);
        let certificate = EndEntityCert::try_from(own).map_err(mismatch)?;
        let path = certificate.verify_for_usage(
            self.algorithms,
            &self.roots.roots,
            others,
            self.now,
            KeyUsage::server_auth(),
            None,
            None,
        );
        let vouched = Vouched::by(&path.map_err(mismatch)?.anchor().subject);
        sent.is_for(name)?;
        Ok(vouched)
    }

    /// The worth of a chain that the policy does not ask for. A fault of the check itself is no fault of the session.
    pub(super) fn worth(&self, chain: &[CertificateDer<'_>], sent: &Sent<'_>, name: &Name) -> PkixWorth {
        let vouch = || PkixWorth::from(&self.vouch(chain, sent, name));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(vouch)).unwrap_or(PkixWorth::Invalid)
    }

    fn mismatch(&self, sent: &Sent<'_>, error: &Error) -> Mismatch {
        let rule = |text: &str| Mismatch::Untrusted(Untrusted::Rule(text.to_owned()));
        match error {
            Error::CertExpired { .. } => Mismatch::Expired(sent.out_of_date(self.now)),
            Error::CertNotValidYet { .. } => Mismatch::NotYetValid(sent.out_of_date(self.now)),
            Error::UnknownIssuer => Mismatch::Untrusted(sent.end_of_chain()),
            // A server that is its own authority.
            Error::CaUsedAsEndEntity => match sent.end_of_chain() {
                own @ Untrusted::SelfSigned(_) => Mismatch::Untrusted(own),
                Untrusted::Issuer(_) | Untrusted::Rule(_) => rule("the server's certificate is that of an authority"),
            },
            Error::EndEntityUsedAsCa => rule("a certificate above the server's is not marked as an authority"),
            Error::UnsupportedCertVersion => rule("a certificate has not version 3"),
            Error::UnsupportedCriticalExtension => {
                rule("a certificate has a critical extension that is not understood")
            }
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                rule("a certificate has an extended key usage without serverAuth")
            }
            Error::NameConstraintViolation => rule("an authority may not issue certificates for this name"),
            Error::PathLenConstraintViolated | Error::MaximumPathDepthExceeded => rule("the chain is too long"),
            // An authority here may have the name that a self-signed certificate gives itself.
            Error::InvalidSignatureForPublicKey => match sent.end_of_chain() {
                own @ Untrusted::SelfSigned(_) => Mismatch::Untrusted(own),
                Untrusted::Issuer(_) | Untrusted::Rule(_) => rule("a signature does not verify with its issuer's key"),
            },
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                rule("a certificate is signed with an algorithm or a key that is not accepted")
            }
            error => rule(&format!("{error:?}")),
        }
    }
}
