//! The connections. They are few, and one that has failed is closed at once: a pool of the library would keep a connection whose
//! call was given up, and would wait for its answer.

use std::time::Duration;

use parking_lot::Mutex;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::DatabaseOpenError;
use super::settings::DatabaseSettings;

/// The age at which a connection is closed: a firewall may have forgotten it, and the password may have changed.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

pub(super) struct ConnectionPool {
    settings: DatabaseSettings,
    permits: Semaphore,
    idle: Mutex<Vec<PooledConnection>>,
}

/// A connection, and when it was made.
pub(super) struct PooledConnection {
    pub(super) connection: PgConnection,
    since: Instant,
}

impl ConnectionPool {
    pub(super) fn new(settings: DatabaseSettings) -> Self {
        Self { permits: Semaphore::new(settings.connections), settings, idle: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// Waits for the right to use a connection.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed; without a permit there would be a connection too many.
        self.permits.acquire().await.ok()
    }

    /// A connection that waits, the one used last first.
    pub(super) fn idle(&self) -> Option<PooledConnection> {
        let mut idle = self.idle.lock();
        idle.retain(|pooled| pooled.since.elapsed() < MAX_AGE);
        idle.pop()
    }

    pub(super) async fn connect(&self) -> Result<PooledConnection, DatabaseOpenError> {
        let connection = self.settings.options()?.connect().await?;
        Ok(PooledConnection { connection, since: Instant::now() })
    }

    pub(super) fn put(&self, pooled: PooledConnection) {
        self.idle.lock().push(pooled);
    }

    /// Closes all that wait: the server has gone.
    pub(super) fn clear(&self) {
        self.idle.lock().clear();
    }
}
