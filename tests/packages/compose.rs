//! The compose file of `config/container`, in podman: danelaw and Debian's Postfix in one network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::{eventually, output, run};
use crate::pod::{ONE_POD, Remotes, link, podman, submit, with_images};
use crate::program::repository;

/// The services of the file, which are removed with this value.
struct Services {
    /// The file, and those that change it.
    files: Vec<PathBuf>,
}

/// podman-compose with these files.
fn compose(files: &[PathBuf], arguments: &[&str]) -> Command {
    let tools = repository("target/clients/podman-compose");
    assert!(tools.exists(), "tests/real/prepare installs podman-compose");
    let mut command = with_images("python3");
    command.env("PYTHONPATH", &tools).arg(tools.join("podman_compose.py"));
    command.args(["--in-pod=false", "--project-name=mail"]);
    for file in files {
        command.arg("--file").arg(file);
    }
    command.args(arguments);
    command
}

impl Services {
    fn log(&self, service: &str) -> String {
        let output = output(podman().args(["logs", &container(service)]));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn remove(&self) {
        let _ = output(&mut compose(&self.files, &["down", "--volumes"]));
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- danelaw\n{}--- postfix\n{}", self.log("danelaw"), self.log("postfix"));
        }
        self.remove();
    }
}

fn container(service: &str) -> String {
    format!("mail_{service}_1")
}

/// The file as compose reads it, with these profiles.
fn read(profiles: &[&str]) -> Value {
    let profiles = profiles.iter().flat_map(|profile| ["--profile", profile]);
    let text = run(&mut compose(&[file()], &profiles.chain(["config"]).collect::<Vec<_>>()));
    parsed(&text)
}

fn parsed(yaml: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)";
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", repository("target/clients/podman-compose")).args(["-c", script, yaml]);
    serde_json::from_str(&run(&mut python)).unwrap()
}

fn file() -> PathBuf {
    repository("config/container/compose.yaml")
}

#[test]
fn the_compose_file_has_danelaw_and_a_mail_server_and_with_a_profile_a_database() {
    let plain = read(&[]);
    let names = |read: &Value| read["services"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&plain), ["danelaw", "postfix"]);
    let danelaw = &plain["services"]["danelaw"];
    assert_eq!((&danelaw["read_only"], &danelaw["cap_drop"]), (&json!(true), &json!(["ALL"])));
    assert_eq!(plain["services"]["postfix"]["network_mode"], "service:danelaw");
    let with = read(&["postgres"]);
    assert_eq!(names(&with), ["danelaw", "postfix", "postgres"]);
    assert_eq!(with["services"]["postgres"]["network_mode"], "none");
    // The socket is on one volume, at the place that the page's URL names.
    let page = fs::read_to_string(repository("config/container/README.md")).unwrap();
    assert!(page.contains("?host=/run/postgresql\n"));
    let mounts = |service: &str| with["services"][service]["volumes"].to_string();
    assert!(mounts("danelaw").contains("\"database-socket:/run/postgresql\""));
    assert!(mounts("postgres").contains("\"database-socket:/var/run/postgresql\""));
}

#[test]
fn danelaw_takes_the_settings_of_the_compose_files() {
    let page = fs::read_to_string(repository("config/container/README.md")).unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("DANELAW_STORE_")?.split_once('='));
    let database: Vec<_> = lines.collect();
    assert_eq!(database.len(), 2);
    let plain = read(&[]);
    let others = fs::read_to_string(repository("config/clients/others.md")).unwrap();
    let beside = parsed(others.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap());
    for (read, store) in [(&plain, vec![]), (&plain, database), (&beside, vec![])] {
        let settings = read["services"]["danelaw"]["environment"].as_object().unwrap();
        let mut danelaw = Command::new(env!("CARGO_BIN_EXE_danelaw"));
        danelaw.args(["config", "check", "--config", "/dev/null"]);
        danelaw.envs(settings.iter().map(|(key, value)| (key, value.as_str().unwrap())));
        danelaw.envs(store.iter().map(|(key, value)| (format!("DANELAW_STORE__{key}"), value)));
        assert!(run(&mut danelaw).contains("the configuration is good"));
    }
}

