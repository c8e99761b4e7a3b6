//! The recipients' domains, with one MX host each, on loopback addresses that follow from the domain's name.
//!
//! `h17.bench.test` has the MX host `mx.h17.bench.test` at 127.2.0.18. The letter says how the host behaves. That of
//! `p17.bench.test` is `p17.sts.bench.test`, so that one certificate is for all of them. The names `w17.k17.bench.test` and
//! `w67.k17.bench.test` are those of one wildcard, and have the MX host of `h17`: no zone file has room for a million domains. The sink, which answers on all of 127.0.0.0/8, tells the host by the address to which the relay connects.

use std::net::{IpAddr, Ipv4Addr};

/// The zone that holds all domains.
pub(crate) const ZONE: &str = "bench.test.";
/// The parent of the MX hosts that policies of MTA-STS list.
pub(crate) const LISTED: &str = "sts.bench.test";
/// The hosts that take the mail of the domains of wildcards.
pub(crate) const WILD_HOSTS: u64 = 50;

/// How a remote behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers as a good MX.
    Healthy,
    /// The same. Its domain has no TLSA record, and a policy of MTA-STS.
    Listed,
    /// A healthy one that many domains share, by a wildcard for each host.
    Wild,
    /// Accepts connections and never sends an octet.
    Silent,
    /// Sends each reply after seconds.
    Tarpit,
    /// Takes the whole message and never answers.
    Unanswering,
    /// Sends 354 and reads no more.
    Deaf,
}

impl Manner {
    const ALL: [(Self, char, u8); 7] = [
        (Self::Healthy, 'h', 2),
        (Self::Listed, 'p', 7),
        (Self::Wild, 'w', 2),
        (Self::Silent, 's', 3),
        (Self::Tarpit, 't', 4),
        (Self::Unanswering, 'u', 5),
        (Self::Deaf, 'd', 6),
    ];

    pub(crate) fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, own, _)| *own == letter).map(|(manner, ..)| *manner)
    }

    /// The manner of the host at this address.
    pub(crate) fn of(address: IpAddr) -> Self {
        let IpAddr::V4(address) = address.to_canonical() else { return Self::Healthy };
        let second = address.octets()[1];
        Self::ALL.iter().find(|(.., own)| *own == second).map_or(Self::Healthy, |(manner, ..)| *manner)
    }

    pub(crate) fn letter(self) -> char {
        self.row().1
    }

    fn row(self) -> (Self, char, u8) {
        Self::ALL[Self::ALL.iter().position(|(manner, ..)| *manner == self).unwrap_or(0)]
    }
}

/// A recipient's domain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Domain {
    pub(crate) manner: Manner,
    pub(crate) number: u64,
}

impl Domain {
    pub(crate) fn name(self) -> String {
        let Self { manner, number } = self;
        match manner {
            Manner::Wild => format!("w{number}.{}", self.wildcard()),
            _ => format!("{}{number}.bench.test", manner.letter()),
        }
    }

    /// The parent of the domains of its wildcard.
    pub(crate) fn wildcard(self) -> String {
        format!("k{}.bench.test", self.number % WILD_HOSTS)
    }

    /// Its MX host.
    pub(crate) fn exchange(self) -> String {
        match self.manner {
            Manner::Listed => format!("{}{}.{LISTED}", self.manner.letter(), self.number),
            Manner::Wild => format!("mx.h{}.bench.test", self.number % WILD_HOSTS),
            _ => format!("mx.{}", self.name()),
        }
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        let part = |number: u64| u8::try_from(number).expect("at most 62,500 domains");
        let number = if self.manner == Manner::Wild { self.number % WILD_HOSTS } else { self.number };
        Ipv4Addr::new(127, self.manner.row().2, part(number / 250), part(1 + number % 250))
    }

    /// The domain of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let label = name.strip_suffix(".bench.test")?.split('.').next()?;
        let manner = Manner::from_letter(label.chars().next()?)?;
        Some(Self { manner, number: label.get(1..)?.parse().ok()? })
    }
}
