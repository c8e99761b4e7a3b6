//! REQUIRETLS on mail that is passed on (RFC 8689): the tag of a mail, and its meaning at one remote.
//!
//! A client tags a mail by the parameter of MAIL, an operator all mail of a listener by `require_tls`. Tagged mail goes at level
//! `secure` at least, in either mode, so that a remote is verified before it hears of the mail. Then its EHLO under TLS decides:
//!
//! | tag | sender | remote | MAIL |
//! |---|---|---|---|
//! | none | any | any | without REQUIRETLS |
//! | always | mailbox | verified, offers it | with REQUIRETLS |
//! | always | mailbox | verified, lacks it | not said: missing |
//! | where-offered | mailbox | verified, offers it | with REQUIRETLS |
//! | where-offered | mailbox | verified, lacks it | without REQUIRETLS |
//! | where-offered or always | mailbox | not verified | not said: unauthenticated |
//! | where-offered or always | null | verified, offers it | with REQUIRETLS |
//! | where-offered or always | null | verified, lacks it | without REQUIRETLS |
//! | where-offered or always | null | not verified | without REQUIRETLS |
//!
//! Mail with the null sender is a report of a failure. It is never refused for want of REQUIRETLS, and goes at its usual level
//! (RFC 8689 §5).

use std::str::FromStr;

use crate::rules::LevelFloor;
use crate::smtp::address::ReversePath;
use crate::smtp::command::RequireTls;
use crate::words::words;

/// The demand for REQUIRETLS on a mail; mail without one has no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Tag {
    /// Verified hosts only, and MAIL says REQUIRETLS to those that offer it: the operator's wish for a listener.
    WhereOffered,
    /// Verified hosts that offer it only (RFC 8689 §4.2.1).
    Always,
}

words!(Tag);

impl Tag {
    /// The tag of a mail: the stricter of the listener's tag and the client's.
    pub fn of(listener: Option<Self>, parameter: RequireTls) -> Option<Self> {
        match parameter {
            // RFC 8689 §2: the client has asked for no less.
            RequireTls::Requested => Some(Self::Always),
            RequireTls::Absent => listener,
        }
    }
}

impl FromStr for Tag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::WhereOffered, Self::Always].into_iter().find(|tag| tag.as_str() == text);
        found.ok_or("it may be \"where-offered\" or \"always\"; empty, mail is tagged by its client alone")
    }
}

/// The demand of a mail with this sender: none of a report of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagDemand {
    /// There is no tag.
    None,
    /// There is a tag, and nothing is refused for want of it (RFC 8689 §5).
    Wish,
    /// There is a tag, and it holds.
    Tagged(Tag),
}

impl TagDemand {
    /// Of a mail with this tag and sender.
    pub fn of(tag: Option<Tag>, sender: &ReversePath) -> Self {
        match (tag, sender) {
            (None, _) => Self::None,
            (Some(_), ReversePath::Null) => Self::Wish,
            (Some(tag), ReversePath::Mailbox(_)) => Self::Tagged(tag),
        }
    }

    /// The least level of such mail, by its tag alone (RFC 8689 §4.2.1: the host's name and key are authenticated).
    pub fn floor(self) -> Option<LevelFloor> {
        match self {
            Self::None | Self::Wish => None,
            Self::Tagged(_) => Some(LevelFloor::Secure),
        }
    }

    /// MAIL at a remote: the table.
    ///
    /// # Errors
    /// The remote must not have the mail.
    pub fn at(self, remote: TaggedRemote) -> Result<RequireTls, TagUnmet> {
        let TaggedRemote { is_verified, offers } = remote;
        match (self, is_verified, offers) {
            (Self::None, _, _) => Ok(RequireTls::Absent),
            (Self::Wish | Self::Tagged(_), true, true) => Ok(RequireTls::Requested),
            (Self::Wish, _, _) => Ok(RequireTls::Absent),
            (Self::Tagged(_), false, _) => Err(TagUnmet::Unauthenticated),
            (Self::Tagged(Tag::WhereOffered), true, false) => Ok(RequireTls::Absent),
            (Self::Tagged(Tag::Always), true, false) => Err(TagUnmet::Missing),
        }
    }

    /// The account of a mail of which MAIL was said so; none for mail without a tag.
    pub fn said(self, said: RequireTls) -> Option<TagResult> {
        match (self, said) {
            (Self::None, _) => None,
            (Self::Wish | Self::Tagged(_), RequireTls::Requested) => Some(TagResult::Sent),
            (Self::Wish, RequireTls::Absent) => Some(TagResult::NullSender),
            (Self::Tagged(_), RequireTls::Absent) => Some(TagResult::NotOffered),
        }
    }
}

