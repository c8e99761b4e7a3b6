//! The settings and services that sessions share, and the address of a client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::Journal;
use crate::report::Reporter;
use crate::rules::Rules;
use crate::smtp::command::Strictness;
use crate::smtp::data::BareNewlines;
use crate::terms::ListenerTerms;
use crate::tls::server::ListenerSecurity;
use crate::transaction::dialogue::Us;
use crate::upstream::Connector;

/// The part of the configuration and the services that all sessions share.
#[derive(Debug)]
pub struct Shared<R> {
    /// Connects to remotes.
    pub connector: Connector<R>,
    /// The level of each domain.
    pub rules: Rules,
    /// Our own name and limits.
    pub us: Us,
    /// Whether to add a Received line.
    pub received: Received,
    /// The treatment of bare CR and LF.
    pub bare_newlines: BareNewlines,
    /// How long a client may be silent between commands, and within a message (RFC 5321 §4.5.3.2.7).
    pub client_timeout: Duration,
    /// How long open transactions may go on after the signal to stop.
    pub grace: Duration,
    /// The outcomes of fan-out messages that clients have to send again.
    pub journal: Journal,
    /// Client sessions at a time.
    pub max_sessions: usize,
    /// Each listener, in the order of the configuration.
    pub listeners: Vec<ListenerShared>,
    /// Writes down the outcome of each attempt.
    pub reporter: Arc<Reporter>,
}

/// The settings of one listener that its sessions share.
#[derive(Debug, Clone)]
pub struct ListenerShared {
    /// TLS with its clients.
    pub security: ListenerSecurity,
    /// Its terms for mail.
    pub terms: ListenerTerms,
    /// How strictly commands are read.
    pub strictness: Strictness,
}

/// Whether our Received line is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is.
    Add,
    /// The message stays as it is, byte for byte.
    Omit,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another socket's address.
    Address(IpAddr),
    /// This machine, by a socket in the file system.
    UnixSocket,
}

impl fmt::Display for Origin {
    /// As in a comment of the Received line (RFC 5321 §4.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(v4)) => write!(f, "[{v4}]"),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[IPv6:{v6}]"),
            Self::UnixSocket => f.write_str("unix socket"),
        }
    }
}
