//! Invariant, for replies of records of any type in any place: of those that answer, danelaw reads the data that the DNS library
//! reads of the whole message, and each record has a text of one line.

use danelaw::dns::reading;

pub(crate) fn invariant(octets: &[u8]) {
    reading(octets);
}
