//! DANE-TA: chains that are odd in every way, under a record that names an authority of theirs.

use super::keys::*;
use super::row::*;
use crate::certificates::{
    ANY_PURPOSE, BMP, CLIENT_AUTH, CONTENT_COMMITMENT, DIGITAL_SIGNATURE, KEY_CERT_SIGN, PRINTABLE, SERVER_AUTH,
    SERVER_GATED, Spec, UTF8, alternative_names, authority, authority_key, authority_over, cn, critical, der, dn,
    dns_name, dns_names, key_usage, name_constraints, no_authority, plain, purposes, seq, subject_key,
    unknown_critical,
};

const PAST: &str = "20210101000000Z";
const FUTURE: &str = "20490101000000Z";
const NOT_VERIFIED: &str = "chain-not-verified";
const ALGORITHM: (&str, &str) = (NOT_VERIFIED, "is signed with an algorithm that is not accepted");

fn good(what: &str) -> Row {
    ta(what, Spec::default())
}

fn with(extensions: Vec<Vec<u8>>) -> Spec {
    Spec { extensions, ..Spec::default() }
}

/// With this extension beside the right name.
fn leaf(what: &str, extension: Vec<u8>) -> Row {
    ta(what, with(vec![dns_names(&["mx.example.com"]), extension]))
}

fn inter(what: &str, extensions: Vec<Vec<u8>>) -> Row {
    Row { inter: Spec { extensions, ..Spec::authority("Inter", "Root") }, ..good(&format!("intermediate with {what}")) }
}

fn root(what: &str, extensions: Vec<Vec<u8>>) -> Row {
    Row { root: Spec { extensions, ..Spec::authority("Root", "Root") }, ..good(&format!("root with {what}")) }
}

/// The choice of the authority, by record, order and number of certificates.
pub(crate) fn chains() -> Vec<Row> {
    let mut rows = Vec::new();
    for numbers in ["2 0 0", "2 0 1", "2 0 2", "2 1 0", "2 1 1", "2 1 2"] {
        rows.push(good(&format!("{numbers} of the root")).records(&[(numbers, Root)]));
        rows.push(good(&format!("{numbers} of the intermediate")).records(&[(numbers, Inter)]).depth(1));
        let omitted = good(&format!("{numbers} of the root, which is not sent")).records(&[(numbers, Root)]);
        let omitted = omitted.sent(&[Leaf, Inter]);
        rows.push(if numbers.ends_with('0') { omitted } else { omitted.refused("tlsa-mismatch") });
        let alone =
            good(&format!("{numbers} of the intermediate, leaf alone")).records(&[(numbers, Inter)]).sent(&[Leaf]);
        rows.push(if numbers.ends_with('0') { alone.depth(1) } else { alone.refused("tlsa-mismatch") });
        let stranger = good(&format!("{numbers} of a stranger")).records(&[(numbers, Stranger)]);
        rows.push(stranger.refused(if numbers.ends_with('0') { NOT_VERIFIED } else { "tlsa-mismatch" }));
        // A server that signed itself, as its own anchor.
        let own =
            Spec { issuer: cn("Own"), subject: cn("Own"), ..with(vec![dns_names(&["mx.example.com"]), authority()]) };
        let own = Row { leaf_signer: Leaf, ..ta(&format!("{numbers} of itself"), own) };
        let own = own.sent(&[Leaf]).records(&[(numbers, Leaf)]);
        rows.push(match numbers {
            // A bare key that signed the certificate is another case (RFC 7671 §5.2.3).
            "2 1 0" => own.depth(1),
            // posttls-finger takes a certificate's key along with the certificate.
            "2 0 0" => Row { postfix: Postfix::NotAsked("it makes 2 1 0 of it"), ..own }.refused("tlsa-mismatch"),
            _ => own.refused("tlsa-mismatch"),
        });
    }
    rows.extend([
        good("shuffled").sent(&[Leaf, Root, Inter]),
        good("padded").sent(&[Leaf, Stranger, Inter, Stranger, Root, Inter]),
        good("leaf sent twice").sent(&[Leaf, Leaf, Inter, Root]),
        good("a gap").sent(&[Leaf, Root]).records(&[("2 0 1", Root)]).refused(NOT_VERIFIED),
        good("an anchor that signed nothing")
            .sent(&[Leaf, Inter, Root, Stranger])
            .records(&[("2 1 1", Stranger)])
            .refused(NOT_VERIFIED),
        Row { leaf_signer: Stranger, ..good("forged") }.refused(NOT_VERIFIED),
        good("weak right, strong wrong").records(&[("2 1 1", Root), ("2 1 2", Stranger)]).refused("tlsa-mismatch"),
        good("TA wrong, EE right").records(&[("2 1 1", Stranger), ("3 1 1", Leaf)]).depth(0),
        good("TA right, EE wrong").records(&[("2 1 1", Root), ("3 1 1", Stranger)]),
        good("of the leaf").records(&[("2 1 1", Leaf)]).refused("tlsa-mismatch"),
    ]);
    rows.extend(crossed());
    rows.extend(ladders());
    rows
}

