//! The policies that were fetched, each for as long as it holds (RFC 8461 §3.3, §5.1, §10.2).
//!
//! Only a policy that was fetched begins to hold anew; a TXT record never prolongs one (RFC 8461 §5.1). Time is taken from two
//! clocks, which the caller reads: the wall clock may be set, and the steady one stands still while a machine is off. The age of
//! a policy is the longer of the two times since it was fetched, so a clock that is set back gives no policy a longer life. One
//! that is set ahead takes none away: a policy that has expired stays for a while, and holds again once the clock is right.
//!
//! | kept policy | it leaves |
//! |---|---|
//! | mode `enforce`, in force, used within 30 days | never to make room for another |
//! | any other | to make room: expired ones first, then mode `none`, `testing`, and at last `enforce` |
//! | expired for 30 days by the steady clock | at once |
//! | mode `none`, and the domain has no TXT record | at once |

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{StsId, StsMode, StsPolicy};
use crate::name::Name;

/// How many octets of policies are kept.
const MAX_OCTETS: usize = 64 * 1024 * 1024;
/// How long an expired policy stays.
const EXPIRED_STAYS: Duration = Duration::from_secs(30 * DAY_SECONDS);
/// A policy of mode `enforce` that is in force and was used within this time never makes room for another, in seconds.
const IN_USE: i64 = 30 * DAY_SECONDS as i64;
/// A policy without use for so long is not fetched anew, in seconds.
const FORGOTTEN: i64 = 180 * DAY_SECONDS as i64;
/// How long fetches fail before that is told, and how often it is told then, in seconds.
const TOLD_EVERY: i64 = DAY_SECONDS as i64;
/// For how long it is told that a policy has lapsed, in seconds.
const LAPSE_TOLD: i64 = 30 * DAY_SECONDS as i64;
/// How exact the time of the last use is kept, in seconds, so that not each mail is a write.
const USE_GRAIN: i64 = DAY_SECONDS as i64;
/// A try to fetch anew that failed is repeated after this part of the usual time.
const RETRY_PART: u32 = 24;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The time by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StsClock {
    /// The steady clock.
    pub steady: Instant,
    /// The wall clock, in seconds since 1970.
    pub wall: i64,
}

/// A policy that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPolicy {
    /// The id in the TXT record then.
    pub id: StsId,
    /// The policy.
    pub policy: Arc<StsPolicy>,
    /// When it was fetched, in seconds since 1970.
    pub fetched: i64,
}

/// A kept policy, as it is in the store too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPolicy {
    /// The policy.
    pub fetched: FetchedPolicy,
    /// When it was last used, in seconds since 1970, to the day.
    pub used: i64,
    /// Since when it cannot be fetched anew, in seconds since 1970.
    pub failing_since: Option<i64>,
}

/// A kept policy with the times that a restart forgets.
#[derive(Debug)]
struct StsEntry {
    kept: KeptPolicy,
    /// When it came into this memory.
    steady: Instant,
    /// When it is to be fetched anew.
    due: Instant,
    /// Since when it has been found expired.
    expired: Option<Instant>,
    /// When it was last told that it cannot be fetched anew.
    told: Option<i64>,
    /// When it was last told that it has lapsed.
    lapse_told: Option<i64>,
}

/// Whether a policy was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// It is; these domains' policies made room for it.
    Kept(Vec<Name>),
    /// All that is kept is worth more. The policy holds for the mail at hand, and the one of the domain that was kept stays.
    NoRoom,
    /// Its `max_age` is zero, so it holds for the mail at hand.
    TooShort,
}

/// The state of a failure to fetch a kept policy anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailingSince {
    /// It begins now. Nothing is to be told.
    Begins,
    /// Nothing is to be told: it began less than a day ago, was told within a day, or the mode is `none` (RFC 8461 §3.3).
    Quiet,
    /// It is to be told that it fails since this time, in seconds since 1970.
    Tell(i64),
}

/// A policy of mode `enforce` that has expired, while the domain has published no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapse {
    /// Its id.
    pub id: StsId,
    /// When it expired, in seconds since 1970.
    pub since: i64,
    /// Since when it could not be fetched anew, in seconds since 1970.
    pub failing_since: Option<i64>,
}

/// All kept policies.
#[derive(Debug)]
pub struct StsCache {
    entries: HashMap<Name, StsEntry>,
    octets: usize,
    most: usize,
    refresh: Duration,
}

