//! All fuzz targets in one program, so that danelaw is compiled and linked once. The environment variable `FUZZ_TARGET`
//! names the target that a run is of; `fuzz/run` sets it.

#![no_main]

mod chunk;
mod command;
mod data;
mod dns_reply;
mod links;
mod reply;
mod sts_policy;
mod sts_record;
mod tlsa;
mod tlsrpt_read;
mod tlsrpt_record;
mod verify;

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};

/// Checks the invariant of a target for one input.
type Check = fn(&[u8]) -> Corpus;

const TARGETS: [(&str, Check); 12] = [
    ("chunk", |octets| of_parts(octets, chunk::invariant)),
    ("command", |octets| of_octets(octets, command::invariant)),
    ("data", |octets| of_parts(octets, data::invariant)),
    ("dns_reply", |octets| of_octets(octets, dns_reply::invariant)),
    ("links", |octets| of_octets(octets, links::invariant)),
    ("reply", |octets| of_parts(octets, reply::invariant)),
    ("sts_policy", |octets| of_octets(octets, sts_policy::invariant)),
    ("sts_record", |octets| of_octets(octets, sts_record::invariant)),
    ("tlsa", |octets| of_octets(octets, tlsa::invariant)),
    ("tlsrpt_read", |octets| of_octets(octets, tlsrpt_read::invariant)),
    ("tlsrpt_record", |octets| of_octets(octets, tlsrpt_record::invariant)),
    ("verify", |octets| of_parts(octets, verify::invariant)),
];

static CHECK: LazyLock<Check> = LazyLock::new(|| {
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is {wanted:?}, which is no fuzz target")).1
});

fuzz_target!(|octets: &[u8]| -> Corpus { CHECK(octets) });

fn of_octets(octets: &[u8], invariant: impl Fn(&[u8])) -> Corpus {
    invariant(octets);
    Corpus::Keep
}

/// Octets from which no input can be made are not kept in the corpus.
fn of_parts<'a, Input: Arbitrary<'a>>(octets: &'a [u8], invariant: impl Fn(Input)) -> Corpus {
    if octets.len() < Input::size_hint(0).0 {
        return Corpus::Reject;
    }
    match Input::arbitrary_take_rest(Unstructured::new(octets)) {
        Ok(input) => {
            invariant(input);
            Corpus::Keep
        }
        Err(_) => Corpus::Reject,
    }
}
