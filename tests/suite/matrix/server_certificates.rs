//! DANE-EE: certificates that are odd in every way, under a record that names their key.

use super::keys::*;
use super::row::*;
use crate::certificates::{
    self, ANY_PURPOSE, CLIENT_AUTH, CONTENT_COMMITMENT, KEY_CERT_SIGN, Spec, alternative_names, authority, cn,
    critical, der, dn, dns_names, key_usage, name_constraints, plain, purposes, seq, unknown_critical,
};

const PAST: &str = "20210101000000Z";
const FUTURE: &str = "20490101000000Z";

const SMALL_RSA: Cause = Cause::Decision("RSA keys below 2048 bits are refused (decision 15)");
const NO_SHARED: (&str, &str) = ("no-shared-tls-parameters", "share no TLS parameters");

/// Keys.
pub(crate) fn keys() -> Vec<Row> {
    let kind = |what: &str, kind| ee(what, Spec::default()).key(Leaf, (kind, 0));
    let small = |what, id, says| kind(what, id).but(BOTH, ("rsa-key-size", says), SMALL_RSA);
    vec![
        kind("P-256", P256),
        kind("P-384", P384),
        kind("P-521", P521),
        kind("Ed25519", ED25519),
        kind("Ed448", ED448).but(BOTH, NO_SHARED, Cause::Rustls("no provider has Ed448")),
        kind("RSA 2048", RSA_2048),
        kind("RSA 2049", RSA_2049),
        kind("RSA 3072", RSA_3072),
        kind("RSA 4096", RSA_4096),
        kind("RSA with exponent 3", RSA_E3),
        small("RSA 1024", RSA_1024, "RSA key of 1024 bits"),
        small("RSA 1536", RSA_1536, "RSA key of 1536 bits"),
        small("RSA 2047", RSA_2047, "RSA key of 2047 bits"),
        kind("RSASSA-PSS key", PSS).but(BOTH, NO_SHARED, Cause::Rustls("it does not offer rsa_pss_pss_*")),
        kind("RSASSA-PSS key bound to SHA-256", PSS_SHA256).but(
            BOTH,
            NO_SHARED,
            Cause::Rustls("it does not offer rsa_pss_pss_*"),
        ),
        kind("explicit curve parameters", EXPLICIT).but(
            BOTH,
            ("unsupported-key", "kind that is not supported"),
            Cause::Rustls("webpki knows curves by name only (and RFC 5480 §2.1.1 allows no others)"),
        ),
        kind("secp256k1", K256).refused("no-shared-tls-parameters"),
        kind("brainpoolP256r1", BRAINPOOL).refused("no-shared-tls-parameters"),
    ]
}

