//! Lists, the newest first, as records of the chamber: an entry is found from any place in the list without reading those
//! that are newer, and what is missing of a list is told by the rest of it.
//!
//! An entry's ordinal is where it stands; it is never given twice, so that a place in a list stays one when entries go.
//! Thirty-two entries make a leaf. Above the leaves stand words, each with a bit for every leaf or word below that there is.
//! They lie under tags like all records: a copy of the file tells neither which records stand in one list nor in what order.
//!
//! ```text
//! head  (list)                     first ordinal, entries ever, entries now
//! leaf  (list, 0, ordinal / 32)    (ordinal % 32, id) …
//! word  (list, level, …)           32 bits
//! ```

use super::record::{ListName, own_purpose};
use crate::chamber::{Error, Purpose, Result, Transaction};
use crate::vault::Blob;
use serde::{Deserialize, Serialize};

const HEADS: Purpose = own_purpose(6);
const NODES: Purpose = own_purpose(7);
/// The purposes of what lists are made of.
pub(super) const PURPOSES: [Purpose; 2] = [HEADS, NODES];
/// How many bits of an ordinal one level decides: a leaf stays within a page of the file.
const LEVEL_BITS: u32 = 5;
const LEVEL_MASK: u64 = (1 << LEVEL_BITS) - 1;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Head {
    /// What the first entry's ordinal was: above all that were given before the list was made.
    first: u64,
    /// How many entries there ever were.
    ever: u64,
    /// How many there are.
    now: u64,
}

/// Slots and ids, in order.
type Leaf = Vec<(u8, Blob)>;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListEntry {
    pub(super) ordinal: u64,
    pub(super) id: Vec<u8>,
}

/// One list, in one transaction.
#[derive(Clone, Copy)]
pub(super) struct List<'t> {
    tx: &'t Transaction<'t>,
    name: ListName,
}

/// How many levels of words stand above the leaves of so many entries.
fn height(entries: u64) -> u32 {
    let last_bits = u64::BITS - entries.saturating_sub(1).leading_zeros();
    last_bits.div_ceil(LEVEL_BITS).saturating_sub(1)
}

fn bit(number: u64) -> u32 {
    1 << (number & LEVEL_MASK)
}

/// The highest bit that is set, below the word of this number.
fn highest(word: u32, number: u64) -> u64 {
    number << LEVEL_BITS | u64::from(word.ilog2())
}

impl<'t> List<'t> {
    pub(super) fn new(tx: &'t Transaction<'t>, name: ListName) -> Self {
        Self { tx, name }
    }

    /// Adds an entry as the newest, and gives its ordinal. `unused` and all above it were never given in any list.
    pub(super) fn append(&self, id: &[u8], unused: u64) -> Result<u64> {
        let mut head = self.head()?.unwrap_or(Head { first: unused, ever: 0, now: 0 });
        let index = head.ever;
        head.ever += 1;
        head.now += 1;
        let (before, after) = (height(index), height(head.ever));
        if after > before && self.is_there(before, 0)? {
            self.put(after, 0, &bit(0))?;
        }
        let mut leaf: Leaf = self.node(0, index >> LEVEL_BITS)?.unwrap_or_default();
        let is_new = leaf.is_empty();
        leaf.push(((index & LEVEL_MASK) as u8, Blob(id.to_vec())));
        self.put(0, index >> LEVEL_BITS, &leaf)?;
        if is_new {
            self.mark(index >> LEVEL_BITS, after)?;
        }
        self.tx.store(HEADS, &self.name, &head)?;
        Ok(head.first + index)
    }

