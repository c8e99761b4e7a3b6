//! The ends of messages and of sessions, by the clock and by the kernel: how long a client waits for its answer, which yes
//! of a remote counts, and the last word to a client in a session that is cut.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener as OpenPort};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::client::Client;
use crate::lab::mx::{Act, Mx, say};
use crate::lab::{self, Lab, MESSAGE, Scenario, wait_for};
use crate::process::is_alone;
use danelaw::config::{Config, DEFAULTS};
use danelaw::server::{Drained, OpenListener, Socket};
use danelaw::session::{self, Origin, Stop};
use danelaw::transaction::dialogue::Service;
use danelaw::wire::{Wire, WireError, by};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A change of a remote's script.
type Change = fn(&mut Mx);

/// A message of so many octets and a few.
fn message(octets: usize) -> Vec<u8> {
    let line = b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    [b"Subject: x\r\n\r\n", &line.repeat(octets / line.len())[..]].concat()
}

/// A client that has heard 354.
async fn started(lab: &Lab) -> Client {
    let mut client = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"] {
        assert!(client.command(command).await.starts_with("250 "));
    }
    assert!(client.command("DATA").await.starts_with("354 "));
    client
}

/// A remote that takes chunks, and answers them while the next are on their way.
fn pipelines_chunks(mx: &mut Mx) {
    mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250 CHUNKING");
}

#[tokio::test]
async fn one_deadline_from_the_end_of_data_to_the_answer() {
    // RFC 5321 §4.5.3.2.6: each of these is slow in another place, and none of them breaks the limit of a single block.
    let rows: [(&str, Change); 3] = [
        ("the answer", |mx| mx.end = Act::Late(Duration::from_secs(20), Box::new(say("250 2.0.0 ok")))),
        ("answers to chunks that were pipelined", |mx| {
            pipelines_chunks(mx);
            mx.chunk = vec![Act::Drip("250 2.0.0 taken\r\n".into(), Duration::from_millis(60))];
        }),
        ("octets that the remote does not read", |mx| mx.amid_message = Some(Act::Hang)),
    ];
    for (case, change) in rows {
        let limits = "timeouts.final = '1500ms'\ntimeouts.block = '10s'\ntimeouts.client = '60s'";
        let lab = Scenario::new().mx(change).set(limits).start().await;
        let mut client = lab.client().await;
        for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"] {
            client.command(command).await;
        }
        // More than the kernels hold would not be read to its end.
        let content = message(700_000);
        let (began, reply) = match case.starts_with("answers") {
            true => {
                client.write(format!("BDAT {} LAST\r\n", content.len()).as_bytes()).await;
                client.write(&content).await;
                (Instant::now(), client.reply().await)
            }
            false => {
                client.command("DATA").await;
                client.write(&[&content[..], b".\r\n"].concat()).await;
                (Instant::now(), client.reply().await)
            }
        };
        let took = began.elapsed();
        assert!(reply.starts_with("451 4.4.2 "), "{case}: {reply}");
        assert!(took < Duration::from_secs(6), "{case}: {took:?}");
        assert!(took > Duration::from_millis(1000), "{case}: {took:?}");
        assert!(client.command("NOOP").await.starts_with("250 "), "{case}");
    }
}

#[tokio::test]
async fn success_before_the_message_has_arrived_is_not_believed() {
    // The end of data is in the kernel's buffer, and the remote has read the first lines.
    let early =
        |then: fn(String) -> Act| Act::Late(Duration::from_millis(700), Box::new(then("250 2.0.0 ok\r\n".into())));
    let ends: [fn(String) -> Act; 4] = [Act::Say, Act::SayAndClose, Act::SayAndCut, Act::SayAndReset];
    for versions in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for end in ends {
            let change = |mx: &mut Mx| {
                mx.amid_message = Some(early(end));
                mx.versions = vec![versions];
            };
            let lab =
                Scenario::new().mx(change).set("timeouts.final = '10s'\nremote.idle_connections = 10").start().await;
            let answers = lab.client().await.send(&["b@example.test"], &message(1_500_000)).await;
            let text = "451 4.4.2 mx1.example.test[127.0.0.1]: the remote answered 250 2.0.0 ok before it had the end";
            assert!(answers.last().starts_with(text), "{answers:?}");
            // It is not trusted with another mail on this connection.
            wait_for(|| lab.mx().open() == 0).await;
            lab.send().await;
            assert_eq!(lab.mx().connections(), 2);
        }
    }
}

