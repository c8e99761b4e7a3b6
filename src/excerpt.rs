//! Texts of strangers: cut to a length, without characters that steer a terminal, and without a mark before the text.

use std::fmt::{self, Write as _};

/// At most so many characters of a text; three dots stand for the rest.
pub fn cut(text: impl fmt::Display, most: usize) -> String {
    let mut kept = String::new();
    // The write fails only at the limit.
    let _ = write!(Excerpt::new(&mut kept, most), "{text}");
    kept
}

/// The character if it is printable ASCII or a blank; else a question mark. A terminal and a log may have it.
pub fn printable(character: char) -> char {
    if matches!(character, ' '..='~') { character } else { '?' }
}

/// Whether [`printable`] changes no character of a text.
pub fn is_printable(text: impl AsRef<[u8]>) -> bool {
    // Without a branch for each octet the compiler compares many of them at once.
    text.as_ref().iter().fold(true, |all, octet| all & matches!(octet, b' '..=b'~'))
}

/// At most so many characters of a text, each as [`printable`] has it; the rest is counted.
pub fn in_print(text: &str, most: usize) -> String {
    if text.len() <= most && is_printable(text) {
        return text.to_owned();
    }
    let shown = text.chars().take(most).map(printable);
    match text.chars().count() {
        more if more > most => shown.chain(format!("... ({} more)", more - most).chars()).collect(),
        _ => shown.collect(),
    }
}

/// The text without the byte order mark (U+FEFF in UTF-8) that some editors write at the start of a file.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Appends text up to a limit, and three dots in place of the rest.
pub(crate) struct Excerpt<'a> {
    text: &'a mut String,
    left: usize,
}

impl<'a> Excerpt<'a> {
    pub(crate) fn new(text: &'a mut String, most: usize) -> Self {
        Self { text, left: most }
    }
}

impl fmt::Write for Excerpt<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        // In ASCII an octet is a character, and no counting is needed.
        if let (Some(left), true) = (self.left.checked_sub(more.len()), more.is_ascii()) {
            self.text.push_str(more);
            self.left = left;
            return Ok(());
        }
        if let Some((end, _)) = more.char_indices().nth(self.left) {
            self.text.push_str(&more[..end]);
            self.text.push_str("...");
            self.left = 0;
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        self.left -= more.chars().count();
        Ok(())
    }
}
