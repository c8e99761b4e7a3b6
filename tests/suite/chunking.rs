//! CHUNKING on both sides (RFC 3030): counted chunks in, and out as chunks or as DATA, always the same one message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::lab::client::Client;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, Scenario, wait_for};
use danelaw::session::{Origin, Stop};
use danelaw::transaction::dialogue::Service;
use danelaw::wire::BLOCK;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A change to a remote's script.
type Change = fn(&mut Mx);

const ENVELOPE: &[&str] = &["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"];

/// The EHLO answer of a remote that takes chunks.
fn offers_chunks(mx: &mut Mx) {
    mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
}

/// A scenario in which danelaw leaves messages as they are, so that tests can compare octets.
fn plain(change: impl FnOnce(&mut Mx)) -> Scenario {
    Scenario::new().mx(change).set("received = false")
}

/// A client whose recipient was accepted.
async fn accepted(lab: &Lab) -> Client {
    let mut client = lab.client().await;
    for line in ENVELOPE {
        assert!(client.command(line).await.starts_with("250 "));
    }
    client
}

fn bdat(content: &[u8], last: &str) -> Vec<u8> {
    [format!("BDAT {}{last}\r\n", content.len()).as_bytes(), content].concat()
}

/// The verbs that the first exchange heard behind RCPT.
fn heard(lab: &Lab) -> Vec<String> {
    let commands = lab.mx().tls();
    commands.iter().skip_while(|line| !line.starts_with("RCPT")).skip(1).cloned().collect()
}

#[tokio::test]
async fn remotes_with_chunking_get_chunks_and_others_lines() {
    // M11, M12, M13, A-08: an offer in the clear does not count.
    let clear_only = |mx: &mut Mx| mx.ehlo = say("250-mx\r\n250-CHUNKING\r\n250 STARTTLS");
    let no_pipelining = |mx: &mut Mx| mx.ehlo_under_tls = say("250-mx\r\n250 CHUNKING");
    let rows: [(Change, &[&str]); 4] = [
        (offers_chunks, &["BDAT 13 LAST"]),
        (no_pipelining, &["BDAT 13 LAST"]),
        (clear_only, &["DATA"]),
        (|_| {}, &["DATA"]),
    ];
    for (change, commands) in rows {
        let lab = plain(change).start().await;
        let mut client = accepted(&lab).await;
        assert_eq!(heard(&lab), [""; 0]);
        client.write(&bdat(b".a\r", "")).await;
        assert_eq!(client.reply().await, "250 2.0.0 3 octets");
        client.write(&bdat(b"\n.\r\n.", "")).await;
        assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        client.write(&bdat(b"\r\nb", " LAST")).await;
        let answer = client.reply().await;
        assert!(answer.starts_with("250 2.0.0 ") && answer.ends_with("queued as 42"), "{answer}");
        assert_eq!(lab.mx().messages(), [b".a\r\n.\r\n.\r\nb\r\n"]);
        assert_eq!(heard(&lab), commands);
        // The next message on the same connection is separate, and is sent in the other form.
        let answers = client.send(&["b@example.test"], b".\r\n").await;
        assert!(answers.last().starts_with("250 2.0.0 "));
        assert_eq!(lab.mx().messages()[1], b".\r\n");
    }
}

#[tokio::test]
async fn a_transaction_in_one_piece() {
    // I20, M12, as Exim sends it; A-84: the octets behind the last one of the chunk are a command.
    for last in ["", " LAST"] {
        let lab = plain(offers_chunks).start().await;
        let mut client = lab.client().await;
        let mut piece = format!("{}\r\n", ENVELOPE.join("\r\n")).into_bytes();
        piece.extend_from_slice(&bdat(b"one\r\n", last));
        if last.is_empty() {
            piece.extend_from_slice(b"NOOP\r\nBDAT 0 LAST\r\n");
        }
        piece.extend_from_slice(b"NOOP\r\nQUIT\r\n");
        client.write(&piece).await;
        assert_eq!(client.codes(2).await, ["250 2.1.0", "250 2.1.5"]);
        if last.is_empty() {
            assert_eq!(client.codes(2).await, ["250 2.0.0", "250 2.0.0"]);
        }
        assert_eq!(client.codes(3).await, ["250 2.0.0", "250 2.0.0", "221 2.0.0"]);
        assert_eq!(lab.mx().messages(), [b"one\r\n"]);
    }
}

#[tokio::test]
async fn an_empty_message() {
    // Decision 10.
    // M12: BDAT 0 LAST, with our trace of it and without.
    for (received, length) in [("received = false", Some(0)), ("received = true", None)] {
        for change in [offers_chunks, |_: &mut Mx| {}] {
            let lab = Scenario::new().mx(change).set(received).start().await;
            let mut client = accepted(&lab).await;
            assert!(client.command("BDAT 0 LAST").await.starts_with("250 2.0.0 "));
            let messages = lab.mx().messages();
            assert_eq!(messages.len(), 1);
            assert!(length.map_or(messages[0].starts_with(b"Received: "), |length| messages[0].len() == length));
        }
    }
}