impl StsCache {
    /// An empty cache for so many policies, each of which is fetched anew after `refresh`.
    pub fn new(most: usize, refresh: Duration) -> Self {
        Self { entries: HashMap::new(), octets: 0, most, refresh }
    }

    /// Changes the bounds. Policies above a smaller bound stay until they expire.
    pub fn set_bounds(&mut self, most: usize, refresh: Duration) {
        (self.most, self.refresh) = (most, refresh);
    }

    /// Takes up a policy of the store.
    pub fn load(&mut self, domain: Name, kept: KeptPolicy, now: StsClock) {
        let age = Duration::from_secs(u64::try_from(now.wall.saturating_sub(kept.fetched.fetched)).unwrap_or(0));
        let due = now.steady + self.spread(&domain, &kept.fetched).saturating_sub(age);
        self.insert(domain, StsEntry { kept, steady: now.steady, due, expired: None, told: None, lapse_told: None });
    }

    /// Takes up a policy of a store that may have more of them than there is room for.
    pub fn load_within(&mut self, domain: &Name, kept: KeptPolicy, now: StsClock) -> Keeping {
        let Some(evicted) = self.make_room(domain, weight(domain, &kept.fetched), now) else { return Keeping::NoRoom };
        self.load(domain.clone(), kept, now);
        Keeping::Kept(evicted)
    }

    /// Notes that another danelaw's mail has used the policy, at this time.
    pub fn learn_use(&mut self, domain: &Name, used: i64) {
        if let Some(entry) = self.entries.get_mut(domain) {
            entry.kept.used = entry.kept.used.max(used);
        }
    }

    /// The policy of a domain, if it is in force.
    pub fn in_force(&self, domain: &Name, now: StsClock) -> Option<&FetchedPolicy> {
        let entry = self.entries.get(domain)?;
        entry.is_in_force(now).then_some(&entry.kept.fetched)
    }

    /// How old a kept policy is.
    pub fn age(&self, domain: &Name, now: StsClock) -> Option<Duration> {
        self.entries.get(domain).map(|entry| entry.age(now))
    }

    /// Notes that a mail uses the policy. True if the store does not know of such a recent use.
    pub fn touch(&mut self, domain: &Name, now: StsClock) -> bool {
        let Some(entry) = self.entries.get_mut(domain) else { return false };
        let is_news = now.wall.saturating_sub(entry.kept.used).abs() >= USE_GRAIN;
        if is_news {
            entry.kept.used = now.wall;
        }
        is_news
    }

    /// Keeps a policy that was just fetched, in the place of the one before. A fetch is no use: mail uses a policy.
    pub fn put(&mut self, domain: &Name, fetched: FetchedPolicy, now: StsClock) -> Keeping {
        if fetched.policy.max_age().is_zero() {
            self.remove(domain);
            return Keeping::TooShort;
        }
        let octets = weight(domain, &fetched);
        // Without the one before, the domain would have no policy while its policy host fails.
        let Some(evicted) = self.make_room(domain, octets, now) else { return Keeping::NoRoom };
        let due = now.steady + self.spread(domain, &fetched);
        let used = self.entries.get(domain).map_or(now.wall, |entry| entry.kept.used);
        let kept = KeptPolicy { fetched, used, failing_since: None };
        let entry = StsEntry { kept, steady: now.steady, due, expired: None, told: None, lapse_told: None };
        self.insert(domain.clone(), entry);
        Keeping::Kept(evicted)
    }

    /// Notes that the policy could not be fetched anew. None if there is none to fetch.
    pub fn failed(&mut self, domain: &Name, now: StsClock) -> Option<FailingSince> {
        let retry = self.refresh / RETRY_PART;
        let entry = self.entries.get_mut(domain)?;
        entry.due = now.steady + retry;
        // A time that has not come yet is that of a clock which was ahead.
        let has_come = |time: &i64| *time <= now.wall;
        let Some(since) = entry.kept.failing_since.filter(has_come) else {
            entry.kept.failing_since = Some(now.wall);
            return Some(FailingSince::Begins);
        };
        let is_silent = entry.kept.fetched.policy.mode() == StsMode::None;
        let was_told = entry.told.filter(has_come).is_some_and(|told| now.wall.saturating_sub(told) < TOLD_EVERY);
        if is_silent || was_told || now.wall.saturating_sub(since) < TOLD_EVERY {
            return Some(FailingSince::Quiet);
        }
        entry.told = Some(now.wall);
        Some(FailingSince::Tell(since))
    }

