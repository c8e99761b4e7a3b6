//! PgBouncer before a server, with a session of the server for each connection.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use danelaw::store::DatabaseSettings;
use tempfile::TempDir;

use super::server::{Server, USER, give, settings};
use crate::command::eventually;

/// A running pooler. Its socket is in its directory.
pub(crate) struct Pooler {
    folder: TempDir,
    child: Child,
}

impl Pooler {
    pub(crate) fn before(server: &Server) -> Self {
        let folder = tempfile::Builder::new().prefix("pb").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        give(folder.path());
        let (file, socket) = (folder.path().join("pgbouncer.ini"), folder.path().join(".s.PGSQL.5432"));
        // The limits of a session come as a startup option, which the pooler does not pass on.
        let text = format!(
            "[databases]\ndanelaw = host={} port=5432 dbname=danelaw\n[pgbouncer]\nlisten_port = 5432\n\
             unix_socket_dir = {}\nauth_type = any\npool_mode = session\nignore_startup_parameters = options, extra_float_digits\n",
            server.folder().display(),
            folder.path().display()
        );
        // "any" takes the user of the server from here.
        let text = text.replace("dbname=danelaw\n", "dbname=danelaw user=danelaw\n");
        fs::write(&file, text).unwrap();
        give(&file);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if rustix::process::getuid().is_root() {
            let user = USER.to_string();
            command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.arg("--").arg("/usr/sbin/pgbouncer").arg("-q").arg(&file).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        // The file is there before the pooler listens.
        eventually("PgBouncer listens", || UnixStream::connect(&socket).ok());
        Self { folder, child }
    }

    pub(crate) fn settings(&self) -> DatabaseSettings {
        settings(&format!("postgresql://danelaw@/danelaw?host={}", self.folder.path().display()))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
