//! The chart of `config/kubernetes`: its manifests meet the schemas of Kubernetes, their configuration is one that danelaw takes,
//! and the plain manifests beside it are those that it makes.

use std::collections::BTreeSet;

use danelaw::config::DEFAULTS;
use serde_json::{Value, json};

use super::danelaw;
use super::made::assert_file;
use crate::chart::{Manifests, made};
use crate::lab::certs::Identity;

/// What the chart makes of the values below, beside them.
fn all() -> Vec<(Value, Manifests)> {
    let manifests = Manifests::of("danelaw", &values());
    values().into_iter().zip(manifests).collect()
}

#[track_caller]
fn rendered(values: Value) -> Manifests {
    Manifests::of("danelaw", &[values]).swap_remove(0)
}

/// Values that reach every part of each template.
fn values() -> Vec<Value> {
    let secrets = json!([{ "name": "danelaw-files", "items": [{ "key": "ca.crt", "path": "database-ca.pem" }] }]);
    let client = json!([{ "ipBlock": { "cidr": "192.0.2.0/24" } }]);
    vec![
        json!({}),
        json!({ "kind": "sidecar" }),
        json!({
            "secrets": secrets, "imagePullSecrets": [{ "name": "registry" }], "podMonitor": { "enabled": true, "labels": { "a": "b" } },
            "pool": { "autoscaling": { "enabled": true }, "database": { "password": "p\"w" },
                "service": { "type": "LoadBalancer", "annotations": { "a": "b" } } },
            "networkPolicy": { "clients": client, "ingress": [{ "from": client }] }, "terminationGracePeriodSeconds": 3600,
        }),
        json!({
            "kind": "sidecar", "secrets": secrets, "imagePullSecrets": [{ "name": "registry" }], "podMonitor": { "enabled": true },
            "sidecar": { "queue": { "storageClassName": "fast" }, "store": { "storageClassName": "fast" } },
            "networkPolicy": { "ingress": [{ "from": client }] }, "terminationGracePeriodSeconds": 900,
        }),
        json!({ "config": POOL }),
        json!({ "kind": "sidecar", "config": SIDECAR, "networkPolicy": { "enabled": false } }),
    ]
}

/// A pool without a database.
const POOL: &str = r#"
hostname = "danelaw.example.com"
[admin]
address = "[::]:7000"
allow = ["2001:db8::/32"]
[[listener]]
address = "[::]:465"
allow = ["2001:db8::/32"]
tls = "implicit"
certificate = "/etc/danelaw/certificate.pem"
key = "/etc/danelaw/key.pem"
"#;

/// A sidecar without a store.
const SIDECAR: &str =
    "hostname = 'danelaw.example.com'\nadmin = { address = '0.0.0.0:7671', allow = ['10.0.0.0/8'] }\n";

#[test]
fn the_manifests_meet_the_schemas_and_have_all_kinds() {
    let always = ["ConfigMap", "Deployment"];
    let (pool, sidecar) = (["Service", "PodDisruptionBudget"], ["PersistentVolumeClaim"; 2]);
    let more = ["NetworkPolicy", "PodMonitor", "Secret", "HorizontalPodAutoscaler"];
    let wanted: [(&[&str], &[&str]); 6] = [
        (&pool, &more[..1]),
        (&sidecar, &more[..1]),
        (&pool, &more),
        (&sidecar, &more[..2]),
        (&pool, &more[..1]),
        (&sidecar[..1], &[]),
    ];
    for (complaints, values) in made("complaints", "danelaw", &values()).into_iter().zip(values()) {
        assert_eq!(complaints.unwrap(), json!([]), "{values}");
    }
    for ((values, manifests), (ours, optional)) in all().into_iter().zip(wanted) {
        let mut kinds: Vec<_> = manifests.0.iter().map(|document| document["kind"].as_str().unwrap()).collect();
        let mut all = [&always, ours, optional].concat();
        kinds.sort_unstable();
        all.sort_unstable();
        assert_eq!(kinds, all, "{values}");
    }
}

#[test]
fn the_plain_manifests_are_those_of_the_chart() {
    for (release, kind) in [("danelaw", "pool"), ("mta", "sidecar")] {
        let text = made("text", release, &[json!({ "kind": kind })]).swap_remove(0).unwrap();
        let head = format!("# Made by: helm template {release} config/kubernetes/chart --set kind={kind}\n");
        assert_file(&format!("config/kubernetes/{kind}.yaml"), &(head + text.as_str().unwrap()));
    }
}

