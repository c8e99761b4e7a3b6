//! The image of danelaw and the sidecar of `config/kubernetes`, in podman: Debian's Postfix beside danelaw.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::Manifests;
use crate::command::{eventually, output, run};
use crate::lab::certs::Identity;
use crate::lab::dns::{DnsLab, Fault, Tree};
use crate::lab::mx::{Mx, Seen, say};
use crate::program::{prepared, repository};

/// The two ends of the pod's only link, and a second address of ours.
const POD: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const STRIPPED: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 3);

/// Held while there is a pod.
pub(crate) static ONE_POD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Gives this host addresses. The link of the pod has them later.
fn have_addresses(addresses: impl IntoIterator<Item = Ipv4Addr>) {
    for address in addresses {
        run(Command::new("ip").args(["address", "replace", &format!("{address}/32"), "dev", "lo"]));
    }
}

/// The domains `example.test` and `stripped.test`, which both have DANE. An attacker has taken STARTTLS from the host of the second.
pub(crate) struct Remotes {
    pub(crate) dns: DnsLab,
    honest: Arc<Seen>,
    stripped: Arc<Seen>,
}

impl Remotes {
    pub(crate) async fn start() -> Self {
        have_addresses([OURS, STRIPPED]);
        let honest = Mx::new(Identity::for_name("mx.example.test"));
        let stripped = Mx { ehlo: say("250-mx\r\n250 SIZE 99"), ..Mx::new(Identity::for_name("mx.stripped.test")) };
        let mut tree = Tree::new().at((OURS, 0));
        for (domain, mx, address) in [("example.test", &honest, OURS), ("stripped.test", &stripped, STRIPPED)] {
            let host = format!("mx.{domain}");
            let record = mx.identity.record("3 1 1");
            tree = tree.secure(domain).mx(domain, 10, &host).a(&host, &address.to_string()).tlsa(&host, 25, &record);
        }
        let dns = tree.start().await;
        let honest = honest.start((OURS, 25).into(), "mx.example.test").await;
        let stripped = stripped.start((STRIPPED, 25).into(), "mx.stripped.test").await;
        Self { dns, honest, stripped }
    }

    #[track_caller]
    pub(crate) fn assert_mail_for_the_honest_one_alone(&self) {
        assert_eq!(self.honest.messages().len(), 1);
        assert!(!self.stripped.saw_mail() && self.stripped.connections() > 0);
    }
}

/// A program that uses the images which the tests have prepared, if it calls podman.
pub(crate) fn with_images(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("CONTAINERS_CONF", prepared("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", prepared("storage.conf"))
        // No systemd runs the health checks here.
        .env("DISABLE_HC_SYSTEMD", "true");
    command
}

pub(crate) fn podman() -> Command {
    with_images("podman")
}

/// A container of danelaw's image alone, which is removed with this value.
struct Container(String);

impl Container {
    /// Starts it in a network of its own, with no more than loopback.
    fn start(flags: &[&str]) -> Self {
        let mut command = podman();
        command.args(["run", "--detach", "--network=none"]).args(flags);
        Self(run(command.arg("localhost/danelaw:latest")).trim().to_owned())
    }

    fn log(&self) -> String {
        let output = output(podman().args(["logs", &self.0]));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = output(podman().args(["rm", "--force", "--time=0", &self.0]));
    }
}

/// The sidecar that the chart makes, and the scrape of its metrics.
fn sidecar() -> Manifests {
    Manifests::of(Pod::NAME, &[json!({ "kind": "sidecar", "podMonitor": { "enabled": true } })]).swap_remove(0)
}

/// Gives the network of a process its only link, whose other end is ours.
pub(crate) fn link(process: &str) {
    let link = format!(
        "ip link add pod type veth peer name eth0 netns {process}
         ip address add {OURS}/24 dev pod; ip address add {STRIPPED}/24 dev pod; ip link set pod up
         nsenter --net --target {process} sh -ec 'ip address add {POD}/24 dev eth0; ip link set eth0 up'"
    );
    run(Command::new("sh").args(["-ec", &link]));
}

/// Gives a message to the mail server in a container.
pub(crate) fn submit(container: &str, recipient: &str) {
    let mut child = podman()
        .args(["exec", "-i", container, "sendmail", "-i", "-f", "alice@client.test", recipient])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Subject: from a pod\n\n.dots\nbody\n").unwrap();
    assert!(child.wait().unwrap().success());
}

/// A running pod, which is removed with this value.
struct Pod;

impl Pod {
    const NAME: &str = "mta";

    /// Starts the pod that a file describes, on a link whose other end is ours.
    fn start(file: &Path) -> Self {
        Self::remove();
        run(podman().args(["play", "kube", "--network=none", "--start=false"]).arg(file));
        let infra = run(podman().args(["pod", "inspect", Self::NAME, "--format", "{{.InfraContainerID}}"]));
        run(podman().args(["start", infra.trim()]));
        let process = run(podman().args(["inspect", infra.trim(), "--format", "{{.State.Pid}}"]));
        link(process.trim());
        run(podman().args(["pod", "start", Self::NAME]));
        let pod = Self;
        eventually("Postfix to run", || pod.log("postfix").contains("starting the Postfix mail system").then_some(()));
        pod
    }

    fn log(&self, container: &str) -> String {
        let output = output(podman().args(["logs", &format!("{}-{container}", Self::NAME)]));
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The line about a recipient in the mail server's log. Waits until the log has it.
    fn outcome(&self, recipient: &str) -> String {
        let wanted = format!("to=<{recipient}>");
        eventually(&format!("the outcome of {recipient}"), || {
            self.log("postfix").lines().find(|line| line.contains(&wanted)).map(str::to_owned)
        })
    }

    fn remove() {
        let _ = output(podman().args(["pod", "rm", "--force", "--ignore", Self::NAME]));
        let _ = output(podman().args(["volume", "rm", "--force", "mta-queue", "mta-store", "mta-config", "danelaw"]));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- danelaw\n{}--- postfix\n{}", self.log("danelaw"), self.log("postfix"));
        }
        Self::remove();
    }
}

/// The files and the server that a pod's danelaw resolves by.
struct PodDns<'a> {
    resolver: SocketAddr,
    trust_anchor: &'a Path,
    root_hints: Option<&'a Path>,
}

