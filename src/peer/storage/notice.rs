//! What a node has to tell the owner of shards that it keeps, whether or not that was there when it happened.

use super::super::wire::{Fields, WireError};
use super::{put_shard, take_shard};
use crate::id::ShardId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A longer text is no notice.
pub const MAX_NOTICE_BYTES: usize = 4096;
/// The most notices in one answer: with all that each may have they fit into it.
pub const MAX_NOTICES: usize = 6;
/// The most shards that one notice names; it says of how many it is.
pub const MAX_NAMED_SHARDS: usize = 32;

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// What a person wrote.
    Text,
    /// Something needs repair: to a node, something that the sender keeps there; to an owner, some of its shards.
    RepairNeeded,
    /// The sender stops.
    Leaving,
    /// The sender takes no more from whom it tells.
    QuotaReached,
}

impl NoticeKind {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 4] = [Self::Text, Self::RepairNeeded, Self::Leaving, Self::QuotaReached];

    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::RepairNeeded => 2,
            Self::Leaving => 3,
            Self::QuotaReached => 4,
        }
    }

    /// The kind that a byte stands for, if it stands for one.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::RepairNeeded => "repair-needed",
            Self::Leaving => "leaving",
            Self::QuotaReached => "quota-reached",
        }
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A notice that a node keeps for an owner. It is the node's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerNotice {
    /// Greater than that of every earlier one.
    pub number: u64,
    /// When it was kept by the node's clock, in milliseconds since 1970.
    pub said_ms: u64,
    /// What it is about.
    pub kind: NoticeKind,
    /// Of how many of the owner's shards it is.
    pub shard_count: u64,
    /// The first of these, at most [`MAX_NAMED_SHARDS`].
    pub shards: Vec<ShardId>,
    /// In words: at most [`MAX_NOTICE_BYTES`], of any characters.
    pub text: String,
}

impl OwnerNotice {
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.said_ms.to_le_bytes());
        bytes.push(self.kind.byte());
        bytes.extend_from_slice(&self.shard_count.to_le_bytes());
        bytes.push(u8::try_from(self.shards.len()).unwrap_or(u8::MAX));
        self.shards.iter().for_each(|shard| put_shard(*shard, bytes));
        bytes.extend_from_slice(&u16::try_from(self.text.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        let (number, said_ms, byte) = (fields.u64()?, fields.u64()?, fields.u8()?);
        let kind = NoticeKind::of(byte);
        let kind = kind.ok_or(WireError::Unknown { what: "kind of notice", value: u64::from(byte) })?;
        let (shard_count, count) = (fields.u64()?, usize::from(fields.u8()?));
        if count > MAX_NAMED_SHARDS {
            return Err(WireError::Long { what: "a list of shards", length: count as u64, limit: MAX_NAMED_SHARDS });
        }
        let shards = (0..count).map(|_| take_shard(fields)).collect::<Result<_, _>>()?;
        let text = fields.bytes("a notice", MAX_NOTICE_BYTES)?;
        let is_none = |_| WireError::Unknown { what: "text", value: text.len() as u64 };
        let text = std::str::from_utf8(text).map_err(is_none)?.to_owned();
        Ok(Self { number, said_ms, kind, shard_count, shards, text })
    }
}
