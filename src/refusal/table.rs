//! What each reason is called, why it comes about and what to do about it: the one table that replies, logs, metrics,
//! RFC 8460 reports, `danelaw check` and the reference of refusals are views of.

use super::View;
use crate::scarce::Scarcity;
use crate::smtp::reply::{Code, EnhancedCode};

/// Names each row, and gathers them all: a row that nobody can look up does not compile.
macro_rules! rows {
    ($($name:ident = $view:expr;)*) => {
        $(pub(super) const $name: View = $view;)*

        /// Every row, in the order of the road.
        pub const ROWS: &[View] = &[$($name),*];
    };
}

/// For now: the client tries again.
const fn deferred(subject: u16, detail: u16, label: &'static str, reported: Reported, words: Words) -> View {
    View {
        code: Code::LOCAL_ERROR,
        enhanced: EnhancedCode::transient(subject, detail),
        label,
        result_type: reported.0,
        cause: words.cause,
        remedy: words.remedy,
    }
}

/// For good.
const fn refused(code: Code, subject: u16, detail: u16, label: &'static str, words: Words) -> View {
    View {
        code,
        enhanced: EnhancedCode::permanent(subject, detail),
        label,
        result_type: None,
        cause: words.cause,
        remedy: words.remedy,
    }
}

/// The row of a resource that this host has run out of.
pub(super) fn out_of(scarcity: Scarcity) -> View {
    match scarcity {
        Scarcity::OwnDescriptors | Scarcity::Descriptors => OUT_OF_DESCRIPTORS,
        Scarcity::Memory => OUT_OF_MEMORY,
    }
}

