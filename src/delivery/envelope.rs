//! The envelope at one destination: a remote is found, and it is asked for MAIL and each RCPT.
//!
//! All that a destination is asked in one turn of the client, MAIL to DATA at most, is a value ([`Commands`]), and goes to
//! the remote as one group (RFC 2920 §3.1). No destination waits for another one.

mod group;

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::answers::{Answers, Hold, RcptReply};
use super::attempt::Attempt;
use super::declined::{Declined, Whose};
use super::incoming::Incoming;
use super::parameters;
use super::received::ReceivedLine;
use super::shared::{Origin, Received, Shared};
use super::{DestinationUpstream, Upstream};
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::{Level, ListenerMail};
use crate::refusal::{Lacking, Peer, Reason, Refusals, Stage};
use crate::rules::Rule;
use crate::smtp::chunk::Framing;
use crate::smtp::command::Command;
use crate::smtp::extensions::Content;
use crate::smtp::reply::Reply;
use crate::terms::ListenerTerms;
use crate::tls::server::ClientTls;
use crate::tlsrpt::event::Reporting;
use crate::transaction::{Addressee, Envelope, Event, Turn};
use crate::upstream::original_destination::OriginalDestination;
use crate::upstream::verified::{MailCommand, Ready};
use crate::upstream::{MxIteration, Request, ehlo_name};
use group::{Commands, Delayed};

/// The command of the client behind its recipients: a remote may hear of DATA with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextCommand {
    /// The client has sent none yet, or another one.
    Unknown,
    /// It starts the message: DATA or BDAT.
    Message(Framing),
}

impl NextCommand {
    pub(crate) fn of(command: &Command) -> Self {
        match command {
            Command::Data => Self::Message(Framing::Data),
            Command::Bdat(_) => Self::Message(Framing::Bdat),
            Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) | Command::Mail(_) | Command::Rcpt(_) => {
                Self::Unknown
            }
            Command::Rset | Command::Noop | Command::Vrfy | Command::Expn | Command::Help => Self::Unknown,
            Command::Quit | Command::StartTls => Self::Unknown,
        }
    }
}

/// The delivery agent of one transaction in one turn: it asks any of the destinations.
pub(crate) struct Agent<'a, R> {
    pub(crate) shared: &'a Shared<R>,
    pub(crate) envelope: &'a Envelope,
    /// The address of the client.
    pub(crate) origin: Origin,
    /// The address that the client dialled, if it was intercepted.
    pub(crate) original_destination: Option<IpAddr>,
    /// The facts of TLS with the client, where it is active.
    pub(crate) tls: Option<&'a Arc<ClientTls>>,
    /// The terms of the listener.
    pub(crate) terms: ListenerTerms,
    pub(crate) next: NextCommand,
    /// The replies to recipients, and the end of each destination's turn.
    pub(crate) incoming: &'a Incoming<Event>,
    /// The remotes that have the transaction.
    pub(crate) opened: &'a Incoming<DestinationUpstream>,
}

/// The end of a destination's turn.
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart once in a turn, and never kept")]
enum TurnEnd {
    /// The remote has the transaction.
    Open(Upstream),
    /// The remote has accepted no recipient and was left.
    Left,
    /// No remote takes the transaction. Recipients that have no reply yet get this one.
    Failed(Reply),
}

/// The first result of the MX iteration, and the account of the attempt.
struct Found {
    remote: Result<Ready, Refusals>,
    attempt: Attempt,
}

impl Upstream {
    /// Leaves a remote that does not take the transaction. It is in step where it has only said no, or was not asked.
    fn leave(self, reason: &Reason) -> Attempt {
        if matches!(reason, Reason::Refused { .. } | Reason::Lacking(_)) {
            self.ready.release();
        }
        self.attempt
    }
}

/// The end of an attempt, with the reply to its recipients.
fn closed(attempt: Attempt, declined: Declined) -> TurnEnd {
    let Declined { reason, answer, .. } = declined.with_id(attempt.id());
    attempt.answered(reason, &answer);
    TurnEnd::Failed(answer)
}

/// A remote does not take the transaction: it was lost, lacks an extension, or has refused MAIL, all recipients or DATA.
struct GroupError {
    /// Whether the client has heard its answer to a recipient.
    is_heard: bool,
    reason: Reason,
}

