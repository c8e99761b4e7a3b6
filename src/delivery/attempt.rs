//! The account of one attempt to deliver. It is kept while the attempt goes on, and reported exactly once at its end.

use std::sync::Arc;
use std::time::Instant;

use super::declined::Declined;
use crate::dns::Resolver;
use crate::excerpt;
use crate::name::Name;
use crate::policy::Mode;
use crate::refusal::{Label, Lacking, Peer, Refusal, Refusals};
use crate::report::{Outcome, ReachedRemote, Reporter, Verdict, Would};
use crate::requiretls::{TagDemand, TagResult};
use crate::rules::Rule;
use crate::smtp::address::ReversePath;
use crate::smtp::command::{Mail, RequireTls};
use crate::smtp::extensions::Content;
use crate::smtp::message_names::MessageNames;
use crate::smtp::reply::Reply;
use crate::terms::ListenerTerms;
use crate::tls::server::ClientTls;
use crate::trace::{StepKind, Trace};
use crate::upstream::original_destination::OriginalDestination;
use crate::upstream::sts::StsNote;
use crate::upstream::verified::Ready;
use crate::upstream::{MxIteration, Unmet};
use crate::wire::WireError;

/// How many octets of answers to recipients are told in full.
const IN_FULL: usize = 64 * 1024;
/// How many octets each of those behind them has.
const IN_SHORT: usize = 200;
/// How many characters of a refusal are noted: a line of a reply.
const MAX_SKIPPED: usize = 512;

/// An attempt that goes on. If it is dropped without an end, because the client has ended the transaction or has gone or
/// the task was cut, it is reported as aborted; if the remote had refused every recipient, as refused.
#[derive(Debug)]
pub(crate) struct Attempt {
    // It goes from hand to hand, and every future on the way has room for it.
    outcome: Box<Outcome>,
    reporter: Arc<Reporter>,
    started: Instant,
    /// When the remote let the message come.
    message: Option<tokio::time::Instant>,
    /// The remote's last no to a recipient.
    refused: Option<Reply>,
    /// How many octets of answers to recipients may still be told in full.
    room: usize,
    told: Told,
    /// The demand of the mail's tag.
    demand: TagDemand,
    /// Whether MAIL said REQUIRETLS to the remote that was reached last, if it heard of the mail.
    said: Option<RequireTls>,
    /// The content that the client has declared.
    declared: Content,
    /// The verdict of the MX iteration, for mail that needs more than the remote takes.
    unmet: Option<Box<Unmet>>,
    /// The verdict of enforcing, for mail that holds more than this.
    would: Option<Box<(Content, Would)>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

impl Attempt {
    /// Starts the clock.
    pub(crate) fn start(domain: &Name, mode: Mode, reporter: &Arc<Reporter>) -> Self {
        let outcome = Box::new(Outcome::unfinished(domain, mode));
        let reporter = Arc::clone(reporter);
        Self {
            outcome,
            reporter,
            started: Instant::now(),
            message: None,
            refused: None,
            room: IN_FULL,
            told: Told::No,
            demand: TagDemand::None,
            said: None,
            declared: Content::Ascii,
            unmet: None,
            would: None,
        }
    }

    /// Our id for the attempt.
    pub(crate) fn id(&self) -> &str {
        &self.outcome.id
    }

    /// Takes notes of the attempt.
    pub(crate) fn trace(&self) -> &Trace {
        &self.outcome.seen
    }

    /// TLS with the client, where it is active, the terms of its listener, and the demand of the mail's tag.
    pub(crate) fn came_by(&mut self, tls: Option<&Arc<ClientTls>>, terms: ListenerTerms, demand: TagDemand) {
        self.demand = demand;
        (self.outcome.client_tls, self.outcome.listener_level) = (tls.cloned(), terms.floor);
        self.outcome.listener_mail = terms.takes;
    }

    /// MAIL of the client. Of its sender the domain alone is told.
    pub(crate) fn begins(&mut self, mail: &Mail) {
        self.declared = mail.declares();
        self.outcome.sender_domain = Some(match &mail.reverse_path {
            ReversePath::Null => "<>".to_owned(),
            ReversePath::Mailbox(mailbox) => mailbox.domain().to_string(),
        });
    }

    /// The names of the message.
    pub(crate) fn note_names(&mut self, names: &MessageNames) {
        self.outcome.names = names.clone();
    }

