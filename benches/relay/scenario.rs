//! The scenarios: each is a load and the questions about it.

use crate::lab::{Census, Keeping, Kind};
use crate::run::Options;
use crate::world::Manner;

/// A scenario by its name in the issue tracker and in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
pub(crate) enum Scenario {
    /// 4 kB messages to one domain over 50 sessions.
    S1,
    /// 4 kB messages to 200 domains, a new upstream connection for each.
    S2,
    /// 2,000 domains, each once, with empty caches.
    S2c,
    /// 20 MB messages, 4 at once.
    S3,
    /// One session, 10 messages a second: the time that a relay adds to a message.
    S4,
    /// A remote 20 ms away, 200 sessions.
    S5,
    /// Sessions stuck on a remote that took the message and never answers.
    S6,
    /// Sessions stuck on a remote that does not read the message.
    S6d,
    /// The cost of mail by sessions at once, domains seen, recipients, rules and octets.
    S7,
    /// Mail to a healthy domain while ten silent or tarpitting domains take all the traffic that they can.
    S8,
    /// 5,000 connections at once.
    S9,
    /// 200 domains with policies of MTA-STS, which are known: with and without regard to them.
    S10,
    /// As S1, with fan-out: with a store in a file, and in a database.
    S11,
}

impl Scenario {
    pub(crate) const ALL: [Self; 13] = [
        Self::S1,
        Self::S2,
        Self::S2c,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S6d,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S2c => "S2c",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S6d => "S6d",
            Self::S7 => "S7",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
            Self::S11 => "S11",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::S1 => "4 kB messages, one domain, 50 sessions",
            Self::S2 => "4 kB messages, 200 domains, a new connection to the remote for each, 50 sessions",
            Self::S2c => "4 kB messages, 2,000 domains once each, cold DNS, 50 sessions",
            Self::S3 => "20 MB messages, 4 at once",
            Self::S4 => "one session, 10 messages of 4 kB a second",
            Self::S5 => "a remote that answers after 20 ms, 200 sessions, 20 domains",
            Self::S6 => "sessions stuck behind a message of 4 kB that is never answered, 5 to a domain",
            Self::S6d => "sessions stuck in a message of 1 MB that is not read, 5 to a domain",
            Self::S7 => "the cost of mail by what there is more of; messages have 4 kB unless it says otherwise",
            Self::S8 => {
                "a healthy domain at 10 messages a second while ten silent or tarpitting ones take 500 sessions"
            }
            Self::S9 => "5,000 connections at once, each with one message, 50 domains",
            Self::S10 => "as S2, 200 domains with a known policy of MTA-STS and without TLSA records",
            Self::S11 => "as S1, on a listener with fan-out, whose store is asked at RCPT",
        }
    }

    /// Whether the relay takes part.
    pub(crate) fn takes(self, kind: Kind) -> bool {
        match (self, kind) {
            // A relay's memory, its cost, and its own settings beside each other: no load of the source's alone.
            (Self::S6 | Self::S6d | Self::S7 | Self::S8 | Self::S10 | Self::S11, Kind::Direct) => false,
            (_, Kind::Direct) => true,
            (Self::S10 | Self::S11, kind) => kind == Kind::Danelaw,
            (Self::S7, kind) => !kind.has_queue(),
            // Without a second message for a connection there is no reuse.
            (Self::S2 | Self::S2c | Self::S6 | Self::S6d | Self::S8 | Self::S9, Kind::PostfixReuse) => false,
            // Its queue takes all mail at once, and sends it when it can.
            (Self::S8 | Self::S9, Kind::Postfix) => false,
            _ => true,
        }
    }

    /// The domains that the scenario needs.
    pub(crate) fn census(self, options: &Options) -> Census {
        let stuck = options.stuck().into_iter().max().unwrap_or_default().div_ceil(5).max(20) as u64;
        match self {
            Self::S1 | Self::S3 | Self::S4 | Self::S11 => vec![(Manner::Healthy, 1)],
            Self::S2 => vec![(Manner::Healthy, 200)],
            Self::S2c => vec![(Manner::Healthy, 2000)],
            Self::S5 | Self::S9 => vec![(Manner::Healthy, 50)],
            Self::S10 => vec![(Manner::Listed, 200)],
            Self::S6 => vec![(Manner::Healthy, 20), (Manner::Unanswering, stuck)],
            Self::S6d => vec![(Manner::Healthy, 20), (Manner::Deaf, stuck)],
            Self::S7 => {
                let own = options.seen().into_iter().filter(|seen| *seen <= OWN_RECORDS).max();
                vec![(Manner::Healthy, own.unwrap_or(1).max(50))]
            }
            Self::S8 => vec![(Manner::Healthy, 1), (Manner::Silent, 5), (Manner::Tarpit, 5)],
        }
    }
}

/// Of more domains than these, the records come from wildcards.
const OWN_RECORDS: u64 = 10_000;

