//! The mails of an mbox file (RFC 4155), one after the other.

use std::io::{self, BufRead, Read};

use super::unpack::MAX_INPUT;

/// The line that begins a mail.
const FROM: &[u8] = b"From ";

/// Whether this is the beginning of an mbox file.
pub fn is_mbox(start: &[u8]) -> bool {
    start.starts_with(FROM)
}

/// Hands each mail on, or none in the place of one that is too long.
///
/// # Errors
/// Those of the input.
pub fn each_mail(mut input: impl BufRead, mut each: impl FnMut(Option<&[u8]>)) -> io::Result<()> {
    let (mut mail, mut line, mut is_first) = (Vec::new(), Vec::new(), true);
    loop {
        line.clear();
        // A line may be as long as a mail.
        let read = (&mut input).take(MAX_INPUT as u64).read_until(b'\n', &mut line)?;
        let begins = line.starts_with(FROM);
        if (read == 0 || begins) && !is_first {
            each((mail.len() <= MAX_INPUT).then_some(&mail));
            mail.clear();
        }
        if read == 0 {
            return Ok(());
        }
        is_first = false;
        if !begins && mail.len() <= MAX_INPUT {
            mail.extend_from_slice(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_begin_with_from() {
        let mbox = b"From a\nSubject: 1\n\nx\n>From y\n\nFrom b\nSubject: 2\n\nFrom c\n";
        let mut mails = Vec::new();
        each_mail(&mbox[..], |mail| mails.push(String::from_utf8_lossy(mail.unwrap()).into_owned())).unwrap();
        assert_eq!(mails, ["Subject: 1\n\nx\n>From y\n\n", "Subject: 2\n\n", ""]);
        assert!(is_mbox(mbox) && !is_mbox(b"From: a"));
    }

    #[test]
    fn a_mail_that_is_too_long_is_left_out() {
        let mbox = [b"From a\n", &vec![b'x'; MAX_INPUT + 1][..], b"\nFrom b\ny\n"].concat();
        let mut mails = Vec::new();
        each_mail(&mbox[..], |mail| mails.push(mail.map(<[u8]>::len))).unwrap();
        assert_eq!(mails, [None, Some(2)]);
    }
}