    /// The policy of a domain that gets mail now, if its mode was `enforce`, it has expired within 30 days, and another has not
    /// taken its place. It is told once a day. A domain that withdraws MTA-STS publishes the mode `none` first (RFC 8461 §8.3).
    pub fn lapsed(&mut self, domain: &Name, now: StsClock) -> Option<Lapse> {
        let entry = self.entries.get_mut(domain)?;
        let max_age = i64::try_from(entry.kept.fetched.policy.max_age().as_secs()).unwrap_or(i64::MAX);
        let since = entry.kept.fetched.fetched.saturating_add(max_age);
        let was_told = entry.lapse_told.is_some_and(|told| now.wall.saturating_sub(told).abs() < TOLD_EVERY);
        let is_over = now.wall.saturating_sub(since) > LAPSE_TOLD;
        if entry.mode() != StsMode::Enforce || entry.is_in_force(now) || was_told || is_over {
            return None;
        }
        entry.lapse_told = Some(now.wall);
        Some(Lapse { id: entry.kept.fetched.id.clone(), since, failing_since: entry.kept.failing_since })
    }

    /// Drops a policy, if there is one.
    pub fn remove(&mut self, domain: &Name) {
        if let Some(entry) = self.entries.remove(domain) {
            self.octets = self.octets.saturating_sub(weight(domain, &entry.kept.fetched));
        }
    }

    /// The policy of a domain as the store is to have it.
    pub fn kept(&self, domain: &Name) -> Option<&KeptPolicy> {
        self.entries.get(domain).map(|entry| &entry.kept)
    }

    /// The domains whose policies are to be fetched anew. Each is given once, and again after a while without a result.
    pub fn due(&mut self, now: StsClock) -> Vec<Name> {
        let retry = self.refresh / RETRY_PART;
        let is_due = |entry: &StsEntry| entry.due <= now.steady && now.wall.saturating_sub(entry.kept.used) < FORGOTTEN;
        let due = self.entries.iter_mut().filter(|(_, entry)| is_due(entry));
        due.map(|(domain, entry)| {
            entry.due = now.steady + retry;
            domain.clone()
        })
        .collect()
    }

    /// Drops the policies that have been expired for long, and returns their domains.
    pub fn sweep(&mut self, now: StsClock) -> Vec<Name> {
        for entry in self.entries.values_mut() {
            let since = entry.expired.unwrap_or(now.steady);
            entry.expired = if entry.is_in_force(now) { None } else { Some(since) };
        }
        let is_over = |entry: &StsEntry| {
            entry.expired.is_some_and(|since| now.steady.saturating_duration_since(since) > EXPIRED_STAYS)
        };
        let over: Vec<_> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(domain, _)| domain.clone()).collect();
        for domain in &over {
            self.remove(domain);
        }
        over
    }

    /// Corrects the dates of policies that were fetched at a time that has not come yet: the wall clock was ahead then. Returns
    /// their domains, each with the policy as it was. To be called once the clock has been steady for a while.
    pub fn correct_dates(&mut self, now: StsClock) -> Vec<(Name, FetchedPolicy)> {
        let refresh = self.refresh;
        let is_ahead = |entry: &StsEntry| {
            entry.kept.fetched.fetched > now.wall && now.steady.saturating_duration_since(entry.steady) >= refresh
        };
        let ahead = self.entries.iter_mut().filter(|(_, entry)| is_ahead(entry));
        ahead
            .map(|(domain, entry)| {
                let before = entry.kept.fetched.clone();
                entry.kept.fetched.fetched = now.wall;
                entry.kept.used = entry.kept.used.min(now.wall);
                (domain.clone(), before)
            })
            .collect()
    }

    /// How many policies in force have each mode, in the order of their strength.
    pub fn counts(&self, now: StsClock) -> [(StsMode, usize); 3] {
        let in_force = || self.entries.values().filter(|entry| entry.is_in_force(now));
        let of = |mode| (mode, in_force().filter(|entry| entry.mode() == mode).count());
        [StsMode::Enforce, StsMode::Testing, StsMode::None].map(of)
    }

    /// How many policies of mode `enforce` or `testing` cannot be fetched anew for a day or more.
    pub fn failing(&self, now: StsClock) -> usize {
        let is_long = |since: i64| now.wall.saturating_sub(since) >= TOLD_EVERY;
        let fails = |entry: &&StsEntry| entry.mode() != StsMode::None && entry.kept.failing_since.is_some_and(is_long);
        self.entries.values().filter(fails).count()
    }

    /// The time until a policy is fetched anew: up to a tenth more or less than usual, so that policies that came together are
    /// not fetched together for ever (RFC 8461 §10.2).
    fn spread(&self, domain: &Name, fetched: &FetchedPolicy) -> Duration {
        let mut hasher = DefaultHasher::new();
        (domain, fetched.fetched).hash(&mut hasher);
        let thousandths = u32::try_from(hasher.finish() % 201).unwrap_or(100) + 900;
        self.refresh * thousandths / 1000
    }

    fn insert(&mut self, domain: Name, entry: StsEntry) {
        self.remove(&domain);
        self.octets += weight(&domain, &entry.kept.fetched);
        self.entries.insert(domain, entry);
    }

    /// Drops policies until one of so many octets fits, and returns their domains; none if those that may go are not enough. A
    /// policy in the place of another needs no further place, even above a bound that was made smaller.
    fn make_room(&mut self, domain: &Name, octets: usize, now: StsClock) -> Option<Vec<Name>> {
        let own = self.entries.get(domain).map_or(0, |entry| weight(domain, &entry.kept.fetched));
        let is_new = own == 0;
        let most = self.most;
        let fits = |entries: usize, total: usize| (!is_new || entries <= most) && total <= MAX_OCTETS;
        let mut entries = self.entries.len() + usize::from(is_new);
        let mut total = self.octets + octets - own;
        if fits(entries, total) || octets <= own {
            return Some(Vec::new());
        }
        let others = self.entries.iter().filter(|(other, _)| *other != domain);
        let mut ranked: Vec<_> =
            others.filter_map(|(other, entry)| Some((entry.worth(now)?, entry.kept.used, other))).collect();
        ranked.sort_unstable();
        let mut gone = Vec::new();
        for (_, _, other) in ranked {
            if fits(entries, total) {
                break;
            }
            entries -= 1;
            total = total.saturating_sub(self.entries.get(other).map_or(0, |entry| weight(other, &entry.kept.fetched)));
            gone.push(other.clone());
        }
        if !fits(entries, total) {
            return None;
        }
        for other in &gone {
            self.remove(other);
        }
        Some(gone)
    }
}

