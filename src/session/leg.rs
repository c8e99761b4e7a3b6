//! The recipients of one domain: the way to a remote, and what it says to each of them.
//!
//! What a leg is asked in one turn of the client, MAIL to DATA at most, is a value ([`Asks`]), and goes to the remote as
//! one group (RFC 2920 §3.1). Nothing of a leg is waited for by another one.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::attempt::Attempt;
pub(super) use super::declined::Declined;
use super::declined::Whose;
use super::received::Trace;
use super::search::Search;
use super::{Origin, Received, Shared};
use crate::dns::Resolver;
use crate::name::Name;
use crate::refusal::{Lacking, Reason, Refusals};
use crate::smtp::address::Mailbox;
use crate::smtp::chunk::Framing;
use crate::smtp::command::Mail;
use crate::smtp::extensions::Content;
use crate::smtp::reply::Reply;
use crate::trace::What;
use crate::transaction::dialogue::Client;
use crate::transaction::{Leg, Way};
use crate::upstream::ready::{MailCommand, Ready};
use crate::upstream::{Request, remaining};

/// An open transaction with a remote, and the account of it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) ready: Ready,
    pub(super) attempt: Attempt,
}

/// What a leg is asked in one turn. It can be asked again at another remote, as long as nothing was answered.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// The start of the transaction, where the remote has not heard of it.
    mail: Option<Mail>,
    /// Recipients, each with its place among the client's commands.
    pub(super) recipients: Vec<(usize, Mailbox)>,
}

/// Whether the client has said DATA or BDAT behind its recipients, so that a remote may hear of it with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// It has not, or not yet.
    NotYet,
    /// It has.
    Follows(Framing),
}

/// What all legs of a transaction are asked by.
pub(super) struct Errand<'a, R> {
    pub(super) shared: &'a Shared<R>,
    pub(super) client: &'a Client,
    /// Where the client comes from.
    pub(super) origin: Origin,
    pub(super) mail: &'a Mail,
    /// The address that the client dialled, if it was intercepted.
    pub(super) dialled: Option<IpAddr>,
    pub(super) message: Message,
    /// Where the answer to a recipient is told, with its place among the client's commands.
    pub(super) incoming: &'a Incoming<(usize, Reply)>,
}

/// What legs have told and nobody has looked at yet. There is a lock because a session goes from thread to thread; nobody
/// else ever wants it.
///
/// Legs work side by side in a `join_all`, and this is how one is heard before the others are done. A `FuturesUnordered`
/// would wake the session once more each time all that are left in it wait, for nothing.
#[derive(Debug)]
pub(super) struct Incoming<T>(Mutex<Vec<T>>);

impl<T> Incoming<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn put(&self, told: T) {
        self.told().push(told);
    }

    /// What is there.
    pub(super) fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.told())
    }

    /// What is there, when there is any. Nobody is woken for it: legs work and are listened to in one task, the listening
    /// behind the work.
    pub(super) async fn any(&self) -> Vec<T> {
        poll_fn(|_| match self.take() {
            none if none.is_empty() => Poll::Pending,
            some => Poll::Ready(some),
        })
        .await
    }

    fn told(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Leaves the remote without a message. Its account is told as it stands.
    pub(super) fn release(self) {
        self.ready.release();
    }

    /// Leaves a remote that does not take the transaction. It is in step where it has only said no.
    fn part(self, reason: &Reason) -> Attempt {
        if matches!(reason, Reason::Mail(_) | Reason::Lacking(_)) {
            self.ready.release();
        }
        self.attempt
    }
}

/// The end of an attempt, and what its recipients are told.
fn closed(attempt: Attempt, declined: Declined) -> Way<Upstream> {
    let Declined { reason, answer, .. } = declined.with_id(attempt.id());
    attempt.answered(reason, &answer);
    Way::Closed(answer)
}

