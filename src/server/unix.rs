//! Unix sockets that danelaw listens on: their owner, their mode, and the removal of stale ones.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::listener::BACKLOG;
use super::owner;
use crate::config::{self, Owner};

/// Opens a socket. It listens last, so that no client can connect before the file has its owner and mode.
///
/// # Errors
/// The system's error; or another file has its path; or its owner is not known.
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

/// Removes the socket that an earlier process has left behind. Any other file stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket; give another path",
        ));
    }
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program listens on this socket, perhaps another danelaw; stop it, or give another path",
        )),
        Err(error) => Err(error),
    }
}

/// The file of a socket. A file that danelaw has made is removed with it, unless another file has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file that danelaw has made.
    ours: Option<(u64, u64)>,
}

impl SocketFile {
    /// Of a socket that the service manager has opened, and will remove.
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
            // The process ends, and an error has no reader. The next start removes a stale socket.
            let _ = fs::remove_file(&self.path);
        }
    }
}
