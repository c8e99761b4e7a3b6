//! One client: read a command, ask the dialogue, do what it says, answer.
//!
//! Everything a client may be told is decided elsewhere; here the decisions are carried out, in a straight line.
//! Replies are collected and sent when the client has nothing more to say (RFC 2920 §3.2), before anything slow, or
//! when a block of them is full.

mod attempt;
mod received;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Timeouts;
use crate::dns::Resolver;
use crate::refusal::{Peer, Reason};
use crate::report::Reporter;
use crate::rules::Rules;
use crate::smtp::address::{Mailbox, SmtpUtf8};
use crate::smtp::command::{Body, Command, Mail};
use crate::smtp::data::BareNewlines;
use crate::smtp::dialogue::{Dialogue, Recipient, Step, Transaction, Us};
use crate::smtp::extensions::{Extensions, SizeLimit};
use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::trace::What;
use crate::upstream::ready::Ready;
use crate::upstream::{Connector, Request, remaining};
use crate::wire::{BLOCK, Wire, WireError};

use attempt::Attempt;

/// The longest command line: RFC 5321 §4.5.3.1.4 with room for every extension's parameters.
const MAX_COMMAND_OCTETS: usize = 4096;
/// What our Received line may add to a message, for SIZE (RFC 1870 §6.1).
const TRACE_OCTETS: u64 = 1024;

/// What all sessions share.
#[derive(Debug)]
pub struct Shared<R> {
    /// The way to remotes.
    pub connector: Connector<R>,
    /// What a session must prove, by domain.
    pub rules: Rules,
    /// What we say of ourselves.
    pub us: Us,
    /// Whether to add a Received line.
    pub received: Received,
    /// What to do with bare CR and LF.
    pub bare_newlines: BareNewlines,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Client sessions at a time.
    pub max_sessions: usize,
    /// Who hears what became of each attempt.
    pub reporter: Arc<Reporter>,
}

/// Whether our Received line is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is.
    Add,
    /// The message stays as it is, byte for byte.
    Omit,
}

/// An open transaction's remote, and the account of it.
#[derive(Debug)]
struct Upstream {
    ready: Ready,
    attempt: Attempt,
}

struct Session<R, S> {
    shared: Arc<Shared<R>>,
    /// What sessions share from now on; taken up between transactions, so that one ends as it began.
    news: watch::Receiver<Arc<Shared<R>>>,
    client: Wire<S>,
    address: IpAddr,
    dialogue: Dialogue<Upstream>,
}

/// Whether the conversation goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Command,
    Close,
}

