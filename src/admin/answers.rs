//! The answers of the admin port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Uri};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::client;
use super::domain::DomainView;
use super::guest::{self, AskedAt, Misdirected};
use super::hosts;
use super::months::{self, NoMonthReport};
use super::page::{self, PageQuestion};
use super::readiness::{Readiness, readiness, rules_and_anchors};
use super::reports::ReportQuestion;
use super::response::{self, json, text};
use super::status::StatusView;
use crate::dispatch::Dispatch;
use crate::dns::selftest::{Health, ServerState};
use crate::dns::stub::Stub;
use crate::name::Name;
use crate::policy::Mode;
use crate::report::Reporter;
use crate::report::metrics::admin::{AdminPart, AdminResult};
use crate::report::metrics::{Format, Moment};
use crate::server::OpenSessions;
use crate::session::Shared;
use crate::version;
use crate::watch::Watch;
use crate::watch::hosts::SettledHosts;

const LIVE: &str = "/livez";
const METRICS: &str = "/metrics";
const EXPLAIN: &str = "/explain/";
const PATHS: &str = "the paths are /livez, /readyz, /metrics, /status/, /status/DOMAIN, /explain/, /explain/last, /explain/ID, /mta-sts/DOMAIN, /hosts/NAME, /report/MONTH, /tlsrpt/counts/DAY, /tlsrpt/preview/, /watch/, /watch/DOMAIN\n";

/// The answer to another machine that asks about mail.
const NOT_THERE: &str = "questions about mail are answered on this machine alone, whatever admin.allow says: use `ssh -L` or \
    `kubectl port-forward`\n";
/// The answer to a request that the page of another site makes.
const OF_ANOTHER_SITE: &str =
    "questions about mail are not answered to the page of another site: open this address itself\n";
/// The answer where no attempt can be explained.
const NONE_REMEMBERED: &str = "no attempt that did not end in a delivery is remembered: there was none since danelaw has started, or \
    admin.remember is 0\n";
/// The answer about a domain without mail and without a look of the watch.
const NO_MAIL: &str =
    "no mail to this domain since danelaw has started, or not for a long time, and no look of the watch at it\n";
/// The answer about a policy that is not kept.
const NO_POLICY: &str = "no MTA-STS policy of this domain is kept and in force: it has none, or no mail has asked for it, or \
    mta_sts.mode is \"off\"\n";

/// The answer to a request that a web page of another site may have sent.
const NOT_HERE: &str = "questions about mail are answered for the Host localhost alone: ask on this machine, by `danelaw status`, `danelaw explain` \
    or http://localhost, or through `ssh -L` or `kubectl port-forward`\n";

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

/// The answer to one request, which is counted.
pub(super) async fn answer(request: &Parts, at: AskedAt, state: &AdminState) -> Response<Full<Bytes>> {
    let question = PageQuestion::of(&request.uri).filter(|question| state.shows(question, request));
    let response = answered(request, at, state, question.as_ref()).await;
    state.reporter().metrics().asked(part(request.uri.path(), question.as_ref()), result(response.status()));
    response
}

async fn answered(
    request: &Parts,
    at: AskedAt,
    state: &AdminState,
    question: Option<&PageQuestion>,
) -> Response<Full<Bytes>> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri.path() {
        LIVE => text(StatusCode::OK, "alive\n"),
        client::READY => {
            let Readiness { ready, text: why } = state.readiness();
            text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, why)
        }
        METRICS => {
            let accept = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            metrics(state, Format::accepted(accept))
        }
        path => match guest::judge(at, &request.headers) {
            Ok(()) => match question {
                Some(question) => page::answer(state, question),
                None => about_mail(path, request, state).await,
            },
            Err(Misdirected::Elsewhere) => text(StatusCode::FORBIDDEN, NOT_THERE),
            Err(Misdirected::Host) => text(StatusCode::MISDIRECTED_REQUEST, NOT_HERE),
            Err(Misdirected::OtherSite) => text(StatusCode::FORBIDDEN, OF_ANOTHER_SITE),
        },
    }
}

/// The part that a request is for, for metrics.
fn part(path: &str, question: Option<&PageQuestion>) -> AdminPart {
    match (path, question) {
        (LIVE | client::READY, _) => AdminPart::Health,
        (METRICS, _) => AdminPart::Metrics,
        (_, Some(_)) => AdminPart::Page,
        (path, None) if path.starts_with(EXPLAIN) => AdminPart::Explain,
        (_, None) => AdminPart::Other,
    }
}

fn result(status: StatusCode) -> AdminResult {
    match status {
        StatusCode::NOT_FOUND => AdminResult::NotFound,
        status if status.is_success() => AdminResult::Ok,
        status if status.is_client_error() => AdminResult::Refused,
        _ => AdminResult::Unavailable,
    }
}

