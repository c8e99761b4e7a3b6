//! Several danelaws with one database: one report a day of all of them (fleet rows V15, V16).

use std::collections::BTreeMap;
use std::time::Instant;

use danelaw::tlsrpt::event::TlsResult;

use super::*;
use crate::log::captured;
use crate::store::server::{Proxy, Server};

/// The settings of a store that gives up soon.
async fn store(server: &Server) -> Store {
    Store::connect(server.settings()).await.unwrap()
}

impl Sender {
    /// One danelaw of those that share the database.
    async fn pooled(&self, lab: &Lab, store: Store, https_port: u16) -> Arc<Dispatch<Stub>> {
        let settings = watch::channel(self.settings(https_port)).1;
        Arc::new(Dispatch::open(settings, store, lab.shared.clone()).await.unwrap())
    }
}

/// A lab that refuses each mail, so that each of them is an event.
async fn failing(sender: &Sender, scenario: Scenario) -> (Lab, TlsEvent) {
    let (told, mut events) = mpsc::channel(100);
    let lab = scenario.telling(told).start().await;
    lab.send().await;
    let event = events.recv().await.unwrap();
    assert!(!sender.pem.is_empty());
    (lab, event)
}

/// The Julian day of today, for SQL.
fn today() -> i64 {
    i64::from(OffsetDateTime::now_utc().date().to_julian_day())
}

/// The octets of a report mail without its date and signature.
fn unsigned(mail: &[u8]) -> Vec<String> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let text = text.split_once("\r\nFrom: ").unwrap().1.to_owned();
    text.lines().filter(|line| !line.starts_with("Date: ")).map(str::to_owned).collect()
}

/// Ten minutes pass for the database: the mails that a danelaw had taken are free again.
fn rights_end(server: &Server) {
    server.sql("UPDATE danelaw.tls_reports SET until = until - 1000 WHERE until > 0");
    server.sql("UPDATE danelaw.leases SET until = until - 1000");
}

/// V16.
#[tokio::test]
async fn v16_one_report_has_the_counts_of_all_danelaws() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    let other = sender.pooled(&lab, store(&server).await, 443).await;
    for (dispatch, events) in [(&one, 3), (&other, 4)] {
        for _ in 0..events {
            dispatch.count(&event, OffsetDateTime::now_utc());
        }
        dispatch.flush().await;
        dispatch.count(&event, OffsetDateTime::now_utc());
        dispatch.flush().await;
        dispatch.flush().await;
    }
    // Each of them tells the counts of all.
    let page = other.counts_of_all(OffsetDateTime::now_utc().date(), None).await.unwrap();
    assert_eq!(page.domains[0].policies[0]["summary"]["total-failure-session-count"], 9);
    assert_eq!(server.sql("SELECT count(*), sum(count) FROM danelaw.tls_tallies"), "1|9");
    round(&one, OffsetDateTime::now_utc()).await;
    assert!(lab.mx().messages().is_empty());
    for dispatch in [&one, &other, &one, &other] {
        round(dispatch, tomorrow()).await;
    }
    let mails = lab.mx().messages();
    assert_eq!(mails.len(), 1);
    assert_eq!(report_in(&mails[0]).report.failed(), 9);
    // Counts that come behind the report are those of the next day.
    other.count(&event, OffsetDateTime::now_utc());
    other.flush().await;
    let days = server.sql(
        "SELECT day, is_closed, (SELECT sum(count) FROM danelaw.tls_tallies t WHERE t.day = d.day) \
                           FROM danelaw.tls_days d ORDER BY day",
    );
    assert_eq!(days, format!("{}|t|9\n{}|f|1", today(), today() + 1));
    // Nor does a later start, or another one that leads, send it again.
    rights_end(&server);
    let third = sender.pooled(&lab, store(&server).await, 443).await;
    round(&third, tomorrow() + Duration::from_secs(3600)).await;
    assert_eq!(lab.mx().messages().len(), 1);
    assert_eq!(server.sql("SELECT state FROM danelaw.tls_reports WHERE address <> ''"), "sent");
}

