//! The Debian package in a minimal Debian: installed, started on its defaults, upgraded, removed and purged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::run;
use crate::program::{prepared, repository};

pub(crate) const CONFIGURATION: &str = "etc/danelaw/danelaw.toml";
pub(crate) const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/danelaw.service";

/// A Debian for one test: all changes are gone with this value, and the prepared Debian stays unchanged.
pub(crate) struct Debian {
    directory: TempDir,
}

impl Debian {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["upper", "work", "root"] {
            fs::create_dir(at(name)).unwrap();
        }
        let (lower, upper, work) = (prepared("root"), at("upper"), at("work"));
        let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(at("root")));
        Self { directory }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    /// Runs a line of shell in this Debian.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        run(Command::new("chroot")
            .arg(self.path(""))
            .args(["/bin/sh", "-ec", line])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive"))
    }

    #[track_caller]
    fn install(&self, package: &Path) -> String {
        fs::copy(package, self.path("danelaw.deb")).unwrap();
        let said = self.shell("dpkg -i /danelaw.deb 2>&1");
        fs::remove_file(self.path("danelaw.deb")).unwrap();
        said
    }

    /// All files except those that the installation of any package changes.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let find = "find / -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/etc/*-' ! -path '/proc/*' ! -path '/run/systemd*'";
        self.shell(find).lines().map(str::to_owned).collect()
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path("")).status();
    }
}

/// The one package that was built.
pub(crate) fn package() -> PathBuf {
    let files = fs::read_dir(prepared("")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|name| name == "deb")).expect("a package")
}

/// Changes a file of an unpacked package.
pub(crate) fn edit(tree: &Path, path: &str, change: &dyn Fn(String) -> String) {
    let path = tree.join(path);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
}

/// The package after changes to its unpacked files.
pub(crate) fn changed(directory: &Path, change: impl FnOnce(&Path)) -> PathBuf {
    let (tree, package_file) = (directory.join("tree"), directory.join("changed.deb"));
    run(Command::new("dpkg-deb").arg("-R").arg(package()).arg(&tree));
    change(&tree);
    // The sums of the first package's files.
    let _ = fs::remove_file(tree.join("DEBIAN/md5sums"));
    run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "-b"]).arg(&tree).arg(&package_file));
    package_file
}

/// The same package with a later version and another configuration file.
pub(crate) fn upgrade(directory: &Path) -> PathBuf {
    changed(directory, |tree| {
        edit(tree, "DEBIAN/control", &|text| text.replace("\nVersion: ", "\nVersion: 99."));
        edit(tree, CONFIGURATION, &|text| text + "# later\n");
    })
}

/// The package as 0.1.0 was: every key of its configuration file is set, and there are no drop-ins.
fn of_0_1_0(directory: &Path) -> PathBuf {
    changed(directory, |tree| {
        let control = |text: String| {
            let line =
                |line: &str| if line.starts_with("Version: ") { "Version: 0.1.0-1" } else { line }.to_owned() + "\n";
            text.lines().map(line).collect()
        };
        edit(tree, "DEBIAN/control", &control);
        edit(tree, "DEBIAN/conffiles", &|text| text.replace("/etc/danelaw/conf.d/README\n", ""));
        fs::remove_dir_all(tree.join("etc/danelaw/conf.d")).unwrap();
        fs::copy(repository("tests/packages/danelaw-0.1.0.toml"), tree.join(CONFIGURATION)).unwrap();
    })
}

/// The configuration file of the package.
pub(crate) fn commented() -> String {
    let script = repository("config/debian/commented.sed");
    run(Command::new("sed").arg("-E").arg("-f").arg(script).arg(repository("config/danelaw.toml")))
}

