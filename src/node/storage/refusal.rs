//! Why a request is not answered as it was meant. Nothing in it tells a peer where things are on this machine.

use crate::backend::{Error, ErrorKind};
use crate::peer::storage::{RefusalKind, StorageAnswer};

/// What a peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: RefusalKind,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    pub(super) fn to_answer(&self) -> StorageAnswer {
        StorageAnswer::refused(self.kind, &self.reason)
    }
}

impl From<Error> for Refusal {
    /// The words of the error name paths: they stay here, in the log.
    fn from(error: Error) -> Self {
        let reason = match error.kind {
            ErrorKind::NotFound => "the node has no such shard",
            ErrorKind::AlreadyExists => "the node has this shard already",
            ErrorKind::OutOfRange => "the range ends after the shard does",
            ErrorKind::NoSpace => "the quota is reached or the node's disk is full",
            ErrorKind::ReadOnly => "the node's disk is read-only",
            ErrorKind::Denied => "the node may not use its own disk",
            ErrorKind::Unreachable => "the node's disk is not there",
            ErrorKind::Transient => "the node's disk is busy",
            ErrorKind::Failed | ErrorKind::Settings => "the node's disk failed",
        };
        match error.kind {
            ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::OutOfRange => {}
            _ => tracing::warn!("keeping a shard of a peer: {error}"),
        }
        Self::new(error.kind.into(), reason)
    }
}
