//! One framed connection: the input that was read and not yet used, the output that was written and not yet sent.
//!
//! Each read has a time limit. Output is sent only by an explicit [`Wire::flush`] or while a reply is awaited: a turn of
//! the dialogue is one packet, and a TLS stream that is not flushed deadlocks its peer. Input that is left over before TLS
//! decides about security, so [`Wire::into_stream`] returns the stream only if no input is left (RFC 3207 §4.2; A-05).

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use crate::smtp::block::{READ_OFFSET, block};
use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Reply, ReplyDecoder, ReplyError};

/// The most octets of one read, unless the caller asks for more. The buffers of a session stay within a small multiple of
/// it.
pub const BLOCK: usize = 16 * 1024;

/// The most octets of one read where a reply is due.
const REPLY: usize = 1024;

/// The time for a reply before MAIL to show a code, once a line without a code has come. Some hosts greet with a banner of
/// text and let clients wait before the 220.
const STRAY: Duration = Duration::from_secs(30);

/// The wait in which the kernel is asked once more for octets, when the time for them is over.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// One connection, to a client or to a remote.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    /// Octets that were read and not yet used.
    pub input: BytesMut,
    /// Octets that were written and not yet sent.
    pub output: BytesMut,
}

/// Why no more input came.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The limit passed.
    #[error("nothing came within {0:?}")]
    Timeout(Duration),
    /// The connection is broken or was closed by the peer.
    #[error("{0}")]
    Lost(#[from] io::Error),
    /// The input is no reply.
    #[error("{0}")]
    Protocol(#[from] ReplyError),
}

/// Whether the output is sent while a reply is awaited.
#[derive(Debug, Clone, Copy)]
enum Output {
    /// It is sent.
    Sent,
    /// No octet may reach the peer any more.
    Held,
}

/// How [`Wire::flush_watching`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// The kernel has taken all octets.
    Sent,
    /// The peer spoke first.
    Interrupted,
}