/// Mail to healthy domains.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) sessions: usize,
    pub(crate) size: usize,
    pub(crate) domains: u64,
    pub(crate) messages: Option<u64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) rate: Option<f64>,
    pub(crate) once: bool,
    /// Each message is the first on its connection to the remote.
    pub(crate) fresh: bool,
    /// Recipients of each message.
    pub(crate) recipients: usize,
    /// Rules of danelaw's. No other relay has any.
    pub(crate) rules: usize,
    /// The remote closes after so many messages.
    pub(crate) mail_max: Option<u32>,
    /// Milliseconds that the remote takes for an answer.
    pub(crate) delay: u64,
    /// Messages before the measurement.
    pub(crate) warm: u64,
    /// The number of domains for the messages before the measurement; without it, as many as are measured.
    pub(crate) warm_domains: Option<u64>,
    /// The recipients' domains before the measurement.
    pub(crate) warm_manner: Manner,
    /// The recipients' domains.
    pub(crate) manner: Manner,
    /// danelaw's regard to policies of MTA-STS.
    pub(crate) mta_sts: &'static str,
    /// danelaw's store.
    pub(crate) store: Keeping,
}

impl Load {
    fn new(options: &Options) -> Self {
        Self {
            sessions: 50,
            size: 4096,
            domains: 1,
            messages: options.messages,
            seconds: options.messages.is_none().then(|| options.seconds()),
            rate: None,
            once: false,
            fresh: false,
            recipients: 1,
            rules: 0,
            mail_max: None,
            delay: 0,
            warm: 500,
            warm_domains: None,
            warm_manner: Manner::Healthy,
            manner: Manner::Healthy,
            mta_sts: "enforce",
            store: Keeping::None,
        }
    }

    /// The loads of a scenario that consists only of loads, each with the name of its point.
    pub(crate) fn of(scenario: Scenario, options: &Options) -> Vec<(String, Self)> {
        let load = Self::new(options);
        let one = |load: Self| vec![(String::new(), load)];
        match scenario {
            Scenario::S1 => one(load),
            Scenario::S2 => one(Self { domains: 200, fresh: true, mail_max: Some(1), warm: 400, ..load }),
            Scenario::S2c => {
                let messages = Some(options.messages.unwrap_or(2000).min(2000));
                one(Self { domains: 2000, fresh: true, messages, seconds: None, warm: 0, ..load })
            }
            Scenario::S3 => one(Self { size: 20_000_000, sessions: 4, warm: 4, ..load }),
            Scenario::S4 => {
                let seconds = options.messages.is_none().then(|| options.seconds() * 4.0);
                one(Self { sessions: 1, rate: Some(10.0), warm: 20, seconds, ..load })
            }
            Scenario::S5 => one(Self { sessions: 200, delay: 20, domains: 20, ..load }),
            Scenario::S7 => Self::growing(&load, options),
            Scenario::S9 => {
                let storm = if options.quick { 500 } else { 5000 };
                let load = Self { once: true, domains: 50, messages: Some(storm), seconds: None, ..load };
                one(Self { sessions: storm as usize, warm: 50, ..load })
            }
            Scenario::S10 => {
                let (manner, warm_manner) = (Manner::Listed, Manner::Listed);
                let fresh = Self { domains: 200, mail_max: Some(1), warm: 400, manner, warm_manner, ..load };
                let without = Self { mta_sts: "off", ..fresh.clone() };
                vec![("without policies".to_owned(), without), ("with policies".to_owned(), fresh)]
            }
            Scenario::S11 => {
                let with = |store| Self { store, ..load.clone() };
                vec![("SQLite".to_owned(), with(Keeping::File)), ("PostgreSQL".to_owned(), with(Keeping::Database))]
            }
            Scenario::S6 | Scenario::S6d | Scenario::S8 => Vec::new(),
        }
    }

    /// The same load with more and more of one thing.
    fn growing(load: &Self, options: &Options) -> Vec<(String, Self)> {
        let steps = |all: &[u64], few: [u64; 2]| if options.quick { few.to_vec() } else { all.to_vec() };
        let by_sessions = steps(&[1, 10, 100, 1000, 10_000], [1, 100]).into_iter().map(|sessions| {
            let mut load = Self { domains: 50, warm: sessions * 2 + 200, ..load.clone() };
            if sessions > 1000 {
                // So many that the opening of the sessions is a small part.
                (load.messages, load.seconds) = (Some(sessions * 20), None);
            }
            (format!("{sessions} sessions"), Self { sessions: sessions as usize, ..load })
        });
        let by_domains = options.seen().into_iter().map(|seen| {
            let warm_manner = if seen > OWN_RECORDS { Manner::Wild } else { Manner::Healthy };
            let load = Self { warm: seen + 200, warm_domains: Some(seen), warm_manner, ..load.clone() };
            (format!("{seen} domains seen"), Self { sessions: 20, ..load })
        });
        let by_recipients = steps(&[1, 10, 100, 1000], [1, 100]).into_iter().map(|recipients| {
            let load = Self { sessions: 20, ..load.clone() };
            (format!("{recipients} recipients"), Self { recipients: recipients as usize, ..load })
        });
        let by_rules = steps(&[0, 100, 10_000, 100_000], [0, 1000])
            .into_iter()
            .map(|rules| (format!("{rules} rules"), Self { sessions: 20, rules: rules as usize, ..load.clone() }));
        let sizes = steps(&[1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000], [1000, 1_000_000]);
        let by_size = sizes.into_iter().map(|size| {
            let warm = if size > 1_000_000 { 4 } else { 500 };
            (format!("{size} octets"), Self { sessions: 4, size: size as usize, warm, ..load.clone() })
        });
        by_sessions.chain(by_domains).chain(by_recipients).chain(by_rules).chain(by_size).collect()
    }
}
