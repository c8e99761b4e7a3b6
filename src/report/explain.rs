//! The account of one attempt, as `danelaw explain ID` prints it.

use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::ring::AttemptTexts;
use super::{Outcome, ReachedRemote, printable};
use crate::requiretls::TagResult;
use crate::upstream::original_destination::OriginalDestination;
use crate::upstream::sts::StsNote;

/// The texts about an attempt.
pub(super) fn account(outcome: &Outcome, at: OffsetDateTime) -> AttemptTexts {
    let time = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default();
    let line = format!("{}  {time}  {}  {}", outcome.id, outcome.domain, verdict(outcome));
    AttemptTexts { line: printable(&line), steps: explain(outcome, at) }
}

/// Every step of the attempt. Each line is printable ASCII, also where a remote wrote it.
fn explain(outcome: &Outcome, at: OffsetDateTime) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<11} {}", printable(value));
        }
    };
    line("attempt", &format!("{}, ended at {}", outcome.id, at.format(&Rfc3339).unwrap_or_default()));
    line("domain", outcome.domain.as_str());
    line("from", outcome.sender_domain.as_deref().unwrap_or_default());
    line("Message-ID", outcome.names.message_id.as_deref().unwrap_or_default());
    line("queue id", outcome.names.queue_id.as_deref().unwrap_or_default());
    line("verdict", &verdict(outcome));
    line("the client", &outcome.original_destination.map(intercepted).unwrap_or_default());
    line("the client", &told(outcome));
    if let Some(would) = &outcome.would {
        line("enforcing", &format!("would have answered {}: {}", would.answer, would.reason));
    }
    line("STS policy", &outcome.sts.as_ref().map(sts).unwrap_or_default());
    line("rule", outcome.rule.as_deref().unwrap_or_default());
    line("listener", &outcome.listener_level.map(|level| format!("level {level} at least")).unwrap_or_default());
    line("REQUIRETLS", outcome.requiretls.map_or("", TagResult::as_str));
    line("policy", outcome.policy().unwrap_or_default());
    if let Some(remote) = &outcome.remote {
        line("remote", &remote.peer.to_string());
        line("permit", remote.permit.map_or("", |_| "TLS-Required: No, by its listener"));
        line("protection", &protection(remote));
    }
    line(
        "recipients",
        &format!("{} accepted by the remote, {} octets of message read", outcome.recipients, outcome.octets),
    );
    outcome.skipped.iter().for_each(|refusal| line("not taken", refusal));
    for step in outcome.seen.steps() {
        let took = if step.took.is_zero() { String::new() } else { format!(" ({})", millis(step.took)) };
        line(&format!("{:>11}", millis(step.at)), &format!("{}{took}", step.text));
    }
    text
}

fn sts(note: &StsNote) -> String {
    let id = note.id.as_ref().map_or(String::new(), |id| format!(", id {id}"));
    let would = note.would.map_or(String::new(), |would| format!("; in mode enforce it would have refused: {would}"));
    format!("{}{id}{would}", note.found)
}

fn verdict(outcome: &Outcome) -> String {
    match outcome.reason {
        None => outcome.verdict.to_string(),
        Some(reason) => format!("{}: {reason}", outcome.verdict),
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome.code {
        Some(_) => format!("was told {}", outcome.text),
        None => format!("was told nothing: {}", outcome.text),
    }
}

fn protection(ReachedRemote { channel, earlier_mails, .. }: &ReachedRemote) -> String {
    match earlier_mails {
        0 => channel.to_string(),
        1 => format!("{channel}; proven when the session was opened, 1 mail before"),
        mails => format!("{channel}; proven when the session was opened, {mails} mails before"),
    }
}

fn intercepted(OriginalDestination { address, relation }: OriginalDestination) -> String {
    format!("had dialled {address} ({})", relation.as_str())
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
