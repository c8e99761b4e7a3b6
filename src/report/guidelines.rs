//! The sentences of guidelines that the report of a month is asked for, and the part of each that it answers.

/// A sentence of a guideline.
#[derive(Debug, Clone, Copy)]
pub struct GuidelineSentence {
    /// The document, its version and the place.
    pub source: &'static str,
    /// The sentence, as it stands there.
    pub sentence: &'static str,
    /// The numbers that answer it.
    pub answers: &'static str,
    /// The part that no number answers.
    pub leaves: &'static str,
}

/// The sentences.
pub const SENTENCES: [GuidelineSentence; 7] = [
    GuidelineSentence {
        source: "BSI TR-03108 Secure Email Transport, version 2.0 (1 June 2023), 4.1.4, TR-03108-04-M",
        sentence: "The MHS of an email service provider MUST implement outbound transport encryption (“Opportunistic TLS”) if the MHS of another email service provider offers it.",
        answers: "How much mail went under TLS, how much in cleartext, and to how many domains.",
        leaves: "Whether the other side offered TLS to mail that went in cleartext. The resolver, the versions of TLS and the algorithms (BSI TR-03116-4), which the same section demands.",
    },
    GuidelineSentence {
        source: "BSI TR-03108, version 2.0, 4.1.6, TR-03108-06-M",
        sentence: "If a valid TLSA resource record exists, but the (receiving) MHS described by it does not offer transport encryption, the MHS wishing to send MUST abort the establishment of the connection and MUST NOT send the email.",
        answers: "How many attempts were refused for want of TLS or of a proof, and how much mail went although enforcing would have refused it (“not enforced”).",
        leaves: "Which mail went without DANE by a setting although its host had a valid TLSA record. It is under “encrypted”, “cleartext by a rule” and “verified by a rule's key”, and seldom under other proofs. Rules of the levels `encrypt`, `may` and `fingerprint`, rules whose `next_hop` is an address, `tls.level = \"encrypt\"`, `tls.insecure_mx = \"encrypt\"` and negative trust anchors let such mail go, and it is not among “not enforced”: none there is no proof that the sentence was kept. An auditor must read `danelaw rules` and `danelaw config show --changed` beside the numbers. Which of the refused attempts had a TLSA record: the reason of each is in the log. Hosts that were passed over for another host of the domain.",
    },
    GuidelineSentence {
        source: "BSI TR-03108, version 2.0, 4.1.6, TR-03108-06-M",
        sentence: "If a valid TLSA resource record exists, but the sending MHS is unable to verify the identity of the (receiving) MHS described by the record, the sending MHS MUST abort the establishment of the connection and MUST NOT send the email.",
        answers: "How much mail was verified by DANE, and to how many domains; the refused attempts and the mail that was not enforced, as above.",
        leaves: "As above.",
    },
    GuidelineSentence {
        source: "BSI TR-03108, version 2.0, 4.1.8, TR-03108-08-R",
        sentence: "An MHS SHOULD use outbound MTA-STS to other email services as specified in RFC 8461 (3).",
        answers: "How much mail was verified by MTA-STS, and to how many domains.",
        leaves: "Mail that went without a policy by a setting: `mta_sts.mode` other than `enforce`, a level that asks for none, or a rule with `mta_sts = \"ignore\"`; `danelaw rules` and `danelaw config show --changed` show these. Wildcard certificates of policy hosts, which the same section speaks of.",
    },
    GuidelineSentence {
        source: "Forum Standaardisatie, list of open standards (pas toe of leg uit), STARTTLS en DANE, functioneel toepassingsgebied",
        sentence: "STARTTLS en DANE moeten in combinatie worden toegepast op ontvangende en verzendende e-mailservers.",
        answers: "For the mail server that sends by danelaw: how much mail went under TLS, and how much was verified by DANE.",
        leaves: "Mail that went without DANE by a setting, as above. The mail server that receives.",
    },
    GuidelineSentence {
        source: "NCSC-NL, factsheet Secure the connections of mail servers, version 1.1 (4 April 2017)",
        sentence: "The NCSC recommends enabling STARTTLS and DANE for all your organisation’s incoming and outgoing email traffic.",
        answers: "The same, for outgoing mail that goes by danelaw.",
        leaves: "Mail that went without DANE by a setting, as above. Incoming mail, and mail that does not go by danelaw.",
    },
    GuidelineSentence {
        source: "BIO2, version 1.3 (9 January 2026), measure 5.14.01",
        sentence: "Internetfacing-informatiesystemen en e-mail berichtenverkeer blijven voldoen aan de verplichte beveiligingsstandaarden, zie hiervoor de website van het Forum Standaardisatie en het Cyberbeveiligingsbesluit.",
        answers: "The part of STARTTLS and DANE for outgoing mail, as above.",
        leaves: "Mail that went without DANE by a setting, as above. All other standards. The measure goes by the measurements of internet.nl, and this report is none of them.",
    },
];

/// The requirements of BSI TR-03108 that no number of the report answers.
pub const NOT_ANSWERED: &str = "No number of this report answers the requirements TR-03108-01, -02, -03, -05, -07 and -10 to -16 of BSI TR-03108 2.0. They are about \
     users, incoming mail, received reports, certificates and the organisation. TR-03108-09-M is about TLS reports that are \
     sent: `danelaw tlsrpt show` and `danelaw tlsrpt preview` show those.";
