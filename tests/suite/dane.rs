//! The demands of DANE-TA on a chain (RFC 7671 §5.2, RFC 7672 §3.2), certificate by certificate. The verdicts are those
//! of Postfix, that is OpenSSL at security level 1, except for RSA keys below 2048 bits (decision 15).
//!
//! Each scenario is also shown to `openssl s_client` (3.0 or later), which has to agree; where it does not, the scenario
//! says why ([`Scenario::alone`]).

use std::sync::LazyLock;

use crate::certificates::{
    ANY_PURPOSE, BMP, CLIENT_AUTH, CONTENT_COMMITMENT, DIGITAL_SIGNATURE, KEY_CERT_SIGN, PRINTABLE, SERVER_AUTH,
    SERVER_GATED, Spec, UTF8, alternative_names, authority, authority_key, authority_over, cn, critical, der, dn,
    dns_name, dns_names, key, key_usage, name_constraints, no_authority, plain, purposes, rsa_spki, seq, subject_key,
    tlsa, unknown_critical,
};
use crate::chain::Holder::{self, Extra, Inter, Leaf, Root, Stranger};
use danelaw::dane::mismatch::{Defect, Mismatch};
use danelaw::dane::tlsa::Usable;
use danelaw::dane::verify::{Expectation, Match, References, Warning, verify};
use danelaw::name::Name;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, UnixTime};

/// 2026-11-21.
const NOW: u64 = 1_795_219_200;
const PAST: &str = "20210101000000Z";
const FUTURE: &str = "20490101000000Z";

/// By [`Holder::place`].
static KEYS: LazyLock<[KeyPair; 4]> = LazyLock::new(|| [key(), key(), key(), key()]);

/// A server's chain and its records. The default is a good one: root, intermediate authority and server, all sent, and
/// the root's key in the record.
#[derive(Clone)]
struct Scenario {
    leaf: Spec,
    inter: Spec,
    root: Spec,
    sent: Vec<Holder>,
    records: Vec<(&'static str, Holder)>,
    references: Vec<&'static str>,
    leaf_signer: Holder,
    /// Why OpenSSL is more lenient here, if it is.
    alone: Option<&'static str>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            leaf: Spec { issuer: cn("Inter"), ..Spec::default() },
            inter: Spec::authority("Inter", "Root"),
            root: Spec::authority("Root", "Root"),
            sent: vec![Leaf, Inter, Root],
            records: vec![("2 1 1", Root)],
            references: vec!["mx.example.com"],
            leaf_signer: Inter,
            alone: None,
        }
    }
}

impl Scenario {
    fn certificate(&self, who: Holder) -> CertificateDer<'static> {
        let [leaf, inter, root, stranger] = &*KEYS;
        match who {
            Leaf => self.leaf.issue(leaf, &KEYS[self.leaf_signer.place()]),
            Inter => self.inter.issue(inter, root),
            Root => self.root.issue(root, root),
            Stranger => Spec::authority("Stranger", "Stranger").issue(stranger, stranger),
            Extra(_) => unreachable!("there are no additional certificates here"),
        }
    }

    fn verdict(&self) -> Result<Match, Mismatch> {
        // ECDSA signatures differ each time: a certificate is made once.
        let all = [Leaf, Inter, Root, Stranger].map(|who| self.certificate(who));
        let records: Vec<String> = self
            .records
            .iter()
            .map(|&(numbers, who)| tlsa(numbers, &all[who.place()], &KEYS[who.place()].subject_public_key_info()))
            .collect();
        let chain: Vec<_> = self.sent.iter().map(|&who| all[who.place()].clone()).collect();
        let verdict = verify(&chain, &expectation(&records, &self.references), now());
        // s_client takes one name only.
        if let [name] = self.references.as_slice() {
            let theirs = crate::openssl::accepts(&chain, &KEYS[Leaf.place()], (name, &records), NOW);
            let ours = verdict.is_ok();
            assert_eq!(theirs, ours || self.alone.is_some(), "{verdict:?}, and OpenSSL differs");
        }
        verdict
    }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW))
}

fn expectation(records: &[String], references: &[&str]) -> Expectation {
    let names: Vec<Name> = references.iter().map(|name| Name::parse(name).unwrap()).collect();
    let records = records.iter().map(|record| record.parse().unwrap()).collect();
    Expectation {
        usable: Usable::new(names[0].clone(), records).unwrap(),
        references: References::new(names[0].clone(), names),
    }
}

#[track_caller]
fn accepted(what: &str, scenario: &Scenario) -> Match {
    match scenario.verdict() {
        Ok(found) => found,
        Err(why) => panic!("{what}: {why}"),
    }
}

#[track_caller]
fn refused(what: &str, label: &str, scenario: &Scenario) -> Mismatch {
    match scenario.verdict() {
        Ok(found) => panic!("{what}: accepted by {}", found.record),
        Err(why) => {
            assert_eq!(why.label(), label, "{what}: {why}");
            why
        }
    }
}

#[track_caller]
fn defect(what: &str, expected: &Defect, scenario: &Scenario) {
    match refused(what, "chain-not-verified", scenario) {
        Mismatch::Path(_, defect) => assert_eq!(&defect, expected, "{what}"),
        why => panic!("{what}: {why}"),
    }
}

/// OpenSSL accepts this one, and danelaw does not.
fn alone(why: &'static str, scenario: Scenario) -> Scenario {
    Scenario { alone: Some(why), ..scenario }
}

fn leaf(spec: Spec) -> Scenario {
    Scenario { leaf: Spec { issuer: cn("Inter"), ..spec }, ..Scenario::default() }
}

