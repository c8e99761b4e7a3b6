//! The memory of one host: since when a public CA has vouched for its name in each session, and the warning when that ends.
//!
//! The key is the name and port of an exchange, never the recipient's domain: one forged MX record would teach a domain a
//! certificate that its true hosts do not have. An entry has no addresses, no domains and no keys. Mail does not depend on it.
//!
//! | session | streak | settled before: warning |
//! |---|---|---|
//! | `valid` | goes on, or begins | |
//! | `expired`, up to 14 days after the end | ends | `expired`, with a place of its own each day |
//! | any other worth | ends | its word, once a day |
//! | no STARTTLS, in cleartext by a rule | ends | `starttls`, once a day |
//! | no STARTTLS, in cleartext by mode `observe` or by the mail itself | | `starttls`, once a day |
//! | no STARTTLS, no mail | ends | none: the mail is refused |
//! | `unknown-authority` by other authorities than before | ends | none |
//!
//! A streak is settled by its length, its days and its sessions. For as long as a new one needs to settle, one that has ended still
//! counts for warnings.

mod memory;
mod view;

use serde::{Deserialize, Serialize};

use crate::check::ends::DAY;
use crate::dane::pkix::PkixWorth;
use crate::policy::host_session::{LeafNote, SessionWord};

pub use memory::HostKey;
pub(crate) use memory::{FORGOTTEN, FloodState, HostMemory, LearnTime, Learnt};
pub(crate) use view::date;
pub use view::{RememberedHost, RememberedStreak};

/// The least length of a settled streak, in days.
const SETTLED_LENGTH: i64 = 30;
/// The least number of different days of a settled streak.
const SETTLED_DAYS: u32 = 10;
/// The least number of sessions of a settled streak.
const SETTLED_SESSIONS: u64 = 20;
/// How long an ended streak counts for warnings, in days.
const LOST_COUNTS: i64 = SETTLED_LENGTH;
/// A certificate that has expired so many seconds ago at most was probably forgotten.
const JUST_EXPIRED: i64 = 14 * DAY;
/// Sessions of so many days before may come late, since each danelaw tells its own.
const LATE: i64 = 1;

/// Sessions with one host on one day that had one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySessions {
    /// The Julian day.
    pub day: i64,
    /// The result.
    pub word: SessionWord,
    /// How many.
    pub sessions: u64,
    /// When the last one was, in seconds since 1970.
    pub last: i64,
    /// The certificate of the last one.
    pub leaf: Option<LeafNote>,
    /// The digest of the authorities of the last one.
    pub roots: u64,
}

/// The memory of one host. Days are Julian days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The first day.
    first: i64,
    /// The day of the last session.
    last: i64,
    /// The latest day that was counted. Days before it are never counted again.
    counted: i64,
    /// On how many days there were sessions.
    days: u32,
    /// The sessions.
    sessions: u64,
    /// The last result.
    word: SessionWord,
    /// The last certificate.
    leaf: Option<LeafNote>,
    /// The last certificate that was valid.
    valid: Option<LeafNote>,
    /// The last day without STARTTLS.
    without_starttls: Option<i64>,
    /// The present streak.
    streak: Option<ValidStreak>,
    /// The settled streak that has ended last.
    lost: Option<LostStreak>,
    /// The day of the last warning.
    told: Option<i64>,
    /// The day of the last warning of a certificate that had just expired.
    told_expired: Option<i64>,
    /// The digest of the authorities of the last session under TLS.
    roots: Option<u64>,
}

/// Days on which each session was `valid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ValidStreak {
    start: i64,
    /// The latest day that was counted.
    counted: i64,
    days: u32,
    sessions: u64,
}

/// A settled streak that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LostStreak {
    streak: ValidStreak,
    /// The day of its end.
    on: i64,
}

