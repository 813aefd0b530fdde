//! Why verified bytes could not be had.

use crate::backend;
use crate::error::{Error, ErrorKind};
use crate::format::{IndexError, ManifestError};
use crate::id::{Digest, ObjectId, ShardId, WriterId};
use crate::stripe::DecodeError;

/// Why verified bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Too few good blocks, and no unreachable place could bring enough.
    #[error("stripe {stripe_index} of object {object} has {good} good blocks and needs {needed}")]
    Lost {
        /// The object.
        object: ObjectId,
        /// Its first stripe that cannot be had.
        stripe_index: u64,
        /// How many blocks of it verified.
        good: usize,
        /// k.
        needed: usize,
    },
    /// Too few good blocks now; places that do not answer may hold enough.
    #[error(
        "stripe {stripe_index} of object {object} has {good} good blocks within reach and needs {needed}; \
         {unreachable} more may be where nothing answers"
    )]
    Unavailable {
        /// The object.
        object: ObjectId,
        /// Its first stripe that cannot be had.
        stripe_index: u64,
        /// How many blocks of it verified.
        good: usize,
        /// k.
        needed: usize,
        /// How many other shards are recorded in places that do not answer.
        unreachable: usize,
    },
    /// Too few key shares are left to open the object.
    #[error(
        "{good} key shares of object {object} are within reach and {needed} are needed; {unreachable} more may be where nothing answers"
    )]
    Shares {
        /// The object.
        object: ObjectId,
        /// How many could be read and are right.
        good: usize,
        /// k.
        needed: usize,
        /// How many are recorded in places that do not answer.
        unreachable: usize,
    },
    /// No copy of the object's manifest, nor all of them together, verifies.
    #[error("none of the {copies} copies of the manifest of object {object} that were found can be trusted")]
    NoManifest {
        /// The object.
        object: ObjectId,
        /// How many shards could be read.
        copies: usize,
        /// How many could not, because nothing answered.
        unreachable: usize,
        /// Why the last copy was refused.
        #[source]
        source: Option<ManifestError>,
    },
    /// A manifest that is signed and does not say what it should.
    #[error("the manifest of object {object} cannot be used")]
    Manifest {
        /// The object.
        object: ObjectId,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The manifest in a shard is another object's.
    #[error("shard {shard} carries the manifest of object {found}")]
    OtherObject {
        /// The shard.
        shard: ShardId,
        /// Whose manifest it carries.
        found: ObjectId,
    },
    /// The end of one shard file is damaged.
    #[error("the end of shard {shard} cannot be read")]
    Tail {
        /// The shard.
        shard: ShardId,
        /// Why.
        #[source]
        source: crate::format::TailError,
    },
    /// One backend failed where no other could stand in.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// Verified blocks that do not give a stripe: whoever wrote them broke the format.
    #[error("object {object} was not written as the format says")]
    Decode {
        /// The object.
        object: ObjectId,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The index is not one.
    #[error("the index of object {object} was not written as the format says")]
    Index {
        /// The object.
        object: ObjectId,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// A writer signed what cannot be: nothing of it is believed.
    #[error("writer {writer} signed object {object}, which nobody can believe")]
    Untrusted {
        /// The object.
        object: ObjectId,
        /// Who signed it.
        writer: WriterId,
        /// What is wrong with it.
        #[source]
        source: Box<ReadError>,
    },
    /// A writer signed an object that opens with a key nobody here knows: it may have made that up.
    #[error(
        "writer {writer} signed object {object} and names a key that nobody here knows, {key_id}: it is forged, or sealed \
         for a newer key than those here"
    )]
    UnknownKey {
        /// The object.
        object: ObjectId,
        /// Who signed it.
        writer: WriterId,
        /// The key that it names.
        key_id: Digest,
    },
    /// The range is not inside the payload.
    #[error("bytes {start} to {end} are not inside the {payload_bytes} bytes of object {object}")]
    Range {
        /// The object.
        object: ObjectId,
        /// The first byte asked for.
        start: u64,
        /// One past the last.
        end: u64,
        /// How many there are.
        payload_bytes: u64,
    },
    /// The runtime is shutting down.
    #[error("reading was stopped")]
    Stopped,
}

impl ReadError {
    /// What an object is when reading it ended like this: what a person can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::NoManifest { source: Some(ManifestError::ForeignStore { .. }), .. } => ErrorKind::WrongKey,
            Self::NoManifest { unreachable, .. } if *unreachable > 0 => ErrorKind::Unavailable,
            Self::Shares { good, needed, unreachable, .. } if good + unreachable >= *needed => ErrorKind::Unavailable,
            Self::Lost { .. } | Self::Shares { .. } | Self::NoManifest { .. } => ErrorKind::Lost,
            Self::Backend(error) if error.kind == backend::ErrorKind::Unreachable => ErrorKind::Unavailable,
            Self::Backend(_) => ErrorKind::Backend,
            Self::Manifest { source: ManifestError::NoKey { .. }, .. } | Self::UnknownKey { .. } => ErrorKind::WrongKey,
            Self::Stopped => ErrorKind::Cancelled,
            Self::Range { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Damaged,
        }
    }
}

impl ReadError {
    /// What a writer signed is not believed where it cannot be, and with it nothing that the object says.
    pub(in crate::ops) fn distrusting(self, (object, writer): (ObjectId, WriterId)) -> Self {
        match self {
            Self::Manifest { source: ManifestError::NoKey { key_id, .. }, .. } => {
                Self::UnknownKey { object, writer, key_id }
            }
            damaged if damaged.kind() == ErrorKind::Damaged => {
                Self::Untrusted { object, writer, source: Box::new(damaged) }
            }
            other => other,
        }
    }

    /// Whether it is the writer that is not believed.
    pub(in crate::ops) fn is_distrust(&self) -> bool {
        matches!(self, Self::Untrusted { .. } | Self::UnknownKey { .. })
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let doing = match error.kind() {
            ErrorKind::Unavailable => "too few shards are within reach",
            ErrorKind::Lost => "too few good shards are left",
            ErrorKind::Backend => "a backend failed",
            ErrorKind::WrongKey => "the key that opens it is not here",
            ErrorKind::Cancelled => "stopped",
            _ => "what is stored cannot be used",
        };
        Self::new(error.kind(), doing).with_source(error)
    }
}
