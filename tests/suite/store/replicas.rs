//! Several danelaws on one database.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use danelaw::journal::{Journal, Pair, StorePlace, Unclaimed};
use danelaw::store::Store;

use super::server::{Server, settings};
use super::{at, claim, delivered, message, replica};
use crate::journal::pair;

/// A message that clients send, each of them to any danelaw, until they are told that it is done.
struct Truth {
    text: String,
    to: Vec<Pair>,
    /// A session is between its claim and its end.
    is_held: AtomicBool,
    /// Recipients with a recorded delivery.
    recorded: Mutex<BTreeMap<Pair, ()>>,
    copies: Mutex<BTreeMap<Pair, usize>>,
    is_done: AtomicBool,
}

/// One attempt. Whether the client has to send the message again.
async fn attempt(journal: &Journal, truth: &Truth, mut random: fastrand::Rng) -> bool {
    let mut open = match claim(journal, &truth.text, &truth.to).await {
        Ok(open) => open,
        Err(Unclaimed::Busy) => return true,
        Err(Unclaimed::Down) => panic!("the store is down"),
    };
    if truth.is_done.load(SeqCst) {
        // The other program has had the last answer meanwhile; sent once more, it would be a new message.
        open.delete().await.unwrap();
        return false;
    }
    // V2: no other replica has it.
    assert!(!truth.is_held.swap(true, SeqCst), "two sessions have {}", truth.text);
    let mut left = 0;
    for recipient in &truth.to {
        let known = open.outcome(*recipient).is_some();
        // V3: the claim sees outcomes that were recorded before it was granted.
        if truth.recorded.lock().unwrap().contains_key(recipient) {
            assert!(known, "a second copy of {}", truth.text);
        }
        if known {
            continue;
        }
        tokio::time::sleep(Duration::from_micros(random.u64(..500))).await;
        match random.u8(..3) {
            0 => left += 1,
            _ => {
                *truth.copies.lock().unwrap().entry(*recipient).or_default() += 1;
                open.record([(*recipient, delivered("1"))]).await.unwrap();
                truth.recorded.lock().unwrap().insert(*recipient, ());
            }
        }
    }
    let ends = random.u8(..3);
    if left == 0 {
        truth.is_done.store(true, SeqCst);
        truth.recorded.lock().unwrap().clear();
        truth.is_held.store(false, SeqCst);
        open.delete().await.unwrap();
        return false;
    }
    truth.is_held.store(false, SeqCst);
    match ends {
        // The session is cut.
        0 => drop(open),
        _ => open.release().await,
    }
    true
}

/// V1, V2, V3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v1_v2_v3_clients_that_repeat_anywhere_bring_one_copy_each() {
    let server = Server::start();
    let replicas = Arc::new(vec![
        replica(server.settings()).await,
        replica(server.settings()).await,
        replica(server.settings()).await,
    ]);
    let busy = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..24 {
        let to: Vec<Pair> = (0..4).map(|at| pair(&format!("r{at}@{}.test", number % 5))).collect();
        let truth = Arc::new(Truth {
            text: format!("message {number}"),
            to,
            is_held: AtomicBool::new(false),
            recorded: Mutex::default(),
            copies: Mutex::default(),
            is_done: AtomicBool::new(false),
        });
        // Two copies of the client's program work on one queue.
        for program in 0..2 {
            let (truth, replicas, busy) = (Arc::clone(&truth), Arc::clone(&replicas), Arc::clone(&busy));
            clients.push(tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(number * 2 + program);
                for _ in 0..1000 {
                    if truth.is_done.load(SeqCst) {
                        return truth;
                    }
                    let journal = &replicas[random.usize(..replicas.len())];
                    if attempt(journal, &truth, random.fork()).await {
                        busy.fetch_add(1, SeqCst);
                        tokio::time::sleep(Duration::from_millis(random.u64(..5))).await;
                    }
                }
                panic!("{} is busy for ever", truth.text);
            }));
        }
    }
    for client in clients {
        let truth = client.await.unwrap();
        let copies = truth.copies.lock().unwrap();
        assert!(truth.to.iter().all(|recipient| copies.get(recipient) == Some(&1)), "{}: {copies:?}", truth.text);
    }
    assert!(busy.load(SeqCst) > 0);
    // V11.
    assert_eq!(server.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'danelaw'"), "0");
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.records"), "0");
}

