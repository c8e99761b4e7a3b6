//! One client: the session reads commands and the message, and carries out the decisions of the
//! [`transaction`](crate::transaction).
//!
//! Recipients that the client has pipelined are asked for together ([`turn`]), those of each destination by a
//! [`delivery`](crate::delivery) of its own, side by side. [`transfer`] hands the message to all deliveries, and
//! [`conclusion`] ends it. Replies are collected, and are sent in the client's order when the client has sent no further
//! command (RFC 2920 §3.2), when a remote is slow, or when a block of them is full.
//!
//! A session may go on under TLS (RFC 3207), as a new one on the same connection; [`opening`] has that.

mod conclusion;
mod events;
mod opening;
mod records;
mod transfer;
mod turn;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use crate::delivery::Upstreams;
use crate::delivery::envelope::NextCommand;
use crate::dns::Resolver;
use crate::policy::ListenerMail;
use crate::smtp::command::{Command, CommandError, Grammar, Hello, Strictness};
use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tls::server::{ClientStream, ClientTls};
use crate::transaction::dialogue::{Dialogue, Service, Step};
use crate::wire::{BLOCK, Wire, WireError};

use records::RecordsAhead;
use transfer::AfterChunks;

pub use crate::delivery::shared::{ListenerShared, Origin, Received, Shared};

/// The longest command line: RFC 5321 §4.5.3.1.4 with room for every extension's parameters.
const MAX_COMMAND_OCTETS: usize = 4096;
/// The same where REQUIRETLS is offered (RFC 8689 §2).
const MAX_COMMAND_OCTETS_UNDER_TLS: usize = MAX_COMMAND_OCTETS + " REQUIRETLS".len();

/// How long a client has to read the 421 when its session is cut, and to see that we have closed.
const FOR_421: Duration = Duration::from_millis(500);

/// A client that has connected.
#[derive(Debug)]
pub struct Caller {
    /// Its address.
    pub origin: Origin,
    /// The protocol.
    pub service: Service,
    /// The address that it dialled, if it was intercepted.
    pub original_destination: Option<IpAddr>,
    /// The place of its listener in the configuration.
    pub place: usize,
    /// The settings of its listener, for as long as it is connected.
    pub listener: ListenerShared,
    /// Its right to send mail.
    pub admission: Admission,
}

/// The right of a client to send mail.
#[derive(Debug)]
pub enum Admission {
    /// The allow-list names it.
    Allowed,
    /// It does not, and a certificate is required. The permit counts the client against the limit of such clients.
    Uncertified(OwnedSemaphorePermit),
    /// It does not, and its certificate has opened the listener.
    Certified,
    /// It is a balancer that looks whether we are well, and sends no mail.
    Probe,
}

/// The connection of a client, in the clear or under TLS.
type CallerStream<S> = Either<S, Box<ClientStream<S>>>;

