//! `danelaw check` with lists, and `danelaw domains`, which makes them: forms of output, and the ends before the last domain.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use danelaw::tlsrpt::gzip::gzip;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::check::check;
use crate::lab::dns::Tree;
use crate::lab::exchange::Exchange;
use crate::lab::mx::Act;
use crate::lab::{Scenario, free_port};
use crate::process::{danelaw, said};

/// A file with this content.
fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

#[tokio::test]
async fn a_list_as_csv_has_a_line_for_each_domain() {
    let lab = Scenario::new().tree(|tree, _| tree.mx("null.example.test", 0, ".")).start().await;
    let list = file(b"Domain;Mails\r\nexample.test;7\r\nuser@null.example.test;1\r\n");
    let path = list.path().to_str().unwrap();
    let said = check(&lab, "", &["--file", path, "--csv"], "").await;
    let lines: Vec<_> = said.out.lines().collect();
    assert_eq!(
        lines,
        [
            "domain,level,verdict,exchange,address,code,reason,no_dane,sts,advice",
            "example.test,dane,verified,mx1.example.test,127.0.0.1,,,,none,one-record",
            "null.example.test,dane,rejected,,,556 5.1.10,null-mx,,,",
        ],
        "{}",
        said.out
    );
    assert!(said.err.contains("line 1: \"Domain\" has no dot, so it is a heading and left out"), "{}", said.err);
    assert!(said.err.contains("2 domains:\n"), "{}", said.err);
    assert_eq!(said.status, 5);
}

#[tokio::test]
async fn a_resumed_check_asks_for_the_rest_and_for_deferred_mail_again() {
    let lab = Scenario::new()
        .tree(|tree, _| tree.mx("b.example.test", 10, "mx1.example.test").mx("c.example.test", 10, "mx1.example.test"))
        .start()
        .await;
    let earlier = file(
        b"{\"domain\":\"example.test\",\"verdict\":\"verified\"}\n{\"domain\":\"b.example.test\",\"verdict\":\"deferred\"}\n{\"dom",
    );
    let resume = earlier.path().to_str().unwrap();
    let list = "example.test\nb.example.test\nc.example.test\n";
    let said = check(&lab, "", &["-", "--json", "--resume", resume], list).await;
    let domains: Vec<_> = said.out.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!((domains.as_slice(), said.status), (["b.example.test", "c.example.test"].as_slice(), 0), "{}", said.err);
    assert!(said.err.contains("has 1 of the 3 domains; 2 are left"), "{}", said.err);
    let said = check(&lab, "", &["example.test", "--resume", resume], "").await;
    assert_eq!((said.status, said.out.as_str()), (0, ""), "{}", said.err);
    let wrong = file(b"verified\nverified\n");
    let said = check(&lab, "", &["example.test", "--resume", wrong.path().to_str().unwrap()], "").await;
    assert!(said.status == 64 && said.err.contains("line 1 is no report of danelaw check --json"), "{}", said.err);
}

#[tokio::test]
async fn a_list_ends_before_its_first_domain_where_no_name_server_answers() {
    let lab = Scenario::new().start().await;
    let list: String = (0..1000).map(|number| format!("d{number}.example.test\n")).collect();
    let closed = format!("127.0.0.1:{}", free_port());
    let servers = format!("dns.servers=[\"{closed}\"]");
    let said = check(&lab, "", &["-", "--set", &servers, "--set", "dns.fallback="], &list).await;
    assert_eq!((said.status, said.out.as_str()), (3, ""), "{}", said.err);
    assert!(
        said.err.starts_with("danelaw: no domain was checked, because no name server can be used\n"),
        "{}",
        said.err
    );
    assert!(said.err.contains(&closed), "{}", said.err);
}

/// Domains with a host each.
fn with_hosts(count: u8) -> impl FnOnce(Tree, u16) -> Tree {
    move |tree, _| {
        (0..count).fold(tree, |tree, number| {
            let (domain, host) = (format!("d{number}.example.test"), format!("mx.d{number}.example.test"));
            tree.mx(&domain, 10, &host).a(&host, &format!("127.0.1.{number}"))
        })
    }
}

