//! The account of one attempt to deliver, kept while it goes on and told exactly once, whatever ends it.

use std::sync::Arc;
use std::time::Instant;

use crate::name::Name;
use crate::policy::Mode;
use crate::refusal::Refusals;
use crate::report::{Outcome, Remote, Reporter, Verdict, Would};
use crate::rules::Exception;
use crate::smtp::reply::Reply;
use crate::trace::{Trace, What};
use crate::upstream::dialled::Dialled;
use crate::upstream::ready::Ready;
use crate::wire::WireError;

/// An attempt that goes on. Dropped without an end, because the client ended the transaction or went away or the task
/// was cut, it is told as aborted; or as refused, if the remote had refused every recipient.
#[derive(Debug)]
pub(super) struct Attempt {
    // It goes from hand to hand, and every future on the way has room for it.
    outcome: Box<Outcome>,
    reporter: Arc<Reporter>,
    started: Instant,
    /// When the remote let the message come.
    message: Option<tokio::time::Instant>,
    /// The remote's last no to a recipient.
    refused: Option<Reply>,
    told: Told,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

impl Attempt {
    /// Starts the clock.
    pub(super) fn start(domain: &Name, mode: Mode, reporter: &Arc<Reporter>) -> Self {
        let outcome = Box::new(Outcome {
            id: format!("{:012X}", fastrand::u64(..) >> 16),
            domain: domain.clone(),
            mode,
            would: None,
            remote: None,
            verdict: Verdict::Aborted,
            code: None,
            reason: "aborted",
            text: "the transaction ended before its message was answered".to_owned(),
            recipients: 0,
            octets: 0,
            elapsed: std::time::Duration::ZERO,
            rule: None,
            dialled: None,
            skipped: Vec::new(),
            seen: Trace::default(),
        });
        let reporter = Arc::clone(reporter);
        Self { outcome, reporter, started: Instant::now(), message: None, refused: None, told: Told::No }
    }

    /// Our id for the attempt.
    pub(super) fn id(&self) -> &str {
        &self.outcome.id
    }

    /// Where to note what is seen.
    pub(super) fn trace(&self) -> &Trace {
        &self.outcome.seen
    }

    /// A remote was reached and secured.
    pub(super) fn reached(&mut self, ready: &Ready, skipped: &Refusals) {
        let terms = ready.terms();
        self.outcome.remote = Some(Remote {
            exchange: ready.peer().exchange.clone(),
            address: ready.peer().address,
            policy: terms.policy.label(),
            channel: terms.channel.clone(),
            earlier_mails: ready.mails(),
        });
        self.skipped(skipped);
    }

    /// Enforcing would have refused the mail for these.
    pub(super) fn observed(&mut self, refusals: &Refusals) {
        self.outcome.would = refusals
            .main()
            .map(|main| Would { reason: main.reason.view().label, answer: refusals.verdict().to_string() });
    }

    /// An exception has set the level.
    pub(super) fn ruled(&mut self, exception: &Exception) {
        self.outcome.rule = Some(exception.to_string());
    }

    /// Where the client had meant to go, if it was intercepted.
    pub(super) fn dialled(&mut self, dialled: Option<Dialled>) {
        self.outcome.dialled = dialled;
    }

    /// These were tried in vain.
    pub(super) fn skipped(&mut self, refusals: &Refusals) {
        self.outcome.skipped = refusals.iter().map(ToString::to_string).collect();
    }

    /// What the remote said to a recipient.
    pub(super) fn recipient(&mut self, reply: &Reply) {
        if reply.code().is_success() {
            self.outcome.recipients += 1;
        } else {
            self.refused = Some(reply.clone());
        }
    }

    /// Recipients the remote has accepted.
    pub(super) fn accepted(&self) -> usize {
        self.outcome.recipients
    }

    /// The remote has said 354, or takes chunks without being asked.
    pub(super) fn message_begins(&mut self) {
        self.message = Some(tokio::time::Instant::now());
    }

    /// How much of the message was read from the client.
    pub(super) fn octets(&mut self, octets: u64) {
        self.outcome.octets = octets;
    }

    /// The remote has the whole message and has not answered yet. Ended now, by a shutdown say, nobody knows who has the
    /// mail (RFC 1047); the client, which has heard nothing, sends it again.
    pub(super) fn undecided(&mut self) {
        self.outcome.verdict = Verdict::Deferred;
        self.outcome.reason = "final-reply-lost";
        self.outcome.text = "cut while the remote was about to answer the end of the message".to_owned();
    }

    /// The remote has answered the end of the message. That is what is told, even if the session is cut before the client
    /// has heard it.
    pub(super) fn decided(&mut self, answer: &Reply) {
        match answer.code().is_success() {
            true => self.becomes(Verdict::Delivered, "", answer),
            false => self.becomes(Verdict::of_refusal(answer.code()), "message-refused", answer),
        }
    }

    /// The remote's answer, or ours, as the client was told it: the end of the attempt.
    pub(super) fn answered(self, reason: &'static str, answer: &Reply) {
        let verdict = Verdict::of_refusal(answer.code());
        self.end(verdict, reason, answer);
    }

    /// The remote has the message: the end of the attempt.
    pub(super) fn delivered(self, answer: &Reply) {
        self.end(Verdict::Delivered, "", answer);
    }

    /// The client went away in the middle of the message: the end of the attempt.
    pub(super) fn client_lost(mut self, error: &WireError) {
        self.outcome.reason = "client-lost";
        self.outcome.text = format!("the client went away in the middle of the message ({error})");
        self.tell();
    }

    fn end(mut self, verdict: Verdict, reason: &'static str, answer: &Reply) {
        if let Some(began) = self.message {
            self.trace().since(began, (What::Message, format_args!("the end of the message: {answer}")));
        }
        self.becomes(verdict, reason, answer);
        self.tell();
    }

    fn becomes(&mut self, verdict: Verdict, reason: &'static str, answer: &Reply) {
        self.outcome.verdict = verdict;
        self.outcome.reason = reason;
        self.outcome.code = Some(answer.code());
        self.outcome.text = answer.to_string();
    }

    /// The transaction ended without a message. If nobody was accepted, that was the remote's doing.
    fn abandon(&mut self) {
        if let (0, Some(reply)) = (self.outcome.recipients, self.refused.take()) {
            self.becomes(Verdict::of_refusal(reply.code()), "recipient-refused", &reply);
        }
        self.tell();
    }

    fn tell(&mut self) {
        if self.told == Told::No {
            self.told = Told::Yes;
            self.outcome.elapsed = self.started.elapsed();
            self.reporter.tell(&self.outcome);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.told == Told::No {
            self.abandon();
        }
    }
}
