//! Entries in the order of their keys, read as they are wanted.

use super::database::Pooled;
use super::error::{Error, Result};
use super::key::decode_key;
use super::raw::{KeyRange, Raw};
use super::transaction::living;
use super::transfer::KeptEntry;
use super::value::decode_value;
use rusqlite::Connection;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{ControlFlow, Deref};
use std::path::Path;

/// So many bytes of entries are read ahead, or one entry where that is larger.
const PAGE_BYTES: usize = 256 * 1024;

/// What a scan reads through.
pub(super) enum Source<'v> {
    /// A state of the file of its own.
    Snapshot(Pooled<'v>),
    /// A transaction that is open.
    Transaction(&'v Connection),
}

impl Deref for Source<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Snapshot(connection) => connection,
            Self::Transaction(connection) => connection,
        }
    }
}

/// Iterates over entries in the order of their keys. Outside a transaction it sees one state of the vault, that of its
/// beginning, whatever is written meanwhile. After an error it ends.
pub struct Entries<'v, K, V> {
    source: Source<'v>,
    path: &'v Path,
    now_ms: i64,
    range: KeyRange,
    page: VecDeque<KeptEntry>,
    is_read: bool,
    types: PhantomData<fn() -> (K, V)>,
}

impl<'v, K, V> Entries<'v, K, V> {
    pub(super) fn new(source: Source<'v>, (path, now_ms): (&'v Path, i64), range: KeyRange) -> Self {
        Self { source, path, now_ms, range, page: VecDeque::new(), is_read: false, types: PhantomData }
    }

    /// Reads the next entries; those that have expired are checked and left out.
    fn read_page(&mut self) -> Result<()> {
        let raw = Raw::new(&self.source, self.path, self.now_ms);
        let (page, mut bytes, mut last, mut is_full) = (&mut self.page, 0, None, false);
        raw.scan(&self.range, |entry| -> Result<_, Error> {
            if let Some(value) = living(&raw, entry)? {
                bytes += entry.key.len() + value.len();
                let (key, value) = (entry.key.to_vec(), value.to_vec());
                page.push_back(KeptEntry { key, value, expires: entry.expires });
            }
            if bytes < PAGE_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            (last, is_full) = (Some(entry.key.to_vec()), true);
            Ok(ControlFlow::Break(()))
        })?;
        self.is_read = !is_full;
        if let Some(mut next) = last {
            next.push(0);
            self.range.from = next;
        }
        Ok(())
    }

    /// The next entry as bytes.
    pub(super) fn next_raw(&mut self) -> Option<Result<KeptEntry>> {
        if self.page.is_empty()
            && !self.is_read
            && let Err(error) = self.read_page()
        {
            self.is_read = true;
            self.page.clear();
            return Some(Err(error));
        }
        self.page.pop_front().map(Ok)
    }
}

impl<K: DeserializeOwned, V: DeserializeOwned> Iterator for Entries<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let decoded = |entry: KeptEntry| Ok((decode_key(&entry.key)?, decode_value(&entry.value)?));
        let entry = self.next_raw()?.and_then(decoded);
        if entry.is_err() {
            (self.is_read, self.page) = (true, VecDeque::new());
        }
        Some(entry)
    }
}

impl<K, V> std::fmt::Debug for Entries<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("path", &self.path).field("range", &self.range).finish_non_exhaustive()
    }
}

/// Iterates over keys alone; values may be of any type.
pub struct Keys<'v, K> {
    entries: Entries<'v, K, ()>,
}

impl<'v, K> Keys<'v, K> {
    pub(super) fn new(entries: Entries<'v, K, ()>) -> Self {
        Self { entries }
    }
}

impl<K: DeserializeOwned> Iterator for Keys<'_, K> {
    type Item = Result<K>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next_raw()?.and_then(|entry| decode_key(&entry.key)))
    }
}

impl<K> std::fmt::Debug for Keys<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entries.fmt(f)
    }
}

/// Iterates over values alone, in the order of their keys, which may be of any type.
pub struct Values<'v, V> {
    entries: Entries<'v, (), V>,
}

impl<'v, V> Values<'v, V> {
    pub(super) fn new(entries: Entries<'v, (), V>) -> Self {
        Self { entries }
    }
}

impl<V: DeserializeOwned> Iterator for Values<'_, V> {
    type Item = Result<V>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.entries.next_raw()?.and_then(|entry| decode_value(&entry.value)))
    }
}

impl<V> std::fmt::Debug for Values<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.entries.fmt(f)
    }
}