/// One authority with several certificates: the issuer is the first that is valid, and that fits the certificate below
/// it by name, key identifier and kind of key. No other path up is tried.
fn crossed() -> Vec<Row> {
    let crossed = |what: &str, other: Spec| Row {
        extra: vec![(Spec { issuer: cn("Stranger"), ..other }, Inter, Stranger)],
        ..good(&format!("cross-signed, {what}"))
    };
    let other = || Spec::authority("Inter", "Stranger");
    let dated = |not_after| Spec { not_after, ..other() };
    let old_inter = |row: Row, not_after| Row { inter: Spec { not_after, ..Spec::authority("Inter", "Root") }, ..row };
    let sent: &[Holder] = &[Leaf, Extra(0), Stranger, Inter, Root];
    // Of the same name, and of another key.
    let namesake = |what: &str, extensions: Vec<Vec<u8>>| Row {
        extra: vec![(Spec { extensions, ..Spec::authority("Inter", "Stranger") }, Stranger, Stranger)],
        ..good(&format!("a namesake of the issuer, {what}")).sent(&[Leaf, Extra(0), Inter, Root])
    };
    vec![
        crossed("the one way", other()).sent(sent).refused(NOT_VERIFIED),
        crossed("the other way", other()).sent(sent).records(&[("2 0 0", Stranger)]),
        crossed("the first to the anchor", other()).sent(&[Leaf, Inter, Root, Extra(0), Stranger]),
        crossed("one root", other())
            .sent(&[Leaf, Inter, Extra(0), Stranger])
            .records(&[("2 1 1", Stranger)])
            .refused(NOT_VERIFIED),
        crossed("by the record that names it", other()).sent(sent).records(&[("2 0 1", Inter)]).refused(NOT_VERIFIED),
        crossed("by the key of both", other()).sent(sent).records(&[("2 1 1", Inter)]).depth(1),
        crossed("only in DNS", other()).sent(&[Leaf, Extra(0), Stranger]).records(&[("2 0 0", Inter)]).depth(1),
        crossed("expired, last", dated(PAST)).sent(&[Leaf, Inter, Root, Extra(0), Stranger]),
        crossed("expired, first", dated(PAST)).sent(sent),
        crossed("expired, and needed", dated(PAST)).sent(sent).records(&[("2 0 1", Stranger)]).refused(NOT_VERIFIED),
        old_inter(crossed("both expired, the first later", dated(PAST)), "20200101000000Z")
            .sent(sent)
            .records(&[("2 0 1", Extra(0))])
            .depth(1),
        old_inter(crossed("both expired, the last later", dated("20200101000000Z")), PAST)
            .sent(sent)
            .records(&[("2 0 1", Inter)])
            .depth(1),
        namesake("first", vec![authority()]).refused(NOT_VERIFIED),
        namesake("last", vec![authority()]).sent(&[Leaf, Inter, Root, Extra(0)]),
        namesake("first, with a key of another kind", vec![authority()]).key(Stranger, (RSA_2048, 3)),
        Row {
            leaf: Spec { issuer: cn("Inter"), ..with(vec![dns_names(&["mx.example.com"]), authority_key(1)]) },
            inter: Spec { extensions: vec![authority(), subject_key(1)], ..Spec::authority("Inter", "Root") },
            ..namesake("first, with another key identifier", vec![authority(), subject_key(2)])
        },
        namesake("first, and a bare key", vec![authority()])
            .records(&[("2 1 0", Inter)])
            .sent(&[Leaf, Extra(0)])
            .refused(NOT_VERIFIED),
    ]
}

