//! The messages: each carries its number, and its body follows from that, so that the sink knows every expected octet
//! and compares them all. Loss and duplication are counted by number.
//!
//! Bodies are cut out of one pool of base64-like lines, each from another line on, some lines starting with a (stuffed)
//! dot. The comparison is of the form on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BytesMut};
use memchr::memmem;

/// Octets of a line, CRLF included, as in base64.
const LINE: usize = 78;
/// Lines in the pool: a prime, so that bodies begin all over it.
const LINES: usize = 4093;
/// The longest header section that is waited for.
const MAX_HEADER: usize = 64 * 1024;

/// The lines from which all bodies are cut.
pub(crate) struct Pool(Vec<u8>);

impl Pool {
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut octets = Vec::with_capacity(LINES * LINE);
        for line in 0..LINES {
            for _ in 0..LINE - 2 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                octets
                    .push(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state >> 58) as usize]);
            }
            if line % 50 == 0 {
                octets[line * LINE..][..2].copy_from_slice(b"..");
            }
            octets.extend_from_slice(b"\r\n");
        }
        Self(octets)
    }

    /// The longest piece of a body from here on.
    fn piece(&self, stamp: &Stamp, done: usize) -> &[u8] {
        let start = (stamp.number.wrapping_mul(7919) as usize % LINES) * LINE;
        let from = (start + done) % self.0.len();
        let length = (stamp.lines * LINE - done).min(self.0.len() - from);
        &self.0[from..][..length]
    }
}

/// The properties that a message's header states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The load that it belongs to.
    pub(crate) run: u32,
    /// Its number in that load.
    pub(crate) number: u64,
    /// The lines of its body.
    pub(crate) lines: usize,
    /// When it was submitted: nanoseconds of the system's clock, which all processes read.
    pub(crate) sent: u64,
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

impl Stamp {
    /// A stamp for a message of about so many octets.
    pub(crate) fn new(run: u32, number: u64, octets: usize) -> Self {
        Self { run, number, lines: (octets.saturating_sub(300) / LINE).max(1), sent: now() }
    }

    pub(crate) fn header(&self, recipient: &str) -> String {
        let Self { run, number, lines, sent } = self;
        format!(
            "From: <source@source.test>\r\nTo: <{recipient}>\r\nDate: Tue, 01 Jan 2030 00:00:00 +0000\r\n\
             Message-ID: <{run}.{number}@source.test>\r\nSubject: a message of the relay benchmark\r\n\
             X-Relay: {run} {number} {lines} {sent}\r\n\r\n"
        )
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let at = memmem::find(header, b"\r\nX-Relay: ")? + 11;
        let line = std::str::from_utf8(&header[at..]).ok()?.lines().next()?;
        let mut words = line.split(' ');
        let mut next = || words.next()?.parse::<u64>().ok();
        let (run, number, lines, sent) = (next()?, next()?, next()?, next()?);
        Some(Self { run: run.try_into().ok()?, number, lines: lines.try_into().ok()?, sent })
    }

    /// The body in pieces, without the final dot.
    pub(crate) fn body<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a [u8]> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let piece = pool.piece(self, done);
            done += piece.len();
            (!piece.is_empty()).then_some(piece)
        })
    }
}

/// The result of the comparison at the end of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Octet for octet the sent message.
    Whole(Stamp),
    /// Other octets.
    Damaged(Option<Stamp>),
    /// No message at all, but a lone dot.
    Nothing,
}

/// Reads one message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Reader {
    #[default]
    Header,
    Body(Stamp, usize),
    /// It differs from the sent message; the reader looks for its end.
    Astray(Option<Stamp>),
}

impl Reader {
    /// Takes the octets of the message from the input, and returns the result when the message has ended.
    pub(crate) fn read(&mut self, pool: &Pool, input: &mut BytesMut) -> Option<Received> {
        loop {
            match *self {
                Self::Header => {
                    if input.starts_with(b".\r\n") {
                        input.advance(3);
                        return Some(Received::Nothing);
                    }
                    let Some(end) = memmem::find(input, b"\r\n\r\n") else {
                        if input.len() < MAX_HEADER {
                            return None;
                        }
                        *self = Self::Astray(None);
                        continue;
                    };
                    *self = match Stamp::parse(&input[..end + 2]) {
                        Some(stamp) => {
                            input.advance(end + 4);
                            Self::Body(stamp, 0)
                        }
                        // The empty line stays in the input: the final dot may come directly after it.
                        None => Self::Astray(None),
                    };
                }
                Self::Body(stamp, done) if done < stamp.lines * LINE => {
                    if input.is_empty() {
                        return None;
                    }
                    let piece = pool.piece(&stamp, done);
                    let length = piece.len().min(input.len());
                    *self = if input[..length] == piece[..length] {
                        input.advance(length);
                        Self::Body(stamp, done + length)
                    } else {
                        Self::Astray(Some(stamp))
                    };
                }
                Self::Body(stamp, _) => {
                    if input.len() < 3 {
                        return None;
                    }
                    if input.starts_with(b".\r\n") {
                        input.advance(3);
                        return Some(Received::Whole(stamp));
                    }
                    *self = Self::Astray(Some(stamp));
                }
                Self::Astray(stamp) => {
                    let Some(end) = memmem::find(input, b"\r\n.\r\n") else {
                        input.advance(input.len().saturating_sub(4));
                        return None;
                    };
                    input.advance(end + 5);
                    return Some(Received::Damaged(stamp));
                }
            }
        }
    }
}

/// The check that `cargo test` runs on this benchmark: the comparison can tell a message from a damaged one.
pub(crate) fn self_check() {
    let pool = Pool::new();
    for octets in [400, 4096, 700_000] {
        let stamp = Stamp::new(7, 4711, octets);
        let mut whole = b"Received: from somewhere\r\n".to_vec();
        whole.extend_from_slice(stamp.header("u@h0.bench.test").as_bytes());
        stamp.body(&pool).for_each(|piece| whole.extend_from_slice(piece));
        whole.extend_from_slice(b".\r\n");
        let read = |octets: &[u8], step: usize| {
            let (mut reader, mut input) = (Reader::default(), BytesMut::new());
            octets.chunks(step).find_map(|chunk| {
                input.extend_from_slice(chunk);
                reader.read(&pool, &mut input)
            })
        };
        for step in [1000, 16 * 1024, usize::MAX] {
            assert_eq!(read(&whole, step), Some(Received::Whole(stamp)));
            let mut damaged = whole.clone();
            let middle = damaged.len() - 40;
            damaged[middle] ^= 1;
            assert_eq!(read(&damaged, step), Some(Received::Damaged(Some(stamp))));
            let mut longer = whole.clone();
            longer.truncate(longer.len() - 3);
            longer.extend_from_slice(b"more\r\n.\r\n");
            assert_eq!(read(&longer, step), Some(Received::Damaged(Some(stamp))));
        }
    }
}
