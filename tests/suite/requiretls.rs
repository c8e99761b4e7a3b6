//! REQUIRETLS (RFC 8689): offered by remotes, asked for by clients and listeners, and passed on or refused.

use std::sync::Arc;

use danelaw::admin::client::ask;
use danelaw::discovery::{StsFound, StsInForce, StsSource};
use danelaw::dns::FailureReason;
use danelaw::mta_sts::{NoStsRecord, StsFetchError};
use danelaw::roots::Roots;

use crate::check::{check, with_config};
use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::exchange::Exchange;
use crate::lab::mx::{Act, Mx, Seen, say};
use crate::lab::sts::{Policies, absent, failed, policy, unfetched};
use crate::lab::{Lab, MESSAGE, Scenario, wait_for};
use crate::listener_tls::Files;
use crate::log::captured;

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

/// A listener in the clear that tags its mail so.
fn listener(tag: &str, more: &str) -> String {
    format!("listener = [{{ address = '127.0.0.1:0', require_tls = '{tag}'{more} }}]")
}

/// A host that lacks it.
fn lacks(_: &mut Mx) {}

/// The MAIL commands that a host heard.
fn mails(seen: &Seen) -> Vec<String> {
    seen.tls().into_iter().filter(|line| line.starts_with("MAIL")).collect()
}

/// Sends a message after this MAIL, and returns the last reply.
async fn deliver(client: &mut Client, mail: &str, to: &str) -> String {
    let reply = client.command(mail).await;
    assert!(reply.starts_with("250 2.1.0"), "{reply}");
    let reply = client.command(&format!("RCPT TO:<{to}>")).await;
    if !reply.starts_with('2') {
        client.command("RSET").await;
        return reply;
    }
    assert!(client.command("DATA").await.starts_with("354 "));
    client.write(&[MESSAGE, b".\r\n"].concat()).await;
    client.reply().await
}

/// One mail to `b@example.test` by a listener with this tag.
async fn tagged(scenario: Scenario, tag: &str) -> (Lab, String) {
    let lab = scenario.set(&listener(tag, "")).start().await;
    let reply = lab.send().await.last().to_owned();
    (lab, reply)
}

#[tokio::test]
async fn mail_says_requiretls_where_the_tag_and_the_host_do() {
    // Q2, Q3, Q5, Q21, Q23, N5: never in the clear, and never left out without a refusal.
    let plain = "MAIL FROM:<a@client.test>";
    let with = "MAIL FROM:<a@client.test> REQUIRETLS";
    for (tag, script, starts, said, result) in [
        ("", offers as fn(&mut Mx), "250 2.0.0 ", Some(plain), None),
        ("where-offered", offers, "250 2.0.0 ", Some(with), Some("sent")),
        ("where-offered", lacks, "250 2.0.0 ", Some(plain), Some("not-offered")),
        ("where-offered", offers_in_clear, "250 2.0.0 ", Some(plain), Some("not-offered")),
        ("always", offers, "250 2.0.0 ", Some(with), Some("sent")),
        ("always", lacks, "550 5.7.30 ", None, Some("missing")),
        ("always", offers_in_clear, "550 5.7.30 ", None, Some("missing")),
    ] {
        let (log, _guard) = captured();
        let (lab, reply) = tagged(Scenario::new().mx(script), tag).await;
        assert!(reply.starts_with(starts), "{tag:?}: {reply}");
        assert_eq!(mails(lab.mx()), Vec::from_iter(said), "{tag:?}");
        wait_for(|| log.text().contains(" verdict=")).await;
        let field = result.map(|result| format!(" requiretls=\"{result}\" "));
        assert_eq!(log.text().contains(" requiretls="), field.is_some(), "{}", log.text());
        assert!(log.text().contains(field.as_deref().unwrap_or_default()), "{}", log.text());
        if let Some(result) = result {
            let name = format!("danelaw_requiretls_mails_total{{result=\"{result}\"}}");
            assert_eq!(metric(&lab, &name).await, Some(1), "{name}");
        }
    }
    let (_, reply) = tagged(Scenario::new(), "always").await;
    let text = "550 5.7.30 mx1.example.test[127.0.0.1]: the remote does not offer REQUIRETLS, and the mail asks for it; send it \
                without REQUIRETLS, by a listener with require_tls = \"where-offered\" for example (id ";
    assert!(reply.starts_with(text), "{reply}");
}

