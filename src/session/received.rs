//! Our one trace line (RFC 5321 §4.4): it is what stops a mail that goes round in circles.

use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::smtp::dialogue::Client;

/// What the line says of the session it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trace<'a> {
    /// The client, as it introduced itself.
    pub(super) client: &'a Client,
    /// The client's address.
    pub(super) address: IpAddr,
    /// Our host name.
    pub(super) hostname: &'a str,
    /// Our id for the transaction.
    pub(super) id: &'a str,
}

impl Trace<'_> {
    /// The line, CRLF and all. It names no recipient: a blind copy must stay blind (RFC 5321 §7.2).
    pub(super) fn line(&self, now: OffsetDateTime) -> String {
        let address = match self.address {
            IpAddr::V4(v4) => format!("[{v4}]"),
            IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
        };
        let date = now.format(&Rfc2822).unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned());
        let Self { hostname, id, client: Client { hello, protocol }, .. } = self;
        format!(
            "Received: from {hello} ({address})\r\n\tby {hostname} (danelaw) with {protocol} id {id};\r\n\t{date}\r\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;
    use crate::smtp::command::Hello;
    use crate::smtp::dialogue::Protocol;

    #[test]
    fn one_field_folded_with_a_date_and_an_offset() {
        // I15.
        let client = Client { hello: Hello::from(&Name::parse("mail.example").unwrap()), protocol: Protocol::Esmtp };
        let trace =
            Trace { client: &client, address: "127.0.0.1".parse().unwrap(), hostname: "danelaw.example", id: "A1B2" };
        assert_eq!(
            trace.line(OffsetDateTime::UNIX_EPOCH),
            "Received: from mail.example ([127.0.0.1])\r\n\tby danelaw.example (danelaw) with ESMTP id A1B2;\r\n\
             \tThu, 01 Jan 1970 00:00:00 +0000\r\n"
        );
    }
}