/// The answer to a question about mail.
async fn about_mail(path: &str, request: &Parts, state: &AdminState) -> Response<Full<Bytes>> {
    let behind = |prefix: &str| path.strip_prefix(prefix);
    if path == "/" && state.page {
        return text(StatusCode::OK, StatusView::of(state).to_string());
    }
    if let Some(month) = behind(client::MONTH) {
        return match months::answer(&state.shared(), month).await {
            Ok(written) => json(written),
            Err(NoMonthReport { status, why }) => text(status, why),
        };
    }

    if let Some(domain) = behind(client::WATCH) {
        return found(watch(state, domain));
    }
    if let Some(name) = behind(client::HOSTS) {
        return found(hosts::host(state, name));
    }
    match (behind(EXPLAIN), behind(client::POLICY), behind(client::STATUS)) {
        (Some(""), ..) => remembered(state),
        (Some(id), ..) => found(explain(state, id)),
        (_, Some(given), _) => found(domain(given).and_then(|name| policy(state, &name))),
        (.., Some("")) => text(StatusCode::OK, StatusView::of(state).to_string()),
        (.., Some(given)) => found(domain(given).and_then(|name| domain_status(state, &name))),
        (None, None, None) => match ReportQuestion::of(&request.uri) {
            Some(question) => reports(state, &question).await,
            None => nothing_at(state, &request.uri),
        },
    }
}

/// The answer where there is none at a path: why, and the paths that there are.
fn nothing_at(state: &AdminState, uri: &Uri) -> Response<Full<Bytes>> {
    let why = match uri.path() {
        _ if PageQuestion::of(uri).is_some() && !state.page => {
            "the pages for browsers are off: set admin.page = true, and restart danelaw"
        }
        path if path.starts_with(client::COUNTS) => {
            "give a day as in /tlsrpt/counts/2026-11-28, and no parameter but after=DOMAIN"
        }
        path if path.starts_with(client::PREVIEW) => "give a domain or none, and no parameter but after=DOMAIN",
        path if path.starts_with("/domains") => {
            "give a domain as in /domains/example.com, or no parameters but state=failing or state=all, and after=DOMAIN"
        }
        _ => "nothing is at this path",
    };
    text(StatusCode::NOT_FOUND, format!("{why}\n{PATHS}"))
}

/// A domain in a path.
///
/// # Errors
/// The answer that it is none.
pub(super) fn domain(given: &str) -> Result<Name, String> {
    Name::parse(given).map_err(|error| format!("{given:?} is no domain: {error}\n"))
}

/// The answer, or that there is none for this reason.
fn found(answer: Result<Response<Full<Bytes>>, String>) -> Response<Full<Bytes>> {
    answer.unwrap_or_else(|why| text(StatusCode::NOT_FOUND, why))
}

/// The knowledge of a domain.
fn domain_status(state: &AdminState, name: &Name) -> Result<Response<Full<Bytes>>, String> {
    let view = Some(DomainView::of(state, name)).filter(DomainView::is_known);
    view.map(|view| text(StatusCode::OK, view.to_string())).ok_or_else(|| NO_MAIL.to_owned())
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
        negative_anchor_answers: shared.connector.dns.negative_anchor_answers(),
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
    response::of_kind(format.content_type(), shared.reporter.metrics().written(moment, format))
}

/// The attempts that can be explained.
fn remembered(state: &AdminState) -> Response<Full<Bytes>> {
    match state.shared().reporter.remembered().as_slice() {
        [] => text(StatusCode::NOT_FOUND, NONE_REMEMBERED),
        lines => text(StatusCode::OK, lines.join("\n") + "\n"),
    }
}

/// The account of one attempt; "last" is no id, since an id has hexadecimal digits alone.
fn explain(state: &AdminState, id: &str) -> Result<Response<Full<Bytes>>, String> {
    let reporter = &state.shared().reporter;
    let told = match id {
        "last" => reporter.explain_last().ok_or(NONE_REMEMBERED),
        id if !id.bytes().all(|octet| octet.is_ascii_hexdigit()) => Err("an id is like 5F0C63B1A7D2\n"),
        id => reporter.explain(id).ok_or(
            "no attempt with this id is remembered: it ended in a delivery, danelaw has started since, or others have \
             followed (admin.remember); its log event may still be there\n",
        ),
    };
    told.map(|told| text(StatusCode::OK, told)).map_err(str::to_owned)
}

/// The MTA-STS policy that is kept for a domain.
fn policy(state: &AdminState, domain: &Name) -> Result<Response<Full<Bytes>>, String> {
    let kept = state.shared().connector.mta_sts.policies().running(domain);
    let written = kept.and_then(|kept| serde_json::to_string(&kept).ok());
    written.map(json).ok_or_else(|| NO_POLICY.to_owned())
}

/// The findings of the watch, or those about one domain.
fn watch(state: &AdminState, given: &str) -> Result<Response<Full<Bytes>>, String> {
    let watch =
        state.watch.as_ref().ok_or("this danelaw does not watch: set watch.every, as in \"24h\", and restart it\n")?;
    let view = match given {
        "" => Some(watch.view()),
        given => watch.view_of(&domain(given)?),
    };
    let written = view.and_then(|view| serde_json::to_string(&view).ok());
    written.map(json).ok_or_else(|| "this domain is not watched, or no look at it has ended yet\n".to_owned())
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

    pub(super) fn readiness(&self) -> Readiness {
        let shared = self.shared();
        let health = shared.connector.dns.health();
        let health = health.borrow();
        let listed = rules_and_anchors(&shared.rules, shared.connector.dns.negative_trust_anchors());
        readiness(*self.phase.borrow(), shared.connector.mode, &health, listed)
    }
}
