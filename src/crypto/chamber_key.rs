//! What a chamber is sealed with: keys and values, each bound to its place.
//!
//! A text is sealed with AES-256-GCM under a key of its own, which follows from its place and, where one place may hold
//! different texts in its life, from a salt that stands before it: a keyed hash of place and text, as in a synthetic
//! initialization vector (RFC 5297). No randomness is needed, and no key ever seals two texts.

use super::aead::{self, TAG_BYTES};
use super::{Keyring, OpenError, context};
use crate::id::NodeId;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How many bytes stand before what is sealed with a salt. Two texts of one place would have to agree in 96 bits of a hash.
const SALT_BYTES: usize = 12;
/// What the associated data begins with.
const PURPOSE: &[u8] = b"shard v1 chamber record\n";

/// The key of one node's chambers under one secret: another node has another, and so has each chamber of a node.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ChamberKey {
    #[zeroize(skip)]
    node: NodeId,
    names: [u8; 32],
    check: [u8; 32],
    tags: [u8; 32],
    salts: [u8; 32],
    records: [u8; 32],
    snapshots: [u8; 32],
    snapshot_check: [u8; 32],
}

impl ChamberKey {
    /// How many bytes sealing adds where the place says what the text is.
    pub const FIXED_OVERHEAD_BYTES: usize = TAG_BYTES;
    /// How many it adds elsewhere.
    pub const OVERHEAD_BYTES: usize = SALT_BYTES + TAG_BYTES;

    /// From 32 random bytes, for one node.
    pub fn from_secret(node: NodeId, secret: &[u8; 32]) -> Self {
        let material = Zeroizing::new([secret.as_slice(), node.as_bytes()].concat());
        let derive = |purpose| blake3::derive_key(purpose, &material);
        Self {
            node,
            names: derive(context::CHAMBER_NAMES),
            check: derive(context::CHAMBER_CHECK),
            tags: derive(context::CHAMBER_TAGS),
            salts: derive(context::CHAMBER_SALTS),
            records: derive(context::CHAMBER_RECORDS),
            snapshots: derive(context::CHAMBER_SNAPSHOTS),
            snapshot_check: derive(context::CHAMBER_CHECK),
        }
    }

    /// The key of the node's chamber of this name. What is sealed in one opens in no other, and equal keys have other tags;
    /// snapshots are the node's, and may become a chamber of another name.
    pub fn of_chamber(self, name: &str) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        keyed(&self.names, &[name.as_bytes()]).fill(secret.as_mut_slice());
        let mut key = Self::from_secret(self.node, &secret);
        key.snapshots = self.snapshots;
        key.snapshot_check = self.snapshot_check;
        key
    }

    /// Whose chambers it opens.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Tells this key from another without telling it.
    pub fn check_value(&self) -> [u8; 32] {
        self.check
    }

    /// The same for what opens snapshots.
    pub fn snapshot_check_value(&self) -> [u8; 32] {
        self.snapshot_check
    }

    /// What stands for a text where it is looked up: equal for equal texts of one purpose, and telling nothing else.
    pub fn tag(&self, purpose: &[u8], text: &[u8]) -> [u8; 16] {
        let mut tag = [0; 16];
        keyed(&self.tags, &[purpose, text]).fill(&mut tag);
        tag
    }

    /// Seals the one text that its place can ever hold.
    pub fn seal_fixed(&self, place: &[u8], text: &[u8]) -> Vec<u8> {
        aead::seal_once(&self.record_key(&[b"fixed", place]), &self.associated_data(place), text)
    }

    /// Opens it again.
    pub fn open_fixed(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        aead::open_once(&self.record_key(&[b"fixed", place]), &self.associated_data(place), sealed)
    }

    /// Seals a text; it opens in this place alone.
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Vec<u8> {
        let mut salt = [0; SALT_BYTES];
        keyed(&self.salts, &[place, text]).fill(&mut salt);
        let sealed = aead::seal_once(&self.record_key(&[b"salted", place, &salt]), &self.associated_data(place), text);
        [salt.as_slice(), &sealed].concat()
    }

    /// Opens it again.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_BYTES>().ok_or(OpenError)?;
        aead::open_once(&self.record_key(&[b"salted", place, salt]), &self.associated_data(place), sealed)
    }

    /// The key of a snapshot that begins with this header, which has random bytes that no other has.
    pub(super) fn snapshot_key(&self, header: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        keyed(&self.snapshots, &[header]).fill(key.as_mut_slice());
        key
    }

    fn record_key(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        keyed(&self.records, parts).fill(key.as_mut_slice());
        key
    }

    fn associated_data(&self, place: &[u8]) -> Vec<u8> {
        [PURPOSE, self.node.as_bytes(), place].concat()
    }
}

