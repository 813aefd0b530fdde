//! How a record lies in the file: in two parts, so that keys are listed without opening values, and in two trees, so that
//! what a damaged page of one hides, the other tells.
//!
//! ```text
//! table entry    purpose 1 ‖ tag 16      the key, sealed         tag = keyed hash of purpose and key
//! table body     purpose 1 ‖ tag 16      salt 12 ‖ the value, sealed
//! ```

use super::Carried;
use super::error::{Error, Result};
use crate::crypto::ChamberKey;
use crate::vault::{KeyRange, Raw, RawEntry};
use zeroize::Zeroizing;

/// What a record is for: one key may stand for something else in each purpose, and nothing sealed in one opens in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purpose(u8);

impl Purpose {
    /// What is stored under keys.
    pub const RECORD: Self = Self(1);
    /// What is stored under its own hash.
    pub const CONTENT: Self = Self(2);
    /// How many there may be.
    pub const COUNT: u8 = 120;

    /// One of a caller's own, from 0 on: for records that stand beside others, such as the entries of an index.
    pub const fn own(number: u8) -> Option<Self> {
        if number < Self::COUNT - 3 { Some(Self(number + 3)) } else { None }
    }

    /// Which one this byte stands for.
    pub(crate) fn of_byte(first: u8) -> Option<Self> {
        (first < Self::COUNT).then_some(Self(first))
    }

    /// What stands for it.
    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    /// Where its rows are, in both tables.
    pub(super) fn rows(self) -> KeyRange {
        KeyRange::beginning_with(vec![self.0])
    }
}

/// Purpose and tag.
pub(super) type Row = [u8; 17];

/// A key, and when it expires.
pub(super) type ExpiringKey = (Zeroizing<Vec<u8>>, Option<i64>);

/// A record that was opened.
pub(super) struct Opened {
    pub(super) value: Zeroizing<Vec<u8>>,
    pub(super) expires: Option<i64>,
}

/// The records of one purpose, in one transaction.
#[derive(Clone, Copy)]
pub(super) struct Records<'r> {
    pub(super) raw: &'r Raw<'r>,
    pub(super) key: &'r ChamberKey,
    pub(super) purpose: Purpose,
}

