//! The records in which recipients of a fan-out message have a final outcome. A shared store is asked once for all recipients that
//! the client has pipelined: one after the other would be as many round trips.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{MAX_COMMAND_OCTETS, Session};
use crate::dns::Resolver;
use crate::journal::{Pair, RecordId};
use crate::refusal::OwnRefusal;
use crate::smtp::command::Command;
use crate::smtp::line::LineDecoder;
use crate::transaction::dialogue::Step;
use crate::wire::{BLOCK, WireError};

/// The records of recipients whose commands are still to be read.
pub(super) type RecordsAhead = BTreeMap<Pair, Vec<RecordId>>;

impl<R: Resolver, S: AsyncRead + AsyncWrite + Unpin> Session<R, S> {
    pub(super) async fn step(&mut self, command: Command) -> Result<Step, WireError> {
        Ok(match self.records_for(&command).await? {
            Ok(records) => self.dialogue.step(command, records),
            Err(refusal) => self.dialogue.decline(refusal.reply()),
        })
    }

    /// The records in which the recipient of a command has a final outcome. A shared store may take a moment.
    async fn records_for(&mut self, command: &Command) -> Result<Result<Vec<RecordId>, OwnRefusal>, WireError> {
        let Some(recipient) = self.dialogue.asks_for_records(command) else {
            self.ahead.clear();
            return Ok(Ok(Vec::new()));
        };
        // A recipient may be repeated. The next other command clears them all.
        if let Some(records) = self.ahead.get(&recipient).cloned() {
            return Ok(Ok(records));
        }
        let mut recipients = vec![recipient];
        if self.shared.journal.store().is_shared() {
            recipients.extend(self.pipelined_recipients().await);
        }
        let journal = self.shared.journal.tagged(self.dialogue.tag_of_mail());
        // On the heap: only fan-out asks, and a session that waits has no room for the queries of a database.
        let asked = Box::pin(async move { journal.served_each(&recipients).await });
        let served = self.meanwhile(asked).await?;
        Ok(match served {
            Ok(served) => {
                self.ahead = served;
                Ok(self.ahead.get(&recipient).cloned().unwrap_or_default())
            }
            // The store tells of its errors itself, once a minute.
            Err(_) => Err(OwnRefusal::StoreDown),
        })
    }

    /// The recipients of the commands that have arrived, up to the first other command. They stay to be read.
    async fn pipelined_recipients(&mut self) -> Vec<Pair> {
        loop {
            let before = self.client.input.len();
            // The end of the stream is seen again by the next read.
            let _ = self.client.fill_ready().await;
            let after = self.client.input.len();
            if after == before || after >= BLOCK {
                break;
            }
        }
        let (mut lines, mut input) = (LineDecoder::new(MAX_COMMAND_OCTETS), self.client.input.clone());
        let grammar = self.grammar();
        let read = || lines.decode(&mut input).and_then(|line| grammar.read(&line).ok());
        std::iter::from_fn(read).map_while(|command| self.dialogue.asks_for_records(&command)).collect()
    }
}
