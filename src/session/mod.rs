//! One client: read a command, ask the dialogue, do what it says, answer.
//!
//! Everything a client may be told is decided elsewhere; here the decisions are carried out, in a straight line.
//! Recipients that the client has pipelined are asked for together ([`turn`]), each domain's on a [`leg`] of its own, side
//! by side; [`transfer`] hands the message to all legs. Replies are collected and sent in the client's order when the
//! client has nothing more to say (RFC 2920 §3.2), when something turns out to be slow, or when a block of them is full.

mod attempt;
mod conclusion;
mod declined;
mod groups;
mod leg;
mod received;
mod search;
mod transfer;
mod turn;

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Timeouts;
use crate::dns::Resolver;
use crate::ledger::{Ledger, Pair};
use crate::report::Reporter;
use crate::rules::Rules;
use crate::smtp::address::ForwardPath;
use crate::smtp::chunk::Framing;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::data::BareNewlines;
use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::transaction::Answers;
use crate::transaction::dialogue::{Dialogue, Service, Step, Us};
use crate::upstream::Connector;
use crate::wire::{BLOCK, Wire, WireError};

use groups::Groups;
use leg::{Message, Upstream};
use transfer::After;

/// The longest command line: RFC 5321 §4.5.3.1.4 with room for every extension's parameters.
const MAX_COMMAND_OCTETS: usize = 4096;

/// How long a client has to read the 421 when its session is cut, and to see that we have closed.
const LAST_WORD: Duration = Duration::from_millis(500);

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
    /// The outcomes of fan-out messages that clients have to send again.
    pub ledger: Ledger,
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

/// Who has come in, and what is spoken with it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Where it comes from.
    pub origin: Origin,
    /// What is spoken.
    pub service: Service,
    /// The address that it dialled, if it was intercepted.
    pub dialled: Option<IpAddr>,
}

/// Where a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Another socket's address.
    Address(IpAddr),
    /// This machine, by a socket in the file system.
    UnixSocket,
}

impl fmt::Display for Origin {
    /// As a comment of the Received line has it (RFC 5321 §4.4), whatever is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(v4)) => write!(f, "[{v4}]"),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[IPv6:{v6}]"),
            Self::UnixSocket => f.write_str("unix socket"),
        }
    }
}

struct Session<R, S> {
    shared: Arc<Shared<R>>,
    /// What sessions share from now on; taken up between transactions, so that one ends as it began.
    news: watch::Receiver<Arc<Shared<R>>>,
    client: Wire<S>,
    origin: Origin,
    dialled: Option<IpAddr>,
    dialogue: Dialogue<Upstream>,
    /// Which recipients of the open transaction may share a connection.
    groups: Groups,
}

/// When the conversation has to end, though the client would go on.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// As soon as no transaction is open.
    pub when_idle: CancellationToken,
    /// Now.
    pub now: CancellationToken,
}

/// Whether the conversation goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Command,
    Close,
}

