//! A line on standard error that shows how far the check is, if standard error is a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// The line. The library asks [`pace`] for a part of it.
const LINE: &str = "checking: {pos} of {len} domains{pace}{msg}";

/// How far the work is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    line: ProgressBar,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let line = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
        line.set_style(style());
        line.enable_steady_tick(EVERY);
        Self { line }
    }

    /// A domain is done.
    pub(super) fn done(&self) {
        self.line.inc(1);
    }

    /// So many sessions are open now.
    pub(super) fn show_open(&self, open: usize) {
        self.line.set_message(format!(", {open} sessions open"));
    }

    /// Runs `write` while the line is not shown.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.line.suspend(write)
    }

    /// Removes the line.
    pub(super) fn end(&self) {
        self.line.finish_and_clear();
    }
}

fn style() -> ProgressStyle {
    // The library's own line is of use too.
    ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("pace", pace)
}

/// The rate and the time left, which are averages of the last domains. Before the first one there is neither.
fn pace(state: &ProgressState, line: &mut dyn Write) {
    if state.per_sec() > 0.0 {
        // A write into a text in memory does not fail.
        let _ = write!(line, ", {}, {:#} left", rate(state.per_sec()), HumanDuration(state.eta()));
    }
}

/// A number of domains in a second, or in a minute where it is small.
fn rate(in_a_second: f64) -> String {
    if in_a_second >= 1.0 { format!("{in_a_second:.1}/s") } else { format!("{:.1}/min", in_a_second * 60.0) }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::thread::sleep;

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal that keeps its text.
    #[derive(Debug, Clone, Default)]
    struct KeptTerminal(Arc<Mutex<String>>);

    impl TermLike for KeptTerminal {
        fn width(&self) -> u16 {
            100
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_rate_has_one_decimal() {
        for (in_a_second, shown) in [(212.34567, "212.3/s"), (1.0, "1.0/s"), (0.98765, "59.3/min"), (0.004, "0.2/min")]
        {
            assert_eq!(rate(in_a_second), shown);
        }
    }

    #[test]
    fn rate_and_time_left_are_shown_once_a_domain_is_done() {
        let terminal = KeptTerminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let line = ProgressBar::with_draw_target(Some(1000), target).with_style(style());
        let progress = Progress { line };
        let drawn = || {
            progress.line.force_draw();
            std::mem::take(&mut *terminal.0.lock().unwrap()).trim_end().to_owned()
        };
        assert_eq!(drawn(), "checking: 0 of 1000 domains");
        sleep(Duration::from_millis(5));
        progress.show_open(64);
        let said = drawn();
        assert!(said.ends_with("checking: 0 of 1000 domains, 64 sessions open") && !said.contains("left"), "{said}");
        progress.done();
        let said = drawn();
        let (before, after) = said.rsplit_once("/s, ").unwrap();
        assert!(before.contains("checking: 1 of 1000 domains, ") && !before.ends_with(" 0"), "{said}");
        assert!(after.ends_with(" left, 64 sessions open") && !after.starts_with('0'), "{said}");
    }
}
