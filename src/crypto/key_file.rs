//! The text of the key file: all master keys of a store as JSON, in plain or under a passphrase, with what finds damage.

use super::aead::aes_256_gcm;
use super::passphrase::{CostError, Passphrase, PassphraseCost, SALT_BYTES};
use super::{Keyring, KeyringError, MasterKey};
use crate::id::{Digest, StoreId, read_hex};
use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Says what the file is.
pub const KEY_FILE_SCHEMA: &str = "shard.key/1";
/// A key file is at most this many bytes; a larger one is not read. Room for all keys that a store may have.
pub const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// How a passphrase becomes a key, in the file.
const ARGON2ID: &str = "argon2id";
/// What the associated data of sealed keys begins with.
const KEYS_PURPOSE: &[u8] = b"shard v1 key file\n";
const KEY_BYTES: usize = 32;

/// Why a text is not a key file, or does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not the JSON it should be; the text is not quoted, since it is a secret.
    #[error("this is no key file of schema {KEY_FILE_SCHEMA}")]
    Malformed,
    /// A key does not have the check value beside it, or the keys are not of the store that is named.
    #[error("the keys do not match their check values: the file is damaged")]
    Check,
    /// The passphrase is not the one, or the file is damaged: which of them, AES-GCM cannot tell.
    #[error("this is not the passphrase, or the file is damaged")]
    Passphrase,
    /// What it says of Argon2id is not followed.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The keys are no keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// What a key file holds.
#[derive(Debug)]
pub enum KeyFile {
    /// Keys that whoever reads the file has.
    Plain(Keyring),
    /// Keys that a passphrase opens.
    Sealed(SealedKeyring),
}

/// The keys of a store under a passphrase.
#[derive(Debug)]
pub struct SealedKeyring {
    store: StoreId,
    cost: PassphraseCost,
    salt: [u8; SALT_BYTES],
    sealed: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: String,
    store: StoreId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<WrittenKey>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<WrittenSeal>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    key: Zeroizing<String>,
    check: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSeal {
    kdf: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    sealed: String,
}

impl KeyFile {
    /// Reads the text of a key file. Nothing is derived yet, and no memory taken for it.
    pub fn parse(text: &[u8]) -> Result<Self, KeyFileError> {
        let written: Written = serde_json::from_slice(text).map_err(|_| KeyFileError::Malformed)?;
        if written.schema != KEY_FILE_SCHEMA {
            return Err(KeyFileError::Malformed);
        }
        match (written.keys, written.passphrase) {
            (Some(keys), None) => {
                let keys = keys.iter().map(WrittenKey::read).collect::<Result<_, _>>()?;
                of_store(Keyring::from_keys(keys)?, &written.store).map(Self::Plain)
            }
            (None, Some(seal)) => seal.read(written.store).map(Self::Sealed),
            _ => Err(KeyFileError::Malformed),
        }
    }
}

impl WrittenKey {
    fn read(&self) -> Result<MasterKey, KeyFileError> {
        let key = MasterKey::from_bytes(*digits::<KEY_BYTES>(&self.key)?);
        verify_slices_are_equal(&key.check_value().0, &self.check.0).map_err(|_| KeyFileError::Check)?;
        Ok(key)
    }
}

impl WrittenSeal {
    fn read(&self, store: StoreId) -> Result<SealedKeyring, KeyFileError> {
        if self.kdf != ARGON2ID {
            return Err(KeyFileError::Malformed);
        }
        let cost = PassphraseCost::new(self.memory_kib, self.passes, self.lanes)?;
        let mut sealed = vec![0; self.sealed.len() / 2];
        read_hex(&self.sealed, &mut sealed).map_err(|_| KeyFileError::Malformed)?;
        Ok(SealedKeyring { store, cost, salt: *digits(&self.salt)?, sealed })
    }
}

/// Exactly N bytes, as digits.
fn digits<const N: usize>(text: &str) -> Result<Zeroizing<[u8; N]>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; N]);
    read_hex(text, bytes.as_mut_slice()).map_err(|_| KeyFileError::Malformed)?;
    Ok(bytes)
}

fn of_store(keyring: Keyring, store: &StoreId) -> Result<Keyring, KeyFileError> {
    if keyring.store_id() == *store { Ok(keyring) } else { Err(KeyFileError::Check) }
}

