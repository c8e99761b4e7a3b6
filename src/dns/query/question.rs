//! A query in octets, and whether a reply belongs to it.

use super::super::FailureReason;
use super::super::links::Question;
use super::super::server::Transport;
use super::Purpose;

/// The largest UDP reply that is asked for (RFC 9715 §3.1).
const PAYLOAD: u16 = 1232;
/// The EDNS option that makes all questions the same size, so that an observer cannot tell them apart by it (RFC 7830
/// §3).
const PADDING: u16 = 12;
/// Questions over TLS are multiples of this (RFC 8467 §4.1).
const BLOCK: usize = 128;
/// Octets of an option before its data (RFC 6891 §6.1.2).
const OPTION: u16 = 4;
/// Octets of a message before its question (RFC 1035 §4.1.1).
const HEADER: usize = 12;

impl Purpose {
    /// Whether the letters of the name are in a case that nobody knows.
    fn mixes_case(self) -> bool {
        match self {
            Self::TrustAd | Self::Validate => false,
            Self::Iterate | Self::IterateBare => true,
        }
    }

    /// The third and fourth octet of the header: RD is the last bit of the one, AD and CD are 0x20 and 0x10 of the other.
    fn flags(self) -> [u8; 2] {
        match self {
            Self::TrustAd => [0x01, 0x20],
            Self::Validate => [0x01, 0x30],
            Self::Iterate | Self::IterateBare => [0, 0],
        }
    }
}

/// A query message, and the part of it that a reply must repeat.
pub(super) struct QueryMessage {
    /// The message.
    pub(super) octets: Vec<u8>,
    /// Where the question ends.
    end: usize,
    purpose: Purpose,
}

impl QueryMessage {
    /// # Errors
    /// There is no randomness, or the name is longer than a name may be.
    pub(super) fn new(question: &Question, transport: &Transport, purpose: Purpose) -> Result<Self, FailureReason> {
        let mut octets = random_id()?.to_vec();
        octets.extend(purpose.flags());
        octets.extend([0, 1, 0, 0, 0, 0, 0, 1]);
        for label in question.name.labels() {
            octets.push(u8::try_from(label.len()).map_err(|_| FailureReason::NameTooLong)?);
            octets.extend(label);
        }
        if purpose.mixes_case() {
            mix_case(octets.get_mut(HEADER..).unwrap_or_default())?;
        }
        octets.push(0);
        octets.extend(question.rtype.0.to_be_bytes());
        octets.extend([0, 1]);
        let end = octets.len();
        match purpose {
            Purpose::TrustAd | Purpose::Validate | Purpose::Iterate => extend(&mut octets, transport)?,
            // ARCOUNT: there is no additional record.
            Purpose::IterateBare => octets.get_mut(HEADER - 1).into_iter().for_each(|count| *count = 0),
        }
        Ok(Self { octets, end, purpose })
    }

    /// RFC 5452 §9.1: the ID and the question are ours; and it is a response to a standard query.
    pub(super) fn is_answered_by(&self, reply: &[u8]) -> bool {
        let repeats = |from: usize, to: usize, same: fn(&[u8], &[u8]) -> bool| {
            reply.get(from..to).zip(self.octets.get(from..to)).is_some_and(|(theirs, ours)| same(theirs, ours))
        };
        // RFC 4343 §3: the case of the name alone does not matter. Lengths of labels are no letters.
        repeats(0, 2, PartialEq::eq)
            && reply.get(2).is_some_and(|flags| flags & 0xf8 == 0x80)
            && reply.get(4..6) == Some(&[0, 1])
            && repeats(HEADER, self.end - 4, <[u8]>::eq_ignore_ascii_case)
            && repeats(self.end - 4, self.end, PartialEq::eq)
    }

    /// Whether the name in the question of a reply has the case of ours, where that counts.
    pub(super) fn is_repeated_by(&self, reply: &[u8]) -> bool {
        !self.purpose.mixes_case() || reply.get(HEADER..self.end) == self.octets.get(HEADER..self.end)
    }

    /// The reply with the name of its question in lower case, where ours is in any: names of its records may be pointers to
    /// it.
    pub(super) fn in_lower_case(&self, mut reply: Vec<u8>) -> Vec<u8> {
        if self.purpose.mixes_case()
            && let Some(name) = reply.get_mut(HEADER..self.end - 4)
        {
            // Lengths of labels are no letters.
            name.make_ascii_lowercase();
        }
        reply
    }

    /// The question as it is put on a connection: its length stands in front (RFC 1035 §4.2.2).
    pub(super) fn framed(&self) -> Result<Vec<u8>, FailureReason> {
        let length = u16::try_from(self.octets.len()).map_err(|_| FailureReason::NameTooLong)?;
        Ok([&length.to_be_bytes()[..], &self.octets].concat())
    }

    /// Its ID, which a reply repeats.
    pub(super) fn id(&self) -> Option<[u8; 2]> {
        self.octets.first_chunk().copied()
    }

    /// Takes another ID, as two questions on one connection must not have the same.
    pub(super) fn renumber(&mut self) -> Result<(), FailureReason> {
        let id = random_id()?;
        if let Some(own) = self.octets.first_chunk_mut() {
            *own = id;
        }
        Ok(())
    }
}

