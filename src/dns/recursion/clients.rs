//! The clients of authoritative servers: one for each address that was asked of late, so that the questions to a server
//! share its TCP connections (RFC 7766 §6.2.1).
//!
//! Strangers name the servers. So there are not many clients, and one that was not asked for a while is dropped with its
//! connections.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;

use super::super::query::QueryClient;

/// How many clients are kept. Each may have connections.
const MAX_CLIENTS: usize = 256;
/// How long a client is kept without a question. Its connections end sooner.
const IDLE: Duration = Duration::from_secs(30);

/// The clients of all authoritative servers.
pub(super) struct AuthorityClients {
    port: u16,
    /// The longest time for connecting.
    timeout: Duration,
    tls: Arc<ClientConfig>,
    kept: Mutex<HashMap<IpAddr, KeptClient>>,
}

struct KeptClient {
    client: Arc<QueryClient>,
    asked: Instant,
}

impl AuthorityClients {
    /// Clients of servers at this port. There is none yet.
    pub(super) fn new(port: u16, timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        Self { port, timeout, tls, kept: Mutex::default() }
    }

    /// The client of the server that is dialled at this address.
    pub(super) fn to(&self, address: IpAddr) -> Arc<QueryClient> {
        let now = Instant::now();
        // Entries are put in and taken out whole.
        let mut kept = self.kept.lock();
        if let Some(known) = kept.get_mut(&address) {
            known.asked = now;
            return Arc::clone(&known.client);
        }
        kept.retain(|_, known| now - known.asked < IDLE);
        while kept.len() >= MAX_CLIENTS
            && let Some(oldest) = kept.iter().min_by_key(|(_, known)| known.asked).map(|(address, _)| *address)
        {
            kept.remove(&oldest);
        }
        let client = Arc::new(self.open(address, self.timeout));
        kept.insert(address, KeptClient { client: Arc::clone(&client), asked: now });
        client
    }

    /// A client that shares no connection with others.
    pub(super) fn open(&self, address: IpAddr, timeout: Duration) -> QueryClient {
        QueryClient::new(SocketAddr::new(address, self.port).into(), timeout, Arc::clone(&self.tls))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::super::setup::ResolverSettings;
    use super::*;

    fn server(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_has_one_client_until_it_is_idle_or_displaced() {
        let tls = ResolverSettings::default().tls_client().unwrap();
        let clients = AuthorityClients::new(53, Duration::from_secs(1), tls);
        let first = clients.to(server(0));
        assert!(Arc::ptr_eq(&first, &clients.to(server(0))));
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        assert!(Arc::ptr_eq(&first, &clients.to(server(0))));
        for number in 1..=3 * MAX_CLIENTS {
            clients.to(server(number));
            assert!(Arc::ptr_eq(&first, &clients.to(server(0))), "one that is asked all the time stays");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(clients.kept.lock().len(), MAX_CLIENTS);
        tokio::time::advance(IDLE).await;
        clients.to(server(1));
        assert_eq!(clients.kept.lock().len(), 1);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