    /// Takes an entry out.
    pub(super) fn remove(&self, ordinal: u64) -> Result<()> {
        let mut head = self.head()?.ok_or(Error::Torn)?;
        let index = ordinal.checked_sub(head.first).ok_or(Error::Torn)?;
        let number = index >> LEVEL_BITS;
        let mut leaf: Leaf = self.node(0, number)?.ok_or(Error::Torn)?;
        let at = leaf.iter().position(|(slot, _)| u64::from(*slot) == index & LEVEL_MASK).ok_or(Error::Torn)?;
        leaf.remove(at);
        head.now = head.now.checked_sub(1).ok_or(Error::Torn)?;
        if leaf.is_empty() {
            self.tx.delete(NODES, &(self.name, 0_u32, number))?;
            self.unmark(number, height(head.ever))?;
        } else {
            self.put(0, number, &leaf)?;
        }
        if head.now == 0 {
            self.tx.delete(HEADS, &self.name).map(drop)
        } else {
            self.tx.store(HEADS, &self.name, &head)
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> Result<u64> {
        Ok(self.head()?.map_or(0, |head| head.now))
    }

    /// At most so many entries older than an ordinal, or from the newest on, the newest first.
    pub(super) fn older_than(&self, before: Option<u64>, limit: usize) -> Result<Vec<ListEntry>> {
        let mut found = Vec::new();
        let Some(head) = self.head()? else { return Ok(found) };
        let mut end = before.map_or(head.ever, |before| before.saturating_sub(head.first).min(head.ever));
        while found.len() < limit && end > 0 {
            let Some((number, leaf)) = self.leaf_up_to((end - 1) >> LEVEL_BITS, height(head.ever))? else { break };
            for (slot, Blob(id)) in leaf.into_iter().rev() {
                let index = number << LEVEL_BITS | u64::from(slot);
                if index < end && found.len() < limit {
                    found.push(ListEntry { ordinal: head.first + index, id });
                }
            }
            end = number << LEVEL_BITS;
        }
        Ok(found)
    }

    /// The leaf of this number, or the nearest below it that there is.
    fn leaf_up_to(&self, number: u64, height: u32) -> Result<Option<(u64, Leaf)>> {
        if let Some(leaf) = self.node(0, number)? {
            return Ok(Some((number, leaf)));
        }
        let mut below = number;
        for level in 1..=height {
            let parent = below >> LEVEL_BITS;
            let word: u32 = self.node(level, parent)?.unwrap_or(0);
            if level == 1 && word & bit(below) != 0 {
                return Err(Error::Torn);
            }
            let lower = word & (bit(below) - 1);
            if lower != 0 {
                return self.last_leaf(level - 1, highest(lower, parent)).map(Some);
            }
            below = parent;
        }
        Ok(None)
    }

    /// The last leaf below a node that there is.
    fn last_leaf(&self, level: u32, mut number: u64) -> Result<(u64, Leaf)> {
        for level in (1..=level).rev() {
            let word: u32 = self.node(level, number)?.filter(|word| *word != 0).ok_or(Error::Torn)?;
            number = highest(word, number);
        }
        Ok((number, self.node(0, number)?.ok_or(Error::Torn)?))
    }

    /// Sets the bits by which a leaf is found.
    fn mark(&self, mut number: u64, height: u32) -> Result<()> {
        for level in 1..=height {
            let word: u32 = self.node(level, number >> LEVEL_BITS)?.unwrap_or(0);
            self.put(level, number >> LEVEL_BITS, &(word | bit(number)))?;
            if word != 0 {
                break;
            }
            number >>= LEVEL_BITS;
        }
        Ok(())
    }

    fn unmark(&self, mut number: u64, height: u32) -> Result<()> {
        for level in 1..=height {
            let parent = number >> LEVEL_BITS;
            let word: u32 = self.node(level, parent)?.filter(|word| word & bit(number) != 0).ok_or(Error::Torn)?;
            let left = word & !bit(number);
            if left != 0 {
                return self.put(level, parent, &left);
            }
            self.tx.delete(NODES, &(self.name, level, parent))?;
            number = parent;
        }
        Ok(())
    }

    fn head(&self) -> Result<Option<Head>> {
        self.tx.retrieve(HEADS, &self.name)
    }

    fn node<T: serde::de::DeserializeOwned>(&self, level: u32, number: u64) -> Result<Option<T>> {
        self.tx.retrieve(NODES, &(self.name, level, number))
    }

    fn is_there(&self, level: u32, number: u64) -> Result<bool> {
        self.tx.exists(NODES, &(self.name, level, number))
    }

    fn put<T: Serialize>(&self, level: u32, number: u64, node: &T) -> Result<()> {
        self.tx.store(NODES, &(self.name, level, number), node)
    }
}