#[tokio::test]
async fn a_refusal_is_final_only_if_every_exchange_has_answered() {
    // Q2, Q3: MX 10 lacks it.
    let down: fn(&mut Mx) = |mx| mx.greeting = Act::Close;
    let busy: fn(&mut Mx) = |mx| mx.greeting = say("421 4.3.2 busy");
    let other: fn(&mut Mx) = |mx| mx.identity = Identity::for_name("mx2.example.test");
    for (script, settings, starts) in [
        (lacks as fn(&mut Mx), "", "550 5.7.30 "),
        (offers, "", "250 2.0.0 "),
        (down, "", "451 4.4."),
        (busy, "", "451 4.4.1 "),
        (other, "", "451 4.7.5 "),
        (offers, "remote.exchanges = 1", "451 4.4.1 "),
    ] {
        let second = Exchange::new("example.test", "mx2.example.test").preference(20).script(script);
        let (lab, reply) = tagged(Scenario::new().exchange(second).set(settings), "always").await;
        // There is a line for each host.
        assert!(reply.lines().last().unwrap().starts_with(starts), "{starts}: {reply}");
        assert!(mails(&lab.seen[0]).is_empty());
    }
    // Where the hosts that offer it will do, the first one has the mail.
    let second = Exchange::new("example.test", "mx2.example.test").preference(20).script(offers);
    let (lab, reply) = tagged(Scenario::new().exchange(second), "where-offered").await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!((mails(&lab.seen[0]).len(), lab.seen[1].connections()), (1, 0));
}

/// A policy in mode `testing` of an earlier day, which is used for want of a newer one.
fn testing_before(source: StsSource) -> StsFound {
    match policy("testing", &["*.plain.test"]) {
        StsFound::InForce(before) => StsFound::InForce(StsInForce { source, ..before }),
        other => other,
    }
}

/// An unsigned domain with a host that offers it and has a certificate of a known CA.
fn unsigned(policies: &Arc<Policies>) -> Scenario {
    let ca = Identity::authority();
    let identity = ca.issue("mx1.plain.test");
    let script = |mx: &mut Mx| {
        offers(mx);
        mx.identity = identity;
    };
    Scenario::with_domain(|tree, _| tree.insecure("plain.test"))
        .exchange(Exchange::new("plain.test", "mx1.plain.test").tlsa([]).script(script))
        .roots(Roots::of(vec![ca.certificate.clone()]))
        .policies(policies)
}

#[tokio::test]
async fn a_host_that_is_not_verified_does_not_get_tagged_mail() {
    // Q2, Q3, N5: neither a rule nor mode observe weakens it.
    let may = "rule = [{ domain = 'plain.test', level = 'may', reason = 'x', until = '2999-01-01' }]";
    let held = |found| Arc::new(Policies::default().with("plain.test", found));
    let enforce = || policy("enforce", &["*.plain.test"]);
    for (policies, settings, starts) in [
        (held(absent()), "", "550 5.7.10 "),
        (held(absent()), may, "550 5.7.10 "),
        (held(absent()), "mode = 'observe'", "550 5.7.10 "),
        (held(StsFound::Off), "", "550 5.7.10 "),
        (held(policy("testing", &["*.plain.test"])), "", "550 5.7.10 "),
        (held(testing_before(StsSource::NoRecord(NoStsRecord::Absent))), "", "550 5.7.10 "),
        // The domain has published another policy, which nobody has seen.
        (held(testing_before(StsSource::Unfetched(StsFetchError::Timeout))), "", "451 4.7.5 "),
        (held(enforce()), "", "250 2.0.0 "),
        // These may pass, or come to name the host.
        (held(policy("enforce", &["other.test"])), "", "451 4.7.5 "),
        (held(unfetched()), "", "451 4.7.5 "),
        (held(failed(FailureReason::Timeout)), "", "451 4."),
        (Arc::new(Policies::default().with("plain.test", enforce()).told()), "", "451 4.7.5 "),
    ] {
        for tag in ["always", "where-offered"] {
            let lab = unsigned(&policies).set(&listener(tag, "")).set(settings).start().await;
            let reply = lab.client().await.send(&["b@plain.test"], MESSAGE).await.last().to_owned();
            assert!(reply.starts_with(starts), "{policies:?} {settings}: {reply}");
            let said = if starts.starts_with("250") { vec!["MAIL FROM:<a@client.test> REQUIRETLS"] } else { vec![] };
            assert_eq!(mails(lab.mx()), said, "{starts}");
        }
    }
    // A proof that fails may pass, in mode observe too.
    let observe = Scenario::new().mx(|mx| mx.identity = Identity::for_name("mx1.example.test")).set("mode = 'observe'");
    let (lab, reply) = tagged(observe, "always").await;
    assert!(reply.starts_with("451 4.7.5 ") && mails(lab.mx()).is_empty(), "{reply}");
}

