//! How often each result came about, by day, domain, policy and failure.
//!
//! Strangers choose the domains, hosts and records, so that each level is bounded (RFC 8460 §7). A result for which there is
//! no room is counted with less detail, and the totals stay true.

use std::collections::BTreeMap;

use time::Date;

use super::event::{PolicyKind, ReportedFailure, ReportedPolicy, TlsEvent, TlsResult};
use crate::name::Name;
use crate::refusal::ResultType;

/// The most domains of a day.
pub const MAX_DOMAINS: usize = 20_000;
/// The most policies of a domain.
pub const MAX_POLICIES: usize = 32;
/// The most failures of a policy with their hosts and addresses.
pub const MAX_FAILURES: usize = 128;
/// The most octets of a day, about: four days are in memory.
const MAX_OCTETS: usize = 16 << 20;
/// The most octets of a day for the domains below one registered domain, about: a stranger's texts leave room for others.
const MAX_OWNER_OCTETS: usize = MAX_OCTETS / 32;
/// The octets of a domain, a policy or a failure beside its text, about.
const ROW: usize = 128;
/// The most failures of a policy in all. Reasons are words of this program, and there are fewer than this.
const MAX_REASONS: usize = 2 * MAX_FAILURES;

/// Counts of results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsTally {
    days: BTreeMap<Date, TalliedDay>,
}

/// The counts of one UTC day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TalliedDay {
    domains: BTreeMap<Name, TalliedDomain>,
    /// The counts of domains for which there was no room. They are in no report.
    unnamed: ResultCounts,
    /// About how much memory the rows take.
    octets: usize,
    /// The same of the domains below each registered domain.
    owners: BTreeMap<Name, usize>,
}

/// One domain on one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainDay {
    /// The UTC day.
    pub day: Date,
    /// The domain.
    pub domain: Name,
}

/// The counts of one recipient domain on one day, by policy.
pub type TalliedDomain = BTreeMap<ReportedPolicy, ResultCounts>;

/// How often sessions under one policy went well, and how often they failed in which way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultCounts {
    /// Sessions that met the policy.
    pub success: u64,
    /// Failures.
    pub failures: BTreeMap<ReportedFailure, u64>,
}

/// Whether there was room for all that an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TallyRoom {
    /// There was.
    Whole,
    /// A part of it is left out.
    Cut,
}

/// An event that came so often on one day.
#[derive(Debug, Clone, Copy)]
struct Repeated<'a> {
    result: &'a TlsResult,
    times: u64,
}

impl TlsTally {
    /// Counts an event on the UTC day on which it ended.
    pub fn add(&mut self, event: &TlsEvent, day: Date) -> TallyRoom {
        let Self { days } = self;
        let counted = Repeated { result: &event.result, times: 1 };
        days.entry(day).or_default().add(&event.recipient, &event.policy, counted)
    }

    /// Adds the counts of one domain on one day.
    pub fn restore(&mut self, of: &DomainDay, policies: &TalliedDomain) -> TallyRoom {
        let into = self.days.entry(of.day).or_default();
        let mut room = TallyRoom::Whole;
        for (policy, counts) in policies {
            for (result, times) in counts.each() {
                room = room.max(into.add(&of.domain, policy, Repeated { result: &result, times }));
            }
        }
        room
    }

    /// Forgets the days before this one.
    pub fn forget_before(&mut self, day: Date) {
        self.days = self.days.split_off(&day);
    }

    /// A day, if anything was counted on it.
    pub fn day(&self, day: Date) -> Option<&TalliedDay> {
        self.days.get(&day)
    }

    /// The days on which something was counted.
    pub fn days(&self) -> impl Iterator<Item = Date> {
        self.days.keys().copied()
    }
}

impl TalliedDay {
    /// The domains with a name, in order.
    pub fn domains(&self) -> &BTreeMap<Name, TalliedDomain> {
        &self.domains
    }

    /// The counts of domains for which there was no room.
    pub fn unnamed(&self) -> &ResultCounts {
        &self.unnamed
    }

    /// The policies with this TLSA base domain, each summed over the recipients but those left out. No recipient is named:
    /// whose mail goes to a provider is not told to it by another party. So the host of a failure is the base domain: the exchange
    /// may be an alias in the recipient's own zone.
    pub fn of_base_domain(&self, base_domain: &Name, leaves_out: impl Fn(&Name) -> bool) -> TalliedDomain {
        let mut summed = TalliedDomain::new();
        let policies =
            self.domains.iter().flat_map(|(recipient, policies)| policies.iter().map(move |of| (recipient, of)));
        for (recipient, (policy, counts)) in policies.filter(|(_, (policy, _))| policy.kind == PolicyKind::Tlsa) {
            if policy.domain == *base_domain && !leaves_out(recipient) {
                summed.entry(policy.clone()).or_default().merge(&counts.at_host(base_domain));
            }
        }
        summed
    }

