//! The answers of the admin port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::client;
use super::guest::{self, AskedAt, Misdirected};
use super::hosts;
use super::months::{self, NoMonthReport};
use super::page::{self, DomainsShown, PageQuestion};
use super::reports::ReportQuestion;
use super::status::{self, StatusView, StoreState};
use crate::dispatch::Dispatch;
use crate::dns::NegativeTrustAnchors;
use crate::dns::selftest::{FALLEN_BACK, Health, ServerHealth, ServerState};
use crate::dns::stub::Stub;
use crate::last_day::LastDay;
use crate::name::Name;
use crate::policy::Mode;
use crate::report::Reporter;
use crate::report::metrics::{Format, Moment};
use crate::rules::Rules;
use crate::server::OpenSessions;
use crate::session::Shared;
use crate::version;
use crate::watch::Watch;
use crate::watch::hosts::SettledHosts;

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "danelaw: /livez, /readyz, /metrics, /status/, /status/DOMAIN, /explain/, /explain/last, /explain/ID, /mta-sts/DOMAIN, /hosts/NAME, /report/MONTH, /tlsrpt/counts/DAY, /tlsrpt/preview/, /watch/, /watch/DOMAIN\n";

/// The answer to another machine that asks for a page.
const NOT_THERE: &str = "the page is for browsers on this machine alone, whatever admin.allow says: use `ssh -L` or `kubectl port-forward`\n";
/// The answer to a request that the page of another site makes.
const OF_ANOTHER_SITE: &str =
    "questions about mail are not answered to the page of another site: open this address itself\n";
/// The answer where no attempt can be explained.
const NONE_REMEMBERED: &str = "no attempt that did not end in a delivery is remembered (admin.remember)\n";

/// The answer to a request that a web page of another site may have sent.
const NOT_HERE: &str = "questions about mail are answered for the Host localhost alone: ask on this machine, by `danelaw status`, `danelaw explain` \
    or http://localhost, or through `ssh -L` or `kubectl port-forward`\n";

/// The header fields of an answer for a browser.
const PAGE_FIELDS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The line that each status answer repeats in observe mode.
const OBSERVING: &str = "mode: observe: nothing is enforced but for listeners with a level and mail that asks for REQUIRETLS, mail goes unverified or in cleartext where it has to";

/// How far a danelaw is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The ports are not being served yet.
    Starting,
    /// They are.
    Serving,
    /// No new mail is taken, and transactions under way may end.
    Draining,
}

/// The facts that the admin port reports.
pub struct AdminState {
    /// How far this danelaw is.
    pub phase: watch::Receiver<Phase>,
    /// The parts that sessions share.
    pub shared: watch::Receiver<Arc<Shared<Stub>>>,
    /// The sessions that are open.
    pub open_sessions: Arc<OpenSessions>,
    /// Lines of the log that were dropped.
    pub log_dropped: Arc<AtomicU64>,
    /// Our own TLS reports, if danelaw makes them.
    pub reports: Option<Arc<Dispatch<Stub>>>,
    /// The watch, if there is one.
    pub watch: Option<Arc<Watch>>,
    /// The memory of hosts, if there is one.
    pub hosts: Option<Arc<SettledHosts>>,
    /// Whether browsers get a page.
    pub page: bool,
}

/// Whether mail that comes now has a chance, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Readiness {
    ready: bool,
    /// A line for each thing that was looked at.
    text: String,
}

/// The answer to one request.
pub(super) async fn answer(request: &Parts, at: AskedAt, state: &AdminState) -> Response<Full<Bytes>> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri.path() {
        "/livez" => text(StatusCode::OK, "alive\n"),
        client::READY => {
            let Readiness { ready, text: why } = state.readiness();
            text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, why)
        }
        "/metrics" => {
            let accept = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            metrics(state, Format::accepted(accept))
        }
        path => match guest::judge(at, &request.headers) {
            Ok(()) => match PageQuestion::of(&request.uri).filter(|question| state.shows(question, request)) {
                Some(question) if at.is_here() => state.page_of(&question),
                Some(_) => text(StatusCode::FORBIDDEN, NOT_THERE),
                None => about_mail(path, request, state).await,
            },
            Err(Misdirected::Host) => text(StatusCode::MISDIRECTED_REQUEST, NOT_HERE),
            Err(Misdirected::OtherSite) => text(StatusCode::FORBIDDEN, OF_ANOTHER_SITE),
        },
    }
}

