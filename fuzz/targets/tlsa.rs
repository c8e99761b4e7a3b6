//! Invariant: an accepted TLSA record is written as text that reads as the same record.

#![no_main]

use danelaw::dane::tlsa::Tlsa;
use danelaw::dns::RawTlsa;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|rdata: &[u8]| {
    if let Ok(record) = Tlsa::read(&RawTlsa(rdata.to_vec())) {
        let text = record.to_string();
        assert_eq!(text.parse::<Tlsa>().as_ref(), Ok(&record), "{text}");
    }
});
