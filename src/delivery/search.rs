//! The search for a remote that takes all that the client has declared; without one, for the remote that takes the most.
//!
//! Many clients declare 8BITMIME and SMTPUTF8 for any mail, so a missing extension alone is no reason to refuse. A
//! host that has the extensions is preferred (RFC 5321 §2.2.3): another address of the exchange, or another exchange. If
//! none can be had, the mail goes to one without them, and MAIL leaves the parameters out. A later recipient or the message
//! itself may still turn out to need more than this remote takes. The answer is that of the search then ([`Unmet`]): for
//! good if every address of every exchange was seen to lack it, for now if one of them was not asked or not reached. The
//! next try prefers an address that has it, so such mail does not wait for ever. Mail with `TLS-Required: No` (RFC 8689 §4.1) is
//! known again by its MAIL: once it has shown to hold more than the hosts take that met their policy, they are no way for it.
//!
//! | the host with the extension | the host without | mail | goes |
//! |---|---|---|---|
//! | has met its policy | any | any | to the first |
//! | fails in TLS | has met its policy | enforced, or `TLS-Required: No` | to the second, if it needs no more |
//! | fails in TLS | has met its policy | `TLS-Required: No`, and an earlier try has shown that it needs more | to the first |
//! | fails in TLS | has met its policy | in mode `observe` | to the first |
//! | fails in TLS | fails in TLS | enforced | nowhere for now |
//! | fails in TLS | fails in TLS | in mode `observe`, or `TLS-Required: No` | to the first |

use std::sync::Arc;

use super::attempt::Attempt;
use super::declined::Declined;
use crate::dns::Resolver;
use crate::name::Name;
use crate::policy::{TlsPolicy, Waiver};
use crate::refusal::{Lacking, Peer, Reason, Refusal, Refusals, Stage};
use crate::requiretls::TagUnmet;
use crate::smtp::address::{Mailbox, SmtpUtf8};
use crate::smtp::command::{Mail, Prdr, RequireTls};
use crate::smtp::extensions::{Content, Extensions, SizeLimit};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::transaction::Addressee;
use crate::upstream::bounded_memory::{EightBitDomains, WaivedMail, WaivedMails};
use crate::upstream::verified::Ready;
use crate::upstream::{MxIteration, PolicyMet};

/// One transaction's search.
pub(crate) struct Search<'a, R> {
    iteration: MxIteration<'a, R>,
    mail: &'a Mail,
    /// The content that a remote should take.
    wanted: Content,
    /// The content that an earlier try of this mail has shown, if it may go at a lower level: a remote must take it.
    shown: Content,
    /// Addresses that take the mail, and less than that.
    lesser: Vec<Lesser>,
    lap: Lap,
    unmet: Option<Unmet>,
}

/// An address that takes the mail if the mail needs no more than this.
struct Lesser {
    peer: Peer,
    policy: TlsPolicy,
    takes: Content,
    met: PolicyMet,
}

/// The order of addresses that take less. In mode `observe` those that have met their policy come before the others, for
/// enforcing would have gone to them. Before all that come those which take the content that the mail has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LesserRank {
    of_shown: Content,
    met: PolicyMet,
    takes: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lap {
    /// For all that was declared.
    First,
    /// For less, along the addresses of the highest rank.
    Second(LesserRank),
}

/// The rest of a search after a lap in which no remote was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterLap {
    /// Along the addresses that take less.
    SecondLap,
    /// The lower level of a waiver.
    Waive,
    /// None.
    End,
}

/// The verdict of the search for mail that turns out to need more than the remote takes.
#[derive(Debug)]
pub(crate) struct Unmet {
    /// The refusal of each exchange and address.
    refusals: Refusals,
    /// Where the next try is told of a need that the client had not declared.
    undeclared: Option<(Arc<EightBitDomains>, Name)>,
    /// The memory that tells the next try of the mail's content, if the mail may go at a lower level.
    waived: Option<(Arc<WaivedMails>, WaivedMail)>,
}

