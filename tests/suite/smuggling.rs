//! One message stays one message for every server that reads it (A-80 to A-83, I11, I12, M13).
//!
//! A client sends any octets as message data, cut into writes at any place, or in chunks, cut at any place too. The
//! octets that danelaw sends to the remote, as lines or as chunks, are then read by models of servers: the strict one
//! of RFC 5321, and all those that are known to take another sequence for an end of data or for an end of a line (SEC
//! Consult's smuggling of 2023, CVE-2023-51764 to 51766, and after). Each of them has to find one message or none, and
//! no command behind it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::lab::mx::say;
use crate::lab::{self, Lab, Scenario, wait_for};
use crate::sequences::SEQUENCES;
use danelaw::session::{Origin, Stop};
use danelaw::smtp::command::Strictness;
use danelaw::transaction::dialogue::Service;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// A server that finds the end of data in its own way.
#[derive(Debug, Clone, Copy)]
enum Receiver {
    /// It reads lines, which end with the longest of these that fits; the function removes the octets of a line that
    /// the server ignores.
    Lines(&'static [&'static [u8]], Sight),
    /// It looks for CRLF.CRLF, and takes this for the same.
    Sequence(&'static [u8]),
}

/// The part of a line that a server sees.
#[derive(Debug, Clone, Copy)]
enum Sight {
    Everything,
    /// No NULs.
    NoNuls,
    /// Only the octets before the first NUL, as C has it.
    UpToNul,
    /// No blanks at the end.
    NoBlanks,
    /// Neither.
    NeitherNulsNorBlanks,
}

/// The result of a server's reading of the octets behind its 354.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    messages: usize,
    /// The octets behind the end of data, empty lines aside.
    commands: Vec<Vec<u8>>,
}

const NEWLINES: [&[&[u8]]; 5] = [
    // RFC 5321 §2.3.8, and no other known server.
    &[b"\r\n"],
    // Postfix, Sendmail and Exim before 2024, aiosmtpd (CVE-2024-27305), and many more.
    &[b"\r\n", b"\n"],
    &[b"\r\n", b"\r"],
    &[b"\r\n", b"\n", b"\r"],
    // Servers that drop every CR before a CRLF.
    &[b"\r\r\r\n", b"\r\r\n", b"\r\n"],
];
const SIGHTS: [Sight; 5] =
    [Sight::Everything, Sight::NoNuls, Sight::UpToNul, Sight::NoBlanks, Sight::NeitherNulsNorBlanks];

impl Sight {
    fn see(self, line: &[u8]) -> Vec<u8> {
        match self {
            Self::Everything => line.to_vec(),
            Self::NoNuls => line.iter().copied().filter(|octet| *octet != 0).collect(),
            Self::UpToNul => line.split(|octet| *octet == 0).next().unwrap().to_vec(),
            Self::NoBlanks => line.trim_ascii_end().to_vec(),
            Self::NeitherNulsNorBlanks => Self::NoBlanks.see(&Self::NoNuls.see(line)),
        }
    }
}

impl Receiver {
    fn all() -> impl Iterator<Item = Self> {
        let lines = NEWLINES.into_iter().flat_map(|ends| SIGHTS.map(|sight| Self::Lines(ends, sight)));
        lines.chain(SEQUENCES.map(Self::Sequence))
    }

