//! The configuration file, and the drop-ins beside it in `conf.d`.
//!
//! The files are layers, one above the other: a later one overrides single keys of those before it. Only the lists of tables
//! (`[[rule]]` and the like) are of all files together, one behind the other, so that each rule can have a file of its own.
//! An empty list (`rule = []`) leaves out those of the files before it, as an empty assignment does in a drop-in of systemd.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::left_out::TABLES;
use super::{LoadError, place};
use crate::operator_file::SETTINGS;

/// The file that is read if none is named, and may be absent.
pub(crate) const SYSTEM_FILE: &str = "/etc/danelaw/danelaw.toml";
/// The directory of the drop-ins, beside the configuration file.
const DROP_INS: &str = "conf.d";
/// The name of the layer that has the lists of tables.
const LISTS: &str = "the configuration files";
/// A directory in which every user may make files, as /tmp: writable for all, and sticky.
const FOR_ALL: u32 = 0o1002;

/// The file and its drop-ins, in the order in which they count.
pub(super) struct ConfigFiles {
    /// Without their lists of tables.
    files: Vec<TomlText>,
    lists: Lists,
}

/// A TOML text with the name that errors give it.
pub(super) struct TomlText {
    name: String,
    toml: String,
    /// Its values. They are read once: a file may have 100,000 rules, and the layers are merged anew after each fault.
    data: figment::Result<Map<Profile, Dict>>,
}

/// A list of tables of all files together.
struct JoinedList {
    name: &'static str,
    value: Value,
    /// The files that have it.
    files: Vec<usize>,
    /// Where each entry stands.
    entries: Vec<EntryPlace>,
}

/// The place of an entry: the file, and how many entries of the list stand before it there.
struct EntryPlace {
    file: usize,
    before: usize,
}

impl ConfigFiles {
    /// Reads the file, or the one that may be absent if none is named, and its drop-ins.
    pub(super) fn read(file: Option<&Path>) -> Result<Self, LoadError> {
        let path = file.unwrap_or(Path::new(SYSTEM_FILE));
        let mut files = Vec::new();
        // One that is named may be a pipe, as a shell makes it of `--config <(..)`.
        let toml = if file.is_some() { read_named(path) } else { read(path) };
        match toml {
            Ok(toml) => files.push(TomlText::of(path, toml)),
            Err(error) if file.is_none() && error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, error)),
        }
        for path in drop_ins(path)? {
            let toml = read(&path).map_err(|error| unreadable(&path, error))?;
            files.push(TomlText::of(&path, toml));
        }
        let lists = TABLES.into_iter().filter_map(|name| JoinedList::out_of(&mut files, name)).collect();
        Ok(Self { files, lists: Lists(lists) })
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// Their layers, the lowest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = &dyn Provider> {
        self.files.iter().map(|file| file as &dyn Provider).chain([&self.lists as &dyn Provider])
    }

    /// The file and the line of a key that the layer of this name has set; none if it is none of theirs.
    pub(super) fn place(&self, layer: &str, path: &[String]) -> Option<String> {
        if layer != LISTS {
            return Some(self.files.iter().find(|file| file.name == layer)?.place(path));
        }
        let list = self.lists.0.iter().find(|list| Some(list.name) == path.first().map(String::as_str))?;
        let number = path.get(1).and_then(|number| number.parse::<usize>().ok());
        if let Some(EntryPlace { file, before }) = number.and_then(|number| list.entries.get(number)) {
            return Some(self.files[*file].place(&[&path[..1], &[before.to_string()], &path[2..]].concat()));
        }
        let places: Vec<String> = list.files.iter().map(|file| self.files[*file].place(path)).collect();
        Some(places.join(", "))
    }
}

impl TomlText {
    pub(super) fn new(name: String, toml: String) -> Self {
        let mut data = Toml::string(&toml).data();
        data.iter_mut().flat_map(Map::values_mut).flat_map(Dict::values_mut).for_each(without_dates);
        Self { name, toml, data }
    }

    fn of(path: &Path, toml: String) -> Self {
        Self::new(path.display().to_string(), toml)
    }

