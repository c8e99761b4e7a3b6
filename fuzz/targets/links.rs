//! Invariants, for any replies that an attacker makes of genuine and forged records: no answer is called secure that
//! the zones do not give, no answer is called insecure that they have signed, and no denial is believed that does not
//! fit the question.

use danelaw::dns::invariant;

pub(crate) fn invariant(octets: &[u8]) {
    invariant::links(octets);
}
