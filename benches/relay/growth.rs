//! Growth: the cost of one unit of what there is more of. Each line may fall or be flat. One that rises grows faster than what
//! it counts.

use std::fmt::Write as _;

use crate::scenario::Scenario;
use crate::table::Median;

/// One kind of more.
struct Axis {
    scenario: Scenario,
    /// The words behind the number in the name of a point.
    counted: &'static str,
    title: &'static str,
    cost: fn(&Median<'_>, u64) -> Option<f64>,
}

const AXES: [Axis; 6] = [
    Axis {
        scenario: Scenario::S7,
        counted: "sessions",
        title: "microseconds of CPU a message, by sessions",
        cost: |median, _| micros(median),
    },
    Axis {
        scenario: Scenario::S7,
        counted: "domains seen",
        title: "microseconds of CPU a message, by domains seen",
        cost: |median, _| micros(median),
    },
    Axis {
        scenario: Scenario::S7,
        counted: "recipients",
        title: "microseconds of CPU a recipient, by recipients of a message",
        cost: |median, count| Some(micros(median)? / count.max(1) as f64),
    },
    Axis {
        scenario: Scenario::S7,
        counted: "rules",
        title: "microseconds of CPU a message, by rules",
        cost: |median, _| micros(median),
    },
    Axis {
        scenario: Scenario::S7,
        counted: "octets",
        title: "microseconds of CPU a kB, by octets of a message",
        // Seconds for a GB are microseconds for a kB.
        cost: |median, _| median.values.get("cpu_s_per_GB").copied(),
    },
    Axis {
        scenario: Scenario::S6,
        counted: "sessions",
        title: "kB a stuck session, by sessions",
        cost: |median, _| median.values.get("session_kB").copied(),
    },
];

fn micros(median: &Median<'_>) -> Option<f64> {
    Some(median.values.get("cpu_s_per_1000")? * 1000.0)
}

/// The cost at one number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) relay: String,
    pub(crate) count: u64,
    pub(crate) cost: f64,
}

/// The lines of all relays, by one kind of more.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) points: Vec<Point>,
}

fn panel(axis: &Axis, medians: &[Median<'_>]) -> Panel {
    let ours = medians.iter().filter(|median| median.scenario == axis.scenario.name());
    let points = ours.filter(|median| ["null", "danelaw"].contains(&median.relay)).filter_map(|median| {
        let (count, counted) = median.point.split_once(' ')?;
        let count = count.parse().ok().filter(|_| counted == axis.counted)?;
        Some(Point { relay: median.relay.to_owned(), count, cost: (axis.cost)(median, count)? })
    });
    let mut points: Vec<Point> = points.collect();
    points.sort_by(|one, other| (other.relay.as_str(), one.count).cmp(&(one.relay.as_str(), other.count)));
    Panel { title: axis.title.to_owned(), points }
}

/// The panels as bars, the longest one of each 50 wide; nothing if there is none.
pub(crate) fn text(medians: &[Median<'_>]) -> String {
    let panels = AXES.iter().map(|axis| panel(axis, medians)).filter(|panel| !panel.points.is_empty());
    let panels: Vec<String> = panels.map(|panel| bars(&panel)).collect();
    if panels.is_empty() { String::new() } else { format!("\n```text\n{}```\n", panels.join("\n")) }
}

fn bars(Panel { title, points }: &Panel) -> String {
    let most = points.iter().map(|point| point.cost).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!("{title}\n");
    for Point { relay, count, cost } in points {
        let bar = "#".repeat((cost / most * 50.0).round().max(1.0) as usize);
        let digits = if *cost < 10.0 { 2 } else { 0 };
        let _ = writeln!(text, "{relay:8} {count:>9} {bar} {cost:.digits$}");
    }
    text
}

/// The panels that stand in a text.
pub(crate) fn panels(text: &str) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for line in text.lines() {
        if AXES.iter().any(|axis| axis.title == line) {
            panels.push(Panel { title: line.to_owned(), points: Vec::new() });
        } else if let (Some(panel), Some(point)) = (panels.last_mut(), point(line)) {
            panel.points.push(point);
        }
    }
    panels
}

/// `danelaw 10 ######### 114`.
fn point(line: &str) -> Option<Point> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [relay, count, bar, cost] = words.as_slice() else { return None };
    let is_bar = bar.bytes().all(|octet| octet == b'#');
    is_bar.then_some(Point { relay: (*relay).to_owned(), count: count.parse().ok()?, cost: cost.parse().ok()? })
}

/// The text of a panel is read as it was written.
pub(crate) fn self_check() {
    let point = |relay: &str, count, cost| Point { relay: relay.to_owned(), count, cost };
    for Axis { title, .. } in AXES {
        let points = vec![point("null", 0, 46.0), point("danelaw", 1, 100.0), point("danelaw", 100_000, 0.25)];
        let panel = Panel { title: title.to_owned(), points };
        assert_eq!(panels(&format!("a\n```text\n{}```\nb | # | 7 | 8\n", bars(&panel))), [panel]);
    }
}