/// A settled host is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    /// What it is now.
    pub kind: HostChangeKind,
    /// The first day of the settled streak.
    pub since: i64,
    /// The days of the streak with sessions.
    pub days: u32,
    /// The sessions of the streak.
    pub sessions: u64,
    /// The last certificate that was valid.
    pub before: Option<LeafNote>,
    /// The certificate now.
    pub now: Option<LeafNote>,
}

/// The state of a host that was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostChangeKind {
    /// Its certificate has this worth, which is not [`PkixWorth::Valid`].
    Certificate(PkixWorth),
    /// It does not offer STARTTLS, and mail went in cleartext.
    StartTls,
}

impl HostChangeKind {
    /// The word in log lines and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate(worth) => worth.as_str(),
            Self::StartTls => "starttls",
        }
    }

    /// The change that a result is to a settled host; none for a valid certificate, and for mail that was refused.
    fn of(word: SessionWord) -> Option<Self> {
        match word {
            SessionWord::Tls(PkixWorth::Valid) | SessionWord::Refused => None,
            SessionWord::Tls(worth) => Some(Self::Certificate(worth)),
            SessionWord::Cleartext | SessionWord::Waived => Some(Self::StartTls),
        }
    }
}

impl DaySessions {
    /// Whether the certificate has expired a short time ago.
    fn has_just_expired(&self) -> bool {
        let ended_long_ago = self.leaf.as_ref().is_some_and(|leaf| self.last.saturating_sub(leaf.ends) > JUST_EXPIRED);
        self.word == SessionWord::Tls(PkixWorth::Expired) && !ended_long_ago
    }
}

impl HostEntry {
    /// The memory after these sessions; none, if they teach nothing.
    pub fn first(seen: &DaySessions) -> Option<Self> {
        let mut entry = Self {
            first: seen.day,
            last: seen.day,
            counted: i64::MIN,
            days: 0,
            sessions: 0,
            word: seen.word,
            leaf: None,
            valid: None,
            without_starttls: None,
            streak: None,
            lost: None,
            told: None,
            told_expired: None,
            roots: None,
        };
        entry.learn(seen);
        (entry.days > 0).then_some(entry)
    }

    /// Takes up sessions. Returns the change to warn of, if there is one.
    pub fn learn(&mut self, seen: &DaySessions) -> Option<HostChange> {
        let by_other_authorities = self.roots.is_some_and(|before| before != seen.roots)
            && seen.word == SessionWord::Tls(PkixWorth::UnknownAuthority);
        let change = if by_other_authorities { None } else { self.change(seen) };
        match seen.word {
            // Mode observe and mail with its own permit teach nothing.
            SessionWord::Waived => return change,
            SessionWord::Tls(PkixWorth::Valid) => self.go_on(seen),
            SessionWord::Tls(_) | SessionWord::Cleartext | SessionWord::Refused => self.end_streak(seen.day),
        }
        match seen.word {
            SessionWord::Tls(_) => self.roots = Some(seen.roots),
            SessionWord::Cleartext | SessionWord::Refused | SessionWord::Waived => {
                self.without_starttls = Some(seen.day);
            }
        }
        if by_other_authorities {
            self.lost = None;
        }
        self.count(seen);
        change
    }

    fn count(&mut self, seen: &DaySessions) {
        if seen.day > self.counted {
            (self.counted, self.days) = (seen.day, self.days.saturating_add(1));
        }
        self.sessions = self.sessions.saturating_add(seen.sessions);
        (self.last, self.word) = (seen.day, seen.word);
        self.leaf.clone_from(&seen.leaf);
    }

    fn go_on(&mut self, seen: &DaySessions) {
        let streak = self.streak.map_or_else(|| ValidStreak::of(seen), |streak| streak.with(seen));
        self.streak = Some(streak);
        self.valid.clone_from(&seen.leaf);
        if streak.is_settled() {
            self.lost = None;
        }
    }

