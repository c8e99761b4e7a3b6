//! Service extensions: those that the remote offers, and those that we offer (RFC 5321 §2.2, §4.1.1.1).
//!
//! The offer of a remote is believed only from its EHLO reply inside TLS (RFC 3207 §4.2); the callers of
//! [`Extensions::parse`] see to that. Our own offer is a promise made before any remote is known, so it holds only
//! extensions that we can support with every remote.

use super::reply::{Code, Reply};

/// The offer in an EHLO reply. Unknown keywords are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtp_utf8: bool,
    /// CHUNKING (RFC 3030 §2).
    pub chunking: bool,
    /// SIZE (RFC 1870).
    pub size: SizeLimit,
    /// The most transactions of one session, if LIMITS says so (RFC 9422 §4.1).
    pub most_mails: Option<u64>,
    /// REQUIRETLS (RFC 8689 §2).
    pub require_tls: bool,
}

/// The demands that the octets of a message make on a server, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Content {
    /// ASCII alone.
    #[default]
    Ascii,
    /// Octets above 127 (RFC 6152 §3).
    EightBit,
    /// Octets above 127 in the header of an internationalised message (RFC 6531 §3.4). Those need 8BITMIME too.
    International,
}

/// A server's limit for the size of a message (RFC 1870 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SizeLimit {
    /// It does not offer SIZE, or with a number that is none. MAIL must not carry SIZE then.
    #[default]
    Undeclared,
    /// It offers SIZE without a number or with 0: no fixed limit.
    Unlimited,
    /// Messages of at most so many octets.
    Octets(u64),
}

impl Extensions {
    /// Reads a positive reply to EHLO. Its first line greets and offers nothing.
    pub fn parse(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "STARTTLS" => extensions.starttls = true,
                "PIPELINING" => extensions.pipelining = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtp_utf8 = true,
                "CHUNKING" => extensions.chunking = true,
                "SIZE" => extensions.size = SizeLimit::parse(words.next()),
                "REQUIRETLS" => extensions.require_tls = true,
                "LIMITS" => extensions.most_mails = words.find_map(most_mails),
                _ => {}
            }
        }
        extensions
    }

    /// The most that a message may hold. A server that offers SMTPUTF8 has to offer 8BITMIME as well (RFC 6531 §3.1), and
    /// one that does not gets ASCII alone.
    pub fn takes(&self) -> Content {
        match (self.eight_bit_mime, self.smtp_utf8) {
            (false, _) => Content::Ascii,
            (true, false) => Content::EightBit,
            (true, true) => Content::International,
        }
    }
}

/// RFC 9422 §3: a number from 1 to 999999; any other value is ignored.
fn most_mails(limit: &str) -> Option<u64> {
    let (name, number) = limit.split_once('=')?;
    name.eq_ignore_ascii_case("MAILMAX").then_some(number)?.parse().ok().filter(|most| *most > 0)
}

impl SizeLimit {
    /// RFC 1870 §3: 1 to 20 digits, which is more than 64 bits hold.
    fn parse(number: Option<&str>) -> Self {
        let Some(digits) = number else { return Self::Unlimited };
        if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
            return Self::Undeclared;
        }
        match digits.parse() {
            Ok(0) => Self::Unlimited,
            Ok(octets) => Self::Octets(octets),
            // Digits only, so the number is too big for a u64: more than any message has.
            Err(_) => Self::Octets(u64::MAX),
        }
    }
}

/// How many recipient domains one transaction may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainsPerTransaction {
    /// One, unless MAIL asks for an answer for each recipient: there is one reply at the end of the data else, and it has
    /// to be that of one remote.
    One,
    /// Any number: they share the one reply.
    AnyTogether,
    /// Any number: each recipient is answered on its own, as in LMTP (RFC 2033 §4.2).
    Any,
}

/// Our offer to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The biggest message we take, in octets (RFC 1870 §3).
    pub size: u64,
    /// Whether LIMITS tells the client to keep to one domain (RFC 9422), and PRDR how it need not (draft-hall-prdr).
    pub domains: DomainsPerTransaction,
    /// Whether TLS may begin (RFC 3207).
    pub starttls: bool,
    /// Whether MAIL may say REQUIRETLS (RFC 8689 §2: under TLS alone).
    pub require_tls: bool,
}

