//! The text of a policy (RFC 8461 §3.2).
//!
//! A policy is read as its owner meant it wherever that is clear: unknown keys, empty lines and a byte order mark do no harm.
//! Where a key that counts has no clear value, there is no policy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::pattern::MxPattern;
use super::text::{StsField, fields};
use crate::excerpt::{cut, without_mark};
use crate::name::Name;
use crate::words::words;

/// The longest life of a policy, about a year (RFC 8461 §3.2). A longer one is read as this one.
pub const LONGEST_MAX_AGE: Duration = Duration::from_secs(31_557_600);
/// The most digits of `max_age` (RFC 8461 §3.2).
const MAX_AGE_DIGITS: usize = 10;
/// The most characters of a value that an error quotes.
const QUOTED: usize = 40;

/// What a sender does with a host that fails the policy (RFC 8461 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case", parse_err_ty = StsPolicyError, parse_err_fn = no_mode)]
pub enum StsMode {
    /// It sends no mail there.
    Enforce,
    /// It sends the mail, and tells.
    Testing,
    /// As if there were no policy.
    None,
}

words!(StsMode);

/// Whether policies count for domains without DANE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum StsUse {
    /// They are held to.
    Enforce,
    /// They are fetched and told, and not held to.
    Observe,
    /// They are not asked for.
    Off,
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsPolicyError {
    /// A key that each policy has is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// The value of a key that counts has a NUL, a bare CR, or octets that are no UTF-8.
    #[error("the value of {0} is no text")]
    NoText(&'static str),
    /// Another version.
    #[error("its version is {0:?}, not STSv1")]
    Version(String),
    /// Not `enforce`, `testing` or `none`.
    #[error("its mode is {0:?}")]
    Mode(String),
    /// Not 1 to 10 digits.
    #[error("its max_age is {0:?}, not 1 to 10 digits")]
    MaxAge(String),
    /// Its mode asks for `mx` values, and no host can match those that it has.
    #[error("no host can match any of its mx values")]
    NoUsableMx,
}

/// A policy as it was fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct StsPolicy {
    mode: StsMode,
    max_age: Duration,
    patterns: Vec<MxPattern>,
    body: Arc<[u8]>,
}

impl StsPolicy {
    /// Reads the body of the policy host's answer.
    ///
    /// # Errors
    /// The text is no policy, for this reason.
    pub fn parse(body: &[u8]) -> Result<Self, StsPolicyError> {
        let mut values = StsValues::default();
        fields(body).try_for_each(|field| values.take(field))?;
        let StsValues { version, mode, max_age, patterns } = values;
        version.ok_or(StsPolicyError::Missing("version"))?;
        let mode = mode.ok_or(StsPolicyError::Missing("mode"))?;
        let max_age = max_age.ok_or(StsPolicyError::Missing("max_age"))?;
        // RFC 8461 §3.2: at least one `mx` unless the mode is none.
        match mode {
            StsMode::Enforce | StsMode::Testing if patterns.is_empty() => return Err(StsPolicyError::Missing("mx")),
            StsMode::Enforce | StsMode::Testing if !patterns.iter().any(MxPattern::is_usable) => {
                return Err(StsPolicyError::NoUsableMx);
            }
            StsMode::Enforce | StsMode::Testing | StsMode::None => {}
        }
        Ok(Self { mode, max_age, patterns, body: body.into() })
    }

    /// Its mode.
    pub fn mode(&self) -> StsMode {
        self.mode
    }

    /// How long it holds from the moment it was fetched; a year at most. Zero: it holds for the mail at hand.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// Its `mx` values in their order, those that no host can match among them.
    pub fn patterns(&self) -> &[MxPattern] {
        &self.patterns
    }

    /// The octets that were fetched.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The lines that were fetched, without those that are empty: the `policy-string` of a report (RFC 8460 §4.4).
    pub fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(without_mark(&self.body));
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Whether it lists an exchange, by the name in the MX record, before any alias (RFC 8461 §4.1).
    pub fn lists(&self, exchange: &Name) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(exchange))
    }
}

