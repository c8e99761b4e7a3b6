//! The log events of findings.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::book::{SubjectName, ToldFinding};
use super::kinds::Severity;
use super::states::FindingNews;

/// Writes one event, at the level of its severity. The end of a finding is for the record.
pub(crate) fn tell(told: &ToldFinding) {
    macro_rules! event {
        ($level:ident) => {{
            let (domain, host) = match &told.name {
                SubjectName::Domain(name) => (Some(name.as_str()), None),
                SubjectName::Host(key) => (None, Some(key.as_str())),
            };
            let since =
                OffsetDateTime::from_unix_timestamp(told.state.since).ok().and_then(|at| at.format(&Rfc3339).ok());
            tracing::$level!(
                kind = told.kind.as_str(),
                severity = told.state.severity.as_str(),
                whose = told.whose.as_str(),
                domain,
                host,
                domains = told.domains,
                state = told.told.as_str(),
                since,
                reason = told.state.label,
                text = told.state.text,
                remedy = told.remedy(),
                "finding"
            )
        }};
    }
    match (told.told, told.state.severity) {
        (FindingNews::Ended, _) | (_, Severity::Info) => event!(info),
        (FindingNews::New | FindingNews::Still, Severity::Warn) => event!(warn),
        (FindingNews::New | FindingNews::Still, Severity::Alarm) => event!(error),
    }
}
