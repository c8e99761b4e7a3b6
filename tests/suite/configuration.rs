//! The configuration file of the package: every key of the defaults, and none set.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use danelaw::config::DEFAULTS;

use crate::lab::certs::Identity;
use crate::process::danelaw;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The file as `config/debian/build` makes it.
fn packaged() -> String {
    let mut sed = Command::new("sed");
    sed.arg("-E").arg("-f").arg(repository("config/debian/commented.sed")).arg(repository("config/danelaw.toml"));
    let output = sed.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The keys that differ from the defaults with this file, and the warnings.
fn changed(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("danelaw.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = danelaw();
    command.args(["config", "show", "--changed", "--config"]).arg(&file);
    let output = command.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn the_file_of_the_package_changes_nothing() {
    let packaged = packaged();
    for line in packaged.lines() {
        let is_table = line.starts_with('[') && !line.starts_with("[[");
        assert!(line.is_empty() || line.starts_with('#') || is_table, "{line:?} is set");
    }
    assert_eq!(changed(&packaged), "");
}

#[test]
fn the_file_of_the_package_is_the_defaults_without_its_marks() {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    let unmarked: String = packaged().lines().map(line).collect();
    assert_eq!(unmarked, DEFAULTS);
    assert_eq!(changed(&unmarked), "");
}

#[test]
fn danelaw_alone_on_a_terminal_says_what_follows_and_nowhere_else() {
    // It ends at once, since its port is taken.
    let _port = std::net::TcpListener::bind("127.0.0.1:10025");
    const HELP: &str = "\"danelaw --help\" lists the commands";
    let on_terminal = |line: &str| {
        let output = Command::new("script").args(["-qec", line, "/dev/null"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let program = &without_system_files(env!("CARGO_BIN_EXE_danelaw"));
    let said = on_terminal(program);
    assert!(said.contains("takes mail at 127.0.0.1:10025") && said.contains(HELP), "{said}");
    assert!(said.contains("cannot listen on 127.0.0.1:10025"), "{said}");
    for line in
        [format!("{program} run"), format!("{program} --config /dev/null"), format!("{program} --set mode=enforce")]
    {
        let said = on_terminal(&line);
        assert!(said.contains("cannot listen on 127.0.0.1:10025") && !said.contains(HELP), "{said}");
    }
    let output = Command::new("sh").args(["-c", program]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot listen on 127.0.0.1:10025") && !said.contains(HELP), "{said}");
}

/// A line of shell for the program, in which it finds no configuration of this machine's danelaw: another directory hides it.
fn without_system_files(program: &str) -> String {
    match Path::new("/etc/danelaw").exists() {
        true => format!(
            "unshare --map-root-user --mount sh -c 'mount -t tmpfs none /etc/danelaw && exec \"$0\" \"$@\"' {program}"
        ),
        false => program.to_owned(),
    }
}

/// The output of `config check` on standard error, for a file of these lines; the configuration is good.
fn notes(text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = danelaw();
    command.args(["config", "check", "--set", "hostname=danelaw.test", "--set", "dns.servers=[\"127.0.0.1\"]"]);
    let output = command.arg("--config").arg(file.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said.replace(&file.path().display().to_string(), "F")
}

#[test]
fn a_listener_in_the_place_of_the_default_one_is_noted() {
    let listener = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
    let note = "danelaw: listener: those that are listed replace the default one, so nothing listens on 127.0.0.1:10025; if a mail \
                server sends there, list that address too (in F:1)\n";
    let allowed = |address: &str| listener(address) + "allow = [\"192.0.2.1\"]\n";
    for (text, expected) in [
        (String::new(), ""),
        (listener("127.0.0.1:10026"), note),
        (listener("[::1]:10025"), note),
        (listener("unix:/run/danelaw/lmtp.sock"), note),
        (allowed("192.0.2.25:10025"), note),
        (listener("127.0.0.1:10025"), ""),
        (listener("127.0.0.1:10026") + &listener("127.0.0.1:10025"), ""),
        (allowed("0.0.0.0:10025"), ""),
        (allowed("[::]:10025"), ""),
    ] {
        assert_eq!(notes(&text), expected, "{text}");
    }
}

#[test]
fn a_page_that_no_browser_reaches_is_noted() {
    let (unix, empty) = ("a browser opens no Unix socket, and admin.address is unix:/run/", "admin.address is empty");
    for (text, why) in [
        ("page = true", Some(unix)),
        ("page = true\naddress = \"unix:/run/x\"", Some(unix)),
        ("page = true\naddress = \"\"", Some(empty)),
        ("page = true\naddress = \"127.0.0.1:7671\"", None),
        ("address = \"\"", None),
    ] {
        let said = notes(&format!("[admin]\n{text}\n"));
        let expected = why.map_or(String::new(), |why| format!("danelaw: admin.page: the page is not used: {why}"));
        assert!(said.starts_with(&expected) && said.is_empty() == why.is_none(), "{text}: {said}");
    }
}

#[test]
fn a_key_of_the_packages_file_without_its_table_is_told_where_it_belongs() {
    for (mark, key, table) in [
        ("\n#lenient = false\n", "lenient", "[[listener]]"),
        ("\n#tls_required_no = \"\"\n", "tls_required_no", "[[listener]]"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = packaged();
        assert!(text.contains(mark), "{mark}");
        std::fs::write(file.path(), text.replacen(mark, &mark.replace("\n#", "\n"), 1)).unwrap();
        let output = danelaw().args(["config", "check", "--config"]).arg(file.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let told = format!("; there is listener.{key}: write it below {table}, whose # must go too (in ");
        assert!(output.status.code() == Some(78) && said.contains(&told), "{said}");
    }
}

#[test]
fn a_file_without_an_end_is_told_with_its_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = file.path().to_str().unwrap();
    let told = |arguments: &[&str], key: &str| {
        let output = danelaw().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let why = ": it has more than 16 MiB, the most that is read of such a file";
        let is_told = |line: &str| {
            line.starts_with(&format!("danelaw: {key}")) && line.contains("/dev/zero: ") && line.contains(why)
        };
        assert!(!output.status.success() && said.lines().any(is_told), "{arguments:?}: {said}");
    };
    for key in ["tls.ca", "tls.extra_ca", "dns.trust_anchor", "dns.root_hints", "dns.tls_ca"] {
        told(&["config", "check", "--config", config, "--set", &format!("{key}=/dev/zero")], key);
    }
    let [chain, private] = Identity::for_name("danelaw.test").pem();
    let folder = tempfile::tempdir().unwrap();
    let [chain, private] = [("chain.pem", chain), ("key.pem", private)].map(|(name, pem)| {
        std::fs::write(folder.path().join(name), pem).unwrap();
        format!("\"{}\"", folder.path().join(name).display())
    });
    let endless = "\"/dev/zero\"".to_owned();
    for (certificate, key, client_ca) in
        [(&endless, &private, &chain), (&chain, &endless, &chain), (&chain, &private, &endless)]
    {
        let keys = format!("certificate = {certificate}\nkey = {key}\nclient_ca = {client_ca}\n");
        let toml = format!("[[listener]]\naddress = \"127.0.0.1:2525\"\ntls = \"required\"\n{keys}");
        std::fs::write(file.path(), toml).unwrap();
        told(&["config", "check", "--config", config], "listener.");
    }
    let reports = "[store]\npath = \"/var/lib/danelaw/store.sqlite\"\n[tlsrpt]\nmode = \"send\"\norganization = \"Example\"\n\
        contact = \"reports@example.com\"\ndkim_key = \"/dev/zero\"\n";
    std::fs::write(file.path(), reports).unwrap();
    told(&["config", "check", "--config", config], "tlsrpt.dkim_key");
    let database = "postgresql://danelaw@db.invalid/danelaw?sslmode=verify-full";
    for key in ["password_file", "ca"] {
        let store = format!("[store]\nurl = \"{database}\"\n{key} = \"/dev/zero\"\n");
        std::fs::write(file.path(), store).unwrap();
        told(&["store", "check", "--config", config], "store.");
    }
    told(&["config", "check", "--config", "/dev/zero"], "cannot read the configuration file ");
    told(&["tlsa", "generate", "/dev/zero"], "");
    let output = danelaw().args(["check", "--resume", "/dev/zero", "example.com"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("danelaw: --resume /dev/zero: a line has more than 16 MiB"), "{said}");
}

/// `config show` with a file of these lines; the name of the file is F.
fn shown(text: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = danelaw();
    let output = command.args(["config", "show", "--config"]).arg(file.path()).args(arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr]
        .map(|text| String::from_utf8(text).unwrap().replace(&file.path().display().to_string(), "F"));
    (output.status.code(), out, err)
}

#[test]
fn values_are_shown_beside_their_faults() {
    for (text, values, fault) in [
        // It is wrong beside other values.
        (
            "[store]\nca = \"/nowhere\"\n",
            &["store.ca = \"/nowhere\" # F:2"][..],
            "store.ca: it is for a database, and store.url",
        ),
        // It cannot come into force.
        ("[tls]\nca = \"/nowhere\"\n", &["tls.ca = \"/nowhere\" # F:2"], "tls.ca: cannot read /nowhere"),
        // By itself.
        ("[tls]\nlevel = \"dnae\"\n", &["tls.level = \"dnae\" # F:2"], "tls.level: \"dnae\" is not allowed; "),
        ("[tls]\nlevle = \"dane\"\n", &["tls.levle = \"dane\" # F:2"], "tls.levle: there is no such key; "),
        ("dns = 3\n", &["dns = 3 # F:1"], "dns: 3 is not allowed; "),
        (
            "rule = [{ domain = \"a.test\", level = \"x\" }]\n",
            &["level = \"x\""],
            "rule.level: rule 1: \"x\" is not allowed; ",
        ),
        // Of two kinds at once.
        (
            "mode = \"x\"\n[limits]\nsessions = 0\n[tls]\nca = \"/nowhere\"\n",
            &["mode = \"x\"", "limits.sessions = 0", "tls.ca = \"/nowhere\""],
            "tls.ca: cannot read /nowhere",
        ),
    ] {
        let (status, out, err) = shown(text, &["--changed", "--set", "hostname=danelaw.test"]);
        let out = out.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        assert_eq!(status, Some(78), "{text}: {err}");
        for value in values {
            assert!(out.contains(value), "{text}: {value} is not in {out}");
        }
        assert!(err.lines().any(|line| line.starts_with(&format!("danelaw: {fault}"))), "{text}: {err}");
    }
    // A file that is no TOML has no values.
    let (status, out, err) = shown("mode = \n", &[]);
    assert!(status == Some(78) && out.is_empty() && err.contains("(in F:1)"), "{out}{err}");
}

#[test]
fn a_file_that_this_user_may_not_read_is_told_and_is_no_fault_of_the_values() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x\n").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    let path = secret.display();
    let file = folder.path().join("danelaw.toml");
    let url = "store.url = \"postgresql://danelaw@db.invalid/danelaw?sslmode=verify-full\"\n";
    let tls = "[[listener]]\naddress = \"127.0.0.1:10025\"\ntls = \"required\"\n";
    for (text, key, line) in [
        (format!("{url}store.password_file = \"{path}\"\n"), "store.password_file", 2),
        (format!("{tls}certificate = \"{path}\"\nkey = \"{path}\"\n"), "listener.key: listener 1", 5),
        (format!("tls.ca = \"{path}\"\n"), "tls.ca", 1),
        (format!("dns.trust_anchor = \"{path}\"\n"), "dns.trust_anchor", 1),
    ] {
        std::fs::write(&file, &text).unwrap();
        // As root, without the right to read the files of others.
        let as_other_user = |command: &str, more: &str| {
            let mut other = Command::new("setpriv");
            other.args([
                "--inh-caps=-all",
                "--bounding-set=-dac_override,-dac_read_search",
                env!("CARGO_BIN_EXE_danelaw"),
            ]);
            other.args(["--set", "hostname=danelaw.test", "--config"]).arg(&file);
            let output = other.args(["config", command]).args(more.split_whitespace()).output().unwrap();
            let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            (output.status.code(), out, err)
        };
        let (status, out, err) = as_other_user("show", "");
        let told = format!("danelaw: {key}: {path} is not readable by this user");
        assert!(err.lines().any(|line| line.starts_with(&told)), "{key}: {err}");
        assert!(err.contains(&format!("(in {}:{line})", file.display())), "{err}");
        assert_eq!(status, Some(0), "{key}: {err}");
        assert!(out.contains(&path.to_string()), "{out}");
        // The faults of others count.
        let (status, _, err) = as_other_user("show", "--set log.filter=verbose");
        assert!(status == Some(78) && err.contains(&told) && err.contains("log.filter: "), "{err}");
        // A check that did not happen is no good one.
        let (status, _, err) = as_other_user("check", "");
        assert!(status == Some(78) && err.contains("Permission denied"), "{err}");
    }
}

#[test]
fn a_password_is_not_shown() {
    for (line, masked) in [
        ("url = \"postgresql://danelaw:hunter2@db.test/danelaw\"", "\"postgresql://danelaw:..@db.test/danelaw\""),
        ("url = \"postgres://danelaw:hunter2/@x@db.test/danelaw\"", "\"postgres://danelaw:..@db.test/danelaw\""),
        (
            "url = \"postgresql://db.test/danelaw?user=a&password=hunter2&x=1\"",
            "\"postgresql://db.test/danelaw?user=a&password=..\"",
        ),
        // The password has an @ itself.
        (
            "url = \"postgresql://danelaw@db.test/danelaw?password=x@hunter2\"",
            "\"postgresql://danelaw@db.test/danelaw?password=..\"",
        ),
        (
            "url = \"postgresql://db.test:5432/danelaw?password=x@hunter2\"",
            "\"postgresql://db.test:5432/danelaw?password=..\"",
        ),
        ("url = \"postgresql://db.test/danelaw?PASSWORD=hunter2\"", "\"postgresql://db.test/danelaw?PASSWORD=..\""),
        // Other forms, one of which is that of libpq.
        ("url = \"host=db.test password='hunter2 x' user=a\"", "\"host=db.test password=..\""),
        ("url = \"postgresql:danelaw:hunter2@db.test/danelaw\"", "\"postgresql:danelaw:..@db.test/danelaw\""),
        ("url = \"danelaw:hunter2@db.test/danelaw\"", "\"danelaw:..@db.test/danelaw\""),
        ("url = [\"postgresql://danelaw:hunter2@db.test/danelaw\"]", "\"postgresql://danelaw:..@db.test/danelaw\""),
        ("url = { x = \"postgresql://danelaw:hunter2@db.test/a\" }", "\"postgresql://danelaw:..@db.test/a\""),
        ("password = \"hunter2\"", "\"..\""),
        ("pepper_file = \"-----BEGIN PRIVATE KEY-----hunter2\"", "\"..\""),
    ] {
        // The name of the key may be the fault.
        for line in [line.to_owned(), line.replacen("url", "ulr", 1)] {
            for json in [&[][..], &["--json"]] {
                let (status, out, err) = shown(&format!("[store]\n{line}\n"), json);
                assert!(status == Some(78) && out.contains(masked), "{line}: {out}{err}");
                assert!(!out.contains("hunter2"), "{line}: {out}{err}");
            }
        }
    }
    // In the place of a table, and in a file that is no TOML.
    for text in [
        "store = \"postgresql://danelaw:hunter2@db.test/danelaw\"\n",
        "store.url = postgresql://danelaw:hunter2@db.test/danelaw\n",
    ] {
        let (status, out, err) = shown(text, &[]);
        assert!(status == Some(78) && err.contains("postgresql://danelaw:..@db.test"), "{text}: {out}{err}");
        assert!(!out.contains("hunter2") && !err.contains("hunter2"), "{text}: {out}{err}");
    }
    for (line, told) in [
        (
            "url = \"postgresql://danelaw@db.test/danelaw?sslmode=no\"",
            "\"postgresql://danelaw@db.test/danelaw?sslmode=no\"",
        ),
        ("password_file = \"/etc/danelaw/password\"", "\"/etc/danelaw/password\""),
    ] {
        let (_, out, _) = shown(&format!("[store]\n{line}\n"), &[]);
        assert!(out.contains(told), "{out}");
    }
}

#[test]
fn each_wrong_listener_is_told_at_once() {
    let listener = |number: u8, file: &str| {
        format!(
            "[[listener]]\naddress = \"127.0.0.{number}:2525\"\ntls = \"required\"\ncertificate = \"{file}\"\nkey = \"{file}\"\n"
        )
    };
    let text = "[[listener]]\naddress = \"127.0.0.1:10025\"\n".to_owned()
        + &listener(2, "/nowhere")
        + &listener(3, "/etc/passwd");
    let (status, _, err) = shown(&text, &["--set", "hostname=danelaw.test"]);
    assert_eq!(status, Some(78));
    for told in [
        "danelaw: listener.certificate: listener 2: cannot read /nowhere: ",
        "danelaw: listener.certificate: listener 3: /etc/passwd is no list of certificates",
    ] {
        assert!(err.lines().any(|line| line.starts_with(told)), "{err}");
    }
    assert!(err.contains("(in F:6)") && err.contains("(in F:11)"), "{err}");
}
