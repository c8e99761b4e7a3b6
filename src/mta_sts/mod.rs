//! MTA-STS (RFC 8461): a domain says over HTTPS which exchanges it has, and that public CAs vouch for their keys.
//!
//! DNSSEC can prove an MX record. MTA-STS does the same service for a domain that is not signed: its *policy* is a text on a web
//! host whose certificate a CA has signed, so that a forged MX record leads to a host that the policy does not list. It is
//! weaker than DANE: the first contact is trusted, and so is every CA.
//!
//! - [`record`] reads the TXT records at `_mta-sts`: there is a policy, and its id.
//! - [`policy`] reads the text of a policy, out of the fields of [`text`].
//! - [`pattern`] decides whether a policy lists an exchange.
//! - [`fetch`] judges the answer of a policy host.
//! - [`cache`] keeps policies, and decides how long each is in force.
//!
//! All of it is plain functions of values. `discovery` asks the DNS and the policy hosts, and has the clocks.

pub mod cache;
pub mod fetch;
pub mod pattern;
pub mod policy;
pub mod record;
mod text;

pub use self::fetch::StsFetchError;
pub use self::pattern::MxPattern;
pub use self::policy::{StsMode, StsPolicy, StsPolicyError, StsUse};
pub use self::record::{NoStsRecord, StsId, StsIdError};
