//! The words in the file for the engine's own types. Those types do not depend on the format of the file.

use serde::{Deserialize, Deserializer};

use crate::dane::agility::{self, Digests};
use crate::dns::{self, server};
use crate::mta_sts;
use crate::policy;
use crate::smtp::data;

#[derive(Deserialize)]
#[serde(remote = "policy::Mode", rename_all = "kebab-case")]
pub(super) enum ModeWord {
    Enforce,
    Observe,
}

#[derive(Deserialize)]
#[serde(remote = "policy::ListenerMail")]
pub(super) enum ListenerMailWord {
    #[serde(rename = "")]
    Any,
    #[serde(rename = "only")]
    TlsRequiredNo,
}

#[derive(Deserialize)]
#[serde(remote = "policy::InsecureMx", rename_all = "kebab-case")]
pub(super) enum InsecureMxWord {
    Dane,
    Encrypt,
}

#[derive(Deserialize)]
#[serde(remote = "server::ResolverMode", rename_all = "kebab-case")]
pub(super) enum DnsModeWord {
    Validate,
    TrustAd,
}

#[derive(Deserialize)]
#[serde(remote = "server::ResolverFallback")]
pub(super) enum FallbackWord {
    #[serde(rename = "recurse")]
    Recurse,
    #[serde(rename = "")]
    Off,
}

#[derive(Deserialize)]
#[serde(remote = "dns::Families", rename_all = "lowercase")]
pub(super) enum FamiliesWord {
    Any,
    Ipv4,
    Ipv6,
}

#[derive(Deserialize)]
#[serde(remote = "mta_sts::StsUse", rename_all = "kebab-case")]
pub(super) enum StsUseWord {
    Enforce,
    Observe,
    Off,
}

#[derive(Deserialize)]
#[serde(remote = "data::BareNewlines", rename_all = "kebab-case")]
pub(super) enum BareNewlinesWord {
    Normalize,
    Reject,
}

#[derive(Deserialize)]
#[serde(remote = "agility::Digest", rename_all = "lowercase")]
enum DigestWord {
    Sha512,
    Sha256,
}

/// A digest in a list.
#[derive(Deserialize)]
struct ListedDigest(#[serde(with = "DigestWord")] agility::Digest);

/// Reads the digests that count.
pub(super) fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digests, D::Error> {
    let digests: Vec<ListedDigest> = Vec::deserialize(deserializer)?;
    let digests: Vec<agility::Digest> = digests.into_iter().map(|ListedDigest(digest)| digest).collect();
    Digests::try_from(digests).map_err(serde::de::Error::custom)
}
