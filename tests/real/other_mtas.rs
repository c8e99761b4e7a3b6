//! MX hosts of other kinds than Postfix, each of which keeps every message that it accepts as a file.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certs::Identity;
use crate::command::eventually;
use crate::process::Daemon;
use crate::root::Root;
use crate::smtp::Session;

pub(crate) struct OtherMta {
    directory: PathBuf,
    log: PathBuf,
    daemon: Daemon,
    _root: Option<Root>,
}

impl OtherMta {
    /// An Exim, as Debian builds it.
    pub(crate) fn exim(directory: &Path, (address, name): (SocketAddr, &str), identity: &Identity) -> Self {
        let root = Root::of("exim4-daemon-light");
        root.write("/etc/mx.pem", &identity.key_and_chain());
        let settings = EXIM.replace("{name}", name).replace("{address}", &address.ip().to_string());
        root.write("/etc/exim4/exim4.conf", &settings);
        let setup = "mkdir -p /var/spool/exim4 /srv/mail/log; chown -R Debian-exim /etc/mx.pem /var/spool/exim4 \
                     /srv/mail; exec exim4 -bdf -q1s";
        let daemon = Daemon::start(name, &mut root.shell(setup, &[]), &directory.join("exim.log"));
        Self { directory: root.path("/srv/mail/new"), log: root.path("/srv/mail/log/main"), daemon, _root: Some(root) }
            .greeting(address)
    }

    /// An smtp-sink, which takes all mail and has no TLS.
    pub(crate) fn sink(directory: &Path, address: SocketAddr) -> Self {
        let mail = directory.join("sink");
        fs::create_dir(&mail).expect("the lab's directory is writable");
        // It drops the privileges that it was started with.
        fs::set_permissions(&mail, Permissions::from_mode(0o777)).expect("our own directory");
        let mut sink = Command::new("smtp-sink");
        sink.current_dir(&mail).args(["-u", "nobody", "-d", "mail."]).arg(address.to_string()).arg("100");
        let daemon = Daemon::start("smtp-sink", &mut sink, &directory.join("sink.log"));
        Self { directory: mail, log: directory.join("sink.log"), daemon, _root: None }.greeting(address)
    }

    fn greeting(mut self, address: SocketAddr) -> Self {
        eventually("a greeting", || {
            self.daemon.assert_running();
            Session::open(address)
        });
        self
    }

    /// The files of all messages so far.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        files.map(|file| fs::read(file.path()).expect("a readable file")).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for OtherMta {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

const EXIM: &str = "\
primary_hostname = {name}
local_interfaces = {address}
daemon_smtp_ports = 25
tls_advertise_hosts = *
tls_certificate = /etc/mx.pem
tls_privatekey = /etc/mx.pem
host_lookup =
rfc1413_hosts =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
log_file_path = /srv/mail/log/%s
acl_smtp_rcpt = all
begin acl
all:
  accept
begin routers
here:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = /srv/mail
  maildir_format
  user = Debian-exim
";
