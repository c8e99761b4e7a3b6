//! The units, and danelaw under a service manager: states, watchdog messages, and sockets that the manager has opened.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{eventually, output, run};
use crate::lab::free_port;
use crate::program::{Running, repository};

const DANELAW: &str = env!("CARGO_BIN_EXE_danelaw");

/// A configuration with these listeners and a Unix socket beside it, and no name server: these tests send no mail.
fn configuration(listeners: &[SocketAddr]) -> TempDir {
    let directory = TempDir::new().unwrap();
    let socket = format!("unix:{}", directory.path().join("socket").display());
    let addresses = listeners.iter().map(ToString::to_string).chain([socket]);
    let listeners: String = addresses.map(|address| format!("[[listener]]\naddress = \"{address}\"\n")).collect();
    let text = format!("{listeners}\n[dns]\nservers = [\"127.0.0.1:1\"]\n[timeouts]\ngrace = \"20s\"\n");
    fs::write(directory.path().join("danelaw.toml"), text).unwrap();
    directory
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The greeting at this address. Waits until a server sends one.
fn greeting(address: SocketAddr) -> String {
    eventually("a greeting", || {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        (!line.is_empty()).then_some(line)
    })
}

#[test]
fn the_unit_exposes_little() {
    // In tenths, from 0 to 100; the remaining exposure is the network, which a mail proxy needs.
    let unit = repository("config/systemd/danelaw.service");
    run(Command::new("systemd-analyze").args(["security", "--no-pager", "--offline=true", "--threshold=11"]).arg(unit));
}

#[test]
fn the_drop_in_for_a_socket_of_another_group_is_right() {
    let units = TempDir::new().unwrap();
    let unit = fs::read_to_string(repository("config/systemd/danelaw.service")).unwrap();
    // The package is not installed on this machine.
    fs::write(units.path().join("danelaw.service"), unit.replace("/usr/bin/danelaw", "/bin/true")).unwrap();
    let socket = fs::read_to_string(repository("config/systemd/danelaw.socket")).unwrap();
    let lines = ["ListenStream=/", "SocketUser=", "SocketGroup=", "SocketMode="];
    let socket = lines.iter().fold(socket, |text, line| text.replace(&format!("\n#{line}"), &format!("\n{line}")));
    assert!(!socket.contains("\n#ListenStream"), "{socket}");
    fs::write(units.path().join("danelaw.socket"), socket).unwrap();
    let folder = units.path().join("danelaw.service.d");
    fs::create_dir(&folder).unwrap();
    fs::copy(repository("config/systemd/unix-socket.conf"), folder.join("unix-socket.conf")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()));
    let verified = output(verify.args(["danelaw.service", "danelaw.socket"].map(|unit| units.path().join(unit))));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("danelaw"), "{said}");
}

#[test]
fn a_socket_goes_to_a_group_of_our_own_and_to_no_other() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let with_groups = |groups: &str| {
        let listener = format!("listener=[{{address=\"unix:{}\",owner=\"54321:54322\"}}]", path.display());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=54321", "--regid=54321", groups, DANELAW, "--config", "/dev/null", "--set", &listener]);
        command.args(["--set", "dns.servers=[\"127.0.0.1:1\"]", "--set", "hostname=danelaw.test"]);
        command
    };
    let refused = output(&mut with_groups("--clear-groups"));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(71) && said.contains("SupplementaryGroups="), "{said}");
    let _danelaw = Running::start(&mut with_groups("--groups=54322"));
    eventually("the socket", || UnixStream::connect(&path).ok());
    let there = fs::metadata(&path).unwrap();
    assert_eq!((there.uid(), there.gid(), there.mode() & 0o777), (54321, 54322, 0o660));
}

#[test]
fn systemd_hears_how_danelaw_is() {
    let directory = configuration(&[free_address()]);
    let path = directory.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut buffer = [0; 4096];
        let length = notify.recv(&mut buffer).expect("a state");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let hear_of = |state: &str| std::iter::repeat_with(hear).find(|heard| heard.contains(state)).unwrap();
    let danelaw = Running::start(
        Command::new(DANELAW)
            .arg("--config")
            .arg(directory.path().join("danelaw.toml"))
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000"),
    );
    assert_eq!(hear(), "READY=1\n");
    // No server answers on the port of the name server.
    hear_of("STATUS=no resolver passes the self-test: all mail is deferred");
    for _ in 0..3 {
        hear_of("WATCHDOG=1");
    }
    // One message begins the reload and another ends it, whether the configuration is valid or not.
    for bad in [false, true] {
        if bad {
            fs::write(directory.path().join("danelaw.toml"), "nonsense").unwrap();
        }
        danelaw.signal("HUP");
        let told: Vec<_> = std::iter::repeat_with(hear)
            .filter(|heard| heard.contains("RELOADING=") || heard.contains("READY="))
            .take(2)
            .collect();
        assert!(told[0].starts_with("RELOADING=1\nMONOTONIC_USEC=") && told[1] == "READY=1\n", "{told:?}");
    }
    danelaw.signal("TERM");
    let stopping = hear_of("STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=30000000\n"), "{stopping}");
}

