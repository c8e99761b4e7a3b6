//! danelaw itself: the program as it is built, with a configuration of the lab's, and its log of delivery attempts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::Value;

use crate::net::Subnet;
use crate::process::{Daemon, eventually};

pub(crate) struct Danelaw {
    daemon: Daemon,
    log: PathBuf,
}

/// One delivery attempt, as it was logged.
#[derive(Debug)]
pub(crate) struct Delivery(Value);

impl Delivery {
    /// The text of a field; names of DNS are without their dot at the end. A missing field is an empty text.
    pub(crate) fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            Value::String(text) => text.trim_end_matches('.').to_owned(),
            other => other.to_string(),
        }
    }
}

impl Danelaw {
    pub(crate) const NAME: &str = "danelaw.client.test";

    pub(crate) fn start(directory: &Path, net: &Subnet, trust_anchor: &Path) -> Self {
        let configuration = format!(
            r#"hostname = "{name}"
[[listener]]
address = "{address}"
allow = ["127.0.0.0/8"]
[dns]
servers = ["{resolver}"]
trust_anchor = "{trust_anchor}"
timeout = "1s"
[remote]
port = 25
allow_reserved = ["127.0.0.0/8"]
[tls]
level = "dane"
[log]
format = "json"
"#,
            name = Self::NAME,
            address = net.danelaw(),
            resolver = net.resolver().ip(),
            trust_anchor = trust_anchor.display(),
        );
        let file = directory.join("danelaw.toml");
        fs::write(&file, configuration).expect("the lab's directory is writable");
        let log = directory.join("danelaw.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_danelaw"));
        command.arg("--config").arg(&file);
        let mut danelaw = Self { daemon: Daemon::start("danelaw", &mut command, &log), log };
        eventually("danelaw to listen", || {
            danelaw.daemon.assert_running();
            danelaw.events("listening").pop().map(drop)
        });
        danelaw
    }

    /// The one delivery attempt that the log holds, once it is there.
    pub(crate) fn await_delivery(&self) -> Delivery {
        let mut deliveries = self.await_deliveries(1);
        assert_eq!(deliveries.len(), 1, "{deliveries:#?}");
        deliveries.remove(0)
    }

    /// All delivery attempts of the log, once there are `count` or more.
    pub(crate) fn await_deliveries(&self, count: usize) -> Vec<Delivery> {
        eventually("the log of the delivery", || {
            let deliveries = self.events("delivery");
            (deliveries.len() >= count).then_some(deliveries)
        })
    }

    /// Asks the program to end, and says how it did.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.daemon.terminate()
    }

    /// The fields of all log events with this message.
    fn events(&self, message: &str) -> Vec<Delivery> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        // Fields stand in an object of their own or beside the time.
        let fields = events.map(|mut event| if event["fields"].is_object() { event["fields"].take() } else { event });
        fields.filter(|fields| fields["message"] == message).map(Delivery).collect()
    }
}

impl Drop for Danelaw {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- danelaw\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
