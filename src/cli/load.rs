//! Where the configuration comes from: embedded defaults, a file and its drop-ins, the environment, flags; later wins.

mod files;
mod layers;
mod left_out;
mod masked;
mod place;
mod wrong;

use std::path::{Path, PathBuf};

use figment::value::Value;
use figment::{Figment, Metadata};
use serde::Deserialize;
use time::OffsetDateTime;

use crate::config::{Config, Fault, Unsound};

pub(super) use files::SYSTEM_FILE;
use layers::Layers;
pub(super) use layers::{Flag, ShownKey};
use left_out::LeftOutKeys;
pub(super) use place::KeyPlaces;

/// After so many faults the rest is not looked at: for each of them the whole configuration is looked at again.
const MOST_WRONG: usize = 100;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("cannot read the configuration file {path}: {error}", path = .path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{}", .lines.join("\n"))]
    Wrong {
        /// One for each fault, beginning with the key if it has one.
        lines: Vec<String>,
        /// The configuration without the keys that are wrong, as far as it could be checked.
        rest: Option<Box<Loaded>>,
    },
}

impl LoadError {
    /// One line for each rule that has ended, which is no fault.
    pub(super) fn ended(&self) -> &[String] {
        match self {
            Self::Unreadable { .. } | Self::Wrong { rest: None, .. } => &[],
            Self::Wrong { rest: Some(rest), .. } => &rest.ended,
        }
    }
}

/// Whether there is a configuration file at its usual place, or a drop-in; one that cannot be read is one.
pub(super) fn has_system_files() -> bool {
    !files::ConfigFiles::read(None).is_ok_and(|files| files.names().is_empty())
}

/// The configuration that is in force, and where each key of it comes from.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    /// All keys as they are written, those that are wrong among them.
    pub(super) keys: Vec<ShownKey>,
    pub(super) places: KeyPlaces,
    /// The files that were read.
    pub(super) files: Vec<String>,
    /// A line for each rule that has ended: it is left out, and its author should know.
    pub(super) ended: Vec<String>,
}

/// The configuration that is in force, with the place of each key.
///
/// All errors are reported at once, and not one after the other: a key that is wrong is left out, and the rest is
/// checked again.
pub(super) fn loaded(file: Option<&Path>, flags: &[Flag]) -> Result<Loaded, LoadError> {
    let layers = Layers::read(file, flags)?;
    let mut extracted = Extracted::of(&layers)?;
    let Extracted { config, .. } = &extracted;
    let told = |fault: Fault| extracted.told(&layers, &fault);
    let ended: Vec<String> = config.ended(OffsetDateTime::now_utc().date()).into_iter().filter_map(told).collect();
    let unsound = config.check().err().map_or_else(Vec::new, |Unsound(faults)| faults);
    let unsound: Vec<String> = unsound.into_iter().filter_map(told).collect();
    extracted.wrong.lines.extend(unsound);
    let Extracted { config, figment, wrong, .. } = extracted;
    let (keys, places) = layers.keys(&figment);
    let WrongKeys { without, lines } = wrong;
    // Without a key that is wrong its default would be shown.
    let keys = if without.is_empty() { keys } else { layers.keys(&layers.merged(&LeftOutKeys::default())).0 };
    let loaded = Loaded { config, keys, places, files: layers.files(), ended };
    match lines.is_empty() {
        true => Ok(loaded),
        false => Err(LoadError::Wrong { lines, rest: Some(Box::new(loaded)) }),
    }
}

/// The keys that are wrong, which are left out, and a line for each.
#[derive(Default)]
struct WrongKeys {
    without: LeftOutKeys,
    lines: Vec<String>,
}

impl WrongKeys {
    /// Leaves out each value that stands in the place of a table. False if there is none.
    fn leave_out_no_tables(&mut self, layers: &Layers) -> bool {
        let found = layers.no_tables(&self.without);
        for (name, found, layer) in &found {
            let path = [name.clone()];
            self.lines.push(wrong::no_table(&path, found, &place_of(layers, Some(layer), &path)));
            self.without.add(&path);
        }
        !found.is_empty()
    }

