//! Resources that this host has run out of: a fault of this host, which is reported under its own name and never held
//! against a remote or a name server.

use std::io;

use rustix::io::Errno;

/// The resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Scarcity {
    /// Of file descriptors, for this process (EMFILE).
    #[error("danelaw is out of file descriptors (LimitNOFILE)")]
    OwnDescriptors,
    /// Of file descriptors, for all processes (ENFILE).
    #[error("this host is out of file descriptors (fs.file-max)")]
    Descriptors,
    /// Of memory for sockets (ENOBUFS, ENOMEM).
    #[error("this host is out of memory for sockets")]
    Memory,
}

impl Scarcity {
    /// The resource, if that is the meaning of this error.
    pub fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE => Some(Self::OwnDescriptors),
            Errno::NFILE => Some(Self::Descriptors),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_that_ran_out_is_named() {
        // The numbers are Linux's.
        for (number, scarcity) in [
            (24, Some(Scarcity::OwnDescriptors)),
            (23, Some(Scarcity::Descriptors)),
            (105, Some(Scarcity::Memory)),
            (12, Some(Scarcity::Memory)),
            (111, None),
            (99, None),
        ] {
            assert_eq!(Scarcity::of(&io::Error::from_raw_os_error(number)), scarcity, "{number}");
        }
        assert_eq!(Scarcity::of(&io::ErrorKind::OutOfMemory.into()), None);
    }
}