/// The answer to a question about mail.
async fn about_mail(path: &str, request: &Parts, state: &AdminState) -> Response<Full<Bytes>> {
    let behind = |prefix: &str| path.strip_prefix(prefix);
    if path == "/" && state.page {
        return text(StatusCode::OK, state.status().to_string());
    }
    if let Some(month) = behind(client::MONTH) {
        return match months::answer(&state.shared(), month).await {
            Ok(written) => json(written),
            Err(NoMonthReport { status, why }) => text(status, why),
        };
    }

    if let Some(domain) = behind(client::WATCH) {
        return watch(state, domain);
    }
    if let Some(name) = behind(client::HOSTS) {
        return hosts::host(state, name);
    }
    match (behind("/explain/"), behind(client::POLICY), behind(client::STATUS)) {
        (Some(""), ..) => remembered(state),
        (Some(id), ..) => explain(state, id),
        (_, Some(domain), _) => policy(state, domain),
        (.., Some("")) => text(StatusCode::OK, state.status().to_string()),
        (.., Some(domain)) => domain_status(state, domain),
        (None, None, None) => match ReportQuestion::of(&request.uri) {
            Some(question) => reports(state, &question).await,
            None => text(StatusCode::NOT_FOUND, PATHS),
        },
    }
}

/// The last mail to a domain.
fn domain_status(state: &AdminState, domain: &str) -> Response<Full<Bytes>> {
    let shared = state.shared();
    let found = Name::parse(domain).ok().and_then(|name| {
        let found = shared.reporter.recent()?.domain(&name)?;
        Some(status::of_domain(&name, &found, OffsetDateTime::now_utc()))
    });
    match found {
        Some(found) => text(StatusCode::OK, found),
        None => {
            text(StatusCode::NOT_FOUND, "no mail to this domain since danelaw has started, or not for a long time\n")
        }
    }
}

/// Whether danelaw's own resolver serves, and whether each configured one passes the self-test.
fn resolver_states(health: &Health) -> (bool, Vec<bool>) {
    (health.falls_back(), health.servers.iter().map(|server| server.state == ServerState::Good).collect())
}

fn metrics(state: &AdminState, format: Format) -> Response<Full<Bytes>> {
    let (shared, today) = (state.shared(), OffsetDateTime::now_utc().date());
    let ready = state.readiness().ready;
    let (fallen_back, resolvers) = resolver_states(&shared.connector.dns.health().borrow());
    let moment = Moment {
        sessions: state.open_sessions.count(),
        max_sessions: shared.max_sessions,
        waiting: shared.connector.dialer.pool.waiting(),
        fallen_back,
        resolvers,
        memory: shared.connector.dns.questions(),
        excepted: shared.connector.dns.excepted(),
        mta_sts: shared.connector.mta_sts.policies().figures(),
        store: shared.journal.store().figures(),
        watch: state.watch.as_ref().map(|watch| watch.figures()),
        hosts: state.hosts.as_ref().map(|hosts| hosts.figures()),
        ready,
        observing: shared.connector.mode == Mode::Observe,
        rules_ending: shared.rules.ending(today).count(),
        rules_ended: shared.rules.ended(today).count(),
        log_dropped: state.log_dropped.load(Relaxed),
        build: vec![("version", version::VERSION), ("commit", version::COMMIT), ("rustc", version::RUSTC)],
    };
    let mut response = text(StatusCode::OK, shared.reporter.metrics().written(moment, format));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// The attempts that can be explained.
fn remembered(state: &AdminState) -> Response<Full<Bytes>> {
    match state.shared().reporter.remembered().as_slice() {
        [] => text(StatusCode::NOT_FOUND, NONE_REMEMBERED),
        lines => text(StatusCode::OK, lines.join("\n") + "\n"),
    }
}

/// The account of one attempt; "last" is no id, since an id has hexadecimal digits alone.
fn explain(state: &AdminState, id: &str) -> Response<Full<Bytes>> {
    let reporter = &state.shared().reporter;
    let is_last = id == "last";
    match if is_last { reporter.explain_last() } else { reporter.explain(id) } {
        Some(told) => text(StatusCode::OK, told),
        None if is_last => text(StatusCode::NOT_FOUND, NONE_REMEMBERED),
        None => text(
            StatusCode::NOT_FOUND,
            "no attempt with this id is remembered: it ended in a delivery, danelaw has started since, or others have \
             followed (admin.remember); its log event may still be there\n",
        ),
    }
}

/// The MTA-STS policy that is kept for a domain.
fn policy(state: &AdminState, domain: &str) -> Response<Full<Bytes>> {
    let kept = |domain: Name| state.shared().connector.mta_sts.policies().running(&domain);
    let written = Name::parse(domain).ok().and_then(kept).and_then(|kept| serde_json::to_string(&kept).ok());
    match written {
        Some(written) => json(written),
        None => text(StatusCode::NOT_FOUND, "no MTA-STS policy of this domain is kept and in force\n"),
    }
}

/// The findings of the watch, or those about one domain.
fn watch(state: &AdminState, domain: &str) -> Response<Full<Bytes>> {
    let Some(watch) = &state.watch else {
        return text(
            StatusCode::NOT_FOUND,
            "this danelaw does not watch: set watch.every, as in \"24h\", and restart it\n",
        );
    };
    let view = match Name::parse(domain) {
        _ if domain.is_empty() => Some(watch.view()),
        Ok(name) => watch.view_of(&name),
        Err(_) => None,
    };
    match view.and_then(|view| serde_json::to_string(&view).ok()) {
        Some(written) => json(written),
        None => text(StatusCode::NOT_FOUND, "this domain is not watched, or no look at it has ended yet\n"),
    }
}

/// A page about TLS reports.
async fn reports(state: &AdminState, question: &ReportQuestion) -> Response<Full<Bytes>> {
    match &state.reports {
        Some(dispatch) => match question.answer(dispatch).await {
            Ok(written) => json(written),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}{error}\n", client::STORE_UNREADABLE)),
        },
        None => text(StatusCode::NOT_FOUND, "this danelaw does not run with tlsrpt.mode = \"send\"\n"),
    }
}

