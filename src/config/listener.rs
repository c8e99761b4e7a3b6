//! The listeners: never an open relay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::check::Faults;
use super::word::ListenerMailWord;
use super::{Address, Network, Owner, Permissions, optional};
use crate::hex;
use crate::policy::ListenerMail;
use crate::requiretls::Tag;
use crate::rules::LevelFloor;
use crate::terms::ListenerTerms;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The protocol: "smtp"; "lmtp" (RFC 2033), in which each recipient has a reply of its own; or "intercept", SMTP
    /// with a client that has dialled another server and does not know of us (config/nftables has the rules).
    #[serde(default)]
    pub kind: Kind,
    /// Address and port to listen on, or a Unix socket as in "unix:/run/danelaw/lmtp.sock". Keep off port 25, where
    /// Postfix looks for its own name in our greeting; RFC 2033 forbids it to LMTP.
    pub address: Address,
    /// Networks or addresses that may connect; all other clients are turned away with 554. Not for a Unix socket.
    #[serde(default)]
    pub allow: Option<Vec<Network>>,
    /// Balancers in front of it, as networks or addresses. Each of their connections must begin with a PROXY header,
    /// version 2, whose client address counts for allow and the log; no other connection may have one.
    #[serde(default)]
    pub proxy_from: Vec<Network>,
    /// Which recipients one plain SMTP transaction may have: "split" (those of one domain; others get 452 and come in
    /// the next transaction) or "fan-out" (those of any domains, for clients that keep one outcome for a whole message;
    /// outcomes are kept while a recipient is deferred, so store.path or store.url must be set). LMTP has a reply for each
    /// recipient anyway.
    #[serde(default)]
    pub recipients: Recipients,
    /// The level of all mail from here, where tls.level or a rule asks for less: "verify", "secure" or "dane-only". Mode
    /// "observe" does not lower it. Empty: that of the rule, or tls.level.
    #[serde(default, deserialize_with = "optional")]
    pub level: Option<LevelFloor>,
    /// Whether mail from here goes as if its client had asked for REQUIRETLS (RFC 8689), at level "secure" at least:
    /// "where-offered" (verified hosts only, and those that offer it are told to go on likewise) or "always" (not delivered
    /// to hosts that do not offer it, which nearly none does). Empty: only if the client asks, which it may do under TLS.
    #[serde(default, deserialize_with = "optional")]
    pub require_tls: Option<Tag>,
    /// "only": takes no mail but mail with the header field "TLS-Required: No" (RFC 8689), and delivers it unverified or in
    /// cleartext where its level would refuse it for want of a proof; `fingerprint` and `dane-only` still hold. Empty: that
    /// field means nothing here.
    #[serde(default, with = "ListenerMailWord")]
    pub tls_required_no: ListenerMail,
    /// Whether commands of old devices are taken too, as Postfix does: an address without angle brackets, a sender without a
    /// domain (it gets the name that we give in EHLO for this client), and command lines that end with LF alone. The message
    /// ends as ever. Not for a client that copies a stranger's text into addresses: a LF in it would begin a command.
    #[serde(default)]
    pub lenient: bool,
    /// TLS with clients: "none"; "starttls" (offered, and not demanded); "required" (530 to all mail before STARTTLS); or
    /// "implicit" (TLS from the first octet, RFC 8314). Mail that crosses a network needs one of the latter two.
    #[serde(default)]
    pub tls: ListenerTls,
    /// For TLS: a file with the certificate that clients are shown, and those of its authorities behind it (PEM). It is read again
    /// at each reload. Remotes never see it.
    #[serde(default, deserialize_with = "optional")]
    pub certificate: Option<PathBuf>,
    /// For TLS: a file with the private key of the certificate (PEM).
    #[serde(default, deserialize_with = "optional")]
    pub key: Option<PathBuf>,
    /// For TLS: a file of CA certificates (PEM). A client that is not in allow may send mail too if it shows a certificate of one
    /// of them for client authentication, whatever its name: a CA of your own, never a public one.
    #[serde(default, deserialize_with = "optional")]
    pub client_ca: Option<PathBuf>,
    /// For TLS: SHA-256 digests of public keys (SubjectPublicKeyInfo), in hexadecimal, as of TLSA records 3 1 1. A client that is
    /// not in allow may send mail too if its certificate has one of these keys; its dates do not count.
    #[serde(default)]
    pub client_keys: Vec<ClientKey>,
    /// For a Unix socket: its permissions in octal, for the users that may connect. "0660" if it is not set.
    #[serde(default)]
    pub mode: Option<Permissions>,
    /// For a Unix socket: its owner, as "user" or "user:group". Our own user if it is not set. danelaw may give
    /// it to a group that its user is in; under systemd, let danelaw.socket open it or use config/systemd/unix-socket.conf.
    #[serde(default)]
    pub owner: Option<Owner>,
}

