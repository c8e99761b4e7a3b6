//! Lines on their way to standard error.
//!
//! The reader of standard error may be slow, or may have stopped, and no mail may wait for that. So a line is put into a
//! bounded queue, and a thread of its own writes it. A line for which there is no room is dropped and counted, and once
//! standard error takes lines again the log says how many are missing. Lines that come within a millisecond are written at
//! once: waking the thread for each would take a tenth of the time of a small message.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The most octets that wait: about ten thousand deliveries.
const MOST: usize = 4 * 1024 * 1024;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// While lines are dropped all the time, the log says so this often.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The most octets of several lines in one write: a pipe takes so many in one piece (PIPE_BUF), so that no line of another
/// program comes between.
const TOGETHER: usize = 4096;
/// How long lines gather after a write.
const GATHER: Duration = Duration::from_millis(1);
/// How long to wait when standard error is non-blocking and full.
const PAUSE: Duration = Duration::from_millis(20);

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<QueueState>,
    changed: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Vec<u8>>,
    octets: usize,
    /// The thread sleeps until it is woken. To wake one that does not sleep is a needless system call.
    sleeps: bool,
    /// Lines that were dropped and that the log has not told of.
    untold: u64,
    told: Option<Instant>,
    phase: QueuePhase,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum QueuePhase {
    #[default]
    Open,
    /// The waiting lines are written, and no more after them.
    Ending,
    Ended,
}

/// Which lines are dropped where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    /// An event like any other.
    Event,
    /// A line that is never dropped: the account of dropped lines, or a panic.
    Account,
}

/// Lines that are written together.
#[derive(Default)]
struct NextLines {
    octets: Vec<u8>,
    /// Where the text of each of them ends. Behind it comes the line end.
    ends: Vec<usize>,
}

impl NextLines {
    fn add(&mut self, line: &[u8]) {
        self.octets.extend_from_slice(line);
        self.ends.push(self.octets.len() - usize::from(line.ends_with(b"\n")));
    }

    /// How many of the lines are not wholly within so many octets.
    fn beyond(&self, written: usize) -> usize {
        self.ends.iter().filter(|end| **end > written).count()
    }

    /// The end of the log once so many octets are in it, of which there are some.
    fn end_at(&self, written: usize) -> LogEnd {
        match self.octets.get(..written) {
            Some([.., b'\n']) => LogEnd::Whole,
            Some(part) if part.len() < self.octets.len() => LogEnd::Torn,
            Some(_) | None => LogEnd::Whole,
        }
    }
}

/// The end of the log so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogEnd {
    /// Each line is whole.
    Whole,
    /// The last line is a part of one: standard error gave an error in the middle.
    Torn,
}

/// Waits for the last lines when it is dropped, and not for long.
pub(super) struct AtEnd(Arc<Lines>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.phase = QueuePhase::Ending;
        self.0.changed.notify_all();
        let open = |state: &mut QueueState| state.phase != QueuePhase::Ended;
        self.0.changed.wait_while_for(&mut state, open, LAST_LINES);
    }
}