/// Authorities above authorities.
fn ladders() -> Vec<Row> {
    let ladder = |rungs: usize| {
        const NAMES: [&str; 12] = ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11"];
        let spec = |rung: usize| {
            (
                Spec::authority(NAMES[rung], if rung + 1 == rungs { "Root" } else { NAMES[rung + 1] }),
                Inter,
                if rung + 1 == rungs { Root } else { Inter },
            )
        };
        let leaf = Spec { issuer: cn("r0"), ..Spec::default() };
        let row =
            Row { extra: (0..rungs).map(spec).collect(), ..ta(&format!("{rungs} authorities below the root"), leaf) };
        let mut sent = vec![Leaf];
        sent.extend((0..rungs).map(Extra));
        sent.push(Root);
        row.sent(&sent).depth(rungs + 1)
    };
    vec![
        ladder(3),
        ladder(7),
        ladder(8).but(
            BOTH,
            (NOT_VERIFIED, "is too far up the chain"),
            Cause::Decision("a path has at most 8 authorities"),
        ),
    ]
}

/// Dates.
pub(crate) fn dates() -> Vec<Row> {
    let dated = |not_before, not_after, spec| Spec { not_before, not_after, ..spec };
    let valid = "20500101000000Z";
    let since = "20200101000000Z";
    let intermediate = || Spec::authority("Inter", "Root");
    let top = || Spec::authority("Root", "Root");
    let mut rows = vec![
        ta("leaf expired", dated(since, PAST, Spec::default())).refused("certificate-expired"),
        ta("leaf not yet valid", dated(FUTURE, valid, Spec::default())).refused("certificate-not-yet-valid"),
        Row { inter: dated(since, PAST, intermediate()), ..good("intermediate expired") }
            .refused("certificate-expired"),
        Row { inter: dated(FUTURE, valid, intermediate()), ..good("intermediate not yet valid") }
            .refused("certificate-not-yet-valid"),
        Row { inter: dated(since, PAST, intermediate()), ..good("anchor expired, not self-signed") }
            .records(&[("2 1 1", Inter)])
            .depth(1),
        Row { inter: dated(FUTURE, valid, intermediate()), ..good("anchor not yet valid, not self-signed") }
            .records(&[("2 0 0", Inter)])
            .depth(1),
        Row { root: dated(since, PAST, top()), ..good("root expired above the anchor") }
            .records(&[("2 1 1", Inter)])
            .depth(1),
        Row { root: dated(FUTURE, valid, top()), ..good("root not yet valid") }.refused("certificate-not-yet-valid"),
        Row { root: dated(since, PAST, top()), ..good("root expired and not sent, bare key") }
            .records(&[("2 1 0", Root)])
            .sent(&[Leaf, Inter]),
    ];
    for numbers in ["2 0 0", "2 0 1", "2 1 0", "2 1 1"] {
        let expired = Row { root: dated(since, PAST, top()), ..good(&format!("root expired, {numbers}")) };
        rows.push(expired.records(&[(numbers, Root)]).refused("certificate-expired"));
    }
    let garbage = Spec { validity: Some(seq(0x30, &[der(0x17, b"never"), der(0x18, b"ever")])), ..Spec::default() };
    rows.push(ta("dates that are none", garbage).refused(NOT_VERIFIED));
    rows
}

