//! A look without a danelaw that runs, with a file for a memory.

use std::path::Path;

use super::book::{Blind, Book, RunEnd, SubjectName, ToldFinding};
use super::kept::StateFileError;
use super::lookout::Lookout;
use super::states::FindingNews;
use super::view::{WatchView, remedy};
use crate::name::Name;

/// What a look has to tell.
#[derive(Debug)]
pub(crate) enum OnceEnd {
    /// These findings; often none.
    Saw(Vec<ToldFinding>),
    /// Nothing could be seen, for this reason.
    Blind(String),
}

/// Looks at the domains, tells what is new since the last look, and keeps it.
///
/// # Errors
/// The file cannot be read or written. Then nothing is told: the next look tells it.
pub(crate) async fn look_once(
    lookout: &Lookout,
    domains: &[Name],
    state: &Path,
) -> Result<(OnceEnd, WatchView), StateFileError> {
    let mut book = Book::read(state)?;
    let end = book.take_up(lookout.run(domains).await);
    book.write(state)?;
    let end = match (end, &book.blind) {
        (RunEnd::Saw(told), _) => OnceEnd::Saw(told),
        (RunEnd::Blind(_), Some(blind)) => OnceEnd::Blind(blind.to_string()),
        (RunEnd::Blind(_), None) => OnceEnd::Blind("nothing could be seen".to_owned()),
    };
    Ok((end, book.view()))
}

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, failed, of, .. } = self;
        match failed {
            0 => write!(f, "nothing could be seen ({label}): no name server passes the self-test"),
            _ => write!(
                f,
                "{failed} of {of} hosts fail that were good before, most with {label}: look at this machine first, its firewall, its \
                 name servers and its clock; no finding is told of this look"
            ),
        }
    }
}

impl ToldFinding {
    /// The name of the domain or host.
    pub(crate) fn about(&self) -> &str {
        match &self.name {
            SubjectName::Domain(name) | SubjectName::Host(name) => name,
        }
    }

    /// The remedy, while the finding holds.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        remedy(self.kind, self.state.label.as_deref()).filter(|_| self.told != FindingNews::Ended)
    }

    /// Lines for people.
    pub(crate) fn line(&self, now: i64) -> String {
        let (severity, kind, about) = (self.state.severity.as_str(), self.kind.as_str(), self.about());
        let behind = match &self.name {
            SubjectName::Host(_) if self.domains > 1 => format!(" (of {} domains)", self.domains),
            SubjectName::Host(_) | SubjectName::Domain(_) => String::new(),
        };
        let head = format!("{} {severity} {kind} {about}{behind}", self.told.as_str());
        if self.told == FindingNews::Ended {
            return format!("{head}: over after {} h\n", (now - self.state.since).max(0) / 3600);
        }
        let remedy = self.remedy().map_or(String::new(), |remedy| format!("    {remedy}\n"));
        format!("{head}: {}\n{remedy}", self.state.text)
    }
}
