//! The master keys of a store, from its first to the one in use.

use super::{CatalogKey, Certificate, MasterKey, Role, Signer};
use crate::id::{Digest, StoreId};
use zeroize::Zeroizing;

/// A store has at most this many master keys; each change of key adds one.
pub const MAX_MASTER_KEYS: usize = 64;

/// Why keys are no keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key at all.
    #[error("a keyring has at least one key")]
    Empty,
    /// Over [`MAX_MASTER_KEYS`].
    #[error("a keyring has at most {MAX_MASTER_KEYS} keys, not {keys}")]
    TooMany {
        /// How many.
        keys: usize,
    },
    /// One key is there twice.
    #[error("a key stands in the keyring twice")]
    Twice,
    /// Keys of two stores are no keyring.
    #[error("these are the keys of another store, {store}")]
    OtherStore {
        /// Which.
        store: StoreId,
    },
}

/// The master keys of one store: the first pins the store id and certifies the later ones, the last seals and signs what is
/// new, and all of them open what they sealed.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<MasterKey>,
    store: StoreId,
}

impl Keyring {
    /// Of a new store.
    pub fn new(first: MasterKey) -> Self {
        Self { store: first.store_id(), keys: vec![first] }
    }

    /// From all keys of a store, oldest first.
    pub fn from_keys(keys: Vec<MasterKey>) -> Result<Self, KeyringError> {
        let store = keys.first().ok_or(KeyringError::Empty)?.store_id();
        if keys.len() > MAX_MASTER_KEYS {
            return Err(KeyringError::TooMany { keys: keys.len() });
        }
        let mut ids: Vec<Digest> = keys.iter().map(MasterKey::key_id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() == keys.len() { Ok(Self { keys, store }) } else { Err(KeyringError::Twice) }
    }

    /// With another key, which is in use from now on.
    pub fn with_key(mut self, newest: MasterKey) -> Result<Self, KeyringError> {
        self.keys.push(newest);
        Self::from_keys(self.keys)
    }

    /// With the keys of another keyring of the same store that are not in this one, in their order, after its own.
    pub fn merged(mut self, other: Self) -> Result<Self, KeyringError> {
        if other.store != self.store {
            return Err(KeyringError::OtherStore { store: other.store });
        }
        let known: Vec<Digest> = self.keys.iter().map(MasterKey::key_id).collect();
        self.keys.extend(other.keys.into_iter().filter(|key| !known.contains(&key.key_id())));
        Self::from_keys(self.keys)
    }

    /// The keys, oldest first.
    pub fn keys(&self) -> &[MasterKey] {
        &self.keys
    }

    /// The key that pins the store id.
    pub fn first(&self) -> &MasterKey {
        &self.keys[0]
    }

    /// The key that seals and signs what is new.
    pub fn current(&self) -> &MasterKey {
        &self.keys[self.keys.len() - 1]
    }

    /// The key of this id.
    pub fn key(&self, key_id: &Digest) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.key_id() == *key_id)
    }

    /// Which store this is.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// What seals the catalog: it comes from the first key, so that a change of key leaves the catalog readable.
    pub fn catalog_key(&self) -> CatalogKey {
        self.first().catalog_key()
    }

    /// From what the store's identity towards nodes follows: it comes from the first key, so that what nodes keep for the
    /// store stays its own after a change of key.
    pub fn node_seed(&self) -> Zeroizing<[u8; 32]> {
        self.first().node_seed()
    }

    /// What signs new manifests, with the certificate it needs when it is not the signer that the store id pins.
    pub fn signer(&self) -> Signer {
        let (first, signer) = (self.first().signer(), self.current().signer());
        if first.public_key() == signer.public_key() {
            return signer;
        }
        let certificate = Certificate::issue(&first, signer.public_key(), Role::Owner);
        signer.with_certificate(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> MasterKey {
        MasterKey::from_bytes([number; 32])
    }

    #[test]
    fn the_first_key_pins_the_store_and_the_last_signs_with_a_certificate() {
        let one = Keyring::new(key(1));
        assert!(one.signer().certificate().is_none());
        let two = Keyring::from_keys(vec![key(1), key(2)]).expect("a keyring");
        assert_eq!(two.store_id(), one.store_id());
        assert_eq!(two.current().key_id(), key(2).key_id());
        let signer = two.signer();
        assert_eq!(signer.public_key(), key(2).signer().public_key());
        let certificate = signer.certificate().expect("it has one");
        assert_eq!(certificate.role_of(&signer.public_key(), &two.store_id()), Some(Role::Owner));
        assert_eq!(two.key(&key(1).key_id()).map(MasterKey::key_id), Some(key(1).key_id()));
        assert!(two.key(&key(3).key_id()).is_none());
        assert_eq!(two.catalog_key().check_value(), one.catalog_key().check_value());
        assert_eq!(two.node_seed(), one.node_seed());
        assert_ne!(Keyring::new(key(2)).node_seed(), one.node_seed());
    }

    #[test]
    fn keyrings_of_one_store_are_merged_and_of_two_are_not() {
        let ring = |numbers: &[u8]| Keyring::from_keys(numbers.iter().copied().map(key).collect()).expect("a keyring");
        let ids = |ring: &Keyring| ring.keys().iter().map(MasterKey::key_id).collect::<Vec<_>>();
        let merged = |own: &[u8], other: &[u8]| ring(own).merged(ring(other)).map(|merged| ids(&merged));
        assert_eq!(merged(&[1, 2], &[1, 3]), Ok(ids(&ring(&[1, 2, 3]))));
        assert_eq!(merged(&[1, 2], &[1]), Ok(ids(&ring(&[1, 2]))));
        assert_eq!(merged(&[1, 2], &[2]), Err(KeyringError::OtherStore { store: key(2).store_id() }));
        assert_eq!(ring(&[1]).with_key(key(2)).map(|ring| ids(&ring)), Ok(ids(&ring(&[1, 2]))));
        assert_eq!(ring(&[1]).with_key(key(1)).err(), Some(KeyringError::Twice));
    }

    #[test]
    fn what_is_no_keyring_is_refused() {
        assert_eq!(Keyring::from_keys(Vec::new()).err(), Some(KeyringError::Empty));
        assert_eq!(Keyring::from_keys(vec![key(1), key(1)]).err(), Some(KeyringError::Twice));
        let many = (0..=MAX_MASTER_KEYS as u8).map(key).collect();
        assert_eq!(Keyring::from_keys(many).err(), Some(KeyringError::TooMany { keys: 65 }));
    }
}
