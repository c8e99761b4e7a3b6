//! The numbers of a reply: the basic code (RFC 5321 §4.2) and the enhanced one (RFC 3463).

use std::fmt;

use crate::digits::Digits;

/// The first digit of a code: what a reply means for the command it answers (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2yz: done.
    Success,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: no.
    Permanent,
}

impl Class {
    /// The first digit.
    pub const fn digit(self) -> u8 {
        match self {
            Self::Success => 2,
            Self::Intermediate => 3,
            Self::Transient => 4,
            Self::Permanent => 5,
        }
    }

    fn from_digit(digit: u16) -> Option<Self> {
        match digit {
            2 => Some(Self::Success),
            3 => Some(Self::Intermediate),
            4 => Some(Self::Transient),
            5 => Some(Self::Permanent),
            _ => None,
        }
    }
}

/// A basic reply code: digits 2-5, 0-5 and 0-9 (RFC 5321 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

impl Code {
    /// 214: an answer to HELP.
    pub const HELP: Self = Self(214);
    /// 220: the greeting, and the go-ahead for STARTTLS (RFC 3207 §4).
    pub const READY: Self = Self(220);
    /// 221: the connection is being closed.
    pub const CLOSING: Self = Self(221);
    /// 250: done.
    pub const OK: Self = Self(250);
    /// 252: not verified, but would be tried.
    pub const CANNOT_VERIFY: Self = Self(252);
    /// 353: an answer for each recipient follows (draft-hall-prdr).
    pub const ANSWERS_FOLLOW: Self = Self(353);
    /// 354: send the message.
    pub const START_MAIL_INPUT: Self = Self(354);
    /// 421: the service is closing the connection.
    pub const SERVICE_NOT_AVAILABLE: Self = Self(421);
    /// 451: not done, try again.
    pub const LOCAL_ERROR: Self = Self(451);
    /// 452: too little storage, or too many recipients, for now.
    pub const INSUFFICIENT_STORAGE: Self = Self(452);
    /// 500: the command was not recognised.
    pub const SYNTAX_ERROR: Self = Self(500);
    /// 501: the arguments are wrong.
    pub const ARGUMENT_ERROR: Self = Self(501);
    /// 502: a command that is not implemented.
    pub const NOT_IMPLEMENTED: Self = Self(502);
    /// 503: a command out of its order.
    pub const BAD_SEQUENCE: Self = Self(503);
    /// 530: STARTTLS must come first (RFC 3207 §4).
    pub const TLS_REQUIRED: Self = Self(530);
    /// 550: mailbox unavailable.
    pub const MAILBOX_UNAVAILABLE: Self = Self(550);
    /// 552: too big.
    pub const EXCEEDED_STORAGE: Self = Self(552);
    /// 553: the mailbox name is not allowed.
    pub const MAILBOX_NAME_NOT_ALLOWED: Self = Self(553);
    /// 554: the transaction failed.
    pub const TRANSACTION_FAILED: Self = Self(554);
    /// 555: a parameter of MAIL or RCPT that is not known (RFC 5321 §4.1.1.11).
    pub const PARAMETERS_NOT_RECOGNISED: Self = Self(555);
    /// 556: the domain takes no mail (RFC 7504 §4).
    pub const DOMAIN_TAKES_NO_MAIL: Self = Self(556);

    /// The code with this number, if SMTP can have it.
    pub const fn new(number: u16) -> Option<Self> {
        // The last digit is free, so two comparisons say all: 2-5 in front, 0-5 behind it.
        if number / 100 >= 2 && number / 100 <= 5 && number / 10 % 10 <= 5 { Some(Self(number)) } else { None }
    }

    /// Reads the code of a remote. The first digit decides a client's next action (RFC 5321 §4.2, §4.3.2), so a second
    /// digit that SMTP does not have makes it the plainest code of its class, not an error: `299` is read as 250.
    pub(super) fn read(number: u16) -> Option<Self> {
        let class = Class::from_digit(number / 100)?;
        Some(Self::new(number).unwrap_or(match class {
            Class::Success => Self::OK,
            Class::Intermediate => Self(350),
            Class::Transient => Self::LOCAL_ERROR,
            Class::Permanent => Self::TRANSACTION_FAILED,
        }))
    }

    /// The first digit.
    pub const fn class(self) -> Class {
        match self.0 / 100 {
            2 => Class::Success,
            3 => Class::Intermediate,
            4 => Class::Transient,
            // `new` lets no other first digit in.
            _ => Class::Permanent,
        }
    }

    /// Whether it says yes.
    pub const fn is_success(self) -> bool {
        matches!(self.class(), Class::Success)
    }

    /// Whether it says no, for now or for good.
    pub const fn is_refusal(self) -> bool {
        matches!(self.class(), Class::Transient | Class::Permanent)
    }

    /// Whether it says no for good.
    pub const fn is_permanent(self) -> bool {
        matches!(self.class(), Class::Permanent)
    }

    /// Whether it may answer MAIL or RCPT at all. A 220 is a greeting, 221 answers QUIT, 23z belongs to AUTH and 3yz to DATA
    /// (RFC 5321 §4.3.2): one of these means that replies no longer belong to commands.
    pub const fn answers_an_envelope(self) -> bool {
        !matches!(self.0, 220 | 221 | 230..=239 | 300..=399)
    }

