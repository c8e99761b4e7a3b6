//! Values as the backends keep them.

use bytes::BytesMut;

use crate::smtp::reply::{Reply, ReplyDecoder};

/// Most lines of a reply that are kept.
const MAX_LINES: usize = 8;

/// A reply as it is kept: as it would go over the wire.
pub(super) fn kept_reply(reply: &Reply) -> String {
    let mut octets = BytesMut::new();
    let lines = reply.lines().take(MAX_LINES);
    Reply::multiline(reply.code(), reply.enhanced(), lines).write(&mut octets);
    // PostgreSQL has no text with a NUL.
    String::from_utf8_lossy(&octets).replace('\0', "?")
}

/// The inverse of [`kept_reply`].
pub(super) fn reply_of(text: &str) -> Option<Reply> {
    ReplyDecoder::new().decode(&mut BytesMut::from(text.as_bytes())).ok().flatten()
}

/// The text for a value that danelaw does not write.
pub(super) fn damaged(column: &str) -> String {
    format!("the column {column} has a value that danelaw does not write")
}
