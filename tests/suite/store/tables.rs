//! The laws of the tables for mails by month and for the watch. Both backends keep them.

use danelaw::journal::StorePlace;
use danelaw::store::{Error, HostSessions, MailDelta, MailWrite, MailedDomain, Store, WatchRow};
use sqlx::{ConnectOptions as _, Connection as _};

use super::laws::Backend;
use super::server::{Proxy, Server};

/// A month of the past.
const PAST: i64 = 2020 * 12;
/// One that has not come.
const LATER: i64 = 9000 * 12;

laws!(
    v23_mails_add_up_and_survive_a_restart,
    v23_a_month_has_room_for_so_many_domains,
    v23_failed_attempts_take_half_of_the_room,
    v23_months_that_are_over_are_forgotten,
    v23_domains_that_got_mail_are_found,
    v23_entries_take_the_place_of_those_before,
    v23_sessions_add_up_until_they_are_taken,
    v23_a_write_that_fails_adds_nothing,
    v26_names_come_back_as_they_went_in
);

impl Backend {
    async fn store(&self) -> Store {
        self.place.open().await.unwrap()
    }

    /// Carries out SQL with no store open. `danelaw.` stands before each table.
    async fn change(&self, sql: &str) {
        match (&self.database, &self.place) {
            (Some(server), _) => drop(server.sql(sql)),
            (None, StorePlace::File(path)) => {
                // The connection of a store closes in a thread of its own.
                drop(self.store().await);
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut connection = options.busy_timeout(std::time::Duration::from_secs(5)).connect().await.unwrap();
                let sql = sql.replace("danelaw.", "");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            (None, StorePlace::Memory | StorePlace::Database(_)) => panic!("no file"),
        }
    }
}

fn delta(month: i64, domain: &str, result: &str, [mails, last_day]: [i64; 2]) -> MailDelta {
    MailDelta { month, domain: domain.to_owned(), result: result.to_owned(), mails, last_day }
}

async fn add(store: &Store, number: i64, deltas: Vec<MailDelta>) {
    store.add_mails(&MailWrite { number, deltas }).await.unwrap();
}

/// The rows of a month, as text.
async fn shown(store: &Store, month: i64) -> Vec<String> {
    let shown = |MailDelta { month: of, domain, result, mails, last_day }: MailDelta| {
        assert_eq!(of, month);
        format!("{domain} {result} {mails} {last_day}")
    };
    store.mails_of(month).await.unwrap().into_iter().map(shown).collect()
}

fn entry(kind: &str, name: &str, entry: &str, seen: i64) -> WatchRow {
    let [kind, name, entry] = [kind, name, entry].map(str::to_owned);
    WatchRow { kind, name, entry, seen }
}

fn sessions(host: &str, word: &str, [sessions, last]: [i64; 2], note: &str) -> HostSessions {
    let [host, word, note] = [host, word, note].map(str::to_owned);
    HostSessions { host, port: 25, day: 2_460_000, word, sessions, last, note }
}

/// V23.
async fn v23_mails_add_up_and_survive_a_restart(backend: Backend) {
    let store = backend.store().await;
    add(&store, 1, vec![delta(PAST, "b.test", "verified", [2, 7]), delta(PAST, "a.test", "verified", [1, 5])]).await;
    let more = [delta(PAST, "b.test", "verified", [3, 6]), delta(PAST, "b.test", "deferred", [1, 8])];
    // A domain may come twice in one write, and months may be mixed.
    let more = more.into_iter().chain([delta(PAST, "b.test", "verified", [1, 2]), delta(LATER, "b.test", "x", [9, 9])]);
    add(&store, 2, more.collect()).await;
    let expected = ["a.test verified 1 5", "b.test deferred 1 8", "b.test verified 6 7"];
    assert_eq!(shown(&store, PAST).await, expected);
    // A write whose answer was lost comes again.
    for number in [2, 1] {
        add(&store, number, vec![delta(PAST, "b.test", "verified", [3, 6])]).await;
    }
    drop(store);
    let store = backend.store().await;
    assert_eq!(shown(&store, PAST).await, expected);
    assert_eq!(shown(&store, LATER).await, ["b.test x 9 9"]);
    assert_eq!(shown(&store, PAST + 1).await, Vec::<String>::new());
    // Another process has numbers of its own.
    add(&store, 1, vec![delta(PAST, "a.test", "verified", [1, 5])]).await;
    assert_eq!(shown(&store, PAST).await[0], "a.test verified 2 5");
}

/// V23, A-112: the room is 100,000 domains; here most of it is taken by a counter.
async fn v23_a_month_has_room_for_so_many_domains(backend: Backend) {
    let store = backend.store().await;
    add(&store, 1, vec![delta(PAST, "a.test", "x", [1, 1]), delta(PAST, "", "x", [1, 1])]).await;
    drop(store);
    backend.change("UPDATE danelaw.mail_domains SET domains = domains + 99998 WHERE domains = 1").await;
    let store = backend.store().await;
    let later = ["b.test", "c.test", "d.test", "a.test"].map(|domain| delta(PAST, domain, "x", [1, 2]));
    add(&store, 2, later.to_vec()).await;
    add(&store, 3, [later[1].clone(), later[0].clone(), delta(PAST, "c.test", "y", [1, 2])].to_vec()).await;
    assert_eq!(shown(&store, PAST).await, [" x 4 2", " y 1 2", "a.test x 2 2", "b.test x 2 2"]);
    // Another month has its own room.
    add(&store, 4, vec![delta(PAST + 1, "c.test", "x", [1, 2])]).await;
    assert_eq!(shown(&store, PAST + 1).await, ["c.test x 1 2"]);
}

/// V23, A-112: invented domains do not keep out those that get mail.
async fn v23_failed_attempts_take_half_of_the_room(backend: Backend) {
    let store = backend.store().await;
    let failed = async |store: &Store, number, domains: &[&str]| {
        let deltas = domains.iter().map(|domain| delta(PAST, domain, "x", [1, 1])).collect();
        store.add_failed_mails(&MailWrite { number, deltas }).await.unwrap();
    };
    failed(&store, 1, &["a.test"]).await;
    drop(store);
    backend.change("UPDATE danelaw.mail_domains SET domains = domains + 49998 WHERE domains = 1").await;
    let store = backend.store().await;
    failed(&store, 1, &["b.test", "c.test"]).await;
    failed(&store, 2, &["d.test", "a.test"]).await;
    assert_eq!(shown(&store, PAST).await, [" x 2 1", "a.test x 2 1", "b.test x 1 1"]);
    // A domain that gets mail has room, and then room for all its attempts.
    add(&store, 3, vec![delta(PAST, "d.test", "y", [1, 1])]).await;
    failed(&store, 4, &["e.test", "d.test"]).await;
    let expected = [" x 3 1", "a.test x 2 1", "b.test x 1 1", "d.test x 1 1", "d.test y 1 1"];
    assert_eq!(shown(&store, PAST).await, expected);
    drop(store);
    // One that fails does not give room back, and the number of domains has stayed right.
    backend.change("UPDATE danelaw.mail_domains SET domains = domains + 49999 WHERE domains = 50001").await;
    let store = backend.store().await;
    add(&store, 1, vec![delta(PAST, "f.test", "x", [1, 1])]).await;
    assert_eq!(shown(&store, PAST).await[0], " x 4 1");
}

/// V23.
async fn v23_months_that_are_over_are_forgotten(backend: Backend) {
    let store = backend.store().await;
    // More rows than are read or deleted together.
    let many = (0..6000).map(|number| delta(PAST, &format!("d{number:04}.test"), "x", [1, 1]));
    add(&store, 1, many.chain([delta(PAST + 1, "a.test", "x", [1, 1]), delta(LATER, "a.test", "x", [1, 1])]).collect())
        .await;
    let rows = store.mails_of(PAST).await.unwrap();
    assert!(rows.len() == 6000 && rows[5999].domain == "d5999.test" && rows.iter().all(|row| row.mails == 1));
    store.forget_mails(PAST + 1).await.unwrap();
    assert_eq!((store.mails_of(PAST).await.unwrap(), shown(&store, PAST + 1).await.len()), (vec![], 1));
    if backend.database.is_some() {
        // A danelaw whose clock is ahead does not delete this month for the others.
        store.forget_mails(LATER + 1).await.unwrap();
        assert_eq!((shown(&store, PAST + 1).await.len(), shown(&store, LATER).await.len()), (0, 1));
    }
    // The room is there again: a row that is left cannot be divided by 0.
    drop(store);
    let count =
        format!("UPDATE danelaw.mail_domains SET domains = domains / (CASE month WHEN {PAST} THEN 0 ELSE 1 END)");
    backend.change(&count).await;
}

/// V23.
async fn v23_domains_that_got_mail_are_found(backend: Backend) {
    let store = backend.store().await;
    // 2024-01-31 and 2024-02-01.
    let (january, day) = (2024 * 12, 2_460_341);
    let deltas = [
        delta(january - 1, "old.test", "verified", [90, day + 5]),
        delta(january, "a.test", "verified", [1, day - 1]),
        delta(january + 1, "a.test", "encrypted", [2, day + 1]),
        delta(january, "b.test", "verified", [9, day - 1]),
        delta(january, "c.test", "rejected", [9, day]),
        delta(january, "d.test", "encrypted", [4, day]),
        delta(january, "", "encrypted", [4, day]),
    ];
    add(&store, 1, deltas.to_vec()).await;
    let of = |domain: &str, mails, last_day| MailedDomain { domain: domain.to_owned(), mails, last_day };
    let found = async |day, most| store.mailed_since(day, &["verified", "encrypted"], most).await.unwrap();
    assert_eq!(found(day, 10).await, [of("d.test", 4, day), of("a.test", 3, day + 1)]);
    assert_eq!(found(day - 1, 1).await, [of("b.test", 9, day - 1)]);
    assert_eq!(found(day + 1, 10).await, [of("a.test", 2, day + 1)]);
}

/// V23.
async fn v23_entries_take_the_place_of_those_before(backend: Backend) {
    let store = backend.store().await;
    let lease = store.watch_lease().await.unwrap();
    let many = |seen: i64| (0..2500).map(move |number| entry("host", &format!("h{number:04}.test"), "{}", seen));
    let first: Vec<_> = many(5).chain([entry("domain", "a.test", "{\"a\":1}", 9)]).collect();
    store.put_watch_rows(&first, lease).await.unwrap();
    store
        .put_watch_rows(&[entry("domain", "a.test", "{\"a\":2}", 10), entry("host", "a.test", "[]", 10)], lease)
        .await
        .unwrap();
    store.put_watch_rows(&[], lease).await.unwrap();
    drop(store);
    let store = backend.store().await;
    let rows = store.watch_rows().await.unwrap();
    assert_eq!(rows.len(), 2502);
    let expected = [entry("domain", "a.test", "{\"a\":2}", 10), entry("host", "a.test", "[]", 10)];
    assert_eq!(rows[..2], expected);
    assert!(rows[2..].iter().eq(many(5).collect::<Vec<_>>().iter()));
    store.forget_watch_rows("domain", 10).await.unwrap();
    assert_eq!(store.watch_rows().await.unwrap().len(), 2502);
    store.forget_watch_rows("host", 10).await.unwrap();
    assert_eq!(store.watch_rows().await.unwrap(), expected);
}

/// V23.
async fn v23_sessions_add_up_until_they_are_taken(backend: Backend) {
    let store = backend.store().await;
    let lease = store.watch_lease().await.unwrap();
    store.add_host_sessions(&[]).await.unwrap();
    assert_eq!(store.take_host_sessions(lease).await.unwrap(), []);
    let first = [sessions("b.test", "verified", [2, 50], "new"), sessions("a.test", "verified", [1, 40], "a")];
    store.add_host_sessions(&first).await.unwrap();
    // A row that comes later with an earlier time does not replace the note; one of the same time does.
    let second = [sessions("b.test", "verified", [3, 49], "old"), sessions("b.test", "wrong-key", [1, 51], "w")];
    store.add_host_sessions(&second).await.unwrap();
    store.add_host_sessions(&[sessions("a.test", "verified", [1, 40], "a again")]).await.unwrap();
    let other = HostSessions { port: 65_535, day: 2_460_001, ..sessions("b.test", "verified", [7, 60], "p") };
    store.add_host_sessions(std::slice::from_ref(&other)).await.unwrap();
    let mut taken = store.take_host_sessions(lease).await.unwrap();
    taken.sort_by_key(|row| (row.host.clone(), row.port, row.word.clone()));
    let expected = [
        sessions("a.test", "verified", [2, 40], "a again"),
        sessions("b.test", "verified", [5, 50], "new"),
        sessions("b.test", "wrong-key", [1, 51], "w"),
        other,
    ];
    assert_eq!(taken, expected);
    assert_eq!(store.take_host_sessions(lease).await.unwrap(), []);
}

/// V23.
async fn v23_a_write_that_fails_adds_nothing(backend: Backend) {
    let store = backend.store().await;
    add(&store, 1, vec![delta(PAST, "a.test", "x", [1, 1])]).await;
    drop(store);
    let refuse = match backend.database {
        Some(_) => {
            "CREATE FUNCTION public.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.result = 'y' THEN \
             RAISE EXCEPTION 'no space' USING ERRCODE = '22000'; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER full_up BEFORE INSERT ON danelaw.mail_months FOR EACH ROW EXECUTE FUNCTION public.full()"
        }
        None => {
            "CREATE TRIGGER full_up BEFORE INSERT ON mail_months WHEN NEW.result = 'y' \
             BEGIN SELECT RAISE(FAIL, 'disk full'); END"
        }
    };
    backend.change(refuse).await;
    let store = backend.store().await;
    let deltas = vec![delta(PAST, "a.test", "x", [5, 5]), delta(PAST, "b.test", "y", [5, 5])];
    let write = MailWrite { number: 2, deltas };
    assert!(store.add_mails(&write).await.is_err());
    assert!(store.figures().is_up);
    assert_eq!(shown(&store, PAST).await, ["a.test x 1 1"]);
    drop(store);
    let on = if backend.database.is_some() { " ON danelaw.mail_months" } else { "" };
    backend.change(&format!("DROP TRIGGER full_up{on}")).await;
    // The same write once more.
    let store = backend.store().await;
    store.add_mails(&write).await.unwrap();
    assert_eq!(shown(&store, PAST).await, ["a.test x 6 5", "b.test y 5 5"]);
}

/// V26.
async fn v26_names_come_back_as_they_went_in(backend: Backend) {
    let store = backend.store().await;
    let lease = store.watch_lease().await.unwrap();
    let mut odd = ["'; DROP TABLE danelaw.mail_months; --", "$1 \\ \\' \" %s", "ünïcödé \u{fffd}"];
    for (number, text) in (1..).zip(odd) {
        add(&store, number, vec![delta(PAST, text, "x", [1, 1])]).await;
        let row = entry("domain", text, text, 5);
        store.put_watch_rows(std::slice::from_ref(&row), lease).await.unwrap();
        assert!(store.watch_rows().await.unwrap().contains(&row));
        let row = sessions(text, text, [1, 1], text);
        store.add_host_sessions(std::slice::from_ref(&row)).await.unwrap();
        assert_eq!(store.take_host_sessions(lease).await.unwrap(), [row]);
    }
    let mut found: Vec<_> = store.mails_of(PAST).await.unwrap().into_iter().map(|row| row.domain).collect();
    found.sort();
    odd.sort_unstable();
    assert_eq!(found, odd);
}

#[tokio::test]
async fn a_file_of_each_version_is_taken_over_with_its_outcomes() {
    let of = |tables: &str, version: i64| {
        let drops: String = tables.split_whitespace().map(|table| format!("DROP TABLE {table};")).collect();
        format!("{drops} PRAGMA user_version = {version}; INSERT INTO records (key, seen) VALUES (x'00', 1);")
    };
    let new = "mail_months mail_domains mail_writer watch_entries host_sessions";
    let reports = "tls_counts tls_reports tls_suppressed";
    let authors = "ALTER TABLE tls_reports DROP COLUMN organization; ALTER TABLE tls_reports DROP COLUMN contact;";
    for before in [
        of(new, 6),
        of(&format!("{new} tls_reporter"), 5),
        format!("{authors} {}", of(&format!("{new} tls_reporter"), 4)),
        of(&format!("{new} tls_reporter {reports}"), 3),
        of(&format!("{new} tls_reporter {reports} sts_policies"), 2),
    ] {
        let backend = Backend::file();
        drop(backend.store().await);
        backend.change(&before).await;
        for number in 1..3 {
            let store = backend.store().await;
            add(&store, number, vec![delta(PAST, "a.test", "x", [1, 1])]).await;
            assert_eq!(shown(&store, PAST).await, [format!("a.test x {number} 1")], "{before}");
            store.put_watch_rows(&[entry("host", "a.test", "{}", number)], None).await.unwrap();
            store.add_host_sessions(&[sessions("a.test", "x", [1, 1], "{}")]).await.unwrap();
            assert_eq!(store.watch_rows().await.unwrap(), [entry("host", "a.test", "{}", number)]);
        }
        // The table before has kept its row.
        let kept = "CREATE TEMP TABLE kept (rows INTEGER NOT NULL CHECK (rows = 1));
                    INSERT INTO kept SELECT COUNT(*) FROM records WHERE key = x'00' AND seen = 1;";
        backend.change(kept).await;
    }
}

/// V15.
#[tokio::test]
async fn v15_the_watch_is_written_by_the_holder_of_its_lease_alone() {
    let server = Server::start();
    let (first, second) =
        (Store::connect(server.settings()).await.unwrap(), Store::connect(server.settings()).await.unwrap());
    let lease = first.watch_lease().await.unwrap();
    assert!(lease.is_some() && second.watch_lease().await.unwrap().is_none());
    assert_eq!(first.watch_lease().await.unwrap(), lease, "it is renewed");
    let row = entry("host", "a.test", "{}", 1);
    let write = async |store: &Store, lease| store.put_watch_rows(std::slice::from_ref(&row), lease).await;
    let told = sessions("a.test", "x", [1, 1], "{}");
    second.add_host_sessions(std::slice::from_ref(&told)).await.unwrap();
    write(&first, lease).await.unwrap();
    assert!(matches!(write(&second, lease).await, Err(Error::LeaseEnded)));
    assert!(matches!(write(&first, None).await, Err(Error::LeaseEnded)));
    assert!(matches!(second.take_host_sessions(lease).await, Err(Error::LeaseEnded)));
    assert!(matches!(second.take_host_sessions(None).await, Err(Error::LeaseEnded)));
    // The first one was paused for longer than its lease, and the second one has taken it.
    server.sql("UPDATE danelaw.leases SET until = danelaw.clock() - 1 WHERE task = 'watch'");
    assert!(matches!(write(&first, lease).await, Err(Error::LeaseEnded)));
    let new = second.watch_lease().await.unwrap();
    assert!(new.is_some() && new != lease);
    assert!(matches!(write(&first, new).await, Err(Error::LeaseEnded)));
    assert!(matches!(first.take_host_sessions(lease).await, Err(Error::LeaseEnded)));
    assert_eq!(second.take_host_sessions(new).await.unwrap(), [told]);
    let leads = second.figures().leads;
    assert_eq!(leads, [("watch", true)]);
}

/// V10, V30.
#[tokio::test]
async fn v10_mails_whose_write_is_cut_at_any_octet_count_once() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let store = Store::connect(proxy.settings()).await.unwrap();
    let step = if std::env::var_os("LONG_TESTS").is_some() { 1 } else { 31 };
    let (mut octets, mut number) = (0, 0);
    // A call is made once more if its connection was in use before.
    assert_eq!(shown(&store, PAST).await, Vec::<String>::new());
    loop {
        proxy.cut_after(octets);
        number += 1;
        add(&store, number, vec![delta(PAST, "a.test", "x", [1, 1])]).await;
        store.add_host_sessions(&[sessions("a.test", "x", [1, number], "{}")]).await.unwrap();
        // The answer may have been lost above the store: the same number adds nothing.
        add(&store, number, vec![delta(PAST, "a.test", "x", [1, 1])]).await;
        assert_eq!(shown(&store, PAST).await, [format!("a.test x {number} 1")], "{octets}");
        if proxy.is_armed() {
            break;
        }
        octets += step;
    }
    assert!(octets > 500, "{octets}");
    let lease = store.watch_lease().await.unwrap();
    assert_eq!(store.take_host_sessions(lease).await.unwrap()[0].sessions, number);
}

