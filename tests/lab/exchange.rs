//! A mail exchanger of a scenario, with the records that the DNS has of it.

use super::certs::Identity;
use super::mx::Mx;

/// The happy path: the best exchange of its domain, with a certificate that its `3 1 1` record matches. Each method
/// changes one thing.
pub(crate) struct Exchange {
    pub(super) domain: String,
    pub(super) name: String,
    pub(super) preference: u16,
    pub(super) mx: Mx,
    /// The data of its TLSA records.
    pub(super) tlsa: Vec<String>,
}

impl Exchange {
    /// An exchange of `domain`, with this name.
    pub(crate) fn new(domain: &str, name: &str) -> Self {
        let mx = Mx::new(Identity::for_name(name));
        let tlsa = vec![mx.identity.record("3 1 1")];
        Self { domain: domain.to_owned(), name: name.to_owned(), preference: 10, mx, tlsa }
    }

    /// The data of the TLSA record of this form, such as `3 1 1`, that its certificate matches.
    pub(crate) fn record(&self, form: &str) -> String {
        self.mx.identity.record(form)
    }

    /// The preference of its MX record; 10 unless this is called.
    pub(crate) fn preference(self, preference: u16) -> Self {
        Self { preference, ..self }
    }

    /// Another certificate and key, with the TLSA record of this form, such as `2 0 1`.
    pub(crate) fn identity(mut self, identity: Identity, form: &str) -> Self {
        self.tlsa = vec![identity.record(form)];
        self.mx.identity = identity;
        self
    }

    /// These TLSA records in the place of the one that matches.
    pub(crate) fn tlsa(self, records: impl IntoIterator<Item = String>) -> Self {
        Self { tlsa: records.into_iter().collect(), ..self }
    }

    /// Changes its script.
    pub(crate) fn script(mut self, change: impl FnOnce(&mut Mx)) -> Self {
        change(&mut self.mx);
        self
    }
}