/// Runs a real journal in folders of its own, danelaw as a unit with that journal would run it, and the commands of
/// `config/prometheus/README.md`.
const WITH_JOURNAL: &str = "\
mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/log; mkdir -p /run/log/journal
/lib/systemd/systemd-journald & journal=$!
trap 'kill $journal' EXIT
for try in $(seq 100); do [ ! -S /run/systemd/journal/stdout ] || break; sleep 0.1; done
systemd-cat -t danelaw sh -c 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec \"$@\"' sh \"$@\" & danelaw=$!
for try in $(seq 100); do journalctl -q -t danelaw -o cat | grep -qF '\"listening\"' && break; sleep 0.1; done
kill $danelaw; wait $danelaw
journalctl -q --no-pager -t danelaw -o json --all >\"$OUT/entries\"
journalctl -q --no-pager -t danelaw -o cat | jq -cR 'fromjson? | select(.message == \"listening\")' >\"$OUT/objects\"
journalctl -q --no-pager -t danelaw -o json --all |
  jq -c '(.MESSAGE | fromjson?) + {time: (.__REALTIME_TIMESTAMP | tonumber / 1e6 | todate)}' >\"$OUT/timed\"
";

#[test]
fn the_journal_gets_objects_without_a_second_timestamp() {
    let directory = configuration(&[free_address()]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-ec", WITH_JOURNAL, "with-journal", DANELAW, "--set", "log.format=json"]);
    command.arg("--config").arg(directory.path().join("danelaw.toml"));
    run(command.env("OUT", directory.path()));
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let entries = lines("entries");
    let mut levels = BTreeSet::new();
    for entry in &entries {
        let event: Value = serde_json::from_str(entry["MESSAGE"].as_str().unwrap()).expect("an object, and no prefix");
        let priority = match event["level"].as_str().unwrap() {
            "ERROR" => "3",
            "WARN" => "4",
            "INFO" => "6",
            level => panic!("{level}: {event}"),
        };
        assert!(entry["PRIORITY"] == priority && event.get("timestamp").is_none(), "{entry}");
        levels.insert(priority);
    }
    // No name server answers, which is an error.
    assert!(levels.contains("3") && levels.contains("6"), "{entries:?}");
    let [listening] = &lines("objects")[..] else { panic!("one event says that danelaw listens: {entries:?}") };
    assert_eq!(listening["level"], "INFO");
    let timed = lines("timed");
    assert_eq!(timed.len(), entries.len());
    assert!(timed.iter().all(|event| event["time"].as_str().is_some_and(|time| time.starts_with("20"))), "{timed:?}");
}

#[test]
fn a_port_that_systemd_has_opened_is_taken_over() {
    let [open, ours] = [free_address(), free_address()];
    let directory = configuration(&[ours, open]);
    let socket = directory.path().join("socket");
    // Starts danelaw at the first connection, as danelaw.socket would.
    let mut danelaw = Running::start(
        Command::new("systemd-socket-activate")
            .arg("--listen")
            .arg(open.to_string())
            .arg("--listen")
            .arg(&socket)
            .arg(DANELAW)
            .arg("--config")
            .arg(directory.path().join("danelaw.toml")),
    );
    let greeted = greeting(open);
    assert!(greeted.starts_with("220 "), "{greeted}");
    assert_eq!(greeting(ours), greeted);
    let mut line = String::new();
    BufReader::new(UnixStream::connect(&socket).unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, greeted);
    // The process that created the socket file removes it.
    danelaw.signal("TERM");
    assert!(danelaw.0.wait().unwrap().success() && socket.exists());
}

#[test]
fn a_socket_of_systemd_without_a_listener_is_an_error() {
    let [open, ours] = [free_address(), free_address()];
    let directory = configuration(&[ours]);
    let activate = Command::new("systemd-socket-activate")
        .arg("--listen")
        .arg(open.to_string())
        .arg(DANELAW)
        .arg("--config")
        .arg(directory.path().join("danelaw.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _connection = eventually("the port", || TcpStream::connect(open).ok());
    let ended = activate.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("systemd has opened {open}, which no [[listener]] names")), "{said}");
}

#[test]
fn the_user_and_the_directories_are_made() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let at_root = |program: &str| {
        let mut command = Command::new(program);
        command.arg(format!("--root={}", root.path().display()));
        command
    };
    run(at_root("systemd-sysusers").arg(repository("config/systemd/sysusers.conf")));
    run(at_root("systemd-tmpfiles").arg("--create").arg(repository("config/systemd/tmpfiles.conf")));
    let passwd = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    assert!(passwd.contains(":/var/lib/danelaw:/usr/sbin/nologin"), "{passwd}");
    for directory in ["run/danelaw", "var/lib/danelaw"] {
        assert!(root.path().join(directory).is_dir(), "{directory}");
    }
    // Again, as at an upgrade.
    assert!(output(at_root("systemd-sysusers").arg(repository("config/systemd/sysusers.conf"))).status.success());
}
