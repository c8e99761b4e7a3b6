//! Keys of every kind that openssl can make, and signatures of every kind that it can make with them.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use crate::certificates::{Spec, der, seq};
use rustls_pki_types::CertificateDer;

/// A kind of key, by the arguments of `openssl genpkey`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind(&'static [&'static str]);

const fn ec(arguments: &'static [&'static str]) -> Kind {
    Kind(arguments)
}

pub(crate) const P256: Kind = ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
pub(crate) const P384: Kind = ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
pub(crate) const P521: Kind = ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
pub(crate) const K256: Kind = ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
pub(crate) const BRAINPOOL: Kind = ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"]);
pub(crate) const EXPLICIT: Kind =
    ec(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"]);
pub(crate) const ED25519: Kind = Kind(&["-algorithm", "ED25519"]);
pub(crate) const ED448: Kind = Kind(&["-algorithm", "ED448"]);
pub(crate) const RSA_1024: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
pub(crate) const RSA_1536: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1536"]);
pub(crate) const RSA_2047: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2047"]);
pub(crate) const RSA_2048: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
pub(crate) const RSA_2049: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2049"]);
pub(crate) const RSA_3072: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"]);
pub(crate) const RSA_4096: Kind = Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"]);
pub(crate) const RSA_E3: Kind =
    Kind(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]);
pub(crate) const PSS: Kind = Kind(&["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"]);
pub(crate) const PSS_SHA256: Kind = Kind(&[
    "-algorithm",
    "RSA-PSS",
    "-pkeyopt",
    "rsa_keygen_bits:2048",
    "-pkeyopt",
    "rsa_pss_keygen_md:sha256",
    "-pkeyopt",
    "rsa_pss_keygen_saltlen:32",
]);

/// A key of a kind, and which of several.
pub(crate) type Id = (Kind, usize);

/// A private key and its SubjectPublicKeyInfo.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) pem: String,
    pub(crate) spki: Vec<u8>,
}

/// How a certificate is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheme {
    oid: &'static [u8],
    parameters: Parameters,
    digest: Option<&'static str>,
    options: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
enum Parameters {
    Absent,
    Null,
    /// Of RSASSA-PSS, with SHA-256 and a salt of so many octets.
    Pss(u8),
}

const fn scheme(oid: &'static [u8], parameters: Parameters, digest: &'static str) -> Scheme {
    Scheme { oid, parameters, digest: Some(digest), options: &[] }
}

pub(crate) const ECDSA_SHA1: Scheme = scheme(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], Parameters::Absent, "-sha1");
pub(crate) const ECDSA_SHA224: Scheme =
    scheme(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x01], Parameters::Absent, "-sha224");
pub(crate) const ECDSA_SHA256: Scheme =
    scheme(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], Parameters::Absent, "-sha256");
pub(crate) const ECDSA_SHA384: Scheme =
    scheme(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], Parameters::Absent, "-sha384");
pub(crate) const ECDSA_SHA512: Scheme =
    scheme(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], Parameters::Absent, "-sha512");
pub(crate) const RSA_MD5: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x04], "-md5");
pub(crate) const RSA_SHA1: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x05], "-sha1");
pub(crate) const RSA_SHA224: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0e], "-sha224");
pub(crate) const RSA_SHA256: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b], "-sha256");
pub(crate) const RSA_SHA384: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0c], "-sha384");
pub(crate) const RSA_SHA512: Scheme = rsa(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0d], "-sha512");
const PSS_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a];
pub(crate) const RSA_PSS: Scheme = Scheme {
    oid: PSS_OID,
    parameters: Parameters::Pss(32),
    digest: Some("-sha256"),
    options: &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"],
};
pub(crate) const RSA_PSS_SALT_20: Scheme = Scheme {
    oid: PSS_OID,
    parameters: Parameters::Pss(20),
    digest: Some("-sha256"),
    options: &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20"],
};
pub(crate) const EDDSA_25519: Scheme =
    Scheme { oid: &[0x2b, 0x65, 0x70], parameters: Parameters::Absent, digest: None, options: &[] };
pub(crate) const EDDSA_448: Scheme =
    Scheme { oid: &[0x2b, 0x65, 0x71], parameters: Parameters::Absent, digest: None, options: &[] };

const fn rsa(oid: &'static [u8], digest: &'static str) -> Scheme {
    scheme(oid, Parameters::Null, digest)
}

impl Parameters {
    fn octets(self) -> Vec<u8> {
        match self {
            Self::Absent => vec![],
            Self::Null => vec![5, 0],
            Self::Pss(salt) => {
                let sha256 = seq(0x30, &[der(6, &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), vec![5, 0]]);
                let mgf1 = seq(0x30, &[der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8]), sha256.clone()]);
                seq(0x30, &[seq(0xa0, &[sha256]), seq(0xa1, &[mgf1]), seq(0xa2, &[der(2, &[salt])])])
            }
        }
    }
}

/// The key of this id, made when it is first asked for.
pub(crate) fn key(id: Id) -> Arc<Key> {
    type Cell = Arc<OnceLock<Arc<Key>>>;
    static KEYS: LazyLock<Mutex<HashMap<Id, Cell>>> = LazyLock::new(Mutex::default);
    let cell = Arc::clone(KEYS.lock().unwrap().entry(id).or_default());
    Arc::clone(cell.get_or_init(|| Arc::new(Key::generate(id.0.0))))
}

impl Key {
    fn generate(arguments: &[&str]) -> Self {
        let pem = openssl(&[&["genpkey"], arguments].concat());
        Self::from_pem(String::from_utf8(pem).unwrap())
    }

    fn from_pem(pem: String) -> Self {
        let file = written(pem.as_bytes());
        let spki = openssl(&["pkey", "-in", path(&file), "-pubout", "-outform", "DER"]);
        assert!(!spki.is_empty());
        Self { pem, spki }
    }

    fn sign(&self, scheme: &Scheme, message: &[u8]) -> Vec<u8> {
        let (key, message) = (written(self.pem.as_bytes()), written(message));
        let signature = match scheme.digest {
            Some(digest) => {
                let arguments = [&["dgst", digest, "-sign", path(&key)], scheme.options, &[path(&message)]].concat();
                openssl(&arguments)
            }
            None => openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", path(&key), "-in", path(&message)]),
        };
        assert!(!signature.is_empty(), "{scheme:?}");
        signature
    }
}

/// The certificate of a key, signed with another.
pub(crate) fn issue(spec: &Spec, subject: &Key, signer: &Key, scheme: &Scheme) -> CertificateDer<'static> {
    let spec = match spec.algorithm == Spec::default().algorithm {
        true => Spec { algorithm: scheme.oid.to_vec(), parameters: scheme.parameters.octets(), ..spec.clone() },
        // The row is about a wrong algorithm.
        false => spec.clone(),
    };
    spec.issue_by(&subject.spki, |tbs| signer.sign(scheme, tbs))
}

fn written(octets: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, octets).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn openssl(arguments: &[&str]) -> Vec<u8> {
    Command::new("openssl").args(arguments).output().unwrap().stdout
}
