//! The octets of a reply, read once, without the DNS library: which of its records are needed, and where they stand.
//!
//! A stranger writes these octets. The library decodes and clones each record of a message, the glue of a referral once
//! for each name server, which makes gigabytes of a reply of 64 kB. So this reader walks over the records by their
//! lengths, drops those that decide nothing, holds the rest against its bounds, and leaves the data of what remains
//! to the library. It reads the additional section for the OPT record alone (RFC 6891 §6.1.3).
//!
//! A reply of 65,535 octets has 5,956 records at the most, of 32 octets each here. The list of them has room for 8,192 and
//! takes 393,216 octets at most while it grows: a test computes that from the list's capacity. The library allocated 1.3
//! to 2.5 GB. Of the records, 1,024 at the most go on to the library.
//!
//! A list of types (RFC 4034 §4.1.2) is a map of bits, and the library makes an entry of a sorted set of each bit: 500,000 of a
//! reply of 64 kB. The bound on such lists is in octets.
//!
//! | kept | because |
//! |---|---|
//! | answers of the asked type, and CNAME, at the asked name; DNAME above it; RRSIG of these | they answer (RFC 6672 §3.2) |
//! | SOA, NSEC and NSEC3 of the authority section; RRSIG of these | they deny |
//! | one other record of a section that has no such record | the reply must not look empty: an empty reply is a denial (RFC 2308 §2.2), a referral is none |

use std::ops::Range;

use super::FailureReason;
use super::reply::Rtype;

/// The most records that answer. Honest zones have some hundred at the most.
const MAX_ANSWERS: usize = 512;
/// The most records in an authority section. An honest denial with 16 wildcards on the way needs some 100.
const MAX_AUTHORITIES: usize = 256;
/// The most signatures of answers. An honest answer has those of one set, and of a DNAME above it.
const MAX_ANSWER_SIGNATURES: usize = 256;
/// The most octets of one list of types. A list is made of windows, each of 34 octets at the most. The types that are assigned
/// are in four of them (0, 1, 128 and 255), most in the first, and an honest list has some ten octets.
const MAX_TYPES: usize = 256;
/// The most octets of the lists of types of a reply: those of an honest denial with 16 wildcards on the way have less than half.
const MAX_ALL_TYPES: usize = 2048;
/// Octets of the labels of the longest name, without the root's (RFC 1035 §2.3.4).
const MAX_LABEL_OCTETS: usize = 254;
/// The most compression pointers in one name: no name has more labels (RFC 1035 §4.1.4).
const MAX_POINTERS: usize = 127;
/// The class of the internet (RFC 1035 §3.2.4).
const IN: u16 = 1;
/// RRSIG (RFC 4034 §3).
const RRSIG: Rtype = Rtype(46);
/// CSYNC (RFC 7477 §2).
const CSYNC: Rtype = Rtype(62);
/// OPT (RFC 6891 §6.1.1).
const OPT: Rtype = Rtype(41);

/// The bits of the header (RFC 1035 §4.1.1, RFC 4035 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// TC.
    pub(super) fn truncated(self) -> bool {
        self.0 & 0x0200 != 0
    }

    /// RA.
    pub(super) fn recursion_available(self) -> bool {
        self.0 & 0x0080 != 0
    }

    /// AA.
    pub(super) fn authoritative(self) -> bool {
        self.0 & 0x0400 != 0
    }

    /// AD.
    pub(super) fn authentic_data(self) -> bool {
        self.0 & 0x0020 != 0
    }

    /// CD.
    pub(super) fn checking_disabled(self) -> bool {
        self.0 & 0x0010 != 0
    }
}

/// A reply of which only the needed records are left, not yet decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawReply {
    /// The bits of the header.
    pub(super) flags: Flags,
    /// The RCODE, with the upper bits of the OPT record (RFC 6891 §6.1.3).
    pub(super) rcode: u16,
    /// The records of the answer section.
    pub(super) answers: Vec<RawRecord>,
    /// The records of the authority section.
    pub(super) authorities: Vec<RawRecord>,
}

/// A whole reply, of which no record is dropped or decoded.
#[derive(Debug)]
pub(super) struct RawSections<'a> {
    asked: QuestionSection<'a>,
    /// The bits of the header.
    pub(super) flags: Flags,
    /// The RCODE, with the upper bits of the OPT record (RFC 6891 §6.1.3).
    pub(super) rcode: u16,
    /// The records of the answer section.
    pub(super) answers: Vec<RawRecord>,
    /// The records of the authority section.
    pub(super) authorities: Vec<RawRecord>,
    /// The records of the additional section.
    pub(super) additionals: Vec<RawRecord>,
}

