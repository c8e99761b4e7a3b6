//! The rules by the names in them. A lookup takes one look for each label of a name, however many rules there are.

use std::collections::HashMap;

use time::Date;

use super::Domains;
use crate::name::Name;

/// The last day of a rule; the latest is [`Never`](Self::Never).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RuleEnd {
    On(Date),
    Never,
}

impl From<Option<Date>> for RuleEnd {
    fn from(until: Option<Date>) -> Self {
        until.map_or(Self::Never, Self::On)
    }
}

/// A rule in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RulePlace {
    entry: usize,
    end: RuleEnd,
}

/// Rules for the same domains, in the order of the list. Each ends later than the one before it: another one can never hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct AlikeRules(Vec<RulePlace>);

impl AlikeRules {
    fn push(&mut self, rule: RulePlace) {
        if self.0.last().is_none_or(|last| last.end < rule.end) {
            self.0.push(rule);
        }
    }

    /// The first one that ends on this day or later.
    fn first(&self, end: RuleEnd) -> Option<usize> {
        self.0.get(self.0.partition_point(|rule| rule.end < end)).map(|rule| rule.entry)
    }
}

/// The rules that have one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RulesOfName {
    exactly: AlikeRules,
    below: AlikeRules,
}

/// The places of rules in their list, by the names in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleIndex {
    by_name: HashMap<Box<str>, RulesOfName>,
    entries: usize,
}

impl RuleIndex {
    /// Adds the next rule of the list, which ends on this day.
    pub(crate) fn push(&mut self, domains: &Domains, until: Option<Date>) {
        let listed = RulePlace { entry: self.entries, end: until.into() };
        self.entries += 1;
        match domains {
            Domains::Exactly(name) => self.by_name.entry(name.as_str().into()).or_default().exactly.push(listed),
            Domains::Below(name) => self.by_name.entry(name.as_str().into()).or_default().below.push(listed),
        }
    }

    /// The first rule that names the domain and has not ended.
    pub(crate) fn holding(&self, domain: &Name, today: Date) -> Option<usize> {
        self.exactly(domain, RuleEnd::On(today))
    }

    /// The first rule that names all these domains and ends no earlier than another one for them.
    pub(crate) fn hiding(&self, domains: &Domains, until: Option<Date>) -> Option<usize> {
        match domains {
            Domains::Exactly(name) => self.exactly(name, until.into()),
            Domains::Below(name) => {
                let own = self.look(name.as_str()).and_then(|named| named.below.first(until.into()));
                earlier(own, self.above(name, until.into()))
            }
        }
    }

    fn exactly(&self, name: &Name, end: RuleEnd) -> Option<usize> {
        let own = self.look(name.as_str()).and_then(|named| named.exactly.first(end));
        earlier(own, self.above(name, end))
    }

    /// The first rule for all domains below a name that this one is below.
    fn above(&self, name: &Name, end: RuleEnd) -> Option<usize> {
        parents(name).filter_map(|parent| self.look(parent)?.below.first(end)).min()
    }

    fn look(&self, name: &str) -> Option<&RulesOfName> {
        self.by_name.get(name)
    }
}

/// The names above a name, up to the root.
fn parents(name: &Name) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name.as_str()), |name| match name.split_once('.') {
        Some((_, parent)) => Some(parent),
        None => (!name.is_empty()).then_some(""),
    })
    .skip(1)
}