impl SealedKeyring {
    /// The store whose keys these say they are; what is opened is checked against it.
    pub fn store_id(&self) -> StoreId {
        self.store
    }

    /// Opens the keys. Takes the memory that the file asks for while it works, within its bounds.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Keyring, KeyFileError> {
        let key = self.cost.derive_key(passphrase, &self.salt)?;
        let mut buffer = Zeroizing::new(self.sealed.clone());
        let associated_data = Aad::from(associated_data(&self.store, self.cost, &self.salt));
        let opened = aes_256_gcm(&key).open_in_place(nonce(), associated_data, &mut buffer);
        let opened: &[u8] = opened.map_err(|_| KeyFileError::Passphrase)?;
        let (keys, rest) = opened.as_chunks::<KEY_BYTES>();
        if !rest.is_empty() {
            return Err(KeyFileError::Malformed);
        }
        let keys = keys.iter().map(|bytes| MasterKey::from_bytes(*bytes)).collect();
        of_store(Keyring::from_keys(keys)?, &self.store)
    }
}

impl Keyring {
    /// The text of the key file, readable by whoever has it.
    pub fn to_key_file(&self) -> Zeroizing<String> {
        let written = |key: &MasterKey| WrittenKey {
            key: Zeroizing::new(hex::encode(key.bytes.as_slice())),
            check: key.check_value(),
        };
        self.write(Some(self.keys().iter().map(written).collect()), None)
    }

    /// The text of the key file under a passphrase. The salt is 16 random bytes that the caller draws for this text alone.
    pub fn to_sealed_key_file(
        &self,
        passphrase: &Passphrase,
        cost: PassphraseCost,
        salt: [u8; SALT_BYTES],
    ) -> Result<Zeroizing<String>, CostError> {
        let key = cost.derive_key(passphrase, &salt)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(self.keys().len() * KEY_BYTES + super::TAG_BYTES));
        self.keys().iter().for_each(|key| sealed.extend_from_slice(&key.bytes));
        let associated_data = Aad::from(associated_data(&self.store_id(), cost, &salt));
        aes_256_gcm(&key)
            .seal_in_place_append_tag(nonce(), associated_data, &mut *sealed)
            .expect("a keyring is far shorter than what AES-GCM can seal");
        let (memory_kib, passes, lanes) = (cost.memory_kib(), cost.passes(), cost.lanes());
        let (salt, sealed) = (hex::encode(salt), hex::encode(sealed.as_slice()));
        let seal = WrittenSeal { kdf: ARGON2ID.to_owned(), memory_kib, passes, lanes, salt, sealed };
        Ok(self.write(None, Some(seal)))
    }

    fn write(&self, keys: Option<Vec<WrittenKey>>, passphrase: Option<WrittenSeal>) -> Zeroizing<String> {
        let file = Written { schema: KEY_FILE_SCHEMA.to_owned(), store: self.store_id(), keys, passphrase };
        // Grown once, so that no copy is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize));
        serde_json::to_writer_pretty(&mut *text, &file).expect("strings and numbers always serialize");
        text.push(b'\n');
        Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).expect("JSON is UTF-8"))
    }
}

/// Everything in the file that is not sealed: none of it can be changed unnoticed.
fn associated_data(store: &StoreId, cost: PassphraseCost, salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    let numbers = [cost.memory_kib(), cost.passes(), cost.lanes()].map(u32::to_le_bytes);
    [KEYS_PURPOSE, store.as_bytes(), numbers.as_flattened(), salt].concat()
}