/// The result type of RFC 8460 §4.3, for those failures that are reported.
struct Reported(Option<&'static str>);

const UNREPORTED: Reported = Reported(None);
const DNSSEC: Reported = Reported(Some("dnssec-invalid"));
const NO_STARTTLS: Reported = Reported(Some("starttls-not-supported"));
const VALIDATION: Reported = Reported(Some("validation-failure"));
const UNTRUSTED: Reported = Reported(Some("certificate-not-trusted"));
const EXPIRED: Reported = Reported(Some("certificate-expired"));

struct Words {
    cause: &'static str,
    remedy: &'static str,
}

const fn words(cause: &'static str, remedy: &'static str) -> Words {
    Words { cause, remedy }
}

rows! {
    MX_LOOKUP_FAILED = deferred(4, 3, "mx-lookup-failed", DNSSEC, words(
        "The domain's MX records could not be had, or do not validate. A failure is never read as \"no MX\".",
        "see \"danelaw resolve DOMAIN MX\"; the domain's name servers or your resolver must be mended",
    ));
    ADDRESS_LOOKUP_FAILED = deferred(4, 3, "address-lookup-failed", DNSSEC, words(
        "The address records of the host could not be had, or do not validate.",
        "see \"danelaw resolve HOST A\"; the host's name servers or your resolver must be mended",
    ));
    TLSA_LOOKUP_FAILED = deferred(7, 5, "tlsa-lookup-failed", DNSSEC, words(
        "The TLSA records of the host could not be had, or do not validate. Whoever can suppress them could switch DANE \
         off, so mail waits (RFC 7672 §2.1.2). Some name servers do not answer for TLSA at all.",
        "see \"danelaw resolve _25._tcp.HOST TLSA\"; the host's name servers or your resolver must be mended",
    ));
    NO_DOMAIN = refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-domain", words(
        "The DNS says that the domain does not exist.",
        "correct the address",
    ));
    NULL_MX = refused(Code::DOMAIN_TAKES_NO_MAIL, 1, 10, "null-mx", words(
        "The domain has published that it takes no mail (RFC 7505).",
        "write to another address",
    ));
    NO_HOST = refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-host", words(
        "The domain has MX records, and none of them names a host: an IP address is no host name.",
        "the domain's operator must mend its MX records",
    ));
    MAIL_LOOP = refused(Code::TRANSACTION_FAILED, 4, 6, "mail-loop", words(
        "The domain's best MX is this host, or the mail server it works for.",
        "your mail server must deliver this domain itself; or correct remote.own_names",
    ));
    NO_ADDRESS = refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "no-address", words(
        "The host that the MX record names has neither an IPv4 nor an IPv6 address.",
        "the domain's operator must mend its MX or address records",
    ));
    RESERVED_ADDRESS = refused(Code::MAILBOX_UNAVAILABLE, 4, 4, "reserved-address", words(
        "All addresses of the host are private, loopback or the like. No public mail server is there, and an MX record \
         must not point danelaw at your own network.",
        "if this is meant, list the range in remote.allow_reserved",
    ));
    DANE_REQUIRED = deferred(7, 5, "dane-required", Reported(Some("dane-required")), words(
        "The level dane-only holds for the domain, and the host has nothing to be authenticated by.",
        "the domain must publish DANE, or a rule must give it another level",
    ));
    TOO_MANY_CONNECTIONS = deferred(4, 5, "too-many-connections", UNREPORTED, words(
        "As many connections as the configuration allows are open already, and for ten seconds none of them ended.",
        "if it is no host that lets everybody wait, raise the key that the text names",
    ));
    OUT_OF_DESCRIPTORS = deferred(3, 0, Scarcity::OwnDescriptors.label(), UNREPORTED, words(
        "danelaw, or the whole host, has no file descriptor left for a socket. It says nothing of any other host, and is not \
         remembered.",
        "raise LimitNOFILE= (ulimit -n; fs.file-max), or lower limits.sessions or remote.connections",
    ));
    OUT_OF_MEMORY = deferred(3, 0, Scarcity::Memory.label(), UNREPORTED, words(
        "The system has no memory left for a socket. It says nothing of any other host, and is not remembered.",
        "give this host more memory, or lower limits.sessions or remote.connections",
    ));
    BIND_FAILED = deferred(3, 5, "bind-failed", UNREPORTED, words(
        "The address to connect from is none of this host's.",
        "correct remote.source_ipv4 or remote.source_ipv6",
    ));
    FAILED_JUST_NOW = deferred(4, 1, "failed-just-now", UNREPORTED, words(
        "The host let another mail wait in vain a moment ago. For remote.failed_hosts_for no other mail waits for it.",
        "the client tries again",
    ));
    CONNECT_FAILED = deferred(4, 1, "connect-failed", UNREPORTED, words(
        "The host does not take the TCP connection: it is down, or something on the way is in between.",
        "see whether port 25 is open outbound here; the host may be down",
    ));
    CONNECT_TIMEOUT = deferred(4, 1, "connect-timeout", UNREPORTED, words(
        "Nothing came back on the TCP connection. Many networks block outbound port 25.",
        "see whether port 25 is open outbound here; the host may be down",
    ));
    GREETING_REFUSED = deferred(4, 1, "greeting-refused", UNREPORTED, words(
        "The host greets with a refusal: it is busy, or wants no mail from this address.",
        "its text says why; see whether your address is on a block list",
    ));
    EHLO_REFUSED = deferred(7, 4, "ehlo-refused", NO_STARTTLS, words(
        "The host refuses EHLO, so TLS cannot be had. A proxy on the way may have rewritten the command.",
        "see whether a firewall on the way inspects SMTP; the host must take EHLO",
    ));
    EHLO_NAME_REFUSED = deferred(4, 1, "ehlo-name-refused", UNREPORTED, words(
        "The host refuses, under TLS, the name that is given in EHLO: it wants a full host name that the DNS has. The name is that of \
         your mail server, or of danelaw where that is none.",
        "give your mail server its full host name, which must resolve to the address that mail comes from; or set ehlo_name",
    ));
    STARTTLS_MISSING = deferred(7, 4, "starttls-missing", NO_STARTTLS, words(
        "The host does not offer STARTTLS. It has no TLS, or somebody on the way took the offer out: both look the same.",
        "the host must offer STARTTLS; see whether a firewall on the way strips it, or write a rule with level \"may\"",
    ));
    STARTTLS_REFUSED = deferred(7, 4, "starttls-refused", NO_STARTTLS, words(
        "The host offers STARTTLS and refuses the command: its certificate or key may be missing.",
        "the host's operator must mend its TLS",
    ));
    STARTTLS_INJECTED = deferred(7, 5, "starttls-injected", VALIDATION, words(
        "There was plaintext behind the answer to STARTTLS: an attack, or a broken proxy (CVE-2011-0411).",
        "see what is between you and the host; never work around this",
    ));
    NO_CERTIFICATE = deferred(7, 5, "no-certificate", UNTRUSTED, words(
        "The server shows no certificate.",
        "the host's operator must give it a certificate",
    ));
    CHAIN_TOO_LARGE = deferred(7, 5, "chain-too-large", UNTRUSTED, words(
        "The server sends more certificates than any honest server has.",
        "the host's operator must send its own chain alone",
    ));
    TLSA_MISMATCH = deferred(7, 5, "tlsa-mismatch", UNTRUSTED, words(
        "None of the TLSA records matches the server's certificates. Mostly the key was changed and the record was not; \
         it may also be another server.",
        "the host's operator must publish a TLSA record of its key",
    ));
    RSA_KEY_SIZE = deferred(7, 5, "rsa-key-size", UNTRUSTED, words(
        "A certificate has an RSA key below 2048 bits, or above 8192.",
        "the host's operator must take a new key, and publish its record first",
    ));
    CERTIFICATE_EXPIRED = deferred(7, 5, "certificate-expired", EXPIRED, words(
        "A certificate on the path to the trust anchor has expired. Under usage 3 (DANE-EE) dates would not count.",
        "the host's operator must renew it",
    ));
    CERTIFICATE_NOT_YET_VALID = deferred(7, 5, "certificate-not-yet-valid", EXPIRED, words(
        "A certificate on the path to the trust anchor is not valid yet, or this host's clock is slow.",
        "see whether the clock here is right; else the host's operator must mend it",
    ));
    CHAIN_NOT_VERIFIED = deferred(7, 5, "chain-not-verified", UNTRUSTED, words(
        "The certificates do not lead to the trust anchor that the TLSA records name. Mostly the server does not send the \
         authority's certificate, or has moved to another authority.",
        "the host's operator must send the whole chain, and publish a record of its authority",
    ));
    NAME_MISMATCH = deferred(7, 5, "name-mismatch", Reported(Some("certificate-host-mismatch")), words(
        "The certificate comes from the right authority, and is for another host.",
        "the host's operator must have a certificate for the name in its MX record",
    ));
    WRONG_KEY = deferred(7, 5, "wrong-key", UNTRUSTED, words(
        "The server shows a certificate whose key it does not hold: a copy of somebody's.",
        "see what is between you and the host; never work around this",
    ));
    UNSUPPORTED_KEY = deferred(7, 5, "unsupported-key", UNTRUSTED, words(
        "The server's key is of a kind that danelaw cannot check, or its certificate cannot be read.",
        "the host's operator must take an RSA, ECDSA (P-256, P-384, P-521) or Ed25519 key",
    ));
    NO_SHARED_TLS_PARAMETERS = deferred(7, 5, "no-shared-tls-parameters", VALIDATION, words(
        "The server has neither TLS 1.2 nor 1.3, or no cipher suite or group in common with danelaw. danelaw offers ECDHE with \
         AES-GCM or ChaCha20, on X25519, P-256, P-384 and P-521. It has no finite-field Diffie-Hellman (DHE), no CBC suites \
         and no RSA key transport: a server that has those alone cannot be reached, whatever its TLSA records say.",
        "the host must offer TLS 1.2 or 1.3 with ECDHE and AES-GCM; DHE, CBC or RSA key exchange alone will not do",
    ));
    PLAINTEXT_INJECTED = deferred(7, 5, "plaintext-injected", VALIDATION, words(
        "The server sent plaintext in the TLS handshake: an attack, or a server that did not mean its 220.",
        "see what is between you and the host",
    ));
    TLS_ALERT = deferred(7, 5, "tls-alert", VALIDATION, words(
        "The server ended the handshake with an alert, such as for a name (SNI) that it does not know, or for want of a \
         client certificate.",
        "the host's log says more; an MX that asks for client certificates must not require them",
    ));
    TLS_CLOSED = deferred(7, 5, "tls-closed", UNREPORTED, words(
        "The connection was lost in the TLS handshake. Where large packets get lost, it is always here.",
        "try again; if it stays, look for an MTU fault or a middlebox on the way",
    ));
    TLS_BROKEN = deferred(7, 5, "tls-broken", VALIDATION, words(
        "The TLS handshake broke the protocol.",
        "the host's operator must mend its TLS",
    ));
    HANDSHAKE_TIMEOUT = deferred(7, 5, "handshake-timeout", VALIDATION, words(
        "The TLS handshake did not end in time. Where large packets get lost, it is always here.",
        "try again; if it stays, look for an MTU fault or a middlebox on the way",
    ));
    EHLO_UNDER_TLS_REFUSED = deferred(4, 1, "ehlo-under-tls-refused", UNREPORTED, words(
        "The host refuses EHLO once TLS is there.",
        "its text says why; ehlo_name sets the name that is given",
    ));
    REMOTE_TIMEOUT = deferred(4, 2, "remote-timeout", UNREPORTED, words(
        "The host was silent for longer than the limit of [timeouts] for this step.",
        "the client tries again; if it stays, the host is overloaded",
    ));
    CONNECTION_LOST = deferred(4, 2, "connection-lost", UNREPORTED, words(
        "The connection to the host broke in the middle of the session.",
        "the client tries again",
    ));
    FINAL_REPLY_LOST = deferred(4, 2, "final-reply-lost", UNREPORTED, words(
        "The message went out whole and its answer never came. Nobody can know who has it, so the client keeps it: it may \
         arrive twice (RFC 1047).",
        "the client tries again; if it stays, the host takes too long to answer the end of a message",
    ));
    PROTOCOL_ERROR = deferred(5, 0, "protocol-error", UNREPORTED, words(
        "The host answered what SMTP does not allow.",
        "the host's operator must mend it; see whether port 25 is a mail server there",
    ));
    UNSOLICITED_REPLY = deferred(5, 0, "unsolicited-reply", UNREPORTED, words(
        "The host spoke before it was asked, so that answers no longer belong to commands.",
        "the host's operator must mend it",
    ));
    ANSWERED_UNREAD = deferred(4, 2, "answered-unread", UNREPORTED, words(
        "The host said yes to a message whose end had not arrived there, by the word of its own TCP. It cannot have kept it.",
        "the client tries again; if it stays, the host's operator must mend it",
    ));
    REMOTE_CLOSING = deferred(3, 2, "remote-closing", UNREPORTED, words(
        "The host ended the session with 421: it is busy or about to restart.",
        "the client tries again",
    ));
    MAIL_REFUSED = deferred(0, 0, "mail-refused", UNREPORTED, words(
        "The host refuses the sender or the mail itself, with this code of its own. At 4xx the other hosts are asked first.",
        "its text says why",
    ));
    BDAT_REFUSED = deferred(5, 0, "bdat-refused", UNREPORTED, words(
        "The host offers CHUNKING and refuses BDAT as a command that it does not know, so that its answer is not about the \
         mail. The message is gone by then; for a day the host gets messages by DATA.",
        "the client tries again, and the message goes by DATA then",
    ));
    EIGHT_BIT_MIME_MISSING = refused(Code::TRANSACTION_FAILED, 6, 3, "8bitmime-missing", words(
        "The mail is 8-bit, and no host of the domain takes that. danelaw does not rewrite mail (RFC 6152 §3).",
        "send it in a 7-bit encoding",
    ));
    EXTENSION_NOT_ASKED = deferred(6, 3, "extension-not-asked", UNREPORTED, words(
        "The message turned out to need an extension that its host lacks, when that host had the transaction already. \
         Other hosts of the domain, or addresses of that host, were not asked whether they have it.",
        "the client tries again, and hosts that have it are preferred then",
    ));
    SMTPUTF8_MISSING = refused(Code::MAILBOX_NAME_NOT_ALLOWED, 6, 7, "smtputf8-missing", words(
        "The mail has internationalised addresses or headers, and no host of the domain takes that (RFC 6531 §3.5).",
        "write from and to ASCII addresses",
    ));
    SMTPUTF8_MISSING_FOR_HEADER = refused(Code::TRANSACTION_FAILED, 6, 9, "smtputf8-missing-for-header", words(
        "The mail was sent with SMTPUTF8 and its header is not ASCII, and no host of the domain takes that \
         (RFC 6531 §3.5).",
        "write the header in ASCII (RFC 2047)",
    ));
    MESSAGE_TOO_LARGE = refused(Code::EXCEEDED_STORAGE, 3, 4, "message-too-large", words(
        "The message is larger than any host of the domain takes (RFC 1870 §6.1).",
        "send less at a time",
    ));
    OUT_OF_TIME = deferred(4, 1, "out-of-time", UNREPORTED, words(
        "The hosts before it took all of timeouts.route, after which clients give up.",
        "see why those before it did not answer",
    ));
    EXCHANGES_NOT_TRIED = deferred(4, 1, "exchanges-not-tried", UNREPORTED, words(
        "The domain has more MX hosts than danelaw tries, and those that were tried failed.",
        "the domain's operator must cut down its MX records",
    ));
}
