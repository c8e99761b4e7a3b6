//! Which recipients have a final outcome in which records, as RCPT asks it.

use std::collections::HashMap;

use super::key::Pair;

/// The number of a record in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId(pub(super) i64);

/// Both directions, so that a record goes out as fast as it came in. Recipients are kept as the first octets of their
/// digest: two that share these octets may get transactions of their own without need, and no other harm comes of it.
#[derive(Debug, Default)]
pub(super) struct Index {
    records: HashMap<u64, Vec<RecordId>>,
    recipients: HashMap<i64, Vec<u64>>,
}

impl Index {
    pub(super) fn has(&self, recipient: Pair) -> bool {
        self.records.contains_key(&recipient.short())
    }

    /// The records of a recipient, sorted.
    pub(super) fn records(&self, recipient: Pair) -> Vec<RecordId> {
        self.records.get(&recipient.short()).cloned().unwrap_or_default()
    }

    /// Adds recipients to a record.
    pub(super) fn insert(&mut self, record: RecordId, recipients: impl IntoIterator<Item = Pair>) {
        for recipient in recipients {
            let records = self.records.entry(recipient.short()).or_default();
            if let Err(place) = records.binary_search(&record) {
                records.insert(place, record);
                self.recipients.entry(record.0).or_default().push(recipient.short());
            }
        }
    }

    pub(super) fn remove(&mut self, record: RecordId) {
        for recipient in self.recipients.remove(&record.0).unwrap_or_default() {
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
        index.insert(RecordId(2), [pair(1), pair(2)]);
        index.insert(RecordId(1), [pair(1)]);
        index.insert(RecordId(1), [pair(1)]);
        assert_eq!(index.records(pair(1)), [RecordId(1), RecordId(2)]);
        assert_eq!(index.records(pair(2)), [RecordId(2)]);
        index.remove(RecordId(2));
        assert_eq!((index.records(pair(1)), index.has(pair(2))), (vec![RecordId(1)], false));
        index.remove(RecordId(1));
        assert!(index.records.is_empty() && index.recipients.is_empty());
    }
}
