//! The sockets of the library, and whether the system refused one: the library itself reports that as "no connections".

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::net::runtime::{RuntimeProvider, TokioRuntimeProvider};

use crate::scarce::Scarcity;

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

/// Opens sockets as the library does, and notes a resource that has run out. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct DnsSockets {
    runtime: TokioRuntimeProvider,
    shortage: Arc<Mutex<Option<Shortage>>>,
}

/// The resource that has run out, and when.
#[derive(Clone, Copy)]
struct Shortage {
    of: Scarcity,
    seen: Instant,
}

impl DnsSockets {
    /// The resource that has run out since then, if a socket was refused.
    pub(super) fn shortage_since(&self, then: Instant) -> Option<Scarcity> {
        let shortage = *self.shortage.lock().unwrap_or_else(PoisonError::into_inner);
        shortage.filter(|shortage| shortage.seen >= then).map(|shortage| shortage.of)
    }

    fn noting<T: 'static>(&self, opening: Opening<T>) -> Opening<T> {
        let shortage = Arc::clone(&self.shortage);
        Box::pin(async move {
            let opened = opening.await;
            if let Some(of) = opened.as_ref().err().and_then(Scarcity::of) {
                *shortage.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shortage { of, seen: Instant::now() });
            }
            opened
        })
    }
}

impl RuntimeProvider for DnsSockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.runtime.create_handle()
    }

    fn connect_tcp(&self, server: SocketAddr, bind: Option<SocketAddr>, wait: Option<Duration>) -> Opening<Self::Tcp> {
        self.noting(self.runtime.connect_tcp(server, bind, wait))
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        self.noting(self.runtime.bind_udp(local, server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_shortage_is_noted() {
        let (sockets, began) = (DnsSockets::default(), Instant::now());
        let failing = |number| -> Opening<()> { Box::pin(async move { Err(io::Error::from_raw_os_error(number)) }) };
        // ECONNREFUSED, and EMFILE: the numbers are Linux's.
        assert!(sockets.noting(failing(111)).await.is_err());
        assert_eq!(sockets.shortage_since(began), None);
        assert!(sockets.clone().noting(failing(24)).await.is_err());
        assert_eq!(sockets.shortage_since(began), Some(Scarcity::OwnDescriptors));
        assert_eq!(sockets.shortage_since(Instant::now()), None);
    }
}