    fn read(self, octets: &[u8]) -> Reading {
        let (ended, commands) = match self {
            Self::Lines(ends, sight) => {
                let mut lines = lines(octets, ends).into_iter().map(|line| sight.see(line));
                (lines.by_ref().any(|line| line == b"."), lines.collect::<Vec<_>>())
            }
            Self::Sequence(sequence) => {
                // The data starts behind the CRLF of the DATA command.
                let octets = [b"\r\n", octets].concat();
                let ends = [sequence, b"\r\n.\r\n"].map(|end| find(&octets, end).map(|at| at + end.len()));
                let rest = ends.into_iter().flatten().min();
                let rest = rest.map(|at| lines(&octets[at..], NEWLINES[3]).into_iter().map(<[u8]>::to_vec).collect());
                (rest.is_some(), rest.unwrap_or_default())
            }
        };
        let commands = commands.into_iter().filter(|line: &Vec<u8>| !line.is_empty()).collect();
        Reading { messages: usize::from(ended), commands }
    }
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

/// The lines, and the octets behind the last end of a line.
fn lines<'a>(mut octets: &'a [u8], ends: &[&[u8]]) -> Vec<&'a [u8]> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < octets.len() {
        match ends.iter().find(|end| octets[at..].starts_with(end)) {
            Some(end) => {
                lines.push(&octets[..at]);
                octets = &octets[at + end.len()..];
                at = 0;
            }
            None => at += 1,
        }
    }
    lines.push(octets);
    lines
}

/// How a client sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Data,
    Bdat,
}

/// Whether the remote takes chunks.
#[derive(Debug, Clone, Copy)]
enum Remote {
    TakesLines,
    TakesChunks,
}

/// The octets that a client writes, and the number of answers to them.
struct Speech {
    opening: &'static str,
    octets: Vec<u8>,
    answers: usize,
}

impl Speech {
    /// Data with its end.
    fn data(octets: &[u8]) -> Self {
        Self { opening: "DATA\r\n", octets: octets.to_vec(), answers: 1 }
    }

    fn chunks(chunks: &[&[u8]]) -> Self {
        let frame = |(number, chunk): (usize, &&[u8])| {
            let last = if number + 1 == chunks.len() { " LAST" } else { "" };
            [format!("BDAT {}{last}\r\n", chunk.len()).as_bytes(), chunk].concat()
        };
        Self { opening: "", octets: chunks.iter().enumerate().flat_map(frame).collect(), answers: chunks.len() }
    }
}

#[tokio::test]
async fn a_lenient_listener_takes_bare_line_feeds_behind_commands_alone() {
    let lab = Scenario::new().start().await;
    let (client, ours) = tokio::io::duplex(1 << 16);
    let mut caller = crate::lab::caller(Origin::UnixSocket, Service::Smtp);
    caller.listener.strictness = Strictness::Lenient;
    let served = tokio::spawn(danelaw::session::serve(lab.shared.clone(), ours, caller, Stop::default()));
    let mut client = BufReader::new(client);
    client.write_all(b"EHLO printer.client.test\nMAIL FROM:root\nRCPT TO:b@example.test\nDATA\n").await.unwrap();
    while !reply(&mut client).await.starts_with("354") {}
    // A dot between bare line feeds ends no message, here as anywhere, and no command follows it.
    let message = b"Subject: x\n\n.\nMAIL FROM:evil@client.test\n\r\n.\r\nQUIT\n";
    client.write_all(message).await.unwrap();
    let answer = reply(&mut client).await;
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    assert!(reply(&mut client).await.starts_with("221 "));
    served.await.unwrap();
    assert_eq!(lab.mx().messages().len(), 1);
    let octets = String::from_utf8(lab.mx().take_octets()).unwrap();
    assert!(octets.contains("MAIL FROM:<root@printer.client.test>"), "{octets}");
    assert!(octets.contains("\r\n..\r\nMAIL FROM:evil@client.test\r\n"), "{octets}");
}

