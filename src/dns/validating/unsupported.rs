//! The names of the algorithms and digests that are not checked here, for the log: a zone with DS records of these alone
//! counts as unsigned (RFC 4035 §5.2), which costs it its DANE.

use hickory_resolver::proto::dnssec::rdata::DS;

/// The algorithms and digests of DS records of which none can be followed, each once: `Ed448 with SHA-256`.
pub(super) fn described(records: &[DS]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for ds in records {
        let text = format!("{} with {}", algorithm(u8::from(ds.algorithm())), digest(u8::from(ds.digest_type())));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join(", ")
}

/// IANA's registry "DNS Security Algorithm Numbers".
fn algorithm(number: u8) -> String {
    let name = match number {
        1 => "RSA/MD5",
        3 => "DSA/SHA-1",
        5 => "RSA/SHA-1",
        6 => "DSA-NSEC3-SHA1",
        7 => "RSASHA1-NSEC3-SHA1",
        8 => "RSA/SHA-256",
        10 => "RSA/SHA-512",
        12 => "GOST R 34.10-2001",
        13 => "ECDSA P-256",
        14 => "ECDSA P-384",
        15 => "Ed25519",
        16 => "Ed448",
        17 => "SM2",
        23 => "GOST R 34.10-2012",
        other => return format!("algorithm {other}"),
    };
    name.to_owned()
}

/// IANA's registry "Digest Algorithms" of DS records.
fn digest(number: u8) -> String {
    let name = match number {
        1 => "SHA-1",
        2 => "SHA-256",
        3 => "GOST R 34.11-94",
        4 => "SHA-384",
        5 => "GOST R 34.11-2012",
        6 => "SM3",
        other => return format!("digest {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::{Algorithm, DigestType};

    use super::super::super::reply::DsSupport;
    use super::super::convert::ds_support;
    use super::*;

    fn ds(algorithm: u8, digest: u8) -> DS {
        DS::new(1, Algorithm::from_u8(algorithm), DigestType::from(digest), vec![0; 32])
    }

    #[test]
    fn the_algorithms_that_are_not_checked_are_named() {
        let named = |pairs: &[(u8, u8)]| described(&pairs.iter().map(|(by, over)| ds(*by, *over)).collect::<Vec<_>>());
        assert_eq!(named(&[(16, 2), (16, 2)]), "Ed448 with SHA-256");
        assert_eq!(
            named(&[(12, 3), (200, 77)]),
            "GOST R 34.10-2001 with GOST R 34.11-94, algorithm 200 with digest 77"
        );
    }

    #[test]
    fn rsa_with_sha1_is_checked_and_ed448_is_not() {
        for number in [5, 7, 8, 10, 13, 14, 15] {
            for digest in [1, 2, 4] {
                assert_eq!(ds_support(&ds(number, digest)), DsSupport::Supported, "{number} {digest}");
            }
        }
        for (number, digest) in [(1, 2), (3, 2), (6, 2), (12, 2), (16, 2), (17, 2), (23, 2), (13, 3), (13, 5), (13, 6)]
        {
            assert_eq!(ds_support(&ds(number, digest)), DsSupport::Unsupported, "{number} {digest}");
        }
    }
}
