//! Listeners with a level of their own: all their mail goes at least so, or is refused.

use crate::check::check;
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use crate::log::captured;

/// A listener of this level.
fn listener(level: &str) -> String {
    format!("listener = [{{ address = '127.0.0.1:0', level = '{level}' }}]")
}

/// A domain without DANE, behind a host with TLS.
fn without_dane() -> Scenario {
    Scenario::with_domain(|tree, _| tree.mx("example.test", 10, "mx1.example.test"))
        .host("mx1.example.test", |mx, tree, _| (mx, tree))
}

async fn last(lab: &Lab) -> String {
    lab.send().await.last().to_owned()
}

#[tokio::test]
async fn mail_goes_at_the_level_of_its_listener_at_least() {
    // B15.
    let (log, _guard) = captured();
    for (level, starts) in
        [("", "250 2.0.0 "), ("verify", "451 4.7.5 "), ("secure", "451 4.7.5 "), ("dane-only", "451 4.7.5 ")]
    {
        let lab = without_dane().set(&listener(level)).start().await;
        let reply = last(&lab).await;
        assert!(reply.starts_with(starts), "{level}: {reply}");
        // With DANE it is the happy path.
        let lab = Scenario::new().set(&listener(level)).start().await;
        let reply = last(&lab).await;
        assert!(reply.starts_with("250 2.0.0 "), "{level}: {reply}");
    }
    for level in ["verify", "secure", "dane-only"] {
        wait_for(|| log.text().matches(&format!(" listener_level={level} ")).count() == 2).await;
    }
}

#[tokio::test]
async fn a_rule_for_less_does_not_lower_it_and_one_for_more_stays() {
    // B15.
    let may = "\nrule = [{ domain = 'example.test', level = 'may', reason = 'x', until = '2999-01-01' }]";
    let in_clear = || without_dane().mx(|mx| mx.ehlo = say("250 mx"));
    let lab = in_clear().set(may).start().await;
    assert!(last(&lab).await.starts_with("250 2.0.0 "));
    for level in ["verify", "secure", "dane-only"] {
        let lab = in_clear().set(&listener(level)).set(may).start().await;
        let reply = last(&lab).await;
        assert!(reply.starts_with("451 4.7."), "{level}: {reply}");
        // The remedy is none that does not hold here.
        assert!(!reply.contains("write a rule"), "{level}: {reply}");
        assert_eq!(reply.contains("no rule lowers listener.level"), reply.contains("STARTTLS"), "{level}: {reply}");
        let setting = listener(level).replace(":0", ":10030") + may;
        let said = check(&lab, &setting, &["example.test", "--listener", "127.0.0.1:10030"], "").await;
        assert!(said.out.contains("to do: ") && !said.out.contains("write a rule"), "{level}: {}", said.out);
        assert!(lab.mx().messages().is_empty());
    }
    let dane_only = "rule = [{ domain = 'example.test', level = 'dane-only' }]";
    let lab = without_dane().set(&listener("verify")).set(dane_only).start().await;
    assert!(last(&lab).await.contains("DANE is required"));
}

#[tokio::test]
async fn mode_observe_does_not_lower_it() {
    // B15.
    let observe = "mode = 'observe'\ntls.level = 'dane-only'";
    let lab = without_dane().set(observe).start().await;
    assert!(last(&lab).await.starts_with("250 2.0.0 "));
    let lab = without_dane().set(observe).set(&listener("dane-only")).start().await;
    assert!(last(&lab).await.starts_with("451 4.7.5 "));
    assert!(lab.mx().messages().is_empty());
}

#[tokio::test]
async fn a_reload_and_starttls_keep_it() {
    let lab = without_dane().set(&listener("secure")).start().await;
    let mut client = lab.client().await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("451 "));
    lab.reload("tls.level = 'encrypt'");
    client.command("RSET").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("451 "));
}

#[tokio::test]
async fn a_record_of_mail_from_another_listener_answers_none_of_its_mail() {
    // B15: one recipient's delivery and the other's deferral are recorded, and the message comes again at another listener.
    let message = b"From: <a@client.test>\r\nMessage-ID: <1@client.test>\r\n\r\nbody\r\n";
    let folder = tempfile::tempdir().unwrap();
    let lab = async |level: &str| {
        let path = folder.path().join("store.sqlite");
        let settings = format!(
            "listener = [{{ address = '127.0.0.1:0', recipients = 'fan-out', level = '{level}' }}]\nstore.path = '{}'",
            path.display()
        );
        let down = Exchange::new("down.test", "mx1.down.test").script(|mx| mx.rcpt = vec![say("451 4.2.0 later")]);
        let scenario = without_dane().tree(|tree, _| tree.secure("down.test")).exchange(down);
        scenario.set(&settings).start().await
    };
    for (level, delivered) in [("", 1), ("dane-only", 0), ("", 0)] {
        let mut lab = lab(level).await;
        let answers = lab.client().await.send(&["b@example.test", "b@down.test"], message).await;
        assert!(answers.last().starts_with("451"), "{level}: {answers:?}");
        assert_eq!(lab.seen[0].messages().len(), delivered, "{level}: {answers:?}");
        let told = answers.last().contains("DANE is required");
        assert_eq!(told, level == "dane-only", "{answers:?}");
        lab.stop();
        lab.stopped().await;
    }
}
