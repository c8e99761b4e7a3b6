//! The lines of mail logs that tell of a mail to another host.

use csv::{ReaderBuilder, StringRecord};

use crate::name::Name;

/// A heading has some thirty names.
const MAX_HEADING: usize = 4096;

/// Reads the lines of one log.
#[derive(Debug, Default)]
pub(super) struct LogReader {
    /// The columns of a message tracking log, once its heading has come.
    tracking: Option<Tracking>,
    /// A column has the name of a type in place of addresses: `Export-Csv` writes that for a list of them.
    pub(super) has_type_names: bool,
}

/// The columns that matter of a message tracking log of Exchange.
#[derive(Debug)]
struct Tracking {
    separator: u8,
    event: usize,
    recipients: usize,
}

/// The separators of `Export-Csv`, which go by the language of the system.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// The recipients of a mail to another host, by one line.
#[derive(Debug, Default)]
pub(super) struct LoggedMail {
    /// Their domains.
    pub(super) domains: Vec<Name>,
    /// It was delivered or came back. A mail that is tried again has more lines.
    pub(super) is_final: bool,
}

impl LogReader {
    /// The mail to another host that a line tells of, if it does.
    pub(super) fn mail(&mut self, line: &str) -> LoggedMail {
        let line = line.trim_end().trim_start_matches('\u{feff}');
        if let Some(columns) = line.strip_prefix("#Fields:") {
            self.tracking = Tracking::of(columns, b',', ["event-id", "recipient-address"]);
            return LoggedMail::default();
        }
        if let Some(tracking) = Tracking::of_export(line) {
            self.tracking = Some(tracking);
            return LoggedMail::default();
        }
        match &self.tracking {
            Some(tracking) => {
                let recipients = tracking.recipients(line);
                self.has_type_names |= recipients.starts_with("System.");
                // The server separates the addresses, or the command that has exported them.
                let domains = recipients.split([';', ',', ' ']).filter_map(domain).collect();
                LoggedMail { domains, is_final: true }
            }
            None => syslog(line).or_else(|| exim(line)).unwrap_or_default(),
        }
    }
}

fn domain(address: &str) -> Option<Name> {
    let (_, domain) = address.trim().trim_matches(['<', '>']).rsplit_once('@')?;
    Name::parse(domain).ok()
}

/// Postfix, with its programs `smtp` and `lmtp`, and Sendmail, with its mailers `esmtp`, `smtp` and `relay`:
/// `to=<a@example.com>, relay=mx.example.com[192.0.2.1]:25, ..`. An LMTP socket is a mailbox of this host.
fn syslog(line: &str) -> Option<LoggedMail> {
    let (before, after) = line.split_once(" to=<")?;
    let (first, rest) = after.split_once(">, ").or_else(|| after.split_once(">,"))?;
    let by_postfix = before.contains("/smtp[") || (before.contains("/lmtp[") && !rest.contains("[private/"));
    let by_sendmail = ["mailer=esmtp", "mailer=smtp", "mailer=relay"].iter().any(|mailer| rest.contains(mailer));
    let is_remote = (by_postfix && rest.contains("relay=")) || by_sendmail;
    let is_final = ["status=sent", "status=bounced", "stat=Sent"].iter().any(|status| rest.contains(status));
    is_remote.then(|| LoggedMail { domains: first.split(',').filter_map(domain).collect(), is_final })
}

/// Exim: `=> a@example.com R=dnslookup T=remote_smtp H=mx.example.com [192.0.2.1]`, `->` for the further recipients, `==` and
/// `**` for failures; `=> alias <a@example.com>` where the address was another one.
fn exim(line: &str) -> Option<LoggedMail> {
    let mut words = line.split_whitespace().skip_while(|word| !["=>", "->", "==", "**"].contains(word));
    let (mark, first) = (words.next()?, words.next()?);
    let rest: Vec<&str> = words.collect();
    let is_remote = rest.iter().any(|word| word.starts_with("H=") || (word.starts_with("T=") && word.contains("smtp")));
    let address = rest.first().filter(|word| word.starts_with('<')).map_or(first, |word| word);
    let domains = domain(address.trim_end_matches(':')).into_iter().collect();
    is_remote.then_some(LoggedMail { domains, is_final: mark != "==" })
}

