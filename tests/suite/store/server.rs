//! A real PostgreSQL of a test's own, and a proxy before it that cuts connections.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use danelaw::store::{DatabaseSettings, Migration};
use tempfile::TempDir;

use crate::command::{eventually, run};

/// initdb refuses root, and the server too: `nobody`.
pub(crate) const USER: u32 = 65534;

/// A running server. Its socket is in its directory, which only its user and root may enter.
pub(crate) struct Server {
    folder: TempDir,
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
}

/// The port in the name of the socket.
const PORT: u16 = 5432;

/// The directory of the binaries, which are in no path.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().map(|entry| entry.unwrap().path());
    let newest = versions.max().expect("the Debian package postgresql is missing: run the tests by tests/run");
    newest.join("bin")
}

/// A command as the server's user. The server dies with the thread that started it.
fn as_user(program: &str) -> Command {
    let program = binaries().join(program);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if rustix::process::getuid().is_root() {
        let user = USER.to_string();
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    }
    command.arg("--").arg(program).env_clear().current_dir("/");
    command
}

/// Gives a path to the server's user.
pub(crate) fn give(path: &Path) {
    if rustix::process::getuid().is_root() {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
}

/// A data directory for all tests, which each of them copies: initdb takes two seconds.
fn template() -> PathBuf {
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgresql");
    let lock = fs::File::create(template.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !template.exists() {
        let made = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        give(made.path());
        let data = made.path().join("data");
        let mut initdb = as_user("initdb");
        initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", "danelaw", "--no-sync", "--no-locale", "-E", "UTF8"]);
        run(&mut initdb);
        // In two steps, so that a template is never half a one.
        let half = template.with_extension("half");
        let _ = fs::remove_dir_all(&half);
        run(Command::new("cp").arg("-a").arg(&data).arg(&half));
        fs::rename(half, &template).unwrap();
    }
    template
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further settings.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        Self::start_on(PORT, settings)
    }

    pub(crate) fn start_on(port: u16, settings: &[&str]) -> Self {
        // The path of a socket has 107 octets at most.
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        give(folder.path());
        let data = folder.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        let socket = format!("unix_socket_directories={}", folder.path().display());
        let always = [
            "listen_addresses=",
            &socket,
            "max_connections=50",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
        ];
        let arguments = always.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, child: None, port, arguments };
        server.up();
        server.sql_in("postgres", "CREATE DATABASE danelaw");
        server
    }

    /// Starts it again.
    pub(crate) fn up(&mut self) {
        let mut command = as_user("postgres");
        command.arg("-D").arg(self.data());
        for setting in &self.arguments {
            command.arg("-c").arg(setting);
        }
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        eventually("PostgreSQL answers", || {
            let mut ready = Command::new(binaries().join("pg_isready"));
            ready.arg("-q").args(self.address()).status().unwrap().success().then_some(())
        });
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal("QUIT", child.id());
            child.wait().unwrap();
        }
    }

    /// Its first process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends a signal to the server and all its processes.
    pub(crate) fn signal(&self, name: &str) {
        let Some(pid) = self.pid() else { return };
        let children = self.children();
        signal(name, pid);
        children.into_iter().for_each(|child| signal(name, child));
    }

    fn children(&self) -> Vec<u32> {
        let children = |pid| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = self.pid().map(children).unwrap_or_default();
        children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
    }

    /// What its processes say that they do, a line each.
    pub(crate) fn titles(&self) -> String {
        let title = |child| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        self.children().into_iter().map(title).collect::<Vec<_>>().join("\n")
    }

    fn address(&self) -> [String; 4] {
        ["-h".to_owned(), self.folder.path().display().to_string(), "-p".to_owned(), self.port.to_string()]
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of its database, by its socket.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://danelaw@/danelaw?host={}", self.folder.path().display())
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        settings(&self.url())
    }

    /// The answer to some SQL, without decoration.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_in("danelaw", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(self.address()).args(["-U", "danelaw", "-d", database, "-v", "ON_ERROR_STOP=1", "-Atqc"]);
        run(psql.arg(sql)).trim().to_owned()
    }

    /// A session that carries out this SQL beside the test.
    pub(crate) fn script(&self, sql: &str) -> Child {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(self.address()).args(["-U", "danelaw", "-d", "danelaw", "-v", "ON_ERROR_STOP=1", "-qc"]);
        psql.arg(sql).stdout(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("CONT");
        self.crash();
    }
}

pub(crate) fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        url: url.parse().unwrap(),
        password_file: None,
        ca: None,
        pepper_file: None,
        connections: 4,
        patience: Duration::from_secs(5),
        migration: Migration::AtStart,
    }
}

fn signal(name: &str, process: u32) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
}

/// A proxy before the server that passes octets until it is told to stop or to cut.
pub(crate) struct Proxy {
    folder: TempDir,
    /// How many octets may pass until the cut; negative: any number.
    left: Arc<AtomicI64>,
    /// Nothing passes.
    parted: Arc<AtomicBool>,
}

impl Proxy {
    pub(crate) fn before(server: &Server) -> Self {
        let folder = tempfile::Builder::new().prefix("pp").tempdir_in("/tmp").unwrap();
        let name = ".s.PGSQL.5432";
        let listener = UnixListener::bind(folder.path().join(name)).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o777)).unwrap();
        let (left, target) = (Arc::new(AtomicI64::new(-1)), server.folder().join(name));
        let parted = Arc::new(AtomicBool::new(false));
        let shared = [(Arc::clone(&left), Arc::clone(&parted)), (Arc::clone(&left), Arc::clone(&parted))];
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared[0].1.load(SeqCst) {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&target) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let [there, back] = shared.clone();
                std::thread::spawn(move || pass([from, to], &there.0, &there.1));
                std::thread::spawn(move || pass([server, client], &back.0, &back.1));
            }
        });
        Self { folder, left, parted }
    }

    /// Cuts all connections at their next octet, and takes no new ones.
    pub(crate) fn part(&self) {
        self.parted.store(true, SeqCst);
    }

    /// Takes new connections again.
    pub(crate) fn join(&self) {
        self.parted.store(false, SeqCst);
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        settings(&format!("postgresql://danelaw@/danelaw?host={}", self.folder.path().display()))
    }

    /// Cuts the connection after this number of octets in both directions. Those that come later pass.
    pub(crate) fn cut_after(&self, octets: i64) {
        self.left.store(octets, SeqCst);
    }

    /// Whether the cut is still to come.
    pub(crate) fn is_armed(&self) -> bool {
        self.left.load(SeqCst) >= 0
    }
}

/// Passes octets. The one that uses up the number that is left cuts its connection, and takes the number away.
fn pass([mut from, mut to]: [UnixStream; 2], left: &AtomicI64, parted: &AtomicBool) {
    let mut octets = [0; 4096];
    loop {
        let read = match from.read(&mut octets) {
            Ok(read) if read > 0 && !parted.load(SeqCst) => read,
            _ => break,
        };
        let mut part = &octets[..read];
        let before = left.load(SeqCst);
        let is_cut = before >= 0 && before < read as i64;
        if is_cut {
            part = &part[..before as usize];
            left.store(-1, SeqCst);
        } else if before >= 0 {
            left.fetch_sub(read as i64, SeqCst);
        }
        if to.write_all(part).is_err() || is_cut {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
