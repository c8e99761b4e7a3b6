//! DATA, and with [`chunks`] BDAT: the message goes from the client to each remote as it comes, and the remotes' answers go
//! back.
//!
//! Nothing is kept: memory for a message is one block for all remotes, and for each what TLS or its chunks make of it,
//! whatever its size, and the slowest remote sets the pace. Our 354 follows a remote's, our 2xx follows the 2xx of the
//! remote it speaks of, and if either side breaks in the middle, the remote sees a reset instead of an end of data. A
//! remote that fails takes nobody with it but its own recipients.

mod chunks;

use bytes::BytesMut;
use futures_util::future::join_all;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};

use super::attempt::Attempt;
use super::conclusion::{Party, instead_of_message};
use super::leg::{Declined, Upstream};
use super::received::Trace;
use super::{Received, Session};
use crate::dns::Resolver;
use crate::ledger::{ContentDigest, ContentHasher};
use crate::refusal::{Lacking, Peer};
use crate::smtp::chunk::Framing;
use crate::smtp::data::{DataScanner, Scan};
use crate::smtp::extensions::Content;
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::transaction::dialogue::Client;
use crate::transaction::{Answers, Leg, Transaction, Way};
use crate::upstream::ready::{Body, Started, Stop};
use crate::wire::{BLOCK, WireError};

/// The most of a message that is read at a time, while it comes faster than it goes.
const FLOWING: usize = 64 * 1024;

pub(super) use chunks::After;

/// RFC 5321 §6.3: more Received fields than any honest path has.
const MAX_HOPS: usize = 100;

/// One message as it passes.
struct Passage {
    scanner: DataScanner,
    /// None for a message that cannot have a record.
    hasher: Option<ContentHasher>,
    /// Why the message is refused for all recipients, if it is.
    refused: Option<Reply>,
    /// Lines that were scanned and not handed on yet.
    block: BytesMut,
}

/// What becomes of the message on one leg.
pub(super) enum Course {
    /// No recipient is there to get it.
    Idle,
    /// It is on its way.
    Going(Box<Body>, Attempt),
    /// It gets no further; the attempt is told once the client has been.
    Stopped(Declined, Attempt),
    /// The remote has it, and the attempt is told once the client has been.
    Delivered(Reply, Attempt),
    /// The remote was lost before the message.
    Lost(Reply),
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Carries one message over, or says why not.
    pub(super) async fn data(&mut self, transaction: Transaction<Upstream>) -> Result<(), WireError> {
        let Transaction { client, mail, answers, legs, accepted, .. } = transaction;
        let groups = std::mem::take(&mut self.groups);
        let parties = Party::all(&mail, accepted);
        let mut courses = self.meanwhile(join_all(legs.into_iter().map(|leg| start(leg, Framing::Data)))).await?;
        if let Some(answer) = instead_of_message((answers, &groups), &parties, &courses) {
            return self.refuse_all(&answer, courses).await;
        }
        self.say(&Reply::plain(Code::START_MAIL_INPUT, "End data with <CR><LF>.<CR><LF>"));
        self.client.flush(self.shared.timeouts.client).await?;
        if self.shared.received == Received::Add {
            self.trace(&client, &mut courses);
        }
        let mut passage = Passage::new(DataScanner::new(self.shared.bare_newlines), hasher(answers, &parties));
        let carried = self.carry(&mut passage, &mut courses).await;
        for course in &mut courses {
            course.octets(passage.scanner.octets());
        }
        if let Err(gone) = carried {
            courses.into_iter().for_each(|course| course.client_lost(&gone));
            return Err(gone);
        }
        self.conclude(answers, parties, courses, passage.ended()).await
    }

    /// No message is wanted: the one answer to DATA.
    async fn refuse_all(&mut self, answer: &Reply, courses: Vec<Course>) -> Result<(), WireError> {
        self.say(answer);
        let told = self.client.flush(self.shared.timeouts.client).await;
        for course in courses {
            course.tell(Some(answer));
        }
        told
    }

    /// Each remote's message begins with our trace of it.
    fn trace(&self, client: &Client, courses: &mut [Course]) {
        for course in courses {
            if let Course::Going(body, attempt) = course {
                let hostname = &self.shared.us.hostname;
                let trace = Trace { client, origin: self.origin, hostname, id: attempt.id() };
                body.load(trace.line(OffsetDateTime::now_utc()).as_bytes());
            }
        }
    }

