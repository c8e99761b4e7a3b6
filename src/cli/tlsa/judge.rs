//! The judged chain, the verdict, and its words.

use serde_json::{Value, json};

use super::{BadInput, MATCH, MISMATCH, NO_SESSION, UNUSABLE};
use crate::dane::tlsa::{ParseTlsaError, Tlsa, Unusable, Usable, Usage};
use crate::dane::verify::Match;
use crate::name::Name;

/// The records of the command line, sorted by their use.
pub(super) struct Records {
    /// Those that bind.
    pub(super) usable: Option<Usable>,
    /// Set aside by digest agility (RFC 7671 §9).
    weaker: Vec<Tlsa>,
    /// As they were written, and the fault of each.
    unusable: Vec<(String, Unusable)>,
}

impl Records {
    pub(super) fn read(base_domain: &Name, texts: &[String]) -> Result<Self, BadInput> {
        let (mut all, mut unusable) = (Vec::new(), Vec::new());
        for text in texts.iter().map(|text| record_data(text)) {
            match text.parse::<Tlsa>() {
                Ok(record) => all.push(record),
                Err(ParseTlsaError::Unusable(why)) => unusable.push((text, why)),
                Err(why @ ParseTlsaError::Syntax) => return Err(BadInput(format!("--record {text:?}: {why}"))),
            }
        }
        let usable = Usable::new(base_domain.clone(), all.clone());
        let binds = |record: &Tlsa| usable.as_ref().is_some_and(|usable| usable.records().contains(record));
        all.retain(|record| !binds(record));
        Ok(Self { usable, weaker: all, unusable })
    }

    /// Whether a name decides anything.
    pub(super) fn need_a_name(texts: &[String]) -> bool {
        let mut records = texts.iter().filter_map(|text| record_data(text).parse::<Tlsa>().ok());
        records.any(|record| record.usage() == Usage::TrustAnchor)
    }

    /// Why each of the unusable records is.
    pub(super) fn reasons(&self) -> Vec<Unusable> {
        self.unusable.iter().map(|(_, why)| why.clone()).collect()
    }
}

/// The data of a record, which may stand in a line of a zone, as `danelaw tlsa generate` prints it (RFC 1035 §5.1).
fn record_data(text: &str) -> String {
    let code = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let words: Vec<&str> = code.flat_map(str::split_ascii_whitespace).collect();
    let data = words.iter().position(|word| word.eq_ignore_ascii_case("TLSA")).map_or(0, |rtype| rtype + 1);
    words[data..].join(" ").replace(['(', ')'], "")
}

/// The verdict.
pub(super) enum TlsaVerdict {
    /// A record matches.
    Match(Match),
    /// The server is not the one that the records mean: the name of the reason, and its text.
    Mismatch(&'static str, String),
    /// These records cannot verify any server.
    Unusable,
    /// No session came about: the name of the reason, and its text.
    NoSession(&'static str, String),
}

/// Everything that is printed.
pub(super) struct Judgement {
    pub(super) records: Records,
    pub(super) verdict: TlsaVerdict,
    /// The server that was asked, and the protection of the session.
    pub(super) session: Vec<(&'static str, String)>,
}

impl Judgement {
    /// The exit status.
    pub(super) fn status(&self) -> u8 {
        match self.verdict {
            TlsaVerdict::Match(_) => MATCH,
            TlsaVerdict::Mismatch(..) => MISMATCH,
            TlsaVerdict::Unusable => UNUSABLE,
            TlsaVerdict::NoSession(..) => NO_SESSION,
        }
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            TlsaVerdict::Match(_) => "match",
            TlsaVerdict::Mismatch(..) => "mismatch",
            TlsaVerdict::Unusable => "unusable",
            TlsaVerdict::NoSession(..) => "no-session",
        }
    }

    /// One fact a line.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("verdict: {}", self.word())];
        match &self.verdict {
            TlsaVerdict::Match(Match { record, depth, warning, path_ends: _ }) => {
                lines.push(format!("record: {record}"));
                lines.push(format!("depth: {depth} ({})", owner_of(*depth)));
                lines.extend(warning.map(|warning| format!("warning: {warning}")));
            }
            TlsaVerdict::Mismatch(label, why) | TlsaVerdict::NoSession(label, why) => {
                lines.push(format!("reason: {label}"));
                lines.push(format!("text: {why}"));
            }
            TlsaVerdict::Unusable => lines.push("text: none of the records is usable".into()),
        }
        lines.extend(self.session.iter().map(|(key, value)| format!("{key}: {value}")));
        lines.extend(self.records.unusable.iter().map(|(record, why)| format!("unusable: {record} ({why})")));
        let weaker = |record| format!("set aside: {record} (a SHA2-512 record says the same with a stronger digest)");
        lines.extend(self.records.weaker.iter().map(weaker));
        lines.join("\n")
    }

    /// The same facts for programs. Facts that do not apply are absent.
    pub(super) fn json(&self) -> Value {
        let mut fields = serde_json::Map::new();
        let mut field = |key: &str, value: Value| drop(fields.insert(key.into(), value));
        field("verdict", self.word().into());
        match &self.verdict {
            TlsaVerdict::Match(Match { record, depth, warning, path_ends: _ }) => {
                field("record", record.to_string().into());
                field("depth", (*depth).into());
                if let Some(warning) = warning {
                    field("warning", warning.to_string().into());
                }
            }
            TlsaVerdict::Mismatch(label, why) | TlsaVerdict::NoSession(label, why) => {
                field("reason", (*label).into());
                field("text", why.as_str().into());
            }
            TlsaVerdict::Unusable => {}
        }
        for (key, value) in &self.session {
            field(key, value.as_str().into());
        }
        let unusable = self.records.unusable.iter();
        field("unusable", unusable.map(|(record, why)| json!({ "record": record, "why": why.to_string() })).collect());
        field("set_aside", self.records.weaker.iter().map(|record| Value::from(record.to_string())).collect());
        fields.into()
    }
}

fn owner_of(depth: usize) -> &'static str {
    match depth {
        0 => "the server's own certificate",
        1 => "the authority that issued it",
        _ => "an authority further up",
    }
}