/// The uses that a certificate states.
pub(crate) fn uses() -> Vec<Row> {
    let v1 = |spec| Spec { version: vec![], extensions: vec![], ..spec };
    let point = seq(0x30, &[seq(0xa0, &[seq(0xa0, &[der(0x86, b"http://crl.example/")])])]);
    let mut rows = vec![
        leaf("for servers and clients", purposes(&[CLIENT_AUTH, SERVER_AUTH])),
        leaf("for clients", purposes(&[CLIENT_AUTH])).refused(NOT_VERIFIED),
        leaf("for any purpose", purposes(&[ANY_PURPOSE])).refused(NOT_VERIFIED),
        leaf("key usage digital signature", key_usage(DIGITAL_SIGNATURE)),
        leaf("key usage content commitment", key_usage(CONTENT_COMMITMENT)).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("an authority itself", authority()),
        leaf("no authority", no_authority()),
        leaf("unknown extension", plain(99, &[0xff])),
        leaf("unknown critical extension", unknown_critical()).refused(NOT_VERIFIED),
        leaf("critical policies", critical(32, &seq(0x30, &[seq(0x30, &[der(6, &[0x2a, 3])])]))),
        leaf("critical CRL distribution points", critical(31, &seq(0x30, &[point]))),
        leaf("malformed basicConstraints", plain(19, &[0x30])).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("malformed keyUsage", plain(15, &[0xff])).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("doubled subjectAltName", dns_names(&["a.example"])).served(ONLY_13).refused(NOT_VERIFIED),
        ta("v1 leaf with a common name", v1(Spec { subject: cn("mx.example.com"), ..Spec::default() })),
        Row { root: v1(Spec::authority("Root", "Root")), ..good("v1 root") },
        Row { inter: v1(Spec::authority("Inter", "Root")), ..good("v1 intermediate") }.refused(NOT_VERIFIED),
        Row { inter: v1(Spec::authority("Inter", "Root")), ..good("v1 intermediate as anchor") }
            .records(&[("2 1 1", Inter)])
            .refused(NOT_VERIFIED),
        inter("path length 0", vec![authority_over(0)]),
        inter("no basicConstraints", vec![]).refused(NOT_VERIFIED),
        inter("CA:FALSE", vec![no_authority()]).refused(NOT_VERIFIED),
        inter("key usage alone", vec![key_usage(KEY_CERT_SIGN)]).refused(NOT_VERIFIED),
        inter("key usage for certificates", vec![authority(), key_usage(KEY_CERT_SIGN)]),
        inter("key usage for signatures", vec![authority(), key_usage(DIGITAL_SIGNATURE)]).refused(NOT_VERIFIED),
        inter("purpose servers", vec![authority(), purposes(&[SERVER_AUTH])]),
        inter("purpose clients", vec![authority(), purposes(&[CLIENT_AUTH])]).refused(NOT_VERIFIED),
        inter("any purpose", vec![authority(), purposes(&[ANY_PURPOSE])]).refused(NOT_VERIFIED),
        inter("unknown critical extension", vec![authority(), unknown_critical()]).refused(NOT_VERIFIED),
        inter("CA:FALSE, as anchor", vec![no_authority()]).records(&[("2 0 1", Inter)]).refused(NOT_VERIFIED),
        inter("unknown critical extension, as anchor", vec![authority(), unknown_critical()])
            .records(&[("2 0 1", Inter)])
            .refused(NOT_VERIFIED),
        root("path length 1", vec![authority_over(1)]),
        root("path length 0", vec![authority_over(0)]).refused(NOT_VERIFIED),
        root("CA:FALSE", vec![no_authority()]).refused(NOT_VERIFIED),
        root("no basicConstraints", vec![]).refused(NOT_VERIFIED),
        root("key usage for signatures", vec![authority(), key_usage(DIGITAL_SIGNATURE)]).refused(NOT_VERIFIED),
        root("purpose clients", vec![authority(), purposes(&[CLIENT_AUTH])]).refused(NOT_VERIFIED),
        root("unknown critical extension", vec![authority(), unknown_critical()]).refused(NOT_VERIFIED),
    ];
    let constraints = |fields: &[Vec<u8>]| critical(36, &seq(0x30, fields));
    for (what, extension) in [
        ("inhibit any policy", critical(54, &der(2, &[0]))),
        ("policy mappings", critical(33, &seq(0x30, &[seq(0x30, &[der(6, &[0x2a, 3]), der(6, &[0x2a, 4])])]))),
        ("policy constraints, no mappings", constraints(&[der(0x81, &[0])])),
    ] {
        rows.push(leaf(&format!("critical {what}"), extension.clone()));
        rows.push(inter(&format!("critical {what}"), vec![authority(), extension.clone()]));
        rows.push(root(&format!("critical {what}"), vec![authority(), extension]));
    }
    for (what, extension) in [
        ("policy required", constraints(&[der(0x80, &[0])])),
        ("policy required after five", constraints(&[der(0x80, &[5])])),
        ("policy required, no mappings", constraints(&[der(0x80, &[0]), der(0x81, &[0])])),
    ] {
        let refused = (NOT_VERIFIED, "which is not understood");
        let cause = Cause::Decision("critical extensions that nothing here acts on are refused (RFC 5280 §4.2)");
        rows.push(inter(&format!("critical {what}"), vec![authority(), extension]).but(BOTH, refused, cause));
    }
    rows
}

/// 2.16.840.1.113730.1.1 with one bit.
fn netscape_type(bit: u8) -> Vec<u8> {
    let octets = der(3, &[bit.trailing_zeros() as u8, bit]);
    seq(0x30, &[der(6, &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1]), der(4, &octets)])
}