/// The first of these domains, one a line.
fn first_domains(count: u8) -> String {
    (0..count).map(|number| format!("d{number}.example.test\n")).collect()
}

#[tokio::test]
async fn a_list_whose_connections_are_all_refused_ends_with_the_cause() {
    // No port is open at 127.0.1.0/24. All aliases of a domain lead to its one host.
    let alias = |tree: Tree, number: u8| tree.mx(&format!("same{number}.example.test"), 10, "mx.d0.example.test");
    let tree = move |tree, port| (0..20).fold(with_hosts(16)(tree, port), alias);
    let lab = Scenario::new().tree(tree).start().await;
    let said = check(&lab, "", &["-"], &first_domains(16)).await;
    assert!(said.out.contains("16 domains:\n      16 deferred"), "{}", said.out);
    let cause = "danelaw: none of 16 addresses (127.0.1.0, 127.0.1.1, 127.0.1.2, ..) has taken a connection: \
                 it seems that outbound port 25 is closed here, or that this host has no network; ask your provider to open the \
                 port, or check the DNS alone with --no-connect\n";
    assert_eq!((said.err.as_str(), said.status), (cause, 4));

    // Too few hosts, many domains of one dead host, and a host that can be reached: no cause is known.
    let same: String = (0..20).map(|number| format!("same{number}.example.test\n")).collect();
    for list in [first_domains(15), same, first_domains(16) + "example.test\n"] {
        let said = check(&lab, "", &["-"], &list).await;
        assert_eq!((said.err.as_str(), said.status), ("", 4), "{list}{}", said.out);
    }
    let said = check(&lab, "", &["-", "--no-connect"], &first_domains(16)).await;
    assert_eq!((said.err.as_str(), said.status), ("", 0), "{}", said.out);
}

