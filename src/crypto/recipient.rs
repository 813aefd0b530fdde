//! Sealing to a public key: whoever has the public half can seal, only the master key opens.
//!
//! The key encapsulation is X-Wing (draft-connolly-cfrg-xwing-kem): X25519 and ML-KEM-768, of which either may fall.

use super::{MasterKey, OpenError, SealContext, aead, context, part_key};
use crate::id::{Digest, StoreId, read_hex};
use serde::{Deserialize, Serialize};
use std::fmt;
use x_wing::{CIPHERTEXT_SIZE, Decapsulate, DecapsulationKey, EncapsulationKey, KeyExport, SharedKey};
use zeroize::{Zeroize, Zeroizing};

/// Says what the file of a public key is.
pub const RECIPIENT_SCHEMA: &str = "shard.recipient/1";
/// A recipient file is at most this many bytes; a larger one is not read.
pub const MAX_RECIPIENT_FILE_BYTES: u64 = 8192;
/// How many random bytes one sealing takes.
pub const RECIPIENT_RANDOM_BYTES: usize = 64;

/// What an encapsulated secret takes in front of what is sealed, in bytes.
const ENCAPSULATED_BYTES: usize = CIPHERTEXT_SIZE;

/// Why a text is not a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Not the JSON it should be.
    #[error("this is no file of schema {RECIPIENT_SCHEMA}")]
    Malformed,
    /// The key does not have the check value beside it, or is none.
    #[error("the public key does not match its check value: the file is damaged or mistyped")]
    Check,
}

/// The public half of a master key: seals what only the master key opens.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey {
    store: StoreId,
    key_id: Digest,
    key: EncapsulationKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipientFile {
    schema: String,
    store: StoreId,
    key_id: Digest,
    key: String,
    check: Digest,
}

impl MasterKey {
    /// The public half, for the store whose first key pins `store`.
    pub fn recipient(&self, store: StoreId) -> RecipientKey {
        let key = self.decapsulation_key();
        RecipientKey { store, key_id: self.key_id(), key: x_wing::Decapsulator::encapsulation_key(&key).clone() }
    }

    /// Opens the sealed part of a manifest that was sealed to the public half.
    pub fn open_recipient_part(&self, context: &SealContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (encapsulated, sealed) = sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(OpenError)?;
        let encapsulated = encapsulated.try_into().map_err(|_| OpenError)?;
        let secret = taken(self.decapsulation_key().decapsulate(&encapsulated));
        aead::open_part(&part_key(context::RECIPIENT_PART, &secret, context.object), context, sealed)
    }

    fn decapsulation_key(&self) -> DecapsulationKey {
        let seed = Zeroizing::new(blake3::derive_key(context::RECIPIENT, &self.bytes));
        DecapsulationKey::from(*seed)
    }
}

impl RecipientKey {
    /// Whose public half it is.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Which master key opens what is sealed to it.
    pub fn key_id(&self) -> Digest {
        self.key_id
    }

    /// Seals the sealed part of an object's manifest, with random bytes that are used for nothing else.
    pub fn seal_part(&self, context: &SealContext, text: &[u8], random: &[u8; RECIPIENT_RANDOM_BYTES]) -> Vec<u8> {
        let (encapsulated, secret) = self.key.encapsulate_deterministic(&(*random).into());
        let secret = taken(secret);
        let sealed = aead::seal_part(&part_key(context::RECIPIENT_PART, &secret, context.object), context, text);
        [encapsulated.as_slice(), &sealed].concat()
    }

    /// The public key itself, as files have it.
    pub(super) fn key_bytes(&self) -> Vec<u8> {
        self.key.to_bytes().to_vec()
    }

    /// From what [`Self::key_bytes`] gives; `None` where the bytes are no public key.
    pub(super) fn from_parts(store: StoreId, key_id: Digest, key: &[u8]) -> Option<Self> {
        Some(Self { store, key_id, key: EncapsulationKey::try_from(key).ok()? })
    }

