//! Whose a socket's file is, by the names in /etc/passwd and /etc/group.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;

use crate::config::Owner;

/// Gives a file to its owner.
///
/// # Errors
/// If a name is not known, or if we may not give the file away.
pub(super) fn give(path: &Path, owner: &Owner) -> io::Result<()> {
    let user = number(&owner.user, "/etc/passwd")?;
    let group = owner.group.as_deref().map(|group| number(group, "/etc/group")).transpose()?;
    chown(path, Some(user), group)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot give it to {}: {error}", owner.user)))
}

fn number(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name:?} is not in {file}"));
    find(name, &fs::read_to_string(file)?).ok_or_else(missing)
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