/// An answer for a browser. It loads the style sheet of this port alone, and no other site may show or read it.
fn for_browser(kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, body);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in PAGE_FIELDS {
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

pub(super) fn json(written: String) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, written);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl AdminState {
    /// Where admin's own troubles are told.
    pub(super) fn reporter(&self) -> Arc<Reporter> {
        Arc::clone(&self.shared.borrow().reporter)
    }

    pub(super) fn shared(&self) -> Arc<Shared<Stub>> {
        Arc::clone(&self.shared.borrow())
    }

    /// Whether this question has its answer as a page. A program that does not ask for HTML gets the text, where there is one.
    fn shows(&self, question: &PageQuestion, request: &Parts) -> bool {
        let accept = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has_text = matches!(question, PageQuestion::Overview | PageQuestion::Attempts | PageQuestion::Account(_));
        self.page && (!has_text || accept.contains("text/html"))
    }

    fn page_of(&self, question: &PageQuestion) -> Response<Full<Bytes>> {
        let (shared, now) = (self.shared(), OffsetDateTime::now_utc());
        let (reporter, recent) = (&shared.reporter, shared.reporter.recent());
        let written = match question {
            PageQuestion::Style => return for_browser("text/css; charset=utf-8", page::STYLE),
            PageQuestion::Overview => page::overview(&self.status()),
            PageQuestion::Domains(shown, after) => {
                let listed = recent.map(|recent| match shown {
                    DomainsShown::Failing => recent.failing(after.as_ref(), page::ROWS),
                    DomainsShown::All => recent.all(after.as_ref(), page::ROWS),
                });
                page::domains(*shown, &listed.unwrap_or_default(), now)
            }
            PageQuestion::Domain(name) => {
                page::domain(name, recent.and_then(|recent| recent.domain(name)).as_ref(), now)
            }
            PageQuestion::Reasons => {
                let seen = recent.map(|recent| recent.summary(now, 0).reasons).unwrap_or_default();
                page::reasons(&seen, now)
            }
            PageQuestion::Attempts => page::attempts(&reporter.remembered()),
            PageQuestion::Findings => page::findings(self.watch.as_ref().map(|watch| watch.view()).as_ref(), now),
            PageQuestion::Account(id) => page::account(id, reporter.explain(id).as_deref()),
        };
        for_browser("text/html; charset=utf-8", written)
    }

    fn status(&self) -> StatusView {
        let (shared, now) = (self.shared(), OffsetDateTime::now_utc());
        let ending = shared.rules.ending(now.date());
        StatusView {
            now,
            readiness: self.readiness().text,
            sessions: [self.open_sessions.count(), shared.max_sessions],
            store: if shared.journal.store().figures().is_up { StoreState::Up } else { StoreState::Down },
            recent: shared.reporter.recent().map(|recent| recent.summary(now, status::MOST)),
            ending: ending.filter_map(|rule| Some((rule.domains.to_string(), LastDay(rule.until?)))).collect(),
        }
    }

    fn readiness(&self) -> Readiness {
        let shared = self.shared();
        let health = shared.connector.dns.health();
        let health = health.borrow();
        let exceptions = exceptions(&shared.rules, shared.connector.dns.negative_trust_anchors());
        readiness(*self.phase.borrow(), shared.connector.mode, &health, exceptions)
    }
}

