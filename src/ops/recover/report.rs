//! What recovering came to.

use super::heap::HeapReport;
use crate::catalog::ShardState;
use crate::error::{Error, ErrorKind, with_causes};
use crate::format::FileName;
use crate::id::{Digest, ObjectId, VersionId};
use crate::ops::ingest::{FoundObject, NewestObject};
use crate::ops::reader::ReadError;
use crate::ops::rebuild::UntrustedObject;
use serde::{Serialize, Serializer};

/// What was recovered, and what was met on the way.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RecoverReport {
    /// The files that were recovered.
    pub files: Vec<RecoveredFile>,
    /// Shards that were wanted and missing, corrupt or unreachable.
    pub damage: Vec<DamagedShard>,
    /// The files that were not recovered, while others were.
    pub failed: Vec<FailedRecovery>,
    /// Objects that are known and cannot be read, where a folder or everything was asked for: files in them are missing.
    pub unread: Vec<UnreadObject>,
    /// Objects that were found and left alone, where a folder or everything was asked for: whoever signed them says what it
    /// may not, or what cannot be.
    pub untrusted: Vec<UntrustedObject>,
    /// What the places that were named hold; none where a store was recovered from.
    pub places: Vec<PlaceSeen>,
    /// The newest object on any of them.
    pub newest: Option<NewestObject>,
    /// What was looked at in folders whose files were asked what they are.
    pub heaps: Vec<HeapReport>,
    /// Bytes of shards that were read.
    pub bytes_read: u64,
    /// Bytes of files that were written.
    pub bytes_written: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What a place that was named holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceSeen {
    /// What people call it.
    pub name: String,
    /// How many shards it lists, copies among them.
    pub shards: u64,
    /// The newest object of which it has a shard, among those that could be read.
    pub newest: Option<NewestObject>,
    /// How many newer objects others have, of which a shard is nowhere: with any, it may have been set back to an earlier
    /// state.
    pub lacks: u64,
}

/// A file that was recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredFile {
    /// What it is called.
    pub name: FileName,
    /// Which version.
    pub version: VersionId,
    /// How many bytes were recovered.
    pub size: u64,
    /// The hash of the whole file's bytes, which was compared; `None` where only a range was recovered.
    pub blake3: Option<Digest>,
    /// Where it is now; `-` for a stream.
    pub output: String,
    /// How many heads the name has: with more than one, machines did not know each other, and this is the newest.
    pub heads: u64,
}

/// A shard that was wanted and could not be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedShard {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it.
    pub shard: u8,
    /// The backend's name.
    pub backend: String,
    /// Missing, corrupt or unreachable.
    pub state: ShardState,
    /// How many of the blocks that were read are bad.
    pub bad_blocks: u64,
}

/// A file that was not recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedRecovery {
    /// What it is called.
    pub name: FileName,
    /// Which version, where that is known.
    pub version: Option<VersionId>,
    /// What kind of failure.
    #[serde(serialize_with = "kind_name")]
    pub kind: ErrorKind,
    /// Why, with its causes.
    pub error: String,
    /// What a person can do about it.
    pub hint: Option<String>,
}

/// An object of which it cannot be said which files it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadObject {
    /// The object.
    pub object: ObjectId,
    /// What kind of failure: where shards may be in places that were not named, it is not lost.
    #[serde(serialize_with = "kind_name")]
    pub kind: ErrorKind,
    /// Why, with its causes.
    pub error: String,
}

impl UnreadObject {
    pub(super) fn new(found: &FoundObject, error: &ReadError, total_shards: usize) -> Self {
        let kind = match error.kind() {
            ErrorKind::WrongKey => ErrorKind::WrongKey,
            _ if found.index_count() < total_shards => ErrorKind::Unavailable,
            ErrorKind::Damaged => ErrorKind::Lost,
            kind => kind,
        };
        Self { object: found.object, kind, error: with_causes(error) }
    }
}

fn kind_name<S: Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl FailedRecovery {
    pub(super) fn new(name: FileName, version: Option<VersionId>, error: &Error) -> Self {
        Self { name, version, kind: error.kind, error: with_causes(error), hint: error.hint.clone() }
    }
}
