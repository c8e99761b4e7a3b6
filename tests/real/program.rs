//! danelaw itself: the built program, with a configuration of the lab's, and its log of delivery attempts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::certs::Identity;
use crate::command::eventually;
use crate::net::Subnet;
use crate::pki;
use crate::process::Daemon;

pub(crate) struct Danelaw {
    daemon: Daemon,
    log: PathBuf,
}

/// One delivery attempt, as it was logged.
#[derive(Debug)]
pub(crate) struct Delivery(Value);

impl Delivery {
    /// The text of a field; names of DNS are without the final dot. A missing field is an empty text.
    pub(crate) fn field(&self, name: &str) -> String {
        match &self.0[name] {
            Value::Null => String::new(),
            Value::String(text) => text.trim_end_matches('.').to_owned(),
            other => other.to_string(),
        }
    }

    /// Asserts that the fields have these values.
    #[track_caller]
    pub(crate) fn assert(&self, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            assert_eq!(&self.field(name), value, "{name} in {:#}", self.0);
        }
    }
}

/// danelaw's place in the lab.
pub(crate) struct DanelawPlace<'a> {
    pub(crate) net: &'a Subnet,
    /// The resolver that it asks.
    pub(crate) resolver: SocketAddr,
    /// The root's DNSKEY, as a master file.
    pub(crate) trust_anchor: &'a Path,
}

impl Danelaw {
    pub(crate) const NAME: &str = "danelaw.client.test";
    /// Its certificate and key, in the lab's directory.
    pub(crate) const CERTIFICATE: &str = "danelaw.pem";
    /// The certificate and key of a client that it knows.
    pub(crate) const CLIENT: &str = "client.pem";
    /// Those of one that it does not know.
    pub(crate) const STRANGER: &str = "stranger.pem";
    /// The file's name in the lab's directory.
    pub(crate) const CONFIGURATION: &str = "danelaw.toml";

    pub(crate) fn start(directory: &Path, place: &DanelawPlace<'_>, more: &str) -> Self {
        let DanelawPlace { net, resolver, trust_anchor } = place;
        let ([first, second], lmtp, fan_out) = (net.danelaw(), net.danelaw_lmtp(), net.danelaw_fan_out());
        let ca = directory.join("public-ca.pem");
        fs::write(&ca, pki::public_ca()).expect("the lab's directory is writable");
        let [by_address, by_certificate, implicit] = net.danelaw_tls();
        for (file, identity) in [
            (Self::CERTIFICATE, Identity::public(&[Self::NAME])),
            (Self::CLIENT, Identity::public(&["client.test"])),
            (Self::STRANGER, Identity::for_name("stranger.test")),
        ] {
            fs::write(directory.join(file), identity.key_and_chain()).expect("the lab's directory is writable");
        }
        let configuration = format!(
            r#"{more}
hostname = "{name}"
remote.port = 25
remote.allow_reserved = ["127.0.0.0/8"]
[[listener]]
address = "{first}"
[[listener]]
address = "{second}"
[[listener]]
kind = "lmtp"
address = "{lmtp}"
[[listener]]
address = "{fan_out}"
recipients = "fan-out"
[[listener]]
address = "{secure}"
level = "secure"
[[listener]]
address = "{tls_required_no}"
tls_required_no = "only"
[[listener]]
address = "{by_address}"
tls = "required"
certificate = "{pem}"
key = "{pem}"
client_ca = "{ca}"
[[listener]]
address = "{by_certificate}"
allow = []
tls = "required"
certificate = "{pem}"
key = "{pem}"
client_ca = "{ca}"
[[listener]]
address = "{implicit}"
allow = []
tls = "implicit"
certificate = "{pem}"
key = "{pem}"
client_ca = "{ca}"
[dns]
servers = ["{resolver}"]
trust_anchor = "{trust_anchor}"
timeout = "1s"
[tls]
level = "dane"
ca = "{ca}"
[store]
path = "{store}"
[log]
format = "json"
"#,
            name = Self::NAME,
            secure = net.danelaw_secure(),
            tls_required_no = net.danelaw_tls_required_no(),
            resolver = resolver.ip(),
            trust_anchor = trust_anchor.display(),
            ca = ca.display(),
            pem = directory.join(Self::CERTIFICATE).display(),
            store = directory.join("store.sqlite").display(),
        );
        let file = directory.join(Self::CONFIGURATION);
        fs::write(&file, configuration).expect("the lab's directory is writable");
        Self::start_again(directory)
    }

    /// Starts danelaw again, with the configuration and the state of its earlier run.
    pub(crate) fn start_again(directory: &Path) -> Self {
        let (file, log) = (directory.join(Self::CONFIGURATION), directory.join("danelaw.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_danelaw"));
        command.arg("--config").arg(&file);
        // The environment is configuration too, and the caller's may hold any settings.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DANELAW_")) {
            command.env_remove(variable);
        }
        let listening = "listening";
        let before = events(&log, listening).len();
        let mut danelaw = Self { daemon: Daemon::start("danelaw", &mut command, &log), log };
        eventually("danelaw to listen", || {
            danelaw.daemon.assert_running();
            (danelaw.events(listening).len() > before).then_some(())
        });
        danelaw
    }

    /// SIGHUP, up to the log event with this message.
    pub(crate) fn reload(&self, message: &str) {
        let before = self.events(message).len();
        self.daemon.signal("HUP");
        eventually(message, || (self.events(message).len() > before).then_some(()));
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.daemon.kill();
    }

    /// The first delivery attempt that ended with this verdict, once it is logged.
    pub(crate) fn await_delivery(&self, verdict: &str) -> Delivery {
        eventually(&format!("the log of a delivery that was {verdict}"), || {
            self.events("delivery").into_iter().find(|delivery| delivery.field("verdict") == verdict)
        })
    }

    /// The first delivery attempt for this domain, once it is logged.
    pub(crate) fn await_delivery_to(&self, domain: &str) -> Delivery {
        eventually(&format!("the log of a delivery to {domain}"), || {
            self.events("delivery").into_iter().find(|delivery| delivery.field("domain") == domain)
        })
    }

    /// The fields of all log events with this message.
    pub(crate) fn events(&self, message: &str) -> Vec<Delivery> {
        events(&self.log, message)
    }
}

fn events(log: &Path, message: &str) -> Vec<Delivery> {
    let log = fs::read_to_string(log).unwrap_or_default();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // The fields are in an object of their own or beside the time.
    let fields = events.map(|mut event| if event["fields"].is_object() { event["fields"].take() } else { event });
    fields.filter(|fields| fields["message"] == message).map(Delivery).collect()
}

impl Drop for Danelaw {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- danelaw\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}
