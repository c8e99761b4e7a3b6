//! Zones of every kind on which validators are known to differ, signed with BIND's tools and then damaged, all below
//! one root key: algorithms, denials, delegations, unfinished rollovers, signatures out of time or of other signers.
//!
//! Every zone holds the same records ([`records`]), so every question can be asked of every zone ([`questions`]).

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// One zone and its peculiarity.
pub(crate) struct Zone {
    /// Absolute, with the final dot.
    name: &'static str,
    keys: &'static [Key],
    denial: Denial,
    delegation: Delegation,
    served: Served,
    /// Records beside those that every zone has.
    more: &'static str,
}

/// One key of a zone.
#[derive(Clone, Copy)]
struct Key {
    algorithm: &'static str,
    flags: &'static [&'static str],
    /// Its role in the zone.
    role: Role,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Signs,
    /// In the DNSKEY set, but it signs no records: a key before or after its time.
    Published,
    /// Not in the zone at all; the parent may name it.
    Gone,
    /// Signs, and has the REVOKE bit, which says that it must not be used (RFC 5011 §2.1).
    Revoked,
}

#[derive(Clone, Copy)]
enum Denial {
    Nsec,
    /// Arguments of `dnssec-signzone`.
    Nsec3(&'static [&'static str]),
}

/// The DS records of a zone in its parent.
#[derive(Clone, Copy, PartialEq)]
enum Delegation {
    /// DS records of the keys with these indices, with this digest.
    Ds(&'static [usize], &'static str),
    None,
    /// The right DS record with another algorithm number.
    Algorithm(u8),
    /// The right DS record with another digest type.
    Digest(u8),
    /// The right one, and one of an unknown algorithm.
    OneUnknown,
    /// Right by SHA-1, wrong by SHA-256, and the reverse.
    WrongSha256,
    WrongSha1,
    /// Right by SHA-256, wrong by SHA-384.
    WrongSha384,
    /// An unknown algorithm, and a digest that is not of the key.
    UnknownAndWrong,
}