impl Keyring {
    /// What seals the chambers of a node on a machine that has these keys. It comes from the first key, so that a change of
    /// key leaves them readable.
    pub fn chamber_key(&self, node: NodeId) -> ChamberKey {
        let secret = Zeroizing::new(blake3::derive_key(context::CHAMBER, &self.first().bytes));
        ChamberKey::from_secret(node, &secret)
    }
}

/// Several parts under one hash; their lengths keep them apart.
fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.finalize_xof()
}

impl fmt::Debug for ChamberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChamberKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::MasterKey;

    fn key(node: u8, secret: u8) -> ChamberKey {
        ChamberKey::from_secret(NodeId([node; 32]), &[secret; 32])
    }

    #[test]
    fn a_text_opens_under_its_key_on_its_node_and_in_its_place_alone() {
        let own = key(1, 1);
        let (salted, fixed) = (own.seal(b"place", b"text"), own.seal_fixed(b"place", b"text"));
        assert_eq!(salted.len(), 4 + ChamberKey::OVERHEAD_BYTES);
        assert_eq!(fixed.len(), 4 + ChamberKey::FIXED_OVERHEAD_BYTES);
        assert_eq!(own.open(b"place", &salted).expect("it opens").as_slice(), b"text");
        assert_eq!(own.open_fixed(b"place", &fixed).expect("it opens").as_slice(), b"text");
        let named = |name: &str| key(1, 1).of_chamber(name);
        let (one, two) = (named("one"), named("two"));
        assert_eq!(one.check_value(), named("one").check_value());
        assert_ne!(one.check_value(), two.check_value());
        assert_eq!(one.snapshot_check_value(), two.snapshot_check_value());
        assert_eq!(one.snapshot_key(b"header"), own.snapshot_key(b"header"));
        assert_ne!(one.tag(b"purpose", b"text"), two.tag(b"purpose", b"text"));
        for (other, place) in
            [(&key(2, 1), b"place"), (&key(1, 2), b"place"), (&one, b"place"), (&two, b"place"), (&own, b"elsew")]
        {
            assert_eq!(other.open(place, &salted).err(), Some(OpenError));
            assert_eq!(other.open_fixed(place, &fixed).err(), Some(OpenError));
        }
        assert_eq!(own.open(b"place", &fixed).err(), Some(OpenError));
    }

    #[test]
    fn no_flipped_bit_and_no_other_length_opens() {
        let own = key(1, 1);
        let sealed = own.seal(b"place", b"some text");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(own.open(b"place", &flipped).err(), Some(OpenError), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(own.open(b"place", &sealed[..length]).err(), Some(OpenError), "{length} bytes");
        }
    }

    #[test]
    fn a_key_outlives_a_change_of_the_master_key_and_is_shown_by_nothing() {
        let master = |number: u8| MasterKey::from_bytes([number; 32]);
        let node = NodeId([9; 32]);
        let one = Keyring::new(master(1)).chamber_key(node);
        let two = Keyring::from_keys(vec![master(1), master(2)]).expect("a keyring").chamber_key(node);
        assert_eq!(one.check_value(), two.check_value());
        assert_ne!(Keyring::new(master(2)).chamber_key(node).check_value(), one.check_value());
        assert_eq!(format!("{one:?}"), "ChamberKey(secret)");
        assert_ne!(one.tag(b"a", b"bc"), one.tag(b"ab", b"c"));
    }
}