fn inter(extensions: Vec<Vec<u8>>) -> Scenario {
    Scenario { inter: Spec { extensions, ..Spec::authority("Inter", "Root") }, ..Scenario::default() }
}

fn root(spec: Spec) -> Scenario {
    Scenario { root: spec, ..Scenario::default() }
}

/// E6, E9, F12: every selector and matching type, of the root and of an intermediate; one match is enough.
#[test]
fn the_anchor_may_be_any_authority_in_the_chain() {
    for numbers in ["2 0 0", "2 0 1", "2 0 2", "2 1 0", "2 1 1", "2 1 2"] {
        for (who, depth) in [(Inter, 1), (Root, 2)] {
            let found = accepted(numbers, &Scenario { records: vec![(numbers, who)], ..Scenario::default() });
            assert_eq!((found.depth, found.warning), (depth, None));
            assert!(found.record.to_string().starts_with(numbers));
        }
        let stranger = Scenario { records: vec![(numbers, Stranger)], ..Scenario::default() };
        match numbers {
            "2 0 0" | "2 1 0" => defect(numbers, &Defect::NoIssuer, &Scenario { sent: vec![Leaf], ..stranger }),
            _ => drop(refused(numbers, "tlsa-mismatch", &stranger)),
        }
    }
    let several = vec![("3 1 1", Stranger), ("3 0 1", Stranger), ("2 1 1", Stranger), ("2 1 1", Root)];
    accepted("one of several", &Scenario { records: several, ..Scenario::default() });
    // DANE-EE decides first, and then no name matters.
    let both = vec![("2 1 1", Root), ("3 1 1", Leaf)];
    let found = accepted("both", &Scenario { records: both, references: vec!["other.example"], ..Scenario::default() });
    assert_eq!(found.depth, 0);
}

/// E7, A-28: the weaker digest of the same usage and selector does not count beside the stronger one.
#[test]
fn a_weaker_digest_does_not_help() {
    for (records, verdict) in [
        (vec![("3 1 1", Leaf), ("3 1 2", Stranger)], Err("tlsa-mismatch")),
        (vec![("3 1 1", Stranger), ("3 1 2", Leaf)], Ok(())),
        (vec![("3 0 1", Leaf), ("3 1 2", Stranger)], Ok(())),
        (vec![("3 1 0", Leaf), ("3 1 2", Stranger)], Ok(())),
        (vec![("2 1 1", Root), ("3 1 2", Stranger)], Ok(())),
        (vec![("2 1 1", Root), ("2 1 2", Stranger)], Err("tlsa-mismatch")),
    ] {
        let scenario = Scenario { records: records.clone(), ..Scenario::default() };
        assert_eq!(scenario.verdict().map(drop).map_err(|why| why.label()), verdict);
    }
}

/// F12, F13, F14, A-25: the certificates that the server sends, and their order.
#[test]
fn the_order_does_not_matter_but_the_anchor_must_be_there() {
    for sent in
        [vec![Leaf, Root, Inter], vec![Leaf, Stranger, Inter, Stranger, Root, Inter], vec![Leaf, Leaf, Inter, Root]]
    {
        accepted("shuffled", &Scenario { sent, ..Scenario::default() });
    }
    let without_root = Scenario { sent: vec![Leaf, Inter], ..Scenario::default() };
    for numbers in ["2 0 1", "2 1 1"] {
        refused("omitted", "tlsa-mismatch", &Scenario { records: vec![(numbers, Root)], ..without_root.clone() });
    }
    for numbers in ["2 0 0", "2 1 0"] {
        let found = accepted("omitted", &Scenario { records: vec![(numbers, Root)], ..without_root.clone() });
        assert_eq!(found.depth, 2);
        let alone = Scenario { sent: vec![Leaf], records: vec![(numbers, Inter)], ..Scenario::default() };
        assert_eq!(accepted("alone", &alone).depth, 1);
    }
    defect(
        "a gap",
        &Defect::NoIssuer,
        &Scenario { sent: vec![Leaf, Root], records: vec![("2 0 1", Root)], ..Scenario::default() },
    );
    // F14: the bare key's certificate may have expired, which the key does not show; the certificate that it signed
    // must not have.
    let expired = Spec { not_after: PAST, ..Spec::authority("Inter", "Root") };
    refused(
        "expired below a bare key",
        "certificate-expired",
        &Scenario { inter: expired, records: vec![("2 1 0", Root)], ..without_root },
    );
}

/// F18: the certificate at depth 0 is never an anchor, even if it is sent twice or published in full.
#[test]
fn the_server_certificate_is_not_its_own_trust_anchor() {
    let own = Spec { issuer: cn("Own"), subject: cn("Own"), ..Spec::default() };
    for extensions in [vec![dns_names(&["mx.example.com"])], vec![dns_names(&["mx.example.com"]), authority()]] {
        let own = Spec { extensions, ..own.clone() };
        for sent in [vec![Leaf], vec![Leaf, Leaf]] {
            let scenario = Scenario { leaf: own.clone(), leaf_signer: Leaf, sent, ..Scenario::default() };
            for numbers in ["2 0 0", "2 0 1", "2 0 2", "2 1 1", "2 1 2"] {
                let scenario = Scenario { records: vec![(numbers, Leaf)], ..scenario.clone() };
                refused(numbers, "tlsa-mismatch", &scenario);
            }
            // A bare key that signed the certificate is another case, and Postfix takes it (RFC 7671 §5.2.3).
            accepted("2 1 0", &Scenario { records: vec![("2 1 0", Leaf)], ..scenario });
        }
    }
    refused("leaf in a chain", "tlsa-mismatch", &Scenario { records: vec![("2 1 1", Leaf)], ..Scenario::default() });
}

