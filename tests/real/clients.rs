//! The mail servers and programs that danelaw is for, each with the settings that README gives for it
//! (`config/clients`), and each with the same mails: nobody gets a copy more or less than he should, the message is what
//! was handed in, whoever is refused bounces alone, and the client's queue holds what has to wait and nothing else.
//!
//! Alice's own domain is behind danelaw too, so her bounces come to the same mailbox as all else. One test is one client
//! with all its mails.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::case::{Case, Exchange, MX1, MX2, Server};
use crate::lab::Lab;
use crate::process::eventually;
use crate::root::Root;

/// What a client does with recipients whose answers differ.
#[derive(Clone, Copy, PartialEq)]
enum Recipients {
    /// Each has his own fate: those of a second domain go with another transaction.
    Alone,
    /// None has the mail unless all can have it, and who is refused takes the others with him.
    Together,
}

/// One of the clients: how it is set up and driven, in the words of a shell in its root.
struct Client {
    package: &'static str,
    /// Its file in `config/clients`, and where that belongs.
    settings: (&'static str, &'static str),
    /// What has to be done before it takes mail.
    setup: String,
    /// Takes a message on standard input from Alice for the recipients `$@`.
    submit: &'static str,
    /// Prints what waits, recipients included.
    queue: &'static str,
    /// Has it try again at once.
    again: &'static str,
    recipients: Recipients,
    /// The longest line that it lets through whole, without its end.
    longest_line: usize,
}

/// A mail of the tests.
struct Mail {
    name: &'static str,
    recipients: Vec<String>,
    text: Vec<u8>,
}

const ALICE: &str = "alice@example.test";
const FINE: &str = "fine@example.test";
const NOBODY: &str = "nobody@example.test";
const REFUSED: &str = "refused@mx2.example.test";

fn strings(recipients: &[&str]) -> Vec<String> {
    recipients.iter().map(|&recipient| recipient.to_owned()).collect()
}

/// A message with what software likes to change: dots, `From `, blanks at the end, octets above 127, a long line.
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

/// What is stored of a mail: whose copy it is, and of which mail; [`BOUNCE`] is a name too.
type Copies = BTreeMap<(String, String), usize>;
const BOUNCE: &str = "bounce";

/// A client in operation, and all that is behind it.
struct Play {
    client: Client,
    root: Root,
    lab: Lab,
    sent: Vec<Mail>,
    /// The copies there have to be.
    owed: Copies,
    /// Recipients whose mail has to wait.
    waiting: Vec<String>,
}

impl Play {
    fn start(client: Client) -> Self {
        // The MX takes all mail of two domains, but none for nobody.
        let good = Exchange {
            server: Server::Postfix(&[
                "virtual_mailbox_domains = example.test, mx1.example.test",
                "virtual_mailbox_maps = static:all/",
                "message_size_limit = 50000000",
                "smtpd_recipient_restrictions = \
                 check_recipient_access inline:{ {nobody@example.test = 550 5.1.1 no such user} }, permit",
            ]),
            ..MX1
        };
        let stripped = Exchange { server: Server::WITHOUT_STARTTLS, ..MX2 };
        let lab = Lab::start(&Case::of([good, stripped]));
        let root = Root::of(client.package);
        root.write("/etc/resolv.conf", &format!("nameserver {}\n", lab.resolver_address().ip()));
        let (file, path) = client.settings;
        root.write(path, &settings(file, lab.danelaw_address()));
        let play = Self { client, root, lab, sent: Vec::new(), owed: Copies::new(), waiting: Vec::new() };
        let output = play.shell(&play.client.setup, &[], b"");
        assert!(output.status.success(), "{output:?}");
        play
    }

    /// Hands in a mail.
    fn submit(&mut self, name: &'static str, recipients: &[String]) -> Output {
        let text = text(name, self.client.longest_line);
        self.submit_text(name, recipients, text)
    }

    fn submit_text(&mut self, name: &'static str, recipients: &[String], text: Vec<u8>) -> Output {
        let arguments: Vec<_> = recipients.iter().map(String::as_str).collect();
        let output = self.shell(self.client.submit, &arguments, &text);
        self.sent.push(Mail { name, recipients: recipients.to_vec(), text });
        output
    }

