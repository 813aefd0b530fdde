//! Lists in pages: from a place on, and not from a number on, so that what is saved or deleted meanwhile neither repeats nor
//! hides an entry.

use super::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A page has at most this many records.
pub const MAX_PAGE_RECORDS: usize = 1000;
/// A page ends with the record with which it reaches this many bytes: records may be long.
pub const MAX_PAGE_BYTES: u64 = 16 * 1024 * 1024;

/// A place in a list. It stays one whatever is saved, deleted or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub(super) u64);

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many records; 1 to [`MAX_PAGE_RECORDS`].
    pub limit: usize,
    /// Those older than this place; the newest where it is not given.
    pub before: Option<Cursor>,
}

impl PageRequest {
    /// The newest records.
    pub fn newest(limit: usize) -> Self {
        Self { limit, before: None }
    }

    /// Those that follow a page, if any do.
    pub fn after<T>(limit: usize, page: &Page<T>) -> Option<Self> {
        page.next.map(|cursor| Self { limit, before: Some(cursor) })
    }

    pub(super) fn checked_limit(&self) -> Result<usize> {
        if (1..=MAX_PAGE_RECORDS).contains(&self.limit) {
            return Ok(self.limit);
        }
        Err(Error::Limit { limit: self.limit, most: MAX_PAGE_RECORDS })
    }
}

/// Part of a list, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The records; fewer than the limit where they are long, or the list ends.
    pub records: Vec<T>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<Cursor>,
}
