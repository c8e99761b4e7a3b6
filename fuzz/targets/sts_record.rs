//! Invariants, for any TXT records: the order of the records makes no difference; a record of another kind has no effect;
//! an id that was read is written as a record that means the same; and a second record of MTA-STS is one too many.

use danelaw::mta_sts::NoStsRecord;
use danelaw::mta_sts::record::policy_id;

pub(crate) fn invariant(octets: &[u8]) {
    // The octet 0xFF, which no record of MTA-STS needs, cuts the input into records.
    let mut texts: Vec<&[u8]> = octets.split(|octet| *octet == 0xff).collect();
    let read = policy_id(texts.iter().copied());
    texts.reverse();
    assert_eq!(policy_id(texts.iter().copied()), read, "the order of the records");
    texts.push(b"v=spf1 include:_mta-sts.example -all");
    assert_eq!(policy_id(texts.iter().copied()), read, "a record of another kind");

    let canonical = match &read {
        Ok(id) => format!("v=STSv1; id={id};"),
        Err(_) => "v=STSv1; id=1;".to_owned(),
    };
    texts.push(canonical.as_bytes());
    let with_another = policy_id(texts);
    match read {
        Ok(id) => {
            assert!(
                (1..=32).contains(&id.as_str().len()) && id.as_str().bytes().all(|octet| octet.is_ascii_alphanumeric())
            );
            assert_eq!(policy_id([canonical.as_bytes()]), Ok(id));
            assert_eq!(with_another, Err(NoStsRecord::Several(2)));
        }
        Err(NoStsRecord::Absent) => assert!(with_another.is_ok()),
        Err(_) => assert!(matches!(with_another, Err(NoStsRecord::Several(_)))),
    }
}
