//! Replies that blame the name in EHLO, and the words that tell people so.
//!
//! danelaw gives the name of its client, so a remote that refuses the name is a fault in the client's configuration, which
//! the reply has to tell. The words of a reply are the remote's, or those of an attacker on the path: they add a hint, and
//! they decide nothing else.

use crate::smtp::reply::{Code, Reply};

/// Words that speak of the name in EHLO.
const WORDS: [&str; 5] = ["helo", "ehlo", "hostname", "fqdn", "fully-qualified"];
/// The same in two words.
const PAIRS: [[&str; 2]; 2] = [["host", "name"], ["fully", "qualified"]];

/// Whether the reply to EHLO speaks of the name that was given, and not of the command. A reply that only quotes the name
/// does not: the one of a block list quotes it too.
pub(super) fn is_blamed(reply: &Reply, name: &str) -> bool {
    // RFC 5321 §4.2.2: these codes are for unknown commands; a proxy on the path may send them.
    let knows_ehlo = !matches!(reply.code(), Code::SYNTAX_ERROR | Code::NOT_IMPLEMENTED);
    let text = reply.to_string().to_ascii_lowercase().replace(&name.to_ascii_lowercase(), " ");
    // A name is one word, whichever labels it has.
    let words: Vec<_> = text
        .split(|character: char| !character.is_ascii_alphanumeric() && !matches!(character, '.' | '-' | '_' | '@'))
        .map(|word| word.trim_matches(['.', '-']))
        .filter(|word| !word.is_empty())
        .collect();
    knows_ehlo
        && (words.iter().any(|word| WORDS.contains(word))
            || words.windows(2).any(|pair| PAIRS.iter().any(|of| of == pair)))
}

/// The remote's answer to a command behind EHLO, with the name that was given in EHLO if the answer blames it: Postfix
/// delays such a refusal until RCPT.
pub fn explained(answer: Reply, name: &str) -> Reply {
    let is_blamed = |line: &str| [" helo ", " ehlo ", "helo command"].iter().any(|words| line.contains(words));
    if !answer.code().is_refusal() || !answer.lines().any(|line| is_blamed(&line.to_ascii_lowercase())) {
        return answer;
    }
    let added = format!("the name given in EHLO was {name}; see ehlo_name, and the name of your mail server");
    Reply::multiline(answer.code(), answer.enhanced(), answer.lines().chain([added.as_str()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_replies_blame_the_name() {
        for (code, text, is_the_name) in [
            (504, "5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", true),
            (501, "Syntactically invalid HELO argument(s)", true),
            (550, "invalid name", false),
            (550, "EHLO: localhost is not welcome", true),
            (550, "use a host name, please", true),
            (550, "your FQDN.", true),
            (550, "you must be fully\r\n550 qualified", true),
            // Block lists quote names, and a name is no word.
            (550, "LOCALHOST is not welcome", false),
            (554, "5.7.1 localhost[192.0.2.1] blocked using helo.bl.example", false),
            (554, "see https://bl.example/hostname.ehlo or ask fqdn@bl.example", false),
            (550, "ghostnames and helots are not welcome", false),
            (554, "you are on a block list", false),
            (450, "4.7.1 <a.example>: Helo command rejected: Host not found", true),
            (421, "busy", false),
            (500, "EHLO: command not recognised", false),
            (502, "5.5.1 EHLO not implemented", false),
        ] {
            let reply = Reply::multiline(Code::new(code).unwrap(), None, text.split("\r\n550 "));
            assert_eq!(is_blamed(&reply, "localhost"), is_the_name, "{code} {text}");
        }
        // The words of the name itself are not the remote's.
        let listed = Reply::plain(Code::TRANSACTION_FAILED, "helo.ehlo-fqdn.example is listed");
        assert!(!is_blamed(&listed, "helo.ehlo-fqdn.example"));
        assert!(!is_blamed(&Reply::plain(Code::TRANSACTION_FAILED, "<helo> is listed"), "helo"));
    }
}
