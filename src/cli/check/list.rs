//! Lists of domains as they come: lines of domains or mail addresses, or the first column of a spreadsheet, in the encodings
//! of several systems.

use std::collections::HashSet;
use std::fmt;
use std::io;

use serde::Deserialize;

use crate::check::verdict::MailVerdict;
use crate::cli::encoding::{TextEncoding, utf16};
use crate::excerpt::without_mark;
use crate::name::{Name, NameError};

/// The longest text of a line in a message.
const MAX_SHOWN: usize = 100;

/// The domains of a list in its order, and the lines that name none.
#[derive(Debug, Default)]
pub(super) struct DomainList {
    pub(super) domains: Vec<Name>,
    pub(super) left_out: Vec<LeftOutLine>,
}

/// A line that names no domain.
#[derive(Debug)]
pub(super) struct LeftOutLine {
    line: usize,
    text: String,
    why: WhyLeftOut,
}

#[derive(Debug)]
enum WhyLeftOut {
    Heading,
    NoDomain(NameError),
}

impl fmt::Display for LeftOutLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, text, why } = self;
        match why {
            WhyLeftOut::Heading => write!(f, "line {line}: {text:?} has no dot, so it is a heading and left out"),
            WhyLeftOut::NoDomain(error) => write!(f, "line {line}: {text:?} is no domain and left out: {error}"),
        }
    }
}

impl DomainList {
    /// Reads a list. A `#` begins a comment.
    pub(super) fn read(octets: &[u8]) -> Self {
        let mut list = Self::default();
        for (number, line) in lines(octets).iter().enumerate() {
            let text = first_column(line);
            let is_heading = list.domains.is_empty() && !text.contains(['.', '@']);
            let why = match domain(text) {
                _ if text.is_empty() => continue,
                Ok(_) if is_heading => WhyLeftOut::Heading,
                Ok(name) => {
                    list.domains.push(name);
                    continue;
                }
                Err(error) => WhyLeftOut::NoDomain(error),
            };
            let text = text.chars().take(MAX_SHOWN).collect();
            list.left_out.push(LeftOutLine { line: number + 1, text, why });
        }
        list
    }
}

/// A domain, or that of an address.
pub(in crate::cli) fn domain(text: &str) -> Result<Name, NameError> {
    let address = text.trim_start_matches('<').trim_end_matches('>');
    Name::parse(address.rsplit_once('@').map_or(address, |(_, domain)| domain))
}

/// The lines of a file: UTF-8, UTF-16 with or without a byte order mark, or Latin-1, with the line ends of any system.
fn lines(octets: &[u8]) -> Vec<String> {
    let text = match TextEncoding::of(octets) {
        TextEncoding::Octets => utf8_or_latin1(without_mark(octets)),
        TextEncoding::Utf16(unit) => utf16(octets, unit).trim_start_matches('\u{feff}').to_owned(),
    };
    text.replace("\r\n", "\n").split(['\n', '\r']).map(str::to_owned).collect()
}

/// Line by line, because a log may have lines of several programs.
fn utf8_or_latin1(octets: &[u8]) -> String {
    let line = |line: &[u8]| match str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        Err(_) => line.iter().copied().map(char::from).collect(),
    };
    octets.split(|octet| *octet == b'\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The first column of a line, with any of the usual separators. The count that `uniq -c` puts before is no column.
fn first_column(line: &str) -> &str {
    let line = line.split('#').next().unwrap_or_default().trim();
    let cell = match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => line.split([',', ';', '\t']).next(),
    };
    let cell = cell.unwrap_or_default().trim();
    match cell.split_once(char::is_whitespace) {
        Some((count, rest)) if count.bytes().all(|octet| octet.is_ascii_digit()) => rest.trim_start(),
        Some((word, _)) if word.contains(['.', '@']) => word,
        Some(_) | None => cell,
    }
}

/// An earlier run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EarlierRun {
    /// The domains that need no other check: all but those whose mail would be deferred.
    pub(super) checked: HashSet<String>,
    /// A mail server was reached, so port 25 is open.
    pub(super) has_reached: bool,
}

