//! The nouns everything else is said in: identifiers, digests, geometry and redundancy levels.
//!
//! Knows nothing of files, hashing, randomness or time: an id is made from bytes that the caller
//! brings. A [`Geometry`] that exists is valid.

mod reserved;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The largest number of shards an object may have; a shard index fits in a byte.
pub const MAX_TOTAL_SHARDS: usize = 255;
/// The block size while the stripe stays within [`MAX_STRIPE_BYTES`], in bytes.
pub const MAX_BLOCK_BYTES: u32 = 256 * 1024;
/// All n blocks of one stripe together are at most this many bytes, so that a few stripes in
/// flight stay within the memory promise at every geometry.
pub const MAX_STRIPE_BYTES: u64 = 4 * 1024 * 1024;

/// Why text or numbers are not an id or a geometry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not exactly the hexadecimal digits of the type.
    #[error("{text:?} is not {expected_digits} hexadecimal digits")]
    NotHex {
        /// What was given.
        text: String,
        /// How many digits the type has.
        expected_digits: usize,
    },
    /// The counts do not satisfy 1 ≤ data < total ≤ 255.
    #[error("{data_shards}/{total_shards} is no geometry: it takes 1 ≤ K < N ≤ 255")]
    Geometry {
        /// k.
        data_shards: usize,
        /// n.
        total_shards: usize,
    },
    /// The text names no level and is not `K/N`.
    #[error("{text:?} is neither a level (minimal, personal, federation, paranoid) nor K/N")]
    Level {
        /// What was given.
        text: String,
    },
}

/// A text is not as many lower-case hexadecimal digits as it should be; it is not quoted, since it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are not the lower-case hexadecimal digits that should be here")]
pub(crate) struct NotLowerHex;

/// Fills `bytes` from exactly two lower-case hexadecimal digits for each: there is one way to write them.
pub(crate) fn read_hex(text: &str, bytes: &mut [u8]) -> Result<(), NotLowerHex> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(NotLowerHex);
    }
    hex::decode_to_slice(text, bytes).map_err(|_| NotLowerHex)
}

/// Reads an id from what it is written as: text for people, bytes for what is not for them.
struct IdVisitor<T>(fn(&str) -> Result<T, Error>, fn(&[u8]) -> Option<T>);

impl<T> serde::de::Visitor<'_> for IdVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        self.0(text).map_err(E::custom)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        self.1(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &"an id of as many bytes as its type has"))
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// How many bytes it has.
            pub const BYTES: usize = $bytes;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// From a slice of exactly [`Self::BYTES`] bytes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let mut bytes = [0; $bytes];
                match read_hex(text, &mut bytes) {
                    Ok(()) => Ok(Self(bytes)),
                    Err(NotLowerHex) => Err(Error::NotHex { text: text.to_owned(), expected_digits: $bytes * 2 }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(IdVisitor(str::parse, Self::from_slice))
                } else {
                    deserializer.deserialize_bytes(IdVisitor(str::parse, Self::from_slice))
                }
            }
        }
    };
}

byte_id!(
    /// A BLAKE3 digest, 32 bytes; lower-case hex as text.
    Digest, 32
);
byte_id!(
    /// What an object is called: 16 bytes, random but for those that say which writer gave it; never used twice.
    ObjectId, 16
);
byte_id!(
    /// What a file version is called: 16 bytes, random but for those that say which writer gave it.
    VersionId, 16
);
byte_id!(
    /// A machine that adds to a store and cannot read it, called by 6 bytes of a hash of its signer key.
    WriterId, 6
);
byte_id!(
    /// What a backend is called in its mark, in the catalog and in removal records: 16 random bytes.
    BackendId, 16
);
byte_id!(
    /// The hash of a store's first signer key, which pins who may sign its manifests.
    StoreId, 32
);
byte_id!(
    /// Whose records a chamber keeps: 32 bytes that tell one node from all others.
    NodeId, 32
);
byte_id!(
    /// Another node, as one node sees it: its [`NodeId`].
    PeerId, 32
);
byte_id!(
    /// A message between nodes: 16 random bytes.
    MessageId, 16
);
byte_id!(
    /// A session between nodes: 16 random bytes.
    SessionId, 16
);
byte_id!(
    /// The record of one challenge to a backend: 16 random bytes.
    ProofId, 16
);
byte_id!(
    /// One process at work on a store, named by its lock file: 16 random bytes.
    ProcessId, 16
);

impl From<NodeId> for PeerId {
    fn from(node: NodeId) -> Self {
        Self(node.0)
    }
}

/// What an id begins with that a writer gave; those that a store's owner gives never begin so.
const WRITER_MARK: u8 = 0xff;

impl WriterId {
    /// An id of this writer: mark, writer, and what is left of the random bytes.
    fn mark(self, mut random: [u8; 16]) -> [u8; 16] {
        random[0] = WRITER_MARK;
        random[1..=Self::BYTES].copy_from_slice(&self.0);
        random
    }

    fn marked_in(id: &[u8; 16]) -> Option<Self> {
        let (mark, rest) = id.split_first()?;
        (*mark == WRITER_MARK).then(|| Self::from_slice(&rest[..Self::BYTES])).flatten()
    }
}

macro_rules! given_by {
    ($($name:ident),*) => {$(
        impl $name {
            /// A new id from random bytes: one that only this writer gives, or, without a writer, one that none does.
            pub fn given_by(writer: Option<WriterId>, mut random: [u8; 16]) -> Self {
                match writer {
                    Some(writer) => Self(writer.mark(random)),
                    None => {
                        random[0] ^= if random[0] == WRITER_MARK { 0x80 } else { 0 };
                        Self(reserved::unlike_any(random))
                    }
                }
            }

            /// The writer that gave it; `None` where the store's owner did.
            pub fn writer(&self) -> Option<WriterId> {
                WriterId::marked_in(&self.0)
            }
        }
    )*};
}