/// Adds the OPT record.
fn extend(octets: &mut Vec<u8>, transport: &Transport) -> Result<(), FailureReason> {
    // RFC 6891 §6.1.2: the OPT record; DO is the first bit of its flags (RFC 3225 §3).
    octets.extend([0, 0, 41]);
    octets.extend(PAYLOAD.to_be_bytes());
    octets.extend([0, 0, 0x80, 0]);
    match transport {
        Transport::Plain | Transport::Recursion => octets.extend([0, 0]),
        Transport::Tls(_) => {
            let padding = padding(octets.len() + 2);
            let length = u16::try_from(padding).map_err(|_| FailureReason::NameTooLong)?;
            octets.extend((length + OPTION).to_be_bytes());
            octets.extend(PADDING.to_be_bytes());
            octets.extend(length.to_be_bytes());
            octets.resize(octets.len() + padding, 0);
        }
    }
    Ok(())
}

/// How many octets a padding option has to hold to make a message of `octets` without it a multiple of the block.
fn padding(octets: usize) -> usize {
    let with_option = octets + usize::from(OPTION);
    with_option.next_multiple_of(BLOCK) - with_option
}

/// An ID that an attacker cannot guess (RFC 5452 §9.2).
pub(super) fn random_id() -> Result<[u8; 2], FailureReason> {
    random()
}

/// Puts each letter of a name of up to 255 octets in a case that an attacker cannot guess.
fn mix_case(name: &mut [u8]) -> Result<(), FailureReason> {
    let bits: [u8; 32] = random()?;
    for (place, octet) in name.iter_mut().enumerate() {
        let is_upper = bits.get(place / 8).is_some_and(|octet| octet >> (place % 8) & 1 == 1);
        if is_upper {
            octet.make_ascii_uppercase();
        }
    }
    Ok(())
}

fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], FailureReason> {
    let mut octets = [0; OCTETS];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut octets).map_err(|_| FailureReason::Network("there is no randomness".to_owned()))?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::super::super::canonical::CanonicalName;
    use super::super::super::reply::Rtype;
    use super::*;
    use crate::name::Name;

    fn request() -> QueryMessage {
        to(&Transport::Plain)
    }

    fn to(transport: &Transport) -> QueryMessage {
        with(Purpose::TrustAd, transport)
    }

    fn with(purpose: Purpose, transport: &Transport) -> QueryMessage {
        let name = CanonicalName::from_labels([&b"_25"[..], b"_tcp", b"mx", b"test"].into_iter());
        QueryMessage::new(&Question { name, rtype: Rtype::TLSA }, transport, purpose).unwrap()
    }

    #[test]
    fn questions_over_tls_are_of_one_size() {
        // RFC 7830 §3, RFC 8467 §4.1.
        let padded = to(&Transport::Tls(Name::parse("dns.test").unwrap())).octets;
        let bare = request().octets;
        assert_eq!((bare.len(), padded.len()), (45, 128));
        assert_eq!(padded[2..bare.len() - 2], bare[2..bare.len() - 2]);
        assert_eq!(padded[43..49], [0, 83, 0, 12, 0, 79]);
    }

    #[test]
    fn a17_do_and_ad_are_set_and_cd_is_clear() {
        // A17.
        let octets = request().octets;
        assert_eq!(octets[2..HEADER], [0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(octets[HEADER..].starts_with(b"\x03_25\x04_tcp\x02mx\x04test\x00"));
        let (payload, extended) = (&octets[octets.len() - 8..][..2], &octets[octets.len() - 6..]);
        assert_eq!((payload, extended), (&[0x04, 0xd0][..], &[0, 0, 0x80, 0, 0, 0][..]));
    }

    #[test]
    fn a_question_whose_reply_is_validated_here_has_cd() {
        // Decision 16: RD, and AD and CD.
        let octets = with(Purpose::Validate, &Transport::Plain).octets;
        assert_eq!(octets[2..HEADER], [0x01, 0x30, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn an_authoritative_server_is_asked_without_rd_and_in_a_case_that_cannot_be_guessed() {
        let request = with(Purpose::Iterate, &Transport::Plain);
        assert_eq!(request.octets[2..HEADER], [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(request.octets[request.octets.len() - 4..], [0x80, 0, 0, 0], "DO is set");
        let mut reply = request.octets.clone();
        reply[2] |= 0x80;
        assert!(request.is_answered_by(&reply) && request.is_repeated_by(&reply));
        reply[HEADER + 6] ^= 0x20;
        assert!(request.is_answered_by(&reply) && !request.is_repeated_by(&reply));
        assert!(request.in_lower_case(reply)[HEADER..].starts_with(b"\x03_25\x04_tcp\x02mx\x04test\x00\x00\x34"));
        let bare = with(Purpose::IterateBare, &Transport::Plain);
        assert_eq!((bare.octets.len(), bare.octets[HEADER - 1]), (bare.end, 0), "no OPT record");
        let cases: std::collections::HashSet<_> =
            (0..100).map(|_| with(Purpose::Iterate, &Transport::Plain).octets[HEADER..].to_vec()).collect();
        assert!(cases.len() > 10);
    }

    #[test]
    fn a23_a_reply_repeats_id_and_question() {
        // A23.
        let request = request();
        let mut reply = request.octets.clone();
        assert!(!request.is_answered_by(&reply), "a query is no reply");
        reply[2] |= 0x80;
        assert!(request.is_answered_by(&reply));
        let changed = |at: usize, bits: u8| {
            let mut reply = reply.clone();
            reply[at] ^= bits;
            reply
        };
        // RFC 4343 §4: case does not matter. The same bit flipped in a digit or an underscore gives another name.
        assert!(request.is_answered_by(&changed(HEADER + 11, 0x20)));
        for (at, bits) in
            [(0, 1), (1, 1), (2, 0x08), (5, 1), (HEADER + 11, 1), (request.end - 3, 1), (request.end - 1, 2)]
        {
            assert!(!request.is_answered_by(&changed(at, bits)), "octet {at}");
        }
        assert!(!request.is_answered_by(&reply[..HEADER + 3]) && !request.is_answered_by(&[]));
    }
}
