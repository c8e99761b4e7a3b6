//! DATA, and with [`chunks`] BDAT: the message goes from the client to each remote as it comes.
//!
//! A message of any size takes the memory of one block for all remotes, and for each remote that of the same block under
//! TLS or as a chunk. The slowest remote sets the pace. Our 354 follows a remote's, our 2xx follows the 2xx of the remote
//! it speaks of, and if either side breaks in the middle, the remote sees a reset instead of an end of data. A remote that
//! fails takes its own recipients with it, and no others. A message that must have a field has our 354 first ([`field`]).

mod chunks;
mod field;

use bytes::BytesMut;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};

use super::events::reply;
use super::{Received, Session};
use crate::delivery::body::{Deliveries, Delivery};
use crate::delivery::declined::Declined;
use crate::delivery::received::{ReceivedLine, separation};
use crate::dns::Resolver;
use crate::journal::ContentHasher;
use crate::policy::ListenerMail;
use crate::refusal::OwnRefusal;
use crate::smtp::chunk::Framing;
use crate::smtp::data::{DataScanner, Scan};
use crate::smtp::reply::{Code, Reply};
use crate::transaction::{Event, FinalReply, ReadMessage, Transaction};
use crate::wire::{BLOCK, WireError};

/// The most of a message that is read at a time, while it comes faster than it goes.
const FLOWING: usize = 64 * 1024;

pub(super) use chunks::AfterChunks;
use field::{FieldGate, HeldRemotes};

/// RFC 5321 §6.3: more Received fields than any honest path has.
const MAX_HOPS: usize = 100;

/// One message as it passes.
pub(super) struct Passage {
    transaction: Transaction,
    deliveries: Deliveries,
    /// The most octets that we take.
    most: u64,
    scanner: DataScanner,
    /// None for a message that cannot have a record.
    hasher: Option<ContentHasher>,
    /// Why the message is refused for all recipients, if it is.
    refused: Option<Reply>,
    /// Lines that were scanned and not handed on yet.
    block: BytesMut,
    beginning: Beginning,
    /// The look for a field that the message must have.
    gate: Option<FieldGate>,
}

