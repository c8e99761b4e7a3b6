//! The mails that every client sends. Each recipient gets exactly the copies that are due, and the message is the
//! submitted one. A refused recipient causes a bounce, for that recipient alone if the client can do so. The client's
//! queue holds the deferred mail and no other.
//!
//! | mail | recipients | expected outcome |
//! |---|---|---|
//! | one, hundred, large | 1, 100, 1 with 25 MB | delivered |
//! | rejected | two of one domain, one of them unknown | one is delivered, the other bounces |
//! | domains | two | delivered |
//! | fine2, fine3 | one in each of two or three domains | delivered |
//! | dane2, dane3 | the certificate of the last one's host matches no TLSA record | the others are delivered, the last one waits, and is delivered when the certificate matches |
//! | null2, null3 | the last one's domain has a null MX | the others are delivered, the last one bounces |
//! | rcpt2, rcpt3 | the last one is refused at RCPT | the same |
//! | spam2, spam3 | the last one's copy is refused after the end of data | the same |
//! | later2, later3 | the last one's copy gets a temporary error after the end of data | the others are delivered, the last one waits, and is delivered later |
//! | kill2, kill3 | danelaw is killed before the last one's host has answered | the others have one copy, and so has the last one in the end |
//! | utf8, ascii | an address that is not ASCII, at a host with SMTPUTF8 and at one without | delivered; bounces |
//!
//! Mail to Alice's own domain goes through danelaw too, so her bounces are in the same mailbox as all other mail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Case, Certificate, Exchange, MX1, MX2, Server};
use crate::command::{eventually, progressing};
use crate::lab::Lab;
use crate::root::Root;

/// How a client treats recipients whose answers differ.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Recipients {
    /// Each recipient has his own outcome.
    Alone,
    /// The mail has one outcome: if one recipient is refused, the client gives up all, and the bounce names all.
    Together,
}

/// The origin of a client's program.
#[derive(Clone, Copy)]
pub(crate) enum Package {
    /// It cannot be installed beside the others.
    Unpacked(&'static str),
    Installed,
}

/// Whether danelaw is killed during the run of a client. SMTP and LMTP without fan-out promise no single copy then: no
/// disk holds a remote's reply that the client has not heard.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kill {
    /// After this, in a shell in its root.
    Survives(&'static str),
    NotTried,
}

/// One of the clients: the shell commands, run in its root, that set it up and drive it.
pub(crate) struct Client {
    pub(crate) package: Package,
    /// Its file in `config/clients`, and the file's path in the root.
    pub(crate) settings: (&'static str, &'static str),
    /// Prepares and starts it, so that it takes mail.
    pub(crate) setup: String,
    /// Takes a message on standard input from Alice for the recipients `$@`.
    pub(crate) submit: &'static str,
    /// Prints the queue, with recipients.
    pub(crate) queue: &'static str,
    /// Makes it try again at once.
    pub(crate) again: &'static str,
    pub(crate) recipients: Recipients,
    /// Troubles that it is known to handle wrongly; they are not tested.
    pub(crate) spared: &'static [Trouble],
    pub(crate) kill: Kill,
    /// Whether it can send mail with addresses that are not ASCII (RFC 6531).
    pub(crate) smtputf8: bool,
    /// The longest line that it does not break, without its CRLF.
    pub(crate) longest_line: usize,
    /// Texts of danelaw that its log in `/tmp/log*` has to hold.
    pub(crate) logs: &'static [&'static str],
}

/// A mail of the tests.
struct Mail {
    name: String,
    recipients: Vec<String>,
    text: Vec<u8>,
    /// The recipient that is rejected permanently, and words of the reply.
    refused: Option<(String, &'static str)>,
}

const ALICE: &str = "alice@example.test";
const FINE: &str = "fine@example.test";
const NOBODY: &str = "nobody@example.test";
/// A host without SMTPUTF8.
const ASCII: Exchange = Exchange { name: "ascii.example.test", ..MX1 };
const REFUSED: &str = "refused@mx2.example.test";

/// The trouble of a mail to several domains. It is in the mail's name, from which the policy of the MX reads it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Trouble {
    Fine,
    Dane,
    Null,
    Rcpt,
    Spam,
    Later,
}

impl Trouble {
    const ALL: [Self; 6] = [Self::Fine, Self::Dane, Self::Null, Self::Rcpt, Self::Spam, Self::Later];

    fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Dane => "dane",
            Self::Null => "null",
            Self::Rcpt => "rcpt",
            Self::Spam => "spam",
            Self::Later => "later",
        }
    }

    /// The domain that has this trouble.
    fn domain(self) -> &'static str {
        match self {
            Self::Dane => MX2.name,
            Self::Null => "null.example.test",
            Self::Fine | Self::Rcpt | Self::Spam | Self::Later => "third.example.test",
        }
    }

    /// Words of the reply that rejects the recipient permanently.
    fn refused(self) -> Option<&'static str> {
        match self {
            Self::Fine | Self::Dane | Self::Later => None,
            Self::Null => Some("5.1.10"),
            Self::Rcpt => Some("no such user"),
            Self::Spam => Some("we do not like it"),
        }
    }
}

/// The recipient in trouble is the last of two, and the first of three.
fn in_domains(name: &str, number: usize, domain: &str) -> (String, Vec<String>) {
    let odd = format!("{name}@{domain}");
    let mut recipients = vec![format!("{name}.one@example.test")];
    if number == 3 {
        recipients.push(format!("{name}.two@other.example.test"));
        recipients.insert(0, odd.clone());
    } else {
        recipients.push(odd.clone());
    }
    (odd, recipients)
}

fn strings(recipients: &[&str]) -> Vec<String> {
    recipients.iter().map(|&recipient| recipient.to_owned()).collect()
}

/// A message with the parts that software often changes: dots, `From `, trailing blanks, octets above 127, a long line.
fn text(name: &str, longest_line: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Alice <{ALICE}>\nTo: All <all@example.test>\nSubject: a subject\n\tin two lines\n\
         Date: Sat, 21 Nov 2026 12:00:00 +0100\nMessage-ID: <{name}@example.test>\nX-Case: {name}\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
         Received: not a header\n.\n..\n. a dot\n.dot\nFrom here\nblanks \t \n\nGr\u{fc}\u{df}e \u{20ac}\n{}\n",
        "x".repeat(longest_line)
    )
    .into_bytes();
    text.extend(b"\xff\xfe not even UTF-8\n\n..\n");
    text
}

/// The number of stored copies for each recipient and mail name; the name of a bounce begins with [`BOUNCE`].
type Copies = BTreeMap<(String, String), usize>;
const BOUNCE: &str = "bounce of ";

/// A running client, and the lab behind it.
struct ClientRun {
    client: Client,
    root: Root,
    lab: Lab,
    sent: Vec<Mail>,
    /// The copies that must exist.
    owed: Copies,
    /// Recipients whose mail must wait.
    waiting: BTreeSet<String>,
}

impl ClientRun {
    fn start(client: Client) -> Self {
        let good = Exchange {
            server: Server::Choosy(&[
                "virtual_mailbox_domains = example.test, mx1.example.test, other.example.test, third.example.test",
                "virtual_mailbox_maps = static:all/",
                "message_size_limit = 50000000",
            ]),
            ..MX1
        };
        let other = Exchange {
            server: Server::Postfix(&[
                "virtual_mailbox_domains = mx2.example.test",
                "virtual_mailbox_maps = static:all/",
            ]),
            certificate: Certificate::NotYet,
            ..MX2
        };
        let ascii = Exchange { server: Server::Postfix(&["smtputf8_enable = no"]), ..ASCII };
        let more = &[
            ("other.example.test", "MX 10 mx1.example.test."),
            ("third.example.test", "MX 10 mx1.example.test."),
            ("null.example.test", "MX 0 ."),
        ];
        let lab = Lab::start(&Case { more, ..Case::of([good, other, ascii]) });
        let root = match client.package {
            Package::Unpacked(package) => Root::of(package),
            Package::Installed => Root::of_this_machine(),
        };
        root.write("/etc/resolv.conf", &format!("nameserver {}\n", lab.resolver_address().ip()));
        let (file, path) = client.settings;
        root.write(path, &settings(file, lab.danelaw_address()));
        let run = Self { client, root, lab, sent: Vec::new(), owed: Copies::new(), waiting: BTreeSet::new() };
        let output = run.shell(&run.client.setup, &[], b"");
        assert!(output.status.success(), "{output:?}");
        run
    }

    /// Submits a mail.
    fn submit(&mut self, name: &str, recipients: &[String]) -> Output {
        self.submit_text(name, recipients, text(name, self.client.longest_line))
    }

    fn submit_text(&mut self, name: &str, recipients: &[String], text: Vec<u8>) -> Output {
        let arguments: Vec<_> = recipients.iter().map(String::as_str).collect();
        let output = self.shell(self.client.submit, &arguments, &text);
        self.sent.push(Mail { name: name.to_owned(), recipients: recipients.to_vec(), text, refused: None });
        output
    }

