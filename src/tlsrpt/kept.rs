//! The counts of the days that are not reported yet, and which of them are still to be written to the store.
//!
//! A file has one row for each domain and day. One process has the file, so a row is written whole, and a write that has
//! failed is done again without counting anything twice. In a database several processes add to one row for each result, so
//! the part is written that has come since the last write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use time::Date;

use super::event::{PolicyKind, ReportedFailure, ReportedPolicy, TlsEvent};
use super::tally::{DomainDay, ResultCounts, TalliedDomain, TallyRoom, TlsTally};
use crate::name::Name;
use crate::refusal::ResultType;

/// The counts, and the rows that the store does not have yet. There are no more of those than the tally has domains.
#[derive(Debug, Default)]
pub struct KeptTally {
    whole: TlsTally,
    unwritten: BTreeSet<DomainDay>,
    /// The counts of which the part to be added was taken.
    added: BTreeMap<DomainDay, TalliedDomain>,
}

/// A result of one domain on one day that came so often, as a database adds it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedResult {
    /// The domain and the day.
    pub of: DomainDay,
    /// The policy and the result, once, as JSON.
    pub counted: String,
    /// How often it came.
    pub times: u64,
}

/// The counts of one domain on one day, as the store has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyRow {
    /// The domain and the day.
    pub of: DomainDay,
    /// The counts, as JSON.
    pub counts: String,
}

/// The most that is written at a time. A row of a hostile domain may have a megabyte; one row is always written.
#[derive(Debug, Clone, Copy)]
pub struct UnwrittenLimits {
    /// Rows.
    pub rows: usize,
    /// The octets at which no further row is taken.
    pub octets: usize,
}

#[derive(Serialize, Deserialize)]
struct KeptPolicyJson {
    kind: String,
    domain: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    strings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mx: Vec<String>,
    success: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failures: Vec<KeptFailureJson>,
}

#[derive(Serialize, Deserialize)]
struct KeptFailureJson {
    kind: String,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    receiving: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sending: Option<IpAddr>,
    times: u64,
}

impl KeptTally {
    /// Counts an event.
    pub fn add(&mut self, event: &TlsEvent, day: Date) -> TallyRoom {
        let room = self.whole.add(event, day);
        // A domain for which there was no room has no row.
        if self.whole.day(day).is_some_and(|day| day.domains().contains_key(&event.recipient)) {
            self.unwritten.insert(DomainDay { day, domain: event.recipient.clone() });
        }
        room
    }

    /// Takes a row of the store. A row that danelaw did not write is left out.
    pub fn restore(&mut self, row: &TallyRow) {
        if let Some(policies) = counts_of(&row.counts) {
            self.whole.restore(&row.of, &policies);
        }
    }

    /// Takes a row of a database. A row that danelaw did not write is left out.
    pub fn restore_added(&mut self, row: &AddedResult) {
        if let Some(policies) = counts_of(&row.counted) {
            let repeated = |(policy, counts): (ReportedPolicy, ResultCounts)| (policy, counts.repeated(row.times));
            self.whole.restore(&row.of, &policies.into_iter().map(repeated).collect());
        }
    }

    /// Results that are to be added, within these limits. They count as added.
    pub fn take_added(&mut self, most: UnwrittenLimits) -> Vec<AddedResult> {
        let (mut rows, mut octets) = (Vec::new(), 0);
        while rows.len() < most.rows
            && octets < most.octets
            && let Some(of) = self.unwritten.pop_first()
        {
            let Some(policies) = self.whole.day(of.day).and_then(|day| day.domains().get(&of.domain)) else { continue };
            let before = self.added.insert(of.clone(), policies.clone()).unwrap_or_default();
            for (policy, counts) in policies {
                let before = before.get(policy).cloned().unwrap_or_default();
                for (result, times) in counts.since(&before) {
                    let once = TalliedDomain::from([(policy.clone(), ResultCounts::once(&result))]);
                    if let Some(counted) = counts_text(&once) {
                        octets += counted.len();
                        rows.push(AddedResult { of: of.clone(), counted, times });
                    }
                }
            }
        }
        rows
    }

    /// Rows that are to be written, within these limits.
    pub fn take_unwritten(&mut self, most: UnwrittenLimits) -> Vec<TallyRow> {
        let (mut rows, mut octets) = (Vec::new(), 0);
        while rows.len() < most.rows
            && octets < most.octets
            && let Some(of) = self.unwritten.pop_first()
        {
            let policies = self.whole.day(of.day).and_then(|day| day.domains().get(&of.domain));
            if let Some(counts) = policies.and_then(counts_text) {
                octets += counts.len();
                rows.push(TallyRow { of, counts });
            }
        }
        rows
    }

    /// These could not be written.
    pub fn put_back(&mut self, rows: Vec<TallyRow>) {
        self.unwritten.extend(rows.into_iter().map(|row| row.of));
    }

    /// Forgets the days before this one.
    pub fn forget_before(&mut self, day: Date) {
        self.whole.forget_before(day);
        self.unwritten.retain(|of| of.day >= day);
        self.added.retain(|of, _| of.day >= day);
    }

    /// The counts.
    pub fn tally(&self) -> &TlsTally {
        &self.whole
    }
}

