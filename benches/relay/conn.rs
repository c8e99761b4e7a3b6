//! One SMTP connection of a load source or of the bare pass-through: lines in, lines out, without any check.

use std::io;

use bytes::BytesMut;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// How much is read at a time.
pub(crate) const BLOCK: usize = 64 * 1024;

/// A stream, and the octets that were read from it and not yet used.
pub(crate) struct Conn<S> {
    pub(crate) stream: S,
    pub(crate) input: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// Reads more octets, at most so many.
    pub(crate) async fn fill(&mut self, most: usize) -> io::Result<()> {
        self.input.reserve(most);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The next so many replies, unchanged.
    pub(crate) async fn replies(&mut self, count: usize) -> io::Result<BytesMut> {
        let (mut at, mut left) = (0, count);
        while left > 0 {
            match memchr(b'\n', &self.input[at..]) {
                Some(end) => {
                    // 250-more, 250 last.
                    left -= usize::from(self.input.get(at + 3) != Some(&b'-'));
                    at += end + 1;
                }
                None => self.fill(4096).await?,
            }
        }
        let replies = self.input.split_to(at);
        if self.input.is_empty() {
            // A session that waits holds no buffer.
            self.input = BytesMut::new();
        }
        Ok(replies)
    }

    /// The next reply.
    pub(crate) async fn reply(&mut self) -> io::Result<BytesMut> {
        self.replies(1).await
    }
}

/// The first line of the reply, as text.
pub(crate) fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).lines().next_back().unwrap_or_default().to_owned()
}
