//! The program's words about itself: manual pages, completions, the reference of refusals, the list of rules, and the pages.

mod chart;
mod keys;
pub(crate) mod made;
mod pages;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use danelaw::config::DEFAULTS;
use danelaw::refusal::Label;
use danelaw::refusal::table::{ROWS, SILENT};
use serde_json::Value;
use strum::VariantArray as _;
use time::{Duration, OffsetDateTime};

fn danelaw(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_danelaw")).args(arguments).output().unwrap()
}

/// The output of a command that has to succeed.
fn printed(arguments: &[&str]) -> String {
    let output = danelaw(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// The page as a reader sees it, in one line. The formatter must have no complaint.
fn rendered(page: &Path) -> String {
    let arguments = ["-man", "-K", "utf8", "-T", "utf8", "-w", "w", "-rHY=0", "-P-cbou"];
    let output = Command::new("groff").args(arguments).arg(page).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_manual_renders_and_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    printed(&["man", directory.path().to_str().unwrap()]);
    let pages = files(directory.path());
    let names: Vec<_> =
        pages.iter().map(|page| page.strip_prefix(directory.path()).unwrap().to_str().unwrap()).collect();
    for name in [
        "man1/danelaw.1",
        "man1/danelaw-check.1",
        "man1/danelaw-tlsa-verify.1",
        "man5/danelaw.toml.5",
        "man7/danelaw-refusals.7",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    // Each is titled by the name that man(1) finds it under.
    for page in &pages {
        let (name, section) =
            (page.file_stem().unwrap().to_str().unwrap(), page.extension().unwrap().to_str().unwrap());
        let roff = fs::read_to_string(page).unwrap();
        let title = format!(".TH {name} {section}  \"danelaw {}\" ", env!("CARGO_PKG_VERSION"));
        assert!(roff.lines().any(|line| line == title), "{title} in {roff}");
    }
    let texts: Vec<_> = pages.iter().map(|page| rendered(page)).collect();
    let page = |name: &str| &texts[names.iter().position(|other| *other == name).unwrap()];
    let first = printed(&["man"]);
    assert_eq!(fs::read_to_string(directory.path().join("man1/danelaw.1")).unwrap(), first);
    // The words of --help.
    assert!(page("man1/danelaw-check.1").contains("EXIT STATUS 0 mail to every domain would be delivered"));
    assert!(page("man1/danelaw-tlsa-generate.1").contains("EXIT STATUS 0 the records are printed"));
    assert!(page("man1/danelaw.1").contains("SETTINGS Every key, its default and its reason: danelaw.toml(5)"));
    assert!(page("man1/danelaw-run.1").contains("EXIT STATUS 0 stopped by SIGTERM or SIGINT"));
    assert!(page("man1/danelaw-explain.1").contains("69 no danelaw answers at admin.address"));
    assert!(page("man1/danelaw-check.1").contains("JSON FIELDS domain, level as asked"));
    // Every key with its default.
    for line in DEFAULTS.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")) {
        assert!(page("man5/danelaw.toml.5").contains(line), "{line}");
    }
    assert!(page("man5/danelaw.toml.5").contains("until The last day"));
    // Every refusal.
    for row in ROWS {
        assert!(page("man7/danelaw-refusals.7").contains(&format!(" {} {} {} ", row.label, row.code, row.enhanced)));
    }
    for row in SILENT {
        assert!(page("man7/danelaw-refusals.7").contains(&format!(" {} (no reply of this attempt) ", row.label)));
    }
    let output = danelaw(&["man", "/proc/nowhere"]);
    assert_eq!(output.status.code(), Some(71), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_refusal_is_explained() {
    let all = printed(&["refusals"]);
    for row in ROWS {
        let one = printed(&["refusals", row.label.as_str()]);
        assert!(one.starts_with(&format!("## {}\n\n    {} {} ", row.label, row.code, row.enhanced)), "{one}");
        assert!(one.contains(row.cause) && one.contains(row.remedy) && all.contains(&one), "{one}");
    }
    for row in SILENT {
        let one = printed(&["refusals", row.label.as_str()]);
        assert!(one.starts_with(&format!("## {}\n\n    (no reply of this attempt)\n", row.label)), "{one}");
        assert!(one.contains(row.cause) && one.contains(row.remedy) && all.contains(&one), "{one}");
    }
    // Every reason that the log can print.
    for label in Label::VARIANTS {
        let one = printed(&["refusals", label.as_str()]);
        assert!(one.starts_with(&format!("## {label}\n")) && one.matches("## ").count() == 1, "{one}");
        assert!(one.contains(&format!("\n\nLevel in the log: {}.\n", label.urgency().level())), "{one}");
    }
    assert_eq!(all.matches("## ").count(), Label::VARIANTS.len());
    assert_eq!(danelaw(&["refusals", "nothing"]).status.code(), Some(64));
}

#[test]
fn every_shell_can_complete() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("no-connect") && script.contains("refusals"), "{shell}");
    }
    assert_eq!(danelaw(&["completions", "sh"]).status.code(), Some(64));
    for flag in ["foo", ".level=dane"] {
        let output = danelaw(&["config", "check", "--set", flag]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("write it as KEY=VALUE, as in --set dns.timeout=2s"), "{said}");
    }
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(printed(&["completions", "bash"]).as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn errors_say_how_to_mend_them() {
    // A variable is named as it is written.
    for (name, value, said) in [
        (
            "DANELAW_TLS__LEVEL",
            "DANE",
            "tls.level: \"DANE\" is not allowed; it may be one of: dane, verify, secure, dane-only, encrypt",
        ),
        ("DANELAW_TLS_LEVEL", "dane", "; two underscores stand for the dot, as in DANELAW_TLS__LEVEL"),
        (
            "DANELAW_LEDGER__PATH",
            "/x",
            "ledger: the section ledger is called store now; write DANELAW_STORE__PATH (in ",
        ),
        (
            "DANELAW_LEDGER_PATH",
            "/x",
            "ledger_path: the section ledger is called store now; write DANELAW_STORE__PATH (in ",
        ),
        ("DANELAW_LISTENER__ADDRESS", "[::1]:25", "--set and the environment take the list as a whole"),
        ("DANELAW_PORT_10025_TCP", "tcp://192.0.2.1:10025", "set enableServiceLinks: false in the pod"),
        ("DANELAW_SERVICE_HOST", "192.0.2.1", "set enableServiceLinks: false in the pod"),
        ("danelaw_home", "/", "unset it or correct its name"),
    ] {
        let check = ["config", "check", "--config", "/dev/null"];
        let output = Command::new(env!("CARGO_BIN_EXE_danelaw")).args(check).env(name, value).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{error}");
        assert!(error.contains(said) && error.ends_with(&format!(" (in {name})\n")), "{error}");
    }
    // A command line.
    for (arguments, said) in [
        (&["check", "--parallel", "0", "example.com"][..], "give a whole number from 1 up, such as 8"),
        (&["tlsa", "verify", "--chain", "x", "--record", "x", "--at", "yesterday"], "as in 2026-11-21T12:00:00Z"),
        (&["tlsa", "verify", "--chain", "x", "--record", "x", "--at", "2026-11-21"], "as in 2026-11-21T12:00:00Z"),
        (&["explain", "(id 5F0C63B1A7D2)"], "an id is like 5F0C63B1A7D2"),
        // The usage is that of the subcommand.
        (&["check", "https://example.com/"], "Usage: danelaw check "),
        (&["resolve", "example.com"], "Usage: danelaw resolve "),
    ] {
        let output = danelaw(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && error.contains(said), "{error}");
    }
    let missing = danelaw(&["config", "check", "--config", "/dev/null", "--set", "dns.tls_ca=/nowhere/ca.pem"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.starts_with("danelaw: dns.tls_ca: cannot read /nowhere/ca.pem: "), "{error}");
    let missing = danelaw(&["config", "check", "--config", "/dev/null", "--set", "tls.ca=/nowhere/ca.pem"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.starts_with("danelaw: tls.ca: cannot read /nowhere/ca.pem: "), "{error}");
    let reports = ["mode=send", "organization=Example", "contact=reports@example.com", "dkim_key=/nowhere/key.pem"];
    let reports: Vec<_> = reports.iter().flat_map(|set| ["--set".to_owned(), format!("tlsrpt.{set}")]).collect();
    let reports = reports.iter().map(String::as_str);
    let check = ["config", "check", "--config", "/dev/null", "--set", "store.path=/var/lib/danelaw/store.sqlite"];
    let missing = danelaw(&check.into_iter().chain(reports).collect::<Vec<_>>());
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(
        error.starts_with("danelaw: tlsrpt.dkim_key: /nowhere/key.pem: ") && error.contains("makes one"),
        "{error}"
    );
    // All faults at once, but none about the default in the place of a wrong key.
    for (flags, keys) in [
        (
            &["log.filter=loud", "dns.tls_ca=/nowhere", "tls.level=x"][..],
            &["tls.level", "log.filter", "dns.tls_ca"][..],
        ),
        (&["limits.sessions=0", "dns.tls_ca=/nowhere", "dns.servers=x"], &["dns.servers", "limits.sessions"]),
    ] {
        let sets = flags.iter().flat_map(|flag| ["--set", flag]);
        let arguments: Vec<_> = ["config", "check", "--config", "/dev/null"].into_iter().chain(sets).collect();
        let error = String::from_utf8(danelaw(&arguments).stderr).unwrap();
        let told: Vec<_> = error.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
        assert_eq!(told, keys, "{error}");
    }
    // A file of another kind.
    for (key, said) in [
        ("dns.trust_anchor", "/etc/hostname is no list of DNSKEY or DS records: line 1: "),
        ("dns.trust_anchor", "such as `dig . DNSKEY` shows them, or leave the setting out"),
        (
            "dns.tls_ca",
            "/etc/hostname is no list of certificates in PEM form: there is no certificate in it; each must",
        ),
    ] {
        let output = danelaw(&["config", "check", "--config", "/dev/null", "--set", &format!("{key}=/etc/hostname")]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(78) && error.contains(key) && error.contains(said), "{error}");
    }
}

/// A configuration with a rule that ends in so many days, and one that does not.
fn ruled(days: i64) -> tempfile::NamedTempFile {
    let until = OffsetDateTime::now_utc().date() + Duration::days(days);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(
        file,
        "listener = [{{ address = '127.0.0.1:0' }}]\ndns.servers = ['127.0.0.1:9']\n\
         [[rule]]\ndomain = 'example.com'\nlevel = 'may'\nreason = 'ticket 4711'\nuntil = '{until}'\n\
         [[rule]]\ndomain = '.partner.example'\nlevel = 'dane-only'\n"
    )
    .unwrap();
    file
}

#[test]
fn rules_with_the_days_they_have_left() {
    for (days, status, flag) in [(8, 0, ""), (7, 1, " ENDS SOON"), (0, 1, " ENDS SOON")] {
        let file = ruled(days);
        let path = file.path().to_str().unwrap();
        let output = danelaw(&["rules", "--config", path]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(
            text.starts_with("example.com: level may, until ")
                && text.contains(&format!(" ({days} days left){flag}\n  ticket 4711\n"))
        );
        assert!(text.ends_with(
            ".partner.example: level dane-only, without an end\n  no reason given\nevery other domain: level dane\n"
        ));
        let output = danelaw(&["rules", "--json", "--config", path]);
        let rows: Vec<Value> = output
            .stdout
            .split(|octet| *octet == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(
            (&rows[0]["days_left"], &rows[0]["ends_soon"], &rows[1]["until"]),
            (&days.into(), &(status == 1).into(), &Value::Null)
        );
    }
    // A rule that has ended fails only `config check`.
    let file = ruled(-1);
    let run = |arguments: &[&str]| {
        let arguments =
            [arguments, &["--config", file.path().to_str().unwrap(), "--set", "hostname=danelaw.test"]].concat();
        let output = danelaw(&[&arguments[..], &["--set", "dns.servers=[\"127.0.0.1\"]"]].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (status, text) = run(&["rules"]);
    assert!(status == Some(1) && text.contains("example.com: level may, ended on ") && text.contains(" HAS ENDED\n"));
    for (arguments, expected, good) in
        [(&["config", "check"][..], 78, false), (&["config", "check", "--allow-ended-rules"], 0, true)]
    {
        let (status, text) = run(arguments);
        assert_eq!((status, text.contains("the configuration is good")), (Some(expected), good), "{text}");
        assert!(text.contains("danelaw: rule.until: the rule for example.com has ended on "), "{text}");
    }
}

#[test]
fn a_rule_about_to_end_is_warned_of_at_the_start() {
    let file = ruled(3);
    let mut child = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .arg("--config")
        .arg(file.path())
        .args(["--set", "log.format=json", "--set", "hostname=danelaw.test"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let mut before = Vec::new();
    let warned = events.into_iter().find(|event| {
        let message = event["message"].as_str().unwrap().to_owned();
        let is_it = message.starts_with("a rule ends soon");
        before.push(message);
        is_it
    });
    child.kill().unwrap();
    child.wait().unwrap();
    // No server listens there, which the self-test knows at once, and the ports are opened all the same.
    let verdict = "no name server passes the self-test, so mail is deferred";
    assert!(before.iter().any(|message| message.starts_with(verdict)), "{before:?}");
    assert!(before.iter().any(|message| message == "listening"), "{before:?}");
    let event = warned.unwrap();
    assert_eq!((&event["level"], &event["days_left"]), (&"WARN".into(), &3.into()));
    let rule = event["rule"].as_str().unwrap();
    assert!(rule.starts_with("may for example.com until ") && rule.ends_with(": ticket 4711"), "{rule}");
}
