//! DATA: the message goes from the client to the remote as it comes, and the remote's answer goes back.
//!
//! Nothing is kept: memory for a message is one block in and one block out, whatever its size. Our 354 follows the
//! remote's, our 2xx follows the remote's, and if either side breaks in the middle, the remote sees a reset instead of
//! an end of data.

use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::attempt::Attempt;
use super::received::Trace;
use super::{Declined, Next, Received, Session, Upstream, broken, relayed};
use crate::dns::Resolver;
use crate::refusal::Peer;
use crate::smtp::data::{DataScanner, Scan};
use crate::smtp::dialogue::Transaction;
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::trace::What;
use crate::upstream::ready::{Body, Started, Stop};
use crate::wire::WireError;

/// RFC 5321 §6.3: more Received fields than any honest path has.
const MAX_HOPS: usize = 100;

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Carries one message over, or says why not.
    pub(super) async fn data(&mut self, transaction: Transaction, upstream: Upstream) -> Result<Next, WireError> {
        let peer = upstream.ready.peer().clone();
        self.client.flush(self.shared.timeouts.client).await?;
        let (mut body, mut attempt) = match start(upstream).await {
            Ok(started) => started,
            Err(answer) => {
                self.say(&answer);
                return Ok(Next::Command);
            }
        };
        self.say(&Reply::plain(Code::START_MAIL_INPUT, "End data with <CR><LF>.<CR><LF>"));
        self.client.flush(self.shared.timeouts.client).await?;
        if self.shared.received == Received::Add {
            let hostname = &self.shared.us.hostname;
            let trace = Trace { client: &transaction.client, address: self.address, hostname, id: attempt.id() };
            body.buffer().extend_from_slice(trace.line(OffsetDateTime::now_utc()).as_bytes());
        }
        let mut scanner = DataScanner::new(self.shared.bare_newlines);
        let began = Instant::now();
        let carried = self.carry(&mut scanner, body, &peer).await;
        attempt.octets(scanner.octets());
        let ended = match carried {
            Ok(Carried::Whole(body)) => {
                attempt.undecided();
                conclude(body, &peer).await
            }
            Ok(Carried::Stopped(declined)) => Err(declined),
            Err(gone) => {
                attempt.client_lost(&gone);
                return Err(gone);
            }
        };
        let ended = ended.map_err(|declined| declined.with_id(attempt.id()));
        let (Ok(answer) | Err(Declined { answer, .. })) = &ended;
        self.say(answer);
        // RFC 1047: between the remote's answer and ours lies the one window for a duplicate; nothing goes in between.
        let told = self.client.flush(self.shared.timeouts.client).await;
        attempt.trace().since(began, (What::Message, format!("the end of the message: {answer}")));
        match ended {
            Ok(answer) => attempt.delivered(&answer),
            Err(Declined { reason, answer, .. }) => attempt.answered(reason, &answer),
        }
        told?;
        Ok(Next::Command)
    }

    /// From the first byte of the message to the last.
    async fn carry(
        &mut self,
        scanner: &mut DataScanner,
        mut body: Box<Body>,
        peer: &Peer,
    ) -> Result<Carried, WireError> {
        loop {
            let scan = scanner.scan(&mut self.client.input, body.buffer());
            if let Some(refused) = self.refuse(scanner, &scan).or_else(|| unfit(&mut body)) {
                // Dropped, not finished: the remote sees a reset.
                drop(body);
                self.discard(scanner, scan).await?;
                return Ok(Carried::Stopped(refused));
            }
            match scan {
                Scan::End => return Ok(Carried::Whole(body)),
                Scan::More | Scan::Rejected(_) => {}
            }
            if let Err(stop) = body.send().await {
                drop(body);
                self.discard(scanner, scan).await?;
                return Ok(Carried::Stopped(stopped(stop, peer)));
            }
            self.client.fill(self.shared.timeouts.client).await?;
        }
    }

    /// Why a message that has come so far cannot be passed on.
    fn refuse(&self, scanner: &DataScanner, scan: &Scan) -> Option<Declined> {
        let most = self.shared.us.offer.size;
        if let Scan::Rejected(bare) = scan {
            return Some(Declined::by_us("bare-newline", bare.reply()));
        }
        if scanner.octets() > most {
            let text = format!("the message is larger than {most} octets");
            let answer = Reply::new(Code::EXCEEDED_STORAGE, EnhancedCode::permanent(3, 4), text);
            return Some(Declined::by_us("too-large", answer));
        }
        if scanner.received_headers() > MAX_HOPS {
            let text = "too many Received fields: the message goes round in circles";
            let answer = Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(4, 6), text);
            return Some(Declined::by_us("mail-loop", answer));
        }
        None
    }

    /// Reads the rest of a message that goes nowhere, so that the next command is read as a command.
    async fn discard(&mut self, scanner: &mut DataScanner, mut scan: Scan) -> Result<(), WireError> {
        let mut nowhere = bytes::BytesMut::new();
        while scan == Scan::More {
            self.client.fill(self.shared.timeouts.client).await?;
            scan = scanner.scan(&mut self.client.input, &mut nowhere);
            nowhere.clear();
        }
        Ok(())
    }
}

/// What came of carrying a message over.
enum Carried {
    /// All of it is with the remote, or on its way; the end of data is not.
    Whole(Box<Body>),
    /// It goes no further.
    Stopped(Declined),
}

/// DATA at the remote: the message may come, or what the client is told instead.
async fn start(Upstream { ready, attempt }: Upstream) -> Result<(Box<Body>, Attempt), Reply> {
    let peer = ready.peer().clone();
    match ready.data().await {
        Ok(Started::Body(body)) => Ok((body, attempt)),
        Ok(Started::Refused(ready, reply)) => {
            let answer = relayed(&reply, &ready);
            ready.quit();
            attempt.answered("data-refused", &answer);
            Err(answer)
        }
        Err(reason) => {
            let answer = broken(&peer, &reason).with_id(attempt.id());
            attempt.broke(&reason, &answer);
            Err(answer)
        }
    }
}

/// RFC 6152 §3: never 8-bit octets to a server that does not say it takes them, whatever the client had declared.
fn unfit(body: &mut Body) -> Option<Declined> {
    if body.terms().extensions.eight_bit_mime || body.buffer().is_ascii() {
        return None;
    }
    let text = "the message is 8-bit, and the remote does not take that (8BITMIME)";
    let answer = Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(6, 3), text);
    Some(Declined::by_us("extension-missing", answer))
}

/// The end of data, and the remote's answer to it: the only place where a message can become delivered.
async fn conclude(body: Box<Body>, peer: &Peer) -> Result<Reply, Declined> {
    match body.finish().await {
        Ok((reply, ready)) => {
            ready.quit();
            // What counts is what the client is told: a 221 is a success of something else, and the client hears 451.
            let answer = reply.relayed(&peer.to_string());
            if answer.code().is_success() { Ok(answer) } else { Err(Declined::by_remote("message-refused", answer)) }
        }
        Err(stop) => Err(stopped(stop, peer)),
    }
}

fn stopped(stop: Stop, peer: &Peer) -> Declined {
    match stop {
        Stop::Answered(reply) => Declined::by_remote("message-refused", reply.relayed(&peer.to_string())),
        Stop::Failed(reason) => Declined::broke(peer, &reason),
    }
}
