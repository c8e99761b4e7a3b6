//! The memory of `danelaw watch --once`: a file of JSON, written anew by each run.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::book::Book;
use crate::operator_file::DOMAINS;

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFileError {
    /// The system refuses a file.
    #[error("{0}: {1}")]
    System(PathBuf, io::Error),
    /// The directory takes no file.
    #[error("{0}: {1}; the directory must be there and be writable for the user of this command")]
    Directory(PathBuf, io::Error),
    /// It is no file.
    #[error("{0} is no regular file")]
    NoFile(PathBuf),
    /// danelaw has not written it.
    #[error("{0} is no state of danelaw watch ({1}); give another file, or delete it: a new one forgets what was told")]
    Damaged(PathBuf, String),
    /// Another run has it.
    #[error("another look with {0} is under way")]
    InUse(PathBuf),
}

/// A memory, and the place that it is written to. One run has it at a time.
pub(crate) struct MemoryFile {
    /// The memory.
    pub(crate) book: Book,
    path: PathBuf,
    beside: PathBuf,
    new: File,
}

impl MemoryFile {
    /// Opens the memory for a run, before any host is asked: a missing file is an empty memory.
    pub(crate) fn open(path: &Path) -> Result<Self, StateFileError> {
        // Behind a symbolic link the file itself is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // The file is for its owner alone, since it tells which domains mail goes to.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside);
        let new = opened.map_err(|error| StateFileError::Directory(beside.clone(), error))?;
        match new.try_lock() {
            // Another run may have made it the memory since.
            Ok(()) if is_same(&new, &beside) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => return Err(StateFileError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(StateFileError::System(beside, error)),
        }
        Ok(Self { book: read(&path)?, path, beside, new })
    }

    /// Writes the memory: the file beside it takes its place when it is whole and on the disk.
    pub(super) fn write(mut self) -> Result<(), StateFileError> {
        let written = serde_json::to_vec(&self.book).map_err(io::Error::other);
        let put = written.and_then(|written| {
            self.new.set_len(0)?;
            self.new.write_all(&written)?;
            self.new.sync_all()?;
            fs::rename(&self.beside, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        });
        put.map_err(|error| StateFileError::System(self.path, error))
    }
}

/// Whether an open file is the one with this name.
fn is_same(file: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().map(id).ok() == fs::metadata(path).map(id).ok()
}

/// Reads a memory; a missing file is an empty one.
pub(crate) fn read(path: &Path) -> Result<Book, StateFileError> {
    let damaged = |why: String| StateFileError::Damaged(path.to_owned(), why);
    let octets = match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(StateFileError::NoFile(path.to_owned())),
        Ok(_) => DOMAINS.read(path).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => damaged(error.to_string()),
            _ => StateFileError::System(path.to_owned(), error),
        })?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Book::default()),
        Err(error) => return Err(StateFileError::System(path.to_owned(), error)),
    };
    serde_json::from_slice(&octets).map_err(|error| damaged(error.to_string()))
}
