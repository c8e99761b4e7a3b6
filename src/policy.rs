//! The policy table: what a session with one host must prove before mail may pass (RFC 7672 §2.2).
//!
//! | MX records | address (or first CNAME) | TLSA | `dane` | `dane-only` | `encrypt` |
//! |---|---|---|---|---|---|
//! | secure or implicit | secure | some usable | Dane | Dane | Encrypt(NotAsked) |
//! | secure or implicit | secure | only unusable | Encrypt(UnusableTlsa) | refuse | Encrypt(NotAsked) |
//! | secure or implicit | secure | none or insecure | Encrypt(NoTlsa) | refuse | Encrypt(NotAsked) |
//! | secure or implicit | insecure | not asked | Encrypt(InsecureAddress) | refuse | Encrypt(NotAsked) |
//! | insecure | secure | some usable | HalfDane, or Encrypt(InsecureMx) by setting | refuse | Encrypt(NotAsked) |
//! | insecure | secure | only unusable | Encrypt(UnusableTlsa) | refuse | Encrypt(NotAsked) |
//! | insecure | secure | none or insecure | Encrypt(NoTlsa) | refuse | Encrypt(NotAsked) |
//! | insecure | insecure | not asked | Encrypt(InsecureAddress) | refuse | Encrypt(NotAsked) |
//!
//! A failed lookup never gets here: it is a refusal already. No row is cleartext.

use crate::dane::tlsa::{Associations, NoDane};
use crate::dane::verify::{Expectation, References};
use crate::dns::{Host, Security};
use crate::mx::Route;
use crate::name::Name;
