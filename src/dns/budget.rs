//! The limit on the cost of one lookup.
//!
//! A zone can be made so that its validation burns a processor for minutes: hundreds of keys that share a tag with as
//! many signatures, each of which might be by any of them (CVE-2023-50387, A-47); thousands of signatures by no key at all,
//! each of which is compared with thousands of keys; or hashes of a hundred ancestors with hundreds of iterations each
//! (CVE-2023-50868, A-48). So the work is counted. Honest zones stay far below these bounds; above one of them the lookup
//! fails. An unchecked signature never counts as checked.
//!
//! Where danelaw asks the authoritative servers itself, the servers, aliases and delegations of one zone can lead to hundreds
//! of questions to the servers of another zone. So the questions are counted as well ([`Questions`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many questions one lookup may send. A name five zones deep, with no server and no key known yet, needs some 50; one with
/// aliases some more.
const OF_LOOKUP: u32 = 200;
/// How many a step on the way to a zone may send.
const OF_STEP: u32 = 60;

/// The limits on one lookup with all its aliases.
pub(super) struct LookupBudget {
    /// The work of validation.
    pub(super) work: Budget,
    /// The questions to authoritative servers.
    pub(super) questions: Questions,
}

impl LookupBudget {
    pub(super) fn new() -> Self {
        Self { work: Budget::lookup(), questions: Questions::of_lookup() }
    }
}

/// The number of questions to authoritative servers that a lookup, or a part of it, may still send. A question of a part counts in the
/// whole lookup too. Clones share one count. A question that the same server gets once more, over TCP or without EDNS, is one
/// question.
#[derive(Clone)]
pub(super) struct Questions(Arc<QuestionCount>);

struct QuestionCount {
    left: AtomicU32,
    part_of: Option<Questions>,
}

impl Questions {
    /// For a lookup.
    pub(super) fn of_lookup() -> Self {
        Self(Arc::new(QuestionCount { left: AtomicU32::new(OF_LOOKUP), part_of: None }))
    }

    /// For one answer, so many of these at the most.
    pub(super) fn at_most(&self, most: u32) -> Self {
        self.part(most.min(self.left()))
    }

    /// For a step on the way to a zone. Other lookups may wait for it too, so that each step has the same number, also where fewer are
    /// left here.
    pub(super) fn of_step(&self) -> Self {
        self.part(OF_STEP)
    }

    /// Whether any may be sent.
    pub(super) fn are_left(&self) -> bool {
        self.left() > 0
    }

    /// Whether one more may be sent, which counts as sent.
    pub(super) fn spend(&self) -> bool {
        let enough = self.take_one();
        let mut whole = self.0.part_of.as_ref().filter(|_| enough);
        while let Some(questions) = whole {
            questions.take_one();
            whole = questions.0.part_of.as_ref();
        }
        enough
    }

    fn part(&self, left: u32) -> Self {
        Self(Arc::new(QuestionCount { left: AtomicU32::new(left), part_of: Some(self.clone()) }))
    }

    fn left(&self) -> u32 {
        self.0.left.load(Relaxed)
    }

    fn take_one(&self) -> bool {
        self.0.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// The rest of a budget for the work of validation. An item that has run out stays at zero; otherwise later signatures would be
/// checked within a smaller budget than earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Signatures looked at, whether or not any key has their tag.
    looks: u32,
    /// Signatures verified with a key.
    signatures: u32,
    /// Those of them that do not verify. An honest zone has next to none.
    mismatches: u32,
    /// Rounds of hashing for NSEC3.
    rounds: u32,
    /// Places on the way to a zone that are not known yet.
    steps: u32,
}

impl Budget {
    /// For one question with all its aliases. Sixteen links, each in a zone of its own, each made from a wildcard, cost
    /// about a hundred signatures; a denial with 150 iterations, the most that RFC 9276 §3.2 asks a validator to
    /// accept, about 2,000 rounds.
    pub(super) const fn lookup() -> Self {
        Self { looks: 1_024, signatures: 256, mismatches: 16, rounds: 100_000, steps: 64 }
    }