/// The image by itself, which is removed with this value.
struct Alone;

impl Alone {
    const NAME: &str = "danelaw-alone";

    fn start() -> Self {
        drop(Self);
        run(podman().args(["run", "--detach", "--network", "none", "--name", Self::NAME, "localhost/danelaw:latest"]));
        Self
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = output(podman().args(["rm", "--force", "--time", "1", Self::NAME]));
    }
}

#[test]
fn the_image_can_be_asked_without_a_setting() {
    let _alone = Alone::start();
    let said = eventually("the admin socket", || {
        let asked = output(podman().args(["exec", Alone::NAME, "danelaw", "explain", "--last"]));
        (asked.status.code() == Some(1)).then(|| String::from_utf8_lossy(&asked.stderr).into_owned())
    });
    assert!(said.contains("no attempt that did not end in a delivery is remembered"), "{said}");
}

/// A file that puts the lab's resolver in the place of the public ones. The link of the test is danelaw's network.
fn in_the_lab(directory: &Path, resolver: &str, anchor: &Path) -> PathBuf {
    let file = directory.join("lab.yaml");
    let danelaw = json!({
        "network_mode": "none",
        "environment": {
            "DANELAW_DNS__SERVERS": format!("[\"{resolver}\"]"),
            "DANELAW_DNS__TRUST_ANCHOR": "/etc/danelaw/root.key",
            "DANELAW_REMOTE__ALLOW_RESERVED": "[\"10.200.0.0/24\"]",
        },
        "volumes": [format!("{}:/etc/danelaw/root.key:ro", anchor.display())],
    });
    fs::write(&file, json!({ "services": { "danelaw": danelaw } }).to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_of_the_compose_file_send_to_dane_domains_and_not_to_stripped_ones() {
    let _one = ONE_POD.lock().await;
    let remotes = Remotes::start().await;
    let dns = &remotes.dns;

    let directory = TempDir::new().unwrap();
    // danelaw's user reads the file too.
    let anchor = directory.path().join("root.key");
    fs::copy(&dns.anchor_file, &anchor).unwrap();
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(directory.path()));
    let files = vec![file(), in_the_lab(directory.path(), &dns.addr.to_string(), &anchor)];
    tokio::task::spawn_blocking(move || {
        let services = Services { files };
        services.remove();
        run(&mut compose(&services.files, &["up", "--detach"]));
        let process = run(podman().args(["inspect", &container("danelaw"), "--format", "{{.State.Pid}}"]));
        link(process.trim());
        let postfix = container("postfix");
        eventually("Postfix to run", || {
            services.log("postfix").contains("starting the Postfix mail system").then_some(())
        });
        let outcome = |recipient: &str| {
            let wanted = format!("to=<{recipient}>");
            eventually(&format!("the outcome of {recipient}"), || {
                services.log("postfix").lines().find(|line| line.contains(&wanted)).map(str::to_owned)
            })
        };
        // The listener on loopback is meant.
        let log = services.log("danelaw");
        assert!(log.lines().all(|line| !(line.contains(" WARN ") && line.contains("docker run -p"))), "{log}");
        submit(&postfix, "bob@example.test");
        submit(&postfix, "bob@stripped.test");
        let sent = outcome("bob@example.test");
        assert!(sent.contains("status=sent") && sent.contains("mx.example.test[10.200.0.1]: queued as 42"), "{sent}");
        let kept = outcome("bob@stripped.test");
        assert!(kept.contains("status=deferred") && kept.contains("TLS is required, but was not offered"), "{kept}");
        // The store is on its volume, which belongs to danelaw.
        let volume = run(podman().args(["volume", "inspect", "mail_store", "--format", "{{.Mountpoint}}"]));
        assert!(Path::new(volume.trim()).join("store.sqlite").exists());
        assert!(run(podman().args(["exec", &postfix, "postqueue", "-j"])).contains("bob@stripped.test"));
        let explained = run(podman().args(["exec", &container("danelaw"), "danelaw", "explain", "--last"]));
        assert!(explained.contains("starttls-missing") && explained.contains("\npolicy      dane\n"), "{explained}");
    })
    .await
    .unwrap();
    remotes.assert_mail_for_the_honest_one_alone();
}