/// Talks to one client until it goes, or until `stop` finds it between transactions.
pub async fn serve<R, S>(mut news: watch::Receiver<Arc<Shared<R>>>, stream: S, address: IpAddr, stop: CancellationToken)
where
    R: Resolver,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::clone(&news.borrow_and_update());
    let dialogue = Dialogue::new(shared.us.clone());
    let mut session = Session { shared, news, client: Wire::new(stream), address, dialogue };
    let ended = match session.run(stop).await {
        // RFC 5321 §4.5.3.2.7: whether between two commands or within a message.
        Err(WireError::Timeout(_)) => session.bye(EnhancedCode::transient(4, 2), "you were silent for too long").await,
        ended => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(client = %address, %error, "the client went away");
    }
    if let Some(upstream) = session.dialogue.abandon() {
        upstream.ready.quit();
    }
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    async fn run(&mut self, stop: CancellationToken) -> Result<(), WireError> {
        let mut lines = LineDecoder::new(MAX_COMMAND_OCTETS);
        self.say(&self.dialogue.greeting());
        loop {
            let limit = self.shared.timeouts.client;
            let line = match lines.decode(&mut self.client.input) {
                Some(line) => line,
                None => {
                    // RFC 2920 §3.2: nothing is left to read, so nothing may be kept back.
                    self.client.flush(limit).await?;
                    let idle = self.dialogue.is_idle();
                    tokio::select! {
                        biased;
                        () = stop.cancelled(), if idle => {
                            return self.bye(EnhancedCode::transient(3, 2), "danelaw is shutting down").await;
                        }
                        line = self.client.line(&mut lines, limit) => line?,
                    }
                }
            };
            if self.dialogue.is_idle() && self.news.has_changed().unwrap_or(false) {
                self.shared = Arc::clone(&self.news.borrow_and_update());
            }
            if self.answer(line).await? == Next::Close {
                self.client.flush(limit).await?;
                return Ok(self.client.close(limit).await?);
            }
            if self.client.output.len() >= BLOCK {
                // a block of short commands may ask for megabytes of answers, more so with a remote's long ones.
                self.client.flush(limit).await?;
            }
        }
    }

    async fn answer(&mut self, line: Line) -> Result<Next, WireError> {
        match Command::read(&line) {
            Ok(command) => self.carry_out(command).await,
            Err(error) => {
                self.say(&error.reply());
                Ok(Next::Command)
            }
        }
    }

    async fn carry_out(&mut self, command: Command) -> Result<Next, WireError> {
        match self.dialogue.step(command) {
            Step::Reply(reply) => self.say(&reply),
            Step::Abandon(upstream, reply) => {
                upstream.ready.quit();
                self.say(&reply);
            }
            Step::Quit(reply) => {
                self.say(&reply);
                return Ok(Next::Close);
            }
            Step::QuitAbandoning(upstream, reply) => {
                upstream.ready.quit();
                self.say(&reply);
                return Ok(Next::Close);
            }
            Step::Open(transaction, recipient) => {
                let transaction = transaction.clone();
                self.client.flush(self.shared.timeouts.client).await?;
                let reply = self.open(&transaction, recipient).await;
                self.say(&reply);
            }
            Step::Recipient(upstream, Recipient { mailbox, .. }) => {
                // RFC 5321 §4.5.3.2.3: the client's patience is for each recipient, not for all it has pipelined.
                self.client.flush(self.shared.timeouts.client).await?;
                let trace = upstream.attempt.trace().clone();
                let said = upstream.ready.rcpt(mailbox, self.shared.timeouts.command);
                let reply = trace.watch(said, |said| (What::Rcpt, told(said))).await;
                let reply = self.recipient(reply);
                self.say(&reply);
            }
            Step::Data(transaction, upstream) => {
                return self.data(transaction, upstream).await;
            }
        }
        Ok(Next::Command)
    }

    /// The first recipient of a domain: find a remote, start the transaction there, name the recipient.
    async fn open(&mut self, transaction: &Transaction, recipient: Recipient) -> Reply {
        let Recipient { mailbox, domain } = recipient;
        let shared = Arc::clone(&self.shared);
        let mut attempt = Attempt::start(&domain, shared.connector.mode, &shared.reporter);
        let until = Instant::now() + shared.timeouts.route;
        let (level, exception) = shared.rules.level(&domain, OffsetDateTime::now_utc().date());
        if let Some(exception) = exception {
            attempt.ruled(exception);
        }
        let trace = attempt.trace().clone();
        let request = Request { domain: &domain, hello: &transaction.client.hello, level, until, trace: &trace };
        let connected = match shared.connector.connect(&request).await {
            Ok(connected) => connected,
            Err(refusals) => {
                let answer = refusals.verdict().with_id(attempt.id());
                attempt.skipped(&refusals);
                let label = refusals.main().map_or("no-exchange", |refusal| refusal.reason.view().label);
                attempt.answered(label, &answer);
                self.dialogue.refused(domain, answer.clone());
                return answer;
            }
        };
        attempt.reached(&connected.ready, &connected.skipped);
        attempt.observed(&connected.would);
        match self.begin(connected.ready, &transaction.mail, mailbox, &request).await {
            Ok((ready, answer)) => {
                attempt.recipient(&answer);
                self.dialogue.opened(domain, Upstream { ready, attempt }, &answer);
                answer
            }
            Err(declined) => {
                let Declined { reason, answer, .. } = declined.with_id(attempt.id());
                attempt.answered(reason, &answer);
                self.dialogue.refused(domain, answer.clone());
                answer
            }
        }
    }

    /// MAIL and the first RCPT at a remote that is ready.
    async fn begin(
        &self,
        mut ready: Ready,
        mail: &Mail,
        mailbox: Mailbox,
        &Request { until, trace, .. }: &Request<'_>,
    ) -> Result<(Ready, Reply), Declined> {
        let mail = match fit(mail, &ready.terms().extensions, self.shared.received) {
            Ok(mail) => mail,
            Err(answer) => {
                ready.quit();
                return Err(Declined::by_us("extension-missing", answer));
            }
        };
        let command = self.shared.timeouts.command;
        let said = ready.mail(mail, remaining(until, command));
        let reply = trace
            .watch(said, |said| (What::Mail, told(said)))
            .await
            .map_err(|reason| Declined::broke(ready.peer(), &reason))?;
        if !reply.code().is_success() {
            let answer = relayed(&reply, &ready);
            ready.quit();
            return Err(Declined::by_remote("mail-refused", answer));
        }
        let said = ready.rcpt(mailbox, remaining(until, command));
        let reply = trace
            .watch(said, |said| (What::Rcpt, told(said)))
            .await
            .map_err(|reason| Declined::broke(ready.peer(), &reason))?;
        let answer = relayed(&reply, &ready);
        Ok((ready, answer))
    }

    /// What the client is told about a further recipient.
    fn recipient(&mut self, reply: Result<Reply, Reason>) -> Reply {
        let Some(upstream) = self.dialogue.upstream() else {
            return Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(4, 2), "the transaction is over");
        };
        match reply {
            Ok(reply) => {
                let answer = relayed(&reply, &upstream.ready);
                upstream.attempt.recipient(&answer);
                self.dialogue.recipient(&answer);
                answer
            }
            Err(reason) => {
                let answer = broken(upstream.ready.peer(), &reason).with_id(upstream.attempt.id());
                if let Some(upstream) = self.dialogue.lost(answer.clone()) {
                    upstream.attempt.broke(&reason, &answer);
                }
                answer
            }
        }
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.client.output);
    }

    /// RFC 5321 §3.8: no connection is closed without a word.
    async fn bye(&mut self, enhanced: EnhancedCode, text: &str) -> Result<(), WireError> {
        self.say(&Reply::new(Code::SERVICE_NOT_AVAILABLE, enhanced, text));
        self.client.flush(self.shared.timeouts.client).await
    }
}

