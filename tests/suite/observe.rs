//! Mode `observe`: mail that an ordinary server would send is never refused, and the log and metrics tell the refusals
//! that enforcing would have made (B9).

use crate::lab::certs::Identity;
use crate::lab::dns::Fault;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, say};
use crate::lab::{self, Lab, MESSAGE, Scenario};
use crate::log::captured;
use danelaw::admin::client::ask;

/// The happy path, but that the record is of another key.
fn mismatch() -> Scenario {
    let wrong = Identity::for_name("other").record("3 1 1");
    Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([wrong])])
}

async fn metrics(lab: &Lab) -> String {
    ask(&lab.admin().await, "/metrics").await.unwrap().1
}

/// One mail in mode observe goes to the first exchange, protected like this; enforcing would have refused it for this.
async fn observed(scenario: Scenario, would: &str, protection: &str) -> Lab {
    let lab = scenario.set("mode = 'observe'").start().await;
    let answers = lab.send().await;
    assert!(answers.last().starts_with("250 2.0.0 "), "{would}: {answers:?}");
    assert_eq!(lab.mx().messages().len(), 1);
    let metrics = metrics(&lab).await;
    assert!(metrics.contains("danelaw_observing 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("danelaw_observed_total{{would=\"{would}\"}} 1\n")), "{would}: {metrics}");
    let delivered = format!("verdict=\"delivered\",reason=\"\",policy=\"may\",protection=\"{protection}\"}} 1\n");
    assert!(metrics.contains(&delivered), "{would}: {metrics}");
    lab
}

#[tokio::test]
async fn b9_what_enforcing_would_refuse_is_told_and_goes() {
    // B9.
    let starttls_refused = Scenario::new().mx(|mx| mx.starttls = say("454 4.7.0 not now"));
    let dane_only =
        Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]).set("tls.level = 'dane-only'");
    let no_record =
        |tree: lab::dns::Tree, port: u16| tree.fault(&format!("_{port}._tcp.mx1.example.test"), "TLSA", Fault::Drop);
    // Unverified under TLS, and in the clear where there is none.
    let lab = observed(mismatch(), "tlsa-mismatch", "encrypted").await;
    assert_eq!(lab.mx().connections(), 2, "one that was verified in vain, and one for the mail");
    observed(Scenario::new().mx(|mx| mx.ehlo = say("250 mx")), "starttls-missing", "cleartext").await;
    observed(starttls_refused, "starttls-refused", "cleartext").await;
    let lab =
        observed(Scenario::new().mx(|mx| mx.instead_of_tls = Some(Act::Hang)), "handshake-timeout", "cleartext").await;
    // The next mail too: the exchange is not tried later because one mail waited there for TLS.
    assert!(lab.send().await.last().starts_with("250 2.0.0 "));
    let no_ehlo = |mx: &mut lab::mx::Mx| (mx.ehlo, mx.helo) = (say("502 5.5.1 what"), say("250 mx"));
    observed(Scenario::new().mx(no_ehlo), "ehlo-refused", "cleartext").await;
    observed(Scenario::new().tree(no_record), "tlsa-lookup-failed", "encrypted").await;
    observed(dane_only, "dane-required", "encrypted").await;
}

#[tokio::test]
async fn b9_what_enforcing_would_deliver_is_verified_as_ever() {
    // B9.
    let second =
        |scenario: Scenario| scenario.exchange(Exchange::new("example.test", "mx2.example.test").preference(20));
    for (scenario, index) in [(Scenario::new(), 0), (second(mismatch()), 1)] {
        let lab = scenario.set("mode = 'observe'").start().await;
        assert!(lab.send().await.last().starts_with("250 2.0.0 "));
        assert_eq!(lab.seen[index].messages().len(), 1);
        let metrics = metrics(&lab).await;
        assert!(metrics.contains("policy=\"dane\",protection=\"verified\"} 1\n"), "{metrics}");
        assert!(!metrics.contains("danelaw_observed_total{"), "{metrics}");
    }
}

