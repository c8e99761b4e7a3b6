//! Records: which messages have one, the answers it gives, and that no other mail depends on it.

use std::path::Path;
use std::time::Duration;

use danelaw::config::Address;
use danelaw::report::metrics::{Format, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::{MESSAGE, Trouble, copies, fan_out, scenario};
use crate::lab::mx::{Act, say};
use crate::lab::{self, Lab, Scenario, wait_for};

const TO: [&str; 2] = ["b@example.test", "c@last.example.test"];
const YES: &str = "250";

/// Two domains, of which the last one answers the ends of its first messages so.
async fn lab(store: &Path, ends: &[&str]) -> Lab {
    scenario(2, Trouble::None, store)
        .change(1, |mx| mx.first_ends.lock().unwrap().extend(ends.iter().map(|end| say(end))))
        .start()
        .await
}

/// The last reply to a message from a client of its own.
async fn send(lab: &Lab, to: &[&str], message: &[u8]) -> String {
    lab.client().await.send(to, message).await.last().to_owned()
}

#[tokio::test]
async fn a_record_answers_once() {
    // Decision 17.
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder.path().join("store"), &["451 4.3.0 not now", "451 4.3.0 not now"]).await;
    for _ in 0..2 {
        assert_eq!(
            send(&lab, &TO, MESSAGE).await,
            "451-4.3.0 <c@last.example.test>: 451 4.3.0 mx.last.example.test[127.0.0.2]: not now\n\
             451 4.3.0 send the message again; recipients that have it do not get it twice"
        );
    }
    assert!(send(&lab, &TO, MESSAGE).await.starts_with(YES));
    assert_eq!(copies(&lab), [1, 3]);
    // The same once more is a new message.
    assert!(send(&lab, &TO, MESSAGE).await.starts_with(YES));
    assert_eq!(copies(&lab), [2, 4]);
}

#[tokio::test]
async fn a_message_without_message_id_has_no_record() {
    // Decision 17.
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder.path().join("store"), &["451 4.3.0 not now"]).await;
    let told = send(&lab, &TO, lab::MESSAGE).await;
    assert!(
        told.ends_with("\n451 4.3.0 send the message again; all recipients get it again, because it has no Message-ID"),
        "{told}"
    );
    assert!(send(&lab, &TO, lab::MESSAGE).await.starts_with(YES));
    assert_eq!(copies(&lab), [2, 2]);
}

#[tokio::test]
async fn a_refused_recipient_is_named_when_the_others_have_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let deferred =
        |scenario: Scenario| scenario.change(1, |mx| mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now")));
    let lab = deferred(scenario(3, Trouble::RefusedAtRcpt, &store)).start().await;
    let to = ["b@example.test", "c@d2.example.test", "no@last.example.test"];
    assert!(send(&lab, &to, MESSAGE).await.starts_with("451"));
    assert_eq!(
        send(&lab, &to, MESSAGE).await,
        "550-5.1.1 <no@last.example.test>: 550 5.1.1 mx.last.example.test[127.0.0.3]: no such user\n\
         550 5.1.1 all other recipients have the message"
    );
    assert_eq!(copies(&lab), [1, 2, 0]);
}

#[tokio::test]
async fn recipients_of_one_domain_that_have_the_message_are_kept_apart_from_those_that_do_not() {
    // The second recipient is deferred at RCPT, and accepted on the next attempt.
    let folder = tempfile::tempdir().unwrap();
    let rcpt = vec![say("250 2.1.5 ok"), say("450 4.2.1 greylisted"), say("250 2.1.5 ok")];
    let lab = Scenario::new().mx(|mx| mx.rcpt = rcpt).set(&fan_out(&folder.path().join("store"))).start().await;
    let to = ["one@example.test", "two@example.test"];
    assert!(send(&lab, &to, MESSAGE).await.starts_with("451-4.2.1 <two@example.test>: 450 "));
    assert!(send(&lab, &to, MESSAGE).await.starts_with(YES));
    let asked: Vec<String> = lab.mx().tls().into_iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    // The first one's second transaction was cut before the end of the data.
    wait_for(|| lab.mx().cut() == 1).await;
    assert_eq!(copies(&lab), [2]);
}

#[tokio::test]
async fn a_record_changes_nothing_for_other_messages() {
    // Many open records of the same sender and recipients: other messages hear the same replies as without any.
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&folder.path().join("store"), &["451 4.3.0 not now"; 20]).await;
    let message = |number: usize| {
        format!("Message-ID: <{number}@client.test>\r\nSubject: alarm\r\n\r\nit burns\r\n").into_bytes()
    };
    for number in 0..20 {
        assert!(send(&lab, &TO, &message(number)).await.starts_with("451"));
    }
    for number in 100..110 {
        let heard = lab.client().await.send(&TO, &message(number)).await;
        assert!(heard.rcpt.iter().all(|reply| reply.starts_with("250 2.1.5 mx")) && heard.last().starts_with(YES));
    }
    for one in TO {
        assert!(send(&lab, &[one], &message(200)).await.starts_with(YES));
    }
    assert_eq!(copies(&lab), [20 + 10 + 1, 20 + 10 + 1]);
    // One transaction for each destination, however many records there are.
    assert_eq!(lab.mx().cut(), 0);
    // And their own retries are not changed.
    for number in 0..20 {
        assert!(send(&lab, &TO, &message(number)).await.starts_with(YES));
    }
    assert_eq!(copies(&lab), [31, 51]);
}

