//! Who a node is: an Ed25519 key of its own, which is not the group's.

use crate::crypto::{PublicKey, Signature};
use crate::id::NodeId;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Stands before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, §7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Stands before the 32 bytes of an Ed25519 public key in a certificate (RFC 8410, §4), without the sequence around it: so
/// do the certificates' parsers hand it over.
const SPKI_PREFIX: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The sequence around it.
const SPKI_SEQUENCE: [u8; 2] = [0x30, 0x2a];

const NODE_KEY: &str = "shard v1 2026-11-21 node key";
const NODE_ID: &str = "shard v1 2026-11-21 node id";

/// The id of the node that has this key.
pub fn node_id(key: &PublicKey) -> NodeId {
    NodeId(blake3::derive_key(NODE_ID, &key.0))
}

/// A node's own key, from its node seed; always the same for the same seed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NodeIdentity {
    seed: [u8; 32],
    #[zeroize(skip)]
    public_key: PublicKey,
}

impl NodeIdentity {
    /// From the 32 random bytes of a node seed, which the caller draws and then wipes.
    pub fn from_seed(node_seed: &[u8; 32]) -> Self {
        Self::of_key(blake3::derive_key(NODE_KEY, node_seed))
    }

    /// The key itself is these bytes.
    pub(super) fn of_key(mut seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are an Ed25519 seed");
        let public_key = pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        let identity = Self { seed, public_key: PublicKey(public_key) };
        seed.zeroize();
        identity
    }

    /// The key that others know it by.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        node_id(&self.public_key)
    }

    /// Signs a message; the prefix says what it is, so that a signature is good for one purpose alone. TLS signs with a prefix
    /// of its own.
    pub(super) fn sign(&self, prefix: &[u8], message: &[u8]) -> Signature {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("every 32 bytes are an Ed25519 seed");
        let signature = pair.sign(&[prefix, message].concat());
        Signature(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    /// The private key as TLS takes it.
    pub(super) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        let bytes = Zeroizing::new([PKCS8_PREFIX.as_slice(), &self.seed].concat());
        PrivatePkcs8KeyDer::from(bytes.to_vec())
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity").field("public_key", &self.public_key).finish_non_exhaustive()
    }
}

/// The Ed25519 key that a subject public key info holds; `None` for any other kind of key.
pub(super) fn key_in_spki(spki: &[u8]) -> Option<PublicKey> {
    let spki = spki.strip_prefix(&SPKI_SEQUENCE).unwrap_or(spki);
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok().map(PublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_id_and_its_key_is_not_its_seed() {
        let identity = NodeIdentity::from_seed(&[7; 32]);
        assert_eq!(identity.id(), NodeIdentity::from_seed(&[7; 32]).id());
        assert_ne!(identity.id(), NodeIdentity::from_seed(&[8; 32]).id());
        assert_ne!(identity.public_key(), NodeIdentity::of_key([7; 32]).public_key());
        assert!(!format!("{identity:?}").contains("seed"));
    }

    #[test]
    fn a_key_in_a_certificate_is_an_ed25519_key_or_none() {
        let spki = [SPKI_SEQUENCE.as_slice(), &SPKI_PREFIX, &[9; 32]].concat();
        assert_eq!(key_in_spki(&spki), Some(PublicKey([9; 32])));
        assert_eq!(key_in_spki(&spki[2..]), Some(PublicKey([9; 32])));
        for length in 0..spki.len() {
            assert_eq!(key_in_spki(&spki[..length]), None);
        }
        for at in 2..12 {
            let mut other = spki.clone();
            other[at] ^= 1;
            assert_eq!(key_in_spki(&other), None, "{at}");
        }
    }
}
