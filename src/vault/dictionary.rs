//! The idioms of the standard maps, each one transaction.

use super::error::{Error, Result};
use super::key::encode_prefix;
use super::raw::KeyRange;
use super::scan::{Entries, Keys, Source, Values};
use super::transaction::{Transaction, living};
use super::{Vault, key_range};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::{ControlFlow, RangeBounds};
use std::time::Duration;

impl Vault {
    /// Does several things as one: what `work` did is durable when this returns, or undone if it failed.
    pub fn transaction<T, E: From<Error>>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        self.database.write(|raw| work(&Transaction::new(*raw, &self.database)))
    }

    fn read<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.database.read(|raw| work(&Transaction::new(*raw, &self.database)))
    }

    /// Puts a value under a key, over whatever was there.
    pub fn put<K: Serialize + ?Sized, V: Serialize + ?Sized>(&self, key: &K, value: &V) -> Result<()> {
        self.transaction(|tx| tx.put(key, value))
    }

    /// Puts a value that expires after a while.
    pub fn put_with_ttl<K, V>(&self, key: &K, value: &V, ttl: Duration) -> Result<()>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        self.transaction(|tx| tx.put_with_ttl(key, value, ttl))
    }

    /// Puts many values in one transaction, and says how many.
    pub fn put_many<K: Serialize, V: Serialize>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64> {
        self.transaction(|tx| tx.extend(entries))
    }

    /// The same, by the name that the standard maps have for it.
    pub fn extend<K: Serialize, V: Serialize>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64> {
        self.put_many(entries)
    }

    /// Puts a value under a key, and gives the one that was there.
    pub fn insert<K: Serialize + ?Sized, V: Serialize + DeserializeOwned>(
        &self,
        key: &K,
        value: &V,
    ) -> Result<Option<V>> {
        self.transaction(|tx| tx.insert(key, value))
    }

    /// The value under a key.
    pub fn get<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized)) -> Result<Option<V>> {
        self.read(|tx| tx.get(key))
    }

    /// The value under a key, or another.
    pub fn get_or<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized), otherwise: V) -> Result<V> {
        Ok(self.get(key)?.unwrap_or(otherwise))
    }

    /// The value under a key, which is put there if there is none.
    pub fn get_or_insert_with<K, V>(&self, key: &K, make: impl FnOnce() -> V) -> Result<V>
    where
        K: Serialize + ?Sized,
        V: Serialize + DeserializeOwned,
    {
        match self.get(key)? {
            Some(value) => Ok(value),
            None => self.transaction(|tx| tx.get_or_insert_with(key, make)),
        }
    }

    /// Whether there is a value under a key.
    pub fn contains_key<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        self.read(|tx| tx.contains_key(key))
    }

    /// Removes an entry, and says whether there was one.
    pub fn remove<K: Serialize + ?Sized>(&self, key: &K) -> Result<bool> {
        self.transaction(|tx| tx.remove(key))
    }

    /// Removes an entry, and gives its value. One of another type is an error, and stays.
    pub fn pop<V: DeserializeOwned>(&self, key: &(impl Serialize + ?Sized)) -> Result<Option<V>> {
        self.transaction(|tx| tx.pop(key))
    }

    /// Removes the entry with the smallest key, and gives it.
    pub fn pop_first<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Result<Option<(K, V)>> {
        self.transaction(|tx| tx.pop_first())
    }

    /// Adds to the integer under a key, 0 if there is none, and gives the sum. When it expires stays as it is.
    pub fn increment<K: Serialize + ?Sized>(&self, key: &K, by: i64) -> Result<i64> {
        self.transaction(|tx| tx.increment(key, by))
    }

    /// Removes everything, and says how many entries there were.
    pub fn clear(&self) -> Result<u64> {
        self.transaction(|tx| tx.clear())
    }

    /// How many entries there are. Counts them: takes as long as reading the keys takes.
    pub fn len(&self) -> Result<u64> {
        self.read(|tx| tx.len())
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> Result<bool> {
        self.read(|tx| tx.is_empty())
    }

    /// Removes the entries that have expired, and says how many there were.
    pub fn cleanup_expired(&self) -> Result<u64> {
        self.transaction(|tx| tx.cleanup_expired())
    }

    /// All entries, in the order of their keys.
    pub fn iter<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Result<Entries<'_, K, V>> {
        self.entries(KeyRange::all())
    }

    /// All keys, in order.
    pub fn keys<K: DeserializeOwned>(&self) -> Result<Keys<'_, K>> {
        self.entries(KeyRange::all()).map(Keys::new)
    }

    /// All values, in the order of their keys.
    pub fn values<V: DeserializeOwned>(&self) -> Result<Values<'_, V>> {
        self.entries(KeyRange::all()).map(Values::new)
    }

    /// The entries whose keys are in a range.
    pub fn range<K, V>(&self, range: impl RangeBounds<K>) -> Result<Entries<'_, K, V>>
    where
        K: Serialize + DeserializeOwned,
        V: DeserializeOwned,
    {
        self.entries(key_range(&range)?)
    }

    /// The entries whose keys begin so: with this text, or as a tuple with these members.
    pub fn prefix<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        prefix: &(impl Serialize + ?Sized),
    ) -> Result<Entries<'_, K, V>> {
        self.entries(KeyRange::beginning_with(encode_prefix(prefix)?))
    }

    /// Reads the whole file and every entry, and says [`Error::Damaged`] if something is not what was written.
    pub fn check(&self) -> Result<()> {
        self.database.check()?;
        self.database
            .read(|raw| raw.scan(&KeyRange::all(), |entry| living(raw, entry).map(|_| ControlFlow::Continue(()))))
    }

    pub(super) fn entries<K, V>(&self, range: KeyRange) -> Result<Entries<'_, K, V>> {
        let source = Source::Snapshot(self.database.snapshot()?.0);
        Ok(Entries::new(source, (self.database.path(), self.database.now_ms()), range))
    }
}
