//! The RPM package in a root of its own: installed, upgraded and removed by rpm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::command::{output, run};
use crate::debian::{self, CONFIGURATION, Debian, ENABLED};
use crate::program::{prepared, repository};

/// A root with the directories of a Debian, for rpm. One package, with the needs of danelaw, is installed in it.
struct RpmRoot {
    system: Debian,
}

impl RpmRoot {
    fn new() -> Self {
        let root = Self { system: Debian::new() };
        run(Command::new("mount").args(["-t", "proc", "proc"]).arg(root.system.path("proc")));
        let directory = TempDir::new().unwrap();
        let spec = directory.path().join("base.spec");
        // The directories of Fedora's package "filesystem".
        let shared = "/usr/share/{licenses,man/man1,man/man5,man/man7,zsh/site-functions,fish/vendor_completions.d}";
        let text = format!(
            "Name: base\nVersion: 1\nRelease: 1\nSummary: base\nLicense: none\nBuildArch: noarch\n\
             Provides: /bin/sh systemd util-linux\n%description\nbase\n\
             %install\nbash -c 'mkdir -p %{{buildroot}}{shared}'\n%files\n/usr/share\n"
        );
        fs::write(&spec, text).unwrap();
        let folder = format!("_topdir {}", directory.path().display());
        run(Command::new("rpmbuild").args(["-bb", "--quiet", "--define", &folder]).arg(spec));
        root.rpm(&["-i", directory.path().join("RPMS/noarch/base-1-1.noarch.rpm").to_str().unwrap()]);
        root
    }

    /// Runs rpm on this root, and returns its output. An exit status other than success is a panic.
    #[track_caller]
    fn rpm(&self, arguments: &[&str]) -> String {
        let done = output(
            Command::new("rpm")
                .args(["--force-debian", "--dbpath", "/var/lib/rpm", "--root"])
                .arg(self.system.path(""))
                .args(arguments),
        );
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {said}");
        said
    }

    #[track_caller]
    fn install(&self, package: &Path) -> String {
        self.rpm(&["-U", package.to_str().unwrap()])
    }

    /// All files but those that the database of rpm and systemd's tools keep.
    fn files(&self) -> BTreeSet<String> {
        let files = self.system.files().into_iter();
        files.filter(|path| !path.starts_with("/var/lib/rpm") && !path.starts_with("/proc")).collect()
    }
}

/// The one RPM package in a directory.
fn package_in(directory: &Path) -> PathBuf {
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|name| name == "rpm")).expect("a package")
}

/// The one RPM package that was built.
pub(crate) fn package() -> PathBuf {
    package_in(&prepared(""))
}

/// A question to the package itself.
fn ask(package: &Path, question: &[&str]) -> String {
    run(Command::new("rpm").args(["--force-debian", "-q", "-p"]).args(question).arg(package))
}

/// The RPM package of a later version, with another configuration file.
fn upgrade(directory: &Path) -> PathBuf {
    let debian = debian::upgrade(directory);
    run(Command::new(repository("config/rpm/build")).arg(directory).arg(debian));
    package_in(directory)
}

/// The files of the Debian package, with their modes, at the places that they have in the other package.
fn debian_files() -> BTreeSet<String> {
    let directory = TempDir::new().unwrap();
    run(Command::new("dpkg-deb").arg("-x").arg(debian::package()).arg(directory.path()));
    let files = run(Command::new("find").arg(directory.path()).args(["-type", "f", "-printf", "%m /%P\n"]));
    let left_out = ["/usr/share/lintian", "/danelaw/copyright", "changelog.Debian.gz"];
    let kept = files.lines().filter(|line| left_out.iter().all(|part| !line.contains(part)));
    kept.map(|line| line.replace("/zsh/vendor-completions/", "/zsh/site-functions/")).collect()
}

