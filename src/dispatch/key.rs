//! The keys that sign TLS reports (RFC 6376, RFC 8301, RFC 8463).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest as _, Sha256};

use crate::operator_file::SETTINGS;
use crate::tlsrpt::dkim::DkimAlgorithm;

/// Bits of a file's mode that let its group write it, or give all users anything.
const TOO_WIDE: u32 = 0o027;
/// Octets of the signatures of RFC 8301 §3.2: 2048 to 8192 bits.
const SIGNATURE: std::ops::RangeInclusive<usize> = 256..=1024;

/// Octets of an Ed25519 key, the last ones of its SubjectPublicKeyInfo (RFC 8410 §4).
const ED25519: usize = 32;

/// A private key. It has no output but its signatures and its public half.
pub struct DkimKey {
    key: Arc<dyn SigningKey>,
    algorithm: DkimAlgorithm,
    public: String,
}

/// Why a file has no key that can sign.
#[derive(Debug, thiserror::Error)]
pub enum DkimKeyError {
    /// The system refuses it.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// Too many users have access to it.
    #[error("its mode is {0:o}: its group may write it, or all users have access to it; set it to 0640 or 0600")]
    Mode(u32),
    /// It is not PEM, or holds no key.
    #[error("it holds no private key in PEM ({0}); `danelaw tlsrpt key` makes one")]
    NotPem(String),
    /// Another algorithm, or an RSA key of another size.
    #[error("its key is neither RSA of 2048 to 8192 bits (RFC 8301) nor Ed25519 (RFC 8463)")]
    Unsuitable,
    /// The other one of the two algorithms.
    #[error("its key is {found}, and {} is wanted here", found.other())]
    Algorithm {
        /// That of the file.
        found: DkimAlgorithm,
    },
    /// The library fails.
    #[error("the TLS library fails: {0}")]
    Library(String),
}

impl DkimKey {
    /// Reads the file of a key.
    ///
    /// # Errors
    /// It is of no use, or readable for too many.
    pub fn load(path: &Path) -> Result<Self, DkimKeyError> {
        let key = Self::from_pem(&SETTINGS.read(path)?)?;
        let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
        if mode & TOO_WIDE == 0 { Ok(key) } else { Err(DkimKeyError::Mode(mode)) }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// It is of no use.
    pub fn from_pem(pem: &[u8]) -> Result<Self, DkimKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| DkimKeyError::NotPem(error.to_string()))?;
        let key = any_supported_type(&der).map_err(|error| DkimKeyError::NotPem(error.to_string()))?;
        let encoded = key.public_key().ok_or(DkimKeyError::Unsuitable)?;
        let algorithm = match key.algorithm() {
            SignatureAlgorithm::RSA => DkimAlgorithm::Rsa,
            SignatureAlgorithm::ED25519 => DkimAlgorithm::Ed25519,
            _ => return Err(DkimKeyError::Unsuitable),
        };
        let public = match algorithm {
            DkimAlgorithm::Rsa => STANDARD.encode(&encoded),
            // RFC 8463 §4: the key alone.
            DkimAlgorithm::Ed25519 => STANDARD.encode(&encoded[encoded.len().saturating_sub(ED25519)..]),
        };
        let key = Self { key, algorithm, public };
        let signature = key.sign(b"probe")?;
        let is_suitable = algorithm == DkimAlgorithm::Ed25519 || SIGNATURE.contains(&signature.len());
        if is_suitable { Ok(key) } else { Err(DkimKeyError::Unsuitable) }
    }

    /// This key, if it signs by this algorithm.
    ///
    /// # Errors
    /// It signs by another.
    pub fn by(self, wanted: DkimAlgorithm) -> Result<Self, DkimKeyError> {
        let found = self.algorithm;
        if found == wanted { Ok(self) } else { Err(DkimKeyError::Algorithm { found }) }
    }

    /// How it signs.
    pub fn algorithm(&self) -> DkimAlgorithm {
        self.algorithm
    }

    /// Signs octets by its algorithm. Ed25519 signs their SHA-256 digest (RFC 8463 §3).
    ///
    /// # Errors
    /// It is a key of another kind, or the library fails.
    pub fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, DkimKeyError> {
        match self.algorithm {
            DkimAlgorithm::Rsa => self.sign_by(SignatureScheme::RSA_PKCS1_SHA256, octets),
            DkimAlgorithm::Ed25519 => self.sign_by(SignatureScheme::ED25519, &Sha256::digest(octets)),
        }
    }

    fn sign_by(&self, scheme: SignatureScheme, signed: &[u8]) -> Result<Vec<u8>, DkimKeyError> {
        let signer = self.key.choose_scheme(&[scheme]).ok_or(DkimKeyError::Unsuitable)?;
        signer.sign(signed).map_err(|error| DkimKeyError::Library(error.to_string()))
    }

    /// The public key as the record has it in `p=`.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The TXT record for the selector. It is for mail and for TLS reports: verifiers reject a key that names reports alone
    /// (RFC 6376 §3.6.1).
    pub fn record(&self) -> String {
        format!("v=DKIM1; k={}; s=email:tlsrpt; p={}", self.algorithm.key_type(), self.public)
    }
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DkimKey")
    }
}