/// Everything but the key.
pub(crate) fn contents() -> Vec<Row> {
    let with = |extensions: Vec<Vec<u8>>| Spec { extensions, ..Spec::default() };
    let v1 = || Spec { version: vec![], extensions: vec![], ..Spec::default() };
    let subject = |subject| Spec { subject, extensions: vec![], ..Spec::default() };
    let names: Vec<String> = (0..1000).map(|index| format!("host{index}.example.com")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rows = vec![
        ee("v1", v1()),
        ee("v1 with an RSA key", v1()).key(Leaf, (RSA_2048, 0)),
        ee("v1 with extensions", Spec { version: vec![], ..Spec::default() }),
        ee("v2", Spec { version: vec![0xa0, 3, 2, 1, 1], ..v1() }),
        ee("v4", Spec { version: vec![0xa0, 3, 2, 1, 3], ..Spec::default() }),
        ee(
            "unique identifiers",
            Spec { before_extensions: [der(0x81, &[0, 7]), der(0x82, &[0, 8])].concat(), ..Spec::default() },
        ),
        ee("critical unknown extension", with(vec![unknown_critical()])),
        ee("unknown extension with garbage", with(vec![plain(99, &[0xff])])),
        ee("malformed subjectAltName", with(vec![plain(17, &[0xff])])).served(ONLY_13),
        ee("malformed CRL distribution points", with(vec![plain(31, &[0xff])])).served(ONLY_13),
        ee("malformed basicConstraints", with(vec![plain(19, &[0x30])])).served(ONLY_13),
        ee("malformed keyUsage", with(vec![plain(15, &[0xff])])).served(ONLY_13),
        ee("doubled extension", with(vec![dns_names(&["mx.example.com"]); 2])).served(ONLY_13),
        ee("no extension", with(vec![])),
        ee("expired", Spec { not_after: PAST, ..Spec::default() }),
        ee("not yet valid", Spec { not_before: FUTURE, ..Spec::default() }),
        ee("dates the wrong way round", Spec { not_before: FUTURE, not_after: PAST, ..Spec::default() }),
        ee(
            "dates that are none",
            Spec { validity: Some(seq(0x30, &[der(0x17, b"never"), der(0x18, b"ever")])), ..Spec::default() },
        ),
        ee("empty subject, no name", subject(dn(&[]))),
        ee("empty issuer", Spec { issuer: dn(&[]), ..Spec::default() }),
        ee("empty subject and issuer", Spec { issuer: dn(&[]), ..subject(dn(&[])) }),
        ee("another name", with(vec![dns_names(&["evil.example"])])),
        ee("common name only", subject(cn("mx.example.com"))),
        ee("an address for a name", with(vec![alternative_names(&[der(0x87, &[192, 0, 2, 1])])])),
        ee("an empty name", with(vec![dns_names(&[""])])),
        ee("a NUL in the name", with(vec![dns_names(&["mx.example.com\0.evil.example"])])),
        ee("a name in UTF-8", with(vec![dns_names(&["mx.bücher.example"])])),
        ee("1000 names", with(vec![dns_names(&names)])),
        ee("for clients", with(vec![purposes(&[CLIENT_AUTH])])),
        ee("for any purpose", with(vec![purposes(&[ANY_PURPOSE])])),
        ee("for no purpose", with(vec![purposes(&[])])),
        ee("key usage content commitment", with(vec![key_usage(CONTENT_COMMITMENT)])).served(ONLY_13),
        ee("key usage certificates", with(vec![key_usage(KEY_CERT_SIGN)])).served(ONLY_13),
        ee("an authority", with(vec![authority()])),
        ee(
            "name constraints against itself",
            with(vec![authority(), name_constraints(&[], &[certificates::dns_name("example.com")])]),
        ),
        ee("critical name constraints with garbage", with(vec![critical(30, &[0xff])])).served(ONLY_13),
        ee("serial number negative", Spec { serial: vec![0x80], ..Spec::default() }),
        ee("serial number zero", Spec { serial: vec![0], ..Spec::default() }),
        ee("serial number of 40 octets", Spec { serial: vec![0x7f; 40], ..Spec::default() }),
        ee("an extension of 30 KB", with(vec![plain(99, &[0; 30_000])])),
        ee("two signature algorithms", Spec { inner_algorithm: Some(vec![0x2a, 3]), ..Spec::default() }),
        ee("an unknown signature algorithm", Spec { algorithm: vec![0x2a, 3, 4], ..Spec::default() }),
        ee("self-signed", Spec { issuer: cn("A mail server"), ..Spec::default() }),
    ];
    for (what, scheme) in [("MD5", RSA_MD5), ("SHA-1", RSA_SHA1)] {
        let row = ee(&format!("signed with {what}"), Spec::default()).key(Inter, (RSA_2048, 1));
        rows.push(Row { schemes: [scheme, ECDSA_SHA256, ECDSA_SHA256], ..row });
    }
    let forged = ee("signed by somebody else", Spec::default());
    rows.push(Row { leaf_signer: Stranger, ..forged });
    rows
}

/// Records.
pub(crate) fn records() -> Vec<Row> {
    let good = |what: &str| ee(what, Spec::default());
    let mut rows = Vec::new();
    for numbers in ["3 0 0", "3 0 1", "3 0 2", "3 1 0", "3 1 1", "3 1 2"] {
        rows.push(good(numbers).records(&[(numbers, Leaf)]));
        rows.push(good(&format!("{numbers} of another")).records(&[(numbers, Stranger)]).refused("tlsa-mismatch"));
    }
    rows.extend([
        good("weak right, strong wrong").records(&[("3 1 1", Leaf), ("3 1 2", Stranger)]).refused("tlsa-mismatch"),
        good("weak wrong, strong right").records(&[("3 1 1", Stranger), ("3 1 2", Leaf)]),
        good("weak right, strong wrong, of the certificate")
            .records(&[("3 0 1", Leaf), ("3 0 2", Stranger)])
            .refused("tlsa-mismatch"),
        good("strong wrong, of another selector").records(&[("3 0 1", Leaf), ("3 1 2", Stranger)]),
        good("strong wrong, in full right").records(&[("3 1 0", Leaf), ("3 1 2", Stranger)]),
        good("one of two").records(&[("3 1 1", Stranger), ("3 1 1", Leaf)]),
        Row { raw_records: vec!["3 1 2 ABCD"], ..good("strong and malformed") },
        Row { raw_records: vec!["3 1 0 ABCD", "3 0 0 30"], ..good("in full and malformed") },
        Row {
            raw_records: vec!["4 1 1 AB", "3 2 1 AB", "3 1 3 AB", "255 255 255 AB"],
            ..good("numbers that nobody knows")
        },
        good("of the issuer").sent(&[Leaf, Inter, Root]).records(&[("3 1 1", Inter)]).refused("tlsa-mismatch"),
        good("of the root").sent(&[Leaf, Inter, Root]).records(&[("3 0 1", Root)]).refused("tlsa-mismatch"),
        good("a whole chain, shuffled").sent(&[Leaf, Root, Stranger, Inter]),
        good("EE right, TA wrong").sent(&[Leaf, Inter, Root]).records(&[("3 1 1", Leaf), ("2 1 1", Stranger)]),
        good("EE right under another name").sent(&[Leaf, Inter, Root]).name("evil.example"),
        good("EE wrong, TA right").sent(&[Leaf, Inter, Root]).records(&[("3 1 1", Stranger), ("2 1 1", Root)]).depth(2),
    ]);
    let many = vec![Stranger; 20];
    rows.push(good("21 certificates").sent(&[&[Leaf][..], &many].concat()));
    let big = Spec { extensions: vec![authority(), plain(99, &[0; 40_000])], ..Spec::authority("Big", "Big") };
    let big = Row { extra: vec![(big, Stranger, Stranger)], ..good("80 KB of certificates") };
    rows.push(big.sent(&[Leaf, Extra(0), Extra(0)]).but(
        BOTH,
        ("tls-broken", "a handshake message of more than 64 KB"),
        Cause::Rustls("a handshake message has at most 64 KB"),
    ));
    rows
}