/// A remote was reached, and the message does not get to it, or not past it: why, and what the client is told.
struct Declined {
    reason: &'static str,
    answer: Reply,
    whose: Whose,
}

/// Who said no.
enum Whose {
    Ours,
    TheRemotes,
}

impl Declined {
    fn by_us(reason: &'static str, answer: Reply) -> Self {
        Self { reason, answer, whose: Whose::Ours }
    }

    fn by_remote(reason: &'static str, answer: Reply) -> Self {
        Self { reason, answer, whose: Whose::TheRemotes }
    }

    /// With the id of the attempt at the end of our own words, for `danelaw explain`. A remote's words stay as they are.
    fn with_id(self, id: &str) -> Self {
        match self.whose {
            Whose::Ours => Self { answer: self.answer.with_id(id), ..self },
            Whose::TheRemotes => self,
        }
    }

    fn broke(peer: &Peer, reason: &Reason) -> Self {
        Self::by_us(reason.view().label, broken(peer, reason))
    }
}

/// MAIL as this remote can take it (RFC 5321 §2.2.1: parameters only where the extension is offered).
fn fit(mail: &Mail, offered: &Extensions, received: Received) -> Result<Mail, Reply> {
    let mut mail = mail.clone();
    if mail.body == Some(Body::EightBitMime) && !offered.eight_bit_mime {
        // RFC 6152 §3: never 8-bit to a server that does not say it takes it, and we do not rewrite mail.
        let text = "the remote does not take 8-bit mail (8BITMIME)";
        return Err(Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(6, 3), text));
    }
    if !offered.eight_bit_mime {
        mail.body = None;
    }
    if let (Some(size), Received::Add) = (&mut mail.size, received) {
        *size = size.saturating_add(TRACE_OCTETS);
    }
    if mail.smtp_utf8 == SmtpUtf8::Requested && !offered.smtp_utf8 {
        // RFC 6531 §3.5.
        let text = "the remote does not take internationalised mail (SMTPUTF8)";
        return Err(Reply::new(Code::MAILBOX_NAME_NOT_ALLOWED, EnhancedCode::permanent(6, 7), text));
    }
    match offered.size {
        SizeLimit::Octets(most) if mail.size.is_some_and(|size| size > most) => {
            let text = format!("the remote takes at most {most} octets");
            Err(Reply::new(Code::EXCEEDED_STORAGE, EnhancedCode::permanent(3, 4), text))
        }
        SizeLimit::Octets(_) | SizeLimit::Unlimited => Ok(mail),
        SizeLimit::Undeclared => Ok(Mail { size: None, ..mail }),
    }
}

/// The remote's answer as the client is told it.
fn relayed(reply: &Reply, ready: &Ready) -> Reply {
    reply.relayed(&ready.peer().to_string())
}

/// What is noted of a remote's answer.
fn told(said: &Result<Reply, Reason>) -> String {
    said.as_ref().map_or_else(|reason| format!("the remote: {reason}"), |reply| format!("the remote said {reply}"))
}

/// What the client is told when the session with the remote broke.
fn broken(peer: &Peer, reason: &Reason) -> Reply {
    let view = reason.view();
    Reply::new(view.code, view.enhanced, format!("{peer}: {reason}"))
}