/// A line for each rule that has ended and for each negative trust anchor. They are no reason to be taken out of service: the mail
/// of the domain of a rule goes by the next rule, or by the default.
fn exceptions(rules: &Rules, negative: &NegativeTrustAnchors) -> Vec<String> {
    let today = OffsetDateTime::now_utc().date();
    let rules = rules.ended(today).map(|rule| format!("rule for {}: has ended, and is left out", rule.domains));
    let negative = negative.0.iter().map(|anchor| match anchor.until.is_over(today) {
        true => format!("negative trust anchor for {}: has ended, and is left out", anchor.zone),
        false => {
            format!("negative trust anchor for {}: nothing below it is validated until {}", anchor.zone, anchor.until)
        }
    });
    rules.chain(negative).collect()
}

fn readiness(phase: Phase, mode: Mode, health: &Health, exceptions: Vec<String>) -> Readiness {
    let mut lines = Vec::new();
    match mode {
        Mode::Enforce => {}
        Mode::Observe => lines.push(OBSERVING.to_owned()),
    }
    let serving = match phase {
        Phase::Starting => {
            lines.push("listeners: not open yet".to_owned());
            false
        }
        Phase::Serving => {
            lines.push("listeners: open".to_owned());
            true
        }
        Phase::Draining => {
            lines.push("listeners: closed, danelaw is stopping".to_owned());
            false
        }
    };
    lines.extend(resolvers(health));
    lines.extend(exceptions);
    let ready = serving && health.resolves();
    lines.insert(0, if ready { "ready" } else { "not ready" }.to_owned());
    Readiness { ready, text: lines.join("\n") + "\n" }
}