#[tokio::test]
async fn a_refusal_before_the_message_has_arrived_is_relayed() {
    let no = Act::Late(Duration::from_millis(700), Box::new(say("552 5.3.4 too much")));
    let lab = Scenario::new().mx(|mx| mx.amid_message = Some(no)).set("timeouts.final = '10s'").start().await;
    let answers = lab.client().await.send(&["b@example.test"], &message(1_500_000)).await;
    assert!(answers.last().starts_with("552 5.3.4 "), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_remotes_are_believed() {
    // A false alarm would be a second copy, again and again: messages of every size, on new connections and on used ones, as
    // lines and as chunks, and remotes that close or reset at once behind their yes.
    let rounds = if lab::long() { 2_000 } else { 60 };
    let rows: [(&str, Change); 4] = [
        ("remote.idle_connections = 10", |_| {}),
        ("remote.idle_connections = 10", |mx| mx.versions = vec![&rustls::version::TLS12]),
        ("remote.idle_connections = 10", pipelines_chunks),
        ("", |mx| mx.end = Act::SayAndReset("250 2.0.0 queued\r\n".into())),
    ];
    for (keys, change) in rows {
        let lab = Scenario::new().remember().mx(change).set(keys).set("timeouts.final = '10s'").start().await;
        let clients = (0..4).map(|client| {
            let lab = &lab;
            async move {
                let mut session = lab.client().await;
                for round in 0..rounds {
                    let octets = match (client + round) % 30 {
                        29 => 100_000,
                        place => [0, 100, 700, 3_000, 16_300][place % 5],
                    };
                    let answers = session.send(&["b@example.test"], &message(octets)).await;
                    assert!(answers.last().starts_with("250 2.0.0 "), "{octets}: {answers:?}");
                }
            }
        });
        futures_util::future::join_all(clients).await;
        assert_eq!(lab.mx().messages().len(), 4 * rounds);
    }
}

/// Everything a client hears after the end of grace.
async fn last_words(lab: &mut Lab, client: Client) -> String {
    lab.stop();
    let (rest, drained) = tokio::join!(client.rest(), lab.stopped());
    assert_eq!(drained, Drained::Cut(1));
    rest
}

#[tokio::test]
async fn a_transaction_that_is_cut_hears_421() {
    // RFC 5321 §3.8: at each point of a transaction, and no word more.
    let short = "timeouts.grace = '300ms'\ntimeouts.final = '20s'";
    let only = "421 4.3.2 danelaw is shutting down\r\n";
    // Between two commands.
    let mut lab = Scenario::new().set(short).start().await;
    let mut client = lab.client().await;
    for command in ["MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>"] {
        client.command(command).await;
    }
    assert_eq!(last_words(&mut lab, client).await, only);
    assert!(lab.mx().messages().is_empty());
    // In the middle of a message.
    let mut lab = Scenario::new().set(short).start().await;
    let mut client = started(&lab).await;
    client.write(b"half a mess").await;
    assert_eq!(last_words(&mut lab, client).await, only);
    wait_for(|| lab.mx().cut() == 1).await;
    assert!(lab.mx().messages().is_empty());
    // While the remote's answer is open (RFC 1047): the 421 makes no claim about the message.
    let mut lab = Scenario::new().mx(|mx| mx.end = Act::Hang).set(short).start().await;
    let mut client = started(&lab).await;
    client.write(MESSAGE).await;
    client.write(b".\r\n").await;
    wait_for(|| lab.mx().messages().len() == 1).await;
    assert_eq!(last_words(&mut lab, client).await, only);
    // While a recipient is asked for.
    let mut lab = Scenario::new().mx(|mx| mx.rcpt = vec![Act::Hang]).set(short).start().await;
    let mut client = lab.client().await;
    client.write(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\n").await;
    assert!(client.reply().await.starts_with("250 2.1.0"));
    assert_eq!(last_words(&mut lab, client).await, only);
}

#[tokio::test]
async fn a_client_that_does_not_listen_does_not_hold_the_end_up() {
    let mut lab = Scenario::new().set("timeouts.grace = '200ms'").start().await;
    let mut client = started(&lab).await;
    client.write(b"half a mess").await;
    let began = Instant::now();
    lab.stop();
    assert_eq!(lab.stopped().await, Drained::Cut(1));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(client);
}

/// How many octets a client can send to a listener where no connection is accepted, from a socket with a small buffer of its own.
fn held(address: SocketAddr) -> usize {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut client, mut sent, mut idle) = (std::net::TcpStream::from(socket), 0, 0);
    while idle < 40 {
        match client.write(&[b'x'; 4096]) {
            Ok(octets) => (sent, idle) = (sent + octets, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[tokio::test]
async fn buffers_between_client_and_danelaw_are_small() {
    // These octets have been sent, and their client counts its ten minutes already.
    let mut table: toml::Table = DEFAULTS.parse().unwrap();
    let listener: toml::Table = "[[listener]]\naddress = '127.0.0.1:0'".parse().unwrap();
    table.extend(listener);
    let config: Config = table.try_into().unwrap();
    let listener = &config.listener[0];
    let inherited = OpenPort::bind("127.0.0.1:0").unwrap();
    for listener in
        [OpenListener::open(listener).unwrap(), OpenListener::inherit(listener, Socket::Tcp(inherited)).unwrap()]
    {
        let danelaw::config::Address::Tcp(address) = listener.address().unwrap() else { panic!() };
        let held = tokio::task::spawn_blocking(move || held(address)).await.unwrap();
        assert!((16 * 1024..512 * 1024).contains(&held), "{held}");
    }
}

#[tokio::test]
async fn a_client_that_takes_no_reply_holds_up_no_stop() {
    // I8, I10: the 421 to a client that was silent does not fit, and is given up when the session is cut.
    const LIMIT: Duration = Duration::from_secs(300);
    let lab = Scenario::new().set("timeouts.client = '5m'\ntimeouts.final = '4m'").remember().start().await;
    lab.stop_the_clock(&["example.test"]).await;
    for with_transaction in [&b""[..], b"HELO c\r\nMAIL FROM:<a@client.test>\r\n"] {
        let (client, ours) = tokio::io::duplex(16);
        let (stop, caller) = (Stop::default(), crate::lab::caller(Origin::UnixSocket, Service::Smtp));
        let served = tokio::spawn(session::serve(lab.shared.clone(), ours, caller, stop.clone()));
        let (mut replies, mut commands) = tokio::io::split(client);
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            // The client reads for a minute, and no octet from then on.
            let _ = tokio::time::timeout(Duration::from_secs(60), replies.read_to_end(&mut said)).await;
            (replies, said)
        });
        commands.write_all(with_transaction).await.unwrap();
        let (_replies, said) = said.await.unwrap();
        assert!(said.starts_with(b"220 ") && said.ends_with(b"\r\n"), "{}", String::from_utf8_lossy(&said));
        // The session has timed out, and waits for the client to take the 421.
        tokio::time::sleep(LIMIT).await;
        assert!(!served.is_finished());
        stop.when_idle.cancel();
        let began = tokio::time::Instant::now();
        stop.now.cancel();
        served.await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

/// A remote in a process of its own: it stops this process, answers in time, and lets it go on after the time for the answer.
const STOPPING: &str = r#"
    exec 3<>"/dev/tcp/127.0.0.1/$0"
    sleep 0.1; kill -STOP $PPID; sleep 0.1; printf '250 2.0.0 ok\r\n' >&3; sleep 0.7; kill -CONT $PPID
    cat <&3 2>/dev/null
"#;

/// An answer that came in time counts, though danelaw was stopped (SIGSTOP) until the time was over. Without it the client of a message
/// that a remote has taken would be told to send it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_in_the_socket_counts_when_the_time_is_over() {
    if !is_alone(module_path!(), "an_answer_that_waits_in_the_socket_counts_when_the_time_is_over") {
        return;
    }
    for _ in 0..5 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut remote = Command::new("bash").args(["-c", STOPPING, &port]).spawn().unwrap();
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        let limit = Duration::from_millis(400);
        // As a session does it: in a task, on the thread that asks the kernel.
        let told = tokio::spawn(async move {
            let began = Instant::now();
            let answer = by(tokio::time::Instant::from_std(began) + limit, wire.reply(2 * limit)).await;
            (answer, began.elapsed(), wire)
        });
        let (answer, time, mut wire) = told.await.unwrap();
        assert!(time > 2 * limit, "this process was not stopped for long enough: {time:?}");
        assert_eq!(answer.unwrap().unwrap().to_string(), "250 2.0.0 ok");
        // No octet has come this time, so the limit holds.
        assert!(matches!(wire.reply(limit / 4).await, Err(WireError::Timeout(_))));
        drop(wire);
        remote.wait().unwrap();
    }
}