/// Talks to one client until it goes, or until it is stopped.
pub async fn serve<R, S>(mut news: watch::Receiver<Arc<Shared<R>>>, stream: S, caller: Caller, stop: Stop)
where
    R: Resolver,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Caller { origin, service, dialled } = caller;
    let shared = Arc::clone(&news.borrow_and_update());
    let dialogue = Dialogue::new(shared.us.clone(), service);
    let (client, groups) = (Wire::new(stream), Groups::default());
    let mut session = Session { shared, news, client, origin, dialled, dialogue, groups };
    let run = tokio::select! {
        biased;
        ended = session.run(stop.when_idle) => Some(ended),
        () = stop.now.cancelled() => None,
    };
    // Remotes have seen a reset by now: half a message is never taken for a whole one.
    let Some(ended) = run else { return session.last_word().await };
    let ended = match ended {
        // RFC 5321 §4.5.3.2.7: whether between two commands or within a message.
        Err(WireError::Timeout(_)) => session.bye(EnhancedCode::transient(4, 2), "you were silent for too long").await,
        ended => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(client = %origin, %error, "the client went away");
    }
    session.dialogue.abandon().into_iter().for_each(Upstream::release);
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    async fn run(&mut self, stop: CancellationToken) -> Result<(), WireError> {
        let mut lines = LineDecoder::new(MAX_COMMAND_OCTETS);
        self.say(&self.dialogue.greeting());
        loop {
            let limit = self.shared.timeouts.client;
            let line = match self.pipelined(&mut lines).await {
                Some(line) => line,
                None => {
                    // RFC 2920 §3.2: nothing is left to read, so nothing may be kept back.
                    self.settle(Message::NotYet).await?;
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
                self.dialogue.renew(self.shared.us.clone());
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

    /// A line the client has sent already.
    async fn pipelined(&mut self, lines: &mut LineDecoder) -> Option<Line> {
        let line = lines.decode(&mut self.client.input);
        if line.is_some() || self.dialogue.waiting().is_none() {
            return line;
        }
        // What belongs together is known in whole before anything is asked for. The end of the stream is seen again by
        // whoever waits for more.
        let _ = self.client.fill_ready().await;
        lines.decode(&mut self.client.input)
    }

    async fn answer(&mut self, line: Line) -> Result<Next, WireError> {
        match Command::read(&line) {
            Ok(command) => self.carry_out(command).await,
            Err(error) => {
                self.settle(Message::NotYet).await?;
                self.say(&error.reply());
                // RFC 3030 §2: what follows a BDAT that makes no sense is a message, and must not be read as commands.
                Ok(if error == CommandError::Chunk { Next::Close } else { Next::Command })
            }
        }
    }

    async fn carry_out(&mut self, mut command: Command) -> Result<Next, WireError> {
        loop {
            let step = match command {
                Command::Rcpt(path) => self.rcpt(path),
                command => self.dialogue.step(command),
            };
            match step {
                Step::Reply(reply) => self.say(&reply),
                Step::Abandon(upstreams, reply) => {
                    self.abandon(upstreams);
                    self.say(&reply);
                }
                Step::Quit(upstreams, reply) => {
                    self.abandon(upstreams);
                    self.say(&reply);
                    return Ok(Next::Close);
                }
                Step::Later => {}
                Step::Wait(then) => {
                    let message = match &then {
                        Command::Data => Message::Follows(Framing::Data),
                        Command::Bdat(_) => Message::Follows(Framing::Bdat),
                        _ => Message::NotYet,
                    };
                    self.settle(message).await?;
                    command = then;
                    continue;
                }
                Step::Data(transaction) => self.data(transaction).await?,
                Step::Bdat(transaction, chunk) => match self.chunks(transaction, chunk).await? {
                    After::Nothing => {}
                    After::Carry(next) => {
                        command = next;
                        continue;
                    }
                    After::Close => return Ok(Next::Close),
                },
                Step::Discard { octets, upstreams, reply } => {
                    upstreams.into_iter().for_each(Upstream::release);
                    self.discard(octets).await?;
                    reply.iter().for_each(|reply| self.say(reply));
                }
            }
            return Ok(Next::Command);
        }
    }

    /// Asks for a recipient, in the group that its records call for.
    fn rcpt(&mut self, path: ForwardPath) -> Step<Upstream> {
        let group = match (self.dialogue.transaction(), &path) {
            (Some(transaction), ForwardPath::Mailbox(mailbox)) if transaction.answers == Answers::FanOut => {
                let recipient = Pair::new(&transaction.mail.reverse_path, mailbox);
                self.groups.group(self.shared.ledger.served(recipient))
            }
            _ => 0,
        };
        self.dialogue.rcpt(path, group)
    }

    /// The transaction has ended without a message.
    fn abandon(&mut self, upstreams: Vec<Upstream>) {
        self.groups = Groups::default();
        upstreams.into_iter().for_each(Upstream::release);
    }

    /// Does something, and has the client told what is known if that has to be waited for.
    async fn meanwhile<T>(&mut self, doing: impl Future<Output = T>) -> Result<T, WireError> {
        let mut doing = pin!(doing);
        if let Some(done) = (&mut doing).now_or_never() {
            return Ok(done);
        }
        self.client.flush(self.shared.timeouts.client).await?;
        Ok(doing.await)
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.client.output);
    }

    /// The session is cut in the middle of a transaction. A reply that is on its way goes out to its end, and 421 behind it. The
    /// 421 makes no claim about the message: a client that waits for its answer keeps the mail.
    async fn last_word(mut self) {
        drop(self.dialogue.abandon());
        let _ = tokio::time::timeout(LAST_WORD, self.leave()).await;
    }

    async fn leave(&mut self) -> Result<Infallible, WireError> {
        self.bye(EnhancedCode::transient(3, 2), "danelaw is shutting down").await?;
        self.client.close(LAST_WORD).await?;
        // A socket that is closed with octets unread sends a reset, which may overtake the 421.
        loop {
            self.client.input.clear();
            self.client.fill(LAST_WORD).await?;
        }
    }

    /// RFC 5321 §3.8: no connection is closed without a word.
    async fn bye(&mut self, enhanced: EnhancedCode, text: &str) -> Result<(), WireError> {
        self.say(&Reply::new(Code::SERVICE_NOT_AVAILABLE, enhanced, text));
        self.client.flush(self.shared.timeouts.client).await
    }
}
