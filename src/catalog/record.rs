//! The plain data that goes into the catalog and comes out of it.

use crate::format::index::{Index, Whole};
use crate::format::{FileName, Manifest, ManifestBytes, ManifestError};
use crate::id::{BackendId, Digest, Geometry, ObjectId, ProcessId, StoreId, VersionId};
use serde::Serialize;
use std::fmt;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// It holds pieces of files.
    Data,
    /// It says what was removed.
    Removal,
    /// It backs up the catalog.
    Catalog,
}

/// What is known of one shard, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardState {
    /// There, whole, in its place.
    Ok,
    /// There and whole, but a copy more than is needed.
    Surplus,
    /// There and whole, but a strictly better place exists.
    Misplaced,
    /// Its backend does not answer: nothing is known.
    Unreachable,
    /// Its backend answered: it is not there.
    Missing,
    /// There, but some of its bytes are wrong.
    Corrupt,
}

/// What is known of one object, from the best to the worst: the state of its worst stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectState {
    /// All shards are there, whole and in their places.
    Healthy,
    /// It can be recovered, but something is missing, corrupt, misplaced or unreachable.
    Degraded,
    /// It cannot be recovered now, but unreachable backends may hold the rest.
    Unavailable,
    /// Nothing that is known could bring it back.
    Lost,
}

/// Why a process writes shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A new object.
    Put,
    /// Shards of a known object, made again.
    Repair,
    /// Shards of a known object, on their way to another backend.
    Move,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Removal => "removal",
            Self::Catalog => "catalog",
        })
    }
}

impl fmt::Display for ShardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Surplus => "surplus",
            Self::Misplaced => "misplaced",
            Self::Unreachable => "unreachable",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
        })
    }
}

impl fmt::Display for ObjectState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Lost => "lost",
        })
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Repair => "repair",
            Self::Move => "move",
        })
    }
}

/// An object: what its signed manifest says, and the manifest's exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// The object.
    pub id: ObjectId,
    /// What it is for.
    pub kind: ObjectKind,
    /// k and n.
    pub geometry: Geometry,
    /// The length of a block in every stripe but the last.
    pub block_bytes: u32,
    /// How many stripes it has.
    pub stripe_count: u64,
    /// The length of its payload: file bytes and index.
    pub payload_bytes: u64,
    /// The seal's number in the format.
    pub seal: u8,
    /// The object root.
    pub root: Digest,
    /// When it was made, or taken in where that cannot be read, in nanoseconds since 1970; for people.
    pub created_ns: Option<i64>,
    /// The public part of the stored manifest, byte for byte.
    pub public: Vec<u8>,
    /// The signature of the stored manifest.
    pub signature: Vec<u8>,
    /// The sealed part of the stored manifest.
    pub sealed: Vec<u8>,
}

impl ObjectRecord {
    /// The stored manifest, checked like any other: signed for this store, and of this object.
    pub fn manifest(&self, store: &StoreId) -> Result<Manifest, ManifestError> {
        let (public, signature, sealed) = (self.public.clone(), self.signature.clone(), self.sealed.clone());
        let manifest = Manifest::open(ManifestBytes { public, signature, sealed }, store)?;
        if manifest.object() == self.id { Ok(manifest) } else { Err(ManifestError::Contradiction) }
    }
}

/// One copy of one shard in one place. An index may have several: copies too many are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRecord {
    /// Which shard, 0-based.
    pub index: u8,
    /// Where.
    pub backend: BackendId,
    /// The length of the shard file.
    pub bytes: u64,
    /// What was last known of it.
    pub state: ShardState,
    /// How many of its blocks were wrong when it was last read.
    pub bad_blocks: u64,
    /// When every byte of it was last read and checked, in nanoseconds since 1970.
    pub verified_ns: Option<i64>,
}

/// Where one piece of a file version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceRecord {
    /// The file version.
    pub version: VersionId,
    /// Which piece of it, from 0.
    pub ordinal: u32,
    /// The object that holds it.
    pub object: ObjectId,
    /// Where its bytes begin in the object's payload.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// The hash of the piece's own bytes: known only on the machine that put it.
    pub blake3: Option<Digest>,
}

/// A version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The version.
    pub id: VersionId,
    /// The file's name.
    pub name: FileName,
    /// What the whole of it is; `None` while its last piece is unknown.
    pub whole: Option<Whole>,
    /// Whether the last piece is known, every piece is in an object that lives, and together they have the whole's length.
    pub complete: bool,
    /// Whether a removal names it.
    pub removed: bool,
}

/// A name in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// The head with the greatest (generation, id).
    pub newest: VersionRecord,
    /// How many heads there are: more than one where two machines did not know each other.
    pub head_count: u64,
    /// How many complete versions there are that were not removed.
    pub version_count: u64,
}

/// Everything that becomes true at once when an object does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The object.
    pub object: ObjectRecord,
    /// Where its shards are.
    pub shards: Vec<ShardRecord>,
    /// What it holds, or what it removes.
    pub index: Index,
    /// The hashes of pieces this machine put: version, ordinal, hash of the piece's bytes.
    pub piece_hashes: Vec<(VersionId, u32, Digest)>,
}

/// What a process said it was about to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The object whose shards are being written.
    pub object: ObjectId,
    /// Who writes.
    pub process: ProcessId,
    /// Why.
    pub purpose: Purpose,
    /// The file, where it is one.
    pub name: Option<FileName>,
    /// The file version, where it is one.
    pub version: Option<VersionId>,
    /// Which shard goes where.
    pub shards: Vec<(u8, BackendId)>,
}

/// What looking at an object gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRecord {
    /// The object.
    pub object: ObjectId,
    /// Its state.
    pub state: ObjectState,
    /// How many more zones may be lost before it is; `None` where it already cannot be recovered.
    pub margin: Option<u32>,
    /// How many more backends may be lost before it is.
    pub backend_margin: Option<u32>,
    /// What was seen of its shards.
    pub shards: Vec<ShardRecord>,
    /// When, in nanoseconds since 1970.
    pub when_ns: i64,
    /// Whether every block of every reachable shard was read.
    pub full: bool,
}

/// An object and when it was last checked in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectAge {
    /// The object.
    pub object: ObjectId,
    /// When, in nanoseconds since 1970; `None` if never.
    pub verified_ns: Option<i64>,
}

/// What is known of an object's health without looking at it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHealth {
    /// The object.
    pub object: ObjectId,
    /// Its state: what the last check found, or what its shards say where there was none.
    pub state: ObjectState,
    /// How many more zones may be lost before it is; `None` where no check could say.
    pub margin: Option<u32>,
    /// How many more backends may be lost before it is.
    pub backend_margin: Option<u32>,
    /// When it was last looked at in any way, in nanoseconds since 1970.
    pub checked_ns: Option<i64>,
    /// When it was last checked in full.
    pub verified_ns: Option<i64>,
}

/// An object that keeps little for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseObject {
    /// The object.
    pub object: ObjectId,
    /// How many file bytes it has.
    pub file_bytes: u64,
    /// How many of them belong to complete versions that were not removed and are in no earlier object.
    pub live_bytes: u64,
    /// How many pieces those are: empty files are pieces too.
    pub live_pieces: u64,
}

/// A shard that is to be deleted and is not yet known to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingDelete {
    /// The object.
    pub object: ObjectId,
    /// Which shard.
    pub index: u8,
    /// Where.
    pub backend: BackendId,
}
