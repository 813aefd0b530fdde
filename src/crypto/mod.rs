//! Keys: the master key of a store and what is derived from it.
//!
//! *What it is.* The [`Keyring`] of a store: one [`MasterKey`] of 256 random bits, or several after a change of key; from
//! each, one subkey for each purpose by BLAKE3's derive-key mode; the Ed25519 [`Signer`] that signs every manifest; the
//! [`StoreId`] that pins the first signer, which vouches for later ones by [`Certificate`]; AES-256-GCM for what is sealed;
//! the [`CatalogKey`] that seals the catalog; the [`ChamberKey`] that seals a node's records; shares of a secret, of which any k give it; the [`RecipientKey`] that others seal
//! to; the [`LimitedKey`] of a machine that may not open, and [`AccessKeys`], which say what it may; the texts that keys are kept in: the [`KeyFile`], in plain or under a [`Passphrase`], and the [`RecoveryKit`] on paper.
//!
//! *What it knows.* Bytes and purposes.
//!
//! *What it does not know.* Files, randomness, manifests. Key bytes are brought by the caller and wiped when dropped.
//!
//! *Invariants.* No key serves two purposes. A secret is never shown by `Debug` and never part of an error.

mod access;
mod aead;
mod base32;
mod catalog_key;
mod certificate;
mod chamber_key;
mod key_file;
mod keyring;
mod kit;
mod limited_key;
mod passphrase;
mod recipient;
mod shares;
mod signer;
mod snapshot_cipher;
mod verify_key;
mod write_key;

pub use access::AccessKeys;
pub use aead::{DataKey, SealContext, StripeCipher, TAG_BYTES};
pub(crate) use base32::{base32, from_base32};
pub use catalog_key::CatalogKey;
pub use certificate::{Certificate, Role};
pub use chamber_key::ChamberKey;
pub use key_file::{KEY_FILE_SCHEMA, KeyFile, KeyFileError, MAX_KEY_FILE_BYTES, SealedKeyring};
pub use keyring::{Keyring, KeyringError, MAX_MASTER_KEYS};
pub use kit::{KitError, KitSeed, MAX_KIT_BYTES, RecoveryKit, write_kit};
pub use limited_key::{LimitedKey, LimitedKeyError, MAX_LIMITED_KEY_BYTES};
pub use passphrase::{CostError, MAX_PASSPHRASE_BYTES, Passphrase, PassphraseCost, PassphraseError, SALT_BYTES};
pub use recipient::{MAX_RECIPIENT_FILE_BYTES, RECIPIENT_RANDOM_BYTES, RECIPIENT_SCHEMA, RecipientError, RecipientKey};
pub use shares::{KeyShare, SHARE_BYTES, ShareError, SharedSecret, combine_shares, share_of, split_secret};
pub use signer::{PublicKey, Signature, Signer};
pub use snapshot_cipher::SnapshotCipher;
pub use verify_key::{NodePass, VERIFY_KEY_SCHEMA, VerifyKey};
pub use write_key::{WRITE_KEY_SCHEMA, WRITER_SECRET_BYTES, WriteKey};

use crate::id::{Digest, ObjectId, StoreId, WriterId};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What was sealed does not open: another key, another place, or changed bytes. Which of them, AES-GCM cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not open under this key, in this place")]
pub struct OpenError;

