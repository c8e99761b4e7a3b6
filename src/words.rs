//! The word of each variant of an enum: in the configuration, in logs and metrics, in reports and in the store. The enum derives it.

/// Gives an enum the method `as_str`, by value or (`&`) by reference.
macro_rules! words {
    (&$name:ident) => {
        impl $name {
            /// The word for it.
            #[allow(unreachable_pub, reason = "some of the enums are private")]
            pub fn as_str(&self) -> &'static str {
                self.into()
            }
        }
    };
    ($name:ident) => {
        impl $name {
            /// The word for it.
            #[allow(unreachable_pub, reason = "some of the enums are private")]
            pub fn as_str(self) -> &'static str {
                self.into()
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use crate::dane::pkix::PkixWorth;
    use crate::refusal::ResultType;
    use crate::report::result::MailResult;
    use crate::tlsrpt::event::PolicyKind;
    use crate::tlsrpt::report_end::ReportEnd;

    fn words<T: VariantArray + Copy + Into<&'static str>>() -> String {
        T::VARIANTS.iter().map(|variant| (*variant).into()).collect::<Vec<_>>().join(" ")
    }

    /// A store of an older version has these words: a variant with another name must keep its word.
    #[test]
    fn words_in_stores_do_not_change() {
        assert_eq!(words::<ReportEnd>(), "found sent no-record dns refused tries old limit suppressed told skipped");
        assert_eq!(
            words::<MailResult>(),
            "dane dane-host mta-sts pkix fingerprint encrypted encrypted-unenforced cleartext cleartext-unenforced unclaimed \
             refused no-dns-answer deferred rejected"
        );
        assert_eq!(
            words::<PkixWorth>(),
            "valid expired not-yet-valid other-name self-signed unknown-authority invalid sni-refused"
        );
        assert_eq!(words::<PolicyKind>(), "tlsa sts no-policy-found");
        // RFC 8460 §4.3.
        assert_eq!(
            words::<ResultType>(),
            "starttls-not-supported certificate-host-mismatch certificate-expired certificate-not-trusted validation-failure \
             tlsa-invalid dnssec-invalid dane-required sts-policy-fetch-error sts-policy-invalid sts-webpki-invalid"
        );
    }
}
