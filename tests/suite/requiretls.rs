//! REQUIRETLS (RFC 8689): offered by remotes, asked for by clients and listeners, and passed on or refused.

use danelaw::admin::client::ask;

use crate::check::check;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Mx, say};
use crate::lab::{Lab, Scenario};

/// The answer to EHLO under TLS of a host that offers it.
const OFFER: &str = "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-requiretls\r\n250 SIZE 100000000";

/// A host that offers it.
fn offers(mx: &mut Mx) {
    mx.ehlo_under_tls = say(OFFER);
}

/// A host that offers it before STARTTLS alone.
fn offers_in_clear(mx: &mut Mx) {
    mx.ehlo = say("250-mx\r\n250-REQUIRETLS\r\n250 STARTTLS");
}

/// The value of a metric with these labels.
async fn metric(lab: &Lab, name: &str) -> Option<u64> {
    let (_, metrics) = ask(&lab.admin().await, "/metrics").await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn the_offer_of_each_new_session_is_counted() {
    // Q21: under TLS alone.
    for (script, offered, other) in
        [(offers as fn(&mut Mx), "yes", "no"), (|_| {}, "no", "yes"), (offers_in_clear, "no", "yes")]
    {
        let lab = Scenario::new().mx(script).set("remote.idle_connections = 10").start().await;
        for _ in 0..2 {
            assert!(lab.send().await.last().starts_with("250 2.0.0 "));
        }
        assert_eq!(lab.mx().connections(), 1);
        let counted =
            async |offered| metric(&lab, &format!("danelaw_remote_requiretls_total{{offered=\"{offered}\"}}")).await;
        assert_eq!((counted(offered).await, counted(other).await), (Some(1), None), "{offered}");
    }
    // Without TLS there is no offer to count.
    let may = "rule = [{ domain = 'example.test', level = 'may', reason = 'x', until = '2999-01-01' }]";
    let clear = Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]).set(may);
    let lab = clear.mx(|mx| mx.ehlo = say("250-mx\r\n250 REQUIRETLS")).start().await;
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    for offered in ["yes", "no"] {
        assert_eq!(metric(&lab, &format!("danelaw_remote_requiretls_total{{offered=\"{offered}\"}}")).await, None);
    }
}

#[tokio::test]
async fn check_shows_the_offer_of_each_host() {
    let second = Exchange::new("example.test", "mx2.example.test").preference(20).script(offers_in_clear);
    let lab = Scenario::new().mx(offers).exchange(second).start().await;
    let found = check(&lab, "", &["example.test", "--json"], "").await.object();
    let offered = |place: usize| &found["exchanges"][place]["sessions"][0]["requiretls"];
    assert_eq!((offered(0), offered(1)), (&true.into(), &false.into()));
    let said = check(&lab, "", &["example.test"], "").await.out;
    assert!(said.contains("─ REQUIRETLS offered\n") && said.contains("─ REQUIRETLS not offered\n"), "{said}");
    assert!(lab.seen.iter().all(|mx| !mx.saw_mail()));
}
