//! The commands to one remote in one turn, as one group (RFC 2920 §3.1), and its answers.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::Upstream;
use super::super::answers::{Answers, RcptReply};
use super::super::attempt::Attempt;
use super::Agent;
use crate::dns::Resolver;
use crate::refusal::{Lacking, Peer, Reason, Refusals, Stage};
use crate::smtp::address::ReversePath;
use crate::smtp::command::Mail;
use crate::smtp::reply::Reply;
use crate::trace::{StepKind, Trace};
use crate::transaction::Addressee;
use crate::transaction::recipient::RecipientId;
use crate::upstream::remaining;
use crate::upstream::verified::{Group, MailCommand};

/// The commands to one remote in one turn. They can be sent to another remote, as long as the client has heard no answer to RCPT.
pub(super) struct Commands {
    /// The start of the transaction, where the remote has not heard of it.
    pub(super) mail: Option<Mail>,
    /// The recipients to ask for.
    pub(super) recipients: Vec<Addressee>,
    /// The answers of a remote that has delayed all recipients, for those that no other one accepts.
    pub(super) delayed: Option<Delayed>,
}

/// The 4yz of a remote for each recipient. Over a new session it may answer otherwise.
pub(super) struct Delayed {
    pub(super) by: Peer,
    pub(super) answers: Vec<RcptReply>,
}

impl Commands {
    pub(super) fn new(recipients: Vec<Addressee>) -> Self {
        Self { mail: None, recipients, delayed: None }
    }

    /// A remote has delayed all recipients with this reply.
    pub(super) fn delay_all(&mut self, by: &Peer, reply: &Reply) {
        let answer = |to: &Addressee| RcptReply { recipient: to.id, reply: reply.relayed(by) };
        self.delayed = Some(Delayed { by: by.clone(), answers: self.recipients.iter().map(answer).collect() });
    }

    /// Whether the recipients alone are the cause of these refusals of mail with this sender: a remote has refused them, or they
    /// cannot be named to it without SMTPUTF8 (RFC 6531 §3.5). It may take others.
    pub(super) fn are_cause_of(&self, refusals: &Refusals, sender: &ReversePath) -> bool {
        let all_need_it = self.recipients.iter().all(|recipient| recipient.mailbox.needs_smtp_utf8());
        refusals.iter().any(|refusal| match refusal.reason {
            Reason::Lacking(Lacking::SmtpUtf8) => all_need_it && !sender.needs_smtp_utf8(),
            Reason::Refused { stage: Stage::Rcpt, .. } => true,
            _ => false,
        })
    }

    /// The answer of a remote that has delayed all recipients.
    fn delayed(&self, recipient: RecipientId) -> Option<&Reply> {
        let mut answers = self.delayed.iter().flat_map(|delayed| &delayed.answers);
        answers.find(|answer| answer.recipient == recipient).map(|answer| &answer.reply)
    }

    fn all(&self, data: Option<MailCommand>) -> Vec<MailCommand> {
        let mail = self.mail.iter().cloned().map(MailCommand::Mail);
        let recipients = self.recipients.iter().map(|recipient| MailCommand::Rcpt(recipient.mailbox.clone()));
        mail.chain(recipients).chain(data).collect()
    }
}

impl<R: Resolver> Agent<'_, R> {
    /// One group of commands (RFC 2920 §3.1), every answer looked at.
    pub(super) async fn group(
        &self,
        upstream: &mut Upstream,
        commands: &Commands,
        mut until: Instant,
        answers: &mut Answers,
    ) -> Result<(), Reason> {
        let Upstream { ready, attempt } = upstream;
        let (peer, timeouts) = (ready.peer().clone(), &self.shared.connector.timeouts);
        let trace = attempt.trace().clone();
        let data = self.data(ready);
        let hears_of_data = data.is_some();
        let mut group = ready.group(commands.all(data));
        if let Some(mail) = &commands.mail {
            let reply = answer(&mut group, remaining(until, timeouts.command), &trace, StepKind::Mail).await?;
            attempt.says(mail.require_tls);
            if !reply.code().is_success() {
                return Err(Reason::Refused { stage: Stage::Mail, reply });
            }
        }
        for recipient in &commands.recipients {
            let said = answer(&mut group, remaining(until, timeouts.command), &trace, StepKind::Rcpt).await?;
            answers.note(&said);
            let reply = self.rcpt_reply(attempt, &peer, commands.delayed(recipient.id), said);
            answers.put(RcptReply { recipient: recipient.id, reply });
            if answers.are_due(attempt.accepted(), until) {
                self.tell(answers);
                // RFC 5321 §4.5.3.2.3: the client's patience is for each recipient, not for all it has pipelined.
                until = Instant::now() + timeouts.command;
            }
        }
        if !hears_of_data || attempt.accepted() == 0 {
            return Ok(());
        }
        self.hear_of_data(&mut group, answers, until).await
    }

    /// The answer to DATA, which went with the recipients.
    async fn hear_of_data(&self, group: &mut Group<'_>, answers: &mut Answers, until: Instant) -> Result<(), Reason> {
        let patience = self.shared.connector.timeouts.data;
        let mut answer = pin!(group.answer(patience));
        if answers.wait_for_data() {
            match timeout(remaining(until, patience), &mut answer).await {
                Ok(Ok(reply)) if reply.code().is_refusal() => {
                    return Err(Reason::Refused { stage: Stage::Data, reply });
                }
                Ok(answered) => {
                    answered?;
                    self.tell(answers);
                    return Ok(());
                }
                // The client has waited for long enough; the remote has its full time.
                Err(_) => self.tell(answers),
            }
        }
        answer.await.map(drop)
    }

    /// A remote's reply to RCPT as the client gets it. The attempt counts it. A recipient that a better remote has delayed keeps
    /// that answer, unless this one accepts it.
    fn rcpt_reply(&self, attempt: &mut Attempt, peer: &Peer, delayed: Option<&Reply>, mut reply: Reply) -> Reply {
        if attempt.accepted() > 0 {
            reply = reply.behind_accepted_recipients();
        }
        let reply = match delayed.filter(|_| reply.code().is_refusal()) {
            Some(delayed) => delayed.clone(),
            None => attempt.bounded(self.with_name(reply.relayed(peer))),
        };
        attempt.recipient(&reply);
        reply
    }
}

/// The next answer, which the account has.
async fn answer(group: &mut Group<'_>, limit: Duration, trace: &Trace, kind: StepKind) -> Result<Reply, Reason> {
    let began = Instant::now();
    let said = group.answer(limit).await;
    match &said {
        Ok(reply) => trace.since(began, kind, format_args!("the remote said {reply}")),
        Err(reason) => trace.since(began, kind, format_args!("the remote: {reason}")),
    }
    said
}
