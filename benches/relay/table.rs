//! The results, for people and for programs: medians over the rounds, and ratios to the pass-through of the same run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;
use time::OffsetDateTime;

use crate::growth;
use crate::run::Row;
use crate::scenario::Scenario;

/// A column: the value's name, its heading, and whether its ratio to the pass-through's value is shown.
type Column = (&'static str, &'static str, bool);

const THROUGHPUT: &[Column] = &[
    ("per_s", "msgs/s", true),
    ("cpu_s_per_1000", "CPU s/1,000", true),
    ("load_cpu_s_per_1000", "of source and sink", false),
    ("p50_ms", "p50 ms", false),
    ("p99_ms", "p99 ms", false),
    ("memory_MB", "MB", false),
];
const STORED: &[Column] = &[
    ("per_s", "msgs/s", true),
    ("cpu_s_per_1000", "CPU s/1,000", true),
    ("store_cpu_s_per_1000", "of the database", false),
    ("p50_ms", "p50 ms", false),
    ("p99_ms", "p99 ms", false),
    ("memory_MB", "MB", false),
];
const BULK: &[Column] = &[
    ("MB_per_s", "MB/s", true),
    ("cpu_s_per_GB", "CPU s/GB", true),
    ("load_cpu_s_per_GB", "of source and sink", false),
    ("p50_ms", "p50 ms", false),
    ("memory_MB", "MB", false),
];
const LATENCY: &[Column] = &[
    ("p50_ms", "client p50 ms", false),
    ("p99_ms", "client p99 ms", false),
    ("added_p50_ms", "added p50 ms", false),
    ("added_p99_ms", "added p99 ms", false),
    ("cpu_s_per_1000", "CPU s/1,000", false),
];
const STUCK: &[Column] = &[
    ("stuck", "stuck", false),
    ("session_user_kB", "own kB", false),
    ("session_kernel_kB", "kernel kB", false),
    ("session_kB", "kB/session", true),
    ("all_MB", "MB in all", false),
];
const PRESSURE: &[Column] = &[
    ("alone_p50_ms", "alone: p50 ms", false),
    ("alone_p99_ms", "p99 ms", false),
    ("p50_ms", "beside them: p50 ms", false),
    ("p99_ms", "p99 ms", false),
    ("delivered", "delivered", false),
];
const STORM: &[Column] = &[
    ("greeted", "greeted", false),
    ("turned_away", "421", false),
    ("not_greeted", "lost", false),
    ("greeting_p50_ms", "greeting p50 ms", false),
    ("greeting_max_ms", "max ms", false),
    ("delivered", "delivered", false),
    ("per_s", "msgs/s", true),
];

fn columns(scenario: Scenario) -> &'static [Column] {
    match scenario {
        Scenario::S1 | Scenario::S2 | Scenario::S2c | Scenario::S5 | Scenario::S7 | Scenario::S10 => THROUGHPUT,
        Scenario::S11 => STORED,
        Scenario::S3 => BULK,
        Scenario::S4 => LATENCY,
        Scenario::S6 | Scenario::S6d => STUCK,
        Scenario::S8 => PRESSURE,
        Scenario::S9 => STORM,
    }
}

/// The medians of one relay at one point of one scenario.
pub(crate) struct Median<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) point: &'a str,
    pub(crate) relay: &'a str,
    rounds: usize,
    pub(crate) values: BTreeMap<&'a str, f64>,
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        length if length % 2 == 1 => numbers[middle],
        _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

/// In the order of their first appearance.
fn medians(rows: &[Row]) -> Vec<Median<'_>> {
    let mut medians: Vec<Median<'_>> = Vec::new();
    for row in rows {
        let same = |other: &&Row| (other.scenario, &other.point, other.relay) == (row.scenario, &row.point, row.relay);
        let all: Vec<&Row> = rows.iter().filter(same).collect();
        if all.first().is_some_and(|first| first.round == row.round) {
            let value = |name: &String| median(all.iter().filter_map(|row| row.values.get(name).copied()).collect());
            let values = row.values.keys().map(|name| (name.as_str(), value(name))).collect();
            let (scenario, point, relay) = (row.scenario, row.point.as_str(), row.relay);
            medians.push(Median { scenario, point, relay, rounds: all.len(), values });
        }
    }
    let direct: Option<BTreeMap<&str, f64>> = medians
        .iter()
        .find(|median| (median.scenario, median.relay) == ("S4", "direct"))
        .map(|direct| direct.values.clone());
    for median in medians.iter_mut().filter(|median| median.scenario == "S4") {
        let Some(direct) = &direct else { continue };
        // A relay with a queue answers before it delivers, so the message's time of arrival counts.
        for (name, from) in [("added_p50_ms", "arrival_p50_ms"), ("added_p99_ms", "arrival_p99_ms")] {
            let added = median.values.get(from).unwrap_or(&0.0) - direct.get(from).unwrap_or(&0.0);
            median.values.insert(name, added);
        }
    }
    medians
}