/// V16.
#[tokio::test]
async fn v16_a_danelaw_that_dies_with_a_report_leaves_it_to_another_with_the_same_octets() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    one.count(&event, OffsetDateTime::now_utc());
    one.flush().await;
    // The author of the first try is written, and no result.
    server.sql("UPDATE danelaw.version SET readable_from = 1");
    server.sql(
        "CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'lost'; END $$; \
         CREATE TRIGGER lost BEFORE UPDATE ON danelaw.tls_reports FOR EACH ROW WHEN (NEW.until = 0 AND OLD.until > 0) \
         EXECUTE FUNCTION lost()",
    );
    round(&one, tomorrow()).await;
    assert_eq!(lab.mx().messages().len(), 1);
    drop(one);
    server.sql("DROP TRIGGER lost ON danelaw.tls_reports");
    let mut settings = Arc::into_inner(sender.settings(443)).unwrap();
    settings.author.organization = "Example Inc".into();
    let settings = watch::channel(Arc::new(settings)).1;
    let other = Arc::new(Dispatch::open(settings, store(&server).await, lab.shared.clone()).await.unwrap());
    // Counts that came in between do not change the report.
    other.count(&event, OffsetDateTime::now_utc());
    round(&other, tomorrow() + Duration::from_secs(60)).await;
    assert_eq!(lab.mx().messages().len(), 1);
    rights_end(&server);
    round(&other, tomorrow() + Duration::from_secs(660)).await;
    round(&other, tomorrow() + Duration::from_secs(1260)).await;
    let mails = lab.mx().messages();
    assert_eq!(mails.len(), 2);
    assert_eq!(ids(&mails[0]), ids(&mails[1]));
    assert_eq!(unsigned(&mails[0]), unsigned(&mails[1]));
}

/// V15.
#[tokio::test]
async fn v15_a_leader_whose_lease_has_ended_writes_nothing() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    one.count(&event, OffsetDateTime::now_utc());
    one.flush().await;
    // It is paused in a lookup, and another one takes the lease meanwhile.
    lab.dns.set_fault(RECORD, "TXT", Fault::Drop);
    let mut tasks = JoinSet::new();
    one.round(tomorrow(), &mut tasks).await;
    wait_for(|| server.sql("SELECT count(*) FROM danelaw.tls_days WHERE is_closed") == "1").await;
    server.sql("UPDATE danelaw.leases SET owner = 1, token = token + 1");
    tasks.join_all().await;
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.tls_reports"), "0");
    // While the other one has it, this one makes no report either.
    lab.dns.clear_fault(RECORD, "TXT");
    round(&one, tomorrow() + Duration::from_secs(60)).await;
    assert!(lab.mx().messages().is_empty());
    rights_end(&server);
    round(&one, tomorrow() + Duration::from_secs(360)).await;
    assert_eq!(lab.mx().messages().len(), 1);
    assert_eq!(server.sql("SELECT token FROM danelaw.leases WHERE task = 'tlsrpt'"), "3");
}

