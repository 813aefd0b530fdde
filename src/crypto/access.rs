//! What a machine can do with a store's objects: check them, or open them too.

use super::{Keyring, MasterKey};
use crate::id::{Digest, StoreId};

/// Whose signatures are trusted, and the keys that are at hand to open what is sealed.
#[derive(Debug)]
pub struct AccessKeys {
    store: StoreId,
    keyring: Option<Keyring>,
}

impl AccessKeys {
    /// Of a machine that checks and does not open.
    pub fn to_check(store: StoreId) -> Self {
        Self { store, keyring: None }
    }

    /// Of a machine that has the store's master keys.
    pub fn to_open(keyring: Keyring) -> Self {
        Self { store: keyring.store_id(), keyring: Some(keyring) }
    }

    /// The store whose signatures are trusted.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// The store's master keys, where they are here.
    pub fn keyring(&self) -> Option<&Keyring> {
        self.keyring.as_ref()
    }

    /// The master key of this id, if it is here.
    pub fn key(&self, key_id: &Digest) -> Option<&MasterKey> {
        self.keyring.as_ref()?.key(key_id)
    }
}
