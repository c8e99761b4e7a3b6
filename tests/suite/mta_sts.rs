//! Policies of MTA-STS: their discovery, the policy host, and the policies that are kept (RFC 8461 §3).

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use danelaw::discovery::{MtaSts, StsFound, StsPolicies, StsSettings, StsSource};
use danelaw::dns::stub::Stub;
use danelaw::dns::{
    Answer as DnsAnswer, Failure, FailureReason, Families, Finality, Host, HostLookup, Lookup, Mx, Nat64, Nat64Prefix,
    RawTlsa, RawTxt, Resolver, Rtype, Security,
};
use danelaw::http::{HttpsClient, HttpsPart};
use danelaw::journal::Store;
use danelaw::mta_sts::{StsPolicy, StsUse};
use danelaw::name::Name;
use danelaw::reserved::Dialable;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::Instant;

use crate::lab::certs::{Authority, Identity};
use crate::lab::dns::{Fault, Tree};
use crate::lab::policy_host::{Answer, PolicyHost, answered, policy, served};
use crate::lab::wait_for;
use crate::store::server::Server;

const HOST: &str = "mta-sts.example.test";
const TXT: &str = "_mta-sts.example.test";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The answers by name.
type Answers<T> = Arc<Mutex<HashMap<String, Result<Vec<T>, FailureReason>>>>;

/// A resolver whose answers a test sets. A name without an answer does not exist.
#[derive(Clone, Default)]
struct FakeDns {
    txt: Answers<String>,
    hosts: Answers<IpAddr>,
    asked: Arc<Mutex<Vec<String>>>,
    nat64: Option<Nat64Prefix>,
    /// There are addresses of another family alone.
    not_in: Option<Families>,
}

impl FakeDns {
    fn record(&self, text: &str) {
        self.records(&[text]);
    }

    fn records(&self, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.txt.lock().unwrap().insert(TXT.to_owned(), Ok(texts));
    }

    fn no_record(&self) {
        self.txt.lock().unwrap().remove(TXT);
    }

    fn failing(&self, reason: FailureReason) {
        self.txt.lock().unwrap().insert(TXT.to_owned(), Err(reason));
    }

    fn host_is_at(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.hosts.lock().unwrap().insert(HOST.to_owned(), Ok(addresses));
    }
}

impl Resolver for FakeDns {
    async fn mx(&self, _: &Name) -> Result<Lookup<Mx>, Failure> {
        unreachable!("policies need no MX record")
    }

    async fn host(&self, asked: &Name) -> Result<HostLookup, Failure> {
        self.asked.lock().unwrap().push(asked.to_string());
        if let Some(families) = self.not_in {
            return Ok(HostLookup::NotInFamily(families));
        }
        let failure = |reason| Failure { name: asked.clone(), rtype: Rtype::A, reason };
        match self.hosts.lock().unwrap().get(asked.as_str()).cloned().transpose().map_err(failure)? {
            None => Ok(HostLookup::NoAddress(Finality::Final)),
            Some(addresses) => {
                let (name, end, finality) = (asked.clone(), Security::Insecure, Finality::Final);
                Ok(HostLookup::Found(Host { name, aliases: vec![], end, addresses, unknown: None, finality }))
            }
        }
    }

    async fn nat64(&self) -> Result<Option<Nat64Prefix>, Failure> {
        Ok(self.nat64)
    }

    async fn tlsa(&self, _: &Name) -> Result<Lookup<RawTlsa>, Failure> {
        unreachable!("policies need no TLSA record")
    }

    async fn txt(&self, owner: &Name) -> Result<Lookup<RawTxt>, Failure> {
        self.asked.lock().unwrap().push(owner.to_string());
        let failure = |reason| Failure { name: owner.clone(), rtype: Rtype::TXT, reason };
        let texts = self.txt.lock().unwrap().get(owner.as_str()).cloned().transpose().map_err(failure)?;
        let read =
            |texts: Vec<String>| DnsAnswer::Records(texts.into_iter().map(|text| RawTxt(text.into_bytes())).collect());
        let answer = texts.map_or(DnsAnswer::NxDomain, read);
        let (asked, end, finality) = (owner.clone(), Security::Insecure, Finality::Final);
        Ok(Lookup { asked, aliases: vec![], end, answer, finality })
    }
}

/// The service with its policy host: a domain with one record and a policy of mode `enforce`.
struct Service {
    ca: Authority,
    folder: tempfile::TempDir,
    dns: FakeDns,
    host: PolicyHost,
    policies: StsPolicies,
    dialable: Dialable,
    settings: StsSettings,
}

impl Service {
    async fn new() -> Self {
        Self::with_certificate(|ca| ca.issue(HOST)).await
    }

    async fn with_certificate(certificate: impl FnOnce(&Authority) -> Identity) -> Self {
        let (ca, dns) = (Authority::named("lab CA"), FakeDns::default());
        let host = PolicyHost::start(&certificate(&ca), Answer::Say(served(&policy("enforce")))).await;
        dns.record("v=STSv1; id=1;");
        dns.host_is_at(&["127.0.0.1"]);
        let settings = StsSettings {
            usage: StsUse::Enforce,
            entries: 100,
            timeout: Duration::from_secs(10),
            refresh: Duration::from_secs(86_400),
        };
        let policies = StsPolicies::in_memory(&settings);
        let dialable = Dialable::new(["127.0.0.0/8".parse().unwrap()]);
        Self { ca, folder: tempfile::tempdir().unwrap(), dns, host, policies, dialable, settings }
    }

    fn mta_sts(&self) -> MtaSts<FakeDns> {
        let (dialable, port) = (self.dialable.clone(), self.host.address.port());
        let part = HttpsPart { dialable, roots: self.ca.roots(), port };
        MtaSts::new(HttpsClient::new(self.dns.clone(), part), self.settings.clone(), self.policies.clone())
    }

    async fn found(&self) -> StsFound {
        self.mta_sts().policy_for(&name("example.test"), in_a_minute()).await
    }

    /// The result of a mail: the mode with its source, or the reason for none.
    async fn result(&self) -> String {
        in_words(&self.found().await)
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store.sqlite")
    }