/// V3.
#[tokio::test]
async fn v3_a_claim_that_waited_sees_what_the_one_before_has_recorded() {
    let server = Server::start();
    let (one, other) = (replica(server.settings()).await, replica(server.settings()).await);
    let to = [pair("one@a.test"), pair("two@b.test")];
    let mut first = message(&one, "x", &to).await;
    first.record([(to[0], delivered("1")), (to[1], delivered("2"))]).await.unwrap();
    server.sql("CREATE TABLE later AS SELECT * FROM danelaw.outcomes LIMIT 1");
    server.sql("DELETE FROM danelaw.outcomes WHERE pair IN (SELECT pair FROM later)");
    // A transaction that ends the claim with one more outcome is still open when the second one asks.
    let mut ending = server.script(
        "BEGIN; UPDATE danelaw.records SET owner = NULL, token = NULL, until = NULL; \
         INSERT INTO danelaw.outcomes SELECT * FROM later; SELECT pg_sleep(1); COMMIT",
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = claim(&other, "x", &to).await.unwrap();
    assert_eq!(second.outcome(to[0]), Some(&delivered("1")));
    assert_eq!(second.outcome(to[1]), Some(&delivered("2")));
    assert!(ending.wait().unwrap().success());
}

/// V5.
#[tokio::test]
async fn v5_a_claim_of_a_killed_danelaw_ends_by_time_and_its_outcomes_stay() {
    let server = Server::start();
    let mut brief = at(StorePlace::Database(Box::new(server.settings())));
    brief.hold = Duration::from_secs(2);
    let killed = Journal::open(brief).await.unwrap().0;
    let other = replica(server.settings()).await;
    let to = [pair("one@a.test"), pair("two@b.test")];
    let mut open = message(&killed, "x", &to).await;
    open.record([(to[0], delivered("1"))]).await.unwrap();
    std::mem::forget(open);
    assert_eq!(claim(&other, "x", &to).await.err(), Some(Unclaimed::Busy));
    // V13: neither a start nor tidying ends it.
    let third = replica(server.settings()).await;
    third.tidy().await.unwrap();
    assert_eq!(claim(&third, "x", &to).await.err(), Some(Unclaimed::Busy));
    let open = message(&other, "x", &to).await;
    assert_eq!((open.outcome(to[0]), open.outcome(to[1])), (Some(&delivered("1")), None));
    open.release().await;
    // V4: one whose message does not come again is counted by the danelaw that tidies.
    std::mem::forget(message(&killed, "y", &to).await);
    let unknown = || third.store().figures().unknown;
    assert_eq!(unknown(), 0);
    for _ in 0..200 {
        third.tidy().await.unwrap();
        if unknown() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(unknown(), 1);
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.records WHERE owner IS NOT NULL"), "0");
}

/// V6.
#[tokio::test]
async fn v6_an_outcome_that_comes_after_the_claim_has_ended_is_not_written() {
    let server = Server::start();
    let (one, other) = (replica(server.settings()).await, replica(server.settings()).await);
    let to = [pair("one@a.test"), pair("two@b.test")];
    let mut late = message(&one, "x", &to).await;
    server.sql("UPDATE danelaw.records SET until = until - 1000");
    let mut open = claim(&other, "x", &to).await.unwrap();
    assert!(late.record([(to[0], delivered("1"))]).await.is_err());
    open.record([(to[1], delivered("2"))]).await.unwrap();
    // Nor does its end touch the other's claim.
    late.delete().await.unwrap();
    assert_eq!(claim(&one, "x", &to).await.err(), Some(Unclaimed::Busy));
    open.release().await;
    let open = message(&one, "x", &to).await;
    assert_eq!((open.outcome(to[0]), open.outcome(to[1])), (None, Some(&delivered("2"))));
}

/// V24.
#[tokio::test]
async fn v24_a_crash_of_the_server_ends_no_claim_and_loses_no_outcome() {
    let mut server = Server::start_with(&["fsync=on"]);
    let (one, other) = (replica(server.settings()).await, replica(server.settings()).await);
    let to = [pair("one@a.test"), pair("two@b.test")];
    let mut open = message(&one, "x", &to).await;
    open.record([(to[0], delivered("1"))]).await.unwrap();
    server.crash();
    server.up();
    assert_eq!(claim(&other, "x", &to).await.err(), Some(Unclaimed::Busy));
    open.record([(to[1], delivered("2"))]).await.unwrap();
    open.release().await;
    let open = message(&other, "x", &to).await;
    assert!(open.outcome(to[0]).is_some() && open.outcome(to[1]).is_some());
}

/// V20.
#[tokio::test]
async fn v20_two_danelaws_that_make_the_tables_at_once_make_them_once() {
    let server = Server::start();
    let url = server.url();
    let started: Vec<_> = (0..4).map(|_| tokio::spawn(Store::connect(settings(&url)))).collect();
    for started in started {
        started.await.unwrap().unwrap();
    }
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.version"), "1");
}
