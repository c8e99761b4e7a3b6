//! Reads the commented defaults as a reference of every key.
//!
//! A paragraph of comment lines belongs to the key below it, or stands for itself; one whose lines are all indented is an
//! example; behind an example one tells of its keys, which have no default: a word, a colon and a text each.

/// A part of the file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// `[dns]`, or `[[listener]]`.
    Table(String),
    /// A paragraph.
    Text(String),
    /// Lines that keep their form.
    Example(String),
    /// A key, its default if it has one, and its description.
    Key { name: String, default: Option<String>, text: String },
}

/// The pieces of a file.
pub(super) fn pieces(file: &str) -> Vec<Piece> {
    let (mut pieces, mut comment) = (Vec::new(), Vec::new());
    for line in file.lines() {
        match (line.strip_prefix('#'), line.split_once(" = ")) {
            (Some(""), _) => paragraph(&mut comment, &mut pieces),
            (Some(words), _) => comment.push(words.strip_prefix(' ').unwrap_or(words)),
            (None, Some((name, default))) => {
                let text = joined(&comment);
                comment.clear();
                pieces.push(Piece::Key { name: name.to_owned(), default: Some(default.to_owned()), text });
            }
            (None, None) => {
                if line.starts_with('[') {
                    pieces.push(Piece::Table(line.to_owned()));
                }
                paragraph(&mut comment, &mut pieces);
            }
        }
    }
    paragraph(&mut comment, &mut pieces);
    pieces
}

/// Takes the lines up as one paragraph.
fn paragraph(lines: &mut Vec<&str>, pieces: &mut Vec<Piece>) {
    let keys =
        matches!(pieces.last(), Some(Piece::Example(_))) && lines.first().is_some_and(|line| named(line).is_some());
    if lines.is_empty() {
    } else if lines.iter().all(|line| line.starts_with("  ")) {
        let example = lines.iter().map(|line| line.trim_start()).collect::<Vec<_>>().join("\n");
        pieces.push(Piece::Example(example));
    } else if keys {
        for line in lines.iter() {
            match (named(line), pieces.last_mut()) {
                (Some((name, text)), _) => {
                    pieces.push(Piece::Key { name: name.to_owned(), default: None, text: text.to_owned() });
                }
                (None, Some(Piece::Key { text, .. })) => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                (None, _) => {}
            }
        }
    } else {
        pieces.push(Piece::Text(joined(lines)));
    }
    lines.clear();
}

/// `level: what it is`.
fn named(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.split_once(": ")?;
    let is_key = |c: char| c.is_ascii_lowercase() || c == '_';
    (!name.is_empty() && name.chars().all(is_key)).then_some((name, text))
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DEFAULTS;

    #[test]
    fn the_pieces_of_a_file() {
        let key = |name: &str, default: Option<&str>, text: &str| Piece::Key {
            name: name.to_owned(),
            default: default.map(str::to_owned),
            text: text.to_owned(),
        };
        let file = "# head: a\n# more\n\n# a key: or\n# two\na = \"x = y\"\n\n# the table\n[[t]]\nb = 1\n\n# rules\n#\n#   [[r]]\n#   x = 2\n#\n\
                    # one: first\n#   and on\n# two: second\n";
        assert_eq!(
            pieces(file),
            [
                Piece::Text("head: a more".into()),
                key("a", Some("\"x = y\""), "a key: or two"),
                Piece::Table("[[t]]".into()),
                Piece::Text("the table".into()),
                key("b", Some("1"), ""),
                Piece::Text("rules".into()),
                Piece::Example("[[r]]\nx = 2".into()),
                key("one", None, "first and on"),
                key("two", None, "second"),
            ]
        );
    }

    #[test]
    fn every_key_is_in_the_reference_and_has_a_text() {
        let pieces = pieces(DEFAULTS);
        let of = |wanted: &str| {
            pieces
                .iter()
                .any(|piece| matches!(piece, Piece::Key { name, text, .. } if name == wanted && !text.is_empty()))
        };
        let keys = DEFAULTS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        for key in keys.map(|(key, _)| key).chain(["domain", "level", "records", "reason", "until"]) {
            assert!(of(key), "{key}");
        }
    }
}
