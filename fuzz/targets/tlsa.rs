//! Invariant: an accepted TLSA record is written as text that reads as the same record.

use danelaw::dane::tlsa::Tlsa;
use danelaw::dns::RawTlsa;

pub(crate) fn invariant(rdata: &[u8]) {
    if let Ok(record) = Tlsa::read(&RawTlsa(rdata.to_vec())) {
        let text = record.to_string();
        assert_eq!(text.parse::<Tlsa>().as_ref(), Ok(&record), "{text}");
    }
}
