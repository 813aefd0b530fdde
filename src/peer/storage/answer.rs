//! What a node answers.

use super::super::wire::{Fields, WireError};
use super::{
    MAX_NOTICES, MAX_PAGE_SHARDS, MAX_REASON_BYTES, OwnerNotice, StorageMark, put_optional, put_shard, take_optional,
    take_shard,
};
use crate::id::{Digest, ShardId};
use crate::merkle::MAX_PATH_NODES;

const REFUSED: u8 = 0;
const READY: u8 = 1;
const NUMBER: u8 = 2;
const STATS: u8 = 3;
const PAGE: u8 = 4;
const MARK: u8 = 5;
const PATH: u8 = 6;
const SCRUBBED: u8 = 7;
const NOTICES: u8 = 8;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// There is no such shard of this owner.
    NotFound,
    /// The shard is there already.
    AlreadyExists,
    /// The range ends after the shard does.
    OutOfRange,
    /// A quota or the floor of the disk is reached.
    NoSpace,
    /// Nothing is written there.
    ReadOnly,
    /// It is not allowed.
    Denied,
    /// The disk is not there.
    Unreachable,
    /// Another try may do.
    Transient,
    /// It failed for good.
    Failed,
}

impl RefusalKind {
    /// All of them, in the order of their numbers, which begin with 1.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::OutOfRange,
        Self::NoSpace,
        Self::ReadOnly,
        Self::Denied,
        Self::Unreachable,
        Self::Transient,
        Self::Failed,
    ];

    fn number(self) -> u8 {
        let at = Self::ALL.iter().position(|kind| *kind == self);
        at.and_then(|at| u8::try_from(at + 1).ok()).expect("every kind is among all of them")
    }

    fn of(number: u8) -> Result<Self, WireError> {
        let kind = usize::from(number).checked_sub(1).and_then(|at| Self::ALL.get(at));
        kind.copied().ok_or(WireError::Unknown { what: "kind of refusal", value: u64::from(number) })
    }
}

/// How much an owner has at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageStats {
    /// Finished shards.
    pub shard_count: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Free bytes above the floor of the disk.
    pub free_bytes: Option<u64>,
    /// The most bytes that the owner may have there.
    pub quota_bytes: Option<u64>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoragePage {
    /// Shards and their lengths in bytes.
    pub shards: Vec<(ShardId, u64)>,
    /// What to ask for next; `None` on the last page.
    pub next: Option<ShardId>,
}

/// What a node found of some of an owner's shards when it read them. It is the node's word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubPage {
    /// How many shards were read.
    pub checked_shards: u64,
    /// How many bytes these have.
    pub checked_bytes: u64,
    /// The damaged among them.
    pub damaged: Vec<ShardId>,
    /// After which to go on; `None` when these were the last.
    pub next: Option<ShardId>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageAnswer {
    /// No. Nothing follows.
    Refused {
        /// What can be done about it.
        kind: RefusalKind,
        /// Words for a person, without control characters.
        reason: String,
    },
    /// It is done, or the next piece may come.
    Ready,
    /// A length, or how many bytes there were.
    Number(u64),
    /// How much there is.
    Stats(StorageStats),
    /// A page.
    Page(StoragePage),
    /// The mark.
    Mark(Option<StorageMark>),
    /// The path from the leaf of a block to the root of its shard's tree; the block itself follows.
    Path(Vec<Digest>),
    /// What was found.
    Scrubbed(ScrubPage),
    /// What there is to tell, the oldest first: at most [`MAX_NOTICES`], and fewer only where these were all.
    Notices(Vec<OwnerNotice>),
}

impl StorageAnswer {
    /// A refusal; a longer reason is cut, and control characters are left out.
    pub fn refused(kind: RefusalKind, reason: &str) -> Self {
        let mut reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        while reason.len() > MAX_REASON_BYTES {
            reason.pop();
        }
        Self::Refused { kind, reason }
    }