fn earlier(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::last_day::LastDay;

    type Listing = Vec<(Domains, Option<Date>)>;

    fn index(list: &Listing) -> RuleIndex {
        let mut index = RuleIndex::default();
        list.iter().for_each(|(domains, until)| index.push(domains, *until));
        index
    }

    fn day(ordinal: u16) -> Date {
        Date::from_ordinal_date(2026, ordinal).unwrap()
    }

    /// Few names, of which many are parents of others.
    fn name() -> impl Strategy<Value = Name> {
        let label = prop::sample::select(vec!["a", "b", "ab"]);
        prop::collection::vec(label, 1..4).prop_map(|labels| Name::parse(&labels.join(".")).unwrap())
    }

    fn domains() -> impl Strategy<Value = Domains> {
        let root = Just(Domains::Below(Name::root()));
        prop_oneof![10 => name().prop_map(Domains::Exactly), 10 => name().prop_map(Domains::Below), 1 => root]
    }

    fn until() -> impl Strategy<Value = Option<Date>> {
        prop::option::of((1..6u16).prop_map(day))
    }

    fn listing() -> impl Strategy<Value = Listing> {
        prop::collection::vec((domains(), until()), 0..12)
    }

    /// Whether each domain among others is among these.
    fn cover(these: &Domains, others: &Domains) -> bool {
        match (these, others) {
            (Domains::Exactly(_) | Domains::Below(_), Domains::Exactly(name)) => these.contain(name),
            (Domains::Exactly(_), Domains::Below(_)) => false,
            (Domains::Below(above), Domains::Below(name)) => name.is_at_or_below(above),
        }
    }

    proptest! {
        /// The list is read from its top: the first rule that names the domain and has not ended holds.
        #[test]
        fn the_index_answers_as_the_list_does(list in listing(), domain in name(), today in 1..8u16) {
            let today = day(today);
            let holds = |(domains, until): &(Domains, Option<Date>)| {
                domains.contain(&domain) && !until.is_some_and(|until| LastDay(until).is_over(today))
            };
            prop_assert_eq!(index(&list).holding(&domain, today), list.iter().position(holds));
        }

        /// The list is read from its top: the first rule whose domains and days are all of the other's hides it.
        #[test]
        fn the_index_finds_the_rule_that_hides_another(list in listing(), domains in domains(), until in until()) {
            let hides = |(first, ends): &(Domains, Option<Date>)| {
                let ends_first = ends.is_some_and(|ends| until.is_none_or(|until| ends < until));
                cover(first, &domains) && !ends_first
            };
            prop_assert_eq!(index(&list).hiding(&domains, until), list.iter().position(hides));
        }
    }

    #[test]
    fn a_lookup_takes_a_look_for_each_label_however_many_rules_there_are() {
        let name = |text: &str| Name::parse(text).unwrap();
        // Each of these names is looked up by its hash, and so is the name itself.
        assert_eq!(
            parents(&name("a.d7.example.com")).collect::<Vec<_>>(),
            ["d7.example.com", "example.com", "com", ""]
        );
        assert_eq!(parents(&Name::root()).count(), 0);
        let names = (0..1000).map(|number| (format!(".d{number}.example.com").parse().unwrap(), None));
        assert_eq!(index(&names.collect()).holding(&name("a.d7.example.com"), day(1)), Some(7));
        // Rules for one domain that end one after the other are searched by halves; those that can never hold are not kept.
        let days = (1..300).map(|ordinal| ("a.test".parse().unwrap(), Some(day(ordinal)))).collect();
        assert_eq!(index(&days).holding(&name("a.test"), day(200)), Some(199));
        let hidden = (0..1000).map(|_| ("a.test".parse().unwrap(), None)).collect();
        assert_eq!(index(&hidden).by_name["a.test"].exactly.0.len(), 1);
    }

    #[test]
    fn domains_among_others() {
        for (these, others, expected) in [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "a.example.com", false),
            ("example.com", ".example.com", false),
            (".example.com", "example.com", false),
            (".example.com", "a.example.com", true),
            (".example.com", ".example.com", true),
            (".example.com", ".a.example.com", true),
            (".a.example.com", ".example.com", false),
            (".example.com", ".badexample.com", false),
        ] {
            let domains = |text: &str| text.parse::<Domains>().unwrap();
            let hiding = index(&vec![(domains(these), None)]).hiding(&domains(others), None);
            assert_eq!(
                (hiding.is_some(), cover(&domains(these), &domains(others))),
                (expected, expected),
                "{these} and {others}"
            );
        }
    }
}
