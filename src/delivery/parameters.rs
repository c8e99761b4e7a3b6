//! MAIL and its parameters, as one remote takes them.

use crate::refusal::Lacking;
use crate::requiretls::TagUnmet;
use crate::smtp::address::{Mailbox, SmtpUtf8};
use crate::smtp::command::{Mail, Prdr, RequireTls};
use crate::smtp::extensions::{Extensions, SizeLimit};
use crate::transaction::{Addressee, Envelope};
use crate::upstream::verified::Terms;

/// MAIL as a remote with these terms takes it, for these recipients. SIZE includes the octets that we add to the message.
///
/// # Errors
/// The extension that the remote lacks for this mail, or the demand of tagged mail that it does not meet.
pub(crate) fn fit(envelope: &Envelope, terms: &Terms, recipients: &[Addressee], added: u64) -> Result<Mail, Lacking> {
    // The one place where the parameter of MAIL is made: the client's own word is never passed on by itself.
    let require_tls = envelope.demand().at(terms.for_tagged()).map_err(lacking_for_tag)?;
    let mail = Mail { require_tls, ..known(&envelope.mail, &terms.extensions, added)? };
    match lacks_utf8(&envelope.mail, &terms.extensions, recipients.iter().map(|recipient| &recipient.mailbox)) {
        true => Err(Lacking::SmtpUtf8),
        false => Ok(mail),
    }
}

/// The lack of a remote that must not have a tagged mail.
fn lacking_for_tag(unmet: TagUnmet) -> Lacking {
    match unmet {
        TagUnmet::Missing => Lacking::RequireTls,
        TagUnmet::Unauthenticated => Lacking::Authentication,
    }
}

/// Whether none of these recipients can be named without SMTPUTF8, or the sender cannot (RFC 6531 §3.5).
fn lacks_utf8<'a>(mail: &Mail, offered: &Extensions, recipients: impl IntoIterator<Item = &'a Mailbox>) -> bool {
    let all_need_it = || recipients.into_iter().all(Mailbox::needs_smtp_utf8);
    !offered.smtp_utf8 && (mail.reverse_path.needs_smtp_utf8() || all_need_it())
}

/// MAIL with the parameters that this remote knows (RFC 5321 §2.2.1), and SIZE with the octets that we add to the message.
fn known(mail: &Mail, offered: &Extensions, added: u64) -> Result<Mail, Lacking> {
    // PRDR is between the client and us. REQUIRETLS is for the tag to say.
    let mut mail = Mail { prdr: Prdr::Absent, require_tls: RequireTls::Absent, ..mail.clone() };
    if !offered.eight_bit_mime {
        mail.body = None;
    }
    if !offered.smtp_utf8 {
        mail.smtp_utf8 = SmtpUtf8::Absent;
    }
    mail.size = mail.size.map(|size| size.saturating_add(added));
    match offered.size {
        SizeLimit::Octets(most) if mail.size.is_some_and(|size| size > most) => Err(Lacking::Size(most)),
        SizeLimit::Octets(_) | SizeLimit::Unlimited => Ok(mail),
        SizeLimit::Undeclared => Ok(Mail { size: None, ..mail }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::ForwardPath;
    use crate::smtp::command::Command;

    fn mail(line: &str) -> Mail {
        match Command::parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_only_where_they_are_understood() {
        // M1, M3, M4, M6.
        let all = Extensions {
            eight_bit_mime: true,
            smtp_utf8: true,
            size: SizeLimit::Octets(5000),
            ..Extensions::default()
        };
        let none = Extensions::default();
        let eight_bit = Extensions { eight_bit_mime: true, ..Extensions::default() };
        let small = Extensions { size: SizeLimit::Octets(2000), ..Extensions::default() };
        let line = "MAIL FROM:<a@b.example>";
        for (parameters, offered, added, expected) in [
            ("", &none, 200, Ok("")),
            (" PRDR", &all, 200, Ok("")),
            (" REQUIRETLS", &all, 200, Ok("")),
            (" BODY=8BITMIME SMTPUTF8", &all, 200, Ok(" BODY=8BITMIME SMTPUTF8")),
            (" BODY=8BITMIME SMTPUTF8", &eight_bit, 200, Ok(" BODY=8BITMIME")),
            (" BODY=8BITMIME SMTPUTF8", &none, 200, Ok("")),
            (" BODY=7BIT SIZE=9", &none, 200, Ok("")),
            (" BODY=7BIT", &eight_bit, 200, Ok(" BODY=7BIT")),
            // RFC 1870 §6.1: with the octets that we add, and no more.
            (" SIZE=900", &all, 200, Ok(" SIZE=1100")),
            (" SIZE=900", &all, 0, Ok(" SIZE=900")),
            (" SIZE=1800", &small, 200, Ok(" SIZE=2000")),
            (" SIZE=1801", &small, 200, Err(Lacking::Size(2000))),
            (" SIZE=18446744073709551615", &all, 200, Err(Lacking::Size(5000))),
        ] {
            let found = known(&mail(&format!("{line}{parameters}")), offered, added);
            let found = found.map(|mail| Command::Mail(mail).to_string());
            assert_eq!(found, expected.map(|parameters| format!("{line}{parameters}")), "{parameters}");
        }
    }

    #[test]
    fn addresses_that_need_smtputf8() {
        // M4.
        let mailbox = |text: &str| match ForwardPath::parse(text, SmtpUtf8::Requested) {
            Ok(ForwardPath::Mailbox(mailbox)) => mailbox,
            other => panic!("{other:?}"),
        };
        let (ascii, utf8) = (mailbox("<a@b.example>"), mailbox("<\u{fc}@b.example>"));
        let offers = Extensions { smtp_utf8: true, ..Extensions::default() };
        for (sender, recipients, offered, lacks) in [
            ("a", vec![ascii.clone()], Extensions::default(), false),
            ("\u{fc}", vec![ascii.clone()], Extensions::default(), true),
            ("\u{fc}", vec![ascii.clone()], offers, false),
            ("a", vec![utf8.clone()], Extensions::default(), true),
            ("a", vec![utf8.clone()], offers, false),
            // The one goes, and the other is refused alone.
            ("a", vec![utf8, ascii], Extensions::default(), false),
        ] {
            let mail = mail(&format!("MAIL FROM:<{sender}@b.example> SMTPUTF8"));
            assert_eq!(lacks_utf8(&mail, &offered, &recipients), lacks, "{sender} {recipients:?}");
        }
    }
}