/// F16: a certificate that matches a record, and signed no other.
#[test]
fn an_anchor_must_have_signed() {
    let beside =
        Scenario { records: vec![("2 1 1", Stranger)], sent: vec![Leaf, Inter, Root, Stranger], ..Scenario::default() };
    defect("beside the chain", &Defect::NoIssuer, &beside);
    defect("forged", &Defect::Signature, &Scenario { leaf_signer: Stranger, ..Scenario::default() });
    let sha1 = vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let weak = leaf(Spec { algorithm: sha1.clone(), ..Spec::default() });
    defect("SHA-1", &Defect::SignatureAlgorithm, &weak);
    let two = leaf(Spec { inner_algorithm: Some(sha1.clone()), ..Spec::default() });
    defect("two algorithms", &Defect::Signature, &two);
    let two = Spec { inner_algorithm: Some(sha1.clone()), ..Spec::authority("Root", "Root") };
    accepted("two algorithms at the root", &root(two));
    // The root's own signature proves no trust, so its algorithm does not matter.
    accepted("SHA-1 at the root", &root(Spec { algorithm: sha1, ..Spec::authority("Root", "Root") }));
}

/// F16: the server's own certificate has to meet every rule that DANE-EE ignores.
#[test]
fn the_server_certificate_under_an_anchor() {
    let with =
        |extension| leaf(Spec { extensions: vec![dns_names(&["mx.example.com"]), extension], ..Spec::default() });
    for (what, extension) in [
        ("serverAuth", purposes(&[CLIENT_AUTH, SERVER_AUTH])),
        ("digitalSignature", key_usage(DIGITAL_SIGNATURE)),
        ("CA:TRUE", authority()),
        ("CA:FALSE", no_authority()),
        ("unknown extension", plain(99, &[0xff])),
        ("critical policies", critical(32, &[0x30, 0x00])),
        ("critical policy mappings", critical(33, &[0x30, 0x00])),
        ("critical inhibitAnyPolicy", critical(54, &[2, 1, 0])),
        ("critical policy constraints that inhibit mappings", critical(36, &[0x30, 3, 0x81, 1, 0])),
    ] {
        accepted(what, &with(extension));
    }
    // RFC 5280 §6.1.5 (g): a path has to have a policy where one is required. We do not look for one.
    for constraints in [&[0x30, 3, 0x80, 1, 0][..], &[0x30, 6, 0x80, 1, 0, 0x81, 1, 0], &[0x30, 0], &[0x80, 1, 0]] {
        let required = Defect::CriticalExtension("2.5.29.36".into());
        let scenario = alone("OpenSSL does not look for policies", with(critical(36, constraints)));
        defect("policy constraints", &required, &scenario);
    }
    for (what, extension, expected) in [
        ("clientAuth", purposes(&[CLIENT_AUTH]), Defect::ExtendedKeyUsage),
        ("any purpose", purposes(&[ANY_PURPOSE]), Defect::ExtendedKeyUsage),
        ("key usage", key_usage(CONTENT_COMMITMENT), Defect::KeyUsage),
        ("critical", unknown_critical(), Defect::CriticalExtension("2.5.29.99".into())),
        ("doubled", dns_names(&["a.example"]), Defect::Malformed("extensions (one of them is there twice)")),
        ("broken", plain(19, &[0x30]), Defect::Malformed("basicConstraints")),
    ] {
        defect(what, &expected, &with(extension));
    }
    refused("expired", "certificate-expired", &leaf(Spec { not_after: PAST, ..Spec::default() }));
    refused("not yet", "certificate-not-yet-valid", &leaf(Spec { not_before: FUTURE, ..Spec::default() }));
    // RFC 5280 §4.1.2.9 has extensions in v3 only. Postfix heeds them in all.
    accepted("extensions in v1", &leaf(Spec { version: vec![], ..Spec::default() }));
    let v1 = with(purposes(&[CLIENT_AUTH])).leaf;
    defect("extensions in v1", &Defect::ExtendedKeyUsage, &leaf(Spec { version: vec![], ..v1 }));
    // If the chain has no anchor, the error says so, and does not say that the certificate has expired.
    let expired = leaf(Spec { not_after: PAST, ..Spec::default() });
    refused("expired, unknown", "tlsa-mismatch", &Scenario { records: vec![("2 1 1", Stranger)], ..expired });
}

/// F16, A-26: every authority between the server and the anchor.
#[test]
fn intermediate_authorities() {
    for (what, extensions) in [
        ("path length", vec![authority_over(0)]),
        ("key usage", vec![authority(), key_usage(KEY_CERT_SIGN)]),
        ("purpose", vec![authority(), purposes(&[SERVER_AUTH])]),
    ] {
        accepted(what, &inter(extensions));
    }
    for (what, extensions, expected) in [
        ("CA:FALSE", vec![no_authority()], Defect::NoAuthority),
        ("no basicConstraints", vec![], Defect::NoAuthority),
        ("key usage alone", vec![key_usage(KEY_CERT_SIGN)], Defect::NoAuthority),
        ("key usage", vec![authority(), key_usage(DIGITAL_SIGNATURE)], Defect::KeyUsage),
        ("purpose", vec![authority(), purposes(&[CLIENT_AUTH])], Defect::ExtendedKeyUsage),
        ("critical", vec![authority(), unknown_critical()], Defect::CriticalExtension("2.5.29.99".into())),
    ] {
        defect(what, &expected, &inter(extensions));
    }
    let dated = |not_before, not_after| Spec { not_before, not_after, ..Spec::authority("Inter", "Root") };
    let expired = Scenario { inter: dated("20200101000000Z", PAST), ..Scenario::default() };
    refused("expired", "certificate-expired", &expired);
    let future = Scenario { inter: dated(FUTURE, "20500101000000Z"), ..Scenario::default() };
    refused("not yet valid", "certificate-not-yet-valid", &future);
    // Decision 15: as an anchor that is not self-signed it is taken, with a warning.
    for scenario in [expired, future] {
        let found = accepted("out of date", &Scenario { records: vec![("2 1 1", Inter)], ..scenario });
        assert_eq!(found.warning, Some(Warning::AnchorOutOfDate));
    }
    let v1 = Spec { version: vec![], extensions: vec![], ..Spec::authority("Inter", "Root") };
    defect("v1", &Defect::NoAuthority, &Scenario { inter: v1, ..Scenario::default() });
    // BER has any octet but 0 for TRUE; no such value is read as FALSE.
    let ber = |octet| plain(19, &seq(0x30, &[der(0x01, &[octet])]));
    accepted("TRUE in BER", &inter(vec![ber(1)]));
    defect("FALSE in BER", &Defect::NoAuthority, &inter(vec![ber(0)]));
}