    /// From the first byte of the message to the last. What is still going then has all of it but its end.
    async fn carry(&mut self, passage: &mut Passage, courses: &mut [Course]) -> Result<(), WireError> {
        let mut most = BLOCK;
        loop {
            let scan = passage.scanner.scan(&mut self.client.input, &mut passage.block);
            // A remote may take its time, and the block that is on its way to it is all that is held then.
            self.client.release();
            if scan != Scan::More {
                self.load(&scan, passage, courses);
                return Ok(());
            }
            // Our trace alone is no reason to send something.
            if !passage.block.is_empty() {
                self.send(passage, courses).await;
            }
            // With nobody left the rest is read all the same, so that the next command is read as a command.
            self.client.fill_up_to(most, self.shared.timeouts.client).await?;
            // In a stream that flows each call to the system should be worth it.
            most = self.client.input.len().saturating_mul(2).clamp(BLOCK, FLOWING);
        }
    }

    /// Sends the lines that were scanned last to all legs.
    async fn send(&self, passage: &mut Passage, courses: &mut [Course]) {
        let block = self.checked(&Scan::More, passage, courses);
        join_all(courses.iter_mut().map(|course| course.send(&block))).await;
    }

    /// The message has ended: the lines that were scanned last are to go with its end.
    fn load(&self, scan: &Scan, passage: &mut Passage, courses: &mut [Course]) {
        let block = self.checked(scan, passage, courses);
        courses.iter_mut().for_each(|course| course.load_last(&block));
    }

    /// Takes the lines that were scanned last out of the passage, and stops the legs that must not have them.
    fn checked(&self, scan: &Scan, passage: &mut Passage, courses: &mut [Course]) -> BytesMut {
        let Passage { scanner, hasher, refused, block } = passage;
        if let Some(hasher) = hasher {
            hasher.update(block);
        }
        if let Some(declined) = self.refuse(scanner, scan) {
            courses.iter_mut().for_each(|course| course.stop(declined.clone()));
            refused.get_or_insert(declined.answer);
        }
        for course in courses {
            course.stop_if_lacking(block, scanner);
        }
        std::mem::take(block)
    }

