//! danelaw against unbound on a tree of every kind of zone.
//!
//! `danelaw resolve -` asks an unbound that does not validate; the test asks the same of an unbound that validates.
//! This file lists every difference, with its reason; each is on the safe side.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use serde_json::Value;

use crate::dns;
use crate::net::Subnet;
use crate::zone_corpus::{ZoneCorpus, questions};

/// Names at which danelaw's result differs from unbound's, and why that does no harm.
struct Difference {
    /// It concerns the names at and below this one ...
    at_or_below: &'static str,
    /// ... for this type; empty for all.
    rtype: &'static str,
    ours: &'static str,
    theirs: &'static str,
    /// Why, and why it is on the safe side.
    #[expect(dead_code, reason = "for the reader")]
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        at_or_below: "invalid",
        rtype: "",
        ours: "secure",
        theirs: "insecure",
        why: "Both answer NXDOMAIN without asking (RFC 6761 §6.4); danelaw says with which security the root does.",
    },
    Difference {
        at_or_below: "alg16.test",
        rtype: "",
        ours: "insecure",
        theirs: "secure",
        why: "Ed448 is not in the DNS library; RFC 4035 §5.2, RFC 8624 §3.1: a zone of unknown algorithms is unsigned. \
              It costs such a zone its DANE, and its mail still needs TLS.",
    },
    Difference {
        at_or_below: "ed448ds.test",
        rtype: "",
        ours: "insecure",
        theirs: "secure",
        why: "As for alg16.test.",
    },
    Difference {
        at_or_below: "wrongsha256.test",
        rtype: "",
        ours: "failed",
        theirs: "secure",
        why: "RFC 4509 §3: beside a SHA-256 digest that is understood a SHA-1 digest does not count. unbound 1.17 takes it.",
    },
    Difference {
        at_or_below: "wrongsha256.test",
        rtype: "",
        ours: "failed",
        theirs: "insecure",
        why: "As before, for aliases that leave the zone.",
    },
    Difference {
        at_or_below: ".",
        rtype: "DS",
        ours: "failed",
        theirs: "secure",
        why: "The root has no parent that could deny its DS record. No delivery asks for it.",
    },
];

impl Difference {
    fn is(&self, question: &str, ours: &Verdict, theirs: &Verdict) -> bool {
        let (name, rtype) = question.split_once(' ').expect("NAME TYPE");
        let here = name == self.at_or_below || name.ends_with(&format!(".{}", self.at_or_below));
        // A result that is not a failure may differ in its label alone.
        let label = ours.security == "failed" || (&ours.kind, &ours.records) == (&theirs.kind, &theirs.records);
        let rtype = self.rtype.is_empty() || self.rtype == rtype;
        here && rtype && label && ours.security == self.ours && theirs.security == self.theirs
    }
}

/// How a lookup ended: security and kind.
#[derive(Debug, Clone, PartialEq)]
struct Verdict {
    security: String,
    kind: String,
    /// Sorted.
    records: Vec<String>,
}

/// Rows A1, A5, A6, A12, A14, A15, D10, D11 and A-41, over the whole tree.
#[test]
fn danelaw_and_unbound_agree() {
    let directory = tempfile::Builder::new().prefix("danelaw-").tempdir().expect("a writable /tmp");
    let net = Subnet::claim();
    let corpus = ZoneCorpus::sign(&directory.path().join("zones"), net.authority().ip());
    let _authority = dns::authority(directory.path(), &net, &corpus.files);
    let _resolver = dns::resolver(directory.path(), &net, &Vec::new());
    let _validator = dns::validator(directory.path(), &net, &Vec::new(), &corpus.trust_anchor);
    let questions = questions();
    assert!(questions.len() >= 250);
    let ours = danelaw(&["--server", &net.resolver().to_string()], &corpus.trust_anchor, &questions);
    assert_eq!(ours.len(), questions.len());
    let (mut met, mut unlisted, mut links) = (BTreeSet::new(), Vec::new(), 0);
    for (question, answer) in questions.iter().zip(&ours) {
        let (ours, theirs) = (Verdict::of(answer), unbound(net.validator(), question));
        if ours != theirs {
            match DIFFERENCES.iter().position(|difference| difference.is(question, &ours, &theirs)) {
                Some(listed) => drop(met.insert(listed)),
                None => unlisted.push(format!("{question}: danelaw {answer:#}, unbound {theirs:?}")),
            }
        }
        // A15, A16: every alias by itself.
        for alias in answer["aliases"].as_array().expect("a list") {
            let question = link(alias["owner"].as_str().expect("a name"));
            let theirs = unbound(net.validator(), &question);
            let ours = Verdict { security: alias["security"].as_str().expect("a text").to_owned(), ..theirs.clone() };
            links += 1;
            if ours != theirs && !DIFFERENCES.iter().any(|difference| difference.is(&question, &ours, &theirs)) {
                unlisted.push(format!("{question}: danelaw {alias:#}, unbound {theirs:?}"));
            }
        }
    }
    assert!(unlisted.is_empty(), "{} of {}:\n{}", unlisted.len(), questions.len(), unlisted.join("\n"));
    assert!(links >= 250, "{links}");
    // Every listed difference still exists.
    assert_eq!(met.len(), DIFFERENCES.len(), "{met:?}");
}