/// TLS with the clients of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerTls {
    /// None.
    #[default]
    None,
    /// STARTTLS is offered (RFC 3207).
    Starttls,
    /// STARTTLS is offered, and mail is taken behind it alone.
    Required,
    /// From the first octet (RFC 8314 §3).
    Implicit,
}

/// The SHA2-256 digest of a client's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey(pub [u8; 32]);

impl FromStr for ClientKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Postfix and OpenSSL write colons.
        let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b':').collect();
        let digest = hex::octets(&digits).and_then(|octets| octets.try_into().ok());
        digest.map(Self).ok_or_else(|| "it is no SHA-256 digest: 64 hexadecimal digits".to_owned())
    }
}

/// Which recipients a transaction with one reply may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipients {
    /// Those of one domain; a refusal comes at RCPT.
    #[default]
    Split,
    /// Those of any domain; a refusal comes when all have an outcome.
    FanOut,
}

/// The protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
    /// SMTP, with connections that a firewall rule has sent here on their way to another server.
    Intercept,
}

impl Listener {
    /// The networks that may connect.
    pub fn allowed(&self) -> Vec<IpNet> {
        match &self.allow {
            Some(networks) => networks.iter().map(|network| network.0).collect(),
            None => vec![
                IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
                IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
            ],
        }
    }
}

impl Listener {
    /// Its terms for mail.
    pub fn terms(&self) -> ListenerTerms {
        ListenerTerms { floor: self.level, tag: self.require_tls, takes: self.tls_required_no }
    }

    /// The networks of its balancers.
    pub fn balancers(&self) -> Vec<IpNet> {
        self.proxy_from.iter().map(|network| network.0).collect()
    }

    /// Whether a certificate opens it to clients that are not on its allow-list.
    pub fn knows_certificates(&self) -> bool {
        self.client_ca.is_some() || !self.client_keys.is_empty()
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        let mut add = |key, problem: &str| faults.add(key, format!("{}: {problem}", self.address));
        if (self.kind, self.recipients) == (Kind::Lmtp, Recipients::FanOut) {
            add("listener.recipients", "LMTP answers each recipient on its own; leave this key out");
        }
        self.check_tls_required_no(&mut add);
        self.check_tls(&mut add);
        self.check_proxy(&mut add);
        match &self.address {
            Address::Unix(_) => {
                if self.kind == Kind::Intercept {
                    add(
                        "listener.kind",
                        "a firewall rule can send no connection to a Unix socket; give an address and port",
                    );
                }
                if self.allow.is_some() {
                    add(
                        "listener.allow",
                        "a Unix socket has no network; leave this key out, and set the users that may connect by mode and owner",
                    );
                }
            }
            Address::Tcp(address) => {
                for (key, is_set) in [("listener.mode", self.mode.is_some()), ("listener.owner", self.owner.is_some())]
                {
                    if is_set {
                        add(
                            key,
                            "only a Unix socket has one; leave this key out, and name the networks that may connect in allow",
                        );
                    }
                }
                if (self.kind, address.port()) == (Kind::Lmtp, 25) {
                    add("listener.address", "RFC 2033 forbids LMTP on port 25; take another one, such as 24");
                }
                self.check_allowed(address.ip(), faults);
            }
        }
    }

