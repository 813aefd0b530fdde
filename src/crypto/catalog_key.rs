//! What a catalog is sealed with, so that a copy of it tells nothing without the key.
//!
//! A record is sealed with AES-256-GCM under a key of its own, made from a salt that stands before it. The salt is a keyed
//! hash of the record's place and text (as in a synthetic initialization vector, RFC 5297): no randomness is needed, none
//! can fail, and no two different records share a key. The same record in the same place is the same bytes again.

use super::aead::{self, TAG_BYTES};
use super::{MasterKey, OpenError, context};
use crate::id::{Digest, StoreId};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many bytes stand before what is sealed, for its key.
const SALT_BYTES: usize = 16;
/// What the associated data of a record begins with.
const PURPOSE: &[u8] = b"shard v1 catalog record\n";

/// The key of one catalog. It outlives changes of the master key: it comes from a store's first one, or is a secret of its
/// own where there is none.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct CatalogKey {
    #[zeroize(skip)]
    store: StoreId,
    #[zeroize(skip)]
    check: Digest,
    tags: [u8; 32],
    salts: [u8; 32],
    records: [u8; 32],
    backups: [u8; 32],
}

impl CatalogKey {
    /// How many bytes sealing adds to a record.
    pub const OVERHEAD_BYTES: usize = SALT_BYTES + TAG_BYTES;

    /// From 32 random bytes: for a catalog that dies with its process, or on a machine without a master key.
    pub fn from_secret(store: StoreId, secret: &[u8; 32]) -> Self {
        Self {
            store,
            check: Digest(blake3::derive_key(context::CATALOG_CHECK, secret)),
            tags: blake3::derive_key(context::CATALOG_TAGS, secret),
            salts: blake3::derive_key(context::CATALOG_SALTS, secret),
            records: blake3::derive_key(context::CATALOG_RECORDS, secret),
            backups: blake3::derive_key(context::CATALOG_BACKUPS, secret),
        }
    }

    /// Whose catalog it opens.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// What a backup of the catalog in a file is sealed with: nothing that it seals opens as a record of the catalog.
    pub fn of_backup_files(&self) -> Self {
        Self::from_secret(self.store, &self.backups)
    }

    /// Tells this key from another without telling it.
    pub fn check_value(&self) -> Digest {
        self.check
    }

    /// What stands for a text where it is looked up: equal for equal texts of one purpose, and telling nothing else.
    ///
    /// 128 bits: whoever could look for two texts with one tag has the key already.
    pub fn tag(&self, purpose: &[u8], text: &[u8]) -> [u8; 16] {
        truncated(&keyed(&self.tags, purpose, text))
    }

    /// Seals a record of the catalog; it opens in this place alone.
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Vec<u8> {
        let place = self.associated_data(place);
        let salt: [u8; SALT_BYTES] = truncated(&keyed(&self.salts, &place, text));
        let sealed = aead::seal_once(&self.record_key(&salt), &place, text);
        [salt.as_slice(), &sealed].concat()
    }

    /// Opens it again.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(OpenError)?;
        aead::open_once(&self.record_key(salt), &self.associated_data(place), sealed)
    }

    fn record_key(&self, salt: &[u8; SALT_BYTES]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(*blake3::keyed_hash(&self.records, salt).as_bytes())
    }

    fn associated_data(&self, place: &[u8]) -> Vec<u8> {
        [PURPOSE, self.store.as_bytes(), place].concat()
    }
}

impl MasterKey {
    /// The key of the catalog of the store whose first key this is.
    pub(super) fn catalog_key(&self) -> CatalogKey {
        let secret = Zeroizing::new(blake3::derive_key(context::CATALOG, &self.bytes));
        CatalogKey::from_secret(self.store_id(), &secret)
    }
}

/// Two parts under one hash; the first one's length keeps them apart.
fn keyed(key: &[u8; 32], first: &[u8], second: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(first.len() as u64).to_le_bytes()).update(first).update(second);
    *hasher.finalize().as_bytes()
}

fn truncated(hash: &[u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("a hash has 32 bytes")
}

impl fmt::Debug for CatalogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatalogKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> CatalogKey {
        CatalogKey::from_secret(StoreId([1; 32]), &[number; 32])
    }

    #[test]
    fn a_record_opens_under_its_key_in_its_place_and_its_store_alone() {
        let sealed = key(1).seal(b"place", b"text");
        assert_eq!(sealed.len(), 4 + CatalogKey::OVERHEAD_BYTES);
        assert_eq!(key(1).open(b"place", &sealed).expect("it opens").as_slice(), b"text");
        assert_eq!(key(2).open(b"place", &sealed).err(), Some(OpenError));
        assert_eq!(key(1).open(b"other", &sealed).err(), Some(OpenError));
        let elsewhere = CatalogKey::from_secret(StoreId([2; 32]), &[1; 32]);
        assert_eq!(elsewhere.open(b"place", &sealed).err(), Some(OpenError));
    }

    #[test]
    fn no_flipped_bit_and_no_other_length_of_a_record_opens() {
        let sealed = key(1).seal(b"place", b"some text");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key(1).open(b"place", &flipped).err(), Some(OpenError), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key(1).open(b"place", &sealed[..length]).err(), Some(OpenError), "{length} bytes");
        }
    }

    #[test]
    fn different_records_have_different_salts() {
        let salt = |place: &[u8], text: &[u8]| key(1).seal(place, text)[..SALT_BYTES].to_vec();
        let salts = [salt(b"a", b"bc"), salt(b"ab", b"c"), salt(b"a", b"bd"), salt(b"b", b"bc")];
        for (position, one) in salts.iter().enumerate() {
            assert!(salts[position + 1..].iter().all(|other| other != one));
        }
        assert_eq!(salt(b"a", b"bc"), salts[0]);
    }

    #[test]
    fn a_tag_tells_texts_and_purposes_apart_and_changes_with_the_key() {
        let tag = key(1).tag(b"name", b"a");
        assert_eq!(key(1).tag(b"name", b"a"), tag);
        for other in [key(1).tag(b"name", b"b"), key(1).tag(b"folder", b"a"), key(2).tag(b"name", b"a")] {
            assert_ne!(other, tag);
        }
    }

    #[test]
    fn the_key_of_a_catalog_is_told_by_its_check_value_and_shown_by_nothing() {
        let (one, other) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        assert_eq!(one.catalog_key().check_value(), one.catalog_key().check_value());
        assert_ne!(one.catalog_key().check_value(), other.catalog_key().check_value());
        assert_ne!(one.catalog_key().check_value(), one.check_value());
        assert_eq!(format!("{:?}", one.catalog_key()), "CatalogKey(secret)");
    }
}