#[test]
fn the_rpm_package_has_the_files_of_the_debian_package() {
    let package = package();
    let listed = ask(&package, &["--qf", "[%{FILEMODES:octal} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]"]);
    let (of_user, of_root): (Vec<_>, Vec<_>) = listed.lines().partition(|line| line.contains(" danelaw:danelaw "));
    assert_eq!(of_user, ["40755 danelaw:danelaw /run/danelaw", "40750 danelaw:danelaw /var/lib/danelaw"]);
    let files = of_root.iter().filter_map(|line| line.strip_prefix("100"));
    let files: BTreeSet<_> = files.map(|line| line.replace(" root:root ", " ")).collect();
    let mut expected = debian_files();
    // A link in the place of the second copy.
    assert!(expected.remove("644 /usr/share/doc/danelaw/LICENSE"));
    assert!(listed.contains("120777 root:root /usr/share/doc/danelaw/LICENSE\n"), "{listed}");
    expected.insert("644 /usr/share/licenses/danelaw/LICENSE".to_owned());
    assert_eq!(files, expected);
    let kept = format!("/etc/danelaw/conf.d/README\n/{CONFIGURATION}\n");
    assert_eq!(ask(&package, &["--configfiles"]), kept);
    // A removal leaves a directory that no package owns.
    for directory in ["/etc/danelaw", "/etc/danelaw/conf.d", "/usr/share/doc/danelaw", "/usr/share/licenses/danelaw"] {
        assert!(listed.contains(&format!("40755 root:root {directory}\n")), "{directory} is not in {listed}");
    }
    let needs = ask(&package, &["--requires"]);
    let needs: BTreeSet<_> = needs.lines().filter(|need| !need.starts_with("rpmlib(")).collect();
    assert_eq!(needs, BTreeSet::from(["/bin/sh", "systemd", "util-linux"]));
    assert_eq!(ask(&package, &["--recommends"]), "ca-certificates\n");
}

#[test]
fn the_rpm_package_installs_upgrades_and_leaves_a_changed_configuration_alone() {
    let root = RpmRoot::new();
    let before = root.files();
    root.install(&package());
    assert_eq!(root.rpm(&["-V", "danelaw"]), "");
    assert!(root.system.shell("danelaw --version").starts_with("danelaw 0."));
    assert!(root.system.shell("id danelaw").contains("(danelaw)"));
    assert_eq!(root.system.shell("stat -c '%a %U:%G' /var/lib/danelaw /run/danelaw"), {
        "750 danelaw:danelaw\n755 danelaw:danelaw\n"
    });
    assert_eq!(fs::read_to_string(root.system.path(CONFIGURATION)).unwrap(), debian::commented());
    root.system.shell("systemd-analyze verify --man=no danelaw.service danelaw.socket");

    // An upgrade is silent, and keeps the administrator's changes.
    let changed = debian::commented().replace("#cache_max_ttl = \"1h\"", "cache_max_ttl = \"2h\"");
    fs::write(root.system.path(CONFIGURATION), &changed).unwrap();
    root.system.shell("systemctl disable danelaw.service 2>&1");
    let directory = TempDir::new().unwrap();
    let said = root.install(&upgrade(directory.path()));
    assert_eq!(said, format!("warning: /{CONFIGURATION} created as /{CONFIGURATION}.rpmnew\n"));
    assert_eq!(fs::read_to_string(root.system.path(CONFIGURATION)).unwrap(), changed);
    let new = root.system.path(&format!("{CONFIGURATION}.rpmnew"));
    assert!(fs::read_to_string(&new).unwrap().ends_with("# later\n"));
    assert!(!root.system.path(ENABLED).exists(), "an upgrade has enabled the unit");
    assert!(root.rpm(&["-q", "danelaw"]).starts_with("danelaw-99."));

    fs::remove_file(new).unwrap();
    let said = root.rpm(&["-e", "danelaw"]);
    assert_eq!(said, format!("warning: /{CONFIGURATION} saved as /{CONFIGURATION}.rpmsave\n"));
    let left: Vec<_> = root.files().difference(&before).cloned().collect();
    assert_eq!(left, ["/etc/danelaw".to_owned(), format!("/{CONFIGURATION}.rpmsave")]);
}