#[tokio::test]
async fn a_next_hop_of_a_rule_needs_its_proof_and_the_keyword() {
    // Q2: the rule names the host, and its key still needs a proof.
    let rule = "rule = [{ domain = 'ruled.test', level = 'secure', next_hop = 'mx1.example.test' }]";
    for (script, starts) in [(offers as fn(&mut Mx), "250 2.0.0 "), (lacks, "550 5.7.30 ")] {
        let lab = Scenario::new().mx(script).set(&listener("always", "")).set(rule).start().await;
        let reply = lab.client().await.send(&["b@ruled.test"], MESSAGE).await.last().to_owned();
        assert!(reply.starts_with(starts), "{reply}");
    }
    let other = Scenario::new().mx(offers).mx(|mx| mx.identity = Identity::for_name("mx1.example.test"));
    let lab = other.set(&listener("always", "")).set(rule).start().await;
    let reply = lab.client().await.send(&["b@ruled.test"], MESSAGE).await.last().to_owned();
    assert!(reply.starts_with("451 4.7.5 "), "{reply}");
}

#[tokio::test]
async fn reports_of_failures_are_never_refused_for_the_tag() {
    // Q4.
    for (script, said, result) in
        [(offers as fn(&mut Mx), "MAIL FROM:<> REQUIRETLS", "sent"), (lacks, "MAIL FROM:<>", "null-sender")]
    {
        let (log, _guard) = captured();
        let lab = Scenario::new().mx(script).set(&listener("always", "")).start().await;
        let reply = deliver(&mut lab.client().await, "MAIL FROM:<>", "b@example.test").await;
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        assert_eq!(mails(lab.mx()), [said]);
        wait_for(|| log.text().contains(&format!(" requiretls=\"{result}\" "))).await;
    }
    // At its usual level; to a host that is not verified the keyword is not said.
    let lab = unsigned(&Arc::default()).set(&listener("always", "")).start().await;
    let reply = deliver(&mut lab.client().await, "MAIL FROM:<>", "b@plain.test").await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!(mails(lab.mx()), ["MAIL FROM:<>"]);
}

#[tokio::test]
async fn a_waiting_session_serves_tagged_mail_by_its_own_ehlo_alone() {
    // Q2.
    let pool = "remote.idle_connections = 10";
    let files = Files::new();
    let lab_of = async |script: fn(&mut Mx)| {
        let scenario = Scenario::new().mx(script).set(&files.listener("required", "")).set(pool);
        scenario.start().await
    };
    let send = async |lab: &Lab, mail: &str| {
        let mut client = Client::connect(&lab.address).await.start_tls(&files.client()).await;
        client.command("EHLO client.test").await;
        deliver(&mut client, mail, "b@example.test").await
    };
    let (plain, with) = ("MAIL FROM:<a@client.test>", "MAIL FROM:<a@client.test> REQUIRETLS");
    let lab = lab_of(offers).await;
    for mail in [plain, with, plain] {
        assert!(send(&lab, mail).await.starts_with("250 2.0.0 "));
    }
    assert_eq!((mails(lab.mx()), lab.mx().connections()), (vec![plain.into(), with.into(), plain.into()], 1));
    // The keyword may have come since: the host is asked once more before mail bounces.
    let lab = lab_of(lacks).await;
    assert!(send(&lab, plain).await.starts_with("250 2.0.0 "));
    assert!(send(&lab, with).await.starts_with("550 5.7.30 "));
    assert_eq!((mails(lab.mx()), lab.mx().connections()), (vec![plain.to_owned()], 2));
    assert!(send(&lab, plain).await.starts_with("250 2.0.0 "));
}

