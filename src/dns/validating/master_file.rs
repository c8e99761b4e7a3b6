//! The lines of a master file (RFC 1035 §5.1), as far as trust anchors need them: comments, parentheses, quotes, `$ORIGIN`,
//! `$TTL`, `@`, owners that are left out, a class and a TTL in any order or none.
//!
//! The DNS library's own reader of zone files does not read DNSKEY records, and its reader of trust anchors knows none of
//! these. Neither tells the line of a fault.

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The line on which it begins, from 1.
    pub(super) line: usize,
    /// Absolute, with the final dot, in lower case.
    pub(super) owner: String,
    /// In upper case.
    pub(super) class: String,
    /// In upper case.
    pub(super) rtype: String,
    /// The words of its data. A quoted text is split like any other.
    pub(super) rdata: Vec<String>,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub(super) struct LineFault {
    /// Counted from 1.
    pub(super) line: usize,
    /// A phrase.
    pub(super) why: String,
}

impl LineFault {
    pub(super) fn new(line: usize, why: impl Into<String>) -> Self {
        Self { line, why: why.into() }
    }
}

/// Reads all records. The origin is the root at first.
///
/// # Errors
/// A line is no record and no directive that is known.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, LineFault> {
    let (mut origin, mut last_owner, mut found) = (".".to_owned(), None, Vec::new());
    for MasterFileLine { number, start, words } in lines(text)? {
        let mut words = words.into_iter().peekable();
        if let (Start::Word, Some(directive)) = (start, words.next_if(|word| word.starts_with('$'))) {
            let value = words.next().ok_or_else(|| LineFault::new(number, format!("{directive} has no value")))?;
            match directive.to_ascii_uppercase().as_str() {
                "$ORIGIN" => origin = absolute(&value, &origin),
                "$TTL" => {}
                _ => return Err(LineFault::new(number, format!("{directive} is not understood here"))),
            }
            continue;
        }
        if start == Start::Word {
            last_owner = words.next().map(|word| absolute(&word, &origin));
        }
        let owner = last_owner.clone().ok_or_else(|| LineFault::new(number, "the first record has no owner"))?;
        let mut class = "IN".to_owned();
        while let Some(word) = words.next_if(|word| is_ttl(word) || is_class(word)) {
            if is_class(&word) {
                class = word.to_ascii_uppercase();
            }
        }
        let rtype = words.next().ok_or_else(|| LineFault::new(number, "there is no record type"))?;
        let rtype = rtype.to_ascii_uppercase();
        found.push(Entry { line: number, owner, class, rtype, rdata: words.collect() });
    }
    Ok(found)
}

fn absolute(name: &str, origin: &str) -> String {
    let name = match (name, origin) {
        ("@", _) => origin.to_owned(),
        (name, _) if name.ends_with('.') => name.to_owned(),
        (name, ".") => format!("{name}."),
        (name, origin) => format!("{name}.{origin}"),
    };
    name.to_ascii_lowercase()
}

/// A number of seconds, or one with BIND's units.
fn is_ttl(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || "smhdwSMHDW".contains(c))
}

fn is_class(word: &str) -> bool {
    ["IN", "CH", "HS", "CLASS1"].iter().any(|class| word.eq_ignore_ascii_case(class))
}

/// The beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The owner or a directive.
    Word,
    /// The owner is that of the record before.
    Blank,
}

/// The words from one end of line to the next one outside of parentheses.
struct MasterFileLine {
    number: usize,
    start: Start,
    words: Vec<String>,
}