    /// The text of its file.
    pub fn to_file(&self) -> String {
        let bytes = self.key.to_bytes();
        let file = RecipientFile {
            schema: RECIPIENT_SCHEMA.to_owned(),
            store: self.store,
            key_id: self.key_id,
            key: hex::encode(bytes.as_slice()),
            check: check_value(&self.store, &self.key_id, &bytes),
        };
        serde_json::to_string_pretty(&file).expect("strings always serialize") + "\n"
    }

    /// The public key in the text of a file.
    pub fn from_file(text: &[u8]) -> Result<Self, RecipientError> {
        let file: RecipientFile = serde_json::from_slice(text).map_err(|_| RecipientError::Malformed)?;
        if file.schema != RECIPIENT_SCHEMA {
            return Err(RecipientError::Malformed);
        }
        let mut bytes = vec![0; file.key.len() / 2];
        read_hex(&file.key, &mut bytes).map_err(|_| RecipientError::Malformed)?;
        if check_value(&file.store, &file.key_id, &bytes) != file.check {
            return Err(RecipientError::Check);
        }
        let key = EncapsulationKey::try_from(bytes.as_slice()).map_err(|_| RecipientError::Check)?;
        Ok(Self { store: file.store, key_id: file.key_id, key })
    }
}

/// The shared secret, and no copy of it where it was.
fn taken(mut shared: SharedKey) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(shared.as_slice());
    shared.as_mut_slice().zeroize();
    secret
}