#[tokio::test]
async fn b9_undeliverable_mail_is_refused_as_ever() {
    // B9.
    let bogus = Scenario::new().tree(|tree, _| tree.fault("example.test", "MX", Fault::BogusSignature));
    let silent = Scenario::new().mx(|mx| mx.greeting = Act::Close);
    for (scenario, answer) in [(bogus, "451 4.4.3 "), (silent, "451 4.4.2 ")] {
        let lab = scenario.set("mode = 'observe'").start().await;
        let answers = lab.send().await;
        assert!(answers.last().starts_with(answer), "{answers:?}");
        assert!(lab.mx().connections() <= 1, "a second connection would not help");
        assert!(!metrics(&lab).await.contains("danelaw_observed_total{"));
    }
}

#[tokio::test]
async fn b9_it_is_said_everywhere() {
    // B9.
    let (log, _logging) = captured();
    let lab = mismatch().set("mode = 'observe'").start().await;
    lab.client().await.send(&["b@example.test"], MESSAGE).await;
    // The level asks for TLSA; only the mode lets the mail go without.
    let text = log.text();
    let line = text.lines().find(|line| line.contains(" mode=observe ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(" policy=\"may\" "), "{line}");
    assert!(line.contains(" no_dane=\"mode observe does not enforce the level dane\" "), "{line}");
    let admin = lab.admin().await;
    assert!(ask(&admin, "/readyz").await.unwrap().1.contains("mode: observe: nothing is enforced"));
    // A delivery that enforcing would have refused can be explained like a refusal; its id is in the trace line.
    let stored = String::from_utf8(lab.mx().messages().remove(0)).unwrap();
    let id = stored.split_once(" id ").unwrap().1.split(';').next().unwrap().to_owned();
    let (_, told) = ask(&admin, &format!("/explain/{id}")).await.unwrap();
    for part in [
        "verdict     delivered",
        "enforcing   would have answered 451 4.7.5 mx1.example.test[127.0.0.1]: the server could not be verified",
        "policy      may",
        "encrypted, not verified: mode observe does not enforce the level dane",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
}

/// The first exchange meets its policy and only delays the mail, or cannot be reached; the second one takes it without the proof.
/// Enforcing would have delayed it: the log has that answer.
#[tokio::test]
async fn b9_where_the_first_exchange_delays_the_answer_of_enforcing_is_told() {
    // B9.
    let wrong = Identity::for_name("other").record("3 1 1");
    let delays: [fn(&mut lab::mx::Mx); 2] =
        [|mx| mx.mail = say("451 4.3.0 later"), |mx| mx.greeting = say("421 4.3.2 later")];
    for delay in delays {
        let scenario = || {
            let second = Exchange::new("example.test", "mx2.example.test").preference(20).tlsa([wrong.clone()]);
            Scenario::new().mx(delay).exchange(second)
        };
        let enforced = scenario().start().await.send().await.last().replace("\n451 4.7.5 ", " / ");
        let (log, _logging) = captured();
        let lab = scenario().set("mode = 'observe'").start().await;
        assert!(lab.send().await.last().starts_with("250 2.0.0 "));
        assert_eq!((lab.seen[0].messages().len(), lab.seen[1].messages().len()), (0, 1));
        let text = log.text();
        let line = text.lines().find(|line| line.contains(" would=\"")).unwrap_or_else(|| panic!("{text}"));
        assert!(
            line.contains(" would=\"tlsa-mismatch\" would_text=\"451 4.7.5 mx1.example.test[127.0.0.1]: "),
            "{line}"
        );
        // The keys of the two labs differ.
        let told = line.split_once(" would_text=\"").unwrap().1.split_once("; the server's key").unwrap().0;
        assert_eq!(told, enforced.replacen('-', " ", 1).split_once("; the server's key").unwrap().0);
    }
}