#[tokio::test]
async fn each_recipient_domain_has_its_own_answer() {
    // Q3: over LMTP, and in one transaction with one reply.
    let scenario =
        || Scenario::new().mx(offers).and_domain("lacking.test", |_| {}).tree(|tree, _| tree.secure("lacking.test"));
    let lab = scenario().set(&listener("always", ", kind = 'lmtp'")).start().await;
    let mut client = lab.lmtp_client().await;
    assert!(client.command("MAIL FROM:<a@client.test>").await.starts_with("250 "));
    assert!(client.command("RCPT TO:<b@example.test>").await.starts_with("250 "));
    assert!(client.command("RCPT TO:<b@lacking.test>").await.starts_with("550 5.7.30 "));
    assert!(client.command("DATA").await.starts_with("354 "));
    client.write(&[MESSAGE, b".\r\n"].concat()).await;
    assert!(client.reply().await.starts_with("250 2.0.0 "));
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store.path = '{}'", folder.path().join("store.sqlite").display());
    let lab = scenario().set(&listener("always", ", recipients = 'fan-out'")).set(&store).start().await;
    let answers = lab.client().await.send(&["b@example.test", "b@lacking.test"], MESSAGE).await;
    assert!(answers.last().starts_with('5') && answers.last().contains("REQUIRETLS"), "{answers:?}");
    assert_eq!((lab.seen[0].messages().len(), lab.seen[1].messages().len()), (1, 0));
}

#[tokio::test]
async fn a_host_that_refuses_the_parameter_after_its_offer_has_the_last_word() {
    // Q5.
    let script = |mx: &mut Mx| {
        offers(mx);
        mx.mail = say("555 5.5.4 unsupported");
    };
    let (_, reply) = tagged(Scenario::new().mx(script), "always").await;
    assert!(reply.starts_with("555 5.5.4 mx1.example.test[127.0.0.1]: unsupported"), "{reply}");
}

#[tokio::test]
async fn a_kept_refusal_answers_mail_of_the_same_tag_and_a_kept_delivery_all_mail() {
    // Q25: the message comes again and again, since one of its recipients is deferred.
    let message = b"From: <a@client.test>\r\nMessage-ID: <1@client.test>\r\n\r\nbody\r\n";
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store.path = '{}'", folder.path().join("store.sqlite").display());
    let lab = async |tag: &str| {
        let down = Exchange::new("down.test", "mx1.down.test").script(|mx| mx.rcpt = vec![say("451 4.2.0 later")]);
        let scenario = Scenario::new().tree(|tree, _| tree.secure("down.test")).exchange(down.script(offers));
        scenario.set(&listener(tag, ", recipients = 'fan-out'")).set(&store).start().await
    };
    for (tag, delivered) in [("always", 0), ("always", 0), ("where-offered", 1), ("always", 0), ("", 0)] {
        let mut lab = lab(tag).await;
        let answers = lab.client().await.send(&["b@example.test", "b@down.test"], message).await;
        assert!(answers.last().starts_with("451-"), "{tag}: {answers:?}");
        assert_eq!(lab.seen[0].messages().len(), delivered, "{tag}: {answers:?}");
        lab.stop();
        lab.stopped().await;
    }
}

