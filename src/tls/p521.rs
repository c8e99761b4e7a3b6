//! Key exchange on the curve P-521 (RFC 8422 §5.1.1, RFC 8446 §4.2.7), which rustls leaves out and its cryptography has.
//!
//! A server that has this curve alone refuses a client that does not offer it; under TLS 1.2, so does a server with
//! a certificate key on it. It is offered last: a server that has any other takes that.

use aws_lc_rs::agreement::{ECDH_P521, PrivateKey, PublicKey, UnparsedPublicKey, agree};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// The group.
#[derive(Debug)]
pub(super) struct P521;

/// One exchange on its way.
struct P521KeyExchange {
    ours: PrivateKey,
    shown: PublicKey,
}

impl SupportedKxGroup for P521 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let ours = PrivateKey::generate(&ECDH_P521).map_err(|_| GetRandomFailed)?;
        let shown = ours.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(P521KeyExchange { ours, shown }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

impl ActiveKeyExchange for P521KeyExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // RFC 8446 §4.2.8.2, RFC 8422 §5.4.1: only an uncompressed point; the library would read others.
        if peer.first() != Some(&4) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let invalid = Error::from(PeerMisbehaved::InvalidKeyShare);
        // The library sees to it that the point is on the curve (RFC 8446 §4.2.8.2).
        agree(&self.ours, UnparsedPublicKey::new(&ECDH_P521, peer), invalid, |secret| Ok(SharedSecret::from(secret)))
    }

    fn pub_key(&self) -> &[u8] {
        self.shown.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_come_to_one_secret() {
        let (one, other) = (P521.start().unwrap(), P521.start().unwrap());
        let (shown, theirs) = (one.pub_key().to_vec(), other.pub_key().to_vec());
        assert_eq!((shown.len(), shown[0], one.group()), (133, 4, NamedGroup::secp521r1));
        let secret = one.complete(&theirs).unwrap();
        assert_eq!(secret.secret_bytes(), other.complete(&shown).unwrap().secret_bytes());
        assert_eq!(secret.secret_bytes().len(), 66);
    }

    #[test]
    fn points_off_the_curve() {
        let shown = P521.start().unwrap().pub_key().to_vec();
        let mut off = shown.clone();
        off[132] ^= 1;
        let compressed: Vec<u8> = std::iter::once(2 + (shown[132] & 1)).chain(shown[1..67].iter().copied()).collect();
        for peer in [&[][..], &[4], &off, &compressed, &shown[..132]] {
            assert!(P521.start().unwrap().complete(peer).is_err(), "{peer:?}");
        }
    }
}
