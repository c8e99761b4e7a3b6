//! The memory of `danelaw watch --once`: a file of JSON, written anew by each run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::book::Book;

/// The most octets of a file that is read: 100,000 domains take less.
const MAX_OCTETS: u64 = 512 * 1024 * 1024;

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFileError {
    /// The system refuses it.
    #[error("{0}")]
    System(#[from] io::Error),
    /// danelaw has not written it.
    #[error("it is no state of danelaw watch ({0}); delete it and a new one is made, which forgets what was told")]
    Damaged(String),
}

impl Book {
    /// Reads the file; a missing one is an empty memory.
    pub(crate) fn read(path: &Path) -> Result<Self, StateFileError> {
        let octets = match fs::metadata(path) {
            Ok(found) if found.len() > MAX_OCTETS => return Err(StateFileError::Damaged("it is too large".to_owned())),
            Ok(_) => fs::read(path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        serde_json::from_slice(&octets).map_err(|error| StateFileError::Damaged(error.to_string()))
    }

    /// Writes the file: another one beside it, which takes its place when it is whole and on the disk. It is for its owner alone,
    /// since it tells which domains mail goes to.
    pub(crate) fn write(&self, path: &Path) -> Result<(), StateFileError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let written = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&written)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(directory)?.sync_all()?)
    }
}
