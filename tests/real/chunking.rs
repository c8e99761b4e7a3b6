//! A message in chunks, with real servers behind danelaw (M11 to M13, A-83, I12).
//!
//! Postfix and Exim offer CHUNKING and get chunks where the client has sent chunks. They get lines where the client has
//! sent DATA; so does a server that offers no CHUNKING. In every case the MX stores the same octets.

use crate::case::{Case, Exchange, MX1, Server};
use crate::command::eventually;
use crate::lab::Lab;
use crate::message::{Stored, message};
use crate::smtp::Session;

/// How the client sends its message.
#[derive(Clone, Copy, Debug)]
enum By {
    /// As lines.
    Data,
    /// In chunks of so many octets, the last of them empty.
    Bdat(usize),
    /// In one chunk.
    OneBdat,
}

const WAYS: [By; 5] = [By::Data, By::Bdat(1), By::Bdat(7), By::Bdat(1000), By::OneBdat];
/// Postfix without CHUNKING.
const WITHOUT_CHUNKING: Server = Server::Postfix(&["smtpd_discard_ehlo_keywords = chunking"]);
const HEADER: &[u8] = b"From: alice@client.test\r\nTo: bob@example.test\r\nSubject: one\r\n\
    Date: Sat, 21 Nov 2026 12:00:00 +0100\r\nMessage-ID: <one@client.test>\r\n\r\n";

fn with_header(body: &[u8]) -> Vec<u8> {
    [HEADER, body].concat()
}

/// The messages that the client sends, each with the message that the MX stores.
fn messages() -> Vec<(Vec<u8>, Vec<u8>)> {
    let whole = [&b".\r\n..\r\n.a\r\n"[..], b"a\r\n.\r\nQUIT\r\n", b"BDAT 3 LAST\r\nxyz\r\n"].map(with_header);
    let large: Vec<u8> = (0..20_000).flat_map(|line| format!(".{line}\r\n").into_bytes()).collect();
    let whole = whole.into_iter().chain([message(), with_header(&large)]);
    whole.map(|message| (message.clone(), message)).collect()
}

/// Messages that only a count of octets can end, or that are no text, each with its form after `normalize`.
fn odd_messages() -> Vec<(Vec<u8>, Vec<u8>)> {
    [
        // danelaw adds the missing end of the last line.
        (&b"no end"[..], &b"no end\r\n"[..]),
        (b".", b".\r\n"),
        (b"a\n.\nb\r\n", b"a\r\n.\r\nb\r\n"),
        (b"a\r\n.\nb\rc\r\n", b"a\r\n.\r\nb c\r\n"),
        (b"a\n.\r\nMAIL FROM:<evil@client.test>\r\n", b"a\r\n.\r\nMAIL FROM:<evil@client.test>\r\n"),
        (b"at the end\r", b"at the end \r\n"),
    ]
    .map(|(sent, stored)| (with_header(sent), with_header(stored)))
    .to_vec()
}

/// Sends one message and returns the reply to its end.
#[track_caller]
fn send(lab: &Lab, by: By, content: &[u8]) -> String {
    let mut session = Session::open(lab.danelaw_address()).expect("it listens");
    session.expect("EHLO client.test", 250);
    session.expect("MAIL FROM:<alice@client.test>", 250);
    session.expect("RCPT TO:<bob@example.test>", 250);
    let chunk = |octets: &[u8], last: &str| [format!("BDAT {}{last}\r\n", octets.len()).as_bytes(), octets].concat();
    match by {
        By::Data => {
            session.expect("DATA", 354);
            session.send(&crate::message::stuffed(content));
            session.send(b".\r\n");
        }
        By::Bdat(size) => {
            for octets in content.chunks(size) {
                session.send(&chunk(octets, ""));
                let taken = session.answer();
                assert!(taken.starts_with("250 2.0.0 "), "{taken}");
            }
            session.send(b"BDAT 0 LAST\r\n");
        }
        By::OneBdat => session.send(&chunk(content, " LAST")),
    }
    let answer = session.answer();
    session.expect("QUIT", 221);
    answer
}

/// The one message that the MX has stored since it had so many, as it arrived.
#[track_caller]
fn stored(lab: &Lab, seen: &mut Vec<Vec<u8>>) -> Stored {
    let new = eventually("the message", || {
        let mut new = lab.messages(&MX1);
        new.retain(|message| !seen.contains(message));
        (!new.is_empty()).then_some(new)
    });
    assert_eq!(new.len(), 1);
    seen.extend(new.iter().cloned());
    Stored::parse(&new[0])
}