/// The change to the zone after it was signed.
#[derive(Clone, Copy, PartialEq)]
enum Served {
    AsSigned,
    /// Signed with these arguments for the time.
    At(&'static [&'static str]),
    /// Signatures of the past beside those of today.
    TwiceSigned,
    /// Without these records, by type or, for signatures, by `RRSIG` and the type they cover.
    Without(&'static [&'static str]),
    /// The signatures over this type claim another signer.
    SignedBy(&'static str, &'static str),
    /// The signatures over this type are broken.
    Broken(&'static str),
    /// The signatures of this algorithm are gone, or broken.
    WithoutAlgorithm(&'static str),
    BrokenAlgorithm(&'static str),
}

const P256: &str = "ECDSAP256SHA256";

/// The position of the covered type in a signature's line, and that of the algorithm.
const COVERED: usize = 4;
const ALGORITHM: usize = 5;
const PAST: &[&str] = &["-s", "20200101000000", "-e", "20200201000000"];
const FUTURE: &[&str] = &["-s", "20400101000000", "-e", "20400201000000"];
const SIGNATURES: &[&str] = &["RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY"];

const fn ksk(algorithm: &'static str) -> Key {
    Key { algorithm, flags: &["-f", "KSK"], role: Role::Signs }
}

const fn zsk(algorithm: &'static str) -> Key {
    Key { algorithm, flags: &[], role: Role::Signs }
}

const fn published(key: Key) -> Key {
    Key { role: Role::Published, ..key }
}

const fn gone(key: Key) -> Key {
    Key { role: Role::Gone, ..key }
}

const fn revoked(key: Key) -> Key {
    Key { role: Role::Revoked, ..key }
}

const PAIR: &[Key] = &[ksk(P256), zsk(P256)];

/// An ordinary zone.
const fn zone(name: &'static str) -> Zone {
    Zone {
        name,
        keys: PAIR,
        denial: Denial::Nsec,
        delegation: Delegation::Ds(&[0], "-2"),
        served: Served::AsSigned,
        more: "",
    }
}

const fn keys(name: &'static str, keys: &'static [Key]) -> Zone {
    Zone { keys, ..zone(name) }
}

const fn nsec3(name: &'static str, arguments: &'static [&'static str]) -> Zone {
    Zone { denial: Denial::Nsec3(arguments), ..zone(name) }
}

const fn delegated(name: &'static str, delegation: Delegation) -> Zone {
    Zone { delegation, ..zone(name) }
}

const fn served(name: &'static str, served: Served) -> Zone {
    Zone { served, ..zone(name) }
}

const fn unsigned(name: &'static str) -> Zone {
    Zone { keys: &[], delegation: Delegation::None, ..zone(name) }
}

/// All zones, the root included.
pub(crate) const ZONES: &[Zone] = &[
    zone("."),
    zone("test."),
    // Algorithms 7, 8, 10, 13, 14, 15 and 16; one key for all, and keys of small and large sizes.
    Zone { more: CHAINS, ..zone("good.test.") },
    Zone { denial: Denial::Nsec3(&["-3", "ab"]), ..keys("alg7.test.", &[ksk("NSEC3RSASHA1"), zsk("NSEC3RSASHA1")]) },
    keys("alg8.test.", &[ksk("RSASHA256"), zsk("RSASHA256")]),
    keys("alg10.test.", &[ksk("RSASHA512"), zsk("RSASHA512")]),
    keys("alg14.test.", &[ksk("ECDSAP384SHA384"), zsk("ECDSAP384SHA384")]),
    keys("alg15.test.", &[ksk("ED25519"), zsk("ED25519")]),
    keys("alg16.test.", &[ksk("ED448"), zsk("ED448")]),
    keys("onekey.test.", &[ksk(P256)]),
    keys("small.test.", &[ksk("RSASHA256"), Key { flags: &["-b", "1024"], ..zsk("RSASHA256") }]),
    keys("large.test.", &[Key { flags: &["-f", "KSK", "-b", "4096"], ..ksk("RSASHA256") }, zsk("RSASHA256")]),
    // Denials.
    nsec3("hashed.test.", &["-3", "-"]),
    nsec3("salted.test.", &["-3", "aabbccdd", "-H", "10"]),
    nsec3("many.test.", &["-3", "ab", "-H", "140"]),
    nsec3("optout.test.", &["-3", "-", "-A"]),
    zone("sec.optout.test."),
    unsigned("plain.optout.test."),
    // Top-level domains like real ones.
    nsec3("opt.", &["-3", "-", "-A"]),
    zone("sec.opt."),
    unsigned("plain.opt."),
    nsec3("hash.", &["-3", "-"]),
    zone("sec.hash."),
    unsigned("plain.hash."),
    unsigned("corp."),
    unsigned("sub.corp."),
    // Delegations.
    unsigned("plain.test."),
    unsigned("sub.plain.test."),
    delegated("signed.plain.test.", Delegation::None),
    delegated("island.test.", Delegation::None),
    zone("sub.island.test."),
    unsigned("plain.island.test."),
    zone("sub.good.test."),
    unsigned("plain.good.test."),
    delegated("sha1.test.", Delegation::Ds(&[0], "-1")),
    delegated("sha384.test.", Delegation::Ds(&[0], "-aSHA-384")),
    delegated("alg200.test.", Delegation::Algorithm(200)),
    delegated("digest77.test.", Delegation::Digest(77)),
    delegated("oneunknown.test.", Delegation::OneUnknown),
    // Rollovers in progress.
    keys("prepublished.test.", &[ksk(P256), zsk(P256), published(zsk(P256))]),
    Zone {
        delegation: Delegation::Ds(&[0, 1], "-2"),
        ..keys("twoksks.test.", &[ksk(P256), ksk(P256), zsk(P256), zsk(P256)])
    },
    Zone {
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("staleds.test.", &[ksk(P256), zsk(P256), gone(ksk(P256))])
    },
    Zone {
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("dsfirst.test.", &[ksk(P256), zsk(P256), published(ksk(P256))])
    },
    Zone {
        delegation: Delegation::Ds(&[0], "-2"),
        ..keys("newalg.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    Zone {
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("bothalgs.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    keys("revoked.test.", &[ksk(P256), zsk(P256), revoked(ksk(P256))]),
    // Errors.
    Zone { delegation: Delegation::Ds(&[2], "-2"), ..keys("toolate.test.", &[ksk(P256), zsk(P256), gone(ksk(P256))]) },
    Zone {
        delegation: Delegation::Ds(&[2], "-2"),
        ..keys("toosoon.test.", &[ksk(P256), zsk(P256), published(ksk(P256))])
    },
    Zone {
        delegation: Delegation::Ds(&[2], "-2"),
        ..keys("revokedds.test.", &[ksk(P256), zsk(P256), revoked(ksk(P256))])
    },
    served("expired.test.", Served::At(PAST)),
    served("future.test.", Served::At(FUTURE)),
    served("twin.test.", Served::TwiceSigned),
    served("nosigs.test.", Served::Without(SIGNATURES)),
    served("nokeys.test.", Served::Without(&["DNSKEY", "RRSIG DNSKEY"])),
    served("nosigmx.test.", Served::Without(&["RRSIG MX"])),
    served("nosigtlsa.test.", Served::Without(&["RRSIG TLSA"])),
    served("nonsec.test.", Served::Without(&["NSEC", "RRSIG NSEC"])),
    served("nosignsec.test.", Served::Without(&["RRSIG NSEC"])),
    served("foreign.test.", Served::SignedBy("TLSA", "good.test.")),
    served("parental.test.", Served::SignedBy("MX", "test.")),
    served("broken.test.", Served::Broken("TLSA")),
    served("brokenmx.test.", Served::Broken("MX")),
    served("brokensoa.test.", Served::Broken("SOA")),
    served("brokencname.test.", Served::Broken("CNAME")),
    served("brokendname.test.", Served::Broken("DNAME")),
    served("brokenkeys.test.", Served::Broken("DNSKEY")),
    keys("alg5.test.", &[ksk("RSASHA1"), zsk("RSASHA1")]),
    served("century.test.", Served::At(&["-s", "20200101000000", "-e", "21000101000000"])),
    // One of two algorithms or digests is wrong or unknown.
    delegated("wrongsha256.test.", Delegation::WrongSha256),
    delegated("wrongsha1.test.", Delegation::WrongSha1),
    delegated("wrongsha384.test.", Delegation::WrongSha384),
    delegated("unknownwrong.test.", Delegation::UnknownAndWrong),
    Zone {
        served: Served::WithoutAlgorithm("8"),
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("no8.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    Zone {
        served: Served::BrokenAlgorithm("8"),
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("broken8.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    Zone {
        served: Served::BrokenAlgorithm("13"),
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("broken13.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    Zone {
        served: Served::WithoutAlgorithm("8"),
        delegation: Delegation::Ds(&[0], "-2"),
        ..keys("only8ds.test.", &[ksk("RSASHA256"), zsk("RSASHA256"), ksk(P256), zsk(P256)])
    },
    Zone {
        delegation: Delegation::Ds(&[0, 2], "-2"),
        ..keys("ed448and13.test.", &[ksk("ED448"), zsk("ED448"), ksk(P256), zsk(P256)])
    },
    Zone {
        delegation: Delegation::Ds(&[0], "-2"),
        ..keys("ed448ds.test.", &[ksk("ED448"), zsk("ED448"), ksk(P256), zsk(P256)])
    },
    keys("algs.test.", &[ksk("RSASHA512"), zsk("ED25519")]),
    // Zone cuts in unusual places.
    zone("_tcp.cut.good.test."),
    unsigned("_tcp.cutplain.good.test."),
    delegated("_tcp.cutisland.good.test.", Delegation::None),
    served("_tcp.cutbogus.good.test.", Served::At(PAST)),
    zone("_25._tcp.deepcut.good.test."),
    unsigned("_25._tcp.deepcutplain.good.test."),
    unsigned("_tcp.cutplain.hashed.test."),
    unsigned("_tcp.cutplain.optout.test."),
    unsigned("plain.hole.optout.test."),
    zone("sec.hole.optout.test."),
    unsigned("deep.er.hole.hashed.test."),
    unsigned("plain.hole.opt."),
    unsigned("under.wild.good.test."),
    unsigned("under.wild.optout.test."),
    zone("under.wild.hashed.test."),
    Zone { more: APEX_WILD, ..zone("apexwild.test.") },
    Zone { more: APEX_WILD, ..nsec3("apexwild3.test.", &["-3", "-"]) },
    Zone { more: APEX_WILD, ..nsec3("apexwildo.test.", &["-3", "-", "-A"]) },
    unsigned("plain.apexwildo.test."),
    unsigned("plain.apexwild.test."),
    nsec3("iter150.test.", &["-3", "ab", "-H", "150"]),
    Zone { more: CASE, ..zone("case.test.") },
    nsec3("other.case.test.", &["-3", "-"]),
    served("nosoasig.test.", Served::Without(&["RRSIG SOA"])),
    Zone { served: Served::Without(&["NSEC3"]), ..nsec3("nonsec3.test.", &["-3", "-"]) },
    Zone { served: Served::Broken("NSEC3"), ..nsec3("brokennsec3.test.", &["-3", "-"]) },
    Zone { served: Served::Without(&["RRSIG NSEC3"]), ..nsec3("nosignsec3.test.", &["-3", "-"]) },
    served("brokennsec.test.", Served::Broken("NSEC")),
    unsigned("plain.brokennsec.test."),
    unsigned("plain.expired.test."),
    zone("sec.expired.test."),
    Zone { served: Served::Broken("NSEC3"), ..nsec3("brokenopt.test.", &["-3", "-", "-A"]) },
    unsigned("plain.brokenopt.test."),
    served("brokends.test.", Served::Broken("DS")),
    zone("sec.brokends.test."),
    unsigned("plain.brokends.test."),
];

/// Wildcards at the apex, of aliases, and above an empty non-terminal.
const APEX_WILD: &str = "\
* MX 5 mx.good.test.
* TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
*.sub CNAME mx.good.test.
x.*.ent2 A 192.0.2.9
";
/// Letters of either case, in owners and in targets.
const CASE: &str = "\
UPPER.Case.Test. MX 5 MX.Case.TEST.
ALias2.CASE.test. CNAME MX.Good.Test.
_25._TCP.Upper.case.TEST. TLSA 3 1 1 0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef
Tree2.Case.test. DNAME Good.TEST.
";

/// Chains of aliases that cross zones.
const CHAINS: &str = "\
in.good.test. CNAME alias.good.test.
secsec.good.test. CNAME alias.alg8.test.
secplain.good.test. CNAME alias.plain.test.
secplainsec.good.test. CNAME out.plain.test.
secislandsec.good.test. CNAME out.island.test.
secbogus.good.test. CNAME mx.expired.test.
sectobroken.good.test. CNAME alias.brokencname.test.
secdname.good.test. CNAME mx.tree.alg15.test.
secplaindname.good.test. CNAME mx.tree.plain.test.
optsec.good.test. CNAME mx.sec.opt.
optplain.good.test. CNAME mx.plain.opt.
missing.good.test. CNAME mx.nothing.opt.
loop.good.test. CNAME loop2.good.test.
loop2.good.test. CNAME loop.good.test.
self.good.test. CNAME self.good.test.
cut.good.test. A 192.0.2.9
cutplain.good.test. A 192.0.2.9
tree2.good.test. DNAME tree.alg8.test.
treeplain.good.test. DNAME plain.test.
treeself.good.test. DNAME treeself.good.test.
treegrow.good.test. DNAME a.treegrow.good.test.
treebogus.good.test. DNAME expired.test.
*.wildplain.good.test. CNAME mx.plain.test.
*.wildbogus.good.test. CNAME mx.expired.test.
*.wildtree.good.test. CNAME mx.tree.good.test.
wildself.good.test. CNAME q.wildself2.good.test.
*.wildself2.good.test. CNAME q.wildself2.good.test.
c1.good.test. CNAME c2.alg8.test.
tounknown.good.test. CNAME mx.alg200.test.
todigest.good.test. CNAME mx.digest77.test.
tolame.good.test. CNAME mx.nowhere.invalid.
toopt.good.test. CNAME mx.plain.hole.opt.
towild.good.test. CNAME q.apexwildo.test.
_25._tcp.al.good.test. CNAME _25._tcp.mx.alg8.test.
_25._tcp.alplain.good.test. CNAME _25._tcp.mx.plain.test.
_25._tcp.albroken.good.test. CNAME _25._tcp.mx.broken.test.
_25._tcp.alwild.good.test. CNAME _25._tcp.x.wild.hashed.test.
";

/// The records of every zone.
fn records(zone: &str) -> String {
    let tlsa = "TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let dot = if zone == "." { "" } else { "." };
    let mut text = String::new();
    for (owner, data) in [
        ("mx", "A 192.0.2.1"),
        ("mx", "AAAA 2001:db8::1"),
        ("_25._tcp.mx", tlsa),
        ("under.ent", "A 192.0.2.2"),
        ("out", "CNAME mx.good.test."),
        ("down", "CNAME mx.plain.test."),
        ("dangling", "CNAME nothing.good.test."),
        ("*.wild", tlsa),
        ("*.wild", "A 192.0.2.3"),
        ("here.wild", "A 192.0.2.4"),
        ("*.wildalias", "CNAME mx.good.test."),
        ("tree", "DNAME good.test."),
    ] {
        let _ = writeln!(text, "{owner}{dot}{zone} {data}");
    }
    let _ = writeln!(text, "{zone} MX 10 mx{dot}{zone}\nalias{dot}{zone} CNAME mx{dot}{zone}");
    text
}

/// Questions beside those about every zone.
const BESIDE: &str = "\
cut.good.test A, _25._tcp.cut.good.test TLSA, _25._tcp.cutplain.good.test TLSA,
_25._tcp.cutisland.good.test TLSA, _25._tcp.cutbogus.good.test TLSA, _25._tcp.deepcut.good.test TLSA,
_25._tcp.deepcutplain.good.test TLSA, _25._tcp.cutplain.hashed.test TLSA, _25._tcp.cutplain.optout.test TLSA,
cutplain.optout.test A, cutplain.optout.test MX, _tcp.cutplain.optout.test TLSA, hole.optout.test A,
hole.optout.test MX, hole.optout.test TLSA, _25._tcp.hole.optout.test TLSA, nope.hole.optout.test A,
nope.hole.optout.test MX, hole.opt A, x.hole.opt A, hole.opt MX, hole.opt DS,
hole.opt TLSA, _25._tcp.hole.opt TLSA, hole.optout.test DS, er.hole.hashed.test A, hole.hashed.test MX,
x.hole.hashed.test MX, x.er.hole.hashed.test MX, mx.tree2.good.test A, _25._tcp.mx.tree2.good.test TLSA,
mx.treeplain.good.test A, _25._tcp.mx.treeplain.good.test TLSA, x.treeself.good.test A, x.treegrow.good.test A,
mx.treebogus.good.test A, q.wildplain.good.test A, q.wildbogus.good.test A, q.wildtree.good.test A,
q.wildself2.good.test A, tree2.good.test A, tree2.good.test MX, tree2.good.test TLSA, mx.tree2.good.test MX,
nothing.tree2.good.test MX, q.apexwild.test MX, q.apexwild3.test MX, q.apexwildo.test MX, q.r.apexwild.test MX,
q.r.apexwild3.test MX, q.r.apexwildo.test MX, q.apexwild.test A, q.apexwild3.test A, q.apexwildo.test A,
_25._tcp.q.apexwild.test TLSA, _25._tcp.q.apexwild3.test TLSA, _25._tcp.q.apexwildo.test TLSA,
q.sub.apexwild.test A, q.sub.apexwild3.test A, q.sub.apexwildo.test A, q.ent2.apexwild.test A,
q.ent2.apexwild3.test A, q.ent2.apexwildo.test A, q.ent2.apexwild.test MX, q.ent2.apexwild3.test MX,
q.ent2.apexwildo.test MX, x.q.ent2.apexwild3.test A, sub.apexwild.test MX, sub.apexwild3.test MX,
sub.apexwildo.test MX, mx.plain.apexwildo.test MX, mx.plain.apexwild.test TLSA, upper.case.test MX,
_25._tcp.upper.case.test TLSA, alias2.case.test A, mx.tree2.case.test A, x.upper.case.test A,
q.under.wild.good.test TLSA, _25._tcp.under.wild.good.test TLSA, q.under.wild.optout.test TLSA,
q.under.wild.hashed.test TLSA, x.wild.optout.test TLSA, y.x.wild.optout.test TLSA, x.invalid MX,
nothing TLSA, deep.er.nothing.opt A, mx.nothing.hash TLSA";

/// The questions about every zone, and the further ones.
pub(crate) fn questions() -> Vec<String> {
    let everywhere = ZONES.iter().flat_map(|zone| {
        let name = zone.name.trim_end_matches('.');
        let below = |label: &str| if name.is_empty() { label.to_owned() } else { format!("{label}.{name}") };
        [
            ("mx", "A"),
            ("mx", "AAAA"),
            ("mx", "MX"),
            ("_25._tcp.mx", "TLSA"),
            ("_26._tcp.mx", "TLSA"),
            ("_tcp.mx", "TLSA"),
        ]
        .into_iter()
        .chain([("alias", "A"), ("alias", "CNAME"), ("out", "A"), ("down", "A"), ("dangling", "A"), ("nothing", "MX")])
        .chain([("_25._tcp.x.wild", "TLSA"), ("x.wild", "MX"), ("y.here.wild", "A"), ("x.wildalias", "A")])
        .chain([("ent", "A"), ("x.tree", "A"), ("mx.tree", "A"), ("_25._tcp.mx.tree", "TLSA")])
        .map(|(label, rtype)| format!("{} {rtype}", below(label)))
        .chain(
            ["MX", "SOA", "DS", "DNSKEY"].map(|rtype| format!("{} {rtype}", if name.is_empty() { "." } else { name })),
        )
        .collect::<Vec<_>>()
    });
    let chains = CHAINS
        .lines()
        .filter_map(|line| line.split_once(". CNAME"))
        .map(|(owner, _)| owner)
        .filter(|owner| !owner.starts_with('*'));
    let chains = chains.flat_map(|owner| ["A", "TLSA"].map(|rtype| format!("{owner} {rtype}")));
    let beside = BESIDE.split(',').map(|question| question.trim().to_owned());
    everywhere.chain(chains).chain(beside).collect()
}

/// Zone files, ready to be served.
pub(crate) struct ZoneCorpus {
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    /// The root's DNSKEY, as a master file.
    pub(crate) trust_anchor: PathBuf,
}

impl ZoneCorpus {
    /// Makes keys and signs all zones, with every name server at `authority`.
    pub(crate) fn sign(directory: &Path, authority: IpAddr) -> Self {
        fs::create_dir_all(directory).expect("the lab's directory is writable");
        let mut zones: Vec<&Zone> = ZONES.iter().collect();
        // Children come before their parents, which hold the children's DS records.
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.depth()));
        let (mut files, mut delegations) = (Vec::new(), Vec::<(&str, String)>::new());
        for zone in zones {
            let children = delegations.iter().filter(|(child, _)| zone.is_parent(child));
            let children: String = children.map(|(_, delegation)| delegation.as_str()).collect();
            let own = format!("{}{children}{}{}", zone.top(authority), records(zone.name), zone.more);
            let (file, ds) = zone.make(directory, &own);
            files.push((zone.name, file));
            delegations.push((zone.name, zone.name_server(authority) + &ds));
        }
        Self { files, trust_anchor: directory.join("root.anchor") }
    }
}

impl Zone {
    fn depth(&self) -> usize {
        self.name.split_terminator('.').filter(|label| !label.is_empty()).count()
    }

    /// Whether `child` is delegated from here: this is the deepest zone above it.
    fn is_parent(&self, child: &str) -> bool {
        let above = |zone: &Zone| zone.name == "." || child.ends_with(&format!(".{}", zone.name));
        let parent = ZONES.iter().filter(|zone| zone.name != child && above(zone)).max_by_key(|zone| zone.depth());
        child != "." && parent.is_some_and(|parent| parent.name == self.name)
    }

    fn top(&self, authority: IpAddr) -> String {
        format!("$TTL 300\n{} SOA ns. hostmaster. 1 3600 600 86400 60\n{}", self.name, self.name_server(authority))
    }

    fn name_server(&self, authority: IpAddr) -> String {
        let server = if self.name == "." { "ns.".to_owned() } else { format!("ns.{}", self.name) };
        format!("{} NS {server}\n{server} A {authority}\n", self.name)
    }

    /// The file to serve, and the DS records for the parent.
    fn make(&self, directory: &Path, records: &str) -> (PathBuf, String) {
        let path = |kind: &str| directory.join(format!("{}{kind}", if self.name == "." { "root." } else { self.name }));
        let (unsigned, served) = (path("unsigned"), path("zone"));
        let keys: Vec<PathBuf> = self.keys.iter().map(|key| key.make(self.name, directory)).collect();
        let mut text = records.to_owned();
        for (_, file) in self.keys.iter().zip(&keys).filter(|(key, _)| key.role != Role::Gone) {
            text += &fs::read_to_string(file).expect("dnssec-keygen wrote it");
        }
        fs::write(&unsigned, text).expect("the lab's directory is writable");
        if self.keys.is_empty() {
            return (unsigned, String::new());
        }
        if self.name == "." {
            fs::copy(&keys[0], path("anchor")).expect("the lab's directory is writable");
        }
        fs::write(&served, self.spoiled(directory, &unsigned)).expect("the lab's directory is writable");
        (served, self.ds(&keys))
    }

    fn spoiled(&self, directory: &Path, unsigned: &Path) -> String {
        let now = || self.signed(directory, unsigned, &[]);
        let records = |text: String, change: &dyn Fn(&[&str]) -> Option<String>| -> String {
            let changed = text.lines().filter_map(|line| change(&line.split_whitespace().collect::<Vec<_>>()));
            changed.fold(String::new(), |text, line| text + &line + "\n")
        };
        // Changes one character near the end of its data, which breaks a signature in any encoding.
        let broken = |words: &[&str]| {
            let mut line = words.join(" ");
            let at = line.len() - 8;
            let other = if line.as_bytes()[at] == b'A' { "B" } else { "A" };
            line.replace_range(at..=at, other);
            line
        };
        // Whether a line is a signature of this type or algorithm.
        let signs = |words: &[&str], place: usize, what: &str| words.get(3) == Some(&"RRSIG") && words[place] == what;
        let breaking = |place: usize, what: &str| {
            records(now(), &|words| Some(if signs(words, place, what) { broken(words) } else { words.join(" ") }))
        };
        match self.served {
            Served::AsSigned => now(),
            Served::At(when) => self.signed(directory, unsigned, when),
            Served::TwiceSigned => {
                let past = self.signed(directory, unsigned, PAST);
                now() + &records(past, &|words| (words.get(3) == Some(&"RRSIG")).then(|| words.join(" ")))
            }
            Served::Without(types) => records(now(), &|words| {
                let is = |gone: &&str| match gone.split_once(' ') {
                    Some((_, covered)) => words.get(3) == Some(&"RRSIG") && words.get(4) == Some(&covered),
                    None => words.get(3) == Some(gone),
                };
                (!types.iter().any(is)).then(|| words.join(" "))
            }),
            Served::SignedBy(covered, signer) => records(now(), &|words| {
                let mut words = words.to_vec();
                if signs(&words, COVERED, covered) {
                    words[11] = signer;
                }
                Some(words.join(" "))
            }),
            Served::WithoutAlgorithm(number) => {
                records(now(), &|words| (!signs(words, ALGORITHM, number)).then(|| words.join(" ")))
            }
            Served::BrokenAlgorithm(number) => breaking(ALGORITHM, number),
            Served::Broken(covered) => breaking(COVERED, covered),
        }
    }

    /// The text of the signed zone, a record a line: owner, TTL, class, type, data.
    fn signed(&self, directory: &Path, unsigned: &Path, when: &[&str]) -> String {
        let signed = unsigned.with_extension("signed");
        let mut command = Command::new("dnssec-signzone");
        command.current_dir(directory).args(["-P", "-q", "-O", "full", "-o", self.name, "-f"]).arg(&signed).args(when);
        if let Denial::Nsec3(arguments) = self.denial {
            command.args(arguments);
        }
        if self.keys.len() == 1 {
            command.arg("-z");
        }
        run(command.arg(unsigned));
        fs::read_to_string(&signed).expect("dnssec-signzone wrote it")
    }

    fn ds(&self, keys: &[PathBuf]) -> String {
        let ds = |index: usize, digest| run(Command::new("dnssec-dsfromkey").arg(digest).arg(&keys[index]));
        // Words: owner, class, DS, tag, algorithm, digest type, digest.
        let changed = |at: usize, number: u8| {
            let line = ds(0, "-2");
            let mut words: Vec<&str> = line.split_whitespace().collect();
            let number = number.to_string();
            words[at] = &number;
            words.join(" ") + "\n"
        };
        let wrong = |line: &str| {
            let line = line.trim();
            let (start, last) = line.split_at(line.len() - 1);
            format!("{start}{}\n", if last == "0" { "1" } else { "0" })
        };
        match self.delegation {
            Delegation::Ds(indices, digest) => indices.iter().map(|index| ds(*index, digest)).collect(),
            Delegation::None => String::new(),
            Delegation::Algorithm(number) => changed(4, number),
            Delegation::Digest(number) => changed(5, number),
            Delegation::OneUnknown => changed(4, 200) + &ds(0, "-2"),
            Delegation::WrongSha256 => ds(0, "-1") + &wrong(&ds(0, "-2")),
            Delegation::WrongSha1 => ds(0, "-2") + &wrong(&ds(0, "-1")),
            Delegation::WrongSha384 => ds(0, "-2") + &wrong(&ds(0, "-aSHA-384")),
            Delegation::UnknownAndWrong => changed(4, 200) + &wrong(&ds(0, "-2")),
        }
    }
}

impl Key {
    /// Makes a key and returns the path of its public part. Removes the private part of a key that does not sign.
    fn make(&self, zone: &str, directory: &Path) -> PathBuf {
        let size: &[&str] = match self.algorithm {
            "RSASHA256" | "RSASHA512" | "NSEC3RSASHA1" if !self.flags.contains(&"-b") => &["-b", "2048"],
            _ => &[],
        };
        let keygen = ["-q", "-a", self.algorithm];
        let name = run(Command::new("dnssec-keygen")
            .current_dir(directory)
            .args(keygen)
            .args(size)
            .args(self.flags)
            .arg(zone));
        let name = match self.role {
            Role::Revoked => run(Command::new("dnssec-revoke").current_dir(directory).arg(name.trim())),
            Role::Signs | Role::Published | Role::Gone => name,
        };
        let path = |kind: &str| directory.join(format!("{}.{kind}", name.trim()));
        if matches!(self.role, Role::Published | Role::Gone) {
            fs::remove_file(path("private")).expect("dnssec-keygen wrote it");
        }
        path("key")
    }
}
