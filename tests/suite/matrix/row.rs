//! A row of the matrix: a server's chain and its records, the verdict, and the differences between the judges.

use std::sync::Arc;

use danelaw::refusal::TlsFailure;
use rustls_pki_types::CertificateDer;

use super::judges::{Server, Version};
use super::keys::{self, ECDSA_SHA256, Id, Key, P256, Scheme};
use crate::certificates::{self, Spec, cn};

pub(crate) use crate::chain::Holder::{self, Extra, Inter, Leaf, Root, Stranger};

/// The cause of a refusal by danelaw where OpenSSL accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cause {
    /// The TLS library cannot do it.
    Rustls(&'static str),
    /// A decision of the project.
    Decision(&'static str),
}

/// The verdict of posttls-finger on a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Postfix {
    /// The same as OpenSSL, which it uses.
    Same,
    /// It is stricter than OpenSSL, and agrees with danelaw.
    AsDanelaw,
    /// It cannot be asked, for this reason.
    NotAsked(#[allow(dead_code)] &'static str),
}

/// danelaw refuses, in these versions, a server that OpenSSL accepts.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    versions: &'static [Version],
    label: &'static str,
    /// The words of the error that show the cause to an operator.
    says: &'static str,
    cause: Cause,
}

/// A server and the verdict on it. The default is a good one: root, intermediate authority and server, all sent, and
/// the server's key in the record.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) leaf: Spec,
    pub(crate) inter: Spec,
    pub(crate) root: Spec,
    /// The keys of leaf, inter, root and stranger.
    pub(crate) keys: [Id; 4],
    /// The signature schemes: of inter for the leaf, of root for inter, and of root for itself.
    pub(crate) schemes: [Scheme; 3],
    pub(crate) leaf_signer: Holder,
    /// More certificates: the holder of the key, and the signer.
    pub(crate) extra: Vec<(Spec, Holder, Holder)>,
    pub(crate) sent: Vec<Holder>,
    pub(crate) records: Vec<(&'static str, Holder)>,
    /// Records in literal form, beside the others.
    pub(crate) raw_records: Vec<&'static str>,
    pub(crate) name: &'static str,
    /// The depth of the match, or the name of the reason for the refusal.
    pub(crate) verdict: Result<usize, &'static str>,
    pub(crate) difference: Option<Difference>,
    /// The versions that openssl can serve this in.
    pub(crate) served: &'static [Version],
    pub(crate) postfix: Postfix,
}

pub(crate) const BOTH: &[Version] = &[Version::Tls12, Version::Tls13];
pub(crate) const ONLY_13: &[Version] = &[Version::Tls13];

/// DANE-EE: the server's key is in the record, with any certificate.
pub(crate) fn ee(what: &str, leaf: Spec) -> Row {
    Row {
        what: format!("EE {what}"),
        leaf: Spec { issuer: if leaf.issuer == cn("Root") { cn("Inter") } else { leaf.issuer.clone() }, ..leaf },
        inter: Spec::authority("Inter", "Root"),
        root: Spec::authority("Root", "Root"),
        keys: [0, 1, 2, 3].map(|which| (P256, which)),
        schemes: [ECDSA_SHA256; 3],
        leaf_signer: Inter,
        extra: vec![],
        sent: vec![Leaf],
        records: vec![("3 1 1", Leaf)],
        raw_records: vec![],
        name: "mx.example.com",
        verdict: Ok(0),
        difference: None,
        served: BOTH,
        postfix: Postfix::Same,
    }
}

/// DANE-TA: the whole chain is sent, and the root's certificate is in the record.
pub(crate) fn ta(what: &str, leaf: Spec) -> Row {
    let row = ee("", leaf);
    Row {
        what: format!("TA {what}"),
        sent: vec![Leaf, Inter, Root],
        records: vec![("2 0 0", Root)],
        verdict: Ok(2),
        ..row
    }
}

impl Row {
    /// Both refuse, danelaw by this name.
    pub(crate) fn refused(self, label: &'static str) -> Self {
        Self { verdict: Err(label), ..self }
    }

    /// danelaw alone refuses, in these versions, with this label and these words.
    pub(crate) fn but(
        self,
        versions: &'static [Version],
        (label, says): (&'static str, &'static str),
        cause: Cause,
    ) -> Self {
        Self { difference: Some(Difference { versions, label, says, cause }), ..self }
    }

    pub(crate) fn served(self, served: &'static [Version]) -> Self {
        Self { served, ..self }
    }

