//! The start of a session: TLS, and clients that only a certificate admits.
//!
//! A client outside the networks of the allow-list is uncertified until it has shown a certificate that opens the listener. Little
//! is done for such clients: there are few of them at a time (see [`server`](crate::server)), and each has seconds, a few commands
//! and few octets for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::either::Either;

use super::records::RecordsAhead;
use super::{Admission, AfterCommand, Caller, ListenerShared, Session, Shared, Stop};
use crate::delivery::Upstreams;
use crate::dns::Resolver;
use crate::report::turned_away::TurnedAway;
use crate::smtp::command::Command;
use crate::smtp::line::{Line, LineDecoder};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tls::server::{ClientCertificate, ListenerSecurity};
use crate::transaction::dialogue::{Dialogue, Step, TlsState};
use crate::wire::{Wire, WireError};

/// How long an uncertified client has to show its certificate, and to hear a refusal.
const UNCERTIFIED_FOR: Duration = Duration::from_secs(30);
/// The most commands of an uncertified client on each side of STARTTLS.
const UNCERTIFIED_COMMANDS: usize = 10;
/// The longest line of an uncertified client (RFC 5321 §4.5.3.1.4).
const UNCERTIFIED_LINE: usize = 512;
/// Roughly the most octets of an uncertified client on each side of STARTTLS: those of one read may come on top.
const UNCERTIFIED_OCTETS: usize = 2048;