#[tokio::test]
async fn a_chunk_out_of_order_is_read_and_refused() {
    // M12, J5: the octets of a chunk are never commands.
    let lab = plain(offers_chunks).start().await;
    let mut client = lab.client().await;
    let smuggled = b"MAIL FROM:<evil@client.test>\r\n";
    let no = "503 5.5.1";
    for envelope in [&[][..], &ENVELOPE[..1]] {
        for line in envelope {
            client.command(line).await;
        }
        client.write(&[bdat(smuggled, ""), bdat(smuggled, " LAST"), b"NOOP\r\n".to_vec()].concat()).await;
        assert_eq!(client.codes(3).await, [no, no, "250 2.0.0"]);
    }
    assert!(client.command(ENVELOPE[1]).await.starts_with("250 "));
    // Commands that belong before the message, in the middle of it.
    client.write(&bdat(b"one", "")).await;
    client.write(b"DATA\r\nMAIL FROM:<>\r\nRCPT TO:<c@example.test>\r\nFOO\r\nVRFY x\r\n").await;
    assert_eq!(client.codes(6).await, ["250 2.0.0", no, no, no, "500 5.5.1", "252 2.0.0"]);
    // BDAT behind LAST.
    client.write(&[bdat(b"", " LAST"), bdat(smuggled, ""), bdat(smuggled, " LAST")].concat()).await;
    assert_eq!(client.codes(3).await, ["250 2.0.0", no, no]);
    assert_eq!(lab.mx().messages(), [b"one\r\n"]);
}

