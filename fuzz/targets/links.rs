//! Invariant: whatever replies an attacker makes of genuine and forged records, nothing is called secure that the zones do not
//! say, nothing insecure that they have signed, and no denial is believed that does not fit.

#![no_main]

use danelaw::dns::invariant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| invariant::links(octets));