/// A new key as PEM; one of RSA has 2048 bits.
///
/// # Errors
/// The library fails.
pub fn new_key(algorithm: DkimAlgorithm) -> Result<String, DkimKeyError> {
    let der = match algorithm {
        DkimAlgorithm::Rsa => rsa_key(),
        DkimAlgorithm::Ed25519 => {
            Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map(|der| der.as_ref().to_vec())
        }
    };
    let encoded = STANDARD.encode(der.map_err(|error| DkimKeyError::Library(error.to_string()))?);
    let lines = encoded.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", lines.collect::<String>()))
}

fn rsa_key() -> Result<Vec<u8>, Unspecified> {
    let der: Pkcs8V1Der<'_> = KeyPair::generate(KeySize::Rsa2048)?.as_der()?;
    Ok(der.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_signs_and_is_kept_secret() {
        // T48, T49.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pem = new_key(DkimAlgorithm::Rsa).unwrap();
        fs::write(&path, &pem).unwrap();
        for (mode, is_secret) in
            [(0o600, true), (0o640, true), (0o644, false), (0o660, false), (0o700, true), (0o750, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(DkimKey::load(&path).is_ok(), is_secret, "{mode:o}");
        }
        let key = DkimKey::from_pem(pem.as_bytes()).unwrap();
        assert!(key.record().starts_with("v=DKIM1; k=rsa; s=email:tlsrpt; p=MIIB"), "{}", key.record());
        let signature = key.sign(b"octets").unwrap();
        let public = STANDARD.decode(key.public()).unwrap();
        // The key within the SubjectPublicKeyInfo (RFC 8017 A.1.1), which has 24 octets in front of it.
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
            &public[24..],
        );
        assert!(public.verify(b"octets", &signature).is_ok() && public.verify(b"octet", &signature).is_err());
        assert_eq!(format!("{key:?}"), "DkimKey");
        assert!(DkimKey::from_pem(b"no key").is_err());
        let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        assert!(matches!(DkimKey::from_pem(p256.as_bytes()), Err(DkimKeyError::Unsuitable)));
    }

    #[test]
    fn an_ed25519_key_signs_the_digest() {
        let key = DkimKey::from_pem(new_key(DkimAlgorithm::Ed25519).unwrap().as_bytes()).unwrap();
        let signature = key.sign(b"octets").unwrap();
        let public = STANDARD.decode(key.public()).unwrap();
        assert_eq!(public.len(), 32);
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, &public);
        assert!(public.verify(&Sha256::digest(b"octets"), &signature).is_ok());
        assert!(key.record().starts_with("v=DKIM1; k=ed25519; s=email:tlsrpt; p="), "{}", key.record());
        let error = key.by(DkimAlgorithm::Rsa).unwrap_err().to_string();
        assert_eq!(error, "its key is Ed25519, and RSA is wanted here");
    }
}