    /// Hands in a mail that the client has to take.
    #[track_caller]
    fn take(&mut self, name: &'static str, recipients: &[String]) {
        let output = self.submit(name, recipients);
        assert!(output.status.success(), "{output:?}");
    }

    /// Hands in a mail that everybody has to get.
    #[track_caller]
    fn deliver(&mut self, name: &'static str, recipients: &[String]) {
        self.take(name, recipients);
        self.owe(name, recipients);
    }

    fn owe(&mut self, name: &str, recipients: &[String]) {
        for recipient in recipients {
            *self.owed.entry((recipient.clone(), name.to_owned())).or_default() += 1;
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

    fn shell(&self, command: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .root
            .shell(command, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter is there");
        // A program that does not read to the end has said why, or says so by its status.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        child.wait_with_output().expect("our own child")
    }

    fn queue(&self) -> String {
        let output = self.shell(self.client.queue, &[], b"");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// The recipients, of all that have been written to, who are in the queue.
    fn queued(&self) -> Vec<String> {
        let queue = self.queue();
        let recipients = self.sent.iter().flat_map(|mail| &mail.recipients);
        recipients.filter(|recipient| queue.contains(recipient.as_str())).cloned().collect()
    }

    /// Whether everything comes to its end, with every copy that is owed, none more, and the rest in the queue.
    #[track_caller]
    fn assert_outcome(&self) {
        let owed: usize = self.owed.values().sum();
        let mx = self.lab.mx(&MX1);
        let state = || (mx.files("all").len(), self.queued());
        let settled = || {
            if state() == (owed, self.waiting.clone()) {
                return Some(());
            }
            self.shell(self.client.again, &[], b"");
            None
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("the outcome", settled)));
        if outcome.is_err() {
            eprintln!("--- the client's queue\n{}", self.queue());
            let log = self.shell("cat /tmp/log*", &[], b"");
            eprintln!("--- the client's log\n{}", String::from_utf8_lossy(&log.stdout));
        }
        let copies: Vec<_> = mx.stored("all").iter().map(|file| self.identify(file)).collect();
        let mut found = Copies::new();
        for copy in copies {
            *found.entry(copy).or_default() += 1;
        }
        assert_eq!(found, self.owed);
        assert_eq!(self.queued(), self.waiting);
        self.lab.assert_no_mail_command_at(&MX2);
    }

    /// Whose copy of which mail a file is; it has to be what was handed in.
    #[track_caller]
    fn identify(&self, file: &[u8]) -> (String, String) {
        let (head, body) = halves(file);
        let head = String::from_utf8_lossy(head).into_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
        let recipient = field("Delivered-To: ");
        if field("Return-Path: ") == "<>" {
            let text = String::from_utf8_lossy(body);
            assert!(text.contains(NOBODY) && text.contains("no such user"), "{head}{text}");
            return (recipient, BOUNCE.to_owned());
        }
        let name = field("X-Case: ");
        let mail = self.sent.iter().find(|mail| mail.name == name).unwrap_or_else(|| panic!("{head}"));
        let (sent_head, sent_body) = halves(&mail.text);
        assert!(body == sent_body, "the body has changed:\n{}", body[..body.len().min(4000)].escape_ascii());
        let mut lines = head.lines();
        for line in String::from_utf8_lossy(sent_head).lines() {
            assert!(lines.any(|found| found == line), "{line:?} is not where it was in\n{head}");
        }
        (recipient, name)
    }
}

/// The header and the body of a message whose lines end as Unix has it.
fn halves(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|pair| pair == b"\n\n").expect("an end of the header");
    (&text[..end], &text[end + 2..])
}

/// What README gives for a client, with the lab's danelaw in the place of the default one.
fn settings(file: &str, danelaw: SocketAddr) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/clients").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.replace("127.0.0.1", &danelaw.ip().to_string())
}

/// Programs without a queue: their exit status is the whole story, and LMTP leaves no recipient without an answer.
fn play_without_queue(client: Client) {
    let mut play = Play::start(client);
    play.deliver_the_plain_ones();
    play.deliver("domains", &strings(&["left@example.test", "right@mx1.example.test"]));
    let refused = play.submit("refused", &strings(&[REFUSED]));
    assert!(!refused.status.success() && said(&refused, "451 4.7.4"), "{refused:?}");
    let rejected = play.submit("rejected", &strings(&[FINE, NOBODY]));
    assert!(said(&rejected, "550 5.1.1"), "{rejected:?}");
    match play.client.recipients {
        Recipients::Alone => play.owe("rejected", &strings(&[FINE])),
        Recipients::Together => assert!(!rejected.status.success(), "{rejected:?}"),
    }
    play.assert_outcome();
}

/// Mail servers with a queue: what they were not told stays, and Alice hears of what cannot be.
fn play_with_queue(client: Client) -> Play {
    let mut play = Play::start(client);
    play.deliver_the_plain_ones();
    play.take("rejected", &strings(&[FINE, NOBODY]));
    play.owed.insert((ALICE.to_owned(), BOUNCE.to_owned()), 1);
    play.take("refused", &strings(&[REFUSED]));
    play.waiting.push(REFUSED.to_owned());
    let domains = strings(&["left@example.test", "right@mx1.example.test"]);
    play.take("domains", &domains);
    match play.client.recipients {
        Recipients::Alone => {
            play.owe("rejected", &strings(&[FINE]));
            play.owe("domains", &domains);
        }
        Recipients::Together => play.waiting.extend(domains),
    }
    play.assert_outcome();
    play
}

fn said(output: &Output, words: &str) -> bool {
    [&output.stdout, &output.stderr].iter().any(|text| String::from_utf8_lossy(text).contains(words))
}

#[test]
fn msmtp() {
    play_without_queue(Client {
        package: "msmtp",
        settings: ("msmtprc", "/etc/msmtprc"),
        setup: String::new(),
        submit: "exec msmtp --from=alice@example.test -- \"$@\"",
        queue: "",
        again: "",
        recipients: Recipients::Together,
        longest_line: 998,
    });
}

#[test]
fn swaks() {
    play_without_queue(Client {
        package: "swaks",
        settings: ("swaksrc", "/root/.swaksrc"),
        setup: String::new(),
        submit: "IFS=,; export HOME=/root; head -c -1 >/tmp/mail; \
            exec swaks --from alice@example.test --to \"$*\" --data @/tmp/mail --suppress-data",
        queue: "",
        again: "",
        recipients: Recipients::Alone,
        longest_line: 998,
    });
}

#[test]
fn nullmailer() {
    play_with_queue(Client {
        package: "nullmailer",
        settings: ("nullmailer-remotes", "/etc/nullmailer/remotes"),
        setup: "cd /var/spool/nullmailer && mkfifo -m 622 trigger && mkdir -p queue tmp failed && \
            echo client.test >/etc/nullmailer/me && (nullmailer-send >/tmp/log 2>&1 &)"
            .to_owned(),
        submit: "exec sendmail -f alice@example.test \"$@\"",
        queue: "head -n 20 /var/spool/nullmailer/queue/* /var/spool/nullmailer/tmp/*",
        again: "",
        recipients: Recipients::Together,
        longest_line: 998,
    });
}

const EXIM: &str = "\
primary_hostname = client.test
domainlist local_domains = client.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = 2500
tls_advertise_hosts =
smtp_accept_max = 0
queue_run_max = 5
message_size_limit = 50M
log_file_path = /tmp/log.%s
begin retry
* * F,4d,1s
";

/// Exim with what its configuration has above and below README's part of it.
fn exim(edit: &str) {
    let setup = format!(
        "cd /etc/exim4; {{ printf '%s\\n' '{EXIM}'; {edit} danelaw; }} >exim4.conf; mkdir -p /var/spool/exim4 /var/log/exim4; \
         chown -R Debian-exim:Debian-exim /var/spool/exim4 /var/log/exim4; exim4 -bd -q1s >/tmp/log 2>&1 || {{ cat /tmp/log; false; }}"
    );
    let play = play_with_queue(Client {
        package: "exim4-daemon-light",
        settings: ("exim.conf", "/etc/exim4/danelaw"),
        setup,
        submit: "exec exim4 -i -f alice@example.test \"$@\"",
        queue: "exim4 -bp",
        again: "exim4 -qff",
        recipients: Recipients::Alone,
        longest_line: 998,
    });
    // M12: whoever offers CHUNKING is sent chunks.
    let log = String::from_utf8_lossy(&play.shell("cat /tmp/log.main", &[], b"").stdout).into_owned();
    let sent = log.lines().filter(|line| [" => ", " -> "].iter().any(|sign| line.contains(sign)));
    assert!(sent.clone().count() > 100 && sent.clone().all(|line| line.contains(" K ")), "{log}");
}

#[test]
fn exim_with_prdr() {
    exim("cat");
}

#[test]
fn exim_without_prdr() {
    exim("grep -v hosts_try_prdr");
}

#[test]
fn opensmtpd() {
    play_with_queue(Client {
        package: "opensmtpd",
        settings: ("smtpd.conf", "/etc/smtpd.conf"),
        setup: "echo client.test >/etc/mailname; rm -f /etc/aliases; \
            chgrp opensmtpq /usr/sbin/smtpctl && chmod 2555 /usr/sbin/smtpctl; smtpd -F >/tmp/log 2>&1 & \
            until smtpctl show status >/dev/null 2>&1; do sleep 0.05; done"
            .to_owned(),
        submit: "exec sendmail -i -f alice@example.test \"$@\"",
        queue: "smtpctl show queue",
        again: "smtpctl schedule all",
        recipients: Recipients::Alone,
        longest_line: 998,
    });
}

/// What a machine's sendmail.mc has around README's lines; it must not mind the load that tests make.
const SENDMAIL: &str = "\
divert(0)dnl
define(`_CF_DIR_', `/usr/share/sendmail/cf/')dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
define(`confDOMAIN_NAME', `client.test')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`ALIAS_FILE', `')dnl
FEATURE(`nocanonify')dnl
include(`danelaw.mc')dnl
MAILER(`smtp')dnl
";

#[test]
fn sendmail() {
    // It looks up its own name and its peers' addresses, which no name server here knows.
    let setup = "cd /etc/mail; echo hosts files >service.switch; echo \"127.0.0.1 client.test $(hostname)\" >/etc/hosts; \
        sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf; m4 all.mc >sendmail.cf && /usr/libexec/sendmail/sendmail -bd -q1s >/tmp/log 2>&1";
    play_with_queue(Client {
        package: "sendmail-bin",
        settings: ("sendmail.mc", "/etc/mail/danelaw.mc"),
        setup: format!("cat >/etc/mail/all.mc <<'END'\n{SENDMAIL}END\n{setup}"),
        submit: "exec /usr/libexec/sendmail/sendmail -Am -i -f alice@example.test -- \"$@\"",
        queue: "/usr/libexec/sendmail/sendmail -Am -bp",
        again: "/usr/libexec/sendmail/sendmail -Am -q",
        recipients: Recipients::Alone,
        longest_line: 980,
    });
}

/// What installing Courier's package would have done.
const COURIER: &str = "\
cd /etc/courier
echo client.test | tee me locals defaultdomain >/etc/mailname
echo postmaster@client.test >dsnfrom
echo 50000000 >sizelimit
mkdir -p /run/courier
chown -R courier:courier /var/lib/courier /run/courier /usr/lib/courier/courier/submitmkdir /usr/bin/mailq
chmod 4755 /usr/lib/courier/courier/submitmkdir
chgrp courier /usr/sbin/sendmail
chmod 2755 /usr/sbin/sendmail /usr/bin/mailq
makealiases
courier start >/tmp/log 2>&1
";

#[test]
fn courier() {
    play_with_queue(Client {
        package: "courier-mta",
        settings: ("esmtproutes", "/etc/courier/esmtproutes"),
        setup: COURIER.to_owned(),
        submit: "exec sendmail -f alice@example.test \"$@\"",
        queue: "mailq -batch",
        again: "courier flush",
        recipients: Recipients::Alone,
        longest_line: 998,
    });
}

#[test]
fn dma() {
    play_with_queue(Client {
        package: "dma",
        settings: ("dma.conf", "/etc/dma/dma.conf"),
        setup: "echo client.test >/etc/mailname".to_owned(),
        submit: "exec dma -i -f alice@example.test \"$@\"",
        queue: "dma -bp",
        again: "dma -q",
        recipients: Recipients::Alone,
        longest_line: 990,
    });
}