impl Unmet {
    /// The answer to such mail.
    pub(crate) fn declined(&mut self, lacking: Lacking) -> Declined {
        self.refusals.lack(lacking);
        // A rule does not give a remote an extension, at any level.
        let declined = Declined::by_all(&self.refusals, None);
        if declined.answer.code().is_permanent() {
            return declined;
        }
        if let Some((domains, domain)) = &self.undeclared {
            domains.note(domain);
        }
        if let (Some((mails, mail)), Some(holds)) = (&self.waived, shown_by(&lacking)) {
            mails.note(&mail.holding(holds));
        }
        declined
    }
}

impl<'a, R: Resolver> Search<'a, R> {
    /// For a remote for this mail. `undeclared` is a need that earlier mail to the domain had and did not declare.
    pub(crate) fn new(iteration: MxIteration<'a, R>, mail: &'a Mail, undeclared: Content) -> Self {
        let (lesser, lap, unmet, shown) = (Vec::new(), Lap::First, None, Content::Ascii);
        let mut search = Self { iteration, mail, wanted: mail.declares().max(undeclared), shown, lesser, lap, unmet };
        if let Some((mails, mail)) = search.next_try() {
            search.shown = mails.shown(&mail);
            search.wanted = search.wanted.max(search.shown);
        }
        search
    }