    /// For one name on the path to a zone: its delegation, and the keys of a zone that begins there.
    pub(super) const fn step() -> Self {
        Self { looks: 128, signatures: 32, mismatches: 8, rounds: 20_000, steps: 0 }
    }

    /// Whether one more signature may be looked at.
    pub(super) fn spend_look(&mut self) -> bool {
        spend(&mut self.looks, 1)
    }

    /// Whether one more signature may be verified with one more key.
    pub(super) fn spend_signature(&mut self) -> bool {
        self.mismatches > 0 && spend(&mut self.signatures, 1)
    }

    /// A signature did not verify.
    pub(super) fn count_mismatch(&mut self) {
        self.mismatches = self.mismatches.saturating_sub(1);
    }

    /// Whether one more name may be hashed, with so many iterations.
    pub(super) fn spend_hash(&mut self, iterations: u16) -> bool {
        spend(&mut self.rounds, u32::from(iterations) + 1)
    }

    /// Whether one more place may be asked about.
    pub(super) fn spend_step(&mut self) -> bool {
        spend(&mut self.steps, 1)
    }

    /// Whether validation has run out of signatures or of hashing.
    pub(super) fn is_spent(&self) -> bool {
        self.looks == 0 || self.signatures == 0 || self.mismatches == 0 || self.rounds == 0
    }
}

/// Takes a price out of the rest, or takes all of the rest where the price is higher.
fn spend(left: &mut u32, price: u32) -> bool {
    let enough = *left >= price;
    *left = left.saturating_sub(price);
    enough
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_has_run_out_stays_so() {
        let mut budget = Budget { looks: 9, signatures: 3, mismatches: 2, rounds: 600, steps: 1 };
        assert!(budget.spend_hash(499) && !budget.spend_hash(499) && !budget.spend_hash(0) && budget.is_spent());
        assert!(budget.spend_step() && !budget.spend_step());
        let mut budget = Budget { looks: 9, signatures: 3, mismatches: 2, rounds: 1, steps: 1 };
        assert!((0..3).all(|_| budget.spend_signature()) && !budget.spend_signature() && budget.is_spent());
        let mut budget = Budget { looks: 9, signatures: 3, mismatches: 1, rounds: 1, steps: 0 };
        assert!(budget.spend_signature() && !budget.is_spent());
        budget.count_mismatch();
        assert!(!budget.spend_signature() && budget.is_spent());
        let mut budget = Budget { looks: 1, signatures: 3, mismatches: 1, rounds: 1, steps: 0 };
        assert!(budget.spend_look() && !budget.spend_look() && budget.is_spent());
    }

    /// Sends all that may be sent, and tells how many these are.
    fn sent(questions: &Questions) -> u32 {
        std::iter::from_fn(|| questions.spend().then_some(())).count() as u32
    }

    #[test]
    fn questions_count_in_each_part_and_in_the_whole() {
        let whole = Questions::of_lookup();
        let (answer, same) = (whole.at_most(100), whole.clone());
        assert_eq!((sent(&answer), answer.are_left(), whole.left()), (100, false, 100));
        // A part may have parts. The smaller bound holds.
        let step = whole.of_step();
        assert_eq!((sent(&step.at_most(20)), step.left(), whole.left()), (20, OF_STEP - 20, 80));
        assert_eq!((sent(&step.at_most(100)), whole.left(), same.left()), (OF_STEP - 20, 40, 40));
        assert_eq!((sent(&whole.at_most(100)), whole.are_left()), (40, false));
        assert!(!whole.at_most(100).spend());
    }

    #[test]
    fn a_step_has_its_questions_where_the_lookup_that_makes_it_has_few() {
        let whole = Questions::of_lookup();
        sent(&whole.at_most(OF_LOOKUP - 1));
        assert_eq!((sent(&whole.of_step()), whole.are_left()), (OF_STEP, false));
    }
}
