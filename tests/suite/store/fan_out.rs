//! Fan-out mail with a database, from the client to the remotes.

use std::time::Duration;

use super::server::Server;
use crate::admin::{browsed, get};
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, Scenario};
use crate::log::captured;

const MESSAGE: &[u8] = b"From: <a@client.test>\r\nMessage-ID: <1@client.test>\r\nSubject: lab\r\n\r\nbody\r\n";
const TO: [&str; 2] = ["b@example.test", "c@last.example.test"];

/// A danelaw with two domains, the last of which answers the end of its first messages so.
async fn lab(server: &Server, change: impl FnOnce(&mut Mx)) -> Lab {
    let listener = "listener = [{ address = '127.0.0.1:0', recipients = 'fan-out' }]";
    let config =
        format!("{listener}\nstore = {{ url = '{}', patience = '1s' }}\nremote.failed_hosts_for = '0s'", server.url());
    Scenario::new().set(&config).and_domain("last.example.test", change).start().await
}

async fn send(lab: &Lab) -> String {
    lab.client().await.send(&TO, MESSAGE).await.last().to_owned()
}

fn copies(lab: &Lab) -> Vec<usize> {
    lab.seen.iter().map(|seen| seen.messages().len()).collect()
}

/// V1.
#[tokio::test]
async fn v1_a_message_that_comes_again_to_another_danelaw_brings_no_second_copy() {
    let server = Server::start();
    let mut one = lab(&server, |mx| mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now"))).await;
    let told = send(&one).await;
    assert!(told.ends_with("451 4.3.0 send the message again; recipients that have it do not get it twice"), "{told}");
    assert_eq!(copies(&one), [1, 1]);
    one.stop();
    one.stopped().await;
    let other = lab(&server, |_| {}).await;
    assert!(send(&other).await.starts_with("250"));
    assert_eq!(copies(&other), [0, 1]);
    // The same once more is a new message.
    assert!(send(&other).await.starts_with("250"));
    assert_eq!(copies(&other), [1, 2]);
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.records"), "0");
}

/// V7, V8.
#[tokio::test]
async fn v7_v8_fan_out_mail_waits_while_the_store_is_down_and_gets_no_end_of_data() {
    let mut server = Server::start();
    let lab = lab(&server, |_| {}).await;
    lab.shared.borrow().connector.dns.clone().self_test().await;
    let admin = lab.admin().await;
    server.crash();
    for _ in 0..4 {
        let mut client = lab.client().await;
        client.command("MAIL FROM:<a@client.test>").await;
        let told = client.command("RCPT TO:<b@example.test>").await;
        assert!(told.starts_with("451 4.3.0 the store does not answer"), "{told}");
    }
    let figures = lab.now().journal.store().figures();
    assert!(!figures.is_up && figures.errors.contains(&("down", 1)), "{figures:?}");
    let (status, metrics) = get(&admin, "/metrics").await;
    assert!(status == 200 && metrics.contains("danelaw_store_up 0"), "{metrics}");
    // All danelaws would leave their service together.
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    server.up();
    // A probe a second.
    for _ in 0..500 {
        if lab.now().journal.store().figures().is_up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(send(&lab).await.starts_with("250"));
    assert_eq!(copies(&lab), [1, 1]);
}

/// V7.
#[tokio::test]
async fn v7_a_store_that_goes_down_within_the_message_defers_it_before_the_end_of_data() {
    let mut server = Server::start();
    let lab = lab(&server, |_| {}).await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    for recipient in TO {
        let told = client.command(&format!("RCPT TO:<{recipient}>")).await;
        assert!(told.starts_with("250"), "{told}");
    }
    client.command("DATA").await;
    server.crash();
    let message = String::from_utf8(MESSAGE.to_vec()).unwrap();
    let told = client.command(&format!("{message}.")).await;
    assert!(told.starts_with("451") && told.contains("the store does not answer"), "{told}");
    assert_eq!(copies(&lab), [0, 0]);
}

/// V4, V6.
#[tokio::test]
async fn v4_v6_an_outcome_that_cannot_be_recorded_is_told_and_may_bring_a_second_copy() {
    let (server, (log, _guard)) = (Server::start(), captured());
    let lab = lab(&server, |mx| mx.first_ends.lock().unwrap().push_back(say("451 4.3.0 not now"))).await;
    server.sql(
        "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON danelaw.outcomes EXECUTE FUNCTION public.full_disk()",
    );
    let told = send(&lab).await;
    assert!(told.ends_with("all recipients may get it again, because the store has failed"), "{told}");
    assert_eq!(copies(&lab), [1, 1]);
    let text = "the outcomes of a fan-out message cannot be recorded; no mail is lost and the attempt goes on, but if the client has to \
                send the message again, recipients that have it may get a second copy";
    assert!(log.text().contains(text), "{}", log.text());
    server.sql("DROP TRIGGER full_disk ON danelaw.outcomes");
    assert!(send(&lab).await.starts_with("250"));
    assert_eq!(copies(&lab), [2, 2]);
}

/// V17.
#[tokio::test]
async fn v17_recipients_that_are_pipelined_make_one_query() {
    let server = Server::start();
    let lab = lab(&server, |_| {}).await;
    let mut client = lab.client().await;
    client.command("MAIL FROM:<a@client.test>").await;
    let recipients: String = (0..200).map(|number| format!("RCPT TO:<r{number}@example.test>\r\n")).collect();
    client.write(recipients.as_bytes()).await;
    for number in 0..200 {
        let told = client.reply().await;
        assert!(told.starts_with("250"), "{number}: {told}");
    }
    let figures = lab.now().journal.store().figures();
    let served = figures.operations.iter().find(|figures| figures.operation == "served").unwrap();
    let queries: u64 = served.buckets.iter().map(|(_, count)| count).sum();
    // As many as there were reads of the socket.
    assert!((1..=5).contains(&queries), "{queries}");
}

/// V18.
#[tokio::test]
async fn v18_mail_that_needs_no_memory_causes_no_write() {
    let server = Server::start();
    let plain = format!("store = {{ url = '{}' }}", server.url());
    // A transaction that writes has a number.
    let numbers = "SELECT pg_snapshot_xmax(pg_current_snapshot())";
    for (lab, asks) in [(lab(&server, |_| {}).await, 1), (Scenario::new().set(&plain).start().await, 0)] {
        let (mut client, before) = (lab.client().await, server.sql(numbers));
        for _ in 0..20 {
            assert!(client.send(&TO[..1], MESSAGE).await.last().starts_with("250"));
        }
        assert_eq!(copies(&lab)[0], 20);
        // A fan-out listener asks at RCPT for records of the recipient. Other listeners do not ask.
        for (operation, calls) in [("served", 20 * asks), ("claim", 0), ("put", 0), ("take", 0), ("release", 0)] {
            let figures = lab.now().journal.store().figures();
            let figures = figures.operations.iter().find(|figures| figures.operation == operation).unwrap();
            assert_eq!(figures.buckets.iter().map(|(_, count)| count).sum::<u64>(), calls, "{operation}");
        }
        assert_eq!(server.sql(numbers), before);
    }
}

/// Y15.
#[tokio::test]
async fn y15_one_of_several_says_so() {
    let server = Server::start();
    let lab = lab(&server, |_| {}).await;
    let admin = lab.admin().await;
    let words = "danelaw on danelaw.test, one of several with the same store.url; it tells of its own mail alone";
    let (_, status) = get(&admin, "/status/").await;
    assert!(status.contains(&format!("\nreplica: {words}\n")), "{status}");
    for path in ["/", "/domains", "/domains/example.test", "/refusals", "/explain/", "/watch", "/tlsrpt"] {
        let page = browsed(&admin, path).await;
        assert!(page.contains(&format!("<footer><p>This is {words}.</p></footer>")), "{path}: {page}");
    }
    let alone = Scenario::new().start().await.admin().await;
    assert!(!get(&alone, "/status/").await.1.contains("replica"));
    assert!(!browsed(&alone, "/").await.contains("<footer>"));
}
