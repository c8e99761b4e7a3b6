//! The answer of a policy host (RFC 8461 §3.3), and the reasons for which there is no policy in it.

use super::policy::StsPolicyError;
use crate::dns::{Failure, FailureReason};
use crate::excerpt::in_print;
use crate::scarce::Scarcity;
use crate::words::words;

/// Where a policy lies on its host (RFC 8461 §3.2).
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";

/// Why a policy was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum StsFetchError {
    /// The lookup of the policy host's addresses failed.
    #[error("{0}")]
    Dns(Failure),
    /// The policy host has no address, or none of the families in use.
    #[error("{0}")]
    #[strum(serialize = "dns")]
    NoAddress(String),
    /// Its addresses are none of a public host.
    #[error("{0}")]
    Reserved(String),
    /// No address accepts a connection.
    #[error("{0}")]
    Connect(String),
    /// There is no TLS session.
    #[error("{0}")]
    Tls(String),
    /// The certificate does not prove the host's name.
    #[error("{0}")]
    Certificate(String),
    /// The answer has another status than 200, or none.
    #[error("the policy host answers {0}, and only 200 is a policy")]
    Status(String),
    /// A redirect, which is never followed (RFC 8461 §3.3).
    #[error("the policy host answers {0}, a redirect, which is not followed")]
    Redirect(u16),
    /// The answer is of another media type, or compressed.
    #[error("the policy is served as {0}, not as text/plain")]
    #[strum(serialize = "type")]
    MediaType(String),
    /// The answer is larger than a policy may be.
    #[error("the answer is larger than a policy may be")]
    Size,
    /// The answer is cut short.
    #[error("{0}")]
    Truncated(String),
    /// There is no whole answer in time.
    #[error("there is no whole answer in time")]
    Timeout,
    /// The text is no policy.
    #[error("the text is no policy: {0}")]
    Syntax(#[from] StsPolicyError),
    /// The policy host was not asked, or not for long enough: as many others are asked as may be, or the mail has no more time.
    #[error("the fetch had no place, or no time was left for it")]
    Busy,
    /// The policy host was not asked: this host has no socket to ask it by.
    #[error("{0}")]
    Scarce(Scarcity),
}

words!(&StsFetchError);

impl StsFetchError {
    /// The words of metrics, with that of success first.
    pub const RESULTS: [&str; 15] = [
        "ok",
        "dns",
        "reserved",
        "connect",
        "tls",
        "certificate",
        "status",
        "redirect",
        "type",
        "size",
        "truncated",
        "timeout",
        "syntax",
        "busy",
        "scarce",
    ];

    /// Whether the cause is on this host, which has not asked the policy host or not for long enough. Nothing is known of the
    /// policy then. RFC 8461 §3.3 speaks of policies that cannot be fetched, and this one may well be fetchable.
    pub fn is_own(&self) -> bool {
        match self {
            Self::Busy | Self::Scarce(_) => true,
            // The configured servers may have an address, and are out of use.
            Self::Dns(failure) => failure.reason == FailureReason::DeniedByFallback,
            Self::NoAddress(_)
            | Self::Reserved(_)
            | Self::Connect(_)
            | Self::Tls(_)
            | Self::Certificate(_)
            | Self::Status(_)
            | Self::Redirect(_)
            | Self::MediaType(_)
            | Self::Size
            | Self::Truncated(_)
            | Self::Timeout
            | Self::Syntax(_) => false,
        }
    }
}

/// The head of a policy host's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyHead<'a> {
    /// The status code.
    pub status: u16,
    /// The Content-Type.
    pub content_type: Option<&'a str>,
    /// The Content-Encoding.
    pub content_encoding: Option<&'a str>,
}

impl PolicyHead<'_> {
    /// Judges whether a policy can follow.
    ///
    /// # Errors
    /// None can, for this reason.
    pub fn judge(self) -> Result<(), StsFetchError> {
        // RFC 8461 §3.3: only 200, and no redirect is followed.
        match self.status {
            200 => {}
            redirect @ 300..=399 => return Err(StsFetchError::Redirect(redirect)),
            status => return Err(StsFetchError::Status(status.to_string())),
        }
        // RFC 8461 §3.2. A strict reading keeps a page that a web host shows for any address from being a policy.
        let media_type = self.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("text/plain") {
            let shown = self.content_type.unwrap_or("nothing");
            return Err(StsFetchError::MediaType(in_print(shown, 80)));
        }
        match self.content_encoding {
            None => Ok(()),
            Some(coding) if coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity") => Ok(()),
            Some(coding) => Err(StsFetchError::MediaType(in_print(coding, 80))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_only_200_and_text_plain_can_be_a_policy() {
        // P3, P7.
        for (status, content_type, content_encoding, expected) in [
            (200, Some("text/plain"), None, "ok"),
            (200, Some("text/plain; charset=utf-8"), None, "ok"),
            (200, Some("Text/PLAIN ;x"), Some("identity"), "ok"),
            (200, Some("text/plain"), Some(""), "ok"),
            (200, None, None, "type"),
            (200, Some(""), None, "type"),
            (200, Some("text/html"), None, "type"),
            (200, Some("text/plainer"), None, "type"),
            (200, Some("text/html; text/plain"), None, "type"),
            (200, Some("text/plain, text/html"), None, "type"),
            (200, Some("application/octet-stream"), None, "type"),
            (200, Some("text/plain"), Some("gzip"), "type"),
            (200, Some("text/plain"), Some("identity, gzip"), "type"),
            (301, Some("text/plain"), None, "redirect"),
            (302, None, None, "redirect"),
            (304, None, None, "redirect"),
            (308, None, None, "redirect"),
            (201, Some("text/plain"), None, "status"),
            (203, Some("text/plain"), None, "status"),
            (204, None, None, "status"),
            (206, Some("text/plain"), None, "status"),
            (404, Some("text/plain"), None, "status"),
            (500, Some("text/plain"), None, "status"),
            (999, Some("text/plain"), None, "status"),
        ] {
            let judged = PolicyHead { status, content_type, content_encoding }.judge();
            let label = judged.as_ref().map_or_else(StsFetchError::as_str, |()| "ok");
            assert_eq!(label, expected, "{status} {content_type:?} {content_encoding:?}");
            assert!(StsFetchError::RESULTS.contains(&label));
        }
    }

    #[test]
    fn a_media_type_steers_no_terminal() {
        //
        for (content_type, content_encoding) in
            [("x\u{9b}2J\u{202e}\u{fc}", None), ("text/plain", Some("x\u{9b}2J\u{202e}\u{fc}"))]
        {
            let head = PolicyHead { status: 200, content_type: Some(content_type), content_encoding };
            assert_eq!(head.judge().unwrap_err().to_string(), "the policy is served as x?2J??, not as text/plain");
        }
    }
}