/// Writes a message in pieces with these ends; returns danelaw's last answer, and the octets that the remote got, as a
/// server reads them behind its 354.
async fn send(lab: &Lab, speech: &Speech, ends: &[usize]) -> (String, Vec<u8>) {
    let (client, ours) = tokio::io::duplex(1 << 16);
    let origin = Origin::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let caller = crate::lab::caller(origin, Service::Smtp);
    let served = tokio::spawn(danelaw::session::serve(lab.shared.clone(), ours, caller, Stop::default()));
    let mut client = BufReader::new(client);
    let opening = format!("EHLO x\r\nMAIL FROM:<a@client.test>\r\n{RCPT}{}", speech.opening);
    client.write_all(opening.as_bytes()).await.unwrap();
    let ready = if speech.opening.is_empty() { "250 2.1.5" } else { "354" };
    while !reply(&mut client).await.starts_with(ready) {}
    let over = lab.mx().messages().len() + lab.mx().cut();
    for ends in ends.windows(2) {
        client.write_all(&speech.octets[ends[0]..ends[1]]).await.unwrap();
        // danelaw reads it before the next one is written.
        tokio::task::yield_now().await;
    }
    for _ in 1..speech.answers {
        let taken = reply(&mut client).await;
        assert!(taken.starts_with("250 2.0.0 "), "{taken}");
    }
    let answer = reply(&mut client).await;
    // danelaw took no part of the message for a command either: there is one answer, and then that to QUIT.
    client.write_all(b"QUIT\r\n").await.unwrap();
    assert!(reply(&mut client).await.starts_with("221 "));
    served.await.unwrap();
    // Of chunks a remote may not have seen any when it is left.
    wait_for(|| lab.mx().messages().len() + lab.mx().cut() > over || lab.mx().open() == 0).await;
    (answer, behind_354(&lab.mx().take_octets()))
}

const RCPT: &str = "RCPT TO:<b@example.test>\r\n";

/// The octets that a remote got behind the recipient, as one that takes lines would see them: a remote passes chunks on
/// as such.
fn behind_354(octets: &[u8]) -> Vec<u8> {
    let start = find(octets, RCPT.as_bytes()).unwrap() + RCPT.len();
    let octets = &octets[start..];
    if let Some(data) = octets.strip_prefix(b"DATA\r\n") {
        let data = [b"\r\n", data].concat();
        // A session that has served its limit of mails ends: the QUIT behind the end of data is then danelaw's own.
        let data = data.strip_suffix(b"\r\n.\r\nQUIT\r\n").map_or(data.clone(), |data| [data, b"\r\n.\r\n"].concat());
        return data[2..].to_vec();
    }
    let (mut rest, mut content) = (octets, Vec::new());
    while let Some(chunk) = rest.strip_prefix(b"BDAT ") {
        let end = find(chunk, b"\r\n").unwrap();
        let count = std::str::from_utf8(&chunk[..end]).unwrap();
        let octets = count.strip_suffix(" LAST").unwrap_or(count).parse().unwrap();
        let (chunk, behind) = chunk[end + 2..].split_at(octets);
        content.extend_from_slice(chunk);
        rest = behind;
        if count.ends_with(" LAST") {
            return [stuffed(&content).as_slice(), b".\r\n", rest.strip_suffix(b"QUIT\r\n").unwrap_or(rest)].concat();
        }
    }
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    stuffed(&content)
}

/// A line starts behind a CRLF, and at no other place.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let starts_line = |at: usize| at == 0 || content[..at].ends_with(b"\r\n");
    let stuffed = content.iter().enumerate().map(|(at, octet)| (*octet, *octet == b'.' && starts_line(at)));
    stuffed.flat_map(|(octet, twice)| std::iter::repeat_n(octet, 1 + usize::from(twice))).collect()
}

async fn reply(client: &mut BufReader<DuplexStream>) -> String {
    let mut line = String::new();
    tokio::time::timeout(lab::SOON, client.read_line(&mut line)).await.expect("an answer in time").unwrap();
    line
}