impl Tracking {
    /// The columns by the heading that `Get-MessageTrackingLog | Export-Csv` writes, if the line is one.
    fn of_export(line: &str) -> Option<Self> {
        let may_be = line.len() < MAX_HEADING && line.contains("ecipients") && line.to_lowercase().contains("eventid");
        let of = |separator| Self::of(line, separator, ["eventid", "recipients"]);
        SEPARATORS.into_iter().filter(|_| may_be).find_map(of)
    }

    fn of(columns: &str, separator: u8, [event, recipients]: [&str; 2]) -> Option<Self> {
        let row = row(columns, separator)?;
        let at = |name: &str| row.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
        Some(Self { separator, event: at(event)?, recipients: at(recipients)? })
    }

    /// The recipients in a line about mail that leaves the organization's own servers or goes to the next of them.
    fn recipients(&self, line: &str) -> String {
        let row = row(line, self.separator).unwrap_or_default();
        match row.get(self.event) {
            Some("SENDEXTERNAL" | "SEND") => row.get(self.recipients).unwrap_or_default().to_owned(),
            Some(_) | None => String::new(),
        }
    }
}

fn row(line: &str, separator: u8) -> Option<StringRecord> {
    let mut reader = ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true).delimiter(separator);
    reader.from_reader(line.as_bytes()).records().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Vec<String> {
        let mut reader = LogReader::default();
        lines.iter().flat_map(|line| reader.mail(line).domains).map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_mail_that_is_tried_again_is_final_once() {
        let line = |status: &str| format!("postfix/smtp[7]: 4A: to=<x@a.example>, relay=mx[192.0.2.1]:25, {status}");
        for (line, is_final) in [
            (line("status=sent (250 ok)"), true),
            (line("status=bounced (550 no)"), true),
            (line("status=deferred (451 later)"), false),
            ("1abc => x@a.example T=remote_smtp H=mx".to_owned(), true),
            ("1abc ** x@a.example T=remote_smtp H=mx: 550 no".to_owned(), true),
            ("1abc == x@a.example T=remote_smtp defer (-53)".to_owned(), false),
        ] {
            let mail = LogReader::default().mail(&line);
            assert_eq!((mail.domains.len(), mail.is_final), (1, is_final), "{line}");
        }
    }

    #[test]
    fn mail_to_other_hosts_is_found() {
        let found = ["a.example"];
        for line in [
            "Nov 29 10:00:01 mail postfix/smtp[77]: 4Abc: to=<x@a.example>, relay=mx.a.example[192.0.2.1]:25, delay=1, \
             delays=0/0/1/0, dsn=2.0.0, status=sent (250 ok)",
            "2026-11-29T10:00:01+01:00 mail postfix/relay/smtp[77]: 4Abc: to=<x@A.example>, orig_to=<y>, relay=none, delay=1, \
             dsn=4.4.1, status=deferred (connect to mx: Connection timed out)",
            "Nov 29 10:00:01 mail postfix-out/lmtp[77]: 4Abc: to=<x@a.example>, relay=127.0.0.1[127.0.0.1]:2525, status=sent",
            "Nov 29 10:00:01 mail sm-mta[77]: x: to=<x@a.example>, delay=00:00:01, mailer=esmtp, pri=1, relay=mx, stat=Sent",
            "2026-11-29 10:00:01 1abc-0001-AB => x@a.example R=dnslookup T=remote_smtp H=mx.a.example [192.0.2.1] C=\"250 ok\"",
            "2026-11-29 10:00:01 1abc-0001-AB -> alias <x@a.example> R=dnslookup T=remote_smtp H=mx.a.example [192.0.2.1]",
            "2026-11-29 10:00:01 1abc-0001-AB == x@a.example R=dnslookup T=remote_smtp defer (-53): retry time not reached",
            "2026-11-29 10:00:01 1abc-0001-AB ** x@a.example R=dnslookup T=remote_smtp H=mx [192.0.2.1]: SMTP error: 550 no",
        ] {
            assert_eq!(read(&[line]), found, "{line}");
        }
        let two =
            "Nov 29 10:00:01 mail sm-mta[77]: x: to=<x@a.example>,<y@b.example>, mailer=esmtp, relay=mx, stat=Sent";
        assert_eq!(read(&[two]), ["a.example", "b.example"]);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "to=<x@a.example>",
            "Nov 29 10:00:01 mail postfix/local[77]: 4Abc: to=<x@a.example>, relay=local, status=sent",
            "Nov 29 10:00:01 mail postfix/lmtp[77]: 4Abc: to=<x@a.example>, relay=a.example[private/dovecot-lmtp], status=sent",
            "Nov 29 10:00:01 mail postfix/smtpd[77]: NOQUEUE: reject: RCPT from x: 550 no; from=<a@b> to=<x@a.example> proto=ESMTP",
            "Nov 29 10:00:01 mail postfix/smtp[77]: 4Abc: to=<x@not a domain>, relay=none, status=deferred",
            "Nov 29 10:00:01 mail sm-mta[77]: x: to=<x@a.example>, mailer=local, stat=Sent",
            "2026-11-29 10:00:01 1abc-0001-AB <= x@a.example H=client [192.0.2.1] P=esmtp",
            "2026-11-29 10:00:01 1abc-0001-AB => x@a.example R=local_user T=maildir_home",
            "2026-11-29 10:00:01 1abc-0001-AB =>",
        ] {
            assert_eq!(read(&[line]), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_message_tracking_log_is_read_by_its_heading() {
        let heading = "#Fields: date-time,client-ip,event-id,recipient-address,message-subject";
        let lines = [
            "\u{feff}#Software: Microsoft Exchange Server",
            heading,
            "2026-11-29T10:00:01.000Z,192.0.2.1,SENDEXTERNAL,x@a.example;y@b.example,\"a, b\"",
            "2026-11-29T10:00:01.000Z,192.0.2.1,RECEIVE,x@c.example,hello",
            "2026-11-29T10:00:01.000Z,192.0.2.1,DELIVER,x@d.example,\"SENDEXTERNAL,x@e.example\"",
            "2026-11-29T10:00:01.000Z,192.0.2.1,SEND,x@f.example,",
            "cut,",
        ];
        assert_eq!(read(&lines), ["a.example", "b.example", "f.example"]);
        assert_eq!(read(&[lines[2]]), [""; 0], "without the heading, no column is known");
        assert_eq!(read(&["#Fields: date-time,x", lines[2]]), [""; 0]);
    }

    #[test]
    fn an_exported_message_tracking_log_is_read_by_its_heading() {
        let found = ["a.example", "b.example", "f.example"];
        for (separator, join) in [(",", ";"), (",", " "), (";", ", "), (";", ","), ("\t", "; ")] {
            let row =
                |cells: &[&str]| cells.iter().map(|cell| format!("\"{cell}\"")).collect::<Vec<_>>().join(separator);
            let two = ["x@a.example", "y@b.example"].join(join);
            let lines = [
                "#TYPE Selected.Microsoft.Exchange.Management.TransportLogSearchTasks.MessageTrackingEvent".to_owned(),
                row(&["Timestamp", "EventId", "Recipients", "MessageSubject"]),
                row(&["29.11.2026 10:00:01", "SENDEXTERNAL", &two, "a, b; c"]),
                row(&["29.11.2026 10:00:01", "RECEIVE", "x@c.example", "hello"]),
                row(&["29.11.2026 10:00:01", "DELIVER", "x@d.example", "EventId, Recipients"]),
                row(&["29.11.2026 10:00:01", "SEND", "x@f.example", "to=<x@g.example>, relay=mx"]),
                row(&["29.11.2026 10:00:01", "SEND", "", ""]),
            ];
            assert_eq!(read(&lines.each_ref().map(String::as_str)), found, "{lines:?}");
        }
        // Columns that were chosen by hand, and no quotes.
        assert_eq!(read(&["recipients,eventid", "x@a.example,SEND"]), ["a.example"]);
        // A second export behind the first.
        let two = ["EventId,Recipients", "SEND,x@a.example", "Recipients,EventId", "x@b.example,SEND"];
        assert_eq!(read(&two), ["a.example", "b.example"]);
        assert_eq!(read(&["EventId,Recipients of it", "SEND,x@a.example"]), [""; 0]);
    }

    #[test]
    fn an_export_of_types_is_known() {
        for (cell, has_type_names) in
            [("System.String[]", true), ("System.Collections.ArrayList", true), ("x@a.example", false), ("", false)]
        {
            let mut reader = LogReader::default();
            reader.mail("EventId,Recipients");
            reader.mail(&format!("RECEIVE,{cell}"));
            assert!(!reader.has_type_names);
            reader.mail(&format!("SEND,{cell}"));
            assert_eq!(reader.has_type_names, has_type_names, "{cell}");
        }
    }
}
