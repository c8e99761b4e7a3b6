//! What an outcome is remembered by: who sent to whom, and the octets of the message.
//!
//! Only digests are kept. That is thrift, not secrecy: whoever has the file and guesses an address can see that he has
//! guessed right.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::smtp::address::{Mailbox, ReversePath};

/// A sender and a recipient.
///
/// The local parts count octet for octet, since only the final host may interpret them (RFC 5321 §2.4), the domains as
/// they are looked up, in lower-case A-labels. Parameters of MAIL do not count: a client may give another SIZE or BODY
/// when it tries again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair([u8; LENGTH]);

/// The octets of a message: from behind the 354 to before the final dot, as the client sent them and
/// [`DataScanner`](crate::smtp::data::DataScanner) passed them on (CRLF line ends, dot-stuffed), and before our own
/// Received line.
///
/// Every octet counts, Date, Message-ID and Received lines included. A queue sends the same octets again: Postfix, Exim,
/// nullmailer and dma write all their fields when they take a message in. A program that makes a new Date for each try
/// (msmtp does where there is none) sends, for all one can tell, a new message; to overlook such fields would be to
/// swallow the second of two alarms that say the same, and a second copy is better than none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content([u8; LENGTH]);

/// Octets of a SHA-256.
const LENGTH: usize = 32;

impl Pair {
    /// The pair of the sender and one recipient of a transaction.
    pub fn new(sender: &ReversePath, recipient: &Mailbox) -> Self {
        let mut digest = Sha256::new();
        match sender {
            // No mailbox is empty.
            ReversePath::Null => {}
            ReversePath::Mailbox(mailbox) => digest.update(mailbox.to_string()),
        }
        // Neither of the two can hold a CR.
        digest.update(b"\r");
        digest.update(recipient.to_string());
        Self(digest.finalize().into())
    }

    /// Its first octets, for a filter.
    pub(super) fn short(&self) -> u64 {
        self.0.iter().take(8).fold(0, |short, octet| short << 8 | u64::from(*octet))
    }
}

/// Takes a message in as it passes, and makes its [`Content`].
#[derive(Clone)]
pub struct ContentHasher {
    /// None once the message has turned out too large.
    digest: Option<Sha256>,
    left: u64,
}

impl ContentHasher {
    /// Of a message that has to be known again, whatever its size.
    pub fn of_any_size() -> Self {
        Self::up_to(u64::MAX)
    }

    /// Of a message that is worth the work if it has no more than so many octets.
    pub fn up_to(octets: u64) -> Self {
        Self { digest: Some(Sha256::new()), left: octets }
    }

    /// The next octets of the message.
    pub fn update(&mut self, octets: &[u8]) {
        match self.left.checked_sub(octets.len() as u64) {
            Some(left) => self.left = left,
            None => self.digest = None,
        }
        if let Some(digest) = &mut self.digest {
            digest.update(octets);
        }
    }

    /// The message has ended. None if it was too large.
    pub fn finish(self) -> Option<Content> {
        self.digest.map(|digest| Content(digest.finalize().into()))
    }
}

macro_rules! digest {
    ($type:ident) => {
        impl $type {
            pub(super) fn octets(&self) -> &[u8] {
                &self.0
            }

            /// Reads what [`Self::octets`] has written.
            pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
                octets.try_into().ok().map(Self)
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
digest!(Content);

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

    #[test]
    fn content_is_the_octets_however_they_come() {
        let content = |pieces: &[&str]| {
            let mut hasher = ContentHasher::of_any_size();
            pieces.iter().for_each(|piece| hasher.update(piece.as_bytes()));
            hasher.finish().unwrap()
        };
        assert_eq!(content(&["Date: x\r\n", "", "\r\nhi\r\n"]), content(&["Date: x\r\n\r\nhi\r\n"]));
        assert_ne!(content(&["Date: x\r\n\r\nhi\r\n"]), content(&["Date: y\r\n\r\nhi\r\n"]));
        assert_eq!(Content::from_octets(content(&["a"]).octets()), Some(content(&["a"])));
        assert_eq!(Content::from_octets(b"short"), None);
    }

    #[test]
    fn a_large_message_is_given_up() {
        let content = |mut hasher: ContentHasher| {
            hasher.update(b"ab");
            hasher.update(b"c");
            hasher.finish()
        };
        assert_eq!(content(ContentHasher::up_to(2)), None);
        assert_eq!(content(ContentHasher::up_to(1)), None);
        assert_eq!(content(ContentHasher::up_to(3)), content(ContentHasher::of_any_size()));
    }
}
