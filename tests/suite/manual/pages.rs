//! The pages beside README: the targets of their links exist, and they agree with the program about keys, commands,
//! reasons and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use danelaw::config::DEFAULTS;
use danelaw::refusal::Label;
use danelaw::refusal::table::ROWS;
use danelaw::report::guidelines::{GuidelineSentence, NOT_ANSWERED, SENTENCES};
use danelaw::report::result::MailResult;
use strum::VariantArray as _;

use super::made::{assert_made, rows, spans};
use super::{danelaw, files, printed};
use crate::lab::certs::Identity;

/// README is the page that a reader sees first: it has to be short.
const README_OCTETS: usize = 8192;

/// One page by its path in the repository.
struct Page {
    path: PathBuf,
    text: String,
}

/// A link to a file of the repository.
struct PageLink {
    words: String,
    path: PathBuf,
    anchor: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn pages() -> Vec<Page> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let below = ["config", "benches", "tests", "fuzz/README.md"].map(|name| root().join(name));
    let below = below.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    let all = top.chain(below).filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        Page { path: path.strip_prefix(root()).unwrap().to_owned(), text }
    };
    all.map(page).collect()
}

impl Page {
    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The lines outside of code blocks.
    fn prose(&self) -> String {
        let mut in_code = false;
        let prose = self.text.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        });
        prose.collect::<Vec<_>>().join("\n")
    }

    /// The code blocks of this language.
    fn blocks(&self, language: &str) -> Vec<String> {
        let fence = format!("\n```{language}\n");
        self.text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let anchors = headings.map(|heading| {
            let anchor = anchor(heading.trim_start_matches('#'));
            let count = seen.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        });
        anchors.collect()
    }

    /// Its links within the repository.
    fn links(&self) -> Vec<PageLink> {
        let prose = self.prose();
        let (befores, afters) = (prose.split("]("), prose.split("](").skip(1));
        let links = befores.zip(afters).filter_map(|(before, after)| {
            let words = before.rsplit('[').next().unwrap().replace('\n', " ");
            let target = after.split(')').next().unwrap();
            let (file, anchor) = match target.split_once('#') {
                Some((file, anchor)) => (file, Some(anchor.to_owned())),
                None => (target, None),
            };
            let path = if file.is_empty() { self.path.clone() } else { self.path.parent().unwrap().join(file) };
            (!target.starts_with("https://")).then(|| PageLink { words, path: plain(&path), anchor })
        });
        links.collect()
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let words = heading.trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} is outside of the repository", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn readme_is_short() {
    let octets = text("README.md").len();
    assert!(octets <= README_OCTETS, "README.md has {octets} octets; {README_OCTETS} are the limit");
}

#[test]
fn links_lead_to_files_and_headings() {
    let pages = pages();
    assert!(pages.len() > 10);
    for page in &pages {
        for PageLink { path, anchor, .. } in page.links() {
            assert!(root().join(&path).exists(), "{}: {} does not exist", page.name(), path.display());
            let Some(anchor) = anchor else { continue };
            let target = pages.iter().find(|page| page.path == path);
            let target = target.unwrap_or_else(|| panic!("{}: {} is no page", page.name(), path.display()));
            assert!(target.anchors().contains(&anchor), "{}: {}#{anchor} does not exist", page.name(), path.display());
        }
    }
}

/// One word may be the heading of a page with another subject.
#[test]
fn a_link_with_the_words_of_a_heading_leads_to_a_page_that_has_it() {
    let pages = pages();
    let with = |heading: &str| pages.iter().filter(|page| page.anchors().contains(heading)).collect::<Vec<_>>();
    for page in &pages {
        for PageLink { words, path, .. } in page.links().into_iter().filter(|link| link.anchor.is_none()) {
            let with = with(&anchor(&words));
            let is_true = !words.contains(' ') || with.is_empty() || with.iter().any(|page| page.path == path);
            assert!(is_true, "{}: {} has no heading {words:?}", page.name(), path.display());
        }
    }
}

