//! What can go wrong with a chamber.

use crate::crypto::OpenError;
use crate::id::Digest;
use crate::vault;

/// Why a chamber could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file below it: absent, full, held, sealed with another key.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// A record does not open: it was changed, or moved from another key, node or purpose.
    #[error("a record is not what was written here")]
    Unopened(#[from] OpenError),
    /// One half of a record is there and the other is not.
    #[error("a part of a record is missing")]
    Torn,
    /// What lies under a content's hash has another.
    #[error("the content {hash} is not what was put there")]
    OtherContent {
        /// What was asked for.
        hash: Digest,
    },
}

/// What a chamber operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the file is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Vault(error) => matches!(error, vault::Error::Damaged { .. } | vault::Error::Foreign { .. }),
            Self::Unopened(_) | Self::Torn | Self::OtherContent { .. } => true,
        }
    }
}
