//! The program as a whole: another configuration while mail goes on, and the replies to mail where the system refuses
//! danelaw a resource.

use std::fs;
use std::io::{PipeWriter, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::dns::{DnsLab, Tree};
use crate::lab::{self, MESSAGE, SOON, Scenario};
use danelaw::admin::client::ask;
use danelaw::config::Address;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A domain that publishes no DANE, behind an exchange with TLS.
fn without_dane() -> Scenario {
    Scenario::with_domain(|tree, _| tree.mx("example.test", 10, "mx1.example.test"))
        .host("mx1.example.test", |mx, tree, _| (mx, tree))
}

#[tokio::test]
async fn the_next_transaction_is_the_first_under_the_new_rules() {
    let lab = without_dane().start().await;
    let mut client = lab.client().await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    lab.reload("tls.level = 'dane-only'");
    let answers = client.send(&["b@example.test"], MESSAGE).await;
    assert!(answers.last().starts_with("451 4.7.5 "), "{answers:?}");
    // A session that begins afterwards, too.
    assert!(lab.send().await.last().starts_with("451 4.7.5 "));
    lab.reload("");
    client.command("RSET").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn a_transaction_ends_as_it_began() {
    let lab = without_dane().start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    lab.reload("tls.level = 'dane-only'\nlimits.message_size = '64KiB'");
    assert!(client.command("RCPT TO:<c@example.test>").await.starts_with("250 "));
    assert!(client.command("DATA").await.starts_with("354 "));
    client.write(&[&b"0123456789\r\n".repeat(6000)[..], b".\r\n"].concat()).await;
    let answer = client.reply().await;
    assert!(answer.starts_with("250 2.0.0 "), "{answer}");
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("451 4.7.5 "));
}

#[tokio::test]
async fn what_we_say_of_ourselves_is_new_between_two_transactions() {
    let lab = Scenario::new().start().await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    lab.reload("hostname = 'new.test'\nlimits.message_size = '64KiB'");
    // A transaction ends as it began.
    for recipient in ["b", "c"] {
        let answer = client.command(&format!("RCPT TO:<{recipient}@example.test>")).await;
        assert!(answer.starts_with("250 "), "{answer}");
    }
    client.command("DATA").await;
    client.write(&[&b"0123456789\r\n".repeat(6000)[..], b".\r\n"].concat()).await;
    assert!(client.reply().await.starts_with("250 2.0.0 "));
    assert!(String::from_utf8_lossy(&lab.mx().messages()[0]).contains("by danelaw.test "));
    // The next one is another, though EHLO had offered more (RFC 1870 §6.1).
    assert!(client.command("MAIL FROM:<a@client.test> SIZE=70000").await.starts_with("552 5.3.4 "));
    client.command("MAIL FROM:<a@client.test> SIZE=10").await;
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    client.command("DATA").await;
    client.write(&[&b"0123456789\r\n".repeat(6000)[..], b".\r\n"].concat()).await;
    assert!(client.reply().await.starts_with("552 5.3.4 "));
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    assert!(String::from_utf8_lossy(&lab.mx().messages()[1]).contains("by new.test "));
    let offer = client.command("EHLO client.test").await;
    assert!(offer.starts_with("250-new.test\n") && offer.contains("\n250-SIZE 65536\n"), "{offer}");
}

#[tokio::test]
async fn a_reload_takes_up_all_of_tlsrpt_but_the_mode() {
    let dns = Tree::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let anchor = anchor(folder.path(), &dns);
    let of_mode = |rest: &str| format!("[tlsrpt]\nmode = \"collectd\"\n{rest}\n");
    Program::configure(folder.path(), &anchor, &dns, &of_mode("collectd = \"/run/before.sock\""));
    let program = Program::start(folder).await;
    let configure = |rest: &str| Program::configure(program.folder.path(), &anchor, &dns, rest);
    configure(&of_mode("collectd = \"/run/after.sock\"\nskip = [\"example.test\"]"));
    program.reload();
    program.reloaded("in-force", 1).await;
    configure("");
    program.reload();
    program.reloaded("refused", 1).await;
    program.logs("tlsrpt.mode: this cannot change while danelaw runs; restart it").await;
}

#[tokio::test]
async fn a_reload_reads_the_drop_ins_anew() {
    let (_dns, folder, _) = configured("[limits]\nsessions = 5\n").await;
    let program = Program::start(folder).await;
    let drop_ins = program.folder.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("a.toml"), "[limits]\nsessions = 6\n").unwrap();
    fs::write(drop_ins.join("b.toml"), "[limits]\nsessions = 7\n").unwrap();
    program.reload();
    program.reloaded("in-force", 1).await;
    program.becomes("/metrics", |text| text.contains("danelaw_sessions_limit 7\n")).await;
    fs::write(drop_ins.join("b.toml"), "[limits]\nsessions = 0\n").unwrap();
    program.reload();
    program.reloaded("refused", 1).await;
    program.logs("/conf.d/b.toml:2)").await;
    fs::remove_file(drop_ins.join("b.toml")).unwrap();
    program.reload();
    program.reloaded("in-force", 2).await;
    program.becomes("/metrics", |text| text.contains("danelaw_sessions_limit 6\n")).await;
}

