//! danelaw is DANE for the mail server you cannot change.
//!
//! A mail server without DANE (the *client*) hands its outbound mail to danelaw, over loopback or under TLS from another host.
//! danelaw finds the recipient's mail exchangers with DNSSEC, speaks STARTTLS to one of them (the *remote*), verifies it by DANE
//! (RFC 6698, RFC 7671, RFC 7672), streams the message through and answers the client with the remote's own answer. It keeps no
//! queue: the client owns the mail until the remote has taken it. Mail goes in cleartext in three cases only: a [rule](rules) for
//! its domain allows it, with a reason and a last day; the [mode](policy::Mode) is to observe; or a listener is for mail with the
//! field `TLS-Required: No`, and the mail has it ([`policy::ListenerMail`], [`smtp::tls_required`]).
//!
//! # The path of a message
//!
//! Decisions are plain functions from values to values; async code only fetches values and carries out verdicts:
//!
//! bytes → [`Command`](smtp::command::Command) → [`RecipientDomain`](smtp::address::RecipientDomain) →
//! [`Route`](mx::Route) → [`Host`](dns::Host) → [`Associations`](dane::tlsa::Associations) →
//! [`TlsPolicy`](policy::TlsPolicy) → [`Ready`](upstream::verified::Ready) → [`Reply`](smtp::reply::Reply) →
//! [`Outcome`](report::Outcome)
//!
//! 1. [`server`] accepts a connection from a client on the allow-list (a balancer may name its address). Any other client must
//!    show a certificate first. A [`session`] serves it, in SMTP or LMTP, in the clear or under TLS ([`tls::server`]). A
//!    [`wire::Wire`] cuts the input into lines, [`smtp::command`] parses them, and [`transaction::dialogue`] says which
//!    commands are legal now. MAIL is answered at once and opens a [`transaction`], which decides every reply from then on.
//! 2. The first RCPT of a domain decides where its mail goes, so that the client hears of trouble before it has sent an
//!    octet of the message. A transaction has one such destination, or with LMTP, PRDR and fan-out one for each domain,
//!    each with a [`delivery`] of its own, side by side. A [`upstream::MxIteration`] asks the [`dns`] for the domain's MX
//!    records, and [`mx`] orders them. For each exchange in turn it finds the addresses and, where the address is secure,
//!    the TLSA records; [`dane::tlsa`] says which records are usable. Where DANE does not decide, [`discovery`] finds the
//!    domain's policy of [`mta_sts`], whose authorities are the [`roots`]. The tables in [`policy`] say which proof a session
//!    must give at the level that [`rules`] set for the domain, or at the stricter one of the listener or of mail with REQUIRETLS
//!    ([`terms`], [`requiretls`]).
//! 3. [`upstream::connect`] connects to one of the host's addresses, [`upstream::starttls`] greets and says STARTTLS, [`tls`]
//!    shakes hands, and [`dane::verify`] judges the certificate chain. Only a session that has met its policy becomes a
//!    [`upstream::verified::Ready`], and MAIL can be said on no other type. Each failure is a [`refusal`].
//!    [`upstream::failover`] has the rule for the next address or exchange. When none is left, the client gets the reason of
//!    each host: with 451, or with 5yz if each reason is the last word.
//! 4. MAIL, the RCPTs and DATA go to the remote as the client has pipelined them. The remote's replies come back with its
//!    name in front. At DATA a remote's 354 comes first, then ours. The message streams through [`smtp::data`], which lets
//!    no second end of data through, to every destination. BDAT is the same message in counted pieces ([`smtp::chunk`]).
//! 5. The remote's answer to the end of data is the client's answer. If it is lost, the client gets 451: better twice than
//!    never. If the client is lost, the remote sees a reset, never an end of data and never a last chunk. The [`journal`]
//!    keeps the final outcomes of a fan-out message in the store until the client has sent it again.
//! 6. Each attempt leaves one [`report::Outcome`]. It becomes one log event, counters, and the account that the [`admin`]
//!    port gives for `danelaw explain` and `danelaw status`. The TLS handshakes of the attempt are counted for TLS reports
//!    ([`tlsrpt`]), which [`dispatch`] sends.
//!
//! The [`check`] follows this path up to the second EHLO, without a mail. The [`watch`] does so every day for domains with mail.
//!
//! # Modules, in the order of their imports
//!
//! A module uses those before it only, and the pure core (no async, no sockets, no clock) comes first.
//! `tests/architecture.rs` holds this order and the core's purity.

pub mod version;
pub mod excerpt;
mod digits;
mod words;
pub mod hex;
pub mod last_day;
pub mod name;
pub mod scarce;
pub mod operator_file;
pub mod roots;
pub mod smtp;
pub mod reserved;

pub mod dns;
pub mod mx;
pub mod dane;
pub mod mta_sts;
pub mod policy;
pub mod rules;
pub mod requiretls;
pub mod terms;
pub mod refusal;
pub mod config;
pub mod tlsrpt;

pub mod trace;
pub mod latency;
pub mod background;
pub mod tls;
pub mod http;
pub mod store;
pub mod discovery;
pub mod wire;
pub mod upstream;
pub mod report;

pub mod journal;
pub mod transaction;
pub mod delivery;
pub mod session;
pub mod dispatch;

pub mod settings;
pub mod check;
pub mod watch;
pub mod server;
pub mod admin;
pub mod cli;