/// A record, by the places of its parts in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRecord {
    /// The octet at which its owner begins.
    pub(super) owner: usize,
    /// Its type.
    pub(super) rtype: Rtype,
    /// Its TTL in seconds.
    pub(super) ttl: u32,
    /// Its RDATA.
    pub(super) rdata: Range<usize>,
    class: u16,
}

impl RawReply {
    /// Reads a whole reply. Its question is known to be the one that was asked. The owners of its records can be read.
    ///
    /// # Errors
    /// It is truncated, its parts do not fit, a record is of another class, or there are too many of them or of the types that
    /// they list.
    pub(super) fn read(octets: &[u8]) -> Result<Self, FailureReason> {
        let RawSections { asked, flags, rcode, answers, authorities, .. } = RawSections::read(octets)?;
        let authorities = match answers.is_empty() {
            true => lasting(octets, denials(octets, &authorities)?, &authorities)?,
            false => denials(octets, &authorities)?,
        };
        let answers = lasting(octets, asked.answers(octets, &answers)?, &answers)?;
        bounded_types(octets, answers.iter().chain(&authorities))?;
        Ok(Self { flags, rcode, answers, authorities })
    }
}

impl<'a> RawSections<'a> {
    /// Reads a whole reply. Its question is known to be the one that was asked.
    ///
    /// # Errors
    /// It is truncated, its parts do not fit, or a record of an answer or a denial is of another class.
    pub(super) fn read(octets: &'a [u8]) -> Result<Self, FailureReason> {
        let mut cursor = Cursor { octets, at: 2 };
        let flags = cursor.u16()?;
        // RFC 2181 §9: a truncated reply is no answer; above all it is not "no data".
        if Flags(flags).truncated() {
            return Err(FailureReason::malformed("truncated"));
        }
        let [questions, answers, authorities, additionals] =
            [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
        if questions != 1 {
            return Err(FailureReason::malformed("it has not one question"));
        }
        let asked = cursor.question()?;
        let answers = cursor.section(answers)?;
        let authorities = cursor.section(authorities)?;
        let additionals = cursor.section(additionals)?;
        if !answers.iter().chain(&authorities).all(RawRecord::is_of_internet) {
            return Err(FailureReason::malformed("records of another class"));
        }
        let extended = additionals.iter().find(|record| record.rtype == OPT).map_or(0, |opt| opt.ttl >> 24);
        let rcode = (flags & 0x000f) | u16::try_from(extended << 4).unwrap_or_default();
        Ok(Self { asked, flags: Flags(flags), rcode, answers, authorities, additionals })
    }
}

impl RawRecord {
    /// Whether it is of the class of the internet.
    pub(super) fn is_of_internet(&self) -> bool {
        self.class == IN
    }

    /// The octets of the list of types in its data. Of data that cannot be read no octet counts less.
    fn types(&self, octets: &[u8]) -> usize {
        let mut cursor = Cursor { octets: octets.get(..self.rdata.end).unwrap_or_default(), at: self.rdata.start };
        let before = match self.rtype {
            // RFC 4034 §4.1.
            Rtype::NSEC => cursor.name().map(drop),
            // RFC 5155 §3.2.
            Rtype::NSEC3 => cursor.take(4).and_then(|_| cursor.text()).and_then(|()| cursor.text()),
            CSYNC => cursor.take(6).map(drop),
            _ => return 0,
        };
        let begin = if before.is_ok() { cursor.at } else { self.rdata.start };
        self.rdata.end.saturating_sub(begin)
    }

    /// The type that a signature covers (RFC 4034 §3.1.1); that of any other record is its own.
    fn covers(&self, octets: &[u8]) -> Rtype {
        match octets.get(self.rdata.clone()) {
            Some([high, low, ..]) if self.rtype == RRSIG => Rtype(u16::from_be_bytes([*high, *low])),
            _ => self.rtype,
        }
    }
}

/// The question, with its labels as they stand in the message.
#[derive(Debug)]
struct QuestionSection<'a> {
    labels: Vec<&'a [u8]>,
    rtype: Rtype,
}

