//! The run: rounds of scenarios of relays, each measured with all processes started anew, and a table at the end.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::lab::{Census, Kind, Lab, Needs, Relay, Sink, Source};
use crate::scenario::{Load, Scenario};
use crate::source::{self, Report};
use crate::world::Manner;
use crate::{proc, table};

/// The options of a measurement.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Scenarios, such as S1,S3; all without it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) scenario: Vec<Scenario>,
    /// Relays, such as danelaw,null; all that take part in a scenario without it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Kind>,
    /// Rounds, of which the median is printed.
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Seconds for which each load is sent.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Messages in place of seconds.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// One round of a second for each load, and less of the long scenarios.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print JSON, every round of it, in place of the table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Another danelaw than the one that cargo has just built.
    #[arg(long)]
    pub(crate) danelaw: Option<PathBuf>,
    /// A setting of danelaw's, as for its own --set; may be given more than once.
    #[arg(long)]
    pub(crate) set: Vec<String>,
    /// A command that starts danelaw, such as "strace -c -f -o /tmp/calls".
    #[arg(long)]
    pub(crate) wrap: Option<String>,
    /// danelaw asks the name server itself, without an unbound in between.
    #[arg(long)]
    pub(crate) ask_authority: bool,
    /// Threads of the sink and of the pass-through.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Threads of the source.
    #[arg(long, default_value_t = 2)]
    pub(crate) source_threads: usize,
    /// Numbers of domains seen in S7, such as 1,1000000: the latter takes a quarter of an hour.
    #[arg(long, value_delimiter = ',')]
    pub(crate) seen: Vec<u64>,
    /// Numbers of stuck sessions in S6, such as 1000,5000.
    #[arg(long, value_delimiter = ',')]
    pub(crate) stuck: Vec<usize>,
    /// The directory of the lab; the program itself sets it.
    #[arg(long, hide = true, default_value = "/nowhere")]
    directory: PathBuf,
}

impl Options {
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 1.0 } else { 4.0 })
    }

    /// Numbers of stuck sessions.
    pub(crate) fn stuck(&self) -> Vec<usize> {
        match (self.stuck.is_empty(), self.quick) {
            (false, _) => self.stuck.clone(),
            (true, true) => vec![200],
            (true, false) => vec![100, 1000, 5000, 9000],
        }
    }

    /// Numbers of domains that a relay has seen before the measurement.
    pub(crate) fn seen(&self) -> Vec<u64> {
        match (self.seen.is_empty(), self.quick) {
            (false, _) => self.seen.clone(),
            (true, true) => vec![1, 100],
            (true, false) => vec![1, 10, 100, 1000, 10_000, 100_000],
        }
    }

    fn scenarios(&self) -> Vec<Scenario> {
        if self.scenario.is_empty() { Scenario::ALL.to_vec() } else { self.scenario.clone() }
    }

    fn kinds(&self, scenario: Scenario) -> Vec<Kind> {
        let all = [Kind::Null, Kind::Danelaw, Kind::Postfix, Kind::PostfixReuse, Kind::Direct];
        let asked = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        all.into_iter().filter(|kind| scenario.takes(*kind) && asked(kind)).collect()
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    /// The name of the load, if the scenario has several.
    pub(crate) point: String,
    pub(crate) relay: &'static str,
    pub(crate) round: u32,
    /// By name, which states the unit.
    pub(crate) values: BTreeMap<String, f64>,
    /// The replies in place of 250, and how often clients got them.
    pub(crate) said: BTreeMap<String, u64>,
}

impl Row {
    fn set(&mut self, name: &str, value: f64) {
        self.values.insert(name.to_owned(), value);
    }
}

/// Measures each requested scenario.
pub(crate) fn run(options: &Options) -> ExitCode {
    let scenarios = options.scenarios();
    let mut census: Census = Vec::new();
    for (manner, count) in scenarios.iter().flat_map(|scenario| scenario.census(options)) {
        match census.iter_mut().find(|(own, _)| *own == manner) {
            Some((_, most)) => *most = count.max(*most),
            None => census.push((manner, count)),
        }
    }
    let mut bench = Bench { lab: Lab::start(&options.directory, &census, options), options, rows: Vec::new() };
    for round in 1..=options.rounds.unwrap_or(if options.quick { 1 } else { 3 }) {
        for &scenario in &scenarios {
            for kind in options.kinds(scenario) {
                bench.measure(scenario, kind, round);
            }
        }
    }
    let rows = bench.rows;
    println!("{}", if options.json { table::json(&rows) } else { table::text(&rows) });
    // A run that has lost, doubled or damaged a mail is no benchmark result.
    let wrong =
        |row: &Row| ["lost", "twice", "damaged"].iter().any(|name| row.values.get(*name).is_some_and(|n| *n > 0.0));
    if rows.iter().any(wrong) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Bench<'a> {
    lab: Lab,
    options: &'a Options,
    rows: Vec<Row>,
}

