//! The key of a record: sender, recipients, and the octets of the message.
//!
//! Only digests are kept. That saves room and is no secrecy: with the file, a guess at an address can be tested.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;

use sha2::{Digest, Sha256};

use crate::requiretls::Tag;
use crate::smtp::address::{Mailbox, ReversePath};

/// The number of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub(crate) i64);

/// A sender and a recipient.
///
/// The local parts count octet for octet, since only the final host may interpret them (RFC 5321 §2.4), the domains as
/// they are looked up, in lower-case A-labels. Parameters of MAIL do not count: a client may give another SIZE or BODY
/// when it tries again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair([u8; LENGTH]);

/// The octets of a message: from behind the 354 to before the final dot, as the client sent them and
/// [`DataScanner`](crate::smtp::data::DataScanner) passed them on (CRLF line ends, no stuffing), and before our own
/// Received line.
///
/// Every octet counts, Date, Message-ID and Received fields included. A queue sends the same octets again: nullmailer
/// writes all fields when it takes a message in. A program that makes a new Date for each attempt sends a new message,
/// and its recipients may get a second copy. To overlook such fields would swallow the second of two equal alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; LENGTH]);

/// One message on all its attempts: sender, recipients in any order, and octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey([u8; LENGTH]);

/// Octets of a SHA-256.
const LENGTH: usize = 32;

impl Pair {
    /// The pair of the sender and one recipient of a transaction.
    pub fn new(sender: &ReversePath, recipient: &Mailbox) -> Self {
        let mut digest = Sha256::new();
        match sender {
            // No mailbox is empty.
            ReversePath::Null => {}
            // A digest takes all octets.
            ReversePath::Mailbox(mailbox) => _ = write!(digest, "{mailbox}"),
        }
        // Neither of the two can hold a CR.
        digest.update(b"\r");
        let _ = write!(digest, "{recipient}");
        Self(digest.finalize().into())
    }

    /// The pair under which a refusal of mail with this tag is kept: it answers no mail with another tag. A delivery is kept under
    /// the pair itself, and answers all.
    #[must_use]
    pub fn refused(&self, tag: Option<Tag>) -> Self {
        let word = tag.map_or("", Tag::as_str);
        Self(Sha256::new().chain_update(self.0).chain_update(word).finalize().into())
    }

    /// Its first octets, for an index.
    pub(crate) fn short(&self) -> u64 {
        self.0.iter().take(8).fold(0, |short, octet| short << 8 | u64::from(*octet))
    }
}

impl MessageKey {
    /// The key of these octets to these recipients of one sender. A client may list a recipient twice, and may list them
    /// in another order on its next attempt.
    pub fn new(content: ContentDigest, recipients: impl IntoIterator<Item = Pair>) -> Self {
        let recipients: BTreeSet<Pair> = recipients.into_iter().collect();
        let mut digest = Sha256::new();
        digest.update(content.0);
        recipients.iter().for_each(|recipient| digest.update(recipient.0));
        Self(digest.finalize().into())
    }

    /// The key of the same message from a listener with a level of its own: outcomes of deliveries that did not meet it are
    /// none of its.
    #[must_use]
    pub fn at_level(self, level: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(level).finalize().into())
    }
}

/// Reads a message along as it passes, and makes its [`ContentDigest`].
#[derive(Clone, Default)]
pub struct ContentHasher(Sha256);

impl ContentHasher {
    /// The next octets of the message.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The message has ended.
    pub fn finish(self) -> ContentDigest {
        ContentDigest(self.0.finalize().into())
    }
}

macro_rules! digest {
    ($type:ident) => {
        impl $type {
            pub(crate) fn octets(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:02x}{:02x}..)", stringify!($type), self.0[0], self.0[1])
            }
        }
    };
}
digest!(Pair);
digest!(MessageKey);

impl Pair {
    /// The inverse of [`Self::octets`].
    pub(crate) fn from_octets(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }
}

impl fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::{ForwardPath, SmtpUtf8};

    fn pair(sender: &str, recipient: &str) -> Pair {
        let sender = ReversePath::parse(sender, SmtpUtf8::Requested).unwrap();
        match ForwardPath::parse(recipient, SmtpUtf8::Requested).unwrap() {
            ForwardPath::Mailbox(mailbox) => Pair::new(&sender, &mailbox),
            ForwardPath::Postmaster => panic!("no mailbox"),
        }
    }

    #[test]
    fn a_pair_is_what_the_remote_would_tell_apart() {
        let plain = pair("<s@a.test>", "<r@b.test>");
        assert_eq!(plain, pair("<s@A.TEST>", "<r@B.test>"));
        // Appendix C of RFC 5321: the route goes, the mailbox stays.
        assert_eq!(plain, pair("<s@a.test>", "<@relay.test:r@b.test>"));
        for (sender, recipient) in [
            ("<>", "<r@b.test>"),
            ("<S@a.test>", "<r@b.test>"),
            ("<s@a.test>", "<R@b.test>"),
            ("<r@b.test>", "<s@a.test>"),
            ("<s@a.test>", "<\"r\"@b.test>"),
        ] {
            assert_ne!(plain, pair(sender, recipient), "{sender} {recipient}");
        }
        assert_eq!(pair("<ü@bücher.test>", "<r@b.test>"), pair("<ü@xn--bcher-kva.test>", "<r@b.test>"));
    }

    fn content(pieces: &[&str]) -> ContentDigest {
        let mut hasher = ContentHasher::default();
        pieces.iter().for_each(|piece| hasher.update(piece.as_bytes()));
        hasher.finish()
    }

    #[test]
    fn content_is_the_octets_however_they_come() {
        assert_eq!(content(&["Date: x\r\n", "", "\r\nhi\r\n"]), content(&["Date: x\r\n\r\nhi\r\n"]));
        assert_ne!(content(&["Date: x\r\n\r\nhi\r\n"]), content(&["Date: y\r\n\r\nhi\r\n"]));
    }

    #[test]
    fn a_message_is_its_octets_and_the_set_of_its_recipients() {
        let (b, c) = (pair("<s@a.test>", "<b@b.test>"), pair("<s@a.test>", "<c@b.test>"));
        let key = |text: &str, recipients: &[Pair]| MessageKey::new(content(&[text]), recipients.iter().copied());
        assert_eq!(key("x", &[b, c]), key("x", &[c, b, c]));
        for other in [key("y", &[b, c]), key("x", &[b]), key("x", &[b, pair("<other@a.test>", "<c@b.test>")])] {
            assert_ne!(key("x", &[b, c]), other);
        }
        assert_eq!(Pair::from_octets(b.octets()), Some(b));
        assert_eq!(Pair::from_octets(b"short"), None);
    }
}
