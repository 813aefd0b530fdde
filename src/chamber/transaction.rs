//! What can be done with records, inside a transaction.

use super::error::{Error, Result};
use super::record::{Purpose, Records};
use crate::crypto::ChamberKey;
use crate::id::Digest;
use crate::vault::{self, Database, KeptEntry, KeyRange, Raw, RawEntry};
use crate::vault::{decode_key, decode_value, encode_key, encode_prefix, encode_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;
use std::time::Duration;

/// Expired records are cleared away so many at a time.
const CLEANING_STEP: usize = 1000;
/// What a key begins with while everything is sealed anew: above every purpose.
const NEW_MARK: u8 = u8::MAX;

/// A transaction that is open: what is done through it happens together, or not at all.
pub struct Transaction<'t> {
    raw: &'t Raw<'t>,
    key: &'t ChamberKey,
    database: &'t Database,
}

impl<'t> Transaction<'t> {
    pub(super) fn new(raw: &'t Raw<'t>, key: &'t ChamberKey, database: &'t Database) -> Self {
        Self { raw, key, database }
    }

    fn records(&self, purpose: Purpose) -> Records<'_> {
        Records { raw: self.raw, key: self.key, purpose }
    }

    /// Stores a value under a key, over whatever was there.
    pub fn store<K, V>(&self, purpose: Purpose, key: &K, value: &V) -> Result<()>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        self.records(purpose).put(&encode_key(key)?, &encode_value(value)?, None)
    }

    /// Stores a value that expires after a while.
    pub fn store_with_ttl<K, V>(&self, key: &K, value: &V, ttl: Duration) -> Result<()>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        let expires = self.raw.after(ttl);
        self.database.note_time(self.raw)?;
        self.records(Purpose::RECORD).put(&encode_key(key)?, &encode_value(value)?, Some(expires))
    }

    /// The value under a key.
    pub fn retrieve<V: DeserializeOwned>(
        &self,
        purpose: Purpose,
        key: &(impl Serialize + ?Sized),
    ) -> Result<Option<V>> {
        let opened = self.records(purpose).get(&encode_key(key)?)?;
        Ok(opened.map(|opened| decode_value(&opened.value)).transpose()?)
    }

    /// Deletes a record, and says whether there was one.
    pub fn delete<K: Serialize + ?Sized>(&self, purpose: Purpose, key: &K) -> Result<bool> {
        self.records(purpose).delete(&encode_key(key)?)
    }

    /// Whether there is a record under a key.
    pub fn exists<K: Serialize + ?Sized>(&self, purpose: Purpose, key: &K) -> Result<bool> {
        self.records(purpose).contains(&encode_key(key)?)
    }

    /// All keys in order.
    pub fn list_keys<K: DeserializeOwned>(&self, purpose: Purpose) -> Result<Vec<K>> {
        self.decoded(purpose, &KeyRange::all())
    }

    /// The keys that begin so.
    pub fn list_keys_beginning<K: DeserializeOwned>(
        &self,
        purpose: Purpose,
        prefix: &(impl Serialize + ?Sized),
    ) -> Result<Vec<K>> {
        self.decoded(purpose, &KeyRange::beginning_with(encode_prefix(prefix)?))
    }

    /// How many records there are.
    pub fn len(&self, purpose: Purpose) -> Result<u64> {
        Ok(self.records(purpose).keys(&KeyRange::all())?.len() as u64)
    }

    /// Whether there is no record.
    pub fn is_empty(&self, purpose: Purpose) -> Result<bool> {
        Ok(self.len(purpose)? == 0)
    }

    /// Deletes all records of a purpose, and says how many there were.
    pub fn clear(&self, purpose: Purpose) -> Result<u64> {
        let count = self.len(purpose)?;
        self.records(purpose).clear()?;
        Ok(count)
    }

    /// Keeps bytes under their BLAKE3 hash.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        if bytes.len() > vault::MAX_VALUE_BYTES {
            let (bytes, most) = (bytes.len(), vault::MAX_VALUE_BYTES);
            return Err(vault::Error::TooLarge { what: "value", bytes, most }.into());
        }
        let hash = Digest(*blake3::hash(bytes).as_bytes());
        let contents = self.records(Purpose::CONTENT);
        if !contents.contains(hash.as_bytes())? {
            contents.put(hash.as_bytes(), bytes, None)?;
        }
        Ok(hash)
    }

    /// The bytes of this hash.
    pub fn get(&self, hash: Digest) -> Result<Option<Vec<u8>>> {
        let Some(opened) = self.records(Purpose::CONTENT).get(hash.as_bytes())? else { return Ok(None) };
        if blake3::hash(&opened.value) != *hash.as_bytes() {
            return Err(Error::OtherContent { hash });
        }
        Ok(Some(opened.value.to_vec()))
    }

    /// Removes what has expired, and says how many records that were.
    pub fn cleanup_expired(&self) -> Result<u64> {
        let mut count = 0;
        loop {
            let rows = self.raw.expired(CLEANING_STEP)?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                count += u64::from(self.clean(&row)?);
            }
        }
        self.database.note_time(self.raw)?;
        Ok(count)
    }

    /// Removes an expired record by one of its rows; `false` if it went with the other.
    fn clean(&self, row: &[u8]) -> Result<bool> {
        let Some((&first, tag)) = row.split_first() else { return Err(Error::Torn) };
        let Some(purpose) = Purpose::of_row(first) else { return Err(Error::Torn) };
        let key_row = [&[first & !1], tag].concat();
        let records = self.records(purpose);
        // What is damaged may not have expired at all.
        let key = self.raw.get(&key_row, |entry| records.open_key(entry))?;
        match key {
            Some(key) => records.get(&key).and_then(|_| records.delete(&key)).map(|_| true),
            None if self.raw.contains(row)? => Err(Error::Torn),
            None => Ok(false),
        }
    }

    /// Seals every record under another key, and says how many there were.
    pub(super) fn seal_anew(&self, new: &ChamberKey) -> Result<u64> {
        let mut count = 0;
        for purpose in self.purposes()? {
            let old = self.records(purpose);
            let keys = old.all_keys()?;
            for (key, expires) in keys {
                let value = old.get_any(&key)?;
                let fresh = Records { raw: self.raw, key: new, purpose };
                for (row, sealed) in fresh.sealed(&key, &value, expires) {
                    let row = [&[NEW_MARK], row.as_slice()].concat();
                    self.raw.put(RawEntry { key: &row, value: &sealed, expires, digest: None })?;
                }
                count += 1;
            }
        }
        self.raw.delete_range(&KeyRange { from: Vec::new(), to: Some(vec![NEW_MARK]) })?;
        self.raw.drop_first_byte()?;
        Ok(count)
    }

    /// Opens everything.
    pub(super) fn check(&self) -> Result<()> {
        for purpose in self.purposes()? {
            let records = self.records(purpose);
            for (key, _) in records.all_keys()? {
                records.get_any(&key)?;
            }
        }
        Ok(())
    }

    /// Gives each record to `visit`, in the order of the keys.
    pub(super) fn each<E: From<Error>>(
        &self,
        prefix: Option<&str>,
        mut visit: impl FnMut(KeptEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let range = match prefix {
            None => KeyRange::all(),
            Some(prefix) => KeyRange::beginning_with(encode_prefix(prefix).map_err(Error::from)?),
        };
        let records = self.records(Purpose::RECORD);
        for key in records.keys(&range)? {
            if let Some(opened) = records.get(&key)? {
                visit(KeptEntry { key, value: opened.value.to_vec(), expires: opened.expires })?;
            }
        }
        Ok(())
    }

    pub(super) fn put_kept(&self, entry: &KeptEntry) -> Result<()> {
        self.records(Purpose::RECORD).put(&entry.key, &entry.value, entry.expires)
    }

    fn decoded<K: DeserializeOwned>(&self, purpose: Purpose, range: &KeyRange) -> Result<Vec<K>> {
        let keys = self.records(purpose).keys(range)?;
        Ok(keys.iter().map(|key| decode_key(key)).collect::<Result<_, _>>()?)
    }

    /// The purposes that there are records of.
    fn purposes(&self) -> Result<Vec<Purpose>> {
        let mut purposes = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut next = None;
            self.raw.scan(&KeyRange { from, to: None }, |entry| -> Result<_> {
                next = entry.key.first().copied();
                Ok(ControlFlow::Break(()))
            })?;
            let Some(first) = next else { return Ok(purposes) };
            let purpose = Purpose::of_row(first).ok_or(Error::Torn)?;
            purposes.push(purpose);
            from = vec![(first | 1) + 1];
        }
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
