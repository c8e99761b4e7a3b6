//! Policies of MTA-STS while danelaw runs: each is fetched anew in its time (RFC 8461 §10.2).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::dns::stub::Stub;
use crate::session::Shared;

/// How often policies that are due are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Fetches the policies that are due, by the configuration that is in force then. Never ends.
pub(super) async fn keep_refreshing(shared: watch::Receiver<Arc<Shared<Stub>>>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; mail at the start goes first.
    looks.tick().await;
    loop {
        looks.tick().await;
        let mta_sts = shared.borrow().connector.mta_sts.clone();
        mta_sts.refresh_due().await;
    }
}
