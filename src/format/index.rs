//! The index at the end of an object's payload: which piece of which file version is where, and what was removed.

use super::backup::BackupPart;
use super::manifest::ObjectKind;
use super::name::FileName;
use crate::id::{BackendId, Digest, ObjectId, VersionId, WriterId};
use serde::{Deserialize, Serialize};

/// An index holds at most this many pieces.
pub const MAX_INDEX_PIECES: usize = 65_536;
/// The highest generation that a writer may say: what the owner puts after it always has room to be newer.
pub const MAX_WRITER_GENERATION: u64 = u32::MAX as u64;
/// No number in an index is greater: a reader may keep them as signed ones.
pub const MAX_NUMBER: u64 = i64::MAX as u64;
/// An index is at most this many bytes.
pub const MAX_INDEX_BYTES: u64 = 16 * 1024 * 1024;

/// What an object holds: an object lists itself, as a zip file does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The pieces in the payload, in the order of their offsets; empty in a removal object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Piece>,
    /// What a removal object removes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
    /// What an object that backs up a catalog is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<BackupPart>,
}

/// One file version's bytes in one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The file version.
    pub version: VersionId,
    /// The file's name.
    pub name: FileName,
    /// Which piece of the version this is, from 0.
    pub ordinal: u32,
    /// Where its bytes begin in the payload.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// On the last piece of a version: what the whole of it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Whole>,
}

/// What a whole file version is; said once, with its last piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Its length in bytes.
    pub total_bytes: u64,
    /// The BLAKE3 hash of its bytes.
    pub blake3: Digest,
    /// When the file was last changed, in nanoseconds since 1970-01-01T00:00:00Z.
    pub mtime_ns: i64,
    /// The permission bits of its mode.
    pub mode: u32,
    /// 1 + the highest generation known for the name when it was put.
    pub generation: u64,
    /// The versions of the name that it replaced, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<VersionId>,
}

/// What a removal object says is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// File versions that are no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<RemovedVersion>,
    /// Objects that hold nothing any more and whose shards are to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<RemovedObject>,
}

/// A file version that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedVersion {
    /// The version.
    pub version: VersionId,
    /// The name it had.
    pub name: FileName,
    /// Its generation, so that later versions still count on.
    pub generation: u64,
}

/// An object whose shards are to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedObject {
    /// The object.
    pub object: ObjectId,
    /// Where its shards were; the removal lives until each is confirmed gone.
    pub shards: Vec<RemovedShard>,
}

/// Where a shard of a removed object was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedShard {
    /// Which shard.
    pub index: u8,
    /// On which backend.
    pub backend: BackendId,
}

