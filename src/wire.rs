//! One framed connection: what was read and not yet used, what was written and not yet sent.
//!
//! Reading never goes past a time limit, writing happens only at an explicit [`Wire::flush`] (a turn of the dialogue is
//! one packet, and a TLS stream that is not flushed deadlocks its peer), and the one moment where leftovers decide
//! about security has its own method: [`Wire::into_stream`] gives the stream back only if nothing is left over
//! (RFC 3207 §4.2; A-05 of the attacks).

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Reply, ReplyDecoder, ReplyError};

/// How much is read at a time, unless more is asked for; input and output of a session stay within a small multiple of it.
pub const BLOCK: usize = 16 * 1024;

/// Where large reads begin in their memory. A TLS record is copied to five octets behind the start of a page, and AMD's
/// processors copy twenty times slower to a few octets behind where they read, as seen from the start of their pages
/// (measured on Zen, with glibc's `rep movsb`: 1.4 GB/s, and 28 GB/s from here).
const GAP: usize = 64;

/// How much is read at a time where a reply is due.
const REPLY: usize = 1024;

/// How long a reply before MAIL may go without a code, once words without one have come. Some hosts greet with a banner of text
/// and let clients wait before the 220.
const STRAY: Duration = Duration::from_secs(30);

/// One connection, to a client or to a remote.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    /// Read and not yet used.
    pub input: BytesMut,
    /// Written and not yet sent.
    pub output: BytesMut,
}

/// Why nothing more came.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The limit passed.
    #[error("nothing came within {0:?}")]
    Timeout(Duration),
    /// The connection is broken or was closed by the peer.
    #[error("{0}")]
    Lost(#[from] io::Error),
    /// What came is no reply.
    #[error("{0}")]
    Protocol(#[from] ReplyError),
}

/// How [`Wire::flush_watching`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is on its way.
    Sent,
    /// The peer spoke first.
    Interrupted,
}

