//! The counts of the days that are not reported yet, and which of them are still to be written to the store.
//!
//! A file has one row for each domain and day. One process has the file, so a row is written whole, and a write that has
//! failed is done again without counting anything twice. In a database several processes add to one row for each result, so
//! the part is written that has come since the last write. There a long text of a policy has a row of its own, which the rows
//! of its results name: a stranger's text is not repeated with each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::Date;

use super::event::{ReportedFailure, ReportedPolicy, TlsEvent};
use super::tally::{DomainDay, ResultCounts, TalliedDomain, TallyRoom, TlsTally};
use crate::hex::Hex;
use crate::name::Name;

/// The counts, and the rows that the store does not have yet. There are no more of those than the tally has domains.
#[derive(Debug, Default)]
pub struct KeptTally {
    whole: TlsTally,
    unwritten: BTreeSet<DomainDay>,
    /// The counts of which the part to be added was taken.
    added: BTreeMap<DomainDay, TalliedDomain>,
}

/// The octets of a policy's text above which a database has it in a row of its own.
const MAX_INLINE: usize = 256;

/// A result of one domain on one day that came so often, as a database adds it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedResult {
    /// The domain and the day.
    pub of: DomainDay,
    /// The policy and the result, once, as JSON; or the text of a policy alone.
    pub counted: String,
    /// How often it came; 0 for a text.
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
    /// The name of the strings and names, which another row has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
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

    /// Takes the rows of a database. A row that danelaw did not write is left out.
    pub fn restore_added(&mut self, rows: &[AddedResult]) {
        let mut texts = BTreeMap::new();
        for row in rows.iter().filter(|row| row.times == 0) {
            for KeptPolicyJson { text, strings, mx, .. } in policies_of(&row.counted).into_iter().flatten() {
                texts.insert((&row.of, text), (strings, mx));
            }
        }
        for row in rows.iter().filter(|row| row.times > 0) {
            let Some(mut policies) = policies_of(&row.counted) else { continue };
            for policy in policies.iter_mut().filter(|policy| policy.text.is_some()) {
                // A text for which there was no room is left out.
                let text = texts.get(&(&row.of, policy.text.clone())).cloned().unwrap_or_default();
                (policy.strings, policy.mx) = text;
            }
            let policies: Option<TalliedDomain> = policies.into_iter().map(KeptPolicyJson::policy).collect();
            let repeated = |(policy, counts): (ReportedPolicy, ResultCounts)| (policy, counts.repeated(row.times));
            let policies = policies.unwrap_or_default().into_iter().map(repeated);
            self.whole.restore(&row.of, &policies.collect());
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
                let added = added_rows(&of, policy, [before.get(policy), Some(counts)]);
                octets += added.iter().map(|row| row.counted.len()).sum::<usize>();
                rows.extend(added);
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

/// The results under one policy that have come between two states of its counts. A long text comes first, once.
fn added_rows(of: &DomainDay, policy: &ReportedPolicy, [before, now]: [Option<&ResultCounts>; 2]) -> Vec<AddedResult> {
    let texts = || policy.strings.iter().chain(policy.mx.iter());
    let name = (texts().map(String::len).sum::<usize>() > MAX_INLINE).then(|| {
        let texts = serde_json::to_vec(&texts().collect::<Vec<_>>()).unwrap_or_default();
        Hex(&Sha256::digest(texts)).to_string()
    });
    let row = |json: KeptPolicyJson, times| {
        Some(AddedResult { of: of.clone(), counted: serde_json::to_string(&[json]).ok()?, times })
    };
    let mut rows = Vec::new();
    if name.is_some() && before.is_none() {
        rows.extend(row(KeptPolicyJson { text: name.clone(), ..policy_json(policy, &ResultCounts::default()) }, 0));
    }
    let nothing = ResultCounts::default();
    for (result, times) in now.unwrap_or(&nothing).since(before.unwrap_or(&nothing)) {
        let mut json = policy_json(policy, &ResultCounts::once(&result));
        if name.is_some() {
            json = KeptPolicyJson { text: name.clone(), strings: Vec::new(), mx: Vec::new(), ..json };
        }
        rows.extend(row(json, times));
    }
    rows
}

/// The counts of a domain as the store has them.
pub fn counts_text(policies: &TalliedDomain) -> Option<String> {
    let policies: Vec<_> = policies.iter().map(|(policy, counts)| policy_json(policy, counts)).collect();
    serde_json::to_string(&policies).ok()
}

/// The inverse of [`counts_text`].
pub fn counts_of(counts: &str) -> Option<TalliedDomain> {
    policies_of(counts)?.into_iter().map(KeptPolicyJson::policy).collect()
}

fn policies_of(counts: &str) -> Option<Vec<KeptPolicyJson>> {
    serde_json::from_str(counts).ok()
}

fn policy_json(policy: &ReportedPolicy, counts: &ResultCounts) -> KeptPolicyJson {
    let failure = |(failure, times): (&ReportedFailure, &u64)| KeptFailureJson {
        kind: failure.kind.to_string(),
        reason: failure.reason.clone(),
        host: failure.host.as_ref().map(Name::to_string),
        receiving: failure.receiving,
        sending: failure.sending,
        times: *times,
    };
    KeptPolicyJson {
        kind: policy.kind.as_str().to_owned(),
        domain: policy.domain.to_string(),
        text: None,
        strings: policy.strings.to_vec(),
        mx: policy.mx.to_vec(),
        success: counts.success,
        failures: counts.failures.iter().map(failure).collect(),
    }
}

impl KeptPolicyJson {
    /// The inverse of [`policy_json`].
    fn policy(self) -> Option<(ReportedPolicy, ResultCounts)> {
        let Self { kind, domain, strings, mx, success, failures, .. } = self;
        let failure = |json: KeptFailureJson| {
            let host = json.host.map(|host| Name::parse(&host)).transpose().ok()?;
            let kind = json.kind.parse().ok()?;
            let KeptFailureJson { reason, receiving, sending, times, .. } = json;
            Some((ReportedFailure { kind, reason, host, receiving, sending }, times))
        };
        let (kind, domain) = (kind.parse().ok()?, Name::parse(&domain).ok()?);
        let policy = ReportedPolicy { kind, domain, strings: strings.into(), mx: mx.into() };
        Some((policy, ResultCounts { success, failures: failures.into_iter().map(failure).collect::<Option<_>>()? }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::event::TlsResult;
    use super::super::event::tests::name;
    use super::super::tally::tests::{DAY, event, failure};
    use super::*;
    use crate::refusal::ResultType;

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
        let rows: Vec<_> =
            stored.into_iter().map(|((of, counted), times)| AddedResult { of, counted, times }).collect();
        again.restore_added(&rows);
        assert_eq!(*again.tally(), all);
    }

    #[test]
    fn a_long_text_of_a_policy_is_written_once_and_its_results_name_it() {
        let mut kept = KeptTally::default();
        let (mut all, mut rows) = (TlsTally::default(), Vec::new());
        for number in 0..60_u8 {
            let result = if number % 5 == 0 { TlsResult::Success } else { failure(ResultType::TlsaInvalid, number) };
            let mut event = event("example", "mx.example", result);
            event.policy.strings = Arc::new([format!("{} {}", number % 2, "x".repeat(5000))]);
            event.policy.mx = Arc::new(["*.example".to_owned()]);
            all.add(&event, DAY);
            kept.add(&event, DAY);
            if number % 20 == 19 {
                rows.extend(kept.take_added(ALL));
            }
        }
        assert_eq!(rows.iter().filter(|row| row.counted.len() > 5000).count(), 2);
        assert!(rows.iter().all(|row| (row.counted.len() > 5000) == (row.times == 0) && row.counted.len() < 6000));
        let mut again = KeptTally::default();
        again.restore_added(&rows);
        assert_eq!(*again.tally(), all);
        // If the store had no room for the texts, the totals are true all the same.
        rows.retain(|row| row.times > 0);
        let mut again = KeptTally::default();
        again.restore_added(&rows);
        let policies = &again.tally().day(DAY).unwrap().domains()[&name("example")];
        let counts: Vec<_> =
            policies.iter().map(|(policy, counts)| (policy.strings.len(), counts.success, counts.failed())).collect();
        assert_eq!(counts, [(0, 12, 48)]);
    }

    #[test]
    fn a_row_of_a_forgotten_day_is_not_written() {
        let mut kept = KeptTally::default();
        kept.add(&event("example", "mx.example", TlsResult::Success), DAY);
        kept.forget_before(DAY.next_day().unwrap());
        assert!(kept.tally().days().next().is_none() && kept.take_unwritten(ALL).is_empty());
        kept.restore(&TallyRow { of: DomainDay { day: DAY, domain: name("example") }, counts: "no JSON".to_owned() });
        assert!(kept.tally().days().next().is_none());
    }
}
