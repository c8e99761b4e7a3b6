//! The owner of a socket's file, by the names in /etc/passwd and /etc/group.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::config::Owner;
use crate::operator_file::SETTINGS;

/// Sets the owner of a file.
///
/// # Errors
/// If a name is not known, or if we may not give the file away.
pub(super) fn give(path: &Path, owner: &Owner) -> io::Result<()> {
    let user = number(&owner.user, "/etc/passwd")?;
    let group = owner.group.as_deref().map(|group| number(group, "/etc/group")).transpose()?;
    // A file need not be given to the user that owns it already.
    let user = Some(user).filter(|user| *user != there(path));
    chown(path, user, group).map_err(|error| io::Error::new(error.kind(), refused(owner, &error)))
}

/// The user id of the file's owner.
fn there(path: &Path) -> u32 {
    // A file that is not there has no owner, and cannot be given away either.
    fs::symlink_metadata(path).map_or(u32::MAX, |there| there.uid())
}

/// The system's error, and the remedy: chown(2) lets a user give a file only to a group of its own, and the unit's sandbox
/// does not even let it do that.
fn refused(owner: &Owner, error: &io::Error) -> String {
    let group = owner.group.as_ref().map_or_else(String::new, |group| format!(":{group}"));
    format!(
        "cannot give it to {}{group}: {error}; only root may give a file to another user, and others to a group that they are \
         in; under systemd let danelaw.socket open it (SocketUser=, SocketGroup=), or allow it as \
         config/systemd/unix-socket.conf does (SupplementaryGroups=)",
        owner.user
    )
}

fn number(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, format!("{name:?} is not in {file}; correct listener.owner"));
    find(name, &SETTINGS.text(Path::new(file))?).ok_or_else(missing)
}

/// The third field of the line that starts with the name: passwd(5) and group(5) agree that far.
fn find(name: &str, table: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))?.and_then(|number| number.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_says_what_to_do() {
        let owner = Owner { user: "danelaw".into(), group: Some("postfix".into()) };
        let why = refused(&owner, &io::Error::from_raw_os_error(1));
        for part in ["cannot give it to danelaw:postfix: ", "danelaw.socket", "SocketGroup=", "SupplementaryGroups="] {
            assert!(why.contains(part), "{part} in {why}");
        }
    }

    #[test]
    fn a_file_stays_with_the_user_whose_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let there = fs::metadata(file.path()).unwrap();
        let owner = Owner { user: there.uid().to_string(), group: Some(there.gid().to_string()) };
        give(file.path(), &owner).unwrap();
        assert!(give(Path::new("/nonexistent"), &owner).is_err());
    }

    #[test]
    fn names_have_numbers() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\n+::::::\npostfix:x:101:103::/var/spool/postfix:\n";
        assert_eq!(find("postfix", passwd), Some(101));
        assert_eq!(find("root", passwd), Some(0));
        for missing in ["post", "x", "", "101", "+"] {
            assert_eq!(find(missing, passwd), None, "{missing}");
        }
        assert_eq!(find("mail", "mail:x:8:\n"), Some(8));
        assert_eq!(number("12", "/nowhere").unwrap(), 12);
        assert!(number("nobody such", "/etc/group").unwrap_err().to_string().contains("\"nobody such\" is not in"));
    }
}
