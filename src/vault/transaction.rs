//! What can be done with entries, inside a transaction.

use super::error::{Error, Result};
use super::key::{decode_key, encode_key, encode_prefix};
use super::raw::{KeyRange, Raw, RawEntry};
use super::scan::{Entries, Keys, Source, Values};
use super::value::{decode_value, encode_value};
use super::{Database, key_range};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::{ControlFlow, RangeBounds};
use std::path::Path;
use std::time::Duration;

/// Expired entries are cleared away so many at a time.
const CLEANING_STEP: usize = 1000;

/// A transaction that is open: what is done through it happens together, or not at all.
#[derive(Debug)]
pub struct Transaction<'t> {
    raw: Raw<'t>,
    database: &'t Database,
}

/// Says by a checksum of the whole entry whether it is what was written: SQLite keeps none.
fn digest(key: &[u8], value: &[u8], expires: Option<i64>) -> i64 {
    let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
    crc.update(&expires.unwrap_or(i64::MAX).to_le_bytes());
    crc.update(&(key.len() as u64).to_le_bytes());
    crc.update(key);
    crc.update(value);
    i64::from(crc.finalize() as u32)
}

/// The value of an entry, unless it has expired; an entry that is not what was written is damage, expired or not.
pub(super) fn living<'r>(raw: &Raw<'_>, entry: RawEntry<'r>) -> Result<Option<&'r [u8]>> {
    if entry.digest != Some(digest(entry.key, entry.value, entry.expires)) {
        return Err(raw.damaged("an entry is not what was written"));
    }
    Ok((!raw.has_expired(entry.expires)).then_some(entry.value))
}

impl<'t> Transaction<'t> {
    pub(super) fn new(raw: Raw<'t>, database: &'t Database) -> Self {
        Self { raw, database }
    }

    /// Puts a value under a key, over whatever was there.
    pub fn put<K: Serialize + ?Sized, V: Serialize + ?Sized>(&self, key: &K, value: &V) -> Result<()> {
        self.put_raw(&encode_key(key)?, &encode_value(value)?, None)
    }