    /// The bytes of the answer. A page has at most [`MAX_PAGE_SHARDS`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let put_u64 = |number: u64, bytes: &mut Vec<u8>| bytes.extend_from_slice(&number.to_le_bytes());
        match self {
            Self::Refused { kind, reason } => {
                bytes.extend_from_slice(&[REFUSED, kind.number()]);
                bytes.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend_from_slice(reason.as_bytes());
            }
            Self::Ready => bytes.push(READY),
            Self::Number(number) => {
                bytes.push(NUMBER);
                put_u64(*number, &mut bytes);
            }
            Self::Stats(stats) => {
                bytes.push(STATS);
                put_u64(stats.shard_count, &mut bytes);
                put_u64(stats.used_bytes, &mut bytes);
                put_optional(stats.free_bytes, &mut bytes, put_u64);
                put_optional(stats.quota_bytes, &mut bytes, put_u64);
            }
            Self::Page(page) => {
                bytes.push(PAGE);
                put_optional(page.next, &mut bytes, put_shard);
                bytes.extend_from_slice(&u16::try_from(page.shards.len()).unwrap_or(u16::MAX).to_le_bytes());
                for (shard, length) in &page.shards {
                    put_shard(*shard, &mut bytes);
                    put_u64(*length, &mut bytes);
                }
            }
            Self::Mark(mark) => {
                bytes.push(MARK);
                put_optional(mark.as_ref(), &mut bytes, StorageMark::put);
            }
            Self::Path(path) => {
                bytes.extend_from_slice(&[PATH, u8::try_from(path.len()).unwrap_or(u8::MAX)]);
                bytes.extend(path.iter().flat_map(|node| node.0));
            }
            Self::Scrubbed(page) => {
                bytes.push(SCRUBBED);
                put_u64(page.checked_shards, &mut bytes);
                put_u64(page.checked_bytes, &mut bytes);
                put_optional(page.next, &mut bytes, put_shard);
                bytes.extend_from_slice(&u16::try_from(page.damaged.len()).unwrap_or(u16::MAX).to_le_bytes());
                page.damaged.iter().for_each(|shard| put_shard(*shard, &mut bytes));
            }
            Self::Notices(notices) => {
                bytes.extend_from_slice(&[NOTICES, u8::try_from(notices.len()).unwrap_or(u8::MAX)]);
                notices.iter().for_each(|notice| notice.put(&mut bytes));
            }
        }
        bytes
    }

    /// Reads them again.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut fields = Fields::new(bytes);
        let answer = match fields.u8()? {
            REFUSED => Self::Refused { kind: RefusalKind::of(fields.u8()?)?, reason: take_reason(&mut fields)? },
            READY => Self::Ready,
            NUMBER => Self::Number(fields.u64()?),
            STATS => Self::Stats(StorageStats {
                shard_count: fields.u64()?,
                used_bytes: fields.u64()?,
                free_bytes: take_optional(&mut fields, Fields::u64)?,
                quota_bytes: take_optional(&mut fields, Fields::u64)?,
            }),
            PAGE => Self::Page(take_page(&mut fields)?),
            MARK => Self::Mark(take_optional(&mut fields, StorageMark::take)?),
            PATH => Self::Path(take_path(&mut fields)?),
            SCRUBBED => Self::Scrubbed(take_scrubbed(&mut fields)?),
            NOTICES => Self::Notices(take_notices(&mut fields)?),
            kind => return Err(WireError::Unknown { what: "answer of the storage service", value: u64::from(kind) }),
        };
        fields.end()?;
        Ok(answer)
    }
}

/// It is shown to a person: no character of it moves a cursor.
fn take_reason(fields: &mut Fields<'_>) -> Result<String, WireError> {
    let bytes = fields.bytes("a reason", MAX_REASON_BYTES)?;
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or(WireError::Unknown { what: "text", value: bytes.len() as u64 })
}

fn take_page(fields: &mut Fields<'_>) -> Result<StoragePage, WireError> {
    let next = take_optional(fields, take_shard)?;
    let count = usize::from(fields.u16()?);
    if count > MAX_PAGE_SHARDS {
        return Err(WireError::Long { what: "a page", length: count as u64, limit: MAX_PAGE_SHARDS });
    }
    let shards: Result<Vec<_>, _> = (0..count).map(|_| Ok((take_shard(fields)?, fields.u64()?))).collect();
    Ok(StoragePage { shards: shards?, next })
}

fn take_path(fields: &mut Fields<'_>) -> Result<Vec<Digest>, WireError> {
    let count = usize::from(fields.u8()?);
    if count > MAX_PATH_NODES {
        return Err(WireError::Long { what: "a path", length: count as u64, limit: MAX_PATH_NODES });
    }
    (0..count).map(|_| fields.array().map(Digest)).collect()
}

fn take_scrubbed(fields: &mut Fields<'_>) -> Result<ScrubPage, WireError> {
    let (checked_shards, checked_bytes) = (fields.u64()?, fields.u64()?);
    let next = take_optional(fields, take_shard)?;
    let count = usize::from(fields.u16()?);
    if count > MAX_PAGE_SHARDS {
        return Err(WireError::Long { what: "a page", length: count as u64, limit: MAX_PAGE_SHARDS });
    }
    let damaged: Result<Vec<_>, _> = (0..count).map(|_| take_shard(fields)).collect();
    Ok(ScrubPage { checked_shards, checked_bytes, damaged: damaged?, next })
}

fn take_notices(fields: &mut Fields<'_>) -> Result<Vec<OwnerNotice>, WireError> {
    let count = usize::from(fields.u8()?);
    if count > MAX_NOTICES {
        return Err(WireError::Long { what: "a list of notices", length: count as u64, limit: MAX_NOTICES });
    }
    (0..count).map(|_| OwnerNotice::take(fields)).collect()
}
