//! placeholder
pub mod name;
pub mod smtp;
pub mod dns;
pub mod mx;
pub mod dane;
pub mod policy;
pub mod refusal;
pub mod config;
pub mod tls;
pub mod wire;
pub mod upstream;
pub mod session;
pub mod report;
pub mod server;
pub mod cli;