/// RFC 7671 §5.2.3: an authority's key in DNS, and the authority's certificate among those that were sent.
#[test]
fn a_bare_key_and_its_certificate() {
    let bare = |scenario| Scenario { records: vec![("2 1 0", Root)], ..scenario };
    // It is not the issuer by its name: the key is, as if the certificate had not been sent.
    accepted("of another name", &bare(root(Spec::authority("Anonymous", "Anonymous"))));
    // It might have been the issuer, and its restrictions are not known.
    for extensions in [vec![authority(), plain(30, &[0xff])], vec![authority(), authority()]] {
        let scenario = bare(root(Spec { extensions, ..Spec::authority("Root", "Root") }));
        let scenario = Scenario { alone: Some("OpenSSL passes over some extensions it cannot read"), ..scenario };
        let why = refused("unreadable", "chain-not-verified", &scenario).to_string();
        assert!(why.contains("the trust anchor of the TLSA record cannot be read"), "{why}");
    }
}

/// F15, F17: the anchor's own certificate restricts the chain; the certificates above the anchor restrict no other.
#[test]
fn the_anchor_is_held_to_its_own_word() {
    let with = |extensions| Spec { extensions, ..Spec::authority("Root", "Root") };
    let v1 = Spec { version: vec![], extensions: vec![], ..Spec::authority("Root", "Root") };
    accepted("v1", &root(v1));
    accepted("path length", &root(with(vec![authority_over(1)])));
    accepted("key usage for basicConstraints", &root(with(vec![key_usage(KEY_CERT_SIGN)])));
    accepted("for servers as they were called", &root(with(vec![authority(), purposes(&[SERVER_GATED])])));
    let bad = [
        (with(vec![authority_over(0)]), Defect::PathLength),
        (with(vec![no_authority()]), Defect::NoAuthority),
        (with(vec![]), Defect::NoAuthority),
        (with(vec![authority(), key_usage(DIGITAL_SIGNATURE)]), Defect::KeyUsage),
        (with(vec![authority(), purposes(&[CLIENT_AUTH])]), Defect::ExtendedKeyUsage),
        (with(vec![authority(), unknown_critical()]), Defect::CriticalExtension("2.5.29.99".into())),
    ];
    for (spec, expected) in bad {
        for numbers in ["2 0 0", "2 0 1", "2 1 0", "2 1 1"] {
            let scenario = Scenario { records: vec![(numbers, Root)], ..root(spec.clone()) };
            defect(numbers, &expected, &scenario);
        }
        accepted("above the anchor", &Scenario { records: vec![("2 1 1", Inter)], ..root(spec) });
    }
    let expired = root(Spec { not_after: PAST, ..Spec::authority("Root", "Root") });
    for numbers in ["2 0 0", "2 0 1", "2 1 0", "2 1 1"] {
        refused(numbers, "certificate-expired", &Scenario { records: vec![(numbers, Root)], ..expired.clone() });
    }
    accepted("above the anchor", &Scenario { records: vec![("2 1 1", Inter)], ..expired });
}

/// F6 to F11, R4 to R9, A-27: the names in the certificate.
#[test]
fn names() {
    for (presented, reference, verdict) in [
        (vec!["mx.example.com"], "mx.example.com", true),
        (vec!["MX.Example.COM"], "mx.example.com", true),
        (vec!["mx_1.example.com"], "mx_1.example.com", true),
        (vec!["a*.example", "*", "", "mx.example.com"], "mx.example.com", true),
        (vec!["*.example.com"], "mx.example.com", true),
        (vec!["*.EXAMPLE.com"], "mx.example.com", true),
        (vec!["*.example.com"], "a.mx.example.com", false),
        (vec!["*.example.com"], "mx_1.example.com", false),
        (vec!["*.ex_ample.com"], "mx.ex_ample.com", false),
        (vec!["*.example.com"], "example.com", false),
        (vec!["*.com"], "example.com", false),
        (vec!["*"], "com", false),
        (vec!["*.*.com"], "mx.example.com", false),
        (vec!["m*.example.com"], "mx.example.com", false),
        (vec!["mx.*.com"], "mx.example.com", false),
        (vec!["mx.example.com."], "mx.example.com", false),
        (vec!["mx.example.com\0.evil.example"], "mx.example.com", false),
        (vec!["mx.example.com\0"], "mx.example.com", false),
        (vec![" mx.example.com"], "mx.example.com", false),
        (vec![""], "mx.example.com", false),
        (vec!["example.com"], "mx.example.com", false),
        (vec!["bücher.example"], "xn--bcher-kva.example", false),
        (vec!["192.0.2.1"], "mx.example.com", false),
    ] {
        let partial = presented.iter().any(|name| name.starts_with("m*"));
        let scenario = Scenario {
            references: vec![reference],
            alone: partial.then_some("RFC 9525 §6.3: no partial wildcards"),
            ..leaf(Spec { extensions: vec![dns_names(&presented)], ..Spec::default() })
        };
        if verdict {
            accepted(&presented.join(" "), &scenario);
        } else {
            refused(&presented.join(" "), "name-mismatch", &scenario);
        }
    }
    // as many names as a handshake has room for, and the right one is not among them.
    let mut many: Vec<String> = (0..2000).map(|index| format!("*.host{index}.example.com")).collect();
    let with = |names: &[String]| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        leaf(Spec { extensions: vec![dns_names(&names)], ..Spec::default() })
    };
    let began = std::time::Instant::now();
    let text = refused("many names", "name-mismatch", &with(&many)).to_string();
    assert!(text.contains("*.host4.example.com, 1995 more and not for mx.example.com"), "{text}");
    many.push("mx.example.com".into());
    accepted("many names", &with(&many));
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
    // F7: base domain, next hop, expanded next hop.
    let references = vec!["mx.example.com", "example.org", "exchange.example.org"];
    for name in references.clone() {
        let scenario = leaf(Spec { extensions: vec![dns_names(&[name])], ..Spec::default() });
        accepted(name, &Scenario { references: references.clone(), ..scenario });
    }
}

