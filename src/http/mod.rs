//! HTTP as a client (RFC 9112): one request on one connection, for policies of MTA-STS, TLS reports and the admin port.
//!
//! A server that a stranger names may send anything, so each answer is bounded in octets and in the number of its header
//! fields while it is read. The limit of time is the caller's. There is no redirect, no proxy, no cookie and no compression
//! here: the caller gets the answer of the host that it named, or an error.

mod exchange;
mod https;

pub use self::exchange::{HttpContent, HttpError, HttpHead, HttpLimits, HttpPost, HttpResponse, get, post};
pub use self::https::{HostCertificates, HttpsClient, HttpsError, HttpsPart};