/// Bytes came where none may be: right behind the answer to STARTTLS.
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over before TLS")]
pub struct Leftover;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection on which nothing was read or written yet.
    pub fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new() }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// As [`Wire::stream`].
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads what is there, at least one byte.
    ///
    /// # Errors
    /// [`WireError::Timeout`] after `limit`, [`WireError::Lost`] at the end of the stream too.
    pub async fn fill(&mut self, limit: Duration) -> Result<(), WireError> {
        self.fill_up_to(BLOCK, limit).await
    }

    /// Reads what is there, at least one byte and no more than so many. While nothing is there no memory is held for it.
    ///
    /// # Errors
    /// As [`Wire::fill`].
    pub async fn fill_up_to(&mut self, most: usize, limit: Duration) -> Result<(), WireError> {
        within(limit, self.read(most)).await
    }

    async fn read(&mut self, most: usize) -> io::Result<()> {
        let Self { stream, input, .. } = self;
        std::future::poll_fn(|cx| match most {
            ..=BLOCK => poll_input::<BLOCK, _>(stream, input, cx),
            most => poll_large_input(stream, input, most, cx),
        })
        .await
    }

    /// Holds no more memory for input than what is there needs.
    pub fn release(&mut self) {
        release(&mut self.input);
    }

    /// The next command line of a client.
    ///
    /// # Errors
    /// As [`Wire::fill`]; the limit is for the whole line.
    pub async fn line(&mut self, decoder: &mut LineDecoder, limit: Duration) -> Result<Line, WireError> {
        let read = async {
            loop {
                if let Some(line) = decoder.decode(&mut self.input) {
                    return Ok::<_, WireError>(line);
                }
                self.read(BLOCK).await?;
            }
        };
        within(limit, read).await
    }

    /// The next reply of a remote, whole. What was written and not yet sent goes out meanwhile: a remote may want its
    /// replies to a group of commands taken before it reads the rest of the group (RFC 2920 §3.1).
    ///
    /// # Errors
    /// As [`Wire::fill`], with a limit for the whole reply; [`WireError::Protocol`] if it is no reply.
    pub async fn reply(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.strictly(ReplyDecoder::new(), limit).await
    }

    /// The same for the reply to a session's first MAIL, in front of which empty lines may be left of the reply to EHLO.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn reply_to_first_mail(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.strictly(ReplyDecoder::to_first_mail(), limit).await
    }

    async fn strictly(&mut self, mut decoder: ReplyDecoder, limit: Duration) -> Result<Reply, WireError> {
        let read = async {
            loop {
                if let Some(reply) = decoder.decode(&mut self.input)? {
                    return Ok::<_, WireError>(reply);
                }
                self.fill_sending().await?;
            }
        };
        within(limit, read).await
    }

    /// The next reply of a remote that has not heard of a mail, read as tolerantly as Postfix reads it. A peer that has
    /// said words without a code and then no more is no mail server, and is not waited for as long as one.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn reply_before_mail(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.tolerantly(ReplyDecoder::before_mail(), limit).await
    }

    /// The same for the reply to EHLO, which is kept whole.
    ///
    /// # Errors
    /// As [`Wire::reply_before_mail`].
    pub async fn reply_to_ehlo(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.tolerantly(ReplyDecoder::to_ehlo(), limit).await
    }

    async fn tolerantly(&mut self, mut decoder: ReplyDecoder, limit: Duration) -> Result<Reply, WireError> {
        let began = Instant::now();
        let mut since_strays = None;
        loop {
            if let Some(reply) = decoder.decode(&mut self.input)? {
                return Ok(reply);
            }
            let mut until = began + limit;
            if decoder.has_only_strays() {
                until = until.min(*since_strays.get_or_insert_with(Instant::now) + STRAY);
            }
            match tokio::time::timeout_at(until, self.fill_sending()).await {
                Ok(Ok(())) => {}
                _ if decoder.has_only_strays() => return Err(ReplyError::NoCode.into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(WireError::Timeout(limit)),
            }
        }
    }

    /// The reply that a remote has begun or is to begin, while no more octets may reach it: unsent ones are dropped, and
    /// those that TLS still holds stay there. The connection is of no further use then.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn last_reply(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.output = BytesMut::new();
        let mut decoder = ReplyDecoder::new();
        let read = async {
            loop {
                if let Some(reply) = decoder.decode(&mut self.input)? {
                    return Ok::<_, WireError>(reply);
                }
                let Self { stream, input, .. } = self;
                std::future::poll_fn(|cx| poll_input::<REPLY, _>(stream, input, cx)).await?;
            }
        };
        within(limit, read).await
    }

    /// Reads what is there, at least one byte, and sends what can be sent until then.
    async fn fill_sending(&mut self) -> io::Result<()> {
        let Self { stream, input, output } = self;
        std::future::poll_fn(|cx| {
            let sent = poll_output(stream, output, cx);
            match (poll_input::<REPLY, _>(stream, input, cx), sent) {
                // A remote that takes nothing more may have said why.
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (read, _) => read,
            }
        })
        .await
    }

    /// Sends all that was written.
    ///
    /// # Errors
    /// [`WireError::Timeout`] if the peer does not take it within `limit`, [`WireError::Lost`] if it cannot be sent.
    pub async fn flush(&mut self, limit: Duration) -> Result<(), WireError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all_buf(&mut self.output).await?;
            self.stream.flush().await
        };
        within(limit, write).await
    }

    /// Sends all that was written and `more` behind it, unless the peer speaks first: a remote that has made up its mind in
    /// mid-message may stop reading, and its answer would never be seen. What it said is in `input` then, and what
    /// was not sent in `output` and `more`.
    ///
    /// # Errors
    /// As [`Wire::flush`].
    pub async fn flush_watching(&mut self, more: &mut &[u8], limit: Duration) -> Result<Flushed, WireError> {
        let Self { stream, input, output } = self;
        let mut output = output.chain(more);
        let write = std::future::poll_fn(|cx| match poll_output(stream, &mut output, cx) {
            Poll::Pending => poll_input::<REPLY, _>(stream, input, cx).map_ok(|()| Flushed::Interrupted),
            done => done.map_ok(|()| Flushed::Sent),
        });
        within(limit, write).await
    }

    /// Takes in what has already arrived, without waiting.
    ///
    /// # Errors
    /// If the connection is broken or closed and nothing is there to read.
    pub async fn fill_ready(&mut self) -> io::Result<()> {
        let Self { stream, input, .. } = self;
        std::future::poll_fn(|cx| match poll_input::<REPLY, _>(stream, input, cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        })
        .await
    }

    /// Closes the writing side; under TLS that says close_notify first (RFC 8446 §6.1).
    ///
    /// # Errors
    /// If the peer is gone already, or does not take it within `limit`.
    pub async fn close(&mut self, limit: Duration) -> io::Result<()> {
        tokio::time::timeout(limit, self.stream.shutdown()).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same connection with its stream in another type; what was read and written stays.
    pub fn wrapped<T>(self, wrap: impl FnOnce(S) -> T) -> Wire<T> {
        Wire { stream: wrap(self.stream), input: self.input, output: self.output }
    }

    /// The stream itself, for a layer of TLS on top of it.
    ///
    /// # Errors
    /// [`Leftover`] if anything was read that nobody has used: it must never be taken for something said under TLS.
    pub fn into_stream(self) -> Result<S, Leftover> {
        if self.input.is_empty() && self.output.is_empty() { Ok(self.stream) } else { Err(Leftover) }
    }
}

