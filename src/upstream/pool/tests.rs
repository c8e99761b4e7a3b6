//! The pool without sockets: connections that only count their ends.

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

use super::waiters::Waiter;
use super::*;

/// The other end of a connection, and the log of the connections that ended.
#[derive(Debug, Default)]
struct Remote {
    has_left: AtomicBool,
    ended: Mutex<Vec<u8>>,
}

/// A connection that knows its number and no protocol.
#[derive(Debug)]
struct Line {
    number: u8,
    uses: u64,
    remote: Arc<Remote>,
}

/// An address and a property.
type Key = (IpAddr, &'static str);

impl Idle for Line {
    type Identity = Key;

    fn address(identity: &Key) -> IpAddr {
        identity.0
    }

    fn is_quiet(&mut self) -> bool {
        !self.remote.has_left.load(SeqCst)
    }

    fn has_more(&self, most: u64) -> bool {
        self.uses < most
    }

    fn end(self) -> JoinHandle<()> {
        self.remote.ended.lock().unwrap().push(self.number);
        tokio::spawn(async {})
    }
}

const LIMITS: IdleLimits =
    IdleLimits { in_all: 3, per_host: 2, idle: Duration::from_secs(30), age: Duration::from_secs(100), uses: 5 };

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// A pool, and a remote for all its connections.
struct Scene {
    pool: Arc<Pool<Line>>,
    remote: Arc<Remote>,
}

impl Scene {
    fn new(limits: IdleLimits) -> Self {
        Self { pool: Pool::new(limits), remote: Arc::default() }
    }

    fn open(&self, number: u8, identity: Key) -> Pooled<Line> {
        let lease = self.pool.lease(identity).unwrap();
        Pooled { connection: Line { number, uses: 1, remote: Arc::clone(&self.remote) }, lease }
    }

    /// A connection that was used once comes to the pool.
    fn put(&self, number: u8, identity: Key) {
        self.open(number, identity).give_back();
    }

    fn take(&self, identity: Key) -> Option<u8> {
        self.pool.take(&identity).map(|pooled| pooled.connection.number)
    }

    fn ended(&self) -> Vec<u8> {
        self.remote.ended.lock().unwrap().clone()
    }
}

/// The number of the connection that was handed to the waiter, if there is one by now.
async fn handed_off(waiter: &mut Waiter<'_, Line>) -> Option<Pooled<Line>> {
    tokio::time::timeout(Duration::from_millis(1), waiter.handed_off()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_only_its_own_identity_and_the_last_one_comes_first() {
    // L14, A-106.
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    scene.put(1, key);
    scene.put(2, key);
    assert_eq!(scene.pool.waiting(), 2);
    assert_eq!((scene.take((address(1), "encrypt")), scene.take((address(2), "dane"))), (None, None));
    assert_eq!((scene.take(key), scene.take(key), scene.take(key)), (Some(2), Some(1), None));
    assert_eq!((scene.pool.waiting(), scene.ended()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_the_limits_allow() {
    let scene = Scene::new(LIMITS);
    (1..=3).for_each(|number| scene.put(number, (address(1), "dane")));
    assert_eq!((scene.pool.waiting(), scene.ended()), (2, vec![3]));
    (4..=5).for_each(|number| scene.put(number, (address(number), "dane")));
    assert_eq!((scene.pool.waiting(), scene.ended()), (3, vec![3, 5]));
    // Without room for any, none has the right to wait.
    for limits in [IdleLimits { in_all: 0, ..LIMITS }, IdleLimits { per_host: 0, ..LIMITS }] {
        assert!(Pool::<Line>::new(limits).lease((address(1), "dane")).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_time_and_with_its_uses() {
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    scene.put(1, key);
    tokio::time::sleep(LIMITS.idle + ROUND).await;
    assert_eq!((scene.pool.waiting(), scene.ended()), (0, vec![1]));
    // Its age counts from when it was opened.
    let old = scene.open(2, key);
    tokio::time::sleep(LIMITS.age - Duration::from_secs(1)).await;
    old.give_back();
    assert_eq!(scene.pool.waiting(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((scene.take(key), scene.ended()), (None, vec![1, 2]));
    let mut used = scene.open(3, key);
    used.connection.uses = LIMITS.uses;
    used.give_back();
    assert_eq!((scene.pool.waiting(), scene.ended()), (0, vec![1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_other_end_has_left_is_dropped() {
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    scene.put(1, key);
    scene.remote.has_left.store(true, SeqCst);
    assert_eq!((scene.take(key), scene.pool.waiting()), (None, 0));
    scene.put(2, key);
    tokio::time::sleep(2 * ROUND).await;
    // There is no one to end them with.
    assert_eq!((scene.pool.waiting(), scene.ended()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_ends_all_and_takes_no_more() {
    let scene = Scene::new(LIMITS);
    let used = scene.open(3, (address(1), "dane"));
    scene.put(1, (address(1), "dane"));
    scene.put(2, (address(2), "dane"));
    scene.pool.close().await;
    used.give_back();
    let mut ended = scene.ended();
    ended.sort_unstable();
    assert_eq!((scene.pool.waiting(), ended), (0, vec![1, 2, 3]));
    // So does a pool that is gone.
    let used = scene.open(4, (address(1), "dane"));
    let Scene { pool, remote } = scene;
    drop(pool);
    used.give_back();
    assert!(remote.ended.lock().unwrap().contains(&4));
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order() {
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    let wait = || Waiter::new(&scene.pool, Cap::Host(1), address(1), Some(key));
    let (mut first, mut second) = (wait(), wait());
    scene.put(1, key);
    let served = handed_off(&mut first).await.unwrap();
    assert_eq!((served.connection.number, scene.pool.waiting()), (1, 0));
    assert!(handed_off(&mut second).await.is_none());
    // The next user of the same connection.
    served.give_back();
    assert_eq!(handed_off(&mut second).await.unwrap().connection.number, 1);
    // Without a waiter it waits.
    drop((first, second));
    scene.put(2, key);
    assert_eq!(scene.pool.waiting(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_for_another_identity_gets_the_room() {
    let scene = Scene::new(LIMITS);
    let (key, other) = ((address(1), "dane"), (address(1), "encrypt"));
    let mut oldest = Waiter::new(&scene.pool, Cap::Host(1), address(1), Some(other));
    let mut next = Waiter::new(&scene.pool, Cap::Host(1), address(1), Some(key));
    scene.put(1, key);
    assert_eq!(scene.ended(), [1]);
    assert!(handed_off(&mut oldest).await.is_none() && handed_off(&mut next).await.is_none());
    drop(oldest);
    scene.put(2, key);
    assert_eq!(handed_off(&mut next).await.unwrap().connection.number, 2);
    // A waiter that takes no connection gets the room too.
    let _taker_of_none = Waiter::new(&scene.pool, Cap::Host(1), address(1), None);
    scene.put(3, key);
    // And so does one that waits for room at any address, but not one that waits for a domain.
    let _anywhere = Waiter::new(&scene.pool, Cap::All(1), address(9), Some(other));
    scene.put(4, (address(2), "dane"));
    assert_eq!(scene.ended(), [1, 3, 4]);
    drop(_anywhere);
    let _domain = Waiter::new(&scene.pool, Cap::Domain(1), address(2), None);
    scene.put(5, (address(2), "dane"));
    assert_eq!((scene.pool.waiting(), scene.ended()), (1, vec![1, 3, 4]));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_passes_the_connection_on() {
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    let wait = || Waiter::new(&scene.pool, Cap::Host(1), address(1), Some(key));
    let (first, mut second) = (wait(), wait());
    scene.put(1, key);
    drop(first);
    assert_eq!(handed_off(&mut second).await.unwrap().connection.number, 1);
    // The last one leaves it to the pool.
    let last = wait();
    drop(second);
    scene.put(2, key);
    drop(last);
    assert_eq!((scene.pool.waiting(), scene.ended()), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_left_on_its_way_is_not_handed_off() {
    let scene = Scene::new(LIMITS);
    let key = (address(1), "dane");
    let mut waiter = Waiter::new(&scene.pool, Cap::Host(1), address(1), Some(key));
    scene.put(1, key);
    scene.remote.has_left.store(true, SeqCst);
    assert!(handed_off(&mut waiter).await.is_none());
    assert_eq!((scene.pool.waiting(), scene.ended()), (0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn room_is_made_where_it_is_wanted() {
    let scene = Scene::new(LIMITS);
    scene.put(1, (address(1), "dane"));
    scene.put(2, (address(1), "encrypt"));
    scene.put(3, (address(2), "dane"));
    let make_room = |cap, last| Waiter::new(&scene.pool, cap, address(last), None).make_room();
    make_room(Cap::Host(1), 9);
    make_room(Cap::Domain(1), 1);
    assert_eq!((scene.pool.waiting(), scene.ended()), (3, vec![]));
    // The one that has waited longest.
    make_room(Cap::Host(1), 1);
    assert_eq!((scene.pool.waiting(), scene.ended()), (2, vec![1]));
    make_room(Cap::All(1), 9);
    make_room(Cap::All(1), 9);
    make_room(Cap::All(1), 9);
    assert_eq!((scene.pool.waiting(), scene.ended().len()), (0, 3));
}
