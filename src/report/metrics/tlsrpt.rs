//! The numbers of TLS reports. No domain and no address is ever a label.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{About, CounterFamily, gauge};

/// Everything that is counted for TLS reports.
#[derive(Debug)]
pub(super) struct TlsReportCounters {
    sessions: CounterFamily<2>,
    dropped: CounterFamily<1>,
    reports: CounterFamily<2>,
    waiting: AtomicU64,
    last_sent: AtomicU64,
}

impl Default for TlsReportCounters {
    fn default() -> Self {
        Self {
            sessions: CounterFamily::new("tlsrpt_sessions", ["policy", "result"]),
            dropped: CounterFamily::new("tlsrpt_dropped", ["why"]),
            reports: CounterFamily::new("tlsrpt_reports", ["way", "result"]),
            waiting: AtomicU64::new(0),
            last_sent: AtomicU64::new(0),
        }
    }
}

/// The TLS reports since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsReportFigures {
    /// Reports that are due and that their receivers do not have yet.
    pub waiting: u64,
    /// When a receiver took one last, or danelaw started, in seconds since 1970.
    pub last_sent: u64,
    /// Tries, and reports that ended without one, by the way and the result.
    pub reports: Vec<([&'static str; 2], u64)>,
}

impl super::Metrics {
    /// The numbers of TLS reports, for people.
    pub fn tls_reports(&self) -> TlsReportFigures {
        let TlsReportCounters { reports, waiting, last_sent, .. } = &self.tlsrpt;
        let [waiting, last_sent] = [waiting, last_sent].map(|number| number.load(Relaxed));
        TlsReportFigures { waiting, last_sent, reports: reports.counts() }
    }

    /// Counts a TLS session for TLS reports, by the type of its policy and its result.
    pub(in super::super) fn tls_session(&self, policy: &'static str, result: &'static str) {
        self.tlsrpt.sessions.count([policy, result]);
    }

    /// Counts a TLS session that TLS reports will miss.
    pub fn tls_session_dropped(&self, why: &'static str) {
        self.tlsrpt.dropped.count([why]);
    }

    /// Counts a try to send a TLS report, or a report that ended without one.
    pub fn tls_report(&self, way: &'static str, result: &'static str) {
        self.tlsrpt.reports.count([way, result]);
    }

    /// Counts so many reports that ended without a try, by the way and the result.
    pub fn tls_reports_ended(&self, of: [&'static str; 2], reports: u64) {
        self.tlsrpt.reports.add(of, reports);
    }

    /// Notes how many TLS reports wait to be sent.
    pub fn tls_reports_wait(&self, waiting: usize) {
        self.tlsrpt.waiting.store(waiting as u64, Relaxed);
    }

    /// Notes that a TLS report has arrived at this second of the Unix clock, or that reports begin to be sent.
    pub fn tls_report_sent(&self, second: i64) {
        self.tlsrpt.last_sent.store(second.unsigned_abs(), Relaxed);
    }
}

impl TlsReportCounters {
    pub(super) fn encode(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "TLS sessions with remotes for TLS reports, by the type of the policy and the result";
        self.sessions.encode(to, help)?;
        self.dropped.encode(to, "TLS sessions that are missing in TLS reports, by reason")?;
        let help = "Tries to send a TLS report, and reports that ended without one, by the way and the result";
        self.reports.encode(to, help)?;
        let help = "TLS reports that are due and that their receivers do not have yet";
        gauge(to, About("tlsrpt_waiting", help), self.waiting.load(Relaxed))?;
        let help = "When a receiver took a TLS report last, or danelaw started; 0 unless tlsrpt.mode is send";
        gauge(to, About("tlsrpt_last_sent_timestamp_seconds", help), self.last_sent.load(Relaxed))
    }
}