fn poll_output<S, B>(stream: &mut S, output: &mut B, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncWrite + Unpin,
    B: Buf,
{
    while output.has_remaining() {
        match Pin::new(&mut *stream).poll_write(cx, output.chunk()) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => output.advance(written),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Pin::new(stream).poll_flush(cx)
}

/// Reads at most `N` octets, by way of the stack: whoever waits holds no memory for what may come.
fn poll_input<const N: usize, S>(stream: &mut S, input: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncRead + Unpin,
{
    let mut scratch = [const { MaybeUninit::uninit() }; N];
    let mut buffer = ReadBuf::uninit(&mut scratch);
    Pin::new(stream).poll_read(cx, &mut buffer).map(|result| {
        result?;
        input.extend_from_slice(buffer.filled());
        if buffer.filled().is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    })
}

/// Reads fewer than so many octets to where they stay. Holds memory for them only while it tries.
fn poll_large_input<S>(stream: &mut S, input: &mut BytesMut, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncRead + Unpin,
{
    let room = most - GAP;
    if input.is_empty() {
        *input = BytesMut::with_capacity(most);
        input.put_bytes(0, GAP);
        input.advance(GAP);
    }
    input.reserve(room);
    match pin!(stream.read_buf(&mut input.limit(room))).poll(cx) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(read) => Poll::Ready(read.map(drop)),
        Poll::Pending => {
            release(input);
            Poll::Pending
        }
    }
}

fn release(buffer: &mut BytesMut) {
    *buffer = if buffer.is_empty() { BytesMut::new() } else { BytesMut::from(&buffer[..]) };
}

async fn within<T, E>(limit: Duration, io: impl Future<Output = Result<T, E>>) -> Result<T, WireError>
where
    WireError: From<E>,
{
    match tokio::time::timeout(limit, io).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(WireError::Timeout(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_without_a_code_are_waited_behind_for_a_while() {
        // A text banner with a greet delay behind it; more words give no more time, and the limit of the step holds.
        let second = Duration::from_secs(1);
        for (pauses, limit, read) in [
            (&[(1, "Welcome\r\n"), (25, "220 mx\r\n")][..], 300, Ok("220 mx")),
            (&[(1, "Welcome\r\n"), (35, "220 mx\r\n")], 300, Err(31)),
            (&[(1, "Welcome\r\n"), (20, "to mx\r\n"), (15, "220 mx\r\n")], 300, Err(31)),
            (&[(1, "Welcome\r\n"), (25, "220 mx\r\n")], 20, Err(20)),
            (&[(60, "220 mx\r\n")], 300, Ok("220 mx")),
        ] {
            let (mut remote, stream) = tokio::io::duplex(1024);
            let said = tokio::spawn(async move {
                for (pause, words) in pauses {
                    tokio::time::sleep(*pause * second).await;
                    let _ = remote.write_all(words.as_bytes()).await;
                }
                tokio::time::sleep(1000 * second).await;
            });
            let began = Instant::now();
            let reply = Wire::new(stream).reply_before_mail(limit * second).await;
            let found = reply.as_ref().map(Reply::to_string).map_err(|_| began.elapsed().as_secs());
            assert_eq!(found.as_deref().map_err(|seconds| *seconds), read, "{pauses:?}");
            said.abort();
        }
    }
}