/// The same always: the salt makes the key new for each file, so that it seals once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::from_keys(vec![MasterKey::from_bytes([9; 32]), MasterKey::from_bytes([8; 32])]).expect("a keyring")
    }

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).expect("a passphrase")
    }

    fn sealed() -> Zeroizing<String> {
        let cheap = PassphraseCost::new(19 * 1024, 2, 1).expect("a cost");
        keyring().to_sealed_key_file(&passphrase("horse"), cheap, [3; SALT_BYTES]).expect("sealed")
    }

    fn ids(keyring: &Keyring) -> Vec<Digest> {
        keyring.keys().iter().map(MasterKey::key_id).collect()
    }

    fn flips(text: &str) -> impl Iterator<Item = (usize, Vec<u8>)> {
        (0..text.len() * 8).map(|bit| {
            let mut flipped = text.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            (bit, flipped)
        })
    }

    #[test]
    fn a_key_file_gives_its_keys_back_and_no_flipped_bit_goes_unseen() {
        let text = keyring().to_key_file();
        let Ok(KeyFile::Plain(again)) = KeyFile::parse(text.as_bytes()) else { unreachable!("plain keys") };
        assert_eq!(ids(&again), ids(&keyring()));
        for (bit, flipped) in flips(&text) {
            assert!(KeyFile::parse(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_key_file_under_a_passphrase_opens_with_that_alone() {
        let text = sealed();
        let Ok(KeyFile::Sealed(file)) = KeyFile::parse(text.as_bytes()) else { unreachable!("sealed keys") };
        assert_eq!(file.store_id(), keyring().store_id());
        assert_eq!(ids(&file.open(&passphrase("horse")).expect("it opens")), ids(&keyring()));
        assert_eq!(file.open(&passphrase("Horse")).err(), Some(KeyFileError::Passphrase));
        for key in keyring().keys() {
            assert!(!text.contains(&hex::encode(key.bytes)));
        }
    }

    /// Each bit of the text; where it still reads, what it reads is another file and does not open. Opening costs, so of
    /// those some are tried, and of the others their difference is enough: all of it is associated data or sealed.
    #[test]
    fn no_flipped_bit_of_a_key_file_under_a_passphrase_goes_unseen() {
        let text = sealed();
        let Ok(KeyFile::Sealed(right)) = KeyFile::parse(text.as_bytes()) else { unreachable!("sealed keys") };
        let parts = |file: &SealedKeyring| (file.store, file.cost, file.salt, file.sealed.clone());
        for (bit, flipped) in flips(&text) {
            if let Ok(read) = KeyFile::parse(&flipped) {
                let KeyFile::Sealed(file) = read else { unreachable!("bit {bit} makes it plain") };
                assert_ne!(parts(&file), parts(&right), "bit {bit}");
                if bit % 61 == 0 && file.cost == right.cost {
                    assert_eq!(file.open(&passphrase("horse")).err(), Some(KeyFileError::Passphrase), "bit {bit}");
                }
            }
        }
        let dearer = SealedKeyring { cost: PassphraseCost::new(20 * 1024, 2, 1).expect("a cost"), ..right };
        assert_eq!(dearer.open(&passphrase("horse")).err(), Some(KeyFileError::Passphrase));
    }

    #[test]
    fn what_a_key_file_asks_of_memory_and_time_is_bounded_before_it_is_given() {
        let text = sealed();
        for (honest, wrong) in [
            ("\"memory_kib\": 19456", "\"memory_kib\": 4294967295"),
            ("\"memory_kib\": 19456", "\"memory_kib\": 8"),
            ("\"passes\": 2", "\"passes\": 1000000"),
            ("\"passes\": 2", "\"passes\": 1"),
            ("\"lanes\": 1", "\"lanes\": 0"),
        ] {
            assert!(text.contains(honest));
            let refused = KeyFile::parse(text.replace(honest, wrong).as_bytes());
            assert!(matches!(refused, Err(KeyFileError::Cost(CostError::OutOfBounds { .. }))), "{wrong}");
        }
    }

    #[test]
    fn keys_in_another_order_are_another_store_and_refused() {
        let text = keyring().to_key_file();
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["keys"].as_array_mut().expect("keys").reverse();
        assert_eq!(KeyFile::parse(value.to_string().as_bytes()).err(), Some(KeyFileError::Check));
        value["keys"].as_array_mut().expect("keys").clear();
        assert_eq!(KeyFile::parse(value.to_string().as_bytes()).err(), Some(KeyringError::Empty.into()));
    }

    #[test]
    fn the_largest_keyring_fits_its_file() {
        let keys = (0..super::super::MAX_MASTER_KEYS as u8).map(|number| MasterKey::from_bytes([number; 32]));
        let largest = Keyring::from_keys(keys.collect()).expect("a keyring");
        assert!(largest.to_key_file().len() as u64 <= MAX_KEY_FILE_BYTES);
        assert!(matches!(KeyFile::parse(largest.to_key_file().as_bytes()), Ok(KeyFile::Plain(_))));
    }
}