/// Derive-key contexts: each purpose has its own, and none is ever used for anything else.
mod context {
    pub(super) const SIGNER: &str = "shard v1 2026-11-21 manifest signer";
    pub(super) const KEY_ID: &str = "shard v1 2026-11-21 key id";
    pub(super) const KEY_CHECK: &str = "shard v1 2026-11-21 key check";
    pub(super) const SEALED_PART: &str = "shard v1 2026-11-21 sealed part key";
    pub(super) const DISPERSED_PART: &str = "shard v1 2026-11-21 dispersed sealed part key";
    pub(super) const RECIPIENT: &str = "shard v1 2026-11-21 recipient key";
    pub(super) const RECIPIENT_PART: &str = "shard v1 2026-11-21 recipient sealed part key";
    pub(super) const RECIPIENT_CHECK: &str = "shard v1 2026-11-21 recipient check";
    pub(super) const CATALOG: &str = "shard v1 2026-11-21 catalog secret";
    pub(super) const CATALOG_CHECK: &str = "shard v1 2026-11-21 catalog key check";
    pub(super) const CATALOG_TAGS: &str = "shard v1 2026-11-21 catalog tags";
    pub(super) const CATALOG_SALTS: &str = "shard v1 2026-11-21 catalog salts";
    pub(super) const CATALOG_RECORDS: &str = "shard v1 2026-11-21 catalog records";
    pub(super) const CATALOG_BACKUPS: &str = "shard v1 2026-11-21 catalog backup files";
    pub(super) const CHAMBER: &str = "shard v1 2026-11-21 chamber secret";
    pub(super) const CHAMBER_NAMES: &str = "shard v1 2026-11-21 chamber names";
    pub(super) const CHAMBER_CHECK: &str = "shard v1 2026-11-21 chamber key check";
    pub(super) const CHAMBER_TAGS: &str = "shard v1 2026-11-21 chamber tags";
    pub(super) const CHAMBER_SALTS: &str = "shard v1 2026-11-21 chamber salts";
    pub(super) const CHAMBER_RECORDS: &str = "shard v1 2026-11-21 chamber records";
    pub(super) const CHAMBER_SNAPSHOTS: &str = "shard v1 2026-11-21 chamber snapshots";
    pub(super) const KIT_KEY_LINE: &str = "shard v1 2026-11-21 recovery kit key line";
    pub(super) const KIT_SETTINGS_LINE: &str = "shard v1 2026-11-21 recovery kit settings line";
    pub(super) const KIT_SEED_LINE: &str = "shard v1 2026-11-21 recovery kit seed line";
    pub(super) const KIT_SEED_CHECK: &str = "shard v1 2026-11-21 recovery kit seed check";
    pub(super) const KIT_SHORT_FORM: &str = "shard v1 2026-11-21 recovery kit short form";
    pub(super) const VERIFY_CHECK: &str = "shard v1 2026-11-21 verify-only key check";
    pub(super) const WRITER_SIGNER: &str = "shard v1 2026-11-21 writer signer";
    pub(super) const WRITER_ID: &str = "shard v1 2026-11-21 writer id";
    pub(super) const WRITE_CHECK: &str = "shard v1 2026-11-21 write-only key check";
    pub(super) const STORE_NODE: &str = "shard v1 2026-11-21 store node seed";
    pub(super) const STORE_ID: &str = "shard v1 2026-11-21 store id";
}

/// The secret a store is built on: 256 random bits.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    bytes: [u8; 32],
}

impl MasterKey {
    /// From 32 random bytes, which the caller draws and then wipes; the copy that is handed over is wiped here.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self { bytes };
        bytes.zeroize();
        key
    }

    /// What signs this store's manifests.
    pub fn signer(&self) -> Signer {
        let mut seed = blake3::derive_key(context::SIGNER, &self.bytes);
        let signer = Signer::from_seed(&seed);
        seed.zeroize();
        signer
    }

    /// Which key this is, without telling it: stands in each manifest.
    pub fn key_id(&self) -> Digest {
        Digest(blake3::derive_key(context::KEY_ID, &self.bytes))
    }

    /// The id of the store whose first key this is.
    pub fn store_id(&self) -> StoreId {
        self.signer().public_key().store_id()
    }

    /// Seals the sealed part of an object's manifest.
    pub fn seal_part(&self, context: &SealContext, text: &[u8]) -> Vec<u8> {
        aead::seal_part(&part_key(context::SEALED_PART, &self.bytes, context.object), context, text)
    }

    /// Opens it again.
    pub fn open_part(&self, context: &SealContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        aead::open_part(&part_key(context::SEALED_PART, &self.bytes, context.object), context, sealed)
    }

    /// The node seed of the store whose first key this is.
    fn node_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context::STORE_NODE, &self.bytes))
    }

    /// Tells a mistyped or damaged key from the right one, in the key file.
    fn check_value(&self) -> Digest {
        Digest(blake3::derive_key(context::KEY_CHECK, &self.bytes))
    }
}

/// The key of one object's sealed part, which seals nothing else.
fn part_key(purpose: &str, secret: &[u8; 32], object: ObjectId) -> Zeroizing<[u8; 32]> {
    let material = Zeroizing::new([secret.as_slice(), object.as_bytes()].concat());
    Zeroizing::new(blake3::derive_key(purpose, &material))
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(secret)")
    }
}

impl PublicKey {
    /// The id of the store whose first signer key this is.
    pub fn store_id(&self) -> StoreId {
        StoreId(blake3::derive_key(context::STORE_ID, &self.0))
    }

    /// What a writer is called whose signer key this is.
    pub fn writer_id(&self) -> WriterId {
        let hash = blake3::derive_key(context::WRITER_ID, &self.0);
        WriterId::from_slice(&hash[..WriterId::BYTES]).expect("a hash has more bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_gets_a_key_of_its_own() {
        let key = MasterKey::from_bytes([7; 32]);
        let signer = key.signer().public_key().0;
        let derived = [key.key_id().0, key.check_value().0, key.store_id().0, signer, *key.node_seed()];
        for (i, one) in derived.iter().enumerate() {
            assert!(derived[i + 1..].iter().all(|other| other != one));
            assert_ne!(one, &[7; 32]);
        }
    }

    #[test]
    fn a_master_key_is_not_shown() {
        assert_eq!(format!("{:?}", MasterKey::from_bytes([7; 32])), "MasterKey(secret)");
    }
}