    /// Leaves out the first entry of a list of tables that is no table. False if there is none.
    fn leave_out_no_entry(&mut self, layers: &Layers, figment: &Figment, merged: &Value) -> bool {
        let Some((path, found)) = wrong::no_entry(merged) else { return false };
        let (path, layer) = (self.without.original(&path), figment.get_metadata(found.tag()));
        self.lines.push(wrong::no_table(&path, found, &place_of(layers, layer, &path)));
        self.without.add(&path)
    }

    /// Leaves out the key of an error in this layer. False if the error would stay.
    fn leave_out(&mut self, layers: &Layers, error: &figment::Error, layer: Option<&Metadata>) -> bool {
        let path = wrong::path(error, &self.without);
        if path.is_empty() || !self.without.contains(&path) {
            self.lines.push(wrong::line(error, &path, &place_of(layers, layer, &path)));
        }
        // An error that stays without the key is one of the rest of its entry, or cannot be got out of the way.
        !path.is_empty()
            && (self.without.add(&path) || left_out::entry(&path).is_some_and(|entry| self.without.add(entry)))
    }

    /// The error without a configuration: the rest cannot be read.
    fn into_error(self) -> LoadError {
        LoadError::Wrong { lines: self.lines, rest: None }
    }
}

/// The configuration without the keys that are wrong.
struct Extracted {
    config: Config,
    figment: Figment,
    wrong: WrongKeys,
}

impl Extracted {
    fn of(layers: &Layers) -> Result<Self, LoadError> {
        let mut wrong = WrongKeys::default();
        loop {
            let told = wrong.lines.len();
            if told >= MOST_WRONG {
                wrong.lines.push(format!("{told} faults so far, and the rest was not looked at; mend these first"));
                return Err(wrong.into_error());
            }
            if wrong.leave_out_no_tables(layers) {
                continue;
            }
            let figment = layers.merged(&wrong.without);
            let merged = figment.find_value("");
            if merged.as_ref().is_ok_and(|merged| wrong.leave_out_no_entry(layers, &figment, merged)) {
                continue;
            }
            // Not by `Figment::extract`, of which the compiler makes six copies of the code that reads each section.
            let config = match &merged {
                Ok(merged) => Config::deserialize(merged),
                Err(error) => Err(error.clone()),
            };
            let errors = match config {
                Ok(_) if wrong.without.whole_entries() => continue,
                Ok(config) => return Ok(Self { config, figment, wrong }),
                Err(errors) => errors,
            };
            for error in errors {
                let layer = match &merged {
                    Ok(merged) => figment.get_metadata(innermost(merged, &error.path).tag()),
                    Err(_) => error.metadata.as_ref(),
                };
                if !wrong.leave_out(layers, &error, layer) {
                    return Err(wrong.into_error());
                }
            }
        }
    }

    /// The line of a fault; none for the value in use in the place of a wrong key, which is not the operator's.
    fn told(&self, layers: &Layers, fault: &Fault) -> Option<String> {
        let mut path = path_of(fault.key);
        if self.wrong.without.contains(&path) || self.rests_on_a_wrong_key(fault) {
            return None;
        }
        let layer = self.figment.find_metadata(fault.key).or_else(|| self.figment.find_metadata(&path[0]));
        if let Some(entry) = fault.entry {
            path.insert(1, entry.to_string());
        }
        let place = match self.other_key(fault).filter(|_| layer.is_some_and(layers::is_built_in)) {
            Some((key, layer)) => place_of(layers, Some(layer), &key),
            None => place_of(layers, layer, &self.wrong.without.original(&path)),
        };
        Some(format!("{fault} (in {place})"))
    }

    /// Whether the fault compares with a key that is wrong. The default stands in the place of that key, and the operator means
    /// another value.
    fn rests_on_a_wrong_key(&self, fault: &Fault) -> bool {
        named_keys(fault).any(|key| self.wrong.without.contains(&path_of(key)))
    }

