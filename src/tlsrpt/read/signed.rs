//! The results of a mail server's DKIM checks (RFC 8601).

use std::mem;

use super::parts::fields;
use crate::name::Name;

/// The most octets of a field whose results are read.
const MAX_RESULTS: usize = 64_000;
/// The octets that a server's name is sought in.
const MAX_NAME: usize = 1000;
/// The most domains of one mail.
const MAX_DOMAINS: usize = 10;

/// The domains of which this server has verified a signature, by the topmost field with its name (RFC 8601 §5): those below it
/// may be the sender's own.
pub fn signed_by(mail: &[u8], authserv: &str) -> Vec<String> {
    let mut values = fields(mail).filter(|field| field.is("Authentication-Results")).map(|field| field.value);
    let of_server = values.find(|value| is_of(value, authserv)).filter(|value| value.len() <= MAX_RESULTS);
    let words = of_server.map(words).unwrap_or_default();
    let mut domains: Vec<String> = Vec::new();
    for result in words.split(|word| word == ";").skip(1) {
        let Some((method, properties)) = result.split_first() else { continue };
        if !method.eq_ignore_ascii_case("dkim=pass") {
            continue;
        }
        for domain in properties.iter().filter_map(|property| domain(property)) {
            if domains.len() < MAX_DOMAINS && !domains.iter().any(|known| known == domain) {
                domains.push(domain.to_owned());
            }
        }
    }
    domains
}

fn is_of(value: &[u8], authserv: &str) -> bool {
    let words = words(value.get(..MAX_NAME).unwrap_or(value));
    words.first().is_some_and(|name| unquoted(name).eq_ignore_ascii_case(authserv))
}

/// The domain that a property names.
fn domain(property: &str) -> Option<&str> {
    let of_identity = || {
        let identity = unquoted(property.strip_prefix("header.i=")?);
        identity.strip_prefix('@')
    };
    let domain = property.strip_prefix("header.d=").map(unquoted).or_else(of_identity)?;
    Name::parse(domain).is_ok().then_some(domain)
}

fn unquoted(word: &str) -> &str {
    word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word)
}

/// The words of a field, and each ";" between them. Comments are left out. A quoted text is one word with its quotes, or part of
/// one: senders choose much of it.
fn words(value: &[u8]) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut comments, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for character in String::from_utf8_lossy(value).chars() {
        let was_escaped = mem::take(&mut is_escaped);
        let mut ends = false;
        match character {
            '\\' if (is_quoted || comments > 0) && !was_escaped => {
                is_escaped = true;
                word.extend(is_quoted.then_some(character));
            }
            '(' if !is_quoted && !was_escaped => (comments, ends) = (comments + 1, true),
            ')' if comments > 0 && !was_escaped => comments -= 1,
            _ if comments > 0 => {}
            '"' if !was_escaped => {
                is_quoted = !is_quoted;
                word.push(character);
            }
            ' ' | '\t' | '\r' | '\n' | ';' if !is_quoted => ends = true,
            _ => word.push(character),
        }
        if ends && !word.is_empty() {
            words.push(mem::take(&mut word));
        }
        if character == ';' && ends {
            words.push(";".to_owned());
        }
    }
    // A text or comment without an end is no word.
    if !is_quoted && comments == 0 && !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(results: &[&str]) -> Vec<String> {
        let fields: String = results.iter().map(|result| format!("Authentication-Results: {result}\r\n")).collect();
        signed_by(
            format!("Received: x\r\n{fields}From: a@b\r\n\r\nAuthentication-Results: mx; dkim=pass header.d=body")
                .as_bytes(),
            "mx",
        )
    }

    #[test]
    fn u7_results_as_mail_servers_write_them() {
        for (results, expected) in [
            ("mx; dkim=pass header.d=a.example", vec!["a.example"]),
            (
                "MX 1;\r\n\tDKIM=PASS (2048-bit key; unprotected) header.d=a.example header.i=@a.example header.b=\"x;y\"",
                vec!["a.example"],
            ),
            ("\"mx\"; spf=pass smtp.mailfrom=b.example;dkim=pass header.i=\"@a.example\";", vec!["a.example"]),
            ("(a (nested) comment) mx(b);dkim=pass(c)header.d=\"a.example\"", vec!["a.example"]),
            (
                "mx; dkim=pass header.d=a.example; dkim=fail header.d=b.example; dkim=pass header.d=c.example",
                vec!["a.example", "c.example"],
            ),
            ("mx; dkim=fail (\"); dkim=pass header.d=a.example", vec!["a.example"]),
            ("mx; none", vec![]),
            ("mx", vec![]),
        ] {
            assert_eq!(signed(&[results]), expected, "{results}");
        }
    }

    #[test]
    fn u7_texts_of_the_sender_forge_no_signature() {
        for results in [
            "mx; dkim=fail reason=\"; dkim=pass header.d=forged.example\"",
            "mx; dkim=fail reason=\"\\\"; dkim=pass header.d=forged.example\"",
            "mx; dkim=fail reason=\"\\\\\\\"; dkim=pass header.d=forged.example\"",
            "mx; dkim=fail (; dkim=pass header.d=forged.example)",
            "mx; dkim=fail (a \\) ; dkim=pass header.d=forged.example)",
            "mx; dkim=fail ((a) ; dkim=pass header.d=forged.example)",
            "mx; dkim=fail \"(\" ; \"dkim=pass\" header.d=forged.example",
            "mx; dkim=fail reason=\"; dkim=pass header.d=forged.example",
            "mx; dkim=fail (; dkim=pass header.d=forged.example",
            "mx; dkim=passX header.d=forged.example",
            "mx; dkim=passed; dkim=pass-not header.d=forged.example",
            "mx; xdkim=pass header.d=forged.example",
            "mx; spf=pass dkim=pass header.d=forged.example",
            "mx; dkim=pass reason=\" header.d=forged.example \"",
            "mx; dkim=pass xheader.d=forged.example header.dd=forged.example (header.d=forged.example)",
            "mx; dkim=pass header.d=\"a b; forged\\\"\" header.d=a..b header.i=user@forged.example",
            "dkim=pass header.d=forged.example",
            "mx dkim=pass header.d=forged.example",
        ] {
            assert_eq!(signed(&[results]), Vec::<String>::new(), "{results}");
        }
    }

    #[test]
    fn u7_a_field_below_the_topmost_one_does_not_count_whatever_the_topmost_is() {
        let forged = "mx; dkim=pass header.d=forged.example";
        let long = format!("mx; dkim=pass header.d=a.example; x=\"{}\"", "y".repeat(MAX_RESULTS));
        for topmost in ["mx; dkim=fail", "\"mx\"; none", "(x) mx; none", &long] {
            assert_eq!(signed(&[topmost, forged]), Vec::<String>::new(), "{topmost:.40}");
        }
        assert_eq!(signed(&["other; dkim=fail", forged]), ["forged.example"]);
        let octets = b"Authentication-Results: mx; spf=fail smtp.mailfrom=\xff\r\nAuthentication-Results: mx; dkim=pass header.d=a.b\r\n\r\n";
        assert_eq!(signed_by(octets, "mx"), Vec::<String>::new());
        let many: String = (0..100).map(|number| format!("; dkim=pass header.d=d{number}.example")).collect();
        assert_eq!(signed(&[&format!("mx{many}")]).len(), MAX_DOMAINS);
    }
}
