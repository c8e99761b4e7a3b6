//! The certification authorities (CAs) that may vouch for mail servers and for policy hosts of MTA-STS (RFC 8461 §3.3, §4.2).
//! The RFC leaves the set to the sender.
//!
//! The set is the system's bundle, which the distribution keeps up to date, or the file `tls.ca` in its place. A system
//! without a bundle gets the set that is built in. `tls.extra_ca` adds to any of them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha256};

use crate::operator_file::SETTINGS;

/// The files that the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootFiles {
    /// A file of certificates in place of the system's bundle.
    pub ca: Option<PathBuf>,
    /// A file of certificates beside it.
    pub extra_ca: Option<PathBuf>,
}

/// One set of authorities, for policy hosts and for mail servers. Empty by default: nobody vouches for a server then.
#[derive(Debug, Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    digest: u64,
    source: RootSource,
    left_out: Vec<String>,
}

/// The origin of a set of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// A file that the configuration names.
    File(PathBuf),
    /// The system's bundle.
    System,
    /// The set in the program, because the system has no bundle.
    BuiltIn,
    /// No file and no bundle.
    Nowhere,
}

impl fmt::Display for RootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::System => f.write_str("system"),
            Self::BuiltIn => f.write_str("built-in"),
            Self::Nowhere => f.write_str("none"),
        }
    }
}

/// Why a set cannot be used, with the key to change.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {error}")]
pub struct RootsError {
    key: &'static str,
    error: CaFileError,
}

/// A file of the configuration that cannot be read, in words.
pub fn unreadable(path: &Path, why: &io::Error) -> String {
    let advice = match why.kind() {
        io::ErrorKind::PermissionDenied => "; danelaw's user must be able to read it",
        _ => "",
    };
    format!("cannot read {}: {why}{advice}", path.display())
}

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read.
    #[error("{}", unreadable(path, source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not in PEM form, or has no certificate.
    #[error(
        "{} is no list of certificates in PEM form: {why}; each must stand between BEGIN CERTIFICATE and END CERTIFICATE",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The fault.
        why: String,
    },
    /// The system's bundle is there, and yields no certificate.
    #[error(
        "it is empty, and the system's CA certificates cannot be read: {0}; correct SSL_CERT_FILE or SSL_CERT_DIR if \
         they are set, or set tls.ca to a file of CA certificates"
    )]
    System(String),
}

impl Default for Roots {
    fn default() -> Self {
        let store = RootCertStore::empty();
        Self { digest: digest(&store), store: Arc::new(store), source: RootSource::Nowhere, left_out: Vec::new() }
    }
}

impl Roots {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A file cannot be read, or holds no usable certificate. A single certificate that is of no use is left out.
    pub fn load(files: &RootFiles) -> Result<Self, RootsError> {
        let mut roots = Self::default();
        let mut store = RootCertStore::empty();
        let at = |key| move |error| RootsError { key, error };
        match &files.ca {
            Some(path) => {
                roots.source = RootSource::File(path.clone());
                roots.add_file(&mut store, path).map_err(at("tls.ca"))?;
            }
            None => roots.add_system(&mut store).map_err(at("tls.ca"))?,
        }
        if let Some(path) = &files.extra_ca {
            roots.add_file(&mut store, path).map_err(at("tls.extra_ca"))?;
        }
        Ok(roots.with_store(store))
    }

    /// These authorities, of no file. Those that are of no use are left out.
    pub fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        let (mut roots, mut store) = (Self::default(), RootCertStore::empty());
        roots.add(&mut store, certificates, "given");
        roots.with_store(store)
    }

    fn with_store(self, store: RootCertStore) -> Self {
        Self { digest: digest(&store), store: Arc::new(store), ..self }
    }

    /// The store, for the check of a certificate chain.
    pub fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// A digest of the set: another set has another one, in whatever order its certificates are read.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many authorities there are.
    pub fn count(&self) -> usize {
        self.store.len()
    }

    /// Where they come from.
    pub fn source(&self) -> &RootSource {
        &self.source
    }

    /// A text on each certificate that is of no use.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    fn add_file(&mut self, store: &mut RootCertStore, path: &Path) -> Result<(), CaFileError> {
        let before = store.len();
        self.add(store, certificates(path)?, &path.display().to_string());
        let malformed = || CaFileError::Malformed { path: path.to_owned(), why: self.left_out.join("; ") };
        if store.len() > before { Ok(()) } else { Err(malformed()) }
    }

    fn add_system(&mut self, store: &mut RootCertStore) -> Result<(), CaFileError> {
        let found = rustls_native_certs::load_native_certs();
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        self.source = RootSource::System;
        self.add(store, found.certs, "system");
        self.left_out.extend(errors.iter().cloned());
        match (store.is_empty(), self.left_out.is_empty()) {
            (false, _) => Ok(()),
            (true, false) => Err(CaFileError::System(self.left_out.join("; "))),
            (true, true) => {
                self.source = RootSource::BuiltIn;
                *store = built_in();
                Ok(())
            }
        }
    }

    fn add(&mut self, store: &mut RootCertStore, certificates: Vec<CertificateDer<'static>>, source: &str) {
        for (place, certificate) in (1..).zip(certificates) {
            if let Err(error) = store.add(certificate) {
                self.left_out.push(format!("{source}, certificate {place}: {error}"));
            }
        }
    }
}