/// proxyCertInfo, not critical, with the language id-ppl-inheritAll.
fn proxy() -> Vec<u8> {
    let policy = seq(0x30, &[der(6, &[0x2b, 6, 1, 5, 5, 7, 0x15, 1])]);
    seq(0x30, &[der(6, &[0x2b, 6, 1, 5, 5, 7, 1, 0x0e]), der(4, &seq(0x30, &[policy]))])
}

/// authorityInfoAccess with garbage.
fn aia() -> Vec<u8> {
    seq(0x30, &[der(6, &[0x2b, 6, 1, 5, 5, 7, 1, 1]), der(4, &[0xff])])
}

/// keyUsage without a bit.
fn key_usage_of_none() -> Vec<u8> {
    critical(15, &der(3, &[0]))
}

/// Netscape's certificate type, key identifiers, and other extensions that OpenSSL looks at.
pub(crate) fn leftovers() -> Vec<Row> {
    let identified = |what: &str, of_leaf: u8| {
        let leaf = with(vec![dns_names(&["mx.example.com"]), authority_key(of_leaf)]);
        let inter = Spec { extensions: vec![authority(), subject_key(1)], ..Spec::authority("Inter", "Root") };
        Row { inter, ..ta(what, leaf) }
    };
    let serial = |what: &str, serial: u8| {
        let issuer = der(0xa1, &der(0xa4, &cn("Root")));
        let extension = plain(35, &seq(0x30, &[issuer, der(0x82, &[serial])]));
        leaf(what, extension)
    };
    vec![
        leaf("Netscape type client", netscape_type(0x80)).refused(NOT_VERIFIED),
        identified("key identifiers that agree", 1),
        identified("key identifiers that do not", 2).refused(NOT_VERIFIED),
        identified("key identifiers that do not, anchor", 2).records(&[("2 1 1", Inter)]).refused(NOT_VERIFIED),
        serial("issuer's serial number right", 1),
        serial("issuer's serial number wrong", 9).refused(NOT_VERIFIED),
        leaf("malformed CRL distribution points", plain(31, &[0xff])).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("malformed authority key identifier", plain(35, &[0xff])).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("malformed subject key identifier", plain(14, &[0xff])).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("an empty CRL distribution point", plain(31, &seq(0x30, &[seq(0x30, &[])])))
            .served(ONLY_13)
            .refused(NOT_VERIFIED),
        leaf("a path length without an authority", plain(19, &seq(0x30, &[der(2, &[0])]))).served(BOTH),
        inter("a negative path length", vec![critical(19, &seq(0x30, &[der(1, &[0xff]), der(2, &[0xff])]))])
            .refused(NOT_VERIFIED),
        inter("malformed name constraints", vec![authority(), plain(30, &[0xff])]).refused(NOT_VERIFIED),
        leaf("no key usage at all", key_usage_of_none()).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("proxy certificate information", proxy()).served(ONLY_13).refused(NOT_VERIFIED),
        leaf("Netscape type server", netscape_type(0x40)),
        leaf("malformed policies", plain(32, &[0xff])),
        leaf("malformed authority information access", aia()),
        leaf("malformed extKeyUsage", plain(37, &[0xff])).served(ONLY_13).refused(NOT_VERIFIED),
        inter("malformed subject key identifier", vec![authority(), plain(14, &[0xff])]).refused(NOT_VERIFIED),
        leaf("critical authority key identifier", critical(35, &seq(0x30, &[]))).refused(NOT_VERIFIED),
        leaf("critical subject key identifier", critical(14, &der(4, &[1]))).refused(NOT_VERIFIED),
        ta("leaf with a negative serial number", Spec { serial: vec![0x80], ..Spec::default() }),
        ta("leaf with empty subject", Spec { subject: dn(&[]), ..Spec::default() }),
        ta(
            "v2 leaf",
            Spec {
                version: vec![0xa0, 3, 2, 1, 1],
                subject: cn("mx.example.com"),
                extensions: vec![],
                ..Spec::default()
            },
        ),
        ta("v1 leaf with extensions", Spec { version: vec![], ..Spec::default() }),
        Row { root: Spec { version: vec![], ..Spec::authority("Root", "Root") }, ..good("v1 root with extensions") },
        Row {
            root: Spec { inner_algorithm: Some(vec![0x2a, 3]), ..Spec::authority("Root", "Root") },
            ..good("two signature algorithms of the root")
        },
        root("key usage alone", vec![key_usage(KEY_CERT_SIGN)]),
        inter("key usage alone, as anchor", vec![key_usage(KEY_CERT_SIGN)]).records(&[("2 1 1", Inter)]).depth(1),
        inter("purpose servers, gated", vec![authority(), purposes(&[SERVER_GATED])]),
        inter("BER for TRUE", vec![plain(19, &seq(0x30, &[der(1, &[1])]))]),
        Row { root: Spec::authority("Anonymous", "Anonymous"), ..good("a bare key in a certificate of another name") }
            .records(&[("2 1 0", Root)]),
        ta("leaf with unique identifiers", Spec { before_extensions: der(0x81, &[0, 7]), ..Spec::default() }),
        ta("two signature algorithms", Spec { inner_algorithm: Some(vec![0x2a, 3]), ..Spec::default() })
            .refused(NOT_VERIFIED),
        // An authority that changed its key and signed the new one with the old.
        Row {
            leaf: Spec { issuer: cn("Root"), ..with(vec![dns_names(&["mx.example.com"]), authority_key(2)]) },
            inter: Spec {
                extensions: vec![authority_over(0), subject_key(2), authority_key(1)],
                ..Spec::authority("Root", "Root")
            },
            root: Spec { extensions: vec![authority_over(0), subject_key(1)], ..Spec::authority("Root", "Root") },
            ..good("self-issued")
        },
    ]
}

