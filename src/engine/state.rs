//! What the engine knows of all its records together, in a record of its own that is written with each change.

use super::error::Result;
use super::record::{Collection, own_purpose};
use crate::chamber::{Error, Purpose, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const STATE: Purpose = own_purpose(0);
const KEY: &str = "state";

/// How many records there are, and how long they are together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// How many bytes, before they are sealed.
    pub bytes: u64,
}

/// A backup that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupNote {
    /// Its number: higher than those of all that were made before.
    pub number: u64,
    /// When its state was that of the records, in milliseconds since 1970.
    pub taken_ms: i64,
    /// How many records of all purposes are in it.
    pub records: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// The records, by their sort.
    pub collections: BTreeMap<Collection, Tally>,
    /// How long the file is, with its log.
    pub file_bytes: u64,
    /// The last backup, or the one that was restored if that was later.
    pub last_backup: Option<BackupNote>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// No entry of a list has this ordinal or one above.
    pub(super) unused: u64,
    /// No record was saved later.
    pub(super) newest_ms: i64,
    pub(super) tallies: BTreeMap<Collection, Tally>,
    pub(super) last_backup: Option<BackupNote>,
}

impl State {
    pub(super) fn load(tx: &Transaction<'_>) -> Result<Self> {
        Ok(tx.retrieve(STATE, KEY)?.unwrap_or_default())
    }

    pub(super) fn store(&self, tx: &Transaction<'_>) -> Result<()> {
        Ok(tx.store(STATE, KEY, self)?)
    }

    pub(super) fn tally(&self, collection: Collection) -> Tally {
        self.tallies.get(&collection).copied().unwrap_or_default()
    }

    /// Counts a change: how long the record was, and how long it is.
    pub(super) fn count(&mut self, collection: Collection, before: Option<u64>, after: Option<u64>) -> Result<()> {
        let tally = self.tallies.entry(collection).or_default();
        let counted = |sum: u64, less: u64, more: u64| sum.checked_sub(less).and_then(|sum| sum.checked_add(more));
        let count = counted(tally.count, u64::from(before.is_some()), u64::from(after.is_some()));
        let bytes = counted(tally.bytes, before.unwrap_or(0), after.unwrap_or(0));
        let (count, bytes) = count.zip(bytes).ok_or(Error::Torn)?;
        *tally = Tally { count, bytes };
        Ok(())
    }

    /// Goes on from a state that was restored: what either gave away is not given again.
    pub(super) fn go_on(&mut self, other: &Self) {
        self.unused = self.unused.max(other.unused);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
    }
}