/// The median of the pass-through at the same point.
fn ceiling<'a>(medians: &'a [Median<'a>], of: &Median<'_>) -> Option<&'a Median<'a>> {
    medians.iter().find(|other| other.relay == "null" && (other.scenario, other.point) == (of.scenario, of.point))
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 999.5 => {
            let digits = format!("{value:.0}");
            let split = digits.len() - 3;
            format!("{},{}", &digits[..split], &digits[split..])
        }
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Whether a value is one of the relay's process.
fn is_of_relay(name: &str) -> bool {
    name.starts_with("cpu_s") || name == "memory_MB"
}

fn cell(median: &Median<'_>, (name, _, with_ratio): &Column, ceiling: Option<&Median<'_>>) -> String {
    let Some(value) = median.values.get(name).filter(|_| !is_of_relay(name) || median.relay != "direct") else {
        return String::new();
    };
    let base = ceiling.and_then(|ceiling| ceiling.values.get(name)).filter(|base| **base > 0.0);
    match base {
        Some(base) if *with_ratio && median.relay != "null" => format!("{} (x {:.2})", number(*value), value / base),
        _ => number(*value),
    }
}

/// One line of the summary: the aim for danelaw, relative to the others.
struct Aim {
    scenario: Scenario,
    value: &'static str,
    heading: &'static str,
    wanted: &'static str,
    met: fn(&Beside) -> bool,
}

/// A value of danelaw's, and the same value of the others where they took part.
struct Beside {
    own: f64,
    null: Option<f64>,
    postfix: Option<f64>,
}

impl Beside {
    fn to_null(&self) -> Option<f64> {
        self.null.filter(|null| *null > 0.0).map(|null| self.own / null)
    }

    fn to_postfix(&self) -> Option<f64> {
        self.postfix.filter(|postfix| *postfix > 0.0).map(|postfix| self.own / postfix)
    }

    /// At least so much of the pass-through, and so many times Postfix. A relay that took no part counts as surpassed.
    fn at_least(&self, null: f64, postfix: f64) -> bool {
        self.to_null().is_none_or(|ratio| ratio >= null) && self.to_postfix().is_none_or(|ratio| ratio >= postfix)
    }

    fn at_most(&self, null: f64) -> bool {
        self.to_null().is_none_or(|ratio| ratio <= null)
    }
}

const AIMS: &[Aim] = &[
    Aim {
        scenario: Scenario::S1,
        value: "per_s",
        heading: "msgs/s",
        wanted: "0.75 of null, 20 times Postfix",
        met: |beside| beside.at_least(0.75, 20.0),
    },
    Aim {
        scenario: Scenario::S1,
        value: "cpu_s_per_1000",
        heading: "CPU s/1,000",
        wanted: "1.5 times null",
        met: |beside| beside.at_most(1.5),
    },
    Aim {
        scenario: Scenario::S2,
        value: "per_s",
        heading: "msgs/s",
        wanted: "0.75 of null, 4 times Postfix",
        met: |beside| beside.at_least(0.75, 4.0),
    },
    Aim {
        scenario: Scenario::S2,
        value: "cpu_s_per_1000",
        heading: "CPU s/1,000",
        wanted: "1.4 times null",
        met: |beside| beside.at_most(1.4),
    },
    Aim {
        scenario: Scenario::S2c,
        value: "per_s",
        heading: "msgs/s",
        wanted: "1,500, or 0.5 of null",
        met: |beside| beside.own >= 1500.0 || beside.at_least(0.5, 0.0),
    },
    Aim {
        scenario: Scenario::S3,
        value: "MB_per_s",
        heading: "MB/s",
        wanted: "0.8 of null, 4 times Postfix",
        met: |beside| beside.at_least(0.8, 4.0),
    },
    Aim {
        scenario: Scenario::S3,
        value: "cpu_s_per_GB",
        heading: "CPU s/GB",
        wanted: "1.15 times null",
        met: |beside| beside.at_most(1.15),
    },
    Aim {
        scenario: Scenario::S4,
        value: "added_p50_ms",
        heading: "added ms, median",
        wanted: "0.4",
        met: |beside| beside.own <= 0.4,
    },
    Aim {
        scenario: Scenario::S5,
        value: "per_s",
        heading: "msgs/s",
        wanted: "0.95 of null",
        met: |beside| beside.at_least(0.95, 0.0),
    },
    Aim {
        scenario: Scenario::S6,
        value: "session_kB",
        heading: "kB a session",
        wanted: "32",
        met: |beside| beside.own <= 32.0,
    },
    Aim {
        scenario: Scenario::S6,
        value: "all_MB",
        heading: "MB in all",
        wanted: "160",
        met: |beside| beside.own <= 160.0,
    },
];

/// Every aim that was measured, in one table.
fn summary(medians: &[Median<'_>]) -> String {
    let mut text = "\n| | | no relay | null | Postfix | danelaw | to null | to Postfix | aim | met |\n|---|---|--:|--:|--:|--:|--:|--:|---|---|\n".to_owned();
    for aim in AIMS {
        let ours = medians.iter().filter(|median| (median.scenario, median.relay) == (aim.scenario.name(), "danelaw"));
        for own in ours.filter(|own| aim.value != "all_MB" || own.point.starts_with("5000 ")) {
            let of = |relay: &str, point: Option<&str>| {
                let same = |other: &&Median<'_>| {
                    (other.scenario, other.relay) == (own.scenario, relay)
                        && point.is_none_or(|point| other.point == point)
                };
                medians.iter().find(same).and_then(|median| median.values.get(aim.value).copied())
            };
            // The better one of Postfix's two configurations. Its number of stuck sessions differs from danelaw's.
            let more_is_better = aim.value.ends_with("per_s");
            // A hundred stuck sessions of Postfix cannot be compared with five thousand.
            let ways =
                if aim.value == "all_MB" { [None, None] } else { [of("postfix", None), of("postfix-reuse", None)] };
            let postfix = ways
                .into_iter()
                .flatten()
                .reduce(|one, other| if (one > other) == more_is_better { one } else { other });
            let Some(&value) = own.values.get(aim.value) else { continue };
            let beside = Beside { own: value, null: of("null", Some(own.point)), postfix };
            let shown = |value: Option<f64>| value.map(number).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                format!("{} {}", own.scenario, own.point).trim_end(),
                aim.heading,
                // It has no CPU time of a relay, and adds nothing to itself.
                shown(of("direct", Some(own.point)).filter(|_| more_is_better)),
                shown(beside.null),
                shown(beside.postfix),
                number(value),
                shown(beside.to_null()),
                shown(beside.to_postfix()),
                aim.wanted,
                if (aim.met)(&beside) { "yes" } else { "no" },
            );
        }
    }
    text
}

