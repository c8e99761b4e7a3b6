//! A report by mail. It goes to the exchanges of the address as other mail does, and also where TLS fails (RFC 8460 §3).

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::sending::SentReport;
use crate::delivery::shared::Shared;
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::Waiver;
use crate::refusal::{Reason, Refusals, Stage};
use crate::requiretls::TagDemand;
use crate::rules::StsByRule;
use crate::smtp::address::{AddressError, ForwardPath, Mailbox, ReversePath, SmtpUtf8};
use crate::smtp::command::{Hello, Mail};
use crate::smtp::reply::{Class, Reply};
use crate::tlsrpt::event::Reporting;
use crate::tlsrpt::record::ReportMailbox;
use crate::tlsrpt::schedule::ReportTried;
use crate::trace::Trace;
use crate::upstream::verified::{MailCommand, Ready, Started, TransferError};
use crate::upstream::{Request, remaining};

/// A mail with its envelope.
pub(super) struct Posting {
    from: ReversePath,
    to: Mailbox,
    domain: Name,
    octets: Vec<u8>,
}

impl Posting {
    /// The mail with these octets.
    pub(super) fn new(contact: &str, to: &ReportMailbox, octets: Vec<u8>) -> Result<Self, AddressError> {
        let from = ReversePath::parse(&format!("<{contact}>"), SmtpUtf8::Absent)?;
        let ForwardPath::Mailbox(mailbox) = ForwardPath::parse(&format!("<{to}>"), SmtpUtf8::Absent)? else {
            return Err(AddressError::NoDomain);
        };
        Ok(Self { from, to: mailbox, domain: to.domain().clone(), octets })
    }

    /// Delivers it, or says why not. Its sessions are in no report themselves: two senders would report on each other's reports
    /// for ever (RFC 8460 §3).
    pub(super) async fn deliver<R: Resolver>(&self, shared: &Shared<R>) -> SentReport {
        let Shared { connector, rules, .. } = shared;
        let (level, rule) = rules.level(&self.domain, OffsetDateTime::now_utc().date());
        let hello = Hello::from(&connector.hostname);
        let trace = Trace::default();
        let request = Request {
            domain: &self.domain,
            next_hop: rule.and_then(|rule| rule.next_hop.as_ref()),
            hello: &hello,
            level,
            demand: TagDemand::None,
            sts: StsByRule::of(rule),
            until: Instant::now() + connector.timeouts.route,
            original_destination: None,
            reporting: Reporting::Off,
            trace: &trace,
        };
        let mut iteration = connector.iterate(&request, Waiver::TlsRequiredNo);
        loop {
            let ready = match iteration.next().await {
                Ok(ready) => ready,
                Err(refusals) => return SentReport::kept_from(&refusals),
            };
            let peer = ready.peer().clone();
            let reason = match self.give(ready, iteration.answer_by(), connector.timeouts.command).await {
                Ok(sent) => return sent,
                Err(reason) => reason,
            };
            match iteration.fail_over(&peer, reason) {
                Ok(()) => {}
                Err(Reason::Refused { reply, .. }) => return SentReport::answered(&reply),
                Err(reason) => return SentReport::failed(&reason),
            }
        }
    }

    /// Gives it to a remote, which has `limit` for each answer and all of them until then. An error is one before the message, so that
    /// another remote may be tried.
    async fn give(&self, mut ready: Ready, until: Instant, limit: Duration) -> Result<SentReport, Reason> {
        let commands = [MailCommand::Mail(Mail::new(self.from.clone())), MailCommand::Rcpt(self.to.clone())];
        let mut group = ready.group(commands);
        let mail = group.answer(remaining(until, limit)).await?;
        let rcpt = group.answer(remaining(until, limit)).await?;
        let no = |(_, reply): &(Stage, Reply)| reply.code().is_refusal();
        if let Some((stage, reply)) = [(Stage::Mail, mail), (Stage::Rcpt, rcpt)].into_iter().find(no) {
            ready.release();
            return Err(Reason::Refused { stage, reply });
        }
        let mut body = match ready.data().await? {
            Started::Body(body) => body,
            Started::Refused(ready, reply) => {
                ready.release();
                return Err(Reason::Refused { stage: Stage::Data, reply });
            }
        };
        if let Err(error) = body.send(&self.octets).await {
            return Ok(cut(error));
        }
        body.ends();
        Ok(match body.finish().await {
            Ok((reply, ready)) => {
                ready.release();
                SentReport::answered(&reply)
            }
            Err(error) => cut(error),
        })
    }
}

/// The result of a message whose transfer broke off. If the receiver has all of it, the equal id marks the second copy.
fn cut(error: TransferError) -> SentReport {
    match error {
        TransferError::Answered(reply) => SentReport::answered(&reply),
        TransferError::Failed(reason) => SentReport::failed(&reason),
    }
}

impl SentReport {
    /// No remote took the message. A verdict of our own is no fact about the receiver: only its own reply is a refusal.
    fn kept_from(refusals: &Refusals) -> Self {
        let verdict = refusals.verdict();
        let is_reply =
            |reason: &Reason| matches!(reason, Reason::Refused { reply, .. } if reply.class() == Class::Permanent);
        match refusals.iter().any(|refusal| is_reply(&refusal.reason)) {
            true => Self::answered(&verdict),
            false => Self::failed(&verdict),
        }
    }

    fn answered(reply: &Reply) -> Self {
        let tried = match reply.class() {
            Class::Success => ReportTried::Accepted,
            Class::Permanent => ReportTried::Refused,
            Class::Transient | Class::Intermediate => ReportTried::Failed,
        };
        Self { tried, text: reply.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::examples::refusals;
    use crate::refusal::{Peer, Refusal};
    use crate::smtp::reply::Code;

    #[test]
    fn only_the_reply_of_a_remote_is_a_refusal() {
        // T37, T39: no domain, no address, a reserved address and a loop are verdicts of our own, and final ones.
        let finals =
            refusals().unwrap().into_iter().filter(|refusal| refusal.reason.view().code.is_permanent()).count();
        assert!(finals > 3, "{finals}");
        let peer =
            || Peer { exchange: Name::parse("mx.example.com").unwrap(), address: [192, 0, 2, 1].into(), port: None };
        let mail = |text: &str| {
            let reply = Reply::plain(Code::MAILBOX_UNAVAILABLE, text);
            Refusal::peer(&peer(), Reason::Refused { stage: Stage::Mail, reply })
        };
        for refusal in refusals().unwrap() {
            let text = refusal.to_string();
            let mut all = Refusals::from(refusal);
            assert_eq!(SentReport::kept_from(&all).tried, ReportTried::Failed, "{text}");
            // Where the verdict is for now, another host may take it.
            all.push(mail("no such user"));
            let expected = match all.verdict().class() {
                Class::Permanent => ReportTried::Refused,
                _ => ReportTried::Failed,
            };
            assert_eq!(SentReport::kept_from(&all).tried, expected, "{text}");
        }
        assert_eq!(SentReport::kept_from(&mail("no such user").into()).tried, ReportTried::Refused);
    }
}
