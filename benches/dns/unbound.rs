//! A validating unbound above the lab's authoritative servers, for figures beside danelaw's own resolver.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use danelaw::dns::setup::ResolverSettings;
use tempfile::TempDir;

use super::lab::authority::Authorities;
use super::lab::port::free_port;

/// It ends with this value.
pub(crate) struct Unbound {
    pub(crate) address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Unbound {
    /// None if it is not installed.
    pub(crate) fn start(lab: &Authorities, zones: &[&str]) -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("danelaw-").tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let file = directory.path().join("unbound.conf");
        fs::write(&file, configuration(lab, zones, (address, &directory))).unwrap();
        let mut unbound = Command::new("unbound");
        unbound.arg("-dd").arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = unbound.spawn().ok()?;
        let unbound = Self { address, child, directory };
        let began = Instant::now();
        while UnixStream::connect(unbound.control()).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "unbound does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(unbound)
    }

    /// Forgets every record, key and server.
    pub(crate) fn forget(&self) {
        for command in ["flush_zone .", "flush_infra all"] {
            let mut control = UnixStream::connect(self.control()).unwrap();
            control.write_all(format!("UBCT1 {command}\n").as_bytes()).unwrap();
            let mut said = String::new();
            control.read_to_string(&mut said).unwrap();
            assert!(said.starts_with("ok"), "{command}: {said}");
        }
    }

    fn control(&self) -> std::path::PathBuf {
        self.directory.path().join("control")
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lab's servers are at a port of their own, which no referral can tell: each zone is a stub zone.
fn configuration(lab: &Authorities, zones: &[&str], (address, directory): (SocketAddr, &TempDir)) -> String {
    let ResolverSettings { trust_anchor, recursion_port, .. } = lab.settings();
    let (directory, anchor) = (directory.path().display(), trust_anchor.unwrap());
    let server = format!(
        r#"server:
    interface: {ip}
    port: {port}
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: "{directory}/pid"
    use-syslog: no
    do-ip6: no
    do-not-query-localhost: no
    target-fetch-policy: "0 0 0 0 0"
    local-zone: "test." nodefault
remote-control:
    control-enable: yes
    control-interface: "{directory}/control"
    control-use-cert: no
"#,
        ip = address.ip(),
        port = address.port(),
        anchor = anchor.display(),
    );
    let stub = |zone: &&str| {
        let server = lab.address(zone);
        format!("stub-zone:\n    name: \"{zone}\"\n    stub-addr: {server}@{recursion_port}\n    stub-prime: no\n")
    };
    server + &zones.iter().map(stub).collect::<String>()
}