    pub(crate) fn sent(self, sent: &[Holder]) -> Self {
        Self { sent: sent.to_vec(), ..self }
    }

    pub(crate) fn records(self, records: &[(&'static str, Holder)]) -> Self {
        Self { records: records.to_vec(), ..self }
    }

    pub(crate) fn depth(self, depth: usize) -> Self {
        Self { verdict: Ok(depth), ..self }
    }

    pub(crate) fn name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The key of one of them is of another kind.
    pub(crate) fn key(mut self, who: Holder, id: Id) -> Self {
        self.keys[who.place()] = id;
        self
    }

    /// Shows the server to every judge, and returns the faults of the row.
    pub(crate) fn judge(&self, home: &std::path::Path) -> Vec<String> {
        let chain: Vec<_> = self.certificates();
        let sent: Vec<_> = self.sent.iter().map(|&who| self.pick(&chain, who)).collect();
        let records: Vec<String> = self
            .records
            .iter()
            .map(|&(numbers, who)| certificates::tlsa(numbers, &self.pick(&chain, who), &self.key_of(who).spki))
            .chain(self.raw_records.iter().map(|&record| record.to_owned()))
            .collect();
        let mut wrong = Vec::new();
        for &version in self.served {
            let server = Server::start(version, &sent, &self.key_of(Leaf).pem);
            let ours = server.danelaw(self.name, &records);
            let theirs = server.openssl(self.name, &records);
            let postfix = match self.postfix {
                Postfix::Same | Postfix::AsDanelaw => server.postfix(self.name, &records, home),
                Postfix::NotAsked(_) => None,
            };
            wrong.extend(self.held(version, ours, [Some(("openssl", theirs)), postfix.map(|said| ("postfix", said))]));
        }
        wrong.into_iter().map(|wrong| format!("{}: {wrong}", self.what)).collect()
    }

    /// Compares the verdicts of the judges with the expected ones.
    fn held(
        &self,
        version: Version,
        ours: Result<usize, TlsFailure>,
        theirs: [Option<(&str, Result<(), String>)>; 2],
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let difference = self.difference.as_ref().filter(|difference| difference.versions.contains(&version));
        let expected = difference.map_or(self.verdict, |difference| Err(difference.label));
        let said = ours.as_ref().map(|depth| *depth).map_err(TlsFailure::label);
        if said != expected {
            wrong.push(format!("{version:?}: danelaw says {said:?} and not {expected:?} ({ours:?})"));
        }
        if let (Some(difference), Err(why)) = (difference, &ours)
            && !why.to_string().contains(difference.says)
        {
            wrong.push(format!("{version:?}: {why:?} does not say {:?}", difference.says));
        }
        for (judge, said) in theirs.into_iter().flatten() {
            let accepts = match (judge, self.postfix) {
                ("postfix", Postfix::AsDanelaw) => expected.is_ok(),
                _ => self.verdict.is_ok(),
            };
            if said.is_ok() != accepts {
                wrong.push(format!("{version:?}: {judge} says {said:?}, danelaw {ours:?}"));
            }
        }
        wrong
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let [by_inter, by_root, root] = &self.schemes;
        let issue = |spec: &Spec, subject, signer, scheme| {
            keys::issue(spec, &self.key_of(subject), &self.key_of(signer), scheme)
        };
        let mut all = vec![
            issue(&self.leaf, Leaf, self.leaf_signer, by_inter),
            issue(&self.inter, Inter, Root, by_root),
            issue(&self.root, Root, Root, root),
            issue(&Spec::authority("Stranger", "Stranger"), Stranger, Stranger, &ECDSA_SHA256),
        ];
        all.extend(self.extra.iter().map(|(spec, subject, signer)| issue(spec, *subject, *signer, &ECDSA_SHA256)));
        all
    }

    fn pick(&self, all: &[CertificateDer<'static>], who: Holder) -> CertificateDer<'static> {
        all[who.place()].clone()
    }

    fn key_of(&self, who: Holder) -> Arc<Key> {
        match who {
            Extra(which) => self.key_of(self.extra[which].1),
            Leaf | Inter | Root | Stranger => keys::key(self.keys[who.place()]),
        }
    }

    /// A line for the list of differences.
    pub(crate) fn difference(&self) -> Option<String> {
        let Difference { versions, label, cause, .. } = self.difference.as_ref()?;
        let cause = match cause {
            Cause::Rustls(why) => format!("rustls: {why}"),
            Cause::Decision(why) => format!("decided: {why}"),
        };
        Some(format!("{} ({versions:?}): {label}; {cause}", self.what))
    }
}