impl Lines {
    /// Lines that `sink` takes, as fast as it does; `account` says how many were dropped, once it takes lines again.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(sink: impl Write + Send + 'static, account: fn(u64)) -> io::Result<Arc<Self>> {
        let lines = Arc::<Self>::default();
        let writer = Arc::clone(&lines);
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write(sink, account))?;
        Ok(lines)
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits for the last lines at the end of the program.
    pub(super) fn at_end(self: &Arc<Self>) -> AtEnd {
        AtEnd(Arc::clone(self))
    }

    /// Puts a line behind those that wait.
    pub(super) fn push(&self, line: Vec<u8>, kind: LineKind) {
        let mut state = self.state.lock();
        if kind == LineKind::Event && state.octets + line.len() > MOST {
            state.untold += 1;
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.octets += line.len();
        state.waiting.push_back(line);
        let sleeps = std::mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.changed.notify_all();
        }
    }

    fn write(&self, mut sink: impl Write, account: fn(u64)) {
        let mut end = LogEnd::Whole;
        while let Some(next) = self.next() {
            match put_lines(&mut sink, &next, &mut end) {
                0 => {
                    if let Some(dropped) = self.to_tell() {
                        account(dropped);
                    }
                }
                lost => self.lost(lost as u64),
            }
            if self.state.lock().phase == QueuePhase::Open {
                thread::sleep(GATHER);
            }
        }
        self.state.lock().phase = QueuePhase::Ended;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<NextLines> {
        let nothing = |state: &mut QueueState| {
            state.sleeps = state.waiting.is_empty() && state.phase == QueuePhase::Open;
            state.sleeps
        };
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, nothing);
        let mut next = NextLines::default();
        next.add(&state.waiting.pop_front()?);
        while let Some(line) = state.waiting.front().filter(|line| next.octets.len() + line.len() <= TOGETHER) {
            next.add(line);
            state.waiting.pop_front();
        }
        state.octets -= next.octets.len();
        Some(next)
    }

    /// Standard error gave an error for so many lines.
    fn lost(&self, lines: u64) {
        self.state.lock().untold += lines;
        self.dropped.fetch_add(lines, Relaxed);
    }

    /// How many lines the log is to tell of now. While the queue is full there will be more, and one account is enough.
    fn to_tell(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let flows = state.octets <= MOST / 2;
        let is_due = flows || state.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if state.untold == 0 || !is_due {
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

/// Writes lines, and returns how many of them are not wholly in the log. A file on a full disk takes a part of them.
fn put_lines(sink: &mut impl Write, next: &NextLines, end: &mut LogEnd) -> usize {
    if *end == LogEnd::Torn {
        // The next line is not to look like the rest of this one.
        if put(sink, b"\n") == 0 {
            return next.ends.len();
        }
        *end = LogEnd::Whole;
    }
    let written = put(sink, &next.octets);
    if written > 0 {
        *end = next.end_at(written);
    }
    next.beyond(written)
}

/// Writes octets, and returns how many of them the sink has taken: fewer than all only after an error. Standard error does not
/// block where another program that shares it wants it so.
fn put(sink: &mut impl Write, octets: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes one write for each permit.
    struct Slow {
        permits: Receiver<()>,
        taken: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Slow {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.taken.lock().push(String::from_utf8_lossy(octets).into_owned());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Slow, SyncSender<()>, Arc<Mutex<Vec<String>>>) {
        let (permit, permits) = sync_channel(1_000_000);
        let taken = Arc::<Mutex<_>>::default();
        (Slow { permits, taken: Arc::clone(&taken) }, permit, taken)
    }

    #[test]
    fn lines_come_in_order_and_the_end_waits_for_them() {
        let (sink, permit, taken) = slow();
        let lines = Lines::start(sink, |_| unreachable!()).unwrap();
        let line = |number: usize| format!("{number}{}\n", " ".repeat(number));
        (0..100).for_each(|number| lines.push(line(number).into_bytes(), LineKind::Event));
        (0..100).for_each(|_| permit.send(()).unwrap());
        drop(lines.at_end());
        let taken = taken.lock();
        assert_eq!(taken.concat(), (0..100).map(line).collect::<String>());
        // In few writes, and each has whole lines.
        assert!(taken.len() <= 4, "{}", taken.len());
        assert!(taken.iter().all(|write| write.len() <= TOGETHER && write.ends_with('\n')));
        assert_eq!(lines.dropped().load(Relaxed), 0);
    }

    #[test]
    fn a_stuck_sink_delays_no_caller_and_dropped_lines_are_counted() {
        static TOLD: AtomicU64 = AtomicU64::new(0);
        let (sink, permit, taken) = slow();
        let lines = Lines::start(sink, |dropped| {
            TOLD.fetch_add(dropped, Relaxed);
        })
        .unwrap();
        let kilobyte = vec![b'x'; 1024];
        // Some are in the sink's hands, perhaps.
        let pushed = MOST / 1024 + 100;
        (0..pushed).for_each(|_| lines.push(kilobyte.clone(), LineKind::Event));
        let dropped = lines.dropped().load(Relaxed);
        assert!((96..=100).contains(&dropped), "{dropped}");
        // The account finds room.
        lines.push(b"account".to_vec(), LineKind::Account);
        (0..pushed).for_each(|_| permit.send(()).unwrap());
        drop(lines.at_end());
        assert_eq!(TOLD.load(Relaxed), dropped);
        let taken = taken.lock();
        let octets: usize = taken.iter().map(String::len).sum();
        assert_eq!(octets as u64 + 1024 * dropped, 1024 * pushed as u64 + "account".len() as u64);
        assert!(taken.last().unwrap().ends_with("account"));
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (sink, _permit, _) = slow();
        let lines = Lines::start(sink, |_| unreachable!()).unwrap();
        lines.push(b"x".to_vec(), LineKind::Event);
        let began = Instant::now();
        drop(lines.at_end());
        assert!(began.elapsed() >= LAST_LINES && began.elapsed() < LAST_LINES * 5);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start(Broken, |_| unreachable!()).unwrap();
        (0..7).for_each(|_| lines.push(b"x".to_vec(), LineKind::Event));
        drop(lines.at_end());
        assert_eq!(lines.dropped().load(Relaxed), 7);
    }

    #[test]
    fn a_sink_that_does_not_block_is_tried_again() {
        struct Nonblocking(u8, Vec<u8>);
        impl Write for Nonblocking {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 % 3 {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    1 => Err(ErrorKind::Interrupted.into()),
                    _ => self.1.write(&octets[..1]),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut sink = Nonblocking(0, Vec::new());
        assert_eq!(put(&mut sink, b"line"), 4);
        assert_eq!(sink.1, b"line");
    }

    #[test]
    fn each_line_is_whole_in_the_log_or_counted() {
        /// A file on a disk that is full after so many octets, and has room again after so many errors.
        struct Disk<'a> {
            room: usize,
            errors: usize,
            file: &'a mut Vec<u8>,
        }
        impl Write for Disk<'_> {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                if self.room == 0 && self.errors > 0 {
                    self.errors -= 1;
                    return Err(ErrorKind::StorageFull.into());
                }
                let taken = if self.room == 0 { octets.len() } else { octets.len().min(self.room) };
                self.room = self.room.saturating_sub(taken);
                self.file.extend_from_slice(&octets[..taken]);
                Ok(taken)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let line = |number: usize| format!("{number}{}", "x".repeat(1000));
        // Three writes of four lines each, cut at each place.
        let all: usize = (0..12).map(|number| line(number).len() + 1).sum();
        for (room, errors) in
            (1..=all).step_by(7).chain([1001, 1002, 1003, 4008]).flat_map(|room| [(room, 1), (room, 2)])
        {
            let (lines, mut file) = (Lines::default(), Vec::new());
            (0..12).for_each(|number| lines.push(format!("{}\n", line(number)).into_bytes(), LineKind::Event));
            lines.state.lock().phase = QueuePhase::Ending;
            lines.write(Disk { room, errors, file: &mut file }, |_| {});
            let file = String::from_utf8(file).unwrap();
            let whole: Vec<_> = (0..12).filter(|number| file.lines().any(|found| found == line(*number))).collect();
            let dropped = lines.dropped().load(Relaxed);
            assert_eq!(whole.len() as u64 + dropped, 12, "{room} {errors}");
            // One line at most is a part of another, and no line is the rest of one.
            let parts: Vec<_> =
                file.lines().filter(|found| !whole.iter().any(|number| *found == line(*number))).collect();
            assert!(parts.len() <= 1, "{room} {errors}: {parts:?}");
            assert!(parts.iter().all(|part| part.len() < 1002), "{room} {errors}: {parts:?}");
        }
    }
}