    /// Why a message that has come so far cannot be passed on.
    fn refuse(&self, scanner: &DataScanner, scan: &Scan) -> Option<Declined> {
        let most = self.shared.us.size;
        if let Scan::Rejected(offence) = scan {
            return Some(Declined::by_us(offence.label(), offence.reply()));
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
}

/// The message as it was read to its end.
pub(super) enum Ended {
    /// Refused for all recipients; the answers of their remotes do not count.
    Refused(Reply),
    /// It has these octets and a Message-ID, and may have a record.
    Known(ContentDigest),
    /// It has no record.
    Unknown,
}

impl Passage {
    fn new(scanner: DataScanner, hasher: Option<ContentHasher>) -> Self {
        Self { scanner, hasher, refused: None, block: BytesMut::new() }
    }

    fn ended(self) -> Ended {
        match (self.refused, self.hasher) {
            (Some(refused), _) => Ended::Refused(refused),
            (None, Some(hasher)) if self.scanner.has_message_id() => Ended::Known(hasher.finish()),
            (None, _) => Ended::Unknown,
        }
    }
}

/// The hasher for the key of a message, if its recipients get one reply and may have several outcomes.
fn hasher(answers: Answers, parties: &[Party]) -> Option<ContentHasher> {
    match answers {
        Answers::FanOut if parties.len() > 1 => Some(ContentHasher::default()),
        Answers::FanOut | Answers::Once | Answers::PerRecipient | Answers::Prdr => None,
    }
}

impl Course {
    fn stopped(declined: Declined, attempt: Attempt) -> Self {
        Self::Stopped(declined.with_id(attempt.id()), attempt)
    }

    pub(super) fn is_going(&self) -> bool {
        match self {
            Self::Going(..) => true,
            Self::Idle | Self::Delivered(..) | Self::Stopped(..) | Self::Lost(_) => false,
        }
    }

    /// What its recipients are told, if that is known.
    pub(super) fn answer(&self) -> Option<&Reply> {
        match self {
            Self::Delivered(answer, _) | Self::Stopped(Declined { answer, .. }, _) | Self::Lost(answer) => Some(answer),
            Self::Idle | Self::Going(..) => None,
        }
    }

    /// RFC 6152 §3: never 8-bit octets to a server that does not say it takes them, declared or not. RFC
    /// 6531 §3.5: nor the header of an internationalised message; without SMTPUTF8 in MAIL, such a header is 8-bit mail.
    fn stop_if_lacking(&mut self, block: &[u8], scanner: &DataScanner) {
        let Self::Going(body, attempt) = self else { return };
        let extensions = &body.terms().extensions;
        let takes = extensions.takes();
        let holds = if attempt.declared() == Content::International && scanner.has_international_header() {
            Content::International
        } else if (takes == Content::Ascii || attempt.has_condition()) && !block.is_ascii() {
            Content::EightBit
        } else {
            return;
        };
        attempt.shows(holds);
        if holds > takes {
            let lacking = match holds {
                Content::International if !extensions.smtp_utf8 => Lacking::SmtpUtf8Header,
                Content::International | Content::EightBit | Content::Ascii => Lacking::EightBitMime,
            };
            let declined = attempt.lacking(lacking, body.peer());
            self.stop(declined);
        }
    }

    /// Takes the next bytes of the message, to go with those behind them.
    fn load(&mut self, block: &[u8]) {
        if let Self::Going(body, _) = self {
            body.load(block);
        }
    }

    /// Takes the last bytes of the message, to go with its end.
    fn load_last(&mut self, block: &[u8]) {
        self.load(block);
        if let Self::Going(body, _) = self {
            body.ends();
        }
    }

    /// Sends the next bytes of the message.
    async fn send(&mut self, block: &[u8]) {
        if let Self::Going(body, _) = self
            && let Err(stop) = body.send(block).await
        {
            let declined = stopped(stop, body.peer());
            self.stop(declined);
        }
    }

    /// The message goes no further here. Its body is dropped, not finished: the remote sees a reset.
    pub(super) fn stop(&mut self, declined: Declined) {
        *self = match std::mem::replace(self, Self::Idle) {
            Self::Going(_, attempt) => Self::stopped(declined, attempt),
            other => other,
        };
    }

    /// The recipients have an outcome of an earlier attempt. The body is dropped, not finished: the remote sees a reset.
    pub(super) fn withhold(&mut self) {
        match std::mem::replace(self, Self::Idle) {
            Self::Going(_, attempt) => attempt.withheld(),
            other => *self = other,
        }
    }

    fn octets(&mut self, octets: u64) {
        match self {
            Self::Going(_, attempt) | Self::Stopped(_, attempt) | Self::Delivered(_, attempt) => attempt.octets(octets),
            Self::Idle | Self::Lost(_) => {}
        }
    }

    fn client_lost(self, gone: &WireError) {
        match self {
            Self::Going(_, attempt) | Self::Stopped(_, attempt) | Self::Delivered(_, attempt) => {
                attempt.client_lost(gone);
            }
            Self::Idle | Self::Lost(_) => {}
        }
    }

    /// The end of the attempt, with the answer that the client was given, if it was not this one's own.
    pub(super) fn tell(self, given: Option<&Reply>) {
        match self {
            Self::Delivered(answer, attempt) => attempt.delivered(&answer),
            Self::Stopped(Declined { reason, answer, .. }, attempt) => {
                attempt.answered(reason, given.unwrap_or(&answer))
            }
            // Those who were lost before were told then; nothing that is going has ended.
            Self::Idle | Self::Lost(_) | Self::Going(..) => {}
        }
    }
}

/// DATA, or what stands for it, at a remote that has accepted somebody: the message may come, or not.
async fn start(leg: Leg<Upstream>, framing: Framing) -> Course {
    let Upstream { ready, mut attempt } = match (leg.way, leg.accepted) {
        (Way::Open(upstream), 1..) => upstream,
        (Way::Open(upstream), 0) => {
            upstream.release();
            return Course::Idle;
        }
        (Way::Closed(answer), 1..) => return Course::Lost(answer),
        (Way::Closed(_), 0) | (Way::Unknown, _) => return Course::Idle,
    };
    let peer = ready.peer().clone();
    match ready.message(framing).await {
        Ok(Started::Body(body)) => {
            attempt.message_begins();
            Course::Going(body, attempt)
        }
        Ok(Started::Refused(ready, reply)) => {
            ready.release();
            Course::stopped(Declined::by_remote("data-refused", reply.relayed(&peer)), attempt)
        }
        Err(reason) => Course::stopped(Declined::broke(&peer, &reason), attempt),
    }
}

/// The end of data, and the remote's answer to it: the only place where a message can become delivered.
pub(super) async fn finish((leg, course): (usize, Course)) -> (usize, Course) {
    let Course::Going(body, mut attempt) = course else { return (leg, course) };
    attempt.undecided();
    let peer = body.peer().clone();
    let course = match body.finish().await {
        Ok((reply, ready)) => {
            ready.release();
            // What counts is what the client is told: a 221 is a success of something else, and the client hears 451.
            let answer = reply.relayed(&peer);
            attempt.decided(&answer);
            if answer.code().is_success() {
                Course::Delivered(answer, attempt)
            } else {
                Course::stopped(Declined::by_remote("message-refused", answer), attempt)
            }
        }
        Err(stop) => Course::stopped(stopped(stop, &peer), attempt),
    };
    (leg, course)
}

fn stopped(stop: Stop, peer: &Peer) -> Declined {
    match stop {
        Stop::Answered(reply) => Declined::by_remote("message-refused", reply.relayed(peer)),
        Stop::Failed(reason) => Declined::broke(peer, &reason),
    }
}