given_by!(ObjectId, VersionId);

impl ObjectId {
    /// No id that a writer gives is less.
    pub const FIRST_OF_WRITERS: Self = Self([WRITER_MARK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// One shard of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// The object.
    pub object: ObjectId,
    /// Which shard, 0-based: data shards first, then parity.
    pub index: u8,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.object, self.index)
    }
}

impl FromStr for ShardId {
    type Err = Error;

    /// Reads what `Display` writes; nothing else, so that a shard has one name.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotHex { text: text.to_owned(), expected_digits: ObjectId::BYTES * 2 };
        let (object, index) = text.split_once('.').ok_or_else(wrong)?;
        let index: u8 = index.parse().map_err(|_| wrong())?;
        let shard = Self { object: object.parse()?, index };
        if shard.to_string() == text { Ok(shard) } else { Err(wrong()) }
    }
}

/// How many data shards (k) and shards in all (n) an object has: 1 ≤ k < n ≤ 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawGeometry", into = "RawGeometry")]
pub struct Geometry {
    data_shards: u8,
    total_shards: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGeometry {
    data_shards: u8,
    total_shards: u8,
}

impl TryFrom<RawGeometry> for Geometry {
    type Error = Error;

    fn try_from(raw: RawGeometry) -> Result<Self, Error> {
        Self::new(usize::from(raw.data_shards), usize::from(raw.total_shards))
    }
}

impl From<Geometry> for RawGeometry {
    fn from(geometry: Geometry) -> Self {
        Self { data_shards: geometry.data_shards, total_shards: geometry.total_shards }
    }
}

impl Geometry {
    /// k data shards of n shards in all; an error unless 1 ≤ k < n ≤ 255.
    pub fn new(data_shards: usize, total_shards: usize) -> Result<Self, Error> {
        if data_shards < 1 || data_shards >= total_shards || total_shards > MAX_TOTAL_SHARDS {
            return Err(Error::Geometry { data_shards, total_shards });
        }
        Ok(Self { data_shards: data_shards as u8, total_shards: total_shards as u8 })
    }

    /// k: any this many shards give the object back.
    pub fn data_shards(self) -> usize {
        usize::from(self.data_shards)
    }

    /// n: the shards there are when nothing is lost.
    pub fn total_shards(self) -> usize {
        usize::from(self.total_shards)
    }

    /// n−k: how many shards may be lost.
    pub fn parity_shards(self) -> usize {
        self.total_shards() - self.data_shards()
    }

    /// The shard indexes, 0..n.
    pub fn shard_indexes(self) -> impl Iterator<Item = u8> + Clone {
        0..self.total_shards
    }

    /// How many shards must be durable before a put counts: k + ⌈(n−k)/2⌉.
    pub fn write_quorum(self) -> usize {
        self.data_shards() + self.parity_shards().div_ceil(2)
    }

    /// The block size new objects use: [`MAX_BLOCK_BYTES`], halved until n blocks fit in
    /// [`MAX_STRIPE_BYTES`].
    pub fn block_bytes(self) -> u32 {
        let mut block_bytes = MAX_BLOCK_BYTES;
        while u64::from(block_bytes) * u64::from(self.total_shards) > MAX_STRIPE_BYTES {
            block_bytes /= 2;
        }
        block_bytes
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.data_shards, self.total_shards)
    }
}

/// How much may be lost: a name for a geometry, or a geometry of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RedundancyLevel {
    /// 2 of 3: any one shard may be lost.
    Minimal,
    /// 3 of 5: any two.
    Personal,
    /// 5 of 9: any four.
    Federation,
    /// 7 of 15: any eight.
    Paranoid,
    /// Any other k of n.
    Custom(Geometry),
}

impl RedundancyLevel {
    /// The four named levels, from the least to the most redundant.
    pub const NAMED: [Self; 4] = [Self::Minimal, Self::Personal, Self::Federation, Self::Paranoid];

    /// Its k and n.
    pub fn geometry(self) -> Geometry {
        let (data_shards, total_shards) = match self {
            Self::Minimal => (2, 3),
            Self::Personal => (3, 5),
            Self::Federation => (5, 9),
            Self::Paranoid => (7, 15),
            Self::Custom(geometry) => return geometry,
        };
        Geometry { data_shards, total_shards }
    }

    /// The level that has this geometry; a custom one where none of the four does.
    pub fn of(geometry: Geometry) -> Self {
        let named = Self::NAMED.into_iter().find(|level| level.geometry() == geometry);
        named.unwrap_or(Self::Custom(geometry))
    }
}

impl From<RedundancyLevel> for Geometry {
    fn from(level: RedundancyLevel) -> Self {
        level.geometry()
    }
}

impl fmt::Display for RedundancyLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minimal => f.write_str("minimal"),
            Self::Personal => f.write_str("personal"),
            Self::Federation => f.write_str("federation"),
            Self::Paranoid => f.write_str("paranoid"),
            Self::Custom(geometry) => geometry.fmt(f),
        }
    }
}

impl FromStr for RedundancyLevel {
    type Err = Error;

    /// A level's name in any case, or `K/N`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        if let Some(level) = Self::NAMED.into_iter().find(|level| level.to_string() == lower) {
            return Ok(level);
        }
        let (data, total) = text.split_once('/').ok_or(Error::Level { text: text.to_owned() })?;
        match (data.parse(), total.parse()) {
            (Ok(data), Ok(total)) => Geometry::new(data, total).map(Self::of),
            _ => Err(Error::Level { text: text.to_owned() }),
        }
    }
}
