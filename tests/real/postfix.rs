//! Real Postfix instances: the client, which hands all its mail to danelaw, and the MX hosts, which store what they
//! get.
//!
//! Each has a directory of its own below the lab's, and no chroot. Its log records the sessions that it saw.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::command::{eventually, output, run};
use crate::process::Daemon;
use crate::smtp::Session;

pub(crate) struct Postfix {
    directory: PathBuf,
    pub(crate) address: SocketAddr,
    master: Daemon,
}

/// The outcome for one recipient, from the log of a client's queue manager.
#[derive(Debug)]
pub(crate) struct RecipientOutcome {
    /// `sent`, `deferred` or `bounced`.
    pub(crate) status: String,
    /// The enhanced status code.
    pub(crate) dsn: String,
    /// The server's reply, with the words that the client adds.
    pub(crate) text: String,
}

impl RecipientOutcome {
    /// Asserts that the client keeps the message because of this reply of danelaw's, which has these words.
    #[track_caller]
    pub(crate) fn assert_deferred(&self, reply: &str, words: &[&str]) {
        self.assert("deferred", reply, words);
    }

    /// Asserts that the client gives up because of this reply of danelaw's, which has these words.
    #[track_caller]
    pub(crate) fn assert_bounced(&self, reply: &str, words: &[&str]) {
        self.assert("bounced", reply, words);
    }

    #[track_caller]
    fn assert(&self, status: &str, reply: &str, words: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        let reply = format!(" said: {reply}");
        for wanted in [reply.as_str()].iter().chain(words) {
            assert!(self.text.contains(wanted), "{wanted} in {self:?}");
        }
    }

    /// Reads `to=<bob@example.test>, relay=.., dsn=4.7.4, status=deferred (text)`.
    fn parse(line: &str) -> Option<Self> {
        let (rest, text) = line.split_once(" (")?;
        let (rest, status) = rest.rsplit_once("status=")?;
        let (_, dsn) = rest.trim_end_matches(", ").rsplit_once("dsn=")?;
        Some(Self { status: status.to_owned(), dsn: dsn.to_owned(), text: text.trim_end_matches(')').to_owned() })
    }
}

impl Postfix {
    /// Starts the instance of this name, which stores mail for the domain of its name unless the settings say more; a
    /// setting takes the place of an earlier one of its name. `postfix` is that command, or a longer one that ends in it.
    pub(crate) fn start(
        mut postfix: Command,
        directory: &Path,
        (address, name): (SocketAddr, &str),
        settings: &[String],
    ) -> Self {
        let directory = directory.join(name);
        configure(&directory, (address, name), settings);
        postfix.arg("-c").arg(directory.join("etc")).arg("start-fg");
        let master = Daemon::start(name, &mut postfix, &directory.join("master.log"));
        // From here on this value ends the instance, and its log shows why a start failed.
        let mut postfix = Self { directory, address, master };
        eventually(&format!("the greeting of {name}"), || {
            postfix.master.assert_running();
            Session::open(address)
        });
        postfix
    }

    /// Submits the message for the recipients to this instance, and returns its queue id.
    pub(crate) fn submit(&self, message: &[u8], recipients: &[&str]) -> String {
        let mut session = Session::open(self.address).expect("it listens");
        session.expect("EHLO submitter.client.test", 250);
        session.expect("MAIL FROM:<alice@client.test> BODY=8BITMIME", 250);
        for recipient in recipients {
            session.expect(&format!("RCPT TO:<{recipient}>"), 250);
        }
        session.expect("DATA", 354);
        session.send(message);
        let reply = session.expect(".", 250);
        session.expect("QUIT", 221);
        reply.split_whitespace().last().expect("`queued as` and a name").to_owned()
    }

    /// The outcome of the message for the recipient. Waits until the log has it.
    pub(crate) fn outcome(&self, queue_id: &str, recipient: &str) -> RecipientOutcome {
        let wanted = format!("{queue_id}: to=<{recipient}>");
        eventually(&format!("the outcome of {wanted}"), || {
            self.log().lines().find(|line| line.contains(&wanted)).and_then(RecipientOutcome::parse)
        })
    }

    /// The contents of the queue, one JSON object for each message.
    pub(crate) fn queue(&self) -> String {
        run(Command::new("postqueue").arg("-c").arg(self.directory.join("etc")).arg("-j"))
    }

    /// Tries deferred messages again at once.
    pub(crate) fn try_again(&self) {
        eventually("a deferred message", || self.queue().contains("\"queue_name\": \"deferred\"").then_some(()));
        // It fails at its end, since this instance runs no pickup(8). By then it has woken the queue manager.
        output(Command::new("postqueue").arg("-c").arg(self.directory.join("etc")).arg("-f"));
    }

    /// Waits until the queue is empty: a message leaves it just after its delivery is logged.
    pub(crate) fn await_empty_queue(&self) {
        eventually("an empty queue", || self.queue().is_empty().then_some(()));
    }

    /// Waits until the queue holds one message. After its outcome is logged, a message moves from the active queue to
    /// the deferred one. Meanwhile it may be listed twice or, since the lists are read one after the other, not at all.
    pub(crate) fn await_one_in_queue(&self) {
        eventually("one message in the queue", || (self.queue().lines().count() == 1).then_some(()));
    }

