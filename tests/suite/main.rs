//! Every test that danelaw passes in one process: with the lab, with certificates, and as a program.
//!
//! The tests of real servers (`tests/real`) and of the packages (`tests/packages`) are binaries of their own.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../certificates/mod.rs"]
mod certificates;
mod chain;
#[path = "../shared/chart.rs"]
mod chart;
#[path = "../shared/command.rs"]
mod command;
#[path = "../lab/mod.rs"]
mod lab;
mod log;
mod openssl;
mod process;
#[path = "../lab/sequences.rs"]
mod sequences;

// The delivery path.
mod admin;
mod browser;
mod chunking;
mod cut;
mod declared;
mod delivery_path;
mod ehlo;
mod fanout;
mod hostile_remotes;
mod listener_level;
mod listener_tls;
mod lmtp;
mod mx_iteration;
mod negative_anchors;
mod nat64;
mod networks;
mod next_hop;
mod observe;
mod patience;
mod pipelining;
mod pool;
mod proxy_header;
mod random_remotes;
mod replies;
mod requiretls;
mod routes;
mod smuggling;
mod starttls;
mod tls_required_no;

mod collectd;
mod tlsrpt;
mod tlsrpt_read;
mod tlsrpt_send;
mod sts;

// DNS.
mod dns;
mod expensive;
mod fallback;
mod hostile;
mod recombined;
mod recursion;
mod self_test;
mod connections;
mod trust_ad;

// Policies of MTA-STS.
mod mta_sts;

// TLS and certificates.
mod dane;
mod flood;
mod matrix;
mod pkix;
mod tls;

// The record of outcomes.
mod journal;
mod store;

// The program: its commands, files, manual pages, alerts and dashboard.
mod check;
mod check_lists;
mod check_loops;
mod check_sts;
mod clumsy;
mod configuration;
mod manual;
mod reload;
mod report;
mod resolve;
mod stdout;
mod tlsa;
mod watch;
mod watching;