/// The mode and the patterns; the body would fill a log.
impl fmt::Debug for StsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<_> = self.patterns.iter().map(MxPattern::as_str).collect();
        write!(f, "{} {}s {}", self.mode, self.max_age.as_secs(), patterns.join(","))
    }
}

fn no_mode(text: &str) -> StsPolicyError {
    StsPolicyError::Mode(cut(text, QUOTED))
}

/// The values of the keys that count, as far as they are read.
#[derive(Default)]
struct StsValues {
    version: Option<()>,
    mode: Option<StsMode>,
    max_age: Option<Duration>,
    patterns: Vec<MxPattern>,
}

impl StsValues {
    /// RFC 8461 §3.2: of a key that stands there twice the first counts, except `mx`; keys that are not known are ignored.
    fn take(&mut self, field: StsField<'_>) -> Result<(), StsPolicyError> {
        match field.key {
            b"version" if self.version.is_none() => self.version = Some(version(text("version", field)?)?),
            b"mode" if self.mode.is_none() => self.mode = Some(text("mode", field)?.parse()?),
            b"max_age" if self.max_age.is_none() => self.max_age = Some(max_age(text("max_age", field)?)?),
            b"mx" => self.patterns.push(MxPattern::parse(text("mx", field)?)),
            _ => {}
        }
        Ok(())
    }
}

/// The value as text without NUL and CR.
fn text<'a>(key: &'static str, field: StsField<'a>) -> Result<&'a str, StsPolicyError> {
    let value = str::from_utf8(field.value).map_err(|_| StsPolicyError::NoText(key))?;
    if value.contains(['\0', '\r']) { Err(StsPolicyError::NoText(key)) } else { Ok(value) }
}

fn version(value: &str) -> Result<(), StsPolicyError> {
    if value == "STSv1" { Ok(()) } else { Err(StsPolicyError::Version(cut(value, QUOTED))) }
}

