//! placeholder
pub mod cli;
pub mod config;
pub mod dane;
pub mod dns;
pub mod mx;
pub mod name;
pub mod policy;
pub mod refusal;
pub mod report;
pub mod server;
pub mod session;
pub mod smtp;
pub mod tls;
pub mod upstream;
pub mod wire;
