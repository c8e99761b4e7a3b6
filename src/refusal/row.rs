//! The shape of a row of the [`table`](super::table).

use super::table::Label;
use crate::rules::LevelFloor;
use crate::smtp::reply::{Code, EnhancedCode};

/// Names each row and gathers all rows: a reason without a row does not compile. In front of the codes stand the urgency and the
/// shortfall of a mail with this reason.
macro_rules! rows {
    (
        replies { $($name:ident $variant:ident $label:literal $urgency:ident $shortfall:ident = $codes:expr, $words:expr;)* }
        silent { $($quiet:ident $without:ident $word:literal $urgent:ident $want:ident = $said:expr;)* }
    ) => {
        /// The name of a reason in log lines, in metrics and for `danelaw refusals`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray)]
        pub enum Label {
            $(#[doc = concat!("`", $label, "`")] #[strum(serialize = $label)] $variant,)*
            $(#[doc = concat!("`", $word, "`")] #[strum(serialize = $word)] $without,)*
        }

        $crate::words::words!(Label);

        impl Label {
            /// How urgently an operator must look at a mail with this reason.
            pub const fn urgency(self) -> Urgency {
                match self {
                    $(Self::$variant => Urgency::$urgency,)*
                    $(Self::$without => Urgency::$urgent,)*
                }
            }

            /// The want of a mail with this reason.
            pub const fn shortfall(self) -> Shortfall {
                match self {
                    $(Self::$variant => Shortfall::$shortfall,)*
                    $(Self::$without => Shortfall::$want,)*
                }
            }

            /// The cause, in whole sentences.
            pub const fn cause(self) -> &'static str {
                match self {
                    $(Self::$variant => $name.cause,)*
                    $(Self::$without => $quiet.cause,)*
                }
            }

            /// The remedy.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $name.remedy,)*
                    $(Self::$without => $quiet.remedy,)*
                }
            }
        }

        $(pub(super) const $name: View = $codes.row(Label::$variant, $words);)*
        $(const $quiet: Silent = Silent { label: Label::$without, cause: $said.cause, remedy: $said.remedy };)*

        /// Every reason for which the client gets a reply, in the order of a delivery.
        pub const ROWS: &[View] = &[$($name),*];
        /// Every reason for which the client gets no reply of this attempt.
        pub const SILENT: &[Silent] = &[$($quiet),*];
    };
}

/// The names and codes of a reason, for the client and for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The reply code.
    pub code: Code,
    /// The enhanced status code (RFC 3463).
    pub enhanced: EnhancedCode,
    /// The name in log lines and metrics.
    pub label: Label,
    /// The cause, in whole sentences.
    pub cause: &'static str,
    /// The remedy and who applies it: short enough for a reply.
    pub remedy: &'static str,
    /// The same where a rule would be of no use, if that is part of the remedy.
    pub(super) under_a_floor: Option<&'static str>,
}

impl View {
    /// The remedy for mail with this least level, if it has one: no rule lowers that.
    pub fn remedy_at(&self, least: Option<LevelFloor>) -> &'static str {
        least.and(self.under_a_floor).unwrap_or(self.remedy)
    }
}

/// A reason for which the client gets no reply: there is no client any more, or it gets the reply of an earlier attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// The name in log lines and metrics.
    pub label: Label,
    /// The cause, in whole sentences.
    pub cause: &'static str,
    /// The remedy.
    pub remedy: &'static str,
}

/// The codes of a row.
pub(super) struct Codes {
    code: Code,
    enhanced: EnhancedCode,
}

impl Codes {
    pub(super) const fn row(self, label: Label, words: Words) -> View {
        let Words { cause, remedy, under_a_floor } = words;
        View { code: self.code, enhanced: self.enhanced, label, cause, remedy, under_a_floor }
    }
}

/// The client tries again.
pub(super) const fn deferred(subject: u16, detail: u16) -> Codes {
    Codes { code: Code::LOCAL_ERROR, enhanced: EnhancedCode::transient(subject, detail) }
}

/// The client gives up.
pub(super) const fn refused(code: Code, subject: u16, detail: u16) -> Codes {
    Codes { code, enhanced: EnhancedCode::permanent(subject, detail) }
}

#[derive(Clone, Copy)]
pub(super) struct Words {
    pub(super) cause: &'static str,
    pub(super) remedy: &'static str,
    under_a_floor: Option<&'static str>,
}

impl Words {
    /// Another remedy for mail with a least level of its own.
    pub(super) const fn under_a_floor(self, remedy: &'static str) -> Self {
        Self { under_a_floor: Some(remedy), ..self }
    }
}

pub(super) const fn words(cause: &'static str, remedy: &'static str) -> Words {
    Words { cause, remedy, under_a_floor: None }
}