    fn end_streak(&mut self, day: i64) {
        let ended = self.streak.take().filter(ValidStreak::is_settled);
        if let Some(streak) = ended {
            self.lost = Some(LostStreak { streak, on: day });
        }
    }

    /// The change to warn of. It counts as told.
    fn change(&mut self, seen: &DaySessions) -> Option<HostChange> {
        let (kind, was) = (HostChangeKind::of(seen.word)?, *self.expected(seen.day)?);
        let told = if seen.has_just_expired() { &mut self.told_expired } else { &mut self.told };
        // Sessions of the day before may come late.
        if told.is_some_and(|told| (told - LATE..=told).contains(&seen.day)) {
            return None;
        }
        *told = Some(seen.day);
        let ValidStreak { start, days, sessions, .. } = was;
        let (before, now) = (self.valid.clone(), seen.leaf.clone());
        Some(HostChange { kind, since: start, days, sessions, before, now })
    }

    /// The settled streak that sessions of this day are compared with.
    fn expected(&self, day: i64) -> Option<&ValidStreak> {
        let counts = |lost: &&LostStreak| day.saturating_sub(lost.on) <= LOST_COUNTS;
        let settled = self.streak.as_ref().filter(|streak| streak.is_settled());
        settled.or_else(|| self.lost.as_ref().filter(counts).map(|lost| &lost.streak))
    }

    /// The Julian day of the last session.
    pub(crate) fn last_seen(&self) -> i64 {
        self.last
    }

    /// Whether the host is settled.
    pub fn is_settled(&self) -> bool {
        self.streak.is_some_and(|streak| streak.is_settled())
    }
}

impl ValidStreak {
    fn of(seen: &DaySessions) -> Self {
        Self { start: seen.day, counted: seen.day, days: 1, sessions: seen.sessions }
    }

    fn with(self, seen: &DaySessions) -> Self {
        let sessions = self.sessions.saturating_add(seen.sessions);
        match seen.day {
            day if day > self.counted => Self { counted: day, days: self.days.saturating_add(1), sessions, ..self },
            day if day >= self.counted - LATE || self.is_settled() => Self { sessions, ..self },
            // The clock was ahead: days that it has skipped must not make a streak longer.
            _ => Self::of(seen),
        }
    }

