//! The JSON fields of a [report](crate::check::report), in the text of `--help` and of the manual.

/// The fields, for `--help` and the manual.
pub(super) const FIELDS: &str = "\
JSON fields:
  domain, level    as asked, and the level that holds for it
  connected        false with --no-connect
  verdict          verified, host-verified, encrypted, cleartext, deferred,
                   rejected; with --no-connect dane, half-dane, sts,
                   pkix, fingerprint, encrypt, may (the policy a session
                   would have to meet), deferred, rejected
  exchange         the host that mail would go to, with its address, and
                   its port if a rule names one
  no_dane          why that host is not verified
  refusal          why mail would be refused: code, reason, text, remedy
  mx               the MX lookup: name, security (secure, insecure, failed),
                   aliases (owner, target, security), kind (records, nodata,
                   nxdomain, failure), reason, negative_trust_anchor (the
                   entry of the configuration by which it is insecure)
  passed_over      MX records that name no host to send to, and why
  sts              the MTA-STS policy: found (enforce, testing, none,
                   unfetched), text, id, max_age in seconds, mx, record
                   (secure or insecure, of the TXT record),
                   certificate_days_left (of the policy host), running (in
                   words, if the running danelaw has another policy; see
                   admin.address); not asked for at levels that heed none
  exchanges        in the order they would be tried:
    name, preference, port, addresses, policy, no_dane, refusal
    lookup         that of the addresses, with the fields of mx
    tlsa           each question: lookup, and records (record, standing,
                   why); standing is binding, set-aside (a stronger digest
                   says the same), unusable, or not-secure
    sessions       each address: address, protection (verified,
                   host-verified, encrypted, cleartext, none), tls_version,
                   cipher, key_exchange, tlsa and tlsa_depth (the record
                   that matched), verified_by, authority (the public CA),
                   pkix (the worth of the certificate of a host that is not
                   verified), requiretls (whether the host offers
                   REQUIRETLS), refusal, certificates (subject, issuer,
                   names, not_before, not_after, days_left)
  rule             the rule that set the level: domain, reason, until,
                   days_left, default_level, default_verdict and
                   default_refusal (without the rule), and need (needed,
                   not-needed, stricter, refuses, no-help)
  listener         with --listener: its address, level, require_tls and
                   tls_required_no, and would (the refusal at the level of
                   the mail, where its field TLS-Required: No lets it go on)
  requiretls       mail with REQUIRETLS: verdict (delivered, deferred,
                   rejected), exchange, refusal
  advice           what to mend: kind, host, text; kind is one-record,
                   unusable-record, mx-without-dane, insecure-mx,
                   partial-lookup, failing-host, certificate-ends,
                   anchor-dates, weak-signature, signature-ends, or of the
                   MTA-STS policy sts-mx-not-listed, sts-testing,
                   sts-short-max-age, sts-unreachable, sts-wrong-type,
                   sts-redirect, sts-certificate-ends,
                   sts-several-records, sts-id-unchanged, sts-unusable-mx,
                   sts-ip-as-mx, sts-bad-record, sts-contradicts-dane
  What does not apply is null.";
