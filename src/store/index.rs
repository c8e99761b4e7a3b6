//! An index in memory, so that RCPT does not wait for the store: the records that hold a final outcome of a recipient.

use std::collections::HashMap;

use super::{Pair, RecordId, Served};

/// Both directions, so that a record goes out as fast as it came in. Recipients are kept as the first octets of their
/// digest: two that share these octets may get transactions of their own without need, and no other harm comes of it.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: HashMap<u64, Vec<RecordId>>,
    recipients: HashMap<RecordId, IndexedRecord>,
}

/// A record: the time of its last attempt in seconds of the Unix clock, and its recipients.
#[derive(Debug, Default)]
struct IndexedRecord {
    seen: i64,
    recipients: Vec<u64>,
}

impl Index {
    /// The index of these recipients.
    pub(super) fn of(served: Vec<Served>) -> Self {
        let mut index = Self::default();
        for Served { record, seen, recipient } in served {
            index.insert(record, seen, [recipient]);
        }
        index
    }

    pub(super) fn has(&self, recipient: Pair) -> bool {
        self.records.contains_key(&recipient.short())
    }

    /// The records of a recipient whose last attempt was at or after `since`, sorted.
    pub(super) fn records(&self, recipient: Pair, since: i64) -> Vec<RecordId> {
        let records = self.records.get(&recipient.short()).into_iter().flatten().copied();
        records.filter(|record| self.recipients.get(record).is_some_and(|entry| entry.seen >= since)).collect()
    }

    /// Adds recipients to a record, which was `seen` then.
    pub(super) fn insert(&mut self, record: RecordId, seen: i64, recipients: impl IntoIterator<Item = Pair>) {
        let entry = self.recipients.entry(record).or_default();
        entry.seen = seen;
        for recipient in recipients {
            let records = self.records.entry(recipient.short()).or_default();
            if let Err(place) = records.binary_search(&record) {
                records.insert(place, record);
                entry.recipients.push(recipient.short());
            }
        }
    }

    pub(super) fn remove(&mut self, record: RecordId) {
        for recipient in self.recipients.remove(&record).unwrap_or_default().recipients {
            if let Some(records) = self.records.get_mut(&recipient) {
                records.retain(|other| *other != record);
                if records.is_empty() {
                    self.records.remove(&recipient);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: u8) -> Pair {
        Pair::from_octets(&[number; 32]).unwrap()
    }

    #[test]
    fn a_record_goes_out_as_it_came_in() {
        let mut index = Index::default();
        index.insert(RecordId(2), 10, [pair(1), pair(2)]);
        index.insert(RecordId(1), 20, [pair(1)]);
        index.insert(RecordId(1), 30, [pair(1)]);
        assert_eq!(index.records(pair(1), 0), [RecordId(1), RecordId(2)]);
        assert_eq!(index.records(pair(2), 10), [RecordId(2)]);
        // Expired ones count no more, whether they are there or not.
        assert_eq!(index.records(pair(1), 11), [RecordId(1)]);
        assert_eq!(index.records(pair(1), 31), []);
        index.remove(RecordId(2));
        assert_eq!((index.records(pair(1), 0), index.has(pair(2))), (vec![RecordId(1)], false));
        index.remove(RecordId(1));
        assert!(index.records.is_empty() && index.recipients.is_empty());
    }
}
