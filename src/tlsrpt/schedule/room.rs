//! The limits on reports. Strangers choose the domains and the addresses.

use std::collections::BTreeMap;

use crate::name::Name;

/// The most reports of a day to one [registered domain](Name::registered), and about the domains below one.
pub(super) const MAX_TO_ONE: usize = 100;
/// The most reports of a day.
pub(super) const MAX_IN_ALL: usize = 2000;
/// With so many reports of a day, the share of the domains below one registered domain is bounded. Before, it is not: a suffix
/// that is not known, such as `kommune.no`, has many owners.
pub(super) const FEW_LEFT: usize = MAX_IN_ALL / 2;

/// The reports of a day within the limits.
#[derive(Debug, Default)]
pub(super) struct TakenRoom {
    in_all: usize,
    to_one: BTreeMap<Name, usize>,
    about_one: BTreeMap<Name, usize>,
}

/// A report by the domains that it counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomFor<'a> {
    /// The domain that takes it.
    pub(super) target: &'a Name,
    /// The domain that it is about.
    pub(super) about: &'a Name,
}

impl TakenRoom {
    /// Whether a further report is one too many.
    pub(super) fn is_full(&self, RoomFor { target, about }: RoomFor<'_>) -> bool {
        let is_most = |counts: &BTreeMap<Name, usize>, name: &Name| {
            counts.get(&name.registered()).is_some_and(|count| *count >= MAX_TO_ONE)
        };
        self.in_all >= MAX_IN_ALL
            || is_most(&self.to_one, target)
            || (self.in_all >= FEW_LEFT && is_most(&self.about_one, about))
    }

    /// Counts a new report.
    pub(super) fn take(&mut self, RoomFor { target, about }: RoomFor<'_>) {
        self.in_all += 1;
        *self.to_one.entry(target.registered()).or_default() += 1;
        *self.about_one.entry(about.registered()).or_default() += 1;
    }
}
