//! A mail server whose package cannot be installed beside the others: it runs in a root of its own, this machine's files
//! with those of its package (`tests/real/prepare`) and the lab's configuration over them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::eventually;

/// The root and the processes in it. They end, and the root is removed, with this value.
pub(crate) struct Root {
    /// The process that holds the root's namespaces: of mounts, so that no other process sees it, and of processes, so
    /// that no daemon outlives it.
    holder: Child,
}

impl Root {
    /// The package over this machine's root.
    pub(crate) fn of(package: &str) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(package);
        assert!(package.is_dir(), "{} is not there: run the tests by tests/run", package.display());
        Self::over(&package)
    }

    /// This machine's root, for a server that is installed on this machine.
    pub(crate) fn of_this_machine() -> Self {
        Self::over(Path::new(""))
    }

    fn over(package: &Path) -> Self {
        let holder = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", SETUP])
            .arg(package)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("unshare is there: run the tests by tests/run");
        let mut root = Self { holder };
        eventually("a root", || {
            let ended = root.holder.try_wait().expect("our own child");
            assert!(ended.is_none(), "the root cannot be set up: {ended:?}");
            root.path("ready").exists().then_some(())
        });
        root
    }

    /// The path of a file of the root, outside of its namespace.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        format!("/proc/{}/root{ROOT}/{}", self.holder.id(), file.trim_start_matches('/')).into()
    }

    /// Writes a file, in the place of one that may be there.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("below the root")).expect("the root is writable");
        fs::write(path, text).expect("the root is writable");
    }

    /// A shell's command in the root, with the arguments as `$1` and so on.
    pub(crate) fn shell(&self, command: &str, arguments: &[&str]) -> Command {
        let namespaces = format!("/proc/{}/ns", self.holder.id());
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg(format!("--mount={namespaces}/mnt"))
            .arg(format!("--pid={namespaces}/pid_for_children"))
            .args(["chroot", ROOT, "sh", "-c", command, "sh"])
            .args(arguments);
        nsenter
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // When the first process of the namespace ends, the kernel kills the others.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The path of the root within its namespace. Its writable layer, with the package, is a file system in memory: the
/// upper layer must not lie on another overlay, and no layer within another.
const ROOT: &str = "/mnt/root";
const SETUP: &str = r#"
mount -t tmpfs -o mode=755 tmpfs /mnt
cd /mnt
mkdir upper work root
[ ! -d "$0" ] || cp -a "$0/." upper
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs -o mode=1777 tmpfs root/tmp
mount -t tmpfs -o mode=755 tmpfs root/run
touch root/ready
exec sleep infinity
"#;
