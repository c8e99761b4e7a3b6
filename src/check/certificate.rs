//! A certificate in the result for one domain.

use serde::Serialize;
use time::{Date, OffsetDateTime};

use super::ends::DAY;
use crate::dane::facts;

/// One certificate as the server showed it.
#[derive(Debug, Serialize)]
pub(crate) struct CertificateReport {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    /// Days, UTC.
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) days_left: i64,
}

impl CertificateReport {
    pub(crate) fn of(der: &[u8], now: OffsetDateTime) -> Option<Self> {
        let facts = facts::read(der)?;
        let day = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MAX, OffsetDateTime::date);
        Some(Self {
            subject: facts.subject,
            issuer: facts.issuer,
            names: facts.names,
            not_before: day(facts.not_before).to_string(),
            not_after: day(facts.not_after).to_string(),
            days_left: facts.not_after.saturating_sub(now.unix_timestamp()).div_euclid(DAY),
        })
    }
}
