//! Which command is legal when, towards the client (RFC 5321 §4.1.4, RFC 2033 §4).
//!
//! On a connection that is to be under TLS (RFC 3207), STARTTLS comes before mail; [`TlsState`] tells how far that has come. Behind
//! STARTTLS the session goes on with a new [`Dialogue`], so that nothing of the client is known that came in the clear (§4.2).
//!
//! [`Dialogue`] knows how far the client has come and answers each command with a [`Step`]: a reply, or work for the
//! session. [`Step::Abandon`], [`Step::Quit`] and [`Step::DiscardLast`] end a transaction without a message: all its
//! connections are to be released, so that none is left over after RSET, a second EHLO or QUIT.
//!
//! Recipients may be pipelined (RFC 2920), so they are collected and asked for together: [`Step::Later`] says that a
//! command is one of those, and [`Step::Wait`] that it cannot be carried out before they are answered.

use super::{Admitted, Envelope, Transaction};
use crate::policy::ListenerMail;
use crate::requiretls::Tag;
use crate::smtp::address::ForwardPath;
use crate::smtp::chunk::Chunk;
use crate::smtp::command::{Command, CommandError, Hello, Mail, Parameter, Prdr, RequireTls};
use crate::smtp::extensions::{DomainsPerTransaction, Offer};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::store::key::{Pair, RecordId};
use crate::terms::ListenerTerms;

/// The conversation with one client.
#[derive(Debug)]
pub struct Dialogue {
    state: State,
    us: Us,
    service: Service,
    tls: TlsState,
    terms: ListenerTerms,
}

/// TLS on the connection to the client (RFC 3207).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsState {
    /// In the clear, and STARTTLS is not offered.
    Unavailable,
    /// In the clear; STARTTLS is offered.
    Offered,
    /// In the clear; STARTTLS is offered, and mail is taken behind it alone.
    Required,
    /// Under TLS.
    Active,
}

/// The protocol and the kind of replies on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// SMTP: one reply to the message (RFC 5321 §4.1.1.4), unless the client asks for PRDR.
    Smtp,
    /// SMTP with one reply to the message, for recipients at several domains.
    FanOut,
    /// LMTP: one reply to the message for each recipient (RFC 2033 §4.2).
    Lmtp,
}

/// Our own name and limits, as the dialogue tells them.
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
enum State {
    /// No EHLO yet.
    Connected,
    /// EHLO, and no transaction.
    Greeted(Client),
    /// MAIL.
    Open(Transaction),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Protocol {
    /// It said HELO.
    Smtp,
    /// It said EHLO.
    Esmtp,
    /// It said EHLO under TLS.
    Esmtps,
    /// It said LHLO.
    Lmtp,
    /// It said LHLO under TLS.
    Lmtps,
}

/// The work that a command asks for.
#[derive(Debug)]
pub enum Step {
    /// This reply alone.
    Reply(Reply),
    /// This reply, and then a TLS handshake. The dialogue is over, and a new one begins under TLS.
    StartTls(Reply),
    /// A transaction that was open is over: release its connections without a message, then reply.
    Abandon(Reply),
    /// As [`Step::Abandon`], and then the connection to the client closes.
    Quit(Reply),
    /// The reply comes with those to the recipients before it; see [`Dialogue::waiting`].
    Later,
    /// Ask for the recipients that are [`Dialogue::waiting`] first, and then step again.
    Wait(Command),
    /// Send the message to each destination with an accepted recipient. The dialogue forgets the transaction.
    Data(Transaction),
    /// As [`Step::Data`], in chunks, of which this is the first.
    Bdat(Transaction, Chunk),
    /// Read the octets of a chunk that has no recipient, then reply.
    Discard(Chunk, Reply),
    /// The transaction is over: release its connections, and read the octets of its last chunk. No reply is owed.
    DiscardLast(Chunk),
}

impl Dialogue {
    /// A client that has just connected, on a listener without TLS.
    pub fn new(us: Us, service: Service) -> Self {
        Self { state: State::Connected, us, service, tls: TlsState::Unavailable, terms: ListenerTerms::default() }
    }

    /// The same with TLS in this state.
    #[must_use]
    pub fn with_tls(self, tls: TlsState) -> Self {
        Self { tls, ..self }
    }

    /// The same on a listener with these terms.
    #[must_use]
    pub fn on(self, terms: ListenerTerms) -> Self {
        Self { terms, ..self }
    }

    /// The tag of the open transaction's mail.
    pub fn tag_of_mail(&self) -> Option<Tag> {
        let State::Open(transaction) = &self.state else { return None };
        transaction.envelope.tag
    }

    /// The error as the client hears it: a parameter that is not offered is not known (RFC 5321 §4.1.1.11).
    pub fn understood(&self, error: CommandError) -> CommandError {
        if error.parameter() == Some(Parameter::RequireTls) && !self.offers_require_tls() {
            return CommandError::UnknownParameter;
        }
        error
    }

    /// Says this of ourselves from now on, and judges the next MAIL by it. An earlier EHLO may have offered more: a server
    /// may refuse any message for its size (RFC 1870 §6.1).
    pub fn renew(&mut self, us: Us) {
        self.us = us;
    }