    /// The way it goes.
    pub(crate) fn iteration(&self) -> &MxIteration<'a, R> {
        &self.iteration
    }

    /// The next remote that has met its policy, or the lower level of a waiver.
    ///
    /// # Errors
    /// As of [`MxIteration::next`].
    pub(crate) async fn next(&mut self) -> Result<Ready, Refusals> {
        loop {
            let refusals = match self.iteration.next_at_level().await {
                Ok(ready) => return Ok(ready),
                Err(refusals) => self.of_both_laps(refusals),
            };
            match self.then(&refusals) {
                AfterLap::SecondLap => self.again(refusals),
                AfterLap::Waive => self.waive(refusals),
                AfterLap::End => return Err(refusals),
            }
        }
    }

    /// The rest of a search of which a lap has ended with these refusals.
    fn then(&self, refusals: &Refusals) -> AfterLap {
        let has_lesser = self.lap == Lap::First && !self.lesser.is_empty();
        match (self.iteration.waiver_for(refusals), has_lesser) {
            // The mode refuses no mail that an ordinary server delivers, so the mail first looks for a host with the extension.
            (Waiver::Observe, _) => AfterLap::Waive,
            // The mail has come before, and these could not take it. Only for want of TLS or a proof it does not go to another.
            (Waiver::TlsRequiredNo, true) if self.lesser.iter().all(|lesser| lesser.takes < self.shown) => {
                AfterLap::Waive
            }
            // RFC 8689 §4.1 waives a failure of TLS, and a missing extension is none: hosts that have met their policy come
            // first, as for any other mail.
            (Waiver::None | Waiver::TlsRequiredNo, true) => AfterLap::SecondLap,
            (Waiver::TlsRequiredNo, false) => AfterLap::Waive,
            (Waiver::None, false) => AfterLap::End,
        }
    }

    /// No better exchange was found: once more along those that take the most.
    fn again(&mut self, refusals: Refusals) {
        let Some(best) = self.lesser.iter().map(|lesser| rank(lesser, self.shown)).max() else { return };
        let these = self.lesser.iter().filter(|lesser| rank(lesser, self.shown) == best);
        self.unmet = Some(Unmet { refusals, undeclared: None, waived: self.next_try() });
        self.lap = Lap::Second(best);
        self.iteration.second_lap(best.met, these.map(|lesser| (lesser.peer.clone(), lesser.policy.clone())));
    }

    /// The mail goes on at a lower level. The addresses of a second lap have had their turn.
    fn waive(&mut self, refusals: Refusals) {
        if let Lap::Second(_) = self.lap {
            self.lesser.clear();
        }
        self.lap = Lap::First;
        self.iteration.waive(refusals);
    }

    /// All that is known once a second lap has ended with these refusals. It has the last word on its own addresses. Others
    /// that take less were not asked again, and would have taken the mail if it needs no more.
    fn of_both_laps(&mut self, second: Refusals) -> Refusals {
        let (Lap::Second(best), Some(Unmet { refusals: mut first, .. })) = (self.lap, self.unmet.take()) else {
            return second;
        };
        let asked: Vec<_> =
            self.lesser.iter().filter(|lesser| rank(lesser, self.shown) == best).map(|lesser| &lesser.peer).collect();
        let others: Vec<_> =
            self.lesser.iter().map(|lesser| &lesser.peer).filter(|peer| !asked.contains(peer)).collect();
        others.iter().for_each(|peer| first.forget_lacking(peer));
        asked.iter().for_each(|peer| first.forget(peer));
        if !others.is_empty() {
            first.push(Refusal::domain(Reason::NotAsked(others.len())));
        }
        first.followed_by(second)
    }

    /// A remote was reached: the account has the way to it.
    pub(crate) fn reached(&self, attempt: &mut Attempt, ready: &Ready) {
        let before = self.unmet.iter().flat_map(|unmet| unmet.refusals.iter());
        attempt.reached(ready, before.chain(self.iteration.skipped().iter()));
        attempt.sts(self.iteration.sts(Some(ready)));
        let met = self.lesser.iter().filter(|lesser| lesser.met == PolicyMet::Yes);
        if let Some(refusals) = self.iteration.would_have_refused() {
            // Where an exchange has met its policy, enforcing refuses the mail only if that takes too little.
            attempt.observed(refusals, met.map(|lesser| lesser.takes).max());
        }
    }

    /// MAIL as this remote takes it.
    ///
    /// # Errors
    /// The extension that the remote lacks for this mail, or that another host should be asked for first; or what tagged mail
    /// asks of it.
    pub(crate) fn fit(&mut self, ready: &Ready, recipients: &[Addressee], added: u64) -> Result<Mail, Lacking> {
        let offered = &ready.terms().extensions;
        // The one place where the parameter of MAIL is made: the client's own word is never passed on by itself.
        let require_tls = self.iteration.demand().at(ready.terms().for_tagged()).map_err(lacking_for_tag)?;
        let mail = Mail { require_tls, ..fit(self.mail, offered, added)? };
        if lacks_utf8(self.mail, offered, recipients.iter().map(|recipient| &recipient.mailbox)) {
            return Err(Lacking::SmtpUtf8);
        }
        let takes = offered.takes();
        let goes_here = takes >= self.wanted
            || self.lap != Lap::First
            || (self.is_best(ready, takes) && self.iteration.is_last() && !self.goes_lower_than(takes));
        if !goes_here {
            return Err(lacking(self.wanted, offered));
        }
        if let (Lap::Second(best), Some(unmet)) = (self.lap, &mut self.unmet)
            && takes < best.takes
        {
            // It took more a moment ago, and may again.
            unmet.refusals.push(Refusal::domain(Reason::NotAsked(1)));
        }
        if takes < self.mail.declares().max(Content::EightBit) && self.unmet.is_none() {
            self.unmet = Some(self.so_far(ready.peer(), lacking(self.wanted.max(Content::EightBit), offered)));
        }
        Ok(mail)
    }

    /// Whether these recipients alone are the cause of these refusals: a remote has refused them, or they cannot be named to it without
    /// SMTPUTF8 (RFC 6531 §3.5). It may take others.
    pub(crate) fn is_for_these(&self, refusals: &Refusals, recipients: &[Addressee]) -> bool {
        let all_need_it = recipients.iter().all(|recipient| recipient.mailbox.needs_smtp_utf8())
            && !self.mail.reverse_path.needs_smtp_utf8();
        refusals.iter().any(|refusal| match refusal.reason {
            Reason::Lacking(Lacking::SmtpUtf8) => all_need_it,
            Reason::Refused { stage: Stage::Rcpt, .. } => true,
            _ => false,
        })
    }

    /// Writes down an address that takes less than it should; whether it is better than those before.
    fn is_best(&mut self, ready: &Ready, takes: Content) -> bool {
        let (peer, policy, met) = (ready.peer().clone(), ready.terms().policy.clone(), self.iteration.policy_met());
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

    /// The verdict of the search now, with the remote that was found last among those that lack the extension.
    fn so_far(&mut self, peer: &Peer, lacking: Lacking) -> Unmet {
        let mut refusals = self.iteration.take_skipped();
        refusals.push(Refusal::peer(peer, lacking));
        refusals.extend(self.iteration.take_unasked());
        let refusals = self.iteration.deferred_under_sts(refusals);
        let domains = Arc::clone(&self.iteration.connector().eight_bit);
        let undeclared = (self.wanted == Content::Ascii).then(|| (domains, self.iteration.domain().clone()));
        Unmet { refusals, undeclared, waived: self.next_try() }
    }

    /// Whether the mail goes on at a lower level rather than to a remote that takes so much, since it has shown to hold more.
    fn goes_lower_than(&self, takes: Content) -> bool {
        takes < self.shown && self.iteration.waiver_for(self.iteration.skipped()) == Waiver::TlsRequiredNo
    }

    /// The memory that tells the next try of the mail's content, if the mail may go at a lower level.
    fn next_try(&self) -> Option<(Arc<WaivedMails>, WaivedMail)> {
        match self.iteration.waiver() {
            Waiver::None | Waiver::Observe => None,
            Waiver::TlsRequiredNo => {
                let mails = Arc::clone(&self.iteration.connector().waived);
                Some((mails, WaivedMail::new(self.iteration.domain(), self.mail)))
            }
        }
    }

    /// Whether the mail goes to this remote for an extension that it may not need, past others that take it without. The
    /// others come first in the order of RFC 5321 §5.1, so a refusal by this one leads back to them.
    pub(crate) fn is_detour(&self, peer: &Peer) -> bool {
        self.lap == Lap::First && self.lesser.iter().any(|lesser| lesser.peer != *peer)
    }

    /// As [`MxIteration::fail_over`].
    pub(crate) fn turned_away(&mut self, peer: &Peer, reason: Reason) -> Result<(), Reason> {
        let reason = if self.is_detour(peer) { for_now(reason) } else { reason };
        if self.lap == Lap::First
            && let Some(mut unmet) = self.unmet.take()
        {
            // It is not the last word on these.
            unmet.refusals.forget_lacking(peer);
            self.iteration.put_back(unmet.refusals);
        }
        self.iteration.fail_over(peer, reason)
    }

    /// The verdict for mail that needs more than the remote takes, if there is such mail.
    pub(crate) fn unmet(&mut self) -> Option<&mut Unmet> {
        self.unmet.as_mut()
    }

    /// The same. The search has none from then on.
    pub(crate) fn take_unmet(&mut self) -> Option<Unmet> {
        self.unmet.take()
    }
}

