//! The policy service of an MX: Postfix's `check_policy_service` asks it for a verdict at RCPT and at the end of the
//! data. A test may change its verdicts while the MX runs. The recipient's local part (`later2`) names the trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::command::eventually;

/// A running policy service. Its threads end with the process.
pub(crate) struct Policy {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether mail for `later` is accepted by now.
    is_mended: bool,
    /// Recipients for which the service holds back its verdict at the end of data.
    held: BTreeSet<String>,
    /// Recipients for which it holds back the verdict no longer, and answers with a temporary error.
    released: BTreeSet<String>,
    /// How often a message got a temporary error at the end of data, for each recipient.
    deferred: BTreeMap<String, usize>,
}

impl Policy {
    /// The lines of main.cf that ask this service: one at RCPT, one at the end of data.
    pub(crate) fn settings(address: SocketAddr) -> [String; 2] {
        let service = format!("check_policy_service inet:{address}");
        [
            format!("smtpd_recipient_restrictions = {service}, permit"),
            format!("smtpd_end_of_data_restrictions = {service}"),
        ]
    }

    pub(crate) fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = TcpListener::bind(address).expect("the subnet is ours");
        let here = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&here);
                // Postfix may close the connection at any time.
                thread::spawn(move || shared.serve(stream).unwrap_or_default());
            }
        });
        Self { shared }
    }

    /// From now on no message gets a temporary error.
    pub(crate) fn mend(&self) {
        self.shared.lock().is_mended = true;
    }

    /// Waits until a message to this recipient has got a temporary error at the end of data.
    pub(crate) fn await_deferred(&self, recipient: &str) {
        eventually("a temporary error at the end of data", || {
            self.shared.lock().deferred.contains_key(recipient).then_some(())
        });
    }

    /// Waits until the answer to the end of data of a message to this recipient is held back.
    pub(crate) fn await_held(&self, recipient: &str) {
        eventually("an answer that is held back", || self.shared.lock().held.contains(recipient).then_some(()));
    }

    /// The message whose answer is held back gets a temporary error; later messages to the recipient are accepted.
    pub(crate) fn release(&self, recipient: &str) {
        self.shared.lock().released.insert(recipient.to_owned());
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Answers requests, each of which is lines of `name=value` and an empty line.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut attributes = BTreeMap::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.trim_end().split_once('=') {
                attributes.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let request = std::mem::take(&mut attributes);
            let of = |name: &str| request.get(name).map(String::as_str).unwrap_or_default();
            let action = self.decide(of("protocol_state"), of("recipient"));
            write!(stream.get_mut(), "action={action}\n\n")?;
        }
    }

    fn decide(&self, stage: &str, recipient: &str) -> &'static str {
        let (local_part, _) = recipient.split_once('@').unwrap_or_default();
        let mut state = self.lock();
        match (stage, local_part.trim_end_matches(char::is_numeric)) {
            ("RCPT", "nobody" | "rcpt") => "550 5.1.1 no such user",
            ("END-OF-MESSAGE", "spam") => "554 5.7.1 we do not like it",
            ("END-OF-MESSAGE", "later") if !state.is_mended => {
                *state.deferred.entry(recipient.to_owned()).or_default() += 1;
                "451 4.3.0 not now"
            }
            ("END-OF-MESSAGE", "kill") if !state.released.contains(recipient) => {
                state.held.insert(recipient.to_owned());
                let is_held = |state: &mut State| !state.released.contains(recipient);
                drop(self.changed.wait_while(state, is_held).unwrap_or_else(PoisonError::into_inner));
                "451 4.3.0 not any more"
            }
            _ => "DUNNO",
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