    /// The greeting (RFC 5321 §4.3.1).
    pub fn greeting(&self) -> Reply {
        let protocol = match self.service {
            Service::Smtp | Service::FanOut => Protocol::Esmtp,
            Service::Lmtp => Protocol::Lmtp,
        };
        Reply::plain(Code::READY, format!("{} {protocol} danelaw", self.us.hostname))
    }

    /// Whether a shutdown need not wait: no transaction is open.
    pub fn is_idle(&self) -> bool {
        match &self.state {
            State::Connected | State::Greeted(_) => true,
            State::Open(_) => false,
        }
    }

    /// The transaction, if it has recipients to ask for. They are asked for when the client has sent no further
    /// command.
    pub fn waiting(&mut self) -> Option<&mut Transaction> {
        match &mut self.state {
            State::Open(transaction) if transaction.is_waiting() => Some(transaction),
            State::Open(_) | State::Connected | State::Greeted(_) => None,
        }
    }

    /// The recipient whose records decide about this command; see [`Self::step`].
    pub fn asks_for_records(&self, command: &Command) -> Option<Pair> {
        let State::Open(transaction) = &self.state else { return None };
        let Command::Rcpt(ForwardPath::Mailbox(mailbox)) = command else { return None };
        // A recipient that there is no room for now comes again.
        let is_asked = transaction.replies.has_records() && !transaction.is_full();
        is_asked.then(|| transaction.envelope.pair(mailbox))
    }

    /// The step for a recipient that is deferred by ourselves.
    pub fn decline(&mut self, answer: Reply) -> Step {
        match self.waiting() {
            Some(transaction) => {
                transaction.reply_in_turn(answer);
                Step::Later
            }
            None => Step::Reply(answer),
        }
    }

    /// The step for a command. The records are those in which its recipient has a final outcome.
    pub fn step(&mut self, command: Command, records: Vec<RecordId>) -> Step {
        match command {
            command if self.tls == TlsState::Required && !may_precede_tls(&command) => needs_tls(command),
            Command::Rcpt(path) => self.rcpt(path, records),
            // RFC 2920 §3.2: answers come in the order of their commands.
            command if self.waiting().is_some() => Step::Wait(command),
            Command::Ehlo(hello) => self.hello(hello, Protocol::Esmtp),
            Command::Helo(hello) => self.hello(hello, Protocol::Smtp),
            Command::Lhlo(hello) => self.hello(hello, Protocol::Lmtp),
            Command::Mail(mail) => Step::Reply(self.mail(mail)),
            Command::Data => self.data(),
            Command::Bdat(chunk) => self.bdat(chunk),
            Command::Rset => self.rset(),
            Command::Noop => Step::Reply(enhanced(Code::OK, 0, 0, "Ok")),
            Command::Vrfy => {
                Step::Reply(enhanced(Code::CANNOT_VERIFY, 0, 0, "send some mail, and the remote will tell"))
            }
            Command::Expn => Step::Reply(enhanced(Code::NOT_IMPLEMENTED, 5, 1, "EXPN is not for relays")),
            Command::Help => {
                Step::Reply(enhanced(Code::HELP, 0, 0, "danelaw passes mail on to hosts that DANE verifies"))
            }
            Command::StartTls => self.start_tls(),
            Command::Quit => {
                self.abandon();
                Step::Quit(enhanced(Code::CLOSING, 0, 0, "Bye"))
            }
        }
    }

    /// The end of the conversation, and of an open transaction.
    pub fn abandon(&mut self) {
        self.state = State::Connected;
    }

    /// RFC 3207 §4.
    fn start_tls(&mut self) -> Step {
        Step::Reply(match (self.tls, &self.state) {
            (TlsState::Unavailable, _) => enhanced(Code::NOT_IMPLEMENTED, 5, 1, "TLS is not offered here"),
            (TlsState::Active, _) => enhanced(Code::BAD_SEQUENCE, 5, 1, "TLS is active already"),
            (TlsState::Offered | TlsState::Required, State::Connected) => {
                enhanced(Code::BAD_SEQUENCE, 5, 1, "say EHLO or LHLO first")
            }
            (TlsState::Offered | TlsState::Required, State::Open(_)) => {
                enhanced(Code::BAD_SEQUENCE, 5, 1, "a transaction is open: say RSET first")
            }
            (TlsState::Offered | TlsState::Required, State::Greeted(_)) => {
                return Step::StartTls(enhanced(Code::READY, 0, 0, "ready to start TLS"));
            }
        })
    }