fn max_age(value: &str) -> Result<Duration, StsPolicyError> {
    let is_number = (1..=MAX_AGE_DIGITS).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    match value.parse() {
        Ok(seconds) if is_number => Ok(Duration::from_secs(seconds).min(LONGEST_MAX_AGE)),
        _ => Err(StsPolicyError::MaxAge(cut(value, QUOTED))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy in short: its mode, the seconds it holds, its `mx` values.
    fn read(body: &[u8]) -> Result<String, StsPolicyError> {
        StsPolicy::parse(body).map(|policy| format!("{policy:?}"))
    }

    /// A policy with everything, in which each line stands in for that of its key; those of other keys come last.
    fn with(lines: &str) -> Result<String, StsPolicyError> {
        let key = |line: &str| line.split(':').next().unwrap().to_owned();
        let replaced: Vec<_> = lines.lines().map(key).collect();
        let rest = ["version: STSv1", "mode: enforce", "mx: a.example", "max_age: 86400"];
        let rest = rest.into_iter().filter(|line| !replaced.contains(&key(line)));
        read(lines.lines().chain(rest).collect::<Vec<_>>().join("\n").as_bytes())
    }

    const WHOLE: &str = "enforce 86400s a.example";

    #[test]
    fn p4_lines_and_blanks() {
        // P4.
        for body in [
            "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400",
            "version: STSv1\r\nmode: enforce\r\nmx: a.example\r\nmax_age: 86400\r\n",
            "version: STSv1\r\nmode: enforce\nmx: a.example\r\nmax_age: 86400\n",
            "version:STSv1\nmode:enforce\nmx:a.example\nmax_age:86400",
            "version :\t STSv1 \t\n mode : enforce\nmx:\ta.example \nmax_age: 86400 \r\n",
            "\u{feff}version: STSv1\n\n\r\nmode: enforce\n \nmx: a.example\nmax_age: 86400\n\n",
            // The version need not be first.
            "max_age: 86400\nmx: a.example\nmode: enforce\nversion: STSv1\n",
            // Unknown keys and lines without a colon are ignored.
            "version: STSv1\nnote: x\nMode: testing\nMX: b.example\nmode: enforce\nmx: a.example\nmax_age: 86400\nend",
            "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\nreport: a: b\n: c\n# mx: b.example",
            // A text that is indented as a whole, with an empty line before it.
            "\n\t  version: STSv1\n\t  mode: enforce\n\t  mx: a.example\n\t  max_age: 86400\n\t  ",
            // Others take a fault in an unknown field for a fault of the policy.
            "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\next:\n_bad: x\na-key-that-is-longer-than-32-octets: 1",
        ] {
            assert_eq!(read(body.as_bytes()).as_deref(), Ok(WHOLE), "{body:?}");
        }
    }

    #[test]
    fn p4_the_first_of_each_key_counts_except_mx() {
        // P4.
        for (lines, expected) in [
            ("mode: testing\nmode: enforce", "testing 86400s a.example"),
            ("mode: testing\nmode: rubbish", "testing 86400s a.example"),
            ("version: STSv1\nversion: STSv2", WHOLE),
            ("max_age: 1\nmax_age: 2", "enforce 1s a.example"),
            ("max_age: 1\nmax_age: x", "enforce 1s a.example"),
            ("mx: a.example\nmx: *.b.example\nmx: a.example", "enforce 86400s a.example,*.b.example,a.example"),
        ] {
            assert_eq!(with(lines).as_deref(), Ok(expected), "{lines:?}");
        }
        // The first one counts, even if it is the wrong one.
        assert_eq!(with("version: STSv2\nversion: STSv1"), Err(StsPolicyError::Version("STSv2".into())));
        assert_eq!(with("mode: rubbish\nmode: enforce"), Err(StsPolicyError::Mode("rubbish".into())));
        assert_eq!(with("max_age:\nmax_age: 1"), Err(StsPolicyError::MaxAge(String::new())));
    }

    #[test]
    fn p4_keys_and_values_are_exact() {
        // P4.
        use StsPolicyError::{Missing, Mode, Version};
        for (lines, expected) in [
            ("version: stsv1", Version("stsv1".into())),
            ("version: STSv10", Version("STSv10".into())),
            ("version: \"STSv1\"", Version("\"STSv1\"".into())),
            ("version:", Version(String::new())),
            ("mode: Enforce", Mode("Enforce".into())),
            ("mode: enforce;", Mode("enforce;".into())),
            ("mode: none testing", Mode("none testing".into())),
            ("mode:", Mode(String::new())),
        ] {
            assert_eq!(with(lines), Err(expected), "{lines:?}");
        }
        for (body, missing) in [
            ("", "version"),
            // The form of early drafts.
            ("{\"version\": \"STSv1\", \"mode\": \"enforce\", \"mx\": [\"a.example\"], \"max_age\": 1}", "version"),
            ("<!DOCTYPE html>\n<html><head><title>404: gone</title></head></html>", "version"),
            ("Version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 1", "version"),
            ("version: STSv1\nMode: enforce\nmx: a.example\nmax_age: 1", "mode"),
            ("version: STSv1\nmode: enforce\nmx: a.example\nmax-age: 1", "max_age"),
            ("version: STSv1\nmode: enforce\nMX: a.example\nmax_age: 1", "mx"),
            ("version: STSv1\nmode: testing\nmax_age: 1", "mx"),
        ] {
            assert_eq!(read(body.as_bytes()), Err(Missing(missing)), "{body:?}");
        }
        let long = with(&format!("mode: {}", "x".repeat(60_000)));
        assert!(matches!(long, Err(Mode(quoted)) if quoted.len() < 50), "a quotation is short");
    }

    #[test]
    fn p4_a_policy_needs_an_mx_that_a_host_can_match_unless_its_mode_is_none() {
        // P4.
        for (lines, expected) in [
            ("mx: 192.0.2.1", Err(StsPolicyError::NoUsableMx)),
            ("mx:\nmx: *\nmx: *.*.example\nmx: b\u{fc}cher.example", Err(StsPolicyError::NoUsableMx)),
            ("mode: testing\nmx: m*.example", Err(StsPolicyError::NoUsableMx)),
            ("mx: **.example\nmx: .a.example\nmx: a.*.example", Err(StsPolicyError::NoUsableMx)),
            // What no host can match is kept for reports.
            ("mx: *\nmx: a.example", Ok("enforce 86400s *,a.example")),
            ("mode: none\nmx: 192.0.2.1", Ok("none 86400s 192.0.2.1")),
        ] {
            assert_eq!(with(lines).as_deref(), expected.as_ref().copied(), "{lines:?}");
        }
        assert_eq!(read(b"version: STSv1\nmode: none\nmax_age: 86400").as_deref(), Ok("none 86400s "));
    }

    #[test]
    fn p5_max_age_has_1_to_10_digits_and_is_a_year_at_most() {
        // P5, A-114.
        for (value, seconds) in [
            ("0", 0),
            ("1", 1),
            ("0000000060", 60),
            ("31557600", 31_557_600),
            ("31557601", 31_557_600),
            ("9999999999", 31_557_600),
        ] {
            assert_eq!(with(&format!("max_age: {value}")), Ok(format!("enforce {seconds}s a.example")), "{value}");
        }
        for value in ["", "00000000060", "-1", "+1", "1 000", "1.5", "86400s", "1d", "\u{661}", "0x10", "86400;"] {
            assert_eq!(with(&format!("max_age: {value}")), Err(StsPolicyError::MaxAge(value.into())), "{value}");
        }
    }

    #[test]
    fn p4_octets_that_are_no_text_count_in_used_keys_only() {
        // P4.
        let whole = b"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\n".to_vec();
        for (line, expected) in [
            (&b"note: \0\xff\r!\n"[..], Ok(WHOLE)),
            (b"\0\xff: x\n", Ok(WHOLE)),
            (b"\0\xff\n", Ok(WHOLE)),
            // A second `mode` is not used.
            (b"mode: \xff\n", Ok(WHOLE)),
            (b"mx: a\0.example\n", Err(StsPolicyError::NoText("mx"))),
            (b"mx: a\r.example\n", Err(StsPolicyError::NoText("mx"))),
            (b"mx: a.example\r\r\n", Err(StsPolicyError::NoText("mx"))),
            (b"mx: \xff.example\n", Err(StsPolicyError::NoText("mx"))),
        ] {
            let read = read(&[&whole[..], line].concat());
            assert_eq!(read.as_deref(), expected.as_ref().copied(), "{}", line.escape_ascii());
        }
        assert_eq!(read(b"version: STSv1\rmode: enforce"), Err(StsPolicyError::NoText("version")));
    }

    #[test]
    fn p12_a_policy_lists_what_one_of_its_values_matches() {
        // P12.
        let policy = StsPolicy::parse(
            b"version: STSv1\nmode: enforce\nmx: *.mx.example.net\nmx: 192.0.2.1\nmx: Mx9.example.org.\nmax_age: 1",
        );
        let policy = policy.unwrap();
        let lists = |exchange: &str| policy.lists(&Name::parse(exchange).unwrap());
        assert!(lists("a.mx.example.net") && lists("mx9.example.org"));
        assert!(!lists("mx.example.net") && !lists("b.a.mx.example.net") && !lists("mx8.example.org"));
    }

    #[test]
    fn a_report_has_the_lines_as_they_were_fetched() {
        let body = b"\xef\xbb\xbfversion: STSv1\r\nmode: none \r\n\r\nmax_age: 1\r\nnote: \xff";
        let policy = StsPolicy::parse(body).unwrap();
        assert_eq!(policy.lines(), ["version: STSv1", "mode: none", "max_age: 1", "note: \u{fffd}"]);
        assert_eq!(policy.body(), body);
    }
}
