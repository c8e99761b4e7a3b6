//! The addresses of a lab's servers: a /24 of loopback for each lab, so that labs run side by side in one network
//! namespace.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// A part of 127.25.0.0/16 that no other lab uses while this value lives.
pub(crate) struct Subnet {
    third: u8,
    /// A bound port, which tells the other labs, in this process or another, that the subnet is taken.
    _claim: TcpListener,
}

impl Subnet {
    pub(crate) fn claim() -> Self {
        (1..=254)
            .find_map(|third| match TcpListener::bind((Ipv4Addr::new(127, 25, third, 254), 1)) {
                Ok(claim) => Some(Self { third, _claim: claim }),
                Err(error) if error.kind() == ErrorKind::AddrInUse => None,
                Err(error) => {
                    panic!("a lab needs low ports on loopback ({error}): run the tests by tests/run, as root")
                }
            })
            .expect("fewer than 254 labs at once")
    }

    /// The client Postfix, which does no DANE.
    pub(crate) fn client(&self) -> SocketAddr {
        self.at(1, 25)
    }

    /// danelaw, where the client finds it; mostly at the first of these.
    pub(crate) fn danelaw(&self) -> [SocketAddr; 2] {
        [self.at(2, 10025), self.at(2, 10026)]
    }

    /// danelaw's LMTP.
    pub(crate) fn danelaw_lmtp(&self) -> SocketAddr {
        self.at(2, 10024)
    }

    /// danelaw's listener with fan-out.
    pub(crate) fn danelaw_fan_out(&self) -> SocketAddr {
        self.at(2, 10027)
    }

    /// danelaw's listeners with TLS: for clients by address, by certificate alone, and by certificate with TLS from the first octet.
    pub(crate) fn danelaw_tls(&self) -> [SocketAddr; 3] {
        [self.at(2, 10028), self.at(2, 10029), self.at(2, 10465)]
    }

    /// danelaw's listener with level `secure`.
    pub(crate) fn danelaw_secure(&self) -> SocketAddr {
        self.at(2, 10030)
    }

    /// danelaw's listener for mail with `TLS-Required: No`.
    pub(crate) fn danelaw_tls_required_no(&self) -> SocketAddr {
        self.at(2, 10031)
    }

    /// The policy service, which decides which mail the MX hosts take.
    pub(crate) fn policy(&self) -> SocketAddr {
        self.at(3, 10040)
    }

    /// The policy host of all domains with MTA-STS.
    pub(crate) fn policy_host(&self) -> SocketAddr {
        self.at(4, 443)
    }

    /// The MX host with this number.
    pub(crate) fn exchange(&self, number: usize) -> SocketAddr {
        self.at(11 + u8::try_from(number).expect("a handful of hosts"), 25)
    }

    /// An address at which no server listens.
    pub(crate) fn nobody(&self) -> IpAddr {
        self.at(9, 53).ip()
    }

    /// The authoritative name server of all zones.
    pub(crate) fn authority(&self) -> SocketAddr {
        self.at(53, 53)
    }

    /// The resolver that passes DNSSEC records on and leaves their validation to its client.
    pub(crate) fn resolver(&self) -> SocketAddr {
        self.at(54, 53)
    }

    /// The resolver that validates.
    pub(crate) fn validator(&self) -> SocketAddr {
        self.at(55, 53)
    }

    /// A resolver on danelaw's own host, which asks the one at [`Self::resolver`].
    pub(crate) fn forwarder(&self) -> SocketAddr {
        self.at(56, 53)
    }

    fn at(&self, host: u8, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, 25, self.third, host), port).into()
    }
}