    fn mail(&mut self, mail: Mail) -> Reply {
        if mail.size.is_some_and(|size| size > self.us.size) {
            // RFC 1870 §6.1: before a remote is asked.
            let text = format!("the message is larger than {} octets", self.us.size);
            return enhanced(Code::EXCEEDED_STORAGE, 3, 4, &text);
        }
        // RFC 5321 §4.1.1.11: LHLO does not offer PRDR, since LMTP replies for each recipient anyway.
        let is_prdr_unknown = (self.service, mail.prdr) == (Service::Lmtp, Prdr::Requested);
        if is_prdr_unknown || (mail.require_tls == RequireTls::Requested && !self.offers_require_tls()) {
            return enhanced(Code::PARAMETERS_NOT_RECOGNISED, 5, 4, "parameter not recognised");
        }
        match self.take_state() {
            State::Greeted(client) => {
                let tag = Tag::of(self.terms.tag, mail.require_tls);
                self.state = State::Open(Transaction::new(Envelope { client, mail, tag }, self.service));
                enhanced(Code::OK, 1, 0, "Ok")
            }
            State::Connected => {
                let text = match self.service {
                    Service::Smtp | Service::FanOut => "say EHLO first",
                    Service::Lmtp => "say LHLO first",
                };
                enhanced(Code::BAD_SEQUENCE, 5, 1, text)
            }
            state @ State::Open(_) => {
                self.state = state;
                enhanced(Code::BAD_SEQUENCE, 5, 1, "a transaction is open: say RSET first")
            }
        }
    }

    fn rcpt(&mut self, path: ForwardPath, records: Vec<RecordId>) -> Step {
        let State::Open(transaction) = &mut self.state else {
            return Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "say MAIL first"));
        };
        if transaction.is_full() {
            return Step::Wait(Command::Rcpt(path));
        }
        match transaction.name(&path, records, self.us.max_recipients) {
            Admitted::Named => Step::Later,
            Admitted::Depends => Step::Wait(Command::Rcpt(path)),
            Admitted::Answered(answer) if transaction.is_waiting() => {
                transaction.reply_in_turn(answer);
                Step::Later
            }
            Admitted::Answered(answer) => Step::Reply(answer),
        }
    }

    fn data(&mut self) -> Step {
        match self.take_state() {
            State::Open(transaction) if transaction.expected().next().is_none() => {
                // RFC 2920 §3.2: a pipelined DATA behind nothing but refusals.
                self.state = State::Open(transaction);
                let code = match self.service {
                    Service::Smtp | Service::FanOut => Code::TRANSACTION_FAILED,
                    // RFC 2033 §4.2.
                    Service::Lmtp => Code::BAD_SEQUENCE,
                };
                Step::Reply(enhanced(code, 5, 1, "no valid recipients"))
            }
            State::Open(transaction) => {
                self.state = State::Greeted(transaction.envelope.client.clone());
                match transaction.reply_to_data() {
                    Some(answer) => Step::Abandon(answer),
                    None => Step::Data(transaction),
                }
            }
            state @ (State::Connected | State::Greeted(_)) => {
                self.state = state;
                Step::Reply(enhanced(Code::BAD_SEQUENCE, 5, 1, "say MAIL and RCPT first"))
            }
        }
    }

    /// RFC 3030 §2: the octets of a chunk are read before it is answered, wanted or not. A transaction whose destinations
    /// have all failed is no exception, since the replies owed are counted by LAST and not by the first chunk.
    fn bdat(&mut self, chunk: Chunk) -> Step {
        match self.take_state() {
            State::Open(transaction) if transaction.expected().next().is_some() => {
                self.state = State::Greeted(transaction.envelope.client.clone());
                Step::Bdat(transaction, chunk)
            }
            // RFC 2033 §4.3: an answer for each accepted recipient, and there is none.
            State::Open(transaction) if self.service == Service::Lmtp && chunk.last => {
                self.state = State::Greeted(transaction.envelope.client.clone());
                Step::DiscardLast(chunk)
            }
            state => {
                let text = match &state {
                    State::Open(_) => "no valid recipients",
                    State::Connected | State::Greeted(_) => "say MAIL and RCPT first",
                };
                self.state = state;
                Step::Discard(chunk, enhanced(Code::BAD_SEQUENCE, 5, 1, text))
            }
        }
    }

    /// RFC 5321 §4.1.1.5: back to where EHLO left us.
    fn rset(&mut self) -> Step {
        let ok = enhanced(Code::OK, 0, 0, "Ok");
        match self.take_state() {
            State::Connected => Step::Reply(ok),
            State::Greeted(client) => {
                self.state = State::Greeted(client);
                Step::Reply(ok)
            }
            State::Open(transaction) => {
                self.state = State::Greeted(transaction.envelope.client.clone());
                Step::Abandon(ok)
            }
        }
    }

    /// RFC 5321 §4.1.4: a new EHLO ends a transaction as RSET does.
    fn hello(&mut self, hello: Hello, said: Protocol) -> Step {
        let hostname = &self.us.hostname;
        let reply = match (self.service, said) {
            (Service::Smtp | Service::FanOut, Protocol::Smtp) => Reply::plain(Code::OK, hostname.clone()),
            (Service::Smtp | Service::FanOut, Protocol::Esmtp | Protocol::Esmtps)
            | (Service::Lmtp, Protocol::Lmtp | Protocol::Lmtps) => self.offer().reply(hostname),
            (Service::Smtp | Service::FanOut, Protocol::Lmtp | Protocol::Lmtps) => {
                return Step::Reply(enhanced(Code::SYNTAX_ERROR, 5, 1, "this is SMTP, not LMTP: say EHLO"));
            }
            // RFC 2033 §4.1.
            (Service::Lmtp, Protocol::Smtp | Protocol::Esmtp | Protocol::Esmtps) => {
                return Step::Reply(enhanced(Code::SYNTAX_ERROR, 5, 1, "this is LMTP, not SMTP: say LHLO"));
            }
        };
        self.state = State::Greeted(Client { hello, protocol: said.under(self.tls) });
        Step::Abandon(reply)
    }

    fn offer(&self) -> Offer {
        let domains = match self.service {
            Service::Smtp => DomainsPerTransaction::One,
            Service::FanOut => DomainsPerTransaction::AnyTogether,
            Service::Lmtp => DomainsPerTransaction::Any,
        };
        let starttls = matches!(self.tls, TlsState::Offered | TlsState::Required);
        Offer { size: self.us.size, domains, starttls, require_tls: self.offers_require_tls() }
    }

    /// RFC 8689 §2: under TLS alone. Of mail that may go without TLS nobody can demand the contrary (§4.1).
    fn offers_require_tls(&self) -> bool {
        (self.tls, self.terms.takes) == (TlsState::Active, ListenerMail::Any)
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Connected)
    }
}

