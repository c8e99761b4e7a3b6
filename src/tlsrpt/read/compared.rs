//! The policy in a report beside the policy that is published now: a sender may have seen another one.

use std::collections::BTreeSet;

use super::received::{MAX_STRING, MAX_TEXTS, PublishedPolicy, ReceivedPolicy};
use crate::excerpt::cut;

/// How the two policies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportedChange {
    /// They do not.
    Same,
    /// The report does not have the texts of the policy.
    Untold,
    /// Texts that only one of them has.
    Changed {
        /// Those of the report.
        gone: Vec<String>,
        /// Those that are published now.
        new: Vec<String>,
    },
    /// It could not be looked up, for this reason.
    Unknown(String),
}

impl ReportedChange {
    /// Of a policy whose published form was looked up.
    pub fn of(policy: &ReceivedPolicy) -> Option<Self> {
        Some(match policy.published.as_deref()? {
            PublishedPolicy::Unknown(why) => Self::Unknown(why.clone()),
            PublishedPolicy::OneOf(_) if policy.strings.is_empty() => Self::Untold,
            PublishedPolicy::OneOf(sets) => Self::between(&policy.strings, sets),
        })
    }

    /// A report does not always say which host its records are of: they are the same if those of one host are.
    fn between(told: &[String], sets: &[Vec<String>]) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| normal(text)).collect::<BTreeSet<_>>();
        let (told, sets) = (all(told), sets.iter().map(|texts| all(texts)).collect::<Vec<_>>());
        if sets.contains(&told) {
            return Self::Same;
        }
        let published = sets.into_iter().flatten().collect();
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
            one.difference(other).take(MAX_TEXTS).cloned().collect::<Vec<_>>()
        };
        Self::Changed { gone: only(&told, &published), new: only(&published, &told) }
    }
}

/// One spelling of a TLSA record or a line of a policy, as long as a report keeps it.
fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let one = match words.as_slice() {
        // Senders write the data in upper or lower case, in one piece or in several.
        [usage @ ("0" | "1" | "2" | "3"), selector, matching, data @ ..] if !data.is_empty() => {
            format!("{usage} {selector} {matching} {}", data.concat().to_ascii_uppercase())
        }
        // RFC 8461 §3.2: blanks behind the colon do not count.
        words => words.join(" ").replacen(": ", ":", 1).replacen(':', ": ", 1),
    };
    cut(&one, MAX_STRING)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::received::ReceivedReport;
    use super::*;

    fn change(strings: &serde_json::Value, published: PublishedPolicy) -> ReportedChange {
        let report = serde_json::json!({"policies": [{"policy": {"policy-type": "tlsa", "policy-string": strings}}]});
        let mut policy = ReceivedReport::read(report.to_string().as_bytes()).unwrap().policies.remove(0);
        assert_eq!(ReportedChange::of(&policy), None);
        policy.published = Some(Arc::new(published));
        ReportedChange::of(&policy).unwrap()
    }

    #[test]
    fn u9_a_policy_that_has_changed_since_the_report() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let changed = |gone: &[&str], new: &[&str]| ReportedChange::Changed { gone: texts(gone), new: texts(new) };
        let long = format!("3 0 0 {}", "AB".repeat(3000));
        for (told, published, expected) in [
            (serde_json::json!(["3 1 1 ab cd"]), &["3 1 1 ABCD"][..], ReportedChange::Same),
            (serde_json::json!("3 1 1 ABCD"), &["3 1 1 ABCD"], ReportedChange::Same),
            (serde_json::json!([long.to_lowercase()]), &[&long], ReportedChange::Same),
            (serde_json::json!(["3 1 1 AB"]), &["3 1 1 CD"], changed(&["3 1 1 AB"], &["3 1 1 CD"])),
            (serde_json::json!(["3 1 1 AB"]), &[], changed(&["3 1 1 AB"], &[])),
            (
                serde_json::json!(["version:STSv1", "mx:  a.example"]),
                &["version: STSv1", "mx: a.example"],
                ReportedChange::Same,
            ),
            (serde_json::json!(["mode: testing"]), &["mode: enforce"], changed(&["mode: testing"], &["mode: enforce"])),
            (serde_json::json!([]), &["3 1 1 AB"], ReportedChange::Untold),
        ] {
            assert_eq!(change(&told, PublishedPolicy::OneOf(vec![texts(published)])), expected, "{told}");
        }
        let hosts = ["3 1 1 AB", "3 1 1 CD"].map(|record| texts(&[record]));
        for (told, expected) in [
            ("3 1 1 AB", ReportedChange::Same),
            ("3 1 1 CD", ReportedChange::Same),
            ("3 1 1 EF", changed(&["3 1 1 EF"], &["3 1 1 AB", "3 1 1 CD"])),
        ] {
            assert_eq!(change(&serde_json::json!([told]), PublishedPolicy::OneOf(hosts.to_vec())), expected, "{told}");
        }
        let unknown = change(&serde_json::json!(["3 1 1 AB"]), PublishedPolicy::Unknown("no answer".to_owned()));
        assert_eq!(unknown, ReportedChange::Unknown("no answer".to_owned()));
    }
}
