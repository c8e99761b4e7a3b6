//! The name of each reason, its urgency and shortfall, its codes, its cause and the remedy: the one table that replies, logs, metrics,
//! `danelaw check` and the reference of refusals are views of.

use super::row::{Silent, View, deferred, refused, words};
use super::{Shortfall, Urgency};
use crate::scarce::Scarcity;
use crate::smtp::reply::Code;

/// The row of a resource that this host has run out of.
pub(super) fn out_of(scarcity: Scarcity) -> View {
    match scarcity {
        Scarcity::OwnDescriptors | Scarcity::Descriptors => OUT_OF_DESCRIPTORS,
        Scarcity::Memory => OUT_OF_MEMORY,
    }
}

rows! {
    replies {
        MX_LOOKUP_FAILED MxLookupFailed "mx-lookup-failed" Refusal DnsAnswer = deferred(4, 3), words(
            "The lookup of the domain's MX records failed, or the records do not validate. A failure is never read as \"no MX\".",
            "see \"danelaw resolve DOMAIN MX\"; the domain's name servers or your resolver must be repaired",
        );
        ADDRESS_LOOKUP_FAILED AddressLookupFailed "address-lookup-failed" Refusal DnsAnswer = deferred(4, 3), words(
            "The lookup of the host's address records failed, or the records do not validate.",
            "see \"danelaw resolve HOST A\"; the host's name servers or your resolver must be repaired",
        );
        TLSA_LOOKUP_FAILED TlsaLookupFailed "tlsa-lookup-failed" Refusal DnsAnswer = deferred(7, 5), words(
            "The lookup of the host's TLSA records failed, or the records do not validate. An attacker that suppresses them must \
             not switch DANE off, so mail waits (RFC 7672 §2.1.2). Some name servers do not answer for TLSA at all.",
            "see \"danelaw resolve _25._tcp.HOST TLSA\"; the host's name servers or your resolver must be repaired",
        );
        NO_DOMAIN NoDomain "no-domain" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 4, 4), words(
            "The DNS says that the domain does not exist.",
            "correct the address",
        );
        SPECIAL_USE_NAME SpecialUseName "special-use-name" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 4, 4), words(
            "The domain is in a name space that the public DNS does not have (RFC 6761), such as .invalid, .local or .internal, and no \
             answer of your resolver for it validates.",
            "correct the address; for a host of your own network, write a rule with its address as next_hop",
        );
        NULL_MX NullMx "null-mx" Routine Other = refused(Code::DOMAIN_TAKES_NO_MAIL, 1, 10), words(
            "The domain has published that it takes no mail (RFC 7505).",
            "write to another address",
        );
        NO_HOST NoHost "no-host" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 4, 4), words(
            "The domain has MX records, and none of them names a host: an IP address is not a host name.",
            "the domain's operator must repair its MX records",
        );
        MAIL_LOOP MailLoop "mail-loop" Refusal Other = refused(Code::TRANSACTION_FAILED, 4, 6), words(
            "The domain's best MX is this host or the mail server it works for, by its name or by an address of its interfaces or of the settings.",
            "your mail server must deliver this domain itself; or correct remote.own_names, remote.own_addresses or the DNS",
        );
        NO_ADDRESS NoAddress "no-address" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 4, 4), words(
            "The host that the MX record names has neither an IPv4 nor an IPv6 address.",
            "the domain's operator must repair its MX or address records",
        );
        NO_ADDRESS_IN_FAMILY NoAddressInFamily "no-address-in-family" Refusal Other = deferred(4, 4), words(
            "The host has no address of the family that remote.families names. It may have one of the other family, which was not \
             asked for.",
            "see \"danelaw resolve HOST A\" and AAAA; if this host can connect over both families, set remote.families = \"any\"",
        );
        NO_PRIMARY NoPrimary "no-primary" Refusal Other = deferred(4, 4), words(
            "This host, or the mail server it works for, is a backup exchange of the domain, and the exchanges before it have no address \
             that mail can be sent to. The backup keeps the mail until they have.",
            "the domain's operator must repair its MX or address records",
        );
        RESERVED_ADDRESS ReservedAddress "reserved-address" Refusal Other = refused(Code::MAILBOX_UNAVAILABLE, 4, 4), words(
            "All addresses of the host are private, loopback or otherwise reserved. No public mail server has such an address, and an MX record \
             must not point danelaw at your own network.",
            "if this is meant, list the range in remote.allow_reserved",
        );
        DANE_REQUIRED DaneRequired "dane-required" Refusal Proof = deferred(7, 5), words(
            "The level dane-only holds for the domain, and DANE cannot authenticate the host.",
            "the domain must publish DANE, or a rule must give it another level",
        ).under_a_floor("the domain must publish DANE; where listener.level asks for it, no rule takes that back");
        MX_NOT_IN_POLICY MxNotInPolicy "mx-not-in-policy" Refusal Proof = deferred(7, 5), words(
            "The domain's MTA-STS policy (RFC 8461) does not list the host that its MX record names, so the host gets no mail. The \
             record may be forged, or the domain has moved and has not changed its policy.",
            "the domain's owner must list the host in its policy; or write a rule with mta_sts = \"ignore\"",
        ).under_a_floor(
            "the domain's owner must list the host in its policy; under listener.level or REQUIRETLS it holds, whatever a rule says",
        );
        STS_LOOKUP_FAILED StsLookupFailed "sts-lookup-failed" Refusal DnsAnswer = deferred(4, 3), words(
            "The lookup of the domain's MTA-STS record failed, no policy is remembered, and the DNS of this domain can be trusted to \
             answer: its MX records are secure, or the reply does not validate. A failure is never read as \"no policy\" there.",
            "see \"danelaw resolve _mta-sts.DOMAIN TXT\"; the domain's name servers or your resolver must be repaired",
        );
        STS_NO_TURN StsNoTurn "sts-no-turn" Refusal Other = deferred(4, 5), words(
            "The domain has an MTA-STS policy that is not remembered. Either too many policies are being fetched, and it had no place; or \
             hosts of the domain that do not answer used up the mail's time (timeouts.route) before.",
            "the client tries again; \"danelaw explain ID\" shows which; of many domains, look for mails to many slow policy hosts",
        );
        STS_UNSIGNED_DNS StsUnsignedDns "sts-unsigned-dns" Refusal Proof = deferred(4, 4), words(
            "By the DNS none of the domain's exchanges can be reached, for a reason that would bounce the mail. But the domain has an \
             MTA-STS policy in force and its MX records are not signed, so they may be forged. The mail is deferred.",
            "the reasons for the single exchanges are in the reply; if they are true, the domain's owner must mend its DNS",
        );
        NOT_AUTHENTICATED NotAuthenticated "not-authenticated" Refusal Proof = deferred(7, 5), words(
            "The level secure holds for the domain, and its MX record is insecure: neither an MTA-STS policy nor a rule names the host.",
            "the domain must publish DANE or MTA-STS; or name its hosts in the rule's mx",
        );
        REQUIRETLS_UNAUTHENTICATED RequireTlsUnauthenticated "requiretls-unauthenticated" Routine Proof = refused(Code::MAILBOX_UNAVAILABLE, 7, 10), words(
            "The mail asks for REQUIRETLS (RFC 8689), and none of the domain's hosts can be authenticated: its MX records are insecure, \
             it has no MTA-STS policy in force, and no rule names its hosts.",
            "send it without REQUIRETLS; or write a rule with level \"secure\" and the hosts in mx",
        );
        TOO_MANY_CONNECTIONS TooManyConnections "too-many-connections" Refusal Other = deferred(4, 5), words(
            "As many connections as the configuration allows are open already, and for ten seconds none of them ended.",
            "the client tries again; if many mails get this reply while hosts answer quickly, raise the key named in the text",
        );
        OUT_OF_DESCRIPTORS OutOfDescriptors "out-of-descriptors" Fault Other = deferred(3, 0), words(
            "danelaw, or the whole host, has no file descriptor left for a socket. This is no failure of a remote host, and is not \
             remembered.",
            "raise LimitNOFILE= (ulimit -n; fs.file-max), or lower limits.sessions or remote.connections",
        );
        OUT_OF_MEMORY OutOfMemory "out-of-memory" Fault Other = deferred(3, 0), words(
            "The system has no memory left for a socket. This is no failure of a remote host, and is not remembered.",
            "give this host more memory, or lower limits.sessions or remote.connections",
        );
        BIND_FAILED BindFailed "bind-failed" Fault Other = deferred(3, 5), words(
            "The address to connect from does not belong to this host.",
            "correct remote.source_ipv4 or remote.source_ipv6",
        );
        FAILED_JUST_NOW FailedJustNow "failed-just-now" Routine Other = deferred(4, 1), words(
            "The host did not answer another mail a moment ago. For remote.failed_hosts_for no other mail waits for it.",
            "the client tries again",
        );
        CONNECT_FAILED ConnectFailed "connect-failed" Routine Other = deferred(4, 1), words(
            "The host does not accept the TCP connection: it is down, or a firewall on the path blocks the connection.",
            "see whether port 25 is open outbound here; the host may be down",
        );
        CONNECT_TIMEOUT ConnectTimeout "connect-timeout" Routine Other = deferred(4, 1), words(
            "The host did not answer the TCP connection attempt. Many networks block outbound port 25.",
            "see whether port 25 is open outbound here; the host may be down",
        );
        GREETING_REFUSED GreetingRefused "greeting-refused" Routine Other = deferred(4, 1), words(
            "The host's greeting is a refusal: it is busy, or takes no mail from this address.",
            "its text says why; see whether your address is on a block list",
        );
        EHLO_REFUSED EhloRefused "ehlo-refused" Refusal Proof = deferred(7, 4), words(
            "The host refuses EHLO, so TLS cannot be had. A proxy on the path may have rewritten the command.",
            "see whether a firewall on the path inspects SMTP; the host must take EHLO",
        );
        EHLO_NAME_REFUSED EhloNameRefused "ehlo-name-refused" Refusal Other = deferred(4, 1), words(
            "The host refuses, under TLS, the name that is given in EHLO: it requires a full host name that the DNS has. The name is that of \
             your mail server, or that of danelaw where your mail server gives no full host name.",
            "give your mail server its full host name, which must resolve to the address that mail comes from; or set ehlo_name",
        );
        STARTTLS_MISSING StartTlsMissing "starttls-missing" Refusal Proof = deferred(7, 4), words(
            "The host does not offer STARTTLS. It has no TLS, or an attacker on the path removed the offer: both look the same.",
            "the host must offer STARTTLS; see whether a firewall on the path strips it, or write a rule with level \"may\"",
        ).under_a_floor(
            "the host must offer STARTTLS; see whether a firewall on the path strips it; no rule lowers listener.level or REQUIRETLS",
        );
        STARTTLS_REFUSED StartTlsRefused "starttls-refused" Refusal Proof = deferred(7, 4), words(
            "The host offers STARTTLS and refuses the command: its certificate or key may be missing.",
            "the host's operator must repair its TLS",
        );
        STARTTLS_INJECTED StartTlsInjected "starttls-injected" Refusal Proof = deferred(7, 5), words(
            "Plaintext followed the answer to STARTTLS: an attack, or a broken proxy (CVE-2011-0411).",
            "look for a proxy between you and the host; never work around this",
        );
        NO_CERTIFICATE NoCertificate "no-certificate" Refusal Proof = deferred(7, 5), words(
            "The server shows no certificate.",
            "the host's operator must give it a certificate",
        );
        CHAIN_TOO_LARGE ChainTooLarge "chain-too-large" Refusal Proof = deferred(7, 5), words(
            "The server sends more certificates than any genuine server has.",
            "the host's operator must send its own chain alone",
        );
        TLSA_MISMATCH TlsaMismatch "tlsa-mismatch" Refusal Proof = deferred(7, 5), words(
            "None of the TLSA records matches the server's certificates. Usually the key was changed and the record was not; \
             it may also be another server.",
            "the host's operator must publish a TLSA record of its key",
        );
        RSA_KEY_SIZE RsaKeySize "rsa-key-size" Refusal Proof = deferred(7, 5), words(
            "A certificate has an RSA key below 2048 bits, or above 8192.",
            "the host's operator must take a new key, and publish its record first",
        );
        CERTIFICATE_EXPIRED CertificateExpired "certificate-expired" Refusal Proof = deferred(7, 5), words(
            "A certificate on the path to the trust anchor or to the public CA has expired. Under usage 3 (DANE-EE) dates would not count.",
            "the host's operator must renew it",
        );
        CERTIFICATE_NOT_YET_VALID CertificateNotYetValid "certificate-not-yet-valid" Refusal Proof = deferred(7, 5), words(
            "A certificate on the path to the trust anchor or to the public CA is not valid yet, or this host's clock is slow.",
            "see whether the clock here is right; else the host's operator must repair it",
        );
        CHAIN_NOT_VERIFIED ChainNotVerified "chain-not-verified" Refusal Proof = deferred(7, 5), words(
            "The certificates do not lead to the trust anchor that the TLSA records name. Usually the server does not send the \
             authority's certificate, or has moved to another authority.",
            "the host's operator must send the whole chain, and publish a record of its authority",
        );
        UNTRUSTED_AUTHORITY UntrustedAuthority "untrusted-authority" Refusal Proof = deferred(7, 5), words(
            "The policy asks for a certificate of a public CA, and no CA that this host knows vouches for the server's: its chain ends at \
             another authority, the server does not send the certificates between, or one of them breaks a rule.",
            "the host's operator must send the whole chain of a public CA; or add its root to tls.extra_ca",
        );
        NAME_MISMATCH NameMismatch "name-mismatch" Refusal Proof = deferred(7, 5), words(
            "The certificate comes from the right authority, and is for another host.",
            "the host's operator must have a certificate for the name in its MX record",
        );
        WRONG_KEY WrongKey "wrong-key" Refusal Proof = deferred(7, 5), words(
            "The server shows a certificate without holding its key: a copy of another server's certificate.",
            "look for a proxy between you and the host; never work around this",
        );
        UNSUPPORTED_KEY UnsupportedKey "unsupported-key" Refusal Proof = deferred(7, 5), words(
            "The server's key is of a kind that danelaw cannot check, or its certificate cannot be read.",
            "the host's operator must take an RSA, ECDSA (P-256, P-384, P-521) or Ed25519 key",
        );
        NO_SHARED_TLS_PARAMETERS NoSharedTlsParameters "no-shared-tls-parameters" Refusal Proof = deferred(7, 5), words(
            "The server has neither TLS 1.2 nor 1.3, or no cipher suite or group in common with danelaw. danelaw offers ECDHE with \
             AES-GCM or ChaCha20, on X25519, P-256, P-384 and P-521. It has no finite-field Diffie-Hellman (DHE), no CBC suites \
             and no RSA key transport: a server that has only those cannot be reached, even with valid TLSA records.",
            "the host must offer TLS 1.2 or 1.3 with ECDHE and AES-GCM; DHE, CBC or RSA key exchange alone will not do",
        );
        PLAINTEXT_INJECTED PlaintextInjected "plaintext-injected" Refusal Proof = deferred(7, 5), words(
            "The server sent plaintext in the TLS handshake: an attack, or a server that answered 220 and did not start TLS.",
            "look for a proxy between you and the host",
        );
        SNI_REFUSED SniRefused "sni-refused" Refusal Proof = deferred(7, 5), words(
            "The server does not know the name in its own MX or TLSA record. Where no proof is asked for, danelaw tried without SNI too.",
            "the host must know the name in its MX record, or answer each name with the certificate that it has",
        );
        TLS_ALERT TlsAlert "tls-alert" Refusal Proof = deferred(7, 5), words(
            "The server ended the handshake with an alert, for example because it requires a client certificate.",
            "the host's log says more; an MX that asks for client certificates must not require them",
        );
        TLS_CLOSED TlsClosed "tls-closed" Refusal Proof = deferred(7, 5), words(
            "The connection was lost in the TLS handshake. A path that loses large packets fails at this step.",
            "try again; if it stays, look for an MTU fault or a middlebox on the path",
        );
        TLS_BROKEN TlsBroken "tls-broken" Refusal Proof = deferred(7, 5), words(
            "The TLS handshake broke the protocol.",
            "the host's operator must repair its TLS",
        );
        HANDSHAKE_TIMEOUT HandshakeTimeout "handshake-timeout" Refusal Proof = deferred(7, 5), words(
            "The TLS handshake did not end in time. A path that loses large packets fails at this step.",
            "try again; if it stays, look for an MTU fault or a middlebox on the path",
        );
        EHLO_UNDER_TLS_REFUSED EhloUnderTlsRefused "ehlo-under-tls-refused" Refusal Other = deferred(4, 1), words(
            "The host refuses EHLO under TLS.",
            "its text says why; ehlo_name sets the name that is given",
        );
        REMOTE_TIMEOUT RemoteTimeout "remote-timeout" Routine Other = deferred(4, 2), words(
            "The host was silent for longer than the limit of [timeouts] for this step.",
            "the client tries again; if it stays, the host is overloaded",
        );
        CONNECTION_LOST ConnectionLost "connection-lost" Routine Other = deferred(4, 2), words(
            "The connection to the host broke in the middle of the session.",
            "the client tries again",
        );
        FINAL_REPLY_LOST FinalReplyLost "final-reply-lost" Refusal Other = deferred(4, 2), words(
            "The whole message was sent and its answer never came. danelaw cannot know whether the host has it, so the client \
             keeps it: it may arrive twice (RFC 1047).",
            "the client tries again; if it stays, the host takes too long to answer the end of a message",
        );
        PROTOCOL_ERROR ProtocolError "protocol-error" Routine Other = deferred(5, 0), words(
            "The host's answer breaks the SMTP protocol.",
            "the host's operator must repair it; see whether port 25 is a mail server there",
        );
        UNSOLICITED_REPLY UnsolicitedReply "unsolicited-reply" Refusal Other = deferred(5, 0), words(
            "The host sent a reply before a command, so replies can no longer be matched to commands.",
            "the host's operator must repair it",
        );
        ANSWERED_UNREAD AnsweredUnread "answered-unread" Refusal Other = deferred(4, 2), words(
            "The host accepted a message before its end had arrived there, as its own TCP acknowledgements show. It cannot have \
             kept the whole message.",
            "the client tries again; if it stays, the host's operator must repair it",
        );
        REMOTE_CLOSING RemoteClosing "remote-closing" Routine Other = deferred(3, 2), words(
            "The host ended the session with 421: it is busy or about to restart.",
            "the client tries again",
        );
        MAIL_REFUSED MailRefused "mail-refused" Routine Other = deferred(0, 0), words(
            "The host refuses the sender or the mail, with this code of its own. At 4xx the other hosts are tried first.",
            "its text says why",
        );
        BDAT_REFUSED BdatRefused "bdat-refused" Routine Other = deferred(5, 0), words(
            "The host offers CHUNKING and refuses BDAT itself (500 to 504), so its answer is not about the \
             mail. The message cannot be sent again in this session; for a day the host gets messages by DATA.",
            "the client tries again, and the message goes by DATA then",
        );
        EIGHT_BIT_MIME_MISSING EightBitMimeMissing "8bitmime-missing" Routine Other = refused(Code::TRANSACTION_FAILED, 6, 3), words(
            "The mail is 8-bit, and no host of the domain accepts 8-bit mail. danelaw does not rewrite mail (RFC 6152 §3).",
            "send it in a 7-bit encoding",
        );
        EXTENSION_NOT_ASKED ExtensionNotAsked "extension-not-asked" Routine Other = deferred(6, 3), words(
            "The message needs an extension that its host lacks, which showed only after that host had the transaction. \
             Other hosts of the domain, or other addresses of that host, were not asked whether they have it.",
            "the client tries again, and hosts that have it are preferred then",
        );
        SMTPUTF8_MISSING SmtpUtf8Missing "smtputf8-missing" Routine Other = refused(Code::MAILBOX_NAME_NOT_ALLOWED, 6, 7), words(
            "The mail has internationalised addresses or headers, and no host of the domain accepts them (RFC 6531 §3.5).",
            "write from and to ASCII addresses",
        );
        SMTPUTF8_MISSING_FOR_HEADER SmtpUtf8MissingForHeader "smtputf8-missing-for-header" Routine Other = refused(Code::TRANSACTION_FAILED, 6, 9), words(
            "The mail was sent with SMTPUTF8 and its header is not ASCII, and no host of the domain accepts such headers \
             (RFC 6531 §3.5).",
            "write the header in ASCII (RFC 2047)",
        );
        MESSAGE_TOO_LARGE MessageTooLarge "message-too-large" Routine Other = refused(Code::EXCEEDED_STORAGE, 3, 4), words(
            "The message is larger than any host of the domain accepts (RFC 1870 §6.1).",
            "send less at a time",
        );
        REQUIRETLS_MISSING RequireTlsMissing "requiretls-missing" Routine Proof = refused(Code::MAILBOX_UNAVAILABLE, 7, 30), words(
            "The mail asks for REQUIRETLS (RFC 8689), by its client or by require_tls = \"always\", and no host of the domain offers it.",
            "send it without REQUIRETLS, by a listener with require_tls = \"where-offered\" for example",
        );
        OUT_OF_TIME OutOfTime "out-of-time" Routine Other = deferred(4, 1), words(
            "The hosts before it used up timeouts.route, after which clients give up.",
            "see why the hosts before it did not answer",
        );
        EXCHANGES_NOT_TRIED ExchangesNotTried "exchanges-not-tried" Refusal Other = deferred(4, 1), words(
            "The domain has more MX hosts than danelaw tries, and the hosts that were tried failed.",
            "the domain's operator must publish fewer MX records",
        );
        NO_EXCHANGE NoExchange "no-exchange" Fault Other = deferred(4, 1), words(
            "None of the domain's hosts could be tried, and none of them left a reason of its own.",
            "the client tries again; please report it if it stays",
        );
        RECIPIENT_REFUSED RecipientRefused "recipient-refused" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 1, 1), words(
            "The host refused all recipients. The reply is the host's own, and its code may be another one, 4xx too.",
            "the host's text says why; correct the address",
        );
        DATA_REFUSED DataRefused "data-refused" Routine Other = refused(Code::TRANSACTION_FAILED, 5, 1), words(
            "The host accepted the recipients and refused DATA. The reply is the host's own, and its code may be another one, \
             4xx too.",
            "the host's text says why",
        );
        MESSAGE_REFUSED MessageRefused "message-refused" Routine Other = refused(Code::TRANSACTION_FAILED, 7, 1), words(
            "The host refused the message after it had read the message, or a part of it. The reply is the host's own, and its \
             code may be another one, 4xx too.",
            "the host's text says why",
        );
        TOO_LARGE TooLarge "too-large" Routine Other = refused(Code::EXCEEDED_STORAGE, 3, 4), words(
            "The message is larger than limits.message_size allows.",
            "send a smaller message, or raise limits.message_size",
        );
        BARE_NEWLINE BareNewline "bare-newline" Refusal Other = refused(Code::TRANSACTION_FAILED, 5, 2), words(
            "The message has a CR without LF, or a LF without CR. Servers read such lines in different ways, and SMTP smuggling \
             abuses that (RFC 5321 §2.3.8).",
            "the sending program must end each line with CR LF, and use no CR or LF by itself",
        );
        NUL Nul "nul" Refusal Other = refused(Code::TRANSACTION_FAILED, 6, 0), words(
            "The message has a NUL octet, which no message may have (RFC 5322 §2.2).",
            "the sending program must encode binary content, such as in base64",
        );
        TOO_MANY_HOPS TooManyHops "too-many-hops" Refusal Other = refused(Code::TRANSACTION_FAILED, 4, 6), words(
            "The message has more than 100 Received fields: it goes round in circles between mail servers (RFC 5321 §6.3).",
            "look at its Received fields for the servers that forward to each other",
        );
        TLS_REQUIRED_MISSING TlsRequiredMissing "tls-required-missing" Routine Other = refused(Code::MAILBOX_UNAVAILABLE, 7, 1), words(
            "The message came by a listener for mail with the header field TLS-Required: No (RFC 8689), and has not exactly one such field \
             within the first 64 KiB of its header, or another value, or a comment.",
            "send it by another listener; or give it the one line TLS-Required: No",
        );
        STORE_BUSY StoreBusy "store-busy" Routine Other = deferred(3, 5), words(
            "Another session is still sending the same message to the same recipients. danelaw waits for it, so that no \
             recipient gets a second copy.",
            "the client tries again",
        );
        STORE_DOWN StoreDown "store-down" Fault Other = deferred(3, 0), words(
            "The database of store.url does not answer. Without it danelaw cannot tell which recipients of a fan-out message \
             have it already.",
            "look at the log for \"store down\" and run danelaw store check; the client tries again",
        );
        ANSWERED_IN_PART AnsweredInPart "answered-in-part" Routine Other = deferred(3, 5), words(
            "Some recipients at this host have the message from an earlier attempt, and others do not. One message goes to all \
             or to none of them, so this attempt sent none.",
            "the client tries again",
        );
    }
    silent {
        ANSWERED_BEFORE AnsweredBefore "answered-before" Routine Other = words(
            "All recipients at this host have their outcome from an earlier attempt, so the message was not sent to it again. \
             The client gets the replies of that attempt.",
            "no action is needed",
        );
        CLIENT_LOST ClientLost "client-lost" Routine Other = words(
            "The client's connection broke in the middle of the message. The host has no complete message.",
            "the client tries again; if it stays, see the client's log and its time limits",
        );
        ABORTED Aborted "aborted" Routine Other = words(
            "The transaction ended before its message was answered: the client sent RSET or QUIT or closed the connection, or \
             danelaw stopped.",
            "the client tries again, or did not want to send a message",
        );
    }
}
