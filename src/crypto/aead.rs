//! AES-256-GCM (NIST SP 800-38D): what seals stripes and the sealed part of a manifest.
//!
//! A key seals each nonce once: a data key is born with one attempt to write an object and dies with it, and the key of
//! a sealed part belongs to one object id.

use super::OpenError;
use crate::id::{Geometry, ObjectId, StoreId};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What sealing adds to whatever is sealed, in bytes: the tag.
pub const TAG_BYTES: usize = 16;

/// What the associated data of a stripe begins with.
const STRIPE_PURPOSE: &[u8] = b"shard v1 stripe\n";
/// What the associated data of a sealed part begins with.
const SEALED_PART_PURPOSE: &[u8] = b"shard v1 sealed part\n";
/// The format version that the associated data binds.
const FORMAT: u16 = 1;

/// The key that seals one object's stripes: 256 random bits, drawn for one attempt and never used again.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DataKey {
    bytes: [u8; 32],
}

impl DataKey {
    /// From 32 random bytes, which the caller draws and then wipes; the copy that is handed over is wiped here.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self { bytes };
        bytes.zeroize();
        key
    }

    /// The bytes, to be sealed and stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// In constant time.
impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(secret)")
    }
}

/// What everything that is sealed of an object is bound to, so that it opens nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealContext {
    /// The store.
    pub store: StoreId,
    /// The object.
    pub object: ObjectId,
    /// k and n.
    pub geometry: Geometry,
    /// Length of a full block, in bytes.
    pub block_bytes: u32,
    /// The seal's byte.
    pub seal: u8,
}

impl SealContext {
    fn associated_data(&self, purpose: &[u8]) -> Vec<u8> {
        let mut data = purpose.to_vec();
        data.extend_from_slice(&FORMAT.to_le_bytes());
        data.extend_from_slice(self.store.as_bytes());
        data.extend_from_slice(self.object.as_bytes());
        data.extend_from_slice(&[self.geometry.data_shards() as u8, self.geometry.total_shards() as u8]);
        data.extend_from_slice(&self.block_bytes.to_le_bytes());
        data.push(self.seal);
        data
    }
}

/// Seals and opens the stripes of one object.
pub struct StripeCipher {
    key: LessSafeKey,
    associated_data: Vec<u8>,
}

impl StripeCipher {
    /// For the object that the context names.
    pub fn new(key: &DataKey, context: &SealContext) -> Self {
        Self { key: aes_256_gcm(&key.bytes), associated_data: context.associated_data(STRIPE_PURPOSE) }
    }

    /// Seals what is in the buffer but its last [`TAG_BYTES`] bytes, which become the tag. A buffer shorter than a tag stays
    /// as it is.
    pub fn seal_in_place(&self, stripe_index: u64, is_last: bool, buffer: &mut [u8]) {
        let Some(text_bytes) = buffer.len().checked_sub(TAG_BYTES) else { return };
        let (text, room) = buffer.split_at_mut(text_bytes);
        let associated_data = Aad::from(self.associated_data.as_slice());
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(stripe_index, is_last), associated_data, text)
            .expect("a stripe is far shorter than what AES-GCM can seal");
        room.copy_from_slice(tag.as_ref());
    }

    /// What two ciphers have in common only if their keys are the same. No stripe has its number; it never leaves memory.
    pub fn fingerprint(&self) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        self.seal_in_place(u64::MAX, true, &mut tag);
        tag
    }

    /// Opens what was sealed, tag included; what was sealed is then at the buffer's beginning. The buffer's content is of no
    /// use after an error.
    pub fn open_in_place(&self, stripe_index: u64, is_last: bool, buffer: &mut [u8]) -> Result<(), OpenError> {
        let associated_data = Aad::from(self.associated_data.as_slice());
        let opened = self.key.open_in_place(nonce(stripe_index, is_last), associated_data, buffer);
        opened.map(drop).map_err(|_| OpenError)
    }
}

impl fmt::Debug for StripeCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StripeCipher(secret)")
    }
}

/// The stripe's number and whether it is the last: an object that lost its end does not open.
pub(super) fn nonce(stripe_index: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&stripe_index.to_le_bytes());
    bytes[8] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

pub(super) fn aes_256_gcm(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes every 32 bytes"))
}

/// Seals the sealed part of a manifest under a key that seals nothing else.
pub(super) fn seal_part(key: &[u8; 32], context: &SealContext, text: &[u8]) -> Vec<u8> {
    seal_once(key, &context.associated_data(SEALED_PART_PURPOSE), text)
}

/// Opens what [`seal_part`] made.
pub(super) fn open_part(key: &[u8; 32], context: &SealContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    open_once(key, &context.associated_data(SEALED_PART_PURPOSE), sealed)
}

/// Seals a short text under a key that seals nothing else.
pub(super) fn seal_once(key: &[u8; 32], associated_data: &[u8], text: &[u8]) -> Vec<u8> {
    // Room for the tag too, so that no copy of the text is left behind by growing.
    let mut sealed = Vec::with_capacity(text.len() + TAG_BYTES);
    sealed.extend_from_slice(text);
    aes_256_gcm(key)
        .seal_in_place_append_tag(nonce(0, true), Aad::from(associated_data), &mut sealed)
        .expect("a record is far shorter than what AES-GCM can seal");
    sealed
}