#[test]
fn an_upgrade_by_rpm_of_a_file_that_was_not_edited_is_silent() {
    let (root, directory) = (RpmRoot::new(), TempDir::new().unwrap());
    let before = root.files();
    root.install(&package());
    let drop_in = root.system.path("etc/danelaw/conf.d/20-level.toml");
    fs::write(&drop_in, "[tls]\nlevel = \"dane-only\"\n").unwrap();
    assert_eq!(root.install(&upgrade(directory.path())), "");
    assert!(fs::read_to_string(root.system.path(CONFIGURATION)).unwrap().ends_with("# later\n"));
    let changed = root.system.shell("danelaw config show --changed");
    assert!(changed.starts_with("tls.level = \"dane-only\""), "{changed}");
    fs::remove_file(drop_in).unwrap();
    assert_eq!(root.rpm(&["-e", "danelaw"]), "");
    let left: Vec<_> = root.files().difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Puts a program that records its arguments in the place of systemctl, and says that systemd runs.
fn record_systemctl(root: &RpmRoot) {
    let recorder = "#!/bin/sh\necho \"$*\" >>/systemctl.log\n";
    fs::remove_file(root.system.path("usr/bin/systemctl")).unwrap();
    fs::write(root.system.path("usr/bin/systemctl"), recorder).unwrap();
    root.system.shell("chmod 755 /usr/bin/systemctl; mkdir -p /run/systemd/system");
}

fn recorded(root: &RpmRoot) -> String {
    let log = root.system.path("systemctl.log");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(log);
    text
}

#[test]
fn an_rpm_package_starts_nothing_and_restarts_what_runs_with_a_good_configuration() {
    let (root, directory) = (RpmRoot::new(), TempDir::new().unwrap());
    record_systemctl(&root);
    root.install(&package());
    assert_eq!(recorded(&root), "--no-reload preset danelaw.service\ndaemon-reload\n");
    // A configuration of no use: the running danelaw goes on with the older one.
    let drop_in = root.system.path("etc/danelaw/conf.d/20-level.toml");
    fs::write(&drop_in, "[tls]\nlevel = \"none\"\n").unwrap();
    let upgrade = upgrade(directory.path());
    let said = root.install(&upgrade);
    assert!(said.contains("20-level.toml") && said.contains("danelaw is not restarted: mend"), "{said}");
    // The last one is that of the package that goes.
    assert_eq!(recorded(&root), "daemon-reload\ndaemon-reload\n");
    fs::remove_file(drop_in).unwrap();
    assert_eq!(root.rpm(&["-U", "--force", upgrade.to_str().unwrap()]), "");
    assert!(recorded(&root).starts_with("daemon-reload\ntry-restart danelaw.service\n"));
    root.rpm(&["-e", "danelaw"]);
    assert_eq!(
        recorded(&root),
        "stop danelaw.socket danelaw.service\n--no-reload disable danelaw.socket danelaw.service\ndaemon-reload\n"
    );
}

#[test]
fn the_presets_of_the_system_enable_the_unit() {
    for (preset, is_enabled) in [("disable *\n", false), ("enable danelaw.service\ndisable *\n", true)] {
        let root = RpmRoot::new();
        fs::create_dir_all(root.system.path("etc/systemd/system-preset")).unwrap();
        fs::write(root.system.path("etc/systemd/system-preset/10-all.preset"), preset).unwrap();
        root.install(&package());
        assert_eq!(root.system.path(ENABLED).is_symlink(), is_enabled, "{preset}");
        root.rpm(&["-e", "danelaw"]);
        assert!(!root.system.path(ENABLED).is_symlink(), "{preset}");
    }
}

#[test]
fn rpmlint_has_no_objection() {
    let configuration = repository("config/rpm/rpmlint.toml");
    run(Command::new("rpmlint").args(["--strict", "--config"]).arg(configuration).arg(package()));
}
