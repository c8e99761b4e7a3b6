//! Domains for which the client sent 8-bit mail that it had not declared, to an exchange without 8BITMIME.
//!
//! The need shows only in the message, when the remote is settled. So that the client's next try comes to an exchange that
//! has the extension, the domain is remembered: its exchanges with 8BITMIME come first for a while (RFC 5321 §2.2.3).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::name::Name;
use crate::smtp::extensions::Content;

/// How long clients keep trying (RFC 5321 §4.5.4.1).
const KEEP: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// The most domains that are remembered. Most domains never come here.
const MAX_DOMAINS: usize = 1024;

/// The memory.
#[derive(Debug, Default)]
pub struct EightBitDomains(Mutex<HashMap<Name, Instant>>);

impl EightBitDomains {
    /// The client will send this mail again.
    pub fn note(&self, domain: &Name) {
        let mut noted = self.noted();
        if noted.len() >= MAX_DOMAINS && !noted.contains_key(domain) {
            noted.retain(|_, since| since.elapsed() < KEEP);
            let oldest = noted.iter().min_by_key(|(_, since)| **since).map(|(domain, _)| domain.clone());
            if let (true, Some(oldest)) = (noted.len() >= MAX_DOMAINS, oldest) {
                noted.remove(&oldest);
            }
        }
        noted.insert(domain.clone(), Instant::now());
    }

    /// The content that mail to this domain may hold although the client has not declared it.
    pub fn undeclared(&self, domain: &Name) -> Content {
        match self.noted().get(domain) {
            Some(since) if since.elapsed() < KEEP => Content::EightBit,
            Some(_) | None => Content::Ascii,
        }
    }

    fn noted(&self) -> MutexGuard<'_, HashMap<Name, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_remembered_for_a_while() {
        let domains = EightBitDomains::default();
        domains.note(&name("a.example"));
        assert_eq!(domains.undeclared(&name("a.example")), Content::EightBit);
        assert_eq!(domains.undeclared(&name("b.example")), Content::Ascii);
        tokio::time::advance(KEEP).await;
        assert_eq!(domains.undeclared(&name("a.example")), Content::Ascii);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_makes_room() {
        let domains = EightBitDomains::default();
        for index in 0..=MAX_DOMAINS {
            domains.note(&name(&format!("d{index}.example")));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(domains.undeclared(&name("d0.example")), Content::Ascii);
        assert_eq!(domains.undeclared(&name("d1.example")), Content::EightBit);
        assert_eq!(domains.undeclared(&name(&format!("d{MAX_DOMAINS}.example"))), Content::EightBit);
    }
}
