//! The cost of a verdict: a digest for DANE-EE, a signature check for each certificate up to the anchor for DANE-TA,
//! and the refusal of the worst chain that a peer can send.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/certificates/mod.rs"]
mod certificates;

use std::hint::black_box;
use std::time::Duration;

use certificates::{Spec, cn, key, tlsa};
use criterion::{Criterion, criterion_group, criterion_main};
use danelaw::dane::tlsa::Usable;
use danelaw::dane::verify::{Expectation, References, verify};
use danelaw::name::Name;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, UnixTime};

fn expectation(record: &str) -> Expectation {
    let name = Name::parse("mx.example.com").unwrap();
    Expectation {
        usable: Usable::new(name.clone(), vec![record.parse().unwrap()]).unwrap(),
        references: References::new(name, []),
    }
}

/// Authorities of two names and one key. Each of the one name is an issuer of each of the other, so there are millions
/// of possible paths.
fn mesh(own: &KeyPair) -> Vec<CertificateDer<'static>> {
    let shared = key();
    let mut chain = vec![Spec { issuer: cn("Warp"), ..Spec::default() }.issue(own, &shared)];
    for serial in 0..7 {
        for (subject, issuer) in [("Warp", "Weft"), ("Weft", "Warp")] {
            let spec = Spec { serial: vec![serial], ..Spec::authority(subject, issuer) };
            chain.push(spec.issue(&shared, &shared));
        }
    }
    chain
}

fn bench(criterion: &mut Criterion) {
    let [own, inter, root] = [key(), key(), key()];
    let chain = [
        Spec { issuer: cn("Inter"), ..Spec::default() }.issue(&own, &inter),
        Spec::authority("Inter", "Root").issue(&inter, &root),
        Spec::authority("Root", "Root").issue(&root, &root),
    ];
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_795_219_200));
    for (what, numbers, key) in [("DANE-EE", "3 1 1", &own), ("DANE-TA", "2 1 1", &root)] {
        let expected = expectation(&tlsa(numbers, b"", &key.subject_public_key_info()));
        assert!(verify(&chain, &expected, now).is_ok());
        criterion.bench_function(what, |bencher| bencher.iter(|| verify(black_box(&chain), &expected, now)));
    }
    let hostile = [mesh(&own), vec![chain[2].clone()]].concat();
    let expected = expectation(&tlsa("2 1 1", b"", &root.subject_public_key_info()));
    assert!(verify(&hostile, &expected, now).is_err());
    criterion.bench_function("hostile", |bencher| bencher.iter(|| verify(black_box(&hostile), &expected, now)));
}

criterion_group!(benches, bench);
criterion_main!(benches);
