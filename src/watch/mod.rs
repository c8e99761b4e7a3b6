//! The watch: whether the domains that mail goes to, and the operator's own, are about to break.
//!
//! Each run looks at each domain as a delivery would ([`check`](crate::check)), compares the facts with those before, and tells the
//! changes that a second look has confirmed.
//!
//! Plain functions decide: the domains that are due ([`agenda`]), the findings of the facts ([`findings`]), the time of their log events ([`states`]),
//! and the memory ([`book`]). The [`lookout`] fetches the facts, for [`Watch`] and for [`once`].

mod agenda;
pub(crate) mod book;
pub(crate) mod entry;
pub(crate) mod facts;
mod figures;
pub(crate) mod findings;
pub(crate) mod kept;
pub mod kinds;
pub mod looked;
pub mod letter;
mod log;
pub(crate) mod lookout;
pub(crate) mod once;
mod seen;
pub mod hosts;
pub mod settled;
pub(crate) mod states;
mod task;
pub mod view;

pub use task::{Watch, WatchProgress};
