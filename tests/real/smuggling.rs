//! Smuggling, with real servers behind danelaw (I11, I12, M13, A-80 to A-83).
//!
//! A client hides a message within its message, by DATA or in chunks, after any octets that might look like an end of
//! data. The MX stores one message, or none where danelaw is configured to refuse it, and takes no command out of it.

use crate::case::{Case, Exchange, MX1, Server};
use crate::command::eventually;
use crate::lab::Lab;
use crate::sequences::SEQUENCES;
use crate::smtp::Session;

const SMUGGLED: &[u8] = b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<carol@example.test>\r\nDATA\r\n\
    From: evil@client.test\r\nSubject: smuggled\r\n\r\ntwo\r\n";
const HEADER: &[u8] = b"From: alice@client.test\r\nSubject: honest\r\n\r\none";
/// Postfix as it was before its protection from smuggling.
const CARELESS: Server = Server::Postfix(&[
    "smtpd_forbid_bare_newline = no",
    "smtpd_forbid_unauth_pipelining = no",
    "maillog_file_permissions = 0644",
]);
const REFUSING: &str = "limits.bare_newlines = 'reject'";

/// Each sequence that some server has taken for an end of data, in two messages: after the text, and at its very end.
fn messages() -> impl Iterator<Item = Vec<u8>> {
    SEQUENCES.into_iter().flat_map(|sequence| {
        let twice = [HEADER, sequence, SMUGGLED, sequence, b"RSET\r\n", SMUGGLED].concat();
        [[HEADER, sequence, SMUGGLED].concat(), twice]
    })
}

/// Sends all messages, by DATA and by BDAT, and returns how many were accepted.
#[track_caller]
fn send(lab: &Lab) -> usize {
    let mut taken = 0;
    for (number, message) in messages().enumerate() {
        // Every second message is sent in pieces.
        let answers = if number % 2 == 0 {
            [by_data(lab, &message, message.len()), by_bdat(lab, &message, message.len())]
        } else {
            [by_data(lab, &message, 1), by_bdat(lab, &message, 3)]
        };
        for answer in answers {
            let is_known = ["250 ", "554 5.5.2 ", "554 5.6.0 "].iter().any(|start| answer.starts_with(start));
            assert!(is_known, "{number}: {answer}");
            taken += usize::from(answer.starts_with("250 "));
        }
    }
    taken
}

/// Sends octets by DATA in pieces of this size, and returns the reply.
#[track_caller]
fn by_data(lab: &Lab, message: &[u8], piece: usize) -> String {
    let mut session = envelope(lab);
    session.expect("DATA", 354);
    message.chunks(piece).for_each(|piece| session.send(piece));
    session.send(b".\r\n");
    let answer = session.answer();
    session.expect("QUIT", 221);
    answer
}

/// Sends octets by BDAT in chunks of this size, and returns the reply.
#[track_caller]
fn by_bdat(lab: &Lab, message: &[u8], chunk: usize) -> String {
    let mut session = envelope(lab);
    for octets in message.chunks(chunk) {
        session.send(&[format!("BDAT {}\r\n", octets.len()).as_bytes(), octets].concat());
        assert!(session.answer().starts_with("250 2.0.0 "));
    }
    session.send(b"BDAT 0 LAST\r\n");
    let answer = session.answer();
    session.expect("QUIT", 221);
    answer
}

#[track_caller]
fn envelope(lab: &Lab) -> Session {
    let mut session = Session::open(lab.danelaw_address()).expect("it listens");
    session.expect("EHLO client.test", 250);
    session.expect("MAIL FROM:<alice@client.test>", 250);
    session.expect("RCPT TO:<bob@example.test>", 250);
    session
}

/// Asserts that the MX has as many messages as were accepted, all of them Alice's.
#[track_caller]
fn one_message_each(case: &Case) -> (Lab, usize) {
    let lab = Lab::start(case);
    let taken = send(&lab);
    eventually("all messages", || (lab.messages(&MX1).len() >= taken).then_some(()));
    let stored = lab.messages(&MX1);
    assert_eq!(stored.len(), taken);
    for message in stored {
        let text = String::from_utf8_lossy(&message).into_owned();
        let header = text.replace("\r\n", "\n").split("\n\n").next().unwrap_or_default().to_owned();
        assert!(header.contains("Subject: honest") && !header.contains("evil"), "{text}");
        assert!(text.contains("Subject: smuggled") && text.trim_end().ends_with("two"), "{text}");
    }
    (lab, taken)
}

#[test]
fn to_postfix() {
    let (lab, taken) = one_message_each(&Case::of([Exchange { server: Server::Postfix(&[]), ..MX1 }]));
    assert_eq!(taken, 2 * messages().count());
    assert!(!lab.mx(&MX1).log().contains("evil"));
}

#[test]
fn to_a_careless_postfix() {
    let case = Case::of([Exchange { server: CARELESS, ..MX1 }]);
    let (lab, taken) = one_message_each(&case);
    assert_eq!(taken, 2 * messages().count());
    assert!(!lab.mx(&MX1).log().contains("evil"));
    // With `reject`, danelaw accepts only messages without a bare CR or LF and without NUL.
    let (_, taken) = one_message_each(&Case { danelaw: REFUSING, ..case });
    assert!(taken > 0 && taken < messages().count(), "{taken}");
}

#[test]
fn to_exim() {
    let case = Case::of([Exchange { server: Server::Exim, ..MX1 }]);
    assert_eq!(one_message_each(&case).1, 2 * messages().count());
    let (_, taken) = one_message_each(&Case { danelaw: REFUSING, ..case });
    assert!(taken > 0 && taken < messages().count(), "{taken}");
}

#[test]
fn to_smtp_sink() {
    const CLEAR: &str =
        "rule = [{ domain = 'example.test', level = 'may', reason = 'smtp-sink has no TLS', until = '9999-12-31' }]";
    let case = Case { danelaw: CLEAR, ..Case::of([Exchange { server: Server::Sink, ..MX1 }]) };
    assert_eq!(one_message_each(&case).1, 2 * messages().count());
}
