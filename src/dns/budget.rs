//! The limit on the cost of one lookup.
//!
//! A zone can be made so that its validation burns a processor for minutes: hundreds of keys that share a tag with as
//! many signatures, each of which might be by any of them (CVE-2023-50387, A-47); thousands of signatures by no key at all,
//! each of which is compared with thousands of keys; or hashes of a hundred ancestors with hundreds of iterations each
//! (CVE-2023-50868, A-48). So the work is counted. Honest zones stay far below these bounds; above one of them the lookup
//! fails. An unchecked signature never counts as checked.
//!
//! Where danelaw asks the authoritative servers itself, the servers, aliases and delegations of one zone can lead to hundreds
//! of questions to the servers of another zone. So the questions are counted as well.

/// The rest of a budget. An item that has run out stays at zero; otherwise later signatures would be checked within a
/// smaller budget than earlier ones.
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
    /// Questions to authoritative servers.
    pub(super) questions: u32,
}

impl Budget {
    /// For one question with all its aliases. Sixteen links, each in a zone of its own, each made from a wildcard, cost
    /// about a hundred signatures; a denial with 150 iterations, the most that RFC 9276 §3.2 asks a validator to
    /// accept, about 2,000 rounds.
    pub(super) const fn lookup() -> Self {
        // A name five zones deep, with no server and no key known yet, needs some 50 questions; one with aliases some more.
        Self { looks: 1_024, signatures: 256, mismatches: 16, rounds: 100_000, steps: 64, questions: 200 }
    }

    /// For one name on the path to a zone: its delegation, and the keys of a zone that begins there.
    pub(super) const fn step() -> Self {
        Self { looks: 128, signatures: 32, mismatches: 8, rounds: 20_000, steps: 0, questions: 60 }
    }

    /// Questions were asked for this lookup, by a step with a budget of its own.
    pub(super) fn count_questions(&mut self, asked: u32) {
        self.questions = self.questions.saturating_sub(asked);
    }

    /// Goes back to an earlier state, but for the questions that were asked: a bad reply must not use up the work for a good one.
    pub(super) fn renew(&mut self, before: Self) {
        *self = Self { questions: self.questions, ..before };
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
        let mut budget = Budget { looks: 9, signatures: 3, mismatches: 2, rounds: 600, steps: 1, questions: 1 };
        assert!(budget.spend_hash(499) && !budget.spend_hash(499) && !budget.spend_hash(0) && budget.is_spent());
        assert!(budget.spend_step() && !budget.spend_step());
        let mut budget = Budget {
            rounds: 1,
            ..Budget { looks: 9, signatures: 3, mismatches: 2, rounds: 600, steps: 1, questions: 1 }
        };
        assert!((0..3).all(|_| budget.spend_signature()) && !budget.spend_signature() && budget.is_spent());
        let mut budget = Budget { looks: 9, signatures: 3, mismatches: 1, rounds: 1, steps: 0, questions: 1 };
        assert!(budget.spend_signature() && !budget.is_spent());
        budget.count_mismatch();
        assert!(!budget.spend_signature() && budget.is_spent());
        let mut budget = Budget { looks: 1, signatures: 3, mismatches: 1, rounds: 1, steps: 0, questions: 1 };
        assert!(budget.spend_look() && !budget.spend_look() && budget.is_spent());
    }
}