/// Reads the JSON of an earlier run, line by line. A line may be half a report, where a run was ended and another one followed.
///
/// # Errors
/// A line cannot be read. The inner error: no line is a report.
pub(super) fn earlier(lines: impl Iterator<Item = io::Result<Vec<u8>>>) -> io::Result<Result<EarlierRun, String>> {
    #[derive(Deserialize)]
    struct Earlier {
        domain: String,
        verdict: String,
    }
    let reached = [MailVerdict::Verified, MailVerdict::HostVerified, MailVerdict::Encrypted, MailVerdict::Cleartext];
    let (mut run, mut wrong) = (EarlierRun::default(), None);
    for (number, line) in lines.enumerate() {
        let line = line?;
        match serde_json::from_slice::<Earlier>(&line) {
            _ if line.trim_ascii().is_empty() => {}
            Ok(report) if report.verdict == MailVerdict::Deferred.as_str() => _ = run.checked.remove(&report.domain),
            Ok(report) => {
                run.has_reached |= reached.iter().any(|verdict| report.verdict == verdict.as_str());
                run.checked.insert(report.domain);
            }
            Err(error) => wrong = wrong.or(Some((number + 1, error))),
        }
    }
    Ok(match wrong {
        Some((line, error)) if run.checked.is_empty() => {
            Err(format!("line {line} is no report of danelaw check --json: {error}"))
        }
        Some(_) | None => Ok(run),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> (String, Vec<String>) {
        let list = DomainList::read(octets);
        let domains: Vec<_> = list.domains.iter().map(Name::to_string).collect();
        (domains.join(" "), list.left_out.iter().map(ToString::to_string).collect())
    }

    fn utf16(text: &str, octets: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(octets).collect()
    }

    #[test]
    fn lists_are_read_as_logs_and_spreadsheets_have_them() {
        for text in [
            "a.example\nb.example\n",
            "a.example\r\nb.example",
            "a.example\rb.example\r",
            "\u{feff}a.example\nb.example\n",
            "# all\n\n a.example # 17 mails\nb.example#\n",
            "x@a.example\n<y@b.example>\n",
            "a.example,17,x\nb.example;3\n",
            "\"a.example\",\"1,7\"\n\"b.example\"\n",
            "a.example\t1\nb.example 2\n",
            "     17 a.example\n      3 x@b.example\n",
            "A.Example.\nb.example\n",
        ] {
            assert_eq!(read(text.as_bytes()), ("a.example b.example".to_owned(), Vec::new()), "{text:?}");
        }
    }

    #[test]
    fn any_encoding_is_read() {
        let text = "a.example\r\nbücher.example\r\n";
        let same = |octets: &[u8]| assert_eq!(read(octets).0, "a.example xn--bcher-kva.example", "{octets:?}");
        same(text.as_bytes());
        same(&utf16(text, u16::to_le_bytes));
        same(&utf16(text, u16::to_be_bytes));
        same(&utf16(&format!("\u{feff}{text}"), u16::to_le_bytes));
        same(&utf16(&format!("\u{feff}{text}"), u16::to_be_bytes));
        let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        same(&latin1);
        // Half a character at the end.
        same(&[utf16(text, u16::to_le_bytes), vec![b'x']].concat());
    }

    #[test]
    fn a_line_that_names_no_domain_is_told_and_ends_nothing() {
        let (domains, left_out) = read(b"Domain;Mails\na.example;1\nno domain,\na..b,-\nb.example\n");
        assert_eq!(domains, "a.example b.example");
        assert_eq!(left_out.len(), 3, "{left_out:?}");
        assert_eq!(left_out[0], "line 1: \"Domain\" has no dot, so it is a heading and left out");
        assert!(left_out[1].starts_with("line 3: \"no domain\" is no domain and left out: "), "{left_out:?}");
        assert!(left_out[2].starts_with("line 4: \"a..b\" is no domain and left out: "), "{left_out:?}");
        let (domains, left_out) =
            read(&[b"a.example\n".as_slice(), &[b'x'; 100_000], b"\n\xff\xfe\x00\nb.example\n"].concat());
        assert_eq!(domains, "a.example b.example");
        assert!(left_out.iter().all(|line| line.len() < 300), "{left_out:?}");
    }

    #[test]
    fn a_single_label_is_a_domain_behind_the_first_line() {
        assert_eq!(read(b"a.example\nlocalhost\n").0, "a.example localhost");
    }

    #[test]
    fn an_earlier_run_leaves_out_all_that_needs_no_other_check() {
        let earlier = |json: &str| earlier(json.lines().map(|line| Ok(line.as_bytes().to_owned()))).unwrap();
        let report =
            |domain: &str, verdict: &str| format!("{{\"domain\":\"{domain}\",\"verdict\":\"{verdict}\",\"x\":[1]}}\n");
        let json = [
            report("a.example", "verified"),
            report("b.example", "deferred"),
            report("c.example", "deferred"),
            report("d.example", "rejected"),
            report("c.example", "encrypted"),
        ]
        .concat();
        let found = earlier(
            &(json.clone() + "{\"domain\":\"e.exam{\"domain\":\"f.example\"}\n" + &report("g.example", "rejected")),
        )
        .unwrap();
        assert_eq!(found.checked, ["a.example", "c.example", "d.example", "g.example"].map(str::to_owned).into());
        assert!(found.has_reached && !earlier(&report("d.example", "rejected")).unwrap().has_reached);
        let error = earlier("a line\n{}\n").unwrap_err();
        assert!(error.starts_with("line 1 is no report of danelaw check --json: "), "{error}");
        assert_eq!(earlier("").unwrap(), EarlierRun::default());
    }
}