    /// No remote takes the mail, for these reasons.
    pub(crate) fn refused(&mut self, refusals: &Refusals) {
        self.outcome.refused_by = refusals.main().and_then(Refusal::policy);
        self.outcome.shortfall = refusals.main().map(|refusal| refusal.reason.shortfall());
        self.skipped(refusals.iter());
    }

    /// The remote has answered MAIL, with REQUIRETLS or without.
    pub(crate) fn says(&mut self, said: RequireTls) {
        self.said = Some(said);
    }

    /// A field in the message says that it once had a tag.
    pub(crate) fn note_lost_tag(&mut self) {
        if self.demand == TagDemand::None {
            self.outcome.requiretls = Some(TagResult::Lost);
        }
    }

    /// The iteration has reached and secured a remote.
    pub(crate) fn reached<R: Resolver>(&mut self, ready: &Ready, iteration: &MxIteration<'_, R>) {
        self.said = None;
        let terms = ready.terms();
        self.outcome.remote = Some(ReachedRemote {
            peer: ready.peer().clone(),
            policy: terms.policy.as_str(),
            permit: terms.policy.permit(),
            channel: terms.channel.clone(),
            earlier_mails: ready.mails(),
        });
        self.skipped(iteration.skipped());
        self.sts(iteration.sts(Some(ready)));
        if let Some(refusals) = iteration.would_have_refused() {
            self.observed(refusals, iteration.enforced_takes());
        }
    }

    /// Enforcing would have refused the mail for these; if there is an exchange that it would have gone to, only mail that
    /// needs more than that one takes.
    fn observed(&mut self, refusals: &Refusals, takes: Option<Content>) {
        let main = refusals.main();
        let would = main.map(|main| Would { reason: main.reason.view().label, answer: refusals.verdict().to_string() });
        (self.outcome.would, self.would) = match takes {
            None => (would, None),
            Some(takes) => (None, would.map(|would| Box::new((takes, would)))),
        };
    }

    /// The mail goes to the remote that was reached last. This is the verdict for more than that takes.
    pub(crate) fn goes_on(&mut self, unmet: Option<Box<Unmet>>) {
        self.unmet = unmet;
    }

    /// The same, where the remote does not take the transaction after all.
    pub(crate) fn take_unmet(&mut self) -> Option<Box<Unmet>> {
        self.unmet.take()
    }

    /// The content that the client has declared.
    pub(crate) fn declared(&self) -> Content {
        self.declared
    }

    /// Whether it matters if the message is ASCII, wherever it goes.
    pub(crate) fn has_condition(&self) -> bool {
        self.would.is_some()
    }

    /// The mail holds this.
    pub(crate) fn shows(&mut self, content: Content) {
        if let Some(would) = self.would.take_if(|would| content > would.0) {
            self.outcome.would = Some(would.1);
        }
    }

    /// The answer to mail that needs an extension which the remote lacks.
    pub(crate) fn lacking(&mut self, lacking: Lacking, peer: &Peer) -> Declined {
        match &mut self.unmet {
            // A rule does not give a remote an extension, at any level.
            Some(unmet) => Declined::by_all(unmet.lack(lacking), None),
            None => Declined::broke(peer, &lacking.into()),
        }
    }

    /// A rule has set the level.
    pub(crate) fn ruled(&mut self, rule: &Rule) {
        self.outcome.rule = Some(rule.to_string());
    }

    /// The MTA-STS policy of the domain.
    pub(crate) fn sts(&mut self, note: Option<StsNote>) {
        self.outcome.sts = note;
    }

    /// Where the client had meant to go, if it was intercepted.
    pub(crate) fn intercepted(&mut self, original_destination: Option<OriginalDestination>) {
        self.outcome.original_destination = original_destination;
    }

    /// These were tried before, and did not take the mail.
    pub(crate) fn skipped<'a>(&mut self, refusals: impl Iterator<Item = &'a Refusal>) {
        self.outcome.skipped = refusals.map(|refusal| excerpt::cut(refusal, MAX_SKIPPED)).collect();
    }

    /// A remote's answer to a recipient, as long as the client is to be told it: the answers of a whole turn are held until
    /// those before them are known, and a remote with much to say to each of a thousand would fill the memory.
    pub(crate) fn bounded(&mut self, answer: Reply) -> Reply {
        match self.room.checked_sub(answer.octets()) {
            Some(room) => {
                self.room = room;
                answer
            }
            None => answer.in_short(IN_SHORT),
        }
    }

