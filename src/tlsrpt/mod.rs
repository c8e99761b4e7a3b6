//! TLS reports (RFC 8460): which sessions with remotes went well, and which failed and why, told to the receiver's domain.
//!
//! A [`TlsEvent`] is one TLS session that danelaw tried to make with one address, or one host or domain that a failure of the
//! DNS or of the policy kept it from trying. The iteration over a domain's exchanges makes the events, and the
//! [`trace`](crate::trace) of the attempt carries them; no mail waits for them. A [`TlsTally`](tally::TlsTally) counts them
//! by domain, policy and failure. A [`record`] says where a domain wants its reports, [`window`] when they are due, and
//! [`document`] writes one. In mode "collectd" another program does all that: [`collectd`] tells it each event as a
//! [`datagram`]. In mode "send" the [`schedule`] says which reports are due, [`mime`] puts one into a mail, and [`dkim`] signs it;
//! `dispatch` carries that out.
//!
//! Nothing about people is in an event: no sender, no recipient but the domain, no subject, no size, no queue id.

pub mod collectd;
pub mod datagram;
pub mod dkim;
pub mod document;
pub mod event;
pub mod gzip;
pub mod held;
pub mod kept;
pub mod lookup;
pub mod mime;
pub mod read;
pub mod record;
pub mod report_end;
pub mod schedule;
pub mod scope;
pub mod tally;
pub mod tried;
pub mod window;

pub use event::TlsEvent;