#[test]
fn the_links_of_the_packaged_pages_lead_to_packaged_files() {
    let directory = tempfile::tempdir().unwrap();
    let script = root().join("config/debian/build");
    assert!(Command::new(script).arg("--pages").arg(directory.path()).status().unwrap().success());
    let mut found = 0;
    for path in files(directory.path()).iter().filter(|path| path.extension().is_some_and(|name| name == "md")) {
        let text = fs::read_to_string(path).unwrap();
        let page = Page { path: path.strip_prefix(directory.path()).unwrap().to_owned(), text };
        for PageLink { path, .. } in page.links() {
            assert!(directory.path().join(&path).exists(), "{}: {} is not packaged", page.name(), path.display());
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn a_reader_of_readme_can_get_to_every_page() {
    let pages = pages();
    let mut reached = BTreeSet::from([PathBuf::from("README.md")]);
    loop {
        let known = reached.len();
        let from = pages.iter().filter(|page| reached.contains(&page.path));
        let next: Vec<_> = from.flat_map(Page::links).map(|link| link.path).collect();
        reached.extend(next);
        if reached.len() == known {
            break;
        }
    }
    for page in &pages {
        assert!(reached.contains(&page.path), "no page that README leads to has a link to {}", page.name());
    }
}

#[test]
fn a_page_has_a_link_to_each_file_beside_it() {
    let pages = pages();
    for folder in ["clients", "container", "kubernetes", "nftables", "prometheus"] {
        let folder = Path::new("config").join(folder);
        let page = pages.iter().find(|page| page.path == folder.join("README.md")).unwrap();
        let links: Vec<_> = page.links().into_iter().map(|link| link.path).collect();
        for file in files(&root().join(&folder)) {
            let file = file.strip_prefix(root()).unwrap().to_owned();
            assert!(file == page.path || links.contains(&file), "{} has no link to {}", page.name(), file.display());
        }
    }
}

/// Words of code spans that look like `section.key`, in pages about this version.
fn named_keys(page: &Page, sections: &BTreeMap<String, BTreeSet<String>>) -> Vec<(String, String)> {
    let prose = page.prose();
    let words = spans(&prose).flat_map(|span| span.split(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\'')));
    let dotted = words.filter_map(|word| word.split_once('.'));
    let named = dotted.filter(|(section, key)| {
        sections.contains_key(*section) && key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    });
    named.map(|(section, key)| (section.to_owned(), key.to_owned())).collect()
}

#[test]
fn the_pages_name_keys_that_exist() {
    let defaults: toml::Table = DEFAULTS.parse().unwrap();
    let sections: BTreeMap<String, BTreeSet<String>> = defaults
        .iter()
        .filter_map(|(section, keys)| Some((section.clone(), keys.as_table()?.keys().cloned().collect())))
        .collect();
    let mut found = 0;
    for page in pages().iter().filter(|page| page.name() != "CHANGELOG.md") {
        for (section, key) in named_keys(page, &sections) {
            assert!(sections[&section].contains(&key), "{}: there is no key {section}.{key}", page.name());
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn the_examples_are_good_configurations() {
    let mut found = 0;
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("tlsrpt.pem").to_str().unwrap().to_owned();
    assert!(danelaw(&["tlsrpt", "key", &key]).status.success());
    let [certificate, private] =
        ["certificate.pem", "key.pem"].map(|name| keys.path().join(name).display().to_string());
    for (path, text) in [&certificate, &private].into_iter().zip(Identity::for_name("danelaw.test").pem()) {
        std::fs::write(path, text).unwrap();
    }
    let password = keys.path().join("database-password").display().to_string();
    std::fs::write(&password, "secret\n").unwrap();
    for page in pages() {
        for block in page.blocks("toml") {
            let block = block.replace("/etc/danelaw/database-password", &password);
            let block = block.replace("/etc/danelaw/database-ca.pem", &certificate);
            let block = block.replace("/etc/danelaw/tlsrpt.pem", &key);
            let block = block.replace("/etc/danelaw/certificate.pem", &certificate);
            let block = block.replace("/etc/danelaw/key.pem", &private);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            std::io::Write::write_all(&mut file, block.as_bytes()).unwrap();
            let path = file.path().to_str().unwrap();
            let check = ["config", "check", "--allow-ended-rules", "--config", path, "--set", "hostname=danelaw.test"];
            let output = danelaw(&[&check[..], &["--set", "dns.servers=[\"127.0.0.1\"]"]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:\n{block}\n{said}", page.name());
            // An operator who copies it loses the default listener.
            let warns = !said.contains("listener: those that are listed replace the default one")
                || block.contains("127.0.0.1:10025");
            assert!(warns, "{}: say that it replaces 127.0.0.1:10025:\n{block}", page.name());
            found += 1;
        }
    }
    assert!(found > 3, "{found}");
}

#[test]
fn the_levels_are_those_of_the_program() {
    let output = danelaw(&["config", "check", "--config", "/dev/null", "--set", "tls.level=x"]);
    let error = String::from_utf8(output.stderr).unwrap();
    let allowed = error.split("it may be one of: ").nth(1).unwrap().split(" (").next().unwrap();
    let page = text("config/README.md");
    let header = "| `tls.level` | where the domain publishes DANE | where it has an MTA-STS policy in mode `enforce` | elsewhere |";
    let rows = rows(&page, header);
    let told: Vec<_> = rows.iter().map(|row| spans(&row[0]).next().unwrap()).collect();
    assert_eq!(told, allowed.trim().split(", ").collect::<Vec<_>>());
}

/// The commands of a page: lines of shell blocks and code spans that start with the program's name.
fn commands(page: &Page) -> Vec<Vec<String>> {
    let blocks = page.blocks("sh");
    let prose = page.prose();
    let lines = blocks.iter().flat_map(|block| block.lines()).map(|line| line.split(" #").next().unwrap());
    let all = lines.chain(spans(&prose)).filter_map(|command| command.strip_prefix("danelaw "));
    all.map(|command| command.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_commands_of_the_pages_exist() {
    let mut found = 0;
    for page in pages().into_iter().filter(|page| page.name() != "CHANGELOG.md") {
        for words in commands(&page) {
            let is_name = |word: &&String| word.chars().all(|c| c.is_ascii_lowercase()) && word.len() > 1;
            let depth = if matches!(words[0].as_str(), "config" | "store" | "tlsa" | "tlsrpt") { 2 } else { 1 };
            let subcommands: Vec<_> = words.iter().take(depth).take_while(is_name).map(String::as_str).collect();
            let help = printed(&[&subcommands[..], &["--help"]].concat());
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(flag), "{}: danelaw {words:?} has no {flag}", page.name());
            }
            if let ("refusals", Some(reason)) =
                (words[0].as_str(), words.get(1).filter(|word| !word.contains(char::is_uppercase)))
            {
                assert!(reason.parse::<Label>().is_ok(), "{}: {reason}", page.name());
            }
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}

#[test]
fn troubleshooting_quotes_the_program() {
    let page = text("config/troubleshooting.md");
    let refusals = printed(&["refusals"]);
    for words in [
        "TLS is required, but was not offered",
        "no answer to the connection attempt",
        "loops back to this host",
        "no TLSA record matches the certificate chain",
        "the name server answered SERVFAIL",
    ] {
        assert!(page.contains(words) && refusals.contains(words), "{words}");
    }
    // Where it names a reason, it is one.
    for reason in page.split("(`").skip(1).filter_map(|rest| rest.split_once("`)")).map(|(reason, _)| reason) {
        let is_word = reason.contains('-') && reason.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(!is_word || reason.parse::<Label>().is_ok(), "{reason}");
    }
}

#[test]
fn troubleshooting_has_each_failure_of_the_self_test() {
    let page = text("config/troubleshooting.md");
    let told: Vec<String> = rows(&page, "| why | remedy |").into_iter().map(|row| row[0].clone()).collect();
    // The texts of `SelfTestFailure`, up to the part that differs from server to server.
    let source = text("src/dns/selftest.rs");
    let variants = source.split("pub enum SelfTestFailure {").nth(1).unwrap().split("\n}").next().unwrap();
    let texts: Vec<_> = variants.split("#[error(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for failure in &texts {
        let words = failure.split(['{', '(', ':']).next().unwrap().trim_end();
        assert!(told.iter().any(|why| why.contains(&format!("`{words}"))), "{failure:?} is in no row of {told:?}");
    }
    assert!(texts.len() >= 9, "{texts:?}");
}

#[test]
fn the_example_of_a_refusal_has_the_words_of_the_program() {
    let row = ROWS.iter().find(|row| row.label == Label::StartTlsMissing).unwrap();
    let one = printed(&["refusals", row.label.as_str()]);
    let reply = one.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
    let made = format!(
        "```\nstatus=deferred (host 127.0.0.1[127.0.0.1] said: {reply}; {} (id 5F0C63B1A7D2) (in reply to RCPT TO command))\n```",
        row.remedy
    );
    assert_made("config/troubleshooting.md", "danelaw refusals starttls-missing", &made);
}

#[test]
fn the_page_of_the_report_has_its_results_and_sentences() {
    let row = |result: MailResult| format!("| {} | `{}` | {} |", result.title(), result.as_str(), result.meaning());
    let results: Vec<String> = MailResult::VARIANTS.iter().copied().map(row).collect();
    let table = format!("| result | in JSON | meaning |\n|---|---|---|\n{}", results.join("\n"));
    assert_made("config/report.md", "src/report/result.rs", &table);
    let row = |one: &GuidelineSentence| {
        let GuidelineSentence { source, sentence, answers, leaves } = one;
        format!("| “{sentence}” ({source}) | {answers} | {leaves} |")
    };
    let sentences: Vec<String> = SENTENCES.iter().map(row).collect();
    let heading = "| sentence | answered | not answered |\n|---|---|---|";
    let made = format!("{heading}\n{}\n\n{NOT_ANSWERED}", sentences.join("\n"));
    assert_made("config/report.md", "src/report/guidelines.rs", &made);
}

#[test]
fn the_page_of_refusals_is_what_the_program_prints() {
    assert_made("config/refusals.md", "danelaw refusals", &printed(&["refusals"]));
}

#[test]
fn the_exit_statuses_are_those_of_help() {
    for (page, subcommand) in [("config/README.md", "run"), ("config/checking.md", "check")] {
        let help = printed(&[subcommand, "--help"]);
        let statuses = help.split("Exit status:\n").nth(1).unwrap();
        let made = format!("```text\n{}\n```", statuses.split("\n\n").next().unwrap().trim_end());
        assert_made(page, &format!("danelaw {subcommand} --help"), &made);
    }
}

#[test]
fn the_table_of_failover_is_that_beside_the_code() {
    let tables = files(&root().join("src/upstream")).into_iter().filter_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        let rows: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("//! |")).map(|row| format!("|{row}")).collect();
        rows.iter().any(|row| row.contains("| the next exchange |")).then_some(rows)
    });
    let tables: Vec<_> = tables.collect();
    assert_eq!(tables.len(), 1, "one table of failover beside the code");
    assert_made("config/README.md", "src/upstream", &tables[0].join("\n"));
}
