//! What a machine needs that checks and repairs and cannot read: which store is trusted, and a catalog key of its own.

use super::{CatalogKey, Keyring, LimitedKeyError, PublicKey, context};
use crate::id::{Digest, StoreId, read_hex};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Says what the file is.
pub const VERIFY_KEY_SCHEMA: &str = "shard.verify-key/1";

/// A key that opens nothing of the store: it names the store and its signers, and seals this machine's own catalog.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct VerifyKey {
    #[zeroize(skip)]
    store: StoreId,
    #[zeroize(skip)]
    signers: Vec<PublicKey>,
    #[zeroize(skip)]
    settings: Option<String>,
    catalog: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyKeyFile {
    schema: String,
    store: StoreId,
    signers: Vec<PublicKey>,
    catalog: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<String>,
    check: Digest,
}

impl VerifyKey {
    /// For a machine that is to look after the store of these keys. `catalog` are 32 random bytes; `settings` the store's
    /// settings, for a start.
    pub fn of(keyring: &Keyring, mut catalog: [u8; 32], settings: Option<String>) -> Self {
        let signers = keyring.keys().iter().map(|key| key.signer().public_key()).collect();
        let key = Self { store: keyring.store_id(), signers, settings, catalog };
        catalog.zeroize();
        key
    }

    /// The store whose signatures are trusted.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// Everything that signs for the store's owner, oldest first, for whoever wants to know. What is trusted follows from the
    /// store id and the certificates in what was signed.
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }

    /// The store's settings as they were when the key was made.
    pub fn settings(&self) -> Option<&str> {
        self.settings.as_deref()
    }

    /// What seals this machine's catalog.
    pub fn catalog_key(&self) -> CatalogKey {
        CatalogKey::from_secret(self.store, &self.catalog)
    }

    /// The text of its file.
    pub fn to_file(&self) -> Zeroizing<String> {
        let file = VerifyKeyFile {
            schema: VERIFY_KEY_SCHEMA.to_owned(),
            store: self.store,
            signers: self.signers.clone(),
            catalog: Zeroizing::new(hex::encode(self.catalog.as_slice())),
            settings: self.settings.clone(),
            check: self.check_value(),
        };
        // Grown once, so that no copy is left behind by growing.
        let room = 16 * 1024 + 2 * self.settings.as_ref().map_or(0, String::len);
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer_pretty(&mut *text, &file).expect("strings always serialize");
        text.push(b'\n');
        Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).expect("JSON is UTF-8"))
    }

    /// The key in the text of a file.
    pub(super) fn from_file(text: &[u8]) -> Result<Self, LimitedKeyError> {
        let malformed = LimitedKeyError::Malformed { schema: VERIFY_KEY_SCHEMA };
        let file: VerifyKeyFile = serde_json::from_slice(text).map_err(|_| malformed)?;
        if file.schema != VERIFY_KEY_SCHEMA {
            return Err(malformed);
        }
        let mut catalog = Zeroizing::new([0; 32]);
        read_hex(&file.catalog, catalog.as_mut_slice()).map_err(|_| malformed)?;
        let key = Self { store: file.store, signers: file.signers, settings: file.settings, catalog: *catalog };
        verify_slices_are_equal(&key.check_value().0, &file.check.0).map_err(|_| LimitedKeyError::Check)?;
        Ok(key)
    }

    fn check_value(&self) -> Digest {
        let mut material = Zeroizing::new(self.store.as_bytes().to_vec());
        material.extend_from_slice(&(self.signers.len() as u64).to_le_bytes());
        self.signers.iter().for_each(|signer| material.extend_from_slice(&signer.0));
        material.extend_from_slice(&self.catalog);
        material.extend_from_slice(self.settings.as_deref().unwrap_or_default().as_bytes());
        Digest(blake3::derive_key(context::VERIFY_CHECK, &material))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey").field("store", &self.store).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LimitedKey, MasterKey};
    use super::*;

    #[test]
    fn a_verify_only_key_comes_back_from_its_file_and_no_flipped_bit_goes_unseen() {
        let keyring = Keyring::from_keys(vec![MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32])]);
        let keyring = keyring.expect("two keys");
        let key = VerifyKey::of(&keyring, [7; 32], Some("seal = \"key\"\n".to_owned()));
        let text = key.to_file();
        assert!(matches!(LimitedKey::from_file(text.as_bytes()), Some(Ok(LimitedKey::Verify(_)))));
        let same = |other: &VerifyKey| {
            (other.store, &other.signers, &other.settings, other.catalog)
                == (key.store, &key.signers, &key.settings, key.catalog)
        };
        assert!(same(&VerifyKey::from_file(text.as_bytes()).expect("the key")));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(VerifyKey::from_file(&flipped).is_err(), "bit {bit}");
        }
        assert!(keyring.keys().iter().all(|key| !text.contains(&hex::encode(key.bytes))));
    }
}