/// The names that the certificate is for.
pub(crate) fn names() -> Vec<Row> {
    let named = |what: &str, names: &[&str]| ta(&format!("name {what}"), with(vec![dns_names(names)]));
    let common = |what: &str, name: &str, extensions| {
        ta(&format!("common name {what}"), Spec { subject: cn(name), extensions, ..Spec::default() })
    };
    let address = || der(0x87, &[192, 0, 2, 1]);
    let none = "name-mismatch";
    let partial = named("partial wildcard", &["m*.example.com"]).but(
        BOTH,
        (none, "the certificate is for m*.example.com and not for mx.example.com"),
        Cause::Decision("a wildcard is a whole label (RFC 9525 §6.3)"),
    );
    vec![
        named("of another", &["evil.example"]).refused(none),
        named("in upper case", &["MX.EXAMPLE.COM"]),
        named("with an underscore", &["mx_1.example.com"]).name("mx_1.example.com"),
        named("of several", &["a.example", "b.example", "mx.example.com"]),
        named("wildcard", &["*.example.com"]),
        named("wildcard two labels down", &["*.example.com"]).name("a.mx.example.com").refused(none),
        named("wildcard for an underscore", &["*.example.com"]).name("mx_1.example.com").refused(none),
        named("wildcard for its parent", &["*.example.com"]).name("example.com").refused(none),
        named("wildcard below a top-level domain", &["*.com"]).name("example.com").refused(none),
        named("wildcard twice", &["*.*.com"]).refused(none),
        named("wildcard in the middle", &["mx.*.com"]).refused(none),
        named("wildcard alone", &["*"]).name("com").refused(none),
        Row { postfix: Postfix::AsDanelaw, ..partial },
        named("with a final dot", &["mx.example.com."]).refused(none),
        named("with a NUL", &["mx.example.com\0.evil.example"]).refused(none),
        named("with a blank", &[" mx.example.com"]).refused(none),
        named("that is empty", &[""]).refused(none),
        named("in A-labels", &["xn--bcher-kva.example"]).name("xn--bcher-kva.example"),
        named("in UTF-8", &["b\u{fc}cher.example"]).name("xn--bcher-kva.example").refused(none),
        named("address as a DNS name", &["192.0.2.1"]).refused(none),
        common("alone", "mx.example.com", vec![]),
        common("beside an address", "mx.example.com", vec![alternative_names(&[address()])]),
        common("beside another name", "mx.example.com", vec![dns_names(&["other.example"])]).refused(none),
        common("wildcard", "*.example.com", vec![]),
        common("of another", "evil.example", vec![]).refused(none),
        common("with a NUL", "mx.example.com\0", vec![]).refused(none),
        common("none, and an address", "A mail server", vec![alternative_names(&[address()])]).refused(none),
        ta("no name at all", Spec { subject: dn(&[]), extensions: vec![], ..Spec::default() }).refused(none),
    ]
}

