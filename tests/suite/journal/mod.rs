//! The journal: its effects on clients and remotes under faults, and its state after SIGKILL.

mod durable;
mod model;

use danelaw::journal::{ContentDigest, ContentHasher, Pair};
use danelaw::smtp::address::{ForwardPath, ReversePath, SmtpUtf8};

pub(crate) fn pair(recipient: &str) -> Pair {
    let sender = ReversePath::parse("<sender@client.test>", SmtpUtf8::Absent).unwrap();
    match ForwardPath::parse(&format!("<{recipient}>"), SmtpUtf8::Absent).unwrap() {
        ForwardPath::Mailbox(mailbox) => Pair::new(&sender, &mailbox),
        ForwardPath::Postmaster => panic!("no mailbox"),
    }
}

pub(crate) fn content(text: &str) -> ContentDigest {
    let mut hasher = ContentHasher::default();
    hasher.update(text.as_bytes());
    hasher.finish()
}
