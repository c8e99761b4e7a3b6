//! Remotes that take less than the mail may hold.
//!
//! Many clients declare 8BITMIME and SMTPUTF8 for any mail, so a missing extension alone is no reason to refuse. A
//! host that has the extensions is preferred (RFC 5321 §2.2.3): another address of the exchange, or another exchange. If
//! none can be had, the mail goes to one without them, and MAIL leaves the parameters out. A later recipient or the message
//! itself may still turn out to need more than this remote takes. The answer is that of the iteration then ([`Unmet`]): for
//! good if every address of every exchange was seen to lack it, for now if one of them was not asked or not reached. The
//! next try prefers an address that has it, so such mail does not wait for ever. Mail with `TLS-Required: No` (RFC 8689 §4.1) is
//! known again by its MAIL: once it has shown to hold more than the hosts take that met their policy, they are no way for it.

use std::sync::Arc;

use super::candidate::Candidate;
use super::laps::{AfterLap, Lap};
use super::{MxIteration, WaiverState};
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::{TlsPolicy, Waiver};
use crate::refusal::{Lacking, Peer, Reason, Refusal, Refusals};
use crate::smtp::command::Mail;
use crate::smtp::extensions::{Content, Extensions};
use crate::upstream::bounded_memory::{EightBitDomains, WaivedMail, WaivedMails};
use crate::upstream::verified::Ready;

/// The content of the mail, as far as it is known before the message comes.
#[derive(Debug, Default)]
pub(super) struct MailContent {
    /// The content that the client has declared.
    declared: Content,
    /// The content that a remote should take: that, or more if earlier mail needed it.
    wanted: Content,
    /// The content that an earlier try of this mail has shown, if it may go at a lower level: a remote must take it.
    pub(super) shown: Content,
    /// The mail as its next try is known again, if it may go at a lower level.
    waived: Option<WaivedMail>,
}

/// An address that takes the mail if the mail holds no more than this.
#[derive(Debug)]
pub(super) struct Lesser {
    pub(super) peer: Peer,
    pub(super) policy: TlsPolicy,
    takes: Content,
    met: PolicyMet,
}

/// The order of addresses that take less. In mode `observe` those that have met their policy come before the others, for
/// enforcing would have gone to them. Before all that come those which take the content that the mail has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LesserRank {
    pub(super) of_shown: Content,
    pub(super) met: PolicyMet,
    pub(super) takes: Content,
}

/// Whether a remote has met the policy itself, or only the weaker level of a waiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PolicyMet {
    /// It has not: enforcing would have passed it over.
    No,
    /// It has.
    Yes,
}

impl Lesser {
    pub(super) fn rank(&self, shown: Content) -> LesserRank {
        LesserRank { of_shown: self.takes.min(shown), met: self.met, takes: self.takes }
    }
}

/// The verdict of the iteration for mail that turns out to need more than the remote takes.
#[derive(Debug)]
pub struct Unmet {
    /// The refusal of each exchange and address.
    refusals: Refusals,
    /// The number of those that hold even if the remote does not take the transaction. The others are about that one, and about those
    /// that are not asked if it does.
    lasting: usize,
    /// Where the next try is told of a need that the client had not declared.
    undeclared: Option<(Arc<EightBitDomains>, Name)>,
    /// The memory that tells the next try of the mail's content, if the mail may go at a lower level.
    waived: Option<(Arc<WaivedMails>, WaivedMail)>,
}

impl Unmet {
    /// The refusals of mail that lacks this. Its next try is told, if there may be a remote for it.
    pub fn lack(&mut self, lacking: Lacking) -> &Refusals {
        self.refusals.lack(lacking);
        if !self.refusals.verdict().code().is_permanent() {
            if let Some((domains, domain)) = &self.undeclared {
                domains.note(domain);
            }
            if let (Some((mails, mail)), Some(holds)) = (&self.waived, shown_by(&lacking)) {
                mails.note(&mail.holding(holds));
            }
        }
        &self.refusals
    }
}