/// Mail goes on, and so does the end, while a reload waits for a file.
#[tokio::test]
async fn a_reload_that_waits_for_a_pipe_delays_no_session() {
    let (dns, folder, anchor) = configured("").await;
    let mut program = Program::start(folder).await;
    let pipe = program.folder.path().join("ca.pem");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = format!("[tls]\nextra_ca = \"{}\"\n", pipe.display());
    Program::configure(program.folder.path(), &anchor, &dns, &pipe);
    program.reload();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let listening = program.listening().await;
    let greeted = async {
        for _ in 0..8 {
            assert!(Client::connect(listening).await.reply().await.starts_with("220 "));
        }
    };
    assert!(tokio::time::timeout(SOON, greeted).await.is_ok(), "{}", program.log());
    program.signal("TERM");
    program.ends_well().await;
}

/// A shell makes a pipe of `--config <(..)`, which can be read once.
#[tokio::test]
async fn a_pipe_that_is_read_again_is_no_configuration() {
    let (_dns, folder, _) = configured("[limits]\nsessions = 5\n").await;
    let mut command = Command::new("bash");
    command.args(["-c", "exec \"$0\" run --config <(cat \"$2\")", env!("CARGO_BIN_EXE_danelaw"), "--config"]);
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let program = Program::spawned(folder, command.stderr(log)).await;
    program.reload();
    program.reloaded("refused", 1).await;
    program.logs("it is a pipe, and nothing is in it").await;
    program.becomes("/metrics", |text| text.contains("danelaw_sessions_limit 5\n")).await;
}

/// The program, with a configuration of its own.
pub(crate) struct Program {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
}

impl Program {
    /// The part that every configuration of a test has.
    pub(crate) fn configure(folder: &Path, anchor: &Path, dns: &DnsLab, rest: &str) {
        let text = format!(
            "hostname = \"danelaw.test\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"unix:{}\"\n\
             [dns]\nservers = [\"{}\"]\ntrust_anchor = \"{}\"\nself_test = \"1h\"\n{rest}",
            folder.join("admin.sock").display(),
            dns.addr,
            anchor.display(),
        );
        fs::write(folder.join("danelaw.toml"), text).unwrap();
    }

    pub(crate) async fn start(folder: tempfile::TempDir) -> Self {
        // The usual limit is no more than that of the process that starts it.
        Self::limited(folder, "ulimit -Sn 300").await
    }