/// Octets came where none may be: right behind the answer to STARTTLS.
#[derive(Debug, thiserror::Error)]
#[error("bytes are left over before TLS")]
pub struct Leftover;

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A connection before its first octet.
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

    /// Reads the octets that have arrived; waits for the first one.
    ///
    /// # Errors
    /// [`WireError::Timeout`] after `limit`; [`WireError::Lost`], at the end of the stream too.
    pub async fn fill(&mut self, limit: Duration) -> Result<(), WireError> {
        self.fill_up_to(BLOCK, limit).await
    }

    /// The same, and no more than `most` octets. It holds no memory while it waits for the first one.
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

    /// Reduces the memory for input to the octets that it holds.
    pub fn release(&mut self) {
        release(&mut self.input);
    }

    /// Lets the next read use a block of at most `most` octets that was sent: it is in the processor's cache, and a new one is
    /// not.
    pub fn reuse(&mut self, mut block: BytesMut, most: usize) {
        if self.input.is_empty() && block.capacity() <= most {
            block.clear();
            self.input = block;
        }
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

    /// Reads the next reply of a remote, all lines of it, and sends the output meanwhile: a remote may read the rest of a
    /// group of commands only after the client has read the replies to the first ones (RFC 2920 §3.1).
    ///
    /// # Errors
    /// As [`Wire::fill`], with a limit for the whole reply; [`WireError::Protocol`] if it is no reply.
    pub async fn reply(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.decoded(ReplyDecoder::new(), limit, Output::Sent).await
    }

    /// The same with a decoder that may be more tolerant. A peer that sends lines without a code and then no more is no mail
    /// server, so the wait for it is short.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn reply_by(&mut self, decoder: ReplyDecoder, limit: Duration) -> Result<Reply, WireError> {
        self.decoded(decoder, limit, Output::Sent).await
    }

    /// Reads the reply that a remote has begun or is to begin, while no more octets may reach the remote: unsent output is
    /// dropped, and octets that TLS still holds stay there. The connection is of no further use then.
    ///
    /// # Errors
    /// As [`Wire::reply`].
    pub async fn last_reply(&mut self, limit: Duration) -> Result<Reply, WireError> {
        self.output = BytesMut::new();
        self.decoded(ReplyDecoder::new(), limit, Output::Held).await
    }

    /// Reads one reply within the limit. Only the tolerant decoders accept lines without a code.
    async fn decoded(
        &mut self,
        mut decoder: ReplyDecoder,
        limit: Duration,
        output: Output,
    ) -> Result<Reply, WireError> {
        match by(Instant::now() + limit, self.decode(&mut decoder, output)).await {
            Ok(Err(WireError::Lost(_))) | Err(_) if decoder.has_only_strays() => Err(ReplyError::NoCode.into()),
            Ok(decoded) => decoded,
            Err(_) => Err(WireError::Timeout(limit)),
        }
    }

    /// Reads one reply. The only limit is that behind lines without a code.
    async fn decode(&mut self, decoder: &mut ReplyDecoder, output: Output) -> Result<Reply, WireError> {
        let mut since_strays = None;
        loop {
            if let Some(reply) = decoder.decode(&mut self.input)? {
                return Ok(reply);
            }
            if decoder.has_only_strays() {
                let until = *since_strays.get_or_insert_with(Instant::now) + STRAY;
                timeout_at(until, self.fill_while(output)).await.map_err(io::Error::from)??;
            } else {
                self.fill_while(output).await?;
            }
        }
    }

    /// Reads the octets that have arrived, and sends the output until then if it may be sent.
    async fn fill_while(&mut self, output: Output) -> io::Result<()> {
        let Self { stream, input, output: unsent } = self;
        std::future::poll_fn(|cx| {
            let sent = match output {
                Output::Sent => poll_output(stream, unsent, cx),
                Output::Held => Poll::Pending,
            };
            match (poll_input::<REPLY, _>(stream, input, cx), sent) {
                // A remote that takes no more output may have said why.
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (read, _) => read,
            }
        })
        .await
    }

    /// Sends the output.
    ///
    /// # Errors
    /// [`WireError::Timeout`] if the peer does not take it within `limit`, [`WireError::Lost`] if the connection is broken.
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

    /// Sends the output and `more` behind it, unless the peer speaks first: a remote that refuses a message before its end
    /// may stop reading, and without this its answer would never be seen. The answer is in `input` then, and the
    /// unsent octets are in `output` and `more`.
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

    /// Reads the octets that have arrived, without waiting.
    ///
    /// # Errors
    /// If the connection is broken or closed and no octet is there to read.
    pub async fn fill_ready(&mut self) -> io::Result<()> {
        let Self { stream, input, .. } = self;
        std::future::poll_fn(|cx| match poll_input::<REPLY, _>(stream, input, cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        })
        .await
    }

    /// Closes the writing side; TLS sends close_notify first (RFC 8446 §6.1).
    ///
    /// # Errors
    /// If the peer is gone already, or the close takes longer than `limit`.
    pub async fn close(&mut self, limit: Duration) -> io::Result<()> {
        timeout(limit, self.stream.shutdown()).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The same connection with its stream in another type. Input and output stay.
    pub fn wrapped<T>(self, wrap: impl FnOnce(S) -> T) -> Wire<T> {
        Wire { stream: wrap(self.stream), input: self.input, output: self.output }
    }

    /// The stream itself, for a layer of TLS on top of it.
    ///
    /// # Errors
    /// [`Leftover`] if input or output is left: octets that came in the clear must never count as sent under TLS.
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

/// Reads at most `N` octets through the stack, so that a connection that waits holds no memory for input.
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

/// Reads fewer than `most` octets into the input itself. A connection that waits holds no memory for them.
fn poll_large_input<S>(stream: &mut S, input: &mut BytesMut, most: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncRead + Unpin,
{
    let room = most - READ_OFFSET;
    if input.is_empty() && !input.try_reclaim(room) {
        *input = block(READ_OFFSET, room);
    }
    input.reserve(room);
    match pin!(stream.read_buf(&mut input.limit(room))).poll(cx) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(read) => {
            // A block that is mostly empty is given up: it would be held while its few octets are on their way.
            if input.len() < room / 2 {
                release(input);
            }
            Poll::Ready(read.map(drop))
        }
        Poll::Pending => {
            release(input);
            Poll::Pending
        }
    }
}

fn release(buffer: &mut BytesMut) {
    *buffer = if buffer.is_empty() { BytesMut::new() } else { BytesMut::from(&buffer[..]) };
}

/// Awaits input or output until the deadline. Octets that wait in the socket when the time is over still count: danelaw may have been
/// stopped meanwhile (SIGSTOP), and the kernel is not asked for them before the clock when it goes on (epoll_wait fails with EINTR).
///
/// # Errors
/// [`Elapsed`] if it is not ready by then.
pub async fn by<T>(deadline: Instant, io: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut io = pin!(io);
    match timeout_at(deadline, &mut io).await {
        Ok(done) => Ok(done),
        Err(_) => timeout(LAST_LOOK, io).await,
    }
}

async fn within<T, E>(limit: Duration, io: impl Future<Output = Result<T, E>>) -> Result<T, WireError>
where
    WireError: From<E>,
{
    match by(Instant::now() + limit, io).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(WireError::Timeout(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_without_a_code_are_waited_behind_for_a_while() {
        // A text banner with a greet delay behind it. More lines give no more time, and the limit of the step holds.
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
            let reply = Wire::new(stream).reply_by(ReplyDecoder::before_mail(), limit * second).await;
            let found = reply.as_ref().map(Reply::to_string).map_err(|_| began.elapsed().as_secs());
            assert_eq!(found.as_deref().map_err(|seconds| *seconds), read, "{pauses:?}");
            said.abort();
        }
    }
}