    /// A connection to the store's file.
    async fn database(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.store()).connect().await.unwrap()
    }

    /// Restarts with the store.
    async fn restart(&mut self) {
        self.stop().await;
        let store = Store::open(Some(&self.store())).await.unwrap();
        self.policies = StsPolicies::open(Some(store), &self.settings).await.unwrap();
    }

    /// Ends the process, with the writes that it has begun.
    async fn stop(&mut self) {
        self.policies = StsPolicies::in_memory(&self.settings);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    fn fetches(&self, label: &str) -> u64 {
        self.policies.figures().fetches.iter().find(|(known, _)| *known == label).unwrap().1
    }
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn in_words(found: &StsFound) -> String {
    match found {
        StsFound::InForce(found) => {
            let source = match &found.source {
                StsSource::Fetched(_) => "fetched".to_owned(),
                StsSource::Renewed => "renewed".to_owned(),
                StsSource::Kept(_) => "kept".to_owned(),
                StsSource::Unfetched(error) => format!("kept, {}", error.as_str()),
                StsSource::NoRecord(_) => "kept, no record".to_owned(),
                StsSource::LookupFailed(_) => "kept, lookup failed".to_owned(),
            };
            format!("{} {} {source}", found.policy.mode(), found.id)
        }
        StsFound::Absent(why) => format!("absent: {why}"),
        StsFound::Unfetched(error) => format!("unfetched: {}", error.as_str()),
        StsFound::LookupFailed(failure) => format!("lookup failed: {}", failure.reason),
        StsFound::Off => "off".to_owned(),
    }
}

/// Time passes by the steady clock.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_request_is_plain_and_the_policy_is_kept() {
    // P1, P3: one GET of the one URL, with no field that asks for more than the policy.
    let service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    assert_eq!(service.result().await, "enforce 1 kept");
    let requests = service.host.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let (line, fields) = request.split_once("\r\n").unwrap();
    assert_eq!(line, format!("{HOST} GET /.well-known/mta-sts.txt HTTP/1.1"));
    let mut fields: Vec<_> = fields.trim_end().lines().map(str::to_ascii_lowercase).collect();
    fields.sort();
    let agent = format!("user-agent: danelaw/{}", danelaw::version::VERSION);
    assert_eq!(fields, ["accept-encoding: identity", &format!("host: {HOST}"), &agent]);
    let StsFound::InForce(found) = service.found().await else { panic!() };
    assert!(found.policy.lists(&name("mx1.example.test")) && !found.policy.lists(&name("mx2.example.test")));
    let figures = service.policies.figures();
    assert_eq!((service.fetches("ok"), figures.lookups[0], figures.policies[0]), (1, ("found", 3), ("enforce", 1)));
}

