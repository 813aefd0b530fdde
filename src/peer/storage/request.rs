//! What a store asks of a node.

use super::super::wire::{Fields, WireError};
use super::{STORAGE_VERSION, StorageMark, put_optional, put_shard, take_optional, take_shard};
use crate::id::ShardId;
use std::ops::Range;

const CREATE: u8 = 1;
const REPLACE: u8 = 2;
const READ: u8 = 3;
const HEAD: u8 = 4;
const DELETE: u8 = 5;
const LIST: u8 = 6;
const STATS: u8 = 7;
const READ_MARK: u8 = 8;
const WRITE_MARK: u8 = 9;
const CLEAR_UNFINISHED: u8 = 10;

/// A request: the first frame of a stream of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageRequest {
    /// A new shard, whose bytes follow.
    Create(ShardId),
    /// Bytes that take the place of a shard's, and follow.
    Replace(ShardId),
    /// Bytes of a shard.
    Read {
        /// Which shard.
        shard: ShardId,
        /// Which bytes. The end may be before the start: that is refused where it is known how long the shard is.
        range: Range<u64>,
    },
    /// How long a shard is.
    Head(ShardId),
    /// A shard is to go.
    Delete(ShardId),
    /// The next page of the owner's shards.
    List {
        /// After which.
        after: Option<ShardId>,
    },
    /// How much there is, and how much more fits.
    Stats,
    /// The mark.
    ReadMark,
    /// Another mark.
    WriteMark(StorageMark),
    /// What an interrupted write of a shard left is to go.
    ClearUnfinished(ShardId),
}

impl StorageRequest {
    /// The bytes of the request.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![STORAGE_VERSION];
        let mut on_shard = |kind: u8, shard: ShardId| {
            bytes.push(kind);
            put_shard(shard, &mut bytes);
        };
        match self {
            Self::Create(shard) => on_shard(CREATE, *shard),
            Self::Replace(shard) => on_shard(REPLACE, *shard),
            Self::Head(shard) => on_shard(HEAD, *shard),
            Self::Delete(shard) => on_shard(DELETE, *shard),
            Self::ClearUnfinished(shard) => on_shard(CLEAR_UNFINISHED, *shard),
            Self::Read { shard, range } => {
                on_shard(READ, *shard);
                bytes.extend_from_slice(&range.start.to_le_bytes());
                bytes.extend_from_slice(&range.end.to_le_bytes());
            }
            Self::List { after } => {
                bytes.push(LIST);
                put_optional(*after, &mut bytes, put_shard);
            }
            Self::Stats => bytes.push(STATS),
            Self::ReadMark => bytes.push(READ_MARK),
            Self::WriteMark(mark) => {
                bytes.push(WRITE_MARK);
                mark.put(&mut bytes);
            }
        }
        bytes
    }

    /// Reads them again.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let version = fields.u8()?;
        if version != STORAGE_VERSION {
            return Err(WireError::Unknown { what: "version of the storage service", value: u64::from(version) });
        }
        let request = match fields.u8()? {
            CREATE => Self::Create(take_shard(&mut fields)?),
            REPLACE => Self::Replace(take_shard(&mut fields)?),
            READ => Self::Read { shard: take_shard(&mut fields)?, range: fields.u64()?..fields.u64()? },
            HEAD => Self::Head(take_shard(&mut fields)?),
            DELETE => Self::Delete(take_shard(&mut fields)?),
            LIST => Self::List { after: take_optional(&mut fields, take_shard)? },
            STATS => Self::Stats,
            READ_MARK => Self::ReadMark,
            WRITE_MARK => Self::WriteMark(StorageMark::take(&mut fields)?),
            CLEAR_UNFINISHED => Self::ClearUnfinished(take_shard(&mut fields)?),
            kind => return Err(WireError::Unknown { what: "request to the storage service", value: u64::from(kind) }),
        };
        fields.end()?;
        Ok(request)
    }
}
