//! Invariant: an address of a TLSRPT record is written as text that reads as the same address, has no delimiter of a record
//! and no line end, and there are five at most.

use danelaw::tlsrpt::record::{ReportAddress, TlsrptRecord};

pub(crate) fn invariant(octets: &[u8]) {
    let records: Vec<_> = octets.split(|octet| *octet == 0).collect();
    let Ok(record) = TlsrptRecord::among(&records) else { return };
    assert!((1..=5).contains(&record.addresses.len()));
    for address in &record.addresses {
        let written = address.to_string();
        assert!(!written.contains([',', ';', ' ']) && !written.chars().any(char::is_control), "{written:?}");
        assert_eq!(ReportAddress::parse(&written).as_ref(), Ok(address), "{written:?} means another address");
    }
    let uris: Vec<_> = record.addresses.iter().map(ToString::to_string).collect();
    let again = TlsrptRecord::among(&[format!("v=TLSRPTv1; rua={}", uris.join(", "))]);
    assert_eq!(again.map(|again| again.addresses), Ok(record.addresses));
}