#[tokio::test]
async fn a_client_may_ask_for_it_under_tls_alone() {
    // Q1, Q2, Q5, Q22, I22.
    let files = Files::new();
    let with = "MAIL FROM:<a@client.test> REQUIRETLS";
    for (listener_tag, script, starts) in [
        ("", offers as fn(&mut Mx), "250 2.0.0 "),
        ("", lacks, "550 5.7.30 "),
        // The client has asked for more than the listener.
        (", require_tls = 'where-offered'", lacks, "550 5.7.30 "),
        (", require_tls = 'always'", offers, "250 2.0.0 "),
    ] {
        let lab = Scenario::new().mx(script).set(&files.listener("starttls", listener_tag)).start().await;
        let mut client = Client::connect(&lab.address).await;
        assert!(!client.command("EHLO client.test").await.contains("REQUIRETLS"));
        assert!(client.command(with).await.starts_with("555 5.5.4 "));
        assert!(client.command("MAIL FROM:<a@client.test> REQUIRETLS=1").await.starts_with("555 5.5.4 "));
        assert!(client.command("NOOP").await.starts_with("250 "), "the session goes on");
        assert!(client.command("STARTTLS").await.starts_with("220 "));
        let mut client = client.under_tls(&files.client()).await.unwrap();
        assert!(client.command("EHLO client.test").await.contains("\n250-REQUIRETLS\n"));
        for wrong in ["REQUIRETLS=1", "REQUIRETLS=", "REQUIRETLS REQUIRETLS"] {
            assert!(client.command(&format!("MAIL FROM:<> {wrong}")).await.starts_with("501 5.5.4 "), "{wrong}");
        }
        let reply = deliver(&mut client, with, "b@example.test").await;
        assert!(reply.starts_with(starts), "{listener_tag}: {reply}");
        let heard = if starts.starts_with("250") { vec![with] } else { vec![] };
        assert_eq!(mails(lab.mx()), heard);
    }
    let lab = files.lab("implicit", ", kind = 'lmtp'").await;
    let mut client = Client::silent(&lab.address).await.under_tls(&files.client()).await.unwrap();
    client.greeted().await;
    assert!(client.command("LHLO client.test").await.contains("REQUIRETLS"));
    assert!(deliver(&mut client, with, "b@example.test").await.starts_with("550 5.7.30 "));
}

#[tokio::test]
async fn the_line_of_mail_has_room_for_the_parameter_under_tls() {
    // Q22: 4096 octets with their CRLF, and eleven more where it is offered.
    let files = Files::new();
    let lab = files.lab("starttls", "").await;
    let line = |octets: usize| format!("NOOP {}", "x".repeat(octets - 2 - "NOOP ".len()));
    let mut client = lab.client().await;
    for (octets, starts) in [(4096, "250 "), (4097, "500 5.5.2 ")] {
        assert!(client.command(&line(octets)).await.starts_with(starts), "{octets}");
    }
    let mut client = client.start_tls(&files.client()).await;
    for (octets, starts) in [(4096, "250 "), (4107, "250 "), (4108, "500 5.5.2 ")] {
        assert!(client.command(&line(octets)).await.starts_with(starts), "{octets}");
    }
}

#[tokio::test]
async fn the_parameter_beats_the_field_for_less() {
    // Q7: a mail with both is as strict as one without the field.
    let files = Files::new();
    for (script, starts) in [(offers as fn(&mut Mx), "250 2.0.0 "), (lacks, "550 5.7.30 ")] {
        let lab = Scenario::new().mx(script).set(&files.listener("implicit", "")).start().await;
        let mut client = Client::silent(&lab.address).await.under_tls(&files.client()).await.unwrap();
        client.greeted().await;
        client.command("EHLO client.test").await;
        assert!(client.command("MAIL FROM:<a@client.test> REQUIRETLS").await.starts_with("250 "));
        let mut reply = client.command("RCPT TO:<b@example.test>").await;
        if reply.starts_with("250 ") {
            client.command("DATA").await;
            client.write(b"TLS-Required: No\r\nSubject: x\r\n\r\nbody\r\n.\r\n").await;
            reply = client.reply().await;
        }
        assert!(reply.starts_with(starts), "{reply}");
    }
}

#[tokio::test]
async fn mail_that_has_lost_its_tag_is_delivered_and_told() {
    // Q24.
    let message = b"Require-TLS-ESMTP: yes\r\nSubject: lab\r\n\r\nbody\r\n";
    let chunk = |octets: &[u8]| [format!("BDAT {} LAST\r\n", octets.len()).as_bytes(), octets].concat();
    for (tag, result) in [("", "lost"), ("where-offered", "not-offered")] {
        let (log, _guard) = captured();
        let lab = Scenario::new().set(&listener(tag, "")).start().await;
        let mut client = lab.client().await;
        assert!(client.send(&["b@example.test"], message).await.last().starts_with("250 2.0.0 "));
        client.command("MAIL FROM:<a@client.test>").await;
        client.command("RCPT TO:<b@example.test>").await;
        client.write(&chunk(message)).await;
        assert!(client.reply().await.starts_with("250 2.0.0 "));
        let field = format!(" requiretls=\"{result}\" ");
        wait_for(|| log.text().matches(&field).count() == 2).await;
        let name = format!("danelaw_requiretls_mails_total{{result=\"{result}\"}}");
        assert_eq!(metric(&lab, &name).await, Some(2));
        assert_eq!(lab.mx().messages().len(), 2);
        assert!(String::from_utf8_lossy(&lab.mx().messages()[0]).contains("Require-TLS-ESMTP: yes\r\n"));
    }
}