/// CPU time of every part, in seconds.
#[derive(Clone, Copy)]
struct Cpu {
    relay: f64,
    source: f64,
    sink: f64,
    dns: f64,
    store: f64,
}

impl Bench<'_> {
    fn measure(&mut self, scenario: Scenario, kind: Kind, round: u32) {
        match scenario {
            Scenario::S6 => self.stuck((scenario, kind, round), Manner::Unanswering, 4096),
            Scenario::S6d => self.stuck((scenario, kind, round), Manner::Deaf, 1_000_000),
            Scenario::S8 => self.under_pressure(scenario, kind, round),
            _ => {
                for (point, load) in Load::of(scenario, self.options) {
                    if load.rules > 0 && kind != Kind::Danelaw {
                        continue;
                    }
                    if scenario == Scenario::S2c {
                        self.lab.forget();
                    }
                    let mut row = self.row((scenario, kind, round), point);
                    self.load(kind, &load, &mut row);
                    self.add(row);
                }
            }
        }
    }

    fn row(&self, (scenario, kind, round): (Scenario, Kind, u32), point: String) -> Row {
        let (values, said) = (BTreeMap::new(), BTreeMap::new());
        Row { scenario: scenario.name(), point, relay: kind.name(), round, values, said }
    }

    fn add(&mut self, row: Row) {
        let words =
            ["per_s", "MB_per_s", "cpu_s_per_1000", "p50_ms", "p99_ms", "session_kB", "lost", "twice", "damaged"];
        let values = words.iter().filter_map(|word| Some(format!("{word} {:.3}", row.values.get(*word)?)));
        let values: Vec<String> = values.collect();
        eprintln!("{} {} {} {}: {}", row.round, row.scenario, row.relay, row.point, values.join(", "));
        for (said, count) in row.said.iter().take(5) {
            eprintln!("    {count} times {said}");
        }
        self.rows.push(row);
    }

    fn source(&self, load: &Load, run: u32) -> source::Options {
        source::Options {
            to: ([127, 0, 0, 1], 25).into(),
            tls: false,
            sessions: load.sessions,
            size: load.size,
            domains: load.domains,
            recipients: load.recipients,
            manner: load.manner.letter(),
            messages: load.messages,
            seconds: load.seconds,
            rate: load.rate,
            run,
            once: load.once,
            patience: 120.0,
            threads: self.options.source_threads,
        }
    }

    /// Sends mail to healthy domains and measures the cost.
    fn load(&mut self, kind: Kind, load: &Load, row: &mut Row) {
        let mut sink = self.lab.sink(load.mail_max, load.delay);
        let relay = self.lab.relay(
            kind,
            Needs {
                fresh: load.mail_max.is_some(),
                mta_sts: load.mta_sts,
                store: load.store,
                sessions: load.sessions,
                rules: load.rules,
            },
        );
        // Without a relay it is the source that makes the connections to the remote.
        let fresh = kind == Kind::Direct && load.fresh;
        if load.warm > 0 {
            let domains = load.warm_domains.unwrap_or(load.domains);
            // As many sessions as are measured, so that no handshake is measured; but a storm has to come unannounced.
            let sessions = if load.once { 50 } else { load.sessions };
            let warm = Load {
                messages: Some(load.warm),
                seconds: None,
                rate: None,
                once: fresh,
                domains,
                sessions,
                manner: load.warm_manner,
                recipients: 1,
                ..load.clone()
            };
            let mut source = Source::start(&relay, &self.source(&warm, 0));
            let report = source.report();
            drain(&mut sink, 0, &report, kind);
        }
        if (load.manner, load.mta_sts) == (Manner::Listed, "enforce") {
            assert_eq!(self.lab.unverified(), 0, "each delivery is verified by its policy");
        }
        let before = self.cpu(&relay, &sink, None);
        let load = Load { once: load.once || fresh, ..load.clone() };
        let mut source = Source::start(&relay, &self.source(&load, 1));
        let report = source.report();
        let memory = relay.pid().map(proc::peak);
        drain(&mut sink, 1, &report, kind);
        let after = self.cpu(&relay, &sink, Some(&source));
        self.judge(&mut sink, 1, &report, row);
        row.set("memory_MB", memory.unwrap_or_default() / 1024.0);
        let delivered = row.values["delivered"].max(1.0);
        let gigabytes = row.values["MB"].max(1e-9) / 1000.0;
        for (role, seconds) in [
            ("cpu_s", after.relay - before.relay),
            ("source_cpu_s", after.source),
            ("sink_cpu_s", after.sink - before.sink),
            ("dns_cpu_s", after.dns - before.dns),
            ("store_cpu_s", after.store - before.store),
            // The load's own part: it shares the cores with the relay.
            ("load_cpu_s", after.source + after.sink - before.sink),
        ] {
            row.set(&format!("{role}_per_1000"), seconds * 1000.0 / delivered);
            row.set(&format!("{role}_per_GB"), seconds / gigabytes);
        }
    }

    fn cpu(&self, relay: &Relay, sink: &Sink, source: Option<&Source>) -> Cpu {
        Cpu {
            relay: relay.pid().map_or(0.0, proc::cpu),
            source: source.map_or(0.0, |source| proc::cpu(source.pid())),
            sink: proc::cpu(sink.pid()),
            dns: self.lab.dns_cpu(),
            store: self.lab.store_cpu(),
        }
    }

    /// Compares the replies that the source got with the messages that the sink has seen.
    fn judge(&self, sink: &mut Sink, run: u32, report: &Report, row: &mut Row) {
        let seen = sink.seen();
        let stats = seen.runs.get(&run).cloned().unwrap_or_default();
        let excused: HashSet<u64> = report.refused.iter().chain(&report.unanswered).copied().collect();
        let excused = |number: &&u64| excused.contains(number);
        let missing = sink.missing(run, report.begun);
        // A refused or unanswered message may arrive more than once; one with a 250 must arrive exactly once.
        let twice = stats.twice.iter().filter(|number| !excused(number)).count();
        let seconds = stats.last.saturating_sub(report.started) as f64 / 1e9;
        let megabytes = stats.octets as f64 / 1e6;
        for (name, value) in [
            ("begun", report.begun as f64),
            ("delivered", stats.whole as f64),
            ("refused", report.refused.len() as f64),
            ("unanswered", report.unanswered.len() as f64),
            ("lost", missing.iter().filter(|number| !excused(number)).count() as f64),
            ("twice", twice as f64),
            ("damaged", (stats.damaged + seen.strangers) as f64),
            ("seconds", seconds),
            ("per_s", stats.whole as f64 / seconds.max(1e-9)),
            ("MB", megabytes),
            ("MB_per_s", megabytes / seconds.max(1e-9)),
            ("p50_ms", report.latency.p50 as f64 / 1e3),
            ("p99_ms", report.latency.p99 as f64 / 1e3),
            ("arrival_p50_ms", stats.arrival.p50 as f64 / 1e3),
            ("arrival_p99_ms", stats.arrival.p99 as f64 / 1e3),
            ("greeting_p50_ms", report.greeting.p50 as f64 / 1e3),
            ("greeting_p99_ms", report.greeting.p99 as f64 / 1e3),
            ("greeting_max_ms", report.greeting.max as f64 / 1e3),
            ("greeted", report.greeted as f64),
            ("turned_away", report.turned_away as f64),
            ("not_greeted", report.lost as f64),
            ("upstream_connections", seen.connections as f64),
        ] {
            row.set(name, value);
        }
        row.said = report.said.clone();
    }

    /// Measures the memory of sessions that hang on a remote.
    fn stuck(&mut self, (scenario, kind, round): (Scenario, Kind, u32), manner: Manner, size: usize) {
        for sessions in self.options.stuck() {
            // Postfix has a process for each session. A hundred, its default limit, show the memory of one well enough.
            let sessions = if kind.has_queue() { sessions.min(100) } else { sessions };
            let mut row = self.row((scenario, kind, round), format!("{sessions} sessions"));
            if self.rows.iter().any(|done| {
                (done.round, done.relay, &done.point) == (round, row.relay, &row.point) && done.scenario == row.scenario
            }) {
                continue;
            }
            let mut sink = self.lab.sink(None, 0);
            let relay = self.lab.relay(kind, Needs::of(sessions.max(100)));
            let Some(pid) = relay.pid() else { continue };
            let load = Load::of(Scenario::S1, self.options).remove(0).1;
            let warm = Load { messages: Some(400), seconds: None, domains: 20, sessions: 20, ..load.clone() };
            let mut source = Source::start(&relay, &self.source(&warm, 0));
            drain(&mut sink, 0, &source.report(), kind);
            drop(source);
            let (resident, (sockets, _), slab) = (proc::resident(pid), proc::sockets(pid), proc::slab());
            let domains = sessions.div_ceil(5) as u64;
            let hanging =
                Load { messages: Some(sessions as u64), seconds: None, once: true, domains, sessions, size, ..load };
            let hanging = source::Options { manner: manner.letter(), patience: 3600.0, ..self.source(&hanging, 1) };
            let source = Source::start(&relay, &hanging);
            let stuck = await_stuck(&mut sink, sessions as u64);
            sleep(Duration::from_secs(2));
            let (resident_now, (sockets_now, count), slab_now) =
                (proc::resident(pid), proc::sockets(pid), proc::slab());
            let each = |kilobytes: f64| kilobytes / (stuck as f64).max(1.0);
            // The slab belongs to all processes: the relay's part is the share of its sockets.
            let share = count / proc::all_sockets().max(1.0);
            let user = each(resident_now - resident);
            let kernel = each(sockets_now - sockets + (slab_now - slab) * share);
            for (name, value) in [
                ("stuck", stuck as f64),
                ("session_user_kB", user),
                ("session_queues_kB", each(sockets_now - sockets)),
                ("session_kernel_kB", kernel),
                ("session_kB", user + kernel),
                ("memory_MB", resident_now / 1024.0),
                ("all_MB", (resident_now + kernel * stuck as f64) / 1024.0),
            ] {
                row.set(name, value);
            }
            drop(source);
            self.add(row);
        }
    }

    /// Measures mail to a healthy domain, alone and beside domains that take all the resources that they can get.
    fn under_pressure(&mut self, scenario: Scenario, kind: Kind, round: u32) {
        let mut row = self.row((scenario, kind, round), String::new());
        let mut sink = self.lab.sink(None, 0);
        let relay = self.lab.relay(kind, Needs::of(1000));
        let seconds = self.options.seconds() * 2.0;
        let healthy = Load::of(Scenario::S4, self.options).remove(0).1;
        let healthy = Load { seconds: Some(seconds), messages: None, ..healthy };
        let mut probe = |bench: &Self, run: u32, row: &mut Row| {
            let mut source = Source::start(&relay, &bench.source(&healthy, run));
            let report = source.report();
            drain(&mut sink, run, &report, kind);
            bench.judge(&mut sink, run, &report, row);
        };
        probe(self, 1, &mut row);
        for name in ["p50_ms", "p99_ms", "arrival_p50_ms", "arrival_p99_ms"] {
            let value = row.values[name];
            row.set(&format!("alone_{name}"), value);
        }
        let bad = [Manner::Silent, Manner::Tarpit].map(|manner| {
            let load = Load { sessions: 250, domains: 5, rate: None, seconds: Some(3600.0), ..healthy.clone() };
            let options = source::Options { manner: manner.letter(), patience: 3600.0, ..self.source(&load, 9) };
            Source::start(&relay, &options)
        });
        sleep(Duration::from_secs_f64(seconds.clamp(1.0, 10.0)));
        probe(self, 2, &mut row);
        drop(bad);
        self.add(row);
    }
}

/// Waits until all accepted messages have arrived, which may take time in a queue.
fn drain(sink: &mut Sink, run: u32, report: &Report, kind: Kind) {
    let (mut last, mut since) = (0, Instant::now());
    let patience = Duration::from_secs(if kind.has_queue() { 30 } else { 2 });
    while since.elapsed() < patience {
        let whole = sink.seen().runs.get(&run).map_or(0, |stats| stats.whole + stats.damaged);
        if whole + (report.refused.len() + report.unanswered.len()) as u64 >= report.begun {
            return;
        }
        if whole > last {
            (last, since) = (whole, Instant::now());
        }
        sleep(Duration::from_millis(20));
    }
}

/// Waits until so many connections are stuck, or their number no longer grows.
fn await_stuck(sink: &mut Sink, sessions: u64) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(15) {
        let stuck = sink.seen().stuck;
        if stuck >= sessions {
            return stuck;
        }
        if stuck > last {
            (last, since) = (stuck, Instant::now());
        }
        sleep(Duration::from_millis(50));
    }
    last
}