/// Opens what [`seal_once`] made.
pub(super) fn open_once(
    key: &[u8; 32],
    associated_data: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut text = Zeroizing::new(sealed.to_vec());
    let opened = aes_256_gcm(key).open_in_place(nonce(0, true), Aad::from(associated_data), &mut text);
    let text_bytes = opened.map_err(|_| OpenError)?.len();
    text.truncate(text_bytes);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> SealContext {
        SealContext {
            store: StoreId([1; 32]),
            object: ObjectId([2; 16]),
            geometry: Geometry::new(3, 5).expect("geometry"),
            block_bytes: 1024,
            seal: 1,
        }
    }

    fn sealed(text: &[u8], stripe_index: u64, is_last: bool) -> Vec<u8> {
        let mut buffer = [text, &[0; TAG_BYTES]].concat();
        StripeCipher::new(&DataKey::from_bytes([7; 32]), &context()).seal_in_place(stripe_index, is_last, &mut buffer);
        buffer
    }

    /// Whether it opens, and then to what.
    fn opened(key: [u8; 32], context: &SealContext, place: (u64, bool), sealed: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = sealed.to_vec();
        let cipher = StripeCipher::new(&DataKey::from_bytes(key), context);
        cipher.open_in_place(place.0, place.1, &mut buffer).ok()?;
        buffer.truncate(buffer.len() - TAG_BYTES);
        Some(buffer)
    }

    #[test]
    fn a_stripe_opens_in_its_own_place_alone() {
        let stripe = sealed(b"some bytes", 4, false);
        let right = ([7; 32], context(), (4, false));
        assert_eq!(opened(right.0, &right.1, right.2, &stripe).as_deref(), Some(&b"some bytes"[..]));
        assert_eq!(opened([8; 32], &right.1, right.2, &stripe), None);
        assert_eq!(opened(right.0, &right.1, (5, false), &stripe), None);
        assert_eq!(opened(right.0, &right.1, (4, true), &stripe), None);
        let others = [
            SealContext { store: StoreId([9; 32]), ..right.1 },
            SealContext { object: ObjectId([9; 16]), ..right.1 },
            SealContext { geometry: Geometry::new(2, 5).expect("geometry"), ..right.1 },
            SealContext { geometry: Geometry::new(3, 6).expect("geometry"), ..right.1 },
            SealContext { block_bytes: 512, ..right.1 },
            SealContext { seal: 2, ..right.1 },
        ];
        for other in others {
            assert_eq!(opened(right.0, &other, right.2, &stripe), None, "{other:?}");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_other_length_opens() {
        let stripe = sealed(b"some bytes", 0, true);
        for bit in 0..stripe.len() * 8 {
            let mut flipped = stripe.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened([7; 32], &context(), (0, true), &flipped), None, "bit {bit}");
        }
        for length in 0..stripe.len() {
            let mut cut = stripe[..length].to_vec();
            let cipher = StripeCipher::new(&DataKey::from_bytes([7; 32]), &context());
            assert_eq!(cipher.open_in_place(0, true, &mut cut), Err(OpenError), "{length} bytes");
        }
    }

    #[test]
    fn a_sealed_part_is_no_stripe() {
        let part = seal_part(&[7; 32], &context(), b"text");
        assert_eq!(open_part(&[7; 32], &context(), &part).expect("it opens").as_slice(), b"text");
        assert_eq!(opened([7; 32], &context(), (0, true), &part), None);
        assert_eq!(open_part(&[7; 32], &context(), &sealed(b"text", 0, true)).err(), Some(OpenError));
    }

    /// The vectors of the GCM specification (McGrew and Viega), test cases 13 to 16: AES-256 with 96-bit nonces.
    #[test]
    fn aes_256_gcm_gives_the_published_vectors() {
        let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
        let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                    b16aedf5aa0de657ba637b391aafd255";
        let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                      c5f61e6393ba7a0abcc9f662898015ad";
        let cases = [
            (&"0".repeat(64), &"0".repeat(24), String::new(), "", String::new(), "530f8afbc74536b9a963b4f1c4cb738b"),
            (
                &"0".repeat(64),
                &"0".repeat(24),
                "0".repeat(32),
                "",
                "cea7403d4d606b6e074ec5d3baf39d18".to_owned(),
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (
                &key.to_owned(),
                &"cafebabefacedbaddecaf888".to_owned(),
                text.to_owned(),
                "",
                sealed.to_owned(),
                "b094dac5d93471bdec1a502270e3cc6c",
            ),
            (
                &key.to_owned(),
                &"cafebabefacedbaddecaf888".to_owned(),
                text[..120].to_owned(),
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                sealed[..120].to_owned(),
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ];
        for (key, nonce, text, associated_data, sealed, tag) in cases {
            let bytes = |text: &str| hex::decode(text).expect("hex");
            let mut buffer = bytes(&text);
            let nonce = Nonce::assume_unique_for_key(bytes(nonce).try_into().expect("12 bytes"));
            let key = aes_256_gcm(bytes(key).as_slice().try_into().expect("32 bytes"));
            let associated_data = Aad::from(bytes(associated_data));
            let found = key.seal_in_place_separate_tag(nonce, associated_data, &mut buffer).expect("sealed");
            assert_eq!((hex::encode(&buffer), hex::encode(found.as_ref())), (sealed, tag.to_owned()));
        }
    }
}