/// Name constraints, and names of authorities.
pub(crate) fn constraints() -> Vec<Row> {
    let dns = |name| dns_name(name);
    let within = |name| der(0xa4, &dn(&[(10, UTF8, name)]));
    let network = der(0x87, &[192, 0, 2, 0, 255, 255, 255, 0]);
    let other_network = || der(0x87, &[192, 0, 2, 0, 255, 255, 255, 255]);
    let of_ipv6 = || der(0x87, &[0; 32]);
    let mail = || der(0x81, b"example.com");
    let constrained = |what: &str, permitted: &[Vec<u8>], excluded: &[Vec<u8>]| {
        let extensions = vec![authority(), name_constraints(permitted, excluded)];
        let row = inter("", extensions);
        Row { what: format!("TA constraints, {what}"), ..row }
    };
    let for_names = |row: Row, extensions| Row { leaf: Spec { extensions, ..row.leaf.clone() }, ..row };
    let spelled = |what: &str, issuer: Vec<u8>| Row {
        leaf: Spec { issuer, ..Spec::default() },
        ..good(&format!("issuer spelled {what}"))
    };
    let beside = |other: Vec<u8>| vec![alternative_names(&[dns_name("mx.example.com"), other])];
    let addressed = || beside(der(0x87, &[192, 0, 2, 1]));
    let odd = || beside(der(0x87, &[192, 0, 2, 1, 1]));
    let not_compared = Cause::Decision(
        "DNS names, directory names and addresses are compared; others are refused (RFC 5280 §4.2.1.10)",
    );
    let wildcard = for_names(
        constrained("a wildcard that reaches into the excluded", &[], &[dns("mx.example.com")]),
        vec![dns_names(&["*.example.com"])],
    );
    let at_root = vec![authority(), name_constraints(&[dns("example.org")], &[])];
    vec![
        constrained("permitted", &[dns("example.com")], &[]),
        constrained("permitted with a dot", &[dns(".example.com")], &[]),
        constrained("everything permitted", &[dns("")], &[]),
        constrained("another permitted", &[dns("example.org")], &[]).refused(NOT_VERIFIED),
        constrained("no whole label", &[dns("ample.com")], &[]).refused(NOT_VERIFIED),
        constrained("excluded", &[], &[dns("example.com")]).refused(NOT_VERIFIED),
        constrained("another excluded", &[], &[dns("example.org")]),
        constrained("another directory", &[within("Example")], &[]).refused(NOT_VERIFIED),
        constrained("addresses, and it has none", std::slice::from_ref(&network), &[]),
        for_names(constrained("its address permitted", std::slice::from_ref(&network), &[]), addressed()),
        for_names(constrained("its address, too", &[other_network(), network.clone()], &[]), addressed()),
        for_names(constrained("another address", &[other_network()], &[]), addressed()).refused(NOT_VERIFIED),
        for_names(constrained("addresses of IPv6", &[of_ipv6()], &[]), addressed()).refused(NOT_VERIFIED),
        for_names(constrained("half a network", &[der(0x87, &[192, 0, 2, 0])], &[]), addressed()).refused(NOT_VERIFIED),
        for_names(constrained("an odd address", std::slice::from_ref(&network), &[]), odd()).refused(NOT_VERIFIED),
        for_names(constrained("an odd address excluded", &[], std::slice::from_ref(&network)), odd())
            .refused(NOT_VERIFIED),
        for_names(constrained("another address excluded", &[], &[other_network(), of_ipv6()]), addressed()),
        for_names(constrained("its address excluded", &[], &[network]), addressed()).refused(NOT_VERIFIED),
        for_names(constrained("its mail address permitted", &[mail()], &[]), beside(der(0x81, b"a@example.com"))).but(
            BOTH,
            (NOT_VERIFIED, "name constraints that do not allow a name of the form [1]"),
            not_compared,
        ),
        wildcard.but(
            BOTH,
            (NOT_VERIFIED, "name constraints that do not allow *.example.com"),
            Cause::Decision("a wildcard that could stand for an excluded name is refused"),
        ),
        Row {
            leaf: Spec { subject: cn("mx.example.com"), issuer: cn("Inter"), extensions: vec![], ..Spec::default() },
            ..constrained("against a common name", &[], &[dns("example.com")])
        }
        .refused(NOT_VERIFIED),
        root("constraints against the server", at_root.clone()).refused(NOT_VERIFIED),
        root("constraints above the anchor", at_root).records(&[("2 1 1", Inter)]).depth(1),
        spelled("in another string type", dn(&[(3, PRINTABLE, "Inter")])),
        spelled("in 16-bit characters", dn(&[(3, BMP, "Inter")])),
        spelled("in another case, with blanks", dn(&[(3, UTF8, "  iNTER ")])),
        spelled("otherwise", dn(&[(3, UTF8, "In ter")])).refused(NOT_VERIFIED),
        spelled("as an organisation", dn(&[(10, UTF8, "Inter")])).refused(NOT_VERIFIED),
    ]
}

