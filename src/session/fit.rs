//! MAIL as a remote can take it: what may be left out where an extension is missing, and what may not.

use super::Received;
use crate::refusal::{Lacking, Reason, Refusals};
use crate::smtp::address::SmtpUtf8;
use crate::smtp::command::{Body, Mail, Prdr};
use crate::smtp::extensions::{Extensions, SizeLimit};

/// What our Received line may add to a message, for SIZE (RFC 1870 §6.1).
const TRACE_OCTETS: u64 = 1024;

/// What becomes of SMTPUTF8 at a remote that does not offer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Utf8 {
    /// The remote is not the one.
    Needed,
    /// It is left out: the addresses are ASCII, and the header will have to be.
    LeftOut,
}

/// Whether a remote was passed over for want of SMTPUTF8.
pub(super) fn lack_smtp_utf8(refusals: &Refusals) -> bool {
    refusals.iter().any(|refusal| matches!(refusal.reason, Reason::Lacking(Lacking::SmtpUtf8)))
}

/// MAIL as this remote can take it (RFC 5321 §2.2.1: parameters only where the extension is offered).
///
/// # Errors
/// What the remote lacks.
pub(super) fn fit(mail: &Mail, offered: &Extensions, (received, utf8): (Received, Utf8)) -> Result<Mail, Lacking> {
    // That is between the client and us.
    let mut mail = Mail { prdr: Prdr::Absent, ..mail.clone() };
    if mail.body == Some(Body::EightBitMime) && !offered.eight_bit_mime {
        // RFC 6152 §3: never 8-bit to a server that does not say it takes it, and we do not rewrite mail.
        return Err(Lacking::EightBitMime);
    }
    if !offered.eight_bit_mime {
        mail.body = None;
    }
    if let (Some(size), Received::Add) = (&mut mail.size, received) {
        *size = size.saturating_add(TRACE_OCTETS);
    }
    if mail.smtp_utf8 == SmtpUtf8::Requested && !offered.smtp_utf8 {
        // RFC 6531 §3.5.
        match utf8 {
            Utf8::Needed => return Err(Lacking::SmtpUtf8),
            Utf8::LeftOut => mail.smtp_utf8 = SmtpUtf8::Absent,
        }
    }
    match offered.size {
        SizeLimit::Octets(most) if mail.size.is_some_and(|size| size > most) => Err(Lacking::Size(most)),
        SizeLimit::Octets(_) | SizeLimit::Unlimited => Ok(mail),
        SizeLimit::Undeclared => Ok(Mail { size: None, ..mail }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::Command;

    #[test]
    fn parameters_only_where_they_are_understood() {
        let all = Extensions {
            eight_bit_mime: true,
            smtp_utf8: true,
            size: SizeLimit::Octets(5000),
            ..Extensions::default()
        };
        let none = Extensions::default();
        let small = Extensions { size: SizeLimit::Octets(2000), ..Extensions::default() };
        let line = "MAIL FROM:<a@b.example>";
        for (parameters, offered, utf8, expected) in [
            ("", &none, Utf8::Needed, Ok("")),
            (" PRDR", &all, Utf8::Needed, Ok("")),
            (" BODY=8BITMIME SMTPUTF8", &all, Utf8::Needed, Ok(" BODY=8BITMIME SMTPUTF8")),
            (" BODY=8BITMIME SMTPUTF8", &all, Utf8::LeftOut, Ok(" BODY=8BITMIME SMTPUTF8")),
            (" BODY=8BITMIME", &none, Utf8::LeftOut, Err(Lacking::EightBitMime)),
            (" BODY=7BIT SIZE=9", &none, Utf8::Needed, Ok("")),
            (" SMTPUTF8", &none, Utf8::Needed, Err(Lacking::SmtpUtf8)),
            (" SMTPUTF8", &none, Utf8::LeftOut, Ok("")),
            (" SIZE=900", &all, Utf8::Needed, Ok(" SIZE=1924")),
            (" SIZE=1000", &small, Utf8::Needed, Err(Lacking::Size(2000))),
        ] {
            let Ok(Command::Mail(mail)) = Command::parse(format!("{line}{parameters}").as_bytes()) else { panic!() };
            let found = fit(&mail, offered, (Received::Add, utf8)).map(|mail| Command::Mail(mail).to_string());
            assert_eq!(found, expected.map(|parameters| format!("{line}{parameters}")), "{parameters}");
        }
    }
}
