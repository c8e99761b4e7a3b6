//! One request over a connection, and its answer.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, USER_AGENT};
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::version::VERSION;

/// The least buffer that the library works with.
const LEAST_BUFFER: usize = 8 * 1024;

/// The most that an answer may have. In all, with its framing and interim answers, it has at most four times that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Octets of the status line with all header fields.
    pub head_octets: usize,
    /// Header fields.
    pub head_fields: usize,
    /// Octets of the body, without its framing in chunks.
    pub body_octets: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The answer has more octets or header fields than are read.
    #[error("the answer is larger than the limit")]
    Size,
    /// The connection ended before the answer did.
    #[error("the answer is cut short ({0})")]
    Truncated(String),
    /// The octets are no answer of HTTP/1.
    #[error("the answer is no HTTP ({0})")]
    NotHttp(String),
}

/// The fields of an answer's head that decisions rest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpHead {
    /// The status code (RFC 9110 §15).
    pub status: u16,
    /// The Content-Type fields as they are; several are joined by a comma.
    pub content_type: Option<String>,
    /// The Content-Encoding fields likewise.
    pub content_encoding: Option<String>,
}

/// An answer whose head has come. The connection ends when this is dropped.
#[derive(Debug)]
pub struct HttpResponse {
    /// The head.
    pub head: HttpHead,
    body: Incoming,
    most: usize,
    _connection: AbortOnDropHandle<hyper::Result<()>>,
}

/// The content of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpContent {
    /// Its media type.
    pub content_type: &'static str,
    /// Its octets.
    pub octets: Bytes,
}

/// Asks for a path of a host over a connection to it.
///
/// # Errors
/// There is no answer, or its head is beyond the limits.
pub async fn get<S>(stream: S, host: &str, path: &str, limits: HttpLimits) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    exchange(stream, request(Request::get(path), host).body(Full::default()), limits).await
}

/// A path and the content that is sent to it.
#[derive(Debug, Clone)]
pub struct HttpPost<'a> {
    /// Path and query.
    pub path: &'a str,
    /// The content.
    pub content: HttpContent,
}

/// Sends content to a path of a host over a connection to it (RFC 9110 §9.3.3).
///
/// # Errors
/// As of [`get`].
pub async fn post<S>(stream: S, host: &str, post: HttpPost<'_>, limits: HttpLimits) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let HttpPost { path, content } = post;
    let request = request(Request::post(path), host).header(CONTENT_TYPE, content.content_type);
    exchange(stream, request.body(Full::new(content.octets)), limits).await
}

fn request(builder: Builder, host: &str) -> Builder {
    // RFC 9110 §12.5.3: without this field a server may compress the content.
    let builder = builder.header(ACCEPT_ENCODING, "identity");
    builder.header(HOST, host).header(USER_AGENT, format!("danelaw/{VERSION}"))
}

async fn exchange<S>(
    stream: S,
    request: hyper::http::Result<Request<Full<Bytes>>>,
    limits: HttpLimits,
) -> Result<HttpResponse, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(limits.head_fields).max_buf_size(limits.head_octets.max(LEAST_BUFFER));
    // Interim answers (RFC 9110 §15.2) and the framing of chunks count for no other limit.
    let most = u64::try_from(4 * (limits.head_octets + limits.body_octets)).unwrap_or(u64::MAX);
    let (read, write) = tokio::io::split(stream);
    let stream = tokio::io::join(read.take(most), write);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(unanswered)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = request.map_err(|error| HttpError::NotHttp(error.to_string()))?;
    let (head, body) = sender.send_request(request).await.map_err(unanswered)?.into_parts();
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if fields.sum::<usize>() > limits.head_octets {
        return Err(HttpError::Size);
    }
    let field = |name| joined(&head.headers, name);
    let (content_type, content_encoding) = (field(CONTENT_TYPE), field(CONTENT_ENCODING));
    let head = HttpHead { status: head.status.as_u16(), content_type, content_encoding };
    Ok(HttpResponse { head, body, most: limits.body_octets, _connection: connection })
}

impl HttpResponse {
    /// Reads the body.
    ///
    /// # Errors
    /// It has more octets than are read, or the connection ended before it did.
    pub async fn body(self) -> Result<Bytes, HttpError> {
        let body = Limited::new(self.body, self.most).collect().await;
        body.map(|collected| collected.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() { HttpError::Size } else { HttpError::Truncated(with_causes(&*error)) }
        })
    }
}

/// The values of a field, in their order.
fn joined(fields: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<_> = fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

fn unanswered(error: hyper::Error) -> HttpError {
    if error.is_parse_too_large() {
        HttpError::Size
    } else if error.is_parse() {
        HttpError::NotHttp(with_causes(&error))
    } else {
        HttpError::Truncated(with_causes(&error))
    }
}

/// An error and those below it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