    /// One for which the system has this limit.
    async fn limited(folder: tempfile::TempDir, limit: &str) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let journal = format!("{}:{}", log.metadata().unwrap().dev(), log.metadata().unwrap().ino());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_danelaw"), "--config"]);
        Self::spawned(folder, command.env("JOURNAL_STREAM", journal).stderr(log)).await
    }

    /// One with this pipe as its standard error.
    async fn logging_to(folder: tempfile::TempDir, pipe: PipeWriter) -> Self {
        Self::spawned(folder, Command::new(env!("CARGO_BIN_EXE_danelaw")).arg("--config").stderr(pipe)).await
    }

    async fn spawned(folder: tempfile::TempDir, command: &mut Command) -> Self {
        let child = command.arg(folder.path().join("danelaw.toml")).stdin(Stdio::null()).spawn().unwrap();
        // Else a pipe would stay open here.
        command.stderr(Stdio::null());
        let program = Self { child, folder };
        program.becomes("/readyz", |text| text.starts_with("ready\n")).await;
        program
    }

    fn reload(&self) {
        self.signal("HUP");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn admin(&self) -> Address {
        Address::Unix(self.folder.path().join("admin.sock"))
    }

    /// Waits until the text at this path meets a condition.
    pub(crate) async fn becomes(&self, path: &str, so: impl Fn(&str) -> bool) {
        let asked = async {
            loop {
                if ask(&self.admin(), path).await.is_ok_and(|(_, text)| so(&text)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, asked).await.is_ok(), "{path} does not become so:\n{}", self.log());
    }

    /// Waits until so many reloads have had this result.
    async fn reloaded(&self, result: &str, times: usize) {
        let line = format!("danelaw_config_reloads_total{{result=\"{result}\"}} {times}\n");
        self.becomes("/metrics", |text| text.contains(&line)).await;
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until this is in the log, which comes after the event.
    async fn logs(&self, part: &str) {
        lab::wait_for(|| self.log().contains(part)).await;
    }

    /// The address of its listener.
    pub(crate) async fn listening(&self) -> SocketAddr {
        self.logs(" listen=").await;
        let log = self.log();
        log.split("listen=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    }

    /// Waits for its end, which is no failure.
    pub(crate) async fn ends_well(&mut self) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < SOON, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(status.success(), "{status}");
    }

    /// The first number behind this text in the answer at a path.
    async fn number(&self, path: &str, text: &str) -> u64 {
        let (_, all) = ask(&self.admin(), path).await.unwrap();
        let line = all.lines().find_map(|line| line.strip_prefix(text)).unwrap_or_else(|| panic!("{text} in {all}"));
        line.trim().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn anchor(folder: &Path, dns: &DnsLab) -> PathBuf {
    let path = folder.join("anchor");
    fs::copy(&dns.anchor_file, &path).unwrap();
    path
}

/// A DNS with a signed root, and a folder with its trust anchor and a configuration, which ends with this text.
async fn configured(rest: &str) -> (DnsLab, tempfile::TempDir, PathBuf) {
    let dns = Tree::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let anchor = anchor(folder.path(), &dns);
    Program::configure(folder.path(), &anchor, &dns, rest);
    (dns, folder, anchor)
}

#[tokio::test]
async fn a_signal_reads_everything_again() {
    let (dns, other) = (Tree::new().start().await, Tree::new().start().await);
    let folder = tempfile::tempdir().unwrap();
    let anchor = anchor(folder.path(), &dns);
    Program::configure(folder.path(), &anchor, &dns, "");
    let mut program = Program::start(folder).await;
    let configure = |rest: &str| Program::configure(program.folder.path(), &anchor, &dns, rest);
    configure("[tls]\nlevel = \"dane-only\"\n[log]\nfilter = \"danelaw=debug\"\n");
    program.reload();
    program.reloaded("in-force", 1).await;
    // A file with errors leaves the configuration as it was, and the log gives the reason, line by line.
    configure("[tls]\nlevle = \"dane\"\n[limits]\nsessions = 0\n");
    program.reload();
    program.reloaded("refused", 1).await;
    for part in ["tls.levle: there is no such key", "limits.sessions: 0 would stop all mail", "the old one stays"] {
        program.logs(part).await;
    }
    program.becomes("/metrics", |text| text.contains("danelaw_config_last_reload_successful 0\n")).await;
    program.becomes("/readyz", |text| text.starts_with("ready\n")).await;
    // A configuration with a change that needs a restart is refused as a whole.
    configure("[limits]\nsessions = 7\n");
    let file = program.folder.path().join("danelaw.toml");
    let moved = fs::read_to_string(&file).unwrap().replace("127.0.0.1:0", "127.0.0.2:0");
    fs::write(&file, moved).unwrap();
    program.reload();
    program.reloaded("refused", 2).await;
    program.logs("listener: this cannot change while danelaw runs; restart it").await;
    program.becomes("/metrics", |text| text.contains("danelaw_sessions_limit 9000\n")).await;
    configure("[limits]\nsessions = 7\n");
    program.reload();
    program.reloaded("in-force", 2).await;
    program.becomes("/metrics", |text| text.contains("danelaw_sessions_limit 7\n")).await;
    program.becomes("/metrics", |text| text.contains("danelaw_config_last_reload_successful 1\n")).await;
    // The configuration is the same, and the file of anchors that it names is not.
    fs::copy(&other.anchor_file, &anchor).unwrap();
    program.reload();
    program.reloaded("in-force", 3).await;
    program.becomes("/readyz", |text| text.contains("no resolver passes the self-test")).await;
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success(), "{}", program.log());
    // Standard error is the journal, as far as the program knows: each line has its priority.
    for line in program.log().lines().filter(|line| !line.contains("too few open files")) {
        let refused = line.contains("is of no use");
        assert!(line.starts_with("<3>") || !refused && (line.starts_with("<6>") || line.starts_with("<7>")), "{line}");
    }
}

#[tokio::test]
async fn a_rule_that_has_ended_stops_neither_start_nor_reload() {
    let dns = Tree::new().start().await;
    let folder = tempfile::tempdir().unwrap();
    let anchor = anchor(folder.path(), &dns);
    let rule = |domain: &str| {
        format!("[[rule]]\ndomain = \"{domain}\"\nlevel = \"may\"\nreason = \"x\"\nuntil = \"2020-01-31\"\n")
    };
    Program::configure(folder.path(), &anchor, &dns, &rule("a.test"));
    let program = Program::start(folder).await;
    let told = |domain: &str| format!("rule for {domain}: has ended, and is left out\n");
    program.becomes("/readyz", |text| text.starts_with("ready\n") && text.contains(&told("a.test"))).await;
    program.becomes("/metrics", |text| text.contains("danelaw_rules_ended 1\n")).await;
    Program::configure(program.folder.path(), &anchor, &dns, &(rule("a.test") + &rule("b.test")));
    program.reload();
    program.reloaded("in-force", 1).await;
    program.becomes("/readyz", |text| text.starts_with("ready\n") && text.contains(&told("b.test"))).await;
    program.becomes("/metrics", |text| text.contains("danelaw_rules_ended 2\n")).await;
    for domain in ["a.test", "b.test"] {
        let line = |line: &str| {
            line.starts_with("<3>")
                && line.contains("a rule has ended and is left out")
                && line.contains(&format!("may for {domain} until 2020-01-31: x"))
        };
        lab::wait_for(|| program.log().lines().any(line)).await;
    }
    // A reload that fails for another fault names that fault alone. The rules are warnings.
    let faulty = rule("a.test") + "[limits]\nsessions = 0\n";
    Program::configure(program.folder.path(), &anchor, &dns, &faulty);
    program.reload();
    program.reloaded("refused", 1).await;
    program.logs("limits.sessions: 0 would stop all mail").await;
    let log = program.log();
    let of_no_use: Vec<_> = log.lines().filter(|line| line.contains("is of no use")).collect();
    assert!(of_no_use.len() == 1 && !of_no_use[0].contains("has ended"), "{of_no_use:?}");
    let warning = |line: &&str| line.starts_with("<4>") && line.contains("the rule for a.test has ended on 2020-01-31");
    assert_eq!(log.lines().filter(warning).count(), 1, "{log}");
}

/// An invalid and long log filter: a reload says so in one line.
fn long_complaint() -> String {
    format!("[log]\nfilter = \"{}\"\n", "k".repeat(500_000))
}

#[tokio::test]
async fn a_log_that_is_not_read_delays_no_session() {
    const DROPPED: &str = "danelaw_log_dropped_lines_total";
    let (dns, folder, anchor) = configured("").await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut program = Program::logging_to(folder, writer).await;
    Program::configure(program.folder.path(), &anchor, &dns, &long_complaint());
    // More than the pipe and the queue take.
    for times in 1..=12 {
        program.reload();
        program.reloaded("refused", times).await;
    }
    assert!(program.number("/metrics", DROPPED).await > 0);
    // It flows again.
    let reading = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).map(|_| log).unwrap()
    });
    // The event of the last configuration comes behind the account of the lines dropped before.
    Program::configure(program.folder.path(), &anchor, &dns, "");
    tokio::time::sleep(Duration::from_millis(500)).await;
    program.reload();
    program.reloaded("in-force", 1).await;
    let dropped = program.number("/metrics", DROPPED).await;
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success());
    let log = reading.join().unwrap();
    let told = log.lines().filter(|line| line.contains("so many were dropped here"));
    let told: u64 = told.map(|line| line.rsplit_once("lines=").unwrap().1.trim().parse::<u64>().unwrap()).sum();
    assert_eq!(told, dropped);
    assert!(log.trim_end().ends_with("stopped; every open transaction was finished"), "{}", &log[log.len() - 500..]);
}

