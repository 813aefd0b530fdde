//! A stripe of payload becomes n blocks and their leaves, and comes back from any k of them.
//!
//! *What it is.* The pure middle of everything: [`Layout`] (where payload bytes lie in stripes and blocks),
//! [`StripeEncoder`] (seal, encode, hash, check), [`StripeDecoder`] (reconstruct, open, check padding), and
//! [`ShardSet`], the same for bytes that are in memory whole.
//!
//! *What it knows.* Geometry, coding, leaves, seals.
//!
//! *What it does not know.* Where blocks come from or go to; files, backends, manifests, time.
//!
//! *Invariants.* An encoded stripe has passed a parity check. A stripe is decoded from verified blocks only. Padding is
//! zero or the stripe is refused.
//!
//! ```text
//!            payload bytes of one stripe                 block i of the stripe goes to shard i
//!  ┌────────────┬────────────┬──────────┬───┐    ┌─────────┬─────────┬─────────┬─────────┬─────────┐
//!  │  block 0   │  block 1   │ block 2  │pad│ ─▶ │ block 0 │ block 1 │ block 2 │ block 3 │ block 4 │
//!  └────────────┴────────────┴──────────┴───┘    └────┬────┴────┬────┴────┬────┴────┬────┴────┬────┘
//!                k data blocks                       leaf      leaf      leaf      leaf      leaf
//! ```

mod buffer;
mod decoder;
mod encoder;
mod layout;
mod shard_set;
#[cfg(test)]
mod tests;

pub use buffer::{Buffer, BufferPool};
pub use decoder::{DecodeError, StripeDecoder, StripePayload};
pub use encoder::{Check, EncodeError, EncodedStripe, FilledStripe, StripeEncoder};
pub use layout::{Layout, LayoutError, MAX_CONTENT_BYTES, MAX_LEAVES, MAX_NARROW_OBJECT_BYTES, StripeShape};
pub use shard_set::{
    IntegrityReport, RepairReport, SHARD_SET_SCHEMA, ShardSet, ShardSetDescription, ShardSetError, ShardSetStats,
};

use crate::crypto::TAG_BYTES;
use crate::id::Geometry;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Room that every object keeps for its index beside [`MAX_CONTENT_BYTES`], in bytes.
pub const MAX_INDEX_ALLOWANCE: u64 = 16 * 1024 * 1024;

/// How an object is sealed: its stripes before they are encoded, and what only some may read of its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seal {
    /// Not at all: whoever holds the data shards can read.
    None,
    /// Under the store's master key.
    Key,
    /// Under a secret of which each shard has a share: any k shards open it.
    Dispersed,
    /// To the public half of a master key: whoever has that half can seal, only the master key opens.
    Recipient,
}

impl Seal {
    /// Every seal.
    pub const ALL: [Self; 4] = [Self::None, Self::Key, Self::Dispersed, Self::Recipient];

    /// The byte that the object root binds.
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Key => 1,
            Self::Dispersed => 2,
            Self::Recipient => 3,
        }
    }

    /// The seal that has this byte.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|seal| seal.code() == code)
    }

    /// How many key shares an object has: one in each shard, or none.
    pub fn share_count(self, geometry: Geometry) -> usize {
        match self {
            Self::None | Self::Key | Self::Recipient => 0,
            Self::Dispersed => geometry.total_shards(),
        }
    }

    /// How many shards one zone may have without being able to read the object, or k of what may be lost; `None` where
    /// holding shards opens nothing.
    pub fn zone_limit(self, geometry: Geometry) -> Option<usize> {
        match self {
            Self::None | Self::Key | Self::Recipient => None,
            Self::Dispersed => Some(geometry.parity_shards().min(geometry.data_shards() - 1)),
        }
    }

    /// How many bytes sealing adds to a stripe.
    pub fn overhead_bytes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Key | Self::Dispersed | Self::Recipient => TAG_BYTES as u32,
        }
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Key => "key",
            Self::Dispersed => "dispersed",
            Self::Recipient => "recipient",
        })
    }
}
