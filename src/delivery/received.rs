//! Our one trace line (RFC 5321 §4.4). It stops a mail that goes round in circles.

use std::fmt;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::shared::Origin;
use crate::transaction::dialogue::Client;

/// The session that the line stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedLine<'a> {
    /// The client, as it introduced itself.
    pub(crate) client: &'a Client,
    /// Where the client comes from.
    pub(crate) origin: Origin,
    /// Our host name.
    pub(crate) hostname: &'a str,
    /// Our id for the transaction.
    pub(crate) id: &'a str,
}

/// The octets between our Received field and a message that begins with `start`; none if more of the message has to be seen. Postfix puts
/// the same octets there.
///
/// - A first line that begins with a blank would continue our field (RFC 5322 §2.2.3). An empty line ends the header before it.
/// - A line of an mbox, `From ..`, is no field. Servers skip it as the first line of a message, and end the header at it elsewhere. It
///   becomes a field.
pub(crate) fn separation(start: &[u8]) -> Option<&'static [u8]> {
    const FROM: &[u8] = b"From ";
    match start {
        [] => None,
        [b' ' | b'\t', ..] => Some(b"\r\n"),
        _ => {
            let line = start.strip_prefix(b">").unwrap_or(start);
            if line.starts_with(FROM) {
                Some(b"X-Mailbox-Line: ")
            } else if FROM.starts_with(line) {
                None
            } else {
                Some(b"")
            }
        }
    }
}

/// A date. Any other one has the same length.
const SOME_DATE: &str = "Thu, 01 Jan 1970 00:00:00 +0000";
/// About how many octets a line has.
const USUAL_OCTETS: usize = 256;

impl ReceivedLine<'_> {
    /// The line, CRLF and all. It names no recipient: a blind copy must stay blind (RFC 5321 §7.2).
    pub(crate) fn line(&self, now: OffsetDateTime) -> String {
        let date = now.format(&Rfc2822).unwrap_or_else(|_| SOME_DATE.to_owned());
        let mut line = String::with_capacity(USUAL_OCTETS);
        // Writing to a string does not fail.
        let _ = self.write(&mut line, &date);
        line
    }

    /// The number of octets of the line, at any time.
    pub(crate) fn octets(&self) -> u64 {
        let mut count = Count(0);
        let _ = self.write(&mut count, SOME_DATE);
        count.0
    }

    fn write(&self, out: &mut impl fmt::Write, date: &str) -> fmt::Result {
        let Self { origin, hostname, id, client: Client { hello, protocol } } = self;
        write!(
            out,
            "Received: from {hello} ({origin})\r\n\tby {hostname} (danelaw) with {protocol} id {id};\r\n\t{date}\r\n"
        )
    }
}

/// Counts the octets that are written to it.
struct Count(u64);

impl fmt::Write for Count {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::smtp::command::Hello;
    use crate::transaction::dialogue::Protocol;

    #[test]
    fn one_field_folded_with_a_date_and_an_offset() {
        // I15.
        for (origin, protocol, from) in [
            (Origin::Address("127.0.0.1".parse().unwrap()), Protocol::Esmtp, "([127.0.0.1])"),
            (Origin::Address("::1".parse().unwrap()), Protocol::Smtp, "([IPv6:::1])"),
            // RFC 5321 §4.4: a comment where there is no address.
            (Origin::UnixSocket, Protocol::Lmtp, "(unix socket)"),
        ] {
            let client = Client { hello: Hello::from(&Name::parse("mail.example").unwrap()), protocol };
            let line = ReceivedLine { client: &client, origin, hostname: "danelaw.example", id: "A1B2" };
            assert_eq!(
                line.line(OffsetDateTime::UNIX_EPOCH),
                format!(
                    "Received: from mail.example {from}\r\n\tby danelaw.example (danelaw) with {protocol} id A1B2;\r\n\
                     \tThu, 01 Jan 1970 00:00:00 +0000\r\n"
                )
            );
        }
    }

    #[test]
    fn messages_that_mean_something_else_behind_our_line() {
        for (start, put) in [
            ("Subject: x\r\n", Some("")),
            ("\r\ntext\r\n", Some("")),
            ("text\r\n", Some("")),
            (" text\r\n", Some("\r\n")),
            ("\ttext\r\n", Some("\r\n")),
            (" \r\n", Some("\r\n")),
            ("From a@b.example Mon Nov 30\r\n", Some("X-Mailbox-Line: ")),
            (">From a@b.example Mon Nov 30\r\n", Some("X-Mailbox-Line: ")),
            ("From: a@b.example\r\n", Some("")),
            ("FROM a\r\n", Some("")),
            ("From\r\n", Some("")),
            ("> quoted\r\n", Some("")),
            (">>", Some("")),
            ("Fr\r\n", Some("")),
            ("", None),
            ("F", None),
            (">", None),
            (">From", None),
        ] {
            assert_eq!(separation(start.as_bytes()), put.map(str::as_bytes), "{start:?}");
        }
    }

    #[test]
    fn the_length_is_known_before_the_date() {
        // RFC 1870 §6.1: MAIL tells the size of the message with the line, which is written later.
        let client = Client { hello: Hello::from(&Name::parse("mail.example").unwrap()), protocol: Protocol::Esmtp };
        let line =
            ReceivedLine { client: &client, origin: Origin::UnixSocket, hostname: "danelaw.example", id: "A1B2" };
        let lengths = [0, 1_000_000_000, 1_792_000_000, 4_102_444_799, 253_402_300_799]
            .map(|seconds| line.line(OffsetDateTime::from_unix_timestamp(seconds).unwrap()).len());
        assert!(lengths.iter().all(|length| *length as u64 == line.octets()), "{lengths:?}");
    }
}