#[tokio::test]
async fn a_log_that_is_not_read_does_not_delay_the_end() {
    let (dns, folder, anchor) = configured("").await;
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut program = Program::logging_to(folder, writer).await;
    Program::configure(program.folder.path(), &anchor, &dns, &long_complaint());
    program.reload();
    program.reloaded("refused", 1).await;
    program.signal("TERM");
    program.ends_well().await;
}

#[tokio::test]
async fn a_further_interrupt_cuts_the_open_transactions() {
    let (_dns, folder, _) = configured("[timeouts]\ngrace = \"1h\"\n").await;
    let mut program = Program::start(folder).await;
    let mut client = Client::connect(program.listening().await).await;
    assert!(client.reply().await.starts_with("220 "));
    assert!(client.command("HELO client.test").await.starts_with("250 "));
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    program.signal("TERM");
    program.logs("stopping: no new sessions").await;
    // Some supervisors send it more than once.
    program.signal("TERM");
    assert!(client.command("NOOP").await.starts_with("250 "));
    program.signal("INT");
    program.ends_well().await;
    assert!(program.log().contains("these sessions were cut"), "{}", program.log());
}

/// A client of the program.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn reply(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(SOON, self.0.read_line(&mut line)).await.expect("a reply in time").unwrap();
        line
    }

    async fn command(&mut self, command: &str) -> String {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
        self.reply().await
    }
}