/// Whether the beginning of the message was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// It was not, and it must go with our Received line.
    BehindOurLine,
    /// It was, or there is no line of ours in front of it.
    Free,
}

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    /// Carries one message over, or replies with the reason why it is not wanted.
    pub(super) async fn data(&mut self, mut transaction: Transaction) -> Result<(), WireError> {
        let (open, left) = self.upstreams.accepting(&transaction);
        reply(&mut transaction, left, &mut self.client.output);
        let (deliveries, gate) = match self.caller.listener.terms.takes {
            ListenerMail::Any => (self.meanwhile(Deliveries::start(open, Framing::Data)).await?, None),
            ListenerMail::TlsRequiredNo => (Deliveries::default(), Some(FieldGate::new(open, Framing::Data))),
        };
        reply(&mut transaction, deliveries.started(), &mut self.client.output);
        if let Some(answer) = transaction.reply_to_data() {
            return self.refuse_all(&answer, deliveries).await;
        }
        self.say(&Reply::plain(Code::START_MAIL_INPUT, "End data with <CR><LF>.<CR><LF>"));
        self.client.flush(self.shared.client_timeout).await?;
        let mut passage = self.passage(transaction, deliveries, gate, DataScanner::new(self.shared.bare_newlines));
        let carried = self.carry(&mut passage).await;
        self.note_fields(&mut passage);
        match carried {
            Ok(()) => {
                let read = passage.ended(&mut self.client.output);
                self.conclude(read).await
            }
            Err(gone) => {
                passage.client_lost(&gone);
                Err(gone)
            }
        }
    }

    /// No message is wanted: the one answer to DATA.
    async fn refuse_all(&mut self, answer: &Reply, deliveries: Deliveries) -> Result<(), WireError> {
        self.say(answer);
        let told = self.client.flush(self.shared.client_timeout).await;
        for delivery in deliveries.into_all() {
            delivery.report(Some(answer));
        }
        told
    }

    /// The message on its way to these deliveries. Each remote's message begins with our Received line.
    fn passage(
        &self,
        transaction: Transaction,
        mut deliveries: Deliveries,
        gate: Option<FieldGate>,
        scanner: DataScanner,
    ) -> Passage {
        self.trace_field(&transaction, &mut deliveries);
        let hasher = transaction.may_have_record().then(ContentHasher::default);
        let most = self.shared.us.size;
        let beginning = match self.shared.received {
            Received::Add => Beginning::BehindOurLine,
            Received::Omit => Beginning::Free,
        };
        let (refused, block) = (None, BytesMut::new());
        Passage { transaction, deliveries, most, scanner, hasher, refused, block, beginning, gate }
    }

    /// Our Received line comes first.
    fn trace_field(&self, transaction: &Transaction, deliveries: &mut Deliveries) {
        let (client, hostname) = (&transaction.envelope.client, &self.shared.us.hostname);
        match self.shared.received {
            Received::Add => deliveries.all().iter_mut().for_each(|delivery| {
                let line = ReceivedLine { client, origin: self.caller.origin, hostname, id: delivery.attempt.id() };
                delivery.load(line.line(OffsetDateTime::now_utc()).as_bytes());
            }),
            Received::Omit => {}
        }
    }

    /// Looks for the field that the message must have. Once that is decided, the remotes of a message that was held back are
    /// asked for it, or left.
    async fn admit(&mut self, passage: &mut Passage, scan: &Scan) -> Result<(), WireError> {
        passage.note_octets();
        match passage.look(scan) {
            // On the heap: few messages have to show a field.
            Some(held) => Box::pin(self.let_pass(passage, held, scan)).await,
            None => Ok(()),
        }
    }

    async fn let_pass(&mut self, passage: &mut Passage, held: HeldRemotes, scan: &Scan) -> Result<(), WireError> {
        let HeldRemotes { open, framing } = held;
        passage.deliveries = match passage.refuse(scan).map(Declined::own) {
            Some(declined) => Deliveries::decline(open, &declined),
            None => self.meanwhile(Deliveries::start(open, framing)).await?,
        };
        self.trace_field(&passage.transaction, &mut passage.deliveries);
        reply(&mut passage.transaction, passage.deliveries.started(), &mut self.client.output);
        Ok(())
    }

    /// Each attempt has the names of the message, and whether the message says that it once had a tag. A field that means
    /// nothing here is counted.
    fn note_fields(&self, passage: &mut Passage) {
        let (names, was_tagged) = (passage.scanner.names(), passage.scanner.was_tagged());
        for Delivery { attempt, .. } in passage.deliveries.all() {
            attempt.note_names(&names);
            if was_tagged {
                attempt.note_lost_tag();
            }
        }
        match self.caller.listener.terms.takes {
            ListenerMail::Any if passage.scanner.has_tls_required() => {
                self.shared.reporter.metrics().tls_required_no("ignored");
            }
            ListenerMail::Any | ListenerMail::TlsRequiredNo => {}
        }
    }

    /// From the first byte of the message to the last. Deliveries that have not stopped then have all of it but its end.
    async fn carry(&mut self, passage: &mut Passage) -> Result<(), WireError> {
        let mut most = BLOCK;
        loop {
            let scan = passage.scanner.scan(&mut self.client.input, &mut passage.block);
            // A remote may take its time, and the block that is on its way to it is all that is held then.
            self.client.release();
            self.admit(passage, &scan).await?;
            if scan != Scan::More {
                passage.load(&scan);
                return Ok(());
            }
            // Our Received line alone is no reason to send a block.
            if !passage.block.is_empty() && !passage.is_held() {
                let sent = passage.send().await;
                if most == FLOWING {
                    self.client.reuse(sent, FLOWING);
                }
            }
            // With no destination left the rest is read all the same, so that the next command is read as a command.
            self.client.fill_up_to(most, self.shared.client_timeout).await?;
            // In a stream that flows each call to the system should be worth it.
            if self.client.input.len() >= BLOCK {
                most = FLOWING;
            }
        }
    }
}