#[tokio::test]
async fn a_list_ends_where_no_mail_server_can_be_reached() {
    const HOSTS: u8 = 60;
    let lab = Scenario::with_domain(with_hosts(HOSTS)).start().await;
    // The kernel drops each SYN while the queue of a listener is full, as a firewall does.
    let port = lab.now().connector.dialer.port;
    let full = |number| {
        let address = SocketAddr::from(([127, 0, 1, number], port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(0).unwrap();
        (std::net::TcpStream::connect(address).unwrap(), socket)
    };
    let _full: Vec<_> = (0..HOSTS).map(full).collect();
    let said = check(&lab, "", &["-"], &first_domains(HOSTS)).await;
    assert_eq!(said.status, 4, "{}{}", said.out, said.err);
    assert!(said.err.contains("danelaw: stopped: none of ") && said.err.contains("--no-connect"), "{}", said.err);
    assert!(said.err.contains(", ..) has taken a connection within 10 s: "), "{}", said.err);
    let checked = said.out.lines().filter(|line| line.contains(" deferred connect-timeout: ")).count();
    assert!((16..usize::from(HOSTS)).contains(&checked), "{}", said.out);
    let left = usize::from(HOSTS) - checked;
    assert!(said.err.contains(&format!("; {left} of {HOSTS} domains are left")), "{}", said.err);
}

#[tokio::test]
async fn an_interrupted_check_tells_what_it_has_and_what_is_left() {
    let scenario = Scenario::new()
        .tree(|tree, _| tree.mx("b.example.test", 10, "mx1.example.test"))
        .exchange(Exchange::new("silent.example.test", "mx.silent.example.test").script(|mx| mx.greeting = Act::Hang));
    let lab = scenario.start().await;
    let list = file(b"example.test\nb.example.test\nsilent.example.test\n");
    let [dns, anchor] = [lab.dns.addr.to_string(), lab.dns.anchor_file.display().to_string()];
    let port = lab.now().connector.dialer.port;
    let config = file(
        format!(
            "hostname = 'check.test'\ndns.servers = ['{dns}']\ndns.trust_anchor = '{anchor}'\nremote.port = {port}\n\
             remote.allow_reserved = ['127.0.0.0/8']\n"
        )
        .as_bytes(),
    );
    let mut command = tokio::process::Command::from(danelaw());
    command.args(["check", "--config"]).arg(config.path()).arg("--file").arg(list.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for domain in ["example.test", "b.example.test"] {
        assert!(lines.next_line().await.unwrap().unwrap().starts_with(domain));
    }
    let kill = format!("kill -INT {}", child.id().unwrap());
    assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "2 domains:");
    while lines.next_line().await.unwrap().is_some() {}
    let output = child.wait_with_output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("interrupted; 1 of 3 domains are left"), "{error}");
}

#[tokio::test]
async fn the_domains_of_logs_come_by_the_number_of_mails() {
    let line = |domain: &str| {
        format!(
            "Nov 29 10:00:01 mail postfix/smtp[7]: 4A: to=<x@{domain}>, relay=mx[192.0.2.1]:25, status=sent (250 ok)\n"
        )
    };
    let logs =
        [line("a.example") + &line("b.example"), line("b.example") + "another line\n"].map(|log| file(log.as_bytes()));
    let mut command = danelaw();
    command.arg("domains").args(logs.iter().map(tempfile::NamedTempFile::path));
    let found = said(command, "").await;
    assert_eq!((found.out.as_str(), found.status), ("b.example # 2\na.example # 1\n", 0), "{}", found.err);
    let mut command = danelaw();
    command.args(["domains", "-"]);
    let found = said(command, "nothing\n").await;
    assert!(found.status == 1 && found.err.contains("no line tells of a mail to another host"), "{}", found.err);
}

#[tokio::test]
async fn logs_are_read_out_of_gzip_and_no_other_log_is_passed_over_in_silence() {
    let line =
        |domain: &str| format!("Nov 29 mail postfix/smtp[7]: 4A: to=<x@{domain}>, relay=mx, status=sent (250 ok)\n");
    let export = "\"EventId\",\"Recipients\"\r\n\"SEND\",\"x@c.example;y@d.example\"\r\n";
    let export: Vec<u8> = format!("\u{feff}{export}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let plain = file(line("a.example").as_bytes());
    let packed = file(&gzip(line("b.example").as_bytes()).unwrap());
    let (export, quiet, empty) = (file(&export), file(b"Nov 29 mail postfix/smtpd[7]: connect\n"), file(b""));
    let types = file(b"EventId,Recipients\nSEND,System.String[]\n");
    let read = |logs: &[&tempfile::NamedTempFile]| {
        let mut command = danelaw();
        command.arg("domains").args(logs.iter().map(|log| log.path()));
        said(command, "")
    };

    let found = read(&[&plain, &packed, &export, &empty]).await;
    let all = "a.example # 1\nb.example # 1\nc.example # 1\nd.example # 1\n";
    assert_eq!((found.out.as_str(), found.err.as_str(), found.status), (all, "", 0));
    let mut command = danelaw();
    command.args(["domains", "-"]).stdin(packed.reopen().unwrap());
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "b.example # 1\n");

    let found = read(&[&plain, &quiet, &types]).await;
    let [quiet, types] = [quiet, types].map(|log| log.path().display().to_string());
    let told = format!(
        "danelaw: {types}: the column Recipients has the name of a type and no addresses; danelaw domains --help has a command \
         that exports them\ndanelaw: in 2 of 3 logs no line tells of a mail to another host: {quiet}, {types}\n"
    );
    assert_eq!((found.out.as_str(), found.err, found.status), ("a.example # 1\n", told, 0));

    for (content, why) in [
        (
            b"\xfd7zXZ\0\0\x04".to_vec(),
            "by xz, which danelaw does not unpack; this reads it: xz -dc FILE | danelaw domains -",
        ),
        (gzip(line("b.example").as_bytes()).unwrap()[..30].to_vec(), "incomplete deflate stream"),
    ] {
        let log = file(&content);
        let found = read(&[&plain, &log]).await;
        let is_named = found.err.starts_with(&format!("danelaw: {}: ", log.path().display()));
        assert!(is_named && found.err.contains(why), "{}", found.err);
        assert_eq!((found.out.as_str(), found.status), ("", 71));
    }
}