/// Markdown: the aims, then a table for each scenario.
pub(crate) fn text(rows: &[Row]) -> String {
    let medians = medians(rows);
    let rounds = medians.iter().map(|median| median.rounds).max().unwrap_or_default();
    let mut text = format!(
        "Medians of {rounds} round(s), {}, {} cores, load {} at the end. In brackets: ratio to \"null\", the bare pass-through.\n",
        OffsetDateTime::now_utc().date(),
        std::thread::available_parallelism().map_or(0, usize::from),
        load_average(),
    );
    if medians.iter().any(|median| median.relay == "danelaw") {
        text += &summary(&medians);
    }
    for scenario in Scenario::ALL {
        let ours: Vec<&Median<'_>> = medians.iter().filter(|median| median.scenario == scenario.name()).collect();
        if ours.is_empty() {
            continue;
        }
        let columns = columns(scenario);
        let headings: Vec<&str> = columns.iter().map(|(_, heading, _)| *heading).collect();
        let _ = write!(
            text,
            "\n**{}**: {}\n\n| relay | {} |\n|---|{}\n",
            scenario.name(),
            scenario.title(),
            headings.join(" | "),
            "--:|".repeat(columns.len())
        );
        for median in &ours {
            let cells: Vec<String> =
                columns.iter().map(|column| cell(median, column, ceiling(&medians, median))).collect();
            let point = if median.point.is_empty() { String::new() } else { format!(", {}", median.point) };
            let _ = writeln!(text, "| {}{point} | {} |", median.relay, cells.join(" | "));
        }
        for row in rows.iter().filter(|row| row.scenario == scenario.name()) {
            text += &trouble(row);
        }
    }
    text + &growth::text(&medians)
}

/// The counts of messages that were not delivered exactly once and undamaged.
fn trouble(row: &Row) -> String {
    let count = |name: &str| row.values.get(name).copied().unwrap_or_default();
    let kinds = ["lost", "twice", "damaged", "refused", "unanswered"];
    let found: Vec<String> =
        kinds.iter().filter(|kind| count(kind) > 0.0).map(|kind| format!("{kind} {}", count(kind))).collect();
    match found.is_empty() {
        true => String::new(),
        false => {
            format!("\n{} {}, round {}: {} of {}.\n", row.relay, row.point, row.round, found.join(", "), count("begun"))
        }
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Every round and the medians.
pub(crate) fn json(rows: &[Row]) -> String {
    let medians: Vec<_> = medians(rows)
        .iter()
        .map(|median| {
            json!({
                "scenario": median.scenario,
                "point": median.point,
                "relay": median.relay,
                "rounds": median.rounds,
                "values": median.values,
            })
        })
        .collect();
    let all = json!({
        "date": OffsetDateTime::now_utc().date().to_string(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load": load_average(),
        "medians": medians,
        "rounds": rows,
    });
    format!("{all:#}")
}
