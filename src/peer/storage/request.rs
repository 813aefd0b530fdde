//! What a store asks of a node.

use super::super::wire::{Fields, WireError};
use super::{
    MAX_CHALLENGED_BLOCKS, MAX_TOLD_SHARDS, STORAGE_VERSION, StorageMark, put_optional, put_shard, take_optional,
    take_shard,
};
use crate::id::ShardId;
use crate::merkle::BlockSpans;
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
const CHALLENGE: u8 = 11;
const SCRUB: u8 = 12;
const TELL_DAMAGE: u8 = 13;
const NOTICES: u8 = 14;

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
    /// Blocks of a shard, each with the path from its leaf to the root of the shard's tree.
    Challenge {
        /// Which shard.
        shard: ShardId,
        /// Where its blocks and leaves are.
        spans: BlockSpans,
        /// Which blocks, in ascending order: 1 to [`MAX_CHALLENGED_BLOCKS`].
        stripes: Vec<u64>,
    },
    /// The node is to check the next of the owner's shards on its own disk.
    Scrub {
        /// After which.
        after: Option<ShardId>,
    },
    /// So many shards were found damaged or missing at the node: it is told.
    TellDamage {
        /// How many.
        shard_count: u64,
        /// The first of them, 1 to [`MAX_TOLD_SHARDS`].
        shards: Vec<ShardId>,
    },
    /// What the node keeps to be told to the owner.
    Notices {
        /// The number of the newest that whoever asks has; 0 where it has none.
        after: u64,
    },
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
            Self::Challenge { shard, spans, stripes } => {
                on_shard(CHALLENGE, *shard);
                put_spans(spans, &mut bytes);
                bytes.extend_from_slice(&u16::try_from(stripes.len()).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend(stripes.iter().flat_map(|stripe| stripe.to_le_bytes()));
            }
            Self::Scrub { after } => {
                bytes.push(SCRUB);
                put_optional(*after, &mut bytes, put_shard);
            }
            Self::TellDamage { shard_count, shards } => {
                bytes.push(TELL_DAMAGE);
                bytes.extend_from_slice(&shard_count.to_le_bytes());
                bytes.extend_from_slice(&u16::try_from(shards.len()).unwrap_or(u16::MAX).to_le_bytes());
                shards.iter().for_each(|shard| put_shard(*shard, &mut bytes));
            }
            Self::Notices { after } => {
                bytes.push(NOTICES);
                bytes.extend_from_slice(&after.to_le_bytes());
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
            CHALLENGE => take_challenge(&mut fields)?,
            SCRUB => Self::Scrub { after: take_optional(&mut fields, take_shard)? },
            TELL_DAMAGE => Self::TellDamage { shard_count: fields.u64()?, shards: take_told(&mut fields)? },
            NOTICES => Self::Notices { after: fields.u64()? },
            kind => return Err(WireError::Unknown { what: "request to the storage service", value: u64::from(kind) }),
        };
        fields.end()?;
        Ok(request)
    }
}

fn put_spans(spans: &BlockSpans, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&spans.start().to_le_bytes());
    bytes.extend_from_slice(&spans.block_bytes().to_le_bytes());
    bytes.extend_from_slice(&spans.last_block_bytes().to_le_bytes());
    bytes.extend_from_slice(&spans.stripe_count().to_le_bytes());
}

fn take_spans(fields: &mut Fields<'_>) -> Result<BlockSpans, WireError> {
    let (start, block_bytes) = (fields.u64()?, fields.array().map(u32::from_le_bytes)?);
    let (last_block_bytes, stripe_count) = (fields.array().map(u32::from_le_bytes)?, fields.u64()?);
    let spans = BlockSpans::new(start, block_bytes, last_block_bytes, stripe_count);
    spans.ok_or(WireError::Unknown { what: "number of blocks of a shard with these lengths", value: stripe_count })
}

fn take_challenge(fields: &mut Fields<'_>) -> Result<StorageRequest, WireError> {
    let (shard, spans, count) = (take_shard(fields)?, take_spans(fields)?, usize::from(fields.u16()?));
    if !(1..=MAX_CHALLENGED_BLOCKS).contains(&count) {
        return Err(WireError::Long { what: "a challenge", length: count as u64, limit: MAX_CHALLENGED_BLOCKS });
    }
    let mut stripes: Vec<u64> = Vec::with_capacity(count);
    for _ in 0..count {
        let stripe = fields.u64()?;
        let is_next = stripes.last().is_none_or(|last| *last < stripe);
        if !is_next || stripe >= spans.stripe_count() {
            return Err(WireError::Unknown { what: "next block of a challenge", value: stripe });
        }
        stripes.push(stripe);
    }
    Ok(StorageRequest::Challenge { shard, spans, stripes })
}

fn take_told(fields: &mut Fields<'_>) -> Result<Vec<ShardId>, WireError> {
    let count = usize::from(fields.u16()?);
    if !(1..=MAX_TOLD_SHARDS).contains(&count) {
        return Err(WireError::Long { what: "a list of shards", length: count as u64, limit: MAX_TOLD_SHARDS });
    }
    (0..count).map(|_| take_shard(fields)).collect()
}
