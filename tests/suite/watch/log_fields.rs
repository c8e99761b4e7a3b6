//! The fields of log events, by the code that writes them.

use std::collections::BTreeSet;
use std::path::Path;

/// The levels of the events that an operator sees. The level of findings is that of their severity.
const LEVELS: [&str; 4] = ["info", "warn", "error", "$level"];

/// The names of the fields of all events in this directory but `delivery`, which has its own test.
pub(super) fn of_events_below(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(of_events_below(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            names.extend(of_code(&std::fs::read_to_string(&path).unwrap()));
        }
    }
    names
}

/// The names of the fields of the events in a file.
fn of_code(code: &str) -> BTreeSet<String> {
    let (code, _) = code.split_once("#[cfg(test)]\nmod tests").unwrap_or((code, ""));
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let calls = LEVELS.iter().flat_map(|level| code.split(&format!("tracing::{level}!(")).skip(1).collect::<Vec<_>>());
    calls.flat_map(arguments).filter_map(|argument| field(&argument)).collect()
}

/// The arguments of a call, from behind its opening bracket.
fn arguments(call: &str) -> Vec<String> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut found = vec![String::new()];
    for char in call.chars() {
        let was_escaped = escaped;
        escaped = in_text && char == '\\' && !was_escaped;
        match char {
            '"' if !was_escaped => in_text = !in_text,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' if !in_text && depth == 0 => break,
            ')' | ']' | '}' if !in_text => depth -= 1,
            ',' if !in_text && depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(char);
    }
    found
}

/// The name of a field, if the argument is one.
fn field(argument: &str) -> Option<String> {
    let name = argument.split(" = ").next()?.trim().trim_start_matches(['%', '?']);
    // A field that is written as a path has the name of its last part.
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

#[test]
fn fields_are_read() {
    let code = "
        tracing::warn!(%client, ?limit, count = list(1, \"a,b\").len(), label = blind.label, \"x, {y}\");
        // tracing::warn!(no);
        tracing::info!(
            target: ACCOUNT,
            day = \"a \\\" b, c\",
            \"text: {}\",
            why(reason)
        );
        tracing::debug!(seldom, \"x\");
        tracing::info!($($fields)*);";
    let names: Vec<_> = of_code(code).into_iter().collect();
    assert_eq!(names, ["client", "count", "day", "label", "limit"]);
}
