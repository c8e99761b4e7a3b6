//! danelaw's own TLS reports: counted, kept over a restart, and sent once, by mail and by HTTPS (RFC 8460 §4, §5).

use std::sync::Arc;
use std::time::Duration;

use danelaw::dispatch::key::{DkimKey, new_key};
use danelaw::dispatch::{Dispatch, DispatchSettings, DispatchTask};
use danelaw::dns::stub::Stub;
use danelaw::name::Name;
use danelaw::store::Store;
use danelaw::tlsrpt::TlsEvent;
use danelaw::tlsrpt::dkim::DkimIdentity;
use danelaw::tlsrpt::document::ReportAuthor;
use danelaw::tlsrpt::read::{self, FoundReport};
use danelaw::tlsrpt::schedule::{ReportExtent, ReportScope};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use crate::lab::certs::Identity;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::policy_host::{Answer, PolicyHost, answered};
use crate::lab::{Lab, Scenario, wait_for};

const RECORD: &str = "_smtp._tls.example.test";
const KEY: &str = "tlsrpt._domainkey.sender.example.test";

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
        Self { pem: new_key().unwrap(), folder: tempfile::tempdir().unwrap() }
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

    async fn dispatch(&self, lab: &Lab, https_port: u16) -> Dispatch<Stub> {
        let domain = Name::parse("sender.example.test").unwrap();
        let settings = DispatchSettings {
            author: ReportAuthor {
                organization: "Example Ltd".into(),
                contact: "tls@sender.example.test".into(),
                domain: domain.clone(),
            },
            identity: DkimIdentity { domain: domain.clone(), selector: "tlsrpt".into() },
            key: self.key(),
            scope: ReportScope { extent: ReportExtent::All, skip: vec![], own: domain },
            https_port,
        };
        Dispatch::open(settings, self.store().await, lab.shared.clone()).await.unwrap()
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

fn report_in(octets: &[u8]) -> FoundReport {
    let mut found = read::reports(octets, None);
    assert_eq!(found.len(), 1);
    found.remove(0).unwrap()
}

#[tokio::test]
async fn a_report_arrives_where_tls_fails_and_is_in_no_report() {
    // O3, O4, O10, O11, O12, O13, O14: its reader is that of `danelaw tlsrpt read`.
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    let dispatch = sender.dispatch(&lab, 443).await;
    count_one(&lab, &dispatch, &mut events).await;
    dispatch.round(OffsetDateTime::now_utc()).await;
    assert!(lab.mx().messages().is_empty());
    dispatch.round(tomorrow()).await;
    let mails = lab.mx().messages();
    assert_eq!(mails.len(), 1);
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
    // T11: nothing is told of the session that took it.
    assert!(events.try_recv().is_err());
    // Once, also after a restart.
    dispatch.round(tomorrow()).await;
    drop(dispatch);
    sender.dispatch(&lab, 443).await.round(tomorrow() + Duration::from_secs(3600)).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_mail_waits_until_its_signature_can_be_verified() {
    // T47.
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    lab.dns.set_fault(KEY, "TXT", Fault::Drop);
    let dispatch = sender.dispatch(&lab, 443).await;
    count_one(&lab, &dispatch, &mut events).await;
    dispatch.round(tomorrow()).await;
    assert!(lab.mx().messages().is_empty());
    lab.dns.clear_fault(KEY, "TXT");
    dispatch.round(tomorrow() + Duration::from_secs(3601)).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn a_report_is_tried_again_where_the_answer_is_for_now() {
    for (answer, tries) in [("451 later", 2), ("550 no such user", 1)] {
        let sender = Sender::new();
        let (told, mut events) = mpsc::channel(100);
        let scenario = sender.scenario("mailto:r@example.test").mx(|mx| mx.rcpt = vec![say(answer); 9]);
        let lab = scenario.telling(told).start().await;
        let dispatch = sender.dispatch(&lab, 443).await;
        count_one(&lab, &dispatch, &mut events).await;
        dispatch.round(tomorrow()).await;
        dispatch.round(tomorrow() + Duration::from_secs(60)).await;
        dispatch.round(tomorrow() + Duration::from_secs(301)).await;
        let asked = lab.mx().tls().iter().filter(|command| command.starts_with("RCPT")).count();
        assert_eq!(asked, tries, "{answer}");
    }
}

#[tokio::test]
async fn a_report_goes_by_https_to_a_host_that_proves_its_name() {
    // O15.
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
        dispatch.round(tomorrow()).await;
        dispatch.round(tomorrow() + Duration::from_secs(301)).await;
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
async fn t22_the_last_counts_are_written_at_the_end() {
    let sender = Sender::new();
    let (told, mut events) = mpsc::channel(100);
    let lab = sender.scenario("mailto:r@example.test").telling(told).start().await;
    lab.send().await;
    let event = events.recv().await.unwrap();
    let (again, queue) = mpsc::channel(10);
    for event in [event.clone(), event] {
        again.send(event).await.unwrap();
    }
    let task = DispatchTask::start(Arc::new(sender.dispatch(&lab, 443).await), queue, |_| false);
    wait_for(|| again.capacity() == 10).await;
    task.finish().await;
    sender.dispatch(&lab, 443).await.round(tomorrow()).await;
    let mails = lab.mx().messages();
    let text = String::from_utf8(mails[0].clone()).unwrap();
    assert!(text.contains("0 went well, 2 failed."), "{text}");
}
