//! danelaw between real servers: a Postfix without DANE hands it mail, real Postfix hosts are the MX, nsd serves signed
//! zones under a root key of the lab's own, unbound resolves.
//!
//! Each test is the happy path with one change ([`case::Case`]) and runs on its own addresses of loopback. It needs
//! root and the servers: `tests/run` provides both, and a network namespace. Each test cites the rows of the
//! requirements (`B1`) that it proves.

#![allow(clippy::expect_used, reason = "a lab that cannot be set up is a test that fails")]

mod case;
mod client_runs;
mod dns;
mod forwarders;
mod lab;
mod message;
mod net;
mod other_mtas;
mod peers;
mod pki;
mod policy;
mod policy_host;
mod postfix;
mod process;
mod program;
mod root;
mod smtp;
mod zone_corpus;
mod zones;
#[path = "../shared/command.rs"]
mod command;
#[path = "../lab/certs.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "this binary uses a part of the lab in one process")]
mod certs;
#[path = "../lab/sequences.rs"]
mod sequences;

mod answers;
mod check;
mod chunking;
mod client_tls;
mod clients;
mod differential;
mod delivery;
mod programs;
mod reference;
mod refusal;
mod resolver;
mod smuggling;
mod sts;