/// F10, R3, R7: a common name counts only in a certificate without any dNSName.
#[test]
fn common_names() {
    // Decision 6.
    let named = |extensions| Spec { subject: cn("mx.example.com"), extensions, ..Spec::default() };
    let address = der(0x87, &[192, 0, 2, 1]);
    accepted("no subjectAltName", &leaf(named(vec![])));
    accepted("only an address", &leaf(named(vec![alternative_names(std::slice::from_ref(&address))])));
    refused("another dNSName", "name-mismatch", &leaf(named(vec![dns_names(&["other.example"])])));
    refused("an unreadable dNSName", "name-mismatch", &leaf(named(vec![alternative_names(&[der(0x82, &[0xff])])])));
    let address = Spec { extensions: vec![alternative_names(&[address])], ..Spec::default() };
    match refused("only an address", "name-mismatch", &leaf(address)) {
        Mismatch::Name { found, .. } => assert_eq!(found, ["A mail server".to_owned()].into_iter().collect()),
        why => panic!("{why}"),
    }
    let padded = Spec { subject: cn("mx.example.com "), extensions: vec![], ..Spec::default() };
    refused("a blank more", "name-mismatch", &leaf(padded));
    let none = Spec { subject: dn(&[]), extensions: vec![], ..Spec::default() };
    let why = refused("nameless", "name-mismatch", &leaf(none)).to_string();
    assert_eq!(why, "the certificate is for no name at all and not for mx.example.com");
}

/// F15, A-26: name constraints, of the anchor and of an intermediate authority.
#[test]
fn constrained_authorities() {
    let within = |name| der(0xa4, &dn(&[(10, UTF8, name)]));
    let network = der(0x87, &[192, 0, 2, 0, 255, 255, 255, 0]);
    let email = der(0x81, b"example.com");
    for (what, permitted, excluded, forbidden) in [
        ("permitted", vec![dns_name("example.com")], vec![], None),
        ("permitted below a dot", vec![dns_name(".example.com")], vec![], None),
        ("one of two", vec![dns_name("example.org"), dns_name("EXAMPLE.com")], vec![], None),
        ("everything", vec![dns_name("")], vec![], None),
        ("another", vec![dns_name("example.org")], vec![], Some("mx.example.com")),
        ("no whole label", vec![dns_name("ample.com")], vec![], Some("mx.example.com")),
        ("excluded", vec![], vec![dns_name("example.com")], Some("mx.example.com")),
        ("both", vec![dns_name("example.com")], vec![dns_name("mx.example.com")], Some("mx.example.com")),
        ("excluded elsewhere", vec![], vec![dns_name("example.org")], None),
        ("everything excluded", vec![], vec![dns_name("")], Some("mx.example.com")),
        ("forms the server has not", vec![network.clone(), email.clone()], vec![], None),
        ("another organisation", vec![within("Example")], vec![], Some("the subject \"A mail server\"")),
        ("organisation excluded", vec![], vec![within("Example")], None),
    ] {
        let extensions = vec![authority(), name_constraints(&permitted, &excluded)];
        let at_root = root(Spec { extensions: extensions.clone(), ..Spec::authority("Root", "Root") });
        for scenario in [at_root, inter(extensions)] {
            match forbidden {
                None => drop(accepted(what, &scenario)),
                // Seen from the root, the intermediate authority's subject counts as well.
                Some(name) => defect(what, &Defect::NameConstraints(name.into()), &scenario),
            }
        }
    }
}