/// The counts of a domain as the store has them.
pub fn counts_text(policies: &TalliedDomain) -> Option<String> {
    let failure = |(failure, times): (&ReportedFailure, &u64)| KeptFailureJson {
        kind: failure.kind.to_string(),
        reason: failure.reason.clone(),
        host: failure.host.as_ref().map(Name::to_string),
        receiving: failure.receiving,
        sending: failure.sending,
        times: *times,
    };
    let policy = |(policy, counts): (&ReportedPolicy, &ResultCounts)| KeptPolicyJson {
        kind: policy.kind.as_str().to_owned(),
        domain: policy.domain.to_string(),
        strings: policy.strings.to_vec(),
        mx: policy.mx.to_vec(),
        success: counts.success,
        failures: counts.failures.iter().map(failure).collect(),
    };
    serde_json::to_string(&policies.iter().map(policy).collect::<Vec<_>>()).ok()
}

/// The inverse of [`counts_text`].
pub fn counts_of(counts: &str) -> Option<TalliedDomain> {
    let failure = |json: KeptFailureJson| {
        let host = json.host.map(|host| Name::parse(&host)).transpose().ok()?;
        let kind = ResultType::of_word(&json.kind)?;
        let KeptFailureJson { reason, receiving, sending, times, .. } = json;
        Some((ReportedFailure { kind, reason, host, receiving, sending }, times))
    };
    let policy = |json: KeptPolicyJson| {
        let KeptPolicyJson { kind, domain, strings, mx, success, failures } = json;
        let (kind, domain) = (PolicyKind::of_word(&kind)?, Name::parse(&domain).ok()?);
        let policy = ReportedPolicy { kind, domain, strings: strings.into(), mx: mx.into() };
        Some((policy, ResultCounts { success, failures: failures.into_iter().map(failure).collect::<Option<_>>()? }))
    };
    serde_json::from_str::<Vec<KeptPolicyJson>>(counts).ok()?.into_iter().map(policy).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::event::TlsResult;
    use super::super::event::tests::name;
    use super::super::tally::tests::{DAY, event, failure};
    use super::*;

    const ALL: UnwrittenLimits = UnwrittenLimits { rows: usize::MAX, octets: usize::MAX };

    #[test]
    fn a_write_is_bounded_and_takes_one_row_at_least() {
        let mut kept = KeptTally::default();
        for number in 0..5 {
            kept.add(&event(&format!("d{number}.example"), "mx.example", TlsResult::Success), DAY);
        }
        let row = kept.take_unwritten(UnwrittenLimits { rows: 9, octets: 1 });
        assert_eq!(row.len(), 1);
        let most = UnwrittenLimits { rows: 9, octets: row[0].counts.len() + 1 };
        assert_eq!((kept.take_unwritten(most).len(), kept.take_unwritten(ALL).len()), (2, 2));
    }

    #[test]
    fn the_store_has_all_that_was_counted() {
        let mut kept = KeptTally::default();
        let mut stored = std::collections::BTreeMap::new();
        for number in 0..50_u8 {
            let result = match number % 3 {
                0 => TlsResult::Success,
                _ => failure(ResultType::ValidationFailure, number),
            };
            let mut event = event(&format!("d{}.example", number % 7), "mx.example", result);
            event.policy.strings = Arc::new([format!("3 1 1 {number}")]);
            kept.add(&event, DAY);
            if number % 9 == 0 {
                let rows = kept.take_unwritten(UnwrittenLimits { rows: 3, ..ALL });
                assert!(rows.len() <= 3);
                match number % 2 {
                    // The store is down.
                    0 => kept.put_back(rows),
                    _ => stored.extend(rows.into_iter().map(|row| (row.of.clone(), row))),
                }
            }
        }
        stored.extend(kept.take_unwritten(ALL).into_iter().map(|row| (row.of.clone(), row)));
        let mut again = KeptTally::default();
        stored.values().for_each(|row| again.restore(row));
        assert_eq!(again.tally(), kept.tally());
        assert!(again.take_unwritten(ALL).is_empty());
    }

    #[test]
    fn the_parts_of_several_danelaws_add_up_to_all_that_was_counted() {
        let mut danelaws = [KeptTally::default(), KeptTally::default()];
        let (mut all, mut stored) = (TlsTally::default(), BTreeMap::new());
        for number in 0..60_u8 {
            let result = match number % 3 {
                0 => TlsResult::Success,
                _ => failure(ResultType::ValidationFailure, number % 5),
            };
            let event = event(&format!("d{}.example", number % 4), "mx.example", result);
            all.add(&event, DAY);
            let danelaw = &mut danelaws[usize::from(number % 2)];
            danelaw.add(&event, DAY);
            if number % 7 == 0 {
                for AddedResult { of, counted, times } in danelaw.take_added(UnwrittenLimits { rows: 2, ..ALL }) {
                    *stored.entry((of, counted)).or_insert(0) += times;
                }
            }
        }
        for danelaw in &mut danelaws {
            for AddedResult { of, counted, times } in danelaw.take_added(ALL) {
                *stored.entry((of, counted)).or_insert(0) += times;
            }
            assert!(danelaw.take_added(ALL).is_empty());
        }
        let mut again = KeptTally::default();
        for ((of, counted), times) in stored {
            again.restore_added(&AddedResult { of, counted, times });
        }
        assert_eq!(*again.tally(), all);
    }

    #[test]
    fn a_row_of_a_forgotten_day_is_not_written() {
        let mut kept = KeptTally::default();
        kept.add(&event("example", "mx.example", TlsResult::Success), DAY);
        kept.forget_before(DAY.next_day().unwrap());
        assert!(kept.tally().is_empty() && kept.take_unwritten(ALL).is_empty());
        kept.restore(&TallyRow { of: DomainDay { day: DAY, domain: name("example") }, counts: "no JSON".to_owned() });
        assert!(kept.tally().is_empty());
    }
}
