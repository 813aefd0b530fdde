//! The keys of machines that may not open what is sealed, and what the files of all of them have in common.

use super::{CatalogKey, VERIFY_KEY_SCHEMA, VerifyKey, WRITE_KEY_SCHEMA, WriteKey};
use crate::id::StoreId;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The file of such a key is at most this many bytes; a larger one is not read. Settings, the most of it, are at most 1 MiB of
/// text that JSON writes with at most two bytes for one.
pub const MAX_LIMITED_KEY_BYTES: u64 = 2 * 1024 * 1024 + 16 * 1024;

/// Why a text is not the key that it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitedKeyError {
    /// Not the JSON it should be.
    #[error("this is no file of schema {schema}")]
    Malformed {
        /// What it says it is.
        schema: &'static str,
    },
    /// It does not have the check value beside it.
    #[error("the key does not match its check value: the file is damaged or mistyped")]
    Check,
    /// The store's first key does not vouch for it as a writer.
    #[error("the key has no certificate of its store that lets it add files")]
    Certificate,
}

/// A key that opens nothing of the store that is sealed.
#[derive(Debug)]
pub enum LimitedKey {
    /// Of a machine that checks and repairs.
    Verify(VerifyKey),
    /// Of a machine that adds files besides.
    Write(Box<WriteKey>),
}

impl LimitedKey {
    /// The key in the text of a file; `None` where the text does not say of itself that it is one.
    pub fn from_file(text: &[u8]) -> Option<Result<Self, LimitedKeyError>> {
        #[derive(Deserialize)]
        struct Named {
            schema: String,
        }
        match serde_json::from_slice::<Named>(text).ok()?.schema.as_str() {
            VERIFY_KEY_SCHEMA => Some(VerifyKey::from_file(text).map(Self::Verify)),
            WRITE_KEY_SCHEMA => Some(WriteKey::from_file(text).map(Box::new).map(Self::Write)),
            _ => None,
        }
    }

    /// The text of its file.
    pub fn to_file(&self) -> Zeroizing<String> {
        match self {
            Self::Verify(key) => key.to_file(),
            Self::Write(key) => key.to_file(),
        }
    }

    /// The store whose signatures are trusted.
    pub fn store_id(&self) -> StoreId {
        match self {
            Self::Verify(key) => key.store_id(),
            Self::Write(key) => key.store_id(),
        }
    }

    /// The store's settings for this machine, as they were when the key was made.
    pub fn settings(&self) -> Option<&str> {
        match self {
            Self::Verify(key) => key.settings(),
            Self::Write(key) => key.settings(),
        }
    }

    /// What seals this machine's catalog.
    pub fn catalog_key(&self) -> CatalogKey {
        match self {
            Self::Verify(key) => key.catalog_key(),
            Self::Write(key) => key.catalog_key(),
        }
    }
}