/// Asking a remote has ended before all was answered.
struct Failed {
    /// So many recipients were answered before.
    told: usize,
    reason: Reason,
}

impl Asks {
    fn commands(&self, data: Option<MailCommand>) -> Vec<MailCommand> {
        let mail = self.mail.iter().cloned().map(MailCommand::Mail);
        let recipients = self.recipients.iter().map(|(_, mailbox)| MailCommand::Rcpt(mailbox.clone()));
        mail.chain(recipients).chain(data).collect()
    }
}

impl<R: Resolver> Errand<'_, R> {
    /// Whether there is anything to ask this leg.
    pub(super) fn concerns(&self, leg: &Leg<Upstream>, asks: &Asks) -> bool {
        let hears_of_data = match &leg.way {
            Way::Open(upstream) => leg.accepted > 0 && self.data(&upstream.ready).is_some(),
            Way::Unknown | Way::Closed(_) => false,
        };
        !asks.recipients.is_empty() || hears_of_data
    }

    /// DATA, if this remote is to hear of it now. For chunks there is nothing to ask where they are taken.
    fn data(&self, ready: &Ready) -> Option<MailCommand> {
        let asks = match self.message {
            Message::NotYet => false,
            Message::Follows(framing) => ready.needs_asking(framing),
        };
        asks.then_some(MailCommand::Data)
    }

    /// Asks a leg, and tells each recipient's answer as it comes.
    pub(super) async fn ask(&self, leg: &mut Leg<Upstream>, mut asks: Asks) {
        // Cut in the middle of a group, a session with a remote is of no further use.
        let (way, told) = match std::mem::replace(&mut leg.way, Way::Unknown) {
            Way::Open(upstream) => self.carry(upstream, &mut asks).await,
            Way::Unknown => self.seek(&leg.domain, &mut asks).await,
            Way::Closed(answer) => (Way::Closed(answer), 0),
        };
        if let Way::Closed(answer) = &way {
            for (place, _) in asks.recipients.iter().skip(told) {
                self.incoming.put((*place, answer.clone()));
            }
        }
        leg.way = way;
    }

    /// Asks one remote of the domain after the other, as long as no recipient was answered and the next one may do
    /// better (RFC 5321 §5.1); what the way is worth then, and how many recipients were answered.
    async fn seek(&self, domain: &Name, asks: &mut Asks) -> (Way<Upstream>, usize) {
        let Shared { connector, reporter, .. } = self.shared;
        let mut attempt = Attempt::start(domain, connector.mode, reporter);
        let trace = attempt.trace().clone();
        let (level, exception) = self.shared.rules.level(domain, OffsetDateTime::now_utc().date());
        if let Some(exception) = exception {
            attempt.ruled(exception);
        }
        let until = Instant::now() + self.shared.timeouts.route;
        let (hello, dialled) = (&self.client.hello, self.dialled);
        let next_hop = exception.and_then(|exception| exception.next_hop.as_ref());
        let request = Request { domain, next_hop, hello, level, until, dialled, trace: &trace };
        let mut search = Search::new(connector.walk(&request), self.mail, connector.eight_bit.undeclared(domain));
        let (found, dialled) = match request.dialled {
            Some(address) => {
                let both = async { tokio::join!(search.next(), connector.dialled(address, &request)) };
                let (found, dialled) = Box::pin(both).await;
                (found, Some(dialled))
            }
            None => (search.next().await, None),
        };
        attempt.dialled(dialled);
        self.settle(search, (found, attempt), asks).await
    }

    /// The same from the first remote on.
    async fn settle(
        &self,
        mut search: Search<'_, R>,
        (mut found, mut attempt): (Result<Ready, Refusals>, Attempt),
        asks: &mut Asks,
    ) -> (Way<Upstream>, usize) {
        loop {
            let ready = match found {
                Ok(ready) => ready,
                Err(refusals) => {
                    attempt.skipped(refusals.iter());
                    return (closed(attempt, self.explained(Declined::by_all(&refusals))), 0);
                }
            };
            search.reached(&mut attempt, &ready);
            let peer = ready.peer().clone();
            let mut upstream = Upstream { ready, attempt };
            let Failed { told, reason } = match self.first_group(&mut upstream, asks, &mut search).await {
                Ok(()) => {
                    upstream.attempt.serves(self.mail.declares(), search.into_unmet());
                    return self.asked(upstream, asks);
                }
                Err(failed) => failed,
            };
            attempt = upstream.part(&reason);
            // L11: what was relayed of this remote binds the transaction to it.
            let decided = if told == 0 { search.turned_away(&peer, reason).err() } else { Some(reason) };
            if let Some(reason) = decided {
                return (closed(attempt, self.explained(Declined::broke(&peer, &reason))), told);
            }
            found = search.next().await;
        }
    }

    /// MAIL as this remote takes it, with what else is asked.
    async fn first_group(
        &self,
        upstream: &mut Upstream,
        asks: &mut Asks,
        search: &mut Search<'_, R>,
    ) -> Result<(), Failed> {
        let added = self.added(upstream.attempt.id());
        let mail = search
            .fit(&upstream.ready, &asks.recipients, added)
            .map_err(|lacking| Failed { told: 0, reason: lacking.into() })?;
        asks.mail = Some(mail);
        if let Some(unmet) = search.unmet() {
            self.refuse_international(upstream, asks, |_| unmet.declined(Lacking::SmtpUtf8));
        }
        let until = search.walk().answer_by();
        if !search.is_detour(upstream.ready.peer()) {
            return self.group(upstream, asks, until, self.incoming).await;
        }
        // The client hears the answers if a recipient is accepted. Otherwise the transaction goes elsewhere.
        let heard = Incoming::new();
        let asked = self.group(upstream, asks, until, &heard).await;
        let answers = heard.take();
        if upstream.attempt.accepted() == 0 {
            let no = answers.into_iter().next_back().map(|(_, answer)| Reason::Mail(answer));
            return Err(Failed {
                told: 0,
                reason: asked.err().map(|failed| failed.reason).or(no).unwrap_or(Reason::OutOfTime),
            });
        }
        answers.into_iter().for_each(|answer| self.incoming.put(answer));
        asked
    }

    /// The octets of our Received line (RFC 1870 §6.1). Its date has the same length at any time.
    fn added(&self, id: &str) -> u64 {
        let line = || {
            let (client, hostname) = (self.client, &self.shared.us.hostname);
            Trace { client, origin: self.origin, hostname, id }.line(OffsetDateTime::now_utc())
        };
        match self.shared.received {
            Received::Add => line().len() as u64,
            Received::Omit => 0,
        }
    }

    /// Answers the recipients that cannot be named to this remote (RFC 6531 §3.5). It is asked for the others.
    fn refuse_international(
        &self,
        upstream: &mut Upstream,
        asks: &mut Asks,
        declined: impl FnOnce(&mut Attempt) -> Declined,
    ) {
        let Upstream { ready, attempt } = upstream;
        let needs = |(_, mailbox): &(usize, Mailbox)| mailbox.needs_smtp_utf8();
        if ready.terms().extensions.smtp_utf8 || !asks.recipients.iter().any(needs) {
            return;
        }
        attempt.shows(Content::International);
        let Declined { answer, .. } = declined(attempt).with_id(attempt.id());
        for (place, _) in asks.recipients.extract_if(.., |asked| needs(asked)) {
            attempt.recipient(&answer);
            self.incoming.put((place, answer.clone()));
        }
    }

    /// Asks the remote that has the transaction.
    async fn carry(&self, mut upstream: Upstream, asks: &mut Asks) -> (Way<Upstream>, usize) {
        let until = Instant::now() + self.shared.timeouts.command;
        let peer = upstream.ready.peer().clone();
        self.refuse_international(&mut upstream, asks, |attempt| attempt.lacking(Lacking::SmtpUtf8, &peer));
        match self.group(&mut upstream, asks, until, self.incoming).await {
            Ok(()) => self.asked(upstream, asks),
            Err(Failed { told, reason }) => (closed(upstream.part(&reason), Declined::broke(&peer, &reason)), told),
        }
    }

    /// A remote's answer, with the name that was given in EHLO where that is the cause: Postfix waits with such a
    /// refusal until RCPT.
    fn with_name(&self, answer: Reply) -> Reply {
        let is_cause = |line: &str| [" helo ", " ehlo ", "helo command"].iter().any(|word| line.contains(word));
        if !answer.code().is_refusal() || !answer.lines().any(|line| is_cause(&line.to_ascii_lowercase())) {
            return answer;
        }
        let name = self.shared.connector.ehlo(&self.client.hello);
        let added = format!("the name given in EHLO was {name}; see ehlo_name, and the name of your mail server");
        Reply::multiline(answer.code(), answer.enhanced(), answer.lines().chain([added.as_str()]))
    }

    fn explained(&self, declined: Declined) -> Declined {
        match declined.whose {
            Whose::TheRemotes => Declined { answer: self.with_name(declined.answer), ..declined },
            Whose::Ours => declined,
        }
    }

    /// Everything was answered.
    fn asked(&self, upstream: Upstream, asks: &Asks) -> (Way<Upstream>, usize) {
        let all = asks.recipients.len();
        if self.data(&upstream.ready).is_some() && upstream.attempt.accepted() == 0 {
            // RFC 2920 §3.1: the remote may have heard DATA, and nobody is there to get the message.
            upstream.release();
            return (Way::Unknown, all);
        }
        (Way::Open(upstream), all)
    }

    /// One group of commands (RFC 2920 §3.1), every answer looked at.
    async fn group(
        &self,
        upstream: &mut Upstream,
        asks: &Asks,
        mut until: Instant,
        incoming: &Incoming<(usize, Reply)>,
    ) -> Result<(), Failed> {
        let Upstream { ready, attempt } = upstream;
        let (peer, patience) = (ready.peer().clone(), self.shared.timeouts.command);
        let broke = |told| move |reason| Failed { told, reason };
        let trace = attempt.trace().clone();
        let data = self.data(ready);
        let hears_of_data = data.is_some();
        let mut group = ready.group(asks.commands(data));
        if asks.mail.is_some() {
            let began = Instant::now();
            let said = group.answer(remaining(until, patience)).await;
            trace.since(began, (What::Mail, Said(&said)));
            let reply = said.map_err(broke(0))?;
            if !reply.code().is_success() {
                return Err(Failed { told: 0, reason: Reason::Mail(reply) });
            }
        }
        for (index, (place, _)) in asks.recipients.iter().enumerate() {
            let began = Instant::now();
            let said = group.answer(remaining(until, patience)).await;
            trace.since(began, (What::Rcpt, Said(&said)));
            let mut reply = said.map_err(broke(index))?;
            if attempt.accepted() > 0 {
                reply = reply.behind_accepted_recipients();
            }
            let answer = attempt.bounded(self.with_name(reply.relayed(&peer)));
            attempt.recipient(&answer);
            incoming.put((*place, answer));
            // RFC 5321 §4.5.3.2.3: the client's patience is for each recipient, not for all it has pipelined.
            until = Instant::now() + patience;
        }
        if hears_of_data && attempt.accepted() > 0 {
            let answered = group.answer(self.shared.timeouts.data).await;
            answered.map_err(broke(asks.recipients.len()))?;
        }
        Ok(())
    }
}

/// What is noted of a remote's answer.
struct Said<'a>(&'a Result<Reply, Reason>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(reply) => write!(f, "the remote said {reply}"),
            Err(reason) => write!(f, "the remote: {reason}"),
        }
    }
}
