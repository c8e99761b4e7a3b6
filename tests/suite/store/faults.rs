//! A database that hangs, is cut, refuses or goes away.

use std::time::{Duration, Instant};

use danelaw::journal::Unclaimed;

use super::server::{Proxy, Server};
use super::{claim, delivered, message, replica};
use crate::command::eventually;
use crate::journal::pair;

/// Room for a machine with other work.
const SLACK: Duration = Duration::from_millis(400);

/// Waits until the store is up.
async fn up(journal: &danelaw::journal::Journal) {
    for _ in 0..1000 {
        if journal.store().figures().is_up {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the store stays down");
}

/// V9.
#[tokio::test]
async fn v9_no_call_lasts_longer_than_the_patience() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.patience = Duration::from_millis(500);
    let patience = settings.patience;
    let journal = replica(settings).await;
    let to = [pair("one@a.test")];
    message(&journal, "x", &to).await.release().await;
    let mut open = message(&journal, "y", &to).await;
    server.signal("STOP");
    for round in 0..6 {
        let since = Instant::now();
        assert_eq!(
            claim(&journal, "x", &to).await.err(),
            Some(if round == 0 { Unclaimed::Down } else { Unclaimed::Busy })
        );
        assert!(open.record([(to[0], delivered("1"))]).await.is_err());
        assert!(journal.served(to[0]).await.is_err());
        assert!(since.elapsed() < 3 * patience + SLACK, "{:?}", since.elapsed());
        if round > 1 {
            // After three failures it is not asked.
            assert!(since.elapsed() < SLACK, "{:?}", since.elapsed());
        }
    }
    assert!(!journal.store().figures().is_up);
    server.signal("CONT");
    up(&journal).await;
    open.record([(to[0], delivered("1"))]).await.unwrap();
    open.release().await;
    // The claim that was given up has been ended.
    message(&journal, "x", &to).await.release().await;
    let other = replica(server.settings()).await;
    message(&other, "x", &to).await.release().await;
    assert!(message(&other, "y", &to).await.outcome(to[0]).is_some());
}

/// V9.
#[tokio::test]
async fn v9_a_locked_row_ends_the_call_and_not_the_store() {
    let server = Server::start();
    let mut settings = server.settings();
    settings.patience = Duration::from_millis(300);
    let journal = replica(settings).await;
    let to = [pair("one@a.test")];
    let mut open = message(&journal, "x", &to).await;
    let mut locking = server.script("BEGIN; SELECT * FROM danelaw.records FOR UPDATE; SELECT pg_sleep(2); COMMIT");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let since = Instant::now();
    assert!(open.record([(to[0], delivered("1"))]).await.is_err());
    assert!(since.elapsed() < Duration::from_millis(300) + SLACK);
    assert!(journal.served(to[0]).await.is_ok() && journal.store().figures().is_up);
    locking.wait().unwrap();
    open.record([(to[0], delivered("1"))]).await.unwrap();
}

/// V10.
#[tokio::test]
async fn v10_a_connection_that_is_cut_at_any_octet_changes_nothing() {
    let server = Server::start();
    let (proxy, direct) = (Proxy::before(&server), replica(server.settings()).await);
    let journal = replica(proxy.settings()).await;
    let to = [pair("one@a.test"), pair("two@b.test")];
    let step = if std::env::var_os("LONG_TESTS").is_some() { 1 } else { 31 };
    let mut octets = 0;
    loop {
        proxy.cut_after(octets);
        let mut open = claim(&journal, "x", &to).await.unwrap();
        open.record([(to[0], delivered("1"))]).await.unwrap();
        open.release().await;
        assert_eq!(journal.served(to[0]).await.unwrap().len(), 1, "{octets}");
        let seen = message(&direct, "x", &to).await;
        assert_eq!((seen.outcome(to[0]), seen.outcome(to[1])), (Some(&delivered("1")), None), "{octets}");
        seen.release().await;
        claim(&journal, "x", &to).await.unwrap().delete().await.unwrap();
        assert!(direct.served(to[0]).await.unwrap().is_empty(), "{octets}");
        if proxy.is_armed() {
            break;
        }
        octets += step;
    }
    assert!(octets > 500, "{octets}");
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.records"), "0");
}

/// V11.
#[tokio::test]
async fn v11_writes_in_any_order_do_not_deadlock() {
    let server = Server::start();
    let replicas = [replica(server.settings()).await, replica(server.settings()).await];
    let all: Vec<_> = (0..20).map(|number| pair(&format!("r{number}@a.test"))).collect();
    let rounds = replicas.into_iter().enumerate().map(|(number, journal)| {
        let mut to = all.clone();
        if number == 1 {
            to.reverse();
        }
        tokio::spawn(async move {
            for round in 0..150 {
                let mut open = message(&journal, &format!("{}", round % 3), &to).await;
                open.record(to.iter().map(|one| (*one, delivered("1")))).await.unwrap();
                journal.tidy().await.unwrap();
                if round % 4 == 0 { open.delete().await.unwrap() } else { open.release().await }
            }
        })
    });
    let rounds: Vec<_> = rounds.collect();
    for round in rounds {
        round.await.unwrap();
    }
    assert_eq!(server.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
}

/// V11.
#[tokio::test]
async fn v11_a_call_that_the_server_rolls_back_for_another_one_is_made_once_more() {
    let server = Server::start();
    let journal = replica(server.settings()).await;
    let to = [pair("one@a.test")];
    // The first call is the victim of a deadlock; the second one is so twice.
    server.sql(
        "CREATE SEQUENCE public.calls; CREATE FUNCTION public.victim() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF nextval('public.calls') IN (1, 3, 4) THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; \
         END IF; RETURN NEW; END $$; \
         CREATE TRIGGER victim BEFORE INSERT ON danelaw.records FOR EACH ROW EXECUTE FUNCTION public.victim()",
    );
    message(&journal, "x", &to).await.release().await;
    assert_eq!(server.sql("SELECT last_value FROM public.calls"), "2");
    assert_eq!(claim(&journal, "y", &to).await.err(), Some(Unclaimed::Down));
    assert!(journal.store().figures().is_up);
    message(&journal, "z", &to).await.release().await;
}

/// V11: danelaws that tell, make, count and forget reports, each in an order of its own.
#[tokio::test]
async fn v11_writes_of_reports_in_any_order_do_not_deadlock() {
    let server = Server::start();
    drop(replica(server.settings()).await);
    server.sql("INSERT INTO danelaw.leases VALUES ('tlsrpt', 1, 9000000000, 1)");
    let (rounds, rows) = (
        60,
        "(SELECT d AS day, 'd' || n || '.test' AS domain FROM generate_series(1::bigint, 3) AS d, generate_series(1, 40) AS n)",
    );
    let of = |column: &str| format!("array_agg({column} ORDER BY place)");
    let same = |value: &str| format!("array_agg({value})");
    let (days, domains) = (of("day"), of("domain"));
    let make = format!(
        "PERFORM danelaw.tls_make(1, 1, {days}, {domains}, {a}, {e}, {z}, {z}, {z}, {a}, {e}) FROM (SELECT *, random() AS place FROM {rows} r) s",
        a = same("'https://r.test/'::text"),
        e = same("''::text"),
        z = same("0::bigint"),
    );
    let tell = format!(
        "PERFORM danelaw.tls_tell(0, {days}, {domains}, {a}, {e}, {z}, {z}, {z}, {e}, {e}, {z}, {k}) FROM (SELECT *, random() AS place FROM {rows} r) s",
        a = same("'https://r.test/'::text"),
        e = same("''::text"),
        z = same("0::bigint"),
        k = same("true"),
    );
    let add = format!(
        "PERFORM danelaw.tls_add(7 + WHO, i, 67108864, {days}, {domains}, {domains}, {t}, {z}) FROM (SELECT *, random() AS place FROM {rows} r) s",
        t = same("'[]'::text"),
        z = same("1::bigint"),
    );
    let forget = "PERFORM danelaw.tls_forget(1, 1, 9, 2)".to_owned();
    let run = |who: usize, what: &str| {
        let what = what.replace("WHO", &who.to_string());
        server.script(&format!("DO $$ BEGIN FOR i IN 1..{rounds} LOOP {what}; COMMIT; END LOOP; END $$"))
    };
    let all = [&make, &tell, &tell, &add, &add, &forget];
    let running: Vec<_> = all.iter().enumerate().map(|(who, what)| run(who, what)).collect();
    for mut running in running {
        assert!(running.wait().unwrap().success());
    }
    assert_eq!(server.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
}

#[tokio::test]
async fn a_server_that_restarts_is_asked_again_and_a_deletion_that_failed_is_made_then() {
    let mut server = Server::start();
    let (journal, other) = (replica(server.settings()).await, replica(server.settings()).await);
    let to = [pair("one@a.test")];
    let mut open = message(&journal, "x", &to).await;
    open.record([(to[0], delivered("1"))]).await.unwrap();
    server.crash();
    assert!(open.delete().await.is_err());
    // Any message of the client is deferred now: the record would swallow it.
    assert!(claim(&journal, "x", &to).await.is_err());
    for _ in 0..3 {
        assert!(journal.served(to[0]).await.is_err());
    }
    server.up();
    up(&journal).await;
    up(&other).await;
    assert_eq!(message(&other, "x", &to).await.outcome(to[0]), None);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_counts_as_failing() {
    let server = Server::start();
    let journal = replica(server.settings()).await;
    let to = [pair("one@a.test")];
    server.sql("ALTER DATABASE danelaw SET default_transaction_read_only = on");
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'danelaw'",
    );
    assert_eq!(claim(&journal, "x", &to).await.err(), Some(Unclaimed::Down));
    // A probe does not take it for one that does.
    for _ in 0..3 {
        assert!(journal.message(super::key("y", &to), &to).await.is_err());
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let figures = journal.store().figures();
    assert!(!figures.is_up, "{figures:?}");
    assert!(figures.errors.iter().any(|(kind, count)| *kind == "other" && *count > 0), "{figures:?}");
}

#[tokio::test]
async fn a_disk_that_is_full_defers_the_message_until_there_is_room() {
    let server = Server::start();
    let journal = replica(server.settings()).await;
    let to = [pair("one@a.test")];
    message(&journal, "x", &to).await.release().await;
    server.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON danelaw.records EXECUTE FUNCTION full_disk()",
    );
    for text in ["a", "b", "c"] {
        assert_eq!(claim(&journal, text, &to).await.err(), Some(Unclaimed::Down));
    }
    // A probe that passes in between asks it anew.
    let errors = journal.store().figures().errors;
    assert!(errors.iter().map(|(_, count)| count).sum::<u64>() >= 3, "{errors:?}");
    server.sql("DROP TRIGGER full_disk ON danelaw.records");
    up(&journal).await;
    message(&journal, "d", &to).await.release().await;
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.records"), "0");
}

#[tokio::test]
async fn a_server_without_a_free_connection_defers_the_message_until_it_has_one() {
    let server = Server::start_with(&["max_connections=4", "superuser_reserved_connections=0", "max_wal_senders=0"]);
    let mut others: Vec<_> = (0..4).map(|_| server.script("SELECT pg_sleep(3)")).collect();
    // All of them are there before the danelaw starts.
    eventually("four sessions of the server", || (server.titles().matches(" SELECT").count() == 4).then_some(()));
    let journal = replica(server.settings()).await;
    let to = [pair("one@a.test")];
    assert!(!journal.store().figures().is_up);
    assert_eq!(claim(&journal, "x", &to).await.err(), Some(Unclaimed::Down));
    others.iter_mut().for_each(|other| assert!(other.wait().unwrap().success()));
    up(&journal).await;
    message(&journal, "x", &to).await.release().await;
}