impl Offer {
    /// The keyword lines of our EHLO reply, behind its first line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            "PIPELINING".to_owned(),
            format!("SIZE {}", self.size),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
            "CHUNKING".to_owned(),
        ];
        if self.starttls {
            lines.push("STARTTLS".to_owned());
        }
        if self.require_tls {
            lines.push("REQUIRETLS".to_owned());
        }
        match self.domains {
            DomainsPerTransaction::One => lines.extend(["PRDR".to_owned(), "LIMITS RCPTDOMAINMAX=1".to_owned()]),
            DomainsPerTransaction::AnyTogether => lines.push("PRDR".to_owned()),
            // Fifty to a transaction is no limit that LIMITS can tell: RCPTDOMAINMAX is of the session (RFC 9422 §4.3), which
            // may have any number, and those beyond fifty hear 452 and come in its next transaction.
            DomainsPerTransaction::Any => {}
        }
        lines
    }

    /// Our whole reply to EHLO or LHLO; `greeting` starts with our host name (RFC 5321 §4.1.1.1).
    pub fn reply(&self, greeting: &str) -> Reply {
        let lines = std::iter::once(greeting.to_owned()).chain(self.lines());
        // RFC 2034 §4: no enhanced code in this one.
        Reply::multiline(Code::OK, None, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Extensions {
        let lines = ["mx.example greets you"].iter().chain(lines);
        Extensions::parse(&Reply::multiline(Code::OK, None, lines.copied()))
    }

    #[test]
    fn offers_of_a_remote() {
        assert_eq!(parse(&[]), Extensions::default());
        assert_eq!(
            parse(&["StartTls", "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "X-NEW", "SIZE 10"]),
            Extensions {
                starttls: true,
                pipelining: true,
                eight_bit_mime: true,
                smtp_utf8: true,
                chunking: true,
                size: SizeLimit::Octets(10),
                most_mails: None,
                require_tls: false,
            }
        );
        // Q21: in any case, and words behind it are ignored (RFC 5321 §4.1.1.1).
        for (offered, require_tls) in
            [("REQUIRETLS", true), ("RequireTLS now", true), ("REQUIRETLSX", false), ("X REQUIRETLS", false)]
        {
            assert_eq!(parse(&[offered]).require_tls, require_tls, "{offered}");
        }
        // K19.
        for (limits, most_mails) in [
            ("LIMITS MAILMAX=7", Some(7)),
            ("LIMITS RCPTMAX=10 mailmax=1 X=2", Some(1)),
            ("LIMITS MAILMAX=0", None),
            ("LIMITS MAILMAX=many", None),
            ("LIMITS MAILMAX", None),
            ("LIMITS", None),
        ] {
            assert_eq!(parse(&[limits]).most_mails, most_mails, "{limits}");
        }
        // A keyword is a word, and the greeting is none.
        assert_eq!(parse(&["STARTTLSX", "X STARTTLS", ""]), Extensions::default());
        let greeting_only = Reply::plain(Code::OK, "STARTTLS");
        assert_eq!(Extensions::parse(&greeting_only), Extensions::default());
    }

    #[test]
    fn limits_of_a_remote() {
        for (offered, content) in [
            (&[][..], Content::Ascii),
            (&["SMTPUTF8"], Content::Ascii),
            (&["8BITMIME"], Content::EightBit),
            (&["8BITMIME", "SMTPUTF8"], Content::International),
        ] {
            assert_eq!(parse(offered).takes(), content, "{offered:?}");
        }
        assert!(Content::Ascii < Content::EightBit && Content::EightBit < Content::International);
    }

    #[test]
    fn sizes() {
        // M10, A-68.
        for (lines, size) in [
            (&["SIZE"][..], SizeLimit::Unlimited),
            (&["SIZE 0"], SizeLimit::Unlimited),
            (&["SIZE 35882577"], SizeLimit::Octets(35_882_577)),
            (&["SIZE -1"], SizeLimit::Undeclared),
            (&["SIZE many"], SizeLimit::Undeclared),
            (&["SIZE 1180591620717411303424"], SizeLimit::Octets(u64::MAX)),
            (&["HELP"], SizeLimit::Undeclared),
        ] {
            assert_eq!(parse(lines).size, size, "{lines:?}");
        }
    }

    #[test]
    fn the_extensions_that_danelaw_offers() {
        // I22, M5, M23: these and no more.
        // Decision 9.
        let mut written = bytes::BytesMut::new();
        let offer = |domains| Offer { size: 1000, domains, starttls: false, require_tls: false };
        offer(DomainsPerTransaction::One).reply("relay.example").write(&mut written);
        assert_eq!(
            written,
            "250-relay.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
             250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-PRDR\r\n250 LIMITS RCPTDOMAINMAX=1\r\n"
        );
        // Decision 11: LMTP answers for each recipient.
        let in_clear = offer(DomainsPerTransaction::Any);
        let lines = in_clear.lines();
        assert_eq!(lines, ["PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING"]);
        // RFC 3207 §4.2: before TLS alone.
        let before_tls = Offer { starttls: true, ..in_clear }.lines();
        assert_eq!(before_tls, [&lines[..], &["STARTTLS".to_owned()]].concat());
        // Q1, M23.
        let under_tls = Offer { require_tls: true, ..in_clear }.lines();
        assert_eq!(under_tls, [&lines[..], &["REQUIRETLS".to_owned()]].concat());
    }
}
