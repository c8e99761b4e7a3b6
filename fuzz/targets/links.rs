//! Invariants, for any replies that an attacker makes of genuine and forged records: no answer is called secure that
//! the zones do not give, no answer is called insecure that they have signed, and no denial is believed that does not
//! fit the question.

#![no_main]

use danelaw::dns::invariant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| invariant::links(octets));