impl QuestionSection<'_> {
    /// The records that answer, within the bounds.
    fn answers(&self, octets: &[u8], all: &[RawRecord]) -> Result<Vec<RawRecord>, FailureReason> {
        let (mut records, mut signatures, mut kept) = (0, 0, Vec::new());
        for record in all {
            if !self.is_answered_by(octets, record)? {
                continue;
            }
            if record.rtype == RRSIG {
                signatures += 1;
            } else {
                records += 1;
            }
            if signatures > MAX_ANSWER_SIGNATURES {
                return Err(FailureReason::Bogus("more signatures than a zone needs".to_owned()));
            }
            if records > MAX_ANSWERS {
                return Err(FailureReason::TooManyRecords(MAX_ANSWERS));
            }
            kept.push(record.clone());
        }
        Ok(kept)
    }

    /// Whether a record is of the asked type or an alias at the asked name, or a DNAME above it, or signs one of these.
    fn is_answered_by(&self, octets: &[u8], record: &RawRecord) -> Result<bool, FailureReason> {
        let covers = record.covers(octets);
        if ![self.rtype, Rtype::CNAME, Rtype::DNAME].contains(&covers) {
            return Ok(false);
        }
        let owner = labels(octets, record.owner)?;
        // RFC 4343 §3: the case of letters does not matter.
        let same = |(ours, theirs): (&&[u8], &&[u8])| ours.eq_ignore_ascii_case(theirs);
        Ok(match self.labels.len().checked_sub(owner.len()) {
            Some(0) => self.labels.iter().zip(&owner).all(same),
            Some(below) if covers == Rtype::DNAME => self.labels.iter().skip(below).zip(&owner).all(same),
            Some(_) | None => false,
        })
    }
}

/// The records of the authority section that deny, give the time of a denial, or sign such a record.
fn denials(octets: &[u8], all: &[RawRecord]) -> Result<Vec<RawRecord>, FailureReason> {
    let denies = |record: &&RawRecord| [Rtype::SOA, Rtype::NSEC, Rtype::NSEC3].contains(&record.covers(octets));
    if all.iter().filter(denies).count() > MAX_AUTHORITIES {
        return Err(FailureReason::TooManyRecords(MAX_AUTHORITIES));
    }
    let kept: Vec<RawRecord> = all.iter().filter(denies).cloned().collect();
    for record in &kept {
        labels(octets, record.owner)?;
    }
    Ok(kept)
}

/// The records that are kept of a section; if there are none but signatures, one that is not, as all records together say
/// that the section is not empty.
fn lasting(octets: &[u8], kept: Vec<RawRecord>, all: &[RawRecord]) -> Result<Vec<RawRecord>, FailureReason> {
    if kept.iter().any(|record| record.rtype != RRSIG) {
        return Ok(kept);
    }
    let one: Vec<RawRecord> = all.iter().find(|record| record.rtype != RRSIG).cloned().into_iter().collect();
    for record in &one {
        labels(octets, record.owner)?;
    }
    Ok(one)
}

/// Holds the lists of types against their bounds.
fn bounded_types<'a>(octets: &[u8], records: impl Iterator<Item = &'a RawRecord>) -> Result<(), FailureReason> {
    let mut all = 0;
    for types in records.map(|record| record.types(octets)) {
        all += types;
        if types > MAX_TYPES || all > MAX_ALL_TYPES {
            return Err(FailureReason::malformed("a list of more types than a name has"));
        }
    }
    Ok(())
}

/// A place in the message.
struct Cursor<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, octets: usize) -> Result<Range<usize>, FailureReason> {
        let taken = self.at..self.at + octets;
        if taken.end > self.octets.len() {
            return Err(FailureReason::malformed("it ends within a record"));
        }
        self.at = taken.end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, FailureReason> {
        let at = self.take(1)?;
        self.octets.get(at.start).copied().ok_or_else(|| FailureReason::malformed("it ends within a record"))
    }

    fn u16(&mut self) -> Result<u16, FailureReason> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u32(&mut self) -> Result<u32, FailureReason> {
        Ok(u32::from_be_bytes([self.u8()?, self.u8()?, self.u8()?, self.u8()?]))
    }

    /// Steps over a name, and does not follow its pointer. Returns its place.
    fn name(&mut self) -> Result<usize, FailureReason> {
        let begin = self.at;
        loop {
            match self.u8()? {
                0 => return Ok(begin),
                length @ 1..=63 => {
                    self.take(usize::from(length))?;
                }
                192.. => {
                    self.take(1)?;
                    return Ok(begin);
                }
                64..192 => return Err(FailureReason::malformed("a name that cannot be read")),
            }
            if self.at - begin > MAX_LABEL_OCTETS {
                return Err(FailureReason::malformed("a name that is too long"));
            }
        }
    }