/// The same for now: the remotes that are preferred have the last word on the mail.
fn for_now(reason: Reason) -> Reason {
    match reason {
        Reason::Refused { stage, reply } if reply.code().is_permanent() => {
            let text = reply.to_string();
            Reason::Refused { stage, reply: Reply::new(Code::LOCAL_ERROR, EnhancedCode::transient(0, 0), text) }
        }
        other => other,
    }
}

/// The lack of a remote that must not have a tagged mail.
fn lacking_for_tag(unmet: TagUnmet) -> Lacking {
    match unmet {
        TagUnmet::Missing => Lacking::RequireTls,
        TagUnmet::Unauthenticated => Lacking::Authentication,
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

fn rank(lesser: &Lesser, shown: Content) -> LesserRank {
    LesserRank { of_shown: lesser.takes.min(shown), met: lesser.met, takes: lesser.takes }
}

/// The extension that a remote lacks for such content.
pub(crate) fn lacking(content: Content, offered: &Extensions) -> Lacking {
    match content {
        Content::International if !offered.smtp_utf8 => Lacking::SmtpUtf8,
        Content::Ascii | Content::EightBit | Content::International => Lacking::EightBitMime,
    }
}

/// Whether none of these recipients can be named without SMTPUTF8, or the sender cannot (RFC 6531 §3.5).
fn lacks_utf8<'a>(mail: &Mail, offered: &Extensions, recipients: impl IntoIterator<Item = &'a Mailbox>) -> bool {
    let all_need_it = || recipients.into_iter().all(Mailbox::needs_smtp_utf8);
    !offered.smtp_utf8 && (mail.reverse_path.needs_smtp_utf8() || all_need_it())
}

/// MAIL with the parameters that this remote knows (RFC 5321 §2.2.1), and SIZE with the octets that we add to the message.
fn fit(mail: &Mail, offered: &Extensions, added: u64) -> Result<Mail, Lacking> {
    // PRDR is between the client and us. REQUIRETLS is for the tag to say.
    let mut mail = Mail { prdr: Prdr::Absent, require_tls: RequireTls::Absent, ..mail.clone() };
    if !offered.eight_bit_mime {
        mail.body = None;
    }
    if !offered.smtp_utf8 {
        mail.smtp_utf8 = SmtpUtf8::Absent;
    }
    mail.size = mail.size.map(|size| size.saturating_add(added));
    match offered.size {
        SizeLimit::Octets(most) if mail.size.is_some_and(|size| size > most) => Err(Lacking::Size(most)),
        SizeLimit::Octets(_) | SizeLimit::Unlimited => Ok(mail),
        SizeLimit::Undeclared => Ok(Mail { size: None, ..mail }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::ForwardPath;
    use crate::smtp::command::Command;

    fn mail(line: &str) -> Mail {
        match Command::parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_only_where_they_are_understood() {
        // M1, M3, M4, M6.
        let all = Extensions {
            eight_bit_mime: true,
            smtp_utf8: true,
            size: SizeLimit::Octets(5000),
            ..Extensions::default()
        };
        let none = Extensions::default();
        let eight_bit = Extensions { eight_bit_mime: true, ..Extensions::default() };
        let small = Extensions { size: SizeLimit::Octets(2000), ..Extensions::default() };
        let line = "MAIL FROM:<a@b.example>";
        for (parameters, offered, added, expected) in [
            ("", &none, 200, Ok("")),
            (" PRDR", &all, 200, Ok("")),
            (" REQUIRETLS", &all, 200, Ok("")),
            (" BODY=8BITMIME SMTPUTF8", &all, 200, Ok(" BODY=8BITMIME SMTPUTF8")),
            (" BODY=8BITMIME SMTPUTF8", &eight_bit, 200, Ok(" BODY=8BITMIME")),
            (" BODY=8BITMIME SMTPUTF8", &none, 200, Ok("")),
            (" BODY=7BIT SIZE=9", &none, 200, Ok("")),
            (" BODY=7BIT", &eight_bit, 200, Ok(" BODY=7BIT")),
            // RFC 1870 §6.1: with the octets that we add, and no more.
            (" SIZE=900", &all, 200, Ok(" SIZE=1100")),
            (" SIZE=900", &all, 0, Ok(" SIZE=900")),
            (" SIZE=1800", &small, 200, Ok(" SIZE=2000")),
            (" SIZE=1801", &small, 200, Err(Lacking::Size(2000))),
            (" SIZE=18446744073709551615", &all, 200, Err(Lacking::Size(5000))),
        ] {
            let found = fit(&mail(&format!("{line}{parameters}")), offered, added);
            let found = found.map(|mail| Command::Mail(mail).to_string());
            assert_eq!(found, expected.map(|parameters| format!("{line}{parameters}")), "{parameters}");
        }
    }

    #[test]
    fn addresses_that_need_smtputf8() {
        // M4.
        let mailbox = |text: &str| match ForwardPath::parse(text, SmtpUtf8::Requested) {
            Ok(ForwardPath::Mailbox(mailbox)) => mailbox,
            other => panic!("{other:?}"),
        };
        let (ascii, utf8) = (mailbox("<a@b.example>"), mailbox("<\u{fc}@b.example>"));
        let offers = Extensions { smtp_utf8: true, ..Extensions::default() };
        for (sender, recipients, offered, lacks) in [
            ("a", vec![ascii.clone()], Extensions::default(), false),
            ("\u{fc}", vec![ascii.clone()], Extensions::default(), true),
            ("\u{fc}", vec![ascii.clone()], offers, false),
            ("a", vec![utf8.clone()], Extensions::default(), true),
            ("a", vec![utf8.clone()], offers, false),
            // The one goes, and the other is refused alone.
            ("a", vec![utf8, ascii], Extensions::default(), false),
        ] {
            let mail = mail(&format!("MAIL FROM:<{sender}@b.example> SMTPUTF8"));
            assert_eq!(lacks_utf8(&mail, &offered, &recipients), lacks, "{sender} {recipients:?}");
        }
    }
}