/// Sends each message in each of these ways, and asserts that this server stores the expected one. Returns how many
/// messages arrived by DATA, and by BDAT.
#[track_caller]
fn all_messages_to(server: Server, settings: &'static str) -> (Lab, [usize; 2]) {
    let lab = Lab::start(&Case { danelaw: settings, ..Case::of([Exchange { server, ..MX1 }]) });
    let (mut seen, mut sent) = (Vec::new(), [0, 0]);
    for by in WAYS {
        let messages = match by {
            By::Data => messages(),
            By::Bdat(_) | By::OneBdat => [messages(), odd_messages()].concat(),
        };
        // Octet by octet the large messages would test nothing more.
        let messages = messages.into_iter().filter(|(message, _)| !matches!(by, By::Bdat(..8)) || message.len() < 4000);
        for (message, meant) in messages {
            let answer = send(&lab, by, &message);
            assert!(answer.starts_with("250 2."), "{by:?}: {answer}");
            let found = stored(&lab, &mut seen).message;
            assert!(found == meant, "{by:?}:\n{}\nis not\n{}", found.escape_ascii(), meant.escape_ascii());
            sent[usize::from(!matches!(by, By::Data))] += 1;
        }
    }
    (lab, sent)
}

/// A connection for each message: the log of a Postfix says how each one arrived.
const EACH_ALONE: &str = "remote.idle_connections = 0";

/// How many messages arrived at the Postfix by DATA, and by BDAT.
#[track_caller]
fn came(lab: &Lab) -> [usize; 2] {
    let sessions = lab.mx(&MX1).await_sessions();
    [" data=1 ", " bdat="].map(|verb| sessions.iter().filter(|commands| commands.contains(verb)).count())
}

/// M11 to M13, A-83.
#[test]
fn to_postfix() {
    let (lab, sent) = all_messages_to(Server::Postfix(&[]), EACH_ALONE);
    assert_eq!(came(&lab), sent);
}

/// M11, M13: Postfix gets no chunk, and each message dot-stuffed.
#[test]
fn to_postfix_without_chunking() {
    let (lab, [data, bdat]) = all_messages_to(WITHOUT_CHUNKING, EACH_ALONE);
    assert_eq!(came(&lab), [data + bdat, 0]);
}

/// M11 to M13: several messages on each connection.
#[test]
fn to_exim() {
    let (lab, [data, bdat]) = all_messages_to(Server::Exim, "");
    let log = lab.log(&MX1);
    let [lines, chunks] = [false, true]
        .map(|chunks| log.lines().filter(|line| line.contains(" <= alice@") && line.contains(" K ") == chunks).count());
    assert_eq!([lines, chunks], [data, bdat], "{log}");
}

/// M12: a message of no octets.
#[test]
fn an_empty_message() {
    // Postfix would add the missing header fields.
    const AS_IT_IS: &str = "local_header_rewrite_clients =";
    let lines = Server::Postfix(&["smtpd_discard_ehlo_keywords = chunking", AS_IT_IS]);
    for server in [Server::Postfix(&[AS_IT_IS]), lines, Server::Exim] {
        let lab = Lab::start(&Case::of([Exchange { server, ..MX1 }]));
        let answer = send(&lab, By::Bdat(1), b"");
        assert!(answer.starts_with("250 2."), "{answer}");
        let file = eventually("the message", || lab.messages(&MX1).pop());
        // The header may end the file, so an empty line is added after it.
        let stored = Stored::parse(&[&file[..], b"\n"].concat());
        assert_eq!(stored.received.len(), 2, "{}", file.escape_ascii());
        assert!(stored.message.iter().all(|octet| b"\r\n".contains(octet)), "{}", file.escape_ascii());
    }
}

/// I12, M13: danelaw refuses the same bare newlines; no server gets any part of them.
#[test]
fn bare_newlines_refused() {
    for server in [Server::Postfix(&[]), WITHOUT_CHUNKING, Server::Exim] {
        let case = Case::of([Exchange { server, ..MX1 }]);
        let lab = Lab::start(&Case { danelaw: "limits.bare_newlines = 'reject'", ..case });
        for by in [By::Bdat(1), By::Bdat(1000), By::OneBdat] {
            for (message, meant) in odd_messages() {
                let answer = send(&lab, by, &message);
                // A message that lacks only the end of its last line is not refused.
                let is_fine = meant.strip_suffix(b"\r\n") == Some(&message);
                assert!(answer.starts_with(if is_fine { "250 2." } else { "554 5.5.2 " }), "{by:?}: {answer}");
            }
        }
        eventually("the messages", || (lab.messages(&MX1).len() == 6).then_some(()));
        for file in lab.messages(&MX1) {
            assert!(!String::from_utf8_lossy(&file).contains("evil"));
        }
    }
}