#[tokio::test]
async fn without_file_descriptors_mail_is_deferred_by_that_name_and_nothing_is_remembered() {
    //
    let (_dns, folder, _) = configured("cache_failures = \"30s\"\n").await;
    let program = Program::limited(folder, "ulimit -n 70").await;
    let address = program.listening().await;
    let mut client = Client::connect(address).await;
    assert!(client.reply().await.starts_with("220 "));
    assert!(client.command("HELO client.test").await.starts_with("250 "));
    let others: Vec<_> = futures_util::future::join_all((0..100).map(|_| Client::connect(address))).await;
    // Further connections wait in the kernel.
    let shortage = "this host is out of file descriptors, or of memory for sockets";
    lab::wait_for(|| program.log().lines().any(|line| line.starts_with("<3>") && line.contains(shortage))).await;
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    let refused = client.command("RCPT TO:<b@example.test>").await;
    assert!(refused.starts_with("451 4.3.0 ") && refused.contains("LimitNOFILE"), "{refused}");
    drop(others);
    // At once, and by the DNS.
    let asked = async {
        loop {
            // An answer of a transaction holds to its end.
            client.command("RSET").await;
            client.command("MAIL FROM:<a@client.test>").await;
            let answer = client.command("RCPT TO:<b@example.test>").await;
            if !answer.starts_with("451 4.3.0 ") {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(8), asked).await.expect("it is not remembered");
    assert!(!answer.contains("descriptors"), "{answer}");
    for at in ["accept", "delivery"] {
        let series = format!("danelaw_shortages_total{{reason=\"out-of-descriptors\",at=\"{at}\"}}");
        assert!(program.number("/metrics", &series).await > 0, "{series}");
    }
    // A name server is no worse for it.
    program.becomes("/readyz", |text| text.starts_with("ready\n")).await;
}

#[test]
fn a_store_that_is_damaged_is_a_fault_of_the_system() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "no store at all, and longer than the header of one. ".repeat(100)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(["--config", "/dev/null", "--set", "dns.servers=[\"127.0.0.1\"]", "--set"])
        .arg(format!("store.path={}", file.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(71) && said.contains("danelaw: store.path: "), "{said}");
}

#[test]
fn a_store_under_the_old_name_is_not_overlooked() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let start = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_danelaw"))
            .args(["--config", "/dev/null", "--set", "dns.servers=[\"127.0.0.1\"]"])
            .args(["--set", &format!("listener=[{{address=\"{}\"}}]", taken.local_addr().unwrap())])
            .args(["--set", &format!("store.path={}", folder.path().join(name).display())])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(71), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = "a new store is made, and the outcomes in the old file are not used";
    assert!(!start("ledger.sqlite").contains(warning), "the old name is a good name");
    assert!(!start("ledger.sqlite").contains(warning));
    let said = start("store.sqlite");
    assert!(said.contains(warning) && said.contains("ledger.sqlite"), "{said}");
    assert!(!start("store.sqlite").contains(warning), "it is there by now");
}

#[test]
fn exit_statuses_are_those_of_sysexits() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("listener=[{{address=\"{}\"}}]", taken.local_addr().unwrap());
    for (arguments, status) in [
        (&["--nonsense"][..], 64),
        (&["config"], 64),
        (&["--set", "nonsense=1"], 78),
        // The old name of the section.
        (&["--set", "ledger.path=/x"], 78),
        (&["--config", "/nonexistent"], 78),
        (&["--set", "dns.servers=[\"127.0.0.1\"]", "--set", "store.path=/nonexistent/store"], 71),
        (&["--set", "dns.servers=[\"127.0.0.1\"]", "--set", &listener], 71),
        (&["--version"], 0),
        (&["--help"], 0),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_danelaw")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert_eq!(output.stdout.is_empty(), status != 0, "standard output has the requested text alone");
    }
}

