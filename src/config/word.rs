//! The words in the file for the engine's own types. Those types do not depend on the format of the file.

use serde::{Deserialize, Deserializer};

use crate::dane::agility::{self, Digests};
use crate::dns::{self, server};
use crate::policy;
use crate::smtp::data;

#[derive(Deserialize)]
#[serde(remote = "policy::Mode", rename_all = "kebab-case")]
pub(super) enum Mode {
    Enforce,
    Observe,
}

#[derive(Deserialize)]
#[serde(remote = "policy::InsecureMx", rename_all = "kebab-case")]
pub(super) enum InsecureMx {
    Dane,
    Encrypt,
}

#[derive(Deserialize)]
#[serde(remote = "server::ResolverMode", rename_all = "kebab-case")]
pub(super) enum DnsMode {
    Validate,
    TrustAd,
}

#[derive(Deserialize)]
#[serde(remote = "dns::Families", rename_all = "lowercase")]
pub(super) enum Families {
    Any,
    Ipv4,
    Ipv6,
}

#[derive(Deserialize)]
#[serde(remote = "data::BareNewlines", rename_all = "kebab-case")]
pub(super) enum BareNewlines {
    Normalize,
    Reject,
}

#[derive(Deserialize)]
#[serde(remote = "agility::Digest", rename_all = "lowercase")]
enum Digest {
    Sha512,
    Sha256,
}

/// A digest in a list.
#[derive(Deserialize)]
struct Listed(#[serde(with = "Digest")] agility::Digest);

/// Reads the digests that count.
pub(super) fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digests, D::Error> {
    let digests: Vec<Listed> = Vec::deserialize(deserializer)?;
    let digests: Vec<agility::Digest> = digests.into_iter().map(|Listed(digest)| digest).collect();
    Digests::try_from(digests).map_err(serde::de::Error::custom)
}