    /// Submits a mail that the client must take.
    #[track_caller]
    fn take(&mut self, name: &str, recipients: &[String]) {
        let output = self.submit(name, recipients);
        assert!(output.status.success(), "{output:?}");
    }

    /// Submits a mail that all its recipients must get.
    #[track_caller]
    fn deliver(&mut self, name: &str, recipients: &[String]) {
        self.take(name, recipients);
        self.owe(name, recipients);
    }

    fn owe(&mut self, name: &str, recipients: &[String]) {
        for recipient in recipients {
            *self.owed.entry((recipient.clone(), name.to_owned())).or_default() += 1;
        }
    }

    /// Submits a mail of which one recipient must be refused, while the others get it.
    #[track_caller]
    fn refuse(&mut self, name: &str, recipients: &[String], refused: (&str, &'static str)) {
        self.take(name, recipients);
        let (recipient, words) = refused;
        if let Some(mail) = self.sent.last_mut() {
            mail.refused = Some((recipient.to_owned(), words));
        }
        let others: Vec<_> = recipients.iter().filter(|other| *other != recipient).cloned().collect();
        self.owe(name, &others);
        self.owe(&format!("{BOUNCE}{name}"), &strings(&[ALICE]));
    }

    /// Submits a mail of which one recipient must wait, while the others get it.
    #[track_caller]
    fn defer(&mut self, name: &str, recipients: &[String], waiting: &str) {
        self.take(name, recipients);
        let others: Vec<_> = recipients.iter().filter(|other| *other != waiting).cloned().collect();
        self.owe(name, &others);
        match self.client.recipients {
            Recipients::Alone => self.waiting.extend([waiting.to_owned()]),
            Recipients::Together => self.waiting.extend(recipients.iter().cloned()),
        }
    }

    /// One mail, one to a hundred recipients, and one of 25 MB.
    #[track_caller]
    fn deliver_the_plain_ones(&mut self) {
        self.deliver("one", &strings(&["bob@example.test"]));
        let hundred: Vec<_> = (0..100).map(|number| format!("r{number}@example.test")).collect();
        self.deliver("hundred", &hundred);
        let line = [b"Z".repeat(76), b"\n".to_vec()].concat();
        let large = [text("large", self.client.longest_line), line.repeat(25_000_000 / line.len())].concat();
        let recipient = strings(&["large@example.test"]);
        let output = self.submit_text("large", &recipient, large);
        assert!(output.status.success(), "{output:?}");
        self.owe("large", &recipient);
    }

    /// The matrix: each trouble in two domains and in three.
    #[track_caller]
    fn run_into_troubles(&mut self) {
        let troubles = Trouble::ALL.into_iter().filter(|trouble| !self.client.spared.contains(trouble));
        for (trouble, number) in
            troubles.collect::<Vec<_>>().into_iter().flat_map(|trouble| [(trouble, 2), (trouble, 3)])
        {
            let name = format!("{}{number}", trouble.name());
            let (odd, recipients) = in_domains(&name, number, trouble.domain());
            match trouble {
                Trouble::Fine => self.deliver(&name, &recipients),
                Trouble::Dane | Trouble::Later => self.defer(&name, &recipients, &odd),
                Trouble::Null | Trouble::Rcpt | Trouble::Spam => {
                    self.refuse(&name, &recipients, (&odd, trouble.refused().unwrap_or_default()));
                }
            }
        }
    }

    /// Asserts that delivery to the waiting recipients was tried.
    #[track_caller]
    fn assert_tried(&self) {
        for mail in self.sent.iter().filter(|mail| mail.name.starts_with(Trouble::Later.name())) {
            self.lab.policy().await_deferred(&format!("{}@{}", mail.name, Trouble::Later.domain()));
        }
        eventually("an attempt at the host in trouble", || {
            let deliveries = self.lab.danelaw().events("delivery");
            deliveries.iter().any(|delivery| delivery.field("domain") == MX2.name).then_some(())
        });
        self.lab.assert_no_mail_command_at(&MX2);
    }

    /// Kills danelaw when all remotes but one have answered.
    #[track_caller]
    fn kill(&mut self, number: usize, afterwards: &str) {
        let name = format!("kill{number}");
        let (odd, recipients) = in_domains(&name, number, "third.example.test");
        let before = self.files();
        self.deliver(&name, &recipients);
        self.lab.policy().await_held(&odd);
        eventually("the others' copies", || (self.files() == before + number - 1).then_some(()));
        // danelaw writes the outcome to the disk soon after the reply.
        sleep(Duration::from_millis(300));
        self.lab.kill_danelaw();
        self.lab.policy().release(&odd);
        self.lab.restart_danelaw();
        self.shell(afterwards, &[], b"");
        eventually("every copy", || {
            if self.files() == before + number {
                return Some(());
            }
            self.shell(self.client.again, &[], b"");
            None
        });
    }

    /// Ends the troubles, so that the waiting mail can be delivered.
    fn mend(&mut self) {
        self.lab.policy().mend();
        self.lab.mend_certificate(&MX2);
        let is_odd =
            |mail: &&Mail| [Trouble::Dane, Trouble::Later].iter().any(|trouble| mail.name.starts_with(trouble.name()));
        let late: Vec<_> = self
            .sent
            .iter()
            .filter(is_odd)
            .flat_map(|mail| mail.recipients.iter().map(|recipient| (recipient.clone(), mail.name.clone())))
            .chain([(REFUSED.to_owned(), "refused".to_owned())])
            .collect();
        for copy in late {
            self.owed.insert(copy, 1);
        }
        self.waiting.clear();
    }

    fn shell(&self, command: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .root
            .shell(command, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter is there");
        // A program that does not read all its input reports that in its output or by its exit status.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        child.wait_with_output().expect("our own child")
    }

    fn queue(&self) -> String {
        let output = self.shell(self.client.queue, &[], b"");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// All recipients of sent mails that are in the queue.
    fn queued(&self) -> BTreeSet<String> {
        let queue = self.queue();
        let recipients = self.sent.iter().flat_map(|mail| &mail.recipients);
        recipients.filter(|recipient| queue.contains(recipient.as_str())).cloned().collect()
    }

    /// How many copies are stored.
    fn files(&self) -> usize {
        [&MX1, &MX2].map(|exchange| self.lab.mx(exchange).files("all").len()).iter().sum()
    }

    /// Asserts that every copy that is due arrives, no further one does, and the rest is in the queue.
    #[track_caller]
    fn assert_outcome(&self) {
        let owed: usize = self.owed.values().sum();
        let mut tried = Instant::now();
        let settled = || {
            let (files, queued) = (self.files(), self.queued());
            if files == owed && queued == self.waiting {
                return Ok(());
            }
            // A client that gets this command without a pause never finishes an attempt.
            if tried.elapsed() > Duration::from_secs(1) {
                self.shell(self.client.again, &[], b"");
                tried = Instant::now();
            }
            Err((files, queued))
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| progressing("the outcome", settled)));
        if outcome.is_err() {
            eprintln!("--- the client's queue\n{}", self.queue());
            eprintln!("--- the client's log\n{}", self.log());
            assert_eq!(self.queued(), self.waiting);
        }
        let mut found = Copies::new();
        for file in [&MX1, &MX2].iter().flat_map(|exchange| self.lab.mx(exchange).stored("all")) {
            *found.entry(self.identify(&file)).or_default() += 1;
        }
        let differs = |one: &Copies, other: &Copies| {
            one.iter()
                .filter(|(copy, number)| other.get(copy) != Some(number))
                .map(|(copy, _)| copy.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!((differs(&self.owed, &found), differs(&found, &self.owed)), (vec![], vec![]), "missing, too many");
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.shell("cat /tmp/log*", &[], b"").stdout).into_owned()
    }

    /// The recipient and the mail's name of a stored file, which must equal the submitted message.
    #[track_caller]
    fn identify(&self, file: &[u8]) -> (String, String) {
        let (head, body) = halves(file);
        let head = String::from_utf8_lossy(head).into_owned();
        let field = |text: &str, name: &str| {
            text.lines().find_map(|line| line.trim_start().strip_prefix(name)).unwrap_or_default().to_owned()
        };
        let recipient = field(&head, "Delivered-To: ");
        if ["<>", "<mailer-daemon@example.test>"].contains(&field(&head, "Return-Path: ").as_str()) {
            let text = String::from_utf8_lossy(body);
            let mail = self.mail(&field(&text, "X-Case: "), &text);
            self.assert_bounce(mail, &text);
            return (recipient, format!("{BOUNCE}{}", mail.name));
        }
        let mail = self.mail(&field(&head, "X-Case: "), &head);
        let (sent_head, sent_body) = halves(&mail.text);
        assert!(body == sent_body, "the body has changed:\n{}", body[..body.len().min(4000)].escape_ascii());
        let mut lines = head.lines();
        for line in String::from_utf8_lossy(sent_head).lines() {
            assert!(lines.any(|found| found == line), "{line:?} is not where it was in\n{head}");
        }
        (recipient, mail.name.clone())
    }

    #[track_caller]
    fn mail(&self, name: &str, text: &str) -> &Mail {
        self.sent.iter().find(|mail| mail.name == name).unwrap_or_else(|| panic!("a mail of the tests: {text}"))
    }

    /// Asserts that a bounce names the refused recipient and the reason, and tells the truth about the others.
    #[track_caller]
    fn assert_bounce(&self, mail: &Mail, text: &str) {
        let (refused, words) = mail.refused.as_ref().unwrap_or_else(|| panic!("no recipient was refused: {text}"));
        assert!(text.contains(refused) && text.contains(words), "{refused}, {words}: {text}");
        let mut others = mail.recipients.iter().filter(|recipient| *recipient != refused).peekable();
        match self.client.recipients {
            Recipients::Alone => assert!(others.all(|other| !text.contains(&format!("<{other}>"))), "{text}"),
            Recipients::Together if others.peek().is_none() => {}
            Recipients::Together => assert!(text.contains("all other recipients have the message"), "{text}"),
        }
    }
}

/// The header and the body of a message whose lines end with LF.
fn halves(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|pair| pair == b"\n\n").expect("an end of the header");
    (&text[..end], &text[end + 2..])
}

/// The settings of a client, from its file, with the address of the lab's danelaw in place of the default one.
fn settings(file: &str, danelaw: SocketAddr) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/clients").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("127.0.0.1", &danelaw.ip().to_string())
}

/// Programs without a queue: their exit status tells the outcome, and by LMTP each recipient gets an answer.
pub(crate) fn run_without_queue(client: Client) {
    let mut run = ClientRun::start(client);
    run.deliver_the_plain_ones();
    run.deliver("domains", &strings(&["left@example.test", "right@mx1.example.test"]));
    let refused = run.submit("refused", &strings(&[REFUSED]));
    assert!(!refused.status.success() && said(&refused, "451 4.7.5"), "{refused:?}");
    let rejected = run.submit("rejected", &strings(&[FINE, NOBODY]));
    assert!(said(&rejected, "550 5.1.1"), "{rejected:?}");
    match run.client.recipients {
        Recipients::Alone => run.owe("rejected", &strings(&[FINE])),
        Recipients::Together => assert!(!rejected.status.success(), "{rejected:?}"),
    }
    for (trouble, number, words) in [
        (Trouble::Later, 2, "451 4.3.0"),
        (Trouble::Later, 3, "451 4.3.0"),
        (Trouble::Spam, 2, "554 5.7.1"),
        (Trouble::Spam, 3, "554 5.7.1"),
    ] {
        let name = format!("{}{number}", trouble.name());
        let (odd, recipients) = in_domains(&name, number, trouble.domain());
        let output = run.submit(&name, &recipients);
        assert!(said(&output, words), "{output:?}");
        run.owe(&name, &recipients.into_iter().filter(|recipient| *recipient != odd).collect::<Vec<_>>());
    }
    run.assert_outcome();
    run.lab.assert_no_mail_command_at(&MX2);
}

/// Mail servers with a queue: mail without a final reply stays in it, and Alice gets a bounce for rejected mail.
pub(crate) fn run_with_queue(client: Client) {
    let mut run = ClientRun::start(client);
    run.deliver_the_plain_ones();
    run.refuse("rejected", &strings(&[FINE, NOBODY]), (NOBODY, "no such user"));
    run.defer("refused", &strings(&[REFUSED]), REFUSED);
    run.deliver("domains", &strings(&["left@example.test", "right@mx1.example.test"]));
    run.run_into_troubles();
    run.assert_outcome();
    run.assert_tried();
    if let Kill::Survives(afterwards) = run.client.kill {
        run.kill(2, afterwards);
        run.kill(3, afterwards);
    }
    run.mend();
    run.assert_outcome();
    if run.client.smtputf8 {
        run.deliver("utf8", &strings(&["gr\u{fc}n@example.test"]));
        let refused = "gr\u{fc}n@ascii.example.test";
        run.refuse("ascii", &strings(&[refused]), (refused, "5.6.7"));
        run.assert_outcome();
    }
    let log = run.log();
    for words in run.client.logs {
        assert!(log.contains(words), "{words}: {log}");
    }
}

fn said(output: &Output, words: &str) -> bool {
    [&output.stdout, &output.stderr].iter().any(|text| String::from_utf8_lossy(text).contains(words))
}
