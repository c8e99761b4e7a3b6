//! The parts of a page that are made from the code. Each stands between `<!-- made by: SOURCE -->` and `<!-- end -->`, where
//! SOURCE is the command or file that it comes from.

use std::path::Path;
use std::{env, fs};

/// The variable that makes these tests write the parts anew.
const WRITE: &str = "WRITE_PAGES";

/// The page must have this text as the part made by that source.
#[track_caller]
pub(crate) fn assert_made(page: &str, source: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let old = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- made by: {source} -->\n");
    let (before, rest) = old.split_once(&begin).unwrap_or_else(|| panic!("{page} has no part made by {source}"));
    let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{page}: the part has no end"));
    assert_file(page, &format!("{before}{begin}\n{}\n\n<!-- end -->{after}", text.trim()));
}

/// The file must have this text.
#[track_caller]
pub(crate) fn assert_file(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os(WRITE).is_some() {
        fs::write(path, text).unwrap();
    } else if fs::read_to_string(path).unwrap() != text {
        panic!("{file} is out of date: {WRITE}=yes cargo nextest run -j1 writes it anew");
    }
}

/// The rows of a Markdown table under this heading row: the text of each cell.
pub(crate) fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| *line != heading).skip(2);
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// The code spans of a text, which are the parts between backticks.
pub(crate) fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