struct Session<R, S> {
    shared: Arc<Shared<R>>,
    /// The newest settings. They are taken up between transactions, so that one ends as it began.
    newest_settings: watch::Receiver<Arc<Shared<R>>>,
    client: Wire<CallerStream<S>>,
    caller: Caller,
    /// The client's name for itself, as it gave it last.
    hello: Option<Hello>,
    /// The facts of TLS with the client, where it is active.
    tls: Option<Arc<ClientTls>>,
    dialogue: Dialogue,
    /// The records of recipients that the client has pipelined.
    ahead: RecordsAhead,
    /// The connections of the open transaction.
    upstreams: Upstreams,
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
enum AfterCommand {
    NextCommandLine,
    /// The client has the go-ahead for a handshake.
    StartTls,
    Close,
}

/// Talks to one client until it goes, or until it is stopped.
pub async fn serve<R, S>(newest_settings: watch::Receiver<Arc<Shared<R>>>, stream: S, caller: Caller, stop: Stop)
where
    R: Resolver,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(mut session) = opening::open(newest_settings, stream, caller, &stop).await else { return };
    loop {
        let run = tokio::select! {
            biased;
            ended = session.run(&stop.when_idle) => Some(ended),
            () = stop.now.cancelled() => None,
        };
        // Remotes have seen a reset by now: half a message is never taken for a whole one.
        let Some(ended) = run else { return session.send_421().await };
        match ended {
            Ok(AfterCommand::StartTls) => match Box::pin(session.secured(&stop)).await {
                Some(under_tls) => session = under_tls,
                None => return,
            },
            ended => {
                tokio::select! {
                    biased;
                    () = session.end(ended.map(drop)) => {}
                    () = stop.now.cancelled() => {}
                }
                return;
            }
        }
    }
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Until the client goes, or TLS is to begin.
    async fn run(&mut self, stop: &CancellationToken) -> Result<AfterCommand, WireError> {
        let most = if self.tls.is_some() { MAX_COMMAND_OCTETS_UNDER_TLS } else { MAX_COMMAND_OCTETS };
        let mut lines = LineDecoder::new(most);
        loop {
            let limit = self.shared.client_timeout;
            let line = match self.pipelined(&mut lines).await {
                Some(line) => line,
                None => {
                    // RFC 2920 §3.2: no command is left to read, so no reply may be kept back.
                    self.ask_for_recipients(NextCommand::Unknown).await?;
                    self.client.flush(limit).await?;
                    let idle = self.dialogue.is_idle();
                    tokio::select! {
                        biased;
                        () = stop.cancelled(), if idle => {
                            self.bye(EnhancedCode::transient(3, 2), "danelaw is shutting down").await?;
                            return Ok(AfterCommand::Close);
                        }
                        line = self.client.line(&mut lines, limit) => line?,
                    }
                }
            };
            if self.take_up_settings().await? == AfterCommand::Close {
                return Ok(AfterCommand::Close);
            }
            match self.answer(line).await? {
                AfterCommand::NextCommandLine => {}
                AfterCommand::StartTls => return Ok(AfterCommand::StartTls),
                AfterCommand::Close => {
                    self.client.flush(limit).await?;
                    self.client.close(limit).await?;
                    return Ok(AfterCommand::Close);
                }
            }
            if self.client.output.len() >= BLOCK {
                // a block of short commands may ask for megabytes of answers, more so with a remote's long ones.
                self.client.flush(limit).await?;
            }
        }
    }

    /// Takes up settings that are new, between transactions.
    async fn take_up_settings(&mut self) -> Result<AfterCommand, WireError> {
        if self.dialogue.is_idle() && self.newest_settings.has_changed().unwrap_or(false) {
            self.shared = Arc::clone(&self.newest_settings.borrow_and_update());
            self.dialogue.renew(self.shared.us.clone());
            return self.admit_again().await;
        }
        Ok(AfterCommand::NextCommandLine)
    }

    /// The end of the remotes, and the last words to a client that was silent.
    async fn end(&mut self, ended: Result<(), WireError>) {
        // A client that takes no more octets holds up none of them.
        self.upstreams.release();
        let ended = match ended {
            // RFC 5321 §4.5.3.2.7: whether between two commands or within a message.
            Err(WireError::Timeout(_)) => self.bye(EnhancedCode::transient(4, 2), "you were silent for too long").await,
            ended => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(client = %self.caller.origin, %error, "the client went away");
        }
    }

    /// A line the client has sent already.
    async fn pipelined(&mut self, lines: &mut LineDecoder) -> Option<Line> {
        let line = lines.decode(&mut self.client.input);
        if line.is_some() || self.dialogue.waiting().is_none() {
            return line;
        }
        // All recipients that were pipelined are read before any is asked for. The end of the stream is seen again by the
        // next read.
        let _ = self.client.fill_ready().await;
        lines.decode(&mut self.client.input)
    }