    fn add(&mut self, recipient: &Name, policy: &ReportedPolicy, counted: Repeated<'_>) -> TallyRoom {
        let (before, owner) = (self.octets, recipient.registered());
        let owned = self.owners.get(&owner).copied().unwrap_or_default();
        let is_full = before >= MAX_OCTETS || owned >= MAX_OWNER_OCTETS;
        if (is_full || self.domains.len() >= MAX_DOMAINS) && !self.domains.contains_key(recipient) {
            // Its failures keep the result type alone.
            self.unnamed.count_briefly(counted);
            return TallyRoom::Cut;
        }
        let Self { domains, octets, .. } = self;
        let policies = domains.entry(recipient.clone()).or_insert_with(|| {
            *octets += ROW + recipient.as_str().len();
            TalliedDomain::new()
        });
        let has_room = policies.contains_key(policy) || (policies.len() < MAX_POLICIES && !is_full);
        // There are three kinds of policies, so this adds three rows at most.
        let counted_as = if has_room { policy.clone() } else { ReportedPolicy::plain(policy.kind, recipient) };
        let counts = policies.entry(counted_as).or_insert_with_key(|policy| {
            *octets += policy_octets(policy);
            ResultCounts::default()
        });
        let failures = counts.failures.len();
        let room = if is_full { counts.count_known(counted) } else { counts.count(counted) };
        *octets += (counts.failures.len() - failures) * 2 * ROW;
        let grown = *octets - before;
        if grown > 0 {
            *self.owners.entry(owner).or_default() += grown;
        }
        if has_room { room } else { TallyRoom::Cut }
    }
}

impl ResultCounts {
    /// The failures together.
    pub fn failed(&self) -> u64 {
        self.failures.values().fold(0, |sum, times| sum.saturating_add(*times))
    }

    /// Adds the counts of another policy.
    pub fn merge(&mut self, other: &Self) {
        for (result, times) in other.each() {
            self.count(Repeated { result: &result, times });
        }
    }

    /// The same, as if each failure with a host were one of this host.
    fn at_host(&self, of: &Name) -> Self {
        let mut named = Self { success: self.success, failures: BTreeMap::new() };
        for (failure, times) in &self.failures {
            let host = failure.host.as_ref().map(|_| of.clone());
            named.increase(ReportedFailure { host, ..failure.clone() }, *times);
        }
        named
    }

    /// One result, once.
    pub fn once(result: &TlsResult) -> Self {
        let mut counts = Self::default();
        counts.count(Repeated { result, times: 1 });
        counts
    }

    /// The same, each so often.
    pub fn repeated(&self, times: u64) -> Self {
        let failures = self.failures.iter().map(|(failure, count)| (failure.clone(), count.saturating_mul(times)));
        Self { success: self.success.saturating_mul(times), failures: failures.collect() }
    }

    /// The results that came since an earlier state of these counts.
    pub fn since(&self, before: &Self) -> Vec<(TlsResult, u64)> {
        let of_before = |result: &TlsResult| match result {
            TlsResult::Success => before.success,
            TlsResult::Failure(failure) => before.failures.get(failure).copied().unwrap_or_default(),
        };
        let grown = self.each().map(|(result, times)| {
            let times = times.saturating_sub(of_before(&result));
            (result, times)
        });
        grown.filter(|(_, times)| *times > 0).collect()
    }

    fn each(&self) -> impl Iterator<Item = (TlsResult, u64)> + '_ {
        let success = (self.success > 0).then_some((TlsResult::Success, self.success));
        let failures = self.failures.iter().map(|(failure, times)| (TlsResult::Failure(failure.clone()), *times));
        success.into_iter().chain(failures)
    }

    fn count(&mut self, Repeated { result, times }: Repeated<'_>) -> TallyRoom {
        let failure = match result {
            TlsResult::Success => {
                self.success = self.success.saturating_add(times);
                return TallyRoom::Whole;
            }
            TlsResult::Failure(failure) => failure,
        };
        if self.failures.len() < MAX_FAILURES || self.failures.contains_key(failure) {
            self.increase(failure.clone(), times);
            return TallyRoom::Whole;
        }
        let anywhere = ReportedFailure { host: None, receiving: None, sending: None, ..failure.clone() };
        match self.failures.len() < MAX_REASONS || self.failures.contains_key(&anywhere) {
            true => self.increase(anywhere, times),
            false => self.count_briefly(Repeated { result, times }),
        }
        TallyRoom::Cut
    }

    /// Counts a failure of the kinds that were counted before, and others by result type alone.
    fn count_known(&mut self, counted: Repeated<'_>) -> TallyRoom {
        match counted.result {
            TlsResult::Failure(failure) if !self.failures.contains_key(failure) => {
                self.count_briefly(counted);
                TallyRoom::Cut
            }
            TlsResult::Failure(_) | TlsResult::Success => self.count(counted),
        }
    }

    /// Counts by result type alone.
    fn count_briefly(&mut self, Repeated { result, times }: Repeated<'_>) {
        match result {
            TlsResult::Success => self.success = self.success.saturating_add(times),
            TlsResult::Failure(failure) => self.increase(of_kind(failure.kind), times),
        }
    }

    fn increase(&mut self, failure: ReportedFailure, times: u64) {
        let count = self.failures.entry(failure).or_default();
        *count = count.saturating_add(times);
    }
}

