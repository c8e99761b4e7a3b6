//! danelaw's own TLS reports: counted, kept over a restart, and sent once, by mail and by HTTPS (RFC 8460 §4, §5).

mod pool;
mod readers;
mod shown;

use std::sync::Arc;
use std::time::Duration;

use danelaw::config::ReportExtent;
use danelaw::dispatch::key::{DkimKey, new_key};
use danelaw::dispatch::signers::Signer;
use danelaw::dispatch::{Dispatch, DispatchSettings, DispatchTask};
use danelaw::dns::stub::Stub;
use danelaw::name::Name;
use danelaw::report::metrics::{Format, Moment};
use danelaw::reserved::Dialable;
use danelaw::store::Store;
use danelaw::tlsrpt::TlsEvent;
use danelaw::tlsrpt::dkim::DkimAlgorithm;
use danelaw::tlsrpt::document::ReportAuthor;
use danelaw::tlsrpt::read::{self, FoundReport};
use danelaw::tlsrpt::scope::ReportScope;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::lab::certs::Identity;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, say};
use crate::lab::policy_host::{Answer, PolicyHost, answered};
use crate::lab::{Lab, Scenario, wait_for};

const RECORD: &str = "_smtp._tls.example.test";
const KEY: &str = "tlsrpt._domainkey.sender.example.test";
const SECOND_KEY: &str = "tlsrpt-ed25519._domainkey.sender.example.test";

#[tokio::test]
async fn t47_a_start_tells_of_a_record_that_is_missing() {
    let (sender, other) = (Sender::new(), Sender::new());
    let lab = sender.scenario("mailto:r@example.test").start().await;
    for (settings, is_missing) in [(sender.settings(443), false), (other.settings(443), true)] {
        let (log, _logging) = crate::log::captured();
        let dispatch = sender.dispatch_with(&lab, watch::channel(settings).1).await;
        dispatch.check_keys(OffsetDateTime::now_utc()).await;
        let told = log.text();
        let names = told.contains("TLS reports by mail wait") && told.contains(KEY) && told.contains("v=DKIM1; k=rsa;");
        assert_eq!(names, is_missing, "{told}");
    }
}

/// An hour of the next day at which each report is due.
fn tomorrow() -> OffsetDateTime {
    let tomorrow = OffsetDateTime::now_utc().date().next_day().unwrap();
    tomorrow.with_hms(9, 0, 0).unwrap().assume_utc()
}

struct Sender {
    pem: String,
    folder: tempfile::TempDir,
}

impl Sender {
    fn new() -> Self {
        Self { pem: new_key(DkimAlgorithm::Rsa).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn key(&self) -> DkimKey {
        DkimKey::from_pem(self.pem.as_bytes()).unwrap()
    }

    /// A domain that cannot be verified and asks for reports there.
    fn scenario(&self, rua: &str) -> Scenario {
        let wrong = Identity::for_name("other").record("3 1 1");
        let record = self.key().record();
        let (first, second) = record.split_at(200);
        Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([wrong])]).tree(|tree, _| {
            tree.record(RECORD, "TXT", &format!("\"v=TLSRPTv1; rua={rua}\""))
                .record(KEY, "TXT", &format!("\"{first}\" \"{second}\""))
                .a("report.example.test", "127.0.0.1")
        })
    }

    async fn dispatch(&self, lab: &Lab, https_port: u16) -> Arc<Dispatch<Stub>> {
        self.dispatch_with(lab, watch::channel(self.settings(https_port)).1).await
    }

    async fn dispatch_with(&self, lab: &Lab, settings: watch::Receiver<Arc<DispatchSettings>>) -> Arc<Dispatch<Stub>> {
        Arc::new(Dispatch::open(settings, self.store().await, lab.shared.clone()).await.unwrap())
    }

    fn settings(&self, https_port: u16) -> Arc<DispatchSettings> {
        let domain = Name::parse("sender.example.test").unwrap();
        Arc::new(DispatchSettings {
            author: ReportAuthor {
                organization: "Example Ltd".into(),
                contact: "tls@sender.example.test".into(),
                domain: domain.clone(),
            },
            signers: vec![Signer::new(domain.clone(), "tlsrpt", self.key())],
            scope: ReportScope { extent: ReportExtent::All, skip: vec![], own: domain },
            https_port,
            dialable: Dialable::new(["127.0.0.0/8".parse().unwrap()]),
        })
    }

