//! The page of requirements and attacks (`tests/requirements.md`) against the comments that cite its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "tests/requirements.md";
/// The folders whose Rust files may cite a row.
const FOLDERS: &[&str] = &["src", "tests", "fuzz", "benches"];
/// This file: its examples are no citations.
const OWN: &str = file!();
/// The answers of a row that no test cites.
const REASONS: &[&str] = &["by the type `", "not applicable: ", "open: "];

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One row of the page: its id and the last of its columns.
struct Row {
    id: String,
    held_by: String,
}

/// The rows of all tables of the page.
fn rows() -> Vec<Row> {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Id |")) {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, duty, rfc, held_by] = columns[..] else { panic!("{line} has {} columns", columns.len()) };
        assert!(!duty.is_empty() && !rfc.is_empty(), "{line}");
        rows.push(Row { id: id.to_owned(), held_by: held_by.to_owned() });
    }
    rows
}

/// The letters and the number of a row id: `K7`, `A-52`. The letters are those of the page's tables.
fn id(word: &str) -> Option<(&str, u16)> {
    let (letters, digits) = word.split_at(word.find(|c: char| c.is_ascii_digit())?);
    let known = match letters {
        "A-" => digits.len() <= 3,
        "X" => digits.len() == 1,
        letter => {
            letter.len() == 1
                && (("A".."S").contains(&letter) || ["T", "U", "V", "W", "Y"].contains(&letter))
                && digits.len() <= 2
        }
    };
    if known { Some((letters, digits.parse().ok()?)) } else { None }
}

fn written((letters, number): (&str, u16)) -> String {
    if letters == "A-" { format!("A-{number:02}") } else { format!("{letters}{number}") }
}

/// The two ends of `F1-F4` and `A-01..A-33`.
fn ends(word: &str) -> Option<(&str, &str)> {
    word.split_once("..").or_else(|| {
        let hyphens = word.match_indices('-').map(|(at, _)| at);
        hyphens.map(|at| (&word[..at], &word[at + 1..])).find(|(first, last)| id(first).is_some() && id(last).is_some())
    })
}

/// All ids from the first to the last; empty if these are no two ids of one table.
fn range(first: &str, last: &str) -> Vec<String> {
    match (id(first), id(last)) {
        (Some(first), Some(last)) if first.0 == last.0 => {
            (first.1..=last.1).map(|number| written((first.0, number))).collect()
        }
        _ => Vec::new(),
    }
}

/// The ids that a comment cites.
fn cited(comment: &str) -> Vec<String> {
    let is_apart = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let words: Vec<_> =
        comment.split(is_apart).map(|word| word.trim_end_matches('.')).filter(|w| !w.is_empty()).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = |places: usize| words.get(at + places).copied().unwrap_or_default();
        if next(1) == "to" {
            found.extend(range(word, next(2)));
        }
        if matches!(*word, "decision" | "decisions" | "Decision" | "Decisions") {
            let numbers = words[at + 1..].iter().take_while(|word| **word == "and" || word.parse::<u16>().is_ok());
            found.extend(numbers.filter(|word| **word != "and").map(|number| format!("decision {number}")));
        } else if let Some((first, last)) = ends(word) {
            found.extend(range(first, last));
        } else {
            found.extend(id(word).map(written));
        }
    }
    found
}

/// The ids in a line of code: those of its comment, and strings that are ids, as the tables of tests have them.
fn cited_in_line(line: &str) -> Vec<String> {
    let comment = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
    let (code, comment) = line.split_at(comment.unwrap_or(line.len()));
    let strings = code.split('"').skip(1).step_by(2);
    let ids = strings.filter(|string| string.split(", ").all(|word| id(word).is_some()));
    ids.chain([comment]).flat_map(cited).collect()
}

/// The Rust files of the project, by their path from its root.
pub(super) fn files() -> Vec<PathBuf> {
    let mut folders: Vec<_> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.retain(|file| file != Path::new(OWN));
    files.sort();
    files
}