fn check_value(store: &StoreId, key_id: &Digest, key: &[u8]) -> Digest {
    let material = [store.as_bytes().as_slice(), key_id.as_bytes(), key].concat();
    Digest(blake3::derive_key(context::RECIPIENT_CHECK, &material))
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Geometry, ObjectId};

    const RANDOM: [u8; RECIPIENT_RANDOM_BYTES] = [3; RECIPIENT_RANDOM_BYTES];

    fn key() -> MasterKey {
        MasterKey::from_bytes([1; 32])
    }

    fn context() -> SealContext {
        SealContext {
            store: key().store_id(),
            object: ObjectId([2; 16]),
            geometry: Geometry::new(3, 5).expect("geometry"),
            block_bytes: 64,
            seal: 3,
        }
    }

    #[test]
    fn what_is_sealed_to_the_public_half_opens_under_its_own_key_and_in_its_own_place_alone() {
        let sealed = key().recipient(key().store_id()).seal_part(&context(), b"text", &RANDOM);
        assert_eq!(key().open_recipient_part(&context(), &sealed).expect("it opens").as_slice(), b"text");
        assert_eq!(MasterKey::from_bytes([9; 32]).open_recipient_part(&context(), &sealed).err(), Some(OpenError));
        let elsewhere = SealContext { object: ObjectId([3; 16]), ..context() };
        assert_eq!(key().open_recipient_part(&elsewhere, &sealed).err(), Some(OpenError));
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(key().open_recipient_part(&context(), &flipped).err(), Some(OpenError), "byte {at}");
        }
        for bytes in [0, 1, ENCAPSULATED_BYTES - 1, ENCAPSULATED_BYTES, ENCAPSULATED_BYTES + 16, sealed.len() - 1] {
            assert_eq!(key().open_recipient_part(&context(), &sealed[..bytes]).err(), Some(OpenError), "{bytes} bytes");
        }
        let again = key().recipient(key().store_id()).seal_part(&context(), b"text", &[4; RECIPIENT_RANDOM_BYTES]);
        assert_ne!(again, sealed);
    }

    #[test]
    fn a_recipient_file_gives_its_key_back_and_no_flipped_bit_goes_unseen() {
        let recipient = key().recipient(key().store_id());
        let text = recipient.to_file().into_bytes();
        assert!(text.len() as u64 <= MAX_RECIPIENT_FILE_BYTES);
        assert_eq!(RecipientKey::from_file(&text), Ok(recipient.clone()));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(RecipientKey::from_file(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused_though_its_check_is_right() {
        let recipient = key().recipient(key().store_id());
        let file = |bytes: &[u8]| {
            let check = check_value(&recipient.store, &recipient.key_id, bytes);
            let (store, key_id, key) = (recipient.store, recipient.key_id, hex::encode(bytes));
            let file = RecipientFile { schema: RECIPIENT_SCHEMA.to_owned(), store, key_id, key, check };
            serde_json::to_vec(&file).expect("JSON")
        };
        let right = recipient.key.to_bytes();
        assert_eq!(RecipientKey::from_file(&file(&right)), Ok(recipient.clone()));
        // 3,329 is the first number that is no coefficient; 3,328 is the last that is one.
        for (low, high, expected) in [(0x00, 0x0D, true), (0x01, 0x0D, false), (0xFF, 0x0F, false)] {
            let mut bytes = right.to_vec();
            (bytes[0], bytes[1]) = (low, bytes[1] & 0xF0 | high);
            assert_eq!(RecipientKey::from_file(&file(&bytes)).is_ok(), expected, "{low:x} {high:x}");
        }
        for length in [0, 1, right.len() - 1, right.len() + 1] {
            let mut bytes = right.to_vec();
            bytes.resize(length, 0);
            assert_eq!(RecipientKey::from_file(&file(&bytes)), Err(RecipientError::Check), "{length} bytes");
        }
    }

    /// The vectors of the X-Wing draft, in short: each as BLAKE3 of public key, ciphertext and shared secret.
    #[test]
    fn x_wing_gives_the_published_vectors() {
        for vector in VECTORS {
            let bytes = |text: &str| hex::decode(text).expect("hex");
            let seed: [u8; 32] = bytes(vector.seed).try_into().expect("32 bytes");
            let random: [u8; 64] = bytes(vector.eseed).try_into().expect("64 bytes");
            let secret = DecapsulationKey::from(seed);
            let public = x_wing::Decapsulator::encapsulation_key(&secret).clone();
            assert_eq!(blake3::hash(public.to_bytes().as_slice()).to_hex().as_str(), vector.public_key_blake3);
            let (encapsulated, shared) = public.encapsulate_deterministic(&random.into());
            assert_eq!(blake3::hash(encapsulated.as_slice()).to_hex().as_str(), vector.ciphertext_blake3);
            assert_eq!(hex::encode(shared.as_slice()), vector.shared_secret);
            assert_eq!(secret.decapsulate(&encapsulated), shared);
        }
    }

    struct Vector {
        seed: &'static str,
        eseed: &'static str,
        public_key_blake3: &'static str,
        ciphertext_blake3: &'static str,
        shared_secret: &'static str,
    }

    const VECTORS: [Vector; 3] = [
        Vector {
            seed: "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
            eseed: "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2\
                    35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
            public_key_blake3: "feef93be794a93e4e5e9ea6b57c0cb74477e7624a4a5cc269372392b8cb49ca2",
            ciphertext_blake3: "ad7464c3f36f257dfe3369a82fef9f60f84fd14fffc232ec50568de4511e0ff3",
            shared_secret: "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
        },
        Vector {
            seed: "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
            eseed: "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdef\
                    aee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
            public_key_blake3: "c310cb621a32d3c176d4d192f76e1fd47ad1d5fcd138580eab65ded0f9ee2869",
            ciphertext_blake3: "e774162ad8d6442bc0bb4debd8cc4c0f1523dd4e8d38726f6c80319ff0f96d6b",
            shared_secret: "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
        },
        Vector {
            seed: "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
            eseed: "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619\
                    f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
            public_key_blake3: "2a69743aecaec991bdb7b5d81d2e2c6884b26257cea5760c103f53de45a9614a",
            ciphertext_blake3: "3bef16171cd6674dca1bba9091fa8d8fe3beed1837b3addf88a47f0861d0689e",
            shared_secret: "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
        },
    ];
}