    /// Puts a value that expires after a while.
    pub fn put_with_ttl<K, V>(&self, key: &K, value: &V, ttl: Duration) -> Result<()>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        let expires = self.raw.after(ttl);
        self.database.note_time(&self.raw)?;
        self.put_raw(&encode_key(key)?, &encode_value(value)?, Some(expires))
    }

    /// Puts a value under a key, and gives the one that was there.
    pub fn insert<K: Serialize + ?Sized, V: Serialize + DeserializeOwned>(
        &self,
        key: &K,
        value: &V,
    ) -> Result<Option<V>> {
        let before = self.get(key)?;
        self.put(key, value)?;
        Ok(before)
    }

    /// The value under a key.
    pub fn get<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized)) -> Result<Option<V>> {
        let found = self.raw.get(&encode_key(key)?, |entry| living(&self.raw, entry)?.map(decode_value).transpose())?;
        Ok(found.flatten())
    }

    /// The value under a key, which is put there if there is none.
    pub fn get_or_insert_with<K, V>(&self, key: &K, make: impl FnOnce() -> V) -> Result<V>
    where
        K: Serialize + ?Sized,
        V: Serialize + DeserializeOwned,
    {
        if let Some(value) = self.get(key)? {
            return Ok(value);
        }
        let value = make();
        self.put(key, &value)?;
        Ok(value)
    }

    /// Whether there is a value under a key.
    pub fn contains_key<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        let found = self.raw.get(&encode_key(key)?, |entry| living(&self.raw, entry).map(|value| value.is_some()))?;
        Ok(found.unwrap_or(false))
    }

    /// Removes an entry, and says whether there was one.
    pub fn remove<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        let was_there = self.contains_key(key)?;
        self.raw.delete(&encode_key(key)?)?;
        Ok(was_there)
    }

    /// Removes an entry, and gives its value. One of another type is an error, and stays.
    pub fn pop<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized)) -> Result<Option<V>> {
        let value = self.get(key)?;
        self.raw.delete(&encode_key(key)?)?;
        Ok(value)
    }

    /// Removes the entry with the smallest key, and gives it.
    pub fn pop_first<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Result<Option<(K, V)>> {
        let mut first = None;
        self.raw.scan(&KeyRange::all(), |entry| -> Result<_> {
            let Some(value) = living(&self.raw, entry)? else { return Ok(ControlFlow::Continue(())) };
            first = Some((entry.key.to_vec(), decode_key(entry.key)?, decode_value(value)?));
            Ok(ControlFlow::Break(()))
        })?;
        let Some((bytes, key, value)) = first else { return Ok(None) };
        self.raw.delete(&bytes)?;
        Ok(Some((key, value)))
    }

    /// Adds to the integer under a key, 0 if there is none, and gives the sum. When it expires stays as it is.
    pub fn increment<K: Serialize + ?Sized>(&self, key: &K, by: i64) -> Result<i64> {
        let refuse = |why| Error::NotIncremented { by, why };
        let bytes = encode_key(key)?;
        let read = |entry: RawEntry<'_>| {
            let Some(value) = living(&self.raw, entry)? else { return Ok((0, None)) };
            let number = decode_value(value).map_err(|_| refuse("it is no integer of 64 bits"))?;
            Ok((number, entry.expires))
        };
        let (before, expires) = self.raw.get::<(i64, _), Error>(&bytes, read)?.unwrap_or((0, None));
        let after = before.checked_add(by).ok_or_else(|| refuse("the sum is beyond 64 bits"))?;
        self.put_raw(&bytes, &encode_value(&after)?, expires)?;
        Ok(after)
    }

    /// Puts many values, and says how many.
    pub fn extend<K: Serialize, V: Serialize>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64> {
        let mut count = 0;
        for (key, value) in entries {
            self.put(&key, &value)?;
            count += 1;
        }
        Ok(count)
    }

    /// Removes everything, and says how many entries there were.
    pub fn clear(&self) -> Result<u64> {
        let count = self.len()?;
        self.raw.delete_range(&KeyRange::all())?;
        Ok(count)
    }

    /// How many entries there are. Counts them: takes as long as reading the keys takes.
    pub fn len(&self) -> Result<u64> {
        self.raw.count_living()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        let mut is_empty = true;
        self.raw.scan(&KeyRange::all(), |entry| -> Result<_> {
            is_empty = living(&self.raw, entry)?.is_none();
            Ok(if is_empty { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(is_empty)
    }

    /// All entries, in the order of their keys.
    pub fn iter<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Entries<'_, K, V> {
        self.entries(KeyRange::all())
    }

    /// All keys, in order.
    pub fn keys<K: DeserializeOwned>(&self) -> Keys<'_, K> {
        Keys::new(self.entries(KeyRange::all()))
    }

    /// All values, in the order of their keys.
    pub fn values<V: DeserializeOwned>(&self) -> Values<'_, V> {
        Values::new(self.entries(KeyRange::all()))
    }

    /// The entries whose keys are in a range.
    pub fn range<K, V>(&self, range: impl RangeBounds<K>) -> Result<Entries<'_, K, V>>
    where
        K: Serialize + DeserializeOwned,
        V: DeserializeOwned,
    {
        Ok(self.entries(key_range(&range)?))
    }

    /// The entries whose keys begin so: with this text, or as a tuple with these members.
    pub fn prefix<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        prefix: &(impl Serialize + ?Sized),
    ) -> Result<Entries<'_, K, V>> {
        Ok(self.entries(KeyRange::beginning_with(encode_prefix(prefix)?)))
    }

    /// Removes the entries that have expired, and says how many there were.
    pub fn cleanup_expired(&self) -> Result<u64> {
        let mut count = 0;
        loop {
            let keys = self.raw.expired(CLEANING_STEP)?;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                // The index by which it was found may be damaged: what has not expired does not go by its word.
                let is_living = |entry: RawEntry<'_>| living(&self.raw, entry).map(|value| value.is_some());
                if self.raw.get(&key, is_living)? != Some(false) {
                    return Err(self.raw.damaged("what is said to have expired has not"));
                }
                self.raw.delete(&key)?;
                count += 1;
            }
        }
        self.database.note_time(&self.raw)?;
        Ok(count)
    }

    pub(crate) fn put_raw(&self, key: &[u8], value: &[u8], expires: Option<i64>) -> Result<()> {
        let digest = Some(digest(key, value, expires));
        self.raw.put(RawEntry { key, value, expires, digest })
    }

    fn entries<K, V>(&self, range: KeyRange) -> Entries<'_, K, V> {
        let path: &Path = self.database.path();
        Entries::new(Source::Transaction(self.raw.connection()), (path, self.raw.now_ms()), range)
    }
}