/// About how much memory a policy takes.
fn policy_octets(policy: &ReportedPolicy) -> usize {
    let texts = policy.strings.iter().chain(policy.mx.iter());
    ROW + policy.domain.as_str().len() + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
}

fn of_kind(kind: ResultType) -> ReportedFailure {
    ReportedFailure { kind, reason: kind.to_string(), host: None, receiving: None, sending: None }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use strum::VariantArray as _;

    use super::super::document::policies_json;
    use super::super::event::tests::name;
    use super::*;

    pub(crate) const DAY: Date = Date::MIN;

    pub(crate) fn failure(kind: ResultType, number: u8) -> TlsResult {
        TlsResult::Failure(ReportedFailure {
            kind,
            reason: format!("reason-{}", number % 40),
            host: Some(name(&format!("mx{number}.example"))),
            receiving: Some([198, 51, 100, number].into()),
            sending: Some([192, 0, 2, 1].into()),
        })
    }

    pub(crate) fn event(recipient: &str, base: &str, result: TlsResult) -> TlsEvent {
        let policy = ReportedPolicy::plain(PolicyKind::Tlsa, &name(base));
        TlsEvent { recipient: name(recipient), policy, result }
    }

    fn totals(tally: &TlsTally) -> (u64, u64) {
        let days = tally.days.values();
        let counts = days.flat_map(|day| day.domains.values().flat_map(BTreeMap::values).chain([&day.unnamed]));
        counts.fold((0, 0), |(good, bad), counts| (good + counts.success, bad + counts.failed()))
    }

    #[test]
    fn memory_is_bounded_and_the_totals_are_true() {
        // T21, O18, A-112.
        let mut tally = TlsTally::default();
        let mut cut = 0;
        for number in 0..30_000_u32 {
            let result = match number % 2 {
                0 => TlsResult::Success,
                _ => failure(ResultType::ValidationFailure, u8::try_from(number % 200).unwrap()),
            };
            let room = tally.add(&event(&format!("d{number}.example"), "mx.example", result), DAY);
            cut += u32::from(room == TallyRoom::Cut);
        }
        assert_eq!((totals(&tally), cut), ((15_000, 15_000), 10_000));
        assert_eq!(tally.day(DAY).unwrap().domains().len(), MAX_DOMAINS);
        assert_eq!(tally.day(DAY).unwrap().unnamed().failures.len(), 1);
        // One domain with many policies, and one policy with many failures.
        let mut tally = TlsTally::default();
        for number in 0..1000_u32 {
            let base = format!("mx{number}.example");
            tally.add(&event("example", &base, failure(ResultType::TlsaInvalid, (number % 250) as u8)), DAY);
            for sending in 0..2 {
                let TlsResult::Failure(failure) = failure(ResultType::CertificateExpired, (number % 250) as u8) else {
                    panic!()
                };
                let sending = Some([192, 0, 2, sending].into());
                let failed = TlsResult::Failure(ReportedFailure { sending, ..failure });
                tally.add(&event("other.example", "mx.example", failed), DAY);
            }
        }
        assert_eq!(totals(&tally), (0, 3000));
        let day = tally.day(DAY).unwrap();
        assert!(day.domains()[&name("example")].len() <= MAX_POLICIES + 3);
        let rows: Vec<_> = day.domains()[&name("other.example")].values().collect();
        assert!(rows.len() == 1 && rows[0].failures.len() <= MAX_REASONS + ResultType::VARIANTS.len());
        // The reason is kept where the host is not.
        let anywhere = rows[0].failures.keys().filter(|failure| failure.host.is_none());
        assert!(anywhere.clone().count() > 0 && anywhere.clone().all(|row| row.reason.starts_with("reason-")));
    }

    #[test]
    fn long_policies_of_a_stranger_fill_no_memory() {
        // O18, A-112: each domain has policies of 4 kB.
        let mut tally = TlsTally::default();
        for number in 0..20_000_u32 {
            let TlsEvent { recipient, policy, result } =
                event(&format!("d{}.example", number / 20), &format!("mx{number}.example"), TlsResult::Success);
            let strings = vec!["x".repeat(4096)].into();
            tally.add(&TlsEvent { recipient, policy: ReportedPolicy { strings, ..policy }, result }, DAY);
        }
        let day = tally.day(DAY).unwrap();
        let held: usize = day.domains().values().flat_map(BTreeMap::keys).map(policy_octets).sum();
        assert!(held < MAX_OCTETS + 5000 && held > MAX_OCTETS / 2, "{held}");
        assert_eq!(totals(&tally), (20_000, 0));
    }

    #[test]
    fn the_domains_of_one_stranger_leave_room_for_others() {
        // O18, A-112: as many domains as there is room for, all below one, each with policies of 64 kB and many failures.
        let mut tally = TlsTally::default();
        for number in 0..5000_u32 {
            let result = failure(ResultType::CertificateExpired, u8::try_from(number % 200).unwrap());
            let recipient = format!("d{}.stranger.test", number / 10);
            let TlsEvent { recipient, policy, result } = event(&recipient, &format!("mx{number}.test"), result);
            let strings = vec!["x".repeat(64_000)].into();
            tally.add(&TlsEvent { recipient, policy: ReportedPolicy { strings, ..policy }, result }, DAY);
        }
        let of_strangers = tally.day(DAY).unwrap().octets;
        assert!(of_strangers < MAX_OWNER_OCTETS + 80_000, "{of_strangers}");
        assert_eq!(tally.add(&event("honest.test", "mx.honest.test", TlsResult::Success), DAY), TallyRoom::Whole);
        assert_eq!(totals(&tally), (1, 5000));
    }

    #[test]
    fn one_report_of_sums_for_a_provider() {
        let mut tally = TlsTally::default();
        for recipient in ["a.example", "b.example", "c.example"] {
            tally.add(&event(recipient, "mx.provider.example", TlsResult::Success), DAY);
        }
        tally.add(&event("a.example", "mx.other.example", TlsResult::Success), DAY);
        let summed = tally.day(DAY).unwrap().of_base_domain(&name("mx.provider.example"), |_| false);
        assert_eq!(summed.values().map(|counts| counts.success).collect::<Vec<_>>(), [3]);
    }

    proptest! {
        #[test]
        fn a_report_to_a_provider_names_no_recipient(
            sessions in proptest::collection::vec(("[a-z]{6,9}", 0_u8..40, any::<bool>()), 1..30),
        ) {
            // T32: each customer has an alias of its own for the provider's host.
            let mut tally = TlsTally::default();
            let mut sums = (0, 0);
            for (customer, number, is_met) in &sessions {
                let result = match (is_met, failure(ResultType::CertificateExpired, *number)) {
                    (false, TlsResult::Failure(failed)) => {
                        let host = Some(name(&format!("mail.{customer}.test")));
                        TlsResult::Failure(ReportedFailure { host, ..failed })
                    }
                    (true, _) | (_, TlsResult::Success) => TlsResult::Success,
                };
                sums = if *is_met { (sums.0 + 1, sums.1) } else { (sums.0, sums.1 + 1) };
                tally.add(&event(&format!("{customer}.test"), "mx.provider.example", result), DAY);
            }
            let summed = tally.day(DAY).unwrap().of_base_domain(&name("mx.provider.example"), |_| false);
            let counts = summed.values().next().unwrap();
            prop_assert_eq!((counts.success, counts.failed()), sums);
            let written = format!("{summed:?} {:?}", policies_json(&summed));
            prop_assert!(!written.contains(".test"), "{}", written);
            prop_assert!(counts.failures.keys().all(|failed| failed.host == Some(name("mx.provider.example"))));
        }
    }

    #[test]
    fn days_are_apart_and_old_ones_forgotten() {
        let mut tally = TlsTally::default();
        let tomorrow = DAY.next_day().unwrap();
        for day in [DAY, tomorrow, tomorrow] {
            tally.add(&event("example", "mx.example", TlsResult::Success), day);
        }
        assert_eq!(tally.days().collect::<Vec<_>>(), [DAY, tomorrow]);
        tally.forget_before(tomorrow);
        assert_eq!((tally.days().collect::<Vec<_>>(), totals(&tally)), (vec![tomorrow], (2, 0)));
    }
}