impl<R: Resolver> Agent<'_, R> {
    /// Whether a remote that has accepted a recipient is to hear of DATA now.
    pub(crate) fn asks_for_data(&self, upstream: &Upstream) -> bool {
        upstream.attempt.accepted() > 0 && self.data(&upstream.ready).is_some()
    }

    /// DATA, if this remote is to hear of it now. For chunks there is nothing to ask where they are taken.
    fn data(&self, ready: &Ready) -> Option<MailCommand> {
        let asks = match self.next {
            NextCommand::Unknown => false,
            NextCommand::Message(framing) => ready.needs_asking(framing),
        };
        asks.then_some(MailCommand::Data)
    }

    /// Asks a destination, and tells each reply as it comes.
    pub(crate) async fn ask(&self, turn: Turn, upstream: Option<Upstream>) {
        let Turn { destination, domain, recipients } = turn;
        let mut commands = Commands::new(recipients);
        let path = match upstream {
            Some(upstream) => self.carry(upstream, &mut commands).await,
            None => self.seek(&domain, &mut commands).await,
        };
        self.incoming.put(match path {
            TurnEnd::Open(upstream) => {
                self.opened.put(DestinationUpstream { destination, upstream });
                Event::Opened(destination)
            }
            TurnEnd::Left => Event::Left(destination),
            TurnEnd::Failed(reply) => Event::Failed(destination, reply),
        });
    }

    /// Asks one remote of the domain after the other, as long as the client has heard no answer to a recipient and the next one
    /// may do better (RFC 5321 §5.1).
    async fn seek(&self, domain: &Name, commands: &mut Commands) -> TurnEnd {
        let Shared { connector, reporter, .. } = self.shared;
        let demand = self.envelope.demand();
        let terms = self.terms.of(demand);
        let mut attempt = Attempt::start(domain, terms.mode(connector.mode), reporter);
        attempt.came_by(self.tls, self.terms, demand);
        attempt.begins(&self.envelope.mail);
        let trace = attempt.trace().clone();
        let (level, rule) = self.shared.rules.level(domain, OffsetDateTime::now_utc().date());
        let level = terms.level(level);
        if let Some(rule) = rule {
            attempt.ruled(rule);
        }
        let (until, hello) = (Instant::now() + connector.timeouts.route, &self.envelope.client.hello);
        let next_hop = rule.and_then(|rule| rule.next_hop.as_ref());
        let sts = terms.sts(rule);
        let reporting = self.reporting(level, rule);
        let original_destination = self.original_destination;
        let request = Request {
            domain,
            next_hop,
            hello,
            level,
            demand,
            sts,
            until,
            original_destination,
            reporting,
            trace: &trace,
        };
        let iteration = connector.iterate(&request, terms.waiver(level, connector.mode));
        let mut iteration = iteration.for_mail(&self.envelope.mail);
        let (remote, original_destination) = self.first(&mut iteration, &request).await;
        attempt.intercepted(original_destination);
        self.try_each(&mut iteration, Found { remote, attempt }, commands).await
    }

    /// The first remote, and where the client had meant to go, if it was intercepted.
    async fn first(
        &self,
        iteration: &mut MxIteration<'_, R>,
        request: &Request<'_>,
    ) -> (Result<Ready, Refusals>, Option<OriginalDestination>) {
        let Some(address) = request.original_destination else { return (iteration.next().await, None) };
        let connector = &self.shared.connector;
        let both = async { tokio::join!(iteration.next(), connector.original_destination(address, request)) };
        let (remote, original_destination) = Box::pin(both).await;
        (remote, Some(original_destination))
    }

    /// Whether the sessions for this mail are told in TLS reports.
    fn reporting(&self, level: &Level, rule: Option<&Rule>) -> Reporting {
        match self.terms.takes {
            ListenerMail::Any => self.shared.reporter.reporting(level, rule),
            // RFC 8460 §3: reports come here, and two senders would report on each other's for ever.
            ListenerMail::TlsRequiredNo => Reporting::Off,
        }
    }

    /// Asks the remote that was found first, and then others, as [`Self::seek`] says.
    async fn try_each(&self, iteration: &mut MxIteration<'_, R>, found: Found, commands: &mut Commands) -> TurnEnd {
        let Found { mut remote, mut attempt } = found;
        loop {
            let ready = match remote {
                Ok(ready) => ready,
                Err(refusals) => {
                    attempt.sts(iteration.sts(None));
                    return self.none_left(attempt, commands, &refusals);
                }
            };
            attempt.reached(&ready, iteration);
            let peer = ready.peer().clone();
            let mut upstream = Upstream { ready, attempt };
            let failed = match self.first_group(&mut upstream, commands, iteration).await {
                Ok(()) => return self.asked(upstream),
                Err(failed) => failed,
            };
            let GroupError { is_heard, reason } = failed;
            attempt = upstream.leave(&reason);
            // L11: a reply of this remote that the client has heard binds the transaction to it.
            if is_heard {
                return closed(attempt, self.explained(Declined::broke(&peer, &reason)));
            }
            attempt.forget_recipients();
            if let Some(unmet) = attempt.take_unmet() {
                iteration.take_back(*unmet);
            }
            if let Err(reason) = iteration.fail_over(&peer, reason) {
                return self.given_up(attempt, commands, Declined::broke(&peer, &reason));
            }
            remote = iteration.next().await;
        }
    }

    /// No remote is left to ask, for these reasons.
    fn none_left(&self, mut attempt: Attempt, commands: &mut Commands, refusals: &Refusals) -> TurnEnd {
        match &commands.delayed {
            None => attempt.refused(refusals),
            Some(_) => attempt.skipped(refusals.iter()),
        }
        let least = self.terms.of(self.envelope.demand()).floor();
        let end = self.given_up(attempt, commands, Declined::by_all(refusals, least));
        if commands.are_cause_of(refusals, &self.envelope.mail.reverse_path) {
            self.left(end, &commands.recipients)
        } else {
            end
        }
    }

    /// No remote takes the mail. Recipients that one has delayed hear its answers: another one that refuses them does not know
    /// better.
    fn given_up(&self, mut attempt: Attempt, commands: &mut Commands, declined: Declined) -> TurnEnd {
        let Some(delayed) = commands.delayed.take() else { return closed(attempt, self.explained(declined)) };
        for answer in delayed.answers {
            attempt.recipient(&answer.reply);
            self.reply_to_rcpt(answer);
        }
        TurnEnd::Left
    }

    /// The end of a turn of which these recipients alone are the cause: a remote may take others that the client names later.
    fn left(&self, end: TurnEnd, recipients: &[Addressee]) -> TurnEnd {
        let TurnEnd::Failed(reply) = end else { return end };
        let answer = |to: &Addressee| RcptReply { recipient: to.id, reply: reply.clone() };
        recipients.iter().map(answer).for_each(|answer| self.reply_to_rcpt(answer));
        TurnEnd::Left
    }

    /// MAIL as this remote takes it, with the recipients.
    async fn first_group(
        &self,
        upstream: &mut Upstream,
        commands: &mut Commands,
        iteration: &mut MxIteration<'_, R>,
    ) -> Result<(), GroupError> {
        self.fit(upstream, commands, iteration)
            .map_err(|lacking| GroupError { is_heard: false, reason: lacking.into() })?;
        let (peer, is_reused) = (upstream.ready.peer().clone(), iteration.is_reused());
        self.refuse_international(upstream, commands, &peer);
        // Over a new session this remote has another word.
        let earlier = commands.delayed.take_if(|delayed| delayed.by == peer);
        let hold = self.hold(&upstream.ready, iteration);
        let mut answers = Answers::new(hold);
        let asked = self.group(upstream, commands, iteration.answer_by(), &mut answers).await;
        if let Err(reason) = asked {
            match &reason {
                _ if answers.is_heard() => {}
                Reason::Refused { reply, .. } if reply.code().is_permanent() => {}
                Reason::Refused { reply, .. } if is_reused => commands.delay_all(&peer, reply),
                // It has said nothing of the recipients.
                _ => commands.delayed = commands.delayed.take().or(earlier),
            }
            return Err(GroupError { is_heard: answers.is_heard(), reason });
        }
        let Some(reply) = answers.undecided() else {
            self.tell(&mut answers);
            return Ok(());
        };
        if is_reused && hold != Hold::Detour {
            commands.delayed = answers.keep_delays().map(|answers| Delayed { by: peer, answers });
        }
        Err(GroupError { is_heard: false, reason: Reason::Refused { stage: Stage::Rcpt, reply } })
    }

    /// MAIL as this remote takes it, if the mail goes to it.
    fn fit(
        &self,
        Upstream { ready, attempt }: &mut Upstream,
        commands: &mut Commands,
        iteration: &mut MxIteration<'_, R>,
    ) -> Result<(), Lacking> {
        let added = self.added(attempt.id());
        let mail = parameters::fit(self.envelope, ready.terms(), &commands.recipients, added)?;
        attempt.goes_on(iteration.accept(ready)?);
        commands.mail = Some(mail);
        Ok(())
    }

    /// How long the client waits for the answers of this remote.
    fn hold(&self, ready: &Ready, iteration: &MxIteration<'_, R>) -> Hold {
        if iteration.is_detour(ready.peer()) {
            return Hold::Detour;
        }
        match (iteration.is_reused(), self.data(ready)) {
            (true, Some(_)) => Hold::UntilData,
            (true, None) => Hold::UntilAccepted,
            (false, _) => Hold::No,
        }
    }

    /// The octets of our Received line (RFC 1870 §6.1). The 16 at most that a strange first line brings (`separation`) show only in the
    /// message. To count them for each mail would return mail that just fits, and the size is an estimate (RFC 1870 §6.3).
    fn added(&self, id: &str) -> u64 {
        let (client, hostname) = (&self.envelope.client, &self.shared.us.hostname);
        match self.shared.received {
            Received::Add => ReceivedLine { client, origin: self.origin, hostname, id }.octets(),
            Received::Omit => 0,
        }
    }

    /// Answers the recipients that cannot be named to this remote (RFC 6531 §3.5). It is asked for the others.
    fn refuse_international(&self, upstream: &mut Upstream, commands: &mut Commands, peer: &Peer) {
        let Upstream { ready, attempt } = upstream;
        let needs = |recipient: &Addressee| recipient.mailbox.needs_smtp_utf8();
        if ready.terms().extensions.smtp_utf8 || !commands.recipients.iter().any(needs) {
            return;
        }
        attempt.shows(Content::International);
        let Declined { answer, .. } = attempt.lacking(Lacking::SmtpUtf8, peer).with_id(attempt.id());
        for Addressee { id: recipient, .. } in commands.recipients.extract_if(.., |recipient| needs(recipient)) {
            attempt.recipient(&answer);
            self.reply_to_rcpt(RcptReply { recipient, reply: answer.clone() });
        }
    }

    /// Asks the remote that has the transaction.
    async fn carry(&self, mut upstream: Upstream, commands: &mut Commands) -> TurnEnd {
        let until = Instant::now() + self.shared.connector.timeouts.command;
        let peer = upstream.ready.peer().clone();
        self.refuse_international(&mut upstream, commands, &peer);
        match self.group(&mut upstream, commands, until, &mut Answers::new(Hold::No)).await {
            Ok(()) => self.asked(upstream),
            Err(reason) => closed(upstream.leave(&reason), Declined::broke(&peer, &reason)),
        }
    }

    /// A remote's answer, with the name that was given in EHLO where that is the cause: Postfix waits with such a
    /// refusal until RCPT.
    fn with_name(&self, answer: Reply) -> Reply {
        ehlo_name::explained(answer, self.shared.connector.ehlo(&self.envelope.client.hello))
    }

    fn explained(&self, declined: Declined) -> Declined {
        match declined.whose {
            Whose::TheRemotes => Declined { answer: self.with_name(declined.answer), ..declined },
            Whose::Ours => declined,
        }
    }

    /// Everything was answered.
    fn asked(&self, upstream: Upstream) -> TurnEnd {
        if self.data(&upstream.ready).is_some() && upstream.attempt.accepted() == 0 {
            // RFC 2920 §3.1: the remote may have heard DATA, and no recipient is there to get the message.
            upstream.release();
            return TurnEnd::Left;
        }
        TurnEnd::Open(upstream)
    }

    fn reply_to_rcpt(&self, answer: RcptReply) {
        self.incoming.put(Event::Answered(answer.recipient, answer.reply));
    }

    fn tell(&self, answers: &mut Answers) {
        answers.tell().into_iter().for_each(|answer| self.reply_to_rcpt(answer));
    }
}
