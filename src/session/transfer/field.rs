//! A message that must have the field `TLS-Required: No` (RFC 8689 §4.1): no remote hears of it before its header shows the field.
//!
//! The remotes have taken the envelope. At DATA or the first chunk the message is held back, up to 64 KiB and one read, until its
//! header section has ended. Then each remote is asked for it, or left.

use super::Passage;
use crate::delivery::DestinationUpstream;
use crate::smtp::chunk::Framing;
use crate::smtp::data::Scan;
use crate::smtp::tls_required::{FieldScanner, FieldVerdict};

/// The look for the field.
pub(super) struct FieldGate {
    scanner: FieldScanner,
    /// The octets of the passage's block that it has read.
    read: usize,
    held: Option<HeldRemotes>,
}

/// The remotes of a message that is held back.
pub(super) struct HeldRemotes {
    pub(super) open: Vec<DestinationUpstream>,
    pub(super) framing: Framing,
}

impl FieldGate {
    /// Holds a message back from these remotes.
    pub(super) fn new(open: Vec<DestinationUpstream>, framing: Framing) -> Self {
        Self { scanner: FieldScanner::default(), read: 0, held: Some(HeldRemotes { open, framing }) }
    }

    /// Whether the message is known to lack the field.
    pub(super) fn is_missing(&self) -> bool {
        self.scanner.verdict() == FieldVerdict::Missing
    }

    /// The lines that were read were handed on.
    pub(super) fn taken(&mut self) {
        self.read = 0;
    }

    fn read(&mut self, block: &[u8], scan: &Scan) {
        self.scanner.read(block.get(self.read..).unwrap_or_default());
        self.read = block.len();
        match scan {
            Scan::More => {}
            Scan::End | Scan::Rejected(_) => self.scanner.end(),
        }
    }
}

impl Passage {
    /// Looks for the field in the lines that were scanned last. If the message was held back and is no longer: its remotes.
    pub(super) fn look(&mut self, scan: &Scan) -> Option<HeldRemotes> {
        let gate = self.gate.as_mut()?;
        gate.read(&self.block, scan);
        if gate.scanner.verdict() == FieldVerdict::Undecided && self.refuse(scan).is_none() {
            return None;
        }
        self.gate.as_mut()?.held.take()
    }

    /// Whether the lines that were scanned are held back.
    pub(super) fn is_held(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.held.is_some())
    }

    /// The remotes of a message that is held back.
    pub(super) fn held(&mut self) -> &mut [DestinationUpstream] {
        let held = self.gate.as_mut().and_then(|gate| gate.held.as_mut());
        held.map(|held| held.open.as_mut_slice()).unwrap_or_default()
    }

    /// The remotes of a message that is still held back, and goes no further.
    pub(super) fn take_held(&mut self) -> Vec<DestinationUpstream> {
        self.gate.take().and_then(|gate| gate.held).map(|held| held.open).unwrap_or_default()
    }
}