/// The question for the record that makes this name an alias. (For a CNAME that a DNAME makes, it is the DNAME: to a
/// question for the CNAME itself unbound 1.17 answers SERVFAIL.)
fn link(owner: &str) -> String {
    match owner.find("tree") {
        Some(dname) => format!("{} DNAME", &owner[dname..]),
        None => format!("{owner} CNAME"),
    }
}

/// The same tree, asked by danelaw itself from the root down: the verdicts are those that it makes behind a resolver.
#[test]
fn danelaw_agrees_with_itself_without_a_resolver() {
    let directory = tempfile::Builder::new().prefix("danelaw-").tempdir().expect("a writable /tmp");
    let net = Subnet::claim();
    let corpus = ZoneCorpus::sign(&directory.path().join("zones"), net.authority().ip());
    let _authority = dns::authority(directory.path(), &net, &corpus.files);
    let _resolver = dns::resolver(directory.path(), &net, &Vec::new());
    let questions = questions();
    let behind = danelaw(&["--server", &net.resolver().to_string()], &corpus.trust_anchor, &questions);
    let hints = directory.path().join("root.hints");
    let hints = hints.to_str().expect("a text");
    let alone = danelaw(&["--server", "recurse", "--root-hints", hints], &corpus.trust_anchor, &questions);
    assert_eq!((alone.len(), behind.len()), (questions.len(), questions.len()));
    let differ: Vec<String> = questions
        .iter()
        .zip(alone.iter().zip(&behind))
        .filter(|(_, (alone, behind))| Verdict::of(alone) != Verdict::of(behind))
        .map(|(question, (alone, behind))| format!("{question}: alone {alone}, behind a resolver {behind}"))
        .collect();
    assert!(differ.is_empty(), "{} of {}:\n{}", differ.len(), questions.len(), differ.join("\n"));
}

/// danelaw's result for each question, in order.
fn danelaw(servers: &[&str], trust_anchor: &Path, questions: &[String]) -> Vec<Value> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(["resolve", "-", "--json"])
        .args(servers)
        .arg("--trust-anchor")
        .arg(trust_anchor)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("danelaw is built");
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines = questions.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).expect("danelaw reads"));
    let output = child.wait_with_output().expect("danelaw ends");
    writer.join().expect("the questions were read");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

/// The result of the validating unbound.
fn unbound(address: SocketAddr, question: &str) -> Verdict {
    let (name, rtype) = question.split_once(' ').expect("NAME TYPE");
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).expect("a name");
    let rtype: RecordType = rtype.parse().expect("a type");
    let reply = exchange(address, name, rtype);
    let failed = !matches!(reply.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    let found = reply.answers.iter().filter(|record| record.record_type() == rtype);
    let mut records: Vec<String> = found.map(|record| record.data.to_string().to_lowercase()).collect();
    records.sort();
    let kind = match reply.metadata.response_code {
        _ if failed => "failure",
        ResponseCode::NXDomain => "nxdomain",
        _ if records.is_empty() => "nodata",
        _ => "answer",
    };
    let security = match reply.metadata.authentic_data {
        _ if failed => "failed",
        true => "secure",
        false => "insecure",
    };
    Verdict { security: security.to_owned(), kind: kind.to_owned(), records }
}

/// One question over TCP, with DO and AD.
fn exchange(address: SocketAddr, name: Name, rtype: RecordType) -> Message {
    let mut request = Message::new(7, MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.metadata.authentic_data = true;
    request.add_query(Query::query(name, rtype));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(1232);
    request.set_edns(edns);
    let request = request.to_vec().expect("a message");
    let mut stream = TcpStream::connect(address).expect("unbound listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let length = u16::try_from(request.len()).expect("a short message").to_be_bytes();
    stream.write_all(&[&length[..], &request].concat()).expect("unbound reads");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("unbound answers");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).expect("unbound answers");
    Message::from_vec(&reply).expect("a message")
}

impl Verdict {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().expect("a text").to_owned();
        let records = answer["records"].as_array().expect("a list").iter();
        let mut records: Vec<String> = records.map(|record| record.as_str().expect("a text").to_lowercase()).collect();
        records.sort();
        Self { security: text("security"), kind: text("kind"), records }
    }
}
