//! What can be done with records, inside a transaction.

use super::error::{Error, Result};
use super::record::{Opened, Purpose, Records};
use crate::crypto::ChamberKey;
use crate::id::Digest;
use crate::vault::{self, Database, KeptEntry, KeyRange, Raw, RawEntry};
use crate::vault::{decode_key, decode_value, encode_key, encode_prefix, encode_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;
use std::time::Duration;
use zeroize::Zeroizing;

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
        self.store_measured(purpose, key, value).map(drop)
    }

    /// The same, and says how long the value is.
    pub(crate) fn store_measured<K, V>(&self, purpose: Purpose, key: &K, value: &V) -> Result<u64>
    where
        K: Serialize + ?Sized,
        V: Serialize + ?Sized,
    {
        let value = Zeroizing::new(encode_value(value)?);
        self.records(purpose).put(&encode_key(key)?, &value, None)?;
        Ok(value.len() as u64)
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
        Ok(self.retrieve_measured(purpose, key)?.map(|(value, _)| value))
    }

    /// The same, with how long it is.
    pub(crate) fn retrieve_measured<V: DeserializeOwned>(
        &self,
        purpose: Purpose,
        key: &(impl Serialize + ?Sized),
    ) -> Result<Option<(V, u64)>> {
        let opened = self.records(purpose).get(&encode_key(key)?)?;
        let measured = |opened: Opened| Ok((decode_value(&opened.value)?, opened.value.len() as u64));
        opened.map(measured).transpose()
    }

    /// How long the value under a key is; `None` where there is none.
    pub(crate) fn measured<K: Serialize + ?Sized>(&self, purpose: Purpose, key: &K) -> Result<Option<u64>> {
        let opened = self.records(purpose).get(&encode_key(key)?)?;
        Ok(opened.map(|opened| opened.value.len() as u64))
    }

    /// The time when the transaction began, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.raw.now_ms()
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
                self.clean(&row)?;
                count += 1;
            }
        }
        self.database.note_time(self.raw)?;
        Ok(count)
    }

    /// Removes an expired record. The index by which it was found may be damaged: what has not expired does not go by its
    /// word.
    fn clean(&self, row: &[u8]) -> Result<()> {
        let purpose = row.first().copied().and_then(Purpose::of_byte).ok_or(Error::Torn)?;
        let records = self.records(purpose);
        let key = self.raw.get(row, |entry| records.open_key(entry))?.ok_or(Error::Torn)?;
        if records.contains(&key)? || records.get(&key)?.is_some() {
            return Err(Error::Torn);
        }
        records.delete(&key).map(drop)
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
                let row = fresh.row(&key);
                let sealed = [fresh.sealed_key(&row, &key, expires), fresh.sealed_value(&key, &value, expires)];
                let row = [&[NEW_MARK], row.as_slice()].concat();
                for (table, sealed) in self.tables().iter().zip(&sealed) {
                    table.put(RawEntry { key: &row, value: sealed, expires, digest: None })?;
                }
                count += 1;
            }
        }
        for table in self.tables() {
            table.delete_range(&KeyRange { from: Vec::new(), to: Some(vec![NEW_MARK]) })?;
            table.drop_first_byte()?;
        }
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

    /// How many records of every purpose there are, expired ones too, without opening any.
    pub(crate) fn count_all(&self) -> Result<u64> {
        let [of_keys, of_values] = self.tables().map(|table| table.count(&KeyRange::all()));
        let (of_keys, of_values) = (of_keys?, of_values?);
        if of_keys == of_values { Ok(of_keys) } else { Err(Error::Torn) }
    }

    /// Gives each record of every purpose to `visit`, expired ones too, one after another.
    pub(crate) fn each_of_all<E: From<Error>>(
        &self,
        mut visit: impl FnMut(Purpose, &[u8], &[u8], Option<i64>) -> Result<(), E>,
    ) -> Result<(), E> {
        for purpose in self.purposes()? {
            let records = self.records(purpose);
            records.each_key(|key, expires| visit(purpose, &key, &records.get_any(&key)?, expires))?;
        }
        Ok(())
    }

    /// Puts a record of any purpose as it was given out.
    pub(crate) fn put_any(&self, purpose: Purpose, entry: &KeptEntry) -> Result<()> {
        self.records(purpose).put(&entry.key, &entry.value, entry.expires)
    }

    /// Deletes all records of every purpose, damaged ones too.
    pub(crate) fn clear_all(&self) -> Result<()> {
        Ok(self.tables().iter().try_for_each(|table| table.delete_range(&KeyRange::all()).map(drop))?)
    }

    pub(super) fn put_kept(&self, entry: &KeptEntry) -> Result<()> {
        self.records(Purpose::RECORD).put(&entry.key, &entry.value, entry.expires)
    }

    fn decoded<K: DeserializeOwned>(&self, purpose: Purpose, range: &KeyRange) -> Result<Vec<K>> {
        let keys = self.records(purpose).keys(range)?;
        Ok(keys.iter().map(|key| decode_key(key)).collect::<Result<_, _>>()?)
    }

    /// The purposes that there are records of; both trees must agree.
    fn purposes(&self) -> Result<Vec<Purpose>> {
        let [of_keys, of_values] = self.tables().map(|table| purposes_in(&table));
        let (of_keys, of_values) = (of_keys?, of_values?);
        if of_keys == of_values { Ok(of_keys) } else { Err(Error::Torn) }
    }

    fn tables(&self) -> [Raw<'t>; 2] {
        [*self.raw, self.raw.bodies()]
    }
}

fn purposes_in(table: &Raw<'_>) -> Result<Vec<Purpose>> {
    let mut purposes = Vec::new();
    let mut from = Vec::new();
    loop {
        let mut next = None;
        table.scan(&KeyRange { from, to: None }, |entry| -> Result<_> {
            next = entry.key.first().copied();
            Ok(ControlFlow::Break(()))
        })?;
        let Some(first) = next else { return Ok(purposes) };
        purposes.push(Purpose::of_byte(first).ok_or(Error::Torn)?);
        from = vec![first + 1];
    }
}

impl std::fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
