//! The certificates of a scenario, by their holders.

/// The holder of a certificate and of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Holder {
    /// The server.
    Leaf,
    /// The intermediate authority that signs the server's certificate.
    Inter,
    /// The authority that signs the intermediate one.
    Root,
    /// An authority outside the chain.
    Stranger,
    /// The holder of one of the additional certificates of a scenario.
    Extra(usize),
}

impl Holder {
    /// The place of its key among those of a scenario; additional certificates come behind the first four.
    pub(crate) fn place(self) -> usize {
        match self {
            Self::Leaf => 0,
            Self::Inter => 1,
            Self::Root => 2,
            Self::Stranger => 3,
            Self::Extra(which) => 4 + which,
        }
    }
}