/// RFC 5280 §4.2.1.10: a constraint that the verifier does not understand is a refusal.
#[test]
fn constraints_that_fail_closed() {
    let network = der(0x87, &[192, 0, 2, 0, 255, 255, 255, 0]);
    let constrained = |permitted: &[Vec<u8>], excluded: &[Vec<u8>], leaf: Spec| Scenario {
        inter: Spec {
            extensions: vec![authority(), name_constraints(permitted, excluded)],
            ..Spec::authority("Inter", "Root")
        },
        leaf: Spec { issuer: cn("Inter"), ..leaf },
        ..Scenario::default()
    };
    let addressed = alternative_names(&[dns_name("mx.example.com"), der(0x87, &[192, 0, 2, 1])]);
    let addressed = Spec { extensions: vec![addressed], ..Spec::default() };
    let address = Defect::NameConstraints("the address 192.0.2.1".into());
    accepted("address permitted", &constrained(std::slice::from_ref(&network), &[], addressed.clone()));
    defect("address excluded", &address, &constrained(&[], &[network], addressed.clone()));
    let others = [der(0x87, &[198, 51, 100, 0, 255, 255, 255, 0]), der(0x87, &[0; 32])];
    defect("other addresses permitted", &address, &constrained(&others, &[], addressed.clone()));
    accepted("other addresses excluded", &constrained(&[], &others, addressed));
    let email = Spec { subject: seq_email(), ..Spec::default() };
    let form = Defect::NameConstraints("a name of the form [1]".into());
    let email = constrained(&[der(0x81, b"example.com")], &[], email);
    defect("email in the subject", &form, &alone("only DNS names, directory names and addresses are compared", email));
    // A wildcard that covers an excluded name, and a common name that is used as a DNS name.
    let wildcard = Spec { extensions: vec![dns_names(&["*.example.com"])], ..Spec::default() };
    let name = Defect::NameConstraints("*.example.com".into());
    let reaching = constrained(&[], &[dns_name("mx.example.com")], wildcard.clone());
    defect("wildcard", &name, &alone("the wildcard covers an excluded name", reaching));
    accepted("wildcard", &constrained(&[dns_name("example.com")], &[], wildcard));
    let common = Spec { subject: cn("mx.example.com"), extensions: vec![], ..Spec::default() };
    let name = Defect::NameConstraints("mx.example.com".into());
    defect("common name", &name, &constrained(&[], &[dns_name("example.com")], common));
    // A minimum other than 0 would shrink the subtree: such constraints make an authority unreadable, and it drops out.
    let minimum = [dns_name("example.com"), der(0x80, &[1])].concat();
    defect("minimum", &Defect::NoIssuer, &constrained(&[minimum], &[], Spec::default()));
    defect("no base", &Defect::NoIssuer, &constrained(&[dns_name("example.com.")], &[], Spec::default()));
}

/// A subject with an emailAddress.
fn seq_email() -> Vec<u8> {
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];
    let pair = [der(0x06, &oid), der(0x16, b"postmaster@example.com")].concat();
    der(0x30, &der(0x31, &der(0x30, &pair)))
}

/// RFC 5280 §7.1: two spellings of one name.
#[test]
fn issuers_are_found_by_name_in_any_spelling() {
    for (written, found) in [
        (dn(&[(3, PRINTABLE, "Inter")]), true),
        (dn(&[(3, BMP, "Inter")]), true),
        (dn(&[(3, UTF8, "  iNTER ")]), true),
        (dn(&[(3, UTF8, "In ter")]), false),
        (dn(&[(10, UTF8, "Inter")]), false),
        (dn(&[(3, UTF8, "Inter"), (3, UTF8, "Inter")]), false),
        (dn(&[(3, 0x04, "Inter")]), false),
    ] {
        let scenario = Scenario { leaf: Spec { issuer: written, ..Spec::default() }, ..Scenario::default() };
        if found {
            accepted("spelling", &scenario);
        } else {
            defect("spelling", &Defect::NoIssuer, &scenario);
        }
    }
}

/// An authority that changed its key and signed the new one with the old.
#[test]
fn self_issued_authorities() {
    let rollover = |keys: Vec<Vec<u8>>| Scenario {
        leaf: Spec { issuer: cn("Root"), ..Spec::default() },
        inter: Spec { extensions: [vec![authority_over(0)], keys].concat(), ..Spec::authority("Root", "Root") },
        root: Spec { extensions: vec![authority_over(0)], ..Spec::authority("Root", "Root") },
        ..Scenario::default()
    };
    accepted("told apart", &rollover(vec![subject_key(2), authority_key(1)]));
    defect("taken for a root", &Defect::NoIssuer, &rollover(vec![]));
}

/// Decision 15: rules of Postfix beside RFC 5280's rules for a path, and its demands on extensions that it does not
/// use.
#[test]
fn what_postfix_heeds() {
    // The extension that selects one of an issuer's certificates (RFC 5280 §4.2.1.1).
    let identified = |key: Vec<u8>| Scenario {
        inter: Spec { extensions: vec![authority(), subject_key(1)], ..Spec::authority("Inter", "Root") },
        leaf: Spec { issuer: cn("Inter"), extensions: vec![dns_names(&["mx.example.com"]), key], ..Spec::default() },
        ..Scenario::default()
    };
    let by_serial = |issuer: &str, serial: u8| {
        let issuer = der(0xa1, &der(0xa4, &cn(issuer)));
        identified(plain(35, &der(0x30, &[issuer, der(0x82, &[serial])].concat())))
    };
    accepted("its key", &identified(authority_key(1)));
    accepted("its serial number", &by_serial("Root", 1));
    for scenario in [identified(authority_key(2)), by_serial("Root", 2), by_serial("Stranger", 1)] {
        defect("another of that name", &Defect::NoIssuer, &scenario);
        let anchor = Scenario { records: vec![("2 1 1", Inter)], ..scenario };
        defect("another of that name, as anchor", &Defect::NoIssuer, &anchor);
    }
    let with =
        |extension| leaf(Spec { extensions: vec![dns_names(&["mx.example.com"]), extension], ..Spec::default() });
    let other = |id: &[u8], value: &[u8]| der(0x30, &[der(6, id), der(4, value)].concat());
    let netscape = |bits| with(other(&[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1], &der(3, &[0, bits])));
    accepted("Netscape: server", &netscape(0x40));
    defect("Netscape: client", &Defect::NetscapeType, &netscape(0x80));
    let proxy = with(other(&[0x2b, 6, 1, 5, 5, 7, 1, 0x0e], &[0x30, 0]));
    defect("proxy", &Defect::CriticalExtension("1.3.6.1.5.5.7.1.14".into()), &proxy);
    for (what, extension, expected) in [
        ("distribution points", plain(31, &[0xff]), Defect::Malformed("cRLDistributionPoints")),
        ("a point without a name", plain(31, &[0x30, 2, 0x30, 0]), Defect::Malformed("cRLDistributionPoints")),
        ("authority key", plain(35, &[0xff]), Defect::Malformed("authorityKeyIdentifier")),
        ("subject key", plain(14, &[0xff]), Defect::Malformed("subjectKeyIdentifier")),
        ("critical authority key", critical(35, &[0x30, 0]), Defect::CriticalExtension("2.5.29.35".into())),
        ("critical subject key", critical(14, &[4, 1, 1]), Defect::CriticalExtension("2.5.29.14".into())),
    ] {
        defect(what, &expected, &with(extension));
    }
    let v2 = Spec { version: vec![0xa0, 3, 2, 1, 1], extensions: vec![], ..Spec::default() };
    accepted("v2", &leaf(Spec { subject: cn("mx.example.com"), ..v2.clone() }));
    defect("v2 root", &Defect::NoAuthority, &root(Spec { subject: cn("Root"), issuer: cn("Root"), ..v2 }));
}