/// V16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v16_of_a_thousand_reports_each_goes_out_once_but_those_of_the_danelaw_that_is_killed() {
    let (server, sender, ca) = (Server::start(), Sender::new(), Identity::authority());
    let answer = Answer::Say(answered("200 OK", "Content-Length: 0\r\n", b""));
    let host = PolicyHost::start(&ca.issue("report.example.test"), answer).await;
    let scenario = sender.scenario("https://report.example.test/").roots(ca.roots());
    let (lab, _) = failing(&sender, scenario).await;
    let port = host.address.port();
    let mut danelaws = Vec::new();
    for _ in 0..3 {
        danelaws.push(sender.pooled(&lab, store(&server).await, port).await);
    }
    let content = r#"[{"kind":"tlsa","domain":"mx1.example.test","success":1}]"#;
    let due = tomorrow().unix_timestamp() - 3600;
    server.sql(&format!(
        "INSERT INTO danelaw.tls_reports (day, domain, address, state, first, tries, next, organization, contact, target, content, \
         changed) SELECT {}, 'd' || n || '.test', 'https://report.example.test/' || n, '', {due}, 0, {due}, '', '', 't' || n % 3, \
         '{content}', 0 FROM generate_series(1, 1000) AS n",
        today()
    ));
    server.sql(&format!("INSERT INTO danelaw.tls_days (day, is_closed) VALUES ({}, true)", today()));
    let open = || server.sql("SELECT count(*) FROM danelaw.tls_reports WHERE state = ''").parse::<usize>().unwrap();
    let rounds = |danelaw: &Arc<Dispatch<Stub>>| {
        let danelaw = Arc::clone(danelaw);
        tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            for _ in 0..8 {
                danelaw.round(tomorrow(), &mut tasks).await;
                while tasks.join_next().await.is_some() {}
            }
        })
    };
    // One is killed in the middle of its reports; the others go on.
    let killed = danelaws.pop().unwrap();
    let mut tasks = JoinSet::new();
    killed.round(tomorrow(), &mut tasks).await;
    let others: Vec<_> = danelaws.iter().map(rounds).collect();
    tasks.shutdown().await;
    drop(killed);
    for other in others {
        other.await.unwrap();
    }
    let lost: usize = server.sql("SELECT count(*) FROM danelaw.tls_reports WHERE until > 0").parse().unwrap();
    assert!(lost > 0 && lost <= 64, "{lost}");
    rights_end(&server);
    let begin = Instant::now();
    while open() > 0 {
        let others: Vec<_> = danelaws.iter().map(rounds).collect();
        for other in others {
            other.await.unwrap();
        }
        assert!(begin.elapsed() < Duration::from_secs(150), "{} are open", open());
    }
    let mut sent = BTreeMap::<String, usize>::new();
    for request in host.requests() {
        *sent.entry(request.split(' ').nth(2).unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(sent.len(), 1000);
    let twice = sent.values().filter(|copies| **copies > 1).count();
    assert!(twice <= lost && sent.values().all(|copies| *copies <= 2), "{twice} of {lost}");
    assert_eq!(server.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
}

/// V16.
#[tokio::test]
async fn v16_a_report_that_another_danelaw_has_taken_meanwhile_is_not_sent() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    one.count(&event, OffsetDateTime::now_utc());
    one.flush().await;
    // Ten minutes pass between the write of its author and the try.
    server.sql(
        "CREATE FUNCTION taken() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN NEW.owner := 1; NEW.token := NEW.token + 1; RETURN NEW; END $$; \
         CREATE TRIGGER taken BEFORE UPDATE ON danelaw.tls_reports FOR EACH ROW \
         WHEN (OLD.organization = '' AND NEW.organization <> '') EXECUTE FUNCTION taken()",
    );
    for _ in 0..3 {
        round(&one, tomorrow()).await;
    }
    assert!(lab.mx().messages().is_empty());
    assert_eq!(server.sql("SELECT owner, token, state FROM danelaw.tls_reports WHERE address <> ''"), "1|2|");
    // Nor does it write anything about it.
    server.sql("DROP TRIGGER taken ON danelaw.tls_reports");
    rights_end(&server);
    let other = sender.pooled(&lab, store(&server).await, 443).await;
    for dispatch in [&other, &one] {
        round(dispatch, tomorrow() + Duration::from_secs(660)).await;
    }
    assert_eq!(lab.mx().messages().len(), 1);
    assert_eq!(server.sql("SELECT token, state FROM danelaw.tls_reports WHERE address <> ''"), "3|sent");
}

#[tokio::test]
async fn a_store_without_its_id_sends_no_report_and_says_so_once() {
    let (server, sender, (log, _guard)) = (Server::start(), Sender::new(), captured());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    one.count(&event, OffsetDateTime::now_utc());
    let id = server.sql("DELETE FROM danelaw.tls_reporter RETURNING id");
    for _ in 0..3 {
        round(&one, tomorrow()).await;
    }
    assert!(lab.mx().messages().is_empty());
    let text = log.text();
    assert_eq!(text.matches("the id of the store in TLS reports cannot be read").count(), 1, "{text}");
    server.sql(&format!("INSERT INTO danelaw.tls_reporter VALUES (1, '{id}')"));
    round(&one, tomorrow()).await;
    assert_eq!(lab.mx().messages().len(), 1);
}

#[tokio::test]
async fn the_counts_of_one_stranger_leave_room_for_others_in_the_database() {
    // O18, A-112.
    let server = Server::start();
    drop(store(&server).await);
    // A registered domain gets a 32nd.
    let (most, day) = (3_200_000, today());
    let mut number = 0;
    let mut add = |owner: &str, rows: usize, octets: usize| {
        number += 1;
        server.sql(&format!(
            "SELECT danelaw.tls_add(1, {number}, {most}, array_agg({day}::bigint), array_agg('d' || n % 9 || '.{owner}'), \
             array_agg('{owner}'::text), array_agg(repeat('x', {octets}) || n), array_agg(1::bigint)) FROM generate_series(1, {rows}) AS n"
        ))
    };
    assert_eq!(add("honest.test", 10, 300), "0");
    let lost = add("stranger.test", 1000, 5000);
    assert_eq!(lost, "981");
    // Those that are there count on; there are no more of them.
    assert_eq!(add("stranger.test", 1000, 5000), lost);
    assert_eq!(add("stranger.test", 5, 100_000), "5");
    assert_eq!(add("honest.test", 20, 300), "0");
    assert_eq!(server.sql("SELECT max(octets) < 100000 FROM danelaw.tls_owners"), "t");
    assert_eq!(server.sql("SELECT octets = (SELECT sum(octets) FROM danelaw.tls_owners) FROM danelaw.tls_days"), "t");
    assert_eq!(server.sql("SELECT sum(count) FROM danelaw.tls_tallies WHERE domain LIKE '%.honest.test'"), "30");
    assert_eq!(server.sql("SELECT sum(count) FROM danelaw.tls_tallies WHERE domain LIKE '%.stranger.test'"), "38");
    // Many strangers fill the day. Results that have a row count on.
    for stranger in 0..40 {
        add(&format!("s{stranger}.test"), 30, 4800);
    }
    assert_eq!((add("other.test", 1, 300), add("honest.test", 20, 300)), ("1".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn a_long_policy_is_in_the_database_once_for_all_its_results() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, mut event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    event.policy.strings = Arc::new([format!("3 1 1 {}", "ab".repeat(4000))]);
    let (one, other) =
        (sender.pooled(&lab, store(&server).await, 443).await, sender.pooled(&lab, store(&server).await, 443).await);
    for number in 0..20_u8 {
        if let TlsResult::Failure(failure) = &mut event.result {
            failure.receiving = Some([192, 0, 2, number].into());
        }
        one.count(&event, OffsetDateTime::now_utc());
        other.count(&event, OffsetDateTime::now_utc());
        one.flush().await;
    }
    other.flush().await;
    let rows = "SELECT count(*), sum(count), sum(octet_length(counted)) < 20000 FROM danelaw.tls_tallies";
    assert_eq!(server.sql(rows), "21|40|t");
    round(&one, OffsetDateTime::now_utc()).await;
    for dispatch in [&one, &other, &one] {
        round(dispatch, tomorrow()).await;
    }
    let report = report_in(&lab.mx().messages()[0]).report;
    assert_eq!(report.failed(), 40);
    let content = "SELECT position(repeat('ab', 4000) IN content) > 0 FROM danelaw.tls_reports WHERE address <> ''";
    assert_eq!(server.sql(content), "t");
}

/// V10.
#[tokio::test]
async fn v10_counts_on_a_connection_that_is_cut_at_any_octet_count_once() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let proxy = Proxy::before(&server);
    let dispatch = sender.pooled(&lab, Store::connect(proxy.settings()).await.unwrap(), 443).await;
    let step = if crate::lab::long() { 1 } else { 61 };
    let (mut octets, mut counted) = (0, 0);
    loop {
        proxy.cut_after(octets);
        dispatch.count(&event, OffsetDateTime::now_utc());
        counted += 1;
        for _ in 0..20 {
            dispatch.flush().await;
        }
        assert_eq!(server.sql("SELECT sum(count) FROM danelaw.tls_tallies"), counted.to_string(), "{octets}");
        if proxy.is_armed() {
            break;
        }
        octets += step;
    }
    assert!(octets > 200, "{octets}");
}

/// V7, V8.
#[tokio::test]
async fn v7_v8_a_database_that_is_down_delays_no_mail_and_loses_no_count() {
    let (mut server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let url = server.settings();
    server.crash();
    // A danelaw starts without it.
    let store = Store::connect(url).await.unwrap();
    let dispatch = sender.pooled(&lab, store.clone(), 443).await;
    let (queue, events) = mpsc::channel(10);
    let task = DispatchTask::start(Arc::clone(&dispatch), events, |_| false);
    let begin = Instant::now();
    for _ in 0..7 {
        queue.send(event.clone()).await.unwrap();
        assert!(lab.send().await.last().starts_with("451 4.7.5"));
    }
    dispatch.flush().await;
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(dispatch.counts_of_all(OffsetDateTime::now_utc().date(), None).await.is_err());
    server.up();
    wait_for(|| store.figures().is_up).await;
    wait_for(|| queue.capacity() == 10).await;
    task.finish().await;
    assert_eq!(server.sql("SELECT sum(count) FROM danelaw.tls_tallies"), "7");
    let sent = sender.pooled(&lab, store, 443).await;
    round(&sent, tomorrow()).await;
    assert_eq!(report_in(&lab.mx().messages()[0]).report.failed(), 7);
}

/// V9.
#[tokio::test]
async fn v9_a_server_that_hangs_holds_up_neither_counting_nor_the_end() {
    let (server, sender) = (Server::start(), Sender::new());
    let (lab, event) = failing(&sender, sender.scenario("mailto:r@example.test")).await;
    let dispatch = sender.pooled(&lab, store(&server).await, 443).await;
    dispatch.count(&event, OffsetDateTime::now_utc());
    dispatch.flush().await;
    server.signal("STOP");
    let (queue, events) = mpsc::channel(10);
    let task = DispatchTask::start(Arc::clone(&dispatch), events, |_| false);
    for _ in 0..3 {
        queue.send(event.clone()).await.unwrap();
    }
    let counted = || {
        let page = dispatch.counts(OffsetDateTime::now_utc().date(), None);
        page.domains[0].policies[0]["summary"]["total-failure-session-count"].as_u64().unwrap()
    };
    wait_for(|| counted() == 4).await;
    let begin = Instant::now();
    task.finish().await;
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    server.signal("CONT");
    dispatch.flush().await;
    assert_eq!(server.sql("SELECT sum(count) FROM danelaw.tls_tallies"), "4");
}

#[tokio::test]
async fn an_address_that_has_refused_a_report_gets_none_from_another_danelaw() {
    let (server, sender) = (Server::start(), Sender::new());
    let scenario = sender.scenario("mailto:r@example.test").mx(|mx| mx.rcpt = vec![say("550 no such user"); 9]);
    let (lab, event) = failing(&sender, scenario).await;
    let one = sender.pooled(&lab, store(&server).await, 443).await;
    one.count(&event, OffsetDateTime::now_utc());
    round(&one, OffsetDateTime::now_utc()).await;
    round(&one, tomorrow()).await;
    assert_eq!(server.sql("SELECT state FROM danelaw.tls_reports WHERE address <> ''"), "refused");
    assert_eq!(server.sql("SELECT level FROM danelaw.tls_suppressed"), "1");
    // The next day.
    rights_end(&server);
    let other = sender.pooled(&lab, store(&server).await, 443).await;
    other.count(&event, tomorrow());
    other.flush().await;
    round(&other, in_days(2)).await;
    let ends =
        server.sql("SELECT state FROM danelaw.tls_reports WHERE address = '' AND domain = 'example.test' ORDER BY day");
    assert_eq!(ends, "found\nsuppressed");
    let asked = lab.mx().tls().iter().filter(|command| command.starts_with("RCPT")).count();
    assert_eq!(asked, 1);
}
