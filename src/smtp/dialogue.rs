//! Which command is legal when, towards the client (RFC 5321 §4.1.4).
//!
//! [`Dialogue`] holds what the client has said so far and answers each command with a [`Step`]: a reply that needs
//! nobody else, or work for the session to do. `U` is the open upstream. It exists in one state only, an open
//! transaction with a remote, so that no code can reach for an upstream that is not there, and none is left over after
//! RSET, a second EHLO or QUIT.

use std::fmt;

use super::address::{ForwardPath, Mailbox, RecipientDomain, SmtpUtf8};
use super::command::{Command, Hello, Mail};
use super::extensions::{DomainsPerTransaction, Offer};
use super::reply::{Code, EnhancedCode, Reply};
use crate::name::Name;

/// The conversation with one client. `U` is the open upstream of the transaction.
#[derive(Debug)]
pub struct Dialogue<U> {
    state: State<U>,
    us: Us,
    service: Service,
}

/// What is spoken with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// SMTP: one answer to the message (RFC 5321 §4.1.1.4).
    Smtp,
    /// LMTP: one answer to the message for each recipient (RFC 2033 §4.2).
    Lmtp,
}

/// What the dialogue says of ourselves.
#[derive(Debug, Clone)]
pub struct Us {
    /// Our host name.
    pub hostname: String,
    /// The biggest message we take, in octets (RFC 1870 §3).
    pub size: u64,
    /// The most recipients in one transaction.
    pub max_recipients: usize,
}

#[derive(Debug)]
enum State<U> {
    /// No EHLO yet.
    Connected,
    /// EHLO, and no transaction.
    Greeted(Client),
    /// MAIL, and no upstream: no recipient so far, or none whose domain could be reached.
    Mail(Transaction),
    /// At least one recipient's domain was reached.
    Open { transaction: Transaction, domain: Name, upstream: U, accepted: usize },
    /// The upstream was lost; all that is left of the transaction gets this answer.
    Lost { transaction: Transaction, answer: Reply },
}

/// How the client introduced itself.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its name for itself.
    pub hello: Hello,
    /// How it speaks, as the Received line calls it (RFC 3848).
    pub protocol: Protocol,
}

/// The protocol types of RFC 5321 §4.4 that a client of ours may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// It said HELO.
    Smtp,
    /// It said EHLO.
    Esmtp,
    /// It said LHLO.
    Lmtp,
}

/// What the client said before its first recipient.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Who said it.
    pub client: Client,
    /// The sender and the parameters of MAIL.
    pub mail: Mail,
    /// Recipients named so far, accepted or not.
    pub recipients: usize,
    /// Domains that cannot be reached in this transaction, and what was said about it.
    refused: Vec<(Name, Reply)>,
}

/// A recipient at a domain, the only kind there is a way to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// The domain it is routed by.
    pub domain: Name,
}

