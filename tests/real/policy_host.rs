//! The policy host of MTA-STS (RFC 8461 §3.3): nginx, with one certificate of the lab's public CA for the hosts of all
//! domains.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::case::{PolicyDomain, PublishedPolicy};
use crate::certs::Identity;
use crate::command::eventually;
use crate::process::Daemon;

/// Serves the policies of these domains; none if there are no domains.
pub(crate) fn start(directory: &Path, address: SocketAddr, domains: &[PolicyDomain]) -> Option<Daemon> {
    if domains.is_empty() {
        return None;
    }
    let directory = directory.join("policy-host");
    for domain in domains {
        let folder = directory.join(domain.policy_host()).join(".well-known");
        fs::create_dir_all(&folder).expect("the lab's directory is writable");
        if let PublishedPolicy::Text(text) = &domain.policy {
            fs::write(folder.join("mta-sts.txt"), text).expect("the lab's directory is writable");
        }
    }
    let names: Vec<_> = domains.iter().map(PolicyDomain::policy_host).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (pem, file) = (directory.join("host.pem"), directory.join("nginx.conf"));
    fs::write(&pem, Identity::public(&names).key_and_chain()).expect("the lab's directory is writable");
    fs::write(&file, configuration(&directory, address)).expect("the lab's directory is writable");
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(&directory).arg("-c").arg(&file);
    let mut nginx = Daemon::start("nginx", &mut command, &directory.join("nginx.log"));
    eventually("nginx to listen", || {
        nginx.assert_running();
        TcpStream::connect(address).ok()
    });
    Some(nginx)
}

fn configuration(directory: &Path, address: SocketAddr) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("    {part}_temp_path {}/temporary;\n", directory.display()))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {directory}/nginx.pid;
events {{ worker_connections 64; }}
http {{
{temporary}    access_log {directory}/access.log;
    default_type text/plain;
    server {{
        listen {address} ssl;
        ssl_certificate {directory}/host.pem;
        ssl_certificate_key {directory}/host.pem;
        root {directory}/$host;
    }}
}}
",
        directory = directory.display()
    )
}
