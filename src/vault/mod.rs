//! A dictionary that stays: typed keys and values in one SQLite file.
//!
//! *What it is.* [`Vault`]: the idioms of the standard maps over a file, for any key and value that serde can write; for
//! several steps at once a [`Transaction`]. Nothing in it is sealed: for that there is the chamber.
//!
//! *What it knows.* Keys as bytes that sort as the keys do (`key/`); values as CBOR (`value.rs`); both as JSON lines
//! (`transfer.rs`); when an entry expires.
//!
//! *What it does not know.* Stores, secrets, what the entries stand for.
//!
//! # Invariants
//!
//! - **What was acknowledged is there**, after a kill too, and with [`Durability::Full`] after a loss of power: each change
//!   is one transaction, and many changes are one where they go through [`Vault::transaction`].
//! - **No entry is given out that is not what was written**: each has a checksum.
//! - **No expired entry is given out**, whether or not it was cleared away. The time is the wall clock's, the only one that
//!   goes on through restarts, and never goes back: not in a process, and not between processes once a time was written
//!   ([`Vault::put_with_ttl`], [`Vault::cleanup_expired`]).
//! - **A name leads nowhere**: it becomes a file name through [`VaultName`].
//!
//! ```text
//! Vault ── Transaction ── key/, value.rs ── raw.rs: bytes under bytes ── database.rs: file, threads, processes
//!    └──── Entries, Keys, Values                  └ the chamber stands on these two as well
//! ```

mod connection;
mod database;
mod dictionary;
mod error;
pub(crate) mod file;
mod intake;
mod json;
mod key;
mod line;
mod name;
mod raw;
mod scan;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;
mod transfer;
mod value;
mod watch;

pub use error::{Error, Result};
pub use key::MAX_KEY_BYTES;
pub use name::{MAX_NAME_BYTES, VaultName};
pub use scan::{Entries, Keys, Values};
pub use transaction::Transaction;
pub use transfer::{Any, EXPORT_SCHEMA, MAX_LINE_BYTES, UntypedEntry};
pub use value::{Blob, MAX_DEPTH, MAX_VALUE_BYTES};

pub(crate) use database::{Database, Form};
pub(crate) use key::{decode_key, encode_key, encode_prefix};
pub(crate) use raw::{KeyRange, Raw, RawEntry};
pub(crate) use transfer::{ExportWriter, KeptEntry, read_export};
pub(crate) use value::{decode_value, encode_value};

use serde::Serialize;
use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Says in the file's header what it is: `SHVT`.
const APPLICATION_ID: i32 = 0x5348_5654;

/// What the time is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// One that says what time it is in milliseconds since 1970-01-01T00:00:00Z.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Clock {
    /// The wall clock.
    fn default() -> Self {
        Self::new(|| UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What a change outlives once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A loss of power too.
    #[default]
    Full,
    /// A kill of the process; a loss of power may undo the last changes, and tears none.
    Relaxed,
}

/// How a vault is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What entries expire by.
    pub clock: Clock,
    /// What a change outlives.
    pub durability: Durability,
}

impl Options {
    pub(crate) fn parts(self) -> (Clock, Durability) {
        (self.clock, self.durability)
    }
}

/// A dictionary in a file. Share it between threads by reference; other processes may have it open too. A writer waits for
/// the others, up to half a minute; readers wait for nobody.
#[derive(Debug)]
pub struct Vault {
    database: Database,
}

impl Vault {
    /// Opens the vault of this name in a folder; folder and vault are made where they are not there.
    pub fn open(root: &Path, name: &str, options: Options) -> Result<Self> {
        let path = root.join(VaultName::new(name)?.file_name());
        Ok(Self { database: Database::open(&path, form(), options.parts())? })
    }

    /// Opens the vault that there is; [`Error::Absent`] where there is none.
    pub fn open_existing(root: &Path, name: &str, options: Options) -> Result<Self> {
        let path = root.join(VaultName::new(name)?.file_name());
        Ok(Self { database: Database::open_existing(&path, form(), options.parts())? })
    }

    /// Deletes it with all that is in it. Whoever has it open is told so by [`Error::Deleted`].
    pub fn delete_vault(self) -> Result<()> {
        self.database.delete()
    }

    /// Deletes it if there is no entry in it, expired ones too; says whether it did.
    pub fn delete_if_empty(self) -> Result<bool> {
        self.database.delete_if_empty()
    }

    pub(crate) fn holds_nothing(&self) -> Result<bool> {
        self.database.holds_nothing()
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        self.database.path()
    }
}

fn form() -> Form {
    Form { application_id: APPLICATION_ID, check: [0; 32], schema: database::SCHEMA, wipes: false }
}

/// A range of keys as bytes.
fn key_range<K: Serialize>(range: &impl RangeBounds<K>) -> Result<KeyRange> {
    let bytes = |bound: std::ops::Bound<&K>| {
        Ok(match bound {
            std::ops::Bound::Unbounded => std::ops::Bound::Unbounded,
            std::ops::Bound::Included(key) => std::ops::Bound::Included(encode_key(key)?),
            std::ops::Bound::Excluded(key) => std::ops::Bound::Excluded(encode_key(key)?),
        })
    };
    Ok(KeyRange::new(bytes(range.start_bound())?, bytes(range.end_bound())?))
}
