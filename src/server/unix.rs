//! Unix sockets that danelaw listens on: whose they are, who may use them, and what was left behind in their place.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::door::BACKLOG;
use super::owner;
use crate::config::{self, Owner};

/// Opens a socket. Nobody can connect before the file is whose it should be: it listens last.
///
/// # Errors
/// What the system says, what is in its place already, or that its owner is not known.
pub(crate) fn open(
    path: &Path,
    mode: config::Permissions,
    owner: Option<&Owner>,
) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    if let Some(owner) = owner {
        owner::give(path, owner)?;
    }
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(OwnedFd::from(socket).into())?, file))
}

/// What a predecessor has left behind goes; what is anybody's stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens on this socket")),
        Err(error) => Err(error),
    }
}

/// The file of a socket. One that we have made is removed with it, unless somebody else has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the one that we have made.
    ours: Option<(u64, u64)>,
}

impl SocketFile {
    /// Of a socket that somebody else has opened, and will remove.
    pub(super) fn of_another(path: PathBuf) -> Self {
        Self { path, ours: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn at(path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), ours: Some((there.dev(), there.ino())) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |there: fs::Metadata| self.ours == Some((there.dev(), there.ino()));
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Nobody is left to be told; the next start removes a socket that nobody listens on.
            let _ = fs::remove_file(&self.path);
        }
    }
}