#[tokio::test]
async fn reset_drops_the_message() {
    // M12, L13, L2: no remote sees an end, and the session goes on.
    for change in [offers_chunks, |_: &mut Mx| {}] {
        let big = vec![b'a'; 100_000];
        for (command, code) in [("RSET", "250"), ("EHLO client.test", "250"), ("QUIT", "221")] {
            let lab = plain(change).start().await;
            let mut client = accepted(&lab).await;
            client.write(&bdat(&big, "")).await;
            assert_eq!(client.codes(1).await, ["250 2.0.0"]);
            assert!(client.command(command).await.starts_with(code));
            wait_for(|| lab.mx().cut() == 1).await;
            if command != "QUIT" {
                assert!(client.command("BDAT 0 LAST").await.starts_with("503 5.5.1 "));
                assert!(client.send(&["b@example.test"], b"next\r\n").await.last().starts_with("250"));
                assert_eq!(lab.mx().messages(), [b"next\r\n"]);
            }
            assert!(!heard(&lab).iter().any(|line| line.ends_with("LAST")));
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing_behind() {
    // L2: between two chunks, within one, and within the last.
    for change in [offers_chunks, |_: &mut Mx| {}] {
        let big = vec![b'a'; 100_000];
        for sent in [bdat(&big, ""), bdat(&big, "")[..50_000].to_vec(), bdat(&big, " LAST")[..90_000].to_vec()] {
            let lab = plain(change).start().await;
            let mut client = accepted(&lab).await;
            client.write(&sent).await;
            wait_for(|| !heard(&lab).is_empty()).await;
            client.vanish();
            wait_for(|| lab.mx().cut() == 1 && lab.mx().open() == 0).await;
            assert_eq!(lab.mx().messages(), [b""; 0]);
            assert!(!heard(&lab).iter().any(|line| line.ends_with("LAST")));
        }
    }
}

#[tokio::test]
async fn a_count_that_is_none() {
    // M12: the place of the next command is unknown, so no command is read.
    let long = " ".repeat(5000) + "5";
    for count in ["18446744073709551616", "-1", "many", "", "5 FIRST", "5\0", "5\n", &long] {
        let lab = plain(offers_chunks).start().await;
        for first in ["", "BDAT 2\r\nhi"] {
            let mut client = accepted(&lab).await;
            client.write(format!("{first}BDAT {count}\r\nhi RCPT TO:<c@example.test>\r\nQUIT\r\n").as_bytes()).await;
            if !first.is_empty() {
                assert_eq!(client.codes(1).await, ["250 2.0.0"]);
            }
            assert_eq!(client.rest().await, "501 5.5.4 syntax: BDAT octets [LAST]\r\n");
        }
        assert_eq!(lab.mx().messages(), [b""; 0]);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large() {
    // M12, M9: every octet that was announced is read, and then the chunk is refused.
    let lab = plain(offers_chunks).set("limits.message_size = \"64 KiB\"").start().await;
    let mut client = accepted(&lab).await;
    let big = vec![b'a'; 40_000];
    client.write(&[bdat(&big, ""), bdat(&big, ""), bdat(&big, " LAST"), b"NOOP\r\n".to_vec()].concat()).await;
    assert_eq!(client.codes(4).await, ["250 2.0.0", "552 5.3.4", "503 5.5.1", "250 2.0.0"]);
    // I30: the session goes on.
    assert!(client.send(&["b@example.test"], b"next\r\n").await.last().starts_with("250"));
    assert_eq!(lab.mx().messages(), [b"next\r\n"]);
}

#[tokio::test]
async fn bare_newlines() {
    // M13, I12: as in DATA.
    for (setting, chunks, code, messages) in [
        ("normalize", [&b"a\nb\r"[..], b"c"], "250 2.0.0", &[&b"a\r\nb c\r\n"[..]][..]),
        ("normalize", [b"a\r", b"\n."], "250 2.0.0", &[b"a\r\n.\r\n"]),
        ("reject", [b"a\r", b"\nb"], "250 2.0.0", &[b"a\r\nb\r\n"]),
        ("reject", [b"a\r", b"b"], "554 5.5.2", &[]),
        ("reject", [b"a\n.\r\n", b"QUIT\r\n"], "554 5.5.2", &[]),
    ] {
        for change in [offers_chunks, |_: &mut Mx| {}] {
            let lab = plain(change).set(&format!("limits.bare_newlines = {setting:?}")).start().await;
            let mut client = accepted(&lab).await;
            client.write(&[bdat(chunks[0], ""), bdat(chunks[1], " LAST")].concat()).await;
            assert_eq!(client.codes(2).await, ["250 2.0.0", code], "{chunks:?}");
            assert_eq!(lab.mx().messages(), messages, "{chunks:?}");
        }
    }
}

#[tokio::test]
async fn nothing_in_a_chunk_ends_a_message() {
    // A-80, A-83: one message for the remote, in chunks and as DATA.
    let content = b"a\r\n.\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nb\n.\nc\r\n\0.\r\n\
        BDAT 3 LAST\r\nxyz\r\n.\r\n";
    let stored = b"a\r\n.\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nb\r\n.\r\nc\r\n .\r\n\
        BDAT 3 LAST\r\nxyz\r\n.\r\n";
    for change in [offers_chunks, |_: &mut Mx| {}] {
        for size in [1, 2, 5, content.len()] {
            let lab = plain(change).start().await;
            let mut client = accepted(&lab).await;
            let chunks: Vec<_> = content.chunks(size).flat_map(|chunk| bdat(chunk, "")).collect();
            client.write(&[chunks.as_slice(), b"BDAT 0 LAST\r\n"].concat()).await;
            for code in client.codes(content.len().div_ceil(size) + 1).await {
                assert_eq!(code, "250 2.0.0");
            }
            assert_eq!(lab.mx().messages(), [stored]);
            assert_eq!(lab.mx().tls().iter().filter(|line| line.starts_with("MAIL")).count(), 1);
        }
    }
}

#[tokio::test]
async fn a_big_message_goes_in_chunks_that_do_not_wait() {
    // L10, K9: small chunks in, middling ones out, each octet once.
    for extensions in ["250-PIPELINING\r\n250-SIZE", "250-SIZE"] {
        let lab = plain(|mx| mx.ehlo_under_tls = say(&format!("250-mx\r\n{extensions}\r\n250 CHUNKING"))).start().await;
        let mut client = accepted(&lab).await;
        let content: Vec<_> = (0..40_000).flat_map(|line| format!(".{line}\r\n").into_bytes()).collect();
        for chunk in content.chunks(10_007) {
            client.write(&bdat(chunk, "")).await;
            assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        }
        assert!(client.command("BDAT 0 LAST").await.starts_with("250 2.0.0 "));
        assert_eq!(lab.mx().messages(), [content.as_slice()]);
        let chunks = heard(&lab);
        assert!(chunks.len() > 10 && chunks.len() < 30, "{chunks:?}");
    }
}

#[tokio::test]
async fn answers_to_chunks_do_not_pile_up() {
    // A-92: whether the chunks are there at once, or each comes with the next one's command behind it.
    for pipe in ["xBDAT 1\r\n".len(), 1 << 20] {
        let lab = plain(offers_chunks).start().await;
        let (client, ours) = tokio::io::duplex(pipe);
        let (stream, most) = lab::client::Measured::new(ours);
        let caller = crate::lab::caller(Origin::UnixSocket, Service::Smtp);
        let served = danelaw::session::serve(lab.shared.clone(), stream, caller, Stop::default());
        let (mut answers, mut commands) = tokio::io::split(client);
        let sent = async {
            let envelope = format!("EHLO x\r\n{}\r\nBDAT 1\r\n", ENVELOPE.join("\r\n"));
            commands.write_all(envelope.as_bytes()).await.unwrap();
            // All octets that were sent so far are read.
            tokio::time::sleep(Duration::from_millis(300)).await;
            commands.write_all("xBDAT 1\r\n".repeat(5000).as_bytes()).await.unwrap();
            commands.write_all(b"xBDAT 0 LAST\r\nQUIT\r\n").await.unwrap();
        };
        let mut said = Vec::new();
        tokio::join!(served, sent, async { answers.read_to_end(&mut said).await.unwrap() });
        assert!(said.len() > 90_000 && said.ends_with(b"221 2.0.0 Bye\r\n"));
        assert!(most.load(Ordering::Relaxed) < 2 * BLOCK, "{most:?} octets were kept");
        assert_eq!(lab.mx().messages(), ["x".repeat(5001) + "\r\n"].map(String::into_bytes));
    }
}

/// The replies to a client with a message of several chunks, at the end or before it, by the remote's answers.
async fn answers_to(change: impl FnOnce(&mut Mx)) -> (Lab, Vec<String>) {
    let lab = plain(|mx| {
        offers_chunks(mx);
        change(mx);
    });
    let lab = lab.start().await;
    let mut client = accepted(&lab).await;
    let big = vec![b'a'; 40_000];
    let mut codes = Vec::new();
    for last in ["", "", "", "", " LAST"] {
        client.write(&bdat(&big, last)).await;
        codes.extend(client.codes(1).await);
        // Long enough for the remote's answer to be there before the next chunk.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (lab, codes)
}

#[tokio::test]
async fn a_remote_that_refuses_a_chunk() {
    // M12: the message has failed. No LAST is sent, which might be taken for a message of its own.
    let taken = || say("250 2.0.0 taken");
    for (refusal, code) in [("554 5.7.1 spam", "554 5.7.1"), ("452 4.3.1 full", "452 4.3.1")] {
        for chunks in [vec![say(refusal), taken()], vec![taken(), say(refusal), taken()]] {
            let (lab, codes) = answers_to(|mx| mx.chunk = chunks).await;
            let refused = codes.iter().position(|found| found == code).expect("the remote's answer");
            assert!(codes[..refused].iter().all(|code| code == "250 2.0.0"), "{codes:?}");
            assert!(codes[refused + 1..].iter().all(|code| code == "503 5.5.1"), "{codes:?}");
            assert_eq!(lab.mx().messages(), [b""; 0]);
            assert!(!heard(&lab).iter().any(|line| line.ends_with("LAST")));
        }
    }
}

#[tokio::test]
async fn a_remote_that_refuses_the_chunk_before_the_last() {
    // The answer is not there yet when the client's last chunk comes.
    let lab = plain(|mx| {
        offers_chunks(mx);
        mx.chunk = vec![say("552 5.3.4 too much")];
    });
    let lab = lab.start().await;
    let mut client = accepted(&lab).await;
    client.write(&bdat(&[b'a'; 100_000], " LAST")).await;
    assert_eq!(client.codes(1).await, ["552 5.3.4"]);
    assert!(!heard(&lab).iter().any(|line| line.ends_with("LAST")));
    assert_eq!(lab.mx().messages(), [b""; 0]);
}

#[tokio::test]
async fn a_remote_that_offers_chunking_and_does_not_know_bdat() {
    // RFC 3030 §4.2: an answer about the command says no word about the mail. The message is gone, so the client keeps
    // it, and the next try goes as DATA over another connection.
    for refusal in [
        "500 5.5.1 what?",
        "501 5.5.4 syntax",
        "502 5.5.1 not implemented",
        "503 5.5.1 bad sequence",
        "504 5.5.4 no such parameter",
    ] {
        for size in [10, 100_000] {
            let lab = plain(|mx| {
                offers_chunks(mx);
                match size {
                    // Its one chunk is the last one.
                    10 => mx.first_ends.lock().unwrap().push_back(say(refusal)),
                    _ => mx.chunk = vec![say(refusal)],
                }
            });
            let lab = lab.start().await;
            let mut client = accepted(&lab).await;
            let content = vec![b'a'; size];
            client.write(&bdat(&content, " LAST")).await;
            let answer = client.reply().await;
            assert!(answer.starts_with("451 4.5.0 ") && answer.contains("BDAT was answered with"), "{answer}");
            lab.mx().take_messages();
            let connections = lab.mx().connections();
            for line in ENVELOPE {
                assert!(client.command(line).await.starts_with("250 "));
            }
            client.write(&bdat(&content, " LAST")).await;
            let answer = client.reply().await;
            assert!(answer.starts_with("250 2.0.0 "), "{answer}");
            assert_eq!(lab.mx().messages(), [[&content[..], b"\r\n"].concat()]);
            assert_eq!(lab.mx().connections(), connections + 1);
            assert!(lab.mx().tls().iter().any(|line| line == "DATA"));
        }
    }
}

#[tokio::test]
async fn a_remote_that_cannot_count() {
    // A-62, A-64: one answer more than there were chunks, and answers that are none. Their meaning is unknown, so the
    // client keeps its mail.
    for odd in ["250 2.0.0 taken\r\n250 2.0.0 queued", "354 go", "421 4.3.2 bye", "hello"] {
        let (lab, codes) = answers_to(|mx| mx.chunk = vec![say(odd)]).await;
        let failed = codes.iter().find(|code| *code != "250 2.0.0").expect("a no");
        assert!(failed.starts_with("451 4."), "{odd}: {codes:?}");
        assert_eq!(lab.mx().messages(), [b""; 0], "{odd}");
    }
}

#[tokio::test]
async fn a_remote_that_is_lost() {
    // L6, L2: in the middle, and with the last answer outstanding.
    let (lab, codes) = answers_to(|mx| mx.chunk = vec![Act::SayAndReset("250 ok\r\n".to_owned())]).await;
    let failed = codes.iter().find(|code| *code != "250 2.0.0").expect("a no");
    assert_eq!(failed, "451 4.4.2", "{codes:?}");
    assert_eq!(lab.mx().messages(), [b""; 0]);
    let (_, codes) = answers_to(|mx| mx.end = Act::Close).await;
    assert_eq!(codes.last().unwrap(), "451 4.4.2");
    let (_, codes) = answers_to(|mx| mx.end = say("550 5.7.1 spam")).await;
    assert_eq!(codes.last().unwrap(), "550 5.7.1");
}

#[tokio::test]
async fn a_session_that_fails_amid_chunks() {
    // RFC 3030: a filter in the path that knows DATA alone breaks or stalls the session. The next try goes as DATA.
    for failure in [
        Act::Close,
        Act::SayAndReset(String::new()),
        Act::Hang,
        say("hello"),
        Act::SayAndClose("421 4.4.2 timeout\r\n".to_owned()),
    ] {
        for size in [10, 100_000] {
            let remote = |mx: &mut Mx| {
                offers_chunks(mx);
                match size {
                    // Its one chunk is the last one.
                    10 => mx.first_ends.lock().unwrap().push_back(failure.clone()),
                    _ => mx.chunk = vec![failure.clone()],
                }
            };
            let lab = plain(remote).set("timeouts.final = '1s'\ntimeouts.block = '1s'").start().await;
            let content = vec![b'a'; size];
            let mut client = accepted(&lab).await;
            client.write(&bdat(&content, " LAST")).await;
            let answer = client.reply().await;
            assert!(answer.starts_with("451 4."), "{failure:?} {size}: {answer}");
            lab.mx().take_messages();
            let mut client = accepted(&lab).await;
            client.write(&bdat(&content, " LAST")).await;
            assert_eq!(client.codes(1).await, ["250 2.0.0"], "{failure:?} {size}");
            assert_eq!(lab.mx().messages(), [[&content[..], b"\r\n"].concat()]);
            assert!(lab.mx().tls().iter().any(|line| line == "DATA"));
        }
    }
}

/// RFC 5321 §4.5.3.2: a remote does not wait for ever. Here the client is slow, and chunks are not to blame.
#[tokio::test]
async fn a_remote_that_has_waited_too_long_says_nothing_about_chunks() {
    let too_long = "421 4.4.2 timeout";
    let ends = [say(too_long), Act::SayAndClose(format!("{too_long}\r\n")), Act::Close];
    let behind = |answer: &str, end: &Act| {
        Act::SayAndAdd(format!("{answer}\r\n"), Duration::from_millis(300), Box::new(end.clone()))
    };
    let before_any = |mx: &mut Mx, end: &Act| mx.rcpt = vec![behind("250 2.1.5 ok", end)];
    let behind_one = |mx: &mut Mx, end: &Act| mx.chunk = vec![behind("250 2.0.0 taken", end)];
    let rows = [
        (&before_any as &dyn Fn(&mut Mx, &Act), 10, &ends[..]),
        // A remote that closes without a word, behind its answer, may have a filter in front.
        (&behind_one, BLOCK + 10, &ends[..2]),
    ];
    for (change, first, ends) in rows {
        for (end, pipelining, rest) in ends.iter().flat_map(|end| {
            ["250-PIPELINING\r\n", ""].into_iter().flat_map(move |word| [10, 3 * BLOCK].map(|rest| (end, word, rest)))
        }) {
            let remote = |mx: &mut Mx| {
                mx.ehlo_under_tls = say(&format!("250-mx\r\n{pipelining}250 CHUNKING"));
                mx.later = Some(Arc::new(mx.clone()));
                change(mx, end);
            };
            let lab = plain(remote).start().await;
            let [first, rest] = [first, rest].map(|octets| vec![b'a'; octets]);
            for (pause, expected) in [(600, "451 4."), (0, "250 2.0.0")] {
                let mut client = accepted(&lab).await;
                client.write(&bdat(&first, "")).await;
                assert_eq!(client.codes(1).await, ["250 2.0.0"]);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                client.write(&bdat(&rest, " LAST")).await;
                let answer = client.reply().await;
                assert!(answer.starts_with(expected), "{end:?} {pipelining:?}: {answer}");
            }
            assert_eq!(lab.mx().messages(), [[&first[..], &rest, b"\r\n"].concat()]);
            let commands = lab.mx().tls();
            assert!(!commands.iter().any(|line| line == "DATA"), "{end:?} {pipelining:?}: {commands:?}");
        }
    }
}

/// The answers of an honest remote, at odd moments: each message arrives once, and in chunks.
#[tokio::test]
async fn answers_to_chunks_come_late_and_in_pieces() {
    let moment = Duration::from_millis(120);
    for (pipelining, answer) in ["250-PIPELINING\r\n", ""].into_iter().flat_map(|word| {
        [
            Act::Drip("250 2.0.0 taken\r\n".into(), Duration::from_millis(10)),
            Act::SayAndAdd("25".into(), moment, Box::new(say("0 2.0.0 taken"))),
            Act::SayAndAdd("250-2.0.0 so\r\n".into(), moment, Box::new(say("250 2.0.0 taken"))),
            Act::SayAndAdd("250 2.0.0 taken\r".into(), moment, Box::new(Act::Say("\n".into()))),
            Act::Late(moment, Box::new(say("250 2.0.0 taken"))),
        ]
        .map(|answer| (word, answer))
    }) {
        let lab = plain(|mx| {
            mx.ehlo_under_tls = say(&format!("250-mx\r\n{pipelining}250 CHUNKING"));
            mx.chunk = vec![answer.clone()];
        });
        let lab = lab.start().await;
        let big = vec![b'a'; 2 * BLOCK + 10];
        for pause in [0, 60, 200] {
            let mut client = accepted(&lab).await;
            for _ in 0..3 {
                client.write(&bdat(&big, "")).await;
                assert_eq!(client.codes(1).await, ["250 2.0.0"], "{answer:?} {pipelining:?} {pause}");
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            client.write(&bdat(b"", " LAST")).await;
            assert_eq!(client.codes(1).await, ["250 2.0.0"], "{answer:?} {pipelining:?} {pause}");
            assert_eq!(lab.mx().take_messages(), [[&big.repeat(3)[..], b"\r\n"].concat()]);
        }
        assert!(!lab.mx().tls().iter().any(|line| line == "DATA"), "{answer:?} {pipelining:?}");
    }
}

/// A-62, A-64: octets that come while no answer is due. No remote hears of an end, and the next try arrives.
#[tokio::test]
async fn no_octet_between_chunks_is_an_answer_to_the_next_one() {
    for (odd, expected) in [
        (say("250 2.0.0 taken"), "451 4."),
        (say("354 go"), "451 4."),
        (say("451 4.3.0 later"), "451 4.3.0"),
        (say("550 5.7.1 spam"), "550 5.7.1"),
        (say("502 5.5.1 what?"), "451 4."),
        (say("421-4.3.2 bye\r\n421 4.3.2 bye"), "451-4.3.2"),
        (Act::SayAndAdd("42".into(), Duration::from_millis(500), Box::new(say("1 4.3.2 bye"))), "451 4.3.2"),
        (say(""), "451 4."),
        (say("hello"), "451 4."),
        (Act::Say("2".into()), "451 4."),
        (Act::Say("250 2.0.0 taken\n".into()), "451 4."),
        (Act::Close, "451 4."),
        (Act::SayAndCut(String::new()), "451 4."),
        (Act::SayAndReset(String::new()), "451 4."),
        (Act::CloseAndSayInClear("250 2.0.0 taken\r\n".into()), "451 4."),
    ] {
        for (pipelining, rest) in
            ["250-PIPELINING\r\n", ""].into_iter().flat_map(|word| [10, 3 * BLOCK].map(|rest| (word, rest)))
        {
            let lab = plain(|mx| {
                mx.ehlo_under_tls = say(&format!("250-mx\r\n{pipelining}250 CHUNKING"));
                mx.later = Some(Arc::new(mx.clone()));
                let taken = "250 2.0.0 taken\r\n".to_owned();
                mx.chunk = vec![Act::SayAndAdd(taken, Duration::from_millis(100), Box::new(odd.clone()))];
            });
            let lab = lab.set("timeouts.greeting = '1s'\ntimeouts.block = '1s'").start().await;
            let [first, rest] = [BLOCK + 10, rest].map(|octets| vec![b'a'; octets]);
            for (pause, expected) in [(300, expected), (0, "250 2.0.0")] {
                let mut client = accepted(&lab).await;
                client.write(&bdat(&first, "")).await;
                assert_eq!(client.codes(1).await, ["250 2.0.0"]);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                let refused = lab.mx().messages().is_empty() && pause > 0;
                client.write(&bdat(&rest, " LAST")).await;
                let answer = client.reply().await;
                assert!(answer.starts_with(expected), "{odd:?} {pipelining:?}: {answer}");
                assert!(!refused || !heard(&lab).iter().any(|line| line.ends_with("LAST")), "{odd:?}");
            }
            assert_eq!(lab.mx().messages(), [[&first[..], &rest, b"\r\n"].concat()], "{odd:?} {pipelining:?}");
        }
    }
}

/// L11, J5: of two remotes one ends its session between the chunks; the other has the message, once.
#[tokio::test]
async fn a_remote_that_ends_amid_chunks_stops_no_other() {
    for (end, pipelining) in [Act::Close, say("421 4.4.2 timeout"), say("250 2.0.0 taken"), Act::Say("4".into())]
        .into_iter()
        .flat_map(|end| ["250-PIPELINING\r\n", ""].map(|word| (end.clone(), word)))
    {
        let chunking = |mx: &mut Mx| mx.ehlo_under_tls = say(&format!("250-mx\r\n{pipelining}250 CHUNKING"));
        let lab = Scenario::new()
            .mx(chunking)
            .and_domain("other.test", |mx| {
                chunking(mx);
                let taken = "250 2.0.0 taken\r\n".to_owned();
                mx.chunk = vec![Act::SayAndAdd(taken, Duration::from_millis(100), Box::new(end.clone()))];
            })
            .set("received = false\ntimeouts.greeting = '1s'\n[[listener]]\nkind = \"lmtp\"\naddress = \"127.0.0.1:0\"")
            .start()
            .await;
        let mut client = lab.lmtp_client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        for recipient in ["b@example.test", "b@other.test"] {
            assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
        }
        let big = vec![b'a'; BLOCK + 10];
        client.write(&bdat(&big, "")).await;
        assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.write(&bdat(&big, " LAST")).await;
        let codes = client.codes(2).await;
        assert!(codes[0] == "250 2.0.0" && codes[1].starts_with("451 4."), "{end:?} {pipelining:?}: {codes:?}");
        assert_eq!(lab.seen[0].messages(), [[&big[..], &big, b"\r\n"].concat()]);
        assert_eq!(lab.seen[1].messages(), [b""; 0]);
    }
}

#[tokio::test]
async fn a_client_that_is_lost_amid_chunks_says_nothing_about_them() {
    let lab = plain(offers_chunks).start().await;
    for taken in 0..2 {
        let mut client = accepted(&lab).await;
        client.write(&bdat(&[b'a'; 100_000], "")).await;
        assert_eq!(client.codes(1).await, ["250 2.0.0"]);
        if taken == 0 {
            client.write(b"BDAT 100000 LAST\r\na").await;
        } else {
            assert!(client.command("BDAT 0 LAST").await.starts_with("250 2.0.0 "));
        }
    }
    assert_eq!(lab.mx().messages().len(), 1);
    assert!(!lab.mx().tls().iter().any(|line| line == "DATA"));
}

#[tokio::test]
async fn a_refusal_of_the_message_says_nothing_about_chunks() {
    for refusal in ["550 5.7.1 spam", "452 4.3.1 full"] {
        let lab = plain(|mx| (offers_chunks(mx), mx.end = say(refusal)).1).start().await;
        for _ in 0..2 {
            let mut client = accepted(&lab).await;
            client.write(&bdat(b"a", " LAST")).await;
            assert_eq!(client.codes(1).await, [&refusal[..9]]);
        }
        assert!(!lab.mx().tls().iter().any(|line| line == "DATA"));
    }
}

#[tokio::test]
async fn each_recipient_is_answered_at_the_last_chunk() {
    // J5, J3, J4: chunks for one domain, lines for the other, the same message for both.
    let lab = Scenario::new()
        .mx(offers_chunks)
        .and_domain("other.test", |mx| mx.end = say("451 4.2.0 later"))
        .and_domain("third.test", |mx| mx.data = say("554 5.7.1 no"))
        .set("received = false\n[[listener]]\nkind = \"lmtp\"\naddress = \"127.0.0.1:0\"")
        .start()
        .await;
    let mut client = lab.lmtp_client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    for recipient in ["b@example.test", "b@other.test", "b@third.test", "c@example.test"] {
        assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
    }
    client.write(&[bdat(b".one", ""), bdat(b"\r\ntwo", " LAST"), b"NOOP\r\n".to_vec()].concat()).await;
    let codes = client.codes(6).await;
    assert_eq!(codes, ["250 2.0.0", "250 2.0.0", "451 4.2.0", "554 5.7.1", "250 2.0.0", "250 2.0.0"]);
    for seen in &lab.seen[..2] {
        assert_eq!(seen.messages(), [b".one\r\ntwo\r\n"]);
    }
    // If no recipient is accepted, no answer is due for the last chunk, and one for any other.
    client
        .write(&[b"MAIL FROM:<>\r\n".to_vec(), bdat(b"one", ""), bdat(b"two", " LAST"), b"NOOP\r\n".to_vec()].concat())
        .await;
    assert_eq!(client.codes(3).await, ["250 2.1.0", "503 5.5.1", "250 2.0.0"]);
    // The answers are counted as well for a message that no destination can take.
    client.command("MAIL FROM:<a@client.test>").await;
    for recipient in ["b@third.test", "c@third.test"] {
        assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
    }
    client.write(&[bdat(b"one", ""), bdat(b"two", " LAST"), b"NOOP\r\n".to_vec()].concat()).await;
    assert_eq!(client.codes(4).await, ["250 2.0.0", "554 5.7.1", "554 5.7.1", "250 2.0.0"]);
}

#[tokio::test]
async fn prdr_with_chunks() {
    // J5 for Exim, which sends both.
    let scenario = plain(offers_chunks).and_domain("other.test", |mx| mx.end = say("550 5.7.1 no"));
    let lab = scenario.start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test> PRDR").await;
    for recipient in ["b@example.test", "b@other.test"] {
        assert!(client.command(&format!("RCPT TO:<{recipient}>")).await.starts_with("250 "));
    }
    client.write(&[bdat(b"one", ""), bdat(b"", " LAST")].concat()).await;
    assert_eq!(client.codes(5).await, ["250 2.0.0", "353", "250 2.0.0", "550 5.7.1", "250 2.0.0"]);
}

#[tokio::test]
async fn binary_mail_is_not_taken() {
    // M14, M15: BINARYMIME is not offered, so no remote ever gets a message with it.
    let lab = plain(offers_chunks).start().await;
    let mut client = lab.client().await;
    let offered = client.command("EHLO client.test").await;
    assert!(offered.contains("CHUNKING") && !offered.contains("BINARYMIME"), "{offered}");
    assert!(client.command("MAIL FROM:<a@client.test> BODY=BINARYMIME").await.starts_with("501 5.5.4 "));
    // RFC 6152 §3: and a remote that takes seven bits gets no eight-bit message.
    let lab = plain(|mx| mx.ehlo_under_tls = say("250-mx\r\n250 CHUNKING")).start().await;
    let mut client = accepted(&lab).await;
    client.write(&bdat(b"\xff\r\n", " LAST")).await;
    assert_eq!(client.codes(1).await, ["554 5.6.3"]);
    assert_eq!(lab.mx().messages(), [b""; 0]);
}

/// A stray reply behind EHLO shifts all others by one, and chunks have no 354 that would show it. So the answer to RCPT
/// is never a yes to the message, whose own answer is a no (RFC 3463 §3.2).
#[tokio::test]
async fn a_reply_to_another_command_is_no_success() {
    let stray = |mx: &mut Mx| {
        let ehlo = "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n".to_owned();
        mx.ehlo_under_tls = Act::SayAndAdd(ehlo, Duration::from_millis(100), Box::new(say("250 2.0.0 stray")));
        mx.end = say("550 5.7.1 no");
    };
    let late = |code: &str| vec![Act::Late(Duration::from_millis(500), Box::new(say(&format!("{code} ok"))))];
    let chunks = [bdat(&vec![b'a'; 2 * BLOCK], ""), bdat(b"", " LAST")].concat();
    for (rcpt, message, expected) in [
        // It is there before the first chunk.
        (vec![say("250 2.1.5 ok")], bdat(b"a", " LAST"), "451 4.5.0"),
        (vec![say("250 ok")], chunks.clone(), "451 4.5.0"),
        // A refusal of one recipient is no refusal of the message.
        (vec![say("550 5.1.1 no")], bdat(b"a", " LAST"), "451 4.5.0"),
        // The stray reply comes behind the first chunk.
        (late("250 2.1.5"), bdat(b"a", " LAST"), "451 4.4.2"),
        (late("251 2.1.0"), bdat(b"a", " LAST"), "451 4.4.2"),
        (late("250 2.1.5"), chunks.clone(), "451 4.5.0"),
    ] {
        let lab = plain(|mx| (stray(mx), mx.rcpt = rcpt.clone()).1).start().await;
        let mut client = accepted(&lab).await;
        if matches!(rcpt[0], Act::Say(_)) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        client.write(&message).await;
        let answers = client.codes(if message.len() > BLOCK { 2 } else { 1 }).await;
        // danelaw may answer a chunk before the remote's first reply about it.
        assert_eq!(answers.iter().find(|answer| !answer.starts_with("250")).unwrap(), expected, "{rcpt:?}");
        wait_for(|| lab.mx().open() == 0).await;
        assert!(!heard(&lab).iter().any(|line| line == "QUIT"), "{rcpt:?}");
    }
}

/// Servers with odd enhanced codes get their mail: servers that answer 2.1.0 to chunks get it at once, and servers with
/// a code about an address at the end get it with the next try, which has a 354.
#[tokio::test]
async fn honest_answers_that_speak_of_an_address() {
    let lab = plain(|mx| (offers_chunks(mx), mx.chunk = vec![say("250 2.1.0 chunk accepted")]).1).start().await;
    let mut client = accepted(&lab).await;
    client.write(&[bdat(&vec![b'a'; 2 * BLOCK], ""), bdat(b"", " LAST")].concat()).await;
    assert_eq!(client.codes(2).await, ["250 2.0.0", "250 2.0.0"]);
    let lab = plain(|mx| (offers_chunks(mx), mx.end = say("250 2.1.5 ok")).1).start().await;
    for (expected, verb) in [("451 4.4.2", "BDAT"), ("250 2.1.5", "DATA")] {
        let mut client = accepted(&lab).await;
        client.write(&bdat(b"a", " LAST")).await;
        assert_eq!(client.codes(1).await, [expected]);
        assert!(heard(&lab).iter().any(|line| line.starts_with(verb)));
    }
}