#[test]
fn the_package_installs_upgrades_and_leaves_nothing() {
    let debian = Debian::new();
    let before = debian.files();
    debian.install(&package());
    assert!(debian.shell("id danelaw").contains("(danelaw)"));
    assert!(debian.path(ENABLED).is_symlink(), "the unit is not enabled");
    assert_eq!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap(), commented());
    // Every file that the units name exists. This Debian leaves manual pages out.
    debian.shell("systemd-analyze verify --man=no danelaw.service danelaw.socket");

    // An upgrade keeps the administrator's changes: the configuration, and that the unit does not start at boot.
    let changed = fs::read_to_string(debian.path(CONFIGURATION))
        .unwrap()
        .replace("#cache_max_ttl = \"1h\"", "cache_max_ttl = \"2h\"");
    fs::write(debian.path(CONFIGURATION), &changed).unwrap();
    debian.shell("systemctl disable danelaw.service 2>&1");
    let directory = TempDir::new().unwrap();
    fs::write(debian.path("etc/dpkg/dpkg.cfg.d/keep"), "force-confold\n").unwrap();
    debian.install(&upgrade(directory.path()));
    fs::remove_file(debian.path("etc/dpkg/dpkg.cfg.d/keep")).unwrap();
    assert_eq!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap(), changed);
    assert!(fs::read_to_string(debian.path(&format!("{CONFIGURATION}.dpkg-dist"))).unwrap().ends_with("# later\n"));
    assert!(!debian.path(ENABLED).exists(), "an upgrade has enabled the unit");
    assert!(debian.shell("dpkg-query -W -f '${Status} ${Version}' danelaw").starts_with("install ok installed 99."));

    debian.shell("dpkg -r danelaw 2>&1");
    assert!(!debian.path("usr/bin/danelaw").exists() && debian.path(CONFIGURATION).exists());
    debian.shell("dpkg -P danelaw 2>&1");
    let left: Vec<_> = debian.files().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn an_upgrade_of_a_file_that_was_not_edited_asks_nothing() {
    let (debian, directories) = (Debian::new(), [TempDir::new().unwrap(), TempDir::new().unwrap()]);
    debian.install(&of_0_1_0(directories[0].path()));
    assert!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap().contains("\ncache_entries = 100000\n"));
    // dpkg has no terminal here: a question would fail.
    let said = debian.install(&package());
    assert!(!said.contains("Configuration file"), "{said}");
    assert_eq!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap(), commented());
    // Settings in a drop-in stay, and the next upgrade asks nothing either.
    let drop_in = debian.path("etc/danelaw/conf.d/20-level.toml");
    fs::write(&drop_in, "[tls]\nlevel = \"dane-only\"\n").unwrap();
    let said = debian.install(&upgrade(directories[1].path()));
    assert!(!said.contains("Configuration file") && !said.contains("not restarted"), "{said}");
    assert!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap().ends_with("# later\n"));
    let changed = debian.shell("danelaw config show --changed");
    assert!(changed.starts_with("tls.level = \"dane-only\"") && changed.lines().count() == 1, "{changed}");
    assert!(changed.contains("/etc/danelaw/conf.d/20-level.toml:2"), "{changed}");
    let left = debian.shell("find /etc/danelaw -name '*.dpkg-*'");
    assert_eq!(left, "");
}