/// RFC 5280 §4.2.1.3, §4.1.2.5: a form that DER does not have is not read as if it were DER.
#[test]
fn forms_that_der_does_not_have() {
    let unused = critical(15, &der(0x03, &[3, KEY_CERT_SIGN]));
    defect("keyCertSign among unused bits", &Defect::KeyUsage, &inter(vec![authority(), unused]));
    let spare = critical(15, &der(0x03, &[1, KEY_CERT_SIGN | 1]));
    accepted("an unused bit that is set", &inter(vec![authority(), spare]));
    let unused = critical(15, &der(0x03, &[7, 0x20]));
    defect(
        "keyEncipherment among unused bits",
        &Defect::KeyUsage,
        &leaf(Spec { extensions: vec![dns_names(&["mx.example.com"]), unused], ..Spec::default() }),
    );
    for (what, tag, from, until, good) in [
        ("UTCTime", 0x17, "200101000000Z", "490101000000Z", true),
        ("GeneralizedTime before 2050", 0x18, "20200101000000Z", "20490101000000Z", true),
        ("an offset", 0x17, "200101000000+0000", "490101000000+0000", false),
        ("no seconds", 0x17, "2001010000Z", "4901010000Z", false),
        ("a fraction", 0x18, "20200101000000.5Z", "20490101000000.5Z", false),
        ("a fraction at the end", 0x18, "20200101000000Z", "20490101000000.0Z", false),
        ("no zone", 0x18, "20200101000000", "20490101000000", false),
    ] {
        let validity = Some(seq(0x30, &[der(tag, from.as_bytes()), der(tag, until.as_bytes())]));
        let dated = |spec: Spec| Spec { validity: validity.clone(), ..spec };
        let server = leaf(dated(Spec::default()));
        let authority = Scenario { inter: dated(Spec::authority("Inter", "Root")), ..Scenario::default() };
        if good {
            accepted(what, &server);
            accepted(what, &authority);
        } else {
            defect(what, &Defect::Malformed("validity"), &server);
            defect(what, &Defect::NoIssuer, &authority);
        }
    }
}

/// the cost of name constraints is bounded, for the whole path, and a certificate above the bound is not taken.
#[test]
fn constraints_that_cost_too_much() {
    let names = |number: usize| -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = (1..number).map(|number| dns_name(&format!("h{number}.example.com"))).collect();
        // The name that matches is the last one.
        names.push(dns_name("mx.example.com"));
        names
    };
    let subtrees =
        |number: usize| -> Vec<Vec<u8>> { (0..number).map(|number| dns_name(&format!("n{number}.test"))).collect() };
    let scenario = |sans: usize, excluded: usize| {
        let constraints = vec![authority(), name_constraints(&[], &subtrees(excluded))];
        // Both authorities have constraints, and both are applied to the server.
        Scenario {
            leaf: Spec { issuer: cn("Inter"), extensions: vec![alternative_names(&names(sans))], ..Spec::default() },
            inter: Spec { extensions: constraints.clone(), ..Spec::authority("Inter", "Root") },
            root: Spec { extensions: constraints, ..Spec::authority("Root", "Root") },
            ..Scenario::default()
        }
    };
    // The server's names and its subject, twice, and the subject of the authority between.
    accepted("as many as an honest chain may have", &scenario(500, 1_000));
    accepted("one subtree and many names", &scenario(2_000, 1));
    defect("one pair", &Defect::TooManyConstraints, &scenario(2_000, 1_000));
    let pairs = alone("OpenSSL has a bound for each pair of certificates, and none for all", scenario(1_000, 600));
    defect("two pairs", &Defect::TooManyConstraints, &pairs);
    // The authority of a `2 0 0` record, with its certificate in the DNS.
    let brought = Scenario { sent: vec![Leaf], records: vec![("2 0 0", Inter)], ..scenario(2_000, 1_000) };
    defect("an anchor from the DNS", &Defect::TooManyConstraints, &brought);
    // Each key in full that the records bring costs one signature.
    let keys = |number: usize| {
        let others = (1..number).map(|_| key().subject_public_key_info());
        let all = others.chain([KEYS[Root.place()].subject_public_key_info()]);
        let records: Vec<String> = all.map(|spki| tlsa("2 1 0", b"", &spki)).collect();
        let chain = [Leaf, Inter].map(|who| Scenario::default().certificate(who));
        verify(&chain, &expectation(&records, &["mx.example.com"]), now())
    };
    assert_eq!(keys(20).map(|found| found.depth), Ok(2));
    assert!(matches!(keys(21), Err(Mismatch::Path(_, Defect::TooManyKeys))));
    // Extensions are compared with each other, so their number is bounded.
    let many = |number: u8| {
        let mut extensions = vec![dns_names(&["mx.example.com"])];
        extensions.extend(
            (1..number).map(|number| seq(0x30, &[der(0x06, &[0x2a, number & 0x7f, number >> 7]), der(0x04, &[5, 0])])),
        );
        leaf(Spec { extensions, ..Spec::default() })
    };
    accepted("a hundred extensions", &many(100));
    let more = alone("OpenSSL counts no extensions", many(101));
    defect("more extensions", &Defect::Malformed("extensions (more than 100)"), &more);
}

