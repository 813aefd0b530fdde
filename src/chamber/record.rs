//! How a record lies in the file: in two parts, so that keys are listed without opening values, and so that one part's loss
//! is told by the other.
//!
//! ```text
//! purpose·2   ‖ tag 16      the key, sealed         tag = keyed hash of purpose and key
//! purpose·2+1 ‖ tag 16      salt 12 ‖ the value, sealed
//! ```

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

    /// Whose row begins so.
    pub(super) fn of_row(first: u8) -> Option<Self> {
        (first < Self::COUNT * 2).then_some(Self(first / 2))
    }

    fn keys(self) -> u8 {
        self.0 * 2
    }

    fn values(self) -> u8 {
        self.0 * 2 + 1
    }
}

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
        let [key_row, value_row] = self.rows(&self.tag(key));
        let open = |entry: RawEntry<'_>| {
            let value = self.key.open(&self.value_place(key, entry.expires), entry.value)?;
            Ok(Opened { value, expires: entry.expires })
        };
        let Some(opened) = self.raw.get::<_, Error>(&value_row, open)? else {
            return if self.raw.contains(&key_row)? { Err(Error::Torn) } else { Ok(None) };
        };
        Ok((!self.raw.has_expired(opened.expires)).then_some(opened))
    }

    /// Whether there is a record under a key, without opening its value.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool> {
        let [key_row, value_row] = self.rows(&self.tag(key));
        let open = |entry: RawEntry<'_>| self.open_key(entry).map(|_| entry.expires);
        match (self.raw.get::<_, Error>(&key_row, open)?, self.raw.contains(&value_row)?) {
            (None, false) => Ok(false),
            (Some(expires), true) => Ok(!self.raw.has_expired(expires)),
            _ => Err(Error::Torn),
        }
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8], expires: Option<i64>) -> Result<()> {
        let [key_row, value_row] = self.rows(&self.tag(key));
        let known = self.raw.get::<_, Error>(&key_row, |entry| self.open_key(entry).map(|_| entry.expires))?;
        if known.is_some() != self.raw.contains(&value_row)? {
            return Err(Error::Torn);
        }
        // The part with the key is the same as before, unless the time is another.
        let unchanged = usize::from(known == Some(expires));
        for (row, sealed) in self.sealed(key, value, expires).iter().skip(unchanged) {
            self.raw.put(RawEntry { key: row, value: sealed, expires, digest: None })?;
        }
        Ok(())
    }

    /// Both parts of a record.
    pub(super) fn sealed(&self, key: &[u8], value: &[u8], expires: Option<i64>) -> [([u8; 17], Vec<u8>); 2] {
        let [key_row, value_row] = self.rows(&self.tag(key));
        let sealed_key = self.key.seal_fixed(&key_place(&key_row, expires), key);
        [(key_row, sealed_key), (value_row, self.key.seal(&self.value_place(key, expires), value))]
    }

    /// Every key, with the time when it expires; expired ones too.
    pub(super) fn all_keys(&self) -> Result<Vec<ExpiringKey>> {
        let mut keys = Vec::new();
        self.each_key(|key, expires| keys.push((key, expires)))?;
        Ok(keys)
    }

    /// The value under a key that is there, though it may have expired.
    pub(super) fn get_any(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let [_, value_row] = self.rows(&self.tag(key));
        let open = |entry: RawEntry<'_>| Ok(self.key.open(&self.value_place(key, entry.expires), entry.value)?);
        self.raw.get::<_, Error>(&value_row, open)?.ok_or(Error::Torn)
    }

    /// Says whether there was a record that had not expired.
    pub(super) fn delete(&self, key: &[u8]) -> Result<bool> {
        let was_there = self.contains(key)?;
        for row in self.rows(&self.tag(key)) {
            self.raw.delete(&row)?;
        }
        Ok(was_there)
    }

    pub(super) fn clear(&self) -> Result<()> {
        for first in [self.purpose.keys(), self.purpose.values()] {
            self.raw.delete_range(&KeyRange::beginning_with(vec![first]))?;
        }
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
        })?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn each_key(&self, mut visit: impl FnMut(Zeroizing<Vec<u8>>, Option<i64>)) -> Result<()> {
        let (mut found, mut last) = (0, Vec::new());
        self.raw.scan(&KeyRange::beginning_with(vec![self.purpose.keys()]), |entry| -> Result<_> {
            // A page that is read twice gives keys twice, and hides those of another.
            if entry.key <= last.as_slice() {
                return Err(Error::Torn);
            }
            last.clear();
            last.extend_from_slice(entry.key);
            visit(self.open_key(entry)?, entry.expires);
            found += 1;
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let values = self.raw.count(&KeyRange::beginning_with(vec![self.purpose.values()]))?;
        if found == values { Ok(()) } else { Err(Error::Torn) }
    }

    /// The key in an entry of the keys' part, if it is that of its place.
    pub(super) fn open_key(&self, entry: RawEntry<'_>) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.key.open_fixed(&key_place(entry.key, entry.expires), entry.value)?;
        if self.rows(&self.tag(&key))[0] != entry.key {
            return Err(Error::Torn);
        }
        Ok(key)
    }

    fn tag(&self, key: &[u8]) -> [u8; 16] {
        self.key.tag(&[self.purpose.0], key)
    }

    fn rows(&self, tag: &[u8; 16]) -> [[u8; 17]; 2] {
        [self.purpose.keys(), self.purpose.values()].map(|first| {
            let mut row = [first; 17];
            row[1..].copy_from_slice(tag);
            row
        })
    }

    /// What a value is bound to: purpose, key and the time when it expires; the key adds the node.
    fn value_place(&self, key: &[u8], expires: Option<i64>) -> Vec<u8> {
        let mut place = vec![self.purpose.values()];
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
