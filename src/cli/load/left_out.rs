//! Keys that are wrong and left out, so that the rest can be looked at.

use std::collections::BTreeSet;

use figment::value::{Dict, Value};

/// The lists whose entries are tables.
pub(super) const TABLES: [&str; 3] = ["listener", "rule", "negative_trust_anchor"];

/// Keys, by their path. Places in a list are those that the operator counts, entries that were left out included.
#[derive(Debug, Default)]
pub(super) struct LeftOutKeys(BTreeSet<Vec<String>>);

impl LeftOutKeys {
    pub(super) fn contains(&self, path: &[String]) -> bool {
        self.0.contains(path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves out one more; false if it was before.
    pub(super) fn add(&mut self, path: &[String]) -> bool {
        self.0.insert(path.to_vec())
    }

    /// Leaves out all of each entry of these lists of which a key is left out: without that key it has another meaning.
    /// False if there is none but those that are left out.
    pub(super) fn whole_entries(&mut self) -> bool {
        let before = self.0.len();
        for path in self.0.clone() {
            if let Some(entry) = entry(&path) {
                self.add(entry);
            }
        }
        self.0.len() > before
    }

    /// The path as the operator counts, of a path in the rest.
    pub(super) fn original(&self, path: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::new();
        for part in path {
            let counted = part.parse::<usize>().map(|place| self.counted(place, &original).to_string());
            original.push(counted.unwrap_or_else(|_| part.clone()));
        }
        original
    }

    /// The place that the operator counts, of a place in the rest of this list.
    fn counted(&self, place: usize, list: &[String]) -> usize {
        let below = self.0.iter().filter_map(|path| path.split_last().filter(|(_, above)| *above == list));
        let mut left_out: Vec<usize> = below.filter_map(|(place, _)| place.parse().ok()).collect();
        left_out.sort_unstable();
        left_out.into_iter().fold(place, |place, left_out| place + usize::from(left_out <= place))
    }

    /// Takes them out of a layer.
    pub(super) fn take_out_of(&self, dict: &mut Dict) {
        self.take_out_below(dict, &[]);
    }

    fn take_out_below(&self, dict: &mut Dict, above: &[String]) {
        dict.retain(|key, value| self.stays(value, [above, std::slice::from_ref(key)].concat()));
    }

    fn stays(&self, value: &mut Value, path: Vec<String>) -> bool {
        match value {
            _ if self.contains(&path) => false,
            Value::Dict(_, dict) => {
                self.take_out_below(dict, &path);
                true
            }
            Value::Array(_, items) if !items.is_empty() => {
                let mut places = 0..;
                items.retain_mut(|item| {
                    let place = places.next().unwrap_or_default();
                    self.stays(item, [&path[..], &[place.to_string()]].concat())
                });
                // A list that becomes empty would be wrong in another way.
                !items.is_empty()
            }
            Value::Array(..)
            | Value::String(..)
            | Value::Char(..)
            | Value::Bool(..)
            | Value::Num(..)
            | Value::Empty(..) => true,
        }
    }
}

/// The entry of one of these lists that a path is in.
pub(super) fn entry(path: &[String]) -> Option<&[String]> {
    let in_table = path.len() > 1 && TABLES.contains(&path[0].as_str()) && path[1].parse::<usize>().is_ok();
    in_table.then(|| &path[..2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn places_are_those_that_the_operator_counts() {
        let mut left_out = LeftOutKeys::default();
        for text in ["rule.1", "rule.2", "dns.servers.0", "tls.level"] {
            assert!(left_out.add(&path(text)) && !left_out.add(&path(text)));
        }
        for (left, original) in [
            ("rule.0.until", "rule.0.until"),
            ("rule.1.until", "rule.3.until"),
            ("rule.2", "rule.4"),
            ("dns.servers.0", "dns.servers.1"),
            ("listener.1.allow.2", "listener.1.allow.2"),
            ("tls.level", "tls.level"),
        ] {
            assert_eq!(left_out.original(&path(left)), path(original), "{left}");
        }
    }

    #[test]
    fn the_rest_of_the_keys() {
        let value = |text: &str| {
            let Ok(value) = text.parse::<Value>();
            value.into_dict().unwrap()
        };
        let text = "{a={b=1,c=2},rule=[{x=1,y=2},{x=3},{x=4}],list=[1,2],none=[]}";
        for (without, expected) in [
            (&[][..], text),
            (&["a.b", "a.z"], "{a={c=2},rule=[{x=1,y=2},{x=3},{x=4}],list=[1,2],none=[]}"),
            (&["rule.0.y", "rule.1"], "{a={b=1,c=2},rule=[{x=1},{x=4}],list=[1,2],none=[]}"),
            (&["list.0", "list.1", "rule"], "{a={b=1,c=2},none=[]}"),
        ] {
            let (mut left_out, mut dict) = (LeftOutKeys::default(), value(text));
            for text in without {
                left_out.add(&path(text));
            }
            left_out.take_out_of(&mut dict);
            assert_eq!(format!("{dict:?}"), format!("{:?}", value(expected)), "{without:?}");
        }
        let mut left_out = LeftOutKeys([path("rule.1.until"), path("dns.servers.1")].into());
        assert!(left_out.whole_entries() && !left_out.whole_entries());
        assert_eq!(left_out.0, BTreeSet::from([path("rule.1.until"), path("dns.servers.1"), path("rule.1")]));
    }
}
