//! The invariant of reading a reply, for its fuzz target and for a property test. danelaw reads the same data of the answering
//! records as the DNS library does where it reads the whole message. And each record has a text of one line.

#![allow(clippy::panic, clippy::expect_used, reason = "a broken invariant is a panic")]

use std::collections::HashSet;

use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::RData;

use super::super::reply::{Data, Proof, Rtype};
use super::convert::{self, canonical, data};

/// The types of questions and of records. OPT, TSIG and the like stand where they never should.
const TYPES: [u16; 19] = [1, 2, 5, 6, 15, 16, 28, 33, 35, 39, 41, 43, 46, 47, 48, 50, 52, 250, 65280];

/// Makes a reply of these octets, and reads it.
///
/// # Panics
/// The invariant is broken.
pub fn reading(octets: &[u8]) {
    let reply = OddReply::of(octets);
    let read =
        convert::message(&reply).and_then(|message| convert::reply(&message, |_, _| Proof::Unproven("not looked at")));
    let Ok(read) = read else { return };
    for told in read.answers.iter().chain(&read.authorities).flat_map(|set| &set.records).map(ToString::to_string) {
        assert!(!told.contains(char::is_control), "{told:?}");
    }
    let Ok(whole) = Message::from_vec(&reply) else { return };
    let records = || whole.answers.iter().chain(&whole.authorities);
    // Data without an octet have another meaning in the library (RFC 2136 §2.4).
    if records().any(|record| matches!(record.data, RData::Update0(_))) {
        return;
    }
    let asked = whole.queries.first().expect("a reply has its question");
    let (name, rtype) = (canonical(&asked.name), Rtype(asked.query_type.into()));
    let ours: HashSet<&Data> = read
        .answers
        .iter()
        .filter(|set| set.owner == name && set.rtype == rtype)
        .flat_map(|set| &set.records)
        .collect();
    let theirs = whole.answers.iter().filter(|record| canonical(&record.name) == name);
    let theirs = theirs.filter(|record| record.record_type() == asked.query_type);
    let theirs: Vec<Data> = theirs.map(|record| data(&record.data).expect("its data were read")).collect();
    // A signature answers no question of its own.
    if rtype.0 != 46 {
        assert_eq!(ours, theirs.iter().collect(), "{rtype}");
    }
}

/// A reply of odd records that is being written.
struct OddReply<'a> {
    from: std::slice::Iter<'a, u8>,
    reply: Vec<u8>,
}

impl OddReply<'_> {
    fn of(octets: &[u8]) -> Vec<u8> {
        let mut odd = OddReply { from: octets.iter(), reply: vec![0, 0, 0x81, 0x80, 0, 1] };
        let counts = [odd.next() % 6, odd.next() % 4, odd.next() % 3];
        counts.iter().for_each(|count| odd.reply.extend([0, *count]));
        odd.reply.extend([1, b'z', 0]);
        let asked = odd.rtype();
        odd.reply.extend([asked.to_be_bytes(), [0, 1]].concat());
        for _ in 0..counts.iter().sum() {
            odd.record(asked);
        }
        odd.reply
    }

    fn next(&mut self) -> u8 {
        self.from.next().copied().unwrap_or_default()
    }

    fn rtype(&mut self) -> u16 {
        TYPES.get(usize::from(self.next()) % TYPES.len()).copied().unwrap_or_default()
    }

    /// A record at the asked name mostly, and mostly of the asked type.
    fn record(&mut self, asked: u16) {
        let kind = self.next();
        match kind % 5 {
            0 => self.reply.push(0),
            1 => self.reply.extend([1, b'a', 0xc0, 12]),
            _ => self.reply.extend([0xc0, 12]),
        }
        let rtype = if kind & 0x40 == 0 { asked } else { self.rtype() };
        self.reply.extend([rtype.to_be_bytes(), [0, 1]].concat());
        self.reply.extend([0, 0, 1, kind]);
        let length = self.next() % 48;
        self.reply.extend([0, length]);
        for _ in 0..length {
            let octet = self.next();
            self.reply.push(octet);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn the_invariant_holds(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            reading(&octets);
        }
    }
}