/// A line for each resolver, for the fallback, and for the state of all.
fn resolvers(health: &Health) -> Vec<String> {
    let line = |server: &ServerHealth| {
        let how = match &server.state {
            ServerState::Untested => "not tested yet".to_owned(),
            ServerState::Good => match &server.no_tcp {
                None => "passes the self-test".to_owned(),
                Some(why) => format!("passes the self-test, but not over TCP: {why}"),
            },
            ServerState::Failed(why) => format!("fails the self-test: {why}"),
        };
        format!("resolver {}: {how}", server.server)
    };
    let mut lines: Vec<String> = health.servers.iter().map(line).collect();
    if health.falls_back() {
        lines.push(FALLEN_BACK.to_owned());
    }
    if let Some(ServerState::Failed(why)) = health.fallback.as_ref().map(|fallback| &fallback.state) {
        lines.push(format!("fallback: fails the self-test: {why}"));
    }
    if !health.resolves() {
        lines.push("no resolver passes the self-test: all mail is deferred".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Date;

    use crate::dns::selftest::SelfTestFailure;
    use crate::dns::server::NameServer;
    use crate::dns::{FailureReason, NegativeTrustAnchor};
    use crate::policy::Level;
    use crate::rules::Rule;

    #[test]
    fn ready_means_able_to_deliver() {
        let health = |states: &[ServerState]| Health {
            servers: states
                .iter()
                .zip(["192.0.2.1", "192.0.2.2"])
                .map(|(state, server)| ServerHealth {
                    server: server.parse().unwrap(),
                    state: state.clone(),
                    no_tcp: None,
                })
                .collect(),
            fallback: None,
        };
        let (good, ailing) = (ServerState::Good, ServerState::Failed(SelfTestFailure::StripsDnssec));
        for (phase, states, ready, says) in [
            (Phase::Serving, vec![good.clone()], true, "resolver 192.0.2.1:53: passes the self-test"),
            // One that passes is enough; the other is named.
            (
                Phase::Serving,
                vec![ailing.clone(), good.clone()],
                true,
                "resolver 192.0.2.1:53: fails the self-test: strips DNSSEC records",
            ),
            (Phase::Serving, vec![ailing.clone()], false, "no resolver passes the self-test: all mail is deferred"),
            (Phase::Serving, vec![ServerState::Untested], false, "resolver 192.0.2.1:53: not tested yet"),
            (Phase::Starting, vec![good.clone()], false, "listeners: not open yet"),
            (Phase::Draining, vec![good.clone()], false, "listeners: closed, danelaw is stopping"),
        ] {
            let readiness = readiness(phase, Mode::Enforce, &health(&states), Vec::new());
            assert_eq!(readiness.ready, ready, "{phase:?} {states:?}");
            assert!(readiness.text.lines().any(|line| line == says), "{says} in {}", readiness.text);
            assert_eq!(readiness.text.lines().next(), Some(if ready { "ready" } else { "not ready" }));
            assert!(!readiness.text.contains(OBSERVING));
        }
        let own = |state| Some(ServerHealth { server: NameServer::RECURSION, state, no_tcp: None });
        let no_root =
            SelfTestFailure::NoRoot(FailureReason::Network("cannot reach any root server on port 53".to_owned()));
        for (state, fallback, ready, says) in [
            (ailing.clone(), own(good.clone()), true, FALLEN_BACK),
            (
                ailing.clone(),
                own(ServerState::Untested),
                false,
                "no resolver passes the self-test: all mail is deferred",
            ),
            (
                ailing.clone(),
                own(ServerState::Failed(no_root)),
                false,
                "fallback: fails the self-test: the name server could not be reached (cannot reach any root server on port 53)",
            ),
        ] {
            let health = Health { fallback, ..health(&[state]) };
            let readiness = readiness(Phase::Serving, Mode::Enforce, &health, Vec::new());
            assert_eq!(readiness.ready, ready, "{says}");
            assert!(readiness.text.lines().any(|line| line == says), "{says} in {}", readiness.text);
        }
        let mut without_tcp = health(&[ServerState::Good]);
        without_tcp.servers[0].no_tcp = Some(FailureReason::Timeout);
        let readiness_without_tcp = readiness(Phase::Serving, Mode::Enforce, &without_tcp, Vec::new());
        assert!(readiness_without_tcp.ready, "it serves all mail but that with large answers");
        let says = "resolver 192.0.2.1:53: passes the self-test, but not over TCP: no answer within the time limit";
        assert!(readiness_without_tcp.text.lines().any(|line| line == says), "{}", readiness_without_tcp.text);
        let observing = readiness(Phase::Serving, Mode::Observe, &health(&[ServerState::Good]), Vec::new());
        assert!(observing.ready && observing.text.contains(OBSERVING));
        let (domains, level, past) = ("a.test".parse().unwrap(), Level::Encrypt, Date::MIN);
        let rule = Rule {
            domains,
            level,
            next_hop: None,
            sts: crate::rules::StsByRule::Heeded,
            reason: None,
            until: Some(past),
        };
        let rules = Rules::new(Level::Encrypt, vec![rule]);
        let negative = [("b.test", past), ("c.test", Date::MAX)].map(|(zone, until)| NegativeTrustAnchor {
            zone: zone.parse().unwrap(),
            reason: "x".to_owned(),
            until: LastDay(until),
        });
        let exceptions = exceptions(&rules, &NegativeTrustAnchors(negative.into()));
        let readiness = readiness(Phase::Serving, Mode::Enforce, &health(&[ServerState::Good]), exceptions);
        let lines = "\nrule for a.test: has ended, and is left out\n\
                     negative trust anchor for b.test: has ended, and is left out\n\
                     negative trust anchor for c.test: nothing below it is validated until 9999-12-31\n";
        assert!(readiness.ready && readiness.text.ends_with(lines), "{}", readiness.text);
    }
}
