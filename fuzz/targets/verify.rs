//! A good chain of three, changed, reordered and added to, under records of all kinds.
//!
//! Invariants: an additional unusable record never changes the verdict; a record that matches also matches alone;
//! without the record that matches, the verdict differs; and the order of the records makes no difference.

use std::time::Duration;

use danelaw::dane::agility::Digests;
use danelaw::dane::publish::{self, RecordSource};
use danelaw::dane::tlsa::{self, Associations, Matching, Selector, Tlsa, TlsaForm, Usage};
use danelaw::dane::verify::{Expectation, Match, References, verify};
use danelaw::dns::RawTlsa;
use danelaw::name::Name;
use rustls_pki_types::{CertificateDer, UnixTime};

const CERTIFICATES: [&[u8]; 3] =
    [include_bytes!("../chain/leaf.der"), include_bytes!("../chain/inter.der"), include_bytes!("../chain/root.der")];

/// The number of a certificate, an offset in it, and the new octet at that offset.
type Edit = (u8, u16, u8);
/// The number of the certificate that the record is of, and the record's form.
type Record = (u8, u8);

pub(crate) fn invariant(input: (Vec<Edit>, Vec<u8>, Vec<Record>, &[u8])) {
    let (edits, sent, records, extra) = input;
    let mut certificates = CERTIFICATES.map(<[u8]>::to_vec);
    // Most changes break a signature, so there are few of them.
    for (which, at, octet) in edits.into_iter().take(4) {
        let certificate = &mut certificates[usize::from(which) % 3];
        let at = usize::from(at) % certificate.len();
        certificate[at] = octet;
    }
    // The leaf comes first; the input chooses the other certificates and their order.
    let mut chain = vec![CertificateDer::from(certificates[0].clone())];
    chain.extend(sent.iter().take(20).map(|&which| match usize::from(which) {
        which @ 0..=2 => CertificateDer::from(certificates[which].clone()),
        3 => CertificateDer::from(extra.to_vec()),
        which => CertificateDer::from(CERTIFICATES[which % 3].to_vec()),
    }));
    let mut raw: Vec<RawTlsa> =
        records.iter().take(8).filter_map(|&(which, form)| record(&certificates, extra, which, form)).collect();

    let verdict = judge(&chain, &raw);
    let mut reversed = raw.clone();
    reversed.reverse();
    assert_eq!(judge(&chain, &reversed), verdict, "the order of the records");
    for unusable in [&[][..], &[3, 1], &[1, 1, 1, 7], &[3, 1, 2, 7], &[2, 0, 0, 0x30], &[4, 1, 1, 7], &[2, 1, 9, 7]] {
        raw.push(RawTlsa(unusable.to_vec()));
        let with = judge(&chain, &raw);
        raw.pop();
        assert_eq!(with.is_match(), verdict.is_match(), "{unusable:?}");
        if !raw.is_empty() {
            assert_eq!(with, verdict, "{unusable:?}");
        }
    }
    let Verdict::Match(found) = &verdict else { return };
    let is_found = |raw: &RawTlsa| Tlsa::read(raw).is_ok_and(|record| record == found.record);
    let alone: Vec<_> = raw.iter().filter(|raw| is_found(raw)).cloned().collect();
    assert!(!alone.is_empty(), "the match is a record that was not there");
    assert_eq!(judge(&chain, &alone), verdict, "the record that matches, alone");
    raw.retain(|raw| !is_found(raw));
    assert_ne!(judge(&chain, &raw), verdict, "without the record that matches");
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Match(Match),
    Mismatch(&'static str),
    NoDane,
}

impl Verdict {
    fn is_match(&self) -> bool {
        matches!(self, Self::Match(_))
    }
}

fn judge(chain: &[CertificateDer<'_>], records: &[RawTlsa]) -> Verdict {
    let name = Name::parse("mx.example.com").expect("a name");
    let Associations::Usable(usable) = tlsa::associations(name.clone(), records, &Digests::default()) else {
        return Verdict::NoDane;
    };
    let expected = Expectation { usable, references: References::new(name, []) };
    // 2026-11-21.
    match verify(chain, &expected, UnixTime::since_unix_epoch(Duration::from_secs(1_795_219_200))) {
        Ok(found) => Verdict::Match(found),
        Err(why) => {
            // The text may quote octets that the peer sent.
            assert!(why.to_string().bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{why}");
            Verdict::Mismatch(why.label())
        }
    }
}

/// The record of one of the certificates, or one from the bytes of the input.
fn record(certificates: &[Vec<u8>; 3], extra: &[u8], which: u8, form: u8) -> Option<RawTlsa> {
    let certificate = match usize::from(which) {
        which @ 0..=2 => &certificates[which],
        3 => return Some(RawTlsa(extra.to_vec())),
        which => return own(CERTIFICATES[which % 3], form),
    };
    own(certificate, form)
}

fn own(certificate: &[u8], form: u8) -> Option<RawTlsa> {
    let form = TlsaForm {
        usage: if form & 1 == 0 { Usage::TrustAnchor } else { Usage::EndEntity },
        selector: if form & 2 == 0 { Selector::Certificate } else { Selector::PublicKey },
        matching: match form >> 2 & 3 {
            0 => Matching::Full,
            1 => Matching::Sha512,
            _ => Matching::Sha256,
        },
    };
    let record = publish::tlsa_record(form, RecordSource::Certificate(certificate)).ok()?;
    Some(RawTlsa([&form.numbers()[..], record.data()].concat()))
}
