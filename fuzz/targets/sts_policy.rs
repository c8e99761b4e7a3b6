//! Invariants, for any octets that a policy host sends: a policy that was read is written as a text that means the same and
//! lists the same exchanges; an unknown key has no effect; and a policy that is held to lists a host.

use danelaw::mta_sts::{StsMode, StsPolicy};
use danelaw::name::Name;

pub(crate) fn invariant(body: &[u8]) {
    let Ok(policy) = StsPolicy::parse(body) else { return };
    assert!(policy.max_age().as_secs() <= 31_557_600);
    assert_eq!(policy.body(), body);
    assert_same(&policy, &written(&policy));
    assert_same(&policy, &[body, b"\nx-note: a\0\xff\n"].concat());
    match policy.mode() {
        StsMode::Enforce | StsMode::Testing => assert!(policy.patterns().iter().any(|pattern| pattern.is_usable())),
        StsMode::None => {}
    }
    for pattern in policy.patterns() {
        check_pattern(&policy, pattern.as_str());
    }
}

fn written(policy: &StsPolicy) -> Vec<u8> {
    let mut text = format!("version: STSv1\r\nmode: {}\r\nmax_age: {}\r\n", policy.mode(), policy.max_age().as_secs());
    for pattern in policy.patterns() {
        text.push_str(&format!("mx: {pattern}\r\n"));
    }
    text.into_bytes()
}

fn assert_same(policy: &StsPolicy, text: &[u8]) {
    let again = StsPolicy::parse(text).expect("a written policy is one");
    assert_eq!(format!("{again:?}"), format!("{policy:?}"));
    assert_eq!(again.patterns(), policy.patterns());
}

/// The hosts that a value seems to list, and their neighbours: the policy lists those that a label by label comparison with
/// one of its values finds.
fn check_pattern(policy: &StsPolicy, value: &str) {
    for candidate in
        [value.to_owned(), value.replacen('*', "a", 1), value.replacen('*', "a.b", 1), format!("a.{value}")]
    {
        let Ok(host) = Name::parse(&candidate) else { continue };
        let by_labels = policy.patterns().iter().any(|pattern| is_match(pattern.as_str(), &host));
        assert_eq!(policy.lists(&host), by_labels, "{host}");
    }
}

fn is_match(value: &str, host: &Name) -> bool {
    let value = value.to_ascii_lowercase();
    let labels: Vec<_> = value.strip_suffix('.').unwrap_or(&value).split('.').collect();
    let host: Vec<_> = host.labels().collect();
    let is_one = |(index, (label, of_host)): (usize, (&&str, &&str))| {
        label == of_host && *label != "_" || index == 0 && *label == "*" && labels.len() > 1
    };
    value.is_ascii() && labels.len() == host.len() && labels.iter().zip(&host).enumerate().all(is_one)
}
