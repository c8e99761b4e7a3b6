//! Addresses that offer CHUNKING and refuse BDAT as a command (RFC 3030 §4.2 has CHUNKING mean that it is known).
//!
//! A message in chunks is not here any more when its first chunk is refused, and a server that does not know BDAT may have
//! read the chunk as commands. So the client hears 451, and its next try goes over another connection, as DATA.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::shards::{SHARDS, Shards};

/// How long it is remembered: longer than most clients wait before they try again, and not for ever, for servers are mended.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;

/// The memory. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct WithoutBdat(Arc<Shards<IpAddr, Instant>>);

impl WithoutBdat {
    /// Empty.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shards::new()))
    }

    /// This address has refused BDAT.
    pub(super) fn note(&self, address: IpAddr) {
        let now = Instant::now();
        let mut seen = self.0.of(&address);
        seen.retain(|_, seen| now.duration_since(*seen) < KEEP);
        if seen.len() >= MAX_ADDRESSES / SHARDS {
            let oldest = seen.iter().min_by_key(|(_, seen)| **seen).map(|(address, _)| *address);
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
            }
        }
        seen.insert(address, now);
    }

    /// Whether it has done so not long ago.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.0.of(&address).get(&address).is_some_and(|seen| seen.elapsed() < KEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn for_a_day_and_no_more_than_so_many() {
        let memory = WithoutBdat::new();
        let address = IpAddr::from([192, 0, 2, 1]);
        assert!(!memory.knows(address));
        memory.note(address);
        assert!(memory.clone().knows(address));
        tokio::time::advance(KEEP).await;
        assert!(!memory.knows(address));
        for number in 0..2 * u32::try_from(MAX_ADDRESSES).unwrap() {
            memory.note(std::net::Ipv4Addr::from(number).into());
        }
        assert!(memory.0.each().map(|seen| seen.len()).sum::<usize>() <= MAX_ADDRESSES);
        memory.note(address);
        assert!(memory.knows(address));
    }
}