#[tokio::test]
async fn the_account_of_a_refusal_has_the_tag() {
    let lab = Scenario::new().set(&listener("always", ", level = 'verify'")).set("admin.remember = 10").start().await;
    let reply = lab.send().await.last().to_owned();
    let (_, id) = reply.trim_end_matches(')').rsplit_once("(id ").unwrap();
    let (_, account) = ask(&lab.admin().await, &format!("/explain/{id}")).await.unwrap();
    for line in [
        "listener    level verify at least\n",
        "REQUIRETLS  missing\n",
        "verdict     rejected: requiretls-missing\n",
        "REQUIRETLS offered: no\n",
    ] {
        assert!(account.contains(line), "{line} in {account}");
    }
}

#[tokio::test]
async fn check_tells_the_fate_of_mail_with_requiretls() {
    let second = |script: fn(&mut Mx)| Exchange::new("example.test", "mx2.example.test").preference(20).script(script);
    let signed = |tlsa: bool| {
        let exchange = Exchange::new("example.test", "mx1.example.test");
        Scenario::of([if tlsa { exchange } else { exchange.tlsa([]) }])
    };
    for (scenario, verdict, reason, line) in [
        (
            signed(true).exchange(second(offers)),
            "delivered",
            None,
            "├─ mail with REQUIRETLS: would go to mx2.example.test\n└─ verified: ",
        ),
        (
            signed(true).exchange(second(lacks)),
            "rejected",
            Some("requiretls-missing"),
            "├─ mail with REQUIRETLS: would be refused, 550 5.7.30 (requiretls-missing: mx1.example.test[127.0.0.1]: ",
        ),
        (
            signed(true).exchange(second(|mx| mx.greeting = say("421 busy"))),
            "deferred",
            Some("greeting-refused"),
            "├─ mail with REQUIRETLS: would be deferred, 451 4.4.1 (greeting-refused: mx2.example.test[127.0.0.2]: ",
        ),
        // At its usual level the mail would go unverified.
        (
            signed(false).mx(offers),
            "deferred",
            Some("untrusted-authority"),
            "├─ mail with REQUIRETLS: would be deferred, 451 4.7.5 (untrusted-authority: ",
        ),
    ] {
        let lab = scenario.start().await;
        let found = check(&lab, "", &["example.test", "--json"], "").await.object();
        let tagged = &found["requiretls"];
        assert_eq!(tagged["verdict"], verdict);
        assert_eq!(tagged["refusal"]["reason"].as_str(), reason, "{tagged}");
        let said = check(&lab, "", &["example.test"], "").await;
        assert!(said.out.contains(line), "{line} is not in\n{}", said.out);
        assert!(lab.seen.iter().all(|mx| !mx.saw_mail()));
        let found = check(&lab, "", &["example.test", "--json", "--no-connect"], "").await.object();
        assert!(found["requiretls"].is_null(), "{found}");
    }
    let plain = Scenario::new().tree(|tree, _| tree.insecure("plain.test").mx("plain.test", 10, "mx1.example.test"));
    let lab = plain.mx(offers).start().await;
    let said = check(&lab, "mta_sts.mode = 'off'", &["plain.test"], "").await;
    let line = "├─ mail with REQUIRETLS: would be refused, 550 5.7.10 (requiretls-unauthenticated: mx1.example.test: ";
    assert!(said.out.contains(line), "{}", said.out);
}