/// The remote gets one message, or where it is refused none, and no server reads it in another way.
fn assert_one(answer: &str, octets: &[u8]) -> Result<(), TestCaseError> {
    let messages = match answer.get(..9) {
        Some("250 2.0.0") => 1,
        Some("554 5.5.2" | "554 5.6.0") => 0,
        _ => return Err(TestCaseError::fail(answer.to_owned())),
    };
    for receiver in Receiver::all() {
        let reading = receiver.read(octets);
        let one = Reading { messages, commands: Vec::new() };
        prop_assert_eq!(reading, one, "{:?} reads {}", receiver, octets.escape_ascii());
    }
    // I12.
    let text = octets.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    prop_assert!(text.clone().all(|line| !line.contains(&b'\r')), "{}", octets.escape_ascii());
    let bare =
        octets.iter().zip([&0].into_iter().chain(octets)).any(|(octet, before)| *octet == b'\n' && *before != b'\r');
    prop_assert!(!bare, "{}", octets.escape_ascii());
    Ok(())
}

/// Octets as a failed test shows them.
#[derive(Clone)]
struct Octets(Vec<u8>);

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

/// The octets that a client may send as a message.
fn content() -> impl Strategy<Value = Octets> {
    let mut fragments: Vec<&[u8]> = vec![
        b"\r",
        b"\n",
        b"\r\n",
        b".",
        b"\0",
        b" ",
        b"\t",
        b"x",
        b"\x1a",
        b"\xff",
        b"\r\nQUIT\r\n",
        b"\r\n.\r\n",
        b"BDAT 3 LAST\r\nxyz",
        b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\ntwo\r\n",
    ];
    fragments.extend(SEQUENCES);
    let fragment = prop_oneof![
        60 => prop::sample::select(fragments).prop_map(<[u8]>::to_vec),
        6 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(vec![b'y'; 17_000]),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|fragments| Octets(fragments.concat()))
}

/// The data up to its end, the first one that RFC 5321 knows.
fn data(content: &[u8]) -> Vec<u8> {
    let data = [b"\r\n", content, b"\r\n.\r\n"].concat();
    let end = find(&data, b"\r\n.\r\n").unwrap() + 5;
    data[2..end].to_vec()
}

/// The intended message of counted content: CRLF lines, each with its end, and no NUL at a start.
fn meant(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (at, octet) in content.iter().enumerate() {
        match octet {
            b'\n' => lines.extend_from_slice(b"\r\n"),
            b'\r' if content[at + 1..].starts_with(b"\n") => {}
            b'\r' => lines.push(b' '),
            0 if lines.is_empty() || lines.ends_with(b"\n") => lines.push(b' '),
            octet => lines.push(*octet),
        }
    }
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Places to cut so many octets at, both ends included.
fn cuts(cuts: &[prop::sample::Index], octets: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(octets + 1)).chain([0, octets]).collect();
    cuts.sort_unstable();
    cuts
}

fn scenario(bare_newlines: &str, remote: Remote) -> Scenario {
    let chunking = match remote {
        Remote::TakesLines => "",
        Remote::TakesChunks => "250-CHUNKING\r\n",
    };
    let offered = format!("250-mx\r\n250-PIPELINING\r\n{chunking}250 8BITMIME");
    let scenario = Scenario::new().mx(|mx| mx.ehlo_under_tls = say(&offered));
    // The sessions with the remote are kept: a handshake for each message would be most of the test.
    scenario.remember().set(&format!("limits.bare_newlines = '{bare_newlines}'\nremote.idle_connections = 8"))
}

/// A-82, A-83.
fn whatever_is_sent(by: By, remote: Remote, bare_newlines: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Without danelaw's trace field before it, the data starts where the client's data starts.
    let lab = runtime.block_on(scenario(bare_newlines, remote).set("received = false").start());
    let cases = if lab::long() { 5_000 } else { 200 };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
    let places = || prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    let tried = runner.run(&(content(), places(), places()), |(Octets(content), chunks, writes)| {
        let speech = match by {
            By::Data => Speech::data(&data(&content)),
            By::Bdat => {
                let ends = cuts(&chunks, content.len());
                Speech::chunks(&ends.windows(2).map(|ends| &content[ends[0]..ends[1]]).collect::<Vec<_>>())
            }
        };
        let (answer, octets) = runtime.block_on(send(&lab, &speech, &cuts(&writes, speech.octets.len())));
        assert_one(&answer, &octets)?;
        if (by, answer.starts_with('2')) == (By::Bdat, true) {
            let meant = [stuffed(&meant(&content)).as_slice(), b".\r\n"].concat();
            prop_assert_eq!(octets.escape_ascii().to_string(), meant.escape_ascii().to_string());
        }
        Ok(())
    });
    tried.unwrap();
    assert!(!lab.mx().tls().iter().any(|line| line.contains("evil")));
}