/// What a command asks for.
#[derive(Debug)]
pub enum Step<'a, U> {
    /// Nothing but this answer.
    Reply(Reply),
    /// The transaction is over: close its upstream without a message, then answer.
    Abandon(U, Reply),
    /// As [`Step::Reply`], and then the connection closes.
    Quit(Reply),
    /// As [`Step::Abandon`], and then the connection closes.
    QuitAbandoning(U, Reply),
    /// The first recipient of a domain: open an upstream; then call [`Dialogue::opened`] or [`Dialogue::refused`].
    Open(&'a Transaction, Recipient),
    /// Another recipient for the open upstream; then call [`Dialogue::recipient`] or [`Dialogue::lost`].
    Recipient(&'a mut U, Recipient),
    /// Send the message, and answer it so often; the transaction is over, whatever comes of it.
    Data(Transaction, U, usize),
}

impl<U> Dialogue<U> {
    /// A client that has just connected.
    pub fn new(us: Us, service: Service) -> Self {
        Self { state: State::Connected, us, service }
    }

    /// The greeting (RFC 5321 §4.3.1).
    pub fn greeting(&self) -> Reply {
        let protocol = match self.service {
            Service::Smtp => Protocol::Esmtp,
            Service::Lmtp => Protocol::Lmtp,
        };
        Reply::plain(Code::READY, format!("{} {protocol} danelaw", self.us.hostname))
    }

    /// Whether nothing is under way that a shutdown should wait for.
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Connected | State::Greeted(_) => true,
            State::Mail(_) | State::Open { .. } | State::Lost { .. } => false,
        }
    }

    /// What a command asks for.
    pub fn step(&mut self, command: Command) -> Step<'_, U> {
        match command {
            Command::Ehlo(hello) => self.hello(hello, Protocol::Esmtp),
            Command::Helo(hello) => self.hello(hello, Protocol::Smtp),
            Command::Lhlo(hello) => self.hello(hello, Protocol::Lmtp),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(path) => self.rcpt(path),
            Command::Data => self.data(),
            Command::Rset => self.rset(),
            Command::Noop => Step::Reply(enhanced(Code::OK, 0, 0, "Ok")),
            Command::Vrfy => {
                Step::Reply(enhanced(Code::CANNOT_VERIFY, 0, 0, "send some mail, and the remote will tell"))
            }
            Command::Expn => Step::Reply(enhanced(Code::NOT_IMPLEMENTED, 5, 1, "EXPN is not for relays")),
            Command::Help => {
                Step::Reply(enhanced(Code::HELP, 0, 0, "danelaw passes mail on to hosts that DANE verifies"))
            }
            Command::Quit => {
                let bye = enhanced(Code::CLOSING, 0, 0, "Bye");
                match self.take() {
                    State::Open { upstream, .. } => Step::QuitAbandoning(upstream, bye),
                    State::Connected | State::Greeted(_) | State::Mail(_) | State::Lost { .. } => Step::Quit(bye),
                }
            }
        }
    }

    /// The first recipient's domain was reached and MAIL was taken; `answer` is what the remote said to the recipient.
    pub fn opened(&mut self, domain: Name, upstream: U, answer: &Reply) {
        self.state = match self.take() {
            State::Mail(transaction) => {
                State::Open { transaction, domain, upstream, accepted: usize::from(answer.code().is_success()) }
            }
            other => other,
        };
    }

    /// The domain cannot be reached: the rest of its recipients get the same answer without another attempt.
    pub fn refused(&mut self, domain: Name, answer: Reply) {
        if let State::Mail(transaction) = &mut self.state {
            transaction.refused.push((domain, answer));
        }
    }

    /// What the open upstream said to another recipient.
    pub fn recipient(&mut self, answer: &Reply) {
        if let State::Open { accepted, .. } = &mut self.state {
            *accepted += usize::from(answer.code().is_success());
        }
    }

    /// The upstream is gone, and is given back for its account; everything up to the next MAIL gets this answer.
    pub fn lost(&mut self, answer: Reply) -> Option<U> {
        match self.take() {
            State::Open { transaction, upstream, .. } => {
                self.state = State::Lost { transaction, answer };
                Some(upstream)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The upstream of the open transaction.
    pub fn upstream(&mut self) -> Option<&mut U> {
        match &mut self.state {
            State::Open { upstream, .. } => Some(upstream),
            State::Connected | State::Greeted(_) | State::Mail(_) | State::Lost { .. } => None,
        }
    }

    /// The upstream of an open transaction when the client has gone away.
    pub fn abandon(&mut self) -> Option<U> {
        match self.take() {
            State::Open { upstream, .. } => Some(upstream),
            State::Connected | State::Greeted(_) | State::Mail(_) | State::Lost { .. } => None,
        }
    }

    fn mail(&mut self, mail: Mail) -> Step<'_, U> {
        if mail.size.is_some_and(|size| size > self.us.size) {
            // RFC 1870 §6.1: said before anybody is bothered with it.
            let text = format!("the message is larger than {} octets", self.us.size);
            return Step::Reply(enhanced(Code::EXCEEDED_STORAGE, 3, 4, &text));
        }
        match self.take() {
            State::Greeted(client) => {
                self.state = State::Mail(Transaction { client, mail, recipients: 0, refused: Vec::new() });
                Step::Reply(enhanced(Code::OK, 1, 0, "Ok"))
            }
            State::Connected => Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "say EHLO first")),
            state @ (State::Mail(_) | State::Open { .. } | State::Lost { .. }) => {
                self.state = state;
                Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "a transaction is open: say RSET first"))
            }
        }
    }

    fn rcpt(&mut self, path: ForwardPath) -> Step<'_, U> {
        let max_recipients = self.us.max_recipients;
        match &mut self.state {
            State::Connected | State::Greeted(_) => Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "say MAIL first")),
            State::Lost { answer, .. } => Step::Reply(answer.clone()),
            State::Mail(transaction) => {
                let recipient = match transaction.admit(path, max_recipients) {
                    Ok(recipient) => recipient,
                    Err(no) => return Step::Reply(no),
                };
                match transaction.refused.iter().find(|(domain, _)| *domain == recipient.domain) {
                    Some((_, answer)) => Step::Reply(answer.clone()),
                    None => Step::Open(transaction, recipient),
                }
            }
            State::Open { transaction, domain, upstream, .. } => match transaction.admit(path, max_recipients) {
                Err(no) => Step::Reply(no),
                Ok(recipient) if recipient.domain != *domain => {
                    // RFC 5321 §4.1.1.4: one answer for all after DATA, so one remote for all. The client sends the
                    // others again in a transaction of their own.
                    let text = format!("one destination per transaction: this one is for {domain}, try again");
                    Step::Reply(enhanced(Code::INSUFFICIENT_STORAGE, 5, 3, &text))
                }
                Ok(recipient) => Step::Recipient(upstream, recipient),
            },
        }
    }

    fn data(&mut self) -> Step<'_, U> {
        match self.take() {
            State::Open { transaction, upstream, accepted: accepted @ 1.., .. } => {
                self.state = State::Greeted(transaction.client.clone());
                let answers = match self.service {
                    Service::Smtp => 1,
                    // RFC 2033 §4.2: one for each accepted recipient.
                    Service::Lmtp => accepted,
                };
                Step::Data(transaction, upstream, answers)
            }
            State::Lost { transaction, answer } => {
                self.state = State::Greeted(transaction.client);
                Step::Reply(answer)
            }
            state @ (State::Mail(_) | State::Open { .. }) => {
                // RFC 2920 §3.2: a pipelined DATA behind nothing but refusals.
                self.state = state;
                let code = match self.service {
                    Service::Smtp => Code::TRANSACTION_FAILED,
                    // RFC 2033 §4.2.
                    Service::Lmtp => Code::BAD_SEQUENCE,
                };
                Step::Reply(enhanced(code, 5, 1, "no valid recipients"))
            }
            state @ (State::Connected | State::Greeted(_)) => {
                self.state = state;
                Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "say MAIL and RCPT first"))
            }
        }
    }

    /// RFC 5321 §4.1.1.5: back to where EHLO left us.
    fn rset(&mut self) -> Step<'_, U> {
        let ok = enhanced(Code::OK, 0, 0, "Ok");
        match self.take() {
            State::Connected => Step::Reply(ok),
            State::Greeted(client)
            | State::Mail(Transaction { client, .. })
            | State::Lost { transaction: Transaction { client, .. }, .. } => {
                self.state = State::Greeted(client);
                Step::Reply(ok)
            }
            State::Open { transaction, upstream, .. } => {
                self.state = State::Greeted(transaction.client);
                Step::Abandon(upstream, ok)
            }
        }
    }

    /// RFC 5321 §4.1.4: a new EHLO ends a transaction as RSET does.
    fn hello(&mut self, hello: Hello, protocol: Protocol) -> Step<'_, U> {
        let hostname = &self.us.hostname;
        let reply = match (self.service, protocol) {
            (Service::Smtp, Protocol::Smtp) => Reply::plain(Code::OK, hostname.clone()),
            (Service::Smtp, Protocol::Esmtp) | (Service::Lmtp, Protocol::Lmtp) => self.offer().reply(hostname),
            (Service::Smtp, Protocol::Lmtp) => {
                return Step::Reply(enhanced(Code::SYNTAX_ERROR, 5, 1, "this is SMTP, not LMTP: say EHLO"));
            }
            // RFC 2033 §4.1.
            (Service::Lmtp, Protocol::Smtp | Protocol::Esmtp) => {
                return Step::Reply(enhanced(Code::SYNTAX_ERROR, 5, 1, "this is LMTP, not SMTP: say LHLO"));
            }
        };
        match std::mem::replace(&mut self.state, State::Greeted(Client { hello, protocol })) {
            State::Open { upstream, .. } => Step::Abandon(upstream, reply),
            State::Connected | State::Greeted(_) | State::Mail(_) | State::Lost { .. } => Step::Reply(reply),
        }
    }

    fn offer(&self) -> Offer {
        let domains = match self.service {
            Service::Smtp => DomainsPerTransaction::One,
            Service::Lmtp => DomainsPerTransaction::Any,
        };
        Offer { size: self.us.size, domains }
    }

    fn take(&mut self) -> State<U> {
        std::mem::replace(&mut self.state, State::Connected)
    }
}