    /// A lab of this scenario and the reports about it. One session is counted; further events come by the channel.
    async fn counted(&self, scenario: Scenario) -> (Lab, Arc<Dispatch<Stub>>, mpsc::Receiver<TlsEvent>) {
        let (told, mut events) = mpsc::channel(100);
        let lab = scenario.telling(told).start().await;
        let dispatch = self.dispatch(&lab, 443).await;
        count_one(&lab, &dispatch, &mut events).await;
        (lab, dispatch, events)
    }

    /// Runs these statements on the file of the store.
    async fn change_store(&self, sql: &str) {
        use sqlx::{ConnectOptions, Connection};
        let path = self.folder.path().join("store.sqlite");
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn store(&self) -> Store {
        Store::open(Some(&self.folder.path().join("store.sqlite"))).await.unwrap()
    }
}

/// A mail that is refused for want of a proof, counted.
async fn count_one(lab: &Lab, dispatch: &Dispatch<Stub>, events: &mut mpsc::Receiver<TlsEvent>) {
    lab.send().await;
    dispatch.count(&events.recv().await.unwrap(), OffsetDateTime::now_utc());
}

/// A round that looks records up, another one that sends the reports, and the end of all of them.
async fn round(dispatch: &Arc<Dispatch<Stub>>, now: OffsetDateTime) {
    let begin = std::time::Instant::now();
    for _ in 0..2 {
        let mut tasks = JoinSet::new();
        dispatch.round(now + begin.elapsed(), &mut tasks).await;
        tasks.join_all().await;
    }
}

fn report_in(octets: &[u8]) -> FoundReport {
    let mut found: Vec<_> = read::reports(octets, None).collect();
    assert_eq!(found.len(), 1);
    found.remove(0).unwrap()
}

#[tokio::test]
async fn a_report_arrives_where_tls_fails_and_is_in_no_report() {
    // T41, T42, O3, O4, O10, O11, O12, O13, O14: its reader is that of `danelaw tlsrpt read`.
    let sender = Sender::new();
    let scenario = sender.scenario("mailto:r@example.test").set("remote.idle_connections = 100");
    let (lab, dispatch, mut events) = sender.counted(scenario).await;
    round(&dispatch, OffsetDateTime::now_utc()).await;
    assert!(lab.mx().messages().is_empty());
    round(&dispatch, tomorrow()).await;
    let mails = lab.mx().messages();
    assert_eq!(mails.len(), 1);
    // The session without the proof serves no other mail.
    assert_eq!(lab.now().connector.dialer.pool.waiting(), 0);
    let turns = lab.mx().tls();
    assert!(turns.contains(&"MAIL FROM:<tls@sender.example.test>".to_owned()), "{turns:?}");
    assert!(turns.contains(&"RCPT TO:<r@example.test>".to_owned()), "{turns:?}");
    let text = String::from_utf8(mails[0].clone()).unwrap();
    assert!(text.starts_with("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example.test;"), "{text}");
    assert!(text.contains("\r\nContent-Type: multipart/report; report-type=\"tlsrpt\";\r\n"), "{text}");
    let report = report_in(&mails[0]);
    let report = report.report;
    assert_eq!(
        (report.organization.as_str(), report.contact.as_deref()),
        ("Example Ltd", Some("tls@sender.example.test"))
    );
    assert_eq!((report.success(), report.failed(), report.policies.len()), (0, 1, 1));
    assert_eq!(report.policies[0].domain, "mx1.example.test");
    // Nothing is told of the session that took it.
    assert!(events.try_recv().is_err());
    // Once, also after a restart.
    round(&dispatch, tomorrow()).await;
    drop(dispatch);
    round(&sender.dispatch(&lab, 443).await, tomorrow() + Duration::from_secs(3600)).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_although_the_way_took_long() {
    let sender = Sender::new();
    let scenario = sender.scenario("mailto:r@example.test");
    let scenario = scenario.set("timeouts.route = '1500ms'\ntimeouts.greeting = '500ms'\nmta_sts.timeout = '1s'");
    let scenario = scenario.mx(|mx| mx.mail = Act::Late(Duration::from_millis(1700), Box::new(say("250 ok"))));
    let (lab, dispatch, _events) = sender.counted(scenario).await;
    round(&dispatch, tomorrow()).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_report_goes_past_levels_that_are_stronger_by_records() {
    // O14: no level keeps it, while `fingerprint` and `dane-only` hold for mail with the same field by a listener.
    let other = Identity::for_name("other").record("3 1 1");
    let pins = format!("rule = [{{ domain = 'example.test', level = 'fingerprint', records = ['{other}'] }}]");
    let dane_only = "rule = [{ domain = 'example.test', level = 'dane-only' }]";
    for settings in ["tls.level = 'dane-only'", dane_only, &pins] {
        let sender = Sender::new();
        let (lab, dispatch, _events) = sender.counted(sender.scenario("mailto:r@example.test")).await;
        lab.reload(settings);
        assert!(lab.send().await.last().starts_with("451 4.7.5 "), "{settings}");
        round(&dispatch, OffsetDateTime::now_utc()).await;
        round(&dispatch, tomorrow()).await;
        assert_eq!(lab.mx().messages().len(), 1, "{settings}");
    }
}

/// The days after today at the hour at which each report is due.
fn in_days(days: u32) -> OffsetDateTime {
    tomorrow() + Duration::from_secs(86_400) * (days - 1)
}

/// The headers of a mail that tell a second copy.
fn ids(mail: &[u8]) -> Vec<String> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("Message-ID:") || line.contains("Report-ID:"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn two_that_report_on_each_other_are_silent_after_one_day() {
    // T11.
    // Each is the receiver of the other, and TLS with both fails: were a report counted, the next day had a report on it.
    let (there, here) = (Sender::new(), Sender::new());
    let mut sides = Vec::new();
    for sender in [&there, &here] {
        let (told, events) = mpsc::channel(100);
        let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
        let dispatch = sender.dispatch(&lab, 443).await;
        sides.push((lab, dispatch, events));
    }
    for (lab, dispatch, events) in &mut sides {
        count_one(lab, dispatch, events).await;
    }
    for day in 1..=5 {
        for (lab, dispatch, events) in &mut sides {
            // A mail of clients on the third day.
            if day == 3 {
                lab.send().await;
            }
            while let Ok(event) = events.try_recv() {
                dispatch.count(&event, in_days(day));
            }
            round(dispatch, in_days(day)).await;
            let reports = if day < 4 { 1 } else { 2 };
            assert_eq!(lab.mx().messages().len(), reports, "day {day}");
        }
    }
}

#[tokio::test]
async fn a_kill_between_sending_and_writing_brings_a_copy_with_the_same_ids() {
    let (sender, before) = (Sender::new(), tempfile::tempdir().unwrap());
    let (lab, dispatch, _events) = sender.counted(sender.scenario("mailto:r@example.test")).await;
    dispatch.flush().await;
    for file in std::fs::read_dir(sender.folder.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), before.path().join(file.file_name())).unwrap();
    }
    round(&dispatch, tomorrow()).await;
    drop(dispatch);
    let restarted = Sender { pem: sender.pem.clone(), folder: before };
    let dispatch = restarted.dispatch(&lab, 443).await;
    round(&dispatch, tomorrow() + Duration::from_secs(60)).await;
    let mails = lab.mx().messages();
    assert_eq!(mails.len(), 2);
    assert_eq!(ids(&mails[0]).len(), 2, "{}", String::from_utf8_lossy(&mails[0]));
    assert_eq!(ids(&mails[0]), ids(&mails[1]));
    let [first, second] = [&mails[0], &mails[1]].map(|mail| report_in(mail).report);
    assert_eq!((first.failed(), &first.id), (second.failed(), &second.id));
    // It is written before the next report goes.
    round(&dispatch, tomorrow() + Duration::from_secs(120)).await;
    assert_eq!(lab.mx().messages().len(), 2);
}

#[tokio::test]
async fn a_report_in_doubt_is_sent_again() {
    let sender = Sender::new();
    let scenario = sender.scenario("mailto:r@example.test").mx(|mx| mx.end = Act::Close);
    let (lab, dispatch, _events) = sender.counted(scenario).await;
    round(&dispatch, tomorrow()).await;
    round(&dispatch, tomorrow() + Duration::from_secs(330)).await;
    let mails = lab.mx().messages();
    assert!(mails.len() == 2 && ids(&mails[0]) == ids(&mails[1]));
}

#[tokio::test]
async fn each_try_has_the_same_octets_although_the_author_has_changed() {
    // T29, O20.
    let sender = Sender::new();
    let scenario = sender.scenario("mailto:r@example.test").mx(|mx| mx.end = Act::Close);
    let (lab, dispatch, _events) = sender.counted(scenario).await;
    round(&dispatch, tomorrow()).await;
    drop(dispatch);
    let mut settings = Arc::into_inner(sender.settings(443)).unwrap();
    settings.author.organization = "Example Inc".into();
    settings.author.contact = "reports@sender.example.test".into();
    let dispatch = sender.dispatch_with(&lab, watch::channel(Arc::new(settings)).1).await;
    round(&dispatch, tomorrow() + Duration::from_secs(330)).await;
    let mails = lab.mx().messages();
    let unsigned = |mail: &Vec<u8>| {
        let text = String::from_utf8(mail.clone()).unwrap();
        let text = text.split_once("\r\nFrom: ").unwrap().1.to_owned();
        text.lines().filter(|line| !line.starts_with("Date: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(mails.len() == 2 && ids(&mails[0]).len() == 2);
    assert_eq!(unsigned(&mails[0]), unsigned(&mails[1]));
}

#[tokio::test]
async fn a_store_that_takes_nothing_stops_no_report_and_repeats_none() {
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    drop(sender.store().await);
    let refuse = |table: &str| {
        format!("CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(FAIL, 'disk full'); END;")
    };
    sender.change_store(&[refuse("tls_counts"), refuse("tls_reports")].concat()).await;
    let dispatch = sender.dispatch(&lab, 443).await;
    count_one(&lab, &dispatch, &mut events).await;
    dispatch.flush().await;
    for minutes in 0..9 {
        round(&dispatch, tomorrow() + Duration::from_secs(60 * minutes)).await;
    }
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_store_of_an_earlier_version_is_taken_over() {
    let before_reports =
        "DROP TABLE tls_counts; DROP TABLE tls_reports; DROP TABLE tls_suppressed; PRAGMA user_version = 3;";
    let before_authors =
        "ALTER TABLE tls_reports DROP COLUMN organization; ALTER TABLE tls_reports DROP COLUMN contact;
                          PRAGMA user_version = 4;";
    let before_id = "DROP TABLE tls_reporter; PRAGMA user_version = 5;";
    for before in [before_reports, before_authors, before_id] {
        let sender = Sender::new();
        let (told, mut events) = mpsc::channel(100);
        let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
        drop(sender.store().await);
        sender.change_store(&format!("{before} INSERT INTO records (key, seen) VALUES (x'00', 1);")).await;
        let dispatch = sender.dispatch(&lab, 443).await;
        count_one(&lab, &dispatch, &mut events).await;
        dispatch.flush().await;
        drop(dispatch);
        round(&sender.dispatch(&lab, 443).await, tomorrow()).await;
        assert_eq!(lab.mx().messages().len(), 1);
        // The table before has kept its row: it cannot be there twice.
        sender.change_store("UPDATE records SET seen = 2 / (SELECT COUNT(*) FROM records WHERE key = x'00');").await;
    }
}

#[tokio::test]
async fn no_mail_waits_for_reports() {
    // T18.
    // The record's server and the receiver are silent, and events find no room.
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(1);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    let dispatch = sender.dispatch(&lab, 443).await;
    count_one(&lab, &dispatch, &mut events).await;
    lab.dns.set_fault(RECORD, "TXT", Fault::Drop);
    let round = tokio::spawn({
        let dispatch = Arc::clone(&dispatch);
        async move { round(&dispatch, tomorrow()).await }
    });
    let begin = std::time::Instant::now();
    for _ in 0..5 {
        assert!(lab.send().await.last().starts_with("451 4.7.5"));
    }
    assert!(begin.elapsed() < Duration::from_secs(4) && !round.is_finished(), "{:?}", begin.elapsed());
    round.abort();
}

#[tokio::test]
async fn a_slow_lookup_holds_up_neither_the_reports_nor_the_next_round() {
    // O21.
    let sender = Sender::new();
    let (lab, dispatch, mut events) = sender.counted(sender.scenario("mailto:r@example.test")).await;
    let slow = Name::parse("slow.example.test").unwrap();
    lab.send().await;
    let mut event = events.recv().await.unwrap();
    (event.policy.domain, event.recipient) = (slow.clone(), slow);
    dispatch.count(&event, OffsetDateTime::now_utc());
    lab.dns.set_fault("_smtp._tls.slow.example.test", "TXT", Fault::Drop);
    let (begin, mut tasks) = (std::time::Instant::now(), JoinSet::new());
    while lab.mx().messages().is_empty() {
        dispatch.round(tomorrow() + begin.elapsed(), &mut tasks).await;
        assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The one task of the lookup.
    while tasks.len() > 1 {
        tasks.join_next().await.unwrap().unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_round_takes_up_the_settings_of_a_reload() {
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    let (news, settings) = watch::channel(sender.settings(443));
    let dispatch = sender.dispatch_with(&lab, settings).await;
    count_one(&lab, &dispatch, &mut events).await;
    let changed = |change: fn(&mut DispatchSettings)| {
        let mut settings = Arc::into_inner(sender.settings(443)).unwrap();
        change(&mut settings);
        news.send_replace(Arc::new(settings));
    };
    let skipped = |settings: &mut DispatchSettings| {
        settings.scope.skip = ["example.test", "mx1.example.test"].map(|domain| domain.parse().unwrap()).into();
    };
    changed(skipped);
    round(&dispatch, tomorrow()).await;
    assert!(lab.mx().messages().is_empty());
    changed(|settings| settings.author.organization = "Example Inc".into());
    round(&dispatch, tomorrow()).await;
    assert_eq!(report_in(&lab.mx().messages()[0]).report.organization, "Example Inc");
}

#[tokio::test]
async fn a_mail_waits_until_its_signature_can_be_verified() {
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    lab.dns.set_fault(KEY, "TXT", Fault::Drop);
    let dispatch = sender.dispatch(&lab, 443).await;
    count_one(&lab, &dispatch, &mut events).await;
    round(&dispatch, tomorrow()).await;
    assert!(lab.mx().messages().is_empty());
    let waiting = |lab: &Lab, count: usize| {
        let metrics = lab.now().reporter.metrics().written(Moment::default(), Format::Prometheus);
        assert!(metrics.contains(&format!("\ndanelaw_tlsrpt_waiting {count}\n")), "{metrics}");
    };
    waiting(&lab, 1);
    lab.dns.clear_fault(KEY, "TXT");
    round(&dispatch, tomorrow() + Duration::from_secs(3601)).await;
    assert_eq!(lab.mx().messages().len(), 1);
    waiting(&lab, 0);
}

#[tokio::test]
async fn a_report_is_tried_again_where_the_answer_is_for_now() {
    for (answer, tries) in [("451 later", 2), ("550 no such user", 1)] {
        let sender = Sender::new();
        let scenario = sender.scenario("mailto:r@example.test").mx(|mx| mx.rcpt = vec![say(answer); 9]);
        let (lab, dispatch, _events) = sender.counted(scenario).await;
        round(&dispatch, tomorrow()).await;
        round(&dispatch, tomorrow() + Duration::from_secs(60)).await;
        round(&dispatch, tomorrow() + Duration::from_secs(330)).await;
        let asked = lab.mx().tls().iter().filter(|command| command.starts_with("RCPT")).count();
        assert_eq!(asked, tries, "{answer}");
    }
}

#[tokio::test]
async fn a_report_goes_by_https_to_a_host_that_proves_its_name() {
    // T44, O15.
    let ca = Identity::authority();
    let sender = Sender::new();
    for (name, status, sent) in [
        ("report.example.test", "201 Created", 1),
        ("report.example.test", "503 Later", 2),
        ("other.example.test", "200 OK", 0),
    ] {
        let sender = Sender { pem: sender.pem.clone(), folder: tempfile::tempdir().unwrap() };
        let answer = Answer::Say(answered(status, "Content-Length: 0\r\n", b""));
        let host = PolicyHost::start(&ca.issue(name), answer).await;
        let (told, mut events) = mpsc::channel(100);
        let scenario = sender.scenario("https://report.example.test/v1?id=7").roots(ca.roots());
        let lab = scenario.telling(told).start().await;
        let dispatch = sender.dispatch(&lab, host.address.port()).await;
        count_one(&lab, &dispatch, &mut events).await;
        round(&dispatch, tomorrow()).await;
        round(&dispatch, tomorrow() + Duration::from_secs(330)).await;
        let requests = host.requests();
        assert_eq!(requests.len(), sent, "{name} {status}");
        for request in requests {
            assert!(request.starts_with("report.example.test POST /v1?id=7 HTTP/1.1\r\n"), "{request}");
            let request = request.to_ascii_lowercase();
            assert!(request.contains("\r\ncontent-type: application/tlsrpt+gzip\r\n"), "{request}");
            assert!(request.contains("\r\nuser-agent: danelaw/"), "{request}");
        }
    }
}

#[tokio::test]
async fn a_slow_report_holds_up_neither_the_others_nor_the_next_round() {
    // O21.
    let (sender, ca) = (Sender::new(), Identity::authority());
    let answer = Answer::Drip(answered("200 OK", "Content-Length: 0\r\n", b""), Duration::from_secs(600));
    let host = PolicyHost::start(&ca.issue("report.example.test"), answer).await;
    let (told, mut events) = mpsc::channel(100);
    let scenario = sender.scenario("https://report.example.test/,mailto:r@example.test").roots(ca.roots());
    let lab = scenario.telling(told).start().await;
    let dispatch = sender.dispatch(&lab, host.address.port()).await;
    count_one(&lab, &dispatch, &mut events).await;
    let mut sends = JoinSet::new();
    dispatch.round(tomorrow(), &mut sends).await;
    while sends.join_next().await.is_some() {}
    for minutes in 1..10 {
        dispatch.round(tomorrow() + Duration::from_secs(60 * minutes), &mut sends).await;
        wait_for(|| lab.mx().messages().len() == 1 && host.requests().len() == 1).await;
    }
    while sends.len() > 1 {
        sends.join_next().await.unwrap().unwrap();
    }
    assert_eq!(lab.mx().messages().len(), 1);
    // It ends with the program, and the next start tries it again.
    sends.shutdown().await;
    dispatch.round(tomorrow() + Duration::from_secs(900), &mut sends).await;
    wait_for(|| host.requests().len() == 2).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_report_by_https_goes_to_no_address_that_mail_alone_may_dial() {
    // remote.allow_reserved of the lab has loopback.
    let (sender, ca) = (Sender::new(), Identity::authority());
    let answer = Answer::Say(answered("200 OK", "Content-Length: 0\r\n", b""));
    let host = PolicyHost::start(&ca.issue("report.example.test"), answer).await;
    let (told, mut events) = mpsc::channel(100);
    let scenario = sender.scenario("https://report.example.test/,mailto:r@example.test").roots(ca.roots());
    let lab = scenario.telling(told).start().await;
    let mut settings = Arc::into_inner(sender.settings(host.address.port())).unwrap();
    settings.dialable = Dialable::default();
    let dispatch = sender.dispatch_with(&lab, watch::channel(Arc::new(settings)).1).await;
    count_one(&lab, &dispatch, &mut events).await;
    round(&dispatch, tomorrow()).await;
    assert_eq!((lab.mx().messages().len(), host.connections()), (1, 0));
}

#[tokio::test]
async fn the_last_counts_are_written_at_the_end() {
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    lab.send().await;
    let event = events.recv().await.unwrap();
    let (again, queue) = mpsc::channel(10);
    for event in [event.clone(), event] {
        again.send(event).await.unwrap();
    }
    let task = DispatchTask::start(sender.dispatch(&lab, 443).await, queue, |_| false);
    wait_for(|| again.capacity() == 10).await;
    task.finish().await;
    round(&sender.dispatch(&lab, 443).await, tomorrow()).await;
    let mails = lab.mx().messages();
    let text = String::from_utf8(mails[0].clone()).unwrap();
    assert!(text.contains("0 went well, 2 failed."), "{text}");
}

#[tokio::test]
async fn events_are_counted_while_the_store_is_slow() {
    // T22.
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    drop(sender.store().await);
    // Only the first write: it counts for a few seconds.
    let slow = "CREATE VIEW numbers AS
                    WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000000) SELECT x FROM n;
                CREATE TRIGGER slow BEFORE INSERT ON tls_counts WHEN NOT EXISTS (SELECT 1 FROM tls_counts)
                    BEGIN SELECT COUNT(*) FROM numbers; END;";
    sender.change_store(slow).await;
    let dispatch = sender.dispatch(&lab, 443).await;
    lab.send().await;
    let event = events.recv().await.unwrap();
    let now = OffsetDateTime::now_utc();
    dispatch.count(&event, now);
    let (again, queue) = mpsc::channel(10);
    let task = DispatchTask::start(Arc::clone(&dispatch), queue, |_| false);
    for _ in 0..20 {
        again.send(event.clone()).await.unwrap();
    }
    let counted = |dispatch: &Dispatch<Stub>| {
        let page = dispatch.counts(now.date(), None);
        page.domains[0].policies[0]["summary"]["total-failure-session-count"].as_u64().unwrap()
    };
    wait_for(|| counted(&dispatch) == 21).await;
    // The write is still under way.
    let write = dispatch.flush();
    assert!(tokio::time::timeout(Duration::from_millis(1), write).await.is_err());
    // All of them are written, and once.
    dispatch.flush().await;
    task.finish().await;
    drop(dispatch);
    assert_eq!(counted(&*sender.dispatch(&lab, 443).await), 21);
}
