//! What is said on a stream of the storage service, whose number is [`STORAGE_SERVICE`].
//!
//! *What it is.* One [`StorageCall`], which is one [`StorageRequest`] and the grant by which it is made, a stream, and what is
//! answered ([`StorageAnswer`]), each in a frame. `PROTOCOL.md` has the bytes.
//!
//! *What it knows.* Names of shards, lengths, pages, and why a request is refused.
//!
//! *What it does not know.* Where shards are kept, whose they are, what is in them.
//!
//! *Invariants.* Every parser takes every bytes. What is read and written again is the same bytes. A page, a reason, a
//! challenge, a path and a piece have limits that are compared before anything is held for them.
//!
//! ```text
//! create, replace   request →  ← ready   then piece → ← ready …   then empty piece →  ← number: the shard's length
//! read              request →  ← number  then ← pieces, together so many bytes
//! challenge         request →  ← path  ← block   ← path  ← block …   for each block that was asked for
//! anything else     request →  ← answer
//! ```

mod answer;
mod call;
mod notice;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{RefusalKind, ScrubPage, StorageAnswer, StoragePage, StorageStats};
pub use call::StorageCall;
pub use notice::{MAX_NAMED_SHARDS, MAX_NOTICE_BYTES, MAX_NOTICES, NoticeKind, OwnerNotice};
pub use request::StorageRequest;

use super::frame::MAX_MESSAGE_BYTES;
use super::wire::{Fields, WireError};
use crate::id::{BackendId, ObjectId, ShardId, StoreId};

/// The number of the storage service among those that streams are opened for.
pub const STORAGE_SERVICE: u64 = 1;
/// What both sides speak.
pub const STORAGE_VERSION: u8 = 1;
/// The largest request: a challenge with a grant before it.
pub const MAX_REQUEST_BYTES: usize = 1024;
/// The most blocks that one challenge asks for.
pub const MAX_CHALLENGED_BLOCKS: usize = 64;
/// The most shards that are named to a node that is told of damage.
pub const MAX_TOLD_SHARDS: usize = 32;
/// The largest answer: a page that is full.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024;
/// The most shards on a page of a listing.
pub const MAX_PAGE_SHARDS: usize = 1000;
/// The longest reason of a refusal.
pub const MAX_REASON_BYTES: usize = 512;
/// The most bytes of a shard in one frame.
pub const MAX_PIECE_BYTES: usize = MAX_MESSAGE_BYTES;

/// What an owner's shards are marked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageMark {
    /// The store.
    pub store: StoreId,
    /// The backend.
    pub backend: BackendId,
}

impl StorageMark {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.store.as_bytes());
        bytes.extend_from_slice(self.backend.as_bytes());
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        Ok(Self { store: StoreId(fields.array()?), backend: BackendId(fields.array()?) })
    }
}

fn put_shard(shard: ShardId, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(shard.object.as_bytes());
    bytes.push(shard.index);
}

fn take_shard(fields: &mut Fields<'_>) -> Result<ShardId, WireError> {
    Ok(ShardId { object: ObjectId(fields.array()?), index: fields.u8()? })
}

/// Something that may be absent: 0, or 1 and what it is.
fn put_optional<T>(value: Option<T>, bytes: &mut Vec<u8>, put: impl FnOnce(T, &mut Vec<u8>)) {
    bytes.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, bytes);
    }
}

fn take_optional<'a, T>(
    fields: &mut Fields<'a>,
    take: impl FnOnce(&mut Fields<'a>) -> Result<T, WireError>,
) -> Result<Option<T>, WireError> {
    match fields.u8()? {
        0 => Ok(None),
        1 => take(fields).map(Some),
        other => Err(WireError::Unknown { what: "sign of presence", value: u64::from(other) }),
    }
}