/// RFC 3207 §4: the commands that come before STARTTLS where it must come before mail. HELO and RSET change nothing either.
fn may_precede_tls(command: &Command) -> bool {
    match command {
        Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) | Command::Rset => true,
        Command::Noop | Command::Quit | Command::StartTls => true,
        Command::Mail(_) | Command::Rcpt(_) | Command::Data | Command::Bdat(_) => false,
        Command::Vrfy | Command::Expn | Command::Help => false,
    }
}

fn needs_tls(command: Command) -> Step {
    let no = enhanced(Code::TLS_REQUIRED, 7, 0, "must issue a STARTTLS command first");
    match command {
        // RFC 3030 §2: its octets are read before it is answered.
        Command::Bdat(chunk) => Step::Discard(chunk, no),
        Command::Mail(_) | Command::Rcpt(_) | Command::Data => Step::Reply(no),
        Command::Vrfy | Command::Expn | Command::Help => Step::Reply(no),
        Command::Ehlo(_) | Command::Helo(_) | Command::Lhlo(_) | Command::Rset => Step::Reply(no),
        Command::Noop | Command::Quit | Command::StartTls => Step::Reply(no),
    }
}

impl Protocol {
    /// RFC 3848 §1: the word has an S where TLS is active. HELO has no such word.
    fn under(self, tls: TlsState) -> Self {
        match (self, tls) {
            (Self::Esmtp, TlsState::Active) => Self::Esmtps,
            (Self::Lmtp, TlsState::Active) => Self::Lmtps,
            (same, TlsState::Unavailable | TlsState::Offered | TlsState::Required | TlsState::Active) => same,
        }
    }
}

/// A reply whose enhanced code takes the class of its code (RFC 2034 §4).
pub(super) fn enhanced(code: Code, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedCode::success(subject, detail), text)
}

#[cfg(test)]
mod tests {
    use super::super::destination::{Destination, DestinationState};
    use super::super::reply::{held, worst};
    use super::super::{Effect, Event};
    use super::*;

    fn us() -> Us {
        Us { hostname: "us.example".into(), size: 1000, max_recipients: 3 }
    }

    /// Plays a conversation, one command a line; lines of one text are pipelined. Domains that start with `down` cannot be
    /// reached, recipients at `no@` are refused by the remote, at `cut@` the remote is lost, everything else is accepted.
    /// Returns the codes, which domains were looked for, which connections were released without a message, and where the
    /// message goes.
    fn play(service: Service, texts: &[&str]) -> Vec<String> {
        play_with(Dialogue::new(us(), service), texts)
    }

    fn play_with(mut dialogue: Dialogue, texts: &[&str]) -> Vec<String> {
        let mut said = Vec::new();
        for text in texts {
            for line in text.lines() {
                turn(&mut dialogue, Command::parse(line.as_bytes()).expect(line), &mut said);
            }
            answer_recipients(&mut dialogue, &mut said);
        }
        said
    }

    /// The destinations of the open transaction.
    fn destinations(dialogue: &Dialogue) -> &[Destination] {
        let State::Open(transaction) = &dialogue.state else { return &[] };
        transaction.destinations.all()
    }

    fn turn(dialogue: &mut Dialogue, command: Command, said: &mut Vec<String>) {
        let open = |one: &&Destination| one.state == DestinationState::Open;
        let open = destinations(dialogue).iter().filter(open);
        let open: Vec<String> = open.map(|destination| format!("abandoned {}", destination.domain)).collect();
        match dialogue.step(command, Vec::new()) {
            Step::Reply(reply) | Step::StartTls(reply) => said.push(reply.code().to_string()),
            Step::Abandon(reply) | Step::Quit(reply) => {
                said.extend(open);
                said.push(reply.code().to_string());
            }
            Step::Later => {}
            Step::Wait(command) => {
                answer_recipients(dialogue, said);
                turn(dialogue, command, said);
            }
            Step::Data(transaction) => {
                let to = transaction.expected().map(|recipient| transaction.destination(recipient.destination));
                let to = to.filter(|destination| destination.state == DestinationState::Open);
                let to: Vec<_> = to.map(|destination| destination.domain.as_str()).collect();
                said.push(format!("{:?} to {}", transaction.replies, to.join(" ")));
            }
            Step::Bdat(transaction, chunk) => said.push(format!("{:?} by {chunk}", transaction.replies)),
            Step::Discard(chunk, reply) => said.push(format!("{} octets, {}", chunk.octets, reply.code())),
            Step::DiscardLast(chunk) => {
                said.extend(open);
                said.push(format!("{} octets, nothing", chunk.octets));
            }
        }
    }

