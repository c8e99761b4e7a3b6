//! danelaw is DANE for the mail server you cannot change.
//!
//! A mail server that knows nothing of DANE (the *client*) hands its outbound mail to danelaw over loopback. danelaw
//! finds the recipient's mail exchangers with DNSSEC, speaks STARTTLS to one of them (the *remote*), verifies it by DANE
//! (RFC 6698, RFC 7671, RFC 7672), streams the message through and answers the client with the remote's own answer. It
//! keeps no queue: the client owns the mail until the remote has taken it. Nothing is sent in cleartext, unless a [rule](rules) for one
//! domain says so, why, and until when, or the [mode](policy::Mode) is to observe.
//!
//! # The road of a message
//!
//! Decisions are plain functions from values to values; async code only fetches values and carries out verdicts:
//!
//! bytes → [`Command`](smtp::command::Command) → [`RecipientDomain`](smtp::address::RecipientDomain) →
//! [`Route`](mx::Route) → [`Host`](dns::Host) → [`Associations`](dane::tlsa::Associations) →
//! [`TlsPolicy`](policy::TlsPolicy) → [`Ready`](upstream::verified::Ready) → [`Reply`](smtp::reply::Reply) →
//! [`Outcome`](report::Outcome)
//!
//! 1. [`server`] accepts a connection from a client on the allow-list and spawns a [`session`] for it, in SMTP or LMTP. A
//!    [`wire::Wire`] cuts what comes into lines, [`smtp::command`] parses them, and [`transaction::dialogue`] says which are
//!    legal now. MAIL is answered at once and opens a [`transaction`], which decides every reply from then on.
//! 2. The first RCPT of a domain decides where its mail goes, so that the client hears of trouble before it has sent a
//!    byte of the message. A transaction has one such destination, or with LMTP, PRDR and fan-out one for each domain,
//!    each with a [`delivery`] of its own, side by side. A [`upstream::MxIteration`] asks the [`dns`] for the domain's MX
//!    records and [`mx`] orders them. For each exchange in turn: its addresses; the TLSA records, where the address is secure;
//!    which of them are usable ([`dane::tlsa`]); and by the
//!    one table in [`policy`], what a session must prove at the level that [`rules`] give the domain.
//! 3. [`upstream::connect`] connects to one of the host's addresses, [`upstream::starttls`] greets and says STARTTLS; [`tls`]
//!    shakes hands, and [`dane::verify`] judges the certificate chain. Only a session that has met its policy becomes a
//!    [`upstream::verified::Ready`], and only on that can MAIL be said. Whatever fails is a [`refusal`]: [`upstream::failover`]
//!    says who is asked next, and if nobody is left, the client is told 451 and why, host by host.
//! 4. MAIL, the RCPTs and DATA go to the remote as the client has pipelined them, and its answers come back with its name
//!    in front. At DATA a remote's 354 comes first, then ours; the message streams through [`smtp::data`], which lets no
//!    second end of data through, to every destination. BDAT is the same message in counted pieces ([`smtp::chunk`]).
//! 5. The remote's answer to the end of data is the client's answer. If it is lost, the client hears 451: better twice
//!    than never. If the client is lost, the remote sees a reset, never an end of data and never a last chunk.
//! 6. Each attempt leaves one [`report::Outcome`], and that leaves one log event, counters, and an account of all that was
//!    seen for whoever asks the [`admin`] port about a refusal.
//!
//! # Modules, in the order of the road
//!
//! The pure core comes first (no async, no sockets, no clock); `tests/architecture.rs` holds it to that.

pub mod version;
pub mod excerpt;
pub mod hex;
pub mod name;
pub mod scarce;
pub mod smtp;

pub mod dns;
pub mod mx;
pub mod dane;
pub mod policy;
pub mod rules;
pub mod reserved;
pub mod refusal;
pub mod config;

pub mod trace;
pub mod tls;
pub mod wire;
pub mod upstream;
mod store;
pub mod journal;
pub mod transaction;
pub mod delivery;
pub mod session;
pub mod report;
pub mod settings;
pub mod server;
pub mod admin;
pub mod cli;