#[tokio::test]
async fn answers_that_are_no_policy() {
    // P3, P7, P8, A-113: each is a failure by itself, and no redirect is followed.
    let plain = "Content-Type: text/plain\r\n";
    let elsewhere = PolicyHost::start(&Authority::named("lab CA").issue("elsewhere.test"), Answer::NoTls).await;
    let text = policy("enforce");
    let padded = |octets: usize| {
        let text = format!("{text}note: ");
        format!("{text}{}", "x".repeat(octets - text.len()))
    };
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes();
    let chunked_fields = format!("{plain}Transfer-Encoding: chunked\r\n");
    let say = |status, fields: &str, body: &[u8]| Answer::Say(answered(status, fields, body));
    let location = format!("{plain}Location: https://127.0.0.1:{}/\r\nContent-Length: 0\r\n", elsewhere.address.port());
    let length = format!("{plain}Content-Length: {}\r\n", text.len() + 1);
    let fields = |count: usize| (0..count).map(|index| format!("X-{index}: y\r\n")).collect::<String>();
    let endless =
        Answer::Endless(answered("200 OK", &chunked_fields, b""), chunked(&"x".repeat(1000))[..1007].to_vec());
    for (answer, expected) in [
        (Answer::Say(served(&padded(65_536))), "enforce 1 fetched"),
        (say("200 OK", &chunked_fields, &chunked(&text)), "enforce 1 fetched"),
        (say("200 OK", &format!("{plain}Connection: close\r\n"), text.as_bytes()), "enforce 1 fetched"),
        (Answer::Say(served(&padded(65_537))), "unfetched: size"),
        (say("200 OK", &chunked_fields, &chunked(&padded(65_537))), "unfetched: size"),
        (endless, "unfetched: size"),
        (say("200 OK", &format!("{plain}X-Long: {}\r\n", "x".repeat(1 << 20)), b""), "unfetched: size"),
        (say("200 OK", &format!("{plain}{}", fields(65)), text.as_bytes()), "unfetched: size"),
        (say("301 Moved", &location, b""), "unfetched: redirect"),
        (say("302 Found", &location, b""), "unfetched: redirect"),
        (say("304 Not Modified", "", b""), "unfetched: redirect"),
        (say("204 No Content", plain, b""), "unfetched: status"),
        (say("206 Partial Content", &length, text.as_bytes()), "unfetched: status"),
        (say("404 Not Found", plain, text.as_bytes()), "unfetched: status"),
        (say("503 Busy", plain, b""), "unfetched: status"),
        (Answer::Say(b"220 mail.example.test ESMTP\r\n\r\n".to_vec()), "unfetched: status"),
        (say("200 OK", "", text.as_bytes()), "unfetched: type"),
        (say("200 OK", "Content-Type: text/html\r\n", text.as_bytes()), "unfetched: type"),
        (say("200 OK", &format!("{plain}Content-Encoding: gzip\r\n"), b"\x1f\x8b\x08"), "unfetched: type"),
        (say("200 OK", &length, text.as_bytes()), "unfetched: truncated"),
        (Answer::Cut(answered("200 OK", plain, text.as_bytes())), "unfetched: truncated"),
        (Answer::Cut(answered("200 OK", &chunked_fields, b"5\r\nvers")), "unfetched: truncated"),
        (Answer::Cut(Vec::new()), "unfetched: truncated"),
        (Answer::NoTls, "unfetched: tls"),
        (Answer::Say(served("version: STSv1\r\nmode: enforce\r\nmax_age: 1\r\n")), "unfetched: syntax"),
        (Answer::Say(served("")), "unfetched: syntax"),
    ] {
        let service = Service::new().await;
        service.host.answer(answer);
        let found = service.found().await;
        assert_eq!(in_words(&found), expected, "{found:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_policy_hosts_words_are_no_field_of_the_log() {
    // A-110: neither another field of the line nor directions for a terminal.
    let (log, _guard) = crate::log::captured();
    let service = Service::new().await;
    let media_type = "Content-Type: x verdict=delivered \u{9b}2J\u{202e}\"\r\n";
    service.host.answer(Answer::Say(answered("200 OK", media_type, b"")));
    assert_eq!(in_words(&service.found().await), "unfetched: type");
    let text = log.text();
    let told = r#" error="the policy is served as x verdict=delivered ?2J?\", not as text/plain""#;
    assert!(text.contains(told), "{text}");
}

#[tokio::test]
async fn the_certificate_must_prove_the_policy_hosts_name() {
    // P6.
    let expired = |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let future = |params: &mut rcgen::CertificateParams| params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    let named = |params: &mut rcgen::CertificateParams| params.distinguished_name.push(rcgen::DnType::CommonName, HOST);
    type Make = Box<dyn FnOnce(&Authority) -> Identity>;
    let cases: Vec<(&str, Make, &str)> = vec![
        ("wildcard", Box::new(|ca: &Authority| ca.issue("*.example.test")), "enforce 1 fetched"),
        ("other name", Box::new(|ca: &Authority| ca.issue("example.test")), "unfetched: certificate"),
        ("partial wildcard", Box::new(|ca: &Authority| ca.issue("mta*.example.test")), "unfetched: certificate"),
        ("expired", Box::new(move |ca: &Authority| ca.issue_with(HOST, expired)), "unfetched: certificate"),
        ("not yet valid", Box::new(move |ca: &Authority| ca.issue_with(HOST, future)), "unfetched: certificate"),
        ("CN only", Box::new(move |ca: &Authority| ca.issue_with("x.test", named)), "unfetched: certificate"),
        ("self-signed", Box::new(|_: &Authority| Identity::for_name(HOST)), "unfetched: certificate"),
        ("another CA", Box::new(|_: &Authority| Authority::named("lab CA").issue(HOST)), "unfetched: certificate"),
    ];
    for (case, certificate, expected) in cases {
        let service = Service::with_certificate(certificate).await;
        assert_eq!(service.result().await, expected, "{case}");
        // No request leaves before the name is proven.
        assert_eq!(service.host.requests().is_empty(), expected.starts_with("unfetched"), "{case}");
    }
}

#[tokio::test]
async fn a_policy_host_is_dialled_only_where_a_public_host_can_be() {
    // A-51, A-113, P6: by the address that was looked up; a name without a usable one is not dialled.
    let mut service = Service::new().await;
    service.dialable = Dialable::default();
    for address in ["127.0.0.1", "10.1.2.3", "::1", "169.254.169.254", "64:ff9b::7f00:1", "::ffff:127.0.0.1"] {
        service.dns.host_is_at(&[address]);
        service.dns.record(&format!("v=STSv1; id={};", address.replace([':', '.'], "")));
        assert_eq!(service.result().await, "unfetched: reserved", "{address}");
    }
    assert_eq!(service.host.connections(), 0);
    let service = Service::new().await;
    service.dns.host_is_at(&["10.1.2.3", "127.0.0.1"]);
    assert_eq!(service.result().await, "enforce 1 fetched", "the address that is allowed");
    let service = Service::new().await;
    service.dns.hosts.lock().unwrap().clear();
    assert_eq!(service.result().await, "unfetched: dns");
    service.dns.hosts.lock().unwrap().insert(HOST.to_owned(), Err(FailureReason::Bogus("forged".into())));
    service.dns.record("v=STSv1; id=2;");
    assert_eq!(service.result().await, "unfetched: dns");
    // A port on which nothing listens.
    service.dns.host_is_at(&["127.255.255.253"]);
    service.dns.record("v=STSv1; id=3;");
    assert_eq!(service.result().await, "unfetched: connect");
}

#[tokio::test]
async fn a_policy_host_is_reached_by_nat64_as_mail_servers_are() {
    // A25, A-51, P6: the IPv4 address inside is judged; the translator's address is dialled.
    let Ok(Nat64::By(prefix)) = "2001:67c:2960:6464::/96".parse() else { panic!() };
    let mut service = Service::new().await;
    service.dialable = Dialable::default();
    service.dns.nat64 = Some(prefix);
    for (id, address, inside) in [
        ("1", "2001:67c:2960:6464::10.0.0.5", "10.0.0.5"),
        ("2", "2001:67c:2960:6464::127.0.0.1", "127.0.0.1"),
        ("3", "169.254.169.254", "169.254.169.254"),
    ] {
        service.dns.host_is_at(&[address]);
        service.dns.record(&format!("v=STSv1; id={id};"));
        let StsFound::Unfetched(why) = service.found().await else { panic!("{address}") };
        assert_eq!(why.as_str(), "reserved", "{address}");
        assert!(why.to_string().contains(&format!(" at {inside},")), "{why}");
    }
    // The network of the tests is loopback alone, so each of these fails at once, at the address that was dialled.
    for (id, address) in [("4", "8.8.8.8"), ("5", "2001:67c:2960:6464::8.8.8.8")] {
        service.dns.host_is_at(&[address]);
        service.dns.record(&format!("v=STSv1; id={id};"));
        let StsFound::Unfetched(why) = service.found().await else { panic!("{address}") };
        assert!(why.to_string().contains("[2001:67c:2960:6464::808:808]:"), "{why}");
    }
    // One that the operator allows is in the own network, and is dialled as it is.
    let mut service = Service::new().await;
    service.dns.nat64 = Some(prefix);
    assert_eq!(service.result().await, "enforce 1 fetched");
}

#[tokio::test]
async fn a_policy_host_is_reached_by_the_families_in_use() {
    let mut service = Service::new().await;
    service.dns.not_in = Some(Families::Ipv6);
    let StsFound::Unfetched(error) = service.found().await else { panic!("fetched") };
    let text = "mta-sts.example.test has no address of the family in remote.families (\"ipv6\")";
    assert_eq!((error.as_str(), error.to_string().as_str()), ("dns", text));
    assert_eq!(service.host.connections(), 0);
}

#[tokio::test]
async fn a_slow_policy_host_costs_a_mail_its_patience_and_no_more() {
    // P8: the fetch goes on, and its policy counts for the next mail.
    let mut service = Service::new().await;
    service.settings.timeout = Duration::from_millis(300);
    service.host.answer(Answer::Drip(served(&policy("enforce")), Duration::from_millis(5)));
    let began = std::time::Instant::now();
    assert_eq!(service.result().await, "unfetched: timeout");
    assert!(began.elapsed() < Duration::from_secs(2));
    // The mails after it do not wait for the same fetch again.
    for _ in 0..10 {
        assert_eq!(service.result().await, "unfetched: timeout");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(service.fetches("ok"), 0, "it goes on");
    crate::lab::wait_for(|| service.fetches("ok") == 1).await;
    assert_eq!((service.result().await.as_str(), service.host.connections()), ("enforce 1 kept", 1));
}

#[tokio::test]
async fn p6_the_certificate_is_looked_at_for_each_fetch() {
    // P6: a session that is resumed has no certificate, and the one before may have ended since.
    let service = Service::new().await;
    let mta_sts = service.mta_sts();
    let found = mta_sts.policy_for(&name("example.test"), in_a_minute()).await;
    assert_eq!(in_words(&found), "enforce 1 fetched");
    for _ in 0..2 {
        pass(86_400 * 11 / 10).await;
        mta_sts.refresh_due().await;
    }
    assert_eq!((service.host.connections(), service.host.resumed()), (3, 0));
}

#[tokio::test]
async fn p10_the_begin_of_failures_outlives_a_restart() {
    // P10: a domain with little mail, whose policy host is gone, and a danelaw that is restarted often.
    let mut service = Service::new().await;
    service.restart().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.host.answer(Answer::NoTls);
    pass(86_400 * 11 / 10).await;
    service.mta_sts().refresh_due().await;
    service.stop().await;
    let mut connection = service.database().await;
    let row = sqlx::query("SELECT failing_since FROM sts_policies").fetch_one(&mut connection).await.unwrap();
    assert!(sqlx::Row::get::<Option<i64>, _>(&row, 0).is_some());
}

#[tokio::test]
async fn p9_a_policy_in_the_store_that_cannot_be_read_stops_the_start() {
    // P9, P18: without it mail would go as if the domain had no policy.
    let mut service = Service::new().await;
    service.restart().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.stop().await;
    let mut connection = service.database().await;
    sqlx::raw_sql("UPDATE sts_policies SET body = x'00'").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = Store::open(Some(&service.store())).await.unwrap();
    let error = StsPolicies::open(Some(store), &service.settings).await.unwrap_err().to_string();
    assert!(error.starts_with("the store's MTA-STS policy of example.test cannot be read ("), "{error}");
}

#[tokio::test]
async fn p9_danelaws_with_one_database_know_the_policies_of_each_other() {
    // P9, V23: what the file does for one danelaw.
    let mut server = Server::start();
    let at = server.settings();
    let store = async || Store::connect(at.clone()).await.unwrap();
    let mut service = Service::new().await;
    service.policies = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    let other = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    assert_eq!(service.result().await, "enforce 1 fetched");
    wait_for(|| server.sql("SELECT count(*) FROM danelaw.sts_policies") == "1").await;
    // Another one that runs learns of it at its next look, and one that starts at once.
    let first = std::mem::replace(&mut service.policies, other);
    service.mta_sts().refresh_due().await;
    assert_eq!(service.result().await, "enforce 1 kept");
    service.policies = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    assert_eq!(service.result().await, "enforce 1 kept");
    // A newer policy takes the place of an older one.
    server.sql("UPDATE danelaw.sts_policies SET id = 'newer', fetched = fetched + 1, changed = changed + 1");
    service.mta_sts().refresh_due().await;
    service.dns.record("v=STSv1; id=newer;");
    assert_eq!(service.result().await, "enforce newer kept");
    // A database that is down stops neither a start nor a fetch, and has the policy once it is up.
    server.crash();
    service.policies = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    service.dns.record("v=STSv1; id=later;");
    assert_eq!(service.result().await, "enforce later fetched");
    server.up();
    server.sql("DELETE FROM danelaw.sts_policies");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    service.mta_sts().refresh_due().await;
    assert_eq!(server.sql("SELECT id FROM danelaw.sts_policies"), "later");
    // A write that comes late takes no newer policy's place, and that one counts here too.
    server.crash();
    service.dns.record("v=STSv1; id=late;");
    assert_eq!(service.result().await, "enforce late fetched");
    server.up();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.sql("UPDATE danelaw.sts_policies SET id = 'newest', fetched = danelaw.clock(), changed = danelaw.clock()");
    service.mta_sts().refresh_due().await;
    assert_eq!(server.sql("SELECT id FROM danelaw.sts_policies"), "newest");
    service.dns.record("v=STSv1; id=newest;");
    assert_eq!(service.result().await, "enforce newest kept");
    service.policies = first;
    service.mta_sts().refresh_due().await;
    assert_eq!(service.result().await, "enforce newest kept");
    // A row that cannot be read stops the start.
    server.sql("UPDATE danelaw.sts_policies SET body = 'x'");
    let error = StsPolicies::open(Some(store().await), &service.settings).await.unwrap_err().to_string();
    assert!(error.starts_with("the store's MTA-STS policy of example.test cannot be read ("), "{error}");
}

#[tokio::test]
async fn p9_the_policy_that_was_fetched_last_counts_whatever_the_clocks_of_danelaws_say() {
    // V29, P9: no clock agrees with another one, and that of the database with none.
    let server = Server::start();
    let at = server.settings();
    let store = async || Store::connect(at.clone()).await.unwrap();
    let mut service = Service::new().await;
    drop(store().await);
    server.sql(
        "CREATE OR REPLACE FUNCTION danelaw.clock() RETURNS bigint LANGUAGE sql VOLATILE AS \
         'SELECT floor(extract(epoch FROM clock_timestamp()))::bigint - 7200'",
    );
    let mut danelaws = Vec::new();
    for ahead in [1800, -1800] {
        let policies = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
        policies.set_clock_ahead(ahead);
        danelaws.push(policies);
    }
    for (number, [first, last]) in [[0, 1], [1, 0], [0, 1]].into_iter().enumerate() {
        for (id, danelaw) in [(format!("{number}a"), first), (format!("{number}b"), last)] {
            service.policies = danelaws[danelaw].clone();
            service.dns.record(&format!("v=STSv1; id={id};"));
            assert_eq!(service.result().await, format!("enforce {id} fetched"));
            wait_for(|| server.sql("SELECT id FROM danelaw.sts_policies") == id).await;
        }
        // The one that has fetched the older policy takes up the newer one.
        service.policies = danelaws[first].clone();
        service.mta_sts().refresh_due().await;
        assert_eq!(service.result().await, format!("enforce {number}b kept"));
        let StsFound::InForce(found) = service.found().await else { panic!() };
        assert!(found.age < Duration::from_secs(60), "{:?}", found.age);
    }
    // Each knows how old a policy of another one is, by any clock.
    server.sql("UPDATE danelaw.sts_policies SET fetched = fetched - 3600, used = used - 200000");
    for ahead in [0, 1800, -1800] {
        service.policies = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
        service.policies.set_clock_ahead(ahead);
        server.sql("UPDATE danelaw.sts_policies SET fetched = fetched + 1, changed = danelaw.clock()");
        service.mta_sts().refresh_due().await;
        let StsFound::InForce(found) = service.found().await else { panic!() };
        assert!(found.age.as_secs().abs_diff(3600) < 60, "{:?}", found.age);
    }
    // A use that is noted changes no date.
    wait_for(|| {
        server.sql("SELECT used > danelaw.clock() - 60 AND fetched < danelaw.clock() - 3500 FROM danelaw.sts_policies")
            == "t"
    })
    .await;
}

#[tokio::test]
async fn p9_a_policy_that_one_danelaw_drops_is_dropped_by_all() {
    // V29: RFC 8461 §8.3.
    let server = Server::start();
    let at = server.settings();
    let store = async || Store::connect(at.clone()).await.unwrap();
    let mut service = Service::new().await;
    service.host.answer(Answer::Say(served(&policy("none"))));
    let other = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    let one = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    service.policies = one.clone();
    assert_eq!(service.result().await, "none 1 fetched");
    wait_for(|| server.sql("SELECT count(*) FROM danelaw.sts_policies") == "1").await;
    service.policies = other.clone();
    service.mta_sts().refresh_due().await;
    assert!(other.running(&name("example.test")).is_some());
    let date = server.sql("SELECT fetched FROM danelaw.sts_policies");
    // The domain has withdrawn it. An old policy goes when the tables are tidied.
    server
        .sql("INSERT INTO danelaw.sts_policies VALUES ('old.test', '1', 'x', danelaw.clock() - 34150000, 0, NULL, 0)");
    service.policies = one.clone();
    service.dns.no_record();
    assert!(service.result().await.starts_with("absent"));
    wait_for(|| server.sql("SELECT domain FROM danelaw.sts_policies") == "old.test").await;
    let token = server.sql("SELECT danelaw.lease('tidy', 1, 600)");
    server.sql(&format!("SELECT danelaw.tidy(1, {token}, 600, 10)"));
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.sts_policies"), "0");
    // A note of a danelaw that has not heard of it does not bring it back.
    let put = format!("SELECT count(*) FROM danelaw.sts_put('example.test', '1', 'x', {date}, 0, 0, NULL)");
    assert_eq!(server.sql(&put), "0");
    service.policies = other.clone();
    service.mta_sts().refresh_due().await;
    assert!(other.running(&name("example.test")).is_none());
    // A later fetch does.
    service.dns.record("v=STSv1; id=2;");
    assert_eq!(service.result().await, "none 2 fetched");
    wait_for(|| server.sql("SELECT id FROM danelaw.sts_policies") == "2").await;
    service.policies = one.clone();
    service.mta_sts().refresh_due().await;
    assert_eq!(service.result().await, "none 2 kept");
    // An older one does not take its place. A row that a failover has lost comes back with its date.
    assert_eq!(server.sql(&put.replace("count(*)", "id")), "2");
    server.sql("DELETE FROM danelaw.sts_policies");
    assert_eq!(server.sql(&put.replace("count(*)", "fetched")), date);
}

#[tokio::test]
async fn p18_more_policies_in_the_database_than_there_is_room_for_are_left_there() {
    let server = Server::start();
    let at = server.settings();
    let store = async || Store::connect(at.clone()).await.unwrap();
    let service = Service::new().await;
    drop(store().await);
    server.sql(
        "INSERT INTO danelaw.sts_policies SELECT 'd' || n || '.test', '1', \
         convert_to(E'version: STSv1\nmode: ' || CASE WHEN n <= 40 THEN 'enforce' ELSE 'testing' END || \
         E'\nmx: mx.test\nmax_age: 86400\n', 'UTF8'), danelaw.clock() - 60, danelaw.clock() - 60, NULL, danelaw.clock() \
         FROM generate_series(1, 450) AS n",
    );
    for (entries, expected) in [(1000, [40, 410]), (100, [40, 60]), (10, [10, 0])] {
        let settings = StsSettings { entries, ..service.settings.clone() };
        let (log, _guard) = crate::log::captured();
        let policies = StsPolicies::open(Some(store().await), &settings).await.unwrap();
        // One warning, however many of them there are.
        assert_eq!(log.text().matches("there is no room").count(), usize::from(entries == 10), "{}", log.text());
        let counts = policies.figures().policies;
        let count = |mode: &str| counts.iter().find(|(known, _)| *known == mode).unwrap().1;
        assert_eq!([count("enforce"), count("testing")], expected, "{counts:?}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM danelaw.sts_policies"), "450");
}

#[tokio::test]
async fn p18_a_policy_that_leaves_one_danelaw_stays_for_the_others() {
    // V29, P18: without it they would trust the first contact anew.
    let server = Server::start();
    let at = server.settings();
    let store = async || Store::connect(at.clone()).await.unwrap();
    let mut service = Service::new().await;
    drop(store().await);
    server.sql(
        "INSERT INTO danelaw.sts_policies SELECT 'd' || n || '.test', '1', \
         convert_to(E'version: STSv1\nmode: testing\nmx: mx.test\nmax_age: 86400\n', 'UTF8'), \
         danelaw.clock() - 60, danelaw.clock() - 60, NULL, danelaw.clock() FROM generate_series(1, 3) AS n",
    );
    let stored = || server.sql("SELECT count(*) FROM danelaw.sts_policies WHERE domain <> 'example.test'");
    let other = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    let small = StsPolicies::open(Some(store().await), &service.settings).await.unwrap();
    assert!(small.running(&name("d1.test")).is_some());
    // A reload has made its room smaller, and the next policy takes it.
    (service.policies, service.settings.entries) = (small.clone(), 1);
    assert_eq!(service.result().await, "enforce 1 fetched");
    assert!(small.running(&name("d1.test")).is_none());
    // It is written behind the others.
    let is_written = |id: &str| server.sql("SELECT id FROM danelaw.sts_policies WHERE domain = 'example.test'") == id;
    wait_for(|| is_written("1")).await;
    assert_eq!((stored().as_str(), server.sql("SELECT count(*) FROM danelaw.sts_gone").as_str()), ("3", "0"));
    (service.policies, service.settings.entries) = (other.clone(), 100);
    service.mta_sts().refresh_due().await;
    assert!(other.running(&name("d1.test")).is_some());
    // One that has found them expired for long, by its own clock, drops them alone.
    for days in [2, 31] {
        pass(days * 86_400).await;
        service.mta_sts().refresh_due().await;
    }
    service.dns.record("v=STSv1; id=2;");
    assert_eq!(service.result().await, "enforce 2 fetched");
    wait_for(|| is_written("2")).await;
    assert_eq!((stored().as_str(), server.sql("SELECT count(*) FROM danelaw.sts_gone").as_str()), ("3", "0"));
}

#[tokio::test]
async fn p10_a_policy_fetched_anew_has_the_id_of_its_record() {
    // P10: an owner who publishes another id with another policy, and a fetch anew before the next mail.
    let service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.dns.record("v=STSv1; id=2;");
    service.host.answer(Answer::Say(served(&policy("testing"))));
    pass(86_400 * 11 / 10).await;
    let (log, _guard) = crate::log::captured();
    service.mta_sts().refresh_due().await;
    assert_eq!((service.result().await.as_str(), service.host.connections()), ("testing 2 kept", 2));
    assert!(!log.text().contains("id-unchanged"), "{}", log.text());
    // Only where the record has the same id is the owner told to have forgotten it.
    service.host.answer(Answer::Say(served(&policy("enforce"))));
    service.dns.failing(FailureReason::Timeout);
    pass(86_400 * 11 / 10).await;
    service.mta_sts().refresh_due().await;
    assert!(!log.text().contains("id-unchanged"), "{}", log.text());
    service.dns.record("v=STSv1; id=2;");
    service.host.answer(Answer::Say(served(&policy("testing"))));
    pass(86_400 * 11 / 10).await;
    service.mta_sts().refresh_due().await;
    assert!(log.text().contains("id-unchanged"), "{}", log.text());
}

#[tokio::test]
async fn p9_each_try_to_fetch_a_policy_anew_that_fails_is_no_warning() {
    // P9, P10 (RFC 8461 §3.3): in force and expired. The cache says when a warning is due; its clock does not move here.
    for mode in ["enforce", "none"] {
        let service = Service::new().await;
        service.host.answer(Answer::Say(served(&policy(mode).replace("604800", "259200"))));
        service.result().await;
        service.host.answer(Answer::NoTls);
        let (log, _guard) = crate::log::captured();
        for _ in 0..5 * 24 {
            pass(3_600).await;
            service.mta_sts().refresh_due().await;
        }
        let text = log.text();
        assert!(text.contains("in_force=false") && text.contains("in_force=true"), "{mode}: {text}");
        assert!(!text.contains("WARN"), "{mode}: {text}");
    }
}

#[tokio::test]
async fn u17_mail_to_a_domain_whose_policy_has_lapsed_is_told() {
    // U17: the policy host is gone, and the domain never published the mode none.
    let service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.host.answer(Answer::NoTls);
    pass(604_800).await;
    service.policies.set_clock_ahead(604_800);
    let (log, _guard) = crate::log::captured();
    let lapses = || log.text().matches("kind=\"sts-lapsed\"").count();
    for (days, expected) in [(0, 1), (0, 1), (1, 2)] {
        pass(days * 86_400).await;
        service.policies.set_clock_ahead(604_800 + i64::try_from(days).unwrap() * 86_400);
        assert_eq!(service.result().await, "unfetched: tls");
        assert_eq!(lapses(), expected, "{}", log.text());
    }
    // Nor is there a record any more.
    service.dns.no_record();
    service.policies.set_clock_ahead(604_800 + 2 * 86_400);
    assert_eq!(service.result().await, "absent: there is no record of MTA-STS");
    assert_eq!(lapses(), 3, "{}", log.text());
    // A lookup that fails says nothing.
    service.dns.failing(FailureReason::Timeout);
    service.policies.set_clock_ahead(604_800 + 3 * 86_400);
    service.result().await;
    assert_eq!(lapses(), 3);
}

/// Policy hosts of strangers that accept connections and are silent. They hold places until this is dropped.
struct SlowStrangers {
    _listener: tokio::net::TcpListener,
    mails: tokio::task::JoinSet<StsFound>,
}

impl SlowStrangers {
    /// Mails to their domains, one after the other.
    async fn start(service: &Service, domains: impl IntoIterator<Item = String>) -> Self {
        // They are at another address, at the port of the test's policy host.
        let listener = tokio::net::TcpListener::bind(("127.0.0.2", service.host.address.port())).await.unwrap();
        let mut mails = tokio::task::JoinSet::new();
        for domain in domains {
            service.dns.txt.lock().unwrap().insert(format!("_mta-sts.{domain}"), Ok(vec!["v=STSv1; id=1".into()]));
            let address = "127.0.0.2".parse().unwrap();
            service.dns.hosts.lock().unwrap().insert(format!("mta-sts.{domain}"), Ok(vec![address]));
            let mta_sts = service.mta_sts();
            mails.spawn(async move { mta_sts.policy_for(&name(&domain), in_a_minute()).await });
            tokio::task::yield_now().await;
        }
        Self { _listener: listener, mails }
    }
}

#[tokio::test]
async fn p21_slow_policy_hosts_of_one_stranger_cost_another_domain_a_short_wait() {
    // P21: more of them than there are places, below one domain.
    let mut service = Service::new().await;
    service.settings.timeout = Duration::from_millis(300);
    let mut strangers = SlowStrangers::start(&service, (0..100).map(|index| format!("{index}.stranger.org"))).await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    let first = strangers.mails.join_next().await.unwrap().unwrap();
    assert_eq!(in_words(&first), "unfetched: timeout", "the policy host had its time");
    assert_eq!(service.fetches("busy"), 0);
}

#[tokio::test]
async fn p21_a_fetch_without_a_turn_is_not_the_policy_hosts_failure() {
    // P21: they are of many domains, and each has as much time as may be.
    let mut service = Service::new().await;
    service.settings.timeout = Duration::from_secs(60);
    let strangers = SlowStrangers::start(&service, (0..40).map(|index| format!("stranger{index}.org"))).await;
    let until = Instant::now() + Duration::from_millis(200);
    let found = service.mta_sts().policy_for(&name("example.test"), until).await;
    assert_eq!(in_words(&found), "unfetched: busy");
    assert_eq!((service.host.connections(), service.fetches("busy")), (0, 0), "it waits for a place");
    pass(31).await;
    crate::lab::wait_for(|| service.fetches("busy") == 9).await;
    drop(strangers);
    // Nothing is remembered against the domain: the next mail has its policy.
    let mut result = service.result().await;
    if result == "unfetched: busy" {
        pass(61).await;
        result = service.result().await;
    }
    assert_eq!(result, "enforce 1 fetched");
}

#[tokio::test]
async fn p21_a_mail_without_time_left_is_not_told_that_others_have_the_turns() {
    // P21: the policy host was asked at once, and would have had a minute.
    let mut service = Service::new().await;
    service.settings.timeout = Duration::from_secs(60);
    service.host.answer(Answer::Drip(served(&policy("enforce")), Duration::from_secs(1)));
    let until = Instant::now() + Duration::from_millis(500);
    let found = service.mta_sts().policy_for(&name("example.test"), until).await;
    assert_eq!((in_words(&found).as_str(), service.host.connections()), ("unfetched: busy", 1));
    let StsFound::Unfetched(error) = found else { panic!("{found:?}") };
    assert!(error.to_string().contains("no time was left"), "{error}");
    assert_eq!(service.fetches("busy"), 0, "the fetch goes on");
}

#[tokio::test]
async fn p21_a_kept_policy_holds_while_strangers_have_all_places() {
    // P21: under another id than the kept one's.
    let mut service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.settings.timeout = Duration::from_secs(60);
    let _strangers = SlowStrangers::start(&service, (0..40).map(|index| format!("stranger{index}.org"))).await;
    assert_eq!(service.result().await, "enforce 1 kept");
    service.dns.record("v=STSv1; id=2;");
    let until = Instant::now() + Duration::from_millis(200);
    let found = service.mta_sts().policy_for(&name("example.test"), until).await;
    assert_eq!(in_words(&found), "enforce 1 kept, busy");
}

#[tokio::test]
async fn mails_at_the_same_time_make_one_request() {
    // P8.
    let service = Service::new().await;
    service.host.answer(Answer::Drip(served(&policy("enforce")), Duration::from_millis(1)));
    let mails = (0..200).map(|_| service.result());
    for result in futures_util::future::join_all(mails).await {
        assert!(result == "enforce 1 fetched" || result == "enforce 1 kept", "{result}");
    }
    assert_eq!(service.host.connections(), 1);
}

#[tokio::test]
async fn a_failure_is_remembered_for_five_minutes_for_its_id() {
    // P8, P9.
    let service = Service::new().await;
    service.host.answer(Answer::Say(answered("404 Not Found", "Content-Length: 0\r\n", b"")));
    for _ in 0..3 {
        assert_eq!(service.result().await, "unfetched: status");
    }
    assert_eq!(service.host.connections(), 1);
    service.dns.record("v=STSv1; id=2;");
    assert_eq!(service.result().await, "unfetched: status");
    assert_eq!(service.host.connections(), 2);
    pass(290).await;
    service.result().await;
    assert_eq!(service.host.connections(), 2);
    pass(10).await;
    service.host.answer(Answer::Say(served(&policy("testing"))));
    assert_eq!(service.result().await, "testing 2 fetched");
}

#[tokio::test]
async fn a_kept_policy_holds_while_the_dns_or_the_policy_host_fails() {
    // P1, P2, P9.
    let service = Service::new().await;
    for (failing, alone) in [
        (FailureReason::Refused("SERVFAIL".into()), "lookup failed: the name server answered SERVFAIL"),
        (FailureReason::Timeout, "lookup failed: no answer within the time limit"),
    ] {
        service.dns.failing(failing);
        assert_eq!(service.result().await, alone);
        // The signed domain's mail waits; the other's does not.
        let found = service.found().await;
        assert!(found.defers(Security::Secure).is_some() && found.defers(Security::Insecure).is_none());
    }
    service.dns.failing(FailureReason::Bogus("forged".into()));
    assert!(service.found().await.defers(Security::Insecure).is_some());
    service.dns.no_record();
    assert_eq!(service.result().await, "absent: there is no record of MTA-STS");
    service.dns.records(&["v=STSv1; id=1;", "v=STSv1; id=2;"]);
    assert_eq!(service.result().await, "absent: there are 2 records of MTA-STS; one is allowed");
    assert_eq!(service.host.connections(), 0);

    service.dns.record("v=STSv1; id=1;");
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.host.answer(Answer::NoTls);
    for texts in [&["v=STSv1; id=1;", "v=STSv1; id=2;"][..], &["v=STSv1; id=a-b"], &["v=spf1 -all"], &[]] {
        service.dns.records(texts);
        assert_eq!(service.result().await, "enforce 1 kept, no record", "{texts:?}");
    }
    service.dns.no_record();
    assert_eq!(service.result().await, "enforce 1 kept, no record");
    service.dns.failing(FailureReason::Bogus("forged".into()));
    let (log, guard) = crate::log::captured();
    for _ in 0..2 {
        assert_eq!(service.result().await, "enforce 1 kept, lookup failed");
    }
    let told = log.text().matches("it is not known whether the MTA-STS policy has changed").count();
    assert_eq!(told, 1, "once");
    drop(guard);
    service.dns.record("v=STSv1; id=2;");
    assert_eq!(service.result().await, "enforce 1 kept, tls");
    let lookups = service.policies.figures().lookups;
    assert_eq!(lookups, [("found", 2), ("absent", 4), ("several", 2), ("malformed", 1), ("failed", 7)]);
}

#[tokio::test]
async fn a_kept_policy_outlives_a_restart() {
    // P9, P18.
    let mut service = Service::new().await;
    service.restart().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.restart().await;
    service.host.answer(Answer::NoTls);
    assert_eq!(service.result().await, "enforce 1 kept");
    service.dns.no_record();
    assert_eq!(service.result().await, "enforce 1 kept, no record");
    // A domain that has withdrawn is forgotten there too.
    service.dns.record("v=STSv1; id=2;");
    service.host.answer(Answer::Say(served("version: STSv1\nmode: none\nmax_age: 86400\n")));
    assert_eq!(service.result().await, "none 2 fetched");
    service.dns.no_record();
    assert_eq!(service.result().await, "absent: there is no record of MTA-STS");
    service.restart().await;
    service.dns.record("v=STSv1; id=2;");
    assert_eq!((service.result().await.as_str(), service.fetches("ok")), ("none 2 fetched", 1));
}

#[tokio::test]
async fn a_store_of_version_2_is_taken_over_with_its_outcomes() {
    // P18.
    let mut service = Service::new().await;
    drop(Store::open(Some(&service.store())).await.unwrap());
    let mut connection = service.database().await;
    let sql = "DROP TABLE sts_policies; DROP TABLE tls_counts; DROP TABLE tls_reports; DROP TABLE tls_suppressed;
               PRAGMA user_version = 2; INSERT INTO records (key, seen) VALUES (x'00', 1);";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    service.restart().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.restart().await;
    assert_eq!(service.result().await, "enforce 1 kept");
    service.stop().await;
    let mut connection = service.database().await;
    let row = sqlx::query("SELECT COUNT(*) FROM records").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 1);
}

#[tokio::test]
async fn a_policy_that_failed_is_fetched_anew_once_in_five_minutes() {
    // P16, A-114: the new policy is there, and its id is the old one.
    let service = Service::new().await;
    let text = |mx: &str| policy("enforce").replace("mx1", mx);
    let refetched = async |failed: &str| {
        let before = StsPolicy::parse(text(failed).as_bytes()).unwrap();
        let found = service.mta_sts().refetch(&name("example.test"), &before, in_a_minute()).await;
        found.map(|found| found.policy.lists(&name("mx2.example.test")))
    };
    assert_eq!(refetched("mx1").await, None, "there is none");
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.host.answer(Answer::Say(served(&text("mx2"))));
    assert_eq!(refetched("mx1").await, None, "it was fetched a moment ago");
    pass(300).await;
    assert_eq!(refetched("mx1").await, Some(true));
    // Another mail had failed by the old policy at the same time.
    assert_eq!((refetched("mx1").await, service.host.connections()), (Some(true), 2));
    pass(300).await;
    assert_eq!(refetched("mx2").await, None, "it is the same");
    pass(300).await;
    service.host.answer(Answer::NoTls);
    assert_eq!(refetched("mx2").await, None);
    let connections = service.host.connections();
    assert_eq!(refetched("mx2").await, None);
    assert_eq!(service.host.connections(), connections, "the failure is remembered");
}

#[tokio::test]
async fn p7_fields_for_http_caches_change_nothing() {
    // P7 (RFC 8461 §3.3): the policy holds for its max_age, and is asked for without conditions.
    let service = Service::new().await;
    let text = policy("enforce");
    let fields = "Content-Type: text/plain\r\nAge: 99999999\r\nCache-Control: no-store, max-age=0\r\nETag: \"1\"\r\n\
                  Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                  Pragma: no-cache\r\nVary: *\r\nConnection: close\r\n";
    service.host.answer(Answer::Say(answered("200 OK", fields, text.as_bytes())));
    assert_eq!(service.result().await, "enforce 1 fetched");
    assert_eq!(service.result().await, "enforce 1 kept");
    pass(86_400 * 11 / 10).await;
    service.mta_sts().refresh_due().await;
    let requests = service.host.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
}

#[tokio::test]
async fn p18_another_configuration_leaves_the_policies() {
    // P18: smaller bounds, another interval, other CAs, and a time without MTA-STS.
    let mut service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    (service.settings.entries, service.settings.refresh) = (1, Duration::from_secs(3600));
    service.ca = Authority::named("other CA");
    assert_eq!(service.result().await, "enforce 1 kept");
    service.settings.usage = StsUse::Off;
    assert_eq!(service.result().await, "off");
    service.settings.usage = StsUse::Enforce;
    service.host.answer(Answer::NoTls);
    service.dns.no_record();
    assert_eq!(service.result().await, "enforce 1 kept, no record");
    assert_eq!(service.host.connections(), 1);
}

#[tokio::test]
async fn policies_are_fetched_anew_daily_whatever_their_records_say() {
    // P10.
    let service = Service::new().await;
    assert_eq!(service.result().await, "enforce 1 fetched");
    service.host.answer(Answer::Say(served(&policy("testing"))));
    service.mta_sts().refresh_due().await;
    assert_eq!(service.host.connections(), 1);
    pass(86_400 * 11 / 10).await;
    service.dns.no_record();
    service.mta_sts().refresh_due().await;
    assert_eq!(service.host.connections(), 2);
    assert_eq!(service.result().await, "testing 1 kept, no record");
    // A week without the policy host: the kept one holds until its max_age.
    service.host.answer(Answer::NoTls);
    pass(604_740).await;
    service.mta_sts().refresh_due().await;
    assert_eq!(service.result().await, "testing 1 kept, no record");
    pass(60).await;
    assert_eq!(service.result().await, "absent: there is no record of MTA-STS");
}

#[tokio::test]
async fn no_policy_of_a_parent_and_none_in_mode_off() {
    // P11.
    let mut service = Service::new().await;
    let found = service.mta_sts().policy_for(&name("sub.example.test"), in_a_minute()).await;
    assert_eq!(in_words(&found), "absent: there is no record of MTA-STS");
    assert_eq!(*service.dns.asked.lock().unwrap(), ["_mta-sts.sub.example.test"]);
    service.settings.usage = StsUse::Off;
    assert_eq!(service.result().await, "off");
    service.mta_sts().refresh_due().await;
    assert_eq!((service.dns.asked.lock().unwrap().len(), service.host.connections()), (1, 0));
}

#[tokio::test]
async fn text_records_by_the_resolver() {
    // P1: the strings of one record are joined; aliases are followed, into unsigned zones too.
    let tree = Tree::new()
        .secure("example.test")
        .insecure("other.test")
        .record("signed.example.test", "TXT", "\"v=STS\" \"v1; id=1\"")
        .record("target.other.test", "TXT", "\"v=STSv1; id=2\"")
        .cname("alias.example.test", "target.other.test")
        .record("broken.example.test", "TXT", "\"x\"")
        .fault("broken.example.test", "TXT", Fault::BogusSignature);
    let lab = tree.start().await;
    let stub = Stub::new(&lab.settings()).unwrap();
    let joined = |lookup: &Lookup<RawTxt>| {
        lookup.answer.records().iter().map(|text| String::from_utf8(text.0.clone()).unwrap()).collect::<Vec<_>>()
    };
    let signed = stub.txt(&name("signed.example.test")).await.unwrap();
    assert_eq!((joined(&signed), signed.security()), (vec!["v=STSv1; id=1".to_owned()], Security::Secure));
    let alias = stub.txt(&name("alias.example.test")).await.unwrap();
    assert_eq!((joined(&alias), alias.security()), (vec!["v=STSv1; id=2".to_owned()], Security::Insecure));
    let absent = stub.txt(&name("none.example.test")).await.unwrap();
    assert_eq!((absent.answer.clone(), absent.security()), (DnsAnswer::NxDomain, Security::Secure));
    let failure = stub.txt(&name("broken.example.test")).await.unwrap_err();
    assert!(matches!(failure.reason, FailureReason::Bogus(_)) && failure.rtype == Rtype::TXT, "{failure}");
}
