//! The packages and the image for ARM64, which `tests/packages/cross` builds on another processor for `tests/run --long`. Without it
//! the script of the program alone is asked.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{eventually, output, run};
use crate::lab::{free_port, long};
use crate::pod::podman;
use crate::program::{Running, prepared, repository};
use crate::sbom::ARM64;

/// The emulator of another processor, for one program.
const EMULATOR: &str = "qemu-aarch64-static";

/// Asserts that a program is a static one for ARM64, and that it runs.
#[track_caller]
fn assert_is_for_arm64(program: &Path) {
    let header = run(Command::new("readelf").args(["--file-header", "--program-headers"]).arg(program));
    assert!(header.contains("AArch64") && !header.contains("INTERP"), "{header}");
    let version = run(Command::new(EMULATOR).arg(program).arg("--version"));
    assert!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains(ARM64), "{version}");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let listener = format!("listener=[{{address=\"{address}\"}}]");
    let settings = [&listener, "dns.servers=[\"127.0.0.1:1\"]", "hostname=danelaw.test", "admin.address="];
    let mut danelaw = Command::new(EMULATOR);
    danelaw.arg(program).args(["--config", "/dev/null"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
    let _danelaw = Running::start(&mut danelaw);
    let greeting = eventually("a greeting", || {
        let mut line = String::new();
        BufReader::new(TcpStream::connect(address).ok()?).read_line(&mut line).ok()?;
        (!line.is_empty()).then_some(line)
    });
    assert!(greeting.starts_with("220 danelaw.test "), "{greeting}");
}

fn file_of(directory: &Path, ending: &str) -> std::path::PathBuf {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).expect("tests/packages/cross has built it")
}

/// The packages of both kinds, and the image.
fn look_at_all() {
    let (built, directory) = (prepared("arm64"), TempDir::new().unwrap());
    let package = file_of(&built, "_arm64.deb");
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(directory.path()));
    let program = directory.path().join("usr/bin/danelaw");
    assert_is_for_arm64(&program);
    let bill = fs::read_to_string(directory.path().join("usr/share/doc/danelaw/danelaw.cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!(bill["metadata"]["properties"][0]["value"], ARM64);
    assert!(directory.path().join("usr/share/man/man1/danelaw.1.gz").exists());
    let package = file_of(&built, ".aarch64.rpm");
    let processor = run(Command::new("rpm").args(["--query", "--queryformat", "%{ARCH}", "--package"]).arg(package));
    assert_eq!(processor, "aarch64");
    let inspect = |format| run(podman().args(["image", "inspect", "localhost/danelaw:arm64", "--format", format]));
    assert_eq!(inspect("{{.Architecture}}").trim(), "arm64");
    let mounted = run(podman().args(["image", "mount", "localhost/danelaw:arm64"]));
    let of_image = fs::read(Path::new(mounted.trim()).join("usr/bin/danelaw"));
    let _ = output(podman().args(["image", "umount", "localhost/danelaw:arm64"]));
    assert!(of_image.unwrap() == fs::read(program).unwrap(), "the image has another program than the package");
}

#[test]
fn packages_and_image_for_arm64() {
    // The quick build shares the libraries of the tests, which are this machine's.
    let mut quick = Command::new(repository("config/debian/program"));
    let refused = output(quick.arg("quick").env("BUILD_TARGET", ARM64));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && said.contains("for this machine alone"), "{said}");
    if long() {
        look_at_all();
    }
}