/// Keys and signatures of authorities.
pub(crate) fn signatures() -> Vec<Row> {
    // The intermediate authority and the root are of this kind, and all three certificates are signed so.
    let by = |what: &str, kind, scheme| {
        let row = good(what).key(Inter, (kind, 1)).key(Root, (kind, 2));
        Row { schemes: [scheme; 3], ..row }
    };
    let no = |what: &'static str| Cause::Rustls(what);
    let small = Cause::Decision("RSA keys below 2048 bits are refused (decision 15)");
    let weak = |what: &str, kind, scheme| {
        let row = by(what, kind, scheme);
        Row { schemes: [scheme, row.schemes[1], row.schemes[2]], ..row }.refused(NOT_VERIFIED)
    };
    let only_root = |what: &str, kind, scheme| {
        let row = good(what).key(Root, (kind, 2));
        Row { schemes: [ECDSA_SHA256, scheme, scheme], ..row }
    };
    let sha1_root = Row { schemes: [ECDSA_SHA256, ECDSA_SHA256, ECDSA_SHA1], ..good("SHA-1 on the root itself") };
    vec![
        by("P-384 with SHA-384", P384, ECDSA_SHA384),
        by("P-384 with SHA-256", P384, ECDSA_SHA256),
        by("P-521 with SHA-512", P521, ECDSA_SHA512),
        by("P-256 with SHA-384", P256, ECDSA_SHA384),
        by("P-256 with SHA-512", P256, ECDSA_SHA512),
        by("Ed25519", ED25519, EDDSA_25519),
        by("RSA 2048 with SHA-256", RSA_2048, RSA_SHA256),
        by("RSA 2048 with SHA-384", RSA_2048, RSA_SHA384),
        by("RSA 2048 with SHA-512", RSA_2048, RSA_SHA512),
        by("RSA 4096 with SHA-256", RSA_4096, RSA_SHA256),
        by("RSA with PSS", RSA_2048, RSA_PSS),
        by("RSA with PSS and a short salt", RSA_2048, RSA_PSS_SALT_20).but(
            BOTH,
            ALGORITHM,
            no("webpki has PSS with a salt as long as the digest only"),
        ),
        by("P-256 with SHA-224", P256, ECDSA_SHA224).but(BOTH, ALGORITHM, no("webpki has no SHA-224")),
        by("RSA with SHA-224", RSA_2048, RSA_SHA224).but(BOTH, ALGORITHM, no("webpki has no SHA-224")),
        by("Ed448", ED448, EDDSA_448).but(BOTH, ALGORITHM, no("webpki has no Ed448")),
        by("secp256k1", K256, ECDSA_SHA256).but(BOTH, ALGORITHM, no("webpki has no secp256k1")),
        by("brainpoolP256r1", BRAINPOOL, ECDSA_SHA256).but(BOTH, ALGORITHM, no("webpki has no brainpool curves")),
        by("explicit curve parameters", EXPLICIT, ECDSA_SHA256).refused(NOT_VERIFIED),
        only_root("RSA 1024 root", RSA_1024, RSA_SHA256).but(BOTH, ("rsa-key-size", "RSA key of 1024 bits"), small),
        by("RSA 1024", RSA_1024, RSA_SHA256).but(BOTH, ("rsa-key-size", "RSA key of 1024 bits"), small),
        by("RSA 2047", RSA_2047, RSA_SHA256).but(BOTH, ("rsa-key-size", "RSA key of 2047 bits"), small),
        good("RSA 1024 server under an anchor").key(Leaf, (RSA_1024, 0)).but(
            BOTH,
            ("rsa-key-size", "RSA key of 1024 bits"),
            small,
        ),
        good("Ed25519 server").key(Leaf, (ED25519, 0)),
        good("RSA server").key(Leaf, (RSA_2048, 0)),
        weak("SHA-1 on the leaf", RSA_2048, RSA_SHA1),
        weak("MD5 on the leaf", RSA_2048, RSA_MD5),
        weak("ECDSA with SHA-1", P256, ECDSA_SHA1),
        sha1_root,
    ]
}