    fn is_settled(&self) -> bool {
        self.counted.saturating_sub(self.start) >= SETTLED_LENGTH
            && self.days >= SETTLED_DAYS
            && self.sessions >= SETTLED_SESSIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: i64 = 24 * 60 * 60;

    fn seen(day: i64, word: SessionWord, sessions: u64) -> DaySessions {
        let leaf = LeafNote { issuer: format!("{} CA", word.as_str()), ends: (day + 60) * SECONDS };
        DaySessions { day, word, sessions, last: day * SECONDS, leaf: Some(leaf), roots: 1 }
    }

    fn tls(worth: PkixWorth) -> SessionWord {
        SessionWord::Tls(worth)
    }

    fn valid(day: i64, sessions: u64) -> DaySessions {
        seen(day, tls(PkixWorth::Valid), sessions)
    }

    /// An entry after valid sessions on these days, so many each day.
    fn after(days: impl IntoIterator<Item = i64>, sessions: u64) -> HostEntry {
        let mut days = days.into_iter();
        let mut entry = HostEntry::first(&valid(days.next().unwrap(), sessions)).unwrap();
        days.for_each(|day| assert_eq!(entry.learn(&valid(day, sessions)), None));
        entry
    }

    /// One that is settled since day 100, on day 140.
    fn settled() -> HostEntry {
        after((100..=140).step_by(2), 3)
    }

    #[test]
    fn u3_a_settled_streak_has_length_days_and_sessions() {
        // U3.
        for (days, sessions, is_settled) in [
            ((0..=30).step_by(1).collect::<Vec<_>>(), 1, true),
            ((0..=29).collect(), 1, false),
            ((0..=27).step_by(3).chain([30]).collect(), 2, true),
            ((0..=27).step_by(3).collect(), 100, false),
            ((0..=24).step_by(3).chain([30]).collect(), 2, true),
            ((0..=21).step_by(3).chain([30]).collect(), 100, false),
            ((0..=24).step_by(3).chain([30]).collect(), 1, false),
        ] {
            let entry = after(days.clone(), sessions);
            assert_eq!(entry.is_settled(), is_settled, "{days:?} {sessions}");
        }
    }

    #[test]
    fn u4_any_other_word_ends_the_streak() {
        // U4: a host with one bad address of several never settles.
        for word in [tls(PkixWorth::OtherName), SessionWord::Cleartext, SessionWord::Refused] {
            let mut entry = settled();
            entry.learn(&seen(141, word, 1));
            assert!(!entry.is_settled(), "{word:?}");
        }
        let mut mixed = after([0], 5);
        for day in 1..400 {
            assert_eq!(mixed.learn(&valid(day, 5)), None);
            assert_eq!(mixed.learn(&seen(day, tls(PkixWorth::SelfSigned), 1)), None);
            assert!(!mixed.is_settled());
        }
        assert_eq!((mixed.days, mixed.sessions), (400, 5 + 399 * 6));
    }

    #[test]
    fn u12_a_settled_host_that_changes_is_told_once_a_day() {
        // U12.
        let mut entry = settled();
        let bad = |day| seen(day, tls(PkixWorth::SelfSigned), 2);
        let change = entry.learn(&bad(141)).unwrap();
        assert_eq!(
            (change.kind, change.since, change.days, change.sessions),
            (HostChangeKind::Certificate(PkixWorth::SelfSigned), 100, 21, 63)
        );
        let issuers = [change.before, change.now].map(|leaf| leaf.unwrap().issuer);
        assert_eq!(issuers, ["valid CA", "self-signed CA"]);
        // Another kind on the same day is the same warning.
        assert_eq!(entry.learn(&bad(141)), None);
        assert_eq!(entry.learn(&seen(141, tls(PkixWorth::Invalid), 1)), None);
        // A day on which it is good does not hide the next one.
        entry.learn(&valid(142, 1));
        assert_eq!(entry.learn(&bad(143)).map(|change| change.since), Some(100));
        // Sessions that another danelaw tells late.
        assert_eq!(entry.learn(&bad(142)), None);
        assert!(entry.learn(&bad(171)).is_some());
        assert_eq!(entry.learn(&bad(172)), None);
        // A host that was never settled.
        assert_eq!(after(0..20, 9).learn(&bad(20)), None);
    }

    #[test]
    fn u13_an_expired_certificate_does_not_hide_another_change() {
        // U13.
        let expired = |days: i64| {
            let mut seen = seen(141, tls(PkixWorth::Expired), 1);
            seen.leaf = Some(LeafNote { issuer: "CA".to_owned(), ends: (141 - days) * SECONDS });
            seen
        };
        let kind = |change: Option<HostChange>| change.map(|change| change.kind);
        let other = seen(141, tls(PkixWorth::SelfSigned), 1);
        for (days, told) in [
            (1, Some(HostChangeKind::Certificate(PkixWorth::SelfSigned))),
            (14, Some(HostChangeKind::Certificate(PkixWorth::SelfSigned))),
            (15, None),
        ] {
            let mut entry = settled();
            assert_eq!(kind(entry.learn(&expired(days))), Some(HostChangeKind::Certificate(PkixWorth::Expired)));
            assert_eq!(entry.learn(&expired(days)), None);
            assert_eq!(kind(entry.learn(&other)), told, "{days}");
        }
    }

    #[test]
    fn u14_a_host_without_starttls_is_told_where_mail_goes_on() {
        // U14, U6: mode observe is told, and not learned.
        for (word, is_told, stays) in [
            (SessionWord::Cleartext, true, false),
            (SessionWord::Waived, true, true),
            (SessionWord::Refused, false, false),
        ] {
            let mut entry = settled();
            let change = entry.learn(&DaySessions { leaf: None, ..seen(141, word, 1) });
            assert_eq!(change.map(|change| change.kind.as_str()), is_told.then_some("starttls"), "{word:?}");
            assert_eq!((entry.is_settled(), entry.without_starttls.is_none()), (stays, stays), "{word:?}");
            assert_eq!(entry.days, if stays { 21 } else { 22 });
        }
        assert_eq!(HostEntry::first(&seen(1, SessionWord::Waived, 1)), None);
    }

    #[test]
    fn u8_a_clock_that_goes_back_settles_nothing_faster() {
        // U8.
        let mut entry = after([0, 1, 2], 9);
        // Ahead by 60 days, and right again: the streak begins anew.
        entry.learn(&valid(60, 9));
        entry.learn(&valid(3, 9));
        assert_eq!((entry.days, entry.last), (4, 3));
        (4..33).for_each(|day| drop(entry.learn(&valid(day, 9))));
        assert!(!entry.is_settled(), "{entry:?}");
        entry.learn(&valid(33, 9));
        assert!(entry.is_settled());
        assert_eq!((entry.days, entry.streak.unwrap().days), (4, 31));
        // Back and forth over one day: no day counts twice.
        let mut back = after((0..30).flat_map(|_| [7, 8]), 9);
        assert_eq!((back.days, back.is_settled()), (2, false));
        // A settled host stays, and its days are frozen.
        let mut kept = settled();
        assert_eq!(kept.learn(&valid(20, 1)), None);
        assert_eq!((kept.is_settled(), kept.days, kept.streak.unwrap().days), (true, 21, 21));
        // The warning of a day that has not come does not silence those before it.
        kept.told = Some(500);
        assert!(kept.learn(&seen(21, tls(PkixWorth::SelfSigned), 1)).is_some());
        assert_eq!(back.learn(&seen(6, tls(PkixWorth::SelfSigned), 1)), None);
    }

    #[test]
    fn u9_other_authorities_begin_anew_without_a_warning() {
        // U9.
        let by = |roots, day| DaySessions { roots, ..seen(day, tls(PkixWorth::UnknownAuthority), 1) };
        let mut entry = settled();
        for day in [141, 142, 171] {
            assert_eq!(entry.learn(&by(2, day)), None);
        }
        assert!(!entry.is_settled());
        // By the same authorities it is a change, and so is any other word by others.
        assert!(settled().learn(&by(1, 141)).is_some());
        let invalid = DaySessions { roots: 2, ..seen(141, tls(PkixWorth::Invalid), 1) };
        assert!(settled().learn(&invalid).is_some());
        // One that they know goes on, and is held to them from then on.
        let mut known = settled();
        known.learn(&DaySessions { roots: 2, ..valid(141, 1) });
        assert!(known.is_settled() && known.learn(&by(2, 142)).is_some());
    }

    #[test]
    fn u2_an_entry_has_no_addresses_domains_or_keys() {
        // U2.
        let mut entry = settled();
        entry.learn(&seen(141, tls(PkixWorth::SelfSigned), 1));
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            text,
            r#"{"first":100,"last":141,"counted":141,"days":22,"sessions":64,"word":"self-signed","leaf":{"issuer":"self-signed CA","ends":17366400},"valid":{"issuer":"valid CA","ends":17280000},"without_starttls":null,"streak":null,"lost":{"streak":{"start":100,"counted":140,"days":21,"sessions":63},"on":141},"told":141,"told_expired":null,"roots":1}"#
        );
        assert_eq!(serde_json::from_str::<HostEntry>(&text).unwrap(), entry);
        assert!(serde_json::from_str::<HostEntry>(&text.replace("self-signed\"", "other\"")).is_err());
    }
}