#[tokio::test]
async fn a_recipient_that_is_refused_now_may_have_the_message() {
    // Both are refused at RCPT on the second attempt: the answer is still that of the record for the first.
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let first = lab(&store, &["451 4.3.0 not now"]).await;
    assert!(send(&first, &TO, MESSAGE).await.starts_with("451"));
    super::closed(first).await;
    let no = |scenario: Scenario, host| scenario.change(host, |mx| mx.rcpt = vec![say("550 5.1.1 not any more")]);
    let lab = no(no(scenario(2, Trouble::None, &store), 0), 1).start().await;
    let told = send(&lab, &TO, MESSAGE).await;
    assert!(told.starts_with("550-5.1.1 <c@last.example.test>: ") && !told.contains("b@example.test"), "{told}");
    assert!(told.ends_with("550 5.1.1 all other recipients have the message"), "{told}");
}

#[tokio::test]
async fn the_oldest_record_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let lab = scenario(2, Trouble::None, &folder.path().join("store"))
        .change(1, |mx| mx.first_ends.lock().unwrap().extend(std::iter::repeat_n(say("451 4.3.0 not now"), 120)))
        .set("store.entries = 100\nlimits.recipients = 100")
        .start()
        .await;
    let message = |number: usize| format!("Message-ID: <{number}@client.test>\r\n\r\nbody\r\n").into_bytes();
    for number in 0..120 {
        assert!(send(&lab, &TO, &message(number)).await.ends_with("do not get it twice"), "{number}");
    }
    assert_eq!(copies(&lab), [120, 120]);
    // The newest hundred are there; the first one gets a second copy, and is not lost.
    for (number, first) in [(119, 120), (20, 120), (0, 121)] {
        assert!(send(&lab, &TO, &message(number)).await.starts_with(YES), "{number}");
        assert_eq!(copies(&lab)[0], first, "{number}");
    }
}

#[tokio::test]
async fn two_sessions_do_not_send_one_message_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let lab = scenario(2, Trouble::None, &folder.path().join("store"))
        .change(1, |mx| {
            let slowly = Act::Drip("250 2.0.0 at last\r\n".to_owned(), Duration::from_millis(50));
            mx.first_ends.lock().unwrap().push_back(slowly);
        })
        .start()
        .await;
    let mut client = lab.client().await;
    let mut first = std::pin::pin!(client.send(&TO, MESSAGE));
    tokio::select! {
        heard = &mut first => panic!("{heard:?}"),
        () = wait_for(|| copies(&lab) == [1, 1]) => {}
    }
    assert_eq!(
        send(&lab, &TO, MESSAGE).await,
        "451 4.3.5 another session is still sending the same message to the same recipients"
    );
    assert!(first.await.last().starts_with(YES));
    assert_eq!(copies(&lab), [1, 1]);
}

#[tokio::test]
async fn a_refused_message_has_no_key() {
    // `text` is delivered in part, and `text CR more` is refused for its CR: neither answers for the other.
    let text = "Message-ID: <1@client.test>\r\n\r\nbody";
    let (good, bad) = (format!("{text}\r\n"), format!("{text}\r\n\rmore\r\n"));
    for order in [[&good, &bad], [&bad, &good]] {
        let folder = tempfile::tempdir().unwrap();
        let lab = scenario(2, Trouble::None, &folder.path().join("store"))
            .change(1, |mx| mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now")))
            .set("limits.bare_newlines = 'reject'")
            .start()
            .await;
        for message in order {
            let expected = if *message == good { "451-4.3.0 " } else { "554" };
            let told = send(&lab, &TO, message.as_bytes()).await;
            assert!(told.starts_with(expected), "{told}");
        }
        assert!(send(&lab, &TO, good.as_bytes()).await.starts_with(YES));
        assert_eq!(copies(&lab), [1, 2]);
    }
}

/// How a client that does not repeat may end after its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Quit,
    Close,
    Reset,
    /// It closes its half, and the other one behind danelaw.
    HalfClose,
    /// It closes its half, and the other one as soon as it has the reply.
    HalfCloseThenClose,
    Unread,
}

const ENDINGS: [Ending; 6] =
    [Ending::Quit, Ending::Close, Ending::Reset, Ending::HalfClose, Ending::HalfCloseThenClose, Ending::Unread];

/// One message from a client of this kind.
struct Letter<'a> {
    hello: &'a str,
    parameters: &'a str,
    to: &'a [&'a str],
    text: &'a str,
}

