//! The key that signs TLS reports (RFC 6376, RFC 8301).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

/// Bits of a file's mode that let its group write it, or give all users anything.
const TOO_WIDE: u32 = 0o027;
/// Octets of the signatures of RFC 8301 §3.2: 2048 to 8192 bits.
const SIGNATURE: std::ops::RangeInclusive<usize> = 256..=1024;

/// A private RSA key. It has no output but its signatures and its public half.
pub struct DkimKey {
    key: Arc<dyn SigningKey>,
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
    /// No RSA key of such a size.
    #[error("its key is no RSA key of 2048 to 8192 bits, which all receivers can check (RFC 8301)")]
    Unsuitable,
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
        let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
        if mode & TOO_WIDE != 0 {
            return Err(DkimKeyError::Mode(mode));
        }
        Self::from_pem(&fs::read(path)?)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// It is of no use.
    pub fn from_pem(pem: &[u8]) -> Result<Self, DkimKeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| DkimKeyError::NotPem(error.to_string()))?;
        let key = any_supported_type(&der).map_err(|error| DkimKeyError::NotPem(error.to_string()))?;
        let public = key.public_key().map(|public| STANDARD.encode(&public)).unwrap_or_default();
        let key = Self { key, public };
        let is_suitable = SIGNATURE.contains(&key.sign(b"probe")?.len()) && !key.public.is_empty();
        if is_suitable { Ok(key) } else { Err(DkimKeyError::Unsuitable) }
    }

    /// Signs octets with rsa-sha256.
    ///
    /// # Errors
    /// It is no RSA key, or the library fails.
    pub fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, DkimKeyError> {
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or(DkimKeyError::Unsuitable)?;
        signer.sign(octets).map_err(|error| DkimKeyError::Library(error.to_string()))
    }

    /// The public key as the record has it in `p=`.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The TXT record for the selector. It is for mail and for TLS reports: verifiers reject a key that names reports alone
    /// (RFC 6376 §3.6.1).
    pub fn record(&self) -> String {
        format!("v=DKIM1; k=rsa; s=email:tlsrpt; p={}", self.public)
    }
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DkimKey")
    }
}

/// A new key of 2048 bits, as PEM.
///
/// # Errors
/// The library fails.
pub fn new_key() -> Result<String, DkimKeyError> {
    let library = |error: aws_lc_rs::error::Unspecified| DkimKeyError::Library(error.to_string());
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(library)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(library)?;
    let encoded = STANDARD.encode(der.as_ref());
    let lines = encoded.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_signs_and_is_kept_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let pem = new_key().unwrap();
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
        let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert!(matches!(DkimKey::from_pem(ed25519.as_bytes()), Err(DkimKeyError::Unsuitable)));
    }
}
