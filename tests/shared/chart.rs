//! The chart of `config/kubernetes`, rendered without a cluster.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::command::run;

/// The output of the chart for each of the values, by `chart.py`; or the error of Helm.
pub(crate) fn made(wish: &str, release: &str, values: &[Value]) -> Vec<Result<Value, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("target/clients/chart-tools");
    assert!(tools.exists(), "tests/real/prepare installs Helm's library and the schemas of Kubernetes");
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", tools).arg(root.join("tests/shared/chart.py")).arg(root.join("config/kubernetes/chart"));
    let answers = run(python.args([release, &Value::from(values).to_string(), wish]));
    let answers: Vec<Value> = serde_json::from_str(&answers).unwrap();
    let result = |mut answer: Value| match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["made"].take()),
    };
    answers.into_iter().map(result).collect()
}

/// The manifests of one release.
pub(crate) struct Manifests(pub(crate) Vec<Value>);

impl Manifests {
    /// Those of each of the values.
    #[track_caller]
    pub(crate) fn of(release: &str, values: &[Value]) -> Vec<Self> {
        let documents = made("documents", release, values).into_iter().map(Result::unwrap);
        documents.map(|mut documents| Self(documents.as_array_mut().map(std::mem::take).unwrap())).collect()
    }

    /// The manifests of one kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|document| document["kind"] == kind).collect()
    }

    /// The only manifest of its kind.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "{kind}");
        all[0]
    }

    /// The embedded configuration.
    pub(crate) fn configuration(&self) -> &str {
        self.one("ConfigMap")["data"]["danelaw.toml"].as_str().unwrap()
    }
}