impl Passage {
    /// Each attempt has the number of octets that were read, however it ends.
    fn note_octets(&mut self) {
        let octets = self.scanner.octets();
        self.deliveries.all().iter_mut().for_each(|delivery| delivery.attempt.note_octets(octets));
        self.held().iter_mut().for_each(|open| open.upstream.attempt.note_octets(octets));
    }

    /// Sends the lines that were scanned last to all destinations, and returns their block.
    async fn send(&mut self) -> BytesMut {
        if self.beginning == Beginning::BehindOurLine && separation(&self.block).is_none() {
            return BytesMut::new();
        }
        let block = self.checked(&Scan::More);
        self.deliveries.send(&block).await;
        block
    }

    /// The message has ended: the lines that were scanned last are to go with its end.
    fn load(&mut self, scan: &Scan) {
        let block = self.checked(scan);
        self.deliveries.all().iter_mut().for_each(|delivery| delivery.load_last(&block));
    }

    /// Takes the lines that were scanned last out of the passage, and stops the deliveries that must not have them.
    fn checked(&mut self, scan: &Scan) -> BytesMut {
        if self.beginning == Beginning::BehindOurLine {
            self.beginning = Beginning::Free;
            let put = separation(&self.block).unwrap_or_default();
            self.deliveries.all().iter_mut().for_each(|delivery| delivery.load(put));
        }
        let declined = self.refuse(scan);
        let Self { deliveries, scanner, hasher, refused, block, .. } = self;
        if let Some(hasher) = hasher {
            hasher.update(block);
        }
        if let Some(declined) = declined.map(Declined::own) {
            deliveries.all().iter_mut().for_each(|delivery| delivery.stop(declined.clone()));
            refused.get_or_insert(declined.answer);
        }
        for delivery in deliveries.all() {
            delivery.stop_if_lacking(block, scanner);
        }
        self.gate.iter_mut().for_each(FieldGate::taken);
        std::mem::take(&mut self.block)
    }

    /// Why a message that has come so far cannot be passed on.
    fn refuse(&self, scan: &Scan) -> Option<OwnRefusal> {
        let Self { most, scanner, .. } = self;
        if let Scan::Rejected(offence) = scan {
            return Some(OwnRefusal::Content(*offence));
        }
        if scanner.octets() > *most {
            return Some(OwnRefusal::TooLarge(*most));
        }
        if scanner.received_headers() > MAX_HOPS {
            return Some(OwnRefusal::TooManyHops);
        }
        self.gate.as_ref().filter(|gate| gate.is_missing()).map(|_| OwnRefusal::TlsRequiredMissing)
    }

    /// The client has gone.
    fn client_lost(mut self, gone: &WireError) {
        self.take_held().into_iter().for_each(|open| open.client_lost(gone));
        self.deliveries.client_lost(gone);
    }

    /// The transaction hears of deliveries that have stopped.
    fn hear(&mut self, output: &mut BytesMut) {
        let stopped = self.deliveries.all().iter().filter_map(Delivery::reply);
        let events = stopped.map(|FinalReply { destination, reply }| Event::Failed(destination, reply));
        reply(&mut self.transaction, events, output);
    }

    /// The message has ended. The transaction hears of deliveries that have stopped before.
    fn ended(mut self, output: &mut BytesMut) -> ReadToEnd {
        self.hear(output);
        let content = self.hasher.filter(|_| self.scanner.has_message_id()).map(ContentHasher::finish);
        let message = match (self.refused, content) {
            (Some(refused), _) => ReadMessage::Refused(refused),
            (None, Some(content)) => ReadMessage::Identified(content),
            (None, None) => ReadMessage::Unidentified,
        };
        ReadToEnd { transaction: self.transaction, deliveries: self.deliveries, message }
    }
}

/// A message that was read to its end.
pub(super) struct ReadToEnd {
    pub(super) transaction: Transaction,
    pub(super) deliveries: Deliveries,
    pub(super) message: ReadMessage,
}