    /// The remote's reply to a recipient.
    pub(crate) fn recipient(&mut self, reply: &Reply) {
        if reply.code().is_success() {
            self.outcome.recipients += 1;
        } else {
            self.refused = Some(reply.clone());
        }
    }

    /// The remote is left, and the client has heard none of its replies.
    pub(crate) fn forget_recipients(&mut self) {
        (self.outcome.recipients, self.refused) = (0, None);
    }

    /// Recipients the remote has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.outcome.recipients
    }

    /// The remote has said 354, or takes chunks without being asked.
    pub(crate) fn message_begins(&mut self) {
        self.message = Some(tokio::time::Instant::now());
    }

    /// How much of the message was read from the client.
    pub(crate) fn note_octets(&mut self, octets: u64) {
        self.outcome.octets = octets;
    }

    /// The remote has the whole message and has not answered yet. If the attempt ends now, by a shutdown say, it is not
    /// known whether the remote has the mail (RFC 1047). The client has no reply and sends it again.
    pub(crate) fn undecided(&mut self) {
        self.outcome.verdict = Verdict::Deferred;
        self.outcome.reason = Some(Label::FinalReplyLost);
        self.outcome.text = "cut while the remote was about to answer the end of the message".to_owned();
    }

    /// The remote has answered the end of the message. The report has this reply even if the session is cut before the
    /// client has it.
    pub(crate) fn decided(&mut self, answer: &Reply) {
        match answer.code().is_success() {
            true => self.becomes(Verdict::Delivered, None, answer),
            false => self.becomes(Verdict::of_refusal(answer.code()), Some(Label::MessageRefused), answer),
        }
    }

    /// The remote's answer, or ours, as the client was told it: the end of the attempt.
    pub(crate) fn answered(self, reason: Label, answer: &Reply) {
        let verdict = Verdict::of_refusal(answer.code());
        self.end(verdict, Some(reason), answer);
    }

    /// The remote has the message: the end of the attempt.
    pub(crate) fn delivered(self, answer: &Reply) {
        self.end(Verdict::Delivered, None, answer);
    }

    /// The recipients have a final outcome of an earlier attempt, and the remote gets no end of data: the end of the attempt.
    pub(crate) fn withheld(mut self) {
        self.outcome.reason = Some(Label::AnsweredBefore);
        self.outcome.text =
            "the recipients have their outcome from an earlier attempt; the message was not sent again".to_owned();
        self.report();
    }

    /// The client went away in the middle of the message: the end of the attempt.
    pub(crate) fn client_lost(mut self, error: &WireError) {
        self.outcome.reason = Some(Label::ClientLost);
        self.outcome.text = format!("the client went away in the middle of the message ({error})");
        self.report();
    }

    fn end(mut self, verdict: Verdict, reason: Option<Label>, answer: &Reply) {
        if let Some(began) = self.message {
            self.trace().since(began, StepKind::Message, format_args!("the end of the message: {answer}"));
        }
        self.becomes(verdict, reason, answer);
        self.report();
    }

    fn becomes(&mut self, verdict: Verdict, reason: Option<Label>, answer: &Reply) {
        self.outcome.verdict = verdict;
        self.outcome.reason = reason;
        self.outcome.code = Some(answer.code());
        self.outcome.text = answer.to_string();
    }

    /// The transaction ended without a message. If no recipient was accepted, the remote has caused that.
    fn abandon(&mut self) {
        if let (0, Some(reply)) = (self.outcome.recipients, self.refused.take()) {
            self.becomes(Verdict::of_refusal(reply.code()), Some(Label::RecipientRefused), &reply);
        }
        self.report();
    }

    /// The account of the mail's tag, if it has one. Mail that was refused for another reason before a host heard of it has none.
    fn tag_result(&self) -> Option<TagResult> {
        match (self.demand, self.said, self.outcome.reason) {
            (TagDemand::None, ..) => None,
            (demand, Some(said), _) => demand.said(said),
            (_, None, Some(Label::RequireTlsMissing)) => Some(TagResult::Missing),
            (_, None, Some(Label::RequireTlsUnauthenticated)) => Some(TagResult::Unauthenticated),
            (_, None, _) => (self.outcome.verdict == Verdict::Deferred).then_some(TagResult::Deferred),
        }
    }

    fn report(&mut self) {
        if self.told == Told::No {
            self.told = Told::Yes;
            self.outcome.requiretls = self.outcome.requiretls.or_else(|| self.tag_result());
            self.outcome.elapsed = self.started.elapsed();
            self.reporter.report(&self.outcome);
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