    /// Steps over octets with their number in front.
    fn text(&mut self) -> Result<(), FailureReason> {
        let length = self.u8()?;
        self.take(usize::from(length)).map(drop)
    }

    fn question(&mut self) -> Result<QuestionSection<'a>, FailureReason> {
        let name = self.name()?;
        let (rtype, class) = (Rtype(self.u16()?), self.u16()?);
        if class != IN {
            return Err(FailureReason::malformed("a question of another class"));
        }
        Ok(QuestionSection { labels: labels(self.octets, name)?, rtype })
    }

    /// The records of a section. Each takes eleven octets at least, so that the message bounds their number.
    fn section(&mut self, count: u16) -> Result<Vec<RawRecord>, FailureReason> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<RawRecord, FailureReason> {
        let owner = self.name()?;
        let (rtype, class, ttl) = (Rtype(self.u16()?), self.u16()?, self.u32()?);
        let length = self.u16()?;
        Ok(RawRecord { owner, rtype, ttl, rdata: self.take(usize::from(length))?, class })
    }
}

/// The labels of the name at a place, leftmost first. A pointer leads further to the front each time (RFC 1035 §4.1.4).
///
/// # Errors
/// There is no name.
pub(super) fn labels(octets: &[u8], place: usize) -> Result<Vec<&[u8]>, FailureReason> {
    let bad = || FailureReason::malformed("a name that cannot be read");
    let (mut labels, mut length, mut pointers) = (Vec::new(), 0, 0);
    let (mut at, mut begin) = (place, place);
    loop {
        let first = octets.get(at).copied().ok_or_else(bad)?;
        match first {
            0 => return Ok(labels),
            1..=63 => {
                let end = at + 1 + usize::from(first);
                length += 1 + usize::from(first);
                labels.push(octets.get(at + 1..end).filter(|_| length <= MAX_LABEL_OCTETS).ok_or_else(bad)?);
                at = end;
            }
            64..192 => return Err(bad()),
            192.. => {
                let low = octets.get(at + 1).copied().ok_or_else(bad)?;
                let target = usize::from(u16::from_be_bytes([first & 0x3f, low]));
                pointers += 1;
                if target >= begin || pointers > MAX_POINTERS {
                    return Err(bad());
                }
                (at, begin) = (target, target);
            }
        }
    }
}