    fn place(&self, path: &[String]) -> String {
        match place::line(&self.toml, path) {
            Some(line) => format!("{}:{line}", self.name),
            None => self.name.clone(),
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.data.as_mut().ok()?.get_mut(&Profile::Default)?.remove(key)
    }
}

/// Makes texts of the days and times of a value. No key has that type of TOML, and the library reads them as tables with a key of its
/// own.
fn without_dates(value: &mut Value) {
    const KEY: &str = "$__toml_private_datetime";
    match value {
        Value::Dict(_, dict) => match dict.remove(KEY) {
            Some(date) => *value = date,
            None => dict.values_mut().for_each(without_dates),
        },
        Value::Array(_, items) => items.iter_mut().for_each(without_dates),
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {}
    }
}

impl JoinedList {
    /// Takes it out of the files. None if no file has it. A value that is no list is not joined: it stays, to be told.
    fn out_of(files: &mut [TomlText], name: &'static str) -> Option<Self> {
        let mut all: Option<Self> = None;
        let values: Vec<(usize, Value)> =
            files.iter_mut().enumerate().filter_map(|(file, text)| Some((file, text.take(name)?))).collect();
        for (file, value) in values {
            let more = match value.as_array() {
                Some(more) if !more.is_empty() => more,
                Some(_) => {
                    all = Some(Self { name, value, files: vec![file], entries: Vec::new() });
                    continue;
                }
                None => return Some(Self { name, value, files: vec![file], entries: Vec::new() }),
            };
            let places = (0..more.len()).map(|before| EntryPlace { file, before });
            match &mut all {
                Some(Self { value: Value::Array(_, before), files, entries, .. }) => {
                    before.extend_from_slice(more);
                    entries.extend(places);
                    files.push(file);
                }
                Some(_) | None => all = Some(Self { name, files: vec![file], entries: places.collect(), value }),
            }
        }
        all
    }
}

impl Provider for TomlText {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        self.data.clone()
    }
}

/// The lists of tables.
struct Lists(Vec<JoinedList>);

impl Provider for Lists {
    fn metadata(&self) -> Metadata {
        Metadata::named(LISTS)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let dict: Dict = self.0.iter().map(|list| (list.name.to_owned(), list.value.clone())).collect();
        Ok(Profile::Default.collect(dict))
    }
}

/// The drop-ins beside this file, by their names. Other names than `*.toml` are not read, as `run-parts` does: an editor or
/// dpkg leaves `x.toml~` and `x.toml.dpkg-dist` behind.
fn drop_ins(beside: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let directory = beside.with_file_name(DROP_INS);
    let is_drop_in = |path: &PathBuf| {
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !is_hidden && path.extension().is_some_and(|ending| ending == "toml")
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&directory, error)),
    };
    let paths: Result<Vec<PathBuf>, Error> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.and_then(|paths| not_of_a_stranger(&directory, beside).map(|()| paths));
    if let Ok(paths) = &mut paths {
        paths.retain(is_drop_in);
        paths.sort();
    }
    paths.map_err(|error| unreadable(&directory, error))
}

/// In a directory such as /tmp every user can put drop-ins beside a file of ours.
fn not_of_a_stranger(directory: &Path, file: &Path) -> Result<(), Error> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::symlink_metadata(directory)?.uid();
    let is_ours = owner == 0 || fs::metadata(file).is_ok_and(|file| file.uid() == owner);
    match fs::metadata(parent)?.mode() & FOR_ALL == FOR_ALL && !is_ours {
        true => Err(Error::other("every user may make files beside it, and another user than the file's has made it")),
        false => Ok(()),
    }
}

/// Reads a file that the command line names. A pipe can be read only once. At a reload it is empty, and an empty pipe is no
/// configuration.
fn read_named(path: &Path) -> Result<String, Error> {
    let text = SETTINGS.text(path)?;
    match text.is_empty() && fs::metadata(path).is_ok_and(|kind| kind.file_type().is_fifo()) {
        true => {
            Err(Error::other("it is a pipe, and nothing is in it; for a reload the configuration has to be in a file"))
        }
        false => Ok(text),
    }
}

/// Reads a file that stands in its place unasked: a pipe there would never end, and hold the start.
fn read(path: &Path) -> Result<String, Error> {
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(Error::other(
            "it is a directory; a drop-in is a file, so give the directory another name or take it away",
        ));
    }
    // A link to it is how a drop-in is masked.
    let is_masked = || fs::canonicalize(path).is_ok_and(|path| path == Path::new("/dev/null"));
    if !kind.is_file() && !is_masked() {
        return Err(Error::other("it is no regular file; put a file there, or a link to /dev/null for none"));
    }
    SETTINGS.text(path)
}

