//! The next question on the way down to a name: no server is told more of the name than it needs (RFC 9156).

use super::super::links::Question;
use super::super::reply::Rtype;

/// The most questions about ancestors of one name (RFC 9156 §2.3, MAX_MINIMISE_COUNT).
pub(super) const MAX_STEPS: u32 = 10;

/// The question for the servers of a zone of which the name's ancestor with `known` labels is a part: about the next
/// label down, or the whole question where no label is left to hide, or no step.
///
/// The type is A (RFC 9156 §2.1): servers answer it in more cases than NS. A label that begins with an underscore names
/// a service of the host above it and no zone (RFC 8552), so that no step is made for it (RFC 9156 §2.3).
pub(super) fn next(question: &Question, known: usize, steps: u32) -> Question {
    let ancestor = question.name.ancestor(known + 1);
    let is_service = ancestor.leftmost().is_some_and(|label| label.starts_with(b"_"));
    if steps == 0 || is_service || ancestor.depth() == question.name.depth() {
        return question.clone();
    }
    Question { name: ancestor, rtype: Rtype::A }
}

#[cfg(test)]
mod tests {
    use super::super::super::canonical::CanonicalName;
    use super::*;

    #[test]
    fn one_label_at_a_time_down_to_the_service() {
        let question = |text: &str, rtype| {
            let name = CanonicalName::from_labels(text.split('.').filter(|l| !l.is_empty()).map(str::as_bytes));
            Question { name, rtype }
        };
        for (name, rtype, known, steps, next_name, next_type) in [
            ("mx.a.test", Rtype::MX, 0, 10, "test", Rtype::A),
            ("mx.a.test", Rtype::MX, 1, 9, "a.test", Rtype::A),
            ("mx.a.test", Rtype::MX, 2, 8, "mx.a.test", Rtype::MX),
            ("mx.a.test", Rtype::MX, 3, 8, "mx.a.test", Rtype::MX),
            ("mx.a.test", Rtype::MX, 0, 0, "mx.a.test", Rtype::MX),
            ("_25._tcp.mx.test", Rtype::TLSA, 1, 9, "mx.test", Rtype::A),
            ("_25._tcp.mx.test", Rtype::TLSA, 2, 9, "_25._tcp.mx.test", Rtype::TLSA),
            ("a.test", Rtype::DS, 0, 10, "test", Rtype::A),
            ("a.test", Rtype::DS, 1, 10, "a.test", Rtype::DS),
            ("", Rtype::DNSKEY, 0, 10, "", Rtype::DNSKEY),
        ] {
            let expected = question(next_name, next_type);
            assert_eq!(next(&question(name, rtype), known, steps), expected, "{name} {known} {steps}");
        }
    }
}
