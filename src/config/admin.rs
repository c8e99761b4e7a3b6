//! Health, metrics and explanations.

use std::net::IpAddr;

use serde::Deserialize;

use super::check::Faults;
use super::listener::too_wide;
use super::{Address, Network, optional};

/// Health, metrics and explanations.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSection {
    /// Where danelaw serves /livez, /readyz, /metrics and the answers to `danelaw ready`, `status`, `explain`, `watch`,
    /// `report` and `tlsrpt show` over HTTP. A unix socket is for its owner and group. At an address and port such as "127.0.0.1:7671" every user
    /// of the machine reads which mail was refused and which domains mail went to. The unit and the image make the
    /// directory of the default. Where the default socket cannot be opened, as beside another danelaw, the log says so
    /// and danelaw goes on without it. Empty: nowhere.
    #[serde(deserialize_with = "optional")]
    pub address: Option<Address>,
    /// Networks or addresses that may connect beside loopback, required for any address but loopback. Other machines read
    /// health and metrics alone; Kubernetes asks for health from the node's address.
    pub allow: Vec<Network>,
    /// How many attempts that did not end in a delivery are remembered for `danelaw explain`; each takes up to 20 KB.
    pub remember: usize,
    /// Whether danelaw serves read-only pages for a browser on this machine: the state, the domains, the refusals and
    /// their remedies. A browser needs an address and port above, not a unix socket.
    pub page: bool,
}

impl AdminSection {
    /// The socket of the defaults. It may be missing: the operator has not asked for it.
    pub const DEFAULT_SOCKET: &str = "/run/danelaw/admin.sock";

    pub(super) fn check(&self, faults: &mut Faults) {
        let mut add = |problem| faults.add("admin.allow", problem);
        for (wide, most) in too_wide(&self.allow) {
            add(format!("{wide} is wider than /{most}; name the networks that ask"));
        }
        match &self.address {
            Some(Address::Tcp(address)) if !address.ip().is_loopback() && self.allow.is_empty() => add(format!(
                "the list is empty, and admin.address is {address}, which is not loopback; name the networks that may ask, or set \
                 admin.address to a loopback address"
            )),
            Some(Address::Tcp(_) | Address::Unix(_)) | None => {}
        }
    }

    /// Whether this client may ask.
    pub fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.allow.iter().any(|network| network.0.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::with;

    #[test]
    fn the_admin_port_answers_allowed_addresses_alone() {
        let admin = |rest: &str| with(&format!("admin = {{ {rest} }}")).map(|config| config.admin);
        let default = Address::Unix(AdminSection::DEFAULT_SOCKET.into());
        assert_eq!(with("").unwrap().admin.address, Some(default));
        assert_eq!(admin("address = ''").unwrap().address, None);
        for wrong in [
            "address = '0.0.0.0:7671'",
            "address = '192.0.2.1:7671'",
            "address = '[::]:7671', allow = ['::/0']",
            "address = '0.0.0.0:7671', allow = ['0.0.0.0/0']",
        ] {
            assert!(admin(wrong).unwrap_err().starts_with("admin.allow"), "{wrong}");
        }
        for wrong in ["7671", "localhost:7671", "unix:admin.sock"] {
            assert!(admin(&format!("address = '{wrong}'")).is_err(), "{wrong}");
        }
        let loopback = admin("address = '127.0.0.1:7671'").unwrap();
        assert!(loopback.allows("127.0.0.2".parse().unwrap()) && loopback.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!loopback.allows("192.0.2.1".parse().unwrap()));
        let open = admin("address = '[::]:7671', allow = ['192.0.2.0/24']").unwrap();
        assert!(open.allows("::ffff:192.0.2.7".parse().unwrap()) && !open.allows("198.51.100.1".parse().unwrap()));
        assert_eq!(admin("address = 'unix:/run/x/y'").unwrap().address.unwrap().to_string(), "unix:/run/x/y");
    }
}