#[test]
fn danelaw_takes_the_configuration_of_every_manifest() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    for (name, text) in ["certificate.pem", "key.pem"].into_iter().zip(Identity::for_name("danelaw.test").pem()) {
        std::fs::write(path(name), text).unwrap();
    }
    std::fs::write(path("database-password"), "secret\n").unwrap();
    for (values, manifests) in all() {
        let configuration = manifests.configuration().replace("/etc/danelaw", files.path().to_str().unwrap());
        std::fs::write(path("danelaw.toml"), configuration).unwrap();
        let output = danelaw(&["config", "check", "--config", path("danelaw.toml").to_str().unwrap()]);
        assert!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The containers of danelaw, and the pod's own values.
fn pod(manifests: &Manifests) -> (&Value, &Value) {
    let spec = &manifests.one("Deployment")["spec"]["template"]["spec"];
    let all = ["initContainers", "containers"].iter().filter_map(|key| spec[key].as_array()).flatten();
    let mut danelaws = all.filter(|container| container["name"] == "danelaw");
    (danelaws.next().unwrap(), spec)
}

#[test]
fn danelaw_runs_confined_and_is_probed_at_its_admin_port() {
    for (values, manifests) in all() {
        let (container, spec) = pod(&manifests);
        let security = &container["securityContext"];
        for (key, wanted) in [
            ("runAsNonRoot", json!(true)),
            ("runAsUser", json!(65532)),
            ("readOnlyRootFilesystem", json!(true)),
            ("allowPrivilegeEscalation", json!(false)),
            ("capabilities", json!({ "drop": ["ALL"] })),
        ] {
            assert_eq!(security[key], wanted, "{key} of {values}");
        }
        assert!(container["resources"]["limits"]["memory"].is_string() && spec["enableServiceLinks"] == false);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let configuration: toml::Table = manifests.configuration().parse().unwrap();
        let admin = configuration["admin"]["address"].as_str().unwrap();
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == "admin").unwrap()["containerPort"].to_string();
        assert!(admin.ends_with(&format!(":{port}")), "{admin} {port}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({ "path": path, "port": "admin" }), "{values}");
        }
    }
}

