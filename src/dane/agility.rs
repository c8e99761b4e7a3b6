//! Digest agility: of several digests of one thing only the strongest counts (RFC 7671 §9), so that a digest which has
//! been broken can be left in the zone for old clients without being of use against new ones.
//!
//! The operator decides which digests count at all, and which is the stronger. SHA2-256 is always among them: every
//! implementation has it, so most domains publish no other (RFC 6698 §6).

use super::tlsa::{Matching, Selector, Tlsa, Unusable, Usage};

/// A digest that TLSA records are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// SHA2-512(2).
    Sha512,
    /// SHA2-256(1).
    Sha256,
}

/// The digests that count, strongest first. The default is SHA2-512, then SHA2-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests(Vec<Digest>);

/// A list that is none of digests by their strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsoundDigests {
    /// Nearly all domains could not be authenticated any more.
    #[error("\"sha256\" must be in the list: most domains publish nothing else, and would not be verified")]
    WithoutSha256,
    /// A digest cannot be stronger than itself.
    #[error("a digest is in the list twice")]
    Twice,
}

impl Default for Digests {
    fn default() -> Self {
        Self(vec![Digest::Sha512, Digest::Sha256])
    }
}

impl TryFrom<Vec<Digest>> for Digests {
    type Error = UnsoundDigests;

    fn try_from(digests: Vec<Digest>) -> Result<Self, UnsoundDigests> {
        if !digests.contains(&Digest::Sha256) {
            return Err(UnsoundDigests::WithoutSha256);
        }
        let times = |digest: &Digest| digests.iter().filter(|known| *known == digest).count();
        if digests.iter().any(|digest| times(digest) > 1) {
            return Err(UnsoundDigests::Twice);
        }
        Ok(Self(digests))
    }
}

impl Digests {
    /// RFC 6698 §4.1: a record with a digest that is not strong enough by policy is unusable.
    pub(super) fn admit(&self, record: &Tlsa) -> Result<(), Unusable> {
        match (digest_of(record.matching()), record.form().numbers()) {
            (None, _) => Ok(()),
            (Some(digest), _) if self.0.contains(&digest) => Ok(()),
            (Some(_), [_, _, matching]) => Err(Unusable::DisabledDigest(matching)),
        }
    }

    /// RFC 7671 §9: agility is among records of the same usage and selector, and Full(0) stands outside of it.
    pub(super) fn reduce(&self, records: &mut Vec<Tlsa>) {
        let kind = |record: &Tlsa| -> (Usage, Selector) { (record.usage(), record.selector()) };
        let rank = |record: &Tlsa| self.0.iter().position(|digest| Some(*digest) == digest_of(record.matching()));
        let all = records.clone();
        records.retain(|record| {
            let rivals = all.iter().filter(|rival| kind(rival) == kind(record));
            rank(record).is_none_or(|own| rivals.filter_map(rank).all(|rank| own <= rank))
        });
    }
}

fn digest_of(matching: Matching) -> Option<Digest> {
    match matching {
        Matching::Full => None,
        Matching::Sha256 => Some(Digest::Sha256),
        Matching::Sha512 => Some(Digest::Sha512),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digests of a list as it stands in the file.
    fn digests(list: &str) -> Result<Digests, String> {
        let digest = |word: &str| match word {
            "sha512" => Ok(Digest::Sha512),
            "sha256" => Ok(Digest::Sha256),
            _ => Err("unknown variant"),
        };
        let words = list.split(['[', ']', '"', ',', ' ']).filter(|word| !word.is_empty());
        let digests = words.map(digest).collect::<Result<Vec<_>, _>>()?;
        Digests::try_from(digests).map_err(|error| error.to_string())
    }

    fn left(digests: &Digests, numbers: &[&str]) -> Vec<String> {
        let digest = |numbers: &str| "07".repeat(if numbers.ends_with('2') { 64 } else { 32 });
        let record = |numbers: &&str| format!("{numbers} {}", digest(numbers)).parse::<Tlsa>().unwrap();
        let mut records: Vec<Tlsa> = numbers.iter().map(record).collect();
        records.retain(|record| digests.admit(record).is_ok());
        digests.reduce(&mut records);
        records.iter().map(|record| record.form().to_string()).collect()
    }

    /// E4, E7, E8.
    #[test]
    fn the_order_is_the_operators() {
        let all = ["3 1 1", "3 1 2", "3 0 1", "2 1 2"];
        for (list, expected) in [
            (r#"["sha512", "sha256"]"#, vec!["3 1 2", "3 0 1", "2 1 2"]),
            (r#"["sha256", "sha512"]"#, vec!["3 1 1", "3 0 1", "2 1 2"]),
            (r#"["sha256"]"#, vec!["3 1 1", "3 0 1"]),
        ] {
            assert_eq!(left(&digests(list).unwrap(), &all), expected, "{list}");
        }
        assert_eq!(digests(r#"["sha512", "sha256"]"#).unwrap(), Digests::default());
        for (list, why) in [
            ("[]", "must be in the list"),
            (r#"["sha512"]"#, "must be in the list"),
            (r#"["sha256", "sha512", "sha256"]"#, "twice"),
            (r#"["sha1", "sha256"]"#, "unknown variant"),
        ] {
            assert!(digests(list).unwrap_err().to_string().contains(why), "{list}");
        }
    }
}