impl PodDns<'_> {
    /// The description of the pod, in a file.
    fn described(&self, directory: &TempDir) -> PathBuf {
        let file = directory.path().join("pod.yaml");
        let documents = playable(self);
        std::fs::write(&file, documents.iter().map(|document| format!("---\n{document}\n")).collect::<String>())
            .unwrap();
        file
    }
}

/// The pod as podman 4.3 can run it. That version knows no sidecars, no projected volumes, no ports of a pod whose link it has
/// not made, and no probes of a container without a shell, so danelaw is the first of the containers. The rest is as the chart
/// makes it, except for the lab's resolver and addresses.
fn playable(by: &PodDns<'_>) -> Vec<Value> {
    let manifests = sidecar();
    let mut configuration: toml::Table = manifests.configuration().parse().unwrap();
    let mut dns = toml::toml! { trust_anchor = "/etc/danelaw/root.key" };
    dns.insert("servers".into(), vec![by.resolver.to_string()].into());
    let mut files = json!({ "root.key": std::fs::read_to_string(by.trust_anchor).unwrap() });
    if let Some(hints) = by.root_hints {
        dns.insert("root_hints".into(), "/etc/danelaw/root.hints".into());
        files["root.hints"] = std::fs::read_to_string(hints).unwrap().into();
    }
    configuration["dns"] = toml::Value::Table(dns);
    configuration.insert("remote".into(), toml::Value::Table(toml::toml! { allow_reserved = ["10.200.0.0/24"] }));
    files["danelaw.toml"] = configuration.to_string().into();
    let mut map = manifests.one("ConfigMap").clone();
    map["data"] = files;
    let mut pod = manifests.one("Deployment")["spec"]["template"].clone();
    let spec = pod["spec"].as_object_mut().unwrap();
    // Services would become environment variables, and danelaw would read those as settings.
    assert_eq!(spec["enableServiceLinks"], false);
    let mut danelaw = spec["initContainers"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!((&danelaw["name"], &danelaw["restartPolicy"]), (&json!("danelaw"), &json!("Always")));
    for key in ["restartPolicy", "ports", "startupProbe", "livenessProbe", "readinessProbe"] {
        danelaw.as_object_mut().unwrap().remove(key);
    }
    spec["containers"].as_array_mut().unwrap().insert(0, danelaw);
    let files = &mut spec["volumes"][0];
    *files = json!({ "name": "danelaw", "configMap": files["projected"]["sources"][0]["configMap"] });
    // podman 4.3 would remove an init container at its end, and may fail at that.
    let metadata =
        json!({ "name": Pod::NAME, "annotations": { "io.podman.annotations.init.container.type": "always" } });
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
    manifests.all("PersistentVolumeClaim").into_iter().cloned().chain([map, pod]).collect()
}

/// The path and port of each request that the kubelet and Prometheus send to the pod.
fn probes() -> Vec<(String, u16)> {
    let manifests = sidecar();
    let danelaw = &manifests.one("Deployment")["spec"]["template"]["spec"]["initContainers"][1];
    let ports = danelaw["ports"].as_array().unwrap();
    let port = |name: &Value| {
        let port = ports.iter().find(|port| port["name"] == *name).expect("a port of that name");
        u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap()
    };
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"].map(|probe| danelaw[probe]["httpGet"].clone());
    let metrics = manifests.one("PodMonitor")["spec"]["podMetricsEndpoints"][0].clone();
    let all = probes.into_iter().chain([metrics]);
    all.map(|ask| (ask["path"].as_str().unwrap().to_owned(), port(&ask["port"]))).collect()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_image_is_small_and_holds_nothing_else() {
    let inspect = |format| run(podman().args(["image", "inspect", "localhost/danelaw:latest", "--format", format]));
    let size: u64 = inspect("{{.Size}}").trim().parse().unwrap();
    // The limit is that of the release build; the quick build of most runs is larger.
    if std::fs::read_to_string(repository("target/packages/profile")).unwrap().trim() == "small" {
        assert!(size < 12_000_000, "{size} octets");
    }
    assert_eq!(inspect("{{.Config.User}}").trim(), "65532:65532");
    let mounted = run(podman().args(["image", "mount", "localhost/danelaw:latest"]));
    let files = run(Command::new("find").arg(mounted.trim()).args(["-type", "f", "-printf", "/%P\n"]));
    let _ = output(podman().args(["image", "umount", "localhost/danelaw:latest"]));
    let mut files: Vec<_> = files.lines().collect();
    files.sort_unstable();
    assert_eq!(files, ["/etc/ssl/certs/ca-certificates.crt", "/usr/bin/danelaw"]);
}

#[test]
fn the_image_has_a_health_check_that_needs_no_shell() {
    let _one = ONE_POD.blocking_lock();
    let check =
        run(podman().args(["image", "inspect", "localhost/danelaw:latest", "--format", "{{json .HealthCheck}}"]));
    let check: Value = serde_json::from_str(&check).unwrap();
    assert_eq!(check["Test"], json!(["CMD", "/usr/bin/danelaw", "ready"]));
    // No name server answers.
    let danelaw = Container::start(&["--env", "DANELAW_DNS__SERVERS=[\"127.0.0.1:1\"]"]);
    eventually("danelaw to listen", || danelaw.log().contains("listening").then_some(()));
    let asked = output(podman().args(["healthcheck", "run", &danelaw.0]));
    assert_eq!(asked.status.code(), Some(1), "{asked:?}\n{}", danelaw.log());
    let ready = output(podman().args(["exec", &danelaw.0, "/usr/bin/danelaw", "ready"]));
    let text = String::from_utf8_lossy(&ready.stdout);
    assert!(ready.status.code() == Some(1) && text.contains("all mail is deferred"), "{ready:?}");
}

#[test]
fn a_published_port_reaches_a_listener_or_the_log_names_the_keys() {
    let _one = ONE_POD.blocking_lock();
    let no_server = "DANELAW_DNS__SERVERS=[\"127.0.0.1:1\"]";
    let advice = |danelaw: &Container| {
        eventually("the advice", || {
            danelaw.log().lines().find(|line| line.contains("(docker run -p)")).map(str::to_owned)
        })
    };
    let told = advice(&Container::start(&["--env", no_server]));
    assert!(
        told.contains(" WARN ") && told.contains("set listener.address to \"0.0.0.0:10025\", and listener.allow"),
        "{told}"
    );
    // As in compose.yaml: the operator has chosen loopback.
    let told =
        advice(&Container::start(&["--env", no_server, "--env", "DANELAW_LISTENER=[{address=\"127.0.0.1:10025\"}]"]));
    assert!(told.contains(" INFO "), "{told}");
    let on_all = |allow: &str| format!("DANELAW_LISTENER=[{{address=\"0.0.0.0:10025\"{allow}}}]");
    let refused = Container::start(&["--env", &on_all("")]);
    let ended = run(podman().args(["wait", &refused.0]));
    let log = refused.log();
    assert!(ended.trim() == "78" && log.contains("listener.allow: 0.0.0.0:10025 is not loopback"), "{ended} {log}");
    let open = Container::start(&["--env", &on_all(", allow=[\"10.200.0.0/24\"]"), "--env", no_server]);
    let process = run(podman().args(["inspect", &open.0, "--format", "{{.State.Pid}}"]));
    link(process.trim());
    // A published port connects to the container's own address.
    let greeting = eventually("a greeting", || {
        let mut stream = TcpStream::connect((POD, 10025)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).ok().map(|()| text)
    });
    assert_eq!(&greeting, b"220 ");
    assert!(!open.log().contains("docker run -p"), "{}", open.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_in_a_pod_sends_to_dane_domains_and_not_to_stripped_ones() {
    // The link appears only with the pod, but the pod's configuration needs the resolver's port: addresses first.
    let _one = ONE_POD.lock().await;
    let remotes = Remotes::start().await;
    let dns = &remotes.dns;

    let directory = TempDir::new().unwrap();
    let by = PodDns { resolver: dns.addr, trust_anchor: &dns.anchor_file, root_hints: None };
    let file = by.described(&directory);
    tokio::task::spawn_blocking(move || {
        let pod = Pod::start(&file);
        let danelaw = run(podman().args(["inspect", "mta-danelaw", "--format", "{{.State.Pid}}"]));
        let status = std::fs::read_to_string(format!("/proc/{}/status", danelaw.trim())).unwrap();
        for line in [
            "Uid:\t65532\t65532\t65532\t65532",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line} in {status}");
        }
        for (path, port) in probes() {
            let answer = get(SocketAddr::from((POD, port)), &path);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        }
        let ready = run(podman().args(["exec", "mta-danelaw", "/usr/bin/danelaw", "ready"]));
        assert!(ready.starts_with("ready\n"), "{ready}");
        submit("mta-postfix", "bob@example.test");
        submit("mta-postfix", "bob@stripped.test");
        let outcome = pod.outcome("bob@example.test");
        assert!(
            outcome.contains("status=sent") && outcome.contains("mx.example.test[10.200.0.1]: queued as 42"),
            "{outcome}"
        );
        let outcome = pod.outcome("bob@stripped.test");
        assert!(
            outcome.contains("status=deferred") && outcome.contains("TLS is required, but was not offered"),
            "{outcome}"
        );
        let log = pod.log("danelaw");
        assert!(log.contains("\"protection\":\"verified\"") && log.contains("starttls-missing"), "{log}");
        // The refused message is in the queue, which outlives the pod.
        assert!(run(podman().args(["exec", "mta-postfix", "postqueue", "-j"])).contains("bob@stripped.test"));
    })
    .await
    .unwrap();
    remotes.assert_mail_for_the_honest_one_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_resolver_strips_dnssec_sends_verified_mail_by_its_own_resolver() {
    // The zones have servers at port 53, which danelaw asks by itself.
    let _one = ONE_POD.lock().await;
    let first = Ipv4Addr::new(10, 200, 0, 10);
    have_addresses([OURS].into_iter().chain((0..8).map(|more| Ipv4Addr::from_bits(first.to_bits() + more))));
    let mx = Mx::new(Identity::for_name("mx.example.test"));
    let record = mx.identity.record("3 1 1");
    let tree = Tree::new().vouches().secure("example.test").mx("example.test", 10, "mx.example.test");
    let tree = tree.a("mx.example.test", &OURS.to_string()).tlsa("mx.example.test", 25, &record);
    let strips = |tree: Tree, rtype| tree.fault(".", rtype, Fault::Stripped);
    let authorities =
        ["DNSKEY", "SOA", "NS"].into_iter().fold(tree, strips).delegate_from(SocketAddrV4::new(first, 53)).await;
    let resolver = authorities.resolver((OURS, 0).into()).await;
    let mx = mx.start((OURS, 25).into(), "mx.example.test").await;

    let (directory, settings) = (TempDir::new().unwrap(), authorities.settings());
    let file = PodDns {
        resolver: resolver.addr,
        trust_anchor: settings.trust_anchor.as_deref().unwrap(),
        root_hints: settings.root_hints.as_deref(),
    }
    .described(&directory);
    tokio::task::spawn_blocking(move || {
        let pod = Pod::start(&file);
        submit("mta-postfix", "bob@example.test");
        let outcome = pod.outcome("bob@example.test");
        assert!(outcome.contains("status=sent"), "{outcome}");
        let log = pod.log("danelaw");
        assert!(log.contains("\"protection\":\"verified\""), "{log}");
        assert!(
            log.contains("strips DNSSEC records") && log.contains("asks the root and the authoritative servers itself"),
            "{log}"
        );
    })
    .await
    .unwrap();
    assert_eq!(mx.messages().len(), 1);
}