impl Removal {
    /// The objects that it names, in order.
    pub fn object_ids(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.objects.iter().map(|removed| removed.object)
    }
}

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Over [`MAX_INDEX_BYTES`].
    #[error("an index has at most {MAX_INDEX_BYTES} bytes, this one {bytes}")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// Over [`MAX_INDEX_PIECES`].
    #[error("an index has at most {MAX_INDEX_PIECES} pieces, this one {pieces}")]
    TooManyPieces {
        /// How many.
        pieces: usize,
    },
    /// Not the JSON it should be.
    #[error("the index is not what the format says")]
    Json(#[from] serde_json::Error),
    /// What it says of removals is not what the manifest says.
    #[error("the index and the signed manifest do not agree on what is removed")]
    Removal,
    /// It is of a backup of a catalog where the manifest says otherwise, or names what no backup consists of.
    #[error("the index and the signed manifest do not agree on what is a backup of the catalog")]
    Catalog,
    /// A piece that is not within the payload.
    #[error("piece {ordinal} of version {version} is not inside the payload")]
    Outside {
        /// The version.
        version: VersionId,
        /// The piece.
        ordinal: u32,
    },
    /// Over [`MAX_NUMBER`].
    #[error("version {version} has {what} {value}: at most {MAX_NUMBER}")]
    Number {
        /// The version.
        version: VersionId,
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// It speaks of a version that is not the writer's.
    #[error("writer {writer} speaks of version {version}, which it did not put")]
    NotItsOwn {
        /// Who signed the object.
        writer: WriterId,
        /// The version.
        version: VersionId,
    },
    /// Over [`MAX_WRITER_GENERATION`].
    #[error("writer {writer} says that version {version} has generation {generation}: at most {MAX_WRITER_GENERATION}")]
    Generation {
        /// Who signed the object.
        writer: WriterId,
        /// The version.
        version: VersionId,
        /// Its generation, as it is said.
        generation: u64,
    },
    /// What the index and the manifest say of the writers' generations differs.
    #[error("the greatest generation of a writer's version here is {index}, and the manifest says {manifest}")]
    WriterGeneration {
        /// What the index says.
        index: u64,
        /// What the manifest says.
        manifest: u64,
    },
    /// A removal, from one who may not remove.
    #[error("writer {writer} may remove nothing")]
    WriterRemoval {
        /// Who signed the object.
        writer: WriterId,
    },
}

impl Index {
    /// That a writer says nothing here but what it may: it adds versions of its own, which replace versions of its own.
    /// Whatever the owner or another writer put, it can neither name nor hide.
    pub fn check_writer(&self, writer: WriterId) -> Result<(), IndexError> {
        if self.removal.is_some() {
            return Err(IndexError::WriterRemoval { writer });
        }
        for Piece { version, last, .. } in &self.pieces {
            let parents = last.iter().flat_map(|whole| &whole.parents);
            let foreign = std::iter::once(version).chain(parents).find(|version| version.writer() != Some(writer));
            if let Some(version) = foreign {
                return Err(IndexError::NotItsOwn { writer, version: *version });
            }
            let generation = last.as_ref().map_or(0, |whole| whole.generation);
            if generation > MAX_WRITER_GENERATION {
                return Err(IndexError::Generation { writer, version: *version, generation });
            }
        }
        Ok(())
    }

    /// The greatest generation here of a version that a writer put; 0 where there is none.
    pub fn writer_generation(&self) -> u64 {
        let of_writers = self.pieces.iter().filter(|piece| piece.version.writer().is_some());
        of_writers.filter_map(|piece| piece.last.as_ref()).map(|whole| whole.generation).max().unwrap_or(0)
    }

    /// That the manifest of its object says the same of [`Self::writer_generation`].
    pub fn check_writer_generation(&self, manifest: u64) -> Result<(), IndexError> {
        let index = self.writer_generation();
        if index == manifest { Ok(()) } else { Err(IndexError::WriterGeneration { index, manifest }) }
    }

    /// The bytes that are stored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        if self.pieces.len() > MAX_INDEX_PIECES {
            return Err(IndexError::TooManyPieces { pieces: self.pieces.len() });
        }
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(IndexError::TooLarge { bytes: bytes.len() as u64 });
        }
        Ok(bytes)
    }

    /// That it says of removals what the manifest of its object does: what is removed is named in both, in one order, and by
    /// removals alone.
    pub fn check_removal(&self, kind: ObjectKind, removes: &[ObjectId]) -> Result<(), IndexError> {
        let agrees = match (kind, &self.removal) {
            (ObjectKind::Data, None) => removes.is_empty(),
            (ObjectKind::Catalog, None) => removes.is_empty() && self.pieces.is_empty(),
            (ObjectKind::Removal, Some(removal)) => {
                self.pieces.is_empty() && removal.object_ids().eq(removes.iter().copied())
            }
            _ => false,
        };
        if agrees { Ok(()) } else { Err(IndexError::Removal) }
    }

    /// That it says what part of a backup it is, and holds no piece of a file, exactly where the manifest says that its object
    /// is one.
    pub fn check_catalog(&self, kind: ObjectKind) -> Result<(), IndexError> {
        let agrees = match &self.catalog {
            Some(part) => kind == ObjectKind::Catalog && self.pieces.is_empty() && part.is_within_limits(),
            None => kind != ObjectKind::Catalog,
        };
        if agrees { Ok(()) } else { Err(IndexError::Catalog) }
    }

    /// Reads stored bytes; `content_bytes` is where the index begins, and every piece must end before it.
    pub fn from_bytes(bytes: &[u8], content_bytes: u64) -> Result<Self, IndexError> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(IndexError::TooLarge { bytes: bytes.len() as u64 });
        }
        let index: Self = serde_json::from_slice(bytes)?;
        if index.pieces.len() > MAX_INDEX_PIECES {
            return Err(IndexError::TooManyPieces { pieces: index.pieces.len() });
        }
        index.check_bounds(content_bytes)?;
        Ok(index)
    }

    /// That no piece goes on after these bytes of the payload, and no number is over its limit.
    pub(super) fn check_bounds(&self, content_bytes: u64) -> Result<(), IndexError> {
        let outside = |piece: &&Piece| piece.offset.checked_add(piece.bytes).is_none_or(|end| end > content_bytes);
        if let Some(piece) = self.pieces.iter().find(outside) {
            return Err(IndexError::Outside { version: piece.version, ordinal: piece.ordinal });
        }
        self.check_numbers()
    }

    /// Offsets and lengths of pieces are bounded by the payload that they are in.
    fn check_numbers(&self) -> Result<(), IndexError> {
        let wholes = self.pieces.iter().filter_map(|piece| Some((piece.version, piece.last.as_ref()?)));
        let said = wholes.flat_map(|(version, whole)| {
            [(version, "total_bytes", whole.total_bytes), (version, "generation", whole.generation)]
        });
        let removed = self.removal.iter().flat_map(|removal| &removal.versions);
        let removed = removed.map(|removed| (removed.version, "generation", removed.generation));
        match said.chain(removed).find(|(_, _, value)| *value > MAX_NUMBER) {
            Some((version, what, value)) => Err(IndexError::Number { version, what, value }),
            None => Ok(()),
        }
    }
}