fn unreadable(path: &Path, error: Error) -> LoadError {
    let error = match error.kind() {
        ErrorKind::PermissionDenied => Error::new(
            error.kind(),
            format!("{error}; danelaw's user must be able to read it, as with mode 0640 and the group danelaw"),
        ),
        ErrorKind::FileTooLarge => {
            Error::new(error.kind(), format!("{error}; rules may stand in several files of {DROP_INS}"))
        }
        _ => error,
    };
    LoadError::Unreadable { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{Loaded, loaded};
    use super::*;

    /// A configuration file, and drop-ins beside it.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(file: &str, drop_ins: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            fs::create_dir(folder.at("conf.d")).unwrap();
            fs::write(folder.at("F"), file).unwrap();
            drop_ins.iter().for_each(|(name, text)| fs::write(folder.at("conf.d").join(name), text).unwrap());
            folder
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn loaded(&self) -> Result<Loaded, String> {
            loaded(Some(&self.at("F")), &[]).map_err(|error| self.short(&error.to_string()))
        }

        fn short(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.0.path().display()), "")
        }

        /// Each key, its value and its source.
        fn shown(&self, name: &str) -> [String; 2] {
            let keys = self.loaded().map_err(|error| panic!("{error}")).map(|loaded| loaded.keys).unwrap();
            let key = keys.iter().find(|key| key.name == name).unwrap();
            [key.toml(), self.short(&key.source)]
        }
    }

    #[test]
    fn a_later_file_overrides_single_keys() {
        let drop_ins = [
            ("20-b.toml", "[dns]\nattempts = 5\ntimeout = \"2s\"\n"),
            ("10-a.toml", "[dns]\nattempts = 4\ntimeout = \"1s\"\nservers = [\"192.0.2.2\"]\n"),
            // These are not read.
            ("30-c.toml~", "nonsense"),
            ("30-c.toml.dpkg-dist", "nonsense"),
            (".30-c.toml", "nonsense"),
            ("README", "nonsense"),
        ];
        let folder = Folder::new("[dns]\nattempts = 3\ncache_entries = 7\nservers = [\"192.0.2.1\"]\n", &drop_ins);
        for (name, value, place) in [
            ("dns.attempts", "5", "conf.d/20-b.toml:2"),
            ("dns.timeout", "\"2s\"", "conf.d/20-b.toml:3"),
            // A list of values is one value.
            ("dns.servers", "[\"192.0.2.2\"]", "conf.d/10-a.toml:4"),
            ("dns.cache_entries", "7", "F:3"),
            ("dns.deadline", "\"20s\"", "default"),
        ] {
            assert_eq!(folder.shown(name), [value, place]);
        }
        let files = folder.loaded().unwrap().files.iter().map(|file| folder.short(file)).collect::<Vec<_>>();
        assert_eq!(files, ["F", "conf.d/10-a.toml", "conf.d/20-b.toml"]);
    }

    #[test]
    fn tables_of_a_list_stand_one_behind_the_other() {
        let rule = |domain: &str| format!("[[rule]]\ndomain = \"{domain}\"\nlevel = \"dane-only\"\n");
        let (a, b, c) = (rule("a.example"), rule("b.example"), rule("c.example"));
        let folder = Folder::new(&(rule("x.example") + &rule("y.example")), &[("b.toml", &b), ("a.toml", &a)]);
        let domains = |folder: &Folder| {
            let config = folder.loaded().map(|loaded| loaded.config).unwrap();
            config.rule.iter().map(|rule| rule.domain.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(domains(&folder), ["x.example", "y.example", "a.example", "b.example"]);
        assert_eq!(folder.shown("rule")[1], "F:1, conf.d/a.toml:1, conf.d/b.toml:1");
        // The default listener stays, and the first one that is listed replaces it.
        assert_eq!(folder.loaded().unwrap().config.listener.len(), 1);
        fs::write(folder.at("conf.d/c.toml"), "[[listener]]\naddress = \"127.0.0.1:1\"\n").unwrap();
        assert_eq!(folder.shown("listener"), ["[{ address = \"127.0.0.1:1\" }]", "conf.d/c.toml:1"]);
        fs::write(folder.at("conf.d/d.toml"), "[[listener]]\naddress = \"127.0.0.1:2\"\n").unwrap();
        assert_eq!(folder.loaded().unwrap().config.listener.len(), 2);
        // An empty list leaves out those before it.
        fs::write(folder.at("conf.d/b.toml"), "rule = []\n").unwrap();
        fs::write(folder.at("conf.d/c.toml"), &c).unwrap();
        assert_eq!(domains(&folder), ["c.example"]);
        fs::write(folder.at("conf.d/d.toml"), "rule = []\n").unwrap();
        assert_eq!((domains(&folder), &*folder.shown("rule")[1]), (vec![], "conf.d/d.toml:1"));
    }

    #[test]
    fn a_fault_has_the_file_that_it_stands_in() {
        let good = "[tls]\nlevel = \"dane\"\n[[rule]]\ndomain = \"a.example\"\nlevel = \"dane-only\"\n";
        for (file, drop_in, said) in [
            (good, "[tls]\nlevel = 1\n", "tls.level: 1 is not allowed; it must be one of its words, in quotes "),
            (good, "[tls\n", "\"[tls\" is no TOML at column 5: "),
            (good, "[tls]\nlevle = 1\n", "tls.levle: there is no such key; it may be one of: level, "),
            ("[tls]\nlevle = 1\n", good, "tls.levle: there is no such key; it may be one of: level, "),
            // Entries are counted over all files.
            (
                good,
                "[[rule]]\ndomain = \"b.example\"\nlevel = \"none\"\n",
                "rule.level: rule 2: \"none\" is not allowed; it may be one of: ",
            ),
            (good, "[[rule]]\ndomain = \"b.example\"\nlevel = \"may\"\n", "rule.reason: the rule for b.example "),
            (
                "[rule]\ndomain = \"b.example\"\n",
                good,
                "rule: a table of keys is not allowed; it must be a list of tables",
            ),
            (good, "[[tls]]\nlevel = \"dane\"\n", "tls: a list of tables is not allowed; it must be one table, "),
        ] {
            let folder = Folder::new(file, &[("a.toml", drop_in)]);
            let line = folder.loaded().map(drop).unwrap_err();
            assert!(line.starts_with(said) && line.lines().count() == 1, "{line}");
            let place = if file == good { "(in conf.d/a.toml:" } else { "(in F:" };
            assert!(line.contains(place) || line.contains(&place.replace("(in ", "/")), "{line}");
        }
    }

    #[test]
    fn a_drop_in_that_cannot_be_read_is_an_error_and_one_of_nothing_is_none() {
        let folder = Folder::new("", &[("a.toml", "")]);
        symlink("/dev/null", folder.at("conf.d/b.toml")).unwrap();
        assert!(folder.loaded().is_ok());
        fs::create_dir(folder.at("conf.d/c.toml")).unwrap();
        let said = folder.loaded().map(drop).unwrap_err();
        assert!(said.starts_with("cannot read the configuration file conf.d/c.toml: it is a directory; "), "{said}");
        fs::remove_dir(folder.at("conf.d/c.toml")).unwrap();
        symlink("missing", folder.at("conf.d/d.toml")).unwrap();
        let said = folder.loaded().map(drop).unwrap_err();
        assert!(said.starts_with("cannot read the configuration file conf.d/d.toml: "), "{said}");
        fs::remove_dir_all(folder.at("conf.d")).unwrap();
        fs::write(folder.at("conf.d"), "").unwrap();
        let said = folder.loaded().map(drop).unwrap_err();
        assert!(said.starts_with("cannot read the configuration file conf.d: "), "{said}");
        fs::remove_file(folder.at("conf.d")).unwrap();
        assert!(folder.loaded().is_ok());
    }

    #[test]
    fn a_drop_in_is_a_file_of_text() {
        let folder = Folder::new("", &[]);
        let at = folder.at("conf.d/a.toml");
        let said = || folder.loaded().map(drop).unwrap_err();
        // Reading would never end, since no program writes to them.
        for node in ["pipe", "socket"] {
            match node {
                "pipe" => assert!(std::process::Command::new("mkfifo").arg(&at).status().unwrap().success()),
                _ => drop(std::os::unix::net::UnixListener::bind(&at).unwrap()),
            }
            assert!(said().starts_with("cannot read the configuration file conf.d/a.toml: it is no regular file; "));
            fs::remove_file(&at).unwrap();
            symlink("/dev/zero", &at).unwrap();
            assert!(said().contains("it is no regular file; "));
            fs::remove_file(&at).unwrap();
        }
        let toml = "[tls]\nlevel = \"encrypt\"\n";
        let utf16 = |mark: u16| [mark].into_iter().chain(toml.encode_utf16());
        let little: Vec<u8> = utf16(0xfeff).flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = utf16(0xfeff).flat_map(u16::to_be_bytes).collect();
        for (octets, why) in [
            (&little[..], "it is UTF-16; save it as UTF-8, as \"iconv "),
            (&big, "it is UTF-16; save it as UTF-8, as \"iconv "),
            (b"# B\xfccher\n", "it is not UTF-8; save it as UTF-8"),
        ] {
            fs::write(&at, octets).unwrap();
            let said = said();
            assert!(said.starts_with(&format!("cannot read the configuration file conf.d/a.toml: {why}")), "{said}");
        }
        // The mark before UTF-8 is no fault.
        fs::write(&at, format!("\u{feff}{toml}")).unwrap();
        assert_eq!(folder.shown("tls.level")[0], "\"encrypt\"");
    }

    #[test]
    fn nobody_else_puts_drop_ins_beside_a_file() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let folder = Folder::new("", &[("a.toml", "[tls]\nlevel = \"encrypt\"\n")]);
        let set = |mode| fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(mode)).unwrap();
        set(0o1777);
        assert!(folder.loaded().is_ok());
        // Only root may give a directory away.
        if chown(folder.at("conf.d"), Some(65534), None).is_ok() {
            let said = folder.loaded().map(drop).unwrap_err();
            assert!(said.starts_with("cannot read the configuration file conf.d: every user "), "{said}");
            set(0o755);
            assert!(folder.loaded().is_ok());
        }
    }
}