/// The facts about a remote that count for tagged mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaggedRemote {
    /// Whether its name and its key were verified.
    pub is_verified: bool,
    /// Whether it offers REQUIRETLS under TLS.
    pub offers: bool,
}

/// Why a remote must not have a tagged mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagUnmet {
    /// It does not offer REQUIRETLS.
    Missing,
    /// It was not verified.
    Unauthenticated,
}

/// The account of one attempt with a tagged mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum TagResult {
    /// MAIL said REQUIRETLS to the remote.
    Sent,
    /// MAIL went to a verified remote that does not offer it.
    NotOffered,
    /// MAIL of a report went without it.
    NullSender,
    /// No remote heard of the mail: each that was verified lacks it.
    Missing,
    /// No remote heard of the mail: none can be verified.
    Unauthenticated,
    /// No remote heard of the mail, for another reason, and the client is to send it again.
    Deferred,
    /// The mail has no tag, and a field in it says that it once had one.
    Lost,
}

words!(TagResult);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::SmtpUtf8;

    fn demand(tag: &str, sender: &str) -> TagDemand {
        let sender = if sender == "null" { "<>" } else { "<a@b.example>" };
        TagDemand::of(tag.parse().ok(), &ReversePath::parse(sender, SmtpUtf8::Absent).unwrap())
    }

    #[test]
    fn the_table_of_tags_and_remotes() {
        // Q2, Q4, Q5: the rows at the top of this file are the test.
        let rows: Vec<Vec<&str>> = include_str!("requiretls.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .map(|row| row.trim_end_matches(" |").split(" | ").collect())
            .collect();
        assert_eq!(rows.len(), 10, "the header and nine rows");
        for row in &rows[1..] {
            let remotes: Vec<(bool, bool)> = match row[2] {
                "any" => vec![(false, false), (false, true), (true, false), (true, true)],
                "verified, offers it" => vec![(true, true)],
                "verified, lacks it" => vec![(true, false)],
                "not verified" => vec![(false, false), (false, true)],
                other => panic!("{other}"),
            };
            let senders = if row[1] == "any" { vec!["mailbox", "null"] } else { vec![row[1]] };
            for tag in row[0].split(" or ") {
                for sender in &senders {
                    for &(is_verified, offers) in &remotes {
                        let said = match demand(tag, sender).at(TaggedRemote { is_verified, offers }) {
                            Ok(RequireTls::Requested) => "with REQUIRETLS",
                            Ok(RequireTls::Absent) => "without REQUIRETLS",
                            Err(TagUnmet::Missing) => "not said: missing",
                            Err(TagUnmet::Unauthenticated) => "not said: unauthenticated",
                        };
                        assert_eq!(said, row[3], "{tag}, {sender}, verified {is_verified}, offers {offers}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_client_asks_for_no_less_than_always() {
        use RequireTls::{Absent, Requested};
        for (listener, parameter, tag) in [
            (None, Absent, None),
            (None, Requested, Some(Tag::Always)),
            (Some(Tag::WhereOffered), Absent, Some(Tag::WhereOffered)),
            (Some(Tag::WhereOffered), Requested, Some(Tag::Always)),
            (Some(Tag::Always), Absent, Some(Tag::Always)),
            (Some(Tag::Always), Requested, Some(Tag::Always)),
        ] {
            assert_eq!(Tag::of(listener, parameter), tag, "{listener:?} {parameter:?}");
        }
        for tag in [Tag::WhereOffered, Tag::Always] {
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
        assert!("".parse::<Tag>().is_err());
    }

    #[test]
    fn the_level_and_the_account_of_tagged_mail() {
        // Q2, Q4.
        for (tag, sender, floor, with, without) in [
            ("none", "mailbox", None, None, None),
            ("always", "mailbox", Some(LevelFloor::Secure), Some("sent"), Some("not-offered")),
            ("where-offered", "mailbox", Some(LevelFloor::Secure), Some("sent"), Some("not-offered")),
            ("always", "null", None, Some("sent"), Some("null-sender")),
            ("none", "null", None, None, None),
        ] {
            let demand = demand(tag, sender);
            let said = |said| demand.said(said).map(TagResult::as_str);
            assert_eq!(demand.floor(), floor, "{tag} {sender}");
            assert_eq!((said(RequireTls::Requested), said(RequireTls::Absent)), (with, without), "{tag} {sender}");
        }
    }
}