    /// Whether it is about the command itself, which is not known, not implemented or out of order (RFC 5321 §4.2.2), and not about
    /// the mail.
    pub const fn is_about_the_command(self) -> bool {
        matches!(self.0, 500..=504)
    }

    /// The three digits as a number.
    pub const fn number(self) -> u16 {
        self.0
    }

    pub(super) fn text(self) -> Digits {
        Digits::joined(b'.', [self.0])
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// An enhanced status code: class, subject and detail, as `4.7.5` (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: Class,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// `2.subject.detail`.
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self::new(Class::Success, subject, detail)
    }

    /// `4.subject.detail`.
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self::new(Class::Transient, subject, detail)
    }

    /// `5.subject.detail`.
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self::new(Class::Permanent, subject, detail)
    }

    /// The class, for which RFC 3463 §2 has 2, 4 and 5.
    pub const fn class(self) -> Class {
        self.class
    }

    /// What the status is about: 1 addresses, 2 mailboxes, 3 mail systems, 4 network and routing, 5 protocol, 6
    /// content, 7 security (RFC 3463 §2).
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// Whether it speaks of an address, as the answers to MAIL and RCPT do (RFC 3463 §3.2).
    pub const fn is_about_an_address(self) -> bool {
        self.subject == 1
    }

    /// What it is in detail (RFC 3463 §3).
    pub const fn detail(self) -> u16 {
        self.detail
    }

    pub(super) fn text(self) -> Digits {
        Digits::joined(b'.', [self.class.digit().into(), self.subject, self.detail])
    }

    /// This subject and detail in the class of `code`: the two have to agree (RFC 2034 §4), and a 3yz has none.
    pub(super) fn agreeing_with(self, code: Code) -> Option<Self> {
        match code.class() {
            Class::Intermediate => None,
            class => Some(Self { class, ..self }),
        }
    }

    /// Reads an enhanced code off the front of a remote's text, if it agrees with the basic code. RFC 2034 §4: a SP
    /// follows it; at the end of a line we do without.
    pub(super) fn split_off(code: Code, text: &str) -> Option<(Self, &str)> {
        let (class, text) = text.split_at_checked(2)?;
        if class.as_bytes() != [b'0' + code.class().digit(), b'.'] || code.class() == Class::Intermediate {
            return None;
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (subject, detail) = word.split_once('.')?;
        Some((Self::new(code.class(), up_to_three_digits(subject)?, up_to_three_digits(detail)?), rest))
    }

    /// RFC 3463 §2 has room for three digits; larger numbers are cut down to that.
    const fn new(class: Class, subject: u16, detail: u16) -> Self {
        const MOST: u16 = 999;
        Self {
            class,
            subject: if subject > MOST { MOST } else { subject },
            detail: if detail > MOST { MOST } else { detail },
        }
    }
}

/// RFC 3463 §2: no leading zeros.
fn up_to_three_digits(text: &str) -> Option<u16> {
    let wellformed = (1..=3).contains(&text.len())
        && text.bytes().all(|octet| octet.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if wellformed { text.parse().ok() } else { None }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_codes() {
        // I3.
        for (number, is_code) in
            [(0, false), (199, false), (200, true), (259, true), (260, false), (299, false), (354, true)]
                .into_iter()
                .chain([(421, true), (559, true), (560, false), (600, false), (999, false), (u16::MAX, false)])
        {
            assert_eq!(Code::new(number).is_some(), is_code, "{number}");
        }
    }

    #[test]
    fn a_remote_may_use_a_second_digit_that_smtp_has_not() {
        // K1, K2.
        for (sent, read) in [(250, Some(250)), (299, Some(250)), (366, Some(350)), (470, Some(451)), (599, Some(554))]
            .into_iter()
            .chain([(199, None), (600, None), (999, None), (0, None)])
        {
            assert_eq!(Code::read(sent).map(Code::number), read, "{sent}");
        }
    }

    #[test]
    fn enhanced_codes_in_a_text() {
        // L9, N2.
        for (code, text, read) in [
            (550, "5.1.1 no such user", Some(("5.1.1", "no such user"))),
            (550, "5.1.1", Some(("5.1.1", ""))),
            (250, "2.0.0  two blanks", Some(("2.0.0", " two blanks"))),
            (451, "4.7.999 x", Some(("4.7.999", "x"))),
            (250, "5.1.1 lies", None),
            (354, "3.0.0 go", None),
            (550, "5.1 x", None),
            (550, "5.1.1.1 x", None),
            (550, "5.1.1000 x", None),
            (550, "5.01.1 x", None),
            (550, "5.1.+1 x", None),
            (550, "5..1 x", None),
            (550, " 5.1.1 x", None),
            (550, "5.1.1: x", None),
            (550, "", None),
        ] {
            let code = Code::new(code).unwrap();
            let split = EnhancedCode::split_off(code, text);
            let split = split.map(|(enhanced, rest)| (enhanced.to_string(), rest));
            assert_eq!(split.as_ref().map(|(enhanced, rest)| (enhanced.as_str(), *rest)), read, "{text:?}");
        }
        assert_eq!(EnhancedCode::permanent(1000, u16::MAX).to_string(), "5.999.999");
    }
}