    /// As a session asks for recipients: the replies of all remotes are there at once.
    fn answer_recipients(dialogue: &mut Dialogue, said: &mut Vec<String>) {
        let Some(transaction) = dialogue.waiting() else { return };
        let mut asked = Vec::new();
        for place in 0..transaction.recipients.all().len() {
            let recipient = &transaction.recipients.all()[place];
            if !recipient.is_named() {
                continue;
            }
            let (id, local_part) = (recipient.id, recipient.mailbox.local_part().to_owned());
            let Destination { id: at, domain, state, .. } = transaction.destination(recipient.destination);
            let (at, is_new) = (*at, *state == DestinationState::Unresolved && !asked.contains(at));
            if is_new {
                said.push(format!("asked {domain}"));
                asked.push(at);
            }
            let event = match (state, local_part.as_str()) {
                (DestinationState::Failed(answer), _) => Event::Failed(at, answer.clone()),
                _ if domain.as_str().starts_with("down") => {
                    Event::Failed(at, enhanced(Code::LOCAL_ERROR, 4, 1, "unreachable"))
                }
                (_, "cut") => Event::Failed(at, enhanced(Code::LOCAL_ERROR, 4, 2, "lost")),
                (_, "no") => Event::Answered(id, enhanced(Code::MAILBOX_UNAVAILABLE, 1, 1, "no such user")),
                _ => Event::Answered(id, enhanced(Code::OK, 1, 5, "Ok")),
            };
            said.extend(transaction.step(event).iter().map(code));
        }
        for destination in asked {
            if transaction.destination(destination).reply().is_none() {
                said.extend(transaction.step(Event::Opened(destination)).iter().map(code));
            }
        }
    }

