//! Keys that were seen not long ago, in memory that has a bound: when it is full, the oldest key makes room.
//!
//! Three facts are remembered here, because a client's next try needs them and the message itself is gone:
//!
//! * An address that offers CHUNKING has refused BDAT as a command (RFC 3030 §4.2: a host with CHUNKING knows BDAT), or the
//!   session broke or stalled amid the chunks, as it does behind filters that know DATA alone. A message in chunks is not
//!   here any more when its first chunk fails, and a server that does not know BDAT may have read the chunk as commands. So
//!   the client hears 451, and its next try goes over another connection, as DATA. A 421 of a remote that has answered each
//!   chunk is none of these: mostly the client was slow.
//! * A client sent 8-bit mail that it had not declared, to an exchange without 8BITMIME. The need shows only in the message,
//!   when the transaction is bound to its remote. So for a while exchanges with 8BITMIME come first for that domain (RFC 5321 §2.2.3).
//! * Mail with `TLS-Required: No` holds more than the host takes that has met its policy, and the host that takes it fails in
//!   TLS. Its next try goes to that one (RFC 8689 §4.1), for otherwise the mail would wait for ever.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use crate::name::Name;
use crate::refusal::HostEndpoint;
use crate::smtp::command::Mail;
use crate::smtp::extensions::Content;

/// Servers that a message in chunks did not get through to.
pub type WithoutBdat = BoundedMemory<HostEndpoint>;
/// Domains with 8-bit mail that clients did not declare.
pub type EightBitDomains = BoundedMemory<Name>;

/// Mail with `TLS-Required: No` that hosts which met their policy could not take.
pub type WaivedMails = BoundedMemory<WaivedMail>;

/// Mail with `TLS-Required: No`, as far as its next try is known again before its content comes: its MAIL has the sender, and
/// mostly the size. All such mail has the field, so a mistake lowers no ordinary mail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WaivedMail {
    domain: Name,
    mail: String,
    holds: Content,
}

impl WaivedMail {
    /// Mail to this domain.
    pub fn new(domain: &Name, mail: &Mail) -> Self {
        Self { domain: domain.clone(), mail: mail.to_string(), holds: Content::Ascii }
    }

    /// The same mail, which has shown to hold this.
    #[must_use]
    pub fn holding(&self, holds: Content) -> Self {
        Self { holds, ..self.clone() }
    }
}

/// The memory.
#[derive(Debug)]
pub struct BoundedMemory<K> {
    keep: Duration,
    most: usize,
    seen: RwLock<HashMap<K, Instant>>,
}

impl<K: Eq + Hash + Clone> BoundedMemory<K> {
    fn new(keep: Duration, most: usize) -> Self {
        Self { keep, most, seen: RwLock::default() }
    }

    /// Remembers the key from now on.
    pub fn note(&self, key: &K) {
        let now = Instant::now();
        let mut seen = self.seen.write();
        if seen.len() >= self.most && !seen.contains_key(key) {
            let oldest = seen.iter().min_by_key(|(_, since)| **since).map(|(oldest, _)| oldest.clone());
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
            }
        }
        seen.insert(key.clone(), now);
    }

    /// Whether the key was noted not too long ago.
    pub fn knows(&self, key: &K) -> bool {
        let seen = self.seen.read();
        seen.get(key).is_some_and(|since| since.elapsed() < self.keep)
    }
}

impl WithoutBdat {
    /// For a day: most clients try again sooner, and servers are repaired.
    pub fn of_addresses() -> Self {
        Self::new(Duration::from_secs(24 * 60 * 60), 4096)
    }
}

impl EightBitDomains {
    /// For as long as clients keep trying (RFC 5321 §4.5.4.1). Most domains are never noted here.
    pub fn of_domains() -> Self {
        Self::new(Duration::from_secs(5 * 24 * 60 * 60), 1024)
    }

    /// The content that mail to this domain may hold although the client has not declared it.
    pub fn undeclared(&self, domain: &Name) -> Content {
        if self.knows(domain) { Content::EightBit } else { Content::Ascii }
    }
}

impl WaivedMails {
    /// For as long as clients keep trying (RFC 5321 §4.5.4.1). Hardly any mail is noted here.
    pub fn of_next_tries() -> Self {
        Self::new(Duration::from_secs(5 * 24 * 60 * 60), 1024)
    }

    /// The content that an earlier try of this mail has shown.
    pub fn shown(&self, mail: &WaivedMail) -> Content {
        let more = [Content::International, Content::EightBit];
        more.into_iter().find(|content| self.knows(&mail.holding(*content))).unwrap_or(Content::Ascii)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::Command;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_remembered_for_a_while() {
        let domains = EightBitDomains::of_domains();
        domains.note(&name("a.example"));
        assert_eq!(domains.undeclared(&name("a.example")), Content::EightBit);
        assert_eq!(domains.undeclared(&name("b.example")), Content::Ascii);
        tokio::time::advance(domains.keep).await;
        assert_eq!(domains.undeclared(&name("a.example")), Content::Ascii);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mail_is_known_again_by_its_domain_and_mail_command() {
        let mail = |line: &str| match Command::parse(format!("MAIL FROM:<a@b.example>{line}").as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        };
        let (of, memory) =
            (|domain: &str, line: &str| WaivedMail::new(&name(domain), &mail(line)), WaivedMails::of_next_tries());
        for content in [Content::EightBit, Content::International] {
            memory.note(&of("a.example", " SIZE=900").holding(content));
            assert_eq!(memory.shown(&of("a.example", " SIZE=900")), content);
            assert_eq!(memory.shown(&of("b.example", " SIZE=900")), Content::Ascii);
            assert_eq!(memory.shown(&of("a.example", " SIZE=901")), Content::Ascii);
            assert_eq!(memory.shown(&of("a.example", " SIZE=900 BODY=8BITMIME")), Content::Ascii);
        }
        tokio::time::advance(memory.keep).await;
        assert_eq!(memory.shown(&of("a.example", " SIZE=900")), Content::Ascii);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room() {
        let domains = EightBitDomains::of_domains();
        for index in 0..=domains.most {
            domains.note(&name(&format!("d{index}.example")));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(domains.undeclared(&name("d0.example")), Content::Ascii);
        assert_eq!(domains.undeclared(&name("d1.example")), Content::EightBit);
        assert_eq!(domains.undeclared(&name(&format!("d{}.example", domains.most))), Content::EightBit);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_remembered_for_a_day_within_the_bound() {
        let memory = WithoutBdat::of_addresses();
        let address = HostEndpoint { address: [192, 0, 2, 1].into(), port: None };
        assert!(!memory.knows(&address));
        memory.note(&address);
        assert!(memory.knows(&address));
        tokio::time::advance(memory.keep).await;
        assert!(!memory.knows(&address));
        for number in 0..2 * u32::try_from(memory.most).unwrap() {
            memory.note(&HostEndpoint { address: std::net::Ipv4Addr::from(number).into(), port: None });
        }
        assert!(memory.seen.read().len() <= memory.most);
        memory.note(&address);
        assert!(memory.knows(&address));
    }
}