impl Records<'_> {
    /// The record under a key that has not expired.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Opened>> {
        let row = self.row(key);
        let Some(opened) = self.opened(&row, key)? else {
            // That it is not here either is what proves that it is absent: no page belongs to both trees.
            return if self.raw.contains(&row)? { Err(Error::Torn) } else { Ok(None) };
        };
        Ok((!self.raw.has_expired(opened.expires)).then_some(opened))
    }

    /// Whether there is a record under a key, without opening its value.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool> {
        let row = self.row(key);
        let open = |entry: RawEntry<'_>| self.open_key(entry).map(|_| entry.expires);
        match (self.raw.get::<_, Error>(&row, open)?, self.raw.bodies().contains(&row)?) {
            (None, false) => Ok(false),
            (Some(expires), true) => Ok(!self.raw.has_expired(expires)),
            _ => Err(Error::Torn),
        }
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8], expires: Option<i64>) -> Result<()> {
        let row = self.row(key);
        let known = self.raw.get::<_, Error>(&row, |entry| self.open_key(entry).map(|_| entry.expires))?;
        if known.is_some() != self.raw.bodies().contains(&row)? {
            return Err(Error::Torn);
        }
        // The part with the key is the same as before, unless the time is another.
        if known != Some(expires) {
            let sealed = self.sealed_key(&row, key, expires);
            self.raw.put(RawEntry { key: &row, value: &sealed, expires, digest: None })?;
        }
        let sealed = self.sealed_value(key, value, expires);
        Ok(self.raw.bodies().put(RawEntry { key: &row, value: &sealed, expires, digest: None })?)
    }

    pub(super) fn sealed_key(&self, row: &Row, key: &[u8], expires: Option<i64>) -> Vec<u8> {
        self.key.seal_fixed(&key_place(row, expires), key)
    }

    pub(super) fn sealed_value(&self, key: &[u8], value: &[u8], expires: Option<i64>) -> Vec<u8> {
        self.key.seal(&self.value_place(key, expires), value)
    }

    /// Every key, with the time when it expires; expired ones too.
    pub(super) fn all_keys(&self) -> Result<Vec<ExpiringKey>> {
        let mut keys = Vec::new();
        self.each_key(|key, expires| {
            keys.push((key, expires));
            Ok::<_, Error>(())
        })?;
        Ok(keys)
    }

    /// The value under a key that is there, though it may have expired.
    pub(super) fn get_any(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        Ok(self.opened(&self.row(key), key)?.ok_or(Error::Torn)?.value)
    }

    /// What the tree of the values has.
    fn opened(&self, row: &Row, key: &[u8]) -> Result<Option<Opened>> {
        self.raw.bodies().get(row, |entry| {
            let value = self.key.open(&self.value_place(key, entry.expires), entry.value)?;
            Ok(Opened { value, expires: entry.expires })
        })
    }

    /// Says whether there was a record that had not expired.
    pub(super) fn delete(&self, key: &[u8]) -> Result<bool> {
        let was_there = self.contains(key)?;
        let row = self.row(key);
        self.raw.delete(&row)?;
        self.raw.bodies().delete(&row)?;
        Ok(was_there)
    }

    pub(super) fn clear(&self) -> Result<()> {
        self.raw.delete_range(&self.purpose.rows())?;
        self.raw.bodies().delete_range(&self.purpose.rows())?;
        Ok(())
    }

    /// The keys whose bytes are in a range, sorted. All of the purpose are opened for it, and counted against the values, so
    /// that none is left out unseen.
    pub(super) fn keys(&self, range: &KeyRange) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        self.each_key(|key, expires| {
            let is_wanted = *key >= range.from && range.to.as_ref().is_none_or(|to| *key < *to);
            if is_wanted && !self.raw.has_expired(expires) {
                keys.push(key.to_vec());
            }
            Ok::<_, Error>(())
        })?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Gives every key to `visit`, expired ones too, in no order that means anything. Fails at the end if there are more or
    /// fewer values.
    pub(super) fn each_key<E: From<Error>>(
        &self,
        mut visit: impl FnMut(Zeroizing<Vec<u8>>, Option<i64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut found, mut last) = (0, Vec::new());
        let each = |entry: RawEntry<'_>| -> Result<_, Carried<E>> {
            // A page that is read twice gives keys twice, and hides those of another.
            if entry.key <= last.as_slice() {
                return Err(Error::Torn.into());
            }
            last.clear();
            last.extend_from_slice(entry.key);
            visit(self.open_key(entry)?, entry.expires).map_err(Carried)?;
            found += 1;
            Ok(std::ops::ControlFlow::Continue(()))
        };
        self.raw.scan(&self.purpose.rows(), each).map_err(|Carried(error)| error)?;
        let values = self.raw.bodies().count(&self.purpose.rows()).map_err(Error::from)?;
        if found == values { Ok(()) } else { Err(Error::Torn.into()) }
    }

    /// The key in an entry of the keys' tree, if it is that of its place.
    pub(super) fn open_key(&self, entry: RawEntry<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.key.open_fixed(&key_place(entry.key, entry.expires), entry.value)?;
        if self.row(&key) != entry.key {
            return Err(Error::Torn);
        }
        Ok(key)
    }

    /// What both parts of a record lie under.
    pub(super) fn row(&self, key: &[u8]) -> Row {
        let mut row = [self.purpose.0; 17];
        row[1..].copy_from_slice(&self.key.tag(&[self.purpose.0], key));
        row
    }

    /// What a value is bound to: purpose, key and the time when it expires; the key adds the node.
    fn value_place(&self, key: &[u8], expires: Option<i64>) -> Vec<u8> {
        let mut place = vec![self.purpose.0];
        place.extend(time_bytes(expires));
        place.extend_from_slice(key);
        place
    }
}

/// What a key is bound to. One place holds one text in all its life: the tag stands for the key, and another time of expiry
/// makes another place.
fn key_place(row: &[u8], expires: Option<i64>) -> Vec<u8> {
    [row, &time_bytes(expires)].concat()
}

fn time_bytes(expires: Option<i64>) -> [u8; 9] {
    let mut bytes = [u8::from(expires.is_some()); 9];
    bytes[1..].copy_from_slice(&expires.unwrap_or(0).to_le_bytes());
    bytes
}