impl<R: Resolver> MxIteration<'_, R> {
    /// The iteration prefers remotes that take all that this mail may hold.
    #[must_use]
    pub fn for_mail(mut self, mail: &Mail) -> Self {
        let (connector, domain) = (self.connector, self.request.domain);
        let waived = match self.waiver {
            Waiver::None | Waiver::Observe => None,
            Waiver::TlsRequiredNo => Some(WaivedMail::new(domain, mail)),
        };
        let shown = waived.as_ref().map_or(Content::Ascii, |mail| connector.waived.shown(mail));
        let declared = mail.declares();
        let wanted = declared.max(connector.eight_bit.undeclared(domain)).max(shown);
        self.content = MailContent { declared, wanted, shown, waived };
        self
    }

    /// Whether the mail goes to the remote that was found last; and the verdict for more than that takes, if there may be more.
    ///
    /// # Errors
    /// The extension that the remote lacks, and another host should be asked for first.
    pub fn accept(&mut self, ready: &Ready) -> Result<Option<Box<Unmet>>, Lacking> {
        let offered = &ready.terms().extensions;
        let (takes, wanted) = (offered.takes(), self.content.wanted);
        if takes < wanted && !self.goes_to_lesser(ready, takes) {
            return Err(lacking(wanted, offered));
        }
        let of_this_one = match self.lap {
            Lap::First if takes < self.content.declared.max(Content::EightBit) => {
                self.if_it_lacks(ready.peer(), lacking(wanted.max(Content::EightBit), offered))
            }
            Lap::First => return Ok(None),
            // It took more a moment ago, and may again.
            Lap::Second { rank, .. } if takes < rank.takes => Refusal::domain(Reason::NotAsked(1)).into(),
            Lap::Second { .. } => Refusals::default(),
        };
        let mut refusals = std::mem::take(self.of_first_lap());
        let lasting = refusals.iter().count();
        refusals.extend(of_this_one);
        let refusals = self.deferred_under_sts(refusals);
        let domains = Arc::clone(&self.connector.eight_bit);
        let undeclared = (wanted == Content::Ascii).then(|| (domains, self.request.domain.clone()));
        let waived = self.content.waived.clone().map(|mail| (Arc::clone(&self.connector.waived), mail));
        Ok(Some(Box::new(Unmet { refusals, lasting, undeclared, waived })))
    }

    /// Takes back the verdict on a remote that does not take the transaction.
    pub fn take_back(&mut self, unmet: Unmet) {
        let Unmet { mut refusals, lasting, .. } = unmet;
        refusals.truncate(lasting);
        *self.of_first_lap() = refusals;
    }

    /// Whether the mail goes to this remote for an extension that it may not need, past others that take it without. The
    /// others come first in the order of RFC 5321 §5.1, so a refusal by this one leads back to them.
    pub fn is_detour(&self, peer: &Peer) -> bool {
        match self.lap {
            Lap::First => self.lesser.iter().any(|lesser| lesser.peer != *peer),
            Lap::Second { .. } => false,
        }
    }

    /// The most that a host takes which takes less, and to which enforcing would have gone.
    pub fn enforced_takes(&self) -> Option<Content> {
        let met = self.lesser.iter().filter(|lesser| lesser.met == PolicyMet::Yes);
        met.map(|lesser| lesser.takes).max()
    }

    /// Whether the mail goes to a remote that takes less: in a second lap, or where the first one is over and the second would come
    /// back to it at once.
    fn goes_to_lesser(&mut self, ready: &Ready, takes: Content) -> bool {
        match self.lap {
            Lap::Second { .. } => true,
            Lap::First => {
                let is_best = self.note_lesser(ready, takes);
                is_best && self.others() == 0 && matches!(self.after_lap(&self.refusals), AfterLap::SecondLap(_))
            }
        }
    }

    /// Writes down a remote that takes less. Whether it is better than those before.
    fn note_lesser(&mut self, ready: &Ready, takes: Content) -> bool {
        let (peer, policy) = (ready.peer().clone(), ready.terms().policy.clone());
        let met = match self.waiver_state {
            WaiverState::Used(_) => PolicyMet::No,
            WaiverState::None | WaiverState::Open(_) => PolicyMet::Yes,
        };
        // It may come twice, over a new session in the place of one that waited.
        self.lesser.retain(|lesser| lesser.peer != peer || lesser.met > met);
        // RFC 5321 §5.1: of equal exchanges the first gets the mail. No address of an exchange is preferred to another.
        let is_as_good = |lesser: &Lesser| lesser.takes == takes && lesser.met == met;
        let is_best = self
            .lesser
            .iter()
            .all(|lesser| lesser.takes < takes || (lesser.peer.exchange == peer.exchange && is_as_good(lesser)));
        self.lesser.push(Lesser { peer, policy, takes, met });
        is_best
    }

    /// The refusals of the first lap. A second one has others.
    fn of_first_lap(&mut self) -> &mut Refusals {
        match &mut self.lap {
            Lap::First => &mut self.refusals,
            Lap::Second { first, .. } => first,
        }
    }

    /// The refusals of mail for which the remote that was found last lacks this: its own, and those of all that were not asked.
    fn if_it_lacks(&self, peer: &Peer, lacking: Lacking) -> Refusals {
        let mut refusals = Refusals::from(Refusal::peer(peer, lacking));
        let not_dialled = self.candidate.iter().flat_map(Candidate::not_dialled);
        not_dialled.for_each(|refusal| refusals.push(refusal));
        // Those beyond the configured bounds included.
        let not_asked = self.others() + self.resolved.as_ref().map_or(0, |resolved| resolved.route.untried());
        if not_asked > 0 {
            refusals.push(Refusal::domain(Reason::NotAsked(not_asked)));
        }
        refusals
    }
}

/// The extension that a remote lacks for such content.
fn lacking(content: Content, offered: &Extensions) -> Lacking {
    match content {
        Content::International if !offered.smtp_utf8 => Lacking::SmtpUtf8,
        Content::Ascii | Content::EightBit | Content::International => Lacking::EightBitMime,
    }
}

/// The content that mail has shown for which a remote lacks this.
fn shown_by(lacking: &Lacking) -> Option<Content> {
    match lacking {
        Lacking::EightBitMime => Some(Content::EightBit),
        Lacking::SmtpUtf8Header => Some(Content::International),
        // Addresses are known before a remote has the mail.
        Lacking::SmtpUtf8 => None,
        Lacking::Size(_) | Lacking::RequireTls | Lacking::Authentication => None,
    }
}
