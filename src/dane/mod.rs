//! DANE for SMTP (RFC 6698, RFC 7671, RFC 7672): which TLSA records count, and whether a certificate chain matches.
//!
//! [`tlsa`] reads records and decides which are usable, with [`agility`] among digests; [`verify`] judges a chain by them and [`mismatch`] says why not.
//! `path` builds the certification path that a DANE-TA record needs: `certificate`, `extensions` and `dates` read the
//! certificates with the help of `der`, and `names` and `constraints` limit the path. All of it is plain functions from
//! values to a verdict: the time is an argument, and no file here knows of connections. [`pkix`] has the
//! names and words of the Web PKI's check, for hosts without DANE. [`publish`] is the way back: the
//! records that a server's operator should have. [`facts`] shows an operator the content of a certificate, and makes no decision.

pub mod agility;
mod certificate;
mod constraints;
mod dates;
mod der;
mod extensions;
pub mod facts;
pub mod mismatch;
mod names;
mod path;
pub mod pkix;
pub mod publish;
pub mod tlsa;
pub mod verify;