/// `danelaw config ..` with this file: exit status and output.
fn config(what: &str, text: &str) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .arg("config")
        .args(what.split(' '))
        .arg("--config")
        .arg(file.path())
        .env("DANELAW_TIMEOUTS__ROUTE", "3m")
        .output()
        .unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(said).unwrap().replace(&file.path().display().to_string(), "FILE"))
}

#[tokio::test]
async fn open_files_are_as_many_as_the_system_allows() {
    let (_dns, folder, _) = configured("[limits]\nsessions = 1000000000").await;
    let program = Program::start(folder).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.child.id())).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
    program.logs("too few open files for limits.sessions").await;
}

#[test]
fn a_configuration_is_checked_without_touching_anything() {
    let servers = "hostname = \"x.test\"\n[dns]\nservers = [\"127.0.0.1\"]\n";
    assert_eq!(config("check", servers), (Some(0), "the configuration is good; its file is FILE\n".to_owned()));
    let (status, wrong) = config("check", "[tls]\nlevel = \"x\"\n[dns]\ntimeout = 3\n");
    assert_eq!(status, Some(78));
    assert!(wrong.contains("danelaw: tls.level: ") && wrong.contains("danelaw: dns.timeout: "), "{wrong}");
    // Errors that the types of the keys cannot find are found too.
    let (status, wrong) =
        config("check", &format!("{servers}trust_anchor = \"/nonexistent\"\n[log]\nfilter = \"verbose\"\n"));
    assert_eq!(status, Some(78));
    assert!(wrong.contains("dns.trust_anchor: ") && wrong.contains("log.filter: "), "{wrong}");
}

#[test]
fn each_key_is_shown_with_its_source() {
    let (status, shown) = config("show", "[tls]\nlevel = \"dane-only\"\n");
    assert_eq!(status, Some(0), "{shown}");
    let source = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        line.split_once("# ").unwrap().1.to_owned()
    };
    assert_eq!(source("tls.level"), "FILE:2");
    assert_eq!(source("timeouts.route"), "DANELAW_TIMEOUTS__ROUTE");
    assert_eq!(source("timeouts.client"), "default");
    let (_, changed) = config("show --changed", "[tls]\nlevel = \"dane-only\"\n[log]\nformat = \"text\"\n");
    let keys: Vec<_> = changed.lines().map(|line| line.split(" = ").next().unwrap()).collect();
    assert!(keys.contains(&"tls.level") && !keys.contains(&"log.format"), "{changed}");
    let (_, json) = config("show --json", "[tls]\nlevel = \"dane-only\"\n");
    let objects: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let level = objects.iter().find(|object| object["key"] == "tls.level").unwrap();
    assert_eq!((&level["value"], &level["source"]), (&"dane-only".into(), &"FILE:2".into()));
    assert_eq!(objects.len(), shown.lines().count());
    // Every key of the example file is there.
    let tables =
        |toml: &toml::Table| -> usize { toml.values().map(|value| value.as_table().map_or(1, toml::Table::len)).sum() };
    assert_eq!(shown.lines().count(), tables(&danelaw::config::DEFAULTS.parse().unwrap()));
}