/// G14, decision 15: small RSA keys have an error of their own, but only where a record matches.
#[test]
fn small_rsa_keys() {
    let [.., signer] = &*KEYS;
    for (bits, verdict) in [
        (1024, Err("rsa-key-size")),
        (2047, Err("rsa-key-size")),
        (2048, Ok(())),
        (4096, Ok(())),
        (8193, Err("rsa-key-size")),
    ] {
        let spki = rsa_spki(bits);
        let certificate = Spec::default().issue_for(&spki, signer);
        let judge = |record: String| {
            let expected = expectation(&[record], &["mx.example.com"]);
            verify(std::slice::from_ref(&certificate), &expected, now()).map(drop).map_err(|why| why.label())
        };
        assert_eq!(judge(tlsa("3 1 1", &certificate, &spki)), verdict, "{bits}");
        assert_eq!(judge(tlsa("3 1 1", b"", b"")), Err("tlsa-mismatch"));
    }
}

/// the size of the peer's chain is bounded, and so is the work that it causes.
#[test]
fn hostile_chains() {
    let good = Scenario::default();
    let all = [Leaf, Inter, Root].map(|who| good.certificate(who));
    let record = tlsa("2 1 1", b"", &KEYS[Root.place()].subject_public_key_info());
    let expected = expectation(&[record], &["mx.example.com"]);
    let verdict = |chain: &[CertificateDer<'_>]| verify(chain, &expected, now()).map(drop).map_err(|why| why.label());

    assert_eq!(verdict(&[]), Err("no-certificate"));
    let mut many = vec![all[0].clone()];
    many.extend((0..20).map(|_| all[1].clone()));
    assert_eq!(verdict(&many), Err("chain-too-large"));
    let large = CertificateDer::from(vec![0x30; 200_000]);
    assert_eq!(verdict(&[all[0].clone(), large]), Err("chain-too-large"));
    let junk = CertificateDer::from(b"no certificate".to_vec());
    assert_eq!(verdict(&[all[0].clone(), junk.clone(), all[1].clone(), junk.clone(), all[2].clone()]), Ok(()));
    assert_eq!(verdict(&[junk]), Err("chain-not-verified"));

    // Two names and one key: each authority of one name is an issuer of each of the other, and none of them leads to
    // the anchor. There are some million paths up, of which one is tried.
    let shared = key();
    let mut mesh = vec![Spec { issuer: cn("Warp"), ..Spec::default() }.issue(&KEYS[0], &shared)];
    for serial in 0..7 {
        for (subject, issuer) in [("Warp", "Weft"), ("Weft", "Warp")] {
            let spec = Spec { serial: vec![serial], ..Spec::authority(subject, issuer) };
            mesh.push(spec.issue(&shared, &shared));
        }
    }
    mesh.push(all[2].clone());
    assert_eq!(verdict(&mesh), Err("chain-not-verified"));

    // A chain that is longer than any honest one.
    let keys: Vec<KeyPair> = (0..12).map(|_| key()).collect();
    let mut ladder = vec![Spec { issuer: cn("Rung 0"), ..Spec::default() }.issue(&KEYS[0], &keys[0])];
    for rung in 0..11 {
        let spec = Spec::authority(&format!("Rung {rung}"), &format!("Rung {}", rung + 1));
        ladder.push(spec.issue(&keys[rung], &keys[rung + 1]));
    }
    for (rung, verdict) in [(7, Ok(())), (8, Err("chain-not-verified"))] {
        let record = tlsa("2 1 1", b"", &keys[rung].subject_public_key_info());
        let expected = expectation(&[record], &["mx.example.com"]);
        assert_eq!(verify(&ladder, &expected, now()).map(drop).map_err(|why| why.label()), verdict, "{rung}");
    }
}

/// B12: the errors that an operator reads.
#[test]
fn messages_say_what_was_found() {
    let why = refused("key", "tlsa-mismatch", &Scenario { records: vec![("3 1 1", Stranger)], ..Scenario::default() });
    let key = |who: Holder| tlsa("3 1 1", b"", &KEYS[who.place()].subject_public_key_info());
    let text = why.to_string();
    assert!(text.contains(&format!("the server's key is {}", key(Leaf))), "{text}");
    assert!(text.contains(&format!("the records are {} (stale TLSA?)", key(Stranger))), "{text}");

    let scenario = leaf(Spec { extensions: vec![dns_names(&["a.example", "b\r\n.example"])], ..Spec::default() });
    let text = refused("name", "name-mismatch", &scenario).to_string();
    assert_eq!(text, "the certificate is for a.example, b??.example and not for mx.example.com");

    let text = refused("authority", "chain-not-verified", &inter(vec![no_authority()])).to_string();
    assert_eq!(
        text,
        "the certificate chain does not verify up to the trust anchor of the TLSA records: the authority certificate \
         \"Inter\" is not marked as an authority"
    );
}