impl Letter<'_> {
    fn commands(&self) -> String {
        let Self { hello, parameters, to, text } = self;
        let to: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        format!("{hello} client.test\r\nMAIL FROM:<a@client.test>{parameters}\r\n{to}DATA\r\n{text}.\r\n")
    }

    /// All commands at once; then the client ends as it does.
    async fn go(&self, lab: &Lab, ending: Ending) {
        match &lab.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.unwrap();
                if ending == Ending::Reset {
                    stream.set_zero_linger().unwrap();
                }
                self.talk(stream, (lab, ending)).await;
            }
            Address::Unix(path) => self.talk(UnixStream::connect(path).await.unwrap(), (lab, ending)).await,
        }
    }

    async fn talk(&self, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, (lab, ending): (&Lab, Ending)) {
        let before: usize = copies(lab).iter().sum();
        let quit = if ending == Ending::Quit { "QUIT\r\n" } else { "" };
        stream.write_all(format!("{}{quit}", self.commands()).as_bytes()).await.unwrap();
        match ending {
            Ending::HalfClose => {
                stream.shutdown().await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
            }
            Ending::Quit => _ = stream.read_to_end(&mut Vec::new()).await.unwrap(),
            Ending::Close | Ending::Reset | Ending::HalfCloseThenClose => {
                if ending == Ending::HalfCloseThenClose {
                    stream.shutdown().await.unwrap();
                }
                let mut heard = String::new();
                let mut octets = [0; 4096];
                while !heard.contains("queued as") {
                    let read = stream.read(&mut octets).await.unwrap();
                    assert_ne!(read, 0, "{heard}");
                    heard.push_str(&String::from_utf8_lossy(&octets[..read]));
                }
            }
            Ending::Unread => wait_for(|| copies(lab).iter().sum::<usize>() > before).await,
        }
    }
}

/// Pairs of equal messages for each listener and ending: 1,512 in all, so that 3,024 copies must arrive.
const PAIRS: usize = 42;

const WITH_ID: &str = "Message-ID: <always@client.test>\r\nSubject: alarm\r\n\r\nit burns\r\n";
const WITHOUT_ID: &str = "Subject: alarm\r\n\r\nit burns\r\n";

/// Sends pairs of a letter with each ending, and counts their copies.
async fn pairs(set: &str, (hello, parameters, text): (&str, &str, &str)) {
    let letter = Letter { hello, parameters, to: &["b@example.test", "c@example.test"], text };
    let lab = Scenario::new().set(set).start().await;
    for ending in ENDINGS {
        for _ in 0..2 * PAIRS {
            letter.go(&lab, ending).await;
            // A second session at the same message would be deferred.
            wait_for(|| lab.sessions() == 0).await;
        }
        assert_eq!(lab.mx().take_messages().len(), 2 * PAIRS, "{ending:?}");
    }
    super::closed(lab).await;
}

#[tokio::test]
async fn equal_messages_by_smtp_are_all_delivered() {
    pairs("listener = [{ address = '127.0.0.1:0' }]", ("EHLO", "", WITH_ID)).await;
}

#[tokio::test]
async fn equal_messages_by_prdr_are_all_delivered() {
    pairs("listener = [{ address = '127.0.0.1:0' }]", ("EHLO", " PRDR", WITH_ID)).await;
}

#[tokio::test]
async fn equal_messages_by_lmtp_are_all_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lmtp");
    let set = format!("listener = [{{ kind = 'lmtp', address = 'unix:{}' }}]", socket.display());
    pairs(&set, ("LHLO", "", WITH_ID)).await;
}

#[tokio::test]
async fn equal_messages_by_fan_out_without_message_id_are_all_delivered() {
    let folder = tempfile::tempdir().unwrap();
    pairs(&fan_out(&folder.path().join("store")), ("EHLO", "", WITHOUT_ID)).await;
}

#[tokio::test]
async fn equal_messages_by_fan_out_whose_outcomes_agree_are_all_delivered() {
    let folder = tempfile::tempdir().unwrap();
    pairs(&fan_out(&folder.path().join("store")), ("EHLO", "", WITH_ID)).await;
}

/// A client that has closed its socket behind the reply looks to a writer as one that has gone without it.
#[tokio::test]
async fn equal_messages_by_fan_out_over_a_unix_socket_are_all_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("smtp").display());
    let set = fan_out(&folder.path().join("store")).replace("127.0.0.1:0", &address);
    pairs(&set, ("EHLO", "", WITH_ID)).await;
}

#[tokio::test]
async fn recipients_whose_client_is_lost_are_counted() {
    // A-101, RFC 1047: the remote has the message, and the client is gone.
    let lab = Scenario::new()
        .mx(|mx| mx.end = Act::Drip("250 2.0.0 ok\r\n".to_owned(), Duration::from_millis(20)))
        .start()
        .await;
    let mut client = lab.client().await;
    let to = ["b@example.test", "c@example.test"];
    let mut sent = Box::pin(client.send(&to, MESSAGE));
    tokio::select! {
        heard = &mut sent => panic!("{heard:?}"),
        () = wait_for(|| copies(&lab) == [1]) => {}
    }
    drop(sent);
    client.reset();
    wait_for(|| lab.sessions() == 0).await;
    let written = lab.now().reporter.metrics().written(Moment::default(), Format::Prometheus);
    assert!(written.contains("\ndanelaw_orphaned_accepts_total 2\n"), "{written}");
}