    /// The code of the reply that the client gets.
    fn code(effect: &Effect) -> String {
        match effect {
            Effect::Say(reply) => reply.code().to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The reply to RCPT for a recipient in this record, if it is in one, where the reply is known at once.
    fn admitted(dialogue: &mut Dialogue, recipient: &str, record: Option<i64>) -> Option<String> {
        let command = Command::parse(format!("RCPT TO:<{recipient}>").as_bytes()).unwrap();
        match dialogue.step(command, record.map(RecordId).into_iter().collect()) {
            Step::Later => None,
            Step::Reply(reply) => Some(reply.code().to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn opened(service: Service) -> Dialogue {
        let us = Us { max_recipients: 1000, ..us() };
        let mut dialogue = Dialogue::new(us, service);
        let hello = if service == Service::Lmtp { "LHLO c" } else { "EHLO c" };
        for line in [hello, "MAIL FROM:<>"] {
            turn(&mut dialogue, Command::parse(line.as_bytes()).unwrap(), &mut Vec::new());
        }
        dialogue
    }

    #[test]
    fn groups_of_a_domain_take_no_other_domain_its_place() {
        // A record never changes the reply to another message, nor joins recipients that it keeps apart.
        let mut dialogue = opened(Service::FanOut);
        for number in 0..50 {
            for record in [None, Some(1)] {
                assert_eq!(admitted(&mut dialogue, &format!("a@d{number}"), record), None, "{number} {record:?}");
            }
        }
        assert_eq!(destinations(&dialogue).len(), 100);
        answer_recipients(&mut dialogue, &mut Vec::new());
        assert_eq!(admitted(&mut dialogue, "a@d50", None).as_deref(), Some("452"));
        assert_eq!(admitted(&mut dialogue, "b@d49", Some(2)), None);
        assert_eq!(destinations(&dialogue).len(), 101);
    }

    #[test]
    fn fan_out_tells_success_alone_at_rcpt() {
        for number in [250, 251, 354, 421, 450, 550] {
            let mut dialogue = opened(Service::FanOut);
            assert_eq!(admitted(&mut dialogue, "a@x", None), None);
            let transaction = dialogue.waiting().unwrap();
            let id = transaction.recipients.all()[0].id;
            let said = enhanced(Code::new(number).unwrap(), 1, 1, "so");
            let told = if said.code().is_success() { said.clone() } else { held() };
            assert_eq!(transaction.step(Event::Answered(id, said)), [Effect::Say(told)], "{number}");
        }
        assert!(held().code().is_success());
    }

    #[test]
    fn domains_that_cannot_be_reached_take_no_other_its_place() {
        // L3, A-92.
        let mut dialogue = opened(Service::Lmtp);
        for number in 0..50 {
            assert_eq!(admitted(&mut dialogue, &format!("a@down{number}"), None), None);
        }
        answer_recipients(&mut dialogue, &mut Vec::new());
        for number in 0..50 {
            assert_eq!(admitted(&mut dialogue, &format!("a@d{number}"), None), None);
        }
        answer_recipients(&mut dialogue, &mut Vec::new());
        assert_eq!(admitted(&mut dialogue, "a@d50", None).as_deref(), Some("452"));
    }

    #[test]
    fn starttls_comes_before_mail_where_it_must() {
        // H13, A-07; RFC 3207 §4.
        let all =
            ["NOOP", "STARTTLS", "EHLO c", "VRFY a", "HELP", "EXPN a", "MAIL FROM:<>", "RSET", "STARTTLS", "QUIT"];
        for (tls, expected) in [
            (TlsState::Unavailable, ["250", "502", "250", "252", "214", "502", "250", "250", "502", "221"]),
            (TlsState::Offered, ["250", "503", "250", "252", "214", "502", "250", "250", "220", "221"]),
            (TlsState::Required, ["250", "503", "250", "530", "530", "530", "530", "250", "220", "221"]),
            (TlsState::Active, ["250", "503", "250", "252", "214", "502", "250", "250", "503", "221"]),
        ] {
            assert_eq!(play_with(Dialogue::new(us(), Service::Smtp).with_tls(tls), &all), expected, "{tls:?}");
        }
        let required = || Dialogue::new(us(), Service::Lmtp).with_tls(TlsState::Required);
        let commands = ["LHLO c", "RCPT TO:<a@x>", "DATA", "BDAT 7 LAST", "RSET", "HELO c"];
        assert_eq!(play_with(required(), &commands), ["250", "530", "530", "7 octets, 530", "250", "500"]);
        let offered = Dialogue::new(us(), Service::Smtp).with_tls(TlsState::Offered);
        assert_eq!(play_with(offered, &["EHLO c", "MAIL FROM:<>", "STARTTLS"]), ["250", "250", "503"]);
    }

    #[test]
    fn requiretls_is_offered_and_known_under_tls_alone() {
        // Q1, Q22.
        let tagged = "MAIL FROM:<a@c> REQUIRETLS";
        for (service, hello) in [(Service::Smtp, "EHLO c"), (Service::FanOut, "EHLO c"), (Service::Lmtp, "LHLO c")] {
            for tls in [TlsState::Unavailable, TlsState::Offered, TlsState::Required, TlsState::Active] {
                let is_active = tls == TlsState::Active;
                let mut dialogue = Dialogue::new(us(), service)
                    .with_tls(tls)
                    .on(ListenerTerms { tag: Some(Tag::WhereOffered), ..ListenerTerms::default() });
                let Step::Abandon(reply) = dialogue.step(Command::parse(hello.as_bytes()).unwrap(), Vec::new()) else {
                    panic!()
                };
                assert_eq!(reply.lines().any(|line| line == "REQUIRETLS"), is_active, "{service:?} {tls:?}");
                for wrong in ["MAIL FROM:<> REQUIRETLS=1", "MAIL FROM:<> REQUIRETLS REQUIRETLS"] {
                    let reply = dialogue.understood(Command::parse(wrong.as_bytes()).unwrap_err()).reply();
                    let expected = if is_active { "501 5.5.4 " } else { "555 5.5.4 " };
                    assert!(reply.to_string().starts_with(expected), "{tls:?} {wrong}: {reply}");
                }
                let Step::Reply(reply) = dialogue.step(Command::parse(tagged.as_bytes()).unwrap(), Vec::new()) else {
                    panic!()
                };
                let expected = match tls {
                    TlsState::Unavailable | TlsState::Offered => "555 5.5.4 ",
                    TlsState::Required => "530 5.7.0 ",
                    TlsState::Active => "250 2.1.0 ",
                };
                assert!(reply.to_string().starts_with(expected), "{tls:?}: {reply}");
                let State::Open(transaction) = &dialogue.state else {
                    assert!(!is_active);
                    continue;
                };
                assert_eq!(transaction.envelope.tag, Some(Tag::Always), "the stricter one");
            }
        }
    }

    #[test]
    fn a_listener_for_tls_required_no_does_not_know_requiretls() {
        // Q7.
        let mut dialogue = Dialogue::new(us(), Service::Smtp)
            .with_tls(TlsState::Active)
            .on(ListenerTerms { takes: ListenerMail::TlsRequiredNo, ..ListenerTerms::default() });
        for (line, said) in
            [("EHLO c", "250 "), ("MAIL FROM:<a@c> REQUIRETLS", "555 5.5.4 "), ("MAIL FROM:<a@c>", "250 ")]
        {
            let (Step::Abandon(reply) | Step::Reply(reply)) =
                dialogue.step(Command::parse(line.as_bytes()).unwrap(), Vec::new())
            else {
                panic!()
            };
            assert!(
                reply.to_string().starts_with(said) && !reply.lines().any(|line| line == "REQUIRETLS"),
                "{line}: {reply}"
            );
        }
    }

    #[test]
    fn the_word_for_a_session_under_tls() {
        for (protocol, tls, word) in [
            (Protocol::Smtp, TlsState::Active, "SMTP"),
            (Protocol::Esmtp, TlsState::Active, "ESMTPS"),
            (Protocol::Lmtp, TlsState::Active, "LMTPS"),
            (Protocol::Esmtp, TlsState::Required, "ESMTP"),
            (Protocol::Lmtp, TlsState::Unavailable, "LMTP"),
        ] {
            assert_eq!(protocol.under(tls).to_string(), word);
        }
    }

    #[test]
    fn commands_that_are_legal_in_each_state() {
        for (row, commands, expected) in [
            // The happy path.
            (
                "",
                vec!["EHLO c", "MAIL FROM:<a@c>", "RCPT TO:<b@x>", "DATA", "QUIT"],
                vec!["250", "250", "asked x", "250", "Once to x", "221"],
            ),
            // I18: pipelined, the same, in order.
            (
                "I18",
                vec!["EHLO c", "MAIL FROM:<a@c>\nRCPT TO:<b@x>\nRCPT TO:<no@x>\nMAIL FROM:<>\nDATA\nQUIT"],
                vec!["250", "250", "asked x", "250", "550", "503", "Once to x", "221"],
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
                vec!["250", "250", "554", "asked x", "250", "Once to x"],
            ),
            // M12: chunks are read wherever they come.
            (
                "M12",
                vec![
                    "BDAT 3 LAST",
                    "EHLO c",
                    "BDAT 4",
                    "MAIL FROM:<>\nRCPT TO:<no@x>\nBDAT 5 LAST\nRCPT TO:<b@x>\nBDAT 6",
                ],
                vec![
                    "3 octets, 503",
                    "250",
                    "4 octets, 503",
                    "250",
                    "asked x",
                    "550",
                    "5 octets, 503",
                    "250",
                    "Once by BDAT 6",
                ],
            ),
            // I5, L13: RSET, EHLO and HELO reset the transaction, and the remote's too.
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "RSET", "RCPT TO:<b@x>"],
                vec!["250", "250", "asked x", "250", "abandoned x", "250", "503"],
            ),
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>\nRCPT TO:<b@x>\nEHLO c\nDATA"],
                vec!["250", "250", "asked x", "250", "abandoned x", "250", "503"],
            ),
            (
                "I5",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "QUIT"],
                vec!["250", "250", "asked x", "250", "abandoned x", "221"],
            ),
            // L3: one destination per transaction; the other domain is never asked for.
            (
                "L3",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>", "RCPT TO:<b@y>", "RCPT TO:<c@X>", "DATA"],
                vec!["250", "250", "asked x", "250", "452", "250", "Once to x x"],
            ),
            (
                "L3",
                vec!["EHLO c", "MAIL FROM:<>\nRCPT TO:<b@x>\nRCPT TO:<b@y>\nRCPT TO:<c@X>\nDATA"],
                vec!["250", "250", "asked x", "250", "452", "250", "Once to x x"],
            ),
            // A domain that has refused all its recipients leaves room for another one, and has none then.
            (
                "L3",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<no@x>", "RCPT TO:<b@y>", "RCPT TO:<c@x>", "DATA"],
                vec!["250", "250", "asked x", "550", "asked y", "250", "452", "Once to y"],
            ),
            (
                "L3",
                vec!["EHLO c", "MAIL FROM:<>\nRCPT TO:<no@x>\nRCPT TO:<b@y>\nRCPT TO:<c@x>\nDATA"],
                vec!["250", "250", "asked x", "550", "asked y", "250", "452", "Once to y"],
            ),
            // A domain that cannot be reached is tried once a transaction; another may still be.
            (
                "K7",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<b@down>", "RCPT TO:<c@down>", "RCPT TO:<b@x>"],
                vec!["250", "250", "asked down", "451", "451", "asked x", "250"],
            ),
            (
                "K7",
                vec!["EHLO c", "MAIL FROM:<>\nRCPT TO:<b@down>\nRCPT TO:<c@down>\nRCPT TO:<b@x>\nDATA"],
                vec!["250", "250", "asked down", "451", "451", "asked x", "250", "Once to x"],
            ),
            // I19: nothing but refusals.
            (
                "I19",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<no@x>", "DATA", "RCPT TO:<b@x>", "DATA"],
                vec!["250", "250", "asked x", "550", "554", "250", "Once to x"],
            ),
            // I7: too many; here three.
            (
                "I7",
                vec!["EHLO c", "MAIL FROM:<>", "RCPT TO:<a@x>\nRCPT TO:<b@x>\nRCPT TO:<c@x>\nRCPT TO:<d@x>"],
                vec!["250", "250", "asked x", "250", "250", "250", "452"],
            ),
            // the remote goes in mid-transaction; its recipients are deferred, those it had accepted too.
            (
                "A-69",
                vec![
                    "EHLO c",
                    "MAIL FROM:<>",
                    "RCPT TO:<a@x>\nRCPT TO:<cut@x>\nRCPT TO:<b@x>",
                    "RCPT TO:<c@y>",
                    "DATA",
                    "MAIL FROM:<>",
                ],
                vec!["250", "250", "asked x", "250", "451", "451", "452", "451", "250"],
            ),
            // Decision 11: PRDR, where each recipient is answered.
            (
                "A-104",
                vec!["EHLO c", "MAIL FROM:<> PRDR", "RCPT TO:<a@x>\nRCPT TO:<no@y>\nRCPT TO:<c@y>", "DATA"],
                vec!["250", "250", "asked x", "250", "asked y", "550", "250", "Prdr to x y"],
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
                vec!["250", "250", "553", "250", "250", "asked x", "250"],
            ),
            // I1, I27.
            (
                "I27",
                vec!["NOOP x", "VRFY x", "EXPN x", "HELP", "RSET", "HELO c", "LHLO c"],
                vec!["250", "252", "502", "214", "250", "250", "500"],
            ),
        ] {
            assert_eq!(play(Service::Smtp, &commands), expected, "{row}: {commands:?}");
        }
    }

    #[test]
    fn commands_that_are_legal_in_each_state_of_lmtp() {
        for (row, commands, expected) in [
            ("J1", vec!["EHLO c", "HELO c", "MAIL FROM:<>", "LHLO c"], vec!["500", "500", "503", "250"]),
            // J2.
            (
                "J2",
                vec!["LHLO c", "MAIL FROM:<>", "DATA", "RCPT TO:<no@x>", "DATA"],
                vec!["250", "250", "503", "asked x", "550", "503"],
            ),
            // J5: no reply is owed to a last chunk without a recipient, and then the transaction is over.
            (
                "J5",
                vec![
                    "LHLO c",
                    "MAIL FROM:<>",
                    "BDAT 3",
                    "BDAT 3 LAST",
                    "MAIL FROM:<>\nRCPT TO:<b@x>\nRSET\nBDAT 3 LAST",
                ],
                vec![
                    "250",
                    "250",
                    "3 octets, 503",
                    "3 octets, nothing",
                    "250",
                    "asked x",
                    "250",
                    "abandoned x",
                    "250",
                    "3 octets, 503",
                ],
            ),
            // J3: duplicates count; J4: several domains.
            (
                "J3",
                vec!["LHLO c", "MAIL FROM:<>\nRCPT TO:<a@x>\nRCPT TO:<a@x>\nRCPT TO:<a@y>\nDATA"],
                vec!["250", "250", "asked x", "250", "250", "asked y", "250", "PerRecipient to x x y"],
            ),
            // L4: a domain that fails takes no other domain with it.
            (
                "L4",
                vec!["LHLO c", "MAIL FROM:<>", "RCPT TO:<b@x>\nRCPT TO:<c@y>\nRCPT TO:<cut@y>\nDATA"],
                vec!["250", "250", "asked x", "250", "asked y", "250", "451", "PerRecipient to x"],
            ),
            (
                "A-69",
                vec!["LHLO c", "MAIL FROM:<>", "RCPT TO:<a@x>\nRCPT TO:<cut@x>\nDATA", "MAIL FROM:<>"],
                vec!["250", "250", "asked x", "250", "451", "451", "250"],
            ),
            // RFC 5321 §4.1.1.11: it was not offered.
            ("I23", vec!["LHLO c", "MAIL FROM:<> PRDR"], vec!["250", "555"]),
        ] {
            assert_eq!(play(Service::Lmtp, &commands), expected, "{row}: {commands:?}");
        }
    }

    #[test]
    fn one_answer_for_all() {
        // 5xx only if all recipients have 5xx.
        let no = |code| enhanced(code, 0, 0, "no");
        let (later, never) = (Code::LOCAL_ERROR, Code::TRANSACTION_FAILED);
        for (answers, expected) in [
            (&[never][..], Some(never)),
            (&[never, later, never], Some(later)),
            (&[later, Code::INSUFFICIENT_STORAGE], Some(later)),
            (&[], None),
        ] {
            assert_eq!(worst(answers.iter().copied().map(no)).map(|reply| reply.code()), expected);
        }
    }

    #[test]
    fn every_reply_has_an_enhanced_code_of_its_class() {
        // M21, N2: but for the greeting and the answers to EHLO and HELO.
        let commands =
            ["NOOP", "VRFY x", "EXPN x", "HELP", "RSET", "LHLO c", "MAIL FROM:<>", "RCPT TO:<a@x>", "DATA", "QUIT"];
        for command in commands {
            let mut dialogue = Dialogue::new(us(), Service::Smtp);
            match dialogue.step(Command::parse(command.as_bytes()).unwrap(), Vec::new()) {
                Step::Reply(reply) | Step::Abandon(reply) | Step::Quit(reply) => {
                    let enhanced = reply.enhanced().unwrap_or_else(|| panic!("{command}"));
                    assert_eq!(enhanced.to_string()[..1], reply.code().to_string()[..1], "{command}");
                }
                step => panic!("{command}: {step:?}"),
            }
        }
    }

    #[test]
    fn ehlo_offers_what_is_there_and_no_more() {
        // M23, I22: the exact set.
        let mut dialogue = Dialogue::new(us(), Service::Smtp);
        let Step::Abandon(reply) = dialogue.step(Command::parse(b"EHLO c").unwrap(), Vec::new()) else { panic!() };
        assert_eq!(
            reply.lines().collect::<Vec<_>>(),
            [
                "us.example",
                "PIPELINING",
                "SIZE 1000",
                "8BITMIME",
                "SMTPUTF8",
                "ENHANCEDSTATUSCODES",
                "CHUNKING",
                "PRDR",
                "LIMITS RCPTDOMAINMAX=1"
            ]
        );
    }
}