#[test]
fn an_upgrade_with_a_configuration_of_no_use_restarts_nothing_and_says_so() {
    let (debian, directory) = (Debian::new(), TempDir::new().unwrap());
    debian.install(&of_0_1_0(directory.path()));
    let edited =
        fs::read_to_string(debian.path(CONFIGURATION)).unwrap().replace("\nlevel = \"dane\"", "\nlevel = \"encrypt\"");
    fs::write(debian.path(CONFIGURATION), &edited).unwrap();
    fs::write(debian.path("etc/dpkg/dpkg.cfg.d/keep"), "force-confold\n").unwrap();
    let said = debian.install(&package());
    assert!(
        said.contains("the section ledger is called store now") && said.contains("danelaw is not restarted"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(debian.path(CONFIGURATION)).unwrap(), edited);
}

#[test]
fn an_upgrade_with_a_drop_in_that_the_unit_cannot_read_restarts_nothing() {
    let (debian, directory) = (Debian::new(), TempDir::new().unwrap());
    debian.install(&package());
    let drop_in = debian.path("etc/danelaw/conf.d/20-level.toml");
    fs::write(&drop_in, "[tls]\nlevel = \"dane-only\"\n").unwrap();
    debian.shell("chmod 600 /etc/danelaw/conf.d/20-level.toml");
    // root can read it, and the user of the unit cannot.
    debian.shell("danelaw config check");
    let said = debian.install(&upgrade(directory.path()));
    assert!(
        said.contains("danelaw's user must be able to read it") && said.contains("danelaw is not restarted"),
        "{said}"
    );
    debian.shell("chgrp danelaw /etc/danelaw/conf.d/20-level.toml; chmod 640 /etc/danelaw/conf.d/20-level.toml");
    let said = debian.shell("/var/lib/dpkg/info/danelaw.postinst configure 0.2.0 2>&1");
    assert!(!said.contains("danelaw is not restarted"), "{said}");
}

#[test]
fn the_package_has_the_manual_and_the_pages_that_its_readme_leads_to() {
    let directory = TempDir::new().unwrap();
    run(Command::new("dpkg-deb").arg("-x").arg(package()).arg(directory.path()));
    let at = |path: &str| directory.path().join(path);
    for page in ["man1/danelaw.1.gz", "man1/danelaw-check.1.gz", "man5/danelaw.toml.5.gz", "man7/danelaw-refusals.7.gz"]
    {
        assert!(at("usr/share/man").join(page).is_file(), "{page} is missing");
    }
    for page in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "config/README.md", "config/troubleshooting.md"]
    {
        assert!(at("usr/share/doc/danelaw").join(page).is_file(), "{page} is missing");
    }
    assert!(at("usr/share/doc/danelaw/examples/unix-socket.conf").is_file());
    for page in ["clients/postfix-smtp.cf", "prometheus/alerts.yml", "grafana/danelaw.json", "nftables/redirect.nft"] {
        assert!(at("usr/share/doc/danelaw/config").join(page).is_file(), "{page} is missing");
    }
    for (shell, path) in [
        ("bash", "bash-completion/completions/danelaw"),
        ("zsh", "zsh/vendor-completions/_danelaw"),
        ("fish", "fish/vendor_completions.d/danelaw.fish"),
    ] {
        let completions = fs::read_to_string(at("usr/share").join(path)).unwrap();
        assert!(completions.contains("explain"), "{shell}");
    }
    // The pages that the units name are there.
    let unit = fs::read_to_string(at("usr/lib/systemd/system/danelaw.service")).unwrap();
    assert!(unit.contains("\nDocumentation=man:danelaw(1) man:danelaw.toml(5) "), "{unit}");
}

#[test]
fn lintian_has_no_objection() {
    // The package of a quick build is compressed as one of a release.
    run(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(package()));
}

#[test]
fn the_package_starts_on_its_defaults() {
    let debian = Debian::new();
    debian.install(&package());
    // RuntimeDirectory= of the unit.
    debian.shell("install -d -o danelaw -g danelaw /run/danelaw");
    // In a network of its own, since the default port may be in use; as the user and in the directories of the unit.
    let script = r#"
        ip link set lo up
        chroot --userspec=danelaw:danelaw "$0" /usr/bin/danelaw run 2>"$1" &
        until exec 3<>/dev/tcp/127.0.0.1/10025; do kill -0 $!; sleep 0.1; done 2>/dev/null
        head -n 1 <&3
        stat -c '%a' "$0/run/danelaw/admin.sock" || true
        # It remembers none, and says so: the socket was found.
        chroot "$0" /usr/bin/danelaw explain --last 2>&1 || echo "status $?"
        kill $!
        wait $!
    "#;
    let log = debian.path("log");
    let mut command = Command::new("unshare");
    command.args(["--net", "bash", "-euc", script]).arg(debian.path("")).arg(&log);
    let greeting = run(&mut command);
    let log = fs::read_to_string(log).unwrap();
    assert!(greeting.starts_with("220 danelaw."), "{greeting}\n{log}");
    assert!(greeting.contains("\n660\n") && greeting.ends_with("status 1\n"), "{greeting}\n{log}");
    assert!(log.contains("listening listen=\"127.0.0.1:10025\"") && log.contains("stopped"), "{log}");
}