/// V11.
#[tokio::test]
async fn v11_sessions_that_are_added_while_others_are_taken_are_neither_lost_nor_doubled() {
    let server = Server::start();
    let leader = Store::connect(server.settings()).await.unwrap();
    let lease = leader.watch_lease().await.unwrap();
    let adding: Vec<_> = (0..3)
        .map(|danelaw| {
            let settings = server.settings();
            tokio::spawn(async move {
                let store = Store::connect(settings).await.unwrap();
                for round in 0..60 {
                    let mut rows: Vec<_> =
                        (0..20).map(|host| sessions(&format!("h{host}.test"), "x", [1, round], "{}")).collect();
                    let mut mails: Vec<_> = (0..20)
                        .map(|domain| delta(PAST + domain % 3, &format!("d{domain}.test"), "x", [1, 1]))
                        .collect();
                    if danelaw == 1 {
                        rows.reverse();
                        mails.reverse();
                    }
                    store.add_host_sessions(&rows).await.unwrap();
                    add(&store, round + 1, mails).await;
                }
            })
        })
        .collect();
    let mut taken = 0;
    let mut take = async || {
        taken += leader.take_host_sessions(lease).await.unwrap().iter().map(|row| row.sessions).sum::<i64>();
        leader.forget_mails(PAST).await.unwrap();
        leader.forget_watch_rows("domain", 0).await.unwrap();
        taken
    };
    while !adding.iter().all(tokio::task::JoinHandle::is_finished) {
        take().await;
    }
    for adding in adding {
        adding.await.unwrap();
    }
    assert_eq!(take().await, 3 * 60 * 20);
    assert_eq!(server.sql("SELECT sum(mails) FROM danelaw.mail_months"), (3 * 60 * 20).to_string());
    assert_eq!(server.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
}

#[tokio::test]
async fn sessions_that_no_danelaw_takes_and_writers_that_have_ended_are_deleted() {
    let server = Server::start();
    let store = Store::connect(server.settings()).await.unwrap();
    store.add_host_sessions(&[sessions("a.test", "x", [1, 5], "{}")]).await.unwrap();
    server.sql("INSERT INTO danelaw.host_sessions VALUES ('b.test', 25, 1, 'x', 1, danelaw.clock(), '')");
    server.sql("INSERT INTO danelaw.sum_writers VALUES (1, 'mails', 7, danelaw.clock() - 172801)");
    super::replica(server.settings()).await.tidy().await.unwrap();
    assert_eq!(server.sql("SELECT host FROM danelaw.host_sessions"), "b.test");
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.sum_writers WHERE owner = 1"), "0");
}

/// V9.
#[tokio::test]
async fn v9_a_database_that_is_down_is_an_error_at_once_and_answers_later() {
    let mut server = Server::start();
    let store = Store::connect(server.settings()).await.unwrap();
    server.crash();
    let write = MailWrite { number: 1, deltas: vec![delta(PAST, "a.test", "x", [1, 1])] };
    let since = std::time::Instant::now();
    for _ in 0..5 {
        assert!(store.add_mails(&write).await.is_err());
        assert!(store.mails_of(PAST).await.is_err() && store.watch_rows().await.is_err());
        assert!(store.add_host_sessions(&[sessions("a.test", "x", [1, 5], "{}")]).await.is_err());
    }
    assert!(since.elapsed() < std::time::Duration::from_secs(5) && !store.figures().is_up);
    server.up();
    for _ in 0..500 {
        if store.add_mails(&write).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.add_mails(&write).await.unwrap();
    assert_eq!(shown(&store, PAST).await, ["a.test x 1 1"]);
}
