//! The check of a domain: the delivery path of a mail to it now, step by step, with sessions that send none.
//!
//! `danelaw check` shows one, and the [watch](crate::watch) compares it with the one before. It takes the path of a delivery: the
//! same rules, policies and sessions, so that its verdict is that of the next mail.

pub(crate) mod advice;
pub(crate) mod certificate;
pub(crate) mod checker;
pub(crate) mod ends;
pub(crate) mod forecast;
pub(crate) mod reach;
pub(crate) mod recording;
pub(crate) mod report;
pub(crate) mod sessions;
pub(crate) mod sts;
pub(crate) mod tagged;
pub(crate) mod verdict;