impl Transaction {
    /// A recipient there is a way to, counted; or what to say about it.
    fn admit(&mut self, path: ForwardPath, max_recipients: usize) -> Result<Recipient, Reply> {
        let refused = |code, subject, detail, text| Err(enhanced(code, subject, detail, text));
        let ForwardPath::Mailbox(mailbox) = path else {
            return refused(Code::MAILBOX_UNAVAILABLE, 1, 2, "there is no postmaster here: give the address a domain");
        };
        let RecipientDomain::Name(domain) = mailbox.domain().clone() else {
            return refused(
                Code::MAILBOX_UNAVAILABLE,
                1,
                2,
                "address literals are not delivered to: DANE needs a domain",
            );
        };
        if mailbox.needs_smtp_utf8() && self.mail.smtp_utf8 == SmtpUtf8::Absent {
            // RFC 6531 §3.5.
            let text = "the address is not ASCII, and MAIL did not say SMTPUTF8";
            return refused(Code::MAILBOX_NAME_NOT_ALLOWED, 6, 7, text);
        }
        if self.recipients >= max_recipients {
            // RFC 5321 §4.5.3.1.10.
            return refused(Code::INSUFFICIENT_STORAGE, 5, 3, "too many recipients in one transaction");
        }
        self.recipients += 1;
        Ok(Recipient { mailbox, domain })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
            Self::Lmtp => "LMTP",
        })
    }
}