/// Begins a session, with the greeting ready to be sent. None, if the client gets no session.
pub(super) async fn open<R, S>(
    newest_settings: watch::Receiver<Arc<Shared<R>>>,
    stream: S,
    caller: Caller,
    stop: &Stop,
) -> Option<Session<R, S>>
where
    R: Resolver,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session::new(newest_settings, stream, caller);
    if let Admission::Uncertified(_) = session.caller.admission {
        return Box::pin(session.admitted(stop)).await;
    }
    if matches!(session.caller.listener.security, ListenerSecurity::Implicit(_)) {
        session = Box::pin(session.secured(stop)).await?;
    }
    session.greet();
    if let Admission::Probe = session.caller.admission {
        Box::pin(session.probed(stop)).await;
        return None;
    }
    Some(session)
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    fn new(mut newest_settings: watch::Receiver<Arc<Shared<R>>>, stream: S, caller: Caller) -> Self {
        let Caller { service, listener: ListenerShared { security, terms, .. }, admission, .. } = &caller;
        let shared = Arc::clone(&newest_settings.borrow_and_update());
        let dialogue = Dialogue::new(shared.us.clone(), *service).on(*terms).with_tls(match security {
            ListenerSecurity::Clear => TlsState::Unavailable,
            ListenerSecurity::Starttls(_) if !matches!(admission, Admission::Uncertified(_)) => TlsState::Offered,
            ListenerSecurity::Starttls(_) | ListenerSecurity::Required(_) => TlsState::Required,
            ListenerSecurity::Implicit(_) => TlsState::Active,
        });
        let client = Wire::new(Either::Left(stream));
        Self {
            shared,
            newest_settings,
            client,
            caller,
            hello: None,
            tls: None,
            dialogue,
            ahead: RecordsAhead::default(),
            upstreams: Upstreams::default(),
        }
    }

    fn greet(&mut self) {
        self.say(&self.dialogue.greeting());
    }

    /// The go-ahead for a handshake. Octets behind STARTTLS came in the clear, perhaps of a third party, and would count as sent
    /// under TLS (RFC 3207 §6; ): they end the session.
    pub(super) async fn start_tls(&mut self, ready: &Reply) -> Result<AfterCommand, WireError> {
        if self.client.input.is_empty() {
            self.say(ready);
            self.client.flush(self.shared.client_timeout).await?;
            return Ok(AfterCommand::StartTls);
        }
        let octets = self.client.input.len();
        self.shared.reporter.metrics().client_handshake("injected");
        tracing::warn!(client = %self.caller.origin, octets, "a client sent plaintext behind STARTTLS; the session is closed");
        self.client.input.clear();
        let text = "no command may follow STARTTLS before TLS is active";
        self.say(&Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(5, 0), text));
        Ok(AfterCommand::Close)
    }

    /// The session under TLS, after a handshake. RFC 3207 §4.2: nothing of the client that came in the clear is kept. None, if
    /// there is no such session.
    pub(super) async fn secured(self, stop: &Stop) -> Option<Self> {
        let origin = self.caller.origin;
        let (metrics, limit) = (self.shared.reporter.metrics(), self.shared.connector.timeouts.handshake);
        let (Some(server), Ok(Either::Left(stream))) =
            (self.caller.listener.security.server(), self.client.into_stream())
        else {
            tracing::error!(client = %origin, "a TLS handshake was due where none can be");
            return None;
        };
        let shaken = tokio::select! {
            biased;
            () = stop.when_idle.cancelled() => return None,
            shaken = tokio::time::timeout(limit, server.accept(stream)) => shaken,
        };
        let secured = match shaken {
            Ok(Ok(secured)) => secured,
            Ok(Err(error)) => {
                metrics.client_handshake("failed");
                tracing::warn!(client = %origin, %error, "the TLS handshake with a client failed");
                return None;
            }
            Err(_) => {
                metrics.client_handshake("timeout");
                tracing::warn!(client = %origin, ?limit, "the TLS handshake with a client took too long");
                return None;
            }
        };
        let tls = secured.tls;
        metrics.client_handshake(tls.certificate.as_str());
        let certificate = tracing::field::display(&tls.certificate);
        tracing::debug!(client = %origin, version = tls.version, cipher = tls.cipher_suite, certificate, "TLS with a client");
        let dialogue = Dialogue::new(self.shared.us.clone(), self.caller.service)
            .on(self.caller.listener.terms)
            .with_tls(TlsState::Active);
        let client = Wire::new(Either::Right(Box::new(secured.stream)));
        let (upstreams, ahead, tls) = (Upstreams::default(), RecordsAhead::new(), Some(Arc::new(tls)));
        Some(Self { client, hello: None, tls, dialogue, ahead, upstreams, ..self })
    }

    /// The session of a balancer that looks whether we are well.
    async fn probed(mut self, stop: &Stop) {
        let text = "a balancer's own connection sends no mail";
        let no = Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text);
        tokio::select! {
            biased;
            () = stop.when_idle.cancelled() => {}
            _ = tokio::time::timeout(UNCERTIFIED_FOR, self.hear(Some(&no))) => {}
        }
    }

    /// The session of an uncertified client that has shown a certificate. None for all others, which are told why.
    async fn admitted(self, stop: &Stop) -> Option<Self> {
        let (origin, shared) = (self.caller.origin, Arc::clone(&self.shared));
        let shown = tokio::select! {
            biased;
            () = stop.when_idle.cancelled() => return None,
            shown = tokio::time::timeout(UNCERTIFIED_FOR, self.shown(stop)) => shown,
        };
        let why = match shown {
            Ok(Ok(mut session)) => {
                session.caller.admission = Admission::Certified;
                return Some(session);
            }
            Ok(Err(why)) => why,
            Err(_) => "it took too long".to_owned(),
        };
        shared.reporter.metrics().turned_away(TurnedAway::NotAllowed);
        tracing::warn!(
            client = %origin,
            why,
            "turned away: not on the allow-list of this listener, and without a certificate that opens it"
        );
        None
    }

    /// Looks after a reload whether the certificate that has let the client in still opens the listener: its CA or its key may
    /// have been taken off the configuration, or it has expired. If it does not, the session ends with 421, as for a new
    /// one there is no place.
    pub(super) async fn admit_again(&mut self) -> Result<AfterCommand, WireError> {
        let certificate = match (&self.caller.admission, self.client.stream()) {
            (Admission::Certified, Either::Right(stream)) => {
                let server =
                    self.shared.listeners.get(self.caller.place).and_then(|listener| listener.security.server());
                server.map_or(ClientCertificate::NotAsked, |server| server.judge(stream))
            }
            (Admission::Certified, Either::Left(_)) => return Ok(AfterCommand::NextCommandLine),
            (Admission::Allowed | Admission::Uncertified(_) | Admission::Probe, _) => {
                return Ok(AfterCommand::NextCommandLine);
            }
        };
        if certificate == ClientCertificate::Verified {
            return Ok(AfterCommand::NextCommandLine);
        }
        self.shared.reporter.metrics().turned_away(TurnedAway::NotAllowed);
        tracing::warn!(client = %self.caller.origin, %certificate, "at a reload the client's certificate was found not to open the listener; the session ends");
        let text = "your certificate no longer lets you send mail through this host";
        self.bye(EnhancedCode::transient(7, 1), text).await?;
        Ok(AfterCommand::Close)
    }

    /// The session under TLS, if the client's certificate opens the listener.
    async fn shown(mut self, stop: &Stop) -> Result<Self, String> {
        let is_implicit = matches!(self.caller.listener.security, ListenerSecurity::Implicit(_));
        if !is_implicit {
            self.greet();
            if self.hear(None).await.map_err(|error| error.to_string())? != AfterCommand::StartTls {
                return Err("no STARTTLS".to_owned());
            }
        }
        let mut session = self.secured(stop).await.ok_or("no TLS")?;
        if is_implicit {
            session.greet();
        }
        let certificate = session.tls.as_ref().map_or(ClientCertificate::Absent, |tls| tls.certificate.clone());
        let no = match &certificate {
            ClientCertificate::Verified => return Ok(session),
            ClientCertificate::NotAsked | ClientCertificate::Absent => {
                let text = "you may not send mail through this host without a certificate";
                Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text)
            }
            // One that has expired can be replaced, and the mail is not to be lost meanwhile.
            ClientCertificate::Unverified(why) => {
                let text = format!("your certificate does not let you send mail through this host: {why}");
                Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(7, 1), text)
            }
        };
        // It is told at MAIL, where clients look for it.
        let _ = session.hear(Some(&no)).await;
        Err(format!("certificate {certificate}"))
    }

    /// The commands of an uncertified client, until STARTTLS or the end. With a reply to MAIL it is heard only to be refused.
    async fn hear(&mut self, to_mail: Option<&Reply>) -> Result<AfterCommand, WireError> {
        let (mut lines, mut octets) = (LineDecoder::new(UNCERTIFIED_LINE), 0);
        for _ in 0..UNCERTIFIED_COMMANDS {
            let line = self.uncertified_line(&mut lines, &mut octets).await?;
            let step = match (Command::read(&line), to_mail) {
                (Ok(Command::Mail(_)), Some(no)) => Step::Reply(no.clone()),
                (Ok(command), _) => self.dialogue.step(command, Vec::new()),
                (Err(error), _) => Step::Reply(self.dialogue.understood(error).reply()),
            };
            match step {
                Step::Reply(reply) | Step::Abandon(reply) => self.say(&reply),
                Step::StartTls(ready) => match self.start_tls(&ready).await? {
                    AfterCommand::StartTls => return Ok(AfterCommand::StartTls),
                    AfterCommand::NextCommandLine | AfterCommand::Close => break,
                },
                Step::Quit(reply) => {
                    self.say(&reply);
                    break;
                }
                // A chunk, of which no octet is read; no transaction is ever open.
                Step::Discard(..) | Step::DiscardLast(_) | Step::Data(_) | Step::Bdat(..) => break,
                Step::Later | Step::Wait(_) => break,
            }
        }
        self.client.flush(UNCERTIFIED_FOR).await?;
        self.client.close(UNCERTIFIED_FOR).await?;
        Ok(AfterCommand::Close)
    }

    async fn uncertified_line(&mut self, lines: &mut LineDecoder, octets: &mut usize) -> Result<Line, WireError> {
        loop {
            if let Some(line) = lines.decode(&mut self.client.input) {
                return Ok(line);
            }
            if *octets >= UNCERTIFIED_OCTETS {
                return Err(std::io::Error::other("it sent too much").into());
            }
            self.client.flush(UNCERTIFIED_FOR).await?;
            let held = self.client.input.len();
            self.client.fill_up_to(UNCERTIFIED_OCTETS, UNCERTIFIED_FOR).await?;
            *octets += self.client.input.len() - held;
        }
    }
}