    /// How the next command is read.
    fn grammar(&self) -> Grammar<'_> {
        match self.caller.listener.strictness {
            Strictness::Strict => Grammar::Strict,
            Strictness::Lenient => Grammar::Lenient {
                origin: match &self.hello {
                    Some(hello) => self.shared.connector.ehlo(hello),
                    None => &self.shared.us.hostname,
                },
            },
        }
    }

    async fn answer(&mut self, line: Line) -> Result<AfterCommand, WireError> {
        match self.grammar().read(&line) {
            Ok(command) => {
                if let Command::Ehlo(hello) | Command::Helo(hello) | Command::Lhlo(hello) = &command {
                    self.hello = Some(hello.clone());
                }
                self.carry_out(command).await
            }
            Err(error) => {
                self.ask_for_recipients(NextCommand::Unknown).await?;
                let error = self.dialogue.understood(error);
                self.say(&error.reply());
                Ok(if self.is_over(&error) { AfterCommand::Close } else { AfterCommand::NextCommandLine })
            }
        }
    }

    /// Whether the session is over with a line that is no command.
    fn is_over(&self, error: &CommandError) -> bool {
        if *error == CommandError::Http {
            tracing::warn!(client = %self.caller.origin, "a client sent a request of HTTP, which may hold mail of a stranger; the session is closed");
        }
        error.ends_session()
    }

    async fn carry_out(&mut self, mut command: Command) -> Result<AfterCommand, WireError> {
        loop {
            let step = self.step(command).await?;
            match step {
                Step::Reply(reply) => self.say(&reply),
                Step::StartTls(ready) => return self.start_tls(&ready).await,
                Step::Abandon(reply) => self.release(&reply),
                Step::Quit(reply) => {
                    self.release(&reply);
                    return Ok(AfterCommand::Close);
                }
                Step::Later => {}
                Step::Wait(then) => {
                    self.ask_for_recipients(self.next(&then)).await?;
                    command = then;
                    continue;
                }
                // On the heap: a session that waits for a command has no room for a message.
                Step::Data(transaction) => Box::pin(self.data(transaction)).await?,
                Step::Bdat(transaction, chunk) => match Box::pin(self.chunks(transaction, chunk)).await? {
                    AfterChunks::Nothing => {}
                    AfterChunks::Carry(next) => {
                        command = next;
                        continue;
                    }
                    AfterChunks::Close => return Ok(AfterCommand::Close),
                },
                Step::Discard(chunk, reply) => {
                    self.discard(chunk.octets).await?;
                    self.say(&reply);
                }
                Step::DiscardLast(chunk) => {
                    self.upstreams.release();
                    self.discard(chunk.octets).await?;
                }
            }
            return Ok(AfterCommand::NextCommandLine);
        }
    }

    /// The next command as remotes may learn of it. On a listener for `TLS-Required: No` it stays unknown until the header
    /// has shown that field.
    fn next(&self, command: &Command) -> NextCommand {
        match self.caller.listener.terms.takes {
            ListenerMail::Any => NextCommand::of(command),
            ListenerMail::TlsRequiredNo => NextCommand::Unknown,
        }
    }

    /// The end of a transaction before its message: the remotes are left, and the client gets the reply.
    fn release(&mut self, reply: &Reply) {
        self.upstreams.release();
        self.say(reply);
    }

    /// Awaits this. If it is not ready at once, the replies that were collected go out first.
    async fn meanwhile<T>(&mut self, doing: impl Future<Output = T>) -> Result<T, WireError> {
        let mut doing = pin!(doing);
        if let Some(done) = (&mut doing).now_or_never() {
            return Ok(done);
        }
        self.client.flush(self.shared.client_timeout).await?;
        Ok(doing.await)
    }

    fn say(&mut self, reply: &Reply) {
        reply.write(&mut self.client.output);
    }

    /// The session is cut in the middle of a transaction. A reply that is on its way goes out to its end, and 421 behind it. The
    /// 421 makes no claim about the message: a client that waits for its answer keeps the mail.
    async fn send_421(&mut self) {
        self.dialogue.abandon();
        drop(std::mem::take(&mut self.upstreams));
        let _ = tokio::time::timeout(FOR_421, self.leave()).await;
    }

    async fn leave(&mut self) -> Result<Infallible, WireError> {
        self.bye(EnhancedCode::transient(3, 2), "danelaw is shutting down").await?;
        self.client.close(FOR_421).await?;
        // A socket that is closed with octets unread sends a reset, which may overtake the 421.
        loop {
            self.client.input.clear();
            self.client.fill(FOR_421).await?;
        }
    }

    /// RFC 5321 §3.8: no connection is closed without a word.
    async fn bye(&mut self, enhanced: EnhancedCode, text: &str) -> Result<(), WireError> {
        self.say(&Reply::new(Code::SERVICE_NOT_AVAILABLE, enhanced, text));
        self.client.flush(self.shared.client_timeout).await
    }
}