/// The line at which the tests of a file begin. A file of tests/ without a test of its own proves no row.
fn begin_of_tests(file: &Path, text: &str) -> Option<usize> {
    let begin = if file.starts_with("tests") { Some(0) } else { text.find("\n#[cfg(test)]\n") }?;
    let has_tests = text[begin..].contains("#[test]") || text[begin..].contains("#[tokio::test");
    has_tests.then(|| text[..begin].lines().count())
}

/// Each id with the places that cite it: all of them, and those that prove it.
#[derive(Default)]
struct Citations {
    all: BTreeMap<String, Vec<String>>,
    proofs: BTreeSet<String>,
}

fn citations() -> Citations {
    let mut citations = Citations::default();
    for file in files() {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let begin = begin_of_tests(&file, &text);
        for (number, line) in text.lines().enumerate() {
            // The head of a file says which rows it is about; the proof is a test that cites the row.
            let is_proof = begin.is_some_and(|begin| number >= begin) && !line.starts_with("//!");
            for id in cited_in_line(line) {
                citations.all.entry(id.clone()).or_default().push(format!("{}:{}", file.display(), number + 1));
                if is_proof {
                    citations.proofs.insert(id);
                }
            }
        }
    }
    citations
}

#[test]
fn citations_are_read() {
    for (line, ids) in [
        ("// K7.", &["K7"] as &[_]),
        ("x(); // I18, J8: in order (RFC 5321).", &["I18", "J8"]),
        ("/// A-52, decision 15 and B2's limit", &["A-52", "decision 15", "B2"]),
        ("// Decisions 1 and 2: where TLS is offered", &["decision 1", "decision 2"]),
        ("// F1-F3, A-05..A-07; R4 to R6.", &["F1", "F2", "F3", "A-05", "A-06", "A-07", "R4", "R5", "R6", "R4", "R6"]),
        (r#"("J1", vec!["EHLO c"], "A-104"),"#, &["J1", "A-104"]),
        (r#"let url = "https://example.org/A1";"#, &[]),
        ("let first = A1; f(\"P1 x\")", &[]),
        ("// P-256, P256, SHA1, TLSv1, MX2, S1, ansi-X9-62, X509, A-, 3 1 1, A1B2, K7_x", &[]),
    ] {
        assert_eq!(cited_in_line(line), ids, "{line}");
    }
}

#[test]
fn cited_rows_exist() {
    let rows = rows();
    let ids: BTreeSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows.len(), "an id stands twice in {PAGE}");
    let citations = citations().all;
    assert!(citations.len() > 300, "{} ids are cited", citations.len());
    let unknown: Vec<_> = citations.iter().filter(|(id, _)| !ids.contains(id.as_str())).collect();
    assert!(unknown.is_empty(), "{PAGE} has no such rows: {unknown:?}");
}

#[test]
fn rows_are_held() {
    let proofs = citations().proofs;
    let (tested, others): (Vec<_>, Vec<_>) = rows().into_iter().partition(|row| row.held_by == "test");
    let unproven: Vec<_> = tested.iter().map(|row| &row.id).filter(|id| !proofs.contains(*id)).collect();
    assert!(unproven.is_empty(), "no test cites {unproven:?}");
    for Row { id, held_by } in others {
        let reason = REASONS.iter().find_map(|reason| held_by.strip_prefix(reason));
        let reason = reason.unwrap_or_else(|| panic!("{id}: {held_by:?} is no reason"));
        assert!(!reason.is_empty() && !reason.to_lowercase().contains("issue"), "{id}: {held_by:?}");
    }
}

#[test]
fn types_that_hold_a_row_exist() {
    let sources: Vec<_> = files().into_iter().filter(|file| file.starts_with("src")).collect();
    for Row { id, held_by } in rows() {
        let Some(name) = held_by.strip_prefix("by the type `").and_then(|name| name.split('`').next()) else {
            continue;
        };
        let definitions = [format!("struct {name}"), format!("enum {name}")];
        let is_defined = |file: &PathBuf| {
            let text = fs::read_to_string(root().join(file)).unwrap();
            definitions.iter().any(|definition| text.contains(definition))
        };
        assert!(sources.iter().any(is_defined), "{id}: there is no type {name}");
    }
}
