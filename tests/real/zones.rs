//! Zones signed with real tools (BIND's `dnssec-keygen` and `dnssec-signzone`), under a root key of the lab's own.
//!
//! A forged record was signed with one RDATA and is served with another, as an attacker on the path or a broken server
//! would serve it. A validating resolver must not believe it. For a resolver that does not validate, it is a usable
//! record.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// One zone, with its own records; SOA, NS, glue and DS follow from the tree.
pub(crate) struct Zone {
    /// Absolute, with the final dot.
    pub(crate) name: &'static str,
    /// Whether it is signed and its parent has its DS record.
    pub(crate) signed: bool,
    pub(crate) records: Vec<Record>,
}

pub(crate) struct Record {
    /// Absolute.
    owner: String,
    /// Type and RDATA, as in a master file.
    data: String,
    /// Type and RDATA at the time of signing, if they differed.
    signed_as: Option<String>,
}

impl Record {
    pub(crate) fn new(owner: &str, data: impl Into<String>) -> Self {
        Self { owner: owner.to_owned(), data: data.into(), signed_as: None }
    }

    /// A record whose signature covers other data.
    pub(crate) fn forged(owner: &str, data: impl Into<String>, signed_as: &str) -> Self {
        Self { signed_as: Some(signed_as.to_owned()), ..Self::new(owner, data) }
    }

    fn line(&self, data: &str) -> String {
        format!("{} 300 IN {data}\n", self.owner)
    }
}

/// Zone files, ready to be served.
pub(crate) struct SignedZones {
    directory: PathBuf,
    /// All zones, with the files that hold them.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    /// The root's DNSKEY, as a master file.
    pub(crate) trust_anchor: PathBuf,
}

impl SignedZones {
    /// Signs the zones, and the root above them, with every name server at `authority`. Children come before their
    /// parents.
    pub(crate) fn sign(directory: &Path, authority: IpAddr, zones: Vec<Zone>) -> Self {
        fs::create_dir_all(directory).expect("the lab's directory is writable");
        let root = Zone { name: ".", signed: true, records: Vec::new() };
        let mut tree =
            Self { directory: directory.to_owned(), files: Vec::new(), trust_anchor: directory.join("root.key") };
        let mut delegations: Vec<(&str, String)> = Vec::new();
        for zone in zones.into_iter().chain([root]) {
            let mut text = format!("$TTL 300\n{} IN SOA ns. hostmaster. 1 3600 600 86400 60\n", zone.name);
            text += &name_server(zone.name, authority);
            for (_, delegation) in delegations.extract_if(.., |(child, _)| child.ends_with(zone.name)) {
                text += &delegation;
            }
            let mut delegation = name_server(zone.name, authority);
            if zone.signed {
                delegation += &tree.add_signed(&zone, text);
            } else {
                text.extend(zone.records.iter().map(|record| record.line(&record.data)));
                tree.add(&zone, &text);
            }
            delegations.push((zone.name, delegation));
        }
        tree
    }

    /// Signs and stores the zone; the result is the DS RRset for its parent.
    fn add_signed(&mut self, zone: &Zone, mut text: String) -> String {
        let lie = |record: &Record| Some((record.line(record.signed_as.as_ref()?), record.line(&record.data)));
        let unsigned = self.path(zone, "unsigned");
        let signed = self.path(zone, "signed");
        let key_signing_key = self.key(zone, &["-f", "KSK"]);
        let key_text = fs::read_to_string(&key_signing_key).expect("dnssec-keygen wrote it");
        text += &key_text;
        text += &fs::read_to_string(self.key(zone, &[])).expect("dnssec-keygen wrote it");
        text.extend(zone.records.iter().map(|record| record.line(record.signed_as.as_ref().unwrap_or(&record.data))));
        fs::write(&unsigned, text).expect("the lab's directory is writable");
        run(Command::new("dnssec-signzone")
            .current_dir(&self.directory)
            .args(["-O", "full", "-o", zone.name, "-f"])
            .args([&signed, &unsigned]));

        let served = fs::read_to_string(&signed).expect("dnssec-signzone wrote it");
        let served =
            zone.records.iter().filter_map(lie).fold(served, |served, (signed, lie)| tell(&served, &signed, &lie));
        self.add(zone, &served);
        if zone.name == "." {
            fs::write(&self.trust_anchor, key_text).expect("the lab's directory is writable");
        }
        run(Command::new("dnssec-dsfromkey").arg("-2").arg(&key_signing_key))
    }

    /// Makes a key of the zone and returns the path of its public part.
    fn key(&self, zone: &Zone, arguments: &[&str]) -> PathBuf {
        let name = run(Command::new("dnssec-keygen")
            .current_dir(&self.directory)
            .args(["-q", "-a", "ECDSAP256SHA256"])
            .args(arguments)
            .arg(zone.name));
        self.directory.join(format!("{}.key", name.trim()))
    }

    fn add(&mut self, zone: &Zone, text: &str) {
        let path = self.path(zone, "zone");
        fs::write(&path, text).expect("the lab's directory is writable");
        self.files.push((zone.name, path));
    }

    fn path(&self, zone: &Zone, kind: &str) -> PathBuf {
        self.directory.join(format!("{}{kind}", if zone.name == "." { "root." } else { zone.name }))
    }
}

/// The NS record of a zone and the address of the server, as they stand in the zone and in its parent.
fn name_server(zone: &str, authority: IpAddr) -> String {
    let server = format!("ns.{}", zone.trim_start_matches('.'));
    format!("{zone} IN NS {server}\n{server} IN A {authority}\n")
}

/// Replaces the signed record by `lie`. It compares without blanks and case, which `dnssec-signzone` changes.
fn tell(zone: &str, signed: &str, lie: &str) -> String {
    let bare = |line: &str| line.to_ascii_lowercase().replace(char::is_whitespace, "");
    let truth = bare(signed);
    let lines = zone.lines().map(|line| if bare(line) == truth { lie.to_owned() } else { format!("{line}\n") });
    let told: String = lines.collect();
    assert!(told.contains(lie), "the record to forge is in the zone: {signed}");
    told
}