/// A digest of the names and keys of the authorities.
fn digest(store: &RootCertStore) -> u64 {
    let each =
        store.roots.iter().map(|root| Sha256::digest([root.subject.as_ref(), &root.subject_public_key_info].concat()));
    let mut digests: Vec<[u8; 32]> = each.map(Into::into).collect();
    digests.sort_unstable();
    digests.dedup();
    let whole: [u8; 32] = Sha256::digest(digests.concat()).into();
    whole.iter().take(8).fold(0, |digest, octet| digest << 8 | u64::from(*octet))
}

/// TLS 1.2 and 1.3 with servers for which these authorities may vouch. No session is resumed: the library does not look at the
/// certificate again then, which may have ended since.
///
/// # Errors
/// The library lacks a protocol version, which no build of danelaw does.
pub fn client_tls(store: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(store).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The public authorities that are built in.
pub fn built_in() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// The authorities of a file in PEM form, at least one. A single certificate that is of no use is left out.
///
/// # Errors
/// It cannot be read, or holds no usable certificate.
pub fn authorities(path: &Path) -> Result<RootCertStore, CaFileError> {
    let (mut roots, mut store) = (Roots::default(), RootCertStore::empty());
    roots.add_file(&mut store, path)?;
    Ok(store)
}

/// The certificates of a file in PEM form, at least one.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let malformed = |why: String| CaFileError::Malformed { path: path.to_owned(), why };
    let text = SETTINGS.read(path).map_err(|source| CaFileError::Unreadable { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| malformed(error.to_string()))?;
    if found.is_empty() { Err(malformed("there is no certificate in it".to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    /// A certificate of an authority, in PEM form.
    fn authority(name: &str) -> String {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn load(ca: Option<&Path>, extra_ca: Option<&Path>) -> Result<Roots, String> {
        let files = RootFiles { ca: ca.map(Path::to_owned), extra_ca: extra_ca.map(Path::to_owned) };
        Roots::load(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn one_file_replaces_and_the_other_adds() {
        let (two, one) = (file(&[authority("A"), authority("B")].concat()), file(&authority("C")));
        let roots = load(Some(two.path()), None).unwrap();
        assert_eq!((roots.count(), roots.source()), (2, &RootSource::File(two.path().to_owned())));
        assert_eq!(load(Some(two.path()), Some(one.path())).unwrap().count(), 3);
        // A system without a bundle has the built-in set.
        let system = load(None, None).unwrap();
        assert!(system.count() > 20 && [RootSource::System, RootSource::BuiltIn].contains(system.source()));
        assert_eq!(load(None, Some(one.path())).unwrap().count(), system.count() + 1);
        assert_eq!(Roots::default().count(), 0);
    }

    #[test]
    fn the_digest_is_that_of_the_set() {
        let (a, b) = (authority("A"), authority("B"));
        let digest = |text: &[&str]| load(Some(file(&text.concat()).path()), None).unwrap().digest();
        assert_eq!(digest(&[&a, &b]), digest(&[&b, &a, &b]));
        assert_ne!(digest(&[&a, &b]), digest(&[&a]));
        assert_ne!(digest(&[&a]), Roots::default().digest());
    }

    #[test]
    fn a_file_of_no_use_is_an_error_and_one_bad_certificate_is_not() {
        let (empty, good) = (file("# none\n"), authority("A"));
        let junk = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let mixed = file(&format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{good}"));
        for (path, why) in [
            (Path::new("/nowhere/ca.pem"), "cannot read /nowhere/ca.pem: "),
            (empty.path(), "there is no certificate in it"),
            (junk.path(), "certificate 1: "),
        ] {
            let error = load(Some(path), None).unwrap_err();
            assert!(error.starts_with("tls.ca: ") && error.contains(why), "{error}");
            let error = load(Some(mixed.path()), Some(path)).unwrap_err();
            assert!(error.starts_with("tls.extra_ca: ") && error.contains(why), "{error}");
        }
        let roots = load(Some(mixed.path()), None).unwrap();
        assert_eq!((roots.count(), roots.left_out().len()), (1, 1));
    }
}