#[test]
fn any_data_is_one_message_normalised() {
    // Decision 8.
    whatever_is_sent(By::Data, Remote::TakesLines, "normalize");
}

#[test]
fn any_data_is_one_message_or_refused() {
    // Decision 8.
    whatever_is_sent(By::Data, Remote::TakesLines, "reject");
}

#[test]
fn any_chunks_are_one_message_in_lines() {
    whatever_is_sent(By::Bdat, Remote::TakesLines, "normalize");
}

#[test]
fn any_chunks_are_one_message_in_lines_or_refused() {
    whatever_is_sent(By::Bdat, Remote::TakesLines, "reject");
}

#[test]
fn any_chunks_are_one_message_in_chunks() {
    whatever_is_sent(By::Bdat, Remote::TakesChunks, "normalize");
}

#[test]
fn any_chunks_are_one_message_in_chunks_or_refused() {
    whatever_is_sent(By::Bdat, Remote::TakesChunks, "reject");
}

/// A-80 to A-83, I11: each sequence with a message behind it, octet by octet and in one piece.
async fn every_sequence(by: By, remote: Remote) {
    for (bare_newlines, received) in [("normalize", true), ("normalize", false), ("reject", true)] {
        let lab = scenario(bare_newlines, remote).set(&format!("received = {received}")).start().await;
        for sequence in SEQUENCES {
            let smuggled: &[u8] =
                b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<c@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\ntwo\r\n.\r\n";
            let text = [b"Subject: x\r\n\r\none", sequence, smuggled].concat();
            // Octet by octet or in one piece.
            let speeches = match by {
                By::Data => [Speech::data(&text), Speech::data(&text)],
                By::Bdat => [Speech::chunks(&text.chunks(1).collect::<Vec<_>>()), Speech::chunks(&[&text])],
            };
            let all = speeches.each_ref().map(|speech| speech.octets.len());
            for (speech, ends) in speeches.iter().zip([vec![0, all[0]], (0..=all[1]).collect()]) {
                let (answer, octets) = send(&lab, speech, &ends).await;
                assert_one(&answer, &octets).unwrap_or_else(|error| panic!("{}: {error}", sequence.escape_ascii()));
            }
        }
        assert!(!lab.mx().tls().iter().any(|line| line.contains("evil")));
    }
}

#[tokio::test]
async fn every_sequence_that_was_ever_an_end_of_data() {
    every_sequence(By::Data, Remote::TakesLines).await;
}

#[tokio::test]
async fn every_such_sequence_in_chunks() {
    every_sequence(By::Bdat, Remote::TakesLines).await;
    every_sequence(By::Bdat, Remote::TakesChunks).await;
}

/// The models find the smuggled messages that they are there to find.
#[test]
fn careless_servers_are_careless() {
    for sequence in SEQUENCES {
        let data = [b"one", sequence, b"MAIL FROM:<evil@client.test>\r\n\r\n.\r\n"].concat();
        let strict = Receiver::Lines(NEWLINES[0], Sight::Everything);
        assert_eq!(strict.read(&data), Reading { messages: 1, commands: Vec::new() });
        let fooled = Receiver::all().filter(|receiver| !receiver.read(&data).commands.is_empty()).count();
        assert!(fooled > 0, "{}", sequence.escape_ascii());
    }
}
