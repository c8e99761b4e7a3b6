//! SMTP and LMTP as values: lines, addresses, commands, replies, message data (RFC 5321, RFC 2033).
//!
//! Each module here is a plain function or a plain state machine over bytes; none of them knows sockets.

pub mod address;
pub mod block;
pub mod chunk;
pub mod command;
pub mod data;
pub mod extensions;
pub mod line;
pub mod message_names;
pub mod reply;
pub mod stuffing;
pub mod tls_required;