/// The place behind the name at a place.
///
/// # Errors
/// There is no name.
pub(super) fn end_of_name(octets: &[u8], place: usize) -> Result<usize, FailureReason> {
    let mut cursor = Cursor { octets, at: place };
    cursor.name()?;
    Ok(cursor.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u16 = 1;
    const NS: u16 = 2;
    const SRV: u16 = 33;
    /// A pointer to the question's name, and to the name above it.
    const ASKED: &[u8] = &[0xc0, 12];
    const ABOVE: &[u8] = &[0xc0, 15];

    /// A reply about `mx.test`, type A, with these records in the three sections: owner, type, RDATA.
    /// Owner, type and RDATA of a record.
    type Record<'a> = (&'a [u8], u16, &'a [u8]);

    fn reply(sections: [&[Record<'_>]; 3]) -> Vec<u8> {
        let mut octets = vec![0, 0, 0x81, 0x80, 0, 1];
        sections.iter().for_each(|section| octets.extend(u16::try_from(section.len()).unwrap().to_be_bytes()));
        octets.extend(b"\x02mx\x04test\x00\x00\x01\x00\x01");
        for (owner, rtype, rdata) in sections.into_iter().flatten() {
            octets.extend(*owner);
            octets.extend(rtype.to_be_bytes());
            octets.extend([0, 1, 0, 0, 1, 0]);
            octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
            octets.extend(*rdata);
        }
        octets
    }

    /// The types that are kept of the answer and of the authority section.
    fn kept(octets: &[u8]) -> Result<[Vec<u16>; 2], FailureReason> {
        let raw = RawReply::read(octets)?;
        Ok([raw.answers, raw.authorities].map(|records| records.iter().map(|record| record.rtype.0).collect()))
    }

    #[test]
    fn a49_a_reply_of_64_kb_takes_six_times_as_much_memory_at_the_most() {
        // as many records as there can be, in each section.
        const LARGEST: usize = 65_535;
        let record = [&[0][..], &Rtype::A.0.to_be_bytes(), &IN.to_be_bytes(), &[0; 6]].concat();
        let question = [&[0][..], &Rtype::A.0.to_be_bytes(), &IN.to_be_bytes()].concat();
        let count = (LARGEST - 12 - question.len()) / record.len();
        assert_eq!(count, 5_956);
        let most = u16::try_from(count).unwrap().to_be_bytes();
        for section in 0..3 {
            let mut counts = [[0, 0]; 3];
            counts[section] = most;
            let head = [&[0, 0, 0x84, 0, 0, 1][..], &counts.concat(), &question].concat();
            let octets = [head, record.repeat(count)].concat();
            let raw = RawSections::read(&octets).unwrap();
            let lists = [&raw.answers, &raw.authorities, &raw.additionals];
            let records = lists.map(Vec::capacity).iter().sum::<usize>() * size_of::<RawRecord>();
            // While a list grows, the half of its length is there as well.
            assert!(records + records / 2 <= 393_216, "{records} octets");
            let kept = RawReply::read(&octets).map_or(0, |reply| reply.answers.len() + reply.authorities.len());
            assert!(kept <= MAX_ANSWERS + MAX_ANSWER_SIGNATURES + MAX_AUTHORITIES);
        }
    }

    #[test]
    fn only_the_records_that_decide_are_kept() {
        let (none, address) = ([].as_slice(), [192, 0, 2, 1].as_slice());
        let rrsig = |covers: u8| [0, covers];
        for (answers, authorities, expected) in [
            (vec![(ASKED, A, address)], vec![], [vec![A], vec![]]),
            (vec![(&b"\x02MX\x04TeSt\x00"[..], A, address)], vec![], [vec![A], vec![]]),
            // Of another name, another type, and the signatures of these.
            (vec![(ASKED, A, address), (ABOVE, A, address), (ASKED, SRV, none)], vec![], [vec![A], vec![]]),
            (vec![(ASKED, A, address), (ASKED, 46, &rrsig(33)), (ASKED, 46, &rrsig(1))], vec![], [vec![A, 46], vec![]]),
            // A DNAME above the name, and none at another one.
            (vec![(ABOVE, 39, none), (ASKED, 5, none), (b"\x01x\x00", 39, none)], vec![], [vec![39, 5], vec![]]),
            // Something was there.
            (vec![(ABOVE, A, address), (ABOVE, SRV, none)], vec![], [vec![A], vec![]]),
            (vec![], vec![(ABOVE, NS, none), (ABOVE, NS, none)], [vec![], vec![NS]]),
            (vec![], vec![(ABOVE, NS, none), (ABOVE, 46, &rrsig(6))], [vec![], vec![NS]]),
            (vec![(ASKED, A, address)], vec![(ABOVE, NS, none)], [vec![A], vec![]]),
            (
                vec![],
                vec![(ABOVE, NS, none), (ABOVE, 6, none), (ABOVE, 47, none), (ABOVE, 50, none)],
                [vec![], vec![6, 47, 50]],
            ),
        ] {
            // The additional section is not looked into.
            let octets = reply([&answers, &authorities, &[(ABOVE, SRV, &[0])]]);
            assert_eq!(kept(&octets), Ok(expected), "{answers:?} {authorities:?}");
        }
    }

    #[test]
    fn a49_too_many_records_are_a_failure() {
        let times = |number: usize, record: (&'static [u8], u16, &'static [u8])| vec![record; number];
        let answers = |number, record| kept(&reply([&times(number, record), &[], &[]])).err();
        let authorities = |number, record| kept(&reply([&[], &times(number, record), &[]])).err();
        let address = (ASKED, A, &[192, 0, 2, 1][..]);
        assert_eq!(answers(MAX_ANSWERS, address), None);
        assert_eq!(answers(MAX_ANSWERS + 1, address), Some(FailureReason::TooManyRecords(MAX_ANSWERS)));
        assert!(matches!(answers(MAX_ANSWER_SIGNATURES + 1, (ASKED, 46, &[0, 1])), Some(FailureReason::Bogus(_))));
        let soa = (ABOVE, 6, &[][..]);
        assert_eq!(authorities(MAX_AUTHORITIES, soa), None);
        assert_eq!(authorities(MAX_AUTHORITIES + 1, soa), Some(FailureReason::TooManyRecords(MAX_AUTHORITIES)));
        // Any number that decides nothing.
        assert_eq!(authorities(4000, (ABOVE, NS, &[])), None);
    }

    #[test]
    fn a49_lists_of_more_types_than_a_name_has_are_a_failure() {
        // In front of the list: the next name, or parameters, salt and hash.
        let data = |before: &[u8], types: usize| [before, &vec![0xff; types]].concat();
        let longest_name = [&b"\x3f"[..], &[b'a'; 63], b"\x00"].concat();
        let hashed = [&[1, 0, 0, 5, 8][..], &[9; 8], &[20], &[9; 20]].concat();
        let longest_salt = [&[1, 0, 0, 5, 255][..], &[9; 255], &[255], &[9; 255]].concat();
        for (rtype, before) in
            [(47, &b"\x00"[..]), (47, ABOVE), (47, &longest_name), (50, &hashed), (50, &longest_salt)]
        {
            let denied = |number: usize, types: usize| {
                let data = data(before, types);
                kept(&reply([&[], &vec![(ABOVE, rtype, &data[..]); number], &[]]))
            };
            assert_eq!(denied(1, MAX_TYPES), Ok([vec![], vec![rtype]]), "{rtype} {before:?}");
            assert!(denied(1, MAX_TYPES + 1).is_err() && denied(1, 60_000).is_err(), "{rtype} {before:?}");
            // Many lists: those of an honest denial, and as many octets in all as there may be.
            assert_eq!(denied(100, 9).map(|[_, kept]| kept.len()), Ok(100), "{rtype} {before:?}");
            assert!(denied(8, MAX_TYPES).is_ok() && denied(9, MAX_TYPES).is_err(), "{rtype} {before:?}");
        }
        // Data that ends before its list, and a record that is kept because something was there.
        for (rtype, data) in [(47, vec![63; 60]), (50, vec![1, 0, 0, 5, 255, 9]), (50, vec![])] {
            assert!(kept(&reply([&[], &[(ABOVE, rtype, &data)], &[]])).is_ok(), "{rtype}");
        }
        for rtype in [47, 50, 62] {
            let data = vec![0; 1000];
            assert!(kept(&reply([&[(ABOVE, rtype, &data)], &[], &[]])).is_err(), "{rtype}");
            assert!(kept(&reply([&[(ABOVE, 62, &data)], &[], &[]])).is_err(), "{rtype}");
            // Beside an answer it is dropped.
            assert!(kept(&reply([&[(ASKED, A, &[192, 0, 2, 1]), (ABOVE, rtype, &data)], &[], &[]])).is_ok(), "{rtype}");
        }
    }

    #[test]
    fn a_message_that_does_not_fit_is_a_failure_at_each_octet() {
        let opt: (&[u8], u16, &[u8]) = (&[0], 41, &[]);
        let whole = reply([&[(ASKED, A, &[192, 0, 2, 1])], &[(ABOVE, 6, &[])], &[opt]]);
        assert!(kept(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(kept(&whole[..end]).is_err(), "{end}");
        }
        let changed = |at: usize, octet: u8| {
            let mut octets = whole.clone();
            octets[at] = octet;
            kept(&octets)
        };
        // TC; two questions; class CH.
        assert!(changed(2, 0x83).is_err() && changed(5, 2).is_err() && changed(30, 3).is_err());
        // A pointer to itself, one ahead, and a label of an unknown kind.
        let first = 25;
        assert_eq!(whole[first..first + 2], *ASKED);
        assert!(changed(first + 1, 25).is_err() && changed(first + 1, 40).is_err() && changed(first, 0x80).is_err());
    }

    #[test]
    fn the_rcode_is_that_of_header_and_opt() {
        let opt: (&[u8], u16, &[u8]) = (&[0], 41, &[]);
        let mut octets = reply([&[], &[], &[opt]]);
        octets[3] |= 5;
        let ttl = octets.len() - 6;
        octets[ttl] = 1;
        assert_eq!(RawReply::read(&octets).unwrap().rcode, 0x15);
    }

    #[test]
    fn names_are_read_with_few_steps() {
        // A name of 127 labels is one; pointers to pointers are not followed for long.
        let long = [&b"\x01a".repeat(127)[..], &[0]].concat();
        assert_eq!(labels(&long, 0).unwrap().len(), 127);
        assert!(labels(&[&b"\x01a".repeat(128)[..], &[0]].concat(), 0).is_err());
        let mut pointers = vec![0, 0];
        (0..200_u16).for_each(|i| pointers.extend((0xc000 | (2 * i)).to_be_bytes()));
        assert!(labels(&pointers, 2 * MAX_POINTERS).is_ok());
        assert!(labels(&pointers, 2 * MAX_POINTERS + 2).is_err());
    }
}
