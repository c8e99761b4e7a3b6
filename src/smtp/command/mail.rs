//! The argument of MAIL, and the parameters of extensions (RFC 5321 §4.1.1.2, §4.1.1.11, §4.1.2).

use std::fmt;

use super::{CommandError, after_keyword};
use crate::smtp::address::{self, ReversePath, SmtpUtf8};
use crate::smtp::extensions::Content;

/// The argument of MAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The address for reports of a failure.
    pub reverse_path: ReversePath,
    /// The size the client declares (RFC 1870 §5). Numbers beyond 64 bits are [`u64::MAX`]: too big for any server.
    pub size: Option<u64>,
    /// The type of body that the client declares.
    pub body: Option<BodyType>,
    /// Whether the transaction is an internationalised one.
    pub smtp_utf8: SmtpUtf8,
    /// Whether each recipient is to have an answer of its own to the message.
    pub prdr: Prdr,
    /// Whether the mail may go to authenticated hosts that offer REQUIRETLS only.
    pub require_tls: RequireTls,
}

/// Whether MAIL says REQUIRETLS (RFC 8689 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireTls {
    /// It does not.
    Absent,
    /// It does.
    Requested,
}

/// Whether MAIL asks for an answer for each recipient (draft-hall-prdr).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prdr {
    /// One answer for all.
    Absent,
    /// One for each, and one for all.
    Requested,
}

/// The value of BODY (RFC 6152 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(ascii_case_insensitive)]
pub enum BodyType {
    /// `7BIT`: ASCII only.
    #[strum(serialize = "7BIT")]
    SevenBit,
    /// `8BITMIME`: octets above 127 may occur.
    #[strum(serialize = "8BITMIME")]
    EightBitMime,
}

/// The parameters of MAIL that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(ascii_case_insensitive, serialize_all = "UPPERCASE")]
pub enum Parameter {
    /// SIZE (RFC 1870).
    Size,
    /// BODY (RFC 6152).
    Body,
    /// SMTPUTF8 (RFC 6531).
    SmtpUtf8,
    /// PRDR (draft-hall-prdr).
    Prdr,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
}

impl Mail {
    /// A transaction of `reverse_path` without parameters.
    pub fn new(reverse_path: ReversePath) -> Self {
        let (smtp_utf8, prdr, require_tls) = (SmtpUtf8::Absent, Prdr::Absent, RequireTls::Absent);
        Self { reverse_path, size: None, body: None, smtp_utf8, prdr, require_tls }
    }

    /// The most that the client says the message may hold. Many clients declare all that is offered, for all their mail.
    pub fn declares(&self) -> Content {
        match (self.smtp_utf8, self.body) {
            (SmtpUtf8::Requested, _) => Content::International,
            (SmtpUtf8::Absent, Some(BodyType::EightBitMime)) => Content::EightBit,
            (SmtpUtf8::Absent, Some(BodyType::SevenBit) | None) => Content::Ascii,
        }
    }

    pub(super) fn parse(argument: &str) -> Result<Self, CommandError> {
        let text = after_keyword(argument, "FROM:").ok_or(CommandError::NoFrom)?;
        let (path, parameters) = address::split_path(text).map_err(CommandError::ReversePath)?;
        let mut mail = Self::new(ReversePath::Null);
        for (keyword, value) in split_parameters(parameters)? {
            mail.set(keyword, value)?;
        }
        // The parameters come first: they say whether the address may hold UTF-8.
        mail.reverse_path = ReversePath::parse(path, mail.smtp_utf8).map_err(CommandError::ReversePath)?;
        Ok(mail)
    }

    fn set(&mut self, keyword: &str, value: Option<&str>) -> Result<(), CommandError> {
        let parameter: Parameter = keyword.parse().map_err(|_| CommandError::UnknownParameter)?;
        let bad_value = CommandError::ParameterValue(parameter);
        let is_duplicate = match parameter {
            Parameter::Size => self.size.replace(value.and_then(parse_size).ok_or(bad_value)?).is_some(),
            Parameter::Body => {
                self.body.replace(value.and_then(|value| value.parse().ok()).ok_or(bad_value)?).is_some()
            }
            // RFC 6531 §3.4, RFC 8689 §2: it has no value.
            Parameter::SmtpUtf8 | Parameter::Prdr | Parameter::RequireTls if value.is_some() => return Err(bad_value),
            Parameter::SmtpUtf8 => std::mem::replace(&mut self.smtp_utf8, SmtpUtf8::Requested) == SmtpUtf8::Requested,
            Parameter::Prdr => std::mem::replace(&mut self.prdr, Prdr::Requested) == Prdr::Requested,
            Parameter::RequireTls => {
                std::mem::replace(&mut self.require_tls, RequireTls::Requested) == RequireTls::Requested
            }
        };
        if is_duplicate { Err(CommandError::DuplicateParameter(parameter)) } else { Ok(()) }
    }
}

/// RFC 1870 §3: 1 to 20 digits.
fn parse_size(value: &str) -> Option<u64> {
    let wellformed = (1..=20).contains(&value.len()) && value.bytes().all(|octet| octet.is_ascii_digit());
    wellformed.then(|| value.parse().unwrap_or(u64::MAX))
}

/// The `esmtp-param`s of RFC 5321 §4.1.2: each with a blank before it, as keyword and value.
pub(super) fn split_parameters(text: &str) -> Result<Vec<(&str, Option<&str>)>, CommandError> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(CommandError::MalformedParameter);
    }
    text.split(' ').filter(|word| !word.is_empty()).map(split_parameter).collect()
}

fn split_parameter(word: &str) -> Result<(&str, Option<&str>), CommandError> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let is_keyword = !keyword.starts_with('-')
        && !keyword.is_empty()
        && keyword.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    // RFC 5321 §4.1.2 `esmtp-value`: not empty, no blank, no "=".
    let is_value = value.is_none_or(|value| !value.is_empty() && !value.contains('='));
    if is_keyword && is_value { Ok((keyword, value)) } else { Err(CommandError::MalformedParameter) }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reverse_path, f)?;
        if let Some(size) = self.size {
            write!(f, " SIZE={size}")?;
        }
        if let Some(body) = self.body {
            write!(f, " BODY={body}")?;
        }
        match self.smtp_utf8 {
            SmtpUtf8::Absent => {}
            SmtpUtf8::Requested => f.write_str(" SMTPUTF8")?,
        }
        match self.prdr {
            Prdr::Absent => {}
            Prdr::Requested => f.write_str(" PRDR")?,
        }
        match self.require_tls {
            RequireTls::Absent => Ok(()),
            RequireTls::Requested => f.write_str(" REQUIRETLS"),
        }
    }
}