/// Splits a text into lines. A quoted text may go over several, as a key does that is long.
fn lines(text: &str) -> Result<Vec<MasterFileLine>, LineFault> {
    let (mut found, mut open): (Vec<MasterFileLine>, Option<usize>) = (Vec::new(), None);
    let mut quoted = None;
    for (number, physical) in (1..).zip(text.lines()) {
        if open.is_none() && quoted.is_none() {
            let start = if physical.starts_with(char::is_whitespace) { Start::Blank } else { Start::Word };
            found.push(MasterFileLine { number, start, words: Vec::new() });
        }
        let Some(line) = found.last_mut() else { continue };
        let mut word = String::new();
        for c in physical.chars() {
            match c {
                '"' => quoted = if quoted.is_some() { None } else { Some(number) },
                ';' if quoted.is_none() => break,
                '(' if quoted.is_none() && open.is_none() => open = Some(number),
                ')' if quoted.is_none() && open.is_some() => open = None,
                '(' | ')' if quoted.is_none() => {
                    return Err(LineFault::new(number, "a parenthesis without its other one"));
                }
                c if !c.is_whitespace() => {
                    word.push(c);
                    continue;
                }
                _ => {}
            }
            line.words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        }
        line.words.extend(Some(word).filter(|word| !word.is_empty()));
    }
    if let Some(number) = open.or(quoted) {
        return Err(LineFault::new(number, "a parenthesis or a quote is not closed"));
    }
    found.retain(|line| !line.words.is_empty());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let shown = |entry: &Entry| {
            format!("{} {} {} {} {}", entry.line, entry.owner, entry.class, entry.rtype, entry.rdata.join(" "))
        };
        entries(text).map(|all| all.iter().map(shown).collect()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn every_form_of_a_record_is_read() {
        for (text, expected) in [
            ("", ""),
            ("; a comment\n\n   \n", ""),
            (". IN DNSKEY 257 3 8 AwEA", "1 . IN DNSKEY 257 3 8 AwEA"),
            (". 3600 IN DNSKEY 257 3 8 AwEA ; comment\n", "1 . IN DNSKEY 257 3 8 AwEA"),
            (". in 1d dnskey 257 3 8 Aw EA\r\n", "1 . IN DNSKEY 257 3 8 Aw EA"),
            (".\tDNSKEY\t257 3 8 AwEA", "1 . IN DNSKEY 257 3 8 AwEA"),
            ("$TTL 1d\n$ORIGIN .\n@ DS 1 8 2 AA", "3 . IN DS 1 8 2 AA"),
            ("$origin test.\n@ A 192.0.2.1\n", "2 test. IN A 192.0.2.1"),
            ("$ORIGIN test\n$ORIGIN sub\nMX A 192.0.2.1\n", "3 mx.sub.test. IN A 192.0.2.1"),
            (". DNSKEY 257 3 8 ( ; id\n Aw ; half\n EA )\n", "1 . IN DNSKEY 257 3 8 Aw EA"),
            (". DNSKEY (257 3 8\nAwEA)", "1 . IN DNSKEY 257 3 8 AwEA"),
            (". DNSKEY 257 3 8 \"Aw\nEA\"\n", "1 . IN DNSKEY 257 3 8 Aw EA"),
            (". CH TXT \"a;b\"", "1 . CH TXT a;b"),
            // The owner of the record before.
            (". DS 1 8 2 AA\n  60 DS 2 8 2 BB", "1 . IN DS 1 8 2 AA|2 . IN DS 2 8 2 BB"),
        ] {
            assert_eq!(read(text).map(|all| all.join("|")).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn faults_name_their_line() {
        for (text, expected) in [
            ("host\n", "line 1: there is no record type"),
            ("\n. 60 IN\n", "line 2: there is no record type"),
            ("\n  IN DS 1 8 2 AA\n", "line 2: the first record has no owner"),
            (";\n. DS ( 1 8 2 AA\n\n", "line 2: a parenthesis or a quote is not closed"),
            (". TXT \"a\n", "line 1: a parenthesis or a quote is not closed"),
            (". DS 1 8 2 AA )\n", "line 1: a parenthesis without its other one"),
            (". DS (( 1\n", "line 1: a parenthesis without its other one"),
            ("$INCLUDE /etc/keys\n", "line 1: $INCLUDE is not understood here"),
            ("$ORIGIN\n", "line 1: $ORIGIN has no value"),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()), "{text:?}");
        }
    }
}