#[tokio::test]
async fn check_forecasts_mail_by_a_listener() {
    // B15, Q2, Q6: as the listener would have it.
    let listeners = "listener = [{ address = '127.0.0.1:10025' }, { address = '127.0.0.1:10030', level = 'secure' }, \
                     { address = '127.0.0.1:10031', tls_required_no = 'only' }, \
                     { address = '127.0.0.1:10032', require_tls = 'where-offered' }, \
                     { address = '127.0.0.1:10033', require_tls = 'always', level = 'dane-only' }, \
                     { address = 'unix:/run/danelaw/check.sock', level = 'verify' }]\n";
    let may = "rule = [{ domain = 'example.test', level = 'may', reason = 'x', until = '2999-01-01' }]";
    let dane = || Scenario::of([Exchange::new("example.test", "mx1.example.test")]);
    let plain = || Scenario::of([Exchange::new("example.test", "mx1.example.test").tlsa([])]);
    let other = || dane().mx(|mx| mx.identity = Identity::for_name("mx1.example.test"));
    for (scenario, settings, listener, status, level, verdict, reason) in [
        (dane(), "", "127.0.0.1:10025", 0, "dane", "verified", None),
        (plain(), "", "127.0.0.1:10025", 0, "dane", "encrypted", None),
        (plain(), "", "127.0.0.1:10030", 1, "secure", "deferred", Some("untrusted-authority")),
        (plain(), may, "127.0.0.1:10030", 1, "secure", "deferred", Some("untrusted-authority")),
        (plain(), "", "unix:/run/danelaw/check.sock", 1, "verify", "deferred", Some("untrusted-authority")),
        (dane(), "", "127.0.0.1:10031", 0, "dane", "verified", None),
        (other(), "", "127.0.0.1:10031", 0, "may", "encrypted", None),
        (other(), "tls.level = 'dane-only'", "127.0.0.1:10031", 1, "dane-only", "deferred", Some("tlsa-mismatch")),
        (dane().mx(lacks), "", "127.0.0.1:10032", 0, "secure", "verified", None),
        (other(), "", "127.0.0.1:10032", 1, "secure", "deferred", Some("tlsa-mismatch")),
        (dane().mx(lacks), "", "127.0.0.1:10033", 5, "dane-only", "rejected", Some("requiretls-missing")),
        (dane().mx(offers), "", "127.0.0.1:10033", 0, "dane-only", "verified", None),
    ] {
        let lab = scenario.start().await;
        let toml = format!("{listeners}{settings}");
        let said = check(&lab, &toml, &["example.test", "--json", "--listener", listener], "").await;
        let found = said.object();
        assert_eq!(
            (said.status, &found["level"], &found["verdict"]),
            (status, &level.into(), &verdict.into()),
            "{found}"
        );
        assert_eq!(found["refusal"]["reason"].as_str(), reason, "{listener}: {found}");
        assert_eq!(found["listener"]["address"], listener);
        let would = &found["listener"]["would"]["reason"];
        assert_eq!(would.as_str(), (level == "may").then_some("tlsa-mismatch"), "{listener}: {found}");
        assert!(lab.seen.iter().all(|mx| !mx.saw_mail()));
    }
    let lab = other().start().await;
    for (listener, line) in [
        ("127.0.0.1:10025", "├─ mail by the listener 127.0.0.1:10025: no terms of its own\n"),
        ("127.0.0.1:10033", "├─ mail by the listener 127.0.0.1:10033: level \"dane-only\", require_tls \"always\"\n"),
        (
            "127.0.0.1:10031",
            "├─ mail by the listener 127.0.0.1:10031: tls_required_no \"only\"; without the field mail would be refused, 451 \
             4.7.5 (tlsa-mismatch: mx1.example.test[127.0.0.1]: ",
        ),
    ] {
        let said = check(&lab, listeners, &["example.test", "--listener", listener], "").await;
        assert!(said.out.contains(line), "{line} is not in\n{}", said.out);
    }
    // Mail by others may need a rule that makes no difference here.
    let toml = format!("{listeners}{may}");
    let both = ["example.test", "x.example.test", "--tree", "--listener", "127.0.0.1:10033"];
    let said = check(&lab, &toml, &both, "").await;
    assert!(
        said.out.contains("─ for mail by this listener the rule does not help; at level dane-only "),
        "{}",
        said.out
    );
    let lab = dane().mx(offers).start().await;
    for (arguments, unneeded) in [(&both[..], 0), (&both[..3], 1)] {
        let said = check(&lab, &toml, arguments, "").await;
        assert_eq!(said.out.matches("the rule is no longer needed; at level ").count(), 1, "{}", said.out);
        assert!(said.out.contains(&format!("1 under rules, {unneeded} of which are no longer needed")), "{}", said.out);
    }
    // Without the option no listener is named, and an address without a listener is an error.
    assert!(!check(&lab, listeners, &["example.test"], "").await.out.contains("by the listener"));
    let said = check(&lab, listeners, &["example.test", "--listener", "127.0.0.1:1"], "").await;
    assert_eq!((said.status, said.out.as_str()), (64, ""));
    assert!(said.err.contains("no listener at 127.0.0.1:1; it has: 127.0.0.1:10025, "), "{}", said.err);
}

