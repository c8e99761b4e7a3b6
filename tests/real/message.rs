//! The message of all tests, and its form in an MX's mailbox.

/// A message with the parts that SMTP software often changes: dots at the start of lines, bytes above 127, a line of
/// the greatest length, blanks at the end of lines, folded and unusual header fields, `From ` at the start of a line.
pub(crate) fn message() -> Vec<u8> {
    let head = "From: Alice <alice@client.test>\r\nTo: Bob <bob@example.test>\r\nSubject: one\r\n\tfolded  subject \r\n\
        Date: Sat, 21 Nov 2026 12:00:00 +0100\r\nMessage-ID: <one@client.test>\r\nX-odd:no blank after the colon\r\n\
        MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";
    let body = "Received: not a header\r\n.\r\n..\r\n. a dot\r\n.dot\r\nFrom here\r\nblanks \t \r\n\r\nGr\u{fc}\u{df}e \u{20ac}\r\n";
    let longest = "x".repeat(998) + "\r\n";
    let end = b"\xff\xfe not even UTF-8\r\n\r\n..\r\n";
    [head.as_bytes(), body.as_bytes(), longest.as_bytes(), end].concat()
}

/// The message on the wire: dots at the start of lines are doubled.
pub(crate) fn stuffed(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|&byte| byte == b'\n');
    lines.flat_map(|line| line.iter().take(usize::from(line.starts_with(b"."))).chain(line)).copied().collect()
}

/// A file of a mailbox: the trace fields that the servers have added, the latest first, and the message below them.
pub(crate) struct Stored {
    /// The `Received` fields, unfolded.
    pub(crate) received: Vec<String>,
    /// The rest of the file, with CRLF at the end of lines.
    pub(crate) message: Vec<u8>,
}

impl Stored {
    pub(crate) fn parse(file: &[u8]) -> Self {
        let mut received = Vec::new();
        let mut rest = file;
        while let Some((field, after)) = trace_field(rest) {
            received.extend(field.strip_prefix("Received: ").map(str::to_owned));
            rest = after;
        }
        let lines = rest.split_inclusive(|&byte| byte == b'\n');
        // The lines of the mailbox end with LF.
        let message = lines.flat_map(|line| line.strip_suffix(b"\n").unwrap_or(line).iter().chain(b"\r\n")).copied();
        Self { received, message: message.collect() }
    }
}

/// The first field of `file`, if it is one that a server adds, and the rest of the file.
fn trace_field(file: &[u8]) -> Option<(String, &[u8])> {
    const ADDED: [&[u8]; 4] = [b"Return-Path: ", b"X-Original-To: ", b"Delivered-To: ", b"Received: "];
    ADDED.iter().find(|name| file.starts_with(name))?;
    let is_end = |pair: &[u8]| pair[0] == b'\n' && pair[1] != b' ' && pair[1] != b'\t';
    let end = file.windows(2).position(is_end)? + 1;
    let words: Vec<_> = std::str::from_utf8(&file[..end]).ok()?.split_whitespace().collect();
    Some((words.join(" "), &file[end..]))
}
