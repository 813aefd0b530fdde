//! What can go wrong with the record engine.

use crate::crypto::OpenError;
use crate::id::NodeId;
use crate::{chamber, vault};
use std::path::{Path, PathBuf};

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chamber below it.
    #[error(transparent)]
    Chamber(#[from] chamber::Error),
    /// A page of no records, or of more than there may be, was asked for.
    #[error("a page has 1 to {most} records, not {limit}")]
    Limit {
        /// What was asked for.
        limit: usize,
        /// The limit.
        most: usize,
    },
    /// What is restored from is not a snapshot, or not the one that was written.
    #[error("the snapshot is damaged: {what}")]
    DamagedSnapshot {
        /// What gave it away.
        what: String,
    },
    /// A later release wrote the snapshot.
    #[error("the snapshot has format {found}, this release knows up to {known}")]
    NewerSnapshot {
        /// Its format.
        found: u16,
        /// The newest known here.
        known: u16,
    },
    /// The snapshot is another node's.
    #[error("the snapshot is of node {found}, not of {own}")]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Whose records these are.
        own: NodeId,
    },
    /// The snapshot is not sealed with the key that was brought.
    #[error("the snapshot is sealed with another key")]
    OtherKey,
    /// The snapshot's bytes could not be read, or not be written.
    #[error("the snapshot could not be {doing}")]
    Stream {
        /// `read` or `written`.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file beside the records could not be made, read or taken away.
    #[error("{} cannot be used", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another backup of these records, or a restore of them, is under way.
    #[error("another backup or restore of {} is under way", path.display())]
    Busy {
        /// The records.
        path: PathBuf,
    },
    /// There is no backup of this number, or none at all.
    #[error("there is no such backup")]
    NoBackup,
    /// The place of the backups failed.
    #[error("the place of the backups failed: {doing}")]
    Place {
        /// What was being done.
        doing: &'static str,
        /// What the place said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an engine operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        Self::Chamber(error.into())
    }
}

impl From<OpenError> for Error {
    fn from(_: OpenError) -> Self {
        Self::DamagedSnapshot { what: "a part of it does not open".to_owned() }
    }
}

impl Error {
    pub(super) fn io(source: std::io::Error, path: &Path) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::DamagedSnapshot { what: what.into() }
    }

    /// Whether what was read is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Chamber(error) => error.is_damage(),
            Self::DamagedSnapshot { .. } => true,
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        let no_room = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
        match self {
            Self::Chamber(chamber::Error::Vault(error)) => matches!(error, vault::Error::Full { .. }),
            Self::Stream { source, .. } | Self::Io { source, .. } => no_room(source),
            _ => false,
        }
    }
}