    /// Makes its processes read the configuration and the certificates again, once they are idle.
    pub(crate) fn reload(&self) {
        run(Command::new("postfix").arg("-c").arg(self.directory.join("etc")).arg("reload"));
        eventually("a greeting after the reload", || Session::open(self.address));
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("maillog")).unwrap_or_default()
    }

    /// How many connections this instance has seen.
    pub(crate) fn connections(&self) -> usize {
        // The first is the lab's own, which waits for the greeting.
        self.log().lines().filter(|line| line.contains("/smtpd[") && line.contains(": connect from ")).count() - 1
    }

    /// How many recipients this instance has refused.
    pub(crate) fn refusals(&self) -> usize {
        self.log().matches(": NOQUEUE: reject: RCPT ").count()
    }

    /// The summary line of the log for each connection to this instance: `ehlo=2 starttls=1 mail=1 quit=1 commands=5`.
    /// Waits until all connections have ended.
    pub(crate) fn await_sessions(&self) -> Vec<String> {
        eventually("the end of all connections", || {
            let log = self.log();
            let ends = log.lines().filter_map(|line| line.split_once(": disconnect from ")).skip(1);
            let sessions: Vec<_> =
                ends.map(|(_, end)| end.split_once(' ').map_or("", |(_, commands)| commands).to_owned()).collect();
            (sessions.len() == self.connections()).then_some(sessions)
        })
    }

    /// The contents of all files of the messages that were stored for a local part.
    pub(crate) fn stored(&self, local_part: &str) -> Vec<Vec<u8>> {
        self.files(local_part).iter().map(|path| fs::read(path).expect("a readable file")).collect()
    }

    /// The files of the messages that were stored for a local part.
    pub(crate) fn files(&self, local_part: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.directory.join("mail").join(local_part).join("new"));
        files.into_iter().flatten().map(|entry| entry.expect("a readable directory").path()).collect()
    }

    /// The one message that was stored for a local part. Waits until it is stored.
    pub(crate) fn await_stored(&self, local_part: &str) -> Vec<u8> {
        eventually(&format!("mail for {local_part}"), || self.stored(local_part).pop())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // Ends the workers too, which are in a session of their own.
        // An instance that hangs must not keep the test from reporting the failure.
        output(Command::new("timeout").args(["20", "postfix", "-c"]).arg(self.directory.join("etc")).arg("abort"));
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.directory.display(), self.log());
        }
    }
}

fn configure(directory: &Path, (address, name): (SocketAddr, &str), settings: &[String]) {
    fs::create_dir_all(directory.join("etc")).expect("the lab's directory is writable");
    for (mode, owner, group, parts) in DIRECTORIES {
        let parts = parts.iter().map(|part| directory.join(part));
        run(Command::new("install").args(["-d", "-m", mode, "-o", owner, "-g", group]).args(parts));
    }
    // Saves the second that Postfix would take to look for missing directories.
    fs::write(directory.join("queue/quick-start"), "").expect("the lab's directory is writable");
    let main_cf = MAIN_CF.replace("{directory}", &directory.display().to_string()).replace("{name}", name);
    let path = directory.join("etc/main.cf");
    fs::write(&path, each_once(main_cf.lines().chain(settings.iter().map(String::as_str))))
        .expect("the lab's directory is writable");
    // Postfix waits two seconds before it reads a file that has just been changed.
    let earlier = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(path).and_then(|file| file.set_modified(earlier)).expect("our own file");
    fs::write(directory.join("etc/master.cf"), MASTER_CF.replace("{address}", &address.to_string()))
        .expect("the lab's directory is writable");
}

/// The settings, with only the last one of each name. Every process of Postfix warns of a parameter that is set twice,
/// postlogd(8) too, before it reads the first datagram of its socket. That socket holds eleven: warnings of five
/// processes at the start fill it. Then postlogd waits for itself, all others wait for postlogd, and no greeting comes.
fn each_once<'a>(settings: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for line in settings {
        let (name, _) = line.split_once(" =").unwrap_or_else(|| panic!("no setting: {line}"));
        lines.retain(|(other, _)| *other != name);
        lines.push((name, line));
    }
    lines.iter().map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn a_setting_takes_the_place_of_an_earlier_one() {
    assert_eq!(each_once(["a = 1", "b = 2", "a = 3"].into_iter()), "b = 2\na = 3\n");
}

/// Mode, owner and group of directories, as Postfix's own `postfix-files` has them; virtual(8) stores mail as nobody.
const DIRECTORIES: [(&str, &str, &str, &[&str]); 5] = [
    ("755", "root", "root", &["queue", "queue/pid"]),
    ("755", "nobody", "nogroup", &["mail"]),
    ("730", "postfix", "postdrop", &["queue/maildrop"]),
    ("710", "postfix", "postdrop", &["queue/public"]),
    (
        "700",
        "postfix",
        "root",
        &[
            "data",
            "queue/active",
            "queue/bounce",
            "queue/corrupt",
            "queue/defer",
            "queue/deferred",
            "queue/flush",
            "queue/hold",
            "queue/incoming",
            "queue/private",
            "queue/saved",
            "queue/trace",
        ],
    ),
];

const MAIN_CF: &str = "\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = {name}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
local_transport = error:no local delivery
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{ bob@example.test=bob/, carol@example.test=carol/, alice@client.test=alice/ }
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_timeout = 20s
";

pub(crate) const MASTER_CF: &str = "\
{address} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
";