/// A reply whose enhanced code takes the class of its code (RFC 2034 §4).
fn enhanced(code: Code, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedCode::success(subject, detail), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Us {
        Us { hostname: "us.example".into(), size: 1000, max_recipients: 3 }
    }

    /// Plays a conversation: `reached` domains open, recipients at `no@` are refused by the remote, everything else is
    /// accepted. Returns the codes, and the upstreams that were closed without a message as `abandoned DOMAIN`.
    fn play(commands: &[&str]) -> Vec<String> {
        let mut dialogue = Dialogue::new(us(), Service::Smtp);
        commands.iter().flat_map(|command| turn(&mut dialogue, command)).collect()
    }

    fn turn(dialogue: &mut Dialogue<Name>, command: &str) -> Vec<String> {
        let said = |recipient: &Recipient| match recipient.mailbox.local_part() {
            "no" => enhanced(Code::MAILBOX_UNAVAILABLE, 1, 1, "no such user"),
            _ => enhanced(Code::OK, 1, 5, "Ok"),
        };
        let code = |reply: &Reply| reply.code().to_string();
        match dialogue.step(Command::parse(command.as_bytes()).expect(command)) {
            Step::Reply(reply) | Step::Quit(reply) => vec![code(&reply)],
            Step::Abandon(upstream, reply) | Step::QuitAbandoning(upstream, reply) => {
                vec![format!("abandoned {upstream}"), code(&reply)]
            }
            Step::Open(_, recipient) if recipient.domain.as_str().starts_with("down") => {
                let reply = enhanced(Code::LOCAL_ERROR, 4, 1, "unreachable");
                dialogue.refused(recipient.domain, reply.clone());
                vec!["asked".into(), code(&reply)]
            }
            Step::Open(_, recipient) => {
                let reply = said(&recipient);
                dialogue.opened(recipient.domain.clone(), recipient.domain, &reply);
                vec!["asked".into(), code(&reply)]
            }
            Step::Recipient(_, recipient) if recipient.mailbox.local_part() == "cut" => {
                let reply = enhanced(Code::LOCAL_ERROR, 4, 2, "lost");
                assert!(dialogue.lost(reply.clone()).is_some());
                vec![code(&reply)]
            }
            Step::Recipient(_, recipient) => {
                let reply = said(&recipient);
                dialogue.recipient(&reply);
                vec![code(&reply)]
            }
            Step::Data(transaction, upstream, _) => vec![format!("data {} to {upstream}", transaction.recipients)],
        }
    }

    #[test]
    fn what_is_legal_when() {
        for (row, commands, expected) in [
            // The happy path.
            (
                "",
                vec!["EHLO c", "MAIL FROM:<a@c>", "RCPT TO:<b@x>", "DATA", "QUIT"],
                vec!["250", "250", "asked", "250", "data 1 to x", "221"],
            ),
            // I4: order.
            ("I4", vec!["MAIL FROM:<a@c>", "RCPT TO:<b@x>", "DATA"], vec!["503", "503", "503"]),
            (
                "I4",
                vec!["EHLO c", "RCPT TO:<b@x>", "DATA", "MAIL FROM:<>", "MAIL FROM:<>"],
                vec!["250", "503", "503", "250", "503"],
            ),
            (
                "I4",
                vec!["EHLO c", "MAIL FROM:<>", "DATA", "RCPT TO:<b@x>", "DATA"],
                vec!["250", "250", "554", "asked", "250", "data 1 to x"],
            ),
            // I5: RSET, EHLO and HELO reset the transaction, and the remote's too.
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "RSET", "RCPT TO:<b@x>"],
                vec!["250", "250", "asked", "250", "abandoned x", "250", "503"],
            ),
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "EHLO c", "DATA"],
                vec!["250", "250", "asked", "250", "abandoned x", "250", "503"],
            ),
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "QUIT"],
                vec!["250", "250", "asked", "250", "abandoned x", "221"],
            ),
            // L3: one destination per transaction; the other domain is never asked for.
            (
                "L3",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "RCPT TO:<b@y>", "RCPT TO:<c@X>", "DATA"],
                vec!["250", "250", "asked", "250", "452", "250", "data 3 to x"],
            ),
            // A domain that cannot be reached is tried once a transaction; another may still be.
            (
                "K7",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@down>", "RCPT TO:<c@down>", "RCPT TO:<b@x>"],
                vec!["250", "250", "asked", "451", "451", "asked", "250"],
            ),
            // I19: nothing but refusals.
            (
                "I19",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<no@x>", "DATA", "RCPT TO:<b@x>", "DATA"],
                vec!["250", "250", "asked", "550", "554", "250", "data 2 to x"],
            ),
            // I7: too many; here three.
            (
                "I7",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>", "RCPT TO:<d@x>"],
                vec!["250", "250", "asked", "250", "250", "250", "452"],
            ),
            // the remote goes in mid-transaction; everything up to the next MAIL is deferred.
            (
                "A-69",
                vec![
                    "EHLO c",
                    "MAIL FROM:<>",
                    "RCPT TO:<a@x>",
                    "RCPT TO:<cut@x>",
                    "RCPT TO:<b@x>",
                    "DATA",
                    "MAIL FROM:<>",
                ],
                vec!["250", "250", "asked", "250", "451", "451", "451", "250"],
            ),
            // C21, I1: no domain to route by.
            (
                "C21",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<a@[192.0.2.1]>", "RCPT TO:<postmaster>"],
                vec!["250", "250", "550", "550"],
            ),
            // I21: larger than we take.
            ("I21", vec!["EHLO c", "MAIL FROM:<> SIZE=1001", "MAIL FROM:<> SIZE=1000"], vec!["250", "552", "250"]),
            // M4: UTF-8 only where it was announced.
            (
                "M4",
                vec![
                    "EHLO c",
                    "MAIL FROM:<>",
                    "RCPT TO:<\u{fc}@x>",
                    "RSET",
                    "MAIL FROM:<> SMTPUTF8",
                    "RCPT TO:<\u{fc}@x>",
                ],
                vec!["250", "250", "553", "250", "250", "asked", "250"],
            ),
            // I1, I27.
            (
                "I27",
                vec!["NOOP x", "VRFY x", "EXPN x", "HELP", "RSET", "HELO c", "LHLO c"],
                vec!["250", "252", "502", "214", "250", "250", "500"],
            ),
        ] {
            assert_eq!(play(&commands), expected, "{row}: {commands:?}");
        }
    }

    #[test]
    fn every_reply_has_an_enhanced_code_of_its_class() {
        // M21, N2: but for the greeting and the answers to EHLO and HELO.
        let commands =
            ["NOOP", "VRFY x", "EXPN x", "HELP", "RSET", "LHLO c", "MAIL FROM:<>", "RCPT TO:<a@x>", "DATA", "QUIT"];
        for command in commands {
            let mut dialogue = Dialogue::<Name>::new(us(), Service::Smtp);
            match dialogue.step(Command::parse(command.as_bytes()).unwrap()) {
                Step::Reply(reply) | Step::Quit(reply) => {
                    let enhanced = reply.enhanced().unwrap_or_else(|| panic!("{command}"));
                    assert_eq!(enhanced.class(), reply.code().class(), "{command}");
                }
                step => panic!("{command}: {step:?}"),
            }
        }
    }

    #[test]
    fn ehlo_offers_what_is_there_and_no_more() {
        // M23, I22: the exact set.
        let mut dialogue = Dialogue::<Name>::new(us(), Service::Smtp);
        let Step::Reply(reply) = dialogue.step(Command::parse(b"EHLO c").unwrap()) else { panic!() };
        assert_eq!(
            reply.lines(),
            [
                "us.example",
                "PIPELINING",
                "SIZE 1000",
                "8BITMIME",
                "SMTPUTF8",
                "ENHANCEDSTATUSCODES",
                "LIMITS RCPTDOMAINMAX=1"
            ]
        );
    }
}