#[tokio::test]
async fn explain_forecasts_the_mail_of_an_attempt_by_another_listener() {
    // B15, Q2.
    let lab = Scenario::new().set(&listener("always", "")).set("admin.remember = 10").start().await;
    let reply = lab.send().await.last().to_owned();
    let (_, id) = reply.trim_end_matches(')').rsplit_once("(id ").unwrap();
    let listeners = "listener = [{ address = '127.0.0.1:10032', require_tls = 'where-offered' }, \
                     { address = '127.0.0.1:10033', require_tls = 'always' }]";
    let toml = format!("admin.address = '{}'\n{listeners}", lab.admin().await);
    for (attempt, listener, status, line) in [
        ("--last", "127.0.0.1:10032", 0, "└─ verified: mail would go to mx1.example.test[127.0.0.1]\n"),
        (id, "127.0.0.1:10033", 5, "└─ rejected: mail would be refused with 550 5.7.30 (requiretls-missing)\n"),
    ] {
        let said = with_config(&lab, &toml, &["explain", attempt, "--listener", listener], "").await;
        assert!(said.status == status && said.out.contains(line), "{} {}{}", said.status, said.out, said.err);
        assert!(said.out.starts_with("example.test (level secure)\n"), "{}", said.out);
    }
    for (arguments, status, why) in [
        (&["explain", "--listener", "127.0.0.1:10032"][..], 64, "--listener needs an attempt"),
        (
            &["explain", "--last", "--listener", "127.0.0.1:1"],
            64,
            "no listener at 127.0.0.1:1; it has: 127.0.0.1:10032, ",
        ),
        (&["explain", "--last", "--listener", "127.0.0.1:1"], 64, "Usage: danelaw explain "),
        (&["explain", "ABCDEF", "--listener", "127.0.0.1:10032"], 1, "no attempt with this id"),
    ] {
        let said = with_config(&lab, &toml, arguments, "").await;
        assert!(said.status == status && said.err.contains(why), "{} {}{}", said.status, said.out, said.err);
    }
    assert!(!lab.mx().saw_mail());
}

#[tokio::test]
async fn delivery_status_notifications_are_never_offered() {
    // M17, M18.
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store.path = '{}'", folder.path().join("store.sqlite").display());
    for (kind, hello) in [("", "EHLO"), (", recipients = 'fan-out'", "EHLO"), (", kind = 'lmtp'", "LHLO")] {
        let mut lab = Scenario::new().set(&files.listener("starttls", kind)).set(&store).start().await;
        let mut client = Client::connect(&lab.address).await;
        for is_under_tls in [false, true] {
            let offered = client.command(&format!("{hello} client.test")).await;
            assert!(!offered.lines().any(|line| line[4..].to_uppercase().starts_with("DSN")), "{offered}");
            for parameter in ["RET=FULL", "RET=HDRS", "ENVID=x", "ret=hdrs"] {
                let reply = client.command(&format!("MAIL FROM:<a@client.test> {parameter}")).await;
                assert!(reply.starts_with("555 5.5.4 "), "{kind} {parameter}: {reply}");
            }
            client.command("MAIL FROM:<a@client.test>").await;
            for parameter in ["NOTIFY=SUCCESS", "NOTIFY=NEVER", "NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;b@example.test"] {
                let reply = client.command(&format!("RCPT TO:<b@example.test> {parameter}")).await;
                assert!(reply.starts_with("555 5.5.4 "), "{kind} {parameter}: {reply}");
            }
            client.command("RSET").await;
            if !is_under_tls {
                assert!(client.command("STARTTLS").await.starts_with("220 "));
                client = client.under_tls(&files.client()).await.unwrap();
            }
        }
        assert_eq!(lab.mx().connections(), 0);
        client.vanish();
        lab.stop();
        lab.stopped().await;
    }
}