    fn check_tls_required_no(&self, add: &mut impl FnMut(&'static str, &str)) {
        match self.tls_required_no {
            ListenerMail::Any => return,
            ListenerMail::TlsRequiredNo => {}
        }
        let key = "listener.tls_required_no";
        if self.level.is_some() {
            add(
                key,
                "mail from here goes with less than its level, and level promises no less; leave one of the two keys out",
            );
        }
        if self.require_tls.is_some() {
            add(key, "mail from here may go without TLS, and require_tls forbids that; leave one of the two keys out");
        }
        if self.recipients == Recipients::FanOut {
            add(key, "with fan-out a mail may wait for some of its recipients; set recipients to \"split\"");
        }
        if self.kind == Kind::Intercept {
            add(
                key,
                "an intercepted client does not choose this listener for mail with that field; leave this key out",
            );
        }
    }

    fn check_tls(&self, add: &mut impl FnMut(&'static str, &str)) {
        let keys = [
            ("listener.certificate", self.certificate.is_some()),
            ("listener.key", self.key.is_some()),
            ("listener.client_ca", self.client_ca.is_some()),
            ("listener.client_keys", !self.client_keys.is_empty()),
        ];
        if self.tls == ListenerTls::None {
            let unused = keys.into_iter().filter(|(_, is_set)| *is_set);
            unused
                .for_each(|(key, _)| add(key, "tls is \"none\" here; set tls to \"required\", or leave this key out"));
            return;
        }
        for (key, is_set) in keys.into_iter().take(2) {
            if !is_set {
                add(key, "TLS needs a certificate and its key; name a file of each, in PEM");
            }
        }
        if matches!(self.address, Address::Unix(_)) {
            add("listener.tls", "mail on a Unix socket never leaves this host; leave this key out");
        }
        if self.kind == Kind::Intercept {
            let problem = "an intercepted client would take our certificate for that of the server it has dialled; leave this key out";
            add("listener.tls", problem);
        }
    }

    fn check_proxy(&self, add: &mut impl FnMut(&'static str, &str)) {
        if self.proxy_from.is_empty() {
            return;
        }
        if matches!(self.address, Address::Unix(_)) || self.kind == Kind::Intercept {
            add(
                "listener.proxy_from",
                "no balancer is in front of a Unix socket or of intercepted clients; leave this key out",
            );
        }
        if self.allow.is_none() && !self.knows_certificates() {
            add("listener.allow", "it is for the clients behind the balancers; name the networks that may send mail");
        }
        for (wide, most) in too_wide(&self.proxy_from) {
            let problem = format!(
                "{wide} is wider than /{most}, and anybody there can take any client's address; name the balancers"
            );
            add("listener.proxy_from", &problem);
        }
    }

    /// Never an open relay.
    fn check_allowed(&self, address: IpAddr, faults: &mut Faults) {
        let mut add = |problem| faults.add("listener.allow", problem);
        match self.allow.as_deref() {
            None | Some([]) if self.knows_certificates() => {}
            None if !address.is_loopback() => add(format!(
                "{} is not loopback and has no allow-list; name the networks that may send mail through it",
                self.address
            )),
            Some([]) => add(format!(
                "{}: the list is empty, and no client could connect; name the networks that may, or leave this key out for loopback",
                self.address
            )),
            Some(networks) => {
                for (wide, most) in too_wide(networks) {
                    let address = &self.address;
                    add(format!(
                        "{address} would be an open relay: {wide} is wider than /{most}; name the networks that may send \
                         mail through it"
                    ));
                }
            }
            None => {}
        }
    }
}

/// The widest networks that may send mail through us; no operator of a mail server owns wider ones.
fn widest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        // RFC 4193 gives a site 48 bits, a registry gives a provider 32.
        IpNet::V6(_) => 32,
    }
}

/// The networks that are wider than that, each with the length of prefix that would do.
pub(super) fn too_wide(networks: &[Network]) -> impl Iterator<Item = (&IpNet, u8)> {
    let all = networks.iter().map(|Network(network)| (network, widest(network)));
    all.filter(|(network, most)| network.prefix_len() < *most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;

    #[test]
    fn never_an_open_relay() {
        // I26, A-95.
        for wrong in [
            "listener = [{ address = '0.0.0.0:25' }]",
            "listener = [{ address = '[::]:25' }]",
            "listener = [{ address = '192.0.2.1:25' }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['0.0.0.0/0'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['::/0'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['0.0.0.0/1', '128.0.0.0/1'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = ['2000::/3'] }]",
            "listener = [{ address = '127.0.0.1:25', allow = [] }]",
            "listener = []",
        ] {
            assert!(with(wrong).unwrap_err().starts_with("listener"), "{wrong}");
        }
        let open = with("listener = [{ address = '0.0.0.0:25', allow = ['10.0.0.0/8', '192.0.2.7'] }]").unwrap();
        assert_eq!(open.listener[0].allowed().len(), 2);
        let loopback = with("listener = [{ address = '[::1]:2525' }]").unwrap();
        assert!(loopback.listener[0].allowed().iter().all(|network| network.addr().is_loopback()));
    }

    #[test]
    fn the_levels_of_a_listener() {
        for (level, good) in
            [("verify", true), ("secure", true), ("dane-only", true), ("", true), ("dane", false), ("may", false)]
        {
            let config = with(&format!("listener = [{{ address = '127.0.0.1:25', level = '{level}' }}]"));
            assert_eq!(config.is_ok(), good, "{level}");
        }
    }

    #[test]
    fn the_tags_of_a_listener() {
        for (tag, good) in [("where-offered", true), ("always", true), ("", true), ("never", false), ("yes", false)] {
            let config = with(&format!("listener = [{{ address = '127.0.0.1:25', require_tls = '{tag}' }}]"));
            assert_eq!(config.is_ok(), good, "{tag}");
        }
    }

    #[test]
    fn a_listener_for_tls_required_no_promises_no_level() {
        // Q6, Q8.
        for (keys, good) in [
            ("tls_required_no = ''", true),
            ("tls_required_no = 'only'", true),
            ("tls_required_no = 'only', level = ''", true),
            ("tls_required_no = 'only', kind = 'lmtp'", true),
            ("tls_required_no = '', level = 'secure'", true),
            ("tls_required_no = 'only', level = 'secure'", false),
            ("tls_required_no = 'only', require_tls = 'always'", false),
            ("tls_required_no = 'only', require_tls = ''", true),
            ("tls_required_no = 'only', recipients = 'fan-out'", false),
            ("tls_required_no = 'only', kind = 'intercept'", false),
            ("tls_required_no = 'yes'", false),
            ("tls_required_no = true", false),
        ] {
            let store = if keys.contains("fan-out") { "\nstore.path = '/tmp/store.sqlite'" } else { "" };
            let config = with(&format!("listener = [{{ address = '127.0.0.1:24', {keys} }}]{store}"));
            assert_eq!(config.is_ok(), good, "{keys}: {config:?}");
            if let Err(told) = config {
                assert!(told.contains("listener.tls_required_no"), "{told}");
            }
        }
    }

    #[test]
    fn a_certificate_may_take_the_place_of_the_allow_list() {
        let tls = "tls = 'required', certificate = '/a', key = '/b'";
        let digest = "AB:".repeat(31) + "CD";
        for (keys, good) in [
            ("", false),
            (", allow = []", false),
            (", client_ca = '/c'", true),
            (", client_ca = '/c', allow = []", true),
            (&format!(", client_keys = ['{digest}']"), true),
            // An open relay stays one.
            (", client_ca = '/c', allow = ['0.0.0.0/0']", false),
        ] {
            let config = with(&format!("listener = [{{ address = '0.0.0.0:25', {tls}{keys} }}]"));
            assert_eq!(config.is_ok(), good, "{keys}: {config:?}");
        }
    }

    #[test]
    fn listeners_as_they_may_be_written() {
        let listener =
            |text: &str| with(&format!("listener = [{{ {text} }}]")).map(|config| config.listener[0].clone());
        assert_eq!(listener("address = '127.0.0.1:25'").unwrap().kind, Kind::Smtp);
        let lmtp =
            listener("address = 'unix:/run/danelaw/lmtp.sock', kind = 'lmtp', mode = '0600', owner = 'a:b'").unwrap();
        assert_eq!((lmtp.kind, lmtp.address.to_string().as_str()), (Kind::Lmtp, "unix:/run/danelaw/lmtp.sock"));
        assert_eq!(lmtp.mode.unwrap().bits(), 0o600);
        assert_eq!(lmtp.owner.unwrap(), Owner { user: "a".into(), group: Some("b".into()) });
        for (wrong, says) in [
            // J7.
            ("address = '127.0.0.1:25', kind = 'lmtp'", "listener.address: 127.0.0.1:25: RFC 2033"),
            ("address = '127.0.0.1:24', mode = '0660'", "listener.mode"),
            ("address = '127.0.0.1:24', owner = 'a'", "listener.owner"),
            ("address = 'unix:/a', allow = ['127.0.0.1']", "listener.allow"),
            ("address = 'unix:a'", "is no address"),
            ("address = 'unix:/a', mode = '0888'", "octal"),
            ("address = 'unix:/a', mode = '7777'", "octal"),
            ("address = 'unix:/a', owner = ':b'", "user:group"),
            ("address = '127.0.0.1:24', kind = 'qmtp'", "unknown variant"),
            ("address = '127.0.0.1:25', tls = 'may'", "unknown variant"),
            ("address = '127.0.0.1:25', tls = 'required', certificate = '/a'", "listener.key: 127.0.0.1:25: TLS needs"),
            ("address = '127.0.0.1:25', tls = 'implicit', key = '/a'", "listener.certificate: 127.0.0.1:25: TLS needs"),
            ("address = '127.0.0.1:25', certificate = '/a'", "listener.certificate: 127.0.0.1:25: tls is \"none\""),
            ("address = '127.0.0.1:25', client_ca = '/a'", "listener.client_ca: 127.0.0.1:25: tls is \"none\""),
            ("address = 'unix:/a', tls = 'starttls', certificate = '/a', key = '/b'", "listener.tls: unix:/a: "),
            (
                "address = '127.0.0.1:25', kind = 'intercept', tls = 'starttls', certificate = '/a', key = '/b'",
                "listener.tls: 127.0.0.1:25: an intercepted client",
            ),
            (
                "address = '127.0.0.1:25', proxy_from = ['127.0.0.1']",
                "listener.allow: 127.0.0.1:25: it is for the clients",
            ),
            ("address = 'unix:/a', proxy_from = ['127.0.0.1']", "listener.proxy_from: unix:/a: no balancer"),
            (
                "address = '127.0.0.1:25', allow = ['10.0.0.1'], proxy_from = ['0.0.0.0/0']",
                "listener.proxy_from: 127.0.0.1:25: 0.0.0.0/0",
            ),
            ("address = '127.0.0.1:25', client_keys = ['ab']", "64 hexadecimal digits"),
        ] {
            let error = listener(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