    /// The operator's key that a default does not fit: the fault names it.
    fn other_key(&self, fault: &Fault) -> Option<(Vec<String>, &Metadata)> {
        named_keys(fault).find_map(|key| {
            let layer = self.figment.find_metadata(key).filter(|layer| !layers::is_built_in(layer))?;
            Some((path_of(key), layer))
        })
    }
}

/// The keys that the text of a fault names.
fn named_keys(fault: &Fault) -> impl Iterator<Item = &str> {
    let words = fault.problem.split(|c: char| !(c.is_ascii_lowercase() || matches!(c, '.' | '_')));
    words.filter(|word| word.contains('.'))
}

fn path_of(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// The innermost value on a path, of those that exist. A table has the mark of the highest layer that sets a key of it; the key
/// itself may be another's.
fn innermost<'a>(merged: &'a Value, path: &[String]) -> &'a Value {
    let below = |value: &'a Value, part: &String| match value {
        Value::Dict(_, keys) => keys.get(part),
        Value::Array(_, entries) => entries.get(part.parse::<usize>().ok()?),
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
    };
    let mut value = merged;
    for part in path {
        let Some(next) = below(value, part) else { break };
        value = next;
    }
    value
}

fn place_of(layers: &Layers, layer: Option<&Metadata>, path: &[String]) -> String {
    layers.place(layer.map_or("the configuration", |data| &data.name), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&Path>, flags: &[Flag]) -> Result<Config, LoadError> {
        loaded(file, flags).map(|loaded| loaded.config)
    }

    fn error(flag: &str) -> String {
        load(Some(Path::new("/dev/null")), &[flag.parse().unwrap()]).unwrap_err().to_string()
    }

    #[test]
    fn a_number_is_no_word() {
        // It would be the place of a word in the list of them.
        for flag in [
            "mode=1",
            "tls.level=0",
            "tls.insecure_mx=1",
            "dns.mode=0",
            "dns.fallback=1",
            "remote.families=2",
            "log.format=1",
        ] {
            let (key, number) = flag.split_once('=').unwrap();
            let wrong = format!("{key}: {number} is not allowed; it must be one of its words");
            assert!(error(flag).starts_with(&wrong), "{}", error(flag));
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let flags =
            ["tls.level=DANE", "dns.timeout=3", "nonsense=1", "remote.prot=25", "limits.sessions=0", "remote.port=0"];
        let error =
            load(Some(Path::new("/dev/null")), &flags.map(|flag| flag.parse().unwrap())).unwrap_err().to_string();
        for flag in flags {
            let key = flag.split('=').next().unwrap();
            assert!(error.lines().any(|line| line.starts_with(&format!("{key}: "))), "{key} in {error}");
        }
        assert_eq!(error.lines().count(), flags.len(), "{error}");
        // An error in combination with a default cannot be got out of the way.
        let error = load(Some(Path::new("/dev/null")), &["dns.timeout=1m".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.starts_with("dns.deadline: ") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn a_long_list_of_wrong_rules_is_told_in_part() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rules: String = (0..2 * MOST_WRONG)
            .map(|rule| format!("[[rule]]\ndomain = \"d{rule}.test\"\nlevel = \"nope\"\n"))
            .collect();
        std::fs::write(file.path(), rules).unwrap();
        let error = load(Some(file.path()), &[]).map(drop).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert!(lines[..MOST_WRONG].iter().all(|line| line.starts_with("rule.level: ")), "{error}");
        assert_eq!(lines[MOST_WRONG..], ["100 faults so far, and the rest was not looked at; mend these first"]);
    }

    #[test]
    fn a_good_rule_is_not_accused_for_a_wrong_level() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[tls]\nlevel = \"encrpt\"\n[[rule]]\ndomain = \"a.test\"\nlevel = \"encrypt\"\n";
        std::fs::write(file.path(), text).unwrap();
        let error = load(Some(file.path()), &[]).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("tls.level: ") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn a_rule_that_has_ended_has_its_line_and_stops_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rules = "[[rule]]\ndomain = \"a.test\"\nlevel = \"dane-only\"\n[[rule]]\ndomain = \"b.test\"\n\
                     level = \"may\"\nreason = \"x\"\nuntil = \"2020-01-31\"\n";
        let said = format!(
            "rule.until: the rule for b.test has ended on 2020-01-31; remove it, or give it a later day and a reason that \
             still holds (in {}:8)",
            file.path().display()
        );
        std::fs::write(file.path(), rules).unwrap();
        let found = loaded(Some(file.path()), &[]).map_err(|error| error.to_string()).unwrap();
        assert_eq!((found.ended, found.config.rule.len()), (vec![said.clone()], 2));
        // It is reported beside the faults that do stop the start, and is none of them.
        let error = load(Some(file.path()), &["limits.sessions=0".parse().unwrap()]).unwrap_err();
        assert_eq!(error.to_string(), "limits.sessions: 0 would stop all mail (in --set limits.sessions)");
        assert_eq!(error.ended(), [said]);
    }

    #[test]
    fn each_fault_of_a_file_has_its_line() {
        let told = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let path = file.path().display().to_string();
            load(Some(file.path()), &[]).map(drop).unwrap_err().to_string().replace(&path, "F")
        };
        for (text, said) in [
            (
                "[[rule]]\ndomain = \"a.example\"\nlevel = \"may\"\nreason = \"x\"\nuntil = 20270131\n",
                &["rule.until: rule 1: 20270131 is not allowed; it must be a day, such as 2027-01-31 (in F:5)"][..],
            ),
            // Every entry, and every key of it; other errors in the other entries, too.
            (
                "[[listener]]\naddress = \"x\"\n[[listener]]\naddress = \"192.0.2.1:25\"\n[[listener]]\n\
                 kind = \"lmtp\"\n[[rule]]\ndomain = \"a b\"\nlevel = \"none\"\n[[rule]]\ndomain = \"b.example\"\n\
                 level = \"may\"\n[dns]\nservers = [\"9.9.9.9\", \"a\", \"b\"]\n",
                &[
                    "dns.servers: \"a\" is no name server such as 9.9.9.9, 192.0.2.1:5353, [2620:fe::fe]:53 or \
                     tls://9.9.9.9#dns.quad9.net, nor \"recurse\" for none (in F:14)",
                    "dns.servers: \"b\" is no name server such as 9.9.9.9, 192.0.2.1:5353, [2620:fe::fe]:53 or \
                     tls://9.9.9.9#dns.quad9.net, nor \"recurse\" for none (in F:14)",
                    "listener.address: listener 1: \"x\" is no address and port such as 127.0.0.1:10025 or [::1]:10025, and no \
                     unix:/path (in F:2)",
                    "listener.address: listener 3: this key is missing; each entry needs it (in F:5)",
                    "rule.domain: rule 1: \"a b\" is not allowed: it has a character outside letters, digits, '-' and '_' (in F:8)",
                    "rule.level: rule 1: \"none\" is not allowed; it may be one of: may, encrypt, dane, verify, secure, \
                     dane-only, fingerprint \
                     (in F:9)",
                    "rule.reason: the rule for b.example asks for less than tls.level and needs a reason and a last day, as in \
                     reason = \"ticket 4711\", until = \"2027-01-31\" (in F:10)",
                    "listener.allow: 192.0.2.1:25 is not loopback and has no allow-list; name the networks that may send mail \
                     through it (in F:3)",
                ],
            ),
            // The empty word is one of the words, and no text steers the terminal.
            (
                "\"k\\u001b[31m\" = 1\n[dns]\nfallback = \"\\u001b[2J\"\n",
                &[
                    "dns.fallback: \"\\u{1b}[2J\" is not allowed; it may be one of: recurse, \"\" (in F:3)",
                    "\"k\\u{1b}[31m\": there is no such key; it may be one of: mode, hostname",
                ],
            ),
            // A key in the wrong table.
            (
                "[log]\nmode = \"enforce\"\nlevel = \"dane\"\n",
                &[
                    "log.level: there is no such key; it may be one of: format, filter; there is listener.level and \
                     tls.level: write it below [[listener]] or [tls], whose # must go too (in F:3)",
                    "log.mode: there is no such key; it may be one of: format, filter; mode stands above the first line in \
                     brackets (in F:2)",
                ],
            ),
            // A "#" is gone before the key, and not before its table.
            (
                "mode = \"enforce\"\n#[[listener]]\nlenient = true\n[dns]\n",
                &[
                    "lenient: there is no such key; it may be one of: mode, hostname, ehlo_name, received, listener, dns, remote, \
                     tls, mta_sts, rule, negative_trust_anchor, limits, store, tlsrpt, watch, timeouts, log, admin; there is \
                     listener.lenient: write it below [[listener]], whose # must go too (in F:3)",
                ],
            ),
            // A name that no key has.
            (
                "\"\" = 1\n[tls]\n\"\" = 1\n[dns]\n\".\" = 1\n",
                &[
                    "\"\": there is no such key; it may be one of: mode, hostname, ehlo_name, received, listener, dns, remote, tls, \
                 mta_sts, rule, negative_trust_anchor, limits, store, tlsrpt, watch, timeouts, log, admin (in F:1)",
                    "dns.\".\": there is no such key; it may be one of: mode, servers, ",
                    "tls.\"\": there is no such key; it may be one of: level, insecure_mx, post_quantum, digests, ca, extra_ca (in F:3)",
                ],
            ),
            // A key in capitals, in quotes, and with another mark than a dot.
            ("[Tls]\nlevel = \"dane\"\n", &["Tls: there is no such key; it may be one of: mode, "]),
            (
                "[log]\nFilter = \"info\"\n",
                &[
                    "log.Filter: there is no such key; it may be one of: format, filter; write it in small letters: filter (in F:2)",
                ],
            ),
            ("'tls.level' = \"dane\"\n", &["\"tls.level\": there is no such key; it may be one of: mode, "]),
            // The old name of a section.
            (
                "received = true\n[ledger]\npath = \"/x\"\nexpiry = \"2d\"\n",
                &[
                    "ledger: the section ledger is called store now; write [store], with the keys path, entries and expiry (in F:2)",
                ],
            ),
            (
                "ledger.path = \"/x\"\n",
                &[
                    "ledger: the section ledger is called store now; write [store], with the keys path, entries and expiry (in F:1)",
                ],
            ),
            // A key that looks like a place in a list.
            ("[dns]\n0 = 1\n1 = 1\n", &["dns.0: there is no such key; it", "dns.1: there is no such key; it"]),
            (
                "[dns]\ntimeout = 3s\n",
                &[
                    "\"timeout = 3s\" is no TOML at column 12: expected newline, `#`; texts, days, durations and sizes stand in \
                     quotes, as in timeout = \"3s\" (in F:2)",
                ],
            ),
            (
                "[tls]\nlevel = 1\nlevel = 2\n",
                &["\"level = 2\" is no TOML at column 1: duplicate key `level` in table `tls` (in F:3)"],
            ),
            ("[tls\n", &["\"[tls\" is no TOML at column 5: invalid table header, expected `.`, `]` (in F:1)"]),
            (
                "hostname = “a.test”\n",
                &[
                    "\"hostname = “a.test”\" is no TOML at column 12: invalid string, expected `\"`, `'`; write straight quotes (\") in \
                   the place of those of a text processor (in F:1)",
                ],
            ),
            ("tls.level = dane", &["\"tls.level = dane\" is no TOML at column 13: invalid string, expected"]),
            ("admin.address = \"7671\"\n", &["admin.address: \"7671\" is no address and port such as "]),
            ("limits.message_size = 100\n", &["limits.message_size: 100 B is not between 1kB and 1TiB"]),
            // A default in the place of a wrong key does not tell the intended value.
            (
                "[dns]\ntimeout = \"1m\"\ndeadline = \"2\"\n",
                &["dns.deadline: \"2\" is not allowed; it must be a number"],
            ),
        ] {
            let told = told(text);
            assert_eq!(told.lines().count(), said.len(), "{told}");
            for (line, said) in told.lines().zip(said) {
                assert!(line.starts_with(said), "{line:?} and not {said:?}");
            }
        }
    }

    #[test]
    fn a_day_without_quotes_is_told_as_it_is_written() {
        let load = |line: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), line).unwrap();
            load(Some(file.path()), &[])
        };
        let keys = loaded(Some(Path::new("/dev/null")), &[]).unwrap().keys;
        for key in keys.iter().filter(|key| key.name != "listener") {
            for value in ["2026-12-01", "[2026-12-01]", "07:32:00", "2026-12-01T00:00:00Z"] {
                if let Err(error) = load(&format!("{} = {value}\n", key.name)) {
                    let said = error.to_string();
                    assert!(said.starts_with(&format!("{}: ", key.name)), "{said}");
                    assert!(!said.contains('$') && !said.contains("a table of keys is not"), "{said}");
                    assert_eq!(said.lines().count(), 1, "{said}");
                }
            }
        }
        let said = load("mode = 2026-12-01\n").unwrap_err().to_string();
        assert!(
            said.starts_with("mode: \"2026-12-01\" is not allowed; it may be one of: enforce, observe (in "),
            "{said}"
        );
        let rule = "[[rule]]\ndomain = \"a.example\"\nlevel = \"may\"\nreason = \"x\"\nuntil = 2099-01-31\n";
        assert_eq!(load(rule).unwrap().rule[0].until.unwrap().to_string(), "2099-01-31");
    }

    #[test]
    fn a_fault_that_shows_later_has_the_place_of_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            "hostname = \"a.test\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
        std::fs::write(file.path(), text).unwrap();
        let places = loaded(Some(file.path()), &["tls.ca=/x".parse().unwrap()]).unwrap().places;
        let path = file.path().display();
        for (why, place) in [
            ("tls.ca: cannot read /x: no", Some("--set tls.ca".to_owned())),
            ("hostname: no", Some(format!("{path}:1"))),
            ("listener: no", Some(format!("{path}:2"))),
            ("listener.address: listener 1: no", Some(format!("{path}:3"))),
            ("listener.address: listener 2: no: no", Some(format!("{path}:5"))),
            // A default has no place, and neither has a text on no key.
            ("dns.trust_anchor: no", None),
            ("no", None),
        ] {
            let expected = place.map_or_else(|| why.to_owned(), |place| format!("{why} (in {place})"));
            assert_eq!(places.told(why), expected);
        }
    }

    #[test]
    fn a_file_that_is_another_one_is_shown_in_part() {
        let long = "x".repeat(5000);
        for text in [long.clone(), format!("tls.level = \"{long}\"\n"), format!("received = \"{long}\"\n")] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let told = load(Some(file.path()), &[]).map(drop).unwrap_err().to_string();
            assert!(told.contains(&format!("{}...\"", "x".repeat(80))) && told.len() < 500, "{told}");
        }
    }

    #[test]
    fn a_list_in_the_place_of_a_table_is_one_fault() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "received = 1\n[[tls]]\nlevel = \"dane\"\n[[dns]]\ntimeout = 1\n").unwrap();
        let said = load(Some(file.path()), &[]).map(drop).unwrap_err().to_string();
        let path = file.path().display();
        let line = |name: &str, line: u8| {
            format!(
                "{name}: a list of tables is not allowed; it must be one table, in single brackets: write [{name}] in the \
                 place of [[{name}]], once (in {path}:{line})"
            )
        };
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], [line("dns", 4), line("tls", 2)]);
        assert!(lines.len() == 3 && lines[2].starts_with("received: 1 is not allowed; "), "{said}");
    }

    #[test]
    fn a_value_in_the_place_of_a_table_is_told_below_a_table_of_a_higher_layer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "log = \"info\"\ntls = [1]\n").unwrap();
        let flags = ["log.format=json", "tls.level=dane"].map(|flag| flag.parse().unwrap());
        let said = load(Some(file.path()), &flags).map(drop).unwrap_err().to_string();
        let path = file.path().display();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines[0],
            format!(
                "log: \"info\" is not allowed; it must be a table of keys, such as [log] and a line below it for each key (in {path}:1)"
            )
        );
        assert!(lines.len() == 2 && lines[1].starts_with("tls: a list of tables is not allowed; "), "{said}");
    }

    #[test]
    fn an_entry_is_a_table_and_no_list_of_values() {
        for (list, expected) in [
            ("rule=[[\"a.example\", \"dane\"]]", &["rule: rule 1: a list"][..]),
            (
                "listener=[1, {address=\"127.0.0.1:25\"}, []]",
                &["listener: listener 1: 1", "listener: listener 3: a list"],
            ),
            (
                "negative_trust_anchor=[[\"a.example\", \"x\", \"2099-01-01\"]]",
                &["negative_trust_anchor: negative_trust_anchor 1: a list"],
            ),
        ] {
            let (name, said) = (list.split('=').next().unwrap(), error(list));
            let what = format!(
                " is not allowed; it must be a table of keys, such as [[{name}]] and a line below it for each key (in --set {name})"
            );
            let expected: Vec<String> = expected.iter().map(|entry| format!("{entry}{what}")).collect();
            assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{list}");
        }
        // After so many the rest is not looked at.
        let said = error(&format!("rule=[{}]", vec!["1"; 200].join(",")));
        assert_eq!(said.lines().count(), MOST_WRONG + 1);
    }

    #[test]
    fn a_fault_of_a_default_is_told_at_the_key_that_it_does_not_fit() {
        for (flag, key, other) in [
            ("admin.address=\"0.0.0.0:7671\"", "admin.allow", "admin.address"),
            ("dns.timeout=\"1m\"", "dns.deadline", "dns.timeout"),
            ("timeouts.grace=\"25h\"", "timeouts.grace", "timeouts.grace"),
            ("tlsrpt.mode=collectd", "tlsrpt.collectd", "tlsrpt.mode"),
        ] {
            let said = error(flag);
            assert!(said.starts_with(&format!("{key}: ")) && said.ends_with(&format!(" (in --set {other})")), "{said}");
        }
        assert!(!error("tlsrpt.mode=send").contains("built-in"), "{}", error("tlsrpt.mode=send"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[admin]\naddress = \"192.0.2.1:7671\"\n").unwrap();
        let said = load(Some(file.path()), &[]).map(drop).unwrap_err().to_string();
        assert!(said.ends_with(&format!(" (in {}:2)", file.path().display())), "{said}");
    }

    #[test]
    fn where_each_key_comes_from() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "received = false\n\n[tls]\n# why\nlevel = \"dane-only\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n";
        std::fs::write(file.path(), text).unwrap();
        let keys = loaded(Some(file.path()), &["dns.attempts=7".parse().unwrap()]).unwrap().keys;
        let shown = |name: &str| {
            let key = keys.iter().find(|key| key.name == name).unwrap();
            (key.toml(), key.source.clone())
        };
        let path = file.path().display();
        assert_eq!(shown("received"), ("false".into(), format!("{path}:1")));
        assert_eq!(shown("tls.level"), ("\"dane-only\"".into(), format!("{path}:5")));
        assert_eq!(shown("listener"), ("[{ address = \"127.0.0.1:1\" }]".into(), format!("{path}:6")));
        assert_eq!(shown("dns.attempts"), ("7".into(), "--set dns.attempts".into()));
        assert_eq!(shown("timeouts.route"), ("\"4m\"".into(), "default".into()));
    }

    #[test]
    fn an_error_says_the_key_what_was_found_what_is_allowed_and_where() {
        for (flag, said) in [
            (
                "tls.level=DANE",
                "tls.level: \"DANE\" is not allowed; it may be one of: dane, verify, secure, dane-only, encrypt (in --set tls.level)",
            ),
            (
                "tls.levle=dane",
                "tls.levle: there is no such key; it may be one of: level, insecure_mx, post_quantum, digests, ca, extra_ca (in --set tls.levle)",
            ),
            (
                "ledger.path=/x",
                "ledger: the section ledger is called store now; write --set store.path (in --set ledger.path)",
            ),
            (
                "tls.level.x=1",
                "tls.level: \"x\" is not allowed; it may be one of: dane, verify, secure, dane-only, encrypt (in --set tls.level.x)",
            ),
            (
                "tls=dane",
                "tls: \"dane\" is not allowed; it must be a table of keys, such as [tls] and a line below it for each key (in --set tls)",
            ),
            (
                "timeouts.grace=30",
                "timeouts.grace: 30 is not allowed; it must be a number with its unit in quotes, such as \"30s\" \
                 or \"4m\" (in --set timeouts.grace)",
            ),
            (
                "dns.mode=true",
                "dns.mode: true is not allowed; it must be one of its words, in quotes (danelaw.toml(5) has them) (in --set dns.mode)",
            ),
            (
                "received=yes",
                "received: \"yes\" is not allowed; it must be true or false, without quotes (in --set received)",
            ),
            (
                "remote.port=smtp",
                "remote.port: \"smtp\" is not allowed; it must be a whole number from 1 to 65535 (in --set remote.port)",
            ),
            (
                "limits.sessions=1.5",
                "limits.sessions: 1.5 is not allowed; it must be a whole number from 0 up (in --set limits.sessions)",
            ),
            (
                "limits.message_size=ten",
                "limits.message_size: \"ten\" is not allowed; it must be a size such as \"100MiB\" (in --set limits.message_size)",
            ),
            (
                "dns.servers=9.9.9.9",
                "dns.servers: \"9.9.9.9\" is not allowed; it must be a list in brackets: [\"9.9.9.9\"] (in --set dns.servers)",
            ),
            (
                "dns.servers=[\"a\"",
                "dns.servers: \"[\\\"a\\\"\" is not allowed; it must be a list in brackets, such as [\"..\", \"..\"]; a bracket, a \
                 quote or a comma is missing (in --set dns.servers)",
            ),
            (
                "dns.servers=['9.9.9.9']",
                "dns.servers: \"['9.9.9.9']\" is not allowed; it must be a list in brackets, such as [\"..\", \"..\"]; write double \
                 quotes (in --set dns.servers)",
            ),
            (
                "limits.sessions=2.0",
                "limits.sessions: 2.0 is not allowed; it must be a whole number from 0 up (in --set limits.sessions)",
            ),
            (
                "listener=[{address=\"127.0.0.1:25\"",
                "listener: \"[{address=\\\"127.0.0.1:25\\\"\" is not allowed; it must be a list of tables, such as \
                 [{address=\"127.0.0.1:10025\"}]; a bracket, a quote or a comma is missing (in --set listener)",
            ),
            (
                "listener=[{address=\"127.0.0.1:25\",alow=[]}]",
                "listener.alow: listener 1: there is no such key; it may be one of: kind, address, allow, proxy_from, recipients, \
                 level, require_tls, tls_required_no, lenient, tls, certificate, key, client_ca, client_keys, mode, owner (in --set listener)",
            ),
            (
                "listener.address=127.0.0.1:25",
                "listener: a table of keys is not allowed; it must be a list of tables, each under [[listener]] in the file; --set \
                 and the environment take the list as a whole, as in --set 'listener=[{address=\"127.0.0.1:10025\"}]' (in \
                 --set listener.address)",
            ),
            (
                "rule=[{domain=\"a.example\",level=\"fingerprint\"}]",
                "rule.records: the rule for a.example has level \"fingerprint\" and no records; give those that the host must \
                 match, as in records = [\"3 1 1 0123..\"] (danelaw tlsa generate makes them out of its certificate) (in --set \
                 rule)",
            ),
            (
                "listener=[{address=\"localhost:10025\"}]",
                "listener.address: listener 1: \"localhost:10025\" is no address and port such as 127.0.0.1:10025 or [::1]:10025, and no \
                 unix:/path (in --set listener)",
            ),
            // A value that is well-formed and wrong has a place too.
            ("limits.sessions=0", "limits.sessions: 0 would stop all mail (in --set limits.sessions)"),
            ("listener=[]", "listener: there is none; give at least one address to listen on (in --set listener)"),
            (
                "listener=[{address=\"127.0.0.1:1\",allow=[]}]",
                "listener.allow: 127.0.0.1:1: the list is empty, and no client could connect; name the networks that may, or leave this key \
                 out for loopback (in --set listener)",
            ),
        ] {
            assert_eq!(error(flag), said);
        }
    }
}