/// The files in /etc/danelaw that a manifest provides.
fn provided(spec: &Value) -> BTreeSet<String> {
    let volumes = spec["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "danelaw").unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap().iter();
    let items = sources.filter_map(|source| source["secret"]["items"].as_array()).flatten();
    items.map(|item| format!("/etc/danelaw/{}", item["path"].as_str().unwrap())).collect()
}

#[test]
fn the_manifests_provide_the_files_and_ports_of_the_configuration() {
    for (values, manifests) in all() {
        let (container, spec) = pod(&manifests);
        let configuration: toml::Table = manifests.configuration().parse().unwrap();
        let listeners = configuration.get("listener").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let store = configuration.get("store").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let named = listeners.iter().filter_map(toml::Value::as_table).chain([&store]);
        let named: BTreeSet<_> = named
            .flat_map(|table| ["certificate", "key", "password_file"].map(|key| table.get(key)))
            .flatten()
            .map(|path| path.as_str().unwrap().to_owned())
            .collect();
        assert!(named.is_subset(&provided(spec)), "{named:?} of {values}");
        let mounts = container["volumeMounts"].as_array().unwrap();
        let writable: Vec<_> = mounts.iter().filter(|mount| mount["readOnly"] != true).collect();
        match store.get("path") {
            Some(_) => assert_eq!(writable, [&json!({ "name": "store", "mountPath": "/var/lib/danelaw" })]),
            None => assert!(writable.is_empty(), "{writable:?}"),
        }
        if values["kind"] == "sidecar" {
            continue;
        }
        let ports: Vec<_> =
            listeners.iter().map(|one| one["address"].as_str().unwrap().rsplit(':').next().unwrap()).collect();
        let service = manifests.one("Service")["spec"]["ports"].as_array().unwrap();
        assert_eq!(service.iter().map(|port| port["port"].to_string()).collect::<Vec<_>>(), ports, "{values}");
        let rules = manifests.one("NetworkPolicy")["spec"]["ingress"].as_array().unwrap();
        let allowed: Vec<_> =
            rules[1]["ports"].as_array().unwrap().iter().map(|port| port["port"].to_string()).collect();
        assert_eq!(allowed, ports, "{values}");
    }
}

#[test]
fn a_pool_rolls_and_a_sidecar_is_replaced() {
    let all = all();
    let (pool, sidecar, scaled, without) = (&all[0].1, &all[1].1, &all[2].1, &all[4].1);
    assert_eq!(sidecar.one("Deployment")["spec"]["strategy"], json!({ "type": "Recreate" }));
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    assert_eq!(pool.one("Deployment")["spec"]["strategy"], rolling);
    // The autoscaler alone sets the number then, by a metric that danelaw has.
    assert!(scaled.one("Deployment")["spec"].get("replicas").is_none());
    let metric = &scaled.one("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"];
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus/README.md")).unwrap();
    assert!(page.contains(&format!("| `{}` | gauge |", metric.as_str().unwrap())), "{metric}");
    // Queue and store stay when the release goes.
    for claim in sidecar.all("PersistentVolumeClaim") {
        assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    // Another configuration makes other pods.
    let sum = |manifests: &Manifests| {
        let template = &manifests.one("Deployment")["spec"]["template"];
        template["metadata"]["annotations"]["checksum/config"].clone()
    };
    assert_ne!(sum(pool), sum(without));
}

/// V27.
#[test]
fn v27_a_pod_that_stops_has_the_time_that_its_mail_may_need() {
    let seconds = |values| pod(&rendered(values)).1["terminationGracePeriodSeconds"].as_u64().unwrap();
    let defaults: toml::Table = DEFAULTS.parse().unwrap();
    let default = |key: &str| {
        let text = defaults["timeouts"][key].as_str().unwrap();
        text.strip_suffix('s')
            .map_or_else(|| text.strip_suffix('m').unwrap().parse::<u64>().unwrap() * 60, |n| n.parse().unwrap())
    };
    let all = default("final") + default("client") + default("grace");
    assert_eq!(seconds(json!({ "kind": "sidecar" })), all);
    assert_eq!(seconds(json!({ "config": POOL })), all + 10);
    assert_eq!(seconds(json!({ "config": POOL, "pool": { "preStopSeconds": 30 } })), all + 30);
    let timeouts = format!("{SIDECAR}[timeouts]\nfinal = '9m30s'\nclient = '1h'\ngrace = '1500ms'\n");
    assert_eq!(seconds(json!({ "kind": "sidecar", "config": timeouts })), 570 + 3600 + 1);
    let set = |seconds: u64| json!({ "kind": "sidecar", "terminationGracePeriodSeconds": seconds });
    assert_eq!(seconds(set(all)), all);
    for less in [all - 1, 0] {
        let error = made("text", "mta", &[set(less)]).swap_remove(0).unwrap_err();
        assert!(error.contains(&format!("terminationGracePeriodSeconds is {less}; timeouts.final + ")), "{error}");
    }
}

/// V28.
#[test]
fn v28_each_listener_of_a_pool_requires_tls() {
    let tls = |value: &str| POOL.replace("tls = \"implicit\"", value);
    let values = ["", "tls = 'none'", "tls = 'starttls'"].map(|value| json!({ "config": tls(value) }));
    for result in made("text", "danelaw", &values) {
        let error = result.unwrap_err();
        assert!(error.contains("mail to the listener [::]:465 crosses a network; set tls = \"required\""), "{error}");
    }
    // One of two is not enough.
    let second = format!("{POOL}[[listener]]\naddress = '0.0.0.0:10025'\nallow = ['10.0.0.0/8']\n");
    assert!(made("text", "danelaw", &[json!({ "config": second })])[0].is_err());
    assert!(made("text", "danelaw", &[json!({ "config": tls("tls = 'required'") })])[0].is_ok());
}

#[test]
fn the_chart_refuses_what_would_not_work() {
    let admin = "admin = { address = '0.0.0.0:7671' }\n";
    let cases = [
        (json!({ "config": "a = " }), "config is no danelaw.toml"),
        (json!({ "config": "hostname = 'a.example'" }), "the probes need admin.address"),
        (json!({ "config": "admin = { address = '127.0.0.1:7671' }" }), "admin.address on loopback"),
        (json!({ "config": admin }), "a pool needs a [[listener]]"),
        (json!({ "config": format!("{POOL}[store]\npath = '/a'") }), "danelaws of a pool share no file"),
        (json!({ "config": format!("{POOL}[timeouts]\nfinal = '1d'") }), "and not \"1d\""),
        (json!({ "kind": "daemon" }), "kind"),
        (json!({ "pool": { "replica": 3 } }), "replica"),
        (json!({ "networkPolicies": {} }), "networkPolicies"),
    ];
    let values: Vec<_> = cases.iter().map(|(values, _)| values.clone()).collect();
    for (result, (values, said)) in made("text", "danelaw", &values).into_iter().zip(&cases) {
        let error = result.expect_err(&values.to_string());
        assert!(error.contains(said), "{values}: {error}");
    }
}