impl StsEntry {
    fn mode(&self) -> StsMode {
        self.kept.fetched.policy.mode()
    }

    /// The longer of the times since it was fetched by both clocks. A date that has not come yet counts as the time at which it
    /// came into this memory.
    fn age(&self, now: StsClock) -> Duration {
        let wall = u64::try_from(now.wall.saturating_sub(self.kept.fetched.fetched)).unwrap_or(0);
        Duration::from_secs(wall).max(now.steady.saturating_duration_since(self.steady))
    }

    fn is_in_force(&self, now: StsClock) -> bool {
        self.age(now) < self.kept.fetched.policy.max_age()
    }

    /// Its rank among those that may make room, the least first; none for one that may not.
    fn worth(&self, now: StsClock) -> Option<u8> {
        let is_in_use = now.wall.saturating_sub(self.kept.used) < IN_USE;
        match self.mode() {
            _ if !self.is_in_force(now) => Some(0),
            StsMode::None => Some(1),
            StsMode::Testing => Some(2),
            StsMode::Enforce if !is_in_use => Some(3),
            StsMode::Enforce => None,
        }
    }
}

/// The octets that a policy counts for.
fn weight(domain: &Name, fetched: &FetchedPolicy) -> usize {
    domain.as_str().len() + fetched.id.as_str().len() + fetched.policy.body().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = DAY_SECONDS;
    /// 2026-01-01.
    const EPOCH: i64 = 1_767_225_600;

    /// A clock that a test sets.
    #[derive(Clone, Copy)]
    struct TestClock {
        now: StsClock,
    }

    impl TestClock {
        fn new() -> Self {
            Self { now: StsClock { steady: Instant::now(), wall: EPOCH } }
        }

        /// Time passes by both clocks.
        fn pass(&mut self, seconds: u64) {
            self.now.steady += Duration::from_secs(seconds);
            self.set(i64::try_from(seconds).unwrap());
        }

        /// The wall clock alone is set.
        fn set(&mut self, seconds: i64) {
            self.now.wall += seconds;
        }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn fetched(mode: &str, max_age: u64, clock: TestClock) -> FetchedPolicy {
        let text = format!("version: STSv1\nmode: {mode}\nmx: mx.example\nmax_age: {max_age}\n");
        let policy = Arc::new(StsPolicy::parse(text.as_bytes()).unwrap());
        FetchedPolicy { id: StsId::parse(b"a").unwrap(), policy, fetched: clock.now.wall }
    }

    fn cache() -> StsCache {
        StsCache::new(3, Duration::from_secs(DAY))
    }

    /// A cache with one policy that was just fetched.
    fn with(mode: &str, max_age: u64, clock: TestClock) -> StsCache {
        let mut cache = cache();
        assert_eq!(cache.put(&name("a.example"), fetched(mode, max_age, clock), clock.now), Keeping::Kept(vec![]));
        cache
    }

    fn is_in_force(cache: &StsCache, clock: TestClock) -> bool {
        cache.in_force(&name("a.example"), clock.now).is_some()
    }

    #[test]
    fn p1_a_policy_holds_for_max_age_from_the_moment_it_was_fetched() {
        // P1, P9, P18.
        let mut clock = TestClock::new();
        let mut cache = with("enforce", 100, clock);
        clock.pass(99);
        assert!(is_in_force(&cache, clock));
        // Its use does not prolong it.
        cache.touch(&name("a.example"), clock.now);
        clock.pass(1);
        assert!(!is_in_force(&cache, clock));
        // A year at most, whatever the text says.
        let mut cache = with("enforce", 9_999_999_999, clock);
        clock.pass(31_557_599);
        assert!(is_in_force(&cache, clock));
        clock.pass(1);
        assert!(!is_in_force(&cache, clock));
        // Zero holds for the mail at hand, and ends what was kept.
        cache.put(&name("a.example"), fetched("enforce", 100, clock), clock.now);
        assert_eq!(cache.put(&name("a.example"), fetched("enforce", 0, clock), clock.now), Keeping::TooShort);
        assert!(!is_in_force(&cache, clock));
    }

    #[test]
    fn u17_a_policy_that_has_lapsed_is_told_once_a_day_for_30_days() {
        // U17.
        let domain = name("a.example");
        let mut clock = TestClock::new();
        let mut lapsed = with("enforce", 2 * DAY, clock);
        let ends = clock.now.wall + 2 * 86_400;
        clock.pass(2 * DAY - 1);
        assert_eq!(lapsed.lapsed(&domain, clock.now), None);
        clock.pass(1);
        let lapse = lapsed.lapsed(&domain, clock.now).unwrap();
        assert_eq!((lapse.id.as_str(), lapse.since, lapse.failing_since), ("a", ends, None));
        assert_eq!(lapsed.lapsed(&domain, clock.now), None);
        clock.pass(DAY - 1);
        assert_eq!(lapsed.lapsed(&domain, clock.now), None);
        clock.pass(1);
        assert!(lapsed.lapsed(&domain, clock.now).is_some());
        clock.pass(29 * DAY);
        assert!(lapsed.lapsed(&domain, clock.now).is_some());
        clock.pass(DAY + 1);
        assert_eq!(lapsed.lapsed(&domain, clock.now), None);
        // A domain without a policy, and one that went on to another mode.
        assert_eq!(lapsed.lapsed(&name("b.example"), clock.now), None);
        for mode in ["testing", "none"] {
            let mut clock = TestClock::new();
            let mut cache = with("enforce", DAY, clock);
            cache.put(&domain, fetched(mode, DAY, clock), clock.now);
            clock.pass(2 * DAY);
            assert_eq!(cache.lapsed(&domain, clock.now), None);
        }
    }

    #[test]
    fn p18_a_wall_clock_that_is_set_takes_no_policy_away_and_gives_none_a_longer_life() {
        // P18.
        let (week, years) = (7 * DAY, 2 * 365 * 86_400);
        let mut clock = TestClock::new();
        let mut cache = with("enforce", week, clock);
        clock.set(years);
        assert!(!is_in_force(&cache, clock));
        assert!(cache.sweep(clock.now).is_empty(), "an expired policy stays");
        clock.pass(60);
        clock.set(-years);
        assert!(is_in_force(&cache, clock), "the clock is right again");
        // Set back, the wall clock gives no longer life: the steady one counts.
        clock.set(-years);
        assert!(is_in_force(&cache, clock));
        clock.pass(week - 61);
        assert!(is_in_force(&cache, clock));
        clock.pass(1);
        assert!(!is_in_force(&cache, clock));
    }

    #[test]
    fn p18_a_date_that_has_not_come_yet_counts_as_now() {
        // P18: a policy that a clock twenty years ahead has dated.
        let mut clock = TestClock::new();
        let ahead = TestClock { now: StsClock { wall: clock.now.wall + 20 * 365 * 86_400, ..clock.now } };
        let kept =
            KeptPolicy { fetched: fetched("enforce", 10 * DAY, ahead), used: ahead.now.wall, failing_since: None };
        let mut cache = cache();
        cache.load(name("a.example"), kept.clone(), clock.now);
        assert!(is_in_force(&cache, clock));
        assert!(cache.correct_dates(clock.now).is_empty(), "a clock that has just started may be wrong itself");
        clock.pass(DAY);
        assert_eq!(cache.correct_dates(clock.now), [(name("a.example"), kept.fetched)]);
        assert_eq!(cache.kept(&name("a.example")).unwrap().fetched.fetched, clock.now.wall);
        clock.pass(10 * DAY - DAY);
        assert!(!is_in_force(&cache, clock), "ten days since it came into this memory");
    }

    #[test]
    fn p18_an_expired_policy_stays_for_30_days() {
        // P18.
        let mut clock = TestClock::new();
        let mut cache = with("enforce", DAY, clock);
        clock.pass(DAY);
        assert!(cache.sweep(clock.now).is_empty());
        clock.pass(30 * DAY);
        assert!(cache.sweep(clock.now).is_empty());
        clock.pass(1);
        assert_eq!(cache.sweep(clock.now), [name("a.example")]);
        assert!(cache.kept(&name("a.example")).is_none());
    }

    #[test]
    fn p10_policies_are_fetched_anew_daily_while_they_are_used() {
        // P10.
        let mut clock = TestClock::new();
        let mut cache = with("enforce", 400 * DAY, clock);
        let due = |cache: &mut StsCache, clock: TestClock| !cache.due(clock.now).is_empty();
        clock.pass(DAY * 9 / 10 - 1);
        assert!(!due(&mut cache, clock));
        clock.pass(DAY / 5 + 1);
        assert!(due(&mut cache, clock));
        assert!(!due(&mut cache, clock), "once");
        // A failure is tried again sooner.
        cache.failed(&name("a.example"), clock.now);
        clock.pass(DAY / 24 - 1);
        assert!(!due(&mut cache, clock));
        clock.pass(1);
        assert!(due(&mut cache, clock));
        // Without use for 180 days it is left to expire.
        clock.pass(180 * DAY);
        assert!(!due(&mut cache, clock));
        assert!(cache.touch(&name("a.example"), clock.now));
        assert!(due(&mut cache, clock));
        // After a restart the rest of the day counts.
        let kept = cache.kept(&name("a.example")).unwrap().clone();
        let mut again = self::cache();
        let wall = kept.fetched.fetched + 86_400 * 8 / 10;
        let mut clock = TestClock { now: StsClock { wall, ..clock.now } };
        again.load(name("a.example"), KeptPolicy { used: clock.now.wall, ..kept }, clock.now);
        clock.pass(DAY / 10 - 1);
        assert!(!due(&mut again, clock));
        clock.pass(DAY / 5 + 1);
        assert!(due(&mut again, clock));
    }

    #[test]
    fn p10_policies_that_came_together_are_not_fetched_together() {
        // P10: a tenth more or less than a day.
        let mut clock = TestClock::new();
        let mut cache = StsCache::new(1000, Duration::from_secs(DAY));
        for index in 0..1000 {
            cache.put(&name(&format!("d{index}.example")), fetched("enforce", 30 * DAY, clock), clock.now);
        }
        clock.pass(DAY * 9 / 10 - 1);
        assert!(cache.due(clock.now).is_empty());
        let tenths: Vec<_> = (0..10)
            .map(|_| {
                clock.pass(DAY / 50 + 1);
                let due = cache.due(clock.now);
                due.iter().for_each(|domain| cache.remove(domain));
                due.len()
            })
            .collect();
        assert!(tenths.iter().all(|due| (50..150).contains(due)), "{tenths:?}");
        assert_eq!(tenths.iter().sum::<usize>(), 1000);
    }

    #[test]
    fn p10_a_failure_is_told_once_a_day_after_a_day() {
        // P10.
        let mut clock = TestClock::new();
        let mut cache = with("testing", 300 * DAY, clock);
        let (mut began, mut told) = (clock.now.wall, 0);
        for hour in 0..73 {
            if hour > 0 {
                clock.pass(3600);
            } else {
                began = clock.now.wall;
            }
            match cache.failed(&name("a.example"), clock.now) {
                Some(FailingSince::Tell(since)) => {
                    assert_eq!(since, began);
                    told += 1;
                }
                Some(FailingSince::Begins) => assert_eq!(hour, 0),
                Some(FailingSince::Quiet) => {}
                None => panic!("there is a policy"),
            }
        }
        assert_eq!((told, cache.failing(clock.now)), (3, 1));
        cache.put(&name("a.example"), fetched("testing", DAY, clock), clock.now);
        assert_eq!(cache.failing(clock.now), 0);
        // RFC 8461 §3.3: of mode none nothing is told.
        let mut cache = with("none", 300 * DAY, clock);
        for day in 0..5 {
            let expected = if day == 0 { FailingSince::Begins } else { FailingSince::Quiet };
            assert_eq!(cache.failed(&name("a.example"), clock.now), Some(expected));
            clock.pass(DAY);
        }
        assert_eq!((cache.failing(clock.now), cache.failed(&name("b.example"), clock.now)), (0, None));
    }

    #[test]
    fn p18_room_is_made_by_the_least_worth_and_never_by_a_policy_that_is_enforced() {
        // P18.
        let mut clock = TestClock::new();
        let mut cache = cache();
        let put = |cache: &mut StsCache, domain: &str, mode: &str, clock: TestClock| {
            cache.put(&name(domain), fetched(mode, 400 * DAY, clock), clock.now)
        };
        let kept = |evicted: &[&str]| Keeping::Kept(evicted.iter().map(|text| name(text)).collect());
        cache.put(&name("expires.example"), fetched("enforce", 1, clock), clock.now);
        clock.pass(1);
        assert_eq!(put(&mut cache, "none.example", "none", clock), kept(&[]));
        assert_eq!(put(&mut cache, "testing.example", "testing", clock), kept(&[]));
        assert_eq!(put(&mut cache, "b.example", "enforce", clock), kept(&["expires.example"]));
        assert_eq!(put(&mut cache, "b.example", "enforce", clock), kept(&[]), "its own place is free");
        assert_eq!(put(&mut cache, "c.example", "enforce", clock), kept(&["none.example"]));
        assert_eq!(put(&mut cache, "d.example", "enforce", clock), kept(&["testing.example"]));
        for (domain, mode) in [("e.example", "enforce"), ("f.example", "testing"), ("g.example", "none")] {
            assert_eq!(put(&mut cache, domain, mode, clock), Keeping::NoRoom, "{domain}");
            assert!(cache.kept(&name(domain)).is_none());
        }
        assert_eq!(cache.counts(clock.now).map(|(_, count)| count), [3, 0, 0]);
        // One that was not used for 30 days may go.
        clock.pass(30 * DAY);
        cache.touch(&name("b.example"), clock.now);
        cache.touch(&name("d.example"), clock.now);
        assert_eq!(put(&mut cache, "e.example", "enforce", clock), kept(&["c.example"]));
    }

    #[test]
    fn p18_the_text_of_all_policies_is_bounded() {
        // P18.
        let clock = TestClock::new();
        let mut cache = StsCache::new(10_000, Duration::from_secs(DAY));
        let padding = format!("note: {}\n", "x".repeat(64_000));
        let text = format!("version: STSv1\nmode: testing\nmx: mx.example\nmax_age: 86400\n{padding}");
        let policy = Arc::new(StsPolicy::parse(text.as_bytes()).unwrap());
        for index in 0..1100 {
            let fetched = FetchedPolicy { policy: Arc::clone(&policy), ..fetched("none", 1, clock) };
            let keeping = cache.put(&name(&format!("d{index}.example")), fetched, clock.now);
            assert!(matches!(keeping, Keeping::Kept(_)), "{index}");
            assert!(cache.octets <= MAX_OCTETS);
        }
        assert!(cache.entries.len() < 1050, "{}", cache.entries.len());
        for domain in cache.entries.keys().cloned().collect::<Vec<_>>() {
            cache.remove(&domain);
        }
        assert_eq!(cache.octets, 0);
    }

    #[test]
    fn p18_a_policy_stays_where_a_newer_one_finds_no_room() {
        // P18: a daily fetch never leaves a domain without its policy.
        let clock = TestClock::new();
        let fetched_with = |octets: usize| {
            let padding = format!("note: {}\n", "x".repeat(octets));
            let text = format!("version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 86400\n{padding}");
            FetchedPolicy { policy: Arc::new(StsPolicy::parse(text.as_bytes()).unwrap()), ..fetched("none", 1, clock) }
        };
        // By octets: all that is kept is enforced and in use.
        let mut cache = StsCache::new(10_000, Duration::from_secs(DAY));
        let (mut domains, mut index) = (Vec::new(), 0);
        loop {
            let domain = name(&format!("d{index}.example"));
            match cache.put(&domain, fetched_with(64_000), clock.now) {
                Keeping::Kept(_) => domains.push(domain),
                Keeping::NoRoom | Keeping::TooShort => break,
            }
            index += 1;
        }
        let first = &domains[0];
        assert_eq!(cache.put(first, fetched_with(130_000), clock.now), Keeping::NoRoom);
        assert_eq!(cache.in_force(first, clock.now), Some(&fetched_with(64_000)));
        assert_eq!(cache.put(first, fetched_with(63_000), clock.now), Keeping::Kept(vec![]));
        assert_eq!(cache.in_force(first, clock.now), Some(&fetched_with(63_000)));
        // By their number, which an operator has made smaller.
        let mut cache = self::cache();
        for domain in ["a.example", "b.example", "c.example"] {
            cache.put(&name(domain), fetched("enforce", DAY, clock), clock.now);
        }
        cache.set_bounds(1, Duration::from_secs(DAY));
        let longer = FetchedPolicy { id: StsId::parse(b"newer").unwrap(), ..fetched_with(100) };
        assert_eq!(cache.put(&name("b.example"), longer.clone(), clock.now), Keeping::Kept(vec![]));
        assert_eq!(cache.in_force(&name("b.example"), clock.now), Some(&longer));
        assert_eq!(cache.counts(clock.now).map(|(_, count)| count), [3, 0, 0]);
    }

    #[test]
    fn p18_policies_of_a_database_take_no_more_than_the_room() {
        // P18, V29: those worth most stay, in any order.
        let clock = TestClock::new();
        let mut cache = cache();
        let kept =
            |mode: &str| KeptPolicy { fetched: fetched(mode, DAY, clock), used: clock.now.wall, failing_since: None };
        for (domain, mode, expected) in [
            ("a.example", "none", Keeping::Kept(vec![])),
            ("b.example", "enforce", Keeping::Kept(vec![])),
            ("c.example", "testing", Keeping::Kept(vec![])),
            ("d.example", "enforce", Keeping::Kept(vec![name("a.example")])),
            // One in the place of another needs no further place.
            ("c.example", "enforce", Keeping::Kept(vec![])),
            ("e.example", "enforce", Keeping::NoRoom),
        ] {
            assert_eq!(cache.load_within(&name(domain), kept(mode), clock.now), expected, "{domain}");
        }
        assert_eq!(cache.counts(clock.now).map(|(_, count)| count), [3, 0, 0]);
    }

    #[test]
    fn a_use_at_another_danelaw_keeps_a_policy_here() {
        let mut clock = TestClock::new();
        let mut cache = with("enforce", 400 * DAY, clock);
        clock.pass(31 * DAY);
        assert!(cache.entries[&name("a.example")].worth(clock.now).is_some());
        cache.learn_use(&name("a.example"), clock.now.wall - 10);
        assert!(cache.entries[&name("a.example")].worth(clock.now).is_none());
        // An earlier use is no news.
        cache.learn_use(&name("a.example"), clock.now.wall - 40 * DAY as i64);
        assert!(cache.entries[&name("a.example")].worth(clock.now).is_none());
    }

    #[test]
    fn p18_a_fetch_is_no_use_of_a_policy() {
        // P10, P18: a domain without mail is left after 180 days, and its policy may make room after 30.
        let mut clock = TestClock::new();
        let mut cache = with("enforce", 400 * DAY, clock);
        let mut fetches = 0;
        for day in 0..200 {
            clock.pass(DAY * 11 / 10);
            for domain in cache.due(clock.now) {
                assert_eq!(cache.put(&domain, fetched("enforce", 400 * DAY, clock), clock.now), Keeping::Kept(vec![]));
                fetches += 1;
            }
            let worth = cache.entries[&name("a.example")].worth(clock.now);
            assert_eq!(worth.is_none(), (day + 1) * 11 < 300, "{day}");
        }
        assert_eq!(fetches, 163);
    }

    #[test]
    fn a_use_is_news_once_a_day() {
        let mut clock = TestClock::new();
        let mut cache = with("enforce", 400 * DAY, clock);
        assert!(!cache.touch(&name("a.example"), clock.now));
        clock.pass(DAY);
        assert!(cache.touch(&name("a.example"), clock.now));
        assert!(!cache.touch(&name("a.example"), clock.now));
        assert!(!cache.touch(&name("b.example"), clock.now));
    }
}
